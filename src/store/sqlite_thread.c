/* The threads: one writer that commits in groups, one reader, and the way back to the loop.
 *
 *     loop: give() ──> write queue ──> writer: BEGIN, up to 64 requests, COMMIT (fsync) ──┐
 *                 └──> read queue  ──> reader: one request in one snapshot ───────────────┴──> done ──> loop
 *
 * A group is what is queued when the writer looks, never waited for: one request alone commits at once, and
 * under load the time of one fsync fills the next group. */
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "store/record_cache.h"
#include "store/sqlite_priv.h"

#define PROBE_S 1
#define CACHE_BYTES ((size_t)4 << 20)

static sqlite_exec *const executors[REQ_KINDS] = {
    [REQ_SUBMIT] = sql_submit,
    [REQ_STEP] = sql_step,
    [REQ_HIDE] = sql_hide,
    [REQ_STRAY_DONE] = sql_stray_done,
    [REQ_INPUT_PUT] = sql_input_put,
    [REQ_USER_PUT] = sql_user_put,
    [REQ_USER_MOVE] = sql_user_move,
    [REQ_USER_REMOVE] = sql_user_remove,
    [REQ_BLOB_PIN] = sql_blob_pin,
    [REQ_BLOB_UNPIN] = sql_blob_unpin,
    [REQ_BLOB_COLLECT] = sql_blob_collect,
    [REQ_SERVER_PUT] = sql_server_put,
    [REQ_SERVER_REMOVE] = sql_server_remove,
    [REQ_DOC_PUT] = sql_doc_put,
    [REQ_TRIM] = sql_trim,
    [REQ_GET] = sql_get,
    [REQ_LIST] = sql_list,
    [REQ_UNFINISHED] = sql_unfinished,
    [REQ_STRAYS] = sql_strays,
    [REQ_OUTPUT_FIND] = sql_output_find,
    [REQ_INPUT_FIND] = sql_input_find,
    [REQ_INPUT_LIST] = sql_input_list,
    [REQ_ALIAS_FIND] = sql_alias_find,
    [REQ_USER_FIND] = sql_user_find,
    [REQ_USER_LIST] = sql_user_list,
    [REQ_BLOB_KNOWN] = sql_blob_known,
    [REQ_SERVERS] = sql_servers,
    [REQ_EVENTS] = sql_events,
    [REQ_DOC_GET] = sql_doc_get,
};

/* A message to the loop: something is done. It outlives the store when the store is closed before it
 * arrives. */
struct bell {
    struct msg msg;
    struct sqlite_store *s; /* NULL: closed */
};

struct lane {
    struct sqlite_store *s;
    struct list queue;
    pthread_cond_t wake;
    pthread_t thread;
};

struct sqlite_store {
    struct store_backend base;
    struct loop *loop;
    struct db writer, reader; /* each of its thread */
    int lock_fd;
    /* The loop's, to the lock: */
    bool *closed; /* tells a delivery on the stack that the store is gone */
    struct record_cache *cache;
    struct list hits; /* reads that it answers */
    struct task hits_due;
    bool *hits_closed; /* as closed, for a delivery of these */
    char shown[sizeof(((struct db *)0)->why)];

    pthread_mutex_t lock; /* of all below */
    struct lane writes, reads;
    struct list done;
    size_t n_done;
    struct bell *bell; /* on its way, or NULL */
    bool closing, damaged;
    struct store_stats stats;
    char trouble[sizeof(((struct db *)0)->why)];
};

/* --- records that were read lately --- */

/* What a write that is delivered may have changed of a record. Of the others none is part of one. */
static void forget_changed(struct sqlite_store *s, const struct req *r)
{
    switch (r->kind) {
    case REQ_STEP: record_cache_changed(s->cache, r->in.step.id); break;
    case REQ_HIDE: record_cache_changed(s->cache, r->in.hide.id); break;
    case REQ_TRIM:
        if (r->status != STORE_OK || r->out.trim.jobs || r->out.trim.outputs)
            record_cache_changed(s->cache, NULL);
        break;
    default: break;
    }
}

static void deliver(struct sqlite_store *s, struct req *r)
{
    forget_changed(s, r);
    if (r->kind == REQ_GET && r->status == STORE_OK && !r->in.get.hit)
        record_cache_put(s->cache, r->in.get.id, r->in.get.parts, r->out.record, r->in.get.asked);
    req_deliver(r);
    req_drop(r);
}

static void deliver_hit(struct sqlite_store *s)
{
    struct req *r = list_first(&s->hits, struct req, link);

    list_remove(&r->link);
    deliver(s, r);
}

