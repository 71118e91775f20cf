/* A put, from the first byte to the answer:
 *
 *   FILLING ──finish()──> CLOSING ──fsynced──> PINNING ──committed──> PLACING ──in its folder──> OVER ──> cb
 *      │                     │                    │                      │
 *      └──abort()────────────┴── any failure ─────┴──────────────────────┴──> DROPPING ──> OVER ──> cb
 *
 * One piece of work at a time is with the workers; what belongs to it is not touched meanwhile. The answer
 * always comes from a later turn, because every way there leads over a worker. */
#include "blob/blob.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/plant.h"
#include "blob/blob_priv.h"

enum writer_state {
    WRITER_FILLING,
    WRITER_CLOSING, /* all bytes were given */
    WRITER_PINNING, /* the store is asked, or the sweep is waited for */
    WRITER_PLACING,
    WRITER_DROPPING /* failed or aborted: the temporary file goes */
};

struct blob_writer {
    struct blobs *b;
    struct list link, wait;
    enum writer_state state;
    enum blob_status status; /* the first fault decides */
    struct err why;
    struct buf pending; /* given, not yet with a worker */
    struct bytes *whole;
    int64_t given, max;
    struct blob_info info;
    bool pinned;
    struct hold *hold;
    size_t low;
    void (*on_drain)(void *arg);
    void *drain_arg;
    blob_put_cb *cb;
    void *arg;

    struct work work;
    bool working;
    /* the worker's while working */
    char name[BLOB_NAME_MAX];
    int fd; /* -1: no file yet */
    struct buf taken;
    bool last; /* of the bytes */
    blake3_hasher hasher;
    struct err failed;
};

static void writer_next(struct blob_writer *w);

void blobs_ref(struct blobs *b)
{
    b->refs++;
}

void blobs_unref(struct blobs *b)
{
    if (--b->refs > 0)
        return;
    blob_fs_close(&b->fs);
    buf_free(&b->unpins);
    blob_checked_free(b);
    free(b);
}

struct blobs *blobs_open(struct loop *l, struct workers *w, struct store *s, const char *dir, struct err *e)
{
    struct blobs *b = xcalloc(1, sizeof(*b));

    if (blob_fs_open(&b->fs, dir, e) < 0) {
        free(b);
        return NULL;
    }
    b->loop = l;
    b->workers = w;
    b->store = s;
    b->refs = 1;
    list_init(&b->writers);
    return b;
}

void blobs_close(struct blobs **bp)
{
    struct blobs *b = *bp;

    *bp = NULL;
    if (b == NULL)
        return;
    b->closed = true;
    list_for_each_safe(it, &b->writers) {
        struct blob_writer *w = list_entry(it, struct blob_writer, link);

        if (w->state == WRITER_FILLING)
            blob_writer_abort(&w);
    }
    blobs_unref(b);
}

/* --- what runs on a worker --- */
static void run_fill(struct work *work)
{
    struct blob_writer *w = container_of(work, struct blob_writer, work);
    const char *p = w->whole ? w->whole->data : buf_str(&w->taken);
    size_t n = w->whole ? w->whole->len : w->taken.len;

    if (w->fd < 0) {
        w->fd = blob_fs_create(&w->b->fs, w->name, &w->failed);
        if (w->fd < 0)
            return;
        blake3_hasher_init(&w->hasher);
    }
    blake3_hasher_update(&w->hasher, p, n);
    if (blob_fs_write(w->fd, p, n, &w->failed) < 0 || !w->last)
        return;
    if (!PLANTED(BLOB_NOT_SYNCED) && fsync(w->fd) < 0)
        err_errno(&w->failed, errno, "cannot sync a blob");
    blake3_hasher_finalize(&w->hasher, w->info.blake3, BLAKE3_LEN);
    close(w->fd);
    w->fd = -2;
}

static void run_place(struct work *work)
{
    struct blob_writer *w = container_of(work, struct blob_writer, work);

    if (blob_fs_place(&w->b->fs, w->name, w->info.blake3, &w->failed) == 0)
        w->fd = -1;
}

static void run_drop(struct work *work)
{
    struct blob_writer *w = container_of(work, struct blob_writer, work);

    if (w->fd >= 0)
        close(w->fd);
    if (w->fd != -1)
        blob_fs_drop(&w->b->fs, w->name);
    w->fd = -1;
}

/* --- the writer --- */
static void writer_free(struct blob_writer *w)
{
    struct blobs *b = w->b;

    if (w->hold) {
        w->hold->puts--;
        blob_hold_put(b, w->hold);
    }
    list_remove(&w->link);
    buf_free(&w->pending);
    buf_free(&w->taken);
    bytes_unref(w->whole);
    free(w);
    blobs_unref(b);
}

static void writer_over(struct blob_writer *w)
{
    bool ok = w->status == BLOB_OK;
    blob_put_cb *cb = w->cb;

    if (!ok && w->pinned && !w->b->closed)
        blobs_unpin(w->b, w->info.pin);
    if (!ok && cb)
        log_warn(LOG_S("blob", "put failed"), LOG_S("reason", w->why.msg));
    if (cb)
        cb(w->status, ok ? &w->info : NULL, ok ? NULL : w->why.msg, w->arg);
    writer_free(w);
}

