/* Opening: the lock, the two connections, the schema. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/log.h"
#include "base/plant.h"
#include "store/sqlite_priv.h"
#include "store/store_sqlite.h"

/* What a job is shown as in lists stands in jobs, a narrow row; what is large stands apart, and is never
 * rewritten by a step. A list goes through an index (X, state, seq), one range for each state, merged.
 *
 * fin: order of finishing, never given twice (marks: what it was when jobs were removed last). hist: the same
 * while the job stands in native history; a tenant's whole history is hidden by history_floor, in one row.
 *
 * What holds a blob is whatever blob_refs shows: there is no count that could drift. Foreign keys refuse the
 * removal of a blob that is held; triggers mark one that may have lost its last holder, for the collector to
 * look at. */
static const char schema_1_jobs[] =
    "CREATE TABLE jobs ("
    " seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, tenant TEXT NOT NULL,"
    " state INTEGER NOT NULL, version INTEGER NOT NULL, flags INTEGER NOT NULL,"
    " attempt INTEGER NOT NULL, upstream_id TEXT, server TEXT, client_id TEXT, window_id TEXT,"
    " number REAL NOT NULL, priority INTEGER NOT NULL, created_at INTEGER NOT NULL,"
    " started_at INTEGER NOT NULL DEFAULT 0, finished_at INTEGER NOT NULL DEFAULT 0,"
    " deadline INTEGER NOT NULL, state_at INTEGER NOT NULL, not_before INTEGER NOT NULL DEFAULT 0,"
    " code INTEGER NOT NULL DEFAULT 0, retry_of TEXT, fin INTEGER, hist INTEGER, need TEXT,"
    " spent INTEGER NOT NULL DEFAULT 0,"
    " stored INTEGER NOT NULL DEFAULT 0, key TEXT, body_hash BLOB NOT NULL);"
    "CREATE UNIQUE INDEX jobs_key ON jobs(tenant, key) WHERE key IS NOT NULL;"
    "CREATE INDEX jobs_state ON jobs(state);"
    "CREATE INDEX jobs_tenant ON jobs(tenant, state);"
    "CREATE INDEX jobs_client ON jobs(client_id, state) WHERE client_id IS NOT NULL;"
    "CREATE INDEX jobs_window ON jobs(window_id, state) WHERE window_id IS NOT NULL;"
    "CREATE INDEX jobs_server ON jobs(server, state) WHERE server IS NOT NULL;"
    "CREATE INDEX jobs_fin ON jobs(fin) WHERE fin IS NOT NULL;"
    "CREATE INDEX jobs_stored ON jobs(fin) WHERE stored = 1;"
    "CREATE INDEX jobs_history ON jobs(tenant, hist) WHERE hist IS NOT NULL;"
    "CREATE INDEX jobs_client_history ON jobs(client_id, hist)"
    " WHERE hist IS NOT NULL AND client_id IS NOT NULL;"
    "CREATE TABLE marks (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE tenants (tenant TEXT PRIMARY KEY, history_floor INTEGER NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE job_docs (seq INTEGER PRIMARY KEY, tenant TEXT NOT NULL, graph BLOB NOT NULL,"
    " extra_data BLOB, targets BLOB, rest BLOB, answer BLOB);"
    "CREATE TABLE job_history (seq INTEGER PRIMARY KEY, tenant TEXT NOT NULL, body BLOB NOT NULL);"
    "CREATE TABLE job_secrets (seq INTEGER PRIMARY KEY, tenant TEXT NOT NULL, sealed BLOB NOT NULL);"
    "CREATE TABLE job_errors (seq INTEGER PRIMARY KEY, tenant TEXT NOT NULL, code INTEGER NOT NULL,"
    " attempt INTEGER NOT NULL, server TEXT, message TEXT, detail TEXT);"
    "CREATE TABLE attempts (seq INTEGER NOT NULL, n INTEGER NOT NULL, tenant TEXT NOT NULL,"
    " upstream_id TEXT NOT NULL, server TEXT, started_at INTEGER NOT NULL,"
    " ended_at INTEGER NOT NULL DEFAULT 0, code INTEGER NOT NULL DEFAULT 0, message TEXT,"
    " PRIMARY KEY (seq, n)) WITHOUT ROWID;"
    "CREATE TABLE timeline (seq INTEGER NOT NULL, version INTEGER NOT NULL, tenant TEXT NOT NULL,"
    " at INTEGER NOT NULL, state INTEGER NOT NULL, note TEXT, PRIMARY KEY (seq, version)) WITHOUT ROWID;";
