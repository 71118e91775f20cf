/* What the routes share. */
#ifndef API_API_PRIV_H
#define API_API_PRIV_H

#include "api/api.h"
#include "api/hub.h"
#include "base/histogram.h"
#include "base/json.h"

/* What has happened to jobs since the start, for /metrics (mux_metrics.c). */
struct mux_counts {
    uint64_t accepted, dispatched, requeued, ended[JOB_STATES][JOB_CODES];
    struct histogram in_state[JOB_STATES]; /* how long jobs were in each live state */
    struct histogram whole[JOB_STATES];    /* from acceptance to each end */
};
void mux_count_change(struct mux_counts *c, const struct job_summary *s, enum job_state from);
/* from_at: wall ms when it came to that state. */
void mux_count_time(struct mux_counts *c, const struct job_summary *s, enum job_state from, int64_t from_at);

/* What requests are about, for their latencies: few, so that the number of series stays small. */
enum api_class {
    API_SUBMIT,
    API_UPLOAD,
    API_FILE,
    API_OBJECT_INFO,
    API_HISTORY,
    API_QUEUE,
    API_STATUS,
    API_HEALTH,
    API_MUX,
    API_NATIVE,
    API_OTHER, /* the frontend, and what is passed on */
    API_CLASSES
};
struct api_route;
enum api_class mux_class_of(const struct api_route *r); /* NULL: OTHER */

struct api {
    struct api_deps d;
    struct api_config cfg;
    struct runner *runner;
    struct hub *hub;
    struct windows *windows;
    struct feed *feed;
    struct recents *recents; /* mux_recent.h */
    int64_t started_mono;    /* ms */
    struct mux_counts counts;
    struct histogram requests[API_CLASSES]; /* us until the answer was complete */
    struct packed *packed;                  /* object_info, compressed */
    struct fleet_known *fleet;              /* what prompts are validated against; NULL: not asked for yet */
    struct native_jobs *jobs;
    struct user_doc *user_docs;  /* user_docs.c */
    struct probes *probes;       /* file_probe.c */
    struct catalogue *catalogue; /* catalogue.c */
    uint64_t uploads;            /* since the start: what may be chosen as an input has changed */
    struct shared *asked;        /* what servers are being asked for clients (shared.h) */
    bool draining;
    bool stopped; /* clients are gone: what is still answered is only put away */
};

/* Who asks. One tenant for now; every look-up goes through it, so that several can come. */
const char *api_tenant(struct api *a, const struct http_req *req);

/* --- routes --- */
/* A pattern's "{x}" matches one segment, a last "{x...}" the rest of the path; values are percent-decoded. */
#define API_PARAMS 4
struct api_params {
    char *v[API_PARAMS]; /* in order of appearance; NULL past the end; valid until the handler returns */
};
typedef void api_route_cb(struct api *a, struct http_req *req, const struct api_params *p);
#define API_TWIN 1u    /* served at /api<path> too, as ComfyUI does */
#define API_CHANGES 2u /* changes state: the Origin guard applies */
#define API_LISTENS 4u /* lets a page listen, of whatever origin if it were not guarded likewise */
/* Who answers, in front of many servers. */
enum api_who {
    API_OWN,     /* we, from our own durable state */
    API_BOUND,   /* the server that has the job or the file; where that is not known, the first that has it */
    API_PRIMARY, /* one server, the same one for as long as it is up: answers that belong together */
    API_EVERY,   /* every server is told */
    API_MERGED,  /* every server is asked, the answers are made one */
    API_REFUSED  /* nobody */
};
const char *api_who_name(enum api_who w);
struct api_route {
    const char *method, *path; /* method "*": any */
    unsigned flags;
    enum api_who who;
    api_route_cb *handler;
    const char *what; /* one line for the docs */
};
/* Each dialect's part of the table, ended by a NULL method; the first row that fits counts. */
extern const struct api_route native_routes[], mux_routes[];

/* May this path, as it came, go to a server? Not what that server might read as another path than we do. */
bool api_path_is_plain(const char *path);

