/* Nothing that grows is ever scanned: every statement is explained. */
#include "store/store_test_util.h"

#include <pthread.h>
#include <sqlite3.h>

#include "store/sqlite_priv.h"

static int setup(void **state)
{
    struct fx *f = malloc(sizeof(*f));

    fx_open(f, true);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    fx_close(*state);
    free(*state);
    return 0;
}

static void no_scan(struct db *db, const char *sql)
{
    char *text = xasprintf("EXPLAIN QUERY PLAN %s", sql);
    sqlite3_stmt *st = db_query(db, text, "");

    if (st == NULL)
        fail_msg("%s: %s", sql, db->why);
    while (db_next(db, st)) {
        const char *step = (const char *)sqlite3_column_text(st, 3);

        bool fine = strcmp(step, "SCAN CONSTANT ROW") == 0; /* of SELECT EXISTS */

        if ((strncmp(step, "SCAN", 4) == 0 && !fine) || strstr(step, "TEMP B-TREE"))
            fail_msg("%s\n in %s", step, sql);
    }
    free(text);
}

static void lists_go_by_index(void **state)
{
    static const uint32_t masks[] = {JOB_STATES_LIVE | JOB_STATES_ENDED,
                                     JOB_STATES_LIVE,
                                     JOB_STATES_ENDED,
                                     JOB_STATE_BIT(JOB_QUEUED),
                                     JOB_STATE_BIT(JOB_FAILED),
                                     JOB_STATE_BIT(JOB_SUCCEEDED) | JOB_STATE_BIT(JOB_RUNNING)};
    struct fx *f = *state;
    char path[96];
    struct db db;

    snprintf(path, sizeof(path), "%s/comfymux.db", f->dir);
    assert_int_equal(db_open(&db, path, true, NULL), 0);
    for (unsigned shape = 0; shape < 128; shape++) {
        for (size_t m = 0; m < ARRAY_LEN(masks); m++) {
            struct store_filter l = {.tenant = shape & 1 ? "t" : NULL,
                                     .client_id = shape & 2 ? "c" : NULL,
                                     .window_id = shape & 4 ? "w" : NULL,
                                     .server = shape & 8 ? "s" : NULL,
                                     .in_history = shape & 16,
                                     .oldest_first = shape & 32,
                                     .after = shape & 64 ? 5 : 0,
                                     .states = masks[m]};
            struct buf sql = BUF_INIT;

            sql_list_text(&sql, &l);
            no_scan(&db, sql.data);
            buf_free(&sql);
        }
    }
    for (unsigned shape = 0; shape < 8; shape++) {
        for (size_t m = 0; m < ARRAY_LEN(masks); m++) {
            struct store_filter l = {.tenant = "t",
                                     .shown = true,
                                     .by_duration = shape & 1,
                                     .workflow_id = shape & 2 ? "w" : NULL,
                                     .oldest_first = shape & 4,
                                     .states = masks[m]};
            struct buf sql = BUF_INIT;

            sql_list_text(&sql, &l);
            no_scan(&db, sql.data);
            buf_clear(&sql);
            sql_count_text(&sql, &l);
            no_scan(&db, sql.data);
            buf_free(&sql);
        }
    }
    db_close(&db);
}

/* Every statement that the verbs execute is caught on its way and explained. */
static struct buf caught;
static pthread_mutex_t caught_lock = PTHREAD_MUTEX_INITIALIZER;

static int on_trace(unsigned what, void *ctx, void *p, void *x)
{
    const char *sql = sqlite3_sql(p);

    (void)what, (void)ctx;
    if (sql == NULL || strncmp(x, "--", 2) == 0)
        return 0;
    pthread_mutex_lock(&caught_lock);
    if (caught.data == NULL || memmem(caught.data, caught.len, sql, strlen(sql) + 1) == NULL)
        buf_put(&caught, sql, strlen(sql) + 1);
    pthread_mutex_unlock(&caught_lock);
    return 0;
}

static int on_connect(sqlite3 *db, const char **why, const struct sqlite3_api_routines *api)
{
    (void)why, (void)api;
    sqlite3_trace_v2(db, SQLITE_TRACE_STMT, on_trace, NULL);
    return SQLITE_OK;
}

