#include "http/websocket.h"

#include <assert.h>
#include <event2/buffer.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/log.h"
#include "http/ws_frame.h"
#include "net/loop.h"

enum {
    HANDSHAKE_MS = 15000, /* client: from asking for a connection to the answer's head */
    CLOSE_MS = 5000,      /* our close frame is out and the peer's does not come */
    LINGER_MS = 2000,     /* for the last frames to arrive after we are done */
    LOWAT_DEFAULT = 64 * 1024,
    REASON_MAX = WS_CONTROL_MAX - 2,
    NONCE = 16
};

/*  client: CONNECTING --> OPEN --ws_close()--> CLOSING
 *  server:                OPEN                    |
 *  from all of them, when it is over: ENDED (on_close is due) --> GONE. ws_abort() leads straight to GONE. */
enum ws_state { WS_ST_CONNECTING, WS_ST_OPEN, WS_ST_CLOSING, WS_ST_ENDED, WS_ST_GONE };

/* Client role, while CONNECTING. */
struct ws_handshake {
    struct http_call *call;
    char accept[WS_ACCEPT_SIZE];
};

struct ws {
    struct loop *loop;
    struct stream *s; /* OPEN and CLOSING */
    struct ws_in in;
    struct ws_handlers h;
    void *arg;
    struct ws_limits lim;
    enum ws_state state;
    bool server, paused, opened;
    int64_t heard;  /* the last byte came then */
    int64_t alive;  /* silence counts from here: as heard, but not while we do not read */
    int64_t pinged; /* when the ping that waits for a sign of life was sent; 0: none */
    size_t lowat;
    struct bytes *pong; /* the answer to the latest ping, held back while output is queued */
    struct timer timer;
    struct task task; /* by state: go on parsing, report the end, free */
    struct ws_handshake *hs;
    int code; /* ENDED: for on_close */
    char *reason;
    char *peer, *peer_ip; /* ENDED: kept from the stream */
};

static const char *const state_names[] = {"connecting", "open", "closing", "ended", "gone"};

static void ws_set_state(struct ws *w, enum ws_state to)
{
    assert(to > w->state);
    log_debug(LOG_S("ws", w->s ? stream_peer(w->s) : w->peer), LOG_S("from", state_names[w->state]),
              LOG_S("to", state_names[to]), LOG_S("reason", to == WS_ST_ENDED ? w->reason : NULL));
    w->state = to;
}

static bool ws_live(const struct ws *w)
{
    return w->state == WS_ST_OPEN || w->state == WS_ST_CLOSING;
}

static void ws_free(struct ws *w)
{
    ws_in_fini(&w->in);
    bytes_unref(w->pong);
    free(w->hs);
    free(w->reason);
    free(w->peer);
    free(w->peer_ip);
    free(w);
}

/* --- sending --- */

static struct bytes *ws_encode(struct ws *w, enum ws_opcode op, const void *p, size_t n)
{
    uint8_t mask[4];

    if (w->server)
        return ws_frame_encode(op, p, n, NULL);
    loop_clock(w->loop)->random(loop_clock(w->loop), mask, sizeof(mask));
    return ws_frame_encode(op, p, n, mask);
}

static void ws_send(struct ws *w, enum ws_opcode op, const void *p, size_t n)
{
    struct bytes *b;

    assert(w->state != WS_ST_CONNECTING);
    if (w->state != WS_ST_OPEN)
        return;
    b = ws_encode(w, op, p, n);
    stream_write_bytes(w->s, b);
    bytes_unref(b);
}

static void send_close(struct ws *w, int code, const char *reason)
{
    char p[WS_CONTROL_MAX];
    size_t n = 0;

    if (code != 1005) {
        size_t len = strlen(reason);

        if (len > REASON_MAX) {
            len = REASON_MAX;
            while (len > 0 && ((unsigned char)reason[len] & 0xc0) == 0x80)
                len--; /* not inside a character */
        }
        p[0] = (char)(code >> 8);
        p[1] = (char)code;
        memcpy(p + 2, reason, len);
        n = len + 2;
    }
    ws_send(w, WS_OP_CLOSE, p, n);
}

