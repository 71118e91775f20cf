#include "sim/check.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NODES_MAX 20000 /* the simulator's own bound: a 500 beyond it */
#define DEPTH_MAX 300   /* Python's recursion ends deeper; no real graph comes near */

/* A Python exception on its way up. */
struct raised {
    const char *type;
    char *text; /* str(ex) */
    bool deep;  /* RecursionError: reported without an error of its own */
};

struct verdict {
    char *id;
    bool good, open; /* open: being checked right now */
    struct val *errors;
    const struct node_class *cls;
    UT_hash_handle hh;
};

struct checker {
    struct val *graph;
    const struct files *files;
    const struct models *models;
    struct verdict *seen; /* in order of ending */
    unsigned depth;
};

static struct val *problem(const char *type, const char *message, const char *details, struct val *extra)
{
    struct val *e = val_obj();

    val_set(e, "type", val_str(type));
    val_set(e, "message", val_str(message));
    val_set(e, "details", val_str(details));
    val_set(e, "extra_info", extra ? extra : val_obj());
    return e;
}

static int raise_it(struct raised *r, const char *type, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    if (vasprintf(&r->text, fmt, ap) < 0)
        r->text = xstrdup("");
    va_end(ap);
    r->type = type;
    return -1;
}

static char *repr(const struct val *v)
{
    struct buf b = BUF_INIT;

    val_put_repr(&b, v);
    return buf_take(&b);
}

static char *str(const struct val *v)
{
    struct buf b = BUF_INIT;

    val_put_str(&b, v);
    return buf_take(&b);
}

static const char *type_name(const struct val *v)
{
    static const char *const names[] = {"NoneType", "bool", "int", "float", "str", "list", "dict"};

    return names[v->type];
}

/* [type, {options}] as info of an error: ComfyUI always shows both. */
static struct val *config_of(const struct val *decl)
{
    struct val *c = val_arr();

    val_push(c, val_copy(decl->item[0]));
    val_push(c, decl->len > 1 ? val_copy(decl->item[1]) : val_obj());
    return c;
}

static struct val *about(const char *input, const struct val *decl)
{
    struct val *x = val_obj();

    val_set(x, "input_name", val_str(input));
    if (decl)
        val_set(x, "input_config", config_of(decl));
    return x;
}

/* --- conversions: int(), float(), str(), bool() --- */

/* The digits of a decimal integer in a string, as int() takes it: spaces around, a sign, underscores between.
 */
static char *digits_of(const char *s)
{
    struct buf b = BUF_INIT;
    bool neg = false, last = false;

    while (isspace((unsigned char)*s))
        s++;
    if (*s == '+' || *s == '-')
        neg = *s++ == '-';
    for (; isdigit((unsigned char)*s) || (*s == '_' && last); s++) {
        last = *s != '_';
        if (last && !(b.len == 0 && *s == '0' && isdigit((unsigned char)s[1])))
            buf_putc(&b, *s);
    }
    while (isspace((unsigned char)*s))
        s++;
    if (*s || !last) {
        buf_free(&b);
        return NULL;
    }
    if (neg && strcmp(buf_str(&b), "0") != 0) {
        char *t = xasprintf("-%s", buf_str(&b));

        buf_free(&b);
        return t;
    }
    return buf_take(&b);
}

static struct val *int_from_text(char *digits)
{
    struct val *v = val_strn(digits, strlen(digits));

    v->type = VAL_INT;
    free(digits);
    return v;
}

static struct val *to_int(const struct val *v, struct raised *r)
{
    char *t;

