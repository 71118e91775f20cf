/* Job records, listings, cancel, retry, outputs. */
#include "api/mux_rig_test.h"

#define URL "/mux/v1/jobs/"

/* --- the record, at every station of a life --- */

#define RECORD_START(state, server)                                                                          \
    "{\"id\": \"" ID(                                                                                        \
        1) "\", \"state\": \"" state "\", \"server\": " server                                               \
           ", \"window_id\": \"win-1\", \"client_id\": \"client-a\", \"registered_at\": 1700000000000, "
#define GPU0 "{\"name\": \"gpu0\", \"url\": \"http://10.0.0.5:8188\"}"
#define NO_PROGRESS "\"progress\": {\"value\": 0, \"max\": 0, \"node\": null}, "
#define ACCEPTED "{\"at\": 1700000000000, \"state\": \"queued\", \"note\": \"accepted\"}"

static void test_record_queued(void **state)
{
    struct rig *g = *state;

    g->reg.v[0].state = FLEET_DOWN;
    g->reg.listener->on_change(g->reg.listener_arg);
    rig_submit(g, ID(1));
    assert_int_equal(GET(g, URL ID(1)), 200);
    assert_string_equal(
        g->body,
        RECORD_START(
            "queued",
            "null") "\"attempt\": 0, \"attempts\": [], " NO_PROGRESS
                    "\"queue_position\": 0, \"outputs\": [], \"error\": null, \"timeline\": [" ACCEPTED
                    "], \"created_at\": 1700000000000, \"started_at\": null, \"finished_at\": null}");
}

static void test_record_running(void **state)
{
    struct rig *g = *state;

    rig_submit(g, ID(1));
    assert_int_equal(GET(g, URL ID(1)), 200);
    assert_at(g, "state", "dispatching");
    g->now = 20;
    rig_accept(g);
    rig_event(g, ID(1), "execution_start", "");
    rig_event(g, ID(1), "progress", ", \"value\": 7, \"max\": 20, \"node\": \"3\"");
    assert_int_equal(GET(g, URL ID(1)), 200);
    assert_non_null(strstr(
        g->body,
        RECORD_START("running", GPU0) "\"attempt\": 1, \"attempts\": [{\"server\": \"gpu0\", \"started_at\": "
                                      "1700000000000, \"ended_at\": null, \"error\": null}], "
                                      "\"progress\": {\"value\": 7, \"max\": 20, \"node\": \"3\"}, "
                                      "\"queue_position\": null, \"outputs\": [], \"error\": null, "));
    assert_at(g, "started_at", "1700000000020");
    assert_at(g, "finished_at", "null");
    rig_event(g, ID(1), "execution_success", "");
    assert_int_equal(GET(g, URL ID(1)), 200);
    assert_at(g, "state", "collecting");
}

static void test_record_succeeded(void **state)
{
    struct rig *g = *state;
    char hex[BLAKE3_HEX], *outputs;

    rig_run(g, ID(1), ONE_IMAGE);
    assert_int_equal(GET(g, URL ID(1)), 200);
    blake3_hex(g->blob.blake3, hex);
    outputs = xasprintf(
        "\"outputs\": [{\"n\": 0, \"node_id\": \"9\", \"kind\": \"image\", \"filename\": \"a.png\", "
        "\"subfolder\": \"\", \"type\": \"output\", \"size\": 14, \"mime\": \"image/png\", "
        "\"blake3\": \"%s\", \"url\": \"/mux/v1/jobs/" ID(1) "/outputs/0\"}], \"error\": null, ",
        hex);
    assert_non_null(strstr(g->body, RECORD_START("succeeded", GPU0)));
    assert_non_null(strstr(g->body, outputs));
    assert_at(g, "attempts.0.ended_at", "1700000000000");
    assert_at(g, "attempts.0.error", "null");
    assert_at(g, "queue_position", "null");
    assert_at(g, "finished_at", "1700000000000");
    free(outputs);
    /* a server that is no longer configured keeps its name */
    g->reg.v[0].name = "other";
    assert_int_equal(GET(g, URL ID(1)), 200);
    assert_at(g, "server", "{\"name\": \"gpu0\", \"url\": null}");
}

