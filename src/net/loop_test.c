#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/event.h>

#include "base/buf.h"
#include "net/loop.h"

static struct buf trace;

static int setup(void **state)
{
    struct err e;
    struct loop *l = loop_new(&e);

    assert_non_null(l);
    *state = l;
    buf_clear(&trace);
    return 0;
}

static int teardown(void **state)
{
    struct loop *l = *state;

    loop_free(&l);
    assert_null(l);
    buf_free(&trace);
    return 0;
}

static void *text(const char *s)
{
    return (void *)(uintptr_t)s;
}

static void say(void *arg)
{
    buf_puts(&trace, arg);
}

static void stop(void *arg)
{
    loop_stop(arg);
}

/* --- timers --- */

static void test_timers_fire_in_order_of_time(void **state)
{
    struct loop *l = *state;
    struct timer a, b, c, end;

    timer_init(&a, l, say, text("a"));
    timer_init(&b, l, say, text("b"));
    timer_init(&c, l, say, text("c"));
    timer_init(&end, l, stop, l);
    timer_set(&end, 31);
    timer_set(&a, 21);
    timer_set(&b, 11);
    timer_set(&c, 1);
    timer_set(&c, 5);
    assert_true(timer_is_set(&a));
    loop_run(l);
    assert_string_equal(buf_str(&trace), "cba");
    assert_false(timer_is_set(&a));
    timer_fini(&a);
    timer_fini(&b);
    timer_fini(&c);
    timer_fini(&end);
    timer_fini(&end);
}

struct early {
    struct loop *loop;
    struct timer t;
    struct task spin; /* keeps the loop turning */
    int64_t due;
    int left;
    bool early;
};

static void on_spin(void *arg)
{
    struct early *x = arg;

    loop_defer(x->loop, &x->spin);
}

static void on_early(void *arg)
{
    struct early *x = arg;

    if (x->left % 2)
        usleep(2000); /* something slow came first in this turn */
    else if (loop_now(x->loop) < x->due)
        x->early = true;
    if (x->left-- == 0) {
        loop_stop(x->loop);
        return;
    }
    x->due = loop_now(x->loop) + 3;
    timer_set(&x->t, 3);
}

static void test_timer_is_never_early_by_loop_now(void **state)
{
    struct early x = {.loop = *state, .left = 60};

    timer_init(&x.t, x.loop, on_early, &x);
    task_init(&x.spin, on_spin, &x);
    timer_set(&x.t, 0);
    loop_defer(x.loop, &x.spin);
    loop_run(x.loop);
    assert_false(x.early);
    timer_fini(&x.t);
    task_cancel(&x.spin);
}

struct pair {
    struct timer *other;
    int fired;
};

static void clear_other(void *arg)
{
    struct pair *p = arg;

    p->fired++;
    timer_clear(p->other);
}

static void test_timer_cleared_in_callback_does_not_fire(void **state)
{
    struct loop *l = *state;
    struct timer a, b;
    struct pair pa = {.other = &b}, pb = {.other = &a};

    timer_init(&a, l, clear_other, &pa);
    timer_init(&b, l, clear_other, &pb);
    timer_set(&a, 0);
    timer_set(&b, 0);
    for (int i = 0; i < 3; i++)
        loop_turn(l, 5);
    assert_int_equal(pa.fired + pb.fired, 1);
    timer_fini(&a);
    timer_fini(&b);
}

static void fini_self(void *arg)
{
    struct timer *t = arg;

    timer_fini(t);
    free(t);
}

static void test_timer_may_be_freed_in_its_callback(void **state)
{
    struct loop *l = *state;
    struct timer *t = xmalloc(sizeof(*t));

    timer_init(t, l, fini_self, t);
    timer_set(t, 0);
    loop_turn(l, 1000);
}

struct again {
    struct timer t;
    int n;
};

static void set_again(void *arg)
{
    struct again *a = arg;

    a->n++;
    timer_set(&a->t, 0);
}

static void test_timer_zero_is_next_turn(void **state)
{
    struct again a = {0};

    timer_init(&a.t, *state, set_again, &a);
    timer_set(&a.t, 0);
    for (int i = 1; i <= 5; i++) {
        loop_turn(*state, 1000);
        assert_int_equal(a.n, i);
    }
    timer_fini(&a.t);
}

static void test_now_stands_still_within_a_turn(void **state)
{
    struct loop *l = *state;

    assert_ptr_equal(loop_clock(l), clock_system());
    assert_true(loop_now(l) > 0);
    loop_turn(l, 0);
    assert_true(loop_now(l) >= 0);
}

/* --- tasks --- */

struct chain {
    struct loop *loop;
    struct task t, other;
    int runs;
};

