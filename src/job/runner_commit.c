/* One transition at a time: decide, commit, and only then act. */
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/json.h"
#include "base/log.h"
#include "base/plant.h"
#include "job/job_event.h"
#include "job/runner_priv.h"

#define COMMIT_AGAIN_MS 1000 /* after the store could not write: space may come back at any time */

static void decide(struct runner_job *j, const struct job_event *ev);
static void committed(struct runner_job *j);

/* --- the inbox --- */

void runner_feed(struct runner_job *j, const struct job_event *ev)
{
    struct inbox_event *e;

    if (j->commit == NULL) {
        decide(j, ev);
        return;
    }
    /* Each kind once: a second one says nothing new, and what carries an answer is asked for once at a time.
     */
    list_for_each(it, &j->inbox)
        if (list_entry(it, struct inbox_event, link)->ev.kind == ev->kind)
            return;
    e = xcalloc(1, sizeof(*e));
    e->ev = *ev;
    e->message = xstrdup_null(ev->message);
    e->ev.message = e->message;
    list_push_back(&j->inbox, &e->link);
}

void runner_feed_kind(struct runner_job *j, enum job_event_kind kind)
{
    struct job_event ev = {.kind = kind};

    runner_feed(j, &ev);
}

/* Hands in what waited, until a commit is in flight again or nothing waits. */
static void inbox_run(struct runner_job *j)
{
    while ((j->commit == NULL || PLANTED(TWO_EVENTS_ONE_STEP)) && !list_empty(&j->inbox)) {
        struct inbox_event *e = list_first(&j->inbox, struct inbox_event, link);

        list_remove(&e->link);
        decide(j, &e->ev);
        free(e->message);
        free(e);
    }
}

/* --- the commit --- */

void commit_free(struct commit **cp)
{
    struct commit *c = *cp;

    if (c == NULL)
        return;
    free(c->message);
    free(c->words);
    free(c->server);
    job_error_fini(&c->error);
    bytes_unref(c->history);
    free(c->outputs);
    free(c);
    *cp = NULL;
}

/* What the log of events tells of the transition: each output, and last the state. One text after the other in b. */
static struct store_event *events_of(const struct runner_job *j, const struct commit *c, struct buf *b,
                                     size_t *n)
{
    struct store_event *v = xcalloc(c->n_outputs + 1, sizeof(*v));
    struct job_event_state e = {.id = j->s.id,
                                .at = c->at,
                                .state = c->up.state,
                                .server = c->server                   ? c->server
                                          : c->up.state == JOB_QUEUED ? NULL
                                                                      : j->s.server,
                                .attempt = c->attempt,
                                .code = c->up.code,
                                .message = c->words};
    size_t *at = xcalloc(c->n_outputs + 1, sizeof(*at));

    for (*n = 0; *n < c->n_outputs; (*n)++) {
        at[*n] = b->len;
        v[*n].kind = "output";
        job_event_put_output(b, j->s.id, c->at, &c->outputs[*n]);
        buf_putc(b, '\0');
    }
    at[*n] = b->len;
    v[*n].kind = job_event_state_kind(e.state);
    job_event_put_state(b, &e);
    for (size_t i = 0; i <= c->n_outputs; i++)
        v[i].data = b->data + at[i];
    (*n)++;
    free(at);
    return v;
}

static void on_committed(enum store_status st, void *arg);

