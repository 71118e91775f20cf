/* The last lines of the log about jobs, in a ring of bytes: the oldest go when room is needed. Its memory is taken at once
 * and never grows. Not locked: log.c does that. */
#ifndef BASE_LOG_RING_H
#define BASE_LOG_RING_H

#include "base/log.h"

#define LOG_RING_LINE 1000 /* bytes of a line; what is longer is cut */

struct log_ring;

/* since: wall ms from which on everything is put in. */
struct log_ring *log_ring_new(size_t bytes, int64_t since);
void log_ring_free(struct log_ring **r);
/* job longer than a UUID: not kept. */
void log_ring_put(struct log_ring *r, const char *job, const struct log_kept *line);
/* As log_kept() (log.h). */
int64_t log_ring_each(const struct log_ring *r, const char *job, log_kept_cb *cb, void *arg);

#endif
