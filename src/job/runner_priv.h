/* What the runner's files share. */
#ifndef JOB_RUNNER_PRIV_H
#define JOB_RUNNER_PRIV_H

#include "base/hash.h"
#include "base/heap.h"
#include "base/histogram.h"
#include "base/json.h"
#include "base/list.h"
#include "base/rank.h"
#include "base/strset.h"
#include "job/runner.h"
#include "job/scheduler.h"

/* What jobs need of a server, interned: many jobs need the same. */
struct need {
    char *text; /* canonical (comfy/object_info.h); "" any server */
    size_t refs;
    unsigned generation; /* of the fleet, for which can is right */
    struct sched_set can;
    bool undecided; /* for some server it is not known whether it can */
    UT_hash_handle hh;
};

/* An event that waits for the transition in flight. */
struct inbox_event {
    struct list link;
    struct job_event ev;
    char *message;
};

/* A file that an attempt has made, as far as we have been told. */
enum file_state { FILE_KNOWN, FILE_FETCHING, FILE_STORED, FILE_FAILED };
struct attempt_file {
    struct list link;
    unsigned serial; /* within the attempt */
    enum file_state state;
    bool listed; /* history lists it, or it came by the socket: it belongs to the outputs */
    int tries;
    int64_t since;      /* mono ms of the first try */
    int64_t again_at;   /* KNOWN: not fetched again before this */
    enum job_code code; /* FAILED */
    char *why;
    const char *kind; /* image video audio text file latent 3d json; static */
    char *node_id, *key, *filename, *subfolder, *type, *mime;
    struct bytes *bytes; /* came by the socket or as text: there is nothing to fetch */
    uint8_t blake3[BLAKE3_LEN];
    int64_t size, pin; /* pin 0: none */
};

/* The present attempt of a job that is bound to a server. */
struct attempt {
    struct runner_job *job;
    char upstream_id[UUID_SIZE];
    struct list files;
    unsigned serials, fetching, socket_frames;
    bool collecting;   /* history has been read, COLLECTED is owed */
    bool failed;       /* history says that it failed: outputs are kept as far as they can be had */
    bool unrecognised; /* history has outputs, none of which can be stored */
    bool loaded;       /* what the store knows of the job has been read: the next two are right */
    struct job_input *inputs;
    size_t n_inputs;
    char **socket_nodes; /* nodes whose pictures exist only on the socket */
    size_t n_socket_nodes;
    bool socket_gap;       /* the link dropped while a node whose pictures come by the socket may have run */
    struct bytes *history; /* the upstream body, once read */
    struct bytes *graph;   /* as submitted; NULL while not loaded */
    char *executing;       /* node */
    struct strset ran;     /* nodes that were executing before it, as far as there is room */
    char *cached;          /* JSON list of node ids, as execution_cached had it; NULL: it has not come */
    char *error_message, *error_detail; /* from history or from a refusal; detail is JSON */
    int64_t progress_value, progress_max;
    char *progress_node;
    UT_hash_handle hh;
};

#define RUNNER_NODES_BYTES (4u << 20) /* of memory, for the nodes of one attempt that a server has named */

struct cancel {
    struct list link;
    runner_cancel_cb *cb;
    void *arg;
};

/* A call to the store or the fleet that is to be answered. Names its job and attempt by id: either may be
 * gone when the answer comes, and what is said about an attempt that is over changes nothing. */
struct call {
    struct list link; /* runner.calls */
    struct runner *r;
    char id[UUID_SIZE], upstream_id[UUID_SIZE];
    bool posting;              /* a POST of this attempt is under way */
    char *holds;               /* a slot of this server until it is answered, or NULL */
    void *extra;               /* freed with the call, after fini */
    void (*fini)(void *extra); /* or NULL */
};

/* A transition in flight. */
struct commit {
    struct job_update up;
    char *message, *server;
    char *words;       /* the failure as a sentence: what happened, and message as its cause */
    bool device_fault; /* the attempt ends by one */
    char upstream_id[UUID_SIZE];
    int attempt;
    int64_t at;
    struct job_error error;
    struct bytes *history;
    struct job_output *outputs; /* strings belong to the attempt */
    size_t n_outputs;
    bool again; /* the store could not: to be given to it once more */
    bool told;  /* that it could not: it is tried again every second */
};

