/* The node classes the simulator can execute: what object_info says of each, and what it does.
 *
 * A class either computes (`run`: pure but for files, on any thread, once) or plays (`step`: on the loop
 * thread, called again and again; it says what it waits for). The executor owns both kinds of call; see
 * exec.h. */
#ifndef SIM_NODES_H
#define SIM_NODES_H

#include "base/clock.h"
#include "comfy/object_info.h"
#include "sim/files.h"
#include "sim/image.h"
#include "sim/models.h"
#include "sim/value.h"

/* --- what travels along the links --- */
enum data_kind {
    DATA_VALUE,   /* value: INT FLOAT STRING BOOLEAN ... */
    DATA_IMAGE,   /* image: IMAGE or MASK */
    DATA_MODEL,   /* text: file name; also CLIP VAE UPSCALE_MODEL */
    DATA_COND,    /* text: the prompt; also GUIDER (value: its model's name) */
    DATA_LATENT,  /* w h n; text, seed once sampled */
    DATA_THING,   /* text: SAMPLER SIGMAS NOISE ..., value: what a later node needs */
    DATA_BLOCKER, /* ExecutionBlocker; text NULL: silent */
};
struct data {
    atomic_uint refs;
    enum data_kind kind;
    struct val *value;
    struct image *image;
    char *text, *seed;
    unsigned w, h, n;
};
struct data *data_new(enum data_kind kind);
struct data *data_value(struct val *v);    /* takes over v */
struct data *data_image(struct image *im); /* takes over im */
struct data *data_text(enum data_kind kind, const char *text);
struct data *data_ref(struct data *d);
void data_unref(struct data *d); /* NULL is fine */
/* As str() shows it in an error's current_inputs. */
struct val *data_format(const struct data *d);

/* --- a class --- */
struct noderun;
enum node_next {
    NODE_DONE,
    NODE_FAILED, /* node_fail() has been called */
    NODE_WAIT,   /* again after r->wait_ms (before --speed) */
    NODE_WORK,   /* run r->work(r) where it does not hold up the loop, then again */
};
typedef enum node_next node_step(struct noderun *r);
typedef void node_run(struct noderun *r); /* fills out[] and ui, or node_fail() */

enum node_check { CHECK_NONE, CHECK_FILE, CHECK_RAISING }; /* VALIDATE_INPUTS */

struct node_class {
    const char *name;
    node_run *run;
    node_step *step;
    enum node_check check;
    const char *check_input; /* the one its VALIDATE_INPUTS takes */
    bool heavy;              /* where injected device faults strike */
    bool file_changes;       /* IS_CHANGED is the hash of the file named by check_input */
    bool always_changes;     /* IS_CHANGED is the time: never cached */
    /* from object_info, with the lists of files empty: */
    const struct object_class *info;
    bool lists_files; /* one of its combos lists files, so that what object_info says of it changes */
    bool wants_id;
};

/* All of them; parsed once per process and never freed before exit. */
const struct node_class *node_find(struct str name); /* or NULL */
const struct node_class *node_classes(size_t *n);
/* Append "<name>": {...} as object_info has it, with the lists of files filled in. */
void node_put_info(struct buf *b, const struct node_class *c, const struct files *f, const struct models *m);

/* --- one execution --- */
#define NODE_MAX_OUT 4
struct node_arg {
    const char *name;
    struct data *data;
};
/* What a node may do to the outside while it runs; loop thread only. */
struct node_host {
    void *arg;
    /* One progress tick. png/jpeg: an encoded preview or NULL. False: interrupted or failed, stop. */
    bool (*tick)(void *arg, struct noderun *r, int64_t value, int64_t max, const char *mime,
                 const struct buf *preview);
    void (*text)(void *arg, struct noderun *r, const char *text);       /* type-3 frame, broadcast */
    void (*event)(void *arg, const char *type, const struct val *data); /* custom event, broadcast */
};
struct noderun {
    const struct node_class *cls;
    const struct node_host *host;
    char *id, *display_id;
    struct node_arg *arg;
    size_t args;
    /* surroundings, all outliving the run */
    struct files *files;
    struct models *models;
    struct clock *clock;
    const char *server;
    const struct val *prompt;  /* hidden PROMPT: the graph as ComfyUI would hand it over */
    const struct val *pnginfo; /* hidden EXTRA_PNGINFO, or NULL */
    const char *temp_prefix;   /* "_temp_abcde": chosen once per node object */
    /* progress of a step function */
    unsigned state;
    int64_t count;
    struct buf *frames; /* encoded by work for later ticks */
    size_t n_frames;
    int64_t wait_ms;
    node_run *work;
    /* the result */
    struct data *out[NODE_MAX_OUT];
    size_t outs;
    struct val *ui;     /* object, or NULL */
    struct val *expand; /* a subgraph: id -> node; out[] then hold links as VALUE */
    char *error_type, *error_msg;
};
void noderun_fini(struct noderun *r);

const struct data *node_arg(const struct noderun *r, const char *name); /* NULL if not given */
/* Widget values; the fallback if it is absent or of another type. */
int64_t node_int(const struct noderun *r, const char *name, int64_t fallback);
double node_num(const struct noderun *r, const char *name, double fallback);
const char *node_str(const struct noderun *r, const char *name, const char *fallback);
bool node_bool(const struct noderun *r, const char *name, bool fallback);
const struct image *node_image(struct noderun *r, const char *name); /* NULL after node_fail() */
/* type: full name of a Python exception. The first failure stands. */
void node_fail(struct noderun *r, const char *type, const char *fmt, ...) PRINTF_LIKE(3, 4);
void node_out(struct noderun *r, struct data *d);                        /* takes over d */
void node_out_image(struct noderun *r, struct image *im, struct err *e); /* im NULL: fails with e */

/* The tables, one per file. */
extern const struct node_class nodes_image_table[], nodes_model_table[], nodes_test_table[];

#endif
