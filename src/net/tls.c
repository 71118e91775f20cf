#include "net/tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "base/mem.h"
#include "net/tls_impl.h"

enum { HANDSHAKE_MS = 10000 };

struct tls_server {
    SSL_CTX *ctx;
    int64_t handshake_ms;
};

struct tls_client {
    SSL_CTX *ctx;
};

static const unsigned char alpn_http11[] = "\x08http/1.1";
enum { ALPN_LEN = sizeof(alpn_http11) - 1 };

/* --- contexts --- */

/* The first entry of OpenSSL's queue is the cause; the rest tell who passed it on. */
static int err_openssl(struct err *e, const char *what, const char *name)
{
    unsigned long code = ERR_peek_error();
    const char *reason = ERR_reason_error_string(code);

    err_set(e, ERR_SYSTEM_ERROR(code) ? ERR_GET_REASON(code) : 0, "%s %s: %s", what, name,
            ERR_SYSTEM_ERROR(code) ? strerror(ERR_GET_REASON(code))
            : reason               ? reason
                                   : "unknown error");
    ERR_clear_error();
    return -1;
}

/* Never ask on the terminal. */
static int no_password(char *buf, int size, int rwflag, void *arg)
{
    (void)buf;
    (void)size;
    (void)rwflag;
    (void)arg;
    return -1;
}

static SSL_CTX *context_new(const SSL_METHOD *method, struct err *e)
{
    SSL_CTX *ctx = SSL_CTX_new(method);

    if (ctx == NULL) {
        err_openssl(e, "cannot set up", "TLS");
        return NULL;
    }
    SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    /* Output waits in a queue that may move; idle sessions give their buffers back. */
    SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                              SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_read_ahead(ctx, 1);
    SSL_CTX_set_default_passwd_cb(ctx, no_password);
    return ctx;
}

