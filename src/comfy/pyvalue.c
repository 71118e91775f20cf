#include "comfy/pyvalue.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/utf8.h"

/* ---- str and repr ------------------------------------------------------------------------------------- */

/* The main ranges that str.isprintable() denies: controls, separators, format characters, surrogates, private
 * use. */
static bool unprintable(uint32_t c)
{
    return c < 0x20 || (c >= 0x7f && c <= 0xa0) || c == 0xad || (c >= 0x600 && c <= 0x605) || c == 0x61c ||
           c == 0x6dd || c == 0x70f || c == 0x1680 || c == 0x180e || (c >= 0x2000 && c <= 0x200f) ||
           (c >= 0x2028 && c <= 0x202f) || (c >= 0x205f && c <= 0x206f) || c == 0x3000 ||
           (c >= 0xd800 && c <= 0xf8ff) || c == 0xfeff || (c >= 0xfff0 && c <= 0xfffb) ||
           (c & 0xfffe) == 0xfffe || (c >= 0xe0000);
}

static void put_repr_string(struct buf *out, struct json v)
{
    struct buf s = BUF_INIT;
    const char *p, *end;
    char quote;

    json_str(v, &s);
    p = buf_str(&s);
    end = p + s.len;
    quote = s.len && memchr(p, '\'', s.len) && !memchr(p, '"', s.len) ? '"' : '\'';
    buf_putc(out, quote);
    while (p < end) {
        uint32_t c = 0;
        size_t n = wtf8_decode(p, (size_t)(end - p), &c);

        if (c == (unsigned char)quote || c == '\\')
            buf_printf(out, "\\%c", (char)c);
        else if (c == '\n' || c == '\r' || c == '\t')
            buf_puts(out, c == '\n' ? "\\n" : c == '\r' ? "\\r" : "\\t");
        else if (unprintable(c))
            buf_printf(out, c < 0x100 ? "\\x%02x" : c < 0x10000 ? "\\u%04x" : "\\U%08x", c);
        else
            buf_put(out, p, n);
        p += n;
    }
    buf_putc(out, quote);
    buf_free(&s);
}

static void put_number(struct buf *out, struct json v)
{
    double d;

    if (json_is_int_literal(v)) {
        if (v.n == 2 && v.p[0] == '-' && v.p[1] == '0')
            buf_putc(out, '0');
        else
            buf_put(out, v.p, v.n);
    } else if (json_double(v, &d)) {
        if (isnan(d))
            buf_puts(out, "nan");
        else if (isinf(d))
            buf_puts(out, d > 0 ? "inf" : "-inf");
        else
            json_put_double(out, d);
    }
}

/* Depth is bounded by the checker. */
void py_put_repr(struct buf *out, struct json v)
{
    struct json_iter it = json_iter(v);
    struct json k, m;
    bool more = false;

    switch (json_type(v)) {
    case JSON_NONE:
    case JSON_NULL: buf_puts(out, "None"); return;
    case JSON_BOOL: buf_puts(out, json_is_true(v) ? "True" : "False"); return;
    case JSON_NUMBER: put_number(out, v); return;
    case JSON_STRING: put_repr_string(out, v); return;
    default: break;
    }
    buf_putc(out, it.object ? '{' : '[');
    while (json_next(&it, &k, &m)) {
        if (more)
            buf_puts(out, ", ");
        more = true;
        if (it.object) {
            put_repr_string(out, k);
            buf_puts(out, ": ");
        }
        py_put_repr(out, m);
    }
    buf_putc(out, it.object ? '}' : ']');
}

void py_put_str(struct buf *out, struct json v)
{
    if (json_type(v) == JSON_STRING)
        json_str(v, out);
    else
        py_put_repr(out, v);
}

/* ---- int and float ------------------------------------------------------------------------------------ */

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* The zeros of all decimal digits (Unicode 16; category Nd), each followed by its one to nine. A server's Python may know
 * fewer. */
static const uint32_t zeros[] = {
    0x660,   0x6f0,   0x7c0,   0x966,   0x9e6,   0xa66,   0xae6,   0xb66,   0xbe6,   0xc66,   0xce6,
    0xd66,   0xde6,   0xe50,   0xed0,   0xf20,   0x1040,  0x1090,  0x17e0,  0x1810,  0x1946,  0x19d0,
    0x1a80,  0x1a90,  0x1b50,  0x1bb0,  0x1c40,  0x1c50,  0xa620,  0xa8d0,  0xa900,  0xa9d0,  0xa9f0,
    0xaa50,  0xabf0,  0xff10,  0x104a0, 0x10d30, 0x10d40, 0x11066, 0x110f0, 0x11136, 0x111d0, 0x112f0,
    0x11450, 0x114d0, 0x11650, 0x116c0, 0x116d0, 0x116da, 0x11730, 0x118e0, 0x11950, 0x11bf0, 0x11c50,
    0x11d50, 0x11da0, 0x11f50, 0x16130, 0x16a60, 0x16ac0, 0x16b50, 0x1ccf0, 0x1d7ce, 0x1d7d8, 0x1d7e2,
    0x1d7ec, 0x1d7f6, 0x1e140, 0x1e2f0, 0x1e4f0, 0x1e5f1, 0x1e950, 0x1fbf0,
};

