#include "comfy/events.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "comfy/splice.h"

static const char *const kind_names[EVENT_KINDS] = {
    [EVENT_OTHER] = "other",
    [EVENT_STATUS] = "status",
    [EVENT_FEATURE_FLAGS] = "feature_flags",
    [EVENT_EXECUTION_START] = "execution_start",
    [EVENT_EXECUTION_CACHED] = "execution_cached",
    [EVENT_EXECUTING] = "executing",
    [EVENT_PROGRESS] = "progress",
    [EVENT_PROGRESS_STATE] = "progress_state",
    [EVENT_EXECUTED] = "executed",
    [EVENT_EXECUTION_SUCCESS] = "execution_success",
    [EVENT_EXECUTION_ERROR] = "execution_error",
    [EVENT_EXECUTION_INTERRUPTED] = "execution_interrupted",
    [EVENT_LOGS] = "logs",
    [EVENT_NOTIFICATION] = "notification",
};

const char *event_kind_name(enum event_kind k)
{
    return k < EVENT_KINDS ? kind_names[k] : "other";
}

static const struct json none = {NULL, 0};

static struct json string_or_none(struct json v)
{
    return json_type(v) == JSON_STRING ? v : none;
}

/* The fields that messages share, in one pass over data; the last of a name counts. */
static void read_data(struct event *ev)
{
    static const struct {
        const char *key;
        size_t offset;
    } fields[] = {
        {"prompt_id", offsetof(struct event, prompt_id)},
        {"node", offsetof(struct event, node)},
        {"display_node", offsetof(struct event, display_node)},
        {"value", offsetof(struct event, value)},
        {"max", offsetof(struct event, max)},
        {"output", offsetof(struct event, output)},
        {"nodes", offsetof(struct event, nodes)},
        {"sid", offsetof(struct event, sid)},
    };
    struct json_iter it = json_iter(ev->data);
    struct json k, v;

    if (json_type(ev->data) != JSON_OBJECT)
        return;
    while (json_next(&it, &k, &v)) {
        for (size_t i = 0; i < ARRAY_LEN(fields); i++)
            if (json_str_eq(k, fields[i].key))
                *(struct json *)(void *)((char *)ev + fields[i].offset) = v;
        if (ev->kind == EVENT_STATUS && json_str_eq(k, "status"))
            json_int(json_get(json_get(v, "exec_info"), "queue_remaining"), &ev->queue_remaining);
        if (ev->kind == EVENT_EXECUTION_ERROR && json_str_eq(k, "exception_type"))
            ev->blocked = json_str_eq(v, "ExecutionBlocked");
        if ((ev->kind == EVENT_EXECUTION_ERROR || ev->kind == EVENT_EXECUTION_INTERRUPTED) &&
            json_str_eq(k, "node_id"))
            ev->node = v;
        if (ev->kind == EVENT_NOTIFICATION && json_str_eq(k, "id"))
            ev->prompt_id = v;
    }
    ev->prompt_id = string_or_none(ev->prompt_id);
    ev->sid = string_or_none(ev->sid);
}

int event_parse(const char *text, size_t len, struct event *ev, struct err *e)
{
    *ev = (struct event){.queue_remaining = -1};
    if (json_check(text, len, NULL, &ev->whole, e) < 0)
        return err_wrap(e, "message");
    if (json_type(ev->whole) != JSON_OBJECT)
        return err_set(e, EINVAL, "message is not an object");
    ev->type = json_get(ev->whole, "type");
    if (json_type(ev->type) != JSON_STRING)
        return err_set(e, EINVAL, "message has no type");
    ev->data = json_get(ev->whole, "data");
    for (int k = EVENT_OTHER + 1; k < EVENT_KINDS; k++)
        if (json_str_eq(ev->type, kind_names[k]))
            ev->kind = (enum event_kind)k;
    read_data(ev);
    return 0;
}

bool event_is_terminal(const struct event *ev)
{
    return ev->kind == EVENT_EXECUTION_SUCCESS || ev->kind == EVENT_EXECUTION_INTERRUPTED ||
           (ev->kind == EVENT_EXECUTION_ERROR && !ev->blocked);
}

bool event_is_end(const struct event *ev)
{
    return ev->kind == EVENT_EXECUTING && json_type(ev->node) == JSON_NULL && ev->prompt_id.p;
}

