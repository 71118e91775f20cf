/* `comfymux serve`: puts the rooms together, and takes them apart in the right order. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "api/api.h"
#include "base/json.h"
#include "base/log.h"
#include "cli/cli.h"
#include "cli/config.h"
#include "cli/opts.h"
#include "fleet/registry.h"
#include "http/server.h"
#include "job/runner.h"
#include "net/worker.h"
#include "store/store_sqlite.h"

#define WORKERS 2
#define COLLECT_EVERY_MS 60000
#define COLLECT_GRACE_MS 60000
#define COLLECT_STEP 200

struct serve {
    struct config cfg;
    struct loop *loop;
    struct workers *workers;
    struct store *store;
    struct vault *vault;
    struct blobs *blobs;
    struct registry *registry;
    struct runner *runner;
    struct api *api;
    struct http_server *http;
    struct timer wake, stop_at, collect;
    char **cors;
    bool stopping;
    int status;
};

/* --- configuration --- */

struct flags {
    const char *file, *listen, *data, *frontend;
    const char **servers;
    size_t n_servers;
};

/* File, then flags. -1: told on standard error, to is empty. */
static int read_config(struct config *to, const struct flags *f)
{
    struct config_faults faults = {0};
    struct buf b = BUF_INIT;
    struct err e = {0};
    int r = 0;

    config_init(to);
    if (f->file && config_load(to, f->file, &faults, &e) < 0) {
        config_faults_put(&faults, f->file, &b);
        if (faults.n)
            fputs(buf_str(&b), stderr);
        else
            cli_error("serve", "%s", e.msg);
        r = -1;
    }
    config_faults_fini(&faults);
    buf_free(&b);
    if (r == 0 && ((f->listen && config_set(to, "listen", f->listen, &e) < 0) ||
                   (f->data && config_set(to, "data_dir", f->data, &e) < 0) ||
                   (f->frontend && config_set(to, "frontend", f->frontend, &e) < 0))) {
        cli_error("serve", "%s", e.msg);
        r = -1;
    }
    for (size_t i = 0; r == 0 && i < f->n_servers; i++) {
        if (config_add_server(to, f->servers[i], &e) < 0) {
            cli_error("serve", "%s", e.msg);
            r = -1;
        }
    }
    if (r < 0)
        config_fini(to);
    return r;
}

static char *tags_json(const struct config_strings *tags)
{
    struct buf b = BUF_INIT;
    struct jsonw w;

    jsonw_init(&w, &b);
    jsonw_arr(&w);
    for (size_t i = 0; i < tags->n; i++)
        jsonw_str(&w, tags->v[i]);
    jsonw_arr_end(&w);
    return buf_take(&b);
}

static int configure_servers(struct serve *s, const struct config *c, struct err *e)
{
    struct registry_entry *v = xcalloc(c->servers.n, sizeof(*v));
    int r;

    for (size_t i = 0; i < c->servers.n; i++)
        v[i] = (struct registry_entry){c->servers.v[i].name, c->servers.v[i].url, (int)c->servers.v[i].depth,
                                       tags_json(&c->servers.v[i].tags)};
    r = registry_configure(s->registry, v, c->servers.n, e);
    for (size_t i = 0; i < c->servers.n; i++)
        free((char *)v[i].tags);
    free(v);
    return r;
}

static struct registry_config registry_config_of(const struct config *c)
{
    return (struct registry_config){.connect_ms = c->timeout.connect, .output_ms = c->timeout.output};
}

static struct runner_config runner_config_of(const struct config *c)
{
    struct runner_config r = {.max_live = (size_t)c->limits.queued, .output_ms = c->timeout.output};

    r.policy = (struct job_policy){.max_attempts = (int)c->retry.max_attempts,
                                   .lost_ms = c->timeout.lost,
                                   .stall_ms = c->timeout.stall,
                                   .history_ms = c->timeout.history,
                                   .queue_ms = c->timeout.queue};
    return r;
}

/* The list of origins, ended by NULL; it must outlive its use. */
static char **cors_list(const struct config *c)
{
    char **v = xcalloc(c->cors.n + 1, sizeof(char *));

    for (size_t i = 0; i < c->cors.n; i++)
        v[i] = xstrdup(c->cors.v[i]);
    return v;
}

static void cors_free(char **v)
{
    for (char **p = v; p && *p; p++)
        free(*p);
    free(v);
}

static struct api_config api_config_of(const struct serve *s, const struct config *c)
{
    return (struct api_config){.json_max = c->limits.json,
                               .upload_max = c->limits.upload,
                               .nodes_max = (int)c->limits.nodes,
                               .clients_max = (unsigned)c->limits.clients,
                               .frontend = c->frontend,
                               .cors = (const char *const *)s->cors};
}

