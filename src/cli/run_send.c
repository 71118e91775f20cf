/* The way there: which kind of server it is, inputs, the WebSocket, and POST /prompt. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "cli/run_priv.h"

#define DETECT_MS 15000
#define WS_WAIT_MS 3000
#define POST_MS 120000
#define POST_TRIES_MS 60000 /* how long a POST is sent again and again */
#define POST_AGAIN_MS 1000

void run_put_refusal(const struct http_answer *a, struct buf *out)
{
    if (a->end != HTTP_CALL_OK)
        buf_puts(out, a->why);
    else
        buf_printf(out, "it answers %d %s", a->status, http_status_text(a->status));
}

/* ---- detect ---- */

static bool is_job_list(const struct http_answer *a)
{
    struct json root;

    return a->status == 200 && json_check(a->body->data, a->body->len, NULL, &root, NULL) == 0 &&
           json_type(json_get(root, "jobs")) == JSON_ARRAY;
}

static void on_detected(const struct http_answer *a, void *arg)
{
    struct run *r = arg;
    struct buf why = BUF_INIT;

    r->call = NULL;
    if (r->stage != RUN_STAGE_DETECT)
        return;
    if (a->end != HTTP_CALL_OK || a->status >= 500) {
        run_put_refusal(a, &why);
        run_stop(r, CLI_UNREACHABLE, "cannot reach %s: %s", r->url, buf_str(&why));
        buf_free(&why);
        return;
    }
    if (a->status == 401 || a->status == 403) {
        run_stop(r, CLI_FAILED, "%s refuses us: %d %s", r->url, a->status, http_status_text(a->status));
        return;
    }
    r->gateway = is_job_list(a);
    r->heard_at = run_now(r);
    r->stage = RUN_STAGE_UPLOAD;
    run_step(r);
}

void run_detect(struct run *r)
{
    r->call = http_fetch(r->http, "GET", "/mux/v1/jobs?limit=1", NULL, NULL, RUN_ANSWER_MAX, DETECT_MS,
                         on_detected, r);
}

/* ---- uploads ---- */

static void on_upload_head(struct http_call *c, int status, const struct http_headers *h, void *arg)
{
    struct run *r = arg;

    (void)c;
    (void)h;
    r->answer_status = status;
}

static void on_upload_data(struct http_call *c, const void *data, size_t n, void *arg)
{
    struct run *r = arg;

    (void)c;
    if (r->answer.len + n <= 1u << 20)
        buf_put(&r->answer, data, n);
}

/* The name that a prompt has to use. NULL: the answer is not what it should be. */
static char *stored_name(const struct buf *answer)
{
    struct json root;
    char *name, *folder, *whole = NULL;

    if (json_check(buf_str(answer), answer->len, NULL, &root, NULL) < 0)
        return NULL;
    name = json_strdup(json_get(root, "name"));
    folder = json_strdup(json_get(root, "subfolder"));
    if (name && *name)
        whole = folder && *folder ? xasprintf("%s/%s", folder, name) : xstrdup(name);
    free(name);
    free(folder);
    return whole;
}

static void on_uploaded(struct http_call *c, enum http_call_end end, const char *why, void *arg)
{
    struct run *r = arg;
    struct run_input *in = &r->inputs[r->uploading];

    (void)c;
    r->call = NULL;
    if (r->stage != RUN_STAGE_UPLOAD)
        return;
    if (end != HTTP_CALL_OK) {
        run_stop(r, end == HTTP_CALL_NOT_SENT ? CLI_UNREACHABLE : CLI_FAILED, "upload of %s failed: %s",
                 in->path, why);
    } else if (r->answer_status != 200) {
        run_stop(r, CLI_FAILED, "upload of %s refused: %d %s %.200s", in->path, r->answer_status,
                 http_status_text(r->answer_status), buf_str(&r->answer));
    } else if ((in->stored = stored_name(&r->answer)) == NULL) {
        run_stop(r, CLI_FAILED, "upload of %s: the answer names no file: %.200s", in->path,
                 buf_str(&r->answer));
    } else {
        run_note(r, strcmp(in->stored, run_base_name(in->path)) == 0 ? "uploaded %s" : "uploaded %s as %s",
                 in->path, in->stored);
        r->uploading++;
        run_step(r);
    }
}

/* A file name inside a quoted string. */
static void put_quoted(struct buf *b, const char *s)
{
    for (; *s; s++) {
        if (*s == '"' || *s == '\\')
            buf_putc(b, '\\');
        buf_putc(b, *s == '\r' || *s == '\n' ? '_' : *s);
    }
}

