/* GET /api/jobs: live jobs from memory and a page of ended ones from the store, in one order. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/native_jobs_priv.h"

#define LIST_MAX 10000 /* as many as a list ever has, and a store's list */
#define READS 8        /* ended jobs that are read at one time, for what is not kept of them */

enum shown { SHOWN_PENDING, SHOWN_IN_PROGRESS, SHOWN_COMPLETED, SHOWN_FAILED, SHOWN_CANCELLED, SHOWN_N };
static const char *const shown_names[SHOWN_N] = {"pending", "in_progress", "completed", "failed",
                                                 "cancelled"};

static enum shown shown_of_end(enum job_state s)
{
    return s == JOB_SUCCEEDED ? SHOWN_COMPLETED : s == JOB_CANCELED ? SHOWN_CANCELLED : SHOWN_FAILED;
}

/* --- what is asked for --- */

struct ask {
    unsigned shown; /* bits */
    char *workflow_id;
    bool by_duration, ascending;
    int64_t limit; /* -1: none */
    int64_t offset;
};

void native_jobs_error(struct http_req *req, int status, const char *text)
{
    struct buf b = BUF_INIT;
    struct jsonw w;

    jsonw_init(&w, &b);
    jsonw_obj(&w);
    jsonw_kstr(&w, "error", text);
    jsonw_obj_end(&w);
    api_reply_json(req, status, &b);
}

/* Lower case, without white space around it, in place. */
static char *trimmed(char *s)
{
    char *end;

    while (*s == ' ' || (*s >= '\t' && *s <= '\r'))
        s++;
    end = s + strlen(s);
    while (end > s && (end[-1] == ' ' || (end[-1] >= '\t' && end[-1] <= '\r')))
        *--end = '\0';
    for (char *p = s; *p; p++)
        if (*p >= 'A' && *p <= 'Z')
            *p = (char)(*p + 32);
    return s;
}

static int shown_parse(const char *word)
{
    for (int i = 0; i < SHOWN_N; i++)
        if (strcmp(shown_names[i], word) == 0)
            return i;
    return -1;
}

/* Which of the words are none goes into bad. */
static unsigned take_status(char *list, struct buf *bad)
{
    unsigned shown = 0;
    char *next;

    for (char *at = list; at; at = next) {
        char *word;
        int i;

        next = strchr(at, ',');
        if (next)
            *next++ = '\0';
        word = trimmed(at);
        i = shown_parse(word);
        if (*word && i < 0)
            buf_printf(bad, "%s%s", bad->len ? ", " : "", word);
        else if (*word)
            shown |= 1u << i;
    }
    return shown;
}

/* 1: a whole number; 0: absent; -1: something else */
static int take_int(const struct http_req *req, const char *key, int64_t *out)
{
    char *s = api_query(req, key), *text, *end;
    int r;

    if (s == NULL)
        return 0;
    text = trimmed(s);
    *out = strtoll(text, &end, 10);
    r = *text && *end == '\0' ? 1 : -1;
    free(s);
    return r;
}

static bool take_status_param(struct http_req *req, struct ask *a)
{
    char *status = api_query(req, "status");
    struct buf bad = BUF_INIT;
    bool ok;

    a->shown = status && *status ? take_status(status, &bad) : (1u << SHOWN_N) - 1;
    ok = bad.len == 0;
    if (!ok) {
        char *text = xasprintf("Invalid status value(s): %s. Valid values: pending, in_progress, completed, "
                               "failed, cancelled",
                               buf_str(&bad));

        native_jobs_error(req, 400, text);
        free(text);
    }
    buf_free(&bad);
    free(status);
    return ok;
}

/* One of two words, or absent for the first. *second; false: neither. */
static bool take_word(const struct http_req *req, const char *key, const char *first, const char *other,
                      bool *second)
{
    char *s = api_query(req, key), *word = s ? trimmed(s) : NULL;
    bool ok = word == NULL || strcmp(word, first) == 0 || strcmp(word, other) == 0;

    *second = word && strcmp(word, other) == 0;
    free(s);
    return ok;
}

