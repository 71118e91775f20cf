/* The mux dialect's part of the route table. */
#include "api/mux.h"

const struct api_route mux_routes[] = {
    {"GET", "/healthz", 0, API_OWN, mux_get_healthz, "the process is alive"},
    {"GET", "/readyz", 0, API_OWN, mux_get_readyz, "it can take and run jobs; 503 and why not otherwise"},
    {"GET", "/metrics", 0, API_OWN, mux_get_metrics, "counters and gauges, as Prometheus text"},
    {"GET", "/status/{id}", 0, API_OWN, mux_get_status, "how far a job is, for a page that polls"},
    {"GET", "/result/{id}", 0, API_OWN, mux_get_result, "a job's images, or by the status why not"},
    {"GET", "/mux/v1/jobs", 0, API_OWN, mux_get_jobs, "jobs, newest first"},
    {"GET", "/mux/v1/jobs/{id}", 0, API_OWN, mux_get_job, "one job's record"},
    {"POST", "/mux/v1/jobs/{id}/cancel", API_CHANGES, API_OWN, mux_post_cancel,
     "cancel a job, whatever it is doing"},
    {"POST", "/mux/v1/jobs/{id}/retry", API_CHANGES, API_OWN, mux_post_retry, "the same work as a new job"},
    {"GET", "/mux/v1/jobs/{id}/outputs/{n}", 0, API_OWN, mux_get_output, "the bytes of one output"},
    {"GET", "/mux/v1/jobs/{id}/outputs/{n}/thumb", 0, API_OWN, mux_get_thumb,
     "a small picture of one output"},
    {"GET", "/mux/v1/jobs/{id}/events", 0, API_OWN, mux_get_job_events,
     "what happens to one job, as server-sent events"},
    {"GET", "/mux/v1/events", 0, API_OWN, mux_get_events, "what happens to all jobs, as server-sent events"},
    {"GET", "/mux/v1/servers", 0, API_OWN, mux_get_servers, "the servers and what they do"},
    {"POST", "/mux/v1/servers", API_CHANGES, API_OWN, mux_post_servers, "add a server"},
    {"DELETE", "/mux/v1/servers/{name}", API_CHANGES, API_OWN, mux_delete_server, "remove a server"},
    {"POST", "/mux/v1/servers/{name}/drain", API_CHANGES, API_OWN, mux_post_drain,
     "give a server no new work"},
    {"POST", "/mux/v1/servers/{name}/resume", API_CHANGES, API_OWN, mux_post_resume, "give it work again"},
    {"GET", "/mux/v1/windows", 0, API_OWN, mux_get_windows, "the browser windows seen, and their jobs"},
    {NULL, NULL, 0, API_OWN, NULL, NULL},
};
