#include "comfy/validate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/testdata.h"
#include "comfy/prompt_request.h"

static struct json parse(const char *s)
{
    return testdata_parse(s, strlen(s));
}

static struct object_info *load(const char *text)
{
    struct err e;
    struct object_info *o = object_info_new(text, strlen(text), NULL, 0, &e);

    if (!o)
        fail_msg("%s", e.msg);
    return o;
}

/* What the test nodes' and LoadImage's VALIDATE_INPUTS say on the recorded servers. */
static int custom(void *arg, const struct graph *g, size_t node, const struct object_class *c,
                  struct buf *input, struct buf *why)
{
    struct json inputs = graph_at(g, node)->inputs;
    int64_t v;

    (void)arg;
    if (str_is(c->name, "LoadImage") && json_str_eq(json_get(inputs, "image"), "missing.png")) {
        buf_puts(input, "image");
        buf_puts(why, "Invalid image file: missing.png");
        return 1;
    }
    if (str_is(c->name, "RaisingValidate") && json_int(json_get(inputs, "value"), &v) && v >= 1 && v <= 3) {
        buf_puts(input, v == 3 ? "RuntimeError" : "value");
        buf_puts(why, v == 1 ? "value must not be 1" : v == 3 ? "validator blew up" : "");
        return (int)v;
    }
    return 0;
}

/* ---- the recorded verdicts ---------------------------------------------------------------------------- */

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static char *canon(struct json v, const char *key);

/* Order has no meaning in objects, in the errors of a node, in its outputs and in the lines of details. */
static char *canon_parts(struct json v, const char *key)
{
    struct json_iter it = json_iter(v);
    struct json k, m;
    size_t n = json_count(v), i = 0;
    char **part = calloc(n ? n : 1, sizeof(char *));
    struct buf b = BUF_INIT;

    while (json_next(&it, &k, &m)) {
        char *name = k.p ? json_strdup(k) : xstrdup(""), *text = canon(m, name);

        part[i++] = xasprintf("%s:%s", name, text);
        free(name);
        free(text);
    }
    if (json_type(v) == JSON_OBJECT || strcmp(key, "errors") == 0 || strcmp(key, "dependent_outputs") == 0)
        qsort(part, n, sizeof(char *), by_text);
    for (i = 0; i < n; i++) {
        buf_printf(&b, "%s%s", i ? "," : json_type(v) == JSON_OBJECT ? "{" : "[", part[i]);
        free(part[i]);
    }
    free(part);
    buf_puts(&b, "]");
    return buf_take(&b);
}

static char *canon(struct json v, const char *key)
{
    struct buf b = BUF_INIT;
    char *lines[64], *text, *p, *save;
    size_t n = 0;

    if (strcmp(key, "traceback") == 0)
        return xstrdup("traceback");
    if (json_type(v) == JSON_OBJECT || json_type(v) == JSON_ARRAY)
        return canon_parts(v, key);
    if (strcmp(key, "details") != 0 || json_type(v) != JSON_STRING) {
        json_put(&b, v);
        return buf_take(&b);
    }
    text = json_strdup(v);
    for (p = strtok_r(text, "\n", &save); p && n < 64; p = strtok_r(NULL, "\n", &save))
        lines[n++] = p;
    qsort(lines, n, sizeof(char *), by_text);
    for (size_t i = 0; i < n; i++)
        buf_printf(&b, "%s|", lines[i]);
    free(text);
    return buf_take(&b);
}

struct replay {
    struct object_info *info;
    bool shapes; /* compare bodies, not only verdicts */
    size_t same, all, gateway_lenient, coercions;
    char *coerced; /* the graph whose values history shows in the next line */
};

static void compare(const char *what, const char *got, size_t got_n, struct json want)
{
    struct json g = testdata_parse(got, got_n);
    char *a = canon(g, ""), *b = canon(want, "");

    if (strcmp(a, b) != 0)
        fail_msg("%s\n  got  %s\n  want %s", what, a, b);
    free(a);
    free(b);
}

static void replay_prompt(struct replay *r, const char *note, const char *body, size_t len, int64_t status,
                          struct json answer)
{
    struct prompt_request req;
    struct prompt_error pe = {0};
    struct validate_opts o = {
        .dialect = VALIDATE_OLD, .strict = true, .custom = custom, .coerce = COERCE_ALL};
    struct validate_result res;
    struct graph *g;
    struct err e;
    struct buf b = BUF_INIT;