static void every_verb(struct fx *f)
{
    struct job_output o = {.attempt = 1, .filename = "x", .subfolder = "", .type = "output"};
    struct job_attempt a = {.n = 1, .upstream_id = "u", .server = "g"};
    struct job_error err = {.code = JOB_STALLED};
    struct job_input input = {.name = "x"};
    struct store_event ev = {"state", "{}"};
    struct store_stray stray = {.server = "g", .upstream_id = "u", .job = "j1"};
    struct bytes *g = bytes_new("g", 1);
    struct store_submit sub = {.id = "j1",
                               .tenant = "t",
                               .graph = g,
                               .secrets = g,
                               .key = "k",
                               .inputs = &input,
                               .n_inputs = 1,
                               .events = &ev,
                               .n_events = 1};
    struct store_step step = {.id = "j1", .version = 1, .state = JOB_RUNNING, .begin = &a, .stray = &stray};
    struct store_input in = {.tenant = "t", .type = "input", .subfolder = "", .name = "x"};
    struct store_output_key k = {
        .tenant = "t", .job = "j1", .type = "output", .subfolder = "", .filename = "x"};
    struct store_user_put user = {.tenant = "t", .area = "a", .path = "x/y", .files_max = 9};
    struct store_server server = {.name = "g", .url = "u"};
    struct store_keep keep = {.now = 1000, .outputs_ms = 1, .max_rows = 100};
    struct store_filter l = {.limit = 1, .kind = "image", .parts = JOB_PART_FEW | JOB_PART_ERROR};
    int64_t pin = fx_pin(f, "A", 5);

    hash_of(o.blake3, "A");
    hash_of(input.blake3, "A");
    hash_of(in.blake3, "A");
    CALL(f, submit, &sub, on_submitted);
    sub.id = "j2";
    CALL(f, submit, &sub, on_submitted);
    sub.key = NULL;
    CALL(f, submit, &sub, on_submitted);
    CALL(f, step, &step, on_done);
    step = (struct store_step){.id = "j1",
                               .version = 2,
                               .state = JOB_SUCCEEDED,
                               .end = &a,
                               .history = g,
                               .outputs = &o,
                               .n_outputs = 1,
                               .error = &err,
                               .events = &ev,
                               .n_events = 1};
    CALL(f, step, &step, on_done);
    fx_get(f, "j1");
    CALL(f, list, &l, on_list);
    l.in_history = true;
    CALL(f, list, &l, on_list);
    l.kind = NULL;
    CALL(f, list, &l, on_list);
    CALL0(f, unfinished, on_summaries);
    CALL0(f, strays, on_strays);
    CALL(f, stray_done, "g", "u", on_done);
    CALL(f, output_find, &k, on_file);
    k.job = NULL;
    CALL(f, output_find, &k, on_file);
    CALL(f, input_put, &in, on_file);
    fx_pin(f, "B", 5);
    hash_of(in.blake3, "B");
    in.overwrite = true;
    CALL(f, input_put, &in, on_file);
    CALL(f, input_find, "t", "input", "", "x", on_file);
    CALL(f, input_list, "t", "input", on_files);
    CALL(f, input_list, "t", NULL, on_files);
    memcpy(user.blake3, in.blake3, BLAKE3_LEN);
    CALL(f, user_put, &user, on_file);
    CALL(f, user_put, &user, on_file);
    CALL(f, user_list, "t", "a", "", on_user_files);
    CALL(f, user_list, "t", "a", "x", on_user_files);
    CALL(f, user_move, "t", "a", "x/y", "x/z", true, on_file);
    CALL(f, user_move, "t", "a", "x", "v", true, on_file);
    CALL(f, user_find, "t", "a", "v", on_file);
    CALL(f, user_remove, "t", "a", "v/z", on_done);
    CALL(f, alias_find, "t", "42000000", on_file);
    CALL(f, blob_unpin, pin, on_done);
    fx_known(f, "A");
    CALL(f, server_put, &server, false, on_done);
    CALL(f, server_remove, "g", on_done);
    CALL(f, events, 0, NULL, 10, on_events);
    CALL(f, events, 0, "j1", 10, on_events);
    CALL(f, doc_put, "k", "x", g, on_done);
    CALL(f, doc_get, "k", "x", on_doc);
    CALL(f, hide, "t", "j1", on_done);
    CALL(f, hide, "t", NULL, on_done);
    CALL(f, trim, &keep, on_trimmed);
    keep = (struct store_keep){
        .now = 1000, .finished_ms = 1, .events_ms = 1, .size = 1, .count = 1, .max_rows = 100};
    CALL(f, trim, &keep, on_trimmed);
    fx_pin(f, "C", 5);
    fx_reopen(f);
    CALL(f, blob_collect, 1000, 0, 10, NULL, NULL, on_collected);
    bytes_unref(g);
}

static bool may_scan(const char *sql)
{
    /* the whole of small tables, and what is counted once at start */
    static const char *const fine[] = {"FROM strays ORDER",
                                       "FROM servers ORDER",
                                       "sqlite_sequence",
                                       "sqlite_schema",
                                       "count(*) FROM blobs",
                                       "sum(size) FROM blobs",
                                       "max(fin)",
                                       "count(*) FROM jobs",
                                       "FROM events ORDER BY id LIMIT 1",
                                       "loose = 1 LIMIT 1",
                                       "min(id)"};

    if (strncmp(sql, "SELECT", 6) != 0 && strncmp(sql, "UPDATE", 6) != 0 && strncmp(sql, "DELETE", 6) != 0)
        return true;
    if (strcmp(sql, "DELETE FROM pins") == 0)
        return true;
    for (size_t i = 0; i < ARRAY_LEN(fine); i++)
        if (strstr(sql, fine[i]))
            return true;
    return false;
}

static void every_statement_goes_by_index(void **state)
{
    struct fx *f = *state;
    unsigned n = 0;
    char path[96];
    struct db db;

    store_close(&f->s);
    sqlite3_auto_extension((void (*)(void))on_connect);
    fx_reopen(f);
    every_verb(f);
    store_close(&f->s);
    sqlite3_cancel_auto_extension((void (*)(void))on_connect);
    snprintf(path, sizeof(path), "%s/comfymux.db", f->dir);
    assert_int_equal(db_open(&db, path, false, NULL), 0);
    for (const char *p = caught.data; p < caught.data + caught.len; p += strlen(p) + 1) {
        n++;
        if (!may_scan(p))
            no_scan(&db, p);
    }
    assert_true(n > 70);
    /* of the triggers, which are not explained with the statement that fires them */
    no_scan(&db, "UPDATE blobs SET loose = 1 WHERE id = 5 AND NOT EXISTS"
                 " (SELECT 1 FROM blob_refs WHERE blob = 5)");
    db_close(&db);
    buf_free(&caught);
    fx_reopen(f);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(lists_go_by_index),
        T(every_statement_goes_by_index),
    };

    log_set_sink(fx_no_log, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
