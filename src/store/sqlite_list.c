#include <stdlib.h>
#include <string.h>

#include "store/sqlite_priv.h"

/* Parameters of a list's text: ?1 tenant ?2 client ?3 window ?4 server ?5 after ?6 limit ?7 offset ?8 workflow. */

static void put_cursor(struct buf *sql, const struct store_filter *f, const char *col)
{
    if (f->after)
        buf_printf(sql, " AND %s %s ?5", col, f->oldest_first ? ">" : "<");
}

static void put_names(struct buf *sql, const struct store_filter *f)
{
    if (f->tenant)
        buf_puts(sql, " AND tenant = ?1");
    if (f->client_id)
        buf_puts(sql, " AND client_id = ?2");
    if (f->window_id)
        buf_puts(sql, " AND window_id = ?3");
    if (f->server)
        buf_puts(sql, " AND server = ?4");
}

/* Every index ends in (state, seq), so each state is one range in the right order and ranges are merged. The first of the
 * names given is searched; whether the others match too is the second column: that is looked at row by row, and counted. */
static void put_by_seq(struct buf *sql, const struct store_filter *f)
{
    struct store_filter searched = *f;
    const char *index = store_list_narrow(f, &searched);
    bool first = true;

    if (f->states == (JOB_STATES_LIVE | JOB_STATES_ENDED) && strcmp(index, "jobs_state") == 0) {
        buf_puts(sql, "SELECT seq, 1 FROM jobs WHERE seq > 0");
        put_cursor(sql, f, "seq");
    } else {
        for (int s = 0; s < JOB_STATES; s++) {
            if (!(f->states & JOB_STATE_BIT(s)))
                continue;
            buf_puts(sql, first ? "SELECT seq, 1" : " UNION ALL SELECT seq, 1");
            if (f->client_id && !searched.client_id)
                buf_puts(sql, " AND client_id IS ?2");
            if (f->server && !searched.server)
                buf_puts(sql, " AND server IS ?4");
            buf_printf(sql, " FROM jobs INDEXED BY %s WHERE state = %d", index, s);
            put_names(sql, &searched);
            put_cursor(sql, f, "seq");
            first = false;
        }
    }
    buf_printf(sql, " ORDER BY seq%s", f->oldest_first ? "" : " DESC");
}

static void put_ended_states(struct buf *sql, const struct store_filter *f)
{
    buf_puts(sql, " AND state IN (-1");
    for (int s = JOB_SUCCEEDED; s < JOB_STATES; s++)
        if (f->states & JOB_STATE_BIT(s))
            buf_printf(sql, ", %d", s);
    buf_putc(sql, ')');
}

static void put_by_fin(struct buf *sql, const struct store_filter *f)
{
    const char *index = f->client_id ? "jobs_client_history" : f->tenant ? "jobs_history" : "jobs_fin";
    const char *col = f->client_id || f->tenant ? "hist" : "fin";

    buf_printf(sql, "SELECT %s AS at, 1 FROM jobs INDEXED BY %s WHERE %s > 0 AND hist > ", col, index, col);
    buf_puts(sql, f->tenant
                      ? "(SELECT coalesce(max(history_floor), 0) FROM tenants WHERE tenant = ?1)"
                      : "coalesce((SELECT history_floor FROM tenants t WHERE t.tenant = jobs.tenant), 0)");
    put_names(sql, f);
    if ((f->states & JOB_STATES_ENDED) != JOB_STATES_ENDED)
        put_ended_states(sql, f);
    put_cursor(sql, f, col);
    buf_printf(sql, " ORDER BY at%s", f->oldest_first ? "" : " DESC");
}

#define SHOWN " AND hist > (SELECT coalesce(max(history_floor), 0) FROM tenants WHERE tenant = ?1)"

static void put_shown(struct buf *sql, const struct store_filter *f)
{
    const char *by = f->workflow_id ? " AND workflow = ?8" : "", *order = f->oldest_first ? "" : " DESC";
    bool any = false;

    if (f->by_duration) {
        buf_printf(sql, "SELECT seq, 1 FROM jobs INDEXED BY jobs_took WHERE tenant = ?1" SHOWN "%s", by);
        put_ended_states(sql, f);
        buf_printf(sql, " ORDER BY " SQL_TOOK "%s, seq%s", order, order);
        return;
    }
    for (int s = JOB_SUCCEEDED; s < JOB_STATES; s++) {
        if (!(f->states & JOB_STATE_BIT(s)))
            continue;
        buf_printf(sql, "%sSELECT seq, 1 FROM jobs INDEXED BY %s WHERE tenant = ?1 AND state = %d%s" SHOWN,
                   any ? " UNION ALL " : "", f->workflow_id ? "jobs_workflow" : "jobs_shown", s, by);
        any = true;
    }
    if (!any)
        buf_puts(sql, "SELECT seq, 1 FROM jobs WHERE seq = -1");
    buf_printf(sql, " ORDER BY seq%s", order);
}

