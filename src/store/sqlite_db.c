#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/sqlite_priv.h"

/* Texts are few; those built from filters are the reason for a limit. */
#define STMTS_MAX 512

/* The errno of a failed read or write: of the log, else of the database. sqlite3_system_errno() does not know
 * it when a statement fails. */
static int last_errno(sqlite3 *c)
{
    sqlite3_file *wal = NULL;
    int code = 0;

    if (sqlite3_file_control(c, "main", SQLITE_FCNTL_JOURNAL_POINTER, &wal) == SQLITE_OK && wal &&
        wal->pMethods)
        wal->pMethods->xFileControl(wal, SQLITE_FCNTL_LAST_ERRNO, &code);
    if (code == 0)
        sqlite3_file_control(c, "main", SQLITE_FCNTL_LAST_ERRNO, &code);
    return code;
}

static void db_failed(struct db *db, int rc)
{
    if (db->rc != 0)
        return;
    db->rc = rc;
    db->os_rc = (rc & 0xff) == SQLITE_IOERR ? last_errno(db->c) : 0;
    snprintf(db->why, sizeof(db->why), "%s", sqlite3_errmsg(db->c));
    if ((rc & 0xff) == SQLITE_IOERR && db->os_rc)
        snprintf(db->why, sizeof(db->why), "%s: %s", sqlite3_errstr(rc), strerror(db->os_rc));
}

static int open_failed(struct db *db, const char *path, int rc, struct err *e)
{
    int base = rc & 0xff, code = last_errno(db->c);

    if (code == 0)
        code = sqlite3_system_errno(db->c);
    if (base == SQLITE_NOTADB || base == SQLITE_CORRUPT)
        err_set(e, EIO, DB_DAMAGED, path, sqlite3_errmsg(db->c));
    else if (code)
        err_set(e, code, "%s: %s: %s", path, sqlite3_errmsg(db->c), strerror(code));
    else
        err_set(e, EIO, "%s: %s", path, sqlite3_errmsg(db->c));
    db_close(db);
    return -1;
}

static bool is_wal(struct db *db)
{
    sqlite3_stmt *st = db_query(db, "PRAGMA journal_mode", "");
    bool yes = db_next(db, st) && strcmp((const char *)sqlite3_column_text(st, 0), "wal") == 0;

    db_end(st);
    return yes;
}

/* Of another program: it stays as it is, to the byte. An empty one will be ours. */
static bool is_foreign(struct db *db)
{
    return db_int(db, 0, "PRAGMA application_id", "") != SQLITE_APP_ID &&
           db_int(
               db, 0,
               "SELECT (SELECT application_id FROM pragma_application_id) <> 0 OR"
               " (SELECT user_version FROM pragma_user_version) <> 0 OR EXISTS (SELECT 1 FROM sqlite_schema)",
               "") != 0;
}

int db_open(struct db *db, const char *path, bool readonly, struct err *e)
{
    /* WAL with FULL: a commit is on the disk when it returns. secure_delete: wiped secrets are gone. */
    const char *setup = readonly ? "PRAGMA query_only = ON; PRAGMA cache_size = -16384;"
                                 : "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
                                   "PRAGMA foreign_keys = ON; PRAGMA secure_delete = ON;"
                                   "PRAGMA cache_size = -32768; PRAGMA journal_size_limit = 67108864;";
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | (readonly ? 0 : SQLITE_OPEN_CREATE);
    int rc;

    *db = (struct db){0};
    rc = sqlite3_open_v2(path, &db->c, flags, NULL);
    if (rc == SQLITE_OK) {
        sqlite3_extended_result_codes(db->c, 1);
        sqlite3_busy_timeout(db->c, 5000);
        rc = sqlite3_exec(db->c, "SELECT count(*) FROM sqlite_schema", NULL, NULL, NULL); /* reads its head */
    }
    if (rc == SQLITE_OK && is_foreign(db)) {
        err_set(e, EINVAL, "%s is a database of another program", path);
        db_close(db);
        return -1;
    }
    if (rc == SQLITE_OK)
        rc = db->rc ? db->rc : sqlite3_exec(db->c, setup, NULL, NULL, NULL);
    if (rc != SQLITE_OK)
        return open_failed(db, path, rc, e);
    if (!readonly && !is_wal(db)) {
        err_set(e, EINVAL, "%s: this file system cannot hold a database in WAL mode", path);
        db_close(db);
        return -1;
    }
    return 0;
}

static void stmt_drop(struct db *db, struct db_stmt *s)
{
    HASH_DELETE(hh, db->stmts, s);
    sqlite3_finalize(s->st);
    free(s);
}

static void stmts_drop_idle(struct db *db)
{
    struct db_stmt *s, *next;

    HASH_ITER(hh, db->stmts, s, next)
        if (!sqlite3_stmt_busy(s->st))
            stmt_drop(db, s);
}

void db_close(struct db *db)
{
    struct db_stmt *s, *next;

    HASH_ITER(hh, db->stmts, s, next)
        stmt_drop(db, s);
    sqlite3_close(db->c);
    db->c = NULL;
}

void db_error_clear(struct db *db)
{
    db->rc = db->os_rc = 0;
    db->why[0] = '\0';
}