static void chain_run(void *arg)
{
    struct chain *c = arg;

    c->runs++;
    buf_puts(&trace, "c");
    loop_defer(c->loop, &c->t);
    loop_defer(c->loop, &c->t);
}

static void test_tasks_run_in_order_once(void **state)
{
    struct loop *l = *state;
    struct task a, b, c;

    task_init(&a, say, text("a"));
    task_init(&b, say, text("b"));
    task_init(&c, say, text("c"));
    loop_defer(l, &b);
    loop_defer(l, &a);
    loop_defer(l, &b);
    loop_defer(l, &c);
    task_cancel(&c);
    task_cancel(&c);
    assert_string_equal(buf_str(&trace), "");
    loop_turn(l, 1000);
    assert_string_equal(buf_str(&trace), "ba");
    loop_turn(l, 0);
    assert_string_equal(buf_str(&trace), "ba");
    loop_defer(l, &a);
    loop_turn(l, 1000);
    assert_string_equal(buf_str(&trace), "baa");
}

static void test_task_that_asks_again_runs_next_turn(void **state)
{
    struct chain c = {.loop = *state};

    task_init(&c.t, chain_run, &c);
    loop_defer(c.loop, &c.t);
    for (int i = 1; i <= 4; i++) {
        loop_turn(c.loop, 60000); /* does not wait: a task is queued */
        assert_int_equal(c.runs, i);
    }
    task_cancel(&c.t);
    loop_turn(c.loop, 0);
    assert_int_equal(c.runs, 4);
}

static void cancel_other(void *arg)
{
    struct chain *c = arg;

    c->runs++;
    task_cancel(c->runs == 1 ? &c->other : &c->t);
}

static void test_task_canceled_by_a_task_does_not_run(void **state)
{
    struct chain c = {.loop = *state};

    task_init(&c.t, cancel_other, &c);
    task_init(&c.other, cancel_other, &c);
    loop_defer(c.loop, &c.t);
    loop_defer(c.loop, &c.other);
    loop_turn(c.loop, 0);
    loop_turn(c.loop, 0);
    assert_int_equal(c.runs, 1);
}

/* A task asked for from a timer runs at the end of the same turn. */
struct late {
    struct loop *loop;
    struct timer t;
    struct task task;
};

static void late_timer(void *arg)
{
    struct late *x = arg;

    buf_puts(&trace, "timer ");
    loop_defer(x->loop, &x->task);
}

static void test_task_of_a_callback_runs_in_the_same_turn(void **state)
{
    struct late x = {.loop = *state};

    timer_init(&x.t, x.loop, late_timer, &x);
    task_init(&x.task, say, text("task"));
    timer_set(&x.t, 0);
    loop_turn(x.loop, 1000);
    assert_string_equal(buf_str(&trace), "timer task");
    timer_fini(&x.t);
}

/* --- messages --- */

enum { SENDERS = 4, PER_SENDER = 2000 };

struct note {
    struct msg m;
    int sender, seq;
};

static int next_seq[SENDERS], received;
static pthread_t loop_thread;
static bool out_of_order, wrong_thread;

static void on_note(struct msg *m)
{
    struct note *n = container_of(m, struct note, m);

    if (n->seq != next_seq[n->sender]++)
        out_of_order = true;
    if (!pthread_equal(pthread_self(), loop_thread))
        wrong_thread = true;
    received++;
    free(n);
}

static void post_note(struct loop *l, int sender, int seq)
{
    struct note *n = xmalloc(sizeof(*n));

    *n = (struct note){.m.cb = on_note, .sender = sender, .seq = seq};
    loop_post(l, &n->m);
}

struct sender {
    struct loop *loop;
    int id;
};

static void *sender_main(void *arg)
{
    struct sender *s = arg;

    for (int i = 0; i < PER_SENDER; i++)
        post_note(s->loop, s->id, i);
    return NULL;
}

static void notes_reset(void)
{
    memset(next_seq, 0, sizeof(next_seq));
    received = 0;
    out_of_order = wrong_thread = false;
    loop_thread = pthread_self();
}

static void test_messages_arrive_in_order_per_sender(void **state)
{
    struct loop *l = *state;
    struct sender s[SENDERS];
    pthread_t th[SENDERS];

    notes_reset();
    for (int i = 0; i < SENDERS; i++) {
        s[i] = (struct sender){l, i};
        assert_int_equal(pthread_create(&th[i], NULL, sender_main, &s[i]), 0);
    }
    for (int64_t end = loop_now(l) + 20000; received < SENDERS * PER_SENDER && loop_now(l) < end;)
        loop_turn(l, 100);
    for (int i = 0; i < SENDERS; i++)
        pthread_join(th[i], NULL);
    assert_int_equal(received, SENDERS * PER_SENDER);
    assert_false(out_of_order);
    assert_false(wrong_thread);
}

