/* The native dialect's part of the route table. What is not here and is only read goes to the primary server: its
 * frontend, extensions, templates, models. */
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

static void no_primary(struct http_req *req, const char *why, void *arg)
{
    (void)why;
    (void)arg;
    http_reply_str(req, 502, "text/plain; charset=utf-8", "no ComfyUI server can be reached\n");
}

/* Reading only: what changes a server is no business of a gateway in front of many. */
/* What speaks of jobs, of files made or of a server's own affairs is never one server's to say. */
static bool is_private(const char *path)
{
    static const char *const prefixes[] = {"/internal/", "/jobs",   "/assets", "/tags",   "/history",
                                           "/queue",     "/prompt", "/view",   "/upload", NULL};

    while (strncmp(path, "/api/", 5) == 0)
        path += 4;
    for (const char *const *p = prefixes; *p; p++)
        if (strncmp(path, *p, strlen(*p)) == 0 && strncmp(path, "/view_metadata", 14) != 0)
            return true;
    return false;
}

void native_from_primary(struct api *a, struct http_req *req, const struct api_params *p)
{
    const char *name = registry_primary(a->d.registry);
    struct http_client *c = name ? registry_client(a->d.registry, name) : NULL;
    static const char *const drop[] = {"Origin", "Referer",
                                       NULL}; /* its guard compares them with its own address */
    struct http_pass pass = {.drop = drop, .on_unreachable = no_primary};

    (void)p;
    if (!api_path_is_plain(http_req_path(req)) || is_private(http_req_path(req)) || http_wants_websocket(req))
        http_reply_empty(req, 404); /* a server's own logs and folders; sockets that are not ours */
    else if (c)
        http_pass_through(req, c, &pass);
    else
        no_primary(req, "", NULL);
}

const struct api_route native_routes[] = {
    {"POST", "/prompt", API_TWIN | API_CHANGES, native_post_prompt, "submit a job"},
    {"GET", "/prompt", API_TWIN, native_get_prompt, "how many jobs are left"},
    {"GET", "/queue", API_TWIN, native_get_queue, "what waits and what runs"},
    {"POST", "/queue", API_TWIN | API_CHANGES, native_post_queue, "take waiting jobs away"},
    {"POST", "/interrupt", API_TWIN | API_CHANGES, native_post_interrupt,
     "stop a job, or the caller's running ones"},
    {"GET", "/history", API_TWIN, native_get_history, "ended jobs, oldest first"},
    {"GET", "/history/{id}", API_TWIN, native_get_history_one, "one ended job"},
    {"POST", "/history", API_TWIN | API_CHANGES, native_post_history, "take ended jobs out of history"},
    {"GET", "/view", API_TWIN, native_get_view, "a file by its names"},
    {"POST", "/upload/image", API_TWIN | API_CHANGES, native_post_upload, "store a file that jobs may read"},
    {"GET", "/object_info", API_TWIN, native_get_object_info, "all node classes of the fleet"},
    {"GET", "/object_info/{class}", API_TWIN, native_get_object_info_class, "one node class"},
    {"GET", "/features", API_TWIN, native_get_features, "what this server supports"},
    {"GET", "/system_stats", API_TWIN, native_get_system_stats, "versions and devices of the fleet"},
    {"GET", "/ws", API_TWIN | API_CHANGES, native_ws, "events, by WebSocket"},
    {"GET", "/embeddings", API_TWIN, native_from_primary, "names of embeddings"},
    {"GET", "/models", API_TWIN, native_from_primary, "model folders"},
    {"GET", "/models/{folder...}", API_TWIN, native_from_primary, "names of models"},
    {"GET", "/extensions", API_TWIN, native_from_primary, "the frontend's extensions"},
    {NULL, NULL, 0, NULL, NULL},
};
