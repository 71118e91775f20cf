/* Every message is offered whole, cut at every byte, and byte by byte; what comes out must be the same. */
#include "http/http_parse.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "http/http_vectors_test.h"

static const struct http_parse_limits limits = {.target = 64, .head = 1024, .headers = 16};

/* All that a parser says about a stream of messages, as text. */
struct trace {
    struct buf out;
    struct http_parser *p;
    bool stop, no_body;
};

static void trace_head(struct trace *t, enum http_parse_kind kind)
{
    const struct http_head *h = http_parser_head(t->p);

    if (kind == HTTP_PARSE_REQUEST)
        buf_printf(&t->out, "%s(%s) %s path=%s query=%s", h->method_name, http_method_name(h->method),
                   h->target, h->path, h->query);
    else
        buf_printf(&t->out, "%d '%s'", h->status, h->reason);
    buf_printf(&t->out, " 1.%d len=%lld%s%s%s", h->minor, (long long)h->length, h->chunked ? " chunked" : "",
               h->until_eof ? " eof" : "", h->keep_alive ? " keep" : "");
    for (size_t i = 0; i < h->headers.n; i++) {
        assert_int_equal(strlen(h->headers.v[i].value), h->headers.v[i].value_len);
        buf_printf(&t->out, " [%s=%s]", h->headers.v[i].name, h->headers.v[i].value);
    }
    buf_puts(&t->out, " {");
}

static void trace_push(struct trace *t, enum http_parse_kind kind, const char *in, size_t n)
{
    while (!t->stop) {
        /* A copy of its own lets the sanitizer see any step over the end. */
        char *copy = malloc(n ? n : 1);
        const char *data;
        size_t used, len;
        enum http_parse_event ev;

        if (n)
            memcpy(copy, in, n);
        ev = http_parser_step(t->p, copy, n, &used, &data, &len);
        assert_true(used <= n);
        if (ev == HTTP_PARSE_BODY) {
            assert_true(len > 0 && data >= copy && data + len <= copy + used);
            buf_put(&t->out, data, len);
        }
        free(copy);
        in += used;
        n -= used;
        if (ev == HTTP_PARSE_MORE) {
            assert_int_equal(n, 0);
            return;
        }
        if (ev == HTTP_PARSE_HEAD)
            trace_head(t, kind);
        if (ev == HTTP_PARSE_END) {
            buf_puts(&t->out, "}\n");
            http_parser_next(t->p);
            if (n == 0)
                return;
        }
        if (ev == HTTP_PARSE_ERROR) {
            buf_printf(&t->out, "!%d %s", http_parser_status(t->p), http_parser_reason(t->p));
            t->stop = true;
        }
    }
}

/* Cut after a and after b bytes; eof at the end. */
static char *trace_run(enum http_parse_kind kind, bool no_body, const char *in, size_t n, size_t a, size_t b)
{
    struct trace t = {.p = http_parser_new(kind, &limits)};
    enum http_parse_event ev;

    http_parser_no_body(t.p, no_body);
    if (a > n) {
        for (size_t i = 0; i < n; i++)
            trace_push(&t, kind, in + i, 1);
    } else {
        trace_push(&t, kind, in, a);
        trace_push(&t, kind, in + a, b - a);
        trace_push(&t, kind, in + b, n - b);
    }
    if (!t.stop) {
        ev = http_parser_eof(t.p);
        if (ev == HTTP_PARSE_END)
            buf_puts(&t.out, "}EOF");
        else if (ev == HTTP_PARSE_ERROR)
            buf_printf(&t.out, "!%d %s", http_parser_status(t.p), http_parser_reason(t.p));
    }
    http_parser_free(&t.p);
    return buf_take(&t.out);
}

static void check(enum http_parse_kind kind, bool no_body, const char *in, size_t n, const char *want)
{
    char *whole = trace_run(kind, no_body, in, n, 0, n), *got;

    if (strcmp(whole, want) != 0)
        print_error("for %s\n", in);
    assert_string_equal(whole, want);
    for (size_t a = 0; a <= n; a++) {
        got = trace_run(kind, no_body, in, n, a, a);
        assert_string_equal(got, whole);
        free(got);
        if (n < 100) {
            for (size_t b = a + 1; b <= n; b++) {
                got = trace_run(kind, no_body, in, n, a, b);
                assert_string_equal(got, whole);
                free(got);
            }
        }
    }
    got = trace_run(kind, no_body, in, n, n + 1, 0);
    assert_string_equal(got, whole);
    free(got);
    free(whole);
}

