#include "image/image_helper.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"

#define REAP_EVERY_MS 10
#define FAREWELL_MS 2000  /* for one that was asked to go, or hangs half dead */
#define PICTURES_MOST 256 /* then a fresh one, so that nothing piles up */

enum helper_state { ABSENT, STARTING, IDLE, BUSY, ENDING };
static const char *const state_names[] = {"absent", "starting", "idle", "busy", "ending"};

enum helper_end { END_RETIRED, END_DIED, END_SILENT, END_RUBBISH, END_UNSPAWNED };

struct image_helper {
    struct loop *loop;
    const struct images_config *cfg;
    image_helper_done_cb *done;
    image_helper_free_cb *free_again;
    void *arg;
    enum helper_state state;
    enum helper_end end;
    bool asked;   /* a picture was given and has not ended */
    bool greeted; /* this process has said hello */
    pid_t pid;
    int fd;
    struct fd_watch watch;
    struct timer timer; /* STARTING, BUSY: too long; IDLE: no more work; ENDING: look whether it is gone */
    int64_t kill_at;
    uint32_t seq;
    unsigned pictures;
    uint64_t died;
    struct err trouble;
};

static void set_state(struct image_helper *h, enum helper_state to)
{
    static const unsigned allowed[] = {
        [ABSENT] = 1u << STARTING | 1u << ENDING,
        [STARTING] = 1u << BUSY | 1u << ENDING,
        [IDLE] = 1u << BUSY | 1u << ENDING,
        [BUSY] = 1u << IDLE | 1u << ENDING,
        [ENDING] = 1u << ABSENT,
    };

    assert(allowed[h->state] & 1u << to);
    log_debug(LOG_I("helper", h->pid), LOG_S("from", state_names[h->state]), LOG_S("state", state_names[to]));
    h->state = to;
}

/* --- the end of a process --- */

static void begin_end(struct image_helper *h, enum helper_end how)
{
    set_state(h, ENDING);
    h->end = how;
    if (h->fd >= 0) {
        fd_watch_fini(&h->watch);
        close(h->fd); /* this asks it to go */
        h->fd = -1;
    }
    h->kill_at = loop_now(h->loop) + FAREWELL_MS;
    if ((how == END_SILENT || how == END_RUBBISH) && h->pid > 0)
        kill(h->pid, SIGKILL);
    timer_set(&h->timer, 0);
}

/* What its exit tells about the picture it was looking at. */
static enum image_status verdict(const struct image_helper *h, int status, struct err *why)
{
    if (h->end == END_UNSPAWNED) {
        *why = h->trouble;
        return IMAGE_UNAVAILABLE;
    }
    if (!h->greeted) {
        if (h->end == END_SILENT)
            err_set(why, 0, "the helper does not start: it says nothing");
        else if (WIFSIGNALED(status))
            err_set(why, 0, "the helper does not start: signal %d", WTERMSIG(status));
        else
            err_set(why, 0, "the helper does not start: %s",
                    h->end == END_RUBBISH ? h->trouble.msg : "it ends");
        return IMAGE_UNAVAILABLE;
    }
    if (h->end == END_SILENT) {
        err_set(why, 0, "it took longer than %lld s", (long long)(h->cfg->timeout_ms / 1000));
        return IMAGE_TIMEOUT;
    }
    if (h->end == END_DIED && WIFSIGNALED(status) && WTERMSIG(status) == SIGXCPU) {
        err_set(why, 0, "it took more than %d s of processor time", IMAGE_CPU_S);
        return IMAGE_TIMEOUT;
    }
    if (h->end == END_RUBBISH)
        err_set(why, 0, "the helper answered rubbish: %s", h->trouble.msg);
    else if (WIFSIGNALED(status))
        err_set(why, 0, "the helper died of signal %d", WTERMSIG(status));
    else
        err_set(why, 0, "the helper ended with status %d", WEXITSTATUS(status));
    return IMAGE_CRASHED;
}

static void ended(struct image_helper *h, int status)
{
    bool asked = h->asked;
    struct err why = {0};
    enum image_status st = verdict(h, status, &why);

    if (h->end != END_RETIRED && h->end != END_UNSPAWNED) {
        h->died++;
        log_warn(LOG_I("helper", h->pid), LOG_S("event", "image_helper_ended"), LOG_S("reason", why.msg));
    }
    set_state(h, ABSENT);
    h->pid = 0;
    h->asked = false;
    timer_clear(&h->timer);
    if (asked)
        h->done(st, 0, why.msg, h->arg);
    h->free_again(h->arg);
}

