#include "api/hub.h"

#include <stdlib.h>
#include <string.h>

#include "api/hub_priv.h"
#include "base/log.h"

#define STATUS_SOON_MS 20 /* counts that change together are told together */
#define STATUS_OTHERS_MS 400
#define BEAT_MS 3000
#define KEPT_OVERHEAD 200 /* bytes that one kept message costs beside its own, about */
#define SILENT_MS 9000 /* a client that hears nothing for 10 s connects anew (@saintno/comfyui-sdk 0.3.1) */

const struct hub_config hub_config_default = {
    .sockets_max = 19000,
    .socket_bytes = 64u << 20,
    .kept_bytes = 64u << 20,
    .kept_all = 512u << 20,
    .settle_ms = 100,
    .kept_ms = 120000,
};

/* --- clients --- */

static struct hub_tenant *tenant_get(struct hub *h, const char *name)
{
    struct hub_tenant *t;

    HASH_FIND_STR(h->tenants, name, t);
    if (t == NULL) {
        t = xcalloc(1, sizeof(*t));
        t->name = xstrdup(name);
        HASH_ADD_KEYPTR(hh, h->tenants, t->name, strlen(t->name), t);
    }
    return t;
}

struct hub_client *client_get(struct hub *h, const char *tenant, const char *id)
{
    char *key = xasprintf("%s\x1f%s", tenant, id ? id : "");
    struct hub_client *c;

    HASH_FIND_STR(h->clients, key, c);
    if (c) {
        free(key);
        return c;
    }
    c = xcalloc(1, sizeof(*c));
    c->key = key;
    c->tenant = tenant_get(h, tenant);
    c->id = xstrdup(id ? id : "");
    list_init(&c->sockets);
    list_init(&c->streams);
    list_init(&c->kept);
    HASH_ADD_KEYPTR(hh, h->clients, c->key, strlen(c->key), c);
    return c;
}

void client_unkeep(struct hub *h, struct hub_client *c, struct out *o)
{
    c->kept_bytes -= o->frame->len + KEPT_OVERHEAD;
    h->kept_bytes -= o->frame->len + KEPT_OVERHEAD;
    if (o->last)
        told_done(h, o->job);
    list_remove(&o->link);
}

static void client_forget_kept(struct hub *h, struct hub_client *c)
{
    list_for_each_safe(it, &c->kept) {
        struct out *o = list_entry(it, struct out, link);

        client_unkeep(h, c, o);
        out_free(o);
    }
}

static void client_free(struct hub *h, struct hub_client *c)
{
    client_forget_kept(h, c);
    HASH_DEL(h->clients, c);
    free(c->key);
    free(c->id);
    free(c);
}

/* Nothing is known of it any more that somebody could ask for. */
void client_drop_idle(struct hub *h, struct hub_client *c)
{
    if (!list_empty(&c->kept) && c->kept_until <= loop_now(h->loop))
        client_forget_kept(h, c);
    if (list_empty(&c->sockets) && list_empty(&c->streams) && list_empty(&c->kept))
        client_free(h, c);
}

size_t client_remaining(const struct hub_client *c)
{
    return c->submitted ? c->untold : c->tenant->untold;
}

size_t hub_remaining(struct hub *h, const char *tenant, const char *client_id)
{
    struct hub_tenant *t;
    struct hub_client *c;
    char *key;

    if (client_id == NULL || client_id[0] == '\0') {
        HASH_FIND_STR(h->tenants, tenant, t);
        return t ? t->untold : 0;
    }
    key = xasprintf("%s\x1f%s", tenant, client_id);
    HASH_FIND_STR(h->clients, key, c);
    free(key);
    return c ? c->untold : 0;
}

static void keep(struct hub *h, struct hub_client *c, struct out *o)
{
    c->kept_bytes += o->frame->len + KEPT_OVERHEAD;
    h->kept_bytes += o->frame->len + KEPT_OVERHEAD;
    list_push_back(&c->kept, &o->link);
}

