/* Inputs on their way to a server: once, under the staged name, and again when they may be gone. */
#include "fleet/fake_comfy.h"

static struct rig *g;
static struct fake *f;
static struct got got;

static int setup(void **state)
{
    (void)state;
    g = rig_new();
    rig_servers(g, 1);
    f = g->fake[0];
    buf_clear(&f->log);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    got_fini(&got);
    rig_free(&g);
    return 0;
}

#define GRAPH                                                                                                \
    "{\"5\": {\"class_type\": \"LoadImage\", \"inputs\": {\"image\": \"cat.png\", \"seed\": "                \
    "18446744073709551615}}}"

static struct job_input cat;
static char staged[128];

static void have_cat(void)
{
    char hex[BLAKE3_HEX];

    cat.name = (char *)"cat.png";
    rig_blob(g, "meow", cat.blake3);
    blake3_hex(cat.blake3, hex);
    snprintf(staged, sizeof(staged), "cat.%.12s.png", hex);
}

static void test_staging(void **state)
{
    struct got second = {0};
    char want[256];

    (void)state;
    have_cat();
    /* Two at a time: one upload. */
    rig_submit(g, "a", ID1, GRAPH, &cat, 1, &got);
    rig_submit(g, "a", ID2, GRAPH, &cat, 1, &second);
    RIG_UNTIL(g, got.n > 0 && second.n > 0);
    assert_int_equal(got.submit, FLEET_ACCEPTED);
    assert_int_equal(second.submit, FLEET_ACCEPTED);
    assert_int_equal(fake_asked(f, "POST /upload/image"), 1);
    assert_non_null(fake_file(f, staged));
    assert_string_equal(fake_file(f, staged)->data, "meow");
    snprintf(want, sizeof(want), "{\"image\": \"%s\", \"seed\": 18446744073709551615}", staged);
    assert_non_null(strstr(buf_str(&f->last_prompt), want));
    /* Later: remembered. */
    got_fini(&got);
    rig_submit(g, "a", ID1, GRAPH, &cat, 1, &got);
    RIG_UNTIL(g, got.n > 0);
    assert_int_equal(fake_asked(f, "POST /upload/image"), 1);
    /* Another connection: perhaps another life of the server. */
    fake_drop_socket(f);
    RIG_UNTIL(g, f->n_sockets == 2 && strstr(strstr(buf_str(&g->told), "link a down"), "link a up"));
    got_fini(&got);
    rig_submit(g, "a", ID1, GRAPH, &cat, 1, &got);
    RIG_UNTIL(g, got.n > 0);
    assert_int_equal(got.submit, FLEET_ACCEPTED);
    assert_int_equal(fake_asked(f, "POST /upload/image"), 2);
    got_fini(&second);
}

/* A name that an input was staged under before, and that came back as a name: it does not grow. */
static void test_staging_of_a_staged_name(void **state)
{
    struct job_input back = {.name = staged};

    (void)state;
    have_cat();
    memcpy(back.blake3, cat.blake3, BLAKE3_LEN);
    rig_submit(g, "a", ID1, GRAPH, &back, 1, &got);
    RIG_UNTIL(g, got.n > 0);
    assert_int_equal(got.submit, FLEET_ACCEPTED);
    assert_non_null(fake_file(f, staged));
    /* one that only looks so, of other bytes: a name like any other */
    back.name = (char *)"cat.0123456789ab.png";
    got_fini(&got);
    rig_submit(g, "a", ID2, GRAPH, &back, 1, &got);
    RIG_UNTIL(g, got.n > 0);
    assert_null(fake_file(f, back.name));
    assert_int_equal(fake_asked(f, "POST /upload/image"), 2);
}

/* The folder was emptied behind our back: the refusal is not believed before the input is there again. */
static void test_staging_trust(void **state)
{
    struct fleet_file view = {"a", staged, "", "input", ID1, ID1};

    (void)state;
    have_cat();
    rig_submit(g, "a", ID1, GRAPH, &cat, 1, &got);
    RIG_UNTIL(g, got.n > 0);
    got_fini(&got);
    fake_next(f, "POST", "/prompt", FAKE_ANSWER, 400, "{\"error\": {}}", 1);
    rig_submit(g, "a", ID1, GRAPH, &cat, 1, &got);
    RIG_UNTIL(g, got.n > 0);
    assert_int_equal(got.submit, FLEET_ACCEPTED);
    assert_int_equal(fake_asked(f, "POST /upload/image"), 2);
    assert_int_equal(fake_asked(f, "POST /prompt"), 3);
    /* Once only; and not at all when the input has just been put there. */
    got_fini(&got);
    fake_next(f, "POST", "/prompt", FAKE_ANSWER, 400, "{\"error\": {}}", -1);
    rig_submit(g, "a", ID1, GRAPH, &cat, 1, &got);
    RIG_UNTIL(g, got.n > 0);
    assert_int_equal(got.submit, FLEET_REJECTED);
    assert_int_equal(fake_asked(f, "POST /upload/image"), 3);
    assert_int_equal(fake_asked(f, "POST /prompt"), 5);
    fake_as_usual(f);
    /* A fetch shows that it is not there. */
    got_fini(&got);
    fake_lose_files(f);
    fleet_fetch(g->fleet, &view, got_fetched, &got);
    RIG_UNTIL(g, got.n > 0);
    assert_int_equal(got.fetch, FLEET_NOT_THERE);
    got_fini(&got);
    rig_submit(g, "a", ID1, GRAPH, &cat, 1, &got);
    RIG_UNTIL(g, got.n > 0);
    assert_int_equal(got.submit, FLEET_ACCEPTED);
    assert_int_equal(fake_asked(f, "POST /upload/image"), 4);
}