void ws_send_text(struct ws *w, const char *s, size_t n)
{
    ws_send(w, WS_OP_TEXT, s, n);
}

void ws_send_binary(struct ws *w, const void *p, size_t n)
{
    ws_send(w, WS_OP_BINARY, p, n);
}

struct bytes *ws_frame_new(enum ws_type type, const void *p, size_t n)
{
    return ws_frame_encode(type == WS_TEXT ? WS_OP_TEXT : WS_OP_BINARY, p, n, NULL);
}

void ws_send_frame(struct ws *w, struct bytes *frame)
{
    if (w->server) {
        if (w->state == WS_ST_OPEN)
            stream_write_bytes(w->s, frame);
    } else { /* a client's frames are masked, each with its own key */
        size_t h = ws_frame_head_len(frame);

        ws_send(w, (unsigned char)frame->data[0] & 0x0f, frame->data + h, frame->len - h);
    }
}

void ws_ping(struct ws *w)
{
    ws_send(w, WS_OP_PING, "", 0);
}

/* A peer that pings without reading must not fill our memory: while output is queued only the latest ping
 * is answered (RFC 6455 §5.5.3 allows that). */
static void ws_pong(struct ws *w, const void *p, size_t n)
{
    if (w->state != WS_ST_OPEN)
        return;
    if (stream_queued(w->s) <= w->lowat) {
        ws_send(w, WS_OP_PONG, p, n);
        return;
    }
    bytes_unref(w->pong);
    w->pong = ws_encode(w, WS_OP_PONG, p, n);
}

static void ws_drained(struct ws *w)
{
    struct bytes *pong = w->pong;

    if (w->state != WS_ST_OPEN)
        return;
    w->pong = NULL;
    if (pong)
        stream_write_bytes(w->s, pong);
    bytes_unref(pong);
    if (w->h.on_drain)
        w->h.on_drain(w, w->arg);
}

/* --- the end --- */

enum farewell {
    AT_ONCE,  /* nothing can be said any more */
    POLITELY, /* let what is queued go out */
};

/* on_close follows at the end of the turn. */
static void ws_end(struct ws *w, enum farewell how, int code, const char *reason)
{
    w->code = code;
    w->reason = xstrdup(reason);
    if (w->hs)
        http_call_cancel(&w->hs->call);
    if (w->s) {
        w->peer = xstrdup(stream_peer(w->s));
        w->peer_ip = xstrdup(stream_peer_ip(w->s));
    }
    ws_set_state(w, WS_ST_ENDED);
    timer_fini(&w->timer);
    if (how == POLITELY)
        stream_close_gracefully(&w->s, LINGER_MS);
    else if (w->s)
        stream_close(&w->s);
    loop_defer(w->loop, &w->task);
}

/* The peer broke a rule. */
static void ws_fail(struct ws *w, int code, const char *why)
{
    send_close(w, code, why);
    ws_end(w, POLITELY, code, why);
}

static void ws_report(struct ws *w)
{
    ws_set_state(w, WS_ST_GONE);
    if (w->h.on_close)
        w->h.on_close(w, w->code, w->reason, w->opened, w->arg);
    loop_defer(w->loop, &w->task);
}

/* --- receiving --- */

static void got_close(struct ws *w, const struct ws_in_item *it)
{
    char reason[REASON_MAX + 1];

    snprintf(reason, sizeof(reason), "%.*s", (int)it->n, it->data);
    if (w->state == WS_ST_OPEN) /* the answer to it; after our own there is nothing to add */
        send_close(w, it->code, "");
    ws_end(w, POLITELY, it->code, reason);
}

