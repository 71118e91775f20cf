/* One WebSocket of a client. */
#include <stdlib.h>
#include <string.h>

#include "api/hub_priv.h"
#include "base/json.h"
#include "base/log.h"
#include "base/plant.h"
#include "base/uuid.h"
#include "comfy/splice.h"

#define BEHIND_BYTES                                                                                         \
    (256u << 10) /* queued for one socket: from here on progress and previews are left out  \
                                   */

#define PING_MS 20000
#define PONG_MS 20000

static const struct ws_limits socket_limits = {
    .message = 4u << 20, /* as aiohttp's, and ComfyUI's */
    .ping_ms = PING_MS,
    .pong_ms = PONG_MS,
    .write_ms = 60000,
};

void socket_free(struct hub_socket *k)
{
    list_for_each_safe(it, &k->unsure)
        out_free(list_entry(it, struct out, link));
    k->hub->sockets--;
    list_remove(&k->link);
    free(k->sid);
    free(k);
}

static bool is_for(const struct hub_socket *k, enum out_audience a)
{
    switch (a) {
    case OUT_METADATA: return k->metadata;
    case OUT_LEGACY: return !k->metadata;
    case OUT_TEXT_METADATA: return k->text_metadata;
    case OUT_TEXT_LEGACY: return !k->text_metadata;
    case OUT_ALL: break;
    }
    return true;
}

void socket_send(struct hub_socket *k, const struct out *o)
{
    struct bytes *f = o->frame;
    size_t queued = ws_queued(k->ws);
    bool passing = o->kind == OUT_PROGRESS || o->kind == OUT_PREVIEW;

    if (!is_for(k, o->audience) || (passing && queued > BEHIND_BYTES))
        return;
    if (queued + f->len > k->hub->cfg.socket_bytes) {
        k->behind = true;
        ws_close(k->ws, 1013, "too far behind");
        return;
    }
    k->sent_at = loop_now(k->hub->loop);
    ws_send_frame(k->ws, f);
}

/* --- what may not have arrived --- */

/* Longer than this no socket stays open whose client does not answer pings. */
#define UNSURE_MS (PING_MS + PONG_MS + PING_MS)
#define UNSURE_MAX 1000 /* of more, the last */

static void unsure_drop(struct hub_socket *k, struct out *o)
{
    k->n_unsure--;
    out_free(o);
}

static void unsure_drop_old(struct hub_socket *k)
{
    int64_t now = loop_now(k->hub->loop);

    while (!list_empty(&k->unsure)) {
        struct out *o = list_first(&k->unsure, struct out, link);

        if (k->n_unsure <= UNSURE_MAX && now - o->sent_at <= UNSURE_MS)
            break;
        unsure_drop(k, o);
    }
}

void socket_sent(struct hub_socket *k, struct out *o)
{
    if (o->kind != OUT_END) {
        out_free(o);
        return;
    }
    o->sent_at = loop_now(k->hub->loop);
    list_push_back(&k->unsure, &o->link);
    k->n_unsure++;
    unsure_drop_old(k);
}

/* Its client is gone without a word: what was sent last waits until it comes back. */
static void keep_unsure(struct hub_socket *k)
{
    unsure_drop_old(k);
    while (!PLANTED(UNSURE_LOST) && !list_empty(&k->unsure)) {
        struct out *o = list_first(&k->unsure, struct out, link);
        char job[UUID_SIZE];
        bool last = o->last;

        list_remove(&o->link);
        k->n_unsure--;
        memcpy(job, o->job, UUID_SIZE);
        if (client_keep(k->hub, k->client, job, o) && last)
            told_undone(k->hub, job);
    }
}

/* What we support; and that texts name their prompt, to one who has said that it can read them so: newer frontends go by
 * this flag of the server's alone. */
static void put_flags(struct hub_socket *k, struct buf *b)
{
    const char *ours = k->hub->features;
    struct json whole = {ours, strlen(ours)};
    struct edits ed = EDITS_INIT;
    struct buf flags = BUF_INIT;

    if (k->text_metadata)
        edits_add_member(&ed, whole, "supports_progress_text_metadata", "true", 4);
    edits_put(&ed, &flags, whole);
    event_put_feature_flags(b, (struct json){flags.data, flags.len});
    edits_fini(&ed);
    buf_free(&flags);
}

