#include "sim/image.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct image *image_new(unsigned n, unsigned w, unsigned h, unsigned c, struct err *e)
{
    struct image *im;
    size_t samples;

    if (n == 0 || w == 0 || h == 0 || c == 0 || w > IMAGE_MAX_SIDE || h > IMAGE_MAX_SIDE || c > 4) {
        err_set(e, 0, "impossible picture size %ux%ux%ux%u", n, h, w, c);
        return NULL;
    }
    samples = (size_t)w * h * c;
    if (n > IMAGE_MAX_SAMPLES / samples) {
        err_set(e, 0, "a picture of %ux%ux%ux%u samples is too large", n, h, w, c);
        return NULL;
    }
    samples *= n;
    im = xcalloc(1, sizeof(*im) + samples * sizeof(float));
    atomic_init(&im->refs, 1);
    im->n = n;
    im->w = w;
    im->h = h;
    im->c = c;
    return im;
}

struct image *image_ref(struct image *im)
{
    if (im)
        atomic_fetch_add_explicit(&im->refs, 1, memory_order_relaxed);
    return im;
}

void image_unref(struct image *im)
{
    if (im && atomic_fetch_sub_explicit(&im->refs, 1, memory_order_acq_rel) == 1)
        free(im);
}

size_t image_samples(const struct image *im)
{
    return (size_t)im->n * im->w * im->h * im->c;
}

struct image *image_fill(unsigned n, unsigned w, unsigned h, unsigned c, const float *color, struct err *e)
{
    struct image *im = image_new(n, w, h, c, e);

    if (!im)
        return NULL;
    for (size_t i = 0, all = image_samples(im); i < all; i++)
        im->px[i] = color[i % c];
    return im;
}

struct image *image_invert(const struct image *im, struct err *e)
{
    struct image *out = image_new(im->n, im->w, im->h, im->c, e);

    if (!out)
        return NULL;
    for (size_t i = 0, all = image_samples(im); i < all; i++)
        out->px[i] = 1.0f - im->px[i];
    return out;
}

struct image *image_flip(const struct image *im, bool vertically, struct err *e)
{
    struct image *out = image_new(im->n, im->w, im->h, im->c, e);

    if (!out)
        return NULL;
    for (unsigned n = 0; n < im->n; n++)
        for (unsigned y = 0; y < im->h; y++)
            for (unsigned x = 0; x < im->w; x++)
                memcpy(image_at(out, n, x, y),
                       image_get(im, n, vertically ? x : im->w - 1 - x, vertically ? im->h - 1 - y : y),
                       im->c * sizeof(float));
    return out;
}

struct image *image_repeat(const struct image *im, unsigned times, struct err *e)
{
    struct image *out;
    size_t all = image_samples(im);

    if (times == 0 || im->n > IMAGE_MAX_SAMPLES / times) {
        err_set(e, 0, "a batch of %u times %u pictures is too large", times, im->n);
        return NULL;
    }
    out = image_new(im->n * times, im->w, im->h, im->c, e);
    if (!out)
        return NULL;
    for (unsigned i = 0; i < times; i++)
        memcpy(out->px + i * all, im->px, all * sizeof(float));
    return out;
}

struct image *image_slice(const struct image *im, unsigned first, unsigned count, struct err *e)
{
    struct image *out;

    if (first > im->n - 1)
        first = im->n - 1;
    if (count > im->n - first)
        count = im->n - first;
    out = image_new(count, im->w, im->h, im->c, e);
    if (out)
        memcpy(out->px, image_get(im, first, 0, 0), image_samples(out) * sizeof(float));
    return out;
}

struct image *image_crop(const struct image *im, unsigned x, unsigned y, unsigned w, unsigned h,
                         struct err *e)
{
    struct image *out;

    if (x > im->w - 1)
        x = im->w - 1;
    if (y > im->h - 1)
        y = im->h - 1;
    if (w > im->w - x)
        w = im->w - x;
    if (h > im->h - y)
        h = im->h - y;
    out = image_new(im->n, w, h, im->c, e);
    if (!out)
        return NULL;
    for (unsigned n = 0; n < im->n; n++)
        for (unsigned row = 0; row < h; row++)
            memcpy(image_at(out, n, 0, row), image_get(im, n, x, y + row), (size_t)w * im->c * sizeof(float));
    return out;
}

