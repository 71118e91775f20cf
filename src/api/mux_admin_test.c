/* Servers, windows, health, metrics. */
#include "api/mux_rig_test.h"

#include "api/windows.h"

#define SERVERS "/mux/v1/servers"
#define NO_STATS                                                                                             \
    "\"stats\": {\"successes\": 0, \"failures\": 0, \"fences\": 0, \"restarts\": 0, \"questions\": 0}"

/* --- servers --- */

static void test_servers(void **state)
{
    struct rig *g = *state;

    rig_submit(g, ID(1)); /* bound to gpu0 */
    rig_submit(g, ID(2)); /* waits */
    assert_int_equal(GET(g, SERVERS), 200);
    assert_string_equal(
        g->body,
        "{\"servers\": [{\"name\": \"gpu0\", \"url\": \"http://10.0.0.5:8188\", \"state\": \"up\", "
        "\"reason\": null, \"depth\": 1, \"tags\": [\"big\"], \"running\": [\"" ID(
            1) "\"], \"jobs\": [{\"id\": \"" ID(1) "\", \"state\": \"dispatching\", \"progress\": "
                                                   "{\"value\": 0, \"max\": 0, \"node\": null}, "
                                                   "\"started_at\": null}], \"queue\": 3, "
                                                   "\"version\": \"0.3.64\", \"nodes\": 700, \"last_seen\": "
                                                   "1699999999960, " NO_STATS
                                                   ", \"recent\": null}, {\"name\": \"gpu1\", \"url\": "
                                                   "\"http://10.0.0.6:8188\", \"state\": \"down\", "
                                                   "\"reason\": \"connection refused\", "
                                                   "\"depth\": 2, "
                                                   "\"tags\": [], \"running\": [], \"jobs\": [], \"queue\": "
                                                   "null, \"version\": null, "
                                                   "\"nodes\": 0, \"last_seen\": null, " NO_STATS
                                                   ", \"recent\": null}]}");
    g->reg.n = 0;
    assert_int_equal(GET(g, SERVERS), 200);
    assert_string_equal(g->body, "{\"servers\": []}");
}

static void test_servers_add(void **state)
{
    struct rig *g = *state;

    assert_int_equal(
        ask(g, "POST", SERVERS,
            "{\"url\": \"http://10.0.0.7:8188\", \"name\": \"gpu2\", \"depth\": 4, \"tags\": [\"a\"]}"),
        201);
    assert_string_equal(g->reg.asked, "add gpu2 http://10.0.0.7:8188 4 [\"a\"]");
    assert_at(g, "name", "gpu2");
    assert_at(g, "state", "down");
    g->reg.n = 2;
    assert_int_equal(ask(g, "POST", SERVERS, "{\"url\": \"http://10.0.0.7\"}"), 201);
    assert_string_equal(g->reg.asked, "add 10.0.0.7:80 http://10.0.0.7 1 -");
    g->reg.n = 2;
    assert_int_equal(ask(g, "POST", SERVERS, "{\"url\": \"https://[::1]:9/x\", \"name\": null}"), 201);
    assert_string_equal(g->reg.asked, "add [::1]:9 https://[::1]:9/x 1 -");
    g->reg.n = 2;
    g->reg.end = REGISTRY_EXISTS;
    ask(g, "POST", SERVERS, "{\"url\": \"http://a:1\", \"name\": \"gpu0\"}");
    assert_error(g, 409, "conflict");
    g->reg.end = REGISTRY_BAD;
    g->reg.why = "this host has no address";
    ask(g, "POST", SERVERS, "{\"url\": \"http://a:1\"}");
    assert_error(g, 400, "bad_request");
    assert_at(g, "error.message", "this host has no address");
    g->reg.end = REGISTRY_FAILED;
    g->reg.why = NULL;
    ask(g, "POST", SERVERS, "{\"url\": \"http://a:1\"}");
    assert_error(g, 503, "storage_failed");
}

