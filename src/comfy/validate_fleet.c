/* One prompt, many servers. */
#include <stdlib.h>
#include <string.h>

#include "comfy/pyvalue.h"
#include "comfy/validate_priv.h"

/* How many kinds of server are asked; servers of further kinds are left out. */
#define KINDS_MAX 16
/* How much is told to a client. */
#define LACKS_LISTED 10
#define SERVERS_LISTED 16

/* ---- nobody has all ----------------------------------------------------------------------------------- */

static void put_need(struct buf *out, const struct graph *g, const struct object_need *need)
{
    if (need->input) {
        buf_put(out, need->input->name.p, need->input->name.n);
        buf_puts(out, ": ");
        py_put_str(out, need->value);
    } else {
        const struct graph_node *n = graph_at(g, need->node);

        buf_put(out, n->class_type.p, n->class_type.n);
    }
}

struct lacking {
    const struct graph *g;
    size_t server;
    struct jsonw *w;
    struct buf *out;
    size_t n;
    size_t node; /* the node whose entry is open in node_errors; SIZE_MAX: none */
};

static void list_lack(void *arg, const struct object_need *need)
{
    struct lacking *l = arg;
    struct buf text = BUF_INIT;

    if (server_set_has(&need->have, l->server) || l->n++ >= LACKS_LISTED)
        return;
    put_need(&text, l->g, need);
    jsonw_strn(l->w, text.data, text.len);
    buf_free(&text);
}

static void put_servers(struct buf *out, const struct graph *g, const struct object_view *view,
                        const struct server_set *among, const char *const *names)
{
    struct jsonw w;

    jsonw_init(&w, out);
    jsonw_obj(&w);
    jsonw_key(&w, "servers");
    jsonw_arr(&w);
    for (size_t s = 0, listed = 0; s < SERVER_SET_MAX && listed < SERVERS_LISTED; s++) {
        struct lacking l = {.g = g, .server = s, .w = &w};

        if (!server_set_has(among, s))
            continue;
        listed++;
        jsonw_obj(&w);
        jsonw_kstr(&w, "name", names ? names[s] : "");
        jsonw_key(&w, "lacks");
        jsonw_arr(&w);
        object_view_needs(view, g, list_lack, &l);
        jsonw_arr_end(&w);
        jsonw_obj_end(&w);
    }
    jsonw_arr_end(&w);
    jsonw_obj_end(&w);
}

static void close_node(struct lacking *l)
{
    const struct graph_node *n;

    if (l->node == SIZE_MAX)
        return;
    n = graph_at(l->g, l->node);
    jsonw_arr_end(l->w);
    jsonw_key(l->w, "dependent_outputs");
    jsonw_arr(l->w);
    jsonw_arr_end(l->w);
    jsonw_kspan(l->w, "class_type", n->class_span);
    jsonw_obj_end(l->w);
    l->node = SIZE_MAX;
}

static void put_lack_error(struct lacking *l, const struct object_need *need)
{
    struct buf details = BUF_INIT;
    struct jsonw *w = l->w;

    put_need(&details, l->g, need);
    jsonw_obj(w);
    jsonw_kstr(w, "type", need->input ? "value_not_in_list" : "missing_node_type");
    jsonw_kstr(w, "message", need->input ? "Value not in list" : "Node not found on this server");
    jsonw_key(w, "details");
    jsonw_strn(w, details.data, details.len);
    jsonw_key(w, "extra_info");
    jsonw_obj(w);
    if (need->input) {
        jsonw_key(w, "input_name");
        jsonw_strn(w, need->input->name.p, need->input->name.n);
        jsonw_kspan(w, "input_config", (struct json){NULL, 0});
        jsonw_kspan(w, "received_value", need->value);
    }
    jsonw_obj_end(w);
    jsonw_obj_end(w);
    buf_free(&details);
}

/* Needs come node by node, so an entry is open until the next node's first lack. */
static void error_lack(void *arg, const struct object_need *need)
{
    struct lacking *l = arg;
    const struct graph_node *n = graph_at(l->g, need->node);

    if (server_set_has(&need->have, l->server) || l->out->len > VALIDATE_TEXT_MAX)
        return;
    if (l->node != need->node) {
        close_node(l);
        l->node = need->node;
        jsonw_keyn(l->w, n->id.p, n->id.n);
        jsonw_obj(l->w);
        jsonw_key(l->w, "errors");
        jsonw_arr(l->w);
    }
    put_lack_error(l, need);
}

static void nobody_has_all(const struct graph *g, const struct object_view *view,
                           const struct server_set *among, const char *const *names, size_t closest,
                           struct validate_result *r)
{
    struct jsonw w;
    struct lacking l = {.g = g, .server = closest, .w = &w, .out = &r->node_errors, .node = SIZE_MAX};
    struct buf info = BUF_INIT;
    char *details = xasprintf("No one server has every node and model of this prompt; the closest is %s",
                              names ? names[closest] : "?");