    if (prompt_request_parse(body, len, &req, &pe) < 0) {
        prompt_error_fini(&pe);
        return;
    }
    o.targets = req.targets;
    g = graph_new(req.prompt, 0, &e);
    if (g && (status == 200 || status == 400)) {
        validate_prompt(g, validate_info_class, r->info, &o, &res);
        if (res.ok != (status == 200))
            fail_msg("%s: ok %d, status %d", note, res.ok, (int)status);
        if (r->shapes && !(strcmp(note, "exception_during_inner_validation") == 0)) {
            if (status == 400) {
                validate_put_body(&b, &res);
                compare(note, b.data, b.len, answer);
            } else {
                compare(note, res.node_errors.data, res.node_errors.len, json_get(answer, "node_errors"));
            }
            r->same++;
        }
        r->all++;
        if (strncmp(note, "coercion:", 9) == 0) {
            buf_clear(&b);
            edits_put(&res.coerced, &b, graph_text(g));
            free(r->coerced);
            r->coerced = xstrdup(b.data);
        }
        validate_result_fini(&res);
        /* The gateway is never stricter than the server. */
        o = (struct validate_opts){.dialect = VALIDATE_NEW, .targets = req.targets};
        validate_prompt(g, validate_info_class, r->info, &o, &res);
        if (status == 200 && !res.ok)
            fail_msg("stricter than the server: %s: %s", note, res.error.type);
        r->gateway_lenient += status == 400 && res.ok;
        validate_result_fini(&res);
    }
    if (g)
        graph_free(&g);
    buf_free(&b);
    prompt_request_fini(&req);
}

static void history_line(struct replay *r, struct json line)
{
    size_t n;
    char *text = testdata_str(testdata_at(line, "response.body"), &n);
    struct json_iter it = json_iter(testdata_parse(text, n));
    struct json entry, graph;

    assert_true(json_next(&it, NULL, &entry));
    graph = json_at(json_get(entry, "prompt"), 2);
    if (json_str_eq(testdata_at(graph, "1.class_type"),
                    "EmptyImage")) { /* in one recording it was not done yet */
        assert_int_equal(graph.n, strlen(r->coerced));
        assert_memory_equal(graph.p, r->coerced, graph.n);
        r->coercions++;
    }
    free(r->coerced);
    r->coerced = NULL;
    free(text);
}

static void replay_line(void *arg, struct json line)
{
    struct replay *r = arg;
    struct json answer = {NULL, 0};
    char *note, *body, *text;
    size_t n, len;
    int64_t status = 0;

    if (r->coerced && json_str_eq(json_get(line, "note"), "coerced values are what history shows"))
        history_line(r, line);
    if (!json_str_eq(json_get(line, "kind"), "http") ||
        !json_str_eq(testdata_at(line, "request.path"), "/prompt") ||
        !json_str_eq(testdata_at(line, "request.method"), "POST") ||
        json_type(testdata_at(line, "request.body")) != JSON_STRING ||
        !json_int(testdata_at(line, "response.status"), &status))
        return;
    note = testdata_str(json_get(line, "note"), NULL);
    body = testdata_str(testdata_at(line, "request.body"), &n);
    text = testdata_str(testdata_at(line, "response.body"), &len);
    if (status == 200 || status == 400)
        answer = testdata_parse(text, len);
    replay_prompt(r, note, body, n, status, answer);
    free(note);
    free(body);
    free(text);
}

static void replay_any(void *arg, const char *file, struct json line)
{
    struct replay *r = arg;
    bool newer = strstr(file, "0.3.75") != NULL;

    /* two bodies, one per version: arg is an array of two */
    if (!strstr(file, "hostile"))
        replay_line(&r[newer], line);
}

