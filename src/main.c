/* The subcommands, nothing else. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "sim/sim.h"

static int version_main(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    puts("comfymux " COMFYMUX_VERSION);
    return 0;
}

static const struct {
    const char *name;
    int (*fn)(int argc, char **argv); /* argv[0] is the subcommand's name */
    const char *help;
} commands[] = {
    {"sim", sim_main, "ComfyUI servers without a GPU, to try things with"},
    {"version", version_main, "prints the version"},
};

static void usage(FILE *out)
{
    fputs("usage: comfymux COMMAND [OPTION]...\n\n", out);
    for (size_t i = 0; i < ARRAY_LEN(commands); i++)
        fprintf(out, "  %-10s %s\n", commands[i].name, commands[i].help);
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";

    for (size_t i = 0; i < ARRAY_LEN(commands); i++)
        if (strcmp(name, commands[i].name) == 0)
            return commands[i].fn(argc - 1, argv + 1);
    if (strcmp(name, "help") == 0 || strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) {
        usage(stdout);
        return 0;
    }
    usage(stderr);
    return 2;
}
