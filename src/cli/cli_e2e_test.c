/* The program against a scripted server on loopback: the server is in this process, `comfymux` is the one that
 * was built. What must hold whatever the server does: the exit status, what is on which stream, which files
 * are there. */
#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/json.h"
#include "base/log.h"
#include "cli/opts.h"
#include "http/server.h"
#include "http/websocket.h"

#define DEADLINE_TURNS 6000 /* of 5 ms: a safety net only */

/* ---- the server ---- */

struct script {
    bool bare;           /* no /mux/v1: a ComfyUI server */
    bool ws;             /* take WebSockets */
    const char *events;  /* sent on the socket after the POST, one a line; %s is the id */
    bool png;            /* and a picture on the socket, after the events */
    bool ws_drop;        /* close it after the events */
    int prompt_502;      /* answer so many POST /prompt with 502 */
    const char *reject;  /* body of a 400 */
    const char *states;  /* gateway: state per poll, the last one stays: "queued running succeeded" */
    const char *tail;    /* members of the record's end */
    const char *history; /* bare: the entry; NULL: not there */
    bool in_queue;       /* bare: it runs for ever */
    int output_503;      /* answer so many outputs with 503 */
    int output_404;      /* this one is gone; -1 none */
    const char *upload;  /* the name an upload gets */
    const char *error;   /* body of a 409 to what changes the fleet */
};

static struct {
    struct loop *loop;
    struct http_server *server;
    struct listener *listener;
    char url[64];
    struct script s;
    struct buf log;     /* "POST /prompt\n" ... */
    struct buf prompts; /* bodies, a line each */
    struct buf bodies;  /* other bodies */
    char id[64];        /* the last prompt's */
    int polls;
    struct ws *ws;
    char dir[64];
    struct buf out, err; /* of the program */
    pid_t pid;
    const char *kill_at; /* SIGINT once this is in the log */
} t;

static void on_ws_close(struct ws *w, int code, const char *reason, bool opened, void *arg)
{
    (void)code;
    (void)reason;
    (void)opened;
    (void)arg;
    if (t.ws == w)
        t.ws = NULL;
}

static const struct ws_handlers ws_handlers = {.on_close = on_ws_close};

static void reply(struct http_req *r, int status, const char *body)
{
    http_reply_str(r, status, "application/json", body);
}

static const char *state_now(void)
{
    static char state[32];
    const char *p = t.s.states ? t.s.states : "succeeded";

    for (int i = 0; i < t.polls && strchr(p, ' '); i++)
        p = strchr(p, ' ') + 1;
    snprintf(state, sizeof(state), "%.*s", (int)strcspn(p, " "), p);
    t.polls++;
    return state;
}

static void put_record(struct buf *b, const char *state)
{
    buf_printf(b,
               "{\"id\": \"%s\", \"state\": \"%s\", \"server\": {\"name\": \"gpu7\", \"url\": \"http://x\"}, "
               "\"queue_position\": 4, \"big\": 18446744073709551615%s%s}",
               t.id, state, t.s.tail ? ", " : "", t.s.tail ? t.s.tail : "");
}

static void on_prompt(struct http_req *r, struct bytes *body, void *arg)
{
    struct buf b = BUF_INIT;
    struct json root;

    (void)arg;
    buf_put(&t.prompts, body->data, body->len);
    buf_putc(&t.prompts, '\n');
    assert_int_equal(json_check(body->data, body->len, NULL, &root, NULL), 0);
    buf_clear(&b);
    json_str(json_get(root, "prompt_id"), &b);
    snprintf(t.id, sizeof(t.id), "%s", buf_str(&b));
    buf_clear(&b);
    if (t.s.prompt_502 > 0) {
        t.s.prompt_502--;
        http_reply_str(r, 502, "text/plain", "bad gateway");
    } else if (t.s.reject) {
        reply(r, 400, t.s.reject);
    } else {
        buf_printf(&b, "{\"prompt_id\": \"%s\", \"number\": 1, \"node_errors\": {}}", t.id);
        reply(r, 200, buf_str(&b));
        for (const char *line = t.s.events; line && *line && t.ws; line += strcspn(line, "\n") + 1) {
            struct buf ev = BUF_INIT;
            const char *mark = strstr(line, "%s");

            buf_put(&ev, line, (size_t)(mark - line));
            buf_puts(&ev, t.id);
            buf_put(&ev, mark + 2, strcspn(mark + 2, "\n"));
            ws_send_text(t.ws, ev.data, ev.len);
            buf_free(&ev);
        }
        if (t.s.png && t.ws)
            ws_send_binary(t.ws, "\0\0\0\1\0\0\0\2PNG!", 12);
        if (t.s.ws_drop && t.ws)
            ws_close(t.ws, 1012, "restart");
    }
    buf_free(&b);
}

