#include "sim/server.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "comfy/events.h"
#include "sim/server_impl.h"

#define INLINE_WORK (256u << 10) /* samples: up to here a node's work is done on the loop */

/* --- clock: real time, random bytes that repeat with the seed --- */

static int64_t clock_mono(struct clock *c)
{
    (void)c;
    return clock_system()->mono_ms(clock_system());
}

static int64_t clock_wall(struct clock *c)
{
    (void)c;
    return clock_system()->wall_ms(clock_system());
}

static void clock_random(struct clock *c, void *out, size_t n)
{
    struct sim_server *s = container_of(c, struct sim_server, clock);

    for (unsigned char *p = out; n > 0; n--, p++) { /* splitmix64 */
        uint64_t z = (s->random += 0x9e3779b97f4a7c15u);

        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        *p = (unsigned char)((z ^ (z >> 31)) >> 24);
    }
}

/* --- events --- */

static void queue_changed(void *arg)
{
    struct sim_server *s = arg;
    struct buf b = BUF_INIT;

    event_put_status(&b, (int64_t)prompts_remaining(&s->prompts), NULL);
    hub_text(s->hub, NULL, b.data, b.len);
    buf_free(&b);
}

static void send_text(void *arg, const char *sid, const char *json, size_t n)
{
    hub_text(((struct sim_server *)arg)->hub, sid, json, n);
}

static void send_binary(void *arg, const char *sid, const void *data, size_t n)
{
    hub_binary(((struct sim_server *)arg)->hub, sid, data, n);
}

static int wants_metadata(void *arg, const char *sid)
{
    return hub_metadata(((struct sim_server *)arg)->hub, sid);
}

static void greet(void *arg, const char *sid, struct ws *w)
{
    struct sim_server *s = arg;
    struct buf b = BUF_INIT;
    const char *node;

    event_put_status(&b, (int64_t)prompts_remaining(&s->prompts), sid);
    ws_send_text(w, b.data, b.len);
    if (exec_current(s->exec, sid, &node)) {
        buf_clear(&b);
        event_put_executing(&b, node, NULL, NULL);
        ws_send_text(w, b.data, b.len);
    }
    buf_free(&b);
}

void server_features(void *arg, struct buf *b)
{
    (void)arg;
    buf_printf(b, "{\"supports_preview_metadata\": true, \"max_upload_size\": %lld}", MAX_UPLOAD);
}

/* --- death and return --- */

static void die(struct sim_server *s, int64_t revive_ms)
{
    s->dying = true;
    s->revive_ms = revive_ms;
    loop_defer(s->loop, &s->death);
}

static void drop_delayed(struct sim_server *s);

/* SIGKILL as seen from outside: connections end, nothing is said, only files stay (but for temp). */
static void be_dead(void *arg)
{
    struct sim_server *s = arg;

    log_info(LOG_S("sim", s->name), LOG_S("state", "dead"), LOG_I("revive_ms", s->revive_ms));
    s->down = true;
    s->dying = false;
    timer_clear(&s->pump);
    hub_cut(s->hub);
    drop_delayed(s);
    http_server_free(&s->http);
    s->listener = NULL;
    exec_abandon(s->exec);
    prompts_fini(&s->prompts);
    prompts_init(&s->prompts, queue_changed, s);
    models_unload(&s->models);
    files_wipe_temp(&s->files);
    s->number = 0;
    s->logged = 0;
    s->plan.silent = false;
    hub_silence(s->hub, false);
    if (s->revive_ms >= 0)
        timer_set(&s->revive, s->revive_ms);
}

static int listen_now(struct sim_server *s, const char *addr, struct err *e)
{
    s->http = http_server_new(s->loop, &http_limits_default, route_request, s);
    http_server_set_name(s->http, "comfymux-sim/" COMFYMUX_VERSION);
    s->listener = http_server_listen(s->http, addr, NULL, e);
    if (!s->listener) {
        http_server_free(&s->http);
        return -1;
    }
    return 0;
}

static void come_back(void *arg)
{
    struct sim_server *s = arg;
    struct err e = {0};

    if (listen_now(s, s->addr, &e) < 0) {
        log_warn(LOG_S("sim", s->name), LOG_S("reason", e.msg));
        timer_set(&s->revive, 500);
        return;
    }
    s->down = false;
    log_info(LOG_S("sim", s->name), LOG_S("state", "back"), LOG_S("listen", s->addr));
}

/* --- running prompts --- */

/* Every kind is asked at every prompt, so that @N counts prompts whatever else strikes. */
static enum exec_fault fault_of(void *arg, const struct prompt *p, int64_t *slow_ms, int64_t *lag_ms)
{
    struct sim_server *s = arg;
    struct faults *f = &s->faults;
    bool oom = faults_strike(f, FAULT_OOM, NULL), cuda = faults_strike(f, FAULT_CUDA, NULL),
         node = faults_strike(f, FAULT_NODE_ERROR, NULL), hang = faults_strike(f, FAULT_HANG, NULL);

