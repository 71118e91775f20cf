/* What only the store on SQLite promises: crashes, locks, schemas, full disks, groups. */
#include "store/store_test_util.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "store/sqlite_priv.h"

static int setup(void **state)
{
    struct fx *f = malloc(sizeof(*f));

    fx_open(f, true);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    fx_close(*state);
    free(*state);
    return 0;
}

static void raw(struct fx *f, const char *sql)
{
    char path[96];
    sqlite3 *db;

    snprintf(path, sizeof(path), "%s/comfymux.db", f->dir);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    if (sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK)
        fail_msg("%s", sqlite3_errmsg(db));
    sqlite3_close(db);
}

/* --- SIGKILL --- */
#define IN_FLIGHT 24

struct child {
    struct store *s;
    int out, round;
    unsigned made;
};
struct child_job {
    struct child *c;
    char id[UUID_SIZE];
    uint32_t version;
};

static void child_submit(struct child *c);

static void child_tells(struct child *c, const char *id, uint32_t version)
{
    char line[64];
    int n = snprintf(line, sizeof(line), "%s %u\n", id, version);

    if (write(c->out, line, (size_t)n) != n)
        _exit(3);
}

static void child_step(struct child_job *j);

static void child_on_step(enum store_status st, void *arg)
{
    struct child_job *j = arg;

    if (st != STORE_OK)
        _exit(4);
    j->version++;
    child_tells(j->c, j->id, j->version);
    if (j->version < 4) {
        child_step(j);
        return;
    }
    child_submit(j->c);
    free(j);
}

static void child_step(struct child_job *j)
{
    static const enum job_state states[] = {JOB_QUEUED, JOB_DISPATCHING, JOB_RUNNING, JOB_SUCCEEDED};
    struct store_event ev = {"state", "{}"};
    struct store_step in = {.id = j->id,
                            .version = j->version,
                            .state = states[j->version],
                            .at = 7,
                            .events = &ev,
                            .n_events = 1};

    store_step(j->c->s, &in, child_on_step, j);
}

static void child_on_submit(const struct store_submitted *r, void *arg)
{
    struct child_job *j = arg;

    if (r->status != STORE_OK)
        _exit(5);
    j->version = 1;
    child_tells(j->c, j->id, 1);
    child_step(j);
}

static void child_submit(struct child *c)
{
    struct child_job *j = calloc(1, sizeof(*j));
    struct store_submit in = {.id = j->id, .tenant = "t"};

    j->c = c;
    snprintf(j->id, sizeof(j->id), "r%d-%u", c->round, c->made++);
    in.graph = bytes_new(j->id, strlen(j->id));
    store_submit(c->s, &in, child_on_submit, j);
    bytes_unref(in.graph);
}

static void child_run(const char *dir, int out, int round)
{
    struct child c = {.out = out, .round = round};
    struct err e;
    struct loop *l = loop_new(&e);

    c.s = l ? store_sqlite_open(l, dir, &e) : NULL;
    if (c.s == NULL)
        _exit(2);
    for (int i = 0; i < IN_FLIGHT; i++)
        child_submit(&c);
    loop_run(l);
    _exit(6);
}

/* Read lines until n of them came, kill, read the rest. */
static void child_watch(int in, pid_t pid, unsigned n, struct buf *told)
{
    char chunk[512];
    unsigned lines = 0;
    ssize_t k;

    while ((k = read(in, chunk, sizeof(chunk))) > 0) {
        bool before = lines < n;

        buf_put(told, chunk, (size_t)k);
        for (ssize_t i = 0; i < k; i++)
            lines += chunk[i] == '\n';
        if (before && lines >= n)
            kill(pid, SIGKILL);
    }
}

static unsigned check_told(struct fx *f, const char *told)
{
    unsigned checked = 0;

    for (const char *p = told; strchr(p, '\n'); p = strchr(p, '\n') + 1) {
        char id[UUID_SIZE];
        unsigned version;

        assert_int_equal(sscanf(p, "%36s %u", id, &version), 2);
        if (fx_get(f, id) == NULL)
            fail_msg("%s was answered and is gone", id);
        if (f->rec->s.version < version)
            fail_msg("%s is at version %u, %u was answered", id, f->rec->s.version, version);
        assert_string_equal(f->rec->graph->data, id);
        assert_int_equal(f->rec->n_timeline, f->rec->s.version);
        checked++;
    }
    return checked;
}

