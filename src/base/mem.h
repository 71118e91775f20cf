/* Memory: allocation that cannot fail, and shared immutable bytes.
 *
 * What a peer may make us allocate is bounded by limits before it is allocated (design: P8), so running out
 * of memory means the machine is out of memory: the process says so and aborts, and the store recovers. */
#ifndef BASE_MEM_H
#define BASE_MEM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

void *xmalloc(size_t n) __attribute__((malloc, returns_nonnull));
void *xcalloc(size_t n, size_t size) __attribute__((malloc, returns_nonnull));
void *xrealloc(void *p, size_t n) __attribute__((returns_nonnull));
char *xstrdup(const char *s) __attribute__((malloc, returns_nonnull));
char *xstrndup(const char *s, size_t n) __attribute__((malloc, returns_nonnull));
/* NULL stays NULL. */
char *xstrdup_null(const char *s);
char *xasprintf(const char *fmt, ...) __attribute__((format(printf, 1, 2), malloc, returns_nonnull));

#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))
#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

/* Immutable bytes with a count of owners, for what is handed between threads or to many sockets: a submitted
 * graph, a history document, an encoded frame. Any thread may hold and release a reference. data[len] is NUL.
 */
struct bytes {
    atomic_uint refs;
    bool secret; /* wiped when the last owner lets go; set by who made it, before anyone else sees it */
    size_t len;
    char data[];
};

struct bytes *bytes_new(const void *data, size_t len);
/* The caller fills data[0..len) before anyone else sees it. */
struct bytes *bytes_alloc(size_t len);
struct bytes *bytes_ref(struct bytes *b); /* NULL stays NULL */
void bytes_unref(struct bytes *b);        /* NULL is fine */

#endif