static void look_whether_gone(struct image_helper *h)
{
    int status = 0;
    pid_t r = h->pid > 0 ? waitpid(h->pid, &status, WNOHANG) : -1;

    if (r == h->pid || (r < 0 && errno != EINTR) || h->pid <= 0) {
        ended(h, status);
        return;
    }
    if (loop_now(h->loop) >= h->kill_at)
        kill(h->pid, SIGKILL);
    timer_set(&h->timer, REAP_EVERY_MS);
}

static void on_timer(void *arg)
{
    struct image_helper *h = arg;

    switch (h->state) {
    case STARTING:
    case BUSY: begin_end(h, END_SILENT); break;
    case IDLE: begin_end(h, END_RETIRED); break;
    case ENDING: look_whether_gone(h); break;
    case ABSENT: break;
    }
}

/* --- what it says --- */

static void rubbish(struct image_helper *h, const char *what)
{
    err_set(&h->trouble, 0, "%s", what);
    begin_end(h, END_RUBBISH);
}

static void on_hello(struct image_helper *h, const struct image_hello *m, size_t n)
{
    if (n != sizeof(*m) || m->magic != IMAGE_WIRE_MAGIC ||
        strncmp(m->version, COMFYMUX_VERSION, sizeof(m->version)) != 0) {
        rubbish(h, "it is not of this version (" COMFYMUX_VERSION ")");
        return;
    }
    h->greeted = true;
    log_info(LOG_I("helper", h->pid), LOG_S("event", "image_helper_started"),
             LOG_S("confined", m->confined ? "yes" : "no"));
    timer_set(&h->timer, h->cfg->timeout_ms);
    set_state(h, BUSY);
}

static void on_answer(struct image_helper *h, struct image_answer *m, size_t n)
{
    enum image_status st;

    if (n != sizeof(*m) || m->magic != IMAGE_WIRE_MAGIC || m->seq != h->seq || m->status > IMAGE_NO_SPACE ||
        m->size < 0 || m->size > IMAGE_OUTPUT_MAX || (m->status == IMAGE_OK && m->size == 0)) {
        rubbish(h, "that is no answer");
        return;
    }
    m->why[sizeof(m->why) - 1] = '\0';
    for (char *c = m->why; *c; c++)
        if ((unsigned char)*c < 0x20 || (unsigned char)*c > 0x7e)
            *c = '?';
    st = (enum image_status)m->status;
    h->asked = false;
    set_state(h, IDLE);
    if (++h->pictures >= PICTURES_MOST || (st != IMAGE_OK && st != IMAGE_REFUSED && st != IMAGE_NO_SPACE))
        begin_end(h, END_RETIRED); /* what it made of a broken file stays with it */
    else
        timer_set(&h->timer, h->cfg->idle_ms);
    h->done(st, m->size, m->why, h->arg);
    if (h->state == IDLE)
        h->free_again(h->arg);
}

static void on_readable(void *arg)
{
    struct image_helper *h = arg;
    union {
        struct image_hello hello;
        struct image_answer answer;
        char bytes[512];
    } m;
    ssize_t n = recv(h->fd, &m, sizeof(m), MSG_DONTWAIT);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0)
        begin_end(h, END_DIED);
    else if (h->state == STARTING)
        on_hello(h, &m.hello, (size_t)n);
    else if (h->state == BUSY)
        on_answer(h, &m.answer, (size_t)n);
    else
        rubbish(h, "it speaks without being asked");
}

/* --- starting and asking --- */

/* Nothing of our environment but what a loader or a sanitizer may need. */
static void make_env(char *env[6])
{
    static const char *const keep[] = {"LD_LIBRARY_PATH", "ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS"};
    size_t n = 0;

    env[n++] = xstrdup("LC_ALL=C");
    for (size_t i = 0; i < ARRAY_LEN(keep); i++)
        if (getenv(keep[i]))
            env[n++] = xasprintf("%s=%s", keep[i], getenv(keep[i]));
    env[n] = NULL;
}

