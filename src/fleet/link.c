/* The socket to a server, and what comes over it.
 *
 *   CLOSED ──timer──> CONNECTING ──101──> GREETING ──first message──> OPEN
 *     ^                   │                  │                          │
 *     └───────────────────┴──────────────────┴──────────────────────────┘
 *
 * Every connection has a client id of its own: a server that still holds the old socket of an id would send
 * to that one, or forget the new one together with it (pitfall 2). It registers the id after the handshake,
 * so prompts are sent only when it has spoken. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/plant.h"
#include "comfy/events.h"
#include "fleet/fleet_priv.h"

#define BACKOFF_LEAST_MS 300
#define BACKOFF_MOST_MS 10000
#define STEADY_MS 10000 /* open for so long: the next attempts begin with the least pause again */
#define PING_MS 15000
#define QUIET_MS (PING_MS + 5000) /* a ping was sent and nothing came: half open, or busy */
#define QUIET_EVERY_MS 5000
#define LOGS_MS 30000
#define GREETING_MS 20000 /* a server that loads a model may be slow to say its first word */

static const struct ws_limits link_limits = {
    /* While it loads a model a server may answer no ping for half a minute. */
    .message = (size_t)256 << 20,
    .ping_ms = PING_MS,
    .pong_ms = 60000,
    .write_ms = 60000,
};

static const char *const link_state_names[] = {"closed", "connecting", "greeting", "open"};

static void link_set_state(struct server *s, enum link_state to, const char *why)
{
    struct link *l = &s->link;

    log_debug(LOG_S("server", s->name), LOG_S("link", link_state_names[l->state]),
              LOG_S("to", link_state_names[to]), LOG_S("client_id", l->client_id), LOG_S("reason", why));
    l->state = to;
}

bool link_is_open(const struct server *s)
{
    return s->link.state == LINK_OPEN;
}

static void link_tell(struct server *s, bool up)
{
    struct registry *r = s->r;

    if (!s->gone)
        log_info(LOG_S("server", s->name), LOG_S("event", up ? "link_up" : "link_down"));
    if (r->listener)
        r->listener->on_link(r->listener_arg, s->name, up);
}

static void link_retry(struct server *s)
{
    struct link *l = &s->link;
    int64_t ms = l->tries > 5 ? BACKOFF_MOST_MS : (int64_t)BACKOFF_LEAST_MS << l->tries;
    uint32_t rnd;

    if (ms > BACKOFF_MOST_MS)
        ms = BACKOFF_MOST_MS;
    s->r->clock->random(s->r->clock, &rnd, sizeof(rnd));
    l->tries++;
    timer_set(&l->timer, ms / 2 + rnd % (ms / 2 + 1));
}

static void on_logs_wanted(const struct http_answer *a, void *arg)
{
    struct server *s = arg;

    if (a->end != HTTP_CALL_OK || a->status != 200)
        log_info(LOG_S("server", s->name), LOG_S("event", "logs_not_subscribed"), LOG_I("status", a->status),
                 LOG_S("reason", a->why));
    server_unref(s);
}

void link_want_logs(struct server *s, bool want)
{
    char *text =
        xasprintf("{\"clientId\": \"%s\", \"enabled\": %s}", s->link.client_id, want ? "true" : "false");
    struct bytes *body = bytes_new(text, strlen(text));

    http_fetch(s->visits, "PATCH", "/internal/logs/subscribe", "application/json", body, JSON_ON_LOOP,
               LOGS_MS, on_logs_wanted, server_ref(s));
    bytes_unref(body);
    free(text);
}

static void link_opened(struct server *s)
{
    struct link *l = &s->link;

    timer_set(&l->timer, QUIET_EVERY_MS);
    l->opened_at = loop_now(s->r->loop);
    link_set_state(s, LINK_OPEN, NULL);
    if (!PLANTED(STAGED_KEPT))
        staging_forget(s, NULL); /* it may be another life of the server */
    link_tell(s, true);
    if (s->r->logs_wanted)
        link_want_logs(s, true);
    watch_link_open(s);
    caps_fetch(s);
}

/* --- messages --- */

/* An id of ours is a canonical UUID; anything else is somebody else's prompt. */
static bool own_id(struct json v, char out[UUID_SIZE])
{
    char *id = json_strdup(v);
    bool ok = id && uuid_is_canonical(id, strlen(id));

    if (ok)
        memcpy(out, id, UUID_SIZE);
    free(id);
    return ok;
}

/* What concerns the server alone, or, sent to everybody, nobody's prompt. */
static bool is_private(const struct event *ev)
{
    static const char assets[] = "\"assets.seed.";

    return ev->kind == EVENT_STATUS || ev->kind == EVENT_FEATURE_FLAGS || ev->kind == EVENT_LOGS ||
           json_str_eq(ev->type, "asset_download") ||
           (ev->type.n > sizeof(assets) && memcmp(ev->type.p, assets, sizeof(assets) - 1) == 0);
}

