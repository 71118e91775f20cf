#include <stdlib.h>
#include <string.h>

#include "store/sqlite_priv.h"

static struct store_file *one_file(struct req *r)
{
    r->out.files.v = xcalloc(1, sizeof(struct store_file));
    r->out.files.n = 1;
    return r->out.files.v;
}

/* --- outputs --- */
#define OUTPUT_COLS                                                                                          \
    "SELECT o.hash, o.size, o.mime, o.filename, o.subfolder, o.type, j.id, coalesce(a.server, j.server),"    \
    " o.at FROM outputs o JOIN jobs j ON j.seq = o.seq LEFT JOIN attempts a ON a.seq = o.seq AND a.n = "     \
    "o.attempt"

static void output_take(struct req *r, sqlite3_stmt *st)
{
    struct store_file *f = one_file(r);

    col_hash(st, 0, f->blake3);
    f->size = sqlite3_column_int64(st, 1);
    f->mime = col_str(st, 2);
    f->name = col_str(st, 3);
    f->subfolder = col_str(st, 4);
    f->type = col_str(st, 5);
    f->job = col_str(st, 6);
    f->server = col_str(st, 7);
    f->at = sqlite3_column_int64(st, 8);
}

static sqlite3_stmt *output_of_job(struct db *db, const struct store_output_key *k)
{
    return db_query(db,
                    OUTPUT_COLS " WHERE o.seq = (SELECT seq FROM jobs WHERE id = ?1) AND o.filename = ?2"
                                " AND o.subfolder = ?3 AND o.type = ?4 AND o.blob IS NOT NULL"
                                " AND (?5 IS NULL OR o.tenant = ?5) AND (?6 = 0 OR o.attempt = ?6)"
                                " ORDER BY o.attempt DESC, o.n DESC LIMIT 1",
                    "sssssi", k->job, k->filename, k->subfolder, k->type, k->tenant, (int64_t)k->attempt);
}

/* Blobs of one content are one blob: the first and the last of that name tell whether there is a second. */
static sqlite3_stmt *output_of_tenant(struct db *db, const struct store_output_key *k, bool *several)
{
    int64_t first = db_int(db, 0,
                           "SELECT min(blob) FROM outputs WHERE tenant = ? AND filename = ? AND subfolder = ?"
                           " AND type = ? AND blob IS NOT NULL",
                           "ssss", k->tenant, k->filename, k->subfolder, k->type);
    int64_t last = db_int(db, 0,
                          "SELECT max(blob) FROM outputs WHERE tenant = ? AND filename = ? AND subfolder = ?"
                          " AND type = ? AND blob IS NOT NULL",
                          "ssss", k->tenant, k->filename, k->subfolder, k->type);

    *several = first != last;
    if (first == 0 || first != last)
        return NULL;
    return db_query(db,
                    OUTPUT_COLS " WHERE o.tenant = ? AND o.filename = ? AND o.subfolder = ? AND o.type = ?"
                                " AND o.blob = ? LIMIT 1",
                    "ssssi", k->tenant, k->filename, k->subfolder, k->type, first);
}

enum store_status sql_output_find(struct db *db, struct req *r)
{
    const struct store_output_key *k = &r->in.output;
    bool several = false;
    sqlite3_stmt *st = k->job ? output_of_job(db, k) : output_of_tenant(db, k, &several);

    if (!db_next(db, st))
        return several ? STORE_CONFLICT : STORE_NOT_FOUND;
    output_take(r, st);
    db_end(st);
    return STORE_OK;
}

/* --- inputs --- */
#define INPUT_COLS                                                                                           \
    "SELECT b.hash, b.size, f.mime, f.name, f.subfolder, f.type, f.at FROM files f JOIN blobs b ON b.id = "  \
    "f.blob"

static void input_take(struct store_file *f, sqlite3_stmt *st)
{
    *f = (struct store_file){.status = STORE_OK};
    col_hash(st, 0, f->blake3);
    f->size = sqlite3_column_int64(st, 1);
    f->mime = col_str(st, 2);
    f->name = col_str(st, 3);
    f->subfolder = col_str(st, 4);
    f->type = col_str(st, 5);
    f->at = sqlite3_column_int64(st, 6);
}

