/* Every class: that it is described, and what the picture nodes make. */
#include "sim/nodes.h"

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

/* What is offered can be executed, and what can be executed is offered. */
static void tables_agree(void **state)
{
    const struct node_class *tables[] = {nodes_image_table, nodes_model_table, nodes_test_table};
    const struct node_class *all;
    size_t n, count = 0;

    (void)state;
    all = node_classes(&n);
    for (size_t t = 0; t < ARRAY_LEN(tables); t++)
        for (const struct node_class *c = tables[t]; c->name; c++, count++)
            if (!node_find(str_of(c->name)))
                fail_msg("%s has no entry in object_info.json", c->name);
    assert_int_equal(n, count);
    for (size_t i = 0; i < n; i++) {
        assert_true((all[i].run != NULL) != (all[i].step != NULL));
        assert_true(all[i].info->outputs && all[i].info->n_outputs <= NODE_MAX_OUT);
    }
}

/* Lists of files are the server's own. */
static void live_lists(void **state)
{
    struct kit *k = *state;
    struct buf b = BUF_INIT;

    kit_upload(k, "b.png", 1);
    kit_upload(k, "a.png", 1);
    kit_upload(k, "notes.txt", 1);
    node_put_info(&b, node_find(str_of("LoadImage")), &k->files, &k->models);
    assert_non_null(strstr(b.data, "\"LoadImage\": {\"input\": {\"required\": {\"image\": "
                                   "[[\"a.png\", \"b.png\"], {\"image_upload\": true}]}}, "));
    buf_clear(&b);
    node_put_info(&b, node_find(str_of("VAELoader")), &k->files, &k->models);
    assert_non_null(strstr(b.data, "{\"vae_name\": [[\"ae.safetensors\", \"pixel_space\"]]}"));
    buf_free(&b);
}

/* Runs a graph whose node "s" saves, and gives the picture. */
static struct image *made(struct kit *k, const char *nodes, const char *from)
{
    char *graph =
        xasprintf("{%s, \"s\": {\"class_type\": \"SaveImage\", \"inputs\": {\"images\": [\"%s\", 0], "
                  "\"filename_prefix\": \"n\"}}}",
                  nodes, from);
    struct buf path = BUF_INIT, bytes = BUF_INIT;
    struct image *im = NULL;
    struct err e = {0};
    struct val *h;
    char id[16];

    snprintf(id, sizeof(id), "%s", kit_submit(k, graph, "w"));
    kit_run(k);
    h = kit_history(k, id);
    if (!val_truthy(val_get(val_get(h, "status"), "completed"))) {
        val_put(&bytes, h);
        fail_msg("%s", bytes.data);
    }
    assert_true(files_path(
        &k->files, FILES_OUTPUT, NULL,
        val_get(val_get(val_get(val_get(h, "outputs"), "s"), "images")->item[0], "filename")->text, &path));
    assert_int_equal(files_read(path.data, &bytes, &e), 0);
    im = image_decode(bytes.data, bytes.len, &e);
    assert_non_null(im);
    val_free(h);
    buf_free(&path);
    buf_free(&bytes);
    free(graph);
    return im;
}

#define COLOR(c)                                                                                             \
    "\"1\": {\"class_type\": \"EmptyImage\", \"inputs\": {\"width\": 6, \"height\": 4, \"batch_size\": 2, "  \
    "\"color\": " #c "}}"

static void expect_pixel(struct image *im, unsigned x, unsigned y, int r, int g, int b)
{
    const float *p = image_get(im, 0, x, y);

    assert_int_equal(image_byte(p[0]), r);
    assert_int_equal(image_byte(p[1]), g);
    assert_int_equal(image_byte(p[2]), b);
    image_unref(im);
}