/* A page shows what is wrong beside the field that it is about: its name comes first. */
static void test_servers_add_says(void **state)
{
    static const struct {
        const char *body, *begins;
    } cases[] = {{"{}", "url "},
                 {"{\"url\": 5}", "url "},
                 {"{\"url\": \"gpu:8188\"}", "url: "},
                 {"{\"url\": \"http://a\", \"name\": \"a b\"}", "name "},
                 {"{\"url\": \"http://a\", \"name\": 3}", "name "},
                 {"{\"url\": \"http://a\", \"depth\": 0}", "depth "},
                 {"{\"url\": \"http://a\", \"tags\": [1]}", "tags "},
                 {"{\"url\": \"http://a\", \"tag\": 1}", "unknown key \\\"tag\\\""},
                 {"nonsense", "the body is not JSON: "},
                 {"5", "the body is not a JSON object"}};
    struct rig *g = *state;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        ask(g, "POST", SERVERS, cases[i].body);
        assert_error(g, 400, "bad_request");
        assert_memory_equal(at(g, "error.message"), cases[i].begins, strlen(cases[i].begins));
    }
}

static void test_servers_add_bad(void **state)
{
    static const char *const bad[] = {
        "",
        "{",
        "[]",
        "\"http://a:1\"",
        "{}",
        "{\"url\": 5}",
        "{\"url\": \"\"}",
        "{\"url\": \"gpu:8188\"}",
        "{\"url\": \"ftp://a\"}",
        "{\"url\": \"http://\"}",
        "{\"url\": \"http://a\\u0000b\"}",
        "{\"url\": \"http://a\", \"name\": \"\"}",
        "{\"url\": \"http://a\", \"name\": 3}",
        "{\"url\": \"http://a\", \"name\": \"a/b\"}",
        "{\"url\": \"http://a\", \"name\": \"a b\"}",
        "{\"url\": \"http://a\", \"name\": "
        "\"0123456789012345678901234567890123456789012345678901234567890123x\"}",
        "{\"url\": \"http://a\", \"depth\": 0}",
        "{\"url\": \"http://a\", \"depth\": 65}",
        "{\"url\": \"http://a\", \"depth\": 1.0}",
        "{\"url\": \"http://a\", \"depth\": \"2\"}",
        "{\"url\": \"http://a\", \"tags\": \"big\"}",
        "{\"url\": \"http://a\", \"tags\": [1]}",
        "{\"url\": \"http://a\", \"tag\": []}",
    };
    struct rig *g = *state;
    char *big = xcalloc(1, 65538);

    memset(big, ' ', 65537);
    ask(g, "POST", SERVERS, big);
    assert_error(g, 413, "payload_too_large");
    free(big);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        ask(g, "POST", SERVERS, bad[i]);
        assert_error(g, 400, "bad_request");
    }
    assert_string_equal(g->reg.asked, "");
    client_send(g, "POST", SERVERS, "Origin: http://evil.example\r\n", "{\"url\": \"http://a:1\"}");
    assert_int_equal(client_answer(g), 403);
    assert_string_equal(g->reg.asked, "");
}

static void test_servers_change(void **state)
{
    struct rig *g = *state;

    assert_int_equal(POST(g, SERVERS "/gpu0/drain"), 200);
    assert_string_equal(g->reg.asked, "drain gpu0");
    assert_at(g, "name", "gpu0");
    assert_int_equal(POST(g, SERVERS "/gpu0/resume"), 200);
    assert_string_equal(g->reg.asked, "resume gpu0");
    assert_int_equal(ask(g, "DELETE", SERVERS "/10.0.0.7%3a80", NULL), 200);
    assert_string_equal(g->reg.asked, "remove 10.0.0.7:80");
    assert_at(g, "servers.0.name", "gpu0");
    assert_int_equal(ask(g, "DELETE", SERVERS "/gpu0?force=0", NULL), 200);
    assert_string_equal(g->reg.asked, "remove gpu0");
    assert_int_equal(ask(g, "DELETE", SERVERS "/gpu0?force=1", NULL), 200);
    assert_string_equal(g->reg.asked, "remove gpu0 by force");

    g->reg.end = REGISTRY_BUSY;
    ask(g, "DELETE", SERVERS "/gpu0", NULL);
    assert_error(g, 409, "conflict");
    assert_non_null(strstr(at(g, "error.message"), "force=1"));
    g->reg.end = REGISTRY_NO_SERVER;
    ask(g, "DELETE", SERVERS "/gpu9", NULL);
    assert_error(g, 404, "not_found");
    POST(g, SERVERS "/gpu9/drain");
    assert_error(g, 404, "not_found");
    POST(g, SERVERS "/gpu9/resume");
    assert_error(g, 404, "not_found");
    g->reg.asked[0] = '\0';
    ask(g, "DELETE", SERVERS "/gpu0?force=maybe", NULL);
    assert_error(g, 400, "bad_request");
    client_send(g, "DELETE", SERVERS "/gpu0?force=1", "Origin: http://evil.example\r\n", "");
    assert_int_equal(client_answer(g), 403);
    assert_string_equal(g->reg.asked, "");
    GET(g, SERVERS "/gpu0/drain");
    assert_error(g, 405, "method_not_allowed");
    ask(g, "PUT", SERVERS "/gpu0", NULL);
    assert_error(g, 405, "method_not_allowed");
}

