#include "sim/image.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sim/picture.h"

static struct image *gradient(unsigned w, unsigned h, unsigned c)
{
    struct err e;
    struct image *im = image_new(1, w, h, c, &e);

    assert_non_null(im);
    for (size_t i = 0; i < image_samples(im); i++)
        im->px[i] = (float)(i * 7 % 256) / 255.0f;
    return im;
}

/* Every byte value survives float and back, through a file too. */
static void png_round_trip(void **state)
{
    const struct image_text text[] = {{"prompt", "{\"a\": 1}"}, {"workflow", "{}"}};
    struct err e = {0};

    (void)state;
    for (unsigned c = 3; c <= 4; c++) {
        struct image *im = gradient(37, 23, c), *back;
        struct buf a = BUF_INIT, b = BUF_INIT;

        assert_int_equal(image_png(im, 0, 4, text, 2, &a, &e), 0);
        assert_int_equal(image_png(im, 0, 4, text, 2, &b, &e), 0);
        assert_int_equal(a.len, b.len); /* deterministic */
        assert_memory_equal(a.data, b.data, a.len);
        assert_non_null(memmem(a.data, a.len, "tEXtprompt\0{\"a\": 1}", 19));
        assert_non_null(memmem(a.data, a.len, "tEXtworkflow\0{}", 15));
        back = image_decode(a.data, a.len, &e);
        assert_non_null(back);
        assert_int_equal(back->c, c);
        for (size_t i = 0; i < image_samples(im); i++)
            assert_int_equal(image_byte(back->px[i]), image_byte(im->px[i]));
        image_unref(back);
        image_unref(im);
        buf_free(&a);
        buf_free(&b);
    }
}

/* Cut at every byte, and with every byte changed: a picture or an error, nothing else. */
static void hostile_files(void **state)
{
    struct image *im = gradient(9, 5, 4);
    struct buf files[2] = {BUF_INIT, BUF_INIT};
    struct err e = {0};

    (void)state;
    assert_int_equal(image_png(im, 0, 4, NULL, 0, &files[0], &e), 0);
    assert_int_equal(image_jpeg(im, 0, 80, &files[1], &e), 0);
    for (int f = 0; f < 2; f++) {
        for (size_t n = 0; n < files[f].len; n++) {
            char *copy = xmalloc(n + 1); /* its own block: a read beyond it is seen */

            memcpy(copy, files[f].data, n);
            image_unref(image_decode(copy, n, &e));
            free(copy);
        }
        for (size_t n = 0; n < files[f].len; n++) {
            files[f].data[n] ^= 0x55;
            image_unref(image_decode(files[f].data, files[f].len, &e));
            files[f].data[n] ^= 0x55;
        }
        buf_free(&files[f]);
    }
    assert_null(image_decode("this is not an image", 20, &e));
    image_unref(im);
}

/* A header that announces 16384x16384x4 is refused before memory is taken for it. */
static void sizes_are_bounded(void **state)
{
    struct err e;

    (void)state;
    assert_null(image_new(1, 16384, 16384, 4, &e));
    assert_null(image_new(0, 1, 1, 1, &e));
    assert_null(image_new(1, 16385, 1, 3, &e));
    assert_null(image_new(4294967295u, 16384, 16384, 4, &e));
    assert_null(image_fill(4096, 4096, 4096, 3, (const float[]){0, 0, 0}, &e));
}

/* nearest-exact as PyTorch: the sample under the centre. */
static void nearest_is_exact(void **state)
{
    struct err e;
    struct image *im = image_new(1, 4, 1, 1, &e), *out;

    (void)state;
    for (int i = 0; i < 4; i++)
        im->px[i] = (float)i;
    out = image_scale(im, 2, 1, SCALE_NEAREST, false, &e);
    assert_true(out->px[0] == 1 && out->px[1] == 3);
    image_unref(out);
    out = image_scale(im, 8, 1, SCALE_NEAREST, false, &e);
    for (int i = 0; i < 8; i++)
        assert_int_equal((int)out->px[i], i / 2);
    image_unref(out);
    out = image_scale(im, 3, 1, SCALE_NEAREST, false, &e); /* centres 0.67 2 3.33 */
    assert_true(out->px[0] == 0 && out->px[1] == 2 && out->px[2] == 3);
    image_unref(out);
    image_unref(im);
}

