/* The present attempt of a bound job: sending it, looking for it, hearing of it. */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/plant.h"
#include "comfy/events.h"
#include "job/runner_priv.h"

struct attempt *attempt_new(struct runner_job *j, const char *upstream_id)
{
    struct attempt *a = xcalloc(1, sizeof(*a));

    a->job = j;
    memcpy(a->upstream_id, upstream_id, UUID_SIZE);
    list_init(&a->files);
    HASH_ADD_STR(j->r->by_attempt, upstream_id, a);
    return a;
}

void attempt_free(struct attempt **ap)
{
    struct attempt *a = *ap;

    if (a == NULL)
        return;
    HASH_DEL(a->job->r->by_attempt, a);
    files_forget(a);
    bytes_unref(a->history);
    account_forget(a);
    free(a->progress_node);
    free(a->error_message);
    free(a->error_detail);
    for (size_t i = 0; i < a->n_inputs; i++)
        free(a->inputs[i].name);
    free(a->inputs);
    for (size_t i = 0; i < a->n_socket_nodes; i++)
        free(a->socket_nodes[i]);
    free(a->socket_nodes);
    free(a);
    *ap = NULL;
}

/* --- sending --- */

static const enum job_event_kind submit_events[] = {
    [FLEET_ACCEPTED] = JOB_EV_ACCEPTED,         [FLEET_REJECTED] = JOB_EV_REJECTED,
    [FLEET_REFUSED] = JOB_EV_REFUSED,           [FLEET_LOST] = JOB_EV_POST_LOST,
    [FLEET_STAGE_FAILED] = JOB_EV_STAGE_FAILED, [FLEET_UNSENDABLE] = JOB_EV_UNSENDABLE};

/* The server's refusal is kept whole: it is what the user needs to see. */
static void keep_refusal(struct attempt *a, const struct fleet_submitted *res)
{
    struct json whole;

    free(a->error_detail);
    a->error_detail = NULL;
    if (res->body && json_check(res->body->data, res->body->len, NULL, &whole, NULL) == 0)
        a->error_detail = xstrndup(whole.p, whole.n);
}

/* The first thing it complains about: "node 7 (Make): Value not in list: seed: 1". NULL: it does not say. */
static char *refusal_words(const struct fleet_submitted *res)
{
    struct json whole, node, complaint, errors;
    char *id, *type, *what, *about, *text = NULL;
    struct json_iter it;

    if (res->body == NULL || json_check(res->body->data, res->body->len, NULL, &whole, NULL) < 0)
        return NULL;
    it = json_iter(json_get(whole, "node_errors"));
    if (json_type(json_get(whole, "node_errors")) == JSON_OBJECT && json_next(&it, &node, &errors)) {
        complaint = json_at(json_get(errors, "errors"), 0);
        type = json_strdup(json_get(errors, "class_type"));
        id = json_strdup(node);
    } else {
        complaint = json_get(whole, "error");
        type = id = NULL;
    }
    what = json_strdup(json_get(complaint, "message"));
    about = json_strdup(json_get(complaint, "details"));
    if (what)
        text = xasprintf("%s%s%s%s%s%.200s%s%.200s", id ? "node " : "", id ? id : "", id ? " (" : "",
                         id && type ? type : "", id ? "): " : "", what, about && about[0] ? ": " : "",
                         about ? about : "");
    free(id);
    free(type);
    free(what);
    free(about);
    return text;
}

static void on_submitted(const struct fleet_submitted *res, void *arg)
{
    struct call *c = arg;
    struct runner *r = c->r;
    struct runner_job *j = call_job(c);
    struct job_event ev = {.kind = submit_events[res->end], .code = JOB_DISPATCH_FAILED, .message = res->why};
    char *words = res->end == FLEET_REJECTED ? refusal_words(res) : NULL, *message = NULL;
    bool sent = res->end == FLEET_ACCEPTED || res->end == FLEET_LOST;
    char upstream_id[UUID_SIZE];

    memcpy(upstream_id, c->upstream_id, UUID_SIZE);
    log_info(LOG_S("job", c->id), LOG_S("event", "posted"), LOG_S("upstream", upstream_id),
             LOG_S("result", job_event_name(ev.kind)), LOG_I("status", res->status),
             LOG_S("reason", res->end == FLEET_ACCEPTED ? NULL : res->why));
    call_free(c);
    if (j) {
        if (res->end == FLEET_REJECTED)
            keep_refusal(j->a, res);
        if (words)
            ev.message = message = xasprintf("%s: %s", res->why, words);
        /* Only a server that speaks of the graph has judged it; a proxy's refusal says nothing. */
        if (res->end == FLEET_REJECTED)
            ev.code = words && res->status == 400 ? JOB_VALIDATION_FAILED : JOB_SERVER_REJECTED;
        runner_feed(j, &ev);
    }
    free(words);
    free(message);
    stray_posted(r, upstream_id, sent);
    runner_settle(r);
}

