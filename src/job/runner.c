#include "job/runner.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "job/job_event.h"
#include "job/runner_priv.h"

static bool wake_before(const struct heap_node *a, const struct heap_node *b)
{
    return container_of(a, struct runner_job, wake_node)->wake <
           container_of(b, struct runner_job, wake_node)->wake;
}

int64_t runner_mono(struct runner *r)
{
    return r->env.clock->mono_ms(r->env.clock);
}

int64_t runner_wall(struct runner *r)
{
    return r->env.clock->wall_ms(r->env.clock);
}

/* --- calls that are to be answered --- */

struct call *call_make(struct runner *r, const char *id, const char *upstream_id)
{
    struct call *c = xcalloc(1, sizeof(*c));

    c->r = r;
    memcpy(c->id, id, strlen(id) + 1);
    memcpy(c->upstream_id, upstream_id, strlen(upstream_id) + 1);
    list_push_back(&r->calls, &c->link);
    return c;
}

struct call *call_new(struct runner_job *j)
{
    return call_make(j->r, j->s.id, j->s.upstream_id);
}

struct runner_job *call_job(const struct call *c)
{
    struct runner_job *j = c->r->stopped ? NULL : runner_get(c->r, c->id);

    return j && strcmp(j->s.upstream_id, c->upstream_id) == 0 ? j : NULL;
}

void call_free(struct call *c)
{
    list_remove(&c->link);
    if (c->fini)
        c->fini(c->extra);
    free(c->extra);
    free(c->holds);
    free(c);
}

/* --- the table of live jobs --- */

struct runner_job *runner_get(struct runner *r, const char *id)
{
    struct runner_job *j;

    HASH_FIND_STR(r->by_id, id, j);
    return j;
}

struct runner_job *runner_add(struct runner *r, const struct job_summary *s, bool failed_known)
{
    struct runner_job *j = xcalloc(1, sizeof(*j));

    job_summary_copy(&j->s, s);
    j->r = r;
    j->need = need_get(r, s->need);
    j->failed_is = failed_known ? FAILED_KNOWN : FAILED_UNKNOWN;
    list_init(&j->inbox);
    list_init(&j->cancels);
    sched_job_init(&j->sched);
    j->sched.number = s->number;
    j->sched.seq = s->seq;
    j->sched.priority = s->priority;
    list_push_back(&r->jobs, &j->in_order);
    HASH_ADD_STR(r->by_id, s.id, j);
    r->live++;
    tally_add(j);
    if (s->state == JOB_DISPATCHING || s->state == JOB_RUNNING)
        place_use(r, s->server, 1);
    if (s->state != JOB_QUEUED)
        j->a = attempt_new(j, s->upstream_id);
    return j;
}

void runner_drop(struct runner_job *j)
{
    struct runner *r = j->r;

    place_dequeue(j);
    tally_drop(j);
    attempt_free(&j->a);
    heap_remove(&r->wakes, &j->wake_node);
    commit_free(&j->commit);
    list_for_each_safe(it, &j->inbox) {
        struct inbox_event *e = list_entry(it, struct inbox_event, link);

        free(e->message);
        free(e);
    }
    list_for_each_safe(it, &j->cancels)
        free(list_entry(it, struct cancel, link));
    list_remove(&j->in_order);
    HASH_DEL(r->by_id, j);
    r->live--;
    need_put(r, j->need);
    free(j->blamed);
    job_summary_fini(&j->s);
    free(j);
}

static void rewake(struct runner_job *j)
{
    int64_t at = j->step_wake;

    if (j->files_wake && (at == 0 || j->files_wake < at))
        at = j->files_wake;
    heap_remove(&j->r->wakes, &j->wake_node);
    j->wake = at;
    if (at)
        heap_push(&j->r->wakes, &j->wake_node);
}

void runner_set_wake(struct runner_job *j, int64_t mono)
{
    j->step_wake = mono;
    rewake(j);
}

void runner_set_files_wake(struct runner_job *j, int64_t mono)
{
    j->files_wake = mono;
    rewake(j);
}

void runner_view(const struct runner_job *j, struct runner_job_view *v)
{
    *v = (struct runner_job_view){.s = &j->s, .canceling = !list_empty(&j->cancels)};
    if (j->a) {
        v->progress_value = j->a->progress_value;
        v->progress_max = j->a->progress_max;
        v->progress_node = j->a->progress_node;
        v->executing = j->a->executing;
    }
}

