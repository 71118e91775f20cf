/* What a page asks for to show jobs: listings in short and by kind, the summary, workflows, the log; from other origins too. */
#include "api/mux_rig_test.h"

#include "store/mem_priv.h"

#define JOBS "/mux/v1/jobs"
#define URL JOBS "/"
#define FILE_N(n) FILE_OF("f" #n ".png", "output")

/* --- the listing in short --- */

static void test_brief(void **state)
{
    static const char queued[] =
        "{\"id\": \"" ID(2) "\", \"state\": \"dispatching\", \"server\": {\"name\": \"gpu0\", \"url\": "
                            "\"http://10.0.0.5:8188\"}, \"window_id\": null, \"client_id\": \"b\", "
                            "\"attempt\": 1, \"progress\": {\"value\": 0, "
                            "\"max\": 0, \"node\": null}, \"queue_position\": null, \"created_at\": "
                            "1700000000007, \"started_at\": null, "
                            "\"finished_at\": null, \"error\": null, \"outputs\": [], \"outputs_count\": 0}";
    struct rig *g = *state;
    char *full;

    rig_run(g, ID(1), "\"8\": {\"text\": [\"hello\"]}, \"9\": {\"images\": [" FILE_N(0) ", " FILE_N(1) "]}");
    g->now = 7;
    rig_submit_in(g, (struct store_submit){.id = ID(2), .client_id = "b"});
    rig_submit_in(g, (struct store_submit){.id = ID(3), .client_id = "b"});
    assert_int_equal(GET(g, JOBS "?view=brief"), 200);
    assert_int_equal(json_count(json_get(g->json, "jobs")), 3);
    assert_at(g, "jobs.0.queue_position", "0");
    assert_at(g, "jobs.1", queued);
    assert_at(g, "jobs.2.state", "succeeded");
    assert_at(g, "jobs.2.window_id", "win-1");
    assert_at(g, "jobs.2.finished_at", "1700000000000");
    assert_at(g, "jobs.2.outputs_count", "3");
    assert_at(g, "jobs.2.outputs.0",
              "{\"n\": 1, \"kind\": \"image\", \"filename\": \"f0.png\", \"url\": \"" URL ID(
                  1) "/outputs/1\", \"mime\": \"image/png\", \"size\": 15}");
    assert_at(g, "jobs.2.outputs.1.n", "2");
    assert_at(g, "jobs.2.outputs.2.kind", "text");
    assert_at(g, "jobs.2.timeline", "(none)");
    assert_at(g, "jobs.2.attempts", "(none)");
    assert_int_equal(GET(g, JOBS "?view=full"), 200);
    full = xstrdup(g->body);
    assert_at(g, "jobs.2.attempts.0.server", "gpu0");
    assert_int_equal(GET(g, JOBS), 200);
    assert_string_equal(g->body, full);
    free(full);
    GET(g, JOBS "?view=short");
    assert_error(g, 400, "bad_request");
}

static void test_brief_few(void **state)
{
    struct rig *g = *state;
    char server[] = "gpu0", message[] = "it stalled", detail[] = "{\"x\": 1}";
    struct job_error error = {JOB_STALLED, 2, server, message, detail};

    rig_run(
        g, ID(1),
        "\"9\": {\"images\": [" FILE_N(0) ", " FILE_N(1) ", " FILE_N(2) ", " FILE_N(3) ", " FILE_N(4) "]}");
    rig_fetched(g); /* only some are fetched at one time */
    rig_stored(g, ID(2), JOB_FAILED, &error);
    assert_int_equal(GET(g, JOBS "?view=brief"), 200);
    assert_int_equal(json_count(json_get(json_at(json_get(g->json, "jobs"), 1), "outputs")), 4);
    assert_at(g, "jobs.1.outputs_count", "5");
    assert_at(g, "jobs.0.error", "{\"code\": \"stalled\", \"message\": \"it stalled\"}");
    assert_at(g, "jobs.0.server", "null");
}