/* A flat picture stays flat under every filter, at the borders too. */
static void filters_keep_flat(void **state)
{
    static const char *const names[] = {"nearest-exact", "bilinear", "area", "bicubic", "lanczos"};
    const float grey[3] = {0.25f, 0.5f, 0.75f};
    struct err e;
    struct image *im = image_fill(2, 13, 7, 3, grey, &e);

    (void)state;
    assert_int_equal(image_scale_parse("magic"), -1);
    for (size_t k = 0; k < ARRAY_LEN(names); k++)
        for (unsigned w = 1; w < 30; w += 4) {
            struct image *out =
                image_scale(im, w, 31 - w, (enum image_scale)image_scale_parse(names[k]), w % 8 == 1, &e);

            assert_non_null(out);
            assert_int_equal(out->n, 2);
            for (size_t i = 0; i < image_samples(out); i++)
                assert_true(out->px[i] > grey[i % 3] - 1e-4f && out->px[i] < grey[i % 3] + 1e-4f);
            image_unref(out);
        }
    image_unref(im);
}

static void area_is_the_mean(void **state)
{
    struct err e;
    struct image *im = gradient(4, 4, 1), *out = image_scale(im, 2, 2, SCALE_AREA, false, &e);
    float mean = (im->px[0] + im->px[1] + im->px[4] + im->px[5]) / 4;

    (void)state;
    assert_true(out->px[0] > mean - 1e-5f && out->px[0] < mean + 1e-5f);
    image_unref(out);
    image_unref(im);
}

static void batches(void **state)
{
    struct err e;
    struct image *a = gradient(4, 4, 3), *b = gradient(8, 8, 4), *j = image_join(a, b, &e), *s, *r;

    (void)state;
    assert_int_equal(j->n, 2);
    assert_int_equal(j->c, 4); /* alpha is added as 1 */
    assert_int_equal(j->w, 4);
    assert_true(image_get(j, 0, 2, 2)[3] == 1.0f);
    s = image_slice(j, 1, 100, &e); /* cut to what is there */
    assert_int_equal(s->n, 1);
    assert_memory_equal(s->px, image_get(j, 1, 0, 0), image_samples(s) * sizeof(float));
    r = image_repeat(s, 3, &e);
    assert_int_equal(r->n, 3);
    assert_null(image_repeat(s, 4000000000u, &e));
    image_unref(a);
    image_unref(b);
    image_unref(j);
    image_unref(s);
    image_unref(r);
}

/* str() of a tensor, the first form as in recording d1: whole numbers, fractions, and more than 1000 samples
 * in part. */
static void tensor_text(void **state)
{
    struct err e;
    struct buf b = BUF_INIT;
    struct image *im = image_new(1, 2, 1, 3, &e);

    (void)state;
    image_print(im, &b);
    assert_string_equal(b.data, "tensor([[[[0., 0., 0.],\n          [0., 0., 0.]]]])");
    buf_clear(&b);
    im->px[1] = 0.5f;
    image_print(im, &b);
    assert_string_equal(b.data,
                        "tensor([[[[0.0000, 0.5000, 0.0000],\n          [0.0000, 0.0000, 0.0000]]]])");
    image_unref(im);
    buf_clear(&b);
    im = image_new(1, 500, 3, 1, &e);
    image_print(im, &b);
    assert_string_equal(b.data,
                        "tensor([[[0., 0., 0.,  ..., 0., 0., 0.],\n         [0., 0., 0.,  ..., 0., 0., 0.],\n"
                        "         [0., 0., 0.,  ..., 0., 0., 0.]]])");
    image_unref(im);
    buf_free(&b);
}

/* Pictures of two servers, seeds or prompts differ; the same job looks the same. */
static void pictures_differ(void **state)
{
    const struct picture a = {"gpu0", "1", "a cat", 1, 1}, other[] = {{"gpu1", "1", "a cat", 1, 1},
                                                                      {"gpu0", "2", "a cat", 1, 1},
                                                                      {"gpu0", "1", "a dog", 1, 1},
                                                                      {"gpu0", "1", "a cat", 0, 1}};
    struct err e;
    struct image *one = picture_paint(&a, 2, 128, 96, &e), *two = picture_paint(&a, 2, 128, 96, &e);
    size_t size = image_samples(one) * sizeof(float);

    (void)state;
    assert_memory_equal(one->px, two->px, size);
    assert_memory_not_equal(image_get(one, 0, 0, 0), image_get(one, 1, 0, 0), size / 2);
    for (size_t i = 0; i < ARRAY_LEN(other); i++) {
        struct image *x = picture_paint(&other[i], 2, 128, 96, &e);

        assert_memory_not_equal(one->px, x->px, size);
        image_unref(x);
    }
    image_unref(one);
    image_unref(two);
    for (unsigned w = 1; w < 20; w++) { /* labels are cut at every border */
        image_unref(picture_paint(&a, 1, w, 20 - w, &e));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(png_round_trip),    cmocka_unit_test(hostile_files),
        cmocka_unit_test(sizes_are_bounded), cmocka_unit_test(nearest_is_exact),
        cmocka_unit_test(filters_keep_flat), cmocka_unit_test(area_is_the_mean),
        cmocka_unit_test(batches),           cmocka_unit_test(tensor_text),
        cmocka_unit_test(pictures_differ),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
