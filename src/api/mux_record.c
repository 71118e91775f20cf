/* The job record, as every mux route shows it. Its keys are a promise: all of them always stand there. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/mux.h"
#include "job/scheduler.h"

/* --- pieces --- */

static void put_time(struct jsonw *w, const char *key, int64_t ms)
{
    jsonw_key(w, key);
    if (ms)
        jsonw_int(w, ms);
    else
        jsonw_null(w);
}

static void put_span(struct jsonw *w, const char *key, const char *text)
{
    jsonw_kspan(w, key, text ? (struct json){text, strlen(text)} : (struct json){0});
}

/* A server that is no longer configured keeps its name and has no url. */
static void put_server(struct jsonw *w, const char *name, const struct fleet_server *v, size_t n)
{
    const char *url = NULL;

    jsonw_key(w, "server");
    if (name == NULL) {
        jsonw_null(w);
        return;
    }
    for (size_t i = 0; i < n; i++)
        if (strcmp(v[i].name, name) == 0)
            url = v[i].url;
    jsonw_obj(w);
    jsonw_kstr(w, "name", name);
    jsonw_kstr(w, "url", url);
    jsonw_obj_end(w);
}

static void put_attempts(struct jsonw *w, const struct job_record *rec)
{
    jsonw_key(w, "attempts");
    jsonw_arr(w);
    for (size_t i = 0; i < rec->n_attempts; i++) {
        const struct job_attempt *t = &rec->attempts[i];

        jsonw_obj(w);
        jsonw_kstr(w, "server", t->server);
        put_time(w, "started_at", t->started_at);
        put_time(w, "ended_at", t->ended_at);
        jsonw_key(w, "error");
        if (t->code == JOB_OK) {
            jsonw_null(w);
        } else {
            jsonw_obj(w);
            jsonw_kstr(w, "code", job_code_name(t->code));
            jsonw_kstr(w, "message", t->message);
            jsonw_obj_end(w);
        }
        jsonw_obj_end(w);
    }
    jsonw_arr_end(w);
}

static void put_progress(struct jsonw *w, struct runner *r, const char *id)
{
    struct runner_job_view v = {0};

    if (r == NULL || !runner_find(r, id, &v))
        v = (struct runner_job_view){0};
    jsonw_key(w, "progress");
    jsonw_obj(w);
    jsonw_kint(w, "value", v.progress_value);
    jsonw_kint(w, "max", v.progress_max);
    jsonw_kstr(w, "node", v.progress_node ? v.progress_node : v.executing);
    jsonw_obj_end(w);
}

void mux_output_url(const struct job_record *rec, const struct job_output *o, char out[MUX_URL_MAX])
{
    snprintf(out, MUX_URL_MAX, "/mux/v1/jobs/%s/outputs/%d", rec->s.id, o->n);
}

void mux_put_outputs(struct jsonw *w, const struct job_record *rec)
{
    char url[MUX_URL_MAX], hex[BLAKE3_HEX];

    jsonw_arr(w);
    for (size_t i = 0; i < rec->n_outputs; i++) {
        const struct job_output *o = &rec->outputs[i];

        if (o->attempt != rec->s.attempt)
            continue;
        mux_output_url(rec, o, url);
        blake3_hex(o->blake3, hex);
        jsonw_obj(w);
        jsonw_kint(w, "n", o->n);
        jsonw_kstr(w, "node_id", o->node_id);
        jsonw_kstr(w, "kind", o->kind);
        jsonw_kstr(w, "filename", o->filename);
        jsonw_kstr(w, "subfolder", o->subfolder);
        jsonw_kstr(w, "type", o->type);
        jsonw_kint(w, "size", o->size);
        jsonw_kstr(w, "mime", o->mime);
        jsonw_kstr(w, "blake3", hex);
        jsonw_kstr(w, "url", url);
        jsonw_obj_end(w);
    }
    jsonw_arr_end(w);
}

static void put_error(struct jsonw *w, const struct job_error *e)
{
    jsonw_key(w, "error");
    if (e->code == JOB_OK) {
        jsonw_null(w);
        return;
    }
    jsonw_obj(w);
    jsonw_kstr(w, "code", job_code_name(e->code));
    jsonw_kstr(w, "message", e->message);
    jsonw_kstr(w, "server", e->server);
    jsonw_key(w, "attempt");
    if (e->attempt)
        jsonw_int(w, e->attempt);
    else
        jsonw_null(w);
    put_span(w, "detail", e->detail);
    jsonw_obj_end(w);
}

