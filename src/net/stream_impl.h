/* The inside of a stream, shared by stream.c (life, and what the owner asks for), stream_open.c (how it comes
 * to be open) and stream_io.c (bytes).
 *
 *   START ──> LOOKUP ──> CONNECTING ──> HANDSHAKE ──> OPEN          any but CLOSED ──> CLOSED (stream_close)
 *     │                    ^  │             ^          ^            any live one ──> FAILED (stream_fail)
 *     └────────────────────┘  └─────────────┼──────────┘
 *   accepted, TLS ──────────────────────────┘          │
 *   accepted, plain ───────────────────────────────────┘
 */
#ifndef NET_STREAM_IMPL_H
#define NET_STREAM_IMPL_H

#include <event2/event.h>
#include <event2/event_struct.h>

#include "net/loop_impl.h"
#include "net/outq.h"
#include "net/stream.h"

struct ssl_st;
struct lookup;

enum stream_state {
    STREAM_ST_START, /* stream_connect() was called; work begins at the end of the turn */
    STREAM_ST_LOOKUP,
    STREAM_ST_CONNECTING,
    STREAM_ST_HANDSHAKE,
    STREAM_ST_OPEN,
    STREAM_ST_FAILED,
    STREAM_ST_CLOSED
};

/* Needed only while connecting, shaking hands or lingering. */
struct stream_phase {
    struct stream *s;
    struct timer deadline;
    int64_t due; /* loop time; 0: none */
    char *host;
    unsigned short port;
    struct lookup *lookup;
    struct addrinfo *addrs, *next; /* of the name; next one to try */
    struct orphan orphan;          /* while lingering: nobody owns the stream but the loop */
    int64_t linger_ms;
};

struct stream {
    struct loop *loop;
    stream_cb *cb;
    void *arg;
    int fd;
    int errnum;
    unsigned char state; /* enum stream_state; written by stream_set_state() only */
    bool reading;        /* the read event is on */
    bool writing;        /* the write event is on */
    bool paused;         /* by the owner */
    bool full;           /* input is at its limit: reading pauses by itself */
    bool eof;            /* read; maybe not told yet */
    bool bulk;           /* the last read was large: read straight into the input buffer */
    bool blocked;        /* the socket takes no more output for now */
    bool above;          /* queued output has been above the low-water mark */
    bool wrote;          /* some output may have reached the peer */
    bool ends;           /* our direction ends after what is queued */
    bool ended;          /* it has */
    bool lingers;        /* closing gracefully: input is dropped */
    bool write_wants_read, read_wants_write; /* TLS */
    bool tell_open, tell_data, tell_eof;     /* events that wait for the tick */
    bool look; /* TLS may hold input that no event will announce; until a read found all */
    struct event rev, wev;
    struct evbuffer *in;
    struct evbuffer_cb_entry *in_cb; /* while full */
    struct outq out;
    size_t lowat;
    int64_t read_ms, write_ms;
    struct ssl_st *ssl;
    struct stream_phase *phase;
    struct task tick;
    char *peer, *peer_ip; /* one allocation at peer */
    char *error;
};

/* An idle connection should cost little; its two buffers, empty, come on top with 2 * 144 bytes. */
_Static_assert(sizeof(struct stream) <= 600, "struct stream has grown");

static inline bool stream_is_open(const struct stream *s)
{
    return s->state == STREAM_ST_OPEN;
}

static inline void stream_schedule(struct stream *s)
{
    loop_defer(s->loop, &s->tick);
}

struct stream *stream_alloc(struct loop *l, stream_cb *cb, void *arg);
void stream_set_state(struct stream *s, enum stream_state to);
void stream_set_fd(struct stream *s, int fd); /* and its events */
void stream_set_peer(struct stream *s, const char *ip, const char *full);
/* FAILED, if it was live; STREAM_ERROR at the end of this turn. text is copied. */
void stream_fail(struct stream *s, int errnum, const char *text);
void stream_fail_errno(struct stream *s, int errnum);
void stream_fail_err(struct stream *s,
                     const struct err *e); /* without a message: the system's for its code */
void stream_destroy(struct stream *s);
void stream_phase_free(struct stream *s);

/* stream_io.c */
void stream_arm(struct stream *s); /* put the two events on or off as the state wants it */
void stream_stop_events(struct stream *s);
void stream_tick(void *s); /* does and tells whatever is due */
void stream_on_readable(evutil_socket_t fd, short what, void *s);
void stream_on_writable(evutil_socket_t fd, short what, void *s);

/* stream_open.c */
void stream_open_start(struct stream *s);           /* leaves START */
void stream_open_writable(struct stream *s);        /* while CONNECTING: decided */
void stream_open_next(struct stream *s);            /* while CONNECTING: the next address */
void stream_open_handshake(struct stream *s);       /* while HANDSHAKE: one step */
void stream_deadline(struct stream *s, int64_t ms); /* ms 0: none */
void stream_open_cancel_lookup(struct stream *s);

#endif
