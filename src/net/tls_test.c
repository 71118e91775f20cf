#include "net/stream_testing.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "net/tls_impl.h"

static char dir[] = "/tmp/net-tls-XXXXXX";
static struct loop *loop;
static struct listener *listener;
static struct tls_server *server;
static struct end a, c;

/* --- certificates, made for each run --- */

static char *path_of(const char *name, const char *ext)
{
    static char paths[4][128];
    static unsigned next;
    char *p = paths[next++ % 4];

    snprintf(p, sizeof(paths[0]), "%s/%s.%s", dir, name, ext);
    return p;
}

struct pair {
    X509 *cert;
    EVP_PKEY *key;
};

static void add_ext(X509 *x, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509_EXTENSION *ext;

    X509V3_set_ctx_nodb(&ctx);
    X509V3_set_ctx(&ctx, issuer, x, NULL, NULL, 0);
    ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    assert_non_null(ext);
    X509_add_ext(x, ext, -1);
    X509_EXTENSION_free(ext);
}

/* by NULL: self-signed. until: seconds from now. Written to <name>.pem and <name>.key. */
static struct pair make_cert(const char *name, const struct pair *by, const char *san, long until)
{
    struct pair p = {X509_new(), EVP_EC_gen("P-256")};
    const struct pair *issuer = by ? by : &p;
    static long serial = 1;
    FILE *f;

    X509_set_version(p.cert, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(p.cert), serial++);
    X509_gmtime_adj(X509_getm_notBefore(p.cert), -7200);
    X509_gmtime_adj(X509_getm_notAfter(p.cert), until);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(p.cert), "CN", MBSTRING_ASC, (const unsigned char *)name,
                               -1, -1, 0);
    X509_set_issuer_name(p.cert, X509_get_subject_name(issuer->cert));
    X509_set_pubkey(p.cert, p.key);
    if (san)
        add_ext(p.cert, issuer->cert, NID_subject_alt_name, san);
    else
        add_ext(p.cert, issuer->cert, NID_basic_constraints, "critical,CA:TRUE");
    assert_true(X509_sign(p.cert, issuer->key, EVP_sha256()) > 0);
    f = fopen(path_of(name, "pem"), "w");
    PEM_write_X509(f, p.cert);
    fclose(f);
    f = fopen(path_of(name, "key"), "w");
    PEM_write_PrivateKey(f, p.key, NULL, NULL, 0, NULL, NULL);
    fclose(f);
    return p;
}

static void pair_free(struct pair *p)
{
    X509_free(p->cert);
    EVP_PKEY_free(p->key);
}

static const char *const made[] = {"ca", "good", "elsewhere", "expired", "selfsigned", "locked"};

static int group_setup(void **state)
{
    struct pair ca, p;
    FILE *f;

    (void)state;
    assert_non_null(mkdtemp(dir));
    ca = make_cert("ca", NULL, NULL, 86400);
    p = make_cert("good", &ca, "DNS:localhost,IP:127.0.0.1", 86400);
    pair_free(&p);
    p = make_cert("elsewhere", &ca, "DNS:elsewhere.example", 86400);
    pair_free(&p);
    p = make_cert("expired", &ca, "DNS:localhost,IP:127.0.0.1", -3600);
    pair_free(&p);
    p = make_cert("selfsigned", NULL, "DNS:localhost,IP:127.0.0.1", 86400);
    f = fopen(path_of("locked", "key"), "w");
    PEM_write_PrivateKey(f, p.key, EVP_aes_128_cbc(), (const unsigned char *)"secret", 6, NULL, NULL);
    fclose(f);
    pair_free(&p);
    pair_free(&ca);
    return 0;
}

static int group_teardown(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(made); i++) {
        unlink(path_of(made[i], "pem"));
        unlink(path_of(made[i], "key"));
    }
    return rmdir(dir);
}

/* --- ends --- */

static void on_accept(struct listener *ln, int fd, void *arg)
{
    (void)ln;
    (void)arg;
    if (a.s)
        stream_close(&a.s);
    small_window(fd);
    a.s = stream_accept(loop, fd, server, end_cb, &a);
}

static int setup(void **state)
{
    struct err e = {0};

    (void)state;
    memset(&a, 0, sizeof(a));
    memset(&c, 0, sizeof(c));
    loop = loop_new(&e);
    listener = listener_open(loop, "127.0.0.1:0", on_accept, NULL, &e);
    return listener ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    assert_false(a.nested);
    assert_false(c.nested);
    end_fini(&a);
    end_fini(&c);
    listener_close(&listener);
    loop_free(&loop);
    tls_server_free(&server);
    return 0;
}

