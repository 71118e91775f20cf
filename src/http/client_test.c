#include "http/client.h"

#include <event2/buffer.h>

#include "http/peer_test.h"

/* --- a call and what came of it --- */

struct got {
    struct http_call *call;
    struct http_client **client; /* for what handlers do with it */
    int heads, dones, drains, status;
    struct buf body;
    char *type; /* Content-Type */
    enum http_call_end end;
    char why[200];
    size_t body_len;
    enum {
        DO_NOTHING,
        CANCEL_IN_HEAD,
        CANCEL_IN_DATA,
        CANCEL_IN_DONE,
        PAUSE_IN_HEAD,
        PAUSE_IN_DATA,
        FREE_IN_HEAD,
        FREE_IN_DATA,
        FREE_IN_DONE
    } act;
    bool count_only;
};

static void got_head(struct http_call *c, int status, const struct http_headers *h, void *arg)
{
    struct got *g = arg;

    assert_int_equal(g->dones, 0);
    g->heads++;
    g->status = status;
    free(g->type);
    g->type = xstrdup_null(http_headers_get(h, "Content-Type"));
    if (g->act == CANCEL_IN_HEAD)
        http_call_cancel(&g->call);
    else if (g->act == PAUSE_IN_HEAD)
        http_call_pause(c);
    else if (g->act == FREE_IN_HEAD)
        http_client_free(g->client);
}

static void got_data(struct http_call *c, const void *data, size_t n, void *arg)
{
    struct got *g = arg;

    assert_int_equal(g->heads, 1);
    assert_int_equal(g->dones, 0);
    assert_true(n > 0);
    g->body_len += n;
    if (!g->count_only)
        buf_put(&g->body, data, n);
    if (g->act == CANCEL_IN_DATA)
        http_call_cancel(&g->call);
    else if (g->act == PAUSE_IN_DATA)
        http_call_pause(c);
    else if (g->act == FREE_IN_DATA)
        http_client_free(g->client);
}

static void got_done(struct http_call *c, enum http_call_end end, const char *why, void *arg)
{
    struct got *g = arg;

    (void)c;
    assert_int_equal(g->dones, 0);
    g->dones++;
    g->end = end;
    snprintf(g->why, sizeof(g->why), "%s", why);
    if (g->act == CANCEL_IN_DONE) {
        http_call_cancel(&g->call);
    } else if (g->act == FREE_IN_DONE) {
        http_client_free(g->client);
    }
    g->call = NULL;
}

static void got_drain(struct http_call *c, void *arg)
{
    struct got *g = arg;

    (void)c;
    assert_int_equal(g->dones, 0);
    g->drains++;
}

static const struct http_call_handlers handlers = {got_head, got_data, got_done, got_drain};

static void got_fini(struct got *g)
{
    buf_free(&g->body);
    free(g->type);
    *g = (struct got){0};
}

/* --- a client and a listening peer --- */

static int lfd = -1;
static unsigned short port;
static struct http_client *client;

static int setup(void **state)
{
    struct err e;

    (void)state;
    loop = loop_new(&e);
    assert_non_null(loop);
    lfd = peer_listen(&port);
    return 0;
}

static void open_client(const struct http_client_config *cfg)
{
    char url[64];
    struct err e;

    snprintf(url, sizeof(url), "http://127.0.0.1:%u", port);
    client = http_client_new(loop, url, cfg, &e);
    assert_non_null(client);
}

static int teardown(void **state)
{
    (void)state;
    http_client_free(&client);
    if (lfd >= 0)
        close(lfd);
    turns(4);
    loop_free(&loop);
    return 0;
}

static void start(struct got *g, const char *method, const char *target, const char *body)
{
    struct bytes *b = body ? bytes_new(body, strlen(body)) : NULL;

    g->client = &client;
    g->call = http_call_new(client, method, target, &handlers, g);
    http_call_timeout(g->call, PATIENCE_MS, 0);
    http_call_start(g->call, body ? "text/plain" : NULL, b);
    bytes_unref(b);
}

