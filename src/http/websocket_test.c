#include "http/websocket.h"

#include "http/ws_end_test.h"

/* --- handshake --- */

static void test_client_request(void **state)
{
    struct end e;
    struct buf in = BUF_INIT, req = BUF_INIT;
    struct http_headers extra;

    (void)state;
    end_init(&e, false);
    http_headers_init(&extra);
    http_headers_add(&extra, "X-Api-Key", "k");
    e.ws = ws_connect(client, "/ws?clientId=abc", &extra, &usual, &handlers, &e);
    e.fd = peer_accept(lfd);
    peer_request(e.fd, &in, &req);
    assert_int_equal(strncmp(req.data, "GET /ws?clientId=abc HTTP/1.1\r\nHost: 127.0.0.1:", 47), 0);
    assert_non_null(strstr(req.data, "\r\nX-Api-Key: k\r\n"));
    assert_non_null(strstr(req.data, "\r\nUpgrade: websocket\r\n"));
    assert_non_null(strstr(req.data, "\r\nConnection: Upgrade\r\n"));
    assert_non_null(strstr(req.data, "\r\nSec-WebSocket-Version: 13\r\n"));
    assert_null(strcasestr(req.data, "extensions"));
    http_headers_fini(&extra);
    buf_free(&in);
    buf_free(&req);
    end_fini(&e);
    assert_int_equal(e.closes, 0);
}

