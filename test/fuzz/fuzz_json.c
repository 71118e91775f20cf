/* Whatever the text is: a checked one walks without a step outside it, every span inside re-checks alone, the
 * walk counts what the checker counted, and strings survive decoding and encoding. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(x)                                                                                           \
    do {                                                                                                     \
        if (!(x))                                                                                            \
            abort();                                                                                         \
    } while (0)

static void string_survives(struct json v)
{
    struct buf chars = BUF_INIT, text = BUF_INIT, back = BUF_INIT;
    struct json again;

    REQUIRE(json_str(v, &chars) == 0);
    REQUIRE(json_str_eqn(v, buf_str(&chars), chars.len));
    json_put_strn(&text, buf_str(&chars), chars.len);
    REQUIRE(json_check(text.data, text.len, NULL, &again, NULL) == 0);
    REQUIRE(json_str(again, &back) == 0);
    REQUIRE(back.len == chars.len && memcmp(buf_str(&back), buf_str(&chars), chars.len) == 0);
    buf_free(&chars);
    buf_free(&text);
    buf_free(&back);
}

static void number_reads(struct json v)
{
    struct buf text = BUF_INIT;
    double d, back;
    int64_t i;
    struct json again;

    REQUIRE(json_double(v, &d));
    json_put_double(&text, d);
    REQUIRE(json_check(text.data, text.len, NULL, &again, NULL) == 0);
    REQUIRE(json_double(again, &back) && (back == d || (back != back && d != d)));
    if (json_int(v, &i))
        REQUIRE(json_is_int_literal(v) && (double)i == d);
    buf_free(&text);
}

/* Depth is bounded by the checker, so this may recurse. Gives the number of values, keys included. */
static size_t walk(struct json v)
{
    struct json_iter it = json_iter(v);
    struct json key, m, span;
    size_t n = 1, members = 0;

    REQUIRE(v.n > 0);
    /* Re-checking every span would take quadratic time on deep nests. */
    if (v.n < 512)
        REQUIRE(json_check(v.p, v.n, NULL, &span, NULL) == 0 && span.p == v.p && span.n == v.n);
    if (json_type(v) == JSON_STRING)
        string_survives(v);
    if (json_type(v) == JSON_NUMBER)
        number_reads(v);
    while (json_next(&it, &key, &m)) {
        REQUIRE(m.p >= v.p && m.p + m.n <= v.p + v.n);
        REQUIRE((key.p != NULL) == (json_type(v) == JSON_OBJECT));
        if (key.p) {
            string_survives(key);
            n++;
        }
        n += walk(m);
        members++;
    }
    REQUIRE(json_truthy(v) || members == 0);
    return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size ? size : 1); /* exactly: one byte more would hide a step too far */
    struct json v;
    struct err e;

    if (size)
        memcpy(text, data, size);
    if (json_check(text, size, NULL, &v, &e) == 0) {
        struct json_limits lim = {JSON_MAX_DEPTH, walk(v)};

        REQUIRE(utf8_is_valid(text, size));
        REQUIRE(json_check(text, size, &lim, NULL, NULL) == 0);
        lim.values--;
        REQUIRE(json_check(text, size, &lim, NULL, NULL) == -1);
    } else {
        REQUIRE(strncmp(e.msg, "line ", 5) == 0);
    }
    free(text);
    return 0;
}
