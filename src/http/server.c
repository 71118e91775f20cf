#include "http/server.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include <event2/buffer.h>

#include "base/log.h"
#include "http/server_impl.h"

enum {
    OUT_MAX = 256 * 1024, /* no further pipelined request is looked at while this much output waits */
    LOWAT = 128 * 1024,   /* and from here on it is */
    LINGER_MS = 5000,     /* for the peer to take note of our end */
};

const struct http_limits http_limits_default = {
    .target = 8190,
    .head = 64 * 1024,
    .headers = 128,
    .body = 100 * 1024 * 1024, /* as ComfyUI's --max-upload-size */
    .drain = 256 * 1024,
    .idle_ms = 75000,
    .head_ms = 30000,
    .body_ms = 60000,
    .write_ms = 60000,
    .conns = 10000,
};

struct server_listener {
    struct list link;
    struct http_server *server;
    struct listener *listener;
    struct tls_server *tls;
};

static void conn_run(struct http_conn *c);

/* --- small things --- */

static void conn_set_state(struct http_conn *c, enum conn_state to)
{
    static const char *const names[] = {"opening", "idle", "head", "request", "drop", "flush", "gone"};

    assert(c->state != CONN_GONE);
    if (log_wants(LOG_DEBUG))
        log_debug(LOG_I("conn", c->id), LOG_S("from", names[c->state]), LOG_S("to", names[to]));
    c->state = to;
}

static void flushes_tell(struct http_conn *c, bool ok)
{
    struct list *it;

    while ((it = c->flushes.next) != &c->flushes) {
        struct flush_wait *w = list_entry(it, struct flush_wait, link);

        list_remove(&w->link);
        w->cb(ok, w->arg);
        free(w);
    }
}

static void on_task(void *arg)
{
    struct http_conn *c = arg;

    if (c->state != CONN_GONE) {
        conn_run(c);
        return;
    }
    flushes_tell(c, true); /* left only when the stream was handed over, with their bytes ahead in it */
    free(c);
}

void conn_kick(struct http_conn *c)
{
    if (!c->running && c->state != CONN_GONE)
        loop_defer(c->server->loop, &c->task);
}

/* Setting a timer costs more than looking at a number: a timer that goes off too early looks and sets itself
 * again, so a busy connection sets one every idle_ms. */
void conn_deadline(struct http_conn *c, int64_t ms)
{
    int64_t now = loop_now(c->server->loop);

    c->deadline = ms > 0 ? now + ms : 0;
    if (c->deadline && (!timer_is_set(&c->timer) || c->timer_at > c->deadline)) {
        c->timer_at = c->deadline;
        timer_set(&c->timer, ms);
    }
}

const char *server_date(struct http_server *s)
{
    struct clock *clk = loop_clock(s->loop);
    int64_t sec = clk->wall_ms(clk) / 1000;

    if (sec != s->date_sec) {
        s->date_sec = sec;
        http_date(sec, s->date);
    }
    return s->date;
}

static void accept_check(struct http_server *s)
{
    bool full = s->lim.conns > 0 && s->n_conns >= s->lim.conns;

    if (full == s->accept_paused || s->draining)
        return;
    s->accept_paused = full;
    if (full)
        log_warn(LOG_S("event", "accept paused"), LOG_I("conns", s->n_conns), LOG_S("reason", "limit"));
    list_for_each(it, &s->listeners) {
        struct server_listener *sl = list_entry(it, struct server_listener, link);

        if (full)
            listener_pause(sl->listener);
        else
            listener_resume(sl->listener);
    }
}

/* --- the end of a connection --- */

/* Unlink everywhere; the memory goes at the end of the turn. */
static void conn_unlink(struct http_conn *c)
{
    conn_set_state(c, CONN_GONE);
    list_remove(&c->link);
    c->server->n_conns--;
    accept_check(c->server);
    timer_fini(&c->timer);
    http_parser_free(&c->parser);
    loop_defer(c->server->loop, &c->task);
}

