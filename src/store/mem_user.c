#include <stdlib.h>
#include <string.h>

#include "store/mem_priv.h"

static struct mem_user_file *file_at(struct mem_store *m, const char *tenant, const char *area,
                                     const char *path)
{
    for (size_t i = 0; i < m->user.n; i++) {
        struct mem_user_file *f = &m->user.v[i];

        if (strcmp(f->tenant, tenant) == 0 && strcmp(f->area, area) == 0 && strcmp(f->path, path) == 0)
            return f;
    }
    return NULL;
}

static bool is_in(const struct mem_user_file *f, const char *tenant, const char *area, const char *folder)
{
    return strcmp(f->tenant, tenant) == 0 && strcmp(f->area, area) == 0 &&
           (folder[0] == '\0' || store_user_is_below(f->path, folder));
}

static bool is_folder(struct mem_store *m, const char *tenant, const char *area, const char *path)
{
    for (size_t i = 0; i < m->user.n; i++)
        if (is_in(&m->user.v[i], tenant, area, path))
            return true;
    return false;
}

static bool leads_through_file(struct mem_store *m, const char *tenant, const char *area, const char *path)
{
    for (size_t i = 0; i < m->user.n; i++) {
        struct mem_user_file *f = &m->user.v[i];

        if (strcmp(f->tenant, tenant) == 0 && strcmp(f->area, area) == 0 &&
            store_user_is_below(path, f->path))
            return true;
    }
    return false;
}

static void fill(struct store_file *to, const struct mem_user_file *f)
{
    *to = (struct store_file){
        .status = STORE_OK, .size = f->blob->size, .at = f->modified, .created = f->created};
    memcpy(to->blake3, f->blob->hash, BLAKE3_LEN);
    to->name = xstrdup(f->path);
}

static void fill_one(struct req *r, const struct mem_user_file *f)
{
    r->out.files.v = xcalloc(1, sizeof(struct store_file));
    r->out.files.n = 1;
    fill(r->out.files.v, f);
}

void mem_user_free(struct mem_user_file *f)
{
    free(f->tenant);
    free(f->area);
    free(f->path);
}

static enum store_status put_allowed(struct mem_store *m, const struct store_user_put *in,
                                     const struct mem_user_file *there)
{
    int64_t n = 0;

    if (in->when == STORE_USER_NEW && (there || is_folder(m, in->tenant, in->area, in->path)))
        return STORE_EXISTS;
    if (in->when == STORE_USER_SAME &&
        (in->was == NULL ? there != NULL
                         : there == NULL || memcmp(there->blob->hash, in->was, BLAKE3_LEN) != 0))
        return STORE_LOST;
    if (there)
        return STORE_OK;
    if (is_folder(m, in->tenant, in->area, in->path) || leads_through_file(m, in->tenant, in->area, in->path))
        return STORE_CONFLICT;
    for (size_t i = 0; i < m->user.n; i++)
        n += is_in(&m->user.v[i], in->tenant, in->area, "");
    return in->files_max > 0 && n >= in->files_max ? STORE_LIMIT : STORE_OK;
}

enum store_status mem_user_put(struct mem_store *m, struct req *r)
{
    const struct store_user_put *in = &r->in.user_put;
    struct mem_blob *blob = mem_blob_find(m, in->blake3);
    struct mem_user_file *f = file_at(m, in->tenant, in->area, in->path);
    enum store_status st = blob ? put_allowed(m, in, f) : STORE_NOT_FOUND;

    if (st != STORE_OK)
        return st;
    if (f == NULL) {
        mem_push(&m->user, (struct mem_user_file){.tenant = xstrdup(in->tenant),
                                                  .area = xstrdup(in->area),
                                                  .path = xstrdup(in->path),
                                                  .created = in->at});
        f = &m->user.v[m->user.n - 1];
    }
    mem_blob_ref(m, in->blake3);
    if (f->blob)
        f->blob->refs--;
    f->blob = blob;
    f->modified = in->at;
    fill_one(r, f);
    return STORE_OK;
}

enum store_status mem_user_find(struct mem_store *m, struct req *r)
{
    struct mem_user_file *f = file_at(m, r->in.user.tenant, r->in.user.area, r->in.user.path);

    if (f == NULL)
        return is_folder(m, r->in.user.tenant, r->in.user.area, r->in.user.path) ? STORE_CONFLICT
                                                                                 : STORE_NOT_FOUND;
    fill_one(r, f);
    return STORE_OK;
}

static int by_path(const void *a, const void *b)
{
    return strcmp(((const struct store_file *)a)->name, ((const struct store_file *)b)->name);
}

enum store_status mem_user_list(struct mem_store *m, struct req *r)
{
    const char *tenant = r->in.user.tenant, *area = r->in.user.area, *path = r->in.user.path;

    r->out.files.v = xcalloc(m->user.n, sizeof(struct store_file));
    for (size_t i = 0; i < m->user.n; i++)
        if (is_in(&m->user.v[i], tenant, area, path))
            fill(&r->out.files.v[r->out.files.n++], &m->user.v[i]);
    qsort(r->out.files.v, r->out.files.n, sizeof(struct store_file), by_path);
    if (r->out.files.n || path[0] == '\0')
        return STORE_OK;
    return file_at(m, tenant, area, path) ? STORE_CONFLICT : STORE_NOT_FOUND;
}

