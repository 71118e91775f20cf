#include "net/stream_testing.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "net/addr.h"

static struct loop *loop;
static struct listener *listener;
static int accepted[4096];
static int n_accepted;
static int pause_at = -1, close_at = -1;
static struct buf logged;

static void on_accept(struct listener *ln, int fd, void *arg)
{
    assert_ptr_equal(arg, &loop);
    accepted[n_accepted++] = fd;
    if (n_accepted == pause_at)
        listener_pause(ln);
    if (n_accepted == close_at)
        listener_close(&listener);
}

static void on_log(void *arg, enum log_level level, const char *line, size_t len)
{
    (void)arg;
    (void)level;
    buf_put(&logged, line, len);
}

static int setup(void **state)
{
    struct err e;

    (void)state;
    loop = loop_new(&e);
    n_accepted = 0;
    pause_at = close_at = -1;
    buf_clear(&logged);
    log_set_sink(on_log, NULL);
    listener = listener_open(loop, "127.0.0.1:0", on_accept, &loop, &e);
    return listener ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    while (n_accepted > 0)
        close(accepted[--n_accepted]);
    listener_close(&listener);
    loop_free(&loop);
    log_set_sink(NULL, NULL);
    buf_free(&logged);
    return 0;
}

static int dial(void)
{
    struct sockaddr_in in = {.sin_family = AF_INET};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    in.sin_port = htons(port_of(listener));
    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(fd, (struct sockaddr *)&in, sizeof(in)) < 0)
        assert_int_equal(errno, EINPROGRESS);
    return fd;
}

static void test_many_are_accepted_but_not_all_in_one_turn(void **state)
{
    enum { MANY = 300 };
    int fd[MANY];

    (void)state;
    for (int i = 0; i < MANY; i++)
        fd[i] = dial();
    loop_turn(loop, 1000);
    assert_true(n_accepted > 1);
    assert_true(n_accepted <= 64);
    UNTIL(loop, n_accepted == MANY);
    assert_true(fcntl(accepted[0], F_GETFL) & O_NONBLOCK);
    assert_true(fcntl(accepted[0], F_GETFD) & FD_CLOEXEC);
    for (int i = 0; i < MANY; i++)
        close(fd[i]);
}

static void test_pause_in_the_callback_and_resume(void **state)
{
    int fd[5];

    (void)state;
    pause_at = 2;
    for (int i = 0; i < 5; i++)
        fd[i] = dial();
    UNTIL(loop, n_accepted == 2);
    assert_true(turns_in(loop, 100) < 10); /* and does not spin */
    assert_int_equal(n_accepted, 2);
    pause_at = -1;
    listener_resume(listener);
    UNTIL(loop, n_accepted == 5);
    for (int i = 0; i < 5; i++)
        close(fd[i]);
}

static void test_close_in_the_callback(void **state)
{
    int fd[5];

    (void)state;
    close_at = 2;
    for (int i = 0; i < 5; i++)
        fd[i] = dial();
    UNTIL(loop, n_accepted == 2);
    turns(loop, 5);
    assert_int_equal(n_accepted, 2);
    assert_null(listener);
    for (int i = 0; i < 5; i++)
        close(fd[i]);
}

static int count_lines(const char *needle)
{
    int n = 0;

    for (const char *p = buf_str(&logged); (p = strstr(p, needle)) != NULL; p++)
        n++;
    return n;
}

/* Two episodes of running out of descriptors: each is logged once, nobody spins, accepting goes on. */
static void test_out_of_descriptors(void **state)
{
    struct rlimit old, low;
    int fd[20];

    (void)state;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    for (int episode = 1; episode <= 2; episode++) {
        int before = n_accepted;

        for (int i = 0; i < 20; i++)
            fd[i] = dial();
        low = old;
        low.rlim_cur = (rlim_t)fd[19] + 4; /* room for three more */
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
        assert_true(turns_in(loop, 250) < 20); /* retries every 100 ms */
        assert_true(n_accepted - before < 20);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
        UNTIL(loop, n_accepted - before == 20);
        UNTIL(loop, count_lines("accept goes on") == episode);
        assert_int_equal(count_lines("accept paused"), episode);
        assert_int_equal(count_lines("reason=\"Too many open files\""), episode);
        for (int i = 0; i < 20; i++)
            close(fd[i]);
    }
}

static void test_pause_holds_while_out_of_descriptors(void **state)
{
    struct rlimit old, low;
    int fd = dial(), before;

    (void)state;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    low = old;
    low.rlim_cur = (rlim_t)fd; /* nothing free */
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    UNTIL(loop, count_lines("accept paused") == 1);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    listener_pause(listener);
    before = n_accepted;
    for (int64_t end = loop_now(loop) + 150; loop_now(loop) < end;)
        loop_turn(loop, 50);
    assert_int_equal(n_accepted, before);
    listener_resume(listener);
    UNTIL(loop, n_accepted == before + 1);
    close(fd);
}

