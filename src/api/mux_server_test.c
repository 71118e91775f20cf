/* One server: what runs there, how its jobs did lately, what it is made of, how it differs from the others. */
#include "api/mux_rig_test.h"

#include "api/mux_recent.h"
#include "comfy/object_info.h"

#define SERVERS "/mux/v1/servers"
#define GPU0 SERVERS "/gpu0"

/* --- what servers did lately (mux_recent.h) --- */

static char id_of[UUID_SIZE], gpu[32], need_text[2048];

static struct job_summary *job(int n, const char *server, enum job_state state, int64_t at)
{
    static struct job_summary s;

    snprintf(id_of, sizeof(id_of), "0198c000-0000-7000-8000-%012d", n);
    snprintf(gpu, sizeof(gpu), "%s", server);
    s = (struct job_summary){
        .state = state, .server = gpu, .need = need_text, .state_at = at, .finished_at = at};
    memcpy(s.id, id_of, UUID_SIZE);
    return &s;
}

static void life(struct recents *r, int n, const char *server, int64_t ms)
{
    recents_on_change(r, job(n, server, JOB_DISPATCHING, 1000), JOB_QUEUED);
    recents_on_change(r, job(n, server, JOB_RUNNING, 1000), JOB_DISPATCHING);
    recents_on_change(r, job(n, server, JOB_COLLECTING, 1000 + ms), JOB_RUNNING);
    recents_on_change(r, job(n, server, JOB_SUCCEEDED, 1000 + ms), JOB_COLLECTING);
}

static void assert_recent(struct recents *r, const char *server, unsigned jobs, int64_t median, int64_t mean)
{
    struct recent now;

    recents_of(r, server, &now);
    assert_int_equal(now.jobs, jobs);
    assert_int_equal(now.median_ms, median);
    assert_int_equal(now.mean_ms, mean);
}

static void test_times(void **state)
{
    struct recents *r = recents_new();

    (void)state;
    need_text[0] = '\0';
    assert_recent(r, "a", 0, 0, 0);
    life(r, 1, "a", 100);
    assert_recent(r, "a", 1, 100, 100);
    life(r, 2, "a", 400);
    assert_recent(r, "a", 2, 250, 250);
    life(r, 3, "a", 100);
    assert_recent(r, "a", 3, 100, 200);
    assert_recent(r, "b", 0, 0, 0);
    /* what did not succeed does not count, nor what was bound before the start */
    recents_on_change(r, job(4, "a", JOB_DISPATCHING, 1000), JOB_QUEUED);
    recents_on_change(r, job(4, "a", JOB_FAILED, 9000), JOB_DISPATCHING);
    recents_on_change(r, job(5, "a", JOB_SUCCEEDED, 9000), JOB_COLLECTING);
    assert_recent(r, "a", 3, 100, 200);
    /* an attempt that was given up is no part of the next one's time */
    recents_on_change(r, job(6, "a", JOB_DISPATCHING, 1000), JOB_QUEUED);
    recents_on_change(r, job(6, "a", JOB_QUEUED, 5000), JOB_RUNNING);
    recents_on_change(r, job(6, "b", JOB_DISPATCHING, 6000), JOB_QUEUED);
    recents_on_change(r, job(6, "b", JOB_DISPATCHING, 6500), JOB_DISPATCHING);
    recents_on_change(r, job(6, "b", JOB_SUCCEEDED, 6700), JOB_COLLECTING);
    assert_recent(r, "b", 1, 700, 700);
    assert_recent(r, "a", 3, 100, 200);
    recents_on_change(r, job(6, "b", JOB_SUCCEEDED, 6900), JOB_COLLECTING); /* it is done with */
    recents_on_change(r, job(8, "b", JOB_DISPATCHING, 1000), JOB_QUEUED);
    recents_on_change(r, job(8, "b", JOB_QUEUED, 2000), JOB_DISPATCHING);
    recents_on_change(r, job(8, "b", JOB_SUCCEEDED, 3000),
                      JOB_COLLECTING); /* when that one began was not seen */
    assert_recent(r, "b", 1, 700, 700);
    /* the clock was set back */
    recents_on_change(r, job(7, "c", JOB_DISPATCHING, 1000), JOB_QUEUED);
    recents_on_change(r, job(7, "c", JOB_SUCCEEDED, 400), JOB_COLLECTING);
    assert_recent(r, "c", 1, 0, 0);
    for (int i = 0; i < 100; i++)
        life(r, 10 + i, "a", 10 + i);
    assert_recent(r, "a", RECENT_JOBS, (93 + 94) / 2, (78 + 109) / 2);
    recents_forget(r, "a");
    recents_forget(r, "nobody");
    assert_recent(r, "a", 0, 0, 0);
    recents_free(&r);
    assert_null(r);
}

