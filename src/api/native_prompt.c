/* POST /prompt: checked, validated against what the fleet can do, kept, and only then answered. */
#include <blake3.h>
#include <stdlib.h>
#include <string.h>

#include "api/inputs.h"
#include "api/native.h"
#include "base/log.h"
#include "base/uuid.h"
#include "comfy/charset.h"
#include "comfy/graph.h"
#include "comfy/object_info.h"
#include "comfy/prompt_request.h"
#include "comfy/validate.h"

#define WORKFLOW_ID_MAX 128
#define JUDGE_ON_LOOP (64u << 10) /* bytes; a longer prompt is judged on a worker */

/* One submit on its way: the request, its parts, and what was found out about it. */
struct submit {
    struct api *a;
    struct http_req
        *req; /* NULL: the client has left; the job is kept all the same once it was given to the store */
    struct bytes *text;
    char *charset;      /* of the text, NULL: UTF-8 */
    struct buf decoded; /* the text, when it came in another charset */
    struct work work;   /* judge(), for a long text */
    struct fleet_known *fleet;
    size_t nodes_max;
    struct prompt_request r;
    struct graph *g;
    struct validate_result v;
    bool validated;
    struct buf refusal; /* the body of a 400; empty: it may be accepted */
    uint32_t flags;
    struct buf need;
    uint8_t body_hash[BLAKE3_LEN];
    struct inputs *inputs;
    char id[UUID_SIZE];
    char *tenant, *window;
};

/* What the fleet can do. Made anew when something has changed (native_fleet_fini()), never altered, so any thread may read
 * it; the owners are counted on the loop thread. */
#define SERVERS 256
struct fleet_known {
    unsigned refs;
    uint64_t version; /* registry_version() */
    struct workers *workers;
    struct object_view *view; /* NULL: no server has ever been known */
    struct server_set among;  /* the servers whose word counts: configured and known */
    char *names[SERVERS];     /* names[i] is server i's */
};

static void fleet_known_unref(struct fleet_known *f)
{
    if (f == NULL || --f->refs)
        return;
    if (f->view)
        registry_drop_view(f->workers, f->view);
    for (size_t i = 0; i < SERVERS; i++)
        free(f->names[i]);
    free(f);
}

static void submit_free(struct submit *s)
{
    if (s->req)
        http_on_abort(s->req, NULL, NULL);
    prompt_request_fini(&s->r);
    graph_free(&s->g);
    if (s->validated)
        validate_result_fini(&s->v);
    buf_free(&s->decoded);
    free(s->charset);
    buf_free(&s->refusal);
    buf_free(&s->need);
    fleet_known_unref(s->fleet);
    inputs_free(&s->inputs);
    bytes_unref(s->text);
    free(s->tenant);
    free(s->window);
    free(s);
}

static void reply_error(struct submit *s, int status, const struct prompt_error *e)
{
    struct buf b = BUF_INIT;

    prompt_error_put_body(&b, e, NULL);
    if (s->req)
        api_reply_json(s->req, status, &b);
    s->req = NULL;
    buf_free(&b);
}

static void refuse(struct submit *s, int status, const char *type, const char *message, const char *details)
{
    struct prompt_error e = {0};

    prompt_error_set(&e, type, message, details);
    if (s->req && (status == 503 || status == 429))
        http_set(s->req, "Retry-After", "5");
    reply_error(s, status, &e);
    prompt_error_fini(&e);
    submit_free(s);
}

/* --- what the fleet can do --- */

static struct fleet_known *fleet_known_new(struct api *a)
{
    struct object_view *view = registry_view(a->d.registry);
    struct fleet_server v[SERVERS];
    size_t n = fleet_servers(registry_fleet(a->d.registry), v, SERVERS);
    struct fleet_known *f = xcalloc(1, sizeof(*f));

