#include "sim/testkit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "sim/check.h"

static int64_t clock_ms(struct clock *c)
{
    return container_of(c, struct kit, clock)->now_ms;
}

static void clock_random(struct clock *c, void *out, size_t n)
{
    struct kit *k = container_of(c, struct kit, clock);

    for (unsigned char *p = out; n > 0; n--)
        *p++ = (unsigned char)((k->random = k->random * 6364136223846793005u + 1442695040888963407u) >> 56);
}

/* "5:run 1/2 9:fin 1.0/1.0" */
static void put_state(struct buf *b, const struct val *data)
{
    val_each(m, val_get(data, "nodes"))
    {
        buf_printf(b, " %s:%.3s ", m->key, val_get(m->value, "state")->text);
        val_put(b, val_get(m->value, "value"));
        buf_putc(b, '/');
        val_put(b, val_get(m->value, "max"));
    }
}

static void put_line(struct buf *b, const struct val *msg)
{
    const struct val *d = val_get(msg, "data");
    const char *type = val_get(msg, "type")->text;

    buf_puts(b, type);
    if (strcmp(type, "progress_state") == 0) {
        put_state(b, d);
    } else if (strcmp(type, "execution_cached") == 0) {
        buf_putc(b, ' ');
        val_put(b, val_get(d, "nodes"));
    } else if (strcmp(type, "progress") == 0) {
        buf_printf(b, " %s %s/%s", val_get(d, "node")->text, val_get(d, "value")->text,
                   val_get(d, "max")->text);
    } else if (val_get(d, "node")) {
        buf_putc(b, ' ');
        val_put_str(b, val_get(d, "node"));
        if (val_get(d, "output")) {
            buf_putc(b, ' ');
            val_put(b, val_get(d, "output"));
        }
    } else if (val_get(d, "node_id")) {
        buf_printf(b, " %s", val_get(d, "node_id")->text);
        if (val_get(d, "exception_type"))
            buf_printf(b, " %s", val_get(d, "exception_type")->text);
    }
}

static void on_text(void *arg, const char *sid, const char *json, size_t n)
{
    struct kit *k = arg;
    struct val *msg = val_parse(json, n, NULL);

    assert_non_null(msg);
    buf_clear(&k->last_json);
    buf_put(&k->last_json, json, n);
    buf_printf(&k->trace, "%s ", sid ? sid : "*");
    put_line(&k->trace, msg);
    buf_putc(&k->trace, '\n');
    val_free(msg);
}

static void on_binary(void *arg, const char *sid, const void *data, size_t n)
{
    struct kit *k = arg;

    buf_clear(&k->last_binary);
    buf_put(&k->last_binary, data, n);
    buf_printf(&k->trace, "%s binary %d\n", sid ? sid : "*", ((const unsigned char *)data)[3]);
}

static int on_metadata(void *arg, const char *sid)
{
    (void)sid;
    return ((struct kit *)arg)->metadata;
}

static enum exec_fault on_fault(void *arg, const struct prompt *p, int64_t *slow_ms, int64_t *lag_ms)
{
    struct kit *k = arg;

    (void)p;
    (void)lag_ms;
    *slow_ms = k->slow_ms;
    return k->fault;
}

static void on_changed(void *arg)
{
    struct kit *k = arg;

    buf_printf(&k->trace, "* status %zu\n", prompts_remaining(&k->prompts));
}

void kit_init(struct kit *k)
{
    struct exec_conf c = {.sink = {k, on_text, on_binary, on_metadata},
                          .prompts = &k->prompts,
                          .files = &k->files,
                          .models = &k->models,
                          .clock = &k->clock,
                          .server = "test",
                          .fault = on_fault,
                          .arg = k};

    *k = (struct kit){.clock = {clock_ms, clock_ms, clock_random}, .now_ms = 1700000000000, .random = 1};
    strcpy(k->dir, "/tmp/sim-test-XXXXXX");
    assert_non_null(mkdtemp(k->dir));
    assert_int_equal(files_init(&k->files, k->dir, &k->clock, NULL), 0);
    models_init(&k->models, NULL, 1);
    prompts_init(&k->prompts, on_changed, k);
    k->exec = exec_new(&c);
}

void kit_fini(struct kit *k)
{
    exec_free(&k->exec);
    prompts_fini(&k->prompts);
    models_fini(&k->models);
    files_fini(&k->files);
    files_remove_tree(k->dir);
    buf_free(&k->trace);
    buf_free(&k->last_json);
    buf_free(&k->last_binary);
}

const char *kit_submit(struct kit *k, const char *graph, const char *client)
{
    struct prompt *p = xcalloc(1, sizeof(*p));
    struct check c;
    struct err e = {0};
    struct json text;

    if (json_check(graph, strlen(graph), NULL, &text, &e) < 0)
        fail_msg("graph: %s", e.msg);
    if (check_prompt(text, (struct json){NULL, 0}, &k->files, &k->models, &c) != CHECK_GOOD)
        fail_msg("not accepted: %s", buf_str(&c.refusal));
    p->graph = c.graph;
    p->outputs = c.outputs;
    c.graph = c.outputs = NULL;
    check_fini(&c);
    p->whole = true;
    p->number = (double)k->number;
    p->id = xasprintf("p%lld", (long long)k->number++);
    p->extra = val_obj();
    if (client)
        val_set(p->extra, "client_id", val_str(client));
    prompts_push(&k->prompts, p);
    return p->id;
}

void kit_run(struct kit *k)
{
    for (k->steps = 0; !k->stop_after || k->steps < k->stop_after; k->steps++) {
        int64_t ms;
        bool real;

        if (!exec_busy(k->exec)) {
            if (!prompts_start(&k->prompts))
                return;
            exec_start(k->exec);
        }
        switch (exec_step(k->exec, &ms, &real)) {
        case EXEC_IDLE: break;
        case EXEC_WAIT:
            if (ms < 0)
                return;
            k->now_ms += ms;
            k->waited_ms += ms;
            break;
        case EXEC_WORK:
            k->works++;
            exec_work(k->exec);
            break;
        }
    }
}

void kit_expect(struct kit *k, const char *const *lines)
{
    struct buf want = BUF_INIT, got = BUF_INIT;
    const char *s = buf_str(&k->trace);

    for (; *lines; lines++)
        buf_printf(&want, "%s\n", *lines);
    while (*s) {
        size_t n = strcspn(s, "\n") + 1;

        if (strncmp(s, "* status", 8) != 0)
            buf_put(&got, s, n);
        s += n;
    }
    assert_string_equal(buf_str(&got), buf_str(&want));
    buf_clear(&k->trace);
    buf_free(&want);
    buf_free(&got);
}

struct val *kit_history(struct kit *k, const char *id)
{
    struct buf b = BUF_INIT;
    struct val *all, *one;

    history_put_one(&k->prompts, &b, id);
    all = val_parse(b.data, b.len, NULL);
    assert_non_null(all);
    one = val_copy(val_get(all, id));
    val_free(all);
    buf_free(&b);
    return one;
}

void kit_upload(struct kit *k, const char *name, float level)
{
    struct err e;
    struct image *im = image_fill(1, 2, 2, 4, (const float[]){level, level, level, 1}, &e);
    struct buf png = BUF_INIT, path = BUF_INIT;

    assert_non_null(im);
    assert_int_equal(image_png(im, 0, 1, NULL, 0, &png, &e), 0);
    assert_true(files_path(&k->files, FILES_INPUT, NULL, name, &path));
    assert_int_equal(files_write(buf_str(&path), png.data, png.len, &e), 0);
    image_unref(im);
    buf_free(&png);
    buf_free(&path);
}
