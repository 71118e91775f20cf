/* What servers can do: object_info and system_stats, fetched when a link opens and on asking, kept in the
 * store so that a new start is warm, and merged.
 *
 * A body of object_info is several MB. It is hashed while it comes; one that another server has sent already
 * is dropped for that one's, so a fleet of equal servers holds one. Otherwise a worker reads it, one at a time,
 * so that each finds the classes of those before it, and another piece of work merges. Few are fetched at one
 * time, since each needs its memory until it has been read. In the store a server's document only names the
 * text, by hash, which is kept once. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "fleet/fleet_priv.h"

#define INFO_MOST ((size_t)256 << 20)
#define INFO_SILENCE_MS 120000 /* 16 s were seen on a server with 8,534 classes */
#define INFO_MOST_MS 600000
#define FETCH_AT_ONCE 4
#define AGAIN_LEAST_MS 10000
#define AGAIN_FACTOR 20 /* it holds up the server: at most this part of its time */
#define RETRY_LEAST_MS 1000
#define RETRY_MOST_MS 60000
#define REFRESH_MS 5000
#define CHANGES_NAMED 5 /* of classes that came, and as many that went */

#define DOC_INFO "object_info"
#define DOC_TEXT "object_info_text"

/* --- one body being read --- */

struct reading {
    struct work work;
    struct list link; /* registry.read_queue */
    struct server *s;
    bool live; /* from the server; else from the store */
    struct http_call *http;
    int status;
    int64_t began;
    blake3_hasher hasher;
    uint8_t hash[BLAKE3_LEN];
    struct buf text;
    struct bytes *doc; /* from the store */
    bool over;
    bool good; /* it was read */
    struct object_info **others;
    size_t n_others;
    struct object_info *info;
    struct err e;
};

static void fetch_pump(struct registry *r);
static void load_pump(struct registry *r);

static struct reading *reading_new(struct server *s, bool live)
{
    struct reading *x = xcalloc(1, sizeof(*x));

    x->s = server_ref(s);
    list_init(&x->link);
    x->live = live;
    x->began = loop_now(s->r->loop);
    return x;
}

/* --- what is let go of --- */

struct dropped {
    struct work work;
    struct merged merged;
    struct object_info *info;
};

static void run_drop(struct work *w)
{
    struct dropped *d = container_of(w, struct dropped, work);

    object_view_unref(d->merged.view);
    bytes_unref(d->merged.text);
    object_info_unref(d->info);
}

static void on_dropped(struct work *w)
{
    free(container_of(w, struct dropped, work));
}

static void drop(struct workers *workers, struct merged *m, struct object_info *info)
{
    struct dropped *d;

    if (info == NULL && (m == NULL || m->view == NULL))
        return;
    d = xcalloc(1, sizeof(*d));
    d->work = (struct work){.run = run_drop, .done = on_dropped};
    d->info = info;
    if (m) {
        d->merged = *m;
        *m = (struct merged){0};
    }
    workers_submit(workers, &d->work);
}

void caps_drop(struct registry *r, struct merged *m, struct object_info *info)
{
    if (r->closed) { /* the process ends: a call that is freed late outlives the workers */
        if (m) {
            object_view_unref(m->view);
            bytes_unref(m->text);
            *m = (struct merged){0};
        }
        object_info_unref(info);
    } else {
        drop(r->workers, m, info);
    }
}

void registry_drop_view(struct workers *w, struct object_view *v)
{
    struct merged m = {.view = v};

    drop(w, &m, NULL);
}

/* --- one body, again --- */

static void unref_others(struct reading *x)
{
    for (size_t i = 0; i < x->n_others; i++)
        object_info_unref(x->others[i]);
    free(x->others);
    x->others = NULL;
    x->n_others = 0;
}

static void reading_free(struct reading *x)
{
    unref_others(x);
    caps_drop(x->s->r, NULL, x->info);
    buf_free(&x->text);
    bytes_unref(x->doc);
    server_unref(x->s);
    free(x);
}

