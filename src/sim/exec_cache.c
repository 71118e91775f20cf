#include "sim/exec_cache.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>

static void cached_free(struct xcache *x, struct cached *c)
{
    HASH_DEL(x->results, c);
    for (size_t i = 0; i < c->outs; i++)
        data_unref(c->out[i]);
    val_free(c->ui);
    free(c);
}

static void object_free(struct xcache *x, struct object *o)
{
    HASH_DEL(x->objects, o);
    free(o->key);
    free(o);
}

void xcache_drop(struct xcache *x)
{
    struct cached *c, *next;
    struct object *o, *onext;

    HASH_ITER(hh, x->results, c, next)
        cached_free(x, c);
    HASH_ITER(hh, x->objects, o, onext)
        object_free(x, o);
}

static void hash_text(const struct buf *b, char out[65])
{
    unsigned char md[EVP_MAX_MD_SIZE];
    unsigned n = 0;

    if (!EVP_Digest(buf_str(b), b->len, md, &n, EVP_sha256(), NULL))
        abort(); /* OpenSSL without SHA-256: not this machine */
    for (unsigned i = 0; i < 32; i++)
        snprintf(out + 2 * (size_t)i, 3, "%02x", md[i]);
}

static int by_key(const void *a, const void *b)
{
    const struct val_member *const *x = a, *const *y = b;

    return strcmp((*x)->key, (*y)->key);
}

/* What n's inputs come from has been signed, but for a node on its own way back to itself. */
static void put_signed_inputs(struct xgraph *g, struct xnode *n, struct buf *b)
{
    const struct val *inputs = val_get(n->node, "inputs");
    size_t count = 0;
    const struct val_member **m = xmalloc((val_count(inputs) + 1) * sizeof(const struct val_member *));

    val_each(in, inputs) m[count++] = in; /* of a node that nobody needs it may be anything */
    if (count > 1)
        qsort(m, count, sizeof(*m), by_key);
    for (size_t i = 0; i < count; i++) {
        struct xnode *from = xgraph_follow(g, m[i]->value);

        json_put_strn(b, m[i]->key, m[i]->keylen);
        buf_putc(b, '=');
        if (from && from != n) {
            buf_printf(b, "%s:", from->sig);
            val_put(b, m[i]->value->item[1]);
        } else {
            val_put(b, m[i]->value);
        }
        buf_putc(b, ';');
    }
    free(m);
}

/* The cache key: class, inputs, and the keys of what the inputs come from; for some the node's own id. */
static void sign_one(struct xcache *x, struct xgraph *g, struct xnode *n)
{
    const struct val *changed = val_get(n->node, "is_changed");
    struct buf b = BUF_INIT;

    /* expanded nodes have a cache of their own for each parent */
    if (n->parent)
        buf_printf(&b, "%s/%s|", n->parent->id, n->parent->cls->name);
    buf_printf(&b, "%s|", n->cls->name);
    if (changed)
        val_put(&b, changed);
    if (n->cls->wants_id)
        buf_printf(&b, "|%s", n->id);
    buf_putc(&b, '|');
    put_signed_inputs(g, n, &b);
    if (n->n_consts > 0) /* a picture as a constant never equals another */
        buf_printf(&b, "#%llu", (unsigned long long)++x->unhashable);
    hash_text(&b, n->sig);
    buf_free(&b);
}

/* A node that must be signed before n, or NULL. */
static struct xnode *unsigned_source(struct xgraph *g, struct xnode *n)
{
    val_each(in, val_get(n->node, "inputs"))
    {
        struct xnode *from = xgraph_follow(g, in->value);

        if (from && !from->sig[0] && !from->visiting)
            return from;
    }
    return NULL;
}

/* With a stack of its own: a prompt may hold a chain of any length that no output needs. */
static void sign(struct xcache *x, struct xgraph *g, struct xnode *first)
{
    struct xnode **stack, *from;
    size_t n = 0, cap = 16;

    if (first->sig[0])
        return;
    stack = xmalloc(cap * sizeof(struct xnode *));
    stack[n++] = first;
    first->visiting = true;
    while (n > 0) {
        from = unsigned_source(g, stack[n - 1]);
        if (!from) {
            sign_one(x, g, stack[--n]);
            stack[n]->visiting = false;
            continue;
        }
        if (n == cap)
            stack = xrealloc(stack, (cap *= 2) * sizeof(struct xnode *));
        from->visiting = true;
        stack[n++] = from;
    }
    free(stack);
}

struct cached *xcache_find(struct xcache *x, struct xgraph *g, struct xnode *n)
{
    struct cached *c;

    sign(x, g, n);
    HASH_FIND_STR(x->results, n->sig, c);
    return c;
}

void xcache_put(struct xcache *x, struct xgraph *g, struct xnode *n, struct data *const *out, size_t outs,
                const struct val *ui)
{
    struct cached *c = xcache_find(x, g, n);

    if (c)
        cached_free(x, c);
    c = xcalloc(1, sizeof(*c));
    memcpy(c->sig, n->sig, sizeof(n->sig));
    for (size_t i = 0; i < outs; i++)
        c->out[c->outs++] = data_ref(out[i]);
    c->ui = val_copy(ui);
    c->seen = x->runs;
    HASH_ADD_STR(x->results, sig, c);
}

/* What the graph of this run does not have is dropped: the cache is that of the last prompt. */
void xcache_sweep(struct xcache *x, struct xgraph *g)
{
    struct cached *c, *next;
    struct object *o, *onext;

    x->runs++;
    for (struct xnode *n = g->nodes; n; n = n->hh.next) {
        struct buf key = BUF_INIT;

        c = xcache_find(x, g, n);
        if (c)
            c->seen = x->runs;
        buf_printf(&key, "%s/%s", n->cls->name, n->id);
        HASH_FIND_STR(x->objects, buf_str(&key), o);
        if (o)
            o->seen = x->runs;
        buf_free(&key);
    }
    HASH_ITER(hh, x->results, c, next)
        if (c->seen != x->runs)
            cached_free(x, c);
    HASH_ITER(hh, x->objects, o, onext)
        if (o->seen != x->runs)
            object_free(x, o);
}

const char *xcache_temp_prefix(struct xcache *x, const struct xnode *n, struct clock *clock)
{
    struct object *o;
    char *key = xasprintf("%s/%s", n->cls->name, n->id);

    HASH_FIND_STR(x->objects, key, o);
    if (o) {
        free(key);
        return o->temp_prefix;
    }
    o = xcalloc(1, sizeof(*o));
    o->key = key;
    o->seen = x->runs;
    memcpy(o->temp_prefix, "_temp_", 6);
    clock->random(clock, o->temp_prefix + 6, 5);
    for (int i = 6; i < 11; i++) /* ComfyUI's alphabet */
        o->temp_prefix[i] = "abcdefghijklmnopqrstupvxyz"[(unsigned char)o->temp_prefix[i] % 26];
    HASH_ADD_KEYPTR(hh, x->objects, o->key, strlen(o->key), o);
    return o->temp_prefix;
}
