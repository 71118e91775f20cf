/* Whole lives of jobs: the real runner, scheduler and state machine over a scripted fleet, a store whose
 * every commit and answer is a separate moment, and virtual time. A seed fixes everything: arrivals, cancels,
 * deaths of servers, late and repeated events, and crashes of the gateway between any two moments. What
 * clients were told is kept aside and held against what the store and the servers have in the end.
 *
 *   runner_sim [SEED [SEEDS [JOBS]]]     one seed prints its story */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/log.h"
#include "job/runner.h"
#include "store/store_mem.h"
#include "world.h"

struct told { /* what the outside has seen of one job */
    char id[UUID_SIZE];
    bool paid, asked_cancel, cancel_confirmed;
    bool accepted;        /* the submit was answered with OK */
    int ends;             /* terminal announcements in one life of the gateway, at most 1 */
    enum job_state state; /* the latest announced terminal state */
    bool ended;
    unsigned epoch;
    struct sim *sim;
    UT_hash_handle hh;
};

struct sim {
    struct world w;
    struct store *store;
    struct runner *r;
    struct told *told;
    uint64_t seed;
    int jobs, submitted;
    int64_t wake_at;
    unsigned wake_epoch;
    bool healed, verbose, started;
    int broken;
    int crashes, ended[JOB_STATES], retried;
};

static void broke(struct sim *s, const char *id, const char *what)
{
    s->broken++;
    printf("seed %" PRIu64 ": BROKEN job=%s %s (t=%" PRId64 ")\n", s->seed, id, what, s->w.mono);
}

static void story(struct sim *s, const char *id, const char *what, const char *more, long n)
{
    if (s->verbose)
        printf("%8.3f %s %s%s %ld\n", (double)(s->w.mono - 1000000) / 1000, id, what, more, n);
}

/* --- what the gateway tells --- */

static struct told *told_of(struct sim *s, const char *id)
{
    struct told *t;

    HASH_FIND_STR(s->told, id, t);
    return t;
}

/* P2, P4, P5: what stands in the end is whole, of one attempt, and of the server that ran it. */
static void check_outputs(struct sim *s, const struct runner_job_view *job, const struct runner_end *end)
{
    for (size_t i = 0; i < end->n_outputs; i++) {
        const struct job_output *o = &end->outputs[i];
        uint8_t want[BLAKE3_LEN];

        world_hash(job->s->server, job->s->upstream_id, o->filename, want);
        if (memcmp(want, o->blake3, BLAKE3_LEN) != 0)
            broke(s, job->s->id, "an output is not what its server made");
        if (o->attempt != job->s->attempt)
            broke(s, job->s->id, "an output is of another attempt");
    }
    if (job->s->state == JOB_SUCCEEDED && end->n_outputs != 2)
        broke(s, job->s->id, "succeeded without all of its outputs");
    if (job->s->state != JOB_SUCCEEDED && end->error->code == JOB_OK)
        broke(s, job->s->id, "failed without a name");
}

static void on_change(void *arg, const struct runner_job_view *job, enum job_state from,
                      const struct runner_end *end)
{
    struct sim *s = arg;
    struct told *t = told_of(s, job->s->id);

    story(s, job->s->id, "-> ", job_state_name(job->s->state), job->s->attempt);
    if (t == NULL) {
        broke(s, job->s->id, "told of a job that nobody submitted");
        return;
    }
    if (t->ended && t->epoch == s->w.epoch)
        broke(s, t->id, "told of after its end");
    if (t->ended && t->state != job->s->state)
        broke(s, t->id, "left its end");
    if (from == JOB_QUEUED && job->s->attempt > 1 && job->s->state == JOB_DISPATCHING)
        s->retried++;
    if (end == NULL)
        return;
    check_outputs(s, job, end);
    if (t->cancel_confirmed && job->s->state != JOB_CANCELED)
        broke(s, t->id, "a confirmed cancel came to another end");
    t->ended = true;
    t->state = job->s->state;
    t->epoch = s->w.epoch;
}

