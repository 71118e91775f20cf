/* The contract of store.h, verb by verb, over every implementation. */
#include "store/store_test_util.h"

static bool use_sqlite;

static int setup(void **state)
{
    struct fx *f = malloc(sizeof(*f));

    fx_open(f, use_sqlite);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    fx_close(*state);
    free(*state);
    return 0;
}

static struct bytes *text(const char *s)
{
    return bytes_new(s, strlen(s));
}

/* --- submit --- */
static void submit_keeps_everything(void **state)
{
    struct fx *f = *state;
    struct job_input input = {.name = "cat.png"};
    struct store_event ev[] = {{"state", "{\"a\":1}"}, {"state", "{\"b\":2}"}};
    struct store_submit in = {.id = "j1",
                              .tenant = "t",
                              .client_id = "c",
                              .window_id = "w",
                              .retry_of = "j0",
                              .key = "k",
                              .graph = text("{graph}"),
                              .extra_data = text("{extra}"),
                              .targets = text("[\"9\"]"),
                              .rest = text("{rest}"),
                              .secrets = text("sealed"),
                              .answer = text("{\"number\": %NUMBER%, \"x\": 1}"),
                              .priority = -3,
                              .flags = JOB_F_PAID,
                              .created_at = 1111,
                              .deadline = 2222,
                              .inputs = &input,
                              .n_inputs = 1,
                              .note = "hello",
                              .events = ev,
                              .n_events = 2};
    struct bytes *mine[] = {in.graph, in.extra_data, in.targets, in.rest, in.secrets, in.answer};
    struct job_record *r;

    hash_of(input.blake3, "cat");
    fx_pin(f, "cat", 3);
    assert_int_equal(CALL(f, submit, &in, on_submitted), STORE_OK);
    assert_int_equal(f->sub.seq, 1);
    assert_true(f->sub.number == 1.0);
    assert_string_equal(f->sub_answer, "{\"number\": 1, \"x\": 1}");
    assert_string_equal(f->sub.id, "j1");
    for (size_t i = 0; i < ARRAY_LEN(mine); i++)
        bytes_unref(mine[i]);

    fx_reopen(f);
    r = fx_get(f, "j1");
    assert_non_null(r);
    assert_int_equal(r->s.state, JOB_QUEUED);
    assert_int_equal(r->s.version, 1);
    assert_int_equal(r->s.flags, JOB_F_PAID);
    assert_int_equal(r->s.attempt, 0);
    assert_string_equal(r->s.upstream_id, "");
    assert_null(r->s.server);
    assert_string_equal(r->s.tenant, "t");
    assert_string_equal(r->s.client_id, "c");
    assert_string_equal(r->s.window_id, "w");
    assert_int_equal(r->s.seq, 1);
    assert_true(r->s.number == 1.0);
    assert_int_equal(r->s.priority, -3);
    assert_int_equal(r->s.created_at, 1111);
    assert_int_equal(r->s.state_at, 1111);
    assert_int_equal(r->s.deadline, 2222);
    assert_int_equal(r->s.finished_at, 0);
    assert_string_equal(r->graph->data, "{graph}");
    assert_string_equal(r->extra_data->data, "{extra}");
    assert_string_equal(r->targets->data, "[\"9\"]");
    assert_string_equal(r->rest->data, "{rest}");
    assert_string_equal(r->secrets->data, "sealed");
    assert_string_equal(r->answer->data, "{\"number\": 1, \"x\": 1}");
    assert_null(r->history);
    assert_string_equal(r->retry_of, "j0");
    assert_int_equal(r->n_inputs, 1);
    assert_string_equal(r->inputs[0].name, "cat.png");
    assert_memory_equal(r->inputs[0].blake3, input.blake3, BLAKE3_LEN);
    assert_int_equal(r->n_timeline, 1);
    assert_string_equal(r->timeline[0].note, "hello");
    assert_int_equal(r->timeline[0].at, 1111);
    assert_int_equal(r->error.code, JOB_OK);

    assert_int_equal(CALL(f, get, "j1", 0, on_record), STORE_OK);
    assert_null(f->rec->graph);
    assert_null(f->rec->secrets);
    assert_int_equal(f->rec->n_timeline, 0);
    assert_int_equal(CALL(f, get, "nobody", 0, on_record), STORE_NOT_FOUND);
    CALL(f, events, 0, NULL, 10, on_events);
    assert_string_equal(buf_str(&f->text), "1:t:j1:state:{\"a\":1} 2:t:j1:state:{\"b\":2} ");
}

static void submit_keeps_bytes_with_nul_and_empty(void **state)
{
    struct fx *f = *state;
    struct bytes *g = bytes_new("a\0b", 3), *none = bytes_new("", 0);
    struct store_submit in = {.id = "j1", .tenant = "", .graph = g, .extra_data = none};
    struct job_record *r;

    assert_int_equal(CALL(f, submit, &in, on_submitted), STORE_OK);
    assert_int_equal(atomic_load(&g->refs), use_sqlite ? 1 : 2);
    bytes_unref(g);
    bytes_unref(none);
    r = fx_get(f, "j1");
    assert_int_equal(r->graph->len, 3);
    assert_memory_equal(r->graph->data, "a\0b", 3);
    assert_non_null(r->extra_data);
    assert_int_equal(r->extra_data->len, 0);
    assert_null(r->targets);
    assert_null(r->answer);
}

static void submit_numbers(void **state)
{
    struct fx *f = *state;
    struct bytes *g = text("{}"), *a = text("<%NUMBER%>");
    struct store_submit in = {.id = "j1", .tenant = "t", .graph = g, .answer = a, .front = true};

    CALL(f, submit, &in, on_submitted);
    assert_true(f->sub.number == -1.0);
    assert_string_equal(f->sub_answer, "<-1>");
    in.id = "j2";
    in.has_number = true;
    in.number = 0.5;
    CALL(f, submit, &in, on_submitted);
    assert_true(f->sub.number == 0.5);
    assert_int_equal(f->sub.seq, 2);
    assert_string_equal(f->sub_answer, "<%NUMBER%>"); /* the caller wrote its number itself */
    bytes_unref(g);
    bytes_unref(a);
    assert_true(fx_get(f, "j2")->s.number == 0.5);
}

static void submit_twice(void **state)
{
    struct fx *f = *state;
    struct bytes *g = text("{}"), *a = text("first"), *b = text("second");
    struct store_submit in = {
        .id = "j1", .tenant = "t", .graph = g, .answer = a, .key = "k", .body_hash = {1}};

    assert_int_equal(CALL(f, submit, &in, on_submitted), STORE_OK);
    in.answer = b;
    in.tenant = "other";
    assert_int_equal(CALL(f, submit, &in, on_submitted), STORE_EXISTS);
    assert_true(f->sub.same_body);
    assert_false(f->sub.by_key);
    assert_string_equal(f->sub_tenant, "t");
    assert_string_equal(f->sub_answer, "first");
    in.body_hash[0] = 2;
    assert_int_equal(CALL(f, submit, &in, on_submitted), STORE_EXISTS);
    assert_false(f->sub.same_body);

    in.id = "j2";
    in.tenant = "t";
    assert_int_equal(CALL(f, submit, &in, on_submitted), STORE_EXISTS); /* the key */
    assert_true(f->sub.by_key);
    assert_false(f->sub.same_body);
    assert_string_equal(f->sub.id, "j1");
    in.body_hash[0] = 1;
    assert_int_equal(CALL(f, submit, &in, on_submitted), STORE_EXISTS);
    assert_true(f->sub.same_body);
    assert_null(fx_get(f, "j2"));

    in.tenant = "other"; /* keys are of a tenant */
    assert_int_equal(CALL(f, submit, &in, on_submitted), STORE_OK);
    in.id = "j3";
    in.key = NULL;
    assert_int_equal(CALL(f, submit, &in, on_submitted), STORE_OK);
    in.id = "j4";
    assert_int_equal(CALL(f, submit, &in, on_submitted), STORE_OK);
    assert_int_equal(f->sub.seq, 4); /* refused ones took no number */
    bytes_unref(g);
    bytes_unref(a);
    bytes_unref(b);
}

