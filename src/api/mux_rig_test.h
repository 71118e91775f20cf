/* What the tests of the mux routes share: the real routes, runner, blobs and HTTP server on a loopback port; a store in
 * memory; a fleet and a registry whose every answer is the test's. Time is the test's too, so whole bodies compare. */
#ifndef MUX_RIG_TEST_H
#define MUX_RIG_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "api/api_priv.h"
#include "base/log.h"
#include "store/store_mem.h"

#define T0 1700000000000 /* the wall clock, ms */
#define ID(n) "0198c000-0000-7000-8000-00000000000" #n
#define FETCHES 8

struct call { /* one that the runner has made of the fleet and that is not answered */
    bool open;
    char server[32], id[UUID_SIZE], filename[64];
    void *arg;
    union {
        fleet_submitted_cb *submit;
        fleet_lookup_cb *find;
        fleet_history_cb *history;
        fleet_fetched_cb *fetch;
    } cb;
};

struct registry { /* the fake */
    struct fleet fleet;
    struct fleet_server v[3];
    size_t n;
    const struct fleet_listener *listener;
    void *listener_arg;
    struct call submit, find, history, fetch[FETCHES];
    int cannot_run; /* what can_run says: 0 yes */
    struct blobs *blobs;
    /* the answer to the next change, and what was asked for */
    enum registry_end end;
    const char *why;
    char asked[256];
    registry_cb *cb;
    void *cb_arg;
    char added_name[64], added_url[64];
    struct object_view *view; /* what the servers can do; NULL: not known */
    const char *primary;
    struct bytes *stats; /* of gpu0 */
    int64_t stats_ago;
};

struct rig {
    struct clock clock;
    int64_t now; /* ms since the start */
    uint8_t drawn;
    struct loop *loop;
    struct workers *workers;
    struct store *store;
    struct blobs *blobs;
    struct registry reg;
    struct api *api;
    struct runner *runner;
    struct http_server *http;
    int port, fd;
    bool held; /* the store is not settled by itself */
    bool woken;
    struct buf in;
    /* the last answer */
    int status;
    const char *body;
    char headers[2048];
    struct json json;
    /* the last blob put */
    struct blob_info blob;
    bool put;
};

static inline struct bytes *bytes_of(const char *text)
{
    return bytes_new(text, strlen(text));
}

/* --- time --- */

static inline int64_t rig_mono(struct clock *c)
{
    return 1000 + container_of(c, struct rig, clock)->now;
}

static inline int64_t rig_wall(struct clock *c)
{
    return T0 + container_of(c, struct rig, clock)->now;
}

static inline void rig_random(struct clock *c, void *out, size_t n)
{
    for (size_t i = 0; i < n; i++)
        ((uint8_t *)out)[i] = ++container_of(c, struct rig, clock)->drawn;
}

static inline void rig_wake(void *arg, int64_t at)
{
    (void)at;
    ((struct rig *)arg)->woken = true;
}

/* --- the fleet --- */

static inline struct call *call_open(struct call *c, const char *server, const char *id, void *arg)
{
    assert_false(c->open);
    *c = (struct call){.open = true, .arg = arg};
    snprintf(c->server, sizeof(c->server), "%s", server);
    snprintf(c->id, sizeof(c->id), "%s", id ? id : "");
    return c;
}

static inline struct registry *reg_of(struct fleet *f)
{
    return container_of(f, struct registry, fleet);
}

static inline void op_submit(struct fleet *f, const struct fleet_submit *in, fleet_submitted_cb *cb,
                             void *arg)
{
    call_open(&reg_of(f)->submit, in->server, in->upstream_id, arg)->cb.submit = cb;
}

static inline void op_find(struct fleet *f, const char *server, const char *id, fleet_lookup_cb *cb,
                           void *arg)
{
    call_open(&reg_of(f)->find, server, id, arg)->cb.find = cb;
}

static inline void op_history(struct fleet *f, const char *server, const char *id, fleet_history_cb *cb,
                              void *arg)
{
    call_open(&reg_of(f)->history, server, id, arg)->cb.history = cb;
}

