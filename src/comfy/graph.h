/* A prompt: ComfyUI's API-format graph, {"<node id>": {"class_type": ..., "inputs": {...}}, ...}, read in
 * place. The text is never rewritten but by exchanging pieces, so what reaches a server is what the client
 * wrote. Pure; a graph may be read by any thread at one time. */
#ifndef COMFY_GRAPH_H
#define COMFY_GRAPH_H

#include <stdbool.h>

#include "base/json.h"
#include "comfy/str.h"

#define GRAPH_NODES_MAX 20000

struct graph_node {
    struct str id;          /* opaque: expanded subgraphs use ids such as 5.0.0.1 */
    struct str class_type;  /* none when missing or not a string: see class_span */
    struct str title;       /* _meta.title, or none */
    struct json key, whole; /* the id as written; the node */
    struct json class_span; /* whatever stands under class_type; none if nothing does */
    struct json inputs;     /* whatever stands under inputs; usable when an object */
};

struct graph;
/* prompt: a span of a checked text that outlives the graph. Fails (EINVAL) when it is not an object of
 * objects or has more than max_nodes (0: GRAPH_NODES_MAX) nodes (E2BIG). A node without class_type or inputs
 * is let in: what to say of it is the validator's; and for ComfyUI a list or a string is such a node, unless "class_type"
 * is in it. Of equal ids the last one counts, at the place of the
 * first, as in a Python dict. */
struct graph *graph_new(struct json prompt, size_t max_nodes, struct err *e) MUST_CHECK;
void graph_free(struct graph **g);
struct json graph_text(const struct graph *g);
size_t graph_size(const struct graph *g);
const struct graph_node *graph_at(const struct graph *g, size_t i); /* in the order of the text */
/* Index of a node by id, or STR_NOWHERE. */
size_t graph_find(const struct graph *g, struct str id);
size_t graph_find_span(const struct graph *g, struct json id);

/* Is this input value a link, [node id, slot]? As in ComfyUI: a list of two, a string and a number. */
bool graph_link(struct json v, struct json *node_id, struct json *slot);

/* Nodes in an order in which every node comes after those it links to: fills order[graph_size] and gives how
 * many could be ordered; fewer than all means that the rest is on or behind a cycle. Links to nodes that do
 * not exist do not count. Linear time, no recursion. */
size_t graph_order(const struct graph *g, size_t *order);

/* Visit every string, and every object, among the nodes' input values: lists and objects are looked into,
 * links are not, nor are keys. Return true from the callback to stay out of an object. */
struct graph_value {
    size_t node;
    struct json input; /* the input's name */
    struct json value;
};
typedef bool graph_walk_cb(void *arg, const struct graph_value *v);
void graph_walk(const struct graph *g, graph_walk_cb *cb, void *arg);

/* Append the graph with some of its string values exchanged, everything else byte for byte. cb is asked for
 * every string that graph_walk finds; it puts the new characters into `to` and returns true, or false to
 * leave it. */
typedef bool graph_rename_cb(void *arg, const struct graph_value *v, struct str is, struct buf *to);
void graph_put_renamed(struct buf *out, const struct graph *g, graph_rename_cb *cb, void *arg);

/* Indexes of the nodes for whose class is_output says yes, in the order of the text: fills v[graph_size]. */
typedef bool graph_class_cb(void *arg, struct str class_type);
size_t graph_outputs(const struct graph *g, graph_class_cb *is_output, void *arg, size_t *v);

#endif
