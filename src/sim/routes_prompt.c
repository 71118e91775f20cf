/* POST /prompt and what is asked about prompts afterwards. */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/uuid.h"
#include "comfy/prompt_request.h"
#include "comfy/pyvalue.h"
#include "comfy/splice.h"
#include "sim/check.h"
#include "sim/server_impl.h"

/* Something that Python's `in` and `for` take. */
static bool is_container(struct json v)
{
    return json_type(v) == JSON_OBJECT || json_type(v) == JSON_ARRAY || json_type(v) == JSON_STRING;
}

/* --- POST /prompt --- */

static void reply_refusal(struct http_req *r, const char *type, const char *message, const char *details)
{
    struct buf b = BUF_INIT;

    prompt_error_put_simple(&b, type, message, details);
    reply_json(r, 400, &b);
}

/* float(number), or the counter. False: Python would raise. */
static bool take_number(struct sim_server *s, struct json body, struct prompt *p)
{
    struct json n = json_get(body, "number");

    if (n.p)
        return py_float(n, &p->number, NULL);
    p->whole = true;
    p->number = (double)(json_truthy(json_get(body, "front")) ? -s->number : s->number);
    s->number++;
    return true;
}

static char *take_id(struct sim_server *s, struct json body)
{
    struct json id = json_get(body, "prompt_id");
    struct buf b = BUF_INIT;

    if (id.p) {
        py_put_str(&b, id);
        return buf_take(&b);
    }
    buf_reserve(&b, UUID_SIZE);
    uuid_v4(&s->clock, b.data);
    return b.data;
}

static bool is_secret(void *arg, struct json key, struct json value)
{
    (void)arg;
    (void)value;
    return prompt_key_is_secret(key);
}

/* extra_data with client_id and create_time, without secrets. NULL: Python would raise. */
static struct val *take_extra(struct sim_server *s, struct json body)
{
    struct json given = json_get(body, "extra_data"), client = json_get(body, "client_id");
    struct buf kept = BUF_INIT;
    struct val *extra;
    const struct val *id;

    if (given.p && json_type(given) != JSON_OBJECT)
        return NULL;
    if (given.p)
        splice_put_without(&kept, given, is_secret, NULL);
    extra = given.p ? val_parse(buf_str(&kept), kept.len, NULL) : val_obj();
    buf_free(&kept);
    if (client.p)
        val_set(extra, "client_id", val_read(client));
    id = val_get(extra, "client_id");
    if (id && (id->type == VAL_ARR || id->type == VAL_OBJ)) { /* a real server dies of it; this one refuses */
        val_free(extra);
        return NULL;
    }
    val_set(extra, "create_time", val_int(s->clock.wall_ms(&s->clock)));
    return extra;
}

struct accepted {
    struct buf body;
};

static void answer_late(struct http_req *r, void *arg)
{
    reply_json(r, 200, &((struct accepted *)arg)->body);
}

static void accepted_free(void *arg)
{
    struct accepted *a = arg;

    buf_free(&a->body);
    free(a);
}

static void queue_and_answer(struct sim_server *s, struct http_req *r, struct prompt *p,
                             const struct buf *node_errors)
{
    struct accepted *a = xcalloc(1, sizeof(*a));
    int64_t ms = 0;
    bool lost = faults_strike(&s->faults, FAULT_PROMPT_LOST, NULL),
         slow = faults_strike(&s->faults, FAULT_PROMPT_SLOW_ANSWER, &ms);

    buf_puts(&a->body, "{\"prompt_id\": ");
    json_put_str(&a->body, p->id);
    buf_puts(&a->body, ", \"number\": ");
    prompt_put_number(&a->body, p);
    buf_printf(&a->body, ", \"node_errors\": %s}", buf_str(node_errors));
    prompts_push(&s->prompts, p);
    server_kick(s);
    if (lost) {
        http_abort(r);
        accepted_free(a);
    } else if (slow) {
        server_later(s, r, ms, answer_late, accepted_free, a);
    } else {
        answer_late(r, a);
        accepted_free(a);
    }
}

