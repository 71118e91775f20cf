/* comfymux doctor: can a gateway start here, are the servers reachable, in what do they differ. */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "cli/doctor_priv.h"
#include "cli/remote.h"
#include "net/stream.h"
#include "store/store_sqlite.h"

#define FREE_LEAST ((int64_t)64 << 20)
#define FREE_LITTLE ((int64_t)2 << 30)
#define FDS_BESIDES 1000         /* files, servers, what is being fetched */
#define CLOCK_LEAST 1735689600LL /* 2025: an unset clock is far from it */
#define DIFFERENCES_SHOWN 40

static const char usage[] = "usage: comfymux doctor [-c FILE] [--listen HOST:PORT] [--data DIR] [--frontend "
                            "DIR] [--server [NAME=]URL]...\n"
                            "                       [--json]\n\n"
                            "Can the gateway start here, are the servers reachable, do they differ in nodes, "
                            "models, versions? Takes what\n"
                            "'comfymux serve' takes, changes nothing, and may be run beside a gateway.\n\n"
                            "  -c, --config FILE       read the configuration from FILE\n"
                            "      --listen HOST:PORT  where clients would connect\n"
                            "      --data DIR          where everything is kept\n"
                            "      --frontend DIR      static files of the ComfyUI frontend\n"
                            "      --server [NAME=]URL a ComfyUI server; may be given several times\n"
                            "      --json              print one JSON document\n"
                            "  -h, --help              show this\n";

struct asked {
    const char *file, *listen, *data, *frontend;
    const char **servers;
    size_t n_servers;
    bool json;
};

void doctor_find(struct doctor *d, enum finding_level level, const char *area, char *advice, const char *fmt,
                 ...)
{
    struct finding *f;
    va_list ap;

    d->findings = xrealloc(d->findings, (d->n_findings + 1) * sizeof(*d->findings));
    f = &d->findings[d->n_findings++];
    *f = (struct finding){.level = level, .area = area, .advice = advice};
    va_start(ap, fmt);
    if (vasprintf(&f->text, fmt, ap) < 0)
        abort();
    va_end(ap);
}

static void doctor_fini(struct doctor *d)
{
    for (size_t i = 0; i < d->n_findings; i++) {
        free(d->findings[i].text);
        free(d->findings[i].advice);
    }
    free(d->findings);
    doctor_servers_fini(d);
}

static bool any_bad(const struct doctor *d)
{
    for (size_t i = 0; i < d->n_findings; i++)
        if (d->findings[i].level == FINDING_BAD)
            return true;
    return false;
}

/* --- this machine --- */

static void tell_faults(struct doctor *d, const char *file, const struct config_faults *faults,
                        const struct err *e)
{
    for (size_t i = 0; i < faults->n; i++)
        doctor_find(d, FINDING_BAD, "config",
                    xstrdup("comfymux config shows every key with its type and bounds"), "%s:%u: %s: %s",
                    file, faults->v[i].line, faults->v[i].key ? faults->v[i].key : "", faults->v[i].msg);
    if (faults->n == 0)
        doctor_find(d, FINDING_BAD, "config",
                    xstrdup("see whether the path is right and the file may be read"), "%s", e->msg);
}

/* False: there is no configuration to go on with. */
static bool check_config(struct doctor *d, const struct asked *a, struct config *c)
{
    struct config_faults faults = {0};
    struct err e = {0};
    bool ok = true;

    config_init(c);
    if (a->file) {
        ok = config_load(c, a->file, &faults, &e) == 0;
        if (ok)
            doctor_find(d, FINDING_OK, "config", NULL, "%s has no faults", a->file);
        else
            tell_faults(d, a->file, &faults, &e);
    } else {
        doctor_find(d, FINDING_OK, "config", NULL, "no file was given: the defaults count");
    }
    config_faults_fini(&faults);
    if (ok && ((a->listen && config_set(c, "listen", a->listen, &e) < 0) ||
               (a->data && config_set(c, "data_dir", a->data, &e) < 0) ||
               (a->frontend && config_set(c, "frontend", a->frontend, &e) < 0))) {
        doctor_find(d, FINDING_BAD, "config", NULL, "%s", e.msg);
        ok = false;
    }
    for (size_t i = 0; ok && i < a->n_servers; i++)
        if (config_add_server(c, a->servers[i], &e) < 0) {
            doctor_find(d, FINDING_BAD, "config", NULL, "%s", e.msg);
            ok = false;
        }
    return ok;
}

