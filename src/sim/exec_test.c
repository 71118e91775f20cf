/* Event orders as recorded from ComfyUI 0.3.75: the sessions named are those of the recordings. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sim/testkit.h"

#define EMPTY                                                                                                \
    "\"1\": {\"class_type\": \"EmptyImage\", \"inputs\": {\"width\": 16, \"height\": 16, \"batch_size\": "   \
    "1, \"color\": 0}}"
#define SLOW(preview, seed, text)                                                                            \
    "\"5\": {\"class_type\": \"SlowProgress\", \"inputs\": {\"image\": [\"1\", 0], \"steps\": 2, "           \
    "\"seconds_per_step\": 0.1, "                                                                            \
    "\"preview\": \"" preview "\", \"seed\": " seed ", \"text\": " text "}}"
#define SAVE(from, prefix)                                                                                   \
    "\"9\": {\"class_type\": \"SaveImage\", \"inputs\": {\"images\": [\"" from                               \
    "\", 0], \"filename_prefix\": \"" prefix "\"}}"
#define PLAIN "{" EMPTY ", " SLOW("none", "0", "false") ", " SAVE("5", "slow") "}"

#define EXPECT(k, ...) kit_expect(k, (const char *const[]){__VA_ARGS__, NULL})

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

static void one(struct kit *k, const char *graph, const char *client)
{
    kit_submit(k, graph, client);
    kit_run(k);
}

/* a1: first, again, another prefix, another seed */
static void plain_success(void **state)
{
    struct kit *k = *state;

    one(k, PLAIN, "w");
    EXPECT(k, "w execution_start", "w execution_cached []", "w progress_state 1:run 0.0/1.0", "w executing 1",
           "w progress_state 1:fin 1.0/1.0", "w progress_state 1:fin 1.0/1.0 5:run 0.0/1.0", "w executing 5",
           "w progress_state 1:fin 1.0/1.0 5:run 1/2", "w progress 5 1/2",
           "w progress_state 1:fin 1.0/1.0 5:run 2/2", "w progress 5 2/2",
           "w progress_state 1:fin 1.0/1.0 5:fin 2/2",
           "w progress_state 1:fin 1.0/1.0 5:fin 2/2 9:run 0.0/1.0", "w executing 9",
           "w executed 9 {\"images\": [{\"filename\": \"slow_00001_.png\", \"subfolder\": \"\", \"type\": "
           "\"output\"}]}",
           "w progress_state 1:fin 1.0/1.0 5:fin 2/2 9:fin 1.0/1.0", "w execution_success",
           "w executing None");
    assert_int_equal(k->waited_ms, 200);
    one(k, PLAIN, "w");
    EXPECT(k, "w execution_start", "w execution_cached [\"1\", \"5\", \"9\"]",
           "w executed 9 {\"images\": [{\"filename\": \"slow_00001_.png\", \"subfolder\": \"\", \"type\": "
           "\"output\"}]}",
           "w progress_state 9:fin 1/1", "w execution_success", "w executing None");
    one(k, "{" EMPTY ", " SLOW("none", "0", "false") ", " SAVE("5", "other") "}", "w");
    EXPECT(k, "w execution_start", "w execution_cached [\"1\", \"5\"]", "w progress_state 9:run 0.0/1.0",
           "w executing 9",
           "w executed 9 {\"images\": [{\"filename\": \"other_00001_.png\", \"subfolder\": \"\", \"type\": "
           "\"output\"}]}",
           "w progress_state 9:fin 1.0/1.0", "w execution_success", "w executing None");
}

/* The status frames around a prompt: put, get, and after history; executing{null} comes last. */
static void status_frames(void **state)
{
    struct kit *k = *state;
    const char *start = "* status 1\n* status 1\nw execution_start\n", *end;

    one(k, "{" EMPTY ", " SAVE("1", "x") "}", "w");
    assert_int_equal(strncmp(k->trace.data, start, strlen(start)), 0);
    end = "w execution_success\n* status 0\nw executing None\n";
    assert_string_equal(k->trace.data + k->trace.len - strlen(end), end);
}