/* A whole exchange that leaves one idle connection behind; the peer's end of it. */
static int warm_up(void)
{
    struct got g = {0};
    struct buf in = BUF_INIT, req = BUF_INIT;
    int fd;

    start(&g, "GET", "/warm", NULL);
    fd = peer_accept(lfd);
    peer_request(fd, &in, &req);
    peer_send(fd, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nwarm");
    TURN_UNTIL(g.dones);
    assert_int_equal(g.end, HTTP_CALL_OK);
    assert_int_equal(in.len, 0);
    buf_free(&in);
    buf_free(&req);
    got_fini(&g);
    return fd;
}

/* --- outcomes --- */

/* A script: steps parted by '|'. A accept, R read a request, S<text> send, C close, X reset, H end our
 * direction, E wait for the end of the call, Z the server stops listening and every connection is reset, T
 * some turns. Before the first step the call has been started and no turn taken, but for a leading '-': these
 * steps come before the call. */
struct outcome {
    const char *name;
    const char *method;
    bool pooled; /* on a connection that has been used before; it is the peer's first */
    const char *script;
    enum http_call_end end;
    int status;
    const char *body;
    int requests; /* that the peer read */
    int64_t silence_ms, total_ms;
};

#define OK200 "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

static const struct outcome outcomes[] = {
    {"plain", "GET", 0, "A|R|S" OK200 "|E", HTTP_CALL_OK, 200, "ok", 1},
    {"post", "POST", 0, "A|R|S" OK200 "|E", HTTP_CALL_OK, 200, "ok", 1},
    {"no listener", "POST", 0, "-Z|E", HTTP_CALL_NOT_SENT, 0, "", 0},
    {"reset before a byte was written", "POST", 0, "A|X|E", HTTP_CALL_NOT_SENT, 0, "", 0},
    {"accepted and closed", "POST", 0, "A|C|E", HTTP_CALL_LOST, 0, "", 0},
    {"accepted and reset", "POST", 0, "A|T|X|E", HTTP_CALL_LOST, 0, "", 0},
    {"accepted and reset, GET: a fresh connection is not tried again", "GET", 0, "A|T|X|E", HTTP_CALL_LOST, 0,
     "", 0},
    {"closed after the request", "POST", 0, "A|R|C|E", HTTP_CALL_LOST, 0, "", 1},
    {"reset after the request", "POST", 0, "A|R|X|E", HTTP_CALL_LOST, 0, "", 1},
    {"half closed after the request", "POST", 0, "A|R|H|E", HTTP_CALL_LOST, 0, "", 1},
    {"closed in the status line", "GET", 0, "A|R|SHTTP/1.|C|E", HTTP_CALL_LOST, 0, "", 1},
    {"closed in the head", "GET", 0, "A|R|SHTTP/1.1 200 OK\r\nConte|C|E", HTTP_CALL_LOST, 0, "", 1},
    {"reset in the head", "GET", 0, "A|R|SHTTP/1.1 200 OK\r\nConte|T|X|E", HTTP_CALL_LOST, 0, "", 1},
    {"closed after 100", "POST", 0, "A|R|SHTTP/1.1 100 Continue\r\n\r\n|C|E", HTTP_CALL_LOST, 0, "", 1},
    {"short body", "GET", 0, "A|R|SHTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello|C|E", HTTP_CALL_BAD,
     200, "hello", 1},
    {"no body at all", "GET", 0, "A|R|SHTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n|C|E", HTTP_CALL_BAD, 200,
     "", 1},
    {"reset in the body", "GET", 0, "A|R|SHTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello|T|X|E",
     HTTP_CALL_LOST, 200, "hello", 1},
    {"chunked, closed between chunks", "GET", 0,
     "A|R|SHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n|C|E", HTTP_CALL_LOST, 200,
     "hello", 1},
    {"chunked, closed in a chunk", "GET", 0,
     "A|R|SHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhello|C|E", HTTP_CALL_LOST, 200, "hello",
     1},
    {"chunked, closed before the last line", "GET", 0,
     "A|R|SHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n|C|E", HTTP_CALL_LOST, 200,
     "hello", 1},
    {"chunked, reset", "GET", 0,
     "A|R|SHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n|T|X|E", HTTP_CALL_LOST, 200,
     "hello", 1},
    {"chunked, whole", "GET", 0,
     "A|R|SHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nT: v\r\n\r\n|E",
     HTTP_CALL_OK, 200, "hello", 1},
    {"until close", "GET", 0, "A|R|SHTTP/1.1 200 OK\r\n\r\nhello|T|C|E", HTTP_CALL_OK, 200, "hello", 1},
    {"until close, empty", "GET", 0, "A|R|SHTTP/1.1 200 OK\r\n\r\n|C|E", HTTP_CALL_OK, 200, "", 1},
    {"until close, HTTP/1.0", "GET", 0, "A|R|SHTTP/1.0 200 OK\r\n\r\nhello|C|E", HTTP_CALL_OK, 200, "hello",
     1},
    {"until close, reset", "GET", 0, "A|R|SHTTP/1.1 200 OK\r\n\r\nhello|T|X|E", HTTP_CALL_LOST, 200, "hello",
     1},
    {"whole, then reset", "GET", 0, "A|R|S" OK200 "|X|E", HTTP_CALL_OK, 200, "ok", 1},
    {"garbage", "POST", 0, "A|R|SSSH-2.0-OpenSSH_9.2\r\n|E", HTTP_CALL_BAD, 0, "", 1},
    {"HTTP/2", "GET", 0, "A|R|SHTTP/2.0 200 OK\r\n\r\n|E", HTTP_CALL_BAD, 0, "", 1},
    {"status 1000", "GET", 0, "A|R|SHTTP/1.1 1000 OK\r\n\r\n|E", HTTP_CALL_BAD, 0, "", 1},
    {"two lengths", "GET", 0, "A|R|SHTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok|E",
     HTTP_CALL_BAD, 0, "", 1},
    {"length and chunked", "GET", 0,
     "A|R|SHTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n|E",
     HTTP_CALL_BAD, 0, "", 1},
    {"negative length", "GET", 0, "A|R|SHTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok|E", HTTP_CALL_BAD, 0,
     "", 1},
    {"gzip, chunked", "GET", 0, "A|R|SHTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n|E",
     HTTP_CALL_BAD, 0, "", 1},
    {"folded field", "GET", 0, "A|R|SHTTP/1.1 200 OK\r\nA: b\r\n c\r\nContent-Length: 0\r\n\r\n|E",
     HTTP_CALL_BAD, 0, "", 1},
    {"space before the colon", "GET", 0, "A|R|SHTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok|E",
     HTTP_CALL_BAD, 0, "", 1},
    {"bad chunk size", "GET", 0, "A|R|SHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n|E",
     HTTP_CALL_BAD, 200, "", 1},
    {"interim answers", "POST", 0,
     "A|R|SHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" OK200 "|E", HTTP_CALL_OK,
     200, "ok", 1},
    {"101 that nobody asked for", "GET", 0, "A|R|SHTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n|E",
     HTTP_CALL_BAD, 0, "", 1},
    {"HEAD", "HEAD", 0, "A|R|SHTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n|E", HTTP_CALL_OK, 200, "", 1},
    {"HEAD, chunked", "HEAD", 0, "A|R|SHTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n|E",
     HTTP_CALL_OK, 404, "", 1},
    {"204", "GET", 0, "A|R|SHTTP/1.1 204 No Content\r\n\r\n|E", HTTP_CALL_OK, 204, "", 1},
    {"304 with a length", "GET", 0, "A|R|SHTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n|E",
     HTTP_CALL_OK, 304, "", 1},
    {"answer before the request's end is read", "POST", 0, "A|S" OK200 "|E", HTTP_CALL_OK, 200, "ok", 0},
    {"no answer", "POST", 0, "A|R|E", HTTP_CALL_TIMEOUT, 0, "", 1, 100, 0},
    {"no answer in all", "POST", 0, "A|R|E", HTTP_CALL_TIMEOUT, 0, "", 1, 0, 100},
    {"silent in the head", "POST", 0, "A|R|SHTTP/1.1 200|E", HTTP_CALL_TIMEOUT, 0, "", 1, 100, 0},
    {"silent in the body", "GET", 0, "A|R|SHTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello|E",
     HTTP_CALL_TIMEOUT, 200, "hello", 1, 100, 0},
    {"not even accepted", "GET", 0, "E", HTTP_CALL_TIMEOUT, 0, "", 0, 100, 0}, /* the kernel took the bytes */
    /* On a connection that was used before. */
    {"pooled", "POST", 1, "R|S" OK200 "|E", HTTP_CALL_OK, 200, "ok", 1},
    {"pooled, closed just before, GET", "GET", 1, "-C|A|R|S" OK200 "|E", HTTP_CALL_OK, 200, "ok", 1},
    {"pooled, reset just before, GET", "GET", 1, "-X|A|R|S" OK200 "|E", HTTP_CALL_OK, 200, "ok", 1},
    {"pooled, closed just before, HEAD", "HEAD", 1, "-C|A|R|SHTTP/1.1 200 OK\r\n\r\n|E", HTTP_CALL_OK, 200,
     "", 1},
    {"pooled, closed just before, POST: seen in time", "POST", 1, "-C|A|R|S" OK200 "|E", HTTP_CALL_OK, 200,
     "ok", 1},
    {"pooled, reset just before, POST: seen in time", "POST", 1, "-X|A|R|S" OK200 "|E", HTTP_CALL_OK, 200,
     "ok", 1},
    {"pooled, closed on the request, GET", "GET", 1, "R|C|A|R|S" OK200 "|E", HTTP_CALL_OK, 200, "ok", 2},
    {"pooled, closed on the request, POST", "POST", 1, "R|C|E", HTTP_CALL_LOST, 0, "", 1},
    {"pooled, reset on the request, POST", "POST", 1, "R|X|E", HTTP_CALL_LOST, 0, "", 1},
    {"pooled, closed on the request, PUT", "PUT", 1, "R|C|E", HTTP_CALL_LOST, 0, "", 1},
    {"pooled, closed on the request, DELETE", "DELETE", 1, "R|C|E", HTTP_CALL_LOST, 0, "", 1},
    {"pooled, closed twice, GET", "GET", 1, "R|C|A|R|C|E", HTTP_CALL_LOST, 0, "", 2},
    {"pooled, closed in the head, GET", "GET", 1, "R|SH|C|E", HTTP_CALL_LOST, 0, "", 1},
    {"pooled, reset after an interim answer, GET", "GET", 1, "R|SHTTP/1.1 103 Early Hints\r\n\r\n|T|X|E",
     HTTP_CALL_LOST, 0, "", 1},
    {"pooled, server gone, GET", "GET", 1, "-Z|E", HTTP_CALL_NOT_SENT, 0, "", 0},
    {"pooled, server gone, POST", "POST", 1, "-Z|E", HTTP_CALL_NOT_SENT, 0, "", 0},
    {"pooled, silent, GET: not tried again", "GET", 1, "R|E", HTTP_CALL_TIMEOUT, 0, "", 1, 100, 0},
    {"pooled, unasked bytes before, POST", "POST", 1,
     "-S" OK200 "|A|R|SHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1|E", HTTP_CALL_OK, 200, "1", 1},
};

struct play {
    int fd, requests;
    struct buf in, req;
    struct got *g;
};

static void play_step(struct play *p, const char *s, size_t n)
{
    switch (*s) {
    case 'A':
        if (p->fd >= 0)
            close(p->fd);
        buf_clear(&p->in);
        p->fd = peer_accept(lfd);
        break;
    case 'R':
        peer_request(p->fd, &p->in, &p->req);
        p->requests++;
        break;
    case 'S': peer_send_n(p->fd, s + 1, n - 1); break;
    case 'C':
        close(p->fd);
        p->fd = -1;
        break;
    case 'X':
        peer_reset(p->fd);
        p->fd = -1;
        break;
    case 'H': shutdown(p->fd, SHUT_WR); break;
    case 'T': turns(4); break;
    case 'Z':
        close(lfd);
        lfd = -1;
        if (p->fd >= 0)
            peer_reset(p->fd);
        p->fd = -1;
        break;
    case 'E': TURN_UNTIL(p->g->dones); break;
    default: fail_msg("no such step: %s", s);
    }
}

static void play_outcome(const struct outcome *o)
{
    struct got g = {0};
    struct play p = {.fd = -1, .g = &g};
    const char *s = o->script;
    bool has_body = strcmp(o->method, "POST") == 0 || strcmp(o->method, "PUT") == 0;
    struct bytes *body = has_body ? bytes_new("body", 4) : NULL;

    setup(NULL);
    open_client(NULL);
    if (o->pooled)
        p.fd = warm_up();
    for (bool started = false; *s;) {
        bool before = *s == '-';
        size_t n;

        if (!before && !started) {
            g.call = http_call_new(client, o->method, "/x", &handlers, &g);
            http_call_timeout(g.call, o->silence_ms ? o->silence_ms : PATIENCE_MS, o->total_ms);
            http_call_start(g.call, has_body ? "text/plain" : NULL, body);
            assert_int_equal(g.heads + g.dones, 0);
            started = true;
        }
        s += before;
        n = strcspn(s, "|");
        play_step(&p, s, n);
        s += n + (s[n] == '|');
    }
    if (g.end != o->end || g.status != o->status || strcmp(buf_str(&g.body), o->body) != 0 ||
        p.requests != o->requests)
        fail_msg("%s: got %s (%s) status %d body \"%s\" after %d requests; want %s %d \"%s\" %d", o->name,
                 http_call_end_name(g.end), g.why, g.status, buf_str(&g.body), p.requests,
                 http_call_end_name(o->end), o->status, o->body, o->requests);
    assert_true((g.end == HTTP_CALL_OK) == (g.why[0] == '\0'));
    turns(4);
    if (lfd >= 0 && peer_has_caller(lfd) && strcmp(o->name, "not even accepted") != 0)
        fail_msg("%s: somebody called again", o->name);
    bytes_unref(body);
    if (p.fd >= 0)
        close(p.fd);
    buf_free(&p.in);
    buf_free(&p.req);
    teardown(NULL);
    got_fini(&g);
}

static void test_outcomes(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(outcomes); i++)
        play_outcome(&outcomes[i]);
}

