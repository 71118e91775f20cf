/* /mux/v1/jobs/{id}: one job, taking it away, its files. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/mux.h"
#include "api/picture.h"

/* --- one job --- */

bool mux_starting(struct api *a, struct http_req *req)
{
    if (a->runner)
        return false;
    http_set(req, "Retry-After", "1");
    api_error(req, 503, "not_ready", "the gateway is starting: its jobs are being read from the store", NULL);
    return true;
}

bool mux_missing(struct http_req *req, struct job_record *const *rec)
{
    if (*rec == NULL)
        api_error(req, 404, "not_found", "there is no job of this id", NULL);
    return *rec == NULL;
}

void mux_load(struct api *a, struct http_req *req, const char *id, uint32_t parts, api_record_cb *cb,
              void *arg)
{
    struct job_record *none = NULL;

    if (uuid_is_canonical(id, strlen(id)))
        api_load(a, req, id, parts, cb, arg);
    else
        mux_missing(req, &none);
}

void mux_reply_record(struct api *a, struct http_req *req, int status, const struct job_record *rec)
{
    struct buf b = BUF_INIT;
    struct jsonw w;

    jsonw_init(&w, &b);
    api_put_record(a, &w, rec);
    api_reply_json(req, status, &b);
}

static void on_one(struct api *a, struct http_req *req, struct job_record **rec, void *arg)
{
    (void)arg;
    if (!mux_missing(req, rec))
        mux_reply_record(a, req, 200, *rec);
}

void mux_get_job(struct api *a, struct http_req *req, const struct api_params *p)
{
    mux_load(a, req, p->v[0], JOB_PART_RECORD, on_one, NULL);
}

/* --- cancel --- */

#define CANCEL_TRIES 3 /* one more is enough */

struct cancel_wait {
    char id[UUID_SIZE];
    int tries;
};

static void cancel(struct api *a, struct http_req *req, const char *id, int tries);

/* Live after all: its submit came between the question to the runner and the one to the store. Now the runner knows it. */
static void on_cancel_read(struct api *a, struct http_req *req, struct job_record **rec, void *arg)
{
    int tries = (int)(intptr_t)arg;

    if (mux_missing(req, rec))
        return;
    if (!JOB_STATE_LIVE((*rec)->s.state))
        mux_reply_record(a, req, 200, *rec);
    else if (tries < CANCEL_TRIES)
        cancel(a, req, (*rec)->s.id, tries + 1);
    else
        api_error(req, 503, "not_ready", "the job cannot be canceled at this moment", NULL);
}

/* It has ended, one way or the other: the record says which. */
static void on_canceled(bool canceled, void *arg)
{
    struct api_wait *w = arg;
    struct cancel_wait c = *(struct cancel_wait *)w->extra;
    struct api *a = w->a;
    struct http_req *req = api_wait_end(w);

    (void)canceled;
    if (req)
        api_load(a, req, c.id, JOB_PART_RECORD, on_cancel_read, (void *)(intptr_t)c.tries);
}

static void cancel(struct api *a, struct http_req *req, const char *id, int tries)
{
    struct cancel_wait *c = xcalloc(1, sizeof(*c));
    struct api_wait *w = api_wait_new(a, req);

    memcpy(c->id, id, UUID_SIZE);
    c->tries = tries;
    w->extra = c;
    if (!runner_cancel(a->runner, api_tenant(a, req), c->id, "canceled by the client", on_canceled, w))
        on_canceled(false, w); /* it does not live here: what the store says is the answer */
}

void mux_post_cancel(struct api *a, struct http_req *req, const struct api_params *p)
{
    if (mux_starting(a, req))
        return;
    if (uuid_is_canonical(p->v[0], strlen(p->v[0])))
        cancel(a, req, p->v[0], 1);
    else
        mux_load(a, req, p->v[0], JOB_PART_RECORD, on_one, NULL);
}

/* --- outputs --- */

/* Sizes of thumbnails in pixels: few, so that pages that ask for different ones share what was made. */
static const uint32_t thumb_sizes[] = {64, 128, 256, 512, 1024};
#define THUMB_DEFAULT 256
#define WHICH 8 /* a request's n and step in one number: n * WHICH + step */

struct output_wait {
    struct job_record *rec;
    const struct job_output *o;
    uint32_t thumb; /* pixels; 0: the output itself */
};