/* False: it has been answered. */
static bool ask_parse(struct http_req *req, struct ask *a)
{
    int have;

    *a = (struct ask){.limit = -1};
    if (!take_status_param(req, a))
        return false;
    if (!take_word(req, "sort_by", "created_at", "execution_duration", &a->by_duration)) {
        native_jobs_error(req, 400, "sort_by must be 'created_at' or 'execution_duration'");
        return false;
    }
    if (!take_word(req, "sort_order", "desc", "asc", &a->ascending)) {
        native_jobs_error(req, 400, "sort_order must be 'asc' or 'desc'");
        return false;
    }
    have = take_int(req, "limit", &a->limit);
    if (have < 0 || (have > 0 && a->limit <= 0)) {
        native_jobs_error(req, 400,
                          have < 0 ? "limit must be an integer" : "limit must be a positive integer");
        return false;
    }
    if (take_int(req, "offset", &a->offset) < 0) {
        native_jobs_error(req, 400, "offset must be an integer");
        return false;
    }
    if (a->offset < 0)
        a->offset = 0;
    a->workflow_id = api_query(req, "workflow_id");
    if (a->workflow_id && a->workflow_id[0] == '\0') {
        free(a->workflow_id);
        a->workflow_id = NULL;
    }
    return true;
}

static char *ask_key(const struct ask *a, const char *tenant)
{
    return xasprintf("%s\n%x %d %d %lld %lld %s", tenant, a->shown, a->by_duration, a->ascending,
                     (long long)a->limit, (long long)a->offset, a->workflow_id ? a->workflow_id : "");
}

/* --- the list --- */

struct row {
    struct job_record *rec; /* its summary, and no more */
    enum shown shown;
    int64_t took;
    char *card; /* of one that has ended, once it is known */
};

struct rows {
    struct row *v;
    size_t n;
};

struct listing {
    struct api *a;
    struct ask ask;
    char *tenant, *key;
    struct shared *shared;
    uint64_t generation;
    int64_t finished;
    bool kept; /* it may be kept: nothing in it changes without a word */
    struct rows
        live; /* live, and ended ones that still stand as waiting; sorted; the first ones, that may be shown */
    size_t n_live;      /* how many there are */
    struct rows untold; /* ended ones that the store must not list: their client sees them waiting */
    struct rows page;   /* as they are shown */
    int64_t total;
    size_t open, at; /* reads under way; the next of the page that may have to be read */
    bool failed;
};

static void rows_push(struct rows *r, struct row x)
{
    if ((r->n & (r->n - 1)) == 0)
        r->v = xrealloc(r->v, (r->n ? r->n * 2 : 1) * sizeof(*r->v));
    r->v[r->n++] = x;
}

static void rows_fini(struct rows *r)
{
    for (size_t i = 0; i < r->n; i++) {
        job_record_free(&r->v[i].rec);
        free(r->v[i].card);
    }
    free(r->v);
    *r = (struct rows){0};
}

static void listing_free(struct listing *l)
{
    rows_fini(&l->live);
    rows_fini(&l->untold);
    rows_fini(&l->page);
    free(l->ask.workflow_id);
    free(l->tenant);
    free(l->key);
    free(l);
}

static struct row row_new(const struct job_summary *s, enum shown shown)
{
    struct row x = {.rec = xcalloc(1, sizeof(*x.rec)), .shown = shown};

    job_summary_copy(&x.rec->s, s);
    if (!JOB_STATE_LIVE(s->state) && s->started_at > 0)
        x.took = s->finished_at - s->started_at;
    return x;
}

/* Negative: x comes first. */
static int row_cmp(const struct row *x, const struct row *y, const struct ask *a)
{
    int64_t d = a->by_duration && x->took != y->took ? (x->took < y->took ? -1 : 1)
                : x->rec->s.seq < y->rec->s.seq      ? -1
                                                     : x->rec->s.seq > y->rec->s.seq;

    return (int)(a->ascending ? d : -d);
}

static int row_cmp_qsort(const void *x, const void *y, void *ask)
{
    return row_cmp(x, y, ask);
}

