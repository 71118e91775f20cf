/* The bytes of an open stream: when it wants to read and write, what it does then, and what it tells. */
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <event2/buffer.h>

#include "net/stream_impl.h"
#include "net/tls_impl.h"

enum {
    READ_MAX = 64 * 1024,
    READ_BULK = 32 * 1024,  /* a read this large: the next goes straight into the input buffer */
    INPUT_MAX = 256 * 1024, /* reading pauses by itself */
    WRITE_TURN = 1024 * 1024,
    RESCUE_MAX = 8 * 1024 * 1024, /* input read after our direction died */
};

/* Tell the owner. False: the stream is not open any more, the caller touches nothing but its memory. */
static bool tell(struct stream *s, enum stream_event ev)
{
    if (s->cb)
        s->cb(s, ev, s->arg);
    return stream_is_open(s);
}

/* --- events --- */

static void set_event(struct event *ev, bool want, bool *on, int64_t ms)
{
    struct timeval tv = {.tv_sec = ms / 1000, .tv_usec = (ms % 1000) * 1000};

    if (want == *on)
        return;
    if (want && event_add(ev, ms > 0 ? &tv : NULL) < 0)
        abort(); /* out of memory */
    if (!want)
        event_del(ev);
    *on = want;
}

static bool wants_input(const struct stream *s)
{
    return stream_is_open(s) && !s->paused && !s->full && !s->eof;
}

void stream_arm(struct stream *s)
{
    bool r = false, w = false;

    switch ((enum stream_state)s->state) {
    case STREAM_ST_HANDSHAKE:
        r = s->write_wants_read;
        w = s->read_wants_write;
        break;
    case STREAM_ST_OPEN:
        r = wants_input(s) || s->write_wants_read;
        w = s->blocked || s->read_wants_write;
        break;
    case STREAM_ST_CONNECTING: return; /* stream_open.c has its own timeout on it */
    case STREAM_ST_START:
    case STREAM_ST_LOOKUP:
    case STREAM_ST_FAILED:
    case STREAM_ST_CLOSED: break;
    }
    set_event(&s->rev, r, &s->reading, stream_is_open(s) ? s->read_ms : 0);
    set_event(&s->wev, w, &s->writing, stream_is_open(s) ? s->write_ms : 0);
}

void stream_stop_events(struct stream *s)
{
    set_event(&s->rev, false, &s->reading, 0);
    set_event(&s->wev, false, &s->writing, 0);
}

/* The owner drained while reading stood still. It does so outside of our calls: hence a buffer callback. */
static void on_input_change(struct evbuffer *in, const struct evbuffer_cb_info *info, void *arg)
{
    struct stream *s = arg;

    (void)info;
    if (evbuffer_get_length(in) < INPUT_MAX)
        stream_schedule(s);
}

static void check_full(struct stream *s)
{
    bool full = evbuffer_get_length(s->in) >= INPUT_MAX;

    if (full == s->full)
        return;
    s->full = full;
    if (full) {
        s->in_cb = evbuffer_add_cb(s->in, on_input_change, s);
    } else {
        evbuffer_remove_cb_entry(s->in, s->in_cb);
        s->in_cb = NULL;
    }
}

/* --- reading --- */

enum got { GOT_ALL, GOT_MORE, GOT_EOF, GOT_ERROR };

/* Cut to n bytes in all. */
static void trim(struct evbuffer_iovec *v, int nv, size_t n)
{
    for (int i = 0; i < nv; i++) {
        if (v[i].iov_len > n)
            v[i].iov_len = n;
        n -= v[i].iov_len;
    }
}

static ssize_t read_bulk(struct stream *s)
{
    struct evbuffer_iovec v[2];
    int n = evbuffer_reserve_space(s->in, READ_MAX, v, 2);
    ssize_t got;

    if (n <= 0)
        abort(); /* out of memory */
    trim(v, n, READ_MAX);
    got = readv(s->fd, v, n);
    trim(v, n, got > 0 ? (size_t)got : 0);
    if (got > 0)
        evbuffer_commit_space(s->in, v, n);
    return got;
}

/* Small pieces go through the stack, so that a few bytes of an idle peer do not hold 64 KiB. */
static ssize_t read_small(struct stream *s)
{
    char piece[READ_MAX];
    ssize_t got = read(s->fd, piece, sizeof(piece));

    if (got > 0 && evbuffer_add(s->in, piece, (size_t)got) < 0)
        abort();
    return got;
}