static enum store_status input_load(struct db *db, struct req *r, const char *tenant, const char *type,
                                    const char *subfolder, const char *name)
{
    sqlite3_stmt *st =
        db_query(db, INPUT_COLS " WHERE f.tenant = ? AND f.type = ? AND f.subfolder = ? AND f.name = ?",
                 "ssss", tenant, type, subfolder, name);

    if (!db_next(db, st))
        return STORE_NOT_FOUND;
    input_take(one_file(r), st);
    db_end(st);
    return STORE_OK;
}

/* It is not stored: only what it would be called. */
static void input_would_be(struct req *r, const struct store_input *in, const char *name)
{
    struct store_file *f = one_file(r);

    f->name = xstrdup(name);
    f->subfolder = xstrdup(in->subfolder);
    f->type = xstrdup(in->type);
}

enum store_status sql_input_put(struct db *db, struct req *r)
{
    const struct store_input *in = &r->in.input_put;
    int64_t blob = in->only_name ? 0 : sql_blob_id(db, in->blake3), there = 0;
    int64_t alike = in->alike ? sql_blob_id(db, in->alike) : blob;
    struct buf name = BUF_INIT;
    enum store_status st;

    if (blob == 0 && !in->only_name)
        return STORE_NOT_FOUND;
    for (unsigned i = 0; db->rc == 0; i++) {
        req_input_name(&name, in->name, i);
        there = db_int(db, 0,
                       "SELECT blob FROM files WHERE tenant = ? AND type = ? AND subfolder = ? AND name = ?",
                       "ssss", in->tenant, in->type, in->subfolder, name.data);
        if (there == 0 || there == alike || in->overwrite)
            break;
    }
    if (in->only_name || (there && there == alike && !in->overwrite)) {
        st = there ? input_load(db, r, in->tenant, in->type, in->subfolder, name.data) : STORE_OK;
        if (there == 0)
            input_would_be(r, in, name.data);
        buf_free(&name);
        return st;
    }
    if (there == 0)
        db_exec(db,
                "INSERT INTO files (tenant, type, subfolder, name, mime, at, blob)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                "sssssii", in->tenant, in->type, in->subfolder, name.data, in->mime, in->at, blob);
    else if (there != blob)
        db_exec(db,
                "UPDATE files SET blob = ?, mime = ?, at = ? WHERE tenant = ? AND type = ? AND subfolder = ?"
                " AND name = ?",
                "isissss", blob, in->mime, in->at, in->tenant, in->type, in->subfolder, name.data);
    if (there != blob)
        sql_blob_revive(db, blob);
    st = input_load(db, r, in->tenant, in->type, in->subfolder, name.data);
    buf_free(&name);
    return st;
}

enum store_status sql_input_find(struct db *db, struct req *r)
{
    return input_load(db, r, r->in.input.tenant, r->in.input.type, r->in.input.subfolder, r->in.input.name);
}

enum store_status sql_input_list(struct db *db, struct req *r)
{
    const char *tenant = r->in.input.tenant, *type = r->in.input.type;
    sqlite3_stmt *st;
    size_t cap = 0;

    if (tenant && type)
        st =
            db_query(db, INPUT_COLS " WHERE f.tenant = ? AND f.type = ? ORDER BY f.type, f.subfolder, f.name",
                     "ss", tenant, type);
    else if (tenant)
        st = db_query(db, INPUT_COLS " WHERE f.tenant = ? ORDER BY f.type, f.subfolder, f.name", "s", tenant);
    else
        st = db_query(db, INPUT_COLS " WHERE ?1 IS NULL OR f.type = ?1 ORDER BY f.type, f.subfolder, f.name",
                      "s", type);
    while (db_next(db, st)) {
        if (r->out.files.n == cap) {
            cap = cap ? cap * 2 : 64;
            r->out.files.v = xrealloc(r->out.files.v, cap * sizeof(struct store_file));
        }
        input_take(&r->out.files.v[r->out.files.n++], st);
    }
    return STORE_OK;
}

/* --- blobs --- */
int64_t sql_blob_id(struct db *db, const uint8_t hash[BLAKE3_LEN])
{
    return db_int(db, 0, "SELECT id FROM blobs WHERE hash = ?", "h", hash);
}

void sql_blob_revive(struct db *db, int64_t blob)
{
    int64_t size = db_int(db, -1, "SELECT size FROM blobs WHERE id = ? AND doomed_at IS NOT NULL", "i", blob);

    if (size < 0)
        return;
    db_exec(db, "UPDATE blobs SET doomed_at = NULL WHERE id = ?", "i", blob);
    db->now.kept_bytes += size;
}

enum store_status sql_blob_pin(struct db *db, struct req *r)
{
    int64_t blob = sql_blob_id(db, r->in.blob.hash);

