#include "http/http_parse.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* llhttp.h and http.h both have an enumerator HTTP_GET. Ours are the ones used here. */
#define HTTP_GET LLHTTP_GET
#define HTTP_HEAD LLHTTP_HEAD
#define HTTP_POST LLHTTP_POST
#define HTTP_PUT LLHTTP_PUT
#define HTTP_DELETE LLHTTP_DELETE
#define HTTP_PATCH LLHTTP_PATCH
#define HTTP_OPTIONS LLHTTP_OPTIONS
#include <llhttp.h>
#undef HTTP_GET
#undef HTTP_HEAD
#undef HTTP_POST
#undef HTTP_PUT
#undef HTTP_DELETE
#undef HTTP_PATCH
#undef HTTP_OPTIONS

#include "http/http_char.h"

enum {
    METHOD_MAX = 24,      /* the longest name that llhttp knows has 13 */
    BLANK_LINES_MAX = 4,  /* before a request: RFC 9112 §2.2 asks to skip "at least one" */
    REASON_MAX = 512,     /* a response's reason phrase */
    CHUNK_LINE_MAX = 256, /* size and extensions of one chunk */
    CHUNK_EXT_MAX = 4096, /* all extensions of one message: they are work without payload */
    CHUNK_DIGITS_MAX = 15 /* sizes below 2^60 */
};

/* Where the scanner is.
 *
 *   BLANK -> METHOD -> TARGET -> VERSION -+-> LINE_LF -> FIELD -> NAME -> VALUE -> LINE_LF ...
 *   STATUS -------------------------------+                `-> HEAD_LF -> (HEAD event)
 *
 *   then  LENGTH | UNTIL_EOF | SIZE -> EXT -> SIZE_LF -> DATA -> DATA_CR -> DATA_LF -> SIZE ...
 *                                                `(0)-> FIELD ... HEAD_LF (the trailers)      -> ENDED ->
 * OVER
 */
enum scan {
    SCAN_BLANK,
    SCAN_BLANK_LF,
    SCAN_METHOD,
    SCAN_TARGET,
    SCAN_VERSION,
    SCAN_STATUS,
    SCAN_LINE_LF,
    SCAN_FIELD,
    SCAN_NAME,
    SCAN_VALUE,
    SCAN_HEAD_LF,
    SCAN_LENGTH,
    SCAN_UNTIL_EOF,
    SCAN_SIZE,
    SCAN_EXT,
    SCAN_SIZE_LF,
    SCAN_DATA,
    SCAN_DATA_CR,
    SCAN_DATA_LF,
    SCAN_ENDED, /* END is due */
    SCAN_OVER,  /* END has been given */
    SCAN_FAILED
};

struct http_parser {
    enum http_parse_kind kind;
    enum scan scan;
    bool in_trailer, no_body;
    struct http_parse_limits lim;
    unsigned blank, fields;
    size_t part; /* bytes of the token, line or chunk line being scanned */
    size_t target_n;
    size_t head_n; /* bytes of the head (or of the trailers) so far */
    size_t ext_n;
    int64_t left;    /* body or chunk bytes to come */
    struct buf text; /* the head as it came; becomes head.headers.text */
    struct http_head head;
    bool have_head;
    int status;
    const char *why;

    llhttp_t ll;
    const char *ll_body;
    size_t ll_body_n;
    bool ll_head, ll_end;
};

/* --- llhttp: the second lock --- */

static const char ll_refuses[] = "llhttp refuses a chunk or the trailers";

static bool response_is_bare(const struct http_parser *p, int status)
{
    return p->kind == HTTP_PARSE_RESPONSE && (p->no_body || status < 200 || status == 204 || status == 304);
}

static int on_ll_head(llhttp_t *ll)
{
    struct http_parser *p = ll->data;

    p->ll_head = true;
    return response_is_bare(p, ll->status_code); /* 1: there is no body, whatever the fields say */
}

static int on_ll_body(llhttp_t *ll, const char *at, size_t n)
{
    struct http_parser *p = ll->data;

    if (p->ll_body == NULL)
        p->ll_body = at;
    p->ll_body_n += n;
    return 0;
}

