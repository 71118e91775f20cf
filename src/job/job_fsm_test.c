/* Invariants of job_step() over all states, all events and random knowledge; not a copy of its table. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "job/job_fsm.h"

static uint64_t rng;

static uint32_t rnd(uint32_t n)
{
    rng = rng * 6364136223846793005ULL + 1442695040888963407ULL;
    return (uint32_t)((rng >> 33) % n);
}

static const struct job_policy pol = {
    .max_attempts = 3, .lost_ms = 60000, .stall_ms = 1800000, .history_ms = 60000};

static const enum job_code codes_history[] = {JOB_OK, JOB_EXECUTION_ERROR, JOB_OUT_OF_MEMORY,
                                              JOB_INTERRUPTED};
static const enum job_code codes_collect[] = {JOB_OUTPUT_UNAVAILABLE, JOB_STORAGE_FAILED,
                                              JOB_OUTPUT_UNRECOGNISED};

static struct job_event random_event(enum job_event_kind kind)
{
    struct job_event ev = {.kind = kind,
                           .running = rnd(2),
                           .refused = rnd(2),
                           .answered = rnd(2),
                           .elsewhere = rnd(2),
                           .device_fault = rnd(4) == 0,
                           .doubtful = rnd(2),
                           .dead = rnd(20) == 0,
                           .message = rnd(2) ? "why" : NULL};

    if (kind == JOB_EV_HISTORY)
        ev.code = codes_history[rnd(ARRAY_LEN(codes_history))];
    else if (kind == JOB_EV_COLLECT_FAILED)
        ev.code = codes_collect[rnd(ARRAY_LEN(codes_collect))];
    else if (kind == JOB_EV_UNSENDABLE)
        ev.code = JOB_DISPATCH_FAILED;
    return ev;
}

static struct job_soft random_soft(int64_t mono)
{
    return (struct job_soft){.since = mono - rnd(100000),
                             .heard = mono - rnd(100000),
                             .progressed = mono - rnd(3000000),
                             .absent_at = rnd(2) ? mono - rnd(5000) : 0,
                             .ended_at = mono - rnd(100000),
                             .refused_at = rnd(2) ? mono - rnd(3000) : 0,
                             .next_at = mono + rnd(4000) - 2000,
                             .tries = (int)rnd(5),
                             .asking = rnd(2),
                             .posting = rnd(2),
                             .started = rnd(2),
                             .link_dropped = rnd(2),
                             .answered = rnd(2),
                             .judged = rnd(2),
                             .verdict = codes_history[rnd(ARRAY_LEN(codes_history))]};
}

/* Which moves exist at all (staying is always allowed). */
static bool move_allowed(enum job_state from, enum job_state to)
{
    static const unsigned to_bits[JOB_STATES] = {
        [JOB_QUEUED] = JOB_STATE_BIT(JOB_DISPATCHING) | JOB_STATE_BIT(JOB_FAILED) |
                       JOB_STATE_BIT(JOB_CANCELED) | JOB_STATE_BIT(JOB_EXPIRED),
        [JOB_DISPATCHING] = JOB_STATE_BIT(JOB_QUEUED) | JOB_STATE_BIT(JOB_RUNNING) |
                            JOB_STATE_BIT(JOB_COLLECTING) | JOB_STATE_BIT(JOB_FAILED) |
                            JOB_STATE_BIT(JOB_CANCELED),
        [JOB_RUNNING] = JOB_STATE_BIT(JOB_QUEUED) | JOB_STATE_BIT(JOB_COLLECTING) |
                        JOB_STATE_BIT(JOB_FAILED) | JOB_STATE_BIT(JOB_CANCELED),
        [JOB_COLLECTING] = JOB_STATE_BIT(JOB_QUEUED) | JOB_STATE_BIT(JOB_SUCCEEDED) |
                           JOB_STATE_BIT(JOB_FAILED) | JOB_STATE_BIT(JOB_CANCELED)};

    return from == to || (to_bits[from] & JOB_STATE_BIT(to)) != 0;
}