static void ws_take(struct ws *w, const struct ws_in_item *it)
{
    switch (it->kind) {
    case WS_IN_MESSAGE:
        if (w->state == WS_ST_OPEN && w->h.on_message)
            w->h.on_message(w, it->op == WS_OP_TEXT ? WS_TEXT : WS_BINARY, it->data, it->n, w->arg);
        break;
    case WS_IN_PING: ws_pong(w, it->data, it->n); break;
    case WS_IN_PONG:
        if (w->state == WS_ST_OPEN && w->h.on_pong)
            w->h.on_pong(w, w->arg);
        break;
    case WS_IN_CLOSE: got_close(w, it); break;
    case WS_IN_FAULT: ws_fail(w, it->code, it->why); break;
    case WS_IN_MORE: break;
    }
}

static void ws_process(struct ws *w)
{
    struct ws_in_item it;

    while (ws_live(w) && !w->paused && ws_in_next(&w->in, stream_input(w->s), &it) != WS_IN_MORE)
        ws_take(w, &it);
    if (ws_live(w) && !w->paused && stream_saw_eof(w->s))
        ws_end(w, POLITELY, 1006, "the connection ended without a close frame");
}

static void on_ws_task(void *arg)
{
    struct ws *w = arg;

    switch (w->state) {
    case WS_ST_CONNECTING: break;
    case WS_ST_OPEN:
    case WS_ST_CLOSING: ws_process(w); break;
    case WS_ST_ENDED: ws_report(w); break;
    case WS_ST_GONE: ws_free(w); break;
    }
}

static void on_ws_stream(struct stream *s, enum stream_event ev, void *arg)
{
    struct ws *w = arg;

    switch (ev) {
    case STREAM_DATA:
        w->heard = w->alive = loop_now(w->loop);
        ws_process(w);
        break;
    case STREAM_EOF: ws_process(w); break;
    case STREAM_LOWAT: ws_drained(w); break;
    case STREAM_ERROR: ws_end(w, AT_ONCE, 1006, stream_error(s)); break;
    case STREAM_TIMEOUT: ws_end(w, AT_ONCE, 1006, "queued output made no progress"); break;
    case STREAM_OPEN: break;
    }
}

/* --- time --- */

static void ws_arm(struct ws *w)
{
    int64_t now = loop_now(w->loop), due;

    if (w->lim.ping_ms <= 0)
        return;
    due = w->pinged ? w->pinged + w->lim.pong_ms : w->alive + w->lim.ping_ms;
    timer_set(&w->timer, due > now ? due - now : 0);
}

static void on_ws_timer(void *arg)
{
    struct ws *w = arg;
    int64_t now = loop_now(w->loop);

    if (w->state == WS_ST_CLOSING) {
        ws_end(w, AT_ONCE, 1006, "no close frame came in answer to ours");
        return;
    }
    if (w->paused)
        w->alive = now;
    if (w->pinged && (w->alive >= w->pinged || w->lim.pong_ms <= 0))
        w->pinged = 0;
    if (w->pinged && now - w->pinged >= w->lim.pong_ms) {
        ws_end(w, AT_ONCE, 1006, "silent after a ping");
        return;
    }
    if (!w->pinged && now - w->alive >= w->lim.ping_ms) {
        ws_ping(w);
        w->pinged = now;
    }
    ws_arm(w);
}

/* --- coming to be --- */

static struct ws *ws_new(struct loop *l, bool server, const struct ws_limits *lim,
                         const struct ws_handlers *h, void *arg)
{
    struct ws *w = xcalloc(1, sizeof(*w));

    w->loop = l;
    w->server = server;
    w->lim = *lim;
    w->h = *h;
    w->arg = arg;
    w->lowat = LOWAT_DEFAULT;
    ws_in_init(&w->in, server, lim->message);
    timer_init(&w->timer, l, on_ws_timer, w);
    task_init(&w->task, on_ws_task, w);
    return w;
}