/* Not a word before history has it but the terminal event; and with a lag, as long as it lasts. */
static void history_comes_between(void **state)
{
    struct kit *k = *state;
    struct val *h;
    const char *id = kit_submit(k, "{" EMPTY ", " SAVE("1", "x") "}", "w");
    char keep[16];

    snprintf(keep, sizeof(keep), "%s", id);
    for (k->stop_after = 1; !strstr(buf_str(&k->trace), "execution_success");)
        kit_run(k);
    h = kit_history(k, keep);
    assert_null(h);
    assert_null(strstr(k->trace.data, "executing None"));
    kit_run(k);
    h = kit_history(k, keep);
    assert_non_null(h);
    assert_true(val_is_str(val_get(val_get(h, "status"), "status_str"), "success"));
    assert_int_equal(val_get(val_get(h, "status"), "messages")->len, 3);
    assert_non_null(val_get(val_get(h, "meta"), "9"));
    assert_non_null(val_get(val_get(h, "outputs"), "9"));
    val_free(h);
}

/* a3: an expanded subgraph */
static void expansion(void **state)
{
    struct kit *k = *state;

    one(k,
        "{" EMPTY
        ", \"5\": {\"class_type\": \"ExpandToSlow\", \"inputs\": {\"image\": [\"1\", 0], \"steps\": 1}}, "
        "\"6\": {\"class_type\": \"PreviewAny\", \"inputs\": {\"source\": [\"1\", 0]}}, " SAVE("5", "e") "}",
        "w");
    assert_non_null(strstr(k->trace.data,
                           "w progress_state 1:fin 1.0/1.0 6:fin 1.0/1.0 5:run 0.0/1.0 5.0.0.1:run "
                           "0.0/1.0\nw executing 5.0.0.1\n"));
    assert_non_null(strstr(k->trace.data, "5.0.0.1:fin 1/1 5.0.0.2:run 0.0/1.0\nw executing 5.0.0.2\n"));
    /* the parent ends after its children, and says so without an executing of its own */
    assert_non_null(strstr(k->trace.data,
                           "5:run 0.0/1.0 5.0.0.1:fin 1/1 5.0.0.2:fin 1/1\nw progress_state 1:fin 1.0/1.0 "
                           "6:fin 1.0/1.0 5:fin 1.0/1.0 5.0.0.1:fin 1/1 5.0.0.2:fin 1/1\n"));
    assert_non_null(strstr(k->trace.data, "execution_success"));
}

/* a3: a blocker with a message tells and goes on; without a message it is silent */
static void blockers(void **state)
{
    struct kit *k = *state;
    struct val *h;

#define BLOCK(msg)                                                                                           \
    "{" EMPTY                                                                                                \
    ", \"5\": {\"class_type\": \"BlockOutput\", \"inputs\": {\"image\": [\"1\", 0], \"message\": \"" msg     \
    "\"}}, "                                                                                                 \
    "\"6\": {\"class_type\": \"PreviewImage\", \"inputs\": {\"images\": [\"5\", 0]}}}"
    one(k, BLOCK("stop"), "w");
    assert_non_null(
        strstr(k->trace.data, "w executing 6\nw execution_error 6 ExecutionBlocked\nw progress_state"));
    assert_non_null(strstr(k->trace.data, "w execution_success\n"));
    buf_clear(&k->trace);
    one(k, BLOCK(""), "w");
    assert_null(strstr(k->trace.data, "execution_error"));
    h = kit_history(k, "p0");
    assert_int_equal(val_count(val_get(h, "outputs")), 0);
    assert_int_equal(val_get(val_get(h, "status"), "messages")->len, 3);
    val_free(h);
}

