/* What the fleet can do and is: object_info merged, features, system_stats. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "api/catalogue.h"
#include "api/choices.h"
#include "api/native.h"
#include "comfy/object_info.h"
#include "job/scheduler.h"

/* --- object_info --- */

/* The merged text compressed, made on a worker the first time somebody who takes gzip asks for it. */
struct packed {
    struct work work;
    struct api *a;
    struct bytes *text, *gz;
    char etag[80];
    bool making;
};

static void pack_run(struct work *w)
{
    struct packed *p = container_of(w, struct packed, work);
    z_stream z = {0};
    struct bytes *out;

    if (deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK)
        return;
    out = bytes_alloc(deflateBound(&z, p->text->len));
    z.next_in = (unsigned char *)p->text->data;
    z.avail_in = (unsigned)p->text->len;
    z.next_out = (unsigned char *)out->data;
    z.avail_out = (unsigned)out->len;
    if (deflate(&z, Z_FINISH) == Z_STREAM_END) {
        p->gz = bytes_new(out->data, z.total_out);
    }
    bytes_unref(out);
    deflateEnd(&z);
}

static void packed_free(struct packed *p)
{
    bytes_unref(p->text);
    bytes_unref(p->gz);
    free(p);
}

static void pack_done(struct work *w)
{
    struct packed *p = container_of(w, struct packed, work);

    p->making = false;
    if (p->a == NULL || p->a->packed != p) /* the gateway ends, or there is a newer text */
        packed_free(p);
}

void native_info_fini(struct api *a)
{
    struct packed *p = a->packed;

    a->packed = NULL;
    if (p && p->making)
        p->a = NULL;
    else if (p)
        packed_free(p);
}

/* The compressed text, or NULL while there is none: then it is being made. */
static struct bytes *packed(struct api *a, struct bytes *text, const char *etag)
{
    if (a->packed && strcmp(a->packed->etag, etag) == 0)
        return a->packed->gz;
    if (text->len < 1400)
        return NULL;
    native_info_fini(a);
    a->packed = xcalloc(1, sizeof(*a->packed));
    a->packed->a = a;
    a->packed->text = bytes_ref(text);
    a->packed->making = true;
    snprintf(a->packed->etag, sizeof(a->packed->etag), "%s", etag);
    a->packed->work.run = pack_run;
    a->packed->work.done = pack_done;
    workers_submit(a->d.workers, &a->packed->work);
    return NULL;
}

static void no_server_yet(struct http_req *req)
{
    http_set(req, "Retry-After", "2");
    api_native_error(req, 503, "not_ready", "No server has been reached yet", "");
}

static void on_text(struct api *a, struct http_req *req, struct bytes *text, const char *etag)
{
    struct bytes *gz = NULL;

    if (text == NULL) {
        no_server_yet(req);
        return;
    }
    http_set(req, "ETag", etag);
    http_set(req, "Vary", "Accept-Encoding");
    if (http_not_modified(req, etag, 0)) {
        http_reply_empty(req, 304);
        return;
    }
    if (api_takes_gzip(req))
        gz = packed(a, text, etag);
    if (gz)
        http_set(req, "Content-Encoding", "gzip");
    http_reply_bytes(req, 200, "application/json; charset=utf-8", gz ? gz : text);
}

/* A request that waits for what the servers say now. */
struct refreshing {
    struct refresh refresh;
    struct api *a;
    struct http_req *req;
};

static void on_refreshed(void *arg)
{
    struct refreshing *x = arg;

    http_on_abort(x->req, NULL, NULL);
    catalogue_text(x->a, x->req, on_text);
    free(x);
}

static void on_gone(struct http_req *req, void *arg)
{
    struct refreshing *x = arg;

    (void)req;
    registry_refresh_cancel(&x->refresh);
    free(x);
}

void native_get_object_info(struct api *a, struct http_req *req, const struct api_params *p)
{
    struct refreshing *x = xcalloc(1, sizeof(*x));

    (void)p;
    *x = (struct refreshing){.a = a, .req = req};
    if (registry_refresh(a->d.registry, &x->refresh, on_refreshed, x)) {
        http_on_abort(req, on_gone, x);
        return;
    }
    free(x);
    catalogue_text(a, req, on_text);
}

/* One class, united from the lists of all servers: on a worker, for such lists are long. */
struct one_class {
    struct work work;
    struct workers *workers;
    struct http_req *req; /* NULL: gone */
    struct object_view *view;
    struct choices *choices;
    char *name;
    struct buf text;
};

static void run_one(struct work *w)
{
    struct one_class *x = container_of(w, struct one_class, work);

    object_view_put_class(&x->text, x->view, str_of(x->name), choices_put, x->choices);
}

