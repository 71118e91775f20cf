/* How long things take, counted in fixed buckets: what /metrics shows as a histogram. */
#ifndef BASE_HISTOGRAM_H
#define BASE_HISTOGRAM_H

#include <stdint.h>

#include "base/buf.h"

#define HISTOGRAM_BOUNDS 19
extern const int64_t histogram_bounds[HISTOGRAM_BOUNDS]; /* us, inclusive */
struct histogram {
    uint64_t in[HISTOGRAM_BOUNDS + 1]; /* the last: above all bounds */
    int64_t sum;                       /* us */
};
void histogram_add(struct histogram *h, int64_t us); /* below 0, by a clock that was set: counts as 0 */
uint64_t histogram_count(const struct histogram *h);
/* The sample lines of Prometheus text: name_bucket, name_sum, name_count. label: "" or `key="value"`. */
void histogram_put(struct buf *b, const char *name, const char *label, const struct histogram *h);

#endif
