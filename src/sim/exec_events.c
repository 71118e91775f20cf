#include "sim/exec_events.h"

#include <stdlib.h>
#include <string.h>

struct progress {
    const struct xnode *node;
    int64_t value, max;
    bool real; /* 0.0 / 1.0, not yet ticked */
    bool finished;
    UT_hash_handle hh;
};

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
    struct progress *p, *next;

    HASH_ITER(hh, v->progress, p, next) {
        HASH_DEL(v->progress, p);
        free(p);
    }
    free(v->prompt_id);
    free(v->sid);
    v->prompt_id = v->sid = NULL;
    buf_free(&v->messages);
}

static void put_event(struct buf *b, const char *type, const struct val *data)
{
    buf_puts(b, "{\"type\": ");
    json_put_str(b, type);
    buf_puts(b, ", \"data\": ");
    val_put(b, data);
    buf_putc(b, '}');
}

static void deliver(struct xevents *v, const char *sid, const char *type, const struct val *data)
{
    struct buf b = BUF_INIT;

    put_event(&b, type, data);
    v->sink->text(v->sink->arg, sid, b.data, b.len);
    buf_free(&b);
}

void xevents_send(struct xevents *v, const char *type, struct val *data)
{
    if (v->sid)
        deliver(v, v->sid, type, data);
    val_free(data);
}

void xevents_send_wide(struct xevents *v, const char *type, struct val *data)
{
    deliver(v, v->sid, type, data);
    val_free(data);
}

void xevents_send_all(struct xevents *v, const char *type, const struct val *data)
{
    deliver(v, NULL, type, data);
}

void xevents_message(struct xevents *v, const char *type, struct val *data, bool wide)
{
    val_set(data, "timestamp", val_int(v->clock->wall_ms(v->clock)));
    if (v->messages.len)
        buf_puts(&v->messages, ", ");
    buf_putc(&v->messages, '[');
    json_put_str(&v->messages, type);
    buf_puts(&v->messages, ", ");
    val_put(&v->messages, data);
    buf_putc(&v->messages, ']');
    if (wide)
        xevents_send_wide(v, type, data);
    else
        xevents_send(v, type, data);
}

void xevents_executing(struct xevents *v, const struct xnode *n)
{
    struct val *d = val_obj();

    val_set(d, "node", n ? val_str(n->id) : val_null());
    if (n)
        val_set(d, "display_node", val_str(xnode_display(n)));
    val_set(d, "prompt_id", val_str(v->prompt_id));
    xevents_send(v, "executing", d);
}

void xevents_executed(struct xevents *v, const struct xnode *n, const struct val *output)
{
    struct val *d = val_obj();

    val_set(d, "node", val_str(n->id));
    val_set(d, "display_node", val_str(xnode_display(n)));
    val_set(d, "output", output ? val_copy(output) : val_null());
    val_set(d, "prompt_id", val_str(v->prompt_id));
    xevents_send(v, "executed", d);
}

static struct val *ids_of(struct xevents *v, const struct xnode *n, struct val *d)
{
    val_set(d, "node_id", val_str(n->id));
    val_set(d, "prompt_id", val_str(v->prompt_id));
    val_set(d, "display_node_id", val_str(xnode_display(n)));
    val_set(d, "parent_node_id", n->parent ? val_str(n->parent->id) : val_null());
    val_set(d, "real_node_id", val_str(xnode_display(n)));
    return d;
}

static void send_state(struct xevents *v)
{
    struct val *d = val_obj(), *nodes = val_obj();

    for (struct progress *p = v->progress; p; p = p->hh.next) {
        struct val *n = val_obj();

        val_set(n, "value", p->real ? val_float((double)p->value) : val_int(p->value));
        val_set(n, "max", p->real ? val_float((double)p->max) : val_int(p->max));
        val_set(n, "state", val_str(p->finished ? "finished" : "running"));
        val_set(nodes, p->node->id, ids_of(v, p->node, n));
    }
    val_set(d, "prompt_id", val_str(v->prompt_id));
    val_set(d, "nodes", nodes);
    xevents_send_wide(v, "progress_state", d);
}

static struct progress *entry(struct xevents *v, const struct xnode *n)
{
    struct progress *p;

    HASH_FIND_PTR(v->progress, &n, p);
    if (!p) {
        p = xcalloc(1, sizeof(*p));
        p->node = n;
        p->max = 1;
        HASH_ADD_PTR(v->progress, node, p);
    }
    return p;
}

void xevents_node_starts(struct xevents *v, const struct xnode *n)
{
    struct progress *p = entry(v, n);

    p->real = true;
    p->value = 0;
    p->max = 1;
    p->finished = false;
    send_state(v);
}

void xevents_node_ends(struct xevents *v, const struct xnode *n)
{
    struct progress *p = entry(v, n);

    p->finished = true;
    p->value = p->max;
    send_state(v);
}

static void send_preview(struct xevents *v, const struct xnode *n, const char *mime, const struct buf *image,
                         bool metadata)
{
    struct buf b = BUF_INIT, meta = BUF_INIT;

    buf_put_u32be(&b, metadata ? 4 : 1);
    if (metadata) {
        struct val *m = ids_of(v, n, val_obj());

        val_set(m, "image_type", val_str(mime));
        val_put(&meta, m);
        val_free(m);
        buf_put_u32be(&b, (uint32_t)meta.len);
        buf_put(&b, meta.data, meta.len);
    } else {
        buf_put_u32be(&b, strcmp(mime, "image/png") == 0 ? 2 : 1);
    }
    buf_put(&b, image->data, image->len);
    v->sink->binary(v->sink->arg, v->sid, b.data, b.len);
    buf_free(&b);
    buf_free(&meta);
}

bool xevents_tick(struct xevents *v, const struct xnode *n, int64_t value, int64_t max, const char *mime,
                  const struct buf *preview)
{
    int metadata = preview && v->sid ? v->sink->metadata(v->sink->arg, v->sid) : 0;
    struct progress *p = entry(v, n);
    struct val *d;

    p->real = false;
    p->value = value;
    p->max = max;
    p->finished = false;
    send_state(v);
    if (metadata < 0)
        return false;
    if (metadata) /* before its progress; the old kind comes after */
        send_preview(v, n, mime, preview, true);
    d = val_obj();
    val_set(d, "value", val_int(value));
    val_set(d, "max", val_int(max));
    val_set(d, "prompt_id", val_str(v->prompt_id));
    val_set(d, "node", val_str(n->id));
    xevents_send_wide(v, "progress", d);
    if (preview && !metadata)
        send_preview(v, n, mime, preview, false);
    return true;
}

void xevents_node_text(struct xevents *v, const struct xnode *n, const char *text)
{
    struct buf b = BUF_INIT;

    buf_put_u32be(&b, 3);
    buf_put_u32be(&b, (uint32_t)strlen(n->id));
    buf_puts(&b, n->id);
    buf_puts(&b, text);
    v->sink->binary(v->sink->arg, NULL, b.data, b.len);
    buf_free(&b);
}

void exec_put_status(struct buf *b, size_t remaining, const char *sid)
{
    buf_printf(b, "{\"type\": \"status\", \"data\": {\"status\": {\"exec_info\": {\"queue_remaining\": %zu}}",
               remaining);
    if (sid) {
        buf_puts(b, ", \"sid\": ");
        json_put_str(b, sid);
    }
    buf_puts(b, "}}");
}
