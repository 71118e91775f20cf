/* The contract of store.h over every implementation: lists of jobs. */
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

/* What stands in kinds: i an image, v a video, t a text. */
static void end_making(struct fx *f, const char *id, int attempt, const char *kinds)
{
    static const struct {
        char letter;
        const char *name;
    } names[] = {{'i', "image"}, {'v', "video"}, {'t', "text"}};
    struct job_output o[10] = {{0}};
    struct job_attempt a = {.n = attempt, .upstream_id = "u", .server = "g"};
    struct store_step in = {.id = id,
                            .version = fx_get(f, id)->s.version,
                            .state = JOB_SUCCEEDED,
                            .begin = &a,
                            .outputs = o,
                            .n_outputs = strlen(kinds)};

    fx_pin(f, "x", 1);
    for (size_t i = 0; i < in.n_outputs; i++) {
        o[i] = (struct job_output){
            .n = (int)i, .attempt = attempt, .filename = "f", .subfolder = "", .type = "output"};
        for (size_t k = 0; k < ARRAY_LEN(names); k++)
            if (names[k].letter == kinds[i])
                o[i].kind = (char *)names[k].name;
        hash_of(o[i].blake3, "x");
    }
    assert_int_equal(CALL(f, step, &in, on_done), STORE_OK);
}

static void list_few(void **state)
{
    static const struct {
        const char *kinds, *want; /* n of the few */
    } cases[] = {{"", ""},
                 {"i", "0"},
                 {"tti", "2 0 1"},
                 {"ttttt", "0 1 2 3"},
                 {"tttti", "4 0 1 2"},
                 {"ititiiti", "0 2 4 5"},
                 {"iiiiii", "0 1 2 3"},
                 {"vtvtvii", "5 6 0 1"}};
    struct fx *f = *state;
    struct job_error err = {JOB_STALLED, 1, "g", "it stalled", NULL};
    struct store_step fail = {.id = "bad", .version = 1, .state = JOB_FAILED, .error = &err};
    struct store_filter l = {.limit = 100, .oldest_first = true, .parts = JOB_PART_FEW | JOB_PART_ERROR};

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char id[8];

        snprintf(id, sizeof(id), "j%zu", i);
        fx_submit(f, id);
        end_making(f, id, 1, cases[i].kinds);
    }
    fx_submit(f, "bad");
    assert_int_equal(CALL(f, step, &fail, on_done), STORE_OK);
    fx_reopen(f);
    assert_int_equal(CALL(f, list, &l, on_list), STORE_OK);
    assert_int_equal(f->list.n, ARRAY_LEN(cases) + 1);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const struct job_record *r = f->list.rows[i];

        buf_clear(&f->text);
        for (size_t k = 0; k < r->n_outputs; k++)
            buf_printf(&f->text, "%s%d", k ? " " : "", r->outputs[k].n);
        assert_string_equal(buf_str(&f->text), cases[i].want);
        assert_int_equal(r->outputs_count, strlen(cases[i].kinds));
        assert_int_equal(r->n_attempts + r->n_timeline, 0);
        assert_null(r->graph);
    }
    assert_int_equal(f->list.rows[ARRAY_LEN(cases)]->error.code, JOB_STALLED);
    assert_string_equal(f->list.rows[ARRAY_LEN(cases)]->error.message, "it stalled");
}

/* Only what the attempt that won made counts. */
static void list_few_of_the_winner(void **state)
{
    struct fx *f = *state;
    struct job_output o = {.attempt = 1, .kind = "image", .filename = "f", .subfolder = "", .type = "output"};
    struct job_attempt a = {.n = 1, .upstream_id = "u1", .server = "g"};
    struct store_step in = {
        .id = "j", .version = 1, .state = JOB_QUEUED, .begin = &a, .end = &a, .outputs = &o, .n_outputs = 1};

    fx_submit(f, "j");
    fx_pin(f, "x", 1);
    hash_of(o.blake3, "x");
    assert_int_equal(CALL(f, step, &in, on_done), STORE_OK);
    end_making(f, "j", 2, "tt");
    assert_string_equal(IDS(.parts = JOB_PART_FEW), "j");
    assert_int_equal(f->list.rows[0]->outputs_count, 2);
    assert_int_equal(f->list.rows[0]->outputs[0].attempt, 2);
    assert_string_equal(IDS(.kind = "image"), "");
    assert_string_equal(IDS(.kind = "text"), "j");
}