static void test_client_handshake_faults(void **state)
{
    static const struct {
        const char *answer; /* %s: the right Sec-WebSocket-Accept */
        int code;
    } rows[] = {
        {"HTTP/1.1 404 Not Found\r\nContent-Length: 100000\r\n\r\n", 404},
        {"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200},
        {"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", 302},
        {"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n", 101},
        {"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
         "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
         101},
        {"HTTP/1.1 101 x\r\nUpgrade: h2c\r\nConnection: upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n", 101},
        {"HTTP/1.1 101 x\r\nConnection: upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n", 101},
        {"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: %s\r\n\r\n", 101},
        {"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Accept: %s\r\n"
         "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n",
         101},
        {"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Accept: %s\r\n"
         "Sec-WebSocket-Protocol: chat\r\n\r\n",
         101},
        {"nonsense\r\n\r\n", 0},
        {"", 0}, /* closed */
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct end e;
        struct buf in = BUF_INIT, req = BUF_INIT;
        char accept[WS_ACCEPT_SIZE], key[25] = "", text[400];

        end_init(&e, false);
        e.ws = ws_connect(client, "/ws", NULL, &usual, &handlers, &e);
        e.fd = peer_accept(lfd);
        peer_request(e.fd, &in, &req);
        memcpy(key, strstr(req.data, "Sec-WebSocket-Key: ") + 19, 24);
        ws_accept_value(key, accept);
        const char *at = strstr(rows[i].answer, "%s");

        snprintf(text, sizeof(text), "%.*s%s%s", (int)(at ? at - rows[i].answer : 0), rows[i].answer,
                 at ? accept : "", at ? at + 2 : rows[i].answer);
        peer_send(e.fd, text);
        if (!*rows[i].answer) {
            close(e.fd);
            e.fd = -1;
        }
        TURN_UNTIL(e.closes);
        assert_int_equal(e.code, rows[i].code);
        assert_false(e.opened);
        assert_int_equal(e.opens, 0);
        assert_true(e.reason[0] != '\0');
        if (e.fd >= 0)
            want_tcp_end(&e);
        buf_free(&in);
        buf_free(&req);
        end_fini(&e);
    }
    /* Nobody there. */
    struct end e;

    end_init(&e, false);
    close(lfd);
    e.ws = ws_connect(client, "/ws", NULL, &usual, &handlers, &e);
    TURN_UNTIL(e.closes);
    assert_int_equal(e.code, 0);
    assert_false(e.opened);
    end_fini(&e);
    lfd = peer_listen(&port);
}

static void test_server_handshake_faults(void **state)
{
    static const char *const bad[] = {
        "GET /ws HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: "
        "13\r\n\r\n",
        "GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: "
        "8\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        "POST /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: "
        "13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nContent-Length: 0\r\n\r\n",
        "GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: "
        "13\r\n"
        "Sec-WebSocket-Key: short\r\n\r\n",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct end e;
        struct buf in = BUF_INIT;

        end_init(&e, true);
        accepting = &e;
        accept_limits = &usual;
        e.fd = peer_connect(server_port);
        peer_send(e.fd, bad[i]);
        peer_want_text(e.fd, &in, "HTTP/1.1 400 ");
        assert_null(e.ws);
        buf_free(&in);
        end_fini(&e);
    }
}

/* Frames right behind the handshake are not lost, however the bytes are cut. */
static void test_frames_with_the_handshake(void **state)
{
    (void)state;
    FOR_BOTH_ROLES(role)
    {
        struct end e;
        struct buf b = BUF_INIT;

        end_init(&e, role);
        put_frame(&e, &b, 0x81, "first", 5);
        put_frame(&e, &b, 0x81, "second", 6);
        if (role) {
            struct buf out = BUF_INIT;

            accepting = &e;
            accept_limits = &usual;
            e.fd = peer_connect(server_port);
            buf_puts(&out,
                     "GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                     "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n");
            buf_put(&out, b.data, b.len);
            peer_send_n(e.fd, out.data, out.len);
            buf_free(&out);
        } else {
            e.ws = ws_connect(client, "/ws", NULL, &usual, &handlers, &e);
            e.fd = peer_accept(lfd);
            answer_handshake(&e, "", b.data, b.len);
        }
        TURN_UNTIL(e.log.len >= 16);
        assert_string_equal(buf_str(&e.log), "T:first T:second");
        buf_free(&b);
        end_fini(&e);
    }
}

/* --- messages --- */

static void test_messages(void **state)
{
    (void)state;
    FOR_BOTH_ROLES(role)
    {
        struct end e;
        struct buf all = BUF_INIT;
        struct ws_in_item it;

        open_end(&e, role, &usual);
        e.act = ECHO;
        put_frame(&e, &all, 0x81, "hello", 5);
        put_frame(&e, &all, 0x01, "frag", 4);
        put_frame(&e, &all, 0x89, "ping", 4);
        put_frame(&e, &all, 0x80, "ment", 4);
        put_frame(&e, &all, 0x82, "\0\1\2", 3);
        for (size_t i = 0; i < all.len; i++) {
            peer_send_n(e.fd, all.data + i, 1);
            turns(2);
        }
        TURN_UNTIL(e.log.len >= 22);
        assert_string_equal(buf_str(&e.log), "T:hello T:fragment B:3");
        it = next_frame(&e);
        assert_int_equal(it.op, WS_OP_TEXT);
        assert_memory_equal(it.data, "hello", 5);
        it = next_frame(&e);
        assert_int_equal(it.kind, WS_IN_PONG);
        assert_int_equal(it.n, 4);
        assert_memory_equal(it.data, "ping", 4);
        it = next_frame(&e);
        assert_memory_equal(it.data, "fragment", 8);
        it = next_frame(&e);
        assert_int_equal(it.op, WS_OP_BINARY);
        assert_memory_equal(it.data, "\0\1\2", 3);
        ws_ping(e.ws);
        it = next_frame(&e);
        assert_int_equal(it.kind, WS_IN_PING);
        send_frame(&e, 0x8a, "", 0);
        TURN_UNTIL(e.pongs == 1);
        assert_int_equal(e.closes, 0);
        buf_free(&all);
        end_fini(&e);
    }
}

/* One encoded frame for many sockets; what a client-role socket sends is masked, each time with another key.
 */
static void test_shared_frames(void **state)
{
    struct bytes *f = ws_frame_new(WS_TEXT, "shared text", 11);
    struct end a, b;
    struct ws_in_item it;
    struct buf raw = BUF_INIT;

    (void)state;
    open_end(&a, true, &usual);
    open_end(&b, true, &usual);
    ws_send_frame(a.ws, f);
    ws_send_frame(b.ws, f);
    peer_want(a.fd, &raw, f->len);
    assert_memory_equal(raw.data, f->data, f->len);
    it = next_frame(&b);
    assert_memory_equal(it.data, "shared text", 11);
    end_fini(&a);
    end_fini(&b);

    open_end(&a, false, &usual);
    buf_clear(&raw);
    ws_send_frame(a.ws, f);
    ws_send_frame(a.ws, f);
    peer_want(a.fd, &raw, 2 * (f->len + 4));
    assert_int_equal((unsigned char)raw.data[1], 0x80 | 11);
    assert_memory_not_equal(raw.data + 2, raw.data + f->len + 4 + 2, 4); /* the keys */
    evbuffer_add(a.src, raw.data, raw.len);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(ws_in_next(&a.in, a.src, &it), WS_IN_MESSAGE);
        assert_int_equal(it.n, 11);
        assert_memory_equal(it.data, "shared text", 11);
    }
    end_fini(&a);
    buf_free(&raw);

    /* A large one is not copied per socket. */
    struct bytes *big = bytes_alloc(8u << 20);

    memset(big->data, 'x', big->len);
    bytes_unref(f);
    f = ws_frame_new(WS_BINARY, big->data, big->len);
    open_end(&a, true, &usual);
    open_end(&b, true, &usual);
    held_most = held;
    ws_send_frame(a.ws, f);
    ws_send_frame(b.ws, f);
    turns(3);
    assert_true(ws_queued(a.ws) > 0);
    assert_true(held_most < (1u << 20));
    end_fini(&a);
    end_fini(&b);
    bytes_unref(big);
    assert_int_equal(f->refs, 1);
    bytes_unref(f);
}

static void test_big_message_follows_arrival(void **state)
{
    (void)state;
    FOR_BOTH_ROLES(role)
    {
        struct ws_limits lim = {.message = 256u << 20};
        struct end e;
        size_t n = 20u << 20;
        char *data = malloc(n);

        memset(data, 0x5a, n);
        open_end(&e, role, &lim);
        held_most = held;
        send_frame(&e, 0x82, data, n);
        TURN_UNTIL(e.bytes == n);
        assert_string_equal(buf_str(&e.log), "B:20971520");
        assert_true(held_most <
                    (2u << 20)); /* in the socket's buffer; the message itself is counted elsewhere */
        free(data);
        end_fini(&e);
    }
}

/* --- ends --- */

static void test_faults_close_with_their_code(void **state)
{
    static const struct {
        unsigned b0;
        const char *payload;
        size_t n;
        int code;
    } rows[] = {
        {0x83, "x", 1, 1002},
        {0xc1, "x", 1, 1002},
        {0x80, "x", 1, 1002},
        {0x81, "\xff", 1, 1007},
        {0x82, NULL, (1 << 20) + 1, 1009},
        {0x88, "\x03\xed", 2, 1002},
    };
    char *big = calloc(1, (1 << 20) + 1);

    (void)state;
    FOR_BOTH_ROLES(role)
    {
        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
            struct end e;

            open_end(&e, role, &usual);
            send_frame(&e, rows[i].b0, rows[i].payload ? rows[i].payload : big, rows[i].n);
            send_frame(&e, 0x81, "not any more", 12);
            want_close_frame(&e, rows[i].code);
            TURN_UNTIL(e.closes);
            assert_int_equal(e.code, rows[i].code);
            assert_true(e.opened);
            assert_int_equal(e.log.len, 0);
            want_tcp_end(&e);
            end_fini(&e);
        }
    }
    free(big);
}

