/* Files: /view, uploads, listings. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "http/multipart.h"
#include "sim/server_impl.h"

/* --- GET /view --- */

struct viewing {
    struct sim_server *s;
    bool truncate; /* an injected fault */
    char *path, *name;
};

static void viewing_free(void *arg)
{
    struct viewing *v = arg;

    free(v->path);
    free(v->name);
    free(v);
}

static bool query(const struct http_req *r, const char *key, struct buf *out)
{
    buf_clear(out);
    return http_query_get(http_req_query(r), key, out);
}

/* Status 0 and the file's path and name, or the status of the refusal. */
static int view_find(struct sim_server *s, const struct http_req *r, char **path, char **name)
{
    struct buf file = BUF_INIT, type = BUF_INIT, sub = BUF_INIT, plain = BUF_INIT, full = BUF_INIT;
    int dir = -1, status = 0;
    struct stat st;
    const char *base;

    if (!query(r, "filename", &file)) {
        status = 404;
    } else if (file.len == 0 || file.data[0] == '/' || strstr(file.data, "..")) {
        status = 400;
    } else {
        dir = files_annotated(file.data, &plain);
        if (plain.len == file.len) /* no note: the parameter counts */
            dir = query(r, "type", &type) ? files_dir_parse(buf_str(&type)) : FILES_OUTPUT;
        if (dir < 0)
            status = 400;
    }
    if (status == 0) {
        (void)query(r, "subfolder", &sub);
        base = strrchr(buf_str(&plain), '/');
        base = base ? base + 1 : buf_str(&plain);
        if ((sub.len > 0 && sub.data[0] == '/') ||
            !files_path(&s->files, (enum files_dir)dir, buf_str(&sub), base, &full))
            status = 403;
        else if (stat(buf_str(&full), &st) < 0 || !S_ISREG(st.st_mode))
            status = 404;
        *name = xstrdup(base);
    }
    *path = buf_take(&full);
    buf_free(&file);
    buf_free(&type);
    buf_free(&sub);
    buf_free(&plain);
    return status;
}

static void set_name(struct http_req *r, const char *name)
{
    http_setf(r, "Content-Disposition", "filename=\"%s\"", name);
}

/* preview= and channel=: the picture encoded anew. libwebp is not a part of this program, so what asks for
 * WebP gets JPEG, or PNG where there is transparency. */
static void view_encoded(struct http_req *r, const struct viewing *v, const char *preview,
                         const char *channel)
{
    struct buf bytes = BUF_INIT, out = BUF_INIT;
    struct image *im = NULL, *shown = NULL;
    const char *mime = "image/png", *semi = preview ? strchr(preview, ';') : NULL;
    int quality = semi && semi[1] >= '0' && semi[1] <= '9' ? atoi(semi + 1) : 90, rc = -1;
    struct err e = {0};

    if (files_read(v->path, &bytes, &e) == 0)
        im = image_decode(buf_str(&bytes), bytes.len, &e);
    if (im && channel && strcmp(channel, "a") == 0) {
        shown = image_alpha_only(im, &e);
    } else if (im && channel && strcmp(channel, "rgb") == 0) {
        shown = image_rgb(im, &e);
    } else {
        shown = image_ref(im);
    }
    if (shown && preview && (shown->c < 4 || strncmp(preview, "jpeg", 4) == 0)) {
        mime = "image/jpeg";
        rc = image_jpeg(shown, 0, quality < 1 ? 1 : quality > 100 ? 100 : quality, &out, &e);
    } else if (shown) {
        rc = image_png(shown, 0, 1, NULL, 0, &out, &e);
    }
    if (rc < 0) {
        reply_500(r);
    } else {
        set_name(r, v->name);
        http_reply(r, 200, mime, out.data, out.len);
    }
    image_unref(im);
    image_unref(shown);
    buf_free(&bytes);
    buf_free(&out);
}

static void half_is_out(struct http_req *r, void *arg)
{
    (void)arg;
    http_abort(r);
}

/* Half of the file, and then the connection ends. */
static void view_half(struct http_req *r, const struct viewing *v, const char *type)
{
    struct buf bytes = BUF_INIT;

    if (files_read(v->path, &bytes, NULL) < 0) {
        reply_empty(r, 404);
    } else {
        set_name(r, v->name);
        http_start(r, 200, type, (int64_t)bytes.len);
        http_send(r, bytes.data, bytes.len / 2);
        http_on_drain(r, 0, half_is_out, NULL);
    }
    buf_free(&bytes);
}

/* If-Match and If-Unmodified-Since: is it still the file that the client knows? */
static bool precondition_holds(const struct http_req *r, const char *etag, int64_t mtime)
{
    const char *match = http_req_header(r, "If-Match"), *since = http_req_header(r, "If-Unmodified-Since");

    if (match)
        return strcmp(match, "*") == 0 || strstr(match, etag);
    return !since || http_date_parse(since) < 0 || mtime <= http_date_parse(since);
}

