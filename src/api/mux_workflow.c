/* What was submitted as a job, and what the log said about it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/mux.h"
#include "base/log.h"

/* --- the workflow --- */

#define JSON_TYPE "application/json; charset=utf-8"

/* The pieces as they came: nothing is read and written again, so a seed stays the seed that it was. */
static void reply_whole(struct http_req *req, const struct job_record *rec)
{
    static const char prompt[] = "{\"prompt\": ", extra[] = ", \"extra_data\": ",
                      targets[] = ", \"outputs_to_execute\": ", last[] = "}";
    struct bytes *none = bytes_new("{}", 2), *all = bytes_new("null", 4);
    struct bytes *e = rec->extra_data ? rec->extra_data : none, *t = rec->targets ? rec->targets : all;

    http_start(req, 200, JSON_TYPE,
               (int64_t)(strlen(prompt) + rec->graph->len + strlen(extra) + e->len + strlen(targets) +
                         t->len + strlen(last)));
    http_send(req, prompt, strlen(prompt));
    http_send_bytes(req, rec->graph);
    http_send(req, extra, strlen(extra));
    http_send_bytes(req, e);
    http_send(req, targets, strlen(targets));
    http_send_bytes(req, t);
    http_send(req, last, strlen(last));
    http_end(req);
    bytes_unref(none);
    bytes_unref(all);
}

static void reply_file(struct http_req *req, const struct job_record *rec)
{
    char name[UUID_SIZE + 8];

    snprintf(name, sizeof(name), "%s.json", rec->s.id);
    api_put_file_fields(req, name, true);
    http_reply_bytes(req, 200, JSON_TYPE, rec->graph);
}

static void on_workflow(struct api *a, struct http_req *req, struct job_record **rec, void *arg)
{
    (void)a;
    if (mux_missing(req, rec))
        return;
    if ((*rec)->graph == NULL)
        api_error(req, 410, "expired", "the workflow of this job is no longer kept", NULL);
    else if (arg)
        reply_file(req, *rec);
    else
        reply_whole(req, *rec);
}

void mux_get_workflow(struct api *a, struct http_req *req, const struct api_params *p)
{
    char *text = mux_query(req, "download");
    bool yes = text && strcmp(text, "1") == 0;

    if (text && !yes && strcmp(text, "0") != 0)
        api_error(req, 400, "bad_request", "download is 1 or 0", NULL);
    else
        mux_load(a, req, p->v[0], JOB_PART_GRAPH, on_workflow, yes ? a : NULL);
    free(text);
}

/* --- the log --- */

static void put_line(void *arg, const struct log_kept *line)
{
    struct jsonw *w = arg;

    jsonw_obj(w);
    jsonw_kint(w, "at", line->at);
    jsonw_kstr(w, "level", log_level_name(line->level));
    jsonw_key(w, "text");
    jsonw_strn(w, line->text, line->n);
    jsonw_obj_end(w);
}

static void on_log(struct api *a, struct http_req *req, struct job_record **rec, void *arg)
{
    struct buf b = BUF_INIT;
    struct jsonw w;
    int64_t since;

    (void)a;
    (void)arg;
    if (mux_missing(req, rec))
        return;
    jsonw_init(&w, &b);
    jsonw_obj(&w);
    jsonw_key(&w, "lines");
    jsonw_arr(&w);
    since = log_kept((*rec)->s.id, put_line, &w);
    jsonw_arr_end(&w);
    jsonw_kbool(&w, "complete", (*rec)->s.created_at >= since);
    jsonw_obj_end(&w);
    api_reply_json(req, 200, &b);
}

void mux_get_log(struct api *a, struct http_req *req, const struct api_params *p)
{
    mux_load(a, req, p->v[0], 0, on_log, NULL);
}
