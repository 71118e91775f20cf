/* A real server on a loopback port, driven turn by turn; the other end is a plain socket in the same thread.
 */
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
#include "http/http_vectors_test.h"
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
    struct http_file f = {.size = 10, .type = "text/plain", .etag = etag, .mtime = 784111777};

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
    } else if (strcmp(path, "/fields") == 0) {
        http_set(req, "X-A", "1");
        http_setf(req, "X-B", "%d", 2);
        http_set(req, "X-Evil", "a\r\nX-Injected: 1");
        http_set(req, "X Evil", "a");
        http_set(req, "Content-Length", "77");
        http_set(req, "connection", "x");
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

static void rig_close(struct rig *g)
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

static void rig_puts(struct rig *g, const char *s)
{
    rig_send(g, s, strlen(s));
}

static void turns(struct rig *g, int n)
{
    while (n-- > 0)
        loop_turn(g->loop, 0);
    rig_read(g);
}

/* One connection: send, cut after cut bytes, and read to the end. The dates are taken out. */
static const char *ask(struct rig *g, const char *s, size_t n, size_t cut)
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

/* --- requests and answers --- */

static void plain(void **state)
{
    struct rig g;

    (void)state;
    rig_open(&g, &small_limits);
    assert_string_equal(ASK(&g, BYE), BYE_ANSWER);
    assert_string_equal(
        ASK(&g, "GET /x?y=1 HTTP/1.1\r\n" H "X: v\r\n\r\n" BYE),
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 12\r\n\r\nGET /x?y=1 v" BYE_ANSWER);
    assert_string_equal(
        ASK(&g, "HEAD /x HTTP/1.1\r\n" H "\r\n" BYE),
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 10\r\n\r\n" BYE_ANSWER);
    assert_string_equal(ASK(&g, "GET /empty HTTP/1.1\r\n" H "\r\n" BYE),
                        "HTTP/1.1 204 No Content\r\n\r\n" BYE_ANSWER);
    assert_string_equal(ASK(&g, "PROPFIND /x HTTP/1.0\r\n\r\n"),
                        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 14\r\nConnection: "
                        "close\r\n\r\nPROPFIND /x? -");
    assert_string_equal(ASK(&g, "GET /x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" BYE),
                        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 9\r\nConnection: "
                        "keep-alive\r\n\r\nGET /x? -" BYE_ANSWER);
    assert_string_equal(
        ASK(&g, "OPTIONS * HTTP/1.1\r\n" H "\r\n" BYE),
        "HTTP/1.1 200 OK\r\nAllow: GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS\r\nContent-Length: "
        "0\r\n\r\n" BYE_ANSWER);
    assert_string_equal(ASK(&g, "GET /close HTTP/1.1\r\n" H "\r\n"),
                        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    /* What comes after Connection: close is not looked at. */
    g.requests = 0;
    assert_string_equal(ASK(&g, BYE "GET /x HTTP/1.1\r\n" H "\r\n"), BYE_ANSWER);
    assert_int_equal(g.requests, 1);
    http_server_set_name(g.server, "comfymux");
    assert_non_null(strstr(ASK(&g, BYE), "\r\nServer: comfymux\r\n"));
    rig_close(&g);
}

static void chunked_answers(void **state)
{
    struct rig g;

    (void)state;
    rig_open(&g, &small_limits);
    assert_string_equal(
        ASK(&g, "GET /chunks HTTP/1.1\r\n" H "\r\n" BYE),
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n3\r\ntwo\r\n5\r\nthree\r\n0"
        "\r\n\r\n" BYE_ANSWER);
    assert_string_equal(ASK(&g, "HEAD /chunks HTTP/1.1\r\n" H "\r\n" BYE),
                        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" BYE_ANSWER);
    assert_string_equal(ASK(&g, "GET /chunks HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"),
                        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nonetwothree");
    /* What is not whole must not look whole. */
    assert_null(strstr(ASK(&g, "GET /cut HTTP/1.1\r\n" H "\r\n" BYE), "0\r\n\r\n"));
    assert_null(strstr(ASK(&g, "GET /short HTTP/1.1\r\n" H "\r\n" BYE), "bye"));
    assert_non_null(strstr(buf_str(&g.log), "shorter than declared"));
    rig_close(&g);
}

static void fields(void **state)
{
    struct rig g;

    (void)state;
    rig_open(&g, &small_limits);
    assert_string_equal(ASK(&g, "GET /fields HTTP/1.1\r\n" H "\r\n" BYE),
                        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nX-A: 1\r\nX-B: 2\r\nContent-Length: "
                        "2\r\n\r\nok" BYE_ANSWER);
    rig_close(&g);
}

/* The same bytes, however they are cut: answered in order. */
static void cut_everywhere(void **state)
{
    static const char in[] =
        "\r\nPOST /all HTTP/1.1\r\n" H "Content-Length: 5\r\n\r\nfirst"
        "GET /a HTTP/1.1\r\n" H "\r\n"
        "POST /all HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n"
        "3\r\nsec\r\n3;x\r\nond\r\n0\r\nT: t\r\n\r\n"
        "POST /x HTTP/1.1\r\n" H "Content-Length: 6\r\n\r\nunread"
        "POST /x HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n6\r\nunread\r\n0\r\n\r\n" BYE;
    struct rig g;
    char *whole;

    (void)state;
    rig_open(&g, &small_limits);
    whole = strdup(ask(&g, in, sizeof(in) - 1, 0));
    assert_non_null(strstr(whole, "\r\n\r\nfirstHTTP/1.1"));
    assert_non_null(strstr(whole, "\r\n\r\nGET /a? -HTTP/1.1"));
    assert_non_null(strstr(whole, "\r\n\r\nsecondHTTP/1.1"));
    assert_non_null(strstr(whole, "POST /x? -HTTP/1.1"));
    assert_non_null(strstr(whole, BYE_ANSWER));
    for (size_t cut = 1; cut < sizeof(in) - 1; cut++)
        assert_string_equal(ask(&g, in, sizeof(in) - 1, cut), whole);
    free(whole);
    rig_close(&g);
}

static void vectors(void **state)
{
    struct rig g;
    unsigned wrong = 0;

    (void)state;
    rig_open(&g, &small_limits);
    for (size_t i = 0; i < ARRAY_LEN(http_vectors); i++) {
        const struct http_vector *v = &http_vectors[i];
        struct buf in = BUF_INIT;
        const char *got, *last;
        int status = 0;

        buf_put(&in, v->in, v->n);
        if (v->status == 200)
            buf_puts(&in, BYE);
        got = ask(&g, buf_str(&in), in.len, 0);
        /* The last answer is the refusal. */
        for (last = got; strstr(last + 1, "HTTP/1.1 "); last = strstr(last + 1, "HTTP/1.1 "))
            ;
        sscanf(last, "HTTP/1.1 %d", &status);
        if (status != v->status || !strstr(last, "Connection: close\r\n")) {
            print_error("vector %zu wants %d: %s\n-> %s\n", i, v->status, v->in, got);
            wrong++;
        }
        buf_free(&in);
    }
    assert_int_equal(wrong, 0);
    assert_non_null(strstr(buf_str(&g.log), " event=refused status=400 reason=\"folded line\"\n"));
    assert_int_equal(http_server_conns(g.server), 0);
    rig_close(&g);
}

/* --- order and back-pressure --- */

static void one_at_a_time(void **state)
{
    struct rig g;

    (void)state;
    rig_open(&g, &small_limits);
    rig_connect(&g);
    rig_puts(&g, "GET /keep HTTP/1.1\r\n" H "\r\nGET /a HTTP/1.1\r\n" H "\r\n");
    UNTIL(&g, g.kept);
    turns(&g, 5);
    assert_int_equal(g.requests, 1); /* the second waits */
    assert_int_equal(g.in.len, 0);
    http_reply_empty(g.kept, 200);
    assert_int_equal(g.requests, 1); /* and does not begin inside our call */
    g.kept = NULL;
    UNTIL(&g, strstr(buf_str(&g.in), "GET /a? -"));
    assert_int_equal(g.requests, 2);
    rig_close(&g);
}

/* A client that sends requests and reads no answer: output stays bounded. */
static void pipelining_without_reading(void **state)
{
    static const char one[] = "GET /xxxxxxxxxxxxxxxx HTTP/1.1\r\n" H "\r\n";
    struct rig g;
    unsigned last;

    (void)state;
    rig_open(&g, &small_limits);
    rig_connect(&g);
    for (int i = 0; i < 40; i++) {
        last = g.requests;
        for (int k = 0; k < 2000; k++)
            if (send(g.fd, one, sizeof(one) - 1, MSG_NOSIGNAL | MSG_DONTWAIT) < (ssize_t)sizeof(one) - 1)
                break;
        for (int k = 0; k < 10; k++)
            loop_turn(g.loop, 0);
        if (g.requests == last && i > 5)
            break;
    }
    assert_int_equal(g.requests, last); /* it has stopped looking */
    rig_close(&g);
}

static void flushed(void **state)
{
    struct rig g;

    (void)state;
    rig_open(&g, &small_limits);
    rig_connect(&g);
    rig_puts(&g, "GET /big HTTP/1.1\r\n" H "\r\n");
    for (int i = 0; i < 50; i++)
        loop_turn(g.loop, 0);
    rig_puts(&g, "\r\n"); /* something happens, but nothing is read */
    for (int i = 0; i < 50; i++)
        loop_turn(g.loop, 0);
    assert_int_equal(g.requests, 1);
    assert_int_equal(g.flushed_ok, 0); /* 8 MB do not fit into the socket */
    UNTIL(&g, g.flushed_ok == 1);
    UNTIL(&g, g.in.len > 8 << 20);
    rig_puts(&g, "GET /big HTTP/1.1\r\n" H "\r\n");
    UNTIL(&g, g.requests == 2);
    loop_turn(g.loop, 0);
    close(g.fd);
    g.fd = -1;
    g.closed = true;
    {
        int64_t stop = now_ms() + 10000;

        while (g.flushed_bad == 0 && now_ms() < stop)
            loop_turn(g.loop, 1);
    }
    assert_int_equal(g.flushed_bad, 1);
    assert_int_equal(g.flushed_ok, 1);
    rig_close(&g);
}

static void drained(void **state)
{
    struct rig g;

    (void)state;
    rig_open(&g, &small_limits);
    rig_connect(&g);
    rig_puts(&g, "GET /drain HTTP/1.1\r\n" H "\r\n" BYE);
    for (int i = 0; i < 50; i++)
        loop_turn(g.loop, 0);
    assert_int_equal(g.drains, 0);
    UNTIL(&g, g.closed);
    assert_int_equal(g.drains, 1);
    assert_int_equal(g.aborts, 0);
    assert_non_null(strstr(buf_str(&g.in), "GET /bye? -"));
    rig_close(&g);
}

/* --- bodies --- */

static void continue_100(void **state)
{
    struct rig g;

    (void)state;
    rig_open(&g, &small_limits);
    rig_connect(&g);
    rig_puts(&g, "POST /all HTTP/1.1\r\n" H "Expect: 100-Continue\r\nContent-Length: 2\r\n\r\n");
    UNTIL(&g, g.in.len > 0);
    assert_string_equal(buf_str(&g.in), "HTTP/1.1 100 Continue\r\n\r\n");
    rig_puts(&g, "hi");
    UNTIL(&g, strstr(buf_str(&g.in), "\r\n\r\nhi"));
    /* Not read: no 100, and nobody knows whether the body will come. */
    assert_string_equal(ASK(&g, "POST /x HTTP/1.1\r\n" H "Expect: 100-continue\r\nContent-Length: 2\r\n\r\n"),
                        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 10\r\nConnection: "
                        "close\r\n\r\nPOST /x? -");
    /* Read but too large: 413 in place of 100. */
    assert_memory_equal(
        ASK(&g, "POST /small HTTP/1.1\r\n" H "Expect: 100-continue\r\nContent-Length: 6\r\n\r\n"),
        "HTTP/1.1 413 ", 13);
    assert_int_equal(g.aborts, 1);
    g.requests = 0;
    assert_memory_equal(ASK(&g, "POST /all HTTP/1.1\r\n" H "Expect: foo\r\nContent-Length: 2\r\n\r\nhi"),
                        "HTTP/1.1 417 ", 13);
    assert_int_equal(g.requests, 0);
    assert_non_null(strstr(
        ASK(&g, "POST /all HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi"), "\r\n\r\nhi"));
    assert_null(strstr(buf_str(&g.in), "100 Continue"));
    rig_close(&g);
}

static void body_limits(void **state)
{
    struct rig g;

    (void)state;
    rig_open(&g, &small_limits);
    assert_memory_equal(ASK(&g, "POST /small HTTP/1.1\r\n" H "Content-Length: 6\r\n\r\nabcdef"),
                        "HTTP/1.1 413 ", 13);
    assert_int_equal(g.streamed, 0);
    assert_memory_equal(ASK(&g, "POST /small HTTP/1.1\r\n" H
                                "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n3\r\nabc\r\n0\r\n\r\n"),
                        "HTTP/1.1 413 ", 13);
    assert_int_equal(g.aborts, 2);
    assert_memory_equal(ASK(&g, "POST /all HTTP/1.1\r\n" H "Content-Length: 100001\r\n\r\n"), "HTTP/1.1 413 ",
                        13);
    /* A body that ends badly. */
    assert_memory_equal(ASK(&g, "POST /all HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\nx\r\n"),
                        "HTTP/1.1 400 ", 13);
    assert_int_equal(g.aborts, 4);
    g.streamed = 0;
    assert_non_null(
        strstr(ASK(&g, "POST /small HTTP/1.1\r\n" H "Content-Length: 5\r\n\r\nabcde" BYE), "\r\n\r\n5HTTP"));
    assert_int_equal(g.aborts, 4);
    rig_close(&g);
}

static void unread_bodies(void **state)
{
    struct rig g;
    struct buf b = BUF_INIT;

    (void)state;
    rig_open(&g, &small_limits);
    /* Up to limits.drain the connection lives on. */
    buf_puts(&b, "POST /x HTTP/1.1\r\n" H "Content-Length: 1000\r\n\r\n");
    for (int i = 0; i < 1000; i++)
        buf_putc(&b, 'x');
    buf_puts(&b, BYE);
    assert_non_null(strstr(ask(&g, b.data, b.len, 500), BYE_ANSWER));
    /* Beyond, the answer says close, and arrives although the rest was never read. */
    buf_clear(&b);
    buf_puts(&b, "POST /x HTTP/1.1\r\n" H "Content-Length: 3000000\r\n\r\n");
    for (int i = 0; i < 3000000; i++)
        buf_putc(&b, 'x');
    assert_string_equal(ask(&g, b.data, b.len, 0),
                        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 10\r\nConnection: "
                        "close\r\n\r\nPOST /x? -");
    buf_clear(&b);
    buf_puts(&b, "POST /x HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n3e9\r\n");
    for (int i = 0; i < 1001; i++)
        buf_putc(&b, 'x');
    buf_puts(&b, "\r\n0\r\n\r\n" BYE);
    assert_null(strstr(ask(&g, b.data, b.len, 0), "bye"));
    buf_free(&b);
    rig_close(&g);
}

static void large_upload(void **state)
{
    struct rig g;
    size_t total = 16 << 20;
    char piece[65536];

    (void)state;
    memset(piece, 'x', sizeof(piece));
    rig_open(&g, &small_limits);
    rig_connect(&g);
    g.pause_once = true;
    rig_puts(&g, "PUT /stream HTTP/1.1\r\n" H "Content-Length: 16777216\r\n\r\n");
    UNTIL(&g, g.kept);
    /* Paused: the peer gets stuck, nothing is told, nothing is kept beyond the stream's 256 KiB and the
     * sockets'. */
    size_t sent = 0, stuck = 0;
    while (stuck < 20 && sent < total) {
        ssize_t n =
            send(g.fd, piece, total - sent < sizeof(piece) ? total - sent : sizeof(piece), MSG_NOSIGNAL);

        stuck = n > 0 ? 0 : stuck + 1;
        sent += n > 0 ? (size_t)n : 0;
        loop_turn(g.loop, 0);
    }
    assert_true(sent < total);
    assert_true(g.streamed <= 256 * 1024);
    size_t before = g.streamed;
    http_body_resume(g.kept);
    assert_int_equal(g.streamed, before);
    while (sent < total) {
        size_t n = total - sent < sizeof(piece) ? total - sent : sizeof(piece);

        rig_send(&g, piece, n);
        sent += n;
    }
    UNTIL(&g, strstr(buf_str(&g.in), "\r\n\r\n16777216"));
    assert_int_equal(g.streamed_fin, 1);
    rig_close(&g);
}

/* --- who goes away, and when --- */

static void aborts(void **state)
{
    static const struct {
        const char *in;
        bool reset;
    } phases[] = {
        {"GET /keep HTTP/1.1\r\n" H "\r\n", false},
        {"GET /keep HTTP/1.1\r\n" H "\r\n", true},
        {"POST /all HTTP/1.1\r\n" H "Content-Length: 5\r\n\r\nabc", false},
        {"POST /all HTTP/1.1\r\n" H "Content-Length: 5\r\n\r\nabc", true},
        {"POST /stream HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n5\r\nabc", false},
        {"POST /all HTTP/1.1\r\n" H "Content-Length: 5\r\n\r\n", false},
        {"GET /drain HTTP/1.1\r\n" H "\r\n", true},
        {"GET /sse HTTP/1.1\r\n" H "\r\n", false},
    };
    struct rig g;

    (void)state;
    rig_open(&g, &small_limits);
    for (size_t i = 0; i < ARRAY_LEN(phases); i++) {
        struct linger lin = {.l_onoff = 1};
        unsigned before = g.aborts + g.sse_gone, asked = g.requests;
        int64_t stop = now_ms() + 10000;

        rig_connect(&g);
        rig_puts(&g, phases[i].in);
        while (g.requests == asked)
            loop_turn(g.loop, 1);
        loop_turn(g.loop, 0);
        if (phases[i].reset)
            setsockopt(g.fd, SOL_SOCKET, SO_LINGER, &lin, sizeof(lin));
        close(g.fd);
        g.fd = -1;
        while (http_server_conns(g.server) > 0 && now_ms() < stop)
            loop_turn(g.loop, 1);
        assert_int_equal(g.aborts + g.sse_gone, before + 1);
        assert_null(g.kept);
    }
    /* The head is cut off: no request, no abort, no words. */
    unsigned asked = g.requests;
    rig_connect(&g);
    rig_puts(&g, "GET /keep HTT");
    shutdown(g.fd, SHUT_WR);
    UNTIL(&g, g.closed);
    assert_int_equal(g.in.len, 0);
    assert_int_equal(g.requests, asked);
    /* The server goes away: the request under way hears of it. */
    rig_connect(&g);
    rig_puts(&g, "GET /keep HTTP/1.1\r\n" H "\r\n");
    UNTIL(&g, g.kept);
    asked = g.aborts;
    http_server_free(&g.server);
    assert_int_equal(g.aborts, asked + 1);
    rig_close(&g);
}

/* A half-closed connection with whole requests in it is still answered. */
static void half_closed(void **state)
{
    struct rig g;

    (void)state;
    rig_open(&g, &small_limits);
    rig_connect(&g);
    rig_puts(&g, "GET /a HTTP/1.1\r\n" H "\r\nGET /b HTTP/1.1\r\n" H "\r\n");
    shutdown(g.fd, SHUT_WR);
    UNTIL(&g, g.closed);
    assert_non_null(strstr(buf_str(&g.in), "GET /a? -HTTP/1.1 200"));
    assert_non_null(strstr(buf_str(&g.in), "GET /b? -"));
    /* A whole body that its handler has not taken yet, too. */
    rig_connect(&g);
    g.pause_once = true;
    rig_puts(&g, "POST /stream HTTP/1.1\r\n" H
                 "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n");
    shutdown(g.fd, SHUT_WR);
    UNTIL(&g, g.kept && !g.pause_once);
    turns(&g, 10);
    assert_int_equal(g.aborts, 0);
    assert_non_null(g.kept);
    http_body_resume(g.kept);
    UNTIL(&g, g.closed);
    assert_non_null(strstr(buf_str(&g.in), "\r\n\r\n5"));
    rig_close(&g);
}

/* --- deadlines: short ones, and only that they come is checked --- */

static void deadlines(void **state)
{
    struct http_limits lim = small_limits;
    struct rig g;

    (void)state;
    lim.head_ms = lim.body_ms = 30;
    rig_open(&g, &lim);
    rig_connect(&g);
    rig_puts(&g, "GET / HTTP/1.1\r\n");
    UNTIL(&g, g.closed);
    assert_memory_equal(buf_str(&g.in), "HTTP/1.1 408 ", 13);
    rig_connect(&g);
    rig_puts(&g, "GET /a HTTP/1.1\r\n" H "\r\nG"); /* the same for a later one */
    UNTIL(&g, g.closed);
    assert_non_null(strstr(buf_str(&g.in), "GET /a? -HTTP/1.1 408 "));
    rig_connect(&g);
    rig_puts(&g, "POST /all HTTP/1.1\r\n" H "Content-Length: 5\r\n\r\nabc");
    UNTIL(&g, g.closed);
    assert_memory_equal(buf_str(&g.in), "HTTP/1.1 408 ", 13);
    assert_int_equal(g.aborts, 1);
    rig_connect(&g);
    rig_puts(&g, "POST /x HTTP/1.1\r\n" H "Content-Length: 5\r\n\r\nabc"); /* while dropping */
    UNTIL(&g, g.closed);
    assert_non_null(strstr(buf_str(&g.in), "POST /x? -"));
    rig_close(&g);

    lim = small_limits;
    lim.idle_ms = 30;
    rig_open(&g, &lim);
    rig_connect(&g);
    UNTIL(&g, g.closed);
    assert_int_equal(g.in.len, 0); /* silently */
    rig_connect(&g);
    rig_puts(&g, "GET /a HTTP/1.1\r\n" H "\r\n");
    UNTIL(&g, g.closed);
    assert_null(strstr(buf_str(&g.in), "408"));
    /* Neither a client that is still reading its answer nor a handler that thinks for long is idle. */
    rig_connect(&g);
    rig_puts(&g, "GET /big HTTP/1.1\r\n" H "\r\n");
    for (int64_t stop = now_ms() + 100; now_ms() < stop;)
        loop_turn(g.loop, 1);
    UNTIL(&g, g.in.len > 8 << 20);
    rig_connect(&g);
    rig_puts(&g, "GET /keep HTTP/1.1\r\n" H "\r\n");
    UNTIL(&g, g.kept);
    int64_t until = now_ms() + 100;
    UNTIL(&g, now_ms() > until);
    assert_non_null(g.kept);
    http_reply_empty(g.kept, 200);
    g.kept = NULL;
    UNTIL(&g, g.in.len > 0);
    rig_close(&g);

    lim = small_limits;
    lim.write_ms = 30;
    rig_open(&g, &lim);
    rig_connect(&g);
    rig_puts(&g, "GET /drain HTTP/1.1\r\n" H "\r\n");
    int64_t stop = now_ms() + 10000;
    while (g.aborts == 0 && now_ms() < stop)
        loop_turn(g.loop, 1);
    assert_int_equal(g.aborts, 1);
    assert_non_null(strstr(buf_str(&g.log), "reason=\"write timeout\""));
    rig_close(&g);
}

/* --- files --- */

static void ranges(void **state)
{
    static const struct {
        const char *fields;
        int status;
        const char *content_range, *body;
    } cases[] = {
        {"", 200, NULL, "hello text"},
        {"Range: bytes=0-3\r\n", 206, "bytes 0-3/10", "hell"},
        {"Range: bytes=4-\r\n", 206, "bytes 4-9/10", "o text"},
        {"Range: bytes=-4\r\n", 206, "bytes 6-9/10", "text"},
        {"Range: bytes=5-999\r\n", 206, "bytes 5-9/10", " text"},
        {"Range: bytes=0-99999999999999999999999\r\n", 206, "bytes 0-9/10", "hello text"},
        {"Range: bytes=-99999999999999999999999\r\n", 206, "bytes 0-9/10", "hello text"},
        {"Range: bytes=9-9\r\n", 206, "bytes 9-9/10", "t"},
        {"Range: BYTES=0-0\r\n", 206, "bytes 0-0/10", "h"},
        {"Range: bytes=-10\r\n", 206, "bytes 0-9/10", "hello text"},
        {"Range: bytes=-11\r\n", 206, "bytes 0-9/10", "hello text"},
        {"Range: bytes=10-\r\n", 416, "bytes */10", ""},
        {"Range: bytes=100-\r\n", 416, "bytes */10", ""},
        {"Range: bytes=99999999999999999999999-\r\n", 416, "bytes */10", ""},
        {"Range: bytes=-0\r\n", 416, "bytes */10", ""},
        {"Range: bytes=5-4\r\n", 416, "bytes */10", ""},
        {"Range: bytes=0-1,3-4\r\n", 416, "bytes */10", ""},
        {"Range: bytes=0-1\r\nRange: bytes=2-3\r\n", 416, "bytes */10", ""},
        {"Range: bytes=x\r\n", 416, "bytes */10", ""},
        {"Range: bytes=-\r\n", 416, "bytes */10", ""},
        {"Range: bytes=\r\n", 416, "bytes */10", ""},
        {"Range: bytes= 0-1\r\n", 416, "bytes */10", ""},
        {"Range: bytes=0 -1\r\n", 416, "bytes */10", ""},
        {"Range: bytes=0-1x\r\n", 416, "bytes */10", ""},
        {"Range: bytes=+0-1\r\n", 416, "bytes */10", ""},
        {"Range: bytes=--1\r\n", 416, "bytes */10", ""},
        {"Range: items=0-1\r\n", 416, "bytes */10", ""},
        {"Range: 0-1\r\n", 416, "bytes */10", ""},
        {"Range:\r\n", 416, "bytes */10", ""},
        {"If-Range: \"tag\"\r\nRange: bytes=0-1\r\n", 206, "bytes 0-1/10", "he"},
        {"If-Range: \"old\"\r\nRange: bytes=0-1\r\n", 200, NULL, "hello text"},
        {"If-Range: W/\"tag\"\r\nRange: bytes=0-1\r\n", 200, NULL, "hello text"},
        {"If-Range: \"old\"\r\nRange: bytes=100-\r\n", 200, NULL, "hello text"},
        {"If-Range: Sun, 06 Nov 1994 08:49:37 GMT\r\nRange: bytes=0-1\r\n", 206, "bytes 0-1/10", "he"},
        {"If-Range: Sun, 06 Nov 1994 08:49:38 GMT\r\nRange: bytes=0-1\r\n", 200, NULL, "hello text"},
        {"If-Range: nonsense\r\nRange: bytes=0-1\r\n", 200, NULL, "hello text"},
        {"If-None-Match: \"tag\"\r\n", 304, NULL, ""},
        {"If-None-Match: W/\"tag\"\r\n", 304, NULL, ""},
        {"If-None-Match: \"a\", W/\"b,c\" ,\"tag\"\r\n", 304, NULL, ""},
        {"If-None-Match: \"a\"\r\nIf-None-Match: \"tag\"\r\n", 304, NULL, ""},
        {"If-None-Match: *\r\n", 304, NULL, ""},
        {"If-None-Match: \"x\"\r\n", 200, NULL, "hello text"},
        {"If-None-Match: \"ta\"\r\n", 200, NULL, "hello text"},
        {"If-None-Match: tag\r\n", 200, NULL, "hello text"},
        {"If-None-Match: \"tag\r\n", 200, NULL, "hello text"},
        {"If-None-Match: \"tag\"\r\nRange: bytes=0-1\r\n", 304, NULL, ""},
        {"If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n", 304, NULL, ""},
        {"If-Modified-Since: Sun, 06 Nov 1994 08:49:38 GMT\r\n", 304, NULL, ""},
        {"If-Modified-Since: Sun, 06 Nov 1994 08:49:36 GMT\r\n", 200, NULL, "hello text"},
        {"If-Modified-Since: nonsense\r\n", 200, NULL, "hello text"},
        {"If-None-Match: \"x\"\r\nIf-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n", 200, NULL,
         "hello text"},
    };
    struct rig g;

    (void)state;
    rig_open(&g, &small_limits);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf in = BUF_INIT, want = BUF_INIT;
        bool whole = cases[i].status == 200, part = cases[i].status == 206;

        buf_printf(&in, "GET /file HTTP/1.1\r\n" H "%s\r\n" BYE, cases[i].fields);
        buf_printf(
            &want,
            "HTTP/1.1 %d %s\r\nContent-Type: text/plain\r\nContent-Disposition: filename=\"v.txt\"\r\n",
            cases[i].status, http_status_text(cases[i].status));
        if (cases[i].status != 416)
            buf_puts(&want, "Etag: \"tag\"\r\nLast-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n");
        if (whole || part)
            buf_puts(&want, "Accept-Ranges: bytes\r\n");
        if (cases[i].content_range)
            buf_printf(&want, "Content-Range: %s\r\n", cases[i].content_range);
        if (cases[i].status != 304)
            buf_printf(&want, "Content-Length: %zu\r\n", strlen(cases[i].body));
        buf_printf(&want, "\r\n%s" BYE_ANSWER, cases[i].body);
        assert_string_equal(ask(&g, in.data, in.len, 0), buf_str(&want));
        buf_free(&in);
        buf_free(&want);
    }
    assert_memory_equal(
        ASK(&g, "GET /weak HTTP/1.1\r\n" H "If-Range: W/\"tag\"\r\nRange: bytes=0-1\r\n\r\n" BYE),
        "HTTP/1.1 200 ", 13);
    assert_memory_equal(ASK(&g, "GET /weak HTTP/1.1\r\n" H "If-None-Match: \"tag\"\r\n\r\n" BYE),
                        "HTTP/1.1 304 ", 13);
    assert_non_null(strstr(ASK(&g, "HEAD /file HTTP/1.1\r\n" H "Range: bytes=0-1\r\n\r\n" BYE),
                           "Accept-Ranges: bytes\r\nContent-Length: 10\r\n\r\nHTTP/1.1 200"));
    assert_memory_equal(ASK(&g, "POST /file HTTP/1.1\r\n" H
                                "If-None-Match: *\r\nRange: bytes=0-1\r\nContent-Length: "
                                "0\r\n\r\n" BYE),
                        "HTTP/1.1 200 OK", 15);
    rig_close(&g);
}

/* --- the rest --- */

static void upgrades(void **state)
{
#define WS "GET /ws HTTP/1.1\r\n" H
#define KEY "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    static const char *const no[] = {
        WS "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n" KEY "\r\n",
        WS "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" KEY "\r\n",
        WS "Connection: Upgrade\r\nUpgrade: h2c\r\nSec-WebSocket-Version: 13\r\n" KEY "\r\n",
        WS "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 12\r\n" KEY "\r\n",
        WS "Connection: Upgrade\r\nUpgrade: websocket\r\n" KEY "\r\n",
        WS "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n",
        WS "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "
           "short\r\n\r\n",
        "POST /ws HTTP/1.1\r\n" H
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" KEY "\r\n",
    };
    struct rig g;

    (void)state;
    rig_open(&g, &small_limits);
    for (size_t i = 0; i < ARRAY_LEN(no); i++) {
        struct buf b = BUF_INIT;

        buf_printf(&b, "%s" BYE, no[i]);
        assert_memory_equal(ask(&g, b.data, b.len, 0), "HTTP/1.1 400 ", 13);
        assert_non_null(strstr(buf_str(&g.in), BYE_ANSWER)); /* an ordinary request, the next one follows */
        buf_free(&b);
    }
    rig_connect(&g);
    rig_puts(&g,
             WS "connection: keep-alive, upgrade\r\nupgrade: WebSocket\r\nSec-WebSocket-Version: 13\r\n" KEY
                "\r\nfirst bytes");
    UNTIL(&g, g.in.len > 0);
    assert_ptr_equal(strstr(buf_str(&g.in), "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                                            "Connection: Upgrade\r\n"),
                     buf_str(&g.in));
    assert_non_null(strstr(buf_str(&g.in), "Sec-WebSocket-Accept: x\r\n\r\n"));
    assert_int_equal(evbuffer_get_length(stream_input(g.taken)), 11);
    assert_int_equal(http_server_conns(g.server), 0);
    rig_close(&g);
}

static void events(void **state)
{
    struct rig g;
    char big[10000];

    (void)state;
    memset(big, 'x', sizeof(big));
    rig_open(&g, &small_limits);
    rig_connect(&g);
    rig_puts(&g, "GET /sse HTTP/1.1\r\n" H "\r\n");
    UNTIL(&g, g.sse);
    sse_send(g.sse, "7", "status", "{\"a\":1}", 7);
    sse_send(g.sse, NULL, NULL, "{\n\"a\":\r1}", 9);
    UNTIL(&g, strstr(buf_str(&g.in), "id: 7\nevent: status\ndata: {\"a\":1}\n\n"));
    UNTIL(&g, strstr(buf_str(&g.in), "data: { \"a\": 1}\n\n"));
    assert_non_null(strstr(buf_str(&g.in), "Content-Type: text/event-stream\r\n"));
    sse_end(&g.sse);
    UNTIL(&g, strstr(buf_str(&g.in), "0\r\n\r\n"));
    assert_int_equal(g.sse_gone, 0);
    /* A reader that does not read is dropped at the limit; told after the call. */
    rig_connect(&g);
    rig_puts(&g, "GET /sse HTTP/1.1\r\n" H "\r\n");
    UNTIL(&g, g.sse);
    for (int i = 0; i < 5000 && g.sse; i++) {
        sse_send(g.sse, NULL, NULL, big, sizeof(big));
        assert_int_equal(g.sse_gone, 0);
        if (i % 50 == 49)
            loop_turn(g.loop, 0);
    }
    assert_null(g.sse);
    assert_int_equal(g.sse_gone, 1);
    loop_turn(g.loop, 0);
    assert_int_equal(http_server_conns(g.server), 0);
    rig_close(&g);
}

static void draining(void **state)
{
    struct rig g;
    int idle, busy;

    (void)state;
    rig_open(&g, &small_limits);
    idle = rig_connect(&g);
    g.fd = -1;
    busy = rig_connect(&g);
    rig_puts(&g, "GET /keep HTTP/1.1\r\n" H "\r\n");
    UNTIL(&g, g.kept);
    http_server_drain(g.server);
    g.fd = idle;
    UNTIL(&g, g.closed);
    close(idle);
    g.fd = busy;
    g.closed = false;
    turns(&g, 3);
    assert_non_null(g.kept);
    http_reply_str(g.kept, 200, NULL, "last");
    g.kept = NULL;
    UNTIL(&g, g.closed);
    assert_non_null(strstr(buf_str(&g.in), "Connection: close\r\n\r\nlast"));
    assert_int_equal(http_server_conns(g.server), 0);
    rig_close(&g);
}

static void connection_limit(void **state)
{
    struct http_limits lim = small_limits;
    struct rig g;
    int first;

    (void)state;
    lim.conns = 1;
    rig_open(&g, &lim);
    first = rig_connect(&g);
    rig_puts(&g, "GET /a HTTP/1.1\r\n" H "\r\n");
    UNTIL(&g, g.requests == 1);
    g.fd = -1;
    rig_connect(&g);
    rig_puts(&g, BYE);
    turns(&g, 20);
    assert_int_equal(g.requests, 1);
    assert_int_equal(http_server_conns(g.server), 1);
    close(first);
    UNTIL(&g, g.closed);
    assert_int_equal(g.requests, 2);
    rig_close(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain),
        cmocka_unit_test(chunked_answers),
        cmocka_unit_test(fields),
        cmocka_unit_test(cut_everywhere),
        cmocka_unit_test(vectors),
        cmocka_unit_test(one_at_a_time),
        cmocka_unit_test(pipelining_without_reading),
        cmocka_unit_test(flushed),
        cmocka_unit_test(drained),
        cmocka_unit_test(continue_100),
        cmocka_unit_test(body_limits),
        cmocka_unit_test(unread_bodies),
        cmocka_unit_test(large_upload),
        cmocka_unit_test(aborts),
        cmocka_unit_test(half_closed),
        cmocka_unit_test(deadlines),
        cmocka_unit_test(ranges),
        cmocka_unit_test(upgrades),
        cmocka_unit_test(events),
        cmocka_unit_test(draining),
        cmocka_unit_test(connection_limit),
    };

    return cmocka_run_group_tests_name("server", tests, NULL, NULL);
}