static void commit_give(struct runner_job *j)
{
    struct commit *c = j->commit;
    const struct job_update *up = &c->up;
    struct buf text = BUF_INIT;
    size_t n_events;
    struct store_event *events = events_of(j, c, &text, &n_events);
    struct job_attempt begin = {.n = c->attempt, .server = c->server, .started_at = c->at};
    struct job_attempt end = {.n = c->attempt, .ended_at = c->at, .code = up->code, .message = c->words};
    struct store_stray stray = {.server = j->s.server, .since = c->at};
    struct store_step in = {.id = j->s.id,
                            .version = j->s.version,
                            .at = c->at,
                            .state = up->state,
                            .note = c->message,
                            .flags = up->flags,
                            .spent = up->spent,
                            .not_before = up->not_before,
                            .begin = up->begin ? &begin : NULL,
                            .end = up->end ? &end : NULL,
                            .started = up->started,
                            .error = JOB_STATE_LIVE(up->state) ? NULL : &c->error,
                            .history = c->history,
                            .outputs = c->outputs,
                            .n_outputs = c->n_outputs,
                            .stray = up->stray ? &stray : NULL,
                            .events = events,
                            .n_events = n_events};

    memcpy(begin.upstream_id, c->upstream_id, UUID_SIZE);
    memcpy(end.upstream_id, j->s.upstream_id, UUID_SIZE);
    memcpy(stray.upstream_id, j->s.upstream_id, UUID_SIZE);
    memcpy(stray.job, j->s.id, UUID_SIZE);
    c->again = false;
    store_step(j->r->env.store, &in, on_committed, call_new(j));
    free(events);
    buf_free(&text);
}

void commit_again(struct runner_job *j)
{
    commit_give(j);
}

static void commit_begin(struct runner_job *j, const struct job_update *up, const char *server)
{
    struct runner *r = j->r;
    struct commit *c = xcalloc(1, sizeof(*c));

    c->up = *up;
    c->message = xstrdup_null(up->message);
    c->up.message = NULL;
    if (up->code != JOB_OK)
        c->words = c->message ? xasprintf("%s: %s", job_code_sentence(up->code), c->message)
                              : xstrdup(job_code_sentence(up->code));
    c->at = runner_wall(r);
    c->attempt = j->s.attempt;
    if (up->begin) {
        c->attempt++;
        c->server = xstrdup(server);
        if (c->attempt == 1)
            memcpy(c->upstream_id, j->s.id, UUID_SIZE);
        else
            uuid_v4(r->env.clock, c->upstream_id);
    }
    if (!JOB_STATE_LIVE(up->state)) {
        c->error = (struct job_error){.code = up->code,
                                      .attempt = c->attempt,
                                      .server = xstrdup_null(j->s.server),
                                      .message = xstrdup_null(c->words),
                                      .detail = j->a ? xstrdup_null(j->a->error_detail) : NULL};
        if (!(up->flags & JOB_F_NO_HISTORY))
            c->history = collect_end_history(j, up->state, &c->error);
        if (j->a && (up->state == JOB_SUCCEEDED || up->state == JOB_FAILED || PLANTED(CANCELED_SHOWS_OUTPUT)))
            c->outputs = files_outputs(j->a, &c->n_outputs);
    }
    j->commit = c;
    place_dequeue(j);
    runner_set_wake(j, 0);
    commit_give(j);
    if (PLANTED(EFFECT_BEFORE_COMMIT) && JOB_STATE_LIVE(up->state))
        committed(j);
}

static void run_effects(struct runner_job *j, unsigned effects)
{
    if (effects & JOB_FX_ENQUEUE)
        place_enqueue(j);
    if (effects & JOB_FX_SUBMIT)
        attempt_submit(j);
    if (effects & JOB_FX_FIND)
        attempt_find(j);
    if (effects & JOB_FX_HISTORY)
        attempt_history(j);
    if (effects & JOB_FX_COLLECT)
        attempt_collect(j);
}

static void decide(struct runner_job *j, const struct job_event *ev)
{
    struct job_hard hard = {.state = j->s.state,
                            .attempt = j->s.attempt,
                            .spent = j->s.spent,
                            .flags = j->s.flags,
                            .deadline = j->s.deadline,
                            .not_before = j->s.not_before};
    struct runner *r = j->r;
    struct job_event full = *ev;
    struct job_update up;

    full.elsewhere = place_elsewhere(j);
    job_step(&hard, &j->soft, &full, runner_mono(r), runner_wall(r), &r->cfg.policy, &up);
    if (up.commit) {
        commit_begin(j, &up, ev->kind == JOB_EV_PLACED ? ev->message : NULL);
        j->commit->device_fault = ev->device_fault;
        return;
    }
    j->soft = up.soft;
    runner_set_wake(j, up.wake);
    run_effects(j, up.effects);
    if (j->queued && j->commit == NULL && !sched_job_waits(&j->sched))
        place_enqueue(j); /* its time may have come */
}