static void writer_fault(struct blob_writer *w, enum blob_status st, const char *why)
{
    if (w->status != BLOB_OK)
        return;
    w->status = st;
    err_set(&w->why, 0, "%s", why);
    buf_clear(&w->pending);
}

static void writer_drained(struct blob_writer *w)
{
    void (*cb)(void *) = w->on_drain;

    if (cb == NULL || blob_writer_queued(w) > w->low || w->state != WRITER_FILLING)
        return;
    w->on_drain = NULL;
    cb(w->drain_arg);
}

static void on_work_done(struct work *work)
{
    struct blob_writer *w = container_of(work, struct blob_writer, work);

    w->working = false;
    buf_clear(&w->taken);
    if (w->failed.msg[0]) {
        int code = w->failed.code;

        writer_fault(w, code == ENOSPC || code == EDQUOT || code == EFBIG ? BLOB_FULL : BLOB_FAILED,
                     w->failed.msg);
        w->failed = (struct err){0};
    }
    writer_next(w);
}

static void writer_work(struct blob_writer *w, void (*run)(struct work *))
{
    w->working = true;
    w->work.run = run;
    w->work.done = on_work_done;
    workers_submit(w->b->workers, &w->work);
}

static void on_pinned(const struct store_pin *p, void *arg)
{
    struct blob_writer *w = arg;

    if (p->status == STORE_OK) {
        w->pinned = true;
        w->info.pin = p->pin;
        w->state = WRITER_PLACING;
    } else {
        writer_fault(w, p->status == STORE_FULL ? BLOB_FULL : BLOB_FAILED, "the store cannot pin the blob");
    }
    writer_next(w);
}

static void writer_pin(struct blob_writer *w)
{
    struct hold *h = blob_hold_get(w->b, w->info.blake3);

    if (h->swept) {
        list_push_back(&h->waiting, &w->wait);
        return;
    }
    h->puts++;
    w->hold = h;
    store_blob_pin(w->b->store, w->info.blake3, w->info.size, on_pinned, w);
}

static void writer_fill(struct blob_writer *w)
{
    struct buf empty = w->taken;

    w->last = w->state == WRITER_CLOSING;
    if (!w->last && w->pending.len == 0)
        return;
    w->taken = w->pending;
    w->pending = empty;
    writer_work(w, run_fill);
}

/* After every change: do what is next, or leave it to what is under way. */
static void writer_next(struct blob_writer *w)
{
    if (w->working)
        return;
    if (w->b->closed)
        writer_fault(w, BLOB_FAILED, "the blob store was closed");
    if (w->status != BLOB_OK && w->state != WRITER_FILLING && w->state != WRITER_DROPPING) {
        w->state = WRITER_DROPPING;
        writer_work(w, run_drop);
        return;
    }
    switch (w->state) {
    case WRITER_FILLING:
        if (w->status == BLOB_OK)
            writer_fill(w);
        writer_drained(w); /* the last thing done: it may finish or abort the writer */
        break;
    case WRITER_CLOSING:
        if (w->fd == -2) {
            w->state = WRITER_PINNING;
            writer_pin(w);
        } else {
            writer_fill(w);
        }
        break;
    case WRITER_PINNING: break;
    case WRITER_PLACING:
        if (w->fd == -2)
            writer_work(w, run_place);
        else
            writer_over(w);
        break;
    case WRITER_DROPPING: writer_over(w); break;
    }
}

struct blob_writer *blob_writer_new(struct blobs *b, int64_t max)
{
    struct blob_writer *w = xcalloc(1, sizeof(*w));

    assert(!b->closed);
    w->b = b;
    w->max = max;
    w->fd = -1;
    list_init(&w->wait);
    list_push_back(&b->writers, &w->link);
    snprintf(w->name, sizeof(w->name), "%s-%llu", b->fs.prefix, (unsigned long long)++b->names);
    blobs_ref(b);
    return w;
}

static bool writer_admits(struct blob_writer *w, size_t n)
{
    w->given += (int64_t)n;
    if (w->max > 0 && w->given > w->max) {
        char why[64];

        snprintf(why, sizeof(why), "more than %lld bytes", (long long)w->max);
        writer_fault(w, BLOB_TOO_BIG, why);
    }
    return w->status == BLOB_OK;
}

void blob_writer_put(struct blob_writer *w, const void *data, size_t n)
{
    assert(w->state == WRITER_FILLING);
    if (n == 0 || !writer_admits(w, n))
        return;
    buf_put(&w->pending, data, n);
    if (!w->working)
        writer_fill(w);
}

size_t blob_writer_queued(const struct blob_writer *w)
{
    return w->pending.len + (w->working && w->status == BLOB_OK ? w->taken.len : 0);
}

void blob_writer_on_drain(struct blob_writer *w, size_t low, void (*cb)(void *arg), void *arg)
{
    w->low = low;
    w->on_drain = cb;
    w->drain_arg = arg;
}