static bool wide_space(uint32_t c)
{
    return c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 ||
           c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

/* What int() and float() read of a character beyond ASCII: a digit, a blank, or '?', which is in no number. */
static char number_char(uint32_t c)
{
    size_t i = 0;

    if (wide_space(c))
        return ' ';
    while (i < ARRAY_LEN(zeros) && zeros[i] + 9 < c)
        i++;
    return i < ARRAY_LEN(zeros) && c >= zeros[i] ? (char)('0' + (c - zeros[i])) : '?';
}

static void put_number_chars(struct buf *out, struct json v)
{
    struct buf s = BUF_INIT;

    json_str(v, &s);
    for (size_t i = 0, n; i < s.len; i += n) {
        uint32_t c = 0;

        n = wtf8_decode(s.data + i, s.len - i, &c);
        buf_putc(out, c < 0x80 ? (char)c : number_char(c));
    }
    buf_free(&s);
}

/* The string without the blanks and digit separators that Python's number parsers allow, its digits in ASCII; or false. */
static bool number_chars(struct json v, struct buf *out)
{
    struct buf s = BUF_INIT;
    const char *p, *end;
    bool ok = true;

    put_number_chars(&s, v);
    p = buf_str(&s);
    end = p + s.len;
    while (p < end && (*p == ' ' || (*p >= '\t' && *p <= '\r')))
        p++;
    while (end > p && (end[-1] == ' ' || (end[-1] >= '\t' && end[-1] <= '\r')))
        end--;
    for (const char *q = p; q < end && ok; q++) {
        if (*q != '_')
            buf_putc(out, *q);
        else
            ok = q > p && q + 1 < end && is_digit(q[-1]) && is_digit(q[1]);
    }
    ok &= out->len > 0 && !memchr(out->data, 0, out->len);
    buf_free(&s);
    return ok;
}

const char *py_type_name(struct json v)
{
    switch (json_type(v)) {
    case JSON_NONE:
    case JSON_NULL: return "NoneType";
    case JSON_BOOL: return "bool";
    case JSON_NUMBER: return json_is_int_literal(v) ? "int" : "float";
    case JSON_STRING: return "str";
    case JSON_ARRAY: return "list";
    case JSON_OBJECT: return "dict";
    }
    return "";
}

static bool no(struct buf *why, const char *text, struct json v)
{
    if (why) {
        buf_puts(why, text);
        if (v.p)
            py_put_repr(why, v);
    }
    return false;
}

static bool no_type(struct buf *why, const char *text, struct json v)
{
    if (why)
        buf_printf(why, "%s, not '%s'", text, py_type_name(v));
    return false;
}

#define INT_DIGITS 4300 /* sys.get_int_max_str_digits() */

/* "%.200R": at most so many characters of what was given. */
static bool no_literal(struct buf *why, struct json v)
{
    struct buf repr = BUF_INIT;
    size_t at = 0;
    uint32_t c;

    if (why) {
        py_put_repr(&repr, v);
        for (int i = 0; i < 200 && at < repr.len; i++)
            at += wtf8_decode(repr.data + at, repr.len - at, &c);
        buf_puts(why, "invalid literal for int() with base 10: ");
        buf_put(why, buf_str(&repr), at);
        buf_free(&repr);
    }
    return false;
}

static bool int_of_string(struct json v, struct buf *out, struct buf *why)
{
    struct buf s = BUF_INIT;
    bool ok = number_chars(v, &s);
    const char *p = buf_str(&s);
    bool minus = ok && *p == '-';
    size_t digits;

    if (ok && (*p == '-' || *p == '+'))
        p++;
    ok = ok && *p;
    for (const char *q = p; ok && *q; q++)
        ok = is_digit(*q);
    digits = strlen(p);
    if (ok && digits > INT_DIGITS) {
        if (why)
            buf_printf(
                why,
                "Exceeds the limit (%d digits) for integer string conversion: value has %zu digits; use "
                "sys.set_int_max_str_digits() to increase the limit",
                INT_DIGITS, digits);
        buf_free(&s);
        return false;
    }
    while (ok && *p == '0' && p[1])
        p++;
    if (ok && minus && *p != '0')
        buf_putc(out, '-');
    if (ok)
        buf_puts(out, p);
    buf_free(&s);
    return ok || no_literal(why, v);
}

bool py_int(struct json v, struct buf *out, struct buf *why)
{
    struct json none = {NULL, 0};
    char digits[400];
    double d;

    switch (json_type(v)) {
    case JSON_BOOL: buf_putc(out, json_is_true(v) ? '1' : '0'); return true;
    case JSON_STRING: return int_of_string(v, out, why);
    case JSON_NUMBER: break;
    default: return no_type(why, "int() argument must be a string, a bytes-like object or a real number", v);
    }
    if (json_is_int_literal(v)) {
        put_number(out, v);
        return true;
    }
    json_double(v, &d);
    if (isnan(d))
        return no(why, "cannot convert float NaN to integer", none);
    if (isinf(d))
        return no(why, "cannot convert float infinity to integer", none);
    snprintf(digits, sizeof(digits), "%.0f", trunc(d)); /* exact: glibc prints every digit */
    buf_puts(out, strcmp(digits, "-0") == 0 ? "0" : digits);
    return true;
}

/* strtod's grammar is wider than Python's (hex, "nan(...)"): only these are let through. */
static bool float_of_chars(const char *s, double *out)
{
    const char *p = s + (*s == '-' || *s == '+');
    char *end;

    if (strcasecmp(p, "nan") != 0 && strcasecmp(p, "inf") != 0 && strcasecmp(p, "infinity") != 0)
        for (; *p; p++)
            if (!is_digit(*p) && !strchr(".eE+-", *p))
                return false;
    *out = strtod(s, &end);
    return end > s && *end == '\0';
}

bool py_float(struct json v, double *out, struct buf *why)
{
    struct json none = {NULL, 0};
    struct buf s = BUF_INIT;
    bool ok;

    switch (json_type(v)) {
    case JSON_BOOL: *out = json_is_true(v); return true;
    case JSON_STRING:
        ok = number_chars(v, &s) && float_of_chars(s.data, out);
        buf_free(&s);
        return ok || no(why, "could not convert string to float: ", v);
    case JSON_NUMBER: break;
    default: return no_type(why, "float() argument must be a string or a real number", v);
    }
    json_double(v, out);
    if (json_is_int_literal(v) && isinf(*out))
        return no(why, "int too large to convert to float", none);
    return true;
}

/* ---- comparing ---------------------------------------------------------------------------------------- */

static bool is_number(struct json v)
{
    return json_type(v) == JSON_NUMBER || json_type(v) == JSON_BOOL;
}

static int compare_digits(struct json a, struct json b)
{
    bool an = a.p[0] == '-', bn = b.p[0] == '-';
    int c;

    if (an && a.n == 2 && a.p[1] == '0')
        return compare_digits((struct json){a.p + 1, 1}, b);
    if (bn && b.n == 2 && b.p[1] == '0')
        return compare_digits(a, (struct json){b.p + 1, 1});
    if (an != bn)
        return an ? -1 : 1;
    /* JSON has no leading zeros, so the longer one is the bigger one. */
    if (a.n != b.n)
        c = a.n < b.n ? -1 : 1;
    else
        c = memcmp(a.p, b.p, a.n);
    return an ? -c : c;
}

/* Exact, as in Python: 2**53 + 1 is more than float(2**53 + 1). */
static int compare_int_float(struct json i, double d)
{
    double whole = trunc(d);
    char digits[400];
    int c;

    if (isinf(d))
        return d > 0 ? -1 : 1;
    c = compare_digits(i, (struct json){digits, (size_t)snprintf(digits, sizeof(digits), "%.0f", whole)});
    return c ? c : (whole > d) - (whole < d);
}

bool py_compare(struct json a, struct json b, int *cmp)
{
    double x = 0, y = 0;

    if (!is_number(a) || !is_number(b))
        return false;
    if (json_is_int_literal(a) && json_is_int_literal(b)) {
        int c = compare_digits(a, b);

        *cmp = (c > 0) - (c < 0);
        return true;
    }
    py_float(a, &x, NULL);
    py_float(b, &y, NULL);
    if (isnan(x) || isnan(y))
        return false;
    if (json_is_int_literal(a))
        *cmp = compare_int_float(a, y);
    else if (json_is_int_literal(b))
        *cmp = -compare_int_float(b, x);
    else
        *cmp = (x > y) - (x < y);
    *cmp = (*cmp > 0) - (*cmp < 0);
    return true;
}

bool py_eq(struct json a, struct json b)
{
    enum json_type t = json_type(a);
    int cmp;

    if (is_number(a) && is_number(b))
        return py_compare(a, b, &cmp) && cmp == 0;
    if (t != json_type(b))
        return false;
    if (t == JSON_STRING) {
        struct buf s = BUF_INIT;
        bool same;

        if (a.n == b.n && memcmp(a.p, b.p, a.n) == 0)
            return true;
        json_str(a, &s);
        same = json_str_eqn(b, buf_str(&s), s.len);
        buf_free(&s);
        return same;
    }
    if (t == JSON_ARRAY) {
        struct json_iter i = json_iter(a), j = json_iter(b);
        struct json x, y;
        bool more;

        while ((more = json_next(&i, NULL, &x)) == json_next(&j, NULL, &y)) {
            if (!more)
                return true;
            if (!py_eq(x, y))
                return false;
        }
        return false;
    }
    return t == JSON_NULL || (a.n == b.n && memcmp(a.p, b.p, a.n) == 0);
}
