#include "api/file_find.h"

#include <stdlib.h>
#include <string.h>

#include "api/file_probe.h"

struct finding {
    struct api *a;
    struct task now; /* what was found at once */
    struct file_found found;
    char *server, *mime, *job;
    enum name_type type;
    char *tenant, *subfolder, *filename;
    bool is_virtual, ours;
    struct name_virtual v; /* points into subfolder */
    file_find_cb *cb;
    void *arg;
};

static void finding_end(struct finding *f)
{
    f->cb(&f->found, f->arg);
    free(f->server);
    free(f->mime);
    free(f->job);
    free(f->tenant);
    free(f->subfolder);
    free(f->filename);
    free(f);
}

static void finding_is(struct finding *f, enum file_where where)
{
    f->found.where = where;
    finding_end(f);
}

static void on_now(void *arg)
{
    finding_end(arg);
}

static void finding_stored(struct finding *f, const struct store_file *s)
{
    f->found.where = FILE_STORED;
    memcpy(f->found.blake3, s->blake3, BLAKE3_LEN);
    f->found.size = s->size;
    f->found.at = s->at ? s->at : f->a->d.clock->wall_ms(f->a->d.clock);
    f->found.mime = s->job ? s->mime : NULL; /* an upload: by its name */
    f->found.job = s->job;
    finding_end(f);
}

/* --- files that only a server has --- */

static void on_probed(enum probe_end end, const char *server, void *arg)
{
    struct finding *f = arg;

    if (end == PROBE_ONE) {
        f->found.server = f->server = xstrdup(server);
        f->found.subfolder = f->subfolder;
        f->found.probed = true;
        finding_is(f, FILE_ON_SERVER);
    } else {
        finding_is(f, end == PROBE_BUSY ? FILE_BUSY : FILE_NOWHERE);
    }
}

/* --- names without a job --- */

static void ask_servers(struct finding *f)
{
    if (f->ours || f->a->stopped)
        finding_is(f, FILE_NOWHERE);
    else
        probe_servers(f->a, name_type_str(f->type), f->subfolder, f->filename, on_probed, f);
}

static void on_plain_output(const struct store_file *s, void *arg)
{
    struct finding *f = arg;

    switch (s->status) {
    case STORE_OK: finding_stored(f, s); break;
    case STORE_NOT_FOUND: ask_servers(f); break;
    case STORE_CONFLICT: finding_is(f, FILE_NOWHERE); break; /* several have that name: which? */
    default: finding_is(f, FILE_TROUBLE);
    }
}

static void on_alias(const struct store_file *s, void *arg)
{
    struct finding *f = arg;

    switch (s->status) {
    case STORE_OK: finding_stored(f, s); break;
    case STORE_NOT_FOUND: ask_servers(f); break;
    default: finding_is(f, FILE_TROUBLE);
    }
}

static void on_upload(const struct store_file *s, void *arg)
{
    struct finding *f = arg;
    struct store_output_key k = {.tenant = f->tenant,
                                 .type = name_type_str(f->type),
                                 .subfolder = f->subfolder,
                                 .filename = f->filename};
    char hex[NAME_HASH_HEX + 1];

    if (s->status == STORE_OK)
        finding_stored(f, s);
    else if (s->status != STORE_NOT_FOUND || f->a->stopped)
        finding_is(f, FILE_TROUBLE);
    else if (f->type != NAME_INPUT)
        store_output_find(f->a->d.store, &k, on_plain_output, f);
    else if (f->subfolder[0] == '\0' && name_staged_parse(f->filename, strlen(f->filename), hex))
        store_alias_find(f->a->d.store, f->tenant, hex, on_alias, f);
    else
        ask_servers(f);
}

/* --- outputs by their virtual names --- */

static char *own_subfolder(const struct finding *f)
{
    return xstrndup(f->v.subfolder, f->v.subfolder_n);
}

