/* The set of servers, and what they can do together. */
#include "fleet/fake_comfy.h"

#include "fleet/fleet_priv.h"

static struct rig *g;

static int setup(void **state)
{
    (void)state;
    g = rig_new();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    rig_free(&g);
    return 0;
}

/* --- the file's servers --- */

static void test_configure_refuses(void **state)
{
    static const struct {
        struct registry_entry v[2];
        size_t n;
        const char *why;
    } t[] = {
        {{{"a", NULL, 1, NULL}}, 1, "url"},
        {{{"a", "ftp://x", 1, NULL}}, 1, ""},
        {{{"", "http://x", 1, NULL}}, 1, "name"},
        {{{"a b", "http://x", 1, NULL}}, 1, "name"},
        {{{"a/b", "http://x", 1, NULL}}, 1, "name"},
        {{{"a\xff", "http://x", 1, NULL}}, 1, "name"},
        {{{"a", "http://x", -1, NULL}}, 1, "depth"},
        {{{"a", "http://x", 65, NULL}}, 1, "depth"},
        {{{"a", "http://x", 1, "{}"}}, 1, "tags"},
        {{{"a", "http://x", 1, "[1]"}}, 1, "tags"},
        {{{"a", "http://x", 1, "[\"x\""}}, 1, "tags"},
        {{{"a", "http://x", 1, NULL}, {"a", "http://y", 1, NULL}}, 2, "named a"},
        {{{"a", "http://x:80", 1, NULL}, {"b", "http://x/", 1, NULL}}, 2, "same url"},
    };
    struct registry_entry good = {NULL, "http://127.0.0.1:1/", 0, NULL};
    struct err e;

    (void)state;
    assert_int_equal(registry_configure(g->reg, &good, 1, &e), 0);
    assert_string_equal(rig_server(g, "127.0.0.1:1").url, "http://127.0.0.1:1");
    assert_int_equal(rig_server(g, "127.0.0.1:1").depth, 1);
    assert_string_equal(rig_server(g, "127.0.0.1:1").tags, "[]");
    for (size_t i = 0; i < ARRAY_LEN(t); i++) {
        e.msg[0] = '\0';
        assert_int_equal(registry_configure(g->reg, t[i].v, t[i].n, &e), -1);
        if (strstr(e.msg, t[i].why) == NULL || e.msg[0] == '\0')
            fail_msg("row %zu: '%s' has no '%s'", i, e.msg, t[i].why);
        assert_int_equal(fleet_servers(g->fleet, NULL, 0), 1); /* nothing was changed */
        assert_true(rig_has(g, "127.0.0.1:1"));
    }
}

static void test_configure_again(void **state)
{
    struct registry_entry v[2] = {{"a", NULL, 5, "[\"big\"]"}, {"c", NULL, 1, NULL}};
    const struct server *a;
    struct err e;
    char name_b[8] = "b";

    (void)state;
    rig_servers(g, 2);
    a = registry_find(g->reg, "a");
    v[0].url = g->fake[0]->url;
    v[1].url = g->fake[1]->url; /* b's, under another name */
    assert_int_equal(registry_configure(g->reg, v, 2, &e), 0);
    assert_ptr_equal(registry_find(g->reg, "a"), a); /* goes on as it is */
    assert_int_equal(rig_server(g, "a").depth, 5);
    assert_string_equal(rig_server(g, "a").tags, "[\"big\"]");
    assert_false(rig_has(g, name_b));
    RIG_UNTIL(g, rig_server(g, "c").state == FLEET_UP);
    /* The same name at another place is another server. */
    v[0].url = g->fake[1]->url;
    assert_int_equal(registry_configure(g->reg, v, 1, &e), 0);
    assert_int_equal(fleet_servers(g->fleet, NULL, 0), 1);
    RIG_UNTIL(g, rig_server(g, "a").state == FLEET_UP);
    assert_string_equal(rig_server(g, "a").url, g->fake[1]->url);
    assert_string_equal(registry_primary(g->reg), "a");
}