static void what_was_answered_survives_sigkill(void **state)
{
    struct fx *f = *state;
    struct buf told = BUF_INIT;
    unsigned seed = 12345;

    for (int round = 0; round < 20; round++) {
        int pipes[2], status;
        pid_t pid;

        store_close(&f->s);
        assert_int_equal(pipe(pipes), 0);
        pid = fork();
        if (pid == 0)
            child_run(f->dir, pipes[1], round);
        close(pipes[1]);
        seed = seed * 1103515245u + 12345u;
        child_watch(pipes[0], pid, 1 + (seed >> 16) % 150, &told);
        close(pipes[0]);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        fx_reopen(f);
    }
    assert_true(check_told(f, buf_str(&told)) >= 20);
    buf_free(&told);
}

/* --- opening --- */
static void refused(struct fx *f, const char *a, const char *b)
{
    struct err e = {0};
    struct store *s = store_sqlite_open(f->l, f->dir, &e);

    assert_null(s);
    if (!strstr(e.msg, a) || !strstr(e.msg, b))
        fail_msg("\"%s\" says nothing of \"%s\" and \"%s\"", e.msg, a, b);
}

static void newer_schema_is_refused(void **state)
{
    struct fx *f = *state;
    char now[48];

    snprintf(now, sizeof(now), "up to %d", sqlite_schema);
    fx_submit(f, "j1");
    store_close(&f->s);
    raw(f, "PRAGMA user_version = 99");
    refused(f, "schema 99", now);
    snprintf(now, sizeof(now), "PRAGMA user_version = %d", sqlite_schema);
    raw(f, now);
    fx_reopen(f);
    assert_non_null(fx_get(f, "j1")); /* and left untouched */
}

static void schema_1_is_brought_up_to_date(void **state)
{
    struct store_user_put in = {.tenant = "t", .area = "data", .path = "a"};
    struct fx *f = *state;
    struct err e = {0};
    char path[96];
    struct db db;

    store_close(&f->s);
    snprintf(path, sizeof(path), "%s/comfymux.db", f->dir);
    unlink(path);
    assert_int_equal(db_open(&db, path, false, &e), 0);
    assert_int_equal(sqlite_migrate(&db, path, sqlite_migrations, 1, &e), 0);
    hash_of(in.blake3, "old");
    db_exec(&db, "INSERT INTO blobs (id, hash, size) VALUES (1, ?, 3)", "h", in.blake3);
    db_exec(
        &db,
        "INSERT INTO files (tenant, type, subfolder, name, at, blob) VALUES ('t', 'input', '', 'x', 7, 1)",
        "");
    assert_int_equal(db.rc, 0);
    db_close(&db);
    fx_reopen(f);
    assert_int_equal(CALL(f, input_find, "t", "input", "", "x", on_file), STORE_OK);
    assert_int_equal(CALL(f, user_put, &in, on_file), STORE_OK);
    assert_int_equal(CALL(f, blob_collect, 1000, 0, 10, NULL, NULL, on_collected), STORE_OK);
    assert_true(fx_known(f, "old"));
}

/* Of the file's head: 1 a rollback journal, 2 a log (SQLite's file format, 1.3.3). */
static int journal_byte(const char *path)
{
    FILE *in = fopen(path, "rb");
    int c = -1;

    if (in && fseek(in, 18, SEEK_SET) == 0)
        c = fgetc(in);
    if (in)
        fclose(in);
    return c;
}

static void another_programs_database_is_refused(void **state)
{
    struct fx *f = *state;
    char path[96];

    store_close(&f->s);
    snprintf(path, sizeof(path), "%s/comfymux.db", f->dir);
    unlink(path);
    raw(f, "CREATE TABLE theirs (x)");
    refused(f, "another program", "comfymux.db");
    assert_int_equal(journal_byte(path), 1); /* not even its journal's mode was changed */
    raw(f, "DROP TABLE theirs; PRAGMA application_id = 77");
    refused(f, "another program", "comfymux.db");
    unlink(path);
    fx_reopen(f);
}

