/* Inputs on their way to servers: each lies there at the top level of the input folder under a name that
 * holds its hash, and is uploaded once per life of the server. Jobs that need the same file at the same time
 * wait for one upload. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "comfy/names.h"
#include "fleet/fleet_priv.h"

#define STAGED_MOST                                                                                          \
    4096 /* names remembered of one server; beyond it all are forgotten, which costs uploads */
#define UPLOAD_SILENCE_MS 60000
#define UPLOAD_LEAST_MS 120000
#define UPLOAD_BYTES_PER_MS 64 /* a link slower than this is of no use */

struct waiter {
    struct list link;
    staging_cb *cb;
    void *arg;
};

struct staged {
    char *name;
    uint8_t blake3[BLAKE3_LEN];
    bool uploading;
    bool unwanted; /* forgotten while it was uploaded: not to be trusted afterwards */
    struct list waiters;
    UT_hash_handle hh;
};

struct upload {
    struct server *s;
    char *name;
    uint8_t blake3[BLAKE3_LEN];
    struct task task; /* answers without a call, when the file cannot be opened */
    enum staging end;
    char why[ERR_MSG_MAX];
    struct buf answer;
    int status;
};

void staging_name(struct buf *out, const struct job_input *in)
{
    size_t n = strlen(in->name);
    char hex[BLAKE3_HEX];
    char digits[NAME_HASH_HEX + 1];
    struct name_ref ref;

    blake3_hex(in->blake3, hex);
    if (!name_ref_parse(in->name, n, &ref))
        name_put_staged(out, in->name, n, hex);
    else if (name_staged_parse(ref.file, ref.file_n, digits) && memcmp(digits, hex, NAME_HASH_HEX) == 0)
        buf_put(out, ref.file, ref.file_n); /* it came back as it was sent: it has this name already */
    else
        name_put_staged(out, ref.file, ref.file_n, hex);
}

static struct staged *staged_find(struct server *s, const char *name)
{
    struct staged *g;

    HASH_FIND_STR(s->staged, name, g);
    return g;
}

static void staged_free(struct server *s, struct staged *g)
{
    HASH_DEL(s->staged, g);
    s->n_staged--;
    free(g->name);
    free(g);
}

void staging_forget(struct server *s, const char *name)
{
    struct staged *g, *next;

    HASH_ITER(hh, s->staged, g, next) {
        if (name && strcmp(g->name, name) != 0)
            continue;
        if (g->uploading)
            g->unwanted = true;
        else
            staged_free(s, g);
    }
}

/* Tell all that waited. They may ask for more while they are told. */
static void upload_end(struct upload *u)
{
    struct server *s = u->s;
    struct staged *g = staged_find(s, u->name);
    struct list told;

    log_info(LOG_S("server", s->name), LOG_S("event", u->end == STAGING_THERE ? "staged" : "stage_failed"),
             LOG_S("file", u->name), LOG_S("reason", u->end == STAGING_THERE ? NULL : u->why));
    list_init(&told);
    if (g) {
        list_for_each_safe(it, &g->waiters) {
            list_remove(it);
            list_push_back(&told, it);
        }
        g->uploading = false;
        if (u->end != STAGING_THERE || g->unwanted || s->gone)
            staged_free(s, g);
    }
    while (!list_empty(&told)) {
        struct waiter *w = list_first(&told, struct waiter, link);

        list_remove(&w->link);
        w->cb(u->end, u->why, w->arg);
        free(w);
    }
    server_unref(s);
    buf_free(&u->answer);
    free(u->name);
    free(u);
}

static void on_upload_task(void *arg)
{
    upload_end(arg);
}

static void on_upload_head(struct http_call *c, int status, const struct http_headers *h, void *arg)
{
    (void)c;
    (void)h;
    ((struct upload *)arg)->status = status;
}

static void on_upload_data(struct http_call *c, const void *data, size_t n, void *arg)
{
    struct upload *u = arg;

    (void)c;
    if (u->answer.len + n <= JSON_ON_LOOP)
        buf_put(&u->answer, data, n);
}

/* The name in the answer is the only one that counts. */
static bool upload_echoed(const struct upload *u)
{
    struct json v;

    return json_check(buf_str(&u->answer), u->answer.len, NULL, &v, NULL) == 0 &&
           json_str_eq(json_get(v, "name"), u->name) &&
           (json_is_null(json_get(v, "subfolder")) || json_str_eq(json_get(v, "subfolder"), ""));
}

static void on_upload_done(struct http_call *c, enum http_call_end end, const char *why, void *arg)
{
    struct upload *u = arg;

    (void)c;
    server_note(u->s, end, u->status, why);
    u->end = STAGING_FAILED;
    if (end != HTTP_CALL_OK)
        snprintf(u->why, sizeof(u->why), "upload of %s: %s", u->name, why);
    else if (u->status != 200)
        snprintf(u->why, sizeof(u->why), "upload of %s: HTTP status %d", u->name, u->status);
    else if (!upload_echoed(u))
        snprintf(u->why, sizeof(u->why), "upload of %s: the server stored it under another name", u->name);
    else
        u->end = STAGING_THERE;
    upload_end(u);
}

