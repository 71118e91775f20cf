/* What clients do. */
#include "clients.h"

#include <blake3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "clients_priv.h"

struct outside out;

struct told *told_of(const char *id)
{
    struct told *t;

    HASH_FIND_STR(out.told, id, t);
    return t;
}

struct job_record *committed_record(const char *id)
{
    struct mem_job *j = mem_job_find(container_of(out.store, struct mem_store, base.store), id);

    return j ? j->rec : NULL;
}

struct bound *bound_of(const char *upstream_id)
{
    struct bound *b;

    HASH_FIND_STR(out.bound, upstream_id, b);
    return b;
}

void blake3_of(const char *text, uint8_t hash[BLAKE3_LEN])
{
    blake3_hasher h;

    blake3_hasher_init(&h);
    blake3_hasher_update(&h, text, strlen(text));
    blake3_hasher_finalize(&h, hash, BLAKE3_LEN);
}

/* --- uploads --- */

struct uploading {
    char *content;
    int name;
    int64_t pin;
    unsigned life;
};

static void uploading_free(struct uploading *u)
{
    free(u->content);
    free(u);
}

static void on_named(const struct store_file *f, void *arg)
{
    struct uploading *u = arg;

    if (u->life == out.g->life && out.g->ready)
        blobs_unpin(out.g->blobs, u->pin);
    (void)f;
    uploading_free(u);
}

static void on_stored(enum blob_status st, const struct blob_info *info, const char *why, void *arg)
{
    struct uploading *u = arg;
    struct upload *up;
    struct store_input in = {.tenant = "default", .type = "input", .subfolder = "", .overwrite = true};
    char name[16];

    (void)why;
    if (st != BLOB_OK || !out.g->ready) {
        uploading_free(u);
        return;
    }
    up = xcalloc(1, sizeof(*up));
    memcpy(up->blake3, info->blake3, BLAKE3_LEN);
    up->content = xstrdup(u->content);
    list_push_back(&out.uploads, &up->link);
    snprintf(name, sizeof(name), "cat%d.png", u->name);
    in.name = name;
    memcpy(in.blake3, info->blake3, BLAKE3_LEN);
    in.size = info->size;
    in.at = vt_clock()->wall_ms(vt_clock());
    u->pin = info->pin;
    store_input_put(out.store, &in, on_named, u);
}

static void upload_one(void)
{
    struct uploading *u = xcalloc(1, sizeof(*u));
    struct bytes *data;

    u->name = out.uploaded < INPUT_NAMES ? out.uploaded : (int)vt_rnd(INPUT_NAMES);
    u->content = xasprintf("picture %d of cat%d", ++out.uploaded, u->name);
    u->life = out.g->life;
    data = bytes_new(u->content, strlen(u->content));
    blob_put(out.g->blobs, data, on_stored, u);
    bytes_unref(data);
}

/* --- submits and cancels --- */

static void on_canceled(bool canceled, void *arg)
{
    struct told *t = arg;

    if (canceled)
        t->cancel_confirmed = true;
    if (canceled && t->ended && t->state != JOB_CANCELED)
        vt_broke(t->id, "cancel confirmed after another end");
}

static void cancel_later(void *arg)
{
    struct told *t = told_of(arg);

    if (t && out.g->ready &&
        runner_cancel(out.g->runner, NULL, t->id, "canceled by the client", on_canceled, t))
        vt_tell("%s cancel asked", t->id);
    free(arg);
}

void client_cancels(struct told *t, int64_t ms)
{
    vt_later(ms, cancel_later, xstrdup(t->id));
}

static void release_later(void *arg)
{
    if (out.g->ready)
        hub_release(out.g->hub, arg);
    free(arg);
}

static void on_submitted(const struct store_submitted *res, void *arg)
{
    struct told *t = arg;

    if (res->status != STORE_OK) {
        if (out.g->ready)
            hub_release(out.g->hub, t->id);
        return;
    }
    t->accepted = true;
    vt_later(vt_rnd(20), release_later, xstrdup(t->id));
    if (vt_chance(100))
        client_cancels(t, vt_rnd(9000));
}

static struct told *told_new(void)
{
    struct told *t = xcalloc(1, sizeof(*t));

