#include "net/stream_testing.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/dns.h>
#include <event2/dns_struct.h>
#include <event2/event.h>

/* One loop, a listener, the accepted end a, the connected end c. */
static struct loop *loop;
static struct listener *listener;
static struct end a, c;
static const char *listen_on = "127.0.0.1:0";

static void on_accept(struct listener *ln, int fd, void *arg)
{
    (void)ln;
    (void)arg;
    assert_null(a.s);
    a.s = stream_accept(loop, fd, NULL, end_cb, &a);
}

static int setup(void **state)
{
    struct err e = {0};

    (void)state;
    memset(&a, 0, sizeof(a));
    memset(&c, 0, sizeof(c));
    loop = loop_new(&e);
    listener = listener_open(loop, listen_on, on_accept, NULL, &e);
    if (listener == NULL)
        fail_msg("%s", e.msg);
    return 0;
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
    return 0;
}

static void connect_to(const char *host, unsigned short port, int64_t ms)
{
    c.in_call = true;
    c.s = stream_connect(loop, host, port, NULL, ms, end_cb, &c);
    c.in_call = false;
}

static void connect_pair(void)
{
    connect_to("127.0.0.1", port_of(listener), 5000);
    UNTIL(loop, a.n[STREAM_OPEN] && c.n[STREAM_OPEN]);
}

static void forget(void)
{
    end_fini(&a);
    end_fini(&c);
    memset(&a, 0, sizeof(a));
    memset(&c, 0, sizeof(c));
}

/* --- open, talk, end --- */

static void test_open_data_eof_both_ways(void **state)
{
    (void)state;
    connect_pair();
    assert_string_equal(c.trace, "O");
    assert_true(strncmp(stream_peer(a.s), "127.0.0.1:", 10) == 0);
    assert_string_equal(stream_peer_ip(a.s), "127.0.0.1");
    assert_string_equal(stream_peer(c.s), listener_addr(listener));
    assert_false(stream_is_tls(c.s));
    assert_ptr_equal(stream_loop(c.s), loop);
    stream_write(c.s, "hello ", 6);
    stream_write(c.s, "there", 5);
    assert_int_equal(stream_queued(c.s), 11);
    stream_shutdown_write(c.s);
    UNTIL(loop, a.n[STREAM_EOF]);
    assert_string_equal(buf_str(&a.got), "hello there");
    assert_true(stream_saw_eof(a.s));
    /* half closed: we may still write */
    stream_write(a.s, "answer", 6);
    stream_shutdown_write(a.s);
    UNTIL(loop, c.n[STREAM_EOF]);
    assert_string_equal(buf_str(&c.got), "answer");
    assert_string_equal(a.trace, "ODE");
    assert_string_equal(c.trace, "ODE");
    turns(loop, 5);
    assert_int_equal(a.n[STREAM_EOF], 1);
}

static void test_written_before_open_arrives(void **state)
{
    (void)state;
    connect_to("127.0.0.1", port_of(listener), 5000);
    stream_write(c.s, "early", 5);
    assert_true(stream_never_opened(c.s));
    stream_shutdown_write(c.s);
    UNTIL(loop, a.n[STREAM_EOF]);
    assert_string_equal(buf_str(&a.got), "early");
    assert_false(stream_never_opened(c.s));
}

static void echo_back(struct end *e, enum stream_event ev)
{
    if (ev == STREAM_DATA) {
        stream_write_buffer(e->s, stream_input(e->s));
        if (stream_queued(e->s) > 512 * 1024)
            stream_pause(e->s);
    } else if (ev == STREAM_LOWAT) {
        stream_resume(e->s);
    } else if (ev == STREAM_EOF) {
        stream_shutdown_write(e->s);
    }
}

/* 20 MB to an echo and back while our side reads slowly: everything arrives, and neither side ever holds more
 * than its limits. */