/* A handshake that fails or does not end: no byte of the request was sent, whatever TLS has exchanged. */
static void test_tls_that_fails(void **state)
{
    struct err e;
    struct tls_client *tls = tls_client_new(NULL, false, &e);
    struct http_client_config cfg = {.tls = tls, .connect_ms = 100};
    char url[64];

    (void)state;
    assert_non_null(tls);
    snprintf(url, sizeof(url), "https://127.0.0.1:%u", port);
    assert_null(http_client_new(loop, url, NULL, &e));
    client = http_client_new(loop, url, &cfg, &e);
    assert_non_null(client);
    for (int how = 0; how < 4; how++) {
        struct got g = {0};
        struct buf in = BUF_INIT;
        int fd;

        start(&g, "POST", "/", "body");
        fd = peer_accept(lfd);
        peer_want(fd, &in, 1);
        if (how == 0)
            peer_send(fd, "HTTP/1.1 400 Bad Request\r\n\r\n");
        else if (how == 1)
            close(fd);
        else if (how == 2)
            peer_reset(fd);
        TURN_UNTIL(g.dones);
        if (g.end != HTTP_CALL_NOT_SENT)
            fail_msg("how %d: %s %s", how, http_call_end_name(g.end), g.why);
        assert_true(g.why[0] != '\0');
        if (how == 0 || how == 3)
            close(fd);
        buf_free(&in);
        got_fini(&g);
    }
    http_client_free(&client);
    turns(3);
    tls_client_free(&tls);
}

