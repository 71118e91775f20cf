/* What removes files: the sweep of orphans at start, and collection. */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "blob/blob_priv.h"

/* The sweep goes folder by folder: a worker lists one, then its files are asked for in the store one by one
 * and removed by a worker when they have no row. */
struct sweep {
    struct work work;
    struct blobs *b;
    unsigned folder; /* 256: all seen */
    unsigned removed;
    struct buf hashes; /* of the folder, taken from the end */
    struct hold *hold;
    struct err why;
    void (*cb)(unsigned removed, void *arg);
    void *arg;
};

static void sweep_next(struct sweep *s);

static void sweep_work(struct sweep *s, void (*run)(struct work *), void (*done)(struct work *))
{
    s->work.run = run;
    s->work.done = done;
    workers_submit(s->b->workers, &s->work);
}

static void run_clean(struct work *work)
{
    struct sweep *s = container_of(work, struct sweep, work);

    s->removed += blob_fs_clean(&s->b->fs);
    blob_fs_list(&s->b->fs, s->folder, &s->hashes);
}

static void run_list(struct work *work)
{
    struct sweep *s = container_of(work, struct sweep, work);

    blob_fs_list(&s->b->fs, s->folder, &s->hashes);
}

static void on_listed(struct work *work)
{
    sweep_next(container_of(work, struct sweep, work));
}

static void sweep_release(struct sweep *s)
{
    struct hold *h = s->hold;

    s->hold = NULL;
    blob_hold_released(s->b, h);
    sweep_next(s);
}

static void run_remove(struct work *work)
{
    struct sweep *s = container_of(work, struct sweep, work);

    if (blob_fs_unlink(&s->b->fs, s->hold->hash, &s->why) == 0)
        s->removed++;
}

static void on_removed(struct work *work)
{
    struct sweep *s = container_of(work, struct sweep, work);

    if (s->why.msg[0])
        log_warn(LOG_S("blob", "orphan"), LOG_S("reason", s->why.msg));
    s->why = (struct err){0};
    sweep_release(s);
}

static void on_known(enum store_status st, void *arg)
{
    struct sweep *s = arg;

    if (st == STORE_NOT_FOUND && !s->b->closed)
        sweep_work(s, run_remove, on_removed);
    else
        sweep_release(s);
}

static void sweep_end(struct sweep *s)
{
    struct blobs *b = s->b;

    if (s->removed)
        log_info(LOG_S("blob", "swept"), LOG_I("removed", s->removed));
    if (s->cb)
        s->cb(s->removed, s->arg);
    buf_free(&s->hashes);
    free(s);
    blobs_unref(b);
}

static void sweep_next(struct sweep *s)
{
    while (!s->b->closed && s->hashes.len > 0) {
        uint8_t hash[BLAKE3_LEN];
        struct hold *h;

        s->hashes.len -= BLAKE3_LEN;
        memcpy(hash, s->hashes.data + s->hashes.len, BLAKE3_LEN);
        h = blob_hold_get(s->b, hash);
        if (h->puts > 0 || h->swept)
            continue;
        h->swept = true;
        s->hold = h;
        store_blob_known(s->b->store, hash, on_known, s);
        return;
    }
    if (s->b->closed || ++s->folder == 256)
        sweep_end(s);
    else
        sweep_work(s, run_list, on_listed);
}

void blobs_sweep(struct blobs *b, void (*cb)(unsigned removed, void *arg), void *arg)
{
    struct sweep *s = xcalloc(1, sizeof(*s));

    s->b = b;
    blobs_ref(b);
    s->cb = cb;
    s->arg = arg;
    sweep_work(s, run_clean, on_listed);
}

/* --- collection --- */
struct collection {
    struct blobs *b;
    store_collected_cb *cb;
    void *arg;
};

/* On the store's writer thread: until it returns no reference to this blob can be committed. */
static void on_unlink(const uint8_t hash[BLAKE3_LEN], void *arg)
{
    struct collection *c = arg;
    struct err e = {0};

    if (blob_fs_unlink(&c->b->fs, hash, &e) < 0)
        log_warn(LOG_S("blob", "collected"), LOG_S("reason", e.msg));
}

static void on_collected(const struct store_collected *r, void *arg)
{
    struct collection *c = arg;

    if (c->cb)
        c->cb(r, c->arg);
    blobs_unref(c->b);
    free(c);
}

void blobs_collect(struct blobs *b, int64_t now, int64_t grace_ms, int max, store_collected_cb *cb, void *arg)
{
    struct collection *c = xcalloc(1, sizeof(*c));

    blob_unpin_again(b);
    c->b = b;
    blobs_ref(b);
    c->cb = cb;
    c->arg = arg;
    store_blob_collect(b->store, now, grace_ms, max, on_unlink, c, on_collected, c);
}