static bool has_room(const struct hub *h, const struct hub_client *c, const struct out *o)
{
    size_t n = o->frame->len + KEPT_OVERHEAD;

    return c->kept_bytes + n <= h->cfg.kept_bytes && h->kept_bytes + n <= h->cfg.kept_all;
}

/* The client is away: what it must not miss waits for it. */
bool client_keep(struct hub *h, struct hub_client *c, const char *job, struct out *o)
{
    bool wanted = c->id[0] && (o->kind == OUT_PRODUCT || o->kind == OUT_END);

    c->kept_until = loop_now(h->loop) + h->cfg.kept_ms;
    if (!wanted || !has_room(h, c, o)) {
        if (wanted)
            log_warn(LOG_S("job", job),
                     LOG_S("event", o->kind == OUT_PRODUCT ? "picture_not_kept" : "end_not_kept"),
                     LOG_I("bytes", o->frame->len),
                     LOG_S("reason", "too much waits for clients that are away"));
        out_free(o);
        return false;
    }
    if (o->kind == OUT_PRODUCT && o->node &&
        o->audience != OUT_LEGACY) { /* a client tells them apart by what executes */
        struct buf b = BUF_INIT;

        event_put_executing(&b, o->node, o->node, job);
        keep(h, c, out_text(OUT_PLAIN, &b));
    }
    keep(h, c, o);
    return true;
}

/* --- status --- */

void socket_status(struct hub_socket *k, bool first)
{
    struct buf b = BUF_INIT;
    struct out o = {.kind = OUT_PLAIN};

    k->told = client_remaining(k->client);
    k->told_at = loop_now(k->hub->loop);
    event_put_status(&b, (int64_t)k->told, first ? k->sid : NULL);
    o.frame = ws_frame_new(WS_TEXT, b.data, b.len);
    socket_send(k, &o);
    bytes_unref(o.frame);
    buf_free(&b);
}

void status_later(struct hub *h)
{
    if (!timer_is_set(&h->status))
        timer_set(&h->status, STATUS_SOON_MS);
}

/* What concerns others only is not told at every change: some clients read the whole queue each time. */
static bool status_can_wait(const struct hub_socket *k)
{
    return !k->client->submitted && loop_now(k->hub->loop) - k->told_at < STATUS_OTHERS_MS;
}

static void on_status(void *arg)
{
    struct hub *h = arg;
    struct hub_client *c, *tmp;
    bool rest = false;

    HASH_ITER(hh, h->clients, c, tmp) {
        list_for_each_safe(it, &c->sockets) {
            struct hub_socket *k = list_entry(it, struct hub_socket, link);

            if (!c->status_due && k->told == client_remaining(c))
                continue;
            if (status_can_wait(k))
                rest = true;
            else
                socket_status(k, false);
        }
        c->status_due = false;
    }
    if (rest && !timer_is_set(&h->others))
        timer_set(&h->others, STATUS_OTHERS_MS / 4);
}

/* Some clients take silence for a dead connection while they wait for a job. */
static void on_beat(void *arg)
{
    struct hub *h = arg;
    int64_t now = loop_now(h->loop);
    struct hub_client *c, *tmp;

    HASH_ITER(hh, h->clients, c, tmp) {
        list_for_each_safe(it, &c->sockets) {
            struct hub_socket *k = list_entry(it, struct hub_socket, link);

            if (!list_empty(&c->streams) && now - k->sent_at >= SILENT_MS)
                socket_status(k, false);
        }
        client_drop_idle(h, c);
    }
    timer_set(&h->beat, BEAT_MS);
}

static void on_settle(void *arg)
{
    struct hub *h = arg;
    struct hub_client *c, *tmp;

    HASH_ITER(hh, h->clients, c, tmp)
        streams_pump(h, c);
}

/* --- life --- */

struct hub *hub_new(struct loop *l, struct clock *c, const struct hub_config *cfg, const char *features)
{
    struct hub *h = xcalloc(1, sizeof(*h));