static void submit_with_unknown_input_changes_nothing(void **state)
{
    struct fx *f = *state;
    struct job_input input[2] = {{.name = "known"}, {.name = "unknown"}};
    struct bytes *g = text("{}");
    struct store_submit in = {
        .id = "j1", .tenant = "t", .graph = g, .key = "k", .inputs = input, .n_inputs = 2};

    fx_pin(f, "known", 1);
    hash_of(input[0].blake3, "known");
    hash_of(input[1].blake3, "unknown");
    assert_int_equal(CALL(f, submit, &in, on_submitted), STORE_NOT_FOUND);
    assert_null(fx_get(f, "j1"));
    in.n_inputs = 1;
    assert_int_equal(CALL(f, submit, &in, on_submitted), STORE_OK);
    assert_int_equal(f->sub.seq, 1);
    bytes_unref(g);
}

/* --- step --- */
static void step_needs_the_version(void **state)
{
    struct fx *f = *state;

    fx_submit(f, "j1");
    assert_int_equal(fx_step(f, "j1", 0, JOB_RUNNING, 5), STORE_LOST);
    assert_int_equal(fx_step(f, "j1", 2, JOB_RUNNING, 5), STORE_LOST);
    assert_int_equal(fx_step(f, "nobody", 1, JOB_RUNNING, 5), STORE_LOST);
    assert_int_equal(fx_get(f, "j1")->s.state, JOB_QUEUED);
    assert_int_equal(f->rec->n_timeline, 1);
    assert_int_equal(fx_step(f, "j1", 1, JOB_RUNNING, 5), STORE_OK);
    assert_int_equal(fx_step(f, "j1", 1, JOB_COLLECTING, 6), STORE_LOST);
    assert_int_equal(fx_get(f, "j1")->s.version, 2);
    assert_int_equal(f->rec->s.state, JOB_RUNNING);
    assert_int_equal(f->rec->s.state_at, 5);
}

static void step_never_leaves_an_end(void **state)
{
    struct fx *f = *state;

    fx_submit(f, "j1");
    assert_int_equal(fx_step(f, "j1", 1, JOB_CANCELED, 5), STORE_OK);
    for (int s = 0; s < JOB_STATES; s++)
        if (s != JOB_CANCELED)
            assert_int_equal(fx_step(f, "j1", 2, (enum job_state)s, 6), STORE_LOST);
    assert_int_equal(fx_get(f, "j1")->s.state, JOB_CANCELED);
    assert_int_equal(f->rec->s.finished_at, 5);
}

static void step_attempts(void **state)
{
    struct fx *f = *state;
    struct job_attempt one = {.n = 1, .upstream_id = "u1", .server = "gpu1", .started_at = 10};
    struct job_attempt two = {.n = 2, .upstream_id = "u2", .server = "gpu2", .started_at = 30};
    struct job_attempt end = {.n = 1, .ended_at = 20, .code = JOB_SERVER_LOST, .message = "gone"};
    struct store_stray stray = {.server = "gpu1", .upstream_id = "u1", .job = "j1", .since = 20};
    struct store_step in = {.id = "j1", .version = 1, .at = 10, .state = JOB_DISPATCHING, .begin = &one};
    struct job_record *r;

    fx_submit(f, "j1");
    assert_int_equal(CALL(f, step, &in, on_done), STORE_OK);
    r = fx_get(f, "j1");
    assert_int_equal(r->s.attempt, 1);
    assert_string_equal(r->s.upstream_id, "u1");
    assert_string_equal(r->s.server, "gpu1");

    in = (struct store_step){.id = "j1",
                             .version = 2,
                             .at = 15,
                             .state = JOB_RUNNING,
                             .started = true,
                             .flags = JOB_F_OOM_RETRIED};
    assert_int_equal(CALL(f, step, &in, on_done), STORE_OK);
    r = fx_get(f, "j1");
    assert_int_equal(r->s.started_at, 15);
    assert_int_equal(r->s.flags, JOB_F_OOM_RETRIED);
    assert_string_equal(r->s.server, "gpu1");

    in = (struct store_step){.id = "j1",
                             .version = 3,
                             .at = 20,
                             .state = JOB_QUEUED,
                             .end = &end,
                             .stray = &stray,
                             .not_before = 99,
                             .note = "again"};
    assert_int_equal(CALL(f, step, &in, on_done), STORE_OK);
    r = fx_get(f, "j1");
    assert_null(r->s.server);
    assert_string_equal(r->s.upstream_id, "");
    assert_int_equal(r->s.attempt, 1);
    assert_int_equal(r->s.not_before, 99);
    assert_int_equal(r->s.flags, 0);

    in = (struct store_step){.id = "j1", .version = 4, .at = 30, .state = JOB_DISPATCHING, .begin = &two};
    assert_int_equal(CALL(f, step, &in, on_done), STORE_OK);
    in = (struct store_step){.id = "j1", .version = 5, .at = 35, .state = JOB_RUNNING, .started = true};
    assert_int_equal(CALL(f, step, &in, on_done), STORE_OK);
    fx_reopen(f);
    r = fx_get(f, "j1");
    assert_int_equal(r->s.started_at, 15); /* the first time */
    assert_int_equal(r->s.attempt, 2);
    assert_int_equal(r->n_attempts, 2);
    assert_string_equal(r->attempts[0].upstream_id, "u1");
    assert_string_equal(r->attempts[0].server, "gpu1");
    assert_int_equal(r->attempts[0].started_at, 10);
    assert_int_equal(r->attempts[0].ended_at, 20);
    assert_int_equal(r->attempts[0].code, JOB_SERVER_LOST);
    assert_string_equal(r->attempts[0].message, "gone");
    assert_int_equal(r->attempts[1].ended_at, 0);
    assert_int_equal(r->n_timeline, 6);
    assert_string_equal(r->timeline[3].note, "again");
    CALL0(f, strays, on_strays);
    assert_string_equal(buf_str(&f->text), "gpu1/u1/j1/20 ");
}

static void unsound_steps_change_nothing(void **state)
{
    struct fx *f = *state;
    struct job_attempt a = {.n = 1, .upstream_id = "u1", .server = "g"};
    struct job_output out[2] = {{.n = 0, .filename = "a"}, {.n = 0, .filename = "b"}};
    struct store_step in = {.id = "j1", .version = 1, .at = 1, .state = JOB_RUNNING, .end = &a};

    fx_submit(f, "j1");
    assert_int_equal(CALL(f, step, &in, on_done), STORE_FAILED); /* ends what never began */
    in.end = NULL;
    in.outputs = out;
    in.n_outputs = 1;
    assert_int_equal(CALL(f, step, &in, on_done), STORE_FAILED); /* unknown blob */
    hash_of(out[0].blake3, "x");
    hash_of(out[1].blake3, "x");
    fx_pin(f, "x", 1);
    in.n_outputs = 2;
    assert_int_equal(CALL(f, step, &in, on_done), STORE_FAILED); /* two of one number */
    in.n_outputs = 0;
    in.begin = &a;
    assert_int_equal(CALL(f, step, &in, on_done), STORE_OK);
    in.version = 2;
    assert_int_equal(CALL(f, step, &in, on_done), STORE_FAILED); /* the attempt is there */
    fx_get(f, "j1");
    assert_int_equal(f->rec->s.version, 2);
    assert_int_equal(f->rec->n_attempts, 1);
    assert_int_equal(f->rec->n_outputs, 0);
    assert_int_equal(f->rec->n_timeline, 2);
}

