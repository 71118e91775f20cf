#include "job/job_fsm.h"

#include <stddef.h>

#include "base/plant.h"

/* "Not there" is believed after two lookups this far apart: ComfyUI moves an entry from the queue to history
 * under its lock, and a POST may still be on its way through a proxy. */
#define ABSENT_APART_MS 2000
#define FIND_EVERY_MS 1500   /* a bound job is looked up when its server's events are silent this long */
#define HISTORY_FIRST_MS 100 /* ComfyUI 0.3.64 sends execution_success up to 295 ms before history has it */
#define HISTORY_MOST_MS 2000
#define REFUSED_APART_MS 1000 /* refused or reset twice, this far apart, is as good as timeout.lost */
#define STORAGE_TRIES 2
#define STORAGE_WAIT_MS 1000
#define FORGOTTEN "the server was away and no longer knows the prompt"

const struct job_policy job_policy_default = {
    .max_attempts = 3, .lost_ms = 60000, .stall_ms = 1800000, .history_ms = 60000, .queue_ms = 0};

static const char *const event_names[JOB_EVENTS] = {
    "recover",        "tick",    "cancel",     "placed",          "unplaceable",    "accepted",
    "rejected",       "refused", "unsendable", "stage_failed",    "post_lost",      "started",
    "progress",       "ended",   "found",      "found_ended",     "absent",         "unreachable",
    "link_dropped",   "removed", "history",    "history_not_yet", "history_failed", "collected",
    "collect_failed", "no_room"};

const char *job_event_name(enum job_event_kind k)
{
    return event_names[k];
}

static const struct job_retry_rule retry_rules[] = {
    {JOB_NO_CAPABLE_SERVER, JOB_RETRY_NEVER, "no server could run it"},
    {JOB_VALIDATION_FAILED, JOB_RETRY_NEVER, "the graph is wrong everywhere"},
    {JOB_SERVER_REJECTED, JOB_RETRY_ELSEWHERE, "found valid here, so this server may lack what another has"},
    {JOB_EXECUTION_ERROR, JOB_RETRY_NEVER, "a node raised: it would again; but see may_run_again()"},
    {JOB_OUT_OF_MEMORY, JOB_RETRY_ELSEWHERE, "another server may have more memory; once"},
    {JOB_INTERRUPTED, JOB_RETRY_NEVER, "someone wanted it to stop"},
    {JOB_SERVER_LOST, JOB_RETRY_ANYWHERE, "the server's fault, not the job's"},
    {JOB_SERVER_RESTARTED, JOB_RETRY_ANYWHERE, "the server forgot it"},
    {JOB_STALLED, JOB_RETRY_ANYWHERE, "the server may be stuck"},
    {JOB_DISPATCH_FAILED, JOB_RETRY_ANYWHERE, "it never began"},
    {JOB_HISTORY_UNAVAILABLE, JOB_RETRY_ANYWHERE, "its result cannot be read from this server"},
    {JOB_HISTORY_MISSING, JOB_RETRY_ANYWHERE, "its result is not on this server"},
    {JOB_OUTPUT_UNAVAILABLE, JOB_RETRY_ANYWHERE, "its files cannot be read from this server"},
    {JOB_OUTPUT_UNRECOGNISED, JOB_RETRY_NEVER, "it would make the same again"},
    {JOB_STORAGE_FAILED, JOB_RETRY_NEVER, "our disk, not the server's fault"},
    {JOB_CODE_EXPIRED, JOB_RETRY_NEVER, "its time is over"},
    {JOB_CODE_CANCELED, JOB_RETRY_NEVER, "its owner does not want it"},
};

const struct job_retry_rule *job_retry_rule(enum job_code code)
{
    for (size_t i = 0; i < ARRAY_LEN(retry_rules); i++)
        if (retry_rules[i].code == code)
            return &retry_rules[i];
    return NULL;
}

struct step {
    const struct job_hard *h;
    const struct job_event *ev;
    int64_t mono, wall;
    const struct job_policy *pol;
    struct job_update *up;
};

/* --- small moves --- */

static void move_to(struct step *s, enum job_state state)
{
    s->up->commit = true;
    s->up->state = state;
    s->up->soft.since = s->mono;
}

/* A sign that the server has this attempt. */
static void heard(struct step *s, bool advances)
{
    s->up->soft.heard = s->mono;
    s->up->soft.absent_at = 0;
    s->up->soft.refused_at = 0;
    if (advances)
        s->up->soft.progressed = s->mono;
}

