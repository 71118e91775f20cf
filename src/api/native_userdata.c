/* /userdata: what users keep, by path. As on a stock server, but that folders are there only as long as a file is below
 * them, and that the bytes are ours: they outlive the gateway's process and every server. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "api/body_blob.h"
#include "api/native.h"
#include "api/user_docs.h"
#include "base/log.h"
#include "comfy/names.h"

#define TEXT "text/plain; charset=utf-8"

static bool query_says(const struct http_req *req, const char *key, const char *value)
{
    char *v = api_query(req, key);
    bool is = v && strcasecmp(v, value) == 0;

    free(v);
    return is;
}

/* "false" and nothing else keeps what is there. */
static bool may_overwrite(const struct http_req *req)
{
    char *v = api_query(req, "overwrite");
    bool may = v == NULL || strcmp(v, "false") != 0;

    free(v);
    return may;
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

/* What the caller must hear when a file could not be changed. */
static void refuse(struct http_req *req, enum store_status st, const char *path)
{
    log_info(LOG_S("event", "userdata_refused"), LOG_S("path", path), LOG_S("reason", store_status_name(st)));
    switch (st) {
    case STORE_NOT_FOUND: http_reply_empty(req, 404); break;
    case STORE_EXISTS: http_reply_str(req, 409, TEXT, "File already exists"); break;
    case STORE_CONFLICT:
        http_reply_str(req, 400, TEXT, "Invalid filename: it is a folder, or leads through a file");
        break;
    case STORE_LIMIT: http_reply_str(req, 507, TEXT, "There are too many files"); break;
    case STORE_FULL: http_reply_str(req, 507, TEXT, "No space left on the gateway's disk"); break;
    default: http_reply_str(req, 500, TEXT, "The gateway's store failed");
    }
}

/* The path that a segment of the request's path means; NULL: refused. The caller frees. */
static char *path_of(struct http_req *req, const char *segment)
{
    struct buf b = BUF_INIT;
    enum name_user r = name_user_path(segment, strlen(segment), &b);

    if (r == NAME_USER_OK)
        return buf_take(&b);
    buf_free(&b);
    if (r == NAME_USER_ESCAPES)
        http_reply_empty(req, 403);
    else
        http_reply_str(req, 400, TEXT, "Invalid filename");
    return NULL;
}

/* --- what is said of a file --- */

static void put_info(struct jsonw *w, const char *path, const struct store_file *f)
{
    jsonw_obj(w);
    jsonw_kstr(w, "path", path);
    jsonw_kint(w, "size", f->size);
    jsonw_kint(w, "modified", f->at);
    jsonw_kint(w, "created", f->created);
    jsonw_obj_end(w);
}

static void reply_stored(struct http_req *req, const struct store_file *f)
{
    struct buf b = BUF_INIT;
    struct jsonw w;

    jsonw_init(&w, &b);
    if (query_says(req, "full_info", "true"))
        put_info(&w, f->name, f);
    else
        jsonw_str(&w, f->name);
    api_reply_json(req, 200, &b);
}

/* --- listings --- */

static struct api_wait *listing_new(struct api *a, struct http_req *req, char *dir)
{
    struct api_wait *w = api_wait_new(a, req);

    w->extra = dir;
    return w;
}

/* Stock listings leave out what begins with a dot, at any depth. */
static bool is_hidden(const char *rel)
{
    return rel[0] == '.' || strstr(rel, "/.");
}

/* [path, part, part ...] */
static void put_split(struct jsonw *w, const char *rel)
{
    jsonw_arr(w);
    jsonw_str(w, rel);
    while (*rel) {
        size_t n = strcspn(rel, "/");

        jsonw_strn(w, rel, n);
        rel += n + (rel[n] == '/');
    }
    jsonw_arr_end(w);
}

static void reply_list(struct http_req *req, const char *dir, const struct store_file *v, size_t n)
{
    bool deep = query_says(req, "recurse", "true"), info = query_says(req, "full_info", "true"),
         split = query_says(req, "split", "true");
    size_t skip = dir[0] ? strlen(dir) + 1 : 0;
    struct buf b = BUF_INIT;
    struct jsonw w;

    jsonw_init(&w, &b);
    jsonw_arr(&w);
    for (size_t i = 0; i < n; i++) {
        const char *rel = v[i].name + skip;

        if (is_hidden(rel) || (!deep && strchr(rel, '/')))
            continue;
        if (info)
            put_info(&w, rel, &v[i]);
        else if (split)
            put_split(&w, rel);
        else
            jsonw_str(&w, rel);
    }
    jsonw_arr_end(&w);
    api_reply_json(req, 200, &b);
}

static void on_list(enum store_status st, const struct store_file *v, size_t n, void *arg)
{
    struct api_wait *w = arg;
    char *dir = w->extra;
    struct http_req *req;

    w->extra = NULL;
    req = api_wait_end(w);
    if (req && (st == STORE_OK || st == STORE_CONFLICT)) /* below a file there is nothing */
        reply_list(req, dir, v, n);
    else if (req && st == STORE_NOT_FOUND)
        http_reply_str(req, 404, TEXT, "Directory not found");
    else if (req)
        refuse(req, st, dir);
    free(dir);
}

void native_get_userdata_list(struct api *a, struct http_req *req, const struct api_params *p)
{
    char *dir = api_query(req, "dir");
    struct buf path = BUF_INIT;

    (void)p;
    if (dir == NULL || dir[0] == '\0')
        http_reply_str(req, 400, TEXT, "Directory not provided");
    else if (name_user_path(dir, strlen(dir), &path) != NAME_USER_OK)
        http_reply_str(req, 403, TEXT, "Invalid directory");
    else
        store_user_list(a->d.store, api_tenant(a, req), USER_DATA, buf_str(&path), on_list,
                        listing_new(a, req, xstrdup(buf_str(&path))));
    buf_free(&path);
    free(dir);
}

/* --- the listing of version 2: folders and files, all below `path` --- */

struct entry {
    const char *path; /* n characters of it */
    size_t n, order;
    const struct store_file *f; /* NULL: a folder */
};

static const char *entry_name(const struct entry *e, size_t *n)
{
    const char *slash = memrchr(e->path, '/', e->n), *name = slash ? slash + 1 : e->path;

    *n = e->n - (size_t)(name - e->path);
    return name;
}

/* Folders first, then by name without case; by path otherwise. */
static int by_kind_and_name(const void *va, const void *vb)
{
    const struct entry *a = va, *b = vb;
    size_t na, nb;
    const char *pa = entry_name(a, &na), *pb = entry_name(b, &nb);
    int c = (a->f != NULL) - (b->f != NULL);

    if (c == 0)
        c = strncasecmp(pa, pb, na < nb ? na : nb);
    if (c == 0)
        c = (na > nb) - (na < nb);
    return c ? c : a->order < b->order ? -1 : 1;
}

/* The files are in order of their paths: what is below one folder stands together. */
static struct entry *entries_of(const struct store_file *v, size_t n, size_t skip, size_t *count)
{
    struct entry *e = NULL;
    const char *last = "";
    size_t cap = 0;

    *count = 0;
    for (size_t i = 0; i < n; i++) {
        for (const char *s = v[i].name + skip; *s; s += strcspn(s, "/"), s += *s == '/') {
            const char *end = s + strcspn(s, "/");
            size_t len = (size_t)(end - v[i].name);

            if (*end && strncmp(last, v[i].name, len + 1) == 0)
                continue; /* a folder that stands there already */
            if (*count == cap) {
                cap = cap ? 2 * cap : 64;
                e = xrealloc(e, cap * sizeof(*e));
            }
            e[*count] = (struct entry){v[i].name, len, *count, *end ? NULL : &v[i]};
            ++*count;
        }
        last = v[i].name;
    }
    return e;
}

static void reply_tree(struct http_req *req, const char *dir, const struct store_file *v, size_t n)
{
    size_t count;
    struct entry *e = entries_of(v, n, dir[0] ? strlen(dir) + 1 : 0, &count);
    struct buf b = BUF_INIT;
    struct jsonw w;

    if (count)
        qsort(e, count, sizeof(*e), by_kind_and_name);
    jsonw_init(&w, &b);
    jsonw_arr(&w);
    for (size_t i = 0; i < count; i++) {
        size_t len;
        const char *name = entry_name(&e[i], &len);

        jsonw_obj(&w);
        jsonw_key(&w, "name");
        jsonw_strn(&w, name, len);
        jsonw_key(&w, "path");
        jsonw_strn(&w, e[i].path, e[i].n);
        jsonw_kstr(&w, "type", e[i].f ? "file" : "directory");
        if (e[i].f) {
            jsonw_kint(&w, "size", e[i].f->size);
            jsonw_key(&w, "modified");
            jsonw_double(&w, (double)e[i].f->at / 1000);
        }
        jsonw_obj_end(&w);
    }
    jsonw_arr_end(&w);
    free(e);
    api_reply_json(req, 200, &b);
}

static void on_tree(enum store_status st, const struct store_file *v, size_t n, void *arg)
{
    struct api_wait *w = arg;
    char *dir = w->extra;
    struct http_req *req;

    w->extra = NULL;
    req = api_wait_end(w);
    if (req && st == STORE_OK)
        reply_tree(req, dir, v, n);
    else if (req && st == STORE_NOT_FOUND)
        http_reply_str(req, 404, TEXT, "Requested path not found");
    else if (req && st == STORE_CONFLICT)
        http_reply_str(req, 400, TEXT, "Requested path is not a directory");
    else if (req)
        refuse(req, st, dir);
    free(dir);
}

void native_get_userdata_tree(struct api *a, struct http_req *req, const struct api_params *p)
{
    char *dir = api_query(req, "path");
    struct buf path = BUF_INIT;

    (void)p;
    if (dir && name_user_path(dir, strlen(dir), &path) != NAME_USER_OK)
        http_reply_str(req, 400, TEXT, "Invalid path requested");
    else
        store_user_list(a->d.store, api_tenant(a, req), USER_DATA, buf_str(&path), on_tree,
                        listing_new(a, req, xstrdup(buf_str(&path))));
    buf_free(&path);
    free(dir);
}

/* --- one file --- */

static void on_found(const struct store_file *f, void *arg)
{
    struct api_wait *w = arg;
    struct api *a = w->a;
    struct http_req *req = api_wait_end(w);

    if (req == NULL)
        return;
    if (f->status == STORE_OK)
        api_reply_blob(a, req,
                       &(struct api_blob){.hash = f->blake3,
                                          .size = f->size,
                                          .name = base_name(f->name),
                                          .at = f->at,
                                          .attached = strcmp(f->name, "user.css") != 0,
                                          .style = strcmp(f->name, "user.css") == 0});
    else if (f->status == STORE_CONFLICT)
        http_reply_empty(req, 403); /* a folder */
    else if (f->status == STORE_NOT_FOUND)
        http_reply_empty(req, 404);
    else
        refuse(req, f->status, "");
}

/* The frontend asks for its style sheet at each start: browsers must not remember an old one. */
static void put_cache_rule(struct http_req *req, const char *path)
{
    size_t n = strlen(path);

    if ((n > 4 && strcmp(path + n - 4, ".css") == 0) || (n > 3 && strcmp(path + n - 3, ".js") == 0))
        http_set(req, "Cache-Control", "no-cache");
}

void native_get_userdata(struct api *a, struct http_req *req, const struct api_params *p)
{
    char *path = path_of(req, p->v[0]);

    if (path && path[0] == '\0') {
        http_reply_empty(req, 403);
    } else if (path) {
        put_cache_rule(req, path);
        store_user_find(a->d.store, api_tenant(a, req), USER_DATA, path, on_found, api_wait_new(a, req));
    }
    free(path);
}

struct put {
    struct api *a;
    char *tenant, *path;
    bool overwrite;
    int64_t pin;
};

static void put_free(struct put *u)
{
    free(u->tenant);
    free(u->path);
    free(u);
}

static void on_committed(const struct store_file *f, void *arg)
{
    struct api_wait *w = arg;
    struct put *u = w->extra;
    struct http_req *req;

    w->extra = NULL;
    req = api_wait_end(w);
    if (u->pin && !u->a->stopped)
        blobs_unpin(u->a->d.blobs, u->pin);
    if (req && f->status == STORE_OK)
        reply_stored(req, f);
    else if (req)
        refuse(req, f->status, u->path);
    put_free(u);
}

static void on_body(struct http_req *req, enum blob_status st, const struct blob_info *info, const char *why,
                    void *arg)
{
    struct put *u = arg;
    struct store_user_put in = {.tenant = u->tenant,
                                .area = USER_DATA,
                                .path = u->path,
                                .at = u->a->d.clock->wall_ms(u->a->d.clock),
                                .when = u->overwrite ? STORE_USER_ANY : STORE_USER_NEW,
                                .files_max = USER_FILES_MAX};
    struct api_wait *w;

    if (st == BLOB_OK && req) {
        w = api_wait_new(u->a, req);
        w->extra = u;
        u->pin = info->pin;
        memcpy(in.blake3, info->blake3, BLAKE3_LEN);
        store_user_put(u->a->d.store, &in, on_committed, w);
        return;
    }
    if (st == BLOB_OK && !u->a->stopped)
        blobs_unpin(u->a->d.blobs, info->pin); /* nobody was told that it is kept */
    if (req) {
        log_warn(LOG_S("event", "userdata_not_stored"), LOG_S("path", u->path), LOG_S("reason", why));
        refuse(req, st == BLOB_FULL ? STORE_FULL : STORE_FAILED, u->path);
    }
    put_free(u);
}

void native_post_userdata(struct api *a, struct http_req *req, const struct api_params *p)
{
    char *path = path_of(req, p->v[0]);
    struct put *u;

    if (path == NULL || path[0] == '\0') {
        if (path)
            refuse(req, STORE_CONFLICT, "");
        free(path);
        return;
    }
    u = xcalloc(1, sizeof(*u));
    *u = (struct put){
        .a = a, .tenant = xstrdup(api_tenant(a, req)), .path = path, .overwrite = may_overwrite(req)};
    body_blob(a, req, a->cfg.upload_max, on_body, u);
}

static void on_removed(enum store_status st, void *arg)
{
    struct http_req *req = api_wait_end(arg);

    if (req && st == STORE_OK)
        http_reply_empty(req, 204);
    else if (req)
        refuse(req, st, "");
}

void native_delete_userdata(struct api *a, struct http_req *req, const struct api_params *p)
{
    char *path = path_of(req, p->v[0]);

    if (path && path[0] == '\0')
        refuse(req, STORE_CONFLICT, "");
    else if (path)
        store_user_remove(a->d.store, api_tenant(a, req), USER_DATA, path, on_removed, api_wait_new(a, req));
    free(path);
}

void native_move_userdata(struct api *a, struct http_req *req, const struct api_params *p)
{
    char *from = path_of(req, p->v[0]), *to = from ? path_of(req, p->v[1]) : NULL;
    struct put *u;
    struct api_wait *w;

    if (from && to && (from[0] == '\0' || to[0] == '\0')) {
        refuse(req, STORE_CONFLICT, from);
    } else if (from && to) {
        u = xcalloc(1, sizeof(*u));
        *u = (struct put){.a = a, .path = xstrdup(to)};
        w = api_wait_new(a, req);
        w->extra = u;
        store_user_move(a->d.store, api_tenant(a, req), USER_DATA, from, to, may_overwrite(req), on_committed,
                        w);
    }
    free(from);
    free(to);
}