static void ws_open(struct ws *w, struct stream *s)
{
    ws_set_state(w, WS_ST_OPEN);
    w->s = s;
    w->opened = true;
    free(w->hs);
    free(w->peer);
    free(w->peer_ip);
    w->hs = NULL;
    w->peer = w->peer_ip = NULL;
    w->heard = w->alive = loop_now(w->loop);
    stream_set_cb(s, on_ws_stream, w);
    stream_set_timeouts(s, 0, w->lim.write_ms);
    stream_set_lowat(s, w->lowat);
    if (w->paused)
        stream_pause(s);
    else
        stream_resume(s);
    loop_defer(w->loop, &w->task); /* frames, or the end, may have come with the handshake */
    ws_arm(w);
}

/* What is no handshake is told so in the words of aiohttp 3.14, the server of ComfyUI. */
static void refuse(struct http_req *r)
{
    const char *upgrade = http_req_header(r, "Upgrade"), *connection = http_req_header(r, "Connection"),
               *version = http_req_header(r, "Sec-WebSocket-Version"),
               *key = http_req_header(r, "Sec-WebSocket-Key");
    char text[256];

    if (!upgrade || strcasecmp(upgrade, "websocket") != 0)
        snprintf(text, sizeof(text),
                 "No WebSocket UPGRADE hdr: %.100s\n Can \"Upgrade\" only to \"WebSocket\".",
                 upgrade ? upgrade : "None");
    else if (!http_headers_has_token(http_req_headers(r), "Connection", "upgrade"))
        snprintf(text, sizeof(text), "No CONNECTION upgrade hdr: %.100s", connection ? connection : "None");
    else if (!version || strcmp(version, "13") != 0)
        snprintf(text, sizeof(text), "Unsupported version: %.100s", version ? version : "None");
    else
        snprintf(text, sizeof(text), "Handshake error: %.100s", key ? key : "None");
    http_reply_str(r, 400, "text/plain; charset=utf-8", text);
}

struct ws *ws_accept(struct http_req *r, const struct ws_limits *lim, const struct ws_handlers *h, void *arg)
{
    char accept[WS_ACCEPT_SIZE];
    struct ws *w;

    if (!http_wants_websocket(r)) {
        refuse(r);
        return NULL;
    }
    w = ws_new(http_req_loop(r), true, lim, h, arg);
    ws_accept_value(http_req_header(r, "Sec-WebSocket-Key"), accept);
    http_set(r, "Sec-WebSocket-Accept", accept);
    ws_open(w, http_hijack_101(r, "websocket"));
    return w;
}

/* What is wrong with a 101, or NULL. */
static const char *handshake_fault(const struct http_headers *h, const char *accept)
{
    const char *v = http_headers_get(h, "Sec-WebSocket-Accept");

    if (!http_headers_has_token(h, "Upgrade", "websocket"))
        return "the answer's Upgrade is not websocket";
    if (!http_headers_has_token(h, "Connection", "upgrade"))
        return "the answer's Connection is not upgrade";
    if (!v || strcmp(v, accept) != 0)
        return "Sec-WebSocket-Accept does not fit our key";
    if (http_headers_get(h, "Sec-WebSocket-Extensions"))
        return "the server uses an extension that was not offered";
    if (http_headers_get(h, "Sec-WebSocket-Protocol"))
        return "the server chose a subprotocol that was not offered";
    return NULL;
}

static void on_handshake_head(struct http_call *c, int status, const struct http_headers *h, void *arg)
{
    struct ws *w = arg;
    const char *fault = NULL;
    char text[64];

    if (status != 101) {
        snprintf(text, sizeof(text), "the server answered %d %s", status, http_status_text(status));
        fault = text;
    } else {
        fault = handshake_fault(h, w->hs->accept);
    }
    if (fault) {
        ws_end(w, AT_ONCE, status, fault);
        return;
    }
    ws_open(w, http_call_hijack(c));
    if (w->h.on_open)
        w->h.on_open(w, w->arg);
}

static void on_handshake_done(struct http_call *c, enum http_call_end end, const char *why, void *arg)
{
    struct ws *w = arg;

    (void)c;
    (void)end;
    w->hs->call = NULL;
    ws_end(w, AT_ONCE, 0, why);
}

