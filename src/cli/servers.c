/* comfymux servers: the fleet behind the gateway. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "cli/cli.h"
#include "cli/config.h"
#include "cli/remote.h"
#include "http/http.h"

static const char usage[] =
    "usage: comfymux servers [ls|add [NAME=]URL|drain NAME|resume NAME|remove NAME] [--url URL] [--json]\n"
    "\n"
    "      ls               the servers and what they do (also without a word)\n"
    "      add [NAME=]URL   add a ComfyUI server; NAME defaults to host:port\n"
    "      drain NAME       give it no new jobs\n"
    "      resume NAME      give it jobs again\n"
    "      remove NAME      forget it; refused while it runs jobs, but for --force\n"
    "      --depth N        with add: jobs it is given at one time (default 1)\n"
    "      --tag WORD       with add: again and again\n"
    "      --force          with remove: its running jobs are queued again\n"
    "      --url URL        the gateway (default: $COMFYMUX_URL, else http://127.0.0.1:8280)\n"
    "      --json           print the gateway's answer as it is\n"
    "  -h, --help           show this\n";

struct asked {
    const char *url, *verb, *operand;
    bool json, force;
    long depth;
    const char **tags;
    size_t n_tags;
};

static void add_number(struct table *t, struct json v)
{
    int64_t n;

    if (json_int(v, &n) && n >= 0)
        table_addf(t, "%lld", (long long)n);
    else
        table_add(t, NULL);
}

static void put_tags(struct json tags, struct buf *out)
{
    struct json_iter it = json_iter(tags);
    struct json tag;

    while (json_next(&it, NULL, &tag)) {
        if (out->len)
            buf_putc(out, ',');
        json_str(tag, out);
    }
}

/* A name and what there is to say, in lines of at most width columns. */
static void put_reason(const char *name, const char *reason, int width, struct buf *out)
{
    size_t at = strlen(name) + 1, most = width > 40 ? (size_t)width : 40;

    buf_printf(out, "%s:", name);
    for (const char *word = reason; *word; word += strspn(word, " ")) {
        size_t n = strcspn(word, " ");

        if (at + 1 + n > most) {
            buf_puts(out, "\n   ");
            at = 3;
        }
        buf_printf(out, " %.*s", (int)n, word);
        at += 1 + n;
        word += n;
    }
    buf_putc(out, '\n');
}

/* The reasons stand below, where there is room for them in a narrow window. */
static void put_list(struct json root, const struct cli_term *term, struct buf *out)
{
    static const char *const heads[] = {"NAME", "STATE", "JOBS", "QUEUE", "NODES", "VERSION", "TAGS", "URL"};
    struct json_iter it = json_iter(json_get(root, "servers"));
    struct buf reasons = BUF_INIT;
    struct table t;
    struct json s;

    table_init(&t, ARRAY_LEN(heads), heads);
    while (json_next(&it, NULL, &s)) {
        char *name = remote_text(s, "name"), *state = remote_text(s, "state"),
             *version = remote_text(s, "version"), *url = remote_text(s, "url"),
             *reason = remote_text(s, "reason");
        struct buf words = BUF_INIT;
        int64_t depth = 0;

        json_int(json_get(s, "depth"), &depth);
        put_tags(json_get(s, "tags"), &words);
        table_add(&t, name);
        table_add(&t, state);
        table_addf(&t, "%zu/%lld", json_count(json_get(s, "running")), (long long)depth);
        add_number(&t, json_get(s, "queue"));
        add_number(&t, json_get(s, "nodes"));
        table_add(&t, version);
        table_add(&t, buf_str(&words));
        table_add(&t, url);
        if (reason[0])
            put_reason(name, reason, term->tty ? term->width : 80, &reasons);
        buf_free(&words);
        free(name);
        free(state);
        free(version);
        free(url);
        free(reason);
    }
    if (t.n == t.columns)
        buf_puts(out, "no servers; 'comfymux servers add URL' adds one\n");
    else
        table_put(&t, term, 1, out);
    if (reasons.len)
        buf_printf(out, "\n%s", buf_str(&reasons));
    buf_free(&reasons);
    table_fini(&t);
}

static void put_new_server(const struct asked *a, const struct config_server *s, struct buf *body)
{
    struct jsonw w;

    jsonw_init(&w, body);
    jsonw_obj(&w);
    jsonw_kstr(&w, "url", s->url);
    jsonw_kstr(&w, "name", s->name);
    if (a->depth)
        jsonw_kint(&w, "depth", a->depth);
    if (a->n_tags) {
        jsonw_key(&w, "tags");
        jsonw_arr(&w);
        for (size_t i = 0; i < a->n_tags; i++)
            jsonw_str(&w, a->tags[i]);
        jsonw_arr_end(&w);
    }
    jsonw_obj_end(&w);
}

