/* GET /prompt, /queue, /interrupt: what waits and what runs, and taking it away. */
#include <stdlib.h>
#include <string.h>

#include "api/native.h"
#include "api/native_jobs.h"

#define LIST_MAX 10000

/* --- many things, one answer --- */

struct native_many {
    struct api_wait *w;
    unsigned open;
};

struct native_many *many_new(struct api *a, struct http_req *req)
{
    struct native_many *m = xcalloc(1, sizeof(*m));

    m->w = api_wait_new(a, req);
    m->open = 1;
    return m;
}

void many_start(struct native_many *m)
{
    m->open++;
}

void many_end(struct native_many *m)
{
    struct http_req *req;

    if (--m->open)
        return;
    native_jobs_changed(m->w->a->jobs);
    req = api_wait_end(m->w);
    if (req)
        http_reply_empty(req, 200);
    free(m);
}

void many_done(struct native_many *m)
{
    many_end(m);
}

static void on_canceled(bool canceled, void *arg)
{
    (void)canceled;
    many_end(arg);
}

static void many_cancel(struct native_many *m, struct api *a, const char *tenant, const char *id,
                        const char *why)
{
    many_start(m);
    if (!runner_cancel(a->runner, tenant, id, why, on_canceled, m))
        many_end(m);
}

void native_bad_body(struct http_req *req, const char *what)
{
    api_native_error(req, 400, "invalid_request", "The request body is not what this route takes", what);
}

/* The gateway has not read its jobs yet: nothing true can be said. */
static bool starting(struct api *a, struct http_req *req)
{
    if (a->runner)
        return false;
    api_native_error(req, 503, "not_ready", "The gateway is starting", "");
    return true;
}

/* --- what waits and what runs --- */

void native_get_prompt(struct api *a, struct http_req *req, const struct api_params *p)
{
    char *client = api_query(req, "clientId");
    struct buf b = BUF_INIT;

    (void)p;
    buf_printf(&b, "{\"exec_info\": {\"queue_remaining\": %zu}}",
               hub_remaining(a->hub, api_tenant(a, req), client));
    free(client);
    api_reply_json(req, 200, &b);
}

struct queue_view {
    struct job_record **rows;
    size_t n, open;
    char *client;
};

static bool is_pending(struct api *a, const struct job_record *rec)
{
    return rec->s.state == JOB_QUEUED || hub_shows_pending(a->hub, rec->s.id);
}

static int by_number(const void *x, const void *y)
{
    const struct job_summary *a = &(*(struct job_record *const *)x)->s,
                             *b = &(*(struct job_record *const *)y)->s;

    if (a->number != b->number)
        return a->number < b->number ? -1 : 1;
    return a->seq < b->seq ? -1 : a->seq > b->seq;
}

static void put_list(struct api *a, struct buf *b, struct queue_view *q, bool pending)
{
    bool any = false;

    for (size_t i = 0; i < q->n; i++) {
        struct job_record *rec = q->rows[i];

        if (is_pending(a, rec) != pending ||
            (q->client && (rec->s.client_id == NULL || strcmp(q->client, rec->s.client_id) != 0)))
            continue;
        buf_puts(b, any ? ", " : "");
        native_put_item(b, rec);
        any = true;
    }
}

static void queue_reply(struct api_wait *w)
{
    struct queue_view *q = w->extra;
    struct api *a = w->a;
    struct buf b = BUF_INIT;
    struct http_req *req;

    if (q->n)
        qsort(q->rows, q->n, sizeof(*q->rows), by_number);
    buf_puts(&b, "{\"queue_running\": [");
    put_list(a, &b, q, false);
    buf_puts(&b, "], \"queue_pending\": [");
    put_list(a, &b, q, true);
    buf_puts(&b, "]}");
    for (size_t i = 0; i < q->n; i++)
        job_record_free(&q->rows[i]);
    free(q->rows);
    free(q->client);
    req = api_wait_end(w);
    if (req)
        api_reply_json(req, 200, &b);
    buf_free(&b);
}

static void add_row(struct queue_view *q, struct job_record *rec)
{
    q->rows = xrealloc(q->rows, (q->n + 1) * sizeof(*q->rows));
    q->rows[q->n++] = rec;
}

