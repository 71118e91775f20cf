/* Bodies are those of recordings c1 and c2 (ComfyUI 0.3.75), without the text of tracebacks. */
#include "sim/check.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sim/testkit.h"

static int setup(void **state)
{
    *state = xcalloc(1, sizeof(struct kit));
    kit_init(*state);
    return 0;
}

static int teardown(void **state)
{
    kit_fini(*state);
    free(*state);
    return 0;
}

static struct json read(const char *text)
{
    struct json v = {NULL, 0};

    if (text)
        assert_int_equal(json_check(text, strlen(text), NULL, &v, NULL), 0);
    return v;
}

/* The verdict as text: "400 error node_errors", "200 outputs node_errors" or "500". */
static char *verdict(struct kit *k, const char *graph, const char *targets)
{
    struct buf b = BUF_INIT;
    struct json body;
    struct check c;

    switch (check_prompt(read(graph), read(targets), &k->files, &k->models, &c)) {
    case CHECK_GOOD:
        buf_puts(&b, "200 ");
        val_put(&b, c.outputs);
        buf_printf(&b, " %s", buf_str(&c.node_errors));
        break;
    case CHECK_BAD:
        body = read(c.refusal.data);
        buf_puts(&b, "400 ");
        json_put(&b, json_get(body, "error"));
        buf_putc(&b, ' ');
        json_put(&b, json_get(body, "node_errors"));
        break;
    case CHECK_CRASH: buf_puts(&b, "500"); break;
    }
    check_fini(&c);
    return buf_take(&b);
}

static void expect(struct kit *k, const char *graph, const char *want)
{
    char *got = verdict(k, graph, NULL);

    assert_string_equal(got, want);
    free(got);
}

/* The verdict holds this text. */
static void holds(struct kit *k, const char *graph, const char *part)
{
    char *got = verdict(k, graph, NULL);

    if (!strstr(got, part))
        fail_msg("%s\nhas no\n%s", got, part);
    free(got);
}

#define EMPTY(w)                                                                                             \
    "\"1\": {\"class_type\": \"EmptyImage\", \"inputs\": {\"width\": " w                                     \
    ", \"height\": 16, \"batch_size\": 1, \"color\": 0}}"
#define SAVE(link)                                                                                           \
    "\"2\": {\"class_type\": \"SaveImage\", \"inputs\": {\"images\": " link ", \"filename_prefix\": \"v\"}}"
#define NO_OUTPUTS                                                                                           \
    "400 {\"type\": \"prompt_no_outputs\", \"message\": \"Prompt has no outputs\", \"details\": \"\", "      \
    "\"extra_info\": {}} {}"
#define FAILED(details)                                                                                      \
    "400 {\"type\": \"prompt_outputs_failed_validation\", \"message\": \"Prompt outputs failed "             \
    "validation\", \"details\": "                                                                            \
    "\"" details "\", \"extra_info\": {}} "

static void no_outputs(void **state)
{
    expect(*state, "{}", NO_OUTPUTS);
    expect(*state, "[]", NO_OUTPUTS);
    expect(*state, "{" EMPTY("16") "}", NO_OUTPUTS);
}

static void classes(void **state)
{
    expect(*state, "{\"1\": {\"inputs\": {}}}",
           "400 {\"type\": \"invalid_prompt\", \"message\": \"Cannot execute because a node is missing the "
           "class_type "
           "property.\", \"details\": \"Node ID '#1'\", \"extra_info\": {}} {}");
    expect(*state, "{\"1\": {\"class_type\": \"NoSuchNode\", \"inputs\": {}}}",
           "400 {\"type\": \"invalid_prompt\", \"message\": \"Cannot execute because node NoSuchNode does "
           "not exist.\", "
           "\"details\": \"Node ID '#1'\", \"extra_info\": {}} {}");
    expect(*state, "{\"1\": {\"class_type\": null, \"inputs\": {}}}",
           "400 {\"type\": \"invalid_prompt\", \"message\": \"Cannot execute because node None does not "
           "exist.\", "
           "\"details\": \"Node ID '#1'\", \"extra_info\": {}} {}");
}

static void python_would_raise(void **state)
{
    static const char *const graphs[] = {"null",
                                         "5",
                                         "\"abc\"",
                                         "true",
                                         "[{}]",
                                         "{\"1\": 5}",
                                         "{\"1\": \"class_type\"}",
                                         "{\"1\": {\"class_type\": []}}",
                                         "{\"1\": {\"class_type\": {}}}"};

    for (size_t i = 0; i < ARRAY_LEN(graphs); i++)
        expect(*state, graphs[i], "500");
}

