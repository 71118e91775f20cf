#include "sim/exec.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comfy/history.h"
#include "sim/exec_cache.h"
#include "sim/exec_events.h"
#include "sim/exec_graph.h"

enum phase { PHASE_IDLE, PHASE_SLOW, PHASE_PICK, PHASE_NODE, PHASE_LAG, PHASE_HANG };

struct exec {
    struct exec_conf conf;
    enum phase phase;
    struct xcache cache;
    bool interrupted;
    bool success; /* of the node executed last: ComfyUI's flag, which outlives a prompt */
    /* the prompt that runs */
    const struct prompt *prompt;
    struct xgraph graph;
    struct val *shown; /* the graph as nodes see it: with is_changed */
    struct xevents ev;
    struct val *outputs, *meta; /* history: node id -> ui, in order of ending */
    struct buf executed;        /* ids, a JSON list but for its end */
    enum exec_fault fault;
    int64_t lag_ms;
    bool heavy_only; /* the fault waits for a heavy node */
    struct xnode *current;
    struct noderun run;
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

void exec_drop_cache(struct exec *x)
{
    xcache_drop(&x->cache);
}

static void forget_run(struct exec *x)
{
    noderun_fini(&x->run);
    xevents_end(&x->ev);
    xgraph_fini(&x->graph);
    val_free(x->shown);
    val_free(x->outputs);
    val_free(x->meta);
    buf_free(&x->executed);
    x->shown = x->outputs = x->meta = NULL;
    x->current = NULL;
    x->prompt = NULL;
    x->phase = PHASE_IDLE;
}

void exec_free(struct exec **px)
{
    struct exec *x = *px;

    if (!x)
        return;
    if (x->phase != PHASE_IDLE)
        forget_run(x);
    exec_drop_cache(x);
    free(container_of(x, struct exec_full, x));
    *px = NULL;
}

void exec_abandon(struct exec *x)
{
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

static bool is_cached(void *arg, struct xnode *n)
{
    struct exec *x = arg;

    return xcache_find(&x->cache, &x->graph, n) != NULL;
}

/* --- the beginning and the end of a prompt --- */

static int64_t now(const struct exec *x)
{
    return x->conf.clock->wall_ms(x->conf.clock);
}

static struct json span_of(const struct buf *text)
{
    return (struct json){text->data, text->len};
}

/* What IS_CHANGED says of a file: its hash, or NaN when it cannot be read. */
static struct val *file_change(const struct exec *x, const char *annotated)
{
    struct buf name = BUF_INIT, path = BUF_INIT;
    enum files_dir d = files_annotated(annotated, &name);
    struct val *changed = NULL;
    char hex[65];

    if (files_path(x->conf.files, d, NULL, buf_str(&name), &path) &&
        files_sha256(buf_str(&path), hex, NULL) == 0) {
        changed = val_arr();
        val_push(changed, val_str(hex));
    }
    buf_free(&name);
    buf_free(&path);
    return changed ? changed : val_float(__builtin_nan(""));
}

/* IS_CHANGED of the classes that have one. The result stands in the node, and so in the PNG's own text. */
static void ask_changes(struct exec *x)
{
    for (struct xnode *n = x->graph.nodes; n; n = n->hh.next) {
        const struct val *file =
            n->cls->check_input ? val_get(val_get(n->node, "inputs"), n->cls->check_input) : NULL;
        struct val *changed = NULL;

        if (n->cls->file_changes && file && file->type == VAL_STR) {
            changed = file_change(x, file->text);
        } else if (n->cls->always_changes) {
            changed = val_arr();
            val_push(changed, val_float((double)now(x) / 1000));
        }
        if (!changed)
            continue;
        val_set(val_get(x->shown, n->id), "is_changed", val_copy(changed));
        val_set(n->node, "is_changed", changed);
    }
}

static void message_start(struct exec *x)
{
    struct buf b = BUF_INIT;

    event_put_start(&b, x->ev.prompt_id, now(x));
    xevents_message(&x->ev, &b, false);
}

static void message_cached(struct exec *x)
{
    struct buf b = BUF_INIT, nodes = BUF_INIT;
    struct jsonw w;

    jsonw_init(&w, &nodes);
    jsonw_arr(&w);
    for (struct xnode *n = x->graph.nodes; n; n = n->hh.next)
        if (is_cached(x, n))
            jsonw_str(&w, n->id);
    jsonw_arr_end(&w);
    event_put_cached(&b, span_of(&nodes), x->ev.prompt_id, now(x));
    xevents_message(&x->ev, &b, false);
    buf_free(&nodes);
}

static void message_success(struct exec *x)
{
    struct buf b = BUF_INIT;

    event_put_success(&b, x->ev.prompt_id, now(x));
    xevents_message(&x->ev, &b, false);
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
    xevents_begin(&x->ev, p->id, p->extra);
    x->fault = x->conf.fault ? x->conf.fault(x->conf.arg, p, &slow_ms, &x->lag_ms) : EXEC_FINE;
    message_start(x);
    x->shown = val_copy(p->graph);
    x->outputs = val_obj();
    x->meta = val_obj();
    buf_putc(&x->executed, '[');
    xgraph_init(&x->graph, p->graph, is_cached, x);
    ask_changes(x);
    xcache_sweep(&x->cache, &x->graph);
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

    buf_puts(&tail, "\"outputs\": ");
    val_put(&tail, x->outputs);
    buf_puts(&tail, ", \"status\": ");
    history_put_status(&tail, x->success, &x->ev.messages);
    buf_puts(&tail, ", \"meta\": ");
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
    struct cached *c = from ? xcache_find(&x->cache, &x->graph, from) : NULL;
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
    struct json_iter hidden = json_iter(json_get(json_get(n->cls->info->text, "input"), "hidden"));
    struct json k, v;

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
        if (object_class_input(n->cls->info, (struct str){m->key, m->keylen}))
            add_arg(r, m->key, data_value(val_copy(m->value)));
    next:;
    }
    while (json_next(&hidden, &k, &v)) {
        struct val *is = NULL;
        char *name;

        if (json_str_eq(v, "UNIQUE_ID"))
            is = val_str(n->id);
        else if (json_str_eq(v, "PROMPT"))
            is = val_copy(x->shown);
        else if (json_str_eq(v, "EXTRA_PNGINFO"))
            is = val_copy(val_get(x->prompt->extra, "extra_pnginfo"));
        else
            continue;
        name = json_strdup(k);
        add_arg(r, name, data_value(is ? is : val_null()));
        free(name);
    }
}

static void put_traceback(const struct exec *x, struct buf *b)
{
    static const char *const frames[][2] = {{"510", "execute"},
                                            {"324", "get_output_data"},
                                            {"298", "_async_map_node_over_list"},
                                            {"286", "process_inputs"}};
    struct jsonw w;

    jsonw_init(&w, b);
    jsonw_arr(&w);
    for (size_t i = 0; i <= ARRAY_LEN(frames); i++) {
        bool last = i == ARRAY_LEN(frames);
        char *line = xasprintf("  File \"/comfymux-sim/%s.py\", line %s, in %s\n    simulated\n",
                               last ? "nodes" : "execution", last ? "1" : frames[i][0],
                               last ? x->current->cls->name : frames[i][1]);

        jsonw_str(&w, line);
        free(line);
    }
    jsonw_arr_end(&w);
}

static void put_inputs(const struct exec *x, struct buf *b)
{
    struct val *inputs = val_obj();

    for (size_t i = 0; i < x->run.args; i++) {
        struct val *one = val_arr();

        val_push(one, data_format(x->run.arg[i].data));
        val_set(inputs, x->run.arg[i].name, one);
    }
    val_put(b, inputs);
    val_free(inputs);
}

/* What has been executed so far, as a JSON list. */
static struct json executed(const struct exec *x, struct buf *b)
{
    buf_printf(b, "%s]", buf_str(&x->executed));
    return span_of(b);
}

static void put_ids(const struct exec *x, struct buf *b)
{
    struct jsonw w;

    jsonw_init(&w, b);
    jsonw_arr(&w);
    val_each(m, x->prompt->graph) jsonw_str(&w, m->key);
    jsonw_arr_end(&w);
}

static void fail_node(struct exec *x, const char *type, const char *msg)
{
    const struct xnode *n = xgraph_find(&x->graph, xnode_display(x->current));
    struct buf b = BUF_INIT, done = BUF_INIT, inputs = BUF_INIT, all = BUF_INIT, frames = BUF_INIT;
    char *line = xasprintf("%s\n", msg);
    struct event_error e = {.prompt_id = x->ev.prompt_id,
                            .node_id = n->id,
                            .node_type = n->cls->name,
                            .executed = executed(x, &done),
                            .exception_message = line,
                            .exception_type = type,
                            .timestamp = now(x)};

    put_inputs(x, &inputs);
    put_ids(x, &all);
    put_traceback(x, &frames);
    e.current_inputs = span_of(&inputs);
    e.current_outputs = span_of(&all);
    e.traceback = span_of(&frames);
    x->success = false;
    event_put_error(&b, &e);
    xevents_message(&x->ev, &b, false);
    free(line);
    buf_free(&done);
    buf_free(&inputs);
    buf_free(&all);
    buf_free(&frames);
    noderun_fini(&x->run);
    ended(x);
}

static void interrupt_node(struct exec *x)
{
    const struct xnode *n = xgraph_find(&x->graph, xnode_display(x->current));
    struct buf b = BUF_INIT, done = BUF_INIT;

    x->interrupted = false;
    x->success = false;
    event_put_interrupted(&b, x->ev.prompt_id, n->id, n->cls->name, executed(x, &done), now(x));
    xevents_message(&x->ev, &b, true);
    buf_free(&done);
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
    xcache_put(&x->cache, &x->graph, n, out, outs, ui);
    xevents_node_ends(&x->ev, n);
    if (x->executed.len > 1)
        buf_puts(&x->executed, ", ");
    json_put_str(&x->executed, n->id);
    complete(x, n);
}

/* A blocker among the inputs: the node does not run and hands on silent blockers. */
static bool blocked(struct exec *x, struct xnode *n)
{
    struct data *out[NODE_MAX_OUT];
    const char *message = NULL;
    size_t outs = n->cls->info->n_outputs;
    bool hit = false;

    for (size_t i = 0; i < x->run.args && !hit; i++)
        if (x->run.arg[i].data->kind == DATA_BLOCKER) {
            hit = true;
            message = x->run.arg[i].data->text;
        }
    if (!hit)
        return false;
    if (message) {
        struct buf b = BUF_INIT, done = BUF_INIT;
        char *line = xasprintf("Execution Blocked: %s", message);
        struct event_error e = {.prompt_id = x->ev.prompt_id,
                                .node_id = n->id,
                                .node_type = n->cls->name,
                                .executed = executed(x, &done),
                                .exception_message = line,
                                .exception_type = "ExecutionBlocked",
                                .timestamp = -1};

        event_put_error(&b, &e);
        xevents_send(&x->ev, &b, true);
        buf_free(&done);
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
    else if (x->fault == EXEC_NODE_ERROR)
        fail_node(x, "ModuleNotFoundError", "No module named 'sageattention'");
    else
        x->phase = PHASE_HANG;
    return true;
}

static void start_node(struct exec *x, struct xnode *n)
{
    struct cached *c = xcache_find(&x->cache, &x->graph, n);
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
    r->temp_prefix = xcache_temp_prefix(&x->cache, n, x->conf.clock);
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
        return EXEC_WORK;
    }
    if (!r->cls->run) {
        switch (r->cls->step(r)) {
        case NODE_WAIT: *ms = r->wait_ms; return EXEC_WAIT;
        case NODE_WORK: return EXEC_WORK;
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
    message_success(x);
    ended(x);
}

enum exec_next exec_step(struct exec *x, int64_t *ms, bool *real)
{
    *ms = 0;
    *real = false;
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
