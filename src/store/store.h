/* The durable memory: asynchronous verbs, each one atomic. There is no begin and no commit, and no iterator
 * that lives over loop turns: a verb is given, and after it has been made durable (fsync) its callback runs
 * once, on the loop thread, never inside the call. Verbs of one store are committed in the order they were
 * given; reads may overtake writes that have not been answered yet, and see every write that has.
 *
 * What a caller must expect as a normal answer: STORE_LOST, when (id, version) is no longer what the store
 * has. With one gateway that is a stale decision; with several it is the fence (ARCHITECTURE.md, "Beyond one
 * machine").
 *
 * Ownership: everything in an argument is copied before the call returns, except struct bytes, of which a
 * reference is taken. What a callback is given is valid during the call, except where it says "owned".
 *
 * This header is the whole interface: implementations (SQLite; PostgreSQL; memory, for tests) fill struct
 * store_ops. */
#ifndef STORE_STORE_H
#define STORE_STORE_H

#include "base/err.h"
#include "base/histogram.h"
#include "store/record.h"

struct store;

enum store_status {
    STORE_OK,
    STORE_LOST,   /* the job is not at the version given: nothing was changed */
    STORE_EXISTS, /* submit: the id or the key is taken; server_put: the name is */
    STORE_NOT_FOUND,
    STORE_FULL,   /* no space: nothing was changed; try again later */
    STORE_FAILED, /* anything else, logged with its reason: nothing was changed */
    STORE_CONFLICT, /* an output's name means several; user files: the path is a folder's, or leads through a file */
    STORE_LIMIT /* user files: there are as many as there may be */
};
const char *store_status_name(enum store_status s);

/* An entry of the event log that /mux/v1/events serves, committed with the change it tells of. */
struct store_event {
    const char *kind; /* "state" "output" "end" */
    const char *data; /* one line of JSON */
};

/* --- jobs --- */
struct store_submit {
    const char *id, *tenant;
    const char *client_id, *window_id, *retry_of, *need; /* or NULL */
    const char *workflow_id;                             /* extra_data.extra_pnginfo.workflow.id, or NULL */
    const char *key;                                     /* idempotency key of this tenant, or NULL */
    uint8_t body_hash[BLAKE3_LEN]; /* of the request body: tells an identical repeat from another request */
    struct bytes *graph, *extra_data, *targets, *rest; /* all but graph may be NULL */
    struct bytes *secrets; /* sealed (vault.h), or NULL: the store never sees them plain */
    /* The answer's body with "%NUMBER%" once where the number goes, when number was not given; stored filled
     * in. */
    struct bytes *answer;
    bool has_number, front; /* front: number = -seq */
    double number;
    int priority;
    uint32_t flags;
    int64_t created_at, deadline;
    const struct job_input
        *inputs; /* references are taken on their blobs, which must be pinned or referenced */
    size_t n_inputs;
    const char *note;
    const struct store_event *events;
    size_t n_events;
};
struct store_submitted {
    /* OK (the job is at version 1), EXISTS, NOT_FOUND (the blob of an input is unknown), FULL, FAILED */
    enum store_status status;
    int64_t seq;          /* OK */
    double number;        /* OK */
    struct bytes *answer; /* OK and EXISTS: the (first) answer */
    char id[UUID_SIZE];   /* OK and EXISTS: of the job */
    bool same_body;       /* EXISTS: the first request was byte-identical */
    bool by_key;          /* EXISTS: the key was taken, not the id */
    const char *tenant;   /* EXISTS: whose job it is */
};
typedef void store_submitted_cb(const struct store_submitted *r, void *arg);

/* One change of a job. Everything optional may be zero. LOST too for an id that is unknown, and for a job
 * that has ended and is asked for another state. FAILED, with nothing changed, for what makes no sense: an
 * attempt begun twice or ended before it began, an output given twice or with an unknown blob. */
