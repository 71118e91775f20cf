/* What HTTP/1.1 messages on both sides share: methods, header lists, status texts, limits. */
#ifndef HTTP_HTTP_H
#define HTTP_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

enum http_method {
    HTTP_GET,
    HTTP_HEAD,
    HTTP_POST,
    HTTP_PUT,
    HTTP_DELETE,
    HTTP_PATCH,
    HTTP_OPTIONS,
    HTTP_OTHER
};
const char *http_method_name(enum http_method m);

/* Header fields in order of arrival, names as they came, values trimmed. Values may hold bytes above 127
 * (ComfyUI puts raw UTF-8 into Content-Disposition). All text lives in one buffer. */
struct http_header {
    const char *name, *value; /* NUL-terminated; no NUL, CR or LF inside */
    size_t value_len;
};
struct http_headers {
    struct http_header *v;
    size_t n, cap;
    char *text; /* owned */
    size_t text_len, text_cap;
};
void http_headers_init(struct http_headers *h);
void http_headers_fini(struct http_headers *h);
/* The first of that name (case-insensitive), or NULL. */
const char *http_headers_get(const struct http_headers *h, const char *name);
/* Does a comma-separated list field hold this token, over all fields of that name? */
bool http_headers_has_token(const struct http_headers *h, const char *name, const char *token);
/* Copies. Refuses (returns -1, nothing added) CR, LF and NUL in either, and a name that is no token. */
int http_headers_add(struct http_headers *h, const char *name, const char *value);

const char *http_status_text(int status);
/* "Sun, 06 Nov 1994 08:49:37 GMT" <-> seconds since the epoch; parse returns -1 for what is no date. */
void http_date(int64_t sec, char out[30]);
int64_t http_date_parse(const char *s);

/* Percent-decoding of a path or query value, appended to out. plus: '+' is a space (query). -1 for a broken
 * escape, NUL, or bytes that are not UTF-8. */
int http_unescape(const char *s, size_t n, bool plus, struct buf *out);
/* Everything but unreserved characters and, with slash, '/' is escaped. Appended. */
void http_escape(const char *s, size_t n, bool slash, struct buf *out);
/* The first value of key in "a=1&b=2", decoded and appended to out; false if absent or undecodable. */
bool http_query_get(const char *query, const char *key, struct buf *out);
bool http_query_has(const char *query, const char *key);

/* http://host:port/base or https://...; the pieces are copied. */
struct http_url {
    bool tls;
    char *host;          /* no brackets */
    unsigned short port; /* default filled in */
    char *base;          /* path prefix without trailing slash, "" if none */
    char *authority;     /* for the Host field: brackets kept, default port left out */
    char *userinfo;      /* "user:pass" decoded, or NULL */
};
int http_url_parse(const char *s, struct http_url *u, struct err *e) MUST_CHECK;
void http_url_fini(struct http_url *u);

#endif