static void on_event(void *arg, const struct runner_job_view *job, const char *text, size_t n)
{
    struct sim *s = arg;
    struct told *t = told_of(s, job->s->id);

    (void)text;
    (void)n;
    if (t && t->ended)
        broke(s, t->id, "an event after its end");
}

static void on_frame(void *arg, const struct runner_job_view *job, const void *data, size_t n)
{
    (void)data;
    on_event(arg, job, NULL, n);
}

static const struct runner_listener listener = {on_change, on_event, on_frame};

/* --- clients --- */

static void on_canceled(bool canceled, void *arg)
{
    struct told *t = arg;

    if (canceled)
        t->cancel_confirmed = true;
    if (canceled && t->ended && t->state != JOB_CANCELED)
        broke(t->sim, t->id, "cancel confirmed after another end");
}

static void cancel_later(struct world *w, void *arg)
{
    struct sim *s = container_of(w, struct sim, w);
    struct told *t = told_of(s, arg);

    if (t && s->started && runner_cancel(s->r, NULL, t->id, "canceled by the client", on_canceled, t)) {
        t->asked_cancel = true;
        story(s, t->id, "cancel asked", "", 0);
    }
    free(arg);
}

static void on_submitted(const struct store_submitted *res, void *arg)
{
    struct told *t = arg;

    if (res->status != STORE_OK)
        return;
    t->accepted = true;
    if (world_chance(&t->sim->w, 100))
        world_at(&t->sim->w, world_rnd(&t->sim->w, 9000), false, cancel_later, xstrdup(t->id));
}

static void submit_one(struct sim *s)
{
    struct told *t = xcalloc(1, sizeof(*t));
    struct bytes *graph = bytes_new("{\"5\": {\"class_type\": \"KSampler\", \"inputs\": {}}}", 46);
    struct bytes *answer = bytes_new("{}", 2);
    struct store_submit in = {.tenant = "default", .graph = graph, .answer = answer};

    uuid_v7(&s->w.clock, t->id);
    t->sim = s;
    t->paid = world_chance(&s->w, 150);
    HASH_ADD_STR(s->told, id, t);
    in.id = t->id;
    in.flags = t->paid ? JOB_F_PAID : 0;
    in.need = world_chance(&s->w, 300) ? (world_rnd(&s->w, 2) ? "1" : "0") : NULL;
    in.created_at = s->w.clock.wall_ms(&s->w.clock);
    if (world_chance(&s->w, 30))
        in.deadline = in.created_at + world_rnd(&s->w, 20000);
    story(s, t->id, "submitted", "", 0);
    if (!runner_submit(s->r, &in, on_submitted, t))
        broke(s, t->id, "refused");
    bytes_unref(graph);
    bytes_unref(answer);
    s->submitted++;
}

static void arrival(struct world *w, void *arg)
{
    struct sim *s = container_of(w, struct sim, w);

    for (int burst = world_chance(w, 100) ? 6 : 1; burst > 0 && s->started && s->submitted < s->jobs; burst--)
        submit_one(s);
    if (s->submitted < s->jobs)
        world_at(w, world_rnd(w, 3000), false, arrival, arg);
}

/* --- the gateway's life --- */

static void wake_now(struct world *w, void *arg)
{
    struct sim *s = container_of(w, struct sim, w);

    (void)arg;
    if (s->r)
        runner_tick(s->r);
}

static void wake(void *arg, int64_t mono)
{
    struct sim *s = arg;

    world_at(&s->w, mono > s->w.mono ? mono - s->w.mono : 0, true, wake_now, NULL);
}

static void ready(enum store_status st, void *arg)
{
    struct sim *s = arg;

    if (st != STORE_OK)
        broke(s, "-", "could not start");
    s->started = true;
}

