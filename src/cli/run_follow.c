/* How far each job is: events tell at once, polls make sure. Nothing is believed to have ended but what a
 * record or the history says. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "cli/run_priv.h"
#include "comfy/events.h"

#define TICK_MS 250
#define POLL_EVERY_MS 1000
#define POLL_YOUNG_MS 250 /* jobs that take no time should not seem to take a second */
#define YOUNG_MS 3000
#define POLL_EVENTS_MS 4000 /* while events come, they tell enough */
#define POLLS_AT_ONCE 8
#define POLL_MS 30000
#define MISS_APART_MS 2000 /* "not there" counts when two looks this far apart agree */
#define MISSES_ENOUGH 2
#define POSTS_MOST 3
#define MISSES_ENDED 8 /* once it said that it ended, history may lag */
#define SILENT_TELL_MS 2000
#define SILENT_MS 120000

/* ---- what is known ---- */

static void set_text(char **old, char *s)
{
    free(*old);
    *old = s;
}

static void set_phase(struct run_job *j, enum run_phase p)
{
    if (j->phase == p || RUN_ENDED(j->phase))
        return;
    j->phase = p;
    j->place = 0;
}

static void set_node(struct run_job *j, char *node)
{
    if (node && (!j->node || strcmp(j->node, node) != 0)) {
        j->value = j->max = 0;
        j->since = 0;
    }
    set_text(&j->node, node);
}

static void set_steps(struct run_job *j, struct json value, struct json max)
{
    double v, m;

    if (!json_double(value, &v) || !json_double(max, &m) || !(m > 0) || m > 1e15 || !(v >= 0) || v > 1e15)
        return;
    if (j->since == 0 || (int64_t)v < j->value || (int64_t)m != j->max) {
        j->since = run_now(j->run);
        j->since_value = (int64_t)v;
    }
    j->value = (int64_t)v;
    j->max = (int64_t)m;
}

static void heard(struct run *r)
{
    r->heard_at = run_now(r);
    if (r->silent_told)
        run_note(r, "%s answers again", r->url);
    r->silent_told = false;
}

static void silent(struct run *r, const char *why)
{
    if (run_now(r) - r->heard_at < SILENT_TELL_MS)
        return;
    if (!r->silent_told)
        run_error(r, "no answer from %s (%s); trying again", r->url, why);
    r->silent_told = true;
    if (run_now(r) - r->heard_at > SILENT_MS)
        run_stop(r, CLI_UNREACHABLE,
                 "%s has not answered for two minutes; the jobs may go on there: "
                 "'comfymux jobs' shows them",
                 r->url);
}

/* ---- events ---- */

static struct run_job *job_of(struct run *r, struct json id)
{
    for (size_t i = 0; i < r->n_jobs; i++)
        if (json_str_eqn(id, r->jobs[i].id, UUID_LEN))
            return &r->jobs[i];
    return NULL;
}

/* The node of a progress_state that runs, the last one that has steps if several do. */
static void take_progress_state(struct run_job *j, struct json nodes)
{
    struct json_iter it = json_iter(nodes);
    struct json key, node, best = {0};
    double max;

    while (json_next(&it, &key, &node)) {
        if (json_str_eq(json_get(node, "state"), "running") &&
            (!best.p || (json_double(json_get(node, "max"), &max) && max > 1)))
            best = node;
    }
    if (!best.p)
        return;
    set_node(j, json_strdup(json_get(best, "node_id")));
    if (json_double(json_get(best, "max"), &max) && max > 1)
        set_steps(j, json_get(best, "value"), json_get(best, "max"));
}

static void take_event(struct run_job *j, const struct event *ev)
{
    switch (ev->kind) {
    case EVENT_EXECUTION_START:
        set_phase(j, RUN_RUNNING);
        j->nodes_done = 0;
        j->poll_now = j->run->gateway; /* for the server's name */
        break;
    case EVENT_EXECUTION_CACHED: j->nodes_done += json_count(ev->nodes); break;
    case EVENT_EXECUTING:
        if (event_is_end(ev)) {
            j->poll_now = j->said_end = true;
        } else {
            set_phase(j, RUN_RUNNING);
            set_node(j, json_strdup(ev->node));
            j->nodes_done++;
        }
        break;
    case EVENT_PROGRESS:
        if (json_type(ev->node) == JSON_STRING)
            set_node(j, json_strdup(ev->node));
        set_steps(j, ev->value, ev->max);
        break;
    case EVENT_PROGRESS_STATE: take_progress_state(j, ev->nodes); break;
    default:
        if (event_is_terminal(ev))
            j->poll_now = j->said_end = true;
    }
}

