#include <assert.h>
#include <event2/buffer.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/log.h"
#include "http/client_priv.h"
#include "http/http_char.h"

enum {
    INTERIM_HEADS = 8,   /* 1xx answers: together at most this many times the limit of one head */
    ANSWER_FIELDS = 256, /* fields of an answer */
};

static const char *const end_names[] = {"ok", "not_sent", "lost", "timeout", "bad", "canceled"};

const char *http_call_end_name(enum http_call_end end)
{
    return end_names[end];
}

/* --- end and memory --- */

static void on_call_free(void *arg)
{
    struct http_call *call = arg;

    if (call->on_free)
        call->on_free(call->arg);
    http_parser_free(&call->parser);
    buf_free(&call->head);
    bytes_unref(call->body);
    list_for_each_safe(it, &call->pending) {
        struct call_piece *p = list_entry(it, struct call_piece, link);

        if (p->data)
            evbuffer_free(p->data);
        else
            close(p->fd);
        free(p);
    }
    free(call->method);
    free(call->why);
    free(call);
}

/* Gone for the user; the memory stays until the end of the turn. */
static void call_gone(struct http_call *call)
{
    call->state = CALL_GONE;
    list_remove(&call->link);
    call->client = NULL;
    task_cancel(&call->task);
    task_init(&call->task, on_call_free, call);
    loop_defer(call->loop, &call->task);
}

static void call_report(struct http_call *call)
{
    call->state = CALL_REPORTING;
    if (call->h.on_done)
        call->h.on_done(call, call->end, call->why, call->arg);
    call_gone(call);
}

static void on_call_report(void *arg)
{
    call_report(arg);
}

/* Leave the connection or the line. */
static void call_detach(struct http_call *call, bool keep)
{
    struct client_conn *conn = call->conn;

    timer_fini(&call->timer);
    list_remove(&call->wait);
    call->conn = NULL;
    if (conn)
        client_conn_release(conn, keep);
}

void call_end(struct http_call *call, enum http_call_end end, const char *fmt, ...)
{
    bool keep = false;
    va_list ap;

    if (call->state >= CALL_ENDED)
        return;
    va_start(ap, fmt);
    if (vasprintf(&call->why, fmt, ap) < 0)
        call->why = xstrdup("");
    va_end(ap);
    call->end = end;
    if (end != HTTP_CALL_OK)
        log_debug(LOG_S("http_call", call->client ? call->client->url.authority : NULL),
                  LOG_S("method", call->method), LOG_S("end", end_names[end]), LOG_S("reason", call->why));
    if (end == HTTP_CALL_OK)
        keep = call->reply->keep_alive && call->body_finished && stream_queued(call->conn->stream) == 0;
    call->state = CALL_ENDED;
    call_detach(call, keep);
    loop_defer(call->loop, &call->task);
}

void call_client_gone(struct http_call *call)
{
    list_remove(&call->link);
    if (call->state > CALL_NEW)
        call_end(call, HTTP_CALL_CANCELED, "the client was closed"); /* unless it has ended already */
    call->client = NULL;
    if (call->state == CALL_ENDED) {
        task_cancel(&call->task);
        call_report(call);
    }
}

void http_call_cancel(struct http_call **cp)
{
    struct http_call *call = *cp;

    if (!call)
        return;
    *cp = NULL;
    switch (call->state) {
    case CALL_WAITING:
    case CALL_CONNECTING:
    case CALL_SENT:
        /* A connection that is still being looked at has seen nothing of this call. */
        call_detach(call, call->conn && call->conn->state == CONN_CHECKING);
        call_gone(call);
        break;
    case CALL_NEW:
        timer_fini(&call->timer);
        call_gone(call);
        break;
    case CALL_ENDED: call_gone(call); break;
    case CALL_REPORTING: /* it is going anyway */
    case CALL_GONE: break;
    }
}

/* --- time --- */

static size_t call_stream_queued(const struct http_call *call)
{
    return call->state == CALL_SENT ? stream_queued(call->conn->stream) : 0;
}

/* Silence counts while it is the server's turn: not while we hold its answer back, nor while it has all of a
 * streamed body that there is so far. Output that moves is no silence. */