static void test_many(void **state)
{
    static struct registry_entry v[SERVERS_MAX + 1];
    static char urls[SERVERS_MAX + 1][40];
    struct err e;

    (void)state;
    for (size_t i = 0; i <= SERVERS_MAX; i++) {
        snprintf(urls[i], sizeof(urls[i]), "http://127.0.0.1:%zu", i + 1);
        v[i] = (struct registry_entry){NULL, urls[i], 1, NULL};
    }
    assert_int_equal(registry_configure(g->reg, v, SERVERS_MAX + 1, &e), -1);
    assert_int_equal(registry_configure(g->reg, v, SERVERS_MAX, &e), 0);
    assert_int_equal(fleet_servers(g->fleet, NULL, 0), SERVERS_MAX);
    assert_int_equal(registry_configure(g->reg, v + 1, SERVERS_MAX, &e), 0); /* a free place is used again */
    assert_int_equal(fleet_servers(g->fleet, NULL, 0), SERVERS_MAX);
}

/* --- by API --- */

struct answer {
    int n;
    enum registry_end end;
    char why[200];
};

static void on_answer(enum registry_end end, const char *why, void *arg)
{
    struct answer *a = arg;

    a->n++;
    a->end = end;
    snprintf(a->why, sizeof(a->why), "%s", why);
}

#define ASK(want, call)                                                                                      \
    do {                                                                                                     \
        struct answer ans = {0};                                                                             \
        call;                                                                                                \
        assert_int_equal(ans.n, 0);                                                                          \
        RIG_UNTIL(g, ans.n > 0);                                                                             \
        if (ans.end != (want))                                                                               \
            fail_msg("%s:%d: %d '%s'", __FILE__, __LINE__, (int)ans.end, ans.why);                           \
        assert_true(ans.end == REGISTRY_OK || ans.why[0]);                                                   \
    } while (0)

static void add(const char *name, const char *url, enum registry_end want)
{
    struct registry_entry in = {name, url, 3, "[\"t\"]"};

    ASK(want, registry_add(g->reg, &in, on_answer, &ans));
}

static void test_add(void **state)
{
    (void)state;
    rig_servers(g, 1);
    g->fake[1] = fake_new(g->loop);
    add("b", g->fake[1]->url, REGISTRY_OK);
    RIG_UNTIL(g, rig_server(g, "b").state == FLEET_UP);
    add("b", "http://127.0.0.1:2", REGISTRY_EXISTS);
    add("a", "http://127.0.0.1:2", REGISTRY_EXISTS);
    add("c", g->fake[1]->url, REGISTRY_EXISTS);
    add("c", "nonsense", REGISTRY_BAD);
    add("c d", "http://127.0.0.1:2", REGISTRY_BAD);
    store_mem_fail(g->store, STORE_FULL, 1);
    add("c", "http://127.0.0.1:2", REGISTRY_FAILED);
    assert_false(rig_has(g, "c"));
    ASK(REGISTRY_OK, registry_drain(g->reg, "b", true, on_answer, &ans));
    assert_int_equal(rig_server(g, "b").state, FLEET_DRAINING);
    ASK(REGISTRY_OK, registry_drain(g->reg, "a", true, on_answer, &ans));
    assert_int_equal(rig_server(g, "a").state, FLEET_DRAINING);
    ASK(REGISTRY_NO_SERVER, registry_drain(g->reg, "c", true, on_answer, &ans));
    assert_string_equal(registry_primary(g->reg), "a"); /* its pages still are there */
    /* All of that is there after a restart. */
    rig_close(g);
    rig_open(g);
    rig_servers(g, 0);
    RIG_UNTIL(g, rig_server(g, "b").state == FLEET_DRAINING);
    assert_int_equal(rig_server(g, "b").depth, 3);
    assert_string_equal(rig_server(g, "b").tags, "[\"t\"]");
    assert_false(rig_has(g, "a"));
    ASK(REGISTRY_OK, registry_drain(g->reg, "b", false, on_answer, &ans));
    assert_int_equal(rig_server(g, "b").state, FLEET_UP);
    ASK(REGISTRY_OK, registry_remove(g->reg, "b", false, on_answer, &ans));
    assert_false(rig_has(g, "b"));
    ASK(REGISTRY_NO_SERVER, registry_remove(g->reg, "b", false, on_answer, &ans));
    rig_close(g);
    rig_open(g);
    rig_servers(g, 0);
    assert_int_equal(fleet_servers(g->fleet, NULL, 0), 0);
}

