#include "http/client.h"

#include <event2/buffer.h>

#include "http/pass_rig_test.h"

/* --- heads --- */

static void test_request_fields(void **state)
{
    static const char *const drop[] = {"Origin", "x-secret", NULL};
    struct buf in = BUF_INIT, req = BUF_INIT;
    struct http_headers extra;
    char host[40];
    int down, up;

    (void)state;
    http_headers_init(&extra);
    http_headers_add(&extra, "X-Forwarded-For", "10.0.0.1");
    opt.drop = drop;
    opt.extra = &extra;
    opt.target = "/other?x=1";
    down = peer_connect(gate_port);
    peer_send(down,
              "POST /path?q HTTP/1.1\r\nHost: gateway.example\r\nConnection: keep-alive, X-Listed\r\n"
              "Keep-Alive: timeout=5\r\nProxy-Connection: x\r\nProxy-Authorization: x\r\nTE: trailers\r\n"
              "Trailer: x\r\nUpgrade: h2c\r\nx-listed: x\r\nExpect: 100-continue\r\nAccept-Encoding: br\r\n"
              "Origin: http://x\r\nX-Secret: x\r\nContent-Type: a/b\r\nCookie: a=b\r\nX-Raw: \xc3\xa4\r\n"
              "Content-Length: 4\r\n\r\n");
    peer_want_text(down, &in, "HTTP/1.1 100 Continue\r\n\r\n"); /* ours: the server never hears of it */
    peer_send(down, "body");
    up = peer_accept(lfd);
    buf_clear(&in);
    peer_request(up, &in, &req);
    snprintf(host, sizeof(host), "\r\nHost: 127.0.0.1:%u\r\n", up_port);
    assert_int_equal(strncmp(req.data, "POST /other?x=1 HTTP/1.1\r\n", 26), 0);
    assert_true(has(&req, host));
    assert_true(has(&req, "\r\nAccept-Encoding: identity\r\n"));
    assert_true(has(&req, "\r\nContent-Type: a/b\r\n"));
    assert_true(has(&req, "\r\nCookie: a=b\r\n"));
    assert_true(has(&req, "\r\nX-Raw: \xc3\xa4\r\n"));
    assert_true(has(&req, "\r\nContent-Length: 4\r\n"));
    assert_true(has(&req, "\r\nX-Forwarded-For: 10.0.0.1\r\n"));
    assert_true(has(&req, "\r\n\r\nbody"));
    for (size_t i = 0; i < 14; i++) {
        static const char *const gone[] = {
            "gateway.example", "\r\nConnection", "Keep-Alive", "Proxy-", "\r\nTE:", "Trailer", "\r\nUpgrade",
            "Listed",          "Expect",         "br\r\n",     "Origin", "Secret",  "chunked", "/path"};

        if (has(&req, gone[i]))
            fail_msg("%s was passed on:\n%s", gone[i], buf_str(&req));
    }
    close(up);
    close(down);
    http_headers_fini(&extra);
    buf_free(&in);
    buf_free(&req);
}

struct exchange {
    const char *request;
    const char *answer; /* of the server; it closes afterwards if it says so */
    bool closes;
    const char *want; /* what the client gets, without Date and Connection */
    bool cut;         /* and then the connection ends */
};

