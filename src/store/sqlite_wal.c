/* Is the write-ahead log whole? SQLite takes a frame whose checksum does not fit for the torn end of a crash and silently
 * forgets it and all behind it. That is right at the end, but not in the middle: there it would forget what was answered.
 *
 * The log is a head of 32 bytes and frames of 24 + page size (SQLite's file format, 4.1); a checksum goes on from the frame
 * before. A frame that goes on from one that ends a commit was written after that commit was durable. So: behind the first
 * frame that does not fit there must be no such pair. */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/sqlite_priv.h"

#define HEAD 32
#define FRAME_HEAD 24

struct sum {
    uint32_t a, b;
};

struct wal {
    int fd;
    bool big_endian; /* of the words that are summed; the fields always are */
    uint32_t page;
    uint8_t salt[8];
    struct sum last; /* of the frame before */
    uint8_t *frame;
};

static uint32_t be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static struct sum add(const struct wal *w, struct sum s, const uint8_t *p, size_t n)
{
    for (const uint8_t *end = p + n; p < end; p += 8) {
        uint32_t x = be32(p), y = be32(p + 4);

        s.a += (w->big_endian ? x : __builtin_bswap32(x)) + s.b;
        s.b += (w->big_endian ? y : __builtin_bswap32(y)) + s.a;
    }
    return s;
}

static struct sum sum_at(const uint8_t *p)
{
    return (struct sum){be32(p), be32(p + 4)};
}

static bool same(struct sum x, struct sum y)
{
    return x.a == y.a && x.b == y.b;
}

static bool all_zero(const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i])
            return false;
    return true;
}

/* 1: a log; 0: none has been begun; -1: its head is damaged. */
static int read_head(struct wal *w)
{
    uint8_t head[HEAD];

    if (pread(w->fd, head, HEAD, 0) != HEAD || all_zero(head, HEAD))
        return 0;
    w->big_endian = head[3] & 1;
    w->page = be32(head + 8);
    memcpy(w->salt, head + 16, 8);
    w->last = sum_at(head + 24);
    if ((be32(head) & ~1u) != 0x377f0682 || w->page < 512 || w->page > 65536 || (w->page & (w->page - 1)) ||
        !same(add(w, (struct sum){0, 0}, head, 24), w->last))
        return -1;
    return 1;
}

/* Of this life of the log, and not left over from one before. */
static bool is_present(const struct wal *w)
{
    return memcmp(w->frame + 8, w->salt, 8) == 0;
}

/* Goes on from the frame before, as that says of itself. */
static bool fits(const struct wal *w)
{
    return is_present(w) &&
           same(add(w, add(w, w->last, w->frame, 8), w->frame + FRAME_HEAD, w->page), sum_at(w->frame + 16));
}

int wal_check(const char *path, struct err *e)
{
    struct wal w = {.fd = open(path, O_RDONLY | O_CLOEXEC)};
    bool ended = false;      /* the frame before ends a commit */
    int64_t n = 0, bad = -1; /* the first frame that does not fit */
    bool damaged = false;
    int head;

    if (w.fd < 0)
        return errno == ENOENT ? 0 : err_errno(e, errno, "%s", path);
    head = read_head(&w);
    if (head > 0) {
        size_t size = FRAME_HEAD + (size_t)w.page;

        w.frame = xmalloc(size);
        for (; !damaged && pread(w.fd, w.frame, size, HEAD + n * (int64_t)size) == (ssize_t)size; n++) {
            bool good = fits(&w);

            if (!good && bad < 0)
                bad = n;
            damaged = good && bad >= 0 && ended;
            ended = is_present(&w) && be32(w.frame + 4) != 0;
            w.last = sum_at(w.frame + 16);
        }
        free(w.frame);
    }
    close(w.fd);
    if (head >= 0 && !damaged)
        return 0;
    return err_set(e, EIO,
                   "%s is damaged (frame %lld); restore it together with the database from a backup, or move "
                   "it away and "
                   "lose what was written last",
                   path, (long long)(head < 0 ? -1 : bad) + 1);
}
