/* A server's socket, what comes over it, and how its state follows. */
#include "fleet/fake_comfy.h"

#include "base/log.h"
#include "comfy/events.h"
#include "fleet/fleet_priv.h"

static struct rig *g;
static struct fake *f;
static struct got got;

static int setup(void **state)
{
    (void)state;
    g = rig_new();
    return 0;
}

static int setup_up(void **state)
{
    setup(state);
    rig_servers(g, 1);
    f = g->fake[0];
    buf_clear(&g->told);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    got_fini(&got);
    rig_free(&g);
    return 0;
}

static unsigned told(const char *line)
{
    size_t n = strlen(line);
    unsigned count = 0;

    for (const char *p = buf_str(&g->told); (p = strstr(p, line)) != NULL; p += n)
        count += p[n] == '\n' && (p == g->told.data || p[-1] == '\n');
    return count;
}

static void submit(const char *id)
{
    static const char graph[] = "{\"5\": {\"class_type\": \"X\", \"inputs\": {}}}";
    struct fleet_submit s = {.server = "a", .upstream_id = id, .job = id};

    got_fini(&got);
    s.graph = bytes_new(graph, sizeof(graph) - 1);
    fleet_submit(g->fleet, &s, got_submitted, &got);
    bytes_unref(s.graph);
    RIG_UNTIL(g, got.n > 0);
}

/* --- the socket --- */

static void test_opens(void **state)
{
    static const char flags[] =
        "{\"type\": \"feature_flags\", \"data\": {\"supports_preview_metadata\": true}}\n";

    (void)state;
    rig_servers(g, 1);
    f = g->fake[0];
    assert_int_equal(told("link a up"), 1);
    assert_true(uuid_is_canonical(fake_sid(f), strlen(fake_sid(f))));
    RIG_UNTIL(g, f->frames.len > 0);
    assert_string_equal(buf_str(&f->frames), flags);
    /* Not a question too many: no polling while all is well. */
    assert_int_equal(fake_asked(f, "GET /ws"), 1);
    assert_int_equal(fake_asked(f, "GET /object_info"), 1);
    assert_int_equal(fake_asked(f, "GET /system_stats"), 1);
    assert_int_equal(rig_server(g, "a").queue, 2);
    assert_int_equal(rig_server(g, "a").depth, 2);
    assert_string_equal(rig_server(g, "a").version, "0.3.64");
    assert_true(g->changes > 0);
}

static void test_reconnects(void **state)
{
    char first[64];

    (void)state;
    snprintf(first, sizeof(first), "%s", fake_sid(f));
    fake_drop_socket(f);
    RIG_UNTIL(g, told("link a down") == 1);
    assert_int_equal(rig_server(g, "a").queue, -1);
    submit(ID1);
    assert_int_equal(got.submit, FLEET_REFUSED);
    RIG_UNTIL(g, told("link a up") == 1);
    RIG_UNTIL(g, rig_server(g, "a").state == FLEET_UP);
    assert_string_not_equal(first, fake_sid(f));
    submit(ID1);
    assert_int_equal(got.submit, FLEET_ACCEPTED);
    assert_non_null(strstr(buf_str(&f->last_prompt), fake_sid(f)));
    assert_null(strstr(buf_str(&f->last_prompt), first));
}

/* The server knows our id when it has spoken, not before: a prompt sent earlier would lose its events. */
static void test_waits_for_greeting(void **state)
{
    (void)state;
    f->mute = true;
    fake_drop_socket(f);
    RIG_UNTIL(g, f->n_sockets == 2);
    for (int i = 0; i < 20; i++)
        rig_turn(g);
    assert_int_equal(told("link a up"), 0);
    submit(ID1);
    assert_int_equal(got.submit, FLEET_REFUSED);
    fake_say(f, "{\"type\": \"status\", \"data\": {}}");
    RIG_UNTIL(g, told("link a up") == 1);
    submit(ID1);
    assert_int_equal(got.submit, FLEET_ACCEPTED);
}

static void test_comes_back(void **state)
{
    (void)state;
    fake_die(f);
    RIG_UNTIL(g, rig_server(g, "a").state == FLEET_DOWN);
    assert_int_equal(told("link a down"), 1);
    assert_non_null(strstr(rig_server(g, "a").reason, "efused"));
    assert_null(registry_client(g->reg, "a"));
    assert_null(registry_primary(g->reg));
    fake_revive(f);
    RIG_UNTIL(g, rig_server(g, "a").state == FLEET_UP);
    assert_int_equal(told("link a up"), 1);
    assert_string_equal(registry_primary(g->reg), "a");
    assert_non_null(registry_client(g->reg, "a"));
}

