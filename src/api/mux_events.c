/* Server-sent events: GET /mux/v1/events, every job of the tenant; GET /mux/v1/jobs/{id}/events, one job, to its end.
 *
 *   event: state | output | end    id, kept for keep.events, resumable with Last-Event-ID
 *   event: progress                no id, not kept, left out for readers that lag
 *   event: reset                   the log no longer goes on from Last-Event-ID; what follows is the present state */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/mux.h"
#include "api/mux_feed.h"
#include "http/sse.h"

#define LAG_BYTES (64u << 10) /* queued for one reader: it is not read for any more */
#define DROP_BYTES (1u << 20) /* and closed beyond this */
#define PRESENT_MAX 1000      /* jobs under way that a reset tells of */

struct events {
    struct feed_stream stream; /* first */
    struct api *a;
    struct http_req *req;
    struct sse *sse;
    struct job_record *rec; /* of one job: as it was when the stream was opened; NULL: all jobs */
    bool lagging, ended;    /* ended: the job's end has been told */
};

static struct events *events_of(struct feed_stream *s)
{
    return container_of(s, struct events, stream);
}

static void events_free(struct events *x)
{
    feed_close(&x->stream);
    job_record_free(&x->rec);
    free(x);
}

static void on_gone(struct sse *s, void *arg)
{
    (void)s;
    events_free(arg);
}

static bool finish(struct events *x)
{
    struct sse *s = x->sse;

    events_free(x);
    sse_end(&s);
    return false;
}

/* --- what is told --- */

static void say(struct events *x, const char *id, const char *event, struct buf *b)
{
    sse_send(x->sse, id, event, buf_str(b), b->len);
    buf_clear(b);
}

static bool on_entry(struct feed_stream *s, const struct store_logged *e)
{
    struct events *x = events_of(s);
    char id[24];

    snprintf(id, sizeof(id), "%lld", (long long)e->id);
    sse_send(x->sse, id, e->kind, e->data, strlen(e->data));
    x->ended |= strcmp(e->kind, "end") == 0;
    return x->rec && x->ended ? finish(x) : true;
}

static void on_progress(struct feed_stream *s, const struct runner_job_view *job)
{
    struct events *x = events_of(s);
    struct clock *c = x->a->d.clock;
    struct buf b = BUF_INIT;

    job_event_put_progress(&b, job->s->id, c->wall_ms(c), job->progress_value, job->progress_max,
                           job->progress_node);
    say(x, NULL, "progress", &b);
    buf_free(&b);
}

/* --- the present state --- */

static void say_state(struct events *x, const struct job_summary *s, const struct job_error *e)
{
    struct buf b = BUF_INIT;

    job_event_put_state(&b, &(struct job_event_state){.id = s->id,
                                                      .at = s->finished_at ? s->finished_at : s->state_at,
                                                      .state = s->state,
                                                      .server = s->server,
                                                      .attempt = s->attempt,
                                                      .code = s->code,
                                                      .message = e ? e->message : NULL});
    say(x, NULL, job_event_state_kind(s->state), &b);
    buf_free(&b);
}

static void say_record(struct events *x)
{
    const struct job_record *rec = x->rec;
    struct buf b = BUF_INIT;

    for (size_t i = 0; i < rec->n_outputs; i++) {
        if (rec->outputs[i].attempt != rec->s.attempt)
            continue;
        job_event_put_output(&b, rec->s.id, rec->s.finished_at, &rec->outputs[i]);
        say(x, NULL, "output", &b);
    }
    buf_free(&b);
    say_state(x, &rec->s, &rec->error);
    x->ended = !JOB_STATE_LIVE(rec->s.state);
}

struct present {
    struct events *x;
    int left;
};

static bool say_bound(const struct runner_job_view *job, void *arg)
{
    struct present *p = arg;

    if (job->s->state != JOB_QUEUED && strcmp(job->s->tenant, p->x->stream.tenant) == 0) {
        say_state(p->x, job->s, NULL);
        p->left--;
    }
    return p->left > 0;
}

/* Counts of all, and one event for each job that a server has. */
static void on_reset(struct feed_stream *s)
{
    struct events *x = events_of(s);
    struct present p = {x, PRESENT_MAX};
    struct runner_job_view v;
    struct runner_counts n;
    struct buf b = BUF_INIT;
    struct jsonw w;
    char id[24];

    runner_counts(x->a->runner, s->tenant, &n);
    jsonw_init(&w, &b);
    jsonw_obj(&w);
    jsonw_kint(&w, "at", x->a->d.clock->wall_ms(x->a->d.clock));
    jsonw_key(&w, "jobs");
    jsonw_obj(&w);
    for (enum job_state st = JOB_QUEUED; JOB_STATE_LIVE(st); st++)
        jsonw_kint(&w, job_state_name(st), (int64_t)n.state[st]);
    jsonw_obj_end(&w);
    jsonw_obj_end(&w);
    snprintf(id, sizeof(id), "%lld", (long long)s->after);
    say(x, id, "reset", &b);
    buf_free(&b);
    if (x->rec == NULL)
        runner_each(x->a->runner, say_bound, &p);
    else if (runner_find(x->a->runner, x->rec->s.id, &v))
        say_state(x, v.s, NULL);
    else
        say_record(x);
}

