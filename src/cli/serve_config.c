/* What the configuration means to each room, at the start and again on SIGHUP. */
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/log.h"
#include "cli/serve_priv.h"

/* --- reading --- */

static int read_file(struct config *to, const char *file, struct buf *why)
{
    struct config_faults faults = {0};
    struct err e = {0};
    int r = config_load(to, file, &faults, &e);

    if (r < 0 && faults.n)
        config_faults_put(&faults, file, why);
    else if (r < 0)
        buf_printf(why, "%s\n", e.msg);
    config_faults_fini(&faults);
    return r;
}

static int read_flags(struct config *to, const struct serve_flags *f, struct buf *why)
{
    struct err e;
    bool ok = (f->listen == NULL || config_set(to, "listen", f->listen, &e) == 0) &&
              (f->data == NULL || config_set(to, "data_dir", f->data, &e) == 0) &&
              (f->frontend == NULL || config_set(to, "frontend", f->frontend, &e) == 0);

    for (size_t i = 0; ok && i < f->n_servers; i++)
        ok = config_add_server(to, f->servers[i], &e) == 0;
    if (!ok)
        buf_printf(why, "%s\n", e.msg);
    return ok ? 0 : -1;
}

int serve_read_config(struct config *to, const struct serve_flags *f, struct buf *why)
{
    config_init(to);
    if ((f->file == NULL || read_file(to, f->file, why) == 0) && read_flags(to, f, why) == 0)
        return 0;
    config_fini(to);
    return -1;
}

/* --- for each room --- */

struct registry_config serve_registry_config(const struct config *c)
{
    return (struct registry_config){
        .connect_ms = c->timeout.connect, .output_ms = c->timeout.output, .stall_ms = c->timeout.stall};
}

struct runner_config serve_runner_config(const struct config *c)
{
    struct runner_config r = {.max_live = (size_t)c->limits.queued, .output_ms = c->timeout.output};

    r.policy = (struct job_policy){.max_attempts = (int)c->retry.max_attempts,
                                   .lost_ms = c->timeout.lost,
                                   .stall_ms = c->timeout.stall,
                                   .history_ms = c->timeout.history,
                                   .queue_ms = c->timeout.queue};
    return r;
}

struct http_limits serve_http_limits(const struct config *c)
{
    struct http_limits lim = http_limits_default;

    lim.body = c->limits.json;
    lim.conns = (unsigned)c->limits.clients;
    return lim;
}

const char **serve_api_config(const struct config *c, struct api_config *cfg)
{
    const char **cors = xcalloc(c->cors.n + 1, sizeof(*cors));

    for (size_t i = 0; i < c->cors.n; i++)
        cors[i] = c->cors.v[i];
    *cfg = (struct api_config){.json_max = c->limits.json,
                               .upload_max = c->limits.upload,
                               .nodes_max = (int)c->limits.nodes,
                               .clients_max = (unsigned)c->limits.clients,
                               .frontend = c->frontend,
                               .manager = c->manager == CONFIG_MANAGER_PRIMARY,
                               .cors = cors};
    return cors;
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

int serve_configure_servers(struct registry *r, const struct config *c, struct err *e)
{
    struct registry_entry *v = xcalloc(c->servers.n, sizeof(*v));
    int rc;

    for (size_t i = 0; i < c->servers.n; i++)
        v[i] = (struct registry_entry){c->servers.v[i].name, c->servers.v[i].url, (int)c->servers.v[i].depth,
                                       tags_json(&c->servers.v[i].tags)};
    rc = registry_configure(r, v, c->servers.n, e);
    for (size_t i = 0; i < c->servers.n; i++)
        free((char *)v[i].tags);
    free(v);
    return rc;
}

/* --- again --- */

static void fixed_changed(const struct config_key *k, void *arg)
{
    (void)arg;
    log_warn(LOG_S("event", "config_needs_restart"), LOG_S("key", k->key));
}

/* To every room what is its own. now is taken over. */
static void apply(struct serve *s, struct config *now)
{
    struct registry_config rc = serve_registry_config(now);
    struct runner_config run = serve_runner_config(now);
    struct http_limits lim = serve_http_limits(now);
    struct api_config ac;
    const char **cors = serve_api_config(now, &ac);

    log_setup((enum log_level)now->log.level, (enum log_format)now->log.format);
    registry_set_config(s->registry, &rc);
    runner_set_config(s->runner, &run);
    http_server_set_limits(s->http, &lim);
    api_set_config(s->api, &ac);
    free(cors);
    config_fini(&s->cfg);
    s->cfg = *now;
    serve_keep_again(s);
}

/* One line, so that one grep finds it: faults of a file stand behind each other. */
static void tell_failure(struct buf *why)
{
    struct buf line = BUF_INIT;

    while (why->len > 0 && why->data[why->len - 1] == '\n')
        why->data[--why->len] = '\0';
    for (const char *p = buf_str(why); *p; p++)
        if (*p == '\n')
            buf_puts(&line, "; ");
        else
            buf_putc(&line, *p);
    log_error(LOG_M("config reload failed"), LOG_S("reason", buf_str(&line)));
    buf_free(&line);
}

void serve_reload(struct serve *s)
{
    struct buf why = BUF_INIT;
    struct config now;
    struct err e;

    if (serve_read_config(&now, s->flags, &why) < 0) {
        tell_failure(&why);
    } else if (serve_configure_servers(s->registry, &now, &e) < 0) {
        log_error(LOG_M("config reload failed"), LOG_S("reason", e.msg));
        config_fini(&now);
    } else {
        config_fixed_changes(&s->cfg, &now, fixed_changed, NULL);
        config_keep_fixed(&s->cfg, &now);
        apply(s, &now);
        log_info(LOG_S("event", "config_reloaded"), LOG_I("servers", s->cfg.servers.n));
    }
    buf_free(&why);
}
