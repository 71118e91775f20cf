/* The small task API: /status/{id} and /result/{id}, for a page that polls and wants an image.
 *
 * It says completed only when the images can be had: that is so from the commit that ended the job on, because its
 * outputs were stored before. A job that ended well without an image is a failure here, no_image_output. */
#include <stdlib.h>
#include <string.h>

#include "api/mux.h"

/* Status of GET /result. */
static const int result_of[JOB_CODES] = {
    [JOB_NO_CAPABLE_SERVER] = 422,  [JOB_VALIDATION_FAILED] = 422,   [JOB_SERVER_REJECTED] = 422,
    [JOB_EXECUTION_ERROR] = 422,    [JOB_OUT_OF_MEMORY] = 422,       [JOB_INTERRUPTED] = 502,
    [JOB_SERVER_LOST] = 502,        [JOB_SERVER_RESTARTED] = 502,    [JOB_STALLED] = 502,
    [JOB_DISPATCH_FAILED] = 502,    [JOB_HISTORY_UNAVAILABLE] = 502, [JOB_HISTORY_MISSING] = 502,
    [JOB_OUTPUT_UNAVAILABLE] = 502, [JOB_OUTPUT_UNRECOGNISED] = 422, [JOB_STORAGE_FAILED] = 500,
    [JOB_CODE_EXPIRED] = 410,       [JOB_CODE_CANCELED] = 409,
};

#define NO_IMAGE_STATUS 422
#define GONE "The job was done, but its images are no longer kept"

/* --- the view of one job --- */

struct answer {
    const struct job_record *rec;
    bool failed, canceled, gone; /* gone: done, and its outputs have been removed since */
    size_t images;
    const char *code; /* of the failure; NULL: none */
    int result;
    struct buf message, cause;
};

static bool is_image(const struct job_record *rec, const struct job_output *o)
{
    return o->attempt == rec->s.attempt && strcmp(o->kind, "image") == 0;
}

/* Saved images stand before previews. */
static const struct job_output *image_next(const struct job_record *rec, const struct job_output *last)
{
    bool temp = last && strcmp(last->type, "output") != 0;
    size_t i = last ? (size_t)(last - rec->outputs) + 1 : 0;

    for (;; temp = true, i = 0) {
        for (; i < rec->n_outputs; i++)
            if (is_image(rec, &rec->outputs[i]) && (strcmp(rec->outputs[i].type, "output") != 0) == temp)
                return &rec->outputs[i];
        if (temp)
            return NULL;
    }
}

static void answer_live(struct api *a, struct answer *t)
{
    const struct job_summary *s = &t->rec->s;
    int before = a->runner ? runner_queue_position(a->runner, s->id) : -1;
    const char *server = s->server ? s->server : "a server";

    t->result = 202;
    switch (s->state) {
    case JOB_QUEUED:
        if (s->attempt)
            buf_puts(&t->message, "Waiting to be tried again on another server");
        else if (before == 0)
            buf_puts(&t->message, "Waiting for a server, next in the queue");
        else if (before > 0)
            buf_printf(&t->message, "Waiting for a server, %d %s before it", before,
                       before == 1 ? "job" : "jobs");
        else
            buf_puts(&t->message, "Waiting for a server");
        break;
    case JOB_DISPATCHING: buf_printf(&t->message, "Being sent to %s", server); break;
    case JOB_COLLECTING: buf_printf(&t->message, "Done on %s, its images are being fetched", server); break;
    default: buf_printf(&t->message, "Running on %s", server);
    }
}

static void answer_failed(struct answer *t)
{
    const struct job_error *e = &t->rec->error;
    enum job_code code = e->code ? e->code : t->rec->s.code;
    char *text = job_error_text(e->code ? e : &(struct job_error){.code = code});

    t->failed = code != JOB_CODE_CANCELED;
    t->canceled = !t->failed;
    t->code = job_code_name(code);
    t->result = result_of[code] ? result_of[code] : 500;
    buf_puts(&t->message, e->message && e->message[0] ? e->message : job_code_sentence(code));
    buf_puts(&t->cause, text);
    free(text);
}

static void answer_done(struct answer *t)
{
    for (const struct job_output *o = NULL; (o = image_next(t->rec, o)) != NULL; t->images++)
        t->gone |= o->gone;
    if (t->images == 0) {
        t->failed = true;
        t->code = "no_image_output";
        t->result = NO_IMAGE_STATUS;
        buf_puts(&t->message, "The job ended well, but it made no image");
        if (t->rec->n_outputs)
            buf_printf(&t->cause, "none of the workflow's %zu outputs is an image", t->rec->n_outputs);
        else
            buf_puts(&t->cause, "the workflow has made no output");
    } else if (t->gone) {
        t->result = 410;
        buf_puts(&t->message, GONE);
    } else {
        t->result = 200;
        buf_printf(&t->message, "Done, %zu %s", t->images, t->images == 1 ? "image" : "images");
    }
}

