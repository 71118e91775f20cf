/* The servers as the job runner sees them: a few asynchronous calls and a stream of events. The real thing is
 * fleet/registry.h (one link per ComfyUI server); tests put a scripted fleet on a virtual clock in its place.
 *
 * Loop thread only. Every call is answered exactly once by its callback, never inside the call, and always in
 * bounded time: the fleet's own timeouts see to that. A server is named by its name; a name that is no longer
 * configured answers as an unreachable one. Arguments are copied before a call returns, except struct bytes,
 * of which a reference is taken. What a callback is given is valid during the call. */
#ifndef FLEET_FLEET_H
#define FLEET_FLEET_H

#include <stdbool.h>

#include "store/record.h"

struct fleet;
struct json;

enum fleet_state {
    FLEET_UP,
    FLEET_SUSPECT, /* something failed; not given new work until it is seen well */
    FLEET_DOWN,    /* not there */
    FLEET_FENCED,  /* answers, but fails job after job */
    FLEET_DRAINING /* the operator wants no new work on it */
};
const char *fleet_state_name(enum fleet_state s);

/* One configured server. Strings are valid until the next loop turn. */
struct fleet_server {
    unsigned index;         /* its place in a sched_set; stable while the server is configured */
    const char *name, *url; /* url: without user and password */
    enum fleet_state state;
    const char *reason;  /* why it is in this state, a few words */
    bool known;          /* what it can do has been learnt at some time */
    int depth;           /* jobs given to it at one time */
    const char *tags;    /* JSON array */
    const char *version; /* ComfyUI's, or NULL */
    int nodes;           /* classes, 0 while not known */
    int queue;           /* prompts in its queue as it last said, ours and others'; -1 not known */
    /* for /metrics */
    bool link;                                   /* its socket is open */
    int64_t heard_ago;                           /* ms since it last said anything; -1 never */
    uint64_t good, bad, fences, restarts, asked; /* results, fences, restarts seen, questions of ours */
};

/* --- calls --- */

enum fleet_submit_end {
    FLEET_ACCEPTED,
    FLEET_REJECTED,     /* it answered and did not take it. body holds its answer */
    FLEET_REFUSED,      /* provably nothing of the POST reached it */
    FLEET_LOST,         /* no answer: it may have taken it */
    FLEET_STAGE_FAILED, /* an input could not be put onto it; nothing was posted */
    FLEET_UNSENDABLE    /* an input's bytes are gone from here; no server can get it */
};
struct fleet_submit {
    const char *server, *upstream_id;
    const char *job;                                   /* for logs */
    struct bytes *graph, *extra_data, *targets, *rest; /* as in struct job_record */
    struct bytes *secrets;                             /* JSON object, plain, or NULL */
    const struct job_input *inputs;
    size_t n_inputs;
};
struct fleet_submitted {
    enum fleet_submit_end end;
    int status;         /* HTTP, 0 without an answer */
    struct bytes *body; /* the answer's, or NULL */
    const char *why;    /* text for log and record */
};
typedef void fleet_submitted_cb(const struct fleet_submitted *r, void *arg);

enum fleet_found {
    FLEET_PENDING,    /* in its queue, waiting */
    FLEET_RUNNING,    /* in its queue, running */
    FLEET_ENDED,      /* in its history */
    FLEET_ABSENT,     /* in neither, asked in this order */
    FLEET_UNREACHABLE /* no usable answer */
};
struct fleet_lookup {
    enum fleet_found found;
    bool dead;       /* PENDING, RUNNING: the server's worker is dead, it will not come to an end there */
    bool refused;    /* UNREACHABLE: the connection was refused or reset */
    bool removed;    /* UNREACHABLE: the server is no longer configured */
    const char *why; /* UNREACHABLE */
};
typedef void fleet_lookup_cb(const struct fleet_lookup *r, void *arg);

struct fleet_history {
    bool answered; /* an HTTP answer came */
    bool refused;  /* the connection was refused or reset */
    bool removed;  /* the server is no longer configured */
    bool doubtful; /* its latest result was no success while others succeed: an error may be its own */
    int status;
    struct bytes *body; /* status 200: the body of GET /history/{id}, as it came */
    const char *why;    /* what is wrong, unless a 200 came */
};
typedef void fleet_history_cb(const struct fleet_history *r, void *arg);

/* One file of an attempt, as the server named it. */
struct fleet_file {
    const char *server, *filename, *subfolder, *type;
    const char *job, *upstream_id; /* for logs */
};
enum fleet_fetch_end {
    FLEET_FETCHED,
    FLEET_NOT_THERE,  /* 404: asked again by the caller, or not */
    FLEET_UNREADABLE, /* another status, a cut body, no answer */
    FLEET_DISK_FULL,
    FLEET_DISK_FAILED
};
struct fleet_fetched {
    enum fleet_fetch_end end;
    uint8_t
        blake3[BLAKE3_LEN]; /* FETCHED: the bytes are a blob, pinned; the caller lets go with blobs_unpin() */
    int64_t size;
    int64_t pin;
    const char *mime; /* what the server said, or by the name */
    int status;
    const char *why;
};
typedef void fleet_fetched_cb(const struct fleet_fetched *r, void *arg);