    f->refs = 1;
    f->version = registry_version(a->d.registry);
    f->workers = a->d.workers;
    for (size_t i = 0; i < n && i < SERVERS; i++) {
        f->names[v[i].index] = xstrdup(v[i].name);
        if (v[i].known)
            server_set_add(&f->among, v[i].index);
    }
    if (view && !server_set_empty(&f->among))
        f->view = object_view_ref(view);
    return f;
}

void native_fleet_fini(struct api *a)
{
    fleet_known_unref(a->fleet);
    a->fleet = NULL;
}

/* As it is now; a reference for the caller. */
static struct fleet_known *fleet_known(struct api *a)
{
    if (a->fleet && a->fleet->version != registry_version(a->d.registry))
        native_fleet_fini(a);
    if (a->fleet == NULL)
        a->fleet = fleet_known_new(a);
    a->fleet->refs++;
    return a->fleet;
}

/* --- judging: pure, on the loop thread or on a worker --- */

static void judge_refuse(struct submit *s, struct prompt_error *e)
{
    prompt_error_put_body(&s->refusal, e, NULL);
    prompt_error_fini(e);
}

static void judge_graph(struct submit *s)
{
    struct validate_opts opts = {.dialect = VALIDATE_NEW, .targets = s->r.targets, .coerce = COERCE_SENDABLE};
    const struct fleet_known *f = s->fleet;
    struct server_set can;

    if (f->view == NULL) {
        s->flags |= JOB_F_UNVALIDATED;
        return;
    }
    validate_fleet(s->g, f->view, &f->among, (const char *const *)f->names, &opts, &s->v, &can);
    s->validated = true;
    if (!s->v.ok) {
        validate_put_body(&s->refusal, &s->v);
        return;
    }
    if (object_view_is_paid(f->view, s->g))
        s->flags |= JOB_F_PAID;
    object_need_put(&s->need, f->view, s->g);
}

static void hash_body(struct submit *s)
{
    blake3_hasher h;

    blake3_hasher_init(&h);
    blake3_hasher_update(&h, s->text->data, s->text->len);
    blake3_hasher_finalize(&h, s->body_hash, BLAKE3_LEN);
}

static void judge(struct submit *s)
{
    struct prompt_error pe = {0};
    const char *text = s->text->data;
    size_t n = s->text->len;
    struct err e;

    if (s->charset) {
        if (charset_to_utf8(s->charset, text, n, &s->decoded, &e) < 0) {
            prompt_error_set(&pe, "invalid_json", "The body is not in the charset that it names", e.msg);
            judge_refuse(s, &pe);
            return;
        }
        text = buf_str(&s->decoded);
        n = s->decoded.len;
    }
    if (prompt_request_parse(text, n, &s->r, &pe) < 0) {
        memset(&s->r, 0, sizeof(s->r));
        judge_refuse(s, &pe);
        return;
    }
    s->g = graph_new(s->r.prompt, s->nodes_max, &e);
    if (s->g == NULL) {
        prompt_error_set(&pe, "invalid_prompt", "Cannot execute because the prompt is not a graph", e.msg);
        judge_refuse(s, &pe);
        return;
    }
    judge_graph(s);
    if (s->refusal.len == 0)
        hash_body(s);
}

/* --- what is kept --- */

/* The output nodes that are executed, as a JSON list; none when validation has not told. */
static struct bytes *targets_of(const struct submit *s)
{
    struct buf b = BUF_INIT;
    struct jsonw w;

    if (!s->validated)
        return s->r.targets.p ? bytes_new(s->r.targets.p, s->r.targets.n) : NULL;
    jsonw_init(&w, &b);
    jsonw_arr(&w);
    for (size_t i = 0; i < s->v.n_outputs; i++) {
        struct str id = graph_at(s->g, s->v.outputs[i])->id;

        jsonw_strn(&w, id.p, id.n);
    }
    jsonw_arr_end(&w);
    return buf_to_bytes(&b);
}

/* The graph that is kept, shown and sent: with its values as every server would keep them. */
static struct bytes *graph_of(struct submit *s)
{
    struct json g = graph_text(s->g);
    struct buf b = BUF_INIT;

