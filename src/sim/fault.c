#include "sim/fault.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

/* time: 0 takes none, 1 may have one, 2 must have one. never: the time that stands for "for good". */
static const struct {
    const char *name;
    int time;
    int64_t ms;
    const char *occasion, *help;
} table[FAULT_KINDS] = {
    [FAULT_START_DELAY] = {"start-delay", 2, 0, "start", "the server answers only this long after its start"},
    [FAULT_REJECT] = {"reject", 0, 0, "POST /prompt", "400, as from a server that lacks a model"},
    [FAULT_REJECT_500] = {"reject-500", 0, 0, "POST /prompt", "500, and the prompt is not queued"},
    [FAULT_PROMPT_LOST] = {"prompt-lost", 0, 0, "POST /prompt",
                           "queued, but the connection closes before the answer"},
    [FAULT_PROMPT_SLOW_ANSWER] = {"prompt-slow-answer", 2, 0, "POST /prompt",
                                  "queued at once, answered this much later"},
    [FAULT_SLOW_PROMPT] = {"slow-prompt", 2, 0, "prompt", "waits between execution_start and its first node"},
    [FAULT_OOM] = {"oom", 0, 0, "prompt", "out of memory in the first heavy node"},
    [FAULT_CUDA] = {"cuda-error", 0, 0, "prompt", "a CUDA error in the first heavy node"},
    [FAULT_NODE_ERROR] = {"node-error", 0, 0, "prompt",
                          "the first heavy node raises, as one that lacks a package"},
    [FAULT_HANG] = {"hang", 0, 0, "prompt", "the first heavy node never ends and cannot be interrupted"},
    [FAULT_DIE_AFTER_START] = {"die-after-start", 1, -1, "prompt",
                               "killed right after its first events; up again after TIME, or never"},
    [FAULT_DIE_AFTER_END] =
        {"die-after-end", 1, -1, "prompt",
         "killed after the last event, before history has it; up again after TIME, or never"},
    [FAULT_WS_SILENT] = {"ws-silent", 0, 0, "prompt",
                         "its sockets stay open and say nothing from its start on"},
    [FAULT_WS_DROP] = {"ws-drop", 0, 0, "prompt", "all sockets are cut when it starts"},
    [FAULT_HISTORY_LAG] = {"history-lag", 2, 0, "prompt", "history has it this long after execution_success"},
    [FAULT_HISTORY_500] = {"history-500", 0, 0, "GET /history/ID", "500"},
    [FAULT_HISTORY_EMPTY] = {"history-empty", 0, 0, "GET /history/ID", "{} although it has ended"},
    [FAULT_HISTORY_MISSING] = {"history-missing", 0, 0, "prompt", "never appears in history"},
    [FAULT_VIEW_404] = {"view-404", 0, 0, "GET /view", "404 although the file is there"},
    [FAULT_VIEW_500] = {"view-500", 0, 0, "GET /view", "500"},
    [FAULT_VIEW_TRUNCATE] = {"view-truncate", 0, 0, "GET /view",
                             "the connection closes after half of the file"},
    [FAULT_VIEW_SLOW] = {"view-slow", 2, 0, "GET /view", "answered this much later"},
    [FAULT_OBJECT_INFO_SLOW] = {"object-info-slow", 2, 0, "GET /object_info", "answered this much later"},
};

void faults_init(struct faults *f, uint64_t seed)
{
    *f = (struct faults){.random = seed};
}

void faults_fini(struct faults *f)
{
    free(f->v);
    f->v = NULL;
    f->n = 0;
}

int64_t fault_time(const char *s, const char **end)
{
    static const struct {
        const char *unit;
        int64_t ms;
    } units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"", 1}};
    char *after;
    long v;

    if (*s < '0' || *s > '9')
        return -1;
    errno = 0;
    v = strtol(s, &after, 10);
    if (errno || v > 1000000000)
        return -1;
    for (size_t i = 0; i < ARRAY_LEN(units); i++) {
        size_t n = strlen(units[i].unit);

        if (strncmp(after, units[i].unit, n) == 0) {
            *end = after + n;
            return v * units[i].ms;
        }
    }
    return -1;
}

static int find(const char *s, size_t n)
{
    for (int i = 0; i < FAULT_KINDS; i++)
        if (strlen(table[i].name) == n && memcmp(table[i].name, s, n) == 0)
            return i;
    return -1;
}

