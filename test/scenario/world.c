#include "world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/hash.h"

struct run_entry {
    struct world_run r;
    UT_hash_handle hh;
};

struct world_event {
    struct heap_node node;
    int64_t at;
    uint64_t order;
    unsigned epoch; /* 0: not tied */
    world_cb *cb;
    void *arg;
};

static uint64_t event_order;

uint32_t world_rnd(struct world *w, uint32_t n)
{
    w->rng = w->rng * 6364136223846793005ULL + 1442695040888963407ULL;
    return (uint32_t)((w->rng >> 33) % n);
}

bool world_chance(struct world *w, int per_mille)
{
    return per_mille > 0 && (int)world_rnd(w, 1000) < per_mille;
}

/* --- time --- */

static int64_t clock_mono(struct clock *c)
{
    return container_of(c, struct world, clock)->mono;
}

static int64_t clock_wall(struct clock *c)
{
    struct world *w = container_of(c, struct world, clock);

    return w->mono + w->wall_offset;
}

static void clock_random(struct clock *c, void *out, size_t n)
{
    unsigned char *p = out;

    while (n--)
        *p++ = (unsigned char)world_rnd(container_of(c, struct world, clock), 256);
}

static bool event_before(const struct heap_node *a, const struct heap_node *b)
{
    const struct world_event *x = container_of(a, struct world_event, node);
    const struct world_event *y = container_of(b, struct world_event, node);

    return x->at != y->at ? x->at < y->at : x->order < y->order;
}

void world_at(struct world *w, int64_t ms, bool tied, world_cb *cb, void *arg)
{
    struct world_event *e = xcalloc(1, sizeof(*e));

    e->at = w->mono + ms;
    e->order = ++event_order;
    e->epoch = tied ? w->epoch : 0;
    e->cb = cb;
    e->arg = arg;
    heap_push(&w->events, &e->node);
}

bool world_has_next(const struct world *w, int64_t *at)
{
    if (heap_top(&w->events) == NULL)
        return false;
    *at = container_of(heap_top(&w->events), struct world_event, node)->at;
    return true;
}

bool world_next(struct world *w)
{
    struct world_event *e;

    if (heap_top(&w->events) == NULL)
        return false;
    e = container_of(heap_top(&w->events), struct world_event, node);
    heap_remove(&w->events, &e->node);
    if (e->at > w->mono)
        w->mono = e->at;
    if (e->epoch == 0 || e->epoch == w->epoch)
        e->cb(w, e->arg);
    else
        free(e->arg);
    free(e);
    return true;
}

/* --- what servers do --- */

static struct run_entry *run_find(const struct world *w, const char *upstream_id)
{
    struct run_entry *e, *all = (struct run_entry *)(void *)w->runs;

    HASH_FIND_STR(all, upstream_id, e);
    return e;
}

const struct world_run *world_run_of(const struct world *w, const char *upstream_id)
{
    struct run_entry *e = run_find(w, upstream_id);

    return e ? &e->r : NULL;
}

int world_began(const struct world *w, const char *upstream_id)
{
    struct run_entry *e = run_find(w, upstream_id);

    return e ? e->r.began : 0;
}

static void run_began(struct world *w, struct world_server *s, const char *upstream_id)
{
    struct run_entry *e = run_find(w, upstream_id), *all = (struct run_entry *)(void *)w->runs;

    if (e == NULL) {
        e = xcalloc(1, sizeof(*e));
        snprintf(e->r.upstream_id, sizeof(e->r.upstream_id), "%s", upstream_id);
        HASH_ADD_KEYPTR(hh, all, e->r.upstream_id, strlen(e->r.upstream_id), e);
        w->runs = (struct world_run *)(void *)all;
    }
    snprintf(e->r.server, sizeof(e->r.server), "%s", s->name);
    e->r.life = s->life;
    e->r.began++;
    s->executed++;
}

