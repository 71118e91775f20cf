/* JSON as text. What a client submitted and what a server answered is never turned into a tree and back: it
 * is checked once (json_check) and then read in place through spans, so numbers such as
 * 18446744073709551615, 5.0 and -0, lone surrogates, key order and unknown fields survive untouched, and
 * memory stays that of the text.
 *
 * The dialect is Python's json module, because that is what ComfyUI speaks: RFC 8259 plus the bare words NaN,
 * Infinity and -Infinity. Strings may hold lone surrogate escapes; raw bytes must be UTF-8. Duplicate keys
 * are allowed and the last one counts.
 *
 * No I/O, no global state; any thread. A span points into text owned by somebody else. */
#ifndef BASE_JSON_H
#define BASE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

/* One JSON value inside a checked text, without surrounding white space. p == NULL: no value. */
struct json {
    const char *p;
    size_t n;
};

enum json_type { JSON_NONE, JSON_NULL, JSON_BOOL, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT };

struct json_limits {
    unsigned depth; /* nested arrays and objects, at most */
    size_t values;  /* values in the whole text, keys included, at most */
};
#define JSON_MAX_DEPTH 512
#define JSON_LIMITS_DEFAULT ((struct json_limits){JSON_MAX_DEPTH, 8u << 20})

/* Check that text is exactly one JSON value within the limits (NULL: the defaults) and give its span. On a
 * fault returns -1 and says what and where ("line 3 column 7: expected ',' or '}'"). Uses constant memory. */
int json_check(const char *text, size_t len, const struct json_limits *lim, struct json *out,
               struct err *e) MUST_CHECK;

/* Everything below takes spans from a checked text only. */
enum json_type json_type(struct json v);
bool json_is_null(struct json v); /* null or no value */
bool json_is_true(struct json v);
/* Python's bool(): false for no value, null, false, 0, 0.0, -0, "", [] and {}. */
bool json_truthy(struct json v);

/* Iterate over the elements of an array or the members of an object.
 *     struct json_iter it = json_iter(obj); struct json k, v;
 *     while (json_next(&it, &k, &v)) ...
 * k is the key's string span (quotes included), none for arrays. */
struct json_iter {
    const char *p, *end;
    bool object;
};
struct json_iter json_iter(struct json container); /* not a container: empty */
bool json_next(struct json_iter *it, struct json *key, struct json *value);
size_t json_count(struct json container);

/* Member of an object (the last of that name), element of an array; no value if absent or not a container. */
struct json json_get(struct json obj, const char *key);
struct json json_getn(struct json obj, const char *key, size_t keylen); /* key as decoded bytes */
struct json json_at(struct json arr, size_t index);

/* A string's characters: decoded into out (appended), UTF-8; a lone surrogate becomes its three-byte form
 * (WTF-8), which json_put_str writes back as \udXXX. Not a string: -1 and out untouched. */
int json_str(struct json v, struct buf *out);
/* Decoded copy to free(), or NULL if v is not a string or holds U+0000. */
char *json_strdup(struct json v);
/* Does the string v say exactly these bytes? False for anything that is not a string. */
bool json_str_eq(struct json v, const char *s);
bool json_str_eqn(struct json v, const char *s, size_t n);

/* Whole numbers only ("5", "-3"; "5.0" and out of range give false). */
bool json_int(struct json v, int64_t *out);
bool json_uint(struct json v, uint64_t *out);
/* Any number, NaN and infinities included. */
bool json_double(struct json v, double *out);
/* Written without '.', 'e' or a bare word: what Python reads as an int, of any length. */
bool json_is_int_literal(struct json v);

/* Writing, always ASCII as ComfyUI does (\uXXXX, surrogate pairs). s is UTF-8 or WTF-8; bytes that are
 * neither become U+FFFD. Separators are the caller's. */
void json_put_str(struct buf *b, const char *s);
void json_put_strn(struct buf *b, const char *s, size_t n);
void json_put_double(struct buf *b,
                     double v); /* shortest that reads back, as Python's repr: 1.0, 1e+20, NaN */
static inline void json_put(struct buf *b, struct json v)
{
    if (v.p)
        buf_put(b, v.p, v.n);
    else
        buf_puts(b, "null");
}

/* A writer that keeps commas and nesting right. Python's separators (", " and ": ") so that bodies look like
 * a ComfyUI server's. depth <= 64. */
struct jsonw {
    struct buf *b;
    unsigned depth;
    uint64_t more; /* bit per depth: something was written at this level */
    bool keyed;
};
void jsonw_init(struct jsonw *w, struct buf *b);
void jsonw_obj(struct jsonw *w);     /* { */
void jsonw_obj_end(struct jsonw *w); /* } */
void jsonw_arr(struct jsonw *w);
void jsonw_arr_end(struct jsonw *w);
void jsonw_key(struct jsonw *w, const char *key);
void jsonw_keyn(struct jsonw *w, const char *key, size_t n);
void jsonw_str(struct jsonw *w, const char *s); /* NULL writes null */
void jsonw_strn(struct jsonw *w, const char *s, size_t n);
void jsonw_int(struct jsonw *w, int64_t v);
void jsonw_uint(struct jsonw *w, uint64_t v);
void jsonw_double(struct jsonw *w, double v);
void jsonw_bool(struct jsonw *w, bool v);
void jsonw_null(struct jsonw *w);
void jsonw_span(struct jsonw *w, struct json v); /* copied as it stands; none writes null */
/* key and value in one call */
void jsonw_kstr(struct jsonw *w, const char *key, const char *s);
void jsonw_kint(struct jsonw *w, const char *key, int64_t v);
void jsonw_kbool(struct jsonw *w, const char *key, bool v);
void jsonw_kspan(struct jsonw *w, const char *key, struct json v);

#endif