static void serve(const char *name)
{
    struct err e = {0};

    tls_server_free(&server);
    server = tls_server_new(path_of(name, "pem"), path_of(name, "key"), &e);
    if (server == NULL)
        fail_msg("%s", e.msg);
}

static void connect_to(const char *host, bool verify, int64_t ms)
{
    struct err e = {0};
    struct tls_client *t = tls_client_new(path_of("ca", "pem"), verify, &e);

    if (t == NULL)
        fail_msg("%s", e.msg);
    c.in_call = true;
    c.s = stream_connect(loop, host, port_of(listener), t, ms, end_cb, &c);
    c.in_call = false;
    tls_client_free(&t); /* the session keeps what it needs */
}

static void connect_pair(void)
{
    serve("good");
    connect_to("localhost", true, 5000);
    UNTIL(loop, a.n[STREAM_OPEN] && c.n[STREAM_OPEN]);
}

static int raw_connect(void)
{
    struct sockaddr_in in = {.sin_family = AF_INET};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    in.sin_port = htons(port_of(listener));
    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(connect(fd, (struct sockaddr *)&in, sizeof(in)), 0);
    return fd;
}

/* --- who is accepted --- */

static void test_good_certificate_by_name_and_address(void **state)
{
    (void)state;
    connect_pair();
    assert_true(stream_is_tls(c.s));
    assert_true(stream_is_tls(a.s));
    assert_true(stream_never_opened(c.s));
    stream_write(c.s, "ping", 4);
    UNTIL(loop, a.got.len == 4);
    assert_false(stream_never_opened(c.s));
    stream_write(a.s, "pong", 4);
    UNTIL(loop, c.got.len == 4);
    end_fini(&c);
    memset(&c, 0, sizeof(c));
    connect_to("127.0.0.1", true, 5000);
    UNTIL(loop, c.n[STREAM_OPEN]);
}

static void refused_with(const char *cert, const char *host, const char *why)
{
    serve(cert);
    connect_to(host, true, 5000);
    stream_write(c.s, "secret", 6);
    UNTIL(loop, c.n[STREAM_ERROR]);
    assert_string_equal(c.error, why);
    assert_true(stream_never_opened(c.s));
    UNTIL(loop, a.n[STREAM_ERROR]);
    assert_non_null(strstr(a.error, "TLS:"));
    assert_int_equal(a.got.len, 0);
    assert_string_equal(c.trace, "X");
}

static void test_wrong_host(void **state)
{
    (void)state;
    refused_with("elsewhere", "localhost", "hostname mismatch");
}

static void test_wrong_address(void **state)
{
    (void)state;
    refused_with("elsewhere", "127.0.0.1", "IP address mismatch");
}

static void test_expired(void **state)
{
    (void)state;
    refused_with("expired", "localhost", "certificate has expired");
}

static void test_self_signed(void **state)
{
    (void)state;
    refused_with("selfsigned", "localhost", "self-signed certificate");
}

static void test_unverified_takes_any_certificate(void **state)
{
    static const char *const certs[] = {"selfsigned", "expired", "elsewhere"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(certs); i++) {
        serve(certs[i]);
        connect_to("localhost", false, 5000);
        stream_write(c.s, "x", 1);
        UNTIL(loop, a.got.len == 1);
        end_fini(&c);
        end_fini(&a);
        memset(&c, 0, sizeof(c));
        memset(&a, 0, sizeof(a));
    }
}

/* --- peers that do not speak TLS, or not to the end --- */

static void test_plain_text_to_a_tls_port(void **state)
{
    int fd;

    (void)state;
    serve("good");
    fd = raw_connect();
    assert_int_equal(send(fd, "GET / HTTP/1.1\r\n\r\n", 18, 0), 18);
    UNTIL(loop, a.n[STREAM_ERROR]);
    assert_string_equal(a.error, "the peer does not speak TLS (http request)");
    close(fd);
}

static int plain_fd = -1;

static void accept_raw(struct listener *ln, int fd, void *arg)
{
    (void)ln;
    (void)arg;
    plain_fd = fd;
}

static void raw_server(void)
{
    struct err e;

    listener_close(&listener);
    listener = listener_open(loop, "127.0.0.1:0", accept_raw, NULL, &e);
    assert_non_null(listener);
    plain_fd = -1;
}

