/* /settings and /users. Settings are the file comfy.settings.json among the user's files, as on a stock server. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "api/native.h"
#include "api/user_docs.h"
#include "base/uuid.h"
#include "comfy/pyjson.h"

#define SETTINGS "comfy.settings.json"
#define ACCOUNTS_AREA "accounts" /* no client reaches it by a path */
#define ACCOUNTS "users.json"
#define TEXT "text/plain; charset=utf-8"

/* The last segment of the path, decoded; NULL if it cannot be. The caller frees. */
static char *last_segment(const struct http_req *req, size_t *n)
{
    const char *last = strrchr(http_req_path(req), '/') + 1;
    struct buf b = BUF_INIT;

    if (http_unescape(last, strlen(last), false, &b) < 0 || b.len == 0) {
        buf_free(&b);
        return NULL;
    }
    *n = b.len;
    return buf_take(&b);
}

static void refuse(struct http_req *req, enum user_doc_end end, const char *why)
{
    int status = end == USER_DOC_FULL        ? 507
                 : end == USER_DOC_TOO_LARGE ? 413
                 : end == USER_DOC_REFUSED   ? 400
                                             : 500;

    http_reply_str(req, status, TEXT, why);
}

/* --- reading --- */

static void on_settings(enum user_doc_end end, struct bytes *text, const char *why, void *arg)
{
    struct api_wait *w = arg;
    char *id = w->extra;
    struct buf b = BUF_INIT;
    struct http_req *req;
    struct json doc;

    w->extra = NULL;
    req = api_wait_end(w);
    if (req && end != USER_DOC_OK) {
        refuse(req, end, why);
    } else if (req) {
        bool none = text == NULL || json_check(text->data, text->len, NULL, &doc, NULL) < 0;

        if (none || (id && json_type(doc) != JSON_OBJECT))
            buf_puts(&b, id ? "null" : "{}");
        else
            py_put_json(&b, id ? json_getn(doc, id, strlen(id)) : doc, 0);
        api_reply_json(req, 200, &b);
    }
    free(id);
}

static void read_settings(struct api *a, struct http_req *req, const char *id)
{
    struct api_wait *w = api_wait_new(a, req);

    w->extra = xstrdup_null(id);
    user_doc_read(a, api_tenant(a, req), USER_DATA, SETTINGS, on_settings, w);
}

void native_get_settings(struct api *a, struct http_req *req, const struct api_params *p)
{
    (void)p;
    read_settings(a, req, NULL);
}

void native_get_setting(struct api *a, struct http_req *req, const struct api_params *p)
{
    read_settings(a, req, p->v[0]);
}

/* --- writing --- */

static void on_changed(enum user_doc_end end, const char *why, void *arg)
{
    struct http_req *req = api_wait_end(arg);

    if (req && end == USER_DOC_OK)
        http_reply_empty(req, 200);
    else if (req)
        refuse(req, end, why);
}

static void merge(struct api *a, struct http_req *req, struct json body, struct bytes *text)
{
    (void)text;
    if (json_type(body) != JSON_OBJECT) {
        native_bad_body(req, "not an object");
    } else {
        struct bytes *patch = bytes_new(body.p, body.n);

        user_doc_change(a, api_tenant(a, req), USER_DATA, SETTINGS, patch, NULL, on_changed,
                        api_wait_new(a, req));
        bytes_unref(patch);
    }
}

void native_post_settings(struct api *a, struct http_req *req, const struct api_params *p)
{
    (void)p;
    api_read_json(a, req, true, merge);
}

static void set_one(struct api *a, struct http_req *req, struct json body, struct bytes *text)
{
    struct buf b = BUF_INIT;
    struct bytes *patch;
    size_t n = 0;
    char *id = last_segment(req, &n);

    (void)text;
    if (id == NULL) {
        http_reply_empty(req, 400);
        return;
    }
    buf_putc(&b, '{');
    json_put_strn(&b, id, n);
    buf_puts(&b, ": ");
    json_put(&b, body);
    buf_putc(&b, '}');
    patch = buf_to_bytes(&b);
    user_doc_change(a, api_tenant(a, req), USER_DATA, SETTINGS, patch, NULL, on_changed,
                    api_wait_new(a, req));
    bytes_unref(patch);
    free(id);
}

void native_post_setting(struct api *a, struct http_req *req, const struct api_params *p)
{
    (void)p;
    api_read_json(a, req, true, set_one);
}

/* --- users: one only, as long as there are no tenants. More may be added, as on a stock server in single-user mode. --- */