/* Is it a name that the job has delivered, whose bytes are kept no longer? */
static void on_job(enum store_status st, struct job_record *rec, void *arg)
{
    struct finding *f = arg;
    bool expired = false;
    char *sub = own_subfolder(f);

    if (st == STORE_OK && strcmp(rec->s.tenant, f->tenant) == 0) {
        expired = (int)f->v.attempt < rec->s.attempt; /* what an abandoned attempt has made */
        for (size_t i = 0; i < rec->n_outputs && !expired; i++) {
            const struct job_output *o = &rec->outputs[i];

            expired = o->attempt == (int)f->v.attempt && strcmp(o->type, name_type_str(f->type)) == 0 &&
                      strcmp(o->subfolder, sub) == 0 && strcmp(o->filename, f->filename) == 0;
        }
    }
    job_record_free(&rec);
    free(sub);
    finding_is(f, expired ? FILE_EXPIRED : FILE_NOWHERE);
}

static void on_output(const struct store_file *s, void *arg)
{
    struct finding *f = arg;

    if (s->status == STORE_OK)
        finding_stored(f, s);
    else if (s->status == STORE_NOT_FOUND && !f->a->stopped)
        store_get(f->a->d.store, f->v.job, JOB_PART_OUTPUTS, on_job, f);
    else
        finding_is(f, s->status == STORE_NOT_FOUND ? FILE_NOWHERE : FILE_TROUBLE);
}

/* A file of a job that still lives: ours already, or the bound server's. */
static bool find_live(struct finding *f, const char *sub)
{
    const char *type = name_type_str(f->type), *mime;
    int attempt = (int)f->v.attempt;
    struct runner *r = f->a->runner;
    struct runner_job_view job;

    if (r == NULL || !runner_find(r, f->v.job, &job) || strcmp(job.s->tenant, f->tenant) != 0)
        return false;
    if (runner_stored_file(r, f->v.job, attempt, type, sub, f->filename, f->found.blake3, &f->found.size,
                           &mime)) {
        f->found.where = FILE_STORED;
        f->found.mime = f->mime = xstrdup_null(mime);
        f->found.job = f->job = xstrdup(f->v.job);
        f->found.at = f->a->d.clock->wall_ms(f->a->d.clock);
        return true;
    }
    if (f->ours || job.s->attempt != attempt || job.s->server == NULL ||
        !runner_names_file(r, f->v.job, attempt, type, sub, f->filename))
        return false;
    f->found.where = FILE_ON_SERVER;
    f->found.server = f->server = xstrdup(job.s->server);
    f->found.subfolder = f->v.subfolder; /* the rest of the text */
    return true;
}

static void find_virtual(struct finding *f)
{
    char *sub = own_subfolder(f);
    struct store_output_key k = {.tenant = f->tenant,
                                 .job = f->v.job,
                                 .attempt = (int)f->v.attempt,
                                 .type = name_type_str(f->type),
                                 .subfolder = sub,
                                 .filename = f->filename};

    if (find_live(f, sub))
        loop_defer(f->a->d.loop, &f->now);
    else
        store_output_find(f->a->d.store, &k, on_output, f);
    free(sub);
}

void file_find_name(struct api *a, const char *tenant, enum name_type type, const char *subfolder,
                    const char *filename, bool ours, file_find_cb *cb, void *arg)
{
    struct finding *f = xcalloc(1, sizeof(*f));

    f->a = a;
    f->type = type;
    f->ours = ours;
    f->tenant = xstrdup(tenant);
    f->subfolder = xstrdup(subfolder);
    f->filename = xstrdup(filename);
    f->cb = cb;
    f->arg = arg;
    task_init(&f->now, on_now, f);
    f->is_virtual = type != NAME_INPUT && name_virtual_parse(f->subfolder, strlen(f->subfolder), &f->v);
    if (f->is_virtual)
        find_virtual(f);
    else
        store_input_find(a->d.store, tenant, name_type_str(type), f->subfolder, f->filename, on_upload, f);
}