static const char schema_1_blobs[] =
    "CREATE TABLE blobs (id INTEGER PRIMARY KEY, hash BLOB NOT NULL UNIQUE, size INTEGER NOT NULL,"
    " loose INTEGER NOT NULL DEFAULT 0, doomed_at INTEGER);"
    "CREATE INDEX blobs_loose ON blobs(loose) WHERE loose = 1;"
    "CREATE INDEX blobs_doomed ON blobs(doomed_at) WHERE doomed_at IS NOT NULL;"
    "CREATE TABLE pins (id INTEGER PRIMARY KEY AUTOINCREMENT, blob INTEGER NOT NULL REFERENCES blobs(id));"
    "CREATE INDEX pins_blob ON pins(blob);"
    "CREATE TABLE outputs (seq INTEGER NOT NULL, attempt INTEGER NOT NULL, n INTEGER NOT NULL,"
    " tenant TEXT NOT NULL, node_id TEXT, kind TEXT, key TEXT, filename TEXT NOT NULL,"
    " subfolder TEXT NOT NULL, type TEXT NOT NULL, mime TEXT, size INTEGER NOT NULL, hash BLOB NOT NULL,"
    " at INTEGER NOT NULL, blob INTEGER REFERENCES blobs(id), PRIMARY KEY (seq, attempt, n)) WITHOUT ROWID;"
    "CREATE INDEX outputs_blob ON outputs(blob) WHERE blob IS NOT NULL;"
    "CREATE INDEX outputs_name ON outputs(tenant, filename, subfolder, type, blob) WHERE blob IS NOT NULL;"
    "CREATE TABLE job_inputs (seq INTEGER NOT NULL, n INTEGER NOT NULL, tenant TEXT NOT NULL,"
    " name TEXT NOT NULL, blob INTEGER NOT NULL REFERENCES blobs(id), PRIMARY KEY (seq, n)) WITHOUT ROWID;"
    "CREATE INDEX job_inputs_blob ON job_inputs(blob);"
    "CREATE TABLE files (id INTEGER PRIMARY KEY, tenant TEXT NOT NULL, type TEXT NOT NULL,"
    " subfolder TEXT NOT NULL, name TEXT NOT NULL, mime TEXT, at INTEGER NOT NULL,"
    " blob INTEGER NOT NULL REFERENCES blobs(id));"
    "CREATE UNIQUE INDEX files_name ON files(tenant, type, subfolder, name);"
    "CREATE INDEX files_blob ON files(blob);"
    "CREATE VIEW blob_refs(blob) AS SELECT blob FROM pins UNION ALL"
    " SELECT blob FROM outputs WHERE blob IS NOT NULL UNION ALL"
    " SELECT blob FROM job_inputs UNION ALL SELECT blob FROM files;"
    "CREATE TRIGGER pins_gone AFTER DELETE ON pins BEGIN UPDATE blobs SET loose = 1"
    " WHERE id = OLD.blob AND NOT EXISTS (SELECT 1 FROM blob_refs WHERE blob = OLD.blob); END;"
    "CREATE TRIGGER outputs_gone AFTER DELETE ON outputs BEGIN UPDATE blobs SET loose = 1"
    " WHERE id = OLD.blob AND NOT EXISTS (SELECT 1 FROM blob_refs WHERE blob = OLD.blob); END;"
    "CREATE TRIGGER outputs_changed AFTER UPDATE OF blob ON outputs BEGIN UPDATE blobs SET loose = 1"
    " WHERE id = OLD.blob AND NOT EXISTS (SELECT 1 FROM blob_refs WHERE blob = OLD.blob); END;"
    "CREATE TRIGGER job_inputs_gone AFTER DELETE ON job_inputs BEGIN UPDATE blobs SET loose = 1"
    " WHERE id = OLD.blob AND NOT EXISTS (SELECT 1 FROM blob_refs WHERE blob = OLD.blob); END;"
    "CREATE TRIGGER files_gone AFTER DELETE ON files BEGIN UPDATE blobs SET loose = 1"
    " WHERE id = OLD.blob AND NOT EXISTS (SELECT 1 FROM blob_refs WHERE blob = OLD.blob); END;"
    "CREATE TRIGGER files_changed AFTER UPDATE OF blob ON files BEGIN UPDATE blobs SET loose = 1"
    " WHERE id = OLD.blob AND NOT EXISTS (SELECT 1 FROM blob_refs WHERE blob = OLD.blob); END;";
