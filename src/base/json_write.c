#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/utf8.h"

static void put_u16(struct buf *b, uint32_t u)
{
    static const char hex[] = "0123456789abcdef";
    char s[6] = {'\\', 'u', hex[u >> 12 & 15], hex[u >> 8 & 15], hex[u >> 4 & 15], hex[u & 15]};

    buf_put(b, s, sizeof(s));
}

static void put_char(struct buf *b, uint32_t cp)
{
    switch (cp) {
    case '"': buf_puts(b, "\\\""); return;
    case '\\': buf_puts(b, "\\\\"); return;
    case '\b': buf_puts(b, "\\b"); return;
    case '\f': buf_puts(b, "\\f"); return;
    case '\n': buf_puts(b, "\\n"); return;
    case '\r': buf_puts(b, "\\r"); return;
    case '\t': buf_puts(b, "\\t"); return;
    default: break;
    }
    if (cp >= 0x10000) {
        put_u16(b, 0xd800 + ((cp - 0x10000) >> 10));
        put_u16(b, 0xdc00 + ((cp - 0x10000) & 0x3ff));
    } else {
        put_u16(b, cp);
    }
}

/* Stands in a string as it is. */
static bool is_plain(char c)
{
    return c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
}

void json_put_strn(struct buf *b, const char *s, size_t n)
{
    buf_reserve(b, n + 2);
    buf_putc(b, '"');
    while (n > 0) {
        size_t len = 0;
        uint32_t cp;

        while (len < n && is_plain(s[len]))
            len++;
        if (len > 0) {
            buf_put(b, s, len);
        } else {
            len = wtf8_decode(s, n, &cp);
            if (len == 0) {
                cp = 0xfffd;
                len = utf8_bad_length(s, n);
            }
            put_char(b, cp);
        }
        s += len;
        n -= len;
    }
    buf_putc(b, '"');
}

void json_put_str(struct buf *b, const char *s)
{
    json_put_strn(b, s, strlen(s));
}

/* Do these digits, d.ddd times ten to the exponent, read back as v? */
static bool reads_back(const char *digits, int nd, int exponent, double v)
{
    char s[48];

    snprintf(s, sizeof(s), "%c.%.*se%d", digits[0], nd - 1, digits + 1, exponent);
    return strtod(s, NULL) == v;
}

/* One more in the last place; false when all digits were nines. */
static bool digits_up(char *digits, int nd)
{
    for (int i = nd - 1; i >= 0; i--) {
        if (digits[i] != '9') {
            digits[i]++;
            return true;
        }
        digits[i] = '0';
    }
    return false;
}

/* The fewest digits that read back as v > 0; the closest to v of those. At a power of two the gap above is
 * twice the gap below, so the correctly rounded digits may fail where the next ones up succeed. */
static int shortest_digits(double v, char digits[18], int *exponent)
{
    char s[48];

    for (int nd = 1; nd <= 17; nd++) {
        snprintf(s, sizeof(s), "%.*e", nd - 1, v);
        digits[0] = s[0];
        if (nd > 1)
            memcpy(digits + 1, s + 2, (size_t)nd - 1);
        digits[nd] = '\0';
        *exponent = atoi(strchr(s, 'e') + 1);
        if (nd == 17 || reads_back(digits, nd, *exponent, v))
            return nd;
        if (digits_up(digits, nd) && reads_back(digits, nd, *exponent, v))
            return nd;
    }
    return 17;
}