    switch (v->type) {
    case VAL_INT: return val_copy(v);
    case VAL_BOOL: return val_int(v->flag);
    case VAL_FLOAT:
        if (isnan(v->num))
            raise_it(r, "ValueError", "cannot convert float NaN to integer");
        else if (isinf(v->num))
            raise_it(r, "OverflowError", "cannot convert float infinity to integer");
        else
            return int_from_text(xasprintf("%.0f", trunc(v->num) == 0 ? 0.0 : trunc(v->num)));
        return NULL;
    case VAL_STR:
        t = digits_of(v->text);
        if (t)
            return int_from_text(t);
        t = repr(v);
        raise_it(r, "ValueError", "invalid literal for int() with base 10: %s", t);
        free(t);
        return NULL;
    case VAL_NULL:
    case VAL_ARR:
    case VAL_OBJ: break;
    }
    raise_it(r, "TypeError",
             "int() argument must be a string, a bytes-like object or a real number, not '%s'", type_name(v));
    return NULL;
}

static struct val *to_float(const struct val *v, struct raised *r)
{
    double d;
    char *end, *t;

    if (val_number(v, &d))
        return val_float(d);
    if (v->type == VAL_STR) {
        d = strtod(v->text, &end);
        while (isspace((unsigned char)*end))
            end++;
        if (end > v->text && *end == '\0' && !strchr(v->text, 'x') && !strchr(v->text, 'X'))
            return val_float(d);
        t = repr(v);
        raise_it(r, "ValueError", "could not convert string to float: %s", t);
        free(t);
        return NULL;
    }
    raise_it(r, "TypeError", "float() argument must be a string or a real number, not '%s'", type_name(v));
    return NULL;
}

static struct val *convert(const struct val *v, const char *type, struct raised *r)
{
    char *s;
    struct val *out;

    if (strcmp(type, "INT") == 0)
        return to_int(v, r);
    if (strcmp(type, "FLOAT") == 0)
        return to_float(v, r);
    if (strcmp(type, "BOOLEAN") == 0)
        return val_bool(val_truthy(v));
    if (strcmp(type, "STRING") == 0 && v->type != VAL_STR) {
        s = str(v);
        out = val_str(s);
        free(s);
        return out;
    }
    return val_copy(v);
}

/* <0, 0, >0; exact for integers of any length. 2: not comparable. */
static int compare(const struct val *a, const struct val *b)
{
    double x, y;

    if (a->type == VAL_INT && b->type == VAL_INT) {
        bool na = a->text[0] == '-', nb = b->text[0] == '-';
        int c;

        if (na != nb)
            return na ? -1 : 1;
        c = a->len != b->len ? (a->len < b->len ? -1 : 1) : strcmp(a->text, b->text);
        c = c < 0 ? -1 : c > 0;
        return na ? -c : c;
    }
    if (!val_number(a, &x) || !val_number(b, &y))
        return 2;
    return x < y ? -1 : x > y ? 1 : x == y ? 0 : 2;
}

/* --- one input --- */

static bool type_matches(const struct val *got, const struct val *want)
{
    const char *w;

    if (val_equal(got, want) || val_is_str(got, "*") || val_is_str(want, "*"))
        return true;
    if (got->type != VAL_STR || want->type != VAL_STR)
        return false;
    for (w = want->text; *w;) { /* a union: "A,B" */
        size_t n = strcspn(w, ","), skip = strspn(w, " ");

        if (n > skip && strlen(got->text) == n - skip && memcmp(got->text, w + skip, n - skip) == 0)
            return true;
        w += n + (w[n] == ',');
    }
    return false;
}

static int check_node(struct checker *c, const char *id, bool *good, struct val **errors, struct raised *r);

/* The type the link brings; NULL after raising what Python would. */
static const struct val *linked_type(struct checker *c, const struct val *link, const char **id,
                                     struct raised *r)
{
    const struct val *key = link->item[0], *slot = link->item[1], *node, *type;
    const struct node_class *cls;
    int64_t i = 0;
    char *s;