static sqlite3_stmt *stmt_get(struct db *db, const char *sql)
{
    size_t n = strlen(sql);
    struct db_stmt *s;
    int rc;

    HASH_FIND(hh, db->stmts, sql, n, s);
    if (s) {
        sqlite3_reset(s->st);
        return s->st;
    }
    if (HASH_COUNT(db->stmts) >= STMTS_MAX)
        stmts_drop_idle(db);
    s = xmalloc(sizeof(*s) + n + 1);
    memcpy(s->sql, sql, n + 1);
    rc = sqlite3_prepare_v3(db->c, sql, (int)n + 1, SQLITE_PREPARE_PERSISTENT, &s->st, NULL);
    if (rc != SQLITE_OK) {
        db_failed(db, rc);
        free(s);
        return NULL;
    }
    HASH_ADD_KEYPTR(hh, db->stmts, s->sql, n, s);
    return s->st;
}

static int bind_one(sqlite3_stmt *st, int i, char kind, va_list ap)
{
    switch (kind) {
    case 'i': return sqlite3_bind_int64(st, i, va_arg(ap, int64_t));
    case 'd': return sqlite3_bind_double(st, i, va_arg(ap, double));
    case 's': return sqlite3_bind_text(st, i, va_arg(ap, const char *), -1, SQLITE_STATIC);
    case 'h': return sqlite3_bind_blob(st, i, va_arg(ap, const uint8_t *), BLAKE3_LEN, SQLITE_STATIC);
    case 'y': {
        const struct bytes *b = va_arg(ap, const struct bytes *);

        return b ? sqlite3_bind_blob64(st, i, b->data, b->len, SQLITE_STATIC) : sqlite3_bind_null(st, i);
    }
    default: abort();
    }
}

static sqlite3_stmt *query_va(struct db *db, const char *sql, const char *fmt, va_list ap)
{
    sqlite3_stmt *st = db->rc ? NULL : stmt_get(db, sql);

    for (int i = 0; st && fmt[i]; i++) {
        int rc = bind_one(st, i + 1, fmt[i], ap);

        if (rc != SQLITE_OK) {
            db_failed(db, rc);
            return NULL;
        }
    }
    return st;
}

sqlite3_stmt *db_query(struct db *db, const char *sql, const char *fmt, ...)
{
    sqlite3_stmt *st;
    va_list ap;

    va_start(ap, fmt);
    st = query_va(db, sql, fmt, ap);
    va_end(ap);
    return st;
}

bool db_next(struct db *db, sqlite3_stmt *st)
{
    int rc;

    if (st == NULL)
        return false;
    rc = db->rc ? SQLITE_DONE : sqlite3_step(st);
    if (rc == SQLITE_ROW)
        return true;
    if (rc != SQLITE_DONE)
        db_failed(db, rc);
    db_end(st);
    return false;
}

void db_end(sqlite3_stmt *st)
{
    if (st == NULL)
        return;
    sqlite3_reset(st);
    sqlite3_clear_bindings(st);
}

void db_exec(struct db *db, const char *sql, const char *fmt, ...)
{
    sqlite3_stmt *st;
    va_list ap;

    va_start(ap, fmt);
    st = query_va(db, sql, fmt, ap);
    va_end(ap);
    while (db_next(db, st))
        ;
}

int db_changes(struct db *db)
{
    return db->rc ? 0 : sqlite3_changes(db->c);
}

int64_t db_int(struct db *db, int64_t none, const char *sql, const char *fmt, ...)
{
    sqlite3_stmt *st;
    int64_t v = none;
    va_list ap;

    va_start(ap, fmt);
    st = query_va(db, sql, fmt, ap);
    va_end(ap);
    if (db_next(db, st)) {
        if (sqlite3_column_type(st, 0) != SQLITE_NULL)
            v = sqlite3_column_int64(st, 0);
        db_end(st);
    }
    return v;
}

enum store_status db_status(const struct db *db)
{
    if ((db->rc & 0xff) == SQLITE_FULL)
        return STORE_FULL;
    if ((db->rc & 0xff) == SQLITE_IOERR && (db->os_rc == ENOSPC || db->os_rc == EDQUOT || db->os_rc == EFBIG))
        return STORE_FULL;
    return STORE_FAILED;
}

bool db_is_damaged(const struct db *db)
{
    return (db->rc & 0xff) == SQLITE_CORRUPT || (db->rc & 0xff) == SQLITE_NOTADB;
}

char *col_str(sqlite3_stmt *st, int i)
{
    return xstrdup_null((const char *)sqlite3_column_text(st, i));
}

void col_id(sqlite3_stmt *st, int i, char out[UUID_SIZE])
{
    const char *s = (const char *)sqlite3_column_text(st, i);

    snprintf(out, UUID_SIZE, "%s", s ? s : "");
}

void col_hash(sqlite3_stmt *st, int i, uint8_t out[BLAKE3_LEN])
{
    const void *p = sqlite3_column_blob(st, i);

    if (p && sqlite3_column_bytes(st, i) == BLAKE3_LEN)
        memcpy(out, p, BLAKE3_LEN);
    else
        memset(out, 0, BLAKE3_LEN);
}

struct bytes *col_bytes(sqlite3_stmt *st, int i)
{
    if (sqlite3_column_type(st, i) == SQLITE_NULL)
        return NULL;
    return bytes_new(sqlite3_column_blob(st, i), (size_t)sqlite3_column_bytes(st, i));
}