static void reset_it(void *arg)
{
    peer_reset(*(int *)arg);
}

/* Open, but reset before the first byte could be written: nothing of it was sent. */
static void test_reset_between_open_and_write(void **state)
{
    struct got g = {0};
    struct task t;
    int fd;

    (void)state;
    open_client(NULL);
    start(&g, "POST", "/", "body");
    loop_turn(loop, 0); /* connect() */
    fd = peer_accept(lfd);
    task_init(&t, reset_it, &fd);
    loop_defer(loop, &t); /* comes after "connected" and before "open" */
    TURN_UNTIL(g.dones);
    assert_int_equal(g.end, HTTP_CALL_NOT_SENT);
    assert_non_null(strstr(g.why, "before the request was sent"));
    got_fini(&g);
}

/* The same answers, cut in two at every byte and byte by byte, end the same. */
static void test_answers_cut_anywhere(void **state)
{
    static const char *const answers[] = {
        "HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nContent-Length: 11\r\n\r\nhello world",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Type: a/b\r\nTransfer-Encoding: "
        "chunked\r\n\r\n"
        "5\r\nhello\r\n6\r\n world\r\n0\r\nX: y\r\n\r\n",
    };

    (void)state;
    open_client(NULL);
    for (size_t a = 0; a < ARRAY_LEN(answers); a++) {
        int fd = warm_up();
        size_t len = strlen(answers[a]);

        for (size_t cut = 0; cut <= len; cut++) {
            struct got g = {0};
            struct buf in = BUF_INIT, req = BUF_INIT;

            start(&g, "GET", "/", NULL);
            peer_request(fd, &in, &req);
            if (cut == 0) {
                for (size_t i = 0; i < len; i++) {
                    peer_send_n(fd, answers[a] + i, 1);
                    loop_turn(loop, 0);
                }
            } else {
                peer_send_n(fd, answers[a], cut);
                turns(2);
                peer_send(fd, answers[a] + cut);
            }
            TURN_UNTIL(g.dones);
            assert_int_equal(g.end, HTTP_CALL_OK);
            assert_int_equal(g.heads, 1);
            assert_string_equal(g.type, "a/b");
            assert_string_equal(buf_str(&g.body), "hello world");
            got_fini(&g);
            buf_free(&in);
            buf_free(&req);
        }
        close(fd);
        turns(3);
    }
}

/* --- what is sent --- */

static void test_request_bytes(void **state)
{
    struct got g = {0};
    struct buf in = BUF_INIT, req = BUF_INIT;
    char want[400], url[80];
    struct err e;
    int fd;

    (void)state;
    snprintf(url, sizeof(url), "http://me:s3cret@127.0.0.1:%u/base/", port);
    client = http_client_new(loop, url, NULL, &e);
    assert_non_null(client);
    g.call = http_call_new(client, "POST", "/prompt?a=b", &handlers, &g);
    assert_int_equal(http_call_header(g.call, "X-One", "1"), 0);
    assert_int_equal(http_call_header(g.call, "X-Name", "na\xc3\xafve"), 0);
    /* Nothing that could end the field or the head gets in, nor what the client sets itself. */
    assert_int_equal(http_call_header(g.call, "X-Two", "2\r\nX-Evil: 1"), -1);
    assert_int_equal(http_call_header(g.call, "X-Two", "2\n"), -1);
    assert_int_equal(http_call_header(g.call, "X-Two\r\nX-Evil", "1"), -1);
    assert_int_equal(http_call_header(g.call, "X Two", "1"), -1);
    assert_int_equal(http_call_header(g.call, "", "1"), -1);
    assert_int_equal(http_call_header(g.call, "host", "evil"), -1);
    assert_int_equal(http_call_header(g.call, "Content-Length", "5"), -1);
    assert_int_equal(http_call_header(g.call, "Transfer-Encoding", "chunked"), -1);

    struct bytes *body = bytes_new("{}", 2);

    http_call_start(g.call, "application/json", body);
    bytes_unref(body);
    fd = peer_accept(lfd);
    peer_request(fd, &in, &req);
    snprintf(
        want, sizeof(want),
        "POST /base/prompt?a=b HTTP/1.1\r\nHost: 127.0.0.1:%u\r\nAccept-Encoding: identity\r\nX-One: 1\r\n"
        "X-Name: na\xc3\xafve\r\nContent-Type: application/json\r\nAuthorization: Basic bWU6czNjcmV0\r\n"
        "Content-Length: 2\r\n\r\n{}",
        port);
    assert_string_equal(buf_str(&req), want);
    http_call_cancel(&g.call);
    close(fd);
    buf_free(&in);
    buf_free(&req);
    got_fini(&g);
}

static void test_bad_targets_are_not_sent(void **state)
{
    static const struct {
        const char *method, *target, *type;
    } bad[] = {
        {"GET", "/a b", NULL},         {"GET", "/a\r\nX: y", NULL},
        {"GET", "no-slash", NULL},     {"GET", "", NULL},
        {"GET", "/caf\xc3\xa9", NULL}, {"GE T", "/", NULL},
        {"GET\r\n", "/", NULL},        {"", "/", NULL},
        {"POST", "/", "a/b\r\nX: y"},
    };

    (void)state;
    open_client(NULL);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct got g = {0};

        g.call = http_call_new(client, bad[i].method, bad[i].target, &handlers, &g);
        http_call_start(g.call, bad[i].type, NULL);
        assert_int_equal(g.dones, 0);
        TURN_UNTIL(g.dones);
        assert_int_equal(g.end, HTTP_CALL_NOT_SENT);
        assert_false(peer_has_caller(lfd));
        got_fini(&g);
    }
}