static void got_text(struct server *s, const char *text, size_t n)
{
    struct link *l = &s->link;
    struct registry *r = s->r;
    struct event ev;
    struct err e;
    char id[UUID_SIZE];
    bool over;

    if (event_parse(text, n, &ev, &e) < 0) {
        log_warn(LOG_S("server", s->name), LOG_S("event", "message_dropped"), LOG_S("reason", e.msg));
        return;
    }
    if (ev.kind == EVENT_STATUS && ev.queue_remaining >= 0 && ev.queue_remaining <= INT32_MAX)
        l->queue = (int)ev.queue_remaining;
    if (ev.kind == EVENT_LOGS && r->on_logs && r->logs_wanted)
        r->on_logs(s->name, ev.data, r->on_logs_arg);
    if (is_private(&ev))
        return;
    if (!ev.prompt_id.p && json_is_null(json_get(ev.data, "prompt_id"))) {
        if (l->running[0] == '\0')
            return;
        memcpy(id, l->running, UUID_SIZE);
    } else if (own_id(ev.prompt_id, id)) {
        watch_event(s);
    } else {
        return;
    }
    over = event_is_terminal(&ev) || event_is_end(&ev);
    /* These two are sent to the socket that submitted it only, so it is ours. */
    if (ev.kind == EVENT_EXECUTION_START || (ev.kind == EVENT_EXECUTING && !over))
        memcpy(l->running, id, UUID_SIZE);
    if (over && strcmp(l->running, id) == 0)
        l->running[0] = '\0';
    if (event_is_end(&ev)) {
        server_release(s, id);
        watch_witness(s, id, true);
    }
    if (r->listener)
        r->listener->on_event(r->listener_arg, s->name, id, text, n);
}

static void got_binary(struct server *s, const char *data, size_t n)
{
    struct registry *r = s->r;
    struct frame f;
    struct err e;
    char id[UUID_SIZE];

    if (frame_parse(data, n, &f, &e) < 0) {
        log_warn(LOG_S("server", s->name), LOG_S("event", "frame_dropped"), LOG_S("reason", e.msg));
        return;
    }
    memcpy(id, s->link.running, UUID_SIZE);
    if (f.type == FRAME_IMAGE_META && !json_is_null(json_get(f.meta, "prompt_id")) &&
        !own_id(json_get(f.meta, "prompt_id"), id))
        return;
    if (id[0] && r->listener)
        r->listener->on_frame(r->listener_arg, s->name, id, data, n);
}

static void on_message(struct ws *w, enum ws_type type, const char *data, size_t n, void *arg)
{
    struct server *s = server_ref(arg);

    (void)w;
    if (s->link.state == LINK_GREETING)
        link_opened(s);
    if (type == WS_TEXT)
        got_text(s, data, n);
    else
        got_binary(s, data, n);
    server_unref(s);
}

/* --- coming and going --- */

static void on_open(struct ws *w, void *arg)
{
    static const char flags[] =
        "{\"type\": \"feature_flags\", \"data\": {\"supports_preview_metadata\": true}}";
    struct server *s = arg;

    ws_send_text(w, flags, sizeof(flags) - 1);
    link_set_state(s, LINK_GREETING, NULL);
    timer_set(&s->link.timer, GREETING_MS);
}

static void on_close(struct ws *w, int code, const char *reason, bool opened, void *arg)
{
    struct server *s = arg;
    struct link *l = &s->link;
    bool was_open = l->state == LINK_OPEN;
    char why[160];

    (void)w;
    l->ws = NULL;
    l->running[0] = '\0';
    l->queue = -1;
    if (opened && code != 1006)
        snprintf(why, sizeof(why), "socket closed with code %d%s%s", code, *reason ? ": " : "", reason);
    else
        snprintf(why, sizeof(why), "socket: %s", reason);
    if (was_open && loop_now(s->r->loop) - l->opened_at >= STEADY_MS)
        l->tries = 0;
    link_set_state(s, LINK_CLOSED, why);
    link_retry(s);
    if (was_open) {
        link_tell(s, false);
        watch_link_lost(s, why);
    } else {
        watch_link_failed(s, why);
    }
}

static void link_connect(struct server *s)
{
    static const struct ws_handlers h = {.on_open = on_open, .on_message = on_message, .on_close = on_close};
    char target[64];

    uuid_v4(s->r->clock, s->link.client_id);
    snprintf(target, sizeof(target), "/ws?clientId=%s", s->link.client_id);
    link_set_state(s, LINK_CONNECTING, NULL);
    s->link.ws = ws_connect(s->http, target, NULL, &link_limits, &h, s);
}

static void on_link_timer(void *arg)
{
    struct server *s = arg;

    if (s->link.state == LINK_CLOSED) {
        link_connect(s);
    } else if (s->link.state == LINK_GREETING) {
        ws_close(s->link.ws, 1000, "no status message came");
    } else if (s->link.state == LINK_OPEN) {
        if (loop_now(s->r->loop) - ws_last_heard(s->link.ws) >= QUIET_MS)
            watch_link_quiet(s);
        timer_set(&s->link.timer, QUIET_EVERY_MS);
    }
}

void link_init(struct server *s)
{
    s->link.queue = -1;
    timer_init(&s->link.timer, s->r->loop, on_link_timer, s);
}

void link_start(struct server *s)
{
    timer_set(&s->link.timer, 0);
}

void link_stop(struct server *s)
{
    bool was_open = link_is_open(s);

    timer_fini(&s->link.timer);
    if (s->link.ws)
        ws_abort(&s->link.ws);
    link_set_state(s, LINK_CLOSED, "removed");
    s->link.running[0] = '\0';
    if (was_open)
        link_tell(s, false);
}
