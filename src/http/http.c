#include "http/http.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "http/http_char.h"

const char *http_method_name(enum http_method m)
{
    static const char *const names[] = {
        [HTTP_GET] = "GET",       [HTTP_HEAD] = "HEAD",   [HTTP_POST] = "POST",       [HTTP_PUT] = "PUT",
        [HTTP_DELETE] = "DELETE", [HTTP_PATCH] = "PATCH", [HTTP_OPTIONS] = "OPTIONS", [HTTP_OTHER] = "OTHER"};

    return names[m];
}

/* --- header lists --- */

void http_headers_init(struct http_headers *h)
{
    *h = (struct http_headers){0};
}

void http_headers_fini(struct http_headers *h)
{
    free(h->v);
    free(h->text);
    http_headers_init(h);
}

const char *http_headers_get(const struct http_headers *h, const char *name)
{
    for (size_t i = 0; i < h->n; i++)
        if (strcasecmp(h->v[i].name, name) == 0)
            return h->v[i].value;
    return NULL;
}

bool http_list_has_token(const char *list, const char *token)
{
    size_t want = strlen(token);

    for (const char *s = list; *s;) {
        const char *end;
        size_t n;

        s += strspn(s, " \t,");
        n = strcspn(s, ",");
        end = s + n;
        while (n > 0 && (s[n - 1] == ' ' || s[n - 1] == '\t'))
            n--;
        if (n > 0 && n == want && strncasecmp(s, token, n) == 0)
            return true;
        s = end;
    }
    return false;
}

bool http_headers_has_token(const struct http_headers *h, const char *name, const char *token)
{
    for (size_t i = 0; i < h->n; i++)
        if (strcasecmp(h->v[i].name, name) == 0 && http_list_has_token(h->v[i].value, token))
            return true;
    return false;
}

/* All names and values point into text, so they move with it. */
static void text_reserve(struct http_headers *h, size_t more)
{
    size_t cap = h->text_cap ? h->text_cap : 256;
    char *old = h->text;

    if (h->text_len + more <= h->text_cap)
        return;
    while (cap < h->text_len + more)
        cap *= 2;
    h->text = xmalloc(cap);
    if (h->text_len)
        memcpy(h->text, old, h->text_len);
    for (size_t i = 0; i < h->n; i++) {
        h->v[i].name = h->text + (h->v[i].name - old);
        h->v[i].value = h->text + (h->v[i].value - old);
    }
    free(old);
    h->text_cap = cap;
}

int http_headers_add(struct http_headers *h, const char *name, const char *value)
{
    size_t name_len = strlen(name), len;
    char *at;

    while (*value == ' ' || *value == '\t')
        value++;
    len = strlen(value);
    while (len > 0 && (value[len - 1] == ' ' || value[len - 1] == '\t'))
        len--;
    if (!http_is_token(name, name_len) || memchr(value, '\r', len) || memchr(value, '\n', len))
        return -1;
    text_reserve(h, name_len + len + 2);
    if (h->n == h->cap) {
        h->cap = h->cap ? h->cap * 2 : 8;
        h->v = xrealloc(h->v, h->cap * sizeof(*h->v));
    }
    at = h->text + h->text_len;
    memcpy(at, name, name_len + 1);
    memcpy(at + name_len + 1, value, len);
    at[name_len + 1 + len] = '\0';
    h->v[h->n++] = (struct http_header){at, at + name_len + 1, len};
    h->text_len += name_len + len + 2;
    return 0;
}

/* --- characters --- */

bool http_is_token(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!http_is_tchar((unsigned char)s[i]))
            return false;
    return n > 0;
}

