#include "comfy/validate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comfy/prompt_request.h"
#include "comfy/pyvalue.h"
#include "comfy/validate_priv.h"

enum vstate { V_NEW, V_OPEN, V_DONE };

struct vnode {
    const struct object_class *cls;
    enum vstate state;
    bool bad;
    bool judged;   /* a cycle through it was found while it was open */
    size_t listed; /* 1 + its place in node_errors; 0: not there */
    struct verrors errors;
};

/* A node being validated. values[i] is what the prompt gives for the class's input i. */
struct frame {
    size_t node;
    size_t input; /* the next one to look at */
    struct json *values;
};

struct walk {
    struct vctx c;
    struct vnode *nodes;
    struct frame *stack;
    size_t depth;
    size_t *bad; /* nodes done that have errors to show, in the order they were found bad */
    size_t n_bad;
};

/* A Python exception on its way up. */
struct raised {
    const char *type;
    struct buf text;
    char custom[32]; /* what type is, when VALIDATE_INPUTS chose it */
};

/* ---- errors ------------------------------------------------------------------------------------------- */

void verror_begin(struct vctx *c, struct verrors *ve, struct jsonw *w, const char *type, const char *message,
                  const char *details, size_t details_n)
{
    c->mark = ve->json.len;
    if (ve->n)
        buf_puts(&ve->json, ", ");
    if (ve->n++)
        buf_putc(&ve->lines, '\n');
    buf_printf(&ve->lines, "%s: ", message);
    buf_put(&ve->lines, details, details_n);
    jsonw_init(w, &ve->json);
    jsonw_obj(w);
    jsonw_kstr(w, "type", type);
    jsonw_kstr(w, "message", message);
    jsonw_key(w, "details");
    jsonw_strn(w, details, details_n);
    jsonw_key(w, "extra_info");
    jsonw_obj(w);
}

void verror_end(struct vctx *c, struct verrors *ve, struct jsonw *w)
{
    jsonw_obj_end(w);
    jsonw_obj_end(w);
    c->text += ve->json.len - c->mark;
}

void vput_config(struct jsonw *w, const struct object_input *in)
{
    jsonw_key(w, "input_config");
    jsonw_arr(w);
    jsonw_span(w, in->type);
    if (in->options.p) {
        jsonw_span(w, in->options);
    } else {
        jsonw_obj(w);
        jsonw_obj_end(w);
    }
    jsonw_arr_end(w);
}

static void put_name(struct jsonw *w, const struct object_input *in)
{
    jsonw_key(w, "input_name");
    jsonw_strn(w, in->name.p, in->name.n);
}

static bool full(const struct walk *k)
{
    return k->c.text > VALIDATE_TEXT_MAX;
}

void validate_fail(struct validate_result *r, const char *type, const char *message, const char *details)
{
    r->ok = false;
    prompt_error_set(&r->error, type, message, details);
}

static void put_id(struct buf *out, struct str id)
{
    buf_puts(out, "ID #");
    buf_put(out, id.p, id.n);
}

void validate_missing_class(struct validate_result *r, const struct graph_node *n, enum validate_dialect d)
{
    struct buf m = BUF_INIT, details = BUF_INIT, cls = BUF_INIT, info = BUF_INIT;
    struct jsonw w;

    py_put_str(&cls, n->class_span);
    buf_puts(&details, "Node ID '#");
    buf_put(&details, n->id.p, n->id.n);
    buf_putc(&details, '\'');
    if (d == VALIDATE_OLD && !n->class_span.p) {
        buf_puts(&m, "Cannot execute because a node is missing the class_type property.");
    } else if (d == VALIDATE_OLD) {
        buf_puts(&m, "Cannot execute because node ");
        buf_put(&m, buf_str(&cls), cls.len);
        buf_puts(&m, " does not exist.");
    } else {
        buf_puts(&m, "Node '");
        if (n->title.n)
            buf_put(&m, n->title.p, n->title.n);
        else if (n->class_span.p)
            buf_put(&m, buf_str(&cls), cls.len);
        else
            put_id(&m, n->id);
        buf_puts(&m, n->class_span.p
                         ? "' not found. The custom node may not be installed."
                         : "' has no class_type. The workflow may be corrupted or a custom node is missing.");
        jsonw_init(&w, &info);
        jsonw_obj(&w);
        jsonw_key(&w, "node_id");
        jsonw_strn(&w, n->id.p, n->id.n);
        jsonw_kspan(&w, "class_type", n->class_span);
        jsonw_key(&w, "node_title");
        if (n->title.p)
            jsonw_strn(&w, n->title.p, n->title.n);
        else
            jsonw_span(&w, n->class_span);
        jsonw_obj_end(&w);
    }
    r->ok = false;
    prompt_error_set_bufs(&r->error, d == VALIDATE_OLD ? "invalid_prompt" : "missing_node_type", &m,
                          &details);
    if (info.data)
        r->error.extra_info = buf_take(&info);
    buf_free(&m);
    buf_free(&details);
    buf_free(&cls);
}

