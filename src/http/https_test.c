/* The server over TLS, asked by our own client: small and large answers, a file, a body that is sent, one connection. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "http/client.h"
#include "http/server.h"
#include "net/tls.h"

#define LARGE (3 << 20)

struct fx {
    struct loop *l;
    struct http_server *s;
    struct http_client *c;
    struct tls_server *ts;
    struct tls_client *tc;
    char dir[64], cert[96], key[96], file[96];
    /* the answer */
    int n, status;
    struct bytes *body;
};

static void write_pair(struct fx *f)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *x = X509_new();
    X509_EXTENSION *san = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, "IP:127.0.0.1");
    FILE *out;

    X509_set_version(x, X509_VERSION_3);
    X509_gmtime_adj(X509_getm_notBefore(x), -3600);
    X509_gmtime_adj(X509_getm_notAfter(x), 86400);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_ASC, (const unsigned char *)"here",
                               -1, -1, 0);
    X509_set_issuer_name(x, X509_get_subject_name(x));
    X509_set_pubkey(x, key);
    X509_add_ext(x, san, -1);
    X509_EXTENSION_free(san);
    assert_true(X509_sign(x, key, EVP_sha256()) > 0);
    out = fopen(f->cert, "w");
    PEM_write_X509(out, x);
    fclose(out);
    out = fopen(f->key, "w");
    PEM_write_PrivateKey(out, key, NULL, NULL, 0, NULL, NULL);
    fclose(out);
    X509_free(x);
    EVP_PKEY_free(key);
}

static char pattern(size_t i)
{
    return (char)(i * 7 + (i >> 11));
}

static void echo(struct http_req *req, struct bytes *body, void *arg)
{
    (void)arg;
    http_reply_bytes(req, 200, "application/octet-stream", body);
}

static void on_request(struct http_req *req, void *arg)
{
    struct fx *f = arg;
    struct http_file file = {.size = LARGE, .type = "image/png"};

    if (strcmp(http_req_path(req), "/file") == 0) {
        FILE *in = fopen(f->file, "rb");

        assert_non_null(in);
        file.fd = dup(fileno(in));
        fclose(in);
        http_reply_file(req, 200, &file);
    } else if (strcmp(http_req_path(req), "/echo") == 0) {
        http_body_read_all(req, 2 * LARGE, echo, NULL);
    } else {
        http_reply_str(req, 200, "text/plain", "hello");
    }
}

static int setup(void **state)
{
    struct fx *f = calloc(1, sizeof(*f));
    struct http_client_config cfg = {0};
    struct listener *ln;
    struct err e;
    char url[128];
    FILE *out;

    snprintf(f->dir, sizeof(f->dir), "/tmp/https-test-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->cert, sizeof(f->cert), "%s/cert", f->dir);
    snprintf(f->key, sizeof(f->key), "%s/key", f->dir);
    snprintf(f->file, sizeof(f->file), "%s/file", f->dir);
    write_pair(f);
    out = fopen(f->file, "wb");
    for (size_t i = 0; i < LARGE; i++)
        fputc(pattern(i), out);
    fclose(out);
    f->l = loop_new(&e);
    f->ts = tls_server_new(f->cert, f->key, &e);
    f->tc = tls_client_new(f->cert, true, &e);
    assert_true(f->ts && f->tc);
    f->s = http_server_new(f->l, NULL, on_request, f);
    ln = http_server_listen(f->s, "127.0.0.1:0", f->ts, &e);
    assert_non_null(ln);
    snprintf(url, sizeof(url), "https://%s", listener_addr(ln));
    cfg.tls = f->tc;
    f->c = http_client_new(f->l, url, &cfg, &e);
    assert_non_null(f->c);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fx *f = *state;

    http_client_free(&f->c);
    http_server_free(&f->s);
    loop_free(&f->l);
    tls_server_free(&f->ts);
    tls_client_free(&f->tc);
    bytes_unref(f->body);
    unlink(f->cert);
    unlink(f->key);
    unlink(f->file);
    rmdir(f->dir);
    free(f);
    return 0;
}

static void on_answer(const struct http_answer *a, void *arg)
{
    struct fx *f = arg;

    if (a->end != HTTP_CALL_OK)
        fail_msg("%s", a->why);
    f->status = a->status;
    bytes_unref(f->body);
    f->body = bytes_ref(a->body);
    f->n++;
}

static void ask(struct fx *f, const char *method, const char *target, struct bytes *body)
{
    int before = f->n;

    http_fetch(f->c, method, target, body ? "application/octet-stream" : NULL, body, 2 * LARGE, 60000,
               on_answer, f);
    while (f->n == before)
        loop_turn(f->l, 1000);
    assert_int_equal(f->status, 200);
}

static void assert_pattern(const struct bytes *b)
{
    assert_int_equal(b->len, LARGE);
    for (size_t i = 0; i < LARGE; i++)
        if (b->data[i] != pattern(i))
            fail_msg("byte %zu is another one", i);
}

static void everything_over_one_connection(void **state)
{
    struct fx *f = *state;
    struct bytes *sent = bytes_alloc(LARGE);

    for (size_t i = 0; i < LARGE; i++)
        sent->data[i] = pattern(i);
    for (int i = 0; i < 3; i++) {
        ask(f, "GET", "/", NULL);
        assert_int_equal(f->body->len, 5);
        assert_memory_equal(f->body->data, "hello", 5);
        ask(f, "GET", "/file", NULL); /* read and encrypted here: no sendfile */
        assert_pattern(f->body);
        ask(f, "POST", "/echo", sent);
        assert_pattern(f->body);
        assert_int_equal(http_server_conns(f->s), 1);
    }
    bytes_unref(sent);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(everything_over_one_connection),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
