/* Taking a prompt off a server: out of its queue, or interrupted if exactly it is running; then a look.
 *
 *   POST /queue {"delete":[id]} ──> GET /queue: not there ──> GONE
 *                                       │ running             │ pending ──> STILL_THERE
 *                                       v
 *                               POST /interrupt {"prompt_id": id} ──> GET /queue ──> GONE or STILL_THERE
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/plant.h"
#include "fleet/fleet_priv.h"

enum stop_step { STOP_DELETE, STOP_LOOK, STOP_INTERRUPT, STOP_LOOK_AGAIN };

struct stop {
    struct call call;
    fleet_stopped_cb *cb;
    void *arg;
    char id[UUID_SIZE];
    enum stop_step step;
    struct bytes *body;
    int place;
    struct health_queue queue;
};

static void stop_free(struct call *c)
{
    struct stop *x = container_of(c, struct stop, call);

    bytes_unref(x->body);
    free(x);
}

static void stop_end(struct stop *x, enum fleet_stopped r)
{
    if (!call_answer(&x->call))
        return;
    if (r == FLEET_GONE) {
        server_release(x->call.s, x->id);
        watch_no_witness(x->call.s, x->id);
    }
    x->cb(r, x->arg);
}

static void stop_give_up(struct call *c, const char *why)
{
    (void)why;
    stop_end(container_of(c, struct stop, call), FLEET_STOP_FAILED);
}

static void stop_next(struct stop *x, enum stop_step step);

static void stop_looked(struct stop *x)
{
    bytes_unref(x->body);
    x->body = NULL;
    if (x->place >= 0)
        watch_queue(x->call.s, &x->queue);
    if (x->place < 0)
        stop_end(x, FLEET_STOP_FAILED);
    else if (x->place == FLEET_ABSENT)
        stop_end(x, FLEET_GONE);
    else if (x->place == FLEET_RUNNING && x->step == STOP_LOOK)
        stop_next(x, STOP_INTERRUPT);
    else
        stop_end(x, FLEET_STILL_THERE);
}

static void run_look(struct work *w)
{
    struct stop *x = container_of(w, struct stop, call.work);

    x->place = queue_find(x->body->data, x->body->len, x->id, &x->queue);
}

static void on_look_read(struct work *w)
{
    struct stop *x = container_of(w, struct stop, call.work);

    if (call_idle(&x->call))
        stop_looked(x);
}

static void on_stop_answer(const struct http_answer *a, void *arg)
{
    struct stop *x = arg;

    server_note(x->call.s, a->end, a->status, a->why);
    if (!call_idle(&x->call))
        return;
    if (a->end != HTTP_CALL_OK || a->status != 200) {
        stop_end(x, FLEET_STOP_FAILED);
    } else if (x->step == STOP_DELETE) {
        stop_next(x, STOP_LOOK);
    } else if (x->step == STOP_INTERRUPT) {
        stop_next(x, STOP_LOOK_AGAIN);
    } else {
        x->body = bytes_ref(a->body);
        if (a->body->len > JSON_ON_LOOP) {
            call_work(&x->call, run_look, on_look_read);
            return;
        }
        x->place = queue_find(a->body->data, a->body->len, x->id, &x->queue);
        stop_looked(x);
    }
}

static void stop_next(struct stop *x, enum stop_step step)
{
    struct buf b = BUF_INIT;
    struct http_client *to = x->call.s ? x->call.s->http : NULL;
    struct bytes *body;
    bool post = step == STOP_DELETE || step == STOP_INTERRUPT;

    if (call_unserved(&x->call)) {
        stop_end(x, FLEET_STOP_FAILED);
        return;
    }
    buf_puts(&b, step == STOP_DELETE ? "{\"delete\": [" : "{\"prompt_id\": ");
    json_put_str(&b, x->id);
    buf_puts(&b, step == STOP_DELETE ? "]}" : "}");
    body = buf_to_bytes(&b);
    x->step = step;
    x->call.busy = true;
    if (PLANTED(INTERRUPT_ASTRAY) && step == STOP_INTERRUPT && x->call.r->by_index[x->call.s->index ^ 1])
        to = x->call.r->by_index[x->call.s->index ^ 1]->http;
    http_fetch(to, post ? "POST" : "GET", step == STOP_INTERRUPT ? "/interrupt" : "/queue",
               post ? "application/json" : NULL, post ? body : NULL, BODY_MAX, LOOK_MS, on_stop_answer, x);
    bytes_unref(body);
}

static void on_stop(void *arg)
{
    stop_next(container_of(arg, struct stop, call), STOP_DELETE);
}

void calls_stop(struct fleet *f, const char *server, const char *id, fleet_stopped_cb *cb, void *arg)
{
    struct stop *x = xcalloc(1, sizeof(*x));

    x->cb = cb;
    x->arg = arg;
    snprintf(x->id, sizeof(x->id), "%s", id);
    call_init(&x->call, container_of(f, struct registry, fleet), server, on_stop, stop_give_up, stop_free);
}
