/* comfymux run: options, what is said, the beginning and the end. */
#include <errno.h>
#include <libgen.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "cli/run_priv.h"

#define WORKFLOW_MAX (256u << 20)
#define COUNT_MAX 10000
#define DRAW_EVERY_MS 200
#define CLOSE_MS 500 /* for the closing handshake of the socket */

/* ---- what is said ---- */

static void erase(struct run *r)
{
    struct buf b = BUF_INIT;

    run_progress_redraw(r->drawn, "", 0, &b);
    fwrite(buf_str(&b), 1, b.len, stderr);
    r->drawn = 0;
    buf_free(&b);
}

static void vsay(struct run *r, bool error, const char *fmt, va_list ap)
{
    char *text = NULL;

    if (vasprintf(&text, fmt, ap) < 0)
        abort();
    erase(r);
    cli_say(error ? "run" : NULL, text);
    free(text);
}

void run_note(struct run *r, const char *fmt, ...)
{
    va_list ap;

    if (r->quiet)
        return;
    va_start(ap, fmt);
    vsay(r, false, fmt, ap);
    va_end(ap);
}

void run_error(struct run *r, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vsay(r, true, fmt, ap);
    va_end(ap);
}

void run_stop(struct run *r, int status, const char *fmt, ...)
{
    va_list ap;

    if (r->stage == RUN_STAGE_OVER)
        return;
    va_start(ap, fmt);
    vsay(r, true, fmt, ap);
    va_end(ap);
    r->status = status;
    run_over(r);
}

void run_over(struct run *r)
{
    r->stage = RUN_STAGE_OVER;
    erase(r);
    if (r->ws == NULL) {
        loop_stop(r->loop);
        return;
    }
    /* Nothing happens any more but that the socket is closed as it should be; it is not waited for long. */
    timer_clear(&r->post_timer);
    timer_clear(&r->poll_timer);
    timer_clear(&r->draw_timer);
    timer_clear(&r->cancel_timer);
    run_fetch_drop(r);
    if (r->call)
        http_call_cancel(&r->call);
    ws_close(r->ws, 1000, NULL);
    timer_set(&r->ws_timer, CLOSE_MS);
}

void run_print_path(struct run *r, const char *path)
{
    erase(r);
    if (r->json)
        return;
    puts(path);
    fflush(stdout);
}

void run_job_fail(struct run_job *j, const char *code, const char *fmt, ...)
{
    struct run *r = j->run;
    va_list ap;

    if (j->code)
        return;
    va_start(ap, fmt);
    if (vasprintf(&j->message, fmt, ap) < 0)
        abort();
    va_end(ap);
    for (size_t n = strlen(j->message); n > 0 && j->message[n - 1] == '\n'; n--)
        j->message[n - 1] = '\0';
    j->code = xstrdup(code);
    j->phase = strcmp(code, "canceled") == 0 ? RUN_CANCELED : RUN_FAILED;
    if (r->status == CLI_OK)
        r->status = CLI_FAILED;
    run_error(r, "job %s failed: %s: %s", j->id, j->code, j->message);
}

/* ---- what is shown ---- */

static void view(struct run *r, struct run_job *j, struct run_view *v, struct buf *title)
{
    *v = (struct run_view){.number = r->n_jobs > 1 ? j->index + 1 : 0,
                           .id = j->id,
                           .phase = j->phase,
                           .place = j->place,
                           .server = j->server,
                           .value = j->value,
                           .max = j->max,
                           .nodes_done = j->nodes_done,
                           .nodes = workflow_size(r->workflow),
                           .left_ms = run_time_left(run_now(r) - j->since, j->since_value, j->value, j->max),
                           .spent_ms = j->started_at ? run_now(r) - j->started_at : 0};
    if (j->phase == RUN_FETCHING && j->next_output < j->n_outputs) {
        buf_puts(title, j->outputs[j->next_output].filename ? j->outputs[j->next_output].filename : "output");
        v->node = buf_str(title);
    } else if (j->phase == RUN_RUNNING && j->node) {
        workflow_put_title(r->workflow, j->node, title);
        v->node = buf_str(title);
    }
}

static void draw(void *arg)
{
    struct run *r = arg;
    struct run_view *views = xcalloc(r->n_jobs + 1, sizeof(*views));
    struct buf *titles = xcalloc(r->n_jobs + 1, sizeof(*titles)), lines = BUF_INIT, out = BUF_INIT;
    unsigned n;

    cli_term(STDERR_FILENO, &r->term);
    for (size_t i = 0; i < r->n_jobs; i++)
        view(r, &r->jobs[i], &views[i], &titles[i]);
    if (r->stage == RUN_STAGE_JOBS) {
        n = run_progress_all(views, r->n_jobs, &r->term, &lines);
        run_progress_redraw(r->drawn, buf_str(&lines), n, &out);
        fwrite(buf_str(&out), 1, out.len, stderr);
        r->drawn = n;
    }
    for (size_t i = 0; i < r->n_jobs; i++)
        buf_free(&titles[i]);
    free(titles);
    free(views);
    buf_free(&lines);
    buf_free(&out);
    timer_set(&r->draw_timer, DRAW_EVERY_MS);
}