static void on_one(struct work *w)
{
    struct one_class *x = container_of(w, struct one_class, work);

    if (x->req) {
        http_on_abort(x->req, NULL, NULL);
        api_reply_json(x->req, 200, &x->text);
    }
    registry_drop_view(x->workers, x->view);
    choices_unref(x->choices);
    buf_free(&x->text);
    free(x->name);
    free(x);
}

static void on_one_gone(struct http_req *req, void *arg)
{
    (void)req;
    ((struct one_class *)arg)->req = NULL;
}

static void on_choices(struct api *a, struct http_req *req, struct choices *choices, void *arg)
{
    struct object_view *view = registry_view(a->d.registry);
    struct one_class *x;

    if (view == NULL || choices == NULL) {
        free(arg);
        no_server_yet(req);
        return;
    }
    x = xcalloc(1, sizeof(*x));
    x->workers = a->d.workers;
    x->req = req;
    x->view = object_view_ref(view);
    x->choices = choices_ref(choices);
    x->name = arg;
    x->work = (struct work){.run = run_one, .done = on_one};
    http_on_abort(req, on_one_gone, x);
    workers_submit(a->d.workers, &x->work);
}

void native_get_object_info_class(struct api *a, struct http_req *req, const struct api_params *p)
{
    if (registry_view(a->d.registry))
        catalogue_choices(a, req, on_choices, xstrdup(p->v[0]));
    else
        no_server_yet(req);
}

/* --- features --- */

/* What holds for every server behind us. Assets and the manager are absent; type-3 frames stay as the
 * servers send them, so supports_progress_text_metadata is never said. */
void api_put_features(struct api *a, struct buf *b)
{
    buf_printf(b, "{\"supports_preview_metadata\": true, \"max_upload_size\": %lld}",
               (long long)a->cfg.upload_max);
}

void native_get_features(struct api *a, struct http_req *req, const struct api_params *p)
{
    struct buf b = BUF_INIT;

    (void)p;
    api_put_features(a, &b);
    api_reply_json(req, 200, &b);
}

/* --- system_stats --- */

/* The primary's system, without its command line, which tells paths. */
static void put_system(struct jsonw *w, struct json system)
{
    struct json_iter it = json_iter(system);
    struct json k, v;

    jsonw_obj(w);
    while (json_next(&it, &k, &v)) {
        struct buf key = BUF_INIT;

        json_str(k, &key);
        jsonw_keyn(w, buf_str(&key), key.len);
        if (strcmp(buf_str(&key), "argv") == 0) {
            jsonw_arr(w);
            jsonw_arr_end(w);
        } else {
            jsonw_span(w, v);
        }
        buf_free(&key);
    }
    jsonw_obj_end(w);
}

static bool stats_of(struct api *a, const char *name, struct bytes **text, struct json *whole)
{
    *text = name ? registry_system_stats(a->d.registry, name) : NULL;
    return *text && json_check((*text)->data, (*text)->len, NULL, whole, NULL) == 0;
}

static void put_devices(struct api *a, struct jsonw *w, const char *name)
{
    struct json whole, k, v;
    struct bytes *text;
    struct json_iter it;

    if (!stats_of(a, name, &text, &whole))
        return;
    it = json_iter(json_get(whole, "devices"));
    while (json_next(&it, &k, &v))
        jsonw_span(w, v);
}

void native_get_system_stats(struct api *a, struct http_req *req, const struct api_params *p)
{
    struct fleet_server v[SCHED_SERVERS_MAX];
    size_t n = fleet_servers(registry_fleet(a->d.registry), v, SCHED_SERVERS_MAX);
    const char *primary = registry_primary(a->d.registry);
    struct buf b = BUF_INIT;
    struct bytes *text;
    struct json whole;
    struct jsonw w;

    (void)p;
    for (size_t i = 0; primary == NULL && i < n; i++) /* nobody is up: as it last was */
        if (registry_system_stats(a->d.registry, v[i].name))
            primary = v[i].name;
    if (!stats_of(a, primary, &text, &whole)) {
        no_server_yet(req);
        return;
    }
    jsonw_init(&w, &b);
    jsonw_obj(&w);
    jsonw_key(&w, "system");
    put_system(&w, json_get(whole, "system"));
    jsonw_key(&w, "devices");
    jsonw_arr(&w);
    put_devices(a, &w, primary);
    for (size_t i = 0; i < n; i++)
        if (strcmp(v[i].name, primary) != 0)
            put_devices(a, &w, v[i].name);
    jsonw_arr_end(&w);
    jsonw_obj_end(&w);
    api_reply_json(req, 200, &b);
}
