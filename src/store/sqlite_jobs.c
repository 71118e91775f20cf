#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/plant.h"
#include "store/sqlite_priv.h"

void sql_events_log(struct db *db, const char *job, const char *tenant, int64_t at,
                    const struct store_event *e, size_t n)
{
    for (size_t i = 0; i < n; i++)
        db_exec(db, "INSERT INTO events (job, tenant, at, kind, data) VALUES (?, ?, ?, ?, ?)", "ssiss", job,
                tenant, at, e[i].kind, e[i].data);
}

/* --- submit --- */
static bool submit_exists(struct db *db, struct req *r)
{
    const struct store_submit *in = &r->in.submit;
    struct store_submitted *out = &r->out.submit;
    int64_t seq = db_int(db, 0, "SELECT seq FROM jobs WHERE id = ?", "s", in->id);
    uint8_t hash[BLAKE3_LEN];
    sqlite3_stmt *st;

    if (seq == 0 && in->key) {
        seq = db_int(db, 0, "SELECT seq FROM jobs WHERE tenant = ? AND key = ?", "ss", in->tenant, in->key);
        out->by_key = seq != 0;
    }
    if (seq == 0)
        return false;
    st = db_query(db,
                  "SELECT id, jobs.tenant, number, body_hash, answer FROM jobs JOIN job_docs USING (seq)"
                  " WHERE seq = ?",
                  "i", seq);
    if (db_next(db, st)) {
        col_id(st, 0, out->id);
        out->tenant = col_str(st, 1);
        out->seq = seq;
        out->number = sqlite3_column_double(st, 2);
        col_hash(st, 3, hash);
        out->same_body = memcmp(hash, in->body_hash, BLAKE3_LEN) == 0;
        out->answer = col_bytes(st, 4);
        db_end(st);
    }
    return true;
}

static void submit_inputs(struct db *db, const struct store_submit *in, int64_t seq)
{
    for (size_t i = 0; i < in->n_inputs; i++) {
        int64_t blob = sql_blob_id(db, in->inputs[i].blake3);

        db_exec(db, "INSERT INTO job_inputs (seq, n, tenant, name, blob) VALUES (?, ?, ?, ?, ?)", "iissi",
                seq, (int64_t)i, in->tenant, in->inputs[i].name, blob);
        sql_blob_revive(db, blob);
    }
}

enum store_status sql_submit(struct db *db, struct req *r)
{
    const struct store_submit *in = &r->in.submit;
    struct store_submitted *out = &r->out.submit;
    int64_t seq;

