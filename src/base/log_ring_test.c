/* What is kept of the log about jobs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <pthread.h>

#include "base/buf.h"
#include "base/log_ring.h"
#include "base/utf8.h"

static struct buf got;

static void on_line(void *arg, const struct log_kept *line)
{
    (void)arg;
    buf_printf(&got, "%lld %s %.*s|", (long long)line->at, log_level_name(line->level), (int)line->n,
               line->text);
}

static int64_t lines_of(const struct log_ring *r, const char *job)
{
    buf_clear(&got);
    return log_ring_each(r, job, on_line, NULL);
}

static void put(struct log_ring *r, int64_t at, const char *job, const char *text)
{
    log_ring_put(r, job, &(struct log_kept){at, LOG_INFO, text, strlen(text)});
}

static int teardown(void **state)
{
    (void)state;
    buf_free(&got);
    log_keep(0);
    log_set_sink(NULL, NULL);
    log_setup(LOG_INFO, LOG_TEXT);
    return 0;
}

static void test_by_job(void **state)
{
    struct log_ring *r = log_ring_new(10000, 7);

    (void)state;
    assert_int_equal(lines_of(r, "a"), 7);
    assert_int_equal(got.len, 0);
    put(r, 10, "a", "x=1");
    put(r, 11, "b", "");
    put(r, 12, "a", "y=2");
    put(r, 13, "ab", "z");
    put(r, 14, "0198c000-0000-7000-8000-000000000001-and-more", "no id is so long");
    assert_int_equal(lines_of(r, "a"), 7);
    assert_string_equal(buf_str(&got), "10 info x=1|12 info y=2|");
    lines_of(r, "b");
    assert_string_equal(buf_str(&got), "11 info |");
    log_ring_free(&r);
    assert_null(r);
}

static void test_long_lines(void **state)
{
    struct log_ring *r = log_ring_new(10000, 0);
    struct buf long_one = BUF_INIT;

    (void)state;
    for (int i = 0; i < 700; i++)
        buf_puts(&long_one, "\xe2\x82\xac"); /* three bytes: the limit falls into one */
    put(r, 1, "a", buf_str(&long_one));
    lines_of(r, "a");
    assert_int_equal(got.len, strlen("1 info |") + 999);
    assert_true(utf8_is_valid(got.data, got.len));
    memset(long_one.data, 0x80, long_one.len); /* no character begins anywhere */
    put(r, 2, "b", buf_str(&long_one));
    lines_of(r, "b");
    assert_int_equal(got.len, strlen("2 info |") + LOG_RING_LINE);
    buf_free(&long_one);
    log_ring_free(&r);
}

struct seen {
    int64_t first, last, n;
};

static void on_numbered(void *arg, const struct log_kept *line)
{
    struct seen *s = arg;
    char want[1100];
    size_t n = (size_t)(line->at * 7919 % 997);

    memset(want, 'a' + (char)(line->at % 26), n);
    assert_int_equal(line->n, n);
    assert_memory_equal(line->text, want, n);
    if (s->n++)
        assert_int_equal(line->at, s->last + 1);
    else
        s->first = line->at;
    s->last = line->at;
}

/* Lines of all lengths, many times around: what is there is whole, in order, without a hole, and as much as has room. */
static void test_around(void **state)
{
    static const size_t sizes[] = {0, 3000, 4096, 10007, 65536};
    char text[1000];

    (void)state;
    for (size_t k = 0; k < ARRAY_LEN(sizes); k++) {
        struct log_ring *r = log_ring_new(sizes[k], 0);

        for (int64_t at = 1; at < 3000; at++) {
            struct seen s = {0};
            int64_t since;
            size_t n = (size_t)(at * 7919 % 997);

            memset(text, 'a' + (char)(at % 26), n);
            log_ring_put(r, "j", &(struct log_kept){at, LOG_WARN, text, n});
            since = log_ring_each(r, "j", on_numbered, &s);
            assert_int_equal(s.last, at);
            assert_int_equal(since, s.first == 1 ? 0 : s.first);
            if (at > 200)
                assert_true((size_t)s.n >= sizes[k] / 1100);
            assert_true((size_t)s.n <= 1 + (sizes[k] < 2200 ? 2200 : sizes[k]) / 56);
        }
        log_ring_free(&r);
    }
}

/* --- through the log --- */

static void no_sink(void *arg, enum log_level level, const char *line, size_t len)
{
    (void)arg, (void)level, (void)line, (void)len;
}

static void on_kept(void *arg, const struct log_kept *line)
{
    (void)arg;
    buf_printf(&got, "%s %.*s|", log_level_name(line->level), (int)line->n, line->text);
}

static const char *kept(const char *job)
{
    buf_clear(&got);
    log_kept(job, on_kept, NULL);
    return buf_str(&got);
}

static void log_some(void)
{
    log_info(LOG_S("job", "a"), LOG_S("state", "running"), LOG_S("why", "two words"), LOG_I("n", 1));
    log_debug(LOG_S("job", "a"), LOG_S("not", "wanted"));
    log_warn(LOG_S("job", "a"));
    log_error(LOG_S("job", "b"), LOG_S("x", "other"));
    log_info(LOG_S("server", "a"), LOG_S("job", "a"));
    log_info(LOG_S("job", NULL), LOG_S("x", "nobody"));
    log_info(LOG_M("job"));
}

static void test_log(void **state)
{
    int64_t since;

    (void)state;
    log_set_sink(no_sink, NULL);
    log_some();
    assert_string_equal(kept("a"), "");
    assert_true(log_kept("a", on_kept, NULL) == INT64_MAX);
    log_keep(10000);
    since = log_kept("a", on_kept, NULL);
    assert_true(since > 1600000000000 && since < INT64_MAX);
    log_some();
    assert_string_equal(kept("a"), "info state=running why=\"two words\" n=1|warn |");
    assert_string_equal(kept("b"), "error x=other|");
    log_keep(10000);
    assert_string_equal(kept("a"), "");
    log_setup(LOG_WARN, LOG_JSON); /* the same words, whatever the log itself is written in */
    log_some();
    assert_string_equal(kept("a"), "warn |");
    log_setup(LOG_DEBUG, LOG_JSON);
    log_some();
    assert_string_equal(kept("a"), "warn |info state=running why=\"two words\" n=1|debug not=wanted|warn |");
    log_keep(0);
    assert_string_equal(kept("a"), "");
}

static void *talk(void *arg)
{
    for (int i = 0; i < 300; i++)
        log_info(LOG_S("job", arg), LOG_S("of", arg), LOG_I("i", i));
    return NULL;
}

static void on_own(void *arg, const struct log_kept *line)
{
    char want[32];

    snprintf(want, sizeof(want), "of=%s ", (char *)arg);
    assert_memory_equal(line->text, want, strlen(want));
}

static void test_threads(void **state)
{
    static char names[4][4] = {"t0", "t1", "t2", "t3"};
    pthread_t t[4];

    (void)state;
    log_set_sink(no_sink, NULL);
    log_keep(5000);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&t[i], NULL, talk, names[i]), 0);
    for (int i = 0; i < 200; i++)
        log_kept(names[i % 4], on_own, names[i % 4]);
    for (int i = 0; i < 4; i++)
        pthread_join(t[i], NULL);
}

#define T(name) cmocka_unit_test_teardown(name, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {T(test_by_job), T(test_long_lines), T(test_around), T(test_log),
                                       T(test_threads)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
