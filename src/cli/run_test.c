#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/json.h"
#include "cli/run_files.h"
#include "cli/run_progress.h"
#include "cli/run_workflow.h"

/* ---- the workflow ---- */

/* Odd spacing, numbers that a double would break, an escape, a field nobody knows: all to be kept. */
static const char graph[] =
    "{ \"3\": {\"class_type\": \"KSampler\", \"inputs\": {\"seed\": 18446744073709551615, \"cfg\": 5.0,\n"
    "   \"model\": [\"4\", 0], \"steps\" : 20}, \"_meta\": {\"title\": \"Base v1.5\"}},\n"
    "  "
    "\"7\":{\"class_type\":\"KSampler\",\"inputs\":{\"seed\":-1,\"noise_seed\":9007199254740993,\"cfg\":-0},"
    "\"x\":[1e400]},\n"
    "  \"8\": {\"class_type\": \"LoadImage\", \"inputs\": {\"image\": \"c\\u00e4t.png [input]\", \"upload\": "
    "\"image\"}},\n"
    "  \"9\": {\"class_type\": \"SaveImage\", \"inputs\": {\"filename_prefix\": \"a\", \"images\": [\"8\", "
    "0], "
    "\"seed\": 1.5, \"noise_seed\": [\"3\", 0]}, \"_meta\": {\"title\": \"KSampler\"}}}";

static struct workflow *load(const char *text)
{
    struct err e;
    struct workflow *w = workflow_new(text, strlen(text), &e);

    if (!w)
        fail_msg("%s", e.msg);
    return w;
}

static void assert_workflow(const struct workflow *w, unsigned long add, const char *want)
{
    struct buf b = BUF_INIT;

    workflow_put(w, add, &b);
    assert_string_equal(buf_str(&b), want);
    buf_free(&b);
}

/* text with the first `old` made into `new`. */
static char *with(const char *text, const char *old, const char *new)
{
    const char *at = strstr(text, old);
    struct buf b = BUF_INIT;

    assert_non_null(at);
    buf_put(&b, text, (size_t)(at - text));
    buf_puts(&b, new);
    buf_puts(&b, at + strlen(old));
    return buf_take(&b);
}

static void what_nobody_edits_stays_byte_for_byte(void **state)
{
    struct workflow *w = load(graph);

    (void)state;
    assert_workflow(w, 0, graph);
    assert_int_equal(workflow_size(w), 4);
    workflow_free(&w);
    w = load("\xef\xbb\xbf{\"1\":{\"class_type\":\"A\"}}\n");
    assert_workflow(w, 5, "{\"1\":{\"class_type\":\"A\"}}");
    workflow_free(&w);
}

static void set_changes_one_value(void **state)
{
    static const struct {
        const char *arg, *old, *new;
    } t[] = {
        {"3.seed=5", "18446744073709551615", "5"},
        {"3.cfg=7.50", "5.0", "7.50"},
        {"3.steps=twenty", "20", "\"twenty\""},
        {"3.steps=\"20\"", "20", "\"20\""},
        {"3.steps=", "20", "\"\""},
        {"3.steps=NaN", "20", "\"NaN\""},
        {"3.steps=-Infinity", "20", "\"-Infinity\""},
        {"3.steps=null", "20", "null"},
        {"3.steps= [\"4\", 1] ", "20", "[\"4\", 1]"},
        {"3.steps=a=b.c", "20", "\"a=b.c\""},
        {"3.steps={\"a\": 1}", "20", "{\"a\": 1}"},
        {"3.steps={\"a\": 1", "20", "\"{\\\"a\\\": 1\""},
        {"3.steps=caf\xc3\xa9\n", "20", "\"caf\\u00e9\\n\""},
        {"Base v1.5.steps=1", "20", "1"},                 /* a title with a dot */
        {"KSampler.filename_prefix=b", "\"a\"", "\"b\""}, /* a title before a class */
        {"LoadImage.image=b.png", "\"c\\u00e4t.png [input]\"", "\"b.png\""},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
        struct workflow *w = load(graph);
        char *want = with(graph, t[i].old, t[i].new);
        bool added;
        struct err e;

        if (workflow_set(w, t[i].arg, &added, &e) < 0)
            fail_msg("%s: %s", t[i].arg, e.msg);
        assert_false(added);
        assert_workflow(w, 0, want);
        free(want);
        workflow_free(&w);
    }
}

