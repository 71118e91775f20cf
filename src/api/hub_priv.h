/* What the hub's files share. */
#ifndef API_HUB_PRIV_H
#define API_HUB_PRIV_H

#include "api/hub.h"
#include "base/hash.h"
#include "base/list.h"
#include "base/strset.h"
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
/* A preview has two forms, and so has a text: which one a socket gets is what it has negotiated. */
enum out_audience { OUT_ALL, OUT_METADATA, OUT_LEGACY, OUT_TEXT_METADATA, OUT_TEXT_LEGACY };
struct out {
    struct list link;
    enum out_kind kind;
    enum out_audience audience;
    enum event_kind event; /* PROGRESS: of which type */
    char *node;            /* PREVIEW, PRODUCT */
    char job[UUID_SIZE];   /* END: whose */
    bool last;             /* nothing of the job follows */
    int64_t sent_at;       /* END: mono ms */
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
    bool greeted;       /* its first JSON object has been seen */
    bool flags;         /* it has negotiated feature flags */
    bool metadata;      /* supports_preview_metadata: true */
    bool text_metadata; /* supports_progress_text_metadata: true */
    size_t told;        /* queue_remaining as last told */
    int64_t told_at;    /* mono ms */
    int64_t sent_at;
    struct list unsure; /* struct out, END: sent lately, and perhaps not arrived */
    unsigned n_unsure;
    bool behind; /* we have closed it, with messages on their way */
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
    bool overflowed;                                  /* some of it was left out */
    bool
        past; /* it ended before the start: its client may know that already, so it is never shown as pending */
    char *executing;              /* node */
    struct bytes *progress_state; /* the latest, encoded */
    struct strset announced;      /* nodes whose executed was told */
    UT_hash_handle hh;
};

/* What of ended jobs has been told, and what is owed (hub_told.c). */
struct owed;
struct hub_told {
    struct store *store; /* NULL: nothing is kept */
    struct owed *owed;
    int64_t after; /* entries of the log up to here have been looked at */
    bool ready;    /* what was owed before the start is known */
    bool changed;  /* the document does not say what is so */
    bool busy, again;
    unsigned marks;
    enum { STOP_NOT, STOP_ASKED, STOP_DONE } stop;
    struct timer mark;
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
    struct timer settle, status, others, beat;
    struct hub_told told;
    size_t kept_bytes;         /* of all clients */
    struct expected *expected; /* jobs whose POST is under way */
};

/* hub.c */
struct hub_client *client_get(struct hub *h, const char *tenant, const char *id);
void client_drop_idle(struct hub *h, struct hub_client *c);
size_t client_remaining(const struct hub_client *c);
/* False: it is lost for its client. */
bool client_keep(struct hub *h, struct hub_client *c, const char *job, struct out *o);
/* It has been told, or is given up: the caller's. */
void client_unkeep(struct hub *h, struct hub_client *c, struct out *o);
/* It was sent on this socket: an end is kept until it must have arrived. Takes o over. */
void socket_sent(struct hub_socket *k, struct out *o);
void socket_status(struct hub_socket *k, bool first);
void status_later(struct hub *h);

/* hub_stream.c */
struct hub_stream *stream_add(struct hub *h, const struct job_summary *s);
void stream_push(struct hub *h, struct hub_stream *s, struct out *o);
void streams_pump(struct hub *h, struct hub_client *c);
void stream_free(struct hub *h, struct hub_stream *s);
void stream_catch_up(struct hub_socket *k); /* a new socket: what runs now */

bool stream_is_open(struct hub *h, const char *job);
/* The end of a job that ended before the gateway was started. */
void stream_tell_ended(struct hub *h, const struct job_record *rec);
/* One that was on a server for so long before this moment (wall ms): the gateway before this one has told how it began, as
 * far as anybody can know. */
bool stream_was_told(const struct hub *h, const struct job_summary *j, int64_t until);

struct out *out_text(enum out_kind kind, struct buf *text); /* empties text */
struct out *out_binary(enum out_kind kind, const void *p, size_t n);
void out_free(struct out *o);
void expected_free_all(struct hub *h);

/* hub_told.c */
void told_init(struct hub *h);
void told_start(struct hub *h, struct store *store);
void told_fini(struct hub *h);
/* A job has ended, and its client, which has a name, is to be told. */
void told_owe(struct hub *h, const char *job);
/* It has been told, or there is nobody to tell. */
void told_done(struct hub *h, const char *job);
/* It may not have arrived: it is owed again. */
void told_undone(struct hub *h, const char *job);

/* hub_socket.c */
/* Unless it is too far behind: then what may be dropped is, and else it is closed. */
void socket_send(struct hub_socket *k, const struct out *o);
void socket_free(struct hub_socket *k);

#endif
