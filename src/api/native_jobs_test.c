/* The jobs API: shapes, order, pages, and how much is read for it. */
#include "api/mux_rig_test.h"

#define COUNTED "\"outputs_count\": 0, \"previewable_outputs_count\": 0"

static uint64_t reads(struct rig *g)
{
    struct store_stats st;

    store_stats(g->store, &st);
    return st.reads;
}

/* "id id …", of the last listing. */
static const char *ids(struct rig *g)
{
    static struct buf b;
    struct json none, job;
    struct json_iter it = json_iter(json_get(g->json, "jobs"));

    buf_clear(&b);
    while (json_next(&it, &none, &job)) {
        char *id = json_strdup(json_get(job, "id"));

        buf_printf(&b, "%s%s", b.len ? " " : "", id + UUID_LEN - 2);
        free(id);
    }
    return buf_str(&b);
}

static void test_shapes(void **state)
{
    struct rig *g = *state;

    rig_run(g, ID(1), ONE_IMAGE);
    rig_submit(g, ID(2));
    rig_submit(g, ID(3));
    assert_int_equal(GET(g, "/api/jobs"), 200);
    assert_string_equal(ids(g), "03 02 01");
    assert_at(g, "jobs.0.status", "pending");
    assert_at(g, "jobs.0.priority", "3");
    assert_at(g, "jobs.0.create_time", "1700000000000");
    assert_at(g, "jobs.0.outputs_count", "0");
    assert_at(g, "jobs.1.status", "in_progress");
    assert_at(g, "jobs.2.status", "completed");
    assert_at(g, "jobs.2.outputs_count", "1");
    assert_at(g, "jobs.2.execution_end_time", "3");
    assert_at(g, "jobs.2.preview_output.filename", "a.png");
    assert_at(g, "jobs.2.preview_output.subfolder", ID(1));
    assert_at(g, "jobs.2.preview_output.nodeId", "9");
    assert_at(g, "jobs.2.preview_output.mediaType", "images");
    assert_at(g, "jobs.2.workflow_id", "(none)");
    assert_at(g, "pagination", "{\"offset\": 0, \"limit\": null, \"total\": 3, \"has_more\": false}");
    assert_int_equal(GET(g, "/api/jobs/" ID(1)), 200);
    assert_at(g, "status", "completed");
    assert_at(g, "outputs.9.images.0.filename", "a.png");
    assert_at(g, "execution_status.status_str", "success");
    assert_at(g, "workflow.prompt.1.class_type", "X");
    assert_at(g, "workflow.extra_data.client_id", "client-a");
    assert_int_equal(GET(g, "/api/jobs/" ID(2)), 200);
    assert_at(g, "status", "in_progress");
    assert_at(g, "outputs", "(none)");
    assert_at(g, "workflow.prompt.1.class_type", "X");
    assert_int_equal(GET(g, "/api/jobs/" ID(9)), 404);
    assert_string_equal(g->body, "{\"error\": \"Job not found\"}");
    assert_int_equal(GET(g, "/api/api/jobs/" ID(1)), 200);
    assert_int_equal(GET(g, "/jobs"), 404);
}

static void test_bad_queries(void **state)
{
    static const char *const bad[][2] = {
        {"status=done,x", "Invalid status value(s): done, x. Valid values: pending, in_progress, completed, "
                          "failed, cancelled"},
        {"sort_by=name", "sort_by must be 'created_at' or 'execution_duration'"},
        {"sort_order=up", "sort_order must be 'asc' or 'desc'"},
        {"limit=0", "limit must be a positive integer"},
        {"limit=-3", "limit must be a positive integer"},
        {"limit=", "limit must be an integer"},
        {"limit=x", "limit must be an integer"},
        {"offset=1.5", "offset must be an integer"},
    };
    struct rig *g = *state;

    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_int_equal(askf(g, "GET", "/api/jobs?%s", bad[i][0]), 400);
        assert_at(g, "error", bad[i][1]);
    }
    assert_int_equal(GET(g, "/api/jobs?offset=-7&limit=5&sort_by=CREATED_AT"), 200);
    assert_at(g, "pagination", "{\"offset\": 0, \"limit\": 5, \"total\": 0, \"has_more\": false}");
}

/* Every page of every order is the piece of the whole that it should be. */
static void pages_of(struct rig *g, const char *query)
{
    char *whole;
    int64_t n;

    assert_int_equal(askf(g, "GET", "/api/jobs?%s", query), 200);
    whole = xstrdup(ids(g));
    n = atoi(at(g, "pagination.total"));
    assert_int_equal(n * 3, whole[0] ? strlen(whole) + 1 : 0);
    for (int limit = 1; limit <= 4; limit++)
        for (int64_t offset = 0; offset <= n + 1; offset++) {
            int64_t len = (offset + limit > n ? n - offset : limit) * 3 - 1;
            char *want = len > 0 ? xstrndup(whole + offset * 3, (size_t)len) : xstrdup("");

            assert_int_equal(
                askf(g, "GET", "/api/jobs?%s&limit=%d&offset=%lld", query, limit, (long long)offset), 200);
            if (strcmp(ids(g), want) != 0)
                fail_msg("%s limit %d offset %lld: %s, wanted %s", query, limit, (long long)offset, ids(g),
                         want);
            assert_at(g, "pagination.has_more", offset + limit < n ? "true" : "false");
            free(want);
        }
    free(whole);
}

