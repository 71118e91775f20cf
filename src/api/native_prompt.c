/* POST /prompt: checked, validated against what the fleet can do, kept, and only then answered. */
#include <blake3.h>
#include <stdlib.h>
#include <string.h>

#include "api/inputs.h"
#include "api/native.h"
#include "base/log.h"
#include "base/uuid.h"
#include "comfy/graph.h"
#include "comfy/object_info.h"
#include "comfy/prompt_request.h"
#include "comfy/validate.h"

/* One submit on its way: the request, its parts, and what was found out about it. */
struct submit {
    struct api *a;
    struct http_req
        *req; /* NULL: the client has left; the job is kept all the same once it was given to the store */
    struct bytes *text;
    struct prompt_request r;
    struct graph *g;
    struct validate_result v;
    bool validated;
    uint32_t flags;
    struct buf need;
    struct inputs *inputs;
    char id[UUID_SIZE];
    char *tenant, *window;
};

static void submit_free(struct submit *s)
{
    if (s->req)
        http_on_abort(s->req, NULL, NULL);
    prompt_request_fini(&s->r);
    graph_free(&s->g);
    if (s->validated)
        validate_result_fini(&s->v);
    buf_free(&s->need);
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

/* --- validation --- */

#define SERVERS 256

/* The servers whose word counts: configured and known. names[i] is server i's. */
static bool known_servers(struct api *a, struct server_set *among, const char *names[SERVERS])
{
    struct fleet_server v[SERVERS];
    size_t n = fleet_servers(registry_fleet(a->d.registry), v, SERVERS);
    bool any = false;

    memset(among, 0, sizeof(*among));
    for (size_t i = 0; i < n && i < SERVERS; i++) {
        names[v[i].index] = v[i].name;
        if (v[i].known) {
            server_set_add(among, v[i].index);
            any = true;
        }
    }
    return any;
}

/* False: it has been refused. */
static bool validate(struct submit *s)
{
    struct object_view *view = registry_view(s->a->d.registry);
    struct validate_opts opts = {.dialect = VALIDATE_NEW, .targets = s->r.targets};
    const char *names[SERVERS] = {NULL};
    struct server_set among, can;
    struct buf b = BUF_INIT;

    if (view == NULL || !known_servers(s->a, &among, names)) {
        s->flags |= JOB_F_UNVALIDATED;
        return true;
    }
    validate_fleet(s->g, view, &among, names, &opts, &s->v, &can);
    s->validated = true;
    if (!s->v.ok) {
        validate_put_body(&b, &s->v);
        log_info(LOG_S("event", "prompt_refused"), LOG_S("client", s->r.client_id),
                 LOG_S("reason", s->v.error.type));
        api_reply_json(s->req, 400, &b);
        s->req = NULL;
        submit_free(s);
        return false;
    }
    if (object_view_is_paid(view, s->g))
        s->flags |= JOB_F_PAID;
    object_need_put(&s->need, view, s->g);
    return true;
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

static void hash_body(const struct submit *s, uint8_t out[BLAKE3_LEN])
{
    blake3_hasher h;

    blake3_hasher_init(&h);
    blake3_hasher_update(&h, s->text->data, s->text->len);
    blake3_hasher_finalize(&h, out, BLAKE3_LEN);
}

static void give(struct submit *s)
{
    struct json g = graph_text(s->g);
    struct store_submit in = {.id = s->id,
                              .tenant = s->tenant,
                              .client_id = s->r.client_id && s->r.client_id[0] ? s->r.client_id : NULL,
                              .window_id = s->window ? s->window : s->r.window_id,
                              .need = s->need.len ? buf_str(&s->need) : NULL,
                              .graph = bytes_new(g.p, g.n),
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

    hash_body(s, in.body_hash);
    hub_expect(s->a->hub, s->id);
    taken = runner_submit(s->a->runner, &in, on_submitted, s);
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

static void on_body(struct http_req *req, struct bytes *body, void *arg)
{
    struct submit *s = arg;
    struct prompt_error pe = {0};
    struct err e;

    (void)req;
    s->text = bytes_ref(body);
    if (prompt_request_parse(body->data, body->len, &s->r, &pe) < 0) {
        memset(&s->r, 0, sizeof(s->r));
        reply_error(s, 400, &pe);
        prompt_error_fini(&pe);
        submit_free(s);
        return;
    }
    s->g = graph_new(s->r.prompt, (size_t)s->a->cfg.nodes_max, &e);
    if (s->g == NULL) {
        refuse(s, 400, "invalid_prompt", "Cannot execute because the prompt is not a graph", e.msg);
        return;
    }
    if (!validate(s))
        return;
    if (s->r.prompt_id[0])
        memcpy(s->id, s->r.prompt_id, UUID_SIZE);
    else
        uuid_v7(s->a->d.clock, s->id);
    s->inputs = inputs_find(s->a, s->tenant, s->g, on_inputs, s);
}

void native_post_prompt(struct api *a, struct http_req *req, const struct api_params *p)
{
    struct submit *s = xcalloc(1, sizeof(*s));
    const char *window = http_req_header(req, "X-Comfymux-Window");

    (void)p;
    s->a = a;
    s->req = req;
    s->tenant = xstrdup(api_tenant(a, req));
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