static void end_with_outputs(void **state)
{
    struct fx *f = *state;
    struct job_attempt a = {.n = 1, .upstream_id = "u1", .server = "gpu1", .started_at = 10};
    struct job_attempt end = {.n = 1, .ended_at = 20};
    struct job_output out[2] = {{.n = 0,
                                 .attempt = 1,
                                 .node_id = "9",
                                 .kind = "image",
                                 .key = "images",
                                 .filename = "a.png",
                                 .subfolder = "",
                                 .type = "output",
                                 .mime = "image/png",
                                 .size = 5},
                                {.n = 1,
                                 .attempt = 1,
                                 .node_id = "9",
                                 .kind = "image",
                                 .key = "images",
                                 .filename = "b.png",
                                 .subfolder = "sub",
                                 .type = "temp",
                                 .size = 6}};
    struct bytes *g = text("{}"), *secrets = text("sealed"), *history = text("{history}");
    struct store_submit sub = {.id = "j1", .tenant = "t", .graph = g, .secrets = secrets};
    struct store_step in = {.id = "j1", .version = 1, .at = 10, .state = JOB_RUNNING, .begin = &a};
    struct store_output_key k = {
        .tenant = "t", .job = "j1", .type = "output", .subfolder = "", .filename = "a.png"};
    struct store_event ev = {"end", "{}"};
    struct job_record *r;

    hash_of(out[0].blake3, "A");
    hash_of(out[1].blake3, "B");
    fx_pin(f, "A", 5);
    fx_pin(f, "B", 6);
    assert_int_equal(CALL(f, submit, &sub, on_submitted), STORE_OK);
    assert_int_equal(CALL(f, step, &in, on_done), STORE_OK);
    assert_string_equal(fx_get(f, "j1")->secrets->data, "sealed");
    in = (struct store_step){.id = "j1",
                             .version = 2,
                             .at = 20,
                             .state = JOB_SUCCEEDED,
                             .end = &end,
                             .history = history,
                             .outputs = out,
                             .n_outputs = 2,
                             .events = &ev,
                             .n_events = 1};
    assert_int_equal(CALL(f, step, &in, on_done), STORE_OK);
    bytes_unref(g);
    bytes_unref(secrets);
    bytes_unref(history);

    fx_reopen(f); /* pins are gone, references hold */
    CALL(f, blob_collect, 1000, 0, 100, NULL, NULL, on_collected);
    assert_int_equal(f->col.removed, 0);
    r = fx_get(f, "j1");
    assert_null(r->secrets);
    assert_int_equal(r->s.finished_at, 20);
    assert_int_equal(r->s.state, JOB_SUCCEEDED);
    assert_string_equal(r->history->data, "{history}");
    assert_int_equal(r->n_outputs, 2);
    assert_string_equal(r->outputs[0].filename, "a.png");
    assert_string_equal(r->outputs[0].mime, "image/png");
    assert_string_equal(r->outputs[1].subfolder, "sub");
    assert_null(r->outputs[1].mime);
    assert_memory_equal(r->outputs[1].blake3, out[1].blake3, BLAKE3_LEN);
    assert_int_equal(CALL(f, output_find, &k, on_file), STORE_OK);
    assert_memory_equal(f->file.blake3, out[0].blake3, BLAKE3_LEN);
    assert_int_equal(f->file.size, 5);
    assert_int_equal(f->file.at, 20);
    assert_string_equal(f->file_job, "j1");
    assert_string_equal(f->file_server, "gpu1");
    assert_string_equal(f->file_name, "a.png");
    assert_string_equal(f->file_mime, "image/png");
    CALL(f, events, 0, "j1", 10, on_events);
    assert_string_equal(buf_str(&f->text), "1:t:j1:end:{} ");
}

static void error_is_kept(void **state)
{
    struct fx *f = *state;
    struct job_error err = {JOB_EXECUTION_ERROR, 1, "gpu1", "it broke", "{\"x\":1}"};
    struct store_step in = {.id = "j1", .version = 1, .at = 10, .state = JOB_FAILED, .error = &err};
    struct job_record *r;

    fx_submit(f, "j1");
    assert_int_equal(CALL(f, step, &in, on_done), STORE_OK);
    fx_reopen(f);
    r = fx_get(f, "j1");
    assert_int_equal(r->s.code, JOB_EXECUTION_ERROR);
    assert_int_equal(r->error.code, JOB_EXECUTION_ERROR);
    assert_int_equal(r->error.attempt, 1);
    assert_string_equal(r->error.server, "gpu1");
    assert_string_equal(r->error.message, "it broke");
    assert_string_equal(r->error.detail, "{\"x\":1}");
}

/* --- lists --- */
static void submit_as(struct fx *f, const char *id, const char *tenant, const char *client,
                      const char *window)
{
    struct bytes *g = text("{}");
    struct store_submit in = {
        .id = id, .tenant = tenant, .client_id = client, .window_id = window, .graph = g};

    assert_int_equal(CALL(f, submit, &in, on_submitted), STORE_OK);
    bytes_unref(g);
}

static void end_as(struct fx *f, const char *id, enum job_state s, uint32_t flags)
{
    struct store_step in = {
        .id = id, .version = fx_get(f, id)->s.version, .state = s, .at = 50, .flags = flags};

    assert_int_equal(CALL(f, step, &in, on_done), STORE_OK);
}

static void run_on(struct fx *f, const char *id, const char *server)
{
    struct job_attempt a = {.n = 1, .server = (char *)server};
    struct store_step in = {.id = id, .version = 1, .state = JOB_RUNNING, .begin = &a};

    snprintf(a.upstream_id, sizeof(a.upstream_id), "u-%s", id);
    assert_int_equal(CALL(f, step, &in, on_done), STORE_OK);
}

static void list_jobs(struct fx *f)
{
    submit_as(f, "a", "t", "c1", "w1");
    submit_as(f, "b", "t", "c1", "w2");
    submit_as(f, "c", "t", "c2", "w2");
    submit_as(f, "d", "u", "c2", NULL);
    submit_as(f, "e", "t", NULL, NULL);
    submit_as(f, "f", "t", "c1", "w1");
    run_on(f, "a", "g1");
    run_on(f, "b", "g2");
    run_on(f, "d", "g1");
    end_as(f, "b", JOB_SUCCEEDED, 0);
    end_as(f, "a", JOB_FAILED, 0);
    end_as(f, "e", JOB_CANCELED, JOB_F_NO_HISTORY);
}