/* a3: a cached output node without UI data sends output null */
static void cached_without_ui(void **state)
{
    struct kit *k = *state;
    const char *graph = "{\"1\": {\"class_type\": \"BroadcastEvent\", \"inputs\": {\"value\": \"hello\"}}}";

    one(k, graph, "w");
    EXPECT(k, "w execution_start", "w execution_cached []", "w progress_state 1:run 0.0/1.0", "w executing 1",
           "* golden.custom", "w progress_state 1:fin 1.0/1.0", "w execution_success", "w executing None");
    one(k, graph, "w");
    EXPECT(k, "w execution_start", "w execution_cached [\"1\"]", "w executed 1 null",
           "w progress_state 1:fin 1/1", "w execution_success", "w executing None");
}

/* b1: without a client only what is addressed to nobody goes out, and to all; history of a cached run is
 * empty */
static void without_client(void **state)
{
    struct kit *k = *state;
    struct val *h;

    one(k, PLAIN, NULL);
    EXPECT(k, "* progress_state 1:run 0.0/1.0", "* progress_state 1:fin 1.0/1.0",
           "* progress_state 1:fin 1.0/1.0 5:run 0.0/1.0", "* progress_state 1:fin 1.0/1.0 5:run 1/2",
           "* progress 5 1/2", "* progress_state 1:fin 1.0/1.0 5:run 2/2", "* progress 5 2/2",
           "* progress_state 1:fin 1.0/1.0 5:fin 2/2",
           "* progress_state 1:fin 1.0/1.0 5:fin 2/2 9:run 0.0/1.0",
           "* progress_state 1:fin 1.0/1.0 5:fin 2/2 9:fin 1.0/1.0");
    one(k, PLAIN, NULL);
    EXPECT(k, "* progress_state 9:fin 1/1");
    h = kit_history(k, "p1");
    assert_int_equal(val_count(val_get(h, "outputs")), 0);
    val_free(h);
}

/* b5: previews with metadata before their progress, without it after; texts to all */
static void previews(void **state)
{
    struct kit *k = *state;

    k->metadata = 1;
    one(k, "{" EMPTY ", " SLOW("png", "1", "true") ", " SAVE("5", "s") "}", "w");
    assert_non_null(
        strstr(k->trace.data,
               "* binary 3\nw progress_state 1:fin 1.0/1.0 5:run 1/2\nw binary 4\nw progress 5 1/2\n"));
    assert_non_null(
        memmem(k->last_binary.data, k->last_binary.len, "\"image_type\": \"image/png\"}\x89PNG", 30));
    buf_clear(&k->trace);
    k->metadata = 0;
    one(k, "{" EMPTY ", " SLOW("jpeg", "2", "false") ", " SAVE("5", "s") "}", "w");
    assert_non_null(strstr(k->trace.data, "w progress_state 5:run 1/2\nw progress 5 1/2\nw binary 1\n"));
    assert_memory_equal(k->last_binary.data, "\0\0\0\1\0\0\0\1\xff\xd8\xff", 11);
}

/* b5: flags that are null fail the node after its state, before its progress */
static void null_flags(void **state)
{
    struct kit *k = *state;

    k->metadata = -1;
    one(k, "{" EMPTY ", " SLOW("jpeg", "1", "false") ", " SAVE("5", "s") "}", "w");
    assert_non_null(strstr(k->trace.data, "5:run 1/2\nw execution_error 5 AttributeError\n"));
    assert_null(strstr(k->trace.data, "progress 5"));
}

