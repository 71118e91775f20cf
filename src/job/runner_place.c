/* Which servers a waiting job may go to, and giving them out. */
#include <stdlib.h>
#include <string.h>

#include "job/runner_priv.h"

/* --- what jobs need, interned --- */

static void need_refresh(struct runner *r, struct need *n)
{
    if (n->generation == r->generation)
        return;
    n->generation = r->generation;
    n->undecided = false;
    n->can = (struct sched_set){0};
    for (unsigned i = 0; i < SCHED_SERVERS_MAX; i++) {
        int can;

        if (r->use[i].name == NULL)
            continue;
        can = fleet_can_run(r->env.fleet, i, n->text[0] ? n->text : NULL);
        if (can > 0)
            sched_set_add(&n->can, i);
        if (can < 0 || r->use[i].state == FLEET_DOWN || r->use[i].state == FLEET_SUSPECT)
            n->undecided = true;
    }
}

struct need *need_get(struct runner *r, const char *text)
{
    struct need *n;

    if (text == NULL)
        text = "";
    HASH_FIND_STR(r->needs, text, n);
    if (n == NULL) {
        n = xcalloc(1, sizeof(*n));
        n->text = xstrdup(text);
        HASH_ADD_KEYPTR(hh, r->needs, n->text, strlen(n->text), n);
    }
    n->refs++;
    return n;
}

void need_put(struct runner *r, struct need *n)
{
    if (--n->refs)
        return;
    HASH_DEL(r->needs, n);
    free(n->text);
    free(n);
}

/* --- the fleet as it is now --- */

int place_index(struct runner *r, const char *server)
{
    if (server)
        for (int i = 0; i < SCHED_SERVERS_MAX; i++)
            if (r->use[i].name && strcmp(r->use[i].name, server) == 0)
                return i;
    return -1;
}

void place_use(struct runner *r, const char *server, int delta)
{
    int i = place_index(r, server);

    if (i < 0)
        return;
    r->use[i].bound += delta;
    if (r->use[i].bound == 0)
        r->use[i].idle_since = runner_mono(r);
    if (delta < 0)
        r->place_wanted = true;
}

const char *place_held(const struct runner_job *j)
{
    if (j->commit && j->commit->up.begin)
        return j->commit->server;
    return j->s.state == JOB_DISPATCHING || j->s.state == JOB_RUNNING ? j->s.server : NULL;
}

static void count_bound(struct runner *r)
{
    list_for_each(it, &r->jobs) {
        const char *server = place_held(list_entry(it, struct runner_job, in_order));

        if (server)
            place_use(r, server, 1);
    }
    list_for_each(it, &r->strays) {
        const struct stray *t = list_entry(it, struct stray, link);

        if (!t->gone)
            place_use(r, t->s.server, 1);
    }
    list_for_each(it, &r->calls) {
        const struct call *c = list_entry(it, struct call, link);

        if (c->holds)
            place_use(r, c->holds, 1);
    }
}

static bool take_server(struct server_use *u, const struct fleet_server *f)
{
    bool fresh = u->name == NULL || strcmp(u->name, f->name) != 0;

    if (fresh) {
        free(u->name);
        u->name = xstrdup(f->name);
        u->idle_since = 0;
    }
    u->state = f->state;
    u->known = f->known;
    u->depth = f->depth;
    return fresh;
}

/* Another server has this place now: it has failed nobody yet. */
static void forget_failed(struct runner *r, unsigned index)
{
    list_for_each(it, &r->jobs)
        sched_set_remove(&list_entry(it, struct runner_job, in_order)->failed, index);
}

