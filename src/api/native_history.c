/* GET and POST /history: from our own record, whatever became of the server. */
#include <stdlib.h>
#include <string.h>

#include "api/native.h"

#define HISTORY_MAX 10000 /* as ComfyUI keeps */

/* --- one --- */

static void on_one(struct api *a, struct http_req *req, struct job_record **recp, void *arg)
{
    struct job_record *rec = *recp;
    struct buf b = BUF_INIT;

    (void)arg;
    buf_putc(&b, '{');
    if (rec && !JOB_STATE_LIVE(rec->s.state) && !(rec->s.flags & JOB_F_NO_HISTORY) &&
        !hub_shows_pending(a->hub, rec->s.id))
        native_put_entry(&b, rec);
    buf_putc(&b, '}');
    api_reply_json(req, 200, &b);
}

void native_get_history_one(struct api *a, struct http_req *req, const struct api_params *p)
{
    api_load(a, req, p->v[0], JOB_PART_GRAPH | JOB_PART_HISTORY, on_one, NULL);
}

/* --- all --- */

struct page {
    bool newest; /* rows come newest first */
};

static void on_list(struct store_list *l, void *arg)
{
    struct api_wait *w = arg;
    struct page pg = *(struct page *)w->extra;
    struct api *a = w->a;
    struct buf b = BUF_INIT;
    enum store_status st = l->status;
    struct http_req *req;
    bool any = false;

    buf_putc(&b, '{');
    for (size_t i = 0; w->req && i < l->n; i++) {
        struct job_record *rec = l->rows[pg.newest ? l->n - 1 - i : i];

        if (hub_shows_pending(a->hub, rec->s.id))
            continue;
        buf_puts(&b, any ? ", " : "");
        native_put_entry(&b, rec);
        any = true;
    }
    buf_putc(&b, '}');
    store_list_free(l);
    req = api_wait_end(w);
    if (req && st == STORE_OK)
        api_reply_json(req, 200, &b);
    else if (req)
        api_native_error(req, 500, "internal", "The store could not be read", "");
    buf_free(&b);
}

/* 1: a whole number; 0: absent; -1: something else */
static int query_int(const struct http_req *req, const char *key, int64_t *out)
{
    char *s = api_query(req, key), *end;
    int r;

    if (s == NULL)
        return 0;
    *out = strtoll(s, &end, 10);
    r = s[0] && *end == '\0' ? 1 : -1;
    free(s);
    return r;
}

void native_get_history(struct api *a, struct http_req *req, const struct api_params *p)
{
    struct store_filter f = {.tenant = api_tenant(a, req),
                             .states = JOB_STATES_ENDED,
                             .in_history = true,
                             .limit = HISTORY_MAX,
                             .parts = JOB_PART_GRAPH | JOB_PART_HISTORY};
    int64_t max = HISTORY_MAX, offset = -1;
    int have_max = query_int(req, "max_items", &max), have_offset = query_int(req, "offset", &offset);
    struct api_wait *w;
    struct page *pg;

    (void)p;
    if (have_max < 0 || have_offset < 0) { /* a stock server answers 500 */
        native_bad_body(req, "max_items and offset are whole numbers");
        return;
    }
    if (max <= 0) {
        http_reply_str(req, 200, "application/json; charset=utf-8", "{}");
        return;
    }
    f.limit = (int)(max < HISTORY_MAX ? max : HISTORY_MAX);
    f.oldest_first = have_offset && offset >= 0;
    f.offset = f.oldest_first ? offset : 0;
    pg = xcalloc(1, sizeof(*pg));
    pg->newest = !f.oldest_first;
    w = api_wait_new(a, req);
    w->extra = pg;
    store_list(a->d.store, &f, on_list, w);
}

/* --- POST /history --- */

static void on_hidden(enum store_status st, void *arg)
{
    (void)st;
    many_end(arg);
}

static void on_body(struct api *a, struct http_req *req, struct json body, struct bytes *text)
{
    struct json list = json_get(body, "delete"), key, id;
    struct json_iter it = json_iter(list);
    const char *tenant = api_tenant(a, req);
    struct native_many *m;

    (void)text;
    if (list.p && json_type(list) != JSON_ARRAY) {
        native_bad_body(req, "delete is not a list");
        return;
    }
    m = many_new(a, req);
    if (json_truthy(json_get(body, "clear"))) {
        many_start(m);
        store_hide(a->d.store, tenant, NULL, on_hidden, m);
    }
    while (json_next(&it, &key, &id)) {
        char *s = json_strdup(id);

        if (s) {
            many_start(m);
            store_hide(a->d.store, tenant, s, on_hidden, m);
        }
        free(s);
    }
    many_done(m);
}

void native_post_history(struct api *a, struct http_req *req, const struct api_params *p)
{
    (void)p;
    api_read_json(a, req, true, on_body);
}
