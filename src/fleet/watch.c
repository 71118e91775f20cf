/* Watching a server: what happens to it becomes evidence (health.h), what that asks for is done. */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "fleet/fleet_priv.h"

#define ASK_MS 10000
#define AGAIN_MS 1000

static int64_t now_of(const struct server *s)
{
    return loop_now(s->r->loop);
}

static void tell(struct server *s)
{
    struct watch *w = &s->watch;
    const char *why;
    enum fleet_state st = health_state(&s->health, &why);

    if (st == w->told && strcmp(why, w->told_why) == 0)
        return;
    snprintf(w->told_why, sizeof(w->told_why), "%s", why);
    if (st != w->told || st == FLEET_UP) /* else: the same trouble in other words */
        log_info(LOG_S("server", s->name), LOG_S("state", fleet_state_name(st)),
                 LOG_S("reason", why[0] ? why : NULL));
    if (st != w->told || st == FLEET_UP)
        registry_changed(s->r);
    w->told = st;
}

/* After every piece of evidence. */
static void settle(struct server *s)
{
    int64_t at = health_next(&s->health), wait = at - now_of(s);

    if (s->gone)
        return;
    if (at)
        timer_set(&s->watch.timer, wait > 0 ? wait : 0);
    else
        timer_clear(&s->watch.timer);
    tell(s);
}

/* --- asking --- */

static void on_asked(const struct http_answer *a, void *arg)
{
    struct server *s = arg;
    char why[64];

    s->watch.asking = false;
    if (!s->gone) {
        if (a->end == HTTP_CALL_OK && a->status != 200) {
            snprintf(why, sizeof(why), "HTTP status %d for GET /prompt", a->status);
            watch_trouble(s, why);
        } else {
            server_note(s, a->end, a->status, a->why);
        }
    }
    server_unref(s);
}

static void ask(struct server *s)
{
    if (s->watch.asking)
        return;
    s->watch.asking = true;
    s->watch.asked++;
    http_fetch(s->http, "GET", "/prompt", NULL, NULL, JSON_ON_LOOP, ASK_MS, on_asked, server_ref(s));
}

static void on_looked(const struct fleet_lookup *r, void *arg)
{
    struct server *s = arg;

    (void)r; /* it has become evidence on its way (calls.c) */
    s->watch.looking = false;
    server_unref(s);
}

static void look(struct server *s)
{
    if (s->watch.looking)
        return;
    s->watch.looking = true;
    s->watch.asked++;
    calls_look(s, on_looked, server_ref(s));
}

static void on_timer(void *arg)
{
    struct server *s = arg;
    unsigned todo = health_tick(&s->health, now_of(s));

    if (todo & HEALTH_ASK)
        ask(s);
    if (todo & HEALTH_LOOK)
        look(s);
    settle(s);
}

/* --- is it the one that it was? --- */

static void on_recognised(const struct fleet_lookup *r, void *arg)
{
    struct server *s = arg;

    s->watch.recognising = false;
    s->watch.strange = r->found == FLEET_UNREACHABLE;
    if (s->watch.strange && !s->gone) { /* with its next answer again, and that is soon */
        health_link_quiet(&s->health, now_of(s) + AGAIN_MS);
        settle(s);
    }
    if (!s->gone && r->found == FLEET_ABSENT) {
        s->watch.witness[0] = '\0';
        s->watch.witness_ended = false;
        log_info(LOG_S("server", s->name), LOG_S("event", "restarted"),
                 LOG_S("reason", "its socket dropped, and it no longer knows a prompt that it had"));
        health_restarted(&s->health, now_of(s));
        settle(s);
    }
    server_unref(s);
}

/* A server that restarts forgets its queue and its history (inputs and object_info are another matter: those are
 * looked after whenever the socket was lost). */
static void recognise(struct server *s)
{
    if (!s->watch.strange || s->watch.recognising || s->watch.witness[0] == '\0' || !link_is_open(s))
        return;
    s->watch.recognising = true;
    calls_find(&s->r->fleet, s->name, s->watch.witness, on_recognised, server_ref(s));
}

void watch_witness(struct server *s, const char *id, bool ended)
{
    struct watch *w = &s->watch;

    if (!ended &&
        w->witness_ended) /* what is in its history stays there, a prompt may be taken off its queue */
        return;
    snprintf(w->witness, sizeof(w->witness), "%s", id);
    w->witness_ended = ended;
}

void watch_no_witness(struct server *s, const char *id)
{
    if (s && !s->watch.witness_ended && strcmp(s->watch.witness, id) == 0)
        s->watch.witness[0] = '\0';
}

/* --- evidence --- */

void watch_link_open(struct server *s)
{
    health_link_open(&s->health, now_of(s), s->watch.witness[0] != '\0');
    s->watch.strange = s->watch.witness[0] != '\0';
    recognise(s);
    settle(s);
}

void watch_link_lost(struct server *s, const char *why)
{
    health_link_lost(&s->health, why, now_of(s));
    settle(s);
}

void watch_link_failed(struct server *s, const char *why)
{
    health_link_failed(&s->health, why, now_of(s));
    settle(s);
}

void watch_link_quiet(struct server *s)
{
    health_link_quiet(&s->health, now_of(s));
    settle(s);
}

void watch_answered(struct server *s)
{
    health_answered(&s->health, now_of(s));
    recognise(s);
    settle(s);
}

void watch_trouble(struct server *s, const char *why)
{
    health_trouble(&s->health, why, now_of(s));
    settle(s);
}

void watch_refused(struct server *s, const char *why)
{
    health_refused(&s->health, why, now_of(s));
    settle(s);
}

static int64_t others_ok_at(const struct server *s)
{
    int64_t at = 0;

    for (size_t i = 0; i < SERVERS_MAX; i++) {
        const struct server *o = s->r->by_index[i];

        if (o && o != s && o->health.ok_at > at)
            at = o->health.ok_at;
    }
    return at;
}

void watch_result(struct server *s, enum job_code code, enum fleet_blame blame)
{
    health_result(&s->health, code, blame, others_ok_at(s), now_of(s));
    settle(s);
}

bool watch_doubtful(const struct server *s)
{
    if (s->health.proven)
        return false;
    for (size_t i = 0; i < SERVERS_MAX; i++) {
        const struct server *o = s->r->by_index[i];

        if (o && o != s && (o->health.ok_at || !list_empty(&o->held)))
            return true;
    }
    return false;
}

void watch_queue(struct server *s, const struct health_queue *q)
{
    if (s == NULL || s->gone)
        return;
    s->link.queue = q->running + q->pending;
    health_queue_seen(&s->health, q, now_of(s));
    settle(s);
}

void watch_event(struct server *s)
{
    health_event(&s->health, now_of(s));
    settle(s);
}

void watch_unheard(struct server *s)
{
    health_unheard(&s->health, now_of(s));
    settle(s);
}

void watch_drain(struct server *s, bool drained)
{
    health_drain(&s->health, drained);
    settle(s);
}

/* --- life --- */

void watch_init(struct server *s)
{
    health_init(&s->health);
    s->health.stall_ms = s->r->cfg.stall_ms;
    s->watch.told = s->health.seen;
    snprintf(s->watch.told_why, sizeof(s->watch.told_why), "%s", s->health.why);
    timer_init(&s->watch.timer, s->r->loop, on_timer, s);
}

void watch_fini(struct server *s)
{
    timer_fini(&s->watch.timer);
}
