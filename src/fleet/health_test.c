/* How a server is, on virtual time: what each piece of evidence leads to, and what holds whatever comes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fleet/health.h"

static struct health h;
static int64_t now;

static int setup(void **state)
{
    (void)state;
    now = 1000000;
    health_init(&h);
    health_link_open(&h, now, true);
    assert_int_equal(health_tick(&h, now), HEALTH_ASK);
    health_answered(&h, now);
    return 0;
}

static enum fleet_state state(void)
{
    return health_state(&h, NULL);
}

static const char *why(void)
{
    const char *w;

    health_state(&h, &w);
    return w;
}

/* Time passes; what is asked for on the way is gathered. */
static unsigned pass(int64_t ms)
{
    int64_t end = now + ms;
    unsigned todo = 0;

    while (health_next(&h) && health_next(&h) <= end) {
        if (health_next(&h) > now)
            now = health_next(&h);
        todo |= health_tick(&h, now);
    }
    now = end;
    return todo;
}

static void results(enum job_code code, int n)
{
    while (n-- > 0)
        health_result(&h, code, FLEET_BLAME_OPEN, 0, now);
}

static void others(enum job_code code, int n)
{
    while (n-- > 0)
        health_result(&h, code, FLEET_BLAME_OPEN, now + 1, now);
}

static void seen(int running, int pending, uint64_t ids)
{
    struct health_queue q = {running, pending, running ? ids : 0, pending ? ids : 0};

    health_queue_seen(&h, &q, now);
}

/* --- is it there? --- */

static void test_there(void **state_)
{
    (void)state_;
    assert_int_equal(state(), FLEET_UP);
    assert_int_equal(health_next(&h), 0); /* nothing is asked while all is well */
    health_trouble(&h, "no answer", now);
    assert_int_equal(state(), FLEET_SUSPECT);
    assert_string_equal(why(), "no answer");
    assert_int_equal(pass(0), HEALTH_ASK);
    assert_int_equal(pass(HEALTH_SUSPECT_MS - 1), HEALTH_ASK);
    assert_int_equal(state(), FLEET_SUSPECT);
    pass(1);
    assert_int_equal(state(), FLEET_DOWN);
    assert_int_equal(pass(HEALTH_ASK_DOWN_MS), HEALTH_ASK); /* its socket is open: it may only be slow */
    health_answered(&h, now);
    assert_int_equal(state(), FLEET_UP);
    health_refused(&h, "connection refused", now);
    assert_int_equal(state(), FLEET_DOWN);
    health_link_lost(&h, "socket", now);
    assert_int_equal(pass(60000), 0); /* the socket's next attempt tells */
    health_answered(&h, now);         /* by another call: without its socket it cannot run jobs */
    assert_int_equal(state(), FLEET_DOWN);
    health_link_open(&h, now, true);
    assert_int_equal(pass(0), HEALTH_ASK);
    health_answered(&h, now);
    assert_int_equal(state(), FLEET_UP);
}

/* Half open: nothing is refused and nothing answers. */
static void test_half_open(void **state_)
{
    (void)state_;
    health_link_quiet(&h, now);
    assert_int_equal(state(), FLEET_UP); /* it may be busy */
    assert_int_equal(pass(0), HEALTH_ASK);
    now += 10000;
    health_trouble(&h, "no answer in 10 s", now);
    assert_int_equal(state(), FLEET_SUSPECT);
    pass(HEALTH_SUSPECT_MS);
    assert_int_equal(state(), FLEET_DOWN);
    health_link_lost(&h, "silent after a ping", now);
    health_link_failed(&h, "no answer to the handshake", now);
    assert_int_equal(state(), FLEET_DOWN);
}

/* --- results --- */

