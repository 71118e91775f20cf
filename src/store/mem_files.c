#include <stdlib.h>
#include <string.h>

#include "store/mem_priv.h"

struct mem_blob *mem_blob_find(struct mem_store *m, const uint8_t hash[BLAKE3_LEN])
{
    struct mem_blob *b;

    HASH_FIND(hh, m->blobs, hash, BLAKE3_LEN, b);
    return b;
}

void mem_blob_ref(struct mem_store *m, const uint8_t hash[BLAKE3_LEN])
{
    struct mem_blob *b = mem_blob_find(m, hash);

    b->refs++;
    b->doomed_at = 0;
}

void mem_blob_unref(struct mem_store *m, const uint8_t hash[BLAKE3_LEN])
{
    mem_blob_find(m, hash)->refs--;
}

static struct store_file *one_file(struct req *r)
{
    r->out.files.v = xcalloc(1, sizeof(struct store_file));
    r->out.files.n = 1;
    return r->out.files.v;
}

/* The output of j that key names: of the attempt asked for, else of the last that has it; the last of a name.
 */
static const struct job_output *output_of(const struct mem_job *j, const struct store_output_key *k)
{
    const struct job_output *found = NULL;

    for (size_t i = 0; j->stored && i < j->rec->n_outputs; i++) {
        const struct job_output *o = &j->rec->outputs[i];

        if ((k->attempt && o->attempt != k->attempt) || strcmp(o->filename, k->filename) != 0 ||
            strcmp(o->subfolder, k->subfolder) != 0 || strcmp(o->type, k->type) != 0)
            continue;
        if (found == NULL || o->attempt >= found->attempt)
            found = o;
    }
    return found;
}

static void output_fill(struct store_file *f, const struct mem_job *j, const struct job_output *o)
{
    memcpy(f->blake3, o->blake3, BLAKE3_LEN);
    f->size = o->size;
    f->mime = xstrdup_null(o->mime);
    f->name = xstrdup(o->filename);
    f->subfolder = xstrdup(o->subfolder);
    f->type = xstrdup(o->type);
    f->job = xstrdup(j->rec->s.id);
    f->server = xstrdup_null(j->rec->s.server);
    for (size_t i = 0; i < j->rec->n_attempts; i++) {
        if (j->rec->attempts[i].n == o->attempt) {
            free((char *)f->server);
            f->server = xstrdup_null(j->rec->attempts[i].server);
        }
    }
    f->at = j->outputs_at;
}

enum store_status mem_output_find(struct mem_store *m, struct req *r)
{
    const struct store_output_key *k = &r->in.output;
    const struct mem_job *at = NULL;
    const struct job_output *found = NULL;

    for (size_t i = 0; i < m->order.n; i++) {
        const struct mem_job *j = m->order.v[i];
        const struct job_output *o;

        if ((k->tenant && strcmp(j->rec->s.tenant, k->tenant) != 0) ||
            (k->job && strcmp(j->rec->s.id, k->job) != 0))
            continue;
        o = output_of(j, k);
        if (o == NULL)
            continue;
        if (found && memcmp(found->blake3, o->blake3, BLAKE3_LEN) != 0)
            return STORE_CONFLICT;
        found = o;
        at = j;
    }
    if (found == NULL)
        return STORE_NOT_FOUND;
    output_fill(one_file(r), at, found);
    return STORE_OK;
}

static void input_fill(struct store_file *f, const struct mem_file *from)
{
    f->status = STORE_OK;
    memcpy(f->blake3, from->blob->hash, BLAKE3_LEN);
    f->size = from->blob->size;
    f->mime = xstrdup_null(from->mime);
    f->name = xstrdup(from->name);
    f->subfolder = xstrdup(from->subfolder);
    f->type = xstrdup(from->type);
    f->at = from->at;
}

