/* HTTP/1.1 client for one origin (a ComfyUI server, or a gateway for the CLI): pooled keep-alive connections,
 * http and https, bodies streamed both ways with back-pressure.
 *
 * Loop thread only. A call's callbacks run in this order, never inside http_call_*(), none after
 * http_call_cancel(): on_head (final status; 1xx are swallowed) -> on_data* -> on_done exactly once. The call
 * is freed after on_done.
 */
#ifndef HTTP_CLIENT_H
#define HTTP_CLIENT_H

#include "http/http.h"
#include "net/stream.h"

struct http_client;
struct http_call;
struct evbuffer;

struct http_client_config {
    int64_t connect_ms; /* default 3000 */
    int64_t idle_ms;    /* keep a free connection this long: default 15 s (aiohttp closes after 75) */
    unsigned
        max_idle; /* free connections kept: default 4; more than these for a second, until the next wave */
    unsigned max_conns;     /* connections in all; further calls wait in order: default 32 */
    size_t head;            /* response head limit: 64 KiB */
    struct tls_client *tls; /* needed for https */
};
struct http_client *http_client_new(struct loop *l, const char *url, const struct http_client_config *cfg,
                                    struct err *e);
/* Calls under way end with on_done(HTTP_CALL_CANCELED), here and now; connections that http_pass_through()
 * spliced are closed. WebSockets live on. */
void http_client_free(struct http_client **c);
const struct http_url *http_client_url(const struct http_client *c);
struct loop *http_client_loop(const struct http_client *c);

enum http_call_end {
    HTTP_CALL_OK,       /* a whole answer arrived, whatever its status */
    HTTP_CALL_NOT_SENT, /* provably nothing of it reached the server: refused, unreachable, resolve, TLS */
    HTTP_CALL_LOST,     /* the connection ended before the answer was whole; the server may have acted */
    HTTP_CALL_TIMEOUT,  /* no answer, or no byte of it, in time; the connection has been closed */
    HTTP_CALL_BAD,      /* the answer is not HTTP, over a limit, or cut against its Content-Length */
    HTTP_CALL_CANCELED
};
const char *http_call_end_name(enum http_call_end end);

struct http_call_handlers {
    void (*on_head)(struct http_call *c, int status, const struct http_headers *h, void *arg);
    void (*on_data)(struct http_call *c, const void *data, size_t n, void *arg);
    /* why: text for the log and the user ("connection refused"), "" when OK. */
    void (*on_done)(struct http_call *c, enum http_call_end end, const char *why, void *arg);
    /* A streamed request body may go on: queued output has fallen to 64 KiB after having been above. */
    void (*on_drain)(struct http_call *c, void *arg);
};

/* target is origin-form ("/prompt"); the origin's base path is put in front. Host, Content-Length or
 * Transfer-Encoding, and Accept-Encoding: identity are set by the client. */
struct http_call *http_call_new(struct http_client *c, const char *method, const char *target,
                                const struct http_call_handlers *h, void *arg);
/* -1, nothing added: not a field that HTTP can carry, or one that the client sets itself. */
int http_call_header(struct http_call *c, const char *name, const char *value);
/* Silence on the connection for this long ends the call (default 30 s; 0 none). It counts while it is the
 * server's turn: not while http_call_pause() is on, nor while it waits for more of a streamed body. total:
 * from start to end, waiting for a connection included (HTTP_CALL_NOT_SENT if that took it all). */
void http_call_timeout(struct http_call *c, int64_t silence_ms, int64_t total_ms);
/* Send it. body NULL: none. A request without body or with a whole body that was sent on a pooled connection
 * which the server had just closed (no byte of an answer) is sent once more on a fresh one if its method is
 * GET or HEAD, never otherwise: for a POST that is HTTP_CALL_LOST. */
void http_call_start(struct http_call *c, const char *type, struct bytes *body);
/* Streamed body: length -1 chunked. An answer may be whole before the body is; the call ends then (OK), and
 * what is written between that and on_done is dropped. */
void http_call_start_stream(struct http_call *c, const char *type, int64_t length);
void http_call_write(struct http_call *c, const void *data, size_t n);
void http_call_write_buffer(struct http_call *c, struct evbuffer *src);
int http_call_write_file(struct http_call *c, int fd, off_t off, size_t len,
                         struct err *e); /* takes over fd */
void http_call_finish(struct http_call *c);
size_t http_call_queued(const struct http_call *c);
void http_call_pause(struct http_call *c); /* stop reading the answer */
void http_call_resume(struct http_call *c);
/* No callback after this; the connection is closed if the request was under way. *c becomes NULL. */
void http_call_cancel(struct http_call **c);
/* In on_head with status 101: take the connection over; the call ends without on_done. */
struct stream *http_call_hijack(struct http_call *c);

/* The whole answer in memory, at most max bytes (HTTP_CALL_BAD beyond). The usual form for small things. */
struct http_answer {
    enum http_call_end end;
    int status;
    const struct http_headers *headers; /* NULL unless end is OK */
    struct bytes *body;                 /* never NULL when OK; bytes_ref to keep */
    const char *why;
};
typedef void http_answer_cb(const struct http_answer *a, void *arg);
struct http_call *http_fetch(struct http_client *c, const char *method, const char *target, const char *type,
                             struct bytes *body, size_t max, int64_t total_ms, http_answer_cb *cb, void *arg);

/* For connections that are opened from now on. */
void http_client_set_connect(struct http_client *c, int64_t connect_ms);

/* Relay a request to another server and its answer back, streaming both ways with back-pressure, hop-by-hop
 * fields removed, WebSocket and other upgrades spliced. req is handed over. */
struct http_req;
struct http_pass {
    const char *target;               /* NULL: as the request has it */
    const char *const *drop;          /* request fields not to pass on, NULL-terminated; NULL none */
    const struct http_headers *extra; /* request fields to add */
    const char *const
        *drop_answer; /* fields of the answer not to pass back, of static storage; "X-*": all that begin so */
    struct bytes *body; /* the request's whole body, where it has been read already */
    /* If the server cannot be reached, or its answer is not wanted: the request is yours again. NULL: 502 text/plain. */
    void (*on_unreachable)(struct http_req *req, const char *why, void *arg);
    /* Is an answer of this status wanted? Its body is dropped otherwise. NULL: all are. Only for requests without a body. */
    bool (*wants)(int status, void *arg);
    void (*release)(void *arg); /* the last call with arg, in every case; NULL: none */
    void *arg;
};
void http_pass_through(struct http_req *req, struct http_client *to, const struct http_pass *opt);

#endif
