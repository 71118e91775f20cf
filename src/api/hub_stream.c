/* What one client is told of one job, and when. */
#include <stdlib.h>
#include <string.h>

#include "api/hub_priv.h"
#include "base/json.h"
#include "base/log.h"
#include "base/plant.h"
#include "comfy/history.h"

#define WAITING_BYTES (1u << 20)   /* of one job, for a client that is not told yet */
#define STREAM_BYTES (64u << 20)   /* and in all, but for its end */
#define ANNOUNCED_BYTES (4u << 20) /* of memory, for one job's nodes; `executed` of others may come twice */

/* --- messages --- */

struct out *out_text(enum out_kind kind, struct buf *text)
{
    struct out *o = xcalloc(1, sizeof(*o));

    list_init(&o->link);
    o->kind = kind;
    o->frame = ws_frame_new(WS_TEXT, buf_str(text), text->len);
    buf_free(text);
    return o;
}

struct out *out_binary(enum out_kind kind, const void *p, size_t n)
{
    struct out *o = xcalloc(1, sizeof(*o));

    list_init(&o->link);
    o->kind = kind;
    o->frame = ws_frame_new(WS_BINARY, p, n);
    return o;
}

void out_free(struct out *o)
{
    list_remove(&o->link);
    bytes_unref(o->frame);
    free(o->node);
    free(o);
}

/* --- jobs whose POST is not answered yet --- */

struct expected {
    char job[UUID_SIZE];
    UT_hash_handle hh;
};

static struct expected *expected_find(struct hub *h, const char *job)
{
    struct expected *e;

    HASH_FIND_STR(h->expected, job, e);
    return e;
}

void hub_expect(struct hub *h, const char *job)
{
    struct expected *e = expected_find(h, job);

    if (e)
        return;
    e = xcalloc(1, sizeof(*e));
    memcpy(e->job, job, UUID_LEN);
    HASH_ADD_STR(h->expected, job, e);
}

void hub_release(struct hub *h, const char *job)
{
    struct expected *e = expected_find(h, job);
    struct hub_stream *s;

    if (e) {
        HASH_DEL(h->expected, e);
        free(e);
    }
    HASH_FIND_STR(h->streams, job, s);
    if (s && s->held) {
        s->held = false;
        streams_pump(h, s->client);
    }
}

void expected_free_all(struct hub *h)
{
    struct expected *e, *tmp;

    HASH_ITER(hh, h->expected, e, tmp) {
        HASH_DEL(h->expected, e);
        free(e);
    }
}

/* --- streams --- */

struct hub_stream *stream_add(struct hub *h, const struct job_summary *j)
{
    struct hub_stream *s = xcalloc(1, sizeof(*s));

    memcpy(s->job, j->id, UUID_SIZE);
    s->client = client_get(h, j->tenant, j->client_id);
    s->client->submitted |= s->client->id[0] != '\0';
    s->held = expected_find(h, j->id) != NULL;
    list_init(&s->queue);
    list_push_back(&s->client->streams, &s->link);
    s->client->untold++;
    s->client->tenant->untold++;
    HASH_ADD_STR(h->streams, job, s);
    return s;
}

static void mark_told(struct hub *h, struct hub_stream *s)
{
    if (s->told)
        return;
    s->told = true;
    s->client->untold--;
    s->client->tenant->untold--;
    s->client->status_due = true;
    status_later(h);
}

void stream_free(struct hub *h, struct hub_stream *s)
{
    mark_told(h, s);
    list_for_each_safe(it, &s->queue)
        out_free(list_entry(it, struct out, link));
    if (s->after_tick)
        out_free(s->after_tick);
    list_remove(&s->link);
    HASH_DEL(h->streams, s);
    bytes_unref(s->progress_state);
    free(s->executing);
    strset_clear(&s->announced);
    free(s);
}

static bool negotiated(const struct hub_client *c)
{
    list_for_each(it, &c->sockets)
        if (!list_entry(it, struct hub_socket, link)->flags)
            return false;
    return true;
}

