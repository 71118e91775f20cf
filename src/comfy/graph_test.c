#include "comfy/graph.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/testdata.h"

static struct graph *make(const char *text)
{
    struct err e;
    struct graph *g = graph_new(testdata_parse(text, strlen(text)), 0, &e);

    if (!g)
        fail_msg("%s", e.msg);
    return g;
}

static void test_shape(void **state)
{
    static const char *const bad[] = {"[]",
                                      "null",
                                      "5",
                                      "\"x\"",
                                      "{\"1\": 5}",
                                      "{\"1\": \"a class_type\"}",
                                      "{\"1\": [0, \"class_type\"]}",
                                      "{\"1\": null}"};
    struct graph *g;
    struct err e;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_null(graph_new(testdata_parse(bad[i], strlen(bad[i])), 0, &e));
        assert_int_equal(e.code, EINVAL);
    }
    g = make(
        "{\"1\":{\"class_type\":\"A\",\"inputs\":{},\"_meta\":{\"title\":\"T\"}},\"2\":{\"inputs\":[]},"
        "\"\\u0031\":{\"class_type\":null,\"inputs\":{\"x\":1}}, \"a.0.1\":{\"class_type\":\"\\u0042\"}}");
    assert_int_equal(graph_size(g), 3); /* "1" twice: the last, at the place of the first */
    assert_null(graph_at(g, 0)->class_type.p);
    assert_int_equal(json_type(graph_at(g, 0)->class_span), JSON_NULL);
    assert_null(graph_at(g, 0)->title.p);
    assert_int_equal(json_count(graph_at(g, 0)->inputs), 1);
    assert_null(graph_at(g, 1)->class_span.p);
    assert_true(str_is(graph_at(g, 2)->class_type, "B"));
    assert_null(graph_at(g, 2)->inputs.p);
    assert_int_equal(graph_find(g, (struct str){"a.0.1", 5}), 2);
    assert_int_equal(graph_find(g, (struct str){"a.0", 3}), STR_NOWHERE);
    graph_free(&g);
    g = make(
        "{\"1\":[], \"2\":[\"inputs\", {}], \"3\":\"x\", \"4\":{}}"); /* nodes without a class, as in Python */
    assert_int_equal(graph_size(g), 4);
    for (size_t i = 0; i < 4; i++) {
        assert_null(graph_at(g, i)->class_span.p);
        assert_null(graph_at(g, i)->inputs.p);
    }
    graph_free(&g);
    assert_null(g);
    graph_free(&g);
    assert_null(graph_new(testdata_parse("{\"1\":{},\"2\":{}}", 15), 1, &e));
    assert_int_equal(e.code, E2BIG);
    g = graph_new(testdata_parse("{\"1\":{},\"1\":{}}", 15), 1, &e);
    assert_int_equal(graph_size(g), 1);
    graph_free(&g);
    g = make("{}");
    assert_int_equal(graph_size(g), 0);
    assert_int_equal(graph_order(g, NULL), 0);
    graph_free(&g);
}

static void test_links(void **state)
{
    static const struct {
        const char *text;
        bool yes;
    } cases[] = {{"[\"1\",0]", true},
                 {"[\"1\",-1]", true},
                 {"[\"1\",0.5]", true},
                 {"[\"1\",true]", false},
                 {"[\"1\"]", false},
                 {"[]", false},
                 {"[1,0]", false},
                 {"[\"1\",\"0\"]", false},
                 {"[\"1\",0,0]", false},
                 {"\"1\"", false},
                 {"{\"1\":0}", false},
                 {"null", false},
                 {"{\"a\":\"1\",\"b\":0}", false}};
    struct json id, slot;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_int_equal(graph_link(testdata_parse(cases[i].text, strlen(cases[i].text)), &id, &slot),
                         cases[i].yes);
    assert_false(graph_link((struct json){NULL, 0}, &id, &slot));
}

static void test_order(void **state)
{
    struct graph *g =
        make("{\"c\":{\"inputs\":{\"x\":[\"b\",0],\"y\":[\"a\",0]}},\"b\":{\"inputs\":{\"x\":[\"a\",1]}},"
             "\"a\":{\"inputs\":{\"z\":[\"nobody\",0]}}}");
    size_t order[8];

    (void)state;
    assert_int_equal(graph_order(g, order), 3);
    assert_int_equal(order[0], 2);
    assert_int_equal(order[1], 1);
    assert_int_equal(order[2], 0);
    graph_free(&g);
    g = make("{\"1\":{\"inputs\":{\"x\":[\"3\",0]}},\"3\":{\"inputs\":{\"x\":[\"1\",0]}},\"2\":{\"inputs\":{"
             "\"x\":[\"1\",0]}},"
             "\"4\":{\"inputs\":{}}}");
    assert_int_equal(graph_order(g, order), 1);
    assert_int_equal(order[0], 3);
    graph_free(&g);
    g = make("{\"1\":{\"inputs\":{\"x\":[\"1\",0]}}}");
    assert_int_equal(graph_order(g, order), 0);
    graph_free(&g);
}

