/* The document of --json: {"jobs": [record and "files"]}. A gateway's record is passed on as it came; for a
 * bare server one is made of what it told, with nulls for what it cannot know. */
#include <string.h>

#include "cli/run_priv.h"
#include "comfy/names.h"
#include "comfy/splice.h"

static void put_files(const struct run_job *j, struct jsonw *w)
{
    jsonw_arr(w);
    for (size_t i = 0; i < j->n_files; i++)
        jsonw_str(w, j->files[i]);
    jsonw_arr_end(w);
}

static const char *state_of(const struct run_job *j)
{
    static const char *const names[] = {"queued",     "queued",    "queued", "running", "collecting",
                                        "collecting", "succeeded", "failed", "canceled"};

    if (j->has_history && j->history.verdict == HISTORY_SUCCESS)
        return "succeeded";
    return names[j->phase];
}

static void put_outputs(const struct run_job *j, struct jsonw *w)
{
    jsonw_arr(w);
    for (size_t i = 0; i < j->n_outputs; i++) {
        const struct run_output *o = &j->outputs[i];

        jsonw_obj(w);
        jsonw_kint(w, "n", o->n);
        jsonw_kstr(w, "node_id", o->node);
        jsonw_kstr(w, "kind", o->kind);
        jsonw_kstr(w, "filename", o->filename);
        jsonw_kstr(w, "subfolder", o->subfolder);
        jsonw_kstr(w, "type", o->type);
        jsonw_key(w, "size");
        if (o->size >= 0)
            jsonw_int(w, o->size);
        else
            jsonw_null(w);
        jsonw_kstr(w, "mime", name_mime(o->filename, strlen(o->filename)));
        jsonw_kstr(w, "blake3", NULL);
        jsonw_kstr(w, "url", o->target);
        jsonw_obj_end(w);
    }
    jsonw_arr_end(w);
}

static void put_error(const struct run_job *j, struct jsonw *w)
{
    struct json detail = {0};

    if (!j->code) {
        jsonw_null(w);
        return;
    }
    if (j->detail && json_check(j->detail->data, j->detail->len, NULL, &detail, NULL) < 0)
        detail = (struct json){0};
    if (!j->detail && j->has_history)
        detail = j->history.error;
    jsonw_obj(w);
    jsonw_kstr(w, "code", j->code);
    jsonw_kstr(w, "message", j->message);
    jsonw_kstr(w, "server", NULL);
    jsonw_kstr(w, "attempt", NULL);
    jsonw_kspan(w, "detail", detail);
    jsonw_obj_end(w);
}

/* The time stamp of the first message of one of these kinds. */
static struct json stamp(const struct run_job *j, const char *const *kinds)
{
    struct json_iter it = json_iter(j->has_history ? j->history.messages : (struct json){0});
    struct json m;

    while (json_next(&it, NULL, &m))
        for (const char *const *k = kinds; *k; k++)
            if (json_str_eq(json_at(m, 0), *k))
                return json_get(json_at(m, 1), "timestamp");
    return (struct json){0};
}

static void put_made_record(const struct run_job *j, struct jsonw *w)
{
    static const char *const starts[] = {"execution_start", NULL};
    static const char *const ends[] = {"execution_success", "execution_error", "execution_interrupted", NULL};
    static const char *const unknown[] = {"server",   "window_id", "registered_at",  "attempt",
                                          "attempts", "progress",  "queue_position", "timeline"};
    struct json extra = j->has_history ? json_at(j->history.prompt, 3) : (struct json){0};

    jsonw_obj(w);
    jsonw_kstr(w, "id", j->id);
    jsonw_kstr(w, "state", state_of(j));
    jsonw_kstr(w, "client_id", j->run->client_id);
    for (size_t i = 0; i < ARRAY_LEN(unknown); i++)
        jsonw_kstr(w, unknown[i], NULL);
    jsonw_key(w, "outputs");
    put_outputs(j, w);
    jsonw_key(w, "error");
    put_error(j, w);
    jsonw_kspan(w, "created_at", json_get(extra, "create_time"));
    jsonw_kspan(w, "started_at", stamp(j, starts));
    jsonw_kspan(w, "finished_at", stamp(j, ends));
    jsonw_key(w, "files");
    put_files(j, w);
    jsonw_obj_end(w);
}

static void put_gateway_record(const struct run_job *j, struct buf *out)
{
    struct edits e = EDITS_INIT;
    struct buf files = BUF_INIT;
    struct jsonw w;

    jsonw_init(&w, &files);
    put_files(j, &w);
    edits_add_member(&e, j->record, "files", files.data, files.len);
    edits_put(&e, out, j->record);
    edits_fini(&e);
    buf_free(&files);
}

void run_put_document(const struct run *r, struct buf *out)
{
    buf_puts(out, "{\"jobs\": [");
    for (size_t i = 0; i < r->n_jobs; i++) {
        const struct run_job *j = &r->jobs[i];
        struct jsonw w;

        if (i)
            buf_puts(out, ", ");
        jsonw_init(&w, out);
        if (j->record.p)
            put_gateway_record(j, out);
        else
            put_made_record(j, &w);
    }
    buf_puts(out, "]}\n");
}
