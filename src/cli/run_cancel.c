/* Ctrl-C: every job that has not ended is canceled where it is, within a few seconds or not at all. */
#include <string.h>

#include "base/mem.h"
#include "cli/run_priv.h"

#define CANCEL_MS 5000

static void one_less(struct run *r)
{
    if (--r->cancels > 0)
        return;
    run_note(r, "canceled");
    run_over(r);
}

static void on_canceled(const struct http_answer *a, void *arg)
{
    struct run_job *j = arg;
    struct run *r = j->run;
    struct json record;

    j->call = NULL;
    if (r->stage != RUN_STAGE_CANCEL)
        return;
    if (a->end == HTTP_CALL_OK && a->status == 200 &&
        json_check(a->body->data, a->body->len, NULL, &record, NULL) == 0 &&
        json_type(record) == JSON_OBJECT) {
        run_follow_record(j, a->body, record);
    } else if (a->end == HTTP_CALL_OK && a->status == 404) {
        j->phase = RUN_CANCELED; /* it never arrived */
    } else {
        struct buf why = BUF_INIT;

        run_put_refusal(a, &why);
        run_error(r, "job %s could not be canceled: %s", j->id, buf_str(&why));
        buf_free(&why);
    }
    one_less(r);
}

/* ---- a bare server: out of its queue, and if it runs already, stopped ---- */

static void on_interrupted(const struct http_answer *a, void *arg)
{
    struct run *r = arg;

    (void)a;
    if (r->stage == RUN_STAGE_CANCEL)
        one_less(r);
}

static void on_running(const struct http_answer *a, void *arg)
{
    struct run *r = arg;
    struct json root, item;
    struct json_iter it;

    if (r->stage != RUN_STAGE_CANCEL)
        return;
    if (a->end == HTTP_CALL_OK && json_check(a->body->data, a->body->len, NULL, &root, NULL) == 0) {
        it = json_iter(json_get(root, "queue_running"));
        while (json_next(&it, NULL, &item)) {
            for (size_t i = 0; i < r->n_jobs; i++) {
                struct buf b = BUF_INIT;
                struct bytes *body;

                if (!json_str_eq(json_at(item, 1), r->jobs[i].id))
                    continue;
                buf_printf(&b, "{\"prompt_id\": \"%s\"}", r->jobs[i].id);
                body = buf_to_bytes(&b);
                r->cancels++;
                http_fetch(r->http, "POST", "/interrupt", "application/json", body, 1u << 20, CANCEL_MS,
                           on_interrupted, r);
                bytes_unref(body);
            }
        }
    }
    one_less(r);
}

static void on_deleted(const struct http_answer *a, void *arg)
{
    struct run *r = arg;

    (void)a;
    if (r->stage == RUN_STAGE_CANCEL) /* this request's count goes over to the next one */
        http_fetch(r->http, "GET", "/queue", NULL, NULL, RUN_ANSWER_MAX, CANCEL_MS, on_running, r);
}

static void cancel_bare(struct run *r, const char *id)
{
    struct buf b = BUF_INIT;
    struct bytes *body;

    buf_puts(&b, "{\"delete\": [");
    for (size_t i = 0, k = 0; i < r->n_jobs; i++) {
        struct run_job *j = &r->jobs[i];

        if (id ? strcmp(id, j->id) != 0 : !RUN_LIVE(j->phase) || j->posts == 0)
            continue;
        buf_printf(&b, "%s\"%s\"", k++ ? ", " : "", j->id);
        j->phase = RUN_CANCELED;
    }
    buf_puts(&b, "]}");
    body = buf_to_bytes(&b);
    r->cancels++;
    http_fetch(r->http, "POST", "/queue", "application/json", body, 1u << 20, CANCEL_MS, on_deleted, r);
    bytes_unref(body);
}

/* ---- */

static void cancel_at_gateway(struct run_job *j)
{
    struct buf target = BUF_INIT;

    buf_printf(&target, "/mux/v1/jobs/%s/cancel", j->id);
    j->run->cancels++;
    j->call = http_fetch(j->run->http, "POST", buf_str(&target), NULL, NULL, RUN_ANSWER_MAX, CANCEL_MS,
                         on_canceled, j);
    buf_free(&target);
}

/* The POST of this one was under way when Ctrl-C came, and has ended. */
void run_cancel_job(struct run_job *j)
{
    struct run *r = j->run;

    if (!RUN_ENDED(j->phase)) {
        if (r->gateway)
            cancel_at_gateway(j);
        else
            cancel_bare(r, j->id);
    }
    one_less(r);
}

void run_cancel(struct run *r)
{
    bool sent = r->stage == RUN_STAGE_JOBS;
    struct run_job *posting = NULL;

    run_fetch_drop(r);
    r->stage = RUN_STAGE_CANCEL;
    r->status = CLI_INTERRUPTED;
    if (r->call)
        http_call_cancel(&r->call);
    if (r->ws)
        ws_abort(&r->ws);
    timer_set(&r->cancel_timer, CANCEL_MS);
    r->cancels = 1; /* ours, until all are sent */
    for (size_t i = 0; !sent && i < r->n_jobs; i++)
        r->jobs[i].phase = RUN_CANCELED;
    for (size_t i = 0; sent && i < r->n_jobs; i++) {
        struct run_job *j = &r->jobs[i];
        bool post = j->phase == RUN_WAITING && j->call;

        if (post) {
            posting = j;
            r->cancels++;
        } else if (j->call) {
            http_call_cancel(&j->call);
        }
        if (!post && j->posts == 0)
            j->phase = RUN_CANCELED;
        else if (!post && RUN_LIVE(j->phase) && r->gateway)
            cancel_at_gateway(j);
    }
    if (posting)
        posting->posts = 0; /* not among those below: canceled when its answer is there */
    for (size_t i = 0; sent && !r->gateway && i < r->n_jobs; i++) {
        if (RUN_LIVE(r->jobs[i].phase) && r->jobs[i].posts > 0) {
            cancel_bare(r, NULL);
            break;
        }
    }
    one_less(r);
}
