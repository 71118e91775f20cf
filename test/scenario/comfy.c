#include "comfy.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/json.h"

struct socket {
    struct list link;
    struct ws *w;
    char client_id[64];
};

struct input {
    char *name, *content;
    UT_hash_handle hh;
};

struct server {
    char name[4];
    bool up,
        validates; /* validates: a graph whose file is not there is refused, else it fails when it runs */
    unsigned life;
    int depth;
    struct list queue, history, sockets;
    struct input *inputs;
    unsigned made; /* files so far */
    char (*makers)[UUID_SIZE];
    size_t n_makers;
    int64_t sick_until;
    struct vt_event run, back;
};

struct run_entry {
    struct comfy_run r;
    UT_hash_handle hh;
};

static struct {
    struct server servers[COMFY_SERVERS];
    struct comfy_faults faults;
    const struct comfy_watch *watch;
    struct run_entry *runs;
    struct vt_event mischief;
    unsigned foreigners;
    bool healed;
} all;

/* --- accounts --- */

static struct run_entry *run_get(const char *id)
{
    struct run_entry *e;

    HASH_FIND_STR(all.runs, id, e);
    if (e)
        return e;
    e = xcalloc(1, sizeof(*e));
    snprintf(e->r.id, sizeof(e->r.id), "%s", id);
    HASH_ADD_KEYPTR(hh, all.runs, e->r.id, strlen(e->r.id), e);
    return e;
}

const struct comfy_run *comfy_run_of(const char *id)
{
    struct run_entry *e;

    HASH_FIND_STR(all.runs, id, e);
    return e ? &e->r : NULL;
}

static struct comfy_prompt *in_list(struct list *l, const char *id)
{
    list_for_each(it, l) {
        struct comfy_prompt *p = list_entry(it, struct comfy_prompt, link);

        if (strcmp(p->id, id) == 0)
            return p;
    }
    return NULL;
}

bool comfy_has(int server, const char *id, bool *in_history)
{
    struct server *s = &all.servers[server];

    *in_history = in_list(&s->history, id) != NULL;
    return *in_history || in_list(&s->queue, id) != NULL;
}

void comfy_each(void (*cb)(int server, const struct comfy_prompt *p))
{
    for (int i = 0; i < COMFY_SERVERS; i++)
        list_for_each(it, &all.servers[i].queue) {
            const struct comfy_prompt *p = list_entry(it, struct comfy_prompt, link);

            if (!p->foreign)
                cb(i, p);
        }
}

const char *comfy_name(int server)
{
    return all.servers[server].name;
}

int comfy_depth(int server)
{
    return all.servers[server].depth;
}

bool comfy_is_up(int server)
{
    return all.servers[server].up;
}

unsigned comfy_life(int server)
{
    return all.servers[server].life;
}

void comfy_content(int server, const char *id, const char *filename, char *out, size_t size)
{
    snprintf(out, size, "%s made %s for %s", all.servers[server].name, filename, id);
}

static void file_name(const struct comfy_prompt *p, unsigned i, char out[40])
{
    snprintf(out, 40, "ComfyUI_%05u_.png", p->made + i);
}

/* --- sockets --- */

void comfy_socket_opened(int server, struct ws *w, const char *client_id)
{
    struct server *s = &all.servers[server];
    struct socket *k = xcalloc(1, sizeof(*k));
    char text[300];

    k->w = w;
    snprintf(k->client_id, sizeof(k->client_id), "%s", client_id);
    list_push_back(&s->sockets, &k->link);
    snprintf(
        text, sizeof(text),
        "{\"type\": \"status\", \"data\": {\"status\": {\"exec_info\": {\"queue_remaining\": %zu}}, \"sid\": "
        "\"%s\"}}",
        list_len(&s->queue), k->client_id);
    vws_say(w, text, 0);
}

void comfy_socket_closed(int server, struct ws *w)
{
    list_for_each_safe(it, &all.servers[server].sockets) {
        struct socket *k = list_entry(it, struct socket, link);

        if (k->w != w)
            continue;
        list_remove(&k->link);
        free(k);
    }
}

