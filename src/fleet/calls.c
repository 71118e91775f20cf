/* What the runner asks of a server: submit a prompt, look for it, read its history. Files are in fetch.c,
 * taking a prompt off in stop.c. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/plant.h"
#include "comfy/graph.h"
#include "comfy/prompt_request.h"
#include "fleet/fleet_priv.h"

#define SUBMIT_MS 60000 /* validation runs on the server's loop, behind whatever holds that up */

/* --- every call --- */

void call_init(struct call *c, struct registry *r, const char *server, task_cb *start,
               void (*give_up)(struct call *c, const char *why), void (*free_cb)(struct call *c))
{
    registry_ref(r);
    c->r = r;
    c->s = server ? server_ref(registry_find(r, server)) : NULL;
    c->give_up = give_up;
    c->free = free_cb;
    list_push_back(&r->calls, &c->link);
    task_init(&c->task, start, c);
    loop_defer(r->loop, &c->task);
}

bool call_unserved(const struct call *c)
{
    return c->s == NULL || c->s->gone;
}

static void on_call_free(void *arg)
{
    struct call *c = arg;
    struct registry *r = c->r;

    server_unref(c->s);
    c->free(c);
    registry_unref(r);
}

bool call_answer(struct call *c)
{
    if (c->answered)
        return false;
    c->answered = true;
    list_remove(&c->link);
    task_cancel(&c->task);
    task_init(&c->task, on_call_free, c);
    if (!c->busy)
        loop_defer(c->r->loop, &c->task);
    return true;
}

bool call_idle(struct call *c)
{
    c->busy = false;
    if (c->answered)
        loop_defer(c->r->loop, &c->task);
    return !c->answered;
}

void call_work(struct call *c, void (*run)(struct work *w), void (*done)(struct work *w))
{
    c->busy = true;
    c->work = (struct work){.run = run, .done = done};
    workers_submit(c->r->workers, &c->work);
}

/* --- submit ---
 * Stage each input, put the body together, post it. A refusal (400) of a prompt whose inputs were trusted to
 * be there leads to one more round in which they are put there anew: somebody may have emptied the folder. */

struct submit {
    struct call call;
    fleet_submitted_cb *cb;
    void *arg;
    char id[UUID_SIZE];
    char *job;
    struct bytes *graph, *extra_data, *targets, *rest, *secrets;
    struct job_input *inputs;
    struct buf *staged; /* the name of each on the server */
    size_t n, next;
    bool fresh;   /* the next input has just been uploaded */
    bool trusted; /* an input is there by memory alone */
    bool again, posted;
    char client_id[UUID_SIZE];
    struct buf body;
    struct err fault;
    bool faulty;
};

static void submit_free(struct call *c)
{
    struct submit *x = container_of(c, struct submit, call);

    for (size_t i = 0; i < x->n; i++) {
        free(x->inputs[i].name);
        buf_free(&x->staged[i]);
    }
    free(x->inputs);
    free(x->staged);
    free(x->job);
    if (x->secrets && x->body.data)
        explicit_bzero(x->body.data, x->body.len);
    buf_free(&x->body);
    bytes_unref(x->graph);
    bytes_unref(x->extra_data);
    bytes_unref(x->targets);
    bytes_unref(x->rest);
    bytes_unref(x->secrets);
    free(x);
}

static void submit_end(struct submit *x, enum fleet_submit_end end, int status, struct bytes *body,
                       const char *why)
{
    struct fleet_submitted r = {.end = end, .status = status, .body = body, .why = why};

    if (!call_answer(&x->call))
        return;
    if (x->call.s && end != FLEET_ACCEPTED && end != FLEET_LOST)
        server_release(x->call.s, x->id);
    else if (x->call.s && end == FLEET_ACCEPTED)
        watch_witness(x->call.s, x->id, false);
    x->cb(&r, x->arg);
}

static void submit_give_up(struct call *c, const char *why)
{
    struct submit *x = container_of(c, struct submit, call);

    submit_end(x, x->posted ? FLEET_LOST : FLEET_REFUSED, 0, NULL, why);
}

struct renaming {
    struct submit *x;
    struct str_index names; /* of inputs, by place */
};