static void test_recordings(void **state)
{
    static const char *const bodies[] = {"bodies/object_info.json.gz", "bodies/object_info-0.3.75.json.gz"};
    static const char *const sessions[2][2] = {{"sessions/c1_validation_errors", "sessions/c2_partial_200"},
                                               {"sessions-0.3.75/c1_validation_errors", NULL}};
    struct replay r[2] = {{.shapes = true}, {.shapes = true}};

    (void)state;
    if (!testdata_root())
        skip();
    for (int i = 0; i < 2; i++) {
        struct bytes *b = testdata_read(bodies[i]);

        r[i].info = load(b->data);
        bytes_unref(b);
        for (int k = 0; k < 2; k++)
            if (sessions[i][k])
                testdata_session(sessions[i][k], replay_line, &r[i]);
    }
    printf("same bodies as recorded: %zu and %zu; of the refused ones the gateway leaves %zu and %zu to the "
           "server\n",
           r[0].same, r[1].same, r[0].gateway_lenient, r[1].gateway_lenient);
    assert_true(r[0].same > 30 && r[1].same > 25);
    assert_int_equal(r[0].coercions, 1);
    assert_null(r[1].coerced);
    r[0].shapes = r[1].shapes = false;
    testdata_all(replay_any, r);
    printf("same verdicts as recorded: %zu and %zu\n", r[0].all, r[1].all);
    assert_true(r[0].all > 180 && r[1].all > 150);
    object_info_unref(r[0].info);
    object_info_unref(r[1].info);
}

/* ---- what no recording shows -------------------------------------------------------------------------- */

/* clang-format off: a class begins each line */
static const char info_text[] =
    "{\"Src\": {\"input\": {\"required\": {\"n\": [\"INT\", {\"min\": 1, \"max\": 9}], \"f\": [\"FLOAT\"]}, "
    "\"optional\": {\"s\": [\"STRING\"], \"b\": [\"BOOLEAN\"], \"list\": [[\"a\", \"b\"]], "
    "\"v3\": [\"COMBO\", {\"options\": [\"p\"]}]}}, "
    "\"output\": [\"IMAGE\", \"MASK,X\"], \"python_module\": \"nodes\"}, "
    "\"Inv\": {\"input\": {\"required\": {\"image\": [\"IMAGE\"]}}, "
    "\"output\": [\"IMAGE\"], \"python_module\": \"nodes\"}, "
    "\"Two\": {\"input\": {\"required\": {\"a\": [\"IMAGE\"], \"b\": [\"IMAGE\"]}}, "
    "\"output\": [\"IMAGE\"], \"python_module\": \"nodes\"}, "
    "\"Save\": {\"input\": {\"required\": {\"images\": [\"X,IMAGE\"]}}, "
    "\"output\": [], \"output_node\": true, \"python_module\": \"nodes\"}, "
    "\"Any\": {\"input\": {\"required\": {\"x\": [\"*\"]}}, "
    "\"output\": [\"*\"], \"output_node\": true, \"python_module\": \"nodes\"}, "
    "\"Cust\": {\"input\": {\"required\": {\"n\": [\"INT\", {\"min\": 1}], \"im\": [\"IMAGE\"], "
    "\"l\": [[\"a\"]], \"grow\": [\"COMFY_AUTOGROW_V3\"]}}, "
    "\"output\": [\"MASK\"], \"output_node\": true, \"python_module\": \"custom_nodes.x\"}}";
/* clang-format on */

struct run {
    bool ok;
    char *body, *coerced;
    size_t n_outputs;
};

static struct run run(const char *graph, struct validate_opts o)
{
    struct object_info *info = load(info_text);
    struct validate_result res;
    struct err e;
    struct graph *g = graph_new(parse(graph), 0, &e);
    struct buf b = BUF_INIT, c = BUF_INIT;
    struct run r;

    o.coerce = o.strict ? COERCE_ALL : COERCE_SENDABLE;
    validate_prompt(g, validate_info_class, info, &o, &res);
    if (res.ok)
        buf_put(&b, res.node_errors.data, res.node_errors.len);
    else
        validate_put_body(&b, &res);
    edits_put(&res.coerced, &c, graph_text(g));
    testdata_parse(b.data, b.len);
    testdata_parse(c.data, c.len);
    r = (struct run){res.ok, buf_take(&b), buf_take(&c), res.n_outputs};
    validate_result_fini(&res);
    graph_free(&g);
    object_info_unref(info);
    return r;
}

