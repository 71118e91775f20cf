#include "sim/hub.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/list.h"
#include "base/log.h"
#include "base/uuid.h"
#include "comfy/events.h"

#define QUEUED_MAX                                                                                           \
    (64u << 20) /* a socket that does not read is cut here: the simulator's memory is bounded */

enum flags { FLAGS_NONE, FLAGS_METADATA, FLAGS_NULL };

struct sock {
    struct hub *hub;
    struct ws *ws;
    struct list link;
    char *sid;
    bool first_seen; /* the first text message that parses has come */
};

struct registered {
    char *sid;
    struct sock *sock;
    enum flags flags;
    UT_hash_handle hh;
};

struct hub {
    struct hub_conf conf;
    struct list socks;
    struct registered *ids;
    bool silent;
};

struct hub *sim_hub_new(const struct hub_conf *c)
{
    struct hub *h = xcalloc(1, sizeof(*h));

    h->conf = *c;
    list_init(&h->socks);
    return h;
}

static struct registered *find(const struct hub *h, const char *sid)
{
    struct registered *r;

    HASH_FIND_STR(h->ids, sid, r);
    return r;
}

static void unregister(struct hub *h, const char *sid)
{
    struct registered *r = find(h, sid);

    if (!r)
        return;
    HASH_DEL(h->ids, r);
    free(r->sid);
    free(r);
}

static void sock_free(struct sock *s)
{
    unregister(s->hub, s->sid); /* whoever holds the id now: ComfyUI does not look either */
    list_remove(&s->link);
    free(s->sid);
    free(s);
}

void hub_cut(struct hub *h)
{
    while (!list_empty(&h->socks)) {
        struct sock *s = list_first(&h->socks, struct sock, link);

        ws_abort(&s->ws);
        sock_free(s);
    }
}

void sim_hub_free(struct hub **h)
{
    if (!*h)
        return;
    hub_cut(*h);
    free(*h);
    *h = NULL;
}

static void send_one(struct sock *s, enum ws_type type, const void *p, size_t n)
{
    if (ws_queued(s->ws) > QUEUED_MAX) {
        log_warn(LOG_S("sim", "socket"), LOG_S("sid", s->sid), LOG_S("reason", "does not read"));
        ws_abort(&s->ws);
        sock_free(s);
        return;
    }
    if (type == WS_TEXT)
        ws_send_text(s->ws, p, n);
    else
        ws_send_binary(s->ws, p, n);
}

static void send_to(struct hub *h, const char *sid, enum ws_type type, const void *p, size_t n)
{
    struct registered *r, *next;

    if (h->silent)
        return;
    if (sid) {
        r = find(h, sid);
        if (r)
            send_one(r->sock, type, p, n);
        return;
    }
    HASH_ITER(hh, h->ids, r, next)
        send_one(r->sock, type, p, n);
}

void hub_text(struct hub *h, const char *sid, const char *s, size_t n)
{
    send_to(h, sid, WS_TEXT, s, n);
}

void hub_binary(struct hub *h, const char *sid, const void *p, size_t n)
{
    send_to(h, sid, WS_BINARY, p, n);
}

int hub_metadata(const struct hub *h, const char *sid)
{
    struct registered *r = find(h, sid);

    if (!r || r->flags == FLAGS_NONE)
        return 0;
    return r->flags == FLAGS_METADATA ? 1 : -1;
}

bool hub_has(const struct hub *h, const char *sid)
{
    return find(h, sid) != NULL;
}

void hub_silence(struct hub *h, bool on)
{
    h->silent = on;
}

size_t hub_count(const struct hub *h)
{
    return list_len(&h->socks);
}

/* Only the first text that is a JSON object counts; what follows is ignored. */
static void on_message(struct ws *w, enum ws_type type, const char *data, size_t n, void *arg)
{
    struct sock *s = arg;
    struct buf b = BUF_INIT, features = BUF_INIT;
    struct registered *r = find(s->hub, s->sid);
    struct json msg, flags;

    (void)w;
    if (type != WS_TEXT || s->first_seen || json_check(data, n, NULL, &msg, NULL) < 0 ||
        json_type(msg) != JSON_OBJECT)
        return;
    s->first_seen = true;
    if (!json_str_eq(json_get(msg, "type"), "feature_flags") || !r)
        return;
    flags = json_get(msg, "data");
    r->flags = flags.p && json_type(flags) != JSON_OBJECT                   ? FLAGS_NULL
               : json_is_true(json_get(flags, "supports_preview_metadata")) ? FLAGS_METADATA
                                                                            : FLAGS_NONE;
    s->hub->conf.features(s->hub->conf.arg, &features);
    event_put_feature_flags(&b, (struct json){features.data, features.len});
    hub_text(s->hub, s->sid, b.data, b.len);
    buf_free(&features);
    buf_free(&b);
}

static void on_close(struct ws *w, int code, const char *reason, bool opened, void *arg)
{
    struct sock *s = arg;

    (void)w;
    (void)opened;
    log_debug(LOG_S("sim", "socket"), LOG_S("sid", s->sid), LOG_I("code", code), LOG_S("reason", reason));
    s->ws = NULL;
    sock_free(s);
}

void sim_hub_accept(struct hub *h, struct http_req *r, const char *sid, struct clock *clock)
{
    static const struct ws_handlers handlers = {.on_message = on_message, .on_close = on_close};
    static const struct ws_limits limits = {.message = 4u << 20, .write_ms = 0};
    struct registered *reg;
    struct sock *s;
    char minted[UUID_SIZE];

    if (!sid || !*sid) { /* uuid4().hex: without hyphens */
        size_t n = 0;

        uuid_v4(clock, minted);
        for (size_t i = 0; minted[i]; i++)
            if (minted[i] != '-')
                minted[n++] = minted[i];
        minted[n] = '\0';
        sid = minted;
    }
    s = xcalloc(1, sizeof(*s));
    s->hub = h;
    s->sid = xstrdup(sid);
    list_init(&s->link);
    s->ws = ws_accept(r, &limits, &handlers, s);
    if (!s->ws) {
        free(s->sid);
        free(s);
        return;
    }
    list_push_back(&h->socks, &s->link);
    unregister(h, sid);
    reg = xcalloc(1, sizeof(*reg));
    reg->sid = xstrdup(sid);
    reg->sock = s;
    HASH_ADD_KEYPTR(hh, h->ids, reg->sid, strlen(reg->sid), reg);
    if (!h->silent)
        h->conf.greet(h->conf.arg, s->sid, s->ws);
}
