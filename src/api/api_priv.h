/* What the routes share. */
#ifndef API_API_PRIV_H
#define API_API_PRIV_H

#include "api/api.h"
#include "base/json.h"

struct api {
    struct api_deps d;
    struct api_config cfg;
    struct runner *runner;
    struct hub *hub;
    bool draining;
};

/* Who asks. One tenant for now; every look-up goes through it, so that several can come. */
const char *api_tenant(struct api *a, const struct http_req *req);

/* A route: "GET", "/history/{id}"; `{x}` matches one segment (raw, may hold %2F), a last `{x...}` the rest.
 * Native routes are served at path and at /api<path> (API_TWIN). */
struct api_params {
    char *v[4]; /* percent-decoded values in order of appearance; NULL past the end */
};
typedef void api_route_cb(struct api *a, struct http_req *req, const struct api_params *p);
#define API_TWIN 1u    /* at /api<path> too */
#define API_CHANGES 2u /* changes state: the Origin guard applies */
struct api_route {
    const char *method, *path;
    unsigned flags;
    api_route_cb *handler;
    const char *what; /* one line for the docs */
};
/* Each dialect's part of the table, ended by a NULL method. */
extern const struct api_route native_routes[], mux_routes[];

/* Our own error shape {"error":{"code","message","detail"}}; detail is JSON text or NULL. */
void api_error(struct http_req *req, int status, const char *code, const char *message, const char *detail);
/* The native shape {"error":{"type","message","details","extra_info":{}},"node_errors":{}}. */
void api_native_error(struct http_req *req, int status, const char *type, const char *message,
                      const char *details);
/* 200 with the buffer as application/json; charset=utf-8; the buffer is emptied. */
void api_reply_json(struct http_req *req, int status, struct buf *b);

/* A body read whole and checked as JSON. On a fault it has been answered (native shape if native) and cb does
 * not run. */
typedef void api_json_cb(struct api *a, struct http_req *req, struct json body, struct bytes *text);
void api_read_json(struct api *a, struct http_req *req, bool native, api_json_cb *cb);

/* The job record as interface of the mux routes (docs/api.md). */
void api_put_record(struct api *a, struct buf *b, const struct job_record *rec);
/* A job by id for this tenant: from the store, with these parts; cb gets NULL if there is none (or it is
 * another tenant's: the same answer). req is kept; if the client leaves, cb does not run. record is freed
 * after cb. */
typedef void api_record_cb(struct api *a, struct http_req *req, struct job_record *rec);
void api_load(struct api *a, struct http_req *req, const char *id, uint32_t parts, api_record_cb *cb);

/* Accepts a job: mints or checks the id, and gives it to the runner. */

#endif