/* The peer went away, or must: the handler of a request that has no whole answer hears of it. */
static void req_abort(struct http_req *r)
{
    if (r->on_abort && r->answer < ANSWER_ENDED)
        r->on_abort(r, r->abort_arg);
    if (r->flushed_cb)
        r->flushed_cb(false, r->flushed_arg);
    http_req_free(r);
}

void conn_lost(struct http_conn *c, const char *reason)
{
    struct http_req *r = c->req;

    LOG_AT(r ? LOG_INFO : LOG_DEBUG, LOG_I("conn", c->id), LOG_S("peer", stream_peer(c->stream)),
           LOG_S("event", "closed"), LOG_S("path", r ? r->head->path : NULL), LOG_S("reason", reason));
    c->req = NULL;
    if (r) { /* its handler may still look at it, and at who asked */
        struct http_parser *p = c->parser;
        struct stream *s = c->stream;

        c->parser = NULL;
        conn_unlink(c);
        flushes_tell(c, false);
        req_abort(r);
        http_parser_free(&p);
        c->stream = NULL;
        stream_close(&s);
        return;
    }
    stream_close(&c->stream);
    conn_unlink(c);
    flushes_tell(c, false);
}

static void flush_wait_add(struct http_conn *c, const struct http_req *r)
{
    struct flush_wait *w;

    if (r->flushed_cb == NULL)
        return;
    w = xcalloc(1, sizeof(*w));
    w->at = c->written;
    w->cb = r->flushed_cb;
    w->arg = r->flushed_arg;
    list_push_back(&c->flushes, &w->link);
}

void conn_detach(struct http_conn *c)
{
    struct http_req *r = c->req;

    flush_wait_add(c, r);
    c->stream = NULL;
    c->req = NULL;
    conn_unlink(c);
    http_req_free(r);
}

static void conn_close_gracefully(struct http_conn *c)
{
    stream_close_gracefully(&c->stream, LINGER_MS);
    conn_unlink(c);
    flushes_tell(c, true);
}

static void conn_to_flush(struct http_conn *c)
{
    conn_set_state(c, CONN_FLUSH);
    conn_deadline(c, 0);
}

void conn_refuse(struct http_conn *c, int status, const char *reason)
{
    struct http_req *r = c->req;
    const char *text = http_status_text(status);
    struct buf *b = &c->server->scratch;

    log_info(LOG_I("conn", c->id), LOG_S("peer", stream_peer(c->stream)), LOG_S("event", "refused"),
             LOG_I("status", status), LOG_S("path", r ? r->head->path : NULL), LOG_S("reason", reason));
    if (r && r->answer != ANSWER_NONE) {
        conn_lost(c, reason); /* too late to say it */
        return;
    }
    buf_clear(b);
    buf_printf(b, "HTTP/1.1 %d %s\r\n", status, text);
    if (c->server->name)
        buf_printf(b, "Server: %s\r\n", c->server->name);
    buf_printf(b,
               "Date: %s\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %zu\r\n"
               "Connection: close\r\n\r\n",
               server_date(c->server), strlen(text) + 2 + strlen(reason) + 1);
    if (r == NULL || r->head->method != HTTP_HEAD)
        buf_printf(b, "%s: %s\n", text, reason);
    stream_write(c->stream, b->data, b->len);
    c->written += b->len;
    c->req = NULL;
    conn_to_flush(c);
    if (r)
        req_abort(r);
}

/* --- steps. Each returns whether there may be more to do at once --- */

/* The next request may be looked at. */
static void conn_next(struct http_conn *c)
{
    http_parser_next(c->parser);
    c->parsed = false;
    c->dropped = 0;
    conn_set_state(c, CONN_IDLE);
    conn_deadline(c, c->server->lim.idle_ms);
}

