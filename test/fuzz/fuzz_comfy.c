/* Everything that a client or a server sends, by the first byte: a WebSocket message, a frame, a prompt, a
 * history, an object_info. Whatever it is, what comes out of it is JSON again, and doing nothing to it
 * changes nothing. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "comfy/events.h"
#include "comfy/history.h"
#include "comfy/names.h"
#include "comfy/prompt_request.h"
#include "comfy/validate.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(x)                                                                                           \
    do {                                                                                                     \
        if (!(x))                                                                                            \
            abort();                                                                                         \
    } while (0)

/* What we wrap may be as deep as is allowed, and then is deeper. */
static void is_json(const struct buf *b)
{
    struct err e;

    if (json_check(buf_str(b), b->len, NULL, NULL, &e) < 0)
        REQUIRE(strstr(e.msg, "nested too deep"));
}

static void message(const char *text, size_t n)
{
    struct event ev;
    struct buf b = BUF_INIT;

    if (event_parse(text, n, &ev, NULL) < 0)
        return;
    event_put_with_prompt_id(&b, &ev, "0123");
    REQUIRE(json_check(b.data, b.len, NULL, NULL, NULL) == 0);
    buf_clear(&b);
    event_put_history_message(&b, text, n);
    (void)(event_is_end(&ev) + event_is_terminal(&ev));
    if (ev.kind == EVENT_EXECUTED) {
        buf_clear(&b);
        history_put_node_output(&b, ev.node, ev.output, NULL, NULL);
        REQUIRE(json_check(b.data, b.len, NULL, NULL, NULL) == 0);
    }
    buf_free(&b);
}

static void frame(const char *data, size_t n)
{
    struct frame f;
    struct buf b = BUF_INIT;

    if (frame_parse(data, n, &f, NULL) < 0)
        return;
    REQUIRE(f.body >= data && f.body + f.body_n == data + n);
    if (f.type == FRAME_IMAGE_META) {
        struct frame again;

        frame_put_legacy(&b, &f);
        REQUIRE(b.len == 8 + f.body_n);
        buf_clear(&b);
        frame_put_with_prompt_id(&b, &f, "0123");
        REQUIRE(frame_parse(b.data, b.len, &again, NULL) == 0 && again.body_n == f.body_n);
    }
    buf_free(&b);
}

static bool keep(void *arg, const struct graph_value *v, struct str is, struct buf *to)
{
    struct name_ref ref;

    (void)arg;
    (void)v;
    (void)to;
    (void)name_ref_parse(is.p, is.n, &ref);
    return false;
}

static struct object_info *classes(void)
{
    static struct object_info *info;
    static const char text[] =
        "{\"A\": {\"input\": {\"required\": {\"i\": [\"INT\", {\"min\": 1, \"max\": 9}], \"f\": [\"FLOAT\"], "
        "\"l\": [[\"a\", \"b\"]], "
        "\"x\": [\"A,B\"]}, \"optional\": {\"s\": [\"STRING\"], \"b\": [\"BOOLEAN\"]}}, \"output\": [\"A\", "
        "\"B\"], "
        "\"output_node\": true, \"python_module\": \"nodes\"}, \"B\": {\"input\": {\"required\": {\"x\": "
        "[\"*\"], \"y\": [\"B\"]}}, "
        "\"output\": [\"B\"], \"python_module\": \"nodes\"}, \"C\": {\"output_node\": true}}";

    if (!info)
        info = object_info_new(text, sizeof(text) - 1, NULL, 0, NULL);
    REQUIRE(info);
    return info;
}

static void validate(const struct graph *g, struct json targets, struct validate_opts o)
{
    struct validate_result r;
    struct buf b = BUF_INIT;

    o.targets = targets;
    o.coerce = true;
    validate_prompt(g, validate_info_class, classes(), &o, &r);
    REQUIRE(r.ok == (r.n_outputs > 0));
    validate_put_body(&b, &r);
    is_json(&b);
    buf_clear(&b);
    edits_put(&r.coerced, &b, graph_text(g));
    REQUIRE(json_check(b.data, b.len, NULL, NULL, NULL) == 0);
    validate_result_fini(&r);
    buf_free(&b);
}

static void prompt(const char *text, size_t n)
{
    struct prompt_request r;
    struct prompt_error e = {0};
    struct graph *g;
    struct buf b = BUF_INIT;
    struct err err;

    if (prompt_request_parse(text, n, &r, &e) < 0) {
        prompt_error_put_body(&b, &e, NULL);
        REQUIRE(json_check(b.data, b.len, NULL, NULL, NULL) == 0);
        prompt_error_fini(&e);
        buf_free(&b);
        return;
    }
    g = graph_new(r.prompt, 1000, &err);
    if (g) {
        size_t *order = malloc((graph_size(g) + 1) * sizeof(*order));

        REQUIRE(graph_order(g, order) <= graph_size(g));
        free(order);
        graph_put_renamed(&b, g, keep, NULL);
        REQUIRE(b.len == r.prompt.n && memcmp(b.data, r.prompt.p, b.len) == 0);
        validate(g, r.targets, (struct validate_opts){.dialect = VALIDATE_NEW});
        validate(g, r.targets, (struct validate_opts){.dialect = VALIDATE_OLD, .strict = true});
        graph_free(&g);
    }
    if (r.extra_data.data) {
        struct json extra;

        REQUIRE(json_check(r.extra_data.data, r.extra_data.len, NULL, &extra, NULL) == 0);
        REQUIRE(!json_get(extra, "api_key_comfy_org").p && !json_get(extra, "window_id").p);
    }
    prompt_request_fini(&r);
    buf_free(&b);
}

static void history(const char *text, size_t n)
{
    struct json body;
    struct history h;
    struct buf b = BUF_INIT;

    if (json_check(text, n, NULL, &body, NULL) < 0 || history_find(body, "p", &h, NULL) != 0)
        return;
    history_put_entry(&b, &h, &(struct history_rewrite){.prompt_id = "q", .client_id = "c"});
    REQUIRE(json_check(b.data, b.len, NULL, NULL, NULL) == 0);
    buf_free(&b);
}

static void info(const char *text, size_t n)
{
    struct object_info *infos[2] = {object_info_new(text, n, NULL, 0, NULL), classes()};
    struct object_view *v;
    struct buf b = BUF_INIT;

    if (!infos[0])
        return;
    v = object_view_new(infos, 2);
    object_view_put(&b, v, NULL, NULL);
    REQUIRE(json_check(b.data, b.len, NULL, NULL, NULL) == 0);
    object_view_unref(v);
    object_info_unref(infos[0]);
    buf_free(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text;

    if (size == 0)
        return 0;
    text = malloc(size); /* one byte too many, but exactly to the end */
    memcpy(text, data, size);
    switch (text[0] % 5) {
    case 0: message(text + 1, size - 1); break;
    case 1: frame(text + 1, size - 1); break;
    case 2: prompt(text + 1, size - 1); break;
    case 3: history(text + 1, size - 1); break;
    default: info(text + 1, size - 1); break;
    }
    free(text);
    return 0;
}
