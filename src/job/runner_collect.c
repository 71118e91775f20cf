/* What the server says an attempt has made: by events while it runs, by history at its end. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "comfy/events.h"
#include "comfy/history.h"
#include "comfy/names.h"
#include "job/runner_priv.h"

#define FILES_MAX 10000 /* outputs of one attempt */

/* --- names --- */

static char *str_or(struct json v, const char *otherwise)
{
    char *s = json_strdup(v);

    return s ? s : xstrdup(otherwise);
}

/* A string under `result` that names a file, as Preview3D gives it: "mesh/ComfyUI_00001_.glb". */
static bool result_names_file(struct json value, struct name_ref *ref, struct buf *text)
{
    buf_clear(text);
    return json_str(value, text) == 0 && name_ref_parse(text->data ? text->data : "", text->len, ref) &&
           name_kind_of(ref->file, ref->file_n) != NAME_FILE;
}

/* --- taking note of outputs --- */

struct taking {
    struct attempt *a;
    bool listed;     /* history says it */
    unsigned others; /* dicts that ought to be files and name none */
    unsigned inputs; /* entries of type input: to be shown, not stored */
    unsigned texts;
};

/* What has failed is fetched anew, with all the time there is for a file. */
static void try_again(struct attempt_file *f)
{
    if (f->state != FILE_FAILED)
        return;
    f->state = FILE_KNOWN;
    f->again_at = 0;
    f->tries = 0;
}

static void mark(struct taking *t, struct attempt_file *f)
{
    if (!t->listed || f->listed)
        return;
    f->listed = true;
    try_again(f);
    list_remove(&f->link); /* the order of history is the order of the record */
    list_push_back(&t->a->files, &f->link);
}

static void take_file(struct taking *t, const struct history_output *o, const char *type,
                      const char *subfolder, const char *filename)
{
    struct attempt_file *f = file_find(t->a, type, subfolder, filename);

    if (f == NULL) {
        char *node = str_or(o->node_id, ""), *key = str_or(o->key, "");

        f = file_add(t->a, node, key, type, subfolder, filename);
        f->kind = name_kind_str(name_kind_of(filename, strlen(filename)));
        log_info(LOG_S("job", t->a->job->s.id), LOG_S("event", "output_found"), LOG_S("node", node),
                 LOG_S("server", t->a->job->s.server), LOG_S("file", filename), LOG_S("subfolder", subfolder),
                 LOG_S("type", type));
        free(node);
        free(key);
    }
    mark(t, f);
}

/* A text output becomes a small file: text_<node>_<k>.txt. */
static void take_text(struct taking *t, const struct history_output *o)
{
    struct buf text = BUF_INIT;
    char *node, *key, name[96];
    struct attempt_file *f;

    if (!t->listed || json_str(o->value, &text) < 0) {
        buf_free(&text);
        return;
    }
    node = str_or(o->node_id, "");
    key = str_or(o->key, "");
    snprintf(name, sizeof(name), "%.40s_%.30s_%05u_.txt", key, node, ++t->texts);
    for (char *p = name; *p; p++)
        if (*p == '/' || *p == '\\' || (unsigned char)*p < 0x20)
            *p = '_';
    f = file_find(t->a, "output", "", name);
    if (f == NULL) {
        f = file_add(t->a, node, key, "output", "", name);
        f->kind = "text";
        f->bytes = buf_to_bytes(&text);
    }
    mark(t, f);
    buf_free(&text);
    free(node);
    free(key);
}

static bool take(void *arg, const struct history_output *o)
{
    struct taking *t = arg;
    struct name_ref ref;
    struct buf text = BUF_INIT;

    if (t->a->serials >= FILES_MAX)
        return false;
    switch (o->kind) {
    case HISTORY_FILE: {
        char *filename = json_strdup(o->filename), *sub = str_or(o->subfolder, ""),
             *type = str_or(o->type, "output");

        if (filename && filename[0])
            take_file(t, o, type, sub, filename);
        else
            t->others++;
        free(filename);
        free(sub);
        free(type);
        break;
    }
    case HISTORY_RESULT:
        if (result_names_file(o->value, &ref, &text)) {
            char *filename = xstrndup(ref.file, ref.file_n), *sub = xstrndup(ref.folder, ref.folder_n);

            take_file(t, o, ref.type == NAME_TEMP ? "temp" : "output", sub, filename);
            free(filename);
            free(sub);
        }
        break;
    case HISTORY_TEXT: take_text(t, o); break;
    case HISTORY_INPUT: t->inputs++; break;
    }
    buf_free(&text);
    return true;
}