/* A tenant's jobs (runner_tally.c). */
struct tally {
    struct runner *r;
    char *tenant;
    size_t jobs, state[JOB_STATES];
    struct rank waiting; /* runner_job.place: those in JOB_QUEUED, in the queue's order */
    UT_hash_handle hh;
};

struct runner_job {
    struct job_summary s; /* as committed */
    struct job_soft soft;
    struct runner *r;
    struct need *need;
    struct attempt *a; /* while bound */
    char *
        blamed; /* the server of an attempt that failed with blamed_code, which may be its fault; NULL: none */
    enum job_code blamed_code;
    struct list inbox;    /* struct inbox_event */
    struct list cancels;  /* struct cancel */
    struct list in_order; /* runner.jobs */
    struct sched_job sched;
    struct tally *tally;
    struct rank_node place;
    enum job_state tallied; /* the state it is counted under */
    struct heap_node wake_node;
    int64_t wake;                  /* mono ms, the earlier of the next two; 0: none */
    int64_t step_wake, files_wake; /* for TICK, and for files to be fetched again */
    struct commit *commit;         /* the transition in flight */
    struct sched_set failed;       /* servers that have failed it */
    struct sched_set barred;       /* those of them that would do so again: it is for another one */
    enum {
        FAILED_UNKNOWN,
        FAILED_ASKED,
        FAILED_KNOWN
    } failed_is; /* after a restart it is read when needed */
    bool queued; /* it wants to be placed: in the scheduler, or waiting to get there */
    UT_hash_handle hh;
};

struct stray {
    struct list link;
    struct store_stray s;
    int64_t next; /* mono ms */
    int64_t wait;
    int64_t absent_at; /* mono ms of the first look that did not find it; 0: none */
    bool posting;      /* its POST has not ended: it may arrive yet */
    bool sure;         /* the server is known to have taken it: one look without it is enough */
    bool asking, gone;
};

struct server_use {
    char *name; /* NULL: no server has this index */
    enum fleet_state state;
    bool known;
    int depth;
    int bound;          /* attempts and strays that hold a slot */
    int64_t idle_since; /* mono ms */
};

struct runner {
    struct runner_env env;
    struct runner_config cfg;
    const struct runner_listener *listener;
    void *listener_arg;
    struct sched *sched;
    struct need *needs;
    unsigned generation; /* of use: grows with every change of the fleet */
    struct runner_job *by_id;
    struct attempt *by_attempt;
    struct tally *tallies;
    struct histogram submits;
    size_t all[JOB_STATES];
    struct list jobs; /* in order of acceptance */
    struct list strays;
    struct heap wakes;
    int64_t wake_asked;
    size_t live;
    bool place_wanted, stopped;
    struct list calls;
    struct server_use use[SCHED_SERVERS_MAX];
    void (*ready)(enum store_status st, void *arg);
    void *ready_arg;
    unsigned loading; /* answers of the store that runner_start waits for */
    enum store_status load_status;
};

int64_t runner_mono(struct runner *r);
int64_t runner_wall(struct runner *r);

/* runner.c */
struct runner_job *runner_get(struct runner *r, const char *id);
struct runner_job *runner_add(struct runner *r, const struct job_summary *s, bool failed_known);
void runner_drop(struct runner_job *j); /* out of every list, and freed */
void runner_view(const struct runner_job *j, struct runner_job_view *v);
void runner_set_wake(struct runner_job *j, int64_t mono);       /* for TICK */
void runner_set_files_wake(struct runner_job *j, int64_t mono); /* for files_pump() */
/* To be called at the end of every entry into the runner: places, and asks for the next wake. */
void runner_settle(struct runner *r);
struct call *call_make(struct runner *r, const char *id, const char *upstream_id); /* "" where it has none */
struct call *call_new(struct runner_job *j);
/* First thing in a callback. The job if it still lives with the same attempt, else NULL. */
struct runner_job *call_job(const struct call *c);
void call_free(struct call *c);