static void test_echo_with_slow_reader_is_bounded(void **state)
{
    enum { TOTAL = 20 << 20, CHUNK = 96 * 1024 };
    static char chunk[CHUNK];
    size_t sent = 0, worst_in = 0, worst_out = 0;
    int round = 0;

    (void)state;
    a.hook = echo_back;
    a.keep = true;
    c.keep = true;
    connect_pair();
    for (int64_t end = loop_now(loop) + 30000; c.got.len < TOTAL && loop_now(loop) < end; round++) {
        while (sent < TOTAL && stream_queued(c.s) < 256 * 1024) {
            size_t n = TOTAL - sent < CHUNK ? TOTAL - sent : CHUNK;

            pattern_fill(chunk, n, sent);
            stream_write(c.s, chunk, n);
            sent += n;
        }
        if (evbuffer_get_length(stream_input(c.s)) > worst_in)
            worst_in = evbuffer_get_length(stream_input(c.s));
        if (stream_queued(a.s) > worst_out)
            worst_out = stream_queued(a.s);
        if (round % 7 == 0)
            end_drain(&c); /* no call to the stream: it must notice by itself */
        loop_turn(loop, 1);
    }
    assert_int_equal(c.got.len, TOTAL);
    assert_true(pattern_holds(c.got.data, TOTAL, 0));
    assert_true(worst_in >= 256 * 1024); /* the slow reader was slow enough to matter */
    assert_true(worst_in < 256 * 1024 + 64 * 1024);
    assert_true(worst_out <= 512 * 1024 + 320 * 1024);
}

/* A reader that never drains stops the writer: the peer's queue stays, ours does not grow. */
static void test_undrained_input_pauses_and_goes_on(void **state)
{
    enum { TOTAL = 24 << 20 };
    char *big = xmalloc(TOTAL);
    size_t held;

    (void)state;
    pattern_fill(big, TOTAL, 0);
    a.keep = true;
    connect_pair();
    stream_write(c.s, big, TOTAL);
    stream_shutdown_write(c.s);
    UNTIL(loop, evbuffer_get_length(stream_input(a.s)) >= 256 * 1024);
    for (int i = 0; i < 50; i++)
        loop_turn(loop, 1);
    held = evbuffer_get_length(stream_input(a.s));
    assert_true(held < 320 * 1024);
    assert_true(stream_queued(c.s) > 0);
    assert_int_equal(a.n[STREAM_EOF], 0);
    end_drain(&a);
    UNTIL(loop, a.got.len + evbuffer_get_length(stream_input(a.s)) > held);
    a.keep = false;
    end_drain(&a);
    UNTIL(loop, a.n[STREAM_EOF]);
    assert_int_equal(a.got.len, TOTAL);
    assert_memory_equal(a.got.data, big, TOTAL);
    free(big);
}

static void test_pause_and_resume(void **state)
{
    (void)state;
    connect_pair();
    stream_pause(a.s);
    stream_write(c.s, "one", 3);
    turns(loop, 20);
    assert_int_equal(a.n[STREAM_DATA], 0);
    a.in_call = true;
    stream_resume(a.s);
    a.in_call = false;
    UNTIL(loop, a.got.len == 3);
    /* resume with buffered input: told again, though nothing new came */
    a.keep = true;
    stream_write(c.s, "two", 3);
    UNTIL(loop, evbuffer_get_length(stream_input(a.s)) == 3);
    stream_pause(a.s);
    turns(loop, 3);
    a.keep = false;
    assert_int_equal(a.got.len, 3);
    a.in_call = true;
    stream_resume(a.s);
    a.in_call = false;
    loop_turn(loop, 1000);
    assert_string_equal(buf_str(&a.got), "onetwo");
}

static void pause_in_data(struct end *e, enum stream_event ev)
{
    if (ev == STREAM_DATA)
        stream_pause(e->s);
}

static void test_eof_waits_while_paused(void **state)
{
    (void)state;
    a.hook = pause_in_data;
    connect_pair();
    stream_write(c.s, "x", 1);
    stream_shutdown_write(c.s);
    UNTIL(loop, a.n[STREAM_DATA]);
    turns(loop, 20);
    assert_string_equal(a.trace, "OD");
    stream_resume(a.s);
    UNTIL(loop, a.n[STREAM_EOF]);
}