static void test_record_failed(void **state)
{
    struct rig *g = *state;
    struct bytes *body = bytes_of("{\"error\": {\"type\": \"x\"}}");
    struct call c;

    g->reg.n = 1; /* there is no other server to try */
    g->reg.listener->on_change(g->reg.listener_arg);
    rig_submit(g, ID(1));
    c = g->reg.submit;
    g->reg.submit.open = false;
    c.cb.submit(
        &(struct fleet_submitted){
            .end = FLEET_REJECTED, .status = 400, .body = body, .why = "HTTP status 400"},
        c.arg);
    bytes_unref(body);
    rig_turn(g);
    assert_int_equal(GET(g, URL ID(1)), 200);
    assert_at(g, "state", "failed");
    assert_at(g, "error.code", "server_rejected");
    assert_at(g, "error.server", "gpu0");
    assert_at(g, "error.attempt", "1");
    assert_at(g, "error.detail.error.type", "x");
    assert_at(g, "attempts.0.error.code", "server_rejected");
    assert_string_not_equal(at(g, "attempts.0.error.message"), "null");
    assert_at(g, "attempts.0.error.detail", "(none)");
}

static void test_record_errors(void **state)
{
    struct rig *g = *state;

    GET(g, URL ID(9));
    assert_error(g, 404, "not_found");
    GET(g, URL "nonsense");
    assert_error(g, 404, "not_found");
    GET(g, URL "..%2f..%2fx");
    assert_error(g, 404, "not_found");
    POST(g, URL ID(9));
    assert_error(g, 405, "method_not_allowed");
    GET(g, "/mux/v1/nothing");
    assert_error(g, 404, "not_found");
}

/* --- the list --- */

static const char *ids(struct rig *g)
{
    static char text[256];
    struct json_iter it = json_iter(json_get(g->json, "jobs"));
    struct json key, job;
    size_t n = 0;

    text[0] = '\0';
    while (json_next(&it, &key, &job)) {
        struct json id = json_get(job, "id");

        text[n++] = id.p[id.n - 2]; /* the last digit of ID(n) */
        text[n] = '\0';
    }
    return text;
}

#define LIST(g, query, want)                                                                                 \
    do {                                                                                                     \
        assert_int_equal(GET(g, "/mux/v1/jobs" query), 200);                                                 \
        assert_string_equal(ids(g), want);                                                                   \
    } while (0)

static void submit_five(struct rig *g)
{
    rig_run(g, ID(1), ONE_IMAGE);
    rig_submit_in(g, (struct store_submit){.id = ID(2), .client_id = "b", .window_id = "win-2"});
    rig_submit_in(g, (struct store_submit){.id = ID(3), .client_id = "c d&e"});
    rig_submit_in(g, (struct store_submit){.id = ID(4), .client_id = "b", .front = true});
    rig_submit_in(g, (struct store_submit){.id = ID(5), .window_id = "win-2", .priority = 1});
}

static void test_list(void **state)
{
    struct rig *g = *state;

    LIST(g, "", "");
    assert_at(g, "next", "null");
    submit_five(g); /* 2 is bound to gpu0, 3 4 5 wait */
    LIST(g, "", "54321");
    LIST(g, "?state=queued", "543");
    LIST(g, "?state=succeeded,dispatching", "21");
    LIST(g, "?state=", "54321");
    LIST(g, "?client_id=b", "42");
    LIST(g, "?client_id=c%20d%26e", "3");
    LIST(g, "?window_id=win-2", "52");
    LIST(g, "?window_id=win-2&client_id=b", "2");
    LIST(g, "?server=gpu0", "21");
    LIST(g, "?server=gpu1", "");
    LIST(g, "?client_id=nobody", "");
}

