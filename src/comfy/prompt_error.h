/* What POST /prompt answers when it says no, in ComfyUI's shape:
 * {"error": {"type", "message", "details", "extra_info"}, "node_errors": {...}}. Clients parse it whatever
 * the status, so the gateway uses it for its own refusals too. Pure. */
#ifndef COMFY_PROMPT_ERROR_H
#define COMFY_PROMPT_ERROR_H

#include "base/json.h"

struct prompt_error {
    char type[48];
    char *message;               /* heap */
    char *details;               /* heap; NULL is "" */
    size_t message_n, details_n; /* both may hold U+0000, which came from the prompt */
    char *extra_info;            /* heap, JSON object; NULL is {} */
};
void prompt_error_fini(struct prompt_error *e);
/* Fill e (overwriting) and return -1. message and details are copied. */
int prompt_error_set(struct prompt_error *e, const char *type, const char *message, const char *details);
int prompt_error_set_bufs(struct prompt_error *e, const char *type, const struct buf *message,
                          const struct buf *details);
/* The error object alone. */
void prompt_error_put(struct buf *out, const struct prompt_error *e);
/* The whole body; node_errors is a JSON object, NULL for {}. */
void prompt_error_put_body(struct buf *out, const struct prompt_error *e, const char *node_errors);
/* The whole body from pieces, for refusals that arise elsewhere (429, 503 ...). */
void prompt_error_put_simple(struct buf *out, const char *type, const char *message, const char *details);

#endif
