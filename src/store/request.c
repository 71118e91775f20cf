#include "store/request.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static const char *const kind_names[REQ_KINDS] = {
    [REQ_SUBMIT] = "submit",
    [REQ_STEP] = "step",
    [REQ_HIDE] = "hide",
    [REQ_STRAY_DONE] = "stray_done",
    [REQ_INPUT_PUT] = "input_put",
    [REQ_USER_PUT] = "user_put",
    [REQ_USER_MOVE] = "user_move",
    [REQ_USER_REMOVE] = "user_remove",
    [REQ_BLOB_PIN] = "blob_pin",
    [REQ_BLOB_UNPIN] = "blob_unpin",
    [REQ_BLOB_COLLECT] = "blob_collect",
    [REQ_SERVER_PUT] = "server_put",
    [REQ_SERVER_REMOVE] = "server_remove",
    [REQ_DOC_PUT] = "doc_put",
    [REQ_TRIM] = "trim",
    [REQ_GET] = "get",
    [REQ_LIST] = "list",
    [REQ_UNFINISHED] = "unfinished",
    [REQ_STRAYS] = "strays",
    [REQ_OUTPUT_FIND] = "output_find",
    [REQ_INPUT_FIND] = "input_find",
    [REQ_INPUT_LIST] = "input_list",
    [REQ_ALIAS_FIND] = "alias_find",
    [REQ_USER_FIND] = "user_find",
    [REQ_USER_LIST] = "user_list",
    [REQ_BLOB_KNOWN] = "blob_known",
    [REQ_SERVERS] = "servers",
    [REQ_EVENTS] = "events",
    [REQ_DOC_GET] = "doc_get",
};

const char *req_kind_name(enum req_kind kind)
{
    return kind_names[kind];
}

const char *store_status_name(enum store_status s)
{
    static const char *const names[] = {"ok",   "lost",   "exists",   "not_found",
                                        "full", "failed", "conflict", "limit"};

    return (unsigned)s < ARRAY_LEN(names) ? names[s] : "unknown";
}

void store_close(struct store **s)
{
    struct store *gone = *s;

    *s = NULL;
    if (gone)
        gone->ops->close(gone);
}

void store_list_free(struct store_list *l)
{
    for (size_t i = 0; i < l->n; i++)
        job_record_free(&l->rows[i]);
    free(l->rows);
    l->rows = NULL;
    l->n = 0;
}

/* --- copying arguments ---
 * A pack function runs twice over the same input: with p NULL it only counts, then it copies. */
struct pack {
    char *p;
    size_t need;
};

static void *pack_mem(struct pack *k, const void *src, size_t n, size_t align)
{
    void *to;

    k->need = (k->need + align - 1) & ~(align - 1);
    to = k->p ? k->p + k->need : NULL;
    if (to && n)
        memcpy(to, src, n);
    k->need += n;
    return to;
}

static char *pack_str(struct pack *k, const char *s)
{
    return s ? pack_mem(k, s, strlen(s) + 1, 1) : NULL;
}

static const uint8_t *pack_hash(struct pack *k, const uint8_t *hash)
{
    return hash ? pack_mem(k, hash, BLAKE3_LEN, 1) : NULL;
}

static struct store_event *pack_events(struct pack *k, const struct store_event *src, size_t n)
{
    struct store_event *to = pack_mem(k, src, n * sizeof(*src), _Alignof(struct store_event));

    for (size_t i = 0; i < n; i++) {
        struct store_event e = {pack_str(k, src[i].kind), pack_str(k, src[i].data)};

        if (to)
            to[i] = e;
    }
    return to;
}

static struct job_input *pack_inputs(struct pack *k, const struct job_input *src, size_t n)
{
    struct job_input *to = pack_mem(k, src, n * sizeof(*src), _Alignof(struct job_input));

    for (size_t i = 0; i < n; i++) {
        char *name = pack_str(k, src[i].name);

        if (to)
            to[i].name = name;
    }
    return to;
}

