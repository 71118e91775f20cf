#include "net/addr.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "base/mem.h"

void addr_format(const struct sockaddr_storage *ss, char ip[ADDR_IP_MAX], char full[ADDR_MAX])
{
    if (ss->ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)ss;

        inet_ntop(AF_INET, &in->sin_addr, ip, ADDR_IP_MAX);
        snprintf(full, ADDR_MAX, "%.63s:%u", ip, ntohs(in->sin_port));
    } else if (ss->ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)ss;
        unsigned port = ntohs(in6->sin6_port);

        if (IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr)) {
            inet_ntop(AF_INET, &in6->sin6_addr.s6_addr[12], ip, ADDR_IP_MAX);
            snprintf(full, ADDR_MAX, "%.63s:%u", ip, port);
        } else {
            inet_ntop(AF_INET6, &in6->sin6_addr, ip, ADDR_IP_MAX);
            snprintf(full, ADDR_MAX, "[%.63s]:%u", ip, port);
        }
    } else {
        snprintf(ip, ADDR_IP_MAX, "unix");
        snprintf(full, ADDR_MAX, "unix");
    }
}

int addr_unix(const char *path, struct sockaddr_storage *ss, socklen_t *len, struct err *e)
{
    struct sockaddr_un *un = (struct sockaddr_un *)ss;
    size_t n = strlen(path);

    memset(ss, 0, sizeof(*ss));
    if (n == 0)
        return err_set(e, 0, "unix: needs a path");
    if (n >= sizeof(un->sun_path))
        return err_set(e, 0, "socket path is longer than %zu bytes: %s", sizeof(un->sun_path) - 1, path);
    un->sun_family = AF_UNIX;
    memcpy(un->sun_path, path, n + 1);
    *len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n + 1);
    return 0;
}

static int parse_port(const char *s, unsigned *port)
{
    unsigned long v = 0;

    if (*s == '\0' || strlen(s) > 5)
        return -1;
    for (; *s; s++) {
        if (*s < '0' || *s > '9')
            return -1;
        v = v * 10 + (unsigned long)(*s - '0');
    }
    if (v > 65535)
        return -1;
    *port = (unsigned)v;
    return 0;
}

static void listen_any(unsigned port, struct addr_listen *out)
{
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&out->ss;

    in6->sin6_family = AF_INET6;
    in6->sin6_addr = in6addr_any;
    in6->sin6_port = htons((unsigned short)port);
    out->len = sizeof(*in6);
    out->dual = 1;
}

static int listen_host(const char *host, unsigned port, struct addr_listen *out, struct err *e)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV}, *ai;
    char service[8];
    int rc;

    snprintf(service, sizeof(service), "%u", port);
    rc = getaddrinfo(host, service, &hints, &ai);
    if (rc != 0)
        return err_set(e, 0, "cannot resolve %s: %s", host, gai_strerror(rc));
    memcpy(&out->ss, ai->ai_addr, ai->ai_addrlen);
    out->len = ai->ai_addrlen;
    freeaddrinfo(ai);
    return 0;
}

int addr_parse_listen(const char *s, struct addr_listen *out, struct err *e)
{
    const char *colon = strrchr(s, ':');
    size_t n;
    unsigned port;
    char *host;
    int rc;

    memset(out, 0, sizeof(*out));
    if (strncmp(s, ADDR_UNIX, strlen(ADDR_UNIX)) == 0)
        return addr_unix(s + strlen(ADDR_UNIX), &out->ss, &out->len, e);
    if (colon == NULL || parse_port(colon + 1, &port) < 0)
        return err_set(e, 0, "'%s' is no address to listen on: HOST:PORT, [IPv6]:PORT, :PORT or unix:/path",
                       s);
    n = (size_t)(colon - s);
    if (n == 0 || (n == 1 && *s == '*')) {
        listen_any(port, out);
        return 0;
    }
    if (*s == '[' && n > 2 && s[n - 1] == ']')
        host = xstrndup(s + 1, n - 2);
    else if (memchr(s, ':', n) != NULL)
        return err_set(e, 0, "'%s': an IPv6 address is written in brackets", s);
    else
        host = xstrndup(s, n);
    rc = listen_host(host, port, out, e);
    free(host);
    return rc;
}
