#include "api/choices.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

/* What ComfyUI's loaders and those of custom nodes say of their inputs. */
static const char body[] =
    "{\"LoadImage\": {\"input\": {\"required\": {\"image\": [[\"theirs.png\"], {\"image_upload\": true}]}}},"
    "\"LoadImageMask\": {\"input\": {\"required\": {\"image\": [[], {\"image_upload\": true}]}}},"
    "\"LoadAudio\": {\"input\": {\"required\": {\"audio\": [[], {\"audio_upload\": true}]}}},"
    "\"LoadVideo\": {\"input\": {\"required\": {\"file\": [\"COMBO\", {\"options\": [], \"video_upload\": "
    "true}]}}},"
    "\"Load3D\": {\"input\": {\"required\": {\"model_file\": [[], {\"file_upload\": true}]}}},"
    "\"Custom\": {\"input\": {\"required\": {\"any\": [[], {\"upload\": true}]}}},"
    "\"Checkpoint\": {\"input\": {\"required\": {\"ckpt\": [[\"a.safetensors\"]]}}}}";

static const struct store_file files[] = {
    {.name = ".hidden.png", .subfolder = ""},
    {.name = "a.WEBP", .subfolder = ""},
    {.name = "b \"q\" \xc3\xa9.png", .subfolder = ""},
    {.name = "m.mp4", .subfolder = ""},
    {.name = "noext", .subfolder = ""},
    {.name = "s.flac", .subfolder = ""},
    {.name = "t.txt", .subfolder = ""},
    {.name = "x.glb", .subfolder = ""},
    {.name = "x.glb", .subfolder = "3d"},
    {.name = "x.png", .subfolder = "3d"},
    {.name = "y.obj", .subfolder = "3d/deep"},
    {.name = "z.glb", .subfolder = "3dx"},
    {.name = "z.png", .subfolder = "sub"},
};

static struct choices *c;
static struct object_view *view;

static void assert_offers(const char *cls, const char *list)
{
    struct buf b = BUF_INIT;

    object_view_put_class(&b, view, str_of(cls), choices_put, c);
    if (strstr(buf_str(&b), list) == NULL)
        fail_msg("%s\n does not hold %s", buf_str(&b), list);
    buf_free(&b);
}

static void each_chooser_its_kind(void **state)
{
    (void)state;
    assert_offers("LoadImage", "[[\".hidden.png\", \"a.WEBP\", \"b \\\"q\\\" \\u00e9.png\"], {");
    assert_offers("LoadImageMask", "\"noext\", \"s.flac\", \"t.txt\", \"x.glb\"], {");
    assert_offers("LoadAudio", "[[\"m.mp4\", \"s.flac\"], {");
    assert_offers("LoadVideo", "[\"COMBO\", {\"options\": [\"m.mp4\"], ");
    assert_offers("Load3D", "[[\"3d/x.glb\", \"3d/deep/y.obj\"], {");
    assert_offers("Custom", "\"noext\", \"s.flac\", \"t.txt\", \"x.glb\"], {");
    assert_offers("Checkpoint", "[[\"a.safetensors\"]]"); /* no chooser of files */
}

static void without_uploads_there_is_no_choice(void **state)
{
    struct choices *all = c;

    (void)state;
    c = choices_new(NULL, 0);
    assert_offers("LoadImage", "[[], {\"image_upload\"");
    assert_offers("LoadVideo", "[\"COMBO\", {\"options\": [], ");
    choices_unref(c);
    c = all;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_chooser_its_kind),
        cmocka_unit_test(without_uploads_there_is_no_choice),
    };
    struct err e;
    struct object_info *info = object_info_new(body, strlen(body), NULL, 0, &e);
    int bad;

    view = object_view_new(&info, 1);
    c = choices_new(files, ARRAY_LEN(files));
    bad = cmocka_run_group_tests(tests, NULL, NULL);
    choices_unref(c);
    object_view_unref(view);
    object_info_unref(info);
    return bad;
}
