#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#include <event2/buffer.h>

#include "base/log.h"
#include "http/http_char.h"
#include "http/server_impl.h"

enum { CHUNK_SIZE_MAX = 20 }; /* "<16 hex digits>\r\n" */

/* --- fields --- */

static bool is_ours(const char *name)
{
    static const char *const ours[] = {"Content-Length", "Transfer-Encoding", "Connection", "Date"};

    for (size_t i = 0; i < ARRAY_LEN(ours); i++)
        if (strcasecmp(name, ours[i]) == 0)
            return true;
    return false;
}

/* A field that would break the message is left out: better a missing file name than a forged answer. */
static bool field_ok(const struct http_req *r, const char *name, const char *value)
{
    bool ok = http_is_token(name, strlen(name));

    for (const char *s = value; ok && *s; s++)
        ok = http_is_vchar((unsigned char)*s);
    if (!ok)
        log_error(LOG_I("conn", r->conn->id), LOG_S("event", "field left out"), LOG_S("name", name),
                  LOG_S("value", value), LOG_S("reason", "control bytes"));
    return ok && !is_ours(name) && !(r->conn->server->name && strcasecmp(name, "Server") == 0);
}

static void put_field(struct buf *b, const char *name, const char *value)
{
    buf_puts(b, name);
    buf_put(b, ": ", 2);
    buf_puts(b, value);
    buf_put(b, "\r\n", 2);
}

void http_set(struct http_req *r, const char *name, const char *value)
{
    assert(r->answer == ANSWER_NONE);
    if (field_ok(r, name, value))
        put_field(&r->fields, name, value);
}

void http_setf(struct http_req *r, const char *name, const char *fmt, ...)
{
    va_list ap;
    char *value = NULL;
    int n;

    va_start(ap, fmt);
    n = vasprintf(&value, fmt, ap);
    va_end(ap);
    assert(n >= 0);
    http_set(r, name, value);
    free(value);
}

void http_close_after(struct http_req *r)
{
    assert(r->answer == ANSWER_NONE);
    r->keep_alive = false;
}

/* --- the head --- */

static void out(struct http_req *r, const void *data, size_t n)
{
    r->conn->written += n;
    stream_write(r->conn->stream, data, n);
}

static void put_status(struct http_req *r, struct buf *b, int status)
{
    const struct http_server *s = r->conn->server;
    const char *text = http_status_text(status);
    char line[16];

    snprintf(line, sizeof(line), "HTTP/1.1 %d ", status);
    buf_puts(b, line);
    buf_puts(b, text);
    buf_put(b, "\r\n", 2);
    if (s->name)
        put_field(b, "Server", s->name);
}

/* Can what is left of the body be read and dropped, so that the next request is found? */
static bool rest_is_bearable(const struct http_req *r)
{
    const struct http_conn *c = r->conn;

    if (c->parsed)
        return true;
    if (r->expects) /* it may come or not: nobody knows */
        return false;
    return r->head->length < 0 || r->head->length - r->got <= c->server->lim.drain;
}

static struct buf *head_begin(struct http_req *r, int status, const char *type, int64_t length)
{
    struct http_server *s = r->conn->server;
    struct buf *b = &s->scratch;
    char number[24];

    assert(r->answer == ANSWER_NONE && status >= 200 && status <= 599 && length >= -1);
    r->answer = ANSWER_STARTED;
    r->bodiless = r->head->method == HTTP_HEAD || status == 204 || status == 304;
    r->declared = length;
    r->keep_alive = r->keep_alive && !s->draining && rest_is_bearable(r);
    if (length < 0 && r->head->minor == 0 && !r->bodiless)
        r->keep_alive = false; /* the end of the connection is the end of the body */
    r->chunked = length < 0 && r->head->minor == 1 && !r->bodiless;
    buf_clear(b);
    put_status(r, b, status);
    put_field(b, "Date", server_date(s));
    if (type && field_ok(r, "Content-Type", type))
        put_field(b, "Content-Type", type);
    buf_put(b, buf_str(&r->fields), r->fields.len);
    buf_free(&r->fields);
    if (r->chunked) {
        put_field(b, "Transfer-Encoding", "chunked");
    } else if (length >= 0 && status != 204 && status != 304) {
        snprintf(number, sizeof(number), "%" PRId64, length);
        put_field(b, "Content-Length", number);
    }
    if (!r->keep_alive)
        put_field(b, "Connection", "close");
    else if (r->head->minor == 0)
        put_field(b, "Connection", "keep-alive");
    buf_put(b, "\r\n", 2);
    return b;
}

void http_start(struct http_req *r, int status, const char *type, int64_t length)
{
    struct buf *b = head_begin(r, status, type, length);

    out(r, b->data, b->len);
}

bool http_started(const struct http_req *r)
{
    return r->answer != ANSWER_NONE;
}

/* --- the payload --- */