/* --- windows --- */

static void test_windows(void **state)
{
    struct rig *g = *state;

    assert_int_equal(GET(g, "/mux/v1/windows"), 200);
    assert_string_equal(g->body, "{\"windows\": []}");
    rig_submit(g, ID(1));
    g->now = 10;
    rig_submit_in(g, (struct store_submit){.id = ID(2), .client_id = "b"});
    g->now = 20;
    rig_submit_in(g, (struct store_submit){.id = ID(3), .client_id = "client-c", .window_id = "win-1"});
    assert_int_equal(GET(g, "/mux/v1/windows"), 200);
    assert_string_equal(
        g->body,
        "{\"windows\": [{\"window_id\": \"win-1\", \"client_ids\": [\"client-c\", \"client-a\"], "
        "\"last_seen\": "
        "1700000000020, \"jobs\": [{\"id\": \"" ID(
            3) "\", \"state\": \"queued\", \"server\": null, \"client_id\": "
               "\"client-c\", \"registered_at\": 1700000000020}, {\"id\": \"" ID(
                   1) "\", \"state\": \"dispatching\", "
                      "\"server\": \"gpu0\", \"client_id\": \"client-a\", \"registered_at\": "
                      "1700000000000}]}, {\"window_id\": null, "
                      "\"client_ids\": [\"b\"], \"last_seen\": 1700000000010, \"jobs\": [{\"id\": \"" ID(
                          2) "\", \"state\": "
                             "\"queued\", \"server\": null, \"client_id\": \"b\", \"registered_at\": "
                             "1700000000010}]}]}");
    /* a window that only asks is heard of; one that never submitted is not listed */
    g->now = 500;
    client_send(g, "GET", "/healthz", "X-Comfymux-Window: win-1\r\n", "");
    assert_int_equal(client_answer(g), 200);
    client_send(g, "GET", "/healthz", "X-Comfymux-Window: nobody\r\n", "");
    assert_int_equal(client_answer(g), 200);
    assert_int_equal(GET(g, "/mux/v1/windows"), 200);
    assert_at(g, "windows.0.last_seen", "1700000000500");
    assert_at(g, "windows.2", "(none)");
}

static int setup_closed(void **state)
{
    *state = rig_open();
    return 0;
}

/* After a restart: what has ended comes from the store, what lives from the runner, and the order is the same. */
static void test_windows_restart(void **state)
{
    struct rig *g = *state;
    struct bytes *graph = bytes_of("{}");
    int done = 0;

    for (int i = 0; i < 4; i++) {
        char id[UUID_SIZE];
        struct store_submit in = {.id = id,
                                  .tenant = "default",
                                  .client_id = i % 2 ? "c1" : "c0",
                                  .window_id = "w",
                                  .graph = graph,
                                  .answer = graph,
                                  .created_at = T0 + i};
        struct store_step step = {.id = id, .version = 1, .at = T0 + 10 + i, .state = JOB_SUCCEEDED};

        snprintf(id, sizeof(id), "0198c000-0000-7000-8000-00000000000%d", i);
        store_submit(g->store, &in, rig_submitted, &done);
        if (i != 2)
            store_step(g->store, &step, on_rig_done, &done);
    }
    bytes_unref(graph);
    UNTIL(g, done == 7);
    rig_runner(g, 100);
    rig_turn(g);
    assert_int_equal(GET(g, "/mux/v1/windows"), 200);
    for (int i = 0; i < 4; i++) {
        char path[32], id[UUID_SIZE];

        snprintf(path, sizeof(path), "windows.0.jobs.%d.id", i);
        snprintf(id, sizeof(id), "0198c000-0000-7000-8000-00000000000%d", 3 - i);
        assert_at(g, path, id);
    }
    assert_at(g, "windows.0.jobs.1.state", "dispatching");
    assert_at(g, "windows.0.jobs.0.state", "succeeded");
    assert_at(g, "windows.0.last_seen", "1700000000013");
    assert_at(g, "windows.1", "(none)");
}