static bool of_workflow(const struct listing *l, const struct job_summary *s)
{
    return l->ask.workflow_id == NULL || (s->workflow_id && strcmp(s->workflow_id, l->ask.workflow_id) == 0);
}

/* --- writing it --- */

void native_put_job(struct buf *b, const struct job_summary *s, const char *status, const char *card)
{
    buf_puts(b, "{\"id\": ");
    json_put_str(b, s->id);
    buf_printf(b, ", \"status\": \"%s\", \"priority\": ", status);
    native_put_number(b, s);
    buf_printf(b, ", \"create_time\": %lld, %s", (long long)s->created_at,
               card ? card : "\"outputs_count\": 0, \"previewable_outputs_count\": 0");
    if (s->workflow_id) {
        buf_puts(b, ", \"workflow_id\": ");
        json_put_str(b, s->workflow_id);
    }
}

static struct bytes *listing_text(struct listing *l)
{
    struct buf b = BUF_INIT;

    buf_puts(&b, "{\"jobs\": [");
    for (size_t i = 0; i < l->page.n; i++) {
        const struct row *x = &l->page.v[i];

        buf_puts(&b, i ? ", " : "");
        native_put_job(&b, &x->rec->s, shown_names[x->shown], x->card);
        buf_putc(&b, '}');
    }
    buf_printf(&b, "], \"pagination\": {\"offset\": %lld, \"limit\": ", (long long)l->ask.offset);
    if (l->ask.limit < 0)
        buf_puts(&b, "null");
    else
        buf_put_int(&b, l->ask.limit);
    buf_printf(&b, ", \"total\": %lld, \"has_more\": %s}}", (long long)l->total,
               l->ask.offset + (int64_t)l->page.n < l->total ? "true" : "false");
    return buf_to_bytes(&b);
}

static void listing_end(struct listing *l)
{
    char etag[JOBS_ETAG];
    struct bytes *body;

    if (l->failed) {
        static const char text[] = "{\"error\": \"The store could not be read\"}";

        body = bytes_new(text, sizeof(text) - 1);
        shared_answer(l->shared, 500, body, NULL);
    } else {
        body = listing_text(l);
        jobs_body_put(l->a->jobs, l->key, l->finished, l->kept ? l->generation : UINT64_MAX, body, etag);
        shared_answer(l->shared, 200, body, etag);
    }
    bytes_unref(body);
    listing_free(l);
}

/* --- what is not kept of ended jobs is read, a few at a time --- */

static void read_more(struct listing *l);

struct reading {
    struct listing *l;
    size_t row;
};

static void on_card(enum store_status st, struct job_record *rec, void *arg)
{
    struct reading x = *(struct reading *)arg;

    free(arg);
    x.l->open--;
    if (st == STORE_OK)
        x.l->page.v[x.row].card = xstrdup(jobs_card_put(x.l->a->jobs, rec->s.id, rec->history));
    else if (st != STORE_NOT_FOUND) /* gone since: then there is nothing to say of it */
        x.l->failed = true;
    job_record_free(&rec);
    read_more(x.l);
}

static void read_row(struct listing *l, size_t row)
{
    struct reading *x = xcalloc(1, sizeof(*x));

    *x = (struct reading){l, row};
    l->open++;
    store_get(l->a->d.store, l->page.v[row].rec->s.id, JOB_PART_HISTORY, on_card, x);
}

static void read_more(struct listing *l)
{
    for (; l->at < l->page.n && l->open < READS && !l->failed; l->at++) {
        struct row *x = &l->page.v[l->at];
        const char *card;

        if (x->shown < SHOWN_COMPLETED)
            continue;
        card = jobs_card(l->a->jobs, x->rec->s.id);
        if (card)
            x->card = xstrdup(card);
        else
            read_row(l, l->at);
    }
    if (l->open == 0)
        listing_end(l);
}

/* --- two orders made one --- */

static int64_t page_most(const struct listing *l)
{
    return l->ask.limit < 0 || l->ask.limit > LIST_MAX ? LIST_MAX : l->ask.limit;
}

static void page_take(struct listing *l, struct row *x, int64_t *place)
{
    if (*place >= l->ask.offset && *place < l->ask.offset + page_most(l)) {
        rows_push(&l->page, *x);
        x->rec = NULL;
    }
    ++*place;
}

