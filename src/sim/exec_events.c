#include "sim/exec_events.h"

#include <stdlib.h>
#include <string.h>

void xevents_begin(struct xevents *v, const char *prompt_id, const struct val *extra)
{
    const struct val *client = val_get(extra, "client_id");

    v->prompt_id = xstrdup(prompt_id);
    if (client && client->type == VAL_STR)
        v->sid = xstrdup(client->text);
    else if (client && client->type != VAL_NULL)
        v->sid = xstrdup("\x01not a string"); /* an id that no socket has: directed messages vanish */
}

void xevents_end(struct xevents *v)
{
    free(v->prompt_id);
    free(v->sid);
    free(v->nodes);
    buf_free(&v->messages);
    *v = (struct xevents){.sink = v->sink};
}

void xevents_send(struct xevents *v, struct buf *event, bool wide)
{
    if (v->sid || wide)
        v->sink->text(v->sink->arg, v->sid, event->data, event->len);
    buf_free(event);
}

void xevents_message(struct xevents *v, struct buf *event, bool wide)
{
    event_put_history_message(&v->messages, event->data, event->len);
    xevents_send(v, event, wide);
}

void xevents_send_all(struct xevents *v, const char *type, const struct val *data)
{
    struct buf b = BUF_INIT;

    buf_puts(&b, "{\"type\": ");
    json_put_str(&b, type);
    buf_puts(&b, ", \"data\": ");
    val_put(&b, data);
    buf_putc(&b, '}');
    v->sink->text(v->sink->arg, NULL, b.data, b.len);
    buf_free(&b);
}

void xevents_executing(struct xevents *v, const struct xnode *n)
{
    struct buf b = BUF_INIT;

    event_put_executing(&b, n ? n->id : NULL, n ? xnode_display(n) : NULL, v->prompt_id);
    xevents_send(v, &b, false);
}

void xevents_executed(struct xevents *v, const struct xnode *n, const struct val *output)
{
    struct buf b = BUF_INIT, text = BUF_INIT;

    if (output)
        val_put(&text, output);
    event_put_executed(&b, n->id, xnode_display(n), (struct json){text.data, text.len}, v->prompt_id);
    xevents_send(v, &b, false);
    buf_free(&text);
}

static void send_state(struct xevents *v)
{
    struct buf b = BUF_INIT;

    event_put_progress_state(&b, v->prompt_id, v->nodes, v->n);
    xevents_send(v, &b, true);
}

static struct event_node_state *entry(struct xevents *v, const struct xnode *n)
{
    for (size_t i = 0; i < v->n; i++)
        if (v->nodes[i].node_id == n->id)
            return &v->nodes[i];
    if ((v->n & (v->n - 1)) == 0)
        v->nodes = xrealloc(v->nodes, (v->n ? 2 * v->n : 1) * sizeof(*v->nodes));
    v->nodes[v->n] = (struct event_node_state){.node_id = n->id,
                                               .display_node_id = xnode_display(n),
                                               .parent_node_id = n->parent ? n->parent->id : NULL,
                                               .real_node_id = xnode_display(n),
                                               .max = 1,
                                               .whole = true};
    return &v->nodes[v->n++];
}

void xevents_node_starts(struct xevents *v, const struct xnode *n)
{
    struct event_node_state *p = entry(v, n);

    p->whole = false;
    p->value = 0;
    p->max = 1;
    p->state = "running";
    send_state(v);
}

void xevents_node_ends(struct xevents *v, const struct xnode *n)
{
    struct event_node_state *p = entry(v, n);

    p->state = "finished";
    p->value = p->max;
    send_state(v);
}

static void send_preview(struct xevents *v, const struct xnode *n, const char *mime, const struct buf *image,
                         bool metadata)
{
    enum frame_image kind = strcmp(mime, "image/png") == 0 ? FRAME_PNG : FRAME_JPEG;
    struct frame_meta m = {n->id, v->prompt_id, xnode_display(n), n->parent ? n->parent->id : NULL,
                           xnode_display(n)};
    struct buf b = BUF_INIT;

    if (metadata)
        frame_put_image_meta(&b, &m, kind, image->data, image->len);
    else
        frame_put_image(&b, kind, image->data, image->len);
    v->sink->binary(v->sink->arg, v->sid, b.data, b.len);
    buf_free(&b);
}

bool xevents_tick(struct xevents *v, const struct xnode *n, int64_t value, int64_t max, const char *mime,
                  const struct buf *preview)
{
    int metadata = preview && v->sid ? v->sink->metadata(v->sink->arg, v->sid) : 0;
    struct event_node_state *p = entry(v, n);
    struct buf b = BUF_INIT;

    p->whole = true;
    p->value = (double)value;
    p->max = (double)max;
    p->state = "running";
    send_state(v);
    if (metadata < 0)
        return false;
    if (metadata) /* before its progress; the old kind comes after */
        send_preview(v, n, mime, preview, true);
    event_put_progress(&b, value, max, v->prompt_id, n->id);
    xevents_send(v, &b, true);
    if (preview && !metadata)
        send_preview(v, n, mime, preview, false);
    return true;
}

void xevents_node_text(struct xevents *v, const struct xnode *n, const char *text)
{
    struct buf b = BUF_INIT;

    frame_put_text(&b, n->id, text, strlen(text));
    v->sink->binary(v->sink->arg, NULL, b.data, b.len);
    buf_free(&b);
}
