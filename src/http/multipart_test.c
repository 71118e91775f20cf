/* Every form is pushed whole, cut at every byte, and byte by byte; what comes out must be the same. */
#include "http/multipart.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct trace {
    struct buf out;
    bool in_part;
    int stop_at; /* on_data refuses from this call on; -1 never */
};

static int on_part(const struct multipart_part *p, void *arg, struct err *e)
{
    struct trace *t = arg;

    (void)e;
    assert_false(t->in_part);
    t->in_part = true;
    buf_printf(&t->out, "(%s", p->name);
    if (p->filename)
        buf_printf(&t->out, " file=<%s>", p->filename);
    if (p->type)
        buf_printf(&t->out, " type=<%s>", p->type);
    buf_puts(&t->out, "){");
    return 0;
}

static int on_data(const void *data, size_t n, void *arg, struct err *e)
{
    struct trace *t = arg;

    assert_true(t->in_part && n > 0);
    if (t->stop_at == 0)
        return err_set(e, 0, "enough");
    buf_put(&t->out, data, n);
    return 0;
}

static int on_part_end(void *arg, struct err *e)
{
    struct trace *t = arg;

    (void)e;
    assert_true(t->in_part);
    t->in_part = false;
    buf_puts(&t->out, "}");
    return 0;
}

static const struct multipart_handlers handlers = {on_part, on_data, on_part_end};

static int push_copy(struct multipart *m, const char *s, size_t n, struct err *e)
{
    char *copy = malloc(n ? n : 1);
    int rc;

    if (n)
        memcpy(copy, s, n);
    rc = multipart_push(m, copy, n, e);
    free(copy);
    return rc;
}

/* cut > n: byte by byte. */
static char *run(const char *type, const char *s, size_t n, size_t cut, int stop_at)
{
    struct trace t = {.stop_at = stop_at};
    struct err e = {0};
    struct multipart *m = multipart_new(type, &handlers, &t, &e);
    int rc = 0;

    assert_non_null(m);
    if (cut > n) {
        for (size_t i = 0; i < n && rc == 0; i++)
            rc = push_copy(m, s + i, 1, &e);
    } else {
        rc = push_copy(m, s, cut, &e);
        if (rc == 0)
            rc = push_copy(m, s + cut, n - cut, &e);
    }
    if (rc == 0)
        rc = multipart_finish(m, &e);
    else
        assert_int_equal(multipart_push(m, "x", 1, NULL), -1); /* what was refused stays refused */
    if (rc < 0) {
        assert_true(e.msg[0] != '\0');
        buf_printf(&t.out, "!%s", e.msg);
    }
    multipart_free(&m);
    assert_null(m);
    return buf_take(&t.out);
}

static void check_n(const char *type, const char *s, size_t n, const char *want)
{
    char *whole = run(type, s, n, n, -1);

    if (want)
        assert_string_equal(whole, want);
    for (size_t cut = 0; cut <= n + 1; cut++) {
        char *got = run(type, s, n, cut, -1);

        assert_string_equal(got, whole);
        free(got);
    }
    free(whole);
}

#define FORM "multipart/form-data; boundary=b"
#define CD "Content-Disposition: form-data; "
#define CHECK(s, want) check_n(FORM, s, sizeof(s) - 1, want)
#define ONE(fields, want) CHECK("--b\r\n" fields "\r\nx\r\n--b--\r\n", want)

static void forms(void **state)
{
    (void)state;
    CHECK("--b--", "");
    CHECK("--b--\r\nepilogue\r\n--b\r\n", "");
    CHECK("preamble\r\n--b--\r\n", "");
    CHECK("--b\r\n" CD "name=\"a\"\r\n\r\n1\r\n--b\r\n" CD "name=c\r\n\r\n2\r\n--b--\r\n", "(a){1}(c){2}");
    CHECK("--b \t\r\n" CD "name=a\r\n\r\n1\r\n--b-- ", "(a){1}");
    CHECK("--b\r\n" CD "name=a\r\n\r\n\r\n--b--", "(a){}");
    CHECK("--b\r\n" CD "name=a\r\n\r\n--b\r\n" CD "name=c\r\n\r\n--b--",
          "(a){}(c){}"); /* shared line break */
    CHECK("--b\r\n\r\nx\r\n--b--", "(){x}");
    CHECK("\r\n--b\r\n\r\nx\r\n--b--", "(){x}");
    CHECK("--x\r\n--\r\r\n--b\r\n\r\nx\r\n--b--", "(){x}");
    /* data that looks like a boundary, and does not become one */
    CHECK("--b\r\n\r\n--\r\n-b\r\n--a\r\n\r\n--\n--b\r--b\r\r\n--b--",
          "(){--\r\n-b\r\n--a\r\n\r\n--\n--b\r--b\r}");
    CHECK("--b\r\n\r\n\r\n\r\n\r\n--b--", "(){\r\n\r\n}");
    CHECK("--b\r\n\r\n -- b--b\r\n--b--", "(){ -- b--b}");
    CHECK("--b\r\n\r\n\r\r\r\n-\r\n--b--", "(){\r\r\r\n-}");
    check_n("Multipart/Form-Data ; charset=x; Boundary=\"a b\\\"c\" ;", "--a b\"c\r\n\r\nx\r\n--a b\"c--", 23,
            "(){x}");
}