/* In a later turn, as the answers of the threads, and only those that are there now. */
static void deliver_hits(void *arg)
{
    struct sqlite_store *s = arg;
    size_t n = list_len(&s->hits);
    bool closed = false;

    s->hits_closed = &closed;
    while (n-- > 0 && !closed)
        deliver_hit(s);
    if (closed)
        return;
    s->hits_closed = NULL;
    if (!list_empty(&s->hits))
        loop_defer(s->loop, &s->hits_due);
}

static bool give_hit(struct sqlite_store *s, struct req *r)
{
    struct job_record *rec = record_cache_get(s->cache, r->in.get.id, r->in.get.parts);

    r->in.get.asked = record_cache_now(s->cache);
    r->in.get.hit = rec != NULL;
    if (rec == NULL)
        return false;
    r->status = STORE_OK;
    r->out.record = rec;
    list_push_back(&s->hits, &r->link);
    loop_defer(s->loop, &s->hits_due);
    return true;
}

/* --- the way back --- */
static void deliver_one(struct sqlite_store *s)
{
    struct req *r;

    pthread_mutex_lock(&s->lock);
    r = list_first(&s->done, struct req, link);
    list_remove(&r->link);
    s->n_done--;
    pthread_mutex_unlock(&s->lock);
    deliver(s, r);
}

static struct bell *bell_new(struct sqlite_store *s);

/* Only what is there now: answers that keep coming must not keep the loop from its sockets. */
static void bell_rings(struct msg *m)
{
    struct bell *b = container_of(m, struct bell, msg), *again;
    struct sqlite_store *s = b->s;
    bool closed = false;
    size_t n;

    free(b);
    if (s == NULL)
        return;
    pthread_mutex_lock(&s->lock);
    n = s->n_done;
    pthread_mutex_unlock(&s->lock);
    s->closed = &closed;
    while (n-- > 0 && !closed)
        deliver_one(s);
    if (closed)
        return;
    s->closed = NULL;
    pthread_mutex_lock(&s->lock);
    s->bell = NULL;
    again = s->n_done ? bell_new(s) : NULL;
    pthread_mutex_unlock(&s->lock);
    if (again)
        loop_post(s->loop, &again->msg);
}

/* Under the lock; the caller posts it after unlocking. NULL: one is on its way. */
static struct bell *bell_new(struct sqlite_store *s)
{
    if (s->bell)
        return NULL;
    s->bell = xcalloc(1, sizeof(*s->bell));
    list_init(&s->bell->msg.link);
    s->bell->msg.cb = bell_rings;
    s->bell->s = s;
    return s->bell;
}

/* The group's requests go to the loop, in their order. */
static void finish(struct sqlite_store *s, struct list *group)
{
    struct bell *b;

    pthread_mutex_lock(&s->lock);
    list_for_each_safe(it, group) {
        list_remove(it);
        list_push_back(&s->done, it);
        s->n_done++;
    }
    b = bell_new(s);
    pthread_mutex_unlock(&s->lock);
    if (b)
        loop_post(s->loop, &b->msg);
}

/* --- stats --- */
static int64_t now_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void count_commit(struct sqlite_store *s, size_t writes, int64_t began)
{
    bool again;

    pthread_mutex_lock(&s->lock);
    again = s->trouble[0] != '\0' && !s->damaged;
    s->stats.commits++;
    s->stats.writes += writes;
    histogram_add(&s->stats.commit, now_us() - began);
    s->stats.full = false;
    s->stats.blobs = s->writer.committed.blobs;
    s->stats.blob_bytes = s->writer.committed.blob_bytes;
    s->stats.finished = s->writer.committed.finished;
    memcpy(s->stats.ended, s->writer.committed.ended, sizeof(s->stats.ended));
    if (!s->damaged)
        s->trouble[0] = '\0';
    pthread_mutex_unlock(&s->lock);
    if (again)
        log_info(LOG_S("store", "works again"));
}

/* While the disk is full everybody asks again and again: that is said once. */
static void count_failure(struct sqlite_store *s, const struct db *db, const struct req *r)
{
    bool known;

    pthread_mutex_lock(&s->lock);
    known = r->status == STORE_FULL && s->stats.full;
    pthread_mutex_unlock(&s->lock);
    LOG_AT(known ? LOG_DEBUG : LOG_ERROR, LOG_S("store", req_kind_name(r->kind)),
           LOG_S("status", store_status_name(r->status)), LOG_I("code", db->rc), LOG_S("reason", db->why));
    pthread_mutex_lock(&s->lock);
    s->stats.failures++;
    if (REQ_IS_WRITE(r->kind)) {
        s->stats.writes++;
        s->stats.full = r->status == STORE_FULL;
    }
    if (db_is_damaged(db))
        s->damaged = true;
    snprintf(s->trouble, sizeof(s->trouble),
             db_is_damaged(db) ? "the database is damaged (%.180s): restore it from a backup" : "%s",
             db->why);
    pthread_cond_signal(&s->writes.wake); /* it begins to probe */
    pthread_mutex_unlock(&s->lock);
}

