#include "gateway.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "comfy.h"
#include "vfs.h"
#include "vloop.h"

#define COLLECT_STEP 200

static struct {
    struct gateway *g;
    struct store *store;
    const struct gateway_config *cfg;
    const struct gateway_watch *watch;
    unsigned servers; /* that are configured */
} now;

/* --- the fleet, watched: what it answers is held against what was --- */

struct looking {
    fleet_lookup_cb *cb;
    void *arg;
    char id[UUID_SIZE];
    int server;
    bool there;
    unsigned life;
};

static bool holds(int server, const char *id)
{
    bool in_history;

    return comfy_has(server, id, &in_history);
}

/* It was there when the lookup began and is there now, in one life of the server: then it was all along. */
static void on_looked(const struct fleet_lookup *r, void *arg)
{
    struct looking *x = arg;

    if (r->found == FLEET_ABSENT && x->there && comfy_life(x->server) == x->life && holds(x->server, x->id))
        vt_broke(x->id, "was looked up on %s, where it was all along, and said not to be there",
                 comfy_name(x->server));
    x->cb(r, x->arg);
    free(x);
}

static struct fleet *inner(void)
{
    return registry_fleet(now.g->registry);
}

static void op_find(struct fleet *f, const char *server, const char *id, fleet_lookup_cb *cb, void *arg)
{
    struct looking *x = xcalloc(1, sizeof(*x));

    (void)f;
    x->cb = cb;
    x->arg = arg;
    snprintf(x->id, sizeof(x->id), "%s", id);
    x->server = server[1] - '0';
    x->life = comfy_life(x->server);
    x->there = holds(x->server, id);
    fleet_find(inner(), server, id, on_looked, x);
}

static void op_submit(struct fleet *f, const struct fleet_submit *in, fleet_submitted_cb *cb, void *arg)
{
    (void)f;
    fleet_submit(inner(), in, cb, arg);
}

static void op_history(struct fleet *f, const char *server, const char *id, fleet_history_cb *cb, void *arg)
{
    (void)f;
    fleet_history(inner(), server, id, cb, arg);
}

static void op_fetch(struct fleet *f, const struct fleet_file *file, fleet_fetched_cb *cb, void *arg)
{
    (void)f;
    fleet_fetch(inner(), file, cb, arg);
}

static void op_keep(struct fleet *f, struct bytes *data, const char *mime, fleet_fetched_cb *cb, void *arg)
{
    (void)f;
    fleet_keep(inner(), data, mime, cb, arg);
}

static void op_stop(struct fleet *f, const char *server, const char *id, fleet_stopped_cb *cb, void *arg)
{
    (void)f;
    fleet_stop(inner(), server, id, cb, arg);
}

static void op_unpin(struct fleet *f, int64_t pin)
{
    (void)f;
    fleet_unpin(inner(), pin);
}

static size_t op_servers(struct fleet *f, struct fleet_server *out, size_t max)
{
    (void)f;
    return fleet_servers(inner(), out, max);
}

static int op_can_run(struct fleet *f, unsigned index, const char *need)
{
    (void)f;
    return fleet_can_run(inner(), index, need);
}

static void op_result(struct fleet *f, const char *server, enum job_code code, enum fleet_blame blame)
{
    (void)f;
    fleet_result(inner(), server, code, blame);
}

static void op_listen(struct fleet *f, const struct fleet_listener *l, void *arg)
{
    (void)f;
    fleet_listen(inner(), l, arg);
}

static const struct fleet_ops watched = {op_submit, op_find,    op_history, op_fetch,  op_keep,  op_stop,
                                         op_unpin,  op_servers, op_can_run, op_result, op_listen};

/* --- as in serve.c --- */

static void on_wake(void *arg)
{
    runner_tick(((struct gateway *)arg)->runner);
}

static void wake(void *arg, int64_t mono)
{
    timer_set(&((struct gateway *)arg)->wake, mono - vt_now());
}

static void on_collect(void *arg)
{
    struct gateway *g = arg;
    struct store_keep k = now.cfg->keep;

    k.now = vt_clock()->wall_ms(vt_clock());
    k.max_rows = COLLECT_STEP;
    store_trim(now.store, &k, NULL, NULL);
    blobs_collect(g->blobs, k.now, now.cfg->grace_ms, COLLECT_STEP, NULL, NULL);
    timer_set(&g->collect, now.cfg->collect_ms);
}

static void on_change(void *arg, const struct runner_job_view *job, enum job_state from,
                      const struct runner_end *end)
{
    now.watch->on_change(job, from, end);
    hub_on_change(((struct gateway *)arg)->hub, job, from, end);
}