static inline void op_fetch(struct fleet *f, const struct fleet_file *file, fleet_fetched_cb *cb, void *arg)
{
    struct registry *r = reg_of(f);

    for (size_t i = 0; i < FETCHES; i++) {
        if (r->fetch[i].open)
            continue;
        call_open(&r->fetch[i], file->server, file->upstream_id, arg)->cb.fetch = cb;
        snprintf(r->fetch[i].filename, sizeof(r->fetch[i].filename), "%s", file->filename);
        return;
    }
    fail_msg("too many fetches");
}

static inline void op_keep(struct fleet *f, struct bytes *data, const char *mime, fleet_fetched_cb *cb,
                           void *arg)
{
    (void)data, (void)mime;
    op_fetch(f, &(struct fleet_file){.server = "", .filename = "kept"}, cb, arg);
}

static inline void op_stop(struct fleet *f, const char *server, const char *id, fleet_stopped_cb *cb,
                           void *arg)
{
    (void)f, (void)server, (void)id, (void)cb,
        (void)arg; /* strays are not looked at here: it never answers */
}

static inline void op_unpin(struct fleet *f, int64_t pin)
{
    blobs_unpin(reg_of(f)->blobs, pin);
}

static inline size_t op_servers(struct fleet *f, struct fleet_server *out, size_t max)
{
    struct registry *r = reg_of(f);

    memcpy(out, r->v, sizeof(*out) * (r->n < max ? r->n : max));
    return r->n;
}

static inline int op_can_run(struct fleet *f, unsigned index, const char *need)
{
    (void)index, (void)need;
    return !reg_of(f)->cannot_run;
}

static inline void op_result(struct fleet *f, const char *server, enum job_code code, enum fleet_blame blame)
{
    (void)f, (void)server, (void)code, (void)blame;
}

static inline void op_listen(struct fleet *f, const struct fleet_listener *l, void *arg)
{
    reg_of(f)->listener = l;
    reg_of(f)->listener_arg = arg;
}

static const struct fleet_ops rig_fleet_ops = {op_submit,  op_find,   op_history, op_fetch,
                                               op_keep,    op_stop,   op_unpin,   op_servers,
                                               op_can_run, op_result, op_listen};

const char *fleet_state_name(enum fleet_state s)
{
    static const char *const names[] = {"up", "suspect", "down", "fenced", "draining"};

    return names[s];
}

/* --- the registry --- */

struct fleet *registry_fleet(struct registry *r)
{
    return &r->fleet;
}

static void changed(struct registry *r, registry_cb *cb, void *arg)
{
    assert_null(r->cb);
    r->cb = cb;
    r->cb_arg = arg;
}

void registry_add(struct registry *r, const struct registry_entry *in, registry_cb *cb, void *arg)
{
    snprintf(r->asked, sizeof(r->asked), "add %s %s %d %s", in->name, in->url, in->depth,
             in->tags ? in->tags : "-");
    snprintf(r->added_name, sizeof(r->added_name), "%s", in->name);
    snprintf(r->added_url, sizeof(r->added_url), "%s", in->url);
    if (r->end == REGISTRY_OK)
        r->v[r->n++] = (struct fleet_server){.index = 2,
                                             .name = r->added_name,
                                             .url = r->added_url,
                                             .state = FLEET_DOWN,
                                             .reason = "not connected yet",
                                             .depth = in->depth,
                                             .tags = "[]",
                                             .queue = -1};
    changed(r, cb, arg);
}

void registry_remove(struct registry *r, const char *name, bool force, registry_cb *cb, void *arg)
{
    snprintf(r->asked, sizeof(r->asked), "remove %s%s", name, force ? " by force" : "");
    changed(r, cb, arg);
}

void registry_drain(struct registry *r, const char *name, bool drain, registry_cb *cb, void *arg)
{
    snprintf(r->asked, sizeof(r->asked), "%s %s", drain ? "drain" : "resume", name);
    changed(r, cb, arg);
}

