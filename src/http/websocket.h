/* WebSocket (RFC 6455), both roles, on a stream that an HTTP upgrade handed over. Frames are parsed by wslay
 * with no_buffering, so memory follows what has arrived, not what was announced. No extensions are offered or
 * accepted.
 *
 * Loop thread only. Callbacks never fire inside a call to this module. After on_close the socket is gone. */
#ifndef HTTP_WEBSOCKET_H
#define HTTP_WEBSOCKET_H

#include "http/client.h"
#include "http/server.h"

struct ws;

enum ws_type { WS_TEXT = 1, WS_BINARY = 2 };

struct ws_handlers {
    /* NULL where nothing is to be done. */
    void (*on_open)(struct ws *w, void *arg); /* client role: handshake done */
    /* A whole message; text is checked UTF-8. data is valid during the call. */
    void (*on_message)(struct ws *w, enum ws_type type, const char *data, size_t n, void *arg);
    void (*on_drain)(struct ws *w, void *arg); /* queued output fell to the low-water mark */
    void (*on_pong)(struct ws *w, void *arg);
    /* Once, last. code: the peer's close code, 1005 none given, 1006 no close frame, or our own; reason is
     * text for the log. opened false (client): the handshake never succeeded, code holds the answer's
     * status or 0. */
    void (*on_close)(struct ws *w, int code, const char *reason, bool opened, void *arg);
};

struct ws_limits {
    size_t message;   /* inbound, whole message; over it: close 1009 */
    int64_t ping_ms;  /* send a ping after this much silence; 0 never */
    int64_t pong_ms;  /* and give up when nothing came this long after it: close 1006 */
    int64_t write_ms; /* queued output without progress: close 1006 */
};

/* Server: answers 101 and takes the request over; 400 if it is no proper upgrade (then NULL). */
struct ws *ws_accept(struct http_req *r, const struct ws_limits *lim, const struct ws_handlers *h, void *arg);
/* Client: GET target on the client's origin with the upgrade. */
struct ws *ws_connect(struct http_client *c, const char *target, const struct http_headers *extra,
                      const struct ws_limits *lim, const struct ws_handlers *h, void *arg);

void ws_send_text(struct ws *w, const char *s, size_t n);
void ws_send_binary(struct ws *w, const void *p, size_t n);
/* A frame encoded once for many server-role sockets (unmasked). Takes a reference. */
struct bytes *ws_frame_new(enum ws_type type, const void *p, size_t n);
void ws_send_frame(struct ws *w, struct bytes *frame);
void ws_ping(struct ws *w);
size_t ws_queued(const struct ws *w); /* bytes not yet given to the kernel */
void ws_set_lowat(struct ws *w, size_t n);
void ws_pause(struct ws *w); /* stop reading */
void ws_resume(struct ws *w);
/* Start the closing handshake; on_close follows when it is done or 5 s have passed (1006). Nothing can be
 * sent afterwards, messages that still come are dropped. code 1005: without a code. */
void ws_close(struct ws *w, int code, const char *reason);
/* Gone now, no callback. *w becomes NULL. */
void ws_abort(struct ws **w);
const char *ws_peer(const struct ws *w);
const char *ws_peer_ip(const struct ws *w);
int64_t ws_last_heard(const struct ws *w); /* loop_now() of the last byte from the peer */

#endif