/* It goes away while the store has not answered. */
static void test_windows_early_end(void **state)
{
    struct rig *g = *state;
    struct windows *w = windows_new(&g->clock);

    rig_runner(g, 100);
    g->held = true;
    windows_start(w, g->runner, g->store);
    windows_start(w, g->runner, g->store); /* twice: the first answer is not waited for any more */
    windows_free(&w);
    assert_null(w);
    store_mem_settle(g->store);
    windows_free(&w);
}

/* A change that comes while the store is being read is newer than what was read. */
static void test_windows_overtaken(void **state)
{
    struct rig *g = *state;
    struct windows *w;
    struct job_summary s = {.id = ID(1), .state = JOB_SUCCEEDED, .tenant = (char *)(uintptr_t) "default"};
    struct buf b = BUF_INIT;
    struct jsonw j;

    rig_runner(g, 100);
    rig_stored(g, ID(1), JOB_RUNNING, NULL);
    w = windows_new(&g->clock);
    g->held = true;
    windows_start(w, g->runner, g->store);
    windows_on_change(w, &s);
    store_mem_settle(g->store);
    jsonw_init(&j, &b);
    windows_put(w, "default", &j);
    assert_non_null(strstr(buf_str(&b), "succeeded"));
    assert_null(strstr(buf_str(&b), "running"));
    buf_free(&b);
    windows_free(&w);
}

static int count(const char *text, const char *what)
{
    size_t left = strlen(text), n = strlen(what);
    int found = 0;

    /* not strstr(): the sanitizer measures the whole text at each call */
    for (const char *p; (p = memmem(text, left, what, n)) != NULL; found++) {
        left -= (size_t)(p + n - text);
        text = p + n;
    }
    return found;
}

/* However many come, what is kept is bounded, and the newest is there. */
static void test_windows_bounds(void **state)
{
    struct rig *g = *state;
    struct windows *w = windows_new(&g->clock);
    struct buf b = BUF_INIT;
    struct json whole;
    struct jsonw j;
    char window[32], client[32], *longer = xcalloc(1, WINDOWS_ID_MAX + 2);
    struct job_summary s = {.tenant = (char *)(uintptr_t) "t", .window_id = window, .client_id = client};

    for (int i = 0; i < WINDOWS_MAX + 5; i++) {
        snprintf(s.id, sizeof(s.id), "job-%d", i);
        snprintf(window, sizeof(window), "w%d", i);
        snprintf(client, sizeof(client), "c%d", i);
        s.seq = s.created_at = s.state_at = i + 1;
        windows_on_change(w, &s);
    }
    jsonw_init(&j, &b);
    windows_put(w, "t", &j);
    assert_int_equal(count(buf_str(&b), "window_id"), WINDOWS_MAX);
    assert_null(strstr(buf_str(&b), "\"w4\""));
    assert_non_null(strstr(buf_str(&b), "\"w5\""));
    assert_non_null(strstr(buf_str(&b), "\"w10004\""));

    for (int i = 0; i < WINDOWS_JOBS + 7; i++) { /* one busy window: its clients and all jobs are bounded */
        snprintf(s.id, sizeof(s.id), "more-%d", i);
        snprintf(window, sizeof(window), "busy");
        snprintf(client, sizeof(client), "k%d", i % 100);
        s.seq = s.created_at = s.state_at = 20000 + i;
        windows_on_change(w, &s);
    }
    buf_clear(&b);
    jsonw_init(&j, &b);
    windows_put(w, "t", &j);
    assert_int_equal(count(buf_str(&b), "\"id\""), WINDOWS_JOBS);
    assert_int_equal(count(buf_str(&b), "window_id"), WINDOWS_MAX);
    assert_null(strstr(buf_str(&b), "\"job-"));
    assert_null(strstr(buf_str(&b), "\"more-6\""));
    assert_non_null(strstr(buf_str(&b), "\"more-7\""));
    assert_true(strncmp(buf_str(&b), "{\"windows\": [{\"window_id\": \"busy\"", 32) == 0);

    assert_int_equal(json_check(buf_str(&b), b.len, NULL, &whole, NULL), 0);
    assert_int_equal(json_count(json_get(json_at(json_get(whole, "windows"), 0), "client_ids")),
                     WINDOWS_CLIENTS);

    s.tenant = (char *)(uintptr_t) "team"; /* begins like the other */
    snprintf(s.id, sizeof(s.id), "foreign");
    windows_on_change(w, &s);
    s.tenant = (char *)(uintptr_t) "t";
    memset(longer, 'x', WINDOWS_ID_MAX + 1);
    s.window_id = longer;
    snprintf(s.id, sizeof(s.id), "long");
    windows_on_change(w, &s);
    buf_clear(&b);
    jsonw_init(&j, &b);
    windows_put(w, "t", &j);
    assert_null(strstr(buf_str(&b), "\"long\""));
    assert_null(strstr(buf_str(&b), "\"foreign\""));
    buf_clear(&b);
    jsonw_init(&j, &b);
    windows_put(w, "u", &j);
    assert_string_equal(buf_str(&b), "{\"windows\": []}");
    free(longer);
    buf_free(&b);
    windows_free(&w);
}

