#include "sim/exec.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>

#include "base/log.h"
#include "sim/exec_events.h"
#include "sim/exec_graph.h"

enum phase { PHASE_IDLE, PHASE_SLOW, PHASE_PICK, PHASE_NODE, PHASE_LAG, PHASE_HANG };

struct cached {
    char sig[65 + 1];
    struct data *out[NODE_MAX_OUT];
    size_t outs;
    struct val *ui; /* or NULL */
    unsigned seen;  /* the run that last had this node in its graph */
    UT_hash_handle hh;
};

/* ComfyUI keeps one object per (node id, class) over runs; PreviewImage chooses its name in its constructor.
 */
struct object {
    char *key;
    char temp_prefix[16];
    unsigned seen;
    UT_hash_handle hh;
};

struct exec {
    struct exec_conf conf;
    enum phase phase;
    struct cached *cache;
    struct object *objects;
    unsigned runs;
    bool interrupted;
    bool success; /* of the node executed last: ComfyUI's flag, which outlives a prompt */
    uint64_t unhashable;
    /* the prompt that runs */
    const struct prompt *prompt;
    struct xgraph graph;
    struct val *shown; /* the graph as nodes see it: with is_changed */
    struct xevents ev;
    struct val *outputs, *meta; /* history: node id -> ui, in order of ending */
    struct val *executed;       /* ids */
    enum exec_fault fault;
    int64_t lag_ms;
    bool heavy_only; /* the fault waits for a heavy node */
    struct xnode *current;
    struct noderun run;
    bool working;
};

static bool tick(void *arg, struct noderun *r, int64_t value, int64_t max, const char *mime,
                 const struct buf *preview);
static void text(void *arg, struct noderun *r, const char *s);
static void event(void *arg, const char *type, const struct val *data);

static const struct node_host node_host_template = {.tick = tick, .text = text, .event = event};

struct exec_full { /* the host table needs a pointer back */
    struct exec x;
    struct node_host host;
};

struct exec *exec_new(const struct exec_conf *c)
{
    struct exec_full *f = xcalloc(1, sizeof(*f));

    f->x.conf = *c;
    f->x.success = true;
    f->host = node_host_template;
    f->host.arg = &f->x;
    return &f->x;
}

static void cached_free(struct exec *x, struct cached *c)
{
    HASH_DEL(x->cache, c);
    for (size_t i = 0; i < c->outs; i++)
        data_unref(c->out[i]);
    val_free(c->ui);
    free(c);
}

void exec_drop_cache(struct exec *x)
{
    struct cached *c, *next;
    struct object *o, *onext;

    HASH_ITER(hh, x->cache, c, next)
        cached_free(x, c);
    HASH_ITER(hh, x->objects, o, onext) {
        HASH_DEL(x->objects, o);
        free(o->key);
        free(o);
    }
}

static void forget_run(struct exec *x)
{
    noderun_fini(&x->run);
    xevents_end(&x->ev);
    xgraph_fini(&x->graph);
    val_free(x->shown);
    val_free(x->outputs);
    val_free(x->meta);
    val_free(x->executed);
    x->shown = x->outputs = x->meta = x->executed = NULL;
    x->current = NULL;
    x->prompt = NULL;
    x->phase = PHASE_IDLE;
}

void exec_free(struct exec **px)
{
    struct exec *x = *px;

    if (!x)
        return;
    assert(!x->working);
    if (x->phase != PHASE_IDLE)
        forget_run(x);
    exec_drop_cache(x);
    free(container_of(x, struct exec_full, x));
    *px = NULL;
}

void exec_abandon(struct exec *x)
{
    assert(!x->working);
    if (x->phase != PHASE_IDLE)
        forget_run(x);
    exec_drop_cache(x);
}

bool exec_busy(const struct exec *x)
{
    return x->phase != PHASE_IDLE;
}

void exec_interrupt(struct exec *x)
{
    x->interrupted = true;
}

bool exec_current(const struct exec *x, const char *sid, const char **display_node)
{
    if (x->phase == PHASE_IDLE || !x->current || !x->ev.sid || strcmp(x->ev.sid, sid) != 0)
        return false;
    *display_node = xnode_display(x->current);
    return true;
}

