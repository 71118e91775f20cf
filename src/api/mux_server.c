/* One server from inside: devices, versions, the models it loaded lately, and how it differs from the others. */
#include <stdlib.h>
#include <string.h>

#include "api/mux.h"
#include "api/mux_recent.h"
#include "comfy/object_info.h"

#define DEVICES_MAX 64
#define NODES_NAMED 200

/* --- what GET /system_stats of it said --- */

/* What a server says is not ours to trust: text and whole numbers, or null. */
static void put_text(struct jsonw *w, const char *key, struct json v)
{
    jsonw_kspan(w, key, json_type(v) == JSON_STRING ? v : (struct json){NULL, 0});
}

static void put_bytes(struct jsonw *w, const char *key, struct json v)
{
    int64_t n;

    jsonw_key(w, key);
    if (json_int(v, &n))
        jsonw_int(w, n);
    else
        jsonw_null(w);
}

static void put_devices(struct jsonw *w, struct json stats)
{
    struct json_iter it = json_iter(json_get(stats, "devices"));
    struct json d;

    jsonw_key(w, "devices");
    jsonw_arr(w);
    for (int i = 0; i < DEVICES_MAX && json_next(&it, NULL, &d); i++) {
        jsonw_obj(w);
        put_text(w, "name", json_get(d, "name"));
        put_text(w, "type", json_get(d, "type"));
        put_bytes(w, "vram_total", json_get(d, "vram_total"));
        put_bytes(w, "vram_free", json_get(d, "vram_free"));
        jsonw_obj_end(w);
    }
    jsonw_arr_end(w);
}

static void put_stats(struct api *a, struct jsonw *w, const char *server)
{
    int64_t ago;
    struct bytes *text = registry_last_stats(a->d.registry, server, &ago);
    struct json all = {NULL, 0}, system;

    if (text && json_check(text->data, text->len, NULL, &all, NULL) < 0)
        all = (struct json){NULL, 0};
    put_devices(w, all);
    mux_put_time(w, "devices_at", ago < 0 ? 0 : a->d.clock->wall_ms(a->d.clock) - ago);
    system = json_get(all, "system");
    jsonw_key(w, "versions");
    jsonw_obj(w);
    put_text(w, "comfyui", json_get(system, "comfyui_version"));
    put_text(w, "python", json_get(system, "python_version"));
    put_text(w, "pytorch", json_get(system, "pytorch_version"));
    jsonw_obj_end(w);
}

/* --- its classes and those of the others --- */

struct classes {
    struct jsonw *w;
    size_t n;
};

static void classes_begin(struct classes *c, struct jsonw *w, const char *key)
{
    *c = (struct classes){.w = w};
    jsonw_key(w, key);
    jsonw_arr(w);
}

static void classes_add(struct classes *c, struct str name)
{
    if (c->n++ < NODES_NAMED)
        jsonw_strn(c->w, name.p, name.n);
}

/* known: whether there was anything to compare. */
static void classes_end(struct classes *c, const char *count, bool known)
{
    jsonw_arr_end(c->w);
    jsonw_key(c->w, count);
    if (known)
        jsonw_int(c->w, (int64_t)c->n);
    else
        jsonw_null(c->w);
}

static struct server_set have(const struct object_entry *e)
{
    struct server_set all = {{0}};

    for (size_t i = 0; i < e->n; i++)
        for (size_t k = 0; k < ARRAY_LEN(all.w); k++)
            all.w[k] |= e->v[i].servers.w[k];
    return all;
}

static bool is_only(const struct server_set *s, unsigned index)
{
    struct server_set only = {{0}};

    server_set_add(&only, index);
    return memcmp(s->w, only.w, sizeof(only.w)) == 0;
}

static void put_differences(struct api *a, struct jsonw *w, const struct fleet_server *s)
{
    const struct object_view *v = registry_view(a->d.registry);
    struct server_set known = {{0}};
    size_t n = v ? object_view_count(v) : 0;
    struct classes c;
    bool comparable;

    if (v)
        known = object_view_servers(v);
    comparable = server_set_has(&known, s->index) && !is_only(&known, s->index);
    if (!comparable)
        n = 0;
    classes_begin(&c, w, "missing_nodes");
    for (size_t i = 0; i < n; i++) {
        const struct object_entry *e = object_view_at(v, i);
        struct server_set all = have(e);

        if (!server_set_has(&all, s->index))
            classes_add(&c, e->name);
    }
    classes_end(&c, "missing_nodes_count", comparable);
    classes_begin(&c, w, "extra_nodes");
    for (size_t i = 0; i < n; i++) {
        const struct object_entry *e = object_view_at(v, i);
        struct server_set all = have(e);

        if (is_only(&all, s->index))
            classes_add(&c, e->name);
    }
    classes_end(&c, "extra_nodes_count", comparable);
}

void mux_put_server_details(struct api *a, struct jsonw *w, const struct fleet_server *s)
{
    struct recent r;

    recents_of(a->recents, s->name, &r);
    jsonw_key(w, "models");
    jsonw_arr(w);
    for (size_t i = 0; i < r.n_models; i++)
        jsonw_str(w, r.models[i]);
    jsonw_arr_end(w);
    put_stats(a, w, s->name);
    put_differences(a, w, s);
}
