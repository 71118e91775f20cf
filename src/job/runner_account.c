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

/* The node before this one has run. */
void account_executing(struct attempt *a, struct json node)
{
    if (a->executing && !json_str_eq(node, a->executing))
        strset_add(&a->ran, a->executing, RUNNER_NODES_BYTES);
    free(a->executing);
    a->executing = json_strdup(node);
}

void account_forget(struct attempt *a)
{
    strset_clear(&a->ran);
    free(a->cached);
    free(a->executing);
    bytes_unref(a->graph);
}

/* --- the account --- */

static void put_interrupted(struct buf *b, const struct runner_job *j, int64_t at)
{
    const struct attempt *a = j->a;
    const struct strset_item *i;
    char *type = NULL;
    struct buf ran = BUF_INIT;
    struct json graph;
    struct jsonw w;

    jsonw_init(&w, &ran);
    jsonw_arr(&w);
    if (a)
        for (i = strset_next(&a->ran, NULL); i; i = strset_next(&a->ran, i))
            jsonw_str(&w, strset_name(i));
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
