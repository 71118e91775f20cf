/* GET /view and GET /internal/files: files by their names. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/file_find.h"
#include "api/native.h"
#include "api/picture.h"
#include "base/log.h"
#include "comfy/names.h"
#include "http/client.h"

/* --- answering with bytes --- */

/* Content that a browser would run is never shown on our origin. */
void api_put_file_fields(struct http_req *req, const char *name, bool attachment)
{
    struct buf b = BUF_INIT;

    buf_puts(&b, attachment ? "attachment; filename=\"" : "filename=\"");
    for (const char *p = name; *p; p++)
        buf_putc(&b, *p == '"' || *p == '\\' || (unsigned char)*p < 0x20 ? '_' : *p);
    buf_putc(&b, '"');
    http_set(req, "Content-Disposition", buf_str(&b));
    http_set(req, "X-Content-Type-Options", "nosniff");
    http_set(req, "Content-Security-Policy", "sandbox; default-src 'none'");
    buf_free(&b);
}

static void reply_fd(struct api *a, struct http_req *req, const struct api_blob *b, int fd)
{
    struct http_file f = {.fd = fd, .size = b->size, .mtime = b->at / 1000};
    bool active = name_is_active(b->name, strlen(b->name)) && !b->style;
    char etag[BLAKE3_HEX + 2];

    if (picture_possible(a, b)) {
        picture_reply(a, req, b, fd);
        return;
    }
    if (b->mux && b->want.op != IMAGE_FILE && (b->mime == NULL || strncmp(b->mime, "image/", 6) != 0)) {
        close(fd);
        api_error(req, 415, "no_image_output", "this output is no picture", NULL);
        return;
    }
    etag[0] = '"';
    blake3_hex(b->hash, etag + 1);
    memcpy(etag + BLAKE3_HEX, "\"", 2);
    f.etag = etag;
    f.type = active                  ? "application/octet-stream"
             : b->mime && b->mime[0] ? b->mime
                                     : name_mime(b->name, strlen(b->name));
    api_put_file_fields(req, b->name, active || b->attached);
    http_reply_file(req, 200, &f);
}

struct api_blob_kept *api_blob_keep(const struct api_blob *b)
{
    struct api_blob_kept *x = xcalloc(1, sizeof(*x));

    x->b = *b;
    x->b.name = x->name = xstrdup(b->name);
    x->b.mime = x->mime = xstrdup_null(b->mime);
    x->b.job = x->job = xstrdup_null(b->job);
    memcpy(x->hash, b->hash, BLAKE3_LEN);
    x->b.hash = x->hash;
    return x;
}

void api_blob_take(struct api_blob_kept *x, const struct api_wait *w)
{
    *x = *(const struct api_blob_kept *)w->extra;
    x->b.hash = x->hash;
}

void api_blob_let_go(struct api_blob_kept *x)
{
    free(x->name);
    free(x->mime);
    free(x->job);
}

static void refuse_blob(struct http_req *req, const struct api_blob_kept *x, enum blob_found found,
                        const char *why)
{
    static const struct {
        const char *event, *message;
        int status;
    } ends[] = {
        [BLOB_GONE] = {"blob_missing", "the file with the bytes of this output is missing", 410},
        [BLOB_DAMAGED] = {"blob_damaged", "the stored bytes of this output are damaged", 410},
        [BLOB_UNREADABLE] = {"blob_unreadable", "the stored bytes of this output cannot be read", 500},
    };
    char hex[BLAKE3_HEX];

    blake3_hex(x->hash, hex);
    log_error(LOG_S("job", x->job), LOG_S("event", ends[found].event), LOG_S("file", x->name),
              LOG_S("blake3", hex), LOG_S("reason", why));
    if (req && x->b.mux)
        api_error(req, ends[found].status, ends[found].status == 410 ? "expired" : "storage_failed",
                  ends[found].message, NULL);
    else if (req)
        http_reply_str(req, ends[found].status, "text/plain; charset=utf-8", ends[found].message);
}

static void on_blob_checked(enum blob_found found, int fd, const char *why, void *arg)
{
    struct api_wait *w = arg;
    struct api_blob_kept x;
    struct api *a = w->a;
    struct http_req *req;

    api_blob_take(&x, w);
    req = api_wait_end(w);
    if (found != BLOB_SOUND)
        refuse_blob(req, &x, found, why);
    else if (req)
        reply_fd(a, req, &x.b, fd);
    else
        close(fd);
    api_blob_let_go(&x);
}

void api_reply_blob(struct api *a, struct http_req *req, const struct api_blob *b)
{
    int fd = blob_open_checked(a->d.blobs, b->hash, b->size);
    struct api_wait *w;

    if (fd >= 0) {
        reply_fd(a, req, b, fd);
        return;
    }
    w = api_wait_new(a, req);
    w->extra = api_blob_keep(b);
    blob_check(a->d.blobs, b->hash, b->size, on_blob_checked, w);
}

/* --- GET /view --- */

struct view {
    char *filename, *subfolder;
    enum name_type type;
    char *preview, *channel; /* as given, or NULL */
};

