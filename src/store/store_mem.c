#include "store/store_mem.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/plant.h"
#include "store/mem_priv.h"

static struct mem_store *mem_of(struct store *s)
{
    return container_of(s, struct mem_store, base.store);
}

/* --- small tables --- */
static enum store_status stray_done(struct mem_store *m, struct req *r)
{
    for (size_t i = 0; i < m->strays.n; i++) {
        if (strcmp(m->strays.v[i].server, r->in.stray_done.server) == 0 &&
            strcmp(m->strays.v[i].upstream_id, r->in.stray_done.upstream_id) == 0) {
            free(m->strays.v[i].server);
            mem_drop(&m->strays, i);
            return STORE_OK;
        }
    }
    return STORE_NOT_FOUND;
}

static int stray_order(const void *va, const void *vb)
{
    const struct store_stray *a = va, *b = vb;
    int c = strcmp(a->server, b->server);

    return c ? c : strcmp(a->upstream_id, b->upstream_id);
}

static enum store_status strays(struct mem_store *m, struct req *r)
{
    r->out.strays.v = xcalloc(m->strays.n, sizeof(struct store_stray));
    for (size_t i = 0; i < m->strays.n; i++) {
        r->out.strays.v[i] = m->strays.v[i];
        r->out.strays.v[i].server = xstrdup(m->strays.v[i].server);
    }
    r->out.strays.n = m->strays.n;
    qsort(r->out.strays.v, r->out.strays.n, sizeof(struct store_stray), stray_order);
    return STORE_OK;
}

static struct store_server server_copy(const struct store_server *in)
{
    return (struct store_server){xstrdup(in->name), xstrdup(in->url), in->depth, xstrdup_null(in->tags),
                                 in->drained};
}

static void server_fini(struct store_server *s)
{
    free(s->name);
    free(s->url);
    free(s->tags);
}

static size_t server_index(struct mem_store *m, const char *name)
{
    size_t i = 0;

    while (i < m->servers.n && strcmp(m->servers.v[i].name, name) != 0)
        i++;
    return i;
}

static enum store_status server_put(struct mem_store *m, struct req *r)
{
    const struct store_server *in = &r->in.server_put.server;
    size_t i = server_index(m, in->name);

    if (i == m->servers.n) {
        mem_push(&m->servers, server_copy(in));
        return STORE_OK;
    }
    if (!r->in.server_put.replace)
        return STORE_EXISTS;
    server_fini(&m->servers.v[i]);
    m->servers.v[i] = server_copy(in);
    return STORE_OK;
}

static enum store_status server_remove(struct mem_store *m, struct req *r)
{
    size_t i = server_index(m, r->in.name);

    if (i == m->servers.n)
        return STORE_NOT_FOUND;
    server_fini(&m->servers.v[i]);
    mem_drop(&m->servers, i);
    return STORE_OK;
}

static int server_order(const void *a, const void *b)
{
    return strcmp(((const struct store_server *)a)->name, ((const struct store_server *)b)->name);
}

static enum store_status servers(struct mem_store *m, struct req *r)
{
    r->out.servers.v = xcalloc(m->servers.n, sizeof(struct store_server));
    for (size_t i = 0; i < m->servers.n; i++)
        r->out.servers.v[i] = server_copy(&m->servers.v[i]);
    r->out.servers.n = m->servers.n;
    qsort(r->out.servers.v, r->out.servers.n, sizeof(struct store_server), server_order);
    return STORE_OK;
}

static enum store_status events(struct mem_store *m, struct req *r)
{
    r->out.events.newest = m->last_event;
    r->out.events.oldest = m->events.n ? m->events.v[0].id : m->last_event + 1;
    r->out.events.v = xcalloc(m->events.n, sizeof(struct store_logged));
    for (size_t i = 0; i < m->events.n && r->out.events.n < (size_t)r->in.events.limit; i++) {
        struct mem_event *e = &m->events.v[i];
        struct store_logged *to = &r->out.events.v[r->out.events.n];

        if (e->id <= r->in.events.after || (r->in.events.job && strcmp(e->job, r->in.events.job) != 0))
            continue;
        to->id = e->id;
        memcpy(to->job, e->job, UUID_SIZE);
        to->kind = xstrdup(e->kind);
        to->data = xstrdup(e->data);
        to->tenant = xstrdup(e->tenant);
        r->out.events.n++;
    }
    return STORE_OK;
}

static size_t doc_index(struct mem_store *m, const char *kind, const char *key)
{
    size_t i = 0;

    while (i < m->docs.n && (strcmp(m->docs.v[i].kind, kind) != 0 || strcmp(m->docs.v[i].key, key) != 0))
        i++;
    return i;
}

static void doc_fini(struct mem_doc *d)
{
    free(d->kind);
    free(d->key);
    bytes_unref(d->doc);
}

