/* The contract of store.h over every implementation: small tables, output and input names, blobs,
 * retention. */
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
    assert_int_equal(find(f, "t", NULL, "x.png", 0), STORE_CONFLICT); /* never "newest wins" */
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
    CALL(f, blob_unpin, fx_pin(f, "A", 10), on_done);
    assert_string_equal(collect(f, &u, 1050, 50, 10), ""); /* and anew, though nothing looked meanwhile */
    assert_string_equal(collect(f, &u, 1100, 50, 10), "A ");
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

/* A step ends when it has done enough, however much is left, and says so. */
static void trim_in_small_steps(void **state)
{
    struct fx *f = *state;
    const struct store_keep all = {.now = 9000, .finished_ms = 1, .max_rows = 5};

    ten_finished(f);
    for (int i = 0; i < 3; i++) { /* a job and its output are two: 2 + 2 + 2 */
        assert_int_equal(CALL(f, trim, &all, on_trimmed), STORE_OK);
        assert_int_equal(f->trim.jobs, 3);
        assert_true(f->trim.more);
    }
    assert_int_equal(CALL(f, trim, &all, on_trimmed), STORE_OK);
    assert_int_equal(f->trim.jobs, 1);
    assert_false(f->trim.more);
}

/* The clock was set back: what has finished in the future is kept. */
static void trim_after_a_jump_back(void **state)
{
    struct fx *f = *state;
    unsigned jobs, outputs, events;

    ten_finished(f);
    trim_all(
        f,
        &(struct store_keep){.now = 50, .finished_ms = 1, .outputs_ms = 1, .events_ms = 1, .max_rows = 100},
        &jobs, &outputs, &events);
    assert_int_equal(jobs + outputs + events, 0);
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
    assert_int_equal(f->newest, 6);
    trim_all(f, &(struct store_keep){.now = 900, .events_ms = 100, .max_rows = 9}, &jobs, &outputs, &events);
    fx_reopen(f);
    CALL(f, events, 0, NULL, 10, on_events);
    assert_int_equal(f->newest, 6);
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

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(documents),
        T(event_log),
        T(server_rows),
        T(stray_rows),
        T(outputs_by_name),
        T(the_attempt_that_won),
        T(input_names),
        T(input_lists),
        T(pins_and_collection),
        T(references_hold),
        T(a_doomed_blob_is_revived_by_a_reference_alone),
        T(collection_in_steps),
        T(trim_by_age_and_count),
        T(trim_in_small_steps),
        T(trim_after_a_jump_back),
        T(trim_by_size),
        T(trim_outputs_only),
        T(trim_events),
        T(trim_takes_the_events_of_a_job),
    };
    int bad;

    log_set_sink(fx_no_log, NULL);
    bad = cmocka_run_group_tests_name("files in memory", tests, NULL, NULL);
    use_sqlite = true;
    return bad + cmocka_run_group_tests_name("files on SQLite", tests, NULL, NULL);
}