static void names(void **state)
{
    (void)state;
    ONE(CD "name=\"a\"; filename=\"f.png\"\r\nContent-Type: image/png \r\n",
        "(a file=<f.png> type=<image/png>){x}");
    ONE("content-disposition:form-data;name=a;filename=f.png\r\n", "(a file=<f.png>){x}");
    ONE("X-Other: 1\r\n" CD "filename=\"\"; name=a; x=y\r\n", "(a file=<>){x}");
    ONE(CD "name=\"a\\\"b\\\\c\"; filename=\"d\\e;f=\\\"\"\r\n", "(a\"b\\c file=<de;f=\">){x}");
    ONE(CD "name=\"a%22b\"; filename=\"h\xc3\xa9 llo \xe4\xb8\x96.png\"\r\n",
        "(a%22b file=<h\xc3\xa9 llo \xe4\xb8\x96.png>){x}");
    ONE(CD "name=a; filename=\"plain\"; filename*=UTF-8''%e2%82%ac%20r.png\r\n",
        "(a file=<\xe2\x82\xac r.png>){x}");
    ONE(CD "name=a; filename*=utf-8'en'%e2%82%ac; filename=\"plain\"\r\n", "(a file=<\xe2\x82\xac>){x}");
    ONE(CD "name=a; filename*=iso-8859-1''%e9t%E9\r\n", "(a file=<\xc3\xa9t\xc3\xa9>){x}");
    ONE(CD "name=a; filename=\"C:\\\\d\\\\f.png\"\r\n", "(a file=<C:\\d\\f.png>){x}");
    ONE(CD "name=a;\r\n", "(a){x}");
    ONE("Content-Disposition: attachment; name = a\r\n", "(a){x}");
    ONE("Content-Type: text/plain\r\n", "( type=<text/plain>){x}");
    ONE(CD "name=a\r\nContent-Transfer-Encoding: binary\r\n", "(a){x}");
}

static void refused(void **state)
{
    static const char *const heads[] = {
        CD "name=\"a\r\n",
        CD "name=\"a\\\r\n",
        CD "name=\"a\"; filename=\"f\r\n",
        CD "name=\"a\" filename=\"f\"\r\n",
        CD "name=a b\r\n",
        CD "name\r\n",
        CD "name=\r\n",
        CD "=a\r\n",
        CD "name=a; name=b\r\n",
        CD "name=a; filename=b; filename=c\r\n",
        CD "name=a; filename*=b\r\n",
        CD "name=a; filename*=utf-8'%41\r\n",
        CD "name=a; filename*=utf-8''%zz\r\n",
        CD "name=a; filename*=utf-8''%ff\r\n",
        CD "name=a; filename*=utf-8''a%00b\r\n",
        CD "name=a; filename*=iso-8859-1''a%00b\r\n",
        CD "name=a; filename*=utf-16''a\r\n",
        CD "name=a; filename=\"\xff\"\r\n",
        CD "name=\"\xc3\"\r\n",
        CD "name=a\r\n" CD "name=b\r\n",
        CD "name=a\r\n folded\r\n",
        " " CD "name=a\r\n",
        "no field\r\n",
        ": x\r\n",
        "a b: x\r\n",
        CD "name=a\r\nContent-Transfer-Encoding: base64\r\n",
        CD "name=a\r\nContent-Encoding: gzip\r\n",
        CD "name=a\n",
        CD "name=a\rx\r\n",
        CD "name=a\x01\r\n",
    };
    static const char *const bodies[] = {
        "",
        "--",
        "--b",
        "--b-",
        "--b\r\n",
        "--b\r\n\r\n",
        "--b\r\n\r\nx",
        "--b\r\n\r\nx\r\n--",
        "--b\r\n\r\nx\r\n--b",
        "--b\r\n\r\nx\r\n--b-",
        "--b\r\n\r\nx\r\n--bX",
        "--b\r\n\r\nx\r\n--b\n",
        "--b\r\n\r\nx\r\n--b -",
        "--b\r\n\r\nx\r\n--b-\r\n",
        "--b\r\n\r\nx--b--\r\n",
        "--b\r\n\r\nx\n--b--\r\n",
        "--b\r\n\r\nx\r\n --b--\r\n",
        "x--b\r\n\r\nx\r\n--B--\r\n",
        "image=abc",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(heads) + ARRAY_LEN(bodies); i++) {
        struct buf b = BUF_INIT;
        char *got;

        if (i < ARRAY_LEN(heads))
            buf_printf(&b, "--b\r\n%s\r\nx\r\n--b--\r\n", heads[i]);
        else
            buf_puts(&b, bodies[i - ARRAY_LEN(heads)]);
        got = run(FORM, buf_str(&b), b.len, b.len, -1);
        if (!strchr(got, '!'))
            fail_msg("taken: %s -> %s", buf_str(&b), got);
        free(got);
        check_n(FORM, buf_str(&b), b.len, NULL);
        buf_free(&b);
    }
    ONE("X: a\0b\r\n", "!the head of a part holds a byte that has no place there");
}