static void check_update(const struct job_hard *h, const struct job_event *ev, const struct job_update *up)
{
    bool ended = !JOB_STATE_LIVE(up->state);

    assert_true(move_allowed(h->state, up->state));
    if (!JOB_STATE_LIVE(h->state)) {
        assert_false(up->commit);
        assert_int_equal(up->effects, 0);
        assert_int_equal(up->wake, 0);
        return;
    }
    if (up->state != h->state || up->begin || up->end || up->stray || up->flags != h->flags ||
        up->spent != h->spent)
        assert_true(up->commit);
    /* What cannot be taken back follows a commit. */
    if (up->effects & (JOB_FX_SUBMIT | JOB_FX_FINISH))
        assert_true(up->commit);
    if (up->effects & JOB_FX_ENQUEUE)
        assert_true(up->commit || ev->kind == JOB_EV_RECOVER);
    assert_int_equal((up->effects & JOB_FX_FINISH) != 0, ended);
    assert_int_equal((up->effects & JOB_FX_SUBMIT) != 0, up->begin);
    /* An attempt begins only by placing, ends when it leaves the server, and is spent at most as often as
     * begun. */
    assert_int_equal(up->begin, h->state == JOB_QUEUED && up->state == JOB_DISPATCHING);
    assert_int_equal(up->end, h->state != JOB_QUEUED && (ended || up->state == JOB_QUEUED));
    assert_true(up->spent >= 0 && up->spent <= h->attempt + (up->begin ? 1 : 0));
    if (up->end && up->state != JOB_SUCCEEDED)
        assert_int_not_equal(up->code, JOB_OK);
    if (up->state == JOB_SUCCEEDED)
        assert_true(up->code == JOB_OK && ev->kind == JOB_EV_COLLECTED);
    if (up->state == JOB_CANCELED)
        assert_true(ev->kind == JOB_EV_CANCEL && up->stray == (h->state != JOB_QUEUED));
    /* No live state is forgotten: the scheduler, an answer or a timer will bring it on. */
    if (up->state == JOB_DISPATCHING || up->state == JOB_RUNNING || up->state == JOB_COLLECTING)
        assert_true(up->wake != 0 || up->soft.asking || up->soft.posting);
    if (up->state == JOB_QUEUED && h->deadline)
        assert_true(up->wake != 0);
    if (h->spent >= pol.max_attempts && h->state == JOB_DISPATCHING && ev->kind != JOB_EV_REFUSED &&
        ev->kind != JOB_EV_REMOVED)
        assert_int_not_equal(up->state, JOB_QUEUED);
}

static void test_invariants(void **state)
{
    (void)state;
    rng = 1;
    for (int round = 0; round < 400000; round++) {
        int64_t mono = 10000000 + rnd(1000000), wall = 1700000000000 + rnd(1000000);
        int attempt = (int)rnd(5);
        struct job_hard h = {.state = (enum job_state)rnd(JOB_STATES),
                             .attempt = attempt,
                             .flags = rnd(16),
                             .deadline = rnd(2) ? wall + rnd(2000) - 1000 : 0};
        struct job_soft soft = random_soft(mono);
        struct job_event ev = random_event((enum job_event_kind)rnd(JOB_EVENTS));
        struct job_update up;

        if (h.state != JOB_QUEUED && h.attempt == 0)
            h.attempt = 1;
        h.spent = (int)rnd((uint32_t)h.attempt + 1);
        if (h.state != JOB_QUEUED && h.spent == 0)
            h.spent = 1;
        /* What the runner guarantees: a FIND, HISTORY or COLLECT is asked, or a timer is set. */
        job_step(&h, &soft, &ev, mono, wall, &pol, &up);
        check_update(&h, &ev, &up);
    }
}

static const enum job_event_kind answers_post[] = {JOB_EV_ACCEPTED,  JOB_EV_REJECTED,     JOB_EV_REFUSED,
                                                   JOB_EV_POST_LOST, JOB_EV_STAGE_FAILED, JOB_EV_UNSENDABLE};
static const enum job_event_kind answers_find[] = {JOB_EV_FOUND, JOB_EV_FOUND_ENDED, JOB_EV_ABSENT,
                                                   JOB_EV_UNREACHABLE};
static const enum job_event_kind answers_history[] = {JOB_EV_HISTORY, JOB_EV_HISTORY_NOT_YET,
                                                      JOB_EV_HISTORY_FAILED};
