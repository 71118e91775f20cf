/* The set of servers, and the fleet's face to the runner. */
#include "fleet/registry.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/utf8.h"
#include "fleet/fleet_priv.h"

#define NAME_MOST 128
#define DEPTH_MOST 64
#define DOC_DRAINED "server_drained" /* of servers of the file; others have it in their row */

/* --- life --- */

void registry_ref(struct registry *r)
{
    r->refs++;
}

void registry_unref(struct registry *r)
{
    if (--r->refs)
        return;
    tls_client_free(&r->tls);
    free(r->ca_file);
    free(r);
}

static void on_change(void *arg)
{
    struct registry *r = arg;
    struct merged old = r->merged;
    bool newer = r->next.view != NULL;

    r->version++;
    if (newer) {
        r->merged = r->next;
        r->next = (struct merged){0};
    }
    if (r->listener)
        r->listener->on_change(r->listener_arg);
    if (newer)
        caps_drop(r, &old, NULL);
    caps_check_ready(r);
    caps_on_learnt(r);
}

uint64_t registry_version(const struct registry *r)
{
    return r->version;
}

void registry_changed(struct registry *r)
{
    r->version++;
    if (!r->closed)
        loop_defer(r->loop, &r->change);
}

struct server *registry_find(struct registry *r, const char *name)
{
    struct server *s;

    HASH_FIND_STR(r->by_name, name, s);
    return s;
}

static void op_unpin(struct fleet *f, int64_t pin)
{
    blobs_unpin(container_of(f, struct registry, fleet)->blobs, pin);
}

static size_t op_servers(struct fleet *f, struct fleet_server *out, size_t max)
{
    struct registry *r = container_of(f, struct registry, fleet);
    size_t n = 0;

    for (size_t i = 0; i < SERVERS_MAX; i++) {
        struct server *s = r->by_index[i];
        struct fleet_server *o = &out[n];

        if (s == NULL || n++ >= max)
            continue;
        *o = (struct fleet_server){
            .index = s->index,
            .name = s->name,
            .url = s->shown,
            .known = s->caps.info != NULL,
            .depth = health_on_trial(&s->health) ? 1 : s->depth,
            .tags = s->tags,
            .version = s->caps.version[0] ? s->caps.version : NULL,
            .nodes = s->caps.info ? (int)object_info_count(s->caps.info) : 0,
            .queue = s->link.queue,
        };
        o->state = health_state(&s->health, &o->reason);
        o->link = link_is_open(s);
        o->heard_ago = server_heard_ago(s);
        o->good = s->health.good;
        o->bad = s->health.bad;
        o->fences = s->health.fences;
        o->restarts = s->health.restarts;
        o->asked = s->watch.asked;
    }
    return n;
}

static int op_can_run(struct fleet *f, unsigned index, const char *need)
{
    struct registry *r = container_of(f, struct registry, fleet);

    if (index >= SERVERS_MAX || r->by_index[index] == NULL)
        return 0;
    return object_need_met(r->by_index[index]->caps.info, need);
}

static void op_result(struct fleet *f, const char *server, enum job_code code, enum fleet_blame blame)
{
    struct server *s = registry_find(container_of(f, struct registry, fleet), server);

    if (s)
        watch_result(s, code, blame);
}

static void op_listen(struct fleet *f, const struct fleet_listener *l, void *arg)
{
    struct registry *r = container_of(f, struct registry, fleet);

    r->listener = l;
    r->listener_arg = arg;
}

static const struct fleet_ops ops = {
    .submit = calls_submit,
    .find = calls_find,
    .history = calls_history,
    .fetch = calls_fetch,
    .keep = calls_keep,
    .stop = calls_stop,
    .unpin = op_unpin,
    .servers = op_servers,
    .can_run = op_can_run,
    .result = op_result,
    .listen = op_listen,
};

struct fleet *registry_fleet(struct registry *r)
{
    return &r->fleet;
}

struct registry *registry_new(struct loop *l, struct workers *w, struct clock *c, struct store *s,
                              struct blobs *b, const struct registry_config *cfg)
{
    struct registry *r = xcalloc(1, sizeof(*r));