bool http_is_utf8(const char *str, size_t n)
{
    const unsigned char *s = (const unsigned char *)str, *end = s + n;

    while (s < end) {
        unsigned c = *s++, more, least;

        if (c < 0x80)
            continue;
        if (c >= 0xc2 && c <= 0xdf) {
            more = 1, least = 0x80, c &= 0x1f;
        } else if (c >= 0xe0 && c <= 0xef) {
            more = 2, least = 0x800, c &= 0x0f;
        } else if (c >= 0xf0 && c <= 0xf4) {
            more = 3, least = 0x10000, c &= 0x07;
        } else {
            return false;
        }
        if ((size_t)(end - s) < more)
            return false;
        while (more-- > 0) {
            if ((*s & 0xc0) != 0x80)
                return false;
            c = c << 6 | (*s++ & 0x3f);
        }
        if (c < least || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
            return false;
    }
    return true;
}

/* --- status --- */

const char *http_status_text(int status)
{
    static const struct {
        int status;
        const char *text;
    } texts[] = {{100, "Continue"},
                 {101, "Switching Protocols"},
                 {103, "Early Hints"},
                 {200, "OK"},
                 {201, "Created"},
                 {202, "Accepted"},
                 {203, "Non-Authoritative Information"},
                 {204, "No Content"},
                 {205, "Reset Content"},
                 {206, "Partial Content"},
                 {207, "Multi-Status"},
                 {300, "Multiple Choices"},
                 {301, "Moved Permanently"},
                 {302, "Found"},
                 {303, "See Other"},
                 {304, "Not Modified"},
                 {307, "Temporary Redirect"},
                 {308, "Permanent Redirect"},
                 {400, "Bad Request"},
                 {401, "Unauthorized"},
                 {402, "Payment Required"},
                 {403, "Forbidden"},
                 {404, "Not Found"},
                 {405, "Method Not Allowed"},
                 {406, "Not Acceptable"},
                 {407, "Proxy Authentication Required"},
                 {408, "Request Timeout"},
                 {409, "Conflict"},
                 {410, "Gone"},
                 {411, "Length Required"},
                 {412, "Precondition Failed"},
                 {413, "Request Entity Too Large"},
                 {414, "Request-URI Too Long"},
                 {415, "Unsupported Media Type"},
                 {416, "Requested Range Not Satisfiable"},
                 {417, "Expectation Failed"},
                 {421, "Misdirected Request"},
                 {422, "Unprocessable Entity"},
                 {423, "Locked"},
                 {424, "Failed Dependency"},
                 {425, "Too Early"},
                 {426, "Upgrade Required"},
                 {428, "Precondition Required"},
                 {429, "Too Many Requests"},
                 {431, "Request Header Fields Too Large"},
                 {451, "Unavailable For Legal Reasons"},
                 {500, "Internal Server Error"},
                 {501, "Not Implemented"},
                 {502, "Bad Gateway"},
                 {503, "Service Unavailable"},
                 {504, "Gateway Timeout"},
                 {505, "HTTP Version Not Supported"},
                 {507, "Insufficient Storage"}};

    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        if (texts[i].status == status)
            return texts[i].text;
    return "Unknown";
}

/* --- dates --- */

static const char days[7][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                   "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};

void http_date(int64_t sec, char out[30])
{
    time_t t = (time_t)sec;
    struct tm tm;

    if (gmtime_r(&t, &tm) == NULL || tm.tm_year < -1900 || tm.tm_year > 9999 - 1900) {
        t = 0;
        gmtime_r(&t, &tm);
    }
    /* The remainders change nothing; they tell the compiler that 29 characters are enough. */
    snprintf(out, 30, "%s, %02u %s %04u %02u:%02u:%02u GMT", days[tm.tm_wday], (unsigned)tm.tm_mday % 100,
             months[tm.tm_mon], (unsigned)(tm.tm_year + 1900) % 10000, (unsigned)tm.tm_hour % 100,
             (unsigned)tm.tm_min % 100, (unsigned)tm.tm_sec % 100);
}

static int digits(const char *s, int n)
{
    int v = 0;

    for (int i = 0; i < n; i++) {
        if (s[i] < '0' || s[i] > '9')
            return -1;
        v = v * 10 + (s[i] - '0');
    }
    return v;
}

/* Does s follow the pattern? D: a digit, L: a letter, _: a digit or a space, else itself. */
static bool follows(const char *s, const char *pattern)
{
    for (; *pattern; s++, pattern++) {
        bool digit = *s >= '0' && *s <= '9';

        if (*pattern == 'D'   ? !digit
            : *pattern == '_' ? !digit && *s != ' '
            : *pattern == 'L' ? !((*s | 0x20) >= 'a' && (*s | 0x20) <= 'z')
                              : *s != *pattern)
            return false;
    }
    return *s == '\0';
}

static int64_t date_make(int day, const char *month, int year, const char *clock)
{
    struct tm tm = {.tm_mday = day, .tm_year = year - 1900};
    int64_t sec;

    for (tm.tm_mon = 0; tm.tm_mon < 12; tm.tm_mon++)
        if (memcmp(months[tm.tm_mon], month, 3) == 0)
            break;
    tm.tm_hour = digits(clock, 2);
    tm.tm_min = digits(clock + 3, 2);
    tm.tm_sec = digits(clock + 6, 2);
    if (tm.tm_mon == 12 || tm.tm_hour > 23 || tm.tm_min > 59 || tm.tm_sec > 60 || day < 1)
        return -1;
    sec = timegm(&tm);
    return tm.tm_mday == day ? sec : -1; /* "31 Feb" has been carried into the next month */
}

int64_t http_date_parse(const char *s)
{
    const char *comma = strchr(s, ',');

    /* The three forms of RFC 9110 §5.6.7: ours, RFC 850's and asctime's. */
    if (follows(s, "LLL, DD LLL DDDD DD:DD:DD GMT"))
        return date_make(digits(s + 5, 2), s + 8, digits(s + 12, 4), s + 17);
    if (comma && comma - s >= 6 && comma - s <= 9 && follows(comma, ", DD-LLL-DD DD:DD:DD GMT")) {
        int yy = digits(comma + 9, 2);

        return date_make(digits(comma + 2, 2), comma + 5, yy < 70 ? 2000 + yy : 1900 + yy, comma + 12);
    }
    if (follows(s, "LLL LLL _D DD:DD:DD DDDD"))
        return date_make(s[8] == ' ' ? digits(s + 9, 1) : digits(s + 8, 2), s + 4, digits(s + 20, 4), s + 11);
    return -1;
}

/* --- percent-encoding and queries --- */

int http_hex_value(unsigned char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int http_unescape(const char *s, size_t n, bool plus, struct buf *out)
{
    size_t start = out->len;

    buf_reserve(out, n);
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];

        if (c == '%') {
            int hi = i + 2 < n ? http_hex_value((unsigned char)s[i + 1]) : -1;
            int lo = i + 2 < n ? http_hex_value((unsigned char)s[i + 2]) : -1;

            if (hi < 0 || lo < 0)
                goto bad;
            c = (unsigned char)(hi << 4 | lo);
            i += 2;
        } else if (plus && c == '+') {
            c = ' ';
        }
        if (c == '\0')
            goto bad;
        buf_putc(out, (char)c);
    }
    if (http_is_utf8(buf_str(out) + start, out->len - start))
        return 0;
bad:
    out->len = start;
    if (out->data)
        out->data[start] = '\0';
    return -1;
}

void http_escape(const char *s, size_t n, bool slash, struct buf *out)
{
    static const char hex[] = "0123456789ABCDEF";

    buf_reserve(out, n);
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        char esc[3] = {'%', hex[c >> 4], hex[c & 15]};

        if (http_is_alnum(c) || c == '-' || c == '.' || c == '_' || c == '~' || (slash && c == '/'))
            buf_putc(out, (char)c);
        else
            buf_put(out, esc, 3);
    }
}

