#include "api/native_ask.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "job/scheduler.h"

struct asking;

struct asked { /* one server */
    struct asking *all;
    struct native_answer answer;
};

struct asking {
    struct api *a;
    native_asked_cb *cb;
    void *arg;
    size_t n, open;
    struct task task;
    struct asked v[];
};

static void asking_end(struct asking *x)
{
    struct native_answer *v = xcalloc(x->n, sizeof(*v));

    for (size_t i = 0; i < x->n; i++)
        v[i] = x->v[i].answer;
    x->cb(x->a, v, x->n, x->arg);
    for (size_t i = 0; i < x->n; i++) {
        free(v[i].server);
        free(v[i].why);
        bytes_unref(v[i].body);
    }
    free(v);
    free(x);
}

static void asking_less(struct asking *x)
{
    if (--x->open == 0)
        asking_end(x);
}

static void on_asked(const struct http_answer *in, void *arg)
{
    struct asked *one = arg;
    struct native_answer *out = &one->answer;

    if (in->end == HTTP_CALL_OK) {
        out->status = in->status;
        out->body = bytes_ref(in->body);
    } else {
        log_info(LOG_S("server", out->server), LOG_S("event", "not_asked"), LOG_S("reason", in->why));
        out->why = xstrdup(in->why);
    }
    asking_less(one->all);
}

static void on_none(void *arg)
{
    asking_less(arg);
}

static void put_first(struct fleet_server *v, size_t n, const char *name)
{
    for (size_t i = 1; name && i < n; i++) {
        struct fleet_server s = v[i];

        if (strcmp(s.name, name) != 0)
            continue;
        memmove(v + 1, v, i * sizeof(*v));
        v[0] = s;
    }
}

void native_ask(struct api *a, const struct native_question *q, native_asked_cb *cb, void *arg)
{
    struct fleet_server v[SCHED_SERVERS_MAX];
    size_t n = fleet_servers(registry_fleet(a->d.registry), v, SCHED_SERVERS_MAX);
    struct asking *x;

    if (n > SCHED_SERVERS_MAX)
        n = SCHED_SERVERS_MAX;
    x = xcalloc(1, sizeof(*x) + n * sizeof(x->v[0]));
    x->a = a;
    x->cb = cb;
    x->arg = arg;
    x->open = 1;
    put_first(v, n, registry_primary(a->d.registry));
    for (size_t i = 0; i < n; i++) {
        struct http_client *c = registry_client(a->d.registry, v[i].name);

        if (c == NULL)
            continue;
        x->v[x->n].all = x;
        x->v[x->n].answer.server = xstrdup(v[i].name);
        x->open++;
        http_fetch(c, q->method, q->target, q->type, q->body, q->max, q->total_ms, on_asked, &x->v[x->n++]);
    }
    task_init(&x->task, on_none, x);
    loop_defer(a->d.loop, &x->task);
}

bool native_answer_json(const struct native_answer *x, enum json_type type, struct json *out)
{
    return x->status == 200 && x->body && json_check(x->body->data, x->body->len, NULL, out, NULL) == 0 &&
           json_type(*out) == type;
}
