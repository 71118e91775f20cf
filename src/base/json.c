#include "base/json.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

/* ---- checking ---------------------------------------------------------------------------------------- */

struct check {
    const char *p, *end;
    const char *fault; /* what is wrong at p */
    size_t values, values_max;
    unsigned depth, depth_max;
    uint8_t in_object[JSON_MAX_DEPTH / 8]; /* bit per open container */
};

static bool is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static const char *skip_space(const char *p, const char *end)
{
    while (p < end && is_space(*p))
        p++;
    return p;
}

/* The first byte at or after p that is a quote, a backslash, a control byte or not ASCII; eight at a time. */
static const char *skip_plain(const char *p, const char *end)
{
    const uint64_t ones = 0x0101010101010101u, high = ones * 0x80;

    while (end - p >= 8) {
        uint64_t w, quote, slash;

        memcpy(&w, p, 8);
        quote = w ^ (ones * '"');
        slash = w ^ (ones * '\\');
        /* (x - 1) has its top bit set where x was zero; borrows only ever mark too much, and what is marked
         * is looked at again below. */
        if (((quote - ones) | (slash - ones) | (w - ones * 0x20) | w) & high)
            break;
        p += 8;
    }
    while (p < end && (unsigned char)*p >= 0x20 && (unsigned char)*p < 0x80 && *p != '"' && *p != '\\')
        p++;
    return p;
}

