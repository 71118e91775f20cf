/* Retention, and files that nothing holds: now and then, a small step at a time. One step is a write of the store like any
 * other, and the next one waits: what clients want goes between them. */
#include "base/log.h"
#include "cli/serve_priv.h"

#define KEEP_EVERY_MS 60000 /* or a quarter of what is kept for the shortest time */
#define KEEP_LEAST_MS 1000
#define KEEP_PAUSE_MS 100 /* between steps while there is more to do */
#define KEEP_STEP 200     /* jobs and outputs of a step, and files */

static int64_t shorter(int64_t ms, int64_t kept)
{
    return kept > 0 && kept / 4 < ms ? kept / 4 : ms;
}

/* How often it is looked; a file that nothing holds any more stays for as long, for those who have just been told of it.
 */
static int64_t period(const struct config *c)
{
    int64_t ms = shorter(shorter(shorter(KEEP_EVERY_MS, c->keep.finished), c->keep.outputs), c->keep.events);

    return ms > KEEP_LEAST_MS ? ms : KEEP_LEAST_MS;
}

static int64_t wall(struct serve *s)
{
    struct clock *c = loop_clock(s->loop);

    return c->wall_ms(c);
}

static void rest(struct serve *s, bool more)
{
    s->keeping = false;
    if (!s->stopping)
        timer_set(&s->keep, more ? KEEP_PAUSE_MS : period(&s->cfg));
}

static void on_collected_more(const struct store_collected *c, void *arg)
{
    if (c->removed)
        log_info(LOG_S("event", "blobs_removed"), LOG_I("count", c->removed));
    rest(arg, true);
}

static void on_collected(const struct store_collected *c, void *arg)
{
    if (c->removed)
        log_info(LOG_S("event", "blobs_removed"), LOG_I("count", c->removed));
    rest(arg, c->status == STORE_OK && c->more);
}

static void on_trimmed(const struct store_trimmed *t, void *arg)
{
    struct serve *s = arg;

    if (t->jobs || t->outputs || t->events)
        log_info(LOG_S("event", "trimmed"), LOG_I("jobs", t->jobs), LOG_I("outputs", t->outputs),
                 LOG_I("events", t->events));
    if (s->blobs)
        blobs_collect(s->blobs, wall(s), period(&s->cfg), KEEP_STEP,
                      t->status == STORE_OK && t->more ? on_collected_more : on_collected, s);
}

static void on_keep(void *arg)
{
    struct serve *s = arg;
    struct store_keep k = {.now = wall(s),
                           .finished_ms = s->cfg.keep.finished,
                           .outputs_ms = s->cfg.keep.outputs,
                           .events_ms = s->cfg.keep.events,
                           .count = s->cfg.keep.count,
                           .size = s->cfg.keep.size,
                           .max_rows = KEEP_STEP};

    s->keeping = true;
    store_trim(s->store, &k, on_trimmed, s);
}

void serve_keep_init(struct serve *s)
{
    timer_init(&s->keep, s->loop, on_keep, s);
}

void serve_keep_start(struct serve *s)
{
    timer_set(&s->keep, period(&s->cfg));
}

void serve_keep_again(struct serve *s)
{
    if (!s->keeping && timer_is_set(&s->keep))
        timer_set(&s->keep, period(&s->cfg));
}