static void stored(struct rig *g, const char *id, enum job_state state, int64_t started, int64_t at)
{
    struct bytes *graph = bytes_of("{}");
    struct store_submit in = {.id = id,
                              .tenant = "default",
                              .graph = graph,
                              .answer = graph,
                              .created_at = T0,
                              .workflow_id = state == JOB_SUCCEEDED ? "w1" : NULL};
    struct store_step run = {
        .id = id, .version = 1, .at = started, .state = JOB_RUNNING, .started = started > 0};
    struct store_step end = {.id = id, .version = 2, .at = at, .state = state};
    int done = 0;

    store_submit(g->store, &in, rig_submitted, &done);
    store_step(g->store, &run, on_rig_done, &done);
    store_step(g->store, &end, on_rig_done, &done);
    bytes_unref(graph);
    UNTIL(g, done == 3);
}

static void test_pages(void **state)
{
    struct rig *g = *state;

    stored(g, ID(0), JOB_SUCCEEDED, 100, 150);
    stored(g, ID(1), JOB_FAILED, 100, 110);
    rig_submit(g, ID(2)); /* long running: older than some that have ended */
    rig_submit(g, ID(3));
    stored(g, ID(4), JOB_SUCCEEDED, 100, 130);
    stored(g, ID(5), JOB_CANCELED, 100, 190);
    rig_submit(g, ID(6));
    stored(g, ID(7), JOB_EXPIRED, 0, 150);
    pages_of(g, "x=");
    pages_of(g, "sort_order=asc");
    pages_of(g, "sort_by=execution_duration");
    pages_of(g, "sort_by=execution_duration&sort_order=asc");
    pages_of(g, "status=completed,failed,cancelled");
    pages_of(g, "status=in_progress,completed");
    pages_of(g, "workflow_id=w1");
    GET(g, "/api/jobs");
    assert_string_equal(ids(g), "07 06 05 04 03 02 01 00");
    GET(g, "/api/jobs?sort_order=asc");
    assert_string_equal(ids(g), "00 01 02 03 04 05 06 07");
    GET(g, "/api/jobs?sort_by=execution_duration&status=completed,failed,cancelled");
    assert_string_equal(ids(g), "05 00 04 01 07");
    GET(g, "/api/jobs?workflow_id=w1");
    assert_string_equal(ids(g), "04 00");
    GET(g, "/api/jobs?status=pending");
    assert_string_equal(ids(g), "06 03");
    GET(g, "/api/jobs?status=,");
    assert_string_equal(ids(g), "");
    GET(g, "/api/jobs?status=failed");
    assert_string_equal(ids(g), "07 01");
}

#define MANY 10000

static void ten_thousand(struct rig *g)
{
    struct bytes *graph = bytes_of("{}"),
                 *history = bytes_of("{\"outputs\": {}, \"status\": {}, \"meta\": {}}");
    int done = 0;

    for (int i = 0; i < MANY; i++) {
        char id[UUID_SIZE];
        struct store_submit in = {
            .id = id, .tenant = "default", .graph = graph, .answer = graph, .created_at = T0 + i};
        struct store_step end = {
            .id = id, .version = 1, .at = T0 + i, .state = JOB_SUCCEEDED, .history = history};

        snprintf(id, sizeof(id), "0198d000-0000-7000-8000-%012d", i);
        store_submit(g->store, &in, rig_submitted, &done);
        store_step(g->store, &end, on_rig_done, &done);
        if (i % 500 == 499)
            UNTIL(g, done == 2 * (i + 1));
    }
    bytes_unref(graph);
    bytes_unref(history);
}

/* What the frontend asks for after each status message, in every open tab. */
#define ACTIVE "/api/jobs?status=in_progress,pending&limit=200&offset=0"
#define HISTORY "/api/jobs?status=completed,failed,cancelled&limit=200&offset=0"

/* As many since then, and what the hub looks at by the clock meanwhile. */
static void assert_reads(struct rig *g, uint64_t before, uint64_t want)
{
    assert_in_range(reads(g) - before, want, want + 2);
}

