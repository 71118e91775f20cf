#include "comfy/names.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"

#define ID "01934567-89ab-7fff-bfff-ffffffffffff"

static void test_safe_paths(void **state)
{
    static const char *const good[] = {"a",       "a/b.png",           "..a",   "a..b/c",
                                       ".hidden", "h\xc3\xa9 llo.png", "a/...", "3d/x.glb"};
    static const char *const bad[] = {"",     "/",     "/a",   "a/",   "a//b", ".",   "..",     "a/..",
                                      "../a", "a/./b", "a\\b", "a\nb", "C:/x", "c:x", "a/\x7f", "\\\\h\\s"};
    char big[1200];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        assert_true(name_path_is_safe(good[i], strlen(good[i])));
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_false(name_path_is_safe(bad[i], strlen(bad[i])));
    assert_false(name_path_is_safe("a\0b", 3));
    memset(big, 'a', sizeof(big));
    assert_true(name_path_is_safe(big, 255));
    assert_false(name_path_is_safe(big, 256));
    for (size_t i = 100; i < sizeof(big); i += 100)
        big[i] = '/';
    assert_true(name_path_is_safe(big, 1024));
    assert_false(name_path_is_safe(big, 1025));
}

static void user_path(const char *s, enum name_user want, const char *path)
{
    struct buf b = BUF_INIT;

    assert_int_equal(name_user_path(s, strlen(s), &b), want);
    if (want == NAME_USER_OK)
        assert_string_equal(buf_str(&b), path);
    buf_free(&b);
}

static void test_user_paths(void **state)
{
    char big[NAME_USER_MAX + 10];
    struct buf b = BUF_INIT;

    (void)state;
    user_path("workflows/a.json", NAME_USER_OK, "workflows/a.json");
    user_path("workflows%2Fa.json", NAME_USER_OK, "workflows/a.json");
    user_path("a%20b", NAME_USER_OK, "a b");
    user_path("100%", NAME_USER_OK, "100%");
    user_path("100%.json%2", NAME_USER_OK, "100%.json%2");
    user_path("a%zz%41", NAME_USER_OK, "a%zzA");
    user_path("a//b/./c/", NAME_USER_OK, "a/b/c");
    user_path("a/../b", NAME_USER_OK, "b");
    user_path("a/b/../../c", NAME_USER_OK, "c");
    user_path("", NAME_USER_OK, "");
    user_path(".", NAME_USER_OK, "");
    user_path("a/..", NAME_USER_OK, "");
    user_path("...", NAME_USER_OK, "...");
    user_path("a\\..\\..\\b", NAME_USER_OK, "a\\..\\..\\b"); /* a name on the systems that servers run on */
    user_path("..", NAME_USER_ESCAPES, NULL);
    user_path("../x", NAME_USER_ESCAPES, NULL);
    user_path("..%2Fx", NAME_USER_ESCAPES, NULL);
    user_path("%2e%2e%2Fx", NAME_USER_ESCAPES, NULL);
    user_path("a/../../x", NAME_USER_ESCAPES, NULL);
    user_path("a/../../a", NAME_USER_ESCAPES, NULL);
    user_path("/etc/passwd", NAME_USER_ESCAPES, NULL);
    user_path("%2Fetc%2Fpasswd", NAME_USER_ESCAPES, NULL);
    user_path("a%00b", NAME_USER_BAD, NULL);
    user_path("a%ff", NAME_USER_BAD, NULL);
    memset(big, 'a', sizeof(big));
    assert_int_equal(name_user_path(big, 255, &b), NAME_USER_OK);
    assert_int_equal(name_user_path(big, 256, &b), NAME_USER_BAD);
    for (size_t i = 100; i < sizeof(big); i += 100)
        big[i] = '/';
    buf_clear(&b);
    assert_int_equal(name_user_path(big, NAME_USER_MAX, &b), NAME_USER_OK);
    buf_clear(&b);
    assert_int_equal(name_user_path(big, NAME_USER_MAX + 1, &b), NAME_USER_BAD);
    buf_free(&b);
}

static void annotated(const char *s, enum name_type want, const char *plain)
{
    size_t n;

    assert_int_equal(name_annotation(s, strlen(s), NAME_INPUT, &n), want);
    assert_int_equal(n, strlen(plain));
    assert_memory_equal(s, plain, n);
}

static void test_annotations(void **state)
{
    (void)state;
    annotated("x.png [output]", NAME_OUTPUT, "x.png");
    annotated("a/x.png [temp]", NAME_TEMP, "a/x.png");
    annotated("x.png [input]", NAME_INPUT, "x.png");
    annotated("x.png [other]", NAME_INPUT, "x.png [other]");
    annotated("x.png [OUTPUT]", NAME_INPUT, "x.png [OUTPUT]");
    annotated("x.png[output]", NAME_OUTPUT, "x.pn"); /* the stock server takes nine characters off */
    annotated("[output]", NAME_OUTPUT, "");
    annotated("output]", NAME_INPUT, "output]");
    annotated("", NAME_INPUT, "");
    assert_int_equal(name_type_parse("temp", 4), NAME_TEMP);
    assert_int_equal(name_type_parse("", 0), NAME_TYPE_UNKNOWN);
    assert_int_equal(name_type_parse("outputs", 7), NAME_TYPE_UNKNOWN);
}

static void there_and_back(unsigned attempt, const char *sub, const char *want)
{
    struct buf b = BUF_INIT;
    struct name_virtual v;

    name_put_virtual(&b, ID, attempt, sub);
    assert_string_equal(b.data, want);
    assert_true(name_virtual_parse(b.data, b.len, &v));
    assert_string_equal(v.job, ID);
    assert_int_equal(v.attempt, attempt);
    assert_int_equal(v.subfolder_n, strlen(sub));
    assert_memory_equal(v.subfolder, sub, v.subfolder_n);
    buf_free(&b);
}

