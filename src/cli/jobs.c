/* comfymux jobs: what the gateway has done and is doing. */
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "cli/remote.h"
#include "http/http.h"

static const char usage[] =
    "usage: comfymux jobs [ls|show ID|cancel ID|retry ID] [--url URL] [--json]\n"
    "\n"
    "      ls           the newest jobs (also without a word)\n"
    "      show ID      all about one\n"
    "      cancel ID    end it, wherever it is\n"
    "      retry ID     run a failed one anew, as a new job\n"
    "      --url URL    the gateway (default: $COMFYMUX_URL, else http://127.0.0.1:8280)\n"
    "      --json       print the gateway's answer as it is\n"
    "  -h, --help       show this\n";

/* ---- times ---- */

static int64_t time_of(struct json v, const char *key)
{
    int64_t t;

    return json_int(json_get(v, key), &t) ? t : 0;
}

static void put_time(struct buf *out, int64_t ms)
{
    time_t s = (time_t)(ms / 1000);
    struct tm tm;
    char text[32];

    if (ms <= 0 || !localtime_r(&s, &tm) || !strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &tm))
        buf_putc(out, '-');
    else
        buf_printf(out, "%s.%03d", text, (int)(ms % 1000));
}

static int64_t now_ms(void)
{
    struct clock *c = clock_system();

    return c->wall_ms(c);
}

/* ---- ls ---- */

/* What matters most about a job in its state. */
static void put_gist(struct json job, struct buf *out)
{
    struct json progress = json_get(job, "progress"), error = json_get(job, "error");
    char *node = remote_text(progress, "node"), *code = remote_text(error, "code"),
         *message = remote_text(error, "message");
    int64_t place, value, max;

    if (json_str_eq(json_get(job, "state"), "queued") && json_int(json_get(job, "queue_position"), &place))
        buf_printf(out, "place %lld", (long long)place + 1);
    else if (*code)
        buf_printf(out, "%s: %s", code, message);
    else if (time_of(job, "finished_at"))
        buf_printf(out, "%zu output%s", json_count(json_get(job, "outputs")),
                   json_count(json_get(job, "outputs")) == 1 ? "" : "s");
    else if (json_int(json_get(progress, "value"), &value) && json_int(json_get(progress, "max"), &max))
        buf_printf(out, "node %s %lld/%lld", node, (long long)value, (long long)max);
    free(node);
    free(code);
    free(message);
}

static void add_job(struct table *t, struct json job)
{
    int64_t created = time_of(job, "created_at"), started = time_of(job, "started_at"),
            finished = time_of(job, "finished_at");
    char *id = remote_text(job, "id"), *state = remote_text(job, "state"),
         *server = remote_text(json_get(job, "server"), "name");
    struct buf b = BUF_INIT;

    table_add(t, id);
    table_add(t, state);
    table_add(t, server);
    remote_put_age(&b, created ? now_ms() - created : -1);
    table_add(t, buf_str(&b));
    buf_clear(&b);
    remote_put_age(&b, started ? (finished ? finished : now_ms()) - started : -1);
    table_add(t, buf_str(&b));
    buf_clear(&b);
    put_gist(job, &b);
    table_add(t, buf_str(&b));
    buf_free(&b);
    free(id);
    free(state);
    free(server);
}

static void put_list(struct json root, const struct cli_term *term, struct buf *out)
{
    static const char *const heads[] = {"ID", "STATE", "SERVER", "AGE", "TOOK", ""};
    struct json_iter it = json_iter(json_get(root, "jobs"));
    struct table t;
    struct json job;

    table_init(&t, ARRAY_LEN(heads), heads);
    while (json_next(&it, NULL, &job))
        add_job(&t, job);
    if (t.n == t.columns)
        buf_puts(out, "no jobs\n");
    else
        table_put(&t, term, 1, out);
    if (!json_is_null(json_get(root, "next")))
        buf_puts(out, "(there are older ones)\n");
    table_fini(&t);
}

/* ---- show ---- */

