/* Every call of the fleet against a scripted server, with every way to fail. */
#include "fleet/fake_comfy.h"

#include <event2/buffer.h>
#include <pthread.h>

#include "net/stream.h"

static struct rig *g;
static struct fake *f;
static struct got got;

static int setup(void **state)
{
    (void)state;
    g = rig_new();
    rig_servers(g, 1);
    f = g->fake[0];
    buf_clear(&f->log);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    got_fini(&got);
    rig_free(&g);
    return 0;
}

/* --- submit --- */

#define GRAPH                                                                                                \
    "{\"5\": {\"class_type\": \"LoadImage\", \"inputs\": {\"image\": \"cat.png\", \"seed\": "                \
    "18446744073709551615}}}"

static void submit(const char *server)
{
    rig_submit(g, server, ID1, GRAPH, NULL, 0, &got);
    RIG_UNTIL(g, got.n > 0);
}

static void test_submit_body(void **state)
{
    struct fleet_submit s = {.server = "a", .upstream_id = ID1, .job = ID2};
    struct json v;
    char want[600];

    (void)state;
    s.graph = bytes_new(GRAPH, strlen(GRAPH));
    s.extra_data = bytes_new("{\"a\": 5.0}", 10);
    s.secrets = bytes_new("{\"api_key_comfy_org\": \"k\"}", 26);
    s.targets = bytes_new("[\"5\"]", 5);
    s.rest = bytes_new("{\"workflow_metadata\": {}}", 25);
    fleet_submit(g->fleet, &s, got_submitted, &got);
    bytes_unref(s.graph);
    bytes_unref(s.extra_data);
    bytes_unref(s.secrets);
    bytes_unref(s.targets);
    bytes_unref(s.rest);
    RIG_UNTIL(g, got.n > 0);
    assert_int_equal(got.submit, FLEET_ACCEPTED);
    assert_int_equal(got.status, 200);
    snprintf(want, sizeof(want),
             "{\"prompt\": %s, \"prompt_id\": \"%s\", \"client_id\": \"%s\", \"extra_data\": {\"a\": 5.0, "
             "\"api_key_comfy_org\": \"k\", \"client_id\": \"%s\"}, \"partial_execution_targets\": [\"5\"], "
             "\"workflow_metadata\": {}}",
             GRAPH, ID1, fake_sid(f), fake_sid(f));
    assert_string_equal(buf_str(&f->last_prompt), want);
    assert_int_equal(json_check(got.body, strlen(got.body), NULL, &v, NULL), 0);
}

static void test_submit_outcomes(void **state)
{
    static const struct {
        enum fake_act act;
        int status;
        const char *body;
        enum fleet_submit_end end;
        bool body_kept;
    } t[] = {
        {FAKE_ANSWER, 200, "{\"prompt_id\": \"" ID2 "\"}", FLEET_LOST, true},
        {FAKE_ANSWER, 200, "{\"prompt_id\": \"" ID1 "\", \"number\": 1, \"node_errors\": {\"7\": {}}}",
         FLEET_ACCEPTED, true},
        {FAKE_ANSWER, 200, "<html>", FLEET_LOST, true},
        {FAKE_ANSWER, 200, "", FLEET_LOST, true},
        {FAKE_ANSWER, 201, "{\"prompt_id\": \"" ID1 "\"}", FLEET_LOST, true},
        {FAKE_ANSWER, 400, "{\"error\": {\"type\": \"x\"}, \"node_errors\": {}}", FLEET_REJECTED, true},
        {FAKE_ANSWER, 413, "Maximum request body size 5 exceeded.", FLEET_REJECTED, true},
        {FAKE_ANSWER, 403, "", FLEET_REJECTED, true},
        {FAKE_ANSWER, 302, "", FLEET_REJECTED, true},
        {FAKE_ANSWER, 408, "", FLEET_LOST, true},
        {FAKE_ANSWER, 500, "500 Internal Server Error", FLEET_LOST, true},
        {FAKE_ANSWER, 502, "bad gateway", FLEET_LOST, true},
        {FAKE_CLOSE, 0, "", FLEET_LOST, false},
        {FAKE_CUT, 200, "{\"prompt_id\": \"" ID1 "\"", FLEET_LOST, false},
        {FAKE_CUT, 400, "{}", FLEET_LOST, false},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(t); i++) {
        got_fini(&got);
        fake_next(f, "POST", "/prompt", t[i].act, t[i].status, t[i].body, 1);
        submit("a");
        if (got.submit != t[i].end)
            fail_msg("row %zu: %d, wanted %d", i, (int)got.submit, (int)t[i].end);
        assert_int_equal(got.n, 1);
        if (t[i].body_kept)
            assert_string_equal(got.body, t[i].body);
        else
            assert_null(got.body);
        assert_true(t[i].end == FLEET_ACCEPTED || strlen(got.why) > 0);
        assert_int_equal(fake_asked(f, "POST /prompt"), i + 1);
        RIG_UNTIL(g, rig_server(g, "a").state == FLEET_UP);
    }
}

