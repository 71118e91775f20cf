#include "http/ws_frame.h"

#include <assert.h>
#include <event2/buffer.h>
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <string.h>
#include <wslay/wslay.h>

/* --- UTF-8 over any number of pieces --- */

static bool utf8_lead(struct ws_utf8 *u, unsigned char c)
{
    u->lo = 0x80;
    u->hi = 0xbf;
    if (c >= 0xc2 && c <= 0xdf) {
        u->left = 1;
    } else if (c >= 0xe0 && c <= 0xef) {
        u->left = 2;
        if (c == 0xe0)
            u->lo = 0xa0; /* else overlong */
        else if (c == 0xed)
            u->hi = 0x9f; /* else a surrogate */
    } else if (c >= 0xf0 && c <= 0xf4) {
        u->left = 3;
        if (c == 0xf0)
            u->lo = 0x90; /* else overlong */
        else if (c == 0xf4)
            u->hi = 0x8f; /* else beyond U+10FFFF */
    } else {
        return false;
    }
    return true;
}

bool ws_utf8_push(struct ws_utf8 *u, const void *data, size_t n)
{
    const unsigned char *p = data, *end = p + n;

    while (p < end) {
        if (u->left == 0) {
            uint64_t eight;

            while (end - p >= 8 && (memcpy(&eight, p, 8), (eight & 0x8080808080808080u) == 0))
                p += 8;
            if (p == end)
                return true;
            if (*p >= 0x80 && !utf8_lead(u, *p))
                return false;
            p++;
            continue;
        }
        if (*p < u->lo || *p > u->hi)
            return false;
        u->lo = 0x80;
        u->hi = 0xbf;
        u->left--;
        p++;
    }
    return true;
}

/* --- inbound --- */

static ssize_t in_recv(uint8_t *buf, size_t len, int flags, void *arg)
{
    struct ws_in *in = arg;
    int n = evbuffer_remove(in->src, buf, len);

    (void)flags;
    if (n <= 0)
        return -1; /* wslay: wants to read */
    in->unread += (uint64_t)n;
    return n;
}

void ws_in_init(struct ws_in *in, bool server, size_t limit)
{
    *in = (struct ws_in){.server = server, .limit = limit};
}

void ws_in_fini(struct ws_in *in)
{
    if (in->ctx)
        wslay_frame_context_free(in->ctx);
    in->ctx = NULL;
    buf_free(&in->msg);
}

bool ws_in_pending(const struct ws_in *in)
{
    return in->ctx != NULL || in->msg.len > 0;
}

static enum ws_in_kind fault(struct ws_in *in, struct ws_in_item *out, int code, const char *why)
{
    in->done = true;
    out->kind = WS_IN_FAULT;
    out->code = code;
    out->why = why;
    return out->kind;
}

/* Nothing is half read: give wslay's 4 KiB back. */
static void in_rest(struct ws_in *in)
{
    if (in->ctx && in->unread == 0 && !in->head_seen) {
        wslay_frame_context_free(in->ctx);
        in->ctx = NULL;
    }
}

/* What was handed out by the last call is no longer needed. */
static void in_release(struct ws_in *in)
{
    if (in->ended) {
        buf_free(&in->msg);
        in->ended = false;
    }
}

/* The head of a frame, as soon as wslay shows it. */
static const char *check_head(struct ws_in *in, const struct wslay_frame_iocb *f, int *code)
{
    *code = 1002;
    if (f->rsv != WSLAY_RSV_NONE)
        return "reserved bits are set though no extension was agreed";
    if (in->server && !f->mask)
        return "a client's frame is not masked";
    if (!in->server && f->mask)
        return "a server's frame is masked";
    switch (f->opcode) {
    case WS_OP_CONTINUATION:
        if (!in->msg_op)
            return "a continuation without a message to continue";
        break;
    case WS_OP_TEXT:
    case WS_OP_BINARY:
        if (in->msg_op)
            return "a new message inside a fragmented one";
        break;
    case WS_OP_CLOSE:
    case WS_OP_PING:
    case WS_OP_PONG:
        if (f->payload_length > WS_CONTROL_MAX || !f->fin)
            return "a control frame is fragmented or too long";
        return NULL;
    default: return "an unknown opcode";
    }
    *code = 1009;
    if (f->payload_length > in->limit - in->msg.len)
        return "message over the size limit";
    return NULL;
}