static void reply_output(struct api *a, struct http_req *req, const struct output_wait *x, int64_t at)
{
    struct api_blob b = {.hash = x->o->blake3,
                         .size = x->o->size,
                         .name = x->o->filename,
                         .mime = x->o->mime,
                         .job = x->rec->s.id,
                         .at = at,
                         .mux = true};
    char etag[PICTURE_ETAG];

    if (x->thumb) {
        b.want = (struct image_want){.op = IMAGE_THUMB, .size = x->thumb};
        picture_etag(&b, etag);
        if (http_not_modified(req, etag, 0)) {
            http_set(req, "Etag", etag);
            http_reply_empty(req, 304);
            return;
        }
    }
    api_reply_blob(a, req, &b);
}

static void on_output(const struct store_file *f, void *arg)
{
    struct api_wait *w = arg;
    struct output_wait o = *(struct output_wait *)w->extra;
    struct api *a = w->a;
    struct http_req *req = api_wait_end(w);

    if (req && f->status == STORE_OK)
        reply_output(a, req, &o, f->at);
    else if (req && f->status == STORE_NOT_FOUND)
        api_error(req, 410, "expired", "this output is no longer kept", NULL);
    else if (req)
        api_error(req, 500, "internal", "the store could not be read", NULL);
    job_record_free(&o.rec);
}

static const struct job_output *output_of(const struct job_record *rec, int n)
{
    for (size_t i = 0; i < rec->n_outputs; i++)
        if (rec->outputs[i].n == n && rec->outputs[i].attempt == rec->s.attempt)
            return &rec->outputs[i];
    return NULL;
}

/* Are the bytes of this output still kept, and since when? NOT_FOUND: no longer. */
static void find_output(struct api *a, const struct job_record *rec, const struct job_output *o,
                        store_file_cb *cb, void *arg)
{
    struct store_output_key k = {.tenant = rec->s.tenant,
                                 .job = rec->s.id,
                                 .type = o->type,
                                 .subfolder = o->subfolder,
                                 .filename = o->filename,
                                 .attempt = o->attempt};

    store_output_find(a->d.store, &k, cb, arg);
}

static void on_job_of_output(struct api *a, struct http_req *req, struct job_record **rec, void *arg)
{
    const struct job_output *o;
    size_t step = (size_t)((intptr_t)arg % WHICH);
    struct output_wait *x;
    struct api_wait *w;

    if (mux_missing(req, rec))
        return;
    o = output_of(*rec, (int)((intptr_t)arg / WHICH));
    if (o == NULL) {
        api_error(req, 404, "not_found",
                  JOB_STATE_LIVE((*rec)->s.state) ? "this job has no outputs yet"
                                                  : "this job has no such output",
                  NULL);
        return;
    }
    x = xcalloc(1, sizeof(*x));
    x->rec = *rec;
    x->o = o;
    x->thumb = step ? thumb_sizes[step - 1] : 0;
    *rec = NULL;
    w = api_wait_new(a, req);
    w->extra = x;
    find_output(a, x->rec, o, on_output, w);
}

/* step 0: the output itself; else its thumbnail of thumb_sizes[step - 1]. */
static void get_output(struct api *a, struct http_req *req, const struct api_params *p, size_t step)
{
    int64_t n = 0;

    if (strcmp(p->v[1], "0") != 0 && !mux_count_parse(p->v[1], INT32_MAX / WHICH - 1, &n))
        api_error(req, 404, "not_found", "an output's number is a whole number from 0", NULL);
    else
        mux_load(a, req, p->v[0], JOB_PART_OUTPUTS, on_job_of_output,
                 (void *)(intptr_t)(n * WHICH + (int64_t)step));
}

void mux_get_output(struct api *a, struct http_req *req, const struct api_params *p)
{
    get_output(a, req, p, 0);
}

void mux_get_thumb(struct api *a, struct http_req *req, const struct api_params *p)
{
    char *text = mux_query(req, "size");
    int64_t size = THUMB_DEFAULT;
    size_t step = 1;

    if (text && !mux_count_parse(text, INT64_MAX, &size)) {
        api_error(req, 400, "bad_request", "size is a whole number of pixels", NULL);
    } else {
        while (step < ARRAY_LEN(thumb_sizes) && thumb_sizes[step - 1] < size)
            step++;
        get_output(a, req, p, step);
    }
    free(text);
}