    if (!s->validated || s->v.coerced.n == 0)
        return bytes_new(g.p, g.n);
    edits_put(&s->v.coerced, &b, g);
    return buf_to_bytes(&b);
}

static struct bytes *answer_of(const struct submit *s)
{
    struct buf b = BUF_INIT;

    buf_puts(&b, "{\"prompt_id\": ");
    json_put_str(&b, s->id);
    buf_puts(&b, ", \"number\": ");
    if (s->r.has_number)
        json_put_double(&b, s->r.number);
    else
        buf_puts(&b, "%NUMBER%");
    buf_puts(&b, ", \"node_errors\": ");
    buf_puts(&b, s->validated && s->v.node_errors.len ? buf_str(&s->v.node_errors) : "{}");
    buf_puts(&b, "}");
    return buf_to_bytes(&b);
}

static struct bytes *opt_bytes(const struct buf *b)
{
    return b->len ? bytes_new(b->data, b->len) : NULL;
}

static struct bytes *opt_secret(const struct buf *b)
{
    struct bytes *s = opt_bytes(b);

    if (s)
        s->secret = true;
    return s;
}

struct flushed {
    struct api *a;
    char id[UUID_SIZE];
};

/* The answer is out, or the connection is gone: now its events may go. */
static void on_flushed(bool ok, void *arg)
{
    struct flushed *f = arg;

    (void)ok;
    hub_release(f->a->hub, f->id);
    free(f);
}

static void answer(struct submit *s, const struct store_submitted *res)
{
    struct flushed *f = xcalloc(1, sizeof(*f));

    f->a = s->a;
    memcpy(f->id, res->id, UUID_SIZE);
    if (s->req == NULL) {
        on_flushed(false, f);
        return;
    }
    http_on_flushed(s->req, on_flushed, f);
    http_reply_bytes(s->req, 200, "application/json; charset=utf-8", res->answer);
    s->req = NULL;
}

static void on_submitted(const struct store_submitted *res, void *arg)
{
    struct submit *s = arg;

    if (res->status == STORE_OK) {
        answer(s, res);
        submit_free(s);
        return;
    }
    if (res->status == STORE_EXISTS && res->same_body && strcmp(res->tenant, s->tenant) == 0) {
        answer(s, res);
        submit_free(s);
        return;
    }
    hub_release(s->a->hub, s->id);
    if (res->status == STORE_EXISTS)
        refuse(s, 400, "duplicate_prompt_id", "This prompt_id has been used before", s->id);
    else
        refuse(s, 503, "storage_failed", "The job could not be stored",
               res->status == STORE_FULL ? "no space left on the device" : "the store could not write");
}

/* What the page calls the workflow that this was made from; one that is too long for a name is none. */
static char *workflow_of(const struct submit *s)
{
    struct json extra;
    char *id = NULL;

    if (s->r.extra_data.len && json_check(s->r.extra_data.data, s->r.extra_data.len, NULL, &extra, NULL) == 0)
        id = json_strdup(json_get(json_get(json_get(extra, "extra_pnginfo"), "workflow"), "id"));
    if (id && strlen(id) > WORKFLOW_ID_MAX) {
        free(id);
        id = NULL;
    }
    return id;
}