static void list_filters(void **state)
{
    struct fx *f = *state;
    uint32_t live = JOB_STATES_LIVE, ended = JOB_STATES_ENDED, queued = JOB_STATE_BIT(JOB_QUEUED);

    list_jobs(f);
#define IDS(...) fx_ids(f, &(struct store_filter){.limit = 100, __VA_ARGS__})
    assert_string_equal(IDS(), "f e d c b a");
    assert_string_equal(IDS(.oldest_first = true), "a b c d e f");
    assert_string_equal(IDS(.tenant = "t"), "f e c b a");
    assert_string_equal(IDS(.tenant = "u"), "d");
    assert_string_equal(IDS(.tenant = "nobody"), "");
    assert_string_equal(IDS(.states = live), "f d c");
    assert_string_equal(IDS(.states = ended, .oldest_first = true), "a b e");
    assert_string_equal(IDS(.states = queued), "f c");
    assert_string_equal(IDS(.states = queued, .tenant = "u"), "");
    assert_string_equal(IDS(.states = queued | JOB_STATE_BIT(JOB_FAILED), .tenant = "t"), "f c a");
    assert_string_equal(IDS(.client_id = "c1"), "f b a");
    assert_string_equal(IDS(.client_id = "c2", .tenant = "t"), "c");
    assert_string_equal(IDS(.client_id = "c1", .states = ended), "b a");
    assert_string_equal(IDS(.window_id = "w2"), "c b");
    assert_string_equal(IDS(.window_id = "w2", .client_id = "c1"), "b");
    assert_string_equal(IDS(.window_id = "w1", .states = live), "f");
    assert_string_equal(IDS(.server = "g1"), "d a");
    assert_string_equal(IDS(.server = "g1", .states = live), "d");
    assert_string_equal(IDS(.server = "g1", .tenant = "t", .client_id = "c1"), "a");
    assert_string_equal(IDS(.offset = 2), "d c b a");
    assert_string_equal(IDS(.tenant = "t", .offset = 2, .oldest_first = true), "c e f");

    /* native history: in the order of finishing, without what left none */
    assert_string_equal(IDS(.in_history = true), "a b");
    assert_string_equal(IDS(.in_history = true, .oldest_first = true, .tenant = "t"), "b a");
    assert_string_equal(IDS(.in_history = true, .tenant = "u"), "");
    assert_string_equal(IDS(.in_history = true, .client_id = "c1"), "a b");
    assert_string_equal(IDS(.in_history = true, .client_id = "c1", .tenant = "t", .server = "g2"), "b");
    assert_string_equal(IDS(.in_history = true, .window_id = "w1"), "a");
    assert_string_equal(IDS(.in_history = true, .states = JOB_STATE_BIT(JOB_FAILED)), "a");
    assert_string_equal(IDS(.in_history = true, .states = live), "");
    assert_string_equal(IDS(.in_history = true, .tenant = "t", .offset = 1), "b");
}

static void list_cursors(void **state)
{
    struct fx *f = *state;
    char id[8];

    for (int i = 0; i < 11; i++) {
        snprintf(id, sizeof(id), "j%02d", i);
        submit_as(f, id, i % 2 ? "u" : "t", "c", NULL);
        if (i >= 5)
            end_as(f, id, i % 3 ? JOB_FAILED : JOB_SUCCEEDED, 0);
    }
    for (int shape = 0; shape < 16; shape++) {
        struct store_filter all = {.limit = 100,
                                   .oldest_first = shape & 1,
                                   .tenant = shape & 2 ? "t" : NULL,
                                   .client_id = shape & 4 ? "c" : NULL,
                                   .in_history = shape & 8};
        char *want = xstrdup(fx_ids(f, &all));
        struct buf got = BUF_INIT;
        struct store_filter page = all;

        assert_int_equal(f->list.next, 0);
        page.limit = 2;
        for (int turns = 0;; turns++) {
            int64_t next;

            assert_true(turns < 10);
            fx_ids(f, &page);
            assert_true(f->list.n <= 2);
            next = f->list.next;
            buf_printf(&got, "%s%s", got.len && f->list.n ? " " : "", buf_str(&f->text));
            if (next == 0)
                break;
            page.after = next;
        }
        assert_string_equal(buf_str(&got), want);
        buf_free(&got);
        free(want);
    }
    /* a page that ends with the list has no next */
    fx_ids(f, &(struct store_filter){.limit = 11});
    assert_int_equal(f->list.n, 11);
    assert_int_equal(f->list.next, 0);
    fx_ids(f, &(struct store_filter){.limit = 10});
    assert_true(f->list.next != 0);
}

static void list_parts(void **state)
{
    struct fx *f = *state;
    struct store_filter l = {.limit = 10, .parts = JOB_PART_GRAPH};

    fx_submit(f, "j1");
    assert_string_equal(fx_ids(f, &l), "j1");
    assert_string_equal(f->list.rows[0]->graph->data, "j1");
    assert_int_equal(f->list.rows[0]->n_timeline, 0);
    l.parts = JOB_PART_RECORD;
    fx_ids(f, &l);
    assert_null(f->list.rows[0]->graph);
    assert_int_equal(f->list.rows[0]->n_timeline, 1);
}

static void unfinished_ones(void **state)
{
    struct fx *f = *state;

    list_jobs(f);
    CALL0(f, unfinished, on_summaries);
    assert_string_equal(buf_str(&f->text), "c:queued d:running f:queued ");
}

static void hiding(void **state)
{
    struct fx *f = *state;

    list_jobs(f);
    assert_int_equal(CALL(f, hide, "u", "a", on_done), STORE_NOT_FOUND); /* not theirs */
    assert_int_equal(CALL(f, hide, "t", "c", on_done), STORE_NOT_FOUND); /* not ended */
    assert_int_equal(CALL(f, hide, "t", "nobody", on_done), STORE_NOT_FOUND);
    assert_string_equal(IDS(.in_history = true), "a b");
    assert_int_equal(CALL(f, hide, "t", "a", on_done), STORE_OK);
    assert_int_equal(CALL(f, hide, "t", "a", on_done), STORE_NOT_FOUND); /* no more */
    assert_string_equal(IDS(.in_history = true), "b");
    assert_true(fx_get(f, "a")->s.flags & JOB_F_NO_HISTORY);
    assert_false(fx_get(f, "b")->s.flags & JOB_F_NO_HISTORY);
    end_as(f, "d", JOB_SUCCEEDED, 0); /* of u */
    assert_int_equal(CALL(f, hide, "t", NULL, on_done), STORE_OK);
    assert_string_equal(IDS(.in_history = true), "d");
    assert_string_equal(IDS(.in_history = true, .tenant = "t"), "");
    assert_string_equal(IDS(.in_history = true, .client_id = "c1", .tenant = "t"), "");
    assert_true(fx_get(f, "b")->s.flags & JOB_F_NO_HISTORY);
    assert_string_equal(IDS(.tenant = "t"), "f e c b a"); /* other lists know them */
    fx_reopen(f);
    end_as(f, "c", JOB_SUCCEEDED, 0); /* what ends later is shown */
    assert_string_equal(IDS(.in_history = true), "c d");
    assert_int_equal(CALL(f, hide, "t", NULL, on_done), STORE_OK);
    assert_string_equal(IDS(.in_history = true), "d");
}

/* --- small tables --- */
static void stray_rows(void **state)
{
    struct fx *f = *state;
    struct store_stray s = {.server = "g", .upstream_id = "u", .job = "j1", .since = 7};
    struct store_step in = {.id = "j1", .version = 1, .state = JOB_QUEUED, .stray = &s};

    fx_submit(f, "j1");
    assert_int_equal(CALL(f, step, &in, on_done), STORE_OK);
    in.version = 2;
    s.since = 9;
    assert_int_equal(CALL(f, step, &in, on_done), STORE_OK); /* once is enough */
    in.version = 3;
    strcpy(s.upstream_id, "v");
    assert_int_equal(CALL(f, step, &in, on_done), STORE_OK);
    fx_reopen(f);
    CALL0(f, strays, on_strays);
    assert_string_equal(buf_str(&f->text), "g/u/j1/7 g/v/j1/9 ");
    assert_int_equal(CALL(f, stray_done, "g", "u", on_done), STORE_OK);
    assert_int_equal(CALL(f, stray_done, "g", "u", on_done), STORE_NOT_FOUND);
    CALL0(f, strays, on_strays);
    assert_string_equal(buf_str(&f->text), "g/v/j1/9 ");
}

static void server_rows(void **state)
{
    struct fx *f = *state;
    struct store_server a = {"b", "http://b", 2, "[\"big\"]", true};
    struct store_server b = {"a", "http://a", 1, NULL, false};

    assert_int_equal(CALL(f, server_put, &a, false, on_done), STORE_OK);
    assert_int_equal(CALL(f, server_put, &b, true, on_done), STORE_OK);
    a.url = "http://c";
    assert_int_equal(CALL(f, server_put, &a, false, on_done), STORE_EXISTS);
    CALL0(f, servers, on_servers);
    assert_string_equal(buf_str(&f->text), "a=http://a,1,-,0 b=http://b,2,[\"big\"],1 ");
    assert_int_equal(CALL(f, server_put, &a, true, on_done), STORE_OK);
    assert_int_equal(CALL(f, server_remove, "a", on_done), STORE_OK);
    assert_int_equal(CALL(f, server_remove, "a", on_done), STORE_NOT_FOUND);
    fx_reopen(f);
    CALL0(f, servers, on_servers);
    assert_string_equal(buf_str(&f->text), "b=http://c,2,[\"big\"],1 ");
}

