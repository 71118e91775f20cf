/* /mux/v1/servers: the fleet, as its operator sees and changes it. */
#include <stdlib.h>
#include <string.h>

#include "api/mux.h"
#include "api/mux_recent.h"
#include "base/log.h"

#define NAME_MAX_BYTES 64
#define DEPTH_MAX 64
#define TAGS_MAX 64
#define BODY_MAX 65536

/* --- showing --- */

struct bound {
    const char *server;
    struct runner_job_view job; /* valid in this turn */
};

struct fleet_view {
    struct fleet_server v[MUX_SERVERS];
    size_t n;
    struct bound *jobs; /* live jobs that are on a server; valid in this turn */
    size_t n_jobs, cap;
};

static bool add_bound(const struct runner_job_view *job, void *arg)
{
    struct fleet_view *f = arg;

    if (job->s->state == JOB_QUEUED || job->s->server == NULL)
        return true;
    if (f->n_jobs == f->cap) {
        f->cap = f->cap ? 2 * f->cap : 64;
        f->jobs = xrealloc(f->jobs, f->cap * sizeof(*f->jobs));
    }
    f->jobs[f->n_jobs++] = (struct bound){job->s->server, *job};
    return true;
}

static struct fleet_view *view_new(struct api *a)
{
    struct fleet_view *f = xcalloc(1, sizeof(*f));

    f->n = fleet_servers(registry_fleet(a->d.registry), f->v, MUX_SERVERS);
    if (f->n > MUX_SERVERS)
        f->n = MUX_SERVERS;
    if (a->runner)
        runner_each(a->runner, add_bound, f);
    return f;
}

static void view_free(struct fleet_view *f)
{
    free(f->jobs);
    free(f);
}

static void put_running(struct jsonw *w, const struct fleet_view *f, const struct fleet_server *s)
{
    jsonw_key(w, "running");
    jsonw_arr(w);
    for (size_t i = 0; i < f->n_jobs; i++)
        if (strcmp(f->jobs[i].server, s->name) == 0)
            jsonw_str(w, f->jobs[i].job.s->id);
    jsonw_arr_end(w);
    jsonw_key(w, "jobs");
    jsonw_arr(w);
    for (size_t i = 0; i < f->n_jobs; i++) {
        const struct job_summary *j = f->jobs[i].job.s;

        if (strcmp(f->jobs[i].server, s->name) != 0)
            continue;
        jsonw_obj(w);
        jsonw_kstr(w, "id", j->id);
        jsonw_kstr(w, "state", job_state_name(j->state));
        mux_put_progress(w, &f->jobs[i].job);
        mux_put_time(w, "started_at", j->started_at);
        jsonw_obj_end(w);
    }
    jsonw_arr_end(w);
}

static void put_stats(struct jsonw *w, const struct fleet_server *s)
{
    jsonw_key(w, "stats");
    jsonw_obj(w);
    jsonw_kint(w, "successes", (int64_t)s->good);
    jsonw_kint(w, "failures", (int64_t)s->bad);
    jsonw_kint(w, "fences", (int64_t)s->fences);
    jsonw_kint(w, "restarts", (int64_t)s->restarts);
    jsonw_kint(w, "questions", (int64_t)s->asked);
    jsonw_obj_end(w);
}

static void put_recent(struct jsonw *w, const struct recent *r)
{
    jsonw_key(w, "recent");
    if (r->jobs == 0) {
        jsonw_null(w);
        return;
    }
    jsonw_obj(w);
    jsonw_kint(w, "jobs", r->jobs);
    jsonw_key(w, "seconds_median");
    jsonw_double(w, (double)r->median_ms / 1000);
    jsonw_key(w, "seconds_mean");
    jsonw_double(w, (double)r->mean_ms / 1000);
    jsonw_obj_end(w);
}

/* details: all that is known, else what stands in the list. */
static void put_server(struct api *a, struct jsonw *w, const struct fleet_view *f,
                       const struct fleet_server *s, bool details)
{
    struct recent recent;

    recents_of(a->recents, s->name, &recent);
    jsonw_obj(w);
    jsonw_kstr(w, "name", s->name);
    jsonw_kstr(w, "url", s->url);
    jsonw_kstr(w, "state", fleet_state_name(s->state));
    jsonw_kstr(w, "reason", s->reason && s->reason[0] ? s->reason : NULL);
    jsonw_kint(w, "depth", s->depth);
    jsonw_kspan(w, "tags", s->tags ? (struct json){s->tags, strlen(s->tags)} : (struct json){"[]", 2});
    put_running(w, f, s);
    jsonw_key(w, "queue");
    if (s->queue >= 0)
        jsonw_int(w, s->queue);
    else
        jsonw_null(w);
    jsonw_kstr(w, "version", s->version);
    jsonw_kint(w, "nodes", s->nodes);
    mux_put_time(w, "last_seen", s->heard_ago < 0 ? 0 : a->d.clock->wall_ms(a->d.clock) - s->heard_ago);
    put_stats(w, s);
    put_recent(w, &recent);
    if (details)
        mux_put_server_details(a, w, s);
    jsonw_obj_end(w);
}

