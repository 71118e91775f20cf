/* POST /prompt and what is asked about prompts afterwards. */
#include <iconv.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/log.h"
#include "base/uuid.h"
#include "sim/check.h"
#include "sim/server_impl.h"

/* Each request that has a body of JSON: the body, then this. */
typedef void body_cb(struct sim_server *s, struct http_req *r, struct val *body);

struct reading {
    struct sim_server *s;
    body_cb *cb;
    bool lenient; /* /interrupt: what is no JSON is as good as {} */
    struct buf body;
};

/* Another charset than UTF-8, if the Content-Type names one (aiohttp decodes by it). */
static char *charset_of(const struct http_req *r)
{
    const char *type = http_req_header(r, "Content-Type"), *at = type ? strcasestr(type, "charset=") : NULL;
    size_t n;

    if (!at)
        return NULL;
    at += strlen("charset=") + (at[strlen("charset=")] == '"');
    n = strcspn(at, "\"; ");
    if (n == 0 || n > 20 || strncasecmp(at, "utf-8", n) == 0 || strncasecmp(at, "utf8", n) == 0)
        return NULL;
    /* Python's name, which iconv does not know */
    return n == 7 && strncasecmp(at, "latin-1", n) == 0 ? xstrdup("ISO-8859-1") : xstrndup(at, n);
}

static struct val *decode(const struct http_req *r, const struct buf *body)
{
    char *charset = charset_of(r), *in = body->data, *text, *out;
    iconv_t cd = charset ? iconv_open("UTF-8", charset) : NULL;
    size_t left = body->len, room = body->len * 3 + 16, space = room;
    struct val *v = NULL;

    free(charset);
    if (!cd)
        return val_parse(buf_str(body), body->len, NULL);
    if (cd == (iconv_t)-1)
        return NULL;
    out = text = xmalloc(room);
    if (iconv(cd, &in, &left, &out, &space) != (size_t)-1 && left == 0)
        v = val_parse(text, room - space, NULL);
    iconv_close(cd);
    free(text);
    return v;
}

static void reading_free(struct reading *rd)
{
    buf_free(&rd->body);
    free(rd);
}

static void read_gone(struct http_req *r, void *arg)
{
    (void)r;
    reading_free(arg);
}

static void read_done(struct http_req *r, struct reading *rd)
{
    struct val *v = decode(r, &rd->body);

    if (!v && rd->lenient)
        v = val_obj();
    if (v)
        rd->cb(rd->s, r, v);
    else
        reply_500(r);
    val_free(v);
}

/* The limit is kept here and not by the HTTP server, because aiohttp's 413 has a text of its own. */
static void read_more(struct http_req *r, const void *data, size_t n, bool fin, void *arg)
{
    struct reading *rd = arg;

    if (rd->body.len + n > MAX_UPLOAD) {
        http_on_abort(r, NULL, NULL);
        reading_free(rd);
        reply_413(r);
        return;
    }
    buf_put(&rd->body, data, n);
    if (!fin)
        return;
    http_on_abort(r, NULL, NULL);
    read_done(r, rd);
    reading_free(rd);
}

static void read_json(struct sim_server *s, struct http_req *r, body_cb *cb, bool lenient)
{
    struct reading *rd = xcalloc(1, sizeof(*rd));

    *rd = (struct reading){.s = s, .cb = cb, .lenient = lenient};
    http_on_abort(r, read_gone, rd);
    http_body_limit(r, INT64_MAX);
    http_body_read(r, read_more, rd);
}

/* --- POST /prompt --- */

static void put_error(struct buf *b, const struct val *error, const struct val *errors)
{
    buf_puts(b, "{\"error\": ");
    val_put(b, error);
    buf_puts(b, ", \"node_errors\": ");
    val_put(b, errors);
    buf_putc(b, '}');
}

static void reply_no_prompt(struct http_req *r)
{
    struct buf b = BUF_INIT;

    buf_puts(&b, "{\"error\": {\"type\": \"no_prompt\", \"message\": \"No prompt provided\", "
                 "\"details\": \"No prompt provided\", \"extra_info\": {}}, \"node_errors\": {}}");
    reply_json(r, 400, &b);
}

