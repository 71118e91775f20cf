/* /status and /result: what a page that polls is told, at every station and for every way to fail. */
#include "api/mux_rig_test.h"

#define STATUS "/status/"
#define RESULT "/result/"
#define OUTPUT_URL "/mux/v1/jobs/" ID(1) "/outputs/"

static void assert_not_done(struct rig *g, const char *status)
{
    assert_at(g, "status", status);
    assert_at(g, "image_url", "null");
    assert_at(g, "image_urls", "[]");
    assert_at(g, "error", "null");
    assert_true(strlen(at(g, "message")) > 8);
}

/* --- a life --- */

static void test_life(void **state)
{
    struct rig *g = *state;

    g->reg.v[0].state = FLEET_DOWN;
    g->reg.listener->on_change(g->reg.listener_arg);
    rig_submit(g, ID(1));
    assert_int_equal(GET(g, STATUS ID(1)), 200);
    assert_string_equal(
        g->body,
        "{\"id\": \"" ID(1) "\", \"status\": \"queued\", \"progress\": {\"value\": 0, \"max\": 0}, "
                            "\"message\": \"Waiting for a server, next in the queue\", \"server\": null, "
                            "\"image_url\": null, \"image_urls\": [], \"outputs\": [], \"error\": null}");
    assert_non_null(strstr(g->headers, "Cache-Control: no-store\r\n"));
    assert_int_equal(GET(g, RESULT ID(1)), 202);
    assert_not_done(g, "queued");
    rig_submit(g, ID(2));
    assert_int_equal(GET(g, STATUS ID(2)), 200);
    assert_at(g, "message", "Waiting for a server, 1 job before it");

    g->reg.v[0].state = FLEET_UP;
    g->reg.listener->on_change(g->reg.listener_arg);
    rig_turn(g);
    assert_int_equal(GET(g, STATUS ID(1)), 200);
    assert_not_done(g, "processing");
    assert_at(g, "server", "gpu0");
    rig_accept(g);
    rig_event(g, ID(1), "progress", ", \"value\": 7, \"max\": 20, \"node\": \"3\"");
    assert_int_equal(GET(g, RESULT ID(1)), 202);
    assert_not_done(g, "processing");
    assert_at(g, "progress", "{\"value\": 7, \"max\": 20}");

    /* the server says that it is done: not so here, until the image is stored and committed */
    rig_event(g, ID(1), "executed",
              ", \"node\": \"9\", \"output\": {\"images\": [" FILE_OF("a.png", "output") "]}");
    rig_event(g, ID(1), "execution_success", "");
    assert_int_equal(GET(g, RESULT ID(1)), 202);
    assert_not_done(g, "fetching_image");
    rig_history(g, ONE_IMAGE);
    assert_int_equal(GET(g, STATUS ID(1)), 200);
    assert_not_done(g, "fetching_image");
    rig_fetched(g);
    assert_int_equal(GET(g, STATUS ID(1)), 200);
    assert_at(g, "status", "completed");
    assert_at(g, "message", "Done, 1 image");
    assert_at(g, "image_url", OUTPUT_URL "0");
    assert_at(g, "image_urls", "[\"" OUTPUT_URL "0\"]");
    assert_at(g, "outputs.0.url", OUTPUT_URL "0");
    assert_at(g, "error", "null");
    assert_int_equal(GET(g, RESULT ID(1)), 200);
    assert_at(g, "status", "completed");
    assert_int_equal(GET(g, at(g, "image_url")), 200);
    assert_string_equal(g->body, "bytes of a.png");
}

/* While the last commit is under way nobody is told that it is done; whoever is told can have the image. */
static void test_done_is_done(void **state)
{
    struct rig *g = *state;
    struct fleet_fetched r = {.end = FLEET_FETCHED, .mime = "image/png", .status = 200};
    struct call c;

    rig_submit(g, ID(1));
    rig_accept(g);
    rig_event(g, ID(1), "execution_success", "");
    rig_history(g, ONE_IMAGE);
    c = g->reg.fetch[0];
    g->reg.fetch[0].open = false;
    rig_put(g, "the image");
    memcpy(r.blake3, g->blob.blake3, BLAKE3_LEN);
    r.size = g->blob.size;
    r.pin = g->blob.pin;
    g->held = true;
    c.cb.fetch(&r, c.arg);
    assert_int_equal(store_mem_given(g->store), 1); /* the terminal step */
    client_send(g, "GET", STATUS ID(1), "", "");
    UNTIL(g, store_mem_pending(g->store) > 0); /* the read came before the commit */
    store_mem_deliver(g->store, store_mem_pending(g->store) - 1);
    client_answer(g);
    assert_not_done(g, "fetching_image");
    g->held = false;
    assert_int_equal(GET(g, STATUS ID(1)), 200);
    assert_at(g, "status", "completed");
    assert_int_equal(GET(g, at(g, "image_url")), 200);
    assert_string_equal(g->body, "the image");
}

/* --- which image --- */