static void test_handed_over_socket(void **state)
{
    struct err e;
    struct listener *old = listener;
    int fd = socket(AF_INET, SOCK_STREAM, 0), c;
    struct sockaddr_in in = {.sin_family = AF_INET};

    (void)state;
    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(fd, (struct sockaddr *)&in, sizeof(in)), 0);
    listener = listener_from_fd(loop, fd, on_accept, &loop, &e);
    assert_non_null(listener);
    c = dial();
    UNTIL(loop, n_accepted == 1);
    close(c);
    listener_close(&old);
    assert_null(listener_from_fd(loop, dup(STDIN_FILENO), on_accept, &loop, &e));
    assert_non_null(strstr(e.msg, "cannot listen"));
}

static void test_bad_addresses_say_why(void **state)
{
    static const char *const bad[] = {
        "",          "8280", "host:",   "127.0.0.1:65536", "127.0.0.1:-1", "127.0.0.1:80x",
        "::1:80",    "[::1", "[]:80",   "unix:",           "1.2.3.4.5:80", "127.0.0.1:99999999999999999999",
        "[::1]:abc", ":",    "[::1]80",
    };
    struct err e;
    char longpath[300];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        e.msg[0] = '\0';
        assert_null(listener_open(loop, bad[i], on_accept, &loop, &e));
        assert_true(e.msg[0] != '\0');
    }
    memset(longpath, 'x', sizeof(longpath));
    memcpy(longpath, "unix:/", 6);
    longpath[sizeof(longpath) - 1] = '\0';
    assert_null(listener_open(loop, longpath, on_accept, &loop, &e));
    assert_non_null(strstr(e.msg, "longer than 107 bytes"));
    assert_null(listener_open(loop, listener_addr(listener), on_accept, &loop, &e));
    assert_int_equal(e.code, EADDRINUSE);
    assert_non_null(strstr(e.msg, listener_addr(listener)));
    assert_null(listener_open(loop, "nonsense", on_accept, &loop, NULL));
}

static void test_stale_unix_socket_is_replaced_but_a_file_is_not(void **state)
{
    char addr[64];
    struct err e;
    struct addr_listen a;
    struct listener *un;
    int fd;

    (void)state;
    snprintf(addr, sizeof(addr), "unix:/tmp/net-listener-%d", (int)getpid());
    assert_int_equal(addr_parse_listen(addr, &a, &e), 0);
    fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&a.ss, a.len), 0);
    close(fd); /* as if killed: the file stays */
    assert_int_equal(access(addr + 5, F_OK), 0);
    un = listener_open(loop, addr, on_accept, &loop, &e);
    assert_non_null(un);
    listener_close(&un);
    assert_int_equal(access(addr + 5, F_OK), -1);
    fd = open(addr + 5, O_CREAT | O_WRONLY, 0600);
    close(fd);
    assert_null(listener_open(loop, addr, on_accept, &loop, &e));
    assert_int_equal(access(addr + 5, F_OK), 0);
    unlink(addr + 5);
}

static void format(const char *ip, int family, const char *want_ip, const char *want_full)
{
    struct sockaddr_storage ss = {.ss_family = (sa_family_t)family};
    char got_ip[ADDR_IP_MAX], got_full[ADDR_MAX];

    if (family == AF_INET) {
        inet_pton(family, ip, &((struct sockaddr_in *)&ss)->sin_addr);
        ((struct sockaddr_in *)&ss)->sin_port = htons(4711);
    } else if (family == AF_INET6) {
        inet_pton(family, ip, &((struct sockaddr_in6 *)&ss)->sin6_addr);
        ((struct sockaddr_in6 *)&ss)->sin6_port = htons(4711);
    }
    addr_format(&ss, got_ip, got_full);
    assert_string_equal(got_ip, want_ip);
    assert_string_equal(got_full, want_full);
}

static void test_addresses_as_text(void **state)
{
    (void)state;
    format("1.2.3.4", AF_INET, "1.2.3.4", "1.2.3.4:4711");
    format("2001:db8::1", AF_INET6, "2001:db8::1", "[2001:db8::1]:4711");
    format("::ffff:10.1.2.3", AF_INET6, "10.1.2.3", "10.1.2.3:4711");
    format("", AF_UNIX, "unix", "unix");
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_many_are_accepted_but_not_all_in_one_turn),
        T(test_pause_in_the_callback_and_resume),
        T(test_close_in_the_callback),
        T(test_out_of_descriptors),
        T(test_pause_holds_while_out_of_descriptors),
        T(test_handed_over_socket),
        T(test_bad_addresses_say_why),
        T(test_stale_unix_socket_is_replaced_but_a_file_is_not),
        T(test_addresses_as_text),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
