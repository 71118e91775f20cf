#include "comfy/events.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/evp.h>

#include "base/testdata.h"

static struct event parse(const char *text)
{
    struct event ev;
    struct err e;

    if (event_parse(text, strlen(text), &ev, &e) < 0)
        fail_msg("%s: %s", e.msg, text);
    return ev;
}

static void test_parse(void **state)
{
    struct event ev = parse("{\"type\": \"executing\", \"data\": {\"node\": null, \"prompt_id\": \"p\"}}");
    struct err e;

    (void)state;
    assert_int_equal(ev.kind, EVENT_EXECUTING);
    assert_true(event_is_end(&ev));
    assert_true(json_str_eq(ev.prompt_id, "p"));
    ev = parse("{\"type\":\"executing\",\"data\":{\"node\":\"5\"}}");
    assert_false(event_is_end(&ev));
    assert_null(ev.prompt_id.p);
    ev = parse("{\"type\":\"executing\",\"data\":{\"node\":null}}");
    assert_false(event_is_end(&ev));
    ev = parse(
        "{\"type\":\"status\",\"data\":{\"status\":{\"exec_info\":{\"queue_remaining\":3}},\"sid\":\"s\"}}");
    assert_int_equal(ev.queue_remaining, 3);
    assert_true(json_str_eq(ev.sid, "s"));
    ev = parse("{\"type\":\"status\",\"data\":null}");
    assert_int_equal(ev.queue_remaining, -1);
    ev = parse("{\"data\":[1],\"type\":\"golden.custom\"}");
    assert_int_equal(ev.kind, EVENT_OTHER);
    ev = parse("{\"type\":\"execution_error\",\"data\":{\"exception_type\":\"ExecutionBlocked\",\"node_id\":"
               "\"6\"}}");
    assert_true(ev.blocked);
    assert_false(event_is_terminal(&ev));
    assert_true(json_str_eq(ev.node, "6"));
    ev = parse("{\"type\":\"execution_error\",\"data\":{\"exception_type\":\"ValueError\"}}");
    assert_true(event_is_terminal(&ev));
    ev =
        parse("{\"type\":\"executed\",\"data\":{\"prompt_id\":7,\"prompt_id\":[]}}"); /* not a string: none */
    assert_null(ev.prompt_id.p);
    ev = parse("{\"type\":\"executed\"}");
    assert_null(ev.output.p);
    static const char *const bad[] = {
        "", "[]", "\"x\"", "{}", "{\"type\":5}", "{\"type\":null}", "{\"type\":\"a\""};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(event_parse(bad[i], strlen(bad[i]), &ev, &e), -1);
}

static void rewritten(const char *text, const char *want)
{
    struct event ev = parse(text);
    struct buf out = BUF_INIT;

    event_put_with_prompt_id(&out, &ev, "NEW");
    assert_string_equal(out.data, want);
    buf_free(&out);
}

static void test_prompt_id(void **state)
{
    (void)state;
    rewritten("{\"type\": \"progress\", \"data\": {\"value\": 1, \"prompt_id\": \"old\", \"x\": 5.0}}",
              "{\"type\": \"progress\", \"data\": {\"value\": 1, \"prompt_id\": \"NEW\", \"x\": 5.0}}");
    rewritten("{\"type\":\"progress_state\",\"data\":{\"prompt_id\":\"old\",\"nodes\":{\"1\":{\"prompt_id\":"
              "\"old\"},"
              "\"2\":{\"a\":1,\"prompt_id\":\"old\"},\"3\":5,\"4\":{\"prompt_id\":null}}}}",
              "{\"type\":\"progress_state\",\"data\":{\"prompt_id\":\"NEW\",\"nodes\":{\"1\":{\"prompt_id\":"
              "\"NEW\"},"
              "\"2\":{\"a\":1,\"prompt_id\":\"NEW\"},\"3\":5,\"4\":{\"prompt_id\":null}}}}");
    /* the reconnect message of a stock server lacks it */
    rewritten("{\"type\": \"executing\", \"data\": {\"node\": \"5\"}}",
              "{\"type\": \"executing\", \"data\": {\"node\": \"5\", \"prompt_id\": \"NEW\"}}");
    rewritten("{\"type\":\"executing\",\"data\":{\"prompt_id\":9}}",
              "{\"type\":\"executing\",\"data\":{\"prompt_id\":9}}");
    rewritten("{\"type\": \"custom\", \"data\": {\"value\": \"old\"}}",
              "{\"type\": \"custom\", \"data\": {\"value\": \"old\"}}");
    rewritten("{\"type\": \"custom\"}", "{\"type\": \"custom\"}");
}