static int on_ll_end(llhttp_t *ll)
{
    struct http_parser *p = ll->data;

    p->ll_end = true;
    return HPE_PAUSED;
}

static const llhttp_settings_t ll_settings = {
    .on_headers_complete = on_ll_head, .on_body = on_ll_body, .on_message_complete = on_ll_end};

static enum http_parse_event fail(struct http_parser *p, int status, const char *why)
{
    p->scan = SCAN_FAILED;
    p->status = p->kind == HTTP_PARSE_REQUEST ? status : 400;
    p->why = why;
    return HTTP_PARSE_ERROR;
}

/* Give llhttp bytes that the scanner has passed. 0 if it takes them all. */
static int ll_execute(struct http_parser *p, const char *s, size_t n)
{
    llhttp_errno_t rc;

    p->ll_body = NULL;
    p->ll_body_n = 0;
    rc = llhttp_execute(&p->ll, s, n);
    return rc == HPE_OK || (rc == HPE_PAUSED && p->ll_end && llhttp_get_error_pos(&p->ll) == s + n) ? 0 : -1;
}

/* --- the head, once it is whole --- */

/* Everything llhttp takes in an HTTP/1.1 request. */
static bool method_find(const char *name, enum http_method *out)
{
#define METHOD_NAME(num, id, text) #text,
    static const char *const known[] = {HTTP_METHOD_MAP(METHOD_NAME)};
#undef METHOD_NAME

    for (*out = HTTP_GET; *out < HTTP_OTHER; (*out)++)
        if (strcmp(http_method_name(*out), name) == 0)
            return true;
    for (size_t i = 0; i < ARRAY_LEN(known); i++)
        if (strcmp(known[i], name) == 0)
            return true;
    return false;
}

/* The lines have been checked byte by byte: this only cuts them up, in place. */
static void head_split(struct http_parser *p, char *line)
{
    struct http_headers *h = &p->head.headers;

    h->v = p->fields ? xmalloc(p->fields * sizeof(*h->v)) : NULL;
    h->cap = p->fields;
    while (*line != '\r') {
        char *colon = strchr(line, ':'), *end = strchr(colon, '\r'), *next = end + 2, *value = colon + 1;

        while (*value == ' ' || *value == '\t')
            value++;
        while (end > value && (end[-1] == ' ' || end[-1] == '\t'))
            end--;
        *colon = *end = '\0';
        h->v[h->n++] = (struct http_header){line, value, (size_t)(end - value)};
        line = next;
    }
}

/* 0 none, 1 one, 2 more. */
static unsigned field_count(const struct http_headers *h, const char *name, const char **value)
{
    unsigned n = 0;

    for (size_t i = 0; i < h->n && n < 2; i++)
        if (strcasecmp(h->v[i].name, name) == 0) {
            *value = h->v[i].value;
            n++;
        }
    return n;
}

/* Content-Length: digits only, below 2^63. */
static bool length_parse(const char *s, int64_t *out)
{
    int64_t v = 0;

    if (*s == '\0')
        return false;
    for (; *s; s++) {
        if (!http_is_digit((unsigned char)*s) || __builtin_mul_overflow(v, 10, &v) ||
            __builtin_add_overflow(v, *s - '0', &v))
            return false;
    }
    *out = v;
    return true;
}

