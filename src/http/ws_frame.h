/* WebSocket frames without a socket: bytes in, messages out, and the other way. Private to this room.
 *
 * Inbound frames are parsed by wslay's frame layer, which hands payload on as it comes, so that memory
 * follows what has arrived. What that layer leaves open is decided here: masking by role, reserved bits and
 * opcodes, order of fragments, UTF-8 of text, close codes, and the size of a whole message. */
#ifndef HTTP_WS_FRAME_H
#define HTTP_WS_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

struct evbuffer;
struct wslay_frame_context;

enum ws_opcode {
    WS_OP_CONTINUATION = 0x0,
    WS_OP_TEXT = 0x1,
    WS_OP_BINARY = 0x2,
    WS_OP_CLOSE = 0x8,
    WS_OP_PING = 0x9,
    WS_OP_PONG = 0xa
};
#define WS_CONTROL_MAX 125
#define WS_HEAD_MAX 14

/* Is the text UTF-8 so far? Zero-initialised at the start; complete when left is 0. */
struct ws_utf8 {
    uint8_t left, lo, hi;
};
bool ws_utf8_push(struct ws_utf8 *u, const void *data, size_t n);

enum ws_in_kind {
    WS_IN_MORE,    /* nothing whole is there */
    WS_IN_MESSAGE, /* op TEXT or BINARY, data */
    WS_IN_PING,    /* data: to be sent back */
    WS_IN_PONG,    /* data */
    WS_IN_CLOSE,   /* code (1005: none given), data: the reason; nothing is parsed after it */
    WS_IN_FAULT    /* code to close with, why; nothing is parsed after it */
};
/* data is valid until the next call and not NUL-terminated. */
struct ws_in_item {
    enum ws_in_kind kind;
    enum ws_opcode op;
    int code;
    const char *data;
    size_t n;
    const char *why; /* static text */
};

struct ws_in {
    struct wslay_frame_context *ctx; /* NULL between frames: an idle socket holds nothing */
    struct evbuffer *src;            /* during a call */
    struct buf msg;                  /* the message that is arriving */
    size_t limit;
    uint64_t frame_got; /* payload bytes of the current frame that were taken */
    uint64_t unread;    /* bytes that wslay has taken and we have not seen */
    struct ws_utf8 utf8;
    uint8_t msg_op;  /* TEXT or BINARY while a fragmented message is open, else 0 */
    uint8_t ctl_len; /* bytes of a control frame that came in pieces */
    bool server, head_seen, ended, done;
    char ctl[WS_CONTROL_MAX];
};
/* server: the peer is a client, so its frames are masked. limit: bytes of a whole message. */
void ws_in_init(struct ws_in *in, bool server, size_t limit);
void ws_in_fini(struct ws_in *in);
/* The next thing in src, which is drained as far as that took. */
enum ws_in_kind ws_in_next(struct ws_in *in, struct evbuffer *src, struct ws_in_item *out);
/* Bytes have been taken from the socket of which no item was made yet, or may hold more items. */
bool ws_in_pending(const struct ws_in *in);

/* Outbound. mask NULL: unmasked (server role). Returns the length of the head. */
size_t ws_frame_head(uint8_t out[WS_HEAD_MAX], enum ws_opcode op, uint64_t len, const uint8_t mask[4]);
void ws_frame_mask(void *dst, const void *src, size_t n, const uint8_t mask[4]);
struct bytes *ws_frame_encode(enum ws_opcode op, const void *p, size_t n, const uint8_t mask[4]);
/* Where the payload of an unmasked frame made here begins. */
size_t ws_frame_head_len(const struct bytes *frame);

/* May this code stand in a close frame (RFC 6455 §7.4 and IANA's list)? */
bool ws_close_code_ok(int code);

#define WS_ACCEPT_SIZE 29
void ws_accept_value(const char *key, char out[WS_ACCEPT_SIZE]);

#endif
