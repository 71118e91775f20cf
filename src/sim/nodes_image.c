/* Nodes that work on pictures and files: these really do what ComfyUI's do. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim/nodes.h"

static unsigned side(int64_t v)
{
    return v < 1 ? 1 : v > 1 << 20 ? 1 << 20 : (unsigned)v;
}

static void run_empty_image(struct noderun *r)
{
    int64_t color = node_int(r, "color", 0);
    float rgb[3] = {(float)(color >> 16 & 255) / 255.0f, (float)(color >> 8 & 255) / 255.0f,
                    (float)(color & 255) / 255.0f};
    struct err e;

    node_out_image(r,
                   image_fill(side(node_int(r, "batch_size", 1)), side(node_int(r, "width", 512)),
                              side(node_int(r, "height", 512)), 3, rgb, &e),
                   &e);
}

/* The picture of a file name as LoadImage takes it; NULL after node_fail(). */
static struct image *load(struct noderun *r, const char *name, enum files_dir fallback)
{
    struct buf file = BUF_INIT, path = BUF_INIT, bytes = BUF_INIT;
    enum files_dir d = files_annotated(name, &file);
    struct image *im = NULL;
    struct err e = {0};

    if (d == FILES_INPUT)
        d = fallback;
    if (!files_path(r->files, d, NULL, buf_str(&file), &path) || files_read(buf_str(&path), &bytes, &e) < 0) {
        node_fail(r, "FileNotFoundError", "[Errno 2] No such file or directory: '%s/%s/%s'", r->files->base,
                  files_dir_name(d), buf_str(&file));
    } else {
        im = image_decode(buf_str(&bytes), bytes.len, &e);
        if (!im)
            node_fail(r, "PIL.UnidentifiedImageError", "cannot identify image file '%s'", buf_str(&path));
    }
    buf_free(&file);
    buf_free(&path);
    buf_free(&bytes);
    return im;
}

/* The mask ComfyUI makes of a picture: 1 - alpha, or 64x64 zeros where there is no alpha. */
static struct image *mask_of(const struct image *im, struct err *e)
{
    struct image *alpha, *mask;

    if (im->c < 4)
        return image_new(1, 64, 64, 1, e);
    alpha = image_channel(im, 3, e);
    mask = alpha ? image_invert(alpha, e) : NULL;
    image_unref(alpha);
    return mask;
}

static void load_both(struct noderun *r, enum files_dir fallback)
{
    struct image *im = load(r, node_str(r, "image", ""), fallback);
    struct err e = {0};

    if (!im)
        return;
    node_out_image(r, image_rgb(im, &e), &e);
    node_out_image(r, mask_of(im, &e), &e);
    image_unref(im);
}

static void run_load_image(struct noderun *r)
{
    load_both(r, FILES_INPUT);
}

static void run_load_output(struct noderun *r)
{
    load_both(r, FILES_OUTPUT);
}

static void run_load_mask(struct noderun *r)
{
    struct image *im = load(r, node_str(r, "image", ""), FILES_INPUT), *out;
    const char *channel = node_str(r, "channel", "alpha");
    struct err e = {0};

    if (!im)
        return;
    out = *channel == 'a' ? mask_of(im, &e)
                          : image_channel(im,
                                          *channel == 'r'   ? 0
                                          : *channel == 'g' ? 1
                                                            : 2,
                                          &e);
    node_out_image(r, out, &e);
    image_unref(im);
}

static void scale_to(struct noderun *r, const struct image *im, int64_t w, int64_t h, bool center)
{
    int how = image_scale_parse(node_str(r, "upscale_method", "nearest-exact"));
    struct err e = {0};

    node_out_image(r, image_scale(im, side(w), side(h), how < 0 ? SCALE_NEAREST : how, center, &e), &e);
}

static void run_scale(struct noderun *r)
{
    const struct image *im = node_image(r, "image");
    int64_t w = node_int(r, "width", 512), h = node_int(r, "height", 512);

    if (!im)
        return;
    if (w == 0 && h == 0) {
        node_out(r, data_ref((struct data *)node_arg(r, "image")));
        return;
    }
    if (w == 0)
        w = (int64_t)((double)im->w * (double)h / im->h + 0.5);
    if (h == 0)
        h = (int64_t)((double)im->h * (double)w / im->w + 0.5);
    scale_to(r, im, w, h, strcmp(node_str(r, "crop", "disabled"), "center") == 0);
}