static int head_framing(struct http_parser *p)
{
    struct http_head *h = &p->head;
    const char *te = NULL, *cl = NULL;
    unsigned te_n = field_count(&h->headers, "Transfer-Encoding", &te);
    unsigned cl_n = field_count(&h->headers, "Content-Length", &cl);

    h->length = 0;
    if (te_n && h->minor == 0)
        return fail(p, 400, "Transfer-Encoding in HTTP/1.0"), -1;
    if (te_n && cl_n)
        return fail(p, 400, "Transfer-Encoding and Content-Length"), -1;
    if (te_n > 1 || (te_n && strcasecmp(te, "chunked") != 0))
        return fail(p, 501, "a transfer coding that is not a single chunked"), -1;
    if (cl_n > 1)
        return fail(p, 400, "more than one Content-Length"), -1;
    if (cl_n && !length_parse(cl, &h->length))
        return fail(p, 400, "Content-Length is not a number"), -1;
    if (te_n) {
        h->chunked = true;
        h->length = -1;
    }
    if (p->kind == HTTP_PARSE_RESPONSE) {
        if (response_is_bare(p, h->status)) {
            h->chunked = false;
            h->length = 0;
        } else if (!te_n && !cl_n) {
            h->until_eof = true;
            h->length = -1;
        }
    }
    h->keep_alive = !h->until_eof && !http_headers_has_token(&h->headers, "Connection", "close") &&
                    (h->minor == 1 || http_headers_has_token(&h->headers, "Connection", "keep-alive"));
    return 0;
}

/* Bytes of an authority as RFC 3986 has them, without userinfo. */
static bool authority_ok(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!http_is_alnum((unsigned char)s[i]) && !strchr("-._~!$&'()*+,;=:[]%", s[i]))
            return false;
    return true;
}

static size_t without_port(const char *s, size_t n, const char *port)
{
    size_t len = strlen(port);

    return n > len && memcmp(s + n - len, port, len) == 0 ? n - len : n;
}

/* "http://host[:port]/path?query" -> what follows the authority. NULL: refused. */
static const char *absolute_rest(const char *target, const char *host, bool *ok)
{
    bool tls = strncasecmp(target, "https://", 8) == 0;
    const char *auth = target + (tls ? 8 : 7), *port = tls ? ":443" : ":80";
    size_t n = strcspn(auth, "/?"), a, b;

    *ok = false;
    if (n == 0 || !authority_ok(auth, n))
        return NULL;
    if (host) {
        a = without_port(auth, n, port);
        b = without_port(host, strlen(host), port);
        /* RFC 9112 §3.2.2 gives the target precedence; a client that sends both sends them equal. */
        if (a != b || strncasecmp(auth, host, a) != 0)
            return NULL;
    }
    *ok = true;
    return auth + n;
}

static int head_target(struct http_parser *p, const char *raw, const char *host, char *spare)
{
    struct http_head *h = &p->head;
    bool absolute = strncasecmp(raw, "http://", 7) == 0 || strncasecmp(raw, "https://", 8) == 0, ok;
    const char *q;

    if (strcmp(h->method_name, "CONNECT") == 0)
        return fail(p, 400, "CONNECT"), -1;
    h->target = raw;
    if (absolute) {
        raw = absolute_rest(raw, host, &ok);
        if (!ok)
            return fail(p, 400, "absolute-form target without a good authority, or not that of Host"), -1;
        h->target = raw;
        if (*raw != '/') { /* "http://host?x" */
            spare[0] = '/';
            strcpy(spare + 1, raw);
            h->target = spare;
            spare += strlen(spare) + 1;
        }
    } else if (raw[0] != '/' && !(h->method == HTTP_OPTIONS && strcmp(raw, "*") == 0)) {
        return fail(p, 400, "the target is no path"), -1;
    }
    q = strchr(h->target, '?');
    h->query = q ? q + 1 : "";
    h->path = h->target;
    if (q) {
        memcpy(spare, h->target, (size_t)(q - h->target));
        spare[q - h->target] = '\0';
        h->path = spare;
    }
    return 0;
}

/* "HTTP/1.1" */
static int version_parse(struct http_parser *p, const char *s)
{
    if (strlen(s) != 8 || memcmp(s, "HTTP/", 5) != 0 || !http_is_digit((unsigned char)s[5]) || s[6] != '.' ||
        !http_is_digit((unsigned char)s[7]))
        return fail(p, 400, "the version is not HTTP/x.y"), -1;
    if (s[5] != '1' || s[7] > '1')
        return fail(p, 505, "not HTTP/1.0 or 1.1"), -1;
    p->head.minor = s[7] - '0';
    return 0;
}