/* --- life of the runner --- */

static void on_event(void *arg, const char *server, const char *id, const char *text, size_t n)
{
    attempt_event(arg, server, id, text, n);
    runner_settle(arg);
}

static void on_frame(void *arg, const char *server, const char *id, const void *data, size_t n)
{
    attempt_frame(arg, server, id, data, n);
    runner_settle(arg);
}

static void on_link(void *arg, const char *server, bool up)
{
    attempt_link(arg, server, up);
    runner_settle(arg);
}

static void on_removed(void *arg, const char *server)
{
    attempt_removed(arg, server);
    runner_settle(arg);
}

static void on_fleet_change(void *arg)
{
    place_fleet_changed(arg);
    runner_settle(arg);
}

static const struct fleet_listener fleet_hooks = {on_event, on_frame, on_link, on_removed, on_fleet_change};

struct runner *runner_new(const struct runner_env *env, const struct runner_config *cfg,
                          const struct runner_listener *l, void *arg)
{
    struct runner *r = xcalloc(1, sizeof(*r));

    r->env = *env;
    r->cfg = *cfg;
    r->listener = l;
    r->listener_arg = arg;
    r->sched = sched_new();
    r->generation = 1;
    list_init(&r->jobs);
    list_init(&r->strays);
    list_init(&r->calls);
    heap_init(&r->wakes, wake_before);
    fleet_listen(env->fleet, &fleet_hooks, r);
    place_fleet_changed(r);
    return r;
}

void runner_set_config(struct runner *r, const struct runner_config *cfg)
{
    r->cfg = *cfg;
    runner_settle(r);
}

static void cancels_answer_false(struct list *cancels)
{
    list_for_each_safe(it, cancels) {
        struct cancel *c = list_entry(it, struct cancel, link);

        list_remove(it);
        c->cb(false, c->arg);
        free(c);
    }
}

void runner_stop(struct runner *r)
{
    fleet_listen(r->env.fleet, NULL, NULL);
    r->stopped = true;
    /* A cancel that is not committed yet is decided by the next start; who waits for it need not. */
    list_for_each(it, &r->jobs)
        cancels_answer_false(&list_entry(it, struct runner_job, in_order)->cancels);
}

void runner_free(struct runner **rp)
{
    struct runner *r = *rp;

    if (r == NULL)
        return;
    if (!r->stopped)
        runner_stop(r);
    list_for_each_safe(it, &r->jobs)
        runner_drop(list_entry(it, struct runner_job, in_order));
    list_for_each_safe(it, &r->calls)
        call_free(list_entry(it, struct call, link));
    stray_free_all(r);
    place_fini(r);
    sched_free(&r->sched);
    heap_fini(&r->wakes);
    assert(r->needs == NULL);
    free(r);
    *rp = NULL;
}

/* --- start: everything unfinished is found again --- */

static void start_recover(struct runner *r)
{
    list_for_each_safe(it, &r->jobs)
        runner_feed_kind(list_entry(it, struct runner_job, in_order), JOB_EV_RECOVER);
}

static void start_loaded(struct runner *r, enum store_status st)
{
    if (st != STORE_OK)
        r->load_status = st;
    if (--r->loading || r->stopped)
        return;
    log_info(LOG_S("event", "jobs_loaded"), LOG_I("live", r->live), LOG_I("strays", list_len(&r->strays)),
             LOG_S("status", store_status_name(r->load_status)));
    if (r->load_status == STORE_OK)
        start_recover(r);
    r->ready(r->load_status, r->ready_arg);
    runner_settle(r);
}

static void on_unfinished(enum store_status st, struct job_summary *s, size_t n, void *arg)
{
    struct runner *r = arg;

    for (size_t i = 0; st == STORE_OK && i < n; i++)
        runner_add(r, &s[i], s[i].attempt == 0);
    start_loaded(r, st);
}

static void on_strays(enum store_status st, const struct store_stray *s, size_t n, void *arg)
{
    struct runner *r = arg;

    for (size_t i = 0; st == STORE_OK && i < n; i++)
        stray_add(r, &s[i], false);
    start_loaded(r, st);
}

void runner_start(struct runner *r, void (*ready)(enum store_status st, void *arg), void *arg)
{
    r->ready = ready;
    r->ready_arg = arg;
    r->loading = 2;
    r->load_status = STORE_OK;
    store_strays(r->env.store, on_strays, r);
    store_unfinished(r->env.store, on_unfinished, r);
}

