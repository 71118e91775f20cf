#include "api/api.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "api/catalogue.h"
#include "api/file_probe.h"
#include "api/mux_feed.h"
#include "api/mux_recent.h"
#include "api/native.h"
#include "api/native_jobs.h"
#include "api/static.h"
#include "api/user_docs.h"
#include "api/windows.h"
#include "base/log.h"
#include "comfy/events.h"
#include "comfy/prompt_request.h"

#define TENANT "default"

const char *api_tenant(struct api *a, const struct http_req *req)
{
    (void)a;
    (void)req;
    return TENANT;
}

/* --- answers --- */

void api_reply_json(struct http_req *req, int status, struct buf *b)
{
    struct bytes *body = buf_to_bytes(b);

    http_reply_bytes(req, status, "application/json; charset=utf-8", body);
    bytes_unref(body);
}

void api_error(struct http_req *req, int status, const char *code, const char *message, const char *detail)
{
    struct buf b = BUF_INIT;
    struct jsonw w;

    jsonw_init(&w, &b);
    jsonw_obj(&w);
    jsonw_key(&w, "error");
    jsonw_obj(&w);
    jsonw_kstr(&w, "code", code);
    jsonw_kstr(&w, "message", message);
    jsonw_kspan(&w, "detail", detail ? (struct json){detail, strlen(detail)} : (struct json){0});
    jsonw_obj_end(&w);
    jsonw_obj_end(&w);
    api_reply_json(req, status, &b);
}

void api_native_error(struct http_req *req, int status, const char *type, const char *message,
                      const char *details)
{
    struct buf b = BUF_INIT;
    struct jsonw w;

    jsonw_init(&w, &b);
    jsonw_obj(&w);
    jsonw_key(&w, "error");
    jsonw_obj(&w);
    jsonw_kstr(&w, "type", type);
    jsonw_kstr(&w, "message", message);
    jsonw_kstr(&w, "details", details ? details : "");
    jsonw_key(&w, "extra_info");
    jsonw_obj(&w);
    jsonw_obj_end(&w);
    jsonw_obj_end(&w);
    jsonw_key(&w, "node_errors");
    jsonw_obj(&w);
    jsonw_obj_end(&w);
    jsonw_obj_end(&w);
    api_reply_json(req, status, &b);
}

char *api_query(const struct http_req *req, const char *key)
{
    struct buf b = BUF_INIT;

    if (http_query_get(http_req_query(req), key, &b))
        return buf_take(&b);
    buf_free(&b);
    return NULL;
}

/* --- waiting with a request in hand --- */

static void wait_aborted(struct http_req *req, void *arg)
{
    struct api_wait *w = arg;

    (void)req;
    w->req = NULL;
}

struct api_wait *api_wait_new(struct api *a, struct http_req *req)
{
    struct api_wait *w = xcalloc(1, sizeof(*w));

    w->a = a;
    w->req = req;
    http_on_abort(req, wait_aborted, w);
    return w;
}

struct http_req *api_wait_end(struct api_wait *w)
{
    struct http_req *req = w->req;

    if (req)
        http_on_abort(req, NULL, NULL);
    free(w->extra);
    free(w);
    return req;
}

struct json_wait {
    struct api *a;
    bool native;
    api_json_cb *cb;
};

static void body_bad(struct http_req *req, bool native, struct err *e)
{
    if (native) {
        api_native_error(req, 400, "invalid_json", "The request body is not valid JSON", e->msg);
    } else {
        err_wrap(e, "the body is not JSON");
        api_error(req, 400, "bad_request", e->msg, NULL);
    }
}

static void on_body(struct http_req *req, struct bytes *body, void *arg)
{
    struct json_wait w = *(struct json_wait *)arg;
    struct json span;
    struct err e;

    http_on_abort(req, NULL, NULL);
    free(arg);
    if (json_check(body->data, body->len, NULL, &span, &e) < 0)
        body_bad(req, w.native, &e);
    else
        w.cb(w.a, req, span, body);
}

