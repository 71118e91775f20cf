/* A treap: a search tree by order and a heap by random weights, so its depth is logarithmic whatever comes in whatever
 * order. */
#include "base/rank.h"

#include <assert.h>

void rank_init(struct rank *r, rank_before_cb *before)
{
    *r = (struct rank){.before = before, .seed = 0x9e3779b97f4a7c15};
}

static uint32_t next_weight(struct rank *r)
{
    r->seed ^= r->seed << 13; /* xorshift64 */
    r->seed ^= r->seed >> 7;
    r->seed ^= r->seed << 17;
    return (uint32_t)(r->seed >> 32);
}

static uint32_t size_of(const struct rank_node *e)
{
    return e ? e->size : 0;
}

static void count(struct rank_node *e)
{
    e->size = 1 + size_of(e->kid[0]) + size_of(e->kid[1]);
}

/* to takes the place below e's parent. */
static void replace(struct rank *r, struct rank_node *e, struct rank_node *to)
{
    if (e->up == NULL)
        r->root = to;
    else
        e->up->kid[e->up->kid[1] == e] = to;
    if (to)
        to->up = e->up;
}

/* e changes places with its parent. */
static void rotate_up(struct rank *r, struct rank_node *e)
{
    struct rank_node *p = e->up;
    int side = p->kid[1] == e;
    struct rank_node *inner = e->kid[!side];

    replace(r, p, e);
    p->kid[side] = inner;
    if (inner)
        inner->up = p;
    e->kid[!side] = p;
    p->up = e;
    count(p);
    count(e);
}

void rank_add(struct rank *r, struct rank_node *e)
{
    struct rank_node **at = &r->root, *up = NULL;

    assert(e->size == 0);
    while (*at) {
        up = *at;
        up->size++;
        at = &up->kid[r->before(up, e)];
    }
    *e = (struct rank_node){.up = up, .size = 1, .weight = next_weight(r)};
    *at = e;
    while (e->up && e->up->weight < e->weight)
        rotate_up(r, e);
}

void rank_remove(struct rank *r, struct rank_node *e)
{
    if (e->size == 0)
        return;
    while (e->kid[0] && e->kid[1])
        rotate_up(r, e->kid[0]->weight > e->kid[1]->weight ? e->kid[0] : e->kid[1]);
    replace(r, e, e->kid[0] ? e->kid[0] : e->kid[1]);
    for (struct rank_node *p = e->up; p; p = p->up)
        p->size--;
    *e = (struct rank_node){0};
}

size_t rank_of(const struct rank_node *e)
{
    size_t n = size_of(e->kid[0]);

    assert(e->size);
    for (; e->up; e = e->up)
        if (e->up->kid[1] == e)
            n += 1 + size_of(e->up->kid[0]);
    return n;
}
