/* Validation of a prompt as ComfyUI does it, with its error types, messages and shapes (protocol sheet 4;
 * recordings c1, c2; execution.py of 0.3.64 and of mid 2026). Used by the gateway, which must never be
 * stricter than the server that will run the prompt, and by the simulator, which must be exactly as strict.
 * Pure.
 *
 * Linear in the size of the prompt and without recursion: the walk that ComfyUI does by recursion is done on
 * a stack of our own. What an answer may grow to is bounded. */
#ifndef COMFY_VALIDATE_H
#define COMFY_VALIDATE_H

#include <stdbool.h>

#include "comfy/graph.h"
#include "comfy/object_info.h"
#include "comfy/prompt_error.h"
#include "comfy/splice.h"

enum validate_dialect {
    VALIDATE_NEW, /* missing_node_type, dependency_cycle; COMBO lists checked: what the gateway speaks */
    VALIDATE_OLD  /* 0.3.64: invalid_prompt, a cycle fails without a word; COMBO lists not checked */
};

/* VALIDATE_INPUTS of a node's class. 0: valid, or the class has none; 1: it returned text (put into why); 2:
 * it returned False; 3: it raised (message in why). `input` is the input it speaks of, or what type it raised. */
typedef int validate_custom_cb(void *arg, const struct graph *g, size_t node, const struct object_class *c,
                               struct buf *input, struct buf *why);

/* What of the values as the server converts them goes into result.coerced: a server keeps them so, and shows them in
 * /queue and /history. */
enum validate_coerce {
    COERCE_NONE,
    COERCE_SENDABLE, /* but not digits and escapes of what has the right type, and not what would be another prompt,
                        or none, when it is sent again: a list out of its {"__value__": ...} may be a link, and
                        NaN is no JSON */
    COERCE_ALL
};

struct validate_opts {
    enum validate_dialect dialect;
    /* Check what object_info shows for every class. Otherwise (the gateway) list, min and max only for
     * ComfyUI's own classes and not where they check themselves; types of links only into own classes; the
     * slot only of links out of own ones: custom classes may allow more than they show. */
    bool strict;
    unsigned depth; /* links that the server follows into each other before Python's recursion ends: then it
                       refuses without a word. 0: no bound */
    struct json targets;        /* partial_execution_targets, or none */
    validate_custom_cb *custom; /* or NULL */
    void *custom_arg;
    enum validate_coerce coerce;
};

struct validate_result {
    bool ok;                   /* accepted, though perhaps not all of it: node_errors may still be filled */
    struct prompt_error error; /* when not ok */
    struct buf node_errors;    /* JSON object, "{}" if none */
    size_t *outputs;           /* nodes to execute, in the graph's order */
    size_t n_outputs;
    struct edits coerced; /* values as the server converts them ("16" -> 16 for an INT); for edits_put()
                             on the graph's text */
};
void validate_result_fini(struct validate_result *r);
/* The body of the 400. */
void validate_put_body(struct buf *out, const struct validate_result *r);

/* One server. The class callback gives NULL for a class that is not there. r is filled in any case. */
typedef const struct object_class *validate_class_cb(void *arg, struct str name);
void validate_prompt(const struct graph *g, validate_class_cb *classes, void *arg,
                     const struct validate_opts *opts, struct validate_result *r);
/* The class callback for a struct object_info. */
const struct object_class *validate_info_class(void *info, struct str name);

/* The fleet. `among`: the servers that count (those configured and known; not empty). r is the verdict for
 * the client, and *can the servers that would take the prompt, all of them with the same outputs:
 *   - a class that nobody has: missing_node_type;
 *   - everything is somewhere, but no server has all: prompt_outputs_failed_validation with what the closest
 *     server lacks as node_errors and error.extra_info.servers = [{"name", "lacks": [...]}];
 *   - otherwise it is validated as each different kind of capable server would; who says no is out.
 * r->coerced is empty where capable servers would convert differently. names[i] is server i's, for extra_info. */
void validate_fleet(const struct graph *g, const struct object_view *view, const struct server_set *among,
                    const char *const *names, const struct validate_opts *opts, struct validate_result *r,
                    struct server_set *can);

#endif