static const struct validate_opts gateway = {.dialect = VALIDATE_NEW};
static const struct validate_opts stock = {.dialect = VALIDATE_NEW, .strict = true};

static void says(const char *graph, struct validate_opts o, bool ok, const char *part)
{
    struct run r = run(graph, o);

    if (r.ok != ok ||
        (part && !(strcmp(part, "{}") == 0 ? strcmp(r.body, part) == 0 : strstr(r.body, part) != NULL)))
        fail_msg("%s\n  gives %d %s\n  not   %s", graph, r.ok, r.body, part ? part : "");
    free(r.body);
    free(r.coerced);
}

#define SAVE ",\"9\":{\"class_type\":\"Save\",\"inputs\":{\"images\":[\"1\",0]}}}"
#define SRC(inputs) "{\"1\":{\"class_type\":\"Src\",\"inputs\":{" inputs "}}" SAVE

static void test_values(void **state)
{
    struct run r;

    (void)state;
    says(SRC("\"n\":5,\"f\":0.5"), stock, true, "{}");
    says(SRC("\"n\":0,\"f\":0.5"), stock, false, "Value 0 smaller than min of 1");
    says(SRC("\"n\":\"10\",\"f\":0.5"), stock, false, "\"received_value\": 10}");
    says(SRC("\"n\":5,\"f\":{\"a\":1}"), stock, false,
         "f, {'a': 1}, float() argument must be a string or a real number, not 'dict'");
    says(SRC("\"n\":NaN,\"f\":1"), stock, false, "cannot convert float NaN to integer");
    says(SRC("\"n\":5,\"f\":1,\"list\":\"c\""), stock, false, "list: 'c' not in ['a', 'b']");
    says(SRC("\"n\":5,\"f\":1,\"list\":\"it's\""), stock, false, "list: \\\"it's\\\" not in");
    says(SRC("\"n\":5,\"f\":1,\"list\":7"), stock, false, "list: 7 not in");
    says(SRC("\"n\":5,\"f\":1,\"v3\":\"q\""), stock, false, "v3: 'q' not in ['p']");
    says(SRC("\"n\":5,\"f\":1,\"v3\":\"q\""), gateway, true, NULL); /* 0.3.75 takes it */
    says(SRC("\"n\":5,\"f\":1,\"list\":\"c\""), gateway, false, "value_not_in_list");
    says(SRC("\"n\":5,\"f\":1,\"list\":{\"__value__\":\"a\"}"), stock, true, NULL);
    says(SRC("\"n\":5,\"f\":1,\"list\":{\"__value__\":[\"a\"]}"), stock, false, "list: ['a'] not in");
    /* a literal where a link belongs is the node's affair */
    says("{\"9\":{\"class_type\":\"Save\",\"inputs\":{\"images\":5}}}", stock, true, NULL);

    r = run(SRC("\"n\":\" 7 \",\"f\":1,\"s\":5.0,\"b\":[1], \"b\":\"x\",\"list\":{\"__value__\":\"b\"}, "
                "\"other\":1.50"),
            stock);
    assert_true(r.ok);
    assert_string_equal(
        r.coerced,
        SRC("\"n\":7,\"f\":1.0,\"s\":\"5.0\",\"b\":[1], \"b\":true,\"list\":\"b\", \"other\":1.50"));
    free(r.body);
    free(r.coerced);
    /* What has the right type, what would be a link, and what is no JSON, stays as it came. */
    r = run(SRC("\"n\":\"7\",\"f\":\"inf\",\"s\":{\"__value__\":\"x\"},\"v3\":{\"__value__\":[\"1\",0]}"),
            gateway);
    assert_true(r.ok);
    assert_string_equal(r.coerced, SRC("\"n\":7,\"f\":\"inf\",\"s\":\"x\",\"v3\":{\"__value__\":[\"1\",0]}"));
    free(r.body);
    free(r.coerced);
}

