#include "comfy/object_info.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/testdata.h"

static struct json parse(const char *s)
{
    return testdata_parse(s, strlen(s));
}

static struct str s(const char *p)
{
    return (struct str){p, strlen(p)};
}

static struct object_info *load(const char *text, struct object_info *const *others, size_t n)
{
    struct err e;
    char *copy = malloc(strlen(text) ? strlen(text) : 1); /* the text may go once it has been read */
    struct object_info *o;

    memcpy(copy, text, strlen(text));
    o = object_info_new(copy, strlen(text), others, n, &e);
    free(copy);
    if (!o)
        fail_msg("%s", e.msg);
    return o;
}

#define LOADER(list)                                                                                         \
    "{\"input\": {\"required\": {\"ckpt\": [" list                                                           \
    ", {}], \"n\": [\"INT\", {\"min\": 1}]}}, \"output\": [\"MODEL\"], \"python_module\": \"nodes\"}"
#define A_TEXT "{\"Loader\": " LOADER("[\"a\", \"b\"]") ", \"Same\": {\"output_node\": true}}"
#define B_TEXT                                                                                               \
    "{\"Same\": {\"output_node\": true}, \"Loader\": " LOADER(                                               \
        "[\"b\", \"c\\u00e9\"]") ", \"OnlyB\": {\"api_node\": true}}"

static void test_class(void **state)
{
    struct object_info *o = load("{\"X\": {\"input\": {\"required\": {\"i\": [\"INT\", {\"min\": 0, \"max\": "
                                 "18446744073709551615}], \"v1\": [[\"a\", 1, "
                                 "true, null]], \"v3\": [\"COMBO\", {\"options\": [\"p\", \"q\"], "
                                 "\"multiselect\": true}], \"img\": [[\"x.png\"], "
                                 "{\"image_upload\": true}], \"rem\": [\"COMBO\", {\"remote\": {\"route\": "
                                 "\"/r\"}}]}, \"optional\": {\"o\\u0031\": "
                                 "[\"STRING\"], \"odd\": 5, \"odder\": []}, \"hidden\": {\"p\": "
                                 "\"PROMPT\"}}, \"output\": [\"IMAGE\", [\"a\", \"b\"]], "
                                 "\"python_module\": \"comfy_extras.nodes_x\", \"display_name\": \"The X\", "
                                 "\"output_node\": true, \"api_node\": false}, "
                                 "\"Odd\": {\"input\": [], \"output\": 5, \"python_module\": null}, \"Y\": "
                                 "{}, \"Y\": {\"api_node\": true, \"python_module\": "
                                 "\"custom_nodes.nodes\"}}",
                                 NULL, 0);
    const struct object_class *c = object_info_find(o, s("X"));
    const struct object_input *in;

    (void)state;
    assert_int_equal(object_info_count(o), 3);
    assert_true(c->own && c->output_node && !c->api_node);
    assert_true(str_is(c->display_name, "The X"));
    assert_int_equal(c->n_inputs, 8);
    assert_int_equal(c->n_outputs, 2);
    assert_int_equal(json_type(c->outputs[1]), JSON_ARRAY);
    assert_null(object_class_input(c, s("p")));
    in = object_class_input(c, s("i"));
    assert_true(in->required && !in->combo);
    assert_int_equal(in->max.n, 20);
    assert_false(object_input_has(in, parse("1")));
    in = object_class_input(c, s("v1"));
    assert_true(in->combo && !in->combo_v3);
    assert_true(object_input_has(in, parse("\"\\u0061\"")));
    assert_true(object_input_has(in, parse("1.0")));
    assert_true(object_input_has(in, parse("null")));
    assert_false(object_input_has(in, parse("\"1\"")));
    assert_false(object_input_has(in, parse("2")));
    in = object_class_input(c, s("v3"));
    assert_true(in->combo_v3 && in->multiselect && object_input_has(in, parse("\"q\"")));
    assert_true(object_class_input(c, s("img"))->upload);
    in = object_class_input(c, s("rem"));
    assert_true(in->remote && in->combo && !in->values.p);
    in = object_class_input(c, s("o1"));
    assert_true(!in->required && str_is(in->type_name, "STRING"));
    assert_null(object_class_input(c, s("odd"))->type.p);
    c = object_info_find(o, s("Odd"));
    assert_true(!c->own && c->n_inputs == 0 && c->n_outputs == 0);
    assert_true(object_info_find(o, s("Y"))->api_node && !object_info_find(o, s("Y"))->own);
    assert_null(object_info_find(o, s("Z")));
    object_info_unref(o);
}

