/* The ComfyUI servers, as a gateway will find them: reachable, with what versions, nodes and models, and in what they
 * differ. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "cli/doctor_priv.h"
#include "http/client.h"
#include "http/websocket.h"

#define ASK_MS 15000
#define INFO_MS 120000 /* 16 s were seen on a server with 8,534 classes */
#define INFO_MAX ((size_t)256 << 20)
#define SKEW_S 60

struct asking {
    struct doctor *d;
    struct doctor_server *s;
    struct loop *loop;
    struct http_client *http;
    struct ws *ws;
    struct timer ws_limit;
    int64_t began;
    unsigned *left; /* questions without an answer, of all servers */
};

/* Without user and password. */
static char *url_shown(const char *url)
{
    struct http_url u;
    struct err e;
    char *shown;

    if (http_url_parse(url, &u, &e) < 0)
        return xstrdup("?");
    shown = xasprintf("%s://%s%s", u.tls ? "https" : "http", u.authority, u.base);
    http_url_fini(&u);
    return shown;
}

void doctor_add_server(struct doctor *d, const char *name, const char *url, const char *from)
{
    for (size_t i = 0; i < d->n_servers; i++)
        if (strcmp(d->servers[i].name, name) == 0 || strcmp(d->servers[i].url, url) == 0)
            return;
    if (d->n_servers == SERVER_SET_MAX)
        return;
    d->servers = xrealloc(d->servers, (d->n_servers + 1) * sizeof(*d->servers));
    d->servers[d->n_servers++] = (struct doctor_server){
        .name = xstrdup(name), .url = xstrdup(url), .shown = url_shown(url), .from = from};
}

void doctor_servers_fini(struct doctor *d)
{
    for (size_t i = 0; i < d->n_servers; i++) {
        struct doctor_server *s = &d->servers[i];

        free(s->name);
        free(s->url);
        free(s->shown);
        free(s->why);
        free(s->version);
        free(s->python);
        free(s->device);
        object_info_unref(s->info);
    }
    free(d->servers);
    for (size_t i = 0; i < d->n_differences; i++) {
        free(d->differences[i].name);
        free(d->differences[i].where);
    }
    free(d->differences);
}

/* --- asking --- */

static void one_less(struct asking *x)
{
    if (--*x->left == 0)
        loop_stop(x->loop);
}

static void failed(struct asking *x, const char *what, const struct http_answer *a)
{
    if (x->s->why)
        return;
    if (a->end == HTTP_CALL_OK)
        x->s->why = xasprintf("GET %s answers with HTTP status %d", what, a->status);
    else
        x->s->why = xasprintf("GET %s: %s", what, a->why);
}

static void take_devices(struct doctor_server *s, struct json devices)
{
    struct json_iter it = json_iter(devices);
    struct json k, device;

    while (json_next(&it, &k, &device)) {
        if (s->devices++)
            continue;
        s->device = json_strdup(json_get(device, "name"));
        json_int(json_get(device, "vram_total"), &s->vram_total);
        json_int(json_get(device, "vram_free"), &s->vram_free);
    }
}

static void take_skew(struct doctor_server *s, const char *date)
{
    struct tm t = {0};

    if (date && strptime(date, "%a, %d %b %Y %H:%M:%S GMT", &t))
        s->skew_s = (int64_t)timegm(&t) - (int64_t)time(NULL);
}

static void on_stats(const struct http_answer *a, void *arg)
{
    struct asking *x = arg;
    struct doctor_server *s = x->s;
    struct json root, system;

    s->took_ms = loop_now(x->loop) - x->began;
    if (a->end != HTTP_CALL_OK || a->status != 200) {
        failed(x, "/system_stats", a);
    } else if (json_check(a->body->data, a->body->len, NULL, &root, NULL) < 0 ||
               json_type(system = json_get(root, "system")) != JSON_OBJECT) {
        s->why = xstrdup("what answers there is no ComfyUI server");
    } else {
        s->reachable = true;
        s->version = json_strdup(json_get(system, "comfyui_version"));
        s->python = json_strdup(json_get(system, "python_version"));
        take_devices(s, json_get(root, "devices"));
        take_skew(s, http_headers_get(a->headers, "Date"));
    }
    one_less(x);
}

