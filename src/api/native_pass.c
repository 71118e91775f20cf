/* Requests that a server answers: passed on to it, both ways as a stream. */
#include <string.h>

#include "api/native.h"

static void no_primary(struct http_req *req, const char *why, void *arg)
{
    (void)why;
    (void)arg;
    http_reply_str(req, 502, "text/plain; charset=utf-8", "no ComfyUI server can be reached\n");
}

void native_from_primary(struct api *a, struct http_req *req, const struct api_params *p)
{
    const char *name = registry_primary(a->d.registry);
    struct http_client *c = name ? registry_client(a->d.registry, name) : NULL;
    static const char *const drop[] = {"Origin", "Referer",
                                       NULL}; /* its guard compares them with its own address */
    struct http_pass pass = {.drop = drop, .on_unreachable = no_primary};

    (void)p;
    if (!api_path_is_plain(http_req_path(req)) || http_wants_websocket(req))
        http_reply_empty(req, 404);
    else if (c)
        http_pass_through(req, c, &pass);
    else
        no_primary(req, "", NULL);
}

static const char *without_api(const char *path)
{
    while (strncmp(path, "/api/", 5) == 0)
        path += 4;
    return path;
}

/* Does the path lie at or below the fixed part of this pattern? "/history/{id}": of "/history". */
static bool lies_below(const char *path, const char *pattern)
{
    size_t n = strcspn(pattern, "{");

    while (n > 0 && pattern[n - 1] == '/')
        n--;
    return n > 0 && strncmp(path, pattern, n) == 0 && (path[n] == '/' || path[n] == '\0');
}

bool native_is_private(const char *path)
{
    path = without_api(path);
    for (const struct api_route *r = native_routes; r->method; r++)
        if (r->who != API_PRIMARY && lies_below(path, without_api(r->path)))
            return true;
    return false;
}
