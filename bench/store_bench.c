/* How fast is the store, empty and full? Usage: store_bench DIR [QUEUED FINISHED]
 * DIR must be empty and on the disk to be measured. */
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "net/loop.h"
#include "store/store_mem.h"
#include "store/store_sqlite.h"

static struct loop *loop;
static struct store *store;
static struct bytes *graph;
static unsigned made;

static double now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec * 1e3 + (double)ts.tv_nsec / 1e6;
}

static void die(const char *what)
{
    fprintf(stderr, "store_bench: %s\n", what);
    exit(1);
}

/* --- submits --- */
struct load {
    unsigned left, open;
    double *took;
    unsigned n;
};
struct one {
    struct load *l;
    double began;
    char id[UUID_SIZE];
};

static void give(struct load *l);

static void on_submitted(const struct store_submitted *r, void *arg)
{
    struct one *o = arg;
    struct load *l = o->l;

    if (r->status != STORE_OK)
        die("a submit failed");
    l->took[l->n++] = now_ms() - o->began;
    free(o);
    l->open--;
    give(l);
}

static void give(struct load *l)
{
    struct one *o;
    struct store_submit in = {
        .tenant = "default", .client_id = "bench-client", .window_id = "w", .graph = graph, .answer = graph};
    struct store_event ev = {"state", "{\"state\":\"queued\"}"};

    if (l->left == 0)
        return;
    l->left--;
    l->open++;
    o = malloc(sizeof(*o));
    o->l = l;
    uuid_v4(clock_system(), o->id);
    made++;
    in.id = o->id;
    in.events = &ev;
    in.n_events = 1;
    o->began = now_ms();
    store_submit(store, &in, on_submitted, o);
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static void submits(const char *what, unsigned n, unsigned in_flight)
{
    struct load l = {.left = n, .took = calloc(n, sizeof(double))};
    struct store_stats before, after;
    double t0 = now_ms(), t;

    store_stats(store, &before);
    for (unsigned i = 0; i < in_flight; i++)
        give(&l);
    while (l.open)
        loop_turn(loop, 1000);
    t = now_ms() - t0;
    store_stats(store, &after);
    qsort(l.took, l.n, sizeof(double), by_size);
    printf("%-34s %8.0f submits/s %7.0f commits/s   p50 %.2f ms  p99 %.2f ms\n", what, n / t * 1e3,
           (double)(after.commits - before.commits) / t * 1e3, l.took[n / 2], l.took[n * 99 / 100]);
    free(l.took);
}

/* --- whole lives --- */
struct life {
    struct load *l;
    char id[UUID_SIZE];
    uint32_t version;
};

static void life_begin(struct load *l);

static void life_step(enum store_status st, void *arg)
{
    static const enum job_state states[] = {JOB_QUEUED, JOB_DISPATCHING, JOB_RUNNING, JOB_COLLECTING,
                                            JOB_SUCCEEDED};
    struct life *j = arg;
    struct job_attempt a = {.n = 1, .server = (char *)"gpu0", .started_at = 1};
    struct store_event ev = {"state", "{\"state\":\"something\"}"};
    struct store_step in = {.id = j->id, .version = j->version, .at = 5, .events = &ev, .n_events = 1};

    if (st != STORE_OK)
        die("a step failed");
    if (j->version == 5) {
        j->l->open--;
        life_begin(j->l);
        free(j);
        return;
    }
    in.state = states[j->version];
    memcpy(a.upstream_id, j->id, UUID_SIZE);
    in.begin = j->version == 1 ? &a : NULL;
    in.end = j->version == 4 ? &a : NULL;
    in.history = j->version == 4 ? graph : NULL;
    j->version++;
    store_step(store, &in, life_step, j);
}

static void life_submitted(const struct store_submitted *r, void *arg)
{
    struct life *j = arg;

    j->version = 1;
    life_step(r->status, j);
}

static void life_begin(struct load *l)
{
    struct life *j;
    struct store_submit in = {
        .tenant = "default", .client_id = "bench-client", .graph = graph, .answer = graph};

    if (l->left == 0)
        return;
    l->left--;
    l->open++;
    j = calloc(1, sizeof(*j));
    j->l = l;
    uuid_v4(clock_system(), j->id);
    in.id = j->id;
    store_submit(store, &in, life_submitted, j);
}

static void lives(unsigned n, unsigned in_flight)
{
    struct load l = {.left = n};
    double t0 = now_ms();

    for (unsigned i = 0; i < in_flight; i++)
        life_begin(&l);
    while (l.open)
        loop_turn(loop, 1000);
    printf("%-34s %8.0f jobs/s (5 commits each)\n", "whole lives, 64 in flight", n / (now_ms() - t0) * 1e3);
}

/* --- reads --- */
static bool answered;
static size_t rows;
static int64_t next;

static void on_unfinished(enum store_status st, struct job_summary *s, size_t n, void *arg)
{
    (void)st, (void)s, (void)arg;
    rows = n;
    answered = true;
}

static void on_list(struct store_list *l, void *arg)
{
    (void)arg;
    rows = l->n;
    next = l->next;
    store_list_free(l);
    answered = true;
}

static void on_trimmed(const struct store_trimmed *t, void *arg)
{
    (void)arg;
    rows = t->jobs;
    answered = true;
}

static void took(const char *what, double t0)
{
    while (!answered)
        loop_turn(loop, 1000);
    answered = false;
    printf("%-34s %8.2f ms  %zu rows\n", what, now_ms() - t0, rows);
}

static void page(const char *what, struct store_filter f)
{
    double t0 = now_ms();

    f.limit = 100;
    store_list(store, &f, on_list, NULL);
    took(what, t0);
}

static void reads(int64_t middle)
{
    struct store_keep keep = {.now = 1, .count = 1, .max_rows = 1000};
    double t0 = now_ms();

    store_unfinished(store, on_unfinished, NULL);
    took("unfinished", t0);
    page("page of all", (struct store_filter){.parts = JOB_PART_RECORD});
    page("page of all, from the middle", (struct store_filter){.after = middle});
    page("page of one tenant", (struct store_filter){.tenant = "default"});
    page("page of the queued", (struct store_filter){.tenant = "default", .states = 1});
    page("page of the failed", (struct store_filter){.states = JOB_STATE_BIT(JOB_FAILED)});
    page("page of a client", (struct store_filter){.client_id = "c7", .tenant = "default"});
    page("page of a server, ended", (struct store_filter){.server = "gpu3", .states = JOB_STATES_ENDED});
    page("page of history",
         (struct store_filter){.tenant = "default", .in_history = true, .parts = JOB_PART_HISTORY});
    page("page of history, offset 10000",
         (struct store_filter){.tenant = "default", .in_history = true, .offset = 10000});
    t0 = now_ms();
    store_trim(store, &keep, on_trimmed, NULL);
    took("trim, 1000 jobs", t0);
}

/* Rows as the program leaves them, written past it because there are many. */
static void fill(const char *dir, long queued, long finished)
{
    char path[512], *sql;
    sqlite3 *db;
    double t0 = now_ms();

    snprintf(path, sizeof(path), "%s/comfymux.db", dir);
    if (sqlite3_open(path, &db) != SQLITE_OK)
        die(sqlite3_errmsg(db));
    sql = sqlite3_mprintf(
        "PRAGMA synchronous = OFF; PRAGMA cache_size = -262144; BEGIN;"
        "CREATE TEMP TABLE n AS WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < %ld)"
        " SELECT i FROM c;"
        "INSERT INTO jobs (id, tenant, state, version, flags, attempt, upstream_id, server, client_id, "
        "window_id,"
        " number, priority, created_at, started_at, finished_at, deadline, state_at, code, fin, hist, stored,"
        " body_hash) SELECT lower(hex(randomblob(4))||'-'||hex(randomblob(2))||'-'||hex(randomblob(2))||'-'||"
        " hex(randomblob(2))||'-'||hex(randomblob(6))), 'default', CASE i %% 10 WHEN 0 THEN 5 ELSE 4 END, 5, "
        "0,"
        " 1, 'x', 'gpu' || (i %% 8), 'c' || (i %% 1000), 'w' || (i %% 300), i, 0, i, i, i, 0, i, 0, i, i, 1,"
        " zeroblob(32) FROM n WHERE i <= %ld;"
        "INSERT INTO jobs (id, tenant, state, version, flags, attempt, client_id, number, priority, "
        "created_at,"
        " deadline, state_at, body_hash) SELECT lower(hex(randomblob(4))||'-'||hex(randomblob(2))||'-'||"
        " hex(randomblob(2))||'-'||hex(randomblob(2))||'-'||hex(randomblob(6))), 'default', 0, 1, 0, 0,"
        " 'c' || (i %% 1000), i, 0, i, 0, i, zeroblob(32) FROM n WHERE i > %ld;"
        "INSERT INTO job_docs (seq, tenant, graph, answer) SELECT seq, tenant, zeroblob(1000), zeroblob(100)"
        " FROM jobs WHERE seq NOT IN (SELECT seq FROM job_docs);"
        "INSERT INTO job_history (seq, tenant, body) SELECT seq, tenant, zeroblob(300) FROM jobs WHERE fin > "
        "0"
        " AND seq NOT IN (SELECT seq FROM job_history);"
        "INSERT OR IGNORE INTO timeline (seq, version, tenant, at, state) SELECT seq, v, tenant, 0, 0 FROM "
        "jobs,"
        " (SELECT 1 v UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 UNION SELECT 5) WHERE v <= version;"
        "INSERT OR IGNORE INTO attempts (seq, n, tenant, upstream_id, server, started_at) SELECT seq, 1, "
        "tenant,"
        " id, server, 1 FROM jobs WHERE fin > 0;"
        "INSERT INTO blobs (hash, size) SELECT randomblob(32), 1000 FROM n WHERE i <= %ld;"
        "INSERT INTO outputs (seq, attempt, n, tenant, filename, subfolder, type, size, hash, at, blob)"
        " SELECT seq, 1, 0, tenant, 'ComfyUI_' || seq, '', 'output', 1, zeroblob(32), 1,"
        " (SELECT min(id) FROM blobs) - 1 + i FROM n JOIN jobs ON fin = i WHERE i <= %ld"
        " AND seq NOT IN (SELECT seq FROM outputs);"
        "COMMIT; DROP TABLE n; PRAGMA wal_checkpoint(TRUNCATE)",
        queued + finished, finished, finished, finished, finished);
    if (sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK)
        die(sqlite3_errmsg(db));
    sqlite3_free(sql);
    sqlite3_close(db);
    printf("filled with %ld queued and %ld finished in %.0f s\n", queued, finished, (now_ms() - t0) / 1e3);
}

/* 300 jobs, five changes each, in memory: what one seed of a simulation costs the store. */
static void seeds(unsigned n)
{
    double t0 = now_ms();

    for (unsigned seed = 0; seed < n; seed++) {
        struct load l = {.left = 300};

        store = store_mem_new();
        for (int i = 0; i < 64; i++)
            life_begin(&l);
        store_mem_settle(store);
        store_close(&store);
    }
    printf("%-34s %8.2f ms each\n", "in memory, 300 whole lives", (now_ms() - t0) / n);
}

int main(int argc, char **argv)
{
    long queued = argc > 3 ? atol(argv[2]) : 0, finished = argc > 3 ? atol(argv[3]) : 0;
    struct err e = {0};

    if (argc != 2 && argc != 4) {
        fprintf(stderr, "usage: store_bench DIR [QUEUED FINISHED]\n");
        return 2;
    }
    log_setup(LOG_ERROR, LOG_TEXT);
    graph = bytes_alloc(4000);
    memset(graph->data, 'g', graph->len);
    seeds(100);
    loop = loop_new(&e);
    store = loop ? store_sqlite_open(loop, argv[1], &e) : NULL;
    if (store == NULL)
        die(e.msg);
    submits("one by one", 2000, 1);
    submits("64 in flight", 20000, 64);
    lives(4000, 64);
    if (queued + finished > 0) {
        double t0;

        store_close(&store);
        fill(argv[1], queued, finished);
        t0 = now_ms();
        store = store_sqlite_open(loop, argv[1], &e);
        if (store == NULL)
            die(e.msg);
        printf("%-34s %8.2f ms\n", "open", now_ms() - t0);
        submits("full, one by one", 2000, 1);
        submits("full, 64 in flight", 20000, 64);
        lives(4000, 64);
        reads((queued + finished) / 2);
    }
    store_close(&store);
    loop_free(&loop);
    bytes_unref(graph);
    return 0;
}