static void put_size(char out[32], int64_t n)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double v = (double)n;
    size_t u = 0;

    while (v >= 1024 && u + 1 < ARRAY_LEN(units)) {
        v /= 1024;
        u++;
    }
    snprintf(out, 32, u && v < 10 ? "%.1f %s" : "%.0f %s", v, units[u]);
}

/* The folder, or the nearest one above it that is there. Caller frees. */
static char *existing(const char *path)
{
    char *p = xstrdup(path), *slash;
    struct stat st;

    while (stat(p, &st) < 0 && (slash = strrchr(p, '/')) != NULL) {
        if (slash == p) {
            p[1] = '\0';
            break;
        }
        *slash = '\0';
    }
    return p;
}

static bool can_write_in(const char *dir)
{
    char *path = xasprintf("%s/.comfymux-doctor.XXXXXX", dir);
    int fd = mkstemp(path);
    bool ok = fd >= 0 && write(fd, "x", 1) == 1 && fsync(fd) == 0;
    int saved = errno;

    if (fd >= 0) {
        close(fd);
        unlink(path);
    }
    free(path);
    errno = saved;
    return ok;
}

static void check_space(struct doctor *d, const char *dir)
{
    struct statvfs v;
    int64_t left;
    char size[32];

    if (statvfs(dir, &v) < 0)
        return;
    left = (int64_t)v.f_bavail * (int64_t)v.f_frsize;
    put_size(size, left);
    doctor_find(d,
                left < FREE_LEAST    ? FINDING_BAD
                : left < FREE_LITTLE ? FINDING_WARN
                                     : FINDING_OK,
                "data",
                left < FREE_LITTLE ? xstrdup("make room, or keep less: keep.outputs, keep.size") : NULL,
                "%s are free for %s", size, dir);
}

static void check_store(struct doctor *d, const char *dir, const struct store_look *s)
{
    if (s->holder > 0)
        doctor_find(d, FINDING_OK, "data", NULL, "a gateway runs on %s (process %lld)", dir,
                    (long long)s->holder);
    else if (s->holder < 0)
        doctor_find(d, FINDING_OK, "data", NULL, "a gateway runs on %s", dir);
    if (s->fault[0])
        doctor_find(
            d, FINDING_BAD, "store",
            xstrdup(
                "stop the gateway, keep a copy of the folder, and restore a backup (docs/operations.md); a "
                "newer version's database needs that version"),
            "%s/comfymux.db: %s", dir, s->fault);
    else if (s->exists && s->schema < s->known)
        doctor_find(d, FINDING_OK, "store", NULL,
                    "the database is sound, of schema %lld: the next start brings it up to %lld",
                    (long long)s->schema, (long long)s->known);
    else if (s->exists)
        doctor_find(d, FINDING_OK, "store", NULL, "the database is sound: %lld jobs, %lld of them unfinished",
                    (long long)s->jobs, (long long)s->live);
    else
        doctor_find(d, FINDING_OK, "store", NULL, "there is no database yet: the first start makes it");
}

static void check_data(struct doctor *d, const char *dir, struct store_look *s)
{
    char *there = existing(dir);
    struct stat st;
    struct err e;

    if (stat(dir, &st) == 0 && !S_ISDIR(st.st_mode))
        doctor_find(d, FINDING_BAD, "data", xstrdup("name a folder in data_dir"), "%s is no folder", dir);
    else if (!can_write_in(there))
        doctor_find(d, FINDING_BAD, "data",
                    xasprintf("run as the user who owns it, or: chown -R %s %s",
                              getenv("USER") ? getenv("USER") : "USER", there),
                    "%s cannot be written: %s", there, strerror(errno));
    else if (strcmp(there, dir) == 0)
        doctor_find(d, FINDING_OK, "data", NULL, "%s can be written", dir);
    else
        doctor_find(d, FINDING_OK, "data", NULL, "%s is not there yet: the first start makes it", dir);
    check_space(d, there);
    if (store_sqlite_look(dir, s, &e) < 0)
        doctor_find(d, FINDING_BAD, "store", xstrdup("see who owns the file, and whether the disk is well"),
                    "%s", e.msg);
    else
        check_store(d, dir, s);
    free(there);
}

