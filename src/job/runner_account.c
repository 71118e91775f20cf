/* What a server has said of the present attempt, and the account of its end made of that when no server has written one
 * down: a native client finds the same messages in history that a stock server would have kept. */
#include <stdlib.h>
#include <string.h>

#include "comfy/events.h"
#include "comfy/history.h"
#include "job/runner_priv.h"

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
    free(before);
    a->executing = json_strdup(node);
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

static void keep(struct buf *messages, struct buf *event)
{
    event_put_history_message(messages, event->data, event->len);
    buf_clear(event);
}

struct bytes *account_of_end(struct runner_job *j, enum job_state state, const struct job_error *e)
{
    int64_t at = runner_wall(j->r), start = j->s.started_at ? j->s.started_at : at;
    struct buf out = BUF_INIT, event = BUF_INIT, messages = BUF_INIT;

    event_put_start(&event, j->s.id, start);
    keep(&messages, &event);
    if (j->a && j->a->cached) {
        event_put_cached(&event, (struct json){j->a->cached, strlen(j->a->cached)}, j->s.id, start);
        keep(&messages, &event);
    }
    if (state == JOB_CANCELED)
        put_interrupted(&event, j, at);
    else
        put_error(&event, j, e, at);
    keep(&messages, &event);
    buf_puts(&out, "{\"outputs\": {}, \"status\": ");
    history_put_status(&out, false, &messages);
    buf_puts(&out, ", \"meta\": {}}");
    buf_free(&messages);
    buf_free(&event);
    return buf_to_bytes(&out);
}
