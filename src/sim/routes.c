/* Which request goes where. Every handler route exists twice, as /x and as /api/x; what nobody knows is
 * answered as a static mount at / would (recording f3). */
#include <string.h>
#include <strings.h>

#include "base/log.h"
#include "sim/server_impl.h"

enum { GET = 1, POST = 2, DELETE = 4, PATCH = 8, NO_TWIN = 16 };

static const struct route {
    const char *path; /* without /api. ?: a segment, which may be encoded; *: whatever follows */
    unsigned flags;
    route_cb *cb;
} routes[] = {
    {"/prompt", GET, get_prompt},
    {"/prompt", POST, post_prompt},
    {"/queue", GET, get_queue},
    {"/queue", POST, post_queue},
    {"/history", GET, get_history},
    {"/history", POST, post_history},
    {"/history/?", GET, get_history_one},
    {"/interrupt", POST, post_interrupt},
    {"/free", POST, post_free},
    {"/object_info", GET, get_object_info},
    {"/object_info/?", GET, get_object_info_one},
    {"/models", GET, get_models},
    {"/models/?", GET, get_models_one},
    {"/experiment/models", GET, get_experiment_models},
    {"/experiment/models/?", GET, get_experiment_models_one},
    {"/experiment/models/preview/*", GET, get_bare_404},
    {"/view_metadata/?", GET, get_bare_404},
    {"/embeddings", GET, get_embeddings},
    {"/system_stats", GET, get_system_stats},
    {"/features", GET, get_features},
    {"/extensions", GET, get_extensions},
    {"/i18n", GET, get_empty_object},
    {"/workflow_templates", GET, get_empty_object},
    {"/global_subgraphs", GET, get_empty_object},
    {"/users", GET, get_users},
    {"/users", POST, post_users},
    {"/settings", GET, get_settings},
    {"/settings", POST, post_settings},
    {"/settings/?", GET, get_setting},
    {"/settings/?", POST, post_setting},
    {"/userdata", GET, get_userdata_list},
    {"/userdata/?", GET, get_userdata},
    {"/userdata/?", POST, post_userdata},
    {"/userdata/?", DELETE, delete_userdata},
    {"/userdata/?/move/?", POST, move_userdata},
    {"/v2/userdata", GET, get_userdata_tree},
    {"/view", GET, get_view},
    {"/upload/image", POST, post_upload_image},
    {"/upload/mask", POST, post_upload_mask},
    {"/ws", GET, get_ws},
    {"/internal/logs", GET | NO_TWIN, get_internal_logs},
    {"/internal/logs/raw", GET | NO_TWIN, get_internal_logs_raw},
    {"/internal/logs/subscribe", PATCH | NO_TWIN, patch_logs},
    {"/internal/folder_paths", GET | NO_TWIN, get_folder_paths},
    {"/internal/files/?", GET | NO_TWIN, get_internal_files},
    {"/", GET | NO_TWIN, get_index},
    {"/index.html", GET | NO_TWIN, get_index},
    {"/api/", GET | NO_TWIN, get_index},
};

static unsigned method_bit(enum http_method m)
{
    switch (m) {
    case HTTP_GET:
    case HTTP_HEAD: return GET;
    case HTTP_POST: return POST;
    case HTTP_DELETE: return DELETE;
    case HTTP_PATCH: return PATCH;
    case HTTP_PUT:
    case HTTP_OPTIONS:
    case HTTP_OTHER: break;
    }
    return 0;
}

/* What stands at the first ? or *, "" if there is none; NULL: another path. */
static const char *match_path(const char *pattern, const char *path)
{
    const char *rest = NULL;

    for (; *pattern && *pattern != '*'; pattern++) {
        size_t n = *pattern == '?' ? strcspn(path, "/") : *path == *pattern;

        if (n == 0)
            return NULL;
        if (*pattern == '?' && !rest)
            rest = path;
        path += n;
    }
    if (*pattern == '*')
        return *path ? path : NULL;
    return *path ? NULL : rest ? rest : "";
}

