/* Pictures as ComfyUI's nodes see them: a batch of equal-sized images, samples 0..1 as floats, channels
 * interleaved (1 a mask, 3 RGB, 4 RGBA). Immutable once made, shared by counting references, so a picture may
 * go to a worker thread and stand in the execution cache at the same time.
 *
 * Pure but for the files named; any thread. */
#ifndef SIM_IMAGE_H
#define SIM_IMAGE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

#define IMAGE_MAX_SAMPLES ((size_t)1 << 26) /* 256 MiB of floats: what one picture may take */
#define IMAGE_MAX_SIDE 16384

struct image {
    atomic_uint refs;
    unsigned n, w, h, c;
    float px[];
};

/* All zero. NULL with an error if a side is 0 or too long, or the whole is over the limit. */
struct image *image_new(unsigned n, unsigned w, unsigned h, unsigned c, struct err *e);
struct image *image_ref(struct image *im); /* NULL stays NULL */
void image_unref(struct image *im);        /* NULL is fine */
size_t image_samples(const struct image *im);
static inline float *image_at(struct image *im, unsigned n, unsigned x, unsigned y)
{
    return im->px + (((size_t)n * im->h + y) * im->w + x) * im->c;
}
static inline const float *image_get(const struct image *im, unsigned n, unsigned x, unsigned y)
{
    return im->px + (((size_t)n * im->h + y) * im->w + x) * im->c;
}

/* Each makes a new picture; the arguments stay the caller's. NULL with an error where a size is impossible.
 */
struct image *image_fill(unsigned n, unsigned w, unsigned h, unsigned c, const float *color, struct err *e);
struct image *image_invert(const struct image *im, struct err *e);
struct image *image_flip(const struct image *im, bool vertically, struct err *e);
struct image *image_repeat(const struct image *im, unsigned times, struct err *e);
struct image *image_slice(const struct image *im, unsigned first, unsigned count, struct err *e);
/* Cut out; x and y are pulled inside, the size is cut at the border (ComfyUI's ImageCrop). */
struct image *image_crop(const struct image *im, unsigned x, unsigned y, unsigned w, unsigned h,
                         struct err *e);
/* One batch after the other; the second is brought to the first one's size and both to the same channels. */
struct image *image_join(const struct image *a, const struct image *b, struct err *e);
/* One channel of each picture as a mask (index cut to what is there), or a mask as RGB. */
struct image *image_channel(const struct image *im, unsigned channel, struct err *e);
struct image *image_from_mask(const struct image *mask, struct err *e);
/* Black with the first picture's alpha (1 where there is none): /view?channel=a. */
struct image *image_alpha_only(const struct image *im, struct err *e);
/* The first three channels. */
struct image *image_rgb(const struct image *im, struct err *e);

enum image_scale { SCALE_NEAREST, SCALE_BILINEAR, SCALE_AREA, SCALE_BICUBIC, SCALE_LANCZOS };
/* "nearest-exact" "bilinear" "area" "bicubic" "lanczos"; -1 for anything else. */
int image_scale_parse(const char *name);
/* center: cut to the new aspect ratio first, as ComfyUI's crop "center". Nearest is exact; the others follow
 * the usual filters, without a promise about the last bit. */
struct image *image_scale(const struct image *im, unsigned w, unsigned h, enum image_scale how, bool center,
                          struct err *e);

/* 255 * sample, clipped and cut off, as ComfyUI stores samples. */
static inline uint8_t image_byte(float v)
{
    return v <= 0 || v != v ? 0 : v >= 1 ? 255 : (uint8_t)(v * 255.0f);
}

/* Names and texts that go into a PNG as tEXt chunks, in order. */
struct image_text {
    const char *key;
    const char *value; /* NUL-terminated */
};
/* Picture number n of the batch as a PNG file (8 bit; 1 channel is written as gray). level: zlib's.
 * Equal input gives equal bytes. Appended to out. */
int image_png(const struct image *im, unsigned n, int level, const struct image_text *text, size_t texts,
              struct buf *out, struct err *e) MUST_CHECK;
int image_jpeg(const struct image *im, unsigned n, int quality, struct buf *out, struct err *e) MUST_CHECK;
/* A PNG or JPEG file. The picture has 3 channels, or 4 if the file has transparency. */
struct image *image_decode(const void *data, size_t len, struct err *e);

/* "tensor([[[[0., ...": how PyTorch prints it, up to 1000 samples in full, then in part. Appended. */
void image_print(const struct image *im, struct buf *out);

#endif