    if (submit_exists(db, r))
        return STORE_EXISTS;
    if (strlen(in->id) > UUID_LEN)
        return STORE_FAILED;
    for (size_t i = 0; i < in->n_inputs; i++)
        if (sql_blob_id(db, in->inputs[i].blake3) == 0)
            return STORE_NOT_FOUND;
    seq = db_int(db, 0, "SELECT seq FROM sqlite_sequence WHERE name = 'jobs'", "") + 1;
    out->seq = seq;
    out->number = in->has_number ? in->number : (double)(in->front ? -seq : seq);
    out->answer =
        in->has_number ? bytes_ref(in->answer) : req_fill_answer(in->answer, in->front ? -seq : seq);
    memcpy(out->id, in->id, strlen(in->id) + 1);
    db_exec(db,
            "INSERT INTO jobs (seq, id, tenant, state, version, flags, attempt, client_id, window_id, number,"
            " priority, created_at, state_at, deadline, retry_of, key, body_hash, need, workflow)"
            " VALUES (?, ?, ?, 0, 1, ?, 0, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            "ississdiiiisshss", seq, in->id, in->tenant, (int64_t)in->flags, in->client_id, in->window_id,
            out->number, (int64_t)in->priority, in->created_at, in->created_at, in->deadline, in->retry_of,
            in->key, in->body_hash, in->need, in->workflow_id);
    db_exec(db,
            "INSERT INTO job_docs (seq, tenant, graph, extra_data, targets, rest, answer)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            "isyyyyy", seq, in->tenant, in->graph, in->extra_data, in->targets, in->rest, out->answer);
    if (in->secrets)
        db_exec(db, "INSERT INTO job_secrets (seq, tenant, sealed) VALUES (?, ?, ?)", "isy", seq, in->tenant,
                in->secrets);
    submit_inputs(db, in, seq);
    db_exec(db, "INSERT INTO timeline (seq, version, tenant, at, state, note) VALUES (?, 1, ?, ?, 0, ?)",
            "isis", seq, in->tenant, in->created_at, in->note);
    sql_events_log(db, in->id, in->tenant, in->created_at, in->events, in->n_events);
    return STORE_OK;
}

/* --- step --- */
struct job_row {
    int64_t seq;
    char *tenant, *server;
    char upstream_id[UUID_SIZE];
    enum job_state state;
    uint32_t version, flags;
    int attempt, code;
    int64_t state_at, started_at, finished_at, fin, hist;
};

static bool row_load(struct db *db, const char *id, struct job_row *row)
{
    sqlite3_stmt *st =
        db_query(db,
                 "SELECT seq, tenant, server, upstream_id, state, version, flags, attempt, code,"
                 " state_at, started_at, finished_at, fin, hist FROM jobs WHERE id = ?",
                 "s", id);

    if (!db_next(db, st))
        return false;
    row->seq = sqlite3_column_int64(st, 0);
    row->tenant = col_str(st, 1);
    row->server = col_str(st, 2);
    col_id(st, 3, row->upstream_id);
    row->state = (enum job_state)sqlite3_column_int(st, 4);
    row->version = (uint32_t)sqlite3_column_int64(st, 5);
    row->flags = (uint32_t)sqlite3_column_int64(st, 6);
    row->attempt = sqlite3_column_int(st, 7);
    row->code = sqlite3_column_int(st, 8);
    row->state_at = sqlite3_column_int64(st, 9);
    row->started_at = sqlite3_column_int64(st, 10);
    row->finished_at = sqlite3_column_int64(st, 11);
    row->fin = sqlite3_column_int64(st, 12);
    row->hist = sqlite3_column_int64(st, 13);
    db_end(st);
    return true;
}

static bool has_attempt(struct db *db, int64_t seq, int n)
{
    return db_int(db, 0, "SELECT 1 FROM attempts WHERE seq = ? AND n = ?", "ii", seq, (int64_t)n) != 0;
}

/* What would break a promise of the schema is our caller's bug; it is refused before anything is changed. */
static const char *step_unsound(struct db *db, const struct job_row *row, const struct store_step *in)
{
    if (in->begin && has_attempt(db, row->seq, in->begin->n))
        return "the attempt exists already";
    if (in->end && !(in->begin && in->begin->n == in->end->n) && !has_attempt(db, row->seq, in->end->n))
        return "the attempt to end does not exist";
    for (size_t i = 0; i < in->n_outputs; i++) {
        const struct job_output *o = &in->outputs[i];

        if (sql_blob_id(db, o->blake3) == 0)
            return "an output's blob is unknown";
        if (db_int(db, 0, "SELECT 1 FROM outputs WHERE seq = ? AND attempt = ? AND n = ?", "iii", row->seq,
                   (int64_t)o->attempt, (int64_t)o->n))
            return "the output exists already";
        for (size_t k = 0; k < i; k++)
            if (in->outputs[k].attempt == o->attempt && in->outputs[k].n == o->n)
                return "an output is given twice";
    }
    return NULL;
}

static void step_attempts(struct db *db, struct job_row *row, const struct store_step *in)
{
    const struct job_attempt *b = in->begin, *e = in->end;

    if (b) {
        db_exec(
            db,
            "INSERT INTO attempts (seq, n, tenant, upstream_id, server, started_at, ended_at, code, message)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            "iisssiiis", row->seq, (int64_t)b->n, row->tenant, b->upstream_id, b->server, b->started_at,
            b->ended_at, (int64_t)b->code, b->message);
        row->attempt = b->n;
        memcpy(row->upstream_id, b->upstream_id, UUID_SIZE);
        free(row->server);
        row->server = xstrdup_null(b->server);
    }
    if (e)
        db_exec(db, "UPDATE attempts SET ended_at = ?, code = ?, message = ? WHERE seq = ? AND n = ?",
                "iisii", e->ended_at, (int64_t)e->code, e->message, row->seq, (int64_t)e->n);
}

static void step_outputs(struct db *db, const struct job_row *row, const struct store_step *in)
{
    for (size_t i = 0; i < in->n_outputs; i++) {
        const struct job_output *o = &in->outputs[i];
        int64_t blob = sql_blob_id(db, o->blake3);

        db_exec(db,
                "INSERT INTO outputs (seq, attempt, n, tenant, node_id, kind, key, filename, subfolder, type,"
                " mime, size, hash, at, blob) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                "iiisssssss"
                "sihii" /* mime on */,
                row->seq, (int64_t)o->attempt, (int64_t)o->n, row->tenant, o->node_id, o->kind, o->key,
                o->filename, o->subfolder, o->type, o->mime, o->size, o->blake3, in->at, blob);
        sql_blob_revive(db, blob);
    }
}

static void step_extras(struct db *db, const struct job_row *row, const struct store_step *in)
{
    const struct job_error *x = in->error;

    if (x)
        db_exec(db,
                "INSERT OR REPLACE INTO job_errors (seq, tenant, code, attempt, server, message, detail)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                "isiisss", row->seq, row->tenant, (int64_t)x->code, (int64_t)x->attempt, x->server,
                x->message, x->detail);
    if (in->history)
        db_exec(db, "INSERT OR REPLACE INTO job_history (seq, tenant, body) VALUES (?, ?, ?)", "isy",
                row->seq, row->tenant, in->history);
    if (in->stray)
        db_exec(db, "INSERT OR IGNORE INTO strays (server, upstream_id, job, since) VALUES (?, ?, ?, ?)",
                "sssi", in->stray->server, in->stray->upstream_id, in->stray->job, in->stray->since);
    db_exec(db, "INSERT INTO timeline (seq, version, tenant, at, state, note) VALUES (?, ?, ?, ?, ?, ?)",
            "iisiis", row->seq, (int64_t)row->version, row->tenant, in->at, (int64_t)in->state, in->note);
    sql_events_log(db, in->id, row->tenant, in->at, in->events, in->n_events);
}

static void step_finish(struct db *db, struct job_row *row, const struct store_step *in)
{
    row->fin = ++db->now.last_fin;
    row->hist = row->flags & JOB_F_NO_HISTORY ? 0 : row->fin;
    row->finished_at = in->at;
    db->now.finished++;
    db->now.ended[in->state]++;
    db_exec(db, "DELETE FROM job_secrets WHERE seq = ?", "i", row->seq);
}

/* Columns that stand in no index go alone where they can: most steps move state and nothing else. */
static void step_row(struct db *db, struct job_row *row, const struct store_step *in)
{
    bool finished = !JOB_STATE_LIVE(in->state) && row->fin == 0;

    if (row->state != in->state)
        row->state_at = in->at;
    row->version++;
    row->flags = in->flags | (row->flags & JOB_F_NO_HISTORY);
    if (in->started && row->started_at == 0)
        row->started_at = in->at;
    if (in->error)
        row->code = (int)in->error->code;
    if (in->state == JOB_QUEUED) {
        free(row->server);
        row->server = NULL;
        row->upstream_id[0] = '\0';
    }
    if (finished)
        step_finish(db, row, in);
    db_exec(db,
            "UPDATE jobs SET version = ?, flags = ?, attempt = ?, upstream_id = ?, code = ?, state_at = ?,"
            " started_at = ?, finished_at = ?, not_before = ?, spent = ? WHERE seq = ?",
            "iiisiiiiiii", (int64_t)row->version, (int64_t)row->flags, (int64_t)row->attempt,
            row->upstream_id, (int64_t)row->code, row->state_at, row->started_at, row->finished_at,
            in->not_before, (int64_t)in->spent, row->seq);
    if (row->state != in->state)
        db_exec(db, "UPDATE jobs SET state = ? WHERE seq = ?", "ii", (int64_t)in->state, row->seq);
    if (in->begin || in->state == JOB_QUEUED)
        db_exec(db, "UPDATE jobs SET server = ? WHERE seq = ?", "si", row->server, row->seq);
    if (finished)
        db_exec(db, "UPDATE jobs SET fin = ?, hist = nullif(?, 0) WHERE seq = ?", "iii", row->fin, row->hist,
                row->seq);
    if (in->n_outputs)
        db_exec(db, "UPDATE jobs SET stored = 1 WHERE seq = ?", "i", row->seq);
}

enum store_status sql_step(struct db *db, struct req *r)
{
    const struct store_step *in = &r->in.step;
    enum store_status st = STORE_OK;
    struct job_row row = {0};
    const char *why = NULL;