static int hex_value(char c)
{
    if (is_digit(c))
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

static bool bad(struct check *c, const char *at, const char *fault)
{
    c->p = at;
    c->fault = fault;
    return false;
}

static bool check_escape(struct check *c)
{
    const char *p = c->p;

    if (c->end - p < 2)
        return bad(c, p, "string does not end");
    switch (p[1]) {
    case '"':
    case '\\':
    case '/':
    case 'b':
    case 'f':
    case 'n':
    case 'r':
    case 't': c->p = p + 2; return true;
    case 'u':
        for (int i = 2; i < 6; i++)
            if (c->end - p <= i || hex_value(p[i]) < 0)
                return bad(c, p, "\\u wants four hex digits");
        c->p = p + 6;
        return true;
    default: return bad(c, p, "no such escape");
    }
}

static bool check_string(struct check *c)
{
    const char *start = c->p++;

    for (;;) {
        uint32_t cp;
        size_t n;

        c->p = skip_plain(c->p, c->end);
        if (c->p == c->end)
            return bad(c, start, "string does not end");
        if (*c->p == '"') {
            c->p++;
            return true;
        }
        if (*c->p == '\\') {
            if (!check_escape(c))
                return false;
            continue;
        }
        if ((unsigned char)*c->p < 0x20)
            return bad(c, c->p, "control character in string");
        n = utf8_decode(c->p, (size_t)(c->end - c->p), &cp);
        if (n == 0)
            return bad(c, c->p, "not UTF-8");
        c->p += n;
    }
}

static bool check_digits(struct check *c, const char *p)
{
    if (p >= c->end || !is_digit(*p))
        return bad(c, p, "expected a digit");
    while (p < c->end && is_digit(*p))
        p++;
    c->p = p;
    return true;
}

static bool check_word(struct check *c, const char *word)
{
    size_t n = strlen(word);

    if ((size_t)(c->end - c->p) < n || memcmp(c->p, word, n) != 0)
        return bad(c, c->p, "expected a value");
    c->p += n;
    return true;
}

static bool check_number(struct check *c)
{
    const char *p = c->p;

    if (*p == '-') {
        p++;
        if (p < c->end && *p == 'I')
            return check_word(c, "-Infinity");
    }
    if (p < c->end && *p == '0')
        c->p = p + 1;
    else if (!check_digits(c, p))
        return false;
    if (c->p < c->end && *c->p == '.' && !check_digits(c, c->p + 1))
        return false;
    if (c->p < c->end && (*c->p == 'e' || *c->p == 'E')) {
        p = c->p + 1;
        if (p < c->end && (*p == '+' || *p == '-'))
            p++;
        if (!check_digits(c, p))
            return false;
    }
    return true;
}

static bool check_scalar(struct check *c)
{
    switch (*c->p) {
    case '"': return check_string(c);
    case 't': return check_word(c, "true");
    case 'f': return check_word(c, "false");
    case 'n': return check_word(c, "null");
    case 'N': return check_word(c, "NaN");
    case 'I': return check_word(c, "Infinity");
    default:
        if (*c->p == '-' || is_digit(*c->p))
            return check_number(c);
        return bad(c, c->p, "expected a value");
    }
}

static bool count_value(struct check *c)
{
    if (c->values == c->values_max)
        return bad(c, c->p, "too many values");
    c->values++;
    return true;
}

static bool top_is_object(const struct check *c)
{
    return c->in_object[(c->depth - 1) / 8] >> ((c->depth - 1) % 8) & 1;
}

static bool check_open(struct check *c)
{
    uint8_t bit;

    if (c->depth == c->depth_max)
        return bad(c, c->p, "nested too deep");
    bit = (uint8_t)(1u << (c->depth % 8));
    if (*c->p == '{')
        c->in_object[c->depth / 8] |= bit;
    else
        c->in_object[c->depth / 8] &= (uint8_t)~bit;
    c->depth++;
    c->p = skip_space(c->p + 1, c->end);
    return true;
}

/* "key": of the next member. */
static bool check_key(struct check *c)
{
    if (c->p == c->end || *c->p != '"')
        return bad(c, c->p, "expected a key in double quotes");
    if (!count_value(c) || !check_string(c))
        return false;
    c->p = skip_space(c->p, c->end);
    if (c->p == c->end || *c->p != ':')
        return bad(c, c->p, "expected ':'");
    c->p = skip_space(c->p + 1, c->end);
    return true;
}

/* After a value: step over what closes or separates, until a value must follow (true, *more set) or the
 * outermost value has ended (true, *more unset). */
static bool check_after(struct check *c, bool *more)
{
    for (;;) {
        bool object;

        *more = false;
        if (c->depth == 0)
            return true;
        object = top_is_object(c);
        c->p = skip_space(c->p, c->end);
        if (c->p < c->end && *c->p == (object ? '}' : ']')) {
            c->p++;
            c->depth--;
            continue;
        }
        if (c->p == c->end || *c->p != ',')
            return bad(c, c->p, object ? "expected ',' or '}'" : "expected ',' or ']'");
        c->p = skip_space(c->p + 1, c->end);
        *more = true;
        return !object || check_key(c);
    }
}

static bool check_value(struct check *c)
{
    bool more = true;

    while (more) {
        if (c->p == c->end)
            return bad(c, c->p, "expected a value");
        if (!count_value(c))
            return false;
        if (*c->p != '{' && *c->p != '[') {
            if (!check_scalar(c))
                return false;
        } else {
            bool object = *c->p == '{';

            if (!check_open(c))
                return false;
            if (c->p == c->end || *c->p != (object ? '}' : ']')) {
                if (object && !check_key(c))
                    return false;
                continue;
            }
        }
        if (!check_after(c, &more))
            return false;
    }
    return true;
}

static int fault_at(const char *text, const char *at, const char *fault, struct err *e)
{
    size_t line = 1, column = 1;

    for (const char *p = text; p < at; p++) {
        if (*p == '\n') {
            line++;
            column = 1;
        } else if (((unsigned char)*p & 0xc0) != 0x80) {
            column++; /* characters, not bytes */
        }
    }
    return err_set(e, EINVAL, "line %zu column %zu: %s", line, column, fault);
}

int json_check(const char *text, size_t len, const struct json_limits *lim, struct json *out, struct err *e)
{
    const struct json_limits def = JSON_LIMITS_DEFAULT;
    struct check c;
    const char *start;

    if (!lim)
        lim = &def;
    if (len == 0)
        return err_set(e, EINVAL, "line 1 column 1: expected a value");
    c.p = text;
    c.end = text + len;
    c.fault = NULL;
    c.values = 0;
    c.values_max = lim->values;
    c.depth = 0;
    c.depth_max = lim->depth < JSON_MAX_DEPTH ? lim->depth : JSON_MAX_DEPTH;
    start = c.p = skip_space(c.p, c.end);
    if (!check_value(&c))
        return fault_at(text, c.p, c.fault, e);
    if (out)
        *out = (struct json){start, (size_t)(c.p - start)};
    c.p = skip_space(c.p, c.end);
    if (c.p != c.end)
        return fault_at(text, c.p, "something follows the value", e);
    return 0;
}

/* ---- walking a checked text --------------------------------------------------------------------------- */

static const char *skip_string(const char *p, const char *end)
{
    for (p = skip_plain(p + 1, end); *p != '"'; p = skip_plain(p, end))
        p += *p == '\\' ? 2 : 1;
    return p + 1;
}

static const char *skip_value(const char *p, const char *end)
{
    size_t depth = 0;

    if (*p == '"')
        return skip_string(p, end);
    if (*p != '{' && *p != '[') {
        while (p < end && *p != ',' && *p != '}' && *p != ']' && !is_space(*p))
            p++;
        return p;
    }
    do {
        switch (*p) {
        case '"': p = skip_string(p, end); continue;
        case '{':
        case '[': depth++; break;
        case '}':
        case ']': depth--; break;
        default: break;
        }
        p++;
    } while (depth > 0);
    return p;
}

enum json_type json_type(struct json v)
{
    if (!v.p)
        return JSON_NONE;
    switch (*v.p) {
    case '{': return JSON_OBJECT;
    case '[': return JSON_ARRAY;
    case '"': return JSON_STRING;
    case 't':
    case 'f': return JSON_BOOL;
    case 'n': return JSON_NULL;
    default: return JSON_NUMBER;
    }
}

bool json_is_null(struct json v)
{
    return !v.p || *v.p == 'n';
}

bool json_is_true(struct json v)
{
    return v.p && *v.p == 't';
}

bool json_truthy(struct json v)
{
    double d;

    switch (json_type(v)) {
    case JSON_NONE:
    case JSON_NULL: return false;
    case JSON_BOOL: return json_is_true(v);
    case JSON_NUMBER: return json_double(v, &d) && d != 0;
    case JSON_STRING: return v.n > 2;
    case JSON_ARRAY:
    case JSON_OBJECT: return skip_space(v.p + 1, v.p + v.n) < v.p + v.n - 1;
    }
    return false;
}

struct json_iter json_iter(struct json v)
{
    enum json_type t = json_type(v);

    if (t != JSON_ARRAY && t != JSON_OBJECT)
        return (struct json_iter){NULL, NULL, false};
    return (struct json_iter){v.p + 1, v.p + v.n - 1, t == JSON_OBJECT};
}

bool json_next(struct json_iter *it, struct json *key, struct json *value)
{
    const char *p = skip_space(it->p, it->end), *q;
    struct json k = {NULL, 0};

    if (p < it->end && *p == ',')
        p = skip_space(p + 1, it->end);
    if (p >= it->end) {
        it->p = it->end;
        return false;
    }
    if (it->object) {
        q = skip_string(p, it->end);
        k = (struct json){p, (size_t)(q - p)};
        p = skip_space(q, it->end);
        p = skip_space(p + 1, it->end);
    }
    q = skip_value(p, it->end);
    if (key)
        *key = k;
    if (value)
        *value = (struct json){p, (size_t)(q - p)};
    it->p = q;
    return true;
}

size_t json_count(struct json container)
{
    struct json_iter it = json_iter(container);
    size_t n = 0;

    while (json_next(&it, NULL, NULL))
        n++;
    return n;
}

struct json json_getn(struct json obj, const char *key, size_t keylen)
{
    struct json found = {NULL, 0}, k, v;
    struct json_iter it;

    if (json_type(obj) != JSON_OBJECT)
        return found;
    it = json_iter(obj);
    while (json_next(&it, &k, &v))
        if (json_str_eqn(k, key, keylen))
            found = v;
    return found;
}

struct json json_get(struct json obj, const char *key)
{
    return json_getn(obj, key, strlen(key));
}

struct json json_at(struct json arr, size_t index)
{
    struct json v;
    struct json_iter it;

    if (json_type(arr) == JSON_ARRAY) {
        it = json_iter(arr);
        while (json_next(&it, NULL, &v))
            if (index-- == 0)
                return v;
    }
    return (struct json){NULL, 0};
}

/* ---- strings ------------------------------------------------------------------------------------------ */

static uint32_t hex4(const char *p)
{
    uint32_t v = 0;

    for (int i = 0; i < 4; i++)
        v = v << 4 | (uint32_t)hex_value(p[i]);
    return v;
}

/* Decode the escape at p (a backslash) into out, give its length there; *p moves behind it. A high surrogate
 * followed by a low one is one character, as in Python. */
static size_t unescape(const char **pp, const char *end, char out[4])
{
    const char *p = *pp;
    uint32_t cp, low;

    *pp = p + 2;
    switch (p[1]) {
    case 'b': out[0] = '\b'; return 1;
    case 'f': out[0] = '\f'; return 1;
    case 'n': out[0] = '\n'; return 1;
    case 'r': out[0] = '\r'; return 1;
    case 't': out[0] = '\t'; return 1;
    case 'u': break;
    default: out[0] = p[1]; return 1;
    }
    cp = hex4(p + 2);
    p += 6;
    if (cp >= 0xd800 && cp < 0xdc00 && end - p >= 6 && p[0] == '\\' && p[1] == 'u') {
        low = hex4(p + 2);
        if (low >= 0xdc00 && low < 0xe000) {
            cp = 0x10000 + ((cp - 0xd800) << 10) + (low - 0xdc00);
            p += 6;
        }
    }
    *pp = p;
    return utf8_encode(cp, out);
}

int json_str(struct json v, struct buf *out)
{
    const char *p, *end, *q;
    char c[4];

    if (json_type(v) != JSON_STRING)
        return -1;
    p = v.p + 1;
    end = v.p + v.n - 1;
    while (p < end) {
        q = memchr(p, '\\', (size_t)(end - p));
        if (!q)
            q = end;
        buf_put(out, p, (size_t)(q - p));
        p = q;
        if (p < end)
            buf_put(out, c, unescape(&p, end, c));
    }
    return 0;
}

char *json_strdup(struct json v)
{
    struct buf b = BUF_INIT;

    if (json_str(v, &b) < 0 || (b.len > 0 && memchr(b.data, 0, b.len))) {
        buf_free(&b);
        return NULL;
    }
    return buf_take(&b);
}

bool json_str_eqn(struct json v, const char *s, size_t n)
{
    const char *p, *end;
    char c[4];

    if (json_type(v) != JSON_STRING)
        return false;
    p = v.p + 1;
    end = v.p + v.n - 1;
    if (n > (size_t)(end - p))
        return false; /* an escape is never shorter than what it stands for */
    while (p < end) {
        size_t len = 1;

        if (*p == '\\')
            len = unescape(&p, end, c);
        else
            c[0] = *p++;
        if (len > n || memcmp(c, s, len) != 0)
            return false;
        s += len;
        n -= len;
    }
    return n == 0;
}

bool json_str_eq(struct json v, const char *s)
{
    return json_str_eqn(v, s, strlen(s));
}

/* ---- numbers ------------------------------------------------------------------------------------------ */

bool json_is_int_literal(struct json v)
{
    if (json_type(v) != JSON_NUMBER)
        return false;
    for (size_t i = 0; i < v.n; i++)
        if (!is_digit(v.p[i]) && !(i == 0 && v.p[i] == '-'))
            return false;
    return true;
}

/* Magnitude of a whole number literal; false when it does not fit. */
static bool magnitude(struct json v, bool *negative, uint64_t *out)
{
    uint64_t m = 0;
    size_t i = 0;

    if (!json_is_int_literal(v))
        return false;
    *negative = v.p[0] == '-';
    for (i = *negative; i < v.n; i++)
        if (__builtin_mul_overflow(m, 10u, &m) || __builtin_add_overflow(m, (uint64_t)(v.p[i] - '0'), &m))
            return false;
    *out = m;
    return true;
}

bool json_int(struct json v, int64_t *out)
{
    bool negative;
    uint64_t m;

    if (!magnitude(v, &negative, &m) || m > (uint64_t)INT64_MAX + negative)
        return false;
    *out = negative ? (int64_t)(0 - m) : (int64_t)m;
    return true;
}

bool json_uint(struct json v, uint64_t *out)
{
    bool negative;
    uint64_t m;

    if (!magnitude(v, &negative, &m) || (negative && m != 0))
        return false;
    *out = m;
    return true;
}

bool json_double(struct json v, double *out)
{
    char small[64], *s = small;

    if (json_type(v) != JSON_NUMBER)
        return false;
    if (v.n >= sizeof(small))
        s = xmalloc(v.n + 1);
    memcpy(s, v.p, v.n);
    s[v.n] = '\0';
    /* The words are strtod's own too; nobody here calls setlocale(), so the point is a point. */
    *out = strtod(s, NULL);
    if (s != small)
        free(s);
    return true;
}
