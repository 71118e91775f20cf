/* An ordered set of embedded nodes that can say how many go before a given one, in O(log n): the places of a queue. */
#ifndef BASE_RANK_H
#define BASE_RANK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct rank_node {
    struct rank_node *up, *kid[2];
    uint32_t size;   /* of the subtree; 0: in no set, so zero-initialised is right */
    uint32_t weight; /* random; no parent weighs less than a child */
};
/* A strict order: of two different nodes exactly one goes before the other. */
typedef bool rank_before_cb(const struct rank_node *a, const struct rank_node *b);
struct rank {
    struct rank_node *root;
    rank_before_cb *before;
    uint64_t seed;
};

void rank_init(struct rank *r,
               rank_before_cb *before); /* nothing to free; the nodes are never touched after removal */
void rank_add(struct rank *r, struct rank_node *e);
void rank_remove(struct rank *r, struct rank_node *e); /* in no set: nothing happens */
/* How many go before it. It must be in a set. */
size_t rank_of(const struct rank_node *e);
static inline size_t rank_size(const struct rank *r)
{
    return r->root ? r->root->size : 0;
}

#endif