static void on_accept(struct listener *ln, int fd, void *arg)
{
    (void)ln;
    (void)arg;
    close(fd);
}

static void check_port(struct doctor *d, const char *addr, int64_t holder)
{
    const char *colon = strrchr(addr, ':');
    struct err e = {0};
    struct loop *l;
    struct listener *ln;

    if (strncmp(addr, "unix:", 5) == 0) /* to try it would be to take it */
        return;
    l = loop_new(&e);
    ln = l ? listener_open(l, addr, on_accept, NULL, &e) : NULL;
    if (ln)
        doctor_find(d, FINDING_OK, "listen", NULL, "%s is free", addr);
    else if (holder && e.code == EADDRINUSE)
        doctor_find(d, FINDING_OK, "listen", NULL, "%s is in use, as it should be while a gateway runs",
                    addr);
    else
        doctor_find(
            d, FINDING_BAD, "listen",
            e.code == EADDRINUSE
                ? xasprintf("see who has it: ss -ltnp 'sport = %s'; or listen elsewhere", colon ? colon : "")
                : xstrdup("listen on an address of this machine, and above port 1023 unless root"),
            "%s", e.msg);
    if (ln)
        listener_close(&ln);
    if (l) {
        loop_turn(l, 0);
        loop_free(&l);
    }
}

static void check_system(struct doctor *d, const struct config *c)
{
    struct rlimit lim;
    int64_t want = c->limits.clients + FDS_BESIDES;

    if (getrlimit(RLIMIT_NOFILE, &lim) == 0) {
        bool few = lim.rlim_max != RLIM_INFINITY && (int64_t)lim.rlim_max < want;

        doctor_find(d, few ? FINDING_WARN : FINDING_OK, "system",
                    few ? xasprintf("LimitNOFILE=%lld in systemd, or ulimit -Hn; or a smaller limits.clients",
                                    (long long)want)
                        : NULL,
                    "%lld descriptors may be open; limits.clients is %lld", (long long)lim.rlim_max,
                    (long long)c->limits.clients);
    }
    if ((int64_t)time(NULL) < CLOCK_LEAST)
        doctor_find(d, FINDING_WARN, "clock", xstrdup("set it, or run a time service"),
                    "the clock of this machine is far in the past");
}

static void check_frontend(struct doctor *d, const char *dir)
{
    char *index;

    if (dir == NULL) {
        doctor_find(d, FINDING_OK, "frontend", NULL, "none is configured: that of the first server is shown");
        return;
    }
    index = xasprintf("%s/index.html", dir);
    if (access(index, R_OK) == 0)
        doctor_find(d, FINDING_OK, "frontend", NULL, "%s holds a frontend", dir);
    else
        doctor_find(d, FINDING_BAD, "frontend",
                    xstrdup("name the folder \"static\" of comfyui-frontend-package, or leave frontend out"),
                    "%s: %s", index, strerror(errno));
    free(index);
}

static void check_servers(struct doctor *d, const struct config *c, const struct store_look *s)
{
    for (size_t i = 0; i < c->servers.n; i++)
        doctor_add_server(d, c->servers.v[i].name, c->servers.v[i].url, "configuration");
    for (size_t i = 0; i < s->n_servers; i++) /* of two with one name the configuration's wins */
        doctor_add_server(d, s->servers[i].name, s->servers[i].url, "data folder");
    if (d->n_servers == 0) {
        doctor_find(d, FINDING_WARN, "servers",
                    xstrdup("servers: in the configuration, or comfymux servers add URL"),
                    "no ComfyUI server is configured: jobs would wait");
        return;
    }
    doctor_ask(d, c->timeout.connect);
    doctor_compare(d);
}

/* --- what is said --- */

static const char *const level_names[] = {"ok", "warning", "unusable"};