static void test_submit_refused(void **state)
{
    (void)state;
    submit("nobody");
    assert_int_equal(got.submit, FLEET_REFUSED);
    /* Without a socket nothing is sent: its events would be lost. */
    got_fini(&got);
    fake_next(f, "GET", "/ws", FAKE_ANSWER, 500, "", -1);
    fake_drop_socket(f);
    RIG_UNTIL(g, strstr(buf_str(&g->told), "link a down"));
    submit("a");
    assert_int_equal(got.submit, FLEET_REFUSED);
    assert_true(strlen(got.why) > 0);
    assert_int_equal(fake_asked(f, "POST /prompt"), 0);
}

/* The connection is refused while the socket still stands: provably nothing was sent. */
static void test_submit_not_sent(void **state)
{
    (void)state;
    http_server_drain(f->server);
    for (int i = 0; i < 20; i++) /* the pool sees its connections end */
        rig_turn(g);
    submit("a");
    assert_int_equal(got.submit, FLEET_REFUSED);
    assert_int_equal(fake_asked(f, "POST /prompt"), 0);
    assert_int_equal(rig_server(g, "a").state, FLEET_DOWN); /* at once */
    assert_int_equal(f->n_sockets, 1);
    assert_non_null(f->sockets[0].ws);
}

/* A graph that a worker rewrites, and a stored part that is no JSON any more. */
static void test_submit_large_and_broken(void **state)
{
    struct buf b = BUF_INIT;

    (void)state;
    buf_puts(&b, "{\"5\": {\"class_type\": \"X\", \"inputs\": {\"t\": \"");
    for (int i = 0; i < 20000; i++)
        buf_puts(&b, "abcdefgh");
    buf_puts(&b, "\"}}}");
    rig_submit(g, "a", ID1, buf_str(&b), NULL, 0, &got);
    RIG_UNTIL(g, got.n > 0);
    assert_int_equal(got.submit, FLEET_ACCEPTED);
    assert_non_null(strstr(buf_str(&f->last_prompt), buf_str(&b)));
    got_fini(&got);
    b.data[b.len - 1] = ' ';
    rig_submit(g, "a", ID1, buf_str(&b), NULL, 0, &got);
    RIG_UNTIL(g, got.n > 0);
    assert_int_equal(got.submit, FLEET_UNSENDABLE);
    buf_free(&b);
}

/* The socket changes while a worker is busy with the body: it names a client id that is no more. */
static void test_submit_socket_changed(void **state)
{
    struct buf b = BUF_INIT;

    (void)state;
    buf_puts(&b, "{\"5\": {\"class_type\": \"X\", \"inputs\": {\"t\": \"");
    for (int i = 0; i < 400000; i++)
        buf_puts(&b, "abcdefgh");
    buf_puts(&b, "\"}}}");
    fake_drop_socket(f);
    for (int i = 0; got.n == 0 && i < 100000; i++) {
        rig_submit(g, "a", ID1, buf_str(&b), NULL, 0, &got);
        RIG_UNTIL(g, got.n > 0);
        if (got.submit == FLEET_ACCEPTED)
            break;
        assert_int_equal(got.submit, FLEET_REFUSED);
        got_fini(&got);
    }
    assert_int_equal(got.submit, FLEET_ACCEPTED);
    assert_non_null(strstr(buf_str(&f->last_prompt), fake_sid(f)));
    buf_free(&b);
}

