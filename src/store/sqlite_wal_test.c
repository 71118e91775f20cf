/* wal_check() against SQLite itself: where SQLite forgets a commit that was durable it says so, and where a crash can have
 * left the log as it is it does not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "store/sqlite_priv.h"

struct fx {
    char dir[64], db[96], wal[112];
    struct buf db_text, wal_text; /* as a kill would leave them */
};

static uint64_t rng = 1;

static uint32_t rnd(uint32_t n)
{
    rng = rng * 6364136223846793005ULL + 1442695040888963407ULL;
    return (uint32_t)(rng >> 33) % n;
}

static void load(const char *path, struct buf *b)
{
    FILE *in = fopen(path, "rb");
    char piece[8192];
    size_t n;

    assert_non_null(in);
    while ((n = fread(piece, 1, sizeof(piece), in)) > 0)
        buf_put(b, piece, n);
    fclose(in);
}

static void save(const char *path, const char *data, size_t n)
{
    FILE *out = fopen(path, "wb");

    assert_non_null(out);
    assert_int_equal(fwrite(data, 1, n, out), n);
    fclose(out);
}

static void run(sqlite3 *c, const char *sql)
{
    char *why = NULL;

    if (sqlite3_exec(c, sql, NULL, NULL, &why) != SQLITE_OK)
        fail_msg("%s: %s", sql, why);
}

/* Fifty commits of one row each, and between them transactions that were too large for the cache, written to the log and
 * rolled back; before that, a life of the log whose frames are left over behind. */
#define ROWS 50

static int setup(void **state)
{
    struct fx *f = calloc(1, sizeof(*f));
    sqlite3 *c;

    /* in memory where there is such a file system: what is synced here need not outlive the machine */
    snprintf(f->dir, sizeof(f->dir), "%s/wal-test-XXXXXX", access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->db, sizeof(f->db), "%s/x.db", f->dir);
    snprintf(f->wal, sizeof(f->wal), "%s-wal", f->db);
    assert_int_equal(sqlite3_open(f->db, &c), SQLITE_OK);
    run(c, "PRAGMA page_size = 1024; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cache_size "
           "= 4;"
           "PRAGMA wal_autocheckpoint = 0; CREATE TABLE t (x); CREATE TABLE big (x);");
    for (int i = 0; i < 100; i++)
        run(c, "INSERT INTO big VALUES (zeroblob(5000))");
    run(c, "PRAGMA wal_checkpoint(RESTART)");
    for (int i = 0; i < ROWS; i++) {
        if (i % 7 == 3)
            run(c, "BEGIN; UPDATE big SET x = randomblob(5000) WHERE rowid < 20; ROLLBACK");
        run(c, "INSERT INTO t VALUES (randomblob(700))");
    }
    run(c, "BEGIN; UPDATE big SET x = randomblob(5000) WHERE rowid < 9");
    load(f->db, &f->db_text);
    load(f->wal, &f->wal_text);
    sqlite3_close(c);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fx *f = *state;

    unlink(f->db);
    unlink(f->wal);
    rmdir(f->dir);
    buf_free(&f->db_text);
    buf_free(&f->wal_text);
    free(f);
    return 0;
}

static int rows_of(struct fx *f)
{
    sqlite3_stmt *st;
    sqlite3 *c;
    int n = -1;

    assert_int_equal(sqlite3_open(f->db, &c), SQLITE_OK);
    if (sqlite3_prepare_v2(c, "SELECT count(*) FROM t", -1, &st, NULL) == SQLITE_OK) {
        if (sqlite3_step(st) == SQLITE_ROW)
            n = sqlite3_column_int(st, 0);
        sqlite3_finalize(st);
    }
    sqlite3_close(c);
    return n;
}

static int checked(struct fx *f, size_t len)
{
    struct err e;

    save(f->wal, f->wal_text.data, len);
    return wal_check(f->wal, &e);
}

static void what_a_crash_leaves_is_well(void **state)
{
    struct fx *f = *state;
    size_t n = f->wal_text.len;
    struct err e;

    assert_true(n > (ROWS + 100) * 1024);
    assert_int_equal(checked(f, n), 0);
    save(f->db, f->db_text.data, f->db_text.len);
    assert_int_equal(rows_of(f), ROWS);
    for (int i = 0; i < 300; i++) /* its end is not there: from the file's system, not from SQLite */
        assert_int_equal(checked(f, rnd((uint32_t)n)), 0);
    unlink(f->wal);
    assert_int_equal(wal_check(f->wal, &e), 0);
    memset(f->wal_text.data, 0, n);
    assert_int_equal(checked(f, n), 0);
}

static void what_sqlite_would_forget_is_told(void **state)
{
    struct fx *f = *state;
    int told = 0, harmless = 0;

    for (int i = 0; i < 400; i++) {
        size_t at = i < 32 ? (size_t)i : rnd((uint32_t)f->wal_text.len);
        char bit = (char)(1 << rnd(8));
        int found, rows;

        f->wal_text.data[at] ^= bit;
        found = checked(f, f->wal_text.len);
        save(f->db, f->db_text.data, f->db_text.len);
        rows = rows_of(f);
        f->wal_text.data[at] ^= bit;
        if (rows == ROWS)
            harmless++;
        else
            told++;
        if (rows < ROWS - 1) /* the last commit alone cannot be told from one that was torn */
            assert_int_equal(found, -1);
        if (rows == ROWS && at >= 32)
            assert_int_equal(found, 0);
    }
    assert_true(told > 50 && harmless > 50);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(what_a_crash_leaves_is_well),
        T(what_sqlite_would_forget_is_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
