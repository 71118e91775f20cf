/* Shared by the stream tests: two ends of a connection on one loop, and what they saw. */
#ifndef NET_STREAM_TESTING_H
#define NET_STREAM_TESTING_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/buffer.h>

#include "base/buf.h"
#include "net/stream.h"

enum { EVENTS = STREAM_TIMEOUT + 1 };

struct end {
    struct stream *s;
    struct buf got;     /* what was drained */
    unsigned n[EVENTS]; /* events seen */
    char trace[256];    /* initials of events: O D L E X T; repeated D once */
    bool keep;          /* do not drain in DATA */
    bool open_only;     /* accept, but no stream is made */
    bool close_on;      /* close at this event */
    enum stream_event close_ev;
    void (*hook)(struct end *e, enum stream_event ev);
    bool in_call; /* the test is inside a call to the module */
    bool nested;  /* a callback fired then: a broken promise */
    char error[256];
};

static inline void end_drain(struct end *e)
{
    struct evbuffer *in = stream_input(e->s);
    size_t n = evbuffer_get_length(in);

    buf_reserve(&e->got, n);
    evbuffer_copyout(in, e->got.data + e->got.len, n);
    e->got.len += n;
    e->got.data[e->got.len] = '\0';
    evbuffer_drain(in, n);
}

static inline void end_cb(struct stream *s, enum stream_event ev, void *arg)
{
    struct end *e = arg;
    size_t n = strlen(e->trace);
    char c = "ODLEXT"[ev];

    assert_ptr_equal(s, e->s);
    if (e->in_call)
        e->nested = true;
    e->n[ev]++;
    if (n + 1 < sizeof(e->trace) && !(c == 'D' && n > 0 && e->trace[n - 1] == 'D'))
        e->trace[n] = c, e->trace[n + 1] = '\0';
    if (ev == STREAM_ERROR)
        snprintf(e->error, sizeof(e->error), "%s", stream_error(s));
    if (ev == STREAM_DATA && !e->keep)
        end_drain(e);
    if (e->hook)
        e->hook(e, ev);
    if (e->close_on && e->close_ev == ev && e->s)
        stream_close(&e->s);
}

static inline void end_fini(struct end *e)
{
    stream_close(&e->s);
    buf_free(&e->got);
}

/* Turn the loop until cond holds; a deadline only as a safety net. */
#define UNTIL(l, cond)                                                                                       \
    do {                                                                                                     \
        int64_t until_ = loop_now(l) + 30000;                                                                \
        while (!(cond) && loop_now(l) < until_)                                                              \
            loop_turn((l), 200);                                                                             \
        assert_true(cond);                                                                                   \
    } while (0)

static inline void turns(struct loop *l, int n)
{
    while (n-- > 0)
        loop_turn(l, 1);
}

/* Linux would take tens of megabytes for a reader that does not read; then nothing here would be tested. */
static inline void small_window(int fd)
{
    int n = 256 * 1024;

    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &n, sizeof(n)), 0);
}

/* How often the loop turns when it is let alone for ms: few unless it spins. */
static inline int turns_in(struct loop *l, int ms)
{
    int n = 0;

    for (int64_t end = loop_now(l) + ms; loop_now(l) < end; n++)
        loop_turn(l, (int)(end - loop_now(l)) + 1);
    return n;
}

static inline unsigned short port_of(const struct listener *ln)
{
    return (unsigned short)atoi(strrchr(listener_addr(ln), ':') + 1);
}

/* Bytes that say where they are. */
static inline void pattern_fill(char *p, size_t n, size_t from)
{
    for (size_t i = 0; i < n; i++) {
        size_t at = from + i;

        p[i] = (char)(at ^ (at >> 8) * 31 ^ (at >> 16) * 131);
    }
}

static inline bool pattern_holds(const char *p, size_t n, size_t from)
{
    for (size_t i = 0; i < n; i++) {
        char c;

        pattern_fill(&c, 1, from + i);
        if (p[i] != c)
            return false;
    }
    return true;
}

/* A descriptor of a file that holds the pattern and has no name. */
static inline int file_of(size_t n)
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

/* Same numbers every time. */
static inline unsigned next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(*state >> 33);
}

#endif