static const struct exchange exchanges[] = {
    {"GET /a HTTP/1.1\r\nHost: x\r\n\r\n",
     "HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nContent-Length: 5\r\nConnection: keep-alive, "
     "X-Own\r\nKeep-Alive: 1\r\n"
     "X-Own: 1\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nServer: s\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
     "Content-Disposition: filename=\"\xc3\xa4.png\"\r\n\r\nhello",
     false,
     "HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nServer: s\r\n"
     "Content-Disposition: filename=\"\xc3\xa4.png\"\r\nContent-Length: 5\r\n\r\nhello",
     false},
    {"GET /chunked HTTP/1.1\r\nHost: x\r\n\r\n",
     "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: T\r\n\r\n3\r\nabc\r\n0\r\nT: v\r\n\r\n",
     false, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", false},
    {"GET /until-close HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\nabc", true,
     "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", false},
    {"GET /old HTTP/1.0\r\nHost: x\r\n\r\n",
     "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", false,
     "HTTP/1.1 200 OK\r\n\r\nabc", true},
    {"HEAD /h HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 77\r\n\r\n", false,
     "HTTP/1.1 200 OK\r\nContent-Length: 77\r\n\r\n", false},
    {"GET /304 HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n", false,
     "HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n", false},
    {"DELETE /204 HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 204 No Content\r\n\r\n", false,
     "HTTP/1.1 204 No Content\r\n\r\n", false},
    {"GET /206 HTTP/1.1\r\nHost: x\r\nRange: bytes=1-2\r\n\r\n",
     "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 1-2/9\r\nContent-Length: 2\r\n\r\nbc", false,
     "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 1-2/9\r\nContent-Length: 2\r\n\r\nbc", false},
    {"POST /500 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
     "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno", true,
     "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 2\r\n\r\nno", false},
    {"GET /interim HTTP/1.1\r\nHost: x\r\n\r\n",
     "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", false,
     "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", false},
    /* An answer that breaks off is not completed by us. */
    {"GET /short HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", true,
     "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", true},
    {"GET /short-chunks HTTP/1.1\r\nHost: x\r\n\r\n",
     "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", true,
     "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", true},
    {"GET /bad-chunks HTTP/1.1\r\nHost: x\r\n\r\n",
     "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nxyz\r\n", false,
     "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", true},
    /* Nothing that can be relayed. */
    {"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n", "", true, "HTTP/1.1 502 Bad Gateway\r\n", false},
    {"GET /garbage HTTP/1.1\r\nHost: x\r\n\r\n", "garbage\r\n\r\n", false, "HTTP/1.1 502 Bad Gateway\r\n",
     false},
    {"GET /split HTTP/1.1\r\nHost: x\r\n\r\n",
     "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", false,
     "HTTP/1.1 502 Bad Gateway\r\n", false},
};

/* Take out a field that may or may not be there. */
static void without(struct buf *b, const char *name)
{
    char *at, *end;

    while ((at = strcasestr(buf_str(b), name)) != NULL) {
        end = strstr(at + 2, "\r\n");
        memmove(at, end, (size_t)(b->data + b->len + 1 - end));
        b->len -= (size_t)(end - at);
    }
}

static void test_exchanges(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(exchanges); i++) {
        const struct exchange *x = &exchanges[i];
        struct buf in = BUF_INIT, req = BUF_INIT, got = BUF_INIT;
        int down, up;

        setup(NULL);
        down = peer_connect(gate_port);
        peer_send(down, x->request);
        up = peer_accept(lfd);
        peer_request(up, &in, &req);
        peer_send(up, x->answer);
        if (x->closes) {
            close(up);
            up = -1;
        }
        peer_want_text(down, &got, "\r\n\r\n");
        if (x->cut) {
            peer_want_end(down, &got);
        } else {
            int64_t until = loop_now(loop) + 300;

            for (;;) { /* all of it, and nothing more */
                bool eof = false;
                int err = 0;
                struct buf copy = BUF_INIT;

                buf_put(&copy, got.data, got.len);
                without(&copy, "\r\nDate:");
                without(&copy, "\r\nConnection:");
                bool done = copy.len >= strlen(x->want);

                buf_free(&copy);
                if (done || loop_now(loop) > until)
                    break;
                peer_recv(down, &got, &eof, &err);
                loop_turn(loop, 1);
            }
        }
        turns(3);
        without(&got, "\r\nDate:");
        without(&got, "\r\nConnection:");
        size_t n = strlen(x->want);
        bool prefix = strstr(x->want, " 502 ") != NULL;

        if (strncmp(buf_str(&got), x->want, n) != 0 || (!prefix && got.len != n))
            fail_msg("%s: got\n%s\nwant\n%s", x->request, buf_str(&got), x->want);
        close(down);
        if (up >= 0)
            close(up);
        buf_free(&in);
        buf_free(&req);
        buf_free(&got);
        teardown(NULL);
    }
}