static bool rename_input(void *arg, const struct graph_value *v, struct str is, struct buf *to)
{
    struct renaming *rn = arg;
    size_t i = str_index_find(&rn->names, is);

    (void)v;
    if (i == STR_NOWHERE)
        return false;
    buf_put(to, rn->x->staged[i].data, rn->x->staged[i].len);
    return true;
}

/* The graph for this server. */
static int submit_put_graph(struct submit *x, struct json text, struct buf *out, struct err *e)
{
    struct renaming rn = {.x = x};
    struct graph *g = graph_new(text, 0, e);

    if (g == NULL)
        return -1;
    for (size_t i = 0; i < x->n; i++)
        str_index_add(&rn.names, (struct str){x->inputs[i].name, strlen(x->inputs[i].name)}, NULL);
    graph_put_renamed(out, g, rename_input, &rn);
    str_index_fini(&rn.names);
    graph_free(&g);
    return 0;
}

static int check_part(const char *what, const struct bytes *b, struct json *out, struct err *e)
{
    if (b == NULL || b->len == 0)
        return 0;
    return json_check(b->data, b->len, NULL, out, e) < 0 ? err_wrap(e, "stored %s", what) : 0;
}

static int submit_put_body(struct submit *x)
{
    struct prompt_upstream u = {.prompt_id = x->id, .client_id = x->client_id};
    struct buf graph = BUF_INIT;
    struct err *e = &x->fault;
    int rc = -1;

    buf_clear(&x->body);
    if (check_part("graph", x->graph, &u.graph, e) < 0 ||
        check_part("extra_data", x->extra_data, &u.extra_data, e) < 0 ||
        check_part("targets", x->targets, &u.targets, e) < 0 || check_part("rest", x->rest, &u.rest, e) < 0)
        goto out;
    if (check_part("secrets", x->secrets, &u.secrets, e) < 0) {
        err_set(e, 0, "stored secrets cannot be read"); /* not a word of them */
        goto out;
    }
    if (x->n) {
        if (submit_put_graph(x, u.graph, &graph, e) < 0)
            goto out;
        u.graph = (struct json){graph.data, graph.len};
    }
    prompt_upstream_put(&x->body, &u);
    rc = 0;
out:
    buf_free(&graph);
    return rc;
}

static void submit_stage(struct submit *x);

static bool answer_names_us(const struct submit *x, struct bytes *body)
{
    struct json v;

    return json_check(body->data, body->len, NULL, &v, NULL) == 0 &&
           json_str_eq(json_get(v, "prompt_id"), x->id);
}

/* It answered: what does that mean? */
static void submit_answered(struct submit *x, int status, struct bytes *body)
{
    char why[64];

    snprintf(why, sizeof(why), "HTTP status %d", status);
    if (status == 200 && answer_names_us(x, body)) {
        submit_end(x, FLEET_ACCEPTED, status, body, "");
    } else if (status == 200) {
        submit_end(x, FLEET_LOST, status, body, "the answer does not name our prompt id");
    } else if (status == 400 && x->trusted && !x->again) {
        for (size_t i = 0; i < x->n; i++)
            staging_forget(x->call.s, x->staged[i].data);
        x->again = true;
        x->trusted = x->posted = false;
        x->next = 0;
        submit_stage(x);
    } else if (status >= 300 && status < 500 && status != 408) {
        /* ComfyUI's 400, or something in front of it that did not let it through. */
        submit_end(x, FLEET_REJECTED, status, body, why);
    } else {
        submit_end(x, FLEET_LOST, status, body, why);
    }
}

static void on_posted(const struct http_answer *a, void *arg)
{
    struct submit *x = arg;

    if (!call_idle(&x->call))
        return;
    server_note(x->call.s, a->end, a->status, a->why);
    switch (a->end) {
    case HTTP_CALL_OK: submit_answered(x, a->status, a->body); break;
    case HTTP_CALL_NOT_SENT: submit_end(x, FLEET_REFUSED, 0, NULL, a->why); break;
    case HTTP_CALL_LOST:
    case HTTP_CALL_TIMEOUT:
    case HTTP_CALL_BAD:
    case HTTP_CALL_CANCELED: submit_end(x, FLEET_LOST, 0, NULL, a->why); break;
    }
}

