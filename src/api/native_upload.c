/* POST /upload/image and /upload/mask: files that jobs may read, into one namespace of the tenant. A mask is put onto its
 * original (mask.h); what is stored is the picture that comes of it. */
#include <stdlib.h>
#include <string.h>

#include "api/mask.h"
#include "api/native.h"
#include "base/log.h"
#include "comfy/names.h"
#include "http/multipart.h"

#define TEXT "text/plain; charset=utf-8"
#define FIELD_MAX 65536
#define QUEUED_MAX (4u << 20)
#define QUEUED_LOW (1u << 20)

/* Of each field the first one counts, as on a stock server. */
enum field { FIELD_TYPE, FIELD_SUBFOLDER, FIELD_OVERWRITE, FIELD_ORIGINAL, FIELDS };
static const char *const field_names[FIELDS] = {"type", "subfolder", "overwrite", "original_ref"};

/*   reading ──the form is whole──> writing the file ──[a mask: composing]──> naming ──> answered
 * Whoever holds the upload in a state lets it go there when the client has left. */
struct upload {
    struct api *a;
    struct http_req *req; /* NULL: the client has left */
    bool mask;
    struct multipart *m;
    struct blob_writer *w; /* while the form is read */
    bool whole;            /* the form has been read */
    struct buf *into;      /* the field that comes in; NULL: none of ours */
    bool to_file;          /* the file comes in */
    bool have_image, have[FIELDS];
    struct buf field[FIELDS];
    struct buf folder; /* the subfolder, resolved */
    char *tenant, *filename, *mime;
    struct blob_info info; /* what was uploaded */
    struct blob_info made; /* what came of a mask; pin 0: nothing */
    bool paused;
};

static void upload_free(struct upload *u)
{
    if (u->req)
        http_on_abort(u->req, NULL, NULL);
    if (u->w)
        blob_writer_abort(&u->w);
    if (u->info.pin && !u->a->stopped)
        blobs_unpin(u->a->d.blobs, u->info.pin);
    if (u->made.pin && !u->a->stopped)
        blobs_unpin(u->a->d.blobs, u->made.pin);
    multipart_free(&u->m);
    for (int i = 0; i < FIELDS; i++)
        buf_free(&u->field[i]);
    buf_free(&u->folder);
    free(u->tenant);
    free(u->filename);
    free(u->mime);
    free(u);
}

/* 400 has no body, as on a stock server; what is not the client's fault says what it is. */
static void upload_refuse(struct upload *u, int status, const char *why)
{
    log_info(LOG_S("event", "upload_refused"), LOG_I("status", status), LOG_S("reason", why));
    if (u->req) {
        http_on_abort(u->req, NULL, NULL);
        if (!u->whole)
            http_close_after(u->req);
        if (status == 503)
            http_set(u->req, "Retry-After", "1");
        if (status == 400)
            http_reply_empty(u->req, status);
        else
            http_reply_str(u->req, status, TEXT, why);
        u->req = NULL;
    }
    upload_free(u);
}

static int blob_status_http(enum blob_status st)
{
    return st == BLOB_TOO_BIG ? 413 : st == BLOB_FULL ? 507 : 500;
}

/* --- the form --- */

static void on_drained(void *arg)
{
    struct upload *u = arg;

    if (u->req && u->paused) {
        u->paused = false;
        http_body_resume(u->req);
    }
}

static int begin_file(struct upload *u, const struct multipart_part *p, struct err *e)
{
    u->have_image = true;
    if (p->filename == NULL)
        return err_set(e, 0, "the field named image is no file");
    u->to_file = true;
    u->filename = xstrdup(p->filename);
    u->mime = xstrdup_null(p->type);
    u->w = blob_writer_new(u->a->d.blobs, u->a->cfg.upload_max);
    blob_writer_on_drain(u->w, QUEUED_LOW, on_drained, u);
    return 0;
}

static int on_part(const struct multipart_part *p, void *arg, struct err *e)
{
    struct upload *u = arg;

    u->into = NULL;
    u->to_file = false;
    if (strcmp(p->name, "image") == 0 && !u->have_image)
        return begin_file(u, p, e);
    for (int i = 0; i < FIELDS; i++) {
        if (strcmp(p->name, field_names[i]) == 0 && !u->have[i]) {
            u->have[i] = true;
            u->into = &u->field[i];
        }
    }
    return 0;
}

static int on_data(const void *data, size_t n, void *arg, struct err *e)
{
    struct upload *u = arg;

    if (u->to_file) {
        blob_writer_put(u->w, data, n);
    } else if (u->into) {
        if (u->into->len + n > FIELD_MAX)
            return err_set(e, 0, "a field is too long");
        buf_put(u->into, data, n);
    }
    return 0;
}

static const struct multipart_handlers parts = {.on_part = on_part, .on_data = on_data};

static bool folder_is_fine(struct upload *u)
{
    const struct buf *f = &u->field[FIELD_SUBFOLDER];

    return name_folder(buf_str(f), f->len, &u->folder) == NAME_USER_OK &&
           (u->folder.len == 0 || name_path_is_safe(buf_str(&u->folder), u->folder.len));
}

