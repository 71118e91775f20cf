#include "sim/files.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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

/* A path inside the folder, or none; never one outside. */
static void paths_stay_inside(void **state)
{
    static const struct {
        const char *sub, *name, *want; /* NULL: refused */
    } table[] = {
        {NULL, "a.png", "/input/a.png"},
        {"", "a.png", "/input/a.png"},
        {"sub/dir", "a.png", "/input/sub/dir/a.png"},
        {"./x//y/.", "a.png", "/input/x/y/a.png"},
        {"x/../y", "a.png", "/input/y/a.png"},
        {"x", "../a.png", "/input/a.png"},
        {NULL, "..", NULL},
        {NULL, "../a.png", NULL},
        {"x", "../../a.png", NULL},
        {"..", "a.png", NULL},
        {"x/../..", "a.png", NULL},
        {NULL, "/etc/passwd", NULL},
        {"x", "/etc/passwd", NULL},
        {"/etc", "passwd", NULL},
        {NULL, "a/../../b", NULL},
        {NULL, "..a/b..", "/input/..a/b.."},
    };
    struct kit *k = *state;

    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct buf b = BUF_INIT;
        bool ok = files_path(&k->files, FILES_INPUT, table[i].sub, table[i].name, &b);

        assert_int_equal(ok, table[i].want != NULL);
        if (ok)
            assert_string_equal(b.data + strlen(k->files.base), table[i].want);
        buf_free(&b);
    }
}

static void annotations(void **state)
{
    static const struct {
        const char *text, *name;
        enum files_dir dir;
    } table[] = {{"a.png", "a.png", FILES_INPUT},
                 {"a.png [output]", "a.png", FILES_OUTPUT},
                 {"s/a.png [temp]", "s/a.png", FILES_TEMP},
                 {"a.png [input]", "a.png", FILES_INPUT},
                 {"a.png [user]", "a.png [user]", FILES_INPUT},
                 {"[output]", "", FILES_OUTPUT},
                 {"x[output]", "", FILES_OUTPUT}}; /* one more is cut, as ComfyUI does */

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct buf b = BUF_INIT;

        assert_int_equal(files_annotated(table[i].text, &b), table[i].dir);
        assert_string_equal(buf_str(&b), table[i].name);
        buf_free(&b);
    }
}

static void touch(struct kit *k, const char *name)
{
    struct buf b = BUF_INIT;

    assert_true(files_path(&k->files, FILES_OUTPUT, NULL, name, &b));
    assert_int_equal(files_write(b.data, "x", 1, NULL), 0);
    buf_free(&b);
}

static void counter(struct kit *k, const char *prefix, const char *sub, const char *stem, long n)
{
    struct files_save s;
    struct err e = {0};

    if (files_save_begin(&k->files, FILES_OUTPUT, prefix, 32, 16, &s, &e) < 0)
        fail_msg("%s: %s", prefix, e.msg);
    assert_string_equal(s.sub, sub);
    assert_string_equal(s.stem, stem);
    assert_int_equal(s.counter, n);
    assert_int_equal(access(s.folder, W_OK), 0);
    files_save_end(&s);
}

/* The next number is one above the highest of that stem in that folder. */
static void counters(void **state)
{
    struct kit *k = *state;
    struct files_save s;
    struct err e;

    counter(k, "ComfyUI", "", "ComfyUI", 1);
    touch(k, "ComfyUI_00001_.png");
    touch(k, "ComfyUI_00041_.png");
    touch(k, "ComfyUI_x_.png");
    touch(k, "ComfyUI.png");
    touch(k, "ComfyUI2_00099_.png");
    counter(k, "ComfyUI", "", "ComfyUI", 42);
    counter(k, "sub/dir/a_%width%x%height%", "sub/dir", "a_32x16", 1);
    counter(k, "a/../ComfyUI", "", "ComfyUI", 42);
    assert_int_equal(files_save_begin(&k->files, FILES_OUTPUT, "../out", 1, 1, &s, &e), -1);
    assert_int_equal(files_save_begin(&k->files, FILES_OUTPUT, "/tmp/out", 1, 1, &s, &e), -1);
    assert_non_null(strstr(e.msg, "Saving image outside the output folder is not allowed"));
}

/* temp goes at every start, the rest stays */
static void restart(void **state)
{
    struct kit *k = *state;
    struct files again;
    struct files_list l;
    struct buf b = BUF_INIT;

    touch(k, "keep.png");
    assert_true(files_path(&k->files, FILES_TEMP, "deep/er", "gone.png", &b));
    assert_int_equal(files_write(b.data, "x", 1, NULL), 0);
    assert_int_equal(files_init(&again, k->dir, &k->clock, NULL), 0);
    assert_int_equal(access(b.data, F_OK), -1);
    files_list(&again, FILES_OUTPUT, &l);
    assert_int_equal(l.n, 1);
    assert_string_equal(l.name[0], "keep.png");
    files_list_free(&l);
    files_fini(&again);
    buf_free(&b);
}

static void digest(void **state)
{
    struct kit *k = *state;
    struct buf b = BUF_INIT;
    char hex[65];

    assert_true(files_path(&k->files, FILES_OUTPUT, NULL, "abc", &b));
    assert_int_equal(files_write(b.data, "abc", 3, NULL), 0);
    assert_int_equal(files_sha256(b.data, hex, NULL), 0);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
        T(paths_stay_inside), T(annotations), T(counters), T(restart), T(digest),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