    if (!row_load(db, in->id, &row) || (row.version != in->version && !PLANTED(COMMIT_UNCHECKED))) {
        st = STORE_LOST;
    } else if (!JOB_STATE_LIVE(row.state) && row.state != in->state) {
        why = "a step out of a terminal state was refused";
        st = STORE_LOST;
    } else if ((why = step_unsound(db, &row, in)) != NULL) {
        st = STORE_FAILED;
    } else {
        step_attempts(db, &row, in);
        step_outputs(db, &row, in);
        step_row(db, &row, in);
        step_extras(db, &row, in);
    }
    if (why && db->rc == 0)
        log_error(LOG_S("job", in->id), LOG_S("state", job_state_name(in->state)), LOG_S("reason", why));
    free(row.tenant);
    free(row.server);
    return st;
}

enum store_status sql_hide(struct db *db, struct req *r)
{
    const char *tenant = r->in.hide.tenant, *id = r->in.hide.id;

    if (id == NULL) {
        db_exec(db,
                "INSERT INTO tenants (tenant, history_floor) VALUES (?1, ?2)"
                " ON CONFLICT DO UPDATE SET history_floor = ?2",
                "si", tenant, db->now.last_fin);
        return STORE_OK;
    }
    db_exec(db,
            "UPDATE jobs SET hist = NULL, flags = flags | 4 WHERE id = ? AND tenant = ? AND hist >"
            " coalesce((SELECT history_floor FROM tenants t WHERE t.tenant = jobs.tenant), 0)",
            "ss", id, tenant);
    return db_changes(db) ? STORE_OK : STORE_NOT_FOUND;
}
_Static_assert(JOB_F_NO_HISTORY == 4, "stands in the text of sql_hide");

/* --- loading --- */
static void load_docs(struct db *db, int64_t seq, uint32_t parts, struct job_record *rec)
{
    sqlite3_stmt *st;

    if (parts & JOB_PART_GRAPH) {
        st = db_query(db, "SELECT graph, extra_data, targets, rest FROM job_docs WHERE seq = ?", "i", seq);
        if (db_next(db, st)) {
            rec->graph = col_bytes(st, 0);
            rec->extra_data = col_bytes(st, 1);
            rec->targets = col_bytes(st, 2);
            rec->rest = col_bytes(st, 3);
            db_end(st);
        }
    }
    if (parts & JOB_PART_ANSWER) {
        st = db_query(db, "SELECT answer FROM job_docs WHERE seq = ?", "i", seq);
        if (db_next(db, st)) {
            rec->answer = col_bytes(st, 0);
            db_end(st);
        }
    }
    if (parts & JOB_PART_HISTORY) {
        st = db_query(db, "SELECT body FROM job_history WHERE seq = ?", "i", seq);
        if (db_next(db, st)) {
            rec->history = col_bytes(st, 0);
            db_end(st);
        }
    }
    if (parts & JOB_PART_SECRETS) {
        st = db_query(db, "SELECT sealed FROM job_secrets WHERE seq = ?", "i", seq);
        if (db_next(db, st)) {
            rec->secrets = col_bytes(st, 0);
            db_end(st);
        }
    }
}

static void load_error(struct db *db, int64_t seq, struct job_record *rec)
{
    sqlite3_stmt *st =
        db_query(db, "SELECT code, attempt, server, message, detail FROM job_errors WHERE seq = ?", "i", seq);

    if (db_next(db, st)) {
        rec->error = (struct job_error){(enum job_code)sqlite3_column_int(st, 0), sqlite3_column_int(st, 1),
                                        col_str(st, 2), col_str(st, 3), col_str(st, 4)};
        db_end(st);
    }
}

static void load_attempts(struct db *db, int64_t seq, struct job_record *rec)
{
    sqlite3_stmt *st =
        db_query(db,
                 "SELECT n, upstream_id, server, started_at, ended_at, code, message FROM attempts"
                 " WHERE seq = ? ORDER BY n",
                 "i", seq);

    while (db_next(db, st)) {
        struct job_attempt a = {.n = sqlite3_column_int(st, 0),
                                .server = col_str(st, 2),
                                .started_at = sqlite3_column_int64(st, 3),
                                .ended_at = sqlite3_column_int64(st, 4),
                                .code = (enum job_code)sqlite3_column_int(st, 5),
                                .message = col_str(st, 6)};

        col_id(st, 1, a.upstream_id);
        GROW(rec->attempts, rec->n_attempts);
        rec->attempts[rec->n_attempts++] = a;
    }
}

#define OUTPUT_COLS                                                                                          \
    "SELECT n, attempt, node_id, kind, key, filename, subfolder, type, mime, size, hash, blob IS NULL FROM " \
    "outputs"

static struct job_output output_row(sqlite3_stmt *st)
{
    struct job_output o = {.n = sqlite3_column_int(st, 0),
                           .attempt = sqlite3_column_int(st, 1),
                           .node_id = col_str(st, 2),
                           .kind = col_str(st, 3),
                           .key = col_str(st, 4),
                           .filename = col_str(st, 5),
                           .subfolder = col_str(st, 6),
                           .type = col_str(st, 7),
                           .mime = col_str(st, 8),
                           .size = sqlite3_column_int64(st, 9),
                           .gone = sqlite3_column_int(st, 11)};

