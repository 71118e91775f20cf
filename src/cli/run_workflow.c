#include "cli/run_workflow.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "comfy/graph.h"
#include "comfy/splice.h"

struct named {
    char *node, *input;
};

struct workflow {
    char *text;
    struct json root;
    struct graph *graph;
    struct named *named; /* by --set */
    size_t n_named;
};

/* What may hold a file's name that is the user's own: class and input. */
static const struct {
    const char *class_type, *input;
} loaders[] = {
    {"LoadImage", "image"},     {"LoadImageMask", "image"},       {"LoadAudio", "audio"},
    {"LoadVideo", "file"},      {"LoadLatent", "latent"},         {"Load3D", "model_file"},
    {"VHS_LoadVideo", "video"}, {"VHS_LoadVideoFFmpeg", "video"}, {"VHS_LoadAudioUpload", "audio"},
};

/* ---- reading ---- */

static bool in_interface_format(struct json root)
{
    return json_type(json_get(root, "nodes")) == JSON_ARRAY;
}

static int check_nodes(const struct graph *g, struct err *e)
{
    struct json prompt = json_get(graph_text(g), "prompt");

    if (graph_size(g) == 0)
        return err_set(e, EINVAL, "it holds no nodes");
    if (json_type(prompt) == JSON_OBJECT && json_type(json_get(prompt, "class_type")) == JSON_NONE)
        return err_set(e, EINVAL, "it is the body of a POST /prompt; give what stands under \"prompt\"");
    for (size_t i = 0; i < graph_size(g); i++) {
        const struct graph_node *n = graph_at(g, i);

        if (!n->class_type.p)
            return err_set(e, EINVAL, "node %.*s has no class_type: this is no workflow in API format",
                           (int)(n->id.n < 60 ? n->id.n : 60), n->id.p ? n->id.p : "");
    }
    return 0;
}

/* Takes text over. On a fault w is as it was. */
static int adopt(struct workflow *w, char *text, size_t len, struct err *e)
{
    struct json root;
    struct graph *g = NULL;

    if (json_check(text, len, NULL, &root, e) < 0) {
        err_wrap(e, "it is not JSON");
    } else if (in_interface_format(root)) {
        err_set(e, EINVAL,
                "it is in the format of the web interface; export it there with Workflow > Export (API)");
    } else if ((g = graph_new(root, SIZE_MAX, e)) != NULL && check_nodes(g, e) < 0) {
        graph_free(&g);
    }
    if (!g) {
        free(text);
        return -1;
    }
    graph_free(&w->graph);
    free(w->text);
    w->text = text;
    w->root = root;
    w->graph = g;
    return 0;
}

struct workflow *workflow_new(const char *text, size_t len, struct err *e)
{
    struct workflow *w = xcalloc(1, sizeof(*w));
    char *copy;

    if (len >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) { /* editors on Windows put it there */
        text += 3;
        len -= 3;
    }
    copy = xmalloc(len + 1);
    if (len)
        memcpy(copy, text, len);
    copy[len] = '\0';
    if (adopt(w, copy, len, e) < 0)
        workflow_free(&w);
    return w;
}

void workflow_free(struct workflow **w)
{
    if (!*w)
        return;
    for (size_t i = 0; i < (*w)->n_named; i++) {
        free((*w)->named[i].node);
        free((*w)->named[i].input);
    }
    free((*w)->named);
    graph_free(&(*w)->graph);
    free((*w)->text);
    free(*w);
    *w = NULL;
}

static int adopt_edits(struct workflow *w, struct edits *ed, struct err *e)
{
    struct buf b = BUF_INIT;
    size_t len;

    edits_put(ed, &b, w->root);
    edits_fini(ed);
    len = b.len;
    return adopt(w, buf_take(&b), len, e);
}

/* ---- --set ---- */

struct match {
    const struct graph_node *node;
    size_t count;   /* nodes that fit in the way `by` says */
    const char *by; /* "id", "title", "class" */
    char ids[80];   /* of the first three, for the message */
};

static void match_note(struct match *m, const struct graph_node *n)
{
    size_t at = strlen(m->ids);

    if (m->count++ == 0)
        m->node = n;
    if (m->count <= 3)
        snprintf(m->ids + at, sizeof(m->ids) - at, "%s%.*s", at ? ", " : "",
                 (int)(n->id.n < 20 ? n->id.n : 20), n->id.p);
}

