#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <event2/event.h>

#include "base/log.h"
#include "net/addr.h"
#include "net/stream.h"

enum {
    ACCEPT_PER_TURN = 64, /* one busy port must not starve the rest */
    RETRY_MS = 100,       /* while descriptors are used up */
};

struct listener {
    struct loop *loop;
    int fd;
    struct event *ev;
    struct timer retry;
    struct task tomb;
    listener_cb *cb;
    void *arg;
    char *addr;
    char *unlink_path; /* a Unix socket we made */
    ino_t inode;
    bool paused; /* by the owner */
    bool closed;
    bool short_of_fds; /* an episode that has been logged */
};

static void listener_arm(struct listener *ln)
{
    if (ln->paused || timer_is_set(&ln->retry))
        event_del(ln->ev);
    else
        event_add(ln->ev, NULL);
}

static void on_retry(void *arg)
{
    listener_arm(arg);
}

static bool is_shortage(int err)
{
    return err == EMFILE || err == ENFILE || err == ENOBUFS || err == ENOMEM;
}

/* Connections wait in the backlog meanwhile. An episode ends when accepting has caught up. */
static void listener_shortage(struct listener *ln, int err)
{
    if (!ln->short_of_fds)
        log_warn(LOG_S("listener", ln->addr), LOG_S("event", "accept paused"),
                 LOG_S("reason", strerror(err)));
    ln->short_of_fds = true;
    timer_set(&ln->retry, RETRY_MS);
    listener_arm(ln);
}

static void on_accept(evutil_socket_t fd, short what, void *arg)
{
    struct listener *ln = arg;

    (void)what;
    for (int i = 0; i < ACCEPT_PER_TURN && !ln->closed && !ln->paused; i++) {
        int conn = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (conn >= 0) {
            ln->cb(ln, conn, ln->arg);
            continue;
        }
        if (errno == EAGAIN || errno == EWOULDBLOCK) {
            if (ln->short_of_fds)
                log_info(LOG_S("listener", ln->addr), LOG_S("event", "accept goes on"));
            ln->short_of_fds = false;
            return;
        }
        if (is_shortage(errno)) {
            listener_shortage(ln, errno);
            return;
        }
        /* Anything else (ECONNABORTED, EPERM of a firewall ...) is about that one connection. */
    }
}

static void listener_bury(void *arg)
{
    struct listener *ln = arg;

    if (ln->ev)
        event_free(ln->ev);
    free(ln->addr);
    free(ln->unlink_path);
    free(ln);
}

struct listener *listener_from_fd(struct loop *l, int fd, listener_cb *cb, void *arg, struct err *e)
{
    struct listener *ln;
    struct sockaddr_storage ss = {0};
    socklen_t len = sizeof(ss);
    char ip[ADDR_IP_MAX], full[ADDR_MAX];

    if (getsockname(fd, (struct sockaddr *)&ss, &len) < 0 || listen(fd, SOMAXCONN) < 0 ||
        evutil_make_socket_nonblocking(fd) < 0) {
        err_errno(e, errno, "cannot listen");
        close(fd);
        return NULL;
    }
    evutil_make_socket_closeonexec(fd);
    ln = xcalloc(1, sizeof(*ln));
    ln->loop = l;
    ln->fd = fd;
    ln->cb = cb;
    ln->arg = arg;
    if (ss.ss_family == AF_UNIX) {
        ln->addr = xasprintf(ADDR_UNIX "%s", ((struct sockaddr_un *)&ss)->sun_path);
    } else {
        addr_format(&ss, ip, full);
        ln->addr = xstrdup(full);
    }
    timer_init(&ln->retry, l, on_retry, ln);
    task_init(&ln->tomb, listener_bury, ln);
    ln->ev = event_new(loop_base(l), fd, EV_READ | EV_PERSIST, on_accept, ln);
    if (ln->ev == NULL || event_add(ln->ev, NULL) < 0) {
        err_set(e, ENOMEM, "cannot listen: no event");
        listener_close(&ln);
    }
    return ln;
}

/* A socket file that nobody answers on is left over from a process that was killed. */
static void unlink_stale(const struct addr_listen *a)
{
    const char *path = ((const struct sockaddr_un *)&a->ss)->sun_path;
    struct stat st;
    int fd;

    if (lstat(path, &st) < 0 || !S_ISSOCK(st.st_mode))
        return;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return;
    if (connect(fd, (const struct sockaddr *)&a->ss, a->len) < 0 && errno == ECONNREFUSED)
        unlink(path);
    close(fd);
}

static int bind_socket(const struct addr_listen *a, struct err *e)
{
    int family = a->ss.ss_family, on = 1, v6only = !a->dual;
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0)
        return err_errno(e, errno, "socket");
    if (family == AF_UNIX)
        unlink_stale(a);
    else
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6only, sizeof(v6only));
    if (bind(fd, (const struct sockaddr *)&a->ss, a->len) < 0) {
        err_errno(e, errno, "bind");
        close(fd);
        return -1;
    }
    return fd;
}

/* ":PORT" on a machine without IPv6. */
static int bind_any4(const struct addr_listen *a, struct err *e)
{
    struct addr_listen a4 = {.len = sizeof(struct sockaddr_in)};
    struct sockaddr_in *in = (struct sockaddr_in *)&a4.ss;

    in->sin_family = AF_INET;
    in->sin_port = ((const struct sockaddr_in6 *)&a->ss)->sin6_port;
    return bind_socket(&a4, e);
}

struct listener *listener_open(struct loop *l, const char *addr, listener_cb *cb, void *arg, struct err *e)
{
    struct addr_listen a;
    struct listener *ln;
    struct err local;
    struct stat st;
    int fd;

    if (e == NULL)
        e = &local;
    if (addr_parse_listen(addr, &a, e) < 0)
        return NULL;
    fd = bind_socket(&a, e);
    if (fd < 0 && a.dual && (e->code == EAFNOSUPPORT || e->code == EADDRNOTAVAIL))
        fd = bind_any4(&a, e);
    ln = fd < 0 ? NULL : listener_from_fd(l, fd, cb, arg, e);
    if (ln == NULL) {
        err_wrap(e, "cannot listen on %s", addr);
        return NULL;
    }
    if (a.ss.ss_family == AF_UNIX && stat(addr + strlen(ADDR_UNIX), &st) == 0) {
        ln->unlink_path = xstrdup(addr + strlen(ADDR_UNIX));
        ln->inode = st.st_ino;
    }
    return ln;
}

void listener_pause(struct listener *ln)
{
    ln->paused = true;
    listener_arm(ln);
}

void listener_resume(struct listener *ln)
{
    ln->paused = false;
    listener_arm(ln);
}

const char *listener_addr(const struct listener *ln)
{
    return ln->addr;
}

void listener_close(struct listener **lnp)
{
    struct listener *ln = *lnp;
    struct stat st;

    if (ln == NULL)
        return;
    *lnp = NULL;
    ln->closed = true;
    if (ln->ev)
        event_del(ln->ev);
    timer_fini(&ln->retry);
    /* Not if another process has put its own socket there meanwhile. */
    if (ln->unlink_path && stat(ln->unlink_path, &st) == 0 && st.st_ino == ln->inode)
        unlink(ln->unlink_path);
    close(ln->fd);
    loop_defer(ln->loop, &ln->tomb); /* may be called from its own callback */
}
