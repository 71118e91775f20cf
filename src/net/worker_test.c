#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "net/worker.h"

enum { MANY = 3000 };

struct job {
    struct work w;
    struct workers *resubmit; /* done() submits a child */
    atomic_int runs;
    int done;
    long value;
};

static pthread_t loop_thread;
static int done_count;

static void job_run(struct work *w)
{
    struct job *j = container_of(w, struct job, w);

    assert_false(pthread_equal(pthread_self(), loop_thread));
    j->value *= 2;
    atomic_fetch_add(&j->runs, 1);
}

static void job_done(struct work *w)
{
    struct job *j = container_of(w, struct job, w);

    assert_true(pthread_equal(pthread_self(), loop_thread));
    assert_int_equal(atomic_load(&j->runs), 1);
    j->done++;
    done_count++;
}

static int setup(void **state)
{
    struct err e;

    *state = loop_new(&e);
    assert_non_null(*state);
    loop_thread = pthread_self();
    done_count = 0;
    return 0;
}

static int teardown(void **state)
{
    struct loop *l = *state;

    loop_free(&l);
    return 0;
}

static struct job *jobs_new(void)
{
    struct job *j = xcalloc(MANY, sizeof(*j));

    for (long i = 0; i < MANY; i++)
        j[i] = (struct job){.w = {.run = job_run, .done = job_done}, .value = i};
    return j;
}

static void jobs_check(struct job *j)
{
    for (long i = 0; i < MANY; i++) {
        assert_int_equal(j[i].done, 1);
        assert_int_equal(j[i].value, 2 * i);
    }
    free(j);
}

static void test_every_work_is_done_once(void **state)
{
    struct loop *l = *state;
    struct err e;
    struct workers *w = workers_new(l, 3, &e);
    struct job *j = jobs_new();

    for (int i = 0; i < MANY; i++)
        workers_submit(w, &j[i].w);
    assert_int_equal(done_count, 0);
    for (int64_t end = loop_now(l) + 20000; done_count < MANY && loop_now(l) < end;)
        loop_turn(l, 100);
    loop_turn(l, 0);
    jobs_check(j);
    workers_free(&w);
    assert_null(w);
}

static void test_free_while_busy_delivers_everything(void **state)
{
    struct err e;
    struct workers *w = workers_new(*state, 2, &e);
    struct job *j = jobs_new();

    for (int i = 0; i < MANY; i++)
        workers_submit(w, &j[i].w);
    workers_free(&w);
    assert_int_equal(done_count, MANY);
    jobs_check(j);
}

static void child_done(struct work *w)
{
    struct job *j = container_of(w, struct job, w);

    done_count++;
    free(j); /* done() may free the work */
}

static void parent_done(struct work *w)
{
    struct job *j = container_of(w, struct job, w), *child = xcalloc(1, sizeof(*child));

    child->w = (struct work){.run = job_run, .done = child_done};
    workers_submit(j->resubmit, &child->w);
    done_count++;
    free(j);
}

static void test_done_may_submit_more_during_free(void **state)
{
    struct err e;
    struct workers *w = workers_new(*state, 2, &e), *owner = w;

    for (int i = 0; i < 50; i++) {
        struct job *j = xcalloc(1, sizeof(*j));

        *j = (struct job){.w = {.run = job_run, .done = parent_done}, .resubmit = owner};
        workers_submit(w, &j->w);
    }
    workers_free(&w);
    assert_int_equal(done_count, 100);
}

/* What run() posts itself arrives before done(). */
struct talker {
    struct work w;
    struct msg note[20];
    struct loop *loop;
    int heard;
    bool done_early;
};
static struct talker *talking;

static void on_note(struct msg *m)
{
    (void)m;
    talking->heard++;
}

static void talker_run(struct work *w)
{
    struct talker *t = container_of(w, struct talker, w);

    for (size_t i = 0; i < ARRAY_LEN(t->note); i++)
        loop_post(t->loop, &t->note[i]);
}

static void talker_done(struct work *w)
{
    struct talker *t = container_of(w, struct talker, w);

    t->done_early = t->heard != ARRAY_LEN(t->note);
    done_count++;
}

static void test_messages_of_run_come_before_done(void **state)
{
    struct talker t = {.w = {.run = talker_run, .done = talker_done}, .loop = *state};
    struct err e;
    struct workers *w = workers_new(*state, 2, &e);

    talking = &t;
    for (size_t i = 0; i < ARRAY_LEN(t.note); i++)
        t.note[i].cb = on_note;
    workers_submit(w, &t.w);
    workers_free(&w);
    assert_int_equal(done_count, 1);
    assert_false(t.done_early);
}

static struct workers *free_me;

static void free_workers(struct msg *m)
{
    (void)m;
    workers_free(&free_me);
    assert_int_equal(done_count, MANY);
}

static void test_free_inside_a_message(void **state)
{
    struct loop *l = *state;
    struct err e;
    struct msg m = {.cb = free_workers};
    struct job *j = jobs_new();

    free_me = workers_new(l, 2, &e);
    for (int i = 0; i < MANY; i++) {
        if (i == MANY / 2)
            loop_post(l, &m);
        workers_submit(free_me, &j[i].w);
    }
    for (int64_t end = loop_now(l) + 20000; free_me && loop_now(l) < end;)
        loop_turn(l, 100);
    assert_null(free_me);
    jobs_check(j);
}

static void mask_run(struct work *w)
{
    struct job *j = container_of(w, struct job, w);
    sigset_t now;

    pthread_sigmask(SIG_SETMASK, NULL, &now);
    j->value = sigismember(&now, SIGTERM) && sigismember(&now, SIGINT);
    atomic_fetch_add(&j->runs, 1);
}

static void test_workers_take_no_signals(void **state)
{
    struct job j = {.w = {.run = mask_run, .done = job_done}};
    struct err e;
    struct workers *w = workers_new(*state, 1, &e);

    workers_submit(w, &j.w);
    workers_free(&w);
    assert_int_equal(j.value, 1);
}

static void test_settled_workers_go_on(void **state)
{
    struct job *j = jobs_new();
    struct err e;
    struct workers *w = workers_new(*state, 2, &e);

    for (int i = 0; i < MANY / 2; i++)
        workers_submit(w, &j[i].w);
    workers_settle(w);
    assert_int_equal(done_count, MANY / 2); /* all have been told */
    for (int i = MANY / 2; i < MANY; i++)
        workers_submit(w, &j[i].w);
    workers_free(&w);
    jobs_check(j);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_every_work_is_done_once),
        T(test_free_while_busy_delivers_everything),
        T(test_done_may_submit_more_during_free),
        T(test_messages_of_run_come_before_done),
        T(test_free_inside_a_message),
        T(test_workers_take_no_signals),
        T(test_settled_workers_go_on),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