static const char schema_1_rest[] =
    "CREATE TABLE events (id INTEGER PRIMARY KEY AUTOINCREMENT, job TEXT NOT NULL, tenant TEXT NOT NULL,"
    " at INTEGER NOT NULL, kind TEXT NOT NULL, data TEXT NOT NULL);"
    "CREATE INDEX events_job ON events(job);"
    "CREATE TABLE strays (server TEXT NOT NULL, upstream_id TEXT NOT NULL, job TEXT NOT NULL,"
    " since INTEGER NOT NULL, PRIMARY KEY (server, upstream_id)) WITHOUT ROWID;"
    "CREATE TABLE servers (name TEXT PRIMARY KEY, url TEXT NOT NULL, depth INTEGER NOT NULL, tags TEXT,"
    " drained INTEGER NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE docs (id INTEGER PRIMARY KEY, kind TEXT NOT NULL, key TEXT NOT NULL, body BLOB NOT NULL);"
    "CREATE UNIQUE INDEX docs_key ON docs(kind, key);";

/* What lists of ended jobs need: their places in order, and their number, from an index alone. */
static const char schema_shown[] =
    "ALTER TABLE jobs ADD COLUMN workflow TEXT;"
    "CREATE INDEX jobs_shown ON jobs(tenant, state, seq, hist) WHERE hist IS NOT NULL;"
    "CREATE INDEX jobs_workflow ON jobs(tenant, workflow, state, seq, hist)"
    " WHERE hist IS NOT NULL AND workflow IS NOT NULL;"
    "CREATE INDEX jobs_took ON jobs(tenant, " SQL_TOOK
    ", seq, hist, state, workflow) WHERE hist IS NOT NULL;";

/* What users keep. */
static const char schema_user[] =
    "CREATE TABLE user_files (tenant TEXT NOT NULL, area TEXT NOT NULL, path TEXT NOT NULL,"
    " created INTEGER NOT NULL, modified INTEGER NOT NULL, blob INTEGER NOT NULL REFERENCES blobs(id),"
    " PRIMARY KEY (tenant, area, path)) WITHOUT ROWID;"
    "CREATE INDEX user_files_blob ON user_files(blob);"
    "DROP VIEW blob_refs;"
    "CREATE VIEW blob_refs(blob) AS SELECT blob FROM pins UNION ALL"
    " SELECT blob FROM outputs WHERE blob IS NOT NULL UNION ALL"
    " SELECT blob FROM job_inputs UNION ALL SELECT blob FROM files UNION ALL SELECT blob FROM user_files;"
    "CREATE TRIGGER user_files_gone AFTER DELETE ON user_files BEGIN UPDATE blobs SET loose = 1"
    " WHERE id = OLD.blob AND NOT EXISTS (SELECT 1 FROM blob_refs WHERE blob = OLD.blob); END;"
    "CREATE TRIGGER user_files_changed AFTER UPDATE OF blob ON user_files BEGIN UPDATE blobs SET loose = 1"
    " WHERE id = OLD.blob AND NOT EXISTS (SELECT 1 FROM blob_refs WHERE blob = OLD.blob); END;";

/* Migration i leads from schema i to i + 1. Never change one that was released. */
static const char *const schema_1[] = {schema_1_jobs, schema_1_blobs, schema_1_rest, NULL};
static const char *const schema_2[] = {schema_shown, NULL};
static const char *const schema_3[] = {schema_user, NULL};
const char *const *const sqlite_migrations[] = {schema_1, schema_2, schema_3};
const int sqlite_schema = ARRAY_LEN(sqlite_migrations);

static int script(struct db *db, const char *path, const char *sql, struct err *e)
{
    if (sqlite3_exec(db->c, sql, NULL, NULL, NULL) == SQLITE_OK)
        return 0;
    err_set(e, EIO, "%s: %s", path, sqlite3_errmsg(db->c));
    sqlite3_exec(db->c, "ROLLBACK", NULL, NULL, NULL);
    return -1;
}

static int migrate_one(struct db *db, const char *path, const char *const *sql, const char *done,
                       struct err *e)
{
    if (script(db, path, "BEGIN IMMEDIATE", e) < 0)
        return -1;
    for (; *sql; sql++)
        if (script(db, path, *sql, e) < 0)
            return -1;
    return script(db, path, done, e);
}

int sqlite_migrate(struct db *db, const char *path, const char *const *const *migrations, int n,
                   struct err *e)
{
    int64_t have = db_int(db, 0, "PRAGMA user_version", "");