static enum got read_plain(struct stream *s, struct err *e)
{
    ssize_t got = s->bulk ? read_bulk(s) : read_small(s);

    s->bulk = got >= READ_BULK;
    if (got > 0)
        return GOT_MORE;
    if (got == 0)
        return GOT_EOF;
    if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)
        return GOT_ALL;
    e->code = errno;
    e->msg[0] = '\0';
    return GOT_ERROR;
}

static enum got read_tls(struct stream *s, struct err *e)
{
    char piece[READ_MAX];
    size_t have = 0;
    enum got end = GOT_MORE;

    s->read_wants_write = false;
    while (have < sizeof(piece) && end == GOT_MORE) {
        size_t got = 0;

        switch (tls_read(s->ssl, piece + have, sizeof(piece) - have, &got, e)) {
        case TLS_OK: break;
        case TLS_WANT_READ: end = GOT_ALL; break;
        case TLS_WANT_WRITE:
            end = GOT_ALL;
            s->read_wants_write = true;
            break;
        case TLS_EOF: end = GOT_EOF; break;
        case TLS_FAILED: end = GOT_ERROR; break;
        }
        have += got;
    }
    s->look = end == GOT_MORE;
    if (have > 0 && evbuffer_add(s->in, piece, have) < 0)
        abort();
    return end;
}

/* One piece of input, told. False: not open any more. */
static bool read_once(struct stream *s, enum got *end, struct err *e)
{
    size_t had = evbuffer_get_length(s->in);

    *end = s->ssl ? read_tls(s, e) : read_plain(s, e);
    if (s->lingers)
        evbuffer_drain(s->in, evbuffer_get_length(s->in));
    if (evbuffer_get_length(s->in) > had) {
        s->tell_data = false;
        if (!tell(s, STREAM_DATA))
            return false;
    }
    check_full(s);
    return true;
}

static void stream_read(struct stream *s)
{
    enum got end;
    struct err e;

    if (!wants_input(s) || !read_once(s, &end, &e))
        return;
    if (end == GOT_ERROR) {
        stream_fail_err(s, &e);
    } else if (end == GOT_EOF) {
        s->eof = true;
        s->tell_eof = true;
        stream_schedule(s);
    } else if (s->look) {
        stream_schedule(s);
    }
}

/* --- writing --- */

/* Our direction is dead. The peer may have said why before it hung up (an answer to half a request): what it
 * sent is read first, unless the owner does not want input now. */
static void stream_failed_write(struct stream *s, const struct err *why)
{
    struct err e;
    enum got end = GOT_MORE;

    outq_clear(&s->out);
    s->blocked = false;
    for (size_t n = 0; n < RESCUE_MAX && end == GOT_MORE && wants_input(s); n += READ_MAX)
        if (!read_once(s, &end, &e))
            return;
    stream_fail_err(s, why);
}

static ssize_t write_tls(struct stream *s, struct err *e)
{
    char scratch[OUTQ_PIECE];
    size_t n, put = 0;
    const void *p = outq_front(&s->out, scratch, &n, e);

    if (p == NULL)
        return -1;
    s->write_wants_read = false;
    switch (tls_write(s->ssl, p, n, &put, e)) {
    case TLS_OK: break;
    case TLS_WANT_READ: s->write_wants_read = true; return 0;
    case TLS_WANT_WRITE: s->blocked = true; return 0;
    case TLS_EOF:
    case TLS_FAILED: return -1;
    }
    outq_drop(&s->out, put);
    return (ssize_t)put;
}

static ssize_t write_plain(struct stream *s, struct err *e)
{
    ssize_t n = outq_send(&s->out, s->fd, e);

    if (n < 0 && (e->code == EAGAIN || e->code == EWOULDBLOCK || e->code == EINTR))
        n = 0;
    s->blocked = n == 0;
    return n;
}

static void end_direction(struct stream *s)
{
    if (s->ssl) {
        switch (tls_close_notify(s->ssl)) {
        case TLS_WANT_WRITE: s->blocked = true; return;
        case TLS_WANT_READ: s->write_wants_read = true; return;
        case TLS_OK:
        case TLS_EOF:
        case TLS_FAILED: break;
        }
    }
    /* With TLS the socket stays open both ways: a key update may ask for an answer. */
    if (s->ssl == NULL || s->lingers)
        shutdown(s->fd, SHUT_WR);
    s->ended = true;
}