/* Something happened to it for the first time: it takes its place behind those that began before. */
static void stream_begin(struct hub *h, struct hub_stream *s)
{
    struct list *after = &s->client->streams;

    if (s->begun)
        return;
    s->begun = true;
    s->serial = !list_empty(&s->client->sockets) && !negotiated(s->client);
    s->open_at = loop_now(h->loop) + h->cfg.settle_ms;
    list_for_each(it, &s->client->streams)
        if (list_entry(it, struct hub_stream, link)->begun && it != &s->link)
            after = it;
    list_remove(&s->link);
    list_insert_after(after, &s->link);
    if (!timer_is_set(&h->settle))
        timer_set(&h->settle, h->cfg.settle_ms);
}

/* No other of its client's that has begun stands before it. (After a start one that waits may.) */
static bool is_first(const struct hub_stream *s)
{
    list_for_each(it, &s->client->streams) {
        const struct hub_stream *x = list_entry(it, struct hub_stream, link);

        if (x == s || x->begun)
            return x == s;
    }
    return false;
}

/* May its messages go out now? ended: the whole story is there, so there is nothing to wait for. */
static bool may_tell(struct hub *h, const struct hub_stream *s)
{
    if (s->held || !s->begun || (s->serial && !is_first(s)))
        return false;
    return s->ended || loop_now(h->loop) >= s->open_at;
}

static void tell(struct hub *h, struct hub_stream *s, struct out *o)
{
    struct hub_client *c = s->client;
    bool last = o->last;

    if (o->kind == OUT_END && !last)
        mark_told(h, s); /* before the status that follows it */
    if (list_empty(&c->sockets)) {
        if (!client_keep(h, c, s->job, o) && last)
            told_done(h, s->job);
    } else {
        list_for_each_safe(it, &c->sockets) {
            struct hub_socket *k = list_entry(it, struct hub_socket, link);

            if (o->kind == OUT_STATUS)
                socket_status(k, false);
            else
                socket_send(k, o);
        }
        if (last)
            told_done(h, s->job);
        socket_sent(list_entry(c->sockets.prev, struct hub_socket, link), o);
    }
}

/* Tells what may be told. A stream whose last message went out is gone, and the next takes its turn. */
void streams_pump(struct hub *h, struct hub_client *c)
{
    int64_t wait = 0, now = loop_now(h->loop);

    list_for_each_safe(it, &c->streams) {
        struct hub_stream *s = list_entry(it, struct hub_stream, link);
        bool last = false;

        if (!may_tell(h, s)) {
            if (s->begun && !s->held && !s->ended && s->open_at > now &&
                (wait == 0 || s->open_at - now < wait))
                wait = s->open_at - now;
            continue;
        }
        while (!last && !list_empty(&s->queue)) {
            struct out *o = list_first(&s->queue, struct out, link);

            last = o->last;
            list_remove(&o->link);
            s->queued -= o->frame ? o->frame->len + sizeof(*o) : 0;
            tell(h, s, o);
        }
        if (last)
            stream_free(h, s);
    }
    if (wait && !timer_is_set(&h->settle))
        timer_set(&h->settle, wait);
}

/* What waits for its turn is told whole, as long as it is little; beyond that only the latest of its kind is kept of what
 * merely passes. */
static void drop_older(struct hub_stream *s, const struct out *o)
{
    list_for_each_safe(it, &s->queue) {
        struct out *old = list_entry(it, struct out, link);

        if (old->kind == o->kind && old->audience == o->audience &&
            ((o->kind == OUT_PROGRESS && old->event == o->event) ||
             (o->kind == OUT_PREVIEW && strcmp(old->node ? old->node : "", o->node ? o->node : "") == 0))) {
            s->queued -= old->frame->len + sizeof(*old);
            out_free(old);
        }
    }
}

/* What is left out of a stream that waits too long for its turn is lost on the socket; what was made is stored all the
 * same, and the end is told. */