/* --- find --- */

#define ITEM(id) "[3, \"" id "\", {\"5\": {}}, {}, [\"9\"]]"
#define QUEUE(running, pending) "{\"queue_running\": [" running "], \"queue_pending\": [" pending "]}"

static void test_find(void **state)
{
    static const struct {
        const char *queue, *history;
        enum fleet_found found;
        unsigned history_asked;
    } t[] = {
        {QUEUE(ITEM(ID1), ""), "{}", FLEET_RUNNING, 0},
        {QUEUE(ITEM(ID2), ITEM(ID2) ", " ITEM(ID1)), "{}", FLEET_PENDING, 0},
        {QUEUE(ITEM(ID2), ""), "{\"" ID1 "\": {}}", FLEET_ENDED, 1},
        {QUEUE("", ""), "{}", FLEET_ABSENT, 1},
        {QUEUE("", ""), "{\"" ID2 "\": {}}", FLEET_ABSENT, 1},
        {QUEUE("{}, 5, []", "null"), "{}", FLEET_ABSENT, 1},
        {"{\"queue_running\": []}", "{}", FLEET_UNREACHABLE, 0}, /* half a queue proves nothing */
        {"[]", "{}", FLEET_UNREACHABLE, 0},
        {"<html>", "{}", FLEET_UNREACHABLE, 0},
        {"", "{}", FLEET_UNREACHABLE, 0},
        {QUEUE("", ""), "[]", FLEET_UNREACHABLE, 1},
        {QUEUE("", ""), "{\"" ID1 "\"", FLEET_UNREACHABLE, 1},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(t); i++) {
        got_fini(&got);
        buf_clear(&f->log);
        fake_set(&f->queue, t[i].queue);
        fake_set(&f->history, t[i].history);
        fleet_find(g->fleet, "a", ID1, got_lookup, &got);
        assert_int_equal(got.n, 0);
        RIG_UNTIL(g, got.n > 0);
        if (got.found != t[i].found)
            fail_msg("row %zu: %d, wanted %d", i, (int)got.found, (int)t[i].found);
        assert_int_equal(fake_asked(f, "GET /queue"), 1);
        assert_int_equal(fake_asked(f, "GET /history/" ID1), t[i].history_asked);
        if (t[i].history_asked) /* in this order */
            assert_true(strstr(buf_str(&f->log), "GET /queue") < strstr(buf_str(&f->log), "GET /history"));
        assert_true(t[i].found != FLEET_UNREACHABLE || (!got.refused && strlen(got.why) > 0));
    }
}

static void test_find_unreachable(void **state)
{
    static const struct {
        const char *path;
        enum fake_act act;
        int status;
    } t[] = {{"/queue", FAKE_ANSWER, 500},   {"/queue", FAKE_CLOSE, 0},   {"/queue", FAKE_CUT, 200},
             {"/history", FAKE_ANSWER, 404}, {"/history", FAKE_CLOSE, 0}, {"/history", FAKE_CUT, 200}};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(t); i++) {
        got_fini(&got);
        fake_next(f, "GET", t[i].path, t[i].act, t[i].status, "{}", 2); /* a GET may be sent twice */
        fleet_find(g->fleet, "a", ID1, got_lookup, &got);
        RIG_UNTIL(g, got.n > 0);
        assert_int_equal(got.found, FLEET_UNREACHABLE);
        assert_true(strlen(got.why) > 0);
        fake_as_usual(f);
    }
    got_fini(&got);
    fleet_find(g->fleet, "nobody", ID1, got_lookup, &got);
    assert_int_equal(got.n, 0);
    RIG_UNTIL(g, got.n > 0);
    assert_int_equal(got.found, FLEET_UNREACHABLE);
    assert_true(got.removed && !got.refused);
    got_fini(&got);
    fake_die(f);
    RIG_UNTIL(g, strstr(buf_str(&g->told), "link a down"));
    fleet_find(g->fleet, "a", ID1, got_lookup, &got);
    RIG_UNTIL(g, got.n > 0);
    assert_int_equal(got.found, FLEET_UNREACHABLE);
    assert_true(got.refused && !got.removed);
}

