#include "fleet/health.h"

#include <stdio.h>
#include <string.h>

#include "base/plant.h"

#define STALL_MS 1800000

const char *fleet_state_name(enum fleet_state st)
{
    static const char *const names[] = {"up", "suspect", "down", "fenced", "draining"};

    return names[st];
}

void health_init(struct health *h)
{
    *h = (struct health){.seen = FLEET_DOWN, .why = "not reached yet"};
}

enum fleet_state health_state(const struct health *h, const char **why)
{
    const char *reason = h->why;
    enum fleet_state st = h->seen;

    if (h->seen == FLEET_UP && h->drained) {
        st = FLEET_DRAINING;
        reason = "the operator wants no new work on it";
    } else if (h->seen == FLEET_UP && h->fence == FENCE_ON) {
        st = FLEET_FENCED;
        reason = h->fence_why;
    } else if (h->seen == FLEET_UP && h->fence == FENCE_TRIAL) {
        reason = h->cause == FENCE_FOR_WORKER ? "on trial after its worker was held for dead"
                                              : "on trial after it failed job after job";
    } else if (h->seen == FLEET_UP && h->late) {
        reason = "its events come late or not at all (a client of it that does not read?): its jobs are "
                 "followed by "
                 "asking";
    }
    if (why)
        *why = reason;
    return st;
}

bool health_on_trial(const struct health *h)
{
    return h->fence == FENCE_TRIAL;
}

bool health_worker_dead(const struct health *h)
{
    return h->fence == FENCE_ON && h->cause == FENCE_FOR_WORKER;
}

/* --- the fence --- */

/* Twice as long as the latest. */
static void fence_time(struct health *h, int64_t now)
{
    h->fence_ms = h->fence_ms ? h->fence_ms * 2 : HEALTH_FENCE_LEAST_MS;
    if (h->fence_ms > HEALTH_FENCE_MOST_MS)
        h->fence_ms = HEALTH_FENCE_MOST_MS;
    h->fence_until = now + (PLANTED(FENCE_NEVER_LIFTED) ? INT64_C(1) << 40 : h->fence_ms);
}

static void fence_put(struct health *h, enum health_cause cause, const char *why, int64_t now)
{
    h->fences++;
    h->fence = FENCE_ON;
    h->cause = cause;
    snprintf(h->fence_why, sizeof(h->fence_why), "%s", why);
    h->faults = h->errors = 0;
    fence_time(h, now);
    h->look_at = cause == FENCE_FOR_WORKER ? now + HEALTH_LOOK_MS : 0;
    h->waiting_at = 0;
}

/* It gets one job at a time, until a success or a fault decides. */
static void fence_lift(struct health *h)
{
    h->fence = FENCE_TRIAL;
    h->faults = h->errors = 0;
    h->fence_until = h->look_at = h->waiting_at = 0;
}

static void fence_end(struct health *h)
{
    h->fence = FENCE_OFF;
    h->fence_ms = h->fence_until = h->look_at = 0;
}

/* --- is it there? --- */

/* The only writer of what is seen. */
static void set_seen(struct health *h, enum fleet_state to, const char *why, int64_t now)
{
    if (to == FLEET_SUSPECT && h->seen != FLEET_SUSPECT)
        h->suspect_at = now;
    h->seen = to;
    if (why != h->why)
        snprintf(h->why, sizeof(h->why), "%s", why);
    if (to == FLEET_UP || (to == FLEET_DOWN && !h->link))
        h->ask_at = 0; /* nothing to ask: the socket's next attempt tells */
    else if (h->ask_at == 0)
        h->ask_at = now + (to == FLEET_SUSPECT ? HEALTH_ASK_SUSPECT_MS : HEALTH_ASK_DOWN_MS);
}

void health_link_open(struct health *h, int64_t now, bool known)
{
    if (health_worker_dead(h) && !known) /* it may have restarted: one job tells */
        fence_lift(h);
    h->link = true;
    h->heard_at = now;
    h->ask_at = now;
}

void health_link_lost(struct health *h, const char *why, int64_t now)
{
    h->link = false;
    h->late = false;
    h->unheard_at = 0;
    health_trouble(h, why, now);
}