static void reply_servers(struct api *a, struct http_req *req)
{
    struct fleet_view *f = view_new(a);
    struct buf b = BUF_INIT;
    struct jsonw w;

    jsonw_init(&w, &b);
    jsonw_obj(&w);
    jsonw_key(&w, "servers");
    jsonw_arr(&w);
    for (size_t i = 0; i < f->n; i++)
        put_server(a, &w, f, &f->v[i], false);
    jsonw_arr_end(&w);
    jsonw_obj_end(&w);
    view_free(f);
    api_reply_json(req, 200, &b);
}

static const struct fleet_server *view_find(const struct fleet_view *f, const char *name)
{
    for (size_t i = 0; i < f->n; i++)
        if (strcmp(f->v[i].name, name) == 0)
            return &f->v[i];
    return NULL;
}

/* The server of that name as it is now; if it has gone again meanwhile, the list without it. */
static void reply_server(struct api *a, struct http_req *req, int status, const char *name)
{
    struct fleet_view *f = view_new(a);
    const struct fleet_server *s = view_find(f, name);
    struct buf b = BUF_INIT;
    struct jsonw w;

    jsonw_init(&w, &b);
    if (s)
        put_server(a, &w, f, s, false);
    view_free(f);
    if (s)
        api_reply_json(req, status, &b);
    else
        reply_servers(a, req);
}

void mux_get_servers(struct api *a, struct http_req *req, const struct api_params *p)
{
    (void)p;
    reply_servers(a, req);
}

void mux_get_server(struct api *a, struct http_req *req, const struct api_params *p)
{
    struct fleet_view *f = view_new(a);
    const struct fleet_server *s = view_find(f, p->v[0]);
    struct buf b = BUF_INIT;
    struct jsonw w;

    jsonw_init(&w, &b);
    if (s)
        put_server(a, &w, f, s, true);
    view_free(f);
    if (s)
        api_reply_json(req, 200, &b);
    else
        api_error(req, 404, "not_found", "there is no server of this name", NULL);
}

/* --- changing --- */

struct change {
    enum { CHANGE_ADD, CHANGE_REMOVE, CHANGE_DRAIN, CHANGE_RESUME } what;
    char *name;
};

static void refuse(struct http_req *req, enum registry_end end, const char *why)
{
    static const struct {
        int status;
        const char *code, *message;
    } ends[] = {
        [REGISTRY_EXISTS] = {409, "conflict", "there is such a server already"},
        [REGISTRY_NO_SERVER] = {404, "not_found", "there is no server of this name"},
        [REGISTRY_BUSY] = {409, "conflict",
                           "this server has running jobs: drain it and wait for them, or remove it by force "
                           "(?force=1), which "
                           "queues them again"},
        [REGISTRY_BAD] = {400, "bad_request", "this server cannot be added"},
        [REGISTRY_FAILED] = {503, "storage_failed", "the change could not be stored"},
    };
    /* The registry knows best what is wrong. */
    bool ours = end == REGISTRY_EXISTS || end == REGISTRY_BAD || end == REGISTRY_FAILED;

    if (end == REGISTRY_FAILED)
        http_set(req, "Retry-After", "5");
    api_error(req, ends[end].status, ends[end].code, ours && why && why[0] ? why : ends[end].message, NULL);
}

static void on_changed(enum registry_end end, const char *why, void *arg)
{
    static const char *const names[] = {"server_add", "server_remove", "server_drain", "server_resume"};
    struct api_wait *w = arg;
    struct change c = *(struct change *)w->extra;
    struct api *a = w->a;
    struct http_req *req = api_wait_end(w);

    log_info(LOG_S("event", names[c.what]), LOG_S("server", c.name),
             LOG_S("reason", end == REGISTRY_OK ? NULL
                             : why              ? why
                                                : "refused"));
    if (end == REGISTRY_OK && (c.what == CHANGE_REMOVE || c.what == CHANGE_ADD))
        recents_forget(a->recents, c.name);
    if (req && end != REGISTRY_OK)
        refuse(req, end, why);
    else if (req && c.what == CHANGE_REMOVE)
        reply_servers(a, req);
    else if (req)
        reply_server(a, req, c.what == CHANGE_ADD ? 201 : 200, c.name);
    free(c.name);
}

static struct api_wait *change_wait(struct api *a, struct http_req *req, int what, const char *name)
{
    struct api_wait *w = api_wait_new(a, req);
    struct change *c = xcalloc(1, sizeof(*c));

    c->what = what;
    c->name = xstrdup(name);
    w->extra = c;
    return w;
}

/* --- POST: what the body says --- */

static bool name_ok(const char *s)
{
    size_t n = strlen(s);

    return n >= 1 && n <= NAME_MAX_BYTES &&
           strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._:[]-") == n;
}