static void test_peer_closes(void **state)
{
    static const struct {
        const char *payload;
        size_t n;
        int code;
        const char *reason;
    } rows[] = {{"\x03\xe8", 2, 1000, ""},
                {"\x03\xe9going", 7, 1001, "going"},
                {"\x0f\xa0", 2, 4000, ""},
                {"", 0, 1005, ""}};

    (void)state;
    FOR_BOTH_ROLES(role)
    {
        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
            struct end e;

            open_end(&e, role, &usual);
            ws_send_text(e.ws, "last words", 10);
            send_frame(&e, 0x88, rows[i].payload, rows[i].n);
            assert_int_equal(next_frame(&e).kind, WS_IN_MESSAGE);
            want_close_frame(&e, rows[i].code);
            TURN_UNTIL(e.closes);
            assert_int_equal(e.code, rows[i].code);
            assert_string_equal(e.reason, rows[i].reason);
            assert_true(e.opened);
            want_tcp_end(&e);
            end_fini(&e);
        }
        for (int reset = 0; reset < 2; reset++) { /* without a frame */
            struct end e;

            open_end(&e, role, &usual);
            send_frame(&e, 0x81, "x", 1);
            TURN_UNTIL(e.log.len);
            send_frame(&e, 0x01, "half", 4);
            turns(2);
            if (reset)
                peer_reset(e.fd);
            else
                close(e.fd);
            e.fd = -1;
            TURN_UNTIL(e.closes);
            assert_int_equal(e.code, 1006);
            assert_true(e.opened);
            end_fini(&e);
        }
    }
}

