/* A request relayed to another server, its answer relayed back. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/log.h"
#include "http/client_priv.h"
#include "http/server.h"
#include "http/splice.h"

enum {
    HIGH = 256 * 1024, /* queued in one direction: its source is not read any more */
    LOW = 64 * 1024,
    SILENCE_MS = 600 * 1000 /* some routes of custom nodes work for minutes before they answer */
};

struct pass {
    struct http_req *req;
    struct http_call *call; /* NULL once it has ended */
    struct http_client *to;
    void (*on_unreachable)(struct http_req *req, const char *why, void *arg);
    bool (*wants)(int status, void *arg);
    void (*release)(void *arg);
    void *arg;
    const char *const *drop_answer; /* of static storage */
    bool upgrade, started;
    int declined;                /* the status of an answer that is not wanted; 0: none */
    bool body_paused, body_done; /* of the request */
};

static void pass_free(struct pass *p)
{
    if (p->release)
        p->release(p->arg);
    free(p);
}

/* Fields that are about one connection only (RFC 9110 §7.6.1), or that both ends of ours set themselves. */
static bool is_hop(const struct http_headers *h, const char *name)
{
    static const char *const names[] = {"Connection",
                                        "Keep-Alive",
                                        "Proxy-Connection",
                                        "Proxy-Authenticate",
                                        "Proxy-Authorization",
                                        "TE",
                                        "Trailer",
                                        "Transfer-Encoding",
                                        "Upgrade",
                                        "Content-Length"};

    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (strcasecmp(name, names[i]) == 0)
            return true;
    return http_headers_has_token(h, "Connection", name);
}

static bool is_dropped(const char *const *drop, const char *name)
{
    for (; drop && *drop; drop++) {
        size_t n = strlen(*drop);

        if (n > 0 && (*drop)[n - 1] == '*' ? strncasecmp(*drop, name, n - 1) == 0
                                           : strcasecmp(*drop, name) == 0)
            return true;
    }
    return false;
}

/* --- the request's way up --- */

static void on_pass_body(struct http_req *req, const void *data, size_t n, bool fin, void *arg)
{
    struct pass *p = arg;

    if (!p->call)
        return;
    if (n > 0)
        http_call_write(p->call, data, n);
    if (fin) {
        p->body_done = true;
        http_call_finish(p->call);
    } else if (http_call_queued(p->call) > HIGH && !p->body_paused) {
        p->body_paused = true;
        http_body_pause(req);
    }
}

static void on_up_drain(struct http_call *c, void *arg)
{
    struct pass *p = arg;

    (void)c;
    if (p->body_paused) {
        p->body_paused = false;
        http_body_resume(p->req);
    }
}

static void on_pass_abort(struct http_req *req, void *arg)
{
    struct pass *p = arg;

    (void)req;
    http_call_cancel(&p->call);
    pass_free(p);
}

/* --- the answer's way down --- */

static void copy_answer_fields(struct pass *p, const struct http_headers *h)
{
    for (size_t i = 0; i < h->n; i++)
        if (!is_hop(h, h->v[i].name) &&
            !is_dropped(p->drop_answer, h->v[i].name)) /* Date: the server sets its own */
            http_set(p->req, h->v[i].name, h->v[i].value);
}

static void pass_switch(struct pass *p, const struct http_headers *h)
{
    const char *proto = http_headers_get(h, "Upgrade");
    struct stream *up, *down;

    copy_answer_fields(p, h);
    down = http_hijack_101(p->req, proto ? proto : http_req_header(p->req, "Upgrade"));
    up = http_call_hijack(p->call);
    splice_start(p->to, down, up);
    pass_free(p);
}

/* What to announce downstream; -1: not known. */
static int64_t answer_length(struct http_call *c, const struct http_headers *h)
{
    const char *cl;

    if (strcmp(c->method, "HEAD") != 0)
        return c->reply->length;
    cl = http_headers_get(h, "Content-Length"); /* of the body that a GET would have */
    return cl ? strtoll(cl, NULL, 10) : -1;
}

static void on_up_head(struct http_call *c, int status, const struct http_headers *h, void *arg)
{
    struct pass *p = arg;

    if (status == 101) {
        pass_switch(p, h);
        return;
    }
    if (p->wants && !p->wants(status, p->arg)) {
        p->declined = status;
        return;
    }
    copy_answer_fields(p, h);
    p->started = true;
    http_start(p->req, status, NULL, answer_length(c, h));
}