static void upload(struct run *r, struct run_input *in, int fd, int64_t size)
{
    static const struct http_call_handlers h = {
        .on_head = on_upload_head, .on_data = on_upload_data, .on_done = on_uploaded};
    struct buf head = BUF_INIT, tail = BUF_INIT, type = BUF_INIT;
    struct err e;

    buf_printf(&head, "--%s\r\nContent-Disposition: form-data; name=\"image\"; filename=\"", r->boundary);
    put_quoted(&head, run_base_name(in->path));
    buf_puts(&head, "\"\r\nContent-Type: application/octet-stream\r\n\r\n");
    buf_printf(&tail, "\r\n--%s--\r\n", r->boundary);
    buf_printf(&type, "multipart/form-data; boundary=%s", r->boundary);
    buf_clear(&r->answer);
    r->answer_status = 0;
    r->call = http_call_new(r->http, "POST", "/upload/image", &h, r);
    http_call_timeout(r->call, 60000, 0);
    http_call_start_stream(r->call, buf_str(&type), (int64_t)(head.len + tail.len) + size);
    http_call_write(r->call, head.data, head.len);
    if (size > 0 && http_call_write_file(r->call, fd, 0, (size_t)size, &e) < 0) {
        http_call_cancel(&r->call);
        run_stop(r, CLI_FAILED, "upload of %s failed: %s", in->path, e.msg);
    } else {
        if (size == 0)
            close(fd);
        http_call_write(r->call, tail.data, tail.len);
        http_call_finish(r->call);
    }
    buf_free(&head);
    buf_free(&tail);
    buf_free(&type);
}

/* An uploaded file takes the place of the names that meant it. */
static bool rename_to_stored(void *arg, const struct workflow_string *s, struct buf *to)
{
    struct run *r = arg;
    size_t n = workflow_plain_name(s->value);

    for (size_t i = 0; n && i < r->n_inputs; i++) {
        struct run_input *in = &r->inputs[i];
        const char *base = run_base_name(in->path);
        char *found = NULL;
        bool same = in->explicit && ((strlen(base) == n && memcmp(base, s->value, n) == 0) ||
                                     (strlen(in->path) == n && memcmp(in->path, s->value, n) == 0));

        if (!same && s->loader)
            found = run_input_find(r->workflow_dir, s->value, n);
        same = same || (found && strcmp(found, in->path) == 0);
        free(found);
        if (same) {
            buf_puts(to, in->stored);
            return true;
        }
    }
    return false;
}

void run_upload_next(struct run *r)
{
    struct run_input *in;
    struct stat st;
    struct err e;
    int fd;

    if (r->uploading == r->n_inputs) {
        if (r->n_inputs && workflow_rename(r->workflow, rename_to_stored, r, &e) < 0) {
            run_stop(r, CLI_FAILED, "%s", e.msg);
            return;
        }
        r->stage = RUN_STAGE_CONNECT;
        run_connect(r);
        return;
    }
    in = &r->inputs[r->uploading];
    fd = open(in->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        run_stop(r, CLI_USAGE, "cannot read %s: %s", in->path,
                 fd < 0 ? strerror(errno) : "it is no regular file");
        if (fd >= 0)
            close(fd);
        return;
    }
    upload(r, in, fd, st.st_size);
}

/* ---- the WebSocket ---- */

void run_ws_timer(void *arg)
{
    struct run *r = arg;

    if (r->stage == RUN_STAGE_OVER) {
        loop_stop(r->loop);
        return;
    }

    if (r->stage == RUN_STAGE_CONNECT) { /* polls will do until it opens */
        r->stage = RUN_STAGE_JOBS;
        run_step(r);
    } else if (r->stage == RUN_STAGE_JOBS && !r->ws) {
        run_connect(r);
    }
}

void run_connect(struct run *r)
{
    static const struct ws_limits lim = {.message = 256u << 20, .ping_ms = 20000, .pong_ms = 20000};
    struct buf target = BUF_INIT;

    buf_printf(&target, "/ws?clientId=%s", r->client_id);
    r->ws = ws_connect(r->http, buf_str(&target), NULL, &lim, &run_ws_handlers, r);
    if (r->stage == RUN_STAGE_CONNECT)
        timer_set(&r->ws_timer, WS_WAIT_MS);
    buf_free(&target);
}

/* ---- POST /prompt ---- */

static void put_node_errors(struct run *r, struct json errors, struct buf *out)
{
    struct json_iter it = json_iter(errors);
    struct json key, node;

    while (json_next(&it, &key, &node)) {
        struct json_iter list = json_iter(json_get(node, "errors"));
        char *id = json_strdup(key);
        struct json one;

        while (json_next(&list, NULL, &one)) {
            struct buf line = BUF_INIT;
            char *message = json_strdup(json_get(one, "message")),
                 *details = json_strdup(json_get(one, "details"));

            buf_printf(&line, "node %s (", id ? id : "?");
            workflow_put_title(r->workflow, id ? id : "?", &line);
            buf_printf(&line, "): %s%s%.300s", message ? message : "?", details && *details ? ": " : "",
                       details ? details : "");
            buf_printf(out, "\n  %s", buf_str(&line));
            buf_free(&line);
            free(message);
            free(details);
        }
        free(id);
    }
}