static void test_no_comfyui(void **state)
{
    struct registry_entry v = {"a", NULL, 1, NULL};
    struct err e;

    (void)state;
    g->fake[0] = f = fake_new(g->loop);
    fake_next(f, "GET", "/ws", FAKE_ANSWER, 404, "", -1);
    v.url = f->url;
    assert_int_equal(registry_configure(g->reg, &v, 1, &e), 0);
    rig_start(g);
    RIG_UNTIL(g, fake_asked(f, "GET /ws") >= 2);
    assert_int_equal(rig_server(g, "a").state, FLEET_DOWN);
    assert_non_null(strstr(rig_server(g, "a").reason, "404"));
}

/* --- messages --- */

#define EV(type, data) "{\"type\": \"" type "\", \"data\": {" data "}}"
#define START(id) EV("execution_start", "\"prompt_id\": \"" id "\", \"timestamp\": 1")
#define EXECUTING(id) EV("executing", "\"node\": \"5\", \"display_node\": \"5\", \"prompt_id\": \"" id "\"")
#define END(id) EV("executing", "\"node\": null, \"prompt_id\": \"" id "\"")

static void test_attribution(void **state)
{
    static const struct {
        const char *say, *told; /* told "": nothing */
    } t[] = {
        {EV("status", "\"status\": {\"exec_info\": {\"queue_remaining\": 7}}"), ""},
        {EV("feature_flags", "\"x\": 1"), ""},
        {EV("logs", "\"entries\": []"), ""},
        {EV("crystools.monitor", "\"cpu\": 1"), ""}, /* nothing of ours runs */
        {EV("executing", "\"node\": \"5\""), ""},
        {START(ID1), ID1},
        {EV("crystools.monitor", "\"cpu\": 1"), ID1},
        {EV("executing", "\"node\": \"5\""), ID1}, /* as after a reconnect */
        {EV("assets.seed.paused", ""), ""},
        {EV("asset_download", "\"x\": 1"), ""},
        {EV("progress", "\"value\": 1, \"max\": 2, \"prompt_id\": \"" ID2 "\""), ID2},
        {EV("progress", "\"value\": 1, \"max\": 2, \"prompt_id\": \"foreign\""), ""},
        {EV("progress", "\"value\": 1, \"max\": 2, \"prompt_id\": 5"), ""},
        {EV("custom", ""), ID1}, /* a progress of another one does not make it the running one */
        {EXECUTING(ID2), ID2},
        {EV("custom", ""), ID2},
        {END(ID2), ID2},
        {EV("custom", ""), ""},
        {START(ID1), ID1},
        {EV("execution_error", "\"prompt_id\": \"" ID1 "\", \"exception_type\": \"ExecutionBlocked\""), ID1},
        {EV("custom", ""), ID1}, /* a block is not the end */
        {EV("execution_success", "\"prompt_id\": \"" ID1 "\""), ID1},
        {EV("custom", ""), ""},
        {"nonsense", ""},
        {"[]", ""},
    };
    struct buf want = BUF_INIT;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(t); i++) {
        fake_say(f, t[i].say);
        if (t[i].told[0])
            buf_printf(&want, "event a %s %s\n", t[i].told, t[i].say);
    }
    fake_say(f, EV("progress", "\"prompt_id\": \"" ID2 "\", \"last\": 1"));
    RIG_UNTIL(g, strstr(buf_str(&g->told), "\"last\""));
    buf_puts(&want, "event a " ID2 " " EV("progress", "\"prompt_id\": \"" ID2 "\", \"last\": 1") "\n");
    assert_string_equal(buf_str(&g->told), buf_str(&want));
    assert_int_equal(rig_server(g, "a").queue, 7);
    buf_free(&want);
}

