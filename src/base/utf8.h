/* UTF-8, strictly, and its superset WTF-8, in which a lone surrogate has the three-byte form that the plain
 * scheme would give it. Pure. */
#ifndef BASE_UTF8_H
#define BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The character at s: its length in bytes (1 to 4) and *cp, or 0 when the bytes are not UTF-8: overlong
 * forms, surrogates, beyond U+10FFFF, cut off, n == 0. */
size_t utf8_decode(const char *s, size_t n, uint32_t *cp);
/* The same, but surrogates are let through. */
size_t wtf8_decode(const char *s, size_t n, uint32_t *cp);
/* How many bytes at s to replace by one U+FFFD when the decoder gave 0 and n > 0: the longest start of a
 * character that was cut off, or 1 (Unicode 15, 3.9, "maximal subparts", as Python's errors="replace"). */
size_t utf8_bad_length(const char *s, size_t n);
/* cp <= 0x10FFFF, surrogates included. Gives the length. */
size_t utf8_encode(uint32_t cp, char out[4]);
bool utf8_is_valid(const char *s, size_t n);

#endif