/* runner_commit.c: hand an event in; decided at once, or after the transition in flight. */
void runner_feed(struct runner_job *j, const struct job_event *ev);
void runner_feed_kind(struct runner_job *j, enum job_event_kind kind);
void runner_place(struct runner_job *j, const char *server);
void commit_again(struct runner_job *j); /* give the transition in flight to the store once more */
void commit_free(struct commit **c);

/* runner_place.c */
struct need *need_get(struct runner *r, const char *text);
void need_put(struct runner *r, struct need *n);
void place_enqueue(struct runner_job *j);
void place_dequeue(struct runner_job *j);
void place_fleet_changed(struct runner *r);
void place_fini(struct runner *r);
void place_run(struct runner *r);
void place_use(struct runner *r, const char *server, int delta);
/* Is there another configured server that can run it and has not failed it? */
bool place_elsewhere(struct runner_job *j);
int place_index(struct runner *r, const char *server); /* -1: not configured */
void place_failed(struct runner_job *j, const char *server, enum job_code code);
/* The server on which it holds a slot, or NULL. */
const char *place_held(const struct runner_job *j);

/* runner_tally.c */
void tally_add(struct runner_job *j);
void tally_move(struct runner_job *j); /* its state has changed */
void tally_drop(struct runner_job *j);

/* runner_attempt.c */
struct attempt *attempt_new(struct runner_job *j, const char *upstream_id);
void attempt_free(struct attempt **a); /* pins are let go */
void attempt_submit(struct runner_job *j);
void attempt_find(struct runner_job *j);
void attempt_event(struct runner *r, const char *server, const char *id, const char *text, size_t n);
void attempt_frame(struct runner *r, const char *server, const char *id, const void *data, size_t n);
void attempt_link(struct runner *r, const char *server, bool up);
void attempt_removed(struct runner *r, const char *server);

/* runner_files.c */
struct attempt_file *file_find(struct attempt *a, const char *type, const char *subfolder,
                               const char *filename);
struct attempt_file *file_add(struct attempt *a, const char *node_id, const char *key, const char *type,
                              const char *subfolder, const char *filename);
/* Start what can be fetched; when all that is listed is there and collecting is on, tell the job. */
void files_pump(struct attempt *a);
/* For the terminal commit: outputs in order of history; strings point into the attempt; free() the array. */
struct job_output *files_outputs(struct attempt *a, size_t *n);
void files_forget(struct attempt *a);

/* runner_collect.c: what history and the events say about files */
struct frame;
/* The job's graph and inputs, as the store has them. */
void attempt_loaded(struct attempt *a, struct job_record *rec);
void attempt_history(struct runner_job *j);
void attempt_collect(struct runner_job *j);
/* A node has said what it made: fetching begins. */
void collect_executed(struct attempt *a, struct json node, struct json output);
/* A picture that is a product came by the socket. */
void collect_frame(struct attempt *a, const struct frame *f);
/* The socket dropped: pictures may have been missed. */
void collect_gap(struct attempt *a);
/* {"outputs":…,"status":…,"meta":…} for an end with this error. */
struct bytes *collect_end_history(struct runner_job *j, enum job_state state, const struct job_error *e);

/* runner_account.c */
void account_cached(struct attempt *a, struct json nodes);
void account_executing(struct attempt *a, struct json node);
void account_forget(struct attempt *a);
/* {"outputs":…,"status":…,"meta":…} of our own making. */
struct bytes *account_of_end(struct runner_job *j, enum job_state state, const struct job_error *e);

/* runner_stray.c */
/* sure: the server is known to have taken it. */
void stray_add(struct runner *r, const struct store_stray *s, bool sure);
/* The POST of an attempt that is over has ended. sent false: for certain nothing of it reached the server. */
void stray_posted(struct runner *r, const char *upstream_id, bool sent);
void stray_run(struct runner *r);
int64_t stray_next(const struct runner *r);
void stray_free_all(struct runner *r);

#endif