/* Others' graphs make the queue large: a worker reads it. */
static void test_find_large(void **state)
{
    struct buf b = BUF_INIT;

    (void)state;
    buf_puts(&b, "{\"queue_running\": [], \"queue_pending\": [");
    for (int i = 0; i < 3000; i++)
        buf_puts(&b, ITEM(ID2) ", ");
    buf_puts(&b, ITEM(ID1) "]}");
    fake_set(&f->queue, buf_str(&b));
    fleet_find(g->fleet, "a", ID1, got_lookup, &got);
    RIG_UNTIL(g, got.n > 0);
    assert_int_equal(got.found, FLEET_PENDING);
    buf_free(&b);
}

/* --- history --- */

static void test_history(void **state)
{
    static const char entry[] = "{\"" ID1 "\": {\"outputs\": {}}}";
    static const struct {
        enum fake_act act;
        int status;
        bool answered;
    } t[] = {
        {FAKE_ANSWER, 500, true}, {FAKE_ANSWER, 404, true}, {FAKE_CLOSE, 0, false}, {FAKE_CUT, 200, false}};

    (void)state;
    fake_set(&f->history, entry);
    fleet_history(g->fleet, "a", ID1, got_history, &got);
    assert_int_equal(got.n, 0);
    RIG_UNTIL(g, got.n > 0);
    assert_true(got.answered && !got.refused);
    assert_int_equal(got.status, 200);
    assert_string_equal(got.body, entry);
    assert_null(got.why);
    for (size_t i = 0; i < ARRAY_LEN(t); i++) {
        got_fini(&got);
        fake_next(f, "GET", "/history", t[i].act, t[i].status, "{}", 2);
        fleet_history(g->fleet, "a", ID1, got_history, &got);
        RIG_UNTIL(g, got.n > 0);
        assert_int_equal(got.answered, t[i].answered);
        assert_int_equal(got.status, t[i].act == FAKE_ANSWER ? t[i].status : 0);
        assert_null(got.body);
        assert_true(strlen(got.why) > 0);
        fake_as_usual(f);
    }
    got_fini(&got);
    fleet_history(g->fleet, "nobody", ID1, got_history, &got);
    RIG_UNTIL(g, got.n > 0);
    assert_true(!got.answered && got.removed);
    fake_die(f);
    RIG_UNTIL(g, strstr(buf_str(&g->told), "link a down"));
    got_fini(&got);
    fleet_history(g->fleet, "a", ID1, got_history, &got);
    RIG_UNTIL(g, got.n > 0);
    assert_true(!got.answered && got.refused);
}

/* --- fetch, keep --- */

static void fetch(const char *server, const char *name)
{
    struct fleet_file file = {server, name, "sub/dir", "output", ID1, ID1};

    got_fini(&got);
    fleet_fetch(g->fleet, &file, got_fetched, &got);
    assert_int_equal(got.n, 0);
    RIG_UNTIL(g, got.n > 0);
}

