#include "blob/blob.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <blake3.h>

#include "base/buf.h"
#include "base/log.h"
#include "store/store_mem.h"
#include "store/store_sqlite.h"

static bool use_sqlite;

struct fx {
    struct loop *l;
    struct workers *w;
    struct store *s;
    struct blobs *b;
    char dir[64];
    bool held; /* the store in memory: do not settle it */
    /* answers */
    int puts, reads, swept;
    enum blob_status st;
    struct blob_info info;
    char why[256];
    struct buf data;
    unsigned removed;
    bool collected;
    struct store_collected col;
};

static int rm(const char *path, const struct stat *st, int flag, struct FTW *w)
{
    (void)st, (void)flag, (void)w;
    return remove(path);
}

static void open_all(struct fx *f)
{
    struct err e = {0};

    f->s = use_sqlite ? store_sqlite_open(f->l, f->dir, &e) : store_mem_new();
    f->b = f->s ? blobs_open(f->l, f->w, f->s, f->dir, &e) : NULL;
    if (f->b == NULL)
        fail_msg("%s", e.msg);
}

static int setup(void **state)
{
    struct fx *f = calloc(1, sizeof(*f));
    struct err e;

    /* in memory where there is such a file system: what is synced here need not outlive the machine */
    snprintf(f->dir, sizeof(f->dir), "%s/blob-test-XXXXXX", access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
    assert_non_null(mkdtemp(f->dir));
    f->l = loop_new(&e);
    f->w = workers_new(f->l, 2, &e);
    open_all(f);
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
    buf_free(&f->data);
    nftw(f->dir, rm, 16, FTW_DEPTH | FTW_PHYS);
    free(f);
    return 0;
}

static void turn(struct fx *f)
{
    if (!use_sqlite && !f->held)
        store_mem_settle(f->s);
    loop_turn(f->l, 5);
    if (!use_sqlite && !f->held)
        store_mem_settle(f->s);
}

/* The deadline is a safety net only. */
#define UNTIL(f, cond)                                                                                       \
    do {                                                                                                     \
        struct clock *c_ = clock_system();                                                                   \
        int64_t end_ = c_->mono_ms(c_) + 60000;                                                              \
        while (!(cond) && c_->mono_ms(c_) < end_)                                                            \
            turn(f);                                                                                         \
        assert_true(cond);                                                                                   \
    } while (0)

static void on_put(enum blob_status st, const struct blob_info *info, const char *why, void *arg)
{
    struct fx *f = arg;

    assert_true((st == BLOB_OK) == (info != NULL));
    assert_true((st == BLOB_OK) == (why == NULL));
    f->st = st;
    if (info)
        f->info = *info;
    snprintf(f->why, sizeof(f->why), "%s", why ? why : "");
    f->puts++;
}

static void on_data(struct bytes *data, const char *why, void *arg)
{
    struct fx *f = arg;

    buf_clear(&f->data);
    if (data)
        buf_put(&f->data, data->data, data->len);
    snprintf(f->why, sizeof(f->why), "%s", why ? why : "");
    f->reads++;
}

static enum blob_status finish(struct fx *f, struct blob_writer *w)
{
    int before = f->puts;

    blob_writer_finish(&w, on_put, f);
    assert_null(w);
    assert_int_equal(f->puts, before); /* never inside the call */
    UNTIL(f, f->puts > before);
    return f->st;
}

static enum blob_status put(struct fx *f, const char *text)
{
    struct bytes *data = bytes_new(text, strlen(text));
    int before = f->puts;

    blob_put(f->b, data, on_put, f);
    bytes_unref(data);
    assert_int_equal(f->puts, before);
    UNTIL(f, f->puts > before);
    return f->st;
}

static const char *read_back(struct fx *f, const uint8_t hash[BLAKE3_LEN], int64_t max)
{
    int before = f->reads;

    blob_read(f->b, hash, max, on_data, f);
    UNTIL(f, f->reads > before);
    return buf_str(&f->data);
}

static void hash_text(const void *p, size_t n, uint8_t out[BLAKE3_LEN])
{
    blake3_hasher h;

    blake3_hasher_init(&h);
    blake3_hasher_update(&h, p, n);
    blake3_hasher_finalize(&h, out, BLAKE3_LEN);
}

static void path_of(struct fx *f, const uint8_t hash[BLAKE3_LEN], char out[256])
{
    char hex[BLAKE3_HEX];

    blake3_hex(hash, hex);
    snprintf(out, 256, "%s/blobs/%.2s/%s", f->dir, hex, hex);
}

static bool exists(struct fx *f, const uint8_t hash[BLAKE3_LEN])
{
    char path[256];

    path_of(f, hash, path);
    return access(path, F_OK) == 0;
}

static unsigned n_files;

static int count_file(const char *path, const struct stat *st, int flag, struct FTW *w)
{
    (void)path, (void)st, (void)w;
    n_files += flag == FTW_F;
    return 0;
}

static unsigned files_in(struct fx *f, const char *sub)
{
    char path[128];

    snprintf(path, sizeof(path), "%s/%s", f->dir, sub);
    n_files = 0;
    nftw(path, count_file, 16, FTW_PHYS);
    return n_files;
}

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");

    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

/* --- */
static void bytes_come_back(void **state)
{
    struct fx *f = *state;
    uint8_t want[BLAKE3_LEN];
    struct err e = {0};
    char path[256], got[8] = "";
    int64_t size;
    int fd;

    assert_int_equal(put(f, "hello"), BLOB_OK);
    hash_text("hello", 5, want);
    assert_memory_equal(f->info.blake3, want, BLAKE3_LEN);
    assert_int_equal(f->info.size, 5);
    path_of(f, want, path);
    assert_int_equal(access(path, R_OK), 0);
    assert_int_equal(files_in(f, "blobs/tmp"), 0);
    assert_string_equal(read_back(f, want, 5), "hello");
    fd = blob_open(f->b, want, &size, &e);
    assert_true(fd >= 0);
    assert_int_equal(size, 5);
    assert_int_equal(read(fd, got, 8), 5);
    assert_string_equal(got, "hello");
    close(fd);
    assert_string_equal(read_back(f, want, 4), ""); /* more than was asked for */
    assert_non_null(strstr(f->why, "more than 4"));
    hash_text("nothing", 7, want);
    assert_int_equal(blob_open(f->b, want, &size, &e), -1);
    assert_int_equal(e.code, ENOENT);
    read_back(f, want, 100);
    assert_non_null(strstr(f->why, "No such file"));
}

static void empty_blob(void **state)
{
    struct fx *f = *state;

    assert_int_equal(finish(f, blob_writer_new(f->b, 0)), BLOB_OK);
    assert_int_equal(f->info.size, 0);
    assert_true(exists(f, f->info.blake3));
    assert_int_equal(put(f, ""), BLOB_OK);
    read_back(f, f->info.blake3, 0);
    assert_string_equal(f->why, "");
}

static void damaged_bytes_are_not_served(void **state)
{
    struct fx *f = *state;
    char path[256];

    assert_int_equal(put(f, "hello"), BLOB_OK);
    path_of(f, f->info.blake3, path);
    write_file(path, "jello");
    assert_string_equal(read_back(f, f->info.blake3, 100), "");
    assert_non_null(strstr(f->why, "not what was stored"));
}

static void known_blob(void **state)
{
    struct fx *f = *state;
    struct stat a, b;
    char path[256];
    int64_t first;

    assert_int_equal(put(f, "hello"), BLOB_OK);
    first = f->info.pin;
    path_of(f, f->info.blake3, path);
    assert_int_equal(stat(path, &a), 0);
    assert_int_equal(put(f, "hello"), BLOB_OK);
    assert_int_not_equal(f->info.pin, first);
    assert_int_equal(stat(path, &b), 0);
    assert_int_equal(a.st_size, b.st_size);
    assert_int_equal(files_in(f, "blobs/tmp"), 0);

    unlink(path); /* known, but the file is gone: put in place again */
    assert_int_equal(put(f, "hello"), BLOB_OK);
    assert_string_equal(read_back(f, f->info.blake3, 100), "hello");
    write_file(path, "hell"); /* cut short: the same */
    assert_int_equal(put(f, "hello"), BLOB_OK);
    assert_string_equal(read_back(f, f->info.blake3, 100), "hello");
    write_file(path, "jello"); /* damaged, of the right size: the same */
    assert_int_equal(put(f, "hello"), BLOB_OK);
    assert_string_equal(read_back(f, f->info.blake3, 100), "hello");
    assert_int_equal(files_in(f, "blobs"), 1);
}

static void a_lost_folder_is_made_again(void **state)
{
    struct fx *f = *state;
    char path[256];

    assert_int_equal(put(f, "hello"), BLOB_OK);
    path_of(f, f->info.blake3, path);
    unlink(path);
    *strrchr(path, '/') = '\0';
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(put(f, "hello"), BLOB_OK);
    assert_string_equal(read_back(f, f->info.blake3, 100), "hello");
}

static void pieces_keep_their_order(void **state)
{
    struct fx *f = *state;
    struct blob_writer *w = blob_writer_new(f->b, 0);
    struct buf all = BUF_INIT;
    uint8_t want[BLAKE3_LEN];

    for (int i = 0; i < 3000; i++) {
        char piece[64];
        int n = snprintf(piece, sizeof(piece), "piece %d of this blob;", i);

        buf_put(&all, piece, (size_t)n);
        blob_writer_put(w, piece, (size_t)n);
        if (i % 500 == 0)
            turn(f);
    }
    blob_writer_put(w, NULL, 0);
    assert_int_equal(finish(f, w), BLOB_OK);
    hash_text(all.data, all.len, want);
    assert_memory_equal(f->info.blake3, want, BLAKE3_LEN);
    assert_string_equal(read_back(f, want, 1 << 20), all.data);
    buf_free(&all);
}

struct flood {
    struct fx *f;
    struct blob_writer *w;
    size_t left, most;
    unsigned drains;
    uint32_t seed;
    blake3_hasher hasher;
    char piece[100000];
};

static void pour(void *arg)
{
    struct flood *fl = arg;

    fl->drains++;
    while (fl->left > 0 && blob_writer_queued(fl->w) < (1u << 20)) {
        size_t n = fl->left < sizeof(fl->piece) ? fl->left : sizeof(fl->piece);

        for (size_t i = 0; i + 4 <= n; i += 4096) {
            fl->seed = fl->seed * 1664525u + 1013904223u;
            memcpy(fl->piece + i, &fl->seed, 4);
        }
        blake3_hasher_update(&fl->hasher, fl->piece, n);
        blob_writer_put(fl->w, fl->piece, n);
        fl->left -= n;
        if (blob_writer_queued(fl->w) > fl->most)
            fl->most = blob_writer_queued(fl->w);
    }
    if (fl->left > 0)
        blob_writer_on_drain(fl->w, 256u << 10, pour, fl);
    else
        blob_writer_finish(&fl->w, on_put, fl->f);
}

/* 100 MB through a queue that never holds more than 1.1 MB. */
static void large_blob_in_a_bounded_queue(void **state)
{
    struct fx *f = *state;
    struct flood *fl = calloc(1, sizeof(*fl));
    uint8_t want[BLAKE3_LEN];
    int64_t size;
    int fd;

    fl->f = f;
    fl->left = 100u << 20;
    fl->w = blob_writer_new(f->b, 0);
    blake3_hasher_init(&fl->hasher);
    pour(fl);
    UNTIL(f, f->puts == 1);
    assert_int_equal(f->st, BLOB_OK);
    blake3_hasher_finalize(&fl->hasher, want, BLAKE3_LEN);
    assert_memory_equal(f->info.blake3, want, BLAKE3_LEN);
    assert_int_equal(f->info.size, 100u << 20);
    assert_true(fl->most < (1u << 20) + sizeof(fl->piece));
    assert_true(fl->drains > 50);
    fd = blob_open(f->b, want, &size, NULL);
    assert_int_equal(size, 100u << 20);
    close(fd);
    free(fl);
}

static void too_big(void **state)
{
    struct fx *f = *state;
    struct blob_writer *w = blob_writer_new(f->b, 5);

    blob_writer_put(w, "12345", 5);
    assert_int_equal(finish(f, w), BLOB_OK);
    w = blob_writer_new(f->b, 5);
    blob_writer_put(w, "123", 3);
    turn(f);
    blob_writer_put(w, "456", 3);
    blob_writer_put(w, "7", 1);
    assert_int_equal(blob_writer_queued(w), 0);
    assert_int_equal(finish(f, w), BLOB_TOO_BIG);
    assert_string_equal(f->why, "more than 5 bytes");
    assert_int_equal(files_in(f, "blobs"), 1);
}

static void abort_at_any_time(void **state)
{
    struct fx *f = *state;

    for (int when = 0; when < 4; when++) {
        struct blob_writer *w = blob_writer_new(f->b, 0);

        if (when >= 1)
            blob_writer_put(w, "abc", 3); /* the worker is at it */
        if (when >= 2)
            for (int i = 0; i < 20; i++)
                turn(f); /* it is through */
        if (when >= 3)
            blob_writer_put(w, "def", 3);
        blob_writer_abort(&w);
        assert_null(w);
    }
    assert_int_equal(put(f, "x"), BLOB_OK);
    UNTIL(f, files_in(f, "blobs/tmp") == 0);
    assert_int_equal(files_in(f, "blobs"), 1);
    assert_int_equal(f->puts, 1);
}

/* Closing: what is being filled is aborted, what was finished is answered, no file is left lying about. */
static void closing_in_the_middle(void **state)
{
    struct fx *f = *state;
    struct bytes *data = bytes_new("hello", 5);
    struct blob_writer *w = blob_writer_new(f->b, 0);

    f->held = true;
    blob_writer_put(w, "abc", 3);
    blob_put(f->b, data, on_put, f);
    if (!use_sqlite) /* one that waits for its pin, and one that is only being written */
        UNTIL(f, store_mem_given(f->s) == 1);
    blob_put(f->b, data, on_put, f);
    bytes_unref(data);
    blobs_close(&f->b);
    store_close(&f->s);
    workers_free(&f->w);
    assert_int_equal(f->puts, 2);
    assert_int_equal(f->st, BLOB_FAILED);
    assert_int_equal(files_in(f, "blobs"), 0);
}

static void full_disk(void **state)
{
    struct fx *f = *state;
    struct rlimit old, small;
    struct blob_writer *w;
    char block[4096] = "x";

    if (use_sqlite)
        skip(); /* the limit would hit the database too: that is tested in store/ */
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small = old;
    small.rlim_cur = 10000;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    w = blob_writer_new(f->b, 0);
    for (int i = 0; i < 5; i++) {
        blob_writer_put(w, block, sizeof(block));
        turn(f);
    }
    assert_int_equal(finish(f, w), BLOB_FULL);
    assert_non_null(strstr(f->why, "File too large"));
    assert_int_equal(files_in(f, "blobs"), 0);
    setrlimit(RLIMIT_FSIZE, &old);
    assert_int_equal(put(f, "there is space again"), BLOB_OK);

    store_mem_fail(f->s, STORE_FULL, 1);
    assert_int_equal(put(f, "no space in the store"), BLOB_FULL);
    store_mem_fail(f->s, STORE_FAILED, 1);
    assert_int_equal(put(f, "no store"), BLOB_FAILED);
    assert_int_equal(files_in(f, "blobs"), 1);
}

static void unwritable_folder(void **state)
{
    struct fx *f = *state;
    struct err e = {0};
    char dir[128], path[256];

    snprintf(dir, sizeof(dir), "%s/nowhere", f->dir);
    assert_null(blobs_open(f->l, f->w, f->s, dir, &e));
    assert_non_null(strstr(e.msg, "nowhere"));
    mkdir(dir, 0700);
    snprintf(path, sizeof(path), "%s/blobs", dir);
    write_file(path, "a file where the folder should be");
    assert_null(blobs_open(f->l, f->w, f->s, dir, &e));
    assert_non_null(strstr(e.msg, "nowhere"));
    /* a temporary folder that vanishes: named, and nothing else breaks */
    snprintf(path, sizeof(path), "%s/blobs/tmp", f->dir);
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(put(f, "x"), BLOB_FAILED);
    assert_non_null(strstr(f->why, "blobs/tmp"));
}

static void on_swept(unsigned removed, void *arg)
{
    struct fx *f = arg;

    f->removed = removed;
    f->swept++;
}

static void orphan(struct fx *f, const char *text, uint8_t hash[BLAKE3_LEN])
{
    char path[256];

    hash_text(text, strlen(text), hash);
    path_of(f, hash, path);
    write_file(path, text);
}

static void sweep_takes_orphans_only(void **state)
{
    struct fx *f = *state;
    uint8_t lost[40][BLAKE3_LEN], kept[BLAKE3_LEN];
    struct blob_writer *w;
    char path[256], text[32];

    assert_int_equal(put(f, "kept"), BLOB_OK);
    memcpy(kept, f->info.blake3, BLAKE3_LEN);
    for (int i = 0; i < 40; i++) {
        snprintf(text, sizeof(text), "orphan %d", i);
        orphan(f, text, lost[i]);
    }
    snprintf(path, sizeof(path), "%s/blobs/tmp/0123456789abcdef-7", f->dir);
    write_file(path, "left by a crash");
    snprintf(path, sizeof(path), "%s/blobs/00/README", f->dir);
    write_file(path, "not ours");
    w = blob_writer_new(f->b, 0); /* being written while the sweep goes on */
    blob_writer_put(w, "abc", 3);
    blobs_sweep(f->b, on_swept, f);
    UNTIL(f, f->swept);
    assert_int_equal(f->removed, 41);
    for (int i = 0; i < 40; i++)
        assert_false(exists(f, lost[i]));
    assert_true(exists(f, kept));
    assert_int_equal(access(path, F_OK), 0);
    assert_int_equal(finish(f, w), BLOB_OK);
    assert_string_equal(read_back(f, f->info.blake3, 100), "abc");
    assert_int_equal(f->swept, 1);
}

/* The bytes of an orphan are put while the sweep is deciding about it: whoever is first, they must be there
 * afterwards. */
static void put_races_with_the_sweep(void **state)
{
    struct fx *f = *state;
    uint8_t hash[BLAKE3_LEN];

    for (int delay = 0; delay < 30; delay++) {
        struct bytes *data;
        char text[32];
        int puts = f->puts, swept = f->swept;

        snprintf(text, sizeof(text), "racing %d", delay);
        orphan(f, text, hash);
        data = bytes_new(text, strlen(text));
        if (delay % 2)
            blob_put(f->b, data, on_put, f);
        blobs_sweep(f->b, on_swept, f);
        for (int i = 0; i < delay * 9; i++) /* the folder comes up anywhere in 256 turns */
            loop_turn(f->l, 0);
        if (delay % 2 == 0)
            blob_put(f->b, data, on_put, f);
        bytes_unref(data);
        UNTIL(f, f->puts > puts && f->swept > swept);
        assert_int_equal(f->st, BLOB_OK);
        assert_string_equal(read_back(f, hash, 100), text);
    }
}

/* The sweep holds the hash and waits for the store: a put of it waits, then puts its own file in place. */
static void put_waits_for_the_sweep(void **state)
{
    struct fx *f = *state;
    struct bytes *data = bytes_new("held", 4);
    uint8_t hash[BLAKE3_LEN];

    if (use_sqlite) {
        bytes_unref(data);
        skip(); /* answers cannot be held back there */
    }
    orphan(f, "held", hash);
    f->held = true;
    blobs_sweep(f->b, on_swept, f);
    UNTIL(f, store_mem_pending(f->s) == 1); /* known? not answered yet */
    blob_put(f->b, data, on_put, f);
    for (int i = 0; i < 50; i++)
        turn(f);
    assert_int_equal(store_mem_given(f->s), 0); /* no pin was asked for */
    assert_int_equal(f->puts, 0);
    f->held = false;
    UNTIL(f, f->puts && f->swept);
    assert_int_equal(f->removed, 1);
    assert_string_equal(read_back(f, hash, 100), "held");

    /* and the other way round: the put waits for its pin, the sweep leaves the file alone */
    f->held = true;
    f->swept = 0;
    blob_put(f->b, data, on_put, f);
    UNTIL(f, store_mem_given(f->s) == 1);
    blobs_sweep(f->b, on_swept, f);
    UNTIL(f, f->swept);
    assert_int_equal(f->removed, 0);
    assert_true(exists(f, hash));
    f->held = false;
    UNTIL(f, f->puts == 2);
    bytes_unref(data);
}

static void on_collected(const struct store_collected *c, void *arg)
{
    struct fx *f = arg;

    f->col = *c;
    f->collected = true;
}

static unsigned collect(struct fx *f, int64_t now, int64_t grace)
{
    f->collected = false;
    blobs_collect(f->b, now, grace, 100, on_collected, f);
    assert_false(f->collected);
    UNTIL(f, f->collected);
    assert_int_equal(f->col.status, STORE_OK);
    return f->col.removed;
}

static void collection(void **state)
{
    struct fx *f = *state;
    uint8_t hash[BLAKE3_LEN];
    int64_t size;
    char got[8] = "";
    int fd;

    assert_int_equal(put(f, "hello"), BLOB_OK);
    memcpy(hash, f->info.blake3, BLAKE3_LEN);
    assert_int_equal(collect(f, 100, 0), 0); /* pinned */
    assert_true(exists(f, hash));
    blobs_unpin(f->b, f->info.pin);
    assert_int_equal(collect(f, 100, 50), 0); /* in grace */
    assert_true(exists(f, hash));
    assert_int_equal(put(f, "hello"), BLOB_OK); /* wanted again */
    assert_int_equal(collect(f, 200, 50), 0);
    assert_true(exists(f, hash));
    blobs_unpin(f->b, f->info.pin);
    fd = blob_open(f->b, hash, &size, NULL);
    assert_int_equal(collect(f, 300, 0), 1);
    assert_false(exists(f, hash));
    assert_int_equal(read(fd, got, sizeof(got)), 5); /* what was opened stays readable */
    close(fd);
    assert_int_equal(put(f, "hello"), BLOB_OK);
    assert_string_equal(read_back(f, hash, 100), "hello");
}

/* Puts, unpins and collections of the same few blobs, all at once: what is pinned can always be read. */
static void put_races_with_collection(void **state)
{
    struct fx *f = *state;
    int rounds = use_sqlite ? 60 : 200;

    for (int i = 0; i < rounds; i++) {
        char text[8];
        struct bytes *data;
        int puts = f->puts;

        snprintf(text, sizeof(text), "b%d", i % 3);
        data = bytes_new(text, strlen(text));
        blobs_collect(f->b, i, 0, 10, NULL, NULL);
        blob_put(f->b, data, on_put, f);
        if (i % 2)
            turn(f);
        blobs_collect(f->b, i, 0, 10, NULL, NULL);
        bytes_unref(data);
        UNTIL(f, f->puts > puts);
        assert_int_equal(f->st, BLOB_OK);
        assert_string_equal(read_back(f, f->info.blake3, 10), text);
        blobs_unpin(f->b, f->info.pin);
    }
}

/* Same bytes from many writers at once: one file, each with a pin of its own. */
static void many_writers_of_one_blob(void **state)
{
    struct fx *f = *state;
    struct bytes *data = bytes_new("shared", 6);

    for (int i = 0; i < 20; i++)
        blob_put(f->b, data, on_put, f);
    bytes_unref(data);
    UNTIL(f, f->puts == 20);
    assert_int_equal(f->st, BLOB_OK);
    assert_int_equal(files_in(f, "blobs"), 1);
    assert_string_equal(read_back(f, f->info.blake3, 10), "shared");
}

/* A crash after the pin and before the placement leaves a row without a file; after the restart the row is
 * collected, or revived by a put that brings the file. */
static void crash_between_pin_and_placement(void **state)
{
    struct fx *f = *state;
    uint8_t hash[BLAKE3_LEN];
    char path[256];

    assert_int_equal(put(f, "hello"), BLOB_OK);
    memcpy(hash, f->info.blake3, BLAKE3_LEN);
    path_of(f, hash, path);
    unlink(path);
    blobs_close(&f->b);
    if (use_sqlite)
        store_close(&f->s);
    else
        store_mem_crash(f->s);
    if (use_sqlite) {
        open_all(f);
    } else {
        f->b = blobs_open(f->l, f->w, f->s, f->dir, NULL);
        assert_non_null(f->b);
    }
    assert_int_equal(put(f, "hello"), BLOB_OK);
    assert_string_equal(read_back(f, hash, 100), "hello");
    blobs_unpin(f->b, f->info.pin);
    unlink(path);
    assert_int_equal(collect(f, 100, 0), 1);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

static void no_log(void *arg, enum log_level level, const char *line, size_t len)
{
    (void)arg, (void)level, (void)line, (void)len;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(bytes_come_back),
        T(empty_blob),
        T(damaged_bytes_are_not_served),
        T(known_blob),
        T(a_lost_folder_is_made_again),
        T(pieces_keep_their_order),
        T(large_blob_in_a_bounded_queue),
        T(too_big),
        T(abort_at_any_time),
        T(closing_in_the_middle),
        T(full_disk),
        T(unwritable_folder),
        T(sweep_takes_orphans_only),
        T(put_races_with_the_sweep),
        T(put_waits_for_the_sweep),
        T(collection),
        T(put_races_with_collection),
        T(many_writers_of_one_blob),
        T(crash_between_pin_and_placement),
    };
    int bad;

    log_set_sink(no_log, NULL);
    bad = cmocka_run_group_tests_name("blobs over the store in memory", tests, NULL, NULL);
    use_sqlite = true;
    return bad + cmocka_run_group_tests_name("blobs over the store on SQLite", tests, NULL, NULL);
}
