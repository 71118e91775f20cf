/* What concerns whole servers: freeing their memory, their logs, their manager. */
#include <stdlib.h>
#include <string.h>

#include "api/native.h"
#include "api/native_ask.h"
#include "api/shared.h"
#include "base/log.h"

#define ANSWER_MAX ((size_t)1 << 20) /* bytes of one server's answer */
#define ANSWER_MS 15000
#define LOG_LINES 2000 /* the last ones of all servers together */

/* --- POST /free --- */

/* Told is told, however few servers were there; who was not has nothing to free. */
static void on_freed(struct api *a, const struct native_answer *v, size_t n, void *arg)
{
    bool any = false;

    (void)a;
    for (size_t i = 0; i < n; i++) {
        any = any || v[i].status == 200;
        log_info(LOG_S("server", v[i].server), LOG_S("event", "free"), LOG_I("status", v[i].status));
    }
    shared_answer(arg, any ? 200 : 502, NULL, NULL);
}

static void on_free_body(struct api *a, struct http_req *req, struct json body, struct bytes *text)
{
    static const char *const keys[] = {"unload_models", "free_memory"};
    struct native_question q = {.method = "POST",
                                .target = "/free",
                                .type = "application/json",
                                .max = ANSWER_MAX,
                                .total_ms = ANSWER_MS};
    struct buf b = BUF_INIT;
    struct shared *s;
    char *key;

    (void)text;
    if (json_type(body) != JSON_OBJECT) {
        native_bad_body(req, "not an object");
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(keys); i++)
        buf_printf(&b, "%s\"%s\": %s", i ? ", " : "{", keys[i],
                   json_truthy(json_get(body, keys[i])) ? "true" : "false");
    buf_putc(&b, '}');
    key = xasprintf("POST /free %s", buf_str(&b));
    s = shared_join(&a->asked, a, req, key); /* who asks for the same meanwhile is served by it */
    if (s) {
        q.body = buf_to_bytes(&b);
        native_ask(a, &q, on_freed, s);
        bytes_unref(q.body);
    }
    free(key);
    buf_free(&b);
}

void native_post_free(struct api *a, struct http_req *req, const struct api_params *p)
{
    (void)p;
    api_read_json(a, req, true, on_free_body);
}

/* --- GET /internal/logs, /internal/logs/raw --- */

struct log_entry {
    const char *server;
    struct json t, m;
    size_t order;
};

/* By time, which is ISO 8601 and so in the order of its letters; what a server said at one time stays in its order. */
static int by_time(const void *x, const void *y)
{
    const struct log_entry *a = x, *b = y;
    size_t n = a->t.n < b->t.n ? a->t.n : b->t.n;
    int c = memcmp(a->t.p, b->t.p, n);

    if (c == 0 && a->t.n != b->t.n)
        c = a->t.n < b->t.n ? -1 : 1;
    return c ? c : a->order < b->order ? -1 : a->order > b->order;
}

struct log_lines {
    struct log_entry *v;
    size_t n;
};

static void take_entries(struct log_lines *l, const struct native_answer *x)
{
    struct json whole, k, e;
    struct json_iter it;

    if (!native_answer_json(x, JSON_OBJECT, &whole))
        return;
    it = json_iter(json_get(whole, "entries"));
    while (json_next(&it, &k, &e)) {
        struct log_entry one = {x->server, json_get(e, "t"), json_get(e, "m"), l->n};

        if (json_type(one.t) != JSON_STRING || json_type(one.m) != JSON_STRING)
            continue;
        if ((l->n & (l->n - 1)) == 0)
            l->v = xrealloc(l->v, (l->n ? l->n * 2 : 1) * sizeof(*l->v));
        l->v[l->n++] = one;
    }
}

/* "[gpu0] what it said" as JSON. */
static void put_tagged(struct buf *b, const char *server, struct json m)
{
    struct buf text = BUF_INIT;

    buf_printf(&text, "[%s] ", server);
    json_str(m, &text);
    json_put_strn(b, buf_str(&text), text.len);
    buf_free(&text);
}

static void put_raw(struct buf *b, const struct log_entry *v, size_t n)
{
    buf_puts(b, "{\"entries\": [");
    for (size_t i = 0; i < n; i++) {
        buf_puts(b, i ? ", {\"t\": " : "{\"t\": ");
        json_put(b, v[i].t);
        buf_puts(b, ", \"m\": ");
        put_tagged(b, v[i].server, v[i].m);
        buf_putc(b, '}');
    }
    buf_puts(b, "], \"size\": {\"cols\": 80, \"rows\": 24}}");
}

