/* Making a new JSON text out of an old one by exchanging pieces; every byte that no edit names stays as it
 * was, so numbers, escapes, white space and unknown fields survive. Pure.
 *
 *     struct edits e = EDITS_INIT;
 *     edits_replace_str(&e, json_get(data, "prompt_id"), job_id);
 *     edits_put(&e, out, text);
 *     edits_fini(&e); */
#ifndef COMFY_SPLICE_H
#define COMFY_SPLICE_H

#include <stdbool.h>

#include "base/json.h"

struct edit {
    const char *at; /* in the old text */
    size_t cut;     /* bytes that go; 0 inserts */
    size_t from, n; /* the new bytes, in edits.text */
    size_t order;
};
struct edits {
    struct edit *v;
    size_t n, cap;
    struct buf text;
};
#define EDITS_INIT                                                                                           \
    {                                                                                                        \
        0                                                                                                    \
    }

void edits_fini(struct edits *e); /* then it is empty, as at first */
/* The same edits of the same text, made in the same order. */
bool edits_equal(const struct edits *a, const struct edits *b);
/* Put n bytes of JSON in the place of a value (or of a key's span). Edits may come in any order; they must
 * not overlap. The bytes are copied. */
void edits_replace(struct edits *e, struct json at, const char *json, size_t n);
/* The same with a string's characters, which are quoted and escaped. */
void edits_replace_str(struct edits *e, struct json at, const char *s);
void edits_replace_strn(struct edits *e, struct json at, const char *s, size_t n);
/* Insert bytes at a place in the text; two inserts at one place keep their order. */
void edits_insert(struct edits *e, const char *at, const char *json, size_t n);
/* Append a member to an object ("key": json). */
void edits_add_member(struct edits *e, struct json obj, const char *key, const char *json, size_t n);
/* Append the text of v with all edits that lie in it made. */
void edits_put(struct edits *e, struct buf *out, struct json v);

/* Append the object without the members that drop() names; the rest byte by byte. Not an object: as it is. */
typedef bool splice_drop_cb(void *arg, struct json key, struct json value);
void splice_put_without(struct buf *out, struct json obj, splice_drop_cb *drop, void *arg);

#endif