static void test_many_servers(void **state)
{
    struct recents *r = recents_new();
    char name[16];

    (void)state;
    need_text[0] = '\0';
    for (int i = 0; i < RECENT_SERVERS + 10; i++) {
        snprintf(name, sizeof(name), "s%d", i);
        life(r, i, name, 5);
        life(r, 9999, "busy", 5); /* heard of again and again: never the oldest */
    }
    assert_recent(r, "s0", 0, 0, 0);
    assert_recent(r, "s10", 0, 0, 0);
    assert_recent(r, "s11", 1, 5, 5);
    assert_recent(r, "busy", RECENT_JOBS, 5, 5);
    recents_free(&r);
}

static void needs(const char *choices)
{
    snprintf(need_text, sizeof(need_text), "{\"classes\": [\"X\"], \"choices\": [%s]}", choices);
}

static const char *models(struct recents *r, const char *server)
{
    static char text[4096];
    struct recent now;
    size_t n = 0;

    text[0] = '\0';
    recents_of(r, server, &now);
    for (size_t i = 0; i < now.n_models; i++)
        n += (size_t)snprintf(text + n, sizeof(text) - n, "%s%s", i ? " " : "", now.models[i]);
    return text;
}

static void test_models(void **state)
{
    struct recents *r = recents_new();
    char one[64];

    (void)state;
    assert_string_equal(models(r, "a"), "");
    needs("[\"L\", \"ckpt\", \"a.safetensors\"], [\"K\", \"sampler\", \"euler\"], [\"L\", \"vae\", "
          "\"sd\\\\v.PT\"], "
          "[\"L\", \"latent\", \"x.latent\"], [\"L\", \"ckpt\", \".ckpt\"]");
    life(r, 1, "a", 1);
    assert_string_equal(models(r, "a"), "sd\\v.PT a.safetensors");
    assert_string_equal(models(r, "b"), "");
    needs("[\"L\", \"ckpt\", \"b.gguf\"]");
    life(r, 2, "a", 1);
    assert_string_equal(models(r, "a"), "b.gguf sd\\v.PT a.safetensors");
    needs("[\"L\", \"ckpt\", \"a.safetensors\"]");
    recents_on_change(r, job(3, "a", JOB_RUNNING, 1000),
                      JOB_DISPATCHING); /* loaded, whatever becomes of it */
    assert_string_equal(models(r, "a"), "a.safetensors b.gguf sd\\v.PT");
    for (int i = 0; i < 40; i++) {
        snprintf(one, sizeof(one), "[\"L\", \"l\", \"m%d.sft\"]", i % 20);
        needs(one);
        life(r, 4, "a", 1);
    }
    assert_string_equal(models(r, "a"),
                        "m19.sft m18.sft m17.sft m16.sft m15.sft m14.sft m13.sft m12.sft m11.sft "
                        "m10.sft m9.sft m8.sft m7.sft m6.sft m5.sft m4.sft");
    /* what is no need says nothing */
    for (size_t i = 0; i < 5; i++) {
        static const char *const odd[] = {
            "", "nonsense", "[]", "{\"choices\": 5}",
            "{\"choices\": [5, [], [1, 2, 3], [\"a\", \"b\"], {\"2\": \"z.pt\"}]}"};

        snprintf(need_text, sizeof(need_text), "%s", odd[i]);
        life(r, 5, "b", 1);
    }
    assert_string_equal(models(r, "b"), "");
    recents_free(&r);
}

/* --- the routes --- */

