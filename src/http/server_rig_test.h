/* What the tests of the server share: a real server on a loopback port, driven turn by turn; the other end is
 * a plain socket in the same thread. */
#ifndef SERVER_RIG_TEST_H
#define SERVER_RIG_TEST_H

#include "http/server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>
#include <event2/buffer.h>

#include "base/log.h"
#include "http/sse.h"

/* --- both ends --- */

struct rig {
    struct loop *loop;
    struct http_server *server;
    int port;
    struct http_req *kept; /* by "/keep", until the test answers */
    void *kept_tag;
    unsigned requests, aborts, flushed_ok, flushed_bad, drains;
    size_t streamed, streamed_fin;
    bool pause_once;
    struct sse *sse;
    unsigned sse_gone;
    struct stream *taken;
    struct buf log;
    int fd; /* the client's */
    struct buf in;
    bool closed;
};

static void on_log(void *arg, enum log_level level, const char *line, size_t len)
{
    (void)level;
    buf_put(&((struct rig *)arg)->log, line, len);
}

static void on_abort(struct http_req *req, void *arg)
{
    struct rig *g = arg;

    assert_true(http_req_path(req)[0] == '/');
    assert_non_null(http_req_peer(req));
    assert_ptr_equal(req, g->kept);
    g->kept = NULL;
    g->aborts++;
}

static void on_flushed(bool ok, void *arg)
{
    struct rig *g = arg;

    if (ok)
        g->flushed_ok++;
    else
        g->flushed_bad++;
}

static void on_all(struct http_req *req, struct bytes *body, void *arg)
{
    struct rig *g = arg;

    g->kept = NULL;
    http_reply_bytes(req, 200, "text/plain", body);
}

static void on_piece(struct http_req *req, const void *data, size_t n, bool fin, void *arg)
{
    struct rig *g = arg;

    assert_int_equal(g->streamed_fin, 0);
    (void)data;
    g->streamed += n;
    if (g->pause_once) {
        g->pause_once = false;
        http_body_pause(req);
    }
    if (fin) {
        char text[32];

        g->streamed_fin++;
        g->kept = NULL;
        snprintf(text, sizeof(text), "%zu", g->streamed);
        http_reply_str(req, 200, NULL, text);
    }
}

static void on_drain(struct http_req *req, void *arg)
{
    struct rig *g = arg;

    assert_true(http_queued(req) <= 1000);
    g->drains++;
    g->kept = NULL;
    http_end(req);
}

static void on_sse_gone(struct sse *s, void *arg)
{
    struct rig *g = arg;

    assert_ptr_equal(s, g->sse);
    g->sse = NULL;
    g->sse_gone++;
}

static void keep(struct rig *g, struct http_req *req)
{
    assert_null(g->kept);
    g->kept = req;
    http_on_abort(req, on_abort, g);
}

static void reply_file(struct http_req *req, const char *etag)
{
    struct http_file f = {.size = 10, .type = "text/plain", .etag = etag};

    f.whole = etag == NULL;
    f.mtime = etag ? 784111777 : 0;
    f.fd = memfd_create("t", MFD_CLOEXEC);
    assert_true(f.fd >= 0 && write(f.fd, "hello text", 10) == 10);
    http_set(req, "Content-Disposition", "filename=\"v.txt\"");
    http_reply_file(req, 200, &f);
}