static void test_new_owner_hears_of_buffered_input(void **state)
{
    struct end b = {0};

    (void)state;
    a.keep = true;
    connect_pair();
    stream_write(c.s, "upgrade", 7);
    UNTIL(loop, a.n[STREAM_DATA]);
    b.s = a.s;
    a.s = NULL;
    b.in_call = true;
    stream_set_cb(b.s, end_cb, &b);
    b.in_call = false;
    UNTIL(loop, b.got.len == 7);
    assert_false(b.nested);
    end_fini(&b);
}

/* --- output --- */

static void test_lowat_only_after_having_been_above(void **state)
{
    static char big[8 << 20];

    (void)state;
    connect_pair();
    stream_set_lowat(c.s, 1000);
    stream_write(c.s, big, 1000);
    UNTIL(loop, a.got.len == 1000);
    turns(loop, 5);
    assert_int_equal(c.n[STREAM_LOWAT], 0);
    c.in_call = true;
    stream_write(c.s, big, sizeof(big));
    c.in_call = false;
    UNTIL(loop, c.n[STREAM_LOWAT] == 1);
    assert_true(stream_queued(c.s) <= 1000);
    UNTIL(loop, a.got.len == 1000 + sizeof(big));
    turns(loop, 5);
    assert_int_equal(c.n[STREAM_LOWAT], 1);
    /* raising the mark over what is queued tells too */
    stream_pause(a.s);
    stream_write(c.s, big, sizeof(big));
    turns(loop, 20);
    assert_int_equal(c.n[STREAM_LOWAT], 1);
    c.in_call = true;
    stream_set_lowat(c.s, sizeof(big));
    c.in_call = false;
    UNTIL(loop, c.n[STREAM_LOWAT] == 2);
}

static void test_shared_bytes_are_released(void **state)
{
    struct bytes *b = bytes_alloc(4 << 20), *small = bytes_new("tiny", 4);

    (void)state;
    pattern_fill(b->data, b->len, 0);
    connect_pair();
    stream_write_bytes(c.s, small);
    stream_write_bytes(c.s, b);
    assert_int_equal(b->refs, 2);
    UNTIL(loop, a.got.len == b->len + 4);
    assert_true(pattern_holds(a.got.data + 4, b->len, 0));
    assert_int_equal(b->refs, 1);
    /* dropped with the stream, too */
    stream_write_bytes(c.s, b);
    stream_close(&c.s);
    loop_turn(loop, 0);
    loop_turn(loop, 0);
    assert_int_equal(b->refs, 1);
    bytes_unref(b);
    bytes_unref(small);
}

static int file_of(size_t n)
{
    FILE *f = tmpfile();
    char *p = xmalloc(n);
    int fd;

    pattern_fill(p, n, 0);
    assert_int_equal(fwrite(p, 1, n, f), n);
    free(p);
    fflush(f);
    fd = dup(fileno(f));
    fclose(f);
    return fd;
}

static void test_files_and_bytes_keep_their_order(void **state)
{
    enum { SIZE = 12 << 20, PART = 100000, OFF = 777 };
    struct err e;
    const char *p;
    int fd = file_of(SIZE);

    (void)state;
    connect_pair();
    stream_write(c.s, "head", 4);
    assert_int_equal(stream_write_file(c.s, dup(fd), 0, SIZE, &e), 0);
    stream_write(c.s, "middle", 6);
    assert_int_equal(stream_write_file(c.s, dup(fd), OFF, PART, &e), 0);
    assert_int_equal(stream_write_file(c.s, dup(fd), 0, 0, &e), 0);
    assert_int_equal(stream_write_file(c.s, fd, 5, 1, &e), 0);
    stream_write(c.s, "tail", 4);
    assert_int_equal(stream_queued(c.s), SIZE + PART + 15);
    stream_shutdown_write(c.s);
    UNTIL(loop, a.n[STREAM_EOF]);
    assert_int_equal(a.got.len, SIZE + PART + 15);
    p = a.got.data;
    assert_memory_equal(p, "head", 4);
    assert_true(pattern_holds(p + 4, SIZE, 0));
    assert_memory_equal(p + 4 + SIZE, "middle", 6);
    assert_true(pattern_holds(p + 10 + SIZE, PART, OFF));
    assert_true(pattern_holds(p + 10 + SIZE + PART, 1, 5));
    assert_memory_equal(p + 11 + SIZE + PART, "tail", 4);
    assert_int_equal(stream_queued(c.s), 0);
}