static void view_fini(struct view *v)
{
    free(v->filename);
    free(v->subfolder);
    free(v->preview);
    free(v->channel);
}

static void view_free(struct view *v)
{
    if (v)
        view_fini(v);
    free(v);
}

/* The subfolder resolved; 0, or the status to refuse with. */
static int view_folder(struct view *v)
{
    struct buf folder = BUF_INIT;
    enum name_user r = name_folder(v->subfolder, strlen(v->subfolder), &folder);
    bool safe = folder.len == 0 || name_path_is_safe(buf_str(&folder), folder.len);

    free(v->subfolder);
    v->subfolder = buf_take(&folder);
    return r == NAME_USER_ESCAPES ? 403 : r == NAME_USER_OK && safe ? 0 : 404;
}

/* The parameters as ComfyUI takes them; the status to refuse with, or 0. */
static int view_parse(const struct http_req *req, struct view *v)
{
    char *filename = api_query(req, "filename"), *type = api_query(req, "type"), *slash;
    size_t plain;

    v->preview = api_query(req, "preview");
    v->channel = api_query(req, "channel");
    v->subfolder = api_query(req, "subfolder");
    if (v->subfolder == NULL)
        v->subfolder = xstrdup("");
    v->filename = filename;
    if (filename == NULL) {
        free(type);
        return 404;
    }
    v->type = name_annotation(filename, strlen(filename),
                              type ? name_type_parse(type, strlen(type)) : NAME_OUTPUT, &plain);
    filename[plain] = '\0';
    free(type);
    if (filename[0] == '\0' || filename[0] == '/' || strstr(filename, "..") || v->type == NAME_TYPE_UNKNOWN)
        return 400;
    slash = strrchr(filename, '/');
    if (slash)
        memmove(filename, slash + 1, strlen(slash + 1) + 1);
    if (!name_is_safe(filename, strlen(filename)))
        return 404;
    return view_folder(v);
}

static void bound_gone(struct http_req *req, const char *why, void *arg)
{
    (void)arg;
    log_warn(LOG_S("event", "view_not_reached"), LOG_S("reason", why));
    http_reply_empty(req, 502);
}

static void view_put(struct buf *t, const char *key, const char *value)
{
    if (value == NULL)
        return;
    buf_printf(t, "&%s=", key);
    http_escape(value, strlen(value), false, t);
}

/* Not stored here: streamed from the server that has it, which makes the preview too. */
static void view_from(struct api *a, struct http_req *req, const struct view *v, const char *server,
                      const char *subfolder, bool partly)
{
    static const char *const whole[] = {"Range",         "If-None-Match", "If-Modified-Since",
                                        "If-Range",      "Origin",        "Referer",
                                        "Authorization", "Cookie",        NULL};
    static const char *const any[] = {"Origin", "Referer", "Authorization", "Cookie", NULL};
    /* what it says of a picture that it makes is right; of a file it is said here, whatever the server thinks of it */
    static const char *const file[] = {"Content-Type", "Content-Disposition", "X-Content-Type-Options",
                                       "Set-Cookie",   "Access-Control-*",    NULL};
    bool made = v->preview || v->channel, active = name_is_active(v->filename, strlen(v->filename));
    struct http_client *c = registry_client(a->d.registry, server);
    struct http_pass pass = {
        .drop = partly ? any : whole, .drop_answer = made ? file + 1 : file, .on_unreachable = bound_gone};
    struct buf t = BUF_INIT;

    if (c == NULL) {
        http_reply_empty(req, 404);
        return;
    }
    buf_puts(&t, "/view?filename=");
    http_escape(v->filename, strlen(v->filename), false, &t);
    buf_puts(&t, "&subfolder=");
    http_escape(subfolder, strlen(subfolder), false, &t);
    buf_printf(&t, "&type=%s", name_type_str(v->type));
    view_put(&t, "preview", v->preview);
    view_put(&t, "channel", v->channel);
    pass.target = t.data;
    api_put_file_fields(req, v->filename, active && !made);
    if (!made)
        http_set(req, "Content-Type",
                 active ? "application/octet-stream" : name_mime(v->filename, strlen(v->filename)));
    http_pass_through(req, c, &pass);
    buf_free(&t);
}

static void on_found(const struct file_found *f, void *arg)
{
    struct api_wait *w = arg;
    struct view *v = w->extra;
    struct api *a = w->a;
    struct http_req *req;

    w->extra = NULL;
    req = api_wait_end(w);
    if (req == NULL) {
        view_free(v);
        return;
    }
    switch (f->where) {
    case FILE_STORED:
        api_reply_blob(a, req,
                       &(struct api_blob){.hash = f->blake3,
                                          .size = f->size,
                                          .name = v->filename,
                                          .mime = f->mime,
                                          .job = f->job,
                                          .at = f->at,
                                          .want = picture_wanted(v->preview, v->channel)});
        break;
    case FILE_ON_SERVER:
        /* of a job that lives, it is about to be ours, with another ETag */
        view_from(a, req, v, f->server, f->subfolder, f->probed);
        break;
    case FILE_EXPIRED: http_reply_empty(req, 410); break;
    case FILE_NOWHERE: http_reply_empty(req, 404); break;
    case FILE_TROUBLE:
    case FILE_BUSY: http_set(req, "Retry-After", "1"); http_reply_empty(req, 503);
    }
    view_free(v);
}