    r->fleet.ops = &ops;
    r->loop = l;
    r->workers = w;
    r->clock = c;
    r->store = s;
    r->blobs = b;
    r->refs = 1;
    r->primary = -1;
    r->version = 1;
    list_init(&r->calls);
    list_init(&r->forgetting);
    list_init(&r->fetch_queue);
    list_init(&r->load_queue);
    list_init(&r->read_queue);
    list_init(&r->refreshing);
    task_init(&r->learnt, caps_on_learnt, r);
    task_init(&r->change, on_change, r);
    registry_set_config(r, cfg);
    return r;
}

void registry_set_config(struct registry *r, const struct registry_config *cfg)
{
    char *ca = xstrdup_null(cfg->ca_file);

    if ((ca == NULL) != (r->ca_file == NULL) || (ca && strcmp(ca, r->ca_file) != 0)) {
        for (size_t i = 0; i < SERVERS_MAX; i++)
            if (r->by_index[i] && http_client_url(r->by_index[i]->http)->tls)
                log_warn(LOG_S("server", r->by_index[i]->name),
                         LOG_S("reason", "the new ca_file counts for it after a restart"));
    }
    free(r->ca_file);
    r->cfg = *cfg;
    for (size_t i = 0; i < SERVERS_MAX; i++)
        if (r->by_index[i])
            r->by_index[i]->health.stall_ms = cfg->stall_ms;
    r->cfg.ca_file = r->ca_file = ca;
    for (size_t i = 0; i < SERVERS_MAX; i++)
        if (r->by_index[i]) {
            http_client_set_connect(r->by_index[i]->http, cfg->connect_ms);
            http_client_set_connect(r->by_index[i]->visits, cfg->connect_ms);
        }
}

static void take_out(struct server *s, bool now)
{
    struct registry *r = s->r;

    HASH_DEL(r->by_name, s);
    r->by_index[s->index] = NULL;
    r->n_servers--;
    if (r->primary == (int)s->index)
        r->primary = -1;
    server_retire(s, now);
    if (!now && r->listener)
        r->listener->on_removed(r->listener_arg, s->name);
    caps_merge(r);
    registry_changed(r);
}

void registry_free(struct registry **rp)
{
    struct registry *r = *rp;

    if (r == NULL)
        return;
    *rp = NULL;
    r->closed = true;
    r->ready = NULL;
    for (size_t i = 0; i < SERVERS_MAX; i++)
        if (r->by_index[i])
            take_out(r->by_index[i], true);
    while (!list_empty(&r->calls)) {
        struct call *c = list_first(&r->calls, struct call, link);

        c->give_up(c, "the fleet was closed");
    }
    task_cancel(&r->change);
    task_cancel(&r->learnt);
    while (!list_empty(&r->refreshing))
        registry_refresh_cancel(list_first(&r->refreshing, struct refresh, link));
    r->listener = NULL;
    caps_drop(r, &r->merged, NULL);
    caps_drop(r, &r->next, NULL);
    registry_unref(r);
}

/* --- coming into the set --- */

static bool name_ok(const char *s)
{
    size_t n = strlen(s);

    if (n == 0 || n > NAME_MOST || !utf8_is_valid(s, n))
        return false;
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)s[i] <= ' ' || s[i] == '/' || s[i] == 0x7f)
            return false;
    return true;
}

static int tags_check(const char *tags, struct err *e)
{
    struct json v, k, item;
    struct json_iter it;

    if (tags == NULL)
        return 0;
    if (json_check(tags, strlen(tags), NULL, &v, e) < 0)
        return err_wrap(e, "tags");
    if (json_type(v) != JSON_ARRAY)
        return err_set(e, 0, "tags: a list of words is wanted");
    for (it = json_iter(v); json_next(&it, &k, &item);)
        if (json_type(item) != JSON_STRING)
            return err_set(e, 0, "tags: a list of words is wanted");
    return 0;
}