static void test_list_pages(void **state)
{
    struct rig *g = *state;
    char *next;

    submit_five(g);
    LIST(g, "?limit=2", "54");
    next = xstrdup(at(g, "next"));
    assert_int_equal(askf(g, "GET", "/mux/v1/jobs?limit=2&after=%s", next), 200);
    assert_string_equal(ids(g), "32");
    assert_int_equal(askf(g, "GET", "/mux/v1/jobs?limit=2&after=%s", at(g, "next")), 200);
    assert_string_equal(ids(g), "1");
    free(next);
    assert_at(g, "next", "null");
    LIST(g, "?limit=1000", "54321");
}

/* The page's positions are those of the tenant's queue, whatever else waits. */
static void test_list_positions(void **state)
{
    struct rig *g = *state;

    rig_stored(g, ID(6), JOB_QUEUED, NULL); /* the runner does not know it: it waits for nothing */
    submit_five(g);
    rig_submit_in(g, (struct store_submit){.id = ID(7), .tenant = "other", .priority = 9});
    LIST(g, "", "543216"); /* the order of the queue is 5 (priority) 4 (front) 3 */
    assert_at(g, "jobs.5.queue_position", "null");
    assert_at(g, "jobs.0.queue_position", "0");
    assert_at(g, "jobs.1.queue_position", "1");
    assert_at(g, "jobs.2.queue_position", "2");
    assert_at(g, "jobs.3.queue_position", "null");
    assert_at(g, "jobs.4.queue_position", "null");
    LIST(g, "?client_id=c%20d%26e", "3");
    assert_at(g, "jobs.0.queue_position", "2");
    LIST(g, "?after=2", "6"); /* others wait behind it */
    assert_at(g, "jobs.0.queue_position", "null");
    for (int n = 3; n <= 5; n++) {
        char one[8];

        assert_int_equal(askf(g, "GET", URL "0198c000-0000-7000-8000-00000000000%d", n), 200);
        snprintf(one, sizeof(one), "%d", 5 - n);
        assert_at(g, "queue_position", one);
    }
}

static void test_list_errors(void **state)
{
    static const char *const bad[] = {"limit=0",
                                      "limit=1001",
                                      "limit=-1",
                                      "limit=ten",
                                      "limit=1e2",
                                      "limit=+5",
                                      "after=x",
                                      "after=-3",
                                      "after=0",
                                      "state=done",
                                      "state=queued,,nope",
                                      "after=9223372036854775808",
                                      "after=18446744073709551621",
                                      "limit=99999999999999999999"};
    struct rig *g = *state;

    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        askf(g, "GET", "/mux/v1/jobs?%s", bad[i]);
        assert_error(g, 400, "bad_request");
    }
    POST(g, "/mux/v1/jobs");
    assert_error(g, 405, "method_not_allowed");
}

/* --- cancel --- */

static void test_cancel(void **state)
{
    struct rig *g = *state;

    rig_submit(g, ID(1)); /* dispatching */
    rig_submit(g, ID(2)); /* queued */
    assert_int_equal(POST(g, URL ID(2) "/cancel"), 200);
    assert_at(g, "id", ID(2));
    assert_at(g, "state", "canceled");
    assert_at(g, "error.code", "canceled");
    assert_at(g, "attempt", "0");
    rig_accept(g);
    assert_int_equal(POST(g, URL ID(1) "/cancel"), 200);
    assert_at(g, "state", "canceled");
    assert_at(g, "server.name", "gpu0");
    /* again, and one that came to its end by itself */
    g->now = 50;
    assert_int_equal(POST(g, URL ID(1) "/cancel"), 200);
    assert_at(g, "state", "canceled");
    assert_at(g, "finished_at", "1700000000000");
    rig_stored(g, ID(3), JOB_SUCCEEDED, NULL);
    assert_int_equal(POST(g, URL ID(3) "/cancel"), 200);
    assert_at(g, "state", "succeeded");
}

static void test_cancel_errors(void **state)
{
    struct rig *g = *state;

    POST(g, URL ID(9) "/cancel");
    assert_error(g, 404, "not_found");
    POST(g, URL "x/cancel");
    assert_error(g, 404, "not_found");
    GET(g, URL ID(9) "/cancel");
    assert_error(g, 405, "method_not_allowed");
    rig_submit(g, ID(1));
    client_send(g, "POST", URL ID(1) "/cancel", "Origin: http://evil.example\r\n", "");
    assert_int_equal(client_answer(g), 403);
    assert_int_equal(GET(g, URL ID(1)), 200);
    assert_at(g, "state", "dispatching");
}