static void test_bad_bodies(void **state)
{
    static const char *const bad[] = {"", "[]", "null", "{\"A\": 5}", "{\"A\": {}, \"B\": []}", "{\"A\": {}"};
    struct err e;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_null(object_info_new(bad[i], strlen(bad[i]), NULL, 0, &e));
}

static void test_sharing(void **state)
{
    struct object_info *a = load(A_TEXT, NULL, 0), *none = NULL;
    struct object_info *others[] = {none, a};
    struct object_info *b = load(B_TEXT, others, 2), *c = load(A_TEXT, others, 2);

    (void)state;
    assert_ptr_equal(object_info_find(a, s("Same")), object_info_find(b, s("Same")));
    assert_ptr_not_equal(object_info_find(a, s("Loader")), object_info_find(b, s("Loader")));
    assert_ptr_equal(object_info_find(a, s("Loader")), object_info_find(c, s("Loader")));
    object_info_unref(a); /* what was shared lives on */
    assert_true(object_info_find(b, s("Same"))->output_node);
    object_info_unref(b);
    assert_int_equal(object_info_find(c, s("Loader"))->n_inputs, 2);
    object_info_unref(c);
}

static bool own_files(void *arg, const struct object_class *c, const struct object_input *in,
                      struct buf *list)
{
    (void)arg;
    (void)c;
    (void)in;
    buf_puts(list, "[\"mine.png\"]");
    return true;
}

static void test_view(void **state)
{
    struct object_info *infos[4] = {load(A_TEXT, NULL, 0), NULL, load(B_TEXT, NULL, 0), NULL};
    struct object_view *v;
    struct server_set set;
    struct buf b = BUF_INIT;

    (void)state;
    infos[3] =
        load("{\"Img\": {\"input\": {\"required\": {\"image\": [[\"x.png\"], {\"image_upload\": true}]}}}}",
             NULL, 0);
    v = object_view_new(infos, 4);
    for (int i = 0; i < 4; i++)
        object_info_unref(infos[i]);
    assert_int_equal(object_view_count(v), 4);
    assert_int_equal(object_view_find(v, s("Loader"))->n, 2);
    assert_int_equal(object_view_find(v, s("Same"))->n, 1); /* equal texts, though never shared */
    set = object_entry_value_servers(object_view_find(v, s("Loader")), s("ckpt"), parse("\"b\""));
    assert_int_equal(set.w[0], 5);
    set = object_entry_value_servers(object_view_find(v, s("Loader")), s("ckpt"), parse("\"a\""));
    assert_int_equal(set.w[0], 1);
    set = object_entry_value_servers(object_view_find(v, s("Loader")), s("ckpt"), parse("\"z\""));
    assert_true(server_set_empty(&set));
    assert_int_equal(object_view_servers(v).w[0], 13);
    assert_null(object_view_class(v, 1, s("Same")));
    assert_null(object_view_class(v, 99, s("Same")));
    assert_non_null(object_view_class(v, 2, s("OnlyB")));
    object_view_put(&b, v, own_files, NULL);
    assert_string_equal(
        b.data,
        "{\"Loader\": " LOADER(
            "[\"a\", \"b\", \"c\\u00e9\"]") ", \"Same\": {\"output_node\": true}, \"OnlyB\": "
                                            "{\"api_node\": true}, \"Img\": {\"input\": {\"required\": "
                                            "{\"image\": [[\"mine.png\"], {\"image_upload\": "
                                            "true}]}}}}");
    buf_clear(&b);
    object_view_put_class(&b, v, s("Same"), NULL, NULL);
    assert_string_equal(b.data, "{\"Same\": {\"output_node\": true}}");
    buf_clear(&b);
    object_view_put_class(&b, v, s("Nobody"), NULL, NULL);
    assert_string_equal(b.data, "{}");
    buf_free(&b);
    object_view_unref(v);
}

