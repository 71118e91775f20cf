/* The shapes of what is kept about a job: states, error codes, attempts, outputs. Shapes and names only; what
 * they lead to is decided in job/.
 *
 * Times are integer milliseconds since the epoch, 0 for "not yet". Text is UTF-8, NUL-terminated. */
#ifndef STORE_RECORD_H
#define STORE_RECORD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/mem.h"
#include "base/uuid.h"

/* The life of a job (ARCHITECTURE.md, "The life of a job"). The numbers stand in databases: never renumber.
 */
enum job_state {
    JOB_QUEUED = 0,      /* durable, waiting for a server */
    JOB_DISPATCHING = 1, /* server and attempt written down; POST /prompt may be under way */
    JOB_RUNNING = 2,     /* the server has it */
    JOB_COLLECTING = 3,  /* the server says it ended; history and outputs are being fetched and stored */
    JOB_SUCCEEDED = 4,
    JOB_FAILED = 5,
    JOB_CANCELED = 6,
    JOB_EXPIRED = 7
};
#define JOB_STATES 8
#define JOB_STATE_LIVE(s) ((s) <= JOB_COLLECTING)
#define JOB_STATE_BIT(s) (1u << (s))
#define JOB_STATES_LIVE 0x0fu
#define JOB_STATES_ENDED 0xf0u
const char *job_state_name(enum job_state s);
/* -1 for an unknown name. */
int job_state_parse(const char *s);

/* Why a job or an attempt ended without success. A closed list; the names are part of the interface, the
 * numbers stand in databases. */
enum job_code {
    JOB_OK = 0,
    JOB_NO_CAPABLE_SERVER = 1,
    JOB_VALIDATION_FAILED = 2,
    JOB_SERVER_REJECTED = 3,
    JOB_EXECUTION_ERROR = 4,
    JOB_OUT_OF_MEMORY = 5,
    JOB_INTERRUPTED = 6,
    JOB_SERVER_LOST = 7,
    JOB_SERVER_RESTARTED = 8,
    JOB_STALLED = 9,
    JOB_DISPATCH_FAILED = 10,
    JOB_HISTORY_UNAVAILABLE = 11,
    JOB_HISTORY_MISSING = 12,
    JOB_OUTPUT_UNAVAILABLE = 13,
    JOB_OUTPUT_UNRECOGNISED = 14,
    JOB_STORAGE_FAILED = 15,
    JOB_CODE_EXPIRED = 16,
    JOB_CODE_CANCELED = 17
};
#define JOB_CODES 18
const char *job_code_name(enum job_code c); /* "ok" for JOB_OK */
int job_code_parse(const char *s);
const char *
job_code_sentence(enum job_code c); /* what happened, for a person: "The server ran out of memory" */

#define BLAKE3_LEN 32
#define BLAKE3_HEX 65 /* with the NUL */
void blake3_hex(const uint8_t hash[BLAKE3_LEN], char out[BLAKE3_HEX]);
bool blake3_unhex(const char *s, uint8_t out[BLAKE3_LEN]); /* 64 lowercase hex digits */

struct job_error {
    enum job_code code; /* JOB_OK: no error */
    int attempt;        /* 0: none */
    char *server;       /* name, or NULL */
    char *message;      /* a sentence for a person */
    char *detail;       /* JSON text, or NULL */
};

struct job_attempt {
    int n;                       /* 1 is the first */
    char upstream_id[UUID_SIZE]; /* its prompt_id on the server; the first one's is the job id */
    char *server;                /* name */
    int64_t started_at, ended_at;
    enum job_code code; /* JOB_OK while live and after success */
    char *message;      /* or NULL */
};

/* One stored output of the attempt that won. */
struct job_output {
    int n; /* from 0, in the order of history */
    int attempt;
    char *node_id;
    char *kind;                        /* image video audio text file latent 3d json */
    char *key;                         /* under which key of the node's output it stood: "images" */
    char *filename, *subfolder, *type; /* as the server named them; type output or temp */
    char *mime;
    int64_t size;
    uint8_t blake3[BLAKE3_LEN];
    bool gone; /* told by a store: its bytes are kept no longer (retention) */
};

struct job_note { /* a line of the timeline */
    int64_t at;
    enum job_state state;
    char *note; /* or NULL */
};

/* A file a job reads: from the input namespace, or an earlier job's output. The blob stays for as long as the
 * job is kept. */
struct job_input {
    char *name; /* the value as it stands in the graph, "cat.png" or "<id>/ComfyUI_00001_.png [output]" */
    uint8_t blake3[BLAKE3_LEN];
};

