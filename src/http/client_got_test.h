/* A client of ours, a listening raw peer, and calls that write down what came of them. For client_test.c and
 * outcome_test.c. */
#ifndef HTTP_CLIENT_GOT_TEST_H
#define HTTP_CLIENT_GOT_TEST_H

#include <event2/buffer.h>

#include "http/client.h"
#include "http/peer_test.h"

#define OK200 "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

/* --- a call and what came of it --- */

struct got {
    struct http_call *call;
    struct http_client **client; /* for what handlers do with it */
    int heads, dones, drains, status;
    struct buf body;
    char *type; /* Content-Type */
    enum http_call_end end;
    char why[200];
    size_t body_len;
    enum {
        DO_NOTHING,
        CANCEL_IN_HEAD,
        CANCEL_IN_DATA,
        CANCEL_IN_DONE,
        PAUSE_IN_HEAD,
        PAUSE_IN_DATA,
        FREE_IN_HEAD,
        FREE_IN_DATA,
        FREE_IN_DONE
    } act;
    bool count_only;
};

static inline void got_head(struct http_call *c, int status, const struct http_headers *h, void *arg)
{
    struct got *g = arg;

    assert_int_equal(g->dones, 0);
    g->heads++;
    g->status = status;
    free(g->type);
    g->type = xstrdup_null(http_headers_get(h, "Content-Type"));
    if (g->act == CANCEL_IN_HEAD)
        http_call_cancel(&g->call);
    else if (g->act == PAUSE_IN_HEAD)
        http_call_pause(c);
    else if (g->act == FREE_IN_HEAD)
        http_client_free(g->client);
}

static inline void got_data(struct http_call *c, const void *data, size_t n, void *arg)
{
    struct got *g = arg;

    assert_int_equal(g->heads, 1);
    assert_int_equal(g->dones, 0);
    assert_true(n > 0);
    g->body_len += n;
    if (!g->count_only)
        buf_put(&g->body, data, n);
    if (g->act == CANCEL_IN_DATA)
        http_call_cancel(&g->call);
    else if (g->act == PAUSE_IN_DATA)
        http_call_pause(c);
    else if (g->act == FREE_IN_DATA)
        http_client_free(g->client);
}

static inline void got_done(struct http_call *c, enum http_call_end end, const char *why, void *arg)
{
    struct got *g = arg;

    (void)c;
    assert_int_equal(g->dones, 0);
    g->dones++;
    g->end = end;
    snprintf(g->why, sizeof(g->why), "%s", why);
    if (g->act == CANCEL_IN_DONE) {
        http_call_cancel(&g->call);
    } else if (g->act == FREE_IN_DONE) {
        http_client_free(g->client);
    }
    g->call = NULL;
}

static inline void got_drain(struct http_call *c, void *arg)
{
    struct got *g = arg;

    (void)c;
    assert_int_equal(g->dones, 0);
    g->drains++;
}

static const struct http_call_handlers handlers = {got_head, got_data, got_done, got_drain};

static inline void got_fini(struct got *g)
{
    buf_free(&g->body);
    free(g->type);
    *g = (struct got){0};
}

/* --- a client and a listening peer --- */

static int lfd = -1;
static unsigned short port;
static struct http_client *client;

static inline int setup(void **state)
{
    struct err e;

    (void)state;
    loop = loop_new(&e);
    assert_non_null(loop);
    lfd = peer_listen(&port);
    return 0;
}

static inline void open_client(const struct http_client_config *cfg)
{
    char url[64];
    struct err e;

    snprintf(url, sizeof(url), "http://127.0.0.1:%u", port);
    client = http_client_new(loop, url, cfg, &e);
    assert_non_null(client);
}

static inline int teardown(void **state)
{
    (void)state;
    http_client_free(&client);
    if (lfd >= 0)
        close(lfd);
    turns(4);
    loop_free(&loop);
    return 0;
}

static inline void start(struct got *g, const char *method, const char *target, const char *body)
{
    struct bytes *b = body ? bytes_new(body, strlen(body)) : NULL;

    g->client = &client;
    g->call = http_call_new(client, method, target, &handlers, g);
    http_call_timeout(g->call, PATIENCE_MS, 0);
    http_call_start(g->call, body ? "text/plain" : NULL, b);
    bytes_unref(b);
}

/* A whole exchange that leaves one idle connection behind; the peer's end of it. */
static inline int warm_up(void)
{
    struct got g = {0};
    struct buf in = BUF_INIT, req = BUF_INIT;
    int fd;

    start(&g, "GET", "/warm", NULL);
    fd = peer_accept(lfd);
    peer_request(fd, &in, &req);
    peer_send(fd, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nwarm");
    TURN_UNTIL(g.dones);
    assert_int_equal(g.end, HTTP_CALL_OK);
    assert_int_equal(in.len, 0);
    buf_free(&in);
    buf_free(&req);
    got_fini(&g);
    return fd;
}

#endif
