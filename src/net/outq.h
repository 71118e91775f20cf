/* What a stream has still to write: bytes and pieces of files, in order. */
#ifndef NET_OUTQ_H
#define NET_OUTQ_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/err.h"

struct evbuffer;
struct outfile;

struct outq {
    struct evbuffer *buf;        /* all queued bytes that are not of files */
    struct outfile *head, *tail; /* each knows how many bytes of buf go before it */
    size_t before;               /* sum of those */
    size_t file_len;             /* bytes of files still to write */
};

#define OUTQ_PIECE 16384 /* one TLS record */

void outq_init(struct outq *q);
void outq_fini(struct outq *q);
void outq_clear(struct outq *q); /* drop everything */
size_t outq_len(const struct outq *q);
void outq_add_file(struct outq *q, int fd, off_t off, size_t len); /* takes over fd */
/* Write some of the front to a plain socket. Bytes written, or -1: with a message a file failed, without one
 * the socket did (code EAGAIN: it is full). e is not NULL. */
ssize_t outq_send(struct outq *q, int sock, struct err *e);
/* The front as memory, at most OUTQ_PIECE bytes, in scratch if it is not contiguous. Asked again before
 * outq_drop() it begins with the same bytes and is not shorter. NULL: a file failed, e filled. */
const void *outq_front(struct outq *q, char scratch[OUTQ_PIECE], size_t *n, struct err *e);
void outq_drop(struct outq *q, size_t n); /* n bytes of what outq_front() gave */

#endif