/* --- health --- */

static void test_health(void **state)
{
    struct rig *g = *state;

    assert_int_equal(GET(g, "/healthz"), 200);
    assert_string_equal(g->body, "ok");
    assert_int_equal(GET(g, "/readyz"), 200);
    assert_string_equal(g->body, "{\"ready\": true, \"reason\": null}");
    g->reg.v[0].state = FLEET_SUSPECT;
    assert_int_equal(GET(g, "/readyz"), 503);
    assert_string_equal(g->body, "{\"ready\": false, \"reason\": \"no server is usable\"}");
    g->reg.n = 0;
    assert_int_equal(GET(g, "/readyz"), 503);
    assert_at(g, "reason", "no server is configured");
    rig_servers(g);
    assert_int_equal(GET(g, "/readyz"), 200);
    api_drain(g->api);
    assert_int_equal(GET(g, "/readyz"), 503);
    assert_at(g, "reason", "draining");
    assert_int_equal(GET(g, "/healthz"), 200);
}

static void test_health_starting(void **state)
{
    struct rig *g = *state;

    assert_int_equal(GET(g, "/healthz"), 200);
    assert_int_equal(GET(g, "/readyz"), 503);
    assert_non_null(strstr(at(g, "reason"), "starting"));
    assert_int_equal(GET(g, "/metrics"), 200);
    assert_int_equal(GET(g, SERVERS), 200);
    assert_int_equal(GET(g, "/mux/v1/windows"), 200);
}

/* --- metrics --- */

