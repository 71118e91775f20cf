/* The graph while it runs: nodes by id (those of expanded subgraphs too), which of them are pending and what
 * blocks them, which comes next. ComfyUI's DynamicPrompt and ExecutionList. Used by exec.c only. */
#ifndef SIM_EXEC_GRAPH_H
#define SIM_EXEC_GRAPH_H

#include "base/list.h"
#include "sim/nodes.h"

struct xnode {
    char *id;
    struct val *node; /* {class_type, inputs, ...}; owned */
    const struct node_class *cls;
    struct xnode *parent;    /* of an expanded node: the one that made it */
    struct node_arg *consts; /* inputs that are values of the parent, by name */
    size_t n_consts;
    char sig[65]; /* cache key; "" not computed yet */
    bool visiting;
    /* pending */
    bool pending;
    struct list link;   /* in xgraph.pending, in order of adding */
    unsigned blocks_on; /* how many pending nodes block this one */
    struct xnode **blocking;
    size_t n_blocking;
    /* waiting for its subgraph: links of its outputs */
    bool expanded;
    struct val *results[NODE_MAX_OUT];
    size_t n_results;
    UT_hash_handle hh;
};

struct xgraph {
    struct xnode *nodes; /* by id, in order of the prompt */
    struct list pending;
    /* Is this node's result in the cache? */
    bool (*cached)(void *arg, struct xnode *n);
    void *arg;
};

/* Takes a copy of the prompt's nodes. */
void xgraph_init(struct xgraph *g, const struct val *prompt, bool (*cached)(void *arg, struct xnode *n),
                 void *arg);
void xgraph_fini(struct xgraph *g);
struct xnode *xgraph_find(const struct xgraph *g, const char *id);
/* node: taken over. */
struct xnode *xgraph_add(struct xgraph *g, const char *id, struct val *node, struct xnode *parent);
/* Makes it and all it needs pending, but for what is cached. */
void xgraph_want(struct xgraph *g, struct xnode *n);
/* to cannot run before from (unless from is cached). */
void xgraph_link(struct xgraph *g, struct xnode *from, struct xnode *to);
/* The next to run, ComfyUI's ux_friendly_pick_node; NULL: none is ready (nothing pending, or a cycle). */
struct xnode *xgraph_pick(const struct xgraph *g);
void xgraph_complete(struct xgraph *g, struct xnode *n);
const char *xnode_display(const struct xnode *n); /* the id of its outermost parent, or its own */
/* The node a link value points to, or NULL. */
struct xnode *xgraph_follow(const struct xgraph *g, const struct val *link);

#endif
