#include "sim/value.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "comfy/pyvalue.h"

static struct val *val_new(enum val_type type)
{
    struct val *v = xcalloc(1, sizeof(*v));

    v->type = type;
    return v;
}

struct val *val_null(void)
{
    return val_new(VAL_NULL);
}

struct val *val_bool(bool b)
{
    struct val *v = val_new(VAL_BOOL);

    v->flag = b;
    return v;
}

struct val *val_int(int64_t i)
{
    struct val *v = val_new(VAL_INT);

    v->text = xasprintf("%lld", (long long)i);
    v->len = strlen(v->text);
    return v;
}

struct val *val_float(double d)
{
    struct val *v = val_new(VAL_FLOAT);

    v->num = d;
    return v;
}

struct val *val_strn(const char *s, size_t n)
{
    struct val *v = val_new(VAL_STR);

    v->text = xmalloc(n + 1);
    memcpy(v->text, s, n);
    v->text[n] = '\0';
    v->len = n;
    return v;
}

struct val *val_str(const char *s)
{
    return val_strn(s, strlen(s));
}

struct val *val_arr(void)
{
    return val_new(VAL_ARR);
}

struct val *val_obj(void)
{
    return val_new(VAL_OBJ);
}

static void member_free(struct val_member *m)
{
    val_free(m->value);
    free(m->key);
    free(m);
}

void val_free(struct val *v)
{
    struct val_member *m, *next;

    if (!v)
        return;
    for (size_t i = 0; v->type == VAL_ARR && i < v->len; i++)
        val_free(v->item[i]);
    HASH_ITER(hh, v->members, m, next) {
        HASH_DEL(v->members, m);
        member_free(m);
    }
    free(v->item);
    free(v->text);
    free(v);
}

void val_push(struct val *arr, struct val *item)
{
    assert(arr->type == VAL_ARR);
    if (arr->len == arr->cap) {
        arr->cap = arr->cap ? arr->cap * 2 : 4;
        arr->item = xrealloc(arr->item, arr->cap * sizeof(struct val *));
    }
    arr->item[arr->len++] = item;
}

void val_setn(struct val *obj, const char *key, size_t n, struct val *value)
{
    struct val_member *m;

    assert(obj->type == VAL_OBJ);
    HASH_FIND(hh, obj->members, key, n, m);
    if (m) {
        val_free(m->value);
        m->value = value;
        return;
    }
    m = xcalloc(1, sizeof(*m));
    m->key = xmalloc(n + 1);
    memcpy(m->key, key, n);
    m->key[n] = '\0';
    m->keylen = n;
    m->value = value;
    HASH_ADD_KEYPTR(hh, obj->members, m->key, m->keylen, m);
}

void val_set(struct val *obj, const char *key, struct val *value)
{
    val_setn(obj, key, strlen(key), value);
}

struct val *val_getn(const struct val *obj, const char *key, size_t n)
{
    struct val_member *m = NULL;

    if (obj && obj->type == VAL_OBJ)
        HASH_FIND(hh, obj->members, key, n, m);
    return m ? m->value : NULL;
}

struct val *val_get(const struct val *obj, const char *key)
{
    return val_getn(obj, key, strlen(key));
}

size_t val_count(const struct val *v)
{
    if (v && v->type == VAL_OBJ)
        return HASH_COUNT(v->members);
    return v && v->type == VAL_ARR ? v->len : 0;
}

static struct val *read_number(struct json j)
{
    struct val *v;
    double d = 0;

    if (!json_is_int_literal(j)) {
        json_double(j, &d);
        return val_float(d);
    }
    if (j.n == 2 && j.p[0] == '-' && j.p[1] == '0')
        v = val_str("0"); /* -0 is the integer 0 */
    else
        v = val_strn(j.p, j.n);
    v->type = VAL_INT;
    return v;
}

struct val *val_read(struct json j)
{
    struct json_iter it = json_iter(j);
    struct json k, x;
    struct buf text = BUF_INIT;
    struct val *v;