static void request_begin(struct http_conn *c)
{
    struct http_req *r = xcalloc(1, sizeof(*r));
    const struct http_head *h = http_parser_head(c->parser);
    const char *expect = h->minor == 1 ? http_headers_get(&h->headers, "Expect") : NULL, *data;
    size_t used, len;

    r->conn = c;
    r->head = h;
    r->limit = c->server->lim.body;
    r->keep_alive = h->keep_alive;
    r->declared = -1;
    c->req = r;
    conn_set_state(c, CONN_REQUEST);
    conn_deadline(c, 0);
    if (expect && strcasecmp(expect, "100-continue") != 0) {
        conn_refuse(c, 417, "unknown Expect");
        return;
    }
    c->parsed = h->length == 0 && http_parser_step(c->parser, "", 0, &used, &data, &len) == HTTP_PARSE_END;
    r->expects = expect && !c->parsed;
    if (h->path[0] != '/') { /* OPTIONS *: about the server, not about anything that a handler knows */
        http_set(r, "Allow", "GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS");
        http_reply_empty(r, 200);
        return;
    }
    c->server->on_request(r, c->server->arg);
}

static bool step_head(struct http_conn *c)
{
    struct evbuffer *in = stream_input(c->stream);
    const char *first, *data;
    size_t n, used, len;

    if (c->state == CONN_IDLE && c->server->draining) {
        conn_to_flush(c);
        return true;
    }
    if (stream_queued(c->stream) > OUT_MAX)
        return false;
    if ((first = stream_peek(c->stream, &n)) == NULL) {
        if (stream_saw_eof(c->stream))
            conn_to_flush(c);
        return c->state == CONN_FLUSH;
    }
    switch (http_parser_step(c->parser, first, n, &used, &data, &len)) {
    case HTTP_PARSE_HEAD:
        evbuffer_drain(in, used);
        request_begin(c);
        return true;
    case HTTP_PARSE_ERROR:
        evbuffer_drain(in, used);
        conn_refuse(c, http_parser_status(c->parser), http_parser_reason(c->parser));
        return true;
    default: break;
    }
    evbuffer_drain(in, used);
    if (c->state == CONN_IDLE && http_parser_begun(c->parser)) {
        conn_set_state(c, CONN_HEAD);
        conn_deadline(c, c->server->lim.head_ms);
    }
    return true;
}

/* The handler is done with it. */
static void request_end(struct http_conn *c)
{
    struct http_req *r = c->req;
    bool keep = r->keep_alive;

    if (r->answer == ANSWER_CUT || req_answer_is_short(r)) {
        conn_lost(c, r->answer == ANSWER_CUT ? "the answer could not be completed"
                                             : "the answer is shorter than declared");
        return;
    }
    flush_wait_add(c, r);
    if (r->done_cb)
        r->done_cb(http_clock_us() - r->began, r->done_arg);
    c->req = NULL;
    http_req_free(r);
    if (!keep) {
        conn_to_flush(c);
    } else if (c->parsed) {
        conn_next(c);
    } else {
        conn_set_state(c, CONN_DROP);
        conn_deadline(c, c->server->lim.body_ms);
    }
}

static bool step_request(struct http_conn *c)
{
    struct http_req *r = c->req;

    if (r->answer >= ANSWER_ENDED) {
        request_end(c);
        return true;
    }
    if (req_body_step(r))
        return true;
    /* Nothing will come any more, and nobody is left to read the answer (or so we take it, as aiohttp does).
     * While input is left that the handler may want, it may yet end the body. */
    if (stream_saw_eof(c->stream) && (c->parsed || evbuffer_get_length(stream_input(c->stream)) == 0))
        conn_lost(c, "closed by the peer");
    return false;
}