/* --- by kind --- */

static void test_kind(void **state)
{
    static const char *const kinds[] = {"image", "video", "audio", "text", "file", "latent", "3d", "json"};
    struct rig *g = *state;

    rig_run(g, ID(1), ONE_IMAGE);
    rig_run(g, ID(2), "\"8\": {\"text\": [\"hello\"]}");
    rig_run(g, ID(3), "\"8\": {\"text\": [\"hello\"]}, " ONE_IMAGE);
    assert_int_equal(GET(g, JOBS "?kind=image&state=succeeded&view=brief"), 200);
    assert_int_equal(json_count(json_get(g->json, "jobs")), 2);
    assert_at(g, "jobs.0.id", ID(3));
    assert_at(g, "jobs.1.id", ID(1));
    assert_at(g, "next", "null");
    assert_int_equal(GET(g, JOBS "?kind=text"), 200);
    assert_int_equal(json_count(json_get(g->json, "jobs")), 2);
    assert_int_equal(GET(g, JOBS "?kind=image&limit=1"), 200);
    assert_int_equal(askf(g, "GET", JOBS "?kind=image&limit=1&after=%s", at(g, "next")), 200);
    assert_at(g, "jobs.0.id", ID(1));
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        assert_int_equal(askf(g, "GET", JOBS "?kind=%s", kinds[i]), 200);
    GET(g, JOBS "?kind=picture");
    assert_error(g, 400, "bad_request");
}

static void on_any(enum store_status st, void *arg)
{
    (void)st, (void)arg;
}

static void on_any_submit(const struct store_submitted *r, void *arg)
{
    assert_int_equal(r->status, STORE_OK);
    ++*(size_t *)arg;
}

/* Behind more jobs than one request looks at: found by going on, though pages are empty. */
static void test_kind_far_away(void **state)
{
    enum { OTHERS = STORE_LOOK + 5 };
    struct rig *g = *state;
    struct bytes *graph = bytes_of("{}");
    size_t n = 0;

    rig_run(g, ID(1), ONE_IMAGE);
    for (int i = 0; i < OTHERS; i++) {
        char id[UUID_SIZE];
        struct store_submit in = {.id = id, .tenant = "default", .graph = graph, .answer = graph};
        struct store_step step = {.id = id, .version = 1, .state = JOB_SUCCEEDED};

        snprintf(id, sizeof(id), "0198c000-0000-7000-8000-%012d", 1000 + i);
        store_submit(g->store, &in, on_any_submit, &n);
        store_step(g->store, &step, on_any, NULL);
    }
    bytes_unref(graph);
    UNTIL(g, n == OTHERS);
    assert_int_equal(GET(g, JOBS "?kind=image&view=brief"), 200);
    assert_at(g, "jobs", "[]");
    assert_string_not_equal(at(g, "next"), "null");
    assert_int_equal(askf(g, "GET", JOBS "?kind=image&view=brief&after=%s", at(g, "next")), 200);
    assert_at(g, "jobs.0.id", ID(1));
    assert_at(g, "next", "null");
}

/* --- the summary --- */

#define NO_JOBS "\"collecting\": 0, \"succeeded\": 0, \"failed\": 0, \"canceled\": 0, \"expired\": 0}"

