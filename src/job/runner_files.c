/* The files an attempt has made: fetched from the bound server as soon as a node has said so, stored, and
 * kept pinned until they stand in a record. */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/plant.h"
#include "comfy/names.h"
#include "job/runner_priv.h"

#define FETCH_AT_ONCE 4    /* downloads of one attempt under way */
#define FETCH_AGAIN_MS 250 /* doubled each time */
#define FETCH_AGAIN_MOST_MS 5000

static void file_free(struct runner *r, struct attempt_file *f)
{
    list_remove(&f->link);
    if (f->pin && !r->stopped) /* all pins fall when the store is opened again */
        fleet_unpin(r->env.fleet, f->pin);
    free(f->why);
    free(f->node_id);
    free(f->key);
    free(f->filename);
    free(f->subfolder);
    free(f->type);
    free(f->mime);
    bytes_unref(f->bytes);
    free(f);
}

void files_forget(struct attempt *a)
{
    list_for_each_safe(it, &a->files)
        file_free(a->job->r, list_entry(it, struct attempt_file, link));
}

struct attempt_file *file_find(struct attempt *a, const char *type, const char *subfolder,
                               const char *filename)
{
    list_for_each(it, &a->files) {
        struct attempt_file *f = list_entry(it, struct attempt_file, link);

        if (strcmp(f->filename, filename) == 0 && strcmp(f->subfolder, subfolder) == 0 &&
            strcmp(f->type, type) == 0)
            return f;
    }
    return NULL;
}

struct attempt_file *file_add(struct attempt *a, const char *node_id, const char *key, const char *type,
                              const char *subfolder, const char *filename)
{
    struct attempt_file *f = xcalloc(1, sizeof(*f));

    f->serial = ++a->serials;
    f->node_id = xstrdup(node_id);
    f->key = xstrdup(key);
    f->type = xstrdup(type);
    f->subfolder = xstrdup(subfolder);
    f->filename = xstrdup(filename);
    list_push_back(&a->files, &f->link);
    return f;
}

/* --- fetching --- */

/* A file is named by its attempt and serial: both may be gone when the bytes are there. */
struct fetch {
    unsigned serial;
};

static struct attempt_file *fetch_file(const struct call *c, struct attempt **a)
{
    const struct fetch *x = c->extra;

    HASH_FIND_STR(c->r->by_attempt, c->upstream_id, *a);
    if (*a == NULL)
        return NULL;
    list_for_each(it, &(*a)->files) {
        struct attempt_file *f = list_entry(it, struct attempt_file, link);

        if (f->serial == x->serial)
            return f;
    }
    return NULL;
}

static void fetch_failed(struct attempt *a, struct attempt_file *f, const struct fleet_fetched *res)
{
    struct runner *r = a->job->r;
    int64_t now = runner_mono(r), wait = FETCH_AGAIN_MS;
    bool disk = res->end == FLEET_DISK_FULL || res->end == FLEET_DISK_FAILED;

    free(f->why);
    f->why = xasprintf("%s: %s", f->filename, res->why ? res->why : "could not be read");
    log_warn(LOG_S("job", a->job->s.id), LOG_S("event", "output_not_read"), LOG_S("server", a->job->s.server),
             LOG_S("file", f->filename), LOG_I("try", f->tries), LOG_I("status", res->status),
             LOG_S("reason", res->why));
    if (disk || now - f->since >= r->cfg.output_ms) {
        f->state = FILE_FAILED;
        f->code = disk ? JOB_STORAGE_FAILED : JOB_OUTPUT_UNAVAILABLE;
        return;
    }
    for (int i = 1; i < f->tries && wait < FETCH_AGAIN_MOST_MS; i++)
        wait *= 2;
    f->state = FILE_KNOWN;
    f->again_at = now + wait;
}

static void on_fetched(const struct fleet_fetched *res, void *arg)
{
    struct call *c = arg;
    struct runner *r = c->r;
    struct attempt *a;
    struct attempt_file *f = fetch_file(c, &a);

    call_free(c);
    if (f == NULL || r->stopped) {
        if (res->end == FLEET_FETCHED && !r->stopped)
            fleet_unpin(r->env.fleet, res->pin);
        runner_settle(r);
        return;
    }
    a->fetching--;
    if (res->end == FLEET_FETCHED) {
        char hex[BLAKE3_HEX];

        f->state = FILE_STORED;
        memcpy(f->blake3, res->blake3, BLAKE3_LEN);
        f->size = res->size;
        f->pin = res->pin;
        if (PLANTED(BLOB_UNPINNED))
            fleet_unpin(r->env.fleet, res->pin);
        free(f->mime);
        f->mime = xstrdup_null(res->mime);
        blake3_hex(f->blake3, hex);
        log_info(LOG_S("job", a->job->s.id), LOG_S("event", "output_stored"), LOG_S("node", f->node_id),
                 LOG_S("file", f->filename), LOG_I("bytes", f->size), LOG_S("blake3", hex));
    } else {
        fetch_failed(a, f, res);
    }
    files_pump(a);
    runner_settle(r);
}