/* A streamed body, in every state of the connection, as length and as chunks; from memory, buffers and files.
 */
static void test_streamed_body(void **state)
{
    (void)state;
    open_client(NULL);
    for (int chunked = 0; chunked < 2; chunked++) {
        struct got g = {0};
        struct buf in = BUF_INIT, want = BUF_INIT;
        struct evbuffer *ev = evbuffer_new();
        FILE *f = tmpfile();
        struct err e;
        int fd;

        fputs("0123456789", f);
        fflush(f);
        g.call = http_call_new(client, "POST", "/up", &handlers, &g);
        http_call_start_stream(g.call, "a/b", chunked ? -1 : 24);
        http_call_write(g.call, "one", 3); /* before there is a connection */
        assert_int_equal(http_call_write_file(g.call, dup(fileno(f)), 2, 5, &e), 0);
        assert_true(http_call_queued(g.call) >= 8);
        fd = peer_accept(lfd);
        peer_want_text(fd, &in, "\r\n\r\n");
        http_call_write(g.call, "", 0);
        http_call_write(g.call, "two", 3);
        evbuffer_add(ev, "buffer", 6);
        http_call_write_buffer(g.call, ev);
        assert_int_equal(evbuffer_get_length(ev), 0);
        assert_int_equal(http_call_write_file(g.call, dup(fileno(f)), 3, 7, &e), 0);
        http_call_finish(g.call);
        peer_want_text(fd, &in, chunked ? "0\r\n\r\n" : "3456789");
        buf_printf(
            &want,
            "POST /up HTTP/1.1\r\nHost: 127.0.0.1:%u\r\nAccept-Encoding: identity\r\nContent-Type: a/b\r\n",
            port);
        if (chunked)
            buf_puts(&want,
                     "Transfer-Encoding: chunked\r\n\r\n3\r\none\r\n5\r\n23456\r\n3\r\ntwo\r\n6\r\nbuffer\r\n"
                     "7\r\n3456789\r\n0\r\n\r\n");
        else
            buf_puts(&want, "Content-Length: 24\r\n\r\none23456twobuffer3456789");
        assert_string_equal(buf_str(&in), buf_str(&want));
        peer_send(fd, OK200);
        TURN_UNTIL(g.dones);
        assert_int_equal(g.end, HTTP_CALL_OK);
        close(fd);
        fclose(f);
        evbuffer_free(ev);
        buf_free(&in);
        buf_free(&want);
        got_fini(&g);
        turns(3);
    }
}

static void test_drain_tells_when_to_go_on(void **state)
{
    struct got g = {0};
    struct buf in = BUF_INIT;
    char *piece = calloc(1, 65536);
    size_t sent = 0, total = 16u << 20;
    int fd, waits = 0;

    (void)state;
    open_client(NULL);
    g.call = http_call_new(client, "PUT", "/up", &handlers, &g);
    http_call_start_stream(g.call, NULL, (int64_t)total);
    fd = peer_accept(lfd);
    while (sent < total) {
        if (http_call_queued(g.call) < (512u << 10)) {
            http_call_write(g.call, piece, 65536);
            sent += 65536;
            continue;
        }
        int before = g.drains;

        waits++;
        while (g.drains == before) {
            bool eof = false;
            int err = 0;

            if (!peer_recv(fd, &in, &eof, &err))
                loop_turn(loop, 5);
            buf_clear(&in);
        }
        assert_true(http_call_queued(g.call) <= 65536);
    }
    assert_true(waits > 5);
    http_call_finish(g.call);
    http_call_cancel(&g.call);
    close(fd);
    free(piece);
    buf_free(&in);
}

/* --- the pool --- */

static void test_connection_is_used_again(void **state)
{
    struct buf in = BUF_INIT, req = BUF_INIT;
    int fd;

    (void)state;
    open_client(NULL);
    fd = warm_up();
    for (int i = 0; i < 5; i++) {
        struct got g = {0};

        start(&g, i % 2 ? "POST" : "GET", "/", i % 2 ? "x" : NULL);
        peer_request(fd, &in, &req);
        peer_send(fd, OK200);
        TURN_UNTIL(g.dones);
        got_fini(&g);
    }
    assert_false(peer_has_caller(lfd));
    close(fd);
    buf_free(&in);
    buf_free(&req);
}

/* ComfyUI closes after every 500. Nor is a connection used again after HTTP/1.0, surplus bytes, or an answer
 * that came before the request had left. */
static void test_connection_is_not_used_again(void **state)
{
    static const char *const answers[] = {
        "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
        "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" OK200,
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokx",
    };

    struct http_client_config cfg = {.idle_ms = 10 * PATIENCE_MS};

    (void)state;
    open_client(&cfg);
    for (size_t i = 0; i < ARRAY_LEN(answers); i++) {
        struct buf in = BUF_INIT, req = BUF_INIT;
        struct got g = {0};
        int fd;

        start(&g, "GET", "/", NULL);
        fd = peer_accept(lfd);
        peer_request(fd, &in, &req);
        peer_send(fd, answers[i]);
        TURN_UNTIL(g.dones);
        assert_int_equal(g.end, HTTP_CALL_OK);
        assert_string_equal(buf_str(&g.body), "ok");
        peer_want_end(fd, &in);
        close(fd);
        buf_free(&in);
        buf_free(&req);
        got_fini(&g);
    }
}

/* Nor when the answer was there before the request had left, even if the server would go on reading. */
static void test_early_answer_ends_the_connection(void **state)
{
    struct http_client_config cfg = {.idle_ms = 10 * PATIENCE_MS};
    struct bytes *big = bytes_alloc(30u << 20);

    (void)state;
    memset(big->data, 0, big->len);
    open_client(&cfg);
    for (int streamed = 0; streamed < 2; streamed++) {
        struct got g = {0};
        struct buf in = BUF_INIT;
        int fd;

        g.call = http_call_new(client, "POST", "/", &handlers, &g);
        if (streamed) {
            http_call_start_stream(g.call, NULL, 10);
            http_call_write(g.call, "12345", 5);
        } else {
            http_call_start(g.call, NULL, big);
        }
        fd = peer_accept(lfd);
        peer_want_text(fd, &in, "\r\n\r\n");
        peer_send(fd, OK200);
        TURN_UNTIL(g.dones);
        assert_int_equal(g.end, HTTP_CALL_OK);
        peer_want_end(fd, &in);
        close(fd);
        buf_free(&in);
        got_fini(&g);
    }
    bytes_unref(big);
}

