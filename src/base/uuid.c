#include "base/uuid.h"

#include <stdint.h>

static void uuid_print(const unsigned char raw[16], char out[UUID_SIZE])
{
    static const char hex[] = "0123456789abcdef";
    char *p = out;

    for (int i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            *p++ = '-';
        *p++ = hex[raw[i] >> 4];
        *p++ = hex[raw[i] & 15];
    }
    *p = '\0';
}

static void uuid_finish(unsigned char raw[16], int version, char out[UUID_SIZE])
{
    raw[6] = (unsigned char)((raw[6] & 0x0f) | (version << 4));
    raw[8] = (unsigned char)((raw[8] & 0x3f) | 0x80);
    uuid_print(raw, out);
}

void uuid_v4(struct clock *c, char out[UUID_SIZE])
{
    unsigned char raw[16];

    c->random(c, raw, sizeof(raw));
    uuid_finish(raw, 4, out);
}

void uuid_v7(struct clock *c, char out[UUID_SIZE])
{
    unsigned char raw[16];
    uint64_t ms = (uint64_t)c->wall_ms(c);

    c->random(c, raw, sizeof(raw));
    for (int i = 0; i < 6; i++)
        raw[i] = (unsigned char)(ms >> (40 - 8 * i));
    uuid_finish(raw, 7, out);
}

bool uuid_is_canonical(const char *s, size_t len)
{
    if (len != UUID_LEN)
        return false;
    for (size_t i = 0; i < len; i++) {
        bool dash = i == 8 || i == 13 || i == 18 || i == 23;
        bool hex = (s[i] >= '0' && s[i] <= '9') || (s[i] >= 'a' && s[i] <= 'f');

        if (dash ? s[i] != '-' : !hex)
            return false;
    }
    return true;
}
