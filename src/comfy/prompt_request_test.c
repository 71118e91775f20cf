#include "comfy/prompt_request.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/testdata.h"

#define ID_64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define ID_257 ID_64 ID_64 ID_64 ID_64 "x"
#define ID "01934567-89ab-7fff-bfff-ffffffffffff"

static struct prompt_request take(const char *body)
{
    struct prompt_request r;
    struct prompt_error e = {0};

    if (prompt_request_parse(body, strlen(body), &r, &e) < 0)
        fail_msg("%s: %s", e.type, body);
    return r;
}

static void refused(const char *body, const char *type)
{
    struct prompt_request r;
    struct prompt_error e = {0};
    struct buf b = BUF_INIT;
    struct json v;

    if (prompt_request_parse(body, strlen(body), &r, &e) == 0)
        fail_msg("accepted: %s", body);
    assert_string_equal(e.type, type);
    prompt_error_put_body(&b, &e, NULL);
    v = testdata_parse(b.data, b.len);
    assert_true(json_str_eq(testdata_at(v, "error.type"), type));
    assert_int_equal(json_count(json_get(v, "error")), 4);
    assert_int_equal(json_type(testdata_at(v, "error.extra_info")), JSON_OBJECT);
    assert_int_equal(json_type(json_get(v, "node_errors")), JSON_OBJECT);
    prompt_error_fini(&e);
    buf_free(&b);
}

static void test_refusals(void **state)
{
    static const struct {
        const char *body, *type;
    } cases[] = {
        {"", "invalid_json"},
        {"{\"prompt\": ", "invalid_json"},
        {"\xef\xbb\xbf{\"prompt\": {}}", "invalid_json"},
        {"{\"prompt\": \"\xff\"}", "invalid_json"},
        {"{}", "no_prompt"},
        {"[]", "no_prompt"},
        {"\"prompt\"", "no_prompt"},
        {"null", "no_prompt"},
        {"5", "no_prompt"},
        {"{\"prompt\": null}", "invalid_prompt"},
        {"{\"prompt\": [5]}", "invalid_prompt"},
        {"{\"prompt\": \"1\"}", "invalid_prompt"},
        {"{\"prompt\": {}, \"prompt\": 5}", "invalid_prompt"},
        {"{\"prompt\": {}, \"prompt_id\": \"x\"}", "invalid_prompt_id"},
        {"{\"prompt\": {}, \"prompt_id\": \"01934567-89AB-7fff-bfff-ffffffffffff\"}", "invalid_prompt_id"},
        {"{\"prompt\": {}, \"prompt_id\": \"" ID "\\u0000\"}", "invalid_prompt_id"},
        {"{\"prompt\": {}, \"prompt_id\": 5}", "invalid_prompt_id"},
        {"{\"prompt\": {}, \"prompt_id\": []}", "invalid_prompt_id"},
        {"{\"prompt\": {}, \"client_id\": \"" ID_257 "\"}", "invalid_client_id"},
        {"{\"prompt\": {}, \"extra_data\": {\"window_id\": \"" ID_257 "\"}}", "invalid_window_id"},
        {"{\"prompt\": {}, \"client_id\": []}", "invalid_client_id"},
        {"{\"prompt\": {}, \"client_id\": {}}", "invalid_client_id"},
        {"{\"prompt\": {}, \"client_id\": 5}", "invalid_client_id"},
        {"{\"prompt\": {}, \"client_id\": \"a\\u0000b\"}", "invalid_client_id"},
        {"{\"prompt\": {}, \"extra_data\": {\"client_id\": []}}", "invalid_client_id"},
        {"{\"prompt\": {}, \"number\": null}", "invalid_number"},
        {"{\"prompt\": {}, \"number\": NaN}", "invalid_number"},
        {"{\"prompt\": {}, \"number\": Infinity}", "invalid_number"},
        {"{\"prompt\": {}, \"number\": 1e400}", "invalid_number"},
        {"{\"prompt\": {}, \"number\": \"abc\"}", "invalid_number"},
        {"{\"prompt\": {}, \"number\": []}", "invalid_number"},
        {"{\"prompt\": {}, \"extra_data\": []}", "invalid_extra_data"},
        {"{\"prompt\": {}, \"extra_data\": 5}", "invalid_extra_data"},
        {"{\"prompt\": {}, \"extra_data\": \"x\"}", "invalid_extra_data"},
        {"{\"prompt\": {}, \"extra_data\": {\"window_id\": 5}}", "invalid_window_id"},
        {"{\"prompt\": {}, \"partial_execution_targets\": 5}", "invalid_partial_execution_targets"},
        {"{\"prompt\": {}, \"partial_execution_targets\": false}", "invalid_partial_execution_targets"},
    };
    struct buf deep = BUF_INIT;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        refused(cases[i].body, cases[i].type);
    buf_puts(&deep, "{\"prompt\": ");
    for (int i = 0; i < 100000; i++)
        buf_putc(&deep, '[');
    refused(deep.data, "invalid_json");
    buf_free(&deep);
}