/* Count n bytes; false if they are not to be sent. */
static bool piece_begin(struct http_req *r, size_t n)
{
    char size[CHUNK_SIZE_MAX];

    assert(r->answer == ANSWER_STARTED);
    if (r->bodiless || n == 0)
        return false;
    r->sent += (int64_t)n;
    assert(r->declared < 0 || r->sent <= r->declared);
    if (r->chunked)
        out(r, size, (size_t)snprintf(size, sizeof(size), "%zx\r\n", n));
    return true;
}

static void piece_end(struct http_req *r)
{
    if (r->chunked)
        out(r, "\r\n", 2);
}

void http_send(struct http_req *r, const void *data, size_t n)
{
    if (!piece_begin(r, n))
        return;
    out(r, data, n);
    piece_end(r);
}

void http_send_bytes(struct http_req *r, struct bytes *b)
{
    if (!piece_begin(r, b->len))
        return;
    r->conn->written += b->len;
    stream_write_bytes(r->conn->stream, b);
    piece_end(r);
}

void http_send_buffer(struct http_req *r, struct evbuffer *src)
{
    size_t n = evbuffer_get_length(src);

    if (!piece_begin(r, n)) {
        evbuffer_drain(src, n);
        return;
    }
    r->conn->written += n;
    stream_write_buffer(r->conn->stream, src);
    piece_end(r);
}

int req_send_file(struct http_req *r, int fd, int64_t off, int64_t len, struct err *e)
{
    if (!piece_begin(r, (size_t)len)) {
        close(fd);
        return 0;
    }
    if (stream_write_file(r->conn->stream, fd, off, (size_t)len, e) < 0)
        return -1;
    r->conn->written += (uint64_t)len;
    piece_end(r);
    return 0;
}

bool req_answer_is_short(const struct http_req *r)
{
    return !r->bodiless && r->declared >= 0 && r->sent < r->declared;
}

void http_end(struct http_req *r)
{
    assert(r->answer == ANSWER_STARTED);
    if (r->chunked && !r->bodiless)
        out(r, "0\r\n\r\n", 5);
    r->answer = ANSWER_ENDED;
    conn_kick(r->conn);
}

void http_abort(struct http_req *r)
{
    assert(r->answer < ANSWER_ENDED);
    r->answer = ANSWER_CUT;
    conn_kick(r->conn);
}

/* --- in one call --- */

void http_reply(struct http_req *r, int status, const char *type, const void *body, size_t n)
{
    struct buf *b = head_begin(r, status, type, (int64_t)n);

    if (!r->bodiless)
        buf_put(b, body, n);
    r->sent = (int64_t)n;
    out(r, b->data, b->len);
    http_end(r);
}

void http_reply_str(struct http_req *r, int status, const char *type, const char *body)
{
    http_reply(r, status, type, body, strlen(body));
}

void http_reply_bytes(struct http_req *r, int status, const char *type, struct bytes *body)
{
    http_start(r, status, type, (int64_t)body->len);
    http_send_bytes(r, body);
    http_end(r);
}

void http_reply_empty(struct http_req *r, int status)
{
    http_reply(r, status, NULL, "", 0);
}

/* --- watching the output --- */

size_t http_queued(const struct http_req *r)
{
    return stream_queued(r->conn->stream);
}

void http_on_drain(struct http_req *r, size_t low, http_drain_cb *cb, void *arg)
{
    r->drain_cb = cb;
    r->drain_arg = arg;
    r->drain_low = low;
    loop_defer(r->conn->server->loop, &r->conn->task);
}

int64_t http_clock_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

void http_on_done(struct http_req *r, http_done_cb *cb, void *arg)
{
    r->done_cb = cb;
    r->done_arg = arg;
    r->began = http_clock_us();
}

void http_on_flushed(struct http_req *r, http_flushed_cb *cb, void *arg)
{
    assert(r->answer < ANSWER_ENDED);
    r->flushed_cb = cb;
    r->flushed_arg = arg;
}

/* --- upgrades --- */

struct stream *http_hijack_101(struct http_req *r, const char *upgrade)
{
    struct http_conn *c = r->conn;
    struct stream *s = c->stream;
    struct buf *b = &c->server->scratch;

    assert(r->answer == ANSWER_NONE && c->parsed);
    buf_clear(b);
    put_status(r, b, 101);
    put_field(b, "Upgrade", upgrade);
    put_field(b, "Connection", "upgrade"); /* as aiohttp writes it */
    put_field(b, "Date", server_date(c->server));
    buf_put(b, buf_str(&r->fields), r->fields.len);
    buf_put(b, "\r\n", 2);
    out(r, b->data, b->len);
    stream_set_timeouts(s, 0, 0);
    stream_set_cb(s, NULL, NULL);
    stream_set_lowat(s, 64 * 1024);
    conn_detach(c);
    return s;
}
