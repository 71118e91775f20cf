#include "api/file_probe.h"

#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/log.h"
#include "http/client.h"
#include "job/scheduler.h"

#define AT_ONCE 32       /* questions under way */
#define REMEMBERED 10000 /* files; beyond it all are forgotten, which costs questions */
#define ANSWER_MS 10000

struct known {
    char *key, *server;
    uint64_t restarts; /* of the server when it was asked */
    UT_hash_handle hh;
};

struct probes {
    struct known *known;
    unsigned open;
};

struct probe {
    struct api *a;
    char *key, *target;
    unsigned open;
    unsigned have; /* servers that have it */
    bool doubt;    /* one could not say */
    bool busy;
    char *server;
    uint64_t restarts;
    struct task done;
    probe_cb *cb;
    void *arg;
};

/* One server's answer on its way. */
struct question {
    struct probe *p;
    char *server;
    uint64_t restarts;
};

static struct probes *probes_of(struct api *a)
{
    if (a->probes == NULL)
        a->probes = xcalloc(1, sizeof(*a->probes));
    return a->probes;
}

static void forget(struct probes *ps, struct known *k)
{
    HASH_DEL(ps->known, k);
    free(k->key);
    free(k->server);
    free(k);
}

static void forget_all(struct probes *ps)
{
    struct known *k, *next;

    HASH_ITER(hh, ps->known, k, next)
        forget(ps, k);
}

void probes_free(struct api *a)
{
    if (a->probes == NULL)
        return;
    forget_all(a->probes);
    free(a->probes);
    a->probes = NULL;
}

static void remember(struct probe *p)
{
    struct probes *ps = probes_of(p->a);
    struct known *k;

    HASH_FIND_STR(ps->known, p->key, k);
    if (k)
        forget(ps, k);
    if (HASH_COUNT(ps->known) >= REMEMBERED)
        forget_all(ps);
    k = xcalloc(1, sizeof(*k));
    k->key = xstrdup(p->key);
    k->server = xstrdup(p->server);
    k->restarts = p->restarts;
    HASH_ADD_KEYPTR(hh, ps->known, k->key, strlen(k->key), k);
}

static void on_done(void *arg)
{
    struct probe *p = arg;
    bool one = p->have == 1 && !p->doubt;

    probes_of(p->a)->open--;
    if (one)
        remember(p);
    log_debug(LOG_S("event", "file_looked_for"), LOG_S("file", p->key), LOG_I("servers", p->have),
              LOG_S("server", one ? p->server : NULL));
    p->cb(p->busy ? PROBE_BUSY : one ? PROBE_ONE : PROBE_NONE, one ? p->server : NULL, p->arg);
    free(p->key);
    free(p->target);
    free(p->server);
    free(p);
}

static void on_answer(const struct http_answer *ans, void *arg)
{
    struct question *q = arg;
    struct probe *p = q->p;

    if (ans->end == HTTP_CALL_OK && ans->status == 200) {
        p->have++;
        free(p->server);
        p->server = q->server;
        q->server = NULL;
        p->restarts = q->restarts;
    } else if (ans->end != HTTP_CALL_OK || ans->status != 404) {
        p->doubt = true;
    }
    free(q->server);
    free(q);
    if (--p->open == 0 && p->a->stopped)
        on_done(p); /* no turn of the loop comes any more */
    else if (p->open == 0)
        loop_defer(p->a->d.loop, &p->done);
}

static void ask(struct probe *p, const struct fleet_server *s)
{
    struct http_client *c = registry_client(p->a->d.registry, s->name);
    struct question *q;

    if (c == NULL || s->state == FLEET_DOWN || s->state == FLEET_SUSPECT) {
        p->doubt = true;
        return;
    }
    q = xcalloc(1, sizeof(*q));
    *q = (struct question){p, xstrdup(s->name), s->restarts};
    p->open++;
    http_fetch(c, "HEAD", p->target, NULL, NULL, 4096, ANSWER_MS, on_answer, q);
}

static char *target_of(const char *type, const char *subfolder, const char *filename)
{
    struct buf t = BUF_INIT;

    buf_puts(&t, "/view?filename=");
    http_escape(filename, strlen(filename), false, &t);
    buf_puts(&t, "&subfolder=");
    http_escape(subfolder, strlen(subfolder), false, &t);
    buf_printf(&t, "&type=%s", type);
    return buf_take(&t);
}

/* Answered from memory, if that server is what it was. */
static bool recall(struct probe *p, const struct fleet_server *v, size_t n)
{
    struct probes *ps = probes_of(p->a);
    struct known *k;

    HASH_FIND_STR(ps->known, p->key, k);
    for (size_t i = 0; k && i < n; i++) {
        if (strcmp(v[i].name, k->server) != 0 || v[i].restarts != k->restarts || v[i].state == FLEET_DOWN)
            continue;
        p->have = 1;
        p->server = xstrdup(k->server);
        p->restarts = k->restarts;
        return true;
    }
    if (k)
        forget(ps, k);
    return false;
}

void probe_servers(struct api *a, const char *type, const char *subfolder, const char *filename, probe_cb *cb,
                   void *arg)
{
    struct fleet_server v[SCHED_SERVERS_MAX];
    size_t n = fleet_servers(registry_fleet(a->d.registry), v, SCHED_SERVERS_MAX);
    struct probe *p = xcalloc(1, sizeof(*p));

    p->a = a;
    p->key = xasprintf("%s %s/%s", type, subfolder, filename);
    p->target = target_of(type, subfolder, filename);
    p->cb = cb;
    p->arg = arg;
    task_init(&p->done, on_done, p);
    p->busy = probes_of(a)->open >= AT_ONCE;
    probes_of(a)->open++;
    if (!p->busy && !recall(p, v, n)) {
        for (size_t i = 0; i < n && !p->doubt; i++) /* all must be there before one is asked */
            p->doubt = v[i].state == FLEET_DOWN || v[i].state == FLEET_SUSPECT;
        for (size_t i = 0; i < n && !p->doubt; i++)
            ask(p, &v[i]);
    }
    if (p->open == 0)
        loop_defer(a->d.loop, &p->done);
}