static int64_t again_ms(const struct caps *c, int64_t least)
{
    int64_t wait = c->took_ms * AGAIN_FACTOR;

    return wait > least ? wait : least;
}

static void on_retry(void *arg)
{
    struct server *s = arg;

    if (link_is_open(s)) /* else it is asked when that opens */
        caps_fetch(s);
}

/* A server whose nodes are not known gets no jobs that need any: it is asked until it says. */
static void retry_later(struct server *s)
{
    struct caps *c = &s->caps;

    c->pause_ms = c->pause_ms ? c->pause_ms * 2 : RETRY_LEAST_MS;
    if (c->pause_ms > RETRY_MOST_MS)
        c->pause_ms = RETRY_MOST_MS;
    timer_set(&c->retry, again_ms(c, c->pause_ms));
}

/* It is over, well or not. */
static void reading_end(struct reading *x)
{
    struct registry *r = x->s->r;
    struct caps *c = &x->s->caps;
    bool live = x->live;

    registry_ref(r);
    if (live) {
        r->fetching--;
        c->fetching = false;
        c->took_ms = loop_now(r->loop) - x->began;
        if (x->good)
            c->pause_ms = 0;
        if (c->again && !x->s->gone)
            caps_fetch(x->s);
        else if (!x->good && !x->s->gone && !r->closed)
            retry_later(x->s);
        c->again = false;
        if (!list_empty(&r->refreshing))
            loop_defer(r->loop, &r->learnt);
    }
    reading_free(x);
    if (live)
        fetch_pump(r);
    registry_unref(r);
}

/* --- what is known --- */

static struct server *server_with_hash(struct registry *r, const uint8_t hash[BLAKE3_LEN])
{
    for (size_t i = 0; i < SERVERS_MAX; i++) {
        struct server *s = r->by_index[i];

        if (s && s->caps.info && memcmp(s->caps.hash, hash, BLAKE3_LEN) == 0)
            return s;
    }
    return NULL;
}

static void drop_text(struct registry *r, const uint8_t hash[BLAKE3_LEN])
{
    char hex[BLAKE3_HEX];

    if (server_with_hash(r, hash))
        return;
    blake3_hex(hash, hex);
    store_doc_put(r->store, DOC_TEXT, hex, NULL, NULL, NULL);
}

/* text NULL: it is in the store already. */
static void caps_store(struct server *s, struct bytes *text)
{
    char hex[BLAKE3_HEX];
    struct buf b = BUF_INIT;
    struct bytes *doc;

    blake3_hex(s->caps.hash, hex);
    if (text)
        store_doc_put(s->r->store, DOC_TEXT, hex, text, NULL, NULL);
    buf_printf(&b, "{\"hash\": \"%s\"}", hex);
    doc = buf_to_bytes(&b);
    store_doc_put(s->r->store, DOC_INFO, s->url, doc, NULL, NULL);
    bytes_unref(doc);
}

/* Classes that a has and b has not; the first few are named. */
static size_t missing_in(const struct object_info *a, const struct object_info *b, char sign,
                         struct buf *names)
{
    size_t n = 0;

    for (size_t i = 0; i < object_info_count(a); i++) {
        struct str name = object_info_at(a, i)->name;

        if (object_info_find(b, name))
            continue;
        if (n++ < CHANGES_NAMED)
            buf_printf(names, "%s%c%.*s", names->len ? " " : "", sign, name.n < 64 ? (int)name.n : 64,
                       name.p);
    }
    return n;
}