    h->loop = l;
    h->clock = c;
    h->cfg = *cfg;
    h->features = xstrdup(features);
    timer_init(&h->settle, l, on_settle, h);
    timer_init(&h->status, l, on_status, h);
    timer_init(&h->others, l, on_status, h);
    timer_init(&h->beat, l, on_beat, h);
    timer_set(&h->beat, BEAT_MS);
    told_init(h);
    return h;
}

void hub_set_limits(struct hub *h, unsigned sockets_max, const char *features)
{
    h->cfg.sockets_max = sockets_max;
    free(h->features);
    h->features = xstrdup(features);
}

static bool adopt(const struct runner_job_view *job, void *arg)
{
    struct hub *h = arg;
    struct hub_stream *s = stream_add(h, job->s);

    s->begun = job->s->state != JOB_QUEUED;
    s->started = s->cached =
        job->s->state == JOB_COLLECTING ||
        (job->s->state == JOB_RUNNING && stream_was_told(h, job->s, h->clock->wall_ms(h->clock)));
    return true;
}

void hub_start(struct hub *h, struct runner *r, struct store *store)
{
    h->runner = r;
    runner_each(r, adopt, h);
    if (store)
        told_start(h, store);
}

void hub_free(struct hub **hp)
{
    struct hub *h = *hp;
    struct hub_client *c, *tmp;
    struct hub_tenant *t, *tmp_t;

    if (h == NULL)
        return;
    told_fini(h);
    HASH_ITER(hh, h->clients, c, tmp) {
        list_for_each_safe(it, &c->sockets) {
            struct hub_socket *k = list_entry(it, struct hub_socket, link);

            ws_abort(&k->ws);
            socket_free(k);
        }
        list_for_each_safe(it, &c->streams)
            stream_free(h, list_entry(it, struct hub_stream, link));
        client_free(h, c);
    }
    HASH_ITER(hh, h->tenants, t, tmp_t) {
        HASH_DEL(h->tenants, t);
        free(t->name);
        free(t);
    }
    expected_free_all(h);
    timer_fini(&h->settle);
    timer_fini(&h->status);
    timer_fini(&h->others);
    timer_fini(&h->beat);
    free(h->features);
    free(h);
    *hp = NULL;
}

unsigned hub_sockets(const struct hub *h)
{
    return h->sockets;
}

static bool client_logs(const struct hub_client *c)
{
    return c->logs && !list_empty(&c->sockets);
}

void hub_want_logs(struct hub *h, const char *tenant, const char *client_id, bool want)
{
    if (hub_has_socket(h, tenant, client_id))
        client_get(h, tenant, client_id)->logs = want;
}

bool hub_logs_wanted(struct hub *h)
{
    struct hub_client *c, *tmp;

    HASH_ITER(hh, h->clients, c, tmp)
        if (client_logs(c))
            return true;
    return false;
}

void hub_tell_logs(struct hub *h, struct buf *message)
{
    struct out *o = out_text(OUT_PROGRESS, message); /* left out for a socket that does not keep up */
    struct hub_client *c, *tmp;

    HASH_ITER(hh, h->clients, c, tmp) {
        if (!client_logs(c)) {
            c->logs = false;
            continue;
        }
        list_for_each_safe(it, &c->sockets)
            socket_send(list_entry(it, struct hub_socket, link), o);
    }
    out_free(o);
}

bool hub_has_socket(struct hub *h, const char *tenant, const char *client_id)
{
    char *key = xasprintf("%s\x1f%s", tenant, client_id);
    struct hub_client *c;

    HASH_FIND_STR(h->clients, key, c);
    free(key);
    return c && !list_empty(&c->sockets);
}

void hub_each_peer(struct hub *h, const char *tenant, const char *peer_ip,
                   void (*cb)(const char *client_id, void *arg), void *arg)
{
    struct hub_client *c, *tmp;

    HASH_ITER(hh, h->clients, c, tmp) {
        bool here = false;

        list_for_each(it, &c->sockets) {
            here |= strcmp(ws_peer_ip(list_entry(it, struct hub_socket, link)->ws), peer_ip) == 0;
        }
        if (here && strcmp(c->tenant->name, tenant) == 0)
            cb(c->id, arg);
    }
}
