/* The front door: HTTP routes over the runner, the store, the blobs and the fleet. Thin: translate, call,
 * translate back.
 *
 * One struct api per process, made by `serve`. Three dialects share it: native_* (what ComfyUI serves, at /x
 * and /api/x), mux_* (our own, under /mux/, and /status, /result, /healthz, /readyz) and, later, v2_*.
 * Each fills a part of one route table (api_route): method, path pattern, handler. Loop thread only. */
#ifndef API_API_H
#define API_API_H

#include "blob/blob.h"
#include "fleet/registry.h"
#include "http/server.h"
#include "image/images.h"
#include "job/runner.h"
#include "store/store.h"

struct hub;
struct api;

struct api_config {
    int64_t json_max, upload_max; /* bytes of a body */
    int nodes_max;                /* nodes of a prompt */
    unsigned clients_max;         /* sockets */
    const char *frontend;         /* folder of static files, or NULL */
    bool manager;                 /* the manager's routes are passed to the primary; else refused */
    const char *const *cors;      /* allowed origins, NULL-terminated; "*" for any; NULL: none */
};

struct api_deps {
    struct loop *loop;
    struct workers *workers;
    struct clock *clock;
    struct store *store;
    struct blobs *blobs;
    struct registry *registry; /* the fleet: registry_fleet() */
    struct images *images;     /* NULL: no pictures are made, files are sent as they are */
};

/* Makes the runner's listener too: api_listener() is to be given to runner_new(), then api_start(). */
struct api *api_new(const struct api_deps *d, const struct api_config *cfg);
const struct runner_listener *api_listener(void); /* its arg is the struct api */
void api_start(struct api *a, struct runner *r);
/* From the next request on. cfg is copied, here and in api_new(). */
void api_set_config(struct api *a, const struct api_config *cfg);
/* The process is about to end. False: not yet, something is being written; ask again soon. */
bool api_stop(struct api *a);
/* No request is open any more, and none comes: what is still answered by the store and the blobs is only put away. To be
 * called before they are closed. */
void api_clients_gone(struct api *a);
void api_free(struct api **a);
/* The handler for http_server_new(). arg is the struct api. */
void api_handle(struct http_req *req, void *arg);
/* The route table as JSON, {"native": [row…], "mux": [row…]}: what tests walk. */
void api_put_routes(struct buf *b);
/* Why it is not ready, or NULL. Submits are refused with 503 draining between api_drain() and the exit. */
const char *api_not_ready(struct api *a);
void api_drain(struct api *a);

#endif