static void put_text(struct buf *b, const struct log_entry *v, size_t n)
{
    struct buf text = BUF_INIT;

    for (size_t i = 0; i < n; i++) {
        json_str(v[i].t, &text);
        buf_printf(&text, " - [%s] ", v[i].server);
        json_str(v[i].m, &text);
    }
    json_put_strn(b, buf_str(&text), text.len);
    buf_free(&text);
}

static void logs_answer(struct shared *s, const struct native_answer *v, size_t n,
                        void (*put)(struct buf *b, const struct log_entry *v, size_t n))
{
    struct log_lines l = {0};
    struct buf b = BUF_INIT;
    struct bytes *body;
    size_t skip;

    for (size_t i = 0; i < n; i++)
        take_entries(&l, &v[i]);
    if (l.n)
        qsort(l.v, l.n, sizeof(*l.v), by_time);
    skip = l.n > LOG_LINES ? l.n - LOG_LINES : 0;
    put(&b, l.v + skip, l.n - skip);
    body = buf_to_bytes(&b);
    shared_answer(s, 200, body, NULL);
    bytes_unref(body);
    free(l.v);
}

static void on_logs(struct api *a, const struct native_answer *v, size_t n, void *arg)
{
    (void)a;
    logs_answer(arg, v, n, put_text);
}

static void on_logs_raw(struct api *a, const struct native_answer *v, size_t n, void *arg)
{
    (void)a;
    logs_answer(arg, v, n, put_raw);
}

static void get_logs(struct api *a, struct http_req *req, const char *key, native_asked_cb *cb)
{
    const struct native_question q = {
        .method = "GET", .target = "/internal/logs/raw", .max = ANSWER_MAX, .total_ms = ANSWER_MS};
    struct shared *s = shared_join(&a->asked, a, req, key);

    if (s)
        native_ask(a, &q, cb, s);
}

void native_get_logs(struct api *a, struct http_req *req, const struct api_params *p)
{
    (void)p;
    get_logs(a, req, "logs", on_logs);
}

void native_get_logs_raw(struct api *a, struct http_req *req, const struct api_params *p)
{
    (void)p;
    get_logs(a, req, "logs raw", on_logs_raw);
}

/* --- PATCH /internal/logs/subscribe --- */

static void on_subscribe_body(struct api *a, struct http_req *req, struct json body, struct bytes *text)
{
    struct json enabled = json_get(body, "enabled");
    char *id = json_strdup(json_get(body, "clientId"));

    (void)text;
    if (json_type(body) != JSON_OBJECT || id == NULL || enabled.p == NULL) {
        native_bad_body(req, "clientId is a string, enabled is true or false");
    } else {
        hub_want_logs(a->hub, api_tenant(a, req), id, json_truthy(enabled));
        registry_want_logs(a->d.registry, hub_logs_wanted(a->hub));
        http_reply_empty(req, 200);
    }
    free(id);
}

void native_patch_logs(struct api *a, struct http_req *req, const struct api_params *p)
{
    (void)p;
    api_read_json(a, req, true, on_subscribe_body);
}

/* A server's "logs" message: {"entries": [{"t", "m"}…], "size": …}. */
void native_on_logs(const char *server, struct json data, void *arg)
{
    struct api *a = arg;
    struct json k, e;
    struct json_iter it = json_iter(json_get(data, "entries"));
    struct buf b = BUF_INIT;
    bool any = false;

    buf_puts(&b, "{\"type\": \"logs\", \"data\": {\"entries\": [");
    while (json_next(&it, &k, &e)) {
        struct json t = json_get(e, "t"), m = json_get(e, "m");

        if (json_type(t) != JSON_STRING || json_type(m) != JSON_STRING)
            continue;
        buf_puts(&b, any ? ", {\"t\": " : "{\"t\": ");
        json_put(&b, t);
        buf_puts(&b, ", \"m\": ");
        put_tagged(&b, server, m);
        buf_putc(&b, '}');
        any = true;
    }
    buf_puts(&b, "], \"size\": ");
    if (json_get(data, "size").p)
        json_put(&b, json_get(data, "size"));
    else
        buf_puts(&b, "null");
    buf_puts(&b, "}}");
    hub_tell_logs(a->hub, &b);
    if (!hub_logs_wanted(a->hub))
        registry_want_logs(a->d.registry, false);
}

/* --- the manager --- */

void native_manager(struct api *a, struct http_req *req, const struct api_params *p)
{
    enum http_method m = http_req_method(req);

    if (a->cfg.manager)
        native_from_primary(a, req, p);
    else if (m == HTTP_GET || m == HTTP_HEAD)
        api_not_there(req); /* as a server without the manager */
    else
        http_reply_str(
            req, 403, "text/plain; charset=utf-8",
            "403: the manager of one server is not reached from here (manager in the configuration)");
}
