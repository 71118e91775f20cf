/* A binary heap of embedded nodes: the first in order at the top, removal of any element in O(log n). */
#ifndef BASE_HEAP_H
#define BASE_HEAP_H

#include <stdbool.h>
#include <stddef.h>

struct heap_node {
    size_t pos; /* 1-based; 0: in no heap, so zero-initialised is right */
};
typedef bool heap_before_cb(const struct heap_node *a, const struct heap_node *b);
struct heap {
    struct heap_node **v;
    size_t n, cap;
    heap_before_cb *before;
};

void heap_init(struct heap *h, heap_before_cb *before);
void heap_fini(struct heap *h); /* the nodes are not touched */
void heap_push(struct heap *h, struct heap_node *e);
void heap_remove(struct heap *h, struct heap_node *e); /* in no heap: nothing happens */
/* After e's order has changed. */
void heap_update(struct heap *h, struct heap_node *e);
static inline struct heap_node *heap_top(const struct heap *h)
{
    return h->n ? h->v[0] : NULL;
}
static inline bool heap_has(const struct heap_node *e)
{
    return e->pos != 0;
}

#endif