static int spawn(struct image_helper *h, int theirs)
{
    char *argv[] = {(char *)(uintptr_t)h->cfg->helper, NULL}, *env[6];
    posix_spawn_file_actions_t fa;
    posix_spawnattr_t at;
    sigset_t all, none;
    int r;

    sigfillset(&all);
    sigemptyset(&none);
    posix_spawn_file_actions_init(&fa);
    posix_spawn_file_actions_addopen(&fa, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&fa, 1, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_adddup2(&fa, theirs, IMAGE_WIRE_FD);
    posix_spawnattr_init(&at);
    posix_spawnattr_setsigdefault(&at, &all);
    posix_spawnattr_setsigmask(&at, &none);
    posix_spawnattr_setpgroup(&at, 0); /* a Ctrl-C is for the gateway alone */
    posix_spawnattr_setflags(&at, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETPGROUP);
    make_env(env);
    r = posix_spawn(&h->pid, argv[0], &fa, &at, argv, env);
    for (size_t i = 0; env[i]; i++)
        free(env[i]);
    posix_spawnattr_destroy(&at);
    posix_spawn_file_actions_destroy(&fa);
    if (r != 0) {
        h->pid = 0;
        return err_errno(&h->trouble, r, "cannot start %s", h->cfg->helper);
    }
    return 0;
}

static int start(struct image_helper *h)
{
    int pair[2];

    h->greeted = false;
    h->pictures = 0;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return err_errno(&h->trouble, errno, "cannot make a pair of sockets");
    if (spawn(h, pair[1]) < 0) {
        close(pair[0]);
        close(pair[1]);
        return -1;
    }
    close(pair[1]);
    h->fd = pair[0];
    fd_watch_init(&h->watch, h->loop, h->fd, on_readable, h);
    return 0;
}

static bool ask(struct image_helper *h, int in, int mask, int out, const struct image_want *want)
{
    struct image_ask m = {.magic = IMAGE_WIRE_MAGIC, .seq = ++h->seq, .want = *want};
    int fds[3] = {in, out, mask};
    size_t n = (mask < 0 ? 2 : 3) * sizeof(int);
    union {
        char bytes[CMSG_SPACE(sizeof(fds))];
        struct cmsghdr align;
    } control = {{0}};
    struct iovec piece = {.iov_base = &m, .iov_len = sizeof(m)};
    struct msghdr msg = {
        .msg_iov = &piece, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = CMSG_SPACE(n)};
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(n);
    memcpy(CMSG_DATA(c), fds, n);
    return sendmsg(h->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)sizeof(m);
}

void image_helper_give(struct image_helper *h, int in, int mask, int out, const struct image_want *want)
{
    assert(image_helper_can_take(h));
    h->asked = true;
    if (h->state == IDLE) {
        set_state(h, BUSY);
    } else if (start(h) == 0) {
        set_state(h, STARTING);
    } else {
        begin_end(h, END_UNSPAWNED);
        return;
    }
    timer_set(&h->timer, h->state == STARTING ? h->cfg->start_ms : h->cfg->timeout_ms);
    if (!ask(h, in, mask, out, want))
        begin_end(h, END_DIED);
}

bool image_helper_can_take(const struct image_helper *h)
{
    return h->state == ABSENT || h->state == IDLE;
}

uint64_t image_helper_died(const struct image_helper *h)
{
    return h->died;
}

struct image_helper *image_helper_new(struct loop *l, const struct images_config *cfg,
                                      image_helper_done_cb *done, image_helper_free_cb *free_again, void *arg)
{
    struct image_helper *h = xcalloc(1, sizeof(*h));

    h->loop = l;
    h->cfg = cfg;
    h->done = done;
    h->free_again = free_again;
    h->arg = arg;
    h->fd = -1;
    timer_init(&h->timer, l, on_timer, h);
    return h;
}

void image_helper_free(struct image_helper **hp)
{
    struct image_helper *h = *hp;

    if (h == NULL)
        return;
    *hp = NULL;
    if (h->fd >= 0) {
        fd_watch_fini(&h->watch);
        close(h->fd);
    }
    if (h->pid > 0) {
        kill(h->pid, SIGKILL);
        while (waitpid(h->pid, NULL, 0) < 0 && errno == EINTR)
            ;
    }
    timer_fini(&h->timer);
    free(h);
}