static void set_says_what_it_cannot_find(void **state)
{
    static const struct {
        const char *arg, *fault;
    } t[] = {
        {"", "must be NODE.INPUT=VALUE"},
        {"3.seed", "must be NODE.INPUT=VALUE"},
        {"3=seed", "must be NODE.INPUT=VALUE"},
        {".seed=1", "must be NODE.INPUT=VALUE"},
        {"3.=1", "must be NODE.INPUT=VALUE"},
        {"5.seed=1", "no node has the id, title or class \"5\""},
        {"Nobody.seed=1", "no node has the id, title or class \"Nobody\""},
        {"ksampler.seed=1", "no node has the id, title or class \"ksampler\""},
    };
    struct workflow *w = load(graph);
    bool added;
    struct err e;

    (void)state;
    for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
        assert_int_equal(workflow_set(w, t[i].arg, &added, &e), -1);
        assert_string_equal(e.msg, t[i].fault);
    }
    assert_workflow(w, 0, graph);
    workflow_free(&w);
    w = load("{\"1\":{\"class_type\":\"A\",\"inputs\":{}},\"2\":{\"class_type\":\"A\"},"
             "\"3\":{\"class_type\":\"A\"},\"4\":{\"class_type\":\"A\"}}");
    assert_int_equal(workflow_set(w, "A.x=1", &added, &e), -1);
    assert_string_equal(e.msg, "\"A\" is the class of 4 nodes (1, 2, 3, ...); give an id");
    assert_int_equal(workflow_set(w, "2.x=1", &added, &e), -1);
    assert_string_equal(e.msg, "node 2 has no inputs");
    assert_int_equal(workflow_set(w, "1.x=1", &added, &e), 0);
    assert_true(added);
    assert_int_equal(workflow_set(w, "1.y=z", &added, &e), 0);
    assert_int_equal(workflow_set(w, "1.x=2", &added, &e), 0);
    assert_false(added);
    assert_workflow(w, 0,
                    "{\"1\":{\"class_type\":\"A\",\"inputs\":{\"x\": 2, \"y\": \"z\"}},\"2\":{\"class_type\":"
                    "\"A\"},\"3\":{\"class_type\":\"A\"},\"4\":{\"class_type\":\"A\"}}");
    workflow_free(&w);
}

static void seeds_count_up_exactly(void **state)
{
    struct workflow *w = load(graph);
    char *a = with(graph, "18446744073709551615", "1"), *b = with(a, ":-1,", ":1,"),
         *c = with(b, "9007199254740993", "9007199254740995");
    bool added;
    struct err e;

    (void)state;
    assert_workflow(w, 2, c); /* 2^64-1 wraps; -1 + 2; beyond 2^53; 1.5 and links stay */
    free(a);
    free(b);
    free(c);
    assert_int_equal(workflow_set(w, "3.seed=7", &added, &e), 0);
    assert_int_equal(workflow_set(w, "7.noise_seed=8", &added, &e), 0);
    a = with(graph, "18446744073709551615", "7");
    b = with(a, ":-1,", ":0,");
    c = with(b, "9007199254740993", "8");
    assert_workflow(w, 1, c);
    free(a);
    free(b);
    free(c);
    workflow_free(&w);
}