static void run_scale_by(struct noderun *r)
{
    const struct image *im = node_image(r, "image");
    double by = node_num(r, "scale_by", 1);

    if (im)
        scale_to(r, im, (int64_t)(im->w * by + 0.5), (int64_t)(im->h * by + 0.5), false);
}

static void run_invert(struct noderun *r)
{
    const struct image *im = node_image(r, "image");
    struct err e = {0};

    if (im)
        node_out_image(r, image_invert(im, &e), &e);
}

static void run_batch(struct noderun *r)
{
    const struct image *a = node_image(r, "image1"), *b = node_image(r, "image2");
    struct err e = {0};

    if (a && b)
        node_out_image(r, image_join(a, b, &e), &e);
}

static void run_crop(struct noderun *r)
{
    const struct image *im = node_image(r, "image");
    struct err e = {0};

    if (im)
        node_out_image(r,
                       image_crop(im, (unsigned)node_int(r, "x", 0), (unsigned)node_int(r, "y", 0),
                                  side(node_int(r, "width", 512)), side(node_int(r, "height", 512)), &e),
                       &e);
}

static void run_flip(struct noderun *r)
{
    const struct image *im = node_image(r, "image");
    struct err e = {0};

    if (im)
        node_out_image(r, image_flip(im, node_str(r, "flip_method", "x")[0] == 'x', &e), &e);
}

/* How far inside the old picture a point is counts for the feathered mask. */
static float feather(const struct image *im, int64_t x, int64_t y, const int64_t *pad, int64_t width)
{
    int64_t d = width;
    int64_t dist[4] = {pad[0] ? x : im->w, pad[1] ? y : im->h, pad[2] ? im->w - x : im->w,
                       pad[3] ? im->h - y : im->h};

    for (int i = 0; i < 4; i++)
        if (dist[i] < d)
            d = dist[i];
    if (d >= width)
        return 0;
    return (float)((double)(width - d) / (double)width * (double)(width - d) / (double)width);
}

static void run_pad(struct noderun *r)
{
    const struct image *im = node_image(r, "image");
    int64_t pad[4] = {node_int(r, "left", 0), node_int(r, "top", 0), node_int(r, "right", 0),
                      node_int(r, "bottom", 0)};
    int64_t width = node_int(r, "feathering", 40);
    struct image *out, *mask;
    struct err e = {0};

    if (!im)
        return;
    out = image_new(im->n, side(im->w + pad[0] + pad[2]), side(im->h + pad[1] + pad[3]), im->c, &e);
    mask = out ? image_new(1, out->w, out->h, 1, &e) : NULL;
    if (!mask) {
        image_unref(out);
        node_fail(r, "RuntimeError", "%s", e.msg);
        return;
    }
    for (size_t i = 0, all = image_samples(out); i < all; i++)
        out->px[i] = 0.5f;
    for (size_t i = 0, all = image_samples(mask); i < all; i++)
        mask->px[i] = 1.0f;
    for (unsigned n = 0; n < im->n; n++)
        for (unsigned y = 0; y < im->h; y++)
            for (unsigned x = 0; x < im->w; x++) {
                unsigned tx = x + (unsigned)pad[0], ty = y + (unsigned)pad[1];

                memcpy(image_at(out, n, tx, ty), image_get(im, n, x, y), im->c * sizeof(float));
                *image_at(mask, 0, tx, ty) = width > 0 ? feather(im, x, y, pad, width) : 0;
            }
    node_out(r, data_image(out));
    node_out(r, data_image(mask));
}

static void run_repeat(struct noderun *r)
{
    const struct image *im = node_image(r, "image");
    struct err e = {0};

    if (im)
        node_out_image(r, image_repeat(im, side(node_int(r, "amount", 1)), &e), &e);
}

static void run_from_batch(struct noderun *r)
{
    const struct image *im = node_image(r, "image");
    struct err e = {0};

    if (im)
        node_out_image(
            r, image_slice(im, (unsigned)node_int(r, "batch_index", 0), side(node_int(r, "length", 1)), &e),
            &e);
}

static void run_mask_to_image(struct noderun *r)
{
    const struct image *im = node_image(r, "mask");
    struct err e = {0};

    if (im)
        node_out_image(r, image_from_mask(im, &e), &e);
}

