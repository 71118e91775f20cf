/* How a stream comes to be open: taken over from a listener, or looked up, connected, and shaken hands with.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/dns.h>

#include "net/addr.h"
#include "net/stream_impl.h"
#include "net/tls_impl.h"

/* A query of the resolver. Outlives the stream: a canceled one still calls back. */
struct lookup {
    struct stream *s; /* NULL: canceled */
    struct evdns_getaddrinfo_request *req;
};

static void tune_socket(int fd, int family)
{
    int on = 1, idle = 60, gap = 15, tries = 4;

    if (family == AF_UNIX)
        return;
    /* Output is gathered per turn, so nothing is gained by waiting; a peer that vanished is noticed. */
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &gap, sizeof(gap));
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &tries, sizeof(tries));
}

/* --- deadline --- */

static void on_deadline(void *arg)
{
    struct stream *s = arg;

    switch ((enum stream_state)s->state) {
    case STREAM_ST_START:
    case STREAM_ST_LOOKUP: stream_fail(s, ETIMEDOUT, "name lookup timed out"); break;
    case STREAM_ST_CONNECTING: stream_fail(s, ETIMEDOUT, "connect timed out"); break;
    case STREAM_ST_HANDSHAKE: stream_fail(s, ETIMEDOUT, "TLS handshake timed out"); break;
    case STREAM_ST_OPEN: stream_destroy(s); break; /* it lingered */
    case STREAM_ST_FAILED:
    case STREAM_ST_CLOSED: break;
    }
}

void stream_deadline(struct stream *s, int64_t ms)
{
    struct stream_phase *p = xcalloc(1, sizeof(*p));

    p->s = s;
    list_init(&p->orphan.link);
    timer_init(&p->deadline, s->loop, on_deadline, s);
    s->phase = p;
    if (ms > 0) {
        p->due = loop_now(s->loop) + ms;
        timer_set(&p->deadline, ms);
    }
}

/* --- open --- */

static void opened(struct stream *s)
{
    s->write_wants_read = s->read_wants_write = false;
    stream_arm(s);
    if (s->lingers)
        timer_set(&s->phase->deadline, s->phase->linger_ms);
    else
        stream_phase_free(s);
    s->look = s->ssl != NULL; /* input may have come with the end of the handshake */
    s->tell_open = true;
    stream_set_state(s, STREAM_ST_OPEN);
    stream_arm(s);
    loop_defer(s->loop, &s->tick);
}

void stream_open_handshake(struct stream *s)
{
    struct err e;

    s->write_wants_read = s->read_wants_write = false;
    switch (tls_handshake(s->ssl, &e)) {
    case TLS_OK: opened(s); return;
    case TLS_WANT_READ: s->write_wants_read = true; break;
    case TLS_WANT_WRITE: s->read_wants_write = true; break;
    case TLS_EOF:
    case TLS_FAILED: stream_fail_err(s, &e); return;
    }
    stream_arm(s);
}

static void connected(struct stream *s)
{
    if (s->ssl == NULL) {
        opened(s);
        return;
    }
    tls_session_set_fd(s->ssl, s->fd);
    stream_set_state(s, STREAM_ST_HANDSHAKE);
    stream_open_handshake(s);
}

struct stream *stream_accept(struct loop *l, int fd, struct tls_server *tls, stream_cb *cb, void *arg)
{
    struct stream *s = stream_alloc(l, cb, arg);
    struct sockaddr_storage ss = {0};
    socklen_t len = sizeof(ss);
    char ip[ADDR_IP_MAX] = "?", full[ADDR_MAX] = "?";

    evutil_make_socket_nonblocking(fd);
    if (getpeername(fd, (struct sockaddr *)&ss, &len) == 0)
        addr_format(&ss, ip, full); /* else it is gone already; reading will tell */
    stream_set_peer(s, ip, full);
    tune_socket(fd, ss.ss_family);
    stream_set_fd(s, fd);
    if (tls) {
        s->ssl = tls_session_server(tls);
        stream_deadline(s, tls_server_handshake_ms(tls));
        tls_session_set_fd(s->ssl, fd);
        s->write_wants_read = true;
        stream_set_state(s, STREAM_ST_HANDSHAKE);
        stream_arm(s);
    } else {
        opened(s);
    }
    return s;
}

/* --- connect --- */

struct stream *stream_connect(struct loop *l, const char *host, unsigned short port, struct tls_client *tls,
                              int64_t connect_ms, stream_cb *cb, void *arg)
{
    struct stream *s = stream_alloc(l, cb, arg);
    char *full;

    stream_deadline(s, connect_ms);
    s->phase->host = xstrdup(host);
    s->phase->port = port;
    if (strncmp(host, ADDR_UNIX, strlen(ADDR_UNIX)) == 0) {
        stream_set_peer(s, "unix", "unix");
    } else {
        full = strchr(host, ':') ? xasprintf("[%s]:%u", host, port) : xasprintf("%s:%u", host, port);
        stream_set_peer(s, host, full); /* until an address is known */
        free(full);
    }
    if (tls)
        s->ssl = tls_session_client(tls, host);
    loop_defer(l, &s->tick);
    return s;
}

/* A connect to a local port of the ephemeral range that nobody listens on may meet itself. */
static bool is_own_echo(int fd)
{
    struct sockaddr_storage a = {0}, b = {0};
    socklen_t la = sizeof(a), lb = sizeof(b);

    return getsockname(fd, (struct sockaddr *)&a, &la) == 0 &&
           getpeername(fd, (struct sockaddr *)&b, &lb) == 0 && a.ss_family != AF_UNIX && la == lb &&
           memcmp(&a, &b, la) == 0;
}