static void body_aborted(struct http_req *req, void *arg)
{
    (void)req;
    free(arg);
}

void api_read_json(struct api *a, struct http_req *req, bool native, api_json_cb *cb)
{
    struct json_wait *w = xcalloc(1, sizeof(*w));

    *w = (struct json_wait){a, native, cb};
    http_on_abort(req, body_aborted, w);
    http_body_read_all(req, a->cfg.json_max, on_body, w);
}

struct load_wait {
    api_record_cb *cb;
    void *arg;
    char *tenant;
};

static void on_record(enum store_status st, struct job_record *rec, void *arg)
{
    struct api_wait *w = arg;
    struct load_wait *l = w->extra;
    struct api *a = w->a;
    api_record_cb *cb = l->cb;
    void *cb_arg = l->arg;
    bool foreign = st == STORE_OK && strcmp(rec->s.tenant, l->tenant) != 0;
    struct http_req *req;

    free(l->tenant);
    req = api_wait_end(w);
    if (foreign)
        job_record_free(&rec);
    if (req && st != STORE_OK && st != STORE_NOT_FOUND)
        api_error(req, 500, "internal", "the store could not be read", NULL);
    else if (req)
        cb(a, req, &rec, cb_arg);
    job_record_free(&rec);
}

void api_load(struct api *a, struct http_req *req, const char *id, uint32_t parts, api_record_cb *cb,
              void *arg)
{
    struct load_wait *l = xcalloc(1, sizeof(*l));
    struct api_wait *w = api_wait_new(a, req);

    *l = (struct load_wait){cb, arg, xstrdup(api_tenant(a, req))};
    w->extra = l;
    store_get(a->d.store, id, parts, on_record, w);
}

/* --- the route table --- */

const char *api_who_name(enum api_who w)
{
    static const char *const names[] = {"own", "bound", "primary", "every", "merged", "refused"};

    return names[w];
}

static void put_rows(struct jsonw *w, const struct api_route *table)
{
    for (const struct api_route *r = table; r->method; r++) {
        jsonw_obj(w);
        jsonw_kstr(w, "method", r->method);
        jsonw_kstr(w, "path", r->path);
        jsonw_kbool(w, "twin", r->flags & API_TWIN);
        jsonw_kbool(w, "changes", r->flags & API_CHANGES);
        jsonw_kstr(w, "who", api_who_name(r->who));
        jsonw_kstr(w, "what", r->what);
        jsonw_obj_end(w);
    }
}

void api_put_routes(struct buf *b)
{
    struct jsonw w;

    jsonw_init(&w, b);
    jsonw_obj(&w);
    jsonw_key(&w, "native");
    jsonw_arr(&w);
    put_rows(&w, native_routes);
    jsonw_arr_end(&w);
    jsonw_key(&w, "mux");
    jsonw_arr(&w);
    put_rows(&w, mux_routes);
    jsonw_arr_end(&w);
    jsonw_obj_end(&w);
}

static bool segment_is(const char *pattern, size_t n, const char *path, size_t m)
{
    return n == m && memcmp(pattern, path, n) == 0;
}

/* Decoded value of a segment; false if it cannot be decoded. */
static bool take_param(struct api_params *p, int *n, const char *s, size_t len)
{
    struct buf b = BUF_INIT;

    if (*n >= API_PARAMS || http_unescape(s, len, false, &b) < 0) {
        buf_free(&b);
        return false;
    }
    p->v[(*n)++] = buf_take(&b);
    return true;
}

static void params_fini(struct api_params *p)
{
    for (int i = 0; i < API_PARAMS; i++) {
        free(p->v[i]);
        p->v[i] = NULL;
    }
}