static void stream_flush(struct stream *s)
{
    size_t done = 0;
    bool had_ended = s->ended;
    struct err e;

    while (stream_is_open(s) && !s->blocked && !s->write_wants_read && outq_len(&s->out) > 0) {
        ssize_t n;

        if (done >= WRITE_TURN) {
            s->blocked = true; /* go on next turn: the others want to write, too */
            break;
        }
        /* A TLS record that is half out counts: conservative. */
        s->wrote = s->wrote || s->ssl != NULL;
        n = s->ssl ? write_tls(s, &e) : write_plain(s, &e);
        if (n < 0) {
            stream_failed_write(s, &e);
            return;
        }
        s->wrote = s->wrote || n > 0;
        done += (size_t)n;
    }
    if (stream_is_open(s) && outq_len(&s->out) == 0 && s->ends && !s->ended && !s->blocked &&
        !s->write_wants_read)
        end_direction(s);
    if (s->lingers && s->phase && (done > 0 || s->ended != had_ended))
        timer_set(&s->phase->deadline, s->phase->linger_ms);
}

/* --- the tick: whatever is due, in the order the owner may expect it --- */

/* Closing gracefully is over when both directions have ended. */
static bool linger_is_over(const struct stream *s)
{
    return s->lingers && s->ended && s->eof;
}

/* False: not open any more. */
static bool tell_input(struct stream *s)
{
    if (s->tell_open) {
        s->tell_open = false;
        if (!tell(s, STREAM_OPEN))
            return false;
    }
    check_full(s);
    if (s->tell_data && !s->paused) {
        s->tell_data = false;
        if (evbuffer_get_length(s->in) > 0 && !tell(s, STREAM_DATA))
            return false;
    }
    if (s->look && wants_input(s)) {
        s->look = false;
        stream_read(s);
    }
    if (s->tell_eof && !s->paused && stream_is_open(s)) {
        s->tell_eof = false;
        return tell(s, STREAM_EOF);
    }
    return stream_is_open(s);
}

void stream_tick(void *arg)
{
    struct stream *s = arg;

    if (s->state == STREAM_ST_CLOSED) {
        evbuffer_free(s->in);
        outq_fini(&s->out);
        free(s->peer);
        free(s->error);
        free(s);
        return;
    }
    if (s->state == STREAM_ST_START)
        stream_open_start(s);
    if (s->state == STREAM_ST_FAILED) {
        stream_cb *cb = s->cb;

        s->cb = NULL; /* nothing comes after it */
        if (cb)
            cb(s, STREAM_ERROR, s->arg);
        return;
    }
    if (!stream_is_open(s) || !tell_input(s))
        return;
    stream_flush(s);
    if (stream_is_open(s) && s->above && outq_len(&s->out) <= s->lowat) {
        s->above = false;
        tell(s, STREAM_LOWAT);
    }
    if (linger_is_over(s))
        stream_destroy(s);
    stream_arm(s);
}

void stream_on_readable(evutil_socket_t fd, short what, void *arg)
{
    struct stream *s = arg;

    (void)fd;
    if (s->state == STREAM_ST_HANDSHAKE) {
        stream_open_handshake(s);
        return;
    }
    if (!stream_is_open(s))
        return;
    if (!(what & EV_READ)) {
        if (wants_input(s))
            tell(s, STREAM_TIMEOUT);
        return;
    }
    if (s->write_wants_read) {
        s->write_wants_read = false;
        stream_schedule(s);
    }
    if (s->tell_open || s->tell_data) {
        s->look = true; /* those first */
        stream_schedule(s);
        return;
    }
    stream_read(s);
    stream_arm(s);
}

void stream_on_writable(evutil_socket_t fd, short what, void *arg)
{
    struct stream *s = arg;

    (void)fd;
    if (s->state == STREAM_ST_CONNECTING) {
        if (what & EV_WRITE)
            stream_open_writable(s);
        else
            stream_open_next(s);
        return;
    }
    if (s->state == STREAM_ST_HANDSHAKE) {
        stream_open_handshake(s);
        return;
    }
    if (!stream_is_open(s))
        return;
    if (!(what & EV_WRITE)) {
        tell(s, STREAM_TIMEOUT);
        return;
    }
    s->blocked = false;
    if (s->read_wants_write) {
        s->read_wants_write = false;
        s->look = true;
    }
    stream_schedule(s);
}
