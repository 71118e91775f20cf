#include "vhttp.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/tls.h"
#include "vfs.h"
#include "vloop.h"

#define PING_MS 15000

struct http_client {
    struct http_url url;
    struct loop *loop;
    int server;
    struct list calls;
};

struct http_call {
    struct list link;
    struct http_client *client;
    const char *method;
    char *target;
    struct http_call_handlers h;
    void *arg;
    int64_t total_ms;
    struct buf body;
    struct vrequest *q; /* NULL until it is sent */
    /* http_fetch() */
    http_answer_cb *cb;
    void *cb_arg;
};

static struct {
    struct list requests, messages;
    struct vhttp_faults faults;
} net;

void vhttp_set_faults(const struct vhttp_faults *f)
{
    net.faults = *f;
}

/* --- requests --- */

static void request_free(struct vrequest *q)
{
    if (q->call)
        q->call->q = NULL;
    vt_clear(&q->ev);
    list_remove(&q->link);
    free(q->target);
    bytes_unref(q->body);
    buf_free(&q->answer);
    free(q);
}

static void call_free(struct http_call *c)
{
    list_remove(&c->link);
    free(c->target);
    buf_free(&c->body);
    free(c);
}

static void call_end(struct http_call *c, enum http_call_end end, const char *why)
{
    struct vrequest *q = c->q;
    struct http_headers none = {0};
    char length[24];

    c->q = NULL;
    if (q)
        q->call = NULL;
    if (c->cb) {
        struct http_answer a = {.end = end, .status = q ? q->status : 0, .headers = &none, .why = why};

        a.body = end == HTTP_CALL_OK ? bytes_new(buf_str(&q->answer), q->answer.len) : NULL;
        c->cb(&a, c->cb_arg);
        bytes_unref(a.body);
    } else {
        if (end == HTTP_CALL_OK || (q && q->status && end == HTTP_CALL_LOST)) {
            size_t n = end == HTTP_CALL_OK ? q->answer.len : q->answer.len / 2;

            http_headers_init(&none);
            snprintf(length, sizeof(length), "%zu", q->answer.len);
            (void)http_headers_add(&none, "Content-Length", length);
            (void)http_headers_add(&none, "Content-Type", "image/png");
            if (c->h.on_head)
                c->h.on_head(c, q->status, &none, c->arg);
            if (c->h.on_data && n)
                c->h.on_data(c, q->answer.data, n, c->arg);
            http_headers_fini(&none);
        }
        c->h.on_done(c, end, why, c->arg);
    }
    call_free(c);
}

static void on_answer(void *arg)
{
    struct vrequest *q = arg;

    if (q->end == HTTP_CALL_OK && q->life != comfy_life(q->server)) {
        q->end = HTTP_CALL_LOST;
        q->why = "connection reset by peer";
        q->status = 0;
    }
    if (q->call)
        call_end(q->call, q->end, q->why);
    request_free(q);
}

static void answer_in(struct vrequest *q, int64_t ms, enum http_call_end end, const char *why)
{
    q->end = end;
    q->why = why;
    vt_set(&q->ev, ms, on_answer, q);
}

static int64_t patience(const struct vrequest *q)
{
    return q->call ? q->call->total_ms : 0;
}

static void on_arrival(void *arg)
{
    struct vrequest *q = arg;
    const struct vhttp_faults *f = &net.faults;

    q->arrived = true;
    if (!comfy_is_up(q->server) || vt_chance(f->refused)) {
        answer_in(q, 1, HTTP_CALL_NOT_SENT, "connection refused");
        return;
    }
    q->life = comfy_life(q->server);
    if (vt_chance(f->lost_before)) {
        answer_in(q, 1 + vt_rnd(50), HTTP_CALL_LOST, "connection reset by peer");
        return;
    }
    if (!comfy_answer(q)) {
        answer_in(q, patience(q), HTTP_CALL_TIMEOUT, "no answer in time");
    } else if (vt_chance(f->lost_after)) {
        if (q->body)
            q->status = 0; /* else the body is cut */
        answer_in(q, 1 + vt_rnd(3000), HTTP_CALL_LOST, "connection reset by peer");
    } else if (vt_chance(f->timeout)) {
        answer_in(q, patience(q), HTTP_CALL_TIMEOUT, "no answer in time");
    } else {
        answer_in(q, 1 + vt_rnd(vt_chance(f->slow) ? 3000 : 12), HTTP_CALL_OK, "");
    }
}