static void test_we_close(void **state)
{
    (void)state;
    FOR_BOTH_ROLES(role)
    {
        struct end e;
        struct ws_in_item it;
        char reason[200];

        memset(reason, 0, sizeof(reason));
        for (int i = 0; i < 120; i += 2)
            memcpy(reason + i, "\xc3\xa4", 2);
        memcpy(reason + 120, "\xe2\x82\xac", 4); /* would end at 123: fits */
        open_end(&e, role, &usual);
        ws_send_text(e.ws, "before", 6);
        ws_close(e.ws, 1001, reason);
        ws_close(e.ws, 1000, "twice"); /* nothing */
        ws_send_text(e.ws, "after", 5);
        assert_int_equal(e.closes, 0);
        assert_int_equal(next_frame(&e).kind, WS_IN_MESSAGE);
        it = next_frame(&e);
        assert_int_equal(it.kind, WS_IN_CLOSE);
        assert_int_equal(it.code, 1001);
        assert_int_equal(it.n, 123);
        send_frame(&e, 0x81, "too late", 8); /* is not delivered */
        turns(5);
        assert_int_equal(e.closes, 0);
        send_frame(&e, 0x88, "\x03\xe9", 2);
        TURN_UNTIL(e.closes);
        assert_int_equal(e.code, 1001);
        assert_int_equal(e.log.len, 0);
        want_tcp_end(&e);
        end_fini(&e);

        /* A reason that is too long is cut between characters. */
        open_end(&e, role, &usual);
        memcpy(reason + 120, "a\xe2\x82\xac", 5);
        ws_pause(e.ws); /* the answer is seen all the same */
        ws_close(e.ws, 1000, reason);
        it = next_frame(&e);
        assert_int_equal(it.kind, WS_IN_CLOSE);
        assert_int_equal(it.n, 121);
        send_frame(&e, 0x88, "\x03\xe8", 2);
        TURN_UNTIL(e.closes);
        assert_int_equal(e.code, 1000);
        end_fini(&e);
    }
}

/* Both at once, so that it takes 5 s once. */
static void test_close_that_is_not_answered(void **state)
{
    struct end e[2];

    (void)state;
    FOR_BOTH_ROLES(role)
    {
        open_end(&e[role], role, &usual);
        ws_close(e[role].ws, 1000, "");
    }
    TURN_UNTIL(e[0].closes && e[1].closes);
    FOR_BOTH_ROLES(role)
    {
        assert_int_equal(e[role].code, 1006);
        want_tcp_end(&e[role]);
        end_fini(&e[role]);
    }
}

static void test_ends_inside_callbacks(void **state)
{
    (void)state;
    FOR_BOTH_ROLES(role)
    {
        for (int act = ABORT_IN_MESSAGE; act <= ABORT_IN_CLOSE; act++) {
            struct end e;
            struct buf b = BUF_INIT;

            if (role && act == ABORT_IN_OPEN)
                continue;
            if (act == ABORT_IN_OPEN) {
                end_init(&e, role);
                e.act = act;
                e.ws = ws_connect(client, "/ws", NULL, &usual, &handlers, &e);
                e.fd = peer_accept(lfd);
                answer_handshake(&e, "", "\x81\x01x", 3);
                TURN_UNTIL(e.opens);
            } else {
                open_end(&e, role, &usual);
                e.act = act;
                put_frame(&e, &b, 0x81, "one", 3);
                put_frame(&e, &b, 0x81, "two", 3);
                put_frame(&e, &b, 0x88, "\x03\xe8", 2);
                peer_send_n(e.fd, b.data, b.len);
                TURN_UNTIL(e.log.len || e.closes);
            }
            turns(10);
            if (act == ABORT_IN_MESSAGE || act == ABORT_IN_OPEN) {
                assert_int_equal(e.closes, 0);
                assert_string_equal(buf_str(&e.log), act == ABORT_IN_OPEN ? "" : "T:one");
                want_tcp_end(&e);
            } else if (act == CLOSE_IN_MESSAGE) {
                want_close_frame(&e, 4001);
                assert_string_equal(buf_str(&e.log), "T:one");
                TURN_UNTIL(e.closes);
                assert_int_equal(e.code, 1000);
            } else if (act == PAUSE_IN_MESSAGE) {
                assert_string_equal(buf_str(&e.log), "T:one");
                ws_resume(e.ws);
                assert_string_equal(buf_str(&e.log), "T:one");
                TURN_UNTIL(strcmp(buf_str(&e.log), "T:one T:two") == 0);
                turns(10);
                assert_int_equal(e.closes, 0);
                ws_resume(e.ws);
                TURN_UNTIL(e.closes);
            } else {
                TURN_UNTIL(e.closes);
                assert_null(e.ws);
            }
            buf_free(&b);
            end_fini(&e);
        }
    }
    /* While the handshake is under way. */
    struct end e;

    end_init(&e, false);
    e.ws = ws_connect(client, "/ws", NULL, &usual, &handlers, &e);
    e.fd = peer_accept(lfd);
    ws_close(e.ws, 1000, "");
    TURN_UNTIL(e.closes);
    assert_false(e.opened);
    end_fini(&e);
    end_init(&e, false);
    e.ws = ws_connect(client, "/ws", NULL, &usual, &handlers, &e);
    http_client_free(&client);
    TURN_UNTIL(e.closes);
    assert_int_equal(e.code, 0);
    end_fini(&e);
}