/* ---- types of links ----------------------------------------------------------------------------------- */

/* Cut the next name off "A, B,C"; false when there is none left. */
static bool next_type(struct str *rest, struct str *type)
{
    const char *comma;

    if (!rest->p)
        return false;
    comma = memchr(rest->p, ',', rest->n);
    *type = (struct str){rest->p, comma ? (size_t)(comma - rest->p) : rest->n};
    *rest = comma ? (struct str){comma + 1, rest->n - type->n - 1} : (struct str){NULL, 0};
    while (type->n && type->p[0] == ' ') {
        type->p++;
        type->n--;
    }
    while (type->n && type->p[type->n - 1] == ' ')
        type->n--;
    return true;
}

static bool type_has(struct str types, struct str want)
{
    struct str t;

    while (next_type(&types, &t))
        if (str_eq(t, want))
            return true;
    return false;
}

static bool types_meet(struct str a, struct str b)
{
    struct str any = {"*", 1}, match = {"COMFY_MATCHTYPE_V3", 18}, t;

    if (str_eq(a, b) || type_has(a, any) || type_has(b, any) || type_has(a, match) || type_has(b, match))
        return true;
    while (next_type(&a, &t))
        if (type_has(b, t))
            return true;
    return false;
}

/* validate_node_input: equal, or both strings "T1,T2" with one in common. A list is a combo's choices. */
static bool type_fits(struct json received, struct json wanted)
{
    struct str_pool tmp = {0};
    bool fits;

    if (json_type(received) == JSON_STRING && json_type(wanted) == JSON_STRING)
        fits = types_meet(str_pool_get(&tmp, received), str_pool_get(&tmp, wanted));
    else
        fits = json_str_eq(received, "*") || json_str_eq(wanted, "*") || py_eq(received, wanted);
    str_pool_fini(&tmp);
    return fits;
}

/* ---- one node ----------------------------------------------------------------------------------------- */

static int raise_py(struct raised *x, const char *type, const char *text)
{
    x->type = type;
    buf_clear(&x->text);
    buf_puts(&x->text, text);
    return -1;
}

/* TypeError with the type of v's value in its text. */
static int raise_type(struct raised *x, const char *before, struct json v, const char *after)
{
    raise_py(x, "TypeError", before);
    buf_printf(&x->text, "%s%s", py_type_name(v), after);
    return -1;
}

/* `x in inputs` of a list or a string is true where it can be, and then inputs[x] raises. */
static bool seems_to_have(struct json inputs, struct str name)
{
    struct json_iter it = json_iter(inputs);
    struct buf s = BUF_INIT;
    struct json v;
    bool has = false;

    if (json_type(inputs) == JSON_STRING) {
        json_str(inputs, &s);
        has = memmem(buf_str(&s), s.len, name.p, name.n) != NULL;
        buf_free(&s);
    } else if (json_type(inputs) == JSON_ARRAY) {
        while (!has && json_next(&it, NULL, &v))
            has = json_str_eqn(v, name.p, name.n);
    }
    return has;
}

/* Read the node's inputs in one pass, by the class's numbers. */
static int open_frame(struct walk *k, size_t node, struct raised *x)
{
    const struct graph_node *n = graph_at(k->c.g, node);
    const struct object_class *cls = k->nodes[node].cls;
    struct frame *f = &k->stack[k->depth];
    struct json_iter it = json_iter(n->inputs);
    struct json key, v;

    if (!n->inputs.p)
        return raise_py(x, "KeyError", "'inputs'");
    if (cls->n_inputs && json_type(n->inputs) < JSON_STRING)
        return raise_type(x, "argument of type '", n->inputs, "' is not iterable");
    for (size_t i = 0; i < cls->n_inputs && json_type(n->inputs) != JSON_OBJECT; i++)
        if (seems_to_have(n->inputs, cls->inputs[i].name))
            return raise_py(x, "TypeError",
                            json_type(n->inputs) == JSON_ARRAY
                                ? "list indices must be integers or slices, not str"
                                : "string indices must be integers, not 'str'");
    *f = (struct frame){.node = node, .values = xcalloc(cls->n_inputs, sizeof(struct json))};
    while (json_next(&it, &key, &v)) {
        struct str_pool tmp = {0};
        size_t i = str_index_find(&cls->input_names, str_pool_get(&tmp, key));

        if (i != STR_NOWHERE)
            f->values[i] = v;
        str_pool_fini(&tmp);
    }
    k->nodes[node].state = V_OPEN;
    k->depth++;
    return 0;
}