static bool fits(struct hub_stream *s, const struct out *o)
{
    size_t n = o->frame ? o->frame->len + sizeof(*o) : 0;

    if (o->kind == OUT_END || o->kind == OUT_STATUS || s->queued + n <= STREAM_BYTES)
        return true;
    if (!s->overflowed)
        log_warn(LOG_S("job", s->job), LOG_S("event", "events_not_kept"), LOG_I("bytes", s->queued),
                 LOG_S("reason", "too much waits until its client has been told of another job"));
    s->overflowed = true;
    return false;
}

static void enqueue(struct hub_stream *s, struct out *o)
{
    if ((o->kind == OUT_PROGRESS || o->kind == OUT_PREVIEW) && s->queued > WAITING_BYTES)
        drop_older(s, o);
    if (!fits(s, o)) {
        out_free(o);
        return;
    }
    s->queued += o->frame ? o->frame->len + sizeof(*o) : 0;
    list_push_back(&s->queue, &o->link);
}

/* ComfyUI (0.3.64, 0.3.75) sends a preview with metadata before its progress, one without after it. */
static void enqueue_after_tick(struct hub_stream *s, const struct out *tick)
{
    struct out *o = s->after_tick;

    if (o && (tick == NULL || tick->event != EVENT_PROGRESS)) {
        s->after_tick = NULL;
        enqueue(s, o);
    }
}

static void stream_add_out(struct hub_stream *s, struct out *o)
{
    enqueue_after_tick(s, o);
    enqueue(s, o);
    enqueue_after_tick(s, NULL);
}

void stream_push(struct hub *h, struct hub_stream *s, struct out *o)
{
    stream_begin(h, s);
    stream_add_out(s, o);
    streams_pump(h, s->client);
}

void stream_catch_up(struct hub_socket *k)
{
    struct hub_client *c = k->client;
    struct out o = {.kind = OUT_PLAIN};
    struct buf b = BUF_INIT;

    list_for_each(it, &c->streams) {
        struct hub_stream *s = list_entry(it, struct hub_stream, link);

        if (!may_tell(k->hub, s) || s->executing == NULL)
            continue;
        event_put_executing(&b, s->executing, s->executing, s->job);
        o.frame = ws_frame_new(WS_TEXT, b.data, b.len);
        socket_send(k, &o);
        bytes_unref(o.frame);
        buf_clear(&b);
        if (s->progress_state) {
            o.frame = s->progress_state;
            socket_send(k, &o);
        }
    }
    buf_free(&b);
}

bool stream_is_open(struct hub *h, const char *job)
{
    struct hub_stream *s;

    HASH_FIND_STR(h->streams, job, s);
    return s != NULL;
}

bool hub_shows_pending(struct hub *h, const char *job)
{
    struct hub_stream *s;

    HASH_FIND_STR(h->streams, job, s);
    return s && s->begun && s->serial && !s->past && !is_first(s);
}

void hub_each_ended(struct hub *h, const char *tenant,
                    void (*cb)(const char *job, const char *client_id, void *arg), void *arg)
{
    struct hub_client *c, *tmp;

    HASH_ITER(hh, h->clients, c, tmp) {
        if (strcmp(c->tenant->name, tenant) != 0)
            continue;
        list_for_each(it, &c->streams) {
            struct hub_stream *s = list_entry(it, struct hub_stream, link);

            if (s->ended && !s->told)
                cb(s->job, c->id, arg);
        }
    }
}

/* --- from the server's words to the client's --- */

struct renaming {
    struct runner *r;
    const char *job;
};

static void rename_output(void *arg, const struct history_output *o, struct history_names *n)
{
    const struct renaming *x = arg;

    runner_rename(x->r, x->job, o, n);
}

