#include "net/worker.h"

#include <assert.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#include "net/loop_impl.h"

struct workers {
    struct loop *loop;
    size_t pending;  /* submitted, done() not yet begun; loop thread only */
    bool delivering; /* workers_settle() waits */
    unsigned n;
    pthread_t *threads;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t more;
    struct list queue;
    bool stopping;
};

static struct work *worker_next(struct workers *w)
{
    struct work *work = NULL;

    pthread_mutex_lock(&w->lock);
    while (list_empty(&w->queue) && !w->stopping)
        pthread_cond_wait(&w->more, &w->lock);
    if (!list_empty(&w->queue)) {
        work = list_first(&w->queue, struct work, msg.link);
        list_remove(&work->msg.link);
    }
    pthread_mutex_unlock(&w->lock);
    return work;
}

/* Each finished work is its own message, so that what run() posted itself arrives before done(). */
static void *worker_main(void *arg)
{
    struct workers *w = arg;
    struct work *work;

    while ((work = worker_next(w)) != NULL) {
        work->run(work);
        loop_post(w->loop, &work->msg);
    }
    return NULL;
}

static void on_done(struct msg *m)
{
    struct work *work = container_of(m, struct work, msg);

    work->owner->pending--;
    work->done(work);
}

void workers_submit(struct workers *w, struct work *work)
{
    work->owner = w;
    work->msg.cb = on_done;
    w->pending++;
    pthread_mutex_lock(&w->lock);
    list_push_back(&w->queue, &work->msg.link);
    pthread_cond_signal(&w->more);
    pthread_mutex_unlock(&w->lock);
}

static void workers_join(struct workers *w)
{
    pthread_mutex_lock(&w->lock);
    w->stopping = true;
    pthread_cond_broadcast(&w->more);
    pthread_mutex_unlock(&w->lock);
    for (unsigned i = 0; i < w->n; i++)
        pthread_join(w->threads[i], NULL);
    pthread_cond_destroy(&w->more);
    pthread_mutex_destroy(&w->lock);
    free(w->threads);
    free(w);
}

struct workers *workers_new(struct loop *l, unsigned threads, struct err *e)
{
    struct workers *w = xcalloc(1, sizeof(*w));
    sigset_t all, old;
    int rc = 0;

    assert(threads > 0);
    w->loop = l;
    w->threads = xcalloc(threads, sizeof(*w->threads));
    list_init(&w->queue);
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->more, NULL);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old); /* signals are the loop thread's */
    while (rc == 0 && w->n < threads) {
        rc = pthread_create(&w->threads[w->n], NULL, worker_main, w);
        if (rc == 0)
            pthread_setname_np(w->threads[w->n++], "worker");
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc != 0) {
        err_errno(e, rc, "cannot start worker thread %u of %u", w->n + 1, threads);
        workers_join(w);
        return NULL;
    }
    return w;
}

void workers_settle(struct workers *w)
{
    assert(!w->delivering);
    w->delivering = true;
    while (w->pending > 0) /* a done() may submit more */
        loop_wait_messages(w->loop);
    w->delivering = false;
}

void workers_free(struct workers **wp)
{
    struct workers *w = *wp;

    if (w == NULL)
        return;
    *wp = NULL;
    workers_settle(w);
    workers_join(w);
}