static void test_links(void **state)
{
    (void)state;
#define LINK(l)                                                                                              \
    "{\"1\":{\"class_type\":\"Src\",\"inputs\":{\"n\":5,\"f\":1}},\"9\":{\"class_type\":\"Save\","           \
    "\"inputs\":{\"images\":" l "}}}"
    says(LINK("[\"1\",0]"), stock, true, NULL);
    says(LINK("[\"1\",1]"), stock, true, NULL); /* MASK,X meets X,IMAGE */
    says(LINK("[\"1\",-1]"), stock, true, NULL);
    says(LINK("[\"1\",true]"), stock, true, NULL);
    says(LINK("[\"1\",2]"), stock, false, "tuple index out of range");
    says(LINK("[\"1\",-3]"), stock, false, "tuple index out of range");
    says(LINK("[\"1\",99999999999999999999]"), stock, false, "cannot fit 'int' into an index-sized integer");
    says(LINK("[\"1\",0.0]"), stock, false, "tuple indices must be integers or slices, not float");
    says(LINK("[\"1\",null]"), stock, false, "not NoneType");
    says(LINK("[\"1\",{}]"), stock, false, "not dict");
    says(LINK("[\"8\",0]"), stock, false, "\"details\": \"'8'\"");
    says(LINK("[1,0]"), stock, false, "\"details\": \"1\"");
    says(LINK("[null,0]"), stock, false, "\"details\": \"None\"");
    says(LINK("[[],0]"), stock, false, "unhashable type: 'list'");
    says(LINK("[]"), stock, false, "bad_linked_input");
    says("{\"1\":{\"class_type\":\"Any\",\"inputs\":{\"x\":5}},\"2\":{\"class_type\":\"Save\",\"inputs\":{"
         "\"images\":[\"1\",0]}},"
         "\"3\":{\"class_type\":\"Any\",\"inputs\":{\"x\":[\"2\",0]}}}",
         stock, true, "tuple index out of range"); /* 1 and 2 run, 3 does not */
    /* an inner node that raises is named by what it was asked for */
    says("{\"1\":{\"class_type\":\"Inv\",\"inputs\":{\"image\":[\"7\",0]}}" SAVE, stock, false,
         "\"1\": {\"errors\": [{\"type\": \"exception_during_inner_validation\", \"message\": \"Exception "
         "when validating inner "
         "node\", \"details\": \"'7'\", \"extra_info\": {\"input_name\": \"images\", \"input_config\": "
         "[\"X,IMAGE\", {}], "
         "\"exception_message\": \"'7'\", \"exception_type\": \"KeyError\", \"traceback\": [], "
         "\"linked_node\": [\"1\",0]}}]");
    says("{\"1\":{\"class_type\":\"Inv\",\"inputs\":[]}" SAVE, stock, false, "required_input_missing");
    says("{\"1\":{\"class_type\":\"Inv\",\"inputs\":5}" SAVE, stock, false,
         "argument of type 'int' is not iterable");
    says("{\"9\":{\"class_type\":\"Save\"}}", stock, false, "Exception when validating node: 'inputs'");
}

static void test_classes(void **state)
{
    (void)state;
    says("{}", gateway, false, "\"prompt_no_outputs\"");
    says("{\"1\":{\"inputs\":{}}}", gateway, false,
         "{\"error\": {\"type\": \"missing_node_type\", \"message\": \"Node 'ID #1' has no class_type. The "
         "workflow may be corrupted or a "
         "custom node is missing.\", \"details\": \"Node ID '#1'\", \"extra_info\": {\"node_id\": \"1\", "
         "\"class_type\": null, "
         "\"node_title\": null}}, \"node_errors\": {}}");
    says("{\"1\":{\"class_type\":\"No\",\"inputs\":{},\"_meta\":{\"title\":\"My \\\"T\\\"\"}}}", gateway,
         false,
         "{\"error\": {\"type\": \"missing_node_type\", \"message\": \"Node 'My \\\"T\\\"' not found. The "
         "custom node may not be "
         "installed.\", \"details\": \"Node ID '#1'\", \"extra_info\": {\"node_id\": \"1\", \"class_type\": "
         "\"No\", \"node_title\": "
         "\"My \\\"T\\\"\"}}, \"node_errors\": {}}");
    says("{\"1\":{\"class_type\":[],\"inputs\":{}}}", gateway, false, "missing_node_type");
    /* custom classes may allow more than they show */
    says("{\"1\":{\"class_type\":\"Cust\",\"inputs\":{\"n\":0,\"im\":[\"1\",7],\"l\":\"z\",\"grow.a\":1}}}",
         gateway, false, "dependency_cycle");
    says("{\"2\":{\"class_type\":\"Cust\",\"inputs\":{\"n\":0,\"im\":5,\"l\":\"z\"}},\"1\":{\"class_type\":"
         "\"Cust\",\"inputs\":{\"n\":0,"
         "\"im\":[\"2\",0],\"l\":\"z\"}},\"3\":{\"class_type\":\"Cust\",\"inputs\":{\"n\":0,\"im\":[\"2\",5],"
         "\"l\":\"z\"}}}",
         gateway, true, "{}");
    says("{\"1\":{\"class_type\":\"Cust\",\"inputs\":{\"n\":\"x\",\"im\":1,\"l\":\"z\"}}}", gateway, false,
         "invalid_input_type");
    says("{\"1\":{\"class_type\":\"Cust\",\"inputs\":{\"n\":1,\"l\":\"z\"}}}", gateway, false,
         "required_input_missing");
    says("{\"1\":{\"class_type\":\"Cust\",\"inputs\":{\"n\":0,\"im\":1,\"l\":\"a\"}}}", stock, false,
         "value_smaller_than_min");
}

