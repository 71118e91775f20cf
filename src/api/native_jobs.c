/* GET /api/jobs/{id}, and cancelling: what the jobs API says of one job. */
#include <stdlib.h>
#include <string.h>

#include "api/native_jobs_priv.h"
#include "comfy/job_card.h"

/* --- one job --- */

static void put_details(struct buf *b, struct job_record *rec)
{
    struct json whole = {0};

    if (rec->history && json_check(rec->history->data, rec->history->len, NULL, &whole, NULL) < 0)
        whole = (struct json){0};
    buf_puts(b, ", \"outputs\": ");
    job_card_put_outputs(b, json_get(whole, "outputs"));
    buf_puts(b, ", \"execution_status\": ");
    json_put(b, json_get(whole, "status"));
}

static void put_workflow(struct buf *b, const struct job_record *rec)
{
    buf_puts(b, ", \"workflow\": {\"prompt\": ");
    json_put(b, rec->graph ? (struct json){rec->graph->data, rec->graph->len} : (struct json){"{}", 2});
    buf_puts(b, ", \"extra_data\": ");
    native_put_extra_data(b, rec);
    buf_puts(b, "}}");
}

static void on_job(struct api *a, struct http_req *req, struct job_record **recp, void *arg)
{
    struct job_record *rec = *recp;
    bool waits = rec && (rec->s.state == JOB_QUEUED || hub_shows_pending(a->hub, rec->s.id));
    bool ended = rec && !waits && !JOB_STATE_LIVE(rec->s.state);
    struct buf b = BUF_INIT;

    (void)arg;
    if (rec == NULL || (ended && (rec->s.flags & JOB_F_NO_HISTORY))) {
        native_jobs_error(req, 404, "Job not found");
        return;
    }
    if (ended) {
        native_put_job(&b, &rec->s,
                       rec->s.state == JOB_SUCCEEDED  ? "completed"
                       : rec->s.state == JOB_CANCELED ? "cancelled"
                                                      : "failed",
                       jobs_card_put(a->jobs, rec->s.id, rec->history));
        put_details(&b, rec);
    } else {
        native_put_job(&b, &rec->s, waits ? "pending" : "in_progress", NULL);
    }
    put_workflow(&b, rec);
    api_reply_json(req, 200, &b);
}

void native_get_job(struct api *a, struct http_req *req, const struct api_params *p)
{
    api_load(a, req, p->v[0], JOB_PART_GRAPH | JOB_PART_HISTORY, on_job, NULL);
}

/* --- cancelling --- */

struct cancels {
    struct api_wait *w;
    char *tenant;
    unsigned open;
    bool any;
};

struct canceling { /* one of them */
    struct cancels *c;
    char id[UUID_SIZE];
    bool waited; /* its client saw it waiting: it leaves nothing in history */
};

static void cancels_less(struct cancels *c)
{
    struct http_req *req;
    struct buf b = BUF_INIT;

    if (--c->open)
        return;
    native_jobs_changed(c->w->a->jobs);
    req = api_wait_end(c->w);
    buf_printf(&b, "{\"cancelled\": %s}", c->any ? "true" : "false");
    if (req)
        api_reply_json(req, 200, &b);
    buf_free(&b);
    free(c->tenant);
    free(c);
}

static void on_hidden(enum store_status st, void *arg)
{
    (void)st;
    cancels_less(arg);
}

static void on_canceled(bool canceled, void *arg)
{
    struct canceling *x = arg;
    struct cancels *c = x->c;

    c->any = c->any || canceled;
    if (canceled && x->waited)
        store_hide(c->w->a->d.store, c->tenant, x->id, on_hidden, c);
    else
        cancels_less(c);
    free(x);
}

static void cancel_one(struct cancels *c, const char *id)
{
    struct api *a = c->w->a;
    struct runner_job_view job;
    struct canceling *x;

    if (!runner_find(a->runner, id, &job))
        return;
    x = xcalloc(1, sizeof(*x));
    x->c = c;
    x->waited = job.s->state != JOB_QUEUED && hub_shows_pending(a->hub, id);
    memcpy(x->id, job.s->id, UUID_SIZE);
    c->open++;
    if (!runner_cancel(a->runner, c->tenant, x->id, "canceled by the client", on_canceled, x)) {
        x->waited = false;
        on_canceled(false, x);
    }
}

static struct cancels *cancels_new(struct api *a, struct http_req *req)
{
    struct cancels *c = xcalloc(1, sizeof(*c));

    c->tenant = xstrdup(api_tenant(a, req));
    c->w = api_wait_new(a, req);
    c->open = 1;
    return c;
}

static bool starting(struct api *a, struct http_req *req)
{
    if (a->runner == NULL)
        native_jobs_error(req, 503, "The gateway is starting");
    return a->runner == NULL;
}

void native_post_job_cancel(struct api *a, struct http_req *req, const struct api_params *p)
{
    struct cancels *c;

    if (starting(a, req))
        return;
    c = cancels_new(a, req);
    cancel_one(c, p->v[0]);
    cancels_less(c);
}

static void put_invalid(struct buf *b, struct json id)
{
    buf_puts(b, b->len ? ", " : "");
    if (json_type(id) == JSON_STRING)
        json_put(b, id);
    else
        json_put_strn(b, id.p, id.n);
}

/* Every id that is none, as a list's inside. */
static void find_invalid(struct buf *b, struct json ids)
{
    struct json_iter it = json_iter(ids);
    struct json none, id;

    while (json_next(&it, &none, &id)) {
        char *s = json_strdup(id);

        if (s == NULL || !uuid_is_canonical(s, strlen(s)))
            put_invalid(b, id);
        free(s);
    }
}

static void cancel_all(struct api *a, struct http_req *req, struct json ids)
{
    struct cancels *c = cancels_new(a, req);
    struct json_iter it = json_iter(ids);
    struct json none, id;

    while (json_next(&it, &none, &id)) {
        char *s = json_strdup(id);

        cancel_one(c, s);
        free(s);
    }
    cancels_less(c);
}

static void on_cancel_body(struct http_req *req, struct bytes *body, void *arg)
{
    struct json whole = {0}, ids;
    struct buf bad = BUF_INIT;

    http_on_abort(req, NULL, NULL);
    if (json_check(body->data, body->len, NULL, &whole, NULL) < 0) {
        native_jobs_error(req, 400, "Request body must be valid JSON");
        return;
    }
    ids = json_get(whole, "job_ids");
    if (json_type(whole) != JSON_OBJECT || json_type(ids) != JSON_ARRAY) {
        native_jobs_error(req, 400, "job_ids must be a list");
        return;
    }
    find_invalid(&bad, ids);
    if (bad.len) {
        struct buf b = BUF_INIT;

        buf_printf(&b, "{\"error\": \"job_ids contains invalid id(s)\", \"invalid_ids\": [%s]}",
                   buf_str(&bad));
        api_reply_json(req, 400, &b);
    } else {
        cancel_all(arg, req, ids);
    }
    buf_free(&bad);
}

void native_post_jobs_cancel(struct api *a, struct http_req *req, const struct api_params *p)
{
    (void)p;
    if (!starting(a, req))
        http_body_read_all(req, a->cfg.json_max, on_cancel_body, a);
}