static void on_event(void *arg, const struct runner_job_view *job, const char *text, size_t n)
{
    hub_on_event(((struct gateway *)arg)->hub, job, text, n);
}

static void on_frame(void *arg, const struct runner_job_view *job, const void *data, size_t n)
{
    hub_on_frame(((struct gateway *)arg)->hub, job, data, n);
}

static const struct runner_listener listener = {on_change, on_event, on_frame};

static void on_jobs_loaded(enum store_status st, void *arg)
{
    struct gateway *g = arg;

    if (st != STORE_OK) {
        vt_broke("", "jobs could not be read from the store");
        return;
    }
    hub_start(g->hub, g->runner, now.store);
    blobs_sweep(g->blobs, NULL, NULL);
    timer_set(&g->collect, now.cfg->collect_ms);
    g->ready = true;
    now.watch->on_ready();
}

static void on_fleet_ready(void *arg)
{
    struct gateway *g = arg;

    runner_start(g->runner, on_jobs_loaded, g);
}

void gateway_configure(struct gateway *g, unsigned servers)
{
    struct registry_entry v[COMFY_SERVERS] = {0};
    char urls[COMFY_SERVERS][32];
    size_t n = 0;
    struct err e;

    now.servers = servers;
    for (int i = 0; i < COMFY_SERVERS; i++) {
        snprintf(urls[i], sizeof(urls[i]), "http://%s:8188", comfy_name(i));
        if (servers >> i & 1)
            v[n++] = (struct registry_entry){.name = comfy_name(i), .url = urls[i], .depth = comfy_depth(i)};
    }
    if (registry_configure(g->registry, v, n, &e) < 0)
        vt_broke("", "the servers were not taken: %s", e.msg);
}

void gateway_start(struct gateway *g, struct store *s, const struct gateway_config *cfg,
                   const struct gateway_watch *w)
{
    struct registry_config rc = {.connect_ms = 3000, .output_ms = 60000};
    struct runner_config run = {.policy = job_policy_default, .output_ms = 60000, .max_live = 1000000};
    struct hub_config hc = hub_config_default;
    struct runner_env env;
    unsigned life = g->life;
    struct err e;

    *g = (struct gateway){.life = life + 1};
    now.g = g;
    now.servers = now.servers ? now.servers : (1u << COMFY_SERVERS) - 1;
    now.store = s;
    now.cfg = cfg;
    now.watch = w;
    g->loop = loop_new(&e);
    g->workers = workers_new(g->loop, 2, &e);
    g->blobs = blobs_open(g->loop, g->workers, s, "/data", &e);
    if (g->blobs == NULL) {
        printf("blobs: %s\n", e.msg);
        abort();
    }
    g->registry = registry_new(g->loop, g->workers, vt_clock(), s, g->blobs, &rc);
    gateway_configure(g, now.servers);
    g->fleet.ops = &watched;
    hc.settle_ms = cfg->settle_ms;
    g->hub = hub_new(g->loop, vt_clock(), &hc, "{}");
    env = (struct runner_env){vt_clock(), s, &g->fleet, NULL, wake, g};
    timer_init(&g->wake, g->loop, on_wake, g);
    timer_init(&g->collect, g->loop, on_collect, g);
    g->runner = runner_new(&env, &run, &listener, g);
    registry_start(g->registry, on_fleet_ready, g);
}

/* Everybody who was asked answers, and nobody is asked anew. */
static void drain(struct gateway *g)
{
    for (;;) {
        vloop_turn(g->loop);
        if (vworkers_step(g->workers))
            continue;
        if (store_mem_pending(now.store))
            store_mem_deliver(now.store, 0);
        else if (!store_mem_commit(now.store))
            break;
    }
}

/* A process that is killed has no effect any more while its memory is given back: the disk, the network and the store do not
 * listen to it. */
void gateway_end(struct gateway *g, bool killed)
{
    g->ready = false;
    if (killed) {
        vfs_set_dead(true);
        store_mem_kill(now.store);
    }
    runner_stop(g->runner);
    registry_free(&g->registry);
    blobs_close(&g->blobs);
    drain(g);
    timer_fini(&g->wake);
    timer_fini(&g->collect);
    runner_free(&g->runner);
    hub_free(&g->hub);
    vloop_turn(g->loop);
    workers_free(&g->workers);
    loop_free(&g->loop);
    store_mem_crash(now.store);
    vfs_set_dead(false);
    vfs_close_all();
    vhttp_process_died();
}