/* As many nodes as are allowed, all in one chain, written backwards, with one node everything hangs on. */
static void test_long_chain(void **state)
{
    struct buf b = BUF_INIT;
    struct graph *g;
    struct err e;
    size_t *order = malloc(GRAPH_NODES_MAX * sizeof(*order));

    (void)state;
    buf_putc(&b, '{');
    for (int i = 0; i < GRAPH_NODES_MAX; i++)
        buf_printf(&b, "%s\"n%d\":{\"inputs\":{\"x\":[\"n%d\",0],\"y\":[\"n%d\",0]},\"class_type\":\"A\"}",
                   i ? "," : "", i, i + 1, i < GRAPH_NODES_MAX - 1 ? GRAPH_NODES_MAX - 1 : -1);
    buf_putc(&b, '}');
    g = graph_new(testdata_parse(b.data, b.len), 0, &e);
    assert_non_null(g);
    assert_int_equal(graph_order(g, order), GRAPH_NODES_MAX);
    for (size_t i = 0; i < GRAPH_NODES_MAX; i++)
        assert_int_equal(order[i], GRAPH_NODES_MAX - 1 - i);
    graph_free(&g);
    b.data[b.len - 1] = ',';
    buf_puts(&b, "\"one more\":{}}");
    assert_null(graph_new(testdata_parse(b.data, b.len), 0, &e));
    assert_int_equal(e.code, E2BIG);
    buf_free(&b);
    free(order);
}

static bool rename_cats(void *arg, const struct graph_value *v, struct str is, struct buf *to)
{
    size_t *seen = arg;

    (void)v;
    ++*seen;
    if (!str_is(is, "cat.png") && !str_is(is, "c\xc3\xa4t.png"))
        return false;
    buf_puts(to, "cat.0123456789ab.png");
    return true;
}

static void test_rename(void **state)
{
    struct graph *g = make("{ \"1\" : {\"class_type\":\"cat.png\",\"inputs\":{\"image\":\"cat.png\" "
                           ",\"seed\":18446744073709551615,"
                           "\"n\":5.0,\"cat.png\":[\"2\",0],\"list\":[\"cat.png\",[\"c\\u00e4t.png\",-0]],"
                           "\"d\":{\"cat.png\":\"cat.png\"},"
                           "\"lone\":\"\\ud83d\",\"not\":[\"cat.png\",0]},\"_meta\":{\"title\":\"cat.png\"}},"
                           "\"2\":{\"inputs\":\"cat.png\"},"
                           "\"cat.png\":{\"inputs\":{\"l\":[\"cat.png\",0]}} }");
    struct buf b = BUF_INIT;
    size_t seen = 0;

    (void)state;
    graph_put_renamed(&b, g, rename_cats, &seen);
    assert_string_equal(
        b.data,
        "{ \"1\" : {\"class_type\":\"cat.png\",\"inputs\":{\"image\":\"cat.0123456789ab.png\" "
        ",\"seed\":18446744073709551615,"
        "\"n\":5.0,\"cat.png\":[\"2\",0],\"list\":[\"cat.0123456789ab.png\",[\"cat.0123456789ab.png\",-0]],"
        "\"d\":{\"cat.png\":\"cat.0123456789ab.png\"},"
        "\"lone\":\"\\ud83d\",\"not\":[\"cat.png\",0]},\"_meta\":{\"title\":\"cat.png\"}},\"2\":{\"inputs\":"
        "\"cat.png\"},"
        "\"cat.png\":{\"inputs\":{\"l\":[\"cat.png\",0]}} }");
    assert_int_equal(seen, 5);
    graph_free(&g);
    buf_free(&b);
}

static bool count_assets(void *arg, const struct graph_value *v)
{
    size_t *n = arg;

    if (json_str_eq(json_get(v->value, "__type"), "core/ASSET")) {
        ++*n;
        return true; /* its strings are not names */
    }
    if (json_type(v->value) == JSON_STRING)
        *n += 100;
    return false;
}

static void test_walk_objects(void **state)
{
    struct graph *g = make("{\"1\":{\"inputs\":{\"a\":{\"__type\":\"core/ASSET\",\"info\":{\"id\":\"x\"}},"
                           "\"b\":[[{\"__type\":\"core/ASSET\"}],{\"c\":\"s\"}]}}}");
    size_t n = 0;
    struct buf deep = BUF_INIT;

    (void)state;
    graph_walk(g, count_assets, &n);
    assert_int_equal(n, 102);
    graph_free(&g);
    buf_puts(&deep, "{\"1\":{\"inputs\":{\"a\":");
    for (int i = 0; i < JSON_MAX_DEPTH - 3; i++)
        buf_putc(&deep, '[');
    buf_puts(&deep, "\"s\"");
    for (int i = 0; i < JSON_MAX_DEPTH - 3; i++)
        buf_putc(&deep, ']');
    buf_puts(&deep, "}}}");
    g = make(deep.data);
    n = 0;
    graph_walk(g, count_assets, &n);
    assert_int_equal(n, 100);
    graph_free(&g);
    buf_free(&deep);
}

static bool is_save(void *arg, struct str c)
{
    (void)arg;
    return str_starts(c, "Save");
}

static void test_outputs(void **state)
{
    struct graph *g =
        make("{\"1\":{\"class_type\":\"SaveImage\"},\"2\":{\"class_type\":\"X\"},\"3\":{\"class_type\":7},"
             "\"4\":{\"class_type\":\"SaveAudio\"}}");
    size_t v[4];

    (void)state;
    assert_int_equal(graph_outputs(g, is_save, NULL, v), 2);
    assert_int_equal(v[0], 0);
    assert_int_equal(v[1], 3);
    graph_free(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shape),      cmocka_unit_test(test_links),  cmocka_unit_test(test_order),
        cmocka_unit_test(test_long_chain), cmocka_unit_test(test_rename), cmocka_unit_test(test_walk_objects),
        cmocka_unit_test(test_outputs),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