/* An entry checked and filled in, strings of its own. */
struct entry {
    struct registry_entry in;
    char *name, *url, *place; /* place: equal for equal servers, however the url is written */
};

static void entry_fini(struct entry *x)
{
    free(x->name);
    free(x->url);
    free(x->place);
}

static int entry_init(struct entry *x, const struct registry_entry *in, struct err *e)
{
    struct http_url u;
    size_t n;
    int rc = -1;

    *x = (struct entry){.in = *in};
    if (in->url == NULL || http_url_parse(in->url, &u, e) < 0)
        return in->url ? -1 : err_set(e, 0, "a server without url");
    x->url = xstrdup(in->url);
    n = strlen(x->url);
    while (n > 0 && x->url[n - 1] == '/')
        x->url[--n] = '\0';
    x->name = in->name ? xstrdup(in->name) : xasprintf("%s:%u", u.host, u.port);
    x->place = xasprintf("%s:%s:%u%s", u.tls ? "https" : "http", u.host, u.port, u.base);
    x->in.url = x->url;
    x->in.name = x->name;
    x->in.depth = in->depth ? in->depth : 1;
    if (!name_ok(x->name))
        err_set(e, 0, "server name '%s': 1 to 128 characters without spaces and '/' are wanted", x->name);
    else if (x->in.depth < 1 || x->in.depth > DEPTH_MOST)
        err_set(e, 0, "server %s: depth %d is not between 1 and 64", x->name, x->in.depth);
    else if (tags_check(in->tags, e) < 0)
        err_wrap(e, "server %s", x->name);
    else
        rc = 0;
    http_url_fini(&u);
    if (rc < 0)
        entry_fini(x);
    return rc;
}

static char *place_of(const struct server *s)
{
    const struct http_url *u = http_client_url(s->http);

    return xasprintf("%s:%s:%u%s", u->tls ? "https" : "http", u->host, u->port, u->base);
}

/* The server at the same place, or NULL: two sockets to one would be two owners of its queue. */
static struct server *server_at(struct registry *r, const char *place)
{
    for (size_t i = 0; i < SERVERS_MAX; i++) {
        char *p = r->by_index[i] ? place_of(r->by_index[i]) : NULL;
        bool same = p && strcmp(p, place) == 0;

        free(p);
        if (same)
            return r->by_index[i];
    }
    return NULL;
}

static int need_tls(struct registry *r, const char *url, struct err *e)
{
    struct http_url u;
    int rc = 0;

    if (http_url_parse(url, &u, e) < 0)
        return -1;
    if (u.tls && r->tls == NULL) {
        r->tls = tls_client_new(r->ca_file, true, e);
        rc = r->tls ? 0 : -1;
    }
    http_url_fini(&u);
    return rc;
}

/* The operator's word about a server that has left the file is being forgotten: a read could still find it. */
struct forgetting {
    struct list link;
    struct registry *r;
    char *name;
};

static bool is_forgotten(const struct registry *r, const char *name)
{
    list_for_each(it, &r->forgetting)
        if (strcmp(list_entry(it, struct forgetting, link)->name, name) == 0)
            return true;
    return false;
}

static void on_forgotten(enum store_status st, void *arg)
{
    struct forgetting *x = arg;

    if (st != STORE_OK)
        log_warn(LOG_S("server", x->name), LOG_S("event", "drain_not_forgotten"),
                 LOG_S("reason", store_status_name(st)));
    list_remove(&x->link);
    registry_unref(x->r);
    free(x->name);
    free(x);
}

static void drained_forget(struct registry *r, const char *name)
{
    struct forgetting *x = xcalloc(1, sizeof(*x));

    registry_ref(r);
    x->r = r;
    x->name = xstrdup(name);
    list_push_back(&r->forgetting, &x->link);
    store_doc_put(r->store, DOC_DRAINED, name, NULL, on_forgotten, x);
}

static void on_drained_doc(enum store_status st, struct bytes *doc, void *arg)
{
    struct server *s = arg;

    if (st == STORE_OK && doc && !s->gone)
        watch_drain(s, true);
    server_unref(s);
}

