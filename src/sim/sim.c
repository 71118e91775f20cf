#include "sim/sim.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "sim/server_impl.h"

#define COUNT_MAX 256

struct options {
    const char *listen, *name, *state, *checkpoints;
    unsigned count, vram_models, custom_nodes;
    uint64_t seed;
    double speed;
    int64_t history_lag_ms;
    const char **faults;
    size_t n_faults;
    bool verbose;
};

static const struct {
    const char *name, *value, *help;
} option_table[] = {
    {"listen", "HOST:PORT", "where the first server listens (127.0.0.1:8188); port 0 picks one"},
    {"count", "N", "so many servers, on consecutive ports"},
    {"name", "PREFIX", "they are called PREFIX1, PREFIX2 ... (sim)"},
    {"seed", "N", "makes ids, file names and faults repeat; different each time unless given"},
    {"speed", "X", "played times are divided by X (1)"},
    {"history-lag", "MS", "history has a prompt this long after its last event (0)"},
    {"fault", "SPEC", "what goes wrong, see --fault help; N/SPEC only on the Nth server; may be repeated"},
    {"state", "DIR", "keeps input, output and user folders in DIR/1, DIR/2 ...; default: a temporary folder"},
    {"checkpoints", "LIST", "names of checkpoints, separated by commas; none: no models of any kind"},
    {"vram-models", "K", "so many models stay in memory (1)"},
    {"custom-nodes", "N", "GET /object_info has N more classes of 6 KB each, which cannot be run (0)"},
    {"verbose", NULL, "logs every request"},
    {"help", NULL, "this text"},
};

static void usage(FILE *out)
{
    fputs("usage: comfymux sim [OPTION]...\n\n"
          "A ComfyUI server without a GPU: same routes, events and quirks; sampling is played.\n"
          "Prints the URL of each server on a line of its own, then runs until it is stopped.\n\n",
          out);
    for (size_t i = 0; i < ARRAY_LEN(option_table); i++) {
        char left[64];

        snprintf(left, sizeof(left), "--%s%s%s", option_table[i].name, option_table[i].value ? " " : "",
                 option_table[i].value ? option_table[i].value : "");
        fprintf(out, "  %-20s %s\n", left, option_table[i].help);
    }
}

static int bad_value(const char *option, const char *value, const char *want)
{
    fprintf(stderr, "comfymux sim: --%s %s: %s\n", option, value, want);
    return 2;
}

static bool whole(const char *s, uint64_t min, uint64_t max, uint64_t *out)
{
    char *end;

    errno = 0;
    *out = strtoull(s, &end, 10);
    return *s >= '0' && *s <= '9' && *end == '\0' && errno == 0 && *out >= min && *out <= max;
}

/* 0: go on; else 1 + exit status. */
static int take_option(struct options *o, const char *name, const char *v)
{
    uint64_t n = 0;
    char *end;

    if (strcmp(name, "listen") == 0)
        o->listen = v;
    else if (strcmp(name, "name") == 0)
        o->name = v;
    else if (strcmp(name, "state") == 0)
        o->state = v;
    else if (strcmp(name, "checkpoints") == 0)
        o->checkpoints = v;
    else if (strcmp(name, "verbose") == 0)
        o->verbose = true;
    else if (strcmp(name, "count") == 0 && whole(v, 1, COUNT_MAX, &n))
        o->count = (unsigned)n;
    else if (strcmp(name, "vram-models") == 0 && whole(v, 0, 1000, &n))
        o->vram_models = (unsigned)n;
    else if (strcmp(name, "custom-nodes") == 0 && whole(v, 0, 100000, &n))
        o->custom_nodes = (unsigned)n;
    else if (strcmp(name, "seed") == 0 && whole(v, 0, UINT64_MAX, &n))
        o->seed = n;
    else if (strcmp(name, "history-lag") == 0) {
        const char *rest = v;

        o->history_lag_ms = fault_time(v, &rest);
        if (o->history_lag_ms < 0 || *rest)
            return 1 + bad_value(name, v, "milliseconds, or a time such as 300ms or 2s");
    } else if (strcmp(name, "speed") == 0) {
        o->speed = strtod(v, &end);
        if (*end || !(o->speed >= 0.001 && o->speed <= 100000))
            return 1 + bad_value(name, v, "a number from 0.001 to 100000");
    } else if (strcmp(name, "fault") == 0) {
        if (strcmp(v, "help") == 0) {
            faults_help(stdout);
            return 1;
        }
        o->faults = xrealloc(o->faults, (o->n_faults + 1) * sizeof(char *));
        o->faults[o->n_faults++] = v;
    } else if (strcmp(name, "help") == 0) {
        usage(stdout);
        return 1;
    } else {
        return 1 + bad_value(name, v, "not a whole number in range");
    }
    return 0;
}

static int parse_options(struct options *o, int argc, char **argv)
{
    struct option longs[ARRAY_LEN(option_table) + 1] = {0};
    int c, index = 0, rc;

    for (size_t i = 0; i < ARRAY_LEN(option_table); i++)
        longs[i] = (struct option){option_table[i].name,
                                   option_table[i].value ? required_argument : no_argument, NULL, 1};
    optind = 0;
    while ((c = getopt_long(argc, argv, "h", longs, &index)) != -1) {
        if (c == 'h') {
            usage(stdout);
            return 1;
        }
        if (c == '?') {
            fputs("Try 'comfymux sim --help'.\n", stderr);
            return 3;
        }
        rc = take_option(o, option_table[index].name, optarg ? optarg : "");
        if (rc)
            return rc;
    }
    if (optind < argc) {
        fprintf(stderr, "comfymux sim: what is \"%s\"?\n", argv[optind]);
        return 3;
    }
    return 0;
}