static void put_missing(const struct doctor *d, const struct difference *x, struct buf *out)
{
    for (size_t i = 0, n = 0; i < d->n_servers; i++)
        if (server_set_has(&x->missing, i))
            buf_printf(out, "%s%s", n++ ? ", " : "", d->servers[i].name);
}

static void put_servers(const struct doctor *d, const struct cli_term *term, struct buf *out)
{
    static const char *const heads[] = {"SERVER", "ANSWERS",   "COMFYUI", "NODES",
                                        "MODELS", "VRAM FREE", "DEVICE"};
    struct table t;

    table_init(&t, ARRAY_LEN(heads), heads);
    for (size_t i = 0; i < d->n_servers; i++) {
        const struct doctor_server *s = &d->servers[i];
        char total[32], left[32];

        put_size(total, s->vram_total);
        put_size(left, s->vram_free);
        table_add(&t, s->name);
        if (s->reachable)
            table_addf(&t, "%lld ms", (long long)s->took_ms);
        else
            table_add(&t, "no");
        table_add(&t, s->version);
        table_addf(&t, "%zu", s->info ? object_info_count(s->info) : 0);
        table_addf(&t, "%zu", s->models);
        if (s->vram_total)
            table_addf(&t, "%s of %s", left, total);
        else
            table_add(&t, NULL);
        table_add(&t, s->device);
    }
    table_put(&t, term, -1, out);
    table_fini(&t);
}

static void put_differences(const struct doctor *d, const struct cli_term *term, struct buf *out)
{
    static const char *const heads[] = {"KIND", "NAME", "OF", "MISSING ON"};
    struct table t;

    table_init(&t, ARRAY_LEN(heads), heads);
    for (size_t i = 0; i < d->n_differences && i < DIFFERENCES_SHOWN; i++) {
        struct buf on = BUF_INIT;

        put_missing(d, &d->differences[i], &on);
        table_add(&t, d->differences[i].kind);
        table_add(&t, d->differences[i].name);
        table_add(&t, d->differences[i].where);
        table_add(&t, buf_str(&on));
        buf_free(&on);
    }
    table_put(&t, term, -1, out);
    table_fini(&t);
    if (d->n_differences > DIFFERENCES_SHOWN)
        buf_printf(out, "and %zu more: --json has them all\n", d->n_differences - DIFFERENCES_SHOWN);
}

static void put_text(const struct doctor *d, const struct cli_term *term, struct buf *out)
{
    static const char *const colours[] = {"32", "33", "31"};

    for (size_t i = 0; i < d->n_findings; i++) {
        const struct finding *f = &d->findings[i];

        if (term->colour)
            buf_printf(out, "\x1b[%sm%-8s\x1b[0m  %-8s  %s\n", colours[f->level], level_names[f->level],
                       f->area, f->text);
        else
            buf_printf(out, "%-8s  %-8s  %s\n", level_names[f->level], f->area, f->text);
        if (f->advice)
            buf_printf(out, "%-8s  %-8s  -> %s\n", "", "", f->advice);
    }
    if (d->n_servers) {
        buf_putc(out, '\n');
        put_servers(d, term, out);
    }
    if (d->n_differences) {
        buf_putc(out, '\n');
        put_differences(d, term, out);
    }
}

static void put_json_server(struct jsonw *w, const struct doctor_server *s)
{
    jsonw_obj(w);
    jsonw_kstr(w, "name", s->name);
    jsonw_kstr(w, "url", s->shown);
    jsonw_kstr(w, "from", s->from);
    jsonw_kbool(w, "reachable", s->reachable && s->info != NULL);
    jsonw_kbool(w, "socket", s->socket);
    jsonw_kstr(w, "reason", s->why);
    jsonw_kint(w, "answer_ms", s->took_ms);
    jsonw_kint(w, "clock_skew_s", s->skew_s);
    jsonw_kstr(w, "version", s->version);
    jsonw_kstr(w, "python", s->python);
    jsonw_kstr(w, "device", s->device);
    jsonw_kint(w, "devices", s->devices);
    jsonw_kint(w, "vram_total", s->vram_total);
    jsonw_kint(w, "vram_free", s->vram_free);
    jsonw_kint(w, "nodes", s->info ? (int64_t)object_info_count(s->info) : 0);
    jsonw_kint(w, "models", (int64_t)s->models);
    jsonw_obj_end(w);
}