/* --- answers --- */
/* Our own error shape {"error":{"code","message","detail"}}; detail is JSON text or NULL. */
void api_error(struct http_req *req, int status, const char *code, const char *message, const char *detail);
/* The native shape {"error":{"type","message","details","extra_info":{}},"node_errors":{}}. */
void api_native_error(struct http_req *req, int status, const char *type, const char *message,
                      const char *details);
/* 404, as a server says it of a file that its pages do not have. */
void api_not_there(struct http_req *req);
/* The buffer as application/json; charset=utf-8; it is emptied. */
void api_reply_json(struct http_req *req, int status, struct buf *b);

/* --- waiting for the store, the runner ... with a request in hand --- */
/* The request may be aborted while the answer is on its way: a wait outlives it. Its callback looks first:
 *     struct http_req *req = api_wait_end(w);   NULL: the client has left; do no more than clean up */
struct api_wait {
    struct api *a;
    struct http_req *req;
    void *extra; /* freed with it */
};
struct api_wait *api_wait_new(struct api *a, struct http_req *req);
struct http_req *api_wait_end(struct api_wait *w); /* frees w: take a and extra out before */

/* A body read whole and checked as JSON. On a fault it has been answered (in native shape if native) and cb does not
 * run. text is the caller's for the call (bytes_ref to keep); body is a span of it. */
typedef void api_json_cb(struct api *a, struct http_req *req, struct json body, struct bytes *text);
void api_read_json(struct api *a, struct http_req *req, bool native, api_json_cb *cb);

/* A job by id for this tenant, from the store; rec is NULL if there is none, or it is another tenant's: the same
 * answer. Freed after the call unless taken (set *rec NULL). Does not run if the client has left. */
typedef void api_record_cb(struct api *a, struct http_req *req, struct job_record **rec, void *arg);
void api_load(struct api *a, struct http_req *req, const char *id, uint32_t parts, api_record_cb *cb,
              void *arg);

/* Query value, decoded; NULL if absent. The caller frees. */
char *api_query(const struct http_req *req, const char *key);

/* May the answer be compressed? */
bool api_takes_gzip(const struct http_req *req);

bool api_any_usable(struct api *a);
/* The feature flags that this gateway can honour everywhere: GET /features, and the answer to feature_flags. */
void api_put_features(struct api *a, struct buf *b);

/* Stored bytes under a file's name: Content-Disposition, type, ETag, ranges; what a browser would run only as a download.
 * Never other bytes than those that were stored: 410 with a word about it if they are gone or damaged, 500 if they cannot
 * be read. Strings are copied. With a wish, a picture made of them (picture.h); where none can be made for lack of a helper,
 * the file itself, but in our own routes only if it calls itself a picture: 415 otherwise. */
struct api_blob {
    const uint8_t *hash;
    int64_t size;
    const char *name, *mime;
    const char *job;        /* for the log, or NULL */
    int64_t at;             /* wall ms, for Last-Modified */
    bool mux;               /* errors in our routes' shape */
    bool attached;          /* always as a download */
    bool style;             /* a style sheet that the caller's own page loads: shown as what it is */
    struct image_want want; /* what is to be made of them; op IMAGE_FILE: nothing */
};
void api_reply_blob(struct api *a, struct http_req *req, const struct api_blob *b);
/* One that outlives the call in which it was made: the extra of an api_wait. */
struct api_blob_kept {
    struct api_blob b;
    uint8_t hash[BLAKE3_LEN];
    char *name, *mime, *job;
};
struct api_blob_kept *api_blob_keep(const struct api_blob *b);
/* Into *x, for the callback: what the wait holds ends with it. To be given to api_blob_let_go(). */
void api_blob_take(struct api_blob_kept *x, const struct api_wait *w);
void api_blob_let_go(struct api_blob_kept *x);
/* Content-Disposition with this name, and what keeps a browser from taking the bytes for more than a file. */
void api_put_file_fields(struct http_req *req, const char *name, bool attachment);

/* --- the job record as the mux routes show it (mux_record.c) --- */
void api_put_record(struct api *a, struct jsonw *w, const struct job_record *rec);

#endif