void event_put_with_prompt_id(struct buf *out, const struct event *ev, const char *prompt_id)
{
    struct edits ed = EDITS_INIT;
    struct buf id = BUF_INIT;
    struct json_iter it;
    struct json node;

    json_put_str(&id, prompt_id);
    if (ev->prompt_id.p)
        edits_replace(&ed, ev->prompt_id, id.data, id.len);
    else if (ev->kind == EVENT_EXECUTING && json_type(ev->data) == JSON_OBJECT &&
             !json_get(ev->data, "prompt_id").p)
        edits_add_member(&ed, ev->data, "prompt_id", id.data, id.len);
    if (ev->kind == EVENT_PROGRESS_STATE && json_type(ev->nodes) == JSON_OBJECT) {
        it = json_iter(ev->nodes);
        while (json_next(&it, NULL, &node)) {
            struct json at = json_get(node, "prompt_id");

            if (json_type(at) == JSON_STRING)
                edits_replace(&ed, at, id.data, id.len);
        }
    }
    edits_put(&ed, out, ev->whole);
    edits_fini(&ed);
    buf_free(&id);
}

void event_put_history_message(struct buf *messages, const char *text, size_t len)
{
    struct json whole;
    int bad = json_check(text, len, NULL, &whole, NULL);

    assert(bad == 0);
    (void)bad;
    if (messages->len)
        buf_puts(messages, ", ");
    buf_putc(messages, '[');
    json_put(messages, json_get(whole, "type"));
    buf_puts(messages, ", ");
    json_put(messages, json_get(whole, "data"));
    buf_putc(messages, ']');
}

/* ---- builders ----------------------------------------------------------------------------------------- */

static void begin(struct jsonw *w, struct buf *out, enum event_kind k)
{
    jsonw_init(w, out);
    jsonw_obj(w);
    jsonw_kstr(w, "type", kind_names[k]);
    jsonw_key(w, "data");
    jsonw_obj(w);
}

static void end(struct jsonw *w)
{
    jsonw_obj_end(w);
    jsonw_obj_end(w);
}

static void put_or(struct jsonw *w, const char *key, struct json v, const char *otherwise)
{
    jsonw_kspan(w, key, v.p ? v : (struct json){otherwise, strlen(otherwise)});
}

void event_put_status(struct buf *out, int64_t queue_remaining, const char *sid)
{
    struct jsonw w;

    begin(&w, out, EVENT_STATUS);
    jsonw_key(&w, "status");
    jsonw_obj(&w);
    jsonw_key(&w, "exec_info");
    jsonw_obj(&w);
    jsonw_kint(&w, "queue_remaining", queue_remaining);
    jsonw_obj_end(&w);
    jsonw_obj_end(&w);
    if (sid)
        jsonw_kstr(&w, "sid", sid);
    end(&w);
}

void event_put_feature_flags(struct buf *out, struct json flags)
{
    struct jsonw w;

    jsonw_init(&w, out);
    jsonw_obj(&w);
    jsonw_kstr(&w, "type", "feature_flags");
    put_or(&w, "data", flags, "{}");
    jsonw_obj_end(&w);
}

void event_put_start(struct buf *out, const char *prompt_id, int64_t timestamp)
{
    struct jsonw w;

    begin(&w, out, EVENT_EXECUTION_START);
    jsonw_kstr(&w, "prompt_id", prompt_id);
    jsonw_kint(&w, "timestamp", timestamp);
    end(&w);
}

void event_put_cached(struct buf *out, struct json nodes, const char *prompt_id, int64_t timestamp)
{
    struct jsonw w;

    begin(&w, out, EVENT_EXECUTION_CACHED);
    put_or(&w, "nodes", nodes, "[]");
    jsonw_kstr(&w, "prompt_id", prompt_id);
    jsonw_kint(&w, "timestamp", timestamp);
    end(&w);
}

void event_put_executing(struct buf *out, const char *node, const char *display_node, const char *prompt_id)
{
    struct jsonw w;

    begin(&w, out, EVENT_EXECUTING);
    jsonw_kstr(&w, "node", node);
    if (node && display_node)
        jsonw_kstr(&w, "display_node", display_node);
    if (prompt_id)
        jsonw_kstr(&w, "prompt_id", prompt_id);
    end(&w);
}

void event_put_progress(struct buf *out, int64_t value, int64_t max, const char *prompt_id, const char *node)
{
    struct jsonw w;

    begin(&w, out, EVENT_PROGRESS);
    jsonw_kint(&w, "value", value);
    jsonw_kint(&w, "max", max);
    jsonw_kstr(&w, "prompt_id", prompt_id);
    jsonw_kstr(&w, "node", node);
    end(&w);
}