/* --- signals --- */

static void stop_now(void *arg)
{
    loop_stop(((struct serve *)arg)->loop);
}

/* Nothing is being collected any more: what runs on servers is found again at the next start. */
static bool may_stop(struct serve *s)
{
    struct runner_counts n;

    runner_counts(s->runner, NULL, &n);
    return n.state[JOB_COLLECTING] == 0;
}

static void stop_when_done(void *arg)
{
    struct serve *s = arg;

    if (may_stop(s))
        loop_stop(s->loop);
    else
        timer_set(&s->collect, 50);
}

static void on_term(int signo, void *arg)
{
    struct serve *s = arg;

    log_info(LOG_S("event", "stopping"), LOG_I("signal", signo), LOG_S("again", s->stopping ? "yes" : NULL));
    if (s->stopping) {
        loop_stop(s->loop);
        return;
    }
    s->stopping = true;
    api_drain(s->api);
    timer_fini(&s->collect);
    timer_init(&s->collect, s->loop, stop_when_done, s);
    timer_set(&s->stop_at, s->cfg.timeout.drain);
    timer_set(&s->collect, 0);
}

static void fixed_changed(const struct config_key *k, void *arg)
{
    (void)arg;
    log_warn(LOG_S("event", "config_needs_restart"), LOG_S("key", k->key));
}

static const struct flags *flags_of_run;

static void on_hup(int signo, void *arg)
{
    struct serve *s = arg;
    struct registry_config rc;
    struct runner_config run;
    struct api_config ac;
    struct config now;
    struct err e;
    char **old_cors;

    (void)signo;
    if (read_config(&now, flags_of_run) < 0) {
        log_error(LOG_M("config reload failed"), LOG_S("reason", "faults in the file: see above"));
        return;
    }
    if (configure_servers(s, &now, &e) < 0) {
        log_error(LOG_M("config reload failed"), LOG_S("reason", e.msg));
        config_fini(&now);
        return;
    }
    config_fixed_changes(&s->cfg, &now, fixed_changed, NULL);
    log_setup((enum log_level)now.log.level, (enum log_format)now.log.format);
    rc = registry_config_of(&now);
    registry_set_config(s->registry, &rc);
    run = runner_config_of(&now);
    runner_set_config(s->runner, &run);
    old_cors = s->cors;
    s->cors = cors_list(&now);
    ac = api_config_of(s, &now);
    ac.frontend = s->cfg.frontend;
    api_set_config(s->api, &ac);
    cors_free(old_cors);
    /* What was fixed at start keeps its value. */
    free(now.listen);
    now.listen = xstrdup(s->cfg.listen);
    free(now.data_dir);
    now.data_dir = xstrdup(s->cfg.data_dir);
    free(now.frontend);
    now.frontend = xstrdup_null(s->cfg.frontend);
    config_fini(&s->cfg);
    s->cfg = now;
    ac = api_config_of(s, &s->cfg);
    api_set_config(s->api, &ac);
    log_info(LOG_S("event", "config_reloaded"), LOG_I("servers", s->cfg.servers.n));
}

/* --- timers --- */

static void on_wake(void *arg)
{
    runner_tick(((struct serve *)arg)->runner);
}

static void wake(void *arg, int64_t mono_ms)
{
    struct serve *s = arg;
    struct clock *c = loop_clock(s->loop);
    int64_t wait = mono_ms - c->mono_ms(c);

    timer_set(&s->wake, wait > 0 ? wait : 0);
}

/* Retention and blobs without a reference, a small step at a time. */
static void on_trimmed(const struct store_trimmed *t, void *arg)
{
    struct serve *s = arg;

    if (t->jobs || t->outputs)
        log_info(LOG_S("event", "trimmed"), LOG_I("jobs", t->jobs), LOG_I("outputs", t->outputs));
    if (t->more && !s->stopping)
        timer_set(&s->collect, 1000);
}

static void on_collected(const struct store_collected *c, void *arg)
{
    struct serve *s = arg;

    if (c->removed)
        log_info(LOG_S("event", "blobs_removed"), LOG_I("count", c->removed));
    if (c->more && !s->stopping)
        timer_set(&s->collect, 1000);
}