void health_link_failed(struct health *h, const char *why, int64_t now)
{
    h->link = false;
    /* It has been down since it was first looked for, or is suspect since the socket was lost. */
    if (strcasestr(why, "refused") || h->seen == FLEET_DOWN)
        set_seen(h, FLEET_DOWN, why, now);
}

void health_link_quiet(struct health *h, int64_t now)
{
    if (h->seen == FLEET_UP)
        h->ask_at = now;
}

void health_answered(struct health *h, int64_t now)
{
    h->heard_at = now;
    if (h->link && h->seen != FLEET_UP)
        set_seen(h, FLEET_UP, "", now);
    else if (h->seen == FLEET_UP)
        h->ask_at = 0;
}

void health_trouble(struct health *h, const char *why, int64_t now)
{
    if (h->seen == FLEET_UP) {
        set_seen(h, FLEET_SUSPECT, why, now);
        h->ask_at = now;
    } else {
        set_seen(h, h->seen, why, now);
    }
}

void health_refused(struct health *h, const char *why, int64_t now)
{
    set_seen(h, FLEET_DOWN, why, now);
}

void health_drain(struct health *h, bool drained)
{
    h->drained = drained;
}

/* --- results of jobs --- */

enum weight { SAYS_NOTHING, SAYS_WELL, ITS_FAULT, MAYBE_ITS_FAULT };

static enum weight weigh(enum job_code code, enum fleet_blame blame)
{
    switch (code) {
    case JOB_OK: return SAYS_WELL;
    case JOB_SERVER_LOST:
    case JOB_STALLED:
    case JOB_DISPATCH_FAILED:
    case JOB_HISTORY_UNAVAILABLE:
    case JOB_HISTORY_MISSING:
    case JOB_OUTPUT_UNAVAILABLE: return ITS_FAULT;
    case JOB_EXECUTION_ERROR: return blame == FLEET_BLAME_SURE ? ITS_FAULT : MAYBE_ITS_FAULT;
    case JOB_OUT_OF_MEMORY:
    case JOB_SERVER_REJECTED: return MAYBE_ITS_FAULT;
    default: return SAYS_NOTHING;
    }
}

static int64_t stall_ms(const struct health *h)
{
    return h->stall_ms ? h->stall_ms : STALL_MS;
}

static void worker_is_dead(struct health *h, const char *what, int64_t now)
{
    char why[sizeof(h->fence_why)];

    snprintf(why, sizeof(why), "%s: its worker is dead or stuck, it needs a restart", what);
    fence_put(h, FENCE_FOR_WORKER, why, now);
}

/* A job stalled there: the worker is still busy with it, in silence, as far as /queue has shown. */
static bool hangs(const struct health *h, int64_t now)
{
    return h->queue_known && h->queue.running > 0 && now - h->still_at >= stall_ms(h) / 2;
}

static void result_bad(struct health *h, enum job_code code, bool sure, int64_t others_ok_at, int64_t now)
{
    bool others;
    char why[sizeof(h->fence_why)];

    h->bad++;
    h->proven &= code == JOB_SERVER_REJECTED;
    if (h->fence == FENCE_OFF && h->faults + h->errors == 0)
        h->streak_at = now;
    if (sure)
        h->faults++;
    else
        h->errors++;
    if (h->fence == FENCE_ON) /* of a job from before */
        return;
    others = others_ok_at && others_ok_at >= h->streak_at;
    if (code == JOB_STALLED && hangs(h, now)) {
        worker_is_dead(h, "it answers, but the prompt it runs does not advance", now);
    } else if (h->faults + (others ? h->errors : 0) >= (h->fence == FENCE_TRIAL ? 1 : HEALTH_FENCE_AFTER)) {
        snprintf(why, sizeof(why), "it failed job after job, the last with %s", job_code_name(code));
        fence_put(h, FENCE_FOR_JOBS, why, now);
    }
}

void health_result(struct health *h, enum job_code code, enum fleet_blame blame, int64_t others_ok_at,
                   int64_t now)
{
    enum weight w = weigh(code, blame);

    if (blame == FLEET_BLAME_NONE) {
        if (w == MAYBE_ITS_FAULT && h->errors)
            h->errors--;
    } else if (w == SAYS_WELL) {
        h->ok_at = now;
        h->faults = h->errors = 0;
        h->proven = true;
        h->good++;
        if (h->fence == FENCE_TRIAL) /* a success from before the fence does not lift it */
            fence_end(h);
    } else if (w != SAYS_NOTHING) {
        result_bad(h, code, w == ITS_FAULT, others_ok_at, now);
    }
}

