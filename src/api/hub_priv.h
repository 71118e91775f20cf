/* What the hub's files share. */
#ifndef API_HUB_PRIV_H
#define API_HUB_PRIV_H

#include "api/hub.h"
#include "base/hash.h"
#include "base/list.h"
#include "comfy/events.h"

/* What may become of a message that cannot be sent at once. */
enum out_kind {
    OUT_PLAIN,    /* stays in its place */
    OUT_PROGRESS, /* only the latest of its type counts */
    OUT_PREVIEW,  /* only the latest of its node counts */
    OUT_PRODUCT,  /* a picture that exists only here: kept for a client that is away */
    OUT_END,      /* the terminal event, and executing{null}: kept likewise */
    OUT_STATUS    /* made when it is sent: counts are the caller's at that moment */
};
/* A preview has two forms: which one a socket gets is what it has negotiated. */
enum out_audience { OUT_ALL, OUT_METADATA, OUT_LEGACY };
struct out {
    struct list link;
    enum out_kind kind;
    enum out_audience audience;
    enum event_kind event; /* PROGRESS: of which type */
    char *node;            /* PREVIEW, PRODUCT */
    bool last;             /* nothing of the job follows */
    struct bytes *frame;   /* encoded; NULL for STATUS */
};

/* Tenants are never forgotten: there are as many as the operator made. */
struct hub_tenant {
    char *name;
    size_t untold; /* jobs whose end has not been told */
    UT_hash_handle hh;
};

struct hub_client {
    char *key; /* tenant, 0x1f, client id */
    struct hub_tenant *tenant;
    char *id;                     /* id "" stands for jobs without a client */
    struct list sockets, streams; /* streams in order of beginning, then of acceptance */
    struct list kept;             /* struct out */
    size_t kept_bytes;
    int64_t kept_until; /* mono ms */
    size_t untold;      /* jobs of its own whose end has not been told */
    bool submitted;     /* it has submitted: its counts are its own */
    bool status_due;
    bool logs; /* wants the servers' log lines */
    UT_hash_handle hh;
};

struct hub_socket {
    struct list link; /* client.sockets */
    struct hub *hub;
    struct hub_client *client;
    struct ws *ws;
    char *sid;
    bool greeted;  /* its first JSON object has been seen */
    bool flags;    /* it has negotiated feature flags */
    bool metadata; /* supports_preview_metadata: true */
    size_t told;   /* queue_remaining as last told */
    int64_t sent_at;
};

/* A job as its client is told of it. */
struct hub_stream {
    char job[UUID_SIZE];
    struct hub_client *client;
    struct list link;
    struct list queue; /* struct out that waits for its turn */
    struct out
        *after_tick; /* a preview's older form: it goes out behind the progress that follows the newer one */
    size_t queued;   /* bytes in it */
    int64_t open_at; /* mono ms: not before; 0: nothing has happened yet */
    bool held;       /* the answer to its POST is not out */
    bool begun, serial, started, cached, ended, told; /* told: the terminal event went out */
    char *executing;                                  /* node */
    struct bytes *progress_state;                     /* the latest, encoded */
    char **announced;                                 /* nodes whose executed was told */
    size_t n_announced;
    UT_hash_handle hh;
};

struct hub {
    struct loop *loop;
    struct clock *clock;
    struct hub_config cfg;
    char *features;
    struct runner *runner;
    struct hub_tenant *tenants;
    struct hub_client *clients;
    struct hub_stream *streams;
    unsigned sockets;
    struct timer settle, status, beat;
    struct expected *expected; /* jobs whose POST is under way */
};

/* hub.c */
struct hub_client *client_get(struct hub *h, const char *tenant, const char *id);
void client_drop_idle(struct hub *h, struct hub_client *c);
size_t client_remaining(const struct hub_client *c);
void client_keep(struct hub *h, struct hub_client *c, struct hub_stream *s, struct out *o);
void socket_status(struct hub_socket *k, bool first);
void status_later(struct hub *h);

/* hub_stream.c */
struct hub_stream *stream_add(struct hub *h, const struct job_summary *s);
void stream_push(struct hub *h, struct hub_stream *s, struct out *o);
void streams_pump(struct hub *h, struct hub_client *c);
void stream_free(struct hub *h, struct hub_stream *s);
void stream_catch_up(struct hub_socket *k); /* a new socket: what runs now */

struct out *out_text(enum out_kind kind, struct buf *text); /* empties text */
struct out *out_binary(enum out_kind kind, const void *p, size_t n);
void out_free(struct out *o);
void expected_free_all(struct hub *h);

/* hub_socket.c */
/* Unless it is too far behind: then what may be dropped is, and else it is closed. */
void socket_send(struct hub_socket *k, const struct out *o);
void socket_free(struct hub_socket *k);

#endif