static void on_other_body(struct http_req *r, struct bytes *body, void *arg)
{
    struct buf b = BUF_INIT;

    (void)arg;
    buf_put(&t.bodies, body->data, body->len);
    buf_putc(&t.bodies, '\n');
    if (strcmp(http_req_path(r), "/upload/image") == 0) {
        buf_printf(&b, "{\"name\": \"%s\", \"subfolder\": \"\", \"type\": \"input\"}", t.s.upload);
        reply(r, 200, buf_str(&b));
    } else if (t.s.error) {
        reply(r, 409, t.s.error);
    } else if (strstr(http_req_path(r), "/mux/v1/servers")) {
        reply(r, 201, "{\"name\": \"gpu9\", \"state\": \"up\"}");
    } else if (strstr(http_req_path(r), "/cancel")) {
        put_record(&b, "canceled");
        reply(r, 200, buf_str(&b));
    } else {
        http_reply_empty(r, 200);
    }
    buf_free(&b);
}

static void on_output(struct http_req *r, int n)
{
    char text[32];

    snprintf(text, sizeof(text), "bytes of %d", n);
    if (t.s.output_503 > 0) {
        t.s.output_503--;
        http_reply_empty(r, 503);
    } else if (n == t.s.output_404) {
        http_reply_empty(r, 404);
    } else {
        http_reply_str(r, 200, "image/png", text);
    }
}

static void on_get(struct http_req *r, const char *path)
{
    struct buf b = BUF_INIT;
    const char *n = strstr(path, "/outputs/");

    if (!t.s.bare && strcmp(path, "/mux/v1/jobs") == 0) {
        buf_puts(&b, "{\"jobs\": [");
        if (t.id[0])
            put_record(&b, "failed");
        buf_puts(&b, "], \"next\": null}");
        reply(r, 200, buf_str(&b));
    } else if (!t.s.bare && strcmp(path, "/mux/v1/servers") == 0) {
        reply(r, 200,
              "{\"servers\": [{\"name\": \"gpu7\", \"url\": \"http://10.0.0.7:8188\", \"state\": \"up\", "
              "\"reason\": null, \"depth\": 2, \"tags\": [\"big\", \"x\"], \"running\": [\"a\"], "
              "\"queue\": 3, \"version\": \"0.3.64\", \"nodes\": 503}, "
              "{\"name\": \"gpu8\", \"url\": \"http://10.0.0.8:8188\", \"state\": \"fenced\", \"reason\": "
              "\"it answers, but runs nothing although prompts wait: its worker is dead or stuck, it needs a "
              "restart\", \"depth\": 1, \"tags\": [], \"running\": [], \"queue\": null, "
              "\"version\": \"0.3.64\", \"nodes\": 503}]}");
    } else if (!t.s.bare && n) {
        on_output(r, atoi(n + 9));
    } else if (!t.s.bare && strncmp(path, "/mux/v1/jobs/", 13) == 0 && t.id[0] && strstr(path, t.id)) {
        put_record(&b, state_now());
        reply(r, 200, buf_str(&b));
    } else if (t.s.bare && strcmp(path, "/queue") == 0) {
        buf_printf(&b, "{\"queue_running\": [%s%s%s], \"queue_pending\": []}", t.s.in_queue ? "[1, \"" : "",
                   t.s.in_queue ? t.id : "", t.s.in_queue ? "\", {}, {}, []]" : "");
        reply(r, 200, buf_str(&b));
    } else if (t.s.bare && strncmp(path, "/history/", 9) == 0) {
        buf_puts(&b, "{");
        if (t.s.history)
            buf_printf(&b, "\"%s\": %s", t.id, t.s.history);
        buf_puts(&b, "}");
        reply(r, 200, buf_str(&b));
    } else if (t.s.bare && strcmp(path, "/view") == 0) {
        on_output(r, strstr(http_req_query(r), "two") ? 1 : 0);
    } else {
        http_reply_empty(r, 404);
    }
    buf_free(&b);
}