static void migrations_in_order(void **state)
{
    static const char *const one[] = {"CREATE TABLE a (x)", "INSERT INTO a VALUES (1)", NULL};
    static const char *const two[] = {"ALTER TABLE a ADD COLUMN y", "UPDATE a SET y = x + 1", NULL};
    static const char *const bad[] = {"UPDATE a SET x = 9", "no such thing", NULL};
    static const char *const *const good_way[] = {one, two}, *const *const bad_way[] = {one, two, bad};
    struct fx *f = *state;
    struct err e = {0};
    char path[96];
    struct db db;

    snprintf(path, sizeof(path), "%s/other.db", f->dir);
    assert_int_equal(db_open(&db, path, false, &e), 0);
    assert_int_equal(db_int(&db, 0, "PRAGMA synchronous", ""), 2); /* FULL: a commit is an fsync */
    assert_int_equal(db_int(&db, 0, "PRAGMA foreign_keys", ""), 1);
    assert_int_equal(sqlite_migrate(&db, path, good_way, 1, &e), 0);
    assert_int_equal(db_int(&db, 0, "PRAGMA user_version", ""), 1);
    assert_int_equal(sqlite_migrate(&db, path, good_way, 2, &e), 0);
    assert_int_equal(db_int(&db, 0, "SELECT y FROM a", ""), 2);
    assert_int_equal(sqlite_migrate(&db, path, good_way, 2, &e), 0); /* nothing to do */
    assert_int_equal(sqlite_migrate(&db, path, bad_way, 3, &e), -1);
    assert_non_null(strstr(e.msg, "schema 3"));
    assert_int_equal(db_int(&db, 0, "PRAGMA user_version", ""), 2); /* all or nothing */
    assert_int_equal(db_int(&db, 0, "SELECT x FROM a", ""), 1);
    assert_int_equal(sqlite_migrate(&db, path, good_way, 1, &e), -1); /* an older program */
    db_close(&db);
}

static void second_process_is_refused(void **state)
{
    struct fx *f = *state;
    char me[32];
    int status;
    pid_t pid;

    snprintf(me, sizeof(me), "process %d)", (int)getpid());
    refused(f, "in use by another comfymux", me);
    pid = fork();
    if (pid == 0) {
        struct err e = {0};

        _exit(store_sqlite_open(loop_new(&e), f->dir, &e) || !strstr(e.msg, me));
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    fx_submit(f, "j1"); /* who was first is not disturbed */
    fx_reopen(f);       /* and lets go */
}

static void overwrite(struct fx *f, const char *name, off_t at, size_t n)
{
    char path[96], junk[4096];
    int fd;

    memset(junk, 0xa5, sizeof(junk));
    snprintf(path, sizeof(path), "%s/%s", f->dir, name);
    fd = open(path, O_WRONLY);
    assert_true(fd >= 0);
    for (; n > 0; n -= n < sizeof(junk) ? n : sizeof(junk), at += sizeof(junk))
        assert_true(pwrite(fd, junk, n < sizeof(junk) ? n : sizeof(junk), at) > 0);
    close(fd);
}

static void a_damaged_file_is_named(void **state)
{
    struct fx *f = *state;

    for (int i = 0; i < 50; i++) {
        char id[16];

        snprintf(id, sizeof(id), "j%d", i);
        fx_submit(f, id);
    }
    store_close(&f->s);
    overwrite(f, "comfymux.db", 4096, 200 * 1024); /* all but the first page */
    refused(f, "is damaged", "comfymux.db");
    overwrite(f, "comfymux.db", 0, 100);
    refused(f, "is damaged", "comfymux.db");
}

/* --- space --- */
static enum store_status submit_big(struct fx *f, const char *id, size_t size)
{
    struct bytes *g = bytes_alloc(size);
    struct store_submit in = {.id = id, .tenant = "t", .graph = g};

    memset(g->data, 'x', size);
    fx_clear(f);
    store_submit(f->s, &in, on_submitted, f);
    bytes_unref(g);
    return fx_wait(f);
}

static void limit_files(rlim_t max, struct rlimit *old)
{
    struct rlimit small;

    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, old), 0);
    small = *old;
    small.rlim_cur = max;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
}

static void a_full_disk_passes(void **state)
{
    struct fx *f = *state;
    struct store_stats st;
    struct rlimit old;

    assert_int_equal(fx_submit(f, "before"), STORE_OK);
    limit_files(1 << 20, &old);
    assert_int_equal(submit_big(f, "big", 2 << 20), STORE_FULL);
    store_stats(f->s, &st);
    assert_true(st.full);
    assert_non_null(st.trouble);
    assert_null(fx_get(f, "big")); /* nothing was changed, reads go on */
    assert_int_equal(submit_big(f, "big", 2 << 20), STORE_FULL);
    assert_int_equal(fx_submit(f, "small"), STORE_OK); /* what fits, fits */
    store_stats(f->s, &st);
    assert_false(st.full);
    assert_null(st.trouble);
    setrlimit(RLIMIT_FSIZE, &old);
    assert_int_equal(submit_big(f, "big", 2 << 20), STORE_OK);
    fx_reopen(f);
    assert_int_equal(fx_get(f, "big")->graph->len, 2 << 20);
    assert_non_null(fx_get(f, "before"));
    assert_non_null(fx_get(f, "small"));
}

