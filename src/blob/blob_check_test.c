/* Bytes are checked before they are served. */
#define _XOPEN_SOURCE 700
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "blob/blob.h"
#include "store/store_mem.h"

struct fx {
    struct loop *l;
    struct workers *w;
    struct store *s;
    struct blobs *b;
    char dir[64];
    uint8_t hash[BLAKE3_LEN]; /* of the last put */
    int puts;
};

static int rm(const char *path, const struct stat *st, int flag, struct FTW *w)
{
    (void)st, (void)flag, (void)w;
    return remove(path);
}

static int setup(void **state)
{
    struct fx *f = calloc(1, sizeof(*f));
    struct err e;

    snprintf(f->dir, sizeof(f->dir), "/tmp/blob-check-test-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    f->l = loop_new(&e);
    f->w = workers_new(f->l, 1, &e);
    f->s = store_mem_new();
    f->b = blobs_open(f->l, f->w, f->s, f->dir, &e);
    assert_non_null(f->b);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fx *f = *state;

    blobs_close(&f->b);
    store_close(&f->s);
    workers_free(&f->w);
    loop_free(&f->l);
    nftw(f->dir, rm, 16, FTW_DEPTH | FTW_PHYS);
    free(f);
    return 0;
}

static void on_put(enum blob_status st, const struct blob_info *info, const char *why, void *arg)
{
    struct fx *f = arg;

    (void)why;
    assert_int_equal(st, BLOB_OK);
    memcpy(f->hash, info->blake3, BLAKE3_LEN);
    f->puts++;
}

static void put(struct fx *f, const char *text)
{
    struct bytes *data = bytes_new(text, strlen(text));
    int before = f->puts;

    blob_put(f->b, data, on_put, f);
    bytes_unref(data);
    while (f->puts == before) {
        store_mem_settle(f->s);
        loop_turn(f->l, 100);
    }
}

static void write_file(const char *path, const char *text)
{
    FILE *out = fopen(path, "wb");

    assert_non_null(out);
    assert_int_equal(fwrite(text, 1, strlen(text), out), strlen(text));
    fclose(out);
}

struct found {
    int n, fd;
    enum blob_found is;
};

static void on_checked(enum blob_found is, int fd, const char *why, void *arg)
{
    struct found *x = arg;

    assert_true((is == BLOB_SOUND) == (fd >= 0));
    assert_true((is == BLOB_SOUND) == (why == NULL));
    *x = (struct found){x->n + 1, fd, is};
}

static enum blob_found checked(struct fx *f, const uint8_t hash[BLAKE3_LEN], int64_t size)
{
    struct found x = {0};

    blob_check(f->b, hash, size, on_checked, &x);
    assert_int_equal(x.n, 0); /* not inside the call */
    while (x.n == 0)
        loop_turn(f->l, 100);
    if (x.fd >= 0)
        close(x.fd);
    return x.is;
}

static bool at_once(struct fx *f, const uint8_t hash[BLAKE3_LEN], int64_t size)
{
    int fd = blob_open_checked(f->b, hash, size);

    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

static void what_is_served_was_checked(void **state)
{
    struct fx *f = *state;
    uint8_t hash[BLAKE3_LEN];
    char path[256], hex[BLAKE3_HEX];

    put(f, "hello");
    memcpy(hash, f->hash, BLAKE3_LEN);
    blake3_hex(hash, hex);
    snprintf(path, sizeof(path), "%s/blobs/%.2s/%s", f->dir, hex, hex);
    assert_false(at_once(f, hash, 5));
    assert_int_equal(checked(f, hash, 5), BLOB_SOUND);
    assert_true(at_once(f, hash, 5) && at_once(f, hash, -1));
    assert_false(at_once(f, hash, 6));
    assert_int_equal(checked(f, hash, 6), BLOB_DAMAGED);
    write_file(path, "jello"); /* touched: what was known of it counts no more */
    assert_false(at_once(f, hash, 5));
    assert_int_equal(checked(f, hash, 5), BLOB_DAMAGED);
    assert_int_equal(checked(f, hash, -1), BLOB_DAMAGED);
    assert_false(at_once(f, hash, 5));
    write_file(path, "hell");
    assert_int_equal(checked(f, hash, 5), BLOB_DAMAGED);
    unlink(path);
    assert_false(at_once(f, hash, 5));
    assert_int_equal(checked(f, hash, 5), BLOB_GONE);
    put(f, "hello"); /* and mended */
    assert_int_equal(checked(f, hash, 5), BLOB_SOUND);
    assert_true(at_once(f, hash, 5));
}

/* Closed while one is looked at: it is still answered. */
static void closed_meanwhile(void **state)
{
    struct fx *f = *state;
    struct found x = {0};

    put(f, "hello");
    blob_check(f->b, f->hash, 5, on_checked, &x);
    blobs_close(&f->b);
    while (x.n == 0)
        loop_turn(f->l, 100);
    if (x.fd >= 0)
        close(x.fd);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(what_is_served_was_checked),
        T(closed_meanwhile),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
