#include "http/ws_frame.h"

#include <event2/buffer.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const uint8_t MASK[4] = {0x37, 0xfa, 0x21, 0x3d};

/* One raw frame: b0 and the payload; the head is made by hand so that it can be wrong. */
static void put_frame(struct buf *b, unsigned b0, bool masked, const void *p, size_t n)
{
    uint8_t head[WS_HEAD_MAX];
    size_t h = ws_frame_head(head, WS_OP_TEXT, n, masked ? MASK : NULL);

    head[0] = (uint8_t)b0;
    buf_put(b, head, h);
    buf_reserve(b, n);
    if (masked)
        ws_frame_mask(b->data + b->len, p, n, MASK);
    else if (n)
        memcpy(b->data + b->len, p, n);
    b->len += n;
}

/* Everything that comes out of the bytes, as one line: "T:text B:3 P:.. O:.. C1000:reason !1002". */
static void describe(struct ws_in *in, struct evbuffer *src, struct buf *log)
{
    struct ws_in_item it;

    while (ws_in_next(in, src, &it) != WS_IN_MORE) {
        if (log->len)
            buf_putc(log, ' ');
        switch (it.kind) {
        case WS_IN_MESSAGE:
            buf_puts(log, it.op == WS_OP_TEXT ? "T:" : "B:");
            if (it.op == WS_OP_TEXT && it.n < 100)
                buf_put(log, it.data, it.n);
            else
                buf_printf(log, "%zu", it.n);
            break;
        case WS_IN_PING: buf_printf(log, "P:%.*s", (int)it.n, it.data); break;
        case WS_IN_PONG: buf_printf(log, "O:%.*s", (int)it.n, it.data); break;
        case WS_IN_CLOSE: buf_printf(log, "C%d:%.*s", it.code, (int)it.n, it.data); break;
        case WS_IN_FAULT: buf_printf(log, "!%d", it.code); break;
        case WS_IN_MORE: break;
        }
    }
}

/* cut 0: in one piece; else in pieces of that size. */
static void run(bool server, size_t limit, const struct buf *bytes, size_t first, size_t step,
                struct buf *log)
{
    struct ws_in in;
    struct evbuffer *src = evbuffer_new();
    size_t at = 0, n = first ? first : bytes->len;

    ws_in_init(&in, server, limit);
    while (at < bytes->len) {
        if (n > bytes->len - at)
            n = bytes->len - at;
        evbuffer_add(src, bytes->data + at, n);
        describe(&in, src, log);
        at += n;
        n = step ? step : bytes->len - at;
    }
    ws_in_fini(&in);
    evbuffer_free(src);
}

struct row {
    const char *name;
    const char *frames; /* "<b0 hex><payload>;..." payload text, with \xHH already as bytes */
    const char *want;
};

#define BIG                                                                                                  \
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" \
    "aaaaaaaaaaaaaaaaaaaaaaa" /* 125 */