/* A restart with other custom nodes, or other models (then the classes are the same and their choices differ). */
static void tell_changes(struct server *s, const struct object_info *was)
{
    struct buf names = BUF_INIT;
    size_t came, gone;

    if (was == NULL || was == s->caps.info)
        return;
    came = missing_in(s->caps.info, was, '+', &names);
    gone = missing_in(was, s->caps.info, '-', &names);
    if (came + gone)
        log_info(LOG_S("server", s->name), LOG_S("event", "nodes_changed"), LOG_I("came", (int64_t)came),
                 LOG_I("gone", (int64_t)gone), LOG_S("names", buf_str(&names)));
    else
        log_info(LOG_S("server", s->name), LOG_S("event", "choices_changed"));
    buf_free(&names);
}

static void caps_set(struct server *s, struct object_info *info, const uint8_t hash[BLAKE3_LEN])
{
    struct caps *c = &s->caps;
    uint8_t old[BLAKE3_LEN];
    struct object_info *was = c->info;
    bool had = was != NULL;

    memcpy(old, c->hash, BLAKE3_LEN);
    c->info = object_info_ref(info);
    memcpy(c->hash, hash, BLAKE3_LEN);
    log_info(LOG_S("server", s->name), LOG_S("event", "object_info"),
             LOG_I("classes", (int64_t)object_info_count(info)));
    tell_changes(s, was);
    caps_drop(s->r, NULL, was);
    if (had && memcmp(old, hash, BLAKE3_LEN) != 0)
        drop_text(s->r, old);
    registry_changed(s->r);
    caps_merge(s->r);
}

/* --- reading --- */

static void run_read(struct work *w)
{
    struct reading *x = container_of(w, struct reading, work);
    const char *text = x->doc ? x->doc->data : buf_str(&x->text);
    size_t n = x->doc ? x->doc->len : x->text.len;

    x->info = object_info_new(text, n, x->others, x->n_others, &x->e);
    if (x->info && x->live)
        x->doc = buf_to_bytes(&x->text); /* for the store */
    unref_others(x);                     /* here, should they be the last ones */
}

static void load_done(struct server *s);

static void read_pump(struct registry *r);

/* It was read, or another server's text of the same hash. */
static void reading_done(struct reading *x)
{
    struct server *s = x->s, *same = server_with_hash(s->r, x->hash);
    struct object_info *info = same ? same->caps.info : x->info;

    x->good = info != NULL;
    if (info == NULL) {
        log_warn(LOG_S("server", s->name), LOG_S("event", "object_info_unreadable"),
                 LOG_S("reason", x->e.msg));
    } else if (!s->gone && info != s->caps.info && (x->live || s->caps.info == NULL)) {
        caps_set(s, info, x->hash);
        if (x->live)
            caps_store(s, same ? NULL : x->doc);
    }
    if (!x->live)
        load_done(s);
    reading_end(x);
}

static void on_read(struct work *w)
{
    struct reading *x = container_of(w, struct reading, work);
    struct registry *r = x->s->r;

    registry_ref(r);
    r->reading = false;
    reading_done(x);
    read_pump(r);
    registry_unref(r);
}

/* The infos that are there, each once: equal classes are shared with them. */
static void reading_others(struct reading *x)
{
    struct registry *r = x->s->r;

    x->others = xcalloc(SERVERS_MAX, sizeof(*x->others));
    for (size_t i = 0; i < SERVERS_MAX; i++) {
        struct object_info *o = r->by_index[i] ? r->by_index[i]->caps.info : NULL;
        size_t k = 0;

        while (o && k < x->n_others && x->others[k] != o)
            k++;
        if (o && k == x->n_others)
            x->others[x->n_others++] = object_info_ref(o);
    }
}

static void read_pump(struct registry *r)
{
    while (!r->reading && !list_empty(&r->read_queue)) {
        struct reading *x = list_first(&r->read_queue, struct reading, link);

        list_remove(&x->link);
        if (x->s->gone || server_with_hash(r, x->hash)) {
            snprintf(x->e.msg, sizeof(x->e.msg), "the server was removed");
            reading_done(x);
            continue;
        }
        r->reading = true;
        reading_others(x);
        x->work = (struct work){.run = run_read, .done = on_read};
        workers_submit(r->workers, &x->work);
    }
}

