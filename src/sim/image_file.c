/* Pictures as files: PNG by libpng, JPEG by libjpeg, and PyTorch's way of printing one. */
#include "sim/image.h"

#include <math.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>
#include <png.h>

static void png_failed(png_structp png, png_const_charp msg)
{
    err_set(png_get_error_ptr(png), 0, "%s", msg);
    png_longjmp(png, 1);
}

static void png_warned(png_structp png, png_const_charp msg)
{
    (void)png;
    (void)msg;
}

static void png_out(png_structp png, png_bytep data, size_t n)
{
    buf_put(png_get_io_ptr(png), data, n);
}

static void png_flush_out(png_structp png)
{
    (void)png;
}

static void to_row(const struct image *im, unsigned n, unsigned y, uint8_t *row)
{
    const float *p = image_get(im, n, 0, y);

    for (size_t i = 0; i < (size_t)im->w * im->c; i++)
        row[i] = image_byte(p[i]);
}

int image_png(const struct image *im, unsigned n, int level, const struct image_text *text, size_t texts,
              struct buf *out, struct err *e)
{
    static const int kinds[] = {0, PNG_COLOR_TYPE_GRAY, PNG_COLOR_TYPE_GRAY_ALPHA, PNG_COLOR_TYPE_RGB,
                                PNG_COLOR_TYPE_RGBA};
    struct err cause = {0};
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, &cause, png_failed, png_warned);
    png_infop info = png ? png_create_info_struct(png) : NULL;
    uint8_t *volatile row = NULL;
    size_t start = out->len;

    if (!info) {
        png_destroy_write_struct(&png, NULL);
        return err_set(e, 0, "libpng cannot be set up");
    }
    if (setjmp(png_jmpbuf(png))) {
        png_destroy_write_struct(&png, &info);
        free(row);
        out->len = start;
        return err_set(e, 0, "writing PNG: %s", cause.msg);
    }
    png_set_write_fn(png, out, png_out, png_flush_out);
    png_set_compression_level(png, level);
    png_set_IHDR(png, info, im->w, im->h, 8, kinds[im->c], PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT,
                 PNG_FILTER_TYPE_DEFAULT);
    png_write_info(png, info);
    /* Written by hand: libpng would compress or refuse long texts, ComfyUI's files have plain tEXt. */
    for (size_t i = 0; i < texts; i++) {
        size_t klen = strlen(text[i].key), vlen = strlen(text[i].value);

        png_write_chunk_start(png, (png_const_bytep) "tEXt", (png_uint_32)(klen + 1 + vlen));
        png_write_chunk_data(png, (png_const_bytep)text[i].key, klen + 1);
        png_write_chunk_data(png, (png_const_bytep)text[i].value, vlen);
        png_write_chunk_end(png);
    }
    row = xmalloc((size_t)im->w * im->c);
    for (unsigned y = 0; y < im->h; y++) {
        to_row(im, n, y, row);
        png_write_row(png, row);
    }
    png_write_end(png, NULL);
    png_destroy_write_struct(&png, &info);
    free(row);
    return 0;
}

struct jpeg_fail {
    struct jpeg_error_mgr mgr;
    jmp_buf jump;
    char msg[JMSG_LENGTH_MAX];
};

static void jpeg_failed(j_common_ptr c)
{
    struct jpeg_fail *f = (struct jpeg_fail *)c->err;

    c->err->format_message(c, f->msg);
    longjmp(f->jump, 1);
}

static void jpeg_quiet(j_common_ptr c)
{
    (void)c;
}