    uuid_v7(vt_clock(), t->id);
    t->paid = vt_chance(250);
    t->client = vt_chance(900) ? &out.clients[vt_rnd(CLIENTS)] : NULL;
    HASH_ADD_STR(out.told, id, t);
    return t;
}

static void submit(struct told *t, const struct job_input *input)
{
    char text[200];
    struct bytes *graph, *answer = bytes_new("{}", 2);
    struct store_submit in = {.tenant = "default", .id = t->id, .inputs = input, .n_inputs = input != NULL};
    struct store_event ev = {"state", "{\"state\": \"queued\"}"};

    snprintf(text, sizeof(text),
             "{\"5\": {\"class_type\": \"KSampler\", \"inputs\": {%s%s%s}}, \"9\": {\"class_type\": "
             "\"SaveImage\", "
             "\"inputs\": {}}}",
             input ? "\"image\": \"" : "", input ? input->name : "", input ? "\"" : "");
    graph = bytes_new(text, strlen(text));
    in.graph = graph;
    in.answer = answer;
    in.client_id = t->client ? t->client->id : NULL;
    in.flags = t->paid ? JOB_F_PAID : 0;
    in.created_at = vt_clock()->wall_ms(vt_clock());
    if (vt_chance(300))
        in.need = vt_rnd(2) ? "{\"classes\": [\"EvenNode\"], \"choices\": []}"
                            : "{\"classes\": [\"OddNode\"], \"choices\": []}";
    if (vt_chance(30))
        in.deadline = in.created_at + vt_rnd(20000);
    in.events = &ev;
    in.n_events = 1;
    vt_tell("%s submitted%s%s", t->id, t->paid ? ", paid" : "", input ? ", with an input" : "");
    t->life = out.g->life;
    hub_expect(out.g->hub, t->id);
    if (!runner_submit(out.g->runner, &in, on_submitted, t))
        vt_broke(t->id, "was refused");
    bytes_unref(graph);
    bytes_unref(answer);
    out.sum.submitted++;
}

/* The picture that its graph names has been looked up, as api/inputs.c does. */
static void on_input(const struct store_file *f, void *arg)
{
    struct told *t = arg;
    struct job_input in = {0};

    if (!out.g->ready)
        return;
    if (f->status != STORE_OK) {
        submit(t, NULL);
        return;
    }
    list_for_each(it, &out.uploads) {
        struct upload *u = list_entry(it, struct upload, link);

        if (memcmp(u->blake3, f->blake3, BLAKE3_LEN) == 0 && t->image == NULL)
            t->image = xstrdup(u->content);
    }
    in.name = (char *)f->name;
    memcpy(in.blake3, f->blake3, BLAKE3_LEN);
    submit(t, &in);
}

static void submit_one(void)
{
    struct told *t = told_new();
    char name[16];

    if (out.uploaded >= INPUT_NAMES && vt_chance(400)) {
        snprintf(name, sizeof(name), "cat%u.png", vt_rnd(INPUT_NAMES));
        store_input_find(out.store, "default", "input", "", name, on_input, t);
    } else {
        submit(t, NULL);
    }
}

static void on_arrival(void *arg)
{
    int burst = vt_chance(100) ? 6 : 1;

    if (out.g->ready && !out.healed && (out.uploaded < INPUT_NAMES || vt_chance(30)))
        upload_one();
    for (; burst > 0 && out.g->ready && out.sum.submitted < out.jobs; burst--)
        submit_one();
    /* Sometimes nobody wants anything for minutes. */
    vt_set(&out.arrival, vt_chance(12) ? 60000 + vt_rnd(300000) : vt_rnd(3000), on_arrival, arg);
}

bool clients_done(void)
{
    return out.sum.submitted >= out.jobs;
}

void clients_heal(void)
{
    out.healed = true;
}

/* --- sockets --- */

struct ws *vclient_socket(struct vclient *c)
{
    return c->ws;
}

void vclient_set_socket(struct vclient *c, struct ws *w)
{
    c->ws = w;
    c->serial++;
    c->flags = vt_rnd(2);
    client_came(c);
}

void client_cut_off(struct vclient *c)
{
    c->ws = NULL;
}