static void fetch_start(struct attempt *a, struct attempt_file *f)
{
    struct runner *r = a->job->r;
    struct call *c = call_new(a->job);
    struct fetch *x = xcalloc(1, sizeof(*x));

    x->serial = f->serial;
    c->extra = x;
    f->state = FILE_FETCHING;
    f->again_at = 0;
    if (f->tries++ == 0)
        f->since = runner_mono(r);
    a->fetching++;
    if (f->bytes) {
        fleet_keep(r->env.fleet, f->bytes, name_mime(f->filename, strlen(f->filename)), on_fetched, c);
    } else {
        struct fleet_file in = {a->job->s.server, f->filename,  f->subfolder,
                                f->type,          a->job->s.id, a->upstream_id};

        fleet_fetch(r->env.fleet, &in, on_fetched, c);
    }
}

/* Every listed file is stored or has failed for good: say so, once. */
static void conclude(struct attempt *a)
{
    struct job_event ev = {.kind = JOB_EV_COLLECTED, .message = a->error_message};

    list_for_each(it, &a->files) {
        struct attempt_file *f = list_entry(it, struct attempt_file, link);

        if (f->listed && (f->state == FILE_KNOWN || f->state == FILE_FETCHING))
            return;
        if (f->listed && f->state == FILE_FAILED && !a->failed && ev.kind == JOB_EV_COLLECTED) {
            ev.kind = JOB_EV_COLLECT_FAILED;
            ev.code = f->code;
            ev.message = f->why;
        }
    }
    if (!a->failed && ev.kind == JOB_EV_COLLECTED && a->socket_gap && a->n_socket_nodes) {
        ev = (struct job_event){
            .kind = JOB_EV_COLLECT_FAILED,
            .code = JOB_OUTPUT_UNAVAILABLE,
            .message = "pictures that exist only on the socket may have been missed: it dropped"};
    } else if (!a->failed && ev.kind == JOB_EV_COLLECTED && a->unrecognised) {
        ev = (struct job_event){.kind = JOB_EV_COLLECT_FAILED,
                                .code = JOB_OUTPUT_UNRECOGNISED,
                                .message = "there are outputs, but none in a shape that can be stored"};
    }
    a->collecting = false;
    runner_feed(a->job, &ev);
}

void files_pump(struct attempt *a)
{
    int64_t now = runner_mono(a->job->r), again = 0;

    list_for_each(it, &a->files) {
        struct attempt_file *f = list_entry(it, struct attempt_file, link);

        if (f->state != FILE_KNOWN)
            continue;
        if (f->again_at > now) {
            if (again == 0 || f->again_at < again)
                again = f->again_at;
        } else if (a->fetching < FETCH_AT_ONCE) {
            fetch_start(a, f);
        }
    }
    runner_set_files_wake(a->job, again);
    if (a->collecting)
        conclude(a);
}

/* --- what others ask --- */

struct job_output *files_outputs(struct attempt *a, size_t *n)
{
    struct job_output *v = NULL;

    *n = 0;
    list_for_each(it, &a->files) {
        struct attempt_file *f = list_entry(it, struct attempt_file, link);
        struct job_output *o;

        if (!f->listed || f->state != FILE_STORED)
            continue;
        v = xrealloc(v, (*n + 1) * sizeof(*v));
        o = &v[*n];
        *o = (struct job_output){.n = (int)*n,
                                 .attempt = a->job->s.attempt,
                                 .node_id = f->node_id,
                                 .kind = (char *)f->kind,
                                 .key = f->key,
                                 .filename = f->filename,
                                 .subfolder = f->subfolder,
                                 .type = f->type,
                                 .mime = f->mime,
                                 .size = f->size};
        memcpy(o->blake3, f->blake3, BLAKE3_LEN);
        ++*n;
    }
    return v;
}

static struct attempt_file *live_file(struct runner *r, const char *id, int attempt, const char *type,
                                      const char *subfolder, const char *filename)
{
    struct runner_job *j = runner_get(r, id);

    if (j == NULL || j->a == NULL || (attempt && attempt != j->s.attempt))
        return NULL;
    return file_find(j->a, type, subfolder, filename);
}

bool runner_stored_file(struct runner *r, const char *id, int attempt, const char *type,
                        const char *subfolder, const char *filename, uint8_t blake3[BLAKE3_LEN],
                        int64_t *size, const char **mime)
{
    struct attempt_file *f = live_file(r, id, attempt, type, subfolder, filename);

    if (f == NULL || f->state != FILE_STORED)
        return false;
    memcpy(blake3, f->blake3, BLAKE3_LEN);
    *size = f->size;
    *mime = f->mime;
    return true;
}

bool runner_names_file(struct runner *r, const char *id, int attempt, const char *type, const char *subfolder,
                       const char *filename)
{
    return live_file(r, id, attempt, type, subfolder, filename) != NULL;
}
