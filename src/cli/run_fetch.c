/* Outputs: which there are, and their bytes. One at a time and in order, so that the names they get do not
 * depend on which came faster. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "cli/run_priv.h"
#include "comfy/names.h"

#define SILENCE_MS 60000
#define OUTPUTS_MOST 10000
#define TRIES_MOST 7 /* over about half a minute: a gateway may be starting anew */

/* ---- which ---- */

static struct run_output *add_output(struct run_job *j)
{
    j->outputs = xrealloc(j->outputs, (j->n_outputs + 1) * sizeof(j->outputs[0]));
    j->outputs[j->n_outputs] = (struct run_output){.n = (unsigned)j->n_outputs, .size = -1};
    return &j->outputs[j->n_outputs++];
}

static const char *ending_for(const char *kind)
{
    static const char *const endings[][2] = {{"text", "txt"},  {"json", "json"},  {"image", "png"},
                                             {"video", "mp4"}, {"audio", "flac"}, {"latent", "latent"}};

    for (size_t i = 0; kind && i < ARRAY_LEN(endings); i++)
        if (strcmp(kind, endings[i][0]) == 0)
            return endings[i][1];
    return "bin";
}

static void outputs_of_record(struct run_job *j)
{
    struct json_iter it = json_iter(json_get(j->record, "outputs"));
    struct json v;

    while (json_next(&it, NULL, &v) && j->n_outputs < OUTPUTS_MOST) {
        struct run_output *o = add_output(j);
        int64_t n;

        if (json_int(json_get(v, "n"), &n) && n >= 0 && n <= UINT32_MAX)
            o->n = (unsigned)n;
        if (!json_int(json_get(v, "size"), &o->size))
            o->size = -1;
        o->kind = json_strdup(json_get(v, "kind"));
        o->node = json_strdup(json_get(v, "node_id"));
        o->filename = json_strdup(json_get(v, "filename"));
        o->target = xasprintf("/mux/v1/jobs/%s/outputs/%u", j->id, o->n);
    }
}

static void put_parameter(struct buf *b, const char *name, const char *value)
{
    buf_printf(b, "%s%s=", b->data && strchr(b->data, '?') ? "&" : "?", name);
    http_escape(value, strlen(value), false, b);
}

static char *view_target(const struct run_output *o)
{
    struct buf b = BUF_INIT;

    buf_puts(&b, "/view");
    put_parameter(&b, "filename", o->filename);
    put_parameter(&b, "subfolder", o->subfolder);
    put_parameter(&b, "type", o->type);
    return buf_take(&b);
}

static char *text_or(struct json v, const char *otherwise)
{
    char *s = json_strdup(v);

    return s ? s : xstrdup(otherwise);
}

static bool have_file(const struct run_job *j, const struct run_output *o)
{
    for (size_t i = 0; i + 1 < j->n_outputs; i++) {
        const struct run_output *p = &j->outputs[i];

        if (p->target && strcmp(p->target, o->target) == 0)
            return true;
    }
    return false;
}

static void free_output(struct run_output *o)
{
    free(o->node);
    free(o->kind);
    free(o->filename);
    free(o->subfolder);
    free(o->type);
    free(o->target);
    free(o->text);
}

static void add_file(struct run_job *j, const struct history_output *h, char *filename, char *subfolder,
                     char *type)
{
    struct run_output *o = add_output(j);

    o->node = text_or(h->node_id, "");
    o->filename = filename;
    o->subfolder = subfolder;
    o->type = type;
    o->kind = xstrdup(name_kind_str(name_kind_of(filename, strlen(filename))));
    o->target = view_target(o);
    if (have_file(j, o)) { /* one file under two keys */
        free_output(o);
        j->n_outputs--;
    }
}

static void add_text(struct run_job *j, const struct history_output *h)
{
    struct run_output *o = add_output(j);
    struct buf b = BUF_INIT;
    unsigned k = 0;

    o->node = text_or(h->node_id, "");
    for (size_t i = 0; i + 1 < j->n_outputs; i++)
        k += j->outputs[i].text && strcmp(j->outputs[i].node, o->node) == 0;
    json_str(h->value, &b);
    o->kind = xstrdup("text");
    o->text_n = b.len;
    o->size = (int64_t)b.len;
    o->text = buf_take(&b);
    run_name_made("text", o->node, k, "txt", &b);
    o->filename = buf_take(&b);
}