static void put_executed(struct hub *h, struct buf *b, const struct job_summary *j, const struct event *ev)
{
    struct renaming x = {h->runner, j->id};
    char *node = json_strdup(ev->node), *display = json_strdup(ev->display_node);
    struct buf out = BUF_INIT;
    struct json output = {0};

    if (json_type(ev->output) == JSON_OBJECT) {
        history_put_node_output(&out, ev->node, ev->output, rename_output, &x);
        output = (struct json){buf_str(&out), out.len};
    }
    event_put_executed(b, node ? node : "", display ? display : node ? node : "", output, j->id);
    free(node);
    free(display);
    buf_free(&out);
}

static struct hub_stream *stream_of(struct hub *h, const struct job_summary *j)
{
    struct hub_stream *s;

    HASH_FIND_STR(h->streams, j->id, s);
    return s ? s : stream_add(h, j);
}

static void set_executing(struct hub_stream *s, struct json node)
{
    free(s->executing);
    s->executing = json_strdup(node);
}

void hub_on_event(struct hub *h, const struct runner_job_view *job, const char *text, size_t n)
{
    struct hub_stream *s = stream_of(h, job->s);
    enum out_kind kind = OUT_PLAIN;
    struct buf b = BUF_INIT;
    struct event ev;
    struct out *o;
    char *node;

    if (event_parse(text, n, &ev, NULL) < 0)
        return;
    switch (ev.kind) {
    case EVENT_STATUS:
    case EVENT_FEATURE_FLAGS: return;
    case EVENT_EXECUTION_START:
        if (s->started)
            return;
        s->started = true;
        break;
    case EVENT_EXECUTION_CACHED:
        if (s->cached)
            return;
        s->cached = true;
        break;
    case EVENT_EXECUTING: set_executing(s, ev.node); break;
    case EVENT_EXECUTED:
        node = json_strdup(ev.node);
        strset_add(&s->announced, node ? node : "", ANNOUNCED_BYTES);
        free(node);
        put_executed(h, &b, job->s, &ev);
        break;
    case EVENT_PROGRESS:
    case EVENT_PROGRESS_STATE: kind = OUT_PROGRESS; break;
    default: break;
    }
    if (b.len == 0 && json_type(ev.prompt_id) == JSON_STRING && !json_str_eq(ev.prompt_id, job->s->id))
        event_put_with_prompt_id(&b, &ev, job->s->id);
    else if (b.len == 0)
        buf_put(&b, text, n);
    o = out_text(kind, &b);
    o->event = ev.kind;
    if (ev.kind == EVENT_PROGRESS_STATE) {
        bytes_unref(s->progress_state);
        s->progress_state = bytes_ref(o->frame);
    }
    stream_push(h, s, o);
}

static struct out *preview(const struct hub_stream *s, const struct frame *f, struct buf *b)
{
    struct out *o = out_binary(frame_is_product(f) ? OUT_PRODUCT : OUT_PREVIEW, b->data, b->len);

    o->node = xstrdup_null(s->executing);
    buf_clear(b);
    return o;
}

static void push_text(struct hub *h, struct hub_stream *s, const struct frame *f, const void *data, size_t n)
{
    struct buf b = BUF_INIT;
    struct out *o;

    frame_put_text_of_prompt(&b, f, s->job);
    o = out_binary(OUT_PLAIN, b.data, b.len);
    o->audience = OUT_TEXT_METADATA;
    stream_push(h, s, o);
    o = out_binary(OUT_PLAIN, data, n);
    o->audience = OUT_TEXT_LEGACY;
    stream_push(h, s, o);
    buf_free(&b);
}

static void push_preview_with_metadata(struct hub *h, struct hub_stream *s, const struct frame *f,
                                       const void *data, size_t n)
{
    struct out *o, *legacy;
    struct buf b = BUF_INIT;

    if (json_str_eq(json_get(f->meta, "prompt_id"), s->job))
        buf_put(&b, data, n);
    else
        frame_put_with_prompt_id(&b, f, s->job);
    o = preview(s, f, &b);
    o->audience = OUT_METADATA;
    frame_put_legacy(&b, f);
    legacy = preview(s, f, &b);
    legacy->audience = OUT_LEGACY;
    buf_free(&b);
    stream_push(h, s, o);
    s->after_tick = legacy;
}