static struct job_output *pack_outputs(struct pack *k, const struct job_output *src, size_t n)
{
    struct job_output *to = pack_mem(k, src, n * sizeof(*src), _Alignof(struct job_output));

    for (size_t i = 0; i < n; i++) {
        struct job_output o = src[i];

        o.node_id = pack_str(k, o.node_id);
        o.kind = pack_str(k, o.kind);
        o.key = pack_str(k, o.key);
        o.filename = pack_str(k, o.filename ? o.filename : "");
        o.subfolder = pack_str(k, o.subfolder ? o.subfolder : "");
        o.type = pack_str(k, o.type ? o.type : "");
        o.mime = pack_str(k, o.mime);
        if (to)
            to[i] = o;
    }
    return to;
}

static struct job_attempt *pack_attempt(struct pack *k, const struct job_attempt *src)
{
    struct job_attempt a, *to;

    if (src == NULL)
        return NULL;
    a = *src;
    to = pack_mem(k, src, sizeof(*src), _Alignof(struct job_attempt));
    a.server = pack_str(k, a.server);
    a.message = pack_str(k, a.message);
    if (to)
        *to = a;
    return to;
}

static struct job_error *pack_error(struct pack *k, const struct job_error *src)
{
    struct job_error e, *to;

    if (src == NULL)
        return NULL;
    e = *src;
    to = pack_mem(k, src, sizeof(*src), _Alignof(struct job_error));
    e.server = pack_str(k, e.server);
    e.message = pack_str(k, e.message);
    e.detail = pack_str(k, e.detail);
    if (to)
        *to = e;
    return to;
}

static struct store_stray *pack_stray(struct pack *k, const struct store_stray *src)
{
    struct store_stray s, *to;

    if (src == NULL)
        return NULL;
    s = *src;
    to = pack_mem(k, src, sizeof(*src), _Alignof(struct store_stray));
    s.server = pack_str(k, s.server);
    if (to)
        *to = s;
    return to;
}

static void submit_pack(struct store_submit *s, struct pack *k)
{
    s->id = pack_str(k, s->id);
    s->tenant = pack_str(k, s->tenant);
    s->client_id = pack_str(k, s->client_id);
    s->window_id = pack_str(k, s->window_id);
    s->need = pack_str(k, s->need);
    s->workflow_id = pack_str(k, s->workflow_id);
    s->retry_of = pack_str(k, s->retry_of);
    s->key = pack_str(k, s->key);
    s->note = pack_str(k, s->note);
    s->inputs = pack_inputs(k, s->inputs, s->n_inputs);
    s->events = pack_events(k, s->events, s->n_events);
}

static void step_pack(struct store_step *s, struct pack *k)
{
    s->id = pack_str(k, s->id);
    s->note = pack_str(k, s->note);
    s->begin = pack_attempt(k, s->begin);
    s->end = pack_attempt(k, s->end);
    s->error = pack_error(k, s->error);
    s->outputs = pack_outputs(k, s->outputs, s->n_outputs);
    s->stray = pack_stray(k, s->stray);
    s->events = pack_events(k, s->events, s->n_events);
}

static void input_put_pack(struct store_input *in, struct pack *k)
{
    in->tenant = pack_str(k, in->tenant);
    in->type = pack_str(k, in->type);
    in->subfolder = pack_str(k, in->subfolder);
    in->name = pack_str(k, in->name);
    in->mime = pack_str(k, in->mime);
    in->alike = pack_hash(k, in->alike);
}

static void user_put_pack(struct store_user_put *in, struct pack *k)
{
    in->tenant = pack_str(k, in->tenant);
    in->area = pack_str(k, in->area);
    in->path = pack_str(k, in->path);
    in->was = pack_hash(k, in->was);
}

static void user_pack(struct req *r, struct pack *k)
{
    r->in.user.tenant = pack_str(k, r->in.user.tenant);
    r->in.user.area = pack_str(k, r->in.user.area);
    r->in.user.path = pack_str(k, r->in.user.path);
    r->in.user.to = pack_str(k, r->in.user.to);
}