    if (key->type == VAL_ARR || key->type == VAL_OBJ) {
        raise_it(r, "TypeError", "unhashable type: '%s'", type_name(key));
        return NULL;
    }
    node = key->type == VAL_STR ? val_getn(c->graph, key->text, key->len) : NULL;
    if (!node) {
        s = repr(key);
        raise_it(r, "KeyError", "%s", s);
        free(s);
        return NULL;
    }
    type = val_get(node, "class_type");
    cls = node_find(type->text); /* all nodes' classes have been looked up */
    if (slot->type != VAL_INT && slot->type != VAL_BOOL) {
        raise_it(r, "TypeError", "tuple indices must be integers or slices, not %s", type_name(slot));
        return NULL;
    }
    if (!val_int64(slot, &i) || i >= (int64_t)cls->output->len || i < -(int64_t)cls->output->len) {
        raise_it(r, "IndexError", "tuple index out of range");
        return NULL;
    }
    *id = key->text;
    return cls->output->item[i < 0 ? i + (int64_t)cls->output->len : i];
}

static struct verdict *verdict_set(struct checker *c, const char *id, bool good, struct val *errors)
{
    struct verdict *v;

    HASH_FIND_STR(c->seen, id, v);
    if (!v) {
        v = xcalloc(1, sizeof(*v));
        v->id = xstrdup(id);
        v->cls = node_find(val_get(val_get(c->graph, id), "class_type")->text);
        HASH_ADD_KEYPTR(hh, c->seen, v->id, strlen(v->id), v);
    }
    val_free(v->errors);
    v->good = good;
    v->open = false;
    v->errors = errors;
    return v;
}

/* A list where a link is expected. 0, or -1 with r; *good false if what is behind it is bad. */
static int check_link(struct checker *c, const char *input, const struct val *decl, const struct val *link,
                      struct val *errors, bool *good, struct raised *r)
{
    const struct val *got, *want = decl->item[0];
    struct raised inner = {0};
    struct val *x, *below = NULL;
    const char *id;
    bool below_good = false;
    char *details, *a, *b;

    if (link->len != 2) {
        x = about(input, decl);
        val_set(x, "received_value", val_copy(link));
        val_push(errors,
                 problem("bad_linked_input",
                         "Bad linked input, must be a length-2 list of [node_id, slot_index]", input, x));
        return 0;
    }
    got = linked_type(c, link, &id, r);
    if (!got)
        return -1;
    if (!type_matches(got, want)) {
        a = str(got);
        b = str(want);
        details = xasprintf("%s, received_type(%s) mismatch input_type(%s)", input, a, b);
        x = about(input, decl);
        val_set(x, "received_type", val_copy(got));
        val_set(x, "linked_node", val_copy(link));
        val_push(errors,
                 problem("return_type_mismatch", "Return type mismatch between linked nodes", details, x));
        free(details);
        free(a);
        free(b);
        return 0;
    }
    if (check_node(c, id, &below_good, &below, &inner) == 0) {
        *good = *good && below_good;
        return 0;
    }
    *good = false;
    below = val_arr();
    if (!inner.deep) {
        x = about(input, decl);
        val_set(x, "exception_message", val_str(inner.text));
        val_set(x, "exception_type", val_str(inner.type));
        val_set(x, "traceback", val_arr());
        val_set(x, "linked_node", val_copy(link));
        val_push(below, problem("exception_during_inner_validation", "Exception when validating inner node",
                                inner.text, x));
    }
    verdict_set(c, id, false, below);
    free(inner.text);
    return 0;
}

static bool check_limit(const char *input, const struct val *decl, const struct val *v, const char *key,
                        struct val *errors)
{
    const struct val *limit = decl->len > 1 ? val_get(decl->item[1], key) : NULL;
    bool low = key[1] == 'i';
    char *a, *b, *message;
    struct val *x;
    int cmp;

    if (!limit)
        return true;
    cmp = compare(v, limit);
    if (cmp == 2 || (low ? cmp >= 0 : cmp <= 0))
        return true;
    a = str(v);
    b = str(limit);
    message = xasprintf(low ? "Value %s smaller than min of %s" : "Value %s bigger than max of %s", a, b);
    x = about(input, decl);
    val_set(x, "received_value", val_copy(v));
    val_push(errors, problem(low ? "value_smaller_than_min" : "value_bigger_than_max", message, input, x));
    free(a);
    free(b);
    free(message);
    return false;
}