static int select_alpn(SSL *ssl, const unsigned char **out, unsigned char *outlen, const unsigned char *in,
                       unsigned inlen, void *arg)
{
    unsigned char *chosen = NULL;

    (void)ssl;
    (void)arg;
    if (SSL_select_next_proto(&chosen, outlen, alpn_http11, ALPN_LEN, in, inlen) != OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

static int load_identity(SSL_CTX *ctx, const char *cert_file, const char *key_file, struct err *e)
{
    ERR_clear_error();
    if (SSL_CTX_use_certificate_chain_file(ctx, cert_file) != 1)
        return err_openssl(e, "cannot use certificate file", cert_file);
    if (SSL_CTX_use_PrivateKey_file(ctx, key_file, SSL_FILETYPE_PEM) != 1)
        return err_openssl(e, "cannot use key file", key_file);
    if (SSL_CTX_check_private_key(ctx) != 1)
        return err_openssl(e, "certificate does not belong to key file", key_file);
    return 0;
}

struct tls_server *tls_server_new(const char *cert_file, const char *key_file, struct err *e)
{
    struct tls_server *t = xcalloc(1, sizeof(*t));

    t->handshake_ms = HANDSHAKE_MS;
    t->ctx = context_new(TLS_server_method(), e);
    if (t->ctx == NULL || load_identity(t->ctx, cert_file, key_file, e) < 0) {
        tls_server_free(&t);
        return NULL;
    }
    SSL_CTX_set_alpn_select_cb(t->ctx, select_alpn, NULL);
    return t;
}

void tls_server_free(struct tls_server **t)
{
    if (*t == NULL)
        return;
    SSL_CTX_free((*t)->ctx);
    free(*t);
    *t = NULL;
}

int64_t tls_server_handshake_ms(const struct tls_server *t)
{
    return t->handshake_ms;
}

void tls_server_set_handshake_ms(struct tls_server *t, int64_t ms)
{
    t->handshake_ms = ms;
}

static int load_trust(SSL_CTX *ctx, const char *ca_file, struct err *e)
{
    ERR_clear_error();
    if (ca_file == NULL) {
        if (SSL_CTX_set_default_verify_paths(ctx) != 1)
            return err_openssl(e, "cannot use", "the system's CA certificates");
    } else if (SSL_CTX_load_verify_file(ctx, ca_file) != 1) {
        return err_openssl(e, "cannot use CA file", ca_file);
    }
    return 0;
}

struct tls_client *tls_client_new(const char *ca_file, bool verify, struct err *e)
{
    struct tls_client *t = xcalloc(1, sizeof(*t));

    t->ctx = context_new(TLS_client_method(), e);
    if (t->ctx == NULL || ((verify || ca_file) && load_trust(t->ctx, ca_file, e) < 0)) {
        tls_client_free(&t);
        return NULL;
    }
    SSL_CTX_set_verify(t->ctx, verify ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, NULL);
    SSL_CTX_set_session_cache_mode(t->ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_alpn_protos(t->ctx, alpn_http11, ALPN_LEN); /* returns 0 for success */
    return t;
}

void tls_client_free(struct tls_client **t)
{
    if (*t == NULL)
        return;
    SSL_CTX_free((*t)->ctx);
    free(*t);
    *t = NULL;
}

/* --- sessions --- */

static SSL *session_new(SSL_CTX *ctx)
{
    SSL *ssl = SSL_new(ctx);

    if (ssl == NULL)
        abort(); /* out of memory */
    return ssl;
}

struct ssl_st *tls_session_server(struct tls_server *t)
{
    SSL *ssl = session_new(t->ctx);

    SSL_set_accept_state(ssl);
    return ssl;
}

static bool is_address(const char *host)
{
    struct in6_addr a;

    return inet_pton(AF_INET, host, &a) == 1 || inet_pton(AF_INET6, host, &a) == 1;
}

struct ssl_st *tls_session_client(struct tls_client *t, const char *host)
{
    SSL *ssl = session_new(t->ctx);
    int ok;

    SSL_set_connect_state(ssl);
    if (strncmp(host, "unix:", 5) == 0)
        host = "localhost";
    if (is_address(host)) {
        ok = X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host);
    } else {
        SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
        ok = SSL_set1_host(ssl, host) && SSL_set_tlsext_host_name(ssl, host);
    }
    if (!ok) /* a name that OpenSSL refuses must not go unverified: nothing matches this one */
        SSL_set1_host(ssl, "invalid.");
    ERR_clear_error();
    return ssl;
}

void tls_session_free(struct ssl_st *ssl)
{
    SSL_free(ssl);
}

void tls_session_set_fd(struct ssl_st *ssl, int fd)
{
    if (SSL_set_fd(ssl, fd) != 1)
        abort(); /* out of memory */
}

/* --- steps --- */

static const char *certificate_fault(SSL *ssl)
{
    long v = SSL_get_verify_result(ssl);

    if (SSL_is_server(ssl) || v == X509_V_OK || SSL_get_verify_mode(ssl) == SSL_VERIFY_NONE)
        return NULL;
    return X509_verify_cert_error_string(v);
}

static bool is_not_tls(int reason)
{
    return reason == SSL_R_WRONG_VERSION_NUMBER || reason == SSL_R_HTTP_REQUEST ||
           reason == SSL_R_UNKNOWN_PROTOCOL || reason == SSL_R_PACKET_LENGTH_TOO_LONG;
}

static enum tls_step fail_protocol(SSL *ssl, bool handshake, struct err *e)
{
    unsigned long code = ERR_peek_error();
    const char *text = ERR_reason_error_string(code), *fault = certificate_fault(ssl);
    int reason = ERR_GET_LIB(code) == ERR_LIB_SSL ? ERR_GET_REASON(code) : 0;

    if (reason == SSL_R_CERTIFICATE_VERIFY_FAILED && fault)
        err_set(e, 0, "%s", fault);
    else if (reason == SSL_R_UNEXPECTED_EOF_WHILE_READING)
        err_set(e, ECONNRESET, "%s",
                handshake ? "connection closed during the TLS handshake"
                          : "connection cut without TLS close_notify");
    else if (handshake && is_not_tls(reason))
        err_set(e, 0, "the peer does not speak TLS (%s)", text);
    else
        err_set(e, 0, "TLS: %s", text ? text : "protocol error");
    ERR_clear_error();
    return TLS_FAILED;
}

/* ret: what the OpenSSL call returned, <= 0. saved: errno right after it. A session that failed counts as
 * unfinished for OpenSSL, hence handshake. */
static enum tls_step step_of(SSL *ssl, int ret, int saved, bool handshake, struct err *e)
{
    switch (SSL_get_error(ssl, ret)) {
    case SSL_ERROR_WANT_READ: return TLS_WANT_READ;
    case SSL_ERROR_WANT_WRITE: return TLS_WANT_WRITE;
    case SSL_ERROR_ZERO_RETURN: return TLS_EOF;
    case SSL_ERROR_SYSCALL:
        if (ERR_peek_error() == 0) {
            e->code = saved ? saved : ECONNRESET; /* the stream has the system's text for it */
            e->msg[0] = '\0';
            return TLS_FAILED;
        }
        return fail_protocol(ssl, handshake, e);
    default: return fail_protocol(ssl, handshake, e);
    }
}

enum tls_step tls_handshake(struct ssl_st *ssl, struct err *e)
{
    enum tls_step step;
    int n;

    ERR_clear_error();
    errno = 0;
    n = SSL_do_handshake(ssl);
    if (n == 1)
        return TLS_OK;
    step = step_of(ssl, n, errno, true, e);
    if (step == TLS_EOF) {
        err_set(e, ECONNRESET, "connection closed during the TLS handshake");
        return TLS_FAILED;
    }
    return step;
}

enum tls_step tls_read(struct ssl_st *ssl, void *data, size_t max, size_t *got, struct err *e)
{
    int n;

    ERR_clear_error();
    errno = 0;
    n = SSL_read_ex(ssl, data, max, got);
    return n > 0 ? TLS_OK : step_of(ssl, n, errno, false, e);
}

enum tls_step tls_write(struct ssl_st *ssl, const void *data, size_t n, size_t *put, struct err *e)
{
    int ok;

    ERR_clear_error();
    errno = 0;
    ok = SSL_write_ex(ssl, data, n, put);
    return ok > 0 ? TLS_OK : step_of(ssl, ok, errno, false, e);
}

enum tls_step tls_close_notify(struct ssl_st *ssl)
{
    struct err e;
    int n;

    if (!SSL_is_init_finished(ssl))
        return TLS_FAILED;
    ERR_clear_error();
    errno = 0;
    n = SSL_shutdown(ssl);
    if (n >= 0)
        return TLS_OK;
    return step_of(ssl, n, errno, false, &e);
}