static void test_fence(void **state_)
{
    (void)state_;
    results(JOB_SERVER_LOST, HEALTH_FENCE_AFTER - 1);
    results(JOB_OK, 1);
    results(JOB_STALLED, HEALTH_FENCE_AFTER - 1);
    results(JOB_CODE_CANCELED, 9);   /* says nothing */
    results(JOB_EXECUTION_ERROR, 9); /* nobody else succeeds: it may be the graphs */
    assert_int_equal(state(), FLEET_UP);
    results(JOB_HISTORY_MISSING, 1);
    assert_int_equal(state(), FLEET_FENCED);
    assert_non_null(strstr(why(), "history_missing"));
    results(JOB_OK, 1); /* of a job from before */
    assert_int_equal(state(), FLEET_FENCED);
    pass(HEALTH_FENCE_LEAST_MS - 1);
    assert_int_equal(state(), FLEET_FENCED);
    pass(1);
    assert_int_equal(state(), FLEET_UP);
    assert_true(health_on_trial(&h));
    assert_non_null(strstr(why(), "trial"));
    results(JOB_OUTPUT_UNAVAILABLE, 1); /* one is enough now, and it stands twice as long */
    pass(2 * HEALTH_FENCE_LEAST_MS - 1);
    assert_int_equal(state(), FLEET_FENCED);
    for (int i = 0; i < 9; i++) {
        pass(HEALTH_FENCE_MOST_MS);
        assert_true(health_on_trial(&h)); /* never longer than that */
        results(JOB_DISPATCH_FAILED, 1);
    }
    pass(HEALTH_FENCE_MOST_MS);
    results(JOB_OK, 1);
    assert_int_equal(state(), FLEET_UP);
    assert_false(health_on_trial(&h));
    results(JOB_DISPATCH_FAILED, HEALTH_FENCE_AFTER); /* forgiven: it begins with the least again */
    pass(HEALTH_FENCE_LEAST_MS);
    assert_true(health_on_trial(&h));
}

static void test_errors(void **state_)
{
    (void)state_;
    others(JOB_EXECUTION_ERROR, 2);
    others(JOB_OUT_OF_MEMORY, 1);
    others(JOB_SERVER_REJECTED, 1);
    assert_int_equal(state(), FLEET_UP);
    others(JOB_EXECUTION_ERROR, 1);
    assert_int_equal(state(), FLEET_FENCED);
    /* What fails elsewhere too is taken back. */
    setup(NULL);
    for (int i = 0; i < 20; i++) {
        others(JOB_EXECUTION_ERROR, 1);
        health_result(&h, JOB_EXECUTION_ERROR, FLEET_BLAME_NONE, now + 1, now);
    }
    assert_int_equal(state(), FLEET_UP);
    /* A fault of the device is certain: no other server is needed to tell. */
    for (int i = 0; i < HEALTH_FENCE_AFTER; i++)
        health_result(&h, JOB_EXECUTION_ERROR, FLEET_BLAME_SURE, 0, now);
    assert_int_equal(state(), FLEET_FENCED);
}

/* Whether an error may be its own: its latest result was no success. */
static void test_proven(void **state_)
{
    (void)state_;
    assert_false(h.proven);
    results(JOB_OK, 1);
    assert_true(h.proven);
    results(JOB_CODE_CANCELED, 1);
    assert_true(h.proven);
    results(JOB_EXECUTION_ERROR, 1);
    assert_false(h.proven);
    health_result(&h, JOB_EXECUTION_ERROR, FLEET_BLAME_NONE, 0, now);
    assert_false(h.proven); /* that says nothing for it */
    results(JOB_OK, 1);
    health_restarted(&h, now);
    assert_false(h.proven);
}

/* --- its worker --- */