void run_show(struct run *r, struct run_job *j)
{
    struct buf title = BUF_INIT, line = BUF_INIT;
    struct run_view v;

    if (r->term.tty || r->quiet || j->code)
        return; /* draw() comes by itself; a failure has been told */
    view(r, j, &v, &title);
    if (run_progress_plain(&v, &j->said, &line))
        fputs(buf_str(&line), stderr);
    buf_free(&title);
    buf_free(&line);
}

/* ---- the step ---- */

static bool all_ended(const struct run *r)
{
    for (size_t i = 0; i < r->n_jobs; i++)
        if (!RUN_ENDED(r->jobs[i].phase))
            return false;
    return true;
}

void run_step(struct run *r)
{
    switch (r->stage) {
    case RUN_STAGE_DETECT: run_detect(r); break;
    case RUN_STAGE_UPLOAD: run_upload_next(r); break;
    case RUN_STAGE_CONNECT: break; /* on_open, on_close or the timer */
    case RUN_STAGE_JOBS:
        while (r->next_post < r->n_jobs && r->jobs[r->next_post].phase != RUN_WAITING)
            r->next_post++;
        if (r->next_post < r->n_jobs)
            run_post_next(r);
        run_fetch_next(r);
        if (all_ended(r))
            run_over(r);
        else if (!timer_is_set(&r->poll_timer))
            timer_set(&r->poll_timer, 0);
        break;
    case RUN_STAGE_CANCEL:
    case RUN_STAGE_OVER: break;
    }
}

static void on_post_timer(void *arg)
{
    struct run *r = arg;

    run_step(r);
}

static void on_cancel_timer(void *arg)
{
    struct run *r = arg;

    run_error(r, "no answer; jobs may still run there");
    run_over(r);
}

static void on_signal(int signo, void *arg)
{
    struct run *r = arg;

    (void)signo;
    if (r->stage == RUN_STAGE_CANCEL) {
        run_over(r);
    } else if (r->stage != RUN_STAGE_OVER) {
        erase(r);
        if (r->stage == RUN_STAGE_JOBS)
            run_note(r, "canceling; once more to leave at once");
        run_cancel(r);
    }
}

/* ---- the beginning ---- */

static bool add_loader(void *arg, const struct workflow_string *s, struct buf *to)
{
    struct run *r = arg;
    size_t n = s->loader ? workflow_plain_name(s->value) : 0;
    char *path;

    (void)to;
    for (size_t i = 0; n && i < r->n_inputs; i++) {
        const char *full = r->inputs[i].path, *base = run_base_name(full);

        if (r->inputs[i].explicit && ((strlen(base) == n && memcmp(base, s->value, n) == 0) ||
                                      (strlen(full) == n && memcmp(full, s->value, n) == 0)))
            return false;
    }
    path = n ? run_input_find(r->workflow_dir, s->value, n) : NULL;
    for (size_t i = 0; path && i < r->n_inputs; i++) {
        if (strcmp(r->inputs[i].path, path) == 0) {
            free(path);
            path = NULL;
        }
    }
    if (path) {
        r->inputs = xrealloc(r->inputs, (r->n_inputs + 1) * sizeof(r->inputs[0]));
        r->inputs[r->n_inputs++] = (struct run_input){.path = path};
    }
    return false;
}

static int add_input(struct run *r, const struct opts *o, const char *path)
{
    if (access(path, R_OK) < 0)
        return opts_fault(o, "cannot read %s: %s", path, strerror(errno));
    for (size_t i = 0; i < r->n_inputs; i++)
        if (strcmp(run_base_name(r->inputs[i].path), run_base_name(path)) == 0)
            return opts_fault(o, "two inputs have the name %s", run_base_name(path));
    r->inputs = xrealloc(r->inputs, (r->n_inputs + 1) * sizeof(r->inputs[0]));
    r->inputs[r->n_inputs++] = (struct run_input){.path = xstrdup(path), .explicit = true};
    return CLI_OK;
}