struct store_step {
    const char *id;
    uint32_t version; /* expected; the job is at version + 1 afterwards */
    int64_t at;
    enum job_state state; /* JOB_QUEUED clears server and upstream_id */
    const char *note;     /* for the timeline */
    uint32_t flags;       /* the job's flags from now on */
    int spent;            /* from now on */
    int64_t not_before;
    /* A new attempt begins (JOB_DISPATCHING): server, n, upstream_id, started_at. */
    const struct job_attempt *begin;
    /* The present attempt ends: n, ended_at, code, message. */
    const struct job_attempt *end;
    bool started; /* sets started_at to at, if it is not set */
    /* Terminal states set finished_at to at and wipe the secrets. */
    const struct job_error *error;
    struct bytes *history;
    const struct job_output *outputs; /* references are taken on their blobs, which must be pinned */
    size_t n_outputs;
    /* Work left behind on a server, to be chased (server, upstream_id). */
    const struct store_stray *stray;
    const struct store_event *events;
    size_t n_events;
};
struct store_stray {
    char *server;
    char upstream_id[UUID_SIZE];
    char job[UUID_SIZE];
    int64_t since;
};
typedef void store_done_cb(enum store_status status, void *arg);

#define STORE_LOOK 1000

/* Whose, and which. */
struct store_filter {
    const char *tenant;                         /* NULL: any */
    uint32_t states;                            /* JOB_STATE_BIT()s; 0: all */
    const char *client_id, *window_id, *server; /* NULL: any */
    const char *kind; /* NULL, or only jobs of which the present attempt has an output of this kind */
    /* With a kind, or with more than one of client_id, window_id and server, jobs are looked at one by one: at most so many, but
     * as many as limit. Then there may be fewer rows than limit, or none, and next all the same; offset is not heeded. 0:
     * STORE_LOOK with a kind, else ten times that. A list in_history is whole whatever names it has. */
    int look;
    bool in_history; /* only ended jobs that stand in native history, ordered by finishing, not by seq */
    /* Only ended jobs that stand in native history, of one tenant, ordered by seq; with a workflow_id only those of this
     * workflow; by_duration: by how long they took, longest first unless oldest_first. No cursor. */
    bool shown, by_duration;
    const char *workflow_id;
    bool count;        /* with shown: fill total */
    bool oldest_first; /* default: newest first */
    int64_t after;     /* cursor from the answer before; 0: from the start */
    int64_t offset;    /* rows to skip */
    int limit;         /* 1 to 10000 */
    uint32_t parts;    /* JOB_PART_* of each row */
};
struct store_list {
    enum store_status status;
    struct job_record **rows; /* owned by the callback: store_list_free() or take rows out */
    size_t n;
    int64_t next;  /* cursor, 0 at the end */
    int64_t total; /* how many there are, if they were to be counted */
};
void store_list_free(struct store_list *l);
typedef void store_list_cb(struct store_list *l, void *arg);
/* record: owned by the callback; NULL unless OK. */
typedef void store_record_cb(enum store_status status, struct job_record *record, void *arg);

/* --- files --- */
/* Where the bytes of a stored file are. */
struct store_file {
    enum store_status status;
    uint8_t blake3[BLAKE3_LEN];
    int64_t size;
    const char *mime; /* may be NULL */
    const char *name, *subfolder, *type;
    const char *job;    /* outputs: the job's id */
    const char *server; /* outputs: the server that made it */
    int64_t at;         /* when it was stored */
    int64_t created;    /* user files: when its path came to be; at: when its bytes did */
};
typedef void store_file_cb(const struct store_file *f, void *arg);

/* An output by its names. job NULL: by plain names over all jobs of the tenant (CONFLICT if
 * more than one distinct content has them). attempt 0: the one that won. */
struct store_output_key {
    const char *tenant, *job, *type, *subfolder, *filename;
    int attempt;
};

/* The input namespace of a tenant: (type, subfolder, name) -> blob. */
struct store_input {
    const char *tenant, *type, *subfolder, *name, *mime;
    uint8_t blake3[BLAKE3_LEN]; /* pinned by the caller; a reference is taken */
    int64_t size, at;
    bool overwrite;       /* else: same name and bytes gives the name back, other bytes "name (1).ext" ... as
                       ComfyUI */
    const uint8_t *alike; /* bytes that count as the same in place of blake3; NULL: none */
    bool only_name;       /* nothing is stored: which name would it have? blake3 need not be known */
};
/* What a user keeps (workflows, settings, subgraphs ...), by path: "workflows/a.json". A folder is there as long as a file
 * is below it. Paths of different areas never meet. Every path is normal: no empty, "." or ".." component. */
