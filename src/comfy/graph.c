#include "comfy/graph.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "comfy/splice.h"

struct graph {
    struct json text;
    struct graph_node *nodes;
    size_t n, cap;
    struct str_index ids;
    struct str_pool pool;
};

static void read_node(struct graph *g, struct graph_node *n)
{
    struct json_iter it = json_iter(n->whole);
    struct json k, v;

    while (json_next(&it, &k, &v)) {
        if (json_str_eq(k, "class_type"))
            n->class_span = v;
        else if (json_str_eq(k, "inputs"))
            n->inputs = v;
        else if (json_str_eq(k, "_meta"))
            n->title = str_pool_get(&g->pool, json_get(v, "title"));
    }
    n->class_type = str_pool_get(&g->pool, n->class_span);
}

/* What Python's `"class_type" not in node` takes, and finds true: for ComfyUI a list or string is a node without a class,
 * and anything else that is no object breaks it. */
static bool lacks_class(struct json node)
{
    struct json_iter it = json_iter(node);
    struct buf s = BUF_INIT;
    struct json v;
    bool has = false;

    if (json_type(node) == JSON_STRING) {
        json_str(node, &s);
        has = memmem(buf_str(&s), s.len, "class_type", 10) != NULL;
        buf_free(&s);
        return !has;
    }
    if (json_type(node) != JSON_ARRAY)
        return false;
    while (!has && json_next(&it, NULL, &v))
        has = json_str_eq(v, "class_type");
    return !has;
}

static int read_nodes(struct graph *g, size_t max_nodes, struct err *e)
{
    struct json_iter it = json_iter(g->text);
    struct json k, v;

    while (json_next(&it, &k, &v)) {
        struct str id = str_pool_get(&g->pool, k);
        size_t i;

        if (json_type(v) != JSON_OBJECT && !lacks_class(v))
            return err_set(e, EINVAL, "node %.*s is not an object", id.n > 64 ? 64 : (int)id.n, id.p);
        i = str_index_add(&g->ids, id, NULL);
        if (i == max_nodes)
            return err_set(e, E2BIG, "the prompt has more than %zu nodes", max_nodes);
        if (i == g->cap) {
            g->cap = g->cap ? 2 * g->cap : 16;
            g->nodes = xrealloc(g->nodes, g->cap * sizeof(*g->nodes));
        }
        if (i == g->n)
            g->n++;
        g->nodes[i] = (struct graph_node){.id = id, .key = k, .whole = v};
        if (json_type(v) == JSON_OBJECT)
            read_node(g, &g->nodes[i]);
    }
    return 0;
}

struct graph *graph_new(struct json prompt, size_t max_nodes, struct err *e)
{
    struct graph *g;

    if (json_type(prompt) != JSON_OBJECT) {
        err_set(e, EINVAL, "the prompt is not an object");
        return NULL;
    }
    g = xcalloc(1, sizeof(*g));
    g->text = prompt;
    if (read_nodes(g, max_nodes ? max_nodes : GRAPH_NODES_MAX, e) < 0)
        graph_free(&g);
    return g;
}

void graph_free(struct graph **gp)
{
    struct graph *g = *gp;

    *gp = NULL;
    if (!g)
        return;
    str_index_fini(&g->ids);
    str_pool_fini(&g->pool);
    free(g->nodes);
    free(g);
}

struct json graph_text(const struct graph *g)
{
    return g->text;
}

size_t graph_size(const struct graph *g)
{
    return g->n;
}

const struct graph_node *graph_at(const struct graph *g, size_t i)
{
    return &g->nodes[i];
}

size_t graph_find(const struct graph *g, struct str id)
{
    return str_index_find(&g->ids, id);
}

size_t graph_find_span(const struct graph *g, struct json id)
{
    struct str_pool tmp = {0};
    size_t i = STR_NOWHERE;

    if (json_type(id) == JSON_STRING)
        i = graph_find(g, str_pool_get(&tmp, id));
    str_pool_fini(&tmp);
    return i;
}

bool graph_link(struct json v, struct json *node_id, struct json *slot)
{
    struct json_iter it = json_iter(v);
    struct json a, b;

    if (json_type(v) != JSON_ARRAY || !json_next(&it, NULL, &a) || !json_next(&it, NULL, &b) ||
        json_next(&it, NULL, NULL) || json_type(a) != JSON_STRING || json_type(b) != JSON_NUMBER)
        return false;
    if (node_id)
        *node_id = a;
    if (slot)
        *slot = b;
    return true;
}

/* ---- order -------------------------------------------------------------------------------------------- */