/* Every line is a comment or a sample; every sample's family has been announced, once, with help and type. */
static void assert_prometheus(const char *text)
{
    char family[128] = "", once[132], type[32];
    struct buf seen = BUF_INIT;
    char *copy = strdup(text), *save, *line;

    assert_int_equal(text[strlen(text) - 1], '\n');
    for (line = strtok_r(copy, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        if (strncmp(line, "# HELP ", 7) == 0) {
            assert_int_equal(sscanf(line, "# HELP %127s", family), 1);
            snprintf(once, sizeof(once), " %s ", family);
            assert_null(strstr(buf_str(&seen), once));
            buf_puts(&seen, once);
        } else if (strncmp(line, "# TYPE ", 7) == 0) {
            char name[128];

            assert_int_equal(sscanf(line, "# TYPE %127s %31s", name, type), 2);
            assert_string_equal(name, family);
            if (strcmp(type, "counter") == 0)
                assert_string_equal(name + strlen(name) - 6, "_total");
            else if (strcmp(type, "histogram") != 0)
                assert_string_equal(type, "gauge");
        } else {
            char *value = strrchr(line, ' '), *end;

            assert_int_equal(strncmp(line, family, strlen(family)), 0);
            assert_true(line[strlen(family)] == ' ' || line[strlen(family)] == '{' ||
                        strcmp(type, "histogram") == 0);
            assert_non_null(value);
            strtod(value + 1, &end);
            assert_int_equal(*end, '\0');
        }
    }
    free(copy);
    buf_free(&seen);
}

static void assert_metric(struct rig *g, const char *sample)
{
    char *line = xasprintf("\n%s\n", sample);

    if (strstr(g->body, line) == NULL)
        fail_msg("no %s in %s", sample, g->body);
    free(line);
}

static void test_metrics(void **state)
{
    struct rig *g = *state;

    assert_int_equal(GET(g, "/metrics"), 200);
    assert_non_null(strstr(g->headers, "Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"));
    assert_prometheus(g->body);
    assert_int_equal(count(g->body, "\ncomfymux_jobs_ended_total{"), JOB_CODES);
    assert_metric(g, "comfymux_jobs_ended_total{state=\"failed\",code=\"server_lost\"} 0");
    assert_metric(g, "comfymux_ready 1");
    rig_run(g, ID(1), ONE_IMAGE);
    rig_submit(g, ID(2));
    rig_submit(g, ID(3));
    rig_submit(g, ID(4));
    assert_int_equal(POST(g, "/mux/v1/jobs/" ID(4) "/cancel"), 200);
    assert_int_equal(GET(g, "/metrics"), 200);
    assert_prometheus(g->body);
    assert_metric(g, "comfymux_jobs{state=\"queued\"} 1");
    assert_metric(g, "comfymux_jobs{state=\"dispatching\"} 1");
    assert_metric(g, "comfymux_jobs_accepted_total 4");
    assert_metric(g, "comfymux_job_attempts_total 2");
    assert_metric(g, "comfymux_jobs_ended_total{state=\"succeeded\",code=\"ok\"} 1");
    assert_metric(g, "comfymux_jobs_ended_total{state=\"canceled\",code=\"canceled\"} 1");
    assert_metric(g, "comfymux_servers{state=\"up\"} 1");
    assert_metric(g, "comfymux_servers{state=\"down\"} 1");
    assert_metric(g, "comfymux_blob_bytes 14");
    assert_metric(g, "comfymux_blobs 1");
    assert_metric(g, "comfymux_submit_commit_duration_seconds_count 4");
    assert_metric(g, "comfymux_job_state_duration_seconds_count{state=\"queued\"} 3");
    assert_metric(g, "comfymux_job_state_duration_seconds_bucket{state=\"collecting\",le=\"+Inf\"} 1");
    assert_metric(g, "comfymux_job_duration_seconds_count{state=\"canceled\"} 1");
    assert_metric(g, "comfymux_http_request_duration_seconds_count{class=\"mux\"} 1");
    assert_metric(g, "comfymux_http_request_duration_seconds_count{class=\"health\"} 1");
    assert_metric(g, "comfymux_server_state{server=\"gpu0\",state=\"up\"} 1");
    assert_metric(g, "comfymux_server_up{server=\"gpu0\"} 1");
    assert_metric(g, "comfymux_server_prompts{server=\"gpu0\"} 1");
    assert_non_null(strstr(g->body, "\ncomfymux_job_oldest_waiting_seconds "));
    assert_non_null(strstr(g->body, "\nprocess_open_fds "));
    assert_non_null(strstr(g->body, "\nprocess_start_time_seconds "));
    assert_metric(g, "comfymux_store_jobs_finished 2");
    assert_metric(g, "comfymux_store_memory_bytes 0");
    assert_metric(g, "comfymux_websockets 0");
    assert_non_null(strstr(g->body, "\nprocess_resident_memory_bytes "));
    assert_null(strstr(g->body, "\nprocess_resident_memory_bytes 0\n"));
    assert_non_null(strstr(g->body, "\nprocess_threads "));
}

/* An attempt that did not start is counted as begun and queued again. */
static void test_metrics_requeued(void **state)
{
    struct rig *g = *state;
    struct call c;

    rig_submit(g, ID(1));
    c = g->reg.submit;
    g->reg.submit.open = false;
    c.cb.submit(&(struct fleet_submitted){.end = FLEET_REFUSED, .why = "connection refused"}, c.arg);
    rig_turn(g);
    assert_int_equal(GET(g, "/metrics"), 200);
    assert_metric(g, "comfymux_job_requeues_total 1");
    assert_metric(g, "comfymux_jobs_ended_total{state=\"failed\",code=\"dispatch_failed\"} 0");
}

/* --- paths --- */

/* However it is spelt, a route of ours is answered here, and what a server might read as another path goes to none. */
static void test_one_spelling(void **state)
{
    static const char *const ours[] = {"/%68istory", "/hist%6fry", "/%61pi/history", "/api/%68istory",
                                       "/%76iew?filename=a.png"};
    static const char *const nobody[] = {"/%69nternal/folder_paths",
                                         "/internal/folder_paths",
                                         "//internal/folder_paths",
                                         "/x/../history",
                                         "/x/%2e%2e/history",
                                         "/./history",
                                         "/x/..",
                                         "/x\\history",
                                         "/x%5c..%5chistory",
                                         "/models/../history",
                                         "/models/%2e%2e/history"};
    struct rig *g = *state;

    for (size_t i = 0; i < ARRAY_LEN(ours); i++)
        assert_int_equal(GET(g, ours[i]), i == 4 ? 404 : 200);
    assert_string_equal(g->body, "");
    assert_int_equal(GET(g, "/%68istory"), 200);
    assert_string_equal(g->body, "{}");
    for (size_t i = 0; i < ARRAY_LEN(nobody); i++) {
        int status = GET(g, nobody[i]);

        if (status != 404 && status != 400)
            fail_msg("%s: %d", nobody[i], status);
    }
    assert_int_equal(GET(g, "/some/route"), 502); /* there is no primary here */
}

/* Each change once: what is committed within a state is neither a new job nor a new attempt. */
static void test_counts(void **state)
{
    static const struct {
        enum job_state from, to;
        uint32_t version;
        enum job_code code;
    } life[] = {{JOB_QUEUED, JOB_QUEUED, 1, JOB_OK},          {JOB_QUEUED, JOB_QUEUED, 2, JOB_OK},
                {JOB_QUEUED, JOB_DISPATCHING, 3, JOB_OK},     {JOB_DISPATCHING, JOB_DISPATCHING, 4, JOB_OK},
                {JOB_DISPATCHING, JOB_QUEUED, 5, JOB_OK},     {JOB_QUEUED, JOB_DISPATCHING, 6, JOB_OK},
                {JOB_DISPATCHING, JOB_RUNNING, 7, JOB_OK},    {JOB_RUNNING, JOB_COLLECTING, 8, JOB_OK},
                {JOB_COLLECTING, JOB_FAILED, 9, JOB_STALLED}, {JOB_FAILED, JOB_FAILED, 10, JOB_STALLED}};
    struct mux_counts c = {0};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(life); i++) {
        struct job_summary s = {.state = life[i].to, .version = life[i].version, .code = life[i].code};

        mux_count_change(&c, &s, life[i].from);
    }
    assert_int_equal(c.accepted, 1);
    assert_int_equal(c.dispatched, 2);
    assert_int_equal(c.requeued, 1);
    assert_int_equal(c.ended[JOB_FAILED][JOB_STALLED], 1);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(test_##name, rig_setup, rig_teardown)
#define CLOSED(name) cmocka_unit_test_setup_teardown(test_##name, setup_closed, rig_teardown)
    static const struct CMUnitTest tests[] = {
        T(servers),
        T(servers_add),
        T(servers_add_bad),
        T(servers_add_says),
        T(servers_change),
        T(windows),
        CLOSED(windows_restart),
        CLOSED(windows_early_end),
        CLOSED(windows_overtaken),
        T(windows_bounds),
        T(health),
        CLOSED(health_starting),
        T(metrics),
        T(metrics_requeued),
        T(one_spelling),
        cmocka_unit_test(test_counts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
