#include "base/heap.h"

#include <assert.h>
#include <stdlib.h>

#include "base/mem.h"

void heap_init(struct heap *h, heap_before_cb *before)
{
    *h = (struct heap){.before = before};
}

void heap_fini(struct heap *h)
{
    free(h->v);
    *h = (struct heap){.before = h->before};
}

static void heap_set(struct heap *h, size_t i, struct heap_node *e)
{
    h->v[i] = e;
    e->pos = i + 1;
}

static void heap_up(struct heap *h, size_t i)
{
    struct heap_node *e = h->v[i];

    while (i > 0 && h->before(e, h->v[(i - 1) / 2])) {
        heap_set(h, i, h->v[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    heap_set(h, i, e);
}

static void heap_down(struct heap *h, size_t i)
{
    struct heap_node *e = h->v[i];

    for (;;) {
        size_t kid = 2 * i + 1;

        if (kid >= h->n)
            break;
        if (kid + 1 < h->n && h->before(h->v[kid + 1], h->v[kid]))
            kid++;
        if (!h->before(h->v[kid], e))
            break;
        heap_set(h, i, h->v[kid]);
        i = kid;
    }
    heap_set(h, i, e);
}

void heap_push(struct heap *h, struct heap_node *e)
{
    assert(e->pos == 0);
    if (h->n == h->cap) {
        h->cap = h->cap ? 2 * h->cap : 8;
        h->v = xrealloc(h->v, h->cap * sizeof(struct heap_node *));
    }
    heap_set(h, h->n++, e);
    heap_up(h, h->n - 1);
}

void heap_update(struct heap *h, struct heap_node *e)
{
    assert(e->pos != 0);
    heap_down(h, e->pos - 1);
    heap_up(h, e->pos - 1);
}

void heap_remove(struct heap *h, struct heap_node *e)
{
    size_t i = e->pos - 1;

    if (e->pos == 0)
        return;
    assert(h->v[i] == e);
    e->pos = 0;
    h->n--;
    if (i == h->n)
        return;
    heap_set(h, i, h->v[h->n]);
    heap_update(h, h->v[i]);
}
