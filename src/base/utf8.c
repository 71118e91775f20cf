#include "base/utf8.h"

/* Length of the character that starts with lead, 0 if none does; the range its second byte must be in (the
 * range is what keeps out overlong forms, surrogates and what is beyond U+10FFFF). */
static size_t lead_length(unsigned char lead, unsigned char *lo, unsigned char *hi)
{
    *lo = 0x80;
    *hi = 0xbf;
    if (lead < 0x80)
        return 1;
    if (lead < 0xc2)
        return 0;
    if (lead < 0xe0)
        return 2;
    if (lead < 0xf0) {
        if (lead == 0xe0)
            *lo = 0xa0;
        if (lead == 0xed)
            *hi = 0x9f;
        return 3;
    }
    if (lead > 0xf4)
        return 0;
    if (lead == 0xf0)
        *lo = 0x90;
    if (lead == 0xf4)
        *hi = 0x8f;
    return 4;
}

static size_t decode(const char *s, size_t n, bool surrogates, uint32_t *cp, size_t *good)
{
    const unsigned char *p = (const unsigned char *)s;
    unsigned char lo, hi;
    size_t len;
    uint32_t c;

    *good = 0;
    if (n == 0)
        return 0;
    len = lead_length(p[0], &lo, &hi);
    if (len == 0)
        return 0;
    if (surrogates && p[0] == 0xed)
        hi = 0xbf;
    c = len == 1 ? p[0] : p[0] & (0x7fu >> len);
    for (*good = 1; *good < len; (*good)++) {
        if (*good == n || p[*good] < lo || p[*good] > hi)
            return 0;
        lo = 0x80;
        hi = 0xbf;
        c = c << 6 | (p[*good] & 0x3fu);
    }
    *cp = c;
    return len;
}

size_t utf8_decode(const char *s, size_t n, uint32_t *cp)
{
    size_t good;

    return decode(s, n, false, cp, &good);
}

size_t wtf8_decode(const char *s, size_t n, uint32_t *cp)
{
    size_t good;

    return decode(s, n, true, cp, &good);
}

size_t utf8_bad_length(const char *s, size_t n)
{
    uint32_t cp;
    size_t good;

    decode(s, n, false, &cp, &good);
    return good ? good : 1;
}

size_t utf8_encode(uint32_t cp, char out[4])
{
    if (cp < 0x80) {
        out[0] = (char)cp;
        return 1;
    }
    if (cp < 0x800) {
        out[0] = (char)(0xc0 | cp >> 6);
        out[1] = (char)(0x80 | (cp & 0x3f));
        return 2;
    }
    if (cp < 0x10000) {
        out[0] = (char)(0xe0 | cp >> 12);
        out[1] = (char)(0x80 | (cp >> 6 & 0x3f));
        out[2] = (char)(0x80 | (cp & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | cp >> 18);
    out[1] = (char)(0x80 | (cp >> 12 & 0x3f));
    out[2] = (char)(0x80 | (cp >> 6 & 0x3f));
    out[3] = (char)(0x80 | (cp & 0x3f));
    return 4;
}

bool utf8_is_valid(const char *s, size_t n)
{
    uint32_t cp;

    while (n > 0) {
        size_t len = utf8_decode(s, n, &cp);

        if (len == 0)
            return false;
        s += len;
        n -= len;
    }
    return true;
}
