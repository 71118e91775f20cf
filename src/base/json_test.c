#include "base/json.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/testdata.h"
#include "base/utf8.h"

/* The verdicts are those of Python 3.11: json.loads(text.decode("utf-8")) gives a value or raises. */
static const struct {
    const char *text;
    size_t n;
    bool ok;
} verdicts[] = {
    {"", 0, false},
    {" ", 1, false},
    {"null", 4, true},
    {" null ", 6, true},
    {"nul", 3, false},
    {"nulll", 5, false},
    {"true", 4, true},
    {"True", 4, false},
    {"false", 5, true},
    {"NaN", 3, true},
    {"nan", 3, false},
    {"Infinity", 8, true},
    {"-Infinity", 9, true},
    {"-NaN", 4, false},
    {"+1", 2, false},
    {"inf", 3, false},
    {"-", 1, false},
    {"-I", 2, false},
    {"0", 1, true},
    {"-0", 2, true},
    {"00", 2, false},
    {"01", 2, false},
    {"-01", 3, false},
    {"1.", 2, false},
    {".5", 2, false},
    {"1.5", 3, true},
    {"1e", 2, false},
    {"1e+", 3, false},
    {"1e5", 3, true},
    {"1E-5", 4, true},
    {"1.e5", 4, false},
    {"0e0", 3, true},
    {"0x10", 4, false},
    {"1_0", 3, false},
    {"18446744073709551615", 20, true},
    {"1e400", 5, true},
    {"\"\"", 2, true},
    {"\"a", 2, false},
    {"\"", 1, false},
    {"'a'", 3, false},
    {"\"\\x41\"", 6, false},
    {"\"\\u12\"", 6, false},
    {"\"\\u12g4\"", 8, false},
    {"\"\\uD83D\\uDE00\"", 14, true},
    {"\"\\ud83d\"", 8, true},
    {"\"\\udc00\\ud800\"", 14, true},
    {"\"\\/\"", 4, true},
    {"\"\\'\"", 4, false},
    {"\"\011\"", 3, false},
    {"\"\000\"", 3, false},
    {"\"\177\"", 3, true},
    {"\"\303\251\"", 4, true},
    {"\"\303\"", 3, false},
    {"\"\300\257\"", 4, false},
    {"\"\340\200\257\"", 5, false},
    {"\"\355\240\200\"", 5, false},
    {"\"\355\237\277\"", 5, true},
    {"\"\356\200\200\"", 5, true},
    {"\"\364\217\277\277\"", 6, true},
    {"\"\364\220\200\200\"", 6, false},
    {"\"\360\217\277\277\"", 6, false},
    {"\"\365\200\200\200\"", 6, false},
    {"\"\377\"", 3, false},
    {"\"\342\202\"", 4, false},
    {"[]", 2, true},
    {"[ ]", 3, true},
    {"[1,]", 4, false},
    {"[,1]", 4, false},
    {"[1 2]", 5, false},
    {"[1,2", 4, false},
    {"[1,2]]", 6, false},
    {"[", 1, false},
    {"]", 1, false},
    {"[1}", 3, false},
    {"[[[]]]", 6, true},
    {"[1,\n2 , 3]", 10, true},
    {"{}", 2, true},
    {"{ }", 3, true},
    {"{\"a\":1}", 7, true},
    {"{\"a\" : 1 , \"b\":2}", 17, true},
    {"{\"a\":1,}", 8, false},
    {"{,}", 3, false},
    {"{a:1}", 5, false},
    {"{\"a\"}", 5, false},
    {"{\"a\":}", 6, false},
    {"{\"a\":1 \"b\":2}", 13, false},
    {"{\"a\":1", 6, false},
    {"{\"a\":1]", 7, false},
    {"{1:2}", 5, false},
    {"{\"a\":1,\"a\":2}", 13, true},
    {"{\"\":{\"\":[{}]}}", 14, true},
    {"{\"a\":[1,{\"b\":[]}],\"c\":{}}", 25, true},
    {"\357\273\2771", 4, false},
    {"1 1", 3, false},
    {"// x\n1", 6, false},
    {"1\014", 2, false},
    {"\2401", 2, false},
    {"\302\2401", 3, false},
    {"[1]\n\n", 5, true},
    {"\"\\ud83d\\u0041\"", 14, true},
    {"\"a\\", 3, false},
    {"{\"a\":\"\\", 7, false},
    {"tru", 3, false},
    {"[tru]", 5, false},
    {"[nulll]", 7, false},
    {"1a", 2, false},
    {"[1a]", 4, false},
    {"-a", 2, false},
    {"--1", 3, false},
    {"1-1", 3, false},
    {"1e5.5", 5, false},
    {"[0123]", 6, false},
    {"\"\\uD8\"", 6, false},
    {"{\"k\":NaN,\"l\":[-Infinity]}", 25, true},
};

