#include "http/http.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "http/http_char.h"

static void headers(void **state)
{
    struct http_headers h;
    char name[16];

    (void)state;
    http_headers_init(&h);
    assert_null(http_headers_get(&h, "x"));
    assert_int_equal(http_headers_add(&h, "X-First", "  one\t"), 0);
    /* The text buffer moves while it grows: earlier pointers must move with it. */
    for (int i = 0; i < 200; i++) {
        snprintf(name, sizeof(name), "n%d", i);
        assert_int_equal(http_headers_add(&h, name, name), 0);
    }
    assert_string_equal(http_headers_get(&h, "x-fIRST"), "one");
    assert_string_equal(http_headers_get(&h, "N7"), "n7");
    assert_int_equal(h.v[0].value_len, 3);
    assert_int_equal(http_headers_add(&h, "a", "x\ny"), -1);
    assert_int_equal(http_headers_add(&h, "a", "x\ry"), -1);
    assert_int_equal(http_headers_add(&h, "a b", "x"), -1);
    assert_int_equal(http_headers_add(&h, "a:", "x"), -1);
    assert_int_equal(http_headers_add(&h, "a\n", "x"), -1);
    assert_int_equal(http_headers_add(&h, "", "x"), -1);
    assert_null(http_headers_get(&h, "a"));
    assert_int_equal(h.n, 201);
    http_headers_add(&h, "Connection", "foo , Upgrade");
    http_headers_add(&h, "connection", ",\tclose\t,");
    assert_true(http_headers_has_token(&h, "CONNECTION", "upgrade"));
    assert_true(http_headers_has_token(&h, "connection", "Close"));
    assert_true(http_headers_has_token(&h, "connection", "foo"));
    assert_false(http_headers_has_token(&h, "connection", "fo"));
    assert_false(http_headers_has_token(&h, "connection", "upgrade2"));
    assert_false(http_headers_has_token(&h, "connection", ""));
    http_headers_fini(&h);
    assert_null(h.text);
}

static void characters(void **state)
{
    const char *special = "!#$%&'*+-.^_`|~";

    (void)state;
    for (int c = 0; c < 256; c++) {
        bool alnum = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');

        assert_int_equal(http_is_alnum((unsigned char)c), alnum);
        assert_int_equal(http_is_tchar((unsigned char)c), alnum || (c && strchr(special, c)));
        assert_int_equal(http_is_vchar((unsigned char)c), c == '\t' || (c >= 32 && c != 127));
    }
    assert_true(http_is_utf8("a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\xf4\x8f\xbf\xbf", 14));
    assert_false(http_is_utf8("\xc0\x80", 2));
    assert_false(http_is_utf8("\xe0\x80\x80", 3));
    assert_false(http_is_utf8("\xed\xa0\x80", 3)); /* a surrogate */
    assert_false(http_is_utf8("\xf4\x90\x80\x80", 4));
    assert_false(http_is_utf8("\xf0\x80\x80\x80", 4));
    assert_false(http_is_utf8("\xe2\x82", 2));
    assert_false(http_is_utf8("\x80", 1));
}