void reply_file(struct http_req *r, const char *path, const char *type)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    char etag[64];
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        if (fd < 0)
            reply_empty(r, 404);
        else /* a folder */
            reply_none(r, 403);
        if (fd >= 0)
            close(fd);
        return;
    }
    snprintf(etag, sizeof(etag), "\"%llx-%llx\"",
             (unsigned long long)st.st_mtim.tv_sec * 1000000000ull + (unsigned long long)st.st_mtim.tv_nsec,
             (unsigned long long)st.st_size);
    if (!precondition_holds(r, etag, st.st_mtim.tv_sec)) {
        close(fd);
        http_reply(r, 412, type, "", 0);
        return;
    }
    http_reply_file(r, 200, &(struct http_file){fd, st.st_size, type, etag, st.st_mtim.tv_sec});
}

static void view_file(struct http_req *r, const struct viewing *v)
{
    const char *type = files_mime(v->name);

    if (strcmp(type, "text/html") == 0 || strcmp(type, "text/css") == 0)
        type = "application/octet-stream";
    if (v->truncate) {
        view_half(r, v, type);
        return;
    }
    set_name(r, v->name);
    reply_file(r, v->path, type);
}

static void view_now(struct http_req *r, void *arg)
{
    struct viewing *v = arg;
    struct buf preview = BUF_INIT, channel = BUF_INIT;
    bool has_preview = query(r, "preview", &preview), has_channel = query(r, "channel", &channel);

    has_channel =
        has_channel && (strcmp(buf_str(&channel), "rgb") == 0 || strcmp(buf_str(&channel), "a") == 0);
    if (has_preview || has_channel)
        view_encoded(r, v, has_preview ? buf_str(&preview) : NULL, has_channel ? buf_str(&channel) : NULL);
    else
        view_file(r, v);
    buf_free(&preview);
    buf_free(&channel);
}

void get_view(struct sim_server *s, struct http_req *r, const char *rest)
{
    struct viewing *v = xcalloc(1, sizeof(*v));
    int status;
    int64_t ms;

    (void)rest;
    v->s = s;
    status = view_find(s, r, &v->path, &v->name);
    if (status == 0) {
        static const enum fault_kind kinds[] = {FAULT_VIEW_404, FAULT_VIEW_500, FAULT_VIEW_TRUNCATE};
        enum fault_kind fault = faults_choose(&s->faults, kinds, ARRAY_LEN(kinds));
        bool slow = faults_strike(&s->faults, FAULT_VIEW_SLOW, &ms);

        v->truncate = fault == FAULT_VIEW_TRUNCATE;
        status = fault == FAULT_VIEW_404 ? 404 : fault == FAULT_VIEW_500 ? 500 : 0;
        if (status == 0 && slow) {
            server_later(s, r, ms, view_now, viewing_free, v);
            return;
        }
    }
    if (status == 500)
        reply_500(r);
    else if (status != 0)
        reply_empty(r, status);
    else
        view_now(r, v);
    viewing_free(v);
}

/* --- uploads --- */

#define FIELD_MAX 65536

struct upload {
    struct sim_server *s;
    struct multipart *parser;
    size_t got;
    bool mask;
    bool has_image, image_is_file;
    struct buf *into; /* the field that comes in, or NULL */
    struct buf image, filename, type, subfolder, overwrite, original;
    bool has_type, has_original, in_file;
};

static void upload_free(struct upload *u)
{
    multipart_free(&u->parser);
    buf_free(&u->image);
    buf_free(&u->filename);
    buf_free(&u->type);
    buf_free(&u->subfolder);
    buf_free(&u->overwrite);
    buf_free(&u->original);
    free(u);
}

static int on_part(const struct multipart_part *p, void *arg, struct err *e)
{
    struct upload *u = arg;

    (void)e;
    u->into = NULL;
    u->in_file = false;
    if (strcmp(p->name, "image") == 0 && !u->has_image) {
        u->has_image = true;
        u->image_is_file = p->filename != NULL;
        if (p->filename)
            buf_puts(&u->filename, p->filename);
        u->into = &u->image;
        u->in_file = true;
    } else if (strcmp(p->name, "type") == 0) {
        u->has_type = true;
        u->into = &u->type;
    } else if (strcmp(p->name, "subfolder") == 0) {
        u->into = &u->subfolder;
    } else if (strcmp(p->name, "overwrite") == 0) {
        u->into = &u->overwrite;
    } else if (strcmp(p->name, "original_ref") == 0) {
        u->has_original = true;
        u->into = &u->original;
    }
    if (u->into)
        buf_clear(u->into);
    return 0;
}

