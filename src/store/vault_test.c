/* What is sealed comes back whole, to its own job, by its own key, or not at all. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "store/vault.h"

#define JOB "0190a1b2-0000-7000-8000-000000000001"
#define OTHER "0190a1b2-0000-7000-8000-000000000002"

static char dir[64];

static int make_dir(void **state)
{
    (void)state;
    snprintf(dir, sizeof(dir), "/tmp/vault_test.XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static const char *key_path(void)
{
    static char path[96];

    snprintf(path, sizeof(path), "%s/secrets.key", dir);
    return path;
}

static int drop_dir(void **state)
{
    (void)state;
    unlink(key_path());
    return rmdir(dir);
}

static struct vault *opened(void)
{
    struct err e;
    struct vault *v = vault_open(dir, &e);

    if (v == NULL)
        fail_msg("%s", e.msg);
    return v;
}

static bool comes_back(struct vault *v, const char *id, struct bytes *sealed, const char *text)
{
    struct bytes *b = vault_unseal(v, id, sealed);
    bool same = b && b->len == strlen(text) && memcmp(b->data, text, b->len) == 0;

    bytes_unref(b);
    return same;
}

static void comes_back_after_a_restart(void **state)
{
    static const char *const texts[] = {"", "x", "{\"api_key_comfy_org\": \"sk-0123456789abcdef\"}"};
    struct stat st;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct bytes *plain = bytes_new(texts[i], strlen(texts[i])), *sealed, *twice;
        struct vault *v = opened();

        sealed = vault_seal(v, JOB, plain);
        twice = vault_seal(v, JOB, plain);
        if (plain->len > 4)
            assert_null(memmem(sealed->data, sealed->len, plain->data, 4));
        assert_memory_not_equal(sealed->data, twice->data, 13); /* a nonce is used once */
        vault_close(&v);
        v = opened();
        assert_true(comes_back(v, JOB, sealed, texts[i]));
        assert_false(comes_back(v, OTHER, sealed, texts[i]));
        vault_close(&v);
        bytes_unref(plain);
        bytes_unref(sealed);
        bytes_unref(twice);
    }
    assert_int_equal(stat(key_path(), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
}

static void every_altered_byte_is_seen(void **state)
{
    struct vault *v = opened();
    struct bytes *plain = bytes_new("{\"a\": 1}", 8), *sealed = vault_seal(v, JOB, plain);

    (void)state;
    for (size_t i = 0; i < sealed->len; i++) {
        sealed->data[i] ^= 1;
        assert_false(comes_back(v, JOB, sealed, "{\"a\": 1}"));
        sealed->data[i] ^= 1;
    }
    for (size_t n = 0; n < sealed->len; n++) {
        struct bytes *cut = bytes_new(sealed->data, n);

        assert_null(vault_unseal(v, JOB, cut));
        bytes_unref(cut);
    }
    assert_true(comes_back(v, JOB, sealed, "{\"a\": 1}"));
    bytes_unref(plain);
    bytes_unref(sealed);
    vault_close(&v);
}

static void a_lost_key_opens_nothing(void **state)
{
    struct vault *v = opened();
    struct bytes *plain = bytes_new("x", 1), *sealed = vault_seal(v, JOB, plain);

    (void)state;
    vault_close(&v);
    unlink(key_path());
    v = opened();
    assert_null(vault_unseal(v, JOB, sealed));
    bytes_unref(plain);
    bytes_unref(sealed);
    vault_close(&v);
}

static void expect_refused(const char *word)
{
    struct err e;

    assert_null(vault_open(dir, &e));
    assert_non_null(strstr(e.msg, "secrets.key"));
    assert_non_null(strstr(e.msg, word));
}

static void a_bad_key_file_is_named(void **state)
{
    struct vault *v = opened();

    (void)state;
    vault_close(&v);
    assert_int_equal(chmod(key_path(), 0640), 0);
    expect_refused("chmod 600");
    assert_int_equal(chmod(key_path(), 0600), 0);
    assert_int_equal(truncate(key_path(), 31), 0);
    expect_refused("32 bytes");
    assert_int_equal(truncate(key_path(), 33), 0);
    expect_refused("32 bytes");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(comes_back_after_a_restart, make_dir, drop_dir),
        cmocka_unit_test_setup_teardown(every_altered_byte_is_seen, make_dir, drop_dir),
        cmocka_unit_test_setup_teardown(a_lost_key_opens_nothing, make_dir, drop_dir),
        cmocka_unit_test_setup_teardown(a_bad_key_file_is_named, make_dir, drop_dir),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
