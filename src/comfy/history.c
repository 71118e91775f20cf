#include "comfy/history.h"

#include <errno.h>
#include <string.h>

#include "comfy/prompt_request.h"
#include "comfy/splice.h"

static const struct json none = {NULL, 0};

/* ---- verdict ------------------------------------------------------------------------------------------ */

/* Does the string hold one of these words, whatever their case? */
static bool says(struct json v, const char *const *words, size_t n)
{
    struct buf s = BUF_INIT;
    bool yes = false;

    json_str(v, &s);
    for (size_t i = 0; i < n && !yes; i++)
        yes = strcasestr(buf_str(&s), words[i]) != NULL;
    buf_free(&s);
    return yes;
}

enum history_fault history_classify(struct json exception_type, struct json exception_message)
{
    static const char *const memory_types[] = {"OutOfMemory", "MemoryError"};
    static const char *const memory[] = {"out of memory", "Allocation on device", "not enough memory",
                                         "can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED"};
    static const char *const device_types[] = {"AcceleratorError", "CudaError"};
    static const char *const device[] = {
        "CUDA error",         "CUDA driver",     "HIP error",    "hipError",     "cuDNN error",
        "CUDNN_STATUS_",      "CUBLAS_STATUS_",  "MIOpen Error", "miopenStatus", "NCCL",
        "device-side assert", "no kernel image", "GPU is lost",  "ROCm error"};

    if (says(exception_type, memory_types, ARRAY_LEN(memory_types)) ||
        says(exception_message, memory, ARRAY_LEN(memory)))
        return HISTORY_FAULT_MEMORY;
    if (says(exception_type, device_types, ARRAY_LEN(device_types)) ||
        says(exception_message, device, ARRAY_LEN(device)))
        return HISTORY_FAULT_DEVICE;
    return HISTORY_FAULT_NONE;
}

static void read_error(struct history *h, struct json data, enum history_verdict verdict)
{
    h->verdict = verdict;
    h->error = data;
    h->node_id = json_get(data, "node_id");
    h->node_type = json_get(data, "node_type");
    h->exception_type = json_get(data, "exception_type");
    h->exception_message = json_get(data, "exception_message");
    h->traceback = json_get(data, "traceback");
    h->fault = verdict == HISTORY_ERROR ? history_classify(h->exception_type, h->exception_message)
                                        : HISTORY_FAULT_NONE;
}

static void read_verdict(struct history *h)
{
    struct json_iter it = json_iter(h->messages);
    struct json m, status_str = json_get(h->status, "status_str");

    if (json_type(h->messages) == JSON_ARRAY)
        while (json_next(&it, NULL, &m)) {
            struct json type = json_at(m, 0), data = json_at(m, 1);

            if (json_str_eq(type, "execution_error"))
                read_error(h, data, HISTORY_ERROR);
            else if (json_str_eq(type, "execution_interrupted"))
                read_error(h, data, HISTORY_INTERRUPTED);
            else if (json_str_eq(type, "execution_success") && h->verdict == HISTORY_UNKNOWN)
                h->verdict = HISTORY_SUCCESS;
        }
    if (h->verdict == HISTORY_UNKNOWN && json_str_eq(status_str, "success"))
        h->verdict = HISTORY_SUCCESS;
    else if (h->verdict == HISTORY_UNKNOWN && json_str_eq(status_str, "error"))
        h->verdict = HISTORY_ERROR;
}

int history_find(struct json body, const char *prompt_id, struct history *h, struct err *e)
{
    *h = (struct history){0};
    if (json_type(body) != JSON_OBJECT)
        return err_set(e, EINVAL, "history is not an object");
    h->entry = json_get(body, prompt_id);
    if (!h->entry.p)
        return 1;
    if (json_type(h->entry) != JSON_OBJECT)
        return err_set(e, EINVAL, "the history entry is not an object");
    h->prompt = json_get(h->entry, "prompt");
    h->outputs = json_get(h->entry, "outputs");
    h->status = json_get(h->entry, "status");
    h->messages = json_get(h->status, "messages");
    h->meta = json_get(h->entry, "meta");
    if (json_type(h->outputs) != JSON_OBJECT)
        return err_set(e, EINVAL, "the history entry has no outputs object");
    read_verdict(h);
    return 0;
}

/* ---- outputs ------------------------------------------------------------------------------------------ */

static struct json string_or_none(struct json v)
{
    return json_type(v) == JSON_STRING ? v : none;
}