struct ws *ws_connect(struct http_client *c, const char *target, const struct http_headers *extra,
                      const struct ws_limits *lim, const struct ws_handlers *h, void *arg)
{
    static const struct http_call_handlers hh = {.on_head = on_handshake_head, .on_done = on_handshake_done};
    struct loop *l = http_client_loop(c);
    struct ws *w = ws_new(l, false, lim, h, arg);
    unsigned char nonce[NONCE];
    char key[4 * ((NONCE + 2) / 3) + 1];
    struct http_call *call = http_call_new(c, "GET", target, &hh, w);

    loop_clock(l)->random(loop_clock(l), nonce, sizeof(nonce));
    EVP_EncodeBlock((unsigned char *)key, nonce, sizeof(nonce));
    w->hs = xcalloc(1, sizeof(*w->hs));
    w->hs->call = call;
    ws_accept_value(key, w->hs->accept);
    w->peer = xstrdup(http_client_url(c)->authority);
    w->peer_ip = xstrdup(http_client_url(c)->host);
    for (size_t i = 0; extra && i < extra->n; i++)
        if (http_call_header(call, extra->v[i].name, extra->v[i].value) < 0)
            log_warn(LOG_S("ws", w->peer), LOG_S("field", extra->v[i].name),
                     LOG_S("reason", "field not allowed in a handshake"));
    http_call_header(call, "Connection", "Upgrade");
    http_call_header(call, "Upgrade", "websocket");
    http_call_header(call, "Sec-WebSocket-Version", "13");
    http_call_header(call, "Sec-WebSocket-Key", key);
    http_call_timeout(call, 0, HANDSHAKE_MS);
    http_call_start(call, NULL, NULL);
    return w;
}

/* --- what the owner asks for --- */

size_t ws_queued(const struct ws *w)
{
    return w->s ? stream_queued(w->s) : 0;
}

void ws_set_lowat(struct ws *w, size_t n)
{
    w->lowat = n;
    if (w->s)
        stream_set_lowat(w->s, n);
}

void ws_pause(struct ws *w)
{
    if (w->state > WS_ST_OPEN)
        return;
    w->paused = true;
    if (w->s)
        stream_pause(w->s);
}

void ws_resume(struct ws *w)
{
    if (!w->paused)
        return;
    w->paused = false;
    w->alive = loop_now(w->loop);
    if (w->s) {
        stream_resume(w->s);
        loop_defer(w->loop, &w->task); /* the parser may hold frames */
    }
}

void ws_close(struct ws *w, int code, const char *reason)
{
    assert(code == 1005 || ws_close_code_ok(code));
    if (w->state == WS_ST_CONNECTING) {
        ws_end(w, AT_ONCE, 0, "closed before it was open");
    } else if (w->state == WS_ST_OPEN) {
        send_close(w, code, reason ? reason : "");
        ws_set_state(w, WS_ST_CLOSING);
        timer_set(&w->timer, CLOSE_MS);
        ws_resume(w); /* or the peer's close would never be seen */
    }
}

void ws_abort(struct ws **wp)
{
    struct ws *w = *wp;

    if (!w)
        return;
    *wp = NULL;
    if (w->state == WS_ST_GONE)
        return;
    if (w->state < WS_ST_ENDED) {
        if (w->hs)
            http_call_cancel(&w->hs->call);
        timer_fini(&w->timer);
        if (w->s)
            stream_close(&w->s);
    }
    ws_set_state(w, WS_ST_GONE);
    loop_defer(w->loop, &w->task);
}

const char *ws_peer(const struct ws *w)
{
    return w->s ? stream_peer(w->s) : w->peer;
}

const char *ws_peer_ip(const struct ws *w)
{
    return w->s ? stream_peer_ip(w->s) : w->peer_ip;
}

int64_t ws_last_heard(const struct ws *w)
{
    return w->heard;
}