static void test_bad_files_are_refused_and_closed(void **state)
{
    struct err e;
    int fd = file_of(100), p[2];

    (void)state;
    connect_pair();
    assert_int_equal(stream_write_file(c.s, fd, 50, 51, &e), -1);
    assert_int_equal(fcntl(fd, F_GETFD), -1);
    assert_int_equal(stream_write_file(c.s, file_of(10), -1, 5, &e), -1);
    assert_int_equal(pipe(p), 0);
    assert_int_equal(stream_write_file(c.s, p[0], 0, 1, &e), -1);
    close(p[1]);
    assert_int_equal(stream_write_file(c.s, 9999, 0, 1, &e), -1);
    assert_int_equal(e.code, EBADF);
    assert_int_equal(stream_queued(c.s), 0);
}

static void test_file_that_shrinks_is_an_error(void **state)
{
    struct err e;
    int fd = file_of(1 << 20);

    (void)state;
    connect_pair();
    assert_int_equal(stream_write_file(c.s, dup(fd), 0, 1 << 20, &e), 0);
    assert_int_equal(ftruncate(fd, 1000), 0);
    close(fd);
    UNTIL(loop, c.n[STREAM_ERROR]);
    assert_non_null(strstr(c.error, "ended early"));
}

/* --- failures --- */

static void test_reset_is_an_error(void **state)
{
    struct linger hard = {1, 0};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in in = {.sin_family = AF_INET};

    (void)state;
    in.sin_port = htons(port_of(listener));
    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(connect(fd, (struct sockaddr *)&in, sizeof(in)), 0);
    UNTIL(loop, a.n[STREAM_OPEN]);
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
    close(fd);
    UNTIL(loop, a.n[STREAM_ERROR]);
    assert_string_equal(a.error, "connection reset by peer");
    assert_int_equal(stream_errno(a.s), ECONNRESET);
    stream_write(a.s, "x", 1); /* goes nowhere */
    assert_int_equal(stream_queued(a.s), 0);
    turns(loop, 5);
    assert_string_equal(a.trace, "OX");
}

static void test_reset_in_the_middle_of_writing(void **state)
{
    struct linger hard = {1, 0};
    static char big[16 << 20];
    struct sockaddr_in in = {.sin_family = AF_INET};
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    (void)state;
    in.sin_port = htons(port_of(listener));
    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(connect(fd, (struct sockaddr *)&in, sizeof(in)), 0);
    UNTIL(loop, a.n[STREAM_OPEN]);
    stream_pause(a.s); /* only the writing can notice */
    stream_write(a.s, big, sizeof(big));
    turns(loop, 5);
    assert_true(stream_queued(a.s) > 0);
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
    close(fd);
    UNTIL(loop, a.n[STREAM_ERROR]);
    assert_true(stream_errno(a.s) == ECONNRESET || stream_errno(a.s) == EPIPE);
    assert_int_equal(stream_queued(a.s), 0);
}