static void match_node(const struct workflow *w, const char *s, size_t n, struct match *m)
{
    struct str want = {s, n};
    size_t i = graph_find(w->graph, want);

    *m = (struct match){.by = "id"};
    if (i != STR_NOWHERE) {
        match_note(m, graph_at(w->graph, i));
        return;
    }
    m->by = "title";
    for (i = 0; i < graph_size(w->graph); i++)
        if (graph_at(w->graph, i)->title.p && str_eq(graph_at(w->graph, i)->title, want))
            match_note(m, graph_at(w->graph, i));
    if (m->count)
        return;
    m->by = "class";
    for (i = 0; i < graph_size(w->graph); i++)
        if (str_eq(graph_at(w->graph, i)->class_type, want))
            match_note(m, graph_at(w->graph, i));
}

/* Titles and inputs may hold dots: the first dot that leaves a node and an input it has in front and behind,
 * else the first that leaves a node. */
static int find_target(const struct workflow *w, const char *arg, size_t n, struct match *m,
                       const char **input, struct err *e)
{
    const char *dot = memchr(arg, '.', n), *first = dot;
    struct match got;

    *m = (struct match){0};
    if (!dot || dot == arg || dot + 1 == arg + n)
        return err_set(e, EINVAL, "must be NODE.INPUT=VALUE");
    for (; dot; dot = memchr(dot + 1, '.', (size_t)(arg + n - dot - 1))) {
        match_node(w, arg, (size_t)(dot - arg), &got);
        if (got.count &&
            (!m->count ||
             (got.count == 1 && json_getn(got.node->inputs, dot + 1, (size_t)(arg + n - dot - 1)).p))) {
            bool better =
                got.count == 1 && json_getn(got.node->inputs, dot + 1, (size_t)(arg + n - dot - 1)).p != NULL;

            *m = got;
            *input = dot + 1;
            if (better)
                break;
        }
    }
    if (!m->count)
        return err_set(e, EINVAL, "no node has the id, title or class \"%.*s\"", (int)(first - arg), arg);
    if (m->count > 1)
        return err_set(e, EINVAL, "\"%.*s\" is the %s of %zu nodes (%s%s); give an id",
                       (int)(*input - 1 - arg), arg, m->by, m->count, m->ids, m->count > 3 ? ", ..." : "");
    return 0;
}

/* VALUE as JSON, appended. */
static void put_value(const char *value, struct buf *out)
{
    struct json v;
    bool parses = json_check(value, strlen(value), NULL, &v, NULL) == 0;

    if (parses && json_type(v) == JSON_NUMBER && strpbrk(v.p, "NI") && !strpbrk(v.p, "0123456789"))
        parses = false;
    if (parses)
        buf_put(out, v.p, v.n);
    else
        json_put_str(out, value);
}

static void remember(struct workflow *w, const struct graph_node *node, const char *input)
{
    w->named = xrealloc(w->named, (w->n_named + 1) * sizeof(w->named[0]));
    w->named[w->n_named++] = (struct named){xstrndup(node->id.p, node->id.n), xstrdup(input)};
}

int workflow_set(struct workflow *w, const char *arg, bool *added, struct err *e)
{
    const char *eq = strchr(arg, '='), *input = NULL;
    struct edits ed = EDITS_INIT;
    struct buf value = BUF_INIT;
    struct json old;
    struct match m;
    char *name;
    int got;

    *added = false;
    if (!eq)
        return err_set(e, EINVAL, "must be NODE.INPUT=VALUE");
    if (find_target(w, arg, (size_t)(eq - arg), &m, &input, e) < 0)
        return -1;
    if (json_type(m.node->inputs) != JSON_OBJECT)
        return err_set(e, EINVAL, "node %.*s has no inputs", (int)m.node->id.n, m.node->id.p);
    name = xstrndup(input, (size_t)(eq - input));
    put_value(eq + 1, &value);
    old = json_get(m.node->inputs, name);
    if (old.p)
        edits_replace(&ed, old, value.data, value.len);
    else
        edits_add_member(&ed, m.node->inputs, name, value.data, value.len);
    *added = !old.p;
    remember(w, m.node, name);
    got = adopt_edits(w, &ed, e);
    free(name);
    buf_free(&value);
    return got;
}

/* ---- names of files ---- */