#define REQ(in, want) check(HTTP_PARSE_REQUEST, false, in, sizeof(in) - 1, want)
#define RES(in, want) check(HTTP_PARSE_RESPONSE, false, in, sizeof(in) - 1, want)
#define RES_HEAD(in, want) check(HTTP_PARSE_RESPONSE, true, in, sizeof(in) - 1, want)

static void requests(void **state)
{
    (void)state;
    REQ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET(GET) / path=/ query= 1.1 len=0 keep [Host=a] {}\n");
    REQ("\r\n\r\nGET /a?b=%20&c HTTP/1.0\r\n\r\n",
        "GET(GET) /a?b=%20&c path=/a query=b=%20&c 1.0 len=0 {}\n");
    REQ("GET /?? HTTP/1.0\r\nConnection: x, Keep-Alive\r\nX:\r\n\r\n",
        "GET(GET) /?? path=/ query=? 1.0 len=0 keep [Connection=x, Keep-Alive] [X=] {}\n");
    REQ("POST /p HTTP/1.1\r\nHost: a:8\r\nContent-Length: 3 \r\n\r\nabcGET / HTTP/1.1\r\nhost:b\r\n\r\n",
        "POST(POST) /p path=/p query= 1.1 len=3 keep [Host=a:8] [Content-Length=3] {abc}\n"
        "GET(GET) / path=/ query= 1.1 len=0 keep [host=b] {}\n");
    REQ("POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: "
        "Chunked\r\n\r\n3\r\nabc\r\n0A;x=\"y\"\r\n0123456789\r\n"
        "0\r\nX-T: 1\r\n\r\nGET / HTTP/1.0\r\n\r\n",
        "POST(POST) /p path=/p query= 1.1 len=-1 chunked keep [Host=a] [Transfer-Encoding=Chunked] "
        "{abc0123456789}\nGET(GET) / path=/ query= 1.0 len=0 {}\n");
    REQ("M-SEARCH /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "M-SEARCH(OTHER) /a path=/a query= 1.1 len=0 [Host=a] [Connection=close] {}\n");
    REQ("OPTIONS * HTTP/1.1\r\nHost:\r\n\r\n",
        "OPTIONS(OPTIONS) * path=* query= 1.1 len=0 keep [Host=] {}\n");
    REQ("GET http://h:80/x?y HTTP/1.1\r\nHost: H\r\n\r\n",
        "GET(GET) /x?y path=/x query=y 1.1 len=0 keep [Host=H] {}\n");
    REQ("GET https://h?y HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET(GET) /?y path=/ query=y 1.1 len=0 keep [Host=h] {}\n");
    REQ("GET HTTP://h HTTP/1.1\r\nHost: h\r\n\r\n", "GET(GET) / path=/ query= 1.1 len=0 keep [Host=h] {}\n");
    /* Upgrades are messages like any other here, with a body or without. */
    REQ("POST /u HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: "
        "2\r\n\r\nabGET",
        "POST(POST) /u path=/u query= 1.1 len=2 keep [Host=a] [Connection=Upgrade] [Upgrade=h2c] "
        "[Content-Length=2] {ab}\n!400 the connection ended inside a head");
    REQ("GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n\x81",
        "GET(GET) /ws path=/ws query= 1.1 len=0 keep [Host=a] [Connection=Upgrade] [Upgrade=websocket] {}\n"
        "!400 not a request line");
    REQ("GET / HTTP/1.1\r\nHost: a\r\nX: \xc3\xa9\t\"\r\n\r\n",
        "GET(GET) / path=/ query= 1.1 len=0 keep [Host=a] [X=\xc3\xa9\t\"] {}\n");
    REQ("", "");
}

static void responses(void **state)
{
    (void)state;
    RES("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhiHTTP/1.1 204\r\n\r\n",
        "200 'OK' 1.1 len=2 keep [Content-Length=2] {hi}\n204 '' 1.1 len=0 keep {}\n");
    RES("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        "200 'OK' 1.1 len=-1 chunked keep [Transfer-Encoding=chunked] {hi}\n");
    RES("HTTP/1.0 200 Very OK\r\n\r\nup to the end", "200 'Very OK' 1.0 len=-1 eof {up to the end}EOF");
    RES("HTTP/1.1 200 \r\n\r\n", "200 '' 1.1 len=-1 eof {}EOF");
    RES("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
        "100 'Continue' 1.1 len=0 keep {}\n304 'Not Modified' 1.1 len=0 keep [Content-Length=9] {}\n");
    RES_HEAD(
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "200 'OK' 1.1 len=0 keep [Content-Length=9] {}\n200 'OK' 1.1 len=0 keep [Transfer-Encoding=chunked] "
        "{}\n");
    RES("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        "101 'Switching Protocols' 1.1 len=0 keep [Connection=upgrade] [Upgrade=websocket] {}\n");
    RES("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nhi",
        "200 'OK' 1.1 len=3 [Content-Length=3] [Connection=close] {hi!400 the connection ended inside a "
        "body");
}

/* The status that a run ends with; 200 if nothing was refused. */
static int trace_status(const char *trace)
{
    const char *bang = strrchr(trace, '!');

    return bang ? atoi(bang + 1) : 200;
}

static void vectors(void **state)
{
    unsigned wrong = 0;

    (void)state;
    assert_true(ARRAY_LEN(http_vectors) >= 200);
    for (size_t i = 0; i < ARRAY_LEN(http_vectors); i++) {
        const struct http_vector *v = &http_vectors[i];
        char *whole = trace_run(HTTP_PARSE_REQUEST, false, v->in, v->n, 0, v->n);

        if (trace_status(whole) != v->status || strstr(whole, "llhttp") ||
            (v->status != 200 && strstr(whole, "the connection ended"))) {
            print_error("vector %zu wants %d: %s\n-> %s\n", i, v->status, v->in, whole);
            wrong++;
        }
        for (size_t cut = 0; cut <= v->n + 1; cut++) {
            char *got = trace_run(HTTP_PARSE_REQUEST, false, v->in, v->n, cut, cut);

            assert_string_equal(got, whole);
            free(got);
        }
        free(whole);
    }
    assert_int_equal(wrong, 0);
}

/* What a server may not say to our client. */
static void bad_responses(void **state)
{
    static const char *const bad[] = {
        "\r\nHTTP/1.1 200 OK\r\n\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
        "HTTP/1.2 200 OK\r\n\r\n",
        "HTTP/0.9 200 OK\r\n\r\n",
        "http/1.1 200 OK\r\n\r\n",
        "ICY 200 OK\r\n\r\n",
        "HTTP/1.1200 OK\r\n\r\n",
        "HTTP/1.1  200 OK\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/1.1 099 OK\r\n\r\n",
        "HTTP/1.1 600 OK\r\n\r\n",
        "HTTP/1.1 2x0 OK\r\n\r\n",
        "HTTP/1.1 200OK\r\n\r\n",
        "HTTP/1.1\r\n\r\n",
        "HTTP/1.1 200 O\x01K\r\n\r\n",
        "HTTP/1.1 200 OK\n\n",
        "HTTP/1.1 200 OK\rX: y\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX : y\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: y\r\n z\r\n\r\n",
        "HTTP/1.1 200 OK\r\n: y\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n",
        "HTTP/1.1 200 OK\r\nContent-Le",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        size_t n = strlen(bad[i]);
        char *whole = trace_run(HTTP_PARSE_RESPONSE, false, bad[i], n, 0, n);

        if (trace_status(whole) != 400)
            print_error("response %zu: %s -> %s\n", i, bad[i], whole);
        assert_int_equal(trace_status(whole), 400);
        check(HTTP_PARSE_RESPONSE, false, bad[i], n, whole);
        free(whole);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(requests), cmocka_unit_test(responses),
                                       cmocka_unit_test(vectors), cmocka_unit_test(bad_responses)};

    return cmocka_run_group_tests_name("http_parse", tests, NULL, NULL);
}