int image_jpeg(const struct image *im, unsigned n, int quality, struct buf *out, struct err *e)
{
    struct jpeg_compress_struct c;
    struct jpeg_fail fail;
    unsigned char *volatile mem = NULL;
    unsigned char *mem_now = NULL;
    unsigned long len = 0;
    uint8_t *volatile row = NULL, *volatile rgb = NULL;

    memset(&c, 0, sizeof(c));
    c.err = jpeg_std_error(&fail.mgr);
    fail.mgr.error_exit = jpeg_failed;
    fail.mgr.output_message = jpeg_quiet;
    if (setjmp(fail.jump)) {
        jpeg_destroy_compress(&c);
        free(row);
        free(rgb);
        free(mem);
        return err_set(e, 0, "writing JPEG: %s", fail.msg);
    }
    jpeg_create_compress(&c);
    jpeg_mem_dest(&c, &mem_now, &len);
    mem = mem_now;
    c.image_width = im->w;
    c.image_height = im->h;
    c.input_components = 3;
    c.in_color_space = JCS_RGB;
    jpeg_set_defaults(&c);
    jpeg_set_quality(&c, quality, TRUE);
    jpeg_start_compress(&c, TRUE);
    row = xmalloc((size_t)im->w * im->c);
    rgb = xmalloc((size_t)im->w * 3);
    while (c.next_scanline < c.image_height) {
        JSAMPROW line = rgb;

        to_row(im, n, c.next_scanline, row);
        for (size_t x = 0; x < im->w; x++)
            for (unsigned k = 0; k < 3; k++)
                rgb[3 * x + k] = row[x * im->c + (im->c >= 3 ? k : 0)];
        jpeg_write_scanlines(&c, &line, 1);
    }
    jpeg_finish_compress(&c);
    jpeg_destroy_compress(&c);
    buf_put(out, mem_now, len);
    free(mem_now);
    free(row);
    free(rgb);
    return 0;
}

struct png_source {
    const uint8_t *p;
    size_t left;
};

static void png_in(png_structp png, png_bytep to, size_t n)
{
    struct png_source *s = png_get_io_ptr(png);

    if (n > s->left)
        png_error(png, "unexpected end of the file");
    memcpy(to, s->p, n);
    s->p += n;
    s->left -= n;
}

static struct image *decode_png(const void *data, size_t len, struct err *e)
{
    struct err cause = {0};
    struct png_source src = {data, len};
    png_structp png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &cause, png_failed, png_warned);
    png_infop info = png ? png_create_info_struct(png) : NULL;
    struct image *volatile im = NULL;
    uint8_t *volatile rows = NULL;
    png_bytep *volatile at = NULL;
    png_uint_32 w, h;
    unsigned c;

    if (!info) {
        png_destroy_read_struct(&png, NULL, NULL);
        err_set(e, 0, "libpng cannot be set up");
        return NULL;
    }
    if (setjmp(png_jmpbuf(png))) {
        png_destroy_read_struct(&png, &info, NULL);
        image_unref(im);
        free(rows);
        free(at);
        err_set(e, 0, "reading PNG: %s", cause.msg);
        return NULL;
    }
    png_set_user_limits(png, IMAGE_MAX_SIDE, IMAGE_MAX_SIDE);
    png_set_chunk_malloc_max(png, 64u << 20);
    png_set_read_fn(png, &src, png_in);
    png_read_info(png, info);
    png_set_expand(png);
    png_set_strip_16(png);
    png_set_gray_to_rgb(png);
    png_set_interlace_handling(png);
    png_read_update_info(png, info);
    w = png_get_image_width(png, info);
    h = png_get_image_height(png, info);
    c = png_get_channels(png, info);
    im = image_new(1, w, h, c, &cause);
    if (!im)
        png_longjmp(png, 1);
    rows = xmalloc((size_t)w * h * c);
    at = xmalloc(h * sizeof(*at));
    for (png_uint_32 y = 0; y < h; y++)
        at[y] = rows + (size_t)y * w * c;
    png_read_image(png, at);
    for (size_t i = 0, all = image_samples(im); i < all; i++)
        im->px[i] = (float)rows[i] / 255.0f;
    png_destroy_read_struct(&png, &info, NULL);
    free(rows);
    free(at);
    return im;
}

static struct image *decode_jpeg(const void *data, size_t len, struct err *e)
{
    struct jpeg_decompress_struct d;
    struct jpeg_fail fail;
    struct image *volatile im = NULL;
    uint8_t *volatile row = NULL;