static void reading_start(struct reading *x)
{
    struct registry *r = x->s->r;

    list_push_back(&r->read_queue, &x->link);
    read_pump(r);
}

/* --- from the server --- */

static void on_info_head(struct http_call *c, int status, const struct http_headers *h, void *arg)
{
    (void)c;
    (void)h;
    ((struct reading *)arg)->status = status;
}

static void on_info_data(struct http_call *c, const void *data, size_t n, void *arg)
{
    struct reading *x = arg;

    if (x->text.len + n > INFO_MOST) {
        log_warn(LOG_S("server", x->s->name), LOG_S("event", "object_info_unreadable"),
                 LOG_S("reason", "it is over 256 MiB"));
        http_call_cancel(&c);
        reading_end(x);
        return;
    }
    buf_put(&x->text, data, n);
    blake3_hasher_update(&x->hasher, data, n);
}

static void on_info_done(struct http_call *c, enum http_call_end end, const char *why, void *arg)
{
    struct reading *x = arg;
    struct server *s = x->s;

    (void)c;
    server_note(s, end, x->status, why);
    if (s->gone || end != HTTP_CALL_OK || x->status != 200) {
        if (!s->gone)
            log_warn(LOG_S("server", s->name), LOG_S("event", "object_info_not_read"),
                     LOG_I("status", x->status), LOG_S("reason", why));
        reading_end(x);
        return;
    }
    blake3_hasher_finalize(&x->hasher, x->hash, BLAKE3_LEN);
    reading_start(x);
}

static void fetch_info(struct server *s)
{
    static const struct http_call_handlers h = {
        .on_head = on_info_head, .on_data = on_info_data, .on_done = on_info_done};
    struct reading *x = reading_new(s, true);

    blake3_hasher_init(&x->hasher);
    s->r->fetching++;
    s->caps.fetching = true;
    s->caps.asked_at = loop_now(s->r->loop);
    x->http = http_call_new(s->http, "GET", "/object_info", &h, x);
    http_call_timeout(x->http, INFO_SILENCE_MS, INFO_MOST_MS);
    http_call_start(x->http, NULL, NULL);
}

static void fetch_pump(struct registry *r)
{
    while (!r->closed && r->fetching < FETCH_AT_ONCE && !list_empty(&r->fetch_queue)) {
        struct caps *c = list_first(&r->fetch_queue, struct caps, fetch);

        list_remove(&c->fetch);
        fetch_info(container_of(c, struct server, caps));
    }
}

void caps_fetch(struct server *s)
{
    struct caps *c = &s->caps;

    timer_clear(&c->retry);
    caps_fetch_stats(s);
    if (c->fetching)
        c->again = true;
    else if (list_empty(&c->fetch))
        list_push_back(&s->r->fetch_queue, &c->fetch);
    fetch_pump(s->r);
}

static void ask_again(struct registry *r)
{
    int64_t now = loop_now(r->loop);

    for (size_t i = 0; i < SERVERS_MAX; i++) {
        struct server *s = r->by_index[i];

        if (s && link_is_open(s) && !s->caps.fetching &&
            now - s->caps.asked_at >= again_ms(&s->caps, AGAIN_LEAST_MS))
            caps_fetch(s);
    }
}

/* Is something being asked that a client may wait for? Not what has taken long already. */
static bool is_learning(struct registry *r)
{
    int64_t now = loop_now(r->loop);

    for (size_t i = 0; i < SERVERS_MAX; i++) {
        struct server *s = r->by_index[i];

        if (s && (!list_empty(&s->caps.fetch) || (s->caps.fetching && now - s->caps.asked_at < REFRESH_MS)))
            return true;
    }
    return r->merging || r->next.view || r->loading || !list_empty(&r->load_queue);
}