void collect_executed(struct attempt *a, struct json node, struct json output)
{
    struct taking t = {.a = a};

    history_node_outputs(node, output, take, &t);
    files_pump(a);
}

/* --- pictures that exist only on the socket --- */

/* SaveImageWebsocket, ETN_SendImageWebSocket and their kind say so in their names. */
static bool is_socket_class(struct json class_type)
{
    char *name = json_strdup(class_type);
    bool yes = name && strcasestr(name, "websocket") != NULL;

    free(name);
    return yes;
}

void attempt_loaded(struct attempt *a, struct job_record *rec)
{
    struct json graph, id, node;
    struct json_iter it;

    a->loaded = true;
    a->inputs = xcalloc(rec->n_inputs, sizeof(*a->inputs));
    for (size_t i = 0; i < rec->n_inputs; i++)
        job_input_copy(&a->inputs[a->n_inputs++], &rec->inputs[i]);
    a->graph = bytes_ref(rec->graph);
    if (rec->graph == NULL || json_check(rec->graph->data, rec->graph->len, NULL, &graph, NULL) < 0)
        return;
    it = json_iter(graph);
    while (json_next(&it, &id, &node)) {
        if (!is_socket_class(json_get(node, "class_type")))
            continue;
        a->socket_nodes = xrealloc(a->socket_nodes, (a->n_socket_nodes + 1) * sizeof(char *));
        a->socket_nodes[a->n_socket_nodes++] = str_or(id, "");
    }
}

static bool is_socket_node(const struct attempt *a, const char *node)
{
    for (size_t i = 0; node && i < a->n_socket_nodes; i++)
        if (strcmp(a->socket_nodes[i], node) == 0)
            return true;
    return false;
}

void collect_frame(struct attempt *a, const struct frame *f)
{
    struct attempt_file *file;
    char name[96];

    if (!is_socket_node(a, a->executing) || a->serials >= FILES_MAX)
        return;
    snprintf(name, sizeof(name), "ws_%.60s_%u.png", a->executing, a->socket_frames++);
    file = file_add(a, a->executing, "images", "temp", "", name);
    file->kind = "image";
    file->listed = true;
    file->bytes = bytes_new(f->body, f->body_n);
    files_pump(a);
}

void collect_gap(struct attempt *a)
{
    a->socket_gap = true;
}

/* --- history --- */

static char *error_detail(const struct history *h)
{
    struct buf b = BUF_INIT;
    struct jsonw w;

    jsonw_init(&w, &b);
    jsonw_obj(&w);
    jsonw_kspan(&w, "node_id", h->node_id);
    jsonw_kspan(&w, "node_type", h->node_type);
    jsonw_kspan(&w, "exception_type", h->exception_type);
    jsonw_kspan(&w, "exception_message", h->exception_message);
    jsonw_kspan(&w, "traceback", h->traceback);
    jsonw_kspan(&w, "current_inputs", json_get(h->error, "current_inputs"));
    jsonw_kspan(&w, "current_outputs", json_get(h->error, "current_outputs"));
    jsonw_kspan(&w, "executed", json_get(h->error, "executed"));
    jsonw_obj_end(&w);
    return buf_take(&b);
}

static char *error_message(const struct history *h)
{
    char *node = str_or(h->node_id, "?"), *type = str_or(h->node_type, "?");
    char *what = str_or(h->exception_message, "no message"), *kind = str_or(h->exception_type, "error"),
         *text;

    while (what[0] && what[strlen(what) - 1] == '\n')
        what[strlen(what) - 1] = '\0';
    text = xasprintf("node %s (%s): %s: %.300s", node, type, kind, what);
    free(node);
    free(type);
    free(what);
    free(kind);
    return text;
}

/* What the entry says about the end. */
static struct job_event judge(struct attempt *a, const struct history *h)
{
    struct job_event ev = {.kind = JOB_EV_HISTORY};

