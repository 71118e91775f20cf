/* Work that was taken away from a server is chased until the server has been seen without it: across
 * restarts, and whatever has become of its job. Until then it holds the server's slot. */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/plant.h"
#include "job/runner_priv.h"

#define STRAY_FIRST_MS 250
#define STRAY_MOST_MS 10000
#define ABSENT_APART_MS 2000 /* as for a bound job: not there, twice, this far apart */

static bool is_posting(struct runner *r, const char *upstream_id)
{
    list_for_each(it, &r->calls) {
        const struct call *c = list_entry(it, struct call, link);

        if (c->posting && strcmp(c->upstream_id, upstream_id) == 0)
            return true;
    }
    return false;
}

/* It holds a slot of its server. */
static void stray_hold(struct runner *r, const struct stray *t, int delta)
{
    if (!PLANTED(SLOT_FREED_EARLY))
        place_use(r, t->s.server, delta);
}

void stray_add(struct runner *r, const struct store_stray *s, bool sure)
{
    struct stray *t;

    if (PLANTED(STRAY_NOT_CHASED))
        return;
    t = xcalloc(1, sizeof(*t));
    t->s = *s;
    t->s.server = xstrdup(s->server);
    t->next = runner_mono(r);
    t->wait = STRAY_FIRST_MS;
    t->posting = is_posting(r, s->upstream_id);
    t->sure = sure;
    list_push_back(&r->strays, &t->link);
    stray_hold(r, t, 1);
    stray_run(r);
}

static void stray_free(struct stray *t)
{
    list_remove(&t->link);
    free(t->s.server);
    free(t);
}

void stray_free_all(struct runner *r)
{
    list_for_each_safe(it, &r->strays)
        stray_free(list_entry(it, struct stray, link));
}

static struct stray *stray_find(struct runner *r, const char *upstream_id)
{
    if (r->stopped)
        return NULL;
    list_for_each(it, &r->strays) {
        struct stray *t = list_entry(it, struct stray, link);

        if (strcmp(t->s.upstream_id, upstream_id) == 0)
            return t;
    }
    return NULL;
}

static struct call *stray_call(struct runner *r, const struct stray *t)
{
    return call_make(r, "", t->s.upstream_id);
}

static void again_later(struct runner *r, struct stray *t)
{
    t->asking = false;
    t->next = runner_mono(r) + t->wait;
    t->wait = t->wait * 2 < STRAY_MOST_MS ? t->wait * 2 : STRAY_MOST_MS;
}

static void on_forgotten(enum store_status st, void *arg)
{
    struct call *c = arg;
    struct runner *r = c->r;
    struct stray *t = stray_find(r, c->upstream_id);

    call_free(c);
    if (t && (st == STORE_OK || st == STORE_NOT_FOUND))
        stray_free(t);
    else if (t)
        again_later(r, t);
    runner_settle(r);
}

/* The slot is free as soon as the server has been seen without it; that it is forgotten is only housekeeping.
 */
static void stray_gone(struct runner *r, struct stray *t)
{
    if (!t->gone) {
        t->gone = true;
        stray_hold(r, t, -1);
        log_info(LOG_S("job", t->s.job), LOG_S("event", "stray_gone"), LOG_S("server", t->s.server),
                 LOG_S("upstream", t->s.upstream_id));
    }
    store_stray_done(r->env.store, t->s.server, t->s.upstream_id, on_forgotten, stray_call(r, t));
}

/* It was not on the server just now. */
static void stray_absent(struct runner *r, struct stray *t)
{
    int64_t now = runner_mono(r);

    if (t->posting) {
        again_later(r, t);
        return;
    }
    if (t->absent_at == 0)
        t->absent_at = now;
    if (t->sure || now - t->absent_at >= ABSENT_APART_MS) {
        stray_gone(r, t);
        return;
    }
    again_later(r, t);
    t->next = t->absent_at + ABSENT_APART_MS;
}

static void on_stopped(enum fleet_stopped res, void *arg)
{
    struct call *c = arg;
    struct runner *r = c->r;
    struct stray *t = stray_find(r, c->upstream_id);

    call_free(c);
    if (t && res == FLEET_GONE) {
        stray_absent(r, t);
    } else if (t) {
        if (res == FLEET_STILL_THERE) {
            t->absent_at = 0;
            t->sure = true;
        }
        again_later(r, t);
    }
    runner_settle(r);
}

void stray_posted(struct runner *r, const char *upstream_id, bool sent)
{
    struct stray *t = stray_find(r, upstream_id);

    if (t == NULL || !t->posting)
        return;
    t->posting = false;
    t->absent_at = 0;
    t->wait = STRAY_FIRST_MS;
    if (!sent)
        t->sure = true; /* the next look settles it */
    if (!t->asking)
        t->next = runner_mono(r);
    stray_run(r);
}

void stray_run(struct runner *r)
{
    int64_t now = runner_mono(r);

    list_for_each_safe(it, &r->strays) {
        struct stray *t = list_entry(it, struct stray, link);

        if (t->asking || t->next > now)
            continue;
        t->asking = true;
        if (t->gone)
            stray_gone(r, t);
        else
            fleet_stop(r->env.fleet, t->s.server, t->s.upstream_id, on_stopped, stray_call(r, t));
    }
}

int64_t stray_next(const struct runner *r)
{
    int64_t next = 0;

    list_for_each(it, &r->strays) {
        const struct stray *t = list_entry(it, struct stray, link);

        if (!t->asking && (next == 0 || t->next < next))
            next = t->next;
    }
    return next;
}
