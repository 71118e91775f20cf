/* GET /view and POST /upload/image: files by their names. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/native.h"
#include "api/picture.h"
#include "base/log.h"
#include "comfy/names.h"
#include "http/multipart.h"

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
    char *filename, *subfolder, *type;
    char *preview, *channel; /* as given, or NULL */
    bool is_virtual;
    struct name_virtual v;
};

static void view_fini(struct view *v)
{
    free(v->filename);
    free(v->subfolder);
    free(v->type);
    free(v->preview);
    free(v->channel);
}

static struct image_want view_want(const struct view *v)
{
    return picture_wanted(v->preview, v->channel);
}

static bool has_dots(const char *s)
{
    return strstr(s, "..") != NULL;
}

/* The parameters as ComfyUI takes them; the status to refuse with, or 0. */
static int view_parse(const struct http_req *req, struct view *v)
{
    char *filename = api_query(req, "filename"), *type = api_query(req, "type"), *slash;
    enum name_type t;
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
    t = name_annotation(filename, strlen(filename), type ? name_type_parse(type, strlen(type)) : NAME_OUTPUT,
                        &plain);
    filename[plain] = '\0';
    free(type);
    if (filename[0] == '\0' || filename[0] == '/' || has_dots(filename) || t == NAME_TYPE_UNKNOWN)
        return 400;
    if (v->subfolder[0] == '/' || has_dots(v->subfolder))
        return 403;
    slash = strrchr(filename, '/');
    if (slash)
        memmove(filename, slash + 1, strlen(slash + 1) + 1);
    v->type = xstrdup(name_type_str(t));
    v->is_virtual = t != NAME_INPUT && name_virtual_parse(v->subfolder, strlen(v->subfolder), &v->v);
    return 0;
}

struct view_wait {
    char *name;
    char job[UUID_SIZE]; /* "" unless the name is a virtual one */
    char *key;           /* then: view_key() of what is asked for */
    struct image_want want;
};

static char *view_key(int attempt, const char *type, const char *subfolder, const char *filename)
{
    return xasprintf("%d %s %s/%s", attempt, type, subfolder, filename);
}

/* Is it a name that the job has delivered, whose bytes are kept no longer? Then that is said: 410. */
static void on_view_job(enum store_status st, struct job_record *rec, void *arg)
{
    struct api_wait *w = arg;
    int attempt = atoi(w->extra), status = 404;
    struct http_req *req;

    if (st == STORE_OK && attempt < rec->s.attempt && w->req &&
        strcmp(rec->s.tenant, api_tenant(w->a, w->req)) == 0)
        status = 410; /* what an abandoned attempt has made */
    for (size_t i = 0; st == STORE_OK && i < rec->n_outputs; i++) {
        const struct job_output *o = &rec->outputs[i];
        char *key = view_key(o->attempt, o->type, o->subfolder, o->filename);

        if (strcmp(key, w->extra) == 0 && w->req && strcmp(rec->s.tenant, api_tenant(w->a, w->req)) == 0)
            status = 410;
        free(key);
    }
    job_record_free(&rec);
    req = api_wait_end(w);
    if (req)
        http_reply_empty(req, status);
}

static void on_file(const struct store_file *f, void *arg)
{
    struct api_wait *w = arg;
    struct api *a = w->a;
    struct view_wait x = *(struct view_wait *)w->extra;
    struct http_req *req = api_wait_end(w);

    if (req && f->status == STORE_OK) {
        api_reply_blob(a, req,
                       &(struct api_blob){.hash = f->blake3,
                                          .size = f->size,
                                          .name = x.name,
                                          .mime = f->job ? f->mime : NULL, /* an upload: by its name */
                                          .job = f->job,
                                          .at = f->at,
                                          .want = x.want});
    } else if (req && f->status == STORE_NOT_FOUND && x.job[0]) {
        struct api_wait *again = api_wait_new(a, req);

        again->extra = x.key;
        x.key = NULL;
        store_get(a->d.store, x.job, JOB_PART_OUTPUTS, on_view_job, again);
    } else if (req) {
        http_reply_empty(req, f->status == STORE_NOT_FOUND ? 404 : 503);
    }
    free(x.name);
    free(x.key);
}

