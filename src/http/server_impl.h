/* The inside of the server: server.c (connections), request.c (bodies), response.c (answers). Private to
 * http/.
 *
 *   OPENING ──> IDLE ──> HEAD ──> REQUEST ──> DROP ──> IDLE      DROP: what is left of a body nobody read
 *      │          └────────┴─────────┴──────────┴────> FLUSH     answered, closing when the output is out
 *      └─────────────────────────────────────────────> GONE      from every state: closed, or handed over
 *
 * Everything is decided in conn_run(), which takes steps until the state says to wait. The functions that a
 * handler calls only write down what it wants and see to it that conn_run() comes by. */
#ifndef HTTP_SERVER_IMPL_H
#define HTTP_SERVER_IMPL_H

#include "base/list.h"
#include "http/http_parse.h"
#include "http/server.h"

enum conn_state {
    CONN_OPENING,
    CONN_IDLE, /* no byte of a request yet */
    CONN_HEAD,
    CONN_REQUEST, /* with its handler */
    CONN_DROP,
    CONN_FLUSH,
    CONN_GONE
};

struct http_server {
    struct loop *loop;
    struct http_limits lim;
    http_request_cb *on_request;
    void *arg;
    char *name;
    struct list listeners, conns;
    unsigned n_conns;
    bool accept_paused, draining;
    uint64_t last_id;
    struct buf scratch; /* heads are put together here */
    char date[30];
    int64_t date_sec;
};

/* Someone waits until the connection has written this many bytes. */
struct flush_wait {
    struct list link;
    uint64_t at;
    http_flushed_cb *cb;
    void *arg;
};

struct http_conn {
    struct list link; /* in server->conns */
    struct http_server *server;
    struct stream *stream;
    struct http_parser *parser;
    struct http_req *req; /* in REQUEST */
    uint64_t id;
    enum conn_state state;
    bool running;     /* conn_run() is on the stack */
    bool parsed;      /* the parser has seen the end of the request */
    int64_t deadline; /* loop time, 0 none; the timer may go off earlier and look */
    int64_t timer_at;
    int64_t dropped;     /* bytes of a body nobody read */
    uint64_t written;    /* bytes given to the stream */
    size_t lowat;        /* as set in the stream */
    struct list flushes; /* struct flush_wait, in order */
    struct timer timer;
    struct task task; /* conn_run(), or in the end free() */
};

enum body_state { BODY_UNREAD, BODY_READING, BODY_DELIVERED };
enum answer_state { ANSWER_NONE, ANSWER_STARTED, ANSWER_ENDED, ANSWER_CUT };

struct http_req {
    struct http_conn *conn;
    const struct http_head *head; /* the parser's */
    void *arg;
    http_abort_cb *on_abort;
    void *abort_arg;

    enum body_state body;
    bool paused;
    bool expects;       /* "100 Continue" is still to be sent */
    int64_t limit, got; /* bytes of the body */
    http_body_cb *body_cb;
    http_body_all_cb *all_cb;
    void *body_arg;
    struct bytes *all; /* being collected; all->len is the capacity until it is whole */

    enum answer_state answer;
    bool keep_alive;
    bool bodiless; /* HEAD, 204, 304: what is sent is dropped */
    bool chunked;
    int64_t declared, sent; /* declared -1: unknown */
    struct buf fields;      /* of the answer, as lines */
    http_drain_cb *drain_cb;
    void *drain_arg;
    size_t drain_low;
    http_flushed_cb *flushed_cb;
    void *flushed_arg;
    http_done_cb *done_cb;
    void *done_arg;
    int64_t began; /* us, with done_cb */
};

/* server.c */
void conn_kick(struct http_conn *c);                     /* conn_run() follows; never inside this call */
void conn_deadline(struct http_conn *c, int64_t ms);     /* 0: none */
void conn_lost(struct http_conn *c, const char *reason); /* gone at once: on_abort, flushes fail */
void conn_detach(struct http_conn *c);                   /* the stream has been taken over */
/* Answer with this status if there is no answer yet, and close. A request under way is aborted. */
void conn_refuse(struct http_conn *c, int status, const char *reason);
const char *server_date(struct http_server *s);

/* request.c */
bool req_body_step(struct http_req *r); /* take one step of reading; false: nothing to do now */
void http_req_free(struct http_req *r);

/* response.c */
int64_t http_clock_us(void);                        /* monotonic */
bool req_answer_is_short(const struct http_req *r); /* ended with less than was declared */
/* Takes over fd; -1 if it cannot be sent. */
int req_send_file(struct http_req *r, int fd, int64_t off, int64_t len, struct err *e) MUST_CHECK;

#endif