static int on_data(const void *data, size_t n, void *arg, struct err *e)
{
    struct upload *u = arg;

    if (!u->into)
        return 0;
    if (!u->in_file && u->into->len + n > FIELD_MAX)
        return err_set(e, 0, "a field is too long");
    buf_put(u->into, data, n);
    return 0;
}

static int on_part_end(void *arg, struct err *e)
{
    struct upload *u = arg;

    (void)e;
    u->into = NULL;
    return 0;
}

static bool same_bytes(const char *path, const struct buf *image)
{
    struct buf there = BUF_INIT;
    bool same = files_read(path, &there, NULL) == 0 && there.len == image->len &&
                memcmp(buf_str(&there), buf_str(image), image->len) == 0;

    buf_free(&there);
    return same;
}

/* "x.png", then "x (1).png" ... until the name is free or holds these bytes. True: it must be written. */
static bool choose_name(struct sim_server *s, enum files_dir d, const struct upload *u, struct buf *name,
                        struct buf *path)
{
    const char *dot = strrchr(u->filename.data, '.');
    size_t stem = dot && dot != u->filename.data ? (size_t)(dot - u->filename.data) : u->filename.len;
    bool overwrite = strcmp(buf_str(&u->overwrite), "true") == 0 || strcmp(buf_str(&u->overwrite), "1") == 0;

    buf_puts(name, u->filename.data);
    for (int i = 1;; i++) {
        buf_clear(path);
        if (!files_path(&s->files, d, buf_str(&u->subfolder), buf_str(name), path) || overwrite ||
            access(buf_str(path), F_OK) != 0)
            return true;
        if (same_bytes(buf_str(path), &u->image))
            return false;
        buf_clear(name);
        buf_printf(name, "%.*s (%d)%s", (int)stem, u->filename.data, i, u->filename.data + stem);
    }
}

/* The mask's alpha onto the original; what is stored is the result. 0, or the status of the answer. */
static int compose_mask(struct sim_server *s, struct upload *u, bool *have)
{
    struct val *ref = u->has_original ? val_parse(buf_str(&u->original), u->original.len, NULL) : NULL;
    const struct val *file = val_get(ref, "filename"), *sub = val_get(ref, "subfolder"),
                     *type = val_get(ref, "type");
    int d = type && type->type == VAL_STR ? files_dir_parse(type->text)
            : type                        ? -1
                                          : FILES_OUTPUT,
        status = 0;
    struct buf path = BUF_INIT, bytes = BUF_INIT, out = BUF_INIT;
    struct image *orig = NULL, *mask = NULL, *both = NULL;
    struct err e = {0};

    *have = false;
    if (!file || file->type != VAL_STR) {
        status = 500;
    } else if (d < 0) {
        status = 400;
    } else if (files_path(&s->files, (enum files_dir)d, sub && sub->type == VAL_STR ? sub->text : "",
                          file->text, &path) &&
               files_read(buf_str(&path), &bytes, NULL) ==
                   0) { /* else nothing is written, and 200 all the same */
        orig = image_decode(buf_str(&bytes), bytes.len, &e);
        mask = orig ? image_decode(buf_str(&u->image), u->image.len, &e) : NULL;
        both = mask ? image_new(1, orig->w, orig->h, 4, &e) : NULL;
        if (!both) {
            status = 500;
        } else {
            for (unsigned y = 0; y < orig->h; y++)
                for (unsigned x = 0; x < orig->w; x++) {
                    unsigned mx = x * mask->w / orig->w, my = y * mask->h / orig->h;

                    memcpy(image_at(both, 0, x, y), image_get(orig, 0, x, y), 3 * sizeof(float));
                    image_at(both, 0, x, y)[3] = mask->c == 4 ? image_get(mask, 0, mx, my)[3] : 1.0f;
                }
            *have = image_png(both, 0, 4, NULL, 0, &out, &e) == 0;
            buf_free(&u->image);
            u->image = out;
        }
    }
    image_unref(orig);
    image_unref(mask);
    image_unref(both);
    buf_free(&path);
    buf_free(&bytes);
    val_free(ref);
    return status;
}