static void test_summary(void **state)
{
    struct rig *g = *state;
    struct job_error error = {.code = JOB_STALLED};

    assert_int_equal(GET(g, "/mux/v1/summary"), 200);
    assert_string_equal(g->body, "{\"jobs\": {\"queued\": 0, \"dispatching\": 0, \"running\": 0, " NO_JOBS
                                 ", \"servers\": {\"up\": 1, \"suspect\": 0, \"down\": 1, \"fenced\": 0, "
                                 "\"draining\": 0}, \"ready\": true, "
                                 "\"reason\": null, \"version\": \"" COMFYMUX_VERSION
                                 "\", \"uptime_ms\": 0, \"frontend\": false}");
    rig_run(g, ID(1), ONE_IMAGE);
    rig_run(g, ID(2), ONE_IMAGE);
    rig_stored(g, ID(3), JOB_FAILED, &error);
    rig_submit(g, ID(4));
    rig_accept(g);
    rig_event(g, ID(4), "execution_start", "");
    rig_submit(g, ID(5));
    rig_submit(g, ID(6));
    assert_int_equal(POST(g, URL ID(6) "/cancel"), 200);
    g->now = 1234;
    g->reg.v[0].state = FLEET_DRAINING;
    g->reg.primary = "gpu1";
    assert_int_equal(GET(g, "/mux/v1/summary"), 200);
    assert_at(g, "jobs",
              "{\"queued\": 1, \"dispatching\": 0, \"running\": 1, \"collecting\": 0, \"succeeded\": 2, "
              "\"failed\": 1, \"canceled\": 1, \"expired\": 0}");
    assert_at(g, "servers.draining", "1");
    assert_at(g, "ready", "false");
    assert_at(g, "reason", "no server is usable");
    assert_at(g, "uptime_ms", "1234");
    assert_at(g, "frontend", "true");
}

static int setup_starting(void **state)
{
    *state = rig_open();
    return 0;
}

static void test_starting(void **state)
{
    struct rig *g = *state;

    rig_stored(g, ID(1), JOB_FAILED, NULL);
    assert_int_equal(GET(g, "/mux/v1/summary"), 200);
    assert_at(g, "ready", "false");
    assert_non_null(strstr(at(g, "reason"), "starting"));
    assert_at(g, "jobs.failed", "1");
    assert_int_equal(GET(g, JOBS "?view=brief"), 200);
    assert_int_equal(GET(g, URL ID(1) "/workflow"), 200);
    assert_int_equal(GET(g, URL ID(1) "/log"), 200);
    assert_int_equal(GET(g, "/mux/v1/servers/gpu0"), 200);
}

/* --- the workflow --- */

#define ODD_GRAPH                                                                                            \
    "{\"3\" :{\"class_type\": \"X\",\"inputs\":{\"seed\": 18446744073709551616, \"cfg\":5.0, \"z\": -0, "    \
    "\"s\": "                                                                                                \
    "\"\\ud800\",\"seed\":1e400}}}"

static void test_workflow(void **state)
{
    struct rig *g = *state;
    char id[UUID_SIZE];

    assert_int_equal(ask(g, "POST", "/prompt",
                         "{\"prompt\": " ODD_GRAPH ", \"extra_data\": {\"a\" : 1.50, \"window_id\": \"w\"}, "
                         "\"partial_execution_targets\": [\"3\"]}"),
                     200);
    snprintf(id, sizeof(id), "%.36s", at(g, "prompt_id"));
    assert_int_equal(askf(g, "GET", URL "%s/workflow", id), 200);
    assert_at(g, "prompt", ODD_GRAPH);
    assert_at(g, "extra_data.a", "1.50");
    assert_at(g, "extra_data.window_id", "(none)");
    assert_at(g, "outputs_to_execute", "[\"3\"]");
    assert_int_equal(json_count(g->json), 3);
    assert_int_equal(askf(g, "GET", URL "%s/workflow?download=1", id), 200);
    assert_string_equal(g->body, ODD_GRAPH);
    assert_non_null(strstr(g->headers, "Content-Disposition: attachment; filename=\""));
    assert_non_null(strstr(g->headers, ".json\"\r\n"));
    assert_int_equal(askf(g, "GET", URL "%s/workflow?download=0", id), 200);
    assert_at(g, "prompt", ODD_GRAPH);
    assert_int_equal(askf(g, "HEAD", URL "%s/workflow", id), 200);
    assert_string_equal(g->body, "");
}