static void test_idle_connections_end(void **state)
{
    (void)state;
    for (int by_time = 0; by_time < 2; by_time++) {
        struct http_client_config cfg = {.idle_ms = by_time ? 30 : 10 * PATIENCE_MS,
                                         .max_idle = by_time ? 9 : 1};
        struct got g[3] = {{0}};
        struct buf in = BUF_INIT, req = BUF_INIT;
        int fd[3];

        open_client(&cfg);
        for (int i = 0; i < 3; i++)
            start(&g[i], "GET", "/", NULL);
        for (int i = 0; i < 3; i++) {
            fd[i] = peer_accept(lfd);
            peer_request(fd[i], &in, &req);
            peer_send(fd[i], OK200);
        }
        TURN_UNTIL(g[0].dones && g[1].dones && g[2].dones);
        for (int i = 0; i < 3; i++) { /* all, or all but the one used last */
            if (by_time || i < 2)
                peer_want_end(fd[i], &in);
            close(fd[i]);
            got_fini(&g[i]);
        }
        buf_free(&in);
        buf_free(&req);
        http_client_free(&client);
        turns(3);
    }
}

static void test_calls_wait_in_order(void **state)
{
    struct http_client_config cfg = {.max_conns = 1};
    struct got g[7] = {{0}};
    struct buf in = BUF_INIT, req = BUF_INIT;
    char target[16];
    int fd;

    (void)state;
    open_client(&cfg);
    for (int i = 0; i < 6; i++) {
        snprintf(target, sizeof(target), "/%d", i);
        start(&g[i], "GET", target, NULL);
    }
    /* One more that gives up while it waits: it was not sent. */
    g[6].call = http_call_new(client, "POST", "/6", &handlers, &g[6]);
    http_call_timeout(g[6].call, 0, 30);
    http_call_start(g[6].call, NULL, NULL);
    fd = peer_accept(lfd);
    TURN_UNTIL(g[6].dones);
    assert_int_equal(g[6].end, HTTP_CALL_NOT_SENT);
    for (int i = 0; i < 6; i++) {
        peer_request(fd, &in, &req);
        snprintf(target, sizeof(target), "GET /%d ", i);
        assert_int_equal(strncmp(req.data, target, strlen(target)), 0);
        assert_int_equal(in.len, 0); /* never two at a time */
        if (i == 2) {                /* the next takes the place of one that broke */
            close(fd);
            fd = peer_accept(lfd);
            peer_request(fd, &in, &req); /* 2 once more, as it was on a used connection */
            peer_reset(fd);
            fd = peer_accept(lfd);
            TURN_UNTIL(g[2].dones);
            assert_int_equal(g[2].end, HTTP_CALL_LOST);
            continue;
        }
        peer_send(fd, OK200);
        TURN_UNTIL(g[i].dones);
        assert_int_equal(g[i].end, HTTP_CALL_OK);
    }
    assert_false(peer_has_caller(lfd));
    for (int i = 0; i < 7; i++)
        got_fini(&g[i]);
    close(fd);
    buf_free(&in);
    buf_free(&req);
}

/* --- early answers --- */

/* ComfyUI says 413 in the middle of an upload and closes: the answer must not be lost to the reset. */
static void test_early_answer(void **state)
{
    static const char answer[] =
        "HTTP/1.1 413 Request Entity Too Large\r\nContent-Length: 3\r\nConnection: close\r\n"
        "\r\nbig";

    (void)state;
    open_client(NULL);
    for (int how = 0; how < 4; how++) {
        struct got g = {0};
        struct buf in = BUF_INIT;
        char *piece = calloc(1, 1 << 20);
        int fd;

        g.call = http_call_new(client, "POST", "/upload/image", &handlers, &g);
        http_call_start_stream(g.call, "a/b", 100 << 20);
        fd = peer_accept(lfd);
        for (int i = 0; i < 8; i++)
            http_call_write(g.call, piece, 1 << 20);
        peer_want_text(fd, &in, "\r\n\r\n");
        peer_send(fd, answer);
        if (how == 1)
            close(fd); /* with unread input: a reset */
        else if (how == 2)
            shutdown(fd, SHUT_WR);
        else if (how == 3)
            turns(3);
        for (int i = 0; i < 8 && g.call; i++) /* the caller does not know yet */
            http_call_write(g.call, piece, 1 << 20);
        TURN_UNTIL(g.dones);
        if (g.end != HTTP_CALL_OK)
            fail_msg("how %d: %s %s", how, http_call_end_name(g.end), g.why);
        assert_int_equal(g.status, 413);
        assert_string_equal(buf_str(&g.body), "big");
        if (how != 1) {
            buf_clear(&in);
            peer_want_end(fd, &in);
            assert_true(in.len < (100u << 20));
            close(fd);
        }
        free(piece);
        buf_free(&in);
        got_fini(&g);
    }
}

/* --- bounds --- */

