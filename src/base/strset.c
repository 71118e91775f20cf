#include "base/strset.h"

#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"

struct strset_item {
    UT_hash_handle hh;
    char name[];
};

static struct strset_item *find(const struct strset *s, const char *name)
{
    struct strset_item *i;

    HASH_FIND_STR(s->items, name, i);
    return i;
}

bool strset_has(const struct strset *s, const char *name)
{
    return find(s, name) != NULL;
}

bool strset_add(struct strset *s, const char *name, size_t max_bytes)
{
    size_t n = strlen(name) + 1, cost = sizeof(struct strset_item) + n;
    struct strset_item *i;

    if (find(s, name))
        return true;
    if (cost > max_bytes || s->bytes > max_bytes - cost)
        return false;
    i = xcalloc(1, sizeof(*i) + n);
    memcpy(i->name, name, n);
    HASH_ADD_STR(s->items, name, i);
    s->n++;
    s->bytes += cost;
    return true;
}

const struct strset_item *strset_next(const struct strset *s, const struct strset_item *before)
{
    return before ? before->hh.next : s->items;
}

const char *strset_name(const struct strset_item *i)
{
    return i->name;
}

void strset_clear(struct strset *s)
{
    struct strset_item *i, *tmp;

    HASH_ITER(hh, s->items, i, tmp) {
        HASH_DEL(s->items, i);
        free(i);
    }
    *s = (struct strset){NULL, 0, 0};
}