static void submit_post(struct submit *x)
{
    struct server *s = x->call.s;
    struct bytes *body;

    if (x->faulty) {
        submit_end(x, FLEET_UNSENDABLE, 0, NULL, x->fault.msg);
    } else if (call_unserved(&x->call)) {
        submit_end(x, FLEET_REFUSED, 0, NULL, NOT_CONFIGURED);
    } else if (!link_is_open(s) || strcmp(x->client_id, s->link.client_id) != 0) {
        submit_end(x, FLEET_REFUSED, 0, NULL, "the socket to the server dropped before it was sent");
    } else {
        server_hold(s, x->id, true);
        body = bytes_new(x->body.data, x->body.len);
        x->call.busy = x->posted = true;
        http_fetch(s->http, "POST", "/prompt", "application/json", body, BODY_MAX, SUBMIT_MS, on_posted, x);
        bytes_unref(body);
    }
}

static void run_put_body(struct work *w)
{
    struct submit *x = container_of(w, struct submit, call.work);

    x->faulty = submit_put_body(x) < 0;
}

static void on_body(struct work *w)
{
    struct submit *x = container_of(w, struct submit, call.work);

    if (call_idle(&x->call))
        submit_post(x);
}

static void on_staged(enum staging end, const char *why, void *arg)
{
    struct submit *x = arg;

    if (!call_idle(&x->call))
        return;
    if (end == STAGING_THERE) {
        x->fresh = true;
        submit_stage(x); /* which looks again: it may have been the upload of another file */
    } else {
        submit_end(x, end == STAGING_NO_BLOB ? FLEET_UNSENDABLE : FLEET_STAGE_FAILED, 0, NULL, why);
    }
}

static void submit_stage(struct submit *x)
{
    struct server *s = x->call.s;

    if (call_unserved(&x->call)) {
        submit_end(x, FLEET_REFUSED, 0, NULL, NOT_CONFIGURED);
        return;
    }
    if (!link_is_open(s)) {
        submit_end(x, FLEET_REFUSED, 0, NULL, "the socket to the server is not open");
        return;
    }
    for (; x->next < x->n; x->next++) {
        if (!staging_need(s, &x->inputs[x->next], buf_str(&x->staged[x->next]), on_staged, x)) {
            x->call.busy = true;
            return;
        }
        x->trusted |= !x->fresh;
        x->fresh = false;
    }
    memcpy(x->client_id, s->link.client_id, UUID_SIZE);
    if (x->graph->len > JSON_ON_LOOP) {
        call_work(&x->call, run_put_body, on_body);
        return;
    }
    x->faulty = submit_put_body(x) < 0;
    submit_post(x);
}

static void on_submit(void *arg)
{
    struct submit *x = container_of(arg, struct submit, call);

    submit_stage(x);
}

void calls_submit(struct fleet *f, const struct fleet_submit *in, fleet_submitted_cb *cb, void *arg)
{
    struct registry *r = container_of(f, struct registry, fleet);
    struct submit *x = xcalloc(1, sizeof(*x));

    x->cb = cb;
    x->arg = arg;
    snprintf(x->id, sizeof(x->id), "%s", in->upstream_id);
    x->job = xstrdup_null(in->job);
    x->graph = bytes_ref(in->graph);
    x->extra_data = bytes_ref(in->extra_data);
    x->targets = bytes_ref(in->targets);
    x->rest = bytes_ref(in->rest);
    x->secrets = bytes_ref(in->secrets);
    x->n = in->n_inputs;
    x->inputs = xcalloc(x->n ? x->n : 1, sizeof(*x->inputs));
    x->staged = xcalloc(x->n ? x->n : 1, sizeof(*x->staged));
    for (size_t i = 0; i < x->n; i++) {
        x->inputs[i] = in->inputs[i];
        x->inputs[i].name = xstrdup(in->inputs[i].name);
        staging_name(&x->staged[i], &x->inputs[i]);
    }
    call_init(&x->call, r, in->server, on_submit, submit_give_up, submit_free);
}

/* --- find --- */

struct find {
    struct call call;
    fleet_lookup_cb *cb;
    void *arg;
    char id[UUID_SIZE];
    struct bytes *body;
    bool look; /* the queue is all that is wanted */
    int (*read)(const char *text, size_t n, const char *id, struct health_queue *q);
    int place; /* enum fleet_found, -1 the body is not understood */
    struct health_queue queue;
};