static void inputs(void **state)
{
    struct kit *k = *state;

    expect(k,
           "{\"1\": {\"class_type\": \"EmptyImage\", \"inputs\": {\"height\": 16, \"batch_size\": 1, "
           "\"color\": 0}}, " SAVE("[\"1\", 0]") "}",
           FAILED("") "{\"1\": {\"errors\": [{\"type\": \"required_input_missing\", \"message\": \"Required "
                      "input is missing\", "
                      "\"details\": \"width\", \"extra_info\": {\"input_name\": \"width\"}}], "
                      "\"dependent_outputs\": [\"2\"], "
                      "\"class_type\": \"EmptyImage\"}}");
    expect(k, "{" EMPTY("\"abc\"") ", " SAVE("[\"1\", 0]") "}",
           FAILED("") "{\"1\": {\"errors\": [{\"type\": \"invalid_input_type\", \"message\": \"Failed to "
                      "convert an input value "
                      "to a INT value\", \"details\": \"width, abc, invalid literal for int() with base 10: "
                      "'abc'\", "
                      "\"extra_info\": {\"input_name\": \"width\", \"input_config\": [\"INT\", {\"default\": "
                      "512, \"min\": 1, "
                      "\"max\": 16384, \"step\": 1}], \"received_value\": \"abc\", \"exception_message\": "
                      "\"invalid literal "
                      "for int() with base 10: 'abc'\"}}], \"dependent_outputs\": [\"2\"], \"class_type\": "
                      "\"EmptyImage\"}}");
    holds(k, "{" EMPTY("null") ", " SAVE("[\"1\", 0]") "}",
          "\"width, None, int() argument must be a string, a bytes-like object or a real number, not "
          "'NoneType'\"");
    holds(k, "{" EMPTY("NaN") ", " SAVE("[\"1\", 0]") "}", "cannot convert float NaN to integer");
    holds(k, "{" EMPTY("1e999") ", " SAVE("[\"1\", 0]") "}", "cannot convert float infinity to integer");
    holds(k, "{" EMPTY("0") ", " SAVE("[\"1\", 0]") "}",
          "\"Value 0 smaller than min of 1\", \"details\": \"width\"");
    holds(k, "{" EMPTY("100000000000000000000000") ", " SAVE("[\"1\", 0]") "}",
          "\"Value 100000000000000000000000 bigger than max of 16384\"");
    holds(k, "{" EMPTY("[1]") ", " SAVE("[\"1\", 0]") "}",
          "\"received_value\": [1]}}], \"dependent_outputs\": [\"2\"]");
    holds(k,
          "{\"4\": {\"class_type\": \"SolidMask\", \"inputs\": {\"value\": \"x\", \"width\": 8, \"height\": "
          "8}}, \"5\": "
          "{\"class_type\": \"MaskToImage\", \"inputs\": {\"mask\": [\"4\", 0]}}, " SAVE("[\"5\", 0]") "}",
          "\"value, x, could not convert string to float: 'x'\"");
}

static void links(void **state)
{
    struct kit *k = *state;

    holds(k, "{" SAVE("[\"99\", 0]") "}", FAILED("Exception when validating node: '99'"));
    holds(k, "{" EMPTY("16") ", " SAVE("[\"1\", 5]") "}",
          FAILED("Exception when validating node: tuple index out of range"));
    holds(k, "{" EMPTY("16") ", " SAVE("[\"1\", \"0\"]") "}",
          FAILED("Exception when validating node: tuple indices must be integers or slices, not str"));
    holds(k, "{" EMPTY("16") ", " SAVE("[[], 0]") "}", "unhashable type: 'list'");
    holds(k, "{" EMPTY("16") ", " SAVE("[\"1\", 0, 0]") "}", "\"received_value\": [\"1\", 0, 0]");
    holds(k,
          "{\"1\": {\"class_type\": \"SolidMask\", \"inputs\": {\"value\": 1.0, \"width\": 8, \"height\": "
          "8}}, " SAVE("[\"1\", 0]") "}",
          FAILED("Return type mismatch between linked nodes: images, received_type(MASK) mismatch "
                 "input_type(IMAGE)"));
    holds(k, "{\"1\": {\"class_type\": \"EmptyImage\"}, " SAVE("[\"1\", 0]") "}",
          "\"type\": \"exception_during_inner_validation\", \"message\": \"Exception when validating inner "
          "node\", "
          "\"details\": \"'inputs'\"");
    expect(k, "{" EMPTY("16") ", " SAVE("[\"1\", -1]") "}", "200 [\"2\"] {}"); /* Python's negative index */
}