static void test_cycles(void **state)
{
    static const char two[] = "{\"1\":{\"class_type\":\"Inv\",\"inputs\":{\"image\":[\"3\",0]}},\"3\":{"
                              "\"class_type\":\"Inv\",\"inputs\":"
                              "{\"image\":[\"1\",0]}}" SAVE;
    struct validate_opts old = {.dialect = VALIDATE_OLD};

    (void)state;
    says(two, old, false, "\"details\": \"\", \"extra_info\": {}}, \"node_errors\": {}}");
    says(two, gateway, false,
         "\"1\": {\"errors\": [{\"type\": \"dependency_cycle\", \"message\": \"Dependency cycle detected\", "
         "\"details\": \"1 (Inv) -> 3 "
         "(Inv) -> 1 (Inv)\", \"extra_info\": {\"node_id\": \"1\", \"cycle_nodes\": [\"1\", \"3\"]}}], "
         "\"dependent_outputs\": [\"9\"]");
    says("{\"1\":{\"class_type\":\"Inv\",\"inputs\":{\"image\":[\"1\",0]}}" SAVE, gateway, false,
         "1 (Inv) -> 1 (Inv)");
    /* a cycle that no wanted output needs does not matter */
    says("{\"1\":{\"class_type\":\"Inv\",\"inputs\":{\"image\":[\"1\",0]}},\"2\":{\"class_type\":\"Save\","
         "\"inputs\":{\"images\":1}}}",
         gateway, true, "{}");
}

static void test_partial(void **state)
{
    struct validate_opts o = gateway;
    struct run r = run("{\"1\":{\"class_type\":\"Src\",\"inputs\":{\"n\":0,\"f\":1}},\"2\":{\"class_type\":"
                       "\"Save\",\"inputs\":{\"images\":"
                       "[\"1\",0]}},\"3\":{\"class_type\":\"Save\",\"inputs\":{\"images\":7}},\"4\":{\"class_"
                       "type\":\"Save\",\"inputs\":"
                       "{\"images\":[\"1\",0]}}}",
                       gateway);

    (void)state;
    assert_true(r.ok);
    assert_int_equal(r.n_outputs, 1);
    assert_non_null(strstr(r.body, "\"dependent_outputs\": [\"2\", \"4\"]"));
    free(r.body);
    free(r.coerced);
    o.targets = parse("[\"3\"]");
    says("{\"1\":{\"class_type\":\"Src\",\"inputs\":{}},\"2\":{\"class_type\":\"Save\",\"inputs\":{"
         "\"images\":[\"1\",0]}},\"3\":{\"class_type\":"
         "\"Save\",\"inputs\":{\"images\":7}}}",
         o, true, "{}");
    o.targets = parse("[\"1\"]");
    says("{\"1\":{\"class_type\":\"Src\",\"inputs\":{}}}", o, false, "prompt_no_outputs");
}

/* As big as is let in: a chain of 20000 nodes, one big ring, and 10000 outputs that all fail on 10000 faults.
 */