static void what_is_no_workflow_is_told(void **state)
{
    static const struct {
        const char *text, *fault;
    } t[] = {
        {"", "it is not JSON: "},
        {"{\"1\":", "it is not JSON: "},
        {"nodes:\n", "it is not JSON: "},
        {"{\"nodes\": [], \"links\": [], \"version\": 0.4}",
         "it is in the format of the web interface; export it there with Workflow > Export (API)"},
        {"{}", "it holds no nodes"},
        {"{\"prompt\": {\"1\": {\"class_type\": \"A\"}}}",
         "it is the body of a POST /prompt; give what stands under \"prompt\""},
        {"{\"1\": {\"type\": \"A\"}}", "node 1 has no class_type: this is no workflow in API format"},
        {"{\"1\": {\"class_type\": 5}}", "node 1 has no class_type: this is no workflow in API format"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
        struct err e;
        struct workflow *w = workflow_new(t[i].text, strlen(t[i].text), &e);

        assert_null(w);
        if (strncmp(e.msg, t[i].fault, strlen(t[i].fault)) != 0)
            assert_string_equal(e.msg, t[i].fault);
    }
    for (const char *text = "[]\0\"x\"\0{\"1\": 5}\0{\"1\": null}\0"; *text; text += strlen(text) + 1) {
        struct err e;

        assert_null(workflow_new(text, strlen(text), &e));
    }
    for (size_t n = 0; n < strlen(graph); n++) {
        struct err e;

        assert_null(workflow_new(graph, n, &e));
    }
}

struct asked {
    struct buf seen;
};

static bool note_string(void *arg, const struct workflow_string *s, struct buf *to)
{
    struct asked *a = arg;

    buf_printf(&a->seen, "%s %s.%s=%s%s\n", s->node, s->class_type, s->input, s->value,
               s->loader ? " *" : "");
    if (!s->loader)
        return false;
    buf_puts(to, "d\"\xc3\xb6g.png");
    return true;
}

static void files_are_found_and_renamed(void **state)
{
    struct workflow *w = load(graph);
    char *want = with(graph, "c\\u00e4t.png [input]", "d\\\"\\u00f6g.png");
    struct asked a = {0};
    struct err e;

    (void)state;
    assert_int_equal(workflow_rename(w, note_string, &a, &e), 0);
    assert_string_equal(buf_str(&a.seen),
                        "8 LoadImage.image=c\xc3\xa4t.png [input] *\n8 LoadImage.upload=image\n"
                        "9 SaveImage.filename_prefix=a\n");
    assert_workflow(w, 0, want);
    free(want);
    buf_free(&a.seen);
    workflow_free(&w);
    assert_int_equal(workflow_plain_name("a.png"), 5);
    assert_int_equal(workflow_plain_name("a.png [input]"), 5);
    assert_int_equal(workflow_plain_name("a.png [output]"), 0);
    assert_int_equal(workflow_plain_name("a.png [temp]"), 0);
    assert_int_equal(workflow_plain_name(" [input]"), 8);
    assert_int_equal(workflow_plain_name(""), 0);
}

static void nodes_have_a_title_to_show(void **state)
{
    struct workflow *w = load(graph);
    struct buf b = BUF_INIT;

    (void)state;
    workflow_put_title(w, "3", &b);
    buf_putc(&b, '|');
    workflow_put_title(w, "8", &b);
    buf_putc(&b, '|');
    workflow_put_title(w, "5.0.0.1", &b);
    assert_string_equal(buf_str(&b), "Base v1.5|LoadImage|5.0.0.1");
    buf_free(&b);
    workflow_free(&w);
}

/* ---- names ---- */

static void names_of_servers_are_made_harmless(void **state)
{
    static const struct {
        const char *name, *want;
    } t[] = {
        {"ComfyUI_00001_.png", "ComfyUI_00001_.png"},
        {"../../etc/passwd", "passwd"},
        {"/abs/x.png", "x.png"},
        {"C:\\x\\y.png", "y.png"},
        {"dir/", "output"},
        {"", "output"},
        {".", "output"},
        {"..", "_."},
        {".bashrc", "_bashrc"},
        {"a/.ssh", "_ssh"},
        {"x\x1b[2J\n.png", "x_[2J_.png"},
        {"x\x7f.png", "x_.png"},
        {"\xc2\x9b"
         "1m.png",
         "_1m.png"},
        {"b\xff"
         "ad\xc3.png",
         "b_ad_.png"},
        {"\xe7\x8c\xab.png", "\xe7\x8c\xab.png"},
        {"-rf", "-rf"},
    };
    struct buf b = BUF_INIT;
    char longest[600];

    (void)state;
    for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
        buf_clear(&b);
        run_name_clean(t[i].name, strlen(t[i].name), &b);
        assert_string_equal(buf_str(&b), t[i].want);
    }
    buf_clear(&b);
    run_name_clean("a\0b.png", 7, &b);
    assert_string_equal(buf_str(&b), "a_b.png");
    for (size_t pad = 0; pad < 4; pad++) { /* cut at every place inside a character */
        memset(longest, 'x', sizeof(longest));
        for (size_t i = pad; i + 3 < sizeof(longest); i += 3)
            memcpy(longest + i, "\xe7\x8c\xab", 3);
        memcpy(longest + sizeof(longest) - 5, ".jpeg", 5);
        buf_clear(&b);
        run_name_clean(longest, sizeof(longest), &b);
        assert_true(b.len <= 240);
        assert_true(b.len > 230);
        assert_string_equal(b.data + b.len - 5, ".jpeg");
    }
    buf_free(&b);
}