/* Saved images before previews, whatever their order in history; what is no image is listed only. */
static void test_images(void **state)
{
    struct rig *g = *state;

    rig_run(g, ID(1),
            "\"1\": {\"images\": [" FILE_OF("p.png", "temp") "]}, \"2\": {\"images\": [" FILE_OF(
                "a.png", "output") ", " FILE_OF("b.png",
                                                "output") "]}, \"3\": {\"audio\": [" FILE_OF("s.flac",
                                                                                             "output") "]}");
    assert_int_equal(GET(g, RESULT ID(1)), 200);
    assert_at(g, "image_url", OUTPUT_URL "1");
    assert_at(g, "image_urls", "[\"" OUTPUT_URL "1\", \"" OUTPUT_URL "2\", \"" OUTPUT_URL "0\"]");
    assert_at(g, "message", "Done, 3 images");
    assert_at(g, "outputs.3.kind", "audio");
    assert_at(g, "outputs.4", "(none)");
}

static void test_previews_only(void **state)
{
    struct rig *g = *state;

    rig_run(g, ID(1), "\"1\": {\"images\": [" FILE_OF("p.png", "temp") "]}");
    assert_int_equal(GET(g, RESULT ID(1)), 200);
    assert_at(g, "image_url", OUTPUT_URL "0");
}

static void assert_no_image(struct rig *g)
{
    assert_int_equal(GET(g, STATUS ID(1)), 200);
    assert_at(g, "status", "failed");
    assert_at(g, "error.code", "no_image_output");
    assert_at(g, "error.detail", "(none)");
    assert_at(g, "image_url", "null");
    assert_int_equal(GET(g, RESULT ID(1)), 422);
    assert_error(g, 422, "no_image_output");
    assert_at(g, "status", "failed");
}

static void test_no_image(void **state)
{
    struct rig *g = *state;

    rig_run(g, ID(1), "\"3\": {\"audio\": [" FILE_OF("s.flac", "output") "]}");
    assert_no_image(g);
    assert_at(g, "outputs.0.filename", "s.flac");
    assert_int_equal(GET(g, "/mux/v1/jobs/" ID(1)), 200);
    assert_at(g, "state", "succeeded");
    assert_at(g, "error", "null");
}

static void test_no_output(void **state)
{
    struct rig *g = *state;

    rig_run(g, ID(1), "");
    assert_no_image(g);
    assert_at(g, "outputs", "[]");
}

/* --- images that are no longer kept --- */

static void on_trimmed(const struct store_trimmed *t, void *arg)
{
    assert_int_equal(t->status, STORE_OK);
    *(bool *)arg = true;
}

static void test_no_longer_kept(void **state)
{
    struct rig *g = *state;
    struct store_keep keep = {.now = T0 + 1000000, .outputs_ms = 1000, .max_rows = 100};
    bool done = false;

    rig_run(g, ID(1), ONE_IMAGE);
    store_trim(g->store, &keep, on_trimmed, &done);
    UNTIL(g, done);
    assert_int_equal(GET(g, STATUS ID(1)), 200);
    assert_at(g, "status", "completed");
    assert_non_null(strstr(at(g, "message"), "no longer kept"));
    assert_int_equal(GET(g, RESULT ID(1)), 410);
    assert_error(g, 410, "expired");
    GET(g, OUTPUT_URL "0");
    assert_error(g, 410, "expired");
}

/* --- every error code --- */

static const struct {
    enum job_code code;
    int result;
} expected[] = {
    {JOB_NO_CAPABLE_SERVER, 422},  {JOB_VALIDATION_FAILED, 422},   {JOB_SERVER_REJECTED, 422},
    {JOB_EXECUTION_ERROR, 422},    {JOB_OUT_OF_MEMORY, 422},       {JOB_INTERRUPTED, 502},
    {JOB_SERVER_LOST, 502},        {JOB_SERVER_RESTARTED, 502},    {JOB_STALLED, 502},
    {JOB_DISPATCH_FAILED, 502},    {JOB_HISTORY_UNAVAILABLE, 502}, {JOB_HISTORY_MISSING, 502},
    {JOB_OUTPUT_UNAVAILABLE, 502}, {JOB_OUTPUT_UNRECOGNISED, 422}, {JOB_STORAGE_FAILED, 500},
    {JOB_CODE_EXPIRED, 410},       {JOB_CODE_CANCELED, 409},
};