static void begin(struct server *s)
{
    if (s->from_file && !is_forgotten(s->r, s->name))
        store_doc_get(s->r->store, DOC_DRAINED, s->name, on_drained_doc, server_ref(s));
    server_start(s);
}

static struct server *take_in(struct registry *r, const struct registry_entry *in, bool from_file,
                              bool drained, struct err *e)
{
    struct server *s;
    unsigned i = 0;

    while (i < SERVERS_MAX && r->by_index[i])
        i++;
    if (i == SERVERS_MAX) {
        err_set(e, 0, "there are %d servers already", SERVERS_MAX);
        return NULL;
    }
    if (need_tls(r, in->url, e) < 0 || (s = server_new(r, in, e)) == NULL)
        return NULL;
    s->index = i;
    s->from_file = from_file;
    watch_drain(s, drained);
    r->by_index[i] = s;
    HASH_ADD_KEYPTR(hh, r->by_name, s->name, strlen(s->name), s);
    r->n_servers++;
    log_info(LOG_S("server", s->name), LOG_S("event", "added"), LOG_S("url", s->shown),
             LOG_I("depth", s->depth));
    if (r->started)
        begin(s);
    registry_changed(r);
    return s;
}

/* --- the servers of the store --- */

static void on_store_servers(enum store_status st, const struct store_server *v, size_t n, void *arg)
{
    struct registry *r = arg;

    if (st != STORE_OK)
        log_error(LOG_S("event", "servers_not_read"), LOG_S("reason", store_status_name(st)));
    for (size_t i = 0; i < n && !r->closed; i++) {
        struct registry_entry in = {v[i].name, v[i].url, v[i].depth, v[i].tags};
        struct entry x;
        struct err e;

        if (registry_find(r, v[i].name))
            continue; /* the file's wins */
        if (entry_init(&x, &in, &e) < 0) {
            log_warn(LOG_S("server", v[i].name), LOG_S("event", "not_added"), LOG_S("reason", e.msg));
            continue;
        }
        if (server_at(r, x.place))
            log_warn(LOG_S("server", v[i].name), LOG_S("event", "not_added"),
                     LOG_S("reason", "another one has its url"));
        else if (take_in(r, &x.in, false, v[i].drained, &e) == NULL)
            log_warn(LOG_S("server", v[i].name), LOG_S("event", "not_added"), LOG_S("reason", e.msg));
        entry_fini(&x);
    }
    r->store_read = true;
    caps_check_ready(r);
    registry_unref(r);
}

static void read_store(struct registry *r)
{
    registry_ref(r);
    store_servers(r->store, on_store_servers, r);
}

void registry_start(struct registry *r, void (*ready)(void *arg), void *arg)
{
    assert(!r->started);
    r->started = true;
    r->ready = ready;
    r->ready_arg = arg;
    for (size_t i = 0; i < SERVERS_MAX; i++)
        if (r->by_index[i])
            begin(r->by_index[i]);
    read_store(r);
}

/* --- the servers of the file --- */

/* All entries, or none. */
static struct entry *entries_new(const struct registry_entry *v, size_t n, struct err *e)
{
    struct entry *x = xcalloc(n ? n : 1, sizeof(*x));
    size_t i = 0;
    bool ok = true;

    if (n > SERVERS_MAX)
        ok = err_set(e, 0, "%zu servers are more than %d", n, SERVERS_MAX) == 0;
    for (; ok && i < n; i++) {
        if (entry_init(&x[i], &v[i], e) < 0) {
            ok = false;
            break;
        }
        for (size_t k = 0; ok && k < i; k++)
            if (strcmp(x[k].name, x[i].name) == 0)
                ok = err_set(e, 0, "two servers are named %s", x[i].name) == 0;
            else if (strcmp(x[k].place, x[i].place) == 0)
                ok = err_set(e, 0, "servers %s and %s have the same url", x[k].name, x[i].name) == 0;
    }
    if (ok)
        return x;
    while (i > 0)
        entry_fini(&x[--i]);
    free(x);
    return NULL;
}