static void test_running(void **state)
{
    struct rig *g = *state;

    assert_int_equal(GET(g, SERVERS), 200);
    assert_at(g, "servers.0.recent", "null");
    rig_submit(g, ID(1));
    g->now = 30;
    rig_accept(g);
    rig_event(g, ID(1), "execution_start", "");
    rig_event(g, ID(1), "progress", ", \"value\": 7, \"max\": 20, \"node\": \"3\"");
    g->reg.v[0].good = 5;
    g->reg.v[0].bad = 4;
    g->reg.v[0].fences = 3;
    g->reg.v[0].restarts = 2;
    g->reg.v[0].asked = 1;
    assert_int_equal(GET(g, SERVERS), 200);
    assert_at(g, "servers.0.running", "[\"" ID(1) "\"]");
    assert_at(
        g, "servers.0.jobs",
        "[{\"id\": \"" ID(
            1) "\", \"state\": \"running\", \"progress\": {\"value\": 7, \"max\": 20, \"node\": \"3\"}, "
               "\"started_at\": 1700000000030}]");
    assert_at(g, "servers.0.stats",
              "{\"successes\": 5, \"failures\": 4, \"fences\": 3, \"restarts\": 2, \"questions\": 1}");
    assert_at(g, "servers.0.last_seen", "1699999999990");
    assert_at(g, "servers.1.jobs", "[]");
    g->now = 2500;
    rig_event(g, ID(1), "execution_success", "");
    rig_history(g, ONE_IMAGE);
    rig_fetched(g);
    assert_int_equal(GET(g, SERVERS), 200);
    assert_at(g, "servers.0.jobs", "[]");
    assert_at(g, "servers.0.recent", "{\"jobs\": 1, \"seconds_median\": 2.5, \"seconds_mean\": 2.5}");
    assert_at(g, "servers.1.recent", "null");
    assert_int_equal(GET(g, GPU0), 200);
    assert_at(g, "recent.jobs", "1");
    /* another machine may have the name from now on */
    assert_int_equal(ask(g, "DELETE", GPU0, NULL), 200);
    assert_int_equal(GET(g, GPU0), 200);
    assert_at(g, "recent", "null");
}

static void test_one(void **state)
{
    struct rig *g = *state;
    char *in_list;

    assert_int_equal(GET(g, SERVERS), 200);
    in_list = xstrdup(at(g, "servers.1"));
    in_list[strlen(in_list) - 1] = '\0'; /* its end */
    assert_int_equal(GET(g, SERVERS "/gpu1"), 200);
    assert_memory_equal(g->body, in_list, strlen(in_list));
    assert_string_equal(
        g->body + strlen(in_list),
        ", \"models\": [], \"devices\": [], \"devices_at\": null, \"versions\": {\"comfyui\": null, "
        "\"python\": null, \"pytorch\": null}, \"missing_nodes\": [], \"missing_nodes_count\": null, "
        "\"extra_nodes\": [], \"extra_nodes_count\": null}");
    free(in_list);
    GET(g, SERVERS "/gpu9");
    assert_error(g, 404, "not_found");
    GET(g, SERVERS "/");
    assert_error(g, 404, "not_found");
    assert_int_equal(GET(g, SERVERS "/gpu%30"), 200);
    assert_at(g, "name", "gpu0");
}