static void ask(struct step *s, unsigned effect)
{
    s->up->soft.asking = true;
    s->up->soft.next_at = s->mono + FIND_EVERY_MS;
    s->up->effects |= effect;
}

static void ask_later(struct step *s, int64_t ms)
{
    s->up->soft.next_at = s->mono + ms;
}

static void finish(struct step *s, enum job_state state, enum job_code code, const char *message)
{
    bool live_attempt = s->h->state != JOB_QUEUED;

    move_to(s, state);
    s->up->end = live_attempt;
    s->up->code = code;
    s->up->message = message;
    s->up->effects = JOB_FX_FINISH;
    if (!live_attempt && state != JOB_FAILED)
        s->up->flags |= JOB_F_NO_HISTORY;
}

static void requeue(struct step *s, enum job_code code, const char *message)
{
    move_to(s, JOB_QUEUED);
    s->up->end = true;
    s->up->code = code;
    s->up->message = message;
    s->up->soft = (struct job_soft){.since = s->mono};
    s->up->effects = JOB_FX_ENQUEUE;
}

/* Does it cost money, or may it? What was accepted before any server had been seen is not known. */
static bool maybe_paid(const struct step *s)
{
    return (s->h->flags & (JOB_F_PAID | JOB_F_UNVALIDATED)) != 0;
}

static bool may_run_again(const struct step *s, enum job_code code, bool may_have_started)
{
    const struct job_retry_rule *rule = job_retry_rule(code);
    enum job_retry retry = rule ? rule->retry : JOB_RETRY_NEVER;

    /* A fault of the device is not the job's. Where the latest job failed too, or none has succeeded yet, while
     * others succeed, nobody knows whose fault it is: another server tells. So a graph that fails everywhere runs at
     * most once more than needed. */
    if (code == JOB_EXECUTION_ERROR && s->ev->device_fault)
        retry = JOB_RETRY_ANYWHERE;
    else if (code == JOB_EXECUTION_ERROR && s->ev->doubtful && !(s->h->flags & JOB_F_ERROR_RETRIED))
        retry = JOB_RETRY_ELSEWHERE;
    if (maybe_paid(s) && may_have_started && !PLANTED(PAID_RETRIED))
        return false;
    if (code == JOB_OUT_OF_MEMORY && (s->h->flags & JOB_F_OOM_RETRIED))
        return false;
    if (s->h->spent >= s->pol->max_attempts)
        return false;
    return retry == JOB_RETRY_ANYWHERE || (retry == JOB_RETRY_ELSEWHERE && s->ev->elsewhere);
}

/* The present attempt has failed. stray: the server may still hold it. */
static void attempt_failed(struct step *s, enum job_code code, const char *message, bool stray,
                           bool may_have_started)
{
    if (may_run_again(s, code, may_have_started)) {
        requeue(s, code, message);
        if (code == JOB_OUT_OF_MEMORY)
            s->up->flags |= JOB_F_OOM_RETRIED;
        if (code == JOB_EXECUTION_ERROR && !s->ev->device_fault)
            s->up->flags |= JOB_F_ERROR_RETRIED;
    } else {
        /* A paid graph whose outcome is unknown is never sent again, and says so. */
        if (maybe_paid(s) && s->h->state == JOB_DISPATCHING && code == JOB_SERVER_LOST)
            code = JOB_DISPATCH_FAILED;
        finish(s, JOB_FAILED, code, message);
    }
    s->up->stray = stray;
}

/* --- finding: shared by dispatching and running --- */

/* Silent since soft.heard, or refusing connections: too long? */
static bool give_up_silent(struct step *s)
{
    struct job_soft *soft = &s->up->soft;

    if (s->mono - soft->heard >= s->pol->lost_ms) {
        attempt_failed(s, JOB_SERVER_LOST, "no sign of life for as long as timeout.lost allows", true, true);
        return true;
    }
    if (!s->ev->refused)
        return false;
    if (soft->refused_at == 0)
        soft->refused_at = s->mono;
    if (s->mono - soft->refused_at < REFUSED_APART_MS)
        return false;
    attempt_failed(s, JOB_SERVER_LOST, "it refuses connections", true, true);
    return true;
}

/* An operator's decision, not a failure: it uses up no attempt. A paid graph is not sent again all the same. */
static void step_removed(struct step *s)
{
    static const char why[] = "the server was removed";

    if (s->h->flags & JOB_F_PAID) {
        attempt_failed(s, JOB_SERVER_LOST, why, true, true);
        return;
    }
    requeue(s, JOB_SERVER_LOST, why);
    s->up->spent = s->h->spent - 1;
    s->up->stray = true;
}

