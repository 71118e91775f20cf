#include "comfy/job_card.h"

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

#define NOTHING "\"outputs_count\": 0, \"previewable_outputs_count\": 0"
#define COUNTS(n, m) "\"outputs_count\": " #n ", \"previewable_outputs_count\": " #m ", \"preview_output\": "

/* By which entry a job is shown, and how many there are. */
static void test_outputs(void **state)
{
    static const struct {
        const char *outputs, *want;
    } cases[] = {
        {"{}", NOTHING},
        {"{\"9\": {\"images\": []}}", NOTHING},
        {"{\"9\": {\"images\": [{\"filename\": \"a.png\", \"subfolder\": \"s\", \"type\": \"output\"}]}}",
         COUNTS(1, 1) "{\"filename\": \"a.png\", \"subfolder\": \"s\", \"type\": \"output\", \"nodeId\": "
                      "\"9\", \"mediaType\": \"images\"}"},
        /* what was saved goes before what was only shown, wherever it stands */
        {"{\"1\": {\"images\": [{\"filename\": \"t.png\", \"type\": \"temp\"}]}, \"2\": {\"gifs\": "
         "[{\"filename\": \"v.mp4\", \"type\": \"output\", \"format\": \"video/mp4\"}]}}",
         COUNTS(2, 2) "{\"filename\": \"v.mp4\", \"type\": \"output\", \"format\": \"video/mp4\", "
                      "\"nodeId\": \"2\", \"mediaType\": \"gifs\"}"},
        /* counted, but not to be looked at; the flag that goes with images is no output */
        {"{\"1\": {\"latents\": [{\"filename\": \"l.latent\", \"type\": \"output\"}], \"animated\": [true]}}",
         "\"outputs_count\": 1, \"previewable_outputs_count\": 0"},
        /* a text is shown when there is nothing else, and counts as none; a saved one does */
        {"{\"1\": {\"text\": [\"hello\", null]}}",
         COUNTS(0, 0) "{\"content\": \"hello\", \"nodeId\": \"1\", \"mediaType\": \"text\"}"},
        {"{\"1\": {\"text\": [5]}}",
         COUNTS(0, 0) "{\"content\": \"5\", \"nodeId\": \"1\", \"mediaType\": \"text\"}"},
        {"{\"1\": {\"text\": [\"hello\"]}, \"2\": {\"files\": [{\"filename\": \"A.TXT\", \"type\": "
         "\"output\"}]}}",
         COUNTS(1, 1) "{\"filename\": \"A.TXT\", \"type\": \"output\", \"nodeId\": \"2\", \"mediaType\": "
                      "\"files\"}"},
        /* names of 3D files */
        {"{\"1\": {\"result\": [\"mesh/a.GLB\", {\"position\": 1}, null]}}",
         COUNTS(2,
                1) "{\"filename\": \"mesh/a.GLB\", \"type\": \"output\", \"subfolder\": \"\", \"mediaType\": "
                   "\"3d\", \"nodeId\": \"1\"}"},
        /* whatever else custom nodes write */
        {"{\"1\": 5, \"2\": {\"images\": 7, \"x\": [null, [1], true]}, \"3\": null}", NOTHING},
        {"{\"1\": {\"images\": [{\"nodeId\": 5, \"mediaType\": 6, \"filename\": 7}]}}",
         COUNTS(1, 1) "{\"filename\": 7, \"nodeId\": \"1\", \"mediaType\": \"images\"}"},
        {"{\"1\": {\"images\": [{}]}}", COUNTS(1, 1) "{\"nodeId\": \"1\", \"mediaType\": \"images\"}"},
        {"[1]", NOTHING},
        {"null", NOTHING},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf b = BUF_INIT;

        job_card_put(&b, parse(cases[i].outputs), (struct json){0});
        assert_string_equal(buf_str(&b), cases[i].want);
        buf_free(&b);
    }
}

