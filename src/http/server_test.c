/* Requests, their order, their bodies, and what is refused. */
#include "http/http_vectors_test.h"
#include "http/server_rig_test.h"

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
    assert_non_null(
        strstr(ASK(&g, "GET /fields?server HTTP/1.1\r\n" H "\r\n" BYE), "\r\nserver: somebody else\r\n"));
    http_server_set_name(g.server, "comfymux");
    assert_non_null(strstr(ASK(&g, BYE), "\r\nServer: comfymux\r\n"));
    assert_null(strstr(ASK(&g, "GET /fields?server HTTP/1.1\r\n" H "\r\n" BYE), "somebody else"));
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
                        "HTTP/1.1 200 OK\r\n\r\n" BYE_ANSWER);
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

/* An answer given outside of any callback of the server, small enough to leave at once, on a connection on which
 * nothing else happens: its end is told all the same. */
static void flushed_later(void **state)
{
    struct rig g;

    (void)state;
    rig_open(&g, &small_limits);
    rig_connect(&g);
    rig_puts(&g, "GET /keep HTTP/1.1\r\n" H "\r\n");
    UNTIL(&g, g.kept != NULL);
    for (int i = 0; i < 5; i++)
        loop_turn(g.loop, 0);
    http_on_flushed(g.kept, on_flushed, &g);
    http_on_abort(g.kept, NULL, NULL);
    http_reply_str(g.kept, 200, "text/plain", "late");
    g.kept = NULL;
    for (int i = 0; i < 20; i++)
        loop_turn(g.loop, 0);
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
        cmocka_unit_test(flushed_later),
        cmocka_unit_test(drained),
        cmocka_unit_test(continue_100),
        cmocka_unit_test(body_limits),
        cmocka_unit_test(unread_bodies),
        cmocka_unit_test(large_upload),
    };

    return cmocka_run_group_tests_name("server", tests, NULL, NULL);
}