static void really_no_space(void **state)
{
    struct fx *f = *state;
    char dir[80];
    int failed = 0, made = 0;
    struct fx small = *f;
    struct store_stats st;

    snprintf(dir, sizeof(dir), "%s/small", f->dir);
    assert_int_equal(mkdir(dir, 0700), 0);
    if (mount("none", dir, "tmpfs", 0, "size=1m") < 0)
        skip();
    snprintf(small.dir, sizeof(small.dir), "%.60s", dir);
    small.text = (struct buf)BUF_INIT;
    small.s = store_sqlite_open(f->l, small.dir, NULL);
    assert_non_null(small.s);
    for (int i = 0; i < 40; i++) {
        char id[16];

        snprintf(id, sizeof(id), "j%d", i);
        if (submit_big(&small, id, 60000) == STORE_OK)
            made++;
        else
            failed++;
    }
    assert_true(made > 0 && failed > 0);
    assert_int_equal(small.st, STORE_FULL);
    store_stats(small.s, &st);
    assert_non_null(st.trouble);
    assert_int_equal(mount("none", dir, "tmpfs", MS_REMOUNT, "size=8m"), 0);
    for (int i = 0; i < 6000 && st.trouble; i++) { /* noticed by itself: nobody writes */
        usleep(10000);
        store_stats(small.s, &st);
    }
    assert_null(st.trouble);
    assert_false(st.full);
    for (int i = 40; i < 50; i++) {
        char id[16];

        snprintf(id, sizeof(id), "j%d", i);
        assert_int_equal(submit_big(&small, id, 60000), STORE_OK);
    }
    fx_ids(&small, &(struct store_filter){.limit = 100});
    assert_int_equal(small.list.n, made + 10);
    fx_clear(&small);
    buf_free(&small.text);
    store_close(&small.s);
    assert_int_equal(umount(dir), 0);
}

static void on_unlink(const uint8_t h[BLAKE3_LEN], void *arg)
{
    (void)h;
    (*(int *)arg)++;
}

/* A file goes only after the removal of its row was committed. */
static void nothing_is_unlinked_without_a_commit(void **state)
{
    struct fx *f = *state;
    struct rlimit old;
    int unlinked = 0;

    CALL(f, blob_unpin, fx_pin(f, "A", 1), on_done);
    limit_files(1, &old);
    assert_int_equal(CALL(f, blob_collect, 9, 0, 10, on_unlink, &unlinked, on_collected), STORE_FULL);
    setrlimit(RLIMIT_FSIZE, &old);
    assert_int_equal(unlinked, 0);
    assert_int_equal(f->col.removed, 0);
    assert_true(fx_known(f, "A"));
    assert_int_equal(CALL(f, blob_collect, 9, 0, 10, on_unlink, &unlinked, on_collected), STORE_OK);
    assert_int_equal(unlinked, 1);
}

/* --- groups --- */
struct tally {
    int ok, full, other, n, want;
    bool all;
};

static void on_tally(const struct store_submitted *r, void *arg)
{
    struct tally *t = arg;

    t->ok += r->status == STORE_OK;
    t->full += r->status == STORE_FULL;
    t->other += r->status != STORE_OK && r->status != STORE_FULL;
    t->all = ++t->n == t->want;
}

static void give(struct fx *f, struct tally *t, int from, int to, size_t size)
{
    for (int i = from; i < to; i++) {
        char id[16];
        struct bytes *g = bytes_alloc(size);
        struct store_submit in = {.id = id, .tenant = "t", .graph = g};

        memset(g->data, 'x', size);
        snprintf(id, sizeof(id), "j%d", i);
        store_submit(f->s, &in, on_tally, t);
        bytes_unref(g);
        t->want++;
    }
}

/* Another connection holds the write lock, so what is given piles up; then it is committed in groups of 64,
 * whatever the machine does. */