static void on_ended(enum store_status st, struct job_record *rec, void *arg)
{
    struct api_wait *w = arg;
    struct queue_view *q = w->extra;

    if (st == STORE_OK)
        add_row(q, rec);
    if (--q->open == 0)
        queue_reply(w);
}

/* Ended, but its client has not been told: it still waits, as far as that client knows. */
static void add_ended(const char *job, const char *client_id, void *arg)
{
    struct api_wait *w = arg;
    struct queue_view *q = w->extra;

    (void)client_id;
    for (size_t i = 0; i < q->n; i++)
        if (strcmp(q->rows[i]->s.id, job) == 0)
            return;
    if (!hub_shows_pending(w->a->hub, job))
        return;
    q->open++;
    store_get(w->a->d.store, job, JOB_PART_GRAPH, on_ended, w);
}

static void on_live(struct store_list *l, void *arg)
{
    struct api_wait *w = arg;
    struct queue_view *q = w->extra;

    for (size_t i = 0; i < l->n; i++) {
        add_row(q, l->rows[i]);
        l->rows[i] = NULL;
    }
    store_list_free(l);
    if (w->req)
        hub_each_ended(w->a->hub, api_tenant(w->a, w->req), add_ended, w);
    if (--q->open == 0)
        queue_reply(w);
}

void native_get_queue(struct api *a, struct http_req *req, const struct api_params *p)
{
    struct store_filter f = {.tenant = api_tenant(a, req),
                             .states = JOB_STATES_LIVE,
                             .oldest_first = true,
                             .limit = LIST_MAX,
                             .parts = JOB_PART_GRAPH};
    struct queue_view *q = xcalloc(1, sizeof(*q));
    struct api_wait *w = api_wait_new(a, req);

    (void)p;
    q->client = api_query(req, "clientId");
    if (q->client && q->client[0] == '\0') {
        free(q->client);
        q->client = NULL;
    }
    q->open = 1;
    w->extra = q;
    store_list(a->d.store, &f, on_live, w);
}

/* --- POST /queue --- */

/* As the caller sees it in GET /queue: waiting, or kept back because its client is still to be told of another. */
static bool stands_pending(struct api *a, const struct runner_job_view *job)
{
    return job->s->state == JOB_QUEUED || hub_shows_pending(a->hub, job->s->id);
}

/* One that its client saw waiting leaves no entry in history, whatever it was in truth. */
struct unseen {
    struct native_many *m;
    struct api *a;
    char id[UUID_SIZE];
    char *tenant;
};

static void on_hidden(enum store_status st, void *arg)
{
    (void)st;
    many_end(arg);
}

static void on_unseen_canceled(bool canceled, void *arg)
{
    struct unseen *u = arg;

    if (canceled)
        store_hide(u->a->d.store, u->tenant, u->id, on_hidden, u->m);
    else
        many_end(u->m);
    free(u->tenant);
    free(u);
}

static void many_delete(struct native_many *m, struct api *a, const char *tenant,
                        const struct runner_job_view *job, const char *why)
{
    struct unseen *u;

    if (job->s->state == JOB_QUEUED) {
        many_cancel(m, a, tenant, job->s->id, why);
        return;
    }
    u = xcalloc(1, sizeof(*u));
    u->m = m;
    u->a = a;
    u->tenant = xstrdup(tenant);
    memcpy(u->id, job->s->id, UUID_SIZE);
    many_start(m);
    if (!runner_cancel(a->runner, tenant, u->id, why, on_unseen_canceled, u))
        on_unseen_canceled(false, u);
}

struct clear {
    struct native_many *m;
    struct api *a;
    const char *tenant;
};

static bool clear_one(const struct runner_job_view *job, void *arg)
{
    struct clear *c = arg;

    if (stands_pending(c->a, job) && strcmp(job->s->tenant, c->tenant) == 0)
        many_delete(c->m, c->a, c->tenant, job, "cleared from the queue by the client");
    return true;
}