static void test_staging_fails(void **state)
{
    static const struct {
        enum fake_act act;
        int status;
        const char *body;
    } t[] = {{FAKE_ANSWER, 500, ""},
             {FAKE_ANSWER, 400, ""},
             {FAKE_ANSWER, 413, "too large"},
             {FAKE_ANSWER, 200, "{\"name\": \"cat (1).png\", \"subfolder\": \"\", \"type\": \"input\"}"},
             {FAKE_ANSWER, 200, "nonsense"},
             {FAKE_CLOSE, 0, ""},
             {FAKE_CUT, 200, "{}"}};
    struct got second = {0};

    (void)state;
    have_cat();
    for (size_t i = 0; i < ARRAY_LEN(t); i++) {
        got_fini(&got);
        got_fini(&second);
        fake_next(f, "POST", "/upload/image", t[i].act, t[i].status, t[i].body, 1);
        rig_submit(g, "a", ID1, GRAPH, &cat, 1, &got);
        rig_submit(g, "a", ID2, GRAPH, &cat, 1, &second);
        RIG_UNTIL(g, got.n > 0 && second.n > 0);
        assert_int_equal(got.submit, FLEET_STAGE_FAILED);
        assert_int_equal(second.submit, FLEET_STAGE_FAILED);
        assert_true(strlen(got.why) > 0);
        RIG_UNTIL(g, rig_server(g, "a").state == FLEET_UP);
    }
    assert_int_equal(fake_asked(f, "POST /prompt"), 0);
    /* The bytes are gone from here. */
    got_fini(&got);
    memset(cat.blake3, 7, sizeof(cat.blake3));
    rig_submit(g, "a", ID1, GRAPH, &cat, 1, &got);
    RIG_UNTIL(g, got.n > 0);
    assert_int_equal(got.submit, FLEET_UNSENDABLE);
    got_fini(&second);
}

/* The server may have died after it took the upload: what was put into its former life does not count. */
static void test_staging_overtaken(void **state)
{
    char echo[200];

    (void)state;
    have_cat();
    fake_next(f, "POST", "/upload/image", FAKE_HANG, 0, NULL, 1);
    rig_submit(g, "a", ID1, GRAPH, &cat, 1, &got);
    RIG_UNTIL(g, f->n_hanging == 1);
    fake_drop_socket(f);
    RIG_UNTIL(g, f->n_sockets == 2 && strstr(strstr(buf_str(&g->told), "link a down"), "link a up"));
    snprintf(echo, sizeof(echo), "{\"name\": \"%s\", \"subfolder\": \"\", \"type\": \"input\"}", staged);
    http_reply_str(f->hanging[0], 200, "application/json", echo);
    f->n_hanging = 0;
    RIG_UNTIL(g, got.n > 0);
    assert_int_equal(got.submit, FLEET_ACCEPTED);
    assert_int_equal(fake_asked(f, "POST /upload/image"), 2);
}

/* An earlier job's output as an input: the folder and the annotation do not go into the staged name. */
static void test_staging_output(void **state)
{
    static const char graph[] =
        "{\"5\": {\"class_type\": \"LoadImage\", \"inputs\": {\"image\": \"" ID2 "/sub/x y.PNG [output]\"}}}";
    struct job_input in = {.name = (char *)ID2 "/sub/x y.PNG [output]"};
    char hex[BLAKE3_HEX], want[128];

    (void)state;
    rig_blob(g, "old picture", in.blake3);
    blake3_hex(in.blake3, hex);
    rig_submit(g, "a", ID1, graph, &in, 1, &got);
    RIG_UNTIL(g, got.n > 0);
    assert_int_equal(got.submit, FLEET_ACCEPTED);
    snprintf(want, sizeof(want), "{\"image\": \"x_y.%.12s.png\"}", hex);
    assert_non_null(strstr(buf_str(&f->last_prompt), want));
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_staging),       T(test_staging_of_a_staged_name), T(test_staging_trust),
        T(test_staging_fails), T(test_staging_output),           T(test_staging_overtaken),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