static void test_builders(void **state)
{
    struct buf b = BUF_INIT;
    struct event_error err = {.prompt_id = "p",
                              .node_id = "",
                              .node_type = "",
                              .exception_message = "lost \xc3\xa9",
                              .exception_type = "server_lost",
                              .timestamp = 12};
    struct event ev;

    (void)state;
    event_put_error(&b, &err);
    assert_string_equal(b.data,
                        "{\"type\": \"execution_error\", \"data\": {\"prompt_id\": \"p\", \"node_id\": \"\", "
                        "\"node_type\": \"\", \"executed\": [], \"exception_message\": \"lost \\u00e9\", "
                        "\"exception_type\": \"server_lost\", \"traceback\": [], \"current_inputs\": {}, "
                        "\"current_outputs\": [], \"timestamp\": 12}}");
    ev = parse(b.data);
    assert_true(event_is_terminal(&ev));
    struct buf h = BUF_INIT;
    event_put_history_message(&h, b.data, b.len);
    assert_memory_equal(h.data, "[\"execution_error\", {\"prompt_id\"", 32);
    assert_int_equal(json_check(h.data, h.len, NULL, NULL, NULL), 0);
    buf_clear(&h);
    buf_clear(&b);
    event_put_start(&b, "p", 1);
    event_put_history_message(&h, b.data, b.len);
    buf_clear(&b);
    event_put_success(&b, "p", 2);
    event_put_history_message(&h, b.data, b.len);
    assert_string_equal(h.data, "[\"execution_start\", {\"prompt_id\": \"p\", \"timestamp\": 1}], "
                                "[\"execution_success\", {\"prompt_id\": \"p\", \"timestamp\": 2}]");
    buf_free(&h);
    buf_clear(&b);
    event_put_notification(&b, "Waiting for a machine", "p");
    assert_string_equal(
        b.data,
        "{\"type\": \"notification\", \"data\": {\"value\": \"Waiting for a machine\", \"id\": \"p\"}}");
    buf_clear(&b);
    event_put_feature_flags(&b, (struct json){NULL, 0});
    assert_string_equal(b.data, "{\"type\": \"feature_flags\", \"data\": {}}");
    buf_free(&b);
}

static void test_frames(void **state)
{
    struct frame_meta m = {"5", "p", "5", NULL, "5"};
    struct buf b = BUF_INIT, c = BUF_INIT;
    struct frame f;
    struct err e;

    (void)state;
    frame_put_image_meta(&b, &m, FRAME_PNG, "\x89PNG\0x", 6);
    assert_int_equal(frame_parse(b.data, b.len, &f, &e), 0);
    assert_int_equal(f.type, FRAME_IMAGE_META);
    assert_int_equal(f.image, FRAME_PNG);
    assert_true(frame_is_product(&f));
    assert_true(json_str_eq(json_get(f.meta, "prompt_id"), "p"));
    assert_int_equal(f.body_n, 6);
    frame_put_legacy(&c, &f);
    assert_int_equal(c.len, 14);
    assert_memory_equal(c.data, "\0\0\0\1\0\0\0\2\x89PNG\0x", 14);
    buf_clear(&c);
    frame_put_with_prompt_id(&c, &f, "a-longer-id");
    assert_int_equal(frame_parse(c.data, c.len, &f, &e), 0);
    assert_true(json_str_eq(json_get(f.meta, "prompt_id"), "a-longer-id"));
    assert_true(json_str_eq(json_get(f.meta, "node_id"), "5"));
    assert_memory_equal(f.body, "\x89PNG\0x", 6);
    /* cut at every byte: an error or a shorter image, never a step outside */
    for (size_t n = 0; n < b.len; n++) {
        char *cut = malloc(n ? n : 1);

        memcpy(cut, b.data, n);
        assert_int_equal(frame_parse(cut, n, &f, &e), n < b.len - 6 ? -1 : 0);
        free(cut);
    }
    buf_clear(&b);
    frame_put_text(&b, "12", "step 1", 6);
    for (size_t n = 0; n <= b.len; n++) {
        char *cut = malloc(n ? n : 1);

        memcpy(cut, b.data, n);
        assert_int_equal(frame_parse(cut, n, &f, &e), n < 10 ? -1 : 0);
        free(cut);
    }
    assert_int_equal(frame_parse(b.data, b.len, &f, &e), 0);
    assert_int_equal(f.node_n, 2);
    assert_memory_equal(f.body, "step 1", 6);
    /* lengths that lie, metadata that is none, kinds nobody knows */
    assert_int_equal(frame_parse("\0\0\0\3\xff\xff\xff\xff..", 10, &f, &e), -1);
    assert_int_equal(frame_parse("\0\0\0\4\0\0\0\2[]x", 11, &f, &e), -1);
    assert_int_equal(frame_parse("\0\0\0\4\0\0\0\0x", 9, &f, &e), -1);
    assert_int_equal(frame_parse("\0\0\0\4\0\0\0\2{}x", 11, &f, &e), 0);
    assert_int_equal(f.image, 0);
    assert_int_equal(frame_parse("\0\0\0\1\0\0\0\7x", 9, &f, &e), 0);
    assert_int_equal(f.image, 0);
    assert_int_equal(frame_parse("\0\0\0\x9zz", 6, &f, &e), 0);
    assert_int_equal(f.type, 9);
    assert_int_equal(f.body_n, 2);
    buf_free(&b);
    buf_free(&c);
}