static bool step_drop(struct http_conn *c)
{
    struct evbuffer *in = stream_input(c->stream);
    const char *first, *data;
    size_t n, used, len;

    if ((first = stream_peek(c->stream, &n)) == NULL) {
        if (stream_saw_eof(c->stream))
            conn_to_flush(c);
        return c->state == CONN_FLUSH;
    }
    switch (http_parser_step(c->parser, first, n, &used, &data, &len)) {
    case HTTP_PARSE_BODY:
        c->dropped += (int64_t)len;
        conn_deadline(c, c->server->lim.body_ms);
        if (c->dropped > c->server->lim.drain)
            conn_to_flush(c);
        break;
    case HTTP_PARSE_END: c->parsed = true; break;
    case HTTP_PARSE_ERROR:
        log_info(LOG_I("conn", c->id), LOG_S("peer", stream_peer(c->stream)), LOG_S("event", "closed"),
                 LOG_S("reason", http_parser_reason(c->parser)));
        conn_to_flush(c);
        break;
    default: break;
    }
    evbuffer_drain(in, used);
    if (c->state == CONN_DROP && !c->parsed && c->dropped > 0) {
        /* The end of a body with a length is known without a further byte. */
        if (http_parser_step(c->parser, "", 0, &used, &data, &len) == HTTP_PARSE_END)
            c->parsed = true;
    }
    if (c->state == CONN_DROP && c->parsed)
        conn_next(c);
    return true;
}

static bool step_flush(struct http_conn *c)
{
    struct evbuffer *in = stream_input(c->stream);

    evbuffer_drain(in, evbuffer_get_length(in));
    if (stream_queued(c->stream) == 0)
        conn_close_gracefully(c);
    return false;
}

static bool conn_step(struct http_conn *c)
{
    switch (c->state) {
    case CONN_IDLE:
    case CONN_HEAD: return step_head(c);
    case CONN_REQUEST: return step_request(c);
    case CONN_DROP: return step_drop(c);
    case CONN_FLUSH: return step_flush(c);
    case CONN_OPENING:
    case CONN_GONE: break;
    }
    return false;
}

/* Who waited for output that is out by now. */
static void flushes_check(struct http_conn *c)
{
    while (c->state != CONN_GONE && !list_empty(&c->flushes)) {
        struct flush_wait *w = list_first(&c->flushes, struct flush_wait, link);

        if (w->at > c->written - stream_queued(c->stream))
            return;
        list_remove(&w->link);
        w->cb(true, w->arg);
        free(w);
    }
}

/* Once a run, before anything else: asked for inside a callback it comes in the next turn. */
static void drain_check(struct http_conn *c)
{
    struct http_req *r = c->req;
    http_drain_cb *cb = r ? r->drain_cb : NULL;

    if (cb == NULL || r->answer >= ANSWER_ENDED || stream_queued(c->stream) > r->drain_low)
        return;
    r->drain_cb = NULL;
    cb(r, r->drain_arg);
}

static void lowat_update(struct http_conn *c)
{
    size_t low = LOWAT;

    if (!list_empty(&c->flushes) || c->state == CONN_FLUSH)
        low = 0;
    else if (c->req && c->req->drain_cb)
        low = c->req->drain_low;
    if (low != c->lowat) {
        c->lowat = low;
        stream_set_lowat(c->stream, low);
    }
}

static void conn_run(struct http_conn *c)
{
    assert(!c->running);
    c->running = true;
    flushes_check(c);
    if (c->state != CONN_GONE)
        drain_check(c);
    while (conn_step(c))
        ;
    flushes_check(c); /* an answer given outside may have left before its end was noticed just now */
    c->running = false;
    if (c->state == CONN_GONE)
        return;
    lowat_update(c);
}

/* --- what happens to a connection --- */

static void on_stream(struct stream *s, enum stream_event ev, void *arg)
{
    struct http_conn *c = arg;

    switch (ev) {
    case STREAM_OPEN:
        conn_set_state(c, CONN_IDLE);
        conn_deadline(c, c->server->lim.idle_ms);
        break;
    case STREAM_ERROR: conn_lost(c, stream_error(s)); return;
    case STREAM_TIMEOUT: conn_lost(c, "write timeout"); return;
    case STREAM_DATA:
    case STREAM_LOWAT:
    case STREAM_EOF: break;
    }
    conn_run(c);
}