/* --- the cache --- */

static void hash_text(const struct buf *b, char out[65])
{
    unsigned char md[EVP_MAX_MD_SIZE];
    unsigned n = 0;

    if (!EVP_Digest(buf_str(b), b->len, md, &n, EVP_sha256(), NULL))
        abort(); /* OpenSSL without SHA-256: not this machine */
    for (unsigned i = 0; i < 32; i++)
        snprintf(out + 2 * (size_t)i, 3, "%02x", md[i]);
}

static int by_key(const void *a, const void *b)
{
    const struct val_member *const *x = a, *const *y = b;

    return strcmp((*x)->key, (*y)->key);
}

static void sign(struct exec *x, struct xnode *n);

static void put_signed_inputs(struct exec *x, struct xnode *n, struct buf *b)
{
    const struct val *inputs = val_get(n->node, "inputs");
    size_t count = val_count(inputs), i = 0;
    const struct val_member **m = xmalloc((count + 1) * sizeof(const struct val_member *));

    val_each(in, inputs) m[i++] = in;
    if (count > 1)
        qsort(m, count, sizeof(*m), by_key);
    for (i = 0; i < count; i++) {
        struct xnode *from = xgraph_follow(&x->graph, m[i]->value);

        json_put_strn(b, m[i]->key, m[i]->keylen);
        buf_putc(b, '=');
        if (from && from != n) {
            sign(x, from);
            buf_printf(b, "%s:", from->sig);
            val_put(b, m[i]->value->item[1]);
        } else {
            val_put(b, m[i]->value);
        }
        buf_putc(b, ';');
    }
    free(m);
}

/* The cache key: class, inputs, and the keys of what the inputs come from; for some the node's own id. */
static void sign(struct exec *x, struct xnode *n)
{
    const struct val *changed = val_get(n->node, "is_changed");
    struct buf b = BUF_INIT;

    if (n->sig[0] || n->visiting)
        return;
    n->visiting = true;
    /* expanded nodes have a cache of their own for each parent */
    if (n->parent)
        buf_printf(&b, "%s/%s|", n->parent->id, n->parent->cls->name);
    buf_printf(&b, "%s|", n->cls->name);
    if (changed)
        val_put(&b, changed);
    if (n->cls->wants_id)
        buf_printf(&b, "|%s", n->id);
    buf_putc(&b, '|');
    put_signed_inputs(x, n, &b);
    if (n->n_consts > 0) /* a picture as a constant never equals another */
        buf_printf(&b, "#%llu", (unsigned long long)++x->unhashable);
    hash_text(&b, n->sig);
    buf_free(&b);
    n->visiting = false;
}

static struct cached *cache_find(struct exec *x, struct xnode *n)
{
    struct cached *c;

    sign(x, n);
    HASH_FIND_STR(x->cache, n->sig, c);
    return c;
}

static bool is_cached(void *arg, struct xnode *n)
{
    return cache_find(arg, n) != NULL;
}

static void cache_put(struct exec *x, struct xnode *n, struct data *const *out, size_t outs,
                      const struct val *ui)
{
    struct cached *c = cache_find(x, n);

    if (c)
        cached_free(x, c);
    c = xcalloc(1, sizeof(*c));
    memcpy(c->sig, n->sig, sizeof(n->sig));
    for (size_t i = 0; i < outs; i++)
        c->out[c->outs++] = data_ref(out[i]);
    c->ui = val_copy(ui);
    c->seen = x->runs;
    HASH_ADD_STR(x->cache, sig, c);
}

/* What the graph of this run does not have is dropped: the cache is that of the last prompt. */
static void cache_sweep(struct exec *x)
{
    struct cached *c, *next;
    struct object *o, *onext;

    x->runs++;
    for (struct xnode *n = x->graph.nodes; n; n = n->hh.next) {
        struct buf key = BUF_INIT;

        c = cache_find(x, n);
        if (c)
            c->seen = x->runs;
        buf_printf(&key, "%s/%s", n->cls->name, n->id);
        HASH_FIND_STR(x->objects, buf_str(&key), o);
        if (o)
            o->seen = x->runs;
        buf_free(&key);
    }
    HASH_ITER(hh, x->cache, c, next)
        if (c->seen != x->runs)
            cached_free(x, c);
    HASH_ITER(hh, x->objects, o, onext)
        if (o->seen != x->runs) {
            HASH_DEL(x->objects, o);
            free(o->key);
            free(o);
        }
}