/* The peer answers, does not read what we send, and hangs up: the answer comes first, then the error. */
static void test_answer_is_read_before_a_write_error(void **state)
{
    static char big[4 << 20];
    struct sockaddr_in in = {.sin_family = AF_INET};
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    (void)state;
    in.sin_port = htons(port_of(listener));
    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(connect(fd, (struct sockaddr *)&in, sizeof(in)), 0);
    UNTIL(loop, a.n[STREAM_OPEN]);
    stream_write(a.s, "unread", 6);
    turns(loop, 5);
    assert_int_equal(send(fd, "413", 3, 0), 3);
    close(fd); /* with unread input: a reset follows the answer */
    stream_write(a.s, big, sizeof(big));
    UNTIL(loop, a.n[STREAM_ERROR]);
    assert_string_equal(buf_str(&a.got), "413");
    assert_string_equal(a.trace, "ODX");
}

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
static void test_connect_timeout(void **state)
{
    struct sockaddr_in in = {.sin_family = AF_INET};
    socklen_t len = sizeof(in);
    int ln = socket(AF_INET, SOCK_STREAM, 0), fill[8];

    (void)state;
    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(ln, (struct sockaddr *)&in, sizeof(in)), 0);
    assert_int_equal(listen(ln, 0), 0);
    assert_int_equal(getsockname(ln, (struct sockaddr *)&in, &len), 0);
    for (size_t i = 0; i < ARRAY_LEN(fill); i++) {
        fill[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        connect(fill[i], (struct sockaddr *)&in, sizeof(in));
    }
    connect_to("127.0.0.1", ntohs(in.sin_port), 100);
    UNTIL(loop, c.n[STREAM_ERROR]);
    assert_string_equal(c.error, "connect timed out");
    assert_int_equal(stream_errno(c.s), ETIMEDOUT);
    assert_true(stream_never_opened(c.s));
    for (size_t i = 0; i < ARRAY_LEN(fill); i++)
        close(fill[i]);
    close(ln);
}

/* --- timeouts --- */

static void test_read_timeout_repeats_and_not_while_paused(void **state)
{
    (void)state;
    connect_pair();
    stream_set_timeouts(a.s, 20, 0);
    UNTIL(loop, a.n[STREAM_TIMEOUT] == 2); /* the timers go on */
    stream_pause(a.s);
    turns(loop, 60);
    assert_int_equal(a.n[STREAM_TIMEOUT], 2);
    stream_resume(a.s);
    UNTIL(loop, a.n[STREAM_TIMEOUT] == 3);
    stream_set_timeouts(a.s, 0, 0);
    turns(loop, 60);
    assert_int_equal(a.n[STREAM_TIMEOUT], 3);
}

static void test_write_timeout_without_progress(void **state)
{
    static char big[24 << 20];

    (void)state;
    connect_pair();
    stream_set_timeouts(c.s, 0, 20);
    turns(loop, 60);
    assert_int_equal(c.n[STREAM_TIMEOUT], 0); /* nothing is queued */
    stream_pause(a.s);
    stream_write(c.s, big, sizeof(big));
    UNTIL(loop, c.n[STREAM_TIMEOUT] == 1);
    stream_resume(a.s);
    UNTIL(loop, a.got.len == sizeof(big));
}

/* --- closing --- */