static void on_deadline(struct http_conn *c)
{
    c->deadline = 0;
    switch (c->state) {
    case CONN_OPENING: conn_lost(c, "handshake timeout"); break;
    case CONN_IDLE:
        if (stream_queued(c->stream) > 0)
            conn_deadline(c, c->server->lim.idle_ms); /* still reading our answer: not idle */
        else
            conn_lost(c, "idle");
        break;
    case CONN_HEAD:
        conn_refuse(c, 408, "head timeout");
        conn_kick(c);
        break;
    case CONN_REQUEST:
        conn_refuse(c, 408, "body timeout");
        conn_kick(c);
        break;
    case CONN_DROP:
        conn_to_flush(c);
        conn_kick(c);
        break;
    case CONN_FLUSH:
    case CONN_GONE: break;
    }
}

static void on_timer(void *arg)
{
    struct http_conn *c = arg;
    int64_t now = loop_now(c->server->loop);

    if (c->deadline == 0)
        return;
    if (now >= c->deadline)
        on_deadline(c);
    else
        conn_deadline(c, c->deadline - now);
}

static void on_accept(struct listener *ln, int fd, void *arg)
{
    struct server_listener *sl = arg;
    struct http_server *s = sl->server;
    const struct http_parse_limits lim = {s->lim.target, s->lim.head, s->lim.headers};
    struct http_conn *c = xcalloc(1, sizeof(*c));

    (void)ln;
    c->server = s;
    c->id = ++s->last_id;
    c->lowat = LOWAT;
    list_init(&c->flushes);
    task_init(&c->task, on_task, c);
    timer_init(&c->timer, s->loop, on_timer, c);
    c->parser = http_parser_new(HTTP_PARSE_REQUEST, &lim);
    c->stream = stream_accept(s->loop, fd, sl->tls, on_stream, c);
    stream_set_lowat(c->stream, LOWAT);
    stream_set_timeouts(c->stream, 0, s->lim.write_ms);
    list_push_back(&s->conns, &c->link);
    s->n_conns++;
    conn_deadline(c, s->lim.head_ms);
    accept_check(s);
}

/* --- the server --- */

struct http_server *http_server_new(struct loop *l, const struct http_limits *lim,
                                    http_request_cb *on_request, void *arg)
{
    struct http_server *s = xcalloc(1, sizeof(*s));

    s->loop = l;
    s->lim = lim ? *lim : http_limits_default;
    s->on_request = on_request;
    s->arg = arg;
    s->date_sec = -1;
    list_init(&s->listeners);
    list_init(&s->conns);
    return s;
}

void http_server_set_limits(struct http_server *s, const struct http_limits *lim)
{
    s->lim = *lim;
    accept_check(s);
}

struct listener *http_server_listen(struct http_server *s, const char *addr, struct tls_server *tls,
                                    struct err *e)
{
    struct server_listener *sl = xcalloc(1, sizeof(*sl));

    sl->server = s;
    sl->tls = tls;
    sl->listener = listener_open(s->loop, addr, on_accept, sl, e);
    if (sl->listener == NULL) {
        free(sl);
        return NULL;
    }
    list_push_back(&s->listeners, &sl->link);
    return sl->listener;
}

static void listeners_close(struct http_server *s)
{
    list_for_each_safe(it, &s->listeners) {
        struct server_listener *sl = list_entry(it, struct server_listener, link);

        list_remove(&sl->link);
        listener_close(&sl->listener);
        free(sl);
    }
}

void http_server_drain(struct http_server *s)
{
    s->draining = true;
    listeners_close(s);
    list_for_each(it, &s->conns) {
        struct http_conn *c = list_entry(it, struct http_conn, link);

        if (c->req && c->req->answer == ANSWER_NONE)
            c->req->keep_alive = false;
        conn_kick(c);
    }
}

void http_server_free(struct http_server **sp)
{
    struct http_server *s = *sp;

    if (s == NULL)
        return;
    *sp = NULL;
    s->draining = true;
    listeners_close(s);
    while (!list_empty(&s->conns))
        conn_lost(list_first(&s->conns, struct http_conn, link), "the server stops");
    buf_free(&s->scratch);
    free(s->name);
    free(s);
}

unsigned http_server_conns(const struct http_server *s)
{
    return s->n_conns;
}

void http_server_set_name(struct http_server *s, const char *name)
{
    free(s->name);
    s->name = xstrdup_null(name);
}