/* ---- every message a real server sent is built again, byte for byte ------------------------------------ */

struct seen {
    size_t kinds[EVENT_KINDS], rebuilt, frames[5];
};

static char *str(struct json v)
{
    return json_type(v) == JSON_STRING ? json_strdup(v) : NULL;
}

static int64_t num(struct json v)
{
    int64_t i = -1;

    json_int(v, &i);
    return i;
}

static void rebuild_state(struct buf *b, const struct event *ev, const char *pid)
{
    struct event_node_state st[32];
    char *owned[32][5];
    struct json_iter it = json_iter(ev->nodes);
    struct json k, v;
    size_t n = 0;

    while (json_next(&it, &k, &v)) {
        static const char *const keys[5] = {"node_id", "display_node_id", "parent_node_id", "real_node_id",
                                            "state"};

        assert_true(n < 32);
        for (int i = 0; i < 5; i++)
            owned[n][i] = str(json_get(v, keys[i]));
        st[n] = (struct event_node_state){owned[n][0],
                                          owned[n][1],
                                          owned[n][2],
                                          owned[n][3],
                                          0,
                                          0,
                                          json_is_int_literal(json_get(v, "value")),
                                          owned[n][4]};
        json_double(json_get(v, "value"), &st[n].value);
        json_double(json_get(v, "max"), &st[n].max);
        n++;
    }
    event_put_progress_state(b, pid, st, n);
    for (size_t i = 0; i < n; i++)
        for (int k2 = 0; k2 < 5; k2++)
            free(owned[i][k2]);
}

static bool rebuild(struct buf *b, const struct event *ev)
{
    char *pid = str(ev->prompt_id), *node = str(ev->node), *display = str(ev->display_node),
         *sid = str(ev->sid);
    char *type = str(json_get(ev->data, "node_type")), *msg = str(json_get(ev->data, "exception_message"));
    char *exc = str(json_get(ev->data, "exception_type"));
    int64_t ts = num(json_get(ev->data, "timestamp"));
    bool done = true;

    switch (ev->kind) {
    case EVENT_STATUS: event_put_status(b, ev->queue_remaining, sid); break;
    case EVENT_FEATURE_FLAGS: event_put_feature_flags(b, ev->data); break;
    case EVENT_EXECUTION_START: event_put_start(b, pid, ts); break;
    case EVENT_EXECUTION_CACHED: event_put_cached(b, ev->nodes, pid, ts); break;
    case EVENT_EXECUTING: event_put_executing(b, node, display, pid); break;
    case EVENT_PROGRESS: event_put_progress(b, num(ev->value), num(ev->max), pid, node); break;
    case EVENT_PROGRESS_STATE: rebuild_state(b, ev, pid); break;
    case EVENT_EXECUTED: event_put_executed(b, node, display, ev->output, pid); break;
    case EVENT_EXECUTION_SUCCESS: event_put_success(b, pid, ts); break;
    case EVENT_EXECUTION_INTERRUPTED:
        event_put_interrupted(b, pid, node, type, json_get(ev->data, "executed"), ts);
        break;
    case EVENT_EXECUTION_ERROR:
        event_put_error(b, &(struct event_error){pid, node, type, json_get(ev->data, "executed"), msg, exc,
                                                 json_get(ev->data, "traceback"),
                                                 json_get(ev->data, "current_inputs"),
                                                 json_get(ev->data, "current_outputs"), ts});
        break;
    default: done = false; break;
    }
    free(pid);
    free(node);
    free(display);
    free(sid);
    free(type);
    free(msg);
    free(exc);
    return done;
}