static void gateway_start(struct sim *s)
{
    struct runner_env env = {&s->w.clock, s->store, &s->w.fleet, NULL, wake, s};
    struct runner_config cfg = {.policy = job_policy_default, .max_live = 1000000};

    cfg.output_ms = 60000;
    s->started = false;
    s->r = runner_new(&env, &cfg, &listener, s);
    runner_start(s->r, ready, s);
}

static void gateway_crash(struct sim *s)
{
    s->crashes++;
    story(s, "-", "gateway killed", "", s->crashes);
    world_crash(&s->w);
    store_mem_crash(s->store);
    runner_free(&s->r);
    gateway_start(s);
}

/* One moment. False: nothing can happen any more. */
static bool moment(struct sim *s)
{
    size_t given = store_mem_given(s->store), pending = store_mem_pending(s->store);
    uint32_t pick = world_rnd(&s->w, 100);

    if (!s->healed && world_rnd(&s->w, 3000) == 0)
        gateway_crash(s);
    else if (!s->healed && world_rnd(&s->w, 2000) == 0)
        store_mem_fail(s->store, world_rnd(&s->w, 2) ? STORE_FULL : STORE_FAILED, 1 + world_rnd(&s->w, 3));
    else if (given && pick < 45)
        store_mem_commit(s->store);
    else if (pending && pick < 90)
        store_mem_deliver(s->store, pick % 7 ? 0 : world_rnd(&s->w, (uint32_t)pending));
    else if (!world_next(&s->w) && given == 0 && pending == 0)
        return false;
    return true;
}

/* --- the end --- */

static void on_record(enum store_status st, struct job_record *rec, void *arg)
{
    struct told *t = arg;
    struct sim *s = t->sim;
    int began = 0;

    if (st != STORE_OK) {
        if (t->accepted)
            broke(s, t->id, "accepted, and gone");
        return;
    }
    if (JOB_STATE_LIVE(rec->s.state))
        broke(s, t->id, "never came to an end");
    else
        s->ended[rec->s.state]++;
    if (t->ended && t->state != rec->s.state)
        broke(s, t->id, "told one end, kept another");
    if (t->cancel_confirmed && rec->s.state != JOB_CANCELED)
        broke(s, t->id, "canceled, and not");
    if (rec->s.state == JOB_SUCCEEDED && rec->n_outputs != 2)
        broke(s, t->id, "the record lacks outputs");
    if (rec->s.state == JOB_CANCELED && rec->n_outputs != 0)
        broke(s, t->id, "canceled, with outputs");
    for (size_t i = 0; i < rec->n_attempts; i++) {
        began += world_began(&s->w, rec->attempts[i].upstream_id);
        if (world_began(&s->w, rec->attempts[i].upstream_id) > 1)
            broke(s, t->id, "one attempt ran twice");
        if (rec->attempts[i].code == JOB_OK && rec->s.state != JOB_SUCCEEDED)
            broke(s, t->id, "an attempt has no end");
    }
    if (t->paid && began > 1)
        broke(s, t->id, "a paid job began to run more than once");
    job_record_free(&rec);
}

static void check_end(struct sim *s)
{
    struct runner_counts n;
    struct told *t, *tmp;

    runner_counts(s->r, NULL, &n);
    if (n.live)
        broke(s, "-", "live jobs are left");
    if (n.strays)
        broke(s, "-", "strays are left");
    HASH_ITER(hh, s->told, t, tmp) {
        store_get(s->store, t->id, JOB_PART_RECORD, on_record, t);
    }
    store_mem_settle(s->store);
    for (int i = 0; i < WORLD_SERVERS; i++)
        if (!list_empty(&s->w.servers[i].queue))
            broke(s, s->w.servers[i].name, "still has work of ours");
    if (s->w.broken) {
        s->broken += s->w.broken;
        printf("seed %" PRIu64 ": BROKEN %s (%d times)\n", s->seed, s->w.why, s->w.broken);
    }
}

