/* For the tests of store/: one store under test, whichever it is, and its verbs as calls that wait. */
#ifndef STORE_STORE_TEST_UTIL_H
#define STORE_STORE_TEST_UTIL_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <ftw.h>
#include <unistd.h>

#include <sys/stat.h>

#include "base/buf.h"
#include "base/log.h"
#include "net/loop.h"
#include "store/store_mem.h"
#include "store/store_sqlite.h"

struct fx {
    struct store *s;
    struct loop *l; /* SQLite; NULL: in memory */
    char dir[64];
    bool done; /* the answer waited for has come */
    /* what it was */
    enum store_status st;
    struct store_submitted sub;
    char sub_tenant[64], sub_answer[256];
    struct job_record *rec;
    struct store_list list;
    struct store_file file;
    char file_name[128], file_sub[128], file_type[32], file_job[UUID_SIZE], file_server[64], file_mime[64];
    struct store_pin pin;
    struct store_collected col;
    struct store_trimmed trim;
    struct buf text; /* lists of small things, printed */
    int64_t oldest, newest;
    size_t n;
};

/* Refusals are provoked here by the hundred: keep their log lines from the reports of real failures. */
static inline void fx_no_log(void *arg, enum log_level level, const char *line, size_t len)
{
    (void)arg, (void)level, (void)line, (void)len;
}

static inline int fx_unlink(const char *path, const struct stat *st, int flag, struct FTW *w)
{
    (void)st, (void)flag, (void)w;
    return remove(path);
}

static inline void fx_rmtree(const char *dir)
{
    nftw(dir, fx_unlink, 16, FTW_DEPTH | FTW_PHYS);
}