static void on_visit(void *arg)
{
    struct vclient *c = &out.clients[vt_rnd(CLIENTS)];

    (void)arg;
    if (out.g->ready && c->ws == NULL) {
        hub_accept(out.g->hub, (struct http_req *)(void *)c, "default", c->id);
        if (c->ws && c->flags)
            vws_client_says(c->ws,
                            "{\"type\": \"feature_flags\", \"data\": {\"supports_preview_metadata\": true}}");
    } else if (c->ws && !out.healed && vt_chance(30)) {
        vws_client_gone(c->ws);
    }
    vt_set(&out.visit, vt_rnd(out.healed ? 20000 : 1000), on_visit, NULL);
}

/* --- a reader of the event log --- */

static void on_events(enum store_status st, const struct store_logged *e, size_t n, int64_t oldest,
                      int64_t newest, void *arg)
{
    (void)arg, (void)oldest, (void)newest;
    for (size_t i = 0; st == STORE_OK && i < n; i++) {
        uint64_t hash = hash_bytes(e[i].data, strlen(e[i].data)) ^ hash_bytes(e[i].job, strlen(e[i].job));
        struct logged *l;
        struct told *t;

        HASH_FIND(hh, out.logged, &e[i].id, sizeof(e[i].id), l);
        if (l && l->hash != hash)
            vt_broke(e[i].job, "event %lld was told before as something else", (long long)e[i].id);
        if (e[i].id > out.cursor)
            out.cursor = e[i].id;
        if (l)
            continue;
        t = told_of(e[i].job);
        if (t && strcmp(e[i].kind, "end") == 0 && t->logged_ends++)
            vt_broke(t->id, "event %lld is its second end", (long long)e[i].id);
        l = xcalloc(1, sizeof(*l));
        l->id = e[i].id;
        l->hash = hash;
        HASH_ADD(hh, out.logged, id, sizeof(l->id), l);
    }
}

static void on_look(void *arg)
{
    struct told *t = out.told;

    (void)arg;
    if (out.g->ready)
        store_events(out.store, vt_rnd(4) ? out.cursor : out.cursor - vt_rnd(100), NULL, 100, on_events,
                     NULL);
    for (uint32_t skip = vt_rnd(8); t && skip > 0; skip--) /* one of the last few */
        t = t->hh.prev ? t->hh.prev : t;
    if (t && out.g->ready)
        read_job(t);
    vt_set(&out.look, 1000 + vt_rnd(out.healed ? 30000 : 3000), on_look, NULL);
}

/* --- life --- */

static void on_ready(void)
{
    vt_tell("the gateway is ready");
    out.ready_at = vt_now();
    if (out.read_all)
        clients_read_everything();
}

const struct gateway_watch clients_watch = {on_ready, on_gateway_change};

void clients_machine_died(bool died)
{
    out.read_all = died;
}

void clients_gateway_down(void)
{
    struct told *t, *tmp;

    HASH_ITER(hh, out.told, t, tmp) {
        t->owed = false;
    }
}

void clients_init(struct gateway *g, struct store *s, int jobs)
{
    memset(&out, 0, sizeof(out));
    out.g = g;
    out.store = s;
    out.jobs = jobs;
    list_init(&out.uploads);
    for (int i = 0; i < CLIENTS; i++)
        snprintf(out.clients[i].id, sizeof(out.clients[i].id), "c%d", i);
    vt_set(&out.arrival, 0, on_arrival, NULL);
    vt_set(&out.visit, 0, on_visit, NULL);
    vt_set(&out.look, 1000, on_look, NULL);
}

void clients_fini(void)
{
    struct told *t, *tmp;
    struct bound *b, *tmp_b;
    struct logged *l, *tmp_l;

    vt_clear(&out.arrival);
    vt_clear(&out.visit);
    vt_clear(&out.look);
    list_for_each_safe(it, &out.uploads) {
        struct upload *u = list_entry(it, struct upload, link);

        free(u->content);
        free(u);
    }
    HASH_ITER(hh, out.told, t, tmp) {
        HASH_DEL(out.told, t);
        free(t->image);
        free(t);
    }
    HASH_ITER(hh, out.bound, b, tmp_b) {
        HASH_DEL(out.bound, b);
        free(b);
    }
    HASH_ITER(hh, out.logged, l, tmp_l) {
        HASH_DEL(out.logged, l);
        free(l);
    }
}