static void cut_sockets(struct server *s)
{
    list_for_each_safe(it, &s->sockets) {
        struct socket *k = list_entry(it, struct socket, link);

        vws_break(k->w, "reset");
        list_remove(&k->link);
        free(k);
    }
}

/* Told to the socket that submitted it, if that is still there: before and after the prompt's id. */
static void say(struct server *s, const struct comfy_prompt *p, const char *before, const char *after)
{
    struct buf b = BUF_INIT;

    if (p->foreign)
        return;
    buf_printf(&b, "%s\"prompt_id\": \"%s\", \"made_by\": \"%s\"%s", before, p->id, p->id, after);
    list_for_each(it, &s->sockets) {
        struct socket *k = list_entry(it, struct socket, link);

        if (strcmp(k->client_id, p->client_id) != 0)
            continue;
        for (int copy = vt_chance(all.faults.repeat_event) ? 2 : 1; copy > 0; copy--)
            vws_say(k->w, b.data, vt_chance(all.faults.late_event) ? 1 + vt_rnd(8000) : 0);
    }
    buf_free(&b);
}

/* --- running --- */

static void on_run(void *arg);

static void kick(struct server *s, int64_t ms)
{
    vt_set(&s->run, ms, on_run, s);
}

static const char *input_of(struct server *s, const char *name)
{
    struct input *in;

    HASH_FIND_STR(s->inputs, name, in);
    return in ? in->content : NULL;
}

static void prompt_begin(struct server *s, struct comfy_prompt *p)
{
    const struct comfy_faults *f = &all.faults;
    int64_t ms = 5 + vt_rnd(vt_chance(f->long_run) ? 60000 : 4000);
    const char *image = p->image[0] ? input_of(s, p->image) : "";

    p->done_at = vt_now() + ms;
    p->hang = !p->foreign && vt_chance(f->hang);
    p->verdict = vt_chance(f->exec_error)    ? COMFY_ERROR
                 : vt_chance(f->oom)         ? COMFY_OOM
                 : vt_chance(f->interrupted) ? COMFY_INTERRUPTED
                                             : COMFY_OK;
    if (image == NULL)
        p->verdict = COMFY_ERROR;
    p->made = s->made;
    s->made += COMFY_FILES;
    s->makers = xrealloc(s->makers, s->made * sizeof(*s->makers));
    for (unsigned i = 0; i < COMFY_FILES; i++)
        memcpy(s->makers[p->made + i], p->id, UUID_SIZE);
    s->n_makers = s->made;
    if (!p->foreign) {
        run_get(p->id)->r.began++;
        vt_tell("%s %s begins to run", p->id, s->name);
        all.watch->on_began(p->id, (int)(s - all.servers), image);
    }
    say(s, p, "{\"type\": \"execution_start\", \"data\": {\"timestamp\": 1, ", "}}");
    say(s, p, "{\"type\": \"execution_cached\", \"data\": {\"nodes\": [], \"timestamp\": 1, ", "}}");
    say(s, p, "{\"type\": \"executing\", \"data\": {\"node\": \"9\", \"display_node\": \"9\", ", "}}");
    say(s, p, "{\"type\": \"progress\", \"data\": {\"value\": 1, \"max\": 4, \"node\": \"9\", ", "}}");
    kick(s, ms);
}

static void say_executed(struct server *s, struct comfy_prompt *p)
{
    char before[200], name[40];

    file_name(p, 0, name);
    snprintf(before, sizeof(before),
             "{\"type\": \"executed\", \"data\": {\"node\": \"9\", \"display_node\": \"9\", \"output\": "
             "{\"images\": "
             "[{\"filename\": \"%s\", \"subfolder\": \"\", \"type\": \"output\"}]}, ",
             name);
    say(s, p, before, "}}");
}