/* --- time --- */

void runner_settle(struct runner *r)
{
    int64_t next = 0, stray;

    if (r->stopped)
        return;
    if (r->place_wanted)
        place_run(r);
    if (heap_top(&r->wakes))
        next = container_of(heap_top(&r->wakes), struct runner_job, wake_node)->wake;
    stray = stray_next(r);
    if (stray && (next == 0 || stray < next))
        next = stray;
    if (next != r->wake_asked && next != 0)
        r->env.wake(r->env.wake_arg, next);
    r->wake_asked = next;
}

static void wake_job(struct runner_job *j, int64_t now)
{
    if (j->files_wake && j->files_wake <= now) {
        runner_set_files_wake(j, 0);
        if (j->a) {
            files_pump(j->a); /* may end the job's present state: look again next time */
            return;
        }
    }
    if (j->step_wake && j->step_wake <= now) {
        runner_set_wake(j, 0);
        if (j->commit && j->commit->again)
            commit_again(j);
        else if (j->commit == NULL)
            runner_feed_kind(j, JOB_EV_TICK);
    }
}

void runner_tick(struct runner *r)
{
    int64_t now = runner_mono(r);
    struct heap_node *top;

    if (r->stopped)
        return;
    r->wake_asked = 0;
    while ((top = heap_top(&r->wakes)) != NULL &&
           container_of(top, struct runner_job, wake_node)->wake <= now)
        wake_job(container_of(top, struct runner_job, wake_node), now);
    stray_run(r);
    runner_settle(r);
}

/* --- submit --- */

struct submit_wait {
    store_submitted_cb *cb;
    void *arg;
    struct job_summary s;
    struct list cancels; /* asked for before the word of the commit has come */
    char *cancel_message;
    int64_t began; /* mono ms */
};

static void submit_fini(void *extra)
{
    struct submit_wait *w = extra;

    list_for_each_safe(it, &w->cancels)
        free(list_entry(it, struct cancel, link));
    free(w->cancel_message);
    job_summary_fini(&w->s);
}

static void cancel_add(struct list *cancels, runner_cancel_cb *cb, void *arg)
{
    struct cancel *c = xcalloc(1, sizeof(*c));

    c->cb = cb;
    c->arg = arg;
    list_push_back(cancels, &c->link);
}

/* The job has just been accepted, or not: those who have already asked to cancel it. */
static void cancel_early(struct submit_wait *w, struct runner_job *j)
{
    struct job_event ev = {.kind = JOB_EV_CANCEL, .message = w->cancel_message};

    if (list_empty(&w->cancels))
        return;
    if (j == NULL) {
        cancels_answer_false(&w->cancels);
        return;
    }
    list_for_each_safe(it, &w->cancels) {
        list_remove(it);
        list_push_back(&j->cancels, it);
    }
    runner_feed(j, &ev);
}

static void on_submitted(const struct store_submitted *res, void *arg)
{
    struct call *c = arg;
    struct runner *r = c->r;
    struct submit_wait *w = c->extra;
    struct runner_job *j = NULL;
    struct runner_job_view v;

    if (res->status == STORE_OK) {
        histogram_add(&r->submits, (runner_mono(r) - w->began) * 1000);
        w->s.seq = res->seq;
        w->s.number = res->number;
        j = runner_add(r, &w->s, true);
        log_info(LOG_S("job", j->s.id), LOG_S("state", "queued"), LOG_S("event", "accepted"),
                 LOG_S("tenant", j->s.tenant), LOG_S("client", j->s.client_id), LOG_I("seq", j->s.seq));
        runner_view(j, &v);
        r->listener->on_change(r->listener_arg, &v, JOB_QUEUED, NULL);
    }
    if (w->cb)
        w->cb(res, w->arg);
    if (r->stopped)
        j = NULL;
    if (j)
        runner_feed_kind(j, JOB_EV_RECOVER);
    cancel_early(w, j);
    call_free(c);
    runner_settle(r);
}

