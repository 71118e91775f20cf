/* Requests that a server answers: passed on to it, both ways as a stream. Which server: the one that has the job or the file
 * that the request names in its query, in its path or at the top of a JSON body; else the primary. On the way the names that
 * clients know become those that the server knows. */
#include <stdlib.h>
#include <string.h>

#include "api/native.h"
#include "base/log.h"
#include "comfy/names.h"
#include "comfy/splice.h"

#define PEEK_MAX (1 << 20) /* a body of known length up to this is read first, for what it names */

/* Its guard compares Origin with its own address; Authorization is meant for us, or for what stands before us. */
const char *const native_pass_drop[] = {"Origin", "Referer", "Authorization", "X-Comfymux-Window", NULL};
const char *const native_pass_drop_answer[] = {"Access-Control-*", "Server", NULL};

/* --- what may be passed on --- */

static const char *without_api(const char *path)
{
    while (strncmp(path, "/api/", 5) == 0)
        path += 4;
    return path;
}

/* Does the path lie at or below the fixed part of this pattern? "/history/{id}": of "/history". */
static bool lies_below(const char *path, const char *pattern)
{
    size_t n = strcspn(pattern, "{");

    while (n > 0 && pattern[n - 1] == '/')
        n--;
    return n > 0 && strncmp(path, pattern, n) == 0 && (path[n] == '/' || path[n] == '\0');
}

bool native_is_private(const char *path)
{
    path = without_api(path);
    for (const struct api_route *r = native_routes; r->method; r++)
        if (r->who != API_PRIMARY && lies_below(path, without_api(r->path)))
            return true;
    return false;
}

/* --- a request on its way --- */

enum named { NAMED_PROMPT, NAMED_CLIENT, NAMED_FILENAME, NAMED_SUBFOLDER, NAMED_TYPE, NAMED_N };

struct visit {
    struct api *a;
    struct http_req *req;
    struct bytes *body; /* NULL: as it comes */
    struct json json;   /* of it, if it is an object */
    char *value[NAMED_N];
    char segment[UUID_SIZE]; /* of the path, "" none */
    char job[UUID_SIZE];     /* which of them is a job of ours: "" none */
    int attempt;             /* 0: the last */
    char *subfolder;         /* the server's own, if the one named is virtual */
    /* found */
    char *server; /* NULL: the primary */
    char upstream_id[UUID_SIZE];
};

static void visit_free(struct visit *v)
{
    for (int i = 0; i < NAMED_N; i++)
        free(v->value[i]);
    bytes_unref(v->body);
    free(v->subfolder);
    free(v->server);
    free(v);
}

static int named_of(const char *key, size_t n)
{
    static const struct {
        const char *key;
        enum named what;
    } keys[] = {{"prompt_id", NAMED_PROMPT},    {"client_id", NAMED_CLIENT}, {"clientId", NAMED_CLIENT},
                {"sid", NAMED_CLIENT},          {"unique_id", NAMED_CLIENT}, {"filename", NAMED_FILENAME},
                {"subfolder", NAMED_SUBFOLDER}, {"type", NAMED_TYPE}};

    for (size_t i = 0; i < ARRAY_LEN(keys); i++)
        if (strlen(keys[i].key) == n && memcmp(keys[i].key, key, n) == 0)
            return (int)keys[i].what;
    return -1;
}

/* What a name is called on the server, or NULL: as it is. */
static const char *renamed(const struct visit *v, int what, const char *value)
{
    const char *id = v->server ? registry_client_id(v->a->d.registry, v->server) : NULL;

    if (value == NULL)
        return NULL;
    switch (what) {
    case NAMED_PROMPT: return v->upstream_id[0] && strcmp(value, v->job) == 0 ? v->upstream_id : NULL;
    case NAMED_SUBFOLDER:
        return v->subfolder && v->value[what] && strcmp(value, v->value[what]) == 0 ? v->subfolder : NULL;
    case NAMED_CLIENT: return v->value[what] && strcmp(value, v->value[what]) == 0 ? id : NULL;
    default: return NULL;
    }
}