static int request_head(struct http_parser *p, char *text, char *spare)
{
    struct http_head *h = &p->head;
    char *target = strchr(text, ' ') + 1, *version = strchr(target, ' ') + 1, *end = strchr(version, '\r');
    const char *host = NULL;
    unsigned hosts;

    target[-1] = version[-1] = *end = '\0';
    h->method_name = text;
    if (version_parse(p, version) < 0)
        return -1;
    if (!method_find(text, &h->method))
        return fail(p, 501, "unknown method"), -1;
    head_split(p, end + 2);
    hosts = field_count(&h->headers, "Host", &host);
    if (hosts == 0 && h->minor == 1)
        return fail(p, 400, "no Host"), -1;
    if (hosts > 1)
        return fail(p, 400, "more than one Host"), -1;
    if (host && !authority_ok(host, strlen(host)))
        return fail(p, 400, "Host is no host"), -1;
    if (head_framing(p) < 0)
        return -1;
    return head_target(p, target, host, spare);
}

/* "HTTP/1.1 200 OK"; the reason may be missing, as some servers have it. */
static int response_head(struct http_parser *p, char *text)
{
    struct http_head *h = &p->head;
    char *end = strchr(text, '\r');

    *end = '\0';
    if (end - text < 12 || text[8] != ' ' || (text[12] != ' ' && text[12] != '\0'))
        return fail(p, 400, "no status line"), -1;
    text[8] = '\0';
    if (version_parse(p, text) < 0)
        return -1;
    for (int i = 9; i < 12; i++) {
        if (!http_is_digit((unsigned char)text[i]))
            return fail(p, 400, "the status is no number"), -1;
        h->status = h->status * 10 + (text[i] - '0');
    }
    if (h->status < 100 || h->status > 599)
        return fail(p, 400, "the status is not between 100 and 599"), -1;
    h->reason = text[12] ? text + 13 : "";
    head_split(p, end + 2);
    return head_framing(p);
}

static bool ll_agrees(const struct http_parser *p)
{
    const struct http_head *h = &p->head;

    if (!p->ll_head || p->ll.http_major != 1 || p->ll.http_minor != h->minor || p->ll_end != (h->length == 0))
        return false;
    if (p->kind == HTTP_PARSE_RESPONSE)
        return p->ll.status_code == h->status;
    return strcmp(llhttp_method_name(p->ll.method), h->method_name) == 0;
}

/* Every line is whole and clean. llhttp goes first because ours cuts the text up; but our verdict has the
 * better words, so it counts first. */
static enum http_parse_event head_done(struct http_parser *p)
{
    struct http_headers *h = &p->head.headers;
    size_t n = p->text.len;
    bool agreed = ll_execute(p, p->text.data, n) == 0;
    int rc;

    if (p->kind == HTTP_PARSE_REQUEST)
        buf_reserve(&p->text, p->target_n + 8);
    h->text = p->text.data;
    h->text_len = h->text_cap = p->text.cap;
    p->text = (struct buf)BUF_INIT;
    rc =
        p->kind == HTTP_PARSE_REQUEST ? request_head(p, h->text, h->text + n + 1) : response_head(p, h->text);
    if (rc < 0)
        return HTTP_PARSE_ERROR;
    if (!agreed || !ll_agrees(p))
        return fail(p, 400, "llhttp refuses the head or reads it differently");
    p->have_head = true;
    p->left = p->head.length > 0 ? p->head.length : 0;
    p->head_n = p->part = 0;
    p->fields = 0;
    p->scan = p->head.length == 0 ? SCAN_ENDED
              : p->head.chunked   ? SCAN_SIZE
              : p->head.until_eof ? SCAN_UNTIL_EOF
                                  : SCAN_LENGTH;
    return HTTP_PARSE_HEAD;
}

/* --- the scanner --- */