static void missing(struct walk *k, const struct object_input *in, struct verrors *ve)
{
    struct jsonw w;

    /* Inputs that V3 classes grow as they need them do not appear under their own name. */
    if (!in->required || (!k->c.o->strict && str_starts(in->type_name, "COMFY_")) || !in->type.p)
        return;
    verror_begin(&k->c, ve, &w, "required_input_missing", "Required input is missing", in->name.p,
                 in->name.n);
    put_name(&w, in);
    verror_end(&k->c, ve, &w);
}

static void bad_link(struct walk *k, const struct object_input *in, struct json value, struct verrors *ve)
{
    struct jsonw w;

    verror_begin(&k->c, ve, &w, "bad_linked_input",
                 "Bad linked input, must be a length-2 list of [node_id, slot_index]", in->name.p,
                 in->name.n);
    put_name(&w, in);
    vput_config(&w, in);
    jsonw_kspan(&w, "received_value", value);
    verror_end(&k->c, ve, &w);
}

static void mismatch(struct walk *k, const struct object_input *in, struct json link, struct json received,
                     struct verrors *ve)
{
    struct buf d = BUF_INIT;
    struct jsonw w;

    buf_put(&d, in->name.p, in->name.n);
    buf_puts(&d, ", received_type(");
    py_put_str(&d, received);
    buf_puts(&d, ") mismatch input_type(");
    py_put_str(&d, in->type);
    buf_putc(&d, ')');
    verror_begin(&k->c, ve, &w, "return_type_mismatch", "Return type mismatch between linked nodes", d.data,
                 d.len);
    put_name(&w, in);
    vput_config(&w, in);
    jsonw_kspan(&w, "received_type", received);
    jsonw_kspan(&w, "linked_node", link);
    verror_end(&k->c, ve, &w);
    buf_free(&d);
}

/* prompt[o_id]: the node a link names, or what Python raises. */
static int link_source(struct walk *k, struct json id, size_t *source, struct raised *x)
{
    struct buf text = BUF_INIT;

    *source = graph_find_span(k->c.g, id);
    if (*source != STR_NOWHERE)
        return 0;
    if (json_type(id) == JSON_ARRAY || json_type(id) == JSON_OBJECT)
        return raise_type(x, "unhashable type: '", id, "'");
    py_put_repr(&text, id);
    raise_py(x, "KeyError", text.data);
    buf_free(&text);
    return -1;
}

/* RETURN_TYPES[slot]: none for a slot that a custom class may have without showing it. */
static int link_type(struct walk *k, const struct object_class *source, struct json slot, struct json *type,
                     struct raised *x)
{
    int64_t i = 0;
    int64_t n = (int64_t)source->n_outputs;
    bool huge = false;

    *type = (struct json){NULL, 0};
    if (json_type(slot) == JSON_BOOL) {
        i = json_is_true(slot);
    } else if (!json_is_int_literal(slot)) {
        return raise_type(x,
                          source->v3 ? "list indices must be integers or slices, not "
                                     : "tuple indices must be integers or slices, not ",
                          slot, "");
    } else {
        huge = !json_int(slot, &i);
    }
    if (huge)
        i = n;
    else if (i < 0 && i >= -n)
        i += n;
    if (i >= 0 && i < n) {
        *type = source->outputs[i];
        return 0;
    }
    if (!k->c.o->strict && !source->own)
        return 0;
    if (huge)
        return raise_py(x, "IndexError", "cannot fit 'int' into an index-sized integer");
    return raise_py(x, "IndexError", source->v3 ? "list index out of range" : "tuple index out of range");
}

/* ---- the walk ----------------------------------------------------------------------------------------- */

static void done(struct walk *k, size_t node, bool bad)
{
    struct vnode *v = &k->nodes[node];

    v->state = V_DONE;
    v->bad = v->bad || bad || v->errors.n > 0;
    if (v->errors.n > 0 && !v->listed) {
        v->listed = 1;
        k->bad[k->n_bad++] = node;
    }
}

