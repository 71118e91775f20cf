/* Worker threads for what would hold up the loop: parsing large JSON, hashing, fsync, disk reads, encoding.
 */
#ifndef NET_WORKER_H
#define NET_WORKER_H

#include "net/loop.h"

struct workers;

struct workers *workers_new(struct loop *l, unsigned threads, struct err *e);
/* Waits until everything that was submitted is done and has been told, also what is submitted meanwhile. Not within a done(). */
void workers_settle(struct workers *w);
/* Settles, then joins the threads. Loop thread. */
void workers_free(struct workers **w);

/* A piece of work. Caller-owned memory, untouched by the caller from workers_submit() until done() has begun.
 * run() is on a worker thread; done() on the loop thread, exactly once, never inside workers_submit(). done()
 * may free the work. */
struct work {
    struct msg msg;
    struct workers *owner;
    void (*run)(struct work *w);
    void (*done)(struct work *w);
};
void workers_submit(struct workers *w, struct work *work);

#endif
