/* What servers can do, from their GET /object_info: several MB of text per server, of which only the classes
 * that differ between servers are kept and read more than once. Pure. Everything here is immutable once
 * made and counted by atomic references, so it may be made on one thread and used on others.
 *
 * Facts: protocol sheet 3.6. An input is ["TYPE", {options}], [["a", "b"], {options}] (a combo, V1) or
 * ["COMBO", {"options": ["a", "b"]}] (a combo, V3, perhaps remote: then the choices are the client's to
 * fetch). Options may be missing. */
#ifndef COMFY_OBJECT_INFO_H
#define COMFY_OBJECT_INFO_H

#include <stdbool.h>

#include "base/json.h"
#include "base/mem.h"
#include "comfy/graph.h"
#include "comfy/str.h"

/* ---- classes ---- */

struct object_input {
    struct str name;
    bool required;
    struct json config;   /* the whole list */
    struct json type;     /* its first element: a string, or the list of a V1 combo */
    struct str type_name; /* "INT" "IMAGE" "COMBO" "A,B" "*"; "COMBO" too for a V1 combo */
    struct json options;  /* its second element, or none */
    struct json min, max; /* numbers, or none */
    bool combo, combo_v3; /* v3: says "COMBO"; such lists are not checked by 0.3.75 */
    bool remote;          /* the choices are not here */
    bool multiselect;
    bool upload;        /* a file chooser (image_upload, audio_upload ...): its values are the input folder */
    struct json values; /* a combo's choices, a list; none if not known */
    size_t n_values;
    struct str_index strings; /* those of them that are strings */
    bool only_strings;        /* all of them are */
};

struct object_class {
    atomic_uint refs;
    struct bytes *bytes;
    struct str name;
    struct json text; /* the object */
    struct str module, display_name;
    bool output_node, api_node;
    bool own;                    /* ComfyUI's: python_module is nodes or comfy_extras.* */
    bool v3;                     /* written in the newer form: its RETURN_TYPES are a list, not a tuple */
    struct object_input *inputs; /* required ones first, then optional; hidden ones are not here */
    size_t n_inputs;
    struct str_index input_names; /* number = index in inputs */
    struct json *outputs;         /* types, strings or lists */
    size_t n_outputs;
    struct str_pool pool;
};
const struct object_input *object_class_input(const struct object_class *c, struct str name); /* or NULL */
/* Is the value among a combo's choices, as Python's `in` sees it? False for what is no combo. */
bool object_input_has(const struct object_input *in, struct json value);

/* ---- one server ---- */

struct object_info;
/* Read a body. Classes whose text is the same in one of `others` are shared with it. What is odd in a class
 * (no inputs, other types than expected) makes that class say less, not the whole fail; -1 is for a body that
 * is no object of objects. The text is not kept. */
struct object_info *object_info_new(const char *text, size_t len, struct object_info *const *others,
                                    size_t n_others, struct err *e) MUST_CHECK;
struct object_info *object_info_ref(struct object_info *o);
void object_info_unref(struct object_info *o); /* NULL is fine */
size_t object_info_count(const struct object_info *o);
const struct object_class *object_info_find(const struct object_info *o, struct str name); /* or NULL */
const struct object_class *object_info_at(const struct object_info *o, size_t i); /* in the body's order */

/* ---- all servers ---- */

#define SERVER_SET_MAX 256
struct server_set {
    uint64_t w[SERVER_SET_MAX / 64];
};
static inline void server_set_add(struct server_set *s, size_t i)
{
    s->w[i / 64] |= 1ull << (i % 64);
}
static inline bool server_set_has(const struct server_set *s, size_t i)
{
    return s->w[i / 64] >> (i % 64) & 1;
}
bool server_set_empty(const struct server_set *s);

/* A class as the fleet has it: one variant per different text, with the servers that have it so. */
struct object_variant {
    const struct object_class *c;
    struct server_set servers;
};
struct object_entry {
    struct str name;
    struct object_variant *v;
    size_t n;
};

struct object_view;
/* infos[i] is server i's, NULL if it is not known; n <= SERVER_SET_MAX. References are taken. */
struct object_view *object_view_new(struct object_info *const *infos, size_t n);
struct object_view *object_view_ref(struct object_view *v);
void object_view_unref(struct object_view *v);
size_t object_view_count(const struct object_view *v);
const struct object_entry *object_view_at(const struct object_view *v, size_t i);
const struct object_entry *object_view_find(const struct object_view *v, struct str name); /* or NULL */
/* The class as one server has it, or NULL. */
const struct object_class *object_view_class(const struct object_view *v, size_t server, struct str name);
/* Servers of which anything is known. */
struct server_set object_view_servers(const struct object_view *v);
/* The servers on which this class's combo has this choice. */
struct server_set object_entry_value_servers(const struct object_entry *e, struct str input,
                                             struct json value);

/* Append the merged body: every class of every server, each as the first server that has it gives it, with
 * the choices of its combos united over all servers. For the inputs that are file choosers (upload) `files`
 * may give the choices instead: it appends a JSON list and returns true. NULL: united like the others. */
typedef bool object_files_cb(void *arg, const struct object_class *c, const struct object_input *in,
                             struct buf *list);
void object_view_put(struct buf *out, const struct object_view *v, object_files_cb *files, void *arg);
/* GET /object_info/{class}: {"<class>": {...}}, or {} if nobody has it. */
void object_view_put_class(struct buf *out, const struct object_view *v, struct str name,
                           object_files_cb *files, void *arg);

/* ---- who can run a graph ---- */

/* Something a graph needs that only some servers have: a class, or a choice of a combo (a model's file). What
 * no server has is not listed: it restricts nobody, and is the validator's to refuse or a server's. File
 * choosers do not count, staging puts the files where they are needed. */
struct object_need {
    size_t node;
    const struct object_input *input; /* NULL: the class */
    struct json value;
    struct server_set have;
};
typedef void object_need_cb(void *arg, const struct object_need *need);
void object_view_needs(const struct object_view *v, const struct graph *g, object_need_cb *cb, void *arg);

struct object_fit {
    struct server_set can; /* those of `among` that have all */
    size_t closest;        /* the one of `among` that lacks least; SIZE_MAX if `among` is empty */
    size_t closest_lacks;
};
void object_view_fit(const struct object_view *v, const struct graph *g, const struct server_set *among,
                     struct object_fit *fit);
/* What a graph needs of a server, as a text that is kept with the job: canonical, so that jobs with the same
 * needs have the same text. It names the classes, and the choices of combos that tell servers apart: those
 * that some server with the class lacks today, and those that look like a file's name, since files come and
 * go. */
void object_need_put(struct buf *out, const struct object_view *v, const struct graph *g);
/* Does this server have it all? 1 yes, 0 no, -1 it is not known (info NULL, or text that is no need). NULL or
 * "" needs nothing: 1. */
int object_need_met(const struct object_info *info, const char *text);

/* Does the graph hold a node that costs money (api_node) on any server? Such a prompt is not run twice. */
bool object_view_is_paid(const struct object_view *v, const struct graph *g);

#endif