static void close_frame(struct walk *k)
{
    free(k->stack[--k->depth].values);
}

/* An exception while validating the node a link leads to: it becomes that node's only error. */
static void inner_exception(struct walk *k, size_t node, const struct object_input *in, struct json link,
                            const struct raised *x)
{
    struct verrors *ve = &k->nodes[node].errors;
    struct jsonw w;

    buf_free(&ve->json);
    buf_free(&ve->lines);
    ve->n = 0;
    verror_begin(&k->c, ve, &w, "exception_during_inner_validation", "Exception when validating inner node",
                 x->text.data, x->text.len);
    put_name(&w, in);
    vput_config(&w, in);
    jsonw_key(&w, "exception_message");
    jsonw_strn(&w, x->text.data, x->text.len);
    jsonw_kstr(&w, "exception_type", x->type);
    jsonw_key(&w, "traceback");
    jsonw_arr(&w);
    jsonw_arr_end(&w);
    jsonw_kspan(&w, "linked_node", link);
    verror_end(&k->c, ve, &w);
    done(k, node, true);
}

static void outer_exception(struct walk *k, size_t node, const struct raised *x)
{
    struct verrors *ve = &k->nodes[node].errors;
    struct jsonw w;

    buf_free(&ve->json);
    buf_free(&ve->lines);
    ve->n = 0;
    verror_begin(&k->c, ve, &w, "exception_during_validation", "Exception when validating node", x->text.data,
                 x->text.len);
    jsonw_kstr(&w, "exception_type", x->type);
    jsonw_key(&w, "traceback");
    jsonw_arr(&w);
    jsonw_arr_end(&w);
    verror_end(&k->c, ve, &w);
    done(k, node, true);
}

static void put_cycle_path(struct walk *k, size_t from, struct buf *path, struct buf *ids)
{
    for (size_t i = from; i <= k->depth; i++) {
        const struct graph_node *n = graph_at(k->c.g, k->stack[i < k->depth ? i : from].node);

        if (i > from)
            buf_puts(path, " -> ");
        buf_put(path, n->id.p, n->id.n);
        buf_puts(path, " (");
        buf_put(path, n->class_type.p, n->class_type.n);
        buf_putc(path, ')');
        if (i == k->depth)
            break;
        buf_puts(ids, i > from ? ", " : "[");
        json_put(ids, n->key);
    }
    buf_putc(ids, ']');
}

/* A link back to a node that is still open: every node from there on stands on a cycle. */
static void cycle(struct walk *k, size_t node)
{
    struct buf path = BUF_INIT, ids = BUF_INIT;
    size_t from = k->depth;
    struct jsonw w;

    while (k->stack[--from].node != node)
        ;
    put_cycle_path(k, from, &path, &ids);
    for (size_t i = from; i < k->depth; i++) {
        struct vnode *v = &k->nodes[k->stack[i].node];

        v->bad = true;
        if (v->judged || k->c.o->dialect == VALIDATE_OLD || full(k))
            continue;
        v->judged = true;
        verror_begin(&k->c, &v->errors, &w, "dependency_cycle", "Dependency cycle detected", path.data,
                     path.len);
        jsonw_kspan(&w, "node_id", graph_at(k->c.g, k->stack[i].node)->key);
        jsonw_kspan(&w, "cycle_nodes", (struct json){ids.data, ids.len});
        verror_end(&k->c, &v->errors, &w);
    }
    buf_free(&path);
    buf_free(&ids);
}

/* One list value. 1: a node was opened below and must be done first; 0: this input is settled; -1: raised. */
static int check_link(struct walk *k, struct frame *f, const struct object_input *in, struct json value,
                      struct raised *x)
{
    struct vnode *me = &k->nodes[f->node];
    struct json type, id = json_at(value, 0), slot = json_at(value, 1);
    size_t source;

    if (json_count(value) != 2) {
        bad_link(k, in, value, &me->errors);
        return 0;
    }
    if (link_source(k, id, &source, x) < 0 || link_type(k, k->nodes[source].cls, slot, &type, x) < 0)
        return -1;
    if (type.p && (k->c.o->strict || me->cls->own) && !type_fits(type, in->type)) {
        mismatch(k, in, value, type, &me->errors);
        return 0;
    }
    if (k->nodes[source].state == V_OPEN) {
        cycle(k, source);
    } else if (k->nodes[source].state == V_NEW && k->c.o->depth && k->depth > k->c.o->depth) {
        done(k, source, true);
    } else if (k->nodes[source].state == V_NEW) {
        if (open_frame(k, source, x) == 0)
            return 1;
        inner_exception(k, source, in, value, x);
    }
    if (k->nodes[source].bad)
        me->bad = true;
    return 0;
}