#define STORE_USER_PATH_MAX 1024 /* bytes */
struct store_user_put {
    const char *tenant, *area, *path;
    uint8_t blake3[BLAKE3_LEN]; /* pinned by the caller; a reference is taken */
    int64_t at;
    enum {
        STORE_USER_ANY,  /* whatever is there */
        STORE_USER_NEW,  /* EXISTS unless there is nothing */
        STORE_USER_SAME, /* LOST unless what is there has the bytes `was`; was NULL: unless there is nothing */
    } when;
    const uint8_t *was;
    int64_t files_max; /* LIMIT beyond, in this area of the tenant; 0 none */
};
/* filter for listing: NULL fields match all. */
typedef void store_files_cb(enum store_status status, const struct store_file *f, size_t n, void *arg);

/* --- blobs (used by blob/ only) --- */
/* A pin keeps a blob while it is written and until a reference is committed. Pins are of this process: all
 * are dropped when the store is opened. */
struct store_pin {
    enum store_status status;
    int64_t pin; /* for unpin */
    bool known;  /* the blob was in the store before (it is no longer doomed now) */
};
typedef void store_pin_cb(const struct store_pin *p, void *arg);
struct store_collected {
    enum store_status status;
    unsigned doomed, removed;
    bool more; /* there is more to do */
};
typedef void store_collected_cb(const struct store_collected *c, void *arg);

/* --- servers --- */
struct store_server {
    char *name, *url;
    int depth;
    char *tags; /* JSON array */
    bool drained;
};
typedef void store_servers_cb(enum store_status status, const struct store_server *s, size_t n, void *arg);
typedef void store_strays_cb(enum store_status status, const struct store_stray *s, size_t n, void *arg);
typedef void store_summaries_cb(enum store_status status, struct job_summary *s, size_t n, void *arg);

/* --- event log --- */
struct store_logged {
    int64_t id;
    char job[UUID_SIZE];
    const char *kind, *data;
    const char *tenant;
};
/* oldest: the oldest id that is kept; with an empty log the next one to be given. newest: the last that was given, kept
 * or not; 0 none. Ids are never given twice. */
typedef void store_events_cb(enum store_status status, const struct store_logged *e, size_t n, int64_t oldest,
                             int64_t newest, void *arg);

/* --- small documents that survive a restart: the last known object_info of a server, settings --- */
typedef void store_doc_cb(enum store_status status, struct bytes *doc, void *arg);

/* --- retention ---
 * Finished jobs go oldest first: those past finished_ms or beyond count, then, while blobs that something
 * holds take more than size, those that have stored outputs. Past outputs_ms a job keeps its record and the
 * list of its outputs, output_find() no longer finds them. */
struct store_keep {
    int64_t now;
    int64_t finished_ms, outputs_ms, events_ms; /* 0: for ever */
    int64_t count;                              /* finished jobs; 0: no limit */
    int64_t size;                               /* bytes of blobs; 0: no limit */
    int max_rows; /* work of one step: jobs, their outputs and events; the last job is finished beyond it */
};
struct store_trimmed {
    enum store_status status;
    unsigned jobs, outputs, events;
    bool more;
};
typedef void store_trimmed_cb(const struct store_trimmed *t, void *arg);

struct store_stats {
    uint64_t commits, writes, reads, failures;
    int64_t blobs, blob_bytes, finished;
    int64_t ended[JOB_STATES]; /* kept jobs in each terminal state; together: finished */
    int64_t
        memory; /* bytes that the database holds in memory, mostly its cache, in all stores of the process; and the
                   records that were read lately */
    struct histogram commit; /* how long transactions took, with their fsync */
    bool full;               /* the last write failed for want of space */
    const char *trouble;     /* what is wrong now, or NULL; for /readyz */
};