static void test_frames(void **state)
{
    static const char meta[] = "{\"prompt_id\": \"" ID2 "\", \"image_type\": \"image/png\"}";
    static const char foreign[] = "{\"prompt_id\": \"x\", \"image_type\": \"image/png\"}";
    struct buf b = BUF_INIT;
    char want[80];

    (void)state;
    frame_put_image(&b, FRAME_PNG, "png", 3);
    fake_say_binary(f, b.data, b.len); /* nothing of ours runs */
    fake_say(f, START(ID1));
    fake_say_binary(f, b.data, b.len);
    fake_say_binary(f, "\0\0", 2);
    buf_clear(&b);
    buf_put_u32be(&b, FRAME_IMAGE_META);
    buf_put_u32be(&b, sizeof(meta) - 1);
    buf_puts(&b, meta);
    buf_puts(&b, "image");
    fake_say_binary(f, b.data, b.len);
    buf_clear(&b);
    buf_put_u32be(&b, FRAME_IMAGE_META);
    buf_put_u32be(&b, sizeof(foreign) - 1);
    buf_puts(&b, foreign);
    fake_say_binary(f, b.data, b.len);
    fake_say(f, END(ID1));
    RIG_UNTIL(g, strstr(buf_str(&g->told), "null"));
    assert_int_equal(told("frame a " ID1 " 11"), 1);
    snprintf(want, sizeof(want), "frame a " ID2 " %zu", 8 + sizeof(meta) - 1 + 5);
    assert_int_equal(told(want), 1);
    assert_non_null(strstr(buf_str(&g->told), "frame"));
    assert_null(strstr(strstr(strstr(buf_str(&g->told), "frame") + 1, "frame") + 1, "frame"));
    buf_free(&b);
}

/* What ran is forgotten with the socket: the new one hears nothing of it. */
static void test_running_forgotten(void **state)
{
    (void)state;
    fake_say(f, START(ID1));
    RIG_UNTIL(g, g->told.len > 0);
    fake_drop_socket(f);
    RIG_UNTIL(g, told("link a up") == 1);
    buf_clear(&g->told);
    fake_say(f, EV("custom", ""));
    fake_say(f, EV("progress", "\"prompt_id\": \"" ID1 "\", \"last\": 1"));
    RIG_UNTIL(g, strstr(buf_str(&g->told), "last"));
    assert_null(strstr(buf_str(&g->told), "custom"));
}

/* --- states --- */

static struct server *inside(const char *name)
{
    return registry_find(g->reg, name);
}

static struct buf logged;

static void on_log(void *arg, enum log_level level, const char *line, size_t n)
{
    (void)arg;
    (void)level;
    buf_put(&logged, line, n);
}

/* Its time has come. */
static void tick(struct server *s)
{
    s->watch.timer.cb(s->watch.timer.arg);
}

static void fence_over(struct server *s)
{
    s->health.fence_until = loop_now(g->loop);
    tick(s);
}

static void find(void)
{
    got_fini(&got);
    fleet_find(g->fleet, "a", ID1, got_lookup, &got);
    RIG_UNTIL(g, got.n > 0);
}

/* A failed call makes it suspect; a good answer to a cheap question lifts that. */
static void test_suspect(void **state)
{
    unsigned before = fake_asked(f, "GET /prompt");

    (void)state;
    fake_next(f, "GET", "/queue", FAKE_CLOSE, 0, NULL, 2);
    fake_next(f, "GET", "/prompt", FAKE_HANG, 0, NULL, 1);
    find();
    assert_int_equal(rig_server(g, "a").state, FLEET_SUSPECT);
    assert_true(strlen(rig_server(g, "a").reason) > 0);
    assert_non_null(registry_client(g->reg, "a"));
    RIG_UNTIL(g, f->n_hanging == 1);
    assert_int_equal(fake_asked(f, "GET /prompt"), before + 1);
    find(); /* any good answer does */
    assert_int_equal(rig_server(g, "a").state, FLEET_UP);
    /* A bad status of a call is an answer, no sign that it is gone. */
    fake_next(f, "GET", "/queue", FAKE_ANSWER, 500, "", 1);
    find();
    assert_int_equal(rig_server(g, "a").state, FLEET_UP);
    /* The question itself. */
    fake_as_usual(f);
    fake_next(f, "GET", "/queue", FAKE_CUT, 200, "", 2);
    find();
    assert_int_equal(rig_server(g, "a").state, FLEET_SUSPECT);
    fake_release(f);
    inside("a")->health.ask_at = loop_now(g->loop);
    tick(inside("a"));
    RIG_UNTIL(g, rig_server(g, "a").state == FLEET_UP);
}

static void results(const char *server, enum job_code code, int n)
{
    while (n-- > 0)
        fleet_result(g->fleet, server, code, FLEET_BLAME_OPEN);
}