static bool tags_ok(struct json tags)
{
    struct json_iter it = json_iter(tags);
    struct json key, tag;

    if (json_type(tags) != JSON_ARRAY || json_count(tags) > TAGS_MAX)
        return false;
    while (json_next(&it, &key, &tag))
        if (json_type(tag) != JSON_STRING)
            return false;
    return true;
}

struct new_server {
    char *name, *url, *tags;
    int64_t depth;
};

static void new_server_fini(struct new_server *s)
{
    free(s->name);
    free(s->url);
    free(s->tags);
}

/* A name that is not given is host:port of the url. */
static int take_url(struct new_server *s, struct err *e)
{
    struct http_url u;

    if (s->url == NULL)
        return err_set(e, 0, "url is missing or no text: it is an address such as http://10.0.0.5:8188");
    if (http_url_parse(s->url, &u, e) < 0)
        return err_wrap(e, "url");
    if (s->name == NULL)
        s->name = xasprintf(strchr(u.host, ':') ? "[%s]:%u" : "%s:%u", u.host, (unsigned)u.port);
    http_url_fini(&u);
    return 0;
}

/* What is wrong begins with the key that it is about: a page shows it there. */
static int new_server_take(struct json body, struct new_server *s, struct err *e)
{
    static const char *const keys[] = {"url", "name", "depth", "tags"};
    struct json_iter it = json_iter(body);
    struct json key, value;

    s->depth = 1;
    if (json_type(body) != JSON_OBJECT)
        return err_set(e, 0, "the body is not a JSON object");
    while (json_next(&it, &key, &value)) {
        size_t i = 0;

        while (i < ARRAY_LEN(keys) && !json_str_eq(key, keys[i]))
            i++;
        if (i == ARRAY_LEN(keys))
            return err_set(e, 0, "unknown key %.*s: a server has url, name, depth and tags",
                           key.n < 64 ? (int)key.n : 64, key.p);
    }
    s->url = json_strdup(json_get(body, "url"));
    s->name = json_strdup(json_get(body, "name"));
    value = json_get(body, "name");
    if (!json_is_null(value) && s->name == NULL)
        return err_set(e, 0, "name is not text");
    if (take_url(s, e) < 0)
        return -1;
    if (!name_ok(s->name))
        return err_set(e, 0, "name is 1 to 64 letters, digits and . _ : [ ] -, without blanks");
    value = json_get(body, "depth");
    if (!json_is_null(value) && (!json_int(value, &s->depth) || s->depth < 1 || s->depth > DEPTH_MAX))
        return err_set(e, 0, "depth is a whole number from 1 to 64");
    value = json_get(body, "tags");
    if (!json_is_null(value) && !tags_ok(value))
        return err_set(e, 0, "tags is a list of words, such as [\"big\", \"fast\"]");
    if (!json_is_null(value))
        s->tags = xstrndup(value.p, value.n);
    return 0;
}

static void on_post(struct api *a, struct http_req *req, struct json body, struct bytes *text)
{
    struct new_server s = {NULL};
    struct registry_entry in;
    struct err e;

    (void)text;
    if (new_server_take(body, &s, &e) < 0) {
        api_error(req, 400, "bad_request", e.msg, NULL);
    } else {
        in = (struct registry_entry){.name = s.name, .url = s.url, .depth = (int)s.depth, .tags = s.tags};
        registry_add(a->d.registry, &in, on_changed, change_wait(a, req, CHANGE_ADD, s.name));
    }
    new_server_fini(&s);
}

void mux_post_servers(struct api *a, struct http_req *req, const struct api_params *p)
{
    (void)p;
    if (http_req_content_length(req) > BODY_MAX)
        api_error(req, 413, "payload_too_large", "a server is told in less than 64 KiB", NULL);
    else
        api_read_json(a, req, false, on_post);
}

/* --- the others --- */

void mux_delete_server(struct api *a, struct http_req *req, const struct api_params *p)
{
    char *force = api_query(req, "force");
    bool yes = force && (strcmp(force, "1") == 0 || strcmp(force, "true") == 0);

    if (force && force[0] && !yes && strcmp(force, "0") != 0 && strcmp(force, "false") != 0)
        api_error(req, 400, "bad_request", "force is 1 or 0", NULL);
    else
        registry_remove(a->d.registry, p->v[0], yes, on_changed, change_wait(a, req, CHANGE_REMOVE, p->v[0]));
    free(force);
}

void mux_post_drain(struct api *a, struct http_req *req, const struct api_params *p)
{
    registry_drain(a->d.registry, p->v[0], true, on_changed, change_wait(a, req, CHANGE_DRAIN, p->v[0]));
}

void mux_post_resume(struct api *a, struct http_req *req, const struct api_params *p)
{
    registry_drain(a->d.registry, p->v[0], false, on_changed, change_wait(a, req, CHANGE_RESUME, p->v[0]));
}