static sqlite3 *writer_held(struct fx *f)
{
    char path[96];
    sqlite3 *db;

    snprintf(path, sizeof(path), "%s/comfymux.db", f->dir);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    sqlite3_busy_timeout(db, 5000);
    assert_int_equal(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    return db;
}

static void writes_are_committed_in_groups(void **state)
{
    struct fx *f = *state;
    struct store_stats before, after;
    struct tally t = {0};
    sqlite3 *db;

    store_stats(f->s, &before);
    for (int i = 0; i < 5; i++) {
        give(f, &t, i, i + 1, 10);
        fx_until(f, &t.all);
        t.all = false;
    }
    store_stats(f->s, &after);
    assert_int_equal(after.commits - before.commits, 5); /* nobody waits for a group */
    db = writer_held(f);
    give(f, &t, 5, 5 + 3 * 64, 10);
    sqlite3_close(db);
    fx_until(f, &t.all);
    store_stats(f->s, &before);
    assert_int_equal(t.ok, 5 + 3 * 64);
    assert_in_range(before.commits - after.commits, 3, 4);
    assert_int_equal(before.writes - after.writes, 3 * 64);
}

static void one_bad_request_does_not_fail_its_group(void **state)
{
    struct fx *f = *state;
    struct store_stats before, after;
    struct tally t = {0};
    struct rlimit old;
    sqlite3 *db;

    store_stats(f->s, &before);
    limit_files(1 << 20, &old);
    db = writer_held(f);
    give(f, &t, 0, 20, 10);
    give(f, &t, 20, 21, 2 << 20);
    give(f, &t, 21, 40, 10);
    sqlite3_close(db);
    fx_until(f, &t.all);
    setrlimit(RLIMIT_FSIZE, &old);
    assert_int_equal(t.ok, 39);
    assert_int_equal(t.full, 1);
    assert_null(fx_get(f, "j20"));
    store_stats(f->s, &after);
    assert_int_equal(after.failures - before.failures, 1);
    fx_ids(f, &(struct store_filter){.limit = 100, .oldest_first = true});
    assert_int_equal(f->list.n, 39);
    for (size_t i = 0; i < 39; i++)
        assert_int_equal(f->list.rows[i]->s.seq, i + 1); /* no number was lost on the way */
}

/* What was given is copied: the caller's memory may be gone when it is executed. */
static void arguments_are_copied(void **state)
{
    struct fx *f = *state;
    sqlite3 *db = writer_held(f);
    struct store_submit *in = calloc(1, sizeof(*in));
    struct store_event *ev = calloc(1, sizeof(*ev));
    char *id = strdup("j1"), *note = strdup("note"), *kind = strdup("state"), *data = strdup("{}");

    *ev = (struct store_event){kind, data};
    *in = (struct store_submit){.id = id,
                                .tenant = note,
                                .client_id = note,
                                .window_id = kind,
                                .key = data,
                                .note = note,
                                .graph = bytes_new("g", 1),
                                .events = ev,
                                .n_events = 1};
    store_submit(f->s, in, on_submitted, f);
    bytes_unref(in->graph);
    free(id);
    free(note);
    free(kind);
    free(data);
    free(ev);
    free(in);
    sqlite3_close(db);
    assert_int_equal(fx_wait(f), STORE_OK);
    assert_string_equal(fx_get(f, "j1")->timeline[0].note, "note");
}

/* --- secrets --- */
static bool holds(struct fx *f, const char *name, const char *what)
{
    char path[96];
    struct buf b = BUF_INIT;
    char chunk[65536];
    bool found;
    size_t n;
    FILE *file;

    snprintf(path, sizeof(path), "%s/%s", f->dir, name);
    file = fopen(path, "r");
    if (file == NULL)
        return false;
    while ((n = fread(chunk, 1, sizeof(chunk), file)) > 0)
        buf_put(&b, chunk, n);
    fclose(file);
    found = b.len && memmem(b.data, b.len, what, strlen(what)) != NULL;
    buf_free(&b);
    return found;
}

static void wiped_secrets_are_in_no_file(void **state)
{
    struct fx *f = *state;
    struct bytes *g = bytes_new("{}", 2), *s = bytes_new("SECRET-SECRET-SECRET", 20);
    struct store_submit in = {.id = "j1", .tenant = "t", .graph = g, .secrets = s};

    assert_int_equal(CALL(f, submit, &in, on_submitted), STORE_OK);
    bytes_unref(g);
    bytes_unref(s);
    assert_true(holds(f, "comfymux.db-wal", "SECRET-SECRET-SECRET"));
    fx_reopen(f);
    assert_true(holds(f, "comfymux.db", "SECRET-SECRET-SECRET"));
    assert_int_equal(fx_step(f, "j1", 1, JOB_FAILED, 5), STORE_OK);
    fx_reopen(f);
    assert_false(holds(f, "comfymux.db", "SECRET-SECRET-SECRET"));
    assert_false(holds(f, "comfymux.db-wal", "SECRET-SECRET-SECRET"));
}

static void files_are_private(void **state)
{
    static const char *const names[] = {"comfymux.db", "comfymux.db-wal", "comfymux.lock"};
    struct fx *f = *state;
    struct stat st;
    char path[96];

    fx_submit(f, "j1");
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        snprintf(path, sizeof(path), "%s/%s", f->dir, names[i]);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0600);
    }
}