/* Stage its inputs and post it, with the secrets it came with. */
static void send(struct call *c, struct runner_job *j, struct job_record *rec)
{
    struct runner *r = c->r;
    struct fleet_submit in = {.server = j->s.server,
                              .upstream_id = j->s.upstream_id,
                              .job = j->s.id,
                              .graph = rec->graph,
                              .extra_data = rec->extra_data,
                              .targets = rec->targets,
                              .rest = rec->rest,
                              .inputs = rec->inputs,
                              .n_inputs = rec->n_inputs};

    if (rec->secrets)
        in.secrets = r->env.vault ? vault_unseal(r->env.vault, j->s.id, rec->secrets) : NULL;
    if (rec->secrets && in.secrets == NULL) {
        struct job_event ev = {.kind = JOB_EV_UNSENDABLE,
                               .code = JOB_DISPATCH_FAILED,
                               .message = "secret_lost: the key that its secrets were sealed with is gone: "
                                          "submit it again"};

        call_free(c);
        runner_feed(j, &ev);
        return;
    }
    fleet_submit(r->env.fleet, &in, on_submitted, c);
    bytes_unref(in.secrets);
    attempt_loaded(j->a, rec);
}

/* Its graph has been read from the store. */
static void on_loaded(enum store_status st, struct job_record *rec, void *arg)
{
    struct call *c = arg;
    struct runner *r = c->r;
    struct runner_job *j = call_job(c);

    if (j == NULL) { /* canceled meanwhile: nothing was sent */
        char upstream_id[UUID_SIZE];

        memcpy(upstream_id, c->upstream_id, UUID_SIZE);
        call_free(c);
        stray_posted(r, upstream_id, false);
    } else if (st != STORE_OK || rec->graph == NULL) {
        struct job_event ev = {.kind = JOB_EV_STAGE_FAILED,
                               .message = "its graph could not be read from the store"};

        call_free(c);
        runner_feed(j, &ev);
    } else {
        send(c, j, rec);
    }
    job_record_free(&rec);
    runner_settle(r);
}

void attempt_submit(struct runner_job *j)
{
    struct call *c = call_new(j);

    c->posting = true;
    store_get(j->r->env.store, j->s.id, JOB_PART_GRAPH | JOB_PART_INPUTS | JOB_PART_SECRETS, on_loaded, c);
}

/* --- looking --- */

static void on_found(const struct fleet_lookup *res, void *arg)
{
    struct call *c = arg;
    struct runner *r = c->r;
    struct runner_job *j = call_job(c);
    struct job_event ev = {.running = res->found == FLEET_RUNNING,
                           .dead = res->dead,
                           .refused = res->refused,
                           .message = res->why};

    switch (res->found) {
    case FLEET_PENDING:
    case FLEET_RUNNING: ev.kind = JOB_EV_FOUND; break;
    case FLEET_ENDED: ev.kind = JOB_EV_FOUND_ENDED; break;
    case FLEET_ABSENT: ev.kind = JOB_EV_ABSENT; break;
    case FLEET_UNREACHABLE: ev.kind = res->removed ? JOB_EV_REMOVED : JOB_EV_UNREACHABLE; break;
    }
    call_free(c);
    if (j) {
        log_debug(LOG_S("job", j->s.id), LOG_S("event", "looked_up"), LOG_S("server", j->s.server),
                  LOG_S("result", job_event_name(ev.kind)), LOG_S("reason", res->why));
        runner_feed(j, &ev);
    }
    runner_settle(r);
}

void attempt_find(struct runner_job *j)
{
    fleet_find(j->r->env.fleet, j->s.server, j->s.upstream_id, on_found, call_new(j));
}