static void test_close_in_every_callback(void **state)
{
    static char big[1 << 20];

    (void)state;
    for (int ev = STREAM_OPEN; ev <= STREAM_TIMEOUT; ev++) {
        struct linger hard = {1, 0};
        struct sockaddr_in in = {.sin_family = AF_INET};
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        char trace[] = "ODLEXT";

        memset(&a, 0, sizeof(a));
        a.close_on = true;
        a.close_ev = (enum stream_event)ev;
        in.sin_port = htons(port_of(listener));
        in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        assert_int_equal(connect(fd, (struct sockaddr *)&in, sizeof(in)), 0);
        UNTIL(loop, a.n[STREAM_OPEN]);
        if (a.s)
            stream_set_timeouts(a.s, 10, 10);
        if (ev == STREAM_DATA)
            assert_int_equal(send(fd, "x", 1, 0), 1);
        if (ev == STREAM_LOWAT)
            stream_write(a.s, big, 70000);
        if (ev == STREAM_EOF)
            shutdown(fd, SHUT_WR);
        if (ev == STREAM_ERROR) {
            setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
            close(fd);
        }
        UNTIL(loop, a.s == NULL);
        turns(loop, 3);
        assert_int_equal(a.trace[strlen(a.trace) - 1], trace[ev]);
        assert_int_equal(a.n[ev], 1);
        if (ev != STREAM_ERROR)
            close(fd);
        buf_free(&a.got);
    }
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

/* The answer is written and the stream closed while the peer still sends what nobody reads: it must get the
 * whole answer and then the end, not a reset. */
static void test_close_gracefully_delivers_the_answer(void **state)
{
    static char big[12 << 20], answer[300000];
    struct end *volatile peer = &c;

    (void)state;
    connect_pair();
    pattern_fill(answer, sizeof(answer), 0);
    stream_write(c.s, big, sizeof(big));
    stream_pause(a.s);
    turns(loop, 10);
    stream_write(a.s, answer, sizeof(answer));
    stream_close_gracefully(&a.s, 5000);
    assert_null(a.s);
    UNTIL(loop, peer->n[STREAM_EOF]);
    assert_int_equal(c.got.len, sizeof(answer));
    assert_true(pattern_holds(c.got.data, sizeof(answer), 0));
    assert_int_equal(c.n[STREAM_ERROR], 0);
    UNTIL(loop, stream_queued(c.s) == 0); /* what it still sent was taken */
    stream_close(&c.s);
    turns(loop, 5);
}

static int open_fds(void)
{
    int n = 0;

    for (int fd = 0; fd < 1024; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

static void test_lingering_ends_with_the_peer_or_in_time(void **state)
{
    int before;

    (void)state;
    connect_pair();
    before = open_fds();
    stream_write(a.s, "bye", 3);
    stream_close_gracefully(&a.s, 30); /* the peer never closes */
    UNTIL(loop, open_fds() == before - 1);
    UNTIL(loop, c.n[STREAM_EOF]);
    stream_close(&c.s);
    turns(loop, 3);
    forget();
    connect_pair();
    before = open_fds();
    stream_close_gracefully(&a.s, 1000000);
    stream_close_gracefully(&c.s, 1000000);
    UNTIL(loop, open_fds() == before - 2);
    /* one that lingers when the loop goes: teardown under ASan sees that it is freed */
    forget();
    connect_pair();
    stream_write(a.s, "x", 1);
    stream_close_gracefully(&a.s, 1000000);
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

/* --- random chunks and pauses, same every time --- */

static void test_random_chunks_and_pauses(void **state)
{
    enum { TOTAL = 6 << 20 };
    uint64_t seed = 20261122;
    size_t sent = 0;
    static char chunk[200000];

    (void)state;
    a.keep = true;
    connect_pair();
    for (int64_t end = loop_now(loop) + 30000; a.got.len < TOTAL && loop_now(loop) < end;) {
        unsigned r = next_random(&seed);
        size_t n = 1 + next_random(&seed) % (r % 8 == 0 ? sizeof(chunk) : 3000);

        if (n > TOTAL - sent)
            n = TOTAL - sent;
        pattern_fill(chunk, n, sent);
        if (r & 256) {
            struct bytes *b = bytes_new(chunk, n);

            stream_write_bytes(c.s, b);
            bytes_unref(b);
        } else {
            stream_write(c.s, chunk, n);
        }
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

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_open_data_eof_both_ways),
        T(test_written_before_open_arrives),
        T(test_echo_with_slow_reader_is_bounded),
        T(test_undrained_input_pauses_and_goes_on),
        T(test_pause_and_resume),
        T(test_eof_waits_while_paused),
        T(test_new_owner_hears_of_buffered_input),
        T(test_lowat_only_after_having_been_above),
        T(test_shared_bytes_are_released),
        T(test_files_and_bytes_keep_their_order),
        T(test_bad_files_are_refused_and_closed),
        T(test_file_that_shrinks_is_an_error),
        T(test_reset_is_an_error),
        T(test_reset_in_the_middle_of_writing),
        T(test_answer_is_read_before_a_write_error),
        T(test_refused),
        T(test_connect_timeout),
        T(test_read_timeout_repeats_and_not_while_paused),
        T(test_write_timeout_without_progress),
        T(test_close_in_every_callback),
        T(test_close_at_every_stage_of_connecting),
        T(test_close_gracefully_delivers_the_answer),
        T(test_lingering_ends_with_the_peer_or_in_time),
        T(test_addresses_are_tried_in_turn),
        T(test_unknown_name),
        T(test_name_server_that_is_silent),
        T(test_ipv6),
        T(test_all_addresses_take_ipv4),
        T(test_unix_socket),
        T(test_random_chunks_and_pauses),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
