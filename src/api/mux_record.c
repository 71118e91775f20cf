/* The job record, as every mux route shows it. Its keys are a promise: all of them always stand there. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/mux.h"
#include "job/scheduler.h"

/* --- pieces --- */

void mux_put_time(struct jsonw *w, const char *key, int64_t ms)
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

static void put_short_error(struct jsonw *w, enum job_code code, const char *message)
{
    jsonw_key(w, "error");
    if (code == JOB_OK) {
        jsonw_null(w);
        return;
    }
    jsonw_obj(w);
    jsonw_kstr(w, "code", job_code_name(code));
    jsonw_kstr(w, "message", message);
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
        mux_put_time(w, "started_at", t->started_at);
        mux_put_time(w, "ended_at", t->ended_at);
        put_short_error(w, t->code, t->message);
        jsonw_obj_end(w);
    }
    jsonw_arr_end(w);
}

void mux_put_progress(struct jsonw *w, const struct runner_job_view *v)
{
    jsonw_key(w, "progress");
    jsonw_obj(w);
    jsonw_kint(w, "value", v->progress_value);
    jsonw_kint(w, "max", v->progress_max);
    jsonw_kstr(w, "node", v->progress_node ? v->progress_node : v->executing);
    jsonw_obj_end(w);
}

static void put_progress(struct jsonw *w, struct runner *r, const char *id)
{
    struct runner_job_view v = {0};

    if (r == NULL || !runner_find(r, id, &v))
        v = (struct runner_job_view){0};
    mux_put_progress(w, &v);
}

static void put_position(struct jsonw *w, struct runner *r, const struct job_summary *s)
{
    int place = r && s->state == JOB_QUEUED ? runner_queue_position(r, s->id) : -1;

    jsonw_key(w, "queue_position");
    if (place >= 0)
        jsonw_int(w, place);
    else
        jsonw_null(w);
}

void mux_put_outputs(struct jsonw *w, const struct job_record *rec)
{
    jsonw_arr(w);
    for (size_t i = 0; i < rec->n_outputs; i++) {
        if (rec->outputs[i].attempt != rec->s.attempt)
            continue;
        jsonw_obj(w);
        job_put_output(w, rec->s.id, &rec->outputs[i]);
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
                    size_t n_servers, struct runner *r)
{
    const struct job_summary *s = &rec->s;

    jsonw_obj(w);
    jsonw_kstr(w, "id", s->id);
    jsonw_kstr(w, "state", job_state_name(s->state));
    put_server(w, s->server, servers, n_servers);
    jsonw_kstr(w, "window_id", s->window_id);
    jsonw_kstr(w, "client_id", s->client_id);
    mux_put_time(w, "registered_at", s->created_at);
    jsonw_kint(w, "attempt", s->attempt);
    put_attempts(w, rec);
    put_progress(w, r, s->id);
    put_position(w, r, s);
    jsonw_key(w, "outputs");
    mux_put_outputs(w, rec);
    put_error(w, &rec->error);
    put_timeline(w, rec);
    mux_put_time(w, "created_at", s->created_at);
    mux_put_time(w, "started_at", s->started_at);
    mux_put_time(w, "finished_at", s->finished_at);
    if (rec->retry_of)
        jsonw_kstr(w, "retry_of", rec->retry_of);
    jsonw_obj_end(w);
}

/* --- for tables --- */

static void put_few(struct jsonw *w, const struct job_record *rec)
{
    char url[JOB_OUTPUT_URL_MAX];

    jsonw_key(w, "outputs");
    jsonw_arr(w);
    for (size_t i = 0; i < rec->n_outputs; i++) {
        const struct job_output *o = &rec->outputs[i];

        job_output_url(rec->s.id, o->n, url);
        jsonw_obj(w);
        jsonw_kint(w, "n", o->n);
        jsonw_kstr(w, "kind", o->kind);
        jsonw_kstr(w, "filename", o->filename);
        jsonw_kstr(w, "url", url);
        jsonw_kstr(w, "mime", o->mime);
        jsonw_kint(w, "size", o->size);
        jsonw_obj_end(w);
    }
    jsonw_arr_end(w);
    jsonw_kint(w, "outputs_count", (int64_t)rec->outputs_count);
}

void mux_put_brief(struct jsonw *w, const struct job_record *rec, const struct fleet_server *servers,
                   size_t n_servers, struct runner *r)
{
    const struct job_summary *s = &rec->s;

    jsonw_obj(w);
    jsonw_kstr(w, "id", s->id);
    jsonw_kstr(w, "state", job_state_name(s->state));
    put_server(w, s->server, servers, n_servers);
    jsonw_kstr(w, "window_id", s->window_id);
    jsonw_kstr(w, "client_id", s->client_id);
    jsonw_kint(w, "attempt", s->attempt);
    put_progress(w, r, s->id);
    put_position(w, r, s);
    mux_put_time(w, "created_at", s->created_at);
    mux_put_time(w, "started_at", s->started_at);
    mux_put_time(w, "finished_at", s->finished_at);
    put_short_error(w, rec->error.code, rec->error.message);
    put_few(w, rec);
    jsonw_obj_end(w);
}

void api_put_record(struct api *a, struct jsonw *w, const struct job_record *rec)
{
    struct fleet_server v[MUX_SERVERS];
    size_t n = fleet_servers(registry_fleet(a->d.registry), v, MUX_SERVERS);

    mux_put_record(w, rec, v, n < MUX_SERVERS ? n : MUX_SERVERS, a->runner);
}
