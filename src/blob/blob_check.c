/* Is a file still what was stored? Its size always tells something; its hash is taken the first time that it is read since
 * the start, and again when the file has been touched. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "blob/blob_priv.h"

#define CHECK_MAX (INT64_C(256) << 20) /* bytes; of larger ones only the size is compared */
#define CHECKED_MOST 65536             /* remembered; the first ones are forgotten */
#define PIECE (256 << 10)

struct checked {
    uint8_t hash[BLAKE3_LEN];
    dev_t dev;
    ino_t ino;
    struct timespec ctime;
    UT_hash_handle hh;
};

static bool same_file(const struct checked *c, const struct stat *st)
{
    return c->dev == st->st_dev && c->ino == st->st_ino && c->ctime.tv_sec == st->st_ctim.tv_sec &&
           c->ctime.tv_nsec == st->st_ctim.tv_nsec;
}

static void forget(struct blobs *b, struct checked *c)
{
    HASH_DEL(b->checked, c);
    free(c);
}

void blob_checked_free(struct blobs *b)
{
    struct checked *c, *tmp;

    HASH_ITER(hh, b->checked, c, tmp)
        forget(b, c);
}

static void remember(struct blobs *b, const uint8_t hash[BLAKE3_LEN], const struct stat *st)
{
    struct checked *c;

    HASH_FIND(hh, b->checked, hash, BLAKE3_LEN, c);
    if (c)
        forget(b, c);
    else if (HASH_COUNT(b->checked) >= CHECKED_MOST)
        forget(b, b->checked);
    c = xcalloc(1, sizeof(*c));
    memcpy(c->hash, hash, BLAKE3_LEN);
    c->dev = st->st_dev;
    c->ino = st->st_ino;
    c->ctime = st->st_ctim;
    HASH_ADD(hh, b->checked, hash, BLAKE3_LEN, c);
}

int blob_open_checked(struct blobs *b, const uint8_t hash[BLAKE3_LEN], int64_t size)
{
    struct checked *c;
    struct stat st;
    int64_t found;
    int fd;

    HASH_FIND(hh, b->checked, hash, BLAKE3_LEN, c);
    fd = c ? blob_fs_read_open(&b->fs, hash, &found, NULL) : -1;
    if (fd >= 0 && (fstat(fd, &st) < 0 || (size >= 0 && st.st_size != size) || !same_file(c, &st))) {
        close(fd);
        fd = -1;
    }
    return fd;
}

/* --- the check --- */

struct checking {
    struct work work;
    struct blobs *b;
    uint8_t hash[BLAKE3_LEN];
    int64_t size;
    int fd;
    struct stat st;
    enum blob_found found;
    struct err why;
    blob_checked_cb *cb;
    void *arg;
};

static int hash_file(int fd, int64_t size, uint8_t out[BLAKE3_LEN], struct err *e)
{
    char *piece = xmalloc(PIECE);
    blake3_hasher hasher;
    int64_t at = 0;

    blake3_hasher_init(&hasher);
    while (at < size) {
        ssize_t n = pread(fd, piece, PIECE, at);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            err_set(e, n < 0 ? errno : EIO, "cannot read: %s", n < 0 ? strerror(errno) : "it is cut short");
            free(piece);
            return -1;
        }
        blake3_hasher_update(&hasher, piece, (size_t)n);
        at += n;
    }
    free(piece);
    blake3_hasher_finalize(&hasher, out, BLAKE3_LEN);
    return 0;
}

static enum blob_found check(struct checking *c)
{
    uint8_t hash[BLAKE3_LEN];
    int64_t size;

    c->fd = blob_fs_read_open(&c->b->fs, c->hash, &size, &c->why);
    if (c->fd < 0)
        return c->why.code == ENOENT ? BLOB_GONE : BLOB_UNREADABLE;
    if (fstat(c->fd, &c->st) < 0) {
        err_errno(&c->why, errno, "cannot look at it");
        return BLOB_UNREADABLE;
    }
    if (c->size >= 0 && size != c->size) {
        err_set(&c->why, EIO, "the file has %lld bytes and not %lld", (long long)size, (long long)c->size);
        return BLOB_DAMAGED;
    }
    if (size > CHECK_MAX)
        return BLOB_SOUND;
    if (hash_file(c->fd, size, hash, &c->why) < 0)
        return BLOB_UNREADABLE;
    if (memcmp(hash, c->hash, BLAKE3_LEN) == 0)
        return BLOB_SOUND;
    err_set(&c->why, EIO, "the file's bytes are not what was stored");
    return BLOB_DAMAGED;
}

static void run_check(struct work *work)
{
    struct checking *c = container_of(work, struct checking, work);

    c->found = check(c);
    if (c->found != BLOB_SOUND && c->fd >= 0) {
        close(c->fd);
        c->fd = -1;
    }
}

static void on_checked(struct work *work)
{
    struct checking *c = container_of(work, struct checking, work);

    if (c->found == BLOB_SOUND)
        remember(c->b, c->hash, &c->st);
    c->cb(c->found, c->fd, c->found == BLOB_SOUND ? NULL : c->why.msg, c->arg);
    blobs_unref(c->b);
    free(c);
}

void blob_check(struct blobs *b, const uint8_t hash[BLAKE3_LEN], int64_t size, blob_checked_cb *cb, void *arg)
{
    struct checking *c = xcalloc(1, sizeof(*c));

    c->b = b;
    blobs_ref(b);
    memcpy(c->hash, hash, BLAKE3_LEN);
    c->size = size;
    c->fd = -1;
    c->cb = cb;
    c->arg = arg;
    c->work.run = run_check;
    c->work.done = on_checked;
    workers_submit(b->workers, &c->work);
}
