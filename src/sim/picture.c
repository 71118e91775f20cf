#include "sim/picture.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* Columns left to right, bit 0 on top; ' ' to '_'. */
static const uint8_t font[64][5] = {
    {0x00, 0x00, 0x00, 0x00, 0x00}, {0x00, 0x00, 0x5f, 0x00, 0x00}, {0x00, 0x07, 0x00, 0x07, 0x00},
    {0x14, 0x7f, 0x14, 0x7f, 0x14}, {0x24, 0x2a, 0x7f, 0x2a, 0x12}, {0x23, 0x13, 0x08, 0x64, 0x62},
    {0x36, 0x49, 0x56, 0x20, 0x50}, {0x00, 0x04, 0x03, 0x00, 0x00}, {0x00, 0x1c, 0x22, 0x41, 0x00},
    {0x00, 0x41, 0x22, 0x1c, 0x00}, {0x2a, 0x1c, 0x7f, 0x1c, 0x2a}, {0x08, 0x08, 0x3e, 0x08, 0x08},
    {0x00, 0x50, 0x30, 0x00, 0x00}, {0x08, 0x08, 0x08, 0x08, 0x08}, {0x00, 0x60, 0x60, 0x00, 0x00},
    {0x60, 0x10, 0x08, 0x04, 0x03}, {0x3e, 0x51, 0x49, 0x45, 0x3e}, {0x44, 0x42, 0x7f, 0x40, 0x40},
    {0x62, 0x51, 0x49, 0x49, 0x46}, {0x22, 0x41, 0x49, 0x49, 0x36}, {0x18, 0x14, 0x12, 0x7f, 0x10},
    {0x2f, 0x49, 0x49, 0x49, 0x31}, {0x3e, 0x49, 0x49, 0x49, 0x32}, {0x01, 0x61, 0x19, 0x05, 0x03},
    {0x36, 0x49, 0x49, 0x49, 0x36}, {0x26, 0x49, 0x49, 0x49, 0x3e}, {0x00, 0x00, 0x36, 0x00, 0x00},
    {0x00, 0x40, 0x36, 0x00, 0x00}, {0x08, 0x14, 0x22, 0x41, 0x00}, {0x14, 0x14, 0x14, 0x14, 0x14},
    {0x00, 0x41, 0x22, 0x14, 0x08}, {0x02, 0x01, 0x59, 0x05, 0x02}, {0x3e, 0x41, 0x5d, 0x55, 0x1e},
    {0x7c, 0x12, 0x11, 0x12, 0x7c}, {0x7f, 0x49, 0x49, 0x49, 0x36}, {0x3e, 0x41, 0x41, 0x41, 0x22},
    {0x7f, 0x41, 0x41, 0x22, 0x1c}, {0x7f, 0x49, 0x49, 0x49, 0x41}, {0x7f, 0x09, 0x09, 0x09, 0x01},
    {0x3e, 0x41, 0x41, 0x51, 0x32}, {0x7f, 0x08, 0x08, 0x08, 0x7f}, {0x00, 0x41, 0x7f, 0x41, 0x00},
    {0x30, 0x40, 0x41, 0x3f, 0x01}, {0x7f, 0x08, 0x14, 0x22, 0x41}, {0x7f, 0x40, 0x40, 0x40, 0x40},
    {0x7f, 0x02, 0x0c, 0x02, 0x7f}, {0x7f, 0x04, 0x08, 0x10, 0x7f}, {0x3e, 0x41, 0x41, 0x41, 0x3e},
    {0x7f, 0x09, 0x09, 0x09, 0x06}, {0x3e, 0x41, 0x51, 0x21, 0x5e}, {0x7f, 0x09, 0x19, 0x29, 0x46},
    {0x26, 0x49, 0x49, 0x49, 0x32}, {0x01, 0x01, 0x7f, 0x01, 0x01}, {0x3f, 0x40, 0x40, 0x40, 0x3f},
    {0x1f, 0x20, 0x40, 0x20, 0x1f}, {0x7f, 0x20, 0x18, 0x20, 0x7f}, {0x63, 0x14, 0x08, 0x14, 0x63},
    {0x03, 0x04, 0x78, 0x04, 0x03}, {0x61, 0x59, 0x49, 0x4d, 0x43}, {0x00, 0x7f, 0x41, 0x41, 0x00},
    {0x03, 0x04, 0x08, 0x10, 0x60}, {0x00, 0x41, 0x41, 0x7f, 0x00}, {0x04, 0x02, 0x01, 0x02, 0x04},
    {0x40, 0x40, 0x40, 0x40, 0x40},
};
static const uint8_t box[5] = {0x7f, 0x41, 0x41, 0x41, 0x7f}; /* what the font does not have */

static void put(struct image *im, unsigned n, unsigned x, unsigned y, float v)
{
    if (x < im->w && y < im->h)
        for (unsigned c = 0; c < im->c && c < 3; c++)
            image_at(im, n, x, y)[c] = v;
}

