/* What the tests of http_pass_through() share. */
#ifndef HTTP_PASS_RIG_TEST_H
#define HTTP_PASS_RIG_TEST_H

#include "http/client.h"
#include "http/peer_test.h"
#include "http/server.h"

/* A gateway: everything goes through. "up" is the server behind it, "down" who asks; both are raw sockets. */
static int lfd = -1;
static unsigned short up_port, gate_port;
static struct http_client *client;
static struct http_server *gate;
static struct http_pass opt;
static int requests __attribute__((unused));
static int unreachable __attribute__((unused));
static struct http_req *given_back __attribute__((unused));

static inline void on_request(struct http_req *req, void *arg)
{
    (void)arg;
    requests++;
    http_body_limit(req, 1 << 30);
    http_pass_through(req, client, &opt);
}

static inline int setup(void **state)
{
    struct http_limits lim = http_limits_default;
    struct listener *ln;
    char url[64];
    struct err e;

    (void)state;
    loop = loop_new(&e);
    lfd = peer_listen(&up_port);
    snprintf(url, sizeof(url), "http://127.0.0.1:%u", up_port);
    client = http_client_new(loop, url, NULL, &e);
    assert_non_null(client);
    lim.drain = 1000;
    gate = http_server_new(loop, &lim, on_request, NULL);
    ln = http_server_listen(gate, "127.0.0.1:0", NULL, &e);
    assert_non_null(ln);
    gate_port = (unsigned short)atoi(strrchr(listener_addr(ln), ':') + 1);
    opt = (struct http_pass){0};
    requests = unreachable = 0;
    return 0;
}

static inline int teardown(void **state)
{
    (void)state;
    http_server_free(&gate);
    http_client_free(&client);
    if (lfd >= 0)
        close(lfd);
    lfd = -1;
    turns(6);
    loop_free(&loop);
    return 0;
}

static inline bool has(const struct buf *b, const char *text)
{
    return strcasestr(buf_str(b), text) != NULL;
}

#endif