/* The client leaves while its cancel is being committed: it is carried out all the same. */
static void test_cancel_left(void **state)
{
    struct rig *g = *state;

    rig_submit(g, ID(1));
    g->held = true;
    client_send(g, "POST", URL ID(1) "/cancel", "", "");
    UNTIL(g, store_mem_given(g->store) > 0);
    close(g->fd);
    g->fd = -1;
    UNTIL(g, http_server_conns(g->http) == 0);
    g->held = false;
    assert_int_equal(GET(g, URL ID(1)), 200);
    assert_at(g, "state", "canceled");
}

static void on_canceled(bool canceled, void *arg)
{
    *(int *)arg = canceled;
}

/* Asked for while its submit is on the way to the disk; and while the process stops, which answers those who wait. */
static void test_cancel_at_the_edges(void **state)
{
    struct rig *g = *state;
    struct bytes *graph = bytes_of("{\"1\": {}}"), *answer = bytes_of("{}");
    struct store_submit in = {.id = ID(1),
                              .tenant = "default",
                              .note = "accepted",
                              .graph = graph,
                              .answer = answer,
                              .created_at = T0};
    int submitted = 0, canceled = -1, stopped = -1;

    g->held = true;
    assert_true(runner_submit(g->runner, &in, rig_submitted, &submitted));
    assert_false(runner_cancel(g->runner, "somebody", ID(1), "why", on_canceled, &canceled));
    assert_true(runner_cancel(g->runner, "default", ID(1), "why", on_canceled, &canceled));
    assert_true(runner_cancel(g->runner, "default", ID(1), "why", NULL, NULL));
    client_send(g, "POST", URL ID(1) "/cancel", "", "");
    rig_turn(g);
    g->held = false;
    UNTIL(g, canceled >= 0);
    assert_int_equal(submitted, 1);
    assert_int_equal(canceled, 1);
    assert_int_equal(client_answer(g), 200);
    assert_at(g, "state", "canceled");
    rig_submit(g, ID(2));
    g->held = true;
    assert_true(runner_cancel(g->runner, "default", ID(2), "why", on_canceled, &stopped));
    runner_stop(g->runner);
    assert_int_equal(stopped, 0);
    assert_false(runner_cancel(g->runner, "default", ID(2), "why", on_canceled, &stopped));
    bytes_unref(graph);
    bytes_unref(answer);
}

/* --- retry --- */

static void store_failed(struct rig *g, const char *id)
{
    struct bytes *graph = bytes_of("{\"1\": {}}"), *extra = bytes_of("{\"a\": 1}"),
                 *targets = bytes_of("[\"1\"]"), *rest = bytes_of("{\"r\": 2}"),
                 *secrets = bytes_of("sealed");
    struct job_error error = {.code = JOB_STALLED, .message = (char *)(uintptr_t) "no progress"};
    struct store_step step = {.id = id,
                              .version = 1,
                              .at = T0 + 5,
                              .state = JOB_FAILED,
                              .flags = JOB_F_PAID | JOB_F_OOM_RETRIED,
                              .error = &error};
    struct job_input input = {.name = (char *)(uintptr_t) "cat.png"};
    struct store_submit in = {.id = id,
                              .tenant = "default",
                              .client_id = "client-a",
                              .window_id = "win-1",
                              .need = "need",
                              .graph = graph,
                              .extra_data = extra,
                              .targets = targets,
                              .rest = rest,
                              .secrets = secrets,
                              .answer = graph,
                              .flags = JOB_F_PAID | JOB_F_OOM_RETRIED,
                              .inputs = &input,
                              .n_inputs = 1,
                              .priority = 3,
                              .deadline = T0 + 1,
                              .created_at = T0};
    int done = 0;

    rig_put(g, "a cat");
    memcpy(input.blake3, g->blob.blake3, BLAKE3_LEN);
    store_submit(g->store, &in, rig_submitted, &done);
    store_step(g->store, &step, on_rig_done, &done);
    bytes_unref(graph);
    bytes_unref(extra);
    bytes_unref(targets);
    bytes_unref(rest);
    bytes_unref(secrets);
    UNTIL(g, done == 2);
    blobs_unpin(g->blobs, g->blob.pin);
}

