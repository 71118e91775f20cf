#include "fleet/fake_comfy.h"

#include <dirent.h>
#include <event2/buffer.h>
#include <unistd.h>

#include "base/json.h"
#include "http/multipart.h"

/* --- the fake --- */

void fake_set(char **what, const char *text)
{
    free(*what);
    *what = xstrdup(text);
}

void fake_put(struct fake *f, const char *name, const void *data, size_t n)
{
    struct fake_file *file = NULL;

    for (size_t i = 0; i < f->n_files; i++)
        if (strcmp(f->files[i].name, name) == 0)
            file = &f->files[i];
    if (file == NULL) {
        assert_true(f->n_files < FAKE_MOST);
        file = &f->files[f->n_files++];
        *file = (struct fake_file){.name = xstrdup(name)};
    }
    free(file->data);
    file->data = xmalloc(n + 1);
    memcpy(file->data, data, n);
    file->data[n] = '\0';
    file->n = n;
}

const struct fake_file *fake_file(const struct fake *f, const char *name)
{
    for (size_t i = 0; i < f->n_files; i++)
        if (strcmp(f->files[i].name, name) == 0)
            return &f->files[i];
    return NULL;
}

unsigned fake_asked(const struct fake *f, const char *line)
{
    size_t n = strlen(line);
    unsigned count = 0;

    for (const char *p = buf_str(&f->log); (p = strstr(p, line)) != NULL; p += n)
        if ((p == f->log.data || p[-1] == '\n') && p[n] == '\n')
            count++;
    return count;
}

struct form {
    struct fake *f;
    struct buf data, name, type, overwrite;
    struct buf *into;
};

static int on_part(const struct multipart_part *p, void *arg, struct err *e)
{
    struct form *x = arg;

    (void)e;
    if (strcmp(p->name, "image") == 0) {
        assert_non_null(p->filename);
        buf_puts(&x->name, p->filename);
        x->into = &x->data;
    } else {
        x->into = strcmp(p->name, "type") == 0 ? &x->type : &x->overwrite;
    }
    return 0;
}

static int on_part_data(const void *data, size_t n, void *arg, struct err *e)
{
    (void)e;
    buf_put(((struct form *)arg)->into, data, n);
    return 0;
}

static int on_part_end(void *arg, struct err *e)
{
    (void)arg;
    (void)e;
    return 0;
}

static void take_upload(struct http_req *r, struct bytes *body, struct fake *f)
{
    static const struct multipart_handlers h = {on_part, on_part_data, on_part_end};
    struct form x = {.f = f};
    struct buf b = BUF_INIT;
    struct err e;
    struct multipart *m = multipart_new(http_req_header(r, "Content-Type"), &h, &x, &e);

    assert_non_null(m);
    assert_int_equal(multipart_push(m, body->data, body->len, &e), 0);
    assert_int_equal(multipart_finish(m, &e), 0);
    multipart_free(&m);
    assert_string_equal(buf_str(&x.type), "input");
    assert_string_equal(buf_str(&x.overwrite), "true");
    fake_put(f, buf_str(&x.name), buf_str(&x.data), x.data.len);
    buf_printf(&b, "{\"name\": \"%s\", \"subfolder\": \"\", \"type\": \"input\"}", buf_str(&x.name));
    http_reply(r, 200, "application/json", b.data, b.len);
    buf_free(&b);
    buf_free(&x.data);
    buf_free(&x.name);
    buf_free(&x.type);
    buf_free(&x.overwrite);
}

static void take_prompt(struct http_req *r, struct bytes *body, struct fake *f)
{
    struct buf b = BUF_INIT;
    struct json v;

    buf_clear(&f->last_prompt);
    buf_put(&f->last_prompt, body->data, body->len);
    assert_int_equal(json_check(f->last_prompt.data, f->last_prompt.len, NULL, &v, NULL), 0);
    buf_puts(&b, "{\"prompt_id\": ");
    json_put(&b, json_get(v, "prompt_id"));
    buf_puts(&b, ", \"number\": 3, \"node_errors\": {}}");
    http_reply(r, 200, "application/json; charset=utf-8", b.data, b.len);
    buf_free(&b);
}

static void view(struct http_req *r, struct fake *f)
{
    struct buf name = BUF_INIT;
    const struct fake_file *file;

    assert_true(http_query_get(http_req_query(r), "filename", &name));
    file = fake_file(f, buf_str(&name));
    if (file)
        http_reply(r, 200, "image/png", file->data, file->n);
    else
        http_reply_empty(r, 404);
    buf_free(&name);
}