    r->out.pin.known = blob != 0;
    if (blob == 0) {
        db_exec(db, "INSERT INTO blobs (hash, size) VALUES (?, ?)", "hi", r->in.blob.hash, r->in.blob.size);
        blob = sqlite3_last_insert_rowid(db->c);
        db->now.blobs++;
        db->now.blob_bytes += r->in.blob.size;
        db->now.kept_bytes += r->in.blob.size;
    } else {
        sql_blob_revive(db, blob);
    }
    db_exec(db, "INSERT INTO pins (blob) VALUES (?)", "i", blob);
    r->out.pin.pin = sqlite3_last_insert_rowid(db->c);
    return STORE_OK;
}

enum store_status sql_blob_unpin(struct db *db, struct req *r)
{
    db_exec(db, "DELETE FROM pins WHERE id = ?", "i", r->in.unpin);
    return db_changes(db) ? STORE_OK : STORE_NOT_FOUND;
}

enum store_status sql_blob_known(struct db *db, struct req *r)
{
    return sql_blob_id(db, r->in.blob.hash) ? STORE_OK : STORE_NOT_FOUND;
}

static bool is_held(struct db *db, int64_t blob)
{
    return db_int(db, 0, "SELECT EXISTS (SELECT 1 FROM blob_refs WHERE blob = ?)", "i", blob) != 0;
}

unsigned sql_blob_doom(struct db *db, int64_t now, int max, bool *more)
{
    unsigned doomed = 0;
    int looked = 0;

    for (; looked < max; looked++) {
        int64_t blob = db_int(db, 0, "SELECT id FROM blobs WHERE loose = 1 LIMIT 1", ""), size;

        if (blob == 0)
            break;
        if (is_held(db, blob)) {
            db_exec(db, "UPDATE blobs SET loose = 0 WHERE id = ?", "i", blob);
            continue;
        }
        size = db_int(db, -1, "SELECT size FROM blobs WHERE id = ? AND doomed_at IS NULL", "i", blob);
        db_exec(db, "UPDATE blobs SET loose = 0, doomed_at = coalesce(doomed_at, ?) WHERE id = ?", "ii", now,
                blob);
        if (size >= 0) {
            db->now.kept_bytes -= size;
            doomed++;
        }
    }
    if (looked == max && db_int(db, 0, "SELECT 1 FROM blobs WHERE loose = 1 LIMIT 1", ""))
        *more = true;
    return doomed;
}

static void collect_one(struct db *db, struct req *r, int64_t blob)
{
    sqlite3_stmt *st;

    if (is_held(db, blob)) { /* a doomed blob is revived by what takes hold of it: only to be sure */
        sql_blob_revive(db, blob);
        return;
    }
    st = db_query(db, "SELECT hash, size FROM blobs WHERE id = ?", "i", blob);
    if (!db_next(db, st))
        return;
    col_hash(st, 0, r->out.collect.unlink[r->out.collect.n_unlink++]);
    db->now.blobs--;
    db->now.blob_bytes -= sqlite3_column_int64(st, 1);
    db_end(st);
    db_exec(db, "DELETE FROM blobs WHERE id = ?", "i", blob);
    r->out.collect.r.removed++;
}

enum store_status sql_blob_collect(struct db *db, struct req *r)
{
    struct store_collected *c = &r->out.collect.r;
    int64_t last = r->in.collect.now - r->in.collect.grace_ms;
    int max = r->in.collect.max, looked = 0;

    if (max < 1)
        return STORE_OK;
    r->out.collect.unlink = xcalloc((size_t)max, BLAKE3_LEN);
    c->doomed = sql_blob_doom(db, r->in.collect.now, max, &c->more);
    for (; looked < max; looked++) {
        int64_t blob = db_int(db, 0,
                              "SELECT id FROM blobs WHERE doomed_at IS NOT NULL AND doomed_at <= ?"
                              " ORDER BY doomed_at LIMIT 1",
                              "i", last);

        if (blob == 0)
            break;
        collect_one(db, r, blob);
    }
    if (looked == max && db_int(db, 0, "SELECT 1 FROM blobs WHERE doomed_at <= ? LIMIT 1", "i", last))
        c->more = true;
    return STORE_OK;
}