static enum store_status doc_put(struct mem_store *m, struct req *r)
{
    size_t i = doc_index(m, r->in.doc.kind, r->in.doc.key);

    if (i < m->docs.n) {
        doc_fini(&m->docs.v[i]);
        mem_drop(&m->docs, i);
    }
    if (r->in.doc.doc)
        mem_push(&m->docs,
                 (struct mem_doc){xstrdup(r->in.doc.kind), xstrdup(r->in.doc.key), bytes_ref(r->in.doc.doc)});
    return STORE_OK;
}

static enum store_status doc_get(struct mem_store *m, struct req *r)
{
    size_t i = doc_index(m, r->in.doc.kind, r->in.doc.key);

    if (i == m->docs.n)
        return STORE_NOT_FOUND;
    r->out.doc = bytes_ref(m->docs.v[i].doc);
    return STORE_OK;
}

static enum store_status blob_known(struct mem_store *m, struct req *r)
{
    return mem_blob_find(m, r->in.blob.hash) ? STORE_OK : STORE_NOT_FOUND;
}

enum store_status mem_execute(struct mem_store *m, struct req *r)
{
    static enum store_status (*const table[REQ_KINDS])(struct mem_store *, struct req *) = {
        [REQ_SUBMIT] = mem_submit,
        [REQ_STEP] = mem_step,
        [REQ_HIDE] = mem_hide,
        [REQ_STRAY_DONE] = stray_done,
        [REQ_INPUT_PUT] = mem_input_put,
        [REQ_USER_PUT] = mem_user_put,
        [REQ_USER_MOVE] = mem_user_move,
        [REQ_USER_REMOVE] = mem_user_remove,
        [REQ_BLOB_PIN] = mem_blob_pin,
        [REQ_BLOB_UNPIN] = mem_blob_unpin,
        [REQ_BLOB_COLLECT] = mem_blob_collect,
        [REQ_SERVER_PUT] = server_put,
        [REQ_SERVER_REMOVE] = server_remove,
        [REQ_DOC_PUT] = doc_put,
        [REQ_TRIM] = mem_trim,
        [REQ_GET] = mem_get,
        [REQ_LIST] = mem_list,
        [REQ_UNFINISHED] = mem_unfinished,
        [REQ_STRAYS] = strays,
        [REQ_OUTPUT_FIND] = mem_output_find,
        [REQ_INPUT_FIND] = mem_input_find,
        [REQ_INPUT_LIST] = mem_input_list,
        [REQ_ALIAS_FIND] = mem_alias_find,
        [REQ_USER_FIND] = mem_user_find,
        [REQ_USER_LIST] = mem_user_list,
        [REQ_BLOB_KNOWN] = blob_known,
        [REQ_SERVERS] = servers,
        [REQ_EVENTS] = events,
        [REQ_DOC_GET] = doc_get,
    };

    return table[r->kind](m, r);
}

/* --- given, committed, delivered --- */
static void mem_done(struct mem_store *m, struct req *r)
{
    list_push_back(&m->done, &r->link);
    m->n_done++;
}

static void mem_give(struct store_backend *b, struct req *r)
{
    struct mem_store *m = container_of(b, struct mem_store, base);

    if (REQ_IS_WRITE(r->kind)) {
        list_push_back(&m->given, &r->link);
        m->n_given++;
        m->stats.writes++;
        return;
    }
    m->stats.reads++;
    r->status = mem_execute(m, r);
    mem_done(m, r);
}

size_t store_mem_given(struct store *s)
{
    return mem_of(s)->n_given;
}

bool store_mem_commit(struct store *s)
{
    struct mem_store *m = mem_of(s);
    struct req *r = list_first(&m->given, struct req, link);

    if (r == NULL)
        return false;
    list_remove(&r->link);
    m->n_given--;
    if (m->killed) {
        r->status = STORE_FAILED;
    } else if (m->fail_n > 0) {
        m->fail_n--;
        r->status = m->fail;
        m->stats.full = m->fail == STORE_FULL;
        m->stats.trouble = m->stats.full ? "no space left" : "write failed";
        m->stats.failures++;
    } else {
        r->status = mem_execute(m, r);
        m->stats.full = false;
        m->stats.trouble = NULL;
        m->stats.commits++;
        if (r->status == STORE_FAILED)
            m->stats.failures++;
        req_unlink(r);
    }
    mem_done(m, r);
    return true;
}

size_t store_mem_pending(struct store *s)
{
    return mem_of(s)->n_done;
}

void store_mem_deliver(struct store *s, size_t which)
{
    struct mem_store *m = mem_of(s);
    struct list *at = m->done.next;
    struct req *r;

    assert(which < m->n_done);
    while (which-- > 0)
        at = at->next;
    r = list_entry(at, struct req, link);
    list_remove(&r->link);
    m->n_done--;
    req_deliver(r);
    req_drop(r);
}