static void step_absent(struct step *s)
{
    struct job_soft *soft = &s->up->soft;
    enum job_code code;
    const char *why;

    soft->asking = false;
    soft->heard = s->mono;
    soft->refused_at = 0;
    if (soft->posting) /* it may still arrive */
        return;
    if (soft->absent_at == 0)
        soft->absent_at = s->mono;
    if (s->mono - soft->absent_at < ABSENT_APART_MS && !PLANTED(ABSENT_BELIEVED_ONCE)) {
        ask_later(s, soft->absent_at + ABSENT_APART_MS - s->mono);
        return;
    }
    if (s->h->state == JOB_DISPATCHING) {
        code = JOB_DISPATCH_FAILED;
        why = "the answer to POST /prompt was lost and the server does not have the prompt";
    } else if (soft->link_dropped) {
        code = JOB_SERVER_RESTARTED;
        why = FORGOTTEN;
    } else if (soft->started) {
        code = JOB_HISTORY_MISSING;
        why = "the prompt ran, but the server's history does not hold it";
    } else {
        code = JOB_INTERRUPTED;
        why = "it was taken out of the server's queue";
    }
    attempt_failed(s, code, why, false, true);
}

/* The server says that it ended: read its history. */
static void begin_collecting(struct step *s)
{
    move_to(s, JOB_COLLECTING);
    s->up->started = true;
    heard(s, true);
    s->up->soft.posting = false;
    s->up->soft.link_dropped = false; /* from now on it would mean that history may be lost */
    s->up->soft.started = true;
    s->up->soft.ended_at = s->mono;
    s->up->soft.tries = 1;
    ask(s, JOB_FX_HISTORY);
}

static void begin_running(struct step *s, bool started)
{
    move_to(s, JOB_RUNNING);
    s->up->started = true;
    s->up->soft.started |= started;
    heard(s, true);
    ask_later(s, FIND_EVERY_MS);
}

/* --- one function per state --- */

static void step_queued(struct step *s)
{
    switch (s->ev->kind) {
    case JOB_EV_RECOVER:
        s->up->soft = (struct job_soft){.since = s->mono};
        s->up->effects = JOB_FX_ENQUEUE;
        break;
    case JOB_EV_PLACED:
        move_to(s, JOB_DISPATCHING);
        s->up->begin = true;
        s->up->spent = s->h->spent + 1;
        s->up->soft =
            (struct job_soft){.since = s->mono, .heard = s->mono, .progressed = s->mono, .posting = true};
        s->up->effects = JOB_FX_SUBMIT;
        return;
    case JOB_EV_UNPLACEABLE:
        finish(s, JOB_FAILED, JOB_NO_CAPABLE_SERVER,
               s->ev->message ? s->ev->message : "no configured server can run this prompt");
        return;
    case JOB_EV_UNSENDABLE: finish(s, JOB_FAILED, s->ev->code, s->ev->message); return;
    default: break;
    }
    if (s->h->deadline && s->wall >= s->h->deadline)
        finish(s, JOB_EXPIRED, JOB_CODE_EXPIRED,
               "no server took it before its time was over (timeout.queue)");
}

/* A graph found valid here that a server refuses may be taken by another. One that was accepted unchecked, because no
 * server had ever answered, is told to be wrong by the last one that is asked. */
static void step_rejected(struct step *s)
{
    attempt_failed(s, JOB_SERVER_REJECTED, s->ev->message, false, false);
    if (s->up->state == JOB_FAILED && (s->h->flags & JOB_F_UNVALIDATED) &&
        s->ev->code == JOB_VALIDATION_FAILED)
        s->up->code = JOB_VALIDATION_FAILED;
}

/* The POST came to nothing, for certain. */
static void step_not_taken(struct step *s)
{
    const char *message = s->ev->message;

    switch (s->ev->kind) {
    case JOB_EV_REFUSED:
        requeue(s, JOB_DISPATCH_FAILED, message ? message : "the server could not be reached");
        s->up->spent = s->h->spent - 1;
        s->up->not_before = s->wall + JOB_WAIT_MOST_MS;
        break;
    case JOB_EV_REJECTED: step_rejected(s); break;
    case JOB_EV_STAGE_FAILED: attempt_failed(s, JOB_DISPATCH_FAILED, message, false, false); break;
    default: finish(s, JOB_FAILED, s->ev->code, message); break;
    }
}