/* The injected rejection: what a server says that lacks a file. */
static void reply_rejected(struct http_req *r)
{
    struct buf b = BUF_INIT;

    buf_puts(
        &b,
        "{\"error\": {\"type\": \"prompt_outputs_failed_validation\", \"message\": \"Prompt outputs failed "
        "validation\", \"details\": \"Value not in list: ckpt_name: 'injected fault' not in []\", "
        "\"extra_info\": {}}, \"node_errors\": {}}");
    reply_json(r, 400, &b);
}

/* float(number), or the counter. False: Python would raise. */
static bool take_number(struct sim_server *s, const struct val *body, struct prompt *p)
{
    const struct val *n = val_get(body, "number");
    char *end;

    if (!n) {
        p->whole = true;
        p->number = (double)(val_truthy(val_get(body, "front")) ? -s->number : s->number);
        s->number++;
        return true;
    }
    if (n->type == VAL_STR && n->len > 0) {
        p->number = strtod(n->text, &end);
        return *end == '\0';
    }
    return val_number(n, &p->number);
}

static char *take_id(struct sim_server *s, const struct val *body)
{
    const struct val *id = val_get(body, "prompt_id");
    struct buf b = BUF_INIT;

    if (id) {
        val_put_str(&b, id);
        return buf_take(&b);
    }
    buf_reserve(&b, UUID_SIZE);
    uuid_v4(&s->clock, b.data);
    return b.data;
}

/* extra_data with client_id and create_time, without secrets. NULL: Python would raise. */
static struct val *take_extra(struct sim_server *s, struct val *body)
{
    struct val *extra = val_take(body, "extra_data"), *client = val_take(body, "client_id");
    const struct val *id;