/* The native 400s have many types; the closed list of codes has one for them. */
static const char *code_of(const struct http_answer *a, const char *type)
{
    static const char *const own[] = {"draining",        "not_ready",         "storage_failed",
                                      "too_many_queued", "payload_too_large", "no_capable_server"};

    for (size_t i = 0; type && i < ARRAY_LEN(own); i++)
        if (strcmp(type, own[i]) == 0)
            return own[i];
    return a->status == 400   ? "validation_failed"
           : a->status == 413 ? "payload_too_large"
                              : "server_rejected";
}

/* A no of the server's: told with all its reasons, and no more of the same are sent. */
static void reject(struct run_job *j, const struct http_answer *a)
{
    struct run *r = j->run;
    struct json root, error;
    char *type, *message, *details;
    struct buf text = BUF_INIT;

    if (json_check(a->body->data, a->body->len, NULL, &root, NULL) < 0)
        root = (struct json){0};
    else
        j->detail = bytes_ref(a->body);
    error = json_get(root, "error");
    type = json_strdup(json_get(error, "type"));
    if (!type)
        type = json_strdup(json_get(error, "code"));
    message = json_strdup(json_get(error, "message"));
    details = json_strdup(json_get(error, "details"));
    if (message)
        buf_printf(&text, "%s%s%.500s", message, details && *details ? ": " : "", details ? details : "");
    else
        buf_printf(&text, "POST /prompt was answered %d %s", a->status, http_status_text(a->status));
    put_node_errors(r, json_get(root, "node_errors"), &text);
    run_job_fail(j, code_of(a, type), "%s", buf_str(&text));
    r->n_jobs = r->next_post + 1; /* the others would be refused alike */
    r->next_post = r->n_jobs;
    buf_free(&text);
    free(type);
    free(message);
    free(details);
}

/* 200, perhaps with nodes that were left out. */
static void accepted(struct run_job *j, const struct http_answer *a)
{
    struct run *r = j->run;
    struct json root, errors;
    struct buf text = BUF_INIT;
    char *id = NULL;

    if (json_check(a->body->data, a->body->len, NULL, &root, NULL) == 0) {
        id = json_strdup(json_get(root, "prompt_id"));
        errors = json_get(root, "node_errors");
        if (json_count(errors) > 0) {
            put_node_errors(r, errors, &text);
            run_error(r, "some outputs were left out:%s", buf_str(&text));
        }
    }
    if (id && strlen(id) == UUID_LEN) /* a server may choose its own */
        memcpy(j->id, id, UUID_SIZE);
    free(id);
    buf_free(&text);
    if (j->phase == RUN_WAITING || j->phase == RUN_UNSURE)
        j->phase = RUN_QUEUED; /* unless an event was faster */
    r->next_post++;
}

static void unanswered(struct run_job *j, const struct http_answer *a)
{
    struct run *r = j->run;

    if (r->post_since == 0)
        r->post_since = run_now(r);
    if (!r->gateway && a->end != HTTP_CALL_NOT_SENT) {
        /* A bare server may have taken it, and would run it twice if asked again: it is looked for. */
        j->phase = RUN_UNSURE;
        j->misses = 0;
        r->next_post++;
        return;
    }
    /* A gateway answers the same body with the same answer. */
    if (run_now(r) - r->post_since > POST_TRIES_MS)
        run_stop(r, CLI_UNREACHABLE, "cannot reach %s: %s", r->url, a->why);
    else
        timer_set(&r->post_timer, POST_AGAIN_MS);
}

static void on_posted(const struct http_answer *a, void *arg)
{
    struct run_job *j = arg;
    struct run *r = j->run;

    j->call = NULL;
    if (r->stage == RUN_STAGE_OVER)
        return;
    if (a->end != HTTP_CALL_OK || a->status == 502 || a->status == 504) {
        if (r->stage == RUN_STAGE_CANCEL) {
            run_cancel_job(j); /* it may have arrived */
            return;
        }
        unanswered(j, a);
        run_step(r);
        return;
    }
    r->heard_at = run_now(r);
    r->post_since = 0;
    if (a->status == 200)
        accepted(j, a);
    else
        reject(j, a);
    if (r->stage == RUN_STAGE_CANCEL) {
        run_cancel_job(j);
        return;
    }
    run_show(r, j);
    if (r->gateway && RUN_LIVE(j->phase))
        run_poll(j);
    run_step(r);
}

void run_post_next(struct run *r)
{
    struct run_job *j = &r->jobs[r->next_post];
    struct buf b = BUF_INIT;
    struct bytes *body;

    if (j->call || timer_is_set(&r->post_timer))
        return;
    buf_printf(&b, "{\"prompt_id\": \"%s\", \"client_id\": \"%s\", \"prompt\": ", j->id, r->client_id);
    workflow_put(r->workflow, j->index, &b);
    buf_puts(&b, "}");
    body = buf_to_bytes(&b);
    j->sent_at = run_now(r);
    if (!j->started_at)
        j->started_at = j->sent_at;
    j->posts++;
    j->call = http_fetch(r->http, "POST", "/prompt", "application/json", body, RUN_ANSWER_MAX, POST_MS,
                         on_posted, j);
    bytes_unref(body);
}