static const char *temp_prefix(struct exec *x, const struct xnode *n)
{
    struct object *o;
    char *key = xasprintf("%s/%s", n->cls->name, n->id);

    HASH_FIND_STR(x->objects, key, o);
    if (o) {
        free(key);
        return o->temp_prefix;
    }
    o = xcalloc(1, sizeof(*o));
    o->key = key;
    o->seen = x->runs;
    memcpy(o->temp_prefix, "_temp_", 6);
    x->conf.clock->random(x->conf.clock, o->temp_prefix + 6, 5);
    for (int i = 6; i < 11; i++) /* ComfyUI's alphabet */
        o->temp_prefix[i] = "abcdefghijklmnopqrstupvxyz"[(unsigned char)o->temp_prefix[i] % 26];
    HASH_ADD_KEYPTR(hh, x->objects, o->key, strlen(o->key), o);
    return o->temp_prefix;
}

/* --- the beginning and the end of a prompt --- */

/* IS_CHANGED of nodes that read files. The result stands in the node, and so in the PNG's own text. */
static void ask_changes(struct exec *x)
{
    for (struct xnode *n = x->graph.nodes; n; n = n->hh.next) {
        const struct val *file =
            val_get(val_get(n->node, "inputs"), n->cls->check_input ? n->cls->check_input : "");
        struct buf name = BUF_INIT, path = BUF_INIT;
        struct val *changed;
        char hex[65];

        if (!n->cls->file_changes || !file || file->type != VAL_STR)
            continue;
        if (files_path(x->conf.files, files_annotated(file->text, &name), NULL, buf_str(&name), &path) &&
            files_read(buf_str(&path), &name, NULL) == 0 && files_sha256(buf_str(&path), hex, NULL) == 0) {
            changed = val_arr();
            val_push(changed, val_str(hex));
        } else {
            changed = val_float(__builtin_nan(""));
        }
        val_set(val_get(x->shown, n->id), "is_changed", val_copy(changed));
        val_set(n->node, "is_changed", changed);
        buf_free(&name);
        buf_free(&path);
    }
}

static struct val *with_id(const struct exec *x)
{
    struct val *d = val_obj();

    val_set(d, "prompt_id", val_str(x->ev.prompt_id));
    return d;
}

static void message_cached(struct exec *x)
{
    struct val *d = val_obj(), *nodes = val_arr();

    for (struct xnode *n = x->graph.nodes; n; n = n->hh.next)
        if (is_cached(x, n))
            val_push(nodes, val_str(n->id));
    val_set(d, "nodes", nodes);
    val_set(d, "prompt_id", val_str(x->ev.prompt_id));
    xevents_message(&x->ev, "execution_cached", d, false);
}

static bool has_heavy(const struct exec *x)
{
    for (struct xnode *n = x->graph.nodes; n; n = n->hh.next)
        if (n->cls->heavy)
            return true;
    return false;
}

static int64_t begin(struct exec *x, const struct prompt *p)
{
    int64_t slow_ms = 0;

    x->lag_ms = x->conf.history_lag_ms;
    x->prompt = p;
    x->interrupted = false;
    x->ev.sink = &x->conf.sink;
    x->ev.clock = x->conf.clock;
    xevents_begin(&x->ev, p->id, p->extra);
    x->fault = x->conf.fault ? x->conf.fault(x->conf.arg, p, &slow_ms, &x->lag_ms) : EXEC_FINE;
    xevents_message(&x->ev, "execution_start", with_id(x), false);
    x->shown = val_copy(p->graph);
    x->outputs = val_obj();
    x->meta = val_obj();
    x->executed = val_arr();
    xgraph_init(&x->graph, p->graph, is_cached, x);
    ask_changes(x);
    cache_sweep(x);
    message_cached(x);
    x->heavy_only = has_heavy(x);
    for (size_t i = 0; i < p->outputs->len; i++) {
        struct xnode *n = xgraph_find(&x->graph, p->outputs->item[i]->text);

        if (n)
            xgraph_want(&x->graph, n);
    }
    return slow_ms;
}

