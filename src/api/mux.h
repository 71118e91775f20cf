/* The mux dialect: our own routes under /mux/v1/, the small task API, health and metrics. The table that binds the
 * handlers to paths is in mux_routes.c. */
#ifndef API_MUX_H
#define API_MUX_H

#include "api/api_priv.h"
#include "job/job_event.h"

/* mux_list.c */
api_route_cb mux_get_jobs;
/* mux_jobs.c */
api_route_cb mux_get_job, mux_post_cancel, mux_get_output, mux_get_thumb;
/* mux_workflow.c */
api_route_cb mux_get_workflow, mux_get_log;
/* mux_summary.c */
api_route_cb mux_get_summary;
/* mux_retry.c */
api_route_cb mux_post_retry;
/* mux_events.c */
api_route_cb mux_get_events, mux_get_job_events;
/* mux_task.c */
api_route_cb mux_get_status, mux_get_result;
/* mux_servers.c */
api_route_cb mux_get_servers, mux_get_server, mux_post_servers, mux_delete_server, mux_post_drain,
    mux_post_resume;
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
/* The record alone, as the whole body. */
void mux_reply_record(struct api *a, struct http_req *req, int status, const struct job_record *rec);

/* --- mux_list.c --- */
/* A whole number from 1 to max in decimal digits, nothing else. */
bool mux_count_parse(const char *s, int64_t max, int64_t *out);
/* A query's value; NULL too if it is empty: pages build such queries from empty fields. The caller frees. */
char *mux_query(const struct http_req *req, const char *key);

/* --- mux_record.c --- */
#define MUX_SERVERS 256

/* Many records: servers[n_servers] is what fleet_servers() gave in this turn. */
void mux_put_record(struct jsonw *w, const struct job_record *rec, const struct fleet_server *servers,
                    size_t n_servers, struct runner *r);
/* The same for tables: of a record with JOB_PART_FEW and JOB_PART_ERROR. */
void mux_put_brief(struct jsonw *w, const struct job_record *rec, const struct fleet_server *servers,
                   size_t n_servers, struct runner *r);
/* {value, max, node} */
void mux_put_progress(struct jsonw *w, const struct runner_job_view *v);
/* ms since the epoch, or null for 0 */
void mux_put_time(struct jsonw *w, const char *key, int64_t ms);
/* [{n, node_id, kind ...}] of the attempt that won. */
void mux_put_outputs(struct jsonw *w, const struct job_record *rec);

/* --- mux_server.c --- */
/* What is known of one server beyond what it does: its devices, versions, models, and the classes by which it differs. */
void mux_put_server_details(struct api *a, struct jsonw *w, const struct fleet_server *s);

#endif