/* One byte of a head or of the trailers. NULL: fine, p->scan is where the next one belongs. */
static const char *scan_head_byte(struct http_parser *p, unsigned char c, int *status)
{
    *status = 400;
    switch (p->scan) {
    case SCAN_METHOD:
        if (c == ' ' && p->part > 0) {
            p->part = 0;
            p->scan = SCAN_TARGET;
        } else if (!http_is_tchar(c)) {
            return "not a request line";
        } else if (++p->part > METHOD_MAX) {
            *status = 501;
            return "unknown method";
        }
        return NULL;
    case SCAN_TARGET:
        if (c == ' ' && p->part > 0) {
            p->target_n = p->part;
            p->part = 0;
            p->scan = SCAN_VERSION;
        } else if (c <= ' ' || c >= 0x7f || c == '#') {
            return "a byte that has no place in a target";
        } else if (++p->part > p->lim.target) {
            *status = 414;
            return "target too long";
        }
        return NULL;
    case SCAN_VERSION:
        if (c == '\r')
            p->scan = SCAN_LINE_LF;
        else if (c <= ' ' || c >= 0x7f || ++p->part > 8)
            return "the version is not HTTP/x.y";
        return NULL;
    case SCAN_STATUS:
        if (p->part < 7 && c != (unsigned char)"HTTP/1."[p->part])
            return "no status line of HTTP/1";
        if (c == '\r')
            p->scan = SCAN_LINE_LF;
        else if (!http_is_vchar(c) || ++p->part > REASON_MAX)
            return "bad or too long reason phrase";
        return NULL;
    case SCAN_LINE_LF:
        if (c != '\n')
            return "CR without LF";
        p->scan = SCAN_FIELD;
        return NULL;
    case SCAN_FIELD:
        if (c == '\r') {
            p->scan = SCAN_HEAD_LF;
            return NULL;
        }
        if (c == ' ' || c == '\t')
            return "folded line";
        if (c == ':')
            return "empty field name";
        if (!http_is_tchar(c))
            return c == '\n' ? "LF without CR" : "a byte that has no place in a field name";
        if (++p->fields > p->lim.headers) {
            *status = 431;
            return "too many fields";
        }
        p->scan = SCAN_NAME;
        return NULL;
    case SCAN_NAME:
        if (c == ':')
            p->scan = SCAN_VALUE;
        else if (!http_is_tchar(c))
            return c == ' ' || c == '\t' ? "space before ':'" : "a byte that has no place in a field name";
        return NULL;
    case SCAN_VALUE:
        if (c == '\r')
            p->scan = SCAN_LINE_LF;
        else if (!http_is_vchar(c))
            return c == '\n' ? "LF without CR" : "a control byte in a field";
        return NULL;
    default: /* SCAN_HEAD_LF, which ends the loop of the caller */ return "CR without LF";
    }
}

/* The scanner refuses what follows these n bytes. If llhttp does not even take those it is first, so that the
 * verdict does not depend on how the bytes came. */
static enum http_parse_event fail_after(struct http_parser *p, const char *in, size_t n, int status,
                                        const char *why)
{
    return ll_execute(p, in, n) < 0 ? fail(p, 400, ll_refuses) : fail(p, status, why);
}

/* Bytes of a head or of trailers, up to its end. */
static enum http_parse_event scan_head(struct http_parser *p, const char *in, size_t n, size_t *used)
{
    size_t room = p->lim.head - p->head_n, take = n < room ? n : room, i = 0;
    bool whole = false;

    while (i < take && !whole) {
        unsigned char c = (unsigned char)in[i++];
        const char *why;
        int status;

        if (p->scan == SCAN_HEAD_LF && c == '\n') {
            whole = true;
        } else if ((why = scan_head_byte(p, c, &status)) != NULL) {
            *used += i;
            return p->in_trailer ? fail_after(p, in, i - 1, status, why) : fail(p, status, why);
        }
    }
    p->head_n += i;
    *used += i;
    if (!p->in_trailer)
        buf_put(&p->text, in, i);
    else if (ll_execute(p, in, i) < 0 || p->ll_end != whole)
        return fail(p, 400, ll_refuses);
    if (whole && p->in_trailer)
        p->scan = SCAN_ENDED;
    else if (whole)
        return head_done(p);
    else if (i < n || p->head_n == p->lim.head)
        return fail(p, 431, p->in_trailer ? "trailers too large" : "head too large");
    return HTTP_PARSE_MORE;
}