struct store_ops {
    void (*close)(struct store *s);
    void (*submit)(struct store *s, const struct store_submit *in, store_submitted_cb *cb, void *arg);
    void (*step)(struct store *s, const struct store_step *in, store_done_cb *cb, void *arg);
    void (*get)(struct store *s, const char *id, uint32_t parts, store_record_cb *cb, void *arg);
    void (*list)(struct store *s, const struct store_filter *f, store_list_cb *cb, void *arg);
    void (*unfinished)(struct store *s, store_summaries_cb *cb, void *arg);
    /* Native POST /history: the job stands in no listing of native history any more, and shows
     * JOB_F_NO_HISTORY. id NULL: all of the tenant; else NOT_FOUND unless it stood there. */
    void (*hide)(struct store *s, const char *tenant, const char *id, store_done_cb *cb, void *arg);
    void (*strays)(struct store *s, store_strays_cb *cb, void *arg);
    void (*stray_done)(struct store *s, const char *server, const char *upstream_id, store_done_cb *cb,
                       void *arg);
    void (*output_find)(struct store *s, const struct store_output_key *k, store_file_cb *cb, void *arg);
    void (*input_put)(struct store *s, const struct store_input *in, store_file_cb *cb, void *arg);
    void (*input_find)(struct store *s, const char *tenant, const char *type, const char *subfolder,
                       const char *name, store_file_cb *cb, void *arg);
    void (*input_list)(struct store *s, const char *tenant, const char *type, store_files_cb *cb, void *arg);
    /* Bytes by the beginning of their hash (hex digits, at least 8), if something of this tenant holds them, an upload or
     * a job; NOT_FOUND unless exactly one content is meant. Of the file only blake3 and size are told. */
    void (*alias_find)(struct store *s, const char *tenant, const char *hex, store_file_cb *cb, void *arg);
    /* OK: name is the path. NOT_FOUND: the blob is unknown. CONFLICT, EXISTS, LOST, LIMIT as above. */
    void (*user_put)(struct store *s, const struct store_user_put *in, store_file_cb *cb, void *arg);
    /* CONFLICT: it is a folder; "" is one as long as there is any file. */
    void (*user_find)(struct store *s, const char *tenant, const char *area, const char *path,
                      store_file_cb *cb, void *arg);
    /* All that is below a folder ("": all there is), by path. NOT_FOUND: there is no such folder; CONFLICT: it is a file. */
    void (*user_list)(struct store *s, const char *tenant, const char *area, const char *path,
                      store_files_cb *cb, void *arg);
    /* A file, or a folder with all that is below it (then only name is told). To a folder that exists: into it, as mv does.
     * EXISTS: something is there and overwrite is off. CONFLICT: it cannot be there. */
    void (*user_move)(struct store *s, const char *tenant, const char *area, const char *from, const char *to,
                      bool overwrite, store_file_cb *cb, void *arg);
    void (*user_remove)(struct store *s, const char *tenant, const char *area, const char *path,
                        store_done_cb *cb, void *arg); /* CONFLICT: it is a folder */
    void (*blob_pin)(struct store *s, const uint8_t hash[BLAKE3_LEN], int64_t size, store_pin_cb *cb,
                     void *arg);
    void (*blob_unpin)(struct store *s, int64_t pin, store_done_cb *cb, void *arg);
    /* Doom blobs without reference and pin; remove those doomed at least grace_ms ago: unlink_cb runs on the
     * thread that commits references, after the removal is committed. At most max of each. */
    void (*blob_collect)(struct store *s, int64_t now, int64_t grace_ms, int max,
                         void (*unlink_cb)(const uint8_t hash[BLAKE3_LEN], void *arg), void *unlink_arg,
                         store_collected_cb *cb, void *arg);
    /* known(hash) for the sweep of files without a row at start. */
    void (*blob_known)(struct store *s, const uint8_t hash[BLAKE3_LEN], store_done_cb *cb, void *arg);
    void (*server_put)(struct store *s, const struct store_server *in, bool replace, store_done_cb *cb,
                       void *arg);
    void (*server_remove)(struct store *s, const char *name, store_done_cb *cb, void *arg);
    void (*servers)(struct store *s, store_servers_cb *cb, void *arg);
    void (*events)(struct store *s, int64_t after, const char *job, int limit, store_events_cb *cb,
                   void *arg);
    /* doc NULL removes it. */
    void (*doc_put)(struct store *s, const char *kind, const char *key, struct bytes *doc, store_done_cb *cb,
                    void *arg);
    void (*doc_get)(struct store *s, const char *kind, const char *key, store_doc_cb *cb, void *arg);
    void (*trim)(struct store *s, const struct store_keep *k, store_trimmed_cb *cb, void *arg);
    void (*stats)(struct store *s, struct store_stats *out); /* at once, from counters */
};