static void usual(struct http_req *r, struct bytes *body, struct fake *f)
{
    const char *path = http_req_path(r);
    bool post = http_req_method(r) == HTTP_POST;

    if (strcmp(path, "/prompt") == 0 && post)
        take_prompt(r, body, f);
    else if (strcmp(path, "/prompt") == 0)
        http_reply_str(r, 200, "application/json", "{\"exec_info\": {\"queue_remaining\": 0}}");
    else if (strcmp(path, "/upload/image") == 0)
        take_upload(r, body, f);
    else if (post)
        http_reply_empty(r, 200);
    else if (strcmp(path, "/queue") == 0)
        http_reply_str(r, 200, "application/json", f->queue);
    else if (strncmp(path, "/history/", 9) == 0)
        http_reply_str(r, 200, "application/json", f->history);
    else if (strcmp(path, "/object_info") == 0)
        http_reply_str(r, 200, "application/json", f->object_info);
    else if (strcmp(path, "/system_stats") == 0)
        http_reply_str(r, 200, "application/json", "{\"system\": {\"comfyui_version\": \"0.3.64\"}}");
    else if (strcmp(path, "/view") == 0)
        view(r, f);
    else
        http_reply_empty(r, 404);
}

static struct fake_order *order_for(struct fake *f, struct http_req *r)
{
    for (size_t i = 0; i < f->n_orders; i++) {
        struct fake_order *o = &f->orders[i];

        if (o->times != 0 && strcmp(o->method, http_req_method_name(r)) == 0 &&
            strncmp(http_req_path(r), o->path, strlen(o->path)) == 0) {
            if (o->times > 0)
                o->times--;
            return o;
        }
    }
    return NULL;
}

static void on_gone(struct http_req *r, void *arg)
{
    struct fake *f = arg;

    for (size_t i = 0; i < f->n_hanging; i++)
        if (f->hanging[i] == r)
            f->hanging[i] = NULL;
}

static void on_body(struct http_req *r, struct bytes *body, void *arg)
{
    struct fake *f = arg;
    struct fake_order *o = order_for(f, r);

    if (o == NULL) {
        usual(r, body, f);
        return;
    }
    if (strcmp(o->path, "/prompt") == 0) {
        buf_clear(&f->last_prompt);
        buf_put(&f->last_prompt, body->data, body->len);
    }
    switch (o->act) {
    case FAKE_ANSWER: http_reply(r, o->status, o->type, o->body, o->n); break;
    case FAKE_CLOSE: http_abort(r); break;
    case FAKE_CUT:
        http_start(r, o->status, o->type, (int64_t)o->n + 100);
        http_send(r, o->body, o->n);
        http_abort(r);
        break;
    case FAKE_HOLD:
        http_start(r, o->status, o->type, (int64_t)o->n);
        http_send(r, o->body, o->n);
        /* fall through */
    case FAKE_HANG:
        assert_true(f->n_hanging < FAKE_MOST);
        http_on_abort(r, on_gone, f);
        f->hanging[f->n_hanging++] = r;
        break;
    }
}

static void on_ws_message(struct ws *w, enum ws_type type, const char *data, size_t n, void *arg)
{
    struct fake_socket *s = arg;

    (void)w;
    (void)type;
    buf_put(&s->f->frames, data, n);
    buf_putc(&s->f->frames, '\n');
}

static void on_ws_close(struct ws *w, int code, const char *reason, bool opened, void *arg)
{
    (void)w;
    (void)code;
    (void)reason;
    (void)opened;
    ((struct fake_socket *)arg)->ws = NULL;
}

static void take_socket(struct http_req *r, struct fake *f)
{
    static const struct ws_handlers h = {.on_message = on_ws_message, .on_close = on_ws_close};
    static const struct ws_limits lim = {.message = 1 << 20};
    struct fake_socket *s = &f->sockets[f->n_sockets];
    struct buf id = BUF_INIT;
    char text[256];

    assert_true(f->n_sockets < FAKE_MOST);
    assert_true(http_query_get(http_req_query(r), "clientId", &id));
    snprintf(s->sid, sizeof(s->sid), "%s", buf_str(&id));
    buf_free(&id);
    s->f = f;
    s->ws = ws_accept(r, &lim, &h, s);
    f->n_sockets++;
    snprintf(text, sizeof(text),
             "{\"type\": \"status\", \"data\": {\"status\": {\"exec_info\": {\"queue_remaining\": 2}}, "
             "\"sid\": \"%s\"}}",
             s->sid);
    if (!f->mute)
        ws_send_text(s->ws, text, strlen(text));
}

