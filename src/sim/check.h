/* Checks a prompt as ComfyUI 0.3.75 does at POST /prompt: comfy/validate.h as strict as a server is, with what
 * only a server knows: its classes, its files, and where Python raises. Loop thread only. */
#ifndef SIM_CHECK_H
#define SIM_CHECK_H

#include "sim/nodes.h"

enum check_result {
    CHECK_GOOD,  /* outputs to execute; node_errors may still name outputs that were dropped */
    CHECK_BAD,   /* 400 with refusal */
    CHECK_CRASH, /* Python would have raised: 500 */
};
struct check {
    struct val *graph;   /* GOOD: with its values as the check converts them ("16" for an INT becomes 16) */
    struct val *outputs; /* GOOD: ids */
    struct buf node_errors; /* GOOD: JSON object */
    struct buf refusal;     /* BAD: the body */
};
/* prompt, targets (partial_execution_targets, or none): of a checked text. All members of out are the
 * caller's. */
enum check_result check_prompt(struct json prompt, struct json targets, const struct files *f,
                               const struct models *m, struct check *out);
void check_fini(struct check *c);

#endif