/* The end is told, and after that the prompt moves from the queue into history, under the server's lock: at once both. */
static void prompt_tell_end(struct server *s, struct comfy_prompt *p)
{
    static const char *const last[] = {
        "{\"type\": \"execution_success\", \"data\": {\"timestamp\": 1, ",
        "{\"type\": \"execution_error\", \"data\": {\"exception_type\": \"ValueError\", ",
        "{\"type\": \"execution_error\", \"data\": {\"exception_type\": \"torch.OutOfMemoryError\", ",
        "{\"type\": \"execution_interrupted\", \"data\": {\"node_id\": \"9\", "};

    if (p->verdict == COMFY_OK)
        say_executed(s, p);
    say(s, p, last[p->verdict], "}}");
    p->told = true;
    if (!p->foreign)
        vt_tell("%s %s has run it: %s", p->id, s->name,
                p->verdict == COMFY_OK            ? "ok"
                : p->verdict == COMFY_INTERRUPTED ? "interrupted"
                                                  : "error");
}

static void prompt_move(struct server *s, struct comfy_prompt *p)
{
    list_remove(&p->link);
    list_push_back(&s->history, &p->link);
    say(s, p, "{\"type\": \"executing\", \"data\": {\"node\": null, ", "}}");
}

/* The worker thread: ends what is due, begins what waits. */
static void on_run(void *arg)
{
    struct server *s = arg;
    struct comfy_prompt *p = list_first(&s->queue, struct comfy_prompt, link);

    if (!s->up || p == NULL)
        return;
    if (p->done_at == 0) {
        prompt_begin(s, p);
    } else if (vt_now() < p->done_at) {
        kick(s, p->done_at - vt_now());
    } else if (!p->hang) {
        if (!p->told) {
            prompt_tell_end(s, p);
            if (vt_chance(all.faults.history_lag)) {
                p->done_at = vt_now() + vt_rnd(3000);
                kick(s, p->done_at - vt_now());
                return;
            }
        }
        prompt_move(s, p);
        if (!list_empty(&s->queue))
            kick(s, vt_rnd(3));
    }
}

static void enqueue(struct server *s, struct comfy_prompt *p)
{
    list_push_back(&s->queue, &p->link);
    if (s->queue.next == &p->link)
        kick(s, vt_rnd(20));
}

/* --- HTTP --- */

static void put(struct vrequest *q, int status, const char *text)
{
    q->status = status;
    buf_puts(&q->answer, text);
}

static char *str_of(struct json v)
{
    char *s = json_strdup(v);

    return s ? s : xstrdup("");
}

static bool sick(const struct server *s)
{
    return vt_now() < s->sick_until;
}

/* POST /prompt. False: no answer. */
static bool post_prompt(struct server *s, struct vrequest *q)
{
    struct comfy_prompt *p;
    struct json body;
    char *id, *client, *image;
    int has = 0;

    if (json_check(q->body->data, q->body->len, NULL, &body, NULL) < 0) {
        vt_broke("", "a body that is no JSON was posted: %s", q->body->data);
        put(q, 400, "{}");
        return true;
    }
    id = str_of(json_get(body, "prompt_id"));
    client = str_of(json_get(body, "client_id"));
    image = str_of(json_get(json_get(json_get(json_get(body, "prompt"), "5"), "inputs"), "image"));
    list_for_each(it, &s->queue) {
        struct comfy_prompt *other = list_entry(it, struct comfy_prompt, link);

        has += !other->foreign && !other->told;
    }
    vt_tell("%s arrives at %s", id, s->name);
    run_get(id)->r.server = (int)(s - all.servers);
    run_get(id)->r.posted++;
    all.watch->on_posted(id, (int)(s - all.servers), has);
    if (sick(s)) {
        put(q, 502, "bad gateway");
    } else if (vt_chance(all.faults.reject) || (s->validates && image[0] && input_of(s, image) == NULL)) {
        put(q, 400, "{\"error\": {\"type\": \"prompt_outputs_failed_validation\"}, \"node_errors\": {}}");
    } else {
        p = xcalloc(1, sizeof(*p));
        snprintf(p->id, sizeof(p->id), "%s", id);
        snprintf(p->client_id, sizeof(p->client_id), "%s", client);
        snprintf(p->image, sizeof(p->image), "%s", image);
        enqueue(s, p);
        q->status = 200;
        buf_printf(&q->answer, "{\"prompt_id\": \"%s\", \"number\": 1, \"node_errors\": {}}", id);
    }
    free(id);
    free(client);
    free(image);
    return true;
}

