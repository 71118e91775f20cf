/* Which waiting job goes to which server. Pure: no clock, no I/O, no allocation but the index's own growth.
 *
 * One central queue, late binding: a server gets a job only when it is about to need one. The policy for now:
 * servers in the order of how long they have been idle; each takes the first job it can run, by priority,
 * then number, then acceptance. Waiting jobs stand in one heap per set of servers that can run them, so a
 * decision looks at as many heap tops as there are different sets, never at all jobs. */
#ifndef JOB_SCHEDULER_H
#define JOB_SCHEDULER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/heap.h"

#define SCHED_SERVERS_MAX 256

/* A set of servers, by index. */
struct sched_set {
    uint64_t w[SCHED_SERVERS_MAX / 64];
};
static inline void sched_set_add(struct sched_set *s, unsigned i)
{
    s->w[i / 64] |= 1ULL << (i % 64);
}
static inline void sched_set_remove(struct sched_set *s, unsigned i)
{
    s->w[i / 64] &= ~(1ULL << (i % 64));
}
static inline bool sched_set_has(const struct sched_set *s, unsigned i)
{
    return (s->w[i / 64] >> (i % 64)) & 1;
}
bool sched_set_empty(const struct sched_set *s);
bool sched_set_equal(const struct sched_set *a, const struct sched_set *b);

struct sched;
struct sched_class;

/* A waiting job, embedded in its owner's. */
struct sched_job {
    struct sched_class *cls; /* NULL: not waiting */
    struct heap_node node;
    double number;
    int64_t seq;
    int priority;
};

struct sched *sched_new(void);
void sched_free(struct sched **s); /* waiting jobs are forgotten, not touched */

/* Begin waiting: number, seq and priority are filled in. can: the servers that can run it, present or not. */
void sched_job_add(struct sched *s, struct sched_job *j, const struct sched_set *can);
void sched_job_remove(struct sched *s, struct sched_job *j); /* not waiting: nothing happens */
void sched_job_init(struct sched_job *j);
static inline bool sched_job_waits(const struct sched_job *j)
{
    return j->cls != NULL;
}
size_t sched_waiting(const struct sched *s);
/* Does a goes before b in the queue's order? For listings. */
bool sched_job_before(const struct sched_job *a, const struct sched_job *b);

struct sched_server {
    unsigned index;
    int free;           /* how many more jobs it takes; <= 0: none */
    int64_t idle_since; /* any clock, for comparison */
};
struct sched_pick {
    struct sched_job *job;
    unsigned server;
    const char *why; /* one sentence */
};
/* The next pair, or false if nothing fits. The job is removed from the queue; the caller counts server.free
 * down and asks again. */
bool sched_next(struct sched *s, const struct sched_server *servers, size_t n, struct sched_pick *out);

#endif
