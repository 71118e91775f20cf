#include "http/client.h"

#include "http/client_got_test.h"

/* --- what is sent --- */

static void test_request_bytes(void **state)
{
    struct got g = {0};
    struct buf in = BUF_INIT, req = BUF_INIT;
    char want[400], url[80];
    struct err e;
    int fd;

    (void)state;
    snprintf(url, sizeof(url), "http://me:s3cret@127.0.0.1:%u/base/", port);
    client = http_client_new(loop, url, NULL, &e);
    assert_non_null(client);
    g.call = http_call_new(client, "POST", "/prompt?a=b", &handlers, &g);
    assert_int_equal(http_call_header(g.call, "X-One", "1"), 0);
    assert_int_equal(http_call_header(g.call, "X-Name", "na\xc3\xafve"), 0);
    /* Nothing that could end the field or the head gets in, nor what the client sets itself. */
    assert_int_equal(http_call_header(g.call, "X-Two", "2\r\nX-Evil: 1"), -1);
    assert_int_equal(http_call_header(g.call, "X-Two", "2\n"), -1);
    assert_int_equal(http_call_header(g.call, "X-Two\r\nX-Evil", "1"), -1);
    assert_int_equal(http_call_header(g.call, "X Two", "1"), -1);
    assert_int_equal(http_call_header(g.call, "", "1"), -1);
    assert_int_equal(http_call_header(g.call, "host", "evil"), -1);
    assert_int_equal(http_call_header(g.call, "Content-Length", "5"), -1);
    assert_int_equal(http_call_header(g.call, "Transfer-Encoding", "chunked"), -1);

    struct bytes *body = bytes_new("{}", 2);

    http_call_start(g.call, "application/json", body);
    bytes_unref(body);
    fd = peer_accept(lfd);
    peer_request(fd, &in, &req);
    snprintf(
        want, sizeof(want),
        "POST /base/prompt?a=b HTTP/1.1\r\nHost: 127.0.0.1:%u\r\nAccept-Encoding: identity\r\nX-One: 1\r\n"
        "X-Name: na\xc3\xafve\r\nContent-Type: application/json\r\nAuthorization: Basic bWU6czNjcmV0\r\n"
        "Content-Length: 2\r\n\r\n{}",
        port);
    assert_string_equal(buf_str(&req), want);
    http_call_cancel(&g.call);
    close(fd);
    buf_free(&in);
    buf_free(&req);
    got_fini(&g);
}

static void test_bad_targets_are_not_sent(void **state)
{
    static const struct {
        const char *method, *target, *type;
    } bad[] = {
        {"GET", "/a b", NULL},         {"GET", "/a\r\nX: y", NULL},
        {"GET", "no-slash", NULL},     {"GET", "", NULL},
        {"GET", "/caf\xc3\xa9", NULL}, {"GE T", "/", NULL},
        {"GET\r\n", "/", NULL},        {"", "/", NULL},
        {"POST", "/", "a/b\r\nX: y"},
    };

    (void)state;
    open_client(NULL);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct got g = {0};

        g.call = http_call_new(client, bad[i].method, bad[i].target, &handlers, &g);
        http_call_start(g.call, bad[i].type, NULL);
        assert_int_equal(g.dones, 0);
        TURN_UNTIL(g.dones);
        assert_int_equal(g.end, HTTP_CALL_NOT_SENT);
        assert_false(peer_has_caller(lfd));
        got_fini(&g);
    }
}

/* A streamed body, in every state of the connection, as length and as chunks; from memory, buffers and files.
 */
