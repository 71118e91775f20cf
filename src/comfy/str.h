/* Decoded strings that mostly are pieces of the text they came from, and an index over them. Pure. */
#ifndef COMFY_STR_H
#define COMFY_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/json.h"

/* n characters, not NUL-terminated; p == NULL: none. */
struct str {
    const char *p;
    size_t n;
};
static inline bool str_eq(struct str a, struct str b)
{
    return a.n == b.n && (a.n == 0 || __builtin_memcmp(a.p, b.p, a.n) == 0);
}
/* Of a string that ends in NUL and outlives it. */
static inline struct str str_of(const char *s)
{
    return (struct str){s, __builtin_strlen(s)};
}
bool str_is(struct str a, const char *s);
bool str_starts(struct str a, const char *prefix);

/* The characters of strings. One without escapes is a piece of the text itself; others are kept here. */
struct str_pool {
    char **v;
    size_t n, cap;
};
void str_pool_fini(struct str_pool *p);
/* Not a string: none. */
struct str str_pool_get(struct str_pool *p, struct json v);

/* From strings to the numbers 0, 1, 2 ... in order of adding. The characters are the caller's. */
#define STR_NOWHERE SIZE_MAX
struct str_index {
    struct str *keys;
    uint32_t *hashes;
    size_t n, cap;
    uint32_t *slots; /* number + 1; 0 is free */
    size_t mask;
};
void str_index_fini(struct str_index *x);
size_t str_index_find(const struct str_index *x, struct str key);
/* The number of the key, new or not. */
size_t str_index_add(struct str_index *x, struct str key, bool *added);

#endif