void world_hash(const char *server, const char *upstream_id, const char *filename, uint8_t out[BLAKE3_LEN])
{
    uint64_t h[4];
    char text[400];

    snprintf(text, sizeof(text), "%s|%s|%s", server, upstream_id, filename);
    for (int i = 0; i < 4; i++) {
        text[0] = (char)('a' + i);
        h[i] = hash_bytes(text, strlen(text)) ^ (uint64_t)i;
    }
    h[3] = hash_bytes(server, strlen(server));
    memcpy(out, h, BLAKE3_LEN);
}

static struct world_server *server_by_name(struct world *w, const char *name)
{
    for (int i = 0; i < WORLD_SERVERS; i++)
        if (strcmp(w->servers[i].name, name) == 0)
            return &w->servers[i];
    return NULL;
}

static struct world_prompt *in_list(struct list *l, const char *upstream_id)
{
    list_for_each(it, l) {
        struct world_prompt *p = list_entry(it, struct world_prompt, link);

        if (strcmp(p->upstream_id, upstream_id) == 0)
            return p;
    }
    return NULL;
}

struct said {
    char server[8], id[UUID_SIZE], text[420];
    unsigned life;
};

static void say_now(struct world *w, void *arg)
{
    struct said *m = arg;
    struct world_server *s = server_by_name(w, m->server);

    if (s->up && s->link && w->listener)
        w->listener->on_event(w->listener_arg, m->server, m->id, m->text, strlen(m->text));
    free(m);
}

/* A message of the server's socket: before, the prompt id, after. */
static void say(struct world *w, struct world_server *s, const char *id, const char *before,
                const char *after)
{
    for (int copy = world_chance(w, w->faults.repeat_event) ? 2 : 1; copy > 0; copy--) {
        struct said *m = xcalloc(1, sizeof(*m));

        snprintf(m->server, sizeof(m->server), "%s", s->name);
        snprintf(m->id, sizeof(m->id), "%s", id);
        snprintf(m->text, sizeof(m->text), "%s%s%s", before, id, after);
        world_at(w, world_chance(w, w->faults.late_event) ? world_rnd(w, 8000) : world_rnd(w, 3), true,
                 say_now, m);
    }
}

static void server_run(struct world *w, void *arg);

static void server_finish(struct world *w, struct world_server *s, struct world_prompt *p)
{
    struct run_entry *e = run_find(w, p->upstream_id);

    e->r.ended = w->mono;
    list_remove(&p->link);
    list_push_back(&s->history, &p->link);
    p->in_history = w->mono + (world_chance(w, w->faults.history_lag) ? world_rnd(w, 3000) : 0);
    if (p->verdict == WORLD_OK) {
        say(w, s, p->upstream_id,
            "{\"type\": \"executed\", \"data\": {\"node\": \"9\", \"display_node\": \"9\", \"output\": "
            "{\"images\": "
            "[{\"filename\": \"ComfyUI_00001_.png\", \"subfolder\": \"\", \"type\": \"output\"}]}, "
            "\"prompt_id\": \"",
            "\"}}");
        say(w, s, p->upstream_id, "{\"type\": \"execution_success\", \"data\": {\"prompt_id\": \"",
            "\", \"timestamp\": 1}}");
    } else if (p->verdict == WORLD_INTERRUPTED) {
        say(w, s, p->upstream_id, "{\"type\": \"execution_interrupted\", \"data\": {\"prompt_id\": \"",
            "\", \"node_id\": \"5\"}}");
    } else {
        say(w, s, p->upstream_id, "{\"type\": \"execution_error\", \"data\": {\"prompt_id\": \"",
            p->verdict == WORLD_OOM ? "\", \"exception_type\": \"torch.OutOfMemoryError\"}}"
                                    : "\", \"exception_type\": \"ValueError\"}}");
    }
    say(w, s, p->upstream_id, "{\"type\": \"executing\", \"data\": {\"node\": null, \"prompt_id\": \"",
        "\"}}");
}

static struct world_server *server_of(struct world *w, void *arg)
{
    struct world_server *s = server_by_name(w, arg);

    free(arg);
    return s;
}