static void test_workflow_states(void **state)
{
    struct rig *g = *state;
    struct mem_store *m = container_of(g->store, struct mem_store, base.store);
    struct job_record *rec;

    rig_run(g, ID(1), ONE_IMAGE);
    rig_stored(g, ID(2), JOB_FAILED, NULL);
    rig_stored(g, ID(3), JOB_EXPIRED, NULL);
    rig_submit(g, ID(4));
    rig_submit(g, ID(5));
    assert_int_equal(POST(g, URL ID(5) "/cancel"), 200);
    for (int n = 1; n <= 5; n++)
        assert_int_equal(askf(g, "GET", URL "0198c000-0000-7000-8000-00000000000%d/workflow", n), 200);
    assert_int_equal(GET(g, URL ID(2) "/workflow"), 200);
    assert_string_equal(g->body, "{\"prompt\": {}, \"extra_data\": {}, \"outputs_to_execute\": null}");
    GET(g, URL ID(9) "/workflow");
    assert_error(g, 404, "not_found");
    GET(g, URL "x/workflow");
    assert_error(g, 404, "not_found");
    GET(g, URL ID(1) "/workflow?download=yes");
    assert_error(g, 400, "bad_request");
    POST(g, URL ID(1) "/workflow");
    assert_error(g, 405, "method_not_allowed");
    rec = mem_job_find(m, ID(2))
              ->rec; /* nothing removes it while the job is kept; but a database may be older */
    bytes_unref(rec->graph);
    rec->graph = NULL;
    GET(g, URL ID(2) "/workflow");
    assert_error(g, 410, "expired");
}

/* --- the log --- */

static void test_log(void **state)
{
    struct rig *g = *state;
    struct clock *sys = clock_system();

    g->now = sys->wall_ms(sys) - T0 - 1000; /* a job from before anything was kept */
    rig_submit(g, ID(1));
    assert_int_equal(GET(g, URL ID(1) "/log"), 200);
    assert_string_equal(g->body, "{\"lines\": [], \"complete\": false}");
    log_keep(10000);
    g->now += 1000000;
    rig_accept(g);
    rig_submit(g, ID(2));
    assert_int_equal(GET(g, URL ID(1) "/log"), 200);
    assert_at(g, "complete", "false");
    assert_at(g, "lines.0.level", "info");
    assert_non_null(strstr(at(g, "lines.0.text"), "result=accepted"));
    assert_int_equal(GET(g, URL ID(2) "/log"), 200);
    assert_at(g, "complete", "true");
    assert_non_null(strstr(at(g, "lines.0.text"), "state=queued event=accepted"));
    assert_true(atoll(at(g, "lines.0.at")) > 1600000000000);
    assert_at(g, "lines.1", "(none)");
    log_error(LOG_S("job", ID(2)), LOG_S("why", "\"quoted\" \xff \x01"));
    assert_int_equal(GET(g, URL ID(2) "/log"), 200); /* JSON, whatever was logged */
    assert_at(g, "lines.1.level", "error");
    for (int i = 0; i < 300; i++)
        log_info(LOG_S("job", ID(3)), LOG_S("event", "much to say"));
    assert_int_equal(GET(g, URL ID(2) "/log"), 200);
    assert_at(g, "lines", "[]");
    GET(g, URL ID(3) "/log");
    assert_error(g, 404, "not_found"); /* there are lines, but no such job */
    GET(g, URL "x/log");
    assert_error(g, 404, "not_found");
    log_keep(0);
}

/* --- from other origins --- */

static void from(struct rig *g, const char *method, const char *target, const char *fields,
                 const char *origin)
{
    char *all = xasprintf("Origin: %s\r\n%s", origin, fields);

    client_send(g, method, target, all, "");
    client_answer(g);
    free(all);
}

static bool says(struct rig *g, const char *field, const char *token)
{
    const char *line = strcasestr(g->headers, field), *end;

    while (line) {
        end = strstr(line, "\r\n");
        for (const char *p = line; (p = strcasestr(p, token)) != NULL && p < end; p++)
            if (strchr(", :", p[-1]) && strchr(",\r", p[strlen(token)]))
                return true;
        line = strcasestr(end, field);
    }
    return false;
}