#define COMBO_CLASS(input) "{\"C\": {\"input\": {\"required\": {\"c\": " input "}}}}"

static void united(const char *const *inputs, size_t n, const char *want)
{
    struct object_info *infos[4] = {NULL};
    struct object_view *v;
    struct buf b = BUF_INIT;

    for (size_t i = 0; i < n; i++) {
        char text[256];

        snprintf(text, sizeof(text), COMBO_CLASS("%s"), inputs[i]);
        infos[i] = load(text, NULL, 0);
    }
    v = object_view_new(infos, n);
    object_view_put_class(&b, v, s("C"), NULL, NULL);
    if (!strstr(b.data, want))
        fail_msg("%s\n  is not in %s", want, b.data);
    buf_free(&b);
    object_view_unref(v);
    for (size_t i = 0; i < n; i++)
        object_info_unref(infos[i]);
}

/* Both ways of writing a list, and both in one fleet: the first server's way has everybody's choices. */
static void test_united(void **state)
{
    static const char *const v3[] = {"[\"COMBO\", {\"options\": [\"a\"], \"x\": 1}]",
                                     "[\"COMBO\", {\"options\": [\"b\", \"a\"]}]"};
    static const char *const old_first[] = {"[[\"a\"]]", "[\"COMBO\", {\"options\": [\"b\"]}]",
                                            "[[\"c\", \"b\"], {}]"};
    static const char *const new_first[] = {"[\"COMBO\", {\"options\": []}]", "[[\"a\"]]"};
    static const char *const numbers[] = {"[[1, \"1\"]]", "[[2, 1.0, true]]", "[[2, 3, \"1\"]]"};
    static const char *const remote[] = {
        "[\"COMBO\", {\"remote\": {\"route\": \"/a\"}, \"options\": [\"a\"]}]",
        "[\"COMBO\", {\"remote\": {\"route\": \"/a\"}, \"options\": [\"b\"]}]"};
    static const char *const no_list[] = {"[\"COMBO\", {}]", "[[\"a\"]]"};

    (void)state;
    united(v3, 2, "[\"COMBO\", {\"options\": [\"a\", \"b\"], \"x\": 1}]");
    united(old_first, 3, "\"c\": [[\"a\", \"b\", \"c\"]]");
    united(new_first, 2, "[\"COMBO\", {\"options\": [\"a\"]}]");
    united(numbers, 3, "[[1, \"1\", 2, 3]]");
    united(remote, 2, "\"options\": [\"a\"]}");
    united(no_list, 2, "[\"COMBO\", {}]");
}

static void fits(const struct object_view *v, const char *graph, uint64_t can, size_t closest, size_t lacks)
{
    struct err e;
    struct graph *g = graph_new(parse(graph), 0, &e);
    struct server_set among = object_view_servers(v);
    struct object_fit fit;

    object_view_fit(v, g, &among, &fit);
    assert_int_equal(fit.can.w[0], can);
    assert_int_equal(fit.closest, closest);
    assert_int_equal(fit.closest_lacks, lacks);
    graph_free(&g);
}