/* False: Python would raise. */
static bool enqueue(struct sim_server *s, struct http_req *r, struct json body, struct prompt *p,
                    struct check *c)
{
    p->extra = take_extra(s, body);
    if (!p->extra)
        return false;
    p->id = take_id(s, body);
    p->graph = c->graph;
    p->outputs = c->outputs;
    c->graph = c->outputs = NULL;
    if (prompts_is_pending_twin(&s->prompts, p)) /* a real server's worker dies of it; this one refuses */
        return false;
    log_info(LOG_S("prompt", p->id), LOG_S("sim", s->name), LOG_S("state", "queued"));
    queue_and_answer(s, r, p, &c->node_errors);
    return true;
}

static void submit(struct sim_server *s, struct http_req *r, struct json body)
{
    struct prompt *p = xcalloc(1, sizeof(*p));
    struct json graph = json_get(body, "prompt");
    struct check c = {0};

    if (!is_container(body) || !take_number(s, body, p)) {
        reply_500(r);
    } else if (!graph.p) {
        reply_refusal(r, "no_prompt", "No prompt provided", "No prompt provided");
    } else {
        switch (check_prompt(graph, json_get(body, "partial_execution_targets"), &s->files, &s->models, &c)) {
        case CHECK_GOOD:
            if (enqueue(s, r, body, p, &c))
                p = NULL; /* the queue's */
            else
                reply_500(r);
            break;
        case CHECK_BAD: reply_json(r, 400, &c.refusal); break;
        case CHECK_CRASH: reply_500(r); break;
        }
    }
    check_fini(&c);
    prompt_free(p);
}

void post_prompt(struct sim_server *s, struct http_req *r, const char *rest)
{
    static const enum fault_kind kinds[] = {FAULT_REJECT, FAULT_REJECT_500};
    enum fault_kind fault = faults_choose(&s->faults, kinds, ARRAY_LEN(kinds));

    (void)rest;
    server_log(s, "got prompt\n");
    if (fault == FAULT_REJECT) /* what a server says that lacks a file */
        reply_refusal(r, "prompt_outputs_failed_validation", "Prompt outputs failed validation",
                      "Value not in list: ckpt_name: 'injected fault' not in []");
    else if (fault == FAULT_REJECT_500)
        reply_500(r);
    else
        read_json(s, r, submit, false);
}

void get_prompt(struct sim_server *s, struct http_req *r, const char *rest)
{
    struct buf b = BUF_INIT;

    (void)rest;
    buf_printf(&b, "{\"exec_info\": {\"queue_remaining\": %zu}}", prompts_remaining(&s->prompts));
    reply_json(r, 200, &b);
}

/* --- queue and history --- */

void get_queue(struct sim_server *s, struct http_req *r, const char *rest)
{
    struct buf b = BUF_INIT;

    (void)rest;
    prompts_put_queue(&s->prompts, &b);
    reply_json(r, 200, &b);
}

/* What `for id in x` gives in Python: elements, keys, characters; false if x cannot be walked. */
static bool each_id(struct json x, void (*cb)(struct prompts *q, const char *id), struct prompts *q)
{
    struct json_iter it = json_iter(x);
    struct json k, v;

    while (json_next(&it, &k, &v)) {
        char *id = json_strdup(it.object ? k : v);

        if (id)
            cb(q, id);
        free(id);
    }
    return is_container(x);
}

static bool has_unhashable(struct json x)
{
    struct json_iter it = json_iter(x);
    struct json v;

    while (!it.object && json_next(&it, NULL, &v))
        if (json_type(v) == JSON_ARRAY || json_type(v) == JSON_OBJECT)
            return true;
    return false;
}

static void delete_pending(struct prompts *q, const char *id)
{
    (void)prompts_delete(q, id);
}

