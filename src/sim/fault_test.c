#include "sim/fault.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"

static void one(struct faults *f, const char *spec)
{
    struct err e = {0};

    faults_init(f, 1);
    if (faults_add(f, spec, &e) < 0)
        fail_msg("%s: %s", spec, e.msg);
}

/* Which of twenty occasions are struck, as text. */
static void hits(const char *spec, enum fault_kind kind, const char *want)
{
    struct faults f;
    char got[32] = "";

    one(&f, spec);
    for (size_t i = 0; i < strlen(want); i++)
        strcat(got, faults_strike(&f, kind, NULL) ? "x" : ".");
    assert_string_equal(got, want);
    faults_fini(&f);
}

static void selectors(void **state)
{
    (void)state;
    hits("oom", FAULT_OOM, "xxxxx");
    hits("oom", FAULT_HANG, ".....");
    hits("view-404:2", FAULT_VIEW_404, "xx...");
    hits("reject@3", FAULT_REJECT, "..x..");
    hits("reject@3:1", FAULT_REJECT, "..x..");
    hits("hang%100", FAULT_HANG, "xxxxx");
    hits("hang%0", FAULT_HANG, ".....");
}

static void times(void **state)
{
    static const struct {
        const char *spec;
        enum fault_kind kind;
        int64_t ms;
    } table[] = {
        {"history-lag=300ms", FAULT_HISTORY_LAG, 300},  {"history-lag=2s:1", FAULT_HISTORY_LAG, 2000},
        {"slow-prompt=7@1", FAULT_SLOW_PROMPT, 7},      {"view-slow=1m%100", FAULT_VIEW_SLOW, 60000},
        {"die-after-start", FAULT_DIE_AFTER_START, -1}, {"die-after-start=0", FAULT_DIE_AFTER_START, 0}};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct faults f;
        int64_t ms = 12345;

        one(&f, table[i].spec);
        assert_true(faults_strike(&f, table[i].kind, &ms));
        assert_int_equal(ms, table[i].ms);
        faults_fini(&f);
    }
}

static void refused(void **state)
{
    static const char *const table[] = {"",
                                        "nope",
                                        "oom=3s",
                                        "history-lag",
                                        "history-lag=",
                                        "history-lag=x",
                                        "history-lag=-1",
                                        "history-lag=3h",
                                        "view-404:0",
                                        "view-404:",
                                        "view-404:x",
                                        "view-404:1.5",
                                        "oom@",
                                        "oom@0",
                                        "oom%101",
                                        "oom%",
                                        "oom:1x",
                                        "oom 1",
                                        "history-lag=99999999999",
                                        "oom@-1"};
    struct faults f;
    struct err e;

    (void)state;
    faults_init(&f, 1);
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        e.msg[0] = '\0';
        assert_int_equal(faults_add(&f, table[i], &e), -1);
        assert_true(e.msg[0] != '\0');
    }
    assert_int_equal(f.n, 0);
    faults_fini(&f);
}

/* Of two that could strike one shows, and only that one is used up; both have had the occasion. */
static void one_shows(void **state)
{
    static const enum fault_kind kinds[] = {FAULT_VIEW_404, FAULT_VIEW_500};
    struct faults f;

    (void)state;
    one(&f, "view-404:1");
    assert_int_equal(faults_add(&f, "view-500:1", NULL), 0);
    assert_int_equal(faults_add(&f, "view-500@3", NULL), 0);
    assert_int_equal(faults_choose(&f, kinds, 2), FAULT_VIEW_404);
    assert_int_equal(faults_choose(&f, kinds, 2), FAULT_VIEW_500);
    assert_int_equal(faults_choose(&f, kinds, 2), FAULT_VIEW_500);
    assert_int_equal(faults_choose(&f, kinds, 2), FAULT_KINDS);
    faults_fini(&f);
}

/* The same seed strikes at the same occasions, another seed at others, about as often. */
static void chance_repeats(void **state)
{
    uint64_t seen[3] = {0};
    int count = 0;

    (void)state;
    for (int run = 0; run < 3; run++) {
        struct faults f;

        faults_init(&f, run == 2 ? 99 : 7);
        assert_int_equal(faults_add(&f, "oom%25", NULL), 0);
        for (int i = 0; i < 64; i++)
            if (faults_strike(&f, FAULT_OOM, NULL))
                seen[run] |= 1ull << i;
        faults_fini(&f);
    }
    assert_true(seen[0] == seen[1]);
    assert_true(seen[0] != seen[2]);
    count = __builtin_popcountll(seen[0]);
    assert_true(count > 4 && count < 32);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(selectors), cmocka_unit_test(times),
                                       cmocka_unit_test(refused), cmocka_unit_test(one_shows),
                                       cmocka_unit_test(chance_repeats)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
