/* The inside of the HTTP client, shared by client.c (the pool), call.c (one request and its answer), pass.c
 * and websocket.c. */
#ifndef HTTP_CLIENT_PRIV_H
#define HTTP_CLIENT_PRIV_H

#include "base/list.h"
#include "http/client.h"
#include "http/http_parse.h"
#include "net/loop.h"

struct http_client {
    struct loop *loop;
    struct http_url url;
    struct http_client_config cfg;
    char *authorization;  /* from the URL's user and password, or NULL */
    struct list idle;     /* connections without a call, the last used first */
    struct list busy;     /* all others */
    struct list waiting;  /* calls without a connection, in order */
    struct list calls;    /* every call that has not ended */
    struct list attached; /* what lives on connections that were taken over */
    unsigned n_conns, n_idle;
    bool closing;
    struct task free_task;
};

/* A connection of the pool.
 *
 *            OPEN event        call_send()            answer whole, keep-alive
 * CONNECTING ---------> BUSY                  BUSY --------------------------> IDLE
 *                                               ^   looked at for one turn      | call
 *                                               +------------- CHECKING <-------+
 * and from each of them to CLOSED. CHECKING: a request that must not be sent twice waits one turn, so that a
 * close by the server that has already arrived is seen before the first byte is written. */
enum client_conn_state { CONN_CONNECTING, CONN_CHECKING, CONN_BUSY, CONN_IDLE, CONN_CLOSED };

struct client_conn {
    struct http_client *client; /* NULL once the client is gone */
    struct list link;
    struct stream *stream;
    struct http_call *call;
    enum client_conn_state state;
    bool used;  /* has carried a whole answer before */
    bool spare; /* free, and one of more than are kept: for a moment only */
    bool eof, failed;
    struct timer timer; /* IDLE: idle_ms; CHECKING: next turn */
    struct task task;   /* go on with input that is here already; in the end: free */
};

enum call_state {
    CALL_NEW,        /* being put together */
    CALL_WAITING,    /* started; no connection is free */
    CALL_CONNECTING, /* has a connection that no byte of it was written to */
    CALL_SENT,       /* at least a part has been written */
    CALL_ENDED,      /* on_done is due at the end of the turn */
    CALL_REPORTING,  /* inside on_done */
    CALL_GONE        /* canceled or reported, freed at the end of the turn */
};
enum call_body { CALL_BODY_NONE, CALL_BODY_WHOLE, CALL_BODY_STREAM };

struct http_call {
    struct http_client *client; /* NULL once the client is gone */
    struct loop *loop;
    struct list link; /* in client->calls */
    struct list wait; /* in client->waiting */
    struct client_conn *conn;
    struct http_call_handlers h;
    void *arg;
    enum call_state state;

    char *method;
    struct buf head;     /* the request's head, complete when started */
    const char *refused; /* why this call cannot be sent at all, or NULL */
    enum call_body body_kind;
    struct bytes *body;
    int64_t length;      /* of a streamed body, -1 chunked */
    int64_t body_given;  /* so far */
    bool body_finished;  /* nothing more will be written */
    struct list pending; /* streamed pieces from before there was a connection */
    size_t pending_len;

    struct http_parser *parser;    /* of the answer; made when the request is sent */
    const struct http_head *reply; /* the final head once it is here; lives with parser */
    size_t interim;                /* bytes of 1xx answers */
    bool answered;                 /* at least a byte of an answer has come */
    bool paused;
    bool authorized, upgrade; /* the caller has set Authorization, Upgrade */

    int64_t silence_ms, total_ms; /* 0: none */
    int64_t started, last_moved;
    uint64_t given, moved_seen; /* bytes given to the stream; of those, seen to have left it */
    struct timer timer;

    enum http_call_end end;
    char *why;
    struct task task; /* on_done, then free */

    /* For what is built on a call (http_fetch): called when the call's memory goes, however it ended. */
    void (*on_free)(void *arg);
};

/* A piece of a streamed body that waits for its connection: data, or a part of a file. */
struct call_piece {
    struct list link;
    struct evbuffer *data; /* NULL: the file */
    int fd;
    off_t off;
    size_t len;
};

/* client.c */
void client_pump(struct http_client *c);
/* Open a connection for call, beyond what is waiting. */
void client_connect(struct http_client *c, struct http_call *call);
/* The call that had it is done with it. keep: it may carry another request. */
void client_conn_release(struct client_conn *conn, bool keep);
/* Take the stream out of the pool. */
struct stream *client_conn_hijack(struct client_conn *conn);
/* Go on with what has come, at the end of the turn. */
void client_conn_process_later(struct client_conn *conn);

/* call.c: what the connection tells its call. */
void call_send(struct http_call *call); /* it is open: write the request */
bool call_may_repeat(const struct http_call *call);
/* Input has come, or the connection has ended. Takes what it can from the stream. */
void call_input(struct http_call *call);
void call_end(struct http_call *call, enum http_call_end end, const char *fmt, ...) PRINTF_LIKE(3, 4);
void call_drained(struct http_call *call);
/* The client is being freed: report now. */
void call_client_gone(struct http_call *call);

/* Something that lives on a connection taken over and has to end with the client. */
struct client_child {
    struct list link;
    void (*end)(struct client_child *child);
};
void client_attach(struct http_client *c, struct client_child *child);
void client_detach(struct client_child *child);

#endif