void stream_open_writable(struct stream *s)
{
    int err = 0;
    socklen_t len = sizeof(err);

    if (getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &err, &len) < 0)
        err = errno;
    if (err == 0 && is_own_echo(s->fd))
        err = ECONNREFUSED;
    if (err != 0) {
        s->errnum = err;
        stream_open_next(s);
        return;
    }
    event_del(&s->wev);
    s->writing = false;
    connected(s);
}

/* 0 under way or done, else an errno. */
static int try_address(struct stream *s, const struct sockaddr *sa, socklen_t len)
{
    int fd = socket(sa->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct sockaddr_storage ss = {0};
    char ip[ADDR_IP_MAX], full[ADDR_MAX];

    if (fd < 0)
        return errno;
    stream_set_fd(s, fd);
    tune_socket(fd, sa->sa_family);
    memcpy(&ss, sa, len);
    addr_format(&ss, ip, full);
    stream_set_peer(s, ip, full);
    if (connect(fd, sa, len) < 0 && errno != EINPROGRESS)
        return errno;
    return 0;
}

/* What is left of the time is shared fairly among the addresses not tried yet. */
static void await_connect(struct stream *s, unsigned left)
{
    int64_t ms = s->phase->due ? (s->phase->due - loop_now(s->loop)) / (left + 1) : 0;
    struct timeval tv;

    if (ms < 1)
        ms = 1;
    tv = (struct timeval){.tv_sec = ms / 1000, .tv_usec = (ms % 1000) * 1000};
    if (event_add(&s->wev, s->phase->due && left > 0 ? &tv : NULL) < 0)
        abort();
    s->writing = true;
}

void stream_open_next(struct stream *s)
{
    int err = s->errnum ? s->errnum : ETIMEDOUT;

    while (s->phase->next) {
        struct addrinfo *ai = s->phase->next;
        unsigned left = 0;

        s->phase->next = ai->ai_next;
        for (struct addrinfo *i = ai->ai_next; i; i = i->ai_next)
            left++;
        err = try_address(s, ai->ai_addr, ai->ai_addrlen);
        if (err == 0) {
            s->errnum = 0;
            await_connect(s, left);
            return;
        }
    }
    stream_set_fd(s, -1);
    stream_fail_errno(s, err);
}

static void open_unix(struct stream *s)
{
    struct sockaddr_storage ss;
    socklen_t len;
    struct err e;
    int err;

    if (addr_unix(s->phase->host + strlen(ADDR_UNIX), &ss, &len, &e) < 0) {
        stream_fail(s, e.code, e.msg);
        return;
    }
    stream_set_state(s, STREAM_ST_CONNECTING);
    err = try_address(s, (struct sockaddr *)&ss, len);
    if (err)
        stream_fail_errno(s, err);
    else
        await_connect(s, 0);
}

static void fail_lookup(struct stream *s, int rc)
{
    const char *why = rc == EVUTIL_EAI_NONAME ? "no such host" : evutil_gai_strerror(rc);
    char *text = xasprintf("cannot resolve %s: %s", s->phase->host, why);

    stream_fail(s, 0, text);
    free(text);
}

static void on_lookup(int rc, struct addrinfo *ai, void *arg)
{
    struct lookup *lk = arg;
    struct stream *s = lk->s;

    free(lk);
    if (s == NULL) {
        if (ai)
            evutil_freeaddrinfo(ai);
        return;
    }
    s->phase->lookup = NULL;
    if (rc != 0) {
        fail_lookup(s, rc);
        return;
    }
    s->phase->addrs = s->phase->next = ai;
    stream_set_state(s, STREAM_ST_CONNECTING);
    stream_open_next(s);
}

void stream_open_cancel_lookup(struct stream *s)
{
    struct lookup *lk = s->phase->lookup;

    if (lk == NULL)
        return;
    s->phase->lookup = NULL;
    lk->s = NULL;
    evdns_getaddrinfo_cancel(lk->req); /* on_lookup() follows later */
}

void stream_open_start(struct stream *s)
{
    struct stream_phase *p = s->phase;
    struct addrinfo hints = {.ai_family = AF_UNSPEC,
                             .ai_socktype = SOCK_STREAM,
                             .ai_protocol = IPPROTO_TCP,
                             .ai_flags = EVUTIL_AI_NUMERICHOST | EVUTIL_AI_NUMERICSERV};
    struct evdns_getaddrinfo_request *req;
    struct lookup *lk;
    char service[8];

    if (strncmp(p->host, ADDR_UNIX, strlen(ADDR_UNIX)) == 0) {
        open_unix(s);
        return;
    }
    snprintf(service, sizeof(service), "%u", p->port);
    if (evutil_getaddrinfo(p->host, service, &hints, &p->addrs) == 0) {
        p->next = p->addrs;
        stream_set_state(s, STREAM_ST_CONNECTING);
        stream_open_next(s);
        return;
    }
    p->addrs = NULL;
    stream_set_state(s, STREAM_ST_LOOKUP);
    hints.ai_flags = EVUTIL_AI_NUMERICSERV;
    lk = xcalloc(1, sizeof(*lk));
    lk->s = s;
    p->lookup = lk;
    req = evdns_getaddrinfo(loop_dns(s->loop), p->host, service, &hints, on_lookup, lk);
    if (req) /* else it has called back already and lk is gone */
        lk->req = req;
}