static void call_look(struct http_call *call)
{
    size_t queued = call_stream_queued(call);
    uint64_t moved = call->given - queued;

    if (moved != call->moved_seen || call->paused || (queued == 0 && !call->body_finished)) {
        call->moved_seen = moved;
        call->last_moved = loop_now(call->loop);
    }
}

static void call_arm(struct http_call *call)
{
    int64_t now = loop_now(call->loop), due = INT64_MAX;

    if (call->total_ms > 0)
        due = call->started + call->total_ms;
    if (call->state == CALL_SENT && call->silence_ms > 0) {
        int64_t at = call->last_moved + call->silence_ms, step = call->silence_ms / 4 + 1;

        /* The stream does not tell that output has moved, so it is looked at. */
        if (call_stream_queued(call) > 0 && at > now + step)
            at = now + step;
        if (at < due)
            due = at;
    }
    if (due == INT64_MAX)
        timer_clear(&call->timer);
    else
        timer_set(&call->timer, due > now ? due - now : 0);
}

static void on_call_timer(void *arg)
{
    struct http_call *call = arg;
    int64_t now = loop_now(call->loop);

    if (call->total_ms > 0 && now - call->started >= call->total_ms) {
        if (call->state == CALL_SENT && !stream_never_opened(call->conn->stream))
            call_end(call, HTTP_CALL_TIMEOUT, "no whole answer within %lld ms", (long long)call->total_ms);
        else
            call_end(call, HTTP_CALL_NOT_SENT, "not sent within %lld ms", (long long)call->total_ms);
        return;
    }
    if (call->state == CALL_SENT) {
        call_look(call);
        if (call->silence_ms > 0 && now - call->last_moved >= call->silence_ms) {
            call_end(call, HTTP_CALL_TIMEOUT, "silent for %lld ms", (long long)call->silence_ms);
            return;
        }
    }
    call_arm(call);
}

void http_call_timeout(struct http_call *call, int64_t silence_ms, int64_t total_ms)
{
    call->silence_ms = silence_ms;
    call->total_ms = total_ms;
    if (call->state > CALL_NEW && call->state < CALL_ENDED)
        call_arm(call);
}

/* --- the request --- */

static bool target_ok(const char *s)
{
    if (*s != '/')
        return false;
    for (; *s; s++)
        if (*s <= ' ' || *s >= 0x7f)
            return false;
    return true;
}

static bool value_ok(const char *s)
{
    for (; *s; s++)
        if (!http_is_vchar((unsigned char)*s))
            return false;
    return true;
}

struct http_call *http_call_new(struct http_client *c, const char *method, const char *target,
                                const struct http_call_handlers *h, void *arg)
{
    struct http_call *call = xcalloc(1, sizeof(*call));

    call->client = c;
    call->loop = c->loop;
    list_init(&call->wait);
    list_init(&call->pending);
    list_push_back(&c->calls, &call->link);
    call->h = *h;
    call->arg = arg;
    call->method = xstrdup(method);
    call->silence_ms = 30000;
    timer_init(&call->timer, c->loop, on_call_timer, call);
    task_init(&call->task, on_call_report, call);
    if (!http_is_token(method, strlen(method)))
        call->refused = "the method is no token";
    else if (!target_ok(target))
        call->refused = "the target is no path of visible ASCII";
    else
        buf_printf(&call->head, "%s %s%s HTTP/1.1\r\nHost: %s\r\nAccept-Encoding: identity\r\n", method,
                   c->url.base, target, c->url.authority);
    return call;
}

static int call_field(struct http_call *call, const char *name, const char *value)
{
    if (!http_is_token(name, strlen(name)) || !value_ok(value))
        return -1;
    buf_printf(&call->head, "%s: %s\r\n", name, value);
    return 0;
}

int http_call_header(struct http_call *call, const char *name, const char *value)
{
    static const char *const ours[] = {"Host", "Content-Length", "Transfer-Encoding", "Accept-Encoding",
                                       "Expect"};

    assert(call->state == CALL_NEW);
    for (size_t i = 0; i < ARRAY_LEN(ours); i++)
        if (strcasecmp(name, ours[i]) == 0)
            return -1;
    if (call_field(call, name, value) < 0)
        return -1;
    if (strcasecmp(name, "Authorization") == 0)
        call->authorized = true;
    if (strcasecmp(name, "Upgrade") == 0)
        call->upgrade = true;
    return 0;
}