static void test_streamed_body(void **state)
{
    (void)state;
    open_client(NULL);
    for (int chunked = 0; chunked < 2; chunked++) {
        struct got g = {0};
        struct buf in = BUF_INIT, want = BUF_INIT;
        struct evbuffer *ev = evbuffer_new();
        FILE *f = tmpfile();
        struct err e;
        int fd;

        fputs("0123456789", f);
        fflush(f);
        g.call = http_call_new(client, "POST", "/up", &handlers, &g);
        http_call_start_stream(g.call, "a/b", chunked ? -1 : 24);
        http_call_write(g.call, "one", 3); /* before there is a connection */
        assert_int_equal(http_call_write_file(g.call, dup(fileno(f)), 2, 5, &e), 0);
        assert_true(http_call_queued(g.call) >= 8);
        fd = peer_accept(lfd);
        peer_want_text(fd, &in, "\r\n\r\n");
        http_call_write(g.call, "", 0);
        http_call_write(g.call, "two", 3);
        evbuffer_add(ev, "buffer", 6);
        http_call_write_buffer(g.call, ev);
        assert_int_equal(evbuffer_get_length(ev), 0);
        assert_int_equal(http_call_write_file(g.call, dup(fileno(f)), 3, 7, &e), 0);
        http_call_finish(g.call);
        peer_want_text(fd, &in, chunked ? "0\r\n\r\n" : "3456789");
        buf_printf(
            &want,
            "POST /up HTTP/1.1\r\nHost: 127.0.0.1:%u\r\nAccept-Encoding: identity\r\nContent-Type: a/b\r\n",
            port);
        if (chunked)
            buf_puts(&want,
                     "Transfer-Encoding: chunked\r\n\r\n3\r\none\r\n5\r\n23456\r\n3\r\ntwo\r\n6\r\nbuffer\r\n"
                     "7\r\n3456789\r\n0\r\n\r\n");
        else
            buf_puts(&want, "Content-Length: 24\r\n\r\none23456twobuffer3456789");
        assert_string_equal(buf_str(&in), buf_str(&want));
        peer_send(fd, OK200);
        TURN_UNTIL(g.dones);
        assert_int_equal(g.end, HTTP_CALL_OK);
        close(fd);
        fclose(f);
        evbuffer_free(ev);
        buf_free(&in);
        buf_free(&want);
        got_fini(&g);
        turns(3);
    }
}

static void test_drain_tells_when_to_go_on(void **state)
{
    struct got g = {0};
    struct buf in = BUF_INIT;
    char *piece = calloc(1, 65536);
    size_t sent = 0, total = 16u << 20;
    int fd, waits = 0;

    (void)state;
    open_client(NULL);
    g.call = http_call_new(client, "PUT", "/up", &handlers, &g);
    http_call_start_stream(g.call, NULL, (int64_t)total);
    fd = peer_accept(lfd);
    while (sent < total) {
        if (http_call_queued(g.call) < (512u << 10)) {
            http_call_write(g.call, piece, 65536);
            sent += 65536;
            continue;
        }
        int before = g.drains;

        waits++;
        while (g.drains == before) {
            bool eof = false;
            int err = 0;

            if (!peer_recv(fd, &in, &eof, &err))
                loop_turn(loop, 5);
            buf_clear(&in);
        }
        assert_true(http_call_queued(g.call) <= 65536);
    }
    assert_true(waits > 5);
    http_call_finish(g.call);
    http_call_cancel(&g.call);
    close(fd);
    free(piece);
    buf_free(&in);
}

/* --- the pool --- */

static void test_connection_is_used_again(void **state)
{
    struct buf in = BUF_INIT, req = BUF_INIT;
    int fd;

    (void)state;
    open_client(NULL);
    fd = warm_up();
    for (int i = 0; i < 5; i++) {
        struct got g = {0};

        start(&g, i % 2 ? "POST" : "GET", "/", i % 2 ? "x" : NULL);
        peer_request(fd, &in, &req);
        peer_send(fd, OK200);
        TURN_UNTIL(g.dones);
        got_fini(&g);
    }
    assert_false(peer_has_caller(lfd));
    close(fd);
    buf_free(&in);
    buf_free(&req);
}

/* ComfyUI closes after every 500. Nor is a connection used again after HTTP/1.0, surplus bytes, or an answer
 * that came before the request had left. */
