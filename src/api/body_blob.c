#include "api/body_blob.h"

#include <stdlib.h>

#define QUEUED_MAX (4u << 20)
#define QUEUED_LOW (1u << 20)

struct body {
    struct http_req *req;
    struct blob_writer *w; /* NULL: all is given to it */
    bool paused;
    body_blob_cb *cb;
    void *arg;
};

static void body_end(struct body *b, enum blob_status st, const struct blob_info *info, const char *why)
{
    if (b->req)
        http_on_abort(b->req, NULL, NULL);
    b->cb(b->req, st, info, why, b->arg);
    free(b);
}

static void on_stored(enum blob_status st, const struct blob_info *info, const char *why, void *arg)
{
    body_end(arg, st, info, why);
}

static void on_drained(void *arg)
{
    struct body *b = arg;

    if (b->req && b->paused) {
        b->paused = false;
        http_body_resume(b->req);
    }
}

static void on_body(struct http_req *req, const void *data, size_t n, bool fin, void *arg)
{
    struct body *b = arg;

    if (n)
        blob_writer_put(b->w, data, n);
    if (fin) {
        blob_writer_finish(&b->w, on_stored, b);
    } else if (!b->paused && blob_writer_queued(b->w) > QUEUED_MAX) {
        b->paused = true;
        http_body_pause(req);
    }
}

static void on_abort(struct http_req *req, void *arg)
{
    struct body *b = arg;

    (void)req;
    b->req = NULL;
    if (b->w) {
        blob_writer_abort(&b->w);
        body_end(b, BLOB_FAILED, NULL, "the client has left");
    }
}

void body_blob(struct api *a, struct http_req *req, int64_t max, body_blob_cb *cb, void *arg)
{
    struct body *b = xcalloc(1, sizeof(*b));

    *b = (struct body){.req = req, .cb = cb, .arg = arg};
    b->w = blob_writer_new(a->d.blobs, max);
    blob_writer_on_drain(b->w, QUEUED_LOW, on_drained, b);
    http_body_limit(req, max);
    http_on_abort(req, on_abort, b);
    http_body_read(req, on_body, b);
}