static void on_info(const struct http_answer *a, void *arg)
{
    struct asking *x = arg;
    struct err e;

    if (a->end != HTTP_CALL_OK || a->status != 200)
        failed(x, "/object_info", a);
    else if ((x->s->info = object_info_new(a->body->data, a->body->len, NULL, 0, &e)) == NULL && !x->s->why)
        x->s->why = xasprintf("its object_info is not understood: %s", e.msg);
    one_less(x);
}

static void ws_over(struct asking *x)
{
    timer_clear(&x->ws_limit);
    if (x->ws)
        ws_abort(&x->ws);
    one_less(x);
}

static void on_ws_limit(void *arg)
{
    ws_over(arg);
}

static void on_ws_message(struct ws *w, enum ws_type type, const char *data, size_t n, void *arg)
{
    struct asking *x = arg;

    (void)w, (void)type, (void)data, (void)n;
    x->s->socket = true;
    timer_set(&x->ws_limit, 0); /* the socket may not be closed in its own callback */
}

static void on_ws_close(struct ws *w, int code, const char *reason, bool opened, void *arg)
{
    struct asking *x = arg;

    (void)w, (void)code, (void)reason, (void)opened;
    x->ws = NULL;
    ws_over(x);
}

static void ask_one(struct asking *x, int64_t connect_ms, struct tls_client *tls)
{
    static const struct ws_handlers h = {.on_message = on_ws_message, .on_close = on_ws_close};
    static const struct ws_limits lim = {.message = 1 << 20, .write_ms = ASK_MS};
    struct http_client_config cfg = {.connect_ms = connect_ms, .tls = tls};
    struct err e;

    x->http = http_client_new(x->loop, x->s->url, &cfg, &e);
    if (x->http == NULL) {
        x->s->why = xstrdup(e.msg);
        return;
    }
    *x->left += 3;
    x->began = loop_now(x->loop);
    http_fetch(x->http, "GET", "/system_stats", NULL, NULL, 1 << 20, ASK_MS, on_stats, x);
    http_fetch(x->http, "GET", "/object_info", NULL, NULL, INFO_MAX, INFO_MS, on_info, x);
    timer_init(&x->ws_limit, x->loop, on_ws_limit, x);
    timer_set(&x->ws_limit, ASK_MS);
    x->ws = ws_connect(x->http, "/ws?clientId=comfymux-doctor", NULL, &lim, &h, x);
}

void doctor_ask(struct doctor *d, int64_t connect_ms)
{
    struct asking *all = xcalloc(d->n_servers + 1, sizeof(*all));
    struct tls_client *tls = NULL;
    struct loop *loop;
    unsigned left = 0;
    struct err e;

    loop = loop_new(&e);
    for (size_t i = 0; loop && i < d->n_servers; i++) {
        if (tls == NULL && strncasecmp(d->servers[i].url, "https:", 6) == 0)
            tls = tls_client_new(NULL, true, &e);
        all[i] = (struct asking){.d = d, .s = &d->servers[i], .loop = loop, .left = &left};
        ask_one(&all[i], connect_ms, tls);
    }
    if (left)
        loop_run(loop);
    for (size_t i = 0; loop && i < d->n_servers; i++) {
        if (all[i].http)
            timer_fini(&all[i].ws_limit);
        http_client_free(&all[i].http);
    }
    tls_client_free(&tls);
    if (loop) {
        loop_turn(loop, 0);
        loop_free(&loop);
    } else {
        doctor_find(d, FINDING_BAD, "servers", NULL, "they cannot be asked: %s", e.msg);
    }
    free(all);
}

/* --- comparing --- */