static void the_nth_name_keeps_its_ending(void **state)
{
    static const struct {
        const char *name;
        unsigned k;
        const char *want;
    } t[] = {
        {"a.png", 0, "a.png"},
        {"a.png", 1, "a (1).png"},
        {"a.tar.gz", 12, "a.tar (12).gz"},
        {"noext", 2, "noext (2)"},
        {"_x", 1, "_x (1)"},
        {"a.", 1, "a (1)."},
        {"v1.5 of a very long ending", 1, "v1.5 of a very long ending (1)"},
    };
    struct buf b = BUF_INIT;

    (void)state;
    for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
        buf_clear(&b);
        run_name_nth(t[i].name, t[i].k, &b);
        assert_string_equal(buf_str(&b), t[i].want);
    }
    buf_clear(&b);
    run_name_made("text", "5:3/..", 0, "txt", &b);
    assert_string_equal(buf_str(&b), "text_5_3_.._0.txt");
    buf_free(&b);
}

static char *temp_dir(void)
{
    char *dir = xstrdup("/tmp/cli_run_test.XXXXXX");

    assert_non_null(mkdtemp(dir));
    return dir;
}

static char *write_output(const char *dir, const char *name, const char *text)
{
    struct run_file f;
    struct err e;
    char *path;

    assert_int_equal(run_file_open(&f, dir, &e), 0);
    assert_int_equal(run_file_write(&f, text, strlen(text), &e), 0);
    assert_int_equal(f.size, strlen(text));
    assert_int_equal(run_file_commit(&f, dir, name, &path, &e), 0);
    run_file_abort(&f); /* harmless after it */
    return path;
}

static void assert_content(const char *path, const char *want)
{
    struct buf b = BUF_INIT;
    struct err e;

    assert_int_equal(cli_read_all(path, 1000, &b, &e), 0);
    assert_string_equal(buf_str(&b), want);
    buf_free(&b);
}

static void nothing_is_ever_written_over(void **state)
{
    char *dir = temp_dir(), *a, *b, *link = xasprintf("%s/out (1).png", dir), *sub;
    struct run_file f;
    struct stat st;
    struct err e;

    (void)state;
    assert_int_equal(symlink("/nonexistent-target", link), 0); /* a dangling link is something that exists */
    a = write_output(dir, "out.png", "one");
    b = write_output(dir, "out.png", "two");
    assert_non_null(strstr(a, "/out.png"));
    assert_non_null(strstr(b, "/out (2).png"));
    assert_content(a, "one");
    assert_content(b, "two");
    assert_int_equal(stat(a, &st), 0);
    assert_int_equal(st.st_mode & 0400, 0400);
    /* given up: nothing is left */
    assert_int_equal(run_file_open(&f, dir, &e), 0);
    sub = xstrdup(f.part);
    run_file_abort(&f);
    assert_int_equal(access(sub, F_OK), -1);
    free(sub);
    unlink(a);
    unlink(b);
    unlink(link);
    sub = xasprintf("%s/x/y", dir);
    assert_int_equal(run_dir_make(sub, &e), 0);
    assert_int_equal(run_dir_make(sub, &e), 0);
    rmdir(sub);
    free(sub);
    sub = xasprintf("%s/x", dir);
    rmdir(sub);
    assert_int_equal(rmdir(dir), 0); /* no passing names stayed */
    assert_int_equal(run_file_open(&f, dir, &e), -1);
    assert_non_null(strstr(e.msg, "No such file"));
    free(sub);
    free(link);
    free(a);
    free(b);
    free(dir);
}

static void inputs_are_looked_for_beside_the_workflow_first(void **state)
{
    char *dir = temp_dir(), *path = write_output(dir, "cat.png", "x"), *got;

    (void)state;
    got = run_input_find(dir, "cat.png [input]", 7);
    assert_string_equal(got, path);
    free(got);
    got = run_input_find(NULL, path, strlen(path));
    assert_string_equal(got, path);
    free(got);
    assert_null(run_input_find(dir, "dog.png", 7));
    assert_null(run_input_find(dir, ".", 1)); /* a folder is no input */
    assert_null(run_input_find(dir, "", 0));
    unlink(path);
    rmdir(dir);
    free(path);
    free(dir);
}

/* ---- progress ---- */

static const struct cli_term wide = {true, false, true, 80, 24}, ascii = {true, false, false, 80, 24};

static void assert_line(const struct run_view *v, const struct cli_term *t, const char *want)
{
    struct buf b = BUF_INIT;

    run_progress_line(v, t, &b);
    assert_string_equal(buf_str(&b), want);
    buf_free(&b);
}

