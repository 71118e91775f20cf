#include "net/loop.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <event2/dns.h>
#include <event2/event.h>

#include "base/log.h"
#include "net/loop_impl.h"

struct signal_slot {
    struct list link;
    int signo;
    signal_cb *cb;
    void *arg;
    struct event *ev;
};

struct loop {
    struct event_base *base;
    struct evdns_base *dns;
    struct event *kick;    /* made active so that a turn does not wait while tasks are queued */
    struct event *wake;    /* the eventfd of messages */
    struct event *patient; /* bounds the waiting of loop_turn() */
    struct clock *clock;
    int64_t now;
    bool now_fresh; /* now was read in this turn */
    bool stopping;
    bool in_turn;
    struct list tasks;    /* asked for, to run at the end of the turn */
    struct list tasks_on; /* being run */
    struct list msgs_on;  /* being delivered */
    struct list signals;
    struct list orphans;
    int wake_fd;
    pthread_mutex_t lock; /* guards msgs */
    struct list msgs;

    /* the watchdog; us of CPU time */
    int64_t watch_us; /* 0: none */
    int64_t longest_us;
    uint64_t turns;
};

/* --- messages --- */

void loop_post(struct loop *l, struct msg *m)
{
    bool first;
    uint64_t one = 1;

    pthread_mutex_lock(&l->lock);
    first = list_empty(&l->msgs);
    list_push_back(&l->msgs, &m->link);
    pthread_mutex_unlock(&l->lock);
    /* The counter cannot overflow: at most one write between two reads. */
    if (first)
        while (write(l->wake_fd, &one, sizeof(one)) < 0 && errno == EINTR)
            ;
}

static void take_messages(struct loop *l)
{
    pthread_mutex_lock(&l->lock);
    while (!list_empty(&l->msgs)) {
        struct list *e = l->msgs.next;

        list_remove(e);
        list_push_back(&l->msgs_on, e);
    }
    pthread_mutex_unlock(&l->lock);
}

/* A callback may come back here (workers_free()): it goes on with the same list, so order is kept. */
static void deliver_messages(struct loop *l)
{
    uint64_t n;

    while (read(l->wake_fd, &n, sizeof(n)) < 0 && errno == EINTR)
        ;
    take_messages(l);
    while (!list_empty(&l->msgs_on)) {
        struct msg *m = list_first(&l->msgs_on, struct msg, link);

        list_remove(&m->link);
        m->cb(m);
    }
}

static void on_wake(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    deliver_messages(arg);
}

void loop_wait_messages(struct loop *l)
{
    struct pollfd p = {.fd = l->wake_fd, .events = POLLIN};

    /* Messages taken by a delivery that is on the stack below us have no more counter behind them. */
    if (list_empty(&l->msgs_on))
        while (poll(&p, 1, -1) < 0 && errno == EINTR)
            ;
    deliver_messages(l);
}

/* --- tasks --- */

void task_init(struct task *t, task_cb *cb, void *arg)
{
    list_init(&t->link);
    t->cb = cb;
    t->arg = arg;
}

void loop_defer(struct loop *l, struct task *t)
{
    if (!list_empty(&t->link))
        return;
    if (list_empty(&l->tasks))
        event_active(l->kick, EV_TIMEOUT, 0);
    list_push_back(&l->tasks, &t->link);
}

void task_cancel(struct task *t)
{
    list_remove(&t->link);
}

/* What tasks ask for while they run belongs to the next turn: sockets get their share in between. */
static void run_tasks(struct loop *l)
{
    while (!list_empty(&l->tasks)) {
        struct list *e = l->tasks.next;

        list_remove(e);
        list_push_back(&l->tasks_on, e);
    }
    while (!list_empty(&l->tasks_on)) {
        struct task *t = list_first(&l->tasks_on, struct task, link);

        list_remove(&t->link);
        t->cb(t->arg);
    }
}

static void on_nothing(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    (void)arg;
}

/* --- life --- */

static int loop_setup(struct loop *l, struct err *e)
{
    struct event_config *cfg = event_config_new();

    l->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (l->wake_fd < 0) {
        if (cfg)
            event_config_free(cfg);
        return err_errno(e, errno, "eventfd");
    }
    /* One thread owns the base: no locks. Precise: else libevent's clock runs up to 4 ms behind ours. */
    if (cfg) {
        event_config_set_flag(cfg, EVENT_BASE_FLAG_NOLOCK);
        event_config_set_flag(cfg, EVENT_BASE_FLAG_PRECISE_TIMER);
        l->base = event_base_new_with_config(cfg);
        event_config_free(cfg);
    }
    if (l->base == NULL)
        return err_errno(e, errno, "cannot make an event loop");
    l->kick = event_new(l->base, -1, 0, on_nothing, NULL);
    l->patient = event_new(l->base, -1, 0, on_nothing, NULL);
    l->wake = event_new(l->base, l->wake_fd, EV_READ | EV_PERSIST, on_wake, l);
    if (l->kick == NULL || l->patient == NULL || l->wake == NULL || event_add(l->wake, NULL) < 0)
        return err_errno(e, errno, "cannot make an event loop");
    return 0;
}