/* in is a shallow copy of the arguments; its pointers are replaced by copies. */
static void req_pack(struct req *r, struct pack *k)
{
    switch (r->kind) {
    case REQ_SUBMIT: submit_pack(&r->in.submit, k); break;
    case REQ_STEP: step_pack(&r->in.step, k); break;
    case REQ_HIDE:
        r->in.hide.tenant = pack_str(k, r->in.hide.tenant);
        r->in.hide.id = pack_str(k, r->in.hide.id);
        break;
    case REQ_STRAY_DONE:
        r->in.stray_done.server = pack_str(k, r->in.stray_done.server);
        r->in.stray_done.upstream_id = pack_str(k, r->in.stray_done.upstream_id);
        break;
    case REQ_INPUT_PUT: input_put_pack(&r->in.input_put, k); break;
    case REQ_SERVER_PUT:
        r->in.server_put.server.name = pack_str(k, r->in.server_put.server.name);
        r->in.server_put.server.url = pack_str(k, r->in.server_put.server.url);
        r->in.server_put.server.tags = pack_str(k, r->in.server_put.server.tags);
        break;
    case REQ_SERVER_REMOVE: r->in.name = pack_str(k, r->in.name); break;
    case REQ_DOC_PUT:
    case REQ_DOC_GET:
        r->in.doc.kind = pack_str(k, r->in.doc.kind);
        r->in.doc.key = pack_str(k, r->in.doc.key);
        break;
    case REQ_GET: r->in.get.id = pack_str(k, r->in.get.id); break;
    case REQ_LIST:
        r->in.list.tenant = pack_str(k, r->in.list.tenant);
        r->in.list.client_id = pack_str(k, r->in.list.client_id);
        r->in.list.window_id = pack_str(k, r->in.list.window_id);
        r->in.list.server = pack_str(k, r->in.list.server);
        r->in.list.kind = pack_str(k, r->in.list.kind);
        r->in.list.workflow_id = pack_str(k, r->in.list.workflow_id);
        break;
    case REQ_OUTPUT_FIND:
        r->in.output.tenant = pack_str(k, r->in.output.tenant);
        r->in.output.job = pack_str(k, r->in.output.job);
        r->in.output.type = pack_str(k, r->in.output.type);
        r->in.output.subfolder = pack_str(k, r->in.output.subfolder);
        r->in.output.filename = pack_str(k, r->in.output.filename);
        break;
    case REQ_INPUT_FIND:
    case REQ_INPUT_LIST:
        r->in.input.tenant = pack_str(k, r->in.input.tenant);
        r->in.input.type = pack_str(k, r->in.input.type);
        r->in.input.subfolder = pack_str(k, r->in.input.subfolder);
        r->in.input.name = pack_str(k, r->in.input.name);
        break;
    case REQ_ALIAS_FIND:
        r->in.alias.tenant = pack_str(k, r->in.alias.tenant);
        r->in.alias.hex = pack_str(k, r->in.alias.hex);
        break;
    case REQ_USER_PUT: user_put_pack(&r->in.user_put, k); break;
    case REQ_USER_FIND:
    case REQ_USER_LIST:
    case REQ_USER_MOVE:
    case REQ_USER_REMOVE: user_pack(r, k); break;
    case REQ_EVENTS: r->in.events.job = pack_str(k, r->in.events.job); break;
    case REQ_BLOB_PIN:
    case REQ_BLOB_UNPIN:
    case REQ_BLOB_COLLECT:
    case REQ_BLOB_KNOWN:
    case REQ_TRIM:
    case REQ_UNFINISHED:
    case REQ_STRAYS:
    case REQ_SERVERS: break;
    }
}

static void submit_bytes(struct store_submit *s, struct bytes **v[6])
{
    v[0] = &s->graph;
    v[1] = &s->extra_data;
    v[2] = &s->targets;
    v[3] = &s->rest;
    v[4] = &s->secrets;
    v[5] = &s->answer;
}