static void on_down_drain(struct http_req *req, void *arg)
{
    struct pass *p = arg;

    (void)req;
    if (p->call)
        http_call_resume(p->call);
}

static void on_up_data(struct http_call *c, const void *data, size_t n, void *arg)
{
    struct pass *p = arg;

    if (p->declined)
        return;
    http_send(p->req, data, n);
    if (http_queued(p->req) > HIGH) {
        http_call_pause(c);
        http_on_drain(p->req, LOW, on_down_drain, p);
    }
}

static void answer_failed(struct http_req *req, enum http_call_end end, const char *why)
{
    int status = end == HTTP_CALL_TIMEOUT ? 504 : 502;
    char *text = xasprintf("%d: %s: %s\n", status, http_status_text(status), why);

    http_reply_str(req, status, "text/plain; charset=utf-8", text);
    free(text);
}

/* The request is the caller's again; what is left of its body is not ours to take any more. */
static void pass_give_back(struct pass *p, const char *why)
{
    http_on_abort(p->req, NULL, NULL);
    if (!p->body_done)
        http_body_pause(p->req);
    p->on_unreachable(p->req, why, p->arg);
}

static void on_up_done(struct http_call *c, enum http_call_end end, const char *why, void *arg)
{
    struct pass *p = arg;
    struct http_req *req = p->req;

    (void)c;
    if (end != HTTP_CALL_OK)
        log_info(LOG_S("pass", http_client_url(p->to)->authority), LOG_S("method", http_req_method_name(req)),
                 LOG_S("target", http_req_target(req)), LOG_S("end", http_call_end_name(end)),
                 LOG_S("reason", why));
    if (p->declined || (p->wants && !p->started && end != HTTP_CALL_OK))
        pass_give_back(p, p->declined ? http_status_text(p->declined) : why);
    else if (end == HTTP_CALL_OK)
        http_end(req);
    else if (p->started)
        http_abort(req); /* the client must see that this is not the whole answer */
    else if (end == HTTP_CALL_NOT_SENT && p->on_unreachable)
        pass_give_back(p, why);
    else
        answer_failed(req, end, why);
    pass_free(p);
}

/* --- */

static void copy_request_fields(struct pass *p, const struct http_pass *opt)
{
    const struct http_headers *h = http_req_headers(p->req);

    for (size_t i = 0; i < h->n; i++) {
        const char *name = h->v[i].name;

        /* Host, Accept-Encoding and Expect are refused by the call: they are its own. */
        if (!is_hop(h, name) && !(opt && is_dropped(opt->drop, name)))
            (void)http_call_header(p->call, name, h->v[i].value);
    }
    for (size_t i = 0; opt && opt->extra && i < opt->extra->n; i++)
        (void)http_call_header(p->call, opt->extra->v[i].name, opt->extra->v[i].value);
    if (p->upgrade) {
        (void)http_call_header(p->call, "Connection", "Upgrade");
        (void)http_call_header(p->call, "Upgrade", http_headers_get(h, "Upgrade"));
    }
}

void http_pass_through(struct http_req *req, struct http_client *to, const struct http_pass *opt)
{
    static const struct http_call_handlers handlers = {
        .on_head = on_up_head, .on_data = on_up_data, .on_done = on_up_done, .on_drain = on_up_drain};
    const struct http_headers *h = http_req_headers(req);
    const char *target = opt && opt->target ? opt->target : http_req_target(req);
    int64_t length = http_req_content_length(req);
    struct pass *p = xcalloc(1, sizeof(*p));

    p->req = req;
    p->to = to;
    if (opt) {
        p->on_unreachable = opt->on_unreachable;
        p->wants = length == 0 && opt->on_unreachable ? opt->wants : NULL;
        p->release = opt->release;
        p->arg = opt->arg;
        p->drop_answer = opt->drop_answer;
    }
    p->upgrade = length == 0 && http_headers_has_token(h, "Connection", "upgrade") &&
                 http_headers_get(h, "Upgrade") != NULL;
    http_on_abort(req, on_pass_abort, p);
    p->call = http_call_new(to, http_req_method_name(req), target, &handlers, p);
    copy_request_fields(p, opt);
    http_call_timeout(p->call, SILENCE_MS, 0);
    if (length == 0 || (opt && opt->body)) {
        p->body_done = true;
        http_call_start(p->call, NULL, opt ? opt->body : NULL);
    } else {
        http_call_start_stream(p->call, NULL, length);
        http_body_read(req, on_pass_body, p);
    }
}