/* --- the query: read, and written anew --- */

struct param {
    const char *key, *value; /* raw */
    size_t key_n, value_n;
};

static bool param_next(const char **q, struct param *p)
{
    size_t n;

    if (**q == '\0')
        return false;
    n = strcspn(*q, "&");
    p->key = *q;
    p->key_n = strcspn(*q, "=&");
    p->value = p->key + p->key_n + (p->key_n < n);
    p->value_n = n - (size_t)(p->value - p->key);
    *q += n + ((*q)[n] == '&');
    return true;
}

static char *param_value(const struct param *p)
{
    struct buf b = BUF_INIT;

    if (http_unescape(p->value, p->value_n, true, &b) < 0) {
        buf_free(&b);
        return NULL;
    }
    return buf_take(&b);
}

static void read_query(struct visit *v)
{
    const char *q = http_req_query(v->req);
    struct param p;

    while (param_next(&q, &p)) {
        int what = named_of(p.key, p.key_n);

        if (what >= 0 && v->value[what] == NULL)
            v->value[what] = param_value(&p);
    }
}

static void put_query(struct buf *b, const struct visit *v)
{
    const char *q = http_req_query(v->req);
    struct param p;
    char sep = '?';

    while (param_next(&q, &p)) {
        int what = named_of(p.key, p.key_n);
        char *value = what >= 0 ? param_value(&p) : NULL;
        const char *name = renamed(v, what, value);

        buf_putc(b, sep);
        sep = '&';
        if (name) {
            buf_put(b, p.key, p.key_n);
            buf_putc(b, '=');
            http_escape(name, strlen(name), false, b);
        } else {
            buf_put(b, p.key, (size_t)(p.value - p.key) + p.value_n);
        }
        free(value);
    }
}

/* --- the path: a segment that is an id --- */

static bool segment_next(const char **path, const char **at, size_t *n)
{
    if (**path != '/')
        return false;
    *at = *path + 1;
    *n = strcspn(*at, "/");
    *path = *at + *n;
    return true;
}

static void read_path(struct visit *v)
{
    const char *path = http_req_path(v->req), *at;
    size_t n;

    while (v->segment[0] == '\0' && segment_next(&path, &at, &n))
        if (uuid_is_canonical(at, n))
            memcpy(v->segment, at, n);
}

static void put_path(struct buf *b, const struct visit *v)
{
    const char *path = http_req_path(v->req), *at;
    size_t n;

    while (segment_next(&path, &at, &n)) {
        buf_putc(b, '/');
        if (v->upstream_id[0] && n == UUID_LEN && memcmp(at, v->job, n) == 0)
            buf_puts(b, v->upstream_id);
        else
            buf_put(b, at, n);
    }
}

/* --- the body --- */

static void read_json(struct visit *v)
{
    struct json_iter it;
    struct json k, x;

    if (v->body == NULL || json_check(v->body->data, v->body->len, NULL, &v->json, NULL) < 0 ||
        json_type(v->json) != JSON_OBJECT) {
        v->json = (struct json){0};
        return;
    }
    it = json_iter(v->json);
    while (json_next(&it, &k, &x)) {
        int what = k.n > 2 ? named_of(k.p + 1, k.n - 2) : -1;

        if (what >= 0 && v->value[what] == NULL)
            v->value[what] = json_strdup(x);
    }
}

static void rewrite_json(struct visit *v)
{
    struct edits e = EDITS_INIT;
    struct buf b = BUF_INIT;
    struct json_iter it = json_iter(v->json);
    struct json k, x;

    while (json_next(&it, &k, &x)) {
        int what = k.n > 2 ? named_of(k.p + 1, k.n - 2) : -1;
        char *value = what >= 0 ? json_strdup(x) : NULL;
        const char *name = renamed(v, what, value);

        if (name)
            edits_replace_str(&e, x, name);
        free(value);
    }
    if (e.n) {
        edits_put(&e, &b, v->json);
        bytes_unref(v->body);
        v->body = buf_to_bytes(&b);
    }
    edits_fini(&e);
    buf_free(&b);
}