static void req_ref(struct req *r)
{
    struct bytes **v[6];

    if (r->kind == REQ_SUBMIT) {
        submit_bytes(&r->in.submit, v);
        for (size_t i = 0; i < ARRAY_LEN(v); i++)
            bytes_ref(*v[i]);
    } else if (r->kind == REQ_STEP) {
        bytes_ref(r->in.step.history);
    } else if (r->kind == REQ_DOC_PUT) {
        bytes_ref(r->in.doc.doc);
    }
}

static void req_unref(struct req *r)
{
    struct bytes **v[6];

    if (r->kind == REQ_SUBMIT) {
        submit_bytes(&r->in.submit, v);
        for (size_t i = 0; i < ARRAY_LEN(v); i++)
            bytes_unref(*v[i]);
    } else if (r->kind == REQ_STEP) {
        bytes_unref(r->in.step.history);
    } else if (r->kind == REQ_DOC_PUT) {
        bytes_unref(r->in.doc.doc);
    }
}

/* Copy what shallow points to and hand it to the store's implementation. */
static void req_give(struct store *s, const struct req *shallow)
{
    struct store_backend *b = container_of(s, struct store_backend, store);
    struct pack k = {0};
    struct req count = *shallow, *r;

    req_pack(&count, &k);
    r = xmalloc(sizeof(*r) + k.need);
    *r = *shallow;
    k = (struct pack){.p = (char *)r->data};
    req_pack(r, &k);
    req_ref(r);
    list_init(&r->link);
    b->give(b, r);
}

/* --- the verbs --- */
void req_give_submit(struct store *s, const struct store_submit *in, store_submitted_cb *cb, void *arg)
{
    assert(in->id && in->tenant && in->graph);
    req_give(s, &(struct req){.kind = REQ_SUBMIT, .cb.submitted = cb, .arg = arg, .in.submit = *in});
}

void req_give_step(struct store *s, const struct store_step *in, store_done_cb *cb, void *arg)
{
    assert(in->id);
    req_give(s, &(struct req){.kind = REQ_STEP, .cb.done = cb, .arg = arg, .in.step = *in});
}

void req_give_get(struct store *s, const char *id, uint32_t parts, store_record_cb *cb, void *arg)
{
    req_give(s, &(struct req){.kind = REQ_GET, .cb.record = cb, .arg = arg, .in.get = {id, parts}});
}

const char *store_list_narrow(const struct store_filter *f, struct store_filter *searched)
{
    *searched = *f;
    if (f->window_id)
        searched->client_id = searched->server = NULL;
    else if (f->client_id)
        searched->server = NULL;
    return f->window_id   ? "jobs_window"
           : f->client_id ? "jobs_client"
           : f->server    ? "jobs_server"
           : f->tenant    ? "jobs_tenant"
                          : "jobs_state";
}

/* Does an index answer it alone? Then every row that is looked at is one of the list. */
static bool list_is_plain(const struct store_filter *f)
{
    int names = (f->window_id != NULL) + (f->client_id != NULL) + (f->server != NULL);

    return f->kind == NULL && (names <= 1 || f->in_history);
}

void req_give_list(struct store *s, const struct store_filter *f, store_list_cb *cb, void *arg)
{
    struct req r = {.kind = REQ_LIST, .cb.list = cb, .arg = arg, .in.list = *f};

    assert(f->limit >= 1 && f->limit <= 10000 && f->offset >= 0 && f->after >= 0);
    r.in.list.states &= JOB_STATES_LIVE | JOB_STATES_ENDED;
    if (r.in.list.states == 0)
        r.in.list.states = JOB_STATES_LIVE | JOB_STATES_ENDED;
    if (list_is_plain(f))
        r.in.list.look = 0;
    else if (f->look == 0)
        r.in.list.look = f->kind ? STORE_LOOK : 10 * STORE_LOOK;
    req_give(s, &r);
}