static void test_fetch(void **state)
{
    struct buf b = BUF_INIT;

    (void)state;
    fake_put(f, "a b&c=\xc3\xa4.png", "picture", 7);
    fetch("a", "a b&c=\xc3\xa4.png");
    assert_int_equal(got.fetch, FLEET_FETCHED);
    assert_int_equal(got.size, 7);
    assert_string_equal(got.mime, "image/png");
    rig_read(g, got.blake3, &b);
    assert_string_equal(buf_str(&b), "picture");
    fleet_unpin(g->fleet, got.pin);
    /* A server that knows no type; the name tells. */
    fake_next(f, "GET", "/view", FAKE_ANSWER, 200, "{\"x\": 1}", 1);
    f->orders[f->n_orders - 1].type = "application/octet-stream";
    fetch("a", "x.webp");
    assert_int_equal(got.fetch, FLEET_FETCHED);
    assert_string_equal(got.mime, "image/webp");
    fleet_unpin(g->fleet, got.pin);
    /* Nothing at all is a file too. */
    fake_put(f, "empty.txt", "", 0);
    fetch("a", "empty.txt");
    assert_int_equal(got.fetch, FLEET_FETCHED);
    assert_int_equal(got.size, 0);
    fleet_unpin(g->fleet, got.pin);
    buf_free(&b);
}

static void test_fetch_large(void **state)
{
    size_t n = (size_t)24 << 20;
    char *p = xmalloc(n);
    struct buf b = BUF_INIT;

    (void)state;
    for (size_t i = 0; i < n; i++)
        p[i] = (char)(i * 2654435761u >> 13);
    fake_put(f, "large.bin", p, n);
    fetch("a", "large.bin");
    assert_int_equal(got.fetch, FLEET_FETCHED);
    assert_int_equal(got.size, n);
    rig_read(g, got.blake3, &b);
    assert_memory_equal(b.data, p, n);
    fleet_unpin(g->fleet, got.pin);
    buf_free(&b);
    free(p);
}

/* While the disk does nothing the server is not read: memory stays bounded. */
static pthread_mutex_t disk = PTHREAD_MUTEX_INITIALIZER;

static void run_stall(struct work *w)
{
    (void)w;
    pthread_mutex_lock(&disk);
    pthread_mutex_unlock(&disk);
}

static void on_stalled(struct work *w)
{
    *(bool *)(w + 1) = true;
}

static void test_fetch_holds_back(void **state)
{
    struct fleet_file file = {"a", "large.bin", "", "output", ID1, ID1};
    size_t n = (size_t)48 << 20, left = n, before = 0;
    char *p = xmalloc(n + 1);
    struct {
        struct work work;
        bool done;
    } stall[2] = {{{.run = run_stall, .done = on_stalled}, false},
                  {{.run = run_stall, .done = on_stalled}, false}};

    (void)state;
    memset(p, 'x', n);
    p[n] = '\0';
    fake_next(f, "GET", "/view", FAKE_HOLD, 200, p, 1);
    free(p);
    pthread_mutex_lock(&disk);
    for (int i = 0; i < 2; i++)
        workers_submit(g->workers, &stall[i].work);
    fleet_fetch(g->fleet, &file, got_fetched, &got);
    RIG_UNTIL(g, f->n_hanging == 1);
    for (int same = 0; same < 50; same = left == before ? same + 1 : 0) { /* until nothing moves any more */
        before = left;
        rig_turn(g);
        left = http_queued(f->hanging[0]);
    }
    assert_true(left > n / 2); /* the rest is in our 1 MiB and the sockets' buffers */
    pthread_mutex_unlock(&disk);
    RIG_UNTIL(g, http_queued(f->hanging[0]) == 0);
    fake_finish(f);
    RIG_UNTIL(g, got.n > 0 && stall[0].done && stall[1].done);
    assert_int_equal(got.fetch, FLEET_FETCHED);
    assert_int_equal(got.size, n);
    fleet_unpin(g->fleet, got.pin);
}