/* A heap copy of exactly n bytes, so that the sanitizer sees every step beyond the end. */
static char *exact(const char *s, size_t n)
{
    char *p = malloc(n ? n : 1);

    memcpy(p, s, n);
    return p;
}

static struct json parse(const char *text)
{
    return testdata_parse(text, strlen(text));
}

static void test_verdicts_are_pythons(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(verdicts); i++) {
        char *t = exact(verdicts[i].text, verdicts[i].n);
        struct json v;
        struct err e = {0};
        bool ok = json_check(t, verdicts[i].n, NULL, &v, &e) == 0;

        if (ok != verdicts[i].ok)
            fail_msg("case %zu '%s': %s", i, verdicts[i].text, ok ? "accepted" : e.msg);
        if (ok) {
            struct json again;

            assert_int_equal(json_check(v.p, v.n, NULL, &again, NULL), 0);
            assert_ptr_equal(again.p, v.p);
            assert_int_equal(again.n, v.n);
        } else {
            assert_non_null(strstr(e.msg, "line "));
        }
        free(t);
    }
}

/* Every proper prefix of a closed text is refused, whatever it holds, and never read beyond. */
static void test_prefixes(void **state)
{
    static const char text[] =
        "{\"a\": [1, -2.5e+7, NaN, -Infinity, \"x\\u00e9\\ud83d\\ude00\\n\xc3\xa9"
        "\xe2\x82\xac\xf0\x9f\x98\x80\", {}, [], {\"b\": null}], \"c\": [true, false]}";

    (void)state;
    for (size_t n = 0; n < sizeof(text) - 1; n++) {
        char *t = exact(text, n);

        assert_int_equal(json_check(t, n, NULL, NULL, NULL), -1);
        free(t);
    }
    assert_int_equal(json_check(text, sizeof(text) - 1, NULL, NULL, NULL), 0);
}

/* One byte changed anywhere: no crash, and what is accepted walks and re-checks. */
static void test_every_byte_changed(void **state)
{
    static const char text[] = "{\"a\":[1,\"\\u00e9\xc3\xa9\",{\"b\":-0.5e3}],\"c\":null}";
    static const unsigned char with[] = {0,   '"', '\\', '{', '}', '[',  ']',
                                         ',', ':', '0',  '-', 'e', 0x80, 0xff};

    (void)state;
    for (size_t i = 0; i < sizeof(text) - 1; i++)
        for (size_t k = 0; k < sizeof(with); k++) {
            char *t = exact(text, sizeof(text) - 1);
            struct json v, key, m;

            t[i] = (char)with[k];
            if (json_check(t, sizeof(text) - 1, NULL, &v, NULL) == 0) {
                struct json_iter it = json_iter(v);

                while (json_next(&it, &key, &m))
                    assert_int_equal(json_check(m.p, m.n, NULL, NULL, NULL), 0);
            }
            free(t);
        }
}

/* Strings are read eight bytes at a time: what must not be in one is found at every place of a long one. */
static void test_every_place_in_a_string(void **state)
{
    static const char bad[] = {0, 0x01, 0x1f, (char)0x80, (char)0xbf, (char)0xff};

    (void)state;
    for (size_t at = 1; at < 40; at++) {
        char text[41], *t;

        memset(text, 'a', sizeof(text));
        text[0] = text[40] = '"';
        t = exact(text, sizeof(text));
        assert_int_equal(json_check(t, sizeof(text), NULL, NULL, NULL), 0);
        for (size_t k = 0; k < sizeof(bad); k++) {
            t[at] = bad[k];
            assert_int_equal(json_check(t, sizeof(text), NULL, NULL, NULL), -1);
        }
        for (int c = 0x20; c < 0x80; c++) {
            t[at] = (char)c;
            assert_int_equal(json_check(t, sizeof(text), NULL, NULL, NULL),
                             c == '"' || c == '\\' ? -1 : 0); /* \\a is no escape; a quote ends it early */
        }
        free(t);
    }
}