/* --- silence, back-pressure, bounds --- */

static void test_pings(void **state)
{
    (void)state;
    FOR_BOTH_ROLES(role)
    {
        struct ws_limits lim = {.message = 1000, .ping_ms = 40, .pong_ms = 60};
        struct end e;

        open_end(&e, role, &lim);
        for (int i = 0; i < 3; i++) { /* alive: any byte counts */
            assert_int_equal(next_frame(&e).kind, WS_IN_PING);
            if (i == 1)
                send_frame(&e, 0x81, "x", 1);
            else
                send_frame(&e, 0x8a, "", 0);
        }
        assert_int_equal(next_frame(&e).kind, WS_IN_PING);
        TURN_UNTIL(e.closes); /* half open */
        assert_int_equal(e.code, 1006);
        end_fini(&e);

        /* Not read is not dead. */
        open_end(&e, role, &lim);
        ws_pause(e.ws);
        int64_t until = loop_now(loop) + 300;

        while (loop_now(loop) < until)
            loop_turn(loop, 10);
        assert_int_equal(e.closes, 0);
        ws_resume(e.ws);
        TURN_UNTIL(e.closes);
        end_fini(&e);
    }
}

static void test_write_timeout_and_drain(void **state)
{
    char *big = calloc(1, 1 << 20);

    (void)state;
    FOR_BOTH_ROLES(role)
    {
        struct ws_limits lim = {.message = 1000, .write_ms = 150};
        struct end e;
        struct buf in = BUF_INIT;

        open_end(&e, role, &lim);
        ws_set_lowat(e.ws, 1000);
        for (int i = 0; i < 16; i++)
            ws_send_binary(e.ws, big, 1 << 20);
        while (!e.drains) {
            bool eof = false;
            int err = 0;

            if (!peer_recv(e.fd, &in, &eof, &err))
                loop_turn(loop, 1);
            buf_clear(&in);
            assert_false(eof || err);
        }
        assert_int_equal(e.drains, 1);
        assert_true(ws_queued(e.ws) <= 1000);
        for (int i = 0; i < 16; i++)
            ws_send_binary(e.ws, big, 1 << 20);
        TURN_UNTIL(e.closes); /* nobody reads */
        assert_int_equal(e.code, 1006);
        buf_free(&in);
        end_fini(&e);
    }
    free(big);
}

/* A peer that pings for ever and reads nothing costs no memory; when it reads again, its latest ping is
 * answered. */
static void test_ping_flood(void **state)
{
    struct buf pings = BUF_INIT;

    (void)state;
    FOR_BOTH_ROLES(role)
    {
        struct end e;
        struct ws_in_item it;
        char payload[125] = "";
        int64_t until;
        size_t sent = 0;

        open_end(&e, role, &usual);
        buf_clear(&pings);
        for (int i = 0; i < 500; i++)
            put_frame(&e, &pings, 0x89, payload, sizeof(payload));
        held_most = held;
        until = loop_now(loop) + PATIENCE_MS;
        while ((sent < (24u << 20) || sent % pings.len) && loop_now(loop) < until) {
            size_t at = sent % pings.len;
            ssize_t n = send(e.fd, pings.data + at, pings.len - at, MSG_NOSIGNAL);

            if (n > 0)
                sent += (size_t)n;
            loop_turn(loop, n > 0 ? 0 : 1);
        }
        assert_int_equal(e.closes, 0);
        assert_true(ws_queued(e.ws) > 64 * 1024);
        assert_true(ws_queued(e.ws) <= 64 * 1024 + 200);
        assert_true(held_most < (1u << 20));
        send_frame(&e, 0x89, "the last", 8);
        turns(10);
        do {
            it = next_frame(&e);
            assert_int_equal(it.kind, WS_IN_PONG);
        } while (it.n == sizeof(payload));
        assert_int_equal(it.n, 8);
        assert_memory_equal(it.data, "the last", 8);
        end_fini(&e);
    }
    buf_free(&pings);
}

