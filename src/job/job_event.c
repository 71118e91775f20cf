#include "job/job_event.h"

#include <stdio.h>

void job_output_url(const char *id, int n, char out[JOB_OUTPUT_URL_MAX])
{
    snprintf(out, JOB_OUTPUT_URL_MAX, "/mux/v1/jobs/%s/outputs/%d", id, n);
}

void job_put_output(struct jsonw *w, const char *id, const struct job_output *o)
{
    char url[JOB_OUTPUT_URL_MAX], hex[BLAKE3_HEX];

    job_output_url(id, o->n, url);
    blake3_hex(o->blake3, hex);
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
}

const char *job_event_state_kind(enum job_state s)
{
    return JOB_STATE_LIVE(s) ? "state" : "end";
}

static void begin(struct jsonw *w, struct buf *b, const char *id, int64_t at)
{
    jsonw_init(w, b);
    jsonw_obj(w);
    jsonw_kstr(w, "job", id);
    jsonw_kint(w, "at", at);
}

void job_event_put_state(struct buf *b, const struct job_event_state *e)
{
    struct jsonw w;

    begin(&w, b, e->id, e->at);
    jsonw_kstr(&w, "state", job_state_name(e->state));
    jsonw_kstr(&w, "server", e->server);
    jsonw_kint(&w, "attempt", e->attempt);
    if (e->code != JOB_OK) {
        jsonw_key(&w, "error");
        jsonw_obj(&w);
        jsonw_kstr(&w, "code", job_code_name(e->code));
        jsonw_kstr(&w, "message", e->message);
        jsonw_obj_end(&w);
    }
    jsonw_obj_end(&w);
}

void job_event_put_output(struct buf *b, const char *id, int64_t at, const struct job_output *o)
{
    struct jsonw w;

    begin(&w, b, id, at);
    job_put_output(&w, id, o);
    jsonw_obj_end(&w);
}

void job_event_put_progress(struct buf *b, const char *id, int64_t at, int64_t value, int64_t max,
                            const char *node)
{
    struct jsonw w;

    begin(&w, b, id, at);
    jsonw_kint(&w, "value", value);
    jsonw_kint(&w, "max", max);
    jsonw_kstr(&w, "node", node);
    jsonw_obj_end(&w);
}
