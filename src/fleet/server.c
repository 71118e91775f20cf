/* One ComfyUI server: its life. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "fleet/fleet_priv.h"

#define VISITS_MAX 64 /* connections for what clients ask of one server; more of it waits */

static void on_retire(void *arg)
{
    struct server *s = arg;

    /* Ends its calls, which may ask the fleet for more: it is no longer there for them. */
    http_client_free(&s->http);
    http_client_free(&s->visits);
    staging_forget(s, NULL);
    server_unref(s);
}

struct server *server_new(struct registry *r, const struct registry_entry *in, struct err *e)
{
    struct http_client_config cfg = {.connect_ms = r->cfg.connect_ms, .max_idle = 2, .tls = r->tls};
    struct http_client_config for_visits = {
        .connect_ms = r->cfg.connect_ms, .max_conns = VISITS_MAX, .tls = r->tls};
    struct http_client *http = http_client_new(r->loop, in->url, &cfg, e);
    const struct http_url *u;
    struct server *s;

    if (http == NULL)
        return NULL;
    s = xcalloc(1, sizeof(*s));
    registry_ref(r);
    s->r = r;
    s->refs = 1;
    s->name = xstrdup(in->name);
    s->url = xstrdup(in->url);
    u = http_client_url(http);
    s->shown = xasprintf("%s://%s%s", u->tls ? "https" : "http", u->authority, u->base);
    s->tags = xstrdup(in->tags ? in->tags : "[]");
    s->depth = in->depth;
    s->http = http;
    s->visits = http_client_new(r->loop, in->url, &for_visits, e);
    assert(s->visits); /* its twin could be made */
    list_init(&s->held);
    task_init(&s->retire, on_retire, s);
    link_init(s);
    watch_init(s);
    caps_init(s);
    return s;
}

void server_start(struct server *s)
{
    caps_load(s);
    link_start(s);
}

void server_retire(struct server *s, bool now)
{
    s->gone = true;
    if (!now)
        log_info(LOG_S("server", s->name), LOG_S("event", "removed"));
    link_stop(s);
    watch_fini(s);
    caps_fini(s);
    if (now)
        on_retire(s);
    else
        loop_defer(s->r->loop, &s->retire);
}

struct server *server_ref(struct server *s)
{
    if (s)
        s->refs++;
    return s;
}

void server_unref(struct server *s)
{
    struct registry *r;

    if (s == NULL || --s->refs)
        return;
    r = s->r;
    list_for_each_safe(it, &s->held)
        free(list_entry(it, struct held, link));
    bytes_unref(s->caps.stats);
    caps_drop(r, NULL, s->caps.info);
    free(s->name);
    free(s->url);
    free(s->shown);
    free(s->tags);
    free(s);
    registry_unref(r);
}

static struct held *held_find(struct server *s, const char *id)
{
    list_for_each(it, &s->held) {
        struct held *h = list_entry(it, struct held, link);

        if (strcmp(h->id, id) == 0)
            return h;
    }
    return NULL;
}

void server_hold(struct server *s, const char *id, bool sent)
{
    struct held *h;

    if (s->gone || held_find(s, id))
        return;
    h = xcalloc(1, sizeof(*h));
    strncpy(h->id, id, UUID_LEN);
    if (sent)
        memcpy(h->client_id, s->link.client_id, UUID_SIZE);
    list_push_back(&s->held, &h->link);
}

bool server_owes_event(struct server *s, const char *id)
{
    struct held *h = held_find(s, id);

    return h && link_is_open(s) && strcmp(h->client_id, s->link.client_id) == 0;
}

int64_t server_heard_ago(const struct server *s)
{
    int64_t at = s->health.heard_at;

    if (link_is_open(s) && ws_last_heard(s->link.ws) > at)
        at = ws_last_heard(s->link.ws);
    return at ? loop_now(s->r->loop) - at : -1;
}

void server_release(struct server *s, const char *id)
{
    struct held *h = held_find(s, id);

    if (h) {
        list_remove(&h->link);
        free(h);
    }
}

/* The client tells apart what was sent and what was not, but not why; its words are the system's. */
bool server_refused(enum http_call_end end, const char *why)
{
    return (end == HTTP_CALL_NOT_SENT || end == HTTP_CALL_LOST) &&
           (strcasestr(why, "refused") || strcasestr(why, "reset by peer"));
}

void server_note(struct server *s, enum http_call_end end, int status, const char *why)
{
    if (s->gone)
        return;
    switch (end) {
    case HTTP_CALL_OK:
        if (status < 500)
            watch_answered(s);
        break;
    case HTTP_CALL_NOT_SENT:
        if (server_refused(end, why))
            watch_refused(s, why);
        else
            watch_trouble(s, why);
        break;
    case HTTP_CALL_LOST:
    case HTTP_CALL_TIMEOUT:
    case HTTP_CALL_BAD: watch_trouble(s, why); break;
    case HTTP_CALL_CANCELED: break;
    }
}