static void test_devices(void **state)
{
    struct rig *g = *state;
    struct buf many = BUF_INIT;

    g->reg.stats = bytes_of(
        "{\"system\": {\"comfyui_version\": \"0.3.64\", \"python_version\": \"3.12 \\u00e9\", "
        "\"pytorch_version\": 5}, \"devices\": [{\"name\": \"cuda:0 X\", \"type\": \"cuda\", \"index\": "
        "0, \"vram_total\": 25393692672, \"vram_free\": 0, \"torch_vram_free\": 7}, {\"vram_total\": NaN, "
        "\"vram_free\": \"much\", \"name\": [1]}, 5]}");
    g->reg.stats_ago = 60;
    g->now = 100;
    assert_int_equal(GET(g, GPU0), 200);
    assert_at(g, "devices",
              "[{\"name\": \"cuda:0 X\", \"type\": \"cuda\", \"vram_total\": 25393692672, \"vram_free\": 0}, "
              "{\"name\": null, \"type\": null, \"vram_total\": null, \"vram_free\": null}, "
              "{\"name\": null, \"type\": null, \"vram_total\": null, \"vram_free\": null}]");
    assert_at(g, "devices_at", "1700000000040");
    assert_at(g, "versions", "{\"comfyui\": \"0.3.64\", \"python\": \"3.12 \\u00e9\", \"pytorch\": null}");
    g->reg.stats_ago = -1; /* from an earlier run */
    assert_int_equal(GET(g, GPU0), 200);
    assert_at(g, "devices_at", "null");
    assert_at(g, "devices.0.type", "cuda");
    bytes_unref(g->reg.stats);
    buf_puts(&many, "{\"devices\": [1");
    for (int i = 0; i < 1000; i++)
        buf_puts(&many, ", {}");
    buf_puts(&many, "]}");
    g->reg.stats = buf_to_bytes(&many);
    assert_int_equal(GET(g, GPU0), 200);
    assert_int_equal(json_count(json_get(g->json, "devices")), 64);
    bytes_unref(g->reg.stats);
    g->reg.stats = bytes_of("no JSON at all");
    assert_int_equal(GET(g, GPU0), 200);
    assert_at(g, "devices", "[]");
    bytes_unref(g->reg.stats);
    g->reg.stats = NULL;
}

static struct object_info *info(const char *text)
{
    struct err e;
    struct object_info *o = object_info_new(text, strlen(text), NULL, 0, &e);

    assert_non_null(o);
    return o;
}

static void set_view(struct rig *g, struct object_info *const *infos, size_t n)
{
    object_view_unref(g->reg.view);
    g->reg.view = object_view_new(infos, n);
}

static void test_differences(void **state)
{
    struct rig *g = *state;
    struct buf many = BUF_INIT;
    struct object_info *v[2] = {
        info("{\"Both\": {\"output\": [\"A\"]}, \"Only0\": {}, \"Same\": {}}"),
        info("{\"Only1\": {}, \"Same\": {}, \"Both\": {\"output\": [\"B\"]}, \"1\\u00e9\": {}}")};

    set_view(g, v, 1); /* nobody to compare with */
    assert_int_equal(GET(g, GPU0), 200);
    assert_at(g, "missing_nodes_count", "null");
    assert_at(g, "extra_nodes_count", "null");
    assert_at(g, "extra_nodes", "[]");
    assert_int_equal(GET(g, SERVERS "/gpu1"), 200);
    assert_at(g, "missing_nodes_count", "null"); /* not known itself */
    set_view(g, v, 2);
    assert_int_equal(GET(g, GPU0), 200);
    assert_at(g, "missing_nodes", "[\"Only1\", \"1\\u00e9\"]");
    assert_at(g, "missing_nodes_count", "2");
    assert_at(g, "extra_nodes", "[\"Only0\"]");
    assert_at(g, "extra_nodes_count", "1");
    assert_int_equal(GET(g, SERVERS "/gpu1"), 200);
    assert_at(g, "missing_nodes", "[\"Only0\"]");
    assert_at(g, "extra_nodes_count", "2");
    object_info_unref(v[1]);
    for (int i = 0; i < 250; i++)
        buf_printf(&many, "%s\"N%d\": {}", i ? ", " : "{", i);
    buf_puts(&many, "}");
    v[1] = info(buf_str(&many));
    buf_free(&many);
    set_view(g, v, 2);
    assert_int_equal(GET(g, GPU0), 200);
    assert_at(g, "missing_nodes_count", "250");
    assert_int_equal(json_count(json_get(g->json, "missing_nodes")), 200);
    object_info_unref(v[0]);
    object_info_unref(v[1]);
    object_view_unref(g->reg.view);
    g->reg.view = NULL;
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(test_##name, rig_setup, rig_teardown)
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_times),
        cmocka_unit_test(test_many_servers),
        cmocka_unit_test(test_models),
        T(running),
        T(one),
        T(devices),
        T(differences),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
