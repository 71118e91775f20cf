/* The fleet's object_info: what is said of many servers at once. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "comfy/object_info.h"
#include "comfy/splice.h"

struct object_view {
    atomic_uint refs;
    struct object_info *infos[SERVER_SET_MAX];
    size_t n_infos;
    struct object_entry *entries;
    size_t n, cap;
    struct str_index names;
};

bool server_set_empty(const struct server_set *s)
{
    uint64_t any = 0;

    for (size_t i = 0; i < ARRAY_LEN(s->w); i++)
        any |= s->w[i];
    return any == 0;
}

static void set_unite(struct server_set *a, const struct server_set *b)
{
    for (size_t i = 0; i < ARRAY_LEN(a->w); i++)
        a->w[i] |= b->w[i];
}

static void add_variant(struct object_view *v, const struct object_class *c, size_t server)
{
    size_t i = str_index_add(&v->names, c->name, NULL), k;
    struct object_entry *e;

    if (i == v->n) {
        if (v->n == v->cap) {
            v->cap = v->cap ? 2 * v->cap : 256;
            v->entries = xrealloc(v->entries, v->cap * sizeof(*v->entries));
        }
        v->entries[v->n++] = (struct object_entry){.name = c->name};
    }
    e = &v->entries[i];
    /* Equal classes are one object, unless two bodies came in without knowing of each other. */
    for (k = 0; k < e->n; k++)
        if (e->v[k].c == c ||
            (e->v[k].c->text.n == c->text.n && memcmp(e->v[k].c->text.p, c->text.p, c->text.n) == 0))
            break;
    if (k == e->n) {
        e->v = xrealloc(e->v, (e->n + 1) * sizeof(*e->v));
        e->v[e->n++] = (struct object_variant){.c = c};
    }
    server_set_add(&e->v[k].servers, server);
}

struct object_view *object_view_new(struct object_info *const *infos, size_t n)
{
    struct object_view *v = xcalloc(1, sizeof(*v));

    assert(n <= SERVER_SET_MAX);
    atomic_init(&v->refs, 1);
    v->n_infos = n;
    for (size_t s = 0; s < n; s++) {
        v->infos[s] = object_info_ref(infos[s]);
        for (size_t i = 0; infos[s] && i < object_info_count(infos[s]); i++)
            add_variant(v, object_info_at(infos[s], i), s);
    }
    return v;
}

struct object_view *object_view_ref(struct object_view *v)
{
    if (v)
        atomic_fetch_add_explicit(&v->refs, 1, memory_order_relaxed);
    return v;
}

