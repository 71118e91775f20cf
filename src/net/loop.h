/* The loop thread: sockets, timers, messages from other threads, and "at the end of this turn".
 *
 * One thread runs a loop and owns everything that hangs on it. All functions are for that thread unless
 * marked. Built on libevent's event_base (design.md §6); the rest of the program sees libevent only through
 * net/stream.h's evbuffer. */
#ifndef NET_LOOP_H
#define NET_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/list.h"

struct event_base;
struct evdns_base;
struct loop;

struct loop *loop_new(struct err *e);
/* Everything registered on it must be gone; messages still queued are delivered first. */
void loop_free(struct loop **l);
/* Until loop_stop(). */
void loop_run(struct loop *l);
void loop_stop(struct loop *l);
/* One turn: waits for at most wait_ms for something to happen. For tests. */
void loop_turn(struct loop *l, int wait_ms);

/* A watchdog: a warning in the log for each turn in which the thread computed for longer than this (waiting and what
 * others made it wait for do not count), and the longest turn of all when the loop is freed. 0: no watchdog. */
void loop_watch(struct loop *l, int64_t max_ms);

struct clock *loop_clock(struct loop *l); /* the system's */
int64_t loop_now(struct loop *l);         /* monotonic ms, read once a turn */
struct event_base *loop_base(struct loop *l);
struct evdns_base *loop_dns(struct loop *l); /* made on first use */

/* Timers: one-shot, caller-owned memory. */
typedef void timer_cb(void *arg);
struct timer {
    struct loop *loop;
    timer_cb *cb;
    void *arg;
    void *impl; /* struct event */
};
void timer_init(struct timer *t, struct loop *l, timer_cb *cb, void *arg);
void timer_set(struct timer *t, int64_t ms); /* from now; replaces what was set; 0 = next turn */
void timer_clear(struct timer *t);
bool timer_is_set(const struct timer *t);
void timer_fini(struct timer *t);

/* A descriptor that is neither a stream nor a listener (a pair of sockets to a process of ours): cb in every turn in which
 * it can be read, end of file included. Caller-owned memory; the descriptor stays the caller's, who calls fd_watch_fini()
 * before closing it. */
typedef void fd_watch_cb(void *arg);
struct fd_watch {
    fd_watch_cb *cb;
    void *arg;
    void *impl; /* struct event */
};
void fd_watch_init(struct fd_watch *w, struct loop *l, int fd, fd_watch_cb *cb, void *arg);
void fd_watch_fini(struct fd_watch *w);

/* Run once at the end of this turn, in order of asking: completions that must not fire inside the call that
 * started them, and freeing of objects whose callbacks may still be on the stack. Caller-owned memory. */
typedef void task_cb(void *arg);
struct task {
    struct list link;
    task_cb *cb;
    void *arg;
};
void task_init(struct task *t, task_cb *cb, void *arg);
void loop_defer(struct loop *l, struct task *t); /* already queued: nothing happens */
void task_cancel(struct task *t);

/* A message to the loop thread. ANY THREAD. m is caller-owned until cb runs on the loop thread, in order of
 * posting per sender; cb may free it. */
struct msg {
    struct list link;
    void (*cb)(struct msg *m);
};
void loop_post(struct loop *l, struct msg *m);

/* cb on the loop thread for each signal. One handler per signal number; NULL removes it. */
typedef void signal_cb(int signo, void *arg);
int loop_signal(struct loop *l, int signo, signal_cb *cb, void *arg, struct err *e) MUST_CHECK;

#endif