static void get_queue(struct server *s, struct vrequest *q)
{
    const char *sep = "";
    bool pending = false;

    q->status = 200;
    buf_puts(&q->answer, "{\"queue_running\": [");
    list_for_each(it, &s->queue) {
        struct comfy_prompt *p = list_entry(it, struct comfy_prompt, link);

        if (p->done_at == 0 && !pending) {
            buf_puts(&q->answer, "], \"queue_pending\": [");
            pending = true;
            sep = "";
        }
        buf_printf(&q->answer, "%s[1, \"%s\", {}, {}, []]", sep, p->id);
        sep = ", ";
    }
    buf_puts(&q->answer, pending ? "]}" : "], \"queue_pending\": []}");
}

static void post_queue(struct server *s, struct vrequest *q)
{
    struct json body;
    char *id;

    put(q, 200, "");
    if (json_check(q->body->data, q->body->len, NULL, &body, NULL) < 0)
        return;
    id = str_of(json_at(json_get(body, "delete"), 0));
    list_for_each_safe(it, &s->queue) {
        struct comfy_prompt *p = list_entry(it, struct comfy_prompt, link);

        if (strcmp(p->id, id) != 0 || p->done_at)
            continue;
        list_remove(&p->link);
        free(p);
    }
    free(id);
}

/* Somebody else's work must never be stopped, nor any other of ours. */
static void post_interrupt(struct server *s, struct vrequest *q)
{
    struct comfy_prompt *p = list_first(&s->queue, struct comfy_prompt, link);
    struct json body;
    char *id;

    put(q, 200, "");
    if (json_check(q->body->data, q->body->len, NULL, &body, NULL) < 0)
        return;
    id = str_of(json_get(body, "prompt_id"));
    vt_tell("%s %s is asked to interrupt it", id, s->name);
    if (comfy_run_of(id) == NULL || comfy_run_of(id)->server != (int)(s - all.servers))
        vt_broke(id, "%s was asked to interrupt what it was never given", s->name);
    if (p && p->done_at && !p->told && strcmp(p->id, id) == 0) {
        p->verdict = COMFY_INTERRUPTED;
        p->hang = false;
        p->done_at = vt_now() + 20;
        kick(s, 20);
    }
    free(id);
}

static void put_history(struct buf *b, const struct comfy_prompt *p)
{
    static const char *const kinds[] = {"execution_success", "execution_error", "execution_error",
                                        "execution_interrupted"};
    static const char *const rest[] = {
        "\"timestamp\": 3",
        "\"node_id\": \"9\", \"node_type\": \"FailAt\", \"executed\": [], \"exception_message\": \"boom\", "
        "\"exception_type\": \"ValueError\", \"traceback\": [\"t\"], \"current_inputs\": {}, "
        "\"current_outputs\": [], "
        "\"timestamp\": 3",
        "\"node_id\": \"9\", \"node_type\": \"KSampler\", \"executed\": [], \"exception_message\": "
        "\"Allocation on "
        "device\", \"exception_type\": \"torch.OutOfMemoryError\", \"traceback\": [\"t\"], "
        "\"current_inputs\": {}, "
        "\"current_outputs\": [], \"timestamp\": 3",
        "\"node_id\": \"9\", \"node_type\": \"KSampler\", \"executed\": [], \"timestamp\": 3"};
    char name[40];

    buf_printf(b, "{\"%s\": {\"prompt\": [0, \"%s\", {}, {}, [\"9\"]], \"outputs\": {", p->id, p->id);
    for (unsigned i = 0; i < COMFY_FILES && p->verdict == COMFY_OK; i++) {
        file_name(p, i, name);
        buf_printf(b, "%s{\"filename\": \"%s\", \"subfolder\": \"\", \"type\": \"output\"}",
                   i ? ", " : "\"9\": {\"images\": [", name);
    }
    buf_printf(
        b,
        "%s}, \"status\": {\"status_str\": \"%s\", \"completed\": %s, \"messages\": [[\"execution_start\", "
        "{\"prompt_id\": \"%s\", \"timestamp\": 1}], [\"%s\", {\"prompt_id\": \"%s\", %s}]]}, \"meta\": {}}}",
        p->verdict == COMFY_OK ? "]}" : "", p->verdict == COMFY_OK ? "success" : "error",
        p->verdict == COMFY_OK ? "true" : "false", p->id, kinds[p->verdict], p->id, rest[p->verdict]);
}