/* d1: an output saved before stays, and is cached next time; what failed runs again */
static void node_fails(void **state)
{
    struct kit *k = *state;
    const char *graph =
        "{" EMPTY ", \"2\": {\"class_type\": \"SaveImage\", \"inputs\": {\"images\": [\"1\", 0], "
        "\"filename_prefix\": \"before\"}}, \"3\": {\"class_type\": \"FailAt\", \"inputs\": {\"image\": "
        "[\"1\", 0], \"message\": \"boom\"}}, \"4\": {\"class_type\": \"PreviewImage\", \"inputs\": "
        "{\"images\": [\"3\", 0]}}}";
    struct val *h, *e;

    one(k, graph, "w");
    assert_non_null(strstr(k->trace.data,
                           "w executing 3\nw execution_error 3 ValueError\n* status 0\nw executing None\n"));
    h = kit_history(k, "p0");
    assert_true(val_is_str(val_get(val_get(h, "status"), "status_str"), "error"));
    assert_false(val_truthy(val_get(val_get(h, "status"), "completed")));
    assert_non_null(val_get(val_get(h, "outputs"), "2"));
    e = val_get(val_get(h, "status"), "messages")->item[2]->item[1];
    assert_true(val_is_str(val_get(e, "exception_message"), "boom\n"));
    assert_int_equal(val_count(val_get(e, "executed")), 2);
    assert_int_equal(val_count(val_get(e, "current_outputs")), 4);
    assert_int_equal(strncmp(val_get(val_get(e, "current_inputs"), "image")->item[0]->text,
                             "tensor([[[[0., 0., 0.],\n          [0., ", 38),
                     0);
    val_free(h);
    buf_clear(&k->trace);
    one(k, graph, "w");
    EXPECT(k, "w execution_start", "w execution_cached [\"1\", \"2\"]",
           "w executed 2 {\"images\": [{\"filename\": \"before_00001_.png\", \"subfolder\": \"\", \"type\": "
           "\"output\"}]}",
           "w progress_state 2:fin 1/1", "w progress_state 2:fin 1/1 3:run 0.0/1.0", "w executing 3",
           "w execution_error 3 ValueError", "w executing None");
}

/* d2: seen at the next tick; forgotten when a prompt starts; the next prompt is not touched */
static void interrupts(void **state)
{
    struct kit *k = *state;
    struct val *h;

    exec_interrupt(k->exec); /* nothing runs: lost */
    kit_submit(k, PLAIN, "w");
    for (k->stop_after = 1; !strstr(buf_str(&k->trace), "progress 5 1/2");)
        kit_run(k);
    exec_interrupt(k->exec);
    k->stop_after = 0;
    kit_run(k);
    assert_non_null(
        strstr(k->trace.data, "w progress 5 1/2\nw execution_interrupted 5\n* status 0\nw executing None\n"));
    h = kit_history(k, "p0");
    assert_true(
        val_is_str(val_get(val_get(h, "status"), "messages")->item[2]->item[0], "execution_interrupted"));
    val_free(h);
    buf_clear(&k->trace);
    one(k, PLAIN, "w");
    assert_non_null(strstr(k->trace.data, "execution_success"));
}

/* a4: the same file name with other bytes is not the same input */
static void changed_file(void **state)
{
    struct kit *k = *state;
    const char *graph = "{\"1\": {\"class_type\": \"LoadImage\", \"inputs\": {\"image\": \"in.png\"}}, "
                        "\"2\": {\"class_type\": "
                        "\"ImageInvert\", \"inputs\": {\"image\": [\"1\", 0]}}, " SAVE("2", "inv") "}";

    kit_upload(k, "in.png", 0.5f);
    one(k, graph, "w");
    buf_clear(&k->trace);
    one(k, graph, "w");
    assert_non_null(strstr(k->trace.data, "execution_cached [\"1\", \"2\", \"9\"]"));
    buf_clear(&k->trace);
    kit_upload(k, "in.png", 0.25f);
    one(k, graph, "w");
    assert_non_null(strstr(k->trace.data, "execution_cached []"));
    assert_non_null(strstr(k->trace.data, "inv_00002_.png"));
}

/* a5: dropping the cache makes everything run again; counters go on */
static void dropped_cache(void **state)
{
    struct kit *k = *state;

    one(k, PLAIN, "w");
    exec_drop_cache(k->exec);
    buf_clear(&k->trace);
    one(k, PLAIN, "w");
    assert_non_null(strstr(k->trace.data, "execution_cached []"));
    assert_non_null(strstr(k->trace.data, "slow_00002_.png"));
}