static void list_kinds(void **state)
{
    static const char *const kinds[] = {"i", "t", "t", "v", "ti", "", "t", "t", "t", "i", "v"};
    struct fx *f = *state;
    static const struct {
        int look;
        const char *want;
    } pages[] = {{1, "[][j09][][][][][j04][][][][j00]"}, {3, "[j09][][j04][j00]"}, {11, "[j09][j04][j00]"}};
    struct buf got = BUF_INIT;
    char id[8];

    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        snprintf(id, sizeof(id), "j%02zu", i);
        submit_as(f, id, "t", i % 2 ? "c" : NULL, NULL);
        end_making(f, id, 1, kinds[i]);
    }
    assert_string_equal(IDS(.kind = "image"), "j09 j04 j00");
    assert_int_equal(f->list.next, 0);
    assert_string_equal(IDS(.kind = "image", .oldest_first = true), "j00 j04 j09");
    assert_string_equal(IDS(.kind = "video", .states = JOB_STATE_BIT(JOB_SUCCEEDED)), "j10 j03");
    assert_string_equal(IDS(.kind = "video", .states = JOB_STATE_BIT(JOB_FAILED)), "");
    assert_string_equal(IDS(.kind = "3d"), "");
    assert_string_equal(IDS(.kind = "image", .client_id = "c"), "j09");
    assert_string_equal(IDS(.kind = "image", .in_history = true), "j09 j04 j00");
    /* no page looks at more than it may, and the pages together miss nothing */
    for (size_t i = 0; i < ARRAY_LEN(pages); i++) {
        struct store_filter l = {.limit = 1, .look = pages[i].look, .kind = "image", .tenant = "t"};

        buf_clear(&got);
        do {
            fx_ids(f, &l);
            assert_true(f->list.n <= 1);
            buf_printf(&got, "[%s]", buf_str(&f->text));
            l.after = f->list.next;
        } while (l.after);
        assert_string_equal(buf_str(&got), pages[i].want);
    }
    buf_free(&got);
    /* as many as there are room for are looked at anyway */
    assert_string_equal(fx_ids(f, &(struct store_filter){.limit = 7, .look = 2, .kind = "text"}),
                        "j08 j07 j06 j04");
    assert_string_equal(fx_ids(f, &(struct store_filter){.limit = 3, .look = 9, .kind = "image"}), "j09 j04");
    assert_true(f->list.next != 0);
    assert_string_equal(fx_ids(f, &(struct store_filter){.limit = 3, .look = 11, .kind = "image"}),
                        "j09 j04 j00");
    assert_int_equal(f->list.next, 0);
}

/* Where no index has both names, jobs of the one are looked at for the other, and not all at once. */
static void list_by_two_names(void **state)
{
    static const struct {
        const char *client, *window, *server, *want;
    } cases[] = {{"c", NULL, "g1", "[j08][][j04][][j00]"}, /* even ones are of c */
                 {"c", "w", NULL, "[][j06][][j00]"},       /* every third is of w */
                 {NULL, "w", "g1", "[][][][j00]"},
                 {"c", "w", "g2", "[][j06][][]"}};
    struct fx *f = *state;
    struct buf got = BUF_INIT;
    char id[8];

    for (int i = 0; i < 10; i++) {
        snprintf(id, sizeof(id), "j%02d", i);
        submit_as(f, id, "t", i % 2 ? "d" : "c", i % 3 ? "v" : "w");
        run_on(f, id, i % 4 ? "g2" : "g1");
    }
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct store_filter l = {.limit = 1,
                                 .look = 1,
                                 .tenant = "t",
                                 .client_id = cases[i].client,
                                 .window_id = cases[i].window,
                                 .server = cases[i].server};

        buf_clear(&got);
        do {
            fx_ids(f, &l);
            buf_printf(&got, "[%s]", buf_str(&f->text));
            l.after = f->list.next;
        } while (l.after);
        assert_string_equal(buf_str(&got), cases[i].want);
    }
    buf_free(&got);
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

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(list_filters), T(list_cursors),      T(list_parts),      T(list_few), T(list_few_of_the_winner),
        T(list_kinds),   T(list_by_two_names), T(unfinished_ones), T(hiding),
    };
    int bad;

    log_set_sink(fx_no_log, NULL);
    bad = cmocka_run_group_tests_name("lists in memory", tests, NULL, NULL);
    use_sqlite = true;
    return bad + cmocka_run_group_tests_name("lists on SQLite", tests, NULL, NULL);
}