    free(a->error_message);
    free(a->error_detail);
    a->error_message = a->error_detail = NULL;
    switch (h->verdict) {
    case HISTORY_SUCCESS: return ev;
    case HISTORY_INTERRUPTED:
        ev.code = JOB_INTERRUPTED;
        a->error_message = xstrdup("it was interrupted while it ran");
        break;
    case HISTORY_ERROR:
        ev.code = h->fault == HISTORY_FAULT_MEMORY ? JOB_OUT_OF_MEMORY : JOB_EXECUTION_ERROR;
        ev.device_fault = h->fault == HISTORY_FAULT_DEVICE;
        a->error_message = error_message(h);
        break;
    case HISTORY_UNKNOWN: /* status null: an entry that the server wrote without saying how it ended */
        if (json_count(h->outputs) > 0)
            return ev;
        ev.code = JOB_EXECUTION_ERROR;
        a->error_message =
            xstrdup("the server's history does not say how it ended, and there are no outputs");
        break;
    }
    a->failed = true;
    a->error_detail = error_detail(h);
    ev.message = a->error_message;
    return ev;
}

static struct job_event read_history(struct runner_job *j, const struct fleet_history *res)
{
    struct attempt *a = j->a;
    struct job_event ev = {.kind = JOB_EV_HISTORY_FAILED,
                           .refused = res->refused,
                           .answered = res->answered,
                           .message = res->why};
    struct history h;
    struct json body;
    struct err e;

    if (res->removed)
        ev.kind = JOB_EV_REMOVED;
    if (res->status != 200 || res->body == NULL)
        return ev;
    ev.message = "the server's history has a shape that is not understood";
    if (json_check(res->body->data, res->body->len, NULL, &body, &e) < 0)
        return ev;
    switch (history_find(body, a->upstream_id, &h, &e)) {
    case 0: break;
    case 1: ev.kind = JOB_EV_HISTORY_NOT_YET; return ev;
    default: return ev;
    }
    bytes_unref(a->history);
    a->history = bytes_ref(res->body);
    ev = judge(a, &h);
    ev.doubtful = res->doubtful;
    return ev;
}

static void on_history(const struct fleet_history *res, void *arg)
{
    struct call *c = arg;
    struct runner *r = c->r;
    struct runner_job *j = call_job(c);

    call_free(c);
    if (j && j->a && j->s.state == JOB_COLLECTING) {
        struct job_event ev = read_history(j, res);

        log_info(LOG_S("job", j->s.id), LOG_S("event", "history_asked"), LOG_S("server", j->s.server),
                 LOG_I("status", res->status), LOG_I("try", j->soft.tries),
                 LOG_S("result", job_event_name(ev.kind)),
                 LOG_S("reason", ev.kind == JOB_EV_HISTORY_FAILED ? ev.message : NULL));
        runner_feed(j, &ev);
    }
    runner_settle(r);
}

/* After a restart of the gateway the job's own side has to be read first; its socket's pictures are lost. */
static void on_reloaded(enum store_status st, struct job_record *rec, void *arg)
{
    struct call *c = arg;
    struct runner *r = c->r;
    struct runner_job *j = call_job(c);

    call_free(c);
    if (j && j->a && st == STORE_OK) {
        attempt_loaded(j->a, rec);
        attempt_history(j);
    } else if (j) {
        struct job_event ev = {
            .kind = JOB_EV_HISTORY_FAILED, .answered = true, .message = "the store could not be read"};

        runner_feed(j, &ev);
    }
    job_record_free(&rec);
    runner_settle(r);
}

void attempt_history(struct runner_job *j)
{
    if (!j->a->loaded) {
        collect_gap(j->a);
        store_get(j->r->env.store, j->s.id, JOB_PART_GRAPH | JOB_PART_INPUTS, on_reloaded, call_new(j));
        return;
    }
    fleet_history(j->r->env.fleet, j->s.server, j->s.upstream_id, on_history, call_new(j));
}

/* Is there a dict in it? Numbers and flags beside outputs are nothing to store; a dict is an output of a kind that is not
 * known here. Depth is bounded by the checker. */
static bool holds_dict(struct json v)
{
    struct json_iter it = json_iter(v);
    struct json inner;

    if (json_type(v) == JSON_OBJECT)
        return true;
    while (json_type(v) == JSON_ARRAY && json_next(&it, NULL, &inner))
        if (holds_dict(inner))
            return true;
    return false;
}

static bool outputs_hold_dict(const struct history *h)
{
    struct json_iter nodes = json_iter(h->outputs);
    struct json node, value;

    while (json_next(&nodes, NULL, &node)) {
        struct json_iter keys = json_iter(node);

        while (json_type(node) == JSON_OBJECT && json_next(&keys, NULL, &value))
            if (holds_dict(value))
                return true;
    }
    return false;
}

static bool find_again(const struct attempt *a, struct history *h)
{
    struct json body;

    return a->history && json_check(a->history->data, a->history->len, NULL, &body, NULL) == 0 &&
           history_find(body, a->upstream_id, h, NULL) == 0;
}