/* The first text that is a JSON object may be feature_flags; later ones and everything else are ignored, as a
 * stock server does. Only the value true counts. */
static void on_message(struct ws *w, enum ws_type type, const char *data, size_t n, void *arg)
{
    struct hub_socket *k = arg;
    struct json whole, flags;
    struct buf b = BUF_INIT;
    struct out o = {.kind = OUT_PLAIN};

    (void)w;
    if (k->greeted || type != WS_TEXT || json_check(data, n, NULL, &whole, NULL) < 0 ||
        json_type(whole) != JSON_OBJECT)
        return;
    k->greeted = true;
    if (!json_str_eq(json_get(whole, "type"), "feature_flags"))
        return;
    flags = json_get(whole, "data");
    k->flags = json_type(flags) == JSON_OBJECT;
    k->metadata = json_is_true(json_get(flags, "supports_preview_metadata"));
    k->text_metadata = json_is_true(json_get(flags, "supports_progress_text_metadata"));
    put_flags(k, &b);
    o.frame = ws_frame_new(WS_TEXT, b.data, b.len);
    socket_send(k, &o);
    bytes_unref(o.frame);
    buf_free(&b);
}

static void on_close(struct ws *w, int code, const char *reason, bool opened, void *arg)
{
    struct hub_socket *k = arg;
    struct hub *h = k->hub;
    struct hub_client *c = k->client;

    (void)w;
    (void)opened;
    log_info(LOG_S("sid", k->sid), LOG_S("event", "socket_closed"), LOG_I("code", code),
             LOG_S("reason", reason));
    if ((code == 1006 || k->behind) && c->sockets.next == &k->link && c->sockets.prev == &k->link)
        keep_unsure(k);
    socket_free(k);
    c->kept_until = loop_now(h->loop) + h->cfg.kept_ms;
    streams_pump(h, c); /* those that waited for a turn on this socket */
    client_drop_idle(h, c);
}

static const struct ws_handlers handlers = {.on_message = on_message, .on_close = on_close};

static void deliver_kept(struct hub_socket *k)
{
    struct hub_client *c = k->client;

    list_for_each_safe(it, &c->kept) {
        struct out *o = list_entry(it, struct out, link);

        socket_send(k, o);
        client_unkeep(k->hub, c, o);
        socket_sent(k, o);
    }
}

void hub_accept(struct hub *h, struct http_req *req, const char *tenant, const char *client_id)
{
    struct hub_socket *k;
    struct clock *clk = h->clock;
    char made[UUID_SIZE];

    if (h->sockets >= h->cfg.sockets_max) {
        http_set(req, "Retry-After", "5");
        http_reply_str(req, 503, "text/plain; charset=utf-8", "too many clients\n");
        return;
    }
    k = xcalloc(1, sizeof(*k));
    k->hub = h;
    list_init(&k->link);
    list_init(&k->unsure);
    if (client_id == NULL || client_id[0] == '\0') { /* 32 hex digits, as a stock server makes them */
        char *to = made;

        uuid_v4(clk, made);
        for (const char *p = made; *p; p++)
            if (*p != '-')
                *to++ = *p;
        *to = '\0';
        client_id = made;
    }
    k->sid = xstrdup(client_id);
    k->sent_at = loop_now(h->loop);
    h->sockets++;
    k->ws = ws_accept(req, &socket_limits, &handlers, k);
    if (k->ws == NULL) {
        socket_free(k);
        return;
    }
    k->client = client_get(h, tenant, client_id);
    list_push_back(&k->client->sockets, &k->link);
    log_info(LOG_S("sid", k->sid), LOG_S("event", "socket_open"), LOG_S("peer", ws_peer(k->ws)),
             LOG_I("sockets", h->sockets));
    socket_status(k, true);
    deliver_kept(k);
    stream_catch_up(k);
}
