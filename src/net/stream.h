/* A byte stream over TCP or a Unix socket, with TLS or without: the one I/O layer under HTTP and WebSocket.
 *
 * Loop thread only. Input is read in pieces of up to 64 KiB into an evbuffer that the owner drains; output is
 * queued in an evbuffer and written when the socket takes it. Callbacks never fire inside a call to this
 * module, except that stream_resume() may find buffered input on the next turn.
 *
 *   event            when                                                   what is allowed next
 *   STREAM_OPEN      connected and (with TLS) handshake done; also for accepted streams
 *   STREAM_DATA      input grew; the owner drains stream_input() as far as it likes
 *   STREAM_LOWAT     queued output fell to the low-water mark or below, after having been above it
 *   STREAM_EOF       the peer ended its direction, after the last DATA; we may still write
 *   STREAM_ERROR     failed; stream_error() says why. Nothing comes after it; close it
 *   STREAM_TIMEOUT   no input for the read timeout while reading, or no output progress for the write timeout
 *                    while output is queued; the owner decides, the timers go on
 */
#ifndef NET_STREAM_H
#define NET_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/mem.h"
#include "net/loop.h"
#include "net/tls.h"

struct evbuffer;
struct stream;

enum stream_event { STREAM_OPEN, STREAM_DATA, STREAM_LOWAT, STREAM_EOF, STREAM_ERROR, STREAM_TIMEOUT };
typedef void stream_cb(struct stream *s, enum stream_event ev, void *arg);
const char *stream_event_name(enum stream_event ev);

/* Take over a connected descriptor (made non-blocking, closed with the stream). tls NULL: plain. Reading
 * starts at once. STREAM_OPEN follows. */
struct stream *stream_accept(struct loop *l, int fd, struct tls_server *tls, stream_cb *cb, void *arg);
/* Resolve (never blocking the loop) and connect; tries the addresses in turn; connect_ms for all of it,
 * handshake included. host may be a name, an IPv4 or IPv6 address, or "unix:/path". tls NULL: plain; host is
 * verified. */
struct stream *stream_connect(struct loop *l, const char *host, unsigned short port, struct tls_client *tls,
                              int64_t connect_ms, stream_cb *cb, void *arg);
/* No callback after this. Queued output is dropped, the descriptor closed, the memory freed at the end of the
 * turn. *s becomes NULL. */
void stream_close(struct stream **s);
/* Let queued output go out, end our direction, read and drop input until the peer closes or linger_ms is
 * over, then close: so that an answer to a request whose body we did not read is not lost to a reset. The
 * caller is done with it: no callback after this. *s becomes NULL. */
void stream_close_gracefully(struct stream **s, int64_t linger_ms);
void stream_set_cb(struct stream *s, stream_cb *cb, void *arg); /* hand over to a new owner */

/* Input. The owner drains from the buffer; while it holds >= 256 KiB reading pauses by itself. */
struct evbuffer *stream_input(struct stream *s);
/* The first piece of the input where it lies, *n bytes; NULL: there is none. evbuffer_peek() would give an empty piece for
 * ever once space was reserved and nothing came to fill it. Valid until the input is drained or the loop turns. */
const char *stream_peek(struct stream *s, size_t *n);
void stream_pause(struct stream *s);  /* stop reading: back-pressure to the peer. No DATA until resumed */
void stream_resume(struct stream *s); /* if input is buffered a DATA follows next turn */
bool stream_saw_eof(const struct stream *s);

/* Output. Always accepted; the owner keeps it bounded by watching stream_queued() and LOWAT. */
void stream_write(struct stream *s, const void *data, size_t n);  /* copied */
void stream_write_bytes(struct stream *s, struct bytes *b);       /* takes a reference, no copy */
void stream_write_buffer(struct stream *s, struct evbuffer *src); /* moves all of src */
/* len bytes of fd from off; sendfile on plain sockets. Takes over fd. -1 if fd cannot be used (then closed).
 */
int stream_write_file(struct stream *s, int fd, off_t off, size_t len, struct err *e) MUST_CHECK;
size_t stream_queued(const struct stream *s);
void stream_set_lowat(struct stream *s, size_t n); /* default 64 KiB */
void stream_shutdown_write(struct stream *s);      /* after what is queued */

void stream_set_timeouts(struct stream *s, int64_t read_ms, int64_t write_ms); /* 0 = none, the default */
const char *
stream_error(const struct stream *s);     /* "connection reset by peer", "certificate has expired" ... */
int stream_errno(const struct stream *s); /* 0 when not from the system */
/* True while nothing of what was written can have reached the peer's TCP: refused, unreachable, resolve
 * failed, handshake failed. Says whether a request provably did not start. */
bool stream_never_opened(const struct stream *s);
const char *stream_peer(const struct stream *s); /* "127.0.0.1:4711", "[::1]:4711", "unix" */
const char *stream_peer_ip(const struct stream *s);
bool stream_is_tls(const struct stream *s);
struct loop *stream_loop(const struct stream *s);

/* Listening sockets. addr "HOST:PORT", "[v6]:PORT", ":PORT" or "unix:/path"; port 0 picks a free one. */
struct listener;
typedef void listener_cb(struct listener *ln, int fd, void *arg); /* takes over fd */
struct listener *listener_open(struct loop *l, const char *addr, listener_cb *cb, void *arg, struct err *e);
struct listener *listener_from_fd(struct loop *l, int fd, listener_cb *cb, void *arg, struct err *e);
/* When descriptors run out accepting pauses for a moment and goes on: logged once, never a busy loop. */
void listener_pause(struct listener *ln);
void listener_resume(struct listener *ln);
const char *listener_addr(const struct listener *ln); /* the address really bound, "127.0.0.1:8280" */
void listener_close(struct listener **ln);

#endif
