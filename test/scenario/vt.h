/* Virtual time and chance: everything in a simulation that happens later, and everything that is drawn. One seed fixes all.
 * There is one such world in the process at a time. */
#ifndef SCENARIO_VT_H
#define SCENARIO_VT_H

#include "base/clock.h"
#include "base/heap.h"

void vt_init(uint64_t seed, bool verbose);
void vt_fini(void);

uint32_t vt_rnd(uint32_t n);   /* 0 to n - 1 */
bool vt_chance(int per_mille); /* 0 or less: never, and nothing is drawn */
int64_t vt_now(void);          /* monotonic ms */
void vt_jump_wall(int64_t ms); /* the wall clock is set forward, or back */
struct clock *vt_clock(void);

/* Something that will happen, in memory of its owner; zeroed it is not set. */
struct vt_event {
    struct heap_node node;
    int64_t at;
    uint64_t order;
    void (*cb)(void *arg);
    void *arg;
    bool owned; /* made by vt_later() */
};
void vt_set(struct vt_event *e, int64_t ms, void (*cb)(void *arg), void *arg);
void vt_clear(struct vt_event *e);
static inline bool vt_is_set(const struct vt_event *e)
{
    return heap_has(&e->node);
}
/* The same in memory of its own. arg: from malloc, or NULL; freed if it never happens, else it is cb's. */
void vt_later(int64_t ms, void (*cb)(void *arg), void *arg);

/* Time moves on to the next event, which happens. False: there is none. */
bool vt_step(void);
/* When that will be; -1: there is none. */
int64_t vt_next(void);

/* A line of the seed's story, if it is to be told. */
bool vt_telling(void);
void vt_tell(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* A promise was broken: counted, and printed with the seed. job may be "". */
void vt_broke(const char *job, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int vt_broken(void);

#endif