static void test_fetch_fails(void **state)
{
    static const struct {
        enum fake_act act;
        int status;
        enum fleet_fetch_end end;
    } t[] = {
        {FAKE_ANSWER, 404, FLEET_NOT_THERE},  {FAKE_ANSWER, 400, FLEET_UNREADABLE},
        {FAKE_ANSWER, 500, FLEET_UNREADABLE}, {FAKE_ANSWER, 204, FLEET_UNREADABLE},
        {FAKE_ANSWER, 302, FLEET_UNREADABLE}, {FAKE_CLOSE, 0, FLEET_UNREADABLE},
        {FAKE_CUT, 200, FLEET_UNREADABLE},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(t); i++) {
        fake_next(f, "GET", "/view", t[i].act, t[i].status, t[i].status == 204 ? "" : "some bytes", 2);
        fetch("a", "x.png");
        if (got.fetch != t[i].end)
            fail_msg("row %zu: %d, wanted %d", i, (int)got.fetch, (int)t[i].end);
        assert_true(strlen(got.why) > 0);
        if (t[i].act == FAKE_ANSWER)
            assert_int_equal(got.status, t[i].status);
        fake_as_usual(f);
    }
    fetch("nobody", "x.png");
    assert_int_equal(got.fetch, FLEET_UNREADABLE);
    fake_put(f, "x.png", "0123456789", 10);
    store_mem_fail(g->store, STORE_FULL, 1);
    fetch("a", "x.png");
    assert_int_equal(got.fetch, FLEET_DISK_FULL);
    store_mem_fail(g->store, STORE_FAILED, 1);
    fetch("a", "x.png");
    assert_int_equal(got.fetch, FLEET_DISK_FAILED);
    g->cfg.output_max = 9;
    registry_set_config(g->reg, &g->cfg);
    fetch("a", "x.png");
    assert_int_equal(got.fetch, FLEET_UNREADABLE);
    g->cfg.output_max = 10;
    registry_set_config(g->reg, &g->cfg);
    fetch("a", "x.png");
    assert_int_equal(got.fetch, FLEET_FETCHED);
    fleet_unpin(g->fleet, got.pin);
}

/* A file that ends where the connection does may have been cut. */
static struct stream *raw;

static void on_raw(struct stream *s, enum stream_event ev, void *arg)
{
    static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n\r\nhalf a pic";

    (void)arg;
    if (ev == STREAM_DATA && evbuffer_get_length(stream_input(s)) > 0) {
        evbuffer_drain(stream_input(s), evbuffer_get_length(stream_input(s)));
        stream_write(s, answer, sizeof(answer) - 1);
        stream_close_gracefully(&s, 1000);
        raw = NULL;
    } else if (ev == STREAM_EOF || ev == STREAM_ERROR) {
        stream_close(&s);
        raw = NULL;
    }
}

static void on_raw_accept(struct listener *ln, int fd, void *arg)
{
    (void)ln;
    (void)arg;
    raw = stream_accept(g->loop, fd, NULL, on_raw, NULL);
}

static void test_fetch_without_length(void **state)
{
    struct listener *ln;
    struct registry_entry v[2] = {{"a", f->url, 1, NULL}, {"raw", NULL, 1, NULL}};
    char url[64];
    struct err e;

    (void)state;
    ln = listener_open(g->loop, "127.0.0.1:0", on_raw_accept, NULL, &e);
    assert_non_null(ln);
    snprintf(url, sizeof(url), "http://%s", listener_addr(ln));
    v[1].url = url;
    assert_int_equal(registry_configure(g->reg, v, 2, &e), 0);
    fetch("raw", "x.png");
    assert_int_equal(got.fetch, FLEET_UNREADABLE);
    assert_non_null(strstr(got.why, "cut"));
    assert_int_equal(registry_configure(g->reg, v, 1, &e), 0);
    for (int i = 0; i < 10; i++)
        rig_turn(g);
    if (raw)
        stream_close(&raw);
    listener_close(&ln);
}