/* From a bare server: pictures that are written nowhere else. A gateway stores them. */
static void take_picture(struct run *r, const char *data, size_t n)
{
    struct run_job *j = NULL;
    struct frame f;
    char *node;

    if (r->gateway || r->stage != RUN_STAGE_JOBS || frame_parse(data, n, &f, NULL) < 0 ||
        !frame_is_product(&f))
        return;
    if (f.type == FRAME_IMAGE_META)
        j = job_of(r, json_get(f.meta, "prompt_id"));
    for (size_t i = 0; !j && f.type == FRAME_IMAGE && i < r->n_jobs; i++)
        if (r->jobs[i].phase == RUN_RUNNING) /* it runs one at a time, and says this to us alone */
            j = &r->jobs[i];
    if (!j || !RUN_LIVE(j->phase))
        return;
    node = f.type == FRAME_IMAGE_META ? json_strdup(json_get(f.meta, "node_id")) : xstrdup_null(j->node);
    if (node && workflow_has_class(r->workflow, node, RUN_SOCKET_CLASS))
        run_picture_add(j, node, f.body, f.body_n);
    free(node);
}

static void on_ws_message(struct ws *w, enum ws_type type, const char *data, size_t n, void *arg)
{
    struct run *r = arg;
    struct event ev;
    struct run_job *j;

    (void)w;
    heard(r);
    if (type == WS_BINARY)
        take_picture(r, data, n);
    if (type != WS_TEXT || r->stage != RUN_STAGE_JOBS || event_parse(data, n, &ev, NULL) < 0)
        return;
    j = job_of(r, ev.prompt_id);
    if (!j || !RUN_LIVE(j->phase))
        return;
    take_event(j, &ev);
    run_show(r, j);
    if (j->poll_now && !j->call && j->phase != RUN_WAITING)
        run_poll(j);
}

static void on_ws_open(struct ws *w, void *arg)
{
    /* With these the gateway need not tell the jobs of one client one after the other. */
    static const char flags[] =
        "{\"type\": \"feature_flags\", \"data\": {\"supports_preview_metadata\": true}}";
    struct run *r = arg;

    ws_send_text(w, flags, strlen(flags));
    r->ws_delay = 0;
    heard(r);
    if (r->stage == RUN_STAGE_CONNECT) {
        timer_clear(&r->ws_timer);
        r->stage = RUN_STAGE_JOBS;
        run_step(r);
    }
}

static void on_ws_close(struct ws *w, int code, const char *reason, bool opened, void *arg)
{
    struct run *r = arg;

    (void)w;
    (void)code;
    (void)reason;
    r->ws = NULL;
    if (r->stage == RUN_STAGE_OVER)
        loop_stop(r->loop);
    if (r->stage == RUN_STAGE_CONNECT) {
        timer_clear(&r->ws_timer);
        r->stage = RUN_STAGE_JOBS;
    }
    if (r->stage != RUN_STAGE_JOBS)
        return;
    r->ws_delay = r->ws_delay ? 2 * r->ws_delay : opened ? 500 : 2000;
    if (r->ws_delay > 15000)
        r->ws_delay = 15000;
    timer_set(&r->ws_timer, r->ws_delay);
    run_step(r);
}

const struct ws_handlers run_ws_handlers = {
    .on_open = on_ws_open, .on_message = on_ws_message, .on_close = on_ws_close};

/* ---- a gateway's record ---- */

