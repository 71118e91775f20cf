/* Socket addresses as text. */
#ifndef NET_ADDR_H
#define NET_ADDR_H

#include <stddef.h>
#include <sys/socket.h>

#include "base/err.h"

#define ADDR_IP_MAX 64
#define ADDR_MAX 80
#define ADDR_UNIX "unix:"

/* "127.0.0.1" and "127.0.0.1:80", "::1" and "[::1]:80" (IPv4 in IPv6 shows as IPv4), "unix" for both. */
void addr_format(const struct sockaddr_storage *ss, char ip[ADDR_IP_MAX], char full[ADDR_MAX]);
/* The path after "unix:". Refuses one that does not fit. */
int addr_unix(const char *path, struct sockaddr_storage *ss, socklen_t *len, struct err *e) MUST_CHECK;

/* What a listener binds: "HOST:PORT", "[v6]:PORT", ":PORT" (all addresses, IPv4 and IPv6) or "unix:/path".
 * HOST may be a name; looking it up may block, which is for the start of the program. */
struct addr_listen {
    struct sockaddr_storage ss;
    socklen_t len;
    int dual; /* an IPv6 socket that takes IPv4 too */
};
int addr_parse_listen(const char *s, struct addr_listen *out, struct err *e) MUST_CHECK;

#endif
