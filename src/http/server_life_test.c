/* How connections end, deadlines, files, upgrades, events, draining. */
#include "http/server_rig_test.h"

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
        {"If-Match: \"x\"\r\n", 412, NULL, ""},
        {"If-Match: W/\"tag\"\r\n", 412, NULL, ""},
        {"If-Match: \"x\", W/\"tag\"\r\nIf-None-Match: \"tag\"\r\n", 412, NULL, ""},
        {"If-Match: \"x\", \"tag\"\r\n", 200, NULL, "hello text"},
        {"If-Match: *\r\n", 200, NULL, "hello text"},
        {"If-Match: \"tag\"\r\nIf-Unmodified-Since: Sun, 06 Nov 1994 08:49:36 GMT\r\n", 200, NULL,
         "hello text"},
        {"If-Unmodified-Since: Sun, 06 Nov 1994 08:49:36 GMT\r\nRange: bytes=0-1\r\n", 412, NULL, ""},
        {"If-Unmodified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n", 200, NULL, "hello text"},
        {"If-Unmodified-Since: nonsense\r\n", 200, NULL, "hello text"},
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
        if (cases[i].status != 416 && cases[i].status != 412)
            buf_puts(&want, "Etag: \"tag\"\r\nLast-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n");
        if (whole || part)
            buf_puts(&want, "Accept-Ranges: bytes\r\n");
        if (cases[i].content_range)
            buf_printf(&want, "Content-Range: %s\r\n", cases[i].content_range);
        if (cases[i].status == 416)
            buf_puts(&want, "Transfer-Encoding: chunked\r\n");
        else if (cases[i].status != 304)
            buf_printf(&want, "Content-Length: %zu\r\n", strlen(cases[i].body));
        buf_printf(&want, "\r\n%s" BYE_ANSWER, cases[i].status == 416 ? "0\r\n\r\n" : cases[i].body);
        assert_string_equal(ask(&g, in.data, in.len, 0), buf_str(&want));
        buf_free(&in);
        buf_free(&want);
    }
    assert_memory_equal(
        ASK(&g, "GET /weak HTTP/1.1\r\n" H "If-Range: W/\"tag\"\r\nRange: bytes=0-1\r\n\r\n" BYE),
        "HTTP/1.1 200 ", 13);
    assert_memory_equal(ASK(&g, "GET /weak HTTP/1.1\r\n" H "If-None-Match: \"tag\"\r\n\r\n" BYE),
                        "HTTP/1.1 304 ", 13);
    assert_string_equal(ASK(&g, "GET /whole HTTP/1.1\r\n" H
                                "Range: bytes=0-1\r\nIf-Match: \"x\"\r\nIf-None-Match: *\r\n\r\n" BYE),
                        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Disposition: "
                        "filename=\"v.txt\"\r\nContent-Length: 10\r\n\r\nhello text" BYE_ANSWER);
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
                                            "Connection: upgrade\r\n"),
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

/* A client that sends a large body, gets an answer without it having been read, and closes: nothing may wait for
 * input in a buffer that has been made ready for more and holds none. */
static void closed_after_bulk(void **state)
{
    struct http_limits lim = small_limits;
    static char body[1 << 20];
    struct rig g;

    (void)state;
    lim.drain = 8 << 20;
    rig_open(&g, &lim);
    for (size_t n = 60000; n <= sizeof(body); n += 90000) {
        char head[120];

        rig_connect(&g);
        snprintf(head, sizeof(head), "POST /x HTTP/1.1\r\n" H "Content-Length: %zu\r\n\r\n", n);
        rig_puts(&g, head);
        rig_send(&g, body, n);
        shutdown(g.fd, SHUT_WR);
        UNTIL(&g, g.closed);
        assert_memory_equal(buf_str(&g.in), "HTTP/1.1 ", 9);
    }
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
        cmocka_unit_test(aborts),   cmocka_unit_test(half_closed),      cmocka_unit_test(deadlines),
        cmocka_unit_test(ranges),   cmocka_unit_test(upgrades),         cmocka_unit_test(events),
        cmocka_unit_test(draining), cmocka_unit_test(connection_limit), cmocka_unit_test(closed_after_bulk),
    };

    return cmocka_run_group_tests_name("server_life", tests, NULL, NULL);
}