static void a_line_says_place_server_node_step_and_time(void **state)
{
    struct run_view v = {.phase = RUN_QUEUED, .id = "x", .left_ms = -1, .nodes = 7};

    (void)state;
    assert_line(&v, &wide, "queued");
    v.place = 3;
    v.spent_ms = 61000;
    assert_line(&v, &wide, "queued, place 3  1:01");
    v.phase = RUN_RUNNING;
    v.server = "gpu0";
    v.spent_ms = 0;
    assert_line(&v, &wide, "gpu0  running");
    v.node = "KSampler";
    v.nodes_done = 3;
    assert_line(&v, &wide, "gpu0  node 3/7 KSampler");
    v.value = 5;
    v.max = 20;
    v.left_ms = 3725000;
    v.spent_ms = 7000;
    assert_line(&v, &ascii, "gpu0  node 3/7 KSampler  [####............]  5/20  1:02:05 left");
    assert_line(&v, &wide, "gpu0  node 3/7 KSampler  ━━━━┄┄┄┄┄┄┄┄┄┄┄┄  5/20  1:02:05 left");
    v.value = 50; /* a server may say anything */
    v.nodes_done = 9;
    v.left_ms = -1;
    assert_line(&v, &ascii, "gpu0  KSampler  [################]  50/20  0:07");
    v.value = -5;
    assert_line(&v, &ascii, "gpu0  KSampler  [................]  -5/20  0:07");
    v.phase = RUN_COLLECTING;
    assert_line(&v, &wide, "gpu0  storing outputs  0:07");
    v.phase = RUN_FETCHING;
    v.node = "a.png";
    v.number = 4;
    assert_line(&v, &wide, "#4  gpu0  fetching a.png  0:07");
    v.phase = RUN_DONE;
    assert_line(&v, &wide, "#4  done");
}

static void a_line_fits_the_terminal_whatever_the_names(void **state)
{
    struct run_view v = {.phase = RUN_RUNNING,
                         .server = "g\x1b[31mpu",
                         .node = "\xe7\x8c\xab\xe7\x8c\xab\xff\xcc\x81"
                                 "e \xc2\x9b",
                         .left_ms = -1,
                         .value = 1,
                         .max = 9};
    struct cli_term narrow = {true, false, true, 12, 24};

    (void)state;
    assert_line(&v, &ascii, "g?[31mpu  ????e ?  [#...............]  1/9");
    v.server = NULL;
    v.max = 0;
    assert_line(&v, &wide,
                "running \xe7\x8c\xab\xe7\x8c\xab?\xcc\x81"
                "e ?");
    v.node = "abcdefgh";
    assert_line(&v, &narrow, "abc"); /* a quarter of 12 columns */
    v.node = "ab\xe7\x8c\xab";
    assert_line(&v, &narrow, "ab"); /* the next needs two */
    v.nodes_done = v.nodes = 1234567;
    assert_line(&v, &narrow, "node 123456"); /* 11 columns, whatever there is to say */
    v.nodes_done = 0;
    v.node = "a title that is longer than anyone would want to read on one line";
    assert_line(&v, &wide, "running a title that is long");
}

static void many_jobs_share_few_lines(void **state)
{
    struct run_view v[40];
    struct cli_term low = {true, false, true, 80, 5};
    struct buf b = BUF_INIT;

    (void)state;
    for (unsigned i = 0; i < 40; i++)
        v[i] = (struct run_view){.number = i + 1,
                                 .left_ms = -1,
                                 .phase = i < 5    ? RUN_DONE
                                          : i == 5 ? RUN_FAILED
                                          : i < 8  ? RUN_RUNNING
                                                   : RUN_QUEUED};
    v[8].place = 1;
    assert_int_equal(run_progress_all(v, 40, &wide, &b), 4);
    assert_string_equal(buf_str(&b), "#7  running\n#8  running\n#9  queued, place 1\n"
                                     "5 of 40 done, 1 failed, 2 running, 32 waiting");
    buf_clear(&b);
    assert_int_equal(run_progress_all(v, 40, &low, &b), 3);
    assert_string_equal(buf_str(&b),
                        "#7  running\n#8  running\n5 of 40 done, 1 failed, 2 running, 32 waiting");
    for (unsigned i = 0; i < 40; i++)
        v[i].phase = RUN_RUNNING;
    buf_clear(&b);
    assert_int_equal(run_progress_all(v, 40, &wide, &b), 10);
    buf_clear(&b);
    assert_int_equal(run_progress_all(v, 1, &wide, &b), 1);
    assert_string_equal(buf_str(&b), "#1  running");
    buf_free(&b);
}