static void call_begin(struct http_call *call, const char *type)
{
    struct http_client *c = call->client;

    assert(call->state == CALL_NEW);
    call->state = CALL_WAITING;
    call->started = call->last_moved = loop_now(call->loop);
    if (!c) {
        call_end(call, HTTP_CALL_CANCELED, "the client was closed");
        return;
    }
    if (type && call_field(call, "Content-Type", type) < 0)
        call->refused = "the content type is no field value";
    if (call->refused) {
        call_end(call, HTTP_CALL_NOT_SENT, "%s", call->refused);
        return;
    }
    if (c->authorization && !call->authorized)
        buf_printf(&call->head, "Authorization: %s\r\n", c->authorization);
    if (call->body_kind == CALL_BODY_STREAM && call->length < 0)
        buf_puts(&call->head, "Transfer-Encoding: chunked\r\n");
    else if (call->length > 0 || call->body_kind != CALL_BODY_NONE || strcmp(call->method, "POST") == 0 ||
             strcmp(call->method, "PUT") == 0 || strcmp(call->method, "PATCH") == 0)
        buf_printf(&call->head, "Content-Length: %lld\r\n", (long long)call->length);
    buf_puts(&call->head, "\r\n");
    list_push_back(&c->waiting, &call->wait);
    call_arm(call);
    client_pump(c);
}

void http_call_start(struct http_call *call, const char *type, struct bytes *body)
{
    if (body) {
        call->body_kind = CALL_BODY_WHOLE;
        call->body = bytes_ref(body);
        call->length = (int64_t)body->len;
    }
    call->body_finished = true;
    call_begin(call, type);
}

void http_call_start_stream(struct http_call *call, const char *type, int64_t length)
{
    call->body_kind = CALL_BODY_STREAM;
    call->length = length;
    call_begin(call, type);
}

static void send_pending(struct http_call *call)
{
    struct stream *s = call->conn->stream;

    list_for_each_safe(it, &call->pending) {
        struct call_piece *p = list_entry(it, struct call_piece, link);
        struct err e;

        if (p->data) {
            stream_write_buffer(s, p->data);
            evbuffer_free(p->data);
        } else if (stream_write_file(s, p->fd, p->off, p->len, &e) < 0) {
            log_warn(LOG_S("http_call", call->client->url.authority), LOG_S("reason", e.msg));
        }
        list_remove(&p->link);
        free(p);
    }
    call->given += call->pending_len;
    call->pending_len = 0;
}

void call_send(struct http_call *call)
{
    struct stream *s = call->conn->stream;
    struct http_parse_limits lim = {.head = call->client->cfg.head, .headers = ANSWER_FIELDS};

    call->state = CALL_SENT;
    http_parser_free(&call->parser);
    call->parser = http_parser_new(HTTP_PARSE_RESPONSE, &lim);
    http_parser_no_body(call->parser, strcmp(call->method, "HEAD") == 0);
    call->answered = false;
    call->moved_seen = 0;
    call->last_moved = loop_now(call->loop);
    stream_write(s, call->head.data, call->head.len);
    call->given = call->head.len;
    if (call->body) {
        stream_write_bytes(s, call->body);
        call->given += call->body->len;
    }
    send_pending(call);
    if (call->paused)
        stream_pause(s);
    call_arm(call);
}

/* --- a streamed body --- */

static struct call_piece *pending_add(struct http_call *call)
{
    struct call_piece *p = xcalloc(1, sizeof(*p));

    list_push_back(&call->pending, &p->link);
    return p;
}

/* Where bytes for the connection that is not there yet are kept. */
static struct evbuffer *pending_data(struct http_call *call)
{
    struct call_piece *p = list_last(&call->pending, struct call_piece, link);

    if (!p || !p->data) {
        p = pending_add(call);
        p->data = evbuffer_new();
    }
    return p->data;
}

static void given(struct http_call *call, size_t n)
{
    if (call->state != CALL_SENT) {
        call->pending_len += n;
        return;
    }
    if (stream_queued(call->conn->stream) == n) /* it was the caller's turn until now */
        call->last_moved = loop_now(call->loop);
    call->given += n;
}