static void test_long_text(void **state)
{
    struct buf in = BUF_INIT, out = BUF_INIT;
    char want[8200] = "";

    (void)state;
    buf_puts(&in, "{\"1\": {\"text\": [\"");
    for (int i = 0; i < 1025; i++)
        buf_puts(&in, "\xc3\xa4");
    buf_puts(&in, "\"]}}");
    for (int i = 0; i < 1024; i++)
        strcat(want, "\\u00e4");
    job_card_put(&out, parse(buf_str(&in)), (struct json){0});
    assert_non_null(strstr(buf_str(&out), want));
    assert_non_null(strstr(buf_str(&out), "\\u00e4\", \"truncated\": true, \"nodeId\""));
    assert_true(out.len < strlen(want) + 200);
    buf_free(&in);
    buf_free(&out);
}

static void test_times_and_errors(void **state)
{
    static const struct {
        const char *status, *want;
    } cases[] = {
        {"{\"messages\": [[\"execution_start\", {\"timestamp\": 5}], [\"execution_success\", {\"timestamp\": "
         "9}]]}",
         "\"execution_start_time\": 5, \"execution_end_time\": 9, " NOTHING},
        {"{\"messages\": [[\"execution_interrupted\", {\"timestamp\": 9}], [5], {}, [\"execution_start\"]]}",
         "\"execution_end_time\": 9, " NOTHING},
        /* as it came, when it is whole */
        {"{\"messages\": [[\"execution_error\", {\"node_id\": \"3\", \"node_type\": \"X\", "
         "\"exception_message\": "
         "\"m\", \"exception_type\": \"E\", \"traceback\": [\"t\"], \"timestamp\": 7}]]}",
         "\"execution_end_time\": 7, \"execution_error\": {\"node_id\": \"3\", \"node_type\": \"X\", "
         "\"exception_message\": \"m\", \"exception_type\": \"E\", \"traceback\": [\"t\"], \"timestamp\": "
         "7}, " NOTHING},
        /* else as clients insist on it */
        {"{\"messages\": [[\"execution_error\", {\"node_id\": 3, \"node_type\": null, \"traceback\": \"t\", "
         "\"more\": [1]}]]}",
         "\"execution_error\": {\"node_id\": \"3\", \"node_type\": \"\", \"traceback\": [], \"more\": [1], "
         "\"exception_message\": \"\", \"exception_type\": \"Error\"}, " NOTHING},
        {"{\"messages\": 5}", NOTHING},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf b = BUF_INIT;

        job_card_put(&b, (struct json){0}, parse(cases[i].status));
        assert_string_equal(buf_str(&b), cases[i].want);
        buf_free(&b);
    }
}

/* What a node was given may be megabytes: a list of 200 jobs does not repeat it. */
static void test_large_error(void **state)
{
    struct buf in = BUF_INIT, out = BUF_INIT;

    (void)state;
    buf_puts(&in,
             "{\"messages\": [[\"execution_error\", {\"node_id\": \"3\", \"current_inputs\": {\"x\": [\"");
    for (int i = 0; i < 20000; i++)
        buf_putc(&in, 'x');
    buf_puts(&in, "\"]}, \"exception_message\": \"m\"}]]}");
    job_card_put(&out, (struct json){0}, parse(buf_str(&in)));
    assert_true(out.len < 400);
    assert_non_null(strstr(buf_str(&out), "\"exception_message\": \"m\""));
    buf_free(&in);
    buf_free(&out);
}

static void test_details(void **state)
{
    struct buf b = BUF_INIT;

    (void)state;
    job_card_put_outputs(
        &b, parse("{\"1\": {\"result\": [\"a.obj\", null, {\"k\": 1}], \"animated\": [null], \"images\": "
                  "[{\"filename\": \"a.png\"}, null]}, \"2\": 5, \"3\": {\"text\": [\"t\", 5.0]}}"));
    assert_string_equal(
        buf_str(&b),
        "{\"1\": {\"result\": [{\"filename\": \"a.obj\", \"type\": \"output\", \"subfolder\": \"\", "
        "\"mediaType\": \"3d\"}, {\"k\": 1}], \"animated\": [null], \"images\": [{\"filename\": "
        "\"a.png\"}]}, \"2\": 5, \"3\": {\"text\": [\"t\", 5.0]}}");
    buf_clear(&b);
    job_card_put_outputs(&b, parse("null"));
    assert_string_equal(buf_str(&b), "{}");
    buf_free(&b);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_outputs),          cmocka_unit_test(test_long_text),
        cmocka_unit_test(test_times_and_errors), cmocka_unit_test(test_large_error),
        cmocka_unit_test(test_details),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