/* The raw value of the first pair with this key. */
static bool query_find(const char *query, const char *key, const char **value, size_t *len)
{
    size_t key_len = strlen(key);
    struct buf name = BUF_INIT;
    bool found = false;

    for (const char *s = query; *s && !found;) {
        size_t pair = strcspn(s, "&");
        const char *eq = memchr(s, '=', pair);
        size_t n = eq ? (size_t)(eq - s) : pair;

        buf_clear(&name);
        if (pair > 0 && http_unescape(s, n, true, &name) == 0 && name.len == key_len &&
            memcmp(buf_str(&name), key, key_len) == 0) {
            *value = eq ? eq + 1 : s + pair;
            *len = (size_t)(s + pair - *value);
            found = true;
        }
        s += pair;
        if (*s == '&')
            s++;
    }
    buf_free(&name);
    return found;
}

bool http_query_get(const char *query, const char *key, struct buf *out)
{
    const char *value;
    size_t len;

    return query_find(query, key, &value, &len) && http_unescape(value, len, true, out) == 0;
}

bool http_query_has(const char *query, const char *key)
{
    const char *value;
    size_t len;

    return query_find(query, key, &value, &len);
}

/* --- URLs --- */

static int url_host(const char **at, const char *end, struct http_url *u, struct err *e)
{
    const char *s = *at, *stop;
    bool v6 = s < end && *s == '[';

    if (v6) {
        s++;
        stop = memchr(s, ']', (size_t)(end - s));
        if (stop == NULL)
            return err_set(e, EINVAL, "'[' without ']' in the host");
    } else {
        stop = memchr(s, ':', (size_t)(end - s));
        stop = stop ? stop : end;
    }
    if (stop == s)
        return err_set(e, EINVAL, "no host");
    for (const char *p = s; p < stop; p++) {
        unsigned char c = (unsigned char)*p;

        if (!http_is_alnum(c) && (v6 ? !strchr(":.%", c) : !strchr("-._", c)))
            return err_set(e, EINVAL, "'%c' cannot stand in a host name", c >= 0x20 && c < 0x7f ? c : '?');
    }
    u->host = xstrndup(s, (size_t)(stop - s));
    *at = v6 ? stop + 1 : stop;
    return 0;
}

