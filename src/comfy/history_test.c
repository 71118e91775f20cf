#include "comfy/history.h"

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

static struct history find(const char *body)
{
    struct history h;
    struct err e;

    if (history_find(parse(body), "p", &h, &e) != 0)
        fail_msg("not found: %s", body);
    return h;
}

static void test_find(void **state)
{
    static const char *const bad[] = {"[]",
                                      "null",
                                      "{\"p\": null}",
                                      "{\"p\": []}",
                                      "{\"p\": \"x\"}",
                                      "{\"p\": {}}",
                                      "{\"p\": {\"outputs\": null}}",
                                      "{\"p\": {\"outputs\": [{\"filename\": \"x\"}]}}"};
    struct history h;
    struct err e;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(history_find(parse(bad[i]), "p", &h, &e), -1);
    assert_int_equal(history_find(parse("{}"), "p", &h, &e), 1);
    assert_int_equal(history_find(parse("{\"q\": {\"outputs\": {}}}"), "p", &h, &e), 1);
}

static void test_verdict(void **state)
{
    static const struct {
        const char *status;
        enum history_verdict want;
    } cases[] = {
        {"null", HISTORY_UNKNOWN},
        {"5", HISTORY_UNKNOWN},
        {"{}", HISTORY_UNKNOWN},
        {"{\"status_str\":\"success\",\"completed\":true,\"messages\":[]}", HISTORY_SUCCESS},
        {"{\"status_str\":\"error\",\"completed\":false,\"messages\":[]}", HISTORY_ERROR},
        /* messages weigh more than status_str: the flag is not reset after some errors */
        {"{\"status_str\":\"success\",\"messages\":[[\"execution_start\",{}],[\"execution_error\",{}]]}",
         HISTORY_ERROR},
        {"{\"status_str\":\"success\",\"messages\":[[\"execution_error\",{}],[\"execution_success\",{}]]}",
         HISTORY_ERROR},
        {"{\"status_str\":\"error\",\"messages\":[[\"execution_interrupted\",{}]]}", HISTORY_INTERRUPTED},
        {"{\"status_str\":\"error\",\"messages\":[[\"execution_success\",{}]]}", HISTORY_SUCCESS},
        {"{\"status_str\":\"success\",\"messages\":{\"execution_error\":1}}", HISTORY_SUCCESS},
        {"{\"status_str\":\"success\",\"messages\":[5,null,[],[\"x\"],[[\"execution_error\"]]]}",
         HISTORY_SUCCESS},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char *body = xasprintf("{\"p\": {\"outputs\": {}, \"status\": %s}}", cases[i].status);

        assert_int_equal(find(body).verdict, cases[i].want);
        free(body);
    }
    assert_int_equal(find("{\"p\": {\"outputs\": {}}}").verdict, HISTORY_UNKNOWN);
}