static void picture_nodes(void **state)
{
    struct kit *k = *state;
    struct image *im;

    expect_pixel(made(k, COLOR(16744448), "1"), 5, 3, 255, 128, 0);
    expect_pixel(
        made(
            k,
            COLOR(16744448) ", \"2\": {\"class_type\": \"ImageInvert\", \"inputs\": {\"image\": [\"1\", 0]}}",
            "2"),
        0, 0, 0, 126,
        255); /* 1 - 128/255 is a hair below 127/255, and ComfyUI cuts off: recording a4 agrees */
    im = made(k,
              COLOR(255) ", \"2\": {\"class_type\": \"ImageScale\", \"inputs\": {\"image\": [\"1\", 0], "
                         "\"upscale_method\": "
                         "\"nearest-exact\", \"width\": 12, \"height\": 0, \"crop\": \"disabled\"}}",
              "2");
    assert_int_equal(im->w, 12);
    assert_int_equal(im->h, 8); /* 0 keeps the aspect ratio */
    expect_pixel(im, 11, 7, 0, 0, 255);
    im = made(k,
              COLOR(255) ", \"2\": {\"class_type\": \"ImageCrop\", \"inputs\": {\"image\": [\"1\", 0], "
                         "\"width\": 100, \"height\": 2, "
                         "\"x\": 4, \"y\": 1}}",
              "2");
    assert_int_equal(im->w, 2);
    assert_int_equal(im->h, 2);
    image_unref(im);
    im = made(k,
              COLOR(255) ", \"2\": {\"class_type\": \"ImagePadForOutpaint\", \"inputs\": {\"image\": [\"1\", "
                         "0], \"left\": 8, \"top\": 0, "
                         "\"right\": 0, \"bottom\": 8, \"feathering\": 2}}",
              "2");
    assert_int_equal(im->w, 14);
    assert_int_equal(im->h, 12);
    expect_pixel(im, 0, 0, 127, 127, 127);
    expect_pixel(
        made(k,
             "\"1\": {\"class_type\": \"SolidMask\", \"inputs\": {\"value\": 0.5, \"width\": 8, \"height\": "
             "8}}, \"2\": "
             "{\"class_type\": \"InvertMask\", \"inputs\": {\"mask\": [\"1\", 0]}}, \"3\": {\"class_type\": "
             "\"MaskToImage\", \"inputs\": {\"mask\": [\"2\", 0]}}",
             "3"),
        7, 7, 127, 127, 127);
    kit_upload(k, "grey.png", 100.0f / 255.0f);
    expect_pixel(
        made(k, "\"1\": {\"class_type\": \"LoadImage\", \"inputs\": {\"image\": \"grey.png\"}}", "1"), 1, 1,
        100, 100, 100);
}

/* Numbers that a hostile prompt may give: an error of the node, not of the simulator. */
static void hostile_sizes(void **state)
{
    struct kit *k = *state;
    static const char *const nodes[] = {
        "{\"1\": {\"class_type\": \"EmptyImage\", \"inputs\": {\"width\": 16384, \"height\": 16384, "
        "\"batch_size\": 4096, \"color\": 0}}, ",
        "{\"0\": "
        "{\"class_type\": \"EmptyImage\", \"inputs\": {\"width\": 64, \"height\": 64, \"batch_size\": 1, "
        "\"color\": 0}}, \"1\": "
        "{\"class_type\": \"RepeatImageBatch\", \"inputs\": {\"image\": [\"0\", 0], \"amount\": 256}}, "
        "\"2\": {\"class_type\": "
        "\"ImageScale\", \"inputs\": {\"image\": [\"1\", 0], \"upscale_method\": \"lanczos\", \"width\": "
        "16384, \"height\": 16384, "
        "\"crop\": \"center\"}}, \"x\": {\"class_type\": \"PreviewImage\", \"inputs\": {\"images\": [\"2\", "
        "0]}}, ",
    };

    for (size_t i = 0; i < ARRAY_LEN(nodes); i++) {
        char *graph = xasprintf(
            "%s\"s\": {\"class_type\": \"PreviewImage\", \"inputs\": {\"images\": [\"1\", 0]}}}", nodes[i]);
        char id[16];
        struct val *h;

        if (i == 1) { /* the second output fails; do not save 4096 files */
            char *cut = strstr(graph, ", \"s\"");

            strcpy(cut, "}");
        }
        snprintf(id, sizeof(id), "%s", kit_submit(k, graph, "w"));
        kit_run(k);
        h = kit_history(k, id);
        assert_true(val_is_str(val_get(val_get(h, "status"), "status_str"), "error"));
        val_free(h);
        free(graph);
    }
}

/* A picture the sampler made is the same for the same job and differs by server name. */
static void texts_in_png(void **state)
{
    struct kit *k = *state;
    struct prompt *p = NULL;
    struct buf path = BUF_INIT, bytes = BUF_INIT;

    kit_submit(k,
               "{" COLOR(1) ", \"s\": {\"class_type\": \"SaveImage\", \"inputs\": {\"images\": [\"1\", 0], "
                            "\"filename_prefix\": \"t\"}}}",
               "w");
    p = k->prompts.heap[0];
    val_set(p->extra, "extra_pnginfo", val_parse("{\"workflow\": {\"id\": \"h\xc3\xa9\"}}", 27, NULL));
    kit_run(k);
    assert_true(
        files_path(&k->files, FILES_OUTPUT, NULL, "t_00002_.png", &path)); /* the second of the batch */
    assert_int_equal(files_read(path.data, &bytes, NULL), 0);
    assert_non_null(memmem(bytes.data, bytes.len, "tEXtprompt\0{\"1\": {\"class_type\": \"EmptyImage\"", 44));
    assert_non_null(memmem(bytes.data, bytes.len, "tEXtworkflow\0{\"id\": \"h\\u00e9\"}", 30));
    buf_free(&path);
    buf_free(&bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
        T(tables_agree), T(live_lists), T(picture_nodes), T(hostile_sizes), T(texts_in_png),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
