/* A growable byte string. Always NUL-terminated, so data may be used as a C string when it holds no NUL.
 * Zero-initialised is empty; buf_free() leaves it empty again. */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/mem.h"

struct buf {
    char *data; /* NULL while nothing was ever put in: use buf_str() */
    size_t len;
    size_t cap;
};

#define BUF_INIT                                                                                             \
    {                                                                                                        \
        0                                                                                                    \
    }

void buf_free(struct buf *b);
void buf_clear(struct buf *b); /* keeps the memory */
void buf_reserve(struct buf *b, size_t more);
static inline void buf_put(struct buf *b, const void *data, size_t n);
static inline void buf_puts(struct buf *b, const char *s);
static inline void buf_putc(struct buf *b, char c);
void buf_put_int(struct buf *b, int64_t v); /* in decimal */
void buf_put_uint(struct buf *b, uint64_t v);
void buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void buf_put_u32be(struct buf *b, uint32_t v);
/* Drop the first n bytes. */
void buf_consume(struct buf *b, size_t n);
/* Never NULL; valid until the next change. */
const char *buf_str(const struct buf *b);
/* Hand the memory over: the caller frees it; b is empty afterwards. Never NULL. */
char *buf_take(struct buf *b);
/* Copy into shared bytes; b is emptied. */
struct bytes *buf_to_bytes(struct buf *b);

/* Texts are made of short pieces, so these are worth having at the place of the call. */
static inline void buf_put(struct buf *b, const void *data, size_t n)
{
    if (b->cap - b->len <= n) /* the NUL needs a byte, too */
        buf_reserve(b, n);
    if (n)
        memcpy(b->data + b->len, data, n);
    b->len += n;
    b->data[b->len] = '\0';
}

static inline void buf_puts(struct buf *b, const char *s)
{
    buf_put(b, s, strlen(s));
}

static inline void buf_putc(struct buf *b, char c)
{
    buf_put(b, &c, 1);
}

#endif