static struct mem_file *file_find(struct mem_store *m, const char *tenant, const char *type,
                                  const char *subfolder, const char *name)
{
    for (size_t i = 0; i < m->files.n; i++) {
        struct mem_file *f = &m->files.v[i];

        if (strcmp(f->tenant, tenant) == 0 && strcmp(f->type, type) == 0 &&
            strcmp(f->subfolder, subfolder) == 0 && strcmp(f->name, name) == 0)
            return f;
    }
    return NULL;
}

/* It is not stored: only what it would be called. */
static void input_would_be(struct req *r, const struct store_input *in, const char *name)
{
    struct store_file *f = one_file(r);

    f->name = xstrdup(name);
    f->subfolder = xstrdup(in->subfolder);
    f->type = xstrdup(in->type);
}

enum store_status mem_input_put(struct mem_store *m, struct req *r)
{
    const struct store_input *in = &r->in.input_put;
    struct mem_blob *blob = in->only_name ? NULL : mem_blob_find(m, in->blake3);
    struct mem_blob *alike = in->alike ? mem_blob_find(m, in->alike) : blob;
    struct buf name = BUF_INIT;
    struct mem_file *f;

    if (blob == NULL && !in->only_name)
        return STORE_NOT_FOUND;
    for (unsigned i = 0;; i++) {
        req_input_name(&name, in->name, i);
        f = file_find(m, in->tenant, in->type, in->subfolder, name.data);
        if (f == NULL || in->overwrite || (alike && f->blob == alike))
            break;
    }
    if (in->only_name || (f && f->blob == alike && !in->overwrite)) {
        if (f)
            input_fill(one_file(r), f);
        else
            input_would_be(r, in, name.data);
        buf_free(&name);
        return STORE_OK;
    }
    if (f == NULL) {
        mem_push(&m->files, (struct mem_file){.tenant = xstrdup(in->tenant),
                                              .type = xstrdup(in->type),
                                              .subfolder = xstrdup(in->subfolder),
                                              .name = xstrdup(name.data)});
        f = &m->files.v[m->files.n - 1];
    }
    if (f->blob != blob) {
        if (f->blob)
            f->blob->refs--;
        mem_blob_ref(m, in->blake3);
        f->blob = blob;
        f->at = in->at;
        free(f->mime);
        f->mime = xstrdup_null(in->mime);
    }
    buf_free(&name);
    input_fill(one_file(r), f);
    return STORE_OK;
}

enum store_status mem_input_find(struct mem_store *m, struct req *r)
{
    struct mem_file *f =
        file_find(m, r->in.input.tenant, r->in.input.type, r->in.input.subfolder, r->in.input.name);

    if (f == NULL)
        return STORE_NOT_FOUND;
    input_fill(one_file(r), f);
    return STORE_OK;
}

static int file_order(const void *va, const void *vb)
{
    const struct store_file *a = va, *b = vb;
    int c = strcmp(a->type, b->type);

    if (c == 0)
        c = strcmp(a->subfolder, b->subfolder);
    return c ? c : strcmp(a->name, b->name);
}

enum store_status mem_input_list(struct mem_store *m, struct req *r)
{
    const char *tenant = r->in.input.tenant, *type = r->in.input.type;

    r->out.files.v = xcalloc(m->files.n, sizeof(struct store_file));
    for (size_t i = 0; i < m->files.n; i++) {
        struct mem_file *f = &m->files.v[i];

        if ((tenant == NULL || strcmp(f->tenant, tenant) == 0) &&
            (type == NULL || strcmp(f->type, type) == 0))
            input_fill(&r->out.files.v[r->out.files.n++], f);
    }
    qsort(r->out.files.v, r->out.files.n, sizeof(struct store_file), file_order);
    return STORE_OK;
}

void mem_file_free(struct mem_file *f)
{
    free(f->tenant);
    free(f->type);
    free(f->subfolder);
    free(f->name);
    free(f->mime);
}

enum store_status mem_blob_pin(struct mem_store *m, struct req *r)
{
    struct mem_blob *b = mem_blob_find(m, r->in.blob.hash);

