/* Free connections of a client: how many are kept, and for how long. */
#include "http/client.h"

#include "http/client_got_test.h"

static void test_idle_connections_end(void **state)
{
    (void)state;
    for (int by_time = 0; by_time < 2; by_time++) {
        struct http_client_config cfg = {.idle_ms = by_time ? 30 : 10 * PATIENCE_MS,
                                         .max_idle = by_time ? 9 : 1};
        struct got g[3] = {{0}};
        struct buf in = BUF_INIT, req = BUF_INIT;
        int fd[3];

        open_client(&cfg);
        for (int i = 0; i < 3; i++)
            start(&g[i], "GET", "/", NULL);
        for (int i = 0; i < 3; i++) {
            fd[i] = peer_accept(lfd);
            peer_request(fd[i], &in, &req);
            peer_send(fd[i], OK200);
        }
        TURN_UNTIL(g[0].dones && g[1].dones && g[2].dones);
        for (int i = 0; i < 3; i++) { /* all, or all but the one used last */
            if (by_time || i < 2)
                peer_want_end(fd[i], &in);
            close(fd[i]);
            got_fini(&g[i]);
        }
        buf_free(&in);
        buf_free(&req);
        http_client_free(&client);
        turns(3);
    }
}

/* Calls side by side, wave after wave: the next one finds the connections of the one before, though few are kept. */
static void test_waves(void **state)
{
    struct http_client_config cfg = {.max_idle = 1};
    struct got g[5] = {{0}};
    struct buf in = BUF_INIT, req = BUF_INIT;
    int fd[5];

    (void)state;
    open_client(&cfg);
    for (int wave = 0; wave < 3; wave++) {
        for (int i = 0; i < 5; i++)
            start(&g[i], "GET", "/", NULL);
        for (int i = 0; i < 5; i++) {
            if (wave == 0)
                fd[i] = peer_accept(lfd);
            peer_request(fd[i], &in, &req);
            peer_send(fd[i], OK200);
        }
        for (int i = 0; i < 5; i++) {
            TURN_UNTIL(g[i].dones);
            assert_int_equal(g[i].end, HTTP_CALL_OK);
            got_fini(&g[i]);
            g[i] = (struct got){0};
        }
    }
    for (int i = 0; i < 4; i++) /* and then all end but the one used last */
        peer_want_end(fd[i], &in);
    for (int i = 0; i < 5; i++)
        close(fd[i]);
    buf_free(&in);
    buf_free(&req);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_idle_connections_end, setup, teardown),
        cmocka_unit_test_setup_teardown(test_waves, setup, teardown),
    };

    held_watch();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
