/* Lists of ended jobs as /api/jobs shows them, over every implementation. */
#include "store/store_test_util.h"

static bool use_sqlite;

static int setup(void **state)
{
    struct fx *f = malloc(sizeof(*f));

    fx_open(f, use_sqlite);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    fx_close(*state);
    free(*state);
    return 0;
}

/* One that was started took so long; started 0: it never was. */
static void ended(struct fx *f, const char *id, const char *tenant, const char *workflow,
                  enum job_state state, int64_t started, int64_t at, uint32_t flags)
{
    struct bytes *g = bytes_new("{}", 2);
    struct store_submit in = {
        .id = id, .tenant = tenant, .workflow_id = workflow, .graph = g, .answer = g, .created_at = 1};
    struct store_step run = {
        .id = id, .version = 1, .at = started, .state = JOB_RUNNING, .started = started > 0};
    struct store_step end = {.id = id, .version = 2, .at = at, .state = state, .flags = flags};

    assert_int_equal(CALL(f, submit, &in, on_submitted), STORE_OK);
    if (state != JOB_QUEUED) {
        assert_int_equal(CALL(f, step, &run, on_done), STORE_OK);
        assert_int_equal(CALL(f, step, &end, on_done), STORE_OK);
    }
    bytes_unref(g);
}

static void some_jobs(struct fx *f)
{
    ended(f, "a", "t", "w1", JOB_SUCCEEDED, 100, 150, 0);
    ended(f, "b", "t", "w2", JOB_FAILED, 100, 110, 0);
    ended(f, "c", "t", NULL, JOB_CANCELED, 0, 120, 0);
    ended(f, "d", "t", "w1", JOB_SUCCEEDED, 100, 130, 0);
    ended(f, "e", "t", "w1", JOB_CANCELED, 0, 140, JOB_F_NO_HISTORY);
    ended(f, "f", "u", "w1", JOB_SUCCEEDED, 100, 190, 0);
    ended(f, "g", "t", "w1", JOB_QUEUED, 0, 0, 0);
}

#define SHOWN(...) fx_ids(f, &(struct store_filter){.tenant = "t", .shown = true, .count = true, __VA_ARGS__})
#define assert_shown(want, n, ...)                                                                           \
    do {                                                                                                     \
        assert_string_equal(SHOWN(__VA_ARGS__), want);                                                       \
        assert_int_equal(f->list.total, n);                                                                  \
    } while (0)

static void in_order_and_counted(void **state)
{
    struct fx *f = *state;

    some_jobs(f);
    assert_shown("d c b a", 4, .oldest_first = false, .limit = 100);
    assert_shown("a b c d", 4, .oldest_first = true, .limit = 100);
    assert_shown("d a", 2, .states = JOB_STATE_BIT(JOB_SUCCEEDED), .limit = 100);
    assert_shown("c b", 2, .states = JOB_STATE_BIT(JOB_FAILED) | JOB_STATE_BIT(JOB_CANCELED), .limit = 100);
    assert_shown("", 0, .states = JOB_STATES_LIVE, .limit = 100);
    assert_shown("d a", 2, .workflow_id = "w1", .limit = 100);
    assert_shown("", 0, .workflow_id = "w1", .states = JOB_STATE_BIT(JOB_FAILED), .limit = 100);
    assert_shown("", 0, .workflow_id = "none", .limit = 100);
    assert_shown("a d b c", 4, .by_duration = true, .limit = 100); /* 50, 30, 10, and one that never ran */
    assert_shown("c b d a", 4, .by_duration = true, .oldest_first = true, .limit = 100);
    assert_shown("a d", 2, .by_duration = true, .workflow_id = "w1", .limit = 100);
    assert_shown("c b", 4, .offset = 1, .limit = 2); /* all are counted, whatever the page */
    assert_shown("", 4, .offset = 9, .limit = 100);
    assert_string_equal(fx_get(f, "a")->s.workflow_id, "w1");
    assert_null(fx_get(f, "c")->s.workflow_id);
}

static void what_is_hidden_is_neither_shown_nor_counted(void **state)
{
    struct fx *f = *state;

    some_jobs(f);
    assert_int_equal(CALL(f, hide, "t", "b", on_done), STORE_OK);
    assert_shown("d c a", 3, .oldest_first = false, .limit = 100);
    assert_int_equal(CALL(f, hide, "t", NULL, on_done), STORE_OK);
    assert_shown("", 0, .oldest_first = false, .limit = 100);
    assert_shown("", 0, .by_duration = true, .limit = 100);
    ended(f, "h", "t", "w1", JOB_SUCCEEDED, 200, 220, 0);
    assert_shown("h", 1, .workflow_id = "w1", .limit = 100);
    assert_shown("h", 1, .by_duration = true, .limit = 100);
    assert_string_equal(IDS(.tenant = "u", .shown = true), "f");
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    static const struct CMUnitTest tests[] = {
        T(in_order_and_counted),
        T(what_is_hidden_is_neither_shown_nor_counted),
    };
    int bad;

    log_set_sink(fx_no_log, NULL);
    bad = cmocka_run_group_tests_name("shown jobs in memory", tests, NULL, NULL);
    use_sqlite = true;
    return bad + cmocka_run_group_tests_name("shown jobs on SQLite", tests, NULL, NULL);
}