static void check_combo(struct checker *c, const struct node_class *cls, const char *input,
                        const struct val *decl, const struct val *v, struct val *errors)
{
    struct val *files = node_file_list(cls, input, c->files, c->models), *x;
    const struct val *options = files ? files : decl->item[0];
    char *shown = NULL, *mine, *details;
    bool found = false;

    for (size_t i = 0; i < options->len && !found; i++)
        found = val_equal(options->item[i], v);
    if (!found) {
        x = val_obj();
        val_set(x, "input_name", val_str(input));
        if (options->len > 20) {
            shown = xasprintf("(list of length %zu)", options->len);
            val_set(x, "input_config", val_null());
        } else {
            struct val *config = config_of(decl);

            shown = repr(options);
            val_become(config->item[0], val_copy(options));
            val_set(x, "input_config", config);
        }
        val_set(x, "received_value", val_copy(v));
        mine = str(v);
        details = xasprintf("%s: '%s' not in %s", input, mine, shown);
        val_push(errors, problem("value_not_in_list", "Value not in list", details, x));
        free(shown);
        free(mine);
        free(details);
    }
    val_free(files);
}

/* A plain value: converted in place, then held against min, max and list. */
static void check_value(struct checker *c, const struct node_class *cls, struct val *inputs,
                        const char *input, const struct val *decl, struct val *v, struct val *errors)
{
    const struct val *type = decl->item[0];
    struct raised r = {0};

    if (v->type == VAL_OBJ && val_get(v, "__value__")) {
        struct val *inside = val_copy(val_get(v, "__value__"));

        val_set(inputs, input, inside);
        v = inside;
    }
    if (type->type == VAL_STR) {
        struct val *made = convert(v, type->text, &r), *x;
        char *message, *details, *shown;

        if (!made) {
            shown = str(v);
            message = xasprintf("Failed to convert an input value to a %s value", type->text);
            details = xasprintf("%s, %s, %s", input, shown, r.text);
            x = about(input, decl);
            val_set(x, "received_value", val_copy(v));
            val_set(x, "exception_message", val_str(r.text));
            val_push(errors, problem("invalid_input_type", message, details, x));
            free(shown);
            free(message);
            free(details);
            free(r.text);
            return;
        }
        val_set(inputs, input, made);
        v = made;
    }
    if (cls->check != CHECK_NONE && strcmp(cls->check_input, input) == 0)
        return; /* its own VALIDATE_INPUTS looks at it */
    if (check_limit(input, decl, v, "min", errors) && check_limit(input, decl, v, "max", errors) &&
        type->type == VAL_ARR)
        check_combo(c, cls, input, decl, v, errors);
}

/* VALIDATE_INPUTS of the few classes that have one. */
static int check_own(struct checker *c, const struct node_class *cls, const struct val *inputs,
                     struct val *errors, struct raised *r)
{
    const struct val *v = val_get(inputs, cls->check_input);
    char *details = NULL, *s;
    int64_t i = 0;

    if (!v || v->type == VAL_ARR)
        return 0;
    if (cls->check == CHECK_FILE) {
        s = str(v);
        if (v->type != VAL_STR || !files_exists(c->files, s))
            details = xasprintf("%s - Invalid image file: %s", cls->check_input, s);
        free(s);
    } else if (val_int64(v, &i)) {
        if (i == 3)
            return raise_it(r, "RuntimeError", "validator blew up");
        if (i == 1 || i == 2)
            details = xasprintf("%s%s", cls->check_input, i == 1 ? " - value must not be 1" : "");
    }
    if (details) {
        struct val *x = val_obj();

        val_set(x, "input_name", val_str(cls->check_input));
        val_push(errors,
                 problem("custom_validation_failed", "Custom validation failed for node", details, x));
        free(details);
    }
    return 0;
}