static void test_fields(void **state)
{
    struct prompt_request r =
        take("{\"prompt\": {\"1\": {}}, \"prompt_id\": \"" ID "\", \"client_id\": \"c\\u00e9\", "
             "\"number\": \" 5 \", \"front\": true, \"partial_execution_targets\": [\"1\"]}");

    (void)state;
    assert_int_equal(json_count(r.prompt), 1);
    assert_string_equal(r.prompt_id, ID);
    assert_string_equal(r.client_id, "c\xc3\xa9");
    assert_true(r.has_number && r.number == 5);
    assert_false(r.front);
    assert_int_equal(json_type(r.targets), JSON_ARRAY);
    assert_null(r.extra_data.data);
    assert_null(r.secrets.data);
    assert_null(r.rest.data);
    prompt_request_fini(&r);
    r = take(
        "{\"prompt\": {}, \"prompt_id\": null, \"client_id\": null, \"front\": [0], \"extra_data\": null, "
        "\"partial_execution_targets\": null}");
    assert_string_equal(r.prompt_id, "");
    assert_null(r.client_id);
    assert_true(r.front);
    assert_null(r.targets.p);
    prompt_request_fini(&r);
    r = take(
        "{\"prompt\": {}, \"client_id\": \"\", \"front\": 0, \"extra_data\": {\"client_id\": \"inner\"}}");
    assert_string_equal(r.client_id, "");
    assert_false(r.front);
    prompt_request_fini(&r);
    r = take("{\"prompt\": {}, \"extra_data\": {\"client_id\": \"inner\"}}");
    assert_string_equal(r.client_id, "inner");
    assert_string_equal(r.extra_data.data, "{}");
    prompt_request_fini(&r);
    r = take("{\"prompt\": [], \"prompt\": {\"a\": {}}}"); /* the last counts */
    assert_int_equal(json_count(r.prompt), 1);
    prompt_request_fini(&r);
}

static void test_secrets_and_rest(void **state)
{
    /* as in d5_extra_data */
    struct prompt_request r =
        take("{\"prompt\": {}, \"client_id\": \"xd\", \"extra_data\": {\"auth_token_comfy_org\": "
             "\"SECRET-TOKEN\", "
             "\"api_key_comfy_org\": \"SECRET-KEY\", \"window_id\": \"w1\", \"extra_pnginfo\": "
             "{\"workflow\": {\"id\": "
             "\"w\", \"nodes\": [1, 2.0]}, \"more\": \"\\u00e9\"}, \"foo\": {\"bar\": [1, 2.0, true, null]}, "
             "\"create_time\": 1}, \"unknown_top_level\": {\"a\": 1}, "
             "\"workflow_metadata\":{\"workflow_id\":\"w\"}, "
             "\"api_key_comfy_org\": \"SECRET-TOO\"}");
    struct buf b = BUF_INIT;

    (void)state;
    assert_string_equal(r.window_id, "w1");
    assert_string_equal(r.extra_data.data,
                        "{\"extra_pnginfo\": {\"workflow\": {\"id\": \"w\", \"nodes\": [1, 2.0]}, \"more\": "
                        "\"\\u00e9\"}, \"foo\": {\"bar\": [1, 2.0, true, null]}, \"create_time\": 1}");
    assert_string_equal(r.secrets.data, "{\"auth_token_comfy_org\": \"SECRET-TOKEN\", \"api_key_comfy_org\": "
                                        "\"SECRET-KEY\"}");
    assert_string_equal(r.rest.data,
                        "{\"unknown_top_level\": {\"a\": 1}, \"workflow_metadata\":{\"workflow_id\":\"w\"}}");

    prompt_upstream_put(
        &b, &(struct prompt_upstream){.graph = testdata_parse("{ \"1\":{}}", 9),
                                      .prompt_id = "attempt",
                                      .client_id = "ours",
                                      .extra_data = testdata_parse(r.extra_data.data, r.extra_data.len),
                                      .secrets = testdata_parse(r.secrets.data, r.secrets.len),
                                      .targets = testdata_parse("[\"9\"]", 5),
                                      .rest = testdata_parse(r.rest.data, r.rest.len)});
    assert_string_equal(
        b.data,
        "{\"prompt\": { \"1\":{}}, \"prompt_id\": \"attempt\", \"client_id\": \"ours\", \"extra_data\": "
        "{\"extra_pnginfo\": {\"workflow\": {\"id\": \"w\", \"nodes\": [1, 2.0]}, \"more\": \"\\u00e9\"}, "
        "\"foo\": {\"bar\": [1, 2.0, true, null]}, \"create_time\": 1, \"auth_token_comfy_org\": "
        "\"SECRET-TOKEN\", \"api_key_comfy_org\": \"SECRET-KEY\", \"client_id\": \"ours\"}, "
        "\"partial_execution_targets\": [\"9\"], \"unknown_top_level\": {\"a\": 1}, "
        "\"workflow_metadata\": {\"workflow_id\":\"w\"}}");
    prompt_request_fini(&r);
    buf_clear(&b);
    prompt_upstream_put(
        &b, &(struct prompt_upstream){.graph = testdata_parse("{}", 2), .prompt_id = "a", .client_id = "o"});
    assert_string_equal(b.data,
                        "{\"prompt\": {}, \"prompt_id\": \"a\", \"client_id\": \"o\", \"extra_data\": "
                        "{\"client_id\": \"o\"}}");
    buf_free(&b);
}