static void test_tls_to_a_plain_port(void **state)
{
    static const char answer[] = "HTTP/1.1 400 Bad Request\r\n\r\n";

    (void)state;
    raw_server();
    connect_to("localhost", true, 5000);
    UNTIL(loop, plain_fd >= 0);
    assert_true(send(plain_fd, answer, sizeof(answer) - 1, 0) > 0);
    UNTIL(loop, c.n[STREAM_ERROR]);
    assert_string_equal(c.error, "the peer does not speak TLS (wrong version number)");
    assert_true(stream_never_opened(c.s));
    close(plain_fd);
}

static void test_client_handshake_times_out(void **state)
{
    (void)state;
    raw_server();
    connect_to("localhost", true, 60);
    UNTIL(loop, c.n[STREAM_ERROR]);
    assert_string_equal(c.error, "TLS handshake timed out");
    assert_int_equal(stream_errno(c.s), ETIMEDOUT);
    assert_true(stream_never_opened(c.s));
    if (plain_fd >= 0)
        close(plain_fd);
}

static void test_server_handshake_times_out(void **state)
{
    int fd;

    (void)state;
    serve("good");
    assert_int_equal(tls_server_handshake_ms(server), 10000);
    tls_server_set_handshake_ms(server, 40);
    fd = raw_connect();
    UNTIL(loop, a.n[STREAM_ERROR]);
    assert_string_equal(a.error, "TLS handshake timed out");
    close(fd);
}

static void test_peer_gone_in_the_handshake(void **state)
{
    int fd;

    (void)state;
    serve("good");
    fd = raw_connect();
    assert_int_equal(send(fd, "\x16\x03\x01\x02", 4, 0), 4);
    close(fd);
    UNTIL(loop, a.n[STREAM_ERROR]);
    assert_string_equal(a.error, "connection closed during the TLS handshake");
    raw_server();
    connect_to("localhost", true, 5000);
    UNTIL(loop, plain_fd >= 0);
    turns(loop, 3);
    shutdown(plain_fd, SHUT_WR);
    UNTIL(loop, c.n[STREAM_ERROR]);
    assert_string_equal(c.error, "connection closed during the TLS handshake");
    assert_true(stream_never_opened(c.s));
    close(plain_fd);
}

/* --- the end of a direction --- */

static void test_half_close_by_close_notify(void **state)
{
    (void)state;
    connect_pair();
    stream_write(c.s, "question", 8);
    stream_shutdown_write(c.s);
    UNTIL(loop, a.n[STREAM_EOF]);
    assert_string_equal(buf_str(&a.got), "question");
    stream_write(a.s, "answer", 6);
    stream_shutdown_write(a.s);
    UNTIL(loop, c.n[STREAM_EOF]);
    assert_string_equal(buf_str(&c.got), "answer");
    assert_string_equal(a.trace, "ODE");
    assert_string_equal(c.trace, "ODE");
}

static void pause_in_data(struct end *e, enum stream_event ev)
{
    if (ev == STREAM_DATA)
        stream_pause(e->s);
}

/* Data and close_notify come in one read, the owner pauses at the data: the end waits. */
static void test_eof_waits_while_paused(void **state)
{
    (void)state;
    a.hook = pause_in_data;
    connect_pair();
    stream_write(c.s, "x", 1);
    stream_shutdown_write(c.s);
    UNTIL(loop, a.n[STREAM_DATA]);
    turns(loop, 10);
    assert_string_equal(a.trace, "OD");
    a.in_call = true;
    stream_resume(a.s);
    a.in_call = false;
    UNTIL(loop, a.n[STREAM_EOF]);
    assert_string_equal(buf_str(&a.got), "x");
}

/* A connection cut under the session is no end. */
static void test_cut_without_close_notify_is_an_error(void **state)
{
    int fd;

    (void)state;
    connect_pair();
    stream_write(c.s, "half", 4);
    UNTIL(loop, a.got.len == 4);
    /* shut the socket under the session's feet, as a dying process does */
    for (fd = 3; fd < 256; fd++) {
        struct sockaddr_in in;
        socklen_t len = sizeof(in);
        char name[64];

        if (getsockname(fd, (struct sockaddr *)&in, &len) < 0 || in.sin_family != AF_INET)
            continue;
        snprintf(name, sizeof(name), "127.0.0.1:%d", ntohs(in.sin_port));
        if (strcmp(name, stream_peer(a.s)) == 0)
            break;
    }
    assert_true(fd < 256);
    shutdown(fd, SHUT_WR);
    UNTIL(loop, a.n[STREAM_ERROR]);
    assert_string_equal(a.error, "connection cut without TLS close_notify");
    assert_int_equal(a.n[STREAM_EOF], 0);
}