/* --- writer --- */
static void rollback(struct db *db)
{
    if (!sqlite3_get_autocommit(db->c))
        sqlite3_exec(db->c, "ROLLBACK", NULL, NULL, NULL);
    db->now = db->committed;
}

/* All requests of the group in one transaction, or nothing at all. */
static bool commit(struct sqlite_store *s, struct list *group)
{
    struct db *db = &s->writer;
    int64_t began = now_us();
    size_t n = 0;

    db_error_clear(db);
    db_exec(db, "BEGIN IMMEDIATE", "");
    list_for_each(it, group) {
        struct req *r = list_entry(it, struct req, link);

        r->status = executors[r->kind](db, r);
        n++;
        if (db->rc)
            break;
    }
    db_exec(db, "COMMIT", "");
    if (db->rc) {
        rollback(db);
        list_for_each(it, group)
            req_reset(list_entry(it, struct req, link));
        return false;
    }
    db->committed = db->now;
    list_for_each(it, group)
        req_unlink(list_entry(it, struct req, link));
    count_commit(s, n, began);
    return true;
}

static void write_alone(struct sqlite_store *s, struct req *r)
{
    struct list one;

    list_init(&one);
    list_push_back(&one, &r->link);
    if (!commit(s, &one)) {
        r->status = db_status(&s->writer);
        count_failure(s, &s->writer, r);
        if (r->status == STORE_FULL) /* what can be moved out of the log makes room in it */
            sqlite3_wal_checkpoint_v2(s->writer.c, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
    }
    finish(s, &one);
}

static void write_group(struct sqlite_store *s, struct list *group)
{
    if (group->next->next != group && commit(s, group)) {
        finish(s, group);
        return;
    }
    /* Alone, or one of them failed and must not take its neighbours along. */
    while (!list_empty(group)) {
        struct req *r = list_first(group, struct req, link);

        list_remove(&r->link);
        write_alone(s, r);
    }
}

/* After a failure, and with nobody who wants to write: does it work again? /readyz would not say so otherwise, and who
 * looks at that first would never write. */
static void write_probe(struct sqlite_store *s)
{
    struct db *db = &s->writer;
    int64_t began = now_us();

    db_error_clear(db);
    db_exec(db, "BEGIN IMMEDIATE", "");
    db_exec(db,
            "INSERT OR REPLACE INTO marks (name, value)"
            " VALUES ('probe', 1 + coalesce((SELECT value FROM marks WHERE name = 'probe'), 0))",
            "");
    db_exec(db, "COMMIT", "");
    if (db->rc == 0) {
        count_commit(s, 0, began);
        return;
    }
    rollback(db);
    if (db_status(db) == STORE_FULL)
        sqlite3_wal_checkpoint_v2(s->writer.c, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
}

/* --- reader --- */
static void read_one(struct sqlite_store *s, struct list *group)
{
    struct req *r = list_first(group, struct req, link);
    struct db *db = &s->reader;

    db_error_clear(db);
    db_exec(db, "BEGIN", "");
    r->status = executors[r->kind](db, r);
    db_exec(db, "COMMIT", "");
    if (db->rc) {
        rollback(db);
        req_reset(r);
        r->status = STORE_FAILED;
        count_failure(s, db, r);
    }
    pthread_mutex_lock(&s->lock);
    s->stats.reads++;
    pthread_mutex_unlock(&s->lock);
    finish(s, group);
}

/* Under the lock. Until there is something to do; false: the time for a probe has come first. */
static bool lane_wait(struct lane *l)
{
    struct sqlite_store *s = l->s;
    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += PROBE_S;
    while (list_empty(&l->queue) && !s->closing)
        if (l != &s->writes || s->trouble[0] == '\0' || s->damaged)
            pthread_cond_wait(&l->wake, &s->lock);
        else if (pthread_cond_timedwait(&l->wake, &s->lock, &until) == ETIMEDOUT)
            return false;
    return true;
}

enum taken { TAKEN_SOME, TAKEN_PROBE, TAKEN_NONE_ANY_MORE };

/* Up to max requests. */
static enum taken lane_take(struct lane *l, struct list *group, size_t max)
{
    struct sqlite_store *s = l->s;
    bool woken;

    list_init(group);
    pthread_mutex_lock(&s->lock);
    woken = lane_wait(l);
    while (max-- > 0 && !list_empty(&l->queue)) {
        struct req *r = list_first(&l->queue, struct req, link);

        list_remove(&r->link);
        list_push_back(group, &r->link);
    }
    pthread_mutex_unlock(&s->lock);
    return !list_empty(group) ? TAKEN_SOME : woken ? TAKEN_NONE_ANY_MORE : TAKEN_PROBE;
}

static void *writer_run(void *arg)
{
    struct lane *l = arg;
    struct list group;
    enum taken t;

    while ((t = lane_take(l, &group, SQLITE_GROUP)) != TAKEN_NONE_ANY_MORE)
        if (t == TAKEN_PROBE)
            write_probe(l->s);
        else
            write_group(l->s, &group);
    return NULL;
}

static void *reader_run(void *arg)
{
    struct lane *l = arg;
    struct list one;

    while (lane_take(l, &one, 1) == TAKEN_SOME)
        read_one(l->s, &one);
    return NULL;
}

/* --- the store --- */
static void sqlite_give(struct store_backend *base, struct req *r)
{
    struct sqlite_store *s = container_of(base, struct sqlite_store, base);
    struct lane *l = REQ_IS_WRITE(r->kind) ? &s->writes : &s->reads;

    if (r->kind == REQ_GET && !s->closing && give_hit(s, r))
        return;
    pthread_mutex_lock(&s->lock);
    if (s->closing) { /* by a callback of store_close(), which delivers it */
        r->status = STORE_FAILED;
        list_push_back(&s->done, &r->link);
        s->n_done++;
    } else {
        list_push_back(&l->queue, &r->link);
        pthread_cond_signal(&l->wake);
    }
    pthread_mutex_unlock(&s->lock);
}

static void sqlite_stats(struct store *store, struct store_stats *out)
{
    struct sqlite_store *s = container_of(store, struct sqlite_store, base.store);

    pthread_mutex_lock(&s->lock);
    *out = s->stats;
    memcpy(s->shown, s->trouble, sizeof(s->shown));
    pthread_mutex_unlock(&s->lock);
    out->trouble = s->shown[0] ? s->shown : NULL;
    out->memory = sqlite3_memory_used() + (int64_t)record_cache_bytes(s->cache);
}

static void sqlite_close(struct store *store)
{
    struct sqlite_store *s = container_of(store, struct sqlite_store, base.store);

    pthread_mutex_lock(&s->lock);
    s->closing = true;
    pthread_cond_signal(&s->writes.wake);
    pthread_cond_signal(&s->reads.wake);
    pthread_mutex_unlock(&s->lock);
    pthread_join(s->writes.thread, NULL);
    pthread_join(s->reads.thread, NULL);
    while (!list_empty(&s->hits))
        deliver_hit(s);
    while (s->n_done)
        deliver_one(s);
    task_cancel(&s->hits_due);
    record_cache_free(&s->cache);
    if (s->hits_closed)
        *s->hits_closed = true;
    if (s->closed)
        *s->closed = true;
    else if (s->bell)
        s->bell->s = NULL;
    db_close(&s->reader);
    db_close(&s->writer); /* the last connection moves the log into the database */
    close(s->lock_fd);
    pthread_cond_destroy(&s->writes.wake);
    pthread_cond_destroy(&s->reads.wake);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

static void lane_init(struct lane *l, struct sqlite_store *s)
{
    pthread_condattr_t attr;

    l->s = s;
    list_init(&l->queue);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&l->wake, &attr);
    pthread_condattr_destroy(&attr);
}

struct store *sqlite_threads_start(struct loop *l, const struct db *writer, const struct db *reader,
                                   int lock_fd, struct err *e)
{
    static const struct store_ops ops = {STORE_REQUEST_OPS, .close = sqlite_close, .stats = sqlite_stats};
    struct sqlite_store *s = xcalloc(1, sizeof(*s));
    int rc;

    s->base.store.ops = &ops;
    s->base.give = sqlite_give;
    s->loop = l;
    s->writer = *writer;
    s->reader = *reader;
    s->lock_fd = lock_fd;
    s->stats.blobs = writer->committed.blobs;
    s->stats.blob_bytes = writer->committed.blob_bytes;
    s->stats.finished = writer->committed.finished;
    memcpy(s->stats.ended, writer->committed.ended, sizeof(s->stats.ended));
    pthread_mutex_init(&s->lock, NULL);
    list_init(&s->done);
    list_init(&s->hits);
    task_init(&s->hits_due, deliver_hits, s);
    s->cache = record_cache_new(CACHE_BYTES);
    lane_init(&s->writes, s);
    lane_init(&s->reads, s);
    rc = pthread_create(&s->writes.thread, NULL, writer_run, &s->writes);
    if (rc == 0) {
        rc = pthread_create(&s->reads.thread, NULL, reader_run, &s->reads);
        if (rc == 0)
            return &s->base.store;
        pthread_mutex_lock(&s->lock);
        s->closing = true;
        pthread_cond_signal(&s->writes.wake);
        pthread_mutex_unlock(&s->lock);
        pthread_join(s->writes.thread, NULL);
    }
    err_errno(e, rc, "cannot start the store's threads");
    record_cache_free(&s->cache);
    free(s);
    return NULL;
}
