/* The whole answer in memory. */
#include <stdlib.h>
#include <string.h>

#include "http/client_priv.h"

struct fetch {
    http_answer_cb *cb;
    void *arg;
    size_t max;
    struct buf body;
};

static void on_fetch_head(struct http_call *call, int status, const struct http_headers *h, void *arg)
{
    struct fetch *f = arg;

    (void)h;
    if (call->reply->length > 0 && (uint64_t)call->reply->length > f->max)
        call_end(call, HTTP_CALL_BAD, "an answer of %lld bytes (status %d) is over the limit of %zu",
                 (long long)call->reply->length, status, f->max);
}

static void on_fetch_data(struct http_call *call, const void *data, size_t n, void *arg)
{
    struct fetch *f = arg;

    if (n > f->max - f->body.len)
        call_end(call, HTTP_CALL_BAD, "the answer is over the limit of %zu bytes", f->max);
    else
        buf_put(&f->body, data, n);
}

static void on_fetch_done(struct http_call *call, enum http_call_end end, const char *why, void *arg)
{
    struct fetch *f = arg;
    struct http_answer a = {.end = end, .why = why, .status = call->reply ? call->reply->status : 0};

    if (end == HTTP_CALL_OK) {
        a.headers = &call->reply->headers;
        a.body = buf_to_bytes(&f->body);
    }
    f->cb(&a, f->arg);
    bytes_unref(a.body);
}

static void on_fetch_free(void *arg)
{
    struct fetch *f = arg;

    buf_free(&f->body);
    free(f);
}

struct http_call *http_fetch(struct http_client *c, const char *method, const char *target, const char *type,
                             struct bytes *body, size_t max, int64_t total_ms, http_answer_cb *cb, void *arg)
{
    static const struct http_call_handlers h = {
        .on_head = on_fetch_head, .on_data = on_fetch_data, .on_done = on_fetch_done};
    struct fetch *f = xcalloc(1, sizeof(*f));
    struct http_call *call;

    f->cb = cb;
    f->arg = arg;
    f->max = max;
    call = http_call_new(c, method, target, &h, f);
    call->on_free = on_fetch_free;
    http_call_timeout(call, call->silence_ms, total_ms);
    http_call_start(call, type, body);
    return call;
}