static void on_request(struct http_req *r, void *arg)
{
    static const struct ws_limits lim = {.message = 1 << 20};
    const char *path = http_req_path(r);

    (void)arg;
    buf_printf(&t.log, "%s %s%s%s\n", http_req_method_name(r), path, *http_req_query(r) ? "?" : "",
               http_req_query(r));
    if (strcmp(path, "/ws") == 0 && t.s.ws)
        t.ws = ws_accept(r, &lim, &ws_handlers, NULL);
    else if (strcmp(path, "/prompt") == 0)
        http_body_read_all(r, 1 << 20, on_prompt, NULL);
    else if (http_req_method(r) == HTTP_DELETE)
        http_reply_empty(r, 204);
    else if (http_req_method(r) == HTTP_POST)
        http_body_read_all(r, 1 << 20, on_other_body, NULL);
    else
        on_get(r, path);
}

/* ---- running the program ---- */

static void drain(int *fd, struct buf *b)
{
    char piece[4096];
    ssize_t n;

    while (*fd >= 0 && (n = read(*fd, piece, sizeof(piece))) > 0)
        buf_put(b, piece, (size_t)n);
}

static void child(int out, int err, char **argv)
{
    setenv("COMFYMUX_URL", t.url, 1);
    dup2(out, 1);
    dup2(err, 2);
    if (chdir(t.dir) < 0)
        _exit(99);
    execv(getenv("COMFYMUX_EXE"), argv);
    _exit(98);
}

static bool log_has(const char *s)
{
    return strstr(buf_str(&t.log), s) != NULL;
}

/* The exit status; out, err, log hold what came of it. */
static int cli(const char *first, ...)
{
    char *argv[16] = {(char[]){"comfymux"}, (char *)(uintptr_t)first};
    int out[2], err[2], status = -1, n = 2;
    bool killed = false;
    va_list ap;

    va_start(ap, first);
    while (n < 15 && (argv[n] = va_arg(ap, char *)) != NULL)
        n++;
    va_end(ap);
    buf_clear(&t.out);
    buf_clear(&t.err);
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    assert_int_equal(pipe2(err, O_CLOEXEC), 0);
    t.pid = fork();
    if (t.pid == 0)
        child(out[1], err[1], argv);
    close(out[1]);
    close(err[1]);
    fcntl(out[0], F_SETFL, O_NONBLOCK);
    fcntl(err[0], F_SETFL, O_NONBLOCK);
    for (int i = 0; waitpid(t.pid, &status, WNOHANG) == 0; i++) {
        if (i >= DEADLINE_TURNS) {
            kill(t.pid, SIGKILL);
            fail_msg("it hangs. requests:\n%s\nsaid:\n%s", buf_str(&t.log), buf_str(&t.err));
        }
        loop_turn(t.loop, 5);
        drain(&out[0], &t.out);
        drain(&err[0], &t.err);
        if (t.kill_at && !killed && log_has(t.kill_at)) {
            killed = true;
            kill(t.pid, SIGINT);
        }
    }
    drain(&out[0], &t.out);
    drain(&err[0], &t.err);
    close(out[0]);
    close(err[0]);
    if (!WIFEXITED(status))
        fail_msg("it died by signal %d:\n%s", WTERMSIG(status), buf_str(&t.err));
    return WEXITSTATUS(status);
}

static int setup(void **state)
{
    struct err e;

    (void)state;
    memset(&t, 0, sizeof(t));
    t.s.output_404 = -1;
    log_setup(LOG_ERROR, LOG_TEXT);
    t.loop = loop_new(&e);
    t.server = http_server_new(t.loop, NULL, on_request, NULL);
    t.listener = http_server_listen(t.server, "127.0.0.1:0", NULL, &e);
    assert_non_null(t.listener);
    snprintf(t.url, sizeof(t.url), "http://%s", listener_addr(t.listener));
    strcpy(t.dir, "/tmp/cli_e2e_test.XXXXXX");
    assert_non_null(mkdtemp(t.dir));
    return 0;
}

static void write_file(const char *name, const char *text)
{
    char *path = xasprintf("%s/%s", t.dir, name);
    FILE *f = fopen(path, "w");

    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    free(path);
}

/* The names in the folder, sorted, without the workflow. */
static char *files(void)
{
    struct dirent **v;
    int n = scandir(t.dir, &v, NULL, alphasort);
    struct buf b = BUF_INIT;

    for (int i = 0; i < n; i++) {
        if (strcmp(v[i]->d_name, ".") != 0 && strcmp(v[i]->d_name, "..") != 0 &&
            strcmp(v[i]->d_name, "w.json") != 0)
            buf_printf(&b, "%s ", v[i]->d_name);
        free(v[i]);
    }
    free(v);
    return buf_take(&b);
}