/* --- passing on --- */

static void not_reached(struct http_req *req, const char *why, void *arg)
{
    char *server = arg,
         *text = xasprintf("%s%s cannot be reached: %s\n", server ? "the server that has it, " : "",
                           server ? server : "no ComfyUI server", why);

    http_reply_str(req, 502, "text/plain; charset=utf-8", text);
    free(text);
}

static void pass_to(struct api *a, struct http_req *req, const char *server, const char *target,
                    struct bytes *body)
{
    const char *primary = server ? server : registry_primary(a->d.registry);
    struct http_client *c = primary ? registry_client(a->d.registry, primary) : NULL;
    struct http_pass pass = {.target = target,
                             .body = body,
                             .drop = native_pass_drop,
                             .drop_answer = native_pass_drop_answer,
                             .on_unreachable = not_reached,
                             .release = free,
                             .arg = xstrdup_null(server)};

    if (c) {
        if (body == NULL)
            http_body_limit(req, a->cfg.upload_max + (1 << 20));
        http_pass_through(req, c, &pass);
        return;
    }
    not_reached(req, server ? "it is down" : "none is up", pass.arg);
    free(pass.arg);
}

static void visit_go(struct visit *v)
{
    struct buf target = BUF_INIT;
    const char *primary = NULL;

    if (v->server == NULL && (primary = registry_primary(v->a->d.registry)) != NULL &&
        v->value[NAMED_CLIENT] && hub_has_socket(v->a->hub, api_tenant(v->a, v->req), v->value[NAMED_CLIENT]))
        v->server = xstrdup(primary); /* its answers will come over our own socket there */
    put_path(&target, v);
    put_query(&target, v);
    if (v->json.p)
        rewrite_json(v);
    pass_to(v->a, v->req, v->server, buf_str(&target), v->body);
    buf_free(&target);
    visit_free(v);
}

/* --- finding the server --- */

/* A running job of this client. */
struct client_job {
    const char *tenant, *client;
    char *server;
};

static bool client_runs(const struct runner_job_view *job, void *arg)
{
    struct client_job *c = arg;

    if (job->s->server && job->s->client_id && strcmp(job->s->client_id, c->client) == 0 &&
        strcmp(job->s->tenant, c->tenant) == 0)
        c->server = xstrdup(job->s->server);
    return c->server == NULL;
}

static void visit_by_client(struct visit *v)
{
    struct client_job c = {api_tenant(v->a, v->req), v->value[NAMED_CLIENT], NULL};

    if (c.client && c.client[0] && v->a->runner)
        runner_each(v->a->runner, client_runs, &c);
    v->server = c.server;
    visit_go(v);
}

static void on_visit_file(const struct store_file *f, void *arg)
{
    struct api_wait *w = arg;
    struct visit *v = w->extra;

    w->extra = NULL;
    v->req = api_wait_end(w);
    if (v->req == NULL) {
        visit_free(v);
        return;
    }
    if (f->status == STORE_OK && f->server)
        v->server = xstrdup(f->server);
    if (v->server)
        visit_go(v);
    else
        visit_by_client(v);
}

/* A file that is named as the server that made it names it: which one that is must be beyond doubt. */
static void visit_by_file(struct visit *v)
{
    const char *type = v->value[NAMED_TYPE] ? v->value[NAMED_TYPE] : "output";
    struct store_output_key k = {.tenant = api_tenant(v->a, v->req),
                                 .type = type,
                                 .subfolder = v->value[NAMED_SUBFOLDER] ? v->value[NAMED_SUBFOLDER] : "",
                                 .filename = v->value[NAMED_FILENAME]};
    struct api_wait *w;

    if (k.filename == NULL || (strcmp(type, "output") != 0 && strcmp(type, "temp") != 0)) {
        visit_by_client(v);
        return;
    }
    w = api_wait_new(v->a, v->req);
    w->extra = v;
    store_output_find(v->a->d.store, &k, on_visit_file, w);
}