bool runner_submit(struct runner *r, const struct store_submit *in, store_submitted_cb *cb, void *arg)
{
    struct store_submit full = *in;
    struct store_event event;
    struct buf text = BUF_INIT;
    struct submit_wait *w;
    struct call *c;

    if (r->live >= r->cfg.max_live)
        return false;
    if (full.deadline == 0 && r->cfg.policy.queue_ms)
        full.deadline = full.created_at + r->cfg.policy.queue_ms;
    c = call_make(r, "", "");
    w = xcalloc(1, sizeof(*w));
    c->extra = w;
    c->fini = submit_fini;
    w->cb = cb;
    w->arg = arg;
    list_init(&w->cancels);
    w->began = runner_mono(r);
    memcpy(w->s.id, in->id, UUID_SIZE);
    w->s.state = JOB_QUEUED;
    w->s.version = 1;
    w->s.flags = in->flags;
    w->s.tenant = xstrdup(in->tenant);
    w->s.client_id = xstrdup_null(in->client_id);
    w->s.window_id = xstrdup_null(in->window_id);
    w->s.workflow_id = xstrdup_null(in->workflow_id);
    w->s.need = xstrdup_null(in->need);
    w->s.priority = in->priority;
    w->s.created_at = w->s.state_at = in->created_at;
    w->s.deadline = full.deadline;
    job_event_put_state(&text,
                        &(struct job_event_state){.id = in->id, .at = in->created_at, .state = JOB_QUEUED});
    event = (struct store_event){job_event_state_kind(JOB_QUEUED), buf_str(&text)};
    full.events = &event;
    full.n_events = 1;
    if (full.secrets)
        full.secrets = vault_seal(r->env.vault, in->id, in->secrets);
    store_submit(r->env.store, &full, on_submitted, c);
    if (full.secrets)
        bytes_unref(full.secrets);
    buf_free(&text);
    return true;
}

/* --- cancel --- */

static void cancel_unheard(bool canceled, void *arg)
{
    (void)canceled;
    (void)arg;
}

/* The submit of this id that the store has not answered yet: it may be committed, and others may have read it. */
static struct submit_wait *submit_under_way(struct runner *r, const char *id)
{
    list_for_each(it, &r->calls) {
        struct call *c = list_entry(it, struct call, link);

        if (c->fini == submit_fini && strcmp(((struct submit_wait *)c->extra)->s.id, id) == 0)
            return c->extra;
    }
    return NULL;
}

bool runner_cancel(struct runner *r, const char *tenant, const char *id, const char *message,
                   runner_cancel_cb *cb, void *arg)
{
    struct runner_job *j = runner_get(r, id);
    struct job_event ev = {.kind = JOB_EV_CANCEL, .message = message};
    struct submit_wait *w = j ? NULL : submit_under_way(r, id);
    const char *owner = j ? j->s.tenant : w ? w->s.tenant : NULL;
    bool first;

    if (owner == NULL || r->stopped || (tenant && strcmp(tenant, owner) != 0))
        return false;
    if (w) {
        cancel_add(&w->cancels, cb ? cb : cancel_unheard, arg);
        if (w->cancel_message == NULL)
            w->cancel_message = xstrdup(message);
        return true;
    }
    first = list_empty(&j->cancels);
    if (cb)
        cancel_add(&j->cancels, cb, arg);
    if (first)
        runner_feed(j, &ev);
    runner_settle(r);
    return true;
}

/* --- views --- */

bool runner_find(struct runner *r, const char *id, struct runner_job_view *out)
{
    struct runner_job *j = runner_get(r, id);

    if (j)
        runner_view(j, out);
    return j != NULL;
}

bool runner_find_attempt(struct runner *r, const char *upstream_id, struct runner_job_view *out)
{
    struct attempt *a;

    HASH_FIND_STR(r->by_attempt, upstream_id, a);
    if (a)
        runner_view(a->job, out);
    return a != NULL;
}

void runner_each(struct runner *r, bool (*cb)(const struct runner_job_view *job, void *arg), void *arg)
{
    list_for_each_safe(it, &r->jobs) {
        struct runner_job_view v;

        runner_view(list_entry(it, struct runner_job, in_order), &v);
        if (!cb(&v, arg))
            return;
    }
}

const struct histogram *runner_submit_times(const struct runner *r)
{
    return &r->submits;
}

int runner_bound(struct runner *r, const char *server)
{
    int i = place_index(r, server);

    return i < 0 ? 0 : r->use[i].bound;
}

int64_t runner_oldest_waiting(const struct runner *r)
{
    if (r->all[JOB_QUEUED])
        list_for_each(it, &r->jobs) { /* in order of acceptance: only what is under way stands before it */
            const struct runner_job *j = list_entry(it, struct runner_job, in_order);

            if (j->s.state == JOB_QUEUED)
                return j->s.created_at;
        }
    return 0;
}