static void refresh_end(struct refresh *w)
{
    registry_refresh_cancel(w);
    w->cb(w->arg);
}

static void on_refresh_time(void *arg)
{
    refresh_end(arg);
}

void caps_on_learnt(void *registry)
{
    struct registry *r = registry;
    struct list now;

    if (list_empty(&r->refreshing) || is_learning(r))
        return;
    list_init(&now); /* who comes back in its callback waits for the next time */
    while (!list_empty(&r->refreshing)) {
        struct list *e = r->refreshing.next;

        list_remove(e);
        list_push_back(&now, e);
    }
    while (!list_empty(&now))
        refresh_end(list_first(&now, struct refresh, link));
}

bool registry_refresh(struct registry *r, struct refresh *w, refresh_cb *cb, void *arg)
{
    ask_again(r);
    if (r->closed || !is_learning(r))
        return false;
    *w = (struct refresh){.cb = cb, .arg = arg};
    list_push_back(&r->refreshing, &w->link);
    timer_init(&w->timer, r->loop, on_refresh_time, w);
    timer_set(&w->timer, REFRESH_MS);
    return true;
}

void registry_refresh_cancel(struct refresh *w)
{
    list_remove(&w->link);
    timer_fini(&w->timer);
}

/* --- from the store, one server after the other, so that equal texts are read once --- */

static void on_stats_doc(enum store_status st, struct bytes *doc, void *arg)
{
    struct server *s = arg;
    struct registry *r = s->r;

    if (st == STORE_OK && doc && !s->gone && s->caps.stats == NULL)
        (void)caps_set_stats(s, doc);
    registry_ref(r);
    server_unref(s);
    r->loading = false;
    load_pump(r);
    registry_unref(r);
}

/* object_info is done with. */
static void load_done(struct server *s)
{
    server_ref(s);
    store_doc_get(s->r->store, CAPS_DOC_STATS, s->url, on_stats_doc, s);
}

static void on_text_doc(enum store_status st, struct bytes *doc, void *arg)
{
    struct reading *x = arg;

    if (st != STORE_OK || doc == NULL || x->s->gone || x->s->caps.info) {
        load_done(x->s);
        reading_end(x);
        return;
    }
    x->doc = bytes_ref(doc);
    reading_start(x);
}

static void on_info_doc(enum store_status st, struct bytes *doc, void *arg)
{
    struct server *s = arg, *same;
    struct json v = {NULL, 0};
    struct reading *x;
    uint8_t hash[BLAKE3_LEN];
    char *hex = NULL;

    if (st == STORE_OK && doc && json_check(doc->data, doc->len, NULL, &v, NULL) == 0)
        hex = json_strdup(json_get(v, "hash"));
    if (hex == NULL || !blake3_unhex(hex, hash) || s->gone || s->caps.info) {
        load_done(s);
    } else if ((same = server_with_hash(s->r, hash)) != NULL) {
        caps_set(s, same->caps.info, hash);
        load_done(s);
    } else {
        x = reading_new(s, false);
        memcpy(x->hash, hash, BLAKE3_LEN);
        store_doc_get(s->r->store, DOC_TEXT, hex, on_text_doc, x);
    }
    free(hex);
    server_unref(s);
}

static void load_pump(struct registry *r)
{
    struct caps *c = list_first(&r->load_queue, struct caps, load);
    struct server *s;

    if (r->closed || r->loading)
        return;
    if (c == NULL) {
        loop_defer(r->loop, &r->learnt);
        caps_check_ready(r);
        return;
    }
    list_remove(&c->load);
    r->loading = true;
    s = server_ref(container_of(c, struct server, caps));
    store_doc_get(r->store, DOC_INFO, s->url, on_info_doc, s);
}

void caps_load(struct server *s)
{
    list_push_back(&s->r->load_queue, &s->caps.load);
    load_pump(s->r);
}

