/* What a job needs of a server, as a text: {"classes": [...], "choices": [[class, input, value], ...]}, both
 * sorted and without repetition. */
#include <stdlib.h>
#include <string.h>

#include "comfy/object_info.h"

struct texts {
    char **v;
    size_t n, cap;
};

static void texts_add(struct texts *t, struct buf *b)
{
    if (t->n == t->cap) {
        t->cap = t->cap ? 2 * t->cap : 32;
        t->v = xrealloc(t->v, t->cap * sizeof(*t->v));
    }
    t->v[t->n++] = buf_take(b);
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void texts_put(struct texts *t, struct buf *out)
{
    if (t->n)
        qsort(t->v, t->n, sizeof(*t->v), by_text);
    buf_putc(out, '[');
    for (size_t i = 0; i < t->n; i++) {
        if (i && strcmp(t->v[i], t->v[i - 1]) == 0)
            continue;
        if (i)
            buf_puts(out, ", ");
        buf_puts(out, t->v[i]);
    }
    buf_putc(out, ']');
    for (size_t i = 0; i < t->n; i++)
        free(t->v[i]);
    free(t->v);
}

/* An extension of two to eleven letters and digits behind a dot: "sd15.safetensors", not "0.5" or "euler". */
static bool looks_like_file(struct str s)
{
    size_t n = 0;
    bool letter = false;

    while (n < s.n && s.p[s.n - 1 - n] != '.') {
        char c = s.p[s.n - 1 - n];

        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')))
            return false;
        letter |= c > '9';
        n++;
    }
    return letter && n < s.n - 1 && n >= 2 && n <= 11;
}

struct needs {
    struct texts classes, choices;
    const struct graph *g;
};

static void put_string(struct buf *out, struct str s)
{
    json_put_strn(out, s.p, s.n);
}

static void put_choice(struct needs *n, struct str cls, struct str input, struct str value)
{
    struct buf b = BUF_INIT;

    buf_putc(&b, '[');
    put_string(&b, cls);
    buf_puts(&b, ", ");
    put_string(&b, input);
    buf_puts(&b, ", ");
    put_string(&b, value);
    buf_putc(&b, ']');
    texts_add(&n->choices, &b);
}

/* A string given to a combo. Somebody must have it, else it is no ground to tell servers apart. */
static void look_at_choice(struct needs *n, const struct object_entry *e, struct str input, struct json value)
{
    struct server_set have = object_entry_value_servers(e, input, value);
    struct str_pool tmp = {0};
    struct str s = str_pool_get(&tmp, value);
    bool everywhere = true;

    for (size_t i = 0; i < e->n; i++) {
        const struct object_input *in = object_class_input(e->v[i].c, input);

        if (in && (!in->combo || in->remote || in->upload))
            goto out;
        for (size_t w = 0; w < ARRAY_LEN(have.w); w++)
            everywhere &= (e->v[i].servers.w[w] & ~have.w[w]) == 0;
    }
    if (!server_set_empty(&have) && (!everywhere || looks_like_file(s)))
        put_choice(n, e->name, input, s);
out:
    str_pool_fini(&tmp);
}

void object_need_put(struct buf *out, const struct object_view *v, const struct graph *g)
{
    struct needs n = {.g = g};

    for (size_t i = 0; i < graph_size(g); i++) {
        const struct graph_node *node = graph_at(g, i);
        const struct object_entry *e = node->class_type.p ? object_view_find(v, node->class_type) : NULL;
        struct json_iter it = json_iter(node->inputs);
        struct buf b = BUF_INIT;
        struct json k, value;

        if (!node->class_type.p)
            continue;
        put_string(&b, node->class_type);
        texts_add(&n.classes, &b);
        if (!e || json_type(node->inputs) != JSON_OBJECT)
            continue;
        while (json_next(&it, &k, &value)) {
            struct str_pool tmp = {0};

            if (json_type(value) == JSON_STRING)
                look_at_choice(&n, e, str_pool_get(&tmp, k), value);
            str_pool_fini(&tmp);
        }
    }
    buf_puts(out, "{\"classes\": ");
    texts_put(&n.classes, out);
    buf_puts(out, ", \"choices\": ");
    texts_put(&n.choices, out);
    buf_putc(out, '}');
}

static const struct object_class *find_class(const struct object_info *info, struct json name)
{
    struct str_pool tmp = {0};
    const struct object_class *c = NULL;

    if (json_type(name) == JSON_STRING)
        c = object_info_find(info, str_pool_get(&tmp, name));
    str_pool_fini(&tmp);
    return c;
}

static bool has_choice(const struct object_class *c, struct json input, struct json value)
{
    struct str_pool tmp = {0};
    const struct object_input *in = NULL;

    if (json_type(input) == JSON_STRING)
        in = object_class_input(c, str_pool_get(&tmp, input));
    str_pool_fini(&tmp);
    /* Where the choices are not known, or the input is none there, nothing speaks against it. */
    return !in || !in->values.p || in->remote || in->upload || object_input_has(in, value);
}

int object_need_met(const struct object_info *info, const char *text)
{
    struct json need, v;
    struct json_iter it;

    if (!text || !*text)
        return 1;
    if (!info || json_check(text, strlen(text), NULL, &need, NULL) < 0 || json_type(need) != JSON_OBJECT)
        return -1;
    for (it = json_iter(json_get(need, "classes")); json_next(&it, NULL, &v);)
        if (!find_class(info, v))
            return 0;
    for (it = json_iter(json_get(need, "choices")); json_next(&it, NULL, &v);) {
        const struct object_class *c = find_class(info, json_at(v, 0));

        if (c && !has_choice(c, json_at(v, 1), json_at(v, 2)))
            return 0;
    }
    return 1;
}
