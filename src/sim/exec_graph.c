#include "sim/exec_graph.h"

#include <stdlib.h>
#include <string.h>

void xgraph_init(struct xgraph *g, const struct val *prompt, bool (*cached)(void *arg, struct xnode *n),
                 void *arg)
{
    *g = (struct xgraph){.cached = cached, .arg = arg};
    list_init(&g->pending);
    val_each(m, prompt) xgraph_add(g, m->key, val_copy(m->value), NULL);
}

static void xnode_free(struct xnode *n)
{
    for (size_t i = 0; i < n->n_consts; i++) {
        free((char *)n->consts[i].name);
        data_unref(n->consts[i].data);
    }
    for (size_t i = 0; i < n->n_results; i++)
        val_free(n->results[i]);
    free(n->consts);
    free(n->blocking);
    val_free(n->node);
    free(n->id);
    free(n);
}

void xgraph_fini(struct xgraph *g)
{
    struct xnode *n, *next;

    HASH_ITER(hh, g->nodes, n, next) {
        HASH_DEL(g->nodes, n);
        xnode_free(n);
    }
}

struct xnode *xgraph_find(const struct xgraph *g, const char *id)
{
    struct xnode *n;

    HASH_FIND_STR(g->nodes, id, n);
    return n;
}

struct xnode *xgraph_add(struct xgraph *g, const char *id, struct val *node, struct xnode *parent)
{
    const struct val *type = val_get(node, "class_type");
    struct xnode *n = xcalloc(1, sizeof(*n));

    n->id = xstrdup(id);
    n->node = node;
    n->cls = type && type->type == VAL_STR ? node_find((struct str){type->text, type->len}) : NULL;
    n->parent = parent;
    list_init(&n->link);
    HASH_ADD_KEYPTR(hh, g->nodes, n->id, strlen(n->id), n);
    return n;
}

struct xnode *xgraph_follow(const struct xgraph *g, const struct val *link)
{
    return val_is_link(link) ? xgraph_find(g, link->item[0]->text) : NULL;
}

void xgraph_link(struct xgraph *g, struct xnode *from, struct xnode *to)
{
    if (g->cached(g->arg, from))
        return;
    xgraph_want(g, from);
    for (size_t i = 0; i < from->n_blocking; i++)
        if (from->blocking[i] == to)
            return;
    from->blocking = xrealloc(from->blocking, (from->n_blocking + 1) * sizeof(struct xnode *));
    from->blocking[from->n_blocking++] = to;
    to->blocks_on++;
}

/* Depth first with a stack of its own: graphs may be long chains. */
void xgraph_want(struct xgraph *g, struct xnode *first)
{
    struct xnode **stack = xmalloc(sizeof(*stack));
    struct {
        struct xnode *from, *to;
    } *links = NULL;
    size_t n = 0, n_links = 0, cap = 1, cap_links = 0;

    stack[n++] = first;
    while (n > 0) {
        struct xnode *x = stack[--n];

        if (x->pending)
            continue;
        x->pending = true;
        x->blocks_on = 0;
        x->n_blocking = 0;
        list_push_back(&g->pending, &x->link);
        val_each(m, val_get(x->node, "inputs"))
        {
            struct xnode *from = xgraph_follow(g, m->value);

            if (!from)
                continue;
            if (!g->cached(g->arg, from)) {
                if (n == cap)
                    stack = xrealloc(stack, (cap *= 2) * sizeof(*stack));
                stack[n++] = from;
            }
            if (n_links == cap_links) {
                cap_links = cap_links ? cap_links * 2 : 16;
                links = xrealloc(links, cap_links * sizeof(*links));
            }
            links[n_links].from = from;
            links[n_links++].to = x;
        }
    }
    for (size_t i = 0; i < n_links; i++)
        xgraph_link(g, links[i].from, links[i].to);
    free(stack);
    free(links);
}

struct xnode *xgraph_pick(const struct xgraph *g)
{
    struct xnode *first = NULL;

    list_for_each(it, &g->pending) { /* an output node first */
        struct xnode *n = list_entry(it, struct xnode, link);

        if (n->blocks_on > 0)
            continue;
        if (n->cls->info->output_node)
            return n;
        if (!first)
            first = n;
    }
    list_for_each(it, &g->pending) { /* then what an output waits for: VAEDecode -> PreviewImage */
        struct xnode *n = list_entry(it, struct xnode, link);

        for (size_t i = 0; n->blocks_on == 0 && i < n->n_blocking; i++)
            if (n->blocking[i]->cls->info->output_node)
                return n;
    }
    list_for_each(it, &g->pending) { /* then one further: VAELoader -> VAEDecode -> PreviewImage */
        struct xnode *n = list_entry(it, struct xnode, link);

        for (size_t i = 0; n->blocks_on == 0 && i < n->n_blocking; i++)
            for (size_t k = 0; k < n->blocking[i]->n_blocking; k++)
                if (n->blocking[i]->blocking[k]->cls->info->output_node)
                    return n;
    }
    return first;
}

void xgraph_complete(struct xgraph *g, struct xnode *n)
{
    (void)g;
    n->pending = false;
    list_remove(&n->link);
    for (size_t i = 0; i < n->n_blocking; i++)
        n->blocking[i]->blocks_on--;
    n->n_blocking = 0;
}

const char *xnode_display(const struct xnode *n)
{
    while (n->parent)
        n = n->parent;
    return n->id;
}