/* Flags of a job, kept with it. */
#define JOB_F_PAID 1u           /* holds paid (API) nodes: never run again once it may have started */
#define JOB_F_OOM_RETRIED 2u    /* its one retry for out_of_memory is used */
#define JOB_F_NO_HISTORY 4u     /* ended while queued: stands in no native history */
#define JOB_F_UNVALIDATED 8u    /* accepted before any server was known */
#define JOB_F_ERROR_RETRIED 16u /* its one retry for an execution_error that may be the server's is used */

/* What stays in memory for every unfinished job, and a row of a list. <= 512 bytes with its strings. */
struct job_summary {
    char id[UUID_SIZE];
    enum job_state state;
    uint32_t version; /* grows by one with every committed change */
    uint32_t flags;
    int attempt;                 /* 0 before the first dispatch */
    int spent;                   /* attempts that count: a dispatch that provably did not start does not */
    char upstream_id[UUID_SIZE]; /* of the present attempt; "" without */
    char *server;                /* bound server's name, or NULL */
    char *tenant;                /* never NULL */
    char *client_id, *window_id; /* or NULL */
    char *workflow_id;           /* of the workflow it was made from, or NULL */
    char *need;    /* what it needs of a server (comfy/object_info.h), or NULL: any server will do */
    int64_t seq;   /* order of acceptance over the whole store, from 1; native "number" unless the client gave
                      one */
    double number; /* native queue order: lower first */
    int priority;
    int64_t created_at, started_at, finished_at, deadline; /* deadline 0: none */
    int64_t state_at;                                      /* since when it is in this state */
    int64_t not_before; /* queued: not dispatched again earlier than this */
    enum job_code code;
};
void job_summary_fini(struct job_summary *s);
void job_summary_copy(struct job_summary *to, const struct job_summary *from);

/* Parts of a record, for loading. */
#define JOB_PART_GRAPH 1u /* graph, targets, extra_data, rest */
#define JOB_PART_HISTORY 2u
#define JOB_PART_OUTPUTS 4u
#define JOB_PART_ATTEMPTS 8u /* attempts and error */
#define JOB_PART_TIMELINE 16u
#define JOB_PART_INPUTS 32u
#define JOB_PART_SECRETS 64u
#define JOB_PART_ANSWER 128u
#define JOB_PART_ERROR 256u /* the error without the attempts */
/* Of the present attempt's outputs the first JOB_FEW, images before others, and how many there are. Instead of all that are
 * kept, unless JOB_PART_OUTPUTS asks for them. */
#define JOB_PART_FEW 512u
#define JOB_FEW 4
#define JOB_PART_RECORD (JOB_PART_OUTPUTS | JOB_PART_ATTEMPTS | JOB_PART_TIMELINE)

struct job_record {
    unsigned shared; /* references beside the first */
    struct job_summary s;
    struct bytes *graph;      /* as it was accepted */
    struct bytes *extra_data; /* JSON object without secrets and without window_id; NULL if none was sent */
    struct bytes *targets;    /* JSON array: the output nodes that are executed; NULL: all */
    struct bytes *rest;       /* JSON object: unknown top-level keys to pass on; NULL if none */
    struct bytes *answer;     /* the body POST /prompt was answered with */
    struct bytes *history;    /* JSON: the native history entry as it is shown; NULL while there is none */
    struct bytes *secrets;    /* sealed; NULL if none or wiped */
    char *retry_of;           /* id, or NULL */
    struct job_error error;
    struct job_attempt *attempts;
    size_t n_attempts;
    struct job_output *outputs;
    size_t n_outputs;
    size_t outputs_count; /* JOB_PART_FEW: of the present attempt */
    struct job_note *timeline;
    size_t n_timeline;
    struct job_input *inputs;
    size_t n_inputs;
};
void job_record_free(struct job_record **r); /* with everything in it, when it was the last reference */
/* A record that a store has told may be shared: it is read, not altered. References are taken and given back on the loop
 * thread. */
struct job_record *job_record_ref(struct job_record *r);
size_t job_record_bytes(const struct job_record *r); /* of memory, about */
/* A copy that holds the summary, retry_of and the JOB_PART_* asked for. */
struct job_record *job_record_copy(const struct job_record *from, uint32_t parts);
/* For JOB_PART_FEW, output by output in their order: would this one be among the few? Then job_few_put(), which takes over what
 * *o holds. */
bool job_few_takes(const struct job_record *r, const char *kind);
void job_few_put(struct job_record *r, struct job_output *o);
void job_output_fini(struct job_output *o);
void job_output_copy(struct job_output *to, const struct job_output *from);
void job_error_fini(struct job_error *e);
/* Everything in one sentence, for where nothing else can say it: "… (server gpu1, attempt 2)". To be freed. */
char *job_error_text(const struct job_error *e);
void job_error_copy(struct job_error *to, const struct job_error *from);
void job_attempt_fini(struct job_attempt *a);
void job_attempt_copy(struct job_attempt *to, const struct job_attempt *from);
void job_input_copy(struct job_input *to, const struct job_input *from);

#endif