/* Links as pairs grouped by the node linked to: who waits for it. */
struct edges {
    size_t *first; /* n + 1 */
    size_t *user;
};

typedef void link_cb(void *arg, size_t user, size_t source);

static void each_link(const struct graph *g, link_cb *cb, void *arg)
{
    struct json_iter it;
    struct json v, id;

    for (size_t i = 0; i < g->n; i++) {
        if (json_type(g->nodes[i].inputs) != JSON_OBJECT)
            continue;
        it = json_iter(g->nodes[i].inputs);
        while (json_next(&it, NULL, &v))
            if (graph_link(v, &id, NULL)) {
                size_t source = graph_find_span(g, id);

                if (source != STR_NOWHERE)
                    cb(arg, i, source);
            }
    }
}

struct count {
    size_t *users, *waits;
};

static void count_link(void *arg, size_t user, size_t source)
{
    struct count *c = arg;

    c->users[source]++;
    c->waits[user]++;
}

static void store_link(void *arg, size_t user, size_t source)
{
    struct edges *ed = arg;

    ed->user[--ed->first[source]] = user;
}

size_t graph_order(const struct graph *g, size_t *order)
{
    struct edges ed = {xcalloc(g->n + 1, sizeof(size_t)), NULL};
    struct count c = {ed.first, xcalloc(g->n, sizeof(size_t))};
    size_t head = 0, tail = 0, sum = 0;

    each_link(g, count_link, &c);
    for (size_t i = 0; i < g->n; i++) {
        sum += ed.first[i];
        ed.first[i] = sum; /* one behind the last; filling walks it down to the first */
    }
    ed.first[g->n] = sum;
    ed.user = xcalloc(sum, sizeof(size_t));
    each_link(g, store_link, &ed);
    for (size_t i = 0; i < g->n; i++)
        if (c.waits[i] == 0)
            order[tail++] = i;
    while (head < tail) {
        size_t done = order[head++];

        for (size_t k = ed.first[done]; k < ed.first[done + 1]; k++)
            if (--c.waits[ed.user[k]] == 0)
                order[tail++] = ed.user[k];
    }
    free(ed.first);
    free(ed.user);
    free(c.waits);
    return tail;
}

/* ---- values ------------------------------------------------------------------------------------------- */

/* Depth is bounded by the checker. */
static void walk_value(struct graph_value *v, graph_walk_cb *cb, void *arg)
{
    struct json_iter it = json_iter(v->value);
    enum json_type t = json_type(v->value);

    if (t == JSON_STRING || t == JSON_OBJECT) {
        if (cb(arg, v) || t == JSON_STRING)
            return;
    }
    for (struct graph_value inner = *v; json_next(&it, NULL, &inner.value);)
        walk_value(&inner, cb, arg);
}

void graph_walk(const struct graph *g, graph_walk_cb *cb, void *arg)
{
    for (size_t i = 0; i < g->n; i++) {
        struct graph_value v = {.node = i};
        struct json_iter it = json_iter(g->nodes[i].inputs);
        struct json id;

        if (json_type(g->nodes[i].inputs) != JSON_OBJECT)
            continue;
        while (json_next(&it, &v.input, &v.value))
            if (!graph_link(v.value, &id, NULL) || graph_find_span(g, id) == STR_NOWHERE)
                walk_value(&v, cb, arg);
    }
}

struct rename {
    graph_rename_cb *cb;
    void *arg;
    struct edits edits;
};

static bool rename_string(void *arg, const struct graph_value *v)
{
    struct rename *r = arg;
    struct str_pool tmp = {0};
    struct buf to = BUF_INIT;

    if (json_type(v->value) == JSON_STRING && r->cb(r->arg, v, str_pool_get(&tmp, v->value), &to))
        edits_replace_strn(&r->edits, v->value, buf_str(&to), to.len);
    buf_free(&to);
    str_pool_fini(&tmp);
    return false;
}

void graph_put_renamed(struct buf *out, const struct graph *g, graph_rename_cb *cb, void *arg)
{
    struct rename r = {cb, arg, EDITS_INIT};

    graph_walk(g, rename_string, &r);
    edits_put(&r.edits, out, g->text);
    edits_fini(&r.edits);
}

size_t graph_outputs(const struct graph *g, graph_class_cb *is_output, void *arg, size_t *v)
{
    size_t n = 0;

    for (size_t i = 0; i < g->n; i++)
        if (g->nodes[i].class_type.p && is_output(arg, g->nodes[i].class_type))
            v[n++] = i;
    return n;
}
