/* What travels on ComfyUI's WebSocket: text messages {"type": T, "data": D} and binary frames. Pure: spans
 * in, bytes out. Shapes, key order and separators are those of ComfyUI 0.3.64 as recorded (protocol sheet 2.2
 * to 2.4); unknown kinds and fields are kept as they are. */
#ifndef COMFY_EVENTS_H
#define COMFY_EVENTS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/json.h"

/* ---- text messages ---- */

enum event_kind {
    EVENT_OTHER, /* custom nodes' and newer servers' events: to be passed on untouched */
    EVENT_STATUS,
    EVENT_FEATURE_FLAGS,
    EVENT_EXECUTION_START,
    EVENT_EXECUTION_CACHED,
    EVENT_EXECUTING,
    EVENT_PROGRESS,
    EVENT_PROGRESS_STATE,
    EVENT_EXECUTED,
    EVENT_EXECUTION_SUCCESS,
    EVENT_EXECUTION_ERROR,
    EVENT_EXECUTION_INTERRUPTED,
    EVENT_LOGS,
    EVENT_NOTIFICATION,
    EVENT_KINDS
};
/* "execution_start" ...; "other". */
const char *event_kind_name(enum event_kind k);

/* One parsed message. Spans point into the text, which must stay; a field that the message lacks is no value.
 */
struct event {
    enum event_kind kind;
    struct json whole, type, data;
    struct json prompt_id;    /* a string, or none; notification has it as "id" */
    struct json node;         /* a string; null at the end of a prompt; execution_error's node_id */
    struct json display_node; /* executing, executed */
    struct json value, max;   /* progress */
    struct json output;       /* executed; may be null */
    struct json nodes;        /* execution_cached: list; progress_state: object */
    struct json sid;          /* the first status */
    int64_t queue_remaining;  /* status; -1 if it does not say */
    bool blocked;             /* execution_error of type ExecutionBlocked: not the end, not in history */
};
/* -1: not JSON, not an object, no string "type". */
int event_parse(const char *text, size_t len, struct event *ev, struct err *e) MUST_CHECK;
/* execution_success, _interrupted, or an _error that is not a block: the prompt's verdict. */
bool event_is_terminal(const struct event *ev);
/* executing with node null: comes after history was written, whatever the verdict. */
bool event_is_end(const struct event *ev);

/* The message with another prompt id in every place where a message carries it (data, each node of a
 * progress_state); a message without one is copied, except executing, to which it is added (a stock server
 * leaves it out after a reconnect). */
void event_put_with_prompt_id(struct buf *out, const struct event *ev, const char *prompt_id);
/* Append a message's text, one of our own making, to the inside of history's status.messages, where it stands
 * as ["execution_start", {...}]. */
void event_put_history_message(struct buf *messages, const char *text, size_t len);

/* Builders append one message. prompt_id and node ids are characters, not JSON; times are ms. */
void event_put_status(struct buf *out, int64_t queue_remaining, const char *sid /* NULL but in the first */);
void event_put_feature_flags(struct buf *out, struct json flags);
void event_put_start(struct buf *out, const char *prompt_id, int64_t timestamp);
/* nodes: JSON array; no value writes []. */
void event_put_cached(struct buf *out, struct json nodes, const char *prompt_id, int64_t timestamp);
/* node NULL: the end of the prompt (display_node is not written then). */
void event_put_executing(struct buf *out, const char *node, const char *display_node, const char *prompt_id);
void event_put_progress(struct buf *out, int64_t value, int64_t max, const char *prompt_id, const char *node);
/* output: an object, or no value for null. */
void event_put_executed(struct buf *out, const char *node, const char *display_node, struct json output,
                        const char *prompt_id);
void event_put_success(struct buf *out, const char *prompt_id, int64_t timestamp);

struct event_node_state {
    const char *node_id, *display_node_id, *parent_node_id /* NULL: null */, *real_node_id;
    double value, max;
    bool whole;        /* written 1, not 1.0: a node that reports steps counts in ints; one that does not has
                          0.0 or 1.0 of 1.0 */
    const char *state; /* running finished error */
};
void event_put_progress_state(struct buf *out, const char *prompt_id, const struct event_node_state *v,
                              size_t n);

struct event_error {
    const char *prompt_id;
    const char *node_id; /* "" for what is nobody's fault in the graph: the frontend shows a service error */
    const char *node_type; /* "" likewise */
    struct json executed;  /* list of node ids; none writes [] */
    const char *exception_message, *exception_type;
    struct json traceback;      /* list of strings; none writes [], never null */
    struct json current_inputs; /* object; none writes {} (a block: []) */
    struct json current_outputs;
    int64_t timestamp; /* < 0: ExecutionBlocked, which carries none */
};
void event_put_error(struct buf *out, const struct event_error *err);
void event_put_interrupted(struct buf *out, const char *prompt_id, const char *node_id, const char *node_type,
                           struct json executed, int64_t timestamp);
/* The frontend shows "Waiting for a machine" for the job; id may be NULL. */
void event_put_notification(struct buf *out, const char *value, const char *prompt_id);

/* ---- binary frames: big-endian u32 type, then ---- */

enum frame_type {
    FRAME_IMAGE = 1,     /* u32 image kind, image file */
    FRAME_TEXT = 3,      /* u32 n, n bytes of node id, text */
    FRAME_IMAGE_META = 4 /* u32 n, n bytes of JSON, image file */
};
enum frame_image { FRAME_JPEG = 1, FRAME_PNG = 2 };

struct frame {
    uint32_t type;    /* any other value: to be passed on untouched */
    uint32_t image;   /* types 1 and 4: enum frame_image; 0 when it is neither */
    const char *node; /* type 3: the node id */
    size_t node_n;
    struct json meta; /* type 4: the object */
    const char *body; /* the image or text; all behind the type of an unknown frame */
    size_t body_n;
};
/* -1: shorter than its own lengths say, or type 4 without a JSON object. Spans point into data. */
int frame_parse(const void *data, size_t len, struct frame *f, struct err *e) MUST_CHECK;
/* A picture that is a product, not a passing preview: PNG (SaveImageWebsocket, Krita's nodes). Never dropped.
 */
bool frame_is_product(const struct frame *f);

void frame_put_image(struct buf *out, enum frame_image kind, const void *image, size_t n);
void frame_put_text(struct buf *out, const char *node, const char *text, size_t n);
struct frame_meta {
    const char *node_id, *prompt_id, *display_node_id, *parent_node_id /* NULL: null */, *real_node_id;
};
void frame_put_image_meta(struct buf *out, const struct frame_meta *m, enum frame_image kind,
                          const void *image, size_t n);
/* A type 4 frame as type 1, for clients that did not ask for metadata: the image's bytes unchanged. */
void frame_put_legacy(struct buf *out, const struct frame *f);
/* A type 3 frame as those have it that ask for it (supports_progress_text_metadata): u32 n, n bytes of prompt id before
 * the rest. */
void frame_put_text_of_prompt(struct buf *out, const struct frame *f, const char *prompt_id);
/* A type 4 frame with another prompt id in its metadata. */
void frame_put_with_prompt_id(struct buf *out, const struct frame *f, const char *prompt_id);

#endif
