/* The native dialect's part of the route table: every route of a ComfyUI server, and who answers it in front of many. What
 * is not here belongs to custom nodes and is passed on (native_pass.c), unless it lies below a path of this table that is
 * not the primary's. */
#include <stdlib.h>
#include <string.h>

#include "api/native.h"
#include "comfy/prompt_request.h"

void native_ws(struct api *a, struct http_req *req, const struct api_params *p)
{
    char *id = api_query(req, "clientId");

    (void)p;
    if (a->runner == NULL)
        http_reply_str(req, 503, "text/plain; charset=utf-8", "starting\n");
    else if (id && strlen(id) > CLIENT_ID_MAX)
        http_reply_str(req, 400, "text/plain; charset=utf-8", "clientId must have at most 256 bytes\n");
    else
        hub_accept(a->hub, req, api_tenant(a, req), id);
    free(id);
}

/* No such thing here, as a server says it that lacks the route. */
static void refuse(struct api *a, struct http_req *req, const struct api_params *p)
{
    (void)a;
    (void)p;
    http_reply_empty(req, 404);
}

/* clang-format off */
const struct api_route native_routes[] = {
    /* jobs */
    {"POST", "/prompt", API_TWIN | API_CHANGES, API_OWN, native_post_prompt, "submit a job"},
    {"GET", "/prompt", API_TWIN, API_OWN, native_get_prompt, "how many jobs are left"},
    {"GET", "/queue", API_TWIN, API_OWN, native_get_queue, "what waits and what runs"},
    {"POST", "/queue", API_TWIN | API_CHANGES, API_OWN, native_post_queue, "take waiting jobs away"},
    {"POST", "/interrupt", API_TWIN | API_CHANGES, API_OWN, native_post_interrupt, "stop a job, or the caller's running ones"},
    {"GET", "/history", API_TWIN, API_OWN, native_get_history, "ended jobs, oldest first"},
    {"GET", "/history/{id}", API_TWIN, API_OWN, native_get_history_one, "one ended job"},
    {"POST", "/history", API_TWIN | API_CHANGES, API_OWN, native_post_history, "take ended jobs out of history"},
    {"GET", "/ws", API_TWIN, API_OWN, native_ws, "events, by WebSocket"},
    /* files */
    {"GET", "/view", API_TWIN, API_OWN, native_get_view, "a file by its names"},
    {"POST", "/upload/image", API_TWIN | API_CHANGES, API_OWN, native_post_upload, "store a file that jobs may read"},
    {"POST", "/upload/mask", API_TWIN | API_CHANGES, API_OWN, native_post_mask, "store a picture with a mask put onto it"},
    {"GET", "/internal/files/{type}", 0, API_OWN, native_get_files, "names of files, newest first"},
    /* what users keep */
    {"GET", "/users", API_TWIN, API_OWN, native_get_users, "where settings are kept"},
    {"POST", "/users", API_TWIN | API_CHANGES, API_OWN, native_post_users, "add a user"},
    {"GET", "/settings", API_TWIN, API_OWN, native_get_settings, "all settings"},
    {"POST", "/settings", API_TWIN | API_CHANGES, API_OWN, native_post_settings, "set several settings"},
    {"GET", "/settings/{id}", API_TWIN, API_OWN, native_get_setting, "one setting, or null"},
    {"POST", "/settings/{id}", API_TWIN | API_CHANGES, API_OWN, native_post_setting, "set one setting"},
    {"GET", "/userdata", API_TWIN, API_OWN, native_get_userdata_list, "files below a folder: saved workflows and the like"},
    {"GET", "/v2/userdata", API_TWIN, API_OWN, native_get_userdata_tree, "files and folders"},
    {"GET", "/userdata/{file}", API_TWIN, API_OWN, native_get_userdata, "a file that the user keeps"},
    {"POST", "/userdata/{file}", API_TWIN | API_CHANGES, API_OWN, native_post_userdata, "keep a file"},
    {"DELETE", "/userdata/{file}", API_TWIN | API_CHANGES, API_OWN, native_delete_userdata, "delete it"},
    {"POST", "/userdata/{file}/move/{dest}", API_TWIN | API_CHANGES, API_OWN, native_move_userdata, "rename it"},
    /* what the fleet can do */
    {"GET", "/object_info", API_TWIN, API_MERGED, native_get_object_info, "all node classes of the fleet"},
    {"GET", "/object_info/{class}", API_TWIN, API_MERGED, native_get_object_info_class, "one node class"},
    {"GET", "/features", API_TWIN, API_OWN, native_get_features, "what this server supports"},
    {"GET", "/system_stats", API_TWIN, API_MERGED, native_get_system_stats, "versions and devices of the fleet"},
    {"GET", "/embeddings", API_TWIN, API_PRIMARY, native_from_primary, "names of embeddings"},
    {"GET", "/models", API_TWIN, API_PRIMARY, native_from_primary, "model folders"},
    {"GET", "/models/{folder}", API_TWIN, API_PRIMARY, native_from_primary, "names of models"},
    /* the frontend */
    {"GET", "/extensions", API_TWIN, API_PRIMARY, native_from_primary, "the frontend's extensions"},
    /* a server's own affairs */
    {"*", "/internal/{rest...}", 0, API_REFUSED, refuse, "a server's logs and folders"},
    {"*", "/api/jobs", 0, API_REFUSED, refuse, "jobs of one server"},
    {"*", "/api/assets", 0, API_REFUSED, refuse, "assets of one server"},
    {"*", "/api/assets/{rest...}", 0, API_REFUSED, refuse, "assets of one server"},
    {"*", "/api/tags", 0, API_REFUSED, refuse, "tags of one server's assets"},
    {NULL, NULL, 0, API_OWN, NULL, NULL},
};
/* clang-format on */