/* A drained server of the file stays so over restarts, until it is resumed. */
static void test_drained_of_file(void **state)
{
    struct registry_entry v = {"a", NULL, 1, NULL};
    struct err e;

    (void)state;
    rig_servers(g, 1);
    v.url = g->fake[0]->url;
    ASK(REGISTRY_OK, registry_drain(g->reg, "a", true, on_answer, &ans));
    rig_close(g);
    rig_open(g);
    assert_int_equal(registry_configure(g->reg, &v, 1, &e), 0);
    rig_start(g);
    RIG_UNTIL(g, rig_server(g, "a").state == FLEET_DRAINING);
    ASK(REGISTRY_BAD, registry_remove(g->reg, "a", true, on_answer, &ans));
    ASK(REGISTRY_OK, registry_drain(g->reg, "a", false, on_answer, &ans));
    rig_close(g);
    rig_open(g);
    assert_int_equal(registry_configure(g->reg, &v, 1, &e), 0);
    rig_start(g);
    RIG_UNTIL(g, rig_server(g, "a").state == FLEET_UP);
    for (int i = 0; i < 10; i++)
        rig_turn(g);
    assert_int_equal(rig_server(g, "a").state, FLEET_UP);
}

/* Out of the file and back into it: it is drained no more, neither at once nor after a restart. */
static void test_drained_and_put_back(void **state)
{
    struct registry_entry v = {"a", NULL, 1, NULL};
    struct err e;

    (void)state;
    rig_servers(g, 1);
    v.url = g->fake[0]->url;
    ASK(REGISTRY_OK, registry_drain(g->reg, "a", true, on_answer, &ans));
    assert_int_equal(registry_configure(g->reg, NULL, 0, &e), 0);
    assert_int_equal(registry_configure(g->reg, &v, 1, &e), 0); /* before the store has answered */
    RIG_UNTIL(g, rig_server(g, "a").state == FLEET_UP);
    for (int i = 0; i < 10; i++)
        rig_turn(g);
    assert_int_equal(rig_server(g, "a").state, FLEET_UP);
    rig_close(g);
    rig_open(g);
    assert_int_equal(registry_configure(g->reg, &v, 1, &e), 0);
    rig_start(g);
    RIG_UNTIL(g, rig_server(g, "a").state == FLEET_UP);
    for (int i = 0; i < 10; i++)
        rig_turn(g);
    assert_int_equal(rig_server(g, "a").state, FLEET_UP);
}

/* One that was added is hidden by one of the file with its name, and comes back. */
static void test_file_wins(void **state)
{
    struct registry_entry v = {"b", NULL, 1, NULL};
    struct err e;

    (void)state;
    rig_servers(g, 1);
    g->fake[1] = fake_new(g->loop);
    add("b", g->fake[1]->url, REGISTRY_OK);
    v.url = g->fake[0]->url;
    assert_int_equal(registry_configure(g->reg, &v, 1, &e), 0);
    assert_int_equal(fleet_servers(g->fleet, NULL, 0), 1);
    assert_string_equal(rig_server(g, "b").url, g->fake[0]->url);
    assert_int_equal(registry_configure(g->reg, NULL, 0, &e), 0);
    RIG_UNTIL(g, rig_has(g, "b"));
    assert_string_equal(rig_server(g, "b").url, g->fake[1]->url);
    RIG_UNTIL(g, rig_server(g, "b").state == FLEET_UP);
}