static void test_big(void **state)
{
    struct buf b = BUF_INIT;
    struct run r;

    (void)state;
    for (int ring = 0; ring < 2; ring++) {
        buf_clear(&b);
        buf_puts(&b, "{\"s\":{\"class_type\":\"Save\",\"inputs\":{\"images\":[\"n0\",0]}}");
        for (int i = 0; i < 19999; i++)
            if (i < 19998 || ring)
                buf_printf(
                    &b, ",\"n%d\":{\"class_type\":\"Two\",\"inputs\":{\"a\":[\"n%d\",0],\"b\":[\"n%d\",0]}}",
                    i, (i + 1) % 19999, (i + 1) % 19999);
            else
                buf_printf(&b, ",\"n%d\":{\"class_type\":\"Src\",\"inputs\":{\"n\":5,\"f\":1}}", i);
        buf_putc(&b, '}');
        r = run(b.data, gateway);
        assert_int_equal(r.ok, !ring);
        assert_true(strlen(r.body) < 64u << 20);
        free(r.body);
        free(r.coerced);
    }
    buf_clear(&b);
    buf_putc(&b, '{');
    for (int i = 0; i < 10000; i++)
        buf_printf(&b,
                   "%s\"n%d\":{\"class_type\":\"Src\",\"inputs\":{\"n\":\"x\",\"f\":1}},\"s%d\":{\"class_"
                   "type\":\"Save\",\"inputs\":{\"images\":"
                   "[\"n%d\",0]}}",
                   i ? "," : "", i, i, i);
    buf_putc(&b, '}');
    r = run(b.data, gateway);
    assert_false(r.ok);
    assert_true(strlen(r.body) < 64u << 20);
    free(r.body);
    free(r.coerced);
    buf_free(&b);
}

/* ---- the fleet ---------------------------------------------------------------------------------------- */

#define OUT                                                                                                  \
    "\"Out\": {\"input\": {\"required\": {\"x\": [\"*\"]}}, \"output_node\": true, \"python_module\": "      \
    "\"nodes\"}"
#define CKPT(list, more)                                                                                     \
    "\"Ckpt\": {\"input\": {\"required\": {\"name\": [" list "]" more                                        \
    "}}, \"output\": [\"MODEL\"], \"python_module\": \"nodes\"}"

static void fleet(const char *graph, bool ok, uint64_t can_want, const char *part)
{
    static const char *const names[] = {"gpu0", "gpu1", "gpu2"};
    struct object_info *infos[3] = {
        load("{" OUT ", " CKPT("[\"a\", \"b\"]", "") "}"),
        load("{" OUT ", " CKPT("[\"b\", \"c\"]", "") ", \"Special\": {\"output\": [\"X\"]}}"),
        load("{" OUT
             ", " CKPT("[\"a\", \"b\"]", ", \"extra\": [\"INT\"]") "}"), /* a newer version wants more */
    };
    struct object_view *v = object_view_new(infos, 3);
    struct server_set among = object_view_servers(v), can;
    struct validate_result r;
    struct err e;
    struct graph *g = graph_new(parse(graph), 0, &e);
    struct buf b = BUF_INIT;

    validate_fleet(g, v, &among, names, &gateway, &r, &can);
    if (r.ok)
        buf_put(&b, r.node_errors.data, r.node_errors.len);
    else
        validate_put_body(&b, &r);
    testdata_parse(b.data, b.len);
    if (r.ok != ok || can.w[0] != can_want ||
        (part && !(strcmp(part, "{}") == 0 ? strcmp(b.data, part) == 0 : strstr(b.data, part) != NULL)))
        fail_msg("%s gives %d %d %s", graph, r.ok, (int)can.w[0], b.data);
    validate_result_fini(&r);
    graph_free(&g);
    buf_free(&b);
    object_view_unref(v);
    for (int i = 0; i < 3; i++)
        object_info_unref(infos[i]);
}