static void on_collect(void *arg)
{
    struct serve *s = arg;
    struct clock *c = loop_clock(s->loop);
    struct store_keep k = {.now = c->wall_ms(c),
                           .finished_ms = s->cfg.keep.finished,
                           .outputs_ms = s->cfg.keep.outputs,
                           .events_ms = s->cfg.keep.events,
                           .count = s->cfg.keep.count,
                           .size = s->cfg.keep.size,
                           .max_rows = COLLECT_STEP};

    store_trim(s->store, &k, on_trimmed, s);
    blobs_collect(s->blobs, k.now, COLLECT_GRACE_MS, COLLECT_STEP, on_collected, s);
    timer_set(&s->collect, COLLECT_EVERY_MS);
}

/* --- start --- */

static void on_swept(unsigned removed, void *arg)
{
    (void)arg;
    if (removed)
        log_info(LOG_S("event", "orphans_removed"), LOG_I("count", removed));
}

static void on_jobs_loaded(enum store_status st, void *arg)
{
    struct serve *s = arg;

    if (st != STORE_OK) {
        log_error(LOG_S("event", "start_failed"), LOG_S("reason", "jobs could not be read from the store"));
        s->status = CLI_FAILED;
        loop_stop(s->loop);
        return;
    }
    api_start(s->api, s->runner);
    blobs_sweep(s->blobs, on_swept, s);
    timer_set(&s->collect, COLLECT_EVERY_MS);
    log_info(LOG_S("event", "ready"));
}

static void on_fleet_ready(void *arg)
{
    struct serve *s = arg;

    runner_start(s->runner, on_jobs_loaded, s);
}

static int make_dir(const char *path, struct err *e)
{
    char *p = xstrdup(path);
    int r = 0;

    for (char *c = p + 1; r == 0; c++) {
        if (*c != '/' && *c != '\0')
            continue;
        char was = *c;

        *c = '\0';
        if (mkdir(p, 0700) < 0 && errno != EEXIST)
            r = err_errno(e, errno, "cannot make the data folder %s", p);
        *c = was;
        if (was == '\0')
            break;
    }
    free(p);
    return r;
}

static bool is_loopback(const char *addr)
{
    return strncmp(addr, "127.", 4) == 0 || strncmp(addr, "[::1]", 5) == 0 ||
           strncmp(addr, "localhost:", 10) == 0 || strncmp(addr, "unix:", 5) == 0;
}

static int serve_open(struct serve *s, struct err *e)
{
    struct registry_config rc = registry_config_of(&s->cfg);
    struct runner_config run = runner_config_of(&s->cfg);
    struct http_limits lim = http_limits_default;
    struct runner_env env;
    struct api_deps deps;
    struct api_config ac;

    if (make_dir(s->cfg.data_dir, e) < 0 || (s->loop = loop_new(e)) == NULL ||
        (s->workers = workers_new(s->loop, WORKERS, e)) == NULL ||
        (s->store = store_sqlite_open(s->loop, s->cfg.data_dir, e)) == NULL ||
        (s->vault = vault_open(s->cfg.data_dir, e)) == NULL ||
        (s->blobs = blobs_open(s->loop, s->workers, s->store, s->cfg.data_dir, e)) == NULL)
        return -1;
    s->registry = registry_new(s->loop, s->workers, loop_clock(s->loop), s->store, s->blobs, &rc);
    if (configure_servers(s, &s->cfg, e) < 0)
        return -1;
    deps = (struct api_deps){s->loop, s->workers, loop_clock(s->loop), s->store, s->blobs, s->registry};
    s->cors = cors_list(&s->cfg);
    ac = api_config_of(s, &s->cfg);
    s->api = api_new(&deps, &ac);
    env = (struct runner_env){loop_clock(s->loop), s->store, registry_fleet(s->registry), s->vault, wake, s};
    timer_init(&s->wake, s->loop, on_wake, s);
    timer_init(&s->stop_at, s->loop, stop_now, s);
    timer_init(&s->collect, s->loop, on_collect, s);
    s->runner = runner_new(&env, &run, api_listener(), s->api);
    lim.body = s->cfg.limits.json;
    s->http = http_server_new(s->loop, &lim, api_handle, s->api);
    http_server_set_name(s->http, "comfymux/" COMFYMUX_VERSION);
    return 0;
}