static void test_bounds(void **state)
{
    struct http_client_config cfg = {.head = 1000};
    struct buf big = BUF_INIT;

    (void)state;
    open_client(&cfg);
    for (int what = 0; what < 4; what++) {
        struct got g = {0};
        struct buf in = BUF_INIT, req = BUF_INIT;
        int fd;

        buf_clear(&big);
        if (what == 0) { /* one field too long */
            buf_puts(&big, "HTTP/1.1 200 OK\r\nA: ");
            for (int i = 0; i < 2000; i++)
                buf_putc(&big, 'a');
        } else if (what == 1) { /* no end of fields */
            buf_puts(&big, "HTTP/1.1 200 OK\r\n");
            for (int i = 0; i < 1000; i++)
                buf_puts(&big, "A:b\r\n");
        } else if (what == 2) { /* no end of interim answers */
            for (int i = 0; i < 1000; i++)
                buf_puts(&big, "HTTP/1.1 102 Processing\r\n\r\n");
        } else { /* no end of trailers */
            buf_puts(&big, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n");
            for (int i = 0; i < 1000; i++)
                buf_puts(&big, "A:b\r\n");
        }
        start(&g, "GET", "/", NULL);
        fd = peer_accept(lfd);
        peer_request(fd, &in, &req);
        peer_send(fd, buf_str(&big));
        TURN_UNTIL(g.dones);
        assert_int_equal(g.end, HTTP_CALL_BAD);
        close(fd);
        got_fini(&g);
        buf_free(&in);
        buf_free(&req);
    }
    buf_free(&big);
}

/* A reader that pauses holds the server back, wherever it pauses, and loses nothing. */
static void test_pause(void **state)
{
    size_t total = 30u << 20, sent = 0;
    char *piece = calloc(1, 65536);

    (void)state;
    open_client(NULL);
    for (int where = PAUSE_IN_HEAD; where <= PAUSE_IN_DATA; where++) {
        struct got g = {.act = where, .count_only = true};
        struct buf in = BUF_INIT, req = BUF_INIT;
        char head[100];
        int fd, stalls = 0;

        start(&g, "GET", "/", NULL);
        fd = peer_accept(lfd);
        peer_request(fd, &in, &req);
        snprintf(head, sizeof(head), "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", total);
        peer_send(fd, head);
        sent = 0;
        for (int idle = 0; idle < 20;) { /* until nothing moves any more */
            ssize_t n = send(fd, piece, total - sent < 65536 ? total - sent : 65536, MSG_NOSIGNAL);

            idle = n > 0 ? 0 : idle + 1;
            if (n > 0)
                sent += (size_t)n;
            loop_turn(loop, 1);
            if (sent == total)
                break;
        }
        assert_true(sent < total); /* the kernel's buffers and ours: some MB */
        assert_int_equal(g.heads, 1);
        assert_true(g.body_len <= 65536);
        held_most = held;

        while (sent < total || g.body_len < total) {
            ssize_t n =
                sent < total ? send(fd, piece, total - sent < 65536 ? total - sent : 65536, MSG_NOSIGNAL) : 0;
            size_t had = g.body_len;

            if (n > 0)
                sent += (size_t)n;
            loop_turn(loop, 1);
            if (g.body_len == had && g.call) {
                stalls++;
                http_call_resume(g.call);
            }
            assert_true(stalls < 100000);
        }
        assert_true(held_most < (1u << 20));
        if (g.call)
            http_call_resume(g.call);
        TURN_UNTIL(g.dones);
        assert_int_equal(g.end, HTTP_CALL_OK);
        assert_int_equal(g.body_len, total);
        close(fd);
        got_fini(&g);
        buf_free(&in);
        buf_free(&req);
        turns(3);
    }
    free(piece);
}

/* on_done does not pass a pause, also when the whole answer and the end of the connection are here already.
 */
static void test_no_end_while_paused(void **state)
{
    static const char *const answers[] = {OK200, "HTTP/1.1 200 OK\r\n\r\nok"};

    (void)state;
    open_client(NULL);
    for (size_t i = 0; i < 4; i++) {
        struct got g = {.act = i % 2 ? PAUSE_IN_DATA : PAUSE_IN_HEAD};
        struct buf in = BUF_INIT, req = BUF_INIT;
        int fd;

        start(&g, "GET", "/", NULL);
        fd = peer_accept(lfd);
        peer_request(fd, &in, &req);
        peer_send(fd, answers[i / 2]);
        close(fd);
        TURN_UNTIL(g.heads && (g.act == PAUSE_IN_HEAD || g.body_len));
        turns(10);
        assert_int_equal(g.dones, 0);
        assert_int_equal(g.body_len, g.act == PAUSE_IN_HEAD ? 0 : 2);
        g.act = DO_NOTHING;
        http_call_resume(g.call);
        assert_int_equal(g.dones, 0);
        TURN_UNTIL(g.dones);
        assert_int_equal(g.end, HTTP_CALL_OK);
        assert_string_equal(buf_str(&g.body), "ok");
        got_fini(&g);
        buf_free(&in);
        buf_free(&req);
    }
}

/* A server that reads slowly is not silent, nor is one that waits for the rest of our body, nor one whose
 * answer we do not take. */
static void test_silence_is_the_servers(void **state)
{
    struct got g = {0};
    struct buf in = BUF_INIT;
    int64_t until;
    int fd;

    (void)state;
    open_client(NULL);
    g.call = http_call_new(client, "POST", "/", &handlers, &g);
    http_call_timeout(g.call, 60, 0);
    http_call_start_stream(g.call, NULL, 10);
    http_call_write(g.call, "hello", 5);
    fd = peer_accept(lfd);
    peer_want_text(fd, &in, "hello");
    until = loop_now(loop) + 200;
    while (loop_now(loop) < until)
        loop_turn(loop, 20);
    assert_int_equal(g.dones, 0);
    http_call_write(g.call, "world", 5);
    http_call_finish(g.call);
    peer_want_text(fd, &in, "world");
    http_call_pause(g.call);
    until = loop_now(loop) + 200;
    while (loop_now(loop) < until)
        loop_turn(loop, 20);
    assert_int_equal(g.dones, 0);
    http_call_resume(g.call);
    TURN_UNTIL(g.dones); /* and now it is */
    assert_int_equal(g.end, HTTP_CALL_TIMEOUT);
    close(fd);
    buf_free(&in);
    got_fini(&g);
}

/* --- cancel, and the client's end, at every phase --- */

enum phase { WAITING, CONNECTING, CHECKING, SENT, IN_HEAD, IN_DATA, ENDED, IN_DONE, PHASES };

static void test_end_at_every_phase(bool whole_client)
{
    for (int phase = 0; phase < PHASES; phase++) {
        struct http_client_config cfg = {.max_conns = 1};
        struct got g = {0}, first = {0};
        struct buf in = BUF_INIT, req = BUF_INIT;
        int fd = -1;
        bool told;

        setup(NULL);
        open_client(&cfg);
        if (phase == WAITING)
            start(&first, "GET", "/first", NULL);
        else if (phase == CHECKING)
            fd = warm_up();
        g.act = phase == IN_HEAD   ? (whole_client ? FREE_IN_HEAD : CANCEL_IN_HEAD)
                : phase == IN_DATA ? (whole_client ? FREE_IN_DATA : CANCEL_IN_DATA)
                : phase == IN_DONE ? (whole_client ? FREE_IN_DONE : CANCEL_IN_DONE)
                                   : DO_NOTHING;
        start(&g, "POST", "/second", "body");
        if (phase >= SENT) {
            fd = peer_accept(lfd);
            peer_request(fd, &in, &req);
        }
        if (phase >= IN_HEAD)
            peer_send(fd, OK200);
        if (phase == IN_HEAD || phase == IN_DATA)
            TURN_UNTIL(g.heads && (g.act == 0 || g.call == NULL || !client));
        if (phase == ENDED) { /* whole, but on_done is still due: it is at the end of the turn */
            for (int i = 0; i < 200 && !g.body_len; i++)
                loop_turn(loop, 5);
        }
        if (phase == IN_DONE)
            TURN_UNTIL(g.dones);
        if (whole_client) {
            http_client_free(&client);
            told = true;
        } else {
            http_call_cancel(&g.call);
            told = phase == IN_DONE || (phase == ENDED && g.dones);
        }
        assert_int_equal(g.dones, told);
        if (told && phase < ENDED)
            assert_int_equal(g.end, HTTP_CALL_CANCELED);
        turns(6);
        assert_int_equal(g.dones, told);
        if (phase == CHECKING && !whole_client) { /* nothing was written: the connection is still good */
            struct got next = {0};

            start(&next, "GET", "/third", NULL);
            peer_request(fd, &in, &req);
            assert_int_equal(strncmp(req.data, "GET /third ", 11), 0);
            peer_send(fd, OK200);
            TURN_UNTIL(next.dones);
            assert_int_equal(next.end, HTTP_CALL_OK);
            got_fini(&next);
        } else if (fd >= 0 && phase < ENDED) {
            peer_want_end(fd, &in);
        }
        http_call_cancel(&first.call);
        if (fd >= 0)
            close(fd);
        buf_free(&in);
        buf_free(&req);
        teardown(NULL);
        got_fini(&g);
        got_fini(&first);
    }
}

static void test_cancel_at_every_phase(void **state)
{
    (void)state;
    test_end_at_every_phase(false);
}

static void test_free_at_every_phase(void **state)
{
    (void)state;
    test_end_at_every_phase(true);
}

static void test_call_that_was_never_started(void **state)
{
    struct got g = {0}, k = {0};

    (void)state;
    open_client(NULL);
    g.call = http_call_new(client, "GET", "/", &handlers, &g);
    http_call_cancel(&g.call);
    k.call = http_call_new(client, "GET", "/", &handlers, &k);
    http_client_free(&client);
    assert_int_equal(k.dones, 0);
    http_call_start(k.call, NULL, NULL);
    TURN_UNTIL(k.dones);
    assert_int_equal(k.end, HTTP_CALL_CANCELED);
    assert_int_equal(g.dones, 0);
}

/* --- fetch --- */

struct fetched {
    int n, status;
    enum http_call_end end;
    struct bytes *body;
    bool headers;
};

static void on_fetched(const struct http_answer *a, void *arg)
{
    struct fetched *f = arg;

    f->n++;
    f->status = a->status;
    f->end = a->end;
    f->body = bytes_ref(a->body);
    f->headers = a->headers && http_headers_get(a->headers, "X-A") != NULL;
    if (f->end == HTTP_CALL_OK)
        assert_non_null(a->body);
}

static void test_fetch(void **state)
{
    static const struct {
        const char *answer;
        enum http_call_end end;
        int status;
        const char *body;
    } rows[] = {
        {"HTTP/1.1 200 OK\r\nX-A: b\r\nContent-Length: 5\r\n\r\nhello", HTTP_CALL_OK, 200, "hello"},
        {"HTTP/1.1 200 OK\r\nX-A: b\r\nContent-Length: 0\r\n\r\n", HTTP_CALL_OK, 200, ""},
        {"HTTP/1.1 404 Not Found\r\nX-A: b\r\nTransfer-Encoding: "
         "chunked\r\n\r\n3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n",
         HTTP_CALL_OK, 404, "abcdef"},
        {"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", HTTP_CALL_BAD, 200, NULL},
        {"HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775807\r\n\r\n", HTTP_CALL_BAD, 200, NULL},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n12345678\r\n1\r\n9\r\n", HTTP_CALL_BAD,
         200, NULL},
    };

    (void)state;
    open_client(NULL);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct fetched f = {0};
        struct buf in = BUF_INIT, req = BUF_INIT;
        int fd;

        http_fetch(client, "GET", "/", NULL, NULL, 8, PATIENCE_MS, on_fetched, &f);
        fd = peer_accept(lfd);
        peer_request(fd, &in, &req);
        peer_send(fd, rows[i].answer);
        TURN_UNTIL(f.n);
        assert_int_equal(f.end, rows[i].end);
        assert_int_equal(f.status, rows[i].status);
        if (rows[i].body) {
            assert_string_equal(f.body->data, rows[i].body);
            assert_true(f.headers);
        } else {
            assert_null(f.body);
        }
        bytes_unref(f.body);
        close(fd);
        turns(3);
        buf_free(&in);
        buf_free(&req);
    }

    struct fetched f = {0};
    struct http_call *call = http_fetch(client, "GET", "/", NULL, NULL, 8, 0, on_fetched, &f);

    turns(3);
    http_call_cancel(&call);
    turns(3);
    assert_int_equal(f.n, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_outcomes),
        cmocka_unit_test_setup_teardown(test_tls_that_fails, setup, teardown),
        cmocka_unit_test_setup_teardown(test_reset_between_open_and_write, setup, teardown),
        cmocka_unit_test_setup_teardown(test_answers_cut_anywhere, setup, teardown),
        cmocka_unit_test_setup_teardown(test_request_bytes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bad_targets_are_not_sent, setup, teardown),
        cmocka_unit_test_setup_teardown(test_streamed_body, setup, teardown),
        cmocka_unit_test_setup_teardown(test_drain_tells_when_to_go_on, setup, teardown),
        cmocka_unit_test_setup_teardown(test_connection_is_used_again, setup, teardown),
        cmocka_unit_test_setup_teardown(test_connection_is_not_used_again, setup, teardown),
        cmocka_unit_test_setup_teardown(test_early_answer_ends_the_connection, setup, teardown),
        cmocka_unit_test_setup_teardown(test_idle_connections_end, setup, teardown),
        cmocka_unit_test_setup_teardown(test_calls_wait_in_order, setup, teardown),
        cmocka_unit_test_setup_teardown(test_early_answer, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bounds, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pause, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_end_while_paused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_silence_is_the_servers, setup, teardown),
        cmocka_unit_test(test_cancel_at_every_phase),
        cmocka_unit_test(test_free_at_every_phase),
        cmocka_unit_test_setup_teardown(test_call_that_was_never_started, setup, teardown),
        cmocka_unit_test_setup_teardown(test_fetch, setup, teardown),
    };

    held_watch();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