static void put_json(const struct doctor *d, struct buf *out)
{
    struct jsonw w;

    jsonw_init(&w, out);
    jsonw_obj(&w);
    jsonw_kbool(&w, "ok", !any_bad(d));
    jsonw_key(&w, "findings");
    jsonw_arr(&w);
    for (size_t i = 0; i < d->n_findings; i++) {
        jsonw_obj(&w);
        jsonw_kstr(&w, "level", level_names[d->findings[i].level]);
        jsonw_kstr(&w, "area", d->findings[i].area);
        jsonw_kstr(&w, "message", d->findings[i].text);
        jsonw_kstr(&w, "advice", d->findings[i].advice);
        jsonw_obj_end(&w);
    }
    jsonw_arr_end(&w);
    jsonw_key(&w, "servers");
    jsonw_arr(&w);
    for (size_t i = 0; i < d->n_servers; i++)
        put_json_server(&w, &d->servers[i]);
    jsonw_arr_end(&w);
    jsonw_key(&w, "differences");
    jsonw_arr(&w);
    for (size_t i = 0; i < d->n_differences; i++) {
        const struct difference *x = &d->differences[i];

        jsonw_obj(&w);
        jsonw_kstr(&w, "kind", x->kind);
        jsonw_kstr(&w, "name", x->name);
        jsonw_kstr(&w, "of", x->where);
        jsonw_key(&w, "missing_on");
        jsonw_arr(&w);
        for (size_t k = 0; k < d->n_servers; k++)
            if (server_set_has(&x->missing, k))
                jsonw_str(&w, d->servers[k].name);
        jsonw_arr_end(&w);
        jsonw_obj_end(&w);
    }
    jsonw_arr_end(&w);
    jsonw_obj_end(&w);
    buf_putc(out, '\n');
}

static int examine(const struct asked *a)
{
    struct doctor d = {0};
    struct store_look look = {0};
    struct buf out = BUF_INIT;
    struct cli_term term;
    struct config c;
    int status;

    log_setup(LOG_ERROR + 1, LOG_TEXT); /* everything is said below */
    cli_term(STDOUT_FILENO, &term);
    if (check_config(&d, a, &c)) {
        check_data(&d, c.data_dir, &look);
        check_port(&d, c.listen, look.holder);
        check_system(&d, &c);
        check_frontend(&d, c.frontend);
        check_servers(&d, &c, &look);
    }
    if (a->json)
        put_json(&d, &out);
    else
        put_text(&d, &term, &out);
    fwrite(buf_str(&out), 1, out.len, stdout);
    status = any_bad(&d) ? CLI_FAILED : CLI_OK;
    buf_free(&out);
    store_look_fini(&look);
    config_fini(&c);
    doctor_fini(&d);
    return status;
}

int doctor_main(int argc, char **argv)
{
    static const struct opt table[] = {{"config", 'c', true}, {"listen", 0, true}, {"data", 0, true},
                                       {"frontend", 0, true}, {"server", 0, true}, {"json", 0, false},
                                       {NULL, 0, false}};
    struct opts o = {.command = "doctor", .usage = usage, .table = table};
    struct asked a = {0};
    int i, status = CLI_OK;

    opts_start(&o, argc, argv);
    while ((i = opts_next(&o, &status)) >= 0) {
        switch (i) {
        case 0: a.file = o.value; break;
        case 1: a.listen = o.value; break;
        case 2: a.data = o.value; break;
        case 3: a.frontend = o.value; break;
        case 4:
            a.servers = xrealloc(a.servers, (a.n_servers + 1) * sizeof(char *));
            a.servers[a.n_servers++] = o.value;
            break;
        default: a.json = true; break;
        }
    }
    if (i == OPTS_DONE && opts_n_operands(&o) > 0)
        status = opts_fault(&o, "there is nothing to do with \"%s\"", opts_operands(&o)[0]);
    else if (i == OPTS_DONE)
        status = examine(&a);
    free(a.servers);
    opts_end(&o);
    return cli_finish("doctor", status);
}
