#include <stdlib.h>
#include <string.h>

#include "store/sqlite_priv.h"

/* --- strays --- */
enum store_status sql_stray_done(struct db *db, struct req *r)
{
    db_exec(db, "DELETE FROM strays WHERE server = ? AND upstream_id = ?", "ss", r->in.stray_done.server,
            r->in.stray_done.upstream_id);
    return db_changes(db) ? STORE_OK : STORE_NOT_FOUND;
}

enum store_status sql_strays(struct db *db, struct req *r)
{
    sqlite3_stmt *st =
        db_query(db, "SELECT server, upstream_id, job, since FROM strays ORDER BY server, upstream_id", "");

    while (db_next(db, st)) {
        struct store_stray s = {.server = col_str(st, 0), .since = sqlite3_column_int64(st, 3)};

        col_id(st, 1, s.upstream_id);
        col_id(st, 2, s.job);
        GROW(r->out.strays.v, r->out.strays.n);
        r->out.strays.v[r->out.strays.n++] = s;
    }
    return STORE_OK;
}

/* --- servers --- */
enum store_status sql_server_put(struct db *db, struct req *r)
{
    const struct store_server *s = &r->in.server_put.server;

    if (!r->in.server_put.replace && db_int(db, 0, "SELECT 1 FROM servers WHERE name = ?", "s", s->name))
        return STORE_EXISTS;
    db_exec(db, "INSERT OR REPLACE INTO servers (name, url, depth, tags, drained) VALUES (?, ?, ?, ?, ?)",
            "ssisi", s->name, s->url, (int64_t)s->depth, s->tags, (int64_t)s->drained);
    return STORE_OK;
}

enum store_status sql_server_remove(struct db *db, struct req *r)
{
    db_exec(db, "DELETE FROM servers WHERE name = ?", "s", r->in.name);
    return db_changes(db) ? STORE_OK : STORE_NOT_FOUND;
}

enum store_status sql_servers(struct db *db, struct req *r)
{
    sqlite3_stmt *st = db_query(db, "SELECT name, url, depth, tags, drained FROM servers ORDER BY name", "");

    while (db_next(db, st)) {
        GROW(r->out.servers.v, r->out.servers.n);
        r->out.servers.v[r->out.servers.n++] =
            (struct store_server){col_str(st, 0), col_str(st, 1), sqlite3_column_int(st, 2), col_str(st, 3),
                                  sqlite3_column_int(st, 4) != 0};
    }
    return STORE_OK;
}

/* --- events --- */
enum store_status sql_events(struct db *db, struct req *r)
{
    const char *job = r->in.events.job;
    int64_t limit = r->in.events.limit;
    sqlite3_stmt *st;

    r->out.events.newest = db_int(db, 0, "SELECT seq FROM sqlite_sequence WHERE name = 'events'", "");
    r->out.events.oldest = db_int(db, 0, "SELECT min(id) FROM events", "");
    if (r->out.events.oldest == 0)
        r->out.events.oldest = r->out.events.newest + 1;
    if (job)
        st = db_query(db,
                      "SELECT id, job, kind, data, tenant FROM events INDEXED BY events_job"
                      " WHERE job = ? AND id > ? ORDER BY id LIMIT ?",
                      "sii", job, r->in.events.after, limit);
    else
        st = db_query(db, "SELECT id, job, kind, data, tenant FROM events WHERE id > ? ORDER BY id LIMIT ?",
                      "ii", r->in.events.after, limit);
    while (db_next(db, st)) {
        struct store_logged e = {.id = sqlite3_column_int64(st, 0),
                                 .kind = col_str(st, 2),
                                 .data = col_str(st, 3),
                                 .tenant = col_str(st, 4)};

        col_id(st, 1, e.job);
        GROW(r->out.events.v, r->out.events.n);
        r->out.events.v[r->out.events.n++] = e;
    }
    return STORE_OK;
}

/* --- documents --- */
enum store_status sql_doc_put(struct db *db, struct req *r)
{
    db_exec(db, "DELETE FROM docs WHERE kind = ? AND key = ?", "ss", r->in.doc.kind, r->in.doc.key);
    if (r->in.doc.doc)
        db_exec(db, "INSERT INTO docs (kind, key, body) VALUES (?, ?, ?)", "ssy", r->in.doc.kind,
                r->in.doc.key, r->in.doc.doc);
    return STORE_OK;
}

enum store_status sql_doc_get(struct db *db, struct req *r)
{
    sqlite3_stmt *st =
        db_query(db, "SELECT body FROM docs WHERE kind = ? AND key = ?", "ss", r->in.doc.kind, r->in.doc.key);

    if (!db_next(db, st))
        return STORE_NOT_FOUND;
    r->out.doc = col_bytes(st, 0);
    db_end(st);
    return STORE_OK;
}