static void test_pause_holds_the_peer_back(void **state)
{
    (void)state;
    FOR_BOTH_ROLES(role)
    {
        struct end e;
        struct buf frames = BUF_INIT;
        size_t sent = 0, total;
        char piece[10000] = "";

        open_end(&e, role, &usual);
        for (int i = 0; i < 3000; i++)
            put_frame(&e, &frames, 0x82, piece, sizeof(piece));
        total = frames.len;
        ws_pause(e.ws);
        held_most = held;
        for (int idle = 0; idle < 20;) {
            ssize_t n = send(e.fd, frames.data + sent, total - sent, MSG_NOSIGNAL);

            sent += n > 0 ? (size_t)n : 0;
            idle = n > 0 ? 0 : idle + 1;
            loop_turn(loop, 1);
        }
        assert_true(sent < total);
        assert_int_equal(e.bytes, 0);
        ws_resume(e.ws);
        peer_send_n(e.fd, frames.data + sent, total - sent);
        TURN_UNTIL(e.bytes == 3000 * sizeof(piece));
        assert_true(held_most < (1u << 20));
        buf_free(&frames);
        end_fini(&e);
    }
}

#if defined(__SANITIZE_ADDRESS__)
#define COUNTS_MEMORY 0
#else
#define COUNTS_MEMORY 1
#endif

/* The whole of an idle socket: ws, stream, handlers. */
static void test_idle_memory(void **state)
{
    enum { N = 50 };
    static struct end e[N];

    (void)state;
    FOR_BOTH_ROLES(role)
    {
        size_t before, each;

        for (int i = 0; i < N; i++)
            end_init(&e[i], role);
        turns(3);
        before = mallinfo2().uordblks;
        for (int i = 0; i < N; i++) {
            struct evbuffer *src = e[i].src;
            struct ws_limits lim = {
                .message = 256u << 20, .ping_ms = 30000, .pong_ms = 10000, .write_ms = 10000};

            open_end(&e[i], role, &lim);
            evbuffer_free(src);
            send_frame(&e[i], 0x89, "abc", 3);
            assert_int_equal(next_frame(&e[i]).kind, WS_IN_PONG);

            struct ws_in_item it; /* lets go of what the peer's parser holds */

            assert_int_equal(ws_in_next(&e[i].in, e[i].src, &it), WS_IN_MORE);
        }
        turns(5);
        each = (mallinfo2().uordblks - before) / N;
        print_message("%s: %zu bytes\n", role ? "server" : "client", each);
        if (COUNTS_MEMORY)
            assert_true(each > 500 && each <= 4096);
        for (int i = 0; i < N; i++)
            end_fini(&e[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_client_request, setup, teardown),
        cmocka_unit_test_setup_teardown(test_client_handshake_faults, setup, teardown),
        cmocka_unit_test_setup_teardown(test_server_handshake_faults, setup, teardown),
        cmocka_unit_test_setup_teardown(test_frames_with_the_handshake, setup, teardown),
        cmocka_unit_test_setup_teardown(test_messages, setup, teardown),
        cmocka_unit_test_setup_teardown(test_shared_frames, setup, teardown),
        cmocka_unit_test_setup_teardown(test_big_message_follows_arrival, setup, teardown),
        cmocka_unit_test_setup_teardown(test_faults_close_with_their_code, setup, teardown),
        cmocka_unit_test_setup_teardown(test_peer_closes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_we_close, setup, teardown),
        cmocka_unit_test_setup_teardown(test_close_that_is_not_answered, setup, teardown),
        cmocka_unit_test_setup_teardown(test_ends_inside_callbacks, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pings, setup, teardown),
        cmocka_unit_test_setup_teardown(test_write_timeout_and_drain, setup, teardown),
        cmocka_unit_test_setup_teardown(test_ping_flood, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pause_holds_the_peer_back, setup, teardown),
        cmocka_unit_test_setup_teardown(test_idle_memory, setup, teardown),
    };

    held_watch();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