static void take_failure(struct run_job *j, struct json error, const char *otherwise)
{
    char *code = json_strdup(json_get(error, "code")), *message = json_strdup(json_get(error, "message"));
    char *server = json_strdup(json_get(error, "server"));
    struct buf where = BUF_INIT;
    int64_t attempt;

    if (server)
        buf_printf(&where, " (server %s", server);
    if (server && json_int(json_get(error, "attempt"), &attempt) && attempt > 1)
        buf_printf(&where, ", attempt %lld", (long long)attempt);
    if (server)
        buf_puts(&where, ")");
    run_job_fail(j, code ? code : otherwise, "%s%s", message ? message : "no reason was given",
                 buf_str(&where));
    buf_free(&where);
    free(code);
    free(message);
    free(server);
}

void run_follow_record(struct run_job *j, struct bytes *body, struct json record)
{
    static const struct {
        const char *name;
        enum run_phase phase;
    } states[] = {{"queued", RUN_QUEUED},         {"dispatching", RUN_QUEUED}, {"running", RUN_RUNNING},
                  {"collecting", RUN_COLLECTING}, {"succeeded", RUN_FETCHING}, {"failed", RUN_FAILED},
                  {"expired", RUN_FAILED},        {"canceled", RUN_CANCELED}};
    struct json state = json_get(record, "state"), progress = json_get(record, "progress");
    int64_t place;

    if (body != j->body) {
        bytes_unref(j->body);
        j->body = bytes_ref(body);
    }
    j->record = record;
    set_text(&j->server, json_strdup(json_get(json_get(record, "server"), "name")));
    for (size_t i = 0; i < ARRAY_LEN(states); i++) {
        if (!json_str_eq(state, states[i].name))
            continue;
        if (states[i].phase == RUN_FAILED)
            take_failure(j, json_get(record, "error"), states[i].name);
        else
            set_phase(j, states[i].phase);
    }
    if (json_int(json_get(record, "queue_position"), &place) && j->phase == RUN_QUEUED)
        j->place = place + 1;
    if (json_type(json_get(progress, "node")) == JSON_STRING && j->phase == RUN_RUNNING) {
        set_node(j, json_strdup(json_get(progress, "node")));
        set_steps(j, json_get(progress, "value"), json_get(progress, "max"));
    }
    if (j->phase == RUN_FETCHING)
        run_outputs_find(j);
    if (j->phase == RUN_CANCELED && j->run->stage == RUN_STAGE_JOBS)
        take_failure(j, json_get(record, "error"), "canceled");
}

/* An event may have come while the answer was under way. */
static void polled(struct run_job *j)
{
    run_show(j->run, j);
    if (j->poll_now && RUN_LIVE(j->phase) && j->run->stage == RUN_STAGE_JOBS)
        run_poll(j);
    run_step(j->run);
}

/* The other side is away, or fails for this job alone, which has an end too. */
static void poll_failed(struct run_job *j, const struct http_answer *a)
{
    struct run *r = j->run;
    struct buf why = BUF_INIT;

    run_put_refusal(a, &why);
    if (!j->trouble_since)
        j->trouble_since = run_now(r);
    silent(r, buf_str(&why));
    if (r->stage == RUN_STAGE_JOBS && run_now(r) - j->trouble_since > SILENT_MS) {
        run_job_fail(j, "history_unavailable", "what became of it cannot be learnt: %s", buf_str(&why));
        run_step(r);
    }
    buf_free(&why);
}

static void on_record(const struct http_answer *a, void *arg)
{
    struct run_job *j = arg;
    struct run *r = j->run;
    struct json record;

    j->call = NULL;
    if (r->stage != RUN_STAGE_JOBS)
        return;
    if (a->end != HTTP_CALL_OK || a->status >= 500) {
        poll_failed(j, a);
        return;
    }
    heard(r);
    j->trouble_since = 0;
    if (a->status == 200 && json_check(a->body->data, a->body->len, NULL, &record, NULL) == 0 &&
        json_type(record) == JSON_OBJECT) {
        j->misses = 0;
        run_follow_record(j, a->body, record);
    } else if (run_now(r) - j->missed_at >= MISS_APART_MS) {
        j->missed_at = run_now(r);
        if (++j->misses >= MISSES_ENOUGH)
            run_job_fail(j, "not_found", "the gateway no longer knows this job (%d %s)", a->status,
                         http_status_text(a->status));
    }
    polled(j);
}