/* A choice that is a file of weights. */
static bool is_model(struct str s)
{
    static const char *const ends[] = {".safetensors", ".ckpt", ".pt",   ".pt2", ".pth",
                                       ".bin",         ".gguf", ".onnx", ".sft", ".pkl"};

    for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
        size_t n = strlen(ends[i]);

        if (s.n > n && strncasecmp(s.p + s.n - n, ends[i], n) == 0)
            return true;
    }
    return false;
}

/* Of a combo whose choices count: not remote, and no chooser of uploaded files. */
static bool counts(const struct object_input *in)
{
    return in->combo && !in->remote && !in->upload;
}

static size_t count_models(const struct object_info *info)
{
    struct str_index seen = {0};
    size_t n = 0;

    for (size_t i = 0; i < object_info_count(info); i++) {
        const struct object_class *c = object_info_at(info, i);

        for (size_t k = 0; k < c->n_inputs; k++)
            for (size_t v = 0; counts(&c->inputs[k]) && v < c->inputs[k].strings.n; v++)
                if (is_model(c->inputs[k].strings.keys[v])) {
                    bool added;

                    str_index_add(&seen, c->inputs[k].strings.keys[v], &added);
                    n += added;
                }
    }
    str_index_fini(&seen);
    return n;
}

static bool set_is_empty(const struct server_set *s)
{
    return server_set_empty(s);
}

static void differ(struct doctor *d, const char *kind, struct str name, char *where,
                   const struct server_set *missing)
{
    d->differences = xrealloc(d->differences, (d->n_differences + 1) * sizeof(*d->differences));
    d->differences[d->n_differences++] = (struct difference){
        .kind = kind, .name = xstrndup(name.p, name.n), .where = where, .missing = *missing};
}

static struct server_set minus(const struct server_set *a, const struct server_set *b)
{
    struct server_set r;

    for (size_t i = 0; i < ARRAY_LEN(r.w); i++)
        r.w[i] = a->w[i] & ~b->w[i];
    return r;
}

static struct server_set entry_servers(const struct object_entry *e)
{
    struct server_set r = {{0}};

    for (size_t i = 0; i < e->n; i++)
        for (size_t k = 0; k < ARRAY_LEN(r.w); k++)
            r.w[k] |= e->v[i].servers.w[k];
    return r;
}

/* Choices of one input that some servers with the class lack; each is told where it is seen first. */
static void compare_input(struct doctor *d, const struct object_entry *e, const struct object_input *in,
                          const struct server_set *have, struct str_index *seen)
{
    struct json_iter it = json_iter(in->values);
    struct json k, v;

    for (size_t i = 0; json_next(&it, &k, &v); i++) {
        struct server_set with, missing;
        struct str text;
        char *plain, *key;
        bool added;

        if ((plain = json_strdup(v)) == NULL)
            continue;
        text = (struct str){plain, strlen(plain)};
        with = object_entry_value_servers(e, in->name, v);
        missing = minus(have, &with);
        /* The same file in several loaders is one model. */
        key = is_model(text)
                  ? xstrdup(plain)
                  : xasprintf("%.*s.%.*s %s", (int)e->name.n, e->name.p, (int)in->name.n, in->name.p, plain);
        if (!set_is_empty(&missing)) {
            str_index_add(seen, (struct str){key, strlen(key)}, &added);
            if (added) {
                differ(d, is_model(text) ? "model" : "choice", text,
                       xasprintf("%.*s.%.*s", (int)e->name.n, e->name.p, (int)in->name.n, in->name.p),
                       &missing);
                key = NULL; /* it stands in seen */
            }
        }
        free(key);
        free(plain);
    }
}

static void compare_entry(struct doctor *d, const struct object_entry *e, const struct server_set *all,
                          struct str_index *seen)
{
    struct server_set have = entry_servers(e), missing = minus(all, &have);

    if (!set_is_empty(&missing))
        differ(d, "node", e->name, NULL, &missing);
    for (size_t i = 0; e->n > 1 && i < e->n; i++)
        for (size_t k = 0; k < e->v[i].c->n_inputs; k++)
            if (counts(&e->v[i].c->inputs[k]))
                compare_input(d, e, &e->v[i].c->inputs[k], &have, seen);
}