void hub_on_frame(struct hub *h, const struct runner_job_view *job, const void *data, size_t n)
{
    struct hub_stream *s = stream_of(h, job->s);
    struct buf b = BUF_INIT;
    struct frame f;

    if (frame_parse(data, n, &f, NULL) < 0)
        return;
    if (f.type == FRAME_IMAGE_META) {
        push_preview_with_metadata(h, s, &f, data, n);
    } else if (f.type == FRAME_TEXT) {
        push_text(h, s, &f, data, n);
    } else if (f.type == FRAME_IMAGE) {
        buf_put(&b, data, n);
        stream_push(h, s, preview(s, &f, &b));
        buf_free(&b);
    } else {
        stream_push(h, s, out_binary(OUT_PLAIN, data, n));
    }
}

/* --- the end --- */

static struct json error_field(const struct json *detail, const char *key)
{
    return json_type(*detail) == JSON_OBJECT ? json_get(*detail, key) : (struct json){0};
}

static void put_error(struct buf *b, const struct job_summary *j, const struct job_error *e)
{
    struct json detail = {0};
    char *node = NULL, *type = NULL, *kind = NULL, *what = NULL;
    struct event_error x = {.prompt_id = j->id, .timestamp = j->finished_at};

    if (e->detail && json_check(e->detail, strlen(e->detail), NULL, &detail, NULL) < 0)
        detail = (struct json){0};
    if (e->code == JOB_EXECUTION_ERROR || e->code == JOB_OUT_OF_MEMORY) {
        node = json_strdup(error_field(&detail, "node_id"));
        type = json_strdup(error_field(&detail, "node_type"));
        kind = json_strdup(error_field(&detail, "exception_type"));
        what = json_strdup(error_field(&detail, "exception_message"));
        x.traceback = error_field(&detail, "traceback");
        x.executed = error_field(&detail, "executed");
        x.current_inputs = error_field(&detail, "current_inputs");
        x.current_outputs = error_field(&detail, "current_outputs");
    }
    if (what == NULL)
        what = job_error_text(e);
    x.node_id = node ? node : "";
    x.node_type = type ? type : "";
    x.exception_type = kind ? kind : job_code_name(e->code);
    x.exception_message = what;
    event_put_error(b, &x);
    free(node);
    free(type);
    free(kind);
    free(what);
}

/* As history has it: which node, of which class, after which others. */
static void put_interrupted(struct buf *b, const struct hub_stream *s, const struct job_summary *j,
                            struct bytes *history)
{
    struct json whole, messages, last = {0}, each;
    char *node, *type;

    if (history && json_check(history->data, history->len, NULL, &whole, NULL) == 0) {
        messages = json_get(json_get(whole, "status"), "messages");
        for (struct json_iter it = json_iter(messages); json_next(&it, NULL, &each);)
            last = json_at(each, 1);
    }
    node = json_strdup(json_get(last, "node_id"));
    type = json_strdup(json_get(last, "node_type"));
    event_put_interrupted(b, j->id,
                          node           ? node
                          : s->executing ? s->executing
                                         : "",
                          type ? type : "", json_get(last, "executed"), j->finished_at);
    free(node);
    free(type);
}

/* Every end has one beginning, as in history: a client may take the end of what never began for another one's (the Krita
 * plugin does, and loses a
 * job that begins twice). */
static void tell_start(struct hub *h, struct hub_stream *s, const struct job_summary *j)
{
    struct buf b = BUF_INIT;

    if (s->started)
        return;
    event_put_start(&b, j->id, j->started_at ? j->started_at : j->finished_at);
    stream_push(h, s, out_text(OUT_PLAIN, &b));
    s->started = true;
}

/* What its socket did not carry, because it dropped, is said now: there are clients that take results from
 * `executed` alone. history has the names as clients see them. */