static void on_request(struct http_req *r, void *arg)
{
    struct fake *f = arg;

    buf_printf(&f->log, "%s %s\n", http_req_method_name(r), http_req_path(r));
    if (strcmp(http_req_path(r), "/ws") == 0) {
        struct fake_order *o = order_for(f, r);

        if (o)
            http_reply_empty(r, o->status);
        else
            take_socket(r, f);
        return;
    }
    http_body_read_all(r, 64 << 20, on_body, f);
}

static void fake_listen(struct fake *f)
{
    struct http_limits lim = http_limits_default;
    char addr[32];
    struct listener *ln;
    struct err e;

    lim.body = 64 << 20;
    f->server = http_server_new(f->loop, &lim, on_request, f);
    snprintf(addr, sizeof(addr), "127.0.0.1:%u", f->port);
    ln = http_server_listen(f->server, addr, NULL, &e);
    if (ln == NULL)
        fail_msg("%s", e.msg);
    f->port = (unsigned short)atoi(strrchr(listener_addr(ln), ':') + 1);
    snprintf(f->url, sizeof(f->url), "http://127.0.0.1:%u", f->port);
}

struct fake *fake_new(struct loop *l)
{
    struct fake *f = xcalloc(1, sizeof(*f));

    f->loop = l;
    fake_set(&f->queue, "{\"queue_running\": [], \"queue_pending\": []}");
    fake_set(&f->history, "{}");
    fake_set(&f->object_info, "{}");
    fake_listen(f);
    return f;
}

void fake_die(struct fake *f)
{
    for (size_t i = 0; i < f->n_sockets; i++)
        if (f->sockets[i].ws)
            ws_abort(&f->sockets[i].ws);
    http_server_free(&f->server);
    f->n_hanging = 0;
}

void fake_revive(struct fake *f)
{
    fake_listen(f);
}

void fake_as_usual(struct fake *f)
{
    while (f->n_orders > 0)
        free(f->orders[--f->n_orders].body);
}

void fake_lose_files(struct fake *f)
{
    while (f->n_files > 0) {
        f->n_files--;
        free(f->files[f->n_files].name);
        free(f->files[f->n_files].data);
    }
}

void fake_free(struct fake **fp)
{
    struct fake *f = *fp;

    if (f == NULL)
        return;
    *fp = NULL;
    fake_die(f);
    fake_as_usual(f);
    fake_lose_files(f);
    free(f->queue);
    free(f->history);
    free(f->object_info);
    buf_free(&f->log);
    buf_free(&f->frames);
    buf_free(&f->last_prompt);
    free(f);
}

void fake_next(struct fake *f, const char *method, const char *path, enum fake_act act, int status,
               const char *body, int times)
{
    struct fake_order *o = &f->orders[f->n_orders++];

    assert_true(f->n_orders < FAKE_MOST);
    *o = (struct fake_order){.act = act, .status = status, .times = times, .type = "application/json"};
    snprintf(o->method, sizeof(o->method), "%s", method);
    snprintf(o->path, sizeof(o->path), "%s", path);
    o->body = xstrdup(body ? body : "");
    o->n = strlen(o->body);
}

void fake_release(struct fake *f)
{
    for (size_t i = 0; i < f->n_hanging; i++)
        if (f->hanging[i])
            http_abort(f->hanging[i]);
    f->n_hanging = 0;
}

void fake_finish(struct fake *f)
{
    for (size_t i = 0; i < f->n_hanging; i++)
        if (f->hanging[i])
            http_end(f->hanging[i]);
    f->n_hanging = 0;
}

static struct fake_socket *latest(struct fake *f)
{
    assert_true(f->n_sockets > 0 && f->sockets[f->n_sockets - 1].ws != NULL);
    return &f->sockets[f->n_sockets - 1];
}

void fake_say(struct fake *f, const char *text)
{
    ws_send_text(latest(f)->ws, text, strlen(text));
}

void fake_say_binary(struct fake *f, const void *data, size_t n)
{
    ws_send_binary(latest(f)->ws, data, n);
}