static void on_request(struct http_req *req, void *arg)
{
    struct rig *g = arg;
    const char *path = http_req_path(req);
    struct buf b = BUF_INIT;

    g->requests++;
    if (strcmp(path, "/keep") == 0) {
        keep(g, req);
    } else if (strcmp(path, "/all") == 0 || (strcmp(path, "/") == 0 && http_req_content_length(req) != 0)) {
        keep(g, req);
        http_body_read_all(req, 100000, on_all, g);
    } else if (strcmp(path, "/stream") == 0) {
        keep(g, req);
        http_body_read(req, on_piece, g);
    } else if (strcmp(path, "/small") == 0) {
        keep(g, req);
        http_body_limit(req, 5);
        http_body_read(req, on_piece, g);
    } else if (strcmp(path, "/chunks") == 0) {
        struct bytes *x = bytes_new("three", 5);
        struct evbuffer *e = evbuffer_new();

        http_start(req, 200, NULL, -1);
        http_send(req, "one", 3);
        http_send(req, "", 0);
        evbuffer_add(e, "two", 3);
        http_send_buffer(req, e);
        http_send_bytes(req, x);
        http_end(req);
        evbuffer_free(e);
        bytes_unref(x);
    } else if (strcmp(path, "/big") == 0) {
        struct bytes *x = bytes_alloc(8 << 20);

        memset(x->data, 'x', x->len);
        http_on_flushed(req, on_flushed, g);
        http_reply_bytes(req, 200, NULL, x);
        bytes_unref(x);
    } else if (strcmp(path, "/drain") == 0) {
        struct bytes *x = bytes_alloc(8 << 20);

        memset(x->data, 'x', x->len);
        keep(g, req);
        http_start(req, 200, NULL, 8 << 20);
        http_send_bytes(req, x);
        http_on_drain(req, 1000, on_drain, g);
        assert_int_equal(g->drains, 0);
        bytes_unref(x);
    } else if (strcmp(path, "/short") == 0) {
        http_start(req, 200, NULL, 10);
        http_send(req, "12345", 5);
        http_end(req);
    } else if (strcmp(path, "/cut") == 0) {
        http_start(req, 200, NULL, -1);
        http_send(req, "12345", 5);
        http_abort(req);
    } else if (strcmp(path, "/empty") == 0) {
        http_reply_empty(req, 204);
    } else if (strcmp(path, "/file") == 0) {
        reply_file(req, "\"tag\"");
    } else if (strcmp(path, "/weak") == 0) {
        reply_file(req, "W/\"tag\"");
    } else if (strcmp(path, "/whole") == 0) {
        reply_file(req, NULL);
    } else if (strcmp(path, "/fields") == 0) {
        http_set(req, "X-A", "1");
        http_setf(req, "X-B", "%d", 2);
        http_set(req, "X-Evil", "a\r\nX-Injected: 1");
        http_set(req, "X Evil", "a");
        http_set(req, "Content-Length", "77");
        http_set(req, "connection", "x");
        if (http_req_query(req)[0])
            http_set(req, "server", "somebody else");
        http_reply_str(req, 200, "text/plain", "ok");
    } else if (strcmp(path, "/sse") == 0) {
        g->sse = sse_new(req, 1 << 20, on_sse_gone, g);
    } else if (strcmp(path, "/ws") == 0) {
        if (!http_wants_websocket(req)) {
            http_reply_empty(req, 400);
            return;
        }
        http_set(req, "Sec-WebSocket-Accept", "x");
        g->taken = http_hijack_101(req, "websocket");
    } else if (strcmp(path, "/close") == 0) {
        http_close_after(req);
        http_reply_empty(req, 200);
    } else {
        buf_printf(&b, "%s %s?%s %s", http_req_method_name(req), path, http_req_query(req),
                   http_req_header(req, "X") ? http_req_header(req, "X") : "-");
        http_on_flushed(req, on_flushed, g);
        http_reply(req, 200, "text/plain", buf_str(&b), b.len);
        buf_free(&b);
    }
}

static const struct http_limits small_limits = {
    .target = 64,
    .head = 1024,
    .headers = 16,
    .body = 20 << 20,
    .drain = 1000,
    .idle_ms = 75000,
    .head_ms = 30000,
    .body_ms = 60000,
    .write_ms = 60000,
    .conns = 100,
};

