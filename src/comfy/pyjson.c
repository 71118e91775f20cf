#include "comfy/pyjson.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "comfy/str.h"

static void put(struct buf *out, struct json v, unsigned indent, unsigned depth);

static void new_line(struct buf *out, unsigned indent, unsigned depth)
{
    if (indent)
        buf_printf(out, "\n%*s", (int)(indent * depth), "");
}

static void put_list(struct buf *out, struct json v, unsigned indent, unsigned depth)
{
    struct json_iter it = json_iter(v);
    bool any = false;
    struct json x;

    buf_putc(out, '[');
    while (json_next(&it, NULL, &x)) {
        if (any)
            buf_puts(out, indent ? "," : ", ");
        any = true;
        new_line(out, indent, depth + 1);
        put(out, x, indent, depth + 1);
    }
    if (any)
        new_line(out, indent, depth);
    buf_putc(out, ']');
}

/* A dict in the making: keys in the order in which they came first, each with its last value. */
struct dict {
    struct str_pool pool;
    struct str_index keys;
    struct json *values;
    size_t n;
};

static void dict_update(struct dict *d, struct json obj)
{
    struct json_iter it = json_iter(obj);
    struct json k, v;

    while (json_next(&it, &k, &v)) {
        size_t i = str_index_add(&d->keys, str_pool_get(&d->pool, k), NULL);

        if (i == d->n) {
            if ((d->n & (d->n - 1)) == 0)
                d->values = xrealloc(d->values, (d->n ? 2 * d->n : 1) * sizeof(*d->values));
            d->n++;
        }
        d->values[i] = v;
    }
}

static void dict_put(struct buf *out, const struct dict *d, unsigned indent, unsigned depth)
{
    buf_putc(out, '{');
    for (size_t i = 0; i < d->n; i++) {
        if (i)
            buf_puts(out, indent ? "," : ", ");
        new_line(out, indent, depth + 1);
        json_put_strn(out, d->keys.keys[i].p, d->keys.keys[i].n);
        buf_puts(out, ": ");
        put(out, d->values[i], indent, depth + 1);
    }
    if (d->n)
        new_line(out, indent, depth);
    buf_putc(out, '}');
}

static void dict_fini(struct dict *d)
{
    str_index_fini(&d->keys);
    str_pool_fini(&d->pool);
    free(d->values);
}

static void put_number(struct buf *out, struct json v)
{
    double d;

    if (json_is_int_literal(v) && !(v.n == 2 && memcmp(v.p, "-0", 2) == 0))
        json_put(out, v);
    else if (json_is_int_literal(v))
        buf_putc(out, '0');
    else if (json_double(v, &d))
        json_put_double(out, d);
    else
        json_put(out, v);
}

static void put(struct buf *out, struct json v, unsigned indent, unsigned depth)
{
    switch (json_type(v)) {
    case JSON_ARRAY: put_list(out, v, indent, depth); break;
    case JSON_OBJECT: {
        struct dict d = {0};

        dict_update(&d, v);
        dict_put(out, &d, indent, depth);
        dict_fini(&d);
        break;
    }
    case JSON_STRING: {
        struct str_pool pool = {0};
        struct str s = str_pool_get(&pool, v);

        json_put_strn(out, s.p, s.n);
        str_pool_fini(&pool);
        break;
    }
    case JSON_NUMBER: put_number(out, v); break;
    default: json_put(out, v);
    }
}

void py_put_json(struct buf *out, struct json v, unsigned indent)
{
    put(out, v, indent, 0);
}

void py_put_merged(struct buf *out, struct json a, struct json b, unsigned indent)
{
    struct dict d = {0};

    dict_update(&d, a);
    dict_update(&d, b);
    dict_put(out, &d, indent, 0);
    dict_fini(&d);
}