static int check_inputs(struct checker *c, const struct node_class *cls, struct val *inputs,
                        const struct val *declared, bool required, struct val *errors, bool *good,
                        struct raised *r)
{
    val_each(d, declared)
    {
        struct val *v = val_get(inputs, d->key), *x;

        if (!v && required) {
            x = val_obj();
            val_set(x, "input_name", val_str(d->key));
            val_push(errors, problem("required_input_missing", "Required input is missing", d->key, x));
        }
        if (!v)
            continue;
        if (v->type == VAL_ARR) {
            if (check_link(c, d->key, d->value, v, errors, good, r) < 0)
                return -1;
        } else {
            check_value(c, cls, inputs, d->key, d->value, v, errors);
        }
    }
    return 0;
}

/* 0: a verdict, remembered too (errors borrowed); -1: raised. */
static int check_node(struct checker *c, const char *id, bool *good, struct val **errors, struct raised *r)
{
    struct val *node = val_get(c->graph, id), *inputs = val_get(node, "inputs"), *found;
    const struct node_class *cls = node_find(val_get(node, "class_type")->text);
    struct verdict *v;
    bool ok = true;
    int rc;

    HASH_FIND_STR(c->seen, id, v);
    if (v && !v->open) {
        *good = v->good;
        *errors = v->errors;
        return 0;
    }
    if (v || c->depth > DEPTH_MAX) { /* a cycle, or as good as one */
        r->deep = true;
        return raise_it(r, "RecursionError", "maximum recursion depth exceeded");
    }
    if (!inputs)
        return raise_it(r, "KeyError", "'inputs'");
    if (inputs->type != VAL_OBJ)
        return raise_it(r, "TypeError", "argument of type '%s' is not iterable", type_name(inputs));
    c->depth++;
    v = xcalloc(1, sizeof(*v));
    v->id = xstrdup(id);
    v->cls = cls;
    v->open = true;
    HASH_ADD_KEYPTR(hh, c->seen, v->id, strlen(v->id), v);
    found = val_arr();
    rc = check_inputs(c, cls, inputs, cls->required, true, found, &ok, r);
    if (rc == 0)
        rc = check_inputs(c, cls, inputs, cls->optional, false, found, &ok, r);
    if (rc == 0 && cls->check != CHECK_NONE)
        rc = check_own(c, cls, inputs, found, r);
    c->depth--;
    HASH_DEL(c->seen, v);
    free(v->id);
    val_free(v->errors);
    free(v);
    if (rc < 0) {
        val_free(found);
        return -1;
    }
    v = verdict_set(c, id, ok && found->len == 0, found);
    *good = v->good;
    *errors = v->errors;
    return 0;
}

/* --- the whole prompt --- */

static enum check_result bad(struct check *out, struct val *error)
{
    out->error = error;
    return CHECK_BAD;
}

/* Every node has a class that is here; outputs are gathered. */
static enum check_result check_classes(const struct val *graph, const struct val *targets,
                                       struct val *outputs, struct check *out)
{
    val_each(m, graph)
    {
        const struct val *type = val_get(m->value, "class_type");
        const struct node_class *cls;
        char *details, *message, *s;

        if (m->value->type != VAL_OBJ)
            return CHECK_CRASH;
        if (type && (type->type == VAL_ARR || type->type == VAL_OBJ))
            return CHECK_CRASH; /* unhashable */
        cls = type && type->type == VAL_STR ? node_find(type->text) : NULL;
        if (!cls) {
            s = type ? str(type) : NULL;
            message = type ? xasprintf("Cannot execute because node %s does not exist.", s)
                           : xstrdup("Cannot execute because a node is missing the class_type property.");
            details = xasprintf("Node ID '#%s'", m->key);
            out->error = problem("invalid_prompt", message, details, NULL);
            free(s);
            free(message);
            free(details);
            return CHECK_BAD;
        }
        if (!cls->output_node)
            continue;
        if (targets && targets->type != VAL_NULL) {
            bool in = targets->type == VAL_OBJ ? val_get(targets, m->key) != NULL
                                               : targets->type == VAL_STR && strstr(targets->text, m->key);

            for (size_t i = 0; targets->type == VAL_ARR && i < targets->len && !in; i++)
                in = val_is_str(targets->item[i], m->key);
            if (!in)
                continue;
        }
        val_push(outputs, val_str(m->key));
    }
    return CHECK_GOOD;
}

