/* Files: conditional requests and ranges (RFC 9110 §13 and §14, as far as ComfyUI's /view has them). */
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/log.h"
#include "http/http_char.h"
#include "http/server_impl.h"

static const char *skip_weak(const char *tag)
{
    return tag[0] == 'W' && tag[1] == '/' ? tag + 2 : tag;
}

/* Is etag in the list? strong: W/ is not equal to anything; else it makes no difference. A list that is not well formed
 * ends where it is not. */
static bool etag_in(const char *list, const char *etag, bool strong)
{
    const char *want = skip_weak(etag);
    size_t n = strlen(want);

    for (const char *s = list;;) {
        const char *end;
        bool weak;

        s += strspn(s, " \t,");
        weak = *s == 'W';
        s = skip_weak(s);
        if (*s != '"' || (end = strchr(s + 1, '"')) == NULL)
            return false;
        if ((size_t)(end + 1 - s) == n && memcmp(s, want, n) == 0 && !(strong && weak))
            return true;
        s = end + 1;
    }
}

bool http_not_modified(const struct http_req *r, const char *etag, int64_t mtime)
{
    const struct http_headers *h = &r->head->headers;
    const char *since = http_headers_get(h, "If-Modified-Since");
    bool none_match = false;
    int64_t t;

    if (r->head->method != HTTP_GET && r->head->method != HTTP_HEAD)
        return false;
    for (size_t i = 0; i < h->n; i++) {
        if (strcasecmp(h->v[i].name, "If-None-Match") != 0)
            continue;
        none_match = true;
        if (strcmp(h->v[i].value, "*") == 0 || (etag && etag_in(h->v[i].value, etag, false)))
            return true;
    }
    if (none_match || since == NULL || mtime <= 0) /* If-None-Match given: the date does not count */
        return false;
    t = http_date_parse(since);
    return t >= 0 && mtime <= t;
}

/* Is the file no longer the one that the client means? RFC 9110 §13.1.1 and §13.1.4; a date is not looked at beside
 * If-Match. */
static bool precondition_failed(const struct http_req *r, const struct http_file *f)
{
    const char *match = http_req_header(r, "If-Match"), *since = http_req_header(r, "If-Unmodified-Since");
    int64_t t;

    if (match) /* strong comparison: ours are strong, and a weak one in the list is like none */
        return strcmp(match, "*") != 0 && !(f->etag && f->etag[0] == '"' && etag_in(match, f->etag, true));
    t = since ? http_date_parse(since) : -1;
    return t >= 0 && f->mtime > t;
}

/* May the range be served? With If-Range only if the file is still the one the client has a part of. */
static bool if_range_holds(const struct http_req *r, const struct http_file *f)
{
    const char *v = http_req_header(r, "If-Range");

    if (v == NULL)
        return true;
    if (*v == '"' || *v == 'W') /* strong comparison: two weak ones are never equal */
        return f->etag && f->etag[0] == '"' && strcmp(v, f->etag) == 0;
    return f->mtime > 0 && http_date_parse(v) == f->mtime;
}

/* Digits, held at the largest number. NULL if there is none. */
static const char *number(const char *s, int64_t *out)
{
    if (!http_is_digit((unsigned char)*s))
        return NULL;
    for (*out = 0; http_is_digit((unsigned char)*s); s++)
        if (__builtin_mul_overflow(*out, 10, out) || __builtin_add_overflow(*out, *s - '0', out))
            *out = INT64_MAX;
    return s;
}

enum range { RANGE_NONE, RANGE_ONE, RANGE_BAD };

/* "bytes=a-b", "bytes=a-" or "bytes=-n", nothing else: several ranges, other units and what is not well
 * formed are 416 as at ComfyUI. */
static enum range range_parse(const struct http_req *r, int64_t size, int64_t *first, int64_t *last)
{
    const struct http_headers *h = &r->head->headers;
    const char *s = http_headers_get(h, "Range");
    int64_t n;

    for (size_t i = 0, seen = 0; i < h->n; i++)
        if (strcasecmp(h->v[i].name, "Range") == 0 && seen++)
            return RANGE_BAD;
    if (s == NULL)
        return RANGE_NONE;
    if (strncasecmp(s, "bytes=", 6) != 0)
        return RANGE_BAD;
    s += 6;
    *last = size - 1;
    if (*s == '-') {
        s = number(s + 1, &n);
        if (s == NULL || *s || n == 0)
            return RANGE_BAD;
        *first = n < size ? size - n : 0;
    } else {
        s = number(s, first);
        if (s == NULL || *s++ != '-')
            return RANGE_BAD;
        if (*s) {
            s = number(s, &n);
            if (s == NULL || *s || n < *first)
                return RANGE_BAD;
            if (n < *last)
                *last = n;
        }
    }
    return *first < size ? RANGE_ONE : RANGE_BAD;
}

static void put_validators(struct http_req *r, const struct http_file *f)
{
    char date[30];

    if (f->etag)
        http_set(r, "Etag", f->etag);
    if (f->mtime > 0) {
        http_date(f->mtime, date);
        http_set(r, "Last-Modified", date);
    }
}

void http_reply_file(struct http_req *r, int status, const struct http_file *f)
{
    int64_t first = 0, last = f->size - 1;
    enum range range = RANGE_NONE;
    bool whole = status != 200 || f->whole;
    struct err e;

    if (!whole && precondition_failed(r, f)) {
        close(f->fd);
        http_reply(r, 412, f->type, "", 0);
        return;
    }
    if (!whole && http_not_modified(r, f->etag, f->mtime)) {
        close(f->fd);
        put_validators(r, f);
        http_reply(r, 304, f->type, "", 0);
        return;
    }
    if (!whole && r->head->method == HTTP_GET && if_range_holds(r, f))
        range = range_parse(r, f->size, &first, &last);
    if (range == RANGE_BAD) {
        close(f->fd);
        http_setf(r, "Content-Range", "bytes */%lld", (long long)f->size);
        http_start(r, 416, f->type, -1); /* as aiohttp frames it */
        http_end(r);
        return;
    }
    put_validators(r, f);
    if (!f->whole)
        http_set(r, "Accept-Ranges", "bytes");
    if (range == RANGE_ONE)
        http_setf(r, "Content-Range", "bytes %lld-%lld/%lld", (long long)first, (long long)last,
                  (long long)f->size);
    http_start(r, range == RANGE_ONE ? 206 : status, f->type, last - first + 1);
    if (req_send_file(r, f->fd, first, last - first + 1, &e) < 0) {
        log_error(LOG_I("conn", r->conn->id), LOG_S("path", r->head->path), LOG_S("reason", e.msg));
        http_abort(r);
        return;
    }
    http_end(r);
}