static int serve_listen(struct serve *s, struct err *e)
{
    struct listener *ln = http_server_listen(s->http, s->cfg.listen, NULL, e);

    if (ln == NULL)
        return -1;
    log_info(LOG_S("event", "listening"), LOG_S("address", listener_addr(ln)), LOG_S("data", s->cfg.data_dir),
             LOG_I("servers", s->cfg.servers.n), LOG_S("version", COMFYMUX_VERSION));
    if (!is_loopback(listener_addr(ln)))
        log_warn(LOG_S("event", "open_to_the_network"), LOG_S("address", listener_addr(ln)),
                 LOG_S("reason", "there are no access keys: everyone who reaches this address may use it"));
    printf("comfymux listens on http://%s\n", listener_addr(ln));
    fflush(stdout);
    return loop_signal(s->loop, SIGTERM, on_term, s, e) < 0 ||
                   loop_signal(s->loop, SIGINT, on_term, s, e) < 0 ||
                   loop_signal(s->loop, SIGHUP, on_hup, s, e) < 0
               ? -1
               : 0;
}

/* Clients first; then nothing is decided any more, and everybody who was asked answers; then memory. */
static void serve_close(struct serve *s)
{
    http_server_free(&s->http);
    if (s->runner)
        runner_stop(s->runner);
    registry_free(&s->registry);
    if (s->blobs)
        blobs_close(&s->blobs);
    if (s->store)
        store_close(&s->store);
    if (s->runner) {
        timer_fini(&s->wake);
        timer_fini(&s->stop_at);
        timer_fini(&s->collect);
    }
    runner_free(&s->runner);
    vault_close(&s->vault);
    api_free(&s->api);
    if (s->workers)
        workers_free(&s->workers);
    if (s->loop)
        loop_free(&s->loop);
    cors_free(s->cors);
    config_fini(&s->cfg);
}

/* As many sockets as the system allows: the soft limit is often 1024. */
static void raise_descriptors(void)
{
    struct rlimit lim;

    if (getrlimit(RLIMIT_NOFILE, &lim) == 0 && lim.rlim_cur < lim.rlim_max) {
        lim.rlim_cur = lim.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &lim) < 0)
            log_warn(LOG_S("event", "descriptors_not_raised"), LOG_S("reason", strerror(errno)));
    }
}

static int serve_run(const struct flags *f)
{
    struct serve s = {.status = CLI_OK};
    struct err e;

    if (read_config(&s.cfg, f) < 0)
        return CLI_USAGE;
    flags_of_run = f;
    raise_descriptors();
    log_setup((enum log_level)s.cfg.log.level, (enum log_format)s.cfg.log.format);
    if (serve_open(&s, &e) < 0 || serve_listen(&s, &e) < 0) {
        cli_error("serve", "%s", e.msg);
        s.status = CLI_FAILED;
    } else {
        registry_start(s.registry, on_fleet_ready, &s);
        loop_run(s.loop);
        log_info(LOG_S("event", "stopped"));
    }
    serve_close(&s);
    return s.status;
}

static const char usage[] =
    "usage: comfymux serve [-c FILE] [--listen HOST:PORT] [--data DIR] [--frontend DIR] [--server "
    "[NAME=]URL]...\n\n"
    "Runs the gateway.\n\n"
    "  -c, --config FILE       read the configuration from FILE (comfymux config prints every key)\n"
    "      --listen HOST:PORT  where clients connect; default 127.0.0.1:8280\n"
    "      --data DIR          where everything is kept\n"
    "      --frontend DIR      static files of the ComfyUI frontend\n"
    "      --server [NAME=]URL a ComfyUI server; may be given several times\n\n"
    "SIGHUP reads the configuration again. SIGTERM stops taking work, finishes what is being collected and "
    "ends; jobs\n"
    "that run on servers are found again at the next start. A second SIGTERM ends at once.\n";

int serve_main(int argc, char **argv)
{
    static const struct opt table[] = {{"config", 'c', true}, {"listen", 0, true}, {"data", 0, true},
                                       {"frontend", 0, true}, {"server", 0, true}, {NULL, 0, false}};
    struct opts o = {.command = "serve", .usage = usage, .table = table};
    struct flags f = {0};
    int i, status = CLI_OK;

    opts_start(&o, argc, argv);
    while ((i = opts_next(&o, &status)) >= 0) {
        switch (i) {
        case 0: f.file = o.value; break;
        case 1: f.listen = o.value; break;
        case 2: f.data = o.value; break;
        case 3: f.frontend = o.value; break;
        default:
            f.servers = xrealloc(f.servers, (f.n_servers + 1) * sizeof(char *));
            f.servers[f.n_servers++] = o.value;
        }
    }
    if (i == OPTS_DONE && opts_n_operands(&o) > 0)
        status = opts_fault(&o, "there is nothing to do with \"%s\"", opts_operands(&o)[0]);
    else if (i == OPTS_DONE)
        status = serve_run(&f);
    free(f.servers);
    opts_end(&o);
    return status;
}