static void remove_at(struct mem_store *m, struct mem_user_file *f)
{
    f->blob->refs--;
    mem_user_free(f);
    mem_drop(&m->user, (size_t)(f - m->user.v));
}

/* A file, or all that is below a folder. */
static void rename_all(struct mem_store *m, const char *tenant, const char *area, const char *from,
                       const char *to, bool folder)
{
    for (size_t i = 0; i < m->user.n; i++) {
        struct mem_user_file *f = &m->user.v[i];
        char *path;

        if (folder ? !is_in(f, tenant, area, from) : f != file_at(m, tenant, area, from))
            continue;
        path = xasprintf("%s%s", to, f->path + strlen(from));
        free(f->path);
        f->path = path;
        if (!folder)
            return;
    }
}

static bool fits(struct mem_store *m, const struct req *r, const char *to)
{
    size_t from_n = strlen(r->in.user.path), longest = from_n;

    for (size_t i = 0; i < m->user.n; i++)
        if (is_in(&m->user.v[i], r->in.user.tenant, r->in.user.area, r->in.user.path) &&
            strlen(m->user.v[i].path) > longest)
            longest = strlen(m->user.v[i].path);
    return longest - from_n + strlen(to) <= STORE_USER_PATH_MAX;
}

enum store_status mem_user_move(struct mem_store *m, struct req *r)
{
    const char *tenant = r->in.user.tenant, *area = r->in.user.area, *from = r->in.user.path,
               *to = r->in.user.to;
    struct mem_user_file *file = file_at(m, tenant, area, from), *there = file_at(m, tenant, area, to);
    bool folder = file == NULL && is_folder(m, tenant, area, from);
    bool to_folder = there == NULL && is_folder(m, tenant, area, to);
    enum store_status st = STORE_OK;
    char *dest;

    if (file == NULL && !folder)
        return STORE_NOT_FOUND;
    if ((there || to_folder) && !r->in.user.overwrite)
        return STORE_EXISTS;
    dest = store_user_move_to(from, to, to_folder);
    if (strcmp(from, dest) == 0 && file && !to_folder) {
        st = STORE_OK; /* where it is */
    } else if ((to_folder && (file_at(m, tenant, area, dest) || is_folder(m, tenant, area, dest))) ||
               (folder && there) || store_user_is_below(dest, from) ||
               leads_through_file(m, tenant, area, dest) || !fits(m, r, dest)) {
        st = STORE_CONFLICT;
    } else {
        if (there)
            remove_at(m, there);
        rename_all(m, tenant, area, from, dest, folder);
    }
    if (st == STORE_OK && !folder)
        fill_one(r, file_at(m, tenant, area, dest));
    else if (st == STORE_OK)
        req_only_name(r, dest);
    free(dest);
    return st;
}

enum store_status mem_user_remove(struct mem_store *m, struct req *r)
{
    struct mem_user_file *f = file_at(m, r->in.user.tenant, r->in.user.area, r->in.user.path);

    if (f == NULL)
        return is_folder(m, r->in.user.tenant, r->in.user.area, r->in.user.path) ? STORE_CONFLICT
                                                                                 : STORE_NOT_FOUND;
    remove_at(m, f);
    return STORE_OK;
}

/* --- bytes by the beginning of their hash --- */

static bool is_held_by(struct mem_store *m, const struct mem_blob *b, const char *tenant)
{
    for (size_t i = 0; i < m->files.n; i++)
        if (m->files.v[i].blob == b && strcmp(m->files.v[i].tenant, tenant) == 0)
            return true;
    for (size_t i = 0; i < m->order.n; i++) {
        const struct mem_job *j = m->order.v[i];
        const struct job_record *rec = j->rec;

        if (strcmp(rec->s.tenant, tenant) != 0)
            continue;
        for (size_t k = 0; k < rec->n_inputs; k++)
            if (memcmp(rec->inputs[k].blake3, b->hash, BLAKE3_LEN) == 0)
                return true;
        for (size_t k = 0; j->stored && k < rec->n_outputs; k++)
            if (memcmp(rec->outputs[k].blake3, b->hash, BLAKE3_LEN) == 0)
                return true;
    }
    return false;
}

enum store_status mem_alias_find(struct mem_store *m, struct req *r)
{
    uint8_t low[BLAKE3_LEN], high[BLAKE3_LEN];
    struct mem_blob *b, *next, *found = NULL;

    if (!req_hash_range(r->in.alias.hex, low, high))
        return STORE_NOT_FOUND;
    HASH_ITER(hh, m->blobs, b, next) {
        if (memcmp(b->hash, low, BLAKE3_LEN) < 0 || memcmp(b->hash, high, BLAKE3_LEN) > 0 ||
            !is_held_by(m, b, r->in.alias.tenant))
            continue;
        if (found)
            return STORE_NOT_FOUND;
        found = b;
    }
    if (found == NULL)
        return STORE_NOT_FOUND;
    r->out.files.v = xcalloc(1, sizeof(struct store_file));
    r->out.files.n = 1;
    memcpy(r->out.files.v->blake3, found->hash, BLAKE3_LEN);
    r->out.files.v->size = found->size;
    return STORE_OK;
}