/* Take one attempt off a server: DELETE from its queue, interrupt it if exactly it is running, look. */
enum fleet_stopped {
    FLEET_GONE, /* the server has been seen without it (history does not count) */
    FLEET_STILL_THERE,
    FLEET_STOP_FAILED /* no usable answer */
};
typedef void fleet_stopped_cb(enum fleet_stopped r, void *arg);

/* Whose fault a failed attempt is. */
enum fleet_blame {
    FLEET_BLAME_OPEN, /* by its code, and by how others fare */
    FLEET_BLAME_SURE, /* the server's: its device is at fault */
    FLEET_BLAME_NONE  /* taken back: the job came to the same end on another server */
};

/* --- what comes by itself --- */
struct fleet_listener {
    /* A text message of the server's socket that tells of a prompt of ours: type and data are spans of text,
     * which is the message as it came; id is the prompt_id (upstream's), or NULL where the message has none
     * and the server is running exactly one of ours, which then is attributed_to. */
    void (*on_event)(void *arg, const char *server, const char *id, const char *text, size_t n);
    /* A binary message. id: of the attempt that is running there. */
    void (*on_frame)(void *arg, const char *server, const char *id, const void *data, size_t n);
    /* The socket to the server dropped (up false) or is open again. */
    void (*on_link)(void *arg, const char *server, bool up);
    /* The server is no longer configured; another one may have its name from the next call on. */
    void (*on_removed)(void *arg, const char *server);
    /* A server's state, its capabilities, or the set of servers has changed: look again who can run what. */
    void (*on_change)(void *arg);
};

struct fleet_ops {
    void (*submit)(struct fleet *f, const struct fleet_submit *in, fleet_submitted_cb *cb, void *arg);
    void (*find)(struct fleet *f, const char *server, const char *upstream_id, fleet_lookup_cb *cb,
                 void *arg);
    void (*history)(struct fleet *f, const char *server, const char *upstream_id, fleet_history_cb *cb,
                    void *arg);
    void (*fetch)(struct fleet *f, const struct fleet_file *file, fleet_fetched_cb *cb, void *arg);
    /* Store bytes that came by the socket, or as text in history, in the same way. */
    void (*keep)(struct fleet *f, struct bytes *data, const char *mime, fleet_fetched_cb *cb, void *arg);
    void (*stop)(struct fleet *f, const char *server, const char *upstream_id, fleet_stopped_cb *cb,
                 void *arg);
    void (*unpin)(struct fleet *f, int64_t pin);
    /* At once. Fills at most max, returns how many there are. */
    size_t (*servers)(struct fleet *f, struct fleet_server *out, size_t max);
    /* Can this server run a job with this need (comfy/object_info.h)? 1 yes, 0 no, -1 what it can do is not
     * known. need NULL: any server can. */
    int (*can_run)(struct fleet *f, unsigned index, const char *need);
    /* A verdict about a server by a job's result, for its health. */
    void (*result)(struct fleet *f, const char *server, enum job_code code, enum fleet_blame blame);
    void (*listen)(struct fleet *f, const struct fleet_listener *l, void *arg);
};
struct fleet {
    const struct fleet_ops *ops;
};

#define fleet_submit(f, in, cb, arg) ((f)->ops->submit((f), (in), (cb), (arg)))
#define fleet_find(f, server, id, cb, arg) ((f)->ops->find((f), (server), (id), (cb), (arg)))
#define fleet_history(f, server, id, cb, arg) ((f)->ops->history((f), (server), (id), (cb), (arg)))
#define fleet_fetch(f, file, cb, arg) ((f)->ops->fetch((f), (file), (cb), (arg)))
#define fleet_keep(f, data, mime, cb, arg) ((f)->ops->keep((f), (data), (mime), (cb), (arg)))
#define fleet_stop(f, server, id, cb, arg) ((f)->ops->stop((f), (server), (id), (cb), (arg)))
#define fleet_unpin(f, pin) ((f)->ops->unpin((f), (pin)))
#define fleet_servers(f, out, max) ((f)->ops->servers((f), (out), (max)))
#define fleet_can_run(f, index, need) ((f)->ops->can_run((f), (index), (need)))
#define fleet_result(f, server, code, blame) ((f)->ops->result((f), (server), (code), (blame)))
#define fleet_listen(f, l, arg) ((f)->ops->listen((f), (l), (arg)))

#endif
