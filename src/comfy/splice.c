#include "comfy/splice.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

void edits_fini(struct edits *e)
{
    free(e->v);
    buf_free(&e->text);
    *e = (struct edits)EDITS_INIT;
}

bool edits_equal(const struct edits *a, const struct edits *b)
{
    if (a->n != b->n || a->text.len != b->text.len)
        return false;
    for (size_t i = 0; i < a->n; i++)
        if (a->v[i].at != b->v[i].at || a->v[i].cut != b->v[i].cut || a->v[i].n != b->v[i].n)
            return false;
    return a->n == 0 || memcmp(buf_str(&a->text), buf_str(&b->text), a->text.len) == 0;
}

static void add(struct edits *e, const char *at, size_t cut, size_t from)
{
    if (e->n == e->cap) {
        e->cap = e->cap ? 2 * e->cap : 8;
        e->v = xrealloc(e->v, e->cap * sizeof(*e->v));
    }
    e->v[e->n] = (struct edit){at, cut, from, e->text.len - from, e->n};
    e->n++;
}

void edits_insert(struct edits *e, const char *at, const char *json, size_t n)
{
    size_t from = e->text.len;

    buf_put(&e->text, json, n);
    add(e, at, 0, from);
}

void edits_replace(struct edits *e, struct json at, const char *json, size_t n)
{
    size_t from = e->text.len;

    assert(at.p);
    buf_put(&e->text, json, n);
    add(e, at.p, at.n, from);
}

void edits_replace_strn(struct edits *e, struct json at, const char *s, size_t n)
{
    size_t from = e->text.len;

    assert(at.p);
    json_put_strn(&e->text, s, n);
    add(e, at.p, at.n, from);
}

void edits_replace_str(struct edits *e, struct json at, const char *s)
{
    edits_replace_strn(e, at, s, strlen(s));
}

void edits_add_member(struct edits *e, struct json obj, const char *key, const char *json, size_t n)
{
    size_t from = e->text.len;

    assert(json_type(obj) == JSON_OBJECT);
    if (json_truthy(obj))
        buf_puts(&e->text, ", ");
    json_put_str(&e->text, key);
    buf_puts(&e->text, ": ");
    buf_put(&e->text, json, n);
    add(e, obj.p + obj.n - 1, 0, from);
}

static int by_place(const void *a, const void *b)
{
    const struct edit *x = a, *y = b;

    if (x->at != y->at)
        return x->at < y->at ? -1 : 1;
    return x->order < y->order ? -1 : 1;
}

void edits_put(struct edits *e, struct buf *out, struct json v)
{
    const char *done = v.p, *end = v.p + v.n;

    if (e->n)
        qsort(e->v, e->n, sizeof(*e->v), by_place);
    for (size_t i = 0; i < e->n; i++) {
        const struct edit *d = &e->v[i];

        if (d->at < v.p || d->at + d->cut > end)
            continue;
        assert(d->at >= done);
        buf_put(out, done, (size_t)(d->at - done));
        buf_put(out, buf_str(&e->text) + d->from, d->n);
        done = d->at + d->cut;
    }
    buf_put(out, done, (size_t)(end - done));
}

void splice_put_without(struct buf *out, struct json obj, splice_drop_cb *drop, void *arg)
{
    struct json_iter it = json_iter(obj);
    struct json key, value;
    const char *gap = obj.p + 1, *first_gap = gap;
    size_t first_gap_n = 0, kept = 0, seen = 0;

    if (json_type(obj) != JSON_OBJECT) {
        json_put(out, obj);
        return;
    }
    buf_putc(out, '{');
    while (json_next(&it, &key, &value)) {
        if (seen++ == 0)
            first_gap_n = (size_t)(key.p - gap);
        if (!drop(arg, key, value)) {
            /* What stood before this member holds the comma, unless it is the first that stays. */
            if (kept++ == 0)
                buf_put(out, first_gap, first_gap_n);
            else
                buf_put(out, gap, (size_t)(key.p - gap));
            buf_put(out, key.p, (size_t)(value.p + value.n - key.p));
        }
        gap = value.p + value.n;
    }
    if (kept || !seen)
        buf_put(out, gap, (size_t)(obj.p + obj.n - 1 - gap));
    buf_putc(out, '}');
}