static void test_fleet(void **state)
{
    (void)state;
#define G(inputs, more)                                                                                      \
    "{\"1\":{\"class_type\":\"Ckpt\",\"inputs\":{" inputs                                                    \
    "}},\"2\":{\"class_type\":\"Out\",\"inputs\":{\"x\":[\"1\",0]}}" more "}"
    fleet(G("\"name\":\"b\"", ""), true, 3, "{}"); /* the third wants `extra` */
    fleet(G("\"name\":\"b\",\"extra\":1", ""), true, 7, "{}");
    fleet(G("\"name\":\"a\",\"extra\":1", ""), true, 5, "{}");
    fleet(G("\"name\":\"c\"", ""), true, 2, "{}");
    fleet(G("\"name\":\"z\"", ""), false, 0, "'z' not in ['a', 'b']");
    fleet(G("\"name\":\"b\"", ",\"3\":{\"class_type\":\"Gone\",\"inputs\":{}}"), false, 0,
          "\"class_type\": \"Gone\"");
    fleet(G("\"name\":\"b\"", ",\"3\":{\"class_type\":\"Special\",\"inputs\":{}}"), true, 2, "{}");
    fleet(G("\"name\":\"a\"", ",\"3\":{\"class_type\":\"Special\",\"inputs\":{}}"), false, 0,
          "{\"error\": {\"type\": \"prompt_outputs_failed_validation\", \"message\": \"Prompt outputs failed "
          "validation\", \"details\": "
          "\"No one server has every node and model of this prompt; the closest is gpu0\", \"extra_info\": "
          "{\"servers\": [{\"name\": "
          "\"gpu0\", \"lacks\": [\"Special\"]}, {\"name\": \"gpu1\", \"lacks\": [\"name: a\"]}, {\"name\": "
          "\"gpu2\", \"lacks\": "
          "[\"Special\"]}]}}, \"node_errors\": {\"3\": {\"errors\": [{\"type\": \"missing_node_type\", "
          "\"message\": \"Node not found on "
          "this server\", \"details\": \"Special\", \"extra_info\": {}}], \"dependent_outputs\": [], "
          "\"class_type\": \"Special\"}}}");
    fleet("{}", false, 0, "prompt_no_outputs");
}

/* The graph as the fleet would keep it. */
static void fleet_keeps(const char *second, const char *graph, const char *want)
{
    static const char *const names[] = {"gpu0", "gpu1"};
#define NUM(type, more)                                                                                      \
    "{\"Num\": {\"input\": {\"required\": {\"n\": [\"" type "\"]" more                                       \
    "}}, \"output_node\": true, \"python_module\": \"nodes\"}}"
    struct object_info *infos[2] = {load(NUM("INT", "")), load(second)};
    struct object_view *v = object_view_new(infos, 2);
    struct server_set among = object_view_servers(v), can;
    struct validate_opts o = gateway;
    struct validate_result r;
    struct err e;
    struct graph *g = graph_new(parse(graph), 0, &e);
    struct buf b = BUF_INIT;

    o.coerce = COERCE_SENDABLE;
    validate_fleet(g, v, &among, names, &o, &r, &can);
    assert_true(r.ok);
    assert_int_equal(can.w[0], 3);
    edits_put(&r.coerced, &b, graph_text(g));
    assert_string_equal(buf_str(&b), want);
    validate_result_fini(&r);
    graph_free(&g);
    buf_free(&b);
    object_view_unref(v);
    for (int i = 0; i < 2; i++)
        object_info_unref(infos[i]);
}

static void test_fleet_keeps(void **state)
{
#define NUM_GRAPH(n) "{\"1\":{\"class_type\":\"Num\",\"inputs\":{\"n\":" n "}}}"
    (void)state;
    fleet_keeps(NUM("INT", ""), NUM_GRAPH("2.5"), NUM_GRAPH("2"));
    fleet_keeps(NUM("INT", ", \"m\": [\"*\"]"), NUM_GRAPH("2.5,\"m\":1"), NUM_GRAPH("2,\"m\":1"));
    /* one would run 2, the other 2.5: each is sent what came */
    fleet_keeps(NUM("FLOAT", ""), NUM_GRAPH("2.5"), NUM_GRAPH("2.5"));
    fleet_keeps(NUM("STRING", ""), NUM_GRAPH("2"), NUM_GRAPH("2"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_recordings), cmocka_unit_test(test_values), cmocka_unit_test(test_links),
        cmocka_unit_test(test_classes),    cmocka_unit_test(test_cycles), cmocka_unit_test(test_partial),
        cmocka_unit_test(test_big),        cmocka_unit_test(test_fleet),  cmocka_unit_test(test_fleet_keeps),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