static void test_fit(void **state)
{
    struct object_info *infos[3] = {load(A_TEXT, NULL, 0), load(B_TEXT, NULL, 0), NULL};
    struct object_view *v = object_view_new(infos, 3);
    struct err e;
    struct graph *g;

    (void)state;
    fits(v, "{}", 3, 0, 0);
    fits(v, "{\"1\":{\"class_type\":\"Loader\",\"inputs\":{\"ckpt\":\"a\"}}}", 1, 0, 0);
    fits(v, "{\"1\":{\"class_type\":\"Loader\",\"inputs\":{\"ckpt\":\"b\"}}}", 3, 0, 0);
    fits(v, "{\"1\":{\"class_type\":\"Loader\",\"inputs\":{\"ckpt\":\"c\xc3\xa9\"}}}", 2, 1, 0);
    fits(v, "{\"1\":{\"class_type\":\"Loader\",\"inputs\":{\"ckpt\":\"nobody has it\"}}}", 3, 0, 0);
    fits(v, "{\"1\":{\"class_type\":\"OnlyB\",\"inputs\":{}}}", 2, 1, 0);
    fits(v, "{\"1\":{\"class_type\":\"Nobody\",\"inputs\":{}}}", 3, 0, 0);
    fits(v, "{\"1\":{\"class_type\":\"Loader\",\"inputs\":{\"ckpt\":[\"x\",0],\"n\":7,\"more\":\"a\"}}}", 3,
         0, 0);
    fits(v, "{\"1\":{\"class_type\":5,\"inputs\":5},\"2\":{}}", 3, 0, 0);
    /* each thing is somewhere, nobody has all */
    fits(v,
         "{\"1\":{\"class_type\":\"Loader\",\"inputs\":{\"ckpt\":\"a\"}},\"2\":{\"class_type\":\"OnlyB\"},"
         "\"3\":"
         "{\"class_type\":\"OnlyB\"}}",
         0, 1, 1);
    g = graph_new(parse("{\"1\":{\"class_type\":\"Loader\"},\"2\":{\"class_type\":\"OnlyB\"}}"), 0, &e);
    assert_true(object_view_is_paid(v, g));
    graph_free(&g);
    g = graph_new(parse("{\"1\":{\"class_type\":\"Loader\"},\"2\":{}}"), 0, &e);
    assert_false(object_view_is_paid(v, g));
    graph_free(&g);
    object_view_unref(v);
    for (int i = 0; i < 3; i++)
        object_info_unref(infos[i]);
}

static void needs(const struct object_view *v, struct object_info *const *infos, const char *graph,
                  const char *want, int a, int b)
{
    struct err e;
    struct graph *g = graph_new(parse(graph), 0, &e);
    struct buf text = BUF_INIT;

    object_need_put(&text, v, g);
    assert_string_equal(text.data, want);
    assert_int_equal(object_need_met(infos[0], text.data), a);
    assert_int_equal(object_need_met(infos[1], text.data), b);
    assert_int_equal(object_need_met(NULL, text.data), -1);
    buf_free(&text);
    graph_free(&g);
}

static void test_needs(void **state)
{
    struct object_info *infos[2] = {
        load("{\"Loader\": " LOADER("[\"a\", \"m.safetensors\", \"both\"]") "}", NULL, 0),
        load("{\"Loader\": " LOADER("[\"m.safetensors\", \"both\"]") ", \"OnlyB\": {}}", NULL, 0)};
    struct object_view *v = object_view_new(infos, 2);

    (void)state;
    needs(v, infos, "{}", "{\"classes\": [], \"choices\": []}", 1, 1);
    needs(
        v, infos,
        "{\"2\":{\"class_type\":\"OnlyB\"},\"1\":{\"class_type\":\"Loader\",\"inputs\":{\"ckpt\":\"both\"}},"
        "\"3\":{\"class_type\":\"OnlyB\"}}",
        "{\"classes\": [\"Loader\", \"OnlyB\"], \"choices\": []}", 0, 1);
    needs(v, infos,
          "{\"1\":{\"class_type\":\"Loader\",\"inputs\":{\"ckpt\":\"m.safetensors\",\"n\":\"x.png\","
          "\"other\":\"a\"}}}",
          "{\"classes\": [\"Loader\"], \"choices\": [[\"Loader\", \"ckpt\", \"m.safetensors\"]]}", 1, 1);
    needs(v, infos, "{\"1\":{\"class_type\":\"Loader\",\"inputs\":{\"ckpt\":\"\\u0061\"}}}",
          "{\"classes\": [\"Loader\"], \"choices\": [[\"Loader\", \"ckpt\", \"a\"]]}", 1, 0);
    needs(v, infos,
          "{\"1\":{\"class_type\":\"Loader\",\"inputs\":{\"ckpt\":\"nobody.safetensors\"}},\"2\":{\"class_"
          "type\":5}}",
          "{\"classes\": [\"Loader\"], \"choices\": []}", 1, 1);
    assert_int_equal(object_need_met(infos[0], NULL), 1);
    assert_int_equal(object_need_met(NULL, ""), 1);
    assert_int_equal(object_need_met(infos[0], "junk"), -1);
    assert_int_equal(object_need_met(infos[0], "[]"), -1);
    assert_int_equal(object_need_met(infos[0], "{\"classes\": [5], \"choices\": 7}"), 0);
    assert_int_equal(object_need_met(infos[0], "{\"choices\": [5, [], [\"Loader\", 5, 5], [[]]]}"), 1);
    object_view_unref(v);
    object_info_unref(infos[0]);
    object_info_unref(infos[1]);
}