static void server_kick(struct world *w, struct world_server *s, int64_t ms)
{
    world_at(w, ms, false, server_run, xstrdup(s->name));
}

/* The worker thread: ends what is due, begins what waits. */
static void server_run(struct world *w, void *arg)
{
    struct world_server *s = server_of(w, arg);
    struct world_prompt *p = list_first(&s->queue, struct world_prompt, link);

    if (!s->up || p == NULL)
        return;
    if (p->done_at == 0) {
        int64_t ms = 5 + world_rnd(w, world_chance(w, w->faults.slow) ? 60000 : 4000);

        p->done_at = w->mono + ms;
        p->hang = world_chance(w, w->faults.hang);
        p->verdict = world_chance(w, w->faults.exec_error)    ? WORLD_ERROR
                     : world_chance(w, w->faults.oom)         ? WORLD_OOM
                     : world_chance(w, w->faults.interrupted) ? WORLD_INTERRUPTED
                                                              : WORLD_OK;
        run_began(w, s, p->upstream_id);
        say(w, s, p->upstream_id, "{\"type\": \"execution_start\", \"data\": {\"prompt_id\": \"",
            "\", \"timestamp\": 1}}");
        say(w, s, p->upstream_id,
            "{\"type\": \"progress\", \"data\": {\"value\": 1, \"max\": 4, \"prompt_id\": \"",
            "\", \"node\": \"5\"}}");
        server_kick(w, s, ms);
    } else if (w->mono >= p->done_at && !p->hang) {
        server_finish(w, s, p);
        if (!list_empty(&s->queue))
            server_kick(w, s, world_rnd(w, 3));
    }
}

static void list_wipe(struct list *l)
{
    list_for_each_safe(it, l) {
        list_remove(it);
        free(list_entry(it, struct world_prompt, link));
    }
}

static void link_back(struct world *w, void *arg)
{
    struct world_server *s = server_of(w, arg);

    if (!s->up || s->link)
        return;
    s->link = true;
    if (w->listener)
        w->listener->on_link(w->listener_arg, s->name, true);
}

static void link_drop(struct world *w, struct world_server *s)
{
    if (!s->link)
        return;
    s->link = false;
    if (w->listener)
        w->listener->on_link(w->listener_arg, s->name, false);
    world_at(w, 200 + world_rnd(w, 3000), false, link_back, xstrdup(s->name));
}

static void server_back(struct world *w, void *arg)
{
    struct world_server *s = server_of(w, arg);

    if (s->up)
        return;
    s->up = true;
    s->life++;
    world_at(w, 50, false, link_back, xstrdup(s->name));
    if (w->listener)
        w->listener->on_change(w->listener_arg);
}

static void server_die(struct world *w, struct world_server *s)
{
    s->up = false;
    list_wipe(&s->queue);
    list_wipe(&s->history);
    if (s->link) {
        s->link = false;
        if (w->listener)
            w->listener->on_link(w->listener_arg, s->name, false);
    }
    if (w->listener)
        w->listener->on_change(w->listener_arg);
    world_at(w, 1000 + world_rnd(w, 90000), false, server_back, xstrdup(s->name));
}

static void mischief(struct world *w, void *arg)
{
    struct world_server *s = &w->servers[world_rnd(w, WORLD_SERVERS)];

    if (s->up && world_chance(w, w->faults.die))
        server_die(w, s);
    else if (s->up && world_chance(w, w->faults.link_drop))
        link_drop(w, s);
    world_at(w, 500, false, mischief, arg);
}

/* --- the fleet's calls --- */

enum call_kind { CALL_SUBMIT, CALL_FIND_QUEUE, CALL_FIND_HISTORY, CALL_HISTORY, CALL_FETCH, CALL_STOP };
struct world_call {
    struct list link; /* world.pinning */
    enum call_kind kind;
    char server[8], id[UUID_SIZE], filename[64];
    unsigned life;
    int fate; /* what will be answered, where it is decided early */
    fleet_submitted_cb *submitted;
    fleet_lookup_cb *lookup;
    fleet_history_cb *history;
    fleet_fetched_cb *fetched;
    fleet_stopped_cb *stopped;
    void *arg;
    struct world *w;
    uint8_t hash[BLAKE3_LEN];
    unsigned epoch;
};

