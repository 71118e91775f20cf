#include "api/inputs.h"

#include <stdlib.h>
#include <string.h>

#include "api/api_priv.h"
#include "api/file_find.h"
#include "comfy/names.h"

#define NAMES_MAX 1024 /* names that are looked up for one prompt */
#define NAME_LEN_MAX 400

struct candidate {
    struct inputs *in;
    char *name;
    bool found;
    uint8_t blake3[BLAKE3_LEN];
};

struct inputs {
    struct api *a;
    char *tenant;
    struct candidate **v;
    size_t n, open;
    bool failed;
    struct job_input *found;
    size_t n_found;
    void (*cb)(bool ok, void *arg);
    void *arg;
    struct task done;
};

static void on_done(void *arg)
{
    struct inputs *in = arg;

    for (size_t i = 0; i < in->n; i++) {
        if (!in->v[i]->found)
            continue;
        in->found = xrealloc(in->found, (in->n_found + 1) * sizeof(*in->found));
        in->found[in->n_found].name = in->v[i]->name;
        memcpy(in->found[in->n_found++].blake3, in->v[i]->blake3, BLAKE3_LEN);
    }
    in->cb(!in->failed, in->arg);
}

static void settle(struct inputs *in)
{
    if (in->open == 0)
        loop_defer(in->a->d.loop, &in->done);
}

static void on_file(const struct store_file *f, void *arg)
{
    struct candidate *c = arg;

    if (f->status == STORE_OK) {
        c->found = true;
        memcpy(c->blake3, f->blake3, BLAKE3_LEN);
    } else if (f->status != STORE_NOT_FOUND) {
        c->in->failed = true;
    }
    c->in->open--;
    settle(c->in);
}

/* Not by a virtual name: an upload, the name under which one was staged, the only output of that name. */
static void on_named(const struct file_found *f, void *arg)
{
    struct candidate *c = arg;

    if (f->where == FILE_STORED) {
        c->found = true;
        memcpy(c->blake3, f->blake3, BLAKE3_LEN);
    } else if (f->where == FILE_TROUBLE) {
        c->in->failed = true;
    }
    c->in->open--;
    settle(c->in);
}

/* Names a file by its looks: a safe path, and either a virtual folder or an extension. */
static bool looks_like_file(const char *s, size_t n, struct name_ref *ref)
{
    const char *dot;

    if (n == 0 || n > NAME_LEN_MAX || !name_ref_parse(s, n, ref))
        return false;
    dot = memrchr(ref->file, '.', ref->file_n);
    return ref->is_virtual || (dot && dot > ref->file && dot + 1 < ref->file + ref->file_n);
}

static void add(struct inputs *in, const char *s, size_t n)
{
    struct candidate *c;

    for (size_t i = 0; i < in->n; i++)
        if (strlen(in->v[i]->name) == n && memcmp(in->v[i]->name, s, n) == 0)
            return;
    c = xcalloc(1, sizeof(*c));
    c->in = in;
    c->name = xstrndup(s, n);
    in->v = xrealloc(in->v, (in->n + 1) * sizeof(struct candidate *));
    in->v[in->n++] = c;
}

static bool on_value(void *arg, const struct graph_value *v)
{
    struct inputs *in = arg;
    struct buf b = BUF_INIT;
    struct name_ref ref;

    if (json_type(v->value) == JSON_STRING && v->value.n <= NAME_LEN_MAX + 2 && in->n < NAMES_MAX &&
        json_str(v->value, &b) == 0 && looks_like_file(buf_str(&b), b.len, &ref))
        add(in, buf_str(&b), b.len);
    buf_free(&b);
    return false;
}

static void look_up(struct inputs *in, struct candidate *c)
{
    struct name_ref ref;
    char *file, *folder;

    name_ref_parse(c->name, strlen(c->name), &ref);
    file = xstrndup(ref.file, ref.file_n);
    if (ref.is_virtual) {
        struct store_output_key k = {.tenant = in->tenant,
                                     .job = ref.virt.job,
                                     .attempt = (int)ref.virt.attempt,
                                     .type = ref.type == NAME_INPUT ? "output" : name_type_str(ref.type),
                                     .filename = file};

        folder = xstrndup(ref.virt.subfolder, ref.virt.subfolder_n);
        k.subfolder = folder;
        store_output_find(in->a->d.store, &k, on_file, c);
    } else {
        folder = xstrndup(ref.folder, ref.folder_n);
        file_find_name(in->a, in->tenant, ref.type, folder, file, true, on_named, c);
    }
    free(file);
    free(folder);
}

struct inputs *inputs_find(struct api *a, const char *tenant, const struct graph *g,
                           void (*cb)(bool ok, void *arg), void *arg)
{
    struct inputs *in = xcalloc(1, sizeof(*in));

    in->a = a;
    in->tenant = xstrdup(tenant);
    in->cb = cb;
    in->arg = arg;
    task_init(&in->done, on_done, in);
    graph_walk(g, on_value, in);
    in->open = in->n;
    for (size_t i = 0; i < in->n; i++)
        look_up(in, in->v[i]);
    settle(in);
    return in;
}

const struct job_input *inputs_list(const struct inputs *in)
{
    return in->found;
}

size_t inputs_count(const struct inputs *in)
{
    return in->n_found;
}

void inputs_free(struct inputs **inp)
{
    struct inputs *in = *inp;

    if (in == NULL)
        return;
    for (size_t i = 0; i < in->n; i++) {
        free(in->v[i]->name);
        free(in->v[i]);
    }
    free(in->v);
    free(in->found);
    free(in->tenant);
    free(in);
    *inp = NULL;
}