static void assert_redraw(unsigned before, const char *text, unsigned lines, const char *want)
{
    struct buf b = BUF_INIT;

    run_progress_redraw(before, text, lines, &b);
    assert_string_equal(buf_str(&b), want);
    buf_free(&b);
}

static void lines_are_drawn_over(void **state)
{
    (void)state;
    assert_redraw(0, "", 0, "");
    assert_redraw(0, "a", 1, "\ra\x1b[K");
    assert_redraw(1, "b", 1, "\rb\x1b[K");
    assert_redraw(1, "b\nc", 2, "\rb\x1b[K\nc\x1b[K");
    assert_redraw(3, "b\nc\nd", 3, "\r\x1b[2Ab\x1b[K\nc\x1b[K\nd\x1b[K");
    assert_redraw(3, "b", 1, "\r\x1b[2Ab\x1b[K\x1b[1B\r\x1b[J\x1b[1A");
    assert_redraw(3, "", 0, "\r\x1b[2A\x1b[J");
}

static void time_left_follows_the_steps(void **state)
{
    (void)state;
    assert_int_equal(run_time_left(10000, 0, 5, 20), 30000);
    assert_int_equal(run_time_left(10000, 4, 5, 20), 150000);
    assert_int_equal(run_time_left(10000, 5, 5, 20), -1);
    assert_int_equal(run_time_left(0, 0, 5, 20), -1);
    assert_int_equal(run_time_left(10000, 0, 20, 20), -1);
    assert_int_equal(run_time_left(10000, 0, 25, 20), -1);
    assert_true(run_time_left(INT64_MAX / 2, 0, 1, INT64_MAX / 2) != 0); /* no overflow trap */
}

static void plain_lines_come_when_something_changes(void **state)
{
    struct run_view v = {.phase = RUN_QUEUED, .id = "j", .place = 2, .left_ms = -1};
    struct run_said said = {0};
    struct buf b = BUF_INIT;
    int lines = 0;

    (void)state;
    assert_true(run_progress_plain(&v, &said, &b));
    assert_false(run_progress_plain(&v, &said, &b));
    v.place = 1;
    assert_true(run_progress_plain(&v, &said, &b));
    v.phase = RUN_RUNNING;
    v.server = "gpu0";
    assert_true(run_progress_plain(&v, &said, &b));
    v.node = "KSampler";
    v.max = 100;
    for (v.value = 0; v.value <= 100; v.value++)
        run_progress_plain(&v, &said, &b);
    v.phase = RUN_DONE;
    assert_true(run_progress_plain(&v, &said, &b));
    assert_false(run_progress_plain(&v, &said, &b));
    assert_non_null(
        strstr(buf_str(&b), "job j: queued, place 2\njob j: queued, place 1\njob j: gpu0  running\n"));
    assert_non_null(strstr(buf_str(&b), "job j: done\n"));
    for (const char *p = b.data; (p = strstr(p, "KSampler")) != NULL; p++)
        lines++;
    assert_int_equal(lines, 11); /* one for each tenth */
    buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_nobody_edits_stays_byte_for_byte),
        cmocka_unit_test(set_changes_one_value),
        cmocka_unit_test(set_says_what_it_cannot_find),
        cmocka_unit_test(seeds_count_up_exactly),
        cmocka_unit_test(what_is_no_workflow_is_told),
        cmocka_unit_test(files_are_found_and_renamed),
        cmocka_unit_test(nodes_have_a_title_to_show),
        cmocka_unit_test(names_of_servers_are_made_harmless),
        cmocka_unit_test(the_nth_name_keeps_its_ending),
        cmocka_unit_test(nothing_is_ever_written_over),
        cmocka_unit_test(inputs_are_looked_for_beside_the_workflow_first),
        cmocka_unit_test(a_line_says_place_server_node_step_and_time),
        cmocka_unit_test(a_line_fits_the_terminal_whatever_the_names),
        cmocka_unit_test(many_jobs_share_few_lines),
        cmocka_unit_test(lines_are_drawn_over),
        cmocka_unit_test(time_left_follows_the_steps),
        cmocka_unit_test(plain_lines_come_when_something_changes),
    };

    setlocale(LC_CTYPE, "C.UTF-8");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
