#include "http/client.h"

#include <assert.h>
#include <event2/buffer.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "http/client_priv.h"

#define SPARE_MS 1000

static const char *const client_conn_state_names[] = {"connecting", "checking", "busy", "idle", "closed"};

/* The only writer of a connection's state: keeps the lists and counters. */
static void client_conn_set_state(struct client_conn *conn, enum client_conn_state to)
{
    static const unsigned allowed[] = {
        [CONN_CONNECTING] = 1u << CONN_BUSY | 1u << CONN_CLOSED,
        [CONN_CHECKING] = 1u << CONN_BUSY | 1u << CONN_IDLE | 1u << CONN_CLOSED,
        [CONN_BUSY] = 1u << CONN_IDLE | 1u << CONN_CLOSED,
        [CONN_IDLE] = 1u << CONN_CHECKING | 1u << CONN_BUSY | 1u << CONN_CLOSED,
        [CONN_CLOSED] = 0,
    };
    struct http_client *c = conn->client;

    assert(allowed[conn->state] & 1u << to);
    log_debug(LOG_S("http_client", c->url.authority), LOG_S("conn", client_conn_state_names[conn->state]),
              LOG_S("to", client_conn_state_names[to]));
    if (conn->state == CONN_IDLE)
        c->n_idle--;
    list_remove(&conn->link);
    conn->state = to;
    if (to == CONN_IDLE) {
        c->n_idle++;
        list_push_front(&c->idle, &conn->link);
    } else if (to == CONN_CLOSED) {
        c->n_conns--;
    } else {
        list_push_back(&c->busy, &conn->link);
    }
}

static void on_client_conn_free(void *arg)
{
    free(arg);
}

/* Its memory stays until the end of the turn: callers up the stack may look at the state. */
static void client_conn_close(struct client_conn *conn)
{
    if (conn->state == CONN_CLOSED)
        return;
    client_conn_set_state(conn, CONN_CLOSED);
    conn->call = NULL;
    timer_fini(&conn->timer);
    if (conn->stream)
        stream_close(&conn->stream);
    conn->client = NULL;
    task_cancel(&conn->task);
    task_init(&conn->task, on_client_conn_free, conn);
}

static void client_conn_dispose(struct client_conn *conn)
{
    struct loop *loop = conn->timer.loop;

    client_conn_close(conn);
    loop_defer(loop, &conn->task);
}

/* The call goes back to the head of the line: nothing of it was written. */
static void client_conn_give_back(struct client_conn *conn)
{
    struct http_client *c = conn->client;
    struct http_call *call = conn->call;

    call->conn = NULL;
    call->state = CALL_WAITING;
    list_push_front(&c->waiting, &call->wait);
    client_conn_dispose(conn);
    client_pump(c);
}

static void client_conn_process(struct client_conn *conn)
{
    struct http_client *c = conn->client;

    switch (conn->state) {
    case CONN_CONNECTING:
        /* Before OPEN nothing was written. */
        if (conn->failed || conn->eof)
            call_end(conn->call, HTTP_CALL_NOT_SENT, "%s",
                     conn->failed ? stream_error(conn->stream) : "connection closed before it was open");
        break;
    case CONN_CHECKING: /* bytes nobody asked for, or the end */ client_conn_give_back(conn); break;
    case CONN_BUSY: call_input(conn->call); break;
    case CONN_IDLE:
        client_conn_dispose(conn);
        client_pump(c);
        break;
    case CONN_CLOSED: break;
    }
}

static void on_client_conn_task(void *arg)
{
    client_conn_process(arg);
}

void client_conn_process_later(struct client_conn *conn)
{
    loop_defer(conn->client->loop, &conn->task);
}

/* Has nothing come that ends it, as far as the stream knows by now? Its events may still be due. */
static bool client_conn_is_fresh(const struct client_conn *conn)
{
    struct stream *s = conn->stream;

    return !conn->eof && !conn->failed && !stream_saw_eof(s) && stream_error(s)[0] == '\0' &&
           evbuffer_get_length(stream_input(s)) == 0;
}

static void on_client_conn_timer(void *arg)
{
    struct client_conn *conn = arg;

    if (conn->state == CONN_CHECKING && client_conn_is_fresh(conn)) {
        client_conn_set_state(conn, CONN_BUSY);
        call_send(conn->call);
    } else if (conn->state == CONN_CHECKING) {
        client_conn_give_back(conn);
    } else if (conn->state == CONN_IDLE) {
        client_conn_dispose(conn);
    }
}

static void on_client_conn_stream(struct stream *s, enum stream_event ev, void *arg)
{
    struct client_conn *conn = arg;

    (void)s;
    switch (ev) {
    case STREAM_OPEN:
        client_conn_set_state(conn, CONN_BUSY);
        call_send(conn->call);
        break;
    case STREAM_DATA: client_conn_process(conn); break;
    case STREAM_EOF:
        conn->eof = true;
        client_conn_process(conn);
        break;
    case STREAM_ERROR:
        conn->failed = true;
        client_conn_process(conn);
        break;
    case STREAM_LOWAT:
        if (conn->state == CONN_BUSY)
            call_drained(conn->call);
        break;
    case STREAM_TIMEOUT: break; /* calls keep their own time */
    }
}

void client_connect(struct http_client *c, struct http_call *call)
{
    struct client_conn *conn = xcalloc(1, sizeof(*conn));

    conn->client = c;
    list_init(&conn->link);
    conn->state = CONN_CONNECTING;
    list_push_back(&c->busy, &conn->link);
    c->n_conns++;
    timer_init(&conn->timer, c->loop, on_client_conn_timer, conn);
    task_init(&conn->task, on_client_conn_task, conn);
    conn->call = call;
    call->conn = conn;
    call->state = CALL_CONNECTING;
    conn->stream = stream_connect(c->loop, c->url.host, c->url.port, c->url.tls ? c->cfg.tls : NULL,
                                  c->cfg.connect_ms, on_client_conn_stream, conn);
}

