/* GET /mux/v1/jobs: the table of jobs. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/mux.h"

#define LIST_DEFAULT 100
#define LIST_MAX 1000
#define PARTS_BRIEF (JOB_PART_FEW | JOB_PART_ERROR)

/* --- what is asked for --- */

bool mux_count_parse(const char *s, int64_t max, int64_t *out)
{
    *out = 0;
    for (; *s >= '0' && *s <= '9'; s++) {
        if (*out > (INT64_MAX - 9) / 10)
            return false;
        *out = *out * 10 + (*s - '0');
    }
    return *s == '\0' && *out >= 1 && *out <= max;
}

/* "queued,running" -> bits; false for a name that is no state. An empty text is every state. */
static bool parse_states(char *s, uint32_t *out)
{
    char *save, *name;
    int state;

    *out = 0;
    for (name = strtok_r(s, ",", &save); name; name = strtok_r(NULL, ",", &save)) {
        state = job_state_parse(name);
        if (state < 0)
            return false;
        *out |= JOB_STATE_BIT((unsigned)state);
    }
    return true;
}

struct list_query {
    char *state, *client_id, *window_id, *server, *kind, *limit, *after, *view;
};

static void query_fini(struct list_query *q)
{
    free(q->state);
    free(q->client_id);
    free(q->window_id);
    free(q->server);
    free(q->kind);
    free(q->limit);
    free(q->after);
    free(q->view);
}

char *mux_query(const struct http_req *req, const char *key)
{
    char *s = api_query(req, key);

    if (s && s[0] == '\0') {
        free(s);
        return NULL;
    }
    return s;
}

static bool is_kind(const char *s)
{
    static const char *const kinds[] = {"image", "video", "audio", "text", "file", "latent", "3d", "json"};

    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        if (strcmp(s, kinds[i]) == 0)
            return true;
    return false;
}

/* NULL, or what is wrong with it. */
static const char *query_take(const struct http_req *req, struct list_query *q, struct store_filter *f)
{
    int64_t limit = LIST_DEFAULT;

    q->state = mux_query(req, "state");
    q->client_id = mux_query(req, "client_id");
    q->window_id = mux_query(req, "window_id");
    q->server = mux_query(req, "server");
    q->kind = mux_query(req, "kind");
    q->limit = mux_query(req, "limit");
    q->after = mux_query(req, "after");
    q->view = mux_query(req, "view");
    if (q->state && !parse_states(q->state, &f->states))
        return "state is a list, parted by commas, of queued dispatching running collecting succeeded failed "
               "canceled expired";
    if (q->limit && !mux_count_parse(q->limit, LIST_MAX, &limit))
        return "limit is a whole number from 1 to 1000";
    if (q->after && !mux_count_parse(q->after, INT64_MAX, &f->after))
        return "after is what an earlier answer gave as next";
    if (q->kind && !is_kind(q->kind))
        return "kind is one of image video audio text file latent 3d json";
    if (q->view && strcmp(q->view, "brief") != 0 && strcmp(q->view, "full") != 0)
        return "view is full or brief";
    f->parts = q->view && q->view[0] == 'b' ? PARTS_BRIEF : JOB_PART_RECORD;
    f->client_id = q->client_id;
    f->window_id = q->window_id;
    f->server = q->server;
    f->kind = q->kind;
    f->limit = (int)limit;
    return NULL;
}

static void put_page(struct api *a, const struct store_list *l, bool brief, struct buf *b)
{
    struct fleet_server v[MUX_SERVERS];
    size_t n = fleet_servers(registry_fleet(a->d.registry), v, MUX_SERVERS);
    char next[24];
    struct jsonw w;

    if (n > MUX_SERVERS)
        n = MUX_SERVERS;
    snprintf(next, sizeof(next), "%lld", (long long)l->next);
    jsonw_init(&w, b);
    jsonw_obj(&w);
    jsonw_key(&w, "jobs");
    jsonw_arr(&w);
    for (size_t i = 0; i < l->n; i++)
        if (brief)
            mux_put_brief(&w, l->rows[i], v, n, a->runner);
        else
            mux_put_record(&w, l->rows[i], v, n, a->runner);
    jsonw_arr_end(&w);
    jsonw_kstr(&w, "next", l->next ? next : NULL);
    jsonw_obj_end(&w);
}

struct list_wait {
    bool brief;
};

static void on_list(struct store_list *l, void *arg)
{
    struct api_wait *w = arg;
    struct list_wait x = *(struct list_wait *)w->extra;
    struct api *a = w->a;
    struct http_req *req = api_wait_end(w);
    struct buf b = BUF_INIT;

    if (req && l->status == STORE_OK) {
        put_page(a, l, x.brief, &b);
        api_reply_json(req, 200, &b);
    } else if (req) {
        api_error(req, 500, "internal", "the store could not be read", NULL);
    }
    store_list_free(l);
}

void mux_get_jobs(struct api *a, struct http_req *req, const struct api_params *p)
{
    struct store_filter f = {.tenant = api_tenant(a, req)};
    struct list_query q = {NULL};
    const char *fault = query_take(req, &q, &f);
    struct list_wait *x;
    struct api_wait *w;

    (void)p;
    if (fault) {
        api_error(req, 400, "bad_request", fault, NULL);
    } else {
        x = xcalloc(1, sizeof(*x));
        x->brief = f.parts == PARTS_BRIEF;
        w = api_wait_new(a, req);
        w->extra = x;
        store_list(a->d.store, &f, on_list, w);
    }
    query_fini(&q);
}