static void test_idle_worker(void **state_)
{
    (void)state_;
    seen(1, 1, 7);
    pass(1000);
    seen(0, 1, 8); /* between two prompts */
    pass(HEALTH_IDLE_MS - 1);
    seen(0, 1, 8);
    assert_int_equal(state(), FLEET_UP);
    pass(1);
    seen(0, 2, 8);
    assert_int_equal(state(), FLEET_FENCED);
    assert_true(health_worker_dead(&h));
    assert_non_null(strstr(why(), "restart"));
    /* As long as prompts wait there, it is looked at and gets nothing. */
    assert_int_equal(pass(2 * HEALTH_FENCE_MOST_MS), HEALTH_LOOK);
    assert_int_equal(state(), FLEET_FENCED);
    seen(0, 0, 0); /* taken off: that needs no worker */
    assert_int_equal(state(), FLEET_FENCED);
    pass(HEALTH_FENCE_MOST_MS);
    assert_true(health_on_trial(&h));
    /* On trial it shows sooner. */
    seen(0, 1, 9);
    pass(HEALTH_IDLE_TRIAL_MS);
    seen(0, 1, 9);
    assert_true(health_worker_dead(&h));
    /* It runs something: it lives. */
    seen(1, 0, 9);
    assert_true(health_on_trial(&h));
    results(JOB_OK, 1);
    assert_int_equal(h.fence, FENCE_OFF);
}

static void test_other_head(void **state_)
{
    (void)state_;
    for (uint64_t i = 0; i < 100; i++) { /* never the same one waits: it works, we only look at odd moments */
        seen(0, 1, i + 1);
        pass(HEALTH_IDLE_MS / 2);
    }
    assert_int_equal(state(), FLEET_UP);
}

static void test_stuck_worker(void **state_)
{
    (void)state_;
    h.stall_ms = 100000;
    seen(1, 0, 7);
    pass(90000);
    health_event(&h, now); /* it is slow, and alive */
    pass(90000);
    seen(1, 1, 7);
    assert_int_equal(state(), FLEET_UP);
    pass(10000);
    seen(1, 2, 7);
    assert_true(health_worker_dead(&h));
    health_event(&h, now);
    assert_true(health_on_trial(&h));
    /* Our own prompt is the one that hangs: the runner gives it up, one result is enough. */
    results(JOB_OK, 1);
    seen(1, 0, 5);
    pass(60000);
    results(JOB_STALLED, 1);
    assert_true(health_worker_dead(&h));
    pass(10000);
    seen(1, 0, 5);
    assert_int_equal(state(), FLEET_FENCED);
    seen(0, 0, 0); /* it was interrupted, and ended: only the worker can do that */
    assert_true(health_on_trial(&h));
}

static void test_restart(void **state_)
{
    (void)state_;
    h.stall_ms = 30000;
    seen(0, 1, 7);
    pass(30000);
    seen(0, 1, 7);
    assert_true(health_worker_dead(&h));
    health_link_lost(&h, "socket", now);
    assert_int_equal(state(), FLEET_SUSPECT);
    health_link_open(&h, now, true);
    health_answered(&h, now);
    assert_int_equal(state(), FLEET_FENCED);
    health_restarted(&h, now);
    assert_int_equal(state(), FLEET_UP);
    assert_true(health_on_trial(&h));
    assert_int_equal(h.restarts, 1);
    seen(0, 1, 7);
    pass(30000);
    seen(0, 1, 7);
    assert_true(health_worker_dead(&h));
    health_link_open(&h, now, false); /* it cannot be told: one job tells */
    assert_true(health_on_trial(&h));
}

/* --- late events --- */

static void test_late(void **state_)
{
    (void)state_;
    health_unheard(&h, now);
    pass(HEALTH_LATE_MS - 1);
    health_event(&h, now); /* it was on its way */
    pass(60000);
    assert_string_equal(why(), "");
    health_unheard(&h, now);
    pass(HEALTH_LATE_MS);
    assert_int_equal(state(), FLEET_UP); /* no failure */
    assert_non_null(strstr(why(), "late"));
    health_event(&h, now);
    assert_string_equal(why(), "");
    health_unheard(&h, now);
    pass(HEALTH_LATE_MS);
    health_link_lost(&h, "socket", now);
    health_link_open(&h, now, true);
    health_answered(&h, now);
    assert_string_equal(why(), ""); /* another socket */
}