void req_give_unfinished(struct store *s, store_summaries_cb *cb, void *arg)
{
    req_give(s, &(struct req){.kind = REQ_UNFINISHED, .cb.summaries = cb, .arg = arg});
}

void req_give_hide(struct store *s, const char *tenant, const char *id, store_done_cb *cb, void *arg)
{
    assert(tenant);
    req_give(s, &(struct req){.kind = REQ_HIDE, .cb.done = cb, .arg = arg, .in.hide = {tenant, id}});
}

void req_give_strays(struct store *s, store_strays_cb *cb, void *arg)
{
    req_give(s, &(struct req){.kind = REQ_STRAYS, .cb.strays = cb, .arg = arg});
}

void req_give_stray_done(struct store *s, const char *server, const char *upstream_id, store_done_cb *cb,
                         void *arg)
{
    req_give(s,
             &(struct req){
                 .kind = REQ_STRAY_DONE, .cb.done = cb, .arg = arg, .in.stray_done = {server, upstream_id}});
}

void req_give_output_find(struct store *s, const struct store_output_key *k, store_file_cb *cb, void *arg)
{
    assert((k->tenant || k->job) && k->type && k->subfolder && k->filename);
    req_give(s, &(struct req){.kind = REQ_OUTPUT_FIND, .cb.file = cb, .arg = arg, .in.output = *k});
}

void req_give_input_put(struct store *s, const struct store_input *in, store_file_cb *cb, void *arg)
{
    assert(in->tenant && in->type && in->subfolder && in->name);
    req_give(s, &(struct req){.kind = REQ_INPUT_PUT, .cb.file = cb, .arg = arg, .in.input_put = *in});
}

void req_give_input_find(struct store *s, const char *tenant, const char *type, const char *subfolder,
                         const char *name, store_file_cb *cb, void *arg)
{
    assert(tenant && type && subfolder && name);
    req_give(s, &(struct req){.kind = REQ_INPUT_FIND,
                              .cb.file = cb,
                              .arg = arg,
                              .in.input = {tenant, type, subfolder, name}});
}

void req_give_input_list(struct store *s, const char *tenant, const char *type, store_files_cb *cb, void *arg)
{
    req_give(s,
             &(struct req){
                 .kind = REQ_INPUT_LIST, .cb.files = cb, .arg = arg, .in.input = {tenant, type, NULL, NULL}});
}

void req_give_alias_find(struct store *s, const char *tenant, const char *hex, store_file_cb *cb, void *arg)
{
    assert(tenant && strlen(hex) >= 8 && strlen(hex) <= 64);
    req_give(s, &(struct req){.kind = REQ_ALIAS_FIND, .cb.file = cb, .arg = arg, .in.alias = {tenant, hex}});
}

void req_give_user_put(struct store *s, const struct store_user_put *in, store_file_cb *cb, void *arg)
{
    assert(in->tenant && in->area && in->path && in->path[0]);
    req_give(s, &(struct req){.kind = REQ_USER_PUT, .cb.file = cb, .arg = arg, .in.user_put = *in});
}

void req_give_user_find(struct store *s, const char *tenant, const char *area, const char *path,
                        store_file_cb *cb, void *arg)
{
    req_give(s, &(struct req){.kind = REQ_USER_FIND,
                              .cb.file = cb,
                              .arg = arg,
                              .in.user = {tenant, area, path, NULL, false}});
}

void req_give_user_list(struct store *s, const char *tenant, const char *area, const char *path,
                        store_files_cb *cb, void *arg)
{
    req_give(s, &(struct req){.kind = REQ_USER_LIST,
                              .cb.files = cb,
                              .arg = arg,
                              .in.user = {tenant, area, path, NULL, false}});
}

void req_give_user_move(struct store *s, const char *tenant, const char *area, const char *from,
                        const char *to, bool overwrite, store_file_cb *cb, void *arg)
{
    assert(from[0] && to[0]);
    req_give(s, &(struct req){.kind = REQ_USER_MOVE,
                              .cb.file = cb,
                              .arg = arg,
                              .in.user = {tenant, area, from, to, overwrite}});
}