static void run_image_to_mask(struct noderun *r)
{
    const struct image *im = node_image(r, "image");
    const char *c = node_str(r, "channel", "red");
    struct err e = {0};

    if (im)
        node_out_image(r, image_channel(im, *c == 'r' ? 0 : *c == 'g' ? 1 : *c == 'b' ? 2 : 3, &e), &e);
}

static void run_solid_mask(struct noderun *r)
{
    float v = (float)node_num(r, "value", 1);
    struct err e = {0};

    node_out_image(
        r, image_fill(1, side(node_int(r, "width", 512)), side(node_int(r, "height", 512)), 1, &v, &e), &e);
}

static void run_invert_mask(struct noderun *r)
{
    const struct image *im = node_image(r, "mask");
    struct err e = {0};

    if (im)
        node_out_image(r, image_invert(im, &e), &e);
}

static void replace_number(struct buf *out, const char *stem, unsigned n)
{
    const char *hit;

    while ((hit = strstr(stem, "%batch_num%"))) {
        buf_put(out, stem, (size_t)(hit - stem));
        buf_printf(out, "%u", n);
        stem = hit + strlen("%batch_num%");
    }
    buf_puts(out, stem);
}

/* The PNG texts: the graph, and each member of extra_pnginfo. */
static struct image_text *png_texts(const struct noderun *r, size_t *n)
{
    struct image_text *t = xcalloc(1 + val_count(r->pnginfo), sizeof(*t));
    struct buf b = BUF_INIT;

    val_put(&b, r->prompt);
    t[0] = (struct image_text){xstrdup("prompt"), buf_take(&b)};
    *n = 1;
    val_each(m, r->pnginfo)
    {
        if (m->keylen == 0 || m->keylen > 79)
            continue; /* what a PNG keyword cannot be */
        val_put(&b, m->value);
        t[(*n)++] = (struct image_text){xstrdup(m->key), buf_take(&b)};
    }
    return t;
}

static int save_one(struct noderun *r, const struct image *im, unsigned n, int level,
                    const struct files_save *s, enum files_dir d, const struct image_text *t, size_t nt,
                    struct val *images, struct err *e)
{
    struct buf name = BUF_INIT, path = BUF_INIT, png = BUF_INIT;
    struct val *entry;
    int rc;

    (void)r;
    replace_number(&name, s->stem, n);
    buf_printf(&name, "_%05ld_.png", s->counter + n);
    buf_printf(&path, "%s/%s", s->folder, buf_str(&name));
    rc = image_png(im, n, level, t, nt, &png, e);
    if (rc == 0)
        rc = files_write(buf_str(&path), png.data, png.len, e);
    if (rc == 0) {
        entry = val_obj();
        val_set(entry, "filename", val_str(buf_str(&name)));
        val_set(entry, "subfolder", val_str(s->sub));
        val_set(entry, "type", val_str(files_dir_name(d)));
        val_push(images, entry);
    }
    buf_free(&name);
    buf_free(&path);
    buf_free(&png);
    return rc;
}

static void save(struct noderun *r, const char *prefix, enum files_dir d, int level)
{
    const struct image *im = node_image(r, "images");
    struct val *images = val_arr();
    struct image_text *t = NULL;
    struct files_save s = {0};
    struct err e = {0};
    size_t nt = 0;
    int rc = 0;

    if (!im || (rc = files_save_begin(r->files, d, prefix, im->w, im->h, &s, &e)) < 0) {
        if (rc < 0)
            node_fail(r, "Exception", "%s", e.msg);
        val_free(images);
        return;
    }
    t = png_texts(r, &nt);
    for (unsigned n = 0; n < im->n && rc == 0; n++)
        rc = save_one(r, im, n, level, &s, d, t, nt, images, &e);
    if (rc < 0) {
        node_fail(r, "OSError", "%s", e.msg);
        val_free(images);
    } else {
        r->ui = val_obj();
        val_set(r->ui, "images", images);
    }
    for (size_t i = 0; i < nt; i++) {
        free((char *)t[i].key);
        free((char *)t[i].value);
    }
    free(t);
    files_save_end(&s);
}

static void run_save(struct noderun *r)
{
    save(r, node_str(r, "filename_prefix", "ComfyUI"), FILES_OUTPUT, 4);
}

static void run_preview(struct noderun *r)
{
    struct buf prefix = BUF_INIT;

    buf_printf(&prefix, "ComfyUI%s", r->temp_prefix);
    save(r, buf_str(&prefix), FILES_TEMP, 1);
    buf_free(&prefix);
}