static void test_connection_is_not_used_again(void **state)
{
    static const char *const answers[] = {
        "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
        "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        (OK200 OK200),
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokx",
    };

    struct http_client_config cfg = {.idle_ms = 10 * PATIENCE_MS};

    (void)state;
    open_client(&cfg);
    for (size_t i = 0; i < ARRAY_LEN(answers); i++) {
        struct buf in = BUF_INIT, req = BUF_INIT;
        struct got g = {0};
        int fd;

        start(&g, "GET", "/", NULL);
        fd = peer_accept(lfd);
        peer_request(fd, &in, &req);
        peer_send(fd, answers[i]);
        TURN_UNTIL(g.dones);
        assert_int_equal(g.end, HTTP_CALL_OK);
        assert_string_equal(buf_str(&g.body), "ok");
        peer_want_end(fd, &in);
        close(fd);
        buf_free(&in);
        buf_free(&req);
        got_fini(&g);
    }
}

/* Nor when the answer was there before the request had left, even if the server would go on reading. */
static void test_early_answer_ends_the_connection(void **state)
{
    struct http_client_config cfg = {.idle_ms = 10 * PATIENCE_MS};
    struct bytes *big = bytes_alloc(30u << 20);

    (void)state;
    memset(big->data, 0, big->len);
    open_client(&cfg);
    for (int streamed = 0; streamed < 2; streamed++) {
        struct got g = {0};
        struct buf in = BUF_INIT;
        int fd;

        g.call = http_call_new(client, "POST", "/", &handlers, &g);
        if (streamed) {
            http_call_start_stream(g.call, NULL, 10);
            http_call_write(g.call, "12345", 5);
        } else {
            http_call_start(g.call, NULL, big);
        }
        fd = peer_accept(lfd);
        peer_want_text(fd, &in, "\r\n\r\n");
        peer_send(fd, OK200);
        TURN_UNTIL(g.dones);
        assert_int_equal(g.end, HTTP_CALL_OK);
        peer_want_end(fd, &in);
        close(fd);
        buf_free(&in);
        got_fini(&g);
    }
    bytes_unref(big);
}

static void test_calls_wait_in_order(void **state)
{
    struct http_client_config cfg = {.max_conns = 1};
    struct got g[7] = {{0}};
    struct buf in = BUF_INIT, req = BUF_INIT;
    char target[16];
    int fd;

    (void)state;
    open_client(&cfg);
    for (int i = 0; i < 6; i++) {
        snprintf(target, sizeof(target), "/%d", i);
        start(&g[i], "GET", target, NULL);
    }
    /* One more that gives up while it waits: it was not sent. */
    g[6].call = http_call_new(client, "POST", "/6", &handlers, &g[6]);
    http_call_timeout(g[6].call, 0, 30);
    http_call_start(g[6].call, NULL, NULL);
    fd = peer_accept(lfd);
    TURN_UNTIL(g[6].dones);
    assert_int_equal(g[6].end, HTTP_CALL_NOT_SENT);
    for (int i = 0; i < 6; i++) {
        peer_request(fd, &in, &req);
        snprintf(target, sizeof(target), "GET /%d ", i);
        assert_int_equal(strncmp(req.data, target, strlen(target)), 0);
        assert_int_equal(in.len, 0); /* never two at a time */
        if (i == 2) {                /* the next takes the place of one that broke */
            close(fd);
            fd = peer_accept(lfd);
            peer_request(fd, &in, &req); /* 2 once more, as it was on a used connection */
            peer_reset(fd);
            fd = peer_accept(lfd);
            TURN_UNTIL(g[2].dones);
            assert_int_equal(g[2].end, HTTP_CALL_LOST);
            continue;
        }
        peer_send(fd, OK200);
        TURN_UNTIL(g[i].dones);
        assert_int_equal(g[i].end, HTTP_CALL_OK);
    }
    assert_false(peer_has_caller(lfd));
    for (int i = 0; i < 7; i++)
        got_fini(&g[i]);
    close(fd);
    buf_free(&in);
    buf_free(&req);
}