static void test_keep(void **state)
{
    struct bytes *data = bytes_new("frame", 5);
    struct buf b = BUF_INIT;

    (void)state;
    fleet_keep(g->fleet, data, "image/png", got_fetched, &got);
    assert_int_equal(got.n, 0);
    RIG_UNTIL(g, got.n > 0);
    assert_int_equal(got.fetch, FLEET_FETCHED);
    assert_string_equal(got.mime, "image/png");
    assert_int_equal(got.size, 5);
    rig_read(g, got.blake3, &b);
    assert_string_equal(buf_str(&b), "frame");
    fleet_unpin(g->fleet, got.pin);
    rig_turn(g);
    store_mem_fail(g->store, STORE_FULL, 1);
    got_fini(&got);
    fleet_keep(g->fleet, data, "image/png", got_fetched, &got);
    RIG_UNTIL(g, got.n > 0);
    assert_int_equal(got.fetch, FLEET_DISK_FULL);
    bytes_unref(data);
    buf_free(&b);
}

/* --- stop --- */

static void test_stop(void **state)
{
    static const struct {
        const char *queue;
        enum fleet_stopped end;
        unsigned interrupts, looks;
    } t[] = {
        {QUEUE("", ""), FLEET_GONE, 0, 1},
        {QUEUE(ITEM(ID2), ""), FLEET_GONE, 0, 1}, /* never interrupts another's */
        {QUEUE(ITEM(ID2), ITEM(ID1)), FLEET_STILL_THERE, 0, 1},
        {QUEUE(ITEM(ID1), ""), FLEET_STILL_THERE, 1, 2},
        {"nonsense", FLEET_STOP_FAILED, 0, 1},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(t); i++) {
        got_fini(&got);
        buf_clear(&f->log);
        fake_set(&f->queue, t[i].queue);
        fleet_stop(g->fleet, "a", ID1, got_stopped, &got);
        assert_int_equal(got.n, 0);
        RIG_UNTIL(g, got.n > 0);
        if (got.stopped != t[i].end)
            fail_msg("row %zu: %d, wanted %d", i, (int)got.stopped, (int)t[i].end);
        assert_int_equal(fake_asked(f, "POST /queue"), 1);
        assert_int_equal(fake_asked(f, "POST /interrupt"), t[i].interrupts);
        assert_int_equal(fake_asked(f, "GET /queue"), t[i].looks);
    }
    /* Running at the first look, gone at the second. */
    got_fini(&got);
    fake_set(&f->queue, QUEUE("", ""));
    fake_next(f, "GET", "/queue", FAKE_ANSWER, 200, QUEUE(ITEM(ID1), ""), 1);
    fleet_stop(g->fleet, "a", ID1, got_stopped, &got);
    RIG_UNTIL(g, got.n > 0);
    assert_int_equal(got.stopped, FLEET_GONE);
}

static void test_stop_fails(void **state)
{
    static const struct {
        const char *method, *path;
        enum fake_act act;
        int status;
    } t[] = {{"POST", "/queue", FAKE_ANSWER, 500},
             {"POST", "/queue", FAKE_CLOSE, 0},
             {"GET", "/queue", FAKE_ANSWER, 500},
             {"GET", "/queue", FAKE_CLOSE, 0},
             {"POST", "/interrupt", FAKE_ANSWER, 404}};

    (void)state;
    fake_set(&f->queue, QUEUE(ITEM(ID1), ""));
    for (size_t i = 0; i < ARRAY_LEN(t); i++) {
        got_fini(&got);
        fake_next(f, t[i].method, t[i].path, t[i].act, t[i].status, "", 2);
        fleet_stop(g->fleet, "a", ID1, got_stopped, &got);
        RIG_UNTIL(g, got.n > 0);
        assert_int_equal(got.stopped, FLEET_STOP_FAILED);
        fake_as_usual(f);
    }
    got_fini(&got);
    fleet_stop(g->fleet, "nobody", ID1, got_stopped, &got);
    RIG_UNTIL(g, got.n > 0);
    assert_int_equal(got.stopped, FLEET_STOP_FAILED);
}

/* --- the end --- */