/* Escaped and repeated names hide nothing. */
static void test_secrets_do_not_slip_through(void **state)
{
    struct prompt_request r = take("{\"prompt\": {}, \"extra_data\": {\"a\": 1, \"api_key_comfy_or\\u0067\": "
                                   "\"S1\", \"api_key_comfy_org\": "
                                   "\"S2\", \"extra_pnginfo\": {\"workflow\": null, \"x\": 1}}}");

    (void)state;
    assert_string_equal(r.extra_data.data, "{\"a\": 1, \"extra_pnginfo\": {\"x\": 1}}");
    assert_string_equal(r.secrets.data, "{\"api_key_comfy_org\": \"S1\", \"api_key_comfy_org\": \"S2\"}");
    prompt_request_fini(&r);
    r = take("{\"prompt\": {}, \"extra_data\": {\"extra_pnginfo\": null}}");
    assert_string_equal(r.extra_data.data, "{}");
    prompt_request_fini(&r);
}

static void test_targets(void **state)
{
    static const struct {
        const char *targets, *id;
        bool has;
    } cases[] = {{"null", "4", true},      {"[\"4\"]", "4", true},    {"[]", "4", false},
                 {"[4]", "4", false},      {"\"4\"", "4", true},      {"\"143\"", "4", true},
                 {"\"1\"", "4", false},    {"{\"4\": 1}", "4", true}, {"{\"1\": \"4\"}", "4", false},
                 {"[[\"4\"]]", "4", false}};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_int_equal(
            prompt_targets_has(testdata_parse(cases[i].targets, strlen(cases[i].targets)), cases[i].id, 1),
            cases[i].has);
    assert_true(prompt_targets_has((struct json){NULL, 0}, "4", 1));
}

/* What a real server took is taken, unless it harms one; what it said no to with 400 no_prompt is refused
 * alike. */
static void recorded(void *arg, const char *file, struct json line)
{
    size_t *n = arg, len;
    char *body;
    int64_t status = 0;
    struct prompt_request r;
    struct prompt_error e = {0};

    if (!json_str_eq(json_get(line, "kind"), "http") ||
        !json_str_eq(testdata_at(line, "request.path"), "/prompt") ||
        !json_str_eq(testdata_at(line, "request.method"), "POST") ||
        json_type(testdata_at(line, "request.body")) != JSON_STRING ||
        !json_int(testdata_at(line, "response.status"), &status))
        return;
    body = testdata_str(testdata_at(line, "request.body"), &len);
    if (prompt_request_parse(body, len, &r, &e) == 0) {
        prompt_request_fini(&r);
        /* the rest of the 500s are of nodes that are no objects, or of a server that is already broken */
    } else if (status == 200) {
        static const char *const harmful[] = {"invalid_client_id", "invalid_extra_data", "invalid_number",
                                              "invalid_prompt_id"};
        bool known = false;

        for (size_t i = 0; i < ARRAY_LEN(harmful); i++)
            known |= strcmp(e.type, harmful[i]) == 0;
        if (!known)
            fail_msg("%s: %s: %s %s: %.200s", file, e.type, e.message, e.details, body);
    }
    ++*n;
    prompt_error_fini(&e);
    free(body);
}

static void test_recordings(void **state)
{
    size_t n = 0;

    (void)state;
    if (!testdata_root())
        skip();
    testdata_all(recorded, &n);
    assert_true(n > 300);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refusals),         cmocka_unit_test(test_fields),
        cmocka_unit_test(test_secrets_and_rest), cmocka_unit_test(test_secrets_do_not_slip_through),
        cmocka_unit_test(test_targets),          cmocka_unit_test(test_recordings),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