void object_view_unref(struct object_view *v)
{
    if (!v || atomic_fetch_sub_explicit(&v->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (size_t i = 0; i < v->n; i++)
        free(v->entries[i].v);
    free(v->entries);
    str_index_fini(&v->names);
    for (size_t s = 0; s < v->n_infos; s++)
        object_info_unref(v->infos[s]);
    free(v);
}

size_t object_view_count(const struct object_view *v)
{
    return v->n;
}

const struct object_entry *object_view_at(const struct object_view *v, size_t i)
{
    return &v->entries[i];
}

const struct object_entry *object_view_find(const struct object_view *v, struct str name)
{
    size_t i = str_index_find(&v->names, name);

    return i == STR_NOWHERE ? NULL : &v->entries[i];
}

const struct object_class *object_view_class(const struct object_view *v, size_t server, struct str name)
{
    return server < v->n_infos && v->infos[server] ? object_info_find(v->infos[server], name) : NULL;
}

struct server_set object_view_servers(const struct object_view *v)
{
    struct server_set s = {{0}};

    for (size_t i = 0; i < v->n_infos; i++)
        if (v->infos[i])
            server_set_add(&s, i);
    return s;
}

struct server_set object_entry_value_servers(const struct object_entry *e, struct str input,
                                             struct json value)
{
    struct server_set s = {{0}};

    for (size_t i = 0; i < e->n; i++) {
        const struct object_input *in = object_class_input(e->v[i].c, input);

        if (in && object_input_has(in, value))
            set_unite(&s, &e->v[i].servers);
    }
    return s;
}

/* ---- the merged body ---------------------------------------------------------------------------------- */

/* Has a variant before the nth this choice? */
static bool earlier_has(const struct object_entry *e, size_t n, struct str input, struct json value)
{
    for (size_t i = 0; i < n; i++) {
        const struct object_input *in = object_class_input(e->v[i].c, input);

        if (in && in->combo && object_input_has(in, value))
            return true;
    }
    return false;
}

/* The first variant's choices, then what the others add, in their order. False when they add nothing. */
static bool put_united(struct buf *list, const struct object_entry *e, const struct object_input *base)
{
    struct str_index seen = {0};
    struct str_pool pool = {0};
    bool more = false, any = false;

    buf_putc(list, '[');
    for (size_t i = 0; i < e->n; i++) {
        const struct object_input *in = i ? object_class_input(e->v[i].c, base->name) : base;
        struct json_iter it;
        struct json v;

        if (!in || !in->combo)
            continue;
        for (it = json_iter(in->values); json_next(&it, NULL, &v);) {
            bool added = true;

            if (json_type(v) == JSON_STRING)
                str_index_add(&seen, str_pool_get(&pool, v), &added);
            else
                added = !earlier_has(e, i, base->name, v);
            if (!added)
                continue;
            if (any)
                buf_puts(list, ", ");
            any = true;
            more |= i > 0;
            json_put(list, v);
        }
    }
    buf_putc(list, ']');
    str_index_fini(&seen);
    str_pool_fini(&pool);
    return more;
}

static void put_entry(struct buf *out, const struct object_entry *e, object_files_cb *files, void *arg)
{
    const struct object_class *c = e->v[0].c;
    struct edits ed = EDITS_INIT;
    struct buf list = BUF_INIT;

    json_put_strn(out, c->name.p, c->name.n);
    buf_puts(out, ": ");
    for (size_t i = 0; i < c->n_inputs; i++) {
        const struct object_input *in = &c->inputs[i];
        bool replace;

        if (!in->values.p)
            continue;
        buf_clear(&list);
        replace = in->upload && files && files(arg, c, in, &list);
        if (!replace && e->n > 1 && !in->remote) {
            buf_clear(&list);
            replace = put_united(&list, e, in);
        }
        if (replace)
            edits_replace(&ed, in->values, list.data, list.len);
    }
    edits_put(&ed, out, c->text);
    edits_fini(&ed);
    buf_free(&list);
}

void object_view_put(struct buf *out, const struct object_view *v, object_files_cb *files, void *arg)
{
    buf_putc(out, '{');
    for (size_t i = 0; i < v->n; i++) {
        if (i)
            buf_puts(out, ", ");
        put_entry(out, &v->entries[i], files, arg);
    }
    buf_putc(out, '}');
}

void object_view_put_class(struct buf *out, const struct object_view *v, struct str name,
                           object_files_cb *files, void *arg)
{
    const struct object_entry *e = object_view_find(v, name);

    buf_putc(out, '{');
    if (e)
        put_entry(out, e, files, arg);
    buf_putc(out, '}');
}

/* ---- who can run a graph ------------------------------------------------------------------------------ */

static void input_need(const struct object_entry *e, struct object_need *need, struct str name,
                       object_need_cb *cb, void *arg)
{
    const struct object_input *in = NULL;

    for (size_t i = 0; i < e->n && !in; i++)
        in = object_class_input(e->v[i].c, name);
    if (!in || !in->combo || in->remote || in->upload)
        return;
    need->input = in;
    need->have = object_entry_value_servers(e, name, need->value);
    /* A server whose list of choices is not known is no worse than the others. */
    for (size_t i = 0; i < e->n; i++) {
        const struct object_input *other = object_class_input(e->v[i].c, name);

        if (!other || !other->values.p)
            set_unite(&need->have, &e->v[i].servers);
    }
    if (!server_set_empty(&need->have))
        cb(arg, need);
}

void object_view_needs(const struct object_view *v, const struct graph *g, object_need_cb *cb, void *arg)
{
    for (size_t n = 0; n < graph_size(g); n++) {
        const struct graph_node *node = graph_at(g, n);
        const struct object_entry *e = node->class_type.p ? object_view_find(v, node->class_type) : NULL;
        struct object_need need = {.node = n};
        struct json_iter it;
        struct json k;

        if (!e)
            continue;
        for (size_t i = 0; i < e->n; i++)
            set_unite(&need.have, &e->v[i].servers);
        cb(arg, &need);
        /* With one variant every server that has the class has the same choices. */
        if (e->n == 1 || json_type(node->inputs) != JSON_OBJECT)
            continue;
        for (it = json_iter(node->inputs); json_next(&it, &k, &need.value);) {
            struct str_pool tmp = {0};
            enum json_type t = json_type(need.value);

            if (t != JSON_ARRAY && t != JSON_OBJECT)
                input_need(e, &need, str_pool_get(&tmp, k), cb, arg);
            str_pool_fini(&tmp);
        }
    }
}

struct fit {
    const struct server_set *among;
    size_t lacks[SERVER_SET_MAX];
};

static void count_lacks(void *arg, const struct object_need *need)
{
    struct fit *f = arg;

    for (size_t w = 0; w < ARRAY_LEN(need->have.w); w++)
        for (uint64_t m = f->among->w[w] & ~need->have.w[w]; m; m &= m - 1)
            f->lacks[w * 64 + (size_t)__builtin_ctzll(m)]++;
}

void object_view_fit(const struct object_view *v, const struct graph *g, const struct server_set *among,
                     struct object_fit *fit)
{
    struct fit f = {.among = among};

    *fit = (struct object_fit){.closest = SIZE_MAX, .closest_lacks = SIZE_MAX};
    object_view_needs(v, g, count_lacks, &f);
    for (size_t s = 0; s < SERVER_SET_MAX; s++) {
        if (!server_set_has(among, s))
            continue;
        if (f.lacks[s] == 0)
            server_set_add(&fit->can, s);
        if (f.lacks[s] < fit->closest_lacks) {
            fit->closest = s;
            fit->closest_lacks = f.lacks[s];
        }
    }
}

bool object_view_is_paid(const struct object_view *v, const struct graph *g)
{
    for (size_t n = 0; n < graph_size(g); n++) {
        struct str name = graph_at(g, n)->class_type;
        const struct object_entry *e = name.p ? object_view_find(v, name) : NULL;

        for (size_t i = 0; e && i < e->n; i++)
            if (e->v[i].c->api_node)
                return true;
    }
    return false;
}