static void event_log(void **state)
{
    struct fx *f = *state;
    struct store_event ev[] = {{"state", "1"}, {"output", "2"}};
    struct store_step in = {.id = "j1", .version = 1, .state = JOB_RUNNING, .events = ev, .n_events = 2};

    CALL(f, events, 0, NULL, 10, on_events);
    assert_string_equal(buf_str(&f->text), "");
    assert_int_equal(f->oldest, 1);
    fx_submit(f, "j1");
    fx_submit(f, "j2");
    CALL(f, step, &in, on_done);
    in.id = "j2";
    CALL(f, step, &in, on_done);
    CALL(f, step, &in, on_done); /* lost: says nothing */
    CALL(f, events, 0, NULL, 10, on_events);
    assert_string_equal(buf_str(&f->text), "1:t:j1:state:1 2:t:j1:output:2 3:t:j2:state:1 4:t:j2:output:2 ");
    CALL(f, events, 2, NULL, 1, on_events);
    assert_string_equal(buf_str(&f->text), "3:t:j2:state:1 ");
    CALL(f, events, 1, "j1", 10, on_events);
    assert_string_equal(buf_str(&f->text), "2:t:j1:output:2 ");
    CALL(f, events, 4, NULL, 10, on_events);
    assert_int_equal(f->n, 0);
    assert_int_equal(f->oldest, 1);
}

static void documents(void **state)
{
    struct fx *f = *state;
    struct bytes *a = text("one"), *b = bytes_new("\0two", 4);

    assert_int_equal(CALL(f, doc_get, "k", "x", on_doc), STORE_NOT_FOUND);
    assert_int_equal(CALL(f, doc_put, "k", "x", a, on_done), STORE_OK);
    assert_int_equal(CALL(f, doc_put, "k", "y", b, on_done), STORE_OK);
    assert_int_equal(CALL(f, doc_get, "k", "x", on_doc), STORE_OK);
    assert_string_equal(buf_str(&f->text), "one");
    assert_int_equal(CALL(f, doc_put, "k", "x", b, on_done), STORE_OK);
    fx_reopen(f);
    assert_int_equal(CALL(f, doc_get, "k", "x", on_doc), STORE_OK);
    assert_int_equal(f->n, 4);
    assert_int_equal(CALL(f, doc_put, "k", "x", NULL, on_done), STORE_OK); /* away with it */
    assert_int_equal(CALL(f, doc_get, "k", "x", on_doc), STORE_NOT_FOUND);
    assert_int_equal(CALL(f, doc_get, "k", "y", on_doc), STORE_OK);
    bytes_unref(a);
    bytes_unref(b);
}

/* --- output names --- */
static void finish_with(struct fx *f, const char *id, const char *name, const char *content, int64_t at)
{
    struct job_output o = {.attempt = 1,
                           .filename = (char *)name,
                           .subfolder = "",
                           .type = "output",
                           .size = (int64_t)strlen(content)};
    struct store_step in = {.id = id,
                            .version = fx_get(f, id)->s.version,
                            .state = JOB_SUCCEEDED,
                            .at = at,
                            .outputs = &o,
                            .n_outputs = 1};
    int64_t pin = fx_pin(f, content, (int64_t)strlen(content));

    hash_of(o.blake3, content);
    assert_int_equal(CALL(f, step, &in, on_done), STORE_OK);
    assert_int_equal(CALL(f, blob_unpin, pin, on_done), STORE_OK);
}

static enum store_status find(struct fx *f, const char *tenant, const char *job, const char *name,
                              int attempt)
{
    struct store_output_key k = {.tenant = tenant,
                                 .job = job,
                                 .type = "output",
                                 .subfolder = "",
                                 .filename = name,
                                 .attempt = attempt};

    return CALL(f, output_find, &k, on_file);
}

static void outputs_by_name(void **state)
{
    struct fx *f = *state;

    submit_as(f, "a", "t", NULL, NULL);
    submit_as(f, "b", "t", NULL, NULL);
    submit_as(f, "c", "u", NULL, NULL);
    submit_as(f, "d", "t", NULL, NULL);
    finish_with(f, "a", "x.png", "same", 1);
    finish_with(f, "b", "x.png", "same", 2);
    finish_with(f, "c", "x.png", "other", 3);
    assert_int_equal(find(f, "t", "a", "x.png", 0), STORE_OK);
    assert_int_equal(find(f, "t", "a", "x.png", 1), STORE_OK);
    assert_int_equal(find(f, "t", "a", "x.png", 2), STORE_NOT_FOUND);
    assert_int_equal(find(f, "t", "a", "y.png", 0), STORE_NOT_FOUND);
    assert_int_equal(find(f, "t", "c", "x.png", 0), STORE_NOT_FOUND); /* a foreign job is an unknown one */
    assert_int_equal(find(f, NULL, "c", "x.png", 0), STORE_OK);
    assert_int_equal(find(f, "t", NULL, "x.png", 0), STORE_OK); /* two jobs, one content */
    assert_int_equal(find(f, "u", NULL, "x.png", 0), STORE_OK);
    assert_int_equal(find(f, "v", NULL, "x.png", 0), STORE_NOT_FOUND);
    finish_with(f, "d", "x.png", "changed", 4);
    assert_int_equal(find(f, "t", NULL, "x.png", 0), STORE_NOT_FOUND); /* never "newest wins" */
    assert_int_equal(find(f, "t", "a", "x.png", 0), STORE_OK);
    assert_int_equal(find(f, "t", "d", "x.png", 0), STORE_OK);
}

static void the_attempt_that_won(void **state)
{
    struct fx *f = *state;
    struct job_output o = {.attempt = 1, .filename = "x", .subfolder = "", .type = "output"};
    struct store_step in = {.id = "j1", .version = 1, .state = JOB_QUEUED, .outputs = &o, .n_outputs = 1};
    uint8_t two[BLAKE3_LEN];

    fx_submit(f, "j1");
    fx_pin(f, "one", 3);
    fx_pin(f, "two", 3);
    hash_of(o.blake3, "one");
    hash_of(two, "two");
    assert_int_equal(CALL(f, step, &in, on_done), STORE_OK);
    o.attempt = 2;
    memcpy(o.blake3, two, BLAKE3_LEN);
    in.version = 2;
    in.state = JOB_SUCCEEDED;
    assert_int_equal(CALL(f, step, &in, on_done), STORE_OK);
    assert_int_equal(find(f, "t", "j1", "x", 0), STORE_OK);
    assert_memory_equal(f->file.blake3, two, BLAKE3_LEN);
    assert_int_equal(find(f, "t", "j1", "x", 1), STORE_OK);
    assert_memory_not_equal(f->file.blake3, two, BLAKE3_LEN);
}

/* --- input names --- */
static const char *put(struct fx *f, const char *name, const char *content, bool overwrite)
{
    struct store_input in = {.tenant = "t",
                             .type = "input",
                             .subfolder = "",
                             .name = name,
                             .mime = "image/png",
                             .size = 1,
                             .at = 5,
                             .overwrite = overwrite};

    fx_pin(f, content, 1);
    hash_of(in.blake3, content);
    assert_int_equal(CALL(f, input_put, &in, on_file), STORE_OK);
    assert_memory_equal(f->file.blake3, in.blake3, BLAKE3_LEN);
    return f->file_name;
}