/* --- early answers --- */

/* ComfyUI says 413 in the middle of an upload and closes: the answer must not be lost to the reset. */
static void test_early_answer(void **state)
{
    static const char answer[] =
        "HTTP/1.1 413 Request Entity Too Large\r\nContent-Length: 3\r\nConnection: close\r\n"
        "\r\nbig";

    (void)state;
    open_client(NULL);
    for (int how = 0; how < 4; how++) {
        struct got g = {0};
        struct buf in = BUF_INIT;
        char *piece = calloc(1, 1 << 20);
        int fd;

        g.call = http_call_new(client, "POST", "/upload/image", &handlers, &g);
        http_call_start_stream(g.call, "a/b", 100 << 20);
        fd = peer_accept(lfd);
        for (int i = 0; i < 8; i++)
            http_call_write(g.call, piece, 1 << 20);
        peer_want_text(fd, &in, "\r\n\r\n");
        peer_send(fd, answer);
        if (how == 1)
            close(fd); /* with unread input: a reset */
        else if (how == 2)
            shutdown(fd, SHUT_WR);
        else if (how == 3)
            turns(3);
        for (int i = 0; i < 8 && g.call; i++) /* the caller does not know yet */
            http_call_write(g.call, piece, 1 << 20);
        TURN_UNTIL(g.dones);
        if (g.end != HTTP_CALL_OK)
            fail_msg("how %d: %s %s", how, http_call_end_name(g.end), g.why);
        assert_int_equal(g.status, 413);
        assert_string_equal(buf_str(&g.body), "big");
        if (how != 1) {
            buf_clear(&in);
            peer_want_end(fd, &in);
            assert_true(in.len < (100u << 20));
            close(fd);
        }
        free(piece);
        buf_free(&in);
        got_fini(&g);
    }
}

/* --- bounds --- */