/* Something in between has it and passes it on when the sender has given up. Two seconds later at most: the runner relies
 * on it (job_fsm.c). */
static void send_overtaken(struct http_call *c, struct vrequest *q)
{
    struct vrequest *told = xcalloc(1, sizeof(*told));

    *told = (struct vrequest){.method = q->method, .server = q->server, .call = c};
    list_init(&told->link);
    list_push_back(&net.requests, &told->link);
    c->q = told;
    q->call = NULL;
    answer_in(told, 1 + vt_rnd(200), HTTP_CALL_LOST, "connection reset by peer");
    vt_set(&q->ev, 200 + vt_rnd(1500), on_arrival, q);
}

static void call_send(struct http_call *c)
{
    struct vrequest *q = xcalloc(1, sizeof(*q));

    q->call = c;
    q->method = c->method;
    q->target = xstrdup(c->target);
    q->body = c->body.len ? buf_to_bytes(&c->body) : NULL;
    q->server = c->client->server;
    list_push_back(&net.requests, &q->link);
    c->q = q;
    if (strcmp(c->target, "/prompt") == 0 && strcmp(c->method, "POST") == 0 &&
        vt_chance(net.faults.overtaken))
        send_overtaken(c, q);
    else
        vt_set(&q->ev, 1 + vt_rnd(vt_chance(net.faults.slow) ? 1800 : 8), on_arrival, q);
}

void vhttp_process_died(void)
{
    list_for_each_safe(it, &net.requests) {
        struct vrequest *q = list_entry(it, struct vrequest, link);

        assert(q->call == NULL);
        if (!q->arrived && vt_rnd(2))
            request_free(q);
    }
}

/* --- http/client.h --- */

struct tls_client *tls_client_new(const char *ca_file, bool verify, struct err *e)
{
    (void)ca_file, (void)verify;
    err_set(e, 0, "no TLS here");
    return NULL;
}

void tls_client_free(struct tls_client **t)
{
    *t = NULL;
}

struct http_client *http_client_new(struct loop *l, const char *url, const struct http_client_config *cfg,
                                    struct err *e)
{
    struct http_client *c = xcalloc(1, sizeof(*c));

    (void)cfg;
    if (http_url_parse(url, &c->url, e) < 0) {
        free(c);
        return NULL;
    }
    c->loop = l;
    c->server = c->url.host[1] - '0'; /* s0, s1, ... */
    list_init(&c->calls);
    return c;
}

void http_client_free(struct http_client **cp)
{
    struct http_client *c = *cp;

    *cp = NULL;
    if (c == NULL)
        return;
    while (!list_empty(&c->calls))
        call_end(list_first(&c->calls, struct http_call, link), HTTP_CALL_CANCELED, "the client was closed");
    http_url_fini(&c->url);
    free(c);
}

void http_client_set_connect(struct http_client *c, int64_t connect_ms) /* it connects at once, or not */
{
    (void)c, (void)connect_ms;
}

const struct http_url *http_client_url(const struct http_client *c)
{
    return &c->url;
}

struct http_call *http_call_new(struct http_client *client, const char *method, const char *target,
                                const struct http_call_handlers *h, void *arg)
{
    struct http_call *c = xcalloc(1, sizeof(*c));

    c->client = client;
    c->method = method;
    c->target = xstrdup(target);
    if (h)
        c->h = *h;
    c->arg = arg;
    c->total_ms = 30000;
    list_push_back(&client->calls, &c->link);
    return c;
}

void http_call_timeout(struct http_call *c, int64_t silence_ms, int64_t total_ms)
{
    c->total_ms = silence_ms && silence_ms < total_ms ? silence_ms : total_ms;
}

void http_call_start(struct http_call *c, const char *type, struct bytes *body)
{
    (void)type;
    if (body)
        buf_put(&c->body, body->data, body->len);
    call_send(c);
}

