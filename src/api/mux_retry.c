/* POST /mux/v1/jobs/{id}/retry: the same work once more, as a new job. Secrets were wiped when the first one ended, so
 * it goes without. */
#include <stdlib.h>
#include <string.h>

#include "api/mux.h"
#include "base/log.h"

struct retry {
    struct job_record *old;
    char id[UUID_SIZE];
};

struct flushed {
    struct api *a;
    char id[UUID_SIZE];
};

static void on_flushed(bool ok, void *arg)
{
    struct flushed *f = arg;

    (void)ok;
    hub_release(f->a->hub, f->id);
    free(f);
}

/* The new job's events go out after the answer that tells its id. */
static void release_when_flushed(struct api *a, struct http_req *req, const char *id)
{
    struct flushed *f = xcalloc(1, sizeof(*f));

    f->a = a;
    memcpy(f->id, id, UUID_SIZE);
    http_on_flushed(req, on_flushed, f);
}

static void on_new(struct api *a, struct http_req *req, struct job_record **rec, void *arg)
{
    (void)arg;
    if (mux_missing(req, rec))
        return;
    http_setf(req, "Location", "/mux/v1/jobs/%s", (*rec)->s.id);
    mux_reply_record(a, req, 201, *rec);
}

static void refuse(struct http_req *req, enum store_status st)
{
    if (st == STORE_NOT_FOUND) {
        api_error(req, 410, "expired", "a file that this job reads is no longer kept", NULL);
        return;
    }
    http_set(req, "Retry-After", "5");
    api_error(req, 503, "storage_failed",
              st == STORE_FULL ? "the job could not be stored: no space left on the device"
                               : "the job could not be stored",
              NULL);
}

static void on_submitted(const struct store_submitted *res, void *arg)
{
    struct api_wait *w = arg;
    struct retry r = *(struct retry *)w->extra;
    struct api *a = w->a;
    struct http_req *req = api_wait_end(w);

    if (res->status == STORE_OK)
        log_info(LOG_S("job", r.id), LOG_S("event", "retry"), LOG_S("retry_of", r.old->s.id));
    if (req && res->status == STORE_OK) {
        release_when_flushed(a, req, r.id);
        api_load(a, req, r.id, JOB_PART_RECORD, on_new, NULL);
    } else {
        hub_release(a->hub, r.id);
        if (req)
            refuse(req, res->status);
    }
    job_record_free(&r.old);
}

/* What POST /prompt would have answered, in case its id is submitted again. */
static struct bytes *answer_of(const char *id)
{
    struct buf b = BUF_INIT;

    buf_printf(&b, "{\"prompt_id\": \"%s\", \"number\": %%NUMBER%%, \"node_errors\": {}}", id);
    return buf_to_bytes(&b);
}

static void give(struct api *a, struct http_req *req, struct job_record **old)
{
    struct retry *r = xcalloc(1, sizeof(*r));
    struct job_record *o = r->old = *old;
    struct store_submit in = {.tenant = o->s.tenant,
                              .client_id = o->s.client_id,
                              .window_id = o->s.window_id,
                              .workflow_id = o->s.workflow_id,
                              .retry_of = o->s.id,
                              .need = o->s.need,
                              .graph = o->graph,
                              .extra_data = o->extra_data,
                              .targets = o->targets,
                              .rest = o->rest,
                              .priority = o->s.priority,
                              .flags = o->s.flags & (JOB_F_PAID | JOB_F_UNVALIDATED),
                              .created_at = a->d.clock->wall_ms(a->d.clock),
                              .inputs = o->inputs,
                              .n_inputs = o->n_inputs,
                              .note = "accepted: a job that failed is tried again"};
    struct api_wait *w;

    *old = NULL;
    uuid_v7(a->d.clock, r->id);
    in.id = r->id;
    in.answer = answer_of(r->id);
    w = api_wait_new(a, req);
    w->extra = r;
    hub_expect(a->hub, r->id);
    if (!runner_submit(a->runner, &in, on_submitted, w)) {
        hub_release(a->hub, r->id);
        job_record_free(&r->old);
        api_wait_end(w);
        http_set(req, "Retry-After", "5");
        api_error(req, 429, "too_many_queued", "too many jobs are waiting: try again later", NULL);
    }
    bytes_unref(in.answer);
}

static void on_old(struct api *a, struct http_req *req, struct job_record **rec, void *arg)
{
    enum job_state state;
    char *why;

    (void)arg;
    if (mux_missing(req, rec))
        return;
    state = (*rec)->s.state;
    if (state == JOB_FAILED || state == JOB_EXPIRED) {
        give(a, req, rec);
        return;
    }
    why = xasprintf("this job is %s: only one that failed or expired can be tried again",
                    job_state_name(state));
    api_error(req, 409, "conflict", why, NULL);
    free(why);
}

void mux_post_retry(struct api *a, struct http_req *req, const struct api_params *p)
{
    if (mux_starting(a, req))
        return;
    if (a->draining) {
        http_set(req, "Retry-After", "5");
        api_error(req, 503, "draining", "the gateway is about to stop: try again in a moment", NULL);
        return;
    }
    mux_load(a, req, p->v[0], JOB_PART_GRAPH | JOB_PART_INPUTS, on_old, NULL);
}