static void dates(void **state)
{
    char out[30];

    (void)state;
    http_date(784111777, out);
    assert_string_equal(out, "Sun, 06 Nov 1994 08:49:37 GMT");
    http_date(0, out);
    assert_string_equal(out, "Thu, 01 Jan 1970 00:00:00 GMT");
    http_date(INT64_MAX, out);
    assert_int_equal(strlen(out), 29);
    http_date(INT64_MIN, out);
    assert_int_equal(strlen(out), 29);
    assert_int_equal(http_date_parse("Sun, 06 Nov 1994 08:49:37 GMT"), 784111777);
    assert_int_equal(http_date_parse("Sunday, 06-Nov-94 08:49:37 GMT"), 784111777);
    assert_int_equal(http_date_parse("Sun Nov  6 08:49:37 1994"), 784111777);
    assert_int_equal(http_date_parse("Wed Nov 16 08:49:37 1994"), 784111777 + 864000);
    assert_int_equal(http_date_parse("Thu, 29 Feb 2024 00:00:00 GMT"), 1709164800);
    for (int64_t t = 1; t < 4102444800; t += 7654321) {
        http_date(t, out);
        assert_int_equal(http_date_parse(out), t);
    }
    static const char *const bad[] = {"",
                                      "0",
                                      "784111777",
                                      "Sun, 06 Nov 1994 08:49:37",
                                      "Sun, 06 Nov 1994 08:49:37 GMTx",
                                      "Sun, 06 Nov 1994 08:49:37 UTC",
                                      "Sun, 06 Nov 1994 8:49:37 GMT",
                                      "Sun, 6 Nov 1994 08:49:37 GMT",
                                      "Sun, 31 Feb 1994 08:49:37 GMT",
                                      "Sun, 29 Feb 2023 08:49:37 GMT",
                                      "Sun, 00 Nov 1994 08:49:37 GMT",
                                      "Sun, 06 Nov 1994 24:49:37 GMT",
                                      "Sun, 06 Nov 1994 08:60:37 GMT",
                                      "Sun, 06 Nov 1994 08:49:61 GMT",
                                      "Sun, 06 Foo 1994 08:49:37 GMT",
                                      "Sun, 06-Nov-94 08:49:37 GMT",
                                      ", 06-Nov-94 08:49:37 GMT",
                                      "Sun Nov  6 08:49:37 94"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(http_date_parse(bad[i]), -1);
}

static void escapes(void **state)
{
    struct buf b = BUF_INIT;
    char all[255], *esc;
    static const char *const bad[] = {"%",   "%4",    "%4g", "%g4", "a%",   "a%0",
                                      "%00", "a%00b", "%ff", "%c3", "\x80", "%ed%a0%80"};

    (void)state;
    buf_puts(&b, "x");
    assert_int_equal(http_unescape("a%20b+c%2Fd%C3%a9%41", 20, false, &b), 0);
    assert_string_equal(buf_str(&b), "xa b+c/d\xc3\xa9"
                                     "A");
    buf_clear(&b);
    assert_int_equal(http_unescape("a+b%2b", 6, true, &b), 0);
    assert_string_equal(buf_str(&b), "a b+");
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_int_equal(http_unescape(bad[i], strlen(bad[i]), false, &b), -1);
        assert_string_equal(buf_str(&b), "a b+"); /* nothing is left of it */
    }
    assert_int_equal(http_unescape("", 0, false, &b), 0);
    /* The end of the span counts, not the NUL. */
    assert_int_equal(http_unescape("%41", 2, false, &b), -1);
    buf_clear(&b);
    for (int i = 0; i < 127; i++)
        all[i] = (char)(i + 1);
    http_escape(all, 127, true, &b);
    esc = buf_take(&b);
    assert_int_equal(http_unescape(esc, strlen(esc), true, &b), 0);
    assert_memory_equal(b.data, all, 127);
    free(esc);
    buf_clear(&b);
    http_escape("a/b c~\xc3\xa9?", 9, false, &b);
    assert_string_equal(buf_str(&b), "a%2Fb%20c~%C3%A9%3F");
    buf_clear(&b);
    http_escape("a/b", 3, true, &b);
    assert_string_equal(buf_str(&b), "a/b");
    buf_free(&b);
}