static const enum job_event_kind answers_collect[] = {JOB_EV_COLLECTED, JOB_EV_COLLECT_FAILED};

struct walk {
    struct job_hard h;
    struct job_soft soft;
    int64_t mono, wall, wake;
    unsigned owed; /* effects whose answer is to come */
    int submits;
    bool may_have_started;
};

static void walk_event(struct walk *w, const struct job_event *ev)
{
    struct job_update up;

    job_step(&w->h, &w->soft, ev, w->mono, w->wall, &pol, &up);
    check_update(&w->h, ev, &up);
    w->soft = up.soft;
    w->wake = up.wake;
    if (up.commit) {
        w->h.state = up.state;
        w->h.flags = up.flags;
        w->h.spent = up.spent;
        w->h.attempt += up.begin;
        if (up.begin || up.state == JOB_QUEUED)
            w->owed = 0;
    }
    if (up.effects & JOB_FX_SUBMIT) {
        if (w->h.flags & JOB_F_PAID)
            assert_false(w->may_have_started);
        w->submits++;
    }
    w->owed |= up.effects & (JOB_FX_SUBMIT | JOB_FX_FIND | JOB_FX_HISTORY | JOB_FX_COLLECT);
}

/* One answer that is owed, or the timer, or (if it can be) placing. silent: servers never answer usefully. */
static void walk_on(struct walk *w, bool silent)
{
    struct job_event ev = random_event(JOB_EV_TICK);
    unsigned fx = w->owed & (~w->owed + 1);

    w->owed &= ~fx;
    w->mono += fx ? rnd(500) : 0;
    switch (fx) {
    case JOB_FX_SUBMIT:
        ev.kind = silent ? JOB_EV_POST_LOST : answers_post[rnd(ARRAY_LEN(answers_post))];
        break;
    case JOB_FX_FIND:
        ev.kind = silent ? JOB_EV_UNREACHABLE : answers_find[rnd(ARRAY_LEN(answers_find))];
        break;
    case JOB_FX_HISTORY:
        ev.kind = silent ? JOB_EV_HISTORY_FAILED : answers_history[rnd(ARRAY_LEN(answers_history))];
        break;
    case JOB_FX_COLLECT:
        ev.kind = silent ? JOB_EV_COLLECT_FAILED : answers_collect[rnd(ARRAY_LEN(answers_collect))];
        break;
    default:
        if (w->h.state == JOB_QUEUED) {
            ev.kind = JOB_EV_PLACED;
        } else {
            assert_true(w->wake != 0);
            if (w->wake > w->mono)
                w->mono = w->wake;
        }
    }
    ev = random_event(ev.kind);
    if (silent)
        ev.answered = false;
    if (fx == JOB_FX_SUBMIT && ev.kind != JOB_EV_REFUSED && ev.kind != JOB_EV_REJECTED &&
        ev.kind != JOB_EV_STAGE_FAILED && ev.kind != JOB_EV_UNSENDABLE)
        w->may_have_started = true;
    walk_event(w, &ev);
}

/* Under silence, and under random answers, every live state comes to an end, and a paid graph is sent at most
 * once after it may have started. */
static void walks(bool silent, int rounds, int longest)
{
    for (int round = 0; round < rounds; round++) {
        struct walk w = {.h = {.state = (enum job_state)rnd(4), .flags = rnd(2) ? JOB_F_PAID : 0},
                         .mono = 1000000,
                         .wall = 1700000000000};
        struct job_event ev = {.kind = JOB_EV_RECOVER};
        int steps = 0;

        if (w.h.state != JOB_QUEUED) {
            w.h.attempt = w.h.spent = 1;
            w.may_have_started = true;
        }
        walk_event(&w, &ev);
        while (JOB_STATE_LIVE(w.h.state)) {
            if (!silent && rnd(20) == 0) {
                ev = random_event((enum job_event_kind)rnd(JOB_EVENTS));
                if (ev.kind == JOB_EV_PLACED || ev.kind == JOB_EV_RECOVER)
                    continue;
                walk_event(&w, &ev);
            } else {
                walk_on(&w, silent);
            }
            if (++steps > longest)
                fail_msg("no end in sight: state=%s round=%d", job_state_name(w.h.state), round);
        }
    }
}

