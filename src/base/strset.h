/* A set of strings that a stranger names, in the order in which they were first named, and no larger than is allowed. */
#ifndef BASE_STRSET_H
#define BASE_STRSET_H

#include <stdbool.h>
#include <stddef.h>

struct strset_item;
struct strset {
    struct strset_item *items; /* zero: empty */
    size_t n, bytes;           /* bytes: of memory, about */
};

bool strset_has(const struct strset *s, const char *name);
/* s is copied. False: it is not there, and there is no room for it within max_bytes of memory. */
bool strset_add(struct strset *s, const char *name, size_t max_bytes);
/* The one after this (NULL: the first); NULL at the end. */
const struct strset_item *strset_next(const struct strset *s, const struct strset_item *before);
const char *strset_name(const struct strset_item *i);
void strset_clear(struct strset *s);

#endif