#define PAGE "https://studio.example"
#define PREFLIGHT                                                                                            \
    "Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: "                                \
    "content-type,x-comfymux-window\r\n"

static void allow(struct rig *g, const char *origin)
{
    static const char *cors[2];
    struct api_config cfg = {
        .json_max = 1 << 20, .upload_max = 1 << 20, .nodes_max = 1000, .clients_max = 10};

    cors[0] = origin;
    cfg.cors = cors;
    api_set_config(g->api, &cfg);
}

static void test_origins(void **state)
{
    static const char *const wanted[] = {"content-type", "x-comfymux-window", "last-event-id",
                                         "if-none-match", "idempotency-key"};
    static const char *const shown[] = {"etag", "location", "content-disposition", "retry-after",
                                        "last-modified"};
    static const char *const methods[] = {"GET", "POST", "DELETE"};
    struct rig *g = *state;

    rig_run(g, ID(1), ONE_IMAGE);
    from(g, "OPTIONS", "/mux/v1/servers", PREFLIGHT, PAGE);
    assert_int_equal(g->status, 403);
    allow(g, PAGE);
    from(g, "OPTIONS", "/mux/v1/servers", PREFLIGHT, PAGE);
    assert_int_equal(g->status, 200);
    assert_true(says(g, "Access-Control-Allow-Origin", PAGE));
    for (size_t i = 0; i < ARRAY_LEN(wanted); i++)
        assert_true(says(g, "Access-Control-Allow-Headers", wanted[i]));
    for (size_t i = 0; i < ARRAY_LEN(methods); i++)
        assert_true(says(g, "Access-Control-Allow-Methods", methods[i]));
    assert_true(says(g, "Vary", "Origin"));
    assert_true(says(g, "Access-Control-Max-Age", "600")); /* or each poll would be two requests */
    from(g, "OPTIONS", "/mux/v1/servers", PREFLIGHT, "https://evil.example");
    assert_int_equal(g->status, 403);
    assert_false(says(g, "Access-Control-Allow-Origin", PAGE));
    from(g, "GET", URL ID(1) "/outputs/0", "", PAGE);
    assert_int_equal(g->status, 200);
    assert_true(says(g, "Access-Control-Allow-Origin", PAGE));
    for (size_t i = 0; i < ARRAY_LEN(shown); i++)
        assert_true(says(g, "Access-Control-Expose-Headers", shown[i]));
    /* what an <img> got without asking is no answer for a page that asks: caches are told so */
    assert_int_equal(GET(g, URL ID(1) "/outputs/0"), 200);
    assert_true(says(g, "Vary", "Origin"));
    assert_null(strstr(g->headers, "Access-Control"));
    from(g, "GET", URL ID(1) "/outputs/0", "", "https://evil.example");
    assert_true(says(g, "Vary", "Origin"));
    assert_null(strstr(g->headers, "Access-Control"));
    from(g, "POST", "/mux/v1/servers/gpu0/drain", "", "https://evil.example");
    assert_int_equal(g->status, 403);
    from(g, "POST", "/mux/v1/servers/gpu0/drain", "", PAGE);
    assert_int_equal(g->status, 200);
    allow(g, "*");
    from(g, "OPTIONS", "/mux/v1/servers", PREFLIGHT, "https://any.example");
    assert_int_equal(g->status, 200);
    assert_true(says(g, "Access-Control-Allow-Origin", "*"));
    assert_false(says(g, "Vary", "Origin"));
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(test_##name, rig_setup, rig_teardown)
    static const struct CMUnitTest tests[] = {
        T(brief),
        T(brief_few),
        T(kind),
        T(kind_far_away),
        T(summary),
        T(workflow),
        T(workflow_states),
        T(log),
        T(origins),
        cmocka_unit_test_setup_teardown(test_starting, setup_starting, rig_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