static struct world_call *call_make(struct world *w, enum call_kind kind, const char *server, const char *id,
                                    void *arg)
{
    struct world_call *c = xcalloc(1, sizeof(*c));

    c->kind = kind;
    snprintf(c->server, sizeof(c->server), "%s", server ? server : "?");
    snprintf(c->id, sizeof(c->id), "%s", id ? id : "");
    c->arg = arg;
    c->w = w;
    c->epoch = w->epoch;
    return c;
}

static void submit_answer(struct world *w, void *arg)
{
    struct world_call *c = arg;
    struct fleet_submitted r = {.end = (enum fleet_submit_end)c->fate, .why = "drawn"};

    (void)w;
    c->submitted(&r, c->arg);
    free(c);
}

static void submit_arrives(struct world *w, void *arg)
{
    struct world_call *c = arg;
    struct world_server *s = server_by_name(w, c->server);
    struct world_prompt *p;

    if (s == NULL || !s->up) {
        c->fate = FLEET_REFUSED;
    } else if (world_chance(w, w->faults.post_refused)) {
        c->fate = FLEET_REFUSED;
    } else if (world_chance(w, w->faults.reject)) {
        c->fate = FLEET_REJECTED;
    } else {
        if (!list_empty(&s->queue)) {
            w->broken++;
            snprintf(w->why, sizeof(w->why), "%s was given %s while it still had our work", s->name, c->id);
        }
        p = xcalloc(1, sizeof(*p));
        snprintf(p->upstream_id, sizeof(p->upstream_id), "%s", c->id);
        list_push_back(&s->queue, &p->link);
        server_kick(w, s, world_rnd(w, 20));
        c->fate = world_chance(w, w->faults.post_lost) ? FLEET_LOST : FLEET_ACCEPTED;
    }
    /* The gateway may have died meanwhile: what it sent has arrived all the same. */
    if (c->epoch == w->epoch)
        world_at(w, world_rnd(w, c->fate == FLEET_LOST ? 20000 : 30), true, submit_answer, c);
    else
        free(c);
}

static void op_submit(struct fleet *f, const struct fleet_submit *in, fleet_submitted_cb *cb, void *arg)
{
    struct world *w = container_of(f, struct world, fleet);
    struct world_call *c = call_make(w, CALL_SUBMIT, in->server, in->upstream_id, arg);

    c->submitted = cb;
    /* What a dead process has sent arrives within two seconds, or never: the runner relies on it (job_fsm.c).
     */
    world_at(w, 1 + world_rnd(w, world_chance(w, w->faults.slow) ? 1800 : 20), false, submit_arrives, c);
}

static void find_answer(struct world *w, void *arg)
{
    struct world_call *c = arg;
    struct fleet_lookup r = {.found = (enum fleet_found)c->fate, .refused = c->life != 0, .why = "drawn"};

    (void)w;
    c->lookup(&r, c->arg);
    free(c);
}

static bool server_answers(struct world *w, const struct world_server *s)
{
    return s && s->up && !world_chance(w, w->faults.history_bad);
}

/* The second half: GET /history after GET /queue did not have it. */
static void find_history(struct world *w, void *arg)
{
    struct world_call *c = arg;
    struct world_server *s = server_by_name(w, c->server);
    struct world_prompt *p = s && s->up ? in_list(&s->history, c->id) : NULL;

    c->fate = !server_answers(w, s)           ? FLEET_UNREACHABLE
              : p && p->in_history <= w->mono ? FLEET_ENDED
              : p                             ? FLEET_RUNNING /* as the lock of the server has it */
                                              : FLEET_ABSENT;
    c->life = c->fate == FLEET_UNREACHABLE && s && !s->up;
    world_at(w, world_rnd(w, 10), true, find_answer, c);
}