static void server_update(struct server *s, const struct registry_entry *in)
{
    const char *tags = in->tags ? in->tags : "[]";

    if (s->depth == in->depth && strcmp(s->tags, tags) == 0)
        return;
    s->depth = in->depth;
    free(s->tags);
    s->tags = xstrdup(tags);
    registry_changed(s->r);
}

static const struct entry *entry_of(const struct entry *x, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(x[i].name, name) == 0)
            return &x[i];
    return NULL;
}

/* The operator's word about a server of the file. */
static void drained_put(struct registry *r, const char *name, bool drained, store_done_cb *cb, void *arg)
{
    struct bytes *doc = bytes_new("true", 4);

    store_doc_put(r->store, DOC_DRAINED, name, drained ? doc : NULL, cb, arg);
    bytes_unref(doc);
}

/* What is no longer in the list, or has another url now, or stands in the way of one that is. */
static void entries_clear_way(struct registry *r, const struct entry *x, size_t n)
{
    for (size_t i = 0; i < SERVERS_MAX; i++) {
        struct server *s = r->by_index[i];
        const struct entry *same = s ? entry_of(x, n, s->name) : NULL;
        bool keep = s && (same ? strcmp(same->url, s->url) == 0 : !s->from_file);
        char *place = s ? place_of(s) : NULL;

        for (size_t k = 0; keep && !same && k < n; k++)
            keep = strcmp(x[k].place, place) != 0;
        free(place);
        if (s && !keep && s->from_file && !same)
            drained_forget(r, s->name); /* if the name comes again it is another server */
        if (s && !keep)
            take_out(s, false);
    }
}

int registry_configure(struct registry *r, const struct registry_entry *v, size_t n, struct err *e)
{
    struct entry *x = entries_new(v, n, e);
    int rc = 0;

    if (x == NULL)
        return -1;
    for (size_t i = 0; i < n && rc == 0; i++)
        rc = need_tls(r, x[i].url, e);
    if (rc == 0)
        entries_clear_way(r, x, n);
    for (size_t i = 0; i < n && rc == 0; i++) {
        struct server *s = registry_find(r, x[i].name);

        if (s) {
            if (!s->from_file && s->health.drained)
                drained_put(r, s->name, true, NULL, NULL);
            s->from_file = true;
            server_update(s, &x[i].in);
        } else if (take_in(r, &x[i].in, true, false, e) == NULL) {
            rc = -1;
        }
    }
    for (size_t i = 0; i < n; i++)
        entry_fini(&x[i]);
    free(x);
    if (rc == 0 && r->started)
        read_store(r); /* one that the file had hidden comes back */
    return rc;
}

/* --- by API and CLI --- */

enum change_kind { CHANGE_ADD, CHANGE_REMOVE, CHANGE_DRAIN };

struct change {
    struct registry *r;
    enum change_kind kind;
    struct entry x;
    char *name, *tags;
    bool drain;
    enum registry_end end;
    char why[ERR_MSG_MAX];
    struct task task;
    registry_cb *cb;
    void *arg;
};

static void change_end(struct change *c, enum registry_end end, const char *why)
{
    struct registry *r = c->r;

    c->cb(end, why, c->arg);
    if (c->kind == CHANGE_ADD)
        entry_fini(&c->x);
    free(c->name);
    free(c->tags);
    free(c);
    registry_unref(r);
}

static void on_change_refused(void *arg)
{
    struct change *c = arg;

    change_end(c, c->end, c->why);
}

static struct change *change_new(struct registry *r, enum change_kind kind, registry_cb *cb, void *arg)
{
    struct change *c = xcalloc(1, sizeof(*c));

    registry_ref(r);
    c->r = r;
    c->kind = kind;
    c->cb = cb;
    c->arg = arg;
    task_init(&c->task, on_change_refused, c);
    return c;
}

static void change_refuse(struct change *c, enum registry_end end, const char *why)
{
    c->end = end;
    snprintf(c->why, sizeof(c->why), "%s", why);
    loop_defer(c->r->loop, &c->task);
}