static bool output_of_history(void *arg, const struct history_output *h)
{
    struct run_job *j = arg;
    char *s;

    if (h->kind == HISTORY_FILE) {
        s = json_strdup(h->filename);
        if (s)
            add_file(j, h, s, text_or(h->subfolder, ""), text_or(h->type, "output"));
    } else if (h->kind == HISTORY_TEXT) {
        add_text(j, h);
    } else if (h->kind == HISTORY_RESULT && (s = json_strdup(h->value)) != NULL) {
        /* Preview3D: the path of a model under output */
        const char *slash = strrchr(s, '/');

        if (name_kind_of(s, strlen(s)) == NAME_3D && name_path_is_safe(s, strlen(s)))
            add_file(j, h, xstrdup(run_base_name(s)), slash ? xstrndup(s, (size_t)(slash - s)) : xstrdup(""),
                     xstrdup("output"));
        free(s);
    }
    return j->n_outputs < OUTPUTS_MOST;
}

void run_picture_add(struct run_job *j, const char *node, const void *data, size_t n)
{
    struct run_output *o;
    struct buf name = BUF_INIT, bytes = BUF_INIT;
    unsigned k = 0;

    if (j->n_pictures >= OUTPUTS_MOST)
        return;
    for (size_t i = 0; i < j->n_pictures; i++)
        k += strcmp(j->pictures[i].node, node) == 0;
    j->pictures = xrealloc(j->pictures, (j->n_pictures + 1) * sizeof(*o));
    o = &j->pictures[j->n_pictures++];
    run_name_made("ws", node, k, "png", &name);
    buf_put(&bytes, data, n);
    *o = (struct run_output){.node = xstrdup(node),
                             .kind = xstrdup("image"),
                             .filename = buf_take(&name),
                             .subfolder = xstrdup(""),
                             .type = xstrdup("temp"),
                             .text_n = n,
                             .size = (int64_t)n,
                             .text = buf_take(&bytes)};
}

/* Pictures that no history knows: as a gateway would list them, behind the files. */
static void outputs_of_socket(struct run_job *j)
{
    for (size_t i = 0; i < j->n_pictures && j->n_outputs < OUTPUTS_MOST; i++) {
        struct run_output *o = add_output(j);
        unsigned n = o->n;

        *o = j->pictures[i];
        o->n = n;
        j->pictures[i] = (struct run_output){0};
    }
    if (j->n_pictures == 0 && workflow_has_class(j->run->workflow, NULL, RUN_SOCKET_CLASS)) {
        run_error(j->run,
                  "job %s: output_unavailable: its " RUN_SOCKET_CLASS " pictures come over the WebSocket, "
                  "and none did",
                  j->id);
        j->run->status = CLI_FAILED;
    }
}

void run_outputs_find(struct run_job *j)
{
    if (j->outputs)
        return;
    if (j->run->gateway) {
        outputs_of_record(j);
    } else {
        history_outputs(&j->history, output_of_history, j);
        outputs_of_socket(j);
    }
    if (j->n_outputs == OUTPUTS_MOST)
        run_error(j->run, "job %s: only the first %d outputs are fetched", j->id, OUTPUTS_MOST);
}

void run_outputs_free(struct run_job *j)
{
    for (size_t i = 0; i < j->n_outputs; i++)
        free_output(&j->outputs[i]);
    free(j->outputs);
    for (size_t i = 0; i < j->n_pictures; i++)
        free_output(&j->pictures[i]);
    free(j->pictures);
}

/* ---- their bytes ---- */

static void next_output(struct run *r)
{
    r->fetch.job->next_output++;
    r->fetch.tries = 0;
    r->fetch.job = NULL;
}

static const char *output_name(const struct run_job *j, const struct run_output *o, struct buf *b)
{
    if (o->filename && o->filename[0])
        run_name_clean(o->filename, strlen(o->filename), b);
    else
        run_name_made(o->kind ? o->kind : "output", o->node ? o->node : j->id, o->n, ending_for(o->kind), b);
    return buf_str(b);
}

static void give_up(struct run *r, const char *code, const char *why)
{
    struct run_job *j = r->fetch.job;
    struct buf name = BUF_INIT;

    run_file_abort(&r->fetch.file);
    run_error(r, "%s: %s: %s", output_name(j, &j->outputs[j->next_output], &name), code, why);
    buf_free(&name);
    r->fetch.failed = true;
    r->status = CLI_FAILED;
    next_output(r);
}