static void test_faults(void **state)
{
    static const struct {
        const char *type, *message;
        enum history_fault want;
    } cases[] = {
        {"\"ValueError\"", "\"boom\\n\"", HISTORY_FAULT_NONE},
        {"\"torch.OutOfMemoryError\"", "\"Allocation on device \"", HISTORY_FAULT_MEMORY},
        {"\"torch.cuda.OutOfMemoryError\"", "\"x\"", HISTORY_FAULT_MEMORY},
        {"\"RuntimeError\"", "\"CUDA error: out of memory\"", HISTORY_FAULT_MEMORY},
        {"\"RuntimeError\"", "\"HIP out of memory. Tried to allocate\"", HISTORY_FAULT_MEMORY},
        {"\"MemoryError\"", "\"\"", HISTORY_FAULT_MEMORY},
        {"\"RuntimeError\"", "\"[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: not enough memory\"",
         HISTORY_FAULT_MEMORY},
        {"\"RuntimeError\"", "\"CUDA error: an illegal memory access was encountered\"",
         HISTORY_FAULT_DEVICE},
        {"\"torch.AcceleratorError\"", "\"x\"", HISTORY_FAULT_DEVICE},
        {"\"RuntimeError\"", "\"cuDNN error: CUDNN_STATUS_EXECUTION_FAILED\"", HISTORY_FAULT_DEVICE},
        {"\"RuntimeError\"", "\"HIP error: invalid device function\"", HISTORY_FAULT_DEVICE},
        {"null", "5", HISTORY_FAULT_NONE},
        {"[\"CUDA error\"]", "{\"a\": \"CUDA error\"}", HISTORY_FAULT_NONE},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_int_equal(history_classify(parse(cases[i].type), parse(cases[i].message)), cases[i].want);
    assert_int_equal(history_classify((struct json){NULL, 0}, (struct json){NULL, 0}), HISTORY_FAULT_NONE);
}

static bool list_output(void *arg, const struct history_output *o)
{
    static const char kinds[] = "FITR";
    struct buf *b = arg;

    buf_printf(b, "%c %.*s.%.*s ", kinds[o->kind], (int)o->node_id.n - 2, o->node_id.p + 1, (int)o->key.n - 2,
               o->key.p + 1);
    json_put(b, o->filename.p ? o->filename : o->value);
    if (o->subfolder.p)
        buf_printf(b, " in %.*s", (int)o->subfolder.n, o->subfolder.p);
    buf_putc(b, '\n');
    return true;
}

static void test_outputs(void **state)
{
    struct history h = find(
        "{\"p\": {\"outputs\": {\"9\": {\"images\": [{\"filename\": \"a.png\", \"subfolder\": \"\", "
        "\"type\": \"output\"}, "
        "null, 5, {\"filename\": 7}, {\"source\": \"http\", \"id\": \"x\"}], \"animated\": [true]},"
        "\"8\": {\"text\": [\"one\", [\"two\"], {\"t\": \"not\"}], \"one\": \"alone\", \"number\": [2], "
        "\"nothing\": [null]},"
        "\"7\": {\"result\": [\"3d/m.glb\", {\"camera\": \"no\", \"deep\": [{\"filename\": \"c.png\"}]}]},"
        "\"6\": null, \"5\": [{\"filename\": \"no\"}], \"4\": {\"gifs\": {\"filename\": \"v.mp4\", "
        "\"subfolder\": 5, "
        "\"type\": \"temp\"}, \"in\": [{\"filename\": \"i.png\", \"type\": \"input\"}]}}}}");
    struct buf b = BUF_INIT;

    (void)state;
    history_outputs(&h, list_output, &b);
    assert_string_equal(b.data, "F 9.images \"a.png\" in \"\"\n"
                                "T 8.text \"one\"\nT 8.text \"two\"\nT 8.one \"alone\"\n"
                                "R 7.result \"3d/m.glb\"\nF 7.result \"c.png\"\n"
                                "F 4.gifs \"v.mp4\"\nI 4.in \"i.png\"\n");
    buf_free(&b);
}

static void virtual_names(void *arg, const struct history_output *o, struct history_names *n)
{
    (void)arg;
    if (o->kind == HISTORY_FILE) {
        n->set_subfolder = true;
        buf_puts(&n->subfolder, "JOB");
        if (o->subfolder.n > 2) {
            buf_putc(&n->subfolder, '/');
            json_str(o->subfolder, &n->subfolder);
        }
    } else if (o->kind == HISTORY_INPUT) {
        n->set_filename = true;
        buf_puts(&n->filename, "c\xc3\xa4t.png");
    } else if (o->kind == HISTORY_RESULT) {
        n->set_text = true;
        buf_puts(&n->text, "JOB/m.glb");
    }
}

static void test_rewrite(void **state)
{
    struct history h = find("{\"p\": {\"prompt\": [ 7, \"p\", {\"1\": {\"inputs\": {\"seed\": "
                            "18446744073709551615}}}, {\"client_id\": \"ours\", "
                            "\"foo\": 5.0, \"api_key_comfy_org\": \"S\"}, [\"9\"]], \"outputs\": {\"9\": "
                            "{\"images\": [{\"filename\": \"a.png\", "
                            "\"subfolder\": \"s\", \"type\": \"output\", \"id\": \"asset\"}, {\"filename\": "
                            "\"b.png\"}], \"result\": [\"m.glb\", -0], "
                            "\"gifs\": [{\"fullpath\": \"/srv/x\", \"filename\": \"i.png\", \"type\": "
                            "\"input\"}]}}, \"status\": {\"status_str\": "
                            "\"success\", \"completed\": true, \"messages\": [[\"execution_start\", "
                            "{\"prompt_id\": \"p\", \"timestamp\": 1}], "
                            "[\"execution_success\", {\"timestamp\": 2, \"prompt_id\": \"p\"}]]}, \"meta\": "
                            "{\"9\": {\"node_id\": \"9\"}}, "
                            "\"new\": [1.0]}}");
    struct history_rewrite rw = {.prompt_id = "JOB",
                                 .number = parse("3"),
                                 .graph = parse("{\"mine\":{}}"),
                                 .client_id = "tab",
                                 .rename = virtual_names};
    struct buf b = BUF_INIT;

    (void)state;
    history_put_body(&b, &h, &rw);
    assert_string_equal(b.data, "{\"JOB\": {\"prompt\": [ 3, \"JOB\", {\"mine\":{}}, {\"foo\": 5.0, "
                                "\"client_id\": \"tab\"}, [\"9\"]], \"outputs\": {\"9\": "
                                "{\"images\": [{\"filename\": \"a.png\", \"subfolder\": \"JOB/s\", \"type\": "
                                "\"output\"}, {\"filename\": \"b.png\", "
                                "\"subfolder\": \"JOB\"}], \"result\": [\"JOB/m.glb\", -0], \"gifs\": "
                                "[{\"filename\": \"c\\u00e4t.png\", \"type\": "
                                "\"input\"}]}}, \"status\": {\"status_str\": \"success\", \"completed\": "
                                "true, \"messages\": [[\"execution_start\", "
                                "{\"prompt_id\": \"JOB\", \"timestamp\": 1}], [\"execution_success\", "
                                "{\"timestamp\": 2, \"prompt_id\": \"JOB\"}]]}, "
                                "\"meta\": {\"9\": {\"node_id\": \"9\"}}, \"new\": [1.0]}}");
    buf_clear(&b);
    rw = (struct history_rewrite){.extra_data = parse("{\"x\": 1}")};
    history_put_entry(&b, &h, &rw);
    assert_non_null(strstr(b.data, "{\"x\": 1}, [\"9\"]]"));
    assert_null(strstr(b.data, "ours"));
    assert_non_null(strstr(b.data, "18446744073709551615"));
    buf_clear(&b);
    history_put_node_output(&b, parse("\"9\""), parse("null"), virtual_names, NULL);
    assert_string_equal(b.data, "null");
    buf_clear(&b);
    history_put_node_output(&b, parse("\"9\""),
                            parse("{ \"images\" :[ {\"filename\":\"x.png\",\"subfolder\":\"\"} ]}"),
                            virtual_names, NULL);
    assert_string_equal(b.data, "{ \"images\" :[ {\"filename\":\"x.png\",\"subfolder\":\"JOB\"} ]}");
    buf_free(&b);
}

/* ---- recordings --------------------------------------------------------------------------------------- */

struct seen {
    size_t verdicts[4], outputs, entries;
};

static bool count_output(void *arg, const struct history_output *o)
{
    struct seen *s = arg;

    assert_int_equal(json_type(o->node_id), JSON_STRING);
    s->outputs++;
    return true;
}

static void one_entry(struct seen *s, struct json body, const char *id)
{
    struct history h;
    struct err e;
    struct buf b = BUF_INIT;
    struct json client;
    char *client_id;

    assert_int_equal(history_find(body, id, &h, &e), 0);
    s->entries++;
    s->verdicts[h.verdict]++;
    assert_int_equal(h.verdict == HISTORY_SUCCESS, json_is_true(json_get(h.status, "completed")));
    if (h.verdict == HISTORY_ERROR) {
        assert_int_equal(json_type(h.exception_message), JSON_STRING);
        assert_int_equal(json_type(h.traceback), JSON_ARRAY);
        assert_int_equal(h.fault, HISTORY_FAULT_NONE);
    }
    history_outputs(&h, count_output, s);
    /* Writing it anew with what is there changes nothing. */
    client = json_get(json_at(h.prompt, 3), "client_id");
    client_id = json_type(client) == JSON_STRING ? json_strdup(client) : NULL;
    history_put_entry(&b, &h, &(struct history_rewrite){.prompt_id = id, .client_id = client_id});
    if (client_id || !client.p) {
        /* client_id is always last in what ComfyUI stores, but for prompts that had it inside extra_data */
        if (b.len != h.entry.n || memcmp(b.data, h.entry.p, b.len) != 0)
            assert_int_equal(b.len, h.entry.n);
    }
    free(client_id);
    buf_free(&b);
}

static void recorded(void *arg, const char *file, struct json line)
{
    struct json path = testdata_at(line, "request.path"), k, v;
    char *text, *p;
    size_t n;

    (void)file;
    if (!json_str_eq(json_get(line, "kind"), "http") ||
        !json_str_eq(testdata_at(line, "request.method"), "GET"))
        return;
    p = testdata_str(path, NULL);
    if (strncmp(p, "/history", 8) == 0 && json_type(testdata_at(line, "response.body")) == JSON_STRING) {
        struct json body;

        text = testdata_str(testdata_at(line, "response.body"), &n);
        if (json_check(text, n, NULL, &body, NULL) == 0 && json_type(body) == JSON_OBJECT) {
            struct json_iter it = json_iter(body);

            while (json_next(&it, &k, &v)) {
                char *id = json_strdup(k);

                one_entry(arg, body, id);
                free(id);
            }
        }
        free(text);
    }
    free(p);
}

static void test_recordings(void **state)
{
    struct seen s = {0};

    (void)state;
    if (!testdata_root())
        skip();
    testdata_all(recorded, &s);
    printf("entries %zu: unknown %zu success %zu error %zu interrupted %zu, outputs %zu\n", s.entries,
           s.verdicts[0], s.verdicts[1], s.verdicts[2], s.verdicts[3], s.outputs);
    assert_true(s.entries > 100 && s.verdicts[1] && s.verdicts[2] && s.verdicts[3] && !s.verdicts[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_find),    cmocka_unit_test(test_verdict), cmocka_unit_test(test_faults),
        cmocka_unit_test(test_outputs), cmocka_unit_test(test_rewrite), cmocka_unit_test(test_recordings),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