static void test_virtual(void **state)
{
    static const char *const bad[] = {"",
                                      "sub",
                                      ID ".",
                                      ID ".1",
                                      ID ".0",
                                      ID ".02",
                                      ID ".2x",
                                      ID "x",
                                      ID "/",
                                      ID "/../x",
                                      ID "//x",
                                      ID ".-2",
                                      ID ".999999999999",
                                      "01934567-89AB-7fff-bfff-ffffffffffff"};
    struct name_virtual v;
    struct name_ref r;

    (void)state;
    there_and_back(1, "", ID);
    there_and_back(1, "sub/dir", ID "/sub/dir");
    there_and_back(2, "", ID ".2");
    there_and_back(17, "a b", ID ".17/a b");
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_false(name_virtual_parse(bad[i], strlen(bad[i]), &v));

    assert_true(name_ref_parse(ID ".3/sub/x.png [output]", strlen(ID ".3/sub/x.png [output]"), &r));
    assert_true(r.is_virtual);
    assert_int_equal(r.type, NAME_OUTPUT);
    assert_int_equal(r.virt.attempt, 3);
    assert_int_equal(r.virt.subfolder_n, 3);
    assert_int_equal(r.file_n, 5);
    assert_memory_equal(r.file, "x.png", 5);
    assert_true(name_ref_parse("cat.png", 7, &r));
    assert_int_equal(r.folder_n, 0);
    assert_int_equal(r.type, NAME_INPUT);
    assert_false(r.is_virtual);
    assert_true(name_ref_parse("3d/a.glb", 8, &r));
    assert_int_equal(r.folder_n, 2);
    assert_false(name_ref_parse("../cat.png", 10, &r));
    assert_false(name_ref_parse(" [output]", 9, &r));
    assert_false(name_ref_parse("", 0, &r));
}

static void staged(const char *name, const char *want)
{
    struct buf b = BUF_INIT;
    char hex[NAME_HASH_HEX + 1];

    name_put_staged(&b, name, strlen(name), "0123456789abcdef");
    assert_string_equal(b.data, want);
    assert_true(name_staged_parse(b.data, b.len, hex));
    assert_string_equal(hex, "0123456789ab");
    assert_true(name_is_safe(b.data, b.len));
    buf_free(&b);
}

static void test_staged(void **state)
{
    char hex[NAME_HASH_HEX + 1], big[301];
    static const char *const bad[] = {"",
                                      "x.png",
                                      "x.0123456789a.png",
                                      "x.0123456789abc.png",
                                      "x.0123456789aB.png",
                                      "/x.0123456789ab.png",
                                      ".0123456789ab.png",
                                      "0123456789ab",
                                      "x y.0123456789ab.png",
                                      "x0123456789ab.png"};

    (void)state;
    staged("cat.png", "cat.0123456789ab.png");
    staged("sub/dir/cat.PNG", "cat.0123456789ab.png");
    staged("h\xc3\xa9 llo (1).webp", "h___llo__1_.0123456789ab.webp");
    staged("noext", "noext.0123456789ab");
    staged(".hidden", "_hidden.0123456789ab");
    staged("a.tar.gz", "a_tar.0123456789ab.gz");
    staged("x.", "x_.0123456789ab");
    staged("x.p g", "x_p_g.0123456789ab");
    staged("", "file.0123456789ab");
    staged("x/", "file.0123456789ab");
    staged("a.b\nc", "a_b_c.0123456789ab");
    staged("a.abcdefabcdef", "a.0123456789ab.abcdefabcdef");
    staged("x.png [output]", "x_png__output_.0123456789ab");
    memset(big, 'q', 300);
    big[300] = '\0';
    {
        struct buf b = BUF_INIT;

        name_put_staged(&b, big, 300, "0123456789ab");
        assert_int_equal(b.len, 64 + 13);
        buf_free(&b);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_false(name_staged_parse(bad[i], strlen(bad[i]), hex));
}

static void test_kinds(void **state)
{
    static const struct {
        const char *name, *kind, *mime;
        bool active;
    } cases[] = {
        {"a.png", "image", "image/png", false},
        {"A.JPG", "image", "image/jpeg", false},
        {"x.mp4", "video", "video/mp4", false},
        {"x.flac", "audio", "audio/flac", false},
        {"x.txt", "text", "text/plain", false},
        {"x.latent", "latent", "application/octet-stream", false},
        {"x.glb", "3d", "model/gltf-binary", false},
        {"x.json", "json", "application/json", false},
        {"x.svg", "image", "image/svg+xml", true},
        {"x.html", "file", "text/html", true},
        {"x.unknown", "file", "application/octet-stream", false},
        {"png", "file", "application/octet-stream", false},
        {".png", "file", "application/octet-stream", false},
        {"a.png/b", "file", "application/octet-stream", false},
        {"", "file", "application/octet-stream", false},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        size_t n = strlen(cases[i].name);

        assert_string_equal(name_kind_str(name_kind_of(cases[i].name, n)), cases[i].kind);
        assert_string_equal(name_mime(cases[i].name, n), cases[i].mime);
        assert_int_equal(name_is_active(cases[i].name, n), cases[i].active);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_safe_paths),  cmocka_unit_test(test_user_paths),
        cmocka_unit_test(test_annotations), cmocka_unit_test(test_virtual),
        cmocka_unit_test(test_staged),      cmocka_unit_test(test_kinds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