void caps_check_ready(struct registry *r)
{
    void (*ready)(void *arg) = r->ready;

    if (ready == NULL || r->closed || !r->store_read || r->loading || !list_empty(&r->load_queue) ||
        r->merging)
        return;
    r->ready = NULL;
    ready(r->ready_arg);
}

void caps_forget(struct server *s)
{
    uint8_t hash[BLAKE3_LEN];
    struct object_info *info = s->caps.info;

    store_doc_put(s->r->store, DOC_INFO, s->url, NULL, NULL, NULL);
    store_doc_put(s->r->store, CAPS_DOC_STATS, s->url, NULL, NULL, NULL);
    memcpy(hash, s->caps.hash, BLAKE3_LEN);
    s->caps.info = NULL; /* so that it does not count as one that needs the text */
    if (info)
        drop_text(s->r, hash);
    s->caps.info = info;
}

/* --- merging --- */

struct merge {
    struct work work;
    struct registry *r;
    struct object_info *infos[SERVERS_MAX];
    size_t n;
    struct merged result;
};

static void run_merge(struct work *w)
{
    struct merge *x = container_of(w, struct merge, work);
    struct merged *m = &x->result;
    uint8_t hash[BLAKE3_LEN];
    char hex[BLAKE3_HEX];
    struct buf b = BUF_INIT;
    blake3_hasher h;

    m->view = object_view_new(x->infos, x->n);
    for (size_t i = 0; i < x->n; i++)
        object_info_unref(x->infos[i]); /* the view has them */
    object_view_put(&b, m->view, NULL, NULL);
    m->text = buf_to_bytes(&b);
    blake3_hasher_init(&h);
    blake3_hasher_update(&h, m->text->data, m->text->len);
    blake3_hasher_finalize(&h, hash, BLAKE3_LEN);
    blake3_hex(hash, hex);
    snprintf(m->etag, sizeof(m->etag), "\"%.32s\"", hex);
}

static void on_merged(struct work *w)
{
    struct merge *x = container_of(w, struct merge, work);
    struct registry *r = x->r;

    r->merging = false;
    if (r->closed) {
        caps_drop(r, &x->result, NULL);
    } else {
        caps_drop(r, &r->next, NULL);
        r->next = x->result;
        if (r->merge_wanted)
            caps_merge(r);
        registry_changed(r);
    }
    free(x);
    registry_unref(r);
}

void caps_merge(struct registry *r)
{
    struct merge *x;

    if (r->closed)
        return;
    r->merge_wanted = r->merging;
    if (r->merging)
        return;
    r->merging = true;
    registry_ref(r);
    x = xcalloc(1, sizeof(*x));
    x->r = r;
    for (size_t i = 0; i < SERVERS_MAX; i++)
        if (r->by_index[i] && r->by_index[i]->caps.info) {
            x->infos[i] = object_info_ref(r->by_index[i]->caps.info);
            x->n = i + 1;
        }
    x->work = (struct work){.run = run_merge, .done = on_merged};
    workers_submit(r->workers, &x->work);
}

struct bytes *registry_object_info(struct registry *r, const char **etag)
{
    if (etag)
        *etag = r->merged.text ? r->merged.etag : NULL;
    return bytes_ref(r->merged.text);
}

struct object_view *registry_view(struct registry *r)
{
    return r->merged.view;
}

struct object_info *registry_server_info(struct registry *r, unsigned index)
{
    return index < SERVERS_MAX && r->by_index[index] ? r->by_index[index]->caps.info : NULL;
}

void caps_init(struct server *s)
{
    list_init(&s->caps.fetch);
    list_init(&s->caps.load);
    timer_init(&s->caps.retry, s->r->loop, on_retry, s);
}

void caps_fini(struct server *s)
{
    timer_fini(&s->caps.retry);
    list_remove(&s->caps.fetch);
    list_remove(&s->caps.load);
    s->caps.again = false;
}