/* HOST:PORT of the nth server. */
static char *nth_address(const char *listen, unsigned i)
{
    const char *colon = strrchr(listen, ':');
    unsigned long port = colon ? strtoul(colon + 1, NULL, 10) : 0;

    if (!colon || strncmp(listen, "unix:", 5) == 0)
        return i == 0 ? xstrdup(listen) : xasprintf("%s.%u", listen, i + 1);
    return xasprintf("%.*s:%lu", (int)(colon - listen), listen, port ? port + i : 0);
}

/* "3/oom" for the third server only. NULL: not for this one. */
static const char *fault_for(const char *spec, unsigned i)
{
    char *end;
    unsigned long n = strtoul(spec, &end, 10);

    if (end == spec || *end != '/')
        return spec;
    return n == i + 1 ? end + 1 : NULL;
}

static struct sim_server *start_one(struct loop *l, struct workers *w, const struct options *o,
                                    const char *base, unsigned i, struct err *e)
{
    char *listen = nth_address(o->listen, i), *name = xasprintf("%s%u", o->name, i + 1);
    char *state = xasprintf("%s/%u", base, i + 1);
    const char **faults = xcalloc(o->n_faults + 1, sizeof(char *));
    struct sim_server_conf c = {.name = name,
                                .listen = listen,
                                .state = state,
                                .checkpoints = o->checkpoints,
                                .vram_models = o->vram_models,
                                .custom_nodes = o->custom_nodes,
                                .speed = o->speed,
                                .seed = o->seed + i * 1000003u,
                                .history_lag_ms = o->history_lag_ms,
                                .faults = faults};
    struct sim_server *s;

    for (size_t k = 0; k < o->n_faults; k++) {
        const char *spec = fault_for(o->faults[k], i);

        if (spec)
            faults[c.n_faults++] = spec;
    }
    s = sim_server_new(l, w, &c, e);
    if (s) {
        printf("http://%s\n", sim_server_addr(s));
        log_info(LOG_S("sim", name), LOG_S("listen", sim_server_addr(s)), LOG_S("state", state));
    }
    free(listen);
    free(name);
    free(state);
    free(faults);
    return s;
}

static void stop(int signo, void *arg)
{
    (void)signo;
    loop_stop(arg);
}

/* Faults are read here once, so that a wrong one is a usage error before anything starts. */
static int check_faults(const struct options *o)
{
    struct faults f;
    struct err e;
    int rc = 0;

    faults_init(&f, 0);
    for (size_t i = 0; i < o->n_faults && rc == 0; i++) {
        const char *slash = strchr(o->faults[i], '/');

        if (faults_add(&f, slash ? slash + 1 : o->faults[i], &e) < 0) {
            fprintf(stderr, "comfymux sim: --fault %s: %s\n", o->faults[i], e.msg);
            rc = -1;
        }
    }
    faults_fini(&f);
    return rc;
}

static int serve(const struct options *o, const char *base)
{
    struct sim_server **all = xcalloc(o->count, sizeof(*all));
    struct err e = {0};
    struct loop *l = loop_new(&e);
    struct workers *w = l ? workers_new(l, 2, &e) : NULL;
    unsigned n = 0;
    int rc = 1;

    if (w && loop_signal(l, SIGINT, stop, l, &e) == 0 && loop_signal(l, SIGTERM, stop, l, &e) == 0) {
        while (n < o->count && (all[n] = start_one(l, w, o, base, n, &e)))
            n++;
        if (n == o->count) {
            fflush(stdout);
            loop_run(l);
            rc = 0;
        }
    }
    if (rc)
        fprintf(stderr, "comfymux sim: %s\n", e.msg);
    while (n > 0)
        sim_server_free(&all[--n]);
    free(all);
    if (w) {
        workers_free(&w);
        if (loop_signal(l, SIGINT, NULL, NULL, &e) < 0 || loop_signal(l, SIGTERM, NULL, NULL, &e) < 0)
            log_warn(LOG_S("reason", e.msg));
    }
    if (l)
        loop_free(&l);
    return rc;
}

int sim_main(int argc, char **argv)
{
    struct options o = {
        .listen = "127.0.0.1:8188", .name = "sim", .count = 1, .vram_models = 1, .seed = 1, .speed = 1};
    char temporary[] = "/tmp/comfymux-sim-XXXXXX";
    const char *base;
    int rc;

    clock_system()->random(clock_system(), &o.seed, sizeof(o.seed));
    rc = parse_options(&o, argc, argv);
    if (rc == 0 && check_faults(&o) < 0)
        rc = 3;
    if (rc) {
        free(o.faults);
        return rc - 1;
    }
    log_setup(o.verbose ? LOG_DEBUG : LOG_INFO, LOG_TEXT);
    signal(SIGPIPE, SIG_IGN);
    base = o.state ? o.state : mkdtemp(temporary);
    if (!base) {
        fprintf(stderr, "comfymux sim: no temporary folder: %s\n", strerror(errno));
        rc = 1;
    } else {
        rc = serve(&o, base);
        if (!o.state)
            files_remove_tree(base);
    }
    free(o.faults);
    return rc;
}
