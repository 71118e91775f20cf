/* Inbound WebSocket frames, both roles. The first byte chooses role, limit and how the rest is cut. Whatever
 * the bytes are: no crash, memory follows arrival, and the same items come out however the bytes are cut. */
#include <event2/buffer.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "http/ws_frame.h"

static void check_item(const struct ws_in_item *it, size_t fed, size_t limit)
{
    struct ws_utf8 u = {0};

    switch (it->kind) {
    case WS_IN_MESSAGE:
        FUZZ_CHECK(it->op == WS_OP_TEXT || it->op == WS_OP_BINARY);
        FUZZ_CHECK(it->n <= limit && it->n <= fed);
        if (it->op == WS_OP_TEXT)
            FUZZ_CHECK(ws_utf8_push(&u, it->data, it->n) && u.left == 0);
        break;
    case WS_IN_PING:
    case WS_IN_PONG: FUZZ_CHECK(it->n <= WS_CONTROL_MAX); break;
    case WS_IN_CLOSE:
        FUZZ_CHECK(it->n + 2 <= WS_CONTROL_MAX || it->n == 0);
        FUZZ_CHECK(it->code == 1005 || ws_close_code_ok(it->code));
        break;
    case WS_IN_FAULT: FUZZ_CHECK(ws_close_code_ok(it->code) && it->why); break;
    case WS_IN_MORE: break;
    }
}

/* Everything that came out, written down. */
static void run(const uint8_t *data, size_t size, bool server, size_t limit, size_t step, struct buf *log)
{
    struct ws_in in;
    struct ws_in_item it;
    struct evbuffer *src = evbuffer_new();

    ws_in_init(&in, server, limit);
    for (size_t at = 0; at < size;) {
        size_t n = step < size - at ? step : size - at;

        evbuffer_add(src, data + at, n);
        at += n;
        while (ws_in_next(&in, src, &it) != WS_IN_MORE) {
            check_item(&it, at, limit);
            buf_printf(log, "%d %d %d %zu:", it.kind, it.kind == WS_IN_FAULT ? 0 : (int)it.op, it.code, it.n);
            buf_put(log, it.data, it.n);
        }
        FUZZ_CHECK(in.msg.cap <= 2 * at + 4096);
        FUZZ_CHECK(in.done || evbuffer_get_length(src) == 0);
    }
    ws_in_fini(&in);
    evbuffer_free(src);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct buf whole = BUF_INIT, cut = BUF_INIT;
    bool server;
    size_t limit, step;

    if (size < 1)
        return 0;
    server = data[0] & 1;
    limit = data[0] & 2 ? 300 : SIZE_MAX;
    step = (size_t)(data[0] >> 2) + 1;
    data++;
    size--;
    run(data, size, server, limit, size, &whole);
    run(data, size, server, limit, step, &cut);
    FUZZ_CHECK(whole.len == cut.len && (whole.len == 0 || memcmp(whole.data, cut.data, whole.len) == 0));
    buf_free(&whole);
    buf_free(&cut);
    return 0;
}