/* Blank lines before a request are skipped, and not shown to llhttp. */
static enum http_parse_event scan_blank(struct http_parser *p, const char *in, size_t n, size_t *used)
{
    for (; *used < n; (*used)++) {
        unsigned char c = (unsigned char)in[*used];

        if (p->scan == SCAN_BLANK_LF) {
            if (c != '\n')
                return fail(p, 400, "CR without LF");
            p->scan = SCAN_BLANK;
        } else if (c == '\r') {
            if (++p->blank > BLANK_LINES_MAX)
                return fail(p, 400, "too many blank lines");
            p->scan = SCAN_BLANK_LF;
        } else {
            p->part = 0;
            p->scan = SCAN_METHOD;
            break;
        }
    }
    return HTTP_PARSE_MORE;
}

/* One byte between two chunks. */
static const char *scan_chunk_byte(struct http_parser *p, unsigned char c)
{
    switch (p->scan) {
    case SCAN_SIZE:
        if (http_hex_value(c) >= 0) {
            if (++p->part > CHUNK_DIGITS_MAX)
                return "chunk size with too many digits";
            p->left = p->left * 16 + http_hex_value(c);
        } else if (p->part == 0 || (c != '\r' && c != ';')) {
            return "bad chunk size";
        } else {
            p->scan = c == ';' ? SCAN_EXT : SCAN_SIZE_LF;
        }
        return NULL;
    case SCAN_EXT:
        if (c == '\r')
            p->scan = SCAN_SIZE_LF;
        else if (!http_is_vchar(c))
            return "a control byte in a chunk extension";
        else if (++p->part > CHUNK_LINE_MAX || ++p->ext_n > CHUNK_EXT_MAX)
            return "chunk extensions too long";
        return NULL;
    case SCAN_SIZE_LF:
        if (c != '\n')
            return "CR without LF after a chunk size";
        p->in_trailer = p->left == 0;
        p->scan = p->in_trailer ? SCAN_FIELD : SCAN_DATA;
        return NULL;
    case SCAN_DATA_CR: p->scan = SCAN_DATA_LF; return c == '\r' ? NULL : "no CRLF after a chunk";
    default: /* SCAN_DATA_LF */
        p->scan = SCAN_SIZE;
        p->left = 0;
        p->part = 0;
        return c == '\n' ? NULL : "no CRLF after a chunk";
    }
}

static enum http_parse_event scan_chunk(struct http_parser *p, const char *in, size_t n, size_t *used)
{
    size_t i = 0;

    while (i < n && p->scan != SCAN_DATA && p->scan != SCAN_FIELD) {
        const char *why = scan_chunk_byte(p, (unsigned char)in[i++]);

        if (why) {
            *used += i;
            return fail_after(p, in, i - 1, 400, why);
        }
    }
    *used += i;
    if (ll_execute(p, in, i) < 0 || p->ll_end || p->ll_body_n)
        return fail(p, 400, ll_refuses);
    return HTTP_PARSE_MORE;
}

static enum http_parse_event scan_body(struct http_parser *p, const char *in, size_t n, size_t *used)
{
    size_t take = p->scan != SCAN_UNTIL_EOF && (uint64_t)p->left < n ? (size_t)p->left : n;
    bool last;

    if (take == 0)
        return HTTP_PARSE_MORE;
    *used += take;
    if (p->scan != SCAN_UNTIL_EOF)
        p->left -= (int64_t)take;
    last = p->scan == SCAN_LENGTH && p->left == 0;
    if (ll_execute(p, in, take) < 0 || p->ll_body != in || p->ll_body_n != take || p->ll_end != last)
        return fail(p, 400, "llhttp frames the body differently");
    if (last)
        p->scan = SCAN_ENDED;
    else if (p->scan == SCAN_DATA && p->left == 0)
        p->scan = SCAN_DATA_CR;
    return HTTP_PARSE_BODY;
}