static void on_any(const struct store_file *f, void *arg)
{
    struct http_req *req = api_wait_end(arg);

    if (req && f->status != STORE_NOT_FOUND && f->status != STORE_CONFLICT)
        http_reply_str(req, 500, TEXT, "The gateway's store failed");
    else if (req)
        http_reply_str(req, 200, "application/json; charset=utf-8",
                       f->status == STORE_CONFLICT ? "{\"storage\": \"server\", \"migrated\": true}"
                                                   : "{\"storage\": \"server\", \"migrated\": false}");
}

void native_get_users(struct api *a, struct http_req *req, const struct api_params *p)
{
    (void)p;
    store_user_find(a->d.store, api_tenant(a, req), USER_DATA, "", on_any, api_wait_new(a, req));
}

struct account {
    char *name; /* as it was sent */
    struct buf id;
};

static void account_free(struct account *u)
{
    free(u->name);
    buf_free(&u->id);
    free(u);
}

static const char *name_is_free(struct json doc, void *arg)
{
    struct api_wait *w = arg;
    const struct account *u = w->extra;
    struct json_iter it = json_iter(doc);
    struct json k, v;

    if (strcmp(u->name, "default") == 0)
        return "Duplicate username.";
    while (json_next(&it, &k, &v))
        if (json_str_eq(v, u->name))
            return "Duplicate username.";
    return NULL;
}

static void user_error(struct http_req *req, const char *why)
{
    struct buf b = BUF_INIT;
    struct jsonw w;

    jsonw_init(&w, &b);
    jsonw_obj(&w);
    jsonw_kstr(&w, "error", why);
    jsonw_obj_end(&w);
    api_reply_json(req, 400, &b);
}

static void on_added(enum user_doc_end end, const char *why, void *arg)
{
    struct api_wait *w = arg;
    struct account *u = w->extra;
    struct buf b = BUF_INIT;
    struct http_req *req;

    w->extra = NULL;
    req = api_wait_end(w);
    if (req && end == USER_DOC_OK) {
        json_put_str(&b, buf_str(&u->id));
        api_reply_json(req, 200, &b);
    } else if (req && end == USER_DOC_REFUSED) {
        user_error(req, why);
    } else if (req) {
        refuse(req, end, why);
    }
    account_free(u);
}

/* Letters, digits, - and _ stay, what stands between becomes one -; and a UUID. */
static void put_user_id(struct api *a, struct buf *id, const char *name)
{
    char uuid[UUID_SIZE];

    for (; *name; name++)
        if (isalnum((unsigned char)*name) || *name == '-' || *name == '_')
            buf_putc(id, *name);
        else if (id->len == 0 || id->data[id->len - 1] != '-')
            buf_putc(id, '-');
    uuid_v4(a->d.clock, uuid);
    buf_printf(id, "_%s", uuid);
}

static void add_account(struct api *a, struct http_req *req, struct account *u)
{
    char *trimmed = u->name + strspn(u->name, " \t\r\n");
    struct buf b = BUF_INIT;
    struct bytes *patch;
    struct api_wait *w;

    put_user_id(a, &u->id, trimmed);
    buf_putc(&b, '{');
    json_put_str(&b, buf_str(&u->id));
    buf_puts(&b, ": ");
    json_put_str(&b, trimmed);
    buf_putc(&b, '}');
    patch = buf_to_bytes(&b);
    w = api_wait_new(a, req);
    w->extra = u;
    user_doc_change(a, api_tenant(a, req), ACCOUNTS_AREA, ACCOUNTS, patch, name_is_free, on_added, w);
    bytes_unref(patch);
}

static void add_user(struct api *a, struct http_req *req, struct json body, struct bytes *text)
{
    char *name = json_strdup(json_get(body, "username")), *end;
    struct account *u;

    (void)text;
    if (name == NULL) {
        user_error(req, "username not provided");
        return;
    }
    for (end = name + strlen(name); end > name && strchr(" \t\r\n", end[-1]); end--)
        ;
    *end = '\0';
    if (name[strspn(name, " \t\r\n")] == '\0') {
        user_error(req, "username not provided");
        free(name);
    } else if (strncmp(name, "__", 2) == 0) {
        user_error(req, "System User prefix not allowed");
        free(name);
    } else {
        u = xcalloc(1, sizeof(*u));
        u->name = name;
        add_account(a, req, u);
    }
}

void native_post_users(struct api *a, struct http_req *req, const struct api_params *p)
{
    (void)p;
    api_read_json(a, req, true, add_user);
}