static void submit(const char *server, const char *id, struct got *got)
{
    struct fleet_submit s = {.server = server, .upstream_id = id, .job = id};

    s.graph = bytes_new("{}", 2);
    fleet_submit(g->fleet, &s, got_submitted, got);
    bytes_unref(s.graph);
    RIG_UNTIL(g, got->n > 0);
    got_fini(got);
}

static void test_remove_busy(void **state)
{
    struct got got = {0};

    (void)state;
    rig_servers(g, 0);
    g->fake[0] = fake_new(g->loop);
    add("a", g->fake[0]->url, REGISTRY_OK);
    RIG_UNTIL(g, rig_server(g, "a").state == FLEET_UP);
    submit("a", ID1, &got);
    ASK(REGISTRY_BUSY, registry_remove(g->reg, "a", false, on_answer, &ans));
    fake_say(g->fake[0], "{\"type\": \"executing\", \"data\": {\"node\": null, \"prompt_id\": \"" ID1 "\"}}");
    RIG_UNTIL(g, strstr(buf_str(&g->told), "null"));
    submit("a", ID2, &got);
    ASK(REGISTRY_BUSY, registry_remove(g->reg, "a", false, on_answer, &ans));
    fleet_find(g->fleet, "a", ID2, got_lookup, &got); /* seen without it */
    RIG_UNTIL(g, got.n > 0);
    assert_int_equal(got.found, FLEET_ABSENT);
    ASK(REGISTRY_OK, registry_remove(g->reg, "a", false, on_answer, &ans));
    got_fini(&got);
    add("a", g->fake[0]->url, REGISTRY_OK);
    RIG_UNTIL(g, rig_server(g, "a").state == FLEET_UP);
    submit("a", ID1, &got);
    ASK(REGISTRY_OK, registry_remove(g->reg, "a", true, on_answer, &ans));
    assert_false(rig_has(g, "a"));
}

/* --- what they can do --- */

#define CLASS(name, files)                                                                                   \
    "\"" name "\": {\"input\": {\"required\": {\"f\": [[" files                                              \
    "]]}}, \"output\": [\"X\"], \"name\": \"" name "\", \"output_node\": false}"

static struct fake *fake_with(size_t i, const char *info)
{
    if (g->fake[i] == NULL)
        g->fake[i] = fake_new(g->loop);
    fake_set(&g->fake[i]->object_info, info);
    return g->fake[i];
}

static bool merged_has(const char *what)
{
    struct bytes *b = registry_object_info(g->reg, NULL);
    bool has = b && strstr(b->data, what) != NULL;

    bytes_unref(b);
    return has;
}

#define INFO_A "{" CLASS("Shared", "\"x\"") ", " CLASS("Loader", "\"a.safetensors\"") "}"
#define INFO_B                                                                                               \
    "{" CLASS("Shared", "\"x\"") ", " CLASS("Loader", "\"b.safetensors\"") ", " CLASS("OnlyB", "") "}"
#define NEED_B_FILE "{\"1\": {\"class_type\": \"Loader\", \"inputs\": {\"f\": \"b.safetensors\"}}}"

static char *need_of(const char *graph)
{
    struct json v;
    struct buf b = BUF_INIT;
    struct graph *gr;
    struct err e;

    assert_int_equal(json_check(graph, strlen(graph), NULL, &v, &e), 0);
    gr = graph_new(v, 0, &e);
    assert_non_null(gr);
    object_need_put(&b, registry_view(g->reg), gr);
    graph_free(&gr);
    return buf_take(&b);
}

