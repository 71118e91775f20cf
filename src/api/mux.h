/* The mux dialect: our own routes under /mux/v1/, the small task API, health and metrics. The table that binds the
 * handlers to paths is in mux_routes.c. */
#ifndef API_MUX_H
#define API_MUX_H

#include "api/api_priv.h"
#include "job/job_event.h"

/* mux_jobs.c */
api_route_cb mux_get_jobs, mux_get_job, mux_post_cancel, mux_get_output, mux_get_thumb;
/* mux_retry.c */
api_route_cb mux_post_retry;
/* mux_events.c */
api_route_cb mux_get_events, mux_get_job_events;
/* mux_task.c */
api_route_cb mux_get_status, mux_get_result;
/* mux_servers.c */
api_route_cb mux_get_servers, mux_post_servers, mux_delete_server, mux_post_drain, mux_post_resume;
/* mux_health.c */
api_route_cb mux_get_healthz, mux_get_readyz, mux_get_windows;
/* mux_page.c */
api_route_cb mux_get_page, mux_get_page_root;
/* mux_metrics.c */
api_route_cb mux_get_metrics;

/* --- mux_jobs.c --- */
/* As api_load(), for an id as it stood in the path. */
void mux_load(struct api *a, struct http_req *req, const char *id, uint32_t parts, api_record_cb *cb,
              void *arg);
/* First thing in such a callback: without a record, 404 has been answered. */
bool mux_missing(struct http_req *req, struct job_record *const *rec);
/* The gateway has not read its jobs yet (503 not_ready has been answered). */
bool mux_starting(struct api *a, struct http_req *req);
/* Are the bytes of this output still kept? NOT_FOUND: no longer. */
void mux_find_output(struct api *a, const struct job_record *rec, const struct job_output *o,
                     store_file_cb *cb, void *arg);
/* The record alone, as the whole body. */
void mux_reply_record(struct api *a, struct http_req *req, int status, const struct job_record *rec);

/* --- mux_record.c --- */
#define MUX_SERVERS 256

/* Many records: servers[n_servers] is what fleet_servers() gave in this turn. */
void mux_put_record(struct jsonw *w, const struct job_record *rec, const struct fleet_server *servers,
                    size_t n_servers, struct runner *r);
/* [{n, node_id, kind ...}] of the attempt that won. */
void mux_put_outputs(struct jsonw *w, const struct job_record *rec);

#endif