static void input_names(void **state)
{
    struct fx *f = *state;
    struct store_input in = {.tenant = "t", .type = "input", .subfolder = "", .name = "z"};
    uint8_t h[BLAKE3_LEN];

    assert_string_equal(put(f, "cat.png", "A", false), "cat.png");
    assert_string_equal(put(f, "cat.png", "A", false), "cat.png");
    assert_string_equal(put(f, "cat.png", "B", false), "cat (1).png");
    assert_string_equal(put(f, "cat.png", "B", false), "cat (1).png");
    assert_string_equal(put(f, "cat.png", "C", false), "cat (2).png");
    assert_string_equal(put(f, "cat.png", "A", false), "cat.png");
    assert_string_equal(put(f, "cat (1).png", "D", false), "cat (1) (1).png");
    assert_string_equal(put(f, "noext", "A", false), "noext");
    assert_string_equal(put(f, "noext", "B", false), "noext (1)");
    assert_string_equal(put(f, ".hidden", "A", false), ".hidden");
    assert_string_equal(put(f, ".hidden", "B", false), ".hidden (1)");
    assert_string_equal(put(f, "a.tar.gz", "A", false), "a.tar.gz");
    assert_string_equal(put(f, "a.tar.gz", "B", false), "a.tar (1).gz");
    assert_string_equal(put(f, "..x", "A", false), "..x");
    assert_string_equal(put(f, "..x", "B", false), "..x (1)");
    assert_string_equal(put(f, "d.x/n", "A", false), "d.x/n");
    assert_string_equal(put(f, "d.x/n", "B", false), "d.x/n (1)");
    assert_string_equal(put(f, "cat.png", "E", true), "cat.png");
    hash_of(h, "E");
    assert_int_equal(CALL(f, input_find, "t", "input", "", "cat.png", on_file), STORE_OK);
    assert_memory_equal(f->file.blake3, h, BLAKE3_LEN);
    assert_string_equal(f->file_mime, "image/png");
    assert_int_equal(f->file.at, 5);
    assert_int_equal(CALL(f, input_find, "u", "input", "", "cat.png", on_file), STORE_NOT_FOUND);
    assert_int_equal(CALL(f, input_find, "t", "temp", "", "cat.png", on_file), STORE_NOT_FOUND);
    assert_int_equal(CALL(f, input_find, "t", "input", "s", "cat.png", on_file), STORE_NOT_FOUND);
    hash_of(in.blake3, "never pinned");
    assert_int_equal(CALL(f, input_put, &in, on_file), STORE_NOT_FOUND);
    assert_int_equal(CALL(f, input_find, "t", "input", "", "z", on_file), STORE_NOT_FOUND);
}

static void input_lists(void **state)
{
    struct fx *f = *state;
    const char *rows[][4] = {{"t", "input", "", "b"},
                             {"t", "input", "", "a"},
                             {"t", "input", "s", "a"},
                             {"t", "temp", "", "a"},
                             {"u", "input", "", "z"}};

    fx_pin(f, "A", 7);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct store_input in = {
            .tenant = rows[i][0], .type = rows[i][1], .subfolder = rows[i][2], .name = rows[i][3]};

        hash_of(in.blake3, "A");
        assert_int_equal(CALL(f, input_put, &in, on_file), STORE_OK);
    }
    CALL(f, input_list, "t", "input", on_files);
    assert_string_equal(buf_str(&f->text), "input||a|7 input||b|7 input|s|a|7 ");
    CALL(f, input_list, "t", NULL, on_files);
    assert_string_equal(buf_str(&f->text), "input||a|7 input||b|7 input|s|a|7 temp||a|7 ");
    CALL(f, input_list, NULL, "input", on_files);
    assert_string_equal(buf_str(&f->text), "input||a|7 input||b|7 input||z|7 input|s|a|7 ");
    CALL(f, input_list, "v", NULL, on_files);
    assert_string_equal(buf_str(&f->text), "");
}

/* --- blobs --- */
struct unlinked {
    struct buf names;
};

static void on_unlink(const uint8_t h[BLAKE3_LEN], void *arg)
{
    struct unlinked *u = arg;

    buf_printf(&u->names, "%s ", (const char *)h);
}

static const char *collect(struct fx *f, struct unlinked *u, int64_t now, int64_t grace, int max)
{
    buf_clear(&u->names);
    assert_int_equal(CALL(f, blob_collect, now, grace, max, on_unlink, u, on_collected), STORE_OK);
    return buf_str(&u->names);
}

static void pins_and_collection(void **state)
{
    struct fx *f = *state;
    struct unlinked u = {BUF_INIT};
    int64_t one, two;
    struct store_stats st;

    assert_false(fx_known(f, "A"));
    one = fx_pin(f, "A", 10);
    assert_false(f->pin.known);
    two = fx_pin(f, "A", 10);
    assert_true(f->pin.known);
    assert_true(fx_known(f, "A"));
    store_stats(f->s, &st);
    assert_int_equal(st.blob_bytes, 10);
    assert_string_equal(collect(f, &u, 100, 0, 10), ""); /* pinned */
    CALL(f, blob_unpin, one, on_done);
    assert_string_equal(collect(f, &u, 100, 0, 10), ""); /* pinned once more */
    assert_int_equal(CALL(f, blob_unpin, one, on_done), STORE_NOT_FOUND);
    CALL(f, blob_unpin, two, on_done);
    assert_string_equal(collect(f, &u, 100, 50, 10), ""); /* doomed, in grace */
    assert_int_equal(f->col.doomed, 1);
    assert_true(fx_known(f, "A"));
    assert_string_equal(collect(f, &u, 149, 50, 10), "");
    assert_int_equal(f->col.doomed, 0);

    one = fx_pin(f, "A", 10); /* revives it */
    assert_true(f->pin.known);
    assert_string_equal(collect(f, &u, 1000, 50, 10), "");
    CALL(f, blob_unpin, one, on_done);
    assert_string_equal(collect(f, &u, 1000, 50, 10), ""); /* the grace begins anew */
    assert_string_equal(collect(f, &u, 1050, 50, 10), "A ");
    assert_int_equal(f->col.removed, 1);
    assert_false(f->col.more);
    assert_false(fx_known(f, "A"));
    store_stats(f->s, &st);
    assert_int_equal(st.blob_bytes, 0);
    fx_pin(f, "A", 10);
    assert_false(f->pin.known); /* its file is gone and must be written again */
    fx_reopen(f);
    assert_string_equal(collect(f, &u, 2000, 0, 10), "A "); /* pins are of one process */
    buf_free(&u.names);
}

static void references_hold(void **state)
{
    struct fx *f = *state;
    struct unlinked u = {BUF_INIT};
    struct job_input input = {.name = "cat.png"};
    struct bytes *g = text("{}");
    struct store_submit in = {.id = "a", .tenant = "t", .graph = g, .inputs = &input, .n_inputs = 1};

    put(f, "cat.png", "cat", false);
    hash_of(input.blake3, "cat");
    assert_int_equal(CALL(f, submit, &in, on_submitted), STORE_OK);
    bytes_unref(g);
    finish_with(f, "a", "x.png", "out", 10);
    fx_reopen(f);
    assert_string_equal(collect(f, &u, 100, 0, 10), "");
    put(f, "cat.png", "dog", true); /* the name moves on; the job still holds the cat */
    fx_reopen(f);
    assert_string_equal(collect(f, &u, 100, 0, 10), "");
    assert_true(fx_known(f, "cat"));
    /* doomed, and held again before the grace is over: by an input, by a job, by an output */
    fx_pin(f, "late", 1);
    fx_pin(f, "later", 1);
    fx_reopen(f);
    assert_string_equal(collect(f, &u, 200, 100, 10), "");
    assert_int_equal(f->col.doomed, 2);
    put(f, "late.png", "late", false);
    submit_as(f, "b", "t", NULL, NULL);
    finish_with(f, "b", "y.png", "later", 10);
    fx_reopen(f);
    assert_string_equal(collect(f, &u, 1000, 100, 10), "");
    assert_true(fx_known(f, "late"));
    assert_true(fx_known(f, "later"));
    buf_free(&u.names);
}