/* The same picture with another number of channels: alpha is added as 1, or dropped. */
static struct image *with_channels(const struct image *im, unsigned c, struct err *e)
{
    struct image *out = image_new(im->n, im->w, im->h, c, e);
    size_t pixels = (size_t)im->n * im->w * im->h;

    if (!out)
        return NULL;
    for (size_t i = 0; i < pixels; i++)
        for (unsigned k = 0; k < c; k++)
            out->px[i * c + k] = k < im->c ? im->px[i * im->c + k] : 1.0f;
    return out;
}

struct image *image_rgb(const struct image *im, struct err *e)
{
    return with_channels(im, 3, e);
}

struct image *image_alpha_only(const struct image *im, struct err *e)
{
    struct image *out = image_new(1, im->w, im->h, 4, e);

    for (size_t i = 0; out && i < (size_t)im->w * im->h; i++)
        out->px[4 * i + 3] = im->c == 4 ? im->px[4 * i + 3] : 1.0f;
    return out;
}

struct image *image_join(const struct image *a, const struct image *b, struct err *e)
{
    unsigned c = a->c > b->c ? a->c : b->c;
    struct image *out = NULL, *x = NULL, *y = NULL, *scaled = NULL;

    if (a->w != b->w || a->h != b->h) {
        scaled = image_scale(b, a->w, a->h, SCALE_BILINEAR, true, e);
        if (!scaled)
            return NULL;
        b = scaled;
    }
    x = with_channels(a, c, e);
    y = x ? with_channels(b, c, e) : NULL;
    out = y ? image_new(a->n + b->n, a->w, a->h, c, e) : NULL;
    if (out) {
        memcpy(out->px, x->px, image_samples(x) * sizeof(float));
        memcpy(out->px + image_samples(x), y->px, image_samples(y) * sizeof(float));
    }
    image_unref(x);
    image_unref(y);
    image_unref(scaled);
    return out;
}

struct image *image_channel(const struct image *im, unsigned channel, struct err *e)
{
    struct image *out = image_new(im->n, im->w, im->h, 1, e);
    size_t pixels = (size_t)im->n * im->w * im->h;

    if (!out)
        return NULL;
    if (channel >= im->c)
        channel = im->c - 1;
    for (size_t i = 0; i < pixels; i++)
        out->px[i] = im->px[i * im->c + channel];
    return out;
}

struct image *image_from_mask(const struct image *mask, struct err *e)
{
    struct image *out = image_new(mask->n, mask->w, mask->h, 3, e);

    assert(mask->c == 1);
    if (!out)
        return NULL;
    for (size_t i = 0, all = image_samples(mask); i < all; i++)
        out->px[3 * i] = out->px[3 * i + 1] = out->px[3 * i + 2] = mask->px[i];
    return out;
}

int image_scale_parse(const char *name)
{
    static const char *const names[] = {"nearest-exact", "bilinear", "area", "bicubic", "lanczos"};

    for (unsigned i = 0; i < ARRAY_LEN(names); i++)
        if (strcmp(name, names[i]) == 0)
            return (int)i;
    return -1;
}

/* One direction of a separable filter: for each target position, the first source position and the weights.
 */
struct taps {
    unsigned first, count;
    float *weight;
};

static double filter_at(enum image_scale how, double x)
{
    x = fabs(x);
    switch (how) {
    case SCALE_BICUBIC: /* a = -0.75, as PyTorch */
        if (x < 1)
            return ((1.25 * x - 2.25) * x) * x + 1;
        if (x < 2)
            return ((-0.75 * x + 3.75) * x - 6) * x + 3;
        return 0;
    case SCALE_LANCZOS:
        if (x < 1e-9)
            return 1;
        if (x < 3)
            return 3 * sin(M_PI * x) * sin(M_PI * x / 3) / (M_PI * M_PI * x * x);
        return 0;
    case SCALE_NEAREST:
    case SCALE_BILINEAR:
    case SCALE_AREA: break;
    }
    return x < 1 ? 1 - x : 0;
}

