#include "net/stream_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/dns.h>
#include <event2/dns_struct.h>
#include <event2/event.h>

static unsigned short closed_port(void)
{
    struct sockaddr_in in = {.sin_family = AF_INET};
    socklen_t len = sizeof(in);
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(fd, (struct sockaddr *)&in, sizeof(in)), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&in, &len), 0);
    close(fd);
    return ntohs(in.sin_port);
}

static void test_refused(void **state)
{
    (void)state;
    connect_to("127.0.0.1", closed_port(), 5000);
    stream_write(c.s, "never", 5);
    UNTIL(loop, c.n[STREAM_ERROR]);
    assert_string_equal(c.error, "connection refused");
    assert_int_equal(stream_errno(c.s), ECONNREFUSED);
    assert_true(stream_never_opened(c.s));
    assert_string_equal(c.trace, "X");
}

/* A listener whose backlog is full drops our SYN: nothing answers. */
static int fill[9];

static unsigned short silent_port(const char *ip, unsigned short port)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};
    socklen_t len = sizeof(in);
    int ln = socket(AF_INET, SOCK_STREAM, 0);

    evutil_inet_pton(AF_INET, ip, &in.sin_addr);
    assert_int_equal(bind(ln, (struct sockaddr *)&in, sizeof(in)), 0);
    assert_int_equal(listen(ln, 0), 0);
    assert_int_equal(getsockname(ln, (struct sockaddr *)&in, &len), 0);
    fill[0] = ln;
    for (size_t i = 1; i < ARRAY_LEN(fill); i++) {
        fill[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        (void)connect(fill[i], (struct sockaddr *)&in, sizeof(in));
    }
    return ntohs(in.sin_port);
}

static void silent_close(void)
{
    for (size_t i = 0; i < ARRAY_LEN(fill); i++)
        close(fill[i]);
}

static void test_connect_timeout(void **state)
{
    (void)state;
    connect_to("127.0.0.1", silent_port("127.0.0.1", 0), 100);
    UNTIL(loop, c.n[STREAM_ERROR]);
    assert_string_equal(c.error, "connect timed out");
    assert_int_equal(stream_errno(c.s), ETIMEDOUT);
    assert_true(stream_never_opened(c.s));
    silent_close();
}

static void test_close_at_every_stage_of_connecting(void **state)
{
    (void)state;
    for (int i = 0; i < 6; i++) {
        connect_to(i % 2 ? "localhost" : "127.0.0.1", port_of(listener), 1000);
        stream_write(c.s, "x", 1);
        turns(loop, i / 2);
        stream_close(&c.s);
        assert_null(c.s);
        UNTIL(loop, i / 2 == 0 || a.s != NULL || i == 3);
        turns(loop, 3);
        stream_close(&a.s);
        turns(loop, 3);
    }
    stream_close(&c.s); /* NULL is fine */
}

/* --- names: a small DNS server on the same loop --- */

static struct evdns_server_port *dns_port;
static const char *dns_addrs[3];

static void on_query(struct evdns_server_request *req, void *arg)
{
    int rc = 3; /* NXDOMAIN */

    (void)arg;
    for (int i = 0; i < req->nquestions; i++) {
        const struct evdns_server_question *q = req->questions[i];

        if (strcasecmp(q->name, "silent.test") == 0) { /* evdns mixes the case */
            evdns_server_request_drop(req);
            return;
        }
        if (strcasecmp(q->name, "multi.test") != 0)
            continue;
        rc = 0;
        for (int k = 0; q->type == EVDNS_TYPE_A && k < 3 && dns_addrs[k]; k++) {
            struct in_addr in;

            evutil_inet_pton(AF_INET, dns_addrs[k], &in);
            evdns_server_request_add_a_reply(req, q->name, 1, &in, 10);
        }
    }
    evdns_server_request_respond(req, rc);
}

static void dns_start(void)
{
    struct sockaddr_in in = {.sin_family = AF_INET};
    socklen_t len = sizeof(in);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);

    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(fd, (struct sockaddr *)&in, sizeof(in)), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&in, &len), 0);
    dns_port = evdns_add_server_port_with_base(loop_base(loop), fd, 0, on_query, NULL);
    evdns_base_clear_nameservers_and_suspend(loop_dns(loop));
    evdns_base_nameserver_sockaddr_add(loop_dns(loop), (struct sockaddr *)&in, len, 0);
    evdns_base_resume(loop_dns(loop));
    evdns_base_search_clear(loop_dns(loop));
}

static void dns_stop(void)
{
    stream_close(&c.s);
    turns(loop, 3);
    evdns_close_server_port(dns_port);
}