static bool is_untold(const struct listing *l, const char *id)
{
    for (size_t i = 0; i < l->untold.n; i++)
        if (strcmp(l->untold.v[i].rec->s.id, id) == 0)
            return true;
    return false;
}

/* from: the place of ended.v[0] among all ended ones. */
static void merge(struct listing *l, struct rows *ended, int64_t from)
{
    int64_t place = from;
    size_t i = 0;

    if (from > 0 && ended->n > 0) { /* those that come before it are on pages before */
        for (; i < l->live.n && row_cmp(&l->live.v[i], &ended->v[0], &l->ask) < 0; i++)
            place++;
        for (size_t k = 0; k < l->untold.n; k++)
            place -= row_cmp(&l->untold.v[k], &ended->v[0], &l->ask) < 0;
    } else if (from > 0) {
        return;
    }
    for (size_t k = 0; k < ended->n; k++) {
        if (is_untold(l, ended->v[k].rec->s.id))
            continue;
        for (; i < l->live.n && row_cmp(&l->live.v[i], &ended->v[k], &l->ask) < 0; i++)
            page_take(l, &l->live.v[i], &place);
        page_take(l, &ended->v[k], &place);
    }
    for (; i < l->live.n; i++)
        page_take(l, &l->live.v[i], &place);
}

static int64_t ended_from(const struct listing *l)
{
    int64_t from = l->ask.offset - (int64_t)l->n_live;

    return from > 0 ? from : 0;
}

static void on_ended(struct store_list *in, void *arg)
{
    struct listing *l = arg;
    struct rows ended = {0};

    l->failed = in->status != STORE_OK;
    for (size_t i = 0; i < in->n; i++) {
        struct row x = {.rec = in->rows[i], .shown = shown_of_end(in->rows[i]->s.state)};

        if (x.rec->s.started_at > 0)
            x.took = x.rec->s.finished_at - x.rec->s.started_at;
        in->rows[i] = NULL;
        rows_push(&ended, x);
    }
    l->total = (int64_t)l->n_live + in->total - (int64_t)l->untold.n;
    store_list_free(in);
    merge(l, &ended, ended_from(l));
    rows_fini(&ended);
    read_more(l);
}

static uint32_t ended_states(unsigned shown)
{
    return (shown & 1u << SHOWN_COMPLETED ? JOB_STATE_BIT(JOB_SUCCEEDED) : 0) |
           (shown & 1u << SHOWN_FAILED ? JOB_STATE_BIT(JOB_FAILED) | JOB_STATE_BIT(JOB_EXPIRED) : 0) |
           (shown & 1u << SHOWN_CANCELLED ? JOB_STATE_BIT(JOB_CANCELED) : 0);
}

static void listing_go(struct listing *l)
{
    struct store_filter f = {.tenant = l->tenant,
                             .states = ended_states(l->ask.shown),
                             .shown = true,
                             .count = true,
                             .by_duration = l->ask.by_duration,
                             .workflow_id = l->ask.workflow_id,
                             .oldest_first = l->ask.ascending,
                             .offset = ended_from(l)};
    int64_t most;

    if (l->live.n)
        qsort_r(l->live.v, l->live.n, sizeof(*l->live.v), row_cmp_qsort, &l->ask);
    if (f.states == 0) {
        struct rows none = {0};

        l->total = (int64_t)l->n_live;
        merge(l, &none, 0);
        read_more(l);
        return;
    }
    most = page_most(l) + (l->ask.offset - f.offset) + (int64_t)l->untold.n;
    f.limit = (int)(most > LIST_MAX ? LIST_MAX : most);
    store_list(l->a->d.store, &f, on_ended, l);
}

/* --- what is live --- */

/* Of many that wait only those are copied that can stand on the page: one at place i here is at no lower place there. */
struct seen {
    struct listing *l;
    const struct job_summary **v; /* in order of acceptance; valid until the runner is called again */
    unsigned char *shown;
    size_t n;
};