static int url_port(const char *s, const char *end, struct http_url *u, struct err *e)
{
    long port = 0;

    u->port = u->tls ? 443 : 80;
    if (s == end)
        return 0;
    if (*s++ != ':')
        return err_set(e, EINVAL, "after the host only :PORT or a path may follow");
    if (s == end)
        return 0;
    for (; s < end && port <= 65535; s++) {
        if (*s < '0' || *s > '9')
            return err_set(e, EINVAL, "the port is no number");
        port = port * 10 + (*s - '0');
    }
    if (port < 1 || port > 65535)
        return err_set(e, EINVAL, "the port is not between 1 and 65535");
    u->port = (unsigned short)port;
    return 0;
}

static int url_rest(const char *s, struct http_url *u, struct err *e)
{
    const char *path = s + strcspn(s, "/?#"), *at = memrchr(s, '@', (size_t)(path - s));
    size_t len = strlen(path);
    bool v6;

    for (const char *p = s; *p; p++)
        if ((unsigned char)*p <= ' ' || (unsigned char)*p >= 0x7f)
            return err_set(e, EINVAL, "it holds a space, a control byte or a raw non-ASCII byte");
    if (strpbrk(path, "?#"))
        return err_set(e, EINVAL, "a query or fragment has no place here");
    if (at) {
        struct buf b = BUF_INIT;

        if (http_unescape(s, (size_t)(at - s), false, &b) < 0) {
            buf_free(&b);
            return err_set(e, EINVAL, "user and password are not well escaped");
        }
        u->userinfo = buf_take(&b);
        s = at + 1;
    }
    v6 = *s == '[';
    if (url_host(&s, path, u, e) < 0 || url_port(s, path, u, e) < 0)
        return -1;
    while (len > 0 && path[len - 1] == '/')
        len--;
    u->base = xstrndup(path, len);
    u->authority = u->port == (u->tls ? 443 : 80)
                       ? xasprintf(v6 ? "[%s]" : "%s", u->host)
                       : xasprintf(v6 ? "[%s]:%u" : "%s:%u", u->host, (unsigned)u->port);
    return 0;
}

int http_url_parse(const char *s, struct http_url *u, struct err *e)
{
    const char *rest;

    *u = (struct http_url){0};
    u->tls = strncasecmp(s, "https://", 8) == 0;
    if (!u->tls && strncasecmp(s, "http://", 7) != 0)
        return err_set(e, EINVAL, "a URL begins with http:// or https://");
    rest = s + (u->tls ? 8 : 7);
    if (url_rest(rest, u, e) < 0) {
        http_url_fini(u);
        return err_wrap(e, "bad URL");
    }
    return 0;
}

void http_url_fini(struct http_url *u)
{
    free(u->host);
    free(u->base);
    free(u->authority);
    free(u->userinfo);
    *u = (struct http_url){0};
}
