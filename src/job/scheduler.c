#include "job/scheduler.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* The jobs that the same set of servers can run: a binary heap by queue order. */
struct sched_class {
    struct list link;
    struct sched_set can;
    struct sched_job **heap;
    size_t n, cap;
};

struct sched {
    struct list classes;
    size_t waiting;
};

bool sched_set_empty(const struct sched_set *s)
{
    static const struct sched_set none;

    return sched_set_equal(s, &none);
}

bool sched_set_equal(const struct sched_set *a, const struct sched_set *b)
{
    return memcmp(a->w, b->w, sizeof(a->w)) == 0;
}

struct sched *sched_new(void)
{
    struct sched *s = xcalloc(1, sizeof(*s));

    list_init(&s->classes);
    return s;
}

static void class_free(struct sched_class *c)
{
    list_remove(&c->link);
    free(c->heap);
    free(c);
}

void sched_free(struct sched **sp)
{
    struct sched *s = *sp;

    if (s == NULL)
        return;
    list_for_each_safe (it, &s->classes)
        class_free(list_entry(it, struct sched_class, link));
    free(s);
    *sp = NULL;
}

void sched_job_init(struct sched_job *j)
{
    *j = (struct sched_job){0};
}

size_t sched_waiting(const struct sched *s)
{
    return s->waiting;
}

bool sched_job_before(const struct sched_job *a, const struct sched_job *b)
{
    if (a->priority != b->priority)
        return a->priority > b->priority;
    if (a->number != b->number)
        return a->number < b->number;
    return a->seq < b->seq;
}

static void heap_set(struct sched_class *c, size_t i, struct sched_job *j)
{
    c->heap[i] = j;
    j->pos = i;
}

static void heap_up(struct sched_class *c, size_t i)
{
    struct sched_job *j = c->heap[i];

    while (i > 0 && sched_job_before(j, c->heap[(i - 1) / 2])) {
        heap_set(c, i, c->heap[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    heap_set(c, i, j);
}

static void heap_down(struct sched_class *c, size_t i)
{
    struct sched_job *j = c->heap[i];

    for (;;) {
        size_t kid = 2 * i + 1;

        if (kid >= c->n)
            break;
        if (kid + 1 < c->n && sched_job_before(c->heap[kid + 1], c->heap[kid]))
            kid++;
        if (!sched_job_before(c->heap[kid], j))
            break;
        heap_set(c, i, c->heap[kid]);
        i = kid;
    }
    heap_set(c, i, j);
}

static struct sched_class *class_for(struct sched *s, const struct sched_set *can)
{
    struct sched_class *c;

    list_for_each (it, &s->classes) {
        c = list_entry(it, struct sched_class, link);
        if (sched_set_equal(&c->can, can))
            return c;
    }
    c = xcalloc(1, sizeof(*c));
    c->can = *can;
    list_push_back(&s->classes, &c->link);
    return c;
}

void sched_job_add(struct sched *s, struct sched_job *j, const struct sched_set *can)
{
    struct sched_class *c = class_for(s, can);

    assert(j->cls == NULL);
    if (c->n == c->cap) {
        c->cap = c->cap ? 2 * c->cap : 8;
        c->heap = xrealloc(c->heap, c->cap * sizeof(struct sched_job *));
    }
    j->cls = c;
    heap_set(c, c->n++, j);
    heap_up(c, c->n - 1);
    s->waiting++;
}

void sched_job_remove(struct sched *s, struct sched_job *j)
{
    struct sched_class *c = j->cls;
    size_t i = j->pos;

    if (c == NULL)
        return;
    assert(c->heap[i] == j);
    c->n--;
    if (i != c->n) {
        heap_set(c, i, c->heap[c->n]);
        heap_down(c, i);
        heap_up(c, i);
    }
    j->cls = NULL;
    s->waiting--;
    if (c->n == 0)
        class_free(c);
}

/* The first job in queue order that this server can run. */
static struct sched_job *first_for(struct sched *s, unsigned server)
{
    struct sched_job *best = NULL;

    list_for_each (it, &s->classes) {
        struct sched_class *c = list_entry(it, struct sched_class, link);

        if (sched_set_has(&c->can, server) && (best == NULL || sched_job_before(c->heap[0], best)))
            best = c->heap[0];
    }
    return best;
}

bool sched_next(struct sched *s, const struct sched_server *servers, size_t n, struct sched_pick *out)
{
    const struct sched_server *chosen = NULL;
    struct sched_job *job = NULL;

    if (s->waiting == 0)
        return false;
    for (size_t i = 0; i < n; i++) {
        struct sched_job *j;

        if (servers[i].free <= 0 || (chosen && chosen->idle_since <= servers[i].idle_since))
            continue;
        j = first_for(s, servers[i].index);
        if (j) {
            chosen = &servers[i];
            job = j;
        }
    }
    if (chosen == NULL)
        return false;
    sched_job_remove(s, job);
    *out = (struct sched_pick){job, chosen->index, "idle longest of the servers that can run it"};
    return true;
}