static void find_queue(struct world *w, void *arg)
{
    struct world_call *c = arg;
    struct world_server *s = server_by_name(w, c->server);
    struct world_prompt *p;

    if (!server_answers(w, s)) {
        c->fate = FLEET_UNREACHABLE;
        c->life = s && !s->up;
        world_at(w, world_rnd(w, 2000), true, find_answer, c);
        return;
    }
    p = in_list(&s->queue, c->id);
    if (p) {
        c->fate = p->done_at ? FLEET_RUNNING : FLEET_PENDING;
        world_at(w, world_rnd(w, 10), true, find_answer, c);
        return;
    }
    world_at(w, world_rnd(w, 10), true, find_history, c);
}

static void op_find(struct fleet *f, const char *server, const char *id, fleet_lookup_cb *cb, void *arg)
{
    struct world *w = container_of(f, struct world, fleet);
    struct world_call *c = call_make(w, CALL_FIND_QUEUE, server, id, arg);

    c->lookup = cb;
    world_at(w, world_rnd(w, 10), true, find_queue, c);
}

static void put_history(struct buf *b, const struct world_prompt *p)
{
    static const char *const kinds[] = {"execution_success", "execution_error", "execution_error",
                                        "execution_interrupted"};
    static const char *const rest[] = {
        "\"timestamp\": 3",
        "\"node_id\": \"5\", \"node_type\": \"FailAt\", \"executed\": [], \"exception_message\": \"boom\", "
        "\"exception_type\": \"ValueError\", \"traceback\": [\"t\"], \"current_inputs\": {}, "
        "\"current_outputs\": "
        "[], \"timestamp\": 3",
        "\"node_id\": \"5\", \"node_type\": \"KSampler\", \"executed\": [], \"exception_message\": "
        "\"Allocation on "
        "device\", \"exception_type\": \"torch.OutOfMemoryError\", \"traceback\": [\"t\"], "
        "\"current_inputs\": {}, "
        "\"current_outputs\": [], \"timestamp\": 3",
        "\"node_id\": \"5\", \"node_type\": \"KSampler\", \"executed\": [], \"timestamp\": 3"};

    buf_printf(b,
               "{\"%s\": {\"prompt\": [0, \"%s\", {\"5\": {\"class_type\": \"KSampler\", \"inputs\": {}}}, "
               "{}, [\"9\"]], "
               "\"outputs\": {",
               p->upstream_id, p->upstream_id);
    if (p->verdict == WORLD_OK)
        buf_puts(b,
                 "\"9\": {\"images\": [{\"filename\": \"ComfyUI_00001_.png\", \"subfolder\": \"\", \"type\": "
                 "\"output\"}, {\"filename\": \"ComfyUI_00002_.png\", \"subfolder\": \"s\", \"type\": "
                 "\"output\"}]}");
    buf_printf(
        b,
        "}, \"status\": {\"status_str\": \"%s\", \"completed\": %s, \"messages\": [[\"execution_start\", "
        "{\"prompt_id\": \"%s\", \"timestamp\": 1}], [\"%s\", {\"prompt_id\": \"%s\", %s}]]}, \"meta\": {}}}",
        p->verdict == WORLD_OK ? "success" : "error", p->verdict == WORLD_OK ? "true" : "false",
        p->upstream_id, kinds[p->verdict], p->upstream_id, rest[p->verdict]);
}

static void history_answer(struct world *w, void *arg)
{
    struct world_call *c = arg;
    struct world_server *s = server_by_name(w, c->server);
    struct world_prompt *p = s && s->up ? in_list(&s->history, c->id) : NULL;
    struct fleet_history r = {.answered = true, .status = 200};
    struct buf b = BUF_INIT;

    if (s == NULL || !s->up) {
        r = (struct fleet_history){.refused = true, .why = "connection refused"};
    } else if (world_chance(w, w->faults.history_bad)) {
        r = (struct fleet_history){.answered = true, .status = 500, .why = "HTTP status 500"};
    } else {
        if (p && p->in_history <= w->mono)
            put_history(&b, p);
        else
            buf_puts(&b, "{}");
        r.body = buf_to_bytes(&b);
    }
    c->history(&r, c->arg);
    bytes_unref(r.body);
    free(c);
}