struct bytes *registry_object_info(struct registry *r, const char **etag)
{
    (void)r, (void)etag;
    return NULL;
}

struct object_view *registry_view(struct registry *r)
{
    return r->view;
}

struct object_info *registry_server_info(struct registry *r, unsigned index)
{
    (void)r, (void)index;
    return NULL;
}

uint64_t registry_version(const struct registry *r)
{
    (void)r;
    return 1;
}

void registry_drop_view(struct workers *w, struct object_view *v)
{
    (void)w, (void)v;
}

bool registry_refresh(struct registry *r, struct refresh *w, refresh_cb *cb, void *arg)
{
    (void)r, (void)w, (void)cb, (void)arg;
    return false;
}

void registry_refresh_cancel(struct refresh *w)
{
    (void)w;
}

struct http_client *registry_client(struct registry *r, const char *name)
{
    (void)r, (void)name;
    return NULL;
}

const char *registry_client_id(struct registry *r, const char *name)
{
    (void)r, (void)name;
    return NULL;
}

void registry_on_logs(struct registry *r, registry_logs_cb *cb, void *arg)
{
    (void)r, (void)cb, (void)arg;
}

void registry_want_logs(struct registry *r, bool want)
{
    (void)r, (void)want;
}

const char *registry_primary(struct registry *r)
{
    return r->primary;
}

struct bytes *registry_system_stats(struct registry *r, const char *name)
{
    (void)r, (void)name;
    return NULL;
}

struct bytes *registry_last_stats(struct registry *r, const char *name, int64_t *ago)
{
    *ago = strcmp(name, "gpu0") == 0 ? r->stats_ago : -1;
    return strcmp(name, "gpu0") == 0 ? r->stats : NULL;
}

/* --- life --- */

static inline void rig_no_log(void *arg, enum log_level level, const char *line, size_t len)
{
    (void)arg, (void)level, (void)line, (void)len;
}

static inline int rig_unlink(const char *path, const struct stat *st, int flag, struct FTW *w)
{
    (void)st, (void)flag, (void)w;
    return remove(path);
}

static inline void rig_turn(struct rig *g)
{
    registry_cb *cb = g->reg.cb;

    g->reg.cb = NULL;
    if (cb)
        cb(g->reg.end, g->reg.why, g->reg.cb_arg);
    if (!g->held)
        store_mem_settle(g->store);
    if (g->runner && g->woken) {
        g->woken = false;
        runner_tick(g->runner);
    }
    loop_turn(g->loop, 1);
    if (!g->held)
        store_mem_settle(g->store);
}