static void test_merge(void **state)
{
    const char *etag, *before;
    struct bytes *text;
    char old[64], *need;

    (void)state;
    assert_null(registry_object_info(g->reg, &etag));
    assert_null(registry_view(g->reg));
    fake_with(0, INFO_A);
    fake_with(1, INFO_B);
    rig_servers(g, 2);
    RIG_UNTIL(g, merged_has("OnlyB") && merged_has("a.safetensors"));
    assert_true(merged_has("\"a.safetensors\", \"b.safetensors\"") ||
                merged_has("\"a.safetensors\",\"b.safetensors\""));
    text = registry_object_info(g->reg, &etag);
    assert_true(etag[0] == '"' && strlen(etag) == 34);
    bytes_unref(text);
    assert_int_equal(rig_server(g, "a").nodes, 2);
    assert_int_equal(rig_server(g, "b").nodes, 3);
    /* Equal classes are one object; a file decides who can. */
    assert_ptr_equal(object_info_at(registry_server_info(g->reg, rig_server(g, "a").index), 0),
                     object_info_at(registry_server_info(g->reg, rig_server(g, "b").index), 0));
    need = need_of(NEED_B_FILE);
    assert_int_equal(fleet_can_run(g->fleet, rig_server(g, "a").index, need), 0);
    assert_int_equal(fleet_can_run(g->fleet, rig_server(g, "b").index, need), 1);
    assert_int_equal(fleet_can_run(g->fleet, rig_server(g, "a").index, NULL), 1);
    assert_int_equal(fleet_can_run(g->fleet, 77, need), 0);
    assert_int_equal(fleet_can_run(g->fleet, 7777, need), 0);
    /* A server that changes is asked again when its socket comes back. */
    snprintf(old, sizeof(old), "%s", etag);
    fake_with(0, "{" CLASS("Loader", "\"b.safetensors\"") "}");
    fake_drop_socket(g->fake[0]);
    RIG_UNTIL(g, fleet_can_run(g->fleet, rig_server(g, "a").index, need) == 1);
    RIG_UNTIL(g, !merged_has("a.safetensors"));
    bytes_unref(registry_object_info(g->reg, &before));
    assert_string_not_equal(before, old);
    free(need);
}

/* A fleet of equal servers holds one text, whose copies are not even read. */
static void test_shared(void **state)
{
    (void)state;
    for (size_t i = 0; i < 4; i++)
        fake_with(i, INFO_B);
    rig_servers(g, 4);
    for (unsigned i = 1; i < 4; i++)
        assert_ptr_equal(registry_server_info(g->reg, i), registry_server_info(g->reg, 0));
}

/* A client that waits for what the servers say now. */
struct waits {
    struct refresh w;
    int told;   /* it was called back */
    bool fresh; /* and then this was there already */
};

static void on_told(void *arg)
{
    struct waits *x = arg;

    x->told++;
    x->fresh = merged_has("OnlyB");
}

static void test_refresh(void **state)
{
    struct fake *f = fake_with(0, INFO_A);
    struct waits x = {.told = 0}, y = {.told = 0}, z = {.told = 0};
    uint64_t version;
    unsigned asked;

    (void)state;
    rig_servers(g, 1);
    RIG_UNTIL(g, merged_has("Loader"));
    asked = fake_asked(f, "GET /object_info");
    assert_false(registry_refresh(g->reg, &x.w, on_told, &x)); /* just now it was */
    for (int i = 0; i < 20; i++)
        rig_turn(g);
    assert_int_equal(fake_asked(f, "GET /object_info"), asked);
    version = registry_version(g->reg);
    registry_find(g->reg, "a")->caps.asked_at -= 10000;
    fake_with(0, INFO_B);
    assert_true(registry_refresh(g->reg, &x.w, on_told, &x));
    assert_true(registry_refresh(g->reg, &y.w, on_told, &y)); /* both wait for the same answer */
    assert_true(registry_refresh(g->reg, &z.w, on_told, &z));
    registry_refresh_cancel(&z.w);
    assert_int_equal(x.told + y.told, 0); /* never inside the call */
    RIG_UNTIL(g, x.told && y.told);
    assert_true(x.fresh && y.fresh);
    assert_int_equal(x.told + y.told + z.told, 2);
    assert_true(registry_version(g->reg) != version);
    assert_int_equal(fake_asked(f, "GET /object_info"), asked + 1);
    /* Nothing new: told all the same. */
    registry_find(g->reg, "a")->caps.asked_at -= 10000;
    assert_true(registry_refresh(g->reg, &x.w, on_told, &x));
    RIG_UNTIL(g, x.told == 2);
    assert_int_equal(fake_asked(f, "GET /object_info"), asked + 2);
    /* The slower it answers, the rarer it is asked. */
    registry_find(g->reg, "a")->caps.took_ms = 16000;
    registry_find(g->reg, "a")->caps.asked_at -= 60000;
    assert_false(registry_refresh(g->reg, &x.w, on_told, &x));
    for (int i = 0; i < 20; i++)
        rig_turn(g);
    assert_int_equal(fake_asked(f, "GET /object_info"), asked + 2);
}