    r->out.pin.known = b != NULL;
    if (b == NULL) {
        b = xcalloc(1, sizeof(*b));
        memcpy(b->hash, r->in.blob.hash, BLAKE3_LEN);
        b->size = r->in.blob.size;
        HASH_ADD(hh, m->blobs, hash, BLAKE3_LEN, b);
    }
    b->pins++;
    b->doomed_at = 0;
    mem_push(&m->pins, (struct mem_pin){++m->last_pin, b});
    r->out.pin.pin = m->last_pin;
    return STORE_OK;
}

enum store_status mem_blob_unpin(struct mem_store *m, struct req *r)
{
    for (size_t i = 0; i < m->pins.n; i++) {
        if (m->pins.v[i].id == r->in.unpin) {
            m->pins.v[i].blob->pins--;
            mem_drop(&m->pins, i);
            return STORE_OK;
        }
    }
    return STORE_NOT_FOUND;
}

enum store_status mem_blob_collect(struct mem_store *m, struct req *r)
{
    struct store_collected *c = &r->out.collect.r;
    int64_t now = r->in.collect.now;
    unsigned max = r->in.collect.max > 0 ? (unsigned)r->in.collect.max : 0;
    struct mem_blob *b, *next;

    r->out.collect.unlink = xcalloc(max, BLAKE3_LEN);
    HASH_ITER(hh, m->blobs, b, next) {
        if (b->refs || b->pins || b->doomed_at)
            continue;
        if (c->doomed == max) {
            c->more = true;
            break;
        }
        b->doomed_at = now ? now : 1;
        c->doomed++;
    }
    HASH_ITER(hh, m->blobs, b, next) {
        if (b->refs || b->pins || b->doomed_at == 0 || b->doomed_at > now - r->in.collect.grace_ms)
            continue;
        if (c->removed == max) {
            c->more = true;
            break;
        }
        memcpy(r->out.collect.unlink[r->out.collect.n_unlink++], b->hash, BLAKE3_LEN);
        c->removed++;
        HASH_DELETE(hh, m->blobs, b);
        free(b);
    }
    return STORE_OK;
}

static int64_t kept_bytes(struct mem_store *m)
{
    struct mem_blob *b, *next;
    int64_t n = 0;

    HASH_ITER(hh, m->blobs, b, next)
        if (b->refs || b->pins)
            n += b->size;
    return n;
}

static bool old_enough(int64_t at, int64_t keep_ms, int64_t now)
{
    return keep_ms > 0 && at <= now - keep_ms;
}

static struct mem_job *oldest_stored(struct mem_store *m)
{
    for (size_t i = 0; i < m->finished.n; i++)
        if (m->finished.v[i]->stored)
            return m->finished.v[i];
    return NULL;
}

enum store_status mem_trim(struct mem_store *m, struct req *r)
{
    const struct store_keep *k = &r->in.trim;
    struct store_trimmed *t = &r->out.trim;
    int left = k->max_rows;
    struct mem_job *j;

    while (left > 0 && m->finished.n &&
           (old_enough(m->finished.v[0]->rec->s.finished_at, k->finished_ms, k->now) ||
            (k->count > 0 && (int64_t)m->finished.n > k->count))) {
        left -= 1 + (int)m->finished.v[0]->rec->n_outputs;
        mem_job_remove(m, m->finished.v[0]);
        t->jobs++;
    }
    while (left > 0 && k->size > 0 && kept_bytes(m) > k->size && (j = oldest_stored(m))) {
        left -= 1 + (int)j->rec->n_outputs;
        mem_job_remove(m, j);
        t->jobs++;
    }
    while (left > 0 && (j = oldest_stored(m)) && old_enough(j->rec->s.finished_at, k->outputs_ms, k->now)) {
        mem_outputs_release(m, j);
        t->outputs += (unsigned)j->rec->n_outputs;
        left -= 1 + (int)j->rec->n_outputs;
    }
    while (left > 0 && m->events.n && old_enough(m->events.v[0].at, k->events_ms, k->now)) {
        mem_event_free(&m->events.v[0]);
        mem_drop(&m->events, 0);
        t->events++;
        left--;
    }
    t->more = left <= 0;
    return STORE_OK;
}