static bool all_ended(struct sim *s)
{
    struct runner_counts n;

    runner_counts(s->r, NULL, &n);
    return s->started && n.live == 0 && n.strays == 0 && store_mem_given(s->store) == 0 &&
           store_mem_pending(s->store) == 0;
}

static void draw_faults(struct sim *s)
{
    struct world *w = &s->w;

    w->faults = (struct world_faults){.die = (int)world_rnd(w, 12),
                                      .link_drop = (int)world_rnd(w, 20),
                                      .post_lost = (int)world_rnd(w, 80),
                                      .post_refused = (int)world_rnd(w, 50),
                                      .reject = (int)world_rnd(w, 30),
                                      .history_lag = (int)world_rnd(w, 500),
                                      .history_bad = (int)world_rnd(w, 120),
                                      .fetch_bad = (int)world_rnd(w, 200),
                                      .exec_error = (int)world_rnd(w, 50),
                                      .oom = (int)world_rnd(w, 40),
                                      .interrupted = (int)world_rnd(w, 10),
                                      .late_event = (int)world_rnd(w, 200),
                                      .repeat_event = (int)world_rnd(w, 200),
                                      .hang = (int)world_rnd(w, 10),
                                      .disk_full = (int)world_rnd(w, 20),
                                      .slow = (int)world_rnd(w, 100)};
}

static int run_seed(uint64_t seed, int jobs, bool verbose, struct sim *sum)
{
    static struct sim s;
    struct told *t, *tmp;
    int64_t healed_at = 0;

    memset(&s, 0, sizeof(s));
    s.seed = seed;
    s.jobs = jobs;
    s.verbose = verbose;
    s.store = store_mem_new();
    world_init(&s.w, seed, s.store);
    draw_faults(&s);
    gateway_start(&s);
    world_at(&s.w, 0, false, arrival, NULL);
    for (;;) {
        if (!s.healed && s.submitted >= s.jobs && world_rnd(&s.w, 4000) == 0) {
            s.healed = true;
            healed_at = s.w.mono;
            world_heal(&s.w);
        }
        if (s.healed && all_ended(&s))
            break;
        if (!moment(&s) || (s.healed && s.w.mono - healed_at > 48 * 3600 * 1000LL))
            break;
    }
    check_end(&s);
    sum->broken += s.broken;
    sum->crashes += s.crashes;
    sum->retried += s.retried;
    sum->submitted += s.submitted;
    for (int i = 0; i < JOB_STATES; i++)
        sum->ended[i] += s.ended[i];
    store_close(&s.store);
    world_crash(&s.w);
    runner_free(&s.r);
    world_fini(&s.w);
    HASH_ITER(hh, s.told, t, tmp) {
        HASH_DEL(s.told, t);
        free(t);
    }
    return s.broken;
}

int main(int argc, char **argv)
{
    uint64_t first = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
    int seeds = argc > 2 ? atoi(argv[2]) : argc > 1 ? 1 : 200;
    int jobs = argc > 3 ? atoi(argv[3]) : 60;
    struct sim sum = {0};
    int bad = 0;

    hash_seed(1, 2);
    log_setup(seeds == 1 ? LOG_DEBUG : LOG_ERROR + 1, LOG_TEXT);
    for (int i = 0; i < seeds; i++)
        bad += run_seed(first + (uint64_t)i, jobs, seeds == 1, &sum) != 0;
    printf("seeds %d, jobs %d, gateway crashes %d, retries %d: succeeded %d failed %d canceled %d expired "
           "%d; broken "
           "promises %d in %d seeds\n",
           seeds, sum.submitted, sum.crashes, sum.retried, sum.ended[JOB_SUCCEEDED], sum.ended[JOB_FAILED],
           sum.ended[JOB_CANCELED], sum.ended[JOB_EXPIRED], sum.broken, bad);
    return bad != 0;
}
