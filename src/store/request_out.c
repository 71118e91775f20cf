/* Results of requests: how they reach the callback, and how they are freed. */
#include <stdlib.h>
#include <string.h>

#include "store/request.h"

static void deliver_file(struct req *r)
{
    struct store_file none = {.status = r->status};

    if (r->status == STORE_OK && r->out.files.n == 1) {
        r->out.files.v[0].status = STORE_OK;
        r->cb.file(&r->out.files.v[0], r->arg);
    } else {
        r->cb.file(&none, r->arg);
    }
}

void req_deliver(struct req *r)
{
    if (r->cb.done == NULL)
        return;
    switch (r->kind) {
    case REQ_SUBMIT:
        r->out.submit.status = r->status;
        r->cb.submitted(&r->out.submit, r->arg);
        break;
    case REQ_STEP:
    case REQ_HIDE:
    case REQ_STRAY_DONE:
    case REQ_BLOB_UNPIN:
    case REQ_BLOB_KNOWN:
    case REQ_SERVER_PUT:
    case REQ_SERVER_REMOVE:
    case REQ_USER_REMOVE:
    case REQ_DOC_PUT: r->cb.done(r->status, r->arg); break;
    case REQ_BLOB_PIN:
        r->out.pin.status = r->status;
        r->cb.pin(&r->out.pin, r->arg);
        break;
    case REQ_BLOB_COLLECT:
        r->out.collect.r.status = r->status;
        r->cb.collected(&r->out.collect.r, r->arg);
        break;
    case REQ_TRIM:
        r->out.trim.status = r->status;
        r->cb.trimmed(&r->out.trim, r->arg);
        break;
    case REQ_GET: {
        struct job_record *rec = r->out.record;

        r->out.record = NULL; /* the callback's now */
        r->cb.record(r->status, rec, r->arg);
        break;
    }
    case REQ_LIST:
        r->out.list.status = r->status;
        r->cb.list(&r->out.list, r->arg);
        r->out.list = (struct store_list){0};
        break;
    case REQ_UNFINISHED: r->cb.summaries(r->status, r->out.summaries.v, r->out.summaries.n, r->arg); break;
    case REQ_STRAYS: r->cb.strays(r->status, r->out.strays.v, r->out.strays.n, r->arg); break;
    case REQ_OUTPUT_FIND:
    case REQ_INPUT_PUT:
    case REQ_ALIAS_FIND:
    case REQ_USER_PUT:
    case REQ_USER_FIND:
    case REQ_USER_MOVE:
    case REQ_INPUT_FIND: deliver_file(r); break;
    case REQ_USER_LIST:
    case REQ_INPUT_LIST: r->cb.files(r->status, r->out.files.v, r->out.files.n, r->arg); break;
    case REQ_SERVERS: r->cb.servers(r->status, r->out.servers.v, r->out.servers.n, r->arg); break;
    case REQ_EVENTS:
        r->cb.events(r->status, r->out.events.v, r->out.events.n, r->out.events.oldest, r->out.events.newest,
                     r->arg);
        break;
    case REQ_DOC_GET: r->cb.doc(r->status, r->out.doc, r->arg); break;
    }
}

static void files_free(struct store_file *v, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        free((char *)v[i].mime);
        free((char *)v[i].name);
        free((char *)v[i].subfolder);
        free((char *)v[i].type);
        free((char *)v[i].job);
        free((char *)v[i].server);
    }
    free(v);
}

static void events_free(struct store_logged *v, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        free((char *)v[i].kind);
        free((char *)v[i].data);
        free((char *)v[i].tenant);
    }
    free(v);
}

static void servers_free(struct store_server *v, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        free(v[i].name);
        free(v[i].url);
        free(v[i].tags);
    }
    free(v);
}

static void strays_free(struct store_stray *v, size_t n)
{
    for (size_t i = 0; i < n; i++)
        free(v[i].server);
    free(v);
}

static void summaries_free(struct job_summary *v, size_t n)
{
    for (size_t i = 0; i < n; i++)
        job_summary_fini(&v[i]);
    free(v);
}