/* An end that the log no longer holds is told from the record. */
static bool on_caught_up(struct feed_stream *s)
{
    struct events *x = events_of(s);

    if (x->rec && !x->ended && !JOB_STATE_LIVE(x->rec->s.state))
        say_record(x);
    return x->rec && x->ended ? finish(x) : true;
}

/* --- readers that lag --- */

static void on_drained(struct http_req *req, void *arg)
{
    struct events *x = arg;

    (void)req;
    x->lagging = false;
    feed_go_on(&x->stream);
}

static bool has_room(struct feed_stream *s)
{
    struct events *x = events_of(s);

    if (http_queued(x->req) <= LAG_BYTES)
        return true;
    if (!x->lagging)
        http_on_drain(x->req, LAG_BYTES / 4, on_drained, x);
    x->lagging = true;
    return false;
}

static const struct feed_reader reader = {on_entry, on_progress, on_reset, on_caught_up, has_room};

/* --- beginning --- */

/* Last-Event-ID, as a header or, for what cannot set headers, in the query. An id that is none of ours is as good as one
 * that is too old. false: there is none. */
static bool last_event_id(const struct http_req *req, int64_t *id)
{
    const char *header = http_req_header(req, "Last-Event-ID");
    char *query = header ? NULL : api_query(req, "last_event_id"), *end;
    const char *s = header ? header : query;
    bool any = s && s[0];

    if (any) {
        *id = strtoll(s, &end, 10);
        if (*end != '\0' || *id <= 0)
            *id = INT64_MAX;
    }
    free(query);
    return any;
}

static void begin(struct api *a, struct http_req *req, struct job_record **rec)
{
    int64_t after = rec ? 0 : FEED_NOW;
    struct events *x;

    if (feed_streams(a->feed) >= a->cfg.clients_max) {
        http_set(req, "Retry-After", "5");
        api_error(req, 503, "too_many_clients", "too many clients follow events already", NULL);
        return;
    }
    x = xcalloc(1, sizeof(*x));
    x->a = a;
    x->req = req;
    last_event_id(req, &after);
    x->stream.reader = &reader;
    x->stream.tenant = api_tenant(a, req);
    if (rec) {
        x->rec = *rec;
        *rec = NULL;
        memcpy(x->stream.job, x->rec->s.id, UUID_SIZE);
    }
    x->sse = sse_new(req, DROP_BYTES, on_gone, x);
    feed_open(a->feed, &x->stream, after);
}

/* A browser comes back after the end of a stream, with the id of its last entry: nothing follows, and 204 tells it to
 * stay away. */
static void on_rest(enum store_status st, const struct store_logged *e, size_t n, int64_t oldest,
                    int64_t newest, void *arg)
{
    struct api_wait *w = arg;
    struct api *a = w->a;
    struct job_record *rec = w->extra;
    struct http_req *req;
    int64_t after = 0;

    (void)e;
    (void)oldest;
    w->extra = NULL;
    req = api_wait_end(w);
    if (req && st == STORE_OK && n == 0 && last_event_id(req, &after) && after <= newest)
        http_reply_empty(req, 204);
    else if (req)
        begin(a, req, &rec);
    job_record_free(&rec);
}

static void on_job(struct api *a, struct http_req *req, struct job_record **rec, void *arg)
{
    struct api_wait *w;
    int64_t after;

    (void)arg;
    if (mux_missing(req, rec))
        return;
    if (JOB_STATE_LIVE((*rec)->s.state) || !last_event_id(req, &after)) {
        begin(a, req, rec);
        return;
    }
    w = api_wait_new(a, req);
    w->extra = *rec;
    store_events(a->d.store, after, (*rec)->s.id, 1, on_rest, w);
    *rec = NULL;
}

void mux_get_events(struct api *a, struct http_req *req, const struct api_params *p)
{
    (void)p;
    if (!mux_starting(a, req))
        begin(a, req, NULL);
}

void mux_get_job_events(struct api *a, struct http_req *req, const struct api_params *p)
{
    if (!mux_starting(a, req))
        mux_load(a, req, p->v[0], JOB_PART_RECORD, on_job, NULL);
}