static void get_history(struct server *s, struct vrequest *q, const char *id)
{
    struct comfy_prompt *p = in_list(&s->history, id);

    q->status = 200;
    if (p)
        put_history(&q->answer, p);
    else
        buf_puts(&q->answer, "{}");
}

static void get_view(struct server *s, struct vrequest *q)
{
    static const char before[] = "/view?filename=ComfyUI_";
    char name[40], text[160];
    unsigned long n;

    n = strncmp(q->target, before, strlen(before)) == 0 ? strtoul(q->target + strlen(before), NULL, 10)
                                                        : s->n_makers;
    if (n >= s->n_makers || sick(s) || vt_chance(all.faults.view_gone)) {
        put(q, 404, "");
        return;
    }
    snprintf(name, sizeof(name), "ComfyUI_%05lu_.png", n);
    comfy_content((int)(s - all.servers), s->makers[n], name, text, sizeof(text));
    put(q, 200, text);
}

static char *between(const char *text, const char *before, const char *after)
{
    const char *from = strstr(text, before), *to = from ? strstr(from + strlen(before), after) : NULL;

    return to ? xstrndup(from + strlen(before), (size_t)(to - from) - strlen(before)) : xstrdup("");
}

static void post_upload(struct server *s, struct vrequest *q)
{
    char *name = between(q->body->data, "filename=\"", "\"");
    char *content = between(strstr(q->body->data, "filename=\"") ? strstr(q->body->data, "filename=\"") : "",
                            "\r\n\r\n", "\r\n--");
    struct input *in;

    HASH_FIND_STR(s->inputs, name, in);
    if (in == NULL) {
        in = xcalloc(1, sizeof(*in));
        in->name = xstrdup(name);
        HASH_ADD_KEYPTR(hh, s->inputs, in->name, strlen(in->name), in);
    }
    free(in->content);
    in->content = content;
    q->status = 200;
    buf_printf(&q->answer, "{\"name\": \"%s\", \"subfolder\": \"\", \"type\": \"input\"}", name);
    free(name);
}

/* Even servers have EvenNode, odd ones OddNode. */
static void get_object_info(struct server *s, struct vrequest *q)
{
    static const char node[] = "{\"input\": {\"required\": {}}, \"output\": [], \"output_node\": true, "
                               "\"python_module\": \"nodes\"}";
    bool odd = (s - all.servers) % 2;

    q->status = 200;
    buf_printf(&q->answer, "{\"KSampler\": %s, \"%s\": %s}", node, odd ? "OddNode" : "EvenNode", node);
}

bool comfy_answer(struct vrequest *q)
{
    struct server *s = &all.servers[q->server];
    bool post = strcmp(q->method, "POST") == 0;

    if (post && strcmp(q->target, "/prompt") == 0)
        return post_prompt(s, q);
    if (vt_chance(all.faults.http_error))
        put(q, 500, "");
    else if (post && strcmp(q->target, "/queue") == 0)
        post_queue(s, q);
    else if (post && strcmp(q->target, "/interrupt") == 0)
        post_interrupt(s, q);
    else if (post && strcmp(q->target, "/upload/image") == 0)
        post_upload(s, q);
    else if (strcmp(q->target, "/queue") == 0)
        get_queue(s, q);
    else if (strncmp(q->target, "/history/", 9) == 0)
        get_history(s, q, q->target + 9);
    else if (strncmp(q->target, "/view?", 6) == 0)
        get_view(s, q);
    else if (strcmp(q->target, "/object_info") == 0)
        get_object_info(s, q);
    else if (strcmp(q->target, "/system_stats") == 0)
        put(q, 200, "{\"system\": {\"comfyui_version\": \"0.3.64\"}, \"devices\": []}");
    else if (strcmp(q->target, "/prompt") == 0)
        put(q, 200, "{\"exec_info\": {\"queue_remaining\": 0}}");
    else
        put(q, 404, "");
    return true;
}

