#include "api/mux_recent.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/hash.h"
#include "base/json.h"

#define NEED_MAX 262144 /* bytes of a need that is looked at: it names some hundred classes and files */
#define NAME_MAX_BYTES 512

struct begun { /* an attempt that a server has */
    char id[UUID_SIZE];
    int64_t at;
    UT_hash_handle hh;
};

struct one {
    char *server;
    int64_t took[RECENT_JOBS];
    unsigned n, next; /* next: where the next one goes */
    char *models[RECENT_MODELS];
    size_t n_models;
    UT_hash_handle hh; /* the one that was heard of last is last */
};

struct recents {
    struct begun *begun;
    struct one *servers;
};

struct recents *recents_new(void)
{
    return xcalloc(1, sizeof(struct recents));
}

static void one_drop(struct recents *r, struct one *o)
{
    HASH_DEL(r->servers, o);
    for (size_t i = 0; i < o->n_models; i++)
        free(o->models[i]);
    free(o->server);
    free(o);
}

void recents_free(struct recents **rp)
{
    struct recents *r = *rp;
    struct begun *b, *next_begun;
    struct one *o, *next;

    *rp = NULL;
    if (r == NULL)
        return;
    HASH_ITER(hh, r->begun, b, next_begun) {
        HASH_DEL(r->begun, b);
        free(b);
    }
    HASH_ITER(hh, r->servers, o, next)
        one_drop(r, o);
    free(r);
}

static struct one *find(const struct recents *r, const char *server)
{
    struct one *o;

    HASH_FIND_STR(r->servers, server, o);
    return o;
}

static struct one *get(struct recents *r, const char *server)
{
    struct one *o = find(r, server);

    if (o) {
        HASH_DEL(r->servers, o);
    } else {
        if (HASH_COUNT(r->servers) >= RECENT_SERVERS)
            one_drop(r, r->servers);
        o = xcalloc(1, sizeof(*o));
        o->server = xstrdup(server);
    }
    HASH_ADD_KEYPTR(hh, r->servers, o->server, strlen(o->server), o);
    return o;
}

void recents_forget(struct recents *r, const char *server)
{
    struct one *o = find(r, server);

    if (o)
        one_drop(r, o);
}

/* --- models --- */

bool recent_is_model(const char *name)
{
    static const char *const endings[] = {"safetensors", "sft", "ckpt", "pt",   "pt2",
                                          "pth",         "bin", "pkl",  "gguf", "onnx"};
    const char *dot = strrchr(name, '.');

    for (size_t i = 0; dot && dot > name && i < ARRAY_LEN(endings); i++)
        if (strcasecmp(dot + 1, endings[i]) == 0)
            return true;
    return false;
}

/* Takes name over. */
static void add_model(struct one *o, char *name)
{
    size_t at = 0;

    while (at < o->n_models && strcmp(o->models[at], name) != 0)
        at++;
    if (at < o->n_models)
        free(o->models[at]);
    else if (at == RECENT_MODELS)
        free(o->models[--at]);
    else
        o->n_models++;
    memmove(&o->models[1], &o->models[0], at * sizeof(*o->models));
    o->models[0] = name;
}

/* A need names what was chosen from lists (comfy/object_info.h); those of them that are files of weights. */
static void add_models(struct recents *r, const char *server, const char *need)
{
    size_t n = need ? strlen(need) : 0;
    struct json all, choice;
    struct json_iter it;

    if (n == 0 || n > NEED_MAX || json_check(need, n, NULL, &all, NULL) < 0)
        return;
    for (it = json_iter(json_get(all, "choices")); json_next(&it, NULL, &choice);) {
        struct json value = json_at(choice, 2);
        char *name = value.n <= NAME_MAX_BYTES ? json_strdup(value) : NULL;

        if (name && recent_is_model(name))
            add_model(get(r, server), name);
        else
            free(name);
    }
}

/* --- jobs --- */

static struct begun *begun_of(const struct recents *r, const char *id)
{
    struct begun *b;

    HASH_FIND_STR(r->begun, id, b);
    return b;
}

static void begin(struct recents *r, const struct job_summary *s)
{
    struct begun *b = begun_of(r, s->id);

    if (b == NULL) {
        b = xcalloc(1, sizeof(*b));
        memcpy(b->id, s->id, UUID_SIZE);
        HASH_ADD_STR(r->begun, id, b);
    }
    b->at = s->state_at;
}

static void end(struct recents *r, const struct job_summary *s)
{
    struct begun *b = begun_of(r, s->id);
    struct one *o;

    if (b == NULL)
        return;
    if (s->state == JOB_SUCCEEDED && s->server) {
        o = get(r, s->server);
        o->took[o->next] = s->finished_at > b->at ? s->finished_at - b->at : 0;
        o->next = (o->next + 1) % RECENT_JOBS;
        if (o->n < RECENT_JOBS)
            o->n++;
    }
    HASH_DEL(r->begun, b);
    free(b);
}

void recents_on_change(struct recents *r, const struct job_summary *s, enum job_state from)
{
    if (s->state == from)
        return;
    if (s->state == JOB_DISPATCHING)
        begin(r, s);
    else if (s->state == JOB_RUNNING && s->server)
        add_models(r, s->server, s->need);
    else if (s->state != JOB_COLLECTING)
        end(r, s);
}

static int by_time(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return (x > y) - (x < y);
}

void recents_of(const struct recents *r, const char *server, struct recent *out)
{
    const struct one *o = find(r, server);
    int64_t v[RECENT_JOBS], sum = 0;

    *out = (struct recent){0};
    if (o == NULL)
        return;
    for (size_t i = 0; i < o->n_models; i++)
        out->models[out->n_models++] = o->models[i];
    if (o->n == 0)
        return;
    memcpy(v, o->took, o->n * sizeof(*v));
    qsort(v, o->n, sizeof(*v), by_time);
    for (unsigned i = 0; i < o->n; i++)
        sum += v[i];
    out->jobs = o->n;
    out->mean_ms = sum / o->n;
    out->median_ms = (v[(o->n - 1) / 2] + v[o->n / 2]) / 2;
}