static void test_silence_ends(void **state)
{
    (void)state;
    rng = 2;
    walks(true, 2000, 2000);
}

static void test_noise_ends(void **state)
{
    (void)state;
    rng = 3;
    walks(false, 20000, 20000);
}

static void test_absent_twice(void **state)
{
    struct job_hard h = {.state = JOB_DISPATCHING, .attempt = 1, .spent = 1};
    struct job_soft soft = {.heard = 1000, .progressed = 1000, .asking = true};
    struct job_event ev = {.kind = JOB_EV_ABSENT};
    struct job_update up;

    (void)state;
    job_step(&h, &soft, &ev, 1000, 0, &pol, &up);
    assert_false(up.commit);
    assert_int_equal(up.wake, 3000);
    soft = up.soft;
    job_step(&h, &soft, &ev, 2999, 0, &pol, &up);
    assert_false(up.commit);
    job_step(&h, &soft, &ev, 3000, 0, &pol, &up);
    assert_int_equal(up.state, JOB_QUEUED);
    assert_int_equal(up.code, JOB_DISPATCH_FAILED);
    /* Found in between: the count begins anew. */
    soft.posting = true;
    job_step(&h, &soft, &ev, 9000, 0, &pol, &up);
    assert_false(up.commit);
}

/* It ended, and history does not hold it: the server forgot it if it was away since, else it never wrote it. */
static void test_forgotten_after_the_end(void **state)
{
    struct job_hard h = {.state = JOB_RUNNING, .attempt = 1, .spent = 1};
    struct job_soft soft = {.heard = 1000, .progressed = 1000, .started = true, .link_dropped = true};
    struct job_event ev = {.kind = JOB_EV_ENDED};
    struct job_update up;

    (void)state;
    job_step(&h, &soft, &ev, 1000, 0, &pol, &up);
    assert_int_equal(up.state, JOB_COLLECTING);
    h.state = JOB_COLLECTING;
    for (int dropped = 0; dropped < 2; dropped++) {
        soft = up.soft;
        if (dropped) {
            ev.kind = JOB_EV_LINK_DROPPED;
            job_step(&h, &soft, &ev, 1000, 0, &pol, &up);
            soft = up.soft;
        }
        ev.kind = JOB_EV_HISTORY_NOT_YET;
        job_step(&h, &soft, &ev, 1000 + pol.history_ms, 0, &pol, &up);
        assert_int_equal(up.state, JOB_QUEUED);
        assert_int_equal(up.code, dropped ? JOB_SERVER_RESTARTED : JOB_HISTORY_MISSING);
        up.soft = soft;
    }
}

/* A refusal of a graph that was never checked here says that the graph is wrong, once nobody else is left to ask. */
static void test_unchecked_refused(void **state)
{
    struct job_hard h = {.state = JOB_DISPATCHING, .attempt = 1, .spent = 1, .flags = JOB_F_UNVALIDATED};
    struct job_soft soft = {.since = 1, .heard = 1, .progressed = 1, .posting = true};
    struct job_event ev = {.kind = JOB_EV_REJECTED, .code = JOB_VALIDATION_FAILED, .elsewhere = true};
    struct job_update up;

    (void)state;
    job_step(&h, &soft, &ev, 2, 2, &job_policy_default, &up);
    assert_int_equal(up.state, JOB_QUEUED);
    assert_int_equal(up.code, JOB_SERVER_REJECTED);
    ev.elsewhere = false;
    job_step(&h, &soft, &ev, 2, 2, &job_policy_default, &up);
    assert_int_equal(up.state, JOB_FAILED);
    assert_int_equal(up.code, JOB_VALIDATION_FAILED);
    ev.code = JOB_SERVER_REJECTED; /* not a judgement of the graph */
    job_step(&h, &soft, &ev, 2, 2, &job_policy_default, &up);
    assert_int_equal(up.code, JOB_SERVER_REJECTED);
    ev.code = JOB_VALIDATION_FAILED;
    h.flags = 0; /* found valid here */
    job_step(&h, &soft, &ev, 2, 2, &job_policy_default, &up);
    assert_int_equal(up.code, JOB_SERVER_REJECTED);
}