static void test_fence(void **state)
{
    struct server *s = inside("a");

    (void)state;
    results("a", JOB_SERVER_LOST, 4);
    assert_int_equal(rig_server(g, "a").state, FLEET_UP);
    results("a", JOB_OK, 1);
    results("a", JOB_STALLED, 4);
    results("a", JOB_CODE_CANCELED, 5); /* says nothing */
    results("a", JOB_SERVER_REJECTED, 5);
    assert_int_equal(rig_server(g, "a").state, FLEET_UP);
    results("a", JOB_HISTORY_MISSING, 1);
    assert_int_equal(rig_server(g, "a").state, FLEET_FENCED);
    assert_int_equal(s->health.fence_ms, 30000);
    assert_non_null(registry_client(g->reg, "a")); /* it still shows its files */
    results("a", JOB_OK, 1);                       /* of a job from before */
    assert_int_equal(rig_server(g, "a").state, FLEET_FENCED);
    /* Its time is over: one job at a time. */
    fence_over(s);
    assert_int_equal(rig_server(g, "a").state, FLEET_UP);
    assert_int_equal(rig_server(g, "a").depth, 1);
    results("a", JOB_EXECUTION_ERROR, 3); /* nobody else succeeds: it may be the graph */
    assert_int_equal(rig_server(g, "a").state, FLEET_UP);
    results("a", JOB_OUTPUT_UNAVAILABLE, 1);
    assert_int_equal(rig_server(g, "a").state, FLEET_FENCED);
    assert_int_equal(s->health.fence_ms, 60000);
    fence_over(s);
    results("a", JOB_OK, 1);
    assert_int_equal(rig_server(g, "a").state, FLEET_UP);
    assert_int_equal(rig_server(g, "a").depth, 2);
    results("a", JOB_DISPATCH_FAILED, 5);
    assert_int_equal(s->health.fence_ms, 30000);
    results("nobody", JOB_OK, 1);
}

static void test_fence_errors(void **state)
{
    (void)state;
    rig_servers(g, 2);
    results("b", JOB_OK, 1);
    /* After the last success of the other one: it may be the graphs. */
    RIG_UNTIL(g, loop_now(g->loop) > inside("b")->health.ok_at);
    results("a", JOB_EXECUTION_ERROR, 20);
    assert_int_equal(rig_server(g, "a").state, FLEET_UP);
    results("b", JOB_OK, 1);
    results("a", JOB_EXECUTION_ERROR, 1);
    assert_int_equal(rig_server(g, "a").state, FLEET_FENCED);
    assert_int_equal(rig_server(g, "b").state, FLEET_UP);
}

/* --- another life of it --- */

static bool has_logged(const char *what)
{
    return logged.len && strstr(buf_str(&logged), what);
}

/* Its socket dropped, and a prompt that it had is gone: restarted. As long as it knows the prompt: the same. */
static void test_restarted(void **state)
{
    static const char *const has = "{\"" ID1 "\": {}}";

    (void)state;
    log_set_sink(on_log, NULL);
    submit(ID1);
    assert_int_equal(got.submit, FLEET_ACCEPTED);
    fake_say(f, START(ID1));
    fake_say(f, END(ID1));
    RIG_UNTIL(g, told("event a " ID1 " " END(ID1)) == 1);
    fake_set(&f->history, has);
    fake_drop_socket(f);
    RIG_UNTIL(g, told("link a up") == 1 && !inside("a")->watch.recognising);
    assert_false(has_logged("event=restarted"));
    assert_int_equal(rig_server(g, "a").restarts, 0);
    results("a", JOB_SERVER_LOST, 5);
    assert_int_equal(rig_server(g, "a").state, FLEET_FENCED);
    fake_set(&f->history, "{}");
    fake_set(&f->object_info, "{\"New\": {\"input\": {}}}");
    fake_next(f, "GET", "/queue", FAKE_ANSWER, 500, "", 1); /* asked again with its next answer */
    fake_drop_socket(f);
    RIG_UNTIL(g, has_logged("server=a event=restarted"));
    assert_int_equal(rig_server(g, "a").restarts, 1);
    RIG_UNTIL(g, has_logged("event=object_info classes=1"));
    assert_true(has_logged("event=nodes_changed came=1 gone=0 names=+New"));
    RIG_UNTIL(g, rig_server(g, "a").state == FLEET_UP); /* the fence was for the one before */
    assert_int_equal(rig_server(g, "a").depth, 1);      /* on trial */
    fake_set(&f->object_info, "{}");
    buf_clear(&logged);
    fake_drop_socket(f); /* nothing is known by which to recognise it: no claim is made */
    RIG_UNTIL(g, has_logged("event=nodes_changed came=0 gone=1 names=-New"));
    assert_false(has_logged("event=restarted"));
    log_set_sink(NULL, NULL);
    buf_free(&logged);
}