static void client_conn_take(struct client_conn *conn, struct http_call *call)
{
    conn->call = call;
    call->conn = conn;
    call->state = CALL_CONNECTING;
    if (call_may_repeat(call)) {
        timer_clear(&conn->timer);
        client_conn_set_state(conn, CONN_BUSY);
        call_send(call);
    } else {
        client_conn_set_state(conn, CONN_CHECKING);
        timer_set(&conn->timer, 0);
    }
}

void client_pump(struct http_client *c)
{
    while (!c->closing && !list_empty(&c->waiting)) {
        struct http_call *call = list_first(&c->waiting, struct http_call, wait);
        struct client_conn *conn = list_first(&c->idle, struct client_conn, link);

        if (conn && !client_conn_is_fresh(conn)) {
            client_conn_dispose(conn);
            continue;
        }
        if (!conn && c->n_conns >= c->cfg.max_conns)
            return;
        list_remove(&call->wait);
        if (conn)
            client_conn_take(conn, call);
        else
            client_connect(c, call);
    }
}

/* Of the free ones those used last are kept. One more than that is not closed at once: where many calls run side by side
 * all of them become free now and again, and each would be opened anew. */
static void limit_idle(struct http_client *c)
{
    unsigned i = 0;

    list_for_each_safe(it, &c->idle) {
        struct client_conn *conn = list_entry(it, struct client_conn, link);

        if (i++ < c->cfg.max_idle)
            continue;
        if (!conn->spare) {
            conn->spare = true;
            timer_set(&conn->timer, SPARE_MS);
        }
        return; /* those behind it came before */
    }
}

void client_conn_release(struct client_conn *conn, bool keep)
{
    struct http_client *c = conn->client;

    conn->call = NULL;
    if (!keep || c->closing || !client_conn_is_fresh(conn)) {
        client_conn_dispose(conn);
    } else {
        conn->used = true;
        conn->spare = false;
        task_cancel(&conn->task);
        client_conn_set_state(conn, CONN_IDLE);
        timer_set(&conn->timer, c->cfg.idle_ms);
    }
    client_pump(c);
    limit_idle(c);
}

struct stream *client_conn_hijack(struct client_conn *conn)
{
    struct http_client *c = conn->client;
    struct stream *s = conn->stream;

    conn->stream = NULL;
    client_conn_dispose(conn);
    client_pump(c);
    return s;
}

void client_attach(struct http_client *c, struct client_child *child)
{
    list_push_back(&c->attached, &child->link);
}

void client_detach(struct client_child *child)
{
    list_remove(&child->link);
}

/* "Basic dXNlcjpwYXNz" */
static char *basic_authorization(const char *userinfo)
{
    size_t n = strlen(userinfo);
    char *b64 = xmalloc(4 * ((n + 2) / 3) + 1), *out;

    EVP_EncodeBlock((unsigned char *)b64, (const unsigned char *)userinfo, (int)n);
    out = xasprintf("Basic %s", b64);
    free(b64);
    return out;
}

static void on_client_free(void *arg)
{
    struct http_client *c = arg;

    http_url_fini(&c->url);
    free(c->authorization);
    free(c);
}

struct http_client *http_client_new(struct loop *l, const char *url, const struct http_client_config *cfg,
                                    struct err *e)
{
    struct http_client *c = xcalloc(1, sizeof(*c));

    if (http_url_parse(url, &c->url, e) < 0) {
        free(c);
        return NULL;
    }
    if (cfg)
        c->cfg = *cfg;
    if (c->url.tls && !c->cfg.tls) {
        err_set(e, 0, "%s: https needs a TLS context", url);
        http_url_fini(&c->url);
        free(c);
        return NULL;
    }
    if (c->cfg.connect_ms <= 0)
        c->cfg.connect_ms = 3000;
    if (c->cfg.idle_ms <= 0)
        c->cfg.idle_ms = 15000;
    if (c->cfg.max_idle == 0)
        c->cfg.max_idle = 4;
    if (c->cfg.max_conns == 0)
        c->cfg.max_conns = 32;
    if (c->cfg.head == 0)
        c->cfg.head = 64 << 10;
    c->loop = l;
    if (c->url.userinfo)
        c->authorization = basic_authorization(c->url.userinfo);
    list_init(&c->idle);
    list_init(&c->busy);
    list_init(&c->waiting);
    list_init(&c->calls);
    list_init(&c->attached);
    task_init(&c->free_task, on_client_free, c);
    return c;
}

void http_client_set_connect(struct http_client *c, int64_t connect_ms)
{
    c->cfg.connect_ms = connect_ms;
}

void http_client_free(struct http_client **cp)
{
    struct http_client *c = *cp;

    if (!c)
        return;
    *cp = NULL;
    c->closing = true;
    while (!list_empty(&c->calls))
        call_client_gone(list_first(&c->calls, struct http_call, link));
    while (!list_empty(&c->attached)) {
        struct client_child *child = list_first(&c->attached, struct client_child, link);

        list_remove(&child->link);
        child->end(child);
    }
    while (!list_empty(&c->idle))
        client_conn_dispose(list_first(&c->idle, struct client_conn, link));
    assert(list_empty(&c->busy));
    loop_defer(c->loop, &c->free_task);
}

const struct http_url *http_client_url(const struct http_client *c)
{
    return &c->url;
}

struct loop *http_client_loop(const struct http_client *c)
{
    return c->loop;
}