/* --- hearing --- */

static void set_str(char **to, struct json v)
{
    char *s = json_strdup(v);

    if (s && *to && strcmp(s, *to) == 0) {
        free(s);
        return;
    }
    free(*to);
    *to = s;
}

static void note_progress(struct attempt *a, const struct event *ev)
{
    double value = 0, max = 0;

    json_double(ev->value, &value);
    json_double(ev->max, &max);
    a->progress_value = (int64_t)value;
    a->progress_max = (int64_t)max;
    set_str(&a->progress_node, ev->node);
}

/* What the message means for the job. */
static enum job_event_kind classify(struct attempt *a, const struct event *ev)
{
    if (event_is_terminal(ev) || event_is_end(ev))
        return JOB_EV_ENDED;
    switch (ev->kind) {
    case EVENT_EXECUTION_START: return JOB_EV_STARTED;
    case EVENT_PROGRESS: note_progress(a, ev); return JOB_EV_PROGRESS;
    case EVENT_EXECUTING: account_executing(a, ev->node); return JOB_EV_PROGRESS;
    case EVENT_EXECUTION_CACHED: account_cached(a, ev->nodes); return JOB_EV_PROGRESS;
    case EVENT_EXECUTED: collect_executed(a, ev->node, ev->output); return JOB_EV_PROGRESS;
    default: return JOB_EV_PROGRESS;
    }
}

static struct attempt *attempt_by_id(struct runner *r, const char *id)
{
    struct attempt *a = NULL;

    if (id)
        HASH_FIND_STR(r->by_attempt, id, a);
    if (PLANTED(LATE_EVENT_APPLIED) && id && a == NULL && runner_get(r, id))
        a = runner_get(r, id)->a;
    return a;
}

/* Only the present attempt is listened to, and only while it can still say something. */
static bool listens(const struct attempt *a, const char *server)
{
    const struct runner_job *j = a->job;

    return j->s.server && (strcmp(j->s.server, server) == 0 || PLANTED(LATE_EVENT_APPLIED)) &&
           j->s.state != JOB_COLLECTING;
}

void attempt_event(struct runner *r, const char *server, const char *id, const char *text, size_t n)
{
    struct attempt *a = attempt_by_id(r, id);
    struct runner_job_view v;
    struct event ev;
    enum job_event_kind kind;

    if (a == NULL || !listens(a, server) || event_parse(text, n, &ev, NULL) < 0)
        return;
    kind = classify(a, &ev);
    if (kind != JOB_EV_ENDED) {
        runner_view(a->job, &v);
        r->listener->on_event(r->listener_arg, &v, text, n);
    }
    /* A monitor's report without a prompt's id, every second, is no sign that the prompt advances. */
    if (kind != JOB_EV_PROGRESS || json_type(ev.prompt_id) == JSON_STRING)
        runner_feed_kind(a->job, kind);
}

void attempt_frame(struct runner *r, const char *server, const char *id, const void *data, size_t n)
{
    struct attempt *a = attempt_by_id(r, id);
    struct runner_job_view v;
    struct frame f;

    if (a == NULL || !listens(a, server) || frame_parse(data, n, &f, NULL) < 0)
        return;
    if (frame_is_product(&f))
        collect_frame(a, &f);
    runner_view(a->job, &v);
    r->listener->on_frame(r->listener_arg, &v, data, n);
    runner_feed_kind(a->job, JOB_EV_PROGRESS);
}

void attempt_link(struct runner *r, const char *server, bool up)
{
    list_for_each_safe(it, &r->jobs) {
        struct runner_job *j = list_entry(it, struct runner_job, in_order);

        if (up || j->a == NULL || j->s.server == NULL || strcmp(j->s.server, server) != 0)
            continue;
        collect_gap(j->a);
        runner_feed_kind(j, JOB_EV_LINK_DROPPED);
    }
}

void attempt_removed(struct runner *r, const char *server)
{
    list_for_each_safe(it, &r->jobs) {
        struct runner_job *j = list_entry(it, struct runner_job, in_order);

        if (j->a && j->s.server && strcmp(j->s.server, server) == 0)
            runner_feed_kind(j, JOB_EV_REMOVED);
    }
}