static void assert_files(const char *want)
{
    char *got = files();

    assert_string_equal(got, want);
    free(got);
}

static int teardown(void **state)
{
    char *names = files(), *save = NULL;

    (void)state;
    for (char *name = strtok_r(names, " ", &save); name; name = strtok_r(NULL, " ", &save)) {
        char *path = xasprintf("%s/%s", t.dir, name);

        unlink(path);
        free(path);
    }
    free(names);
    names = xasprintf("%s/w.json", t.dir);
    unlink(names);
    free(names);
    (void)!rmdir(t.dir);
    if (t.ws)
        ws_abort(&t.ws);
    http_server_free(&t.server);
    loop_turn(t.loop, 0);
    loop_free(&t.loop);
    buf_free(&t.log);
    buf_free(&t.prompts);
    buf_free(&t.bodies);
    buf_free(&t.out);
    buf_free(&t.err);
    return 0;
}

static const char workflow[] =
    "{\"3\": {\"class_type\": \"KSampler\", \"inputs\": {\"seed\": 18446744073709551614, \"cfg\": 5.0}}, "
    "\"8\": {\"class_type\": \"LoadImage\", \"inputs\": {\"image\": \"cat.png\"}}}";
#define TWO_OUTPUTS                                                                                          \
    "\"outputs\": [{\"n\": 0, \"node_id\": \"9\", \"kind\": \"image\", \"filename\": \"a.png\", \"size\": "  \
    "10}, {\"n\": 1, \"node_id\": \"9\", \"kind\": \"text\", \"filename\": null, \"size\": null}]"

static unsigned times(const char *text, const char *what)
{
    unsigned n = 0;

    for (; (text = strstr(text, what)) != NULL; text += strlen(what))
        n++;
    return n;
}

static void assert_said(const struct buf *b, const char *what)
{
    if (!strstr(buf_str(b), what))
        fail_msg("\"%s\" is not in:\n%s", what, buf_str(b));
}

/* ---- run, at a gateway ---- */

static void outputs_are_written_by_polls_alone(void **state)
{
    (void)state;
    t.s.states = "queued running collecting succeeded";
    t.s.tail = TWO_OUTPUTS;
    write_file("w.json", workflow);
    assert_int_equal(cli("run", "w.json", NULL), 0);
    assert_string_equal(buf_str(&t.out), "a.png\ntext_9_1.txt\n");
    assert_said(&t.err, ": queued, place 5\n");
    assert_said(&t.err, ": gpu7  running\n");
    assert_said(&t.err, ": gpu7  storing outputs\n");
    assert_said(&t.err, ": done\n");
    assert_files("a.png text_9_1.txt ");
    assert_said(&t.prompts, "18446744073709551614, \"cfg\": 5.0");
    assert_int_equal(cli("run", "w.json", "--quiet", NULL), 0); /* again: nothing is written over */
    assert_string_equal(buf_str(&t.out), "a (1).png\ntext_9_1 (1).txt\n");
    assert_string_equal(buf_str(&t.err), "");
}

static void events_tell_what_runs_and_may_stop(void **state)
{
    (void)state;
    t.s.ws = t.s.ws_drop = true;
    t.s.states = "running running succeeded";
    t.s.tail = TWO_OUTPUTS;
    t.s.events =
        "{\"type\": \"execution_start\", \"data\": {\"prompt_id\": \"%s\"}}\n"
        "{\"type\": \"executing\", \"data\": {\"node\": \"3\", \"prompt_id\": \"%s\"}}\n"
        "{\"type\": \"progress\", \"data\": {\"value\": 7, \"max\": 10, \"node\": \"3\", \"prompt_id\": "
        "\"%s\"}}\n"
        "{\"type\": \"progress\", \"data\": {\"value\": 1e400, \"max\": -1, \"prompt_id\": \"%s\"}}\n"
        "{\"type\": \"execution_success\", \"data\": {\"prompt_id\": \"%s\"}}\n";
    write_file("w.json", workflow);
    assert_int_equal(cli("run", "w.json", NULL), 0);
    assert_said(&t.err, "KSampler");
    assert_said(&t.err, "  7/10");
    assert_files("a.png text_9_1.txt ");
    assert_true(log_has("GET /ws?clientId="));
}

