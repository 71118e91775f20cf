/* A WebSocket of ours in either role with a raw peer at its other end. For websocket_test.c. */
#ifndef HTTP_WS_END_TEST_H
#define HTTP_WS_END_TEST_H

#include <event2/buffer.h>

#include "http/peer_test.h"
#include "http/websocket.h"
#include "http/ws_frame.h"

static const uint8_t MASK[4] = {0xde, 0xad, 0xbe, 0xef};

/* --- one socket of ours, and the raw peer at its other end --- */

struct end {
    struct ws *ws;
    int fd; /* the peer */
    struct ws_in in;
    struct evbuffer *src;
    bool server; /* our role */
    /* what our side saw */
    struct buf log; /* "T:text B:n O ..." */
    int opens, closes, drains, pongs, code;
    size_t bytes;
    bool opened;
    char reason[200];
    enum {
        DO_NOTHING,
        ABORT_IN_MESSAGE,
        CLOSE_IN_MESSAGE,
        PAUSE_IN_MESSAGE,
        ABORT_IN_OPEN,
        ABORT_IN_CLOSE,
        ECHO
    } act;
};

static inline void on_open(struct ws *w, void *arg)
{
    struct end *e = arg;

    (void)w;
    e->opens++;
    if (e->act == ABORT_IN_OPEN)
        ws_abort(&e->ws);
}

static inline void on_message(struct ws *w, enum ws_type type, const char *data, size_t n, void *arg)
{
    struct end *e = arg;

    assert_int_equal(e->closes, 0);
    e->bytes += n;
    if (e->log.len)
        buf_putc(&e->log, ' ');
    if (type == WS_TEXT && n < 200) {
        buf_puts(&e->log, "T:");
        buf_put(&e->log, data, n);
    } else {
        buf_printf(&e->log, "%c:%zu", type == WS_TEXT ? 'T' : 'B', n);
    }
    if (e->act == ABORT_IN_MESSAGE)
        ws_abort(&e->ws);
    else if (e->act == CLOSE_IN_MESSAGE)
        ws_close(w, 4001, "enough");
    else if (e->act == PAUSE_IN_MESSAGE)
        ws_pause(w);
    else if (e->act == ECHO && type == WS_TEXT)
        ws_send_text(w, data, n);
    else if (e->act == ECHO)
        ws_send_binary(w, data, n);
}

static inline void on_drain(struct ws *w, void *arg)
{
    (void)w;
    ((struct end *)arg)->drains++;
}

static inline void on_pong(struct ws *w, void *arg)
{
    (void)w;
    ((struct end *)arg)->pongs++;
}

static inline void on_close(struct ws *w, int code, const char *reason, bool opened, void *arg)
{
    struct end *e = arg;

    assert_int_equal(e->closes, 0);
    assert_true(strlen(ws_peer(w)) > 0 && strlen(ws_peer_ip(w)) > 0);
    e->closes++;
    e->code = code;
    e->opened = opened;
    snprintf(e->reason, sizeof(e->reason), "%s", reason);
    if (e->act == ABORT_IN_CLOSE)
        ws_abort(&e->ws);
    e->ws = NULL;
}

static const struct ws_handlers handlers = {on_open, on_message, on_drain, on_pong, on_close};
static const struct ws_limits usual = {.message = 1 << 20};

static int lfd = -1;
static unsigned short port, server_port;
static struct http_client *client;
static struct http_server *server;
static struct end *accepting; /* whom the next upgrade is for */
static const struct ws_limits *accept_limits;

static inline void on_request(struct http_req *req, void *arg)
{
    (void)arg;
    assert_non_null(accepting);
    accepting->ws = ws_accept(req, accept_limits, &handlers, accepting);
    accepting = NULL;
}

static int setup(void **state)
{
    char url[64];
    struct err e;
    struct listener *ln;

    (void)state;
    loop = loop_new(&e);
    lfd = peer_listen(&port);
    snprintf(url, sizeof(url), "http://127.0.0.1:%u", port);
    client = http_client_new(loop, url, NULL, &e);
    assert_non_null(client);
    server = http_server_new(loop, NULL, on_request, NULL);
    ln = http_server_listen(server, "127.0.0.1:0", NULL, &e);
    assert_non_null(ln);
    server_port = (unsigned short)atoi(strrchr(listener_addr(ln), ':') + 1);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    http_client_free(&client);
    http_server_free(&server);
    close(lfd);
    turns(5);
    loop_free(&loop);
    return 0;
}