static void test_loop_free_delivers_what_is_queued(void **state)
{
    struct err e;
    struct loop *l = loop_new(&e);
    struct task t;

    (void)state;
    notes_reset();
    task_init(&t, say, text("task"));
    for (int i = 0; i < 10; i++)
        post_note(l, 0, i);
    loop_defer(l, &t);
    assert_int_equal(received, 0);
    loop_free(&l);
    assert_int_equal(received, 10);
    assert_string_equal(buf_str(&trace), "task");
}

static int reposts;
static struct loop *repost_loop;

static void on_repost(struct msg *m)
{
    if (++reposts < 3)
        loop_post(repost_loop, m);
}

static void test_message_posted_by_a_message(void **state)
{
    struct msg m = {.cb = on_repost};

    reposts = 0;
    repost_loop = *state;
    loop_post(*state, &m);
    for (int i = 0; i < 5; i++)
        loop_turn(*state, 1);
    assert_int_equal(reposts, 3);
}

/* --- signals --- */

static int signals_seen;

static void on_usr1(int signo, void *arg)
{
    assert_int_equal(signo, SIGUSR1);
    (*(int *)arg)++;
    signals_seen++;
}

static void test_signals(void **state)
{
    struct loop *l = *state;
    struct err e;
    int a = 0, b = 0;

    assert_int_equal(loop_signal(l, SIGUSR1, on_usr1, &a, &e), 0);
    kill(getpid(), SIGUSR1);
    for (int i = 0; i < 100 && a == 0; i++)
        loop_turn(l, 100);
    assert_int_equal(a, 1);
    assert_int_equal(loop_signal(l, SIGUSR1, on_usr1, &b, &e), 0); /* replaces */
    kill(getpid(), SIGUSR1);
    for (int i = 0; i < 100 && b == 0; i++)
        loop_turn(l, 100);
    assert_int_equal(b, 1);
    assert_int_equal(a, 1);
    assert_int_equal(loop_signal(l, SIGUSR1, NULL, NULL, &e), 0);
    assert_int_equal(loop_signal(l, SIGUSR1, NULL, NULL, &e), 0);
    assert_int_equal(loop_signal(l, 9999, on_usr1, &b, &e), -1);
    assert_true(strlen(e.msg) > 0);
}

static void test_sigpipe_is_ignored(void **state)
{
    int sv[2];

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
    close(sv[1]);
    assert_int_equal(write(sv[0], "x", 1), -1); /* and we are still here */
    close(sv[0]);
}

static void test_stop_before_run_returns_at_once(void **state)
{
    struct loop *l = *state;

    loop_stop(l);
    loop_run(l);
}

/* --- descriptors --- */

struct watched {
    struct fd_watch w;
    int fd, times;
    char last;
};

static void on_watched(void *arg)
{
    struct watched *x = arg;

    x->times++;
    x->last = '-';
    if (recv(x->fd, &x->last, 1, MSG_DONTWAIT) == 0)
        fd_watch_fini(&x->w); /* in its own callback */
}

static void test_watch(void **state)
{
    struct loop *l = *state;
    struct watched x = {.times = 0};
    int pair[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
    x.fd = pair[0];
    fd_watch_init(&x.w, l, pair[0], on_watched, &x);
    loop_turn(l, 0);
    assert_int_equal(x.times, 0);
    assert_int_equal(send(pair[1], "a", 1, 0), 1);
    assert_int_equal(send(pair[1], "b", 1, 0), 1);
    loop_turn(l, 0); /* one message a turn is read: what is left is told again */
    assert_int_equal(x.last, 'a');
    loop_turn(l, 0);
    assert_int_equal(x.last, 'b');
    close(pair[1]);
    loop_turn(l, 0);
    assert_int_equal(x.times, 3);
    loop_turn(l, 0);
    assert_int_equal(x.times, 3);
    close(pair[0]);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_timers_fire_in_order_of_time),
        T(test_timer_is_never_early_by_loop_now),
        T(test_timer_cleared_in_callback_does_not_fire),
        T(test_timer_may_be_freed_in_its_callback),
        T(test_timer_zero_is_next_turn),
        T(test_now_stands_still_within_a_turn),
        T(test_tasks_run_in_order_once),
        T(test_task_that_asks_again_runs_next_turn),
        T(test_task_canceled_by_a_task_does_not_run),
        T(test_task_of_a_callback_runs_in_the_same_turn),
        T(test_messages_arrive_in_order_per_sender),
        T(test_loop_free_delivers_what_is_queued),
        T(test_message_posted_by_a_message),
        T(test_watch),
        T(test_signals),
        T(test_sigpipe_is_ignored),
        T(test_stop_before_run_returns_at_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