static void test_addresses_are_tried_in_turn(void **state)
{
    (void)state;
    dns_start();
    dns_addrs[0] = "127.9.9.1"; /* nobody listens there */
    dns_addrs[1] = "127.9.9.2";
    dns_addrs[2] = "127.0.0.1";
    connect_to("multi.test", port_of(listener), 5000);
    assert_non_null(strstr(stream_peer(c.s), "multi.test:"));
    UNTIL(loop, c.n[STREAM_OPEN]);
    assert_string_equal(stream_peer_ip(c.s), "127.0.0.1");
    stream_close(&c.s);
    memset(&c, 0, sizeof(c));
    dns_addrs[2] = NULL;
    connect_to("multi.test", port_of(listener), 5000);
    UNTIL(loop, c.n[STREAM_ERROR]);
    assert_string_equal(c.error, "connection refused");
    dns_stop();
}

/* An address that never answers takes its share of the time, not all of it. */
static void test_silent_address_does_not_take_all_the_time(void **state)
{
    (void)state;
    dns_start();
    silent_port("127.9.9.1", port_of(listener));
    dns_addrs[0] = "127.9.9.1";
    dns_addrs[1] = "127.0.0.1";
    dns_addrs[2] = NULL;
    connect_to("multi.test", port_of(listener), 600);
    UNTIL(loop, c.n[STREAM_OPEN] || c.n[STREAM_ERROR]);
    assert_string_equal(c.trace, "O");
    assert_string_equal(stream_peer_ip(c.s), "127.0.0.1");
    silent_close();
    dns_stop();
}

static void test_unknown_name(void **state)
{
    (void)state;
    dns_start();
    connect_to("nosuch.test", 80, 10000);
    UNTIL(loop, c.n[STREAM_ERROR]);
    assert_non_null(strstr(c.error, "cannot resolve nosuch.test: no such host"));
    assert_true(stream_never_opened(c.s));
    dns_stop();
}

static void test_name_server_that_is_silent(void **state)
{
    (void)state;
    dns_start();
    connect_to("silent.test", 80, 50);
    UNTIL(loop, c.n[STREAM_ERROR]);
    assert_string_equal(c.error, "name lookup timed out");
    stream_close(&c.s);
    memset(&c, 0, sizeof(c));
    connect_to("silent.test", 80, 5000);
    turns(loop, 5);
    stream_close(&c.s); /* with the query under way; the loop goes, too */
    dns_stop();
}

/* --- other families --- */

static void test_ipv6(void **state)
{
    struct err e;
    struct listener *six;

    (void)state;
    six = listener_open(loop, "[::1]:0", on_accept, NULL, &e);
    if (six == NULL)
        skip();
    assert_non_null(strstr(listener_addr(six), "[::1]:"));
    connect_to("::1", port_of(six), 5000);
    UNTIL(loop, a.n[STREAM_OPEN] && c.n[STREAM_OPEN]);
    assert_string_equal(stream_peer_ip(a.s), "::1");
    assert_true(strncmp(stream_peer(a.s), "[::1]:", 6) == 0);
    listener_close(&six);
}

static void test_all_addresses_take_ipv4(void **state)
{
    struct err e;
    struct listener *any;

    (void)state;
    any = listener_open(loop, ":0", on_accept, NULL, &e);
    assert_non_null(any);
    connect_to("127.0.0.1", port_of(any), 5000);
    UNTIL(loop, a.n[STREAM_OPEN] && c.n[STREAM_OPEN]);
    assert_string_equal(stream_peer_ip(a.s), "127.0.0.1");
    listener_close(&any);
}

static void test_unix_socket(void **state)
{
    char addr[64];
    struct err e;
    struct listener *un;
    int fd;

    (void)state;
    snprintf(addr, sizeof(addr), "unix:/tmp/net-stream-%d", (int)getpid());
    un = listener_open(loop, addr, on_accept, NULL, &e);
    assert_non_null(un);
    assert_string_equal(listener_addr(un), addr);
    connect_to(addr, 0, 5000);
    UNTIL(loop, a.n[STREAM_OPEN] && c.n[STREAM_OPEN]);
    assert_string_equal(stream_peer(a.s), "unix");
    stream_write(c.s, "local", 5);
    UNTIL(loop, a.got.len == 5);
    assert_null(listener_open(loop, addr, on_accept, NULL, &e)); /* somebody answers there */
    assert_int_equal(e.code, EADDRINUSE);
    fd = open(addr + 5, O_PATH);
    assert_true(fd >= 0);
    close(fd);
    listener_close(&un);
    assert_int_equal(access(addr + 5, F_OK), -1);
    stream_close(&c.s);
    memset(&c, 0, sizeof(c));
    connect_to(addr, 0, 5000);
    UNTIL(loop, c.n[STREAM_ERROR]);
    assert_string_equal(c.error, "no such file or directory");
    assert_true(stream_never_opened(c.s));
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_refused),
        T(test_connect_timeout),
        T(test_close_at_every_stage_of_connecting),
        T(test_addresses_are_tried_in_turn),
        T(test_silent_address_does_not_take_all_the_time),
        T(test_unknown_name),
        T(test_name_server_that_is_silent),
        T(test_ipv6),
        T(test_all_addresses_take_ipv4),
        T(test_unix_socket),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