static void found(struct visit *v, const char *server, const char *upstream_id)
{
    v->server = xstrdup_null(server);
    memcpy(v->upstream_id, upstream_id, UUID_SIZE);
}

static void on_visit_job(enum store_status st, struct job_record *rec, void *arg)
{
    struct api_wait *w = arg;
    struct visit *v = w->extra;

    w->extra = NULL;
    v->req = api_wait_end(w);
    for (size_t i = 0; v->req && st == STORE_OK && i < rec->n_attempts; i++) {
        const struct job_attempt *t = &rec->attempts[i];

        if (strcmp(rec->s.tenant, api_tenant(v->a, v->req)) == 0 && t->server &&
            (v->attempt ? t->n == v->attempt : i + 1 == rec->n_attempts))
            found(v, t->server, t->upstream_id);
    }
    job_record_free(&rec);
    if (v->req == NULL) {
        visit_free(v);
    } else if (v->server) {
        visit_go(v);
    } else {
        v->job[0] = '\0'; /* not one of ours, or no server has had it */
        visit_by_file(v);
    }
}

static void visit_by_job(struct visit *v)
{
    struct runner_job_view job;
    struct api_wait *w;

    if (v->a->runner && runner_find(v->a->runner, v->job, &job) && job.s->server &&
        strcmp(job.s->tenant, api_tenant(v->a, v->req)) == 0 &&
        (v->attempt == 0 || job.s->attempt == v->attempt)) {
        found(v, job.s->server, job.s->upstream_id);
        visit_go(v);
        return;
    }
    w = api_wait_new(v->a, v->req);
    w->extra = v;
    store_get(v->a->d.store, v->job, JOB_PART_ATTEMPTS, on_visit_job, w);
}

static void visit_start(struct visit *v)
{
    const char *sub, *prompt;
    struct name_virtual n;

    read_query(v);
    read_path(v);
    read_json(v);
    sub = v->value[NAMED_SUBFOLDER];
    prompt = v->value[NAMED_PROMPT];
    if (sub && name_virtual_parse(sub, strlen(sub), &n)) {
        memcpy(v->job, n.job, UUID_SIZE);
        v->attempt = (int)n.attempt;
        v->subfolder = xstrndup(n.subfolder, n.subfolder_n);
    } else if (prompt && uuid_is_canonical(prompt, strlen(prompt))) {
        memcpy(v->job, prompt, UUID_SIZE);
    } else if (v->segment[0]) {
        memcpy(v->job, v->segment, UUID_SIZE);
    }
    if (v->job[0])
        visit_by_job(v);
    else
        visit_by_file(v);
}

static void on_visit_body(struct http_req *req, struct bytes *body, void *arg)
{
    struct visit *v = arg;

    http_on_abort(req, NULL, NULL);
    v->body = bytes_ref(body);
    visit_start(v);
}

static void on_visit_aborted(struct http_req *req, void *arg)
{
    (void)req;
    visit_free(arg);
}

/* --- the routes --- */

void native_from_primary(struct api *a, struct http_req *req, const struct api_params *p)
{
    (void)p;
    if (api_path_is_plain(http_req_path(req)))
        pass_to(a, req, NULL, NULL, NULL);
    else
        http_reply_str(req, 404, "text/plain; charset=utf-8", "404: Not Found");
}

void native_pass(struct api *a, struct http_req *req, const struct api_params *p)
{
    int64_t length = http_req_content_length(req);
    struct visit *v;

    (void)p;
    if (!api_path_is_plain(http_req_path(req))) {
        http_reply_str(req, 404, "text/plain; charset=utf-8", "404: Not Found");
        return;
    }
    v = xcalloc(1, sizeof(*v));
    v->a = a;
    v->req = req;
    if (length > 0 && length <= PEEK_MAX) {
        http_on_abort(req, on_visit_aborted, v);
        http_body_read_all(req, PEEK_MAX, on_visit_body, v);
    } else {
        visit_start(v);
    }
}
