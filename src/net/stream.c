#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <event2/buffer.h>

#include "base/log.h"
#include "net/stream_impl.h"
#include "net/tls_impl.h"

enum {
    COPY_MAX = 256, /* shared bytes up to this are cheaper copied */
    LOWAT_DEFAULT = 64 * 1024,
};

const char *stream_event_name(enum stream_event ev)
{
    static const char *const names[] = {"open", "data", "lowat", "eof", "error", "timeout"};

    return names[ev];
}

void stream_set_state(struct stream *s, enum stream_state to)
{
    static const char *const names[] = {"start", "lookup", "connecting", "handshake",
                                        "open",  "failed", "closed"};

    assert(to > s->state);
    if (log_wants(LOG_DEBUG))
        log_debug(LOG_S("stream", s->peer), LOG_I("fd", s->fd), LOG_S("from", names[s->state]),
                  LOG_S("to", names[to]), LOG_S("reason", s->error));
    s->state = (unsigned char)to;
}

/* --- life --- */

struct stream *stream_alloc(struct loop *l, stream_cb *cb, void *arg)
{
    struct stream *s = xcalloc(1, sizeof(*s));

    s->loop = l;
    s->cb = cb;
    s->arg = arg;
    s->fd = -1;
    s->lowat = LOWAT_DEFAULT;
    s->in = evbuffer_new();
    if (s->in == NULL)
        abort();
    outq_init(&s->out);
    task_init(&s->tick, stream_tick, s);
    return s;
}

void stream_set_fd(struct stream *s, int fd)
{
    stream_stop_events(s);
    if (s->fd >= 0)
        close(s->fd);
    s->fd = fd;
    if (fd < 0)
        return;
    event_assign(&s->rev, loop_base(s->loop), fd, EV_READ | EV_PERSIST, stream_on_readable, s);
    event_assign(&s->wev, loop_base(s->loop), fd, EV_WRITE | EV_PERSIST, stream_on_writable, s);
}

void stream_set_peer(struct stream *s, const char *ip, const char *full)
{
    size_t n = strlen(full) + 1;

    free(s->peer);
    s->peer = xmalloc(n + strlen(ip) + 1);
    memcpy(s->peer, full, n);
    s->peer_ip = s->peer + n;
    memcpy(s->peer_ip, ip, strlen(ip) + 1);
}

void stream_phase_free(struct stream *s)
{
    struct stream_phase *p = s->phase;

    if (p == NULL)
        return;
    stream_open_cancel_lookup(s);
    timer_fini(&p->deadline);
    list_remove(&p->orphan.link);
    if (p->addrs)
        evutil_freeaddrinfo(p->addrs);
    free(p->host);
    free(p);
    s->phase = NULL;
}

/* Lets go of everything that could call back; the memory goes with the tick. */
void stream_destroy(struct stream *s)
{
    if (s->state == STREAM_ST_CLOSED)
        return;
    s->cb = NULL;
    if (s->ssl) {
        /* Queued output was dropped: then the peer must not take this for the end. */
        if (stream_is_open(s) && outq_len(&s->out) == 0 && !s->ended)
            tls_close_notify(s->ssl);
        tls_session_free(s->ssl);
        s->ssl = NULL;
    }
    stream_phase_free(s);
    stream_set_fd(s, -1);
    outq_clear(&s->out);
    stream_set_state(s, STREAM_ST_CLOSED);
    stream_schedule(s);
}

void stream_fail(struct stream *s, int errnum, const char *text)
{
    if (s->state >= STREAM_ST_FAILED)
        return;
    free(s->error);
    s->error = xstrdup(text);
    s->errnum = errnum;
    stream_stop_events(s);
    stream_phase_free(s);
    outq_clear(&s->out);
    if (s->lingers) {
        stream_destroy(s);
        return;
    }
    stream_set_state(s, STREAM_ST_FAILED);
    stream_schedule(s);
}

void stream_fail_errno(struct stream *s, int errnum)
{
    char buf[128], text[128];
    const char *what = strerror_r(errnum, buf, sizeof(buf));

    snprintf(text, sizeof(text), "%s", what);
    if (text[0] >= 'A' && text[0] <= 'Z' && !(text[1] >= 'A' && text[1] <= 'Z'))
        text[0] = (char)(text[0] - 'A' + 'a');
    stream_fail(s, errnum, text);
}

void stream_fail_err(struct stream *s, const struct err *e)
{
    if (e->msg[0])
        stream_fail(s, e->code, e->msg);
    else
        stream_fail_errno(s, e->code);
}

void stream_close(struct stream **sp)
{
    struct stream *s = *sp;

    *sp = NULL;
    if (s)
        stream_destroy(s);
}

static void orphan_destroy(struct orphan *o)
{
    stream_destroy(container_of(o, struct stream_phase, orphan)->s);
}

