/* Doubly linked list, intrusive. A list is a struct list that links to itself when empty; an element embeds a
 * struct list and is found again with container_of(). An element that is in no list links to itself, so
 * list_remove() is harmless twice. */
#ifndef BASE_LIST_H
#define BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

#include "base/mem.h"

struct list {
    struct list *next, *prev;
};

static inline void list_init(struct list *l)
{
    l->next = l->prev = l;
}

static inline bool list_empty(const struct list *l)
{
    return l->next == l;
}

static inline void list_insert_after(struct list *at, struct list *e)
{
    e->prev = at;
    e->next = at->next;
    at->next->prev = e;
    at->next = e;
}

static inline void list_push_back(struct list *l, struct list *e)
{
    list_insert_after(l->prev, e);
}

static inline void list_push_front(struct list *l, struct list *e)
{
    list_insert_after(l, e);
}

static inline void list_remove(struct list *e)
{
    e->prev->next = e->next;
    e->next->prev = e->prev;
    list_init(e);
}

static inline size_t list_len(const struct list *l)
{
    size_t n = 0;

    for (const struct list *e = l->next; e != l; e = e->next)
        n++;
    return n;
}

#define list_entry(e, type, member) container_of(e, type, member)
#define list_first(l, type, member) (list_empty(l) ? NULL : list_entry((l)->next, type, member))
#define list_last(l, type, member) (list_empty(l) ? NULL : list_entry((l)->prev, type, member))
/* The current element may be removed inside the _safe form only. */
#define list_for_each(it, l) for (struct list *it = (l)->next; it != (l); it = it->next)
#define list_for_each_safe(it, l)                                                                            \
    for (struct list *it = (l)->next, *it##_next = it->next; it != (l); it = it##_next, it##_next = it->next)

#endif