static uint64_t id_sig(struct json item)
{
    struct json id = json_at(item, 1);

    return id.p ? hash_bytes(id.p, id.n) : 0;
}

int queue_find(const char *text, size_t n, const char *id, struct health_queue *q)
{
    static const char *const keys[] = {"queue_running", "queue_pending"};
    static const enum fleet_found says[] = {FLEET_RUNNING, FLEET_PENDING};
    struct json body, k, item;
    int place = FLEET_ABSENT;

    *q = (struct health_queue){0};
    if (json_check(text, n, NULL, &body, NULL) < 0 || json_type(body) != JSON_OBJECT)
        return -1;
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        struct json list = json_get(body, keys[i]);
        struct json_iter it = json_iter(list);

        if (json_type(list) != JSON_ARRAY)
            return -1;
        while (json_next(&it, &k, &item)) {
            if (i == 0) {
                q->running++;
                q->running_sig += id_sig(item); /* in any order */
            } else if (q->pending++ == 0) {
                q->head_sig = id_sig(item); /* a heap: the first is the next */
            }
            if (json_str_eq(json_at(item, 1), id))
                place = (int)says[i];
        }
    }
    return place;
}

static int history_has(const char *text, size_t n, const char *id, struct health_queue *q)
{
    struct json body;

    (void)q;
    if (json_check(text, n, NULL, &body, NULL) < 0 || json_type(body) != JSON_OBJECT)
        return -1;
    return json_get(body, id).p ? FLEET_ENDED : FLEET_ABSENT;
}

static void find_free(struct call *c)
{
    struct find *x = container_of(c, struct find, call);

    bytes_unref(x->body);
    free(x);
}

static void find_end(struct find *x, const struct fleet_lookup *r)
{
    struct server *s = x->call.s;

    if (!call_answer(&x->call))
        return;
    if (s && !x->look) {
        if (r->found == FLEET_ENDED && server_owes_event(s, x->id))
            watch_unheard(s);
        if (r->found == FLEET_ENDED || r->found == FLEET_ABSENT)
            server_release(s, x->id);
        else if (r->found != FLEET_UNREACHABLE)
            server_hold(s, x->id, false);
        if (r->found != FLEET_ABSENT && r->found != FLEET_UNREACHABLE)
            watch_witness(s, x->id, r->found == FLEET_ENDED);
    }
    x->cb(r, x->arg);
}

static void find_fail(struct find *x, bool refused, const char *why)
{
    find_end(x, &(struct fleet_lookup){.found = FLEET_UNREACHABLE, .refused = refused, .why = why});
}

static void find_give_up(struct call *c, const char *why)
{
    find_fail(container_of(c, struct find, call), false, why);
}

typedef int find_read(const char *text, size_t n, const char *id, struct health_queue *q);
static void find_ask(struct find *x, find_read *read);

static void find_told(struct find *x)
{
    bool first = x->read == (PLANTED(HISTORY_BEFORE_QUEUE) ? history_has : queue_find);

    bytes_unref(x->body);
    x->body = NULL;
    if (x->place >= 0 && x->read == queue_find)
        watch_queue(x->call.s, &x->queue);
    if (x->place < 0) {
        find_fail(x, false,
                  x->read == queue_find ? "the answer of GET /queue is not understood"
                                        : "the answer of GET /history is not understood");
    } else if (first && x->place == FLEET_ABSENT && !x->look) {
        find_ask(x, x->read == queue_find ? history_has : queue_find);
    } else {
        find_end(x, &(struct fleet_lookup){.found = (enum fleet_found)x->place,
                                           .dead = health_worker_dead(&x->call.s->health)});
    }
}

static void run_find(struct work *w)
{
    struct find *x = container_of(w, struct find, call.work);

    x->place = x->read(x->body->data, x->body->len, x->id, &x->queue);
}

static void on_find_read(struct work *w)
{
    struct find *x = container_of(w, struct find, call.work);

    if (call_idle(&x->call))
        find_told(x);
}