void blob_writer_finish(struct blob_writer **wp, blob_put_cb *cb, void *arg)
{
    struct blob_writer *w = *wp;

    *wp = NULL;
    assert(w->state == WRITER_FILLING);
    w->state = WRITER_CLOSING;
    w->cb = cb;
    w->arg = arg;
    w->info.size = w->given;
    writer_next(w);
}

void blob_writer_abort(struct blob_writer **wp)
{
    struct blob_writer *w = *wp;

    *wp = NULL;
    if (w == NULL)
        return;
    assert(w->state == WRITER_FILLING);
    writer_fault(w, BLOB_FAILED, "aborted");
    w->state = WRITER_CLOSING;
    writer_next(w);
}

void blob_put(struct blobs *b, struct bytes *data, blob_put_cb *cb, void *arg)
{
    struct blob_writer *w = blob_writer_new(b, 0);

    w->whole = bytes_ref(data);
    w->given = (int64_t)data->len;
    blob_writer_finish(&w, cb, arg);
}

struct unpin {
    struct blobs *b;
    int64_t pin;
};

/* A pin that stayed for want of space is given back with the next collection: until then it would keep bytes that nobody
 * wants. */
static void on_unpinned(enum store_status st, void *arg)
{
    struct unpin *u = arg;

    if (st == STORE_FULL || st == STORE_FAILED)
        buf_put(&u->b->unpins, &u->pin, sizeof(u->pin));
    blobs_unref(u->b);
    free(u);
}

void blobs_unpin(struct blobs *b, int64_t pin)
{
    struct unpin *u = xcalloc(1, sizeof(*u));

    u->b = b;
    u->pin = pin;
    blobs_ref(b);
    store_blob_unpin(b->store, pin, on_unpinned, u);
}

void blob_unpin_again(struct blobs *b)
{
    struct buf pins = b->unpins;
    int64_t pin;

    b->unpins = (struct buf)BUF_INIT;
    for (size_t at = 0; at < pins.len; at += sizeof(pin)) {
        memcpy(&pin, pins.data + at, sizeof(pin));
        blobs_unpin(b, pin);
    }
    buf_free(&pins);
}

/* --- holds --- */
struct hold *blob_hold_get(struct blobs *b, const uint8_t hash[BLAKE3_LEN])
{
    struct hold *h;

    HASH_FIND(hh, b->holds, hash, BLAKE3_LEN, h);
    if (h)
        return h;
    h = xcalloc(1, sizeof(*h));
    memcpy(h->hash, hash, BLAKE3_LEN);
    list_init(&h->waiting);
    HASH_ADD(hh, b->holds, hash, BLAKE3_LEN, h);
    return h;
}

void blob_hold_put(struct blobs *b, struct hold *h)
{
    if (h->puts > 0 || h->swept)
        return;
    assert(list_empty(&h->waiting));
    HASH_DELETE(hh, b->holds, h);
    free(h);
}

void blob_hold_released(struct blobs *b, struct hold *h)
{
    struct list waiting;

    h->swept = false;
    h->puts++; /* stays while they start */
    list_init(&waiting);
    list_for_each_safe(it, &h->waiting) {
        list_remove(it);
        list_push_back(&waiting, it);
    }
    while (!list_empty(&waiting)) {
        struct blob_writer *w = list_first(&waiting, struct blob_writer, wait);

        list_remove(&w->wait);
        if (b->closed)
            writer_next(w);
        else
            writer_pin(w);
    }
    h->puts--;
    blob_hold_put(b, h);
}

/* --- reading --- */
int blob_open(struct blobs *b, const uint8_t hash[BLAKE3_LEN], int64_t *size, struct err *e)
{
    return blob_fs_read_open(&b->fs, hash, size, e);
}

struct blob_reading {
    struct work work;
    struct blobs *b;
    uint8_t hash[BLAKE3_LEN];
    int64_t max;
    struct bytes *data;
    struct err why;
    void (*cb)(struct bytes *data, const char *why, void *arg);
    void *arg;
};

static void run_read(struct work *work)
{
    struct blob_reading *r = container_of(work, struct blob_reading, work);

    r->data = blob_fs_read(&r->b->fs, r->hash, r->max, &r->why);
}

static void on_read(struct work *work)
{
    struct blob_reading *r = container_of(work, struct blob_reading, work);

    r->cb(r->data, r->data ? NULL : r->why.msg, r->arg);
    bytes_unref(r->data);
    blobs_unref(r->b);
    free(r);
}

void blob_read(struct blobs *b, const uint8_t hash[BLAKE3_LEN], int64_t max,
               void (*cb)(struct bytes *data, const char *why, void *arg), void *arg)
{
    struct blob_reading *r = xcalloc(1, sizeof(*r));

    r->b = b;
    blobs_ref(b);
    memcpy(r->hash, hash, BLAKE3_LEN);
    r->max = max;
    r->cb = cb;
    r->arg = arg;
    r->work.run = run_read;
    r->work.done = on_read;
    workers_submit(b->workers, &r->work);
}