static void step_dispatching(struct step *s)
{
    struct job_soft *soft = &s->up->soft;

    switch (s->ev->kind) {
    case JOB_EV_RECOVER:
        *soft = (struct job_soft){
            .since = s->mono, .heard = s->mono, .progressed = s->mono, .link_dropped = true};
        ask(s, JOB_FX_FIND);
        break;
    case JOB_EV_ACCEPTED:
        soft->posting = false;
        begin_running(s, false);
        break;
    case JOB_EV_STARTED:
    case JOB_EV_PROGRESS: begin_running(s, true); break;
    case JOB_EV_FOUND:
        soft->asking = false;
        begin_running(s, s->ev->running);
        break;
    case JOB_EV_ENDED:
    case JOB_EV_FOUND_ENDED: begin_collecting(s); break;
    case JOB_EV_REFUSED:
    case JOB_EV_REJECTED:
    case JOB_EV_STAGE_FAILED:
    case JOB_EV_UNSENDABLE:
        if (soft->posting) /* else it is not about this POST */
            step_not_taken(s);
        break;
    case JOB_EV_POST_LOST:
        soft->posting = false;
        if (!soft->asking)
            ask(s, JOB_FX_FIND);
        break;
    case JOB_EV_LINK_DROPPED: soft->link_dropped = true; break;
    case JOB_EV_ABSENT: step_absent(s); break;
    case JOB_EV_UNREACHABLE:
        soft->asking = false;
        give_up_silent(s);
        break;
    case JOB_EV_TICK:
        if (!soft->posting && !soft->asking && s->mono >= soft->next_at && !give_up_silent(s))
            ask(s, JOB_FX_FIND);
        break;
    default: break;
    }
}

static void step_running(struct step *s)
{
    struct job_soft *soft = &s->up->soft;

    switch (s->ev->kind) {
    case JOB_EV_RECOVER:
        *soft = (struct job_soft){
            .since = s->mono, .heard = s->mono, .progressed = s->mono, .link_dropped = true};
        ask(s, JOB_FX_FIND);
        return;
    case JOB_EV_ACCEPTED:
    case JOB_EV_POST_LOST:
    case JOB_EV_REFUSED: /* the POST is over; what the server has shown is better than what the POST says */
    case JOB_EV_REJECTED: soft->posting = false; break;
    case JOB_EV_STARTED:
    case JOB_EV_PROGRESS:
        soft->started = true;
        heard(s, true);
        break;
    case JOB_EV_FOUND:
        soft->asking = false;
        if (s->ev->dead) {
            attempt_failed(s, JOB_STALLED, "the server answers, but its worker is dead or stuck", true, true);
            return;
        }
        heard(s, !s->ev->running || !soft->started); /* waiting in the server's queue is no stall */
        soft->started |= s->ev->running;
        break;
    case JOB_EV_ENDED:
    case JOB_EV_FOUND_ENDED: begin_collecting(s); return;
    case JOB_EV_LINK_DROPPED: soft->link_dropped = true; break;
    case JOB_EV_ABSENT: step_absent(s); return;
    case JOB_EV_UNREACHABLE: soft->asking = false; break;
    default: break;
    }
    if (give_up_silent(s))
        return;
    /* Only what it answered counts: one that is silent may be lost, one without the prompt was restarted. */
    if (!soft->absent_at && soft->heard - soft->progressed >= s->pol->stall_ms) {
        attempt_failed(s, JOB_STALLED,
                       "its server answers, but nothing moved for as long as timeout.stall allows", true,
                       true);
        return;
    }
    if (s->ev->kind == JOB_EV_TICK && !soft->asking && s->mono >= soft->next_at) {
        if (s->mono - soft->heard >= FIND_EVERY_MS)
            ask(s, JOB_FX_FIND);
        else
            soft->next_at = soft->heard + FIND_EVERY_MS;
    }
}

/* History was not to be had: ask again, or give up after timeout.history. */
static void history_again(struct step *s)
{
    struct job_soft *soft = &s->up->soft;
    int64_t wait = HISTORY_FIRST_MS;

    soft->asking = false;
    if (give_up_silent(s))
        return;
    if (s->mono - soft->ended_at >= s->pol->history_ms) {
        if (soft->answered && soft->link_dropped)
            attempt_failed(s, JOB_SERVER_RESTARTED, FORGOTTEN, false, true);
        else if (soft->answered)
            attempt_failed(s, JOB_HISTORY_MISSING,
                           "the server says it ended, but its history does not hold the prompt", true, true);
        else
            attempt_failed(s, JOB_HISTORY_UNAVAILABLE,
                           s->ev->message ? s->ev->message : "the server's history could not be read", true,
                           true);
        return;
    }
    for (int i = 1; i < soft->tries && wait < HISTORY_MOST_MS; i++)
        wait *= 2;
    ask_later(s, wait);
}

