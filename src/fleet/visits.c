/* What our clients ask of servers: over which connections, of which server, and under which name. */
#include "fleet/fleet_priv.h"

struct http_client *registry_client(struct registry *r, const char *name)
{
    struct server *s = registry_find(r, name);

    return s && s->health.seen != FLEET_DOWN ? s->visits : NULL;
}

void registry_on_logs(struct registry *r, registry_logs_cb *cb, void *arg)
{
    r->on_logs = cb;
    r->on_logs_arg = arg;
}

void registry_want_logs(struct registry *r, bool want)
{
    if (want == r->logs_wanted)
        return;
    r->logs_wanted = want;
    for (size_t i = 0; i < SERVERS_MAX; i++)
        if (r->by_index[i] && link_is_open(r->by_index[i]))
            link_want_logs(r->by_index[i], want);
}

const char *registry_client_id(struct registry *r, const char *name)
{
    struct server *s = registry_find(r, name);

    return s && link_is_open(s) ? s->link.client_id : NULL;
}

const char *registry_primary(struct registry *r)
{
    struct server *s = r->primary >= 0 ? r->by_index[r->primary] : NULL;

    if (s && s->health.seen == FLEET_UP)
        return s->name;
    r->primary = -1;
    for (int i = 0; i < SERVERS_MAX && r->primary < 0; i++)
        if (r->by_index[i] && r->by_index[i]->health.seen == FLEET_UP)
            r->primary = i;
    return r->primary >= 0 ? r->by_index[r->primary]->name : NULL;
}
