/* What the files of this room share; not for other rooms. In reading order: registry.c (the set), server.c
 * (one of it), link.c (its socket), watch.c (how it is; decided by health.h), caps.c and caps_stats.c (what it can do, and says of itself), calls.c,
 * fetch.c, stop.c (what the runner asks for), staging.c (inputs). */
#ifndef FLEET_FLEET_PRIV_H
#define FLEET_FLEET_PRIV_H

#include <blake3.h>

#include "base/buf.h"
#include "base/hash.h"
#include "base/list.h"
#include "comfy/object_info.h"
#include "fleet/health.h"
#include "fleet/registry.h"
#include "http/websocket.h"

#define SERVERS_MAX SERVER_SET_MAX
#define JSON_ON_LOOP ((size_t)64 << 10) /* a larger text is read by a worker */
#define BODY_MAX ((size_t)64 << 20)     /* of /queue, /history/{id} and other answers taken whole */
#define LOOK_MS 15000                   /* silence after which a question counts as unanswered */

struct server;
struct staged;

/* --- the set (registry.c) --- */

struct merged {
    struct object_view *view;
    struct bytes *text;
    char etag[40]; /* with quotes */
};

struct registry {
    struct fleet fleet;
    struct loop *loop;
    struct workers *workers;
    struct clock *clock;
    struct store *store;
    struct blobs *blobs;
    struct registry_config cfg;
    char *ca_file;
    struct tls_client *tls; /* made when the first https server comes */

    unsigned refs; /* its owner's, and one for each answer of store, worker or blob that is to come */
    bool started, closed;
    struct server *by_index[SERVERS_MAX];
    struct server *by_name; /* uthash */
    size_t n_servers;
    int primary; /* index, -1 none */
    struct list calls;
    struct list forgetting; /* registry.c */

    const struct fleet_listener *listener;
    void *listener_arg;
    struct task change; /* tells the listener, once a turn */
    registry_logs_cb *on_logs;
    void *on_logs_arg;
    bool logs_wanted;

    /* caps.c */
    struct merged merged, next; /* next: takes its place before the listener is told */
    uint64_t version;
    struct list refreshing; /* of struct refresh */
    struct task learnt;
    bool merging, merge_wanted;
    struct list fetch_queue, load_queue; /* of struct caps */
    struct list read_queue;              /* of struct reading */
    unsigned fetching;
    bool reading, loading, store_read;
    void (*ready)(void *arg); /* NULL when it has been called */
    void *ready_arg;
};

void registry_ref(struct registry *r);
void registry_unref(struct registry *r);
struct server *registry_find(struct registry *r, const char *name); /* or NULL */
/* The listener's on_change is due. */
void registry_changed(struct registry *r);

/* --- one server (server.c) --- */

enum link_state {
    LINK_CLOSED,     /* until the timer */
    LINK_CONNECTING, /* the handshake is under way */
    LINK_GREETING,   /* the server's first message is waited for: only then it knows our client id */
    LINK_OPEN
};
struct link {
    enum link_state state;
    struct ws *ws;
    char client_id[UUID_SIZE]; /* of this connection */
    struct timer timer;
    unsigned tries; /* since it was last open for a while */
    int64_t opened_at;
    char running[UUID_SIZE]; /* the attempt that was last named as executing; "" none */
    int queue;               /* -1 not known */
};

struct watch {
    struct timer timer;
    bool asking, looking, recognising;
    bool strange; /* its socket dropped, and it has not been recognised since */
    uint64_t asked;
    enum fleet_state told; /* what was logged last, and why */
    char told_why[160];
    char witness[UUID_SIZE]; /* a prompt that it had last time, "" none: without it, it has restarted */
    bool witness_ended;      /* it is in its history */
};

struct caps {
    struct list fetch, load;  /* in the registry's queues */
    struct object_info *info; /* NULL not known */
    uint8_t hash[BLAKE3_LEN]; /* of its text */
    bool fetching, again;
    int64_t asked_at, took_ms;
    struct timer retry; /* it could not be read */
    int64_t pause_ms;   /* before the next try; 0: the last one was good */
    struct bytes *stats;
    bool stats_fetching;
    int64_t stats_at;   /* when it was asked for them last */
    int64_t stats_came; /* when they came; 0: they are from the store */
    char version[48];
};

struct server {
    struct registry *r;
    unsigned index, refs;
    UT_hash_handle hh;
    char *name, *tags;
    char *url;   /* as it was configured: may hold a password */
    char *shown; /* without */
    int depth;
    bool from_file;
    bool gone; /* no longer configured; lives on for its calls */
    struct task retire;
    struct http_client *http; /* NULL when gone */
    struct http_client
        *visits; /* likewise; for what clients ask of it: however long that takes, ours is not kept waiting */
    struct list held; /* prompts of ours that it has, as far as we know (struct held) */
    struct link link;
    struct health health;
    struct watch watch;
    struct caps caps;
    struct staged *staged; /* uthash, by staged name */
    size_t n_staged;
};

struct held {
    struct list link;
    char id[UUID_SIZE];
    char client_id[UUID_SIZE]; /* of the socket that will hear of it; "" not known */
};