/* It is asked, and does not answer in time: who asked is told what is known; who comes later does not wait for it. */
static void test_refresh_silent(void **state)
{
    struct fake *f = fake_with(0, INFO_A);
    struct waits x = {.told = 0};
    struct server *s;

    (void)state;
    rig_servers(g, 1);
    RIG_UNTIL(g, merged_has("Loader"));
    s = registry_find(g->reg, "a");
    fake_next(f, "GET", "/object_info", FAKE_HANG, 200, INFO_B, 1);
    s->caps.asked_at -= 10000;
    assert_true(registry_refresh(g->reg, &x.w, on_told, &x));
    timer_set(&x.w.timer, 10); /* its five seconds are over */
    RIG_UNTIL(g, x.told);
    assert_true(s->caps.fetching);
    s->caps.asked_at -= 5000;
    assert_false(registry_refresh(g->reg, &x.w, on_told, &x));
    assert_int_equal(x.told, 1);
}

static void refresh(void)
{
    static struct waits x;

    registry_find(g->reg, "a")->caps.asked_at -= 100000;
    x.told = 0;
    assert_true(registry_refresh(g->reg, &x.w, on_told, &x));
    RIG_UNTIL(g, x.told);
}

static void test_bad_info(void **state)
{
    static const char *const bad[] = {"nonsense", "[]", "", "{\"x\": ", "null"};
    struct fake *f = fake_with(0, INFO_A);

    (void)state;
    rig_servers(g, 1);
    RIG_UNTIL(g, merged_has("Loader"));
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        unsigned asked = fake_asked(f, "GET /object_info");

        fake_set(&f->object_info, bad[i]);
        refresh();
        assert_int_equal(fake_asked(f, "GET /object_info"), asked + 1);
        assert_true(merged_has("Loader")); /* what was known stays */
        assert_int_equal(rig_server(g, "a").nodes, 2);
    }
    fake_next(f, "GET", "/object_info", FAKE_CUT, 200, INFO_B, 2);
    refresh();
    assert_false(merged_has("OnlyB"));
}

/* Its link stays open all the time, so nothing else makes it known. */
static void test_info_is_asked_for_until_it_comes(void **state)
{
    struct fake *f = fake_with(0, INFO_A);
    int64_t pause = 0;
    struct server *s;

    (void)state;
    rig_servers(g, 1);
    s = registry_find(g->reg, "a");
    fake_with(0, INFO_B);
    fake_next(f, "GET", "/object_info", FAKE_ANSWER, 500, "", -1);
    caps_fetch(s);
    for (int i = 0; i < 3; i++) {
        unsigned asked;

        RIG_UNTIL(g, timer_is_set(&s->caps.retry) && s->caps.pause_ms > pause); /* more and more rarely */
        asked = fake_asked(f, "GET /object_info");
        pause = s->caps.pause_ms;
        if (i == 2)
            fake_as_usual(f);
        timer_set(&s->caps.retry, 0);
        RIG_UNTIL(g, fake_asked(f, "GET /object_info") == asked + 1);
    }
    RIG_UNTIL(g, merged_has("OnlyB"));
    assert_false(timer_is_set(&s->caps.retry));
    assert_int_equal(s->caps.pause_ms, 0);
}

