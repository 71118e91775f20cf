#include "net/stream_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

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
    enum { TOTAL = 8 << 20 };
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
    assert_true(turns_in(loop, 60) < 20); /* does not spin over what it does not read */
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

static int hang_up_fd;

static void hang_up_and_write(void *arg)
{
    static char big[4 << 20];

    (void)arg;
    assert_int_equal(send(hang_up_fd, "413", 3, 0), 3);
    close(hang_up_fd); /* with unread input: a reset follows the answer */
    stream_write(a.s, big, sizeof(big));
}

/* The peer answers, does not read what we send, and hangs up: the answer comes first, then the error. In a
 * timer, so that the stream writes before it looks at its socket. */
static void test_answer_is_read_before_a_write_error(void **state)
{
    struct sockaddr_in in = {.sin_family = AF_INET};
    struct timer t;
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    (void)state;
    in.sin_port = htons(port_of(listener));
    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(connect(fd, (struct sockaddr *)&in, sizeof(in)), 0);
    UNTIL(loop, a.n[STREAM_OPEN]);
    stream_write(a.s, "unread", 6);
    turns(loop, 5);
    hang_up_fd = fd;
    timer_init(&t, loop, hang_up_and_write, NULL);
    timer_set(&t, 0);
    UNTIL(loop, a.n[STREAM_ERROR]);
    timer_fini(&t);
    assert_string_equal(buf_str(&a.got), "413");
    assert_string_equal(a.trace, "ODX");
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
    static char big[8 << 20];

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

/* The answer is written and the stream closed while the peer still sends what nobody reads: it must get the
 * whole answer and then the end, not a reset. */
static void test_close_gracefully_delivers_the_answer(void **state)
{
    static char big[8 << 20], answer[300000]; /* more than the kernel takes for us */

    (void)state;
    connect_pair();
    pattern_fill(answer, sizeof(answer), 0);
    stream_write(c.s, big, sizeof(big));
    stream_pause(a.s);
    turns(loop, 10);
    stream_write(a.s, answer, sizeof(answer));
    stream_close_gracefully(&a.s, 5000);
    assert_null(a.s);
    UNTIL(loop, c.n[STREAM_EOF]);
    assert_int_equal(c.got.len, sizeof(answer));
    assert_true(pattern_holds(c.got.data, sizeof(answer), 0));
    assert_int_equal(c.n[STREAM_ERROR], 0);
    UNTIL(loop, stream_queued(c.s) == 0); /* what it still sent was taken */
    turns(loop, 3);
    assert_int_equal(c.n[STREAM_ERROR], 0);
    stream_close(&c.s);
    turns(loop, 5);
}

/* The time to linger counts from the last progress of the output, not from the call: a slow reader gets all.
 */
static void test_close_gracefully_waits_for_a_slow_reader(void **state)
{
    static char answer[16 << 20];

    (void)state;
    c.keep = true;
    connect_pair();
    pattern_fill(answer, sizeof(answer), 0);
    stream_write(a.s, answer, sizeof(answer));
    stream_close_gracefully(&a.s, 1500);
    for (int64_t end = loop_now(loop) + 30000; !c.n[STREAM_EOF] && !c.n[STREAM_ERROR];) {
        assert_true(loop_now(loop) < end);
        turns(loop, 60); /* about 60 ms: more than the time to linger in all */
        end_drain(&c);
    }
    end_drain(&c);
    assert_int_equal(c.got.len, sizeof(answer));
    assert_true(pattern_holds(c.got.data, sizeof(answer), 0));
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
        T(test_read_timeout_repeats_and_not_while_paused),
        T(test_write_timeout_without_progress),
        T(test_close_in_every_callback),
        T(test_close_gracefully_delivers_the_answer),
        T(test_close_gracefully_waits_for_a_slow_reader),
        T(test_lingering_ends_with_the_peer_or_in_time),
        T(test_random_chunks_and_pauses),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