    *r = (struct validate_result){0};
    validate_fail(r, "prompt_outputs_failed_validation", "Prompt outputs failed validation", details);
    jsonw_init(&w, &r->node_errors);
    jsonw_obj(&w);
    object_view_needs(view, g, error_lack, &l);
    close_node(&l);
    jsonw_obj_end(&w);
    put_servers(&info, g, view, among, names);
    r->error.extra_info = buf_take(&info);
    free(details);
}

/* ---- kinds of server ---------------------------------------------------------------------------------- */

/* Servers that have the same texts for all classes of the graph get the same signature. */
static void sign(const struct graph *g, const struct object_view *view, uint64_t sig[SERVER_SET_MAX])
{
    for (size_t n = 0; n < graph_size(g); n++) {
        struct str name = graph_at(g, n)->class_type;
        const struct object_entry *e = name.p ? object_view_find(view, name) : NULL;

        for (size_t i = 0; e && e->n > 1 && i < e->n; i++)
            for (size_t w = 0; w < ARRAY_LEN(e->v[i].servers.w); w++)
                for (uint64_t m = e->v[i].servers.w[w]; m; m &= m - 1) {
                    uint64_t *s = &sig[w * 64 + (size_t)__builtin_ctzll(m)];

                    *s = (*s ^ (uintptr_t)e->v[i].c) * 0x9e3779b97f4a7c15u;
                    *s ^= *s >> 29;
                }
    }
}

struct server_classes {
    const struct object_view *view;
    size_t server;
};

static const struct object_class *server_class(void *arg, struct str name)
{
    struct server_classes *s = arg;

    return object_view_class(s->view, s->server, name);
}

/* Better: accepts, and runs more outputs. */
static bool better(const struct validate_result *a, const struct validate_result *b)
{
    return a->ok && (!b->ok || a->n_outputs > b->n_outputs);
}

static bool as_good(const struct validate_result *a, const struct validate_result *b)
{
    return a->ok && b->ok && a->n_outputs == b->n_outputs &&
           memcmp(a->outputs, b->outputs, a->n_outputs * sizeof(*a->outputs)) == 0;
}

static void ask_kinds(const struct graph *g, const struct object_view *view, const struct validate_opts *opts,
                      struct server_set capable, struct validate_result *r, struct server_set *can)
{
    uint64_t *sig = xcalloc(SERVER_SET_MAX, sizeof(*sig));
    bool first = true;

    sign(g, view, sig);
    for (size_t s = 0, kinds = 0; s < SERVER_SET_MAX && kinds < KINDS_MAX; s++) {
        struct server_classes sc = {view, s};
        struct server_set kind = {{0}};
        struct validate_result mine;

        if (!server_set_has(&capable, s))
            continue;
        kinds++;
        for (size_t t = s; t < SERVER_SET_MAX; t++)
            if (server_set_has(&capable, t) && sig[t] == sig[s]) {
                server_set_add(&kind, t);
                capable.w[t / 64] &= ~(1ull << (t % 64));
            }
        validate_prompt(g, server_class, &sc, opts, &mine);
        if (first || better(&mine, r)) {
            if (!first)
                validate_result_fini(r);
            *r = mine;
            *can = mine.ok ? kind : (struct server_set){{0}};
            first = false;
            continue;
        }
        if (as_good(&mine, r)) {
            for (size_t w = 0; w < ARRAY_LEN(kind.w); w++)
                can->w[w] |= kind.w[w];
            if (!edits_equal(&mine.coerced, &r->coerced))
                edits_fini(&r->coerced);
        }
        validate_result_fini(&mine);
    }
    free(sig);
}

void validate_fleet(const struct graph *g, const struct object_view *view, const struct server_set *among,
                    const char *const *names, const struct validate_opts *opts, struct validate_result *r,
                    struct server_set *can)
{
    struct object_fit fit;

    *can = (struct server_set){{0}};
    *r = (struct validate_result){0};
    for (size_t i = 0; i < graph_size(g); i++) {
        const struct graph_node *n = graph_at(g, i);

        if (!n->class_type.p || !object_view_find(view, n->class_type)) {
            validate_missing_class(r, n, opts->dialect);
            buf_puts(&r->node_errors, "{}");
            return;
        }
    }
    object_view_fit(view, g, among, &fit);
    if (server_set_empty(&fit.can) && fit.closest != SIZE_MAX)
        nobody_has_all(g, view, among, names, fit.closest, r);
    else
        ask_kinds(g, view, opts, fit.can, r, can);
}
