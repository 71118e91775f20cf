/* What only the store in memory promises: every moment is the caller's. */
#include "store/store_test_util.h"

static int setup(void **state)
{
    struct fx *f = malloc(sizeof(*f));

    fx_open(f, false);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    fx_close(*state);
    free(*state);
    return 0;
}

static void give_submit(struct fx *f, const char *id)
{
    struct bytes *g = bytes_new("g", 1);
    struct store_submit in = {.id = id, .tenant = "t", .graph = g};

    store_submit(f->s, &in, on_submitted, f);
    bytes_unref(g);
}

static void given_committed_delivered(void **state)
{
    struct fx *f = *state;

    assert_false(store_mem_commit(f->s));
    give_submit(f, "j1");
    assert_int_equal(store_mem_given(f->s), 1);
    assert_int_equal(store_mem_pending(f->s), 0);
    store_get(f->s, "j1", 0, on_record, f); /* sees what is committed now */
    assert_int_equal(store_mem_pending(f->s), 1);
    assert_true(store_mem_commit(f->s));
    assert_int_equal(store_mem_given(f->s), 0);
    assert_int_equal(store_mem_pending(f->s), 2);
    assert_false(f->done);
    store_mem_deliver(f->s, 1); /* any order */
    assert_true(f->done);
    assert_int_equal(f->st, STORE_OK);
    f->done = false;
    store_mem_deliver(f->s, 0);
    assert_int_equal(f->st, STORE_NOT_FOUND);
    f->done = false;
    assert_int_equal(store_mem_pending(f->s), 0);
}

static void crash_before_commit(void **state)
{
    struct fx *f = *state;

    give_submit(f, "j1");
    give_submit(f, "j2");
    store_mem_commit(f->s);
    store_mem_crash(f->s);
    assert_int_equal(store_mem_given(f->s) + store_mem_pending(f->s), 0);
    assert_false(f->done); /* nobody is told */
    assert_non_null(fx_get(f, "j1"));
    assert_null(fx_get(f, "j2"));
}

static void crash_drops_pins(void **state)
{
    struct fx *f = *state;

    fx_pin(f, "A", 3);
    store_mem_crash(f->s);
    assert_int_equal(CALL(f, blob_collect, 100, 0, 10, NULL, NULL, on_collected), STORE_OK);
    assert_int_equal(f->col.removed, 1);
    assert_int_equal(CALL(f, blob_unpin, 1, on_done), STORE_NOT_FOUND);
}

static void failures_on_order(void **state)
{
    struct fx *f = *state;
    struct store_stats st;

    store_mem_fail(f->s, STORE_FULL, 2);
    assert_int_equal(fx_submit(f, "j1"), STORE_FULL);
    store_stats(f->s, &st);
    assert_true(st.full);
    assert_non_null(st.trouble);
    assert_null(fx_get(f, "j1")); /* reads go on, nothing was changed */
    assert_int_equal(fx_submit(f, "j1"), STORE_FULL);
    assert_int_equal(fx_submit(f, "j1"), STORE_OK);
    assert_int_equal(f->sub.seq, 1);
    store_stats(f->s, &st);
    assert_false(st.full);
    assert_null(st.trouble);
    store_mem_fail(f->s, STORE_FAILED, 1);
    assert_int_equal(fx_step(f, "j1", 1, JOB_RUNNING, 5), STORE_FAILED);
    assert_int_equal(fx_step(f, "j1", 1, JOB_RUNNING, 5), STORE_OK);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(given_committed_delivered),
        T(crash_before_commit),
        T(crash_drops_pins),
        T(failures_on_order),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