static void encode_frames(struct noderun *r)
{
    const struct image *im = node_image(r, "images");
    struct err e = {0};

    if (!im)
        return;
    r->frames = xcalloc(im->n, sizeof(*r->frames));
    r->n_frames = im->n;
    for (unsigned n = 0; n < im->n; n++)
        if (image_png(im, n, 6, NULL, 0, &r->frames[n], &e) < 0)
            node_fail(r, "RuntimeError", "%s", e.msg);
}

static enum node_next step_save_websocket(struct noderun *r)
{
    if (r->state == 0) {
        r->state = 1;
        r->work = encode_frames;
        return NODE_WORK;
    }
    if (r->error_type)
        return NODE_FAILED;
    for (size_t n = 0; n < r->n_frames; n++)
        if (!r->host->tick(r->host->arg, r, (int64_t)n, (int64_t)r->n_frames, "image/png", &r->frames[n]))
            return NODE_FAILED;
    return NODE_DONE;
}

static void run_preview_any(struct noderun *r)
{
    const struct data *d = node_arg(r, "source");
    struct buf b = BUF_INIT;
    struct val *list = val_arr(), *shown;

    if (d && d->kind == DATA_VALUE && (d->value->type == VAL_OBJ || d->value->type == VAL_ARR)) {
        val_put(&b, d->value);
        shown = val_strn(buf_str(&b), b.len);
    } else if (d) {
        struct val *v = data_format(d);

        val_put_str(&b, v);
        shown = val_strn(buf_str(&b), b.len);
        val_free(v);
    } else {
        shown = val_str("None");
    }
    buf_free(&b);
    val_push(list, shown);
    r->ui = val_obj();
    val_set(r->ui, "text", list);
}

static void run_primitive(struct noderun *r)
{
    const struct data *d = node_arg(r, "value");

    node_out(r, d ? data_ref((struct data *)d) : data_value(val_null()));
}

static enum node_next step_image_size(struct noderun *r)
{
    const struct image *im = node_image(r, "image");
    char text[96];

    if (!im)
        return NODE_FAILED;
    snprintf(text, sizeof(text), "width: %u, height: %u\n batch size: %u", im->w, im->h, im->n);
    r->host->text(r->host->arg, r, text);
    node_out(r, data_value(val_int(im->w)));
    node_out(r, data_value(val_int(im->h)));
    node_out(r, data_value(val_int(im->n)));
    return NODE_DONE;
}

const struct node_class nodes_image_table[] = {
    {.name = "EmptyImage", .run = run_empty_image},
    {.name = "LoadImage",
     .run = run_load_image,
     .check = CHECK_FILE,
     .check_input = "image",
     .file_changes = true},
    {.name = "LoadImageMask",
     .run = run_load_mask,
     .check = CHECK_FILE,
     .check_input = "image",
     .file_changes = true},
    {.name = "LoadImageOutput",
     .run = run_load_output,
     .check = CHECK_FILE,
     .check_input = "image",
     .file_changes = true},
    {.name = "ImageScale", .run = run_scale},
    {.name = "ImageScaleBy", .run = run_scale_by},
    {.name = "ImageInvert", .run = run_invert},
    {.name = "ImageBatch", .run = run_batch},
    {.name = "ImageCrop", .run = run_crop},
    {.name = "ImageFlip", .run = run_flip},
    {.name = "ImagePadForOutpaint", .run = run_pad},
    {.name = "RepeatImageBatch", .run = run_repeat},
    {.name = "ImageFromBatch", .run = run_from_batch},
    {.name = "MaskToImage", .run = run_mask_to_image},
    {.name = "ImageToMask", .run = run_image_to_mask},
    {.name = "SolidMask", .run = run_solid_mask},
    {.name = "InvertMask", .run = run_invert_mask},
    {.name = "SaveImage", .run = run_save},
    {.name = "PreviewImage", .run = run_preview},
    {.name = "SaveImageWebsocket", .step = step_save_websocket, .always_changes = true},
    {.name = "PreviewAny", .run = run_preview_any},
    {.name = "PrimitiveInt", .run = run_primitive},
    {.name = "PrimitiveFloat", .run = run_primitive},
    {.name = "PrimitiveBoolean", .run = run_primitive},
    {.name = "PrimitiveString", .run = run_primitive},
    {.name = "PrimitiveStringMultiline", .run = run_primitive},
    {.name = "GetImageSize", .step = step_image_size},
    {.name = NULL},
};
