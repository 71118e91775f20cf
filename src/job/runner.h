/* The runner: carries out what job_step() decides, for every unfinished job.
 *
 * It reads committed state, asks job_step() what an event means, commits the answer, and only then runs the
 * effects. One transition of a job is in flight at a time; events that come meanwhile wait in the job's
 * inbox. It talks to the store and to the fleet through their interfaces and to time through a struct clock
 * and one wake-up call, so that whole lives of jobs run in a test on virtual time.
 *
 * Loop thread only. No callback runs inside the call that caused it, except listener calls that tell of an
 * upstream event while that event is being handed in. */
#ifndef JOB_RUNNER_H
#define JOB_RUNNER_H

#include "base/clock.h"
#include "fleet/fleet.h"
#include "job/job_fsm.h"
#include "store/store.h"
#include "store/vault.h"

struct runner;

/* A live job as others may see it; valid until the next call into the runner. */
struct runner_job_view {
    const struct job_summary *s;
    int64_t progress_value, progress_max; /* of the node that reports; 0 0: none yet */
    const char *progress_node;            /* or NULL */
    const char *executing;                /* node that the server executes now, or NULL */
    bool canceling;                       /* a cancel is being committed */
    int64_t from_at; /* in on_change: wall ms since when it was in the state that it left */
};

/* What an ended job leaves; valid during the call. */
struct runner_end {
    const struct job_error *error; /* code JOB_OK after success */
    struct bytes *history; /* JSON {"outputs":…,"status":…,"meta":…}, names as clients see them */
    const struct job_output *outputs;
    size_t n_outputs;
};

struct runner_listener {
    /* A change was committed. from == s->state: within a state (a job just accepted has from JOB_QUEUED and
     * version 1). end is NULL while the job lives. */
    void (*on_change)(void *arg, const struct runner_job_view *job, enum job_state from,
                      const struct runner_end *end);
    /* A text message of its server about the present attempt, not a terminal one; type and data point into
     * the server's own text, which names the attempt's upstream id and the server's file names. */
    void (*on_event)(void *arg, const struct runner_job_view *job, const char *text, size_t n);
    /* A binary message (preview, text, product image) that belongs to it. */
    void (*on_frame)(void *arg, const struct runner_job_view *job, const void *data, size_t n);
};

struct runner_env {
    struct clock *clock;
    struct store *store;
    struct fleet *fleet;
    const struct vault *vault; /* NULL: jobs with secrets are not accepted */
    /* Call runner_tick() at this monotonic time, in place of what was asked for before. */
    void (*wake)(void *arg, int64_t mono_ms);
    void *wake_arg;
};
struct runner_config {
    struct job_policy policy;
    int64_t output_ms; /* how long one output is tried to be read */
    size_t max_live;   /* jobs accepted and not ended, all tenants: beyond it submits are refused */
};

struct runner *runner_new(const struct runner_env *env, const struct runner_config *cfg,
                          const struct runner_listener *l, void *arg);
/* Load what is unfinished and begin to find it again. ready once, when submits may be taken. */
void runner_start(struct runner *r, void (*ready)(enum store_status st, void *arg), void *arg);
void runner_set_config(struct runner *r, const struct runner_config *cfg);
/* The process is about to end: from now on nothing is decided and nothing is asked; what was asked may still be
 * answered. Those who wait for a cancel are answered false. To be called before the fleet and the store are closed. */
void runner_stop(struct runner *r);
/* After the store and the fleet have been closed: every call has been answered, or never will be (a test's
 * crash). Jobs stay as the store has them. */
void runner_free(struct runner **r);
void runner_tick(struct runner *r);

/* Accept a job. in as for the store but for events, which are the runner's to tell, but secrets as they came: sealed here; deadline 0 takes the policy's. False: too many live jobs, nothing was
 * done. The callback runs after the commit; the job may be dispatched as soon as it returns. */
bool runner_submit(struct runner *r, const struct store_submit *in, store_submitted_cb *cb, void *arg);

/* Cancel a live job, or one whose submit the store has not answered yet; false if there is none of that id (and
 * tenant; NULL: any): ask the store. Otherwise cb runs once when it has ended: canceled true if this (or another)
 * cancel ended it, so that no output of it will be seen; false if it came to its end first, or was not accepted.
 * message: for the record ("canceled by the client"). */
typedef void runner_cancel_cb(bool canceled, void *arg);
bool runner_cancel(struct runner *r, const char *tenant, const char *id, const char *message,
                   runner_cancel_cb *cb, void *arg);

/* Live jobs. find: by job id. each: in order of acceptance; stops when cb returns false. */
bool runner_find(struct runner *r, const char *id, struct runner_job_view *out);
void runner_each(struct runner *r, bool (*cb)(const struct runner_job_view *job, void *arg), void *arg);
/* By the present attempt's upstream id. */
bool runner_find_attempt(struct runner *r, const char *upstream_id, struct runner_job_view *out);
/* The file of a live attempt, if it has been stored already: for /view before the end. */
bool runner_stored_file(struct runner *r, const char *id, int attempt, const char *type,
                        const char *subfolder, const char *filename, uint8_t blake3[BLAKE3_LEN],
                        int64_t *size, const char **mime);
/* Is there a file of that name on the bound server, made by this attempt as far as it has said? */
bool runner_names_file(struct runner *r, const char *id, int attempt, const char *type, const char *subfolder,
                       const char *filename);
/* The names under which clients know an output of the job's present attempt (comfy/history.h, history_rename_cb): the
 * virtual subfolder for a file, the name that the client gave for a staged input. */
struct history_output;
struct history_names;
void runner_rename(struct runner *r, const char *id, const struct history_output *o, struct history_names *n);
/* How many waiting jobs of the same tenant go before it; 0 is next; -1 if it does not wait. */
int runner_queue_position(struct runner *r, const char *id);

struct runner_counts {
    size_t live, state[JOB_STATES], strays;
};
void runner_counts(const struct runner *r, const char *tenant, struct runner_counts *out); /* NULL: all */
/* How long submits took from runner_submit() to their commit. */
struct histogram;
const struct histogram *runner_submit_times(const struct runner *r);
/* Prompts of ours that a server has, or may have: bound jobs and strays. */
int runner_bound(struct runner *r, const char *server);
/* Wall ms when the oldest waiting job was accepted; 0: none waits. */
int64_t runner_oldest_waiting(const struct runner *r);

#endif