static void on_whole(enum store_status st, struct job_record *rec, void *arg)
{
    assert_int_equal(st, STORE_OK);
    *(struct job_record **)arg = rec;
}

static struct job_record *whole(struct rig *g, const char *id)
{
    struct job_record *rec = NULL;

    store_get(g->store, id, ~0u, on_whole, &rec);
    UNTIL(g, rec);
    return rec;
}

static void test_retry(void **state)
{
    struct rig *g = *state;
    struct job_record *rec;
    char *id, *where;

    store_failed(g, ID(1));
    g->now = 77;
    assert_int_equal(POST(g, URL ID(1) "/retry"), 201);
    id = xstrdup(at(g, "id"));
    assert_string_not_equal(id, ID(1));
    assert_at(g, "retry_of", ID(1));
    assert_at(g, "client_id", "client-a");
    assert_at(g, "window_id", "win-1");
    assert_at(g, "created_at", "1700000000077");
    assert_at(g, "error", "null");
    where = xasprintf("Location: " URL "%s\r\n", id);
    assert_non_null(strstr(g->headers, where));

    rec = whole(g, id);
    assert_string_equal(rec->graph->data, "{\"1\": {}}");
    assert_string_equal(rec->extra_data->data, "{\"a\": 1}");
    assert_string_equal(rec->targets->data, "[\"1\"]");
    assert_string_equal(rec->rest->data, "{\"r\": 2}");
    assert_null(rec->secrets);
    assert_string_equal(rec->s.need, "need");
    assert_int_equal(rec->s.flags, JOB_F_PAID);
    assert_int_equal(rec->s.priority, 3);
    assert_int_equal(rec->s.deadline, 0);
    assert_int_equal(rec->n_inputs, 1);
    assert_string_equal(rec->inputs[0].name, "cat.png");
    assert_memory_equal(rec->inputs[0].blake3, g->blob.blake3, BLAKE3_LEN);
    assert_non_null(strstr(rec->answer->data, "\"number\": 2,"));
    job_record_free(&rec);
    /* it is given to a server as any other, and the old one stays as it was */
    assert_string_equal(g->reg.submit.id, id);
    free(id);
    free(where);
    assert_int_equal(GET(g, URL ID(1)), 200);
    assert_at(g, "state", "failed");
    assert_at(g, "retry_of", "(none)");
}

/* Its client is told of the new job, and not before it has been answered. */
static void test_retry_events(void **state)
{
    static const char hello[] = "GET /ws?clientId=client-a HTTP/1.1\r\nHost: mux\r\nConnection: Upgrade\r\n"
                                "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    struct rig *g = *state;
    struct buf answer;
    char *id;
    int ws;

    store_failed(g, ID(1));
    client_connect(g);
    assert_int_equal(send(g->fd, hello, sizeof(hello) - 1, MSG_NOSIGNAL), (ssize_t)sizeof(hello) - 1);
    UNTIL(g, !client_closed(g) && strstr(buf_str(&g->in), " 101 "));
    ws = g->fd;
    g->fd = -1;
    assert_int_equal(POST(g, URL ID(1) "/retry"), 201);
    id = xstrdup(at(g, "id"));
    close(g->fd);
    g->fd = ws;
    answer = g->in;
    g->in = (struct buf)BUF_INIT;
    rig_accept(g);
    rig_event(g, id, "execution_start", "");
    UNTIL(g, !client_closed(g) && g->in.len && memmem(g->in.data, g->in.len, "execution_start", 15));
    assert_non_null(memmem(g->in.data, g->in.len, id, strlen(id)));
    buf_free(&answer);
    free(id);
}