/* The request that a verb is. -1: the operand is not what it should be. */
static int put_request(const struct asked *a, const char **method, struct buf *target, struct buf *body,
                       struct err *e)
{
    struct config_server s;

    buf_puts(target, "/mux/v1/servers");
    *method = "POST";
    if (strcmp(a->verb, "ls") == 0) {
        *method = "GET";
    } else if (strcmp(a->verb, "add") == 0) {
        if (config_server_parse(a->operand, &s, e) < 0)
            return -1;
        put_new_server(a, &s, body);
        config_server_fini(&s);
    } else {
        buf_putc(target, '/');
        http_escape(a->operand, strlen(a->operand), false, target);
        if (strcmp(a->verb, "remove") == 0) {
            *method = "DELETE";
            buf_puts(target, a->force ? "?force=1" : "");
        } else {
            buf_printf(target, "/%s", a->verb);
        }
    }
    return 0;
}

static int run_verb(const struct opts *o, const struct asked *asked)
{
    struct buf target = BUF_INIT, body = BUF_INIT, out = BUF_INIT;
    struct remote_answer a = {0};
    const char *method;
    struct cli_term term;
    struct err e;
    int status;

    cli_term(STDOUT_FILENO, &term);
    if (put_request(asked, &method, &target, &body, &e) < 0)
        status = opts_fault(o, "%s", e.msg);
    else
        status = remote_call("servers", asked->url, method, buf_str(&target), body.len ? &body : NULL, &a);
    if (status == CLI_OK && asked->json) {
        buf_put(&out, a.root.p ? a.root.p : "{}", a.root.p ? a.root.n : 2);
        buf_putc(&out, '\n');
    } else if (status == CLI_OK && strcmp(asked->verb, "ls") == 0) {
        put_list(a.root, &term, &out);
    } else if (status == CLI_OK) {
        char *name = remote_text(a.root, "name"), *state = remote_text(a.root, "state");

        if (strcmp(asked->verb, "remove") == 0)
            buf_printf(&out, "%s removed\n", asked->operand);
        else
            buf_printf(&out, "%s %s\n", *name ? name : asked->operand, state);
        free(name);
        free(state);
    }
    fwrite(buf_str(&out), 1, out.len, stdout);
    remote_fini(&a);
    buf_free(&target);
    buf_free(&body);
    buf_free(&out);
    return status;
}

static int check(const struct opts *o, const struct asked *a, int n)
{
    static const char *const verbs[] = {"ls", "add", "drain", "resume", "remove"};
    bool known = false, add = strcmp(a->verb, "add") == 0;

    for (size_t k = 0; k < ARRAY_LEN(verbs); k++)
        known |= strcmp(a->verb, verbs[k]) == 0;
    if (!known)
        return opts_fault(o, "\"%s\" is none of ls, add, drain, resume and remove", a->verb);
    if (n > 0 && n - 1 != (strcmp(a->verb, "ls") != 0))
        return opts_fault(o,
                          n > 1 ? "%s takes no more than that"
                          : add ? "%s needs a URL"
                                : "%s needs a server's name",
                          a->verb);
    if (a->force && strcmp(a->verb, "remove") != 0)
        return opts_fault(o, "--force goes with remove");
    if ((a->depth || a->n_tags) && !add)
        return opts_fault(o, "--depth and --tag go with add");
    return CLI_OK;
}

int servers_main(int argc, char **argv)
{
    static const struct opt table[] = {{"url", 0, true},   {"json", 0, false}, {"force", 0, false},
                                       {"depth", 0, true}, {"tag", 0, true},   {NULL}};
    struct opts o = {.command = "servers", .usage = usage, .table = table};
    struct asked a = {0};
    int status = CLI_OK, i, n;
    struct err e;

    opts_start(&o, argc, argv);
    while (status == CLI_OK && (i = opts_next(&o, &status)) >= 0) {
        if (i == 0) {
            a.url = o.value;
        } else if (i == 1) {
            a.json = true;
        } else if (i == 2) {
            a.force = true;
        } else if (i == 3) {
            if (opts_number(o.value, 1, 64, &a.depth, &e) < 0)
                status = opts_fault(&o, "--depth: %s", e.msg);
        } else {
            a.tags = xrealloc(a.tags, (a.n_tags + 1) * sizeof(char *));
            a.tags[a.n_tags++] = o.value;
        }
    }
    if (status == CLI_OK && i == OPTS_DONE) {
        n = opts_n_operands(&o);
        a.verb = n > 0 ? opts_operands(&o)[0] : "ls";
        a.operand = n > 1 ? opts_operands(&o)[1] : NULL;
        a.url = cli_url(a.url);
        status = check(&o, &a, n);
        if (status == CLI_OK)
            status = run_verb(&o, &a);
    }
    free(a.tags);
    opts_end(&o);
    return cli_finish("servers", status);
}