static void put_line(struct buf *out, const char *label, const char *value)
{
    if (value && *value)
        buf_printf(out, "%-10s %s\n", label, value);
}

static void put_member(struct buf *out, const char *label, struct json v, const char *key)
{
    char *s = remote_text(v, key);

    put_line(out, label, s);
    free(s);
}

static void put_time_line(struct buf *out, const char *label, struct json v, const char *key)
{
    struct buf b = BUF_INIT;

    if (time_of(v, key)) {
        put_time(&b, time_of(v, key));
        put_line(out, label, buf_str(&b));
    }
    buf_free(&b);
}

static void put_error(struct buf *out, const char *label, struct json error)
{
    char *code = remote_text(error, "code"), *message = remote_text(error, "message");
    struct buf b = BUF_INIT;

    if (*code)
        buf_printf(&b, "%s: %s", code, message);
    put_line(out, label, buf_str(&b));
    buf_free(&b);
    free(code);
    free(message);
}

static void put_attempts(struct buf *out, struct json attempts)
{
    struct json_iter it = json_iter(attempts);
    struct json a;
    unsigned n = 0;

    while (json_next(&it, NULL, &a)) {
        char *server = remote_text(a, "server"), *code = remote_text(json_get(a, "error"), "code"),
             *message = remote_text(json_get(a, "error"), "message");
        struct buf b = BUF_INIT;

        buf_printf(&b, "%u on %s at ", ++n, server);
        put_time(&b, time_of(a, "started_at"));
        if (time_of(a, "ended_at")) {
            buf_puts(&b, " for ");
            remote_put_age(&b, time_of(a, "ended_at") - time_of(a, "started_at"));
        }
        if (*code)
            buf_printf(&b, ": %s: %s", code, message);
        put_line(out, n == 1 ? "attempts" : "", buf_str(&b));
        buf_free(&b);
        free(server);
        free(code);
        free(message);
    }
}

static void put_outputs(struct buf *out, struct json outputs)
{
    struct json_iter it = json_iter(outputs);
    struct json o;
    bool first = true;

    while (json_next(&it, NULL, &o)) {
        char *kind = remote_text(o, "kind"), *name = remote_text(o, "filename"),
             *node = remote_text(o, "node_id"), *url = remote_text(o, "url");
        struct buf b = BUF_INIT;
        int64_t size;

        buf_printf(&b, "%s %s, node %s", kind, name, node);
        if (json_int(json_get(o, "size"), &size))
            buf_printf(&b, ", %lld bytes", (long long)size);
        buf_printf(&b, "  %s", url);
        put_line(out, first ? "outputs" : "", buf_str(&b));
        first = false;
        buf_free(&b);
        free(kind);
        free(name);
        free(node);
        free(url);
    }
}

static void put_timeline(struct buf *out, struct json timeline)
{
    struct json_iter it = json_iter(timeline);
    struct json t;
    bool first = true;

    while (json_next(&it, NULL, &t)) {
        char *state = remote_text(t, "state"), *note = remote_text(t, "note");
        struct buf b = BUF_INIT;

        put_time(&b, time_of(t, "at"));
        buf_printf(&b, "  %s%s%s", state, *note ? ": " : "", note);
        put_line(out, first ? "timeline" : "", buf_str(&b));
        first = false;
        buf_free(&b);
        free(state);
        free(note);
    }
}