/* The deadline is a safety net only. */
#define UNTIL(g, cond)                                                                                       \
    do {                                                                                                     \
        int64_t stop_ = clock_system()->mono_ms(clock_system()) + 20000;                                     \
        while (!(cond)) {                                                                                    \
            if (clock_system()->mono_ms(clock_system()) > stop_)                                             \
                fail_msg("never: %s; in: %.300s", #cond, buf_str(&(g)->in));                                 \
            rig_turn(g);                                                                                     \
        }                                                                                                    \
    } while (0)

static inline void rig_ready(enum store_status st, void *arg)
{
    struct rig *g = arg;

    assert_int_equal(st, STORE_OK);
    api_start(g->api, g->runner);
}

static inline void rig_runner(struct rig *g, size_t max_live)
{
    const struct runner_env env = {&g->clock, g->store, &g->reg.fleet, NULL, rig_wake, g};
    const struct runner_config cfg = {job_policy_default, 60000, max_live};

    g->runner = runner_new(&env, &cfg, api_listener(), g->api);
    runner_start(g->runner, rig_ready, g);
    UNTIL(g, g->api->runner);
}

static inline char *rig_dir(void)
{
    static char dir[64];

    return dir;
}

static inline void rig_servers(struct rig *g)
{
    g->reg.v[0] = (struct fleet_server){.index = 0,
                                        .name = "gpu0",
                                        .url = "http://10.0.0.5:8188",
                                        .state = FLEET_UP,
                                        .known = true,
                                        .depth = 1,
                                        .tags = "[\"big\"]",
                                        .version = "0.3.64",
                                        .nodes = 700,
                                        .queue = 3,
                                        .heard_ago = 40};
    g->reg.v[1] = (struct fleet_server){.index = 1,
                                        .name = "gpu1",
                                        .url = "http://10.0.0.6:8188",
                                        .state = FLEET_DOWN,
                                        .reason = "connection refused",
                                        .depth = 2,
                                        .queue = -1,
                                        .heard_ago = -1};
    g->reg.n = 2;
}

/* All but the runner. */
static inline struct rig *rig_open(void)
{
    struct rig *g = calloc(1, sizeof(*g));
    static const struct api_config cfg = {
        .json_max = 1 << 20, .upload_max = 1 << 20, .nodes_max = 1000, .clients_max = 10};
    struct listener *ln;
    struct api_deps d;
    struct err e;

    log_set_sink(rig_no_log, NULL);
    snprintf(rig_dir(), 64, "%s/mux-test-XXXXXX", access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
    assert_non_null(mkdtemp(rig_dir()));
    g->clock = (struct clock){rig_mono, rig_wall, rig_random};
    g->fd = -1;
    g->loop = loop_new(&e);
    g->workers = workers_new(g->loop, 1, &e);
    g->store = store_mem_new();
    g->blobs = blobs_open(g->loop, g->workers, g->store, rig_dir(), &e);
    assert_non_null(g->blobs);
    g->reg.fleet.ops = &rig_fleet_ops;
    g->reg.blobs = g->blobs;
    rig_servers(g);
    d = (struct api_deps){g->loop, g->workers, &g->clock, g->store, g->blobs, &g->reg};
    g->api = api_new(&d, &cfg);
    g->http = http_server_new(g->loop, &http_limits_default, api_handle, g->api);
    ln = http_server_listen(g->http, "127.0.0.1:0", NULL, &e);
    assert_non_null(ln);
    g->port = atoi(strrchr(listener_addr(ln), ':') + 1);
    return g;
}

static inline int rig_setup(void **state)
{
    struct rig *g = rig_open();

    *state = g;
    rig_runner(g, 100);
    return 0;
}

static inline int rig_teardown(void **state)
{
    struct rig *g = *state;

    if (g->fd >= 0)
        close(g->fd);
    http_server_free(&g->http);
    loop_turn(g->loop, 0);
    store_mem_settle(g->store);
    api_free(&g->api);
    blobs_close(&g->blobs);
    store_close(&g->store);
    runner_free(&g->runner);
    workers_free(&g->workers);
    loop_turn(g->loop, 0);
    loop_free(&g->loop);
    buf_free(&g->in);
    nftw(rig_dir(), rig_unlink, 16, FTW_DEPTH | FTW_PHYS);
    log_set_sink(NULL, NULL);
    free(g);
    return 0;
}

/* --- a client --- */

static inline void client_connect(struct rig *g)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons((unsigned short)g->port)};

    sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (g->fd >= 0)
        close(g->fd);
    g->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(g->fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
    fcntl(g->fd, F_SETFL, O_NONBLOCK);
    buf_clear(&g->in);
}

static inline bool client_closed(struct rig *g)
{
    char piece[65536];
    ssize_t n;

    while ((n = read(g->fd, piece, sizeof(piece))) > 0)
        buf_put(&g->in, piece, (size_t)n);
    return n == 0 || errno != EAGAIN;
}

static inline void client_send(struct rig *g, const char *method, const char *target, const char *fields,
                               const char *body)
{
    char *text =
        xasprintf("%s %s HTTP/1.1\r\nHost: mux\r\nConnection: close\r\nContent-Length: %zu\r\n%s\r\n%s",
                  method, target, strlen(body), fields, body);

    client_connect(g);
    assert_int_equal(send(g->fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
    free(text);
}

static inline int client_answer(struct rig *g)
{
    const char *end;

    UNTIL(g, client_closed(g));
    end = strstr(buf_str(&g->in), "\r\n\r\n");
    assert_non_null(end);
    assert_int_equal(sscanf(buf_str(&g->in), "HTTP/1.1 %d ", &g->status), 1);
    snprintf(g->headers, sizeof(g->headers), "%.*s", (int)(end + 2 - buf_str(&g->in)), buf_str(&g->in));
    g->body = end + 4;
    g->json = (struct json){0};
    if (strstr(g->headers, "application/json") && g->body[0])
        assert_int_equal(json_check(g->body, strlen(g->body), NULL, &g->json, NULL), 0);
    return g->status;
}

static inline int ask(struct rig *g, const char *method, const char *target, const char *body)
{
    client_send(g, method, target, "", body ? body : "");
    return client_answer(g);
}

PRINTF_LIKE(3, 4) static inline int askf(struct rig *g, const char *method, const char *fmt, ...)
{
    char target[512];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(target, sizeof(target), fmt, ap);
    va_end(ap);
    return ask(g, method, target, NULL);
}

#define GET(g, target) ask(g, "GET", target, NULL)
#define POST(g, target) ask(g, "POST", target, NULL)

/* The value at a path such as "error.code" or "jobs.0.id", as its text in JSON. */
static inline const char *at(struct rig *g, const char *path)
{
    static char text[2048];
    struct json v = g->json;

    while (*path) {
        size_t n = strcspn(path, ".");

        v = json_type(v) == JSON_ARRAY ? json_at(v, (size_t)atoi(path)) : json_getn(v, path, n);
        path += n + (path[n] == '.');
    }
    if (v.p == NULL)
        return "(none)";
    if (json_type(v) == JSON_STRING)
        v = (struct json){v.p + 1, v.n - 2};
    snprintf(text, sizeof(text), "%.*s", (int)v.n, v.p);
    return text;
}

#define assert_at(g, path, want) assert_string_equal(at(g, path), want)

static inline void assert_error(struct rig *g, int status, const char *code)
{
    if (g->status != status || strcmp(at(g, "error.code"), code) != 0)
        fail_msg("wanted %d %s, got %d: %s", status, code, g->status, g->body);
    assert_true(strlen(at(g, "error.message")) > 8);
    assert_string_not_equal(at(g, "error.detail"), "(none)");
}

/* --- jobs through the runner --- */

static inline void rig_submitted(const struct store_submitted *r, void *arg)
{
    assert_int_equal(r->status, STORE_OK);
    ++*(int *)arg;
}

static inline void rig_submit_in(struct rig *g, struct store_submit in)
{
    struct bytes *graph = bytes_of("{\"1\": {\"class_type\": \"X\", \"inputs\": {}}}");
    struct bytes *answer = bytes_of("{}");
    int done = 0;

    if (in.tenant == NULL)
        in.tenant = "default";
    in.graph = graph;
    in.answer = answer;
    in.created_at = g->clock.wall_ms(&g->clock);
    assert_true(runner_submit(g->runner, &in, rig_submitted, &done));
    bytes_unref(graph);
    bytes_unref(answer);
    UNTIL(g, done);
    rig_turn(g);
}

static inline void rig_submit(struct rig *g, const char *id)
{
    rig_submit_in(g, (struct store_submit){
                         .id = id, .client_id = "client-a", .window_id = "win-1", .note = "accepted"});
}

/* The server takes what it was just sent. */
static inline void rig_accept(struct rig *g)
{
    struct call c = g->reg.submit;

    assert_true(c.open);
    g->reg.submit.open = false;
    c.cb.submit(&(struct fleet_submitted){.end = FLEET_ACCEPTED, .status = 200}, c.arg);
    rig_turn(g);
}

/* A message of gpu0's socket about this prompt: {"type": type, "data": {"prompt_id": id, more}}. */
static inline void rig_event(struct rig *g, const char *id, const char *type, const char *more)
{
    char *text = xasprintf("{\"type\": \"%s\", \"data\": {\"prompt_id\": \"%s\"%s}}", type, id, more);

    g->reg.listener->on_event(g->reg.listener_arg, "gpu0", id, text, strlen(text));
    free(text);
    rig_turn(g);
}

/* What history says: outputs is the inside of "outputs". */
static inline void rig_history(struct rig *g, const char *outputs)
{
    struct call c = g->reg.history;
    struct fleet_history h = {.answered = true, .status = 200};
    char *text;

    assert_true(c.open);
    g->reg.history.open = false;
    text = xasprintf(
        "{\"%s\": {\"prompt\": [0, \"%s\", {\"1\": {\"class_type\": \"X\", \"inputs\": {}}}, {}, [\"1\"]], "
        "\"outputs\": {%s}, \"status\": {\"status_str\": \"success\", \"completed\": true, \"messages\": "
        "[[\"execution_success\", {\"prompt_id\": \"%s\", \"timestamp\": 3}]]}, \"meta\": {}}}",
        c.id, c.id, outputs, c.id);
    h.body = bytes_of(text);
    c.cb.history(&h, c.arg);
    bytes_unref(h.body);
    free(text);
    rig_turn(g);
}

static inline void on_rig_put(enum blob_status st, const struct blob_info *info, const char *why, void *arg)
{
    struct rig *g = arg;

    (void)why;
    assert_int_equal(st, BLOB_OK);
    g->blob = *info;
    g->put = true;
}

static inline void rig_put(struct rig *g, const char *text)
{
    struct bytes *data = bytes_of(text);

    g->put = false;
    blob_put(g->blobs, data, on_rig_put, g);
    bytes_unref(data);
    UNTIL(g, g->put);
}

/* All files that are asked for arrive; the bytes of a file are "bytes of <filename>". */
static inline void rig_fetched(struct rig *g)
{
    for (size_t i = 0; i < FETCHES; i++) {
        struct call c = g->reg.fetch[i];
        struct fleet_fetched r = {.end = FLEET_FETCHED, .mime = "image/png", .status = 200};
        char text[80];

        if (!c.open)
            continue;
        g->reg.fetch[i].open = false;
        snprintf(text, sizeof(text), "bytes of %s", c.filename);
        rig_put(g, text);
        memcpy(r.blake3, g->blob.blake3, BLAKE3_LEN);
        r.size = g->blob.size;
        r.pin = g->blob.pin;
        c.cb.fetch(&r, c.arg);
    }
    rig_turn(g);
    rig_turn(g);
}

/* The whole life of a job on gpu0, which makes these outputs. */
static inline void rig_run(struct rig *g, const char *id, const char *outputs)
{
    rig_submit(g, id);
    rig_accept(g);
    rig_event(g, id, "execution_success", "");
    rig_history(g, outputs);
    rig_fetched(g);
}

#define FILE_OF(name, type) "{\"filename\": \"" name "\", \"subfolder\": \"\", \"type\": \"" type "\"}"
#define ONE_IMAGE "\"9\": {\"images\": [" FILE_OF("a.png", "output") "]}"

/* --- jobs straight into the store: the runner does not know them --- */

static inline void on_rig_done(enum store_status st, void *arg)
{
    assert_int_equal(st, STORE_OK);
    ++*(int *)arg;
}

static inline void rig_stored(struct rig *g, const char *id, enum job_state state,
                              const struct job_error *error)
{
    struct bytes *graph = bytes_of("{}");
    struct store_submit in = {
        .id = id, .tenant = "default", .graph = graph, .answer = graph, .created_at = T0};
    struct store_step step = {.id = id, .version = 1, .at = T0 + 5, .state = state, .error = error};
    int done = 0;

    store_submit(g->store, &in, rig_submitted, &done);
    store_step(g->store, &step, on_rig_done, &done);
    bytes_unref(graph);
    UNTIL(g, done == 2);
}

#endif
