/* Character classes and small predicates of RFC 9110 that the files of this room share. Private to http/. */
#ifndef HTTP_CHAR_H
#define HTTP_CHAR_H

#include <stdbool.h>
#include <stddef.h>

static inline bool http_is_digit(unsigned char c)
{
    return c >= '0' && c <= '9';
}

static inline bool http_is_alnum(unsigned char c)
{
    return http_is_digit(c) || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z');
}

/* tchar: what names of methods and fields are made of. */
static inline bool http_is_tchar(unsigned char c)
{
    /* One bit per character 0..127. */
    static const unsigned bits[4] = {0, 0x03ff6cfa, 0xc7fffffe, 0x57ffffff};

    return c < 0x80 && (bits[c >> 5] >> (c & 31) & 1);
}

/* What may stand in a field's value: tab, visible ASCII, space, bytes above 127. */
static inline bool http_is_vchar(unsigned char c)
{
    return (c >= 0x20 && c != 0x7f) || c == '\t';
}

bool http_is_token(const char *s, size_t n);
/* Strict: no overlong forms, no surrogates. */
bool http_is_utf8(const char *s, size_t n);
/* 0..15, or -1. */
int http_hex_value(unsigned char c);
/* Is token among the comma-separated elements? */
bool http_list_has_token(const char *list, const char *token);

#endif