void native_get_view(struct api *a, struct http_req *req, const struct api_params *p)
{
    struct view *v = xcalloc(1, sizeof(*v));
    int status = view_parse(req, v);
    struct api_wait *w;

    (void)p;
    if (status) {
        http_reply_empty(req, status);
        view_free(v);
        return;
    }
    w = api_wait_new(a, req);
    w->extra = v;
    file_find_name(a, api_tenant(a, req), v->type, v->subfolder, v->filename, false, on_found, w);
}

/* --- GET /internal/files/{type}: names, newest first --- */

#define LISTED_JOBS 1000 /* the newest ones, whose outputs are listed */

struct listed {
    char *name;
    int64_t at;
    size_t order;
};
struct listing {
    enum name_type type;
    struct listed *v;
    size_t n;
};

static void listing_add(struct listing *l, char *name, int64_t at)
{
    if ((l->n & (l->n - 1)) == 0)
        l->v = xrealloc(l->v, (l->n ? 2 * l->n : 1) * sizeof(*l->v));
    l->v[l->n] = (struct listed){name, at, l->n};
    l->n++;
}

static void listing_free(struct listing *l)
{
    for (size_t i = 0; i < l->n; i++)
        free(l->v[i].name);
    free(l->v);
    free(l);
}

/* Of one instant the later one first. */
static int newest_first(const void *va, const void *vb)
{
    const struct listed *a = va, *b = vb;

    if (a->at != b->at)
        return a->at > b->at ? -1 : 1;
    return a->order < b->order ? -1 : 1;
}

static void reply_listing(struct http_req *req, struct listing *l)
{
    struct buf b = BUF_INIT;
    struct jsonw w;

    if (l->n)
        qsort(l->v, l->n, sizeof(*l->v), newest_first);
    jsonw_init(&w, &b);
    jsonw_arr(&w);
    for (size_t i = 0; i < l->n; i++)
        jsonw_str(&w, l->v[i].name);
    jsonw_arr_end(&w);
    api_reply_json(req, 200, &b);
}

static void list_outputs(struct listing *l, const struct job_record *rec)
{
    for (size_t i = 0; i < rec->n_outputs; i++) {
        const struct job_output *o = &rec->outputs[i];
        struct buf b = BUF_INIT;

        if (strcmp(o->type, name_type_str(l->type)) != 0)
            continue;
        name_put_virtual(&b, rec->s.id, (unsigned)o->attempt, o->subfolder);
        buf_printf(&b, "/%s", o->filename);
        listing_add(l, buf_take(&b), rec->s.finished_at);
    }
}

static void on_jobs(struct store_list *list, void *arg)
{
    struct api_wait *w = arg;
    struct listing *l = w->extra;
    struct http_req *req;

    w->extra = NULL;
    req = api_wait_end(w);
    if (req && list->status != STORE_OK) {
        http_reply_empty(req, 503);
    } else if (req) {
        for (size_t i = 0; i < list->n; i++)
            list_outputs(l, list->rows[i]);
        reply_listing(req, l);
    }
    store_list_free(list);
    listing_free(l);
}

static void on_uploads(enum store_status st, const struct store_file *f, size_t n, void *arg)
{
    struct api_wait *w = arg;
    struct listing *l = w->extra;
    struct api *a = w->a;
    struct http_req *req;

    w->extra = NULL;
    req = api_wait_end(w);
    for (size_t i = 0; i < n; i++) /* the folder itself, as stock servers list it */
        if (f[i].subfolder[0] == '\0')
            listing_add(l, xstrdup(f[i].name), f[i].at);
    if (req && st == STORE_OK && l->type != NAME_INPUT) {
        struct store_filter filter = {.tenant = api_tenant(a, req),
                                      .states = JOB_STATE_BIT(JOB_SUCCEEDED),
                                      .limit = LISTED_JOBS,
                                      .parts = JOB_PART_OUTPUTS};

        w = api_wait_new(a, req);
        w->extra = l;
        store_list(a->d.store, &filter, on_jobs, w);
        return;
    }
    if (req && st == STORE_OK)
        reply_listing(req, l);
    else if (req)
        http_reply_empty(req, 503);
    listing_free(l);
}

void native_get_files(struct api *a, struct http_req *req, const struct api_params *p)
{
    enum name_type type = name_type_parse(p->v[0], strlen(p->v[0]));
    struct api_wait *w;
    struct listing *l;

    if (type == NAME_TYPE_UNKNOWN) {
        http_reply_str(req, 400, "application/json; charset=utf-8",
                       "{\"error\": \"Invalid directory type\"}");
        return;
    }
    l = xcalloc(1, sizeof(*l));
    l->type = type;
    w = api_wait_new(a, req);
    w->extra = l;
    store_input_list(a->d.store, api_tenant(a, req), name_type_str(type), on_uploads, w);
}