/* ---- a bare server's queue and history ---- */

static void take_history(struct run_job *j)
{
    char *type = json_strdup(j->history.exception_type), *message = json_strdup(j->history.exception_message);
    char *node = json_strdup(j->history.node_id);
    struct buf where = BUF_INIT;

    for (size_t n = message ? strlen(message) : 0; n > 0 && message[n - 1] == '\n'; n--)
        message[n - 1] = '\0'; /* Python's str(e) often ends so */

    if (node) {
        buf_printf(&where, " (node %s, ", node);
        workflow_put_title(j->run->workflow, node, &where);
        buf_puts(&where, ")");
    }
    switch (j->history.verdict) {
    case HISTORY_SUCCESS:
    case HISTORY_UNKNOWN:
        set_phase(j, RUN_FETCHING);
        run_outputs_find(j);
        break;
    case HISTORY_INTERRUPTED: run_job_fail(j, "interrupted", "someone stopped it%s", buf_str(&where)); break;
    case HISTORY_ERROR:
        run_job_fail(j, j->history.fault == HISTORY_FAULT_MEMORY ? "out_of_memory" : "execution_error",
                     "%s: %s%s", type ? type : "error", message ? message : "no reason was given",
                     buf_str(&where));
        break;
    }
    buf_free(&where);
    free(type);
    free(message);
    free(node);
}

static void missing(struct run_job *j)
{
    struct run *r = j->run;

    if (!j->absent || run_now(r) - j->missed_at < MISS_APART_MS)
        return;
    j->missed_at = run_now(r);
    if (++j->misses < (j->said_end ? MISSES_ENDED : MISSES_ENOUGH))
        return;
    j->misses = 0;
    if (j->phase != RUN_UNSURE) {
        run_job_fail(j, "history_missing",
                     "the server no longer knows this job: it was deleted there, or the server restarted");
    } else if (j->posts < POSTS_MOST) {
        j->phase = RUN_WAITING; /* it never arrived */
        if (j->index < r->next_post)
            r->next_post = j->index;
    } else {
        run_job_fail(j, "dispatch_failed", "the server drops every POST /prompt without an answer");
    }
}

static void on_history(const struct http_answer *a, void *arg)
{
    struct run_job *j = arg;
    struct run *r = j->run;
    struct json root;
    struct history h;
    int got = -1;

    j->call = NULL;
    if (r->stage != RUN_STAGE_JOBS)
        return;
    if (a->end != HTTP_CALL_OK || a->status >= 500) {
        poll_failed(j, a);
        return;
    }
    heard(r);
    j->trouble_since = 0;
    if (a->status == 200 && json_check(a->body->data, a->body->len, NULL, &root, NULL) == 0)
        got = history_find(root, j->id, &h, NULL);
    if (got == 0) {
        bytes_unref(j->body);
        j->body = bytes_ref(a->body);
        j->history = h;
        j->has_history = true;
        take_history(j);
    } else if (got == 1) {
        missing(j);
    } else {
        run_job_fail(j, "history_unavailable", "GET /history answered %d with something else than a history",
                     a->status);
    }
    polled(j);
}

struct waiting {
    double number;
    struct json id;
};

static int by_number(const void *a, const void *b)
{
    const struct waiting *x = a, *y = b;

    return x->number < y->number ? -1 : x->number > y->number;
}

static void take_pending(struct run *r, struct json list, bool *seen)
{
    size_t n = json_count(list), k = 0;
    struct waiting *w = xcalloc(n + 1, sizeof(*w));
    struct json_iter it = json_iter(list);
    struct json item;

    while (k < n && json_next(&it, NULL, &item)) {
        w[k].id = json_at(item, 1);
        if (!json_double(json_at(item, 0), &w[k].number))
            w[k].number = 0;
        k++;
    }
    qsort(w, k, sizeof(*w), by_number); /* the list is a heap, not the order they run in */
    for (size_t i = 0; i < k; i++) {
        struct run_job *j = job_of(r, w[i].id);

        if (j && RUN_LIVE(j->phase)) {
            seen[j->index] = true;
            set_phase(j, RUN_QUEUED);
            j->place = (int64_t)i + 1;
        }
    }
    free(w);
}