void event_put_executed(struct buf *out, const char *node, const char *display_node, struct json output,
                        const char *prompt_id)
{
    struct jsonw w;

    begin(&w, out, EVENT_EXECUTED);
    jsonw_kstr(&w, "node", node);
    jsonw_kstr(&w, "display_node", display_node);
    jsonw_kspan(&w, "output", output);
    jsonw_kstr(&w, "prompt_id", prompt_id);
    end(&w);
}

void event_put_success(struct buf *out, const char *prompt_id, int64_t timestamp)
{
    struct jsonw w;

    begin(&w, out, EVENT_EXECUTION_SUCCESS);
    jsonw_kstr(&w, "prompt_id", prompt_id);
    jsonw_kint(&w, "timestamp", timestamp);
    end(&w);
}

static void put_count(struct jsonw *w, const char *key, double v, bool whole)
{
    jsonw_key(w, key);
    if (whole && v > -1e15 && v < 1e15)
        jsonw_int(w, (int64_t)v);
    else
        jsonw_double(w, v);
}

void event_put_progress_state(struct buf *out, const char *prompt_id, const struct event_node_state *v,
                              size_t n)
{
    struct jsonw w;

    begin(&w, out, EVENT_PROGRESS_STATE);
    jsonw_kstr(&w, "prompt_id", prompt_id);
    jsonw_key(&w, "nodes");
    jsonw_obj(&w);
    for (size_t i = 0; i < n; i++) {
        jsonw_key(&w, v[i].node_id);
        jsonw_obj(&w);
        put_count(&w, "value", v[i].value, v[i].whole);
        put_count(&w, "max", v[i].max, v[i].whole);
        jsonw_kstr(&w, "state", v[i].state);
        jsonw_kstr(&w, "node_id", v[i].node_id);
        jsonw_kstr(&w, "prompt_id", prompt_id);
        jsonw_kstr(&w, "display_node_id", v[i].display_node_id);
        jsonw_kstr(&w, "parent_node_id", v[i].parent_node_id);
        jsonw_kstr(&w, "real_node_id", v[i].real_node_id);
        jsonw_obj_end(&w);
    }
    jsonw_obj_end(&w);
    end(&w);
}

void event_put_error(struct buf *out, const struct event_error *err)
{
    struct jsonw w;

    begin(&w, out, EVENT_EXECUTION_ERROR);
    jsonw_kstr(&w, "prompt_id", err->prompt_id);
    jsonw_kstr(&w, "node_id", err->node_id);
    jsonw_kstr(&w, "node_type", err->node_type);
    put_or(&w, "executed", err->executed, "[]");
    jsonw_kstr(&w, "exception_message", err->exception_message);
    jsonw_kstr(&w, "exception_type", err->exception_type);
    put_or(&w, "traceback", err->traceback, "[]");
    put_or(&w, "current_inputs", err->current_inputs, err->timestamp < 0 ? "[]" : "{}");
    put_or(&w, "current_outputs", err->current_outputs, "[]");
    if (err->timestamp >= 0)
        jsonw_kint(&w, "timestamp", err->timestamp);
    end(&w);
}

void event_put_interrupted(struct buf *out, const char *prompt_id, const char *node_id, const char *node_type,
                           struct json executed, int64_t timestamp)
{
    struct jsonw w;

    begin(&w, out, EVENT_EXECUTION_INTERRUPTED);
    jsonw_kstr(&w, "prompt_id", prompt_id);
    jsonw_kstr(&w, "node_id", node_id);
    jsonw_kstr(&w, "node_type", node_type);
    put_or(&w, "executed", executed, "[]");
    jsonw_kint(&w, "timestamp", timestamp);
    end(&w);
}

void event_put_notification(struct buf *out, const char *value, const char *prompt_id)
{
    struct jsonw w;

    begin(&w, out, EVENT_NOTIFICATION);
    jsonw_kstr(&w, "value", value);
    if (prompt_id)
        jsonw_kstr(&w, "id", prompt_id);
    end(&w);
}

/* ---- binary frames ------------------------------------------------------------------------------------ */