static void step_history(struct step *s)
{
    struct job_soft *soft = &s->up->soft;

    heard(s, true);
    if (soft->judged)
        return;
    if (s->ev->code != JOB_OK && may_run_again(s, s->ev->code, true)) {
        attempt_failed(s, s->ev->code, s->ev->message, false, true);
        return;
    }
    soft->judged = true;
    soft->verdict = s->ev->code;
    soft->tries = 1;
    soft->asking = true;
    s->up->effects = JOB_FX_COLLECT;
}

static void step_collect_failed(struct step *s)
{
    struct job_soft *soft = &s->up->soft;

    if (!soft->judged)
        return;
    if (s->ev->code == JOB_STORAGE_FAILED && soft->tries < STORAGE_TRIES) {
        soft->tries++;
        soft->asking = false;
        ask_later(s, STORAGE_WAIT_MS);
        return;
    }
    attempt_failed(s, s->ev->code, s->ev->message, false, true);
}

static void step_collecting(struct step *s)
{
    struct job_soft *soft = &s->up->soft;

    switch (s->ev->kind) {
    case JOB_EV_RECOVER:
        *soft = (struct job_soft){.since = s->mono,
                                  .heard = s->mono,
                                  .progressed = s->mono,
                                  .ended_at = s->mono,
                                  .started = true,
                                  .tries = 1};
        ask(s, JOB_FX_HISTORY);
        break;
    case JOB_EV_LINK_DROPPED: soft->link_dropped = true; break;
    case JOB_EV_HISTORY: step_history(s); break;
    case JOB_EV_HISTORY_NOT_YET:
        if (soft->judged)
            break;
        heard(s, false);
        soft->answered = true;
        history_again(s);
        break;
    case JOB_EV_HISTORY_FAILED:
        if (soft->judged)
            break;
        if (s->ev->answered)
            heard(s, false);
        soft->answered = false;
        history_again(s);
        break;
    case JOB_EV_COLLECTED:
        if (soft->judged && soft->verdict == JOB_OK)
            finish(s, JOB_SUCCEEDED, JOB_OK, NULL);
        else if (soft->judged)
            finish(s, JOB_FAILED, soft->verdict, s->ev->message);
        break;
    case JOB_EV_COLLECT_FAILED: step_collect_failed(s); break;
    case JOB_EV_NO_ROOM: /* the disk is full for everybody: it waits, and its tries begin anew */
        soft->asking = false;
        soft->tries = 1;
        ask_later(s, STORAGE_WAIT_MS);
        break;
    case JOB_EV_TICK:
        if (soft->asking || s->mono < soft->next_at)
            break;
        if (soft->judged) {
            soft->asking = true;
            s->up->effects = JOB_FX_COLLECT;
        } else {
            soft->tries++;
            ask(s, JOB_FX_HISTORY);
        }
        break;
    default: break;
    }
}

/* When it must be looked at again if nothing else happens. */
static int64_t next_wake(const struct step *s)
{
    const struct job_update *up = s->up;

    switch (up->state) {
    case JOB_QUEUED: return s->h->deadline ? s->mono + (s->h->deadline - s->wall) : 0;
    case JOB_DISPATCHING: return up->soft.posting || up->soft.asking ? 0 : up->soft.next_at;
    case JOB_RUNNING:
    case JOB_COLLECTING: return up->soft.asking ? 0 : up->soft.next_at;
    default: return 0;
    }
}

void job_step(const struct job_hard *hard, const struct job_soft *soft, const struct job_event *ev,
              int64_t mono, int64_t wall, const struct job_policy *pol, struct job_update *up)
{
    struct step s = {hard, ev, mono, wall, pol, up};

    *up = (struct job_update){.state = hard->state,
                              .flags = hard->flags,
                              .spent = hard->spent,
                              .not_before = hard->not_before,
                              .soft = *soft};
    if (!JOB_STATE_LIVE(hard->state))
        return;
    if (ev->kind == JOB_EV_CANCEL) {
        finish(&s, JOB_CANCELED, JOB_CODE_CANCELED, ev->message);
        up->stray = hard->state != JOB_QUEUED;
    } else if (ev->kind == JOB_EV_REMOVED && hard->state != JOB_QUEUED) {
        step_removed(&s);
    } else {
        switch (hard->state) {
        case JOB_QUEUED: step_queued(&s); break;
        case JOB_DISPATCHING: step_dispatching(&s); break;
        case JOB_RUNNING: step_running(&s); break;
        default: step_collecting(&s); break;
        }
    }
    up->wake = next_wake(&s);
}