static void test_recordings(void **state)
{
    struct bytes *a, *b;
    struct object_info *infos[3];
    struct object_view *v;
    struct buf merged = BUF_INIT;
    struct json m;
    size_t same = 0, combos = 0, n = 0;

    (void)state;
    if (!testdata_root())
        skip();
    a = testdata_read("bodies/object_info.json.gz");
    b = testdata_read("bodies/object_info-0.3.75.json.gz");
    infos[0] = load(a->data, NULL, 0);
    infos[1] = load(b->data, infos, 1);
    infos[2] = load(b->data, infos, 2);
    v = object_view_new(infos, 3);
    for (size_t i = 0; i < object_view_count(v); i++) {
        const struct object_entry *e = object_view_at(v, i);

        assert_true(e->n <= 2);
        same += e->n == 1;
        for (size_t k = 0; k < e->v[0].c->n_inputs; k++)
            combos += e->v[0].c->inputs[k].combo;
    }
    assert_true(combos > 200);
    object_view_put(&merged, v, NULL, NULL);
    m = testdata_parse(merged.data, merged.len);
    assert_int_equal(json_count(m), object_view_count(v));
    for (size_t i = 0; i < object_view_count(v);
         i++) { /* every choice of every server is in the merged list */
        const struct object_entry *e = object_view_at(v, i);
        struct buf one = BUF_INIT;
        struct object_info *o;

        object_view_put_class(&one, v, e->name, NULL, NULL);
        o = load(one.data, NULL, 0);
        for (size_t j = 0; j < e->n; j++)
            for (size_t k = 0; k < e->v[j].c->n_inputs; k++) {
                const struct object_input *in = &e->v[j].c->inputs[k];
                const struct object_input *mine = object_class_input(object_info_at(o, 0), in->name);
                struct json_iter it = json_iter(in->values);
                struct json value;

                while (mine && mine->combo && mine->values.p && json_next(&it, NULL, &value)) {
                    assert_true(object_input_has(mine, value));
                    n++;
                }
            }
        object_info_unref(o);
        buf_free(&one);
    }
    printf("classes %zu, of one text on both versions or on one %zu, choices %zu\n", object_view_count(v),
           same, n);
    buf_free(&merged);
    buf_clear(&merged);
    /* one server alone: its own body again */
    object_view_unref(v);
    v = object_view_new(infos, 1);
    object_view_put(&merged, v, NULL, NULL);
    assert_int_equal(merged.len, a->len);
    assert_memory_equal(merged.data, a->data, a->len);
    buf_free(&merged);
    object_view_unref(v);
    for (int i = 0; i < 3; i++)
        object_info_unref(infos[i]);
    bytes_unref(a);
    bytes_unref(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_class), cmocka_unit_test(test_bad_bodies), cmocka_unit_test(test_sharing),
        cmocka_unit_test(test_view),  cmocka_unit_test(test_united),     cmocka_unit_test(test_fit),
        cmocka_unit_test(test_needs), cmocka_unit_test(test_recordings),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
