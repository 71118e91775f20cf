/* TLS sessions for streams; not for other rooms. Every call does one step on a non-blocking socket. */
#ifndef NET_TLS_IMPL_H
#define NET_TLS_IMPL_H

#include <stddef.h>
#include <stdint.h>

#include "net/tls.h"

struct ssl_st;

enum tls_step {
    TLS_OK,
    TLS_WANT_READ,  /* again when the socket is readable */
    TLS_WANT_WRITE, /* again when it is writable, with the same bytes */
    TLS_EOF,        /* the peer sent close_notify */
    TLS_FAILED      /* err has the reason */
};

/* The session keeps what it needs: the context may be freed before it. */
struct ssl_st *tls_session_server(struct tls_server *t);
/* host: what the certificate is checked against and what is asked for (SNI, not for addresses). */
struct ssl_st *tls_session_client(struct tls_client *t, const char *host);
void tls_session_free(struct ssl_st *ssl);
void tls_session_set_fd(struct ssl_st *ssl, int fd);

enum tls_step tls_handshake(struct ssl_st *ssl, struct err *e);
enum tls_step tls_read(struct ssl_st *ssl, void *data, size_t max, size_t *got, struct err *e);
enum tls_step tls_write(struct ssl_st *ssl, const void *data, size_t n, size_t *put, struct err *e);
/* Say that we write no more. */
enum tls_step tls_close_notify(struct ssl_st *ssl);

/* How long an accepted peer may take for its handshake. 10 s; tests make it shorter. */
int64_t tls_server_handshake_ms(const struct tls_server *t);
void tls_server_set_handshake_ms(struct tls_server *t, int64_t ms);

#endif