size_t workflow_plain_name(const char *value)
{
    static const char *const own[] = {" [output]", " [temp]"};
    size_t n = strlen(value), input = strlen(" [input]");

    for (size_t i = 0; i < ARRAY_LEN(own); i++)
        if (n >= strlen(own[i]) && strcmp(value + n - strlen(own[i]), own[i]) == 0)
            return 0;
    return n > input && strcmp(value + n - input, " [input]") == 0 ? n - input : n;
}

static bool is_loader(const char *class_type, const char *input)
{
    for (size_t i = 0; i < ARRAY_LEN(loaders); i++)
        if (strcmp(loaders[i].class_type, class_type) == 0 && strcmp(loaders[i].input, input) == 0)
            return true;
    return false;
}

static void rename_inputs(const struct graph_node *n, struct edits *ed, workflow_rename_cb *cb, void *arg)
{
    struct json_iter it = json_iter(n->inputs);
    char *id = xstrndup(n->id.p, n->id.n), *class_type = xstrndup(n->class_type.p, n->class_type.n);
    struct json key, value;

    while (json_next(&it, &key, &value)) {
        char *input = json_strdup(key), *text = json_strdup(value);
        struct buf to = BUF_INIT;

        if (input && text) {
            struct workflow_string s = {id, class_type, input, text, is_loader(class_type, input)};

            if (cb(arg, &s, &to))
                edits_replace_strn(ed, value, buf_str(&to), to.len);
        }
        buf_free(&to);
        free(input);
        free(text);
    }
    free(id);
    free(class_type);
}

int workflow_rename(struct workflow *w, workflow_rename_cb *cb, void *arg, struct err *e)
{
    struct edits ed = EDITS_INIT;

    for (size_t i = 0; i < graph_size(w->graph); i++)
        if (json_type(graph_at(w->graph, i)->inputs) == JSON_OBJECT)
            rename_inputs(graph_at(w->graph, i), &ed, cb, arg);
    return adopt_edits(w, &ed, e);
}

/* ---- seeds ---- */

static bool is_named(const struct workflow *w, struct str node, const char *input)
{
    for (size_t i = 0; i < w->n_named; i++)
        if (str_is(node, w->named[i].node) && strcmp(w->named[i].input, input) == 0)
            return true;
    return false;
}

static void add_to_seed(struct edits *ed, struct json seed, unsigned long add)
{
    char text[32];
    uint64_t u;
    int64_t s;

    if (json_uint(seed, &u))
        snprintf(text, sizeof(text), "%llu", (unsigned long long)(u + add));
    else if (json_int(seed, &s))
        snprintf(text, sizeof(text), "%lld", (long long)(s + (int64_t)add));
    else
        return; /* beyond 64 bits no node takes it */
    edits_replace(ed, seed, text, strlen(text));
}

void workflow_put(const struct workflow *w, unsigned long add, struct buf *out)
{
    static const char *const seeds[] = {"seed", "noise_seed"};
    struct edits ed = EDITS_INIT;

    for (size_t i = 0; add && i < graph_size(w->graph); i++) {
        const struct graph_node *n = graph_at(w->graph, i);

        for (size_t k = 0; k < ARRAY_LEN(seeds); k++) {
            struct json v = json_get(n->inputs, seeds[k]);

            if (json_is_int_literal(v) && !is_named(w, n->id, seeds[k]))
                add_to_seed(&ed, v, add);
        }
    }
    edits_put(&ed, out, w->root);
    edits_fini(&ed);
}

/* ---- showing ---- */

size_t workflow_size(const struct workflow *w)
{
    return graph_size(w->graph);
}

bool workflow_has_class(const struct workflow *w, const char *node, const char *class_type)
{
    for (size_t i = 0; i < graph_size(w->graph); i++)
        if ((!node || str_is(graph_at(w->graph, i)->id, node)) &&
            str_is(graph_at(w->graph, i)->class_type, class_type))
            return true;
    return false;
}

void workflow_put_title(const struct workflow *w, const char *node, struct buf *out)
{
    size_t i = graph_find(w->graph, (struct str){node, strlen(node)});
    const struct graph_node *n = i == STR_NOWHERE ? NULL : graph_at(w->graph, i);

    if (n && n->title.n)
        buf_put(out, n->title.p, n->title.n);
    else if (n && n->class_type.n)
        buf_put(out, n->class_type.p, n->class_type.n);
    else
        buf_puts(out, node);
}
