#include "net/outq.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/buffer.h>

#include "base/mem.h"

enum { SEND_MAX = 256 * 1024 };

struct outfile {
    struct outfile *next;
    int fd;
    bool copy; /* sendfile does not work on it */
    off_t off;
    size_t len;
    size_t before; /* bytes of buf between the previous file and this one */
};

void outq_init(struct outq *q)
{
    *q = (struct outq){.buf = evbuffer_new()};
    if (q->buf == NULL)
        abort();
}

size_t outq_len(const struct outq *q)
{
    return evbuffer_get_length(q->buf) + q->file_len;
}

static void pop_file(struct outq *q)
{
    struct outfile *f = q->head;

    q->head = f->next;
    if (q->head == NULL)
        q->tail = NULL;
    q->file_len -= f->len;
    q->before -= f->before;
    close(f->fd);
    free(f);
}

void outq_clear(struct outq *q)
{
    while (q->head)
        pop_file(q);
    evbuffer_drain(q->buf, evbuffer_get_length(q->buf));
}

void outq_fini(struct outq *q)
{
    outq_clear(q);
    evbuffer_free(q->buf);
    q->buf = NULL;
}

void outq_add_file(struct outq *q, int fd, off_t off, size_t len)
{
    struct outfile *f;

    if (len == 0) {
        close(fd);
        return;
    }
    f = xcalloc(1, sizeof(*f));
    f->fd = fd;
    f->off = off;
    f->len = len;
    f->before = evbuffer_get_length(q->buf) - q->before;
    q->before += f->before;
    q->file_len += len;
    if (q->tail)
        q->tail->next = f;
    else
        q->head = f;
    q->tail = f;
}

/* Is a file next? Then the bytes in front of it are gone. */
static bool file_is_next(const struct outq *q)
{
    return q->head && q->head->before == 0;
}

static size_t bytes_next(const struct outq *q)
{
    return q->head ? q->head->before : evbuffer_get_length(q->buf);
}

static void file_advance(struct outq *q, size_t n)
{
    struct outfile *f = q->head;

    f->off += (off_t)n;
    f->len -= n;
    q->file_len -= n;
    if (f->len == 0)
        pop_file(q);
}

static void bytes_advance(struct outq *q, size_t n)
{
    if (q->head) {
        q->head->before -= n;
        q->before -= n;
    }
}

/* 0 bytes from a file that should have more: it was cut while we were sending. */
static ssize_t file_result(ssize_t n, struct err *e)
{
    if (n == 0)
        return err_set(e, EIO, "the file being sent ended early");
    if (n < 0)
        return err_errno(e, errno, "cannot read the file being sent");
    return n;
}

static ssize_t send_error(struct err *e)
{
    e->code = errno;
    e->msg[0] = '\0';
    return -1;
}

static ssize_t send_copied(struct outfile *f, int sock, struct err *e)
{
    char piece[OUTQ_PIECE * 4];
    ssize_t n = pread(f->fd, piece, f->len < sizeof(piece) ? f->len : sizeof(piece), f->off);

    n = file_result(n, e);
    if (n < 0)
        return -1;
    n = send(sock, piece, (size_t)n, MSG_NOSIGNAL);
    return n < 0 ? send_error(e) : n;
}

static ssize_t send_file(struct outq *q, int sock, struct err *e)
{
    struct outfile *f = q->head;
    off_t off = f->off;
    ssize_t n;

    if (!f->copy) {
        n = sendfile(sock, f->fd, &off, f->len < SEND_MAX ? f->len : SEND_MAX);
        if (n == 0)
            return file_result(n, e);
        if (n > 0) {
            file_advance(q, (size_t)n);
            return n;
        }
        if (errno != EINVAL && errno != ENOSYS)
            return send_error(e);
        f->copy = true;
    }
    n = send_copied(f, sock, e);
    if (n > 0)
        file_advance(q, (size_t)n);
    return n;
}

ssize_t outq_send(struct outq *q, int sock, struct err *e)
{
    size_t n;
    ssize_t put;

    if (file_is_next(q))
        return send_file(q, sock, e);
    n = bytes_next(q);
    put = evbuffer_write_atmost(q->buf, sock, n < SEND_MAX ? (ev_ssize_t)n : SEND_MAX);
    if (put < 0)
        return send_error(e);
    bytes_advance(q, (size_t)put);
    return put;
}

const void *outq_front(struct outq *q, char scratch[OUTQ_PIECE], size_t *n, struct err *e)
{
    struct evbuffer_iovec v;
    ssize_t got;
    size_t want;

    if (file_is_next(q)) {
        want = q->head->len < OUTQ_PIECE ? q->head->len : OUTQ_PIECE;
        got = file_result(pread(q->head->fd, scratch, want, q->head->off), e);
        *n = got < 0 ? 0 : (size_t)got;
        return got < 0 ? NULL : scratch;
    }
    want = bytes_next(q);
    if (want > OUTQ_PIECE)
        want = OUTQ_PIECE;
    *n = want;
    if (evbuffer_peek(q->buf, (ev_ssize_t)want, NULL, &v, 1) >= 1 && v.iov_len >= want)
        return v.iov_base;
    evbuffer_copyout(q->buf, scratch, want);
    return scratch;
}

void outq_drop(struct outq *q, size_t n)
{
    if (file_is_next(q)) {
        file_advance(q, n);
        return;
    }
    evbuffer_drain(q->buf, n);
    bytes_advance(q, n);
}
