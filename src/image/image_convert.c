#include "image/image_convert.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <vips/vips.h>
/* after it */
#include <vips/vector.h>

/* The formats that ComfyUI and its nodes write, and browsers and users upload. All others are refused before any decoder
 * sees a byte, and their decoders are switched off besides. */
enum kind { KIND_NONE, KIND_PNG, KIND_JPEG, KIND_WEBP, KIND_GIF, KIND_TIFF };

struct picture {
    enum kind kind;
    bool
        four; /* Pillow would call it RGBA: the alpha channel is real, not a colour that counts as transparent */
    bool opaque; /* Pillow would drop its transparency: a PNG of three channels with one transparent colour */
    VipsSource *source;
    VipsImage *image;
};

static enum image_status fail(enum image_status st, char *why, size_t n, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

static enum image_status fail(enum image_status st, char *why, size_t n, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(why, n, fmt, ap);
    va_end(ap);
    return st;
}

/* What the library says, on one line. */
static enum image_status fail_vips(enum image_status st, char *why, size_t n, const char *what)
{
    const char *text = vips_error_buffer();
    size_t at = (size_t)snprintf(why, n, *text ? "%s: " : "%s", what);

    for (; *text && at + 1 < n; text++)
        why[at++] = (unsigned char)*text < 0x20 || (unsigned char)*text > 0x7e ? ' ' : *text;
    while (at > 0 && why[at - 1] == ' ')
        at--;
    why[at] = '\0';
    vips_error_clear();
    return st;
}

static void silent(const char *domain, GLogLevelFlags level, const char *text, void *arg)
{
    (void)domain, (void)level, (void)text, (void)arg;
}

int convert_init(void)
{
    static const char *const allowed[] = {"VipsForeignLoadPng",  "VipsForeignLoadJpeg",
                                          "VipsForeignLoadWebp", "VipsForeignLoadNsgif",
                                          "VipsForeignLoadTiff", NULL};

    setenv("VIPS_DISC_THRESHOLD", "1000g", 1); /* no temporary files */
    if (VIPS_INIT("comfymux-image"))
        return -1;
    g_log_set_default_handler(silent, NULL);
    vips_block_untrusted_set(TRUE);
    vips_operation_block_set("VipsForeignLoad", TRUE);
    for (const char *const *a = allowed; *a; a++)
        vips_operation_block_set(*a, FALSE);
    vips_concurrency_set(1);
    vips_cache_set_max(0);
    vips_vector_set_enabled(FALSE); /* it would make code at run time */
    return 0;
}

/* --- looking at it --- */

static enum kind kind_of(const uint8_t *b, ssize_t n, struct picture *p)
{
    if (n >= 26 && memcmp(b, "\x89PNG\r\n\x1a\n", 8) == 0) {
        p->four = b[25] == 6; /* the colour type of IHDR */
        p->opaque = b[25] == 2;
        return KIND_PNG;
    }
    if (n >= 3 && memcmp(b, "\xff\xd8\xff", 3) == 0)
        return KIND_JPEG;
    if (n >= 16 && memcmp(b, "RIFF", 4) == 0 && memcmp(b + 8, "WEBPVP8", 7) == 0) {
        p->four = true;
        return KIND_WEBP;
    }
    if (n >= 13 && (memcmp(b, "GIF87a", 6) == 0 || memcmp(b, "GIF89a", 6) == 0))
        return KIND_GIF;
    if (n >= 8 && (memcmp(b, "II*\0", 4) == 0 || memcmp(b, "MM\0*", 4) == 0)) {
        p->four = true;
        return KIND_TIFF;
    }
    return KIND_NONE;
}

/* Only the head is read; pixels come when they are asked for. Of several frames or pages the first. */
static int load(struct picture *p)
{
    static int (*const loaders[])(VipsSource *, VipsImage **, ...) = {
        [KIND_PNG] = vips_pngload_source,   [KIND_JPEG] = vips_jpegload_source,
        [KIND_WEBP] = vips_webpload_source, [KIND_GIF] = vips_gifload_source,
        [KIND_TIFF] = vips_tiffload_source,
    };

    return loaders[p->kind](p->source, &p->image, "access", VIPS_ACCESS_SEQUENTIAL, "fail_on",
                            VIPS_FAIL_ON_ERROR, NULL);
}

static enum image_status look(int in, struct picture *p, char *why, size_t n)
{
    struct stat st;
    uint8_t head[32];
    int w, h;

    if (fstat(in, &st) < 0)
        return fail(IMAGE_BROKEN, why, n, "the file cannot be looked at: %s", strerror(errno));
    if (st.st_size > IMAGE_INPUT_MAX)
        return fail(IMAGE_TOO_LARGE, why, n, "the file has %lld bytes", (long long)st.st_size);
    p->kind = kind_of(head, pread(in, head, sizeof(head), 0), p);
    if (p->kind == KIND_NONE)
        return fail(IMAGE_REFUSED, why, n, "it is no PNG, JPEG, WebP, GIF or TIFF");
    if (lseek(in, 0, SEEK_SET) < 0 || (p->source = vips_source_new_from_descriptor(in)) == NULL || load(p))
        return fail_vips(IMAGE_BROKEN, why, n, "it cannot be read");
    w = vips_image_get_width(p->image);
    h = vips_image_get_height(p->image);
    if (w > IMAGE_SIDE_MAX || h > IMAGE_SIDE_MAX || (int64_t)w * h > IMAGE_PIXELS_MAX)
        return fail(IMAGE_TOO_LARGE, why, n, "it has %d x %d pixels", w, h);
    if (vips_image_get_bands(p->image) > 5)
        return fail(IMAGE_REFUSED, why, n, "it has %d channels", vips_image_get_bands(p->image));
    return IMAGE_OK;
}

/* --- bringing it into form --- */

/* *im is exchanged for what was made of it; *made is empty again. */
static int become(VipsImage **im, int failed, VipsImage **made)
{
    if (failed)
        return -1;
    g_object_unref(*im);
    *im = *made;
    *made = NULL;
    return 0;
}

/* As Pillow does: no profile, (1 - c)(1 - k). */
static int cmyk_to_rgb(VipsImage **im)
{
    VipsImage *inv = NULL, *cmy = NULL, *k = NULL, *both = NULL, *scaled = NULL, *rgb = NULL;
    int r = vips_invert(*im, &inv, NULL) || vips_extract_band(inv, &cmy, 0, "n", 3, NULL) ||
            vips_extract_band(inv, &k, 3, NULL) || vips_multiply(cmy, k, &both, NULL) ||
            vips_linear1(both, &scaled, 1.0 / 255, 0.0, "uchar", TRUE, NULL) ||
            vips_copy(scaled, &rgb, "interpretation", VIPS_INTERPRETATION_sRGB, NULL);

    VIPS_UNREF(inv);
    VIPS_UNREF(cmy);
    VIPS_UNREF(k);
    VIPS_UNREF(both);
    VIPS_UNREF(scaled);
    return become(im, r, &rgb);
}

/* Three channels of eight bits, or four where it is transparent. */
static int to_rgb8(VipsImage **im, bool drop_alpha)
{
    VipsImage *made = NULL;

    if (vips_image_get_interpretation(*im) == VIPS_INTERPRETATION_CMYK && vips_image_get_bands(*im) >= 4) {
        if (become(im, vips_cast(*im, &made, VIPS_FORMAT_UCHAR, "shift", TRUE, NULL), &made) < 0 ||
            cmyk_to_rgb(im) < 0)
            return -1;
    } else if (become(im, vips_colourspace(*im, &made, VIPS_INTERPRETATION_sRGB, NULL), &made) < 0) {
        return -1;
    }
    if (vips_image_get_format(*im) != VIPS_FORMAT_UCHAR &&
        become(im, vips_cast(*im, &made, VIPS_FORMAT_UCHAR, NULL), &made) < 0)
        return -1;
    if (vips_image_get_bands(*im) > 4 || (drop_alpha && vips_image_get_bands(*im) > 3))
        return become(im, vips_extract_band(*im, &made, 0, "n", drop_alpha ? 3 : 4, NULL), &made);
    return 0;
}

/* Black, with the transparency of the picture. */
static int to_alpha(VipsImage **im, bool four)
{
    VipsImage *made = NULL, *alpha = NULL, *black = NULL, *joined = NULL;
    double zero[3] = {0, 0, 0}, opaque = 255;
    int r;

    if (to_rgb8(im, false) < 0)
        return -1;
    if (four && vips_image_get_bands(*im) == 4) {
        r = vips_extract_band(*im, &alpha, 3, NULL);
    } else {
        VipsImage *one = NULL;

        /* computed from the pixels, so that a picture that is cut short is noticed */
        r = vips_extract_band(*im, &one, 0, NULL) ||
            vips_linear1(one, &alpha, 0.0, opaque, "uchar", TRUE, NULL);
        VIPS_UNREF(one);
    }
    r = r || !(black = vips_image_new_from_image(alpha, zero, 3)) ||
        vips_bandjoin2(black, alpha, &joined, NULL) ||
        vips_copy(joined, &made, "interpretation", VIPS_INTERPRETATION_sRGB, NULL);
    VIPS_UNREF(black);
    VIPS_UNREF(alpha);
    VIPS_UNREF(joined);
    return become(im, r, &made);
}

/* What a picture says about itself (the prompt, where it was taken) is not repeated, unless texts are kept; its colour
 * profile is, with what the library writes beside it. */
static int forget(VipsImage **im, bool keep_texts)
{
    VipsImage *made = NULL;
    char **fields;

    if (become(im, vips_copy(*im, &made, NULL), &made) < 0)
        return -1;
    fields = vips_image_get_fields(*im);
    for (char **f = fields; f && *f; f++)
        if (strcmp(*f, VIPS_META_ICC_NAME) != 0 && !(keep_texts && strncmp(*f, "png-comment-", 12) == 0))
            vips_image_remove(*im, *f);
    g_strfreev(fields);
    return 0;
}

/* Decoded small where the format can; the profile is applied, because it would be larger than the thumbnail. */
static int thumbnail(struct picture *p, int size)
{
    VipsImage *made = NULL, *plain = NULL;

    g_object_unref(p->image);
    p->image = NULL;
    if (vips_source_rewind(p->source) ||
        vips_thumbnail_source(p->source, &p->image, size, "height", size, "size", VIPS_SIZE_DOWN, "fail_on",
                              VIPS_FAIL_ON_ERROR, NULL))
        return -1;
    if (vips_image_get_typeof(p->image, VIPS_META_ICC_NAME) &&
        vips_image_get_interpretation(p->image) != VIPS_INTERPRETATION_CMYK) {
        if (vips_icc_transform(p->image, &made, "srgb", "embedded", TRUE, NULL))
            vips_error_clear(); /* a profile that makes no sense: as if there were none */
        else
            become(&p->image, 0, &made);
    }
    if (to_rgb8(&p->image, false) < 0 || vips_copy(p->image, &plain, NULL))
        return -1;
    become(&p->image, 0, &plain);
    vips_image_remove(p->image, VIPS_META_ICC_NAME);
    return 0;
}

/* Its colours, and the transparency of the mask. */
static int put_mask(struct picture *p, struct picture *mask)
{
    VipsImage *alpha = NULL, *joined = NULL, *made = NULL;
    int r;

    if (to_rgb8(&p->image, true) < 0 || to_alpha(&mask->image, true) < 0)
        return -1;
    r = vips_extract_band(mask->image, &alpha, 3, NULL) || vips_bandjoin2(p->image, alpha, &joined, NULL) ||
        vips_copy(joined, &made, "interpretation", VIPS_INTERPRETATION_sRGB, NULL);
    VIPS_UNREF(alpha);
    VIPS_UNREF(joined);
    return become(&p->image, r, &made) < 0 ? -1 : forget(&p->image, true);
}

static int shape(struct picture *p, const struct image_want *want)
{
    int r;

    switch (want->op) {
    case IMAGE_THUMB: r = thumbnail(p, (int)want->size); break;
    case IMAGE_ALPHA: r = to_alpha(&p->image, p->four); break;
    case IMAGE_WEBP: r = to_rgb8(&p->image, want->rgb || p->opaque); break;
    default: r = to_rgb8(&p->image, true);
    }
    return r < 0 ? -1 : forget(&p->image, false);
}

/* --- writing --- */

static int save(VipsImage *im, VipsTarget *t, const struct image_want *want)
{
    int q = want->quality;
    gboolean strip = want->op != IMAGE_MASK && vips_image_get_typeof(im, VIPS_META_ICC_NAME) == 0;

    switch (want->op) {
    case IMAGE_THUMB: return vips_webpsave_target(im, t, "Q", 80, "strip", TRUE, NULL);
    case IMAGE_WEBP: return vips_webpsave_target(im, t, "Q", q, "effort", 4, "strip", strip, NULL);
    case IMAGE_JPEG:
        return vips_jpegsave_target(im, t, "Q",
                                    q < 1     ? 1
                                    : q > 100 ? 100
                                              : q,
                                    "subsample_mode", VIPS_FOREIGN_SUBSAMPLE_ON, "strip", strip, NULL);
    default:
        return vips_pngsave_target(im, t, "compression", 6, "filter", VIPS_FOREIGN_PNG_FILTER_ALL, "strip",
                                   strip, NULL);
    }
}

/* Writes by itself, because not every encoder lets through why it could not. */
struct sink {
    int fd, cause; /* cause: errno of the first write that failed */
};

static gint64 on_write(VipsTargetCustom *t, const void *data, gint64 n, void *arg)
{
    struct sink *s = arg;
    ssize_t r;

    (void)t;
    do
        r = write(s->fd, data, (size_t)n);
    while (r < 0 && errno == EINTR);
    if (r < 0 && s->cause == 0)
        s->cause = errno;
    return r;
}

static enum image_status write_out(struct picture *p, int out, const struct image_want *want, char *why,
                                   size_t n)
{
    VipsTargetCustom *t = vips_target_custom_new();
    struct sink s = {.fd = out};
    enum image_status st = IMAGE_OK;

    g_signal_connect(t, "write", G_CALLBACK(on_write), &s);
    errno = 0;
    if (save(p->image, VIPS_TARGET(t), want)) {
        int cause = errno;

        if (s.cause == EFBIG)
            st = fail(IMAGE_TOO_LARGE, why, n, "what is made of it is too large");
        else if (s.cause)
            st = fail(IMAGE_NO_SPACE, why, n, "it cannot be written: %s", strerror(s.cause));
        else
            st =
                fail_vips(cause == ENOMEM ? IMAGE_TOO_LARGE : IMAGE_BROKEN, why, n, "it cannot be converted");
    }
    g_object_unref(t);
    return st;
}

#define WEBP_SIDE_MAX 16383

static enum image_status impossible(const struct image_want *want, char *why, size_t n)
{
    if (want->op == IMAGE_FILE || want->op >= IMAGE_OPS)
        return fail(IMAGE_REFUSED, why, n, "nobody knows how to do that");
    if (want->op == IMAGE_WEBP && want->quality > 100)
        return fail(IMAGE_REFUSED, why, n, "the quality of a WebP is at most 100");
    if (want->op == IMAGE_THUMB && (want->size < 1 || want->size > 4096))
        return fail(IMAGE_REFUSED, why, n, "a thumbnail has from 1 to 4096 pixels");
    return IMAGE_OK;
}

static enum image_status compose(struct picture *p, int in, char *why, size_t n)
{
    struct picture mask = {0};
    enum image_status st = look(in, &mask, why, n);

    if (st == IMAGE_OK && (vips_image_get_width(mask.image) != vips_image_get_width(p->image) ||
                           vips_image_get_height(mask.image) != vips_image_get_height(p->image)))
        st = fail(IMAGE_REFUSED, why, n, "the mask has another size than the picture");
    if (st == IMAGE_OK && put_mask(p, &mask) < 0)
        st = fail_vips(IMAGE_BROKEN, why, n, "it cannot be composed");
    VIPS_UNREF(mask.image);
    VIPS_UNREF(mask.source);
    return st;
}

enum image_status convert(int in, int mask, int out, const struct image_want *want, char *why,
                          size_t why_size)
{
    struct picture p = {0};
    enum image_status st = look(in, &p, why, why_size);

    if (st == IMAGE_OK)
        st = impossible(want, why, why_size);
    if (st == IMAGE_OK && want->op == IMAGE_WEBP &&
        (vips_image_get_width(p.image) > WEBP_SIDE_MAX || vips_image_get_height(p.image) > WEBP_SIDE_MAX))
        st = fail(IMAGE_TOO_LARGE, why, why_size, "a WebP has at most %d pixels on a side", WEBP_SIDE_MAX);
    if (st == IMAGE_OK && want->op == IMAGE_MASK)
        st = compose(&p, mask, why, why_size);
    else if (st == IMAGE_OK && shape(&p, want) < 0)
        st = fail_vips(IMAGE_BROKEN, why, why_size, "it cannot be converted");
    if (st == IMAGE_OK)
        st = write_out(&p, out, want, why, why_size);
    VIPS_UNREF(p.image);
    VIPS_UNREF(p.source);
    vips_error_clear();
    return st;
}