static void test_codes(void **state)
{
    struct rig *g = *state;

    assert_int_equal(ARRAY_LEN(expected), JOB_CODES - 1); /* the list is closed */
    for (size_t i = 0; i < ARRAY_LEN(expected); i++) {
        enum job_code code = expected[i].code;
        enum job_state end = code == JOB_CODE_EXPIRED    ? JOB_EXPIRED
                             : code == JOB_CODE_CANCELED ? JOB_CANCELED
                                                         : JOB_FAILED;
        const char *status = end == JOB_CANCELED ? "canceled" : "failed";
        struct job_error e = {.code = code,
                              .attempt = 2,
                              .server = (char *)(uintptr_t) "gpu1",
                              .message = (char *)(uintptr_t) "the cause of it",
                              .detail = (char *)(uintptr_t) "{\"node\": \"5\"}"};
        char id[UUID_SIZE];

        snprintf(id, sizeof(id), "0198c000-0000-7000-8000-0000000000%02zu", i);
        if (i % 4 == 3)
            e = (struct job_error){.code = code}; /* without any words, ours have to do */
        rig_stored(g, id, end, &e);
        assert_int_equal(askf(g, "GET", STATUS "%s", id), 200);
        assert_at(g, "status", status);
        assert_at(g, "error.code", job_code_name(code));
        assert_at(g, "error.detail", "(none)");
        assert_at(g, "image_url", "null");
        assert_true(strlen(at(g, "message")) > 12);
        if (e.message) {
            assert_at(g, "message", "the cause of it");
            assert_at(g, "error.message", "the cause of it (server gpu1, attempt 2)");
        }
        assert_int_equal(askf(g, "GET", RESULT "%s", id), expected[i].result);
        assert_error(g, expected[i].result, job_code_name(code));
        assert_at(g, "status", status);
        assert_at(g, "error.detail", e.detail ? e.detail : "null");
        assert_int_equal(askf(g, "GET", "/mux/v1/jobs/%s", id), 200);
        assert_at(g, "error.code", job_code_name(code));
        assert_at(g, "error.attempt", e.attempt ? "2" : "null");
        assert_at(g, "error.server", e.server ? "gpu1" : "null");
    }
}

/* --- what it is asked wrongly --- */

static void test_unknown(void **state)
{
    struct rig *g = *state;

    GET(g, STATUS ID(1));
    assert_error(g, 404, "not_found");
    GET(g, RESULT ID(1));
    assert_error(g, 404, "not_found");
    GET(g, STATUS "x");
    assert_error(g, 404, "not_found");
    POST(g, STATUS ID(1));
    assert_error(g, 405, "method_not_allowed");
    ask(g, "DELETE", RESULT ID(1), NULL);
    assert_error(g, 405, "method_not_allowed");
}

/* Another tenant's id answers exactly as an unknown one, in every dialect and for every verb. */
static void test_foreign(void **state)
{
    static const struct {
        const char *method, *target;
    } asks[] = {{"GET", STATUS "%s"},
                {"GET", RESULT "%s"},
                {"GET", "/mux/v1/jobs/%s"},
                {"POST", "/mux/v1/jobs/%s/cancel"},
                {"POST", "/mux/v1/jobs/%s/retry"},
                {"GET", "/mux/v1/jobs/%s/outputs/0"}};
    struct rig *g = *state;
    struct bytes *graph = bytes_of("{}");
    struct runner_job_view v;
    struct store_submit in = {
        .id = ID(1), .tenant = "other", .window_id = "w", .graph = graph, .answer = graph, .created_at = T0};
    int done = 0;

    assert_true(runner_submit(g->runner, &in, rig_submitted, &done));
    bytes_unref(graph);
    UNTIL(g, done);
    for (size_t i = 0; i < ARRAY_LEN(asks); i++) {
        char *target = strdup(asks[i].target), *known, *s = strstr(target, "%s");
        char one[128];

        *s = '\0';
        snprintf(one, sizeof(one), "%s" ID(1) "%s", target, s + 2);
        assert_int_equal(ask(g, asks[i].method, one, NULL), 404);
        known = strdup(g->body);
        snprintf(one, sizeof(one), "%s" ID(2) "%s", target, s + 2);
        assert_int_equal(ask(g, asks[i].method, one, NULL), 404);
        assert_string_equal(g->body, known);
        free(known);
        free(target);
    }
    assert_true(runner_find(g->runner, ID(1), &v)); /* nor was anything done to it */
    assert_int_equal(v.s->state, JOB_DISPATCHING);
    assert_int_equal(GET(g, "/mux/v1/jobs"), 200);
    assert_at(g, "jobs", "[]");
    assert_int_equal(GET(g, "/mux/v1/windows"), 200);
    assert_at(g, "windows", "[]");
}

/* The client leaves while the store is read: nothing is held, nothing crashes. */
static void test_left(void **state)
{
    struct rig *g = *state;

    rig_run(g, ID(1), ONE_IMAGE);
    for (int reads = 0; reads < 2;
         reads++) { /* before the first answer of the store, and before the second */
        g->held = true;
        client_send(g, "GET", STATUS ID(1), "", "");
        for (int i = 0; i < reads; i++) {
            UNTIL(g, store_mem_pending(g->store) > 0);
            store_mem_deliver(g->store, 0);
        }
        UNTIL(g, store_mem_pending(g->store) > 0);
        close(g->fd);
        g->fd = -1;
        UNTIL(g, http_server_conns(g->http) == 0);
        g->held = false;
        rig_turn(g);
    }
    assert_int_equal(GET(g, STATUS ID(1)), 200);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(test_##name, rig_setup, rig_teardown)
    static const struct CMUnitTest tests[] = {
        T(life),           T(done_is_done), T(images),  T(previews_only), T(no_image), T(no_output),
        T(no_longer_kept), T(codes),        T(unknown), T(foreign),       T(left),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