static void change_apply(struct change *c)
{
    struct server *s = registry_find(c->r, c->kind == CHANGE_ADD ? c->x.name : c->name);
    struct err e;

    switch (c->kind) {
    case CHANGE_ADD:
        if (s == NULL && server_at(c->r, c->x.place) == NULL &&
            take_in(c->r, &c->x.in, false, false, &e) == NULL)
            log_warn(LOG_S("server", c->x.name), LOG_S("event", "not_added"), LOG_S("reason", e.msg));
        break;
    case CHANGE_REMOVE:
        if (s && !s->from_file)
            take_out(s, false);
        break;
    case CHANGE_DRAIN:
        if (s)
            watch_drain(s, c->drain);
        break;
    }
}

static void on_change_stored(enum store_status st, void *arg)
{
    struct change *c = arg;

    if (st == STORE_OK || (st == STORE_NOT_FOUND && c->kind == CHANGE_REMOVE)) {
        if (!c->r->closed)
            change_apply(c);
        change_end(c, REGISTRY_OK, "");
    } else if (st == STORE_EXISTS) {
        change_end(c, REGISTRY_EXISTS, "name is in use: a server of this name is there already");
    } else {
        change_end(c, REGISTRY_FAILED, st == STORE_FULL ? "the store is full" : "the store failed");
    }
}

void registry_add(struct registry *r, const struct registry_entry *in, registry_cb *cb, void *arg)
{
    struct change *c = change_new(r, CHANGE_ADD, cb, arg);
    struct server *there;
    struct err e;
    char why[ERR_MSG_MAX];

    if (entry_init(&c->x, in, &e) < 0) {
        c->x = (struct entry){0};
        change_refuse(c, REGISTRY_BAD, e.msg);
        return;
    }
    c->tags = xstrdup(in->tags ? in->tags : "[]");
    c->x.in.tags = c->tags;
    if (registry_find(r, c->x.name)) {
        change_refuse(c, REGISTRY_EXISTS, "name is in use: a server of this name is there already");
    } else if ((there = server_at(r, c->x.place)) != NULL) {
        snprintf(why, sizeof(why), "url is that of server %s", there->name);
        change_refuse(c, REGISTRY_EXISTS, why);
    } else if (r->n_servers >= SERVERS_MAX || need_tls(r, c->x.url, &e) < 0) {
        change_refuse(c, REGISTRY_BAD, r->n_servers >= SERVERS_MAX ? "there are too many servers" : e.msg);
    } else {
        struct store_server row = {c->x.name, c->x.url, c->x.in.depth, c->tags, false};

        store_server_put(r->store, &row, false, on_change_stored, c);
    }
}

void registry_remove(struct registry *r, const char *name, bool force, registry_cb *cb, void *arg)
{
    struct change *c = change_new(r, CHANGE_REMOVE, cb, arg);
    struct server *s = registry_find(r, name);

    c->name = xstrdup(name);
    if (s == NULL) {
        change_refuse(c, REGISTRY_NO_SERVER, NOT_CONFIGURED);
    } else if (s->from_file) {
        change_refuse(c, REGISTRY_BAD, "it stands in the configuration file: take it out there and reload");
    } else if (!force && !list_empty(&s->held)) {
        change_refuse(c, REGISTRY_BUSY, "it has jobs of ours");
    } else {
        caps_forget(s);
        store_server_remove(r->store, name, on_change_stored, c);
    }
}

void registry_drain(struct registry *r, const char *name, bool drain, registry_cb *cb, void *arg)
{
    struct change *c = change_new(r, CHANGE_DRAIN, cb, arg);
    struct server *s = registry_find(r, name);

    c->name = xstrdup(name);
    c->drain = drain;
    if (s == NULL) {
        change_refuse(c, REGISTRY_NO_SERVER, NOT_CONFIGURED);
    } else if (s->from_file) {
        drained_put(r, name, drain, on_change_stored, c);
    } else {
        struct store_server row = {s->name, s->url, s->depth, s->tags, drain};

        store_server_put(r->store, &row, true, on_change_stored, c);
    }
}