void attempt_collect(struct runner_job *j)
{
    struct attempt *a = j->a;
    struct taking t = {.a = a, .listed = true};
    struct history h;
    bool any = false, found = find_again(a, &h);

    if (found)
        history_outputs(&h, take, &t);
    list_for_each(it, &a->files) {
        struct attempt_file *f = list_entry(it, struct attempt_file, link);

        any |= f->listed;
        try_again(f);
    }
    a->unrecognised = !any && (t.others > 0 || (found && t.inputs == 0 && outputs_hold_dict(&h)));
    a->collecting = true;
    files_pump(a);
}

/* --- what native history shows in the end --- */

/* A staged name goes back to the name that the client gave. */
static void rename_input(const struct attempt *a, const struct history_output *o, struct history_names *n)
{
    char *filename = json_strdup(o->filename), digits[NAME_HASH_HEX + 1], hex[BLAKE3_HEX];
    struct name_ref ref;

    for (size_t i = 0; filename && name_staged_parse(filename, strlen(filename), digits) && i < a->n_inputs;
         i++) {
        blake3_hex(a->inputs[i].blake3, hex);
        if (strncmp(hex, digits, NAME_HASH_HEX) != 0 ||
            !name_ref_parse(a->inputs[i].name, strlen(a->inputs[i].name), &ref))
            continue;
        buf_put(&n->filename, ref.file, ref.file_n);
        buf_put(&n->subfolder, ref.folder, ref.folder_n);
        buf_puts(&n->type, name_type_str(ref.type));
        n->set_filename = n->set_subfolder = n->set_type = true;
        break;
    }
    free(filename);
}

static void rename_output(void *arg, const struct history_output *o, struct history_names *n)
{
    const struct runner_job *j = arg;
    struct buf text = BUF_INIT;
    struct name_ref ref;
    char *sub;

    if (o->kind == HISTORY_FILE) {
        sub = str_or(o->subfolder, "");
        name_put_virtual(&n->subfolder, j->s.id, (unsigned)j->s.attempt, sub);
        n->set_subfolder = true;
        free(sub);
    } else if (o->kind == HISTORY_INPUT) {
        rename_input(j->a, o, n);
    } else if (o->kind == HISTORY_RESULT && result_names_file(o->value, &ref, &text)) {
        sub = xstrndup(ref.folder, ref.folder_n);
        name_put_virtual(&n->text, j->s.id, (unsigned)j->s.attempt, sub);
        buf_putc(&n->text, '/');
        buf_put(&n->text, ref.file, ref.file_n);
        n->set_text = true;
        free(sub);
    }
    buf_free(&text);
}

void runner_rename(struct runner *r, const char *id, const struct history_output *o, struct history_names *n)
{
    struct runner_job *j = runner_get(r, id);

    if (j && j->a)
        rename_output(j, o, n);
}

/* The server's own account, under the job's id and names. */
static struct bytes *entry_of_server(struct runner_job *j, const struct history *h)
{
    struct history_rewrite rw = {.prompt_id = j->s.id, .rename = rename_output, .arg = j};
    struct buf whole = BUF_INIT, out = BUF_INIT;
    struct json entry;
    struct jsonw w;

    rw.graph = rw.extra_data = (struct json){"{}", 2};
    history_put_entry(&whole, h, &rw);
    if (json_check(buf_str(&whole), whole.len, NULL, &entry, NULL) < 0) {
        buf_free(&whole);
        return NULL;
    }
    jsonw_init(&w, &out);
    jsonw_obj(&w);
    jsonw_kspan(&w, "outputs", json_get(entry, "outputs"));
    jsonw_kspan(&w, "status", json_get(entry, "status"));
    jsonw_kspan(&w, "meta", json_get(entry, "meta"));
    jsonw_obj_end(&w);
    buf_free(&whole);
    return buf_to_bytes(&out);
}

struct bytes *collect_end_history(struct runner_job *j, enum job_state state, const struct job_error *e)
{
    struct bytes *b = NULL;
    struct history h;
    bool as_server = state == JOB_SUCCEEDED || (state == JOB_FAILED && j->a && j->a->failed);

    if (as_server && find_again(j->a, &h) && (state == JOB_SUCCEEDED || h.verdict != HISTORY_UNKNOWN))
        b = entry_of_server(j, &h);
    return b ? b : account_of_end(j, state, e);
}