void exec_start(struct exec *x)
{
    assert(x->phase == PHASE_IDLE && x->conf.prompts->running);
    x->phase = PHASE_SLOW;
}

static void finish(struct exec *x)
{
    struct buf tail = BUF_INIT;
    bool ok = x->success;

    buf_puts(&tail, "\"outputs\": ");
    val_put(&tail, x->outputs);
    buf_printf(&tail, ", \"status\": {\"status_str\": \"%s\", \"completed\": %s, \"messages\": [",
               ok ? "success" : "error", ok ? "true" : "false");
    buf_put(&tail, buf_str(&x->ev.messages), x->ev.messages.len);
    buf_puts(&tail, "]}, \"meta\": ");
    val_put(&tail, x->meta);
    x->prompt = NULL;
    prompts_done(x->conf.prompts, tail.data, tail.len);
    xevents_executing(&x->ev, NULL);
    buf_free(&tail);
    forget_run(x);
}

static void ended(struct exec *x)
{
    x->current = NULL;
    x->phase = PHASE_LAG;
    if (x->conf.mark)
        x->conf.mark(x->conf.arg, EXEC_ENDED, x->prompt);
}

/* --- one node --- */

static void remember_ui(struct exec *x, const struct xnode *n, const struct val *ui)
{
    struct val *meta = val_obj();

    val_set(meta, "node_id", val_str(n->id));
    val_set(meta, "display_node", val_str(xnode_display(n)));
    val_set(meta, "parent_node", n->parent ? val_str(n->parent->id) : val_null());
    val_set(meta, "real_node_id", val_str(xnode_display(n)));
    val_set(x->outputs, n->id, val_copy(ui));
    val_set(x->meta, n->id, meta);
}

/* The value at the other end of a link; NULL if there is none (a graph that validation did not see). */
static struct data *resolve(struct exec *x, const struct val *link)
{
    struct xnode *from = xgraph_follow(&x->graph, link);
    struct cached *c = from ? cache_find(x, from) : NULL;
    int64_t slot = 0;

    if (!c || !val_int64(link->item[1], &slot))
        return NULL;
    if (slot < 0)
        slot += (int64_t)c->outs; /* Python's negative index */
    return slot >= 0 && slot < (int64_t)c->outs ? c->out[slot] : NULL;
}

static void add_arg(struct noderun *r, const char *name, struct data *d)
{
    r->arg = xrealloc(r->arg, (r->args + 1) * sizeof(*r->arg));
    r->arg[r->args++] = (struct node_arg){xstrdup(name), d};
}

static void gather(struct exec *x, struct xnode *n)
{
    struct noderun *r = &x->run;
    bool required;

    val_each(m, val_get(n->node, "inputs"))
    {
        if (val_is_link(m->value)) {
            struct data *d = resolve(x, m->value);

            if (d)
                add_arg(r, m->key, data_ref(d));
            continue;
        }
        for (size_t i = 0; i < n->n_consts; i++)
            if (strcmp(n->consts[i].name, m->key) == 0) {
                add_arg(r, m->key, data_ref(n->consts[i].data));
                goto next;
            }
        if (node_input(n->cls, m->key, &required))
            add_arg(r, m->key, data_value(val_copy(m->value)));
    next:;
    }
    val_each(m, n->cls->hidden)
    {
        if (val_is_str(m->value, "UNIQUE_ID"))
            add_arg(r, m->key, data_value(val_str(n->id)));
        else if (val_is_str(m->value, "PROMPT"))
            add_arg(r, m->key, data_value(val_copy(x->shown)));
        else if (val_is_str(m->value, "EXTRA_PNGINFO")) {
            struct val *info = val_copy(val_get(x->prompt->extra, "extra_pnginfo"));

            add_arg(r, m->key, data_value(info ? info : val_null()));
        }
    }
}