    switch (json_type(j)) {
    case JSON_BOOL: return val_bool(json_is_true(j));
    case JSON_NUMBER: return read_number(j);
    case JSON_STRING:
        json_str(j, &text);
        v = val_strn(buf_str(&text), text.len);
        buf_free(&text);
        return v;
    case JSON_ARRAY:
        v = val_arr();
        while (json_next(&it, &k, &x))
            val_push(v, val_read(x));
        return v;
    case JSON_OBJECT:
        v = val_obj();
        while (json_next(&it, &k, &x)) {
            buf_clear(&text);
            json_str(k, &text);
            val_setn(v, buf_str(&text), text.len, val_read(x));
        }
        buf_free(&text);
        return v;
    case JSON_NULL:
    case JSON_NONE: break;
    }
    return val_null();
}

struct val *val_parse(const char *text, size_t n, struct err *e)
{
    static const struct json_limits limits = {JSON_MAX_DEPTH, 1u << 20};
    struct json j;

    if (json_check(text, n, &limits, &j, e) < 0)
        return NULL;
    return val_read(j);
}

struct val *val_copy(const struct val *from)
{
    struct val *v;

    if (!from)
        return NULL;
    v = val_new(from->type);
    v->flag = from->flag;
    v->num = from->num;
    if (from->text) {
        v->text = xmalloc(from->len + 1);
        memcpy(v->text, from->text, from->len + 1);
        v->len = from->len;
    }
    for (size_t i = 0; from->type == VAL_ARR && i < from->len; i++)
        val_push(v, val_copy(from->item[i]));
    val_each(m, from) val_setn(v, m->key, m->keylen, val_copy(m->value));
    return v;
}

bool val_truthy(const struct val *v)
{
    if (!v)
        return false;
    switch (v->type) {
    case VAL_NULL: return false;
    case VAL_BOOL: return v->flag;
    case VAL_INT: return strcmp(v->text, "0") != 0;
    case VAL_FLOAT: return v->num != 0;
    case VAL_STR: return v->len > 0;
    case VAL_ARR:
    case VAL_OBJ: return val_count(v) > 0;
    }
    return false;
}

bool val_is_str(const struct val *v, const char *s)
{
    return v && v->type == VAL_STR && v->len == strlen(s) && memcmp(v->text, s, v->len) == 0;
}

bool val_is_link(const struct val *v)
{
    return v && v->type == VAL_ARR && v->len == 2 && v->item[0]->type == VAL_STR &&
           (v->item[1]->type == VAL_INT || v->item[1]->type == VAL_FLOAT);
}

bool val_number(const struct val *v, double *out)
{
    if (!v)
        return false;
    if (v->type == VAL_FLOAT)
        *out = v->num;
    else if (v->type == VAL_INT)
        *out = strtod(v->text, NULL);
    else if (v->type == VAL_BOOL)
        *out = v->flag;
    else
        return false;
    return true;
}

bool val_int64(const struct val *v, int64_t *out)
{
    double d;

    if (v && v->type == VAL_INT && v->len < 19) {
        *out = strtoll(v->text, NULL, 10);
        return true;
    }
    if (!val_number(v, &d) || !(fabs(d) < 9e18))
        return false;
    *out = (int64_t)d;
    return true;
}

void val_put(struct buf *b, const struct val *v)
{
    const char *sep = "";

    switch (v->type) {
    case VAL_NULL: buf_puts(b, "null"); return;
    case VAL_BOOL: buf_puts(b, v->flag ? "true" : "false"); return;
    case VAL_INT: buf_put(b, v->text, v->len); return;
    case VAL_FLOAT: json_put_double(b, v->num); return;
    case VAL_STR: json_put_strn(b, v->text, v->len); return;
    case VAL_ARR:
        buf_putc(b, '[');
        for (size_t i = 0; i < v->len; i++, sep = ", ") {
            buf_puts(b, sep);
            val_put(b, v->item[i]);
        }
        buf_putc(b, ']');
        return;
    case VAL_OBJ:
        buf_putc(b, '{');
        val_each(m, v)
        {
            buf_puts(b, sep);
            json_put_strn(b, m->key, m->keylen);
            buf_puts(b, ": ");
            val_put(b, m->value);
            sep = ", ";
        }
        buf_putc(b, '}');
        return;
    }
}

void val_put_repr(struct buf *b, const struct val *v)
{
    struct buf text = BUF_INIT;

    val_put(&text, v);
    py_put_repr(b, (struct json){text.data, text.len});
    buf_free(&text);
}

void val_put_str(struct buf *b, const struct val *v)
{
    if (v->type == VAL_STR)
        buf_put(b, v->text, v->len);
    else
        val_put_repr(b, v);
}