/* What is under way is answered when the fleet closes, once, and as what it is. */
static void test_close(void **state)
{
    struct got find = {0}, history = {0}, file = {0}, stop = {0}, staging = {0}, kept = {0}, early = {0};
    struct fleet_file view = {"a", "x.png", "", "output", ID1, ID1};
    struct bytes *data = bytes_new("frame", 5);
    struct job_input cat = {0};

    (void)state;
    cat.name = (char *)"cat.png";
    rig_blob(g, "meow", cat.blake3);
    fake_next(f, "POST", "/", FAKE_HANG, 0, NULL, -1);
    fake_next(f, "GET", "/", FAKE_HANG, 0, NULL, -1);
    rig_submit(g, "a", ID1, GRAPH, NULL, 0, &got);
    rig_submit(g, "a", ID2, GRAPH, &cat, 1, &staging);
    fleet_find(g->fleet, "a", ID1, got_lookup, &find);
    fleet_history(g->fleet, "a", ID1, got_history, &history);
    fleet_fetch(g->fleet, &view, got_fetched, &file);
    fleet_stop(g->fleet, "a", ID1, got_stopped, &stop);
    RIG_UNTIL(g, f->n_hanging == 6);
    fleet_keep(g->fleet, data, "image/png", got_fetched, &kept);
    loop_turn(g->loop, 0); /* it is with the blobs now */
    rig_submit(g, "a", ID1, GRAPH, NULL, 0, &early);
    registry_free(&g->reg);
    assert_int_equal(got.n, 1);
    assert_int_equal(got.submit, FLEET_LOST);
    assert_int_equal(staging.n, 1);
    assert_int_equal(staging.submit, FLEET_STAGE_FAILED);
    assert_int_equal(early.n, 1);
    assert_int_equal(early.submit, FLEET_REFUSED);
    assert_int_equal(find.n, 1);
    assert_int_equal(find.found, FLEET_UNREACHABLE);
    assert_int_equal(history.n, 1);
    assert_int_equal(file.n, 1);
    assert_int_equal(file.fetch, FLEET_UNREADABLE);
    assert_int_equal(stop.n, 1);
    assert_int_equal(stop.stopped, FLEET_STOP_FAILED);
    assert_int_equal(kept.n, 1);
    for (int i = 0; i < 50; i++)
        rig_turn(g);
    assert_int_equal(kept.n, 1);
    bytes_unref(data);
    got_fini(&find);
    got_fini(&history);
    got_fini(&file);
    got_fini(&stop);
    got_fini(&staging);
    got_fini(&kept);
    got_fini(&early);
}

/* The same when its server is taken out of the configuration. */
static void test_removed(void **state)
{
    struct got find = {0};
    struct err e;

    (void)state;
    fake_next(f, "POST", "/prompt", FAKE_HANG, 0, NULL, -1);
    fake_next(f, "GET", "/queue", FAKE_HANG, 0, NULL, -1);
    rig_submit(g, "a", ID1, GRAPH, NULL, 0, &got);
    fleet_find(g->fleet, "a", ID1, got_lookup, &find);
    RIG_UNTIL(g, f->n_hanging == 2);
    assert_int_equal(registry_configure(g->reg, NULL, 0, &e), 0);
    assert_int_equal(got.n + find.n, 0); /* not inside another call */
    assert_non_null(strstr(buf_str(&g->told), "link a down\nremoved a\n"));
    RIG_UNTIL(g, got.n && find.n);
    assert_int_equal(got.submit, FLEET_LOST);
    assert_int_equal(find.found, FLEET_UNREACHABLE);
    got_fini(&find);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_submit_body),
        T(test_submit_outcomes),
        T(test_submit_refused),
        T(test_submit_not_sent),
        T(test_submit_large_and_broken),
        T(test_submit_socket_changed),
        T(test_find),
        T(test_find_unreachable),
        T(test_find_large),
        T(test_history),
        T(test_fetch),
        T(test_fetch_large),
        T(test_fetch_holds_back),
        T(test_fetch_fails),
        T(test_fetch_without_length),
        T(test_keep),
        T(test_stop),
        T(test_stop_fails),
        T(test_close),
        T(test_removed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
