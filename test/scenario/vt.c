#include "vt.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define BEGINS 1000000             /* ms; the monotonic clock counts from anywhere */
#define WALL_AHEAD 1790000000000LL /* of the monotonic clock */
#define BROKEN_SHOWN 5             /* lines of one seed */

static struct {
    uint64_t seed, rng, order;
    int64_t mono, wall_ahead;
    struct heap events;
    struct clock clock;
    bool verbose;
    int broken;
} vt;

/* --- chance --- */

uint32_t vt_rnd(uint32_t n)
{
    vt.rng = vt.rng * 6364136223846793005ULL + 1442695040888963407ULL;
    return (uint32_t)((vt.rng >> 33) % n);
}

bool vt_chance(int per_mille)
{
    return per_mille > 0 && (int)vt_rnd(1000) < per_mille;
}

/* --- time --- */

static int64_t clock_mono(struct clock *c)
{
    (void)c;
    return vt.mono;
}

static int64_t clock_wall(struct clock *c)
{
    (void)c;
    return vt.mono + vt.wall_ahead;
}

static void clock_random(struct clock *c, void *out, size_t n)
{
    unsigned char *p = out;

    (void)c;
    while (n--)
        *p++ = (unsigned char)vt_rnd(256);
}

int64_t vt_now(void)
{
    return vt.mono;
}

void vt_jump_wall(int64_t ms)
{
    vt.wall_ahead += ms;
}

struct clock *vt_clock(void)
{
    return &vt.clock;
}

static bool event_before(const struct heap_node *a, const struct heap_node *b)
{
    const struct vt_event *x = container_of(a, struct vt_event, node);
    const struct vt_event *y = container_of(b, struct vt_event, node);

    return x->at != y->at ? x->at < y->at : x->order < y->order;
}

void vt_set(struct vt_event *e, int64_t ms, void (*cb)(void *arg), void *arg)
{
    heap_remove(&vt.events, &e->node);
    e->at = vt.mono + (ms > 0 ? ms : 0);
    e->order = ++vt.order;
    e->cb = cb;
    e->arg = arg;
    heap_push(&vt.events, &e->node);
}

void vt_clear(struct vt_event *e)
{
    heap_remove(&vt.events, &e->node);
}

void vt_later(int64_t ms, void (*cb)(void *arg), void *arg)
{
    struct vt_event *e = xcalloc(1, sizeof(*e));

    e->owned = true;
    vt_set(e, ms, cb, arg);
}

static struct vt_event *first(void)
{
    return heap_top(&vt.events) ? container_of(heap_top(&vt.events), struct vt_event, node) : NULL;
}

int64_t vt_next(void)
{
    return first() ? first()->at : -1;
}

bool vt_step(void)
{
    struct vt_event *e = first();
    void (*cb)(void *arg);
    void *arg;

    if (e == NULL)
        return false;
    heap_remove(&vt.events, &e->node);
    if (e->at > vt.mono)
        vt.mono = e->at;
    cb = e->cb;
    arg = e->arg;
    if (e->owned)
        free(e);
    cb(arg);
    return true;
}

/* --- what is told --- */

bool vt_telling(void)
{
    return vt.verbose;
}

void vt_tell(const char *fmt, ...)
{
    va_list ap;

    if (!vt.verbose)
        return;
    printf("%10.3f ", (double)(vt.mono - BEGINS) / 1000);
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    putchar('\n');
}

void vt_broke(const char *job, const char *fmt, ...)
{
    va_list ap;

    if (++vt.broken > BROKEN_SHOWN && !vt.verbose)
        return;
    printf("seed %" PRIu64 ": BROKEN at %.3f s: %s%s", vt.seed, (double)(vt.mono - BEGINS) / 1000,
           job[0] ? "job " : "", job);
    fputs(job[0] ? " " : "", stdout);
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    putchar('\n');
}

int vt_broken(void)
{
    return vt.broken;
}

/* --- life --- */

void vt_init(uint64_t seed, bool verbose)
{
    memset(&vt, 0, sizeof(vt));
    vt.seed = seed;
    vt.rng = seed * 2 + 1;
    vt.mono = BEGINS;
    vt.wall_ahead = WALL_AHEAD;
    vt.clock = (struct clock){clock_mono, clock_wall, clock_random};
    vt.verbose = verbose;
    heap_init(&vt.events, event_before);
    for (int i = 0; i < 8; i++)
        vt_rnd(2);
}

/* What others own must have been cleared. */
void vt_fini(void)
{
    struct vt_event *e;

    while ((e = first()) != NULL) {
        heap_remove(&vt.events, &e->node);
        if (e->owned) {
            free(e->arg);
            free(e);
        }
    }
    heap_fini(&vt.events);
}