/* --- its worker, and its events --- */

#define QUEUE(running, pending) "{\"queue_running\": [" running "], \"queue_pending\": [" pending "]}"
#define ITEM(id) "[0, \"" id "\", {}, {}, []]"

static void test_dead_worker(void **state)
{
    struct server *s = inside("a");

    (void)state;
    submit(ID1);
    fake_set(&f->queue, QUEUE("", ITEM(ID1) ", " ITEM(ID2)));
    find();
    assert_int_equal(got.found, FLEET_PENDING);
    assert_int_equal(rig_server(g, "a").queue, 2); /* fresher than what its events said */
    s->health.waiting_at -= HEALTH_IDLE_MS;
    find();
    assert_true(got.dead);
    assert_int_equal(rig_server(g, "a").state, FLEET_FENCED);
    assert_non_null(strstr(rig_server(g, "a").reason, "needs a restart"));
    s->health.look_at = loop_now(g->loop); /* it is looked at, though nothing of ours asks */
    fake_set(&f->queue, QUEUE(ITEM(ID2), ""));
    tick(s);
    RIG_UNTIL(g, rig_server(g, "a").state == FLEET_UP);
    assert_non_null(strstr(rig_server(g, "a").reason, "trial"));
}

static void test_late_events(void **state)
{
    (void)state;
    submit(ID1);
    fake_set(&f->history, "{\"" ID1 "\": {}}");
    find();
    assert_int_equal(got.found, FLEET_ENDED);
    assert_string_equal(rig_server(g, "a").reason, "");
    inside("a")->health.unheard_at -= HEALTH_LATE_MS;
    tick(inside("a"));
    assert_int_equal(rig_server(g, "a").state, FLEET_UP);
    assert_non_null(strstr(rig_server(g, "a").reason, "late"));
    fake_say(f, START(ID2));
    RIG_UNTIL(g, rig_server(g, "a").reason[0] == '\0');
    find(); /* of one that is no longer waited for nothing is owed */
    assert_int_equal(inside("a")->health.unheard_at, 0);
}

static void test_logged(void **state)
{
    (void)state;
    log_set_sink(on_log, NULL);
    fake_die(f);
    RIG_UNTIL(g, rig_server(g, "a").state == FLEET_DOWN);
    log_set_sink(NULL, NULL);
    assert_non_null(strstr(buf_str(&logged), "server=a state=suspect reason="));
    assert_non_null(strstr(buf_str(&logged), "server=a state=down reason="));
    buf_free(&logged);
}

/* Silent for ten seconds is down; its answer, however late, brings it back. */
static void test_silent(void **state)
{
    struct server *s = inside("a");

    (void)state;
    fake_next(f, "GET", "/queue", FAKE_CLOSE, 0, NULL, 2);
    fake_next(f, "GET", "/prompt", FAKE_HANG, 0, NULL, 1);
    find();
    assert_int_equal(rig_server(g, "a").state, FLEET_SUSPECT);
    tick(s);
    assert_int_equal(rig_server(g, "a").state, FLEET_SUSPECT);
    s->health.suspect_at -= 10000;
    tick(s);
    assert_int_equal(rig_server(g, "a").state, FLEET_DOWN);
    RIG_UNTIL(g, f->n_hanging == 1);
    assert_int_equal(told("link a down"), 0); /* a slow server's socket is kept */
    fake_release(f);
    RIG_UNTIL(g, rig_server(g, "a").state == FLEET_UP);
}

int main(void)
{
#define T(name, s) cmocka_unit_test_setup_teardown(name, s, teardown)
    const struct CMUnitTest tests[] = {
        T(test_opens, setup),
        T(test_reconnects, setup_up),
        T(test_waits_for_greeting, setup_up),
        T(test_comes_back, setup_up),
        T(test_no_comfyui, setup),
        T(test_attribution, setup_up),
        T(test_frames, setup_up),
        T(test_running_forgotten, setup_up),
        T(test_suspect, setup_up),
        T(test_fence, setup_up),
        T(test_fence_errors, setup),
        T(test_restarted, setup_up),
        T(test_dead_worker, setup_up),
        T(test_late_events, setup_up),
        T(test_logged, setup_up),
        T(test_silent, setup_up),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