static struct val *error_data(struct exec *x)
{
    struct val *d = with_id(x);
    const struct xnode *n = xgraph_find(&x->graph, xnode_display(x->current));

    val_set(d, "node_id", val_str(n->id));
    val_set(d, "node_type", val_str(n->cls->name));
    val_set(d, "executed", val_copy(x->executed));
    return d;
}

static struct val *traceback(const struct exec *x)
{
    static const char *const frames[][2] = {{"510", "execute"},
                                            {"324", "get_output_data"},
                                            {"298", "_async_map_node_over_list"},
                                            {"286", "process_inputs"}};
    struct val *tb = val_arr();
    char *line;

    for (size_t i = 0; i < ARRAY_LEN(frames); i++) {
        line = xasprintf("  File \"/comfymux-sim/execution.py\", line %s, in %s\n    simulated\n",
                         frames[i][0], frames[i][1]);
        val_push(tb, val_str(line));
        free(line);
    }
    line =
        xasprintf("  File \"/comfymux-sim/nodes.py\", line 1, in %s\n    simulated\n", x->current->cls->name);
    val_push(tb, val_str(line));
    free(line);
    return tb;
}

static void fail_node(struct exec *x, const char *type, const char *msg)
{
    struct val *d = error_data(x), *inputs = val_obj(), *all = val_arr();
    char *line = xasprintf("%s\n", msg);

    for (size_t i = 0; i < x->run.args; i++) {
        struct val *one = val_arr();

        val_push(one, data_format(x->run.arg[i].data));
        val_set(inputs, x->run.arg[i].name, one);
    }
    val_each(m, x->prompt->graph) val_push(all, val_str(m->key));
    val_set(d, "exception_message", val_str(line));
    val_set(d, "exception_type", val_str(type));
    val_set(d, "traceback", traceback(x));
    val_set(d, "current_inputs", inputs);
    val_set(d, "current_outputs", all);
    x->success = false;
    xevents_message(&x->ev, "execution_error", d, false);
    free(line);
    noderun_fini(&x->run);
    ended(x);
}

static void interrupt_node(struct exec *x)
{
    x->interrupted = false;
    x->success = false;
    xevents_message(&x->ev, "execution_interrupted", error_data(x), true);
    noderun_fini(&x->run);
    ended(x);
}

static void complete(struct exec *x, struct xnode *n)
{
    x->success = true;
    xgraph_complete(&x->graph, n);
    noderun_fini(&x->run);
    x->phase = PHASE_PICK;
}

static void node_succeeded(struct exec *x, struct xnode *n, struct data *const *out, size_t outs,
                           const struct val *ui)
{
    cache_put(x, n, out, outs, ui);
    xevents_node_ends(&x->ev, n);
    val_push(x->executed, val_str(n->id));
    complete(x, n);
}

/* A blocker among the inputs: the node does not run and hands on silent blockers. */
static bool blocked(struct exec *x, struct xnode *n)
{
    struct data *out[NODE_MAX_OUT];
    const char *message = NULL;
    size_t outs = n->cls->output ? n->cls->output->len : 0;
    bool hit = false;

    for (size_t i = 0; i < x->run.args && !hit; i++)
        if (x->run.arg[i].data->kind == DATA_BLOCKER) {
            hit = true;
            message = x->run.arg[i].data->text;
        }
    if (!hit)
        return false;
    if (message) {
        struct val *d = with_id(x);
        char *line = xasprintf("Execution Blocked: %s", message);

        val_set(d, "node_id", val_str(n->id));
        val_set(d, "node_type", val_str(n->cls->name));
        val_set(d, "executed", val_copy(x->executed));
        val_set(d, "exception_message", val_str(line));
        val_set(d, "exception_type", val_str("ExecutionBlocked"));
        val_set(d, "traceback", val_arr());
        val_set(d, "current_inputs", val_arr());
        val_set(d, "current_outputs", val_arr());
        xevents_send_wide(&x->ev, "execution_error", d);
        free(line);
    }
    outs = outs < NODE_MAX_OUT ? outs : NODE_MAX_OUT;
    for (size_t i = 0; i < outs; i++)
        out[i] = data_text(DATA_BLOCKER, NULL);
    node_succeeded(x, n, out, outs, NULL);
    for (size_t i = 0; i < outs; i++)
        data_unref(out[i]);
    return true;
}