static int upload_start(struct upload *u, int fd, int64_t size, struct err *e)
{
    static const struct http_call_handlers h = {
        .on_head = on_upload_head, .on_data = on_upload_data, .on_done = on_upload_done};
    struct buf head = BUF_INIT, tail = BUF_INIT, type = BUF_INIT;
    char boundary[UUID_SIZE];
    struct http_call *c;

    uuid_v4(u->s->r->clock, boundary);
    buf_printf(&head, "--%s\r\nContent-Disposition: form-data; name=\"type\"\r\n\r\ninput\r\n", boundary);
    buf_printf(&head, "--%s\r\nContent-Disposition: form-data; name=\"overwrite\"\r\n\r\ntrue\r\n", boundary);
    buf_printf(&head,
               "--%s\r\nContent-Disposition: form-data; name=\"image\"; filename=\"%s\"\r\n"
               "Content-Type: %s\r\n\r\n",
               boundary, u->name, name_mime(u->name, strlen(u->name)));
    buf_printf(&tail, "\r\n--%s--\r\n", boundary);
    buf_printf(&type, "multipart/form-data; boundary=%s", boundary);
    c = http_call_new(u->s->http, "POST", "/upload/image", &h, u);
    http_call_timeout(c, UPLOAD_SILENCE_MS, UPLOAD_LEAST_MS + size / UPLOAD_BYTES_PER_MS);
    http_call_start_stream(c, buf_str(&type), (int64_t)head.len + size + (int64_t)tail.len);
    http_call_write(c, head.data, head.len);
    if (size > 0 && http_call_write_file(c, fd, 0, (size_t)size, e) < 0) {
        http_call_cancel(&c);
    } else {
        if (size == 0)
            close(fd);
        http_call_write(c, tail.data, tail.len);
        http_call_finish(c);
    }
    buf_free(&head);
    buf_free(&tail);
    buf_free(&type);
    return c ? 0 : err_wrap(e, "input %s", u->name);
}

/* fd: the input's bytes, as they were stored. */
static int upload_begin(struct upload *u, int fd, struct err *e)
{
    struct stat st;

    u->end = STAGING_FAILED;
    if (u->s->gone) {
        close(fd);
        return err_set(e, 0, NOT_CONFIGURED);
    }
    if (fstat(fd, &st) < 0) {
        close(fd);
        return err_errno(e, errno, "input %s", u->name);
    }
    return upload_start(u, fd, st.st_size, e);
}

static void on_checked(enum blob_found found, int fd, const char *why, void *arg)
{
    struct upload *u = arg;
    struct err e;

    if (found == BLOB_SOUND && upload_begin(u, fd, &e) == 0)
        return;
    if (found != BLOB_SOUND) {
        u->end = found == BLOB_UNREADABLE ? STAGING_FAILED : STAGING_NO_BLOB;
        err_set(&e, 0, "input %s: %s", u->name, why);
    }
    snprintf(u->why, sizeof(u->why), "%s", e.msg);
    upload_end(u);
}

static void stage(struct server *s, const struct job_input *in, const char *name)
{
    struct upload *u = xcalloc(1, sizeof(*u));
    int fd = blob_open_checked(s->r->blobs, in->blake3, -1);
    struct err e;

    u->s = server_ref(s);
    u->name = xstrdup(name);
    memcpy(u->blake3, in->blake3, BLAKE3_LEN);
    task_init(&u->task, on_upload_task, u);
    if (fd < 0) {
        blob_check(s->r->blobs, in->blake3, -1, on_checked, u);
    } else if (upload_begin(u, fd, &e) < 0) {
        snprintf(u->why, sizeof(u->why), "%s", e.msg);
        loop_defer(s->r->loop, &u->task);
    }
}

bool staging_need(struct server *s, const struct job_input *in, const char *name, staging_cb *cb, void *arg)
{
    struct staged *g = staged_find(s, name);
    struct waiter *w;

    if (g && !g->uploading && memcmp(g->blake3, in->blake3, BLAKE3_LEN) == 0)
        return true;
    w = xcalloc(1, sizeof(*w));
    w->cb = cb;
    w->arg = arg;
    if (g == NULL) {
        if (s->n_staged >= STAGED_MOST)
            staging_forget(s, NULL);
        g = xcalloc(1, sizeof(*g));
        g->name = xstrdup(name);
        list_init(&g->waiters);
        HASH_ADD_KEYPTR(hh, s->staged, g->name, strlen(g->name), g);
        s->n_staged++;
    }
    list_push_back(&g->waiters, &w->link);
    if (!g->uploading) {
        g->uploading = true;
        g->unwanted = false;
        memcpy(g->blake3, in->blake3, BLAKE3_LEN);
        stage(s, in, name);
    }
    return false;
}
