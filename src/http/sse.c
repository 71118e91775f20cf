#include "http/sse.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

enum { COMMENT_MS = 15000 }; /* SDKs give up after 45 s of silence */

struct sse {
    struct http_req *req; /* NULL once it is gone */
    struct loop *loop;
    size_t max_queued;
    void (*on_gone)(struct sse *s, void *arg);
    void *arg;
    int64_t last_sent;
    struct timer timer;
    struct task drop; /* too much is queued: told at the end of the turn */
};

/* Unlinked by the time on_gone runs. */
static void sse_gone(struct sse *s)
{
    s->req = NULL;
    timer_fini(&s->timer);
    task_cancel(&s->drop);
    if (s->on_gone)
        s->on_gone(s, s->arg);
    free(s);
}

static void on_abort(struct http_req *req, void *arg)
{
    (void)req;
    sse_gone(arg);
}

static void on_drop(void *arg)
{
    struct sse *s = arg;

    http_abort(s->req);
    sse_gone(s);
}

static void sse_write(struct sse *s, const char *p, size_t n)
{
    s->last_sent = loop_now(s->loop);
    http_send(s->req, p, n);
    if (http_queued(s->req) > s->max_queued)
        loop_defer(s->loop, &s->drop);
}

static void on_timer(void *arg)
{
    struct sse *s = arg;
    int64_t silent = loop_now(s->loop) - s->last_sent;

    if (silent >= COMMENT_MS) {
        sse_write(s, ":\n\n", 3);
        silent = 0;
    }
    timer_set(&s->timer, COMMENT_MS - silent);
}

struct sse *sse_new(struct http_req *req, size_t max_queued, void (*on_gone)(struct sse *s, void *arg),
                    void *arg)
{
    struct sse *s = xcalloc(1, sizeof(*s));

    s->req = req;
    s->loop = http_req_loop(req);
    s->max_queued = max_queued;
    s->on_gone = on_gone;
    s->arg = arg;
    s->last_sent = loop_now(s->loop);
    timer_init(&s->timer, s->loop, on_timer, s);
    timer_set(&s->timer, COMMENT_MS);
    task_init(&s->drop, on_drop, s);
    http_on_abort(req, on_abort, s);
    http_set(req, "Cache-Control", "no-cache");
    http_set(req, "X-Accel-Buffering", "no"); /* proxies in between are not to collect events */
    http_start(req, 200, "text/event-stream", -1);
    return s;
}

void sse_send(struct sse *s, const char *id, const char *event, const char *data, size_t n)
{
    struct buf b = BUF_INIT;
    size_t at;

    assert((id == NULL || !strpbrk(id, "\r\n")) && (event == NULL || !strpbrk(event, "\r\n")));
    buf_reserve(&b, n + 64);
    if (id) {
        buf_puts(&b, "id: ");
        buf_puts(&b, id);
        buf_putc(&b, '\n');
    }
    if (event) {
        buf_puts(&b, "event: ");
        buf_puts(&b, event);
        buf_putc(&b, '\n');
    }
    buf_puts(&b, "data: ");
    at = b.len;
    buf_put(&b, data, n);
    /* A line break in JSON is white space; in an event it would end the line. */
    for (; at < b.len; at++)
        if (b.data[at] == '\n' || b.data[at] == '\r')
            b.data[at] = ' ';
    buf_puts(&b, "\n\n");
    sse_write(s, b.data, b.len);
    buf_free(&b);
}

void sse_end(struct sse **sp)
{
    struct sse *s = *sp;

    if (s == NULL)
        return;
    *sp = NULL;
    timer_fini(&s->timer);
    task_cancel(&s->drop);
    http_end(s->req);
    free(s);
}
