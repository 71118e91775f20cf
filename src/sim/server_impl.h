/* What server.c and the files with its routes share. */
#ifndef SIM_SERVER_IMPL_H
#define SIM_SERVER_IMPL_H

#include "http/server.h"
#include "sim/exec.h"
#include "sim/hub.h"
#include "sim/server.h"

#define VERSION_PLAYED "0.3.75"
#define MAX_UPLOAD (100ll << 20)

struct sim_server {
    struct loop *loop;
    struct workers *workers;
    struct clock clock; /* of this server: time from the system, random bytes from the seed */
    uint64_t random;
    char *name, *addr;
    unsigned custom_nodes; /* classes that only object_info has */
    double speed;
    struct files files;
    struct models models;
    struct prompts prompts;
    struct exec *exec;
    struct faults faults;
    struct hub *hub;
    struct http_server *http;
    struct listener *listener;
    struct timer pump, revive;
    struct work work;
    bool working; /* a worker thread has the node */
    bool dying;   /* killed at the end of this turn */
    bool down;
    struct task death;
    int64_t revive_ms; /* < 0: never */
    int64_t ready_at;  /* loop time before which nothing is answered */
    int64_t number;    /* of POST /prompt */
    unsigned started;  /* prompts begun */
    bool free_memory, unload_models;
    struct { /* what the faults have in store for the prompt that runs */
        bool hide_history, silent, drop, die_at_start, die_at_end;
        int64_t start_ms, end_ms; /* how long it stays dead; < 0: for good */
    } plan;
    struct val *users; /* added ones: id -> name */
    struct log_line {
        char t[32], *m;
    } log[300];    /* a ring */
    size_t logged; /* lines so far */
    char **subscribers;
    size_t n_subscribers;
    int64_t run_began;
    struct list delayed; /* answers that wait */
};

/* --- server.c --- */
void server_kick(struct sim_server *s); /* something may be there to run */
/* Answer later: run(req, arg) after ms unless the peer goes away; drop(arg) in any case, last. */
typedef void server_later_cb(struct http_req *r, void *arg);
void server_later(struct sim_server *s, struct http_req *r, int64_t ms, server_later_cb *run,
                  void (*drop)(void *arg), void *arg);
void reply_json(struct http_req *r, int status, struct buf *b); /* b is emptied */
void reply_500(struct http_req *r);                             /* aiohttp's, closes the connection */
void reply_413(struct http_req *r);                             /* a body over MAX_UPLOAD */
void reply_empty(struct http_req *r, int status);               /* as aiohttp without a body */
void reply_none(struct http_req *r, int status);                /* the static mount's 404, a folder's 403 */
/* With etag, ranges and conditions. */
void reply_file(struct http_req *r, const char *path, const char *type);
void reply_405(struct http_req *r, const char *allow);
void server_features(void *arg, struct buf *b);

/* --- routes_logs.c --- */
void server_log(struct sim_server *s, const char *fmt, ...) PRINTF_LIKE(2, 3);
void server_log_free(struct sim_server *s);

/* --- body.c: the whole body, then cb. What cannot be read is answered with 500 or 413. --- */
typedef void json_cb(struct sim_server *s, struct http_req *r, struct json body);
void read_json(struct sim_server *s, struct http_req *r, json_cb *cb, bool lenient /* what is no JSON: {} */);
typedef void body_cb(struct sim_server *s, struct http_req *r, const struct buf *body);
void read_body(struct sim_server *s, struct http_req *r, body_cb *cb);

/* --- routes. rest: what stands behind the route's path, still percent-encoded --- */
typedef void route_cb(struct sim_server *s, struct http_req *r, const char *rest);
void route_request(struct http_req *r, void *arg); /* routes.c */

route_cb get_prompt, post_prompt, get_queue, post_queue, get_history, get_history_one, post_history,
    post_interrupt, post_free;                                              /* routes_prompt.c */
route_cb get_view, post_upload_image, post_upload_mask, get_internal_files; /* routes_files.c */
route_cb get_settings, get_setting, post_settings, post_setting, get_users, post_users, get_userdata_list,
    get_userdata_tree, get_userdata, post_userdata, delete_userdata, move_userdata; /* routes_user.c */
route_cb get_internal_logs, get_internal_logs_raw, patch_logs;                      /* routes_logs.c */
route_cb get_object_info, get_object_info_one, get_models, get_models_one, get_embeddings, get_system_stats,
    get_features, get_extensions, get_empty_object, get_index, get_ws, get_experiment_models,
    get_experiment_models_one, get_bare_404, get_folder_paths; /* routes_info.c */

#endif
