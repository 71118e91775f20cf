/* How a server is, by evidence: the socket and the results of calls first, a cheap question (GET /prompt)
 * when those are in doubt. A server that is busy may be slow to answer, so silence makes it suspect for ten
 * seconds before it counts as down; a refused connection does so at once.
 *
 *              socket open and it answers
 *   DOWN ──────────────────────────────────> UP <────────────┐
 *     ^ ^                                     │ socket lost,  │ socket open and it answers
 *     │ └───────────── refused ───────────────┤ a call failed │
 *     │                                       v               │
 *     └── refused, or no answer for 10 s ── SUSPECT ──────────┘
 *
 * Over that lie the operator's word (draining) and the fence. A server that is up and fails job after job is
 * fenced: five results in a row that are the server's fault (lost, stalled, no history, no output, not
 * dispatched), where an execution error counts if another server has had a success since the row began. The
 * fence stands for 30 s; then one job at a time is given to it: a success takes the fence away, a fault sets
 * it up again for twice as long, at most 10 minutes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/plant.h"
#include "fleet/fleet_priv.h"

#define SUSPECT_MS 10000
#define PROBE_MS 10000
#define PROBE_AGAIN_MS 1000 /* while suspect */
#define PROBE_DOWN_MS 5000  /* while down, with an open socket */
#define FENCE_AFTER 5
#define FENCE_LEAST_MS 30000
#define FENCE_MOST_MS 600000

const char *fleet_state_name(enum fleet_state st)
{
    static const char *const names[] = {"up", "suspect", "down", "fenced", "draining"};

    return names[st];
}

enum fleet_state health_state(const struct server *s, const char **why)
{
    const struct health *h = &s->health;
    const char *reason = h->why;
    enum fleet_state st = h->seen;

    if (h->seen == FLEET_UP && s->drained) {
        st = FLEET_DRAINING;
        reason = "the operator wants no new work on it";
    } else if (h->seen == FLEET_UP && h->fence == FENCE_ON) {
        st = FLEET_FENCED;
        reason = "it failed job after job";
    } else if (h->seen == FLEET_UP && h->fence == FENCE_TRIAL) {
        reason = "on trial after it failed job after job";
    }
    if (why)
        *why = reason;
    return st;
}

void health_tell(struct server *s)
{
    struct health *h = &s->health;
    const char *why;
    enum fleet_state st = health_state(s, &why);

    if (st == h->told && strcmp(why, h->told_why) == 0)
        return;
    snprintf(h->told_why, sizeof(h->told_why), "%s", why);
    if (st == h->told) /* the same trouble in other words */
        return;
    h->told = st;
    log_info(LOG_S("server", s->name), LOG_S("state", fleet_state_name(st)),
             LOG_S("reason", why[0] ? why : NULL));
    registry_changed(s->r);
}

/* The only writer of what is seen. */
static void health_set_seen(struct server *s, enum fleet_state to, const char *why)
{
    struct health *h = &s->health;

    if (to == FLEET_SUSPECT && h->seen != FLEET_SUSPECT)
        h->suspect_at = loop_now(s->r->loop);
    h->seen = to;
    snprintf(h->why, sizeof(h->why), "%s", why);
    if (to == FLEET_UP || (to == FLEET_DOWN && !link_is_open(s)))
        timer_clear(&h->timer); /* nothing to ask: the socket's next attempt tells */
    else if (!timer_is_set(&h->timer))
        timer_set(&h->timer, to == FLEET_SUSPECT ? PROBE_AGAIN_MS : PROBE_DOWN_MS);
    health_tell(s);
}

static void on_probed(const struct http_answer *a, void *arg)
{
    struct server *s = arg;
    char why[64];

    s->health.probing = false;
    if (!s->gone) {
        if (a->end == HTTP_CALL_OK && a->status != 200) {
            snprintf(why, sizeof(why), "HTTP status %d for GET /prompt", a->status);
            health_trouble(s, why);
        } else {
            server_note(s, a->end, a->status, a->why);
        }
    }
    server_unref(s);
}

static void health_probe(struct server *s)
{
    if (s->health.probing)
        return;
    s->health.probing = true;
    server_ref(s);
    http_fetch(s->http, "GET", "/prompt", NULL, NULL, JSON_ON_LOOP, PROBE_MS, on_probed, s);
}