static void rig_open(struct rig *g, const struct http_limits *lim)
{
    struct listener *ln;
    struct err e;

    memset(g, 0, sizeof(*g));
    g->fd = -1;
    log_setup(LOG_INFO, LOG_TEXT);
    log_set_sink(on_log, g);
    g->loop = loop_new(&e);
    assert_non_null(g->loop);
    g->server = http_server_new(g->loop, lim, on_request, g);
    ln = http_server_listen(g->server, "127.0.0.1:0", NULL, &e);
    assert_non_null(ln);
    g->port = atoi(strrchr(listener_addr(ln), ':') + 1);
}

static int rig_connect(struct rig *g)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons((unsigned short)g->port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(connect(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    if (g->fd >= 0)
        close(g->fd);
    g->fd = fd;
    g->closed = false;
    buf_clear(&g->in);
    return fd;
}

static inline void rig_close(struct rig *g)
{
    if (g->fd >= 0)
        close(g->fd);
    if (g->taken)
        stream_close(&g->taken);
    http_server_free(&g->server);
    assert_null(g->kept);
    loop_turn(g->loop, 0);
    loop_turn(g->loop, 0);
    loop_free(&g->loop);
    buf_free(&g->in);
    buf_free(&g->log);
    log_set_sink(NULL, NULL);
}

static void rig_read(struct rig *g)
{
    char piece[65536];
    ssize_t n;

    while (!g->closed && (n = read(g->fd, piece, sizeof(piece))) != -1) {
        if (n == 0)
            g->closed = true;
        else
            buf_put(&g->in, piece, (size_t)n);
    }
    if (!g->closed && errno != EAGAIN)
        g->closed = true;
}

static int64_t now_ms(void)
{
    return clock_system()->mono_ms(clock_system());
}

#define UNTIL(g, cond)                                                                                       \
    do {                                                                                                     \
        int64_t stop_ = now_ms() + 10000;                                                                    \
        while (!(cond)) {                                                                                    \
            if (now_ms() > stop_)                                                                            \
                fail_msg("never: %s; in: %.300s", #cond, buf_str(&(g)->in));                                 \
            loop_turn((g)->loop, 1);                                                                         \
            rig_read(g);                                                                                     \
        }                                                                                                    \
    } while (0)

static void rig_send(struct rig *g, const char *s, size_t n)
{
    int64_t stop = now_ms() + 10000;

    while (n > 0 && !g->closed) {
        ssize_t put = send(g->fd, s, n, MSG_NOSIGNAL);

        if (put < 0 && errno != EAGAIN)
            return; /* refused and gone: what it said is read by the caller */
        if (put > 0) {
            s += put;
            n -= (size_t)put;
        }
        if (n > 0) {
            loop_turn(g->loop, 1);
            rig_read(g);
        }
        assert_true(now_ms() < stop);
    }
}

static inline void rig_puts(struct rig *g, const char *s)
{
    rig_send(g, s, strlen(s));
}

static inline void turns(struct rig *g, int n)
{
    while (n-- > 0)
        loop_turn(g->loop, 0);
    rig_read(g);
}

/* One connection: send, cut after cut bytes, and read to the end. The dates are taken out. */
static inline const char *ask(struct rig *g, const char *s, size_t n, size_t cut)
{
    char *d;

    rig_connect(g);
    rig_send(g, s, cut);
    if (cut > 0 && cut < n)
        turns(g, 3);
    rig_send(g, s + cut, n - cut);
    UNTIL(g, g->closed);
    while ((d = strstr(buf_str(&g->in), "Date: ")) != NULL)
        memmove(d, d + 37, strlen(d + 37) + 1);
    return buf_str(&g->in);
}

#define ASK(g, s) ask(g, s, sizeof(s) - 1, 0)
#define H "Host: a\r\n"
#define BYE "GET /bye HTTP/1.1\r\n" H "Connection: close\r\n\r\n"
#define BYE_ANSWER                                                                                           \
    "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 11\r\nConnection: close\r\n\r\nGET "     \
    "/bye? -"

#endif
