/* What servers say of themselves: system_stats, asked for with object_info and when somebody looks at it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "fleet/fleet_priv.h"

#define STATS_AGAIN_MS 10000
#define STATS_MS 30000

bool caps_set_stats(struct server *s, struct bytes *text)
{
    struct json v;
    char *version;

    if (json_check(text->data, text->len, NULL, &v, NULL) < 0 || json_type(v) != JSON_OBJECT)
        return false;
    version = json_strdup(json_get(json_get(v, "system"), "comfyui_version"));
    if (version && strcmp(version, s->caps.version) != 0) {
        if (s->caps.version[0])
            log_info(LOG_S("server", s->name), LOG_S("event", "version_changed"),
                     LOG_S("from", s->caps.version), LOG_S("to", version));
        snprintf(s->caps.version, sizeof(s->caps.version), "%s", version);
        registry_changed(s->r);
    }
    free(version);
    bytes_unref(s->caps.stats);
    s->caps.stats = bytes_ref(text);
    return true;
}

static void on_stats(const struct http_answer *a, void *arg)
{
    struct server *s = arg;
    bool first = s->caps.stats == NULL;

    s->caps.stats_fetching = false;
    if (!s->gone && a->end == HTTP_CALL_OK && a->status == 200) {
        char version[sizeof(s->caps.version)];

        memcpy(version, s->caps.version, sizeof(version));
        if (caps_set_stats(s, a->body)) {
            s->caps.stats_came = loop_now(s->r->loop);
            if (first || strcmp(version, s->caps.version) != 0)
                store_doc_put(s->r->store, CAPS_DOC_STATS, s->url, a->body, NULL, NULL);
        }
    }
    server_unref(s);
}

void caps_fetch_stats(struct server *s)
{
    if (s->caps.stats_fetching)
        return;
    s->caps.stats_fetching = true;
    s->caps.stats_at = loop_now(s->r->loop);
    server_ref(s);
    http_fetch(s->http, "GET", "/system_stats", NULL, NULL, (size_t)1 << 20, STATS_MS, on_stats, s);
}

struct bytes *registry_system_stats(struct registry *r, const char *name)
{
    struct server *s = registry_find(r, name);

    if (s == NULL)
        return NULL;
    if (link_is_open(s) && loop_now(r->loop) - s->caps.stats_at >= STATS_AGAIN_MS)
        caps_fetch_stats(s);
    return s->caps.stats;
}

struct bytes *registry_last_stats(struct registry *r, const char *name, int64_t *ago)
{
    struct server *s = registry_find(r, name);

    *ago = s && s->caps.stats_came ? loop_now(r->loop) - s->caps.stats_came : -1;
    return s ? s->caps.stats : NULL;
}