/* A cycle, a node on itself, and a chain deeper than Python goes: refused without a word about a node. */
static void cycles(void **state)
{
    struct buf b = BUF_INIT;

    expect(*state,
           "{\"1\": {\"class_type\": \"ImageInvert\", \"inputs\": {\"image\": [\"3\", 0]}}, \"3\": "
           "{\"class_type\": "
           "\"ImageInvert\", \"inputs\": {\"image\": [\"1\", 0]}}, " SAVE("[\"1\", 0]") "}",
           FAILED("") "{}");
    expect(*state,
           "{\"1\": {\"class_type\": \"ImageInvert\", \"inputs\": {\"image\": [\"1\", 0]}}, " SAVE(
               "[\"1\", 0]") "}",
           FAILED("") "{}");
    buf_puts(&b, "{\"0\": {\"class_type\": \"EmptyImage\", \"inputs\": {\"width\": 1, \"height\": 1, "
                 "\"batch_size\": 1, \"color\": 0}}");
    for (int i = 1; i < 5000; i++)
        buf_printf(&b, ", \"%d\": {\"class_type\": \"ImageInvert\", \"inputs\": {\"image\": [\"%d\", 0]}}", i,
                   i - 1);
    buf_puts(&b, ", \"s\": {\"class_type\": \"PreviewImage\", \"inputs\": {\"images\": [\"4999\", 0]}}}");
    expect(*state, b.data, FAILED("") "{}");
    buf_free(&b);
}

static void lists_and_own_checks(void **state)
{
    struct kit *k = *state;
#define LOAD(name)                                                                                           \
    "{\"1\": {\"class_type\": \"LoadImage\", \"inputs\": {\"image\": \"" name "\"}}, " SAVE("[\"1\", 0]") "}"

    holds(k,
          "{" EMPTY("16") ", \"3\": {\"class_type\": \"ImageScale\", \"inputs\": {\"image\": [\"1\", 0], "
                          "\"upscale_method\": "
                          "\"magic\", \"width\": 8, \"height\": 8, \"crop\": \"disabled\"}}, " SAVE(
                              "[\"3\", 0]") "}",
          "\"upscale_method: 'magic' not in ['nearest-exact', 'bilinear', 'area', 'bicubic', 'lanczos']\"");
    /* a combo of the new kind is not looked at */
    expect(k,
           "{\"1\": {\"class_type\": \"KSamplerSelect\", \"inputs\": {\"sampler_name\": \"nope\"}}, \"2\": "
           "{\"class_type\": "
           "\"PreviewAny\", \"inputs\": {\"source\": [\"1\", 0]}}}",
           "200 [\"2\"] {}");
    holds(k,
          "{\"1\": {\"class_type\": \"CheckpointLoaderSimple\", \"inputs\": {\"ckpt_name\": "
          "\"none.safetensors\"}}, \"2\": "
          "{\"class_type\": \"PreviewAny\", \"inputs\": {\"source\": [\"1\", 0]}}}",
          "\"ckpt_name: 'none.safetensors' not in ['sd15.safetensors', 'sdxl.safetensors']\"");
    holds(k, LOAD("missing.png"), "\"details\": \"image - Invalid image file: missing.png\"");
    kit_upload(k, "there.png", 1);
    expect(k, LOAD("there.png"), "200 [\"2\"] {}");
    holds(k, LOAD("../../../../etc/passwd"), "Invalid image file"); /* nothing outside the folders exists */
    holds(k, LOAD("/etc/passwd"), "Invalid image file");
    holds(k, "{\"1\": {\"class_type\": \"LoadImage\", \"inputs\": {\"image\": 5}}, " SAVE("[\"1\", 0]") "}",
          "\"exception_message\": \"'int' object has no attribute 'endswith'\", \"exception_type\": "
          "\"AttributeError\"");
    holds(k,
          "{\"1\": {\"class_type\": \"LoadImage\", \"inputs\": {\"image\": [\"1\", 0]}}, " SAVE(
              "[\"1\", 0]") "}",
          "'NoneType' object has no attribute 'endswith'");
    holds(k, "{\"1\": {\"class_type\": \"LoadImage\", \"inputs\": {}}, " SAVE("[\"1\", 0]") "}",
          "LoadImage.VALIDATE_INPUTS() missing 1 required positional argument: 'image'");
#define RAISING(v) "{\"1\": {\"class_type\": \"RaisingValidate\", \"inputs\": {\"value\": " v "}}}"
    holds(k, RAISING("1"), FAILED("Custom validation failed for node: value - value must not be 1"));
    holds(k, RAISING("2"), FAILED("Custom validation failed for node: value"));
    holds(k, RAISING("3"), FAILED("Exception when validating node: validator blew up"));
    expect(k, RAISING("4"), "200 [\"1\"] {}");
}

