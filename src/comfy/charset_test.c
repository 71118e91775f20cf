#include "comfy/charset.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"

static void test_names(void **state)
{
    static const char *const cases[][2] = {
        {NULL, NULL},
        {"application/json", NULL},
        {"application/json; charset=utf-8", NULL},
        {"application/json;charset=UTF8", NULL},
        {"application/json; charset=", NULL},
        {"text/plain; charset=latin-1", "latin-1"},
        {"text/plain; x=\"charset\"; Charset=\"utf-16\"; y", "utf-16"},
        {"text/plain; xcharset=utf-16", NULL},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char *name = charset_of(cases[i][0]);

        if (cases[i][1])
            assert_string_equal(name, cases[i][1]);
        else
            assert_null(name);
        free(name);
    }
}

static void test_texts(void **state)
{
    static const struct {
        const char *charset, *text;
        size_t n;
        const char *utf8; /* NULL: refused */
    } cases[] = {
        {"latin-1", "gr\xf6\xdf", 4, "gr\xc3\xb6\xc3\x9f"},
        {"utf-16",
         "\xff\xfe"
         "a\0\xac\x20",
         6, "a\xe2\x82\xac"},
        {"utf-16-be", "\0a", 2, NULL},
        {"UTF-16BE", "\0a", 2, "a"},
        {"ascii", "a\xf6", 2, NULL},
        {"utf-16",
         "\xff\xfe"
         "a",
         3, NULL},
        {"nosuch", "a", 1, NULL},
        {"UTF-8//IGNORE", "a\xff", 2, NULL},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf b = BUF_INIT;
        struct err e;
        int ret = charset_to_utf8(cases[i].charset, cases[i].text, cases[i].n, &b, &e);

        if (cases[i].utf8 && ret < 0)
            fail_msg("%s: %s", cases[i].charset, e.msg);
        assert_int_equal(ret, cases[i].utf8 ? 0 : -1);
        if (cases[i].utf8)
            assert_string_equal(buf_str(&b), cases[i].utf8);
        buf_free(&b);
    }
}

/* More than is converted at one time. */
static void test_long(void **state)
{
    struct buf in = BUF_INIT, out = BUF_INIT;
    struct err e;

    (void)state;
    for (int i = 0; i < 10000; i++)
        buf_put(&in, "\xac\x20", 2);
    assert_int_equal(charset_to_utf8("UTF-16LE", in.data, in.len, &out, &e), 0);
    assert_int_equal(out.len, 30000);
    assert_memory_equal(out.data + 29997, "\xe2\x82\xac", 3);
    buf_free(&in);
    buf_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_names), cmocka_unit_test(test_texts),
                                       cmocka_unit_test(test_long)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