static void out_data(struct http_call *call, const void *data, size_t n)
{
    if (call->state == CALL_SENT)
        stream_write(call->conn->stream, data, n);
    else
        evbuffer_add(pending_data(call), data, n);
    given(call, n);
}

/* The frame of n bytes of body. False: the call is over and they are not wanted. */
static bool chunk_begin(struct http_call *call, size_t n)
{
    char line[24];

    assert(call->body_kind == CALL_BODY_STREAM && !call->body_finished);
    if (call->state >= CALL_ENDED || n == 0)
        return false;
    call->body_given += (int64_t)n;
    assert(call->length < 0 || call->body_given <= call->length);
    if (call->length < 0)
        out_data(call, line, (size_t)snprintf(line, sizeof(line), "%zx\r\n", n));
    return true;
}

static void chunk_end(struct http_call *call)
{
    if (call->length < 0)
        out_data(call, "\r\n", 2);
    if (call->state == CALL_SENT)
        call_arm(call);
}

void http_call_write(struct http_call *call, const void *data, size_t n)
{
    if (!chunk_begin(call, n))
        return;
    out_data(call, data, n);
    chunk_end(call);
}

void http_call_write_buffer(struct http_call *call, struct evbuffer *src)
{
    size_t n = evbuffer_get_length(src);

    if (!chunk_begin(call, n)) {
        evbuffer_drain(src, n);
        return;
    }
    if (call->state == CALL_SENT)
        stream_write_buffer(call->conn->stream, src);
    else
        evbuffer_add_buffer(pending_data(call), src);
    given(call, n);
    chunk_end(call);
}

int http_call_write_file(struct http_call *call, int fd, off_t off, size_t len, struct err *e)
{
    if (!chunk_begin(call, len)) {
        close(fd);
        return 0;
    }
    if (call->state == CALL_SENT) {
        if (stream_write_file(call->conn->stream, fd, off, len, e) < 0)
            return -1;
    } else {
        struct call_piece *p = pending_add(call);

        p->fd = fd;
        p->off = off;
        p->len = len;
    }
    given(call, len);
    chunk_end(call);
    return 0;
}

void http_call_finish(struct http_call *call)
{
    assert(call->body_kind == CALL_BODY_STREAM && !call->body_finished);
    assert(call->length < 0 || call->body_given == call->length || call->state >= CALL_ENDED);
    if (call->state >= CALL_ENDED)
        return;
    if (call->length < 0)
        out_data(call, "0\r\n\r\n", 5);
    call->body_finished = true;
    if (call->state == CALL_SENT) {
        call->last_moved = loop_now(call->loop);
        call_arm(call);
    }
}

size_t http_call_queued(const struct http_call *call)
{
    return call->pending_len + call_stream_queued(call);
}

void call_drained(struct http_call *call)
{
    if (call->body_kind == CALL_BODY_STREAM && !call->body_finished && call->h.on_drain)
        call->h.on_drain(call, call->arg);
}

/* --- the answer --- */

void http_call_pause(struct http_call *call)
{
    if (call->paused || call->state >= CALL_ENDED)
        return;
    call->paused = true;
    if (call->state == CALL_SENT)
        stream_pause(call->conn->stream);
}

void http_call_resume(struct http_call *call)
{
    if (!call->paused || call->state >= CALL_ENDED)
        return;
    call->paused = false;
    if (call->state == CALL_SENT) {
        call->last_moved = loop_now(call->loop);
        stream_resume(call->conn->stream);
        client_conn_process_later(call->conn); /* the end may have been seen already */
        call_arm(call);
    }
}

struct stream *http_call_hijack(struct http_call *call)
{
    struct client_conn *conn = call->conn;

    assert(call->state == CALL_SENT && call->reply && call->reply->status == 101);
    timer_fini(&call->timer);
    call->conn = NULL;
    call_gone(call);
    return client_conn_hijack(conn);
}

