/* Files: from a server's /view into the blobs, and bytes that came by the socket likewise. Memory is bounded:
 * what is not written yet holds the reading up. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comfy/names.h"
#include "fleet/fleet_priv.h"

#define QUEUED_MOST ((size_t)1 << 20)
#define FETCH_MOST_MS 3600000 /* against one byte a minute */
#define QUEUED_LOW ((size_t)256 << 10)

struct fetch {
    struct call call;
    fleet_fetched_cb *cb;
    void *arg;
    struct buf target;
    char *filename, *type; /* as asked for */
    char *mime;
    int status;
    struct bytes *data; /* keep */
    struct http_call *http;
    struct blob_writer *writer;
    bool sized; /* the answer says where it ends */
    bool paused;
    char why[200]; /* what is wrong with the answer, "" nothing */
};

static void fetch_free(struct call *c)
{
    struct fetch *x = container_of(c, struct fetch, call);

    buf_free(&x->target);
    bytes_unref(x->data);
    free(x->filename);
    free(x->type);
    free(x->mime);
    free(x);
}

static void fetch_end(struct fetch *x, struct fleet_fetched *r)
{
    if (x->writer)
        blob_writer_abort(&x->writer);
    if (!call_answer(&x->call))
        return;
    r->status = x->status;
    x->cb(r, x->arg);
}

static void fetch_fail(struct fetch *x, enum fleet_fetch_end end, const char *why)
{
    fetch_end(x, &(struct fleet_fetched){.end = end, .why = why});
}

static void fetch_give_up(struct call *c, const char *why)
{
    fetch_fail(container_of(c, struct fetch, call), FLEET_UNREADABLE, why);
}

static void on_blob(enum blob_status st, const struct blob_info *info, const char *why, void *arg)
{
    static const enum fleet_fetch_end ends[] = {[BLOB_OK] = FLEET_FETCHED,
                                                [BLOB_FULL] = FLEET_DISK_FULL,
                                                [BLOB_FAILED] = FLEET_DISK_FAILED,
                                                [BLOB_TOO_BIG] = FLEET_UNREADABLE};
    struct fetch *x = arg;
    struct fleet_fetched r = {.end = ends[st], .mime = x->mime, .why = why};

    if (!call_idle(&x->call)) {
        if (st == BLOB_OK)
            blobs_unpin(x->call.r->blobs, info->pin);
        return;
    }
    if (st == BLOB_OK) {
        memcpy(r.blake3, info->blake3, BLAKE3_LEN);
        r.size = info->size;
        r.pin = info->pin;
    }
    fetch_end(x, &r);
}

static void on_view_head(struct http_call *c, int status, const struct http_headers *h, void *arg)
{
    struct fetch *x = arg;
    const char *type = http_headers_get(h, "Content-Type"), *length = http_headers_get(h, "Content-Length");
    int64_t max = x->call.r->cfg.output_max;

    (void)c;
    x->status = status;
    if (status != 200) {
        snprintf(x->why, sizeof(x->why), "HTTP status %d", status);
        return;
    }
    if (max > 0 && length && strtoll(length, NULL, 10) > max) {
        snprintf(x->why, sizeof(x->why), "%s bytes are over the limit of %lld", length, (long long)max);
        return;
    }
    x->sized = length || http_headers_has_token(h, "Transfer-Encoding", "chunked");
    free(x->mime);
    /* A server that does not know better says octet-stream. */
    x->mime = xstrdup(type && *type && strcmp(type, "application/octet-stream") != 0
                          ? type
                          : name_mime(x->filename, strlen(x->filename)));
    x->writer = blob_writer_new(x->call.r->blobs, max);
}

static void on_writer_drain(void *arg)
{
    struct fetch *x = arg;

    if (x->paused) {
        x->paused = false;
        if (x->http)
            http_call_resume(x->http);
    }
}

static void on_view_data(struct http_call *c, const void *data, size_t n, void *arg)
{
    struct fetch *x = arg;

    if (x->writer == NULL)
        return; /* the body of an error */
    blob_writer_put(x->writer, data, n);
    if (!x->paused && blob_writer_queued(x->writer) > QUEUED_MOST) {
        x->paused = true;
        http_call_pause(c);
        blob_writer_on_drain(x->writer, QUEUED_LOW, on_writer_drain, x);
    }
}

static void on_view_done(struct http_call *c, enum http_call_end end, const char *why, void *arg)
{
    struct fetch *x = arg;

    (void)c;
    x->http = NULL;
    server_note(x->call.s, end, x->status, why);
    if (!call_idle(&x->call))
        return;
    if (end != HTTP_CALL_OK && x->why[0] == '\0') {
        fetch_fail(x, FLEET_UNREADABLE, why);
    } else if (x->why[0]) {
        if (x->status == 404 && strcmp(x->type, "input") == 0 && x->call.s)
            staging_forget(x->call.s, x->filename);
        fetch_fail(x, x->status == 404 ? FLEET_NOT_THERE : FLEET_UNREADABLE, x->why);
    } else if (!x->sized) {
        fetch_fail(x, FLEET_UNREADABLE, "the answer does not say how long it is: it may have been cut");
    } else {
        x->call.busy = true;
        blob_writer_finish(&x->writer, on_blob, x);
    }
}

static void on_fetch(void *arg)
{
    static const struct http_call_handlers h = {
        .on_head = on_view_head, .on_data = on_view_data, .on_done = on_view_done};
    struct fetch *x = container_of(arg, struct fetch, call);

    if (call_unserved(&x->call)) {
        fetch_fail(x, FLEET_UNREADABLE, NOT_CONFIGURED);
        return;
    }
    x->call.busy = true;
    x->http = http_call_new(x->call.s->http, "GET", buf_str(&x->target), &h, x);
    http_call_timeout(x->http, x->call.r->cfg.output_ms, FETCH_MOST_MS);
    http_call_start(x->http, NULL, NULL);
}

static void put_parameter(struct buf *b, const char *key, const char *value)
{
    buf_printf(b, "%s=", key);
    http_escape(value, strlen(value), false, b);
}

void calls_fetch(struct fleet *f, const struct fleet_file *file, fleet_fetched_cb *cb, void *arg)
{
    struct fetch *x = xcalloc(1, sizeof(*x));

    x->cb = cb;
    x->arg = arg;
    x->filename = xstrdup(file->filename);
    x->type = xstrdup(file->type ? file->type : "output");
    put_parameter(&x->target, "/view?filename", x->filename);
    put_parameter(&x->target, "&subfolder", file->subfolder ? file->subfolder : "");
    put_parameter(&x->target, "&type", x->type);
    call_init(&x->call, container_of(f, struct registry, fleet), file->server, on_fetch, fetch_give_up,
              fetch_free);
}

/* --- keep --- */

static void on_keep(void *arg)
{
    struct fetch *x = container_of(arg, struct fetch, call);

    x->call.busy = true;
    blob_put(x->call.r->blobs, x->data, on_blob, x);
}

void calls_keep(struct fleet *f, struct bytes *data, const char *mime, fleet_fetched_cb *cb, void *arg)
{
    struct fetch *x = xcalloc(1, sizeof(*x));

    x->cb = cb;
    x->arg = arg;
    x->data = bytes_ref(data);
    x->mime = xstrdup(mime ? mime : "application/octet-stream");
    call_init(&x->call, container_of(f, struct registry, fleet), NULL, on_keep, fetch_give_up, fetch_free);
}