void sql_count_text(struct buf *sql, const struct store_filter *f)
{
    buf_printf(sql, "SELECT count(*) FROM jobs INDEXED BY %s WHERE tenant = ?1" SHOWN "%s",
               f->workflow_id ? "jobs_workflow" : "jobs_shown", f->workflow_id ? " AND workflow = ?2" : "");
    put_ended_states(sql, f);
}

void sql_list_text(struct buf *sql, const struct store_filter *f)
{
    if (f->shown)
        put_shown(sql, f);
    else if (f->in_history)
        put_by_fin(sql, f);
    else
        put_by_seq(sql, f);
    buf_puts(sql, " LIMIT ?6 OFFSET ?7");
}

/* Of the job that the list's row is. */
static bool has_kind(struct db *db, const struct store_filter *f, int64_t at)
{
    return db_int(db, 0,
                  f->in_history ? "SELECT EXISTS (SELECT 1 FROM jobs JOIN outputs USING (seq, attempt)"
                                  " WHERE jobs.fin = ? AND kind = ?)"
                                : "SELECT EXISTS (SELECT 1 FROM jobs JOIN outputs USING (seq, attempt)"
                                  " WHERE jobs.seq = ? AND kind = ?)",
                  "is", at, f->kind) != 0;
}

/* The places of a page's rows, at most limit. *next: the place from which to go on, 0: there are no more. */
static size_t list_places(struct db *db, const struct store_filter *f, int64_t *at, int64_t *next)
{
    int64_t look = f->look > f->limit ? f->look : f->limit, seen = 0;
    struct buf sql = BUF_INIT;
    sqlite3_stmt *st;
    size_t n = 0;

    *next = 0;
    sql_list_text(&sql, f);
    st =
        db_query(db, sql.data, f->workflow_id ? "ssssiiis" : "ssssiii", f->tenant, f->client_id, f->window_id,
                 f->server, f->after, look + 1, f->look ? (int64_t)0 : f->offset, f->workflow_id);
    while (*next == 0 && db_next(db, st)) {
        int64_t place = sqlite3_column_int64(st, 0);

        if (look-- == 0)
            *next = seen;
        else if (sqlite3_column_int(st, 1) && (f->kind == NULL || has_kind(db, f, place))) {
            if (n == (size_t)f->limit)
                *next = at[n - 1];
            else
                at[n++] = place;
        }
        seen = place;
    }
    if (*next)
        db_end(st);
    buf_free(&sql);
    return n;
}

enum store_status sql_list(struct db *db, struct req *r)
{
    const struct store_filter *f = &r->in.list;
    struct store_list *out = &r->out.list;
    int64_t *at = xcalloc((size_t)f->limit, sizeof(*at));
    size_t n = list_places(db, f, at, &out->next);
    sqlite3_stmt *st;

    out->rows = xcalloc(n, sizeof(struct job_record *));
    for (size_t i = 0; i < n; i++) {
        st = db_query(db,
                      f->in_history ? "SELECT " SQL_JOB_COLS " FROM jobs WHERE fin = ?"
                                    : "SELECT " SQL_JOB_COLS " FROM jobs WHERE seq = ?",
                      "i", at[i]);
        if (db_next(db, st)) {
            out->rows[out->n++] = sql_job_load(db, st, f->parts);
            db_end(st);
        }
    }
    if (f->shown && f->count) {
        struct buf sql = BUF_INIT;

        sql_count_text(&sql, f);
        out->total = db_int(db, 0, sql.data, f->workflow_id ? "ss" : "s", f->tenant, f->workflow_id);
        buf_free(&sql);
    }
    free(at);
    return STORE_OK;
}

enum store_status sql_unfinished(struct db *db, struct req *r)
{
    static const struct store_filter live = {.states = JOB_STATES_LIVE, .oldest_first = true};
    struct buf sql = BUF_INIT;
    sqlite3_stmt *st;
    size_t cap = 0, n = 0;

    sql_list_text(&sql, &live);
    st = db_query(db, sql.data, "ssssiii", NULL, NULL, NULL, NULL, (int64_t)0, (int64_t)-1, (int64_t)0);
    while (db_next(db, st)) {
        sqlite3_stmt *row =
            db_query(db, "SELECT " SQL_JOB_COLS " FROM jobs WHERE seq = ?", "i", sqlite3_column_int64(st, 0));
        struct job_record *rec;

        if (!db_next(db, row))
            continue;
        if (n == cap) {
            cap = cap ? cap * 2 : 64;
            r->out.summaries.v = xrealloc(r->out.summaries.v, cap * sizeof(struct job_summary));
        }
        rec = sql_job_load(db, row, 0);
        r->out.summaries.v[n++] = rec->s; /* its strings move along */
        r->out.summaries.n = n;
        rec->s = (struct job_summary){0};
        job_record_free(&rec);
        db_end(row);
    }
    buf_free(&sql);
    return STORE_OK;
}