static void json_is_the_record_as_it_came_and_the_files(void **state)
{
    struct json root, job;

    (void)state;
    t.s.tail = TWO_OUTPUTS;
    write_file("w.json", workflow);
    assert_int_equal(cli("run", "w.json", "--json", "-o", "out/here", NULL), 0);
    assert_int_equal(json_check(t.out.data, t.out.len, NULL, &root, NULL), 0);
    job = json_at(json_get(root, "jobs"), 0);
    assert_true(json_str_eq(json_get(job, "id"), t.id));
    assert_said(&t.out, "\"big\": 18446744073709551615, " TWO_OUTPUTS
                        ", \"files\": [\"out/here/a.png\", \"out/here/text_9_1.txt\"]}]}\n");
    /* teardown knows no folders */
    (void)!chdir(t.dir);
    unlink("out/here/a.png");
    unlink("out/here/text_9_1.txt");
    rmdir("out/here");
    assert_int_equal(rmdir("out"), 0);
    (void)!chdir("/");
}

static void a_failed_job_is_told_with_code_and_cause(void **state)
{
    (void)state;
    t.s.states = "running failed";
    t.s.tail =
        "\"outputs\": [], \"error\": {\"code\": \"out_of_memory\", \"message\": \"CUDA\\u001b[2J oom\", "
        "\"server\": \"gpu7\", \"attempt\": 2, \"detail\": null}";
    write_file("w.json", workflow);
    assert_int_equal(cli("run", "w.json", "--json", NULL), 1);
    assert_said(&t.err, "failed: out_of_memory: CUDA?[2J oom (server gpu7, attempt 2)\n");
    assert_said(&t.out, "\"state\": \"failed\"");
    assert_said(&t.out, "\"files\": []}]}\n");
    assert_files("");
}

static void a_refused_prompt_is_told_with_its_nodes(void **state)
{
    (void)state;
    t.s.reject =
        "{\"error\": {\"type\": \"prompt_outputs_failed_validation\", \"message\": \"Bad prompt\", "
        "\"details\": \"\", \"extra_info\": {}}, \"node_errors\": {\"3\": {\"errors\": [{\"type\": \"x\", "
        "\"message\": \"Value not in list\", \"details\": \"ckpt: 'a' not in ['b']\"}], \"class_type\": "
        "\"KSampler\"}}}";
    write_file("w.json", workflow);
    assert_int_equal(cli("run", "w.json", "-n", "5", "--json", NULL), 1);
    assert_said(&t.err,
                "failed: validation_failed: Bad prompt\n  node 3 (KSampler): Value not in list: ckpt: 'a'");
    assert_int_equal(times(buf_str(&t.log), "POST /prompt\n"), 1); /* the others would be refused alike */
    assert_said(&t.out, "\"code\": \"validation_failed\"");
    assert_said(&t.out, "\"detail\": {\"error\": {\"type\": \"prompt_outputs");
}

static void a_lost_answer_sends_the_same_bytes_again(void **state)
{
    const char *nl;

    (void)state;
    t.s.prompt_502 = 1;
    t.s.tail = TWO_OUTPUTS;
    write_file("w.json", workflow);
    assert_int_equal(cli("run", "w.json", NULL), 0);
    assert_int_equal(times(buf_str(&t.log), "POST /prompt\n"), 2);
    nl = strchr(buf_str(&t.prompts), '\n');
    assert_int_equal(strncmp(t.prompts.data, nl + 1, (size_t)(nl - t.prompts.data) + 1), 0);
}

static void seeds_count_up_over_the_copies(void **state)
{
    (void)state;
    write_file("w.json", workflow);
    assert_int_equal(cli("run", "w.json", "-n", "3", "--quiet", NULL), 0);
    assert_said(&t.prompts, "\"seed\": 18446744073709551614,");
    assert_said(&t.prompts, "\"seed\": 18446744073709551615,");
    assert_said(&t.prompts, "\"seed\": 0,");
    assert_int_equal(times(buf_str(&t.prompts), "\"cfg\": 5.0"), 3);
}