/* Checks nothing: registry.c did. NULL and e when the client cannot be made. */
struct server *server_new(struct registry *r, const struct registry_entry *in, struct err *e);
void server_start(struct server *s);
/* Out of the set; its calls end at the end of the turn, or now. */
void server_retire(struct server *s, bool now);
struct server *server_ref(struct server *s);
void server_unref(struct server *s);
/* sent: just now, over the present socket. */
void server_hold(struct server *s, const char *id, bool sent);
/* Is it one of which the open socket should have told the end? */
bool server_owes_event(struct server *s, const char *id);
/* ms since it last said anything; -1 never. */
int64_t server_heard_ago(const struct server *s);
void server_release(struct server *s, const char *id);
/* What an answer, or its lack, says about the server's health. */
void server_note(struct server *s, enum http_call_end end, int status, const char *why);
/* Was the connection refused or reset? */
bool server_refused(enum http_call_end end, const char *why);

/* --- link.c --- */
void link_init(struct server *s);
void link_start(struct server *s);
void link_stop(struct server *s);
bool link_is_open(const struct server *s);
/* Tell the server whether its log lines are wanted on our socket. */
void link_want_logs(struct server *s, bool want);

/* --- watch.c --- */
void watch_init(struct server *s);
void watch_fini(struct server *s);
void watch_link_open(struct server *s);
void watch_link_lost(struct server *s, const char *why);
void watch_link_failed(struct server *s, const char *why); /* it could not be opened */
void watch_link_quiet(struct server *s);
void watch_answered(struct server *s);
void watch_trouble(struct server *s, const char *why); /* no or no good answer */
void watch_refused(struct server *s, const char *why);
void watch_result(struct server *s, enum job_code code, enum fleet_blame blame);
/* Might an exception in a node be this server's fault? Its latest result was no success, and others succeed or are
 * about to. */
bool watch_doubtful(const struct server *s);
void watch_queue(struct server *s, const struct health_queue *q);
void watch_event(struct server *s);
void watch_unheard(struct server *s);
/* It has this prompt, or has it in its history. */
void watch_witness(struct server *s, const char *id, bool ended);
void watch_no_witness(struct server *s, const char *id); /* it was taken off there */
void watch_drain(struct server *s, bool drained);

/* --- caps.c --- */
#define CAPS_DOC_STATS "system_stats" /* documents of the store, by url */
void caps_init(struct server *s);
void caps_fini(struct server *s);
void caps_load(struct server *s);                          /* what the store has of it */
void caps_fetch(struct server *s);                         /* object_info, and system_stats with it */
void caps_fetch_stats(struct server *s);                   /* caps_stats.c, with the next */
bool caps_set_stats(struct server *s, struct bytes *text); /* false: it is none */
void caps_forget(struct server *s);                        /* its documents leave the store */
void caps_merge(struct registry *r);
void caps_check_ready(struct registry *r);
/* m and info may be large: a worker frees them. m is empty afterwards; NULL is fine for info. */
void caps_drop(struct registry *r, struct merged *m, struct object_info *info);
/* Those who wait for what servers can do: is it known now? */
void caps_on_learnt(void *registry);

/* --- staging.c --- */
enum staging { STAGING_THERE, STAGING_FAILED, STAGING_NO_BLOB };
typedef void staging_cb(enum staging end, const char *why, void *arg);
/* The name under which an input lies on servers. */
void staging_name(struct buf *out, const struct job_input *in);
/* Is it there already, as far as is remembered? Otherwise false, and cb when it is or cannot be. */
bool staging_need(struct server *s, const struct job_input *in, const char *staged, staging_cb *cb,
                  void *arg);
void staging_forget(struct server *s, const char *staged); /* NULL: everything */

/* --- calls --- */

/* A call of the runner: in registry.calls until it is answered. While busy something else (a worker, the
 * blobs) holds it, and it is freed only after that. */
struct call {
    struct list link;
    struct registry *r;
    struct server *s; /* NULL: not configured */
    struct task task;
    struct work work;
    bool busy, answered;
    void (*give_up)(struct call *c, const char *why); /* answer now: the fleet closes */
    void (*free)(struct call *c);
};
void call_init(struct call *c, struct registry *r, const char *server, task_cb *start,
               void (*give_up)(struct call *c, const char *why), void (*free_cb)(struct call *c));
/* Mark it answered, unless it was: then false. The caller runs the callback. It is freed at the end of the
 * turn, or of the one in which what holds it is done. */
bool call_answer(struct call *c);
bool call_idle(struct call *c); /* what held it is done; false: it was answered meanwhile, leave it */
void call_work(struct call *c, void (*run)(struct work *w), void (*done)(struct work *w));
bool call_unserved(const struct call *c); /* its server is not configured (any more) */
#define NOT_CONFIGURED "no server of that name is configured"

void calls_submit(struct fleet *f, const struct fleet_submit *in, fleet_submitted_cb *cb, void *arg);
void calls_find(struct fleet *f, const char *server, const char *id, fleet_lookup_cb *cb, void *arg);
void calls_history(struct fleet *f, const char *server, const char *id, fleet_history_cb *cb, void *arg);
void calls_fetch(struct fleet *f, const struct fleet_file *file, fleet_fetched_cb *cb, void *arg);
void calls_keep(struct fleet *f, struct bytes *data, const char *mime, fleet_fetched_cb *cb, void *arg);
void calls_stop(struct fleet *f, const char *server, const char *id, fleet_stopped_cb *cb, void *arg);

/* GET /queue alone, for the watch. */
void calls_look(struct server *s, fleet_lookup_cb *cb, void *arg);

/* Where does the body of GET /queue have this prompt (PENDING, RUNNING, ABSENT of enum fleet_found), and what else is
 * in it? -1: the body is not understood. */
int queue_find(const char *text, size_t n, const char *id, struct health_queue *q);

#endif