/* The peer's answer to a client's handshake. */
static inline void answer_handshake(struct end *e, const char *extra, const void *more, size_t n)
{
    struct buf in = BUF_INIT, req = BUF_INIT, out = BUF_INIT;
    char accept[WS_ACCEPT_SIZE], key[25] = "";
    const char *at;

    peer_request(e->fd, &in, &req);
    at = strstr(req.data, "Sec-WebSocket-Key: ");
    assert_non_null(at);
    memcpy(key, at + 19, 24);
    ws_accept_value(key, accept);
    buf_printf(&out,
               "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
               "Sec-WebSocket-Accept: %s\r\n%s\r\n",
               accept, extra);
    buf_put(&out, more, n);
    peer_send_n(e->fd, out.data, out.len);
    buf_free(&in);
    buf_free(&req);
    buf_free(&out);
}

static inline void end_init(struct end *e, bool is_server)
{
    *e = (struct end){.server = is_server, .fd = -1};
    ws_in_init(&e->in, !is_server, 64u << 20);
    e->src = evbuffer_new();
}

static inline void open_end(struct end *e, bool is_server, const struct ws_limits *lim)
{
    end_init(e, is_server);
    if (is_server) {
        struct buf in = BUF_INIT;

        accepting = e;
        accept_limits = lim;
        e->fd = peer_connect(server_port);
        peer_send(e->fd, "GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                         "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                         "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n");
        size_t head = peer_want_text(e->fd, &in, "\r\n\r\n");

        assert_int_equal(head, in.len);
        assert_non_null(strstr(in.data, "HTTP/1.1 101 "));
        assert_non_null(strstr(in.data, "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
        assert_null(strcasestr(in.data, "extensions"));
        buf_free(&in);
    } else {
        e->ws = ws_connect(client, "/ws?clientId=a", NULL, lim, &handlers, e);
        e->fd = peer_accept(lfd);
        answer_handshake(e, "", "", 0);
        TURN_UNTIL(e->opens);
    }
    assert_non_null(e->ws);
}

static inline void end_fini(struct end *e)
{
    ws_abort(&e->ws);
    if (e->fd >= 0)
        close(e->fd);
    ws_in_fini(&e->in);
    evbuffer_free(e->src);
    buf_free(&e->log);
    turns(3);
}

static inline void put_frame(struct end *e, struct buf *out, unsigned b0, const void *p, size_t n)
{
    struct bytes *f = ws_frame_encode(WS_OP_TEXT, p, n, e->server ? MASK : NULL);

    f->data[0] = (char)b0;
    buf_put(out, f->data, f->len);
    bytes_unref(f);
}

static inline void send_frame(struct end *e, unsigned b0, const void *p, size_t n)
{
    struct buf b = BUF_INIT;

    put_frame(e, &b, b0, p, n);
    peer_send_n(e->fd, b.data, b.len);
    buf_free(&b);
}

/* The next frame that the peer gets. */
static inline struct ws_in_item next_frame(struct end *e)
{
    struct ws_in_item it;
    struct buf piece = BUF_INIT;
    bool eof = false;
    int err = 0;

    for (;;) {
        if (ws_in_next(&e->in, e->src, &it) != WS_IN_MORE)
            break;
        TURN_UNTIL(peer_recv(e->fd, &piece, &eof, &err) || eof || err);
        if (!piece.len)
            fail_msg("the connection ended where a frame was due");
        evbuffer_add(e->src, piece.data, piece.len);
        buf_clear(&piece);
    }
    buf_free(&piece);
    return it;
}

static inline void want_close_frame(struct end *e, int code)
{
    struct ws_in_item it = next_frame(e);

    assert_int_equal(it.kind, WS_IN_CLOSE);
    assert_int_equal(it.code, code);
}

static inline void want_tcp_end(struct end *e)
{
    struct buf b = BUF_INIT;

    peer_want_end(e->fd, &b);
    buf_free(&b);
}

#define FOR_BOTH_ROLES(role) for (int role = 0; role < 2; role++)

#endif
