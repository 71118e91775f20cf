/* HTTP/1.1 server on net/stream: keep-alive, pipelining (one request is handled at a time, in order), HEAD,
 * chunked both ways, Expect: 100-continue, streamed bodies with back-pressure, limits, deadlines, byte ranges
 * and conditional requests for files, WebSocket and raw upgrades.
 *
 * Loop thread only. Life of a request:
 *   on_request(req)         the head is complete. The handler may answer at once, or keep req and answer
 * later. http_body_read/_all     wanted by the handler, or nothing: an unread body is drained (up to
 * limits.drain) or the connection closes after the answer. http_respond*()         ends with http_end() (the
 * one-call forms include it). req is then gone for the handler. on_abort                if the peer goes away
 * before http_end(): called once, req is gone when it returns. Always set one (http_on_abort) when req is
 * kept over a turn.
 *
 * What is refused before a handler sees it, each with its status, Connection: close and a log line with
 * reason=: 400 everything design.md §6 lists as accepted by llhttp (name with space before ':', obs-fold,
 * empty name, none or two Host, raw bytes in the target, bare CR, TE with CL, TE on 1.0), 501 any transfer
 * coding but a single "chunked", 505 not HTTP/1.0 or 1.1, 408 head or body too slow, 414 target too long, 431
 * head too large, 413 body over limits.body. Absolute-form targets are accepted and reduced to path and
 * query; CONNECT and asterisk-form (but for OPTIONS) are 400. */
#ifndef HTTP_SERVER_H
#define HTTP_SERVER_H

#include <sys/types.h>

#include "http/http.h"
#include "net/stream.h"

struct http_server;
struct http_req;
struct evbuffer;

struct http_limits {
    size_t target;    /* request target, bytes: 8190 (aiohttp's) */
    size_t head;      /* whole head, bytes: 64 KiB */
    unsigned headers; /* fields: 128 */
    int64_t body;     /* 413 beyond; http_body_limit() changes it for one request */
    int64_t drain;    /* how much of an unread body is read and dropped to keep the connection: 256 KiB */
    int64_t idle_ms;  /* keep-alive: 75 s */
    int64_t head_ms;  /* from the first byte to the end of the head: 30 s */
    int64_t body_ms;  /* without a byte of a body that is being read: 60 s */
    int64_t write_ms; /* without progress of an answer: 60 s */
    unsigned conns;   /* connections; beyond it accepting pauses */
};
extern const struct http_limits http_limits_default;

typedef void http_request_cb(struct http_req *req, void *arg);
struct http_server *http_server_new(struct loop *l, const struct http_limits *lim,
                                    http_request_cb *on_request, void *arg);
/* body counts for requests that come afterwards, conns at once (nobody is thrown out), the rest for new connections. */
void http_server_set_limits(struct http_server *s, const struct http_limits *lim);
/* Any number of addresses; tls NULL: plain. The bound address by listener_addr(). */
struct listener *http_server_listen(struct http_server *s, const char *addr, struct tls_server *tls,
                                    struct err *e);
/* Stop accepting, close idle connections, answer the rest with Connection: close. */
void http_server_drain(struct http_server *s);
void http_server_free(struct http_server **s); /* aborts what is open */
unsigned http_server_conns(const struct http_server *s);
/* The Server: field of all answers; NULL (default) sends none. */
void http_server_set_name(struct http_server *s, const char *name);

/* --- the request (valid until http_end or on_abort) --- */
enum http_method http_req_method(const struct http_req *r);
const char *http_req_method_name(const struct http_req *r); /* as sent */
const char *http_req_path(const struct http_req *r);        /* raw, still percent-encoded, begins with '/' */
const char *http_req_query(const struct http_req *r);       /* raw, without '?'; "" if none */
const char *http_req_target(const struct http_req *r);      /* path and query as sent, in origin-form */
const struct http_headers *http_req_headers(const struct http_req *r);
const char *http_req_header(const struct http_req *r, const char *name); /* first, or NULL */
const char *http_req_peer(const struct http_req *r);                     /* "127.0.0.1:4711" */
const char *http_req_peer_ip(const struct http_req *r);                  /* "127.0.0.1" */
bool http_req_is_tls(const struct http_req *r);
int64_t http_req_content_length(const struct http_req *r); /* -1: chunked; 0: no body */
struct loop *http_req_loop(const struct http_req *r);
const struct http_server *http_req_server(const struct http_req *r);
void *http_req_arg(const struct http_req *r); /* what was set by: */
void http_req_set_arg(struct http_req *r, void *arg);
typedef void http_abort_cb(struct http_req *req, void *arg);
void http_on_abort(struct http_req *r, http_abort_cb *cb, void *arg);