void req_reset(struct req *r)
{
    switch (r->kind) {
    case REQ_SUBMIT:
        bytes_unref(r->out.submit.answer);
        free((char *)r->out.submit.tenant);
        break;
    case REQ_GET: job_record_free(&r->out.record); break;
    case REQ_LIST: store_list_free(&r->out.list); break;
    case REQ_UNFINISHED: summaries_free(r->out.summaries.v, r->out.summaries.n); break;
    case REQ_STRAYS: strays_free(r->out.strays.v, r->out.strays.n); break;
    case REQ_OUTPUT_FIND:
    case REQ_INPUT_PUT:
    case REQ_ALIAS_FIND:
    case REQ_USER_PUT:
    case REQ_USER_FIND:
    case REQ_USER_LIST:
    case REQ_USER_MOVE:
    case REQ_INPUT_FIND:
    case REQ_INPUT_LIST: files_free(r->out.files.v, r->out.files.n); break;
    case REQ_BLOB_COLLECT: free(r->out.collect.unlink); break;
    case REQ_SERVERS: servers_free(r->out.servers.v, r->out.servers.n); break;
    case REQ_EVENTS: events_free(r->out.events.v, r->out.events.n); break;
    case REQ_DOC_GET: bytes_unref(r->out.doc); break;
    case REQ_STEP:
    case REQ_HIDE:
    case REQ_STRAY_DONE:
    case REQ_BLOB_PIN:
    case REQ_BLOB_UNPIN:
    case REQ_BLOB_KNOWN:
    case REQ_SERVER_PUT:
    case REQ_SERVER_REMOVE:
    case REQ_USER_REMOVE:
    case REQ_DOC_PUT:
    case REQ_TRIM: break;
    }
    memset(&r->out, 0, sizeof(r->out));
}

void req_unlink(struct req *r)
{
    if (r->kind != REQ_BLOB_COLLECT || r->in.collect.unlink == NULL)
        return;
    for (size_t i = 0; i < r->out.collect.n_unlink; i++)
        r->in.collect.unlink(r->out.collect.unlink[i], r->in.collect.unlink_arg);
}

struct bytes *req_fill_answer(struct bytes *answer, int64_t number)
{
    static const char mark[] = "%NUMBER%";
    struct buf b = BUF_INIT;
    char *at = answer ? memmem(answer->data, answer->len, mark, strlen(mark)) : NULL;

    if (at == NULL)
        return bytes_ref(answer);
    buf_put(&b, answer->data, (size_t)(at - answer->data));
    buf_put_int(&b, number);
    at += strlen(mark);
    buf_put(&b, at, (size_t)(answer->data + answer->len - at));
    return buf_to_bytes(&b);
}

/* As Python's os.path.splitext(): leading dots are not an extension. */
static size_t stem_len(const char *name)
{
    const char *base = strrchr(name, '/'), *dot = strrchr(name, '.');

    base = base ? base + 1 : name;
    if (dot == NULL || dot < base || strspn(base, ".") >= (size_t)(dot - base))
        return strlen(name);
    return (size_t)(dot - name);
}

void req_input_name(struct buf *out, const char *name, unsigned i)
{
    size_t stem = stem_len(name);

    buf_clear(out);
    if (i == 0) {
        buf_puts(out, name);
        return;
    }
    buf_put(out, name, stem);
    buf_printf(out, " (%u)", i);
    buf_puts(out, name + stem);
}

void req_only_name(struct req *r, const char *name)
{
    r->out.files.v = xcalloc(1, sizeof(struct store_file));
    r->out.files.n = 1;
    r->out.files.v->name = xstrdup(name);
}

bool req_hash_range(const char *hex, uint8_t low[BLAKE3_LEN], uint8_t high[BLAKE3_LEN])
{
    char full[BLAKE3_HEX];
    size_t n = strlen(hex);

    if (n % 2 || n >= BLAKE3_HEX)
        return false;
    memcpy(full, hex, n);
    memset(full + n, '0', BLAKE3_HEX - 1 - n);
    full[BLAKE3_HEX - 1] = '\0';
    if (!blake3_unhex(full, low))
        return false;
    memset(full + n, 'f', BLAKE3_HEX - 1 - n);
    return blake3_unhex(full, high);
}

char *store_user_move_to(const char *from, const char *to, bool to_folder)
{
    const char *base = strrchr(from, '/');

    return to_folder ? xasprintf("%s/%s", to, base ? base + 1 : from) : xstrdup(to);
}

bool store_user_is_below(const char *path, const char *folder)
{
    size_t n = strlen(folder);

    return strncmp(path, folder, n) == 0 && path[n] == '/';
}