static void inputs_are_uploaded_and_meant(void **state)
{
    (void)state;
    t.s.upload = "cat (1).png";
    write_file("w.json", workflow);
    write_file("cat.png", "meow");
    assert_int_equal(cli("run", "w.json", NULL), 0);
    assert_said(&t.bodies, "name=\"image\"; filename=\"cat.png\"\r\n");
    assert_said(&t.bodies, "\r\n\r\nmeow\r\n--");
    assert_said(&t.prompts, "\"image\": \"cat (1).png\"");
    assert_said(&t.err, "uploaded ./cat.png as cat (1).png\n");
    /* one that is named by --input, though it lies elsewhere */
    buf_clear(&t.prompts);
    buf_clear(&t.bodies);
    write_file("dog.png", "");
    assert_int_equal(cli("run", "w.json", "--input", "dog.png", "--set", "8.image=dog.png", NULL), 0);
    assert_said(&t.bodies, "filename=\"dog.png\"");
    assert_int_equal(times(buf_str(&t.bodies), "filename="), 1);
    assert_said(&t.prompts, "\"image\": \"cat (1).png\"");
}

static void outputs_are_tried_again_and_named_when_lost(void **state)
{
    (void)state;
    t.s.output_503 = 2;
    t.s.output_404 = 0;
    t.s.tail = TWO_OUTPUTS;
    write_file("w.json", workflow);
    assert_int_equal(cli("run", "w.json", NULL), 1);
    assert_string_equal(buf_str(&t.out), "text_9_1.txt\n");
    assert_said(&t.err, "a.png: output_unavailable: 404 Not Found\n");
    assert_files("text_9_1.txt ");
    t.s.output_404 = -1;
    t.s.tail =
        "\"outputs\": [{\"n\": 0, \"filename\": \"a.png\", \"size\": 11}]"; /* one byte more than come */
    assert_int_equal(cli("run", "w.json", NULL), 1);
    assert_said(&t.err, "a.png: output_unavailable: 10 of 11 bytes came\n");
    assert_files("text_9_1.txt ");
}

static void a_server_cannot_choose_where_files_go(void **state)
{
    (void)state;
    t.s.tail =
        "\"outputs\": [{\"n\": 0, \"filename\": \"../../evil.png\"}, {\"n\": 1, \"filename\": \".profile\"}, "
        "{\"n\": 2, \"node_id\": \"4\", \"filename\": \"/etc/x\\u0000y\"}, {\"n\": 3, \"filename\": 5, "
        "\"node_id\": \"../z\"}]";
    write_file("w.json", workflow);
    assert_int_equal(cli("run", "w.json", NULL), 0);
    assert_string_equal(buf_str(&t.out), "evil.png\n_profile\noutput_4_2.bin\noutput_.._z_3.bin\n");
}

static void ctrl_c_cancels(void **state)
{
    (void)state;
    t.s.states = "running";
    t.kill_at = "GET /mux/v1/jobs/";
    write_file("w.json", workflow);
    assert_int_equal(cli("run", "w.json", "--json", NULL), 130);
    assert_int_equal(times(buf_str(&t.log), "/cancel\n"), 1);
    assert_said(&t.log, "POST /mux/v1/jobs/");
    assert_said(&t.out, "\"state\": \"canceled\"");
}

/* ---- run, at a bare ComfyUI ---- */

static void a_bare_server_serves_too(void **state)
{
    (void)state;
    t.s.bare = true;
    t.s.history =
        "{\"prompt\": [1, \"x\", {}, {\"create_time\": 17}, []], \"outputs\": {\"9\": {\"images\": "
        "[{\"filename\": \"one.png\", \"subfolder\": \"s/t\", \"type\": \"output\"}, null, {\"filename\": "
        "\"two.png\", \"subfolder\": \"\", \"type\": \"temp\"}, {\"filename\": \"in.png\", \"subfolder\": "
        "\"\", \"type\": \"input\"}], \"text\": [\"h\\u00e9\"], \"animated\": [true]}}, \"status\": "
        "{\"status_str\": \"success\", \"completed\": true, \"messages\": [[\"execution_start\", "
        "{\"timestamp\": 5}], [\"execution_success\", {\"timestamp\": 9}]]}}";
    write_file("w.json", workflow);
    assert_int_equal(cli("run", "w.json", "--json", NULL), 0);
    assert_files("one.png text_9_0.txt two.png ");
    assert_true(log_has("GET /view?filename=one.png&subfolder=s%2Ft&type=output\n"));
    assert_true(log_has("GET /view?filename=two.png&subfolder=&type=temp\n"));
    assert_false(log_has("in.png"));
    assert_said(&t.out, "\"state\": \"succeeded\"");
    assert_said(&t.out, "\"server\": null");
    assert_said(&t.out, "\"created_at\": 17, \"started_at\": 5, \"finished_at\": 9");
}

