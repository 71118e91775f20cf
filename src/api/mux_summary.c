/* GET /mux/v1/summary: how everything is, in a few numbers that cost nothing to ask for again and again. */
#include "api/mux.h"

static void put_jobs(struct api *a, struct http_req *req, struct jsonw *w)
{
    struct runner_counts live = {0};
    struct store_stats st;

    if (a->runner)
        runner_counts(a->runner, api_tenant(a, req), &live);
    store_stats(a->d.store, &st);
    jsonw_key(w, "jobs");
    jsonw_obj(w);
    for (enum job_state s = JOB_QUEUED; s < JOB_STATES; s++)
        jsonw_kint(w, job_state_name(s), JOB_STATE_LIVE(s) ? (int64_t)live.state[s] : st.ended[s]);
    jsonw_obj_end(w);
}

static void put_servers(struct api *a, struct jsonw *w)
{
    struct fleet_server v[MUX_SERVERS];
    size_t n = fleet_servers(registry_fleet(a->d.registry), v, MUX_SERVERS);
    int64_t count[FLEET_DRAINING + 1] = {0};

    for (size_t i = 0; i < n && i < MUX_SERVERS; i++)
        count[v[i].state]++;
    jsonw_key(w, "servers");
    jsonw_obj(w);
    for (enum fleet_state s = FLEET_UP; s <= FLEET_DRAINING; s++)
        jsonw_kint(w, fleet_state_name(s), count[s]);
    jsonw_obj_end(w);
}

void mux_get_summary(struct api *a, struct http_req *req, const struct api_params *p)
{
    const char *why = api_not_ready(a);
    struct buf b = BUF_INIT;
    struct jsonw w;

    (void)p;
    jsonw_init(&w, &b);
    jsonw_obj(&w);
    put_jobs(a, req, &w);
    put_servers(a, &w);
    jsonw_kbool(&w, "ready", why == NULL);
    jsonw_kstr(&w, "reason", why);
    jsonw_kstr(&w, "version", COMFYMUX_VERSION);
    jsonw_kint(&w, "uptime_ms", a->d.clock->mono_ms(a->d.clock) - a->started_mono);
    jsonw_kbool(&w, "frontend", a->cfg.frontend != NULL || registry_primary(a->d.registry) != NULL);
    jsonw_obj_end(&w);
    http_set(req, "Cache-Control", "no-store");
    api_reply_json(req, 200, &b);
}