static void put_block(struct image *im, unsigned n, unsigned x, unsigned y, unsigned zoom, float v)
{
    for (unsigned dy = 0; dy < zoom; dy++)
        for (unsigned dx = 0; dx < zoom; dx++)
            put(im, n, x + dx, y + dy, v);
}

/* One character and what follows it; bytes after the first of a UTF-8 character are skipped. */
static const uint8_t *glyph(const char **s)
{
    unsigned char c = (unsigned char)*(*s)++;

    while (((unsigned char)**s & 0xc0) == 0x80 && c >= 0xc0)
        (*s)++;
    if (c >= 'a' && c <= 'z')
        c = (unsigned char)(c - 32);
    if (c == '\n' || c == '\t')
        c = ' ';
    return c >= 32 && c < 96 ? font[c - 32] : box;
}

void picture_text(struct image *im, unsigned n, unsigned x, unsigned y, unsigned zoom, const char *text)
{
    while (*text && x < im->w) {
        const uint8_t *g = glyph(&text);

        for (unsigned col = 0; col < 6; col++)
            for (unsigned row = 0; row < 9; row++) {
                bool on = col < 5 && row > 0 && row < 8 && (g[col] >> (row - 1) & 1);

                put_block(im, n, x + col * zoom, y + row * zoom, zoom, on ? 1.0f : 0.0f);
            }
        x += 6 * zoom;
    }
}

/* splitmix64: a plain, well mixing generator; this is paint, not cryptography. */
static uint64_t mix(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static float unit(uint64_t *state)
{
    return (float)(mix(state) >> 40) / (float)(1 << 24);
}

static uint64_t fnv(uint64_t h, const char *s)
{
    for (; *s; s++)
        h = (h ^ (unsigned char)*s) * 0x100000001b3u;
    return (h ^ 0xff) * 0x100000001b3u;
}

static void pattern(struct image *im, unsigned n, uint64_t state)
{
    float a[3], b[3], fx = 1 + floorf(unit(&state) * 7), fy = 1 + floorf(unit(&state) * 7);
    float phase = unit(&state) * 6.28f, twist = unit(&state) * 4 - 2;

    for (int c = 0; c < 3; c++) {
        a[c] = 0.15f + 0.8f * unit(&state);
        b[c] = 0.15f + 0.8f * unit(&state);
    }
    for (unsigned y = 0; y < im->h; y++)
        for (unsigned x = 0; x < im->w; x++) {
            float u = (float)x / (float)im->w, v = (float)y / (float)im->h;
            float t = 0.5f + 0.25f * (sinf(6.2832f * fx * u + phase + twist * v) +
                                      cosf(6.2832f * fy * v - twist * u));

            for (int c = 0; c < 3; c++)
                image_at(im, n, x, y)[c] = a[c] + (b[c] - a[c]) * t;
        }
}

static void noise(struct image *im, unsigned n, uint64_t state, float share)
{
    float *p = image_at(im, n, 0, 0);

    for (size_t i = 0, all = (size_t)im->w * im->h * 3; i < all; i++)
        p[i] = p[i] * (1 - share) + unit(&state) * share;
}

static void label(struct image *im, unsigned n, const struct picture *p)
{
    unsigned zoom = im->w >= 1024 ? 3 : im->w >= 384 ? 2 : 1, line = 10 * zoom, per_line = im->w / (6 * zoom);
    const char *s = p->prompt;
    char text[160];
    unsigned y = 0;

    picture_text(im, n, 0, y, zoom, p->server);
    snprintf(text, sizeof(text), im->w >= 160 ? "seed %s #%u" : "%s #%u", p->seed, n);
    picture_text(im, n, 0, y += line, zoom, text);
    if (per_line > sizeof(text) - 1)
        per_line = sizeof(text) - 1;
    for (y += line + zoom * 2; *s && per_line > 0 && y + line <= im->h && y < line * 12; y += line) {
        size_t take = strnlen(s, per_line);

        while (s[take] && ((unsigned char)s[take] & 0xc0) == 0x80 && take > 1)
            take--;
        memcpy(text, s, take);
        text[take] = '\0';
        picture_text(im, n, 0, y, zoom, text);
        s += take;
    }
}

struct image *picture_paint(const struct picture *p, unsigned n, unsigned w, unsigned h, struct err *e)
{
    uint64_t base = fnv(fnv(0xcbf29ce484222325u, p->seed), p->prompt);
    struct image *im = image_new(n, w, h, 3, e);

    if (!im)
        return NULL;
    for (unsigned i = 0; i < n; i++) {
        pattern(im, i, base + i);
        if (p->step < p->steps)
            noise(im, i, base + i, 1.0f - (float)p->step / (float)p->steps);
        else
            label(im, i, p);
    }
    return im;
}