static void types(void **state)
{
    static const char *const bad[] = {
        "",
        "application/json",
        "multipart/form-data",
        "multipart/form-data;",
        "multipart/form-data; boundary",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=\"\"",
        "multipart/form-data; boundary=\"a",
        "multipart/form-data; boundary=\"a \"",
        "multipart/form-data; boundary=a; boundary=b",
        "multipart/form-data; boundary=a b",
        "multipart/form-data; boundary=\xc3\xa9",
        "multipart/form-dataX; boundary=a",
        "multipart/mixed; boundary=a",
        "multipart/form-data boundary=a",
        "multipart/form-data; boundary="
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"};
    struct multipart *m;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct err e = {0};

        m = multipart_new(bad[i], &handlers, NULL, &e);
        if (m)
            fail_msg("taken: %s", bad[i]);
        assert_true(e.msg[0] != '\0');
    }
    assert_null(multipart_new(NULL, &handlers, NULL, NULL));
    m = multipart_new("multipart/form-data; boundary="
                      "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
                      &handlers, NULL, NULL);
    assert_non_null(m);
    multipart_free(&m);
}

static void huge_head(void **state)
{
    struct trace t = {.stop_at = -1};
    struct multipart *m = multipart_new(FORM, &handlers, &t, NULL);
    struct err e;
    int rc = 0, n;

    (void)state;
    assert_int_equal(multipart_push(m, "--b\r\nX: ", 8, &e), 0);
    for (n = 0; n < 20000 && rc == 0; n++)
        rc = multipart_push(m, "a", 1, &e);
    assert_int_equal(rc, -1);
    assert_int_equal(e.code, EMSGSIZE);
    assert_int_equal(n, 16384 - 3 + 1);
    multipart_free(&m);
}

/* A handler's refusal ends the parse, with its words. */
static void handler_stops(void **state)
{
    char *got = run(FORM, "--b\r\n\r\nx\r\n--b--", 15, 15, 0);

    (void)state;
    assert_string_equal(got, "(){!enough");
    free(got);
}

/* Forms as aiohttp's client and browsers lay them out, with the lengths that were recorded at a real server.
 */
static void recorded(void **state)
{
    static const struct {
        const char *filename, *field, *value;
        bool field_first;
        size_t length;
    } cases[] = {
        {"up.png", NULL, NULL, false, 226},
        {"up.png", "overwrite", "true", false, 310},
        {"up.png", "overwrite", "1", false, 307},
        {"up.png", "type", "", false, 301},
        {"up.png", "subfolder", "a\\b", false, 309},
        {"../../evil.png", NULL, NULL, false, 234},
        {"", NULL, NULL, false, 220},
        {"h\xc3\xa9 llo \xe4\xb8\x96.png", NULL, NULL, false, 235},
        {"a%22b.png", NULL, NULL, false, 229},
        {"x.png [output]", NULL, NULL, false, 234},
    };
    char pixels[78];

    (void)state;
    for (size_t i = 0; i < sizeof(pixels); i++)
        pixels[i] = "\r\n--\x89PNG\x1a"[i % 9];
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf b = BUF_INIT, want = BUF_INIT;
        const char *bound = "----goldend01f2abd079d";

        buf_printf(&b,
                   "--%s\r\nContent-Disposition: form-data; name=\"image\"; filename=\"%s\"\r\n"
                   "Content-Type: image/png\r\n\r\n",
                   bound, cases[i].filename);
        buf_put(&b, pixels, sizeof(pixels));
        buf_puts(&b, "\r\n");
        buf_printf(&want, "(image file=<%s> type=<image/png>){", cases[i].filename);
        buf_put(&want, pixels, sizeof(pixels));
        buf_puts(&want, "}");
        if (cases[i].field) {
            buf_printf(&b, "--%s\r\nContent-Disposition: form-data; name=\"%s\"\r\n\r\n%s\r\n", bound,
                       cases[i].field, cases[i].value);
            buf_printf(&want, "(%s){%s}", cases[i].field, cases[i].value);
        }
        buf_printf(&b, "--%s--\r\n", bound);
        assert_int_equal(b.len, cases[i].length);
        check_n("multipart/form-data; boundary=----goldend01f2abd079d", buf_str(&b), b.len, buf_str(&want));
        buf_free(&b);
        buf_free(&want);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forms),    cmocka_unit_test(names),     cmocka_unit_test(refused),
        cmocka_unit_test(types),    cmocka_unit_test(huge_head), cmocka_unit_test(handler_stops),
        cmocka_unit_test(recorded),
    };

    return cmocka_run_group_tests_name("multipart", tests, NULL, NULL);
}