static void tell_missed(struct hub *h, struct hub_stream *s, const struct job_summary *j,
                        struct bytes *history)
{
    struct json whole, node, output;
    struct buf b = BUF_INIT;
    struct json_iter it;

    if (!s->cached) {
        event_put_cached(&b, (struct json){0}, j->id, j->started_at);
        stream_push(h, s, out_text(OUT_PLAIN, &b));
        s->cached = true;
    }
    if (history == NULL || json_check(history->data, history->len, NULL, &whole, NULL) < 0)
        return;
    it = json_iter(json_get(whole, "outputs"));
    while (json_next(&it, &node, &output)) {
        char *id = json_strdup(node);

        if (id && !strset_has(&s->announced, id)) {
            event_put_executed(&b, id, id, output, j->id);
            stream_push(h, s, out_text(OUT_PLAIN, &b));
        }
        free(id);
    }
}

/* Taken away while it waited, as far as its client knows: nothing but status tells of it, as on a stock server. Its
 * executing{null} would make the official frontend forget the job that runs. */
static bool goes_unsaid(const struct hub_stream *s, const struct job_summary *j, enum job_state from)
{
    return j->state == JOB_CANCELED &&
           ((from == JOB_QUEUED && !s->started) || (s->begun && s->serial && !is_first(s)));
}

static void push_status(struct hub_stream *s)
{
    struct out *o = xcalloc(1, sizeof(*o));

    list_init(&o->link);
    o->kind = OUT_STATUS;
    stream_add_out(s, o);
}

static void stream_end(struct hub *h, struct hub_stream *s, const struct runner_job_view *job,
                       enum job_state from, const struct runner_end *end)
{
    const struct job_summary *j = job->s;
    struct hub_client *c = s->client;
    struct buf b = BUF_INIT;
    struct out *o;

    if (goes_unsaid(s, j, from)) {
        told_done(h, j->id);
        stream_free(h, s);
        streams_pump(h, c);
        return;
    }
    if (c->id[0])
        told_owe(h, j->id);
    tell_start(h, s, j);
    if (j->state == JOB_SUCCEEDED) {
        tell_missed(h, s, j, end->history);
        event_put_success(&b, j->id, j->finished_at);
    } else if (j->state != JOB_CANCELED) {
        put_error(&b, j, end->error);
    } else {
        put_interrupted(&b, s, j, end->history);
    }
    stream_begin(h, s);
    o = out_text(OUT_END, &b);
    memcpy(o->job, j->id, UUID_SIZE);
    stream_add_out(s, o);
    push_status(s);
    if (PLANTED(LAST_WORD_LOST) && j->state == JOB_FAILED)
        event_put_status(&b, 0, NULL);
    else
        event_put_executing(&b, NULL, NULL, j->id);
    o = out_text(OUT_END, &b);
    o->last = true;
    memcpy(o->job, j->id, UUID_SIZE);
    stream_add_out(s, o);
    s->ended = true;
    streams_pump(h, s->client);
}

void hub_on_change(struct hub *h, const struct runner_job_view *job, enum job_state from,
                   const struct runner_end *end)
{
    struct hub_stream *s = stream_of(h, job->s);

    s->client->status_due = true;
    status_later(h);
    if (end)
        stream_end(h, s, job, from, end);
}

bool stream_was_told(const struct hub *h, const struct job_summary *j, int64_t until)
{
    return j->started_at && until - j->started_at > 2 * h->cfg.settle_ms;
}

void stream_tell_ended(struct hub *h, const struct job_record *rec)
{
    const struct runner_job_view v = {.s = &rec->s};
    const struct runner_end end = {.error = &rec->error, .history = rec->history};
    struct hub_stream *s = stream_add(h, &rec->s);

    s->past = true;
    s->started = s->cached = stream_was_told(h, &rec->s, rec->s.finished_at);
    stream_end(h, s, &v, JOB_RUNNING, &end);
}