void http_call_start_stream(struct http_call *c, const char *type, int64_t length)
{
    (void)c, (void)type, (void)length;
}

void http_call_write(struct http_call *c, const void *data, size_t n)
{
    buf_put(&c->body, data, n);
}

int http_call_write_file(struct http_call *c, int fd, off_t off, size_t len, struct err *e)
{
    struct buf whole = BUF_INIT;
    bool ok = vfs_slurp(fd, &whole) && whole.len == len && off == 0;

    if (ok)
        buf_put(&c->body, buf_str(&whole), whole.len);
    else
        err_set(e, 0, "the file is cut short");
    buf_free(&whole);
    vfs_close(fd);
    return ok ? 0 : -1;
}

void http_call_finish(struct http_call *c)
{
    call_send(c);
}

void http_call_pause(struct http_call *c) /* bodies are small: never asked for */
{
    (void)c;
}

void http_call_resume(struct http_call *c)
{
    (void)c;
}

void http_call_cancel(struct http_call **cp)
{
    struct http_call *c = *cp;

    *cp = NULL;
    if (c->q)
        c->q->call = NULL;
    call_free(c);
}

struct http_call *http_fetch(struct http_client *client, const char *method, const char *target,
                             const char *type, struct bytes *body, size_t max, int64_t total_ms,
                             http_answer_cb *cb, void *arg)
{
    struct http_call *c = http_call_new(client, method, target, NULL, NULL);

    (void)max;
    c->cb = cb;
    c->cb_arg = arg;
    c->total_ms = total_ms;
    http_call_start(c, type, body);
    return c;
}

/* --- sockets --- */

struct ws {
    unsigned refs;
    bool closed; /* gone for its owner */
    bool open;
    const struct ws_handlers *h;
    void *arg;
    int server; /* client role */
    char client_id[64];
    struct vclient *peer; /* server role */
    struct vt_event ev;
    int64_t last_at; /* the latest message that is in order */
    int64_t heard_at;
};

struct vmessage {
    struct list link; /* net.messages */
    struct vt_event ev;
    struct ws *w;
    char *text;
};

static void ws_unref(struct ws *w)
{
    if (--w->refs == 0) {
        vt_clear(&w->ev);
        free(w);
    }
}

/* Gone for its owner. */
static void ws_over(struct ws *w)
{
    if (w->closed)
        return;
    w->closed = true;
    vt_clear(&w->ev);
    if (w->peer)
        client_cut_off(w->peer);
    else
        comfy_socket_closed(w->server, w);
    ws_unref(w);
}

static void ws_tell_close(struct ws *w, int code, const char *why)
{
    const struct ws_handlers *h = w->h;
    void *arg = w->arg;
    bool open = w->open;

    if (w->closed)
        return;
    w->refs++;
    ws_over(w);
    h->on_close(w, code, why, open, arg);
    ws_unref(w);
}

static void on_connected(void *arg)
{
    struct ws *w = arg;

    if (!comfy_is_up(w->server)) {
        ws_tell_close(w, 0, "connection refused");
        return;
    }
    w->open = true;
    w->heard_at = vt_now();
    w->h->on_open(w, w->arg);
    if (!w->closed)
        comfy_socket_opened(w->server, w, w->client_id);
}

struct ws *ws_connect(struct http_client *c, const char *target, const struct http_headers *extra,
                      const struct ws_limits *lim, const struct ws_handlers *h, void *arg)
{
    struct ws *w = xcalloc(1, sizeof(*w));
    const char *id = strchr(target, '=');

    (void)extra, (void)lim;
    w->refs = 1;
    w->h = h;
    w->arg = arg;
    w->server = c->server;
    snprintf(w->client_id, sizeof(w->client_id), "%s", id ? id + 1 : "");
    vt_set(&w->ev, 1 + vt_rnd(20), on_connected, w);
    return w;
}

/* A server that is there answers the pings that go over a silent socket. */
int64_t ws_last_heard(const struct ws *w)
{
    int64_t quiet = vt_now() - w->heard_at;

    return comfy_is_up(w->server) ? vt_now() - quiet % PING_MS : w->heard_at;
}

