#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <event2/buffer.h>

#include "http/http_char.h"
#include "http/server_impl.h"

enum { ALL_FIRST = 64 * 1024 }; /* a collected body starts with at most this: memory follows what arrives */

void http_req_free(struct http_req *r)
{
    bytes_unref(r->all);
    buf_free(&r->fields);
    free(r);
}

/* --- what it says --- */

enum http_method http_req_method(const struct http_req *r)
{
    return r->head->method;
}

const char *http_req_method_name(const struct http_req *r)
{
    return r->head->method_name;
}

const char *http_req_path(const struct http_req *r)
{
    return r->head->path;
}

const char *http_req_query(const struct http_req *r)
{
    return r->head->query;
}

const char *http_req_target(const struct http_req *r)
{
    return r->head->target;
}

const struct http_headers *http_req_headers(const struct http_req *r)
{
    return &r->head->headers;
}

const char *http_req_header(const struct http_req *r, const char *name)
{
    return http_headers_get(&r->head->headers, name);
}

const char *http_req_peer(const struct http_req *r)
{
    return stream_peer(r->conn->stream);
}

const char *http_req_peer_ip(const struct http_req *r)
{
    return stream_peer_ip(r->conn->stream);
}

bool http_req_is_tls(const struct http_req *r)
{
    return stream_is_tls(r->conn->stream);
}

int64_t http_req_content_length(const struct http_req *r)
{
    return r->head->length;
}

const struct http_server *http_req_server(const struct http_req *r)
{
    return r->conn->server;
}

struct loop *http_req_loop(const struct http_req *r)
{
    return r->conn->server->loop;
}

void *http_req_arg(const struct http_req *r)
{
    return r->arg;
}

void http_req_set_arg(struct http_req *r, void *arg)
{
    r->arg = arg;
}

void http_on_abort(struct http_req *r, http_abort_cb *cb, void *arg)
{
    r->on_abort = cb;
    r->abort_arg = arg;
}

/* --- its body --- */

static void body_deadline(struct http_req *r)
{
    bool waits = r->body == BODY_READING && !r->paused && !r->conn->parsed;

    conn_deadline(r->conn, waits ? r->conn->server->lim.body_ms : 0);
}

static void body_begin(struct http_req *r)
{
    static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";

    assert(r->body == BODY_UNREAD && r->answer < ANSWER_ENDED);
    r->body = BODY_READING;
    if (r->expects && r->answer == ANSWER_NONE && r->head->length <= r->limit) {
        stream_write(r->conn->stream, go_on, sizeof(go_on) - 1);
        r->conn->written += sizeof(go_on) - 1;
        r->expects = false;
    }
    body_deadline(r);
    conn_kick(r->conn);
}

void http_body_limit(struct http_req *r, int64_t max)
{
    assert(r->body == BODY_UNREAD);
    r->limit = max;
}

void http_body_read(struct http_req *r, http_body_cb *cb, void *arg)
{
    r->body_cb = cb;
    r->body_arg = arg;
    body_begin(r);
}

void http_body_read_all(struct http_req *r, int64_t max, http_body_all_cb *cb, void *arg)
{
    int64_t first = r->head->length >= 0 && r->head->length < ALL_FIRST ? r->head->length : ALL_FIRST;

    r->limit = max;
    r->all_cb = cb;
    r->body_arg = arg;
    r->all = bytes_alloc((size_t)first);
    body_begin(r);
}

void http_body_pause(struct http_req *r)
{
    r->paused = true;
    body_deadline(r);
}

void http_body_resume(struct http_req *r)
{
    r->paused = false;
    body_deadline(r);
    conn_kick(r->conn);
}

/* r->all->len is what it can hold. Grows by doubling, but not beyond a length that was announced. */
static void all_add(struct http_req *r, const void *data, size_t n)
{
    size_t have = (size_t)r->got - n, cap = r->all->len;

    if (have + n > cap) {
        while (cap < have + n)
            cap *= 2;
        if (r->head->length >= 0 && cap > (size_t)r->head->length)
            cap = (size_t)r->head->length;
        r->all = xrealloc(r->all, sizeof(*r->all) + cap + 1);
        r->all->len = cap;
    }
    memcpy(r->all->data + have, data, n);
}

static void all_deliver(struct http_req *r)
{
    struct bytes *b = r->all;

    r->all = NULL;
    if (b->len > (size_t)r->got + (size_t)r->got / 4) /* kept for long, perhaps: do not waste a quarter */
        b = xrealloc(b, sizeof(*b) + (size_t)r->got + 1);
    b->len = (size_t)r->got;
    b->data[b->len] = '\0';
    r->all_cb(r, b, r->body_arg);
    bytes_unref(b);
}

/* A piece, or (n 0) the end. r may be gone afterwards. */
static void deliver(struct http_req *r, const char *data, size_t n)
{
    bool fin = r->conn->parsed;

    if (fin)
        r->body = BODY_DELIVERED;
    body_deadline(r);
    if (r->all_cb == NULL) {
        r->body_cb(r, data, n, fin, r->body_arg);
        return;
    }
    if (n > 0)
        all_add(r, data, n);
    if (fin)
        all_deliver(r);
}

bool req_body_step(struct http_req *r)
{
    struct http_conn *c = r->conn;
    struct evbuffer *in = stream_input(c->stream);
    const char *first, *data, *none;
    size_t n;
    size_t used, len, zero;

    if (r->body != BODY_READING || r->paused)
        return false;
    if (c->parsed) {
        deliver(r, "", 0);
        return true;
    }
    if (r->head->length > r->limit) {
        conn_refuse(c, 413, "Content-Length over the limit");
        return true;
    }
    if ((first = stream_peek(c->stream, &n)) == NULL)
        return false;
    switch (http_parser_step(c->parser, first, n, &used, &data, &len)) {
    case HTTP_PARSE_BODY:
        r->got += (int64_t)len;
        if (r->got > r->limit) {
            conn_refuse(c, 413, "body over the limit");
            return true;
        }
        /* The end of a body with a length is known without a further byte: tell it with the last piece. */
        c->parsed = http_parser_step(c->parser, "", 0, &zero, &none, &zero) == HTTP_PARSE_END;
        deliver(r, data, len);
        break;
    case HTTP_PARSE_END: c->parsed = true; break;
    case HTTP_PARSE_ERROR:
        conn_refuse(c, http_parser_status(c->parser), http_parser_reason(c->parser));
        return true;
    default: break;
    }
    if (c->state != CONN_GONE)
        evbuffer_drain(in, used);
    return true;
}

/* --- upgrades --- */

/* 16 bytes in base64: 22 characters and "==". */
static bool is_websocket_key(const char *s)
{
    if (s == NULL || strlen(s) != 24 || strcmp(s + 22, "==") != 0)
        return false;
    for (int i = 0; i < 22; i++)
        if (!http_is_alnum((unsigned char)s[i]) && s[i] != '+' && s[i] != '/')
            return false;
    return true;
}

bool http_wants_websocket(const struct http_req *r)
{
    const struct http_headers *h = &r->head->headers;
    const char *version = http_headers_get(h, "Sec-WebSocket-Version");

    return r->head->method == HTTP_GET && r->head->minor == 1 && r->head->length == 0 &&
           http_headers_has_token(h, "Connection", "upgrade") &&
           http_headers_has_token(h, "Upgrade", "websocket") && version && strcmp(version, "13") == 0 &&
           is_websocket_key(http_headers_get(h, "Sec-WebSocket-Key"));
}