/* --- whatever comes --- */

static uint64_t rng;

static unsigned rnd(unsigned n)
{
    rng = rng * 6364136223846793005ULL + 1442695040888963407ULL;
    return (unsigned)((rng >> 33) % n);
}

static void anything(void)
{
    static const enum job_code codes[] = {JOB_OK,
                                          JOB_OK,
                                          JOB_SERVER_LOST,
                                          JOB_STALLED,
                                          JOB_STALLED,
                                          JOB_OUT_OF_MEMORY,
                                          JOB_EXECUTION_ERROR,
                                          JOB_CODE_CANCELED};

    switch (rnd(15)) {
    case 0: health_link_open(&h, now, rnd(2)); break;
    case 1: health_link_lost(&h, "lost", now); break;
    case 2: health_link_failed(&h, rnd(2) ? "connection refused" : "timeout", now); break;
    case 3: health_link_quiet(&h, now); break;
    case 4:
    case 5: health_answered(&h, now); break;
    case 6: health_trouble(&h, "trouble", now); break;
    case 7: health_refused(&h, "refused", now); break;
    case 8: seen((int)rnd(2), (int)rnd(3), rnd(3)); break;
    case 9: health_event(&h, now); break;
    case 10: health_unheard(&h, now); break;
    case 11: health_drain(&h, rnd(2)); break;
    case 12:
        if (rnd(10) == 0)
            health_restarted(&h, now);
        break;
    default:
        health_result(&h, codes[rnd(ARRAY_LEN(codes))], (enum fleet_blame)rnd(3), rnd(2) ? now : 0, now);
        break;
    }
}

static void check_always(void)
{
    enum fleet_state st = state();

    assert_true(health_next(&h) == 0 || health_next(&h) > now); /* a tick moves on: no busy loop */
    if (h.drained) {
        assert_true(st != FLEET_UP && st != FLEET_FENCED); /* the operator's word is over all */
    }
    /* No state is for ever without a question: those whose socket is closed are connected to again (link.c). */
    if (st == FLEET_SUSPECT || st == FLEET_FENCED || (st == FLEET_DOWN && h.link))
        assert_true(health_next(&h) != 0);
    assert_true(st == FLEET_UP || why()[0] != '\0');
}

/* From wherever it is: if it is well from now on, it comes back to work, in bounded time. */
static void check_recovers(void)
{
    struct health kept = h;
    int64_t kept_now = now, end;

    health_drain(&h, false);
    health_link_open(&h, now, true);
    for (end = now + 3 * HEALTH_FENCE_MOST_MS; now < end && state() != FLEET_UP;) {
        unsigned todo = health_tick(&h, now);

        if (todo & HEALTH_ASK)
            health_answered(&h, now);
        if (todo & HEALTH_LOOK)
            seen(0, 0, 0);
        if (state() != FLEET_UP)
            now = health_next(&h);
        assert_true(now != 0);
    }
    assert_int_equal(state(), FLEET_UP);
    health_result(&h, JOB_OK, FLEET_BLAME_OPEN, 0, now);
    assert_int_equal(h.fence, FENCE_OFF);
    h = kept;
    now = kept_now;
}

static void test_anything(void **state_)
{
    (void)state_;
    for (rng = 1; rng < 300;) {
        uint64_t seed = rng;

        setup(NULL);
        for (int i = 0; i < 300; i++) {
            anything();
            pass(rnd(3) ? rnd(3000) : rnd(120000));
            check_always();
            if (i % 30 == 0)
                check_recovers();
        }
        rng = seed + 1;
    }
}

int main(void)
{
#define T(name) cmocka_unit_test_setup(name, setup)
    const struct CMUnitTest tests[] = {
        T(test_there),   T(test_half_open),   T(test_fence),      T(test_errors),
        T(test_proven),  T(test_idle_worker), T(test_other_head), T(test_stuck_worker),
        T(test_restart), T(test_late),        T(test_anything),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