static int by_kind(const void *a, const void *b)
{
    static const char *const order = "nmc"; /* node, model, choice */
    const struct difference *x = a, *y = b;
    int c = (int)(strchr(order, x->kind[0]) - strchr(order, y->kind[0]));

    return c ? c : strcmp(x->name, y->name);
}

static void compare_versions(struct doctor *d)
{
    const struct doctor_server *first = NULL;

    for (size_t i = 0; i < d->n_servers; i++) {
        const struct doctor_server *s = &d->servers[i];

        if (s->version == NULL)
            continue;
        if (first == NULL)
            first = s;
        else if (strcmp(first->version, s->version) != 0) {
            doctor_find(d, FINDING_WARN, "servers",
                        xstrdup("the same version everywhere makes the same prompt give the same result"),
                        "versions differ: %s has ComfyUI %s, %s has %s", first->name, first->version, s->name,
                        s->version);
            return;
        }
    }
}

static void find_server(struct doctor *d, const struct doctor_server *s)
{
    if (!s->reachable || s->info == NULL)
        doctor_find(
            d, FINDING_BAD, "servers",
            xasprintf("start it, or see whether %s is right and the way to it is open (firewall, --listen of "
                      "ComfyUI)",
                      s->shown),
            "%s cannot be used: %s", s->name, s->why ? s->why : "it does not answer");
    else if (!s->socket)
        doctor_find(
            d, FINDING_BAD, "servers",
            xstrdup("a proxy in between must let WebSocket upgrades through; jobs are not sent without it"),
            "%s answers, but its WebSocket (/ws) does not open", s->name);
    else
        doctor_find(d, FINDING_OK, "servers", NULL,
                    "%s answers in %lld ms: ComfyUI %s, %zu nodes, %zu models", s->name,
                    (long long)s->took_ms, s->version ? s->version : "of unknown version",
                    object_info_count(s->info), s->models);
    if (s->reachable && (s->skew_s > SKEW_S || s->skew_s < -SKEW_S))
        doctor_find(
            d, FINDING_WARN, "clock", xstrdup("run a time service (chrony, systemd-timesyncd) on both"),
            "the clock of %s is %lld s %s ours", s->name, (long long)(s->skew_s < 0 ? -s->skew_s : s->skew_s),
            s->skew_s < 0 ? "behind" : "ahead of");
}

void doctor_compare(struct doctor *d)
{
    struct object_info *infos[SERVER_SET_MAX] = {NULL};
    struct str_index seen = {0};
    struct object_view *view;
    struct server_set all;
    size_t counted[3] = {0};

    for (size_t i = 0; i < d->n_servers; i++) {
        infos[i] = d->servers[i].info;
        if (infos[i])
            d->servers[i].models = count_models(infos[i]);
        find_server(d, &d->servers[i]);
    }
    compare_versions(d);
    view = object_view_new(infos, d->n_servers);
    all = object_view_servers(view);
    for (size_t i = 0; i < object_view_count(view); i++)
        compare_entry(d, object_view_at(view, i), &all, &seen);
    for (size_t i = 0; i < seen.n; i++)
        free((char *)seen.keys[i].p);
    str_index_fini(&seen);
    object_view_unref(view);
    if (d->n_differences)
        qsort(d->differences, d->n_differences, sizeof(*d->differences), by_kind);
    for (size_t i = 0; i < d->n_differences; i++)
        counted[d->differences[i].kind[0] == 'n' ? 0 : d->differences[i].kind[0] == 'm' ? 1 : 2]++;
    if (d->n_differences)
        doctor_find(
            d, FINDING_WARN, "servers",
            xstrdup(
                "jobs go where everything they need is; what stands on one server alone waits for that one"),
            "not every server has the same: %zu nodes, %zu models and %zu other choices differ", counted[0],
            counted[1], counted[2]);
}