static void test_retry_errors(void **state)
{
    static const enum job_state refused[] = {JOB_QUEUED, JOB_RUNNING, JOB_COLLECTING, JOB_SUCCEEDED,
                                             JOB_CANCELED};
    struct rig *g = *state;

    POST(g, URL ID(9) "/retry");
    assert_error(g, 404, "not_found");
    for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
        char id[UUID_SIZE];

        snprintf(id, sizeof(id), "0198c000-0000-7000-8000-0000000001%02zu", i);
        rig_stored(g, id, refused[i], NULL);
        askf(g, "POST", URL "%s/retry", id);
        assert_error(g, 409, "conflict");
    }
    rig_stored(g, ID(1), JOB_EXPIRED, NULL);
    assert_int_equal(POST(g, URL ID(1) "/retry"), 201);

    rig_stored(g, ID(2), JOB_FAILED, NULL);
    client_send(g, "POST", URL ID(2) "/retry", "Origin: http://evil.example\r\n", "");
    assert_int_equal(client_answer(g), 403);
    g->held = true; /* the load is answered, then the submit finds the disk full */
    client_send(g, "POST", URL ID(2) "/retry", "", "");
    UNTIL(g, store_mem_pending(g->store) > 0);
    store_mem_fail(g->store, STORE_FULL, 1);
    g->held = false;
    client_answer(g);
    assert_error(g, 503, "storage_failed");
    assert_non_null(strstr(g->headers, "Retry-After: "));
    api_drain(g->api);
    POST(g, URL ID(2) "/retry");
    assert_error(g, 503, "draining");
}

static void test_retry_too_many(void **state)
{
    struct rig *g = *state;
    struct runner_config cfg = {job_policy_default, 60000, 0};

    rig_stored(g, ID(1), JOB_FAILED, NULL);
    runner_set_config(g->runner, &cfg);
    POST(g, URL ID(1) "/retry");
    assert_error(g, 429, "too_many_queued");
    assert_non_null(strstr(g->headers, "Retry-After: "));
}

/* --- outputs --- */

static void on_trimmed(const struct store_trimmed *t, void *arg)
{
    assert_int_equal(t->status, STORE_OK);
    *(bool *)arg = true;
}

static inline void trim_outputs(struct rig *g)
{
    struct store_keep keep = {.now = T0 + 1000000, .outputs_ms = 1000, .max_rows = 100};
    bool done = false;

    store_trim(g->store, &keep, on_trimmed, &done);
    UNTIL(g, done);
}

static void test_outputs(void **state)
{
    struct rig *g = *state;

    rig_run(g, ID(1),
            "\"9\": {\"images\": [" FILE_OF("a.png", "output") ", " FILE_OF("x.html", "output") "]}");
    assert_int_equal(GET(g, URL ID(1) "/outputs/0"), 200);
    assert_string_equal(g->body, "bytes of a.png");
    assert_non_null(strstr(g->headers, "Content-Type: image/png\r\n"));
    assert_non_null(strstr(g->headers, "Content-Disposition: filename=\"a.png\"\r\n"));
    assert_non_null(strstr(g->headers, "Etag: \""));
    client_send(g, "GET", URL ID(1) "/outputs/0", "Range: bytes=9-10\r\n", "");
    assert_int_equal(client_answer(g), 206);
    assert_string_equal(g->body, "a.");
    assert_int_equal(ask(g, "HEAD", URL ID(1) "/outputs/0", NULL), 200);
    assert_string_equal(g->body, "");
    /* never active on our origin */
    assert_int_equal(GET(g, URL ID(1) "/outputs/1"), 200);
    assert_non_null(strstr(g->headers, "Content-Type: application/octet-stream\r\n"));
    assert_non_null(strstr(g->headers, "Content-Disposition: attachment"));
}