static const struct row rows[] = {
    {"text", "81hello", "T:hello"},
    {"empty text", "81", "T:"},
    {"empty binary", "82", "B:0"},
    {"two", "81a;81b", "T:a T:b"},
    {"binary of any bytes", "82\xff\xfe\x01", "B:3"},
    {"ping", "89x", "P:x"},
    {"empty ping", "89", "P:"},
    {"pong unasked", "8ax", "O:x"},
    {"longest ping", "89" BIG, "P:" BIG},
    {"ping too long", "89" BIG "a", "!1002"},
    {"pong too long", "8a" BIG "a", "!1002"},
    {"close too long", "88\x03\xe8" BIG, "!1002"},
    {"ping in two frames", "09a;80b", "!1002"},
    {"close not final", "08\x03\xe8", "!1002"},
    {"fragments", "01he;00l;80lo", "T:hello"},
    {"fragments, all empty", "01;00;80", "T:"},
    {"fragments with empty ones", "01;00he;00;80", "T:he"},
    {"binary fragments", "02a;80b", "B:2"},
    {"control between fragments", "01he;89p;00l;8aq;80lo", "P:p O:q T:hello"},
    {"close between fragments", "01he;88\x03\xe8;80lo", "C1000:"},
    {"continuation alone", "80x", "!1002"},
    {"continuation alone, not final", "00x", "!1002"},
    {"continuation after the end", "01a;80b;80c", "T:ab !1002"},
    {"text inside text", "01a;81b", "!1002"},
    {"binary inside text", "01a;02b", "!1002"},
    {"rsv1", "c1a", "!1002"},
    {"rsv2", "a1a", "!1002"},
    {"rsv3", "91a", "!1002"},
    {"rsv1 on ping", "c9a", "!1002"},
    {"rsv1 on continuation", "01a;c0b", "!1002"},
    {"rsv after a good message", "81a;f1b", "T:a !1002"},
    {"opcode 3", "83a", "!1002"},
    {"opcode 4", "84", "!1002"},
    {"opcode 5", "85a", "!1002"},
    {"opcode 6", "86a", "!1002"},
    {"opcode 7", "87", "!1002"},
    {"opcode b", "8ba", "!1002"},
    {"opcode c", "8c", "!1002"},
    {"opcode d", "8da", "!1002"},
    {"opcode e", "8ea", "!1002"},
    {"opcode f", "8f", "!1002"},
    {"close, empty", "88", "C1005:"},
    {"close, one byte", "88\x03", "!1002"},
    {"close 1000", "88\x03\xe8", "C1000:"},
    {"close 1000 with reason",
     "88\x03\xe8"
     "bye",
     "C1000:bye"},
    {"close 1001", "88\x03\xe9", "C1001:"},
    {"close 1003", "88\x03\xeb", "C1003:"},
    {"close 1004", "88\x03\xec", "!1002"},
    {"close 1005", "88\x03\xed", "!1002"},
    {"close 1006", "88\x03\xee", "!1002"},
    {"close 1007", "88\x03\xef", "C1007:"},
    {"close 1011", "88\x03\xf3", "C1011:"},
    {"close 1012", "88\x03\xf4", "C1012:"},
    {"close 1014", "88\x03\xf6", "C1014:"},
    {"close 1015", "88\x03\xf7", "!1002"},
    {"close 1016", "88\x03\xf8", "!1002"},
    {"close 1100", "88\x04\x4c", "!1002"},
    {"close 2000", "88\x07\xd0", "!1002"},
    {"close 2999", "88\x0b\xb7", "!1002"},
    {"close 3000", "88\x0b\xb8", "C3000:"},
    {"close 4999", "88\x13\x87", "C4999:"},
    {"close 5000", "88\x13\x88", "!1002"},
    {"close 65535", "88\xff\xff", "!1002"},
    {"close with a bad reason", "88\x03\xe8\xce\xba\xed\xa0\x80", "!1007"},
    {"close with a cut reason", "88\x03\xe8\xce", "!1007"},
    {"nothing after close", "88\x03\xe8;81a;89b", "C1000:"},
    {"nothing after a fault", "83a;81a", "!1002"},
    {"utf-8", "81\xce\xba\xe1\xbd\xb9\xf0\x9f\x98\x80", "T:\xce\xba\xe1\xbd\xb9\xf0\x9f\x98\x80"},
    {"utf-8 cut by fragments", "01\xf0\x9f;00\x98;80\x80", "T:\xf0\x9f\x98\x80"},
    {"utf-8 cut by fragments and a ping", "01\xf0\x9f;89\xff;80\x98\x80", "P:\xff T:\xf0\x9f\x98\x80"},
    {"utf-8 not finished", "81\xf0\x9f\x98", "!1007"},
    {"utf-8 not finished at the last fragment", "01\xf0\x9f;80", "!1007"},
    {"utf-8 starts in the middle", "81\x80", "!1007"},
    {"utf-8 broken in the second fragment", "01abc;00\xff;80", "!1007"},
    {"overlong two", "81\xc0\xaf", "!1007"},
    {"overlong three", "81\xe0\x80\xaf", "!1007"},
    {"overlong four", "81\xf0\x80\x80\xaf", "!1007"},
    {"largest overlong", "81\xf0\x8f\xbf\xbf", "!1007"},
    {"surrogate", "81\xed\xa0\x80", "!1007"},
    {"last before surrogates", "81\xed\x9f\xbf", "T:\xed\x9f\xbf"},
    {"first after surrogates", "81\xee\x80\x80", "T:\xee\x80\x80"},
    {"last code point", "81\xf4\x8f\xbf\xbf", "T:\xf4\x8f\xbf\xbf"},
    {"beyond the last", "81\xf4\x90\x80\x80", "!1007"},
    {"five-byte form", "81\xf8\x88\x80\x80\x80", "!1007"},
    {"fe", "81\xfe", "!1007"},
    {"at the limit", "82" BIG BIG, "B:250"},
    {"over the limit", "82" BIG BIG "a", "!1009"},
    {"over the limit in fragments", "02" BIG ";00" BIG ";80a", "!1009"},
    {"at the limit in fragments", "02" BIG ";80" BIG, "B:250"},
};

