/* comfymux: the table of subcommands, nothing else. */
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "api/api.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "cli/opts.h"
#include "sim/sim.h"

static int version_main(int argc, char **argv);
static int routes_main(int argc, char **argv);

static const struct command {
    const char *name;
    int (*fn)(int argc, char **argv); /* argv[0] is the name; gives the exit status */
    const char *help;
} commands[] = {
    {"serve", serve_main, "run the gateway"},
    {"sim", sim_main, "ComfyUI servers without a GPU, to try things with"},
    {"run", run_main, "run a workflow and write its outputs"},
    {"jobs", jobs_main, "list, show, cancel and retry jobs"},
    {"servers", servers_main, "list, add, drain, resume and remove servers"},
    {"config", config_main, "print every configuration key, or check a file"},
    {"doctor", doctor_main, "can it start here, are the servers reachable, do they differ"},
    {"version", version_main, "print the version"},
    {"routes", routes_main, NULL}, /* not listed: for tests */
};

static void print_commands(FILE *to)
{
    fputs("usage: comfymux COMMAND [OPTION]...\n\nOne endpoint in front of many ComfyUI servers.\n\n", to);
    for (size_t i = 0; i < ARRAY_LEN(commands) && commands[i].help; i++)
        fprintf(to, "  %-8s  %s\n", commands[i].name, commands[i].help);
    fputs("\n'comfymux COMMAND --help' says more.\n", to);
}

static int version_main(int argc, char **argv)
{
    static const struct opt none[] = {{NULL}};
    struct opts o = {"version", "usage: comfymux version\n\nPrints the version.\n", none};
    int status = CLI_OK;

    opts_start(&o, argc, argv);
    if (opts_next(&o, &status) == OPTS_DONE) {
        if (opts_n_operands(&o) > 0)
            status = opts_fault(&o, "there is nothing to do with \"%s\"", opts_operands(&o)[0]);
        else
            puts("comfymux " COMFYMUX_VERSION);
    }
    opts_end(&o);
    return cli_finish("version", status);
}

static int routes_main(int argc, char **argv)
{
    struct buf b = BUF_INIT;

    (void)argc;
    (void)argv;
    api_put_routes(&b);
    puts(buf_str(&b));
    buf_free(&b);
    return cli_finish("routes", CLI_OK);
}

static const struct command *find(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(commands); i++)
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    return NULL;
}

/* The one command that begins with what was typed, or differs in one letter: for the hint. */
static const struct command *nearest(const char *name)
{
    const struct command *best = NULL;
    unsigned least = 3;

    for (size_t i = 0; i < ARRAY_LEN(commands) && commands[i].help; i++) {
        unsigned d = cli_distance(name, commands[i].name);

        if (name[0] && strncmp(commands[i].name, name, strlen(name)) == 0)
            d = 1;
        if (d < least) {
            least = d;
            best = &commands[i];
        }
    }
    return best;
}

int main(int argc, char **argv)
{
    const struct command *c;

    setlocale(LC_CTYPE, "");
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a file size limit is an error to be told, not a death */
    if (argc < 2) {
        print_commands(stderr);
        return CLI_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) {
        if (argc > 2 && (c = find(argv[2])) != NULL)
            return c->fn(2, (char *[]){argv[2], (char[]){"--help"}, NULL});
        print_commands(stdout);
        return cli_finish(NULL, CLI_OK);
    }
    if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0)
        return version_main(1, argv + 1);
    c = find(argv[1]);
    if (c)
        return c->fn(argc - 1, argv + 1);
    c = nearest(argv[1]);
    if (c)
        cli_error(NULL, "there is no command \"%s\"; did you mean %s?", argv[1], c->name);
    else
        cli_error(NULL, "there is no command \"%s\"; 'comfymux --help' lists them", argv[1]);
    return CLI_USAGE;
}