void fake_drop_socket(struct fake *f)
{
    ws_abort(&latest(f)->ws);
}

const char *fake_sid(const struct fake *f)
{
    return f->n_sockets ? f->sockets[f->n_sockets - 1].sid : "";
}

/* --- the rig --- */

static void tell_event(void *arg, const char *server, const char *id, const char *text, size_t n)
{
    struct rig *g = arg;

    buf_printf(&g->told, "event %s %s %.*s\n", server, id ? id : "-", (int)n, text);
}

static void tell_frame(void *arg, const char *server, const char *id, const void *data, size_t n)
{
    struct rig *g = arg;

    (void)data;
    buf_printf(&g->told, "frame %s %s %zu\n", server, id, n);
}

static void tell_link(void *arg, const char *server, bool up)
{
    struct rig *g = arg;

    buf_printf(&g->told, "link %s %s\n", server, up ? "up" : "down");
}

static void tell_removed(void *arg, const char *server)
{
    struct rig *g = arg;

    buf_printf(&g->told, "removed %s\n", server);
}

static void tell_change(void *arg)
{
    ((struct rig *)arg)->changes++;
}

static const struct fleet_listener hooks = {tell_event, tell_frame, tell_link, tell_removed, tell_change};

void rig_open(struct rig *g)
{
    g->reg = registry_new(g->loop, g->workers, clock_system(), g->store, g->blobs, &g->cfg);
    g->fleet = registry_fleet(g->reg);
    g->ready = false;
    fleet_listen(g->fleet, &hooks, g);
}

void rig_close(struct rig *g)
{
    registry_free(&g->reg);
    for (int i = 0; i < 20; i++)
        rig_turn(g);
}

struct rig *rig_new(void)
{
    struct rig *g = xcalloc(1, sizeof(*g));
    struct err e;

    g->loop = loop_new(&e);
    g->workers = workers_new(g->loop, 2, &e);
    g->store = store_mem_new();
    snprintf(g->dir, sizeof(g->dir), "%s/fleet-test-XXXXXX", access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
    assert_non_null(mkdtemp(g->dir));
    g->blobs = blobs_open(g->loop, g->workers, g->store, g->dir, &e);
    if (g->blobs == NULL)
        fail_msg("%s", e.msg);
    g->cfg = (struct registry_config){.connect_ms = 3000, .output_ms = 60000};
    rig_open(g);
    return g;
}

static void wipe(const char *dir)
{
    char *path;
    DIR *d = opendir(dir);
    struct dirent *de;

    while (d && (de = readdir(d)) != NULL) {
        if (strcmp(de->d_name, ".") == 0 || strcmp(de->d_name, "..") == 0)
            continue;
        path = xasprintf("%s/%s", dir, de->d_name);
        if (unlink(path) < 0)
            wipe(path);
        free(path);
    }
    if (d)
        closedir(d);
    rmdir(dir);
}

void rig_free(struct rig **gp)
{
    struct rig *g = *gp;

    *gp = NULL;
    registry_free(&g->reg);
    for (size_t i = 0; i < 4; i++)
        fake_free(&g->fake[i]);
    for (int i = 0; i < 20; i++)
        rig_turn(g);
    blobs_close(&g->blobs);
    workers_free(&g->workers);
    store_mem_settle(g->store);
    store_close(&g->store);
    loop_free(&g->loop);
    wipe(g->dir);
    buf_free(&g->told);
    free(g);
}

void rig_turn(struct rig *g)
{
    loop_turn(g->loop, 1);
    store_mem_settle(g->store);
}

static void on_ready(void *arg)
{
    ((struct rig *)arg)->ready = true;
}

void rig_start(struct rig *g)
{
    registry_start(g->reg, on_ready, g);
    RIG_UNTIL(g, g->ready);
}

bool rig_has(struct rig *g, const char *name)
{
    static struct fleet_server v[SERVER_SET_MAX];
    size_t n = fleet_servers(g->fleet, v, ARRAY_LEN(v));

    for (size_t i = 0; i < n; i++)
        if (strcmp(v[i].name, name) == 0)
            return true;
    return false;
}

struct fleet_server rig_server(struct rig *g, const char *name)
{
    static struct fleet_server v[SERVER_SET_MAX];
    size_t n = fleet_servers(g->fleet, v, ARRAY_LEN(v));