/* After a restart everything is known before any server answers. */
static void test_warm(void **state)
{
    struct registry_entry v[3] = {{"a", NULL, 1, NULL}, {"b", NULL, 1, NULL}, {"c", NULL, 1, NULL}};
    char url[3][64];
    int64_t ago;
    struct err e;
    char *need;

    (void)state;
    fake_with(0, INFO_A);
    fake_with(1, INFO_B);
    fake_with(2, INFO_B);
    rig_servers(g, 3);
    RIG_UNTIL(g, merged_has("OnlyB") && registry_system_stats(g->reg, "b") != NULL);
    need = need_of(NEED_B_FILE);
    for (size_t i = 0; i < 3; i++) {
        snprintf(url[i], sizeof(url[i]), "%s", g->fake[i]->url);
        v[i].url = url[i];
    }
    rig_close(g);
    for (size_t i = 0; i < 3; i++)
        fake_die(g->fake[i]);
    rig_open(g);
    assert_int_equal(registry_configure(g->reg, v, 3, &e), 0);
    rig_start(g);
    assert_true(merged_has("OnlyB") && merged_has("a.safetensors"));
    assert_int_equal(rig_server(g, "a").state, FLEET_DOWN);
    assert_true(rig_server(g, "a").known && rig_server(g, "b").known && rig_server(g, "c").known);
    assert_ptr_equal(registry_server_info(g->reg, rig_server(g, "c").index),
                     registry_server_info(g->reg, rig_server(g, "b").index));
    assert_int_equal(fleet_can_run(g->fleet, rig_server(g, "a").index, need), 0);
    assert_int_equal(fleet_can_run(g->fleet, rig_server(g, "b").index, need), 1);
    assert_string_equal(rig_server(g, "b").version, "0.3.64");
    assert_non_null(registry_system_stats(g->reg, "b"));
    assert_non_null(registry_last_stats(g->reg, "b", &ago));
    assert_int_equal(ago, -1); /* of the life before */
    free(need);
}

/* What a server that was taken out knew is gone, from the store too, unless another one needs it. */
static void test_forgotten(void **state)
{
    struct registry_entry v = {"a", NULL, 1, NULL};
    char *need;
    struct err e;

    (void)state;
    rig_servers(g, 0);
    add("a", fake_with(0, INFO_B)->url, REGISTRY_OK);
    add("b", fake_with(1, INFO_B)->url, REGISTRY_OK);
    RIG_UNTIL(g, rig_server(g, "a").known && rig_server(g, "b").known && merged_has("OnlyB"));
    need = need_of(NEED_B_FILE);
    ASK(REGISTRY_OK, registry_remove(g->reg, "b", false, on_answer, &ans));
    rig_close(g);
    fake_die(g->fake[0]);
    rig_open(g);
    rig_start(g);
    assert_true(merged_has("OnlyB"));
    ASK(REGISTRY_OK, registry_remove(g->reg, "a", false, on_answer, &ans));
    RIG_UNTIL(g, !merged_has("OnlyB"));
    rig_close(g);
    rig_open(g);
    v.url = g->fake[0]->url;
    assert_int_equal(registry_configure(g->reg, &v, 1, &e), 0);
    rig_start(g);
    assert_false(rig_server(g, "a").known);
    assert_int_equal(fleet_can_run(g->fleet, rig_server(g, "a").index, need), -1);
    assert_int_equal(fleet_can_run(g->fleet, rig_server(g, "a").index, NULL), 1);
    free(need);
}

static void test_stats(void **state)
{
    struct fake *f = fake_with(0, "{}");
    unsigned asked;
    int64_t ago;

    (void)state;
    rig_servers(g, 1);
    RIG_UNTIL(g, registry_system_stats(g->reg, "a") != NULL);
    assert_null(registry_system_stats(g->reg, "nobody"));
    asked = fake_asked(f, "GET /system_stats");
    for (int i = 0; i < 20; i++) {
        assert_non_null(registry_system_stats(g->reg, "a"));
        rig_turn(g);
    }
    assert_int_equal(fake_asked(f, "GET /system_stats"), asked);
    registry_find(g->reg, "a")->caps.stats_at -= 10000;
    for (int i = 0; i < 20; i++) { /* this one never asks */
        assert_non_null(registry_last_stats(g->reg, "a", &ago));
        assert_true(ago >= 0);
        rig_turn(g);
    }
    assert_int_equal(fake_asked(f, "GET /system_stats"), asked);
    assert_null(registry_last_stats(g->reg, "nobody", &ago));
    assert_int_equal(ago, -1);
    fake_next(f, "GET", "/system_stats", FAKE_ANSWER, 200, "{\"system\": {\"comfyui_version\": \"0.4.0\"}}",
              1);
    assert_non_null(registry_system_stats(g->reg, "a"));
    RIG_UNTIL(g, strcmp(rig_server(g, "a").version, "0.4.0") == 0);
}

