#include "comfy/str.h"

#include <stdlib.h>
#include <string.h>

#include "base/hash.h"

bool str_is(struct str a, const char *s)
{
    return a.p && a.n == strlen(s) && memcmp(a.p, s, a.n) == 0;
}

bool str_starts(struct str a, const char *prefix)
{
    size_t n = strlen(prefix);

    return a.p && a.n >= n && memcmp(a.p, prefix, n) == 0;
}

void str_pool_fini(struct str_pool *p)
{
    for (size_t i = 0; i < p->n; i++)
        free(p->v[i]);
    free(p->v);
    *p = (struct str_pool){0};
}

struct str str_pool_get(struct str_pool *p, struct json v)
{
    struct buf b = BUF_INIT;
    size_t n;

    if (json_type(v) != JSON_STRING)
        return (struct str){NULL, 0};
    if (!memchr(v.p, '\\', v.n))
        return (struct str){v.p + 1, v.n - 2};
    json_str(v, &b);
    n = b.len;
    if (p->n == p->cap) {
        p->cap = p->cap ? 2 * p->cap : 16;
        p->v = xrealloc(p->v, p->cap * sizeof(*p->v));
    }
    p->v[p->n] = buf_take(&b);
    return (struct str){p->v[p->n++], n};
}

void str_index_fini(struct str_index *x)
{
    free(x->keys);
    free(x->hashes);
    free(x->slots);
    *x = (struct str_index){0};
}

static size_t probe(const struct str_index *x, struct str key, uint32_t hash)
{
    size_t i = hash & x->mask;

    while (x->slots[i]) {
        size_t k = x->slots[i] - 1;

        if (x->hashes[k] == hash && str_eq(x->keys[k], key))
            break;
        i = (i + 1) & x->mask;
    }
    return i;
}

size_t str_index_find(const struct str_index *x, struct str key)
{
    size_t i;

    if (x->n == 0)
        return STR_NOWHERE;
    i = probe(x, key, (uint32_t)hash_bytes(key.p, key.n));
    return x->slots[i] ? x->slots[i] - 1 : STR_NOWHERE;
}

static void grow(struct str_index *x)
{
    x->cap = x->cap ? 2 * x->cap : 16;
    x->keys = xrealloc(x->keys, x->cap * sizeof(*x->keys));
    x->hashes = xrealloc(x->hashes, x->cap * sizeof(*x->hashes));
    free(x->slots);
    x->slots = xcalloc(2 * x->cap, sizeof(*x->slots));
    x->mask = 2 * x->cap - 1;
    for (size_t k = 0; k < x->n; k++) {
        size_t i = x->hashes[k] & x->mask;

        while (x->slots[i])
            i = (i + 1) & x->mask;
        x->slots[i] = (uint32_t)k + 1;
    }
}

size_t str_index_add(struct str_index *x, struct str key, bool *added)
{
    uint32_t hash = (uint32_t)hash_bytes(key.p, key.n);
    size_t i;

    if (x->n == x->cap)
        grow(x);
    i = probe(x, key, hash);
    if (added)
        *added = x->slots[i] == 0;
    if (x->slots[i])
        return x->slots[i] - 1;
    x->keys[x->n] = key;
    x->hashes[x->n] = hash;
    x->slots[i] = (uint32_t)x->n + 1;
    return x->n++;
}