/* The form is whole: is what it says acceptable? NULL, or why not. */
static const char *form_fault(struct upload *u)
{
    const struct buf *type = &u->field[FIELD_TYPE];

    if (!u->have_image)
        return "there is no file in a field named image";
    if (u->filename[0] == '/')
        memmove(u->filename, u->filename + 1, strlen(u->filename));
    if (!name_is_safe(u->filename, strlen(u->filename)))
        return "the file's name cannot be used";
    if (!folder_is_fine(u))
        return "the subfolder cannot be used, or leads out of the folder";
    if (u->have[FIELD_TYPE] && name_type_parse(buf_str(type), type->len) == NAME_TYPE_UNKNOWN)
        return "type is one of input, output, temp";
    return NULL;
}

/* --- naming --- */

static void on_named(const struct store_file *f, void *arg)
{
    struct upload *u = arg;
    struct buf b = BUF_INIT;
    struct jsonw w;

    if (f->status != STORE_OK) {
        upload_refuse(u, f->status == STORE_FULL ? 507 : 500,
                      f->status == STORE_FULL ? "No space left on the gateway's disk"
                                              : "The store could not write");
        return;
    }
    log_info(LOG_S("event", "uploaded"), LOG_S("name", f->name), LOG_S("subfolder", f->subfolder),
             LOG_S("type", f->type), LOG_I("bytes", f->size));
    u->a->uploads++;
    jsonw_init(&w, &b);
    jsonw_obj(&w);
    jsonw_kstr(&w, "name", f->name);
    jsonw_kstr(&w, "subfolder", buf_str(&u->field[FIELD_SUBFOLDER])); /* as it was given */
    jsonw_kstr(&w, "type", f->type);
    jsonw_obj_end(&w);
    if (u->req) {
        http_on_abort(u->req, NULL, NULL);
        api_reply_json(u->req, 200, &b);
    }
    u->req = NULL;
    buf_free(&b);
    upload_free(u);
}

/* bytes NULL: nothing is stored, only the name is told. */
static void give_name(struct upload *u, const struct blob_info *bytes)
{
    const char *overwrite = buf_str(&u->field[FIELD_OVERWRITE]);
    struct store_input in = {.tenant = u->tenant,
                             .type = u->have[FIELD_TYPE] ? buf_str(&u->field[FIELD_TYPE]) : "input",
                             .subfolder = buf_str(&u->folder),
                             .name = u->filename,
                             .mime = u->mime,
                             .at = u->a->d.clock->wall_ms(u->a->d.clock),
                             .alike = u->info.blake3,
                             .only_name = bytes == NULL,
                             .overwrite = strcmp(overwrite, "true") == 0 || strcmp(overwrite, "1") == 0};

    if (bytes) {
        memcpy(in.blake3, bytes->blake3, BLAKE3_LEN);
        in.size = bytes->size;
    }
    store_input_put(u->a->d.store, &in, on_named, u);
}

static void on_composed(const struct mask_result *r, void *arg)
{
    struct upload *u = arg;

    u->made = r->made;
    if (u->req == NULL || u->a->stopped)
        upload_free(u);
    else if (r->status)
        upload_refuse(u, r->status, r->why);
    else if (r->made.pin)
        give_name(u, &u->made);
    else
        give_name(u, NULL);
}

static void on_stored(enum blob_status st, const struct blob_info *info, const char *why, void *arg)
{
    struct upload *u = arg;

    if (st == BLOB_OK)
        u->info = *info;
    if (u->req == NULL || u->a->stopped)
        upload_free(u); /* nobody was told that it is kept */
    else if (st != BLOB_OK)
        upload_refuse(u, blob_status_http(st), why);
    else if (u->mask)
        mask_compose(u->a, u->tenant, &u->field[FIELD_ORIGINAL], &u->info, on_composed, u);
    else
        give_name(u, &u->info);
}

static void on_body(struct http_req *req, const void *data, size_t n, bool fin, void *arg)
{
    struct upload *u = arg;
    const char *why;
    struct err e;

    if ((n && multipart_push(u->m, data, n, &e) < 0) || (fin && multipart_finish(u->m, &e) < 0)) {
        u->whole = fin;
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
    u->whole = true;
    why = form_fault(u);
    if (why == NULL && u->mask && !u->have[FIELD_ORIGINAL])
        why = "there is no original_ref";
    if (why)
        upload_refuse(u, 400, why);
    else
        blob_writer_finish(&u->w, on_stored, u);
}

static void on_abort(struct http_req *req, void *arg)
{
    struct upload *u = arg;

    (void)req;
    u->req = NULL;
    if (!u->whole) /* still being read: nothing else holds it */
        upload_free(u);
}

static void upload(struct api *a, struct http_req *req, bool mask)
{
    const char *type = http_req_header(req, "Content-Type");
    struct upload *u = xcalloc(1, sizeof(*u));
    struct err e;

    u->a = a;
    u->req = req;
    u->mask = mask;
    u->tenant = xstrdup(api_tenant(a, req));
    u->m = multipart_new(type ? type : "", &parts, u, &e);
    if (u->m == NULL) {
        u->whole = true; /* what is sent is drained */
        upload_refuse(u, 400, e.msg);
        return;
    }
    http_body_limit(req, a->cfg.upload_max + (1 << 20));
    http_on_abort(req, on_abort, u);
    http_body_read(req, on_body, u);
}

void native_post_upload(struct api *a, struct http_req *req, const struct api_params *p)
{
    (void)p;
    upload(a, req, false);
}

void native_post_mask(struct api *a, struct http_req *req, const struct api_params *p)
{
    (void)p;
    upload(a, req, true);
}