    for (size_t i = 0; i < n; i++)
        if (strcmp(v[i].name, name) == 0)
            return v[i];
    fail_msg("no server %s", name);
    return v[0];
}

void rig_servers(struct rig *g, size_t n)
{
    static const char *const names[] = {"a", "b", "c", "d"};
    struct registry_entry v[4] = {{0}};
    struct err e;

    for (size_t i = 0; i < n; i++) {
        if (g->fake[i] == NULL)
            g->fake[i] = fake_new(g->loop);
        v[i] = (struct registry_entry){names[i], g->fake[i]->url, 2, "[\"x\"]"};
    }
    if (registry_configure(g->reg, v, n, &e) < 0)
        fail_msg("%s", e.msg);
    rig_start(g);
    for (size_t i = 0; i < n; i++)
        RIG_UNTIL(g, rig_server(g, names[i]).state == FLEET_UP && rig_server(g, names[i]).known);
}

struct stored {
    bool done;
    uint8_t hash[BLAKE3_LEN];
};

static void on_stored(enum blob_status st, const struct blob_info *info, const char *why, void *arg)
{
    struct stored *s = arg;

    (void)why;
    assert_int_equal(st, BLOB_OK);
    memcpy(s->hash, info->blake3, BLAKE3_LEN);
    s->done = true;
}

void rig_blob(struct rig *g, const char *text, uint8_t hash[BLAKE3_LEN])
{
    struct stored s = {0};
    struct bytes *b = bytes_new(text, strlen(text));

    blob_put(g->blobs, b, on_stored, &s);
    bytes_unref(b);
    RIG_UNTIL(g, s.done);
    memcpy(hash, s.hash, BLAKE3_LEN);
}

void rig_read(struct rig *g, const uint8_t hash[BLAKE3_LEN], struct buf *out)
{
    int64_t size;
    struct err e;
    int fd = blob_open(g->blobs, hash, &size, &e);
    char piece[4096];
    ssize_t n;

    if (fd < 0)
        fail_msg("%s", e.msg);
    buf_clear(out);
    while ((n = read(fd, piece, sizeof(piece))) > 0)
        buf_put(out, piece, (size_t)n);
    close(fd);
    assert_int_equal(out->len, size);
}

void rig_submit(struct rig *g, const char *server, const char *id, const char *graph,
                const struct job_input *in, size_t n, struct got *into)
{
    struct fleet_submit s = {.server = server, .upstream_id = id, .job = id, .inputs = in, .n_inputs = n};
    int before = into->n;

    s.graph = bytes_new(graph, strlen(graph));
    fleet_submit(g->fleet, &s, got_submitted, into);
    assert_int_equal(into->n, before); /* never inside the call */
    bytes_unref(s.graph);
}

/* --- answers --- */

void got_fini(struct got *g)
{
    free(g->body);
    free(g->why);
    free(g->mime);
    *g = (struct got){0};
}

static void keep(struct got *g, int status, struct bytes *body, const char *why)
{
    int n = g->n;

    got_fini(g);
    g->n = n + 1;
    g->status = status;
    g->body = body ? xstrndup(body->data, body->len) : NULL;
    g->why = xstrdup_null(why);
}

void got_submitted(const struct fleet_submitted *r, void *arg)
{
    keep(arg, r->status, r->body, r->why);
    ((struct got *)arg)->submit = r->end;
}

void got_lookup(const struct fleet_lookup *r, void *arg)
{
    keep(arg, 0, NULL, r->why);
    ((struct got *)arg)->found = r->found;
    ((struct got *)arg)->dead = r->dead;
    ((struct got *)arg)->refused = r->refused;
    ((struct got *)arg)->removed = r->removed;
}

void got_history(const struct fleet_history *r, void *arg)
{
    keep(arg, r->status, r->body, r->why);
    ((struct got *)arg)->answered = r->answered;
    ((struct got *)arg)->refused = r->refused;
    ((struct got *)arg)->removed = r->removed;
}

void got_fetched(const struct fleet_fetched *r, void *arg)
{
    struct got *g = arg;

    keep(g, r->status, NULL, r->why);
    g->fetch = r->end;
    memcpy(g->blake3, r->blake3, BLAKE3_LEN);
    g->size = r->size;
    g->pin = r->pin;
    g->mime = xstrdup_null(r->mime);
}

void got_stopped(enum fleet_stopped r, void *arg)
{
    keep(arg, 0, NULL, NULL);
    ((struct got *)arg)->stopped = r;
}