struct visit {
    history_output_cb *cb;
    void *arg;
    struct history_output o;
};

/* A string counts where it stands under the key or in a list there, not inside a dict. Depth is bounded by
 * the checker. */
static bool visit_value(struct visit *v, struct json value, bool in_dict)
{
    struct json_iter it = json_iter(value);
    struct json inner;
    enum json_type t = json_type(value);

    v->o.value = value;
    v->o.filename = v->o.subfolder = v->o.type = none;
    if (t == JSON_STRING && !in_dict) {
        v->o.kind = json_str_eq(v->o.key, "result") ? HISTORY_RESULT : HISTORY_TEXT;
        return v->cb(v->arg, &v->o);
    }
    if (t == JSON_OBJECT) {
        in_dict = true;
        v->o.filename = string_or_none(json_get(value, "filename"));
        if (v->o.filename.p) {
            v->o.subfolder = string_or_none(json_get(value, "subfolder"));
            v->o.type = string_or_none(json_get(value, "type"));
            v->o.kind = json_str_eq(v->o.type, "input") ? HISTORY_INPUT : HISTORY_FILE;
            return v->cb(v->arg, &v->o);
        }
    }
    while (json_next(&it, NULL, &inner))
        if (!visit_value(v, inner, in_dict))
            return false;
    return true;
}

static bool visit_node(struct visit *v, struct json node_id, struct json output)
{
    struct json_iter it = json_iter(output);
    struct json value;

    v->o.node_id = node_id;
    if (json_type(output) != JSON_OBJECT)
        return true;
    while (json_next(&it, &v->o.key, &value))
        if (!visit_value(v, value, false))
            return false;
    return true;
}

void history_node_outputs(struct json node_id, struct json output, history_output_cb *cb, void *arg)
{
    struct visit v = {.cb = cb, .arg = arg};

    visit_node(&v, node_id, output);
}

void history_outputs(const struct history *h, history_output_cb *cb, void *arg)
{
    struct visit v = {.cb = cb, .arg = arg};
    struct json_iter it = json_iter(h->outputs);
    struct json node, output;

    while (json_next(&it, &node, &output))
        if (!visit_node(&v, node, output))
            return;
}

void history_put_status(struct buf *out, bool success, const struct buf *messages)
{
    buf_printf(out, "{\"status_str\": \"%s\", \"completed\": %s, \"messages\": [",
               success ? "success" : "error", success ? "true" : "false");
    buf_put(out, buf_str(messages), messages->len);
    buf_puts(out, "]}");
}

/* ---- names -------------------------------------------------------------------------------------------- */

struct rename {
    history_rename_cb *cb;
    void *arg;
    struct edits *edits;
};

static bool drop_foreign(void *arg, struct json key, struct json value)
{
    (void)arg;
    (void)value;
    return json_str_eq(key, "fullpath") || json_str_eq(key, "id") || json_str_eq(key, "preview_id") ||
           json_str_eq(key, "asset");
}

static void set_member(struct edits *ed, struct json obj, struct json at, const char *key,
                       const struct buf *s)
{
    struct buf text = BUF_INIT;

    json_put_strn(&text, buf_str(s), s->len);
    if (at.p)
        edits_replace(ed, at, text.data, text.len);
    else
        edits_add_member(ed, obj, key, text.data, text.len);
    buf_free(&text);
}

/* The dict is written anew as a whole: first without what is dropped, then with the new names. */
static void rename_dict(struct rename *r, const struct history_output *o, const struct history_names *n)
{
    struct buf once = BUF_INIT, twice = BUF_INIT;
    struct edits ed = EDITS_INIT;
    struct json d;

    splice_put_without(&once, o->value, drop_foreign, NULL);
    if (json_check(once.data, once.len, NULL, &d, NULL) == 0) {
        if (n->set_filename)
            set_member(&ed, d, json_get(d, "filename"), "filename", &n->filename);
        if (n->set_subfolder)
            set_member(&ed, d, json_get(d, "subfolder"), "subfolder", &n->subfolder);
        if (n->set_type)
            set_member(&ed, d, json_get(d, "type"), "type", &n->type);
        edits_put(&ed, &twice, d);
        if (twice.len != o->value.n || memcmp(twice.data, o->value.p, twice.len) != 0)
            edits_replace(r->edits, o->value, twice.data, twice.len);
    }
    edits_fini(&ed);
    buf_free(&once);
    buf_free(&twice);
}