/* --- retention --- */
/* The number of its outputs: the part of a job that may be large. */
static int remove_job(struct db *db, int64_t seq)
{
    static const char *const parts[] = {
        "DELETE FROM events WHERE job = (SELECT id FROM jobs WHERE seq = ?)",
        "DELETE FROM job_inputs WHERE seq = ?",
        "DELETE FROM attempts WHERE seq = ?",
        "DELETE FROM timeline WHERE seq = ?",
        "DELETE FROM job_errors WHERE seq = ?",
        "DELETE FROM job_secrets WHERE seq = ?",
        "DELETE FROM job_history WHERE seq = ?",
        "DELETE FROM job_docs WHERE seq = ?",
        "DELETE FROM jobs WHERE seq = ?",
    };

    int64_t state = db_int(db, JOB_FAILED, "SELECT state FROM jobs WHERE seq = ?", "i", seq);
    int outputs;

    db_exec(db, "DELETE FROM outputs WHERE seq = ?", "i", seq);
    outputs = db_changes(db);
    for (size_t i = 0; i < ARRAY_LEN(parts); i++)
        db_exec(db, parts[i], "i", seq);
    db->now.finished--;
    db->now.ended[state % JOB_STATES]--;
    return outputs;
}

#define DOOM_ROUNDS 16 /* times max_rows: blobs that are looked at in one step */

#define OLDEST_FINISHED "SELECT seq FROM jobs INDEXED BY jobs_fin WHERE fin IS NOT NULL ORDER BY fin LIMIT 1"
#define OLDEST_FINISHED_AT                                                                                   \
    "SELECT finished_at FROM jobs INDEXED BY jobs_fin WHERE fin IS NOT NULL ORDER BY fin LIMIT 1"
#define OLDEST_STORED                                                                                        \
    "SELECT seq FROM jobs INDEXED BY jobs_stored WHERE stored = 1 AND fin IS NOT NULL ORDER BY fin LIMIT 1"
#define OLDEST_STORED_AT                                                                                     \
    "SELECT finished_at FROM jobs INDEXED BY jobs_stored WHERE stored = 1 AND fin IS NOT NULL ORDER BY fin"  \
    " LIMIT 1"

static bool old_enough(struct db *db, const char *at, int64_t keep_ms, int64_t now)
{
    return keep_ms > 0 && db_int(db, INT64_MAX, at, "") <= now - keep_ms;
}

static bool one_too_many(struct db *db, const struct store_keep *k)
{
    return (k->count > 0 && db->now.finished > k->count) ||
           old_enough(db, OLDEST_FINISHED_AT, k->finished_ms, k->now);
}

/* Bytes are counted down as soon as the last holder of a blob is gone, so that no job goes for bytes that are
 * about to be collected anyway. */
static bool too_big(struct db *db, const struct store_keep *k, int *left)
{
    bool more = true;

    if (k->size <= 0)
        return false;
    for (int i = 0; i < DOOM_ROUNDS && db->now.kept_bytes > k->size && more && db->rc == 0; i++) {
        more = false;
        sql_blob_doom(db, k->now, k->max_rows, &more);
    }
    if (more && db->now.kept_bytes > k->size)
        *left = 0; /* first it must be known what is loose: the next step goes on */
    return *left > 0 && db->now.kept_bytes > k->size;
}

static unsigned expire_outputs(struct db *db, int64_t seq)
{
    unsigned n;

    db_exec(db, "UPDATE outputs SET blob = NULL WHERE seq = ?", "i", seq);
    n = (unsigned)db_changes(db);
    db_exec(db, "UPDATE jobs SET stored = 0 WHERE seq = ?", "i", seq);
    return n;
}

enum store_status sql_trim(struct db *db, struct req *r)
{
    const struct store_keep *k = &r->in.trim;
    struct store_trimmed *t = &r->out.trim;
    int left = k->max_rows;
    int64_t seq;

    for (; left > 0 && one_too_many(db, k); t->jobs++) {
        seq = db_int(db, 0, OLDEST_FINISHED, "");
        if (seq == 0)
            break;
        left -= 1 + remove_job(db, seq);
    }
    for (; left > 0 && too_big(db, k, &left); t->jobs++) {
        seq = db_int(db, 0, OLDEST_STORED, "");
        if (seq == 0)
            break;
        left -= 1 + remove_job(db, seq);
    }
    while (left > 0 && old_enough(db, OLDEST_STORED_AT, k->outputs_ms, k->now)) {
        unsigned n = expire_outputs(db, db_int(db, 0, OLDEST_STORED, ""));

        t->outputs += n;
        left -= 1 + (int)n;
    }
    for (; left > 0 && db->rc == 0 &&
           old_enough(db, "SELECT at FROM events ORDER BY id LIMIT 1", k->events_ms, k->now);
         left--, t->events++)
        db_exec(db, "DELETE FROM events WHERE id = (SELECT id FROM events ORDER BY id LIMIT 1)", "");
    if (t->jobs)
        db_exec(db, "INSERT OR REPLACE INTO marks (name, value) VALUES ('fin', ?)", "i", db->now.last_fin);
    t->more = left <= 0;
    return STORE_OK;
}