static void a_folder_that_cannot_be_used_is_named(void **state)
{
    struct fx *f = *state;
    struct err e = {0};
    char path[96];

    assert_null(store_sqlite_open(f->l, "/nowhere/at/all", &e));
    assert_non_null(strstr(e.msg, "/nowhere/at/all"));
    store_close(&f->s);
    snprintf(path, sizeof(path), "%s/comfymux.db", f->dir);
    unlink(path);
    assert_int_equal(mkdir(path, 0700), 0);
    refused(f, "comfymux.db", "");
    rmdir(path);
    fx_reopen(f);
}

/* --- threads --- */
static void on_any_submit(const struct store_submitted *r, void *arg)
{
    (void)r;
    (*(int *)arg)++;
}

static void on_any(enum store_status st, void *arg)
{
    (void)st;
    (*(int *)arg)++;
}

static void on_any_record(enum store_status st, struct job_record *rec, void *arg)
{
    (void)st;
    job_record_free(&rec);
    (*(int *)arg)++;
}

static void on_any_list(struct store_list *l, void *arg)
{
    store_list_free(l);
    (*(int *)arg)++;
}

static void on_any_pin(const struct store_pin *p, void *arg)
{
    (void)p;
    (*(int *)arg)++;
}

/* Writers, readers and the loop at once: for the sanitizers. */
static void everything_at_once(void **state)
{
    struct fx *f = *state;
    struct store_filter l = {.limit = 20, .parts = JOB_PART_RECORD};
    struct store_stats st;
    uint8_t h[BLAKE3_LEN];
    int n = 0, given = 0;
    bool all = false;

    for (int i = 0; i < 300; i++) {
        struct bytes *g = bytes_new("graph", 5);
        char id[16];
        struct store_submit in = {.id = id, .tenant = "t", .client_id = "c", .graph = g, .answer = g};
        struct store_step step = {.id = id, .version = 1, .state = i % 2 ? JOB_RUNNING : JOB_FAILED};

        snprintf(id, sizeof(id), "j%d", i);
        store_submit(f->s, &in, on_any_submit, &n);
        store_step(f->s, &step, on_any, &n);
        store_get(f->s, id, ~0u, on_any_record, &n);
        store_list(f->s, &l, on_any_list, &n);
        hash_of(h, id);
        store_blob_pin(f->s, h, 1, on_any_pin, &n);
        store_stats(f->s, &st);
        given += 5;
        bytes_unref(g);
        if (i % 10 == 0)
            loop_turn(f->l, 0);
    }
    while (!all) {
        loop_turn(f->l, 100);
        all = n == given;
    }
    store_stats(f->s, &st);
    assert_int_equal(st.writes, 900);
    assert_int_equal(st.reads, 600);
    assert_true(st.commits <= 900);
    assert_int_equal(st.finished, 150);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(what_was_answered_survives_sigkill),
        T(newer_schema_is_refused),
        T(schema_1_is_brought_up_to_date),
        T(another_programs_database_is_refused),
        T(migrations_in_order),
        T(second_process_is_refused),
        T(a_damaged_file_is_named),
        T(a_full_disk_passes),
        T(really_no_space),
        T(nothing_is_unlinked_without_a_commit),
        T(writes_are_committed_in_groups),
        T(one_bad_request_does_not_fail_its_group),
        T(arguments_are_copied),
        T(wiped_secrets_are_in_no_file),
        T(files_are_private),
        T(a_folder_that_cannot_be_used_is_named),
        T(everything_at_once),
    };

    if (getenv("LOG") == NULL)
        log_set_sink(fx_no_log, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