/* The node has made a subgraph: its nodes join the graph, and it waits for them. */
static void expand(struct exec *x, struct xnode *n)
{
    struct noderun *r = &x->run;

    val_each(m, r->expand)
    {
        struct xnode *child = xgraph_add(&x->graph, m->key, val_copy(m->value), n);

        val_each(in, val_get(m->value, "inputs"))
        { /* ["", name]: this node's own argument, as a constant */
            const struct val *v = in->value;
            const struct data *own;

            if (v->type != VAL_ARR || v->len != 2 || !val_is_str(v->item[0], ""))
                continue;
            own = node_arg(r, v->item[1]->text);
            if (!own)
                continue;
            child->consts = xrealloc(child->consts, (child->n_consts + 1) * sizeof(*child->consts));
            child->consts[child->n_consts++] =
                (struct node_arg){xstrdup(in->key), data_ref((struct data *)own)};
        }
    }
    for (size_t i = 0; i < r->outs; i++) {
        struct xnode *from = xgraph_follow(&x->graph, r->out[i]->value);

        n->results[n->n_results++] = val_copy(r->out[i]->value);
        if (from)
            xgraph_link(&x->graph, from, n);
    }
    n->expanded = true;
    x->success = true;
    noderun_fini(r);
    x->phase = PHASE_PICK;
}

static void collect(struct exec *x, struct xnode *n)
{
    struct data *out[NODE_MAX_OUT];

    for (size_t i = 0; i < n->n_results; i++) {
        out[i] = data_ref(resolve(x, n->results[i]));
        if (!out[i])
            out[i] = data_value(val_null());
    }
    node_succeeded(x, n, out, n->n_results, NULL);
    for (size_t i = 0; i < n->n_results; i++)
        data_unref(out[i]);
}

static void from_cache(struct exec *x, struct xnode *n, const struct cached *c)
{
    if (x->ev.sid) { /* without a client not even history is told: stock behaviour */
        xevents_executed(&x->ev, n, c->ui);
        if (c->ui)
            remember_ui(x, n, c->ui);
    }
    xevents_node_ends(&x->ev, n);
    complete(x, n);
}

static bool struck(struct exec *x, const struct xnode *n)
{
    if (x->fault == EXEC_FINE || (x->heavy_only && !n->cls->heavy))
        return false;
    if (x->fault == EXEC_OOM)
        fail_node(
            x, "torch.OutOfMemoryError",
            "Allocation on device 0 would exceed allowed memory. (out of memory)\n"
            "This error means you ran out of memory on your GPU.\n\nTIPS: If the workflow worked before you "
            "might have accidentally set the batch_size to a large number.");
    else if (x->fault == EXEC_CUDA)
        fail_node(
            x, "RuntimeError",
            "CUDA error: an illegal memory access was encountered\n"
            "CUDA kernel errors might be asynchronously reported at some other API call, so the stacktrace "
            "below might be incorrect.\nFor debugging consider passing CUDA_LAUNCH_BLOCKING=1");
    else
        x->phase = PHASE_HANG;
    return true;
}

static void start_node(struct exec *x, struct xnode *n)
{
    struct cached *c = cache_find(x, n);
    struct noderun *r = &x->run;

    if (c) {
        from_cache(x, n, c);
        return;
    }
    if (n->expanded) {
        collect(x, n);
        return;
    }
    xevents_node_starts(&x->ev, n);
    gather(x, n);
    x->current = n;
    xevents_executing(&x->ev, n);
    if (x->interrupted) {
        interrupt_node(x);
        return;
    }
    if (blocked(x, n) || struck(x, n))
        return;
    r->cls = n->cls;
    r->host = &container_of(x, struct exec_full, x)->host;
    r->id = xstrdup(n->id);
    r->display_id = xstrdup(xnode_display(n));
    r->files = x->conf.files;
    r->models = x->conf.models;
    r->clock = x->conf.clock;
    r->server = x->conf.server;
    r->prompt = x->shown;
    r->pnginfo = val_get(x->prompt->extra, "extra_pnginfo");
    r->temp_prefix = temp_prefix(x, n);
    x->phase = PHASE_NODE;
}