static bool call_head(struct http_call *call)
{
    const struct http_head *head = http_parser_head(call->parser);

    if (head->status < 200 && head->status != 101)
        return true;
    if (head->status == 101 && !call->upgrade) {
        call_end(call, HTTP_CALL_BAD, "status 101 though no upgrade was asked for");
        return false;
    }
    call->reply = head;
    if (call->h.on_head)
        call->h.on_head(call, head->status, &head->headers, call->arg);
    if (call->state != CALL_SENT)
        return false;
    if (head->status == 101) {
        call_end(call, HTTP_CALL_BAD, "status 101 and nobody to take it");
        return false;
    }
    return true;
}

/* One event of the parser. False: nothing more to be done now. */
static bool call_step(struct http_call *call)
{
    struct client_conn *conn = call->conn;
    struct evbuffer *in = stream_input(conn->stream);
    enum http_parse_event ev;
    const char *data = NULL, *first;
    size_t used = 0, n = 0, have;

    first = stream_peek(conn->stream, &have);
    if (first)
        call->answered = true;
    ev = http_parser_step(call->parser, first, have, &used, &data, &n);
    if (ev == HTTP_PARSE_BODY) {
        if (call->h.on_data)
            call->h.on_data(call, data, n, call->arg);
        if (call->state == CALL_SENT)
            evbuffer_drain(in, used);
        return call->state == CALL_SENT;
    }
    evbuffer_drain(in, used);
    if (!call->reply) {
        call->interim += used;
        if (call->interim > INTERIM_HEADS * call->client->cfg.head) {
            call_end(call, HTTP_CALL_BAD, "interim answers without end");
            return false;
        }
    }
    switch (ev) {
    case HTTP_PARSE_HEAD: return call_head(call);
    case HTTP_PARSE_END:
        if (call->reply) {
            call_end(call, HTTP_CALL_OK, "%s", "");
            return false;
        }
        http_parser_next(call->parser); /* 1xx */
        return true;
    case HTTP_PARSE_ERROR:
        call_end(call, HTTP_CALL_BAD, "the answer is not good HTTP: %s", http_parser_reason(call->parser));
        return false;
    case HTTP_PARSE_BODY:
    case HTTP_PARSE_MORE: break;
    }
    return evbuffer_get_length(in) > 0;
}

bool call_may_repeat(const struct http_call *call)
{
    return call->body_kind != CALL_BODY_STREAM &&
           (strcmp(call->method, "GET") == 0 || strcmp(call->method, "HEAD") == 0);
}

/* The connection has ended under the call, and all that came has been parsed. */
static void call_broken(struct http_call *call)
{
    struct client_conn *conn = call->conn;
    const char *why = conn->failed ? stream_error(conn->stream) : "the server closed the connection";
    enum http_parse_event ev = conn->failed ? HTTP_PARSE_MORE : http_parser_eof(call->parser);

    if (ev == HTTP_PARSE_END && call->reply) { /* a body without length ends so */
        call_end(call, HTTP_CALL_OK, "%s", "");
    } else if (call->reply && !conn->failed && call->reply->length >= 0) {
        call_end(call, HTTP_CALL_BAD, "the answer was cut short of its Content-Length %lld",
                 (long long)call->reply->length);
    } else if (call->reply) {
        call_end(call, HTTP_CALL_LOST, "%s in the middle of the answer", why);
    } else if (call->answered) {
        call_end(call, HTTP_CALL_LOST, "%s in the head of the answer", why);
    } else if (stream_never_opened(conn->stream)) {
        call_end(call, HTTP_CALL_NOT_SENT, "%s before the request was sent", why);
    } else if (conn->used && call_may_repeat(call)) {
        /* It was closed while it was idle, and our request crossed that on the way. The next one is fresh, so
         * this happens once. */
        call->conn = NULL;
        client_connect(call->client, call);
        client_conn_release(conn, false);
    } else {
        call_end(call, HTTP_CALL_LOST, "%s before an answer", why);
    }
}

void call_input(struct http_call *call)
{
    struct client_conn *conn = call->conn;

    call->last_moved = loop_now(call->loop);
    while (call->state == CALL_SENT && !call->paused)
        if (!call_step(call))
            break;
    if (call->state == CALL_SENT && !call->paused && (conn->eof || conn->failed) &&
        evbuffer_get_length(stream_input(conn->stream)) == 0)
        call_broken(call);
}
