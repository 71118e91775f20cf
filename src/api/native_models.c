/* Models: what any server has, the fleet has. Lists are asked of every server and made one; what is to be said of one file
 * is asked of one server after the other, until one has it. */
#include <stdlib.h>
#include <string.h>

#include "api/native.h"
#include "api/native_ask.h"
#include "api/shared.h"
#include "base/hash.h"
#include "base/log.h"
#include "comfy/splice.h"
#include "job/scheduler.h"

#define LIST_MAX ((size_t)8 << 20) /* bytes of one server's list */
#define LIST_MS 10000              /* a server that takes longer is left out */

/* --- lists --- */

struct seen {
    UT_hash_handle hh;
    char *key;
};

static bool seen_before(struct seen **set, struct json v)
{
    char *key = json_strdup(json_type(v) == JSON_OBJECT ? json_get(v, "name") : v);
    struct seen *s;

    if (key == NULL)
        return true; /* nothing that could be asked for */
    HASH_FIND_STR(*set, key, s);
    if (s) {
        free(key);
        return true;
    }
    s = xcalloc(1, sizeof(*s));
    s->key = key;
    HASH_ADD_KEYPTR(hh, *set, s->key, strlen(s->key), s);
    return false;
}

static void seen_free(struct seen **set)
{
    struct seen *s, *tmp;

    HASH_ITER(hh, *set, s, tmp) {
        HASH_DEL(*set, s);
        free(s->key);
        free(s);
    }
}

/* Where a server keeps its folders is its own affair. */
static void put_element(struct buf *b, struct json v)
{
    struct edits e = EDITS_INIT;
    struct json folders = json_get(v, "folders");

    if (json_type(v) == JSON_OBJECT && folders.p)
        edits_replace(&e, folders, "[]", 2);
    edits_put(&e, b, v);
    edits_fini(&e);
}

/* The union of arrays of names, or of objects with a name: of those with one name the first. False: no server had one. */
static bool put_union(struct buf *b, const struct native_answer *v, size_t n)
{
    struct seen *set = NULL;
    bool any = false, first = true;

    buf_putc(b, '[');
    for (size_t i = 0; i < n; i++) {
        struct json list, key, x;
        struct json_iter it;

        if (!native_answer_json(&v[i], JSON_ARRAY, &list))
            continue;
        any = true;
        it = json_iter(list);
        while (json_next(&it, &key, &x)) {
            if (seen_before(&set, x))
                continue;
            buf_puts(b, first ? "" : ", ");
            put_element(b, x);
            first = false;
        }
    }
    buf_putc(b, ']');
    seen_free(&set);
    return any;
}

static void on_lists(struct api *a, const struct native_answer *v, size_t n, void *arg)
{
    struct buf b = BUF_INIT;
    bool any, heard = false;

    (void)a;
    for (size_t i = 0; i < n; i++)
        heard = heard || v[i].status == 404;
    any = put_union(&b, v, n);
    if (any) {
        struct bytes *body = buf_to_bytes(&b);

        shared_answer(arg, 200, body, NULL);
        bytes_unref(body);
    } else {
        shared_answer(arg, heard ? 404 : 502, NULL, NULL);
    }
    buf_free(&b);
}

static const char *own_path(const struct http_req *req)
{
    const char *path = http_req_path(req);

    return strncmp(path, "/api/", 5) == 0 ? path + 4 : path;
}

void native_get_model_list(struct api *a, struct http_req *req, const struct api_params *p)
{
    struct native_question q = {
        .method = "GET", .target = own_path(req), .max = LIST_MAX, .total_ms = LIST_MS};
    struct shared *s;

    (void)p;
    if (!api_path_is_plain(http_req_path(req))) {
        http_reply_empty(req, 404);
        return;
    }
    s = shared_join(&a->asked, a, req, q.target);
    if (s)
        native_ask(a, &q, on_lists, s);
}

/* --- one file --- */

struct search {
    struct api *a;
    char *target;
    size_t next, n;
    char *names[];
};

static void search_free(void *arg)
{
    struct search *s = arg;

    for (size_t i = 0; i < s->n; i++)
        free(s->names[i]);
    free(s->target);
    free(s);
}

static void search_go(struct search *s, struct http_req *req);

static bool has_it(int status, void *arg)
{
    (void)arg;
    return status != 404 && status < 500;
}

/* Not there: what is left of the search goes over to the next pass, the old one frees its own. */
static void on_not_there(struct http_req *req, const char *why, void *arg)
{
    struct search *s = arg, *rest = xcalloc(1, sizeof(*rest) + s->n * sizeof(char *));

    (void)why;
    rest->a = s->a;
    rest->target = xstrdup(s->target);
    for (size_t i = s->next; i < s->n; i++)
        rest->names[rest->n++] = xstrdup(s->names[i]);
    search_go(rest, req);
}

static void search_go(struct search *s, struct http_req *req)
{
    struct http_pass pass = {.target = s->target,
                             .drop = native_pass_drop,
                             .drop_answer = native_pass_drop_answer,
                             .wants = has_it,
                             .on_unreachable = on_not_there,
                             .release = search_free,
                             .arg = s};

    while (s->next < s->n) {
        struct http_client *c = registry_client(s->a->d.registry, s->names[s->next++]);

        if (c) {
            http_pass_through(req, c, &pass);
            return;
        }
    }
    http_reply_empty(req, 404);
    search_free(s);
}

void native_get_model_file(struct api *a, struct http_req *req, const struct api_params *p)
{
    struct fleet_server v[SCHED_SERVERS_MAX];
    size_t n = fleet_servers(registry_fleet(a->d.registry), v, SCHED_SERVERS_MAX);
    const char *primary = registry_primary(a->d.registry), *query = http_req_query(req);
    struct search *s;

    (void)p;
    if (!api_path_is_plain(http_req_path(req)) || http_req_content_length(req) != 0) {
        http_reply_empty(req, 404);
        return;
    }
    s = xcalloc(1, sizeof(*s) + (n + 1) * sizeof(char *));
    s->a = a;
    s->target = xasprintf("%s%s%s", own_path(req), *query ? "?" : "", query);
    if (primary)
        s->names[s->n++] = xstrdup(primary);
    for (size_t i = 0; i < n && i < SCHED_SERVERS_MAX; i++)
        if (primary == NULL || strcmp(v[i].name, primary) != 0)
            s->names[s->n++] = xstrdup(v[i].name);
    search_go(s, req);
}