/* Room for n more bytes of a message whose current frame brings frame_left in all: at most twice what has
 * arrived, and never more than was announced. */
static void msg_put(struct ws_in *in, const void *data, size_t n, uint64_t frame_left)
{
    struct buf *b = &in->msg;
    size_t need = b->len + n + 1;

    if (need > b->cap) {
        size_t cap = need < 2048 ? 2048 : need * 2;
        uint64_t most = (uint64_t)b->len + frame_left + 1;

        if (cap > most)
            cap = (size_t)most;
        if (cap < need)
            cap = need;
        b->data = xrealloc(b->data, cap);
        b->cap = cap;
    }
    buf_put(b, data, n);
}

static enum ws_in_kind take_control(struct ws_in *in, const struct wslay_frame_iocb *f,
                                    struct ws_in_item *out)
{
    memcpy(in->ctl + in->ctl_len, f->data, f->data_length);
    in->ctl_len += (uint8_t)f->data_length;
    if (in->ctl_len < f->payload_length)
        return WS_IN_MORE;
    out->op = f->opcode;
    out->data = in->ctl;
    out->n = in->ctl_len;
    in->ctl_len = 0;
    if (f->opcode != WS_OP_CLOSE)
        return out->kind = f->opcode == WS_OP_PING ? WS_IN_PING : WS_IN_PONG;

    struct ws_utf8 u = {0};

    out->code = 1005;
    if (out->n == 1)
        return fault(in, out, 1002, "a close frame with half a code");
    if (out->n >= 2) {
        out->code = (unsigned char)in->ctl[0] << 8 | (unsigned char)in->ctl[1];
        if (!ws_close_code_ok(out->code))
            return fault(in, out, 1002, "a close code that may not be sent");
        out->data += 2;
        out->n -= 2;
        if (!ws_utf8_push(&u, out->data, out->n) || u.left)
            return fault(in, out, 1007, "a close reason that is not UTF-8");
    }
    in->done = true;
    return out->kind = WS_IN_CLOSE;
}

static enum ws_in_kind take_data(struct ws_in *in, const struct wslay_frame_iocb *f, struct ws_in_item *out,
                                 bool frame_end)
{
    bool whole = frame_end && f->fin;

    if (f->opcode != WS_OP_CONTINUATION && !in->msg_op) {
        in->msg_op = f->opcode;
        in->utf8 = (struct ws_utf8){0};
    }
    if (in->msg_op == WS_OP_TEXT &&
        (!ws_utf8_push(&in->utf8, f->data, f->data_length) || (whole && in->utf8.left)))
        return fault(in, out, 1007, "text that is not UTF-8");
    if (whole && in->msg.len == 0) { /* in one piece: no copy */
        out->data = (const char *)f->data;
        out->n = f->data_length;
    } else {
        msg_put(in, f->data, f->data_length, f->payload_length - in->frame_got + f->data_length);
        if (!whole)
            return WS_IN_MORE;
        out->data = in->msg.data;
        out->n = in->msg.len;
    }
    out->op = in->msg_op;
    in->msg_op = 0;
    in->ended = true;
    return out->kind = WS_IN_MESSAGE;
}

static unsigned frame_head_size(const struct wslay_frame_iocb *f)
{
    return 2u + (f->payload_length < 126 ? 0 : f->payload_length < 65536 ? 2 : 8) + (f->mask ? 4 : 0);
}

enum ws_in_kind ws_in_next(struct ws_in *in, struct evbuffer *src, struct ws_in_item *out)
{
    static const struct wslay_frame_callbacks cb = {.recv_callback = in_recv};

