/* Buckets as Prometheus wants them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/histogram.h"

static void test_buckets(void **state)
{
    struct histogram h = {{0}};
    struct buf b = BUF_INIT;

    (void)state;
    histogram_add(&h, -5);
    histogram_add(&h, 500); /* a bound belongs to its bucket */
    histogram_add(&h, 501);
    histogram_add(&h, 2500000);
    histogram_add(&h, (int64_t)7200 * 1000000);
    assert_int_equal(histogram_count(&h), 5);
    histogram_put(&b, "x_seconds", "a=\"b\"", &h);
    assert_non_null(strstr(buf_str(&b), "x_seconds_bucket{a=\"b\",le=\"0.0005\"} 2\n"));
    assert_non_null(strstr(buf_str(&b), "x_seconds_bucket{a=\"b\",le=\"0.001\"} 3\n"));
    assert_non_null(strstr(buf_str(&b), "x_seconds_bucket{a=\"b\",le=\"2.5\"} 4\n"));
    assert_non_null(strstr(buf_str(&b), "x_seconds_bucket{a=\"b\",le=\"3600\"} 4\n"));
    assert_non_null(strstr(buf_str(&b), "x_seconds_bucket{a=\"b\",le=\"+Inf\"} 5\n"));
    assert_non_null(strstr(buf_str(&b), "x_seconds_sum{a=\"b\"} 7202.501001\nx_seconds_count{a=\"b\"} 5\n"));
    buf_clear(&b);
    histogram_put(&b, "y", "", &h);
    assert_non_null(strstr(buf_str(&b), "y_bucket{le=\"0.0005\"} 2\n"));
    assert_non_null(strstr(buf_str(&b), "y_sum 7202.501001\ny_count 5\n"));
    buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_buckets)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