/* --- life and death --- */

static void wipe(struct list *l)
{
    list_for_each_safe(it, l) {
        list_remove(it);
        free(list_entry(it, struct comfy_prompt, link));
    }
}

static void inputs_wipe(struct server *s)
{
    struct input *in, *tmp;

    HASH_ITER(hh, s->inputs, in, tmp) {
        HASH_DEL(s->inputs, in);
        free(in->name);
        free(in->content);
        free(in);
    }
}

static void on_back(void *arg)
{
    struct server *s = arg;

    if (s->up)
        return;
    vt_tell("%s is back", s->name);
    s->up = true;
    s->life++;
}

/* A container that starts anew may have lost what was put into its folders. */
static void server_die(struct server *s)
{
    vt_tell("%s dies", s->name);
    s->up = false;
    s->life++;
    wipe(&s->queue);
    wipe(&s->history);
    cut_sockets(s);
    vt_clear(&s->run);
    if (vt_chance(all.faults.wipe_input))
        inputs_wipe(s);
    vt_set(&s->back, 1000 + vt_rnd(90000), on_back, s);
}

static void foreign_prompt(struct server *s)
{
    struct comfy_prompt *p = xcalloc(1, sizeof(*p));

    snprintf(p->id, sizeof(p->id), "somebody-else-%u", ++all.foreigners);
    p->foreign = true;
    enqueue(s, p);
}

static void on_mischief(void *arg)
{
    struct server *s = &all.servers[vt_rnd(COMFY_SERVERS)];
    const struct comfy_faults *f = &all.faults;

    (void)arg;
    if (s->up && vt_chance(f->die)) {
        server_die(s);
    } else if (s->up && vt_chance(f->link_drop)) {
        vt_tell("%s loses its sockets", s->name);
        cut_sockets(s);
    } else if (vt_chance(f->sick)) {
        vt_tell("%s is sick", s->name);
        s->sick_until = vt_now() + 60000;
    } else if (s->up && vt_chance(f->foreign)) {
        foreign_prompt(s);
    }
    vt_set(&all.mischief, 500, on_mischief, NULL);
}

void comfy_heal(void)
{
    all.faults = (struct comfy_faults){0};
    vt_clear(&all.mischief);
    for (int i = 0; i < COMFY_SERVERS; i++)
        all.servers[i].sick_until = 0;
}

void comfy_set_faults(const struct comfy_faults *f)
{
    all.faults = *f;
}

void comfy_init(const struct comfy_watch *w)
{
    memset(&all, 0, sizeof(all));
    all.watch = w;
    for (int i = 0; i < COMFY_SERVERS; i++) {
        struct server *s = &all.servers[i];

        s->name[0] = 's';
        s->name[1] = (char)('0' + i);
        s->up = true;
        s->life = 1;
        s->depth = vt_rnd(3) ? 1 : 2;
        s->validates = vt_rnd(2);
        list_init(&s->queue);
        list_init(&s->history);
        list_init(&s->sockets);
    }
    vt_set(&all.mischief, 500, on_mischief, NULL);
}

void comfy_fini(void)
{
    struct run_entry *e, *tmp;

    vt_clear(&all.mischief);
    for (int i = 0; i < COMFY_SERVERS; i++) {
        struct server *s = &all.servers[i];

        vt_clear(&s->run);
        vt_clear(&s->back);
        cut_sockets(s);
        wipe(&s->queue);
        wipe(&s->history);
        inputs_wipe(s);
        free(s->makers);
    }
    HASH_ITER(hh, all.runs, e, tmp) {
        HASH_DEL(all.runs, e);
        free(e);
    }
}
