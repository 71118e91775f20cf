/* The workflow that `comfymux run` submits: a text in ComfyUI's API format, edited by exchanging pieces, so
 * that every number and every byte that no edit names stays as its author wrote it. Pure. */
#ifndef CLI_RUN_WORKFLOW_H
#define CLI_RUN_WORKFLOW_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"

struct workflow;

/* Takes a copy. Fails with a reason for what is no JSON, no workflow, or one in the web interface's own
 * format. */
struct workflow *workflow_new(const char *text, size_t len, struct err *e) MUST_CHECK;
void workflow_free(struct workflow **w);

/* --set NODE.INPUT=VALUE. NODE is an id, else a title, else a class that one node alone has. VALUE is JSON if
 * it parses (bare NaN and Infinity do not count), else a string. An input that is not there yet is added, and
 * *added says so. A seed set here is left alone by workflow_put. */
int workflow_set(struct workflow *w, const char *arg, bool *added, struct err *e) MUST_CHECK;

/* A string among the inputs. */
struct workflow_string {
    const char *node; /* id */
    const char *class_type, *input;
    const char *value; /* as decoded */
    bool loader;       /* names a file, as LoadImage's image does */
};
/* Asked for every string that stands directly under a node's input; true: put the new one into `to`. */
typedef bool workflow_rename_cb(void *arg, const struct workflow_string *s, struct buf *to);
int workflow_rename(struct workflow *w, workflow_rename_cb *cb, void *arg, struct err *e) MUST_CHECK;
/* "cat.png [input]" -> 7: the length of the name without an " [input]" at its end. A value that says
 * [output] or [temp] names a file of the server's: 0. */
size_t workflow_plain_name(const char *value);

/* The workflow with `add` added to every seed and noise_seed that is written as an integer and that no --set
 * named; 64 bits wrap around, as the seeds of ComfyUI's samplers do. */
void workflow_put(const struct workflow *w, unsigned long add, struct buf *out);

size_t workflow_size(const struct workflow *w);
/* Is this node of that class? node NULL: is any? */
bool workflow_has_class(const struct workflow *w, const char *node, const char *class_type);
/* What to show a person for a node: its title, else its class, else the id. Appended. */
void workflow_put_title(const struct workflow *w, const char *node, struct buf *out);

#endif