/* user:pass in the url goes to the server, on the socket too. */
static struct buf seen;

static void on_authorized(struct http_req *r, void *arg)
{
    const char *auth = http_req_header(r, "Authorization");

    (void)arg;
    buf_printf(&seen, "%s %s\n", http_req_path(r), auth ? auth : "-");
    http_reply_empty(r, 401);
}

static void test_user_and_password(void **state)
{
    struct err e;
    struct http_server *s = http_server_new(g->loop, NULL, on_authorized, NULL);
    struct listener *ln = http_server_listen(s, "127.0.0.1:0", NULL, &e);
    struct registry_entry v = {NULL, NULL, 1, NULL};
    char *url = xasprintf("http://me:s3cret@%s", listener_addr(ln)), *shown;

    (void)state;
    v.url = url;
    assert_int_equal(registry_configure(g->reg, &v, 1, &e), 0);
    rig_start(g);
    RIG_UNTIL(g, seen.len > 0);
    assert_string_equal(buf_str(&seen), "/ws Basic bWU6czNjcmV0\n");
    assert_int_equal(rig_server(g, listener_addr(ln)).state, FLEET_DOWN);
    shown = xasprintf("http://%s", listener_addr(ln));
    assert_string_equal(rig_server(g, listener_addr(ln)).url, shown); /* told to everybody */
    free(shown);
    rig_close(g);
    http_server_free(&s);
    buf_free(&seen);
    free(url);
}

static void test_https(void **state)
{
    struct registry_entry v = {"a", NULL, 1, NULL};
    struct fake *f = fake_with(0, "{}");
    char *url = xasprintf("https://127.0.0.1:%u", f->port);
    struct err e;

    (void)state;
    v.url = url;
    assert_int_equal(registry_configure(g->reg, &v, 1, &e), 0);
    rig_start(g);
    RIG_UNTIL(g, strcmp(rig_server(g, "a").reason, "not reached yet") != 0); /* it speaks no TLS */
    assert_int_equal(rig_server(g, "a").state, FLEET_DOWN);
    assert_int_equal(f->log.len, 0); /* and nothing was told to it in the clear */
    free(url);
}

/* Closed in the middle of everything: nothing leaks, nothing is called afterwards. */
static void test_close_early(void **state)
{
    (void)state;
    for (int i = 0; i < 12; i++) {
        fake_with(0, INFO_A);
        fake_with(1, INFO_B);
        struct registry_entry v[2] = {{"a", g->fake[0]->url, 1, NULL}, {"b", g->fake[1]->url, 1, NULL}};
        struct err e;

        assert_int_equal(registry_configure(g->reg, v, 2, &e), 0);
        registry_start(g->reg, NULL, NULL);
        for (int k = 0; k < i; k++) {
            loop_turn(g->loop, 1);
            if (k % 2)
                store_mem_settle(g->store);
        }
        rig_close(g);
        rig_open(g);
    }
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_configure_refuses),
        T(test_configure_again),
        T(test_many),
        T(test_add),
        T(test_drained_of_file),
        T(test_drained_and_put_back),
        T(test_file_wins),
        T(test_remove_busy),
        T(test_merge),
        T(test_shared),
        T(test_refresh),
        T(test_refresh_silent),
        T(test_bad_info),
        T(test_info_is_asked_for_until_it_comes),
        T(test_warm),
        T(test_forgotten),
        T(test_stats),
        T(test_user_and_password),
        T(test_https),
        T(test_close_early),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