enum http_parse_event http_parser_step(struct http_parser *p, const char *in, size_t n, size_t *used,
                                       const char **data, size_t *len)
{
    enum http_parse_event ev = HTTP_PARSE_MORE;
    size_t before = 0;

    *used = *len = 0;
    *data = NULL;
    while (ev == HTTP_PARSE_MORE) {
        switch (p->scan) {
        case SCAN_ENDED: p->scan = SCAN_OVER; return HTTP_PARSE_END;
        case SCAN_OVER: assert(!"http_parser_next() before more is offered"); return HTTP_PARSE_END;
        case SCAN_FAILED: return HTTP_PARSE_ERROR;
        default: break;
        }
        before = *used;
        if (before == n)
            return HTTP_PARSE_MORE;
        switch (p->scan) {
        case SCAN_BLANK:
        case SCAN_BLANK_LF: ev = scan_blank(p, in, n, used); break;
        case SCAN_LENGTH:
        case SCAN_UNTIL_EOF:
        case SCAN_DATA: ev = scan_body(p, in + before, n - before, used); break;
        case SCAN_SIZE:
        case SCAN_EXT:
        case SCAN_SIZE_LF:
        case SCAN_DATA_CR:
        case SCAN_DATA_LF: ev = scan_chunk(p, in + before, n - before, used); break;
        default: ev = scan_head(p, in + before, n - before, used); break;
        }
    }
    if (ev == HTTP_PARSE_BODY) {
        *data = in + before;
        *len = *used - before;
    }
    return ev;
}

enum http_parse_event http_parser_eof(struct http_parser *p)
{
    switch (p->scan) {
    case SCAN_ENDED:
    case SCAN_OVER: p->scan = SCAN_OVER; return HTTP_PARSE_END;
    case SCAN_FAILED: return HTTP_PARSE_ERROR;
    case SCAN_UNTIL_EOF:
        llhttp_finish(&p->ll);
        if (!p->ll_end)
            return fail(p, 400, "llhttp does not see the end of the body");
        p->scan = SCAN_OVER;
        return HTTP_PARSE_END;
    default: break;
    }
    if (!http_parser_begun(p))
        return HTTP_PARSE_MORE;
    return fail(p, 400,
                p->have_head ? "the connection ended inside a body" : "the connection ended inside a head");
}

/* --- life --- */

void http_parser_next(struct http_parser *p)
{
    http_headers_fini(&p->head.headers);
    p->head = (struct http_head){0};
    buf_free(&p->text);
    p->have_head = p->in_trailer = p->ll_head = p->ll_end = false;
    p->blank = p->fields = 0;
    p->part = p->target_n = p->head_n = p->ext_n = 0;
    p->left = 0;
    p->status = 0;
    p->why = "";
    p->scan = p->kind == HTTP_PARSE_REQUEST ? SCAN_BLANK : SCAN_STATUS;
    llhttp_init(&p->ll, p->kind == HTTP_PARSE_REQUEST ? HTTP_REQUEST : HTTP_RESPONSE, &ll_settings);
    p->ll.data = p;
}

struct http_parser *http_parser_new(enum http_parse_kind kind, const struct http_parse_limits *lim)
{
    struct http_parser *p = xcalloc(1, sizeof(*p));

    p->kind = kind;
    p->lim = *lim;
    http_parser_next(p);
    return p;
}

void http_parser_free(struct http_parser **p)
{
    if (*p == NULL)
        return;
    http_headers_fini(&(*p)->head.headers);
    buf_free(&(*p)->text);
    free(*p);
    *p = NULL;
}

void http_parser_no_body(struct http_parser *p, bool on)
{
    p->no_body = on;
}

const struct http_head *http_parser_head(const struct http_parser *p)
{
    return p->have_head ? &p->head : NULL;
}

bool http_parser_begun(const struct http_parser *p)
{
    return p->have_head || p->blank > 0 || p->scan == SCAN_FAILED ||
           (p->kind == HTTP_PARSE_REQUEST ? p->scan != SCAN_BLANK : p->scan != SCAN_STATUS || p->part > 0);
}

int http_parser_status(const struct http_parser *p)
{
    return p->status;
}

const char *http_parser_reason(const struct http_parser *p)
{
    return p->why;
}