static int load_workflow(struct run *r, const char **sets, size_t n_sets)
{
    struct buf text = BUF_INIT;
    struct err e;
    bool added;
    char *copy;

    if (cli_read_all(r->workflow_path, WORKFLOW_MAX, &text, &e) < 0) {
        buf_free(&text);
        cli_error("run", "%s", e.msg);
        return CLI_USAGE;
    }
    r->workflow = workflow_new(buf_str(&text), text.len, &e);
    buf_free(&text);
    if (!r->workflow) {
        cli_error("run", "%s: %s", r->workflow_path, e.msg);
        return CLI_USAGE;
    }
    for (size_t i = 0; i < n_sets; i++) {
        if (workflow_set(r->workflow, sets[i], &added, &e) < 0) {
            cli_error("run", "--set %s: %s", sets[i], e.msg);
            return CLI_USAGE;
        }
        if (added)
            run_note(r, "--set %s: the node had no such input; added", sets[i]);
    }
    if (strcmp(r->workflow_path, "-") != 0) {
        copy = xstrdup(r->workflow_path);
        r->workflow_dir = xstrdup(dirname(copy));
        free(copy);
    }
    if (workflow_rename(r->workflow, add_loader, r, &e) < 0) {
        cli_error("run", "%s", e.msg);
        return CLI_USAGE;
    }
    return CLI_OK;
}

static int check_dir(const char *dir)
{
    struct err e;

    if (run_dir_make(dir, &e) < 0) {
        cli_error("run", "%s", e.msg);
        return CLI_USAGE;
    }
    if (access(dir, W_OK | X_OK) < 0) {
        cli_error("run", "cannot write in %s: %s", dir, strerror(errno));
        return CLI_USAGE;
    }
    return CLI_OK;
}

static int open_client(struct run *r)
{
    struct http_client_config cfg = {.connect_ms = 10000, .max_conns = 16};
    struct http_url url;
    struct err e;
    bool tls;

    if (http_url_parse(r->url, &url, &e) < 0) {
        cli_error("run", "%s: %s", r->url, e.msg);
        return CLI_USAGE;
    }
    tls = url.tls;
    http_url_fini(&url);
    if (!(r->loop = loop_new(&e)) || (tls && !(r->tls = tls_client_new(NULL, true, &e)))) {
        cli_error("run", "%s", e.msg);
        return CLI_FAILED;
    }
    cfg.tls = r->tls;
    r->http = http_client_new(r->loop, r->url, &cfg, &e);
    if (!r->http || loop_signal(r->loop, SIGINT, on_signal, r, &e) < 0 ||
        loop_signal(r->loop, SIGTERM, on_signal, r, &e) < 0) {
        cli_error("run", "%s", e.msg);
        return CLI_FAILED;
    }
    return CLI_OK;
}

static void make_jobs(struct run *r)
{
    char id[UUID_SIZE];

    uuid_v4(clock_system(), r->client_id);
    uuid_v4(clock_system(), id);
    r->boundary = xasprintf("comfymux-%s", id);
    r->jobs = xcalloc(r->count, sizeof(*r->jobs));
    r->n_jobs = r->count;
    for (unsigned i = 0; i < r->n_jobs; i++) {
        r->jobs[i].run = r;
        r->jobs[i].index = i;
        uuid_v7(clock_system(), r->jobs[i].id);
    }
}

static void go(struct run *r)
{
    timer_init(&r->ws_timer, r->loop, run_ws_timer, r);
    timer_init(&r->post_timer, r->loop, on_post_timer, r);
    timer_init(&r->poll_timer, r->loop, run_poll_tick, r);
    timer_init(&r->draw_timer, r->loop, draw, r);
    timer_init(&r->cancel_timer, r->loop, on_cancel_timer, r);
    timer_init(&r->fetch.again, r->loop, run_fetch_again, r);
    if (r->term.tty && !r->quiet)
        timer_set(&r->draw_timer, DRAW_EVERY_MS);
    run_step(r);
    loop_run(r->loop);
    run_fetch_drop(r);
    if (r->ws)
        ws_abort(&r->ws);
    timer_fini(&r->ws_timer);
    timer_fini(&r->post_timer);
    timer_fini(&r->poll_timer);
    timer_fini(&r->draw_timer);
    timer_fini(&r->cancel_timer);
    timer_fini(&r->fetch.again);
}

/* ---- the end ---- */

static void free_job(struct run_job *j)
{
    run_outputs_free(j);
    for (size_t i = 0; i < j->n_files; i++)
        free(j->files[i]);
    free(j->files);
    free(j->server);
    free(j->node);
    free(j->code);
    free(j->message);
    bytes_unref(j->body);
    bytes_unref(j->detail);
}