static void put_job(struct json job, struct buf *out)
{
    char *server = remote_text(json_get(job, "server"), "name"),
         *url = remote_text(json_get(job, "server"), "url");
    struct json progress = json_get(job, "progress");
    int64_t place, value, max;
    struct buf b = BUF_INIT;

    put_member(out, "id", job, "id");
    put_member(out, "state", job, "state");
    put_error(out, "error", json_get(job, "error"));
    if (*server)
        buf_printf(&b, "%s (%s)", server, url);
    put_line(out, "server", buf_str(&b));
    buf_clear(&b);
    if (json_int(json_get(job, "queue_position"), &place))
        buf_put_int(&b, place + 1);
    put_line(out, "place", buf_str(&b));
    buf_clear(&b);
    if (!time_of(job, "finished_at") && json_int(json_get(progress, "value"), &value) &&
        json_int(json_get(progress, "max"), &max)) {
        char *node = remote_text(progress, "node");

        buf_printf(&b, "node %s, %lld of %lld", node, (long long)value, (long long)max);
        free(node);
    }
    put_line(out, "progress", buf_str(&b));
    put_member(out, "client", job, "client_id");
    put_member(out, "window", job, "window_id");
    put_member(out, "retry of", job, "retry_of");
    put_time_line(out, "created", job, "created_at");
    put_time_line(out, "started", job, "started_at");
    put_time_line(out, "finished", job, "finished_at");
    put_attempts(out, json_get(job, "attempts"));
    put_outputs(out, json_get(job, "outputs"));
    put_timeline(out, json_get(job, "timeline"));
    buf_free(&b);
    free(server);
    free(url);
}

/* ---- */

static void put_outcome(const char *verb, const char *asked, struct json job, struct buf *out)
{
    char *id = remote_text(job, "id"), *state = remote_text(job, "state");

    if (strcmp(verb, "retry") == 0)
        buf_printf(out, "%s\n", id); /* for $(...) */
    else
        buf_printf(out, "%s %s\n", *id ? id : asked, state);
    free(id);
    free(state);
}

static int run_verb(const char *verb, const char *id, const char *url, bool json)
{
    bool list = strcmp(verb, "ls") == 0, show = strcmp(verb, "show") == 0;
    struct buf target = BUF_INIT, out = BUF_INIT;
    struct remote_answer a;
    struct cli_term term;
    int status;

    buf_puts(&target, "/mux/v1/jobs");
    if (id) {
        buf_putc(&target, '/');
        http_escape(id, strlen(id), false, &target);
    }
    if (!list && !show)
        buf_printf(&target, "/%s", verb);
    status = remote_call("jobs", url, list || show ? "GET" : "POST", buf_str(&target), NULL, &a);
    cli_term(STDOUT_FILENO, &term);
    if (status == CLI_OK && json) {
        buf_put(&out, a.root.p ? a.root.p : "{}", a.root.p ? a.root.n : 2);
        buf_putc(&out, '\n');
    } else if (status == CLI_OK && list) {
        put_list(a.root, &term, &out);
    } else if (status == CLI_OK && show) {
        put_job(a.root, &out);
    } else if (status == CLI_OK) {
        put_outcome(verb, id, a.root, &out);
    }
    fwrite(buf_str(&out), 1, out.len, stdout);
    remote_fini(&a);
    buf_free(&target);
    buf_free(&out);
    return status;
}

int jobs_main(int argc, char **argv)
{
    static const struct opt table[] = {{"url", 0, true}, {"json", 0, false}, {NULL}};
    static const char *const verbs[] = {"ls", "show", "cancel", "retry"};
    struct opts o = {.command = "jobs", .usage = usage, .table = table};
    const char *url = NULL, *verb = "ls";
    bool json = false, known = false;
    int status = CLI_OK, i, n;

    opts_start(&o, argc, argv);
    while ((i = opts_next(&o, &status)) >= 0) {
        if (i == 0)
            url = o.value;
        else
            json = true;
    }
    if (i == OPTS_DONE) {
        n = opts_n_operands(&o);
        verb = n > 0 ? opts_operands(&o)[0] : "ls";
        for (size_t k = 0; k < ARRAY_LEN(verbs); k++)
            known |= strcmp(verb, verbs[k]) == 0;
        if (!known)
            status = opts_fault(&o, "\"%s\" is none of ls, show, cancel and retry", verb);
        else if (n > 0 && n - 1 != (strcmp(verb, "ls") != 0))
            status = opts_fault(&o, n == 1 ? "%s needs the id of a job" : "%s takes no more than that", verb);
        else
            status = run_verb(verb, n > 1 ? opts_operands(&o)[1] : NULL, cli_url(url), json);
    }
    opts_end(&o);
    return cli_finish("jobs", status);
}
