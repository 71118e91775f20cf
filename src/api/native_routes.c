/* The native dialect's part of the route table: every route of a ComfyUI server, and who answers it in front of many. What
 * is not here belongs to custom nodes and is passed on (native_pass.c), unless it lies below a path of this table that is
 * not the primary's. */
#include <stdlib.h>
#include <string.h>

#include "api/native.h"
#include "api/static.h"
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
    http_reply_str(req, 404, "text/plain; charset=utf-8", "404: Not Found");
}

/* As a server that was started without assets. The feature flag says the same; clients then go by names. */
static void refuse_assets(struct api *a, struct http_req *req, const struct api_params *p)
{
    (void)a;
    (void)p;
    http_reply_str(
        req, 503, "application/json; charset=utf-8",
        "{\"error\": {\"code\": \"SERVICE_DISABLED\", \"message\": \"Assets are not offered here: files go "
        "by their names\", \"details\": {}}}");
}

/* The operator's own files of the frontend, where there are some; else the primary's. Names in assets/ hold a hash: those of
 * another build are of no use, and hide that it is another. */
static void get_page_file(struct api *a, struct http_req *req, const struct api_params *p)
{
    const char *dir = a->cfg.frontend;

    if (dir && static_serve(req, dir))
        return;
    if (dir && strncmp(http_req_path(req), "/assets/", 8) == 0)
        api_not_there(req);
    else
        native_from_primary(a, req, p);
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
    {"GET", "/api/jobs", API_TWIN, API_OWN, native_get_jobs, "jobs, newest first"},
    {"GET", "/api/jobs/{id}", API_TWIN, API_OWN, native_get_job, "one job with its workflow and outputs"},
    {"POST", "/api/jobs/cancel", API_TWIN | API_CHANGES, API_OWN, native_post_jobs_cancel, "cancel jobs"},
    {"POST", "/api/jobs/{id}/cancel", API_TWIN | API_CHANGES, API_OWN, native_post_job_cancel, "cancel one job"},
    {"GET", "/ws", API_TWIN | API_LISTENS, API_OWN, native_ws, "events, by WebSocket"},
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
    {"GET", "/embeddings", API_TWIN, API_MERGED, native_get_model_list, "names of embeddings"},
    {"GET", "/models", API_TWIN, API_MERGED, native_get_model_list, "model folders"},
    {"GET", "/models/{folder}", API_TWIN, API_MERGED, native_get_model_list, "names of models"},
    {"GET", "/experiment/models", API_TWIN, API_MERGED, native_get_model_list, "model folders"},
    {"GET", "/experiment/models/{folder}", API_TWIN, API_MERGED, native_get_model_list, "models with their sizes and dates"},
    {"GET", "/experiment/models/preview/{folder}/{index}/{file...}", API_TWIN, API_BOUND, native_get_model_file, "a model's picture"},
    {"GET", "/view_metadata/{folder}", API_TWIN, API_BOUND, native_get_model_file, "what stands in a model's file about it"},
    /* the frontend */
    {"GET", "/extensions", API_TWIN, API_PRIMARY, native_from_primary, "the frontend's extensions"},
    {"GET", "/i18n", API_TWIN, API_PRIMARY, native_from_primary, "translations"},
    {"GET", "/workflow_templates", API_TWIN, API_PRIMARY, native_from_primary, "example workflows of custom nodes"},
    {"GET", "/api/workflow_templates/{file...}", 0, API_PRIMARY, get_page_file, "one of them, or its picture"},
    {"GET", "/global_subgraphs", API_TWIN, API_PRIMARY, native_from_primary, "subgraphs of custom nodes"},
    {"GET", "/global_subgraphs/{id}", API_TWIN, API_PRIMARY, native_from_primary, "one of them"},
    {"GET", "/node_replacements", API_TWIN, API_PRIMARY, native_from_primary, "which class takes the place of an old one"},
    {"GET", "/extensions/{file...}", 0, API_PRIMARY, get_page_file, "files of extensions"},
    {"GET", "/templates/{file...}", 0, API_PRIMARY, get_page_file, "example workflows"},
    {"GET", "/docs/{file...}", 0, API_PRIMARY, get_page_file, "help for nodes"},
    {"GET", "/assets/{file...}", 0, API_PRIMARY, get_page_file, "the frontend's own files"},
    {"GET", "/", 0, API_PRIMARY, get_page_file, "the frontend"},
    {"GET", "/api/", 0, API_PRIMARY, get_page_file, "the frontend"},
    {"GET", "/index.html", 0, API_PRIMARY, get_page_file, "the frontend"},
    /* a server's own affairs */
    {"POST", "/free", API_TWIN | API_CHANGES, API_EVERY, native_post_free, "let every server free memory"},
    {"GET", "/internal/logs", 0, API_MERGED, native_get_logs, "what the servers logged last, as text"},
    {"GET", "/internal/logs/raw", 0, API_MERGED, native_get_logs_raw, "the same in lines"},
    {"PATCH", "/internal/logs/subscribe", API_CHANGES, API_EVERY, native_patch_logs, "log lines as they come, over a client's socket"},
    {"GET", "/internal/{rest...}", 0, API_REFUSED, refuse, "folders of one host"},
    {"*", "/api/assets", 0, API_REFUSED, refuse_assets, "assets of one server"},
    {"*", "/api/assets/{rest...}", 0, API_REFUSED, refuse_assets, "assets of one server"},
    {"*", "/api/tags", 0, API_REFUSED, refuse_assets, "tags of one server's assets"},
    {"*", "/api/tasks/{id}", 0, API_REFUSED, refuse_assets, "downloads of one server"},
    {"*", "/manager/{rest...}", API_TWIN | API_CHANGES, API_REFUSED, native_manager, "ComfyUI-Manager"},
    {"*", "/customnode/{rest...}", API_TWIN | API_CHANGES, API_REFUSED, native_manager, "ComfyUI-Manager: node packs"},
    {"*", "/externalmodel/{rest...}", API_TWIN | API_CHANGES, API_REFUSED, native_manager, "ComfyUI-Manager: models"},
    {"*", "/snapshot/{rest...}", API_TWIN | API_CHANGES, API_REFUSED, native_manager, "ComfyUI-Manager: snapshots"},
    {"*", "/comfyui_manager/{rest...}", API_TWIN | API_CHANGES, API_REFUSED, native_manager, "ComfyUI-Manager: versions"},
    {"*", "/v2/manager/{rest...}", API_TWIN | API_CHANGES, API_REFUSED, native_manager, "ComfyUI-Manager 4"},
    {"*", "/v2/customnode/{rest...}", API_TWIN | API_CHANGES, API_REFUSED, native_manager, "ComfyUI-Manager 4: node packs"},
    {"*", "/v2/externalmodel/{rest...}", API_TWIN | API_CHANGES, API_REFUSED, native_manager, "ComfyUI-Manager 4: models"},
    {"*", "/v2/snapshot/{rest...}", API_TWIN | API_CHANGES, API_REFUSED, native_manager, "ComfyUI-Manager 4: snapshots"},
    {"*", "/v2/comfyui_manager/{rest...}", API_TWIN | API_CHANGES, API_REFUSED, native_manager, "ComfyUI-Manager 4: versions"},
    {"*", "/api/v2/jobs", 0, API_REFUSED, refuse, "Comfy API v2"},
    {"*", "/api/v2/jobs/{rest...}", 0, API_REFUSED, refuse, "Comfy API v2"},
    {"*", "/api/v2/assets", 0, API_REFUSED, refuse, "Comfy API v2"},
    {"*", "/api/v2/assets/{rest...}", 0, API_REFUSED, refuse, "Comfy API v2"},
    {NULL, NULL, 0, API_OWN, NULL, NULL},
};
/* clang-format on */