    memset(&d, 0, sizeof(d));
    d.err = jpeg_std_error(&fail.mgr);
    fail.mgr.error_exit = jpeg_failed;
    fail.mgr.output_message = jpeg_quiet;
    if (setjmp(fail.jump)) {
        jpeg_destroy_decompress(&d);
        image_unref(im);
        free(row);
        err_set(e, 0, "reading JPEG: %s", fail.msg);
        return NULL;
    }
    jpeg_create_decompress(&d);
    jpeg_mem_src(&d, data, len);
    jpeg_read_header(&d, TRUE);
    d.out_color_space = JCS_RGB;
    jpeg_start_decompress(&d);
    im = image_new(1, d.output_width, d.output_height, 3, e);
    if (!im) {
        jpeg_destroy_decompress(&d);
        return NULL;
    }
    row = xmalloc((size_t)d.output_width * 3);
    while (d.output_scanline < d.output_height) {
        JSAMPROW line = row;
        float *p = image_at(im, 0, 0, d.output_scanline);

        jpeg_read_scanlines(&d, &line, 1);
        for (size_t i = 0; i < (size_t)im->w * 3; i++)
            p[i] = (float)row[i] / 255.0f;
    }
    jpeg_finish_decompress(&d);
    jpeg_destroy_decompress(&d);
    free(row);
    return im;
}

struct image *image_decode(const void *data, size_t len, struct err *e)
{
    if (len >= 8 && memcmp(data, "\x89PNG\r\n\x1a\n", 8) == 0)
        return decode_png(data, len, e);
    if (len >= 3 && memcmp(data, "\xff\xd8\xff", 3) == 0)
        return decode_jpeg(data, len, e);
    err_set(e, 0, "neither PNG nor JPEG");
    return NULL;
}

/* --- PyTorch's repr() --- */

struct printer {
    const struct image *im;
    struct buf *out;
    bool whole, summary;
    int width;
    size_t size[4];
    unsigned dims;
};

static void print_value(struct printer *p, float v, bool pad, struct buf *out)
{
    char s[48];

    if (p->whole)
        snprintf(s, sizeof(s), "%.0f.", (double)v);
    else
        snprintf(s, sizeof(s), "%.4f", (double)v);
    buf_printf(out, "%*s", pad ? p->width : 0, s);
}

static void print_dim(struct printer *p, unsigned dim, size_t at)
{
    size_t n = p->size[dim], stride = 1;
    bool cut = p->summary && n > 6;

    for (unsigned d = dim + 1; d < p->dims; d++)
        stride *= p->size[d];
    buf_putc(p->out, '[');
    for (size_t i = 0, shown = 0; i < n; i++) {
        if (cut && i == 3) {
            if (dim + 1 == p->dims)
                buf_puts(p->out, ",  ...");
            else
                buf_printf(p->out, ",%.*s%*s...", (int)(p->dims - dim - 1), "\n\n\n\n", (int)(7 + dim + 1),
                           "");
            i = n - 3;
            shown++;
        }
        if (dim + 1 == p->dims) {
            int per_line = (80 - (int)(7 + p->dims)) / (p->width + 2);

            if (per_line < 1)
                per_line = 1;
            if (i > 0 && shown % (size_t)per_line == 0)
                buf_printf(p->out, ",\n%*s", (int)(7 + p->dims), "");
            else if (i > 0)
                buf_puts(p->out, ", ");
            print_value(p, p->im->px[at + i], true, p->out);
        } else {
            if (i > 0)
                buf_printf(p->out, ",%.*s%*s", (int)(p->dims - dim - 1), "\n\n\n\n", (int)(7 + dim + 1), "");
            print_dim(p, dim + 1, at + i * stride);
        }
        shown++;
    }
    buf_putc(p->out, ']');
}

void image_print(const struct image *im, struct buf *out)
{
    struct printer p = {.im = im, .out = out, .whole = true};
    size_t all = image_samples(im);

    p.size[p.dims++] = im->n;
    p.size[p.dims++] = im->h;
    p.size[p.dims++] = im->w;
    if (im->c > 1)
        p.size[p.dims++] = im->c;
    p.summary = all > 1000;
    for (size_t i = 0; i < all && p.whole; i++)
        p.whole = im->px[i] == floorf(im->px[i]);
    for (size_t i = 0; i < all; i++) {
        char s[48];
        int n = p.whole ? snprintf(s, sizeof(s), "%.0f.", (double)im->px[i])
                        : snprintf(s, sizeof(s), "%.4f", (double)im->px[i]);

        p.width = n > p.width ? n : p.width;
    }
    buf_puts(out, "tensor(");
    print_dim(&p, 0, 0);
    buf_putc(out, ')');
}