static void op_history(struct fleet *f, const char *server, const char *id, fleet_history_cb *cb, void *arg)
{
    struct world *w = container_of(f, struct world, fleet);
    struct world_call *c = call_make(w, CALL_HISTORY, server, id, arg);

    c->history = cb;
    world_at(w, world_rnd(w, 20), true, history_answer, c);
}

static void fetch_pinned(const struct store_pin *p, void *arg)
{
    struct world_call *c = arg;
    struct fleet_fetched r = {
        .end = FLEET_FETCHED, .size = 100, .pin = p->pin, .mime = "image/png", .status = 200};

    if (p->status != STORE_OK) {
        r.end = p->status == STORE_FULL ? FLEET_DISK_FULL : FLEET_DISK_FAILED;
        r.why = "store";
    }
    memcpy(r.blake3, c->hash, BLAKE3_LEN);
    list_remove(&c->link);
    c->fetched(&r, c->arg);
    free(c);
}

static void fetch_answer(struct world *w, void *arg)
{
    struct world_call *c = arg;
    struct world_server *s = server_by_name(w, c->server);
    struct fleet_fetched r = {.end = FLEET_UNREADABLE, .why = "drawn"};
    const struct world_run *run = world_run_of(w, c->id);

    if (s && s->up && !world_chance(w, w->faults.fetch_bad)) {
        if (world_chance(w, w->faults.disk_full)) {
            r = (struct fleet_fetched){.end = FLEET_DISK_FULL, .why = "no space left on device"};
        } else if (run == NULL || strcmp(run->server, s->name) != 0) {
            r = (struct fleet_fetched){.end = FLEET_NOT_THERE, .status = 404, .why = "HTTP status 404"};
        } else {
            world_hash(c->server, c->id, c->filename, c->hash);
            list_push_back(&w->pinning, &c->link);
            store_blob_pin(w->store, c->hash, 100, fetch_pinned, c);
            return;
        }
    }
    c->fetched(&r, c->arg);
    free(c);
}

static void op_fetch(struct fleet *f, const struct fleet_file *file, fleet_fetched_cb *cb, void *arg)
{
    struct world *w = container_of(f, struct world, fleet);
    struct world_call *c = call_make(w, CALL_FETCH, file->server, file->upstream_id, arg);

    snprintf(c->filename, sizeof(c->filename), "%s", file->filename);
    c->fetched = cb;
    world_at(w, 1 + world_rnd(w, 200), true, fetch_answer, c);
}

static void op_keep(struct fleet *f, struct bytes *data, const char *mime, fleet_fetched_cb *cb, void *arg)
{
    struct world *w = container_of(f, struct world, fleet);
    struct world_call *c = call_make(w, CALL_FETCH, "", "", arg);

    (void)mime;
    world_hash("", "", data->data, c->hash);
    c->fetched = cb;
    list_push_back(&w->pinning, &c->link);
    store_blob_pin(w->store, c->hash, (int64_t)data->len, fetch_pinned, c);
}

static void stop_answer(struct world *w, void *arg)
{
    struct world_call *c = arg;

    (void)w;
    c->stopped((enum fleet_stopped)c->fate, c->arg);
    free(c);
}

static void stop_arrives(struct world *w, void *arg)
{
    struct world_call *c = arg;
    struct world_server *s = server_by_name(w, c->server);
    struct world_prompt *p = s && s->up ? in_list(&s->queue, c->id) : NULL;

    if (!server_answers(w, s)) {
        c->fate = FLEET_STOP_FAILED;
    } else if (p && p->done_at == 0) {
        list_remove(&p->link);
        free(p);
        c->fate = FLEET_GONE;
    } else if (p) { /* running: it will notice soon */
        c->fate = FLEET_STILL_THERE;
        p->verdict = WORLD_INTERRUPTED;
        p->hang = false;
        p->done_at = w->mono + 20;
        server_kick(w, s, 20);
    } else {
        c->fate = FLEET_GONE;
    }
    world_at(w, world_rnd(w, 20), true, stop_answer, c);
}