static void loop_destroy(struct loop *l)
{
    if (l->dns) {
        evdns_base_free(l->dns, 1);
        /* answers of canceled lookups free their memory here */
        event_base_loop(l->base, EVLOOP_NONBLOCK | EVLOOP_ONCE);
    }
    while (!list_empty(&l->signals)) {
        struct signal_slot *s = list_first(&l->signals, struct signal_slot, link);

        list_remove(&s->link);
        event_free(s->ev);
        free(s);
    }
    if (l->kick)
        event_free(l->kick);
    if (l->patient)
        event_free(l->patient);
    if (l->wake)
        event_free(l->wake);
    if (l->base)
        event_base_free(l->base);
    if (l->wake_fd >= 0)
        close(l->wake_fd);
    pthread_mutex_destroy(&l->lock);
    free(l);
}

struct loop *loop_new(struct err *e)
{
    struct loop *l = xcalloc(1, sizeof(*l));

    signal(SIGPIPE, SIG_IGN); /* a peer that is gone is an error code, not a death */
    l->clock = clock_system();
    pthread_mutex_init(&l->lock, NULL);
    list_init(&l->tasks);
    list_init(&l->tasks_on);
    list_init(&l->msgs);
    list_init(&l->msgs_on);
    list_init(&l->signals);
    list_init(&l->orphans);
    if (loop_setup(l, e) < 0) {
        loop_destroy(l);
        return NULL;
    }
    return l;
}

static void tell_longest(const struct loop *l)
{
    if (l->watch_us)
        log_info(LOG_S("loop", "turns"), LOG_I("count", (int64_t)l->turns),
                 LOG_I("longest_cpu_us", l->longest_us));
}

static bool loop_idle(struct loop *l)
{
    take_messages(l);
    return list_empty(&l->tasks) && list_empty(&l->msgs_on) && list_empty(&l->orphans);
}

void loop_free(struct loop **lp)
{
    struct loop *l = *lp;

    if (l == NULL)
        return;
    *lp = NULL;
    assert(!l->in_turn);
    tell_longest(l);
    while (!loop_idle(l)) {
        deliver_messages(l);
        while (!list_empty(&l->orphans)) {
            struct orphan *o = list_first(&l->orphans, struct orphan, link);

            list_remove(&o->link);
            o->destroy(o);
        }
        run_tasks(l);
    }
    loop_destroy(l);
}

void loop_adopt(struct loop *l, struct orphan *o)
{
    list_push_back(&l->orphans, &o->link);
}

/* --- the watchdog --- */

static int64_t cpu_us(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

static void watch_turn(struct loop *l, int64_t began, int64_t tasks_began)
{
    int64_t now = cpu_us(), took = now - began;

    l->turns++;
    if (took > l->longest_us)
        l->longest_us = took;
    if (took > l->watch_us)
        log_warn(LOG_S("loop", "turn_too_long"), LOG_I("cpu_us", took),
                 LOG_I("in_tasks_us", now - tasks_began), LOG_I("most_us", l->watch_us));
}

void loop_watch(struct loop *l, int64_t max_ms)
{
    l->watch_us = max_ms * 1000;
}

void loop_turn(struct loop *l, int wait_ms)
{
    int64_t began = l->watch_us ? cpu_us() : 0, tasks_began = 0;
    struct timeval tv = {.tv_sec = wait_ms / 1000, .tv_usec = (wait_ms % 1000) * 1000};

    assert(!l->in_turn);
    l->in_turn = true;
    l->now_fresh = false;
    if (wait_ms > 0)
        evtimer_add(l->patient, &tv);
    /* ONCE always: a turn must end while sockets stay ready, or tasks would never run. */
    event_base_loop(l->base, (wait_ms == 0 ? EVLOOP_NONBLOCK : 0) | EVLOOP_ONCE | EVLOOP_NO_EXIT_ON_EMPTY);
    if (wait_ms > 0)
        evtimer_del(l->patient);
    if (l->watch_us)
        tasks_began = cpu_us();
    run_tasks(l);
    l->in_turn = false;
    if (l->watch_us)
        watch_turn(l, began, tasks_began);
}

void loop_run(struct loop *l)
{
    while (!l->stopping)
        loop_turn(l, -1);
    l->stopping = false;
}

void loop_stop(struct loop *l)
{
    l->stopping = true;
    /* Also when asked between turns: loop_run() looks at the flag first. */
    event_active(l->kick, EV_TIMEOUT, 0);
}

struct clock *loop_clock(struct loop *l)
{
    return l->clock;
}

int64_t loop_now(struct loop *l)
{
    if (!l->in_turn)
        return l->clock->mono_ms(l->clock);
    if (!l->now_fresh) {
        l->now = l->clock->mono_ms(l->clock);
        l->now_fresh = true;
        /* Timers count from a time not before now, so that none fires early by our own clock. */
        event_base_update_cache_time(l->base);
    }
    return l->now;
}

struct event_base *loop_base(struct loop *l)
{
    return l->base;
}

struct evdns_base *loop_dns(struct loop *l)
{
    int flags = EVDNS_BASE_DISABLE_WHEN_INACTIVE;

    if (l->dns)
        return l->dns;
    l->dns = evdns_base_new(l->base, EVDNS_BASE_INITIALIZE_NAMESERVERS | flags);
    if (l->dns == NULL) { /* no resolv.conf: the hosts file still counts */
        l->dns = evdns_base_new(l->base, flags);
        if (l->dns == NULL) {
            log_error(LOG_S("loop", "dns"), LOG_S("reason", "cannot make a resolver"));
            abort();
        }
        evdns_base_load_hosts(l->dns, "/etc/hosts");
    }
    /* A lost packet, or a server that does not answer for AAAA, must not eat the whole connect time. */
    evdns_base_set_option(l->dns, "timeout:", "1");
    evdns_base_set_option(l->dns, "attempts:", "5");
    evdns_base_set_option(l->dns, "getaddrinfo-allow-skew:", "0.5");
    return l->dns;
}

/* --- timers --- */

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    struct timer *t = arg;

    (void)fd;
    (void)what;
    t->cb(t->arg);
}

