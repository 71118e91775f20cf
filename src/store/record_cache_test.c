#include "store/record_cache.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"

static struct job_record *record(const char *tenant, size_t text)
{
    struct job_record *r = xcalloc(1, sizeof(*r));

    r->s.tenant = xstrdup(tenant);
    if (text) {
        char *zeros = xcalloc(1, text);

        r->graph = bytes_new(zeros, text);
        free(zeros);
    }
    return r;
}

/* Read and kept at once, as a store does it. */
static void keep(struct record_cache *c, const char *id, uint32_t parts, size_t text)
{
    struct job_record *r = record(id, text);

    record_cache_put(c, id, parts, r, record_cache_now(c));
    job_record_free(&r);
}

static bool has(struct record_cache *c, const char *id, uint32_t parts)
{
    struct job_record *r = record_cache_get(c, id, parts);
    bool yes = r != NULL;

    if (r)
        assert_string_equal(r->s.tenant, id);
    job_record_free(&r);
    return yes;
}

static void what_was_read_is_there(void **state)
{
    struct record_cache *c = record_cache_new(1 << 20);
    struct job_record *r;

    (void)state;
    keep(c, "a", 1, 0);
    keep(c, "a", 2, 0);
    keep(c, "b", 1, 0);
    assert_true(has(c, "a", 1) && has(c, "a", 2) && has(c, "b", 1));
    assert_false(has(c, "a", 3) || has(c, "b", 2) || has(c, "c", 1));
    /* who has it keeps it */
    r = record_cache_get(c, "a", 1);
    record_cache_changed(c, "a");
    assert_false(has(c, "a", 1) || has(c, "a", 2));
    assert_true(has(c, "b", 1));
    assert_string_equal(r->s.tenant, "a");
    job_record_free(&r);
    r = record_cache_get(c, "b", 1);
    record_cache_changed(c, NULL);
    assert_false(has(c, "b", 1));
    record_cache_free(&c);
    assert_string_equal(r->s.tenant, "b");
    job_record_free(&r);
    record_cache_free(&c);
}

static void what_was_read_before_a_write_is_not_taken(void **state)
{
    struct record_cache *c = record_cache_new(1 << 20);
    uint64_t asked = record_cache_now(c);
    struct job_record *r = record("a", 0);

    (void)state;
    record_cache_changed(c, "a");
    record_cache_put(c, "a", 1, r, asked);
    assert_false(has(c, "a", 1));
    record_cache_put(c, "a", 1, r, record_cache_now(c));
    assert_true(has(c, "a", 1));
    job_record_free(&r);
    record_cache_free(&c);
}

static void secrets_and_large_ones_are_not_kept(void **state)
{
    struct record_cache *c = record_cache_new(1 << 20);

    (void)state;
    keep(c, "a", JOB_PART_SECRETS | JOB_PART_GRAPH, 0);
    assert_false(has(c, "a", JOB_PART_SECRETS | JOB_PART_GRAPH));
    keep(c, "a", 1, 1 << 17);
    assert_false(has(c, "a", 1));
    record_cache_free(&c);
}

static void who_was_asked_for_longest_ago_goes_first(void **state)
{
    struct record_cache *c = record_cache_new(100000);
    char id[16];

    (void)state;
    for (int i = 0; i < 1000; i++) {
        snprintf(id, sizeof(id), "j%d", i);
        keep(c, id, 1, 5000);
        assert_true(has(c, id, 1));
        assert_true(has(c, "j0", 1));
        assert_int_equal(i < 30 || !has(c, "j1", 1), 1);
    }
    for (uint32_t parts = 2; parts < 64; parts += 2)
        keep(c, "j0", parts, 0);
    assert_true(has(c, "j0", 62));
    assert_int_equal(has(c, "j0", 1) + has(c, "j0", 2) + has(c, "j0", 4) + has(c, "j0", 54), 0);
    record_cache_free(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_read_is_there),
        cmocka_unit_test(what_was_read_before_a_write_is_not_taken),
        cmocka_unit_test(secrets_and_large_ones_are_not_kept),
        cmocka_unit_test(who_was_asked_for_longest_ago_goes_first),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
