#include "vloop.h"

#include <assert.h>
#include <stdlib.h>

#include "vt.h"

struct loop {
    struct list tasks;
};

struct loop *loop_new(struct err *e)
{
    struct loop *l = xcalloc(1, sizeof(*l));

    (void)e;
    list_init(&l->tasks);
    return l;
}

void vloop_turn(struct loop *l)
{
    struct task *t;

    while ((t = list_first(&l->tasks, struct task, link)) != NULL) {
        list_remove(&t->link);
        t->cb(t->arg);
    }
}

void loop_free(struct loop **lp)
{
    vloop_turn(*lp);
    free(*lp);
    *lp = NULL;
}

struct clock *loop_clock(struct loop *l)
{
    (void)l;
    return vt_clock();
}

int64_t loop_now(struct loop *l)
{
    (void)l;
    return vt_now();
}

/* --- timers --- */

void timer_init(struct timer *t, struct loop *l, timer_cb *cb, void *arg)
{
    *t = (struct timer){l, cb, arg, xcalloc(1, sizeof(struct vt_event))};
}

void timer_set(struct timer *t, int64_t ms)
{
    vt_set(t->impl, ms, t->cb, t->arg);
}

void timer_clear(struct timer *t)
{
    vt_clear(t->impl);
}

bool timer_is_set(const struct timer *t)
{
    return vt_is_set(t->impl);
}

void timer_fini(struct timer *t)
{
    if (t->impl)
        vt_clear(t->impl);
    free(t->impl);
    t->impl = NULL;
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
    if (list_empty(&t->link))
        list_push_back(&l->tasks, &t->link);
}

void task_cancel(struct task *t)
{
    list_remove(&t->link);
}

/* --- workers --- */

struct workers {
    struct list works;
};

struct vwork {
    struct list link;
    struct vt_event ev;
    struct work *work;
    bool ran;
};

struct workers *workers_new(struct loop *l, unsigned threads, struct err *e)
{
    struct workers *w = xcalloc(1, sizeof(*w));

    (void)l, (void)threads, (void)e;
    list_init(&w->works);
    return w;
}

static void on_work(void *arg)
{
    struct vwork *v = arg;
    struct work *work = v->work;

    if (!v->ran) {
        work->run(work);
        v->ran = true;
        vt_set(&v->ev, vt_rnd(3), on_work, v);
        return;
    }
    list_remove(&v->link);
    free(v);
    work->done(work);
}

void workers_submit(struct workers *w, struct work *work)
{
    struct vwork *v = xcalloc(1, sizeof(*v));

    work->owner = w;
    v->work = work;
    list_push_back(&w->works, &v->link);
    vt_set(&v->ev, vt_rnd(4), on_work, v);
}

bool vworkers_step(struct workers *w)
{
    struct vwork *v = list_first(&w->works, struct vwork, link);

    if (v == NULL)
        return false;
    vt_clear(&v->ev);
    on_work(v);
    return true;
}

void workers_free(struct workers **wp)
{
    assert(list_empty(&(*wp)->works));
    free(*wp);
    *wp = NULL;
}