/* 200, or the status ComfyUI answers. */
static int store_upload(struct sim_server *s, struct upload *u, struct buf *name)
{
    int d = u->has_type ? files_dir_parse(buf_str(&u->type)) : FILES_INPUT, status = 200;
    struct buf path = BUF_INIT;
    bool write, have = true;

    if (!u->has_image)
        return 400;
    if (!u->image_is_file || u->filename.len == 0 || d < 0)
        return 500;
    if (u->filename.data[0] == '/') { /* the slash goes; what is left has a folder that is not there */
        buf_consume(&u->filename, 1);
        if (strchr(u->filename.data, '/'))
            return 500;
    }
    if ((u->subfolder.len > 0 && u->subfolder.data[0] == '/') ||
        !files_path(&s->files, (enum files_dir)d, buf_str(&u->subfolder), u->filename.data, &path) ||
        strcmp(u->filename.data, "..") == 0 || strcmp(u->filename.data, ".") == 0)
        status = 400;
    else if (strchr(u->filename.data, '/'))
        status = 500;
    if (status == 200) {
        write = choose_name(s, (enum files_dir)d, u, name, &path);
        if (u->mask && write) {
            int bad = compose_mask(s, u, &have);

            if (bad)
                status = bad;
        }
        if (status == 200 && write && have &&
            files_write(buf_str(&path), buf_str(&u->image), u->image.len, NULL) < 0)
            status = 500;
    }
    buf_free(&path);
    return status;
}

static void upload_end(struct http_req *r, struct upload *u)
{
    struct buf name = BUF_INIT, b = BUF_INIT;
    int status = store_upload(u->s, u, &name);

    if (status == 200) {
        buf_puts(&b, "{\"name\": ");
        json_put_str(&b, buf_str(&name));
        buf_puts(&b, ", \"subfolder\": ");
        json_put_str(&b, buf_str(&u->subfolder));
        buf_puts(&b, ", \"type\": ");
        json_put_str(&b, u->has_type ? buf_str(&u->type) : "input");
        buf_putc(&b, '}');
        reply_json(r, 200, &b);
    } else if (status == 500) {
        reply_500(r);
    } else {
        reply_empty(r, status);
    }
    buf_free(&name);
}

static void upload_gone(struct http_req *r, void *arg)
{
    (void)r;
    upload_free(arg);
}

static void upload_data(struct http_req *r, const void *data, size_t n, bool fin, void *arg)
{
    struct upload *u = arg;
    struct err e = {0};

    u->got += n;
    if (u->got > MAX_UPLOAD) {
        http_on_abort(r, NULL, NULL);
        reply_413(r);
        upload_free(u);
        return;
    }
    if (multipart_push(u->parser, data, n, &e) < 0 || (fin && multipart_finish(u->parser, &e) < 0)) {
        log_warn(LOG_S("sim", u->s->name), LOG_S("reason", e.msg));
        http_on_abort(r, NULL, NULL);
        reply_500(r);
        upload_free(u);
    } else if (fin) {
        http_on_abort(r, NULL, NULL);
        upload_end(r, u);
        upload_free(u);
    }
}

static void upload(struct sim_server *s, struct http_req *r, bool mask)
{
    static const struct multipart_handlers handlers = {on_part, on_data, on_part_end};
    const char *type = http_req_header(r, "Content-Type");
    struct upload *u = xcalloc(1, sizeof(*u));
    struct err e = {0};

    u->s = s;
    u->mask = mask;
    u->parser = type ? multipart_new(type, &handlers, u, &e) : NULL;
    if (!u->parser) {
        upload_free(u);
        if (type && (strncmp(type, "multipart/form-data", 19) == 0 || strstr(type, "urlencoded")))
            reply_500(r); /* a broken form, or one without files */
        else
            reply_empty(r, 400); /* no form: no field named image */
        return;
    }
    http_on_abort(r, upload_gone, u);
    http_body_limit(r, INT64_MAX); /* kept in upload_data() */
    http_body_read(r, upload_data, u);
}

void post_upload_image(struct sim_server *s, struct http_req *r, const char *rest)
{
    (void)rest;
    upload(s, r, false);
}

void post_upload_mask(struct sim_server *s, struct http_req *r, const char *rest)
{
    (void)rest;
    upload(s, r, true);
}

/* --- listings --- */

void get_internal_files(struct sim_server *s, struct http_req *r, const char *rest)
{
    int d = files_dir_parse(rest);
    struct files_list l;
    struct buf b = BUF_INIT;

    if (d < 0) {
        http_reply_str(r, 400, "application/json; charset=utf-8", "{\"error\": \"Invalid directory type\"}");
        return;
    }
    files_list(&s->files, (enum files_dir)d, &l);
    buf_putc(&b, '[');
    for (size_t k = 0; k < l.n; k++) { /* newest first */
        size_t best = l.n;

        for (size_t i = 0; i < l.n; i++)
            if (l.mtime[i] != INT64_MIN && (best == l.n || l.mtime[i] > l.mtime[best]))
                best = i;
        if (k > 0)
            buf_puts(&b, ", ");
        json_put_str(&b, l.name[best]);
        l.mtime[best] = INT64_MIN;
    }
    buf_putc(&b, ']');
    files_list_free(&l);
    reply_json(r, 200, &b);
}