static void on_health_timer(void *arg)
{
    struct server *s = arg;
    struct health *h = &s->health;
    char why[sizeof(h->why)];

    if (h->seen == FLEET_SUSPECT && loop_now(s->r->loop) - h->suspect_at >= SUSPECT_MS) {
        memcpy(why, h->why, sizeof(why));
        health_set_seen(s, FLEET_DOWN, why);
    } else {
        timer_set(&h->timer, h->seen == FLEET_SUSPECT ? PROBE_AGAIN_MS : PROBE_DOWN_MS);
    }
    if (link_is_open(s))
        health_probe(s);
}

void health_link_open(struct server *s)
{
    health_probe(s);
    if (s->health.seen != FLEET_UP && !timer_is_set(&s->health.timer))
        timer_set(&s->health.timer, PROBE_AGAIN_MS);
}

void health_link_lost(struct server *s, const char *why)
{
    health_trouble(s, why);
}

void health_link_failed(struct server *s, const char *why)
{
    /* It has been down since it was first looked for, or is suspect since the socket was lost. */
    if (strcasestr(why, "refused") || s->health.seen == FLEET_DOWN)
        health_set_seen(s, FLEET_DOWN, why);
}

void health_answered(struct server *s)
{
    if (link_is_open(s) && s->health.seen != FLEET_UP)
        health_set_seen(s, FLEET_UP, "");
}

void health_trouble(struct server *s, const char *why)
{
    if (s->health.seen == FLEET_UP) {
        health_set_seen(s, FLEET_SUSPECT, why);
        health_probe(s);
    } else {
        health_set_seen(s, s->health.seen, why);
    }
}

void health_refused(struct server *s, const char *why)
{
    health_set_seen(s, FLEET_DOWN, why);
}

/* --- results of jobs --- */

static bool others_succeed(const struct server *s)
{
    for (size_t i = 0; i < SERVERS_MAX; i++) {
        const struct server *o = s->r->by_index[i];

        if (o && o != s && o->health.ok_at && o->health.ok_at >= s->health.streak_at)
            return true;
    }
    return false;
}

static void fence_set(struct server *s, enum fence to)
{
    struct health *h = &s->health;

    h->fence = to;
    h->faults = h->errors = 0;
    if (to == FENCE_ON) {
        h->fence_ms = h->fence_ms ? h->fence_ms * 2 : FENCE_LEAST_MS;
        if (h->fence_ms > FENCE_MOST_MS)
            h->fence_ms = FENCE_MOST_MS;
        timer_set(&h->fence_timer, h->fence_ms);
    } else {
        timer_clear(&h->fence_timer);
    }
    if (to == FENCE_OFF)
        h->fence_ms = 0;
    health_tell(s);
}

static void on_fence_timer(void *arg)
{
    if (!PLANTED(FENCE_NEVER_LIFTED))
        fence_set(arg, FENCE_TRIAL);
}

static void result_fault(struct server *s, bool certain)
{
    struct health *h = &s->health;

    if (h->fence == FENCE_OFF && h->faults + h->errors == 0)
        h->streak_at = loop_now(s->r->loop);
    if (certain)
        h->faults++;
    else
        h->errors++;
    if (h->faults + (others_succeed(s) ? h->errors : 0) >= (h->fence == FENCE_TRIAL ? 1 : FENCE_AFTER))
        fence_set(s, FENCE_ON);
}

void health_result(struct server *s, enum job_code code)
{
    struct health *h = &s->health;

    switch (code) {
    case JOB_OK:
        h->ok_at = loop_now(s->r->loop);
        h->faults = h->errors = 0;
        if (h->fence == FENCE_TRIAL) /* a success from before the fence does not lift it */
            fence_set(s, FENCE_OFF);
        break;
    case JOB_SERVER_LOST:
    case JOB_STALLED:
    case JOB_DISPATCH_FAILED:
    case JOB_HISTORY_UNAVAILABLE:
    case JOB_HISTORY_MISSING:
    case JOB_OUTPUT_UNAVAILABLE: result_fault(s, true); break;
    case JOB_EXECUTION_ERROR: result_fault(s, false); break;
    default: break; /* says nothing about the server */
    }
}

void health_init(struct server *s)
{
    struct health *h = &s->health;

    h->seen = h->told = FLEET_DOWN;
    snprintf(h->why, sizeof(h->why), "not reached yet");
    snprintf(h->told_why, sizeof(h->told_why), "%s", h->why);
    timer_init(&h->timer, s->r->loop, on_health_timer, s);
    timer_init(&h->fence_timer, s->r->loop, on_fence_timer, s);
}

void health_fini(struct server *s)
{
    timer_fini(&s->health.timer);
    timer_fini(&s->health.fence_timer);
}