static void a_doomed_blob_is_revived_by_a_reference_alone(void **state)
{
    struct fx *f = *state;
    struct unlinked u = {BUF_INIT};
    struct job_input input = {.name = "x"};
    struct bytes *g = text("{}");
    struct store_submit in = {.id = "a", .tenant = "t", .graph = g, .inputs = &input, .n_inputs = 1};

    hash_of(input.blake3, "x");
    CALL(f, blob_unpin, fx_pin(f, "x", 1), on_done);
    assert_string_equal(collect(f, &u, 100, 50, 10), "");
    assert_int_equal(f->col.doomed, 1);
    assert_int_equal(CALL(f, submit, &in, on_submitted), STORE_OK);
    assert_string_equal(collect(f, &u, 1000, 50, 10), "");
    assert_true(fx_known(f, "x"));
    bytes_unref(g);
    buf_free(&u.names);
}

static void collection_in_steps(void **state)
{
    struct fx *f = *state;
    struct unlinked u = {BUF_INIT};
    char name[16];
    unsigned doomed = 0, removed = 0, turns = 0;

    for (int i = 0; i < 25; i++) {
        snprintf(name, sizeof(name), "b%d", i);
        fx_pin(f, name, 1);
    }
    fx_reopen(f);
    do {
        collect(f, &u, 100, 0, 10);
        doomed += f->col.doomed;
        removed += f->col.removed;
        assert_true(f->col.doomed <= 10 && f->col.removed <= 10);
        assert_true(++turns < 10);
    } while (f->col.more);
    assert_int_equal(doomed, 25);
    assert_int_equal(removed, 25);
    buf_free(&u.names);
}

/* --- retention --- */
static void trim_all(struct fx *f, const struct store_keep *k, unsigned *jobs, unsigned *outputs,
                     unsigned *events)
{
    *jobs = *outputs = *events = 0;
    for (int turns = 0; turns < 100; turns++) {
        assert_int_equal(CALL(f, trim, k, on_trimmed), STORE_OK);
        *jobs += f->trim.jobs;
        *outputs += f->trim.outputs;
        *events += f->trim.events;
        if (!f->trim.more)
            return;
    }
    fail_msg("trim never ends");
}

static void ten_finished(struct fx *f)
{
    char id[8], content[8];

    submit_as(f, "live", "t", NULL, NULL);
    for (int i = 0; i < 10; i++) {
        snprintf(id, sizeof(id), "j%d", i);
        snprintf(content, sizeof(content), "out%d", i); /* four bytes each */
        submit_as(f, id, "t", NULL, NULL);
        finish_with(f, id, "x.png", content, 100 + i);
    }
}

static void trim_by_age_and_count(void **state)
{
    struct fx *f = *state;
    struct unlinked u = {BUF_INIT};
    unsigned jobs, outputs, events;
    struct store_stats st;

    ten_finished(f);
    trim_all(f, &(struct store_keep){.now = 1000000, .max_rows = 5}, &jobs, &outputs, &events);
    assert_int_equal(jobs + outputs + events, 0); /* nothing is said, everything is kept */
    trim_all(f, &(struct store_keep){.now = 1102, .finished_ms = 1000, .max_rows = 2}, &jobs, &outputs,
             &events);
    assert_int_equal(jobs, 3); /* 100, 101, 102 */
    assert_string_equal(IDS(.oldest_first = true), "live j3 j4 j5 j6 j7 j8 j9");
    assert_null(fx_get(f, "j0"));
    assert_int_equal(find(f, "t", "j0", "x.png", 0), STORE_NOT_FOUND);
    trim_all(f, &(struct store_keep){.now = 1102, .count = 4, .max_rows = 100}, &jobs, &outputs, &events);
    assert_int_equal(jobs, 3);
    assert_string_equal(IDS(.in_history = true, .oldest_first = true), "j6 j7 j8 j9");
    store_stats(f->s, &st);
    assert_int_equal(st.finished, 4);
    fx_reopen(f);
    store_stats(f->s, &st);
    assert_int_equal(st.finished, 4);
    assert_string_equal(collect(f, &u, 100, 0, 100), "out0 out1 out2 out3 out4 out5 ");
    /* an id or a key that was trimmed is free again */
    assert_int_equal(fx_submit(f, "j0"), STORE_OK);
    assert_int_equal(f->sub.seq, 12);
    buf_free(&u.names);
}

static void trim_by_size(void **state)
{
    struct fx *f = *state;
    struct unlinked u = {BUF_INIT};
    unsigned jobs, outputs, events;

    ten_finished(f); /* 40 bytes */
    submit_as(f, "again", "t", NULL, NULL);
    finish_with(f, "again", "x.png", "out0", 200); /* out0 is held twice */
    submit_as(f, "empty", "t", NULL, NULL);
    end_as(f, "empty", JOB_FAILED, 0);
    trim_all(f, &(struct store_keep){.now = 1, .size = 40, .max_rows = 100}, &jobs, &outputs, &events);
    assert_int_equal(jobs, 0);
    trim_all(f, &(struct store_keep){.now = 1, .size = 31, .max_rows = 2}, &jobs, &outputs, &events);
    assert_int_equal(jobs, 4); /* j0 frees nothing, j1 j2 j3 do */
    assert_string_equal(collect(f, &u, 100, 0, 100), "out1 out2 out3 ");
    /* what is doomed already counts no more */
    trim_all(f, &(struct store_keep){.now = 1, .size = 28, .max_rows = 2}, &jobs, &outputs, &events);
    assert_int_equal(jobs, 0);
    trim_all(f, &(struct store_keep){.now = 1, .size = 1, .max_rows = 2}, &jobs, &outputs, &events);
    assert_int_equal(jobs, 7);
    assert_string_equal(IDS(.oldest_first = true), "live empty"); /* it holds no bytes */
    buf_free(&u.names);
}

static void trim_outputs_only(void **state)
{
    struct fx *f = *state;
    struct unlinked u = {BUF_INIT};
    unsigned jobs, outputs, events;

    ten_finished(f);
    trim_all(f, &(struct store_keep){.now = 1104, .outputs_ms = 1000, .max_rows = 2}, &jobs, &outputs,
             &events);
    assert_int_equal(jobs, 0);
    assert_int_equal(outputs, 5);
    assert_int_equal(find(f, "t", "j4", "x.png", 0), STORE_NOT_FOUND);
    assert_int_equal(find(f, "t", "j5", "x.png", 0), STORE_OK);
    assert_int_equal(fx_get(f, "j4")->n_outputs, 1); /* the record still lists it */
    assert_string_equal(f->rec->outputs[0].filename, "x.png");
    assert_string_equal(collect(f, &u, 100, 0, 100), "out0 out1 out2 out3 out4 ");
    assert_int_equal(fx_get(f, "j4")->outputs[0].size, 4);
    trim_all(f, &(struct store_keep){.now = 1104, .outputs_ms = 1000, .finished_ms = 1000, .max_rows = 100},
             &jobs, &outputs, &events);
    assert_int_equal(jobs, 5);
    assert_int_equal(outputs, 0);
    trim_all(f, &(struct store_keep){.now = 2000, .outputs_ms = 1, .max_rows = 100}, &jobs, &outputs,
             &events);
    assert_int_equal(outputs, 5);
    assert_int_equal(find(f, "t", NULL, "x.png", 0), STORE_NOT_FOUND);
    buf_free(&u.names);
}