static void commit(struct run *r)
{
    struct run_job *j = r->fetch.job;
    struct run_output *o = &j->outputs[j->next_output];
    struct buf name = BUF_INIT;
    struct err e;
    char *path;

    if (o->size >= 0 && r->fetch.file.size != o->size) {
        buf_printf(&name, "%lld of %lld bytes came", (long long)r->fetch.file.size, (long long)o->size);
        give_up(r, "output_unavailable", buf_str(&name));
    } else if (run_file_commit(&r->fetch.file, r->dir, output_name(j, o, &name), &path, &e) < 0) {
        give_up(r, "storage_failed", e.msg);
    } else {
        o->size = r->fetch.file.size;
        if (strncmp(path, "./", 2) == 0)
            memmove(path, path + 2, strlen(path + 2) + 1);
        j->files = xrealloc(j->files, (j->n_files + 1) * sizeof(char *));
        j->files[j->n_files++] = path;
        run_print_path(r, path);
        next_output(r);
    }
    buf_free(&name);
}

static void try_again(struct run *r, const char *why)
{
    run_file_abort(&r->fetch.file);
    if (++r->fetch.tries >= TRIES_MOST)
        give_up(r, "output_unavailable", why);
    else
        timer_set(&r->fetch.again, 250 << r->fetch.tries);
}

static void on_head(struct http_call *c, int status, const struct http_headers *h, void *arg)
{
    struct run *r = arg;

    (void)c;
    (void)h;
    r->fetch.status = status;
}

static void on_data(struct http_call *c, const void *data, size_t n, void *arg)
{
    struct run *r = arg;

    (void)c;
    if (r->fetch.status != 200)
        return;
    if (run_file_write(&r->fetch.file, data, n, &r->fetch.fault) < 0) {
        http_call_cancel(&r->fetch.call);
        give_up(r, "storage_failed", r->fetch.fault.msg);
        run_step(r);
    }
}

static void on_done(struct http_call *c, enum http_call_end end, const char *why, void *arg)
{
    struct run *r = arg;
    struct buf b = BUF_INIT;

    (void)c;
    r->fetch.call = NULL;
    if (r->stage != RUN_STAGE_JOBS)
        return;
    buf_printf(&b, "%d %s", r->fetch.status, http_status_text(r->fetch.status));
    if (end != HTTP_CALL_OK)
        try_again(r, why);
    else if (r->fetch.status == 200)
        commit(r);
    else if (r->fetch.status >= 500)
        try_again(r, buf_str(&b));
    else
        give_up(r, "output_unavailable", buf_str(&b));
    buf_free(&b);
    run_step(r);
}

static void start(struct run *r)
{
    static const struct http_call_handlers h = {.on_head = on_head, .on_data = on_data, .on_done = on_done};
    struct run_job *j = r->fetch.job;
    struct run_output *o = &j->outputs[j->next_output];
    struct err e;

    if (run_file_open(&r->fetch.file, r->dir, &e) < 0) {
        give_up(r, "storage_failed", e.msg);
        return;
    }
    run_show(r, j);
    if (!o->target) {
        if (run_file_write(&r->fetch.file, o->text, o->text_n, &e) < 0)
            give_up(r, "storage_failed", e.msg);
        else
            commit(r);
        return;
    }
    r->fetch.status = 0;
    r->fetch.call = http_call_new(r->http, "GET", o->target, &h, r);
    http_call_timeout(r->fetch.call, SILENCE_MS, 0);
    http_call_start(r->fetch.call, NULL, NULL);
}

void run_fetch_again(void *arg)
{
    struct run *r = arg;

    if (r->stage == RUN_STAGE_JOBS && r->fetch.job)
        start(r);
    if (r->stage == RUN_STAGE_JOBS)
        run_step(r);
}

static void all_fetched(struct run *r, struct run_job *j)
{
    if (j->n_outputs == 0)
        run_note(r, "job %s made no outputs", j->id);
    j->phase = r->fetch.failed ? RUN_FAILED : RUN_DONE;
    r->fetch.failed = false;
    run_show(r, j);
}

void run_fetch_next(struct run *r)
{
    for (size_t i = 0; i < r->n_jobs && !r->fetch.job; i++) {
        struct run_job *j = &r->jobs[i];

        while (j->phase == RUN_FETCHING && !r->fetch.job) {
            if (j->next_output == j->n_outputs) {
                all_fetched(r, j);
                break;
            }
            r->fetch.job = j;
            start(r); /* takes job away again when it is done at once */
        }
    }
}

void run_fetch_drop(struct run *r)
{
    timer_clear(&r->fetch.again);
    if (r->fetch.call)
        http_call_cancel(&r->fetch.call);
    run_file_abort(&r->fetch.file);
    r->fetch.job = NULL;
}