static void op_stop(struct fleet *f, const char *server, const char *id, fleet_stopped_cb *cb, void *arg)
{
    struct world *w = container_of(f, struct world, fleet);
    struct world_call *c = call_make(w, CALL_STOP, server, id, arg);

    c->stopped = cb;
    world_at(w, world_rnd(w, 20), true, stop_arrives, c);
}

static void op_unpin(struct fleet *f, int64_t pin)
{
    store_blob_unpin(container_of(f, struct world, fleet)->store, pin, NULL, NULL);
}

static size_t op_servers(struct fleet *f, struct fleet_server *out, size_t max)
{
    struct world *w = container_of(f, struct world, fleet);

    for (unsigned i = 0; i < WORLD_SERVERS && i < max; i++)
        out[i] = (struct fleet_server){.index = i,
                                       .name = w->servers[i].name,
                                       .url = "http://scripted",
                                       .state = w->servers[i].up ? FLEET_UP : FLEET_DOWN,
                                       .reason = "",
                                       .known = true,
                                       .depth = 1,
                                       .tags = "[]"};
    return WORLD_SERVERS;
}

static int op_can_run(struct fleet *f, unsigned index, const char *need)
{
    (void)f;
    return need == NULL || index % 2 == (unsigned)atoi(need) % 2;
}

static void op_result(struct fleet *f, const char *server, enum job_code code, enum fleet_blame blame)
{
    (void)blame;
    (void)f;
    (void)server;
    (void)code;
}

static void op_listen(struct fleet *f, const struct fleet_listener *l, void *arg)
{
    struct world *w = container_of(f, struct world, fleet);

    w->listener = l;
    w->listener_arg = arg;
}

static const struct fleet_ops world_ops = {op_submit, op_find,    op_history, op_fetch,  op_keep,  op_stop,
                                           op_unpin,  op_servers, op_can_run, op_result, op_listen};

/* --- life --- */

void world_init(struct world *w, uint64_t seed, struct store *store)
{
    *w = (struct world){
        .rng = seed * 2 + 1, .mono = 1000000, .wall_offset = 1790000000000, .epoch = 1, .store = store};
    w->fleet.ops = &world_ops;
    w->clock = (struct clock){clock_mono, clock_wall, clock_random};
    heap_init(&w->events, event_before);
    list_init(&w->pinning);
    for (int i = 0; i < 8; i++)
        world_rnd(w, 2);
    for (int i = 0; i < WORLD_SERVERS; i++) {
        struct world_server *s = &w->servers[i];

        s->name[0] = 's';
        s->name[1] = (char)('0' + i);
        s->up = s->link = true;
        s->life = 1;
        list_init(&s->queue);
        list_init(&s->history);
    }
    world_at(w, 500, false, mischief, NULL);
}

void world_fini(struct world *w)
{
    struct run_entry *e, *tmp, *all = (struct run_entry *)(void *)w->runs;

    while (heap_top(&w->events)) {
        struct world_event *ev = container_of(heap_top(&w->events), struct world_event, node);

        heap_remove(&w->events, &ev->node);
        free(ev->arg);
        free(ev);
    }
    heap_fini(&w->events);
    for (int i = 0; i < WORLD_SERVERS; i++) {
        list_wipe(&w->servers[i].queue);
        list_wipe(&w->servers[i].history);
    }
    HASH_ITER(hh, all, e, tmp) {
        HASH_DEL(all, e);
        free(e);
    }
}

void world_crash(struct world *w)
{
    w->epoch++;
    w->listener = NULL;
    list_for_each_safe(it, &w->pinning) {
        list_remove(it);
        free(list_entry(it, struct world_call, link));
    }
}

void world_heal(struct world *w)
{
    w->faults = (struct world_faults){0};
}
