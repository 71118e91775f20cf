#include "sim/value.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void again(const char *in, const char *out)
{
    struct err e = {0};
    struct val *v = val_parse(in, strlen(in), &e), *copy;
    struct buf b = BUF_INIT;

    if (!v)
        fail_msg("%s: %s", in, e.msg);
    copy = val_copy(v);
    val_put(&b, copy);
    assert_string_equal(buf_str(&b), out);
    val_free(v);
    val_free(copy);
    buf_free(&b);
}

/* json.dumps(json.loads(x)) of Python 3.11 */
static void as_python_writes(void **state)
{
    (void)state;
    again("{\"a\":1,\"b\":[true,false,null]}", "{\"a\": 1, \"b\": [true, false, null]}");
    again("18446744073709551616", "18446744073709551616");
    again("-0", "0");
    again("-0.0", "-0.0");
    again("1e2", "100.0");
    again("1.50", "1.5");
    again("5.0", "5.0");
    again("[NaN,Infinity,-Infinity]", "[NaN, Infinity, -Infinity]");
    again("\"h\xc3\xa9 \\ud83d x \\u0000\"", "\"h\\u00e9 \\ud83d x \\u0000\"");
    again("{\"a\":1,\"b\":2,\"a\":3}", "{\"a\": 3, \"b\": 2}"); /* the last value at the first place */
    again("{\"\":{}}", "{\"\": {}}");
}

static void as_python_shows(void **state)
{
    const char *in = "[null,true,1.0,NaN,\"it's\",\"a\\\"b\",\"\\n\",{\"k\":[]}]";
    struct val *v = val_parse(in, strlen(in), NULL);
    struct buf b = BUF_INIT;

    (void)state;
    val_put_repr(&b, v);
    assert_string_equal(b.data, "[None, True, 1.0, nan, \"it's\", 'a\"b', '\\n', {'k': []}]");
    buf_free(&b);
    val_free(v);
}

static void truth(void **state)
{
    static const struct {
        const char *text;
        bool truthy;
    } table[] = {{"null", false}, {"0", false},  {"0.0", false},     {"-0", false}, {"\"\"", false},
                 {"[]", false},   {"{}", false}, {"false", false},   {"1", true},   {"\"0\"", true},
                 {"[0]", true},   {"NaN", true}, {"{\"a\":0}", true}};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct val *v = val_parse(table[i].text, strlen(table[i].text), NULL);

        assert_int_equal(val_truthy(v), table[i].truthy);
        val_free(v);
    }
}

static void refused(void **state)
{
    static const char *const table[] = {"",    "{",   "[1,]", "{\"a\"}", "\xff", "\xef\xbb\xbf{}",
                                        "1 2", "nul", "'a'"};
    struct buf deep = BUF_INIT;
    struct err e;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(table); i++)
        assert_null(val_parse(table[i], strlen(table[i]), &e));
    for (int i = 0; i < 100000; i++)
        buf_putc(&deep, '[');
    assert_null(val_parse(deep.data, deep.len, &e));
    buf_free(&deep);
}

static void containers(void **state)
{
    struct val *o = val_obj();

    (void)state;
    for (int i = 0; i < 1000; i++) {
        char *key = xasprintf("k%d", i % 100);

        val_set(o, key, val_int(i));
        free(key);
    }
    assert_int_equal(val_count(o), 100);
    assert_string_equal(val_get(o, "k7")->text, "907");
    assert_null(val_get(o, "k100"));
    val_free(o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_python_writes), cmocka_unit_test(as_python_shows), cmocka_unit_test(truth),
        cmocka_unit_test(refused),          cmocka_unit_test(containers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