void stream_close_gracefully(struct stream **sp, int64_t linger_ms)
{
    struct stream *s = *sp;

    if (s == NULL)
        return;
    *sp = NULL;
    if (s->state >= STREAM_ST_FAILED || (!stream_is_open(s) && outq_len(&s->out) == 0)) {
        stream_destroy(s);
        return;
    }
    s->cb = NULL;
    s->lingers = true;
    s->ends = true;
    s->paused = false;
    s->tell_data = false;
    evbuffer_drain(s->in, evbuffer_get_length(s->in));
    stream_set_timeouts(s, 0, 0);
    if (s->phase == NULL)
        stream_deadline(s, linger_ms > 0 ? linger_ms : 1);
    s->phase->linger_ms = linger_ms > 0 ? linger_ms : 1;
    s->phase->orphan.destroy = orphan_destroy;
    loop_adopt(s->loop, &s->phase->orphan);
    stream_schedule(s);
}

void stream_set_cb(struct stream *s, stream_cb *cb, void *arg)
{
    s->cb = cb;
    s->arg = arg;
    if (evbuffer_get_length(s->in) > 0) {
        s->tell_data = true;
        stream_schedule(s);
    }
}

/* --- what the owner asks for --- */

struct evbuffer *stream_input(struct stream *s)
{
    return s->in;
}

const char *stream_peek(struct stream *s, size_t *n)
{
    *n = 0;
    if (evbuffer_get_length(s->in) == 0 || evbuffer_pullup(s->in, 1) == NULL)
        return NULL;
    *n = evbuffer_get_contiguous_space(s->in);
    return (const char *)evbuffer_pullup(s->in, 1);
}

void stream_pause(struct stream *s)
{
    s->paused = true;
    if (stream_is_open(s))
        stream_arm(s);
}

void stream_resume(struct stream *s)
{
    s->paused = false;
    s->tell_data = evbuffer_get_length(s->in) > 0;
    stream_schedule(s);
}

bool stream_saw_eof(const struct stream *s)
{
    return s->eof;
}

static bool takes_output(const struct stream *s)
{
    assert(!s->ends);
    return s->state < STREAM_ST_FAILED;
}

static void output_grew(struct stream *s)
{
    if (outq_len(&s->out) > s->lowat)
        s->above = true;
    stream_schedule(s);
}

void stream_write(struct stream *s, const void *data, size_t n)
{
    if (n == 0 || !takes_output(s))
        return;
    if (evbuffer_add(s->out.buf, data, n) < 0)
        abort();
    output_grew(s);
}

static void unref_bytes(const void *data, size_t len, void *arg)
{
    (void)data;
    (void)len;
    bytes_unref(arg);
}

void stream_write_bytes(struct stream *s, struct bytes *b)
{
    if (b->len <= COPY_MAX) {
        stream_write(s, b->data, b->len);
        return;
    }
    if (!takes_output(s))
        return;
    if (evbuffer_add_reference(s->out.buf, b->data, b->len, unref_bytes, bytes_ref(b)) < 0)
        abort();
    output_grew(s);
}

void stream_write_buffer(struct stream *s, struct evbuffer *src)
{
    if (!takes_output(s))
        evbuffer_drain(src, evbuffer_get_length(src));
    else if (evbuffer_add_buffer(s->out.buf, src) < 0)
        abort();
    else
        output_grew(s);
}

int stream_write_file(struct stream *s, int fd, off_t off, size_t len, struct err *e)
{
    struct stat st;

    if (fstat(fd, &st) < 0) {
        err_errno(e, errno, "cannot send file");
        close(fd);
        return -1;
    }
    if (!S_ISREG(st.st_mode) || off < 0 || off > st.st_size || len > (size_t)(st.st_size - off)) {
        close(fd);
        return err_set(e, EINVAL, "cannot send file: %s",
                       S_ISREG(st.st_mode) ? "it is shorter than that" : "not a regular file");
    }
    if (!takes_output(s)) {
        close(fd);
        return 0;
    }
    outq_add_file(&s->out, fd, off, len);
    output_grew(s);
    return 0;
}

size_t stream_queued(const struct stream *s)
{
    return outq_len(&s->out);
}

void stream_set_lowat(struct stream *s, size_t n)
{
    s->lowat = n;
    if (outq_len(&s->out) > n)
        s->above = true;
    else if (s->above)
        stream_schedule(s);
}

void stream_shutdown_write(struct stream *s)
{
    s->ends = true;
    stream_schedule(s);
}

static void change_timeout(struct event *ev, bool on, int64_t ms)
{
    struct timeval tv = {.tv_sec = ms / 1000, .tv_usec = (ms % 1000) * 1000};

    if (!on)
        return;
    if (ms > 0)
        event_add(ev, &tv);
    else
        event_remove_timer(ev);
}

void stream_set_timeouts(struct stream *s, int64_t read_ms, int64_t write_ms)
{
    s->read_ms = read_ms;
    s->write_ms = write_ms;
    if (!stream_is_open(s))
        return;
    change_timeout(&s->rev, s->reading, read_ms);
    change_timeout(&s->wev, s->writing, write_ms);
}

const char *stream_error(const struct stream *s)
{
    return s->error ? s->error : "";
}

int stream_errno(const struct stream *s)
{
    return s->errnum;
}

bool stream_never_opened(const struct stream *s)
{
    return !s->wrote;
}

const char *stream_peer(const struct stream *s)
{
    return s->peer;
}

const char *stream_peer_ip(const struct stream *s)
{
    return s->peer_ip;
}

bool stream_is_tls(const struct stream *s)
{
    return s->ssl != NULL;
}

struct loop *stream_loop(const struct stream *s)
{
    return s->loop;
}