/* c2: one good and one bad output; targets choose among outputs */
static void partial(void **state)
{
    struct kit *k = *state;
    const char *two = "{" EMPTY("16") ", " SAVE(
        "[\"1\", 0]") ", \"4\": {\"class_type\": \"PreviewImage\", \"inputs\": {\"images\": [\"1\", 0]}}}";
    static const struct {
        const char *targets, *want;
    } table[] = {{"[\"4\"]", "200 [\"4\"] {}"},
                 {"null", "200 [\"2\", \"4\"] {}"},
                 {"\"4\"", "200 [\"4\"] {}"},
                 {"{\"4\": 1}", "200 [\"4\"] {}"},
                 {"[]", NO_OUTPUTS},
                 {"[\"1\"]", NO_OUTPUTS},
                 {"[\"99\"]", NO_OUTPUTS},
                 {"[4]", NO_OUTPUTS}};

    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        char *got = verdict(k, two, table[i].targets);

        assert_string_equal(got, table[i].want);
        free(got);
    }
    expect(
        k,
        "{" EMPTY("16") ", " SAVE(
            "[\"1\", 0]") ", \"3\": {\"class_type\": \"LoadImage\", \"inputs\": {\"image\": "
                          "\"missing.png\"}}, "
                          "\"4\": {\"class_type\": \"PreviewImage\", \"inputs\": {\"images\": [\"3\", 0]}}}",
        "200 [\"2\"] {\"3\": {\"errors\": [{\"type\": \"custom_validation_failed\", \"message\": \"Custom "
        "validation failed for "
        "node\", \"details\": \"image - Invalid image file: missing.png\", \"extra_info\": {\"input_name\": "
        "\"image\"}}], "
        "\"dependent_outputs\": [\"4\"], \"class_type\": \"LoadImage\"}}");
    holds(k,
          "{" EMPTY("0") ", " SAVE("[\"1\", 0]") ", \"3\": {\"class_type\": \"PreviewImage\", \"inputs\": "
                                                 "{\"images\": [\"1\", 0]}}}",
          "\"dependent_outputs\": [\"2\", \"3\"]");
}

/* c1: what the check changes in the graph is what history shows */
static void coercion(void **state)
{
    struct kit *k = *state;
    const char *in = "{\"1\": {\"class_type\": \"EmptyImage\", \"inputs\": {\"width\": \" 1_6 \", "
                     "\"height\": 16.9, \"batch_size\": "
                     "true, \"color\": \"-0\", \"foo\": \"5\"}}, \"2\": {\"class_type\": \"SaveImage\", "
                     "\"inputs\": {\"images\": "
                     "[\"1\", 0], \"filename_prefix\": 7}}, \"3\": {\"class_type\": \"ReportText\", "
                     "\"inputs\": {\"value\": "
                     "{\"__value__\": [1, \"x\"]}, \"count\": \"+2\"}}}";
    struct buf b = BUF_INIT;
    struct check c;

    assert_int_equal(check_prompt(read(in), read(NULL), &k->files, &k->models, &c), CHECK_GOOD);
    val_put(&b, c.graph);
    assert_string_equal(
        b.data,
        "{\"1\": {\"class_type\": \"EmptyImage\", \"inputs\": {\"width\": 16, \"height\": 16, "
        "\"batch_size\": "
        "1, \"color\": 0, \"foo\": \"5\"}}, \"2\": {\"class_type\": \"SaveImage\", \"inputs\": {\"images\": "
        "[\"1\", 0], \"filename_prefix\": \"7\"}}, \"3\": {\"class_type\": \"ReportText\", \"inputs\": "
        "{\"value\": \"[1, 'x']\", \"count\": 2}}}");
    check_fini(&c);
    /* of a node that is refused too, when another output is taken */
    in = "{\"1\": {\"class_type\": \"EmptyImage\", \"inputs\": {\"width\": \"0\"}}, \"2\": {\"class_type\": "
         "\"PreviewImage\", \"inputs\": {\"images\": [\"1\", 0]}}, \"3\": {\"class_type\": \"ReportText\", "
         "\"inputs\": {\"value\": \"a\", \"count\": 1}}}";
    assert_int_equal(check_prompt(read(in), read(NULL), &k->files, &k->models, &c), CHECK_GOOD);
    buf_clear(&b);
    val_put(&b, val_get(val_get(c.graph, "1"), "inputs"));
    assert_string_equal(b.data, "{\"width\": 0}");
    check_fini(&c);
    buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
        T(no_outputs), T(classes),  T(python_would_raise),   T(inputs), T(links), T(cycles),
        T(partial),    T(coercion), T(lists_and_own_checks),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
