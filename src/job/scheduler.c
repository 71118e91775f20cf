#include "job/scheduler.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/list.h"

/* The jobs that the same set of servers can run: a binary heap by queue order. */
struct sched_class {
    struct list link;
    struct sched_set can;
    struct heap heap;
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
    heap_fini(&c->heap);
    free(c);
}

void sched_free(struct sched **sp)
{
    struct sched *s = *sp;

    if (s == NULL)
        return;
    list_for_each_safe(it, &s->classes)
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

static bool node_before(const struct heap_node *a, const struct heap_node *b)
{
    return sched_job_before(container_of(a, struct sched_job, node), container_of(b, struct sched_job, node));
}

static struct sched_job *class_first(const struct sched_class *c)
{
    return container_of(heap_top(&c->heap), struct sched_job, node);
}

static struct sched_class *class_for(struct sched *s, const struct sched_set *can)
{
    struct sched_class *c;

    list_for_each(it, &s->classes) {
        c = list_entry(it, struct sched_class, link);
        if (sched_set_equal(&c->can, can))
            return c;
    }
    c = xcalloc(1, sizeof(*c));
    c->can = *can;
    heap_init(&c->heap, node_before);
    list_push_back(&s->classes, &c->link);
    return c;
}

void sched_job_add(struct sched *s, struct sched_job *j, const struct sched_set *can)
{
    assert(j->cls == NULL);
    j->cls = class_for(s, can);
    heap_push(&j->cls->heap, &j->node);
    s->waiting++;
}

void sched_job_remove(struct sched *s, struct sched_job *j)
{
    struct sched_class *c = j->cls;

    if (c == NULL)
        return;
    heap_remove(&c->heap, &j->node);
    if (heap_top(&c->heap) == NULL)
        class_free(c);
    j->cls = NULL;
    s->waiting--;
}

/* The first job in queue order that this server can run. */
static struct sched_job *first_for(struct sched *s, unsigned server)
{
    struct sched_job *best = NULL;

    list_for_each(it, &s->classes) {
        struct sched_class *c = list_entry(it, struct sched_class, link);

        if (sched_set_has(&c->can, server) && (best == NULL || sched_job_before(class_first(c), best)))
            best = class_first(c);
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