static void test_stream_close_says_so_unless_output_was_dropped(void **state)
{
    (void)state;
    connect_pair();
    stream_close(&c.s);
    UNTIL(loop, a.n[STREAM_EOF]);
    end_fini(&a);
    memset(&a, 0, sizeof(a));
    memset(&c, 0, sizeof(c));
    connect_pair();
    stream_write(c.s, "dropped", 7);
    stream_close(&c.s);
    UNTIL(loop, a.n[STREAM_ERROR]);
    assert_int_equal(a.n[STREAM_EOF], 0);
    assert_int_equal(a.got.len, 0);
}

static void test_close_gracefully(void **state)
{
    static char big[8 << 20], answer[300000];

    (void)state;
    connect_pair();
    pattern_fill(answer, sizeof(answer), 0);
    stream_write(c.s, big, sizeof(big));
    stream_pause(a.s);
    turns(loop, 10);
    stream_write(a.s, answer, sizeof(answer));
    stream_close_gracefully(&a.s, 5000);
    UNTIL(loop, c.n[STREAM_EOF]);
    assert_int_equal(c.got.len, sizeof(answer));
    assert_true(pattern_holds(c.got.data, sizeof(answer), 0));
    UNTIL(loop, stream_queued(c.s) == 0);
    turns(loop, 3);
    assert_int_equal(c.n[STREAM_ERROR], 0);
}

/* --- bytes --- */

static void test_files_and_bytes_keep_their_order(void **state)
{
    enum { SIZE = 3 << 20, OFF = 12345 };
    struct err e;
    int fd = file_of(SIZE);

    (void)state;
    connect_pair();
    stream_write(c.s, "head", 4);
    assert_int_equal(stream_write_file(c.s, dup(fd), 0, SIZE, &e), 0);
    stream_write(c.s, "middle", 6);
    assert_int_equal(stream_write_file(c.s, fd, OFF, SIZE - OFF, &e), 0);
    stream_write(c.s, "tail", 4);
    stream_shutdown_write(c.s);
    UNTIL(loop, a.n[STREAM_EOF]);
    assert_int_equal(a.got.len, 2 * SIZE - OFF + 14);
    assert_memory_equal(a.got.data, "head", 4);
    assert_true(pattern_holds(a.got.data + 4, SIZE, 0));
    assert_memory_equal(a.got.data + 4 + SIZE, "middle", 6);
    assert_true(pattern_holds(a.got.data + 10 + SIZE, SIZE - OFF, OFF));
    assert_memory_equal(a.got.data + a.got.len - 4, "tail", 4);
}

/* Reading pauses with input inside the session that no event of the socket will announce again. */
static void test_undrained_input_goes_on_when_drained(void **state)
{
    enum { TOTAL = 2 << 20 };
    char *big = xmalloc(TOTAL);

    (void)state;
    pattern_fill(big, TOTAL, 0);
    a.keep = true;
    connect_pair();
    stream_write(c.s, big, TOTAL);
    UNTIL(loop, evbuffer_get_length(stream_input(a.s)) >= 256 * 1024);
    turns(loop, 30);
    assert_true(evbuffer_get_length(stream_input(a.s)) <= 320 * 1024);
    for (int64_t end = loop_now(loop) + 20000; a.got.len < TOTAL && loop_now(loop) < end;) {
        end_drain(&a);
        loop_turn(loop, 50);
    }
    assert_int_equal(a.got.len, TOTAL);
    assert_memory_equal(a.got.data, big, TOTAL);
    free(big);
}

static void test_random_chunks_and_pauses(void **state)
{
    enum { TOTAL = 5 << 20 };
    uint64_t seed = 77;
    size_t sent = 0;
    static char chunk[100000];

    (void)state;
    a.keep = true;
    connect_pair();
    for (int64_t end = loop_now(loop) + 30000; a.got.len < TOTAL && loop_now(loop) < end;) {
        unsigned r = next_random(&seed);
        size_t n = 1 + next_random(&seed) % (r % 8 == 0 ? sizeof(chunk) : 3000);

        if (n > TOTAL - sent)
            n = TOTAL - sent;
        pattern_fill(chunk, n, sent);
        stream_write(c.s, chunk, n);
        sent += n;
        if (r % 5 == 0)
            stream_pause(a.s);
        if (r % 5 >= 3)
            stream_resume(a.s);
        if (r % 3 == 0)
            end_drain(&a);
        if (r % 2 == 0)
            loop_turn(loop, sent < TOTAL ? 0 : 1);
    }
    assert_int_equal(a.got.len, TOTAL);
    assert_true(pattern_holds(a.got.data, TOTAL, 0));
}