static void text_message(struct seen *s, struct json data, const char *file)
{
    size_t n;
    char *text = testdata_str(data, &n);
    struct event ev;
    struct err e;
    struct buf b = BUF_INIT;

    if (event_parse(text, n, &ev, &e) < 0)
        fail_msg("%s: %s", file, e.msg);
    s->kinds[ev.kind]++;
    if (rebuild(&b, &ev)) {
        assert_string_equal(b.data, text);
        s->rebuilt++;
    }
    buf_clear(&b);
    if (ev.prompt_id.p) {
        char *pid = json_strdup(ev.prompt_id);

        event_put_with_prompt_id(&b, &ev, pid);
        assert_string_equal(b.data, text);
        free(pid);
    }
    buf_free(&b);
    free(text);
}

static void binary_frame(struct seen *s, struct json base64)
{
    size_t n;
    char *text = testdata_str(base64, &n);
    unsigned char *raw = malloc(n);
    int len = EVP_DecodeBlock(raw, (unsigned char *)text, (int)n);
    struct frame f;
    struct err e;
    struct buf b = BUF_INIT;

    while (n > 0 && text[n - 1] == '=') {
        n--;
        len--;
    }
    assert_int_equal(frame_parse(raw, (size_t)len, &f, &e), 0);
    assert_true(f.type < 5);
    s->frames[f.type]++;
    if (f.type == FRAME_IMAGE) {
        frame_put_image(&b, (enum frame_image)f.image, f.body, f.body_n);
    } else if (f.type == FRAME_TEXT) {
        char *node = strndup(f.node, f.node_n);

        frame_put_text(&b, node, f.body, f.body_n);
        free(node);
    } else {
        static const char *const keys[5] = {"node_id", "prompt_id", "display_node_id", "parent_node_id",
                                            "real_node_id"};
        char *v[5];

        for (int i = 0; i < 5; i++)
            v[i] = str(json_get(f.meta, keys[i]));
        frame_put_image_meta(&b, &(struct frame_meta){v[0], v[1], v[2], v[3], v[4]},
                             (enum frame_image)f.image, f.body, f.body_n);
        for (int i = 0; i < 5; i++)
            free(v[i]);
    }
    assert_int_equal(b.len, len);
    assert_memory_equal(b.data, raw, b.len);
    buf_free(&b);
    free(raw);
    free(text);
}

static void recorded(void *arg, const char *file, struct json line)
{
    if (!json_str_eq(json_get(line, "kind"), "ws") || !json_str_eq(json_get(line, "dir"), "in"))
        return;
    if (json_str_eq(json_get(line, "type"), "text"))
        text_message(arg, json_get(line, "data"), file);
    else if (json_type(json_get(line, "base64")) == JSON_STRING)
        binary_frame(arg, json_get(line, "base64"));
}

static void test_recordings(void **state)
{
    struct seen s = {0};

    (void)state;
    if (!testdata_root())
        skip();
    testdata_all(recorded, &s);
    for (int k = 0; k < EVENT_KINDS; k++)
        printf("%s %zu, ", event_kind_name((enum event_kind)k), s.kinds[k]);
    printf("rebuilt %zu; frames 1: %zu, 3: %zu, 4: %zu\n", s.rebuilt, s.frames[1], s.frames[3], s.frames[4]);
    assert_true(s.rebuilt > 3000 && s.frames[1] && s.frames[3] && s.frames[4]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse),  cmocka_unit_test(test_prompt_id),  cmocka_unit_test(test_builders),
        cmocka_unit_test(test_frames), cmocka_unit_test(test_recordings),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
