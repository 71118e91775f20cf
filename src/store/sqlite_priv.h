/* Inside of the store on SQLite: a connection, its statements, and the executors of requests.
 *
 * A connection belongs to one thread. Its error is sticky: after the first failure every call on it does
 * nothing until db_error_clear(), so an executor runs straight through and its caller looks at db->rc once.
 */
#ifndef STORE_SQLITE_PRIV_H
#define STORE_SQLITE_PRIV_H

#include <sqlite3.h>

#include "base/hash.h"
#include "net/loop.h"
#include "store/request.h"

struct db_stmt {
    sqlite3_stmt *st;
    UT_hash_handle hh;
    char sql[];
};

/* Counted along with the transaction: kept by a commit, dropped by a rollback. Writer only. */
struct db_counts {
    int64_t last_fin; /* order of finishing */
    int64_t finished; /* jobs */
    int64_t ended[JOB_STATES];
    int64_t blobs;
    int64_t blob_bytes; /* of all blobs */
    int64_t kept_bytes; /* of those that are not doomed */
};

struct db {
    sqlite3 *c;
    struct db_stmt *stmts;
    int rc;    /* first error since db_error_clear(), an extended SQLite code; 0: none */
    int os_rc; /* its errno */
    char why[256];
    struct db_counts now, committed;
};

#define DB_DAMAGED "%s is damaged or not a database (%s); restore it from a backup or move it away"

/* sqlite_db.c. fmt has one letter for each bound value: i int64_t, d double, s text or NULL, y struct bytes *
 * or NULL, h hash. What is bound must live until the statement is through. */
/* Refuses one of another program before anything is changed in it. */
int db_open(struct db *db, const char *path, bool readonly, struct err *e);
void db_close(struct db *db);
void db_error_clear(struct db *db);
/* The statement, bound; step it with db_next(). NULL on error. The next db_query() with the same text ends
 * this one. */
sqlite3_stmt *db_query(struct db *db, const char *sql, const char *fmt, ...);
bool db_next(struct db *db, sqlite3_stmt *st); /* false: no more rows, or an error */
void db_end(sqlite3_stmt *st);                 /* not needed after db_next() gave false; NULL is fine */
void db_exec(struct db *db, const char *sql, const char *fmt, ...);
/* Rows touched by the last db_exec(). */
int db_changes(struct db *db);
/* First column of the first row, or none. */
int64_t db_int(struct db *db, int64_t none, const char *sql, const char *fmt, ...);
enum store_status db_status(const struct db *db); /* FULL or FAILED */
bool db_is_damaged(const struct db *db);

char *col_str(sqlite3_stmt *st, int i); /* a copy; NULL stays NULL */
void col_id(sqlite3_stmt *st, int i, char out[UUID_SIZE]);
void col_hash(sqlite3_stmt *st, int i, uint8_t out[BLAKE3_LEN]);
struct bytes *col_bytes(sqlite3_stmt *st, int i);

/* Room for one more element of an array that grows by doubling from nothing. */
#define GROW(v, n)                                                                                           \
    do {                                                                                                     \
        if (((n) & ((n)-1)) == 0)                                                                            \
            (v) = xrealloc((v), ((n) ? (n)*2 : 1) * sizeof(*(v)));                                           \
    } while (0)

/* How long a job took, for an index and for who goes by it. */
#define SQL_TOOK "(CASE WHEN started_at > 0 THEN finished_at - started_at ELSE 0 END)"

/* sqlite_open.c */
#define SQLITE_APP_ID 0x434d5558                     /* "CMUX" */
extern const char *const *const sqlite_migrations[]; /* scripts, ended by NULL */
extern const int sqlite_schema;                      /* how many there are */
int sqlite_migrate(struct db *db, const char *path, const char *const *const *migrations, int n,
                   struct err *e);

/* sqlite_wal.c: -1 if the log is damaged where SQLite would silently forget what was committed. Before the first connection;
 * no log is well. */
int wal_check(const char *path, struct err *e);

/* sqlite_thread.c */
#define SQLITE_GROUP 64 /* requests of one commit, at most */
/* Takes the connections and the lock over, unless it fails. */
struct store *sqlite_threads_start(struct loop *l, const struct db *writer, const struct db *reader,
                                   int lock_fd, struct err *e);

/* Executors. On the writer a transaction is open; they check first and change then, so that every status but
 * an error in db->rc leaves the others of the group alone. */
typedef enum store_status sqlite_exec(struct db *db, struct req *r);
sqlite_exec sql_submit, sql_step, sql_hide, sql_get, sql_list, sql_unfinished;
sqlite_exec sql_output_find, sql_input_put, sql_input_find, sql_input_list;
sqlite_exec sql_alias_find, sql_user_put, sql_user_find, sql_user_list, sql_user_move, sql_user_remove;
sqlite_exec sql_blob_pin, sql_blob_unpin, sql_blob_collect, sql_blob_known;
sqlite_exec sql_stray_done, sql_strays, sql_server_put, sql_server_remove, sql_servers;
sqlite_exec sql_events, sql_doc_put, sql_doc_get, sql_trim;

/* sqlite_jobs.c */
#define SQL_JOB_COLS                                                                                         \
    "seq,id,tenant,state,version,flags,attempt,upstream_id,server,client_id,window_id,number,priority,"      \
    "created_at,started_at,finished_at,deadline,state_at,not_before,code,retry_of,fin,hist,need,spent,"      \
    "workflow"
struct job_record *sql_job_load(struct db *db, sqlite3_stmt *row, uint32_t parts);
void sql_events_log(struct db *db, const char *job, const char *tenant, int64_t at,
                    const struct store_event *e, size_t n);

/* sqlite_list.c: the text of the query that gives the places (seq, or fin) of a list's rows. */
void sql_list_text(struct buf *sql, const struct store_filter *f);
/* ?1 tenant ?2 workflow: how many there are. */
void sql_count_text(struct buf *sql, const struct store_filter *f);

/* sqlite_files.c */
int64_t sql_blob_id(struct db *db, const uint8_t hash[BLAKE3_LEN]); /* 0: unknown */
void sql_blob_revive(struct db *db, int64_t blob);
/* Settle up to max blobs that lost a reference: doomed when nothing holds them. */
unsigned sql_blob_doom(struct db *db, int64_t now, int max, bool *more);

#endif
