/* The fleet against the simulator, which behaves as a real ComfyUI does: two servers in processes of their
 * own, prompts that load a staged picture, previews, a stop, a death. */
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "comfy/events.h"
#include "comfy/history.h"
#include "fleet/fake_comfy.h"

static struct rig *g;
static struct got got;

struct sim {
    pid_t pid;
    char url[64];
};
static struct sim sims[2];

static void sim_start(struct sim *s, const char *listen, const char *name)
{
    const char *exe = getenv("COMFYMUX_EXE");
    int out[2];
    FILE *f;

    assert_non_null(exe);
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    s->pid = fork();
    if (s->pid == 0) {
        dup2(out[1], 1);
        execl(exe, exe, "sim", "--listen", listen, "--name", name, "--speed", "20", "--seed", "1",
              (char *)NULL);
        _exit(127);
    }
    close(out[1]);
    f = fdopen(out[0], "r");
    assert_non_null(fgets(s->url, sizeof(s->url), f)); /* it listens now */
    s->url[strcspn(s->url, "\n")] = '\0';
    fclose(f);
}

static void sim_kill(struct sim *s)
{
    if (s->pid > 0) {
        kill(s->pid, SIGKILL);
        waitpid(s->pid, NULL, 0);
    }
    s->pid = 0;
}

static int setup(void **state)
{
    struct registry_entry v[2] = {{"a", sims[0].url, 1, NULL}, {"b", sims[1].url, 1, NULL}};
    struct err e;

    (void)state;
    for (int i = 0; i < 2; i++)
        sim_start(&sims[i], "127.0.0.1:0", i ? "bee" : "ant");
    g = rig_new();
    assert_int_equal(registry_configure(g->reg, v, 2, &e), 0);
    rig_start(g);
    for (int i = 0; i < 2; i++)
        RIG_UNTIL(g, rig_server(g, v[i].name).state == FLEET_UP && rig_server(g, v[i].name).known);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    got_fini(&got);
    rig_free(&g);
    sim_kill(&sims[0]);
    sim_kill(&sims[1]);
    return 0;
}

#define SAVE                                                                                                 \
    "\"9\": {\"class_type\": \"SaveImage\", \"inputs\": {\"images\": [\"5\", 0], \"filename_prefix\": "      \
    "\"ComfyUI\"}}"
#define LOAD_GRAPH "{\"5\": {\"class_type\": \"LoadImage\", \"inputs\": {\"image\": \"in.png\"}}, " SAVE "}"
#define EMPTY_GRAPH                                                                                          \
    "{\"5\": {\"class_type\": \"EmptyImage\", \"inputs\": {\"width\": 64, \"height\": 64, \"batch_size\": "  \
    "1, \"color\": 255}}, " SAVE "}"

static void submit(const char *server, const char *id, const char *graph, const struct job_input *in,
                   size_t n)
{
    struct fleet_submit s = {.server = server, .upstream_id = id, .job = id, .inputs = in, .n_inputs = n};

    got_fini(&got);
    s.graph = bytes_new(graph, strlen(graph));
    fleet_submit(g->fleet, &s, got_submitted, &got);
    bytes_unref(s.graph);
    RIG_UNTIL(g, got.n > 0);
}

static void find(const char *server, const char *id)
{
    got_fini(&got);
    fleet_find(g->fleet, server, id, got_lookup, &got);
    RIG_UNTIL(g, got.n > 0);
}

static bool ended(const char *server, const char *id)
{
    char want[200];

    snprintf(want, sizeof(want), "event %s %s {\"type\": \"executing\", \"data\": {\"node\": null", server,
             id);
    return strstr(buf_str(&g->told), want) != NULL;
}

/* The file that history names, fetched. */
struct name {
    char filename[100], subfolder[100], type[20];
};

static bool take_name(void *arg, const struct history_output *o)
{
    struct name *n = arg;
    char *s[3] = {json_strdup(o->filename), json_strdup(o->subfolder), json_strdup(o->type)};

    snprintf(n->filename, sizeof(n->filename), "%s", s[0]);
    snprintf(n->subfolder, sizeof(n->subfolder), "%s", s[1]);
    snprintf(n->type, sizeof(n->type), "%s", s[2]);
    for (int i = 0; i < 3; i++)
        free(s[i]);
    return false;
}

static void fetch_output(const char *server, const char *id, struct buf *bytes)
{
    struct name n;
    struct history h;
    struct json body;
    struct err e;
    struct fleet_file file = {server, n.filename, n.subfolder, n.type, id, id};

    got_fini(&got);
    fleet_history(g->fleet, server, id, got_history, &got);
    RIG_UNTIL(g, got.n > 0);
    assert_int_equal(got.status, 200);
    assert_int_equal(json_check(got.body, strlen(got.body), NULL, &body, &e), 0);
    assert_int_equal(history_find(body, id, &h, &e), 0);
    assert_int_equal(h.verdict, HISTORY_SUCCESS);
    history_outputs(&h, take_name, &n);
    assert_string_equal(n.filename, "ComfyUI_00001_.png");
    got_fini(&got);
    fleet_fetch(g->fleet, &file, got_fetched, &got);
    RIG_UNTIL(g, got.n > 0);
    assert_int_equal(got.fetch, FLEET_FETCHED);
    assert_string_equal(got.mime, "image/png");
    rig_read(g, got.blake3, bytes);
    fleet_unpin(g->fleet, got.pin);
}