static void on_find_answer(const struct http_answer *a, void *arg)
{
    struct find *x = arg;
    char why[64];

    if (!call_idle(&x->call))
        return;
    server_note(x->call.s, a->end, a->status, a->why);
    if (a->end != HTTP_CALL_OK) {
        find_fail(x, server_refused(a->end, a->why), a->why);
    } else if (a->status != 200) {
        snprintf(why, sizeof(why), "HTTP status %d", a->status);
        find_fail(x, false, why);
    } else {
        x->body = bytes_ref(a->body);
        if (a->body->len > JSON_ON_LOOP) {
            call_work(&x->call, run_find, on_find_read);
            return;
        }
        x->place = x->read(a->body->data, a->body->len, x->id, &x->queue);
        find_told(x);
    }
}

static void find_ask(struct find *x, find_read *read)
{
    char target[16 + UUID_SIZE] = "/queue";

    x->read = read;
    if (call_unserved(&x->call)) {
        find_end(x, &(struct fleet_lookup){FLEET_UNREACHABLE, .removed = true, .why = NOT_CONFIGURED});
        return;
    }
    if (read == history_has)
        snprintf(target, sizeof(target), "/history/%s", x->id);
    x->call.busy = true;
    http_fetch(x->call.s->http, "GET", target, NULL, NULL, BODY_MAX, LOOK_MS, on_find_answer, x);
}

/* The queue first: what leaves it meanwhile is in history by then. */
static void on_find(void *arg)
{
    find_ask(container_of(arg, struct find, call), PLANTED(HISTORY_BEFORE_QUEUE) ? history_has : queue_find);
}

void calls_find(struct fleet *f, const char *server, const char *id, fleet_lookup_cb *cb, void *arg)
{
    struct find *x = xcalloc(1, sizeof(*x));

    x->cb = cb;
    x->arg = arg;
    snprintf(x->id, sizeof(x->id), "%s", id);
    call_init(&x->call, container_of(f, struct registry, fleet), server, on_find, find_give_up, find_free);
}

void calls_look(struct server *s, fleet_lookup_cb *cb, void *arg)
{
    struct find *x = xcalloc(1, sizeof(*x));

    x->look = true;
    x->cb = cb;
    x->arg = arg;
    call_init(&x->call, s->r, s->name, on_find, find_give_up, find_free);
}

/* --- history --- */

struct history_call {
    struct call call;
    fleet_history_cb *cb;
    void *arg;
    char id[UUID_SIZE];
};

static void history_free(struct call *c)
{
    free(container_of(c, struct history_call, call));
}

static void history_end(struct history_call *x, const struct fleet_history *r)
{
    if (!call_answer(&x->call))
        return;
    x->cb(r, x->arg);
}

static void history_give_up(struct call *c, const char *why)
{
    history_end(container_of(c, struct history_call, call), &(struct fleet_history){.why = why});
}

static void on_history(const struct http_answer *a, void *arg)
{
    struct history_call *x = arg;
    struct fleet_history r = {.status = a->status, .why = a->why};
    char why[64];

    if (!call_idle(&x->call))
        return;
    server_note(x->call.s, a->end, a->status, a->why);
    r.answered = a->end == HTTP_CALL_OK || a->end == HTTP_CALL_BAD;
    r.doubtful = watch_doubtful(x->call.s);
    r.refused = server_refused(a->end, a->why);
    if (a->end != HTTP_CALL_OK) {
        r.status = 0;
    } else if (a->status == 200) {
        r.body = a->body;
        r.why = NULL;
    } else {
        snprintf(why, sizeof(why), "HTTP status %d", a->status);
        r.why = why;
    }
    history_end(x, &r);
}

static void on_history_start(void *arg)
{
    struct history_call *x = container_of(arg, struct history_call, call);
    char target[16 + UUID_SIZE];

    if (call_unserved(&x->call)) {
        history_end(x, &(struct fleet_history){.removed = true, .why = NOT_CONFIGURED});
        return;
    }
    snprintf(target, sizeof(target), "/history/%s", x->id);
    x->call.busy = true;
    http_fetch(x->call.s->http, "GET", target, NULL, NULL, BODY_MAX, LOOK_MS, on_history, x);
}

void calls_history(struct fleet *f, const char *server, const char *id, fleet_history_cb *cb, void *arg)
{
    struct history_call *x = xcalloc(1, sizeof(*x));

    x->cb = cb;
    x->arg = arg;
    snprintf(x->id, sizeof(x->id), "%s", id);
    call_init(&x->call, container_of(f, struct registry, fleet), server, on_history_start, history_give_up,
              history_free);
}