static void taps_make(struct taps *t, unsigned i, unsigned from, unsigned to, enum image_scale how)
{
    double scale = (double)from / to, centre = (i + 0.5) * scale - 0.5, lo, hi, sum = 0, stretch = 1;

    if (how == SCALE_NEAREST) {
        double at = floor((i + 0.5) * scale);

        lo = hi = at > from - 1 ? from - 1 : at;
    } else if (how == SCALE_AREA) { /* PyTorch's adaptive average */
        lo = floor(i * scale);
        hi = ceil((i + 1) * scale) - 1;
    } else {
        double reach = how == SCALE_BILINEAR ? 1 : how == SCALE_BICUBIC ? 2 : 3;

        if (how == SCALE_LANCZOS && scale > 1) /* Pillow widens the filter when it shrinks */
            stretch = scale;
        lo = ceil(centre - reach * stretch);
        hi = floor(centre + reach * stretch);
    }
    if (hi > from - 1 + 3)
        hi = from - 1 + 3;
    t->first = lo < 0 ? 0 : (unsigned)lo;
    if (t->first > from - 1)
        t->first = from - 1;
    t->count = (unsigned)(hi < t->first ? 0 : (hi > from - 1 ? from - 1 : hi) - t->first) + 1;
    t->weight = xcalloc(t->count, sizeof(float));
    for (double s = lo; s <= hi; s++) {
        /* beyond the border the border's sample counts, as often as the filter reaches there */
        double in = s < 0 ? 0 : s > from - 1 ? from - 1 : s;
        double w = how == SCALE_NEAREST || how == SCALE_AREA ? 1 : filter_at(how, (s - centre) / stretch);

        if (how == SCALE_LANCZOS && in != s)
            continue; /* Pillow cuts the filter off at the border */
        t->weight[(unsigned)in - t->first] += (float)w;
        sum += w;
    }
    for (unsigned k = 0; k < t->count && sum != 0; k++)
        t->weight[k] = (float)(t->weight[k] / sum);
}

static struct taps *taps_all(unsigned from, unsigned to, enum image_scale how)
{
    struct taps *t = xcalloc(to, sizeof(*t));

    for (unsigned i = 0; i < to; i++)
        taps_make(&t[i], i, from, to, how);
    return t;
}

static void taps_free(struct taps *t, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        free(t[i].weight);
    free(t);
}

static struct image *scale_plain(const struct image *im, unsigned w, unsigned h, enum image_scale how,
                                 struct err *e)
{
    struct image *mid = image_new(im->n, w, im->h, im->c, e);
    struct image *out = mid ? image_new(im->n, w, h, im->c, e) : NULL;
    struct taps *tx, *ty;
    unsigned c = im->c;

    if (!out) {
        image_unref(mid);
        return NULL;
    }
    tx = taps_all(im->w, w, how);
    ty = taps_all(im->h, h, how);
    for (unsigned n = 0; n < im->n; n++) {
        for (unsigned y = 0; y < im->h; y++)
            for (unsigned x = 0; x < w; x++)
                for (unsigned k = 0; k < tx[x].count; k++)
                    for (unsigned ch = 0; ch < c; ch++)
                        image_at(mid, n, x, y)[ch] +=
                            tx[x].weight[k] * image_get(im, n, tx[x].first + k, y)[ch];
        for (unsigned y = 0; y < h; y++)
            for (unsigned k = 0; k < ty[y].count; k++)
                for (unsigned x = 0; x < w; x++)
                    for (unsigned ch = 0; ch < c; ch++)
                        image_at(out, n, x, y)[ch] +=
                            ty[y].weight[k] * image_get(mid, n, x, ty[y].first + k)[ch];
    }
    taps_free(tx, w);
    taps_free(ty, h);
    image_unref(mid);
    return out;
}

struct image *image_scale(const struct image *im, unsigned w, unsigned h, enum image_scale how, bool center,
                          struct err *e)
{
    struct image *cut = NULL, *out;

    if (w == 0 || h == 0 || w > IMAGE_MAX_SIDE || h > IMAGE_MAX_SIDE) {
        err_set(e, 0, "impossible picture size %ux%u", w, h);
        return NULL;
    }
    if (center) {
        double old_aspect = (double)im->w / im->h, new_aspect = (double)w / h;
        unsigned x = 0, y = 0;

        if (old_aspect > new_aspect)
            x = (unsigned)nearbyint((im->w - im->w * (new_aspect / old_aspect)) / 2);
        else if (old_aspect < new_aspect)
            y = (unsigned)nearbyint((im->h - im->h * (old_aspect / new_aspect)) / 2);
        cut = image_crop(im, x, y, im->w - 2 * x > 0 ? im->w - 2 * x : 1,
                         im->h - 2 * y > 0 ? im->h - 2 * y : 1, e);
        if (!cut)
            return NULL;
        im = cut;
    }
    out = scale_plain(im, w, h, how, e);
    image_unref(cut);
    return out;
}
