/* What a server has said of the present attempt, and the account of its end made of that when no server has written one
 * down: a native client finds the same messages in history that a stock server would have kept. */
#include <stdlib.h>
#include <string.h>

#include "comfy/events.h"
#include "job/runner_priv.h"

static void set_str(char **to, struct json v)
{
    free(*to);
    *to = json_strdup(v);
}

void account_cached(struct attempt *a, struct json nodes)
{
    free(a->cached);
    a->cached = json_type(nodes) == JSON_ARRAY ? xstrndup(nodes.p, nodes.n) : NULL;
}

/* The node before this one has run. Again after an interruption of the socket: it may stand there twice, so it is looked
 * for. */
void account_executing(struct attempt *a, struct json node)
{
    char *before = a->executing;
    bool known = before == NULL || json_str_eq(node, before);

    for (size_t i = 0; !known && i < a->n_ran; i++)
        known = strcmp(a->ran[i], before) == 0;
    if (!known) {
        a->ran = xrealloc(a->ran, (a->n_ran + 1) * sizeof(char *));
        a->ran[a->n_ran++] = xstrdup(before);
    }
    set_str(&a->executing, node);
}

void account_forget(struct attempt *a)
{
    for (size_t i = 0; i < a->n_ran; i++)
        free(a->ran[i]);
    free(a->ran);
    free(a->cached);
    free(a->executing);
    bytes_unref(a->graph);
}

/* --- the account --- */

static void put_interrupted(struct buf *b, const struct runner_job *j, int64_t at)
{
    const struct attempt *a = j->a;
    char *type = NULL;
    struct buf ran = BUF_INIT;
    struct json graph;
    struct jsonw w;

    jsonw_init(&w, &ran);
    jsonw_arr(&w);
    for (size_t i = 0; a && i < a->n_ran; i++)
        jsonw_str(&w, a->ran[i]);
    jsonw_arr_end(&w);
    if (a && a->executing && a->graph && json_check(a->graph->data, a->graph->len, NULL, &graph, NULL) == 0)
        type = json_strdup(json_get(json_get(graph, a->executing), "class_type"));
    event_put_interrupted(b, j->s.id, a && a->executing ? a->executing : "", type ? type : "",
                          (struct json){ran.data, ran.len}, at);
    buf_free(&ran);
    free(type);
}

static void put_error(struct buf *b, const struct runner_job *j, const struct job_error *e, int64_t at)
{
    char *text = job_error_text(e);
    struct event_error x = {.prompt_id = j->s.id,
                            .node_id = "",
                            .node_type = "",
                            .exception_message = text,
                            .exception_type = job_code_name(e->code),
                            .timestamp = at};

    event_put_error(b, &x);
    free(text);
}

/* A message of history is [type, data] of the event. */
static void put_message(struct jsonw *w, struct buf *event)
{
    struct json whole;

    if (json_check(buf_str(event), event->len, NULL, &whole, NULL) == 0) {
        jsonw_arr(w);
        jsonw_span(w, json_get(whole, "type"));
        jsonw_span(w, json_get(whole, "data"));
        jsonw_arr_end(w);
    }
    buf_clear(event);
}

struct bytes *account_of_end(struct runner_job *j, enum job_state state, const struct job_error *e)
{
    int64_t at = runner_wall(j->r), start = j->s.started_at ? j->s.started_at : at;
    struct buf out = BUF_INIT, event = BUF_INIT;
    struct json cached = {0};
    struct jsonw w;

    jsonw_init(&w, &out);
    jsonw_obj(&w);
    jsonw_kspan(&w, "outputs", (struct json){"{}", 2});
    jsonw_key(&w, "status");
    jsonw_obj(&w);
    jsonw_kstr(&w, "status_str", "error");
    jsonw_kbool(&w, "completed", false);
    jsonw_key(&w, "messages");
    jsonw_arr(&w);
    event_put_start(&event, j->s.id, start);
    put_message(&w, &event);
    if (j->a && j->a->cached) {
        cached = (struct json){j->a->cached, strlen(j->a->cached)};
        event_put_cached(&event, cached, j->s.id, start);
        put_message(&w, &event);
    }
    if (state == JOB_CANCELED)
        put_interrupted(&event, j, at);
    else
        put_error(&event, j, e, at);
    put_message(&w, &event);
    jsonw_arr_end(&w);
    jsonw_obj_end(&w);
    jsonw_kspan(&w, "meta", (struct json){"{}", 2});
    jsonw_obj_end(&w);
    buf_free(&event);
    return buf_to_bytes(&out);
}
