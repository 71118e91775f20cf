/* TLS contexts (OpenSSL 3): loaded once, shared by many streams. */
#ifndef NET_TLS_H
#define NET_TLS_H

#include <stdbool.h>

#include "base/err.h"

struct tls_server;
struct tls_client;

/* PEM files; the certificate file may hold the chain. TLS 1.2 and up, ALPN http/1.1. */
struct tls_server *tls_server_new(const char *cert_file, const char *key_file, struct err *e);
void tls_server_free(struct tls_server **t);
/* ca_file NULL: the system's. verify false accepts any certificate (for a server on one's own network whose
 * certificate is self-signed); the choice is logged by the caller. */
struct tls_client *tls_client_new(const char *ca_file, bool verify, struct err *e);
void tls_client_free(struct tls_client **t);

#endif