static bool rename_output(void *arg, const struct history_output *o)
{
    struct rename *r = arg;
    struct history_names n = {.filename = BUF_INIT};

    if (r->cb)
        r->cb(r->arg, o, &n);
    if (o->kind == HISTORY_FILE || o->kind == HISTORY_INPUT)
        rename_dict(r, o, &n);
    else if (n.set_text)
        edits_replace_strn(r->edits, o->value, buf_str(&n.text), n.text.len);
    buf_free(&n.filename);
    buf_free(&n.subfolder);
    buf_free(&n.type);
    buf_free(&n.text);
    return true;
}

void history_put_node_output(struct buf *out, struct json node_id, struct json output, history_rename_cb *cb,
                             void *arg)
{
    struct edits ed = EDITS_INIT;
    struct rename r = {cb, arg, &ed};

    history_node_outputs(node_id, output, rename_output, &r);
    if (output.p)
        edits_put(&ed, out, output);
    else
        buf_puts(out, "null");
    edits_fini(&ed);
}

/* ---- the entry ---------------------------------------------------------------------------------------- */

static bool drop_private(void *arg, struct json key, struct json value)
{
    (void)arg;
    (void)value;
    return json_str_eq(key, "client_id") || prompt_key_is_secret(key);
}

static void put_extra_data(struct buf *out, struct json extra, const char *client_id)
{
    struct buf clean = BUF_INIT;
    struct edits ed = EDITS_INIT;
    struct json v;

    if (json_type(extra) == JSON_OBJECT)
        splice_put_without(&clean, extra, drop_private, NULL);
    else
        buf_puts(&clean, "{}");
    if (json_check(clean.data, clean.len, NULL, &v, NULL) == 0) {
        if (client_id) {
            struct buf id = BUF_INIT;

            json_put_str(&id, client_id);
            edits_add_member(&ed, v, "client_id", id.data, id.len);
            buf_free(&id);
        }
        edits_put(&ed, out, v);
    }
    edits_fini(&ed);
    buf_free(&clean);
}

static void rewrite_prompt(struct edits *ed, struct json prompt, const struct history_rewrite *rw)
{
    struct json_iter it = json_iter(prompt);
    struct json v;
    struct buf extra = BUF_INIT;

    if (json_type(prompt) != JSON_ARRAY)
        return;
    for (int i = 0; json_next(&it, NULL, &v); i++) {
        if (i == 0 && rw->number.p)
            edits_replace(ed, v, rw->number.p, rw->number.n);
        if (i == 1 && rw->prompt_id)
            edits_replace_str(ed, v, rw->prompt_id);
        if (i == 2 && rw->graph.p)
            edits_replace(ed, v, rw->graph.p, rw->graph.n);
        if (i == 3) {
            put_extra_data(&extra, rw->extra_data.p ? rw->extra_data : v, rw->client_id);
            edits_replace(ed, v, extra.data, extra.len);
        }
    }
    buf_free(&extra);
}

static void rewrite_messages(struct edits *ed, struct json messages, const char *prompt_id)
{
    struct json_iter it = json_iter(messages);
    struct json m;

    if (json_type(messages) != JSON_ARRAY || !prompt_id)
        return;
    while (json_next(&it, NULL, &m)) {
        struct json at = json_get(json_at(m, 1), "prompt_id");

        if (json_type(at) == JSON_STRING)
            edits_replace_str(ed, at, prompt_id);
    }
}

void history_put_entry(struct buf *out, const struct history *h, const struct history_rewrite *rw)
{
    struct edits ed = EDITS_INIT;
    struct rename r = {rw->rename, rw->arg, &ed};

    rewrite_prompt(&ed, h->prompt, rw);
    history_outputs(h, rename_output, &r);
    rewrite_messages(&ed, h->messages, rw->prompt_id);
    edits_put(&ed, out, h->entry);
    edits_fini(&ed);
}

void history_put_body(struct buf *out, const struct history *h, const struct history_rewrite *rw)
{
    buf_putc(out, '{');
    if (rw->prompt_id)
        json_put_str(out, rw->prompt_id);
    else if (json_type(json_at(h->prompt, 1)) == JSON_STRING)
        json_put(out, json_at(h->prompt, 1));
    else
        buf_puts(out, "\"\"");
    buf_puts(out, ": ");
    history_put_entry(out, h, rw);
    buf_putc(out, '}');
}
