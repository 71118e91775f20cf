/* Checks a prompt as ComfyUI 0.3.75 does at POST /prompt: the same verdict, the same messages, the same
 * order, and the same changes to the graph (a "16" for an INT becomes 16). Loop thread only. */
#ifndef SIM_CHECK_H
#define SIM_CHECK_H

#include "sim/nodes.h"

enum check_result {
    CHECK_GOOD,  /* outputs to execute; errors may still name outputs that were dropped */
    CHECK_BAD,   /* 400 with error and errors */
    CHECK_CRASH, /* Python would have raised: 500 */
};
struct check {
    struct val *outputs; /* ids */
    struct val *error;   /* BAD: {type, message, details, extra_info} */
    struct val *errors;  /* node_errors */
};
/* targets: partial_execution_targets, or NULL. All members of out are the caller's. */
enum check_result check_prompt(struct val *graph, const struct val *targets, const struct files *f,
                               const struct models *m, struct check *out);
void check_fini(struct check *c);

#endif
