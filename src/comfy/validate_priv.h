/* Between validate.c (the walk), validate_input.c (one literal value) and validate_fleet.c. */
#ifndef COMFY_VALIDATE_PRIV_H
#define COMFY_VALIDATE_PRIV_H

#include "comfy/validate.h"

/* What the answer's node_errors may grow to; past it nodes still count as bad, without words. */
#define VALIDATE_TEXT_MAX (8u << 20)
#define VALIDATE_DEPENDENTS_MAX 100000u

/* Errors of one node, as the inside of a JSON list, and the same as lines for error.details. */
struct verrors {
    struct buf json, lines;
    size_t n;
};

struct vctx {
    const struct graph *g;
    const struct validate_opts *o;
    struct validate_result *r;
    size_t text; /* bytes of errors so far */
    size_t mark; /* where the error being written begins */
};

/* An error's extra_info is built by the caller between begin and end. */
void verror_begin(struct vctx *c, struct verrors *ve, struct jsonw *w, const char *type, const char *message,
                  const char *details, size_t details_n);
void verror_end(struct vctx *c, struct verrors *ve, struct jsonw *w);
/* "input_config": [type, options] */
void vput_config(struct jsonw *w, const struct object_input *in);

/* Is a literal fit for this input? Adds to ve what is wrong. */
void validate_literal(struct vctx *c, const struct object_class *cls, const struct object_input *in,
                      struct json value, struct verrors *ve);
/* Error about a node whose class is missing (fleet: nobody has it). */
void validate_missing_class(struct validate_result *r, const struct graph_node *n, enum validate_dialect d);
void validate_fail(struct validate_result *r, const char *type, const char *message, const char *details);

#endif