    *out = (struct ws_in_item){.kind = WS_IN_MORE};
    in_release(in);
    for (;;) {
        struct wslay_frame_iocb f = {0};
        enum ws_in_kind kind;
        ssize_t n;

        if (in->done)
            return WS_IN_MORE;
        in_rest(in);
        if (!in->ctx) {
            if (evbuffer_get_length(src) == 0)
                return WS_IN_MORE;
            if (wslay_frame_context_init(&in->ctx, &cb, in) != 0)
                return fault(in, out, 1011, "out of memory");
        }
        in->src = src;
        n = wslay_frame_recv(in->ctx, &f);
        in->src = NULL;
        if (n == WSLAY_ERR_WANT_READ)
            return WS_IN_MORE;
        if (n < 0)
            return fault(in, out, 1002, "a malformed frame head");
        if (!in->head_seen) {
            int code;
            const char *why = check_head(in, &f, &code);

            if (why)
                return fault(in, out, code, why);
            in->head_seen = true;
            in->frame_got = 0;
            assert(in->unread >= frame_head_size(&f));
            in->unread -= frame_head_size(&f);
        }
        assert(in->unread >= f.data_length);
        in->unread -= f.data_length;
        in->frame_got += f.data_length;

        bool frame_end = in->frame_got == f.payload_length;

        if (frame_end)
            in->head_seen = false;
        kind = wslay_is_ctrl_frame(f.opcode) ? take_control(in, &f, out) : take_data(in, &f, out, frame_end);
        if (kind != WS_IN_MORE)
            return kind;
    }
}

/* --- outbound --- */

size_t ws_frame_head(uint8_t out[WS_HEAD_MAX], enum ws_opcode op, uint64_t len, const uint8_t mask[4])
{
    size_t n = 2;
    int bytes = len < 126 ? 0 : len < 65536 ? 2 : 8;

    out[0] = (uint8_t)(0x80 | op);
    out[1] = (uint8_t)((mask ? 0x80 : 0) | (bytes == 0 ? len : bytes == 2 ? 126 : 127));
    for (int i = bytes - 1; i >= 0; i--)
        out[n++] = (uint8_t)(len >> (8 * i));
    if (mask) {
        memcpy(out + n, mask, 4);
        n += 4;
    }
    return n;
}

void ws_frame_mask(void *dst, const void *src, size_t n, const uint8_t mask[4])
{
    uint8_t *d = dst;
    const uint8_t *s = src;
    uint32_t m4;
    uint64_t m8;
    size_t i = 0;

    memcpy(&m4, mask, 4);
    m8 = (uint64_t)m4 << 32 | m4;
    for (; n - i >= 8; i += 8) {
        uint64_t v;

        memcpy(&v, s + i, 8);
        v ^= m8;
        memcpy(d + i, &v, 8);
    }
    for (; i < n; i++)
        d[i] = s[i] ^ mask[i & 3];
}

struct bytes *ws_frame_encode(enum ws_opcode op, const void *p, size_t n, const uint8_t mask[4])
{
    uint8_t head[WS_HEAD_MAX];
    size_t h = ws_frame_head(head, op, n, mask);
    struct bytes *b = bytes_alloc(h + n);

    memcpy(b->data, head, h);
    if (mask)
        ws_frame_mask(b->data + h, p, n, mask);
    else if (n)
        memcpy(b->data + h, p, n);
    return b;
}

size_t ws_frame_head_len(const struct bytes *frame)
{
    unsigned len = (unsigned char)frame->data[1];

    return 2u + (len < 126 ? 0 : len == 126 ? 2 : 8);
}

bool ws_close_code_ok(int code)
{
    return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) || (code >= 3000 && code <= 4999);
}

void ws_accept_value(const char *key, char out[WS_ACCEPT_SIZE])
{
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    unsigned char sum[SHA_DIGEST_LENGTH];
    struct buf b = BUF_INIT;

    buf_puts(&b, key);
    buf_puts(&b, guid);
    SHA1((const unsigned char *)b.data, b.len, sum);
    buf_free(&b);
    EVP_EncodeBlock((unsigned char *)out, sum, sizeof(sum));
}
