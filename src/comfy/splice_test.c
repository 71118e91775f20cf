#include "comfy/splice.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/testdata.h"

static struct json parse(const char *s)
{
    return testdata_parse(s, strlen(s));
}

static void test_edits(void **state)
{
    struct json v = parse(" {\"a\" : 18446744073709551615, \"b\":[ 5.0 ,-0], \"c\":\"\\ud83d\"} ");
    struct edits e = EDITS_INIT;
    struct buf out = BUF_INIT;

    (void)state;
    edits_put(&e, &out, v);
    assert_int_equal(out.len, v.n);
    assert_memory_equal(out.data, v.p, v.n);
    buf_clear(&out);
    /* in any order; a longer, a shorter, an insert at each end of a list */
    edits_replace_str(&e, json_get(v, "c"), "x\"y");
    edits_replace(&e, json_at(json_get(v, "b"), 1), "null", 4);
    edits_insert(&e, json_at(json_get(v, "b"), 0).p, "1,", 2);
    edits_insert(&e, json_at(json_get(v, "b"), 0).p, "2,", 2);
    edits_add_member(&e, v, "d\n", "{}", 2);
    edits_put(&e, &out, v);
    assert_string_equal(
        out.data, "{\"a\" : 18446744073709551615, \"b\":[ 1,2,5.0 ,null], \"c\":\"x\\\"y\", \"d\\n\": {}}");
    buf_clear(&out);
    /* a part takes only its own edits */
    edits_put(&e, &out, json_get(v, "b"));
    assert_string_equal(out.data, "[ 1,2,5.0 ,null]");
    edits_fini(&e);
    buf_clear(&out);
    v = parse("{ }");
    edits_add_member(&e, v, "k", "1", 1);
    edits_put(&e, &out, v);
    assert_string_equal(out.data, "{ \"k\": 1}");
    edits_fini(&e);
    buf_free(&out);
}

static bool drop_listed(void *arg, struct json key, struct json value)
{
    const char *names = arg;

    (void)value;
    for (; *names; names++)
        if (json_str_eqn(key, names, 1))
            return true;
    return false;
}

static void test_without(void **state)
{
    static const struct {
        const char *text, *drop, *want;
    } cases[] = {
        {"{\"a\":1,\"b\":2,\"c\":3}", "", "{\"a\":1,\"b\":2,\"c\":3}"},
        {"{\"a\":1,\"b\":2,\"c\":3}", "a", "{\"b\":2,\"c\":3}"},
        {"{\"a\":1,\"b\":2,\"c\":3}", "b", "{\"a\":1,\"c\":3}"},
        {"{\"a\":1,\"b\":2,\"c\":3}", "c", "{\"a\":1,\"b\":2}"},
        {"{\"a\":1,\"b\":2,\"c\":3}", "abc", "{}"},
        {"{\"a\":1,\"b\":2,\"c\":3}", "ac", "{\"b\":2}"},
        {"{ \"a\" : 1 , \"b\" : 2 }", "a", "{ \"b\" : 2 }"},
        {"{ \"a\" : 1 , \"b\" : 2 }", "b", "{ \"a\" : 1 }"},
        {"{ }", "a", "{ }"},
        {"{\"a\":1,\"b\":2,\"a\":3}", "a", "{\"b\":2}"}, /* every one of that name */
        {"{\"\\u0061\":1,\"b\":\"a\"}", "a", "{\"b\":\"a\"}"},
        {"[1,2]", "a", "[1,2]"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct buf out = BUF_INIT;
        char drop[8];

        snprintf(drop, sizeof(drop), "%s", cases[i].drop);
        splice_put_without(&out, parse(cases[i].text), drop_listed, drop);
        assert_string_equal(out.data, cases[i].want);
        assert_int_equal(json_check(out.data, out.len, NULL, NULL, NULL), 0);
        buf_free(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_edits),
        cmocka_unit_test(test_without),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