    (void)p;
    s->started++;
    s->run_began = s->clock.mono_ms(&s->clock);
    (void)faults_strike(f, FAULT_SLOW_PROMPT, slow_ms);
    (void)faults_strike(f, FAULT_HISTORY_LAG, lag_ms);
    s->plan.hide_history = faults_strike(f, FAULT_HISTORY_MISSING, NULL);
    s->plan.silent = faults_strike(f, FAULT_WS_SILENT, NULL);
    s->plan.drop = faults_strike(f, FAULT_WS_DROP, NULL);
    s->plan.die_at_start = faults_strike(f, FAULT_DIE_AFTER_START, &s->plan.start_ms);
    s->plan.die_at_end = faults_strike(f, FAULT_DIE_AFTER_END, &s->plan.end_ms);
    if (s->plan.silent)
        hub_silence(s->hub, true);
    return hang ? EXEC_HANG : cuda ? EXEC_CUDA : oom ? EXEC_OOM : node ? EXEC_NODE_ERROR : EXEC_FINE;
}

static void marked(void *arg, enum exec_mark m, const struct prompt *p)
{
    struct sim_server *s = arg;
    bool start = m == EXEC_STARTED;

    log_info(LOG_S("prompt", p->id), LOG_S("sim", s->name), LOG_S("state", start ? "running" : "ended"));
    if (start && s->plan.drop)
        hub_cut(s->hub);
    if (start ? s->plan.die_at_start : s->plan.die_at_end)
        die(s, start ? s->plan.start_ms : s->plan.end_ms);
}

static void between_prompts(struct sim_server *s)
{
    if (s->plan.silent) {
        s->plan.silent = false;
        hub_silence(s->hub, false);
    }
    if (s->unload_models || s->free_memory)
        models_unload(&s->models);
    if (s->free_memory)
        exec_drop_cache(s->exec);
    s->unload_models = s->free_memory = false;
}

static void work_run(struct work *w)
{
    exec_work(container_of(w, struct sim_server, work)->exec);
}

static void work_done(struct work *w)
{
    struct sim_server *s = container_of(w, struct sim_server, work);

    s->working = false;
    server_kick(s);
}

/* The running prompt's id is needed after history took it. */
static void end_prompt(struct sim_server *s, char *id)
{
    server_log(s, "Prompt executed in %.2f seconds\n",
               (double)(s->clock.mono_ms(&s->clock) - s->run_began) / 1000);
    if (s->plan.hide_history)
        history_delete(&s->prompts, id);
    free(id);
}

static void pump(void *arg)
{
    struct sim_server *s = arg;

    while (!s->working && !s->dying && !s->down) {
        char *id;
        bool real;
        int64_t ms;

        if (!exec_busy(s->exec)) {
            between_prompts(s);
            if (!prompts_start(&s->prompts))
                return;
            exec_start(s->exec);
        }
        id = xstrdup(s->prompts.running->id);
        switch (exec_step(s->exec, &ms, &real)) {
        case EXEC_IDLE:
            end_prompt(s, id);
            timer_set(&s->pump, 0);
            return;
        case EXEC_WAIT:
            free(id);
            if (ms >= 0)
                timer_set(&s->pump, real ? ms : (int64_t)llround((double)ms / s->speed));
            return;
        case EXEC_WORK:
            free(id);
            if (exec_work_size(s->exec) > INLINE_WORK) {
                s->working = true;
                s->work.run = work_run;
                s->work.done = work_done;
                workers_submit(s->workers, &s->work);
                return;
            }
            exec_work(s->exec);
            break;
        }
    }
}

void server_kick(struct sim_server *s)
{
    if (!s->working && !timer_is_set(&s->pump))
        timer_set(&s->pump, 0);
}

/* --- answers --- */

struct delayed {
    struct list link;
    struct timer timer;
    struct task end;
    struct http_req *req;
    server_later_cb *run;
    void (*drop)(void *arg);
    void *arg;
};

static void delayed_free(void *arg)
{
    struct delayed *d = arg;

    timer_fini(&d->timer);
    free(d);
}

static void delayed_end(struct delayed *d)
{
    list_remove(&d->link);
    timer_clear(&d->timer);
    if (d->drop)
        d->drop(d->arg);
    task_init(&d->end, delayed_free, d);
    loop_defer(d->timer.loop, &d->end);
}

static void delayed_due(void *arg)
{
    struct delayed *d = arg;
    struct http_req *r = d->req;

    http_on_abort(r, NULL, NULL);
    d->run(r, d->arg);
    delayed_end(d);
}

static void delayed_gone(struct http_req *r, void *arg)
{
    (void)r;
    delayed_end(arg);
}

static void drop_delayed(struct sim_server *s)
{
    list_for_each_safe(it, &s->delayed)
        delayed_end(list_entry(it, struct delayed, link));
}