static inline void fx_tmpdir(char dir[64])
{
    /* in memory where there is such a file system: what is synced here need not outlive the machine */
    snprintf(dir, 64, "%s/store-test-XXXXXX", access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
    assert_non_null(mkdtemp(dir));
}

static inline void fx_open(struct fx *f, bool sqlite)
{
    struct err e = {0};

    memset(f, 0, sizeof(*f));
    if (!sqlite) {
        f->s = store_mem_new();
        return;
    }
    fx_tmpdir(f->dir);
    f->l = loop_new(&e);
    assert_non_null(f->l);
    f->s = store_sqlite_open(f->l, f->dir, &e);
    if (f->s == NULL)
        fail_msg("%s", e.msg);
}

static inline void fx_clear(struct fx *f)
{
    job_record_free(&f->rec);
    store_list_free(&f->list);
    buf_clear(&f->text);
}

static inline void fx_close(struct fx *f)
{
    fx_clear(f);
    buf_free(&f->text);
    store_close(&f->s);
    if (f->l) {
        loop_free(&f->l);
        fx_rmtree(f->dir);
    }
}

/* Turn until the answer is there; the deadline is a safety net only. */
static inline void fx_until(struct fx *f, bool *done)
{
    if (f->l == NULL) {
        store_mem_settle(f->s);
    } else {
        struct clock *c = clock_system();
        int64_t end = c->mono_ms(c) + 60000;

        while (!*done && c->mono_ms(c) < end)
            loop_turn(f->l, 1000);
    }
    assert_true(*done);
}

static inline enum store_status fx_wait(struct fx *f)
{
    fx_until(f, &f->done);
    f->done = false;
    return f->st;
}

static inline void fx_reopen(struct fx *f)
{
    struct err e = {0};

    if (f->l == NULL) {
        store_mem_settle(f->s);
        store_mem_crash(f->s);
        return;
    }
    store_close(&f->s);
    f->s = store_sqlite_open(f->l, f->dir, &e);
    if (f->s == NULL)
        fail_msg("%s", e.msg);
}

/* --- callbacks --- */
static inline void on_done(enum store_status st, void *arg)
{
    struct fx *f = arg;

    assert_false(f->done);
    f->st = st;
    f->done = true;
}

static inline void on_submitted(const struct store_submitted *r, void *arg)
{
    struct fx *f = arg;

    f->sub = *r;
    snprintf(f->sub_tenant, sizeof(f->sub_tenant), "%s", r->tenant ? r->tenant : "");
    snprintf(f->sub_answer, sizeof(f->sub_answer), "%s", r->answer ? r->answer->data : "");
    on_done(r->status, f);
}

static inline void on_record(enum store_status st, struct job_record *rec, void *arg)
{
    struct fx *f = arg;

    assert_true((st == STORE_OK) == (rec != NULL));
    f->rec = rec;
    on_done(st, f);
}

static inline void on_list(struct store_list *l, void *arg)
{
    struct fx *f = arg;

    f->list = *l;
    on_done(l->status, f);
}

static inline void fx_take_file(struct fx *f, const struct store_file *from)
{
    f->file = *from;
    snprintf(f->file_name, sizeof(f->file_name), "%s", from->name ? from->name : "");
    snprintf(f->file_sub, sizeof(f->file_sub), "%s", from->subfolder ? from->subfolder : "");
    snprintf(f->file_type, sizeof(f->file_type), "%s", from->type ? from->type : "");
    snprintf(f->file_job, sizeof(f->file_job), "%s", from->job ? from->job : "");
    snprintf(f->file_server, sizeof(f->file_server), "%s", from->server ? from->server : "");
    snprintf(f->file_mime, sizeof(f->file_mime), "%s", from->mime ? from->mime : "");
}

static inline void on_file(const struct store_file *file, void *arg)
{
    struct fx *f = arg;

    fx_take_file(f, file);
    on_done(file->status, f);
}

static inline void on_files(enum store_status st, const struct store_file *v, size_t n, void *arg)
{
    struct fx *f = arg;

    for (size_t i = 0; i < n; i++)
        buf_printf(&f->text, "%s|%s|%s|%lld ", v[i].type, v[i].subfolder, v[i].name, (long long)v[i].size);
    on_done(st, f);
}

static inline void on_user_files(enum store_status st, const struct store_file *v, size_t n, void *arg)
{
    struct fx *f = arg;

    for (size_t i = 0; i < n; i++)
        buf_printf(&f->text, "%s ", v[i].name);
    on_done(st, f);
}

static inline void on_pin(const struct store_pin *p, void *arg)
{
    struct fx *f = arg;

    f->pin = *p;
    on_done(p->status, f);
}

static inline void on_collected(const struct store_collected *c, void *arg)
{
    struct fx *f = arg;

    f->col = *c;
    on_done(c->status, f);
}

static inline void on_trimmed(const struct store_trimmed *t, void *arg)
{
    struct fx *f = arg;

    f->trim = *t;
    on_done(t->status, f);
}

static inline void on_summaries(enum store_status st, struct job_summary *s, size_t n, void *arg)
{
    struct fx *f = arg;

    for (size_t i = 0; i < n; i++)
        buf_printf(&f->text, "%s:%s ", s[i].id, job_state_name(s[i].state));
    f->n = n;
    on_done(st, f);
}

static inline void on_strays(enum store_status st, const struct store_stray *s, size_t n, void *arg)
{
    struct fx *f = arg;

    for (size_t i = 0; i < n; i++)
        buf_printf(&f->text, "%s/%s/%s/%lld ", s[i].server, s[i].upstream_id, s[i].job,
                   (long long)s[i].since);
    on_done(st, f);
}

static inline void on_servers(enum store_status st, const struct store_server *s, size_t n, void *arg)
{
    struct fx *f = arg;

    for (size_t i = 0; i < n; i++)
        buf_printf(&f->text, "%s=%s,%d,%s,%d ", s[i].name, s[i].url, s[i].depth, s[i].tags ? s[i].tags : "-",
                   s[i].drained);
    on_done(st, f);
}

static inline void on_events(enum store_status st, const struct store_logged *e, size_t n, int64_t oldest,
                             int64_t newest, void *arg)
{
    struct fx *f = arg;

    for (size_t i = 0; i < n; i++)
        buf_printf(&f->text, "%lld:%s:%s:%s:%s ", (long long)e[i].id, e[i].tenant, e[i].job, e[i].kind,
                   e[i].data);
    f->oldest = oldest;
    f->newest = newest;
    f->n = n;
    on_done(st, f);
}

static inline void on_doc(enum store_status st, struct bytes *doc, void *arg)
{
    struct fx *f = arg;

    if (doc)
        buf_put(&f->text, doc->data, doc->len);
    f->n = doc ? doc->len : 0;
    on_done(st, f);
}

/* --- verbs that wait --- */
#define CALL(f, verb, ...) (fx_clear(f), store_##verb((f)->s, __VA_ARGS__, (f)), fx_wait(f))
#define CALL0(f, verb, cb) (fx_clear(f), store_##verb((f)->s, cb, (f)), fx_wait(f))

static inline void hash_of(uint8_t h[BLAKE3_LEN], const char *content)
{
    memset(h, 0, BLAKE3_LEN);
    snprintf((char *)h, BLAKE3_LEN, "%s", content);
}

static inline int64_t fx_pin(struct fx *f, const char *content, int64_t size)
{
    uint8_t h[BLAKE3_LEN];

    hash_of(h, content);
    assert_int_equal(CALL(f, blob_pin, h, size, on_pin), STORE_OK);
    return f->pin.pin;
}

static inline bool fx_known(struct fx *f, const char *content)
{
    uint8_t h[BLAKE3_LEN];

    hash_of(h, content);
    return CALL(f, blob_known, h, on_done) == STORE_OK;
}

/* A plain job of tenant "t": its graph is its id. */
static inline enum store_status fx_submit(struct fx *f, const char *id)
{
    struct bytes *g = bytes_new(id, strlen(id));
    struct store_submit in = {.id = id, .tenant = "t", .graph = g, .created_at = 1000};

    fx_clear(f);
    store_submit(f->s, &in, on_submitted, f);
    bytes_unref(g);
    return fx_wait(f);
}

static inline enum store_status fx_step(struct fx *f, const char *id, uint32_t version, enum job_state state,
                                        int64_t at)
{
    struct store_step in = {.id = id, .version = version, .state = state, .at = at};

    return CALL(f, step, &in, on_done);
}

static inline struct job_record *fx_get(struct fx *f, const char *id)
{
    CALL(f, get, id, ~0u, on_record);
    return f->rec;
}

/* The ids of a list, joined by blanks. */
static inline const char *fx_ids(struct fx *f, const struct store_filter *filter)
{
    assert_int_equal(CALL(f, list, filter, on_list), STORE_OK);
    for (size_t i = 0; i < f->list.n; i++)
        buf_printf(&f->text, "%s%s", i ? " " : "", f->list.rows[i]->s.id);
    return buf_str(&f->text);
}

/* --- small helpers of the suites --- */
static inline struct bytes *text(const char *s)
{
    return bytes_new(s, strlen(s));
}

static inline void submit_as(struct fx *f, const char *id, const char *tenant, const char *client,
                             const char *window)
{
    struct bytes *g = text("{}");
    struct store_submit in = {
        .id = id, .tenant = tenant, .client_id = client, .window_id = window, .graph = g};

    assert_int_equal(CALL(f, submit, &in, on_submitted), STORE_OK);
    bytes_unref(g);
}

static inline void end_as(struct fx *f, const char *id, enum job_state s, uint32_t flags)
{
    struct store_step in = {
        .id = id, .version = fx_get(f, id)->s.version, .state = s, .at = 50, .flags = flags};

    assert_int_equal(CALL(f, step, &in, on_done), STORE_OK);
}

#define IDS(...) fx_ids(f, &(struct store_filter){.limit = 100, __VA_ARGS__})

#endif