static void fini(struct run *r)
{
    if (r->http)
        http_client_free(&r->http);
    if (r->loop) {
        loop_turn(r->loop, 0); /* what was canceled says so, to a run that is over */
        (void)!loop_signal(r->loop, SIGINT, NULL, NULL, NULL);
        (void)!loop_signal(r->loop, SIGTERM, NULL, NULL, NULL);
        loop_free(&r->loop);
    }
    tls_client_free(&r->tls);
    for (size_t i = 0; i < r->count && r->jobs; i++)
        free_job(&r->jobs[i]);
    free(r->jobs);
    for (size_t i = 0; i < r->n_inputs; i++) {
        free(r->inputs[i].path);
        free(r->inputs[i].stored);
    }
    free(r->inputs);
    workflow_free(&r->workflow);
    free(r->workflow_dir);
    free(r->boundary);
    buf_free(&r->answer);
}

static const char usage[] =
    "usage: comfymux run WORKFLOW.json [OPTION]...\n"
    "\n"
    "Runs a workflow in API format and writes its outputs. Files that its LoadImage nodes name, relative to "
    "the\n"
    "workflow or the working directory, are uploaded. Works with a gateway and with a bare ComfyUI server.\n"
    "WORKFLOW.json may be - for standard input.\n"
    "\n"
    "      --url URL         where (default: $COMFYMUX_URL, else http://127.0.0.1:8280)\n"
    "      --set NODE.INPUT=VALUE\n"
    "                        change an input; NODE is an id, or a title or class that one node has; VALUE "
    "is\n"
    "                        JSON if it parses, else text; may be given again and again\n"
    "      --input FILE      upload FILE; inputs that give its name use it; again and again\n"
    "  -o, --output DIR      where outputs go (default: here); nothing is ever written over\n"
    "  -n, --count COUNT     submit COUNT times, with k added to each integer seed and noise_seed that "
    "--set\n"
    "                        does not name\n"
    "      --json            print one JSON document: the jobs with the files written\n"
    "      --quiet           say nothing but errors and the paths of outputs\n"
    "  -h, --help            show this\n"
    "\n"
    "Exit status: 0 done, 1 a job failed, 2 wrong use or unreadable workflow, 3 not reachable, 130 "
    "interrupted\n"
    "(the jobs are canceled).\n";

static const struct opt table[] = {
    {"url", 0, true},     {"set", 0, true},   {"input", 0, true},    {"output", 'o', true},
    {"count", 'n', true}, {"json", 0, false}, {"quiet", 'q', false}, {NULL}};
enum { O_URL, O_SET, O_INPUT, O_OUTPUT, O_COUNT, O_JSON, O_QUIET };

/* CLI_OK with *done false: go on. */
static int parse(struct run *r, struct opts *o, const char ***sets, size_t *n_sets, bool *done)
{
    int i, status = CLI_OK;
    const char *url = NULL;
    struct err e;
    long count;

    *done = true;
    r->dir = ".";
    r->count = 1;
    while ((i = opts_next(o, &status)) >= 0) {
        if (i == O_URL) {
            url = o->value;
        } else if (i == O_SET) {
            *sets = xrealloc(*sets, (*n_sets + 1) * sizeof(char *));
            (*sets)[(*n_sets)++] = o->value;
        } else if (i == O_INPUT) {
            if ((status = add_input(r, o, o->value)) != CLI_OK)
                return status;
        } else if (i == O_OUTPUT) {
            r->dir = o->value;
        } else if (i == O_COUNT) {
            if (opts_number(o->value, 1, COUNT_MAX, &count, &e) < 0)
                return opts_fault(o, "-n: %s", e.msg);
            r->count = (unsigned long)count;
        } else if (i == O_JSON) {
            r->json = true;
        } else if (i == O_QUIET) {
            r->quiet = true;
        }
    }
    if (i == OPTS_EXIT)
        return status;
    if (opts_n_operands(o) != 1)
        return opts_fault(o, opts_n_operands(o) ? "there is one workflow at a time" : "which workflow?");
    r->workflow_path = opts_operands(o)[0];
    r->url = cli_url(url);
    *done = false;
    return CLI_OK;
}

int run_main(int argc, char **argv)
{
    struct opts o = {.command = "run", .usage = usage, .table = table};
    struct run r = {0};
    struct buf out = BUF_INIT;
    const char **sets = NULL;
    size_t n_sets = 0;
    bool done;
    int status;

    log_setup(LOG_ERROR, LOG_TEXT);
    opts_start(&o, argc, argv);
    cli_term(STDERR_FILENO, &r.term);
    status = parse(&r, &o, &sets, &n_sets, &done);
    if (!done && (status = load_workflow(&r, sets, n_sets)) == CLI_OK &&
        (status = check_dir(r.dir)) == CLI_OK && (status = open_client(&r)) == CLI_OK) {
        make_jobs(&r);
        go(&r);
        status = r.status;
        if (r.json) {
            run_put_document(&r, &out);
            fwrite(buf_str(&out), 1, out.len, stdout);
        }
    }
    fini(&r);
    buf_free(&out);
    free(sets);
    opts_end(&o);
    return cli_finish("run", status);
}