void place_fleet_changed(struct runner *r)
{
    static struct fleet_server list[SCHED_SERVERS_MAX]; /* loop thread only */
    size_t n = fleet_servers(r->env.fleet, list, SCHED_SERVERS_MAX);
    bool present[SCHED_SERVERS_MAX] = {false}, fresh = false;

    for (size_t i = 0; i < n && i < SCHED_SERVERS_MAX; i++) {
        present[list[i].index] = true;
        if (take_server(&r->use[list[i].index], &list[i])) {
            fresh = true;
            forget_failed(r, list[i].index);
        }
    }
    for (int i = 0; i < SCHED_SERVERS_MAX; i++) {
        if (!present[i] && r->use[i].name) {
            free(r->use[i].name);
            r->use[i] = (struct server_use){0};
        }
    }
    if (fresh) {
        for (int i = 0; i < SCHED_SERVERS_MAX; i++)
            r->use[i].bound = 0;
        count_bound(r);
    }
    r->generation++;
    list_for_each_safe(it, &r->jobs) {
        struct runner_job *j = list_entry(it, struct runner_job, in_order);

        if (j->queued)
            place_enqueue(j);
    }
    r->place_wanted = true;
}

void place_fini(struct runner *r)
{
    for (int i = 0; i < SCHED_SERVERS_MAX; i++)
        free(r->use[i].name);
}

/* --- waiting --- */

static bool usable(const struct server_use *u)
{
    return u->name && u->state == FLEET_UP;
}

/* The servers that can run it; without those that have failed it, while another one is usable, and without those that
 * would fail it again (out of memory, refused), while another one is configured: it waits for that one. */
static struct sched_set job_servers(struct runner_job *j)
{
    struct runner *r = j->r;
    struct sched_set fresh, others;
    bool any = false;

    need_refresh(r, j->need);
    fresh = others = j->need->can;
    for (unsigned i = 0; i < SCHED_SERVERS_MAX; i++) {
        if (sched_set_has(&j->failed, i))
            sched_set_remove(&fresh, i);
        if (sched_set_has(&j->barred, i))
            sched_set_remove(&others, i);
        any |= sched_set_has(&fresh, i) && usable(&r->use[i]);
    }
    return any ? fresh : sched_set_empty(&others) ? j->need->can : others;
}

bool place_elsewhere(struct runner_job *j)
{
    struct runner *r = j->r;
    int here = place_index(r, j->s.server);

    need_refresh(r, j->need);
    for (unsigned i = 0; i < SCHED_SERVERS_MAX; i++)
        if ((int)i != here && r->use[i].name && sched_set_has(&j->need->can, i) &&
            !sched_set_has(&j->failed, i))
            return true;
    return false;
}

void place_failed(struct runner_job *j, const char *server, enum job_code code)
{
    int i = place_index(j->r, server);
    const struct job_retry_rule *rule = job_retry_rule(code);

    if (i < 0)
        return;
    sched_set_add(&j->failed, (unsigned)i);
    if (rule && rule->retry == JOB_RETRY_ELSEWHERE)
        sched_set_add(&j->barred, (unsigned)i);
}

/* After a restart: which servers have failed it, before it is placed again. */
static void on_attempts(enum store_status st, struct job_record *rec, void *arg)
{
    struct call *c = arg;
    struct runner *r = c->r;
    struct runner_job *j = call_job(c);

    if (j) {
        /* If it cannot be read, it is placed without this knowledge: worse than it could be, but it goes on.
         */
        for (size_t i = 0; st == STORE_OK && i < rec->n_attempts; i++)
            if (rec->attempts[i].code != JOB_OK)
                place_failed(j, rec->attempts[i].server, rec->attempts[i].code);
        j->failed_is = FAILED_KNOWN;
        if (j->queued)
            place_enqueue(j);
    }
    job_record_free(&rec);
    call_free(c);
    runner_settle(r);
}

/* Does any server meet a need that is this one thing? */
static bool anybody_has(struct runner *r, const char *list, struct json thing)
{
    struct buf text = BUF_INIT;
    bool has = false;

    buf_printf(&text, "{\"%s\": [", list);
    json_put(&text, thing);
    buf_puts(&text, "]}");
    for (unsigned i = 0; i < SCHED_SERVERS_MAX && !has; i++)
        has = r->use[i].name && fleet_can_run(r->env.fleet, i, buf_str(&text)) > 0;
    buf_free(&text);
    return has;
}

