/* The native dialect's handlers; the table that binds them to paths is in native_routes.c. */
#ifndef API_NATIVE_H
#define API_NATIVE_H

#include "api/api_priv.h"

/* native_prompt.c */
api_route_cb native_post_prompt;
/* native_queue.c */
api_route_cb native_get_prompt, native_get_queue, native_post_queue, native_post_interrupt;
/* native_history.c */
api_route_cb native_get_history, native_get_history_one, native_post_history;
/* native_files.c */
api_route_cb native_get_view, native_get_files;
/* native_upload.c */
api_route_cb native_post_upload, native_post_mask;
/* native_userdata.c */
api_route_cb native_get_userdata_list, native_get_userdata_tree, native_get_userdata, native_post_userdata,
    native_delete_userdata, native_move_userdata;
/* native_settings.c */
api_route_cb native_get_settings, native_get_setting, native_post_settings, native_post_setting,
    native_get_users, native_post_users;
/* native_info.c */
void native_info_fini(struct api *a);
void native_fleet_fini(struct api *a);
api_route_cb native_get_object_info, native_get_object_info_class, native_get_features,
    native_get_system_stats;
/* native_routes.c */
api_route_cb native_ws;
/* native_fleet.c */
api_route_cb native_post_free, native_get_logs, native_get_logs_raw, native_patch_logs, native_manager;
/* registry_logs_cb; arg is the struct api. */
void native_on_logs(const char *server, struct json data, void *arg);
/* native_jobs_list.c, native_jobs.c */
api_route_cb native_get_jobs, native_get_job, native_post_job_cancel, native_post_jobs_cancel;
/* native_models.c */
api_route_cb native_get_model_list, native_get_model_file;
/* native_pass.c */
/* Fields that stay between a client and us, and between us and a server. */
extern const char *const native_pass_drop[], *const native_pass_drop_answer[];
/* Passed on to the primary server. */
api_route_cb native_from_primary;
/* Passed on to the server that has what the request names, else to the primary: routes of custom nodes. */
api_route_cb native_pass;
/* Is this a path of ours, or below one, that no server may be asked for? What speaks of jobs, of files made or of a
 * server's own affairs is never one server's to say. */
bool native_is_private(const char *path);

/* native_entry.c: [number, id, graph, extra_data, outputs to execute]; rec has JOB_PART_GRAPH. */
void native_put_item(struct buf *b, const struct job_record *rec);
/* The server's counter is an int, a client's own number a float. */
void native_put_number(struct buf *b, const struct job_summary *s);
/* As it was sent, with the client's own id and create_time in it. */
void native_put_extra_data(struct buf *b, const struct job_record *rec);
/* "<id>": {"prompt": …, "outputs": …, "status": …, "meta": …}; rec has JOB_PART_GRAPH and JOB_PART_HISTORY. */
void native_put_entry(struct buf *b, const struct job_record *rec);

/* Stock answers to what ComfyUI fails on: 500 there; a clear 400 here, in the shape its clients parse. */
void native_bad_body(struct http_req *req, const char *what);

/* Answers 200 without a body once everything that was started has ended. */
struct native_many;
struct native_many *many_new(struct api *a, struct http_req *req);
void many_start(struct native_many *m);
void many_end(struct native_many *m);  /* of one thing that was started */
void many_done(struct native_many *m); /* nothing more will be started */

#endif