/* However many jobs there are: read once, then not at all until one changes, and then only what is new. */
static void test_cheap(void **state)
{
    struct rig *g = *state;
    uint64_t before;

    ten_thousand(g);
    before = reads(g);
    assert_int_equal(GET(g, HISTORY), 200);
    assert_at(g, "pagination", "{\"offset\": 0, \"limit\": 200, \"total\": 10000, \"has_more\": true}");
    assert_reads(g, before, 201); /* the list, and each job on it once */
    before = reads(g);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(GET(g, HISTORY), 200);
        assert_at(g, "jobs.0.id", "0198d000-0000-7000-8000-000000009999");
        assert_int_equal(GET(g, ACTIVE), 200);
    }
    assert_reads(g, before, 0);
    /* a job comes, runs and ends: its pieces are known, the list is read once for each change that it is asked after */
    rig_run(g, ID(1), ONE_IMAGE);
    before = reads(g);
    assert_int_equal(GET(g, HISTORY), 200);
    assert_at(g, "jobs.0.preview_output.filename", "a.png");
    assert_at(g, "pagination.total", "10001");
    assert_int_equal(GET(g, HISTORY), 200);
    assert_reads(g, before, 1);
    before = reads(g);
    assert_int_equal(GET(g, ACTIVE), 200);
    assert_reads(g, before, 0); /* what lives is in memory */
}

/* Taken out of history: out of the list too, at once. */
static void test_hidden(void **state)
{
    struct rig *g = *state;

    rig_run(g, ID(1), ONE_IMAGE);
    rig_run(g, ID(2), ONE_IMAGE);
    assert_int_equal(GET(g, HISTORY), 200);
    assert_string_equal(ids(g), "02 01");
    assert_int_equal(ask(g, "POST", "/history", "{\"delete\": [\"" ID(1) "\"]}"), 200);
    assert_int_equal(GET(g, HISTORY), 200);
    assert_string_equal(ids(g), "02");
    assert_int_equal(GET(g, "/api/jobs/" ID(1)), 404);
    assert_int_equal(ask(g, "POST", "/history", "{\"clear\": true}"), 200);
    assert_int_equal(GET(g, HISTORY), 200);
    assert_string_equal(ids(g), "");
    assert_at(g, "pagination.total", "0");
}

static void test_etag(void **state)
{
    struct rig *g = *state;
    char etag[64], *field;

    rig_run(g, ID(1), ONE_IMAGE);
    GET(g, HISTORY);
    assert_int_equal(sscanf(strcasestr(g->headers, "etag: ") + 6, "%63s", etag), 1);
    field = xasprintf("If-None-Match: %s\r\n", etag);
    client_send(g, "GET", HISTORY, field, "");
    assert_int_equal(client_answer(g), 304);
    rig_run(g, ID(2), ONE_IMAGE);
    client_send(g, "GET", HISTORY, field, "");
    assert_int_equal(client_answer(g), 200);
    free(field);
}

static void test_cancel(void **state)
{
    struct rig *g = *state;

    rig_submit(g, ID(1));
    rig_submit(g, ID(2));
    rig_submit(g, ID(3));
    assert_int_equal(POST(g, "/api/jobs/" ID(3) "/cancel"), 200);
    assert_string_equal(g->body, "{\"cancelled\": true}");
    assert_int_equal(POST(g, "/api/jobs/" ID(3) "/cancel"), 200);
    assert_string_equal(g->body, "{\"cancelled\": false}");
    assert_int_equal(POST(g, "/api/jobs/nonsense/cancel"), 200);
    assert_string_equal(g->body, "{\"cancelled\": false}");
    GET(g, "/api/jobs");
    assert_string_equal(ids(g), "02 01"); /* one that waited leaves nothing */
    assert_int_equal(ask(g, "POST", "/api/jobs/cancel", "{\"job_ids\": [\"" ID(2) "\", \"" ID(9) "\"]}"),
                     200);
    assert_string_equal(g->body, "{\"cancelled\": true}");
    assert_int_equal(ask(g, "POST", "/api/jobs/cancel", "{\"job_ids\": []}"), 200);
    assert_string_equal(g->body, "{\"cancelled\": false}");
    assert_int_equal(ask(g, "POST", "/api/jobs/cancel", "{\"job_ids\": [\"x\", 5, \"" ID(1) "\"]}"), 400);
    assert_string_equal(g->body,
                        "{\"error\": \"job_ids contains invalid id(s)\", \"invalid_ids\": [\"x\", \"5\"]}");
    assert_int_equal(ask(g, "POST", "/api/jobs/cancel", "{\"job_ids\": {}}"), 400);
    assert_at(g, "error", "job_ids must be a list");
    assert_int_equal(ask(g, "POST", "/api/jobs/cancel", "[]"), 400);
    assert_int_equal(ask(g, "POST", "/api/jobs/cancel", "{"), 400);
    assert_at(g, "error", "Request body must be valid JSON");
    GET(g, "/api/jobs");
    assert_string_equal(ids(g), "01"); /* a list with a bad id does nothing */
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(test_##name, rig_setup, rig_teardown)
    static const struct CMUnitTest tests[] = {
        T(shapes), T(bad_queries), T(pages), T(cheap), T(hidden), T(etag), T(cancel),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