static int check_custom(struct walk *k, size_t node, struct raised *x)
{
    struct vnode *v = &k->nodes[node];
    struct buf input = BUF_INIT, why = BUF_INIT, details = BUF_INIT;
    struct jsonw w;
    int verdict;

    if (!k->c.o->custom)
        return 0;
    verdict = k->c.o->custom(k->c.o->custom_arg, k->c.g, node, v->cls, &input, &why);
    if (verdict == 1 || verdict == 2) {
        buf_put(&details, buf_str(&input), input.len);
        if (verdict == 1) {
            buf_puts(&details, " - ");
            buf_put(&details, buf_str(&why), why.len);
        }
        verror_begin(&k->c, &v->errors, &w, "custom_validation_failed", "Custom validation failed for node",
                     buf_str(&details), details.len);
        jsonw_key(&w, "input_name");
        jsonw_strn(&w, buf_str(&input), input.len);
        verror_end(&k->c, &v->errors, &w);
    }
    if (verdict == 3) {
        raise_py(x, NULL, buf_str(&why));
        snprintf(x->custom, sizeof(x->custom), "%s", buf_str(&input));
        x->type = x->custom;
    }
    buf_free(&input);
    buf_free(&why);
    buf_free(&details);
    return verdict == 3 ? -1 : 0;
}

/* Go on with the topmost frame until it opens another or is done. -1: it raised. */
static int step(struct walk *k, struct raised *x)
{
    struct frame *f = &k->stack[k->depth - 1];
    struct vnode *v = &k->nodes[f->node];

    while (f->input < v->cls->n_inputs) {
        const struct object_input *in = &v->cls->inputs[f->input];
        struct json value = f->values[f->input];
        int below = 0;

        if (full(k)) { /* enough said: this prompt is bad anyway */
            v->bad = true;
            break;
        }
        if (!value.p)
            missing(k, in, &v->errors);
        else if (json_type(value) != JSON_ARRAY)
            validate_literal(&k->c, v->cls, in, value, &v->errors);
        else if ((below = check_link(k, f, in, value, x)) != 0)
            return below < 0 ? -1 : 0; /* below: this input is looked at again once the node below is done */
        f->input++;
    }
    if (check_custom(k, f->node, x) < 0)
        return -1;
    done(k, f->node, v->bad);
    close_frame(k);
    return 0;
}

/* Validate an output node and all it depends on. */
static void walk_output(struct walk *k, size_t output)
{
    struct raised x = {.text = BUF_INIT};

    if (k->nodes[output].state == V_NEW) {
        if (open_frame(k, output, &x) < 0)
            outer_exception(k, output, &x);
        while (k->depth > 0) {
            size_t node = k->stack[k->depth - 1].node;

            if (step(k, &x) == 0)
                continue;
            close_frame(k);
            if (k->depth > 0) {
                struct frame *above = &k->stack[k->depth - 1];

                inner_exception(k, node, &k->nodes[above->node].cls->inputs[above->input],
                                above->values[above->input], &x);
            } else {
                outer_exception(k, node, &x);
            }
        }
    }
    buf_free(&x.text);
}

/* ---- the verdict -------------------------------------------------------------------------------------- */

struct listing {
    struct buf *deps; /* per bad node, the inside of its dependent_outputs */
    size_t n_deps;
};

/* As ComfyUI does: an output that fails is put down to every node found bad so far. */
static void blame(struct walk *k, struct listing *l, size_t output)
{
    for (size_t i = 0; i < k->n_bad && l->n_deps < VALIDATE_DEPENDENTS_MAX; i++, l->n_deps++) {
        if (l->deps[i].len)
            buf_puts(&l->deps[i], ", ");
        json_put(&l->deps[i], graph_at(k->c.g, output)->key);
    }
}