void store_mem_settle(struct store *s)
{
    struct mem_store *m = mem_of(s);

    while (m->n_given || m->n_done) {
        if (m->n_done)
            store_mem_deliver(s, 0);
        else
            store_mem_commit(s);
    }
}

static void drop_all(struct list *l)
{
    list_for_each_safe(it, l) {
        struct req *r = list_entry(it, struct req, link);

        list_remove(it);
        req_drop(r);
    }
}

void store_mem_crash(struct store *s)
{
    struct mem_store *m = mem_of(s);

    drop_all(&m->given);
    drop_all(&m->done);
    m->n_given = m->n_done = 0;
    for (size_t i = 0; i < m->pins.n; i++)
        m->pins.v[i].blob->pins--;
    m->pins.n = 0;
    m->fail_n = 0;
    m->killed = false;
    if (PLANTED(EVENT_ID_REUSED))
        m->last_event = m->events.n ? m->events.v[m->events.n - 1].id : 0;
}

void store_mem_kill(struct store *s)
{
    struct mem_store *m = mem_of(s);

    m->killed = true;
    list_for_each(it, &m->done) {
        struct req *r = list_entry(it, struct req, link);

        req_reset(r);
        r->status = STORE_FAILED;
    }
}

static void late_give(struct store_backend *b, struct req *r)
{
    list_push_back(&container_of(b, struct mem_store, late_base)->late, &r->link);
}

void store_mem_keep_late(struct store *s)
{
    struct mem_store *m = mem_of(s);

    list_for_each(it, &m->given) {
        struct req *r = list_entry(it, struct req, link);

        if (r->kind == REQ_STEP && JOB_STATE_LIVE(r->in.step.state) && r->in.step.stray == NULL)
            req_give_step(&m->late_base.store, &r->in.step, NULL, NULL);
    }
}

bool store_mem_commit_late(struct store *s)
{
    struct mem_store *m = mem_of(s);
    struct req *r = list_first(&m->late, struct req, link);

    if (r == NULL)
        return false;
    list_remove(&r->link);
    mem_execute(m, r);
    req_drop(r);
    return true;
}

void store_mem_fail(struct store *s, enum store_status st, unsigned n)
{
    struct mem_store *m = mem_of(s);

    m->fail = st;
    m->fail_n = n;
}

static void mem_stats(struct store *s, struct store_stats *out)
{
    struct mem_store *m = mem_of(s);
    struct mem_blob *b, *next;

    *out = m->stats;
    out->finished = (int64_t)m->finished.n;
    for (size_t i = 0; i < m->finished.n; i++)
        out->ended[m->finished.v[i]->rec->s.state]++;
    HASH_ITER(hh, m->blobs, b, next) {
        out->blobs++;
        out->blob_bytes += b->size;
    }
}

static void mem_close(struct store *s)
{
    struct mem_store *m = mem_of(s);
    struct mem_blob *b, *next_blob;
    struct mem_job *j, *next_job;

    store_mem_settle(s);
    drop_all(&m->late);
    HASH_CLEAR(hh_key, m->keys);
    HASH_ITER(hh, m->jobs, j, next_job) {
        HASH_DELETE(hh, m->jobs, j);
        mem_job_free(j);
    }
    HASH_ITER(hh, m->blobs, b, next_blob) {
        HASH_DELETE(hh, m->blobs, b);
        free(b);
    }
    for (size_t i = 0; i < m->events.n; i++)
        mem_event_free(&m->events.v[i]);
    for (size_t i = 0; i < m->files.n; i++)
        mem_file_free(&m->files.v[i]);
    for (size_t i = 0; i < m->user.n; i++)
        mem_user_free(&m->user.v[i]);
    for (size_t i = 0; i < m->docs.n; i++)
        doc_fini(&m->docs.v[i]);
    for (size_t i = 0; i < m->strays.n; i++)
        free(m->strays.v[i].server);
    for (size_t i = 0; i < m->servers.n; i++)
        server_fini(&m->servers.v[i]);
    free(m->order.v);
    free(m->finished.v);
    free(m->pins.v);
    free(m->events.v);
    free(m->files.v);
    free(m->user.v);
    free(m->docs.v);
    free(m->strays.v);
    free(m->servers.v);
    free(m);
}

struct store *store_mem_new(void)
{
    static const struct store_ops ops = {STORE_REQUEST_OPS, .close = mem_close, .stats = mem_stats};
    struct mem_store *m = xcalloc(1, sizeof(*m));

    m->base.store.ops = &ops;
    m->base.give = mem_give;
    list_init(&m->given);
    list_init(&m->done);
    m->late_base.give = late_give;
    list_init(&m->late);
    return &m->base.store;
}