    col_hash(st, 10, o.blake3);
    return o;
}

static void load_few(struct db *db, int64_t seq, struct job_record *rec)
{
    sqlite3_stmt *st = db_query(db, OUTPUT_COLS " WHERE seq = ? AND attempt = ? ORDER BY n", "ii", seq,
                                (int64_t)rec->s.attempt);

    while (db_next(db, st)) {
        struct job_output o;

        rec->outputs_count++;
        if (!job_few_takes(rec, (const char *)sqlite3_column_text(st, 3)))
            continue;
        o = output_row(st);
        job_few_put(rec, &o);
    }
}

static void load_outputs(struct db *db, int64_t seq, struct job_record *rec)
{
    sqlite3_stmt *st = db_query(db, OUTPUT_COLS " WHERE seq = ? ORDER BY attempt, n", "i", seq);

    while (db_next(db, st)) {
        struct job_output o = output_row(st);

        GROW(rec->outputs, rec->n_outputs);
        rec->outputs[rec->n_outputs++] = o;
    }
}

static void load_timeline(struct db *db, int64_t seq, struct job_record *rec)
{
    sqlite3_stmt *st =
        db_query(db, "SELECT at, state, note FROM timeline WHERE seq = ? ORDER BY version", "i", seq);

    while (db_next(db, st)) {
        GROW(rec->timeline, rec->n_timeline);
        rec->timeline[rec->n_timeline++] = (struct job_note){
            sqlite3_column_int64(st, 0), (enum job_state)sqlite3_column_int(st, 1), col_str(st, 2)};
    }
}

static void load_inputs(struct db *db, int64_t seq, struct job_record *rec)
{
    sqlite3_stmt *st = db_query(
        db, "SELECT name, hash FROM job_inputs JOIN blobs ON blobs.id = blob WHERE seq = ? ORDER BY n", "i",
        seq);

    while (db_next(db, st)) {
        GROW(rec->inputs, rec->n_inputs);
        rec->inputs[rec->n_inputs].name = col_str(st, 0);
        col_hash(st, 1, rec->inputs[rec->n_inputs].blake3);
        rec->n_inputs++;
    }
}

static void load_summary(struct db *db, sqlite3_stmt *st, struct job_summary *s)
{
    int64_t fin, hist;

    s->seq = sqlite3_column_int64(st, 0);
    col_id(st, 1, s->id);
    s->tenant = col_str(st, 2);
    s->state = (enum job_state)sqlite3_column_int(st, 3);
    s->version = (uint32_t)sqlite3_column_int64(st, 4);
    s->flags = (uint32_t)sqlite3_column_int64(st, 5);
    s->attempt = sqlite3_column_int(st, 6);
    col_id(st, 7, s->upstream_id);
    s->server = col_str(st, 8);
    s->client_id = col_str(st, 9);
    s->window_id = col_str(st, 10);
    s->number = sqlite3_column_double(st, 11);
    s->priority = sqlite3_column_int(st, 12);
    s->created_at = sqlite3_column_int64(st, 13);
    s->started_at = sqlite3_column_int64(st, 14);
    s->finished_at = sqlite3_column_int64(st, 15);
    s->deadline = sqlite3_column_int64(st, 16);
    s->state_at = sqlite3_column_int64(st, 17);
    s->not_before = sqlite3_column_int64(st, 18);
    s->code = (enum job_code)sqlite3_column_int(st, 19);
    s->need = col_str(st, 23);
    s->workflow_id = col_str(st, 25);
    s->spent = sqlite3_column_int(st, 24);
    fin = sqlite3_column_int64(st, 21);
    hist = sqlite3_column_int64(st, 22);
    if (fin && hist <= db_int(db, 0, "SELECT history_floor FROM tenants WHERE tenant = ?", "s", s->tenant))
        s->flags |= JOB_F_NO_HISTORY;
}

struct job_record *sql_job_load(struct db *db, sqlite3_stmt *row, uint32_t parts)
{
    struct job_record *rec = xcalloc(1, sizeof(*rec));
    int64_t seq = sqlite3_column_int64(row, 0);

    rec->retry_of = col_str(row, 20);
    load_summary(db, row, &rec->s);
    load_docs(db, seq, parts, rec);
    if ((parts & (JOB_PART_ATTEMPTS | JOB_PART_ERROR)) && rec->s.code != JOB_OK)
        load_error(db, seq, rec);
    if (parts & JOB_PART_ATTEMPTS)
        load_attempts(db, seq, rec);
    if (parts & JOB_PART_OUTPUTS)
        load_outputs(db, seq, rec);
    else if (parts & JOB_PART_FEW)
        load_few(db, seq, rec);
    if (parts & JOB_PART_TIMELINE)
        load_timeline(db, seq, rec);
    if (parts & JOB_PART_INPUTS)
        load_inputs(db, seq, rec);
    return rec;
}

enum store_status sql_get(struct db *db, struct req *r)
{
    sqlite3_stmt *st = db_query(db, "SELECT " SQL_JOB_COLS " FROM jobs WHERE id = ?", "s", r->in.get.id);

    if (!db_next(db, st))
        return STORE_NOT_FOUND;
    r->out.record = sql_job_load(db, st, r->in.get.parts);
    db_end(st);
    return STORE_OK;
}