static uint32_t u32be(const char *s)
{
    const unsigned char *p = (const unsigned char *)s;

    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static uint32_t image_kind(struct json image_type)
{
    if (json_str_eq(image_type, "image/jpeg"))
        return FRAME_JPEG;
    return json_str_eq(image_type, "image/png") ? FRAME_PNG : 0;
}

static int parse_image_meta(struct frame *f, uint32_t n, struct err *e)
{
    if (json_check(f->body, n, NULL, &f->meta, e) < 0)
        return err_wrap(e, "frame metadata");
    if (json_type(f->meta) != JSON_OBJECT)
        return err_set(e, EINVAL, "frame metadata is not an object");
    f->image = image_kind(json_get(f->meta, "image_type"));
    return 0;
}

int frame_parse(const void *data, size_t len, struct frame *f, struct err *e)
{
    const char *p = data;
    uint32_t n;

    *f = (struct frame){0};
    if (len < 4)
        return err_set(e, EINVAL, "frame of %zu bytes has no type", len);
    f->type = u32be(p);
    f->body = p + 4;
    f->body_n = len - 4;
    if (f->type != FRAME_IMAGE && f->type != FRAME_TEXT && f->type != FRAME_IMAGE_META)
        return 0;
    if (len < 8)
        return err_set(e, EINVAL, "frame of type %u is only %zu bytes long", f->type, len);
    n = u32be(p + 4);
    f->body += 4;
    f->body_n -= 4;
    if (f->type == FRAME_IMAGE) {
        f->image = n == FRAME_JPEG || n == FRAME_PNG ? n : 0;
        return 0;
    }
    if (n > f->body_n)
        return err_set(e, EINVAL, "frame of type %u announces %u bytes and holds %zu", f->type, n, f->body_n);
    if (f->type == FRAME_TEXT) {
        f->node = f->body;
        f->node_n = n;
    } else if (parse_image_meta(f, n, e) < 0) {
        return -1;
    }
    f->body += n;
    f->body_n -= n;
    return 0;
}

bool frame_is_product(const struct frame *f)
{
    return (f->type == FRAME_IMAGE || f->type == FRAME_IMAGE_META) && f->image != FRAME_JPEG;
}

void frame_put_image(struct buf *out, enum frame_image kind, const void *image, size_t n)
{
    buf_put_u32be(out, FRAME_IMAGE);
    buf_put_u32be(out, kind);
    buf_put(out, image, n);
}

void frame_put_text(struct buf *out, const char *node, const char *text, size_t n)
{
    buf_put_u32be(out, FRAME_TEXT);
    buf_put_u32be(out, (uint32_t)strlen(node));
    buf_puts(out, node);
    buf_put(out, text, n);
}

static void put_meta_frame(struct buf *out, const struct buf *meta, const void *image, size_t n)
{
    buf_put_u32be(out, FRAME_IMAGE_META);
    buf_put_u32be(out, (uint32_t)meta->len);
    buf_put(out, meta->data, meta->len);
    buf_put(out, image, n);
}

void frame_put_image_meta(struct buf *out, const struct frame_meta *m, enum frame_image kind,
                          const void *image, size_t n)
{
    struct buf meta = BUF_INIT;
    struct jsonw w;

    jsonw_init(&w, &meta);
    jsonw_obj(&w);
    jsonw_kstr(&w, "node_id", m->node_id);
    jsonw_kstr(&w, "prompt_id", m->prompt_id);
    jsonw_kstr(&w, "display_node_id", m->display_node_id);
    jsonw_kstr(&w, "parent_node_id", m->parent_node_id);
    jsonw_kstr(&w, "real_node_id", m->real_node_id);
    jsonw_kstr(&w, "image_type", kind == FRAME_PNG ? "image/png" : "image/jpeg");
    jsonw_obj_end(&w);
    put_meta_frame(out, &meta, image, n);
    buf_free(&meta);
}

void frame_put_legacy(struct buf *out, const struct frame *f)
{
    assert(f->type == FRAME_IMAGE_META);
    frame_put_image(out, f->image == FRAME_PNG ? FRAME_PNG : FRAME_JPEG, f->body, f->body_n);
}

void frame_put_text_of_prompt(struct buf *out, const struct frame *f, const char *prompt_id)
{
    assert(f->type == FRAME_TEXT);
    buf_put_u32be(out, FRAME_TEXT);
    buf_put_u32be(out, (uint32_t)strlen(prompt_id));
    buf_puts(out, prompt_id);
    buf_put_u32be(out, (uint32_t)f->node_n);
    buf_put(out, f->node, f->node_n);
    buf_put(out, f->body, f->body_n);
}

void frame_put_with_prompt_id(struct buf *out, const struct frame *f, const char *prompt_id)
{
    struct edits ed = EDITS_INIT;
    struct buf meta = BUF_INIT;
    struct json at = json_get(f->meta, "prompt_id");

    assert(f->type == FRAME_IMAGE_META);
    if (at.p)
        edits_replace_str(&ed, at, prompt_id);
    edits_put(&ed, &meta, f->meta);
    put_meta_frame(out, &meta, f->body, f->body_n);
    edits_fini(&ed);
    buf_free(&meta);
}