/* The contract's list of what is retried, once more. */
static void test_rules_are_the_contracts(void **state)
{
    static const enum job_code anywhere[] = {
        JOB_SERVER_LOST,         JOB_SERVER_RESTARTED, JOB_STALLED,           JOB_DISPATCH_FAILED,
        JOB_HISTORY_UNAVAILABLE, JOB_HISTORY_MISSING,  JOB_OUTPUT_UNAVAILABLE};
    enum job_retry want[JOB_CODES] = {
        [JOB_SERVER_REJECTED] = JOB_RETRY_ELSEWHERE, [JOB_OUT_OF_MEMORY] = JOB_RETRY_ELSEWHERE};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(anywhere); i++)
        want[anywhere[i]] = JOB_RETRY_ANYWHERE;
    for (int c = 1; c < JOB_CODES; c++)
        assert_int_equal(job_retry_rule((enum job_code)c)->retry, want[c]);
}

/* What costs money, or may, is not run again once it may have started; before that it is. */
static void test_paid(void **state)
{
    static const uint32_t flags[] = {0, JOB_F_PAID, JOB_F_UNVALIDATED};
    struct job_soft soft = {.heard = 1000, .progressed = 1000, .absent_at = 1000, .asking = true};
    struct job_event ev = {.kind = JOB_EV_ABSENT, .elsewhere = true};
    struct job_update up;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(flags); i++) {
        struct job_hard h = {.state = JOB_DISPATCHING, .attempt = 1, .spent = 1, .flags = flags[i]};

        soft.posting = false;
        ev.kind = JOB_EV_ABSENT;
        job_step(&h, &soft, &ev, 3000, 0, &pol, &up);
        assert_int_equal(up.state, flags[i] ? JOB_FAILED : JOB_QUEUED);
        assert_int_equal(up.code, JOB_DISPATCH_FAILED);
        soft.posting = true;
        ev.kind = JOB_EV_REJECTED;
        job_step(&h, &soft, &ev, 3000, 0, &pol, &up);
        assert_int_equal(up.state, JOB_QUEUED);
    }
}

/* Whatever it was doing there; only a paid graph, which may have cost something, is not sent again. */
static void test_removed(void **state)
{
    static const enum job_state states[] = {JOB_DISPATCHING, JOB_RUNNING, JOB_COLLECTING};
    struct job_event ev = {.kind = JOB_EV_REMOVED};
    struct job_soft soft = {.heard = 1000, .progressed = 1000};
    struct job_update up;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(states); i++) {
        struct job_hard h = {.state = states[i], .attempt = 3, .spent = pol.max_attempts};

        job_step(&h, &soft, &ev, 1000, 0, &pol, &up);
        assert_true(up.commit && up.end && up.stray);
        assert_int_equal(up.state, JOB_QUEUED);
        assert_int_equal(up.code, JOB_SERVER_LOST);
        assert_int_equal(up.spent, pol.max_attempts - 1);
        h.flags = JOB_F_PAID;
        job_step(&h, &soft, &ev, 1000, 0, &pol, &up);
        assert_int_equal(up.state, JOB_FAILED);
        assert_true(up.stray);
    }
    job_step(&(struct job_hard){.state = JOB_QUEUED}, &soft, &ev, 1000, 0, &pol, &up);
    assert_false(up.commit);
}

/* A server that is away, or that has forgotten the prompt, does not stall: timeout.stall may be the shortest. */
static void test_stalled_means_it_answers(void **state)
{
    static const struct job_policy hasty = {
        .max_attempts = 1, .lost_ms = 60000, .stall_ms = 2000, .history_ms = 60000};
    struct job_hard h = {.state = JOB_RUNNING, .attempt = 1, .spent = 1};
    const struct job_soft running = {
        .heard = 1000, .progressed = 1000, .started = true, .link_dropped = true};
    struct job_soft soft = running;
    struct job_event ev = {.kind = JOB_EV_UNREACHABLE, .refused = true};
    struct job_update up;

    (void)state;
    soft.refused_at = 3000;
    job_step(&h, &soft, &ev, 3500, 0, &hasty, &up);
    assert_false(up.commit);
    job_step(&h, &soft, &ev, 4000, 0, &hasty, &up);
    assert_int_equal(up.code, JOB_SERVER_LOST);
    soft = running;
    ev = (struct job_event){.kind = JOB_EV_ABSENT};
    job_step(&h, &soft, &ev, 4000, 0, &hasty, &up);
    soft = up.soft;
    ev.kind = JOB_EV_TICK;
    job_step(&h, &soft, &ev, 5900, 0, &hasty, &up);
    assert_false(up.commit);
    soft = up.soft;
    ev.kind = JOB_EV_ABSENT;
    job_step(&h, &soft, &ev, 6000, 0, &hasty, &up);
    assert_int_equal(up.code, JOB_SERVER_RESTARTED);
    soft = running;
    ev = (struct job_event){.kind = JOB_EV_FOUND, .running = true};
    job_step(&h, &soft, &ev, 3000, 0, &hasty, &up);
    assert_int_equal(up.code, JOB_STALLED);
}