/* PLACED carries the server's name as its message. */
void runner_place(struct runner_job *j, const char *server)
{
    struct job_event ev = {.kind = JOB_EV_PLACED, .message = server};

    runner_feed(j, &ev);
}

/* --- after the commit --- */

/* The server hears how the attempt ended. What may be the job's own fault is held against a server only as long as the
 * job has not come to the same end on another one. */
static void tell_result(struct runner_job *j, enum job_code code, bool device_fault)
{
    struct fleet *f = j->r->env.fleet;
    bool open = (code == JOB_EXECUTION_ERROR && !device_fault) || code == JOB_OUT_OF_MEMORY ||
                code == JOB_SERVER_REJECTED;

    if (open && j->blamed && j->blamed_code == code) {
        if (strcmp(j->blamed, j->s.server) != 0)
            fleet_result(f, j->blamed, code, FLEET_BLAME_NONE);
        return;
    }
    fleet_result(f, j->s.server, code, device_fault ? FLEET_BLAME_SURE : FLEET_BLAME_OPEN);
    if (open) {
        free(j->blamed);
        j->blamed = xstrdup(j->s.server);
        j->blamed_code = code;
    }
}

static void apply(struct runner_job *j, const struct commit *c)
{
    struct job_summary *s = &j->s;
    const struct job_update *up = &c->up;

    if (up->end) {
        tell_result(j, up->code, c->device_fault);
        if (up->code != JOB_OK && up->code != JOB_CODE_CANCELED)
            place_failed(j, s->server, up->code);
    }
    if (s->state != up->state)
        s->state_at = c->at;
    s->state = up->state;
    tally_move(j);
    s->version++;
    s->flags = up->flags;
    s->spent = up->spent;
    s->not_before = up->not_before;
    s->code = JOB_STATE_LIVE(up->state) ? JOB_OK : up->code;
    if (up->begin) {
        s->attempt = c->attempt;
        s->server = xstrdup(c->server);
        memcpy(s->upstream_id, c->upstream_id, UUID_SIZE);
    }
    if (up->started && s->started_at == 0)
        s->started_at = c->at;
    if (!JOB_STATE_LIVE(up->state))
        s->finished_at = c->at;
    j->soft = up->soft;
}

static void log_step(const struct runner_job *j, const struct commit *c, const char *server)
{
    bool bad = c->up.code != JOB_OK && c->up.code != JOB_CODE_CANCELED;
    const char *code = c->up.code != JOB_OK ? job_code_name(c->up.code) : NULL;

    LOG_AT(bad ? LOG_WARN : LOG_INFO, LOG_S("job", j->s.id), LOG_S("state", job_state_name(c->up.state)),
           LOG_S("server", server), LOG_I("attempt", c->attempt), LOG_S("code", code),
           LOG_S("reason", c->message), LOG_S("stray", c->up.stray ? "yes" : NULL));
}

/* The job leaves memory; those who asked to cancel it are answered after that. */
static void drop_and_answer(struct runner_job *j, bool canceled)
{
    struct list cancels;

    list_init(&cancels);
    list_for_each_safe(it, &j->cancels) {
        list_remove(it);
        list_push_back(&cancels, it);
    }
    runner_drop(j);
    list_for_each_safe(it, &cancels) {
        struct cancel *k = list_entry(it, struct cancel, link);

        k->cb(canceled, k->arg);
        free(k);
    }
}

static void finish(struct runner_job *j, struct commit *c, enum job_state from, int64_t from_at)
{
    struct runner *r = j->r;
    struct runner_end end = {&c->error, c->history, c->outputs, c->n_outputs};
    struct runner_job_view v;

    runner_view(j, &v);
    v.from_at = from_at;
    r->listener->on_change(r->listener_arg, &v, from, &end);
    j->commit = c; /* freed with the job */
    drop_and_answer(j, c->up.state == JOB_CANCELED);
}