/* A relay that hands records on byte by byte: partial records everywhere, the handshake included. */
static int relay_out = -1, relay_in = -1;

static void relay_accept(struct listener *ln, int fd, void *arg)
{
    int on = 1;

    (void)ln;
    relay_in = fd;
    relay_out = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(relay_out, arg, sizeof(struct sockaddr_in)), 0);
    setsockopt(relay_in, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    setsockopt(relay_out, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

static void relay_some(int from, int to, size_t max)
{
    char p[64];
    ssize_t n = recv(from, p, max, MSG_DONTWAIT);

    if (n > 0)
        assert_int_equal(send(to, p, (size_t)n, 0), n);
}

static void test_partial_records(void **state)
{
    struct sockaddr_in in = {.sin_family = AF_INET};
    struct listener *real, *relay;
    struct err e;
    char text[600];

    (void)state;
    serve("good");
    pattern_fill(text, sizeof(text), 0);
    in.sin_port = htons(port_of(listener));
    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    relay = listener_open(loop, "127.0.0.1:0", relay_accept, &in, &e);
    real = listener;
    listener = relay;
    connect_to("localhost", true, 20000);
    stream_write(c.s, text, sizeof(text));
    for (int64_t i = 0, end = loop_now(loop) + 20000; c.got.len < sizeof(text) && loop_now(loop) < end; i++) {
        loop_turn(loop, 0);
        if (relay_in >= 0) {
            relay_some(relay_in, relay_out, 1 + (size_t)i % 3);
            relay_some(relay_out, relay_in, 1 + (size_t)i % 5);
        }
        if (a.got.len == sizeof(text) && stream_queued(a.s) == 0 && !a.keep) {
            a.keep = true; /* once */
            stream_write(a.s, text, sizeof(text));
        }
    }
    assert_int_equal(c.got.len, sizeof(text));
    assert_true(pattern_holds(c.got.data, sizeof(text), 0));
    assert_true(pattern_holds(a.got.data, sizeof(text), 0));
    assert_string_equal(c.trace, "OD");
    listener_close(&relay);
    listener = real;
    close(relay_in);
    close(relay_out);
}

/* Cut the client's first flight at every byte: an error each time, never a crash or a hang. */
static void test_handshake_cut_at_every_byte(void **state)
{
    char hello[2048];
    ssize_t n = 0;

    (void)state;
    raw_server();
    connect_to("localhost", true, 5000);
    for (int i = 0; i < 100 && n <= 0; i++) {
        loop_turn(loop, 50);
        n = plain_fd < 0 ? 0 : recv(plain_fd, hello, sizeof(hello), MSG_DONTWAIT);
    }
    assert_true(n > 100);
    close(plain_fd);
    end_fini(&c);
    memset(&c, 0, sizeof(c));
    listener_close(&listener);
    serve("good");
    for (ssize_t cut = 0; cut < n; cut += cut < 60 ? 1 : 13) {
        int sv[2];

        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
        memset(&a, 0, sizeof(a));
        a.s = stream_accept(loop, sv[0], server, end_cb, &a);
        assert_int_equal(send(sv[1], hello, (size_t)cut, 0), cut);
        loop_turn(loop, 0);
        close(sv[1]);
        UNTIL(loop, a.n[STREAM_ERROR]);
        assert_string_equal(a.error, "connection closed during the TLS handshake");
        stream_close(&a.s);
    }
    loop_turn(loop, 0);
}

/* --- contexts --- */

static void test_bad_files_are_named(void **state)
{
    struct err e;

    (void)state;
    assert_null(tls_server_new("/nonexistent.pem", path_of("good", "key"), &e));
    assert_string_equal(e.msg, "cannot use certificate file /nonexistent.pem: No such file or directory");
    assert_null(tls_server_new(path_of("good", "pem"), "/nonexistent.key", &e));
    assert_non_null(strstr(e.msg, "cannot use key file /nonexistent.key: No such file"));
    assert_null(tls_server_new(path_of("good", "pem"), path_of("ca", "key"), &e));
    assert_non_null(strstr(e.msg, "key values mismatch"));
    assert_null(tls_server_new(path_of("good", "key"), path_of("good", "key"), &e));
    assert_non_null(strstr(e.msg, "cannot use certificate file"));
    assert_null(tls_server_new(path_of("selfsigned", "pem"), path_of("locked", "key"), &e)); /* asks nobody */
    assert_non_null(strstr(e.msg, "cannot use key file"));
    assert_null(tls_client_new("/nonexistent.pem", true, &e));
    assert_non_null(strstr(e.msg, "/nonexistent.pem"));
    assert_null(tls_client_new("/nonexistent.pem", true, NULL));
    assert_int_equal(ERR_peek_error(), 0);
}

static void test_system_trust_does_not_know_our_ca(void **state)
{
    struct err e;
    struct tls_client *t = tls_client_new(NULL, true, &e);

    (void)state;
    assert_non_null(t);
    serve("good");
    c.s = stream_connect(loop, "localhost", port_of(listener), t, 5000, end_cb, &c);
    tls_client_free(&t);
    UNTIL(loop, c.n[STREAM_ERROR]);
    assert_string_equal(c.error, "unable to get local issuer certificate");
}

/* --- what the other side is told: server name and protocol --- */

static char sni[64];
static unsigned char alpn[16];

static int on_hello(SSL *ssl, int *alert, void *arg)
{
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);

    (void)alert;
    (void)arg;
    snprintf(sni, sizeof(sni), "%s", name ? name : "-");
    return SSL_TLSEXT_ERR_OK;
}

static int on_alpn(SSL *ssl, const unsigned char **out, unsigned char *outlen, const unsigned char *in,
                   unsigned inlen, void *arg)
{
    (void)ssl;
    (void)arg;
    memcpy(alpn, in, inlen < sizeof(alpn) ? inlen : sizeof(alpn) - 1);
    *out = in + 1;
    *outlen = in[0];
    return SSL_TLSEXT_ERR_OK;
}

static void shake_hands_with(SSL *ssl)
{
    SSL_set_fd(ssl, plain_fd);
    for (int i = 0; i < 200 && !SSL_is_init_finished(ssl); i++) {
        loop_turn(loop, 10);
        SSL_accept(ssl);
    }
    assert_true(SSL_is_init_finished(ssl));
    UNTIL(loop, c.n[STREAM_OPEN]);
}

static void test_server_name_and_protocol_are_sent(void **state)
{
    static const char *const hosts[] = {"localhost", "127.0.0.1"};
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());

    (void)state;
    SSL_CTX_use_certificate_file(ctx, path_of("good", "pem"), SSL_FILETYPE_PEM);
    SSL_CTX_use_PrivateKey_file(ctx, path_of("good", "key"), SSL_FILETYPE_PEM);
    SSL_CTX_set_tlsext_servername_callback(ctx, on_hello);
    SSL_CTX_set_alpn_select_cb(ctx, on_alpn, NULL);
    for (int i = 0; i < 2; i++) {
        SSL *ssl = SSL_new(ctx);

        raw_server();
        connect_to(hosts[i], true, 5000);
        UNTIL(loop, plain_fd >= 0);
        fcntl(plain_fd, F_SETFL, O_NONBLOCK);
        shake_hands_with(ssl);
        assert_string_equal(sni, i == 0 ? "localhost" : "-"); /* never for addresses */
        assert_string_equal((char *)alpn, "\x08http/1.1");
        SSL_free(ssl);
        close(plain_fd);
        end_fini(&c);
        memset(&c, 0, sizeof(c));
    }
    SSL_CTX_free(ctx);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_good_certificate_by_name_and_address),
        T(test_wrong_host),
        T(test_wrong_address),
        T(test_expired),
        T(test_self_signed),
        T(test_unverified_takes_any_certificate),
        T(test_plain_text_to_a_tls_port),
        T(test_tls_to_a_plain_port),
        T(test_client_handshake_times_out),
        T(test_server_handshake_times_out),
        T(test_peer_gone_in_the_handshake),
        T(test_half_close_by_close_notify),
        T(test_eof_waits_while_paused),
        T(test_cut_without_close_notify_is_an_error),
        T(test_stream_close_says_so_unless_output_was_dropped),
        T(test_close_gracefully),
        T(test_files_and_bytes_keep_their_order),
        T(test_undrained_input_goes_on_when_drained),
        T(test_random_chunks_and_pauses),
        T(test_partial_records),
        T(test_handshake_cut_at_every_byte),
        T(test_bad_files_are_named),
        T(test_system_trust_does_not_know_our_ca),
        T(test_server_name_and_protocol_are_sent),
    };

    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
