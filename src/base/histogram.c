#include "base/histogram.h"

#include <inttypes.h>

const int64_t histogram_bounds[HISTOGRAM_BOUNDS] = {
    500,     1000,    2500,    5000,     10000,    25000,    50000,     100000,    250000,    500000,
    1000000, 2500000, 5000000, 10000000, 30000000, 60000000, 300000000, 900000000, 3600000000};

void histogram_add(struct histogram *h, int64_t us)
{
    int i = 0;

    if (us < 0)
        us = 0;
    while (i < HISTOGRAM_BOUNDS && us > histogram_bounds[i])
        i++;
    h->in[i]++;
    h->sum += us;
}

uint64_t histogram_count(const struct histogram *h)
{
    uint64_t n = 0;

    for (int i = 0; i <= HISTOGRAM_BOUNDS; i++)
        n += h->in[i];
    return n;
}

/* Seconds, without zeros at the end: 0.0005, 2.5, 60. */
static void put_seconds(struct buf *b, int64_t us)
{
    int64_t rest = us % 1000000;
    int digits = 6;

    buf_printf(b, "%" PRId64, us / 1000000);
    if (rest == 0)
        return;
    for (; rest % 10 == 0; rest /= 10)
        digits--;
    buf_printf(b, ".%0*" PRId64, digits, rest);
}

void histogram_put(struct buf *b, const char *name, const char *label, const struct histogram *h)
{
    const char *open = label[0] ? "{" : "", *close = label[0] ? "}" : "";
    uint64_t n = 0;

    for (int i = 0; i <= HISTOGRAM_BOUNDS; i++) {
        n += h->in[i];
        buf_printf(b, "%s_bucket{%s%sle=\"", name, label, label[0] ? "," : "");
        if (i < HISTOGRAM_BOUNDS)
            put_seconds(b, histogram_bounds[i]);
        else
            buf_puts(b, "+Inf");
        buf_printf(b, "\"} %" PRIu64 "\n", n);
    }
    buf_printf(b, "%s_sum%s%s%s ", name, open, label, close);
    put_seconds(b, h->sum);
    buf_printf(b, "\n%s_count%s%s%s %" PRIu64 "\n", name, open, label, close, n);
}