static void test_outputs_errors(void **state)
{
    static const char *const bad[] = {"1", "-1", "00", "x", "0x0", "99999999999999999999", "2147483648"};
    struct rig *g = *state;

    GET(g, URL ID(1) "/outputs/0");
    assert_error(g, 404, "not_found");
    rig_run(g, ID(1), ONE_IMAGE);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        askf(g, "GET", URL ID(1) "/outputs/%s", bad[i]);
        assert_error(g, 404, "not_found");
    }
    rig_submit(g, ID(2));
    GET(g, URL ID(2) "/outputs/0");
    assert_error(g, 404, "not_found");
    trim_outputs(g);
    GET(g, URL ID(1) "/outputs/0");
    assert_error(g, 410, "expired");
    assert_int_equal(GET(g, URL ID(1)), 200);
    assert_at(g, "outputs.0.filename", "a.png");
}

static struct job_output output_of_attempt(struct rig *g, int attempt, const char *filename)
{
    struct job_output o = {.attempt = attempt,
                           .node_id = (char *)(uintptr_t) "9",
                           .kind = (char *)(uintptr_t) "image",
                           .key = (char *)(uintptr_t) "images",
                           .filename = (char *)(uintptr_t)filename,
                           .subfolder = (char *)(uintptr_t) "",
                           .type = (char *)(uintptr_t) "output"};

    rig_put(g, filename);
    memcpy(o.blake3, g->blob.blake3, BLAKE3_LEN);
    o.size = g->blob.size;
    return o;
}

/* What an attempt made that was given up stands in no listing, and is not what a number means. */
static void test_outputs_of_attempts(void **state)
{
    struct rig *g = *state;
    struct bytes *graph = bytes_of("{}");
    struct store_submit in = {
        .id = ID(1), .tenant = "default", .graph = graph, .answer = graph, .created_at = T0};
    int done = 0;

    store_submit(g->store, &in, rig_submitted, &done);
    bytes_unref(graph);
    for (int n = 1; n <= 2; n++) {
        struct job_attempt begin = {.n = n, .server = (char *)(uintptr_t) "gpu0", .started_at = T0};
        struct job_output o = output_of_attempt(g, n, n == 1 ? "old.png" : "won.png");
        struct store_step step = {.id = ID(1),
                                  .version = (uint32_t)n,
                                  .at = T0,
                                  .state = n == 1 ? JOB_RUNNING : JOB_SUCCEEDED,
                                  .begin = &begin,
                                  .outputs = &o,
                                  .n_outputs = 1};

        store_step(g->store, &step, on_rig_done, &done);
        UNTIL(g, done == n + 1);
    }
    assert_int_equal(GET(g, URL ID(1)), 200);
    assert_at(g, "outputs.0.filename", "won.png");
    assert_at(g, "outputs.1", "(none)");
    assert_int_equal(GET(g, URL ID(1) "/outputs/0"), 200);
    assert_string_equal(g->body, "won.png");
    assert_int_equal(GET(g, "/result/" ID(1)), 200);
    assert_at(g, "image_urls.1", "(none)");
}

/* --- before the jobs have been read --- */

static int setup_starting(void **state)
{
    *state = rig_open();
    return 0;
}

static void test_starting(void **state)
{
    struct rig *g = *state;

    rig_stored(g, ID(1), JOB_FAILED, NULL);
    POST(g, URL ID(1) "/cancel");
    assert_error(g, 503, "not_ready");
    POST(g, URL ID(1) "/retry");
    assert_error(g, 503, "not_ready");
    assert_int_equal(GET(g, URL ID(1)), 200);
    LIST(g, "", "1");
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(test_##name, rig_setup, rig_teardown)
    static const struct CMUnitTest tests[] = {
        T(record_queued),
        T(record_running),
        T(record_succeeded),
        T(record_failed),
        T(record_errors),
        T(list),
        T(list_pages),
        T(list_positions),
        T(list_errors),
        T(cancel),
        T(cancel_errors),
        T(cancel_left),
        T(cancel_at_the_edges),
        T(retry),
        T(retry_events),
        T(retry_errors),
        T(retry_too_many),
        T(outputs),
        T(outputs_errors),
        T(outputs_of_attempts),
        cmocka_unit_test_setup_teardown(test_starting, setup_starting, rig_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