/* An exception is the graph's, unless the device is at fault or the server's word is in doubt: then once more. */
static void test_whose_fault(void **state)
{
    static const struct {
        bool device, doubtful, elsewhere;
        uint32_t flags;
        enum job_state to;
    } t[] = {
        {false, false, true, 0, JOB_COLLECTING},                  /* judged: it fails */
        {false, true, true, 0, JOB_QUEUED},                       /* another one tells */
        {false, true, false, 0, JOB_COLLECTING},                  /* there is no other one */
        {false, true, true, JOB_F_ERROR_RETRIED, JOB_COLLECTING}, /* it has told */
        {false, true, true, JOB_F_PAID, JOB_COLLECTING},          /* it has cost money already */
        {true, false, true, JOB_F_ERROR_RETRIED, JOB_QUEUED},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(t); i++) {
        struct job_hard h = {.state = JOB_COLLECTING, .attempt = 1, .spent = 1, .flags = t[i].flags};
        struct job_soft soft = {.heard = 1000, .progressed = 1000, .ended_at = 1000, .asking = true};
        struct job_event ev = {.kind = JOB_EV_HISTORY,
                               .code = JOB_EXECUTION_ERROR,
                               .device_fault = t[i].device,
                               .doubtful = t[i].doubtful,
                               .elsewhere = t[i].elsewhere};
        struct job_update up;

        job_step(&h, &soft, &ev, 1000, 0, &pol, &up);
        if (up.state != t[i].to)
            fail_msg("row %zu: %s", i, job_state_name(up.state));
        assert_int_equal((up.flags & JOB_F_ERROR_RETRIED) != 0,
                         (t[i].flags & JOB_F_ERROR_RETRIED) || (!t[i].device && up.state == JOB_QUEUED));
    }
}

static void test_dead_worker(void **state)
{
    struct job_hard h = {.state = JOB_RUNNING, .attempt = 1, .spent = 1};
    struct job_soft soft = {.heard = 1000, .progressed = 1000, .asking = true};
    struct job_event ev = {.kind = JOB_EV_FOUND};
    struct job_update up;

    (void)state;
    job_step(&h, &soft, &ev, 2000, 0, &pol, &up);
    assert_false(up.commit); /* it waits there: no stall, however long */
    ev.dead = true;
    job_step(&h, &soft, &ev, 2000, 0, &pol, &up);
    assert_int_equal(up.state, JOB_QUEUED);
    assert_int_equal(up.code, JOB_STALLED);
    assert_true(up.stray); /* what waits there must not run later */
}

static void test_every_code_has_a_rule(void **state)
{
    (void)state;
    for (int c = 1; c < JOB_CODES; c++) {
        const struct job_retry_rule *r = job_retry_rule((enum job_code)c);

        assert_non_null(r);
        assert_true(strlen(r->reason) > 5);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_invariants),
        cmocka_unit_test(test_silence_ends),
        cmocka_unit_test(test_noise_ends),
        cmocka_unit_test(test_absent_twice),
        cmocka_unit_test(test_forgotten_after_the_end),
        cmocka_unit_test(test_rules_are_the_contracts),
        cmocka_unit_test(test_paid),
        cmocka_unit_test(test_unchecked_refused),
        cmocka_unit_test(test_removed),
        cmocka_unit_test(test_stalled_means_it_answers),
        cmocka_unit_test(test_whose_fault),
        cmocka_unit_test(test_dead_worker),
        cmocka_unit_test(test_every_code_has_a_rule),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