static const char *match(const struct route *rt, const char *path)
{
    const char *rest = match_path(rt->path, path);

    if (!rest && !(rt->flags & NO_TWIN) && strncmp(path, "/api/", 5) == 0)
        rest = match_path(rt->path, path + 4);
    return rest;
}

/* --- the Origin guard: a page from elsewhere may not talk to a server on loopback --- */

static void split_host(const char *s, char *host, size_t cap, const char **port)
{
    size_t n = *s == '[' ? strcspn(s, "]") + 1 : strcspn(s, ":/");

    if (n > strlen(s))
        n = strlen(s);
    *port = s[n] == ':' ? s + n + 1 : "";
    if (n >= cap)
        n = cap - 1;
    memcpy(host, s, n);
    host[n] = '\0';
}

static bool is_loopback(const char *host)
{
    return strcasecmp(host, "localhost") == 0 || strcmp(host, "[::1]") == 0 || strncmp(host, "127.", 4) == 0;
}

static bool foreign_origin(const struct http_req *r)
{
    const char *origin = http_req_header(r, "Origin"), *host = http_req_header(r, "Host"), *scheme;
    char oh[256], hh[256];
    const char *op, *hp;

    if (!origin || !host || !(scheme = strstr(origin, "://")))
        return false; /* "null" and empty pass, as in ComfyUI */
    split_host(scheme + 3, oh, sizeof(oh), &op);
    split_host(host, hh, sizeof(hh), &hp);
    if (!is_loopback(hh) || !*oh)
        return false;
    if (strcasecmp(oh, hh) != 0)
        return true;
    return *op && *hp && strcmp(op, hp) != 0; /* ports only where both have one */
}

static bool is_odd_path(const char *path)
{
    return strncmp(path, "//", 2) == 0 || strstr(path, "..") || strcasestr(path, "%2e%2e");
}

static void set_caching(struct http_req *r, const char *path)
{
    const char *dot = strrchr(path, '.');

    if (dot && (strcmp(dot, ".js") == 0 || strcmp(dot, ".css") == 0))
        http_set(r, "Cache-Control", "no-cache");
    else if (dot && strncmp(files_mime(dot), "image/", 6) == 0)
        http_set(r, "Cache-Control", "public, max-age=86400");
}

static void nobody(struct http_req *r, const char *path, unsigned known)
{
    if (method_bit(http_req_method(r)) != GET) {
        const char *allow = known & POST ? "GET,HEAD,POST" : "GET,HEAD";

        reply_405(r, allow);
        return;
    }
    if (is_odd_path(path) || strncmp(path, "/internal/", 10) == 0) {
        http_reply_str(r, 404, "text/plain; charset=utf-8", "404: Not Found");
        return;
    }
    set_caching(r, path);
    reply_none(r, 404);
}

static void dispatch(struct sim_server *s, struct http_req *r)
{
    const char *path = http_req_path(r);
    unsigned bit = method_bit(http_req_method(r)), known = 0;

    if (foreign_origin(r)) {
        reply_empty(r, 403);
        return;
    }
    if (http_req_method(r) == HTTP_OPTIONS) {
        reply_empty(r, 200);
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(routes); i++) {
        const char *rest = match(&routes[i], path);

        if (!rest)
            continue;
        known |= routes[i].flags & (GET | POST | DELETE | PATCH);
        if (bit & routes[i].flags) {
            set_caching(r, path);
            routes[i].cb(s, r, rest);
            return;
        }
    }
    nobody(r, path, known);
}

static void not_ready(struct http_req *r, void *arg)
{
    dispatch(arg, r);
}

void route_request(struct http_req *r, void *arg)
{
    struct sim_server *s = arg;
    int64_t wait = s->ready_at - loop_now(s->loop);

    log_debug(LOG_S("sim", s->name), LOG_S("method", http_req_method_name(r)),
              LOG_S("path", http_req_path(r)));
    if (wait > 0)
        server_later(s, r, wait, not_ready, NULL, s);
    else
        dispatch(s, r);
}