static void pictures_of_the_socket_are_outputs(void **state)
{
    (void)state;
    t.s.bare = t.s.ws = t.s.png = true;
    t.s.events = "{\"type\": \"executing\", \"data\": {\"node\": \"5\", \"prompt_id\": \"%s\"}}\n";
    t.s.history =
        "{\"prompt\": [], \"outputs\": {}, \"status\": {\"status_str\": \"success\", \"completed\": true, "
        "\"messages\": [[\"execution_success\", {}]]}}";
    write_file("w.json", "{\"5\": {\"class_type\": \"SaveImageWebsocket\", \"inputs\": {}}}");
    assert_int_equal(cli("run", "w.json", NULL), 0);
    assert_string_equal(buf_str(&t.out), "ws_5_0.png\n");
    t.s.png = false; /* lost: told, not passed over */
    assert_int_equal(cli("run", "w.json", NULL), 1);
    assert_said(&t.err, "output_unavailable");
}

static void a_bare_server_that_forgot_is_not_waited_for(void **state)
{
    (void)state;
    t.s.bare = true;
    write_file("w.json", workflow);
    assert_int_equal(cli("run", "w.json", NULL), 1);
    assert_said(&t.err, "failed: history_missing: ");
}

static void ctrl_c_stops_a_bare_server(void **state)
{
    (void)state;
    t.s.bare = t.s.in_queue = true;
    t.kill_at = "GET /queue";
    write_file("w.json", workflow);
    assert_int_equal(cli("run", "w.json", NULL), 130);
    assert_said(&t.bodies, "{\"delete\": [\"");
    assert_true(log_has("POST /interrupt\n"));
    assert_said(&t.bodies, "{\"prompt_id\": \"");
}

/* ---- the rest ---- */

static void wrong_use_is_2_and_no_gateway_is_3(void **state)
{
    (void)state;
    assert_int_equal(cli("run", NULL), 2);
    assert_int_equal(cli("run", "missing.json", NULL), 2);
    assert_string_equal(buf_str(&t.err),
                        "comfymux run: cannot read missing.json: No such file or directory\n");
    write_file("w.json", "{\"nodes\": []}");
    assert_int_equal(cli("run", "w.json", NULL), 2);
    assert_said(&t.err, "Export (API)");
    write_file("w.json", workflow);
    assert_int_equal(cli("run", "w.json", "-n", "0", NULL), 2);
    assert_int_equal(cli("run", "w.json", "--set", "nonsense", NULL), 2);
    assert_int_equal(cli("run", "w.json", "--input", "nowhere.png", NULL), 2);
    assert_int_equal(cli("run", "w.json", "--url", "ftp://x", NULL), 2);
    assert_int_equal(cli("run", "w.json", "x.json", NULL), 2);
    assert_int_equal(cli("run", "--bogus", NULL), 2);
    assert_int_equal(cli("bogus", NULL), 2);
    assert_int_equal(cli("verson", NULL), 2);
    assert_said(&t.err, "did you mean version?");
    assert_int_equal(cli("jobs", "show", NULL), 2);
    assert_int_equal(cli("servers", "add", "nonsense", NULL), 2);
    assert_string_equal(buf_str(&t.log), ""); /* nothing was asked for any of these */
    assert_int_equal(cli("run", "w.json", "--url", "http://127.0.0.1:1", NULL), 3);
    assert_int_equal(cli("jobs", "--url", "http://127.0.0.1:1", NULL), 3);
    assert_int_equal(cli("run", "--help", NULL), 0);
    assert_int_equal(cli("version", NULL), 0);
    assert_string_equal(buf_str(&t.out), "comfymux " COMFYMUX_VERSION "\n");
}

static void a_configuration_is_checked(void **state)
{
    (void)state;
    write_file("w.json", "listen: 80\nbogus: 1\n");
    assert_int_equal(cli("config", "--check", "w.json", NULL), 1);
    assert_string_equal(buf_str(&t.err), "w.json:1: listen: must be HOST:PORT, \"80\" has no port\n"
                                         "w.json:2: bogus: unknown key\n");
    assert_int_equal(cli("config", NULL), 0);
    write_file("w.json", buf_str(&t.out));
    assert_int_equal(cli("config", "--check", "w.json", NULL), 0);
    assert_int_equal(cli("config", "--check", "missing.yaml", NULL), 2);
}