static void put_node_errors(struct walk *k, struct listing *l, struct buf *out)
{
    struct jsonw w;

    jsonw_init(&w, out);
    jsonw_obj(&w);
    for (size_t i = 0; i < k->n_bad; i++) {
        const struct graph_node *n = graph_at(k->c.g, k->bad[i]);

        if (!l->deps[i].len)
            continue; /* found bad, but no output failed after it */
        jsonw_keyn(&w, n->id.p, n->id.n);
        jsonw_obj(&w);
        jsonw_key(&w, "errors");
        jsonw_arr(&w);
        buf_put(out, buf_str(&k->nodes[k->bad[i]].errors.json), k->nodes[k->bad[i]].errors.json.len);
        jsonw_arr_end(&w);
        jsonw_key(&w, "dependent_outputs");
        jsonw_arr(&w);
        buf_put(out, l->deps[i].data, l->deps[i].len);
        jsonw_arr_end(&w);
        jsonw_kspan(&w, "class_type", n->class_span);
        jsonw_obj_end(&w);
    }
    jsonw_obj_end(&w);
}

static void judge(struct walk *k, const size_t *outputs, size_t n)
{
    struct validate_result *r = k->c.r;
    struct listing l = {xcalloc(graph_size(k->c.g), sizeof(struct buf)), 0};
    struct buf details = BUF_INIT;

    for (size_t i = 0; i < n; i++) {
        const struct vnode *v = &k->nodes[outputs[i]];

        walk_output(k, outputs[i]);
        if (!v->bad) {
            r->outputs[r->n_outputs++] = outputs[i];
            continue;
        }
        blame(k, &l, outputs[i]);
        if (v->errors.n && details.len < VALIDATE_TEXT_MAX) {
            if (details.len)
                buf_putc(&details, '\n');
            buf_put(&details, v->errors.lines.data, v->errors.lines.len);
        }
    }
    put_node_errors(k, &l, &r->node_errors);
    if (r->n_outputs == 0) {
        validate_fail(r, "prompt_outputs_failed_validation", "Prompt outputs failed validation", "");
        free(r->error.details);
        r->error.details_n = details.len;
        r->error.details = buf_take(&details);
    }
    for (size_t i = 0; i < k->n_bad; i++)
        buf_free(&l.deps[i]);
    free(l.deps);
    buf_free(&details);
}

/* Look the classes up; the outputs wanted. False: a class is missing. */
static bool find_classes(struct walk *k, validate_class_cb *classes, void *arg, size_t *outputs, size_t *n)
{
    *n = 0;
    for (size_t i = 0; i < graph_size(k->c.g); i++) {
        const struct graph_node *node = graph_at(k->c.g, i);

        k->nodes[i].cls = node->class_type.p ? classes(arg, node->class_type) : NULL;
        if (!k->nodes[i].cls) {
            validate_missing_class(k->c.r, node, k->c.o->dialect);
            return false;
        }
        if (k->nodes[i].cls->output_node && prompt_targets_has(k->c.o->targets, node->id.p, node->id.n))
            outputs[(*n)++] = i;
    }
    return true;
}

void validate_prompt(const struct graph *g, validate_class_cb *classes, void *arg,
                     const struct validate_opts *opts, struct validate_result *r)
{
    size_t size = graph_size(g), n;
    struct walk k = {.c = {.g = g, .o = opts, .r = r}};
    size_t *outputs = xcalloc(size, sizeof(*outputs));

    *r = (struct validate_result){.ok = true, .outputs = xcalloc(size, sizeof(size_t))};
    k.nodes = xcalloc(size, sizeof(*k.nodes));
    k.stack = xcalloc(size, sizeof(*k.stack));
    k.bad = xcalloc(size, sizeof(*k.bad));
    if (find_classes(&k, classes, arg, outputs, &n)) {
        if (n == 0)
            validate_fail(r, "prompt_no_outputs", "Prompt has no outputs", "");
        else
            judge(&k, outputs, n);
    }
    if (!r->node_errors.len)
        buf_puts(&r->node_errors, "{}");
    for (size_t i = 0; i < size; i++) {
        buf_free(&k.nodes[i].errors.json);
        buf_free(&k.nodes[i].errors.lines);
    }
    free(k.nodes);
    free(k.stack);
    free(k.bad);
    free(outputs);
}

void validate_result_fini(struct validate_result *r)
{
    prompt_error_fini(&r->error);
    buf_free(&r->node_errors);
    edits_fini(&r->coerced);
    free(r->outputs);
    *r = (struct validate_result){0};
}

void validate_put_body(struct buf *out, const struct validate_result *r)
{
    prompt_error_put_body(out, &r->error, buf_str(&r->node_errors));
}

const struct object_class *validate_info_class(void *info, struct str name)
{
    return object_info_find(info, name);
}
