/* What a server remembers from one prompt to the next: results by what they were made of, and per node id the
 * little state its object keeps. ComfyUI's classic cache: it holds what the last prompt's graph had. Used by
 * exec.c only. */
#ifndef SIM_EXEC_CACHE_H
#define SIM_EXEC_CACHE_H

#include "sim/exec_graph.h"

struct cached {
    char sig[65 + 1];
    struct data *out[NODE_MAX_OUT];
    size_t outs;
    struct val *ui; /* or NULL */
    unsigned seen;  /* the run that last had this node in its graph */
    UT_hash_handle hh;
};

/* ComfyUI keeps one object per (node id, class) over runs; PreviewImage chooses its name in its constructor.
 */
struct object {
    char *key;
    char temp_prefix[16];
    unsigned seen;
    UT_hash_handle hh;
};

struct xcache {
    struct cached *results;
    struct object *objects;
    unsigned runs;
    uint64_t unhashable;
};
void xcache_drop(struct xcache *c); /* everything */
/* The result of a node of this graph, or NULL. */
struct cached *xcache_find(struct xcache *c, struct xgraph *g, struct xnode *n);
void xcache_put(struct xcache *c, struct xgraph *g, struct xnode *n, struct data *const *out, size_t outs,
                const struct val *ui);
/* A new prompt begins: what its graph does not have is forgotten. */
void xcache_sweep(struct xcache *c, struct xgraph *g);
/* "_temp_abcde", chosen when the node's object is made. */
const char *xcache_temp_prefix(struct xcache *c, const struct xnode *n, struct clock *clock);

#endif