static void test_error_places(void **state)
{
    static const struct {
        const char *text, *msg;
    } cases[] = {
        {"", "line 1 column 1: expected a value"},
        {"{\n  \"a\": 1\n  \"b\": 2}", "line 3 column 3: expected ',' or '}'"},
        {"[1 2]", "line 1 column 4: expected ',' or ']'"},
        {"{\"\xc3\xa9\": tru}", "line 1 column 7: expected a value"},
        {"[\"a\nb\"]", "line 1 column 4: control character in string"},
        {"[\"abc", "line 1 column 2: string does not end"},
        {"[\"\xff\"]", "line 1 column 3: not UTF-8"},
        {"1 2", "line 1 column 3: something follows the value"},
        {"{\"a\" 1}", "line 1 column 6: expected ':'"},
        {"{\"a\":1,}", "line 1 column 8: expected a key in double quotes"},
        {"\"\\q\"", "line 1 column 2: no such escape"},
        {"\"\\u12\"", "line 1 column 2: \\u wants four hex digits"},
        {"-", "line 1 column 2: expected a digit"},
        {"[1.]", "line 1 column 4: expected a digit"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct err e;

        assert_int_equal(json_check(cases[i].text, strlen(cases[i].text), NULL, NULL, &e), -1);
        assert_string_equal(e.msg, cases[i].msg);
    }
}

static void test_limits(void **state)
{
    struct json_limits lim = {JSON_MAX_DEPTH, 5};
    struct buf b = BUF_INIT;
    struct err e;

    (void)state;
    /* values: the object, two keys, two values */
    assert_int_equal(json_check("{\"a\":1,\"b\":2}", 13, &lim, NULL, &e), 0);
    lim.values = 4;
    assert_int_equal(json_check("{\"a\":1,\"b\":2}", 13, &lim, NULL, &e), -1);
    assert_non_null(strstr(e.msg, "too many values"));
    lim = (struct json_limits){2, 100};
    assert_int_equal(json_check("[[1]]", 5, &lim, NULL, &e), 0);
    assert_int_equal(json_check("[[[]]]", 6, &lim, NULL, &e), -1);
    assert_non_null(strstr(e.msg, "nested too deep"));
    lim.depth = 0;
    assert_int_equal(json_check("1", 1, &lim, NULL, &e), 0);
    assert_int_equal(json_check("[]", 2, &lim, NULL, &e), -1);
    /* The deepest allowed nest, alternating so that every bit of the stack matters; one more is refused,
     * also when the caller asks for more than there is room for. */
    for (int i = 0; i < JSON_MAX_DEPTH; i++)
        buf_puts(&b, i % 3 ? "[" : "{\"k\":");
    buf_puts(&b, "1");
    for (int i = JSON_MAX_DEPTH - 1; i >= 0; i--)
        buf_puts(&b, i % 3 ? "]" : "}");
    assert_int_equal(json_check(b.data, b.len, NULL, NULL, &e), 0);
    buf_putc(&b, ']');
    memmove(b.data + 1, b.data, b.len - 1);
    b.data[0] = '[';
    buf_putc(&b, ']');
    lim = (struct json_limits){100000, 1u << 20};
    assert_int_equal(json_check(b.data, b.len, &lim, NULL, &e), -1);
    assert_non_null(strstr(e.msg, "nested too deep"));
    buf_free(&b);
}

static void test_iterate(void **state)
{
    struct json v = parse(" { \"a\" : [ 1 , [2,{\"x\":\"]}\\\"\"}] , \"s\" ] ,\n\"b\":{}, \"a\":3}"), k, m;
    struct json_iter it = json_iter(v);

    (void)state;
    assert_int_equal(json_type(v), JSON_OBJECT);
    assert_int_equal(json_count(v), 3);
    assert_true(json_next(&it, &k, &m));
    assert_true(json_str_eq(k, "a"));
    assert_int_equal(json_count(m), 3);
    assert_true(json_str_eq(json_get(json_at(json_at(m, 1), 1), "x"), "]}\""));
    assert_true(json_str_eq(json_at(m, 2), "s"));
    assert_int_equal(json_type(json_at(m, 3)), JSON_NONE);
    assert_true(json_next(&it, &k, &m));
    assert_true(json_str_eq(k, "b"));
    assert_int_equal(json_type(m), JSON_OBJECT);
    assert_true(json_next(&it, &k, &m));
    assert_false(json_next(&it, &k, &m));
    assert_false(json_next(&it, &k, &m));
    /* the last of that name counts */
    assert_int_equal(json_get(v, "a").n, 1);
    assert_int_equal(*json_get(v, "a").p, '3');
    assert_int_equal(json_type(json_get(v, "c")), JSON_NONE);
    /* not containers */
    assert_int_equal(json_count(parse("\"[1,2]\"")), 0);
    assert_int_equal(json_count((struct json){NULL, 0}), 0);
    assert_int_equal(json_type(json_at(v, 0)), JSON_NONE);
    assert_int_equal(json_type(json_get(parse("[1]"), "")), JSON_NONE);
    assert_int_equal(json_type(json_get((struct json){NULL, 0}, "a")), JSON_NONE);
}

static void test_truthy_is_pythons(void **state)
{
    static const char *const no[] = {"null",   "false", "0",  "-0",  "0.0", "-0.0", "0e5",
                                     "1e-999", "\"\"",  "[]", "[ ]", "{}",  "{\n}"};
    static const char *const yes[] = {"true",     "1",           "-1",    "0.1",    "NaN",
                                      "Infinity", "-Infinity",   "1e400", "5e-324", "\"0\"",
                                      "\" \"",    "\"\\u0000\"", "[0]",   "[null]", "{\"\":0}"};

    (void)state;
    assert_false(json_truthy((struct json){NULL, 0}));
    for (size_t i = 0; i < ARRAY_LEN(no); i++)
        assert_false(json_truthy(parse(no[i])));
    for (size_t i = 0; i < ARRAY_LEN(yes); i++)
        assert_true(json_truthy(parse(yes[i])));
    assert_true(json_is_null(parse("null")));
    assert_true(json_is_null((struct json){NULL, 0}));
    assert_false(json_is_null(parse("NaN")));
    assert_true(json_is_true(parse("true")));
    assert_false(json_is_true(parse("1")));
}

static void test_numbers(void **state)
{
    int64_t i;
    uint64_t u;
    double d;

    (void)state;
    assert_true(json_int(parse("-9223372036854775808"), &i) && i == INT64_MIN);
    assert_true(json_int(parse("9223372036854775807"), &i) && i == INT64_MAX);
    assert_false(json_int(parse("9223372036854775808"), &i));
    assert_false(json_int(parse("-9223372036854775809"), &i));
    assert_true(json_int(parse("-0"), &i) && i == 0);
    assert_true(json_uint(parse("18446744073709551615"), &u) && u == UINT64_MAX);
    assert_false(json_uint(parse("18446744073709551616"), &u));
    assert_false(json_uint(parse("-1"), &u));
    assert_true(json_uint(parse("-0"), &u) && u == 0);
    static const char *const not_whole[] = {"5.0", "5e0", "NaN", "true", "\"5\"", "null", "[5]"};
    for (size_t k = 0; k < ARRAY_LEN(not_whole); k++) {
        assert_false(json_int(parse(not_whole[k]), &i));
        assert_false(json_is_int_literal(parse(not_whole[k])));
    }
    assert_true(json_is_int_literal(parse("-123456789012345678901234567890")));
    assert_false(json_is_int_literal(parse("-Infinity")));
    assert_true(json_double(parse("-2.5e1"), &d) && d == -25);
    assert_true(json_double(parse("NaN"), &d) && isnan(d));
    assert_true(json_double(parse("-Infinity"), &d) && isinf(d) && d < 0);
    assert_true(json_double(parse("1e400"), &d) && isinf(d));
    assert_true(
        json_double(parse("100000000000000000000000000000000000000000000000000000000000000000000"), &d));
    assert_true(d == 1e68);
    assert_false(json_double(parse("\"1\""), &d));
}

static void test_strings(void **state)
{
    struct json v = parse("\"a\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\uD83D\\ude00\\ud83d\\udc\x30"
                          "0\\udc00 \xc3\xa9\"");
    struct buf b = BUF_INIT;
    char *s;

    (void)state;
    assert_int_equal(json_str(v, &b), 0);
    assert_string_equal(b.data,
                        "a\"\\/\b\f\n\r\t\xc3\xa9\xf0\x9f\x98\x80\xf0\x9f\x90\x80\xed\xb0\x80 \xc3\xa9");
    assert_true(json_str_eqn(v, b.data, b.len));
    assert_false(json_str_eqn(v, b.data, b.len - 1));
    b.data[b.len - 1] ^= 1;
    assert_false(json_str_eqn(v, b.data, b.len));
    buf_free(&b);
    assert_int_equal(json_str(parse("1"), &b), -1);
    assert_null(b.data);
    assert_int_equal(json_str(parse("\"\\ud83d\\ud83d\\ude00\\ud83d\\u0041\""), &b),
                     0); /* only the second pairs */
    assert_string_equal(b.data, "\xed\xa0\xbd\xf0\x9f\x98\x80\xed\xa0\xbd"
                                "A");
    buf_free(&b);
    assert_null(json_strdup(parse("\"a\\u0000b\"")));
    assert_null(json_strdup(parse("null")));
    s = json_strdup(parse("\"\""));
    assert_string_equal(s, "");
    free(s);
    assert_true(json_str_eqn(parse("\"a\\u0000b\""), "a\0b", 3));
    assert_false(json_str_eq(parse("\"a\\u0000b\""), "a"));
    assert_false(json_str_eq(parse("\"ab\""), "abc"));
    assert_false(json_str_eq(parse("\"abc\""), "ab"));
    assert_false(json_str_eq(parse("5"), "5"));
    assert_true(json_str_eq(json_get(parse("{\"\\u0061b\":\"x\"}"), "ab"), "x"));
}

/* json.dumps(s) of Python 3.11 for the same strings. */
static void test_put_str_is_pythons(void **state)
{
    static const struct {
        const char *s;
        size_t n;
        const char *text;
    } cases[] = {
        {"abc", 3, "\"abc\""},
        {"a\"b\\c/", 6, "\"a\\\"b\\\\c/\""},
        {"\b\f\n\r\t\0\x1f\x7f", 8, "\"\\b\\f\\n\\r\\t\\u0000\\u001f\\u007f\""},
        {"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", 9, "\"\\u00e9\\u20ac\\ud83d\\ude00\""},
        {"\xed\xa0\xbd", 3, "\"\\ud83d\""},
        {"\xed\xb0\x80x", 4, "\"\\udc00x\""},
        {"\xe2\x80\xa8\xef\xbb\xbf\xef\xbf\xbf", 9, "\"\\u2028\\ufeff\\uffff\""},
        /* bytes.decode("utf-8", "replace") first */
        {"\xff", 1, "\"\\ufffd\""},
        {"a\x80\x62", 3, "\"a\\ufffdb\""},
        {"\xe2\x82", 2, "\"\\ufffd\""},
        {"\xe2\x82x", 3, "\"\\ufffdx\""},
        {"\xf0\x9f\x98\xe2\x82\xac", 6, "\"\\ufffd\\u20ac\""},
        {"\xc0\xaf", 2, "\"\\ufffd\\ufffd\""},
        {"\xf4\x90\x80\x80", 4, "\"\\ufffd\\ufffd\\ufffd\\ufffd\""},
        {"", 0, "\"\""},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf b = BUF_INIT;
        char *s = exact(cases[i].s, cases[i].n);

        json_put_strn(&b, s, cases[i].n);
        assert_string_equal(b.data, cases[i].text);
        buf_free(&b);
        free(s);
    }
}

/* Every character there is, surrogates included, survives encoding and decoding. */
static void test_every_character(void **state)
{
    (void)state;
    for (uint32_t cp = 0; cp <= 0x10ffff; cp++) {
        struct buf text = BUF_INIT, back = BUF_INIT;
        struct json v;
        char c[4];
        size_t n = utf8_encode(cp, c);
        uint32_t seen = 0;

        assert_int_equal(wtf8_decode(c, n, &seen), n);
        assert_int_equal(seen, cp);
        assert_int_equal(utf8_decode(c, n, &seen), cp >= 0xd800 && cp < 0xe000 ? 0 : n);
        json_put_strn(&text, c, n);
        assert_int_equal(json_check(text.data, text.len, NULL, &v, NULL), 0);
        assert_int_equal(json_str(v, &back), 0);
        assert_int_equal(back.len, n);
        assert_memory_equal(back.data, c, n);
        buf_free(&text);
        buf_free(&back);
    }
}

/* repr(x) of Python 3.11. */
static void test_put_double_is_pythons(void **state)
{
    static const struct {
        double v;
        const char *text;
    } cases[] = {
        {0.0, "0.0"},
        {-0.0, "-0.0"},
        {1.0, "1.0"},
        {-1.5, "-1.5"},
        {0.1, "0.1"},
        {100.0, "100.0"},
        {1e15, "1000000000000000.0"},
        {1e16, "1e+16"},
        {1.5e16, "1.5e+16"},
        {123456789012345680.0, "1.2345678901234568e+17"},
        {9007199254740993.0, "9007199254740992.0"},
        {999999999999999.9, "999999999999999.9"},
        {9999999999999998.0, "9999999999999998.0"},
        {1e21, "1e+21"},
        {1e22, "1e+22"},
        {1e23, "1e+23"},
        {1e100, "1e+100"},
        {0.001, "0.001"},
        {1e-4, "0.0001"},
        {0.00012345, "0.00012345"},
        {1e-5, "1e-05"},
        {1.5e-5, "1.5e-05"},
        {9.5367431640625e-07, "9.5367431640625e-07"},
        {0x1p-44, "5.684341886080802e-14"}, /* the correctly rounded 16 digits do not read back */
        {5e-324, "5e-324"},
        {2.2250738585072014e-308, "2.2250738585072014e-308"},
        {1.7976931348623157e308, "1.7976931348623157e+308"},
        {3.141592653589793, "3.141592653589793"},
        {0.30000000000000004, "0.30000000000000004"},
        {123456.789, "123456.789"},
        {NAN, "NaN"},
        {INFINITY, "Infinity"},
        {-INFINITY, "-Infinity"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf b = BUF_INIT;

        json_put_double(&b, cases[i].v);
        assert_string_equal(b.data, cases[i].text);
        buf_free(&b);
    }
}

/* Any bits: what is written reads back as the same number. */
static void test_put_double_reads_back(void **state)
{
    uint64_t x = 88172645463325252u;

    (void)state;
    for (int i = 0; i < 20000; i++) {
        struct buf b = BUF_INIT;
        double d, back;

        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        memcpy(&d, &x, sizeof(d));
        if (i < 2098) /* then the powers of two */
            d = ldexp(1, i - 1074);
        json_put_double(&b, d);
        assert_true(json_double(testdata_parse(b.data, b.len), &back));
        assert_true(back == d || (isnan(back) && isnan(d)));
        buf_free(&b);
    }
}

static void test_writer(void **state)
{
    struct buf b = BUF_INIT;
    struct jsonw w;

    (void)state;
    jsonw_init(&w, &b);
    jsonw_obj(&w);
    jsonw_kstr(&w, "a", "x\n");
    jsonw_kint(&w, "b", INT64_MIN);
    jsonw_kbool(&w, "c", true);
    jsonw_key(&w, "d");
    jsonw_arr(&w);
    jsonw_uint(&w, UINT64_MAX);
    jsonw_double(&w, 1);
    jsonw_null(&w);
    jsonw_obj(&w);
    jsonw_obj_end(&w);
    jsonw_arr(&w);
    jsonw_bool(&w, false);
    jsonw_arr_end(&w);
    jsonw_strn(&w, "yz", 1);
    jsonw_arr_end(&w);
    jsonw_kspan(&w, "e", parse("[1,2]"));
    jsonw_kspan(&w, "f", (struct json){NULL, 0});
    jsonw_kstr(&w, "g", NULL);
    jsonw_keyn(&w, "hi", 1);
    jsonw_span(&w, parse("-0"));
    jsonw_obj_end(&w);
    assert_string_equal(b.data, "{\"a\": \"x\\n\", \"b\": -9223372036854775808, \"c\": true, \"d\": "
                                "[18446744073709551615, 1.0, null, {}, [false], \"y\"], \"e\": [1,2], "
                                "\"f\": null, \"g\": null, \"h\": -0}");
    buf_clear(&b);
    jsonw_init(&w, &b);
    for (int i = 0; i < 64; i++)
        jsonw_arr(&w);
    jsonw_int(&w, 1);
    jsonw_int(&w, 2);
    for (int i = 0; i < 64; i++)
        jsonw_arr_end(&w);
    assert_int_equal(json_check(b.data, b.len, NULL, NULL, NULL), 0);
    buf_free(&b);
}

/* ---- what real servers sent --------------------------------------------------------------------------- */

struct seen {
    size_t json, other;
};

/* Every value of the document re-checks alone and the walk covers the whole text. */
static size_t walk(struct json v)
{
    struct json_iter it = json_iter(v);
    struct json k, m;
    size_t n = 1;

    if (json_type(v) == JSON_STRING) {
        struct buf chars = BUF_INIT, text = BUF_INIT;
        struct json again;

        assert_int_equal(json_str(v, &chars), 0);
        assert_true(json_str_eqn(v, buf_str(&chars), chars.len));
        json_put_strn(&text, buf_str(&chars), chars.len);
        assert_int_equal(json_check(text.data, text.len, NULL, &again, NULL), 0);
        assert_true(json_str_eqn(again, buf_str(&chars), chars.len));
        buf_free(&chars);
        buf_free(&text);
    }
    while (json_next(&it, &k, &m))
        n += walk(m);
    return n;
}

static void read_body(struct json body, bool must, struct seen *s)
{
    size_t n;
    char *text;
    struct json v;
    struct err e = {0};

    if (json_type(body) != JSON_STRING)
        return;
    text = testdata_str(body, &n);
    if (json_check(text, n, NULL, &v, &e) == 0) {
        struct json_limits exact_values = {JSON_MAX_DEPTH, 0};
        struct json_iter it = json_iter(v);
        struct json k, m;

        walk(v);
        while (json_next(&it, &k, &m))
            assert_int_equal(json_check(m.p, m.n, NULL, NULL, NULL), 0);
        assert_int_equal(json_check(text, n, &exact_values, NULL, NULL), -1);
        s->json++;
    } else if (must) {
        fail_msg("%s: %.200s", e.msg, text);
    } else {
        s->other++;
    }
    free(text);
}

static bool says_json(struct json headers)
{
    struct json_iter it = json_iter(headers);
    struct json h;

    while (json_next(&it, NULL, &h)) {
        char *name = testdata_str(json_at(h, 0), NULL), *value = testdata_str(json_at(h, 1), NULL);
        bool yes = strcasecmp(name, "Content-Type") == 0 && strncmp(value, "application/json", 16) == 0;

        free(name);
        free(value);
        if (yes)
            return true;
    }
    return false;
}

static void recorded_line(void *arg, const char *file, struct json line)
{
    struct json kind = json_get(line, "kind");

    (void)file;
    if (json_str_eq(kind, "http")) {
        int64_t status = 0;
        bool head = json_str_eq(testdata_at(line, "request.method"), "HEAD");

        json_int(testdata_at(line, "response.status"), &status);
        read_body(testdata_at(line, "request.body"), false, arg);
        if (!head)
            read_body(testdata_at(line, "response.body"),
                      status == 200 && says_json(testdata_at(line, "response.headers")), arg);
    } else if (json_str_eq(kind, "ws") && json_str_eq(json_get(line, "dir"), "in") &&
               json_str_eq(json_get(line, "type"), "text")) {
        read_body(json_get(line, "data"), true, arg);
    }
}

static void test_recordings(void **state)
{
    struct seen s = {0, 0};

    (void)state;
    if (!testdata_root())
        skip();
    testdata_all(recorded_line, &s);
    printf("recordings: %zu JSON texts, %zu others\n", s.json, s.other);
    assert_true(s.json > 5000);
}

static void test_object_info(void **state)
{
    static const char *const files[] = {"bodies/object_info.json.gz", "bodies/object_info-0.3.75.json.gz"};

    (void)state;
    if (!testdata_root())
        skip();
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        struct bytes *b = testdata_read(files[i]);
        struct json v = testdata_parse(b->data, b->len);

        assert_true(json_count(v) > 500);
        assert_true(walk(v) > 20000);
        assert_true(json_str_eq(testdata_at(v, "KSampler.python_module"), "nodes"));
        bytes_unref(b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_verdicts_are_pythons),
        cmocka_unit_test(test_prefixes),
        cmocka_unit_test(test_every_byte_changed),
        cmocka_unit_test(test_every_place_in_a_string),
        cmocka_unit_test(test_error_places),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_iterate),
        cmocka_unit_test(test_truthy_is_pythons),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_strings),
        cmocka_unit_test(test_put_str_is_pythons),
        cmocka_unit_test(test_every_character),
        cmocka_unit_test(test_put_double_is_pythons),
        cmocka_unit_test(test_put_double_reads_back),
        cmocka_unit_test(test_writer),
        cmocka_unit_test(test_recordings),
        cmocka_unit_test(test_object_info),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