static void on_queue_body(struct api *a, struct http_req *req, struct json body, struct bytes *text)
{
    struct clear c = {.a = a, .tenant = api_tenant(a, req)};
    struct json id, key, list = json_get(body, "delete");
    struct json_iter it = json_iter(list);

    (void)text;
    if (json_type(body) != JSON_OBJECT && json_type(body) != JSON_ARRAY && json_type(body) != JSON_STRING) {
        native_bad_body(req, "not an object");
        return;
    }
    if (list.p && json_type(list) != JSON_ARRAY) {
        native_bad_body(req, "delete is not a list");
        return;
    }
    c.m = many_new(a, req);
    if (json_truthy(json_get(body, "clear")))
        runner_each(a->runner, clear_one, &c);
    while (json_next(&it, &key, &id)) {
        char *s = json_strdup(id);
        struct runner_job_view v;

        if (s && runner_find(a->runner, s, &v) && stands_pending(a, &v))
            many_delete(c.m, a, c.tenant, &v, "deleted from the queue by the client");
        free(s);
    }
    many_done(c.m);
}

void native_post_queue(struct api *a, struct http_req *req, const struct api_params *p)
{
    (void)p;
    if (!starting(a, req))
        api_read_json(a, req, true, on_queue_body);
}

/* --- POST /interrupt --- */

struct interrupt {
    struct native_many *m;
    struct api *a;
    const char *tenant, *client; /* client NULL: any */
    unsigned hit;
};

static bool interrupt_one(const struct runner_job_view *job, void *arg)
{
    struct interrupt *i = arg;
    bool running = job->s->state == JOB_DISPATCHING || job->s->state == JOB_RUNNING;

    if (!running || strcmp(job->s->tenant, i->tenant) != 0 ||
        (i->client && (job->s->client_id == NULL || strcmp(i->client, job->s->client_id) != 0)))
        return true;
    i->hit++;
    many_cancel(i->m, i->a, i->tenant, job->s->id, "interrupted by the client");
    return true;
}

static void interrupt_peer(const char *client_id, void *arg)
{
    struct interrupt *i = arg;

    i->client = client_id;
    runner_each(i->a->runner, interrupt_one, i);
}

/* Without an id: the caller's own, as well as that can be known. */
static void interrupt_running(struct interrupt *i, const struct http_req *req, const char *client)
{
    i->client = client;
    if (client) {
        runner_each(i->a->runner, interrupt_one, i);
        return;
    }
    hub_each_peer(i->a->hub, i->tenant, http_req_peer_ip(req), interrupt_peer, i);
    i->client = NULL;
    if (i->hit == 0)
        runner_each(i->a->runner, interrupt_one, i);
}

/* Absent, null and "" are no name (*out stays NULL); false: it is named in a way that is not understood. */
static bool take_name(struct json body, const char *key, char **out)
{
    struct json v = json_get(body, key);

    if (json_is_null(v) || json_str_eq(v, ""))
        return true;
    *out = json_strdup(v);
    return *out != NULL;
}

static void interrupt_named(struct interrupt *i, struct http_req *req, const char *id, const char *client)
{
    struct runner_job_view v;

    i->m = many_new(i->a, req);
    if (id == NULL)
        interrupt_running(i, req, client && client[0] ? client : NULL);
    else if (runner_find(i->a->runner, id, &v) && v.s->state != JOB_COLLECTING)
        many_cancel(i->m, i->a, i->tenant, id, "interrupted by the client");
    many_done(i->m);
}

static void on_interrupt_body(struct http_req *req, struct bytes *body, void *arg)
{
    struct interrupt i = {.a = arg, .tenant = api_tenant(arg, req)};
    char *id = NULL, *named = NULL, *client = api_query(req, "clientId");
    struct json whole = {0};

    http_on_abort(req, NULL, NULL);
    /* As the stock route: what cannot be parsed is no body. What names something, but not so that it is understood, must
     * not stop everything. */
    if (body->len && json_check(body->data, body->len, NULL, &whole, NULL) < 0)
        whole = (struct json){0};
    if (whole.p && json_type(whole) != JSON_OBJECT)
        native_bad_body(req, "not an object");
    else if (!take_name(whole, "prompt_id", &id) || !take_name(whole, "client_id", &named))
        native_bad_body(req, "prompt_id and client_id are strings");
    else
        interrupt_named(&i, req, id, client ? client : named);
    free(id);
    free(named);
    free(client);
}

void native_post_interrupt(struct api *a, struct http_req *req, const struct api_params *p)
{
    (void)p;
    if (!starting(a, req))
        http_body_read_all(req, a->cfg.json_max, on_interrupt_body, a);
}