static void test_bounds(void **state)
{
    struct http_client_config cfg = {.head = 1000};
    struct buf big = BUF_INIT;

    (void)state;
    open_client(&cfg);
    for (int what = 0; what < 4; what++) {
        struct got g = {0};
        struct buf in = BUF_INIT, req = BUF_INIT;
        int fd;

        buf_clear(&big);
        if (what == 0) { /* one field too long */
            buf_puts(&big, "HTTP/1.1 200 OK\r\nA: ");
            for (int i = 0; i < 2000; i++)
                buf_putc(&big, 'a');
        } else if (what == 1) { /* no end of fields */
            buf_puts(&big, "HTTP/1.1 200 OK\r\n");
            for (int i = 0; i < 1000; i++)
                buf_puts(&big, "A:b\r\n");
        } else if (what == 2) { /* no end of interim answers */
            for (int i = 0; i < 1000; i++)
                buf_puts(&big, "HTTP/1.1 102 Processing\r\n\r\n");
        } else { /* no end of trailers */
            buf_puts(&big, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n");
            for (int i = 0; i < 1000; i++)
                buf_puts(&big, "A:b\r\n");
        }
        start(&g, "GET", "/", NULL);
        fd = peer_accept(lfd);
        peer_request(fd, &in, &req);
        peer_send(fd, buf_str(&big));
        TURN_UNTIL(g.dones);
        assert_int_equal(g.end, HTTP_CALL_BAD);
        close(fd);
        got_fini(&g);
        buf_free(&in);
        buf_free(&req);
    }
    buf_free(&big);
}

/* A reader that pauses holds the server back, wherever it pauses, and loses nothing. */
static void test_pause(void **state)
{
    size_t total = 30u << 20, sent = 0;
    char *piece = calloc(1, 65536);

    (void)state;
    open_client(NULL);
    for (int where = PAUSE_IN_HEAD; where <= PAUSE_IN_DATA; where++) {
        struct got g = {.act = where, .count_only = true};
        struct buf in = BUF_INIT, req = BUF_INIT;
        char head[100];
        int fd, stalls = 0;

        start(&g, "GET", "/", NULL);
        fd = peer_accept(lfd);
        peer_request(fd, &in, &req);
        snprintf(head, sizeof(head), "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", total);
        peer_send(fd, head);
        sent = 0;
        for (int idle = 0; idle < 20;) { /* until nothing moves any more */
            ssize_t n = send(fd, piece, total - sent < 65536 ? total - sent : 65536, MSG_NOSIGNAL);

            idle = n > 0 ? 0 : idle + 1;
            if (n > 0)
                sent += (size_t)n;
            loop_turn(loop, 1);
            if (sent == total)
                break;
        }
        assert_true(sent < total); /* the kernel's buffers and ours: some MB */
        assert_int_equal(g.heads, 1);
        assert_true(g.body_len <= 65536);
        held_most = held;

        while (sent < total || g.body_len < total) {
            ssize_t n =
                sent < total ? send(fd, piece, total - sent < 65536 ? total - sent : 65536, MSG_NOSIGNAL) : 0;
            size_t had = g.body_len;

            if (n > 0)
                sent += (size_t)n;
            loop_turn(loop, 1);
            if (g.body_len == had && g.call) {
                stalls++;
                http_call_resume(g.call);
            }
            assert_true(stalls < 100000);
        }
        assert_true(held_most < (1u << 20));
        if (g.call)
            http_call_resume(g.call);
        TURN_UNTIL(g.dones);
        assert_int_equal(g.end, HTTP_CALL_OK);
        assert_int_equal(g.body_len, total);
        close(fd);
        got_fini(&g);
        buf_free(&in);
        buf_free(&req);
        turns(3);
    }
    free(piece);
}

/* on_done does not pass a pause, also when the whole answer and the end of the connection are here already.
 */
static void test_no_end_while_paused(void **state)
{
    static const char *const answers[] = {OK200, "HTTP/1.1 200 OK\r\n\r\nok"};

    (void)state;
    open_client(NULL);
    for (size_t i = 0; i < 4; i++) {
        struct got g = {.act = i % 2 ? PAUSE_IN_DATA : PAUSE_IN_HEAD};
        struct buf in = BUF_INIT, req = BUF_INIT;
        int fd;

        start(&g, "GET", "/", NULL);
        fd = peer_accept(lfd);
        peer_request(fd, &in, &req);
        peer_send(fd, answers[i / 2]);
        close(fd);
        TURN_UNTIL(g.heads && (g.act == PAUSE_IN_HEAD || g.body_len));
        turns(10);
        assert_int_equal(g.dones, 0);
        assert_int_equal(g.body_len, g.act == PAUSE_IN_HEAD ? 0 : 2);
        g.act = DO_NOTHING;
        http_call_resume(g.call);
        assert_int_equal(g.dones, 0);
        TURN_UNTIL(g.dones);
        assert_int_equal(g.end, HTTP_CALL_OK);
        assert_string_equal(buf_str(&g.body), "ok");
        got_fini(&g);
        buf_free(&in);
        buf_free(&req);
    }
}

/* A server that reads slowly is not silent, nor is one that waits for the rest of our body, nor one whose
 * answer we do not take. */
static void test_silence_is_the_servers(void **state)
{
    struct got g = {0};
    struct buf in = BUF_INIT;
    int64_t until;
    int fd;

    (void)state;
    open_client(NULL);
    g.call = http_call_new(client, "POST", "/", &handlers, &g);
    http_call_timeout(g.call, 60, 0);
    http_call_start_stream(g.call, NULL, 10);
    http_call_write(g.call, "hello", 5);
    fd = peer_accept(lfd);
    peer_want_text(fd, &in, "hello");
    until = loop_now(loop) + 200;
    while (loop_now(loop) < until)
        loop_turn(loop, 20);
    assert_int_equal(g.dones, 0);
    http_call_write(g.call, "world", 5);
    http_call_finish(g.call);
    peer_want_text(fd, &in, "world");
    http_call_pause(g.call);
    until = loop_now(loop) + 200;
    while (loop_now(loop) < until)
        loop_turn(loop, 20);
    assert_int_equal(g.dones, 0);
    http_call_resume(g.call);
    TURN_UNTIL(g.dones); /* and now it is */
    assert_int_equal(g.end, HTTP_CALL_TIMEOUT);
    close(fd);
    buf_free(&in);
    got_fini(&g);
}

/* --- cancel, and the client's end, at every phase --- */

enum phase { WAITING, CONNECTING, CHECKING, SENT, IN_HEAD, IN_DATA, ENDED, IN_DONE, PHASES };

static void test_end_at_every_phase(bool whole_client)
{
    for (int phase = 0; phase < PHASES; phase++) {
        struct http_client_config cfg = {.max_conns = 1};
        struct got g = {0}, first = {0};
        struct buf in = BUF_INIT, req = BUF_INIT;
        int fd = -1;
        bool told;

        setup(NULL);
        open_client(&cfg);
        if (phase == WAITING)
            start(&first, "GET", "/first", NULL);
        else if (phase == CHECKING)
            fd = warm_up();
        g.act = phase == IN_HEAD   ? (whole_client ? FREE_IN_HEAD : CANCEL_IN_HEAD)
                : phase == IN_DATA ? (whole_client ? FREE_IN_DATA : CANCEL_IN_DATA)
                : phase == IN_DONE ? (whole_client ? FREE_IN_DONE : CANCEL_IN_DONE)
                                   : DO_NOTHING;
        start(&g, "POST", "/second", "body");
        if (phase >= SENT) {
            fd = peer_accept(lfd);
            peer_request(fd, &in, &req);
        }
        if (phase >= IN_HEAD)
            peer_send(fd, OK200);
        if (phase == IN_HEAD || phase == IN_DATA)
            TURN_UNTIL(g.heads && (g.act == 0 || g.call == NULL || !client));
        if (phase == ENDED) { /* whole, but on_done is still due: it is at the end of the turn */
            for (int i = 0; i < 200 && !g.body_len; i++)
                loop_turn(loop, 5);
        }
        if (phase == IN_DONE)
            TURN_UNTIL(g.dones);
        if (whole_client) {
            http_client_free(&client);
            told = true;
        } else {
            http_call_cancel(&g.call);
            told = phase == IN_DONE || (phase == ENDED && g.dones);
        }
        assert_int_equal(g.dones, told);
        if (told && phase < ENDED)
            assert_int_equal(g.end, HTTP_CALL_CANCELED);
        turns(6);
        assert_int_equal(g.dones, told);
        if (phase == CHECKING && !whole_client) { /* nothing was written: the connection is still good */
            struct got next = {0};

            start(&next, "GET", "/third", NULL);
            peer_request(fd, &in, &req);
            assert_int_equal(strncmp(req.data, "GET /third ", 11), 0);
            peer_send(fd, OK200);
            TURN_UNTIL(next.dones);
            assert_int_equal(next.end, HTTP_CALL_OK);
            got_fini(&next);
        } else if (fd >= 0 && phase < ENDED) {
            peer_want_end(fd, &in);
        }
        http_call_cancel(&first.call);
        if (fd >= 0)
            close(fd);
        buf_free(&in);
        buf_free(&req);
        teardown(NULL);
        got_fini(&g);
        got_fini(&first);
    }
}

static void test_cancel_at_every_phase(void **state)
{
    (void)state;
    test_end_at_every_phase(false);
}

static void test_free_at_every_phase(void **state)
{
    (void)state;
    test_end_at_every_phase(true);
}

static void test_call_that_was_never_started(void **state)
{
    struct got g = {0}, k = {0};

    (void)state;
    open_client(NULL);
    g.call = http_call_new(client, "GET", "/", &handlers, &g);
    http_call_cancel(&g.call);
    k.call = http_call_new(client, "GET", "/", &handlers, &k);
    http_client_free(&client);
    assert_int_equal(k.dones, 0);
    http_call_start(k.call, NULL, NULL);
    TURN_UNTIL(k.dones);
    assert_int_equal(k.end, HTTP_CALL_CANCELED);
    assert_int_equal(g.dones, 0);
}

/* --- fetch --- */

struct fetched {
    int n, status;
    enum http_call_end end;
    struct bytes *body;
    bool headers;
};

static void on_fetched(const struct http_answer *a, void *arg)
{
    struct fetched *f = arg;

    f->n++;
    f->status = a->status;
    f->end = a->end;
    f->body = bytes_ref(a->body);
    f->headers = a->headers && http_headers_get(a->headers, "X-A") != NULL;
    if (f->end == HTTP_CALL_OK)
        assert_non_null(a->body);
}

static void test_fetch(void **state)
{
    static const struct {
        const char *answer;
        enum http_call_end end;
        int status;
        const char *body;
    } rows[] = {
        {"HTTP/1.1 200 OK\r\nX-A: b\r\nContent-Length: 5\r\n\r\nhello", HTTP_CALL_OK, 200, "hello"},
        {"HTTP/1.1 200 OK\r\nX-A: b\r\nContent-Length: 0\r\n\r\n", HTTP_CALL_OK, 200, ""},
        {"HTTP/1.1 404 Not Found\r\nX-A: b\r\nTransfer-Encoding: "
         "chunked\r\n\r\n3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n",
         HTTP_CALL_OK, 404, "abcdef"},
        {"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", HTTP_CALL_BAD, 200, NULL},
        {"HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775807\r\n\r\n", HTTP_CALL_BAD, 200, NULL},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n12345678\r\n1\r\n9\r\n", HTTP_CALL_BAD,
         200, NULL},
    };

    (void)state;
    open_client(NULL);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct fetched f = {0};
        struct buf in = BUF_INIT, req = BUF_INIT;
        int fd;

        http_fetch(client, "GET", "/", NULL, NULL, 8, PATIENCE_MS, on_fetched, &f);
        fd = peer_accept(lfd);
        peer_request(fd, &in, &req);
        peer_send(fd, rows[i].answer);
        TURN_UNTIL(f.n);
        assert_int_equal(f.end, rows[i].end);
        assert_int_equal(f.status, rows[i].status);
        if (rows[i].body) {
            assert_string_equal(f.body->data, rows[i].body);
            assert_true(f.headers);
        } else {
            assert_null(f.body);
        }
        bytes_unref(f.body);
        close(fd);
        turns(3);
        buf_free(&in);
        buf_free(&req);
    }

    struct fetched f = {0};
    struct http_call *call = http_fetch(client, "GET", "/", NULL, NULL, 8, 0, on_fetched, &f);

    turns(3);
    http_call_cancel(&call);
    turns(3);
    assert_int_equal(f.n, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_request_bytes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bad_targets_are_not_sent, setup, teardown),
        cmocka_unit_test_setup_teardown(test_streamed_body, setup, teardown),
        cmocka_unit_test_setup_teardown(test_drain_tells_when_to_go_on, setup, teardown),
        cmocka_unit_test_setup_teardown(test_connection_is_used_again, setup, teardown),
        cmocka_unit_test_setup_teardown(test_connection_is_not_used_again, setup, teardown),
        cmocka_unit_test_setup_teardown(test_early_answer_ends_the_connection, setup, teardown),
        cmocka_unit_test_setup_teardown(test_calls_wait_in_order, setup, teardown),
        cmocka_unit_test_setup_teardown(test_early_answer, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bounds, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pause, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_end_while_paused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_silence_is_the_servers, setup, teardown),
        cmocka_unit_test(test_cancel_at_every_phase),
        cmocka_unit_test(test_free_at_every_phase),
        cmocka_unit_test_setup_teardown(test_call_that_was_never_started, setup, teardown),
        cmocka_unit_test_setup_teardown(test_fetch, setup, teardown),
    };

    held_watch();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