static bool add_live(const struct runner_job_view *job, void *arg)
{
    struct seen *x = arg;
    struct listing *l = x->l;
    bool held = job->s->state != JOB_QUEUED && hub_shows_pending(l->a->hub, job->s->id);
    enum shown shown = job->s->state == JOB_QUEUED || held ? SHOWN_PENDING : SHOWN_IN_PROGRESS;

    if (held)
        l->kept = false; /* what ends that is not told here */
    if (strcmp(job->s->tenant, l->tenant) != 0 || !(l->ask.shown & 1u << shown) || !of_workflow(l, job->s))
        return true;
    if ((x->n & (x->n - 1)) == 0) {
        x->v = xrealloc(x->v, (x->n ? x->n * 2 : 1) * sizeof(*x->v));
        x->shown = xrealloc(x->shown, x->n ? x->n * 2 : 1);
    }
    x->shown[x->n] = (unsigned char)shown;
    x->v[x->n++] = job->s;
    return true;
}

static void take_live(struct listing *l)
{
    struct seen x = {.l = l};

    runner_each(l->a->runner, add_live, &x);
    l->n_live = x.n;
    for (size_t i = 0; i < x.n && (int64_t)i < l->ask.offset + page_most(l); i++) {
        size_t k = l->ask.ascending ? i : x.n - 1 - i;

        rows_push(&l->live, row_new(x.v[k], (enum shown)x.shown[k]));
    }
    free(x.v);
    free(x.shown);
}

/* Ended, but its client has not been told: it waits, as far as that client knows. */
static void on_untold(enum store_status st, struct job_record *rec, void *arg)
{
    struct listing *l = arg;

    if (st == STORE_OK && of_workflow(l, &rec->s)) {
        if (l->ask.shown & 1u << SHOWN_PENDING) {
            struct row waits = row_new(&rec->s, SHOWN_PENDING);

            waits.took = 0;
            rows_push(&l->live, waits);
            l->n_live++;
        }
        if ((ended_states(l->ask.shown) & JOB_STATE_BIT(rec->s.state)) && !(rec->s.flags & JOB_F_NO_HISTORY))
            rows_push(&l->untold, row_new(&rec->s, shown_of_end(rec->s.state)));
    }
    job_record_free(&rec);
    if (--l->open == 0)
        listing_go(l);
}

static void add_untold(const char *job, const char *client_id, void *arg)
{
    struct listing *l = arg;

    (void)client_id;
    if (!hub_shows_pending(l->a->hub, job))
        return;
    l->kept = false;
    l->open++;
    store_get(l->a->d.store, job, 0, on_untold, l);
}

static void listing_start(struct listing *l)
{
    l->kept = true;
    take_live(l);
    hub_each_ended(l->a->hub, l->tenant, add_untold, l);
    if (l->open == 0)
        listing_go(l);
}

/* --- the route --- */

void native_get_jobs(struct api *a, struct http_req *req, const struct api_params *p)
{
    struct listing *l;
    struct store_stats st;
    struct bytes *body;
    const char *etag;
    struct ask ask;
    char *key;

    (void)p;
    if (a->runner == NULL) {
        native_jobs_error(req, 503, "The gateway is starting");
        return;
    }
    if (!ask_parse(req, &ask))
        return;
    key = ask_key(&ask, api_tenant(a, req));
    store_stats(a->d.store, &st);
    body = jobs_body(a->jobs, key, st.finished, &etag);
    if (body) {
        shared_reply(req, 200, body, etag);
    } else {
        char *now = xasprintf("%llu %s", (unsigned long long)jobs_generation(a->jobs), key);
        struct shared *s = shared_join(jobs_asked(a->jobs), a, req, now);

        free(now);
        if (s) {
            l = xcalloc(1, sizeof(*l));
            *l = (struct listing){.a = a,
                                  .ask = ask,
                                  .tenant = xstrdup(api_tenant(a, req)),
                                  .key = xstrdup(key),
                                  .shared = s,
                                  .generation = jobs_generation(a->jobs),
                                  .finished = st.finished};
            ask.workflow_id = NULL;
            listing_start(l);
        }
    }
    free(ask.workflow_id);
    free(key);
}