/* The cache is that of the last prompt: another prompt in between pushes results out. */
static void cache_of_last_prompt(void **state)
{
    struct kit *k = *state;

    one(k, PLAIN, "w");
    one(k, "{\"7\": {\"class_type\": \"ReportText\", \"inputs\": {\"value\": \"x\", \"count\": 1}}}", "w");
    buf_clear(&k->trace);
    one(k, PLAIN, "w");
    assert_non_null(strstr(k->trace.data, "execution_cached []"));
}

/* What no output needs is not checked and may be anything: it is signed for the cache all the same. */
static void odd_idle_nodes(void **state)
{
    static const char *const odd[] = {
        "[1, 2, 3]", "\"inputs\"", "null", "5", "{\"image\": [\"o\", 99]}", "{\"image\": [\"x\", 0]}"};
    struct kit *k = *state;

    for (size_t i = 0; i < ARRAY_LEN(odd); i++) {
        char *graph = xasprintf(
            "{\"x\": {\"class_type\": \"ImageInvert\", \"inputs\": %s}, \"y\": {\"class_type\": "
            "\"LoadImage\"}, "
            "\"o\": {\"class_type\": \"ReportText\", \"inputs\": {\"value\": \"%zu\", \"count\": 1}}}",
            odd[i], i);

        buf_clear(&k->trace);
        one(k, graph, "w");
        assert_non_null(strstr(k->trace.data, "execution_success"));
        free(graph);
    }
}

/* A chain of 19,000 nodes and a ring that no output needs, beside an output: they cost time, not the stack. */
static void long_idle_chain(void **state)
{
    struct kit *k = *state;
    struct buf b = BUF_INIT;

    buf_puts(
        &b,
        "{\"r\": {\"class_type\": \"ImageInvert\", \"inputs\": {\"image\": [\"q\", 0]}}, \"q\": "
        "{\"class_type\": "
        "\"ImageInvert\", \"inputs\": {\"image\": [\"r\", 0]}}, \"18999\": {\"class_type\": \"ImageInvert\", "
        "\"inputs\": {\"image\": [\"18998\", 0]}}");
    for (int i = 18998; i >= 0; i--)
        buf_printf(&b, ", \"%d\": {\"class_type\": \"ImageInvert\", \"inputs\": {\"image\": [\"%d\", 0]}}", i,
                   i - 1);
    buf_puts(&b, ", \"o\": {\"class_type\": \"ReportText\", \"inputs\": {\"value\": \"x\", \"count\": 1}}}");
    one(k, b.data, "w");
    assert_non_null(strstr(k->trace.data, "execution_success"));
    buf_free(&b);
}

static void device_faults(void **state)
{
    struct kit *k = *state;

    k->fault = EXEC_OOM;
    one(k, PLAIN, "w");
    assert_non_null(strstr(k->trace.data, "w executing 5\nw execution_error 5 torch.OutOfMemoryError\n"));
    k->fault = EXEC_CUDA;
    buf_clear(&k->trace);
    one(k, "{" EMPTY ", " SAVE("1", "light") "}", "w"); /* no heavy node: the first that runs */
    assert_non_null(strstr(k->trace.data, "w execution_error 9 RuntimeError\n"));
    k->fault = EXEC_NODE_ERROR;
    buf_clear(&k->trace);
    one(k, PLAIN, "w");
    assert_non_null(strstr(k->trace.data, "w execution_error 5 ModuleNotFoundError\n"));
    k->fault = EXEC_HANG;
    buf_clear(&k->trace);
    kit_submit(k, PLAIN, "w");
    kit_run(k);
    exec_interrupt(k->exec);
    kit_run(k);
    assert_true(exec_busy(k->exec));
    assert_null(strstr(k->trace.data, "executing None"));
    exec_abandon(k->exec);
    prompts_forget_running(&k->prompts);
    assert_false(exec_busy(k->exec));
}