void server_later(struct sim_server *s, struct http_req *r, int64_t ms, server_later_cb *run,
                  void (*drop)(void *arg), void *arg)
{
    struct delayed *d = xcalloc(1, sizeof(*d));

    d->req = r;
    d->run = run;
    d->drop = drop;
    d->arg = arg;
    list_init(&d->link);
    list_push_back(&s->delayed, &d->link);
    timer_init(&d->timer, s->loop, delayed_due, d);
    timer_set(&d->timer, ms);
    http_on_abort(r, delayed_gone, d);
}

void reply_json(struct http_req *r, int status, struct buf *b)
{
    http_reply(r, status, "application/json; charset=utf-8", buf_str(b), b->len);
    buf_free(b);
}

void reply_500(struct http_req *r)
{
    http_close_after(r);
    http_reply_str(r, 500, "text/plain; charset=utf-8",
                   "500 Internal Server Error\n\nServer got itself in trouble");
}

void reply_413(struct http_req *r)
{
    char text[64];

    snprintf(text, sizeof(text), "Maximum request body size %lld exceeded.", MAX_UPLOAD);
    http_reply_str(r, 413, "text/plain; charset=utf-8", text);
}

void reply_empty(struct http_req *r, int status)
{
    if (http_req_method(r) == HTTP_HEAD) {
        http_start(r, status, NULL, -1);
        http_end(r);
    } else {
        http_reply_empty(r, status);
    }
}

void reply_none(struct http_req *r, int status)
{
    http_start(r, status, http_req_method(r) == HTTP_HEAD ? NULL : "application/octet-stream", -1);
    http_end(r);
}

void reply_405(struct http_req *r, const char *allow)
{
    http_set(r, "Allow", allow);
    http_reply_str(r, 405, "text/plain; charset=utf-8", "405: Method Not Allowed");
}

/* --- lifetime --- */

static int add_faults(struct sim_server *s, const struct sim_server_conf *c, struct err *e)
{
    faults_init(&s->faults, c->seed ^ 0x6661756c74u);
    for (size_t i = 0; i < c->n_faults; i++)
        if (faults_add(&s->faults, c->faults[i], e) < 0)
            return -1;
    return 0;
}

static void server_start(struct sim_server *s, const struct sim_server_conf *c)
{
    struct hub_conf hub = {.arg = s, .greet = greet, .features = server_features};
    struct exec_conf exec = {
        .sink = {.arg = s, .text = send_text, .binary = send_binary, .metadata = wants_metadata},
        .prompts = &s->prompts,
        .files = &s->files,
        .models = &s->models,
        .clock = &s->clock,
        .server = s->name,
        .history_lag_ms = c->history_lag_ms,
        .fault = fault_of,
        .mark = marked,
        .arg = s};
    int64_t ms;

    models_init(&s->models, c->checkpoints, c->vram_models);
    prompts_init(&s->prompts, queue_changed, s);
    s->hub = sim_hub_new(&hub);
    s->exec = exec_new(&exec);
    s->users = val_obj();
    timer_init(&s->pump, s->loop, pump, s);
    timer_init(&s->revive, s->loop, come_back, s);
    task_init(&s->death, be_dead, s);
    if (faults_strike(&s->faults, FAULT_START_DELAY, &ms))
        s->ready_at = loop_now(s->loop) + ms;
}

struct sim_server *sim_server_new(struct loop *l, struct workers *w, const struct sim_server_conf *c,
                                  struct err *e)
{
    struct sim_server *s = xcalloc(1, sizeof(*s));

    s->loop = l;
    s->workers = w;
    s->work.owner = w;
    s->clock = (struct clock){clock_mono, clock_wall, clock_random};
    s->random = c->seed;
    s->name = xstrdup(c->name);
    s->speed = c->speed;
    s->custom_nodes = c->custom_nodes;
    list_init(&s->delayed);
    if (add_faults(s, c, e) < 0 || files_init(&s->files, c->state, &s->clock, e) < 0) {
        faults_fini(&s->faults);
        free(s->name);
        free(s);
        return NULL;
    }
    server_start(s, c);
    if (listen_now(s, c->listen, e) < 0) {
        sim_server_free(&s);
        return NULL;
    }
    s->addr = xstrdup(listener_addr(s->listener));
    server_log(s, "To see the GUI go to: http://%s\n", s->addr);
    return s;
}

void sim_server_free(struct sim_server **ps)
{
    struct sim_server *s = *ps;

    if (!s)
        return;
    s->down = true;    /* nothing is begun any more */
    while (s->working) /* a worker thread still has the node */
        loop_turn(s->loop, 100);
    task_cancel(&s->death);
    timer_fini(&s->pump);
    timer_fini(&s->revive);
    sim_hub_free(&s->hub);
    drop_delayed(s);
    if (s->http)
        http_server_free(&s->http);
    exec_free(&s->exec);
    s->prompts.changed = NULL;
    prompts_fini(&s->prompts);
    models_fini(&s->models);
    files_fini(&s->files);
    faults_fini(&s->faults);
    val_free(s->users);
    server_log_free(s);
    free(s->name);
    free(s->addr);
    free(s);
    *ps = NULL;
}

const char *sim_server_addr(const struct sim_server *s)
{
    return s->addr;
}