struct store {
    const struct store_ops *ops;
};

/* The verbs. cb may be NULL where the caller does not care. */
void store_close(struct store **s); /* answers everything that was given, then closes */
#define store_submit(s, in, cb, arg) ((s)->ops->submit((s), (in), (cb), (arg)))
#define store_step(s, in, cb, arg) ((s)->ops->step((s), (in), (cb), (arg)))
#define store_get(s, id, parts, cb, arg) ((s)->ops->get((s), (id), (parts), (cb), (arg)))
#define store_list(s, f, cb, arg) ((s)->ops->list((s), (f), (cb), (arg)))
#define store_unfinished(s, cb, arg) ((s)->ops->unfinished((s), (cb), (arg)))
#define store_hide(s, tenant, id, cb, arg) ((s)->ops->hide((s), (tenant), (id), (cb), (arg)))
#define store_strays(s, cb, arg) ((s)->ops->strays((s), (cb), (arg)))
#define store_stray_done(s, server, id, cb, arg) ((s)->ops->stray_done((s), (server), (id), (cb), (arg)))
#define store_output_find(s, k, cb, arg) ((s)->ops->output_find((s), (k), (cb), (arg)))
#define store_input_put(s, in, cb, arg) ((s)->ops->input_put((s), (in), (cb), (arg)))
#define store_input_find(s, tenant, type, sub, name, cb, arg)                                                \
    ((s)->ops->input_find((s), (tenant), (type), (sub), (name), (cb), (arg)))
#define store_input_list(s, tenant, type, cb, arg) ((s)->ops->input_list((s), (tenant), (type), (cb), (arg)))
#define store_alias_find(s, tenant, hex, cb, arg) ((s)->ops->alias_find((s), (tenant), (hex), (cb), (arg)))
#define store_user_put(s, in, cb, arg) ((s)->ops->user_put((s), (in), (cb), (arg)))
#define store_user_find(s, tenant, area, path, cb, arg)                                                      \
    ((s)->ops->user_find((s), (tenant), (area), (path), (cb), (arg)))
#define store_user_list(s, tenant, area, path, cb, arg)                                                      \
    ((s)->ops->user_list((s), (tenant), (area), (path), (cb), (arg)))
#define store_user_move(s, tenant, area, from, to, overwrite, cb, arg)                                       \
    ((s)->ops->user_move((s), (tenant), (area), (from), (to), (overwrite), (cb), (arg)))
#define store_user_remove(s, tenant, area, path, cb, arg)                                                    \
    ((s)->ops->user_remove((s), (tenant), (area), (path), (cb), (arg)))
#define store_blob_pin(s, hash, size, cb, arg) ((s)->ops->blob_pin((s), (hash), (size), (cb), (arg)))
#define store_blob_unpin(s, pin, cb, arg) ((s)->ops->blob_unpin((s), (pin), (cb), (arg)))
#define store_blob_collect(s, now, grace, max, ucb, uarg, cb, arg)                                           \
    ((s)->ops->blob_collect((s), (now), (grace), (max), (ucb), (uarg), (cb), (arg)))
#define store_blob_known(s, hash, cb, arg) ((s)->ops->blob_known((s), (hash), (cb), (arg)))
#define store_server_put(s, in, replace, cb, arg) ((s)->ops->server_put((s), (in), (replace), (cb), (arg)))
#define store_server_remove(s, name, cb, arg) ((s)->ops->server_remove((s), (name), (cb), (arg)))
#define store_servers(s, cb, arg) ((s)->ops->servers((s), (cb), (arg)))
#define store_events(s, after, job, limit, cb, arg)                                                          \
    ((s)->ops->events((s), (after), (job), (limit), (cb), (arg)))
#define store_doc_put(s, kind, key, doc, cb, arg) ((s)->ops->doc_put((s), (kind), (key), (doc), (cb), (arg)))
#define store_doc_get(s, kind, key, cb, arg) ((s)->ops->doc_get((s), (kind), (key), (cb), (arg)))
#define store_trim(s, k, cb, arg) ((s)->ops->trim((s), (k), (cb), (arg)))
#define store_stats(s, out) ((s)->ops->stats((s), (out)))

#endif