static void row_bytes(const struct row *r, bool masked, struct buf *out)
{
    const char *p = r->frames;

    while (*p) {
        unsigned b0;
        const char *end = strchr(p, ';');

        if (!end)
            end = p + strlen(p);
        assert_int_equal(sscanf(p, "%2x", &b0), 1);
        put_frame(out, b0, masked, p + 2, (size_t)(end - p - 2));
        p = *end ? end + 1 : end;
    }
}

/* Every sequence, both roles, whole, byte by byte, and cut in two at every place. */
static void test_table(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        for (int server = 0; server < 2; server++) {
            struct buf bytes = BUF_INIT;

            row_bytes(&rows[i], server, &bytes);
            for (size_t cut = 0; cut <= bytes.len; cut++) {
                struct buf log = BUF_INIT;

                run(server, 250, &bytes, cut, cut == 1 ? 1 : 0, &log);
                if (strcmp(buf_str(&log), rows[i].want) != 0)
                    fail_msg("%s (server %d, cut %zu): got \"%s\", want \"%s\"", rows[i].name, server, cut,
                             buf_str(&log), rows[i].want);
                buf_free(&log);
            }
            buf_free(&bytes);
        }
    }
}

static void test_masking_by_role(void **state)
{
    (void)state;
    for (int server = 0; server < 2; server++) {
        for (unsigned op = 0x81; op <= 0x8a; op += 8) {
            struct buf bytes = BUF_INIT, log = BUF_INIT;

            put_frame(&bytes, op, !server, "x", 1);
            run(server, 100, &bytes, 0, 0, &log);
            assert_string_equal(buf_str(&log), "!1002");
            buf_free(&bytes);
            buf_free(&log);
        }
    }
}

static void test_lengths_must_be_minimal(void **state)
{
    static const struct {
        const char *bytes;
        size_t n;
    } bad[] = {
        {"\x82\x7e\x00\x05hello", 9},
        {"\x82\x7e\x00\x7d", 4},
        {"\x82\x7f\x00\x00\x00\x00\x00\x00\x00\x05hello", 15},
        {"\x82\x7f\x00\x00\x00\x00\x00\x00\xff\xff", 10},
        {"\x82\x7f\x80\x00\x00\x00\x00\x00\x00\x00x", 11},
        {"\x82\x7f\xff\xff\xff\xff\xff\xff\xff\xffx", 11},
        {"\x89\x7e\x00\x05hello", 9},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct buf bytes = BUF_INIT, log = BUF_INIT;

        buf_put(&bytes, bad[i].bytes, bad[i].n);
        run(false, 1000, &bytes, 0, 0, &log);
        assert_string_equal(buf_str(&log), "!1002");
        buf_free(&bytes);
        buf_free(&log);
    }
}

