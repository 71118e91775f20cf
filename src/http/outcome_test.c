/* How calls end: this decides whether a job may be sent twice. */
#include "http/client.h"

#include "http/client_got_test.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_outcomes),
        cmocka_unit_test_setup_teardown(test_tls_that_fails, setup, teardown),
        cmocka_unit_test_setup_teardown(test_reset_between_open_and_write, setup, teardown),
        cmocka_unit_test_setup_teardown(test_answers_cut_anywhere, setup, teardown),
    };

    held_watch();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
