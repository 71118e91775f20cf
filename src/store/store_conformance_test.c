/* The contract of store.h over every implementation: jobs, lists, how answers come. */
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

static void need_and_spent_are_kept(void **state)
{
    struct fx *f = *state;
    struct bytes *g = bytes_new("{}", 2);
    struct store_submit in = {
        .id = "j1", .tenant = "default", .graph = g, .answer = g, .need = "[\"KSampler\"]"};
    struct store_step step = {.id = "j1", .version = 1, .at = 5, .state = JOB_RUNNING, .spent = 2};

    assert_int_equal(CALL(f, submit, &in, on_submitted), STORE_OK);
    assert_string_equal(fx_get(f, "j1")->s.need, "[\"KSampler\"]");
    assert_int_equal(f->rec->s.spent, 0);
    assert_int_equal(CALL(f, step, &step, on_done), STORE_OK);
    assert_int_equal(fx_get(f, "j1")->s.spent, 2);
    step.version = 2;
    step.spent = 1;
    assert_int_equal(CALL(f, step, &step, on_done), STORE_OK);
    assert_int_equal(fx_get(f, "j1")->s.spent, 1);
    bytes_unref(g);
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
    struct store_keep keep = {.now = 100, .count = 2, .max_rows = 100};

    store_stats(f->s, &before);
    fx_submit(f, "j1");
    fx_get(f, "j1");
    fx_step(f, "j1", 1, JOB_FAILED, 5);
    store_stats(f->s, &after);
    assert_int_equal(after.commits - before.commits, 2);
    assert_int_equal(after.writes - before.writes, 2);
    assert_true(after.reads > before.reads);
    assert_int_equal(after.finished, 1);
    assert_int_equal(after.ended[JOB_FAILED], 1);
    fx_submit(f, "j2");
    end_as(f, "j2", JOB_SUCCEEDED, 0);
    fx_submit(f, "j3");
    end_as(f, "j3", JOB_CANCELED, 0);
    assert_int_equal(CALL(f, trim, &keep, on_trimmed), STORE_OK); /* the failed one is the oldest */
    for (int again = 0; again < 2; again++, fx_reopen(f)) {
        store_stats(f->s, &after);
        assert_int_equal(after.finished, 2);
        assert_int_equal(after.ended[JOB_FAILED] + after.ended[JOB_EXPIRED], 0);
        assert_int_equal(after.ended[JOB_SUCCEEDED], 1);
        assert_int_equal(after.ended[JOB_CANCELED], 1);
    }
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
        T(need_and_spent_are_kept),
        T(step_never_leaves_an_end),
        T(step_attempts),
        T(unsound_steps_change_nothing),
        T(end_with_outputs),
        T(error_is_kept),
        T(answers_come_in_order_once_and_later),
        T(nobody_has_to_listen),
        T(reads_see_what_was_answered),
        T(close_answers_everything),
        T(statistics),
    };
    int bad;

    log_set_sink(fx_no_log, NULL);
    bad = cmocka_run_group_tests_name("jobs in memory", tests, NULL, NULL);
    use_sqlite = true;
    return bad + cmocka_run_group_tests_name("jobs on SQLite", tests, NULL, NULL);
}