/* What a reconnecting owner is told: the node it is at, and only to the owner. */
static void current_node(void **state)
{
    struct kit *k = *state;
    const char *node = NULL;

    kit_submit(k, PLAIN, "w");
    for (k->stop_after = 1; !strstr(buf_str(&k->trace), "progress 5 1/2");)
        kit_run(k);
    assert_true(exec_current(k->exec, "w", &node));
    assert_string_equal(node, "5");
    assert_false(exec_current(k->exec, "other", &node));
    k->stop_after = 0;
    kit_run(k);
    assert_false(exec_current(k->exec, "w", &node));
}

#define KS                                                                                                   \
    "{\"4\": {\"class_type\": \"CheckpointLoaderSimple\", \"inputs\": {\"ckpt_name\": \"%s\"}}, \"5\": "     \
    "{\"class_type\": "                                                                                      \
    "\"EmptyLatentImage\", \"inputs\": {\"width\": 64, \"height\": 64, \"batch_size\": 1}}, \"6\": "         \
    "{\"class_type\": "                                                                                      \
    "\"CLIPTextEncode\", \"inputs\": {\"text\": \"%s\", \"clip\": [\"4\", 1]}}, \"3\": {\"class_type\": "    \
    "\"KSampler\", \"inputs\": "                                                                             \
    "{\"seed\": 7, \"steps\": 3, \"cfg\": 8, \"sampler_name\": \"euler\", \"scheduler\": \"normal\", "       \
    "\"denoise\": 1, \"model\": "                                                                            \
    "[\"4\", 0], \"positive\": [\"6\", 0], \"negative\": [\"6\", 0], \"latent_image\": [\"5\", 0]}}, "       \
    "\"8\": {\"class_type\": "                                                                               \
    "\"VAEDecode\", \"inputs\": {\"samples\": [\"3\", 0], \"vae\": [\"4\", 2]}}, \"9\": {\"class_type\": "   \
    "\"SaveImage\", "                                                                                        \
    "\"inputs\": {\"images\": [\"8\", 0], \"filename_prefix\": \"ComfyUI\"}}}"

static void sample(struct kit *k, const char *model, const char *text)
{
    char *graph = xasprintf(KS, model, text);

    k->waited_ms = 0;
    one(k, graph, "w");
    free(graph);
}

/* Sampling takes its time, ticks with previews; a model is loaded once while it is held. */
static void sampling(void **state)
{
    struct kit *k = *state;
    int64_t first, again;

    sample(k, "sd15.safetensors", "a cat");
    assert_non_null(strstr(k->trace.data, "w progress 3 3/3\nw binary 1\n"));
    assert_non_null(strstr(k->trace.data, "execution_success"));
    assert_int_equal(k->models.loads, 1);
    first = k->waited_ms;
    exec_drop_cache(k->exec);
    sample(k, "sd15.safetensors", "a cat");
    again = k->waited_ms;
    assert_true(again < first);
    assert_int_equal(k->models.loads, 1);
    sample(k, "sdxl.safetensors", "a cat"); /* one fits: the first goes */
    assert_int_equal(k->models.loads, 2);
    exec_drop_cache(k->exec);
    sample(k, "sd15.safetensors", "a cat");
    assert_int_equal(k->models.loads, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
        T(plain_success),
        T(status_frames),
        T(history_comes_between),
        T(expansion),
        T(blockers),
        T(cached_without_ui),
        T(without_client),
        T(previews),
        T(null_flags),
        T(node_fails),
        T(interrupts),
        T(changed_file),
        T(dropped_cache),
        T(cache_of_last_prompt),
        T(odd_idle_nodes),
        T(long_idle_chain),
        T(device_faults),
        T(current_node),
        T(sampling),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