/* Memory and fleet follow what has been committed. */
static void committed(struct runner_job *j)
{
    struct runner *r = j->r;
    struct commit *c = j->commit;
    enum job_state from = j->s.state;
    int64_t from_at = j->s.state_at;
    char *old_server = xstrdup_null(j->s.server);
    struct store_stray stray = {.server = old_server, .since = c->at};
    bool held = from == JOB_DISPATCHING || from == JOB_RUNNING, holds;
    struct runner_job_view v;

    memcpy(stray.upstream_id, j->s.upstream_id, UUID_SIZE);
    memcpy(stray.job, j->s.id, UUID_SIZE);
    apply(j, c);
    j->commit = NULL;
    log_step(j, c, c->server ? c->server : old_server);
    holds = j->s.state == JOB_DISPATCHING || j->s.state == JOB_RUNNING;
    if (c->up.stray) /* before the slot is counted free */
        stray_add(r, &stray, from != JOB_DISPATCHING);
    if (held && !holds)
        place_use(r, old_server, -1);
    if (c->up.begin)
        j->a = attempt_new(j, j->s.upstream_id);
    free(old_server);
    if (c->up.effects & JOB_FX_FINISH) {
        finish(j, c, from, from_at);
        return;
    }
    runner_view(j, &v);
    v.from_at = from_at;
    r->listener->on_change(r->listener_arg, &v, from, NULL);
    if (c->up.state == JOB_QUEUED) {
        attempt_free(&j->a);
        free(j->s.server);
        j->s.server = NULL;
        j->s.upstream_id[0] = '\0';
    }
    runner_set_wake(j, c->up.wake);
    run_effects(j, c->up.effects);
    commit_free(&c);
    inbox_run(j);
}

/* Somebody else moved it: what we thought is void. */
static void on_reloaded(enum store_status st, struct job_record *rec, void *arg)
{
    struct call *c = arg;
    struct runner *r = c->r;

    if (!r->stopped && st == STORE_OK && JOB_STATE_LIVE(rec->s.state) && runner_get(r, c->id) == NULL)
        runner_feed_kind(runner_add(r, &rec->s, rec->s.attempt == 0), JOB_EV_RECOVER);
    job_record_free(&rec);
    if (c->holds && !r->stopped)
        place_use(r, c->holds, -1);
    call_free(c);
    runner_settle(r);
}

static void lost(struct runner_job *j)
{
    struct runner *r = j->r;
    struct call *c = call_new(j);

    log_error(LOG_S("job", j->s.id), LOG_S("event", "commit_lost"), LOG_I("version", j->s.version));
    c->holds = xstrdup_null(place_held(j)); /* its server may have it: the slot is not free meanwhile */
    drop_and_answer(j, false);
    store_get(r->env.store, c->id, 0, on_reloaded, c);
}

/* An output did not fit, and now the store cannot say so: then the disk is full for everybody, the job is not to blame,
 * and it is collected again until there is space. */
static void no_room(struct runner_job *j)
{
    log_warn(LOG_S("job", j->s.id), LOG_S("event", "waits_for_space"));
    commit_free(&j->commit);
    runner_feed_kind(j, JOB_EV_NO_ROOM);
    inbox_run(j);
}

static void on_committed(enum store_status st, void *arg)
{
    struct call *c = arg;
    struct runner *r = c->r;
    struct runner_job *j = r->stopped ? NULL : runner_get(r, c->id);

    call_free(c);
    if (j && j->commit && st == STORE_OK) {
        committed(j);
    } else if (j && j->commit && st == STORE_FULL && j->commit->up.code == JOB_STORAGE_FAILED) {
        no_room(j);
    } else if (j && j->commit && (st == STORE_LOST || st == STORE_NOT_FOUND)) {
        lost(j);
    } else if (j && j->commit) {
        LOG_AT(j->commit->told ? LOG_DEBUG : LOG_ERROR, LOG_S("job", j->s.id),
               LOG_S("event", "commit_failed"), LOG_S("reason", store_status_name(st)));
        j->commit->again = j->commit->told = true;
        runner_set_wake(j, runner_mono(r) + COMMIT_AGAIN_MS);
    }
    runner_settle(r);
}