static int selector(struct fault *f, char which, const char *s, const char **end, struct err *e)
{
    char *after;
    double v = strtod(s, &after);

    if (after == s || *s < '0' || *s > '9')
        return err_set(e, 0, "a number must follow '%c'", which);
    *end = after;
    if (which == '%') {
        if (v > 100)
            return err_set(e, 0, "%%%.*s is more than 100", (int)(after - s), s);
        f->percent = v;
        return 0;
    }
    if (v != (double)(long)v || v < 1 || v > 1e9)
        return err_set(e, 0, "'%c' takes a whole number from 1 on", which);
    if (which == ':')
        f->count = (long)v;
    else
        f->nth = (long)v;
    return 0;
}

static int parse(const char *spec, struct fault *f, struct err *e)
{
    size_t n = strcspn(spec, "=:@%");
    const char *s = spec + n;
    int kind = find(spec, n);

    if (kind < 0)
        return err_set(e, 0, "no such fault: %.*s (see --fault help)", (int)n, spec);
    *f = (struct fault){.kind = (enum fault_kind)kind, .ms = table[kind].ms, .count = -1, .percent = 100};
    if (*s == '=') {
        if (table[kind].time == 0)
            return err_set(e, 0, "%s takes no time", table[kind].name);
        f->ms = fault_time(s + 1, &s);
        if (f->ms < 0)
            return err_set(e, 0, "%s: a time such as 300ms or 2s must follow '='", table[kind].name);
    } else if (table[kind].time == 2) {
        return err_set(e, 0, "%s needs a time: %s=300ms", table[kind].name, table[kind].name);
    }
    while (*s) {
        char which = *s;

        if (!strchr(":@%", which))
            return err_set(e, 0, "%s: cannot read \"%s\"", table[kind].name, s);
        if (selector(f, which, s + 1, &s, e) < 0)
            return err_wrap(e, "%s", table[kind].name);
    }
    return 0;
}

int faults_add(struct faults *f, const char *spec, struct err *e)
{
    struct fault one;

    if (parse(spec, &one, e) < 0)
        return -1;
    f->v = xrealloc(f->v, (f->n + 1) * sizeof(*f->v));
    f->v[f->n++] = one;
    return 0;
}

/* splitmix64: the same seed gives the same faults. */
static double draw(struct faults *f)
{
    uint64_t z = (f->random += 0x9e3779b97f4a7c15u);

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (double)((z ^ (z >> 31)) >> 11) / (double)(1ull << 53) * 100;
}

static bool occasion(struct faults *f, enum fault_kind kind, bool use, int64_t *ms)
{
    bool hit = false;

    for (size_t i = 0; i < f->n; i++) {
        struct fault *x = &f->v[i];

        if (x->kind != kind)
            continue;
        x->occasions++;
        if (x->nth && x->occasions != x->nth)
            continue;
        if (x->percent < 100 && draw(f) >= x->percent)
            continue;
        if (x->count == 0)
            continue;
        if (x->count > 0 && use)
            x->count--;
        if (ms && !hit)
            *ms = x->ms;
        hit = true;
    }
    return hit;
}

bool faults_strike(struct faults *f, enum fault_kind kind, int64_t *ms)
{
    return occasion(f, kind, true, ms);
}

enum fault_kind faults_choose(struct faults *f, const enum fault_kind *kinds, size_t n)
{
    enum fault_kind chosen = FAULT_KINDS;

    for (size_t i = 0; i < n; i++)
        if (occasion(f, kinds[i], chosen == FAULT_KINDS, NULL) && chosen == FAULT_KINDS)
            chosen = kinds[i];
    return chosen;
}

void faults_help(FILE *out)
{
    fprintf(out,
            "--fault NAME[=TIME][:COUNT][@NTH][%%PERCENT], as often as wanted\n\n"
            "  =TIME     300ms 2s 1m\n"
            "  :COUNT    strikes that often, then no more\n"
            "  @NTH      strikes only on that occasion, counted from 1\n"
            "  %%PERCENT  strikes with that chance, drawn from --seed\n\n"
            "  %-24s %-18s %s\n",
            "fault", "occasion", "what happens");
    for (int i = 0; i < FAULT_KINDS; i++) {
        char name[32];

        snprintf(name, sizeof(name), "%s%s", table[i].name,
                 table[i].time == 2   ? "=TIME"
                 : table[i].time == 1 ? "[=TIME]"
                                      : "");
        fprintf(out, "  %-24s %-18s %s\n", name, table[i].occasion, table[i].help);
    }
}