static void edit_queue(struct sim_server *s, struct http_req *r, struct json body)
{
    struct json del = json_get(body, "delete");

    if (!is_container(body)) {
        reply_500(r);
        return;
    }
    if (json_truthy(json_get(body, "clear")))
        prompts_clear(&s->prompts);
    if (del.p && !each_id(del, delete_pending, &s->prompts))
        reply_500(r);
    else
        reply_empty(r, 200);
}

void post_queue(struct sim_server *s, struct http_req *r, const char *rest)
{
    (void)rest;
    read_json(s, r, edit_queue, false);
}

static void edit_history(struct sim_server *s, struct http_req *r, struct json body)
{
    struct json del = json_get(body, "delete");

    if (!is_container(body)) {
        reply_500(r);
        return;
    }
    if (json_truthy(json_get(body, "clear")))
        history_clear(&s->prompts);
    if (del.p && (has_unhashable(del) || !each_id(del, history_delete, &s->prompts)))
        reply_500(r);
    else
        reply_empty(r, 200);
}

void post_history(struct sim_server *s, struct http_req *r, const char *rest)
{
    (void)rest;
    read_json(s, r, edit_history, false);
}

/* An int() of a query parameter: 1 there, 0 absent, -1 Python would raise. */
static int query_int(const char *query, const char *key, long *out)
{
    struct buf b = BUF_INIT;
    char *end;
    int rc = 0;

    if (http_query_has(query, key)) {
        rc = -1;
        if (http_query_get(query, key, &b) && b.len > 0) {
            *out = strtol(b.data, &end, 10);
            rc = *end == '\0' ? 1 : -1;
        }
    }
    buf_free(&b);
    return rc;
}

void get_history(struct sim_server *s, struct http_req *r, const char *rest)
{
    const char *query = http_req_query(r);
    long max = 0, offset = -1;
    int have_max = query_int(query, "max_items", &max), have_offset = query_int(query, "offset", &offset);
    struct buf b = BUF_INIT;

    (void)rest;
    if (have_max < 0 || have_offset < 0) {
        reply_500(r);
        return;
    }
    history_put(&s->prompts, &b, have_max ? &max : NULL, offset);
    reply_json(r, 200, &b);
}

void get_history_one(struct sim_server *s, struct http_req *r, const char *rest)
{
    struct buf b = BUF_INIT, id = BUF_INIT;
    static const enum fault_kind kinds[] = {FAULT_HISTORY_500, FAULT_HISTORY_EMPTY};
    enum fault_kind fault = faults_choose(&s->faults, kinds, ARRAY_LEN(kinds));

    if (fault == FAULT_HISTORY_500) {
        reply_500(r);
        return;
    }
    if (fault == FAULT_HISTORY_EMPTY || http_unescape(rest, strlen(rest), false, &id) < 0)
        buf_puts(&b, "{}");
    else
        history_put_one(&s->prompts, &b, buf_str(&id));
    buf_free(&id);
    reply_json(r, 200, &b);
}

/* --- interrupt and free --- */

static void interrupt(struct sim_server *s, struct http_req *r, struct json body)
{
    struct json id = json_get(body, "prompt_id");

    if (json_type(body) != JSON_OBJECT) {
        reply_500(r);
        return;
    }
    if (!json_truthy(id) || (s->prompts.running && json_str_eq(id, s->prompts.running->id)))
        exec_interrupt(s->exec);
    reply_empty(r, 200);
}

void post_interrupt(struct sim_server *s, struct http_req *r, const char *rest)
{
    (void)rest;
    read_json(s, r, interrupt, true);
}

static void free_models(struct sim_server *s, struct http_req *r, struct json body)
{
    if (json_type(body) != JSON_OBJECT) {
        reply_500(r);
        return;
    }
    s->unload_models = s->unload_models || json_truthy(json_get(body, "unload_models"));
    s->free_memory = s->free_memory || json_truthy(json_get(body, "free_memory"));
    server_kick(s);
    reply_empty(r, 200);
}

void post_free(struct sim_server *s, struct http_req *r, const char *rest)
{
    (void)rest;
    read_json(s, r, free_models, false);
}