static bool segments_match(const char *pattern, const char *path, struct api_params *p, int *n)
{
    while (*pattern == '/' && *path == '/') {
        size_t want, have;

        if (*++pattern != *++path && *pattern != '{')
            return false; /* most rows, at the first look */
        want = strcspn(pattern, "/");
        have = strcspn(path, "/");
        if (pattern[0] == '{' && want >= 5 && memcmp(pattern + want - 4, "...}", 4) == 0)
            return take_param(p, n, path, strlen(path));
        if (pattern[0] == '{') {
            if (have == 0 || !take_param(p, n, path, have))
                return false;
        } else if (!segment_is(pattern, want, path, have)) {
            return false;
        }
        pattern += want;
        path += have;
    }
    return *pattern == '\0' && *path == '\0';
}

/* p is filled only if it does. */
static bool path_matches(const char *pattern, const char *path, struct api_params *p)
{
    int n = 0;

    if (segments_match(pattern, path, p, &n))
        return true;
    if (n)
        params_fini(p);
    return false;
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

static bool is_unreserved(int c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '-' ||
           c == '.' || c == '_' || c == '~';
}

/* A path has one spelling (RFC 3986, 6.2.2.2): "/%68istory" is "/history", to the route table as to the servers behind.
 * Other escapes stay, %2F above all. The caller frees. */
static char *path_normal(const char *s)
{
    char *path = xmalloc(strlen(s) + 1), *to = path;

    while (*s) {
        int hi = s[0] == '%' ? hex_digit(s[1]) : -1, lo = hi >= 0 ? hex_digit(s[2]) : -1;

        if (lo >= 0 && is_unreserved(hi * 16 + lo)) {
            *to++ = (char)(hi * 16 + lo);
            s += 3;
        } else {
            *to++ = *s++;
        }
    }
    *to = '\0';
    return path;
}

bool api_takes_gzip(const struct http_req *req)
{
    const char *accept = http_req_header(req, "Accept-Encoding"),
               *at = accept ? strstr(accept, "gzip") : NULL;

    return at && strncmp(at + 4, ";q=0", 4) != 0;
}

bool api_path_is_plain(const char *path)
{
    size_t n = strlen(path);
    char *normal = path_normal(path);
    bool same = strcmp(path, normal) == 0;

    free(normal);
    return same && strstr(path, "//") == NULL && strstr(path, "/./") == NULL &&
           strstr(path, "/../") == NULL && strchr(path, '\\') == NULL && strcasestr(path, "%5c") == NULL &&
           strcasestr(path, "%2e") == NULL && !(n >= 2 && strcmp(path + n - 2, "/.") == 0) &&
           !(n >= 3 && strcmp(path + n - 3, "/..") == 0);
}

/* A route for the path, whatever the method; *wrong_method if only the method differs. */
static const struct api_route *route_find(const struct api_route *table, const char *method, const char *path,
                                          struct api_params *p, bool *path_known)
{
    const char *twin = strncmp(path, "/api/", 5) == 0 ? path + 4 : NULL;
    bool head = strcmp(method, "HEAD") == 0;

    for (const struct api_route *r = table; r->method; r++) {
        if (!path_matches(r->path, path, p) &&
            !(twin && (r->flags & API_TWIN) && path_matches(r->path, twin, p)))
            continue;
        *path_known = true;
        if (strcmp(r->method, method) == 0 || strcmp(r->method, "*") == 0 ||
            (head && strcmp(r->method, "GET") == 0))
            return r;
        params_fini(p);
    }
    return NULL;
}

/* The Origin guard (ComfyUI's, for every route that changes state, and for /ws, which a browser lets every page open):
 * a page of another origin may not act through a visitor's browser, nor listen. Host and Origin are compared without the scheme; a missing or "null" Origin passes. */
static bool origin_allowed(struct api *a, const struct http_req *req)
{
    const char *origin = http_req_header(req, "Origin"), *host = http_req_header(req, "Host"), *at;

    if (origin == NULL || origin[0] == '\0' || strcmp(origin, "null") == 0 || host == NULL)
        return true;
    for (const char *const *c = a->cfg.cors; c && *c; c++)
        if (strcmp(*c, "*") == 0 || strcasecmp(*c, origin) == 0)
            return true;
    at = strstr(origin, "://");
    return at && strcasecmp(at + 3, host) == 0;
}

static size_t host_len(const char *s)
{
    return *s == '[' ? strcspn(s, "]") + (strchr(s, ']') != NULL) : strcspn(s, ":/");
}

static bool is_loopback(const char *host, size_t n)
{
    return (n == 9 && strncasecmp(host, "localhost", n) == 0) || (n == 5 && memcmp(host, "[::1]", n) == 0) ||
           strncmp(host, "127.", 4) == 0;
}

/* As a ComfyUI server: one that is reached at a loopback address lets no page from elsewhere read either, so that no web
 * site finds out what runs on its visitor's machine. Ports count where both have one. */
static bool may_read(struct api *a, const struct http_req *req)
{
    const char *host = http_req_header(req, "Host"), *origin = http_req_header(req, "Origin");
    const char *at = origin ? strstr(origin, "://") : NULL;
    size_t n, m;

    if (host == NULL || at == NULL || origin_allowed(a, req))
        return true;
    at += 3;
    n = host_len(host);
    m = host_len(at);
    if (!is_loopback(host, n))
        return true;
    return n == m && strncasecmp(host, at, n) == 0 && (host[n] != ':' || at[m] != ':');
}

/* An answer says for whom it was, to those who do not send an Origin as well: what an <img> has put into the browser's cache
 * may be what a script of an allowed page is given later. */
static void put_cors(struct api *a, struct http_req *req)
{
    const char *origin = http_req_header(req, "Origin"), *allowed = NULL;

    if (a->cfg.cors == NULL || a->cfg.cors[0] == NULL)
        return;
    for (const char *const *c = a->cfg.cors; *c && allowed == NULL; c++)
        if (strcmp(*c, "*") == 0)
            allowed = "*";
        else if (origin && strcasecmp(*c, origin) == 0)
            allowed = origin;
    if (allowed == NULL || strcmp(allowed, "*") != 0)
        http_set(req, "Vary", "Origin");
    if (allowed == NULL)
        return;
    http_set(req, "Access-Control-Allow-Origin", allowed);
    http_set(req, "Access-Control-Allow-Methods", "POST, GET, DELETE, PUT, OPTIONS, PATCH");
    http_set(req, "Access-Control-Allow-Headers",
             "Content-Type, Authorization, Comfy-User, Idempotency-Key, If-None-Match, Last-Event-ID, Range, "
             "X-Comfymux-Window");
    http_set(req, "Access-Control-Expose-Headers",
             "Content-Disposition, Content-Range, ETag, Last-Modified, Location, Retry-After");
    if (http_req_method(req) == HTTP_OPTIONS)
        http_set(req, "Access-Control-Max-Age", "600");
}

/* Which methods a path has, as in Allow. */
static void put_allow(struct buf *b, const char *path)
{
    static const char *const more[] = {"POST", "PUT", "DELETE", "PATCH"};
    struct api_params p = {{NULL}};
    bool known = false;

    buf_puts(b, "GET,HEAD"); /* a server has its pages below every path */
    for (size_t i = 0; i < ARRAY_LEN(more); i++) {
        if (route_find(native_routes, more[i], path, &p, &known))
            buf_printf(b, ",%s", more[i]);
        params_fini(&p);
    }
}

static void wrong_method(struct http_req *req, const char *path)
{
    struct buf b = BUF_INIT;

    put_allow(&b, path);
    http_set(req, "Allow", buf_str(&b));
    http_reply_str(req, 405, "text/plain; charset=utf-8", "405: Method Not Allowed");
    buf_free(&b);
}

/* As a server's static files: an answer without a length, and to HEAD without a type. */
void api_not_there(struct http_req *req)
{
    bool head = http_req_method(req) == HTTP_HEAD;

    http_start(req, 404, head ? NULL : "application/octet-stream", -1);
    http_end(req);
}

/* What is in no table: the frontend's own files, and routes of custom nodes, which a server answers. Nothing is passed on
 * that lies below a route of ours. */
static void unknown(struct api *a, struct http_req *req, const char *path, bool path_known)
{
    enum http_method m = http_req_method(req);
    bool reads = m == HTTP_GET || m == HTTP_HEAD, ours = path_known || native_is_private(path);

    if (strncmp(path, "/mux/", 5) == 0 || strncmp(path, "/status/", 8) == 0 ||
        strncmp(path, "/result/", 8) == 0) {
        if (path_known)
            api_error(req, 405, "method_not_allowed", "this route has no such method", NULL);
        else
            api_error(req, 404, "not_found", "there is no such route", NULL);
        return;
    }
    if (reads && a->cfg.frontend && static_serve(req, a->cfg.frontend))
        return;
    if (reads && ours)
        api_not_there(req);
    else if (ours || m == HTTP_OTHER)
        wrong_method(req, path);
    else if (!origin_allowed(a, req))
        http_reply_empty(req, 403);
    else
        native_pass(a, req, NULL);
}

static void on_done(int64_t us, void *arg)
{
    histogram_add(arg, us);
}

void api_handle(struct http_req *req, void *arg)
{
    static const struct api_route *const tables[] = {mux_routes, native_routes};
    struct api *a = arg;
    struct api_params p = {{NULL}};
    const struct api_route *r = NULL;
    const char *window = http_req_header(req, "X-Comfymux-Window");
    bool path_known = false, ours = false; /* ours: a route that no ComfyUI server has */
    char *path;

    if (window && strlen(window) <= CLIENT_ID_MAX)
        windows_heard(a->windows, api_tenant(a, req), window);
    put_cors(a, req);
    if (http_req_method(req) == HTTP_OPTIONS) {
        http_reply_empty(req, origin_allowed(a, req) ? 200 : 403);
        return;
    }
    path = path_normal(http_req_path(req));
    for (size_t i = 0; r == NULL && i < ARRAY_LEN(tables); i++) {
        r = route_find(tables[i], http_req_method_name(req), path, &p, &path_known);
        ours = r && tables[i] == mux_routes;
    }
    if (r == NULL || strstr(r->path, "/events") == NULL) /* a stream lasts as long as its reader wants */
        http_on_done(req, on_done, &a->requests[mux_class_of(r)]);
    if ((r && (r->flags & (API_CHANGES | API_LISTENS)) && !origin_allowed(a, req)) ||
        (!ours && !may_read(a, req)))
        http_reply_empty(req, 403);
    else if (r == NULL)
        unknown(a, req, path, path_known);
    else
        r->handler(a, req, &p);
    params_fini(&p);
    free(path);
}

/* --- life --- */

static void on_change(void *arg, const struct runner_job_view *job, enum job_state from,
                      const struct runner_end *end)
{
    struct api *a = arg;

    mux_count_change(&a->counts, job->s, from);
    mux_count_time(&a->counts, job->s, from, job->from_at);
    recents_on_change(a->recents, job->s, from);
    native_jobs_changed(a->jobs);
    if (end)
        native_jobs_ended(a->jobs, job->s->id, end->history);
    windows_on_change(a->windows, job->s);
    hub_on_change(a->hub, job, from, end);
    feed_poke(a->feed);
}

static void on_event(void *arg, const struct runner_job_view *job, const char *text, size_t n)
{
    struct api *a = arg;

    struct event ev;

    hub_on_event(a->hub, job, text, n);
    if (feed_streams(a->feed) && event_parse(text, n, &ev, NULL) == 0 && ev.kind == EVENT_PROGRESS)
        feed_progress(a->feed, job);
}

static void on_frame(void *arg, const struct runner_job_view *job, const void *data, size_t n)
{
    hub_on_frame(((struct api *)arg)->hub, job, data, n);
}

const struct runner_listener *api_listener(void)
{
    static const struct runner_listener l = {on_change, on_event, on_frame};

    return &l;
}

static void config_copy(struct api_config *to, const struct api_config *from)
{
    size_t n = 0;
    char **cors;

    while (from->cors && from->cors[n])
        n++;
    cors = xcalloc(n + 1, sizeof(*cors));
    for (size_t i = 0; i < n; i++)
        cors[i] = xstrdup(from->cors[i]);
    *to = *from;
    to->frontend = xstrdup_null(from->frontend);
    to->cors = (const char *const *)cors;
}

static void config_drop(struct api_config *c)
{
    for (const char *const *p = c->cors; *p; p++)
        free((char *)(uintptr_t)*p);
    free((char **)(uintptr_t)c->cors);
    free((char *)(uintptr_t)c->frontend);
}

struct api *api_new(const struct api_deps *d, const struct api_config *cfg)
{
    struct api *a = xcalloc(1, sizeof(*a));
    struct hub_config hc = hub_config_default;
    struct buf features = BUF_INIT;

    a->d = *d;
    config_copy(&a->cfg, cfg);
    hc.sockets_max = cfg->clients_max;
    api_put_features(a, &features);
    a->hub = hub_new(d->loop, d->clock, &hc, buf_str(&features));
    a->windows = windows_new(d->clock);
    a->feed = feed_new(d->store);
    a->recents = recents_new();
    a->started_mono = d->clock->mono_ms(d->clock);
    a->jobs = native_jobs_new();
    registry_on_logs(d->registry, native_on_logs, a);
    buf_free(&features);
    return a;
}

void api_start(struct api *a, struct runner *r)
{
    a->runner = r;
    hub_start(a->hub, r, a->d.store);
    windows_start(a->windows, r, a->d.store);
}

void api_set_config(struct api *a, const struct api_config *cfg)
{
    struct api_config old = a->cfg;
    struct buf features = BUF_INIT;

    config_copy(&a->cfg, cfg);
    config_drop(&old);
    api_put_features(a, &features);
    hub_set_limits(a->hub, cfg->clients_max, buf_str(&features));
    buf_free(&features);
}

void api_drain(struct api *a)
{
    a->draining = true;
}

bool api_stop(struct api *a)
{
    return a->runner == NULL || hub_stop(a->hub);
}

void api_clients_gone(struct api *a)
{
    a->stopped = true;
}

void api_free(struct api **ap)
{
    struct api *a = *ap;

    if (a == NULL)
        return;
    native_info_fini(a);
    native_fleet_fini(a);
    user_docs_free(a);
    probes_free(a);
    catalogue_free(a);
    hub_free(&a->hub);
    windows_free(&a->windows);
    feed_free(&a->feed);
    recents_free(&a->recents);
    native_jobs_free(&a->jobs);
    config_drop(&a->cfg);
    free(a);
    *ap = NULL;
}

const char *api_not_ready(struct api *a)
{
    struct fleet_server v[1];
    struct store_stats st;

    store_stats(a->d.store, &st);
    if (a->draining)
        return "draining";
    if (a->runner == NULL)
        return "starting: jobs are being read from the store";
    if (st.trouble)
        return st.trouble;
    if (fleet_servers(registry_fleet(a->d.registry), v, 1) == 0)
        return "no server is configured";
    return api_any_usable(a) ? NULL : "no server is usable";
}

bool api_any_usable(struct api *a)
{
    struct fleet_server v[256];
    size_t n = fleet_servers(registry_fleet(a->d.registry), v, ARRAY_LEN(v));

    for (size_t i = 0; i < n && i < ARRAY_LEN(v); i++)
        if (v[i].state == FLEET_UP && v[i].known)
            return true;
    return false;
}