static void message_free(struct vmessage *m)
{
    vt_clear(&m->ev);
    list_remove(&m->link);
    ws_unref(m->w);
    free(m->text);
    free(m);
}

static void on_said(void *arg)
{
    struct vmessage *m = arg;

    m->w->heard_at = vt_now();
    if (!m->w->closed && m->w->h->on_message)
        m->w->h->on_message(m->w, WS_TEXT, m->text, strlen(m->text), m->w->arg);
    message_free(m);
}

static void say_at(struct ws *w, const char *text, int64_t ms)
{
    struct vmessage *m = xcalloc(1, sizeof(*m));

    m->w = w;
    m->text = xstrdup(text);
    w->refs++;
    list_push_back(&net.messages, &m->link);
    vt_set(&m->ev, ms, on_said, m);
}

void vws_say(struct ws *w, const char *text, int64_t ms)
{
    int64_t at = vt_now() + vt_rnd(3);

    if (w->closed)
        return;
    if (ms == 0) {
        if (at < w->last_at)
            at = w->last_at;
        w->last_at = at;
    }
    say_at(w, text, at - vt_now() + ms);
}

static void on_broken(void *arg)
{
    ws_tell_close(arg, 1006, "connection reset by peer");
}

void vws_break(struct ws *w, const char *why)
{
    (void)why;
    if (!w->closed)
        vt_set(&w->ev, vt_rnd(5), on_broken, w);
}

void ws_send_text(struct ws *w, const char *s, size_t n)
{
    (void)w, (void)s, (void)n; /* feature flags: the servers here have none */
}

static void on_shut(void *arg)
{
    ws_tell_close(arg, 1000, "closed");
}

void ws_close(struct ws *w, int code, const char *reason)
{
    (void)code, (void)reason;
    if (!w->closed)
        vt_set(&w->ev, vt_rnd(5), on_shut, w);
}

void ws_abort(struct ws **wp)
{
    struct ws *w = *wp;

    *wp = NULL;
    if (w)
        ws_over(w);
}

/* --- sockets of clients --- */

struct ws *ws_accept(struct http_req *r, const struct ws_limits *lim, const struct ws_handlers *h, void *arg)
{
    struct ws *w = xcalloc(1, sizeof(*w));

    (void)lim;
    w->refs = 1;
    w->open = true;
    w->h = h;
    w->arg = arg;
    w->peer = (struct vclient *)(void *)r;
    vclient_set_socket(w->peer, w);
    return w;
}

struct bytes *ws_frame_new(enum ws_type type, const void *p, size_t n)
{
    struct bytes *b = bytes_alloc(n + 1);

    b->data[0] = (char)type;
    memcpy(b->data + 1, p, n);
    return b;
}

void ws_send_frame(struct ws *w, struct bytes *frame)
{
    if (!w->closed && !vt_is_set(&w->ev))
        client_hears(w->peer, (enum ws_type)frame->data[0], frame->data + 1, frame->len - 1);
}

size_t ws_queued(const struct ws *w)
{
    (void)w;
    return 0;
}

const char *ws_peer(const struct ws *w)
{
    (void)w;
    return "client";
}

const char *ws_peer_ip(const struct ws *w)
{
    (void)w;
    return "127.0.0.1";
}

void vws_client_says(struct ws *w, const char *text)
{
    say_at(w, text, 1 + vt_rnd(5));
}

void vws_client_gone(struct ws *w)
{
    vws_break(w, "gone");
}

/* Never asked for: the simulation opens no more sockets than are allowed. */
void http_set(struct http_req *r, const char *name, const char *value)
{
    (void)r, (void)name, (void)value;
    abort();
}

void http_reply_str(struct http_req *r, int status, const char *type, const char *body)
{
    (void)r, (void)status, (void)type, (void)body;
    abort();
}

/* --- life --- */

void vhttp_init(void)
{
    memset(&net, 0, sizeof(net));
    list_init(&net.requests);
    list_init(&net.messages);
}

void vhttp_fini(void)
{
    list_for_each_safe(it, &net.requests)
        request_free(list_entry(it, struct vrequest, link));
    list_for_each_safe(it, &net.messages)
        message_free(list_entry(it, struct vmessage, link));
}
