/* `comfymux serve`: puts the rooms together, and takes them apart in the right order. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "api/page.h"
#include "base/log.h"
#include "cli/cli.h"
#include "cli/opts.h"
#include "cli/serve_priv.h"
#include "store/store_sqlite.h"

#define WORKERS 2
#define LOG_KEPT ((size_t)512 << 10) /* bytes of lines about jobs, for pages that ask */

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

    if (!may_stop(s))
        timer_set(&s->drained, 50);
    else if (!api_stop(s->api))
        timer_set(&s->drained, 5);
    else
        loop_stop(s->loop);
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
    timer_clear(&s->keep);
    timer_set(&s->stop_at, s->cfg.timeout.drain);
    timer_set(&s->drained, 0);
}

static void on_hup(int signo, void *arg)
{
    struct serve *s = arg;

    (void)signo;
    if (s->stopping)
        log_error(LOG_M("config reload failed"), LOG_S("reason", "the gateway is about to stop"));
    else
        serve_reload(s);
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
    struct store_stats stats;

    if (st != STORE_OK) {
        store_stats(s->store, &stats);
        log_error(LOG_S("event", "start_failed"), LOG_S("reason", "jobs could not be read from the store"));
        cli_error("serve", "%s: jobs could not be read: %s", s->cfg.data_dir,
                  stats.trouble ? stats.trouble : "the store failed");
        s->status = CLI_FAILED;
        loop_stop(s->loop);
        return;
    }
    api_start(s->api, s->runner);
    blobs_sweep(s->blobs, on_swept, s);
    serve_keep_start(s);
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

/* Without them the gateway does all else. */
static void serve_open_images(struct serve *s)
{
    struct images_config c = images_config_default;
    char *helper = images_helper_path(), *dir = xasprintf("%s/pictures", s->cfg.data_dir);
    struct err e;

    c.helper = helper;
    c.dir = dir;
    s->images = images_new(s->loop, &c, &e);
    if (s->images == NULL)
        log_warn(LOG_S("event", "pictures_off"), LOG_S("reason", e.msg),
                 LOG_M("pictures are sent as they are, without previews and thumbnails"));
    free(helper);
    free(dir);
}

static int serve_open(struct serve *s, struct err *e)
{
    struct registry_config rc = serve_registry_config(&s->cfg);
    struct runner_config run = serve_runner_config(&s->cfg);
    struct http_limits lim = serve_http_limits(&s->cfg);
    struct runner_env env;
    struct api_deps deps;
    struct api_config ac;
    const char **cors;

    if (make_dir(s->cfg.data_dir, e) < 0 || (s->loop = loop_new(e)) == NULL ||
        (s->workers = workers_new(s->loop, WORKERS, e)) == NULL ||
        (s->store = store_sqlite_open(s->loop, s->cfg.data_dir, e)) == NULL ||
        (s->vault = vault_open(s->cfg.data_dir, e)) == NULL ||
        (s->blobs = blobs_open(s->loop, s->workers, s->store, s->cfg.data_dir, e)) == NULL)
        return -1;
    s->registry = registry_new(s->loop, s->workers, loop_clock(s->loop), s->store, s->blobs, &rc);
    if (serve_configure_servers(s->registry, &s->cfg, e) < 0)
        return -1;
    serve_open_images(s);
    deps = (struct api_deps){s->loop,     s->workers, loop_clock(s->loop), s->store, s->blobs,
                             s->registry, s->images};
    cors = serve_api_config(&s->cfg, &ac);
    s->api = api_new(&deps, &ac);
    free(cors);
    env = (struct runner_env){loop_clock(s->loop), s->store, registry_fleet(s->registry), s->vault, wake, s};
    timer_init(&s->wake, s->loop, on_wake, s);
    timer_init(&s->stop_at, s->loop, stop_now, s);
    timer_init(&s->drained, s->loop, stop_when_done, s);
    serve_keep_init(s);
    s->runner = runner_new(&env, &run, api_listener(), s->api);
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
    if (page_files[0].name)
        printf("Its page is http://%s/mux/\n", listener_addr(ln));
    fflush(stdout);
    return loop_signal(s->loop, SIGTERM, on_term, s, e) < 0 ||
                   loop_signal(s->loop, SIGINT, on_term, s, e) < 0 ||
                   loop_signal(s->loop, SIGHUP, on_hup, s, e) < 0
               ? -1
               : 0;
}

/* For tests and for whoever looks for what holds up the loop. */
static void watch_loop(struct loop *l)
{
    const char *ms = getenv("COMFYMUX_MAX_TURN_MS");

    if (ms)
        loop_watch(l, strtol(ms, NULL, 10));
}

/* Clients first; then nothing is decided any more, and everybody who was asked answers; then memory. */
static void serve_close(struct serve *s)
{
    http_server_free(&s->http);
    if (s->api)
        api_clients_gone(s->api);
    images_free(&s->images);
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
        timer_fini(&s->drained);
        timer_fini(&s->keep);
    }
    runner_free(&s->runner);
    vault_close(&s->vault);
    if (s->workers)
        workers_settle(s->workers); /* files that were being looked at: who asked may look at the api */
    api_free(&s->api);
    if (s->workers)
        workers_free(&s->workers);
    if (s->loop)
        loop_free(&s->loop);
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

/* What begins with the file's name says itself where it comes from. */
static void tell_faults(const struct serve_flags *f, const struct buf *why)
{
    const char *text = buf_str(why);

    if (f->file && strncmp(text, f->file, strlen(f->file)) == 0)
        fputs(text, stderr);
    else
        cli_error("serve", "%.*s", (int)strcspn(text, "\n"), text);
}

static int serve_run(const struct serve_flags *f)
{
    struct serve s = {.status = CLI_OK, .flags = f};
    struct buf why = BUF_INIT;
    struct err e;

    if (serve_read_config(&s.cfg, f, &why) < 0) {
        tell_faults(f, &why);
        buf_free(&why);
        return CLI_USAGE;
    }
    raise_descriptors();
    log_setup((enum log_level)s.cfg.log.level, (enum log_format)s.cfg.log.format);
    log_keep(LOG_KEPT);
    if (serve_open(&s, &e) < 0 || serve_listen(&s, &e) < 0) {
        cli_error("serve", "%s", e.msg);
        s.status = CLI_FAILED;
    } else {
        watch_loop(s.loop);
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
    struct serve_flags f = {0};
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
