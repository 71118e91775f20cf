#include "sim/check.h"

#include <stdlib.h>

#include "comfy/pyvalue.h"
#include "comfy/validate.h"

#define DEPTH_MAX 300 /* Python's recursion ends deeper; no real graph comes near */

struct checker {
    const struct files *files;
    struct object_info *loaders; /* those of the graph's classes whose lists of files are read anew */
};

static int raised(struct buf *type, const char *name)
{
    buf_clear(type);
    buf_puts(type, name);
    return 3;
}

static int check_file(const struct checker *k, struct json v, struct buf *input, struct buf *why)
{
    struct buf name = BUF_INIT;
    int verdict = 0;

    if (json_type(v) != JSON_STRING) { /* a link has no value yet: None */
        buf_printf(why, "'%s' object has no attribute 'endswith'",
                   graph_link(v, NULL, NULL) ? "NoneType" : py_type_name(v));
        return raised(input, "AttributeError");
    }
    json_str(v, &name);
    if (!files_exists(k->files, buf_str(&name))) {
        buf_printf(why, "Invalid image file: %s", buf_str(&name));
        verdict = 1;
    }
    buf_free(&name);
    return verdict;
}

/* What the test node RaisingValidate says of its value. */
static int check_raising(struct json v, struct buf *input, struct buf *why)
{
    struct buf text = BUF_INIT;
    bool whole = json_type(v) < JSON_ARRAY && py_int(v, &text, NULL);
    int verdict = whole && text.len == 1 && *text.data >= '1' && *text.data <= '3' ? *text.data - '0' : 0;

    buf_free(&text);
    if (verdict == 1)
        buf_puts(why, "value must not be 1");
    if (verdict != 3)
        return verdict;
    buf_puts(why, "validator blew up");
    return raised(input, "RuntimeError");
}

/* VALIDATE_INPUTS of the few classes that have one. */
static int check_own(void *arg, const struct graph *g, size_t node, const struct object_class *c,
                     struct buf *input, struct buf *why)
{
    const struct node_class *cls = node_find(c->name);
    struct json v, inner;

    if (cls->check == CHECK_NONE)
        return 0;
    v = json_get(graph_at(g, node)->inputs, cls->check_input);
    inner = json_get(v, "__value__");
    buf_puts(input, cls->check_input);
    if (!v.p) {
        buf_printf(why, "%s.VALIDATE_INPUTS() missing 1 required positional argument: '%s'",
                   str_is(c->name, "LoadImageOutput") ? "LoadImage" : cls->name, cls->check_input);
        return raised(input, "TypeError");
    }
    v = inner.p ? inner : v;
    return cls->check == CHECK_FILE ? check_file(arg, v, input, why) : check_raising(v, input, why);
}

static const struct object_class *class_of(void *arg, struct str name)
{
    const struct checker *k = arg;
    const struct node_class *c = node_find(name);

    return !c ? NULL : c->lists_files ? object_info_find(k->loaders, name) : c->info;
}

static struct object_info *read_loaders(const struct graph *g, const struct files *f, const struct models *m)
{
    struct object_info *info;
    struct buf b = BUF_INIT;

    buf_putc(&b, '{');
    for (size_t i = 0; i < graph_size(g); i++) {
        const struct node_class *c = node_find(graph_at(g, i)->class_type);

        if (!c || !c->lists_files)
            continue;
        if (b.len > 1)
            buf_puts(&b, ", ");
        node_put_info(&b, c, f, m);
    }
    buf_putc(&b, '}');
    info = object_info_new(b.data, b.len, NULL, 0, NULL);
    buf_free(&b);
    return info;
}

/* Does Python raise while it looks the classes up? After the first that it does not find it looks no further. */
static bool raises(const struct graph *g)
{
    for (size_t i = 0; i < graph_size(g); i++) {
        enum json_type t = json_type(graph_at(g, i)->class_span);

        if (t == JSON_ARRAY || t == JSON_OBJECT)
            return true; /* unhashable */
        if (!node_find(graph_at(g, i)->class_type))
            break;
    }
    return false;
}

static void take_result(const struct graph *g, struct validate_result *r, struct check *out)
{
    struct buf text = BUF_INIT;

    edits_put(&r->coerced, &text, graph_text(g));
    out->graph = val_parse(buf_str(&text), text.len, NULL);
    out->outputs = val_arr();
    for (size_t i = 0; i < r->n_outputs; i++) {
        struct str id = graph_at(g, r->outputs[i])->id;

        val_push(out->outputs, val_strn(id.p, id.n));
    }
    out->node_errors = r->node_errors;
    r->node_errors = (struct buf)BUF_INIT;
    buf_free(&text);
}

enum check_result check_prompt(struct json prompt, struct json targets, const struct files *f,
                               const struct models *m, struct check *out)
{
    enum json_type t = json_type(targets);
    enum check_result verdict;
    struct checker k = {.files = f};
    struct validate_opts o = {.dialect = VALIDATE_OLD,
                              .strict = true,
                              .depth = DEPTH_MAX,
                              .targets = targets,
                              .custom = check_own,
                              .custom_arg = &k,
                              .coerce = COERCE_ALL};
    struct validate_result r;
    struct graph *g;

    *out = (struct check){0};
    /* an empty list or string iterates to nothing; anything else has no nodes to index */
    if ((json_type(prompt) == JSON_ARRAY || json_type(prompt) == JSON_STRING) && !json_truthy(prompt))
        prompt = (struct json){"{}", 2};
    if (t == JSON_BOOL || t == JSON_NUMBER)
        return CHECK_CRASH; /* `in` a number; only reached if there is an output node, near enough */
    g = graph_new(prompt, 0, NULL);
    if (!g || raises(g)) {
        graph_free(&g);
        return CHECK_CRASH;
    }
    k.loaders = read_loaders(g, f, m);
    validate_prompt(g, class_of, &k, &o, &r);
    if (r.ok)
        take_result(g, &r, out);
    else
        validate_put_body(&out->refusal, &r);
    verdict = r.ok ? CHECK_GOOD : CHECK_BAD;
    validate_result_fini(&r);
    object_info_unref(k.loaders);
    graph_free(&g);
    return verdict;
}

void check_fini(struct check *c)
{
    val_free(c->graph);
    val_free(c->outputs);
    buf_free(&c->node_errors);
    buf_free(&c->refusal);
    *c = (struct check){0};
}
