/* One ComfyUI server: its life. */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "fleet/fleet_priv.h"

static void on_retire(void *arg)
{
    struct server *s = arg;

    /* Ends its calls, which may ask the fleet for more: it is no longer there for them. */
    http_client_free(&s->http);
    staging_forget(s, NULL);
    server_unref(s);
}

struct server *server_new(struct registry *r, const struct registry_entry *in, struct err *e)
{
    struct http_client_config cfg = {.connect_ms = r->cfg.connect_ms, .max_idle = 2, .tls = r->tls};
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
    list_init(&s->held);
    task_init(&s->retire, on_retire, s);
    link_init(s);
    health_init(s);
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
    health_fini(s);
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
    object_info_unref(s->caps.info);
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

void server_hold(struct server *s, const char *id)
{
    struct held *h;

    if (s->gone || held_find(s, id))
        return;
    h = xcalloc(1, sizeof(*h));
    strncpy(h->id, id, UUID_LEN);
    list_push_back(&s->held, &h->link);
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
            health_answered(s);
        break;
    case HTTP_CALL_NOT_SENT:
        if (server_refused(end, why))
            health_refused(s, why);
        else
            health_trouble(s, why);
        break;
    case HTTP_CALL_LOST:
    case HTTP_CALL_TIMEOUT:
    case HTTP_CALL_BAD: health_trouble(s, why); break;
    case HTTP_CALL_CANCELED: break;
    }
}