static void give(struct submit *s)
{
    char *workflow = workflow_of(s);
    struct store_submit in = {.id = s->id,
                              .tenant = s->tenant,
                              .client_id = s->r.client_id && s->r.client_id[0] ? s->r.client_id : NULL,
                              .window_id = s->window ? s->window : s->r.window_id,
                              .workflow_id = workflow,
                              .need = s->need.len ? buf_str(&s->need) : NULL,
                              .graph = graph_of(s),
                              .extra_data = opt_bytes(&s->r.extra_data),
                              .targets = targets_of(s),
                              .rest = opt_bytes(&s->r.rest),
                              .secrets = opt_secret(&s->r.secrets),
                              .answer = answer_of(s),
                              .has_number = s->r.has_number,
                              .front = s->r.front,
                              .number = s->r.number,
                              .flags = s->flags,
                              .created_at = s->a->d.clock->wall_ms(s->a->d.clock),
                              .inputs = inputs_list(s->inputs),
                              .n_inputs = inputs_count(s->inputs),
                              .note = "accepted"};
    bool taken;

    memcpy(in.body_hash, s->body_hash, BLAKE3_LEN);
    hub_expect(s->a->hub, s->id);
    taken = runner_submit(s->a->runner, &in, on_submitted, s);
    free(workflow);
    bytes_unref(in.graph);
    bytes_unref(in.extra_data);
    bytes_unref(in.targets);
    bytes_unref(in.rest);
    bytes_unref(in.secrets);
    bytes_unref(in.answer);
    if (!taken) {
        hub_release(s->a->hub, s->id);
        refuse(s, 429, "too_many_queued", "Too many jobs are waiting", "try again later");
    }
}

static void on_inputs(bool ok, void *arg)
{
    struct submit *s = arg;

    if (s->req == NULL)
        submit_free(s); /* nobody was told that it is accepted */
    else if (!ok)
        refuse(s, 503, "storage_failed", "The store could not be read", "");
    else
        give(s);
}

static void on_abort(struct http_req *req, void *arg)
{
    struct submit *s = arg;

    (void)req;
    s->req = NULL;
    if (s->text == NULL) /* its body never came whole: nobody else knows of it */
        submit_free(s);
}

static void judged(struct submit *s)
{
    if (s->req && s->refusal.len) {
        log_info(LOG_S("event", "prompt_refused"), LOG_S("client", s->r.client_id),
                 LOG_S("reason", s->validated ? s->v.error.type : "bad request"));
        api_reply_json(s->req, 400, &s->refusal);
        s->req = NULL;
    }
    if (s->req == NULL) {
        submit_free(s);
        return;
    }
    if (s->r.prompt_id[0])
        memcpy(s->id, s->r.prompt_id, UUID_SIZE);
    else
        uuid_v7(s->a->d.clock, s->id);
    s->inputs = inputs_find(s->a, s->tenant, s->g, on_inputs, s);
}

static void run_judge(struct work *w)
{
    judge(container_of(w, struct submit, work));
}

static void on_judged(struct work *w)
{
    judged(container_of(w, struct submit, work));
}

static void on_body(struct http_req *req, struct bytes *body, void *arg)
{
    struct submit *s = arg;

    (void)req;
    s->text = bytes_ref(body);
    s->fleet = fleet_known(s->a);
    s->nodes_max = (size_t)s->a->cfg.nodes_max;
    if (body->len <= JUDGE_ON_LOOP) {
        judge(s);
        judged(s);
    } else {
        s->work = (struct work){.run = run_judge, .done = on_judged};
        workers_submit(s->a->d.workers, &s->work);
    }
}

void native_post_prompt(struct api *a, struct http_req *req, const struct api_params *p)
{
    struct submit *s = xcalloc(1, sizeof(*s));
    const char *window = http_req_header(req, "X-Comfymux-Window");

    (void)p;
    s->a = a;
    s->req = req;
    s->tenant = xstrdup(api_tenant(a, req));
    s->charset = charset_of(http_req_header(req, "Content-Type"));
    s->window = window && window[0] ? xstrdup(window) : NULL;
    if (window && strlen(window) > CLIENT_ID_MAX) {
        refuse(s, 400, "invalid_window_id", "X-Comfymux-Window must have at most 256 bytes", "");
        return;
    }
    if (a->draining) {
        refuse(s, 503, "draining", "The gateway is about to stop", "try again in a moment");
        return;
    }
    if (a->runner == NULL) {
        refuse(s, 503, "not_ready", "The gateway is starting", "try again in a moment");
        return;
    }
    http_on_abort(req, on_abort, s);
    http_body_read_all(req, a->cfg.json_max, on_body, s);
}