    if (db->rc)
        return db_is_damaged(db) ? err_set(e, EIO, DB_DAMAGED, path, db->why)
                                 : err_set(e, EIO, "%s: %s", path, db->why);
    if (have > n)
        return err_set(e, EINVAL,
                       "%s has schema %lld, and this program knows only up to %d: it is too old for it", path,
                       (long long)have, n);
    for (int64_t i = have; i < n; i++) {
        char done[128];

        snprintf(done, sizeof(done), "PRAGMA application_id = %d; PRAGMA user_version = %lld; COMMIT",
                 SQLITE_APP_ID, (long long)i + 1);
        if (migrate_one(db, path, migrations[i], done, e) < 0)
            return err_wrap(e, "migration to schema %lld", (long long)i + 1);
        log_info(LOG_S("store", path), LOG_I("schema", i + 1));
    }
    return 0;
}

/* A lock of its own and not SQLite's: that is held from one transaction to the next only. */
static int lock_take(const char *dir, struct err *e)
{
    char *path = xasprintf("%s/comfymux.lock", dir), owner[32] = "";
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    ssize_t n;

    if (fd < 0) {
        err_errno(e, errno, "%s", path);
    } else if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        if (errno == EWOULDBLOCK) {
            n = pread(fd, owner, sizeof(owner) - 1, 0);
            owner[n > 0 ? strspn(owner, "0123456789") : 0] = '\0';
            err_set(e, EBUSY, "%s is in use by another comfymux (process %s)", dir,
                    owner[0] ? owner : "unknown");
        } else {
            err_errno(e, errno, "cannot lock %s", path);
        }
        close(fd);
        fd = -1;
    } else {
        n = snprintf(owner, sizeof(owner), "%d\n", (int)getpid());
        if (ftruncate(fd, 0) < 0 || pwrite(fd, owner, (size_t)n, 0) != n)
            log_warn(LOG_S("lock", path), LOG_S("reason", strerror(errno))); /* only the message suffers */
    }
    free(path);
    return fd;
}

/* Pins are of one process, and what is counted along is counted once. */
static int db_begin_life(struct db *db, const char *path, struct err *e)
{
    db_exec(db, "DELETE FROM pins", "");
    if (PLANTED(EVENT_ID_REUSED))
        db_exec(db, "DELETE FROM sqlite_sequence WHERE name = 'events'", "");
    db->committed = (struct db_counts){
        .last_fin = db_int(db, 0,
                           "SELECT max(coalesce((SELECT max(fin) FROM jobs WHERE fin IS NOT NULL), 0),"
                           " coalesce((SELECT value FROM marks WHERE name = 'fin'), 0))",
                           ""),
        .blobs = db_int(db, 0, "SELECT count(*) FROM blobs", ""),
        .blob_bytes = db_int(db, 0, "SELECT sum(size) FROM blobs", ""),
        .kept_bytes = db_int(db, 0, "SELECT sum(size) FROM blobs WHERE doomed_at IS NULL", ""),
    };
    for (int s = JOB_SUCCEEDED; s < JOB_STATES; s++) {
        db->committed.ended[s] =
            db_int(db, 0, "SELECT count(*) FROM jobs INDEXED BY jobs_state WHERE state = ?", "i", (int64_t)s);
        db->committed.finished += db->committed.ended[s];
    }
    db->now = db->committed;
    if (db_is_damaged(db))
        return err_set(e, EIO, DB_DAMAGED, path, db->why);
    return db->rc ? err_set(e, EIO, "%s: %s", path, db->why) : 0;
}

/* Prompts and sealed secrets are nobody else's business; the log takes over the mode of the database. Only
 * before the first connection: closing any descriptor of the file would drop SQLite's locks on it. */
static int make_private(const char *path, struct err *e)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

    if (fd < 0)
        return err_errno(e, errno, "%s", path);
    close(fd);
    return 0;
}

struct store *store_sqlite_open(struct loop *l, const char *dir, struct err *e)
{
    char *path = xasprintf("%s/comfymux.db", dir), *wal = xasprintf("%s-wal", path);
    struct store *s = NULL;
    struct db writer = {0}, reader = {0};
    int lock = lock_take(dir, e);

    if (lock < 0)
        goto out;
    if (wal_check(wal, e) == 0 && make_private(path, e) == 0 && db_open(&writer, path, false, e) == 0 &&
        sqlite_migrate(&writer, path, sqlite_migrations, sqlite_schema, e) == 0 &&
        db_begin_life(&writer, path, e) == 0 && db_open(&reader, path, true, e) == 0)
        s = sqlite_threads_start(l, &writer, &reader, lock, e);
    if (s == NULL) {
        db_close(&reader);
        db_close(&writer);
        close(lock);
    }
out:
    free(wal);
    free(path);
    return s;
}
