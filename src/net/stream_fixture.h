/* For tests of plain streams: a loop, a listener, the accepted end a and the connected end c. */
#ifndef NET_STREAM_FIXTURE_H
#define NET_STREAM_FIXTURE_H

#include "net/stream_testing.h"

static struct loop *loop;
static struct listener *listener;
static struct end a, c;

static inline void on_accept(struct listener *ln, int fd, void *arg)
{
    (void)ln;
    (void)arg;
    assert_null(a.s);
    small_window(fd);
    a.s = stream_accept(loop, fd, NULL, end_cb, &a);
}

static inline int setup(void **state)
{
    struct err e = {0};

    (void)state;
    memset(&a, 0, sizeof(a));
    memset(&c, 0, sizeof(c));
    loop = loop_new(&e);
    listener = listener_open(loop, "127.0.0.1:0", on_accept, NULL, &e);
    if (listener == NULL)
        fail_msg("%s", e.msg);
    return 0;
}

static inline int teardown(void **state)
{
    (void)state;
    assert_false(a.nested);
    assert_false(c.nested);
    end_fini(&a);
    end_fini(&c);
    listener_close(&listener);
    loop_free(&loop);
    return 0;
}

static inline void connect_to(const char *host, unsigned short port, int64_t ms)
{
    c.in_call = true;
    c.s = stream_connect(loop, host, port, NULL, ms, end_cb, &c);
    c.in_call = false;
}

static inline void connect_pair(void)
{
    connect_to("127.0.0.1", port_of(listener), 5000);
    UNTIL(loop, a.n[STREAM_OPEN] && c.n[STREAM_OPEN]);
}

static inline void forget(void)
{
    end_fini(&a);
    end_fini(&c);
    memset(&a, 0, sizeof(a));
    memset(&c, 0, sizeof(c));
}

#endif