static void put_missing(struct runner *r, const char *list, struct json things, struct buf *out)
{
    struct json_iter it = json_iter(things);
    struct json thing;

    while (json_next(&it, NULL, &thing)) {
        bool choice = json_type(thing) == JSON_ARRAY;
        char *what = json_strdup(choice ? json_at(thing, 2) : thing);

        if (what && out->len < 300 && !anybody_has(r, list, thing))
            buf_printf(out, "%s%s %.100s", out->len ? ", " : "", choice ? "file" : "node", what);
        free(what);
    }
}

/* What a person can do about it: which node or file no server has. */
static char *lacking(struct runner *r, const struct need *n)
{
    struct buf b = BUF_INIT;
    struct json need;
    char *text;

    if (json_check(n->text, strlen(n->text), NULL, &need, NULL) == 0) {
        put_missing(r, "classes", json_get(need, "classes"), &b);
        put_missing(r, "choices", json_get(need, "choices"), &b);
    }
    text = b.len ? xasprintf("no server has %s", buf_str(&b))
                 : xstrdup("all that it needs is somewhere, but not on one server");
    buf_free(&b);
    return text;
}

/* Every configured server is known, and none can run it. */
static bool nobody_can(struct runner_job *j, const struct sched_set *can)
{
    bool any = false;

    for (unsigned i = 0; i < SCHED_SERVERS_MAX; i++)
        any |= j->r->use[i].name != NULL;
    return any && sched_set_empty(can) && !j->need->undecided;
}

void place_enqueue(struct runner_job *j)
{
    struct runner *r = j->r;
    struct sched_set can;
    int64_t wait = j->s.not_before - runner_wall(r);

    sched_job_remove(r->sched, &j->sched);
    j->queued = true;
    if (j->failed_is != FAILED_KNOWN) {
        if (j->failed_is == FAILED_UNKNOWN)
            store_get(r->env.store, j->s.id, JOB_PART_ATTEMPTS, on_attempts, call_new(j));
        j->failed_is = FAILED_ASKED;
        return;
    }
    if (wait > 0 && wait <= JOB_WAIT_MOST_MS) {
        int64_t at = runner_mono(r) + wait;

        if (j->wake == 0 || at < j->wake)
            runner_set_wake(j, at);
        return;
    }
    can = job_servers(j);
    if (nobody_can(j, &can)) {
        struct job_event ev = {.kind = JOB_EV_UNPLACEABLE};
        char *text = lacking(r, j->need);

        ev.message = text;
        runner_feed(j, &ev);
        free(text);
        return;
    }
    sched_job_add(r->sched, &j->sched, &can);
    r->place_wanted = true;
}

void place_dequeue(struct runner_job *j)
{
    j->queued = false;
    sched_job_remove(j->r->sched, &j->sched);
}

void place_run(struct runner *r)
{
    struct sched_server list[SCHED_SERVERS_MAX];
    struct sched_pick pick;
    size_t n = 0;

    r->place_wanted = false;
    for (unsigned i = 0; i < SCHED_SERVERS_MAX; i++)
        if (usable(&r->use[i]) && r->use[i].depth > r->use[i].bound)
            list[n++] = (struct sched_server){i, r->use[i].depth - r->use[i].bound, r->use[i].idle_since};
    while (n && sched_next(r->sched, list, n, &pick)) {
        struct runner_job *j = container_of(pick.job, struct runner_job, sched);

        for (size_t k = 0; k < n; k++)
            if (list[k].index == pick.server)
                list[k].free--;
        place_use(r, r->use[pick.server].name, 1); /* the slot is taken before the commit */
        runner_place(j, r->use[pick.server].name);
    }
}