static void trim_events(void **state)
{
    struct fx *f = *state;
    struct store_event ev = {"state", "x"};
    struct store_step in = {.id = "j1", .version = 1, .state = JOB_RUNNING, .events = &ev, .n_events = 1};
    unsigned jobs, outputs, events;

    fx_submit(f, "j1");
    for (int i = 0; i < 6; i++) {
        in.at = 100 + i;
        assert_int_equal(CALL(f, step, &in, on_done), STORE_OK);
        in.version++;
    }
    trim_all(f, &(struct store_keep){.now = 203, .events_ms = 100, .max_rows = 2}, &jobs, &outputs, &events);
    assert_int_equal(events, 4);
    CALL(f, events, 0, NULL, 10, on_events);
    assert_string_equal(buf_str(&f->text), "5:t:j1:state:x 6:t:j1:state:x ");
    assert_int_equal(f->oldest, 5);
    trim_all(f, &(struct store_keep){.now = 900, .events_ms = 100, .max_rows = 9}, &jobs, &outputs, &events);
    fx_reopen(f);
    CALL(f, events, 0, NULL, 10, on_events);
    assert_int_equal(f->oldest, 7); /* ids are not given twice, not even after a restart */
    in.at = 1000;
    assert_int_equal(CALL(f, step, &in, on_done), STORE_OK);
    CALL(f, events, 6, NULL, 10, on_events);
    assert_string_equal(buf_str(&f->text), "7:t:j1:state:x ");
}

static void trim_takes_the_events_of_a_job(void **state)
{
    struct fx *f = *state;
    struct store_event ev = {"end", "x"};
    struct store_step in = {.id = "j1", .version = 1, .state = JOB_FAILED, .events = &ev, .n_events = 1};
    unsigned jobs, outputs, events;

    fx_submit(f, "j1");
    fx_submit(f, "j2");
    CALL(f, step, &in, on_done);
    in.id = "j2";
    CALL(f, step, &in, on_done);
    trim_all(f, &(struct store_keep){.now = 1, .count = 1, .max_rows = 10}, &jobs, &outputs, &events);
    assert_int_equal(jobs, 1);
    CALL(f, events, 0, NULL, 10, on_events);
    assert_string_equal(buf_str(&f->text), "2:t:j2:end:x ");
}

/* --- how answers come --- */
struct order {
    struct fx *f;
    int seen[64], n;
    bool inside, all;
};
struct one {
    struct order *o;
    int i;
};

static void on_ordered(enum store_status st, void *arg)
{
    struct one *one = arg;

    assert_false(one->o->inside);
    assert_int_equal(st, one->i % 2 ? STORE_LOST : STORE_OK);
    one->o->seen[one->o->n++] = one->i;
    one->o->all = one->o->n == 40;
}

static void answers_come_in_order_once_and_later(void **state)
{
    struct fx *f = *state;
    struct order o = {.f = f};
    struct one ones[40];
    struct store_step in = {.id = "j1", .version = 1, .state = JOB_RUNNING};

    fx_submit(f, "j1");
    o.inside = true;
    for (int i = 0; i < 40; i++) {
        ones[i] = (struct one){&o, i};
        store_step(f->s, &in, on_ordered, &ones[i]);
        if (i % 2) /* every second repeats a version: lost, and the others do not mind */
            in.version++;
    }
    o.inside = false;
    fx_until(f, &o.all);
    for (int i = 0; i < 40; i++)
        assert_int_equal(o.seen[i], i);
    assert_int_equal(fx_get(f, "j1")->s.version, 21);
}

static void nobody_has_to_listen(void **state)
{
    struct fx *f = *state;
    struct store_step in = {.id = "j1", .version = 1, .state = JOB_RUNNING};
    struct store_filter l = {.limit = 5};

    fx_submit(f, "j1");
    store_step(f->s, &in, NULL, NULL);
    store_get(f->s, "j1", ~0u, NULL, NULL);
    store_list(f->s, &l, NULL, NULL);
    store_unfinished(f->s, NULL, NULL);
    store_events(f->s, 0, NULL, 5, NULL, NULL);
    assert_int_equal(CALL(f, hide, "t", NULL, on_done), STORE_OK);
    assert_int_equal(fx_get(f, "j1")->s.version, 2);
}

/* What a read is asked after the answer to a write sees that write. */
static void on_submit_then_get(const struct store_submitted *r, void *arg)
{
    struct fx *f = arg;

    assert_int_equal(r->status, STORE_OK);
    store_get(f->s, "j1", 0, on_record, f);
}

static void reads_see_what_was_answered(void **state)
{
    struct fx *f = *state;
    struct bytes *g = text("{}");
    struct store_submit in = {.id = "j1", .tenant = "t", .graph = g};

    store_submit(f->s, &in, on_submit_then_get, f);
    bytes_unref(g);
    assert_int_equal(fx_wait(f), STORE_OK);
    assert_string_equal(f->rec->s.id, "j1");
}

static void count_answer(enum store_status st, void *arg)
{
    (void)st;
    (*(int *)arg)++;
}

static void step_again(enum store_status st, void *arg)
{
    struct fx *f = arg;
    struct store_step in = {.id = "j1", .version = 1, .state = JOB_RUNNING};

    (void)st;
    store_step(f->s, &in, on_done, f);
}

/* close answers what was given, and what is given by those answers, then is gone */
static void close_answers_everything(void **state)
{
    struct fx *f = *state;
    struct store_step in = {.id = "j1", .version = 1, .state = JOB_RUNNING};
    struct store *s = f->s;
    int n = 0;

    fx_submit(f, "j1");
    store_step(f->s, &in, step_again, f);
    for (int i = 0; i < 200; i++)
        store_step(f->s, &in, count_answer, &n);
    store_close(&s);
    assert_int_equal(n, 200);
    assert_true(f->done);
    f->done = false;
    f->s = NULL;
}

static void statistics(void **state)
{
    struct fx *f = *state;
    struct store_stats before, after;

    store_stats(f->s, &before);
    fx_submit(f, "j1");
    fx_get(f, "j1");
    fx_step(f, "j1", 1, JOB_FAILED, 5);
    store_stats(f->s, &after);
    assert_int_equal(after.commits - before.commits, 2);
    assert_int_equal(after.writes - before.writes, 2);
    assert_true(after.reads > before.reads);
    assert_int_equal(after.finished, 1);
    assert_false(after.full);
    assert_null(after.trouble);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(submit_keeps_everything),
        T(submit_keeps_bytes_with_nul_and_empty),
        T(submit_numbers),
        T(submit_twice),
        T(submit_with_unknown_input_changes_nothing),
        T(step_needs_the_version),
        T(step_never_leaves_an_end),
        T(step_attempts),
        T(unsound_steps_change_nothing),
        T(end_with_outputs),
        T(error_is_kept),
        T(list_filters),
        T(list_cursors),
        T(list_parts),
        T(unfinished_ones),
        T(hiding),
        T(stray_rows),
        T(server_rows),
        T(event_log),
        T(documents),
        T(outputs_by_name),
        T(the_attempt_that_won),
        T(input_names),
        T(input_lists),
        T(pins_and_collection),
        T(references_hold),
        T(a_doomed_blob_is_revived_by_a_reference_alone),
        T(collection_in_steps),
        T(trim_by_age_and_count),
        T(trim_by_size),
        T(trim_outputs_only),
        T(trim_events),
        T(trim_takes_the_events_of_a_job),
        T(answers_come_in_order_once_and_later),
        T(nobody_has_to_listen),
        T(reads_see_what_was_answered),
        T(close_answers_everything),
        T(statistics),
    };
    int bad;

    log_set_sink(fx_no_log, NULL);
    bad = cmocka_run_group_tests_name("store in memory", tests, NULL, NULL);
    use_sqlite = true;
    return bad + cmocka_run_group_tests_name("store on SQLite", tests, NULL, NULL);
}