void json_put_double(struct buf *b, double v)
{
    char digits[18];
    int nd, point;

    if (isnan(v) || isinf(v)) {
        buf_puts(b, isnan(v) ? "NaN" : v > 0 ? "Infinity" : "-Infinity");
        return;
    }
    if (signbit(v))
        buf_putc(b, '-');
    v = fabs(v);
    if (v == 0) {
        buf_puts(b, "0.0");
        return;
    }
    nd = shortest_digits(v, digits, &point);
    while (nd > 1 && digits[nd - 1] == '0')
        digits[--nd] = '\0';
    if (point < -4 || point >= 16) { /* Python's repr changes over here */
        buf_putc(b, digits[0]);
        if (nd > 1)
            buf_printf(b, ".%s", digits + 1);
        buf_printf(b, "e%c%02d", point < 0 ? '-' : '+', abs(point));
    } else if (point < 0) {
        buf_printf(b, "0.%.*s%s", -point - 1, "000", digits);
    } else {
        for (int i = 0; i <= point; i++)
            buf_putc(b, i < nd ? digits[i] : '0');
        buf_printf(b, ".%s", nd > point + 1 ? digits + point + 1 : "0");
    }
}

/* ---- the writer --------------------------------------------------------------------------------------- */

void jsonw_init(struct jsonw *w, struct buf *b)
{
    *w = (struct jsonw){.b = b};
}

static void separate(struct jsonw *w)
{
    uint64_t bit;

    if (w->depth == 0)
        return;
    bit = 1ull << (w->depth - 1);
    if (w->more & bit)
        buf_puts(w->b, ", ");
    w->more |= bit;
}

static void before_value(struct jsonw *w)
{
    if (w->keyed)
        w->keyed = false;
    else
        separate(w);
}

static void open_level(struct jsonw *w, char c)
{
    assert(w->depth < 64);
    before_value(w);
    buf_putc(w->b, c);
    w->depth++;
    w->more &= ~(1ull << (w->depth - 1));
}

static void close_level(struct jsonw *w, char c)
{
    assert(w->depth > 0 && !w->keyed);
    w->depth--;
    buf_putc(w->b, c);
}

void jsonw_obj(struct jsonw *w)
{
    open_level(w, '{');
}

void jsonw_obj_end(struct jsonw *w)
{
    close_level(w, '}');
}

void jsonw_arr(struct jsonw *w)
{
    open_level(w, '[');
}

void jsonw_arr_end(struct jsonw *w)
{
    close_level(w, ']');
}

void jsonw_keyn(struct jsonw *w, const char *key, size_t n)
{
    assert(w->depth > 0 && !w->keyed);
    separate(w);
    json_put_strn(w->b, key, n);
    buf_puts(w->b, ": ");
    w->keyed = true;
}

void jsonw_key(struct jsonw *w, const char *key)
{
    jsonw_keyn(w, key, strlen(key));
}

void jsonw_strn(struct jsonw *w, const char *s, size_t n)
{
    before_value(w);
    json_put_strn(w->b, s, n);
}

void jsonw_str(struct jsonw *w, const char *s)
{
    if (s)
        jsonw_strn(w, s, strlen(s));
    else
        jsonw_null(w);
}

void jsonw_int(struct jsonw *w, int64_t v)
{
    before_value(w);
    buf_put_int(w->b, v);
}

void jsonw_uint(struct jsonw *w, uint64_t v)
{
    before_value(w);
    buf_put_uint(w->b, v);
}

void jsonw_double(struct jsonw *w, double v)
{
    before_value(w);
    json_put_double(w->b, v);
}

void jsonw_bool(struct jsonw *w, bool v)
{
    before_value(w);
    buf_puts(w->b, v ? "true" : "false");
}

void jsonw_null(struct jsonw *w)
{
    before_value(w);
    buf_puts(w->b, "null");
}

void jsonw_span(struct jsonw *w, struct json v)
{
    before_value(w);
    json_put(w->b, v);
}

void jsonw_kstr(struct jsonw *w, const char *key, const char *s)
{
    jsonw_key(w, key);
    jsonw_str(w, s);
}

void jsonw_kint(struct jsonw *w, const char *key, int64_t v)
{
    jsonw_key(w, key);
    jsonw_int(w, v);
}

void jsonw_kbool(struct jsonw *w, const char *key, bool v)
{
    jsonw_key(w, key);
    jsonw_bool(w, v);
}

void jsonw_kspan(struct jsonw *w, const char *key, struct json v)
{
    jsonw_key(w, key);
    jsonw_span(w, v);
}