static void test_keep_alive_on_both_sides(void **state)
{
    struct buf in = BUF_INIT, req = BUF_INIT, got = BUF_INIT;
    int down = peer_connect(gate_port), up = -1;

    (void)state;
    for (int i = 0; i < 4; i++) {
        peer_send(
            down,
            i % 2 ? "POST /p HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
                  : "GET /g HTTP/1.1\r\nHost: x\r\n\r\n");
        if (up < 0)
            up = peer_accept(lfd);
        if (i % 2) {
            peer_want_text(up, &in, "3\r\nabc\r\n0\r\n\r\n");
            assert_true(has(&in, "\r\nTransfer-Encoding: chunked\r\n"));
            buf_clear(&in);
        } else {
            peer_request(up, &in, &req);
        }
        peer_send(up, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        peer_want_text(down, &got, "\r\n\r\nok");
        buf_clear(&got);
    }
    assert_int_equal(requests, 4);
    assert_false(peer_has_caller(lfd));
    close(up);
    close(down);
    buf_free(&in);
    buf_free(&req);
    buf_free(&got);
}

/* --- large bodies --- */

enum { BIG = 50 * 1024 * 1024 };

static void fill(char *p, size_t at, size_t n)
{
    for (size_t i = 0; i < n; i++)
        p[i] = (char)((at + i) * 7 + ((at + i) >> 9));
}

/* Moves BIG bytes from one raw socket to another through the gateway; first the receiver stands still until
 * the sender is held back. head: bytes before the body at the receiver. */
static void pump(int from, int to, size_t head)
{
    static char piece[65536], want[65536];
    size_t sent = 0, got = 0;
    int idle = 0;
    struct buf in = BUF_INIT;
    int64_t limit = loop_now(loop) + PATIENCE_MS;

    held_most = held;
    while (got < head + BIG) {
        size_t n = BIG - sent < sizeof(piece) ? BIG - sent : sizeof(piece);
        ssize_t k = 0;
        bool eof = false;
        int err = 0;

        fill(piece, sent, n);
        if (n > 0)
            k = send(from, piece, n, MSG_NOSIGNAL);
        if (k > 0)
            sent += (size_t)k;
        idle = k > 0 && idle < 20 ? 0 : idle + 1;
        if (idle < 20) { /* the receiver does not read yet */
            loop_turn(loop, k > 0 ? 0 : 1);
            assert_true(sent < BIG); /* or it was not held back */
            continue;
        }
        if (peer_recv(to, &in, &eof, &err)) {
            size_t skip = got < head ? head - got : 0;

            if (skip > in.len)
                skip = in.len;
            fill(want, got + skip - head, in.len - skip);
            assert_memory_equal(in.data + skip, want, in.len - skip);
            got += in.len;
            buf_clear(&in);
        } else if (eof || err) {
            fail_msg("ended after %zu of %zu bytes", got, head + (size_t)BIG);
        }
        loop_turn(loop, 0);
        assert_true(loop_now(loop) < limit);
    }
    assert_true(held_most < (3u << 20));
    buf_free(&in);
}

static void test_large_upload(void **state)
{
    struct buf in = BUF_INIT;
    int down = peer_connect(gate_port), up;

    (void)state;
    peer_send(down, "POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 52428800\r\n\r\n");
    up = peer_accept(lfd);
    peer_want_text(up, &in, "\r\n\r\n");
    pump(down, up, 0);
    peer_send(up, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    buf_clear(&in);
    peer_want_text(down, &in, "\r\n\r\nok");
    close(up);
    close(down);
    buf_free(&in);
}

static void test_large_download(void **state)
{
    struct buf in = BUF_INIT, req = BUF_INIT;
    int down = peer_connect(gate_port), up;

    (void)state;
    peer_send(down, "GET /view HTTP/1.1\r\nHost: x\r\n\r\n");
    up = peer_accept(lfd);
    peer_request(up, &in, &req);
    peer_send(up, "HTTP/1.1 200 OK\r\nContent-Length: 52428800\r\n\r\n");
    peer_want_text(down, &in, "\r\n\r\n");
    pump(up, down, 0);
    close(up);
    close(down);
    buf_free(&in);
    buf_free(&req);
}

/* --- ends --- */

static void test_early_answer(void **state)
{
    (void)state;
    for (int closes = 0; closes < 2; closes++) {
        struct buf in = BUF_INIT;
        char *piece = calloc(1, 1 << 20);
        int down = peer_connect(gate_port), up;

        peer_send(down, "POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 52428800\r\n\r\n");
        up = peer_accept(lfd);
        peer_want_text(up, &in, "\r\n\r\n");
        peer_send_n(down, piece, 1 << 20);
        peer_send(
            up, "HTTP/1.1 413 Request Entity Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig");
        if (closes)
            close(up);
        buf_clear(&in);
        peer_want_text(down, &in, "\r\n\r\nbig");
        assert_true(has(&in, "HTTP/1.1 413 "));
        assert_true(has(&in, "\r\nConnection: close\r\n")); /* the rest of the body is not waited for */
        if (!closes) {
            peer_want_end(up, &in);
            close(up);
        }
        close(down);
        free(piece);
        buf_free(&in);
        turns(3);
    }
}

static void test_client_gives_up(void **state)
{
    (void)state;
    for (int phase = 0; phase < 4; phase++) {
        for (int reset = 0; reset < 2; reset++) {
            struct buf in = BUF_INIT;
            int down = peer_connect(gate_port), up;

            if (phase == 0)
                peer_send(down, "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nhalf");
            else
                peer_send(down, "GET /b HTTP/1.1\r\nHost: x\r\n\r\n");
            up = peer_accept(lfd);
            peer_want_text(up, &in, phase == 0 ? "half" : "\r\n\r\n");
            if (phase >= 2) {
                peer_send(up, phase == 2 ? "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf"
                                         : "HTTP/1.1 200 OK\r\n\r\nhalf");
                buf_clear(&in);
                peer_want_text(down, &in, "half");
            }
            if (reset)
                peer_reset(down);
            else
                close(down);
            buf_clear(&in);
            peer_want_end(up, &in); /* the server need not go on */
            close(up);
            buf_free(&in);
            turns(3);
        }
    }
}

static void on_unreachable(struct http_req *req, const char *why, void *arg)
{
    assert_ptr_equal(arg, &unreachable);
    assert_true(why[0] != '\0');
    unreachable++;
    given_back = req;
}

static void test_unreachable(void **state)
{
    static const char *const asked[] = {
        "GET /a HTTP/1.1\r\nHost: x\r\n\r\n",
        "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody",
        "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nhalf",
        "POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    };

    (void)state;
    close(lfd);
    lfd = -1;
    for (int own = 0; own < 2; own++) {
        opt.on_unreachable = own ? on_unreachable : NULL;
        opt.arg = &unreachable;
        for (size_t i = 0; i < ARRAY_LEN(asked); i++) {
            struct buf in = BUF_INIT;
            int down = peer_connect(gate_port);

            peer_send(down, asked[i]);
            if (own) { /* answered later, while the body goes on */
                TURN_UNTIL(given_back);
                peer_send(down, "4\r\nmore\r\n");
                turns(5);
                http_reply_str(given_back, 503, "text/plain", "nobody there");
                given_back = NULL;
            }
            peer_want_text(down, &in, own ? "\r\n\r\nnobody there" : "refused");
            assert_true(has(&in, own ? "HTTP/1.1 503 " : "HTTP/1.1 502 Bad Gateway\r\n"));
            peer_send(down, "more of the body, perhaps");
            turns(5);
            close(down);
            turns(5);
            buf_free(&in);
        }
    }
    assert_int_equal(unreachable, 4);
}

/* The gateway's parts go away in the middle. */
static void test_parts_go_away(void **state)
{
    (void)state;
    for (int what = 0; what < 2; what++) {
        for (int started = 0; started < 2; started++) {
            struct buf in = BUF_INIT;
            int down, up;

            setup(NULL);
            down = peer_connect(gate_port);
            peer_send(down, "GET /a HTTP/1.1\r\nHost: x\r\n\r\n");
            up = peer_accept(lfd);
            peer_want_text(up, &in, "\r\n\r\n");
            buf_clear(&in);
            if (started) {
                peer_send(up, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf");
                peer_want_text(down, &in, "half");
            }
            buf_clear(&in);
            if (what == 0) {
                http_client_free(&client);
                if (!started)
                    peer_want_text(down, &in, "HTTP/1.1 502 ");
                else
                    peer_want_end(down, &in);
            } else {
                http_server_free(&gate);
                peer_want_end(down, &in);
            }
            peer_want_end(up, &in);
            close(up);
            close(down);
            buf_free(&in);
            teardown(NULL);
        }
    }
}

/* --- upgrades --- */

static const char upgrade[] =
    "GET /ws?clientId=1 HTTP/1.1\r\nHost: gateway\r\nUpgrade: websocket\r\n"
    "Connection: keep-alive, Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n";
static const char switched[] =
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
    "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/* early: bytes that come together with the heads, on both sides. */
static void open_splice(int *down, int *up, const char *early_down, const char *early_up)
{
    struct buf in = BUF_INIT, req = BUF_INIT, b = BUF_INIT;

    *down = peer_connect(gate_port);
    buf_puts(&b, upgrade);
    buf_puts(&b, early_down);
    peer_send(*down, buf_str(&b));
    *up = peer_accept(lfd);
    peer_request(*up, &in, &req);
    assert_true(has(&req, "GET /ws?clientId=1 HTTP/1.1\r\n"));
    assert_true(has(&req, "\r\nConnection: Upgrade\r\n"));
    assert_true(has(&req, "\r\nUpgrade: websocket\r\n"));
    assert_true(has(&req, "\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"));
    assert_true(has(&req, "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n"));
    assert_int_equal(in.len, 0); /* nothing before the switch */
    buf_clear(&b);
    buf_puts(&b, switched);
    buf_puts(&b, early_up);
    peer_send(*up, buf_str(&b));
    size_t head = peer_want_text(*down, &in, "\r\n\r\n");

    assert_true(has(&in, "HTTP/1.1 101 "));
    assert_true(has(&in, "\r\nUpgrade: websocket\r\n"));
    assert_true(has(&in, "\r\nConnection: Upgrade\r\n"));
    assert_true(has(&in, "\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
    peer_want(*down, &in, head + strlen(early_up));
    assert_int_equal(in.len, head + strlen(early_up));
    assert_memory_equal(in.data + head, early_up, strlen(early_up));
    buf_clear(&in);
    peer_want(*up, &in, strlen(early_down));
    assert_memory_equal(buf_str(&in), early_down, strlen(early_down));
    buf_free(&in);
    buf_free(&req);
    buf_free(&b);
}

static void test_splice(void **state)
{
    struct buf in = BUF_INIT;
    int down, up;

    (void)state;
    open_splice(&down, &up, "", "");
    peer_send(down, "ping");
    peer_want_text(up, &in, "ping");
    peer_send(up, "pong");
    peer_want_text(down, &in, "pong");
    /* Both directions in bulk, each held back by a reader that stands still. */
    pump(down, up, 0);
    pump(up, down, 0);
    /* Half close: the other direction goes on. */
    peer_send(down, "last");
    shutdown(down, SHUT_WR);
    buf_clear(&in);
    assert_int_equal(peer_want_end(up, &in), 0);
    assert_string_equal(buf_str(&in), "last");
    peer_send(up, "answer");
    buf_clear(&in);
    peer_want_text(down, &in, "answer");
    close(up);
    assert_int_equal(peer_want_end(down, &in), 0);
    close(down);
    turns(4);

    open_splice(&down, &up, "early down", "early up");
    peer_reset(up);
    peer_want_end(down, &in);
    close(down);
    turns(4);

    open_splice(&down, &up, "", "early up");
    peer_reset(down);
    peer_want_end(up, &in);
    close(up);
    turns(4);

    /* The server ends right behind its head. */
    down = peer_connect(gate_port);
    peer_send(down, upgrade);
    up = peer_accept(lfd);
    buf_clear(&in);
    peer_want_text(up, &in, "\r\n\r\n");
    peer_send(up, switched);
    peer_send(up, "bye");
    shutdown(up, SHUT_WR);
    buf_clear(&in);
    assert_int_equal(peer_want_end(down, &in), 0);
    assert_non_null(strstr(buf_str(&in), "\r\n\r\nbye"));
    close(down);
    buf_clear(&in);
    peer_want_end(up, &in);
    close(up);
    turns(4);

    open_splice(&down, &up, "", ""); /* left open: ends with the client */
    http_client_free(&client);
    peer_want_end(up, &in);
    peer_want_end(down, &in);
    close(up);
    close(down);
    buf_free(&in);
}

static void test_upgrade_refused(void **state)
{
    struct buf in = BUF_INIT, req = BUF_INIT;
    int down = peer_connect(gate_port), up;

    (void)state;
    peer_send(down, upgrade);
    up = peer_accept(lfd);
    peer_request(up, &in, &req);
    peer_send(up, "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno");
    peer_want_text(down, &in, "\r\n\r\nno");
    assert_true(has(&in, "HTTP/1.1 403 "));
    close(up);
    close(down);
    turns(4);
    /* 101 to somebody who did not ask is no answer. */
    down = peer_connect(gate_port);
    peer_send(down, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    up = peer_accept(lfd);
    buf_clear(&in);
    peer_request(up, &in, &req);
    peer_send(up, switched);
    peer_want_text(down, &in, "HTTP/1.1 502 ");
    close(up);
    close(down);
    buf_free(&in);
    buf_free(&req);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_request_fields, setup, teardown),
        cmocka_unit_test(test_exchanges),
        cmocka_unit_test_setup_teardown(test_keep_alive_on_both_sides, setup, teardown),
        cmocka_unit_test_setup_teardown(test_large_upload, setup, teardown),
        cmocka_unit_test_setup_teardown(test_large_download, setup, teardown),
        cmocka_unit_test_setup_teardown(test_early_answer, setup, teardown),
        cmocka_unit_test_setup_teardown(test_client_gives_up, setup, teardown),
        cmocka_unit_test_setup_teardown(test_unreachable, setup, teardown),
        cmocka_unit_test(test_parts_go_away),
        cmocka_unit_test_setup_teardown(test_splice, setup, teardown),
        cmocka_unit_test_setup_teardown(test_upgrade_refused, setup, teardown),
    };

    held_watch();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