static struct api_wait *view_wait(struct api *a, struct http_req *req, const struct view *v)
{
    struct api_wait *w = api_wait_new(a, req);
    struct view_wait *x = xcalloc(1, sizeof(*x));

    x->name = xstrdup(v->filename);
    x->want = view_want(v);
    if (v->is_virtual) {
        char *sub = xstrndup(v->v.subfolder, v->v.subfolder_n);

        memcpy(x->job, v->v.job, UUID_SIZE);
        x->key = view_key((int)v->v.attempt, v->type, sub, v->filename);
        free(sub);
    }
    w->extra = x;
    return w;
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

/* Not stored yet: streamed from the server that made it, which makes the preview too. */
static bool view_bound(struct api *a, struct http_req *req, const struct view *v, const char *server,
                       const char *subfolder)
{
    static const char *const drop[] = {"Range", "If-None-Match", "If-Modified-Since", "If-Range", NULL};
    struct http_client *c = registry_client(a->d.registry, server);
    struct http_pass pass = {.drop = drop, .on_unreachable = bound_gone};
    struct buf t = BUF_INIT;

    if (c == NULL)
        return false;
    buf_puts(&t, "/view?filename=");
    http_escape(v->filename, strlen(v->filename), false, &t);
    buf_puts(&t, "&subfolder=");
    http_escape(subfolder, strlen(subfolder), false, &t);
    buf_printf(&t, "&type=%s", v->type);
    view_put(&t, "preview", v->preview);
    view_put(&t, "channel", v->channel);
    pass.target = t.data;
    http_pass_through(req, c, &pass);
    buf_free(&t);
    return true;
}

/* A file of a job that still lives: ours already, or the bound server's. False: neither. */
static bool view_live(struct api *a, struct http_req *req, const struct view *v, const char *subfolder)
{
    struct runner_job_view job;
    uint8_t hash[BLAKE3_LEN];
    const char *mime;
    int64_t size;
    int attempt = (int)v->v.attempt;

    if (a->runner == NULL || !runner_find(a->runner, v->v.job, &job) ||
        strcmp(job.s->tenant, api_tenant(a, req)) != 0)
        return false;
    if (runner_stored_file(a->runner, v->v.job, attempt, v->type, subfolder, v->filename, hash, &size,
                           &mime)) {
        api_reply_blob(a, req,
                       &(struct api_blob){.hash = hash,
                                          .size = size,
                                          .name = v->filename,
                                          .mime = mime,
                                          .job = v->v.job,
                                          .at = a->d.clock->wall_ms(a->d.clock),
                                          .want = view_want(v)});
        return true;
    }
    return job.s->attempt == attempt && job.s->server &&
           runner_names_file(a->runner, v->v.job, attempt, v->type, subfolder, v->filename) &&
           view_bound(a, req, v, job.s->server, subfolder);
}

void native_get_view(struct api *a, struct http_req *req, const struct api_params *p)
{
    const char *tenant = api_tenant(a, req);
    struct view v = {NULL};
    int status = view_parse(req, &v);
    char *sub;

    (void)p;
    if (status) {
        http_reply_empty(req, status);
    } else if (strcmp(v.type, "input") == 0) {
        store_input_find(a->d.store, tenant, v.type, v.subfolder, v.filename, on_file, view_wait(a, req, &v));
    } else {
        struct store_output_key k = {.tenant = tenant, .type = v.type, .filename = v.filename};

        sub = v.is_virtual ? xstrndup(v.v.subfolder, v.v.subfolder_n) : xstrdup(v.subfolder);
        k.subfolder = sub;
        if (v.is_virtual) {
            k.job = v.v.job;
            k.attempt = (int)v.v.attempt;
        }
        if (!v.is_virtual || !view_live(a, req, &v, sub))
            store_output_find(a->d.store, &k, on_file, view_wait(a, req, &v));
        free(sub);
    }
    view_fini(&v);
}

/* --- POST /upload/image --- */

struct upload {
    struct api *a;
    struct http_req *req;
    struct multipart *m;
    struct blob_writer *w;
    enum { PART_OTHER, PART_IMAGE, PART_TYPE, PART_SUBFOLDER, PART_OVERWRITE } part;
    bool have_image, paused;
    char *filename, *mime;
    struct buf type, subfolder, overwrite;
    int64_t pin;
};

#define FIELD_MAX 4096
#define QUEUED_MAX (4u << 20)
#define QUEUED_LOW (1u << 20)

static void upload_free(struct upload *u)
{
    if (u->req)
        http_on_abort(u->req, NULL, NULL);
    if (u->w)
        blob_writer_abort(&u->w);
    if (u->pin)
        blobs_unpin(u->a->d.blobs, u->pin);
    multipart_free(&u->m);
    free(u->filename);
    free(u->mime);
    buf_free(&u->type);
    buf_free(&u->subfolder);
    buf_free(&u->overwrite);
    free(u);
}

/* As a stock server: a status, no body. */
static void upload_refuse(struct upload *u, int status, const char *why)
{
    log_info(LOG_S("event", "upload_refused"), LOG_I("status", status), LOG_S("reason", why));
    if (u->req) {
        http_close_after(u->req);
        http_reply_empty(u->req, status);
        u->req = NULL;
    }
    upload_free(u);
}

static void upload_drained(void *arg)
{
    struct upload *u = arg;

    if (u->req && u->paused) {
        u->paused = false;
        http_body_resume(u->req);
    }
}

static int on_part(const struct multipart_part *p, void *arg, struct err *e)
{
    struct upload *u = arg;

    u->part = strcmp(p->name, "image") == 0 && p->filename ? PART_IMAGE
              : strcmp(p->name, "type") == 0               ? PART_TYPE
              : strcmp(p->name, "subfolder") == 0          ? PART_SUBFOLDER
              : strcmp(p->name, "overwrite") == 0          ? PART_OVERWRITE
                                                           : PART_OTHER;
    if (u->part != PART_IMAGE)
        return 0;
    if (u->have_image)
        return err_set(e, 0, "two files in one upload");
    u->have_image = true;
    u->filename = xstrdup(p->filename);
    u->mime = xstrdup_null(p->type);
    u->w = blob_writer_new(u->a->d.blobs, u->a->cfg.upload_max);
    blob_writer_on_drain(u->w, QUEUED_LOW, upload_drained, u);
    return 0;
}

static int on_data(const void *data, size_t n, void *arg, struct err *e)
{
    struct upload *u = arg;
    struct buf *field = u->part == PART_TYPE        ? &u->type
                        : u->part == PART_SUBFOLDER ? &u->subfolder
                        : u->part == PART_OVERWRITE ? &u->overwrite
                                                    : NULL;

    if (u->part == PART_IMAGE) {
        blob_writer_put(u->w, data, n);
    } else if (field) {
        if (field->len + n > FIELD_MAX)
            return err_set(e, 0, "a field is too long");
        buf_put(field, data, n);
    }
    return 0;
}

static const struct multipart_handlers parts = {.on_part = on_part, .on_data = on_data};

static void on_named(const struct store_file *f, void *arg)
{
    struct upload *u = arg;
    struct buf b = BUF_INIT;
    struct jsonw w;

    if (f->status != STORE_OK) {
        upload_refuse(u, f->status == STORE_FULL ? 507 : 500, "the store could not write");
        return;
    }
    log_info(LOG_S("event", "uploaded"), LOG_S("name", f->name), LOG_S("subfolder", f->subfolder),
             LOG_I("bytes", f->size));
    jsonw_init(&w, &b);
    jsonw_obj(&w);
    jsonw_kstr(&w, "name", f->name);
    jsonw_kstr(&w, "subfolder", f->subfolder);
    jsonw_kstr(&w, "type", f->type);
    jsonw_obj_end(&w);
    if (u->req)
        api_reply_json(u->req, 200, &b);
    u->req = NULL;
    buf_free(&b);
    upload_free(u);
}

static void on_stored(enum blob_status st, const struct blob_info *info, const char *why, void *arg)
{
    struct upload *u = arg;
    const char *type = u->type.len ? buf_str(&u->type) : "input";
    struct store_input in = {.tenant = api_tenant(u->a, u->req),
                             .type = type,
                             .subfolder = buf_str(&u->subfolder),
                             .name = u->filename,
                             .mime = u->mime,
                             .at = u->a->d.clock->wall_ms(u->a->d.clock),
                             .overwrite = strcmp(buf_str(&u->overwrite), "true") == 0 ||
                                          strcmp(buf_str(&u->overwrite), "1") == 0};

    if (st != BLOB_OK) {
        upload_refuse(u, st == BLOB_TOO_BIG ? 413 : st == BLOB_FULL ? 507 : 500, why);
        return;
    }
    u->pin = info->pin;
    memcpy(in.blake3, info->blake3, BLAKE3_LEN);
    in.size = info->size;
    store_input_put(u->a->d.store, &in, on_named, u);
}

/* The form is whole: is what it says acceptable? NULL, or why not; *status is what a stock server answers. */
static const char *form_fault(struct upload *u, int *status)
{
    const char *sub = buf_str(&u->subfolder);

    *status = 400;
    if (!u->have_image)
        return "there is no file in a field named image";
    if (u->filename[0] == '/')
        memmove(u->filename, u->filename + 1, strlen(u->filename));
    if (u->filename[0] == '\0' || !name_is_safe(u->filename, strlen(u->filename)))
        return "the file's name cannot be used";
    if (sub[0] && !name_path_is_safe(sub, strlen(sub)))
        return "the subfolder leads out of the folder";
    if (u->type.len && name_type_parse(buf_str(&u->type), u->type.len) == NAME_TYPE_UNKNOWN)
        return "type is one of input, output, temp";
    return NULL;
}

static void on_body(struct http_req *req, const void *data, size_t n, bool fin, void *arg)
{
    struct upload *u = arg;
    const char *why;
    int status;
    struct err e;

    if (n && multipart_push(u->m, data, n, &e) < 0) {
        upload_refuse(u, 400, e.msg);
        return;
    }
    if (!fin) {
        if (u->w && !u->paused && blob_writer_queued(u->w) > QUEUED_MAX) {
            u->paused = true;
            http_body_pause(req);
        }
        return;
    }
    if (multipart_finish(u->m, &e) < 0) {
        upload_refuse(u, 400, e.msg);
        return;
    }
    why = form_fault(u, &status);
    if (why)
        upload_refuse(u, status, why);
    else
        blob_writer_finish(&u->w, on_stored, u);
}

static void on_abort(struct http_req *req, void *arg)
{
    struct upload *u = arg;

    (void)req;
    u->req = NULL;
    if (u->w || u->filename == NULL) /* still being read: nothing else holds it */
        upload_free(u);
}

void native_post_upload(struct api *a, struct http_req *req, const struct api_params *p)
{
    const char *type = http_req_header(req, "Content-Type");
    struct upload *u = xcalloc(1, sizeof(*u));
    struct err e;

    (void)p;
    u->a = a;
    u->req = req;
    u->m = multipart_new(type ? type : "", &parts, u, &e);
    if (u->m == NULL) {
        upload_refuse(u, 400, e.msg);
        return;
    }
    http_body_limit(req, a->cfg.upload_max + (1 << 20));
    http_on_abort(req, on_abort, u);
    http_body_read(req, on_body, u);
}