static void answer_init(struct api *a, struct answer *t, const struct job_record *rec)
{
    *t = (struct answer){.rec = rec};
    if (JOB_STATE_LIVE(rec->s.state))
        answer_live(a, t);
    else if (rec->s.state == JOB_SUCCEEDED)
        answer_done(t);
    else
        answer_failed(t);
}

static void answer_fini(struct answer *t)
{
    buf_free(&t->message);
    buf_free(&t->cause);
}

static const char *status_of(const struct answer *t)
{
    return t->canceled                         ? "canceled"
           : t->failed                         ? "failed"
           : t->rec->s.state == JOB_SUCCEEDED  ? "completed"
           : t->rec->s.state == JOB_COLLECTING ? "fetching_image"
           : t->rec->s.state == JOB_QUEUED     ? "queued"
                                               : "processing";
}

/* --- as JSON --- */

static void put_images(struct jsonw *w, const struct answer *t)
{
    char url[JOB_OUTPUT_URL_MAX];
    const struct job_output *o = t->images ? image_next(t->rec, NULL) : NULL;

    if (o)
        job_output_url(t->rec->s.id, o->n, url);
    jsonw_kstr(w, "image_url", o ? url : NULL);
    jsonw_key(w, "image_urls");
    jsonw_arr(w);
    for (; o; o = image_next(t->rec, o)) {
        job_output_url(t->rec->s.id, o->n, url);
        jsonw_str(w, url);
    }
    jsonw_arr_end(w);
}

static void put_error(struct jsonw *w, const struct answer *t, bool result)
{
    const char *detail = t->rec->error.detail;
    bool gone = result && t->gone;

    jsonw_key(w, "error");
    if (t->code == NULL && !gone) {
        jsonw_null(w);
        return;
    }
    jsonw_obj(w);
    jsonw_kstr(w, "code", gone ? "expired" : t->code);
    jsonw_kstr(w, "message", gone ? GONE : buf_str(&t->cause));
    if (result)
        jsonw_kspan(w, "detail", detail ? (struct json){detail, strlen(detail)} : (struct json){0});
    jsonw_obj_end(w);
}

/* result: of /result, whose error has our routes' shape. */
static void put_answer(struct api *a, struct jsonw *w, const struct answer *t, bool result)
{
    struct runner_job_view v = {0};

    if (a->runner == NULL || !runner_find(a->runner, t->rec->s.id, &v))
        v = (struct runner_job_view){0};
    jsonw_obj(w);
    jsonw_kstr(w, "id", t->rec->s.id);
    jsonw_kstr(w, "status", status_of(t));
    jsonw_key(w, "progress");
    jsonw_obj(w);
    jsonw_kint(w, "value", v.progress_value);
    jsonw_kint(w, "max", v.progress_max);
    jsonw_obj_end(w);
    jsonw_kstr(w, "message", buf_str(&t->message));
    jsonw_kstr(w, "server", t->rec->s.server);
    put_images(w, t);
    jsonw_key(w, "outputs");
    mux_put_outputs(w, t->rec);
    put_error(w, t, result);
    jsonw_obj_end(w);
}

static void reply(struct api *a, struct http_req *req, const struct job_record *rec, bool result)
{
    struct buf b = BUF_INIT;
    struct answer t;
    struct jsonw w;

    answer_init(a, &t, rec);
    jsonw_init(&w, &b);
    put_answer(a, &w, &t, result);
    http_set(req, "Cache-Control", "no-store");
    api_reply_json(req, result ? t.result : 200, &b);
    answer_fini(&t);
}

/* --- the routes --- */

static void on_job(struct api *a, struct http_req *req, struct job_record **rec, void *arg)
{
    if (!mux_missing(req, rec))
        reply(a, req, *rec, arg != NULL);
}

#define PARTS (JOB_PART_OUTPUTS | JOB_PART_ATTEMPTS)

void mux_get_status(struct api *a, struct http_req *req, const struct api_params *p)
{
    mux_load(a, req, p->v[0], PARTS, on_job, NULL);
}

void mux_get_result(struct api *a, struct http_req *req, const struct api_params *p)
{
    mux_load(a, req, p->v[0], PARTS, on_job, a);
}