static void end_node(struct exec *x)
{
    struct noderun *r = &x->run;
    struct xnode *n = x->current;

    if (r->error_type) {
        fail_node(x, r->error_type, r->error_msg);
        return;
    }
    if (r->ui) {
        remember_ui(x, n, r->ui);
        xevents_executed(&x->ev, n, r->ui);
    }
    if (r->expand)
        expand(x, n);
    else
        node_succeeded(x, n, r->out, r->outs, r->ui);
}

static enum exec_next drive_node(struct exec *x, int64_t *ms)
{
    struct noderun *r = &x->run;

    if (r->cls->run && r->state == 0) {
        r->state = 1;
        r->work = r->cls->run;
        x->working = true;
        return EXEC_WORK;
    }
    if (!r->cls->run) {
        switch (r->cls->step(r)) {
        case NODE_WAIT: *ms = r->wait_ms; return EXEC_WAIT;
        case NODE_WORK: x->working = true; return EXEC_WORK;
        case NODE_FAILED:
            if (!r->error_type) {
                interrupt_node(x);
                return EXEC_WAIT;
            }
            break;
        case NODE_DONE: break;
        }
    }
    end_node(x);
    return EXEC_WAIT;
}

void exec_work(struct exec *x)
{
    x->run.work(&x->run);
}

size_t exec_work_size(const struct exec *x)
{
    int64_t w = node_int(&x->run, "width", 1), h = node_int(&x->run, "height", 1);
    size_t size = w > 0 && h > 0 && w < 1 << 20 && h < 1 << 20 ? (size_t)w * (size_t)h * 3 : 0;

    for (size_t i = 0; i < x->run.args; i++) {
        const struct data *d = x->run.arg[i].data;

        if (d->kind == DATA_IMAGE)
            size += image_samples(d->image);
        else if (d->kind == DATA_LATENT)
            size += (size_t)d->w * d->h * 3;
    }
    return size;
}

static void pick(struct exec *x)
{
    struct xnode *n = xgraph_pick(&x->graph);

    if (n) {
        start_node(x, n);
        return;
    }
    xevents_message(&x->ev, "execution_success", with_id(x), false);
    ended(x);
}

enum exec_next exec_step(struct exec *x, int64_t *ms, bool *real)
{
    *ms = 0;
    *real = false;
    x->working = false;
    switch (x->phase) {
    case PHASE_IDLE: return EXEC_IDLE;
    case PHASE_SLOW:
        *ms = begin(x, x->conf.prompts->running);
        x->phase = PHASE_PICK;
        if (x->conf.mark)
            x->conf.mark(x->conf.arg, EXEC_STARTED, x->prompt);
        return EXEC_WAIT;
    case PHASE_PICK:
        pick(x);
        if (x->phase == PHASE_LAG) {
            *ms = x->lag_ms;
            *real = true;
        }
        return EXEC_WAIT;
    case PHASE_NODE: {
        enum exec_next next = drive_node(x, ms);

        if (x->phase == PHASE_LAG) {
            *ms = x->lag_ms;
            *real = true;
        }
        return next;
    }
    case PHASE_LAG: finish(x); return EXEC_IDLE;
    case PHASE_HANG: *ms = -1; return EXEC_WAIT;
    }
    return EXEC_IDLE;
}

/* --- what nodes may do while they run --- */

static bool tick(void *arg, struct noderun *r, int64_t value, int64_t max, const char *mime,
                 const struct buf *preview)
{
    struct exec *x = arg;

    if (x->interrupted)
        return false;
    if (xevents_tick(&x->ev, x->current, value, max, mime, preview))
        return true;
    node_fail(r, "AttributeError", "'NoneType' object has no attribute 'get'");
    return false;
}

static void text(void *arg, struct noderun *r, const char *s)
{
    struct exec *x = arg;

    (void)r;
    xevents_node_text(&x->ev, x->current, s);
}

static void event(void *arg, const char *type, const struct val *data)
{
    struct exec *x = arg;

    xevents_send_all(&x->ev, type, data);
}
