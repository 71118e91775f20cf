/* History entries, the body of GET /history/{id}: what became of a prompt, what it left behind, and the entry
 * written anew for a client. Pure; spans point into the body, which must stay. Protocol sheet 3.1 and 3.4. */
#ifndef COMFY_HISTORY_H
#define COMFY_HISTORY_H

#include <stdbool.h>

#include "base/json.h"

enum history_verdict {
    HISTORY_UNKNOWN, /* it ended, and neither messages nor status say how (status may be null) */
    HISTORY_SUCCESS,
    HISTORY_ERROR,
    HISTORY_INTERRUPTED
};

/* What kind of trouble an error is, as far as its words tell. */
enum history_fault {
    HISTORY_FAULT_NONE,   /* of the graph or its data: any server would say the same */
    HISTORY_FAULT_MEMORY, /* out of GPU or host memory */
    HISTORY_FAULT_DEVICE  /* CUDA, HIP, cuDNN ...: this server may be broken for good */
};

struct history {
    struct json entry, prompt, outputs, status, messages, meta;
    enum history_verdict verdict; /* by messages first: status_str may say success after an error */
    enum history_fault fault;     /* of a HISTORY_ERROR */
    /* execution_error's or execution_interrupted's; none otherwise */
    struct json error; /* the whole payload */
    struct json node_id, node_type, exception_type, exception_message, traceback;
};

/* Find the entry of prompt_id in a checked body. -1: the body is no object, or what stands there is no
 * history entry; 0: h is filled; 1: it is not there (yet: {} is also said of a running prompt). */
int history_find(struct json body, const char *prompt_id, struct history *h, struct err *e) MUST_CHECK;
enum history_fault history_classify(struct json exception_type, struct json exception_message);

/* ---- outputs ---- */

enum history_output_kind {
    HISTORY_FILE,  /* a dict with a string `filename`, under whatever key and however deep in lists and dicts
                    */
    HISTORY_INPUT, /* such a dict of type "input": to be mapped, not collected */
    HISTORY_TEXT,  /* a string standing under a key, alone or in a list */
    HISTORY_RESULT /* such a string under `result` (Preview3D): may name a file */
};
struct history_output {
    enum history_output_kind kind;
    struct json node_id, key;              /* string spans: "9", "images" */
    struct json value;                     /* the dict or string */
    struct json filename, subfolder, type; /* of a dict; subfolder and type none unless strings */
};
/* Return false to stop. */
typedef bool history_output_cb(void *arg, const struct history_output *o);
/* Every output of an entry, in its order. */
void history_outputs(const struct history *h, history_output_cb *cb, void *arg);
/* The same for one node's output object, as `executed` carries it (null gives nothing). */
void history_node_outputs(struct json node_id, struct json output, history_output_cb *cb, void *arg);

/* ---- writing ---- */

/* The status of a prompt that has ended, as a server writes it: {"status_str", "completed", "messages"}.
 * messages: see event_put_history_message(). */
void history_put_status(struct buf *out, bool success, const struct buf *messages);

/* ---- writing anew ---- */

/* New names for one entry; what stays empty is left as it is. */
struct history_names {
    struct buf filename, subfolder, type, text;
    bool set_filename, set_subfolder, set_type, set_text; /* text: of a TEXT or RESULT string */
};
typedef void history_rename_cb(void *arg, const struct history_output *o, struct history_names *n);

/* Append one node's output object with its names exchanged. From dicts that name a file `fullpath` (a path of
 * the server), `id`, `preview_id` and `asset` (ids of its asset database) are dropped. */
void history_put_node_output(struct buf *out, struct json node_id, struct json output, history_rename_cb *cb,
                             void *arg);

/* What to put into the places of an entry; a span that is none leaves what stands there. */
struct history_rewrite {
    const char *prompt_id;  /* prompt[1] and every message's prompt_id; NULL: left */
    struct json number;     /* prompt[0] */
    struct json graph;      /* prompt[2] */
    struct json extra_data; /* prompt[3], an object; without secrets */
    const char *client_id;  /* prompt[3].client_id, put last as ComfyUI does; NULL: taken out */
    history_rename_cb *rename;
    void *arg;
};
void history_put_entry(struct buf *out, const struct history *h, const struct history_rewrite *rw);
/* The whole body, {"<id>": entry}. */
void history_put_body(struct buf *out, const struct history *h, const struct history_rewrite *rw);

#endif