/* --- its body --- */
void http_body_limit(struct http_req *r, int64_t max); /* before reading; over it: 413 and on_abort */
/* Pieces as they come; the last call has fin true (n may be 0). Sends "100 Continue" if it was expected. */
typedef void http_body_cb(struct http_req *req, const void *data, size_t n, bool fin, void *arg);
void http_body_read(struct http_req *r, http_body_cb *cb, void *arg);
void http_body_pause(struct http_req *r); /* back-pressure: the peer is not read */
void http_body_resume(struct http_req *r);
/* The whole body in memory, at most max (413 beyond). cb once. body belongs to the caller of cb: bytes_ref to
 * keep */
typedef void http_body_all_cb(struct http_req *req, struct bytes *body, void *arg);
void http_body_read_all(struct http_req *r, int64_t max, http_body_all_cb *cb, void *arg);

/* --- the answer --- */
/* Fields for the answer, before http_start/http_reply*. Content-Length, Transfer-Encoding, Connection and
 * Date are set by the server, and Server if it has a name. */
void http_set(struct http_req *r, const char *name, const char *value);
void http_setf(struct http_req *r, const char *name, const char *fmt, ...) PRINTF_LIKE(3, 4);
void http_close_after(struct http_req *r); /* Connection: close */

/* In one call. type NULL: no Content-Type (as ComfyUI's bodyless answers). HEAD sends no body. */
void http_reply(struct http_req *r, int status, const char *type, const void *body, size_t n);
void http_reply_str(struct http_req *r, int status, const char *type, const char *body);
void http_reply_bytes(struct http_req *r, int status, const char *type,
                      struct bytes *body); /* takes a reference */
void http_reply_empty(struct http_req *r, int status);

/* In pieces. length -1: chunked (HTTP/1.0: until close); to HEAD it says nothing of the length then. */
void http_start(struct http_req *r, int status, const char *type, int64_t length);
void http_send(struct http_req *r, const void *data, size_t n);
void http_send_bytes(struct http_req *r, struct bytes *b);
void http_send_buffer(struct http_req *r, struct evbuffer *src); /* moves all */
void http_end(struct http_req *r);
/* The answer cannot be completed (its source failed): the connection is cut, so that the peer sees that it is
 * not whole. As http_end() otherwise; on_abort is not called. */
void http_abort(struct http_req *r);
bool http_started(const struct http_req *r);
size_t http_queued(const struct http_req *r);
/* Called once when at most low bytes are queued (next turn at the earliest). */
typedef void http_drain_cb(struct http_req *req, void *arg);
void http_on_drain(struct http_req *r, size_t low, http_drain_cb *cb, void *arg);
/* Called when the last byte of the answer has been given to the kernel (or the connection died: ok false).
 * Needed for "events of a job are held until its POST answer is flushed". Outlives req; set before http_end.
 */
typedef void http_flushed_cb(bool ok, void *arg);
void http_on_flushed(struct http_req *r, http_flushed_cb *cb, void *arg);

/* Called when the answer is complete, with how long that took since now, in us. Not if it never is (aborted, cut, taken
 * over). arg must outlive the server. */
typedef void http_done_cb(int64_t us, void *arg);
void http_on_done(struct http_req *r, http_done_cb *cb, void *arg);

/* A file: takes over fd. Handles HEAD, Range (one range; several or malformed: 416 as ComfyUI),
 * If-Match, If-Unmodified-Since (412), If-None-Match, If-Modified-Since, If-Range; sets Content-Length, Accept-Ranges, ETag, Last-Modified. By
 * sendfile. */
struct http_file {
    int fd;
    int64_t size;
    const char *type;
    const char *etag; /* with quotes; NULL: none */
    int64_t mtime;    /* seconds; 0: no Last-Modified */
    bool whole;       /* always sent whole: ranges and conditions are not looked at */
};
void http_reply_file(struct http_req *r, int status, const struct http_file *f);
/* Would this request get 304 with this etag/mtime? */
bool http_not_modified(const struct http_req *r, const char *etag, int64_t mtime);

/* --- upgrades --- */
/* Does it ask for a WebSocket upgrade (RFC 6455 §4.2.1 checks)? */
bool http_wants_websocket(const struct http_req *r);
/* Take the connection over after having written status 101 with the fields set so far and these. The request
 * is gone afterwards; buffered input stays in the stream. */
struct stream *http_hijack_101(struct http_req *r, const char *upgrade);

#endif