static void on_queue(const struct http_answer *a, void *arg)
{
    struct run *r = arg;
    struct json root, item;
    struct json_iter it;
    bool *seen;

    r->call = NULL;
    if (r->stage != RUN_STAGE_JOBS)
        return;
    if (a->end != HTTP_CALL_OK || a->status != 200 ||
        json_check(a->body->data, a->body->len, NULL, &root, NULL) < 0) {
        struct buf why = BUF_INIT;

        run_put_refusal(a, &why);
        silent(r, buf_str(&why));
        buf_free(&why);
        return;
    }
    heard(r);
    seen = xcalloc(r->n_jobs + 1, sizeof(*seen));
    take_pending(r, json_get(root, "queue_pending"), seen);
    it = json_iter(json_get(root, "queue_running"));
    while (json_next(&it, NULL, &item)) {
        struct run_job *j = job_of(r, json_at(item, 1));

        if (j && RUN_LIVE(j->phase)) {
            seen[j->index] = true;
            set_phase(j, RUN_RUNNING);
        }
    }
    for (size_t i = 0; i < r->n_jobs; i++) {
        struct run_job *j = &r->jobs[i];

        j->absent = !seen[i];
        if (seen[i]) {
            j->misses = 0;
            run_show(r, j);
        } else if (RUN_LIVE(j->phase) && j->phase != RUN_WAITING && !j->call &&
                   j->sent_at < r->queue_asked_at) {
            run_poll(j); /* left the queue: the history comes after it, never together */
        }
    }
    free(seen);
    run_step(r);
}

/* ---- polls ---- */

void run_poll(struct run_job *j)
{
    struct run *r = j->run;
    struct buf target = BUF_INIT;

    j->poll_now = false;
    j->polled_at = run_now(r);
    buf_printf(&target, r->gateway ? "/mux/v1/jobs/%s" : "/history/%s", j->id);
    j->call = http_fetch(r->http, "GET", buf_str(&target), NULL, NULL, RUN_ANSWER_MAX, POLL_MS,
                         r->gateway ? on_record : on_history, j);
    buf_free(&target);
}

static int64_t poll_every(const struct run_job *j)
{
    if (j->run->ws && j->phase == RUN_RUNNING && j->server)
        return POLL_EVENTS_MS;
    return run_now(j->run) - j->started_at < YOUNG_MS ? POLL_YOUNG_MS : POLL_EVERY_MS;
}

static bool due(const struct run_job *j)
{
    return RUN_LIVE(j->phase) && j->phase != RUN_WAITING && !j->call &&
           (j->poll_now || run_now(j->run) - j->polled_at >= poll_every(j));
}

static void poll_gateway(struct run *r)
{
    for (unsigned k = 0; k < POLLS_AT_ONCE; k++) {
        struct run_job *oldest = NULL;

        for (size_t i = 0; i < r->n_jobs; i++)
            if (due(&r->jobs[i]) && (!oldest || r->jobs[i].polled_at < oldest->polled_at))
                oldest = &r->jobs[i];
        if (!oldest)
            return;
        run_poll(oldest);
    }
}

static void poll_bare(struct run *r)
{
    int64_t every = INT64_MAX;

    for (size_t i = 0; i < r->n_jobs; i++)
        if (RUN_LIVE(r->jobs[i].phase) && r->jobs[i].phase != RUN_WAITING && poll_every(&r->jobs[i]) < every)
            every = poll_every(&r->jobs[i]);
    if (r->call || every == INT64_MAX || run_now(r) - r->queue_asked_at < every)
        return;
    r->queue_asked_at = run_now(r);
    r->call = http_fetch(r->http, "GET", "/queue", NULL, NULL, RUN_ANSWER_MAX, POLL_MS, on_queue, r);
}

void run_poll_tick(void *arg)
{
    struct run *r = arg;

    if (r->stage != RUN_STAGE_JOBS)
        return;
    timer_set(&r->poll_timer, TICK_MS);
    if (r->gateway)
        poll_gateway(r);
    else
        poll_bare(r);
}