/* docs/configuration.md is what the program prints. */
static void the_manual_is_in_step(void **state)
{
    struct buf page = BUF_INIT;
    struct err e;

    (void)state;
    assert_int_equal(cli_read_all(getenv("COMFYMUX_CONFIG_PAGE"), 1 << 20, &page, &e), 0);
    assert_int_equal(cli("config", "--markdown", NULL), 0);
    assert_string_equal(buf_str(&t.out), buf_str(&page));
    buf_free(&page);
}

static void jobs_and_servers_are_shown(void **state)
{
    (void)state;
    strcpy(t.id, "01a201c7-2464-71b3-8e70-09d69113f203");
    t.s.tail = "\"error\": {\"code\": \"stalled\", \"message\": \"no progress\"}";
    assert_int_equal(cli("jobs", NULL), 0);
    assert_string_equal(
        buf_str(&t.out),
        "ID                                    STATE   SERVER  AGE  TOOK  \n"
        "01a201c7-2464-71b3-8e70-09d69113f203  failed  gpu7    -    -     stalled: no progress\n");
    assert_int_equal(cli("jobs", "ls", "--json", NULL), 0);
    assert_said(&t.out, "{\"jobs\": [{\"id\": \"01a201c7");
    assert_said(&t.out, "], \"next\": null}\n");
    assert_int_equal(cli("jobs", "show", t.id, NULL), 0);
    assert_said(&t.out, "error      stalled: no progress\n");
    assert_int_equal(cli("jobs", "show", "a/../b?c", NULL), 1);
    assert_true(log_has("GET /mux/v1/jobs/a%2F..%2Fb%3Fc\n"));
    assert_int_equal(cli("jobs", "cancel", t.id, NULL), 0);
    assert_string_equal(buf_str(&t.out), "01a201c7-2464-71b3-8e70-09d69113f203 canceled\n");
    assert_int_equal(cli("servers", NULL), 0);
    assert_string_equal(buf_str(&t.out),
                        "NAME  STATE   JOBS  QUEUE  NODES  VERSION  TAGS   URL\n"
                        "gpu7  up      1/2   3      503    0.3.64   big,x  http://10.0.0.7:8188\n"
                        "gpu8  fenced  0/1   -      503    0.3.64   -      http://10.0.0.8:8188\n"
                        "\n"
                        "gpu8: it answers, but runs nothing although prompts wait: its worker is dead or\n"
                        "    stuck, it needs a restart\n");
    assert_int_equal(cli("servers", "add", "gpu9=http://10.0.0.9", "--depth", "3", "--tag", "a", NULL), 0);
    assert_said(&t.bodies,
                "{\"url\": \"http://10.0.0.9\", \"name\": \"gpu9\", \"depth\": 3, \"tags\": [\"a\"]}\n");
    assert_string_equal(buf_str(&t.out), "gpu9 up\n");
    assert_int_equal(cli("servers", "remove", "gpu9", "--force", NULL), 0);
    assert_true(log_has("DELETE /mux/v1/servers/gpu9?force=1\n"));
    t.s.error =
        "{\"error\": {\"code\": \"conflict\", \"message\": \"the name is in use\", \"detail\": null}}";
    assert_int_equal(cli("servers", "add", "http://10.0.0.9", NULL), 1);
    assert_string_equal(buf_str(&t.err), "comfymux servers: conflict: the name is in use\n");
    t.s.bare = true;
    assert_int_equal(cli("jobs", NULL), 1);
    assert_said(&t.err, "is no comfymux gateway\n");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(outputs_are_written_by_polls_alone),
        TEST(events_tell_what_runs_and_may_stop),
        TEST(json_is_the_record_as_it_came_and_the_files),
        TEST(a_failed_job_is_told_with_code_and_cause),
        TEST(a_refused_prompt_is_told_with_its_nodes),
        TEST(a_lost_answer_sends_the_same_bytes_again),
        TEST(seeds_count_up_over_the_copies),
        TEST(inputs_are_uploaded_and_meant),
        TEST(outputs_are_tried_again_and_named_when_lost),
        TEST(a_server_cannot_choose_where_files_go),
        TEST(ctrl_c_cancels),
        TEST(a_bare_server_serves_too),
        TEST(pictures_of_the_socket_are_outputs),
        TEST(a_bare_server_that_forgot_is_not_waited_for),
        TEST(ctrl_c_stops_a_bare_server),
        TEST(wrong_use_is_2_and_no_gateway_is_3),
        TEST(a_configuration_is_checked),
        TEST(the_manual_is_in_step),
        TEST(jobs_and_servers_are_shown),
    };

    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
