#include "comfy/pyvalue.h"

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

static void test_str_and_repr(void **state)
{
    static const struct {
        const char *json, *str, *repr;
    } cases[] = {
        {"\"abc\"", "abc", "'abc'"},
        {"\"it's\"", "it's", "\"it's\""},
        {"\"a\\\"b\"", "a\"b", "'a\"b'"},
        {"\"'\\\"\"", "'\"", "'\\'\"'"},
        {"\"\\u00e9\\u4e16\\ud83d\\ude00\"", "\303\251\344\270\226\360\237\230\200",
         "'\303\251\344\270\226\360\237\230\200'"},
        {"\"\\ud83d\"", "\355\240\275", "'\\ud83d'"},
        {"\"\\u0000\\u007f\\u00a0\\u00ad\"", "\000\177\302\240\302\255", "'\\x00\\x7f\\xa0\\xad'"},
        {"\"\\n\\t\\\\\"", "\012\011\\", "'\\n\\t\\\\'"},
        {"\"\\u200b\\ufeff\"", "\342\200\213\357\273\277", "'\\u200b\\ufeff'"},
        {"null", "None", "None"},
        {"true", "True", "True"},
        {"[1,2.0,\"x\",null,{\"a\":[false]}]", "[1, 2.0, 'x', None, {'a': [False]}]",
         "[1, 2.0, 'x', None, {'a': [False]}]"},
        {"{}", "{}", "{}"},
        {"-0", "0", "0"},
        {"-0.0", "-0.0", "-0.0"},
        {"1e16", "1e+16", "1e+16"},
        {"1e400", "inf", "inf"},
        {"NaN", "nan", "nan"},
        {"-Infinity", "-inf", "-inf"},
        {"18446744073709551616", "18446744073709551616", "18446744073709551616"},
        {"5.0", "5.0", "5.0"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf b = BUF_INIT;

        py_put_str(&b, parse(cases[i].json));
        assert_string_equal(b.data, cases[i].str);
        buf_clear(&b);
        py_put_repr(&b, parse(cases[i].json));
        assert_string_equal(b.data, cases[i].repr);
        buf_free(&b);
    }
}

static void test_int(void **state)
{
    static const struct {
        const char *json, *want, *why;
    } cases[] = {
        {"\"16\"", "16", NULL},
        {"\" 7 \"", "7", NULL},
        {"\"-3\"", "-3", NULL},
        {"\"+3\"", "3", NULL},
        {"\"1_000\"", "1000", NULL},
        {"\"1__0\"", NULL, "invalid literal for int() with base 10: '1__0'"},
        {"\"_1\"", NULL, "invalid literal for int() with base 10: '_1'"},
        {"\"007\"", "7", NULL},
        {"\"-0\"", "0", NULL},
        {"\"abc\"", NULL, "invalid literal for int() with base 10: 'abc'"},
        {"\"\"", NULL, "invalid literal for int() with base 10: ''"},
        {"\"1.5\"", NULL, "invalid literal for int() with base 10: '1.5'"},
        {"\"0x10\"", NULL, "invalid literal for int() with base 10: '0x10'"},
        {"16.9", "16", NULL},
        {"-16.9", "-16", NULL},
        {"-0.5", "0", NULL},
        {"true", "1", NULL},
        {"false", "0", NULL},
        {"null", NULL,
         "int() argument must be a string, a bytes-like object or a real number, not 'NoneType'"},
        {"{}", NULL, "int() argument must be a string, a bytes-like object or a real number, not 'dict'"},
        {"NaN", NULL, "cannot convert float NaN to integer"},
        {"Infinity", NULL, "cannot convert float infinity to integer"},
        {"1e20", "100000000000000000000", NULL},
        {"18446744073709551615", "18446744073709551615", NULL},
        {"\"12 3\"", NULL, "invalid literal for int() with base 10: '12 3'"},
        {"\"1\\u0000\"", NULL, "invalid literal for int() with base 10: '1\\x00'"},
        {"\"\\uff11_\\u0662\\ud835\\udfd7\\u00a0\"", "129", NULL}, /* digits and blanks of other scripts */
        {"\"1\\u00b2\"", NULL, "invalid literal for int() with base 10: '1\302\262'"},
        {"\"\\u200b1\"", NULL, "invalid literal for int() with base 10: '\\u200b1'"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf out = BUF_INIT, why = BUF_INIT;

        assert_int_equal(py_int(parse(cases[i].json), &out, &why), cases[i].want != NULL);
        assert_string_equal(buf_str(cases[i].want ? &out : &why),
                            cases[i].want ? cases[i].want : cases[i].why);
        assert_int_equal(cases[i].want ? why.len : out.len, 0);
        py_int(parse(cases[i].json), &out, NULL);
        buf_free(&out);
        buf_free(&why);
    }
}

/* Of a long string as much is told as CPython tells. */
static void test_int_long_text(void **state)
{
    struct buf text = BUF_INIT, out = BUF_INIT, why = BUF_INIT;

    (void)state;
    buf_putc(&text, '"');
    for (int i = 0; i < 300; i++)
        buf_puts(&text, "\303\244");
    buf_putc(&text, '"');
    assert_false(py_int(parse(buf_str(&text)), &out, &why));
    assert_int_equal(why.len, strlen("invalid literal for int() with base 10: '") + 2 * 199);
    buf_free(&text);
    buf_free(&why);
}

/* A string of too many digits; as many as that limit allows are fine, whatever they say. */
static void test_int_too_long(void **state)
{
    struct buf text = BUF_INIT, out = BUF_INIT, why = BUF_INIT;

    (void)state;
    buf_puts(&text, "\"-");
    for (int i = 0; i < 4300; i++)
        buf_putc(&text, '1');
    buf_puts(&text, "\"");
    assert_true(py_int(parse(buf_str(&text)), &out, &why));
    assert_int_equal(out.len, 4301);
    text.data[text.len - 1] = '1';
    buf_puts(&text, "\"");
    assert_false(py_int(parse(buf_str(&text)), &out, &why));
    assert_string_equal(
        why.data, "Exceeds the limit (4300 digits) for integer string conversion: value has 4301 digits; "
                  "use sys.set_int_max_str_digits() to increase the limit");
    buf_free(&text);
    buf_free(&out);
    buf_free(&why);
}

static void test_float(void **state)
{
    static const struct {
        const char *json, *want, *why;
    } cases[] = {
        {"\"x\"", NULL, "could not convert string to float: 'x'"},
        {"\"1.5\"", "1.5", NULL},
        {"\" 2e3 \"", "2000.0", NULL},
        {"\"1_0.5\"", "10.5", NULL},
        {"\"nan\"", "nan", NULL},
        {"\"-inf\"", "-inf", NULL},
        {"\"Infinity\"", "inf", NULL},
        {"\"infinit\"", NULL, "could not convert string to float: 'infinit'"},
        {"\"0x10\"", NULL, "could not convert string to float: '0x10'"},
        {"\"nan(1)\"", NULL, "could not convert string to float: 'nan(1)'"},
        {"\"1e\"", NULL, "could not convert string to float: '1e'"},
        {"\".\"", NULL, "could not convert string to float: '.'"},
        {"\".5\"", "0.5", NULL},
        {"\"5.\"", "5.0", NULL},
        {"\"\"", NULL, "could not convert string to float: ''"},
        {"\"1,5\"", NULL, "could not convert string to float: '1,5'"},
        {"\"\\u0661.\\u0665\"", "1.5", NULL}, /* digits and blanks of other scripts */
        {"\"\\u2003-\\uff17e\\uff12\\u00a0\"", "-700.0", NULL},
        {"null", NULL, "float() argument must be a string or a real number, not 'NoneType'"},
        {"{}", NULL, "float() argument must be a string or a real number, not 'dict'"},
        {"true", "1.0", NULL},
        {"7", "7.0", NULL},
        {"1e400", "inf", NULL},
    };
    char huge[401];
    double d;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf out = BUF_INIT, why = BUF_INIT;

        assert_int_equal(py_float(parse(cases[i].json), &d, &why), cases[i].want != NULL);
        if (cases[i].want) {
            json_put_double(&out, d);
            py_put_repr(&why, parse(out.data));
        }
        assert_string_equal(buf_str(&why), cases[i].want ? cases[i].want : cases[i].why);
        buf_free(&out);
        buf_free(&why);
    }
    memset(huge, '1', 400);
    huge[400] = '\0';
    struct buf why = BUF_INIT;
    assert_false(py_float(parse(huge), &d, &why));
    assert_string_equal(why.data, "int too large to convert to float");
    buf_free(&why);
}

static void test_compare(void **state)
{
    static const struct {
        const char *a, *b;
        int cmp; /* 2: not comparable */
    } cases[] = {
        {"18446744073709551616", "18446744073709551615", 1},
        {"18446744073709551615", "18446744073709551615", 0},
        {"-18446744073709551616", "-18446744073709551615", -1},
        {"-1", "0", -1},
        {"-0", "0", 0},
        {"0", "-0", 0},
        {"-0", "-1", 1},
        {"9", "10", -1},
        {"1", "1.0", 0},
        {"true", "1", 0},
        {"0.5", "true", -1},
        {"-1.5", "-2", 1},
        {"Infinity", "1e308", 1},
        {"9007199254740993", "9007199254740992.0", 1}, /* exact, not as doubles */
        {"-9.223372036854776e+18", "-9223372036854775807", -1},
        {"3", "2.5", 1},
        {"-3", "-2.5", -1},
        {"-2", "-2.5", 1},
        {"7", "Infinity", -1},
        {"7", "-Infinity", 1},
        {"0", "-0.0", 0},
        {"0", "-0.5", 1},
        {"NaN", "1", 2},
        {"\"1\"", "1", 2},
        {"null", "0", 2},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        int c = 2;

        assert_int_equal(py_compare(parse(cases[i].a), parse(cases[i].b), &c), cases[i].cmp != 2);
        assert_int_equal(c, cases[i].cmp);
    }
}

static void test_equal(void **state)
{
    static const struct {
        const char *a, *b;
        bool same;
    } cases[] = {
        {"\"a\"", "\"\\u0061\"", true},
        {"\"a\"", "\"b\"", false},
        {"\"1\"", "1", false},
        {"1", "1.0", true},
        {"true", "1", true},
        {"false", "0.0", true},
        {"null", "null", true},
        {"null", "false", false},
        {"NaN", "NaN", false},
        {"[1,\"a\"]", "[1.0, \"a\"]", true},
        {"[1]", "[1,2]", false},
        {"[1,2]", "[1]", false},
        {"[]", "[]", true},
        {"[]", "{}", false},
        {"{\"a\":1}", "{\"a\":1}", true},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_int_equal(py_eq(parse(cases[i].a), parse(cases[i].b)), cases[i].same);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_str_and_repr), cmocka_unit_test(test_int),
        cmocka_unit_test(test_int_too_long), cmocka_unit_test(test_int_long_text),
        cmocka_unit_test(test_float),        cmocka_unit_test(test_compare),
        cmocka_unit_test(test_equal),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