/* --- its worker --- */

void health_queue_seen(struct health *h, const struct health_queue *q, int64_t now)
{
    bool known = h->queue_known;
    bool moved = known && (q->running != h->queue.running || q->running_sig != h->queue.running_sig);
    bool waits = q->running == 0 && q->pending > 0;
    bool same_waits = known && h->queue.running == 0 && h->queue.head_sig == q->head_sig;
    int64_t idle_ms = h->fence == FENCE_TRIAL ? HEALTH_IDLE_TRIAL_MS : HEALTH_IDLE_MS;

    if (!known || moved)
        h->still_at = now;
    if (!waits)
        h->waiting_at = 0;
    else if (h->waiting_at == 0 || !same_waits)
        h->waiting_at = now;
    h->queue = *q;
    h->queue_known = true;
    if (idle_ms > stall_ms(h))
        idle_ms = stall_ms(h);
    if (h->fence == FENCE_ON) {
        if (moved && h->cause == FENCE_FOR_WORKER)
            fence_lift(h);
    } else if (waits && now - h->waiting_at >= idle_ms) {
        worker_is_dead(h, "it answers, but runs nothing although prompts wait", now);
    } else if (q->running > 0 && now - h->still_at >= stall_ms(h)) {
        worker_is_dead(h, "it answers, but the prompt it runs does not advance", now);
    }
}

void health_event(struct health *h, int64_t now)
{
    h->heard_at = h->still_at = now;
    h->waiting_at = h->unheard_at = 0;
    h->late = false;
    if (health_worker_dead(h))
        fence_lift(h);
}

void health_unheard(struct health *h, int64_t now)
{
    if (h->unheard_at == 0)
        h->unheard_at = now;
}

void health_restarted(struct health *h, int64_t now)
{
    h->restarts++;
    h->queue_known = h->proven = h->late = false;
    h->waiting_at = h->unheard_at = 0;
    h->still_at = now;
    h->faults = h->errors = 0;
    if (h->fence == FENCE_ON)
        fence_lift(h);
}

/* --- time --- */

static void fence_tick(struct health *h, int64_t now)
{
    if (h->fence != FENCE_ON || now < h->fence_until)
        return;
    if (h->cause == FENCE_FOR_JOBS || (h->queue_known && h->queue.running == 0 && h->queue.pending == 0))
        fence_lift(h);
    else
        fence_time(h, now); /* what hangs there still hangs: nothing else can run */
}

unsigned health_tick(struct health *h, int64_t now)
{
    unsigned todo = 0;

    if (h->seen == FLEET_SUSPECT && now - h->suspect_at >= HEALTH_SUSPECT_MS) {
        h->ask_at = h->link ? now : 0;
        set_seen(h, FLEET_DOWN, h->why, now);
    }
    if (h->ask_at && now >= h->ask_at) {
        h->ask_at = h->seen == FLEET_UP        ? 0
                    : h->seen == FLEET_SUSPECT ? now + HEALTH_ASK_SUSPECT_MS
                                               : now + HEALTH_ASK_DOWN_MS;
        if (h->link)
            todo |= HEALTH_ASK;
    }
    if (h->look_at && now >= h->look_at) {
        h->look_at = now + HEALTH_LOOK_MS;
        if (h->link)
            todo |= HEALTH_LOOK;
    }
    fence_tick(h, now);
    if (h->unheard_at && now - h->unheard_at >= HEALTH_LATE_MS) {
        h->late = true;
        h->unheard_at = 0;
    }
    return todo;
}

static int64_t sooner(int64_t a, int64_t b)
{
    return a == 0 || (b && b < a) ? b : a;
}

int64_t health_next(const struct health *h)
{
    int64_t at = h->ask_at;

    if (h->seen == FLEET_SUSPECT)
        at = sooner(at, h->suspect_at + HEALTH_SUSPECT_MS);
    if (h->fence == FENCE_ON)
        at = sooner(sooner(at, h->fence_until), h->look_at);
    if (h->unheard_at)
        at = sooner(at, h->unheard_at + HEALTH_LATE_MS);
    return at;
}