void req_give_user_remove(struct store *s, const char *tenant, const char *area, const char *path,
                          store_done_cb *cb, void *arg)
{
    req_give(s, &(struct req){.kind = REQ_USER_REMOVE,
                              .cb.done = cb,
                              .arg = arg,
                              .in.user = {tenant, area, path, NULL, false}});
}

void req_give_blob_pin(struct store *s, const uint8_t hash[BLAKE3_LEN], int64_t size, store_pin_cb *cb,
                       void *arg)
{
    struct req r = {.kind = REQ_BLOB_PIN, .cb.pin = cb, .arg = arg, .in.blob.size = size};

    memcpy(r.in.blob.hash, hash, BLAKE3_LEN);
    req_give(s, &r);
}

void req_give_blob_unpin(struct store *s, int64_t pin, store_done_cb *cb, void *arg)
{
    req_give(s, &(struct req){.kind = REQ_BLOB_UNPIN, .cb.done = cb, .arg = arg, .in.unpin = pin});
}

void req_give_blob_collect(struct store *s, int64_t now, int64_t grace_ms, int max, req_unlink_cb *unlink_cb,
                           void *unlink_arg, store_collected_cb *cb, void *arg)
{
    req_give(s, &(struct req){.kind = REQ_BLOB_COLLECT,
                              .cb.collected = cb,
                              .arg = arg,
                              .in.collect = {now, grace_ms, max, unlink_cb, unlink_arg}});
}

void req_give_blob_known(struct store *s, const uint8_t hash[BLAKE3_LEN], store_done_cb *cb, void *arg)
{
    struct req r = {.kind = REQ_BLOB_KNOWN, .cb.done = cb, .arg = arg};

    memcpy(r.in.blob.hash, hash, BLAKE3_LEN);
    req_give(s, &r);
}

void req_give_server_put(struct store *s, const struct store_server *in, bool replace, store_done_cb *cb,
                         void *arg)
{
    req_give(
        s, &(struct req){.kind = REQ_SERVER_PUT, .cb.done = cb, .arg = arg, .in.server_put = {*in, replace}});
}

void req_give_server_remove(struct store *s, const char *name, store_done_cb *cb, void *arg)
{
    req_give(s, &(struct req){.kind = REQ_SERVER_REMOVE, .cb.done = cb, .arg = arg, .in.name = name});
}

void req_give_servers(struct store *s, store_servers_cb *cb, void *arg)
{
    req_give(s, &(struct req){.kind = REQ_SERVERS, .cb.servers = cb, .arg = arg});
}

void req_give_events(struct store *s, int64_t after, const char *job, int limit, store_events_cb *cb,
                     void *arg)
{
    assert(limit >= 1);
    req_give(
        s, &(struct req){.kind = REQ_EVENTS, .cb.events = cb, .arg = arg, .in.events = {after, job, limit}});
}

void req_give_doc_put(struct store *s, const char *kind, const char *key, struct bytes *doc,
                      store_done_cb *cb, void *arg)
{
    req_give(s, &(struct req){.kind = REQ_DOC_PUT, .cb.done = cb, .arg = arg, .in.doc = {kind, key, doc}});
}

void req_give_doc_get(struct store *s, const char *kind, const char *key, store_doc_cb *cb, void *arg)
{
    req_give(s, &(struct req){.kind = REQ_DOC_GET, .cb.doc = cb, .arg = arg, .in.doc = {kind, key, NULL}});
}

void req_give_trim(struct store *s, const struct store_keep *k, store_trimmed_cb *cb, void *arg)
{
    assert(k->max_rows >= 1);
    req_give(s, &(struct req){.kind = REQ_TRIM, .cb.trimmed = cb, .arg = arg, .in.trim = *k});
}

void req_drop(struct req *r)
{
    req_reset(r);
    req_unref(r);
    free(r);
}