void timer_init(struct timer *t, struct loop *l, timer_cb *cb, void *arg)
{
    *t = (struct timer){.loop = l, .cb = cb, .arg = arg};
}

void timer_set(struct timer *t, int64_t ms)
{
    struct timeval tv;

    if (ms < 0)
        ms = 0;
    tv = (struct timeval){.tv_sec = ms / 1000, .tv_usec = (ms % 1000) * 1000};
    if (t->impl == NULL)
        t->impl = event_new(t->loop->base, -1, 0, on_timer, t);
    loop_now(t->loop);
    if (t->impl == NULL || evtimer_add((struct event *)t->impl, &tv) < 0) {
        log_error(LOG_S("loop", "timer"), LOG_S("reason", "out of memory"));
        abort();
    }
}

void timer_clear(struct timer *t)
{
    if (t->impl)
        evtimer_del((struct event *)t->impl);
}

bool timer_is_set(const struct timer *t)
{
    return t->impl && evtimer_pending((const struct event *)t->impl, NULL);
}

void timer_fini(struct timer *t)
{
    if (t->impl)
        event_free(t->impl);
    t->impl = NULL;
}

/* --- descriptors --- */

static void on_watched(evutil_socket_t fd, short what, void *arg)
{
    struct fd_watch *w = arg;

    (void)fd;
    (void)what;
    w->cb(w->arg);
}

void fd_watch_init(struct fd_watch *w, struct loop *l, int fd, fd_watch_cb *cb, void *arg)
{
    *w = (struct fd_watch){.cb = cb, .arg = arg};
    w->impl = event_new(l->base, fd, EV_READ | EV_PERSIST, on_watched, w);
    if (w->impl == NULL || event_add((struct event *)w->impl, NULL) < 0) {
        log_error(LOG_S("loop", "watch"), LOG_S("reason", "out of memory"));
        abort();
    }
}

void fd_watch_fini(struct fd_watch *w)
{
    if (w->impl)
        event_free(w->impl);
    w->impl = NULL;
}

/* --- signals --- */

static void on_signal(evutil_socket_t signo, short what, void *arg)
{
    struct signal_slot *s = arg;

    (void)what;
    s->cb((int)signo, s->arg);
}

static struct signal_slot *signal_find(struct loop *l, int signo)
{
    list_for_each(it, &l->signals) {
        struct signal_slot *s = list_entry(it, struct signal_slot, link);

        if (s->signo == signo)
            return s;
    }
    return NULL;
}

int loop_signal(struct loop *l, int signo, signal_cb *cb, void *arg, struct err *e)
{
    struct signal_slot *s = signal_find(l, signo);

    if (cb == NULL) {
        if (s) {
            list_remove(&s->link);
            event_free(s->ev);
            free(s);
        }
        return 0;
    }
    if (s == NULL) {
        s = xcalloc(1, sizeof(*s));
        s->signo = signo;
        s->ev = evsignal_new(l->base, signo, on_signal, s);
        if (s->ev == NULL || evsignal_add(s->ev, NULL) < 0) {
            if (s->ev)
                event_free(s->ev);
            free(s);
            return err_errno(e, errno, "cannot catch signal %d", signo);
        }
        list_push_back(&l->signals, &s->link);
    }
    s->cb = cb;
    s->arg = arg;
    return 0;
}