static void put_timeline(struct jsonw *w, const struct job_record *rec)
{
    jsonw_key(w, "timeline");
    jsonw_arr(w);
    for (size_t i = 0; i < rec->n_timeline; i++) {
        const struct job_note *t = &rec->timeline[i];

        jsonw_obj(w);
        jsonw_kint(w, "at", t->at);
        jsonw_kstr(w, "state", job_state_name(t->state));
        jsonw_kstr(w, "note", t->note);
        jsonw_obj_end(w);
    }
    jsonw_arr_end(w);
}

/* --- the whole --- */

void mux_put_record(struct jsonw *w, const struct job_record *rec, const struct fleet_server *servers,
                    size_t n_servers, struct runner *r, int position)
{
    const struct job_summary *s = &rec->s;

    jsonw_obj(w);
    jsonw_kstr(w, "id", s->id);
    jsonw_kstr(w, "state", job_state_name(s->state));
    put_server(w, s->server, servers, n_servers);
    jsonw_kstr(w, "window_id", s->window_id);
    jsonw_kstr(w, "client_id", s->client_id);
    put_time(w, "registered_at", s->created_at);
    jsonw_kint(w, "attempt", s->attempt);
    put_attempts(w, rec);
    put_progress(w, r, s->id);
    jsonw_key(w, "queue_position");
    if (position >= 0)
        jsonw_int(w, position);
    else
        jsonw_null(w);
    jsonw_key(w, "outputs");
    mux_put_outputs(w, rec);
    put_error(w, &rec->error);
    put_timeline(w, rec);
    put_time(w, "created_at", s->created_at);
    put_time(w, "started_at", s->started_at);
    put_time(w, "finished_at", s->finished_at);
    if (rec->retry_of)
        jsonw_kstr(w, "retry_of", rec->retry_of);
    jsonw_obj_end(w);
}

void api_put_record(struct api *a, struct jsonw *w, const struct job_record *rec)
{
    struct fleet_server v[MUX_SERVERS];
    size_t n = fleet_servers(registry_fleet(a->d.registry), v, MUX_SERVERS);
    bool waits = a->runner && rec->s.state == JOB_QUEUED;

    mux_put_record(w, rec, v, n < MUX_SERVERS ? n : MUX_SERVERS, a->runner,
                   waits ? runner_queue_position(a->runner, rec->s.id) : -1);
}

/* --- positions of a whole page ---
 *
 * Asking for them one by one would walk all that waits once for every row. Instead the page's waiting rows are sorted,
 * and each waiting job is counted at the first row that it goes before; what is counted up to a row is its place. */

struct place {
    struct sched_job key;
    size_t row;
    int first; /* waiting jobs that go before this row and not before the one in front of it */
    bool waits;
};

struct places {
    struct place *v;
    size_t n;
    const char *tenant;
};

static struct sched_job key_of(const struct job_summary *s)
{
    return (struct sched_job){.number = s->number, .seq = s->seq, .priority = s->priority};
}

static int place_order(const void *a, const void *b)
{
    const struct sched_job *x = &((const struct place *)a)->key, *y = &((const struct place *)b)->key;

    return sched_job_before(x, y) ? -1 : sched_job_before(y, x);
}

static bool count_one(const struct runner_job_view *job, void *arg)
{
    struct places *p = arg;
    struct sched_job key = key_of(job->s);
    size_t lo = 0, hi = p->n;

    if (job->s->state != JOB_QUEUED || strcmp(job->s->tenant, p->tenant) != 0)
        return true;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;

        if (sched_job_before(&key, &p->v[mid].key))
            hi = mid;
        else
            lo = mid + 1;
    }
    if (lo < p->n)
        p->v[lo].first++;
    if (lo > 0 && p->v[lo - 1].key.seq == key.seq)
        p->v[lo - 1].waits = true;
    return true;
}

void mux_queue_positions(struct api *a, struct job_record *const *rows, size_t n, int *position)
{
    struct places p = {.v = xcalloc(n + 1, sizeof(*p.v))};
    int before = 0;

    for (size_t i = 0; i < n; i++) {
        position[i] = -1;
        if (rows[i]->s.state != JOB_QUEUED)
            continue;
        p.tenant = rows[i]->s.tenant; /* a page is one tenant's */
        p.v[p.n].key = key_of(&rows[i]->s);
        p.v[p.n++].row = i;
    }
    if (p.n && a->runner) {
        qsort(p.v, p.n, sizeof(*p.v), place_order);
        runner_each(a->runner, count_one, &p);
        for (size_t i = 0; i < p.n; i++) {
            before += p.v[i].first;
            if (p.v[i].waits)
                position[p.v[i].row] = before;
        }
    }
    free(p.v);
}
