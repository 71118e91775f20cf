/* What a caller of http_pass_through() can ask for. */
#include "http/pass_rig_test.h"

static int released;

static void on_release(void *arg)
{
    assert_ptr_equal(arg, &released);
    released++;
}

static bool wants_200(int status, void *arg)
{
    (void)arg;
    return status == 200;
}

static void on_declined(struct http_req *req, const char *why, void *arg)
{
    (void)arg;
    assert_true(why[0] != '\0');
    given_back = req;
}

/* The request is its caller's again, with nothing sent, whether the answer is not wanted or none comes. */
static void test_wanted_or_not(void **state)
{
    static const struct {
        const char *answer;
        bool given_back;
    } cases[] = {{"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", false},
                 {"HTTP/1.1 404 Not Found\r\nX: 1\r\nContent-Length: 4\r\n\r\nnone", true},
                 {"", true}}; /* it closes */

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf in = BUF_INIT, req = BUF_INIT, got = BUF_INIT;
        int down = peer_connect(gate_port), up;

        released = 0;
        given_back = NULL;
        opt = (struct http_pass){
            .wants = wants_200, .on_unreachable = on_declined, .release = on_release, .arg = &released};
        peer_send(down, "POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"); /* not sent twice */
        up = peer_accept(lfd);
        peer_request(up, &in, &req);
        peer_send(up, cases[i].answer);
        if (cases[i].answer[0] == '\0')
            close(up);
        if (cases[i].given_back) {
            TURN_UNTIL(given_back);
            http_reply_str(given_back, 204, NULL, "");
        }
        peer_want_text(down, &got, "\r\n\r\n");
        assert_true(has(&got, cases[i].given_back ? "HTTP/1.1 204 " : "HTTP/1.1 200 "));
        assert_false(has(&got, "X: 1"));
        turns(3);
        assert_int_equal(released, 1);
        if (cases[i].answer[0])
            close(up);
        close(down);
        turns(3);
        buf_free(&in);
        buf_free(&req);
        buf_free(&got);
    }
}

static void test_fields_that_stay(void **state)
{
    static const char *const drop[] = {"Access-Control-*", "Server", NULL};
    struct buf in = BUF_INIT, req = BUF_INIT, got = BUF_INIT;
    int down, up;

    (void)state;
    opt.drop_answer = drop;
    opt.release = on_release;
    opt.arg = &released;
    released = 0;
    down = peer_connect(gate_port);
    peer_send(down, "GET /x HTTP/1.1\r\nHost: x\r\n\r\n");
    up = peer_accept(lfd);
    peer_request(up, &in, &req);
    peer_send(
        up, "HTTP/1.1 200 OK\r\naccess-control-allow-origin: *\r\nAccess-Control-Max-Age: 1\r\nserver: s\r\n"
            "Access: kept\r\nServer-Own: kept\r\nContent-Length: 2\r\n\r\nok");
    peer_want_text(down, &got, "\r\n\r\nok");
    assert_true(has(&got, "Access: kept\r\n") && has(&got, "Server-Own: kept\r\n"));
    assert_false(has(&got, "-allow-") || has(&got, "-max-") || has(&got, "server: s"));
    turns(3);
    assert_int_equal(released, 1);
    close(up);
    close(down);
    buf_free(&in);
    buf_free(&req);
    buf_free(&got);
}

static void on_whole(struct http_req *req, struct bytes *body, void *arg)
{
    struct bytes *other = bytes_new("other body", 10);

    (void)arg;
    assert_int_equal(body->len, 4);
    http_on_abort(req, NULL, NULL);
    opt.body = other;
    http_pass_through(req, client, &opt);
    bytes_unref(other);
}

static void on_read_first(struct http_req *req, void *arg)
{
    http_on_abort(req, NULL, NULL);
    http_body_read_all(req, 100, on_whole, arg);
}

/* What was read, and changed, goes on in place of what came. */
static void test_body_that_was_read(void **state)
{
    struct http_limits lim = http_limits_default;
    struct buf in = BUF_INIT, req = BUF_INIT, got = BUF_INIT;
    struct http_server *reader;
    struct listener *ln;
    struct err e;
    int down, up;

    (void)state;
    reader = http_server_new(loop, &lim, on_read_first, NULL);
    ln = http_server_listen(reader, "127.0.0.1:0", NULL, &e);
    assert_non_null(ln);
    down = peer_connect((unsigned short)atoi(strrchr(listener_addr(ln), ':') + 1));
    peer_send(down, "PUT /x HTTP/1.1\r\nHost: x\r\nContent-Type: a/b\r\nContent-Length: 4\r\n\r\nbody");
    up = peer_accept(lfd);
    peer_request(up, &in, &req);
    assert_true(has(&req, "\r\nContent-Length: 10\r\n") && has(&req, "\r\nContent-Type: a/b\r\n"));
    assert_true(has(&req, "\r\n\r\nother body"));
    peer_send(up, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    peer_want_text(down, &got, "\r\n\r\nok");
    turns(3);
    close(up);
    close(down);
    http_server_free(&reader);
    buf_free(&in);
    buf_free(&req);
    buf_free(&got);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_wanted_or_not, setup, teardown),
        cmocka_unit_test_setup_teardown(test_fields_that_stay, setup, teardown),
        cmocka_unit_test_setup_teardown(test_body_that_was_read, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