/* A picture from a, staged to b, comes back from there. */
static void test_there_and_back(void **state)
{
    struct job_input in = {.name = (char *)"in.png"};
    struct buf png = BUF_INIT, other = BUF_INIT;

    (void)state;
    submit("a", ID1, EMPTY_GRAPH, NULL, 0);
    assert_int_equal(got.submit, FLEET_ACCEPTED);
    RIG_UNTIL(g, ended("a", ID1));
    find("a", ID1);
    assert_int_equal(got.found, FLEET_ENDED);
    find("b", ID1);
    assert_int_equal(got.found, FLEET_ABSENT);
    fetch_output("a", ID1, &png);
    memcpy(in.blake3, got.blake3, BLAKE3_LEN);
    submit("b", ID2, LOAD_GRAPH, NULL, 0); /* not there under that name */
    assert_int_equal(got.submit, FLEET_REJECTED);
    submit("b", ID2, LOAD_GRAPH, &in, 1);
    assert_int_equal(got.submit, FLEET_ACCEPTED);
    RIG_UNTIL(g, ended("b", ID2));
    fetch_output("b", ID2, &other);
    assert_true(other.len > 0);
    buf_free(&png);
    buf_free(&other);
}

/* Sampling that takes long, with previews; interrupted, and one behind it taken out of the queue. */
#define SAMPLE_GRAPH                                                                                         \
    "{\"1\": {\"class_type\": \"CheckpointLoaderSimple\", \"inputs\": {\"ckpt_name\": \"%s\"}}, "            \
    "\"2\": {\"class_type\": \"CLIPTextEncode\", \"inputs\": {\"text\": \"x\", \"clip\": [\"1\", 1]}}, "     \
    "\"3\": {\"class_type\": \"EmptyLatentImage\", \"inputs\": {\"width\": 512, \"height\": 512, "           \
    "\"batch_size\": 1}}, "                                                                                  \
    "\"4\": {\"class_type\": \"KSampler\", \"inputs\": {\"model\": [\"1\", 0], \"positive\": [\"2\", 0], "   \
    "\"negative\": [\"2\", 0], \"latent_image\": [\"3\", 0], \"seed\": 1, \"steps\": 10000, \"cfg\": 7.0, "  \
    "\"sampler_name\": \"euler\", \"scheduler\": \"normal\", \"denoise\": 1.0}}, "                           \
    "\"5\": {\"class_type\": \"VAEDecode\", \"inputs\": {\"samples\": [\"4\", 0], \"vae\": [\"1\", "         \
    "2]}}, " SAVE "}"

static enum fleet_stopped stop(const char *id)
{
    got_fini(&got);
    fleet_stop(g->fleet, "a", id, got_stopped, &got);
    RIG_UNTIL(g, got.n > 0);
    return got.stopped;
}

static void test_stop(void **state)
{
    const struct object_info *info = registry_server_info(g->reg, rig_server(g, "a").index);
    const struct object_class *c = object_info_find(info, (struct str){"CheckpointLoaderSimple", 22});
    const struct object_input *in = c ? object_class_input(c, (struct str){"ckpt_name", 9}) : NULL;
    char *ckpt = in ? json_strdup(json_at(in->values, 0)) : NULL, *graph;

    (void)state;
    assert_non_null(ckpt);
    graph = xasprintf(SAMPLE_GRAPH, ckpt);
    submit("a", ID1, graph, NULL, 0);
    assert_int_equal(got.submit, FLEET_ACCEPTED);
    submit("a", ID2, graph, NULL, 0);
    assert_int_equal(got.submit, FLEET_ACCEPTED);
    RIG_UNTIL(g, strstr(buf_str(&g->told), "frame a " ID1)); /* a preview, attributed */
    find("a", ID1);
    assert_int_equal(got.found, FLEET_RUNNING);
    find("a", ID2);
    assert_int_equal(got.found, FLEET_PENDING);
    assert_int_equal(stop(ID2), FLEET_GONE);
    find("a", ID1);
    assert_int_equal(got.found, FLEET_RUNNING); /* untouched */
    while (stop(ID1) == FLEET_STILL_THERE)
        ;
    assert_int_equal(got.stopped, FLEET_GONE);
    RIG_UNTIL(g, strstr(buf_str(&g->told), "execution_interrupted"));
    free(ckpt);
    free(graph);
}

static void test_death(void **state)
{
    char listen[40];

    (void)state;
    submit("a", ID1, EMPTY_GRAPH, NULL, 0);
    RIG_UNTIL(g, ended("a", ID1));
    sim_kill(&sims[0]);
    RIG_UNTIL(g, rig_server(g, "a").state == FLEET_DOWN);
    find("a", ID1);
    assert_int_equal(got.found, FLEET_UNREACHABLE);
    assert_true(got.refused);
    submit("a", ID2, EMPTY_GRAPH, NULL, 0);
    assert_int_equal(got.submit, FLEET_REFUSED);
    assert_int_equal(rig_server(g, "b").state, FLEET_UP);
    snprintf(listen, sizeof(listen), "%s", strstr(sims[0].url, "//") + 2);
    sim_start(&sims[0], listen, "ant");
    RIG_UNTIL(g, rig_server(g, "a").state == FLEET_UP);
    find("a", ID1);
    assert_int_equal(got.found, FLEET_ABSENT); /* it has forgotten everything */
    submit("a", ID2, EMPTY_GRAPH, NULL, 0);
    assert_int_equal(got.submit, FLEET_ACCEPTED);
    RIG_UNTIL(g, ended("a", ID2));
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {T(test_there_and_back), T(test_stop), T(test_death)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