static void report(struct checker *c, const char *output, struct val *node_errors)
{
    for (struct verdict *v = c->seen; v; v = v->hh.next) {
        struct val *e = val_get(node_errors, v->id);

        if (v->good || !v->errors || v->errors->len == 0)
            continue;
        if (!e) {
            e = val_obj();
            val_set(e, "errors", val_copy(v->errors));
            val_set(e, "dependent_outputs", val_arr());
            val_set(e, "class_type", val_str(v->cls->name));
            val_set(node_errors, v->id, e);
        }
        val_push(val_get(e, "dependent_outputs"), val_str(output));
    }
}

static void put_details(struct buf *b, const struct val *errors)
{
    for (size_t i = 0; errors && i < errors->len; i++)
        buf_printf(b, "%s%s: %s", b->len ? "\n" : "", val_get(errors->item[i], "message")->text,
                   val_get(errors->item[i], "details")->text);
}

/* One output and all behind it. */
static bool check_output(struct checker *c, const char *id, struct val *node_errors, struct buf *details)
{
    struct val *errors = NULL;
    struct raised r = {0};
    bool good = false;

    if (check_node(c, id, &good, &errors, &r) < 0) {
        struct val *x = val_obj();

        val_set(x, "exception_type", val_str(r.type));
        val_set(x, "traceback", val_arr());
        errors = val_arr();
        val_push(errors, problem("exception_during_validation", "Exception when validating node", r.text, x));
        verdict_set(c, id, false, errors);
        free(r.text);
    }
    if (!good) {
        put_details(details, errors);
        report(c, id, node_errors);
    }
    return good;
}

enum check_result check_prompt(struct val *graph, const struct val *targets, const struct files *f,
                               const struct models *m, struct check *out)
{
    struct checker c = {.graph = graph, .files = f, .models = m};
    struct val *candidates = val_arr();
    struct buf details = BUF_INIT;
    struct verdict *v, *next;
    enum check_result res;

    *out = (struct check){.outputs = val_arr(), .errors = val_obj()};
    /* an empty list or string iterates to nothing; anything else has no nodes to index */
    if (graph->type != VAL_OBJ && !((graph->type == VAL_ARR || graph->type == VAL_STR) && graph->len == 0))
        res = CHECK_CRASH;
    else if (val_count(graph) > NODES_MAX)
        res = CHECK_CRASH;
    else if (targets && targets->type != VAL_NULL && targets->type < VAL_STR)
        res = CHECK_CRASH; /* `in` a number; only reached if there is an output node, near enough */
    else
        res = check_classes(graph, targets, candidates, out);
    if (res == CHECK_GOOD && candidates->len == 0)
        res = bad(out, problem("prompt_no_outputs", "Prompt has no outputs", "", NULL));
    if (res == CHECK_GOOD) {
        for (size_t i = 0; i < candidates->len; i++)
            if (check_output(&c, candidates->item[i]->text, out->errors, &details))
                val_push(out->outputs, val_copy(candidates->item[i]));
        if (out->outputs->len == 0)
            res = bad(out, problem("prompt_outputs_failed_validation", "Prompt outputs failed validation",
                                   buf_str(&details), NULL));
    }
    HASH_ITER(hh, c.seen, v, next) {
        HASH_DEL(c.seen, v);
        val_free(v->errors);
        free(v->id);
        free(v);
    }
    val_free(candidates);
    buf_free(&details);
    return res;
}

void check_fini(struct check *c)
{
    val_free(c->outputs);
    val_free(c->error);
    val_free(c->errors);
    *c = (struct check){0};
}
