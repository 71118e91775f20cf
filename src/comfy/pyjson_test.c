#include "comfy/pyjson.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/testdata.h"

/* What Python 3.11 says of the same values. */

static struct json parse(const char *text)
{
    return testdata_parse(text, strlen(text));
}

static void test_one_line(void **state)
{
    static const char *const cases[][2] = {
        {"{\"a\":1,\"b\":[1,2.50,18446744073709551615]}",
         "{\"a\": 1, \"b\": [1, 2.5, 18446744073709551615]}"},
        {"{\"a\":1,\"b\":2,\"a\":3}", "{\"a\": 3, \"b\": 2}"},
        {"{\"\\u0061\":1,\"a\":2}", "{\"a\": 2}"},
        {"\"h\xc3\xa9 \\ud83d \\/\"", "\"h\\u00e9 \\ud83d /\""},
        {"[ ]", "[]"},
        {"{ }", "{}"},
        {"-0", "0"},
        {"-0.0", "-0.0"},
        {"1E5", "100000.0"},
        {"1e400", "Infinity"},
        {"NaN", "NaN"},
        {"[true,null]", "[true, null]"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf b = BUF_INIT;

        py_put_json(&b, parse(cases[i][0]), 0);
        assert_string_equal(b.data, cases[i][1]);
        buf_free(&b);
    }
}

static void test_indented(void **state)
{
    struct buf b = BUF_INIT;

    (void)state;
    py_put_json(&b, parse("{\"a\":{\"d\":[1,[]]},\"e\":{}}"), 4);
    assert_string_equal(b.data,
                        "{\n    \"a\": {\n        \"d\": [\n            1,\n            []\n        ]\n"
                        "    },\n    \"e\": {}\n}");
    buf_free(&b);
}

static void test_merged(void **state)
{
    struct buf b = BUF_INIT;
    char key[32];
    struct buf many = BUF_INIT;

    (void)state;
    py_put_merged(&b, parse("{\"a\":1,\"b\":{\"x\":1}}"), parse("{\"c\":2,\"b\":{\"y\":2}}"), 0);
    assert_string_equal(b.data, "{\"a\": 1, \"b\": {\"y\": 2}, \"c\": 2}");
    buf_clear(&b);
    py_put_merged(&b, (struct json){0}, parse("{\"c\":2}"), 0);
    assert_string_equal(b.data, "{\"c\": 2}");
    buf_clear(&b);
    buf_putc(&many, '{');
    for (int i = 0; i < 1000; i++) {
        snprintf(key, sizeof(key), "%s\"k%d\": %d", i ? ", " : "", i, i);
        buf_puts(&many, key);
    }
    buf_putc(&many, '}');
    py_put_merged(&b, parse(many.data), parse(many.data), 0);
    assert_string_equal(b.data, many.data);
    buf_free(&b);
    buf_free(&many);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_line),
        cmocka_unit_test(test_indented),
        cmocka_unit_test(test_merged),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
