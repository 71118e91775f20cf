/* Scripted peers for tests: raw sockets on loopback, driven in the same thread as the loop. A helper that has
 * to wait turns the loop; the deadline is only a safety net. */
#ifndef HTTP_PEER_TEST_H
#define HTTP_PEER_TEST_H

#include <arpa/inet.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <malloc.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "net/loop.h"

#define PATIENCE_MS 20000

static struct loop *loop;

#define TURN_UNTIL(cond)                                                                                     \
    do {                                                                                                     \
        int64_t limit_ = loop_now(loop) + PATIENCE_MS;                                                       \
        while (!(cond)) {                                                                                    \
            loop_turn(loop, 1);                                                                              \
            if (loop_now(loop) > limit_)                                                                     \
                fail_msg("%s:%d: waited in vain for: %s", __FILE__, __LINE__, #cond);                        \
        }                                                                                                    \
    } while (0)

static inline void turns(int n)
{
    while (n-- > 0)
        loop_turn(loop, 0);
}

/* A fixed size, so that a peer that does not read holds the sender back after some MB on every machine. */
static const int rcvbuf = 256 * 1024;

/* A listening socket; *port is what it got. */
static inline int peer_listen(unsigned short *port)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(sa);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &rcvbuf, sizeof(rcvbuf));
    assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
    assert_int_equal(listen(fd, 16), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&sa, &len), 0);
    *port = ntohs(sa.sin_port);
    return fd;
}

static inline bool peer_try_accept(int lfd, int *fd)
{
    int on = 1;

    *fd = accept4(lfd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (*fd >= 0)
        setsockopt(*fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    return *fd >= 0;
}

static inline int peer_accept(int lfd)
{
    int fd;

    TURN_UNTIL(peer_try_accept(lfd, &fd));
    return fd;
}

/* Is somebody waiting to be accepted? */
static inline bool peer_has_caller(int lfd)
{
    struct pollfd p = {.fd = lfd, .events = POLLIN};

    return poll(&p, 1, 0) == 1;
}

static inline int peer_connect(unsigned short port)
{
    struct sockaddr_in sa = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

    assert_true(fd >= 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &rcvbuf, sizeof(rcvbuf));
    assert_int_equal(connect(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    return fd;
}

/* Takes what is there. false: nothing for now; *eof when the other side has ended, errno in *err if badly. */
static inline bool peer_recv(int fd, struct buf *in, bool *eof, int *err)
{
    char piece[65536];
    ssize_t n = recv(fd, piece, sizeof(piece), 0);

    if (n > 0) {
        buf_put(in, piece, (size_t)n);
        return true;
    }
    if (n == 0)
        *eof = true;
    else if (errno != EAGAIN)
        *err = errno;
    return false;
}

/* Turn until at least n bytes are there. */
static inline void peer_want(int fd, struct buf *in, size_t n)
{
    bool eof = false;
    int err = 0;

    TURN_UNTIL(in->len >= n || (peer_recv(fd, in, &eof, &err), in->len >= n || eof || err));
    if (in->len < n)
        fail_msg("wanted %zu bytes, the connection ended after %zu: %s", n, in->len, buf_str(in));
}

/* Turn until the text has come; its end's offset. */
static inline size_t peer_want_text(int fd, struct buf *in, const char *text)
{
    bool eof = false;
    int err = 0;
    char *at = NULL;

    TURN_UNTIL((at = in->len ? memmem(in->data, in->len, text, strlen(text)) : NULL) != NULL ||
               (!peer_recv(fd, in, &eof, &err) && (eof || err)));
    if (!at)
        fail_msg("wanted \"%s\", the connection ended after: %s", text, buf_str(in));
    return (size_t)(at - in->data) + strlen(text);
}

/* Turn until the other side has ended, well or badly; what came before is in in. Returns the errno. */
static inline int peer_want_end(int fd, struct buf *in)
{
    bool eof = false;
    int err = 0;

    TURN_UNTIL((!peer_recv(fd, in, &eof, &err) && (eof || err)));
    return err;
}

/* Send all, turning when the socket is full. */
static inline void peer_send_n(int fd, const void *data, size_t n)
{
    const char *p = data;
    int64_t limit = loop_now(loop) + PATIENCE_MS;

    while (n > 0) {
        ssize_t k = send(fd, p, n, MSG_NOSIGNAL);

        if (k < 0 && errno != EAGAIN)
            return; /* the other side has gone: the test will see what it made of it */
        if (k > 0) {
            p += k;
            n -= (size_t)k;
        } else {
            loop_turn(loop, 1);
            if (loop_now(loop) > limit)
                fail_msg("%zu bytes could not be sent", n);
        }
    }
}

static inline void peer_send(int fd, const char *text)
{
    peer_send_n(fd, text, strlen(text));
}

static inline void peer_reset(int fd)
{
    struct linger lg = {.l_onoff = 1, .l_linger = 0};

    setsockopt(fd, SOL_SOCKET, SO_LINGER, &lg, sizeof(lg));
    close(fd);
}

/* A request with its body (by Content-Length); taken out of in. */
static inline void peer_request(int fd, struct buf *in, struct buf *out)
{
    size_t head = peer_want_text(fd, in, "\r\n\r\n"), len = 0;
    char *text = xstrndup(in->data, head), *cl = strcasestr(text, "\r\nContent-Length:");

    if (cl)
        len = strtoul(cl + 17, NULL, 10);
    free(text);
    peer_want(fd, in, head + len);
    buf_clear(out);
    buf_put(out, in->data, head + len);
    buf_consume(in, head + len);
}

/* Bytes that libevent holds: all buffered input and output is there. */
static size_t held, held_most;

static void *held_malloc(size_t n)
{
    void *p = malloc(n);

    held += p ? malloc_usable_size(p) : 0;
    if (held > held_most)
        held_most = held;
    return p;
}

static void held_free(void *p)
{
    held -= p ? malloc_usable_size(p) : 0;
    free(p);
}

static void *held_realloc(void *p, size_t n)
{
    held -= p ? malloc_usable_size(p) : 0;
    p = realloc(p, n);
    held += p ? malloc_usable_size(p) : 0;
    if (held > held_most)
        held_most = held;
    return p;
}

/* First thing in main(). */
static inline void held_watch(void)
{
    event_set_mem_functions(held_malloc, held_realloc, held_free);
}

#endif