/* An announced length is only a promise: nothing is allocated for it, whatever the limit. */
static void test_announced_length_allocates_nothing(void **state)
{
    static const char announce[] = "\x82\x7f\x40\x00\x00\x00\x00\x00\x00\x00";
    struct ws_in in;
    struct ws_in_item it;
    struct evbuffer *src = evbuffer_new();

    (void)state;
    /* Over the limit: refused at the head. */
    ws_in_init(&in, false, 256u << 20);
    evbuffer_add(src, announce, 10);
    assert_int_equal(ws_in_next(&in, src, &it), WS_IN_MORE);
    evbuffer_add(src, "x", 1);
    assert_int_equal(ws_in_next(&in, src, &it), WS_IN_FAULT);
    assert_int_equal(it.code, 1009);
    assert_int_equal(in.msg.cap, 0);
    ws_in_fini(&in);
    evbuffer_drain(src, evbuffer_get_length(src));

    /* Without any limit to speak of: memory is that of what came. */
    ws_in_init(&in, false, SIZE_MAX);
    evbuffer_add(src, announce, 10);
    evbuffer_add(src, "xyz", 3);
    assert_int_equal(ws_in_next(&in, src, &it), WS_IN_MORE);
    assert_int_equal(in.msg.len, 3);
    assert_true(in.msg.cap <= 4096);
    ws_in_fini(&in);

    /* And a large one that comes slowly never has more than twice of what came. */
    ws_in_init(&in, false, 256u << 20);
    evbuffer_add(src, "\x82\x7f\x00\x00\x00\x00\x01\x00\x00\x00", 10); /* 16 MiB */
    char piece[65536];
    size_t left = 16u << 20;

    memset(piece, 7, sizeof(piece));
    while (left) {
        size_t n = left < sizeof(piece) ? left : sizeof(piece);

        evbuffer_add(src, piece, n);
        left -= n;
        assert_int_equal(ws_in_next(&in, src, &it), left ? WS_IN_MORE : WS_IN_MESSAGE);
        assert_true(in.msg.cap <= 2 * in.msg.len + 4096);
    }
    assert_int_equal(it.n, 16u << 20);
    assert_true(in.msg.cap <= (16u << 20) + 4096);
    assert_int_equal(ws_in_next(&in, src, &it), WS_IN_MORE);
    assert_null(in.msg.data);
    ws_in_fini(&in);
    evbuffer_free(src);
}

static void test_idle_holds_nothing(void **state)
{
    struct ws_in in;
    struct ws_in_item it;
    struct evbuffer *src = evbuffer_new();
    struct buf b = BUF_INIT;
    char big[10000];

    (void)state;
    memset(big, 'a', sizeof(big));
    put_frame(&b, 0x01, true, big, sizeof(big));
    put_frame(&b, 0x89, true, "p", 1);
    put_frame(&b, 0x80, true, big, sizeof(big));
    ws_in_init(&in, true, 1 << 20);
    for (size_t i = 0; i < b.len; i++) {
        evbuffer_add(src, b.data + i, 1);
        while (ws_in_next(&in, src, &it) != WS_IN_MORE)
            assert_int_not_equal(it.kind, WS_IN_FAULT);
        assert_int_equal(evbuffer_get_length(src), 0);
    }
    assert_false(ws_in_pending(&in));
    assert_null(in.ctx);
    assert_null(in.msg.data);
    assert_true(sizeof(in) <= 256);
    ws_in_fini(&in);
    buf_free(&b);
    evbuffer_free(src);
}

static void test_encode(void **state)
{
    static const size_t sizes[] = {0, 1, 125, 126, 127, 65535, 65536, 100000};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        for (int masked = 0; masked < 2; masked++) {
            char *payload = malloc(sizes[i] + 1);
            struct evbuffer *src = evbuffer_new();
            struct ws_in in;
            struct ws_in_item it;

            for (size_t k = 0; k < sizes[i]; k++)
                payload[k] = (char)(k * 31);

            struct bytes *f = ws_frame_encode(WS_OP_BINARY, payload, sizes[i], masked ? MASK : NULL);

            if (!masked)
                assert_int_equal(ws_frame_head_len(f) + sizes[i], f->len);
            evbuffer_add(src, f->data, f->len);
            ws_in_init(&in, masked, 1 << 20);
            assert_int_equal(ws_in_next(&in, src, &it), WS_IN_MESSAGE);
            assert_int_equal(it.n, sizes[i]);
            assert_memory_equal(it.data, payload, sizes[i]);
            assert_int_equal(ws_in_next(&in, src, &it), WS_IN_MORE);
            assert_false(ws_in_pending(&in));
            ws_in_fini(&in);
            bytes_unref(f);
            free(payload);
            evbuffer_free(src);
        }
    }
}

static void test_accept_value(void **state)
{
    char out[WS_ACCEPT_SIZE];

    (void)state;
    ws_accept_value("dGhlIHNhbXBsZSBub25jZQ==", out); /* RFC 6455 §1.3 */
    assert_string_equal(out, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_masking_by_role),
        cmocka_unit_test(test_lengths_must_be_minimal),
        cmocka_unit_test(test_announced_length_allocates_nothing),
        cmocka_unit_test(test_idle_holds_nothing),
        cmocka_unit_test(test_encode),
        cmocka_unit_test(test_accept_value),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