    if (!extra)
        extra = val_obj();
    if (extra->type != VAL_OBJ) {
        val_free(extra);
        val_free(client);
        return NULL;
    }
    if (client)
        val_set(extra, "client_id", client);
    id = val_get(extra, "client_id");
    if (id && (id->type == VAL_ARR || id->type == VAL_OBJ)) { /* a real server dies of it; this one refuses */
        val_free(extra);
        return NULL;
    }
    val_del(extra, "auth_token_comfy_org");
    val_del(extra, "api_key_comfy_org");
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
                             const struct val *errors)
{
    struct accepted *a = xcalloc(1, sizeof(*a));
    int64_t ms = 0;
    bool lost = faults_strike(&s->faults, FAULT_PROMPT_LOST, NULL),
         slow = faults_strike(&s->faults, FAULT_PROMPT_SLOW_ANSWER, &ms);

    buf_puts(&a->body, "{\"prompt_id\": ");
    json_put_str(&a->body, p->id);
    buf_puts(&a->body, ", \"number\": ");
    prompt_put_number(&a->body, p);
    buf_puts(&a->body, ", \"node_errors\": ");
    val_put(&a->body, errors);
    buf_putc(&a->body, '}');
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

static void submit(struct sim_server *s, struct http_req *r, struct val *body)
{
    struct prompt *p = xcalloc(1, sizeof(*p));
    struct check c = {0};
    struct buf b = BUF_INIT;
    enum check_result res;

    if (body->type == VAL_NULL || body->type == VAL_BOOL || body->type == VAL_INT ||
        body->type == VAL_FLOAT || !take_number(s, body, p)) {
        prompt_free(p);
        reply_500(r);
        return;
    }
    p->graph = val_take(body, "prompt");
    if (!p->graph) {
        prompt_free(p);
        reply_no_prompt(r);
        return;
    }
    res = check_prompt(p->graph, val_get(body, "partial_execution_targets"), &s->files, &s->models, &c);
    if (res == CHECK_BAD) {
        put_error(&b, c.error, c.errors);
        prompt_free(p);
        reply_json(r, 400, &b);
    } else if (res == CHECK_CRASH || !(p->extra = take_extra(s, body))) {
        prompt_free(p);
        reply_500(r);
    } else {
        p->id = take_id(s, body);
        p->outputs = c.outputs;
        c.outputs = NULL;
        if (prompts_is_pending_twin(&s->prompts,
                                    p)) { /* a real server's worker dies of it; this one refuses */
            check_fini(&c);
            prompt_free(p);
            reply_500(r);
            return;
        }
        log_info(LOG_S("prompt", p->id), LOG_S("sim", s->name), LOG_S("state", "queued"));
        queue_and_answer(s, r, p, c.errors);
    }
    check_fini(&c);
}

void post_prompt(struct sim_server *s, struct http_req *r, const char *rest)
{
    static const enum fault_kind kinds[] = {FAULT_REJECT, FAULT_REJECT_500};
    enum fault_kind fault = faults_choose(&s->faults, kinds, ARRAY_LEN(kinds));

    (void)rest;
    if (fault == FAULT_REJECT)
        reply_rejected(r);
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
static bool each_id(const struct val *x, void (*cb)(struct prompts *q, const char *id), struct prompts *q)
{
    if (x->type == VAL_ARR)
        for (size_t i = 0; i < x->len; i++)
            if (x->item[i]->type == VAL_STR)
                cb(q, x->item[i]->text);
    val_each(m, x) cb(q, m->key);
    return x->type == VAL_ARR || x->type == VAL_OBJ || x->type == VAL_STR;
}

static bool has_unhashable(const struct val *x)
{
    for (size_t i = 0; x->type == VAL_ARR && i < x->len; i++)
        if (x->item[i]->type == VAL_ARR || x->item[i]->type == VAL_OBJ)
            return true;
    return false;
}

static void delete_pending(struct prompts *q, const char *id)
{
    (void)prompts_delete(q, id);
}

static bool is_container(const struct val *body)
{
    return body->type == VAL_OBJ || body->type == VAL_ARR || body->type == VAL_STR;
}

static void edit_queue(struct sim_server *s, struct http_req *r, struct val *body)
{
    const struct val *del = val_get(body, "delete");

    if (!is_container(body)) {
        reply_500(r);
        return;
    }
    if (val_truthy(val_get(body, "clear")))
        prompts_clear(&s->prompts);
    if (del && !each_id(del, delete_pending, &s->prompts))
        reply_500(r);
    else
        http_reply_empty(r, 200);
}

void post_queue(struct sim_server *s, struct http_req *r, const char *rest)
{
    (void)rest;
    read_json(s, r, edit_queue, false);
}

static void edit_history(struct sim_server *s, struct http_req *r, struct val *body)
{
    const struct val *del = val_get(body, "delete");

    if (!is_container(body)) {
        reply_500(r);
        return;
    }
    if (val_truthy(val_get(body, "clear")))
        history_clear(&s->prompts);
    if (del && (has_unhashable(del) || !each_id(del, history_delete, &s->prompts)))
        reply_500(r);
    else
        http_reply_empty(r, 200);
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

static void interrupt(struct sim_server *s, struct http_req *r, struct val *body)
{
    const struct val *id = val_get(body, "prompt_id");

    if (body->type != VAL_OBJ) {
        reply_500(r);
        return;
    }
    if (!val_truthy(id) || (s->prompts.running && val_is_str(id, s->prompts.running->id)))
        exec_interrupt(s->exec);
    http_reply_empty(r, 200);
}

void post_interrupt(struct sim_server *s, struct http_req *r, const char *rest)
{
    (void)rest;
    read_json(s, r, interrupt, true);
}

static void free_models(struct sim_server *s, struct http_req *r, struct val *body)
{
    if (body->type != VAL_OBJ) {
        reply_500(r);
        return;
    }
    s->unload_models = s->unload_models || val_truthy(val_get(body, "unload_models"));
    s->free_memory = s->free_memory || val_truthy(val_get(body, "free_memory"));
    server_kick(s);
    http_reply_empty(r, 200);
}

void post_free(struct sim_server *s, struct http_req *r, const char *rest)
{
    (void)rest;
    read_json(s, r, free_models, false);
}