static void queries(void **state)
{
    static const struct {
        const char *query, *key, *value;
    } cases[] = {
        {"a=1&b=2", "a", "1"},  {"a=1&b=2", "b", "2"},   {"a=1&a=2", "a", "1"},
        {"a=1&b=2", "c", NULL}, {"ab=1", "a", NULL},     {"a", "a", ""},
        {"a=", "a", ""},        {"a=b=c", "a", "b=c"},   {"&&a=1&", "a", "1"},
        {"", "a", NULL},        {"", "", NULL},          {"f%69le=x+y%2B", "file", "x y+"},
        {"a=%zz", "a", NULL},   {"%zz=1&a=2", "a", "2"}, {"a=%00", "a", NULL},
        {"=1", "", "1"},        {"a;b=1", "b", NULL},    {"a+b=1", "a b", "1"},
    };
    struct buf b = BUF_INIT;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        buf_clear(&b);
        if (http_query_get(cases[i].query, cases[i].key, &b) != (cases[i].value != NULL))
            fail_msg("%s %s", cases[i].query, cases[i].key);
        assert_string_equal(buf_str(&b), cases[i].value ? cases[i].value : "");
    }
    assert_true(http_query_has("a&b=%zz", "b"));
    assert_true(http_query_has("a&b=%zz", "a"));
    assert_false(http_query_has("a&b=%zz", "c"));
    buf_free(&b);
}

static void urls(void **state)
{
    static const struct {
        const char *url, *host, *base, *authority, *userinfo;
        unsigned port;
        bool tls;
    } good[] = {
        {"http://a", "a", "", "a", NULL, 80, false},
        {"http://a/", "a", "", "a", NULL, 80, false},
        {"HTTPS://a.b-c:444/x/y/", "a.b-c", "/x/y", "a.b-c:444", NULL, 444, true},
        {"https://a:443", "a", "", "a", NULL, 443, true},
        {"http://a:", "a", "", "a", NULL, 80, false},
        {"http://127.0.0.1:8188/comfy", "127.0.0.1", "/comfy", "127.0.0.1:8188", NULL, 8188, false},
        {"http://[::1]:8188/", "::1", "", "[::1]:8188", NULL, 8188, false},
        {"http://[fe80::1]", "fe80::1", "", "[fe80::1]", NULL, 80, false},
        {"http://u:p%40@h/", "h", "", "h", "u:p@", 80, false},
        {"http://u@v@h/", "h", "", "h", "u@v", 80, false},
    };
    static const char *const bad[] = {"",
                                      "a",
                                      "a:80",
                                      "ftp://a",
                                      "http:/a",
                                      "http://",
                                      "http:///x",
                                      "http://:80",
                                      "http://a:0",
                                      "http://a:65536",
                                      "http://a:99999999999999999999",
                                      "http://a:x",
                                      "http://a:-1",
                                      "http://[::1",
                                      "http://[]",
                                      "http://[::1]x",
                                      "http://a b",
                                      "http://a/\n",
                                      "http://a?x",
                                      "http://a/#",
                                      "http://a_b$",
                                      "http://\xc3\xa9",
                                      "http://u%zz@a",
                                      "http://a%20b",
                                      "http://@"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        struct http_url u;
        struct err e;

        if (http_url_parse(good[i].url, &u, &e) < 0)
            fail_msg("%s: %s", good[i].url, e.msg);
        assert_string_equal(u.host, good[i].host);
        assert_string_equal(u.base, good[i].base);
        assert_string_equal(u.authority, good[i].authority);
        assert_int_equal(u.port, good[i].port);
        assert_int_equal(u.tls, good[i].tls);
        assert_int_equal(u.userinfo != NULL, good[i].userinfo != NULL);
        if (u.userinfo)
            assert_string_equal(u.userinfo, good[i].userinfo);
        http_url_fini(&u);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct http_url u;
        struct err e = {0};

        if (http_url_parse(bad[i], &u, &e) == 0)
            fail_msg("%s was taken", bad[i]);
        assert_true(e.msg[0] != '\0');
        assert_null(u.host);
    }
}

static void names(void **state)
{
    (void)state;
    assert_string_equal(http_method_name(HTTP_PATCH), "PATCH");
    assert_string_equal(http_status_text(404), "Not Found");
    assert_string_equal(http_status_text(599), "Unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(headers), cmocka_unit_test(characters), cmocka_unit_test(dates),
        cmocka_unit_test(escapes), cmocka_unit_test(queries),    cmocka_unit_test(urls),
        cmocka_unit_test(names),
    };

    return cmocka_run_group_tests_name("http", tests, NULL, NULL);
}
