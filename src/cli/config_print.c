/* `comfymux config`: the table of keys as a file to start from, or a file checked. */
#include <string.h>

#include "cli/cli.h"
#include "cli/config.h"
#include "cli/opts.h"

static void put_commented(struct buf *out, const char *indent, const char *text)
{
    while (*text) {
        size_t n = strcspn(text, "\n");

        buf_printf(out, "%s# %.*s\n", indent, (int)n, text);
        text += n + (text[n] == '\n');
    }
}

static const char *bounds_of(const struct config_key *k, struct buf *b)
{
    buf_clear(b);
    for (int i = 0; k->words && k->words[i]; i++)
        buf_printf(b, "%s%s", i ? ", " : ": ", k->words[i]);
    return buf_str(b);
}

static size_t section_of(const struct config_key *k)
{
    const char *dot = strchr(k->key, '.');

    return dot ? (size_t)(dot - k->key) : 0;
}

void config_put_yaml(struct buf *out)
{
    struct buf b = BUF_INIT;
    const char *section = "";
    size_t section_n = 0;

    buf_puts(out,
             "# comfymux: every key with its default. Durations are an integer and ms, s, m, h or d; sizes\n"
             "# an integer and B, KiB, MiB or GiB. A running gateway reads this file again on SIGHUP; keys\n"
             "# marked \"needs a restart\" keep their old value until then.\n");
    for (size_t i = 0; i < config_n_keys; i++) {
        const struct config_key *k = &config_keys[i];
        size_t n = section_of(k);
        const char *indent = n ? "  " : "", *name = k->key + (n ? n + 1 : 0);

        if (n == 0 || n != section_n || strncmp(section, k->key, n) != 0)
            buf_puts(out, "\n");
        if (n && (n != section_n || strncmp(section, k->key, n) != 0))
            buf_printf(out, "%.*s:\n", (int)n, k->key);
        section = k->key;
        section_n = n;
        put_commented(out, indent, k->help);
        buf_printf(out, "%s# (%s%s%s)\n", indent, config_type_name(k->type), bounds_of(k, &b),
                   k->reload ? "" : "; needs a restart");
        if (k->example) {
            struct buf ex = BUF_INIT;

            buf_printf(&ex, "%s:%s%s", name, k->example[0] == '\n' ? "" : " ", k->example);
            put_commented(out, indent, buf_str(&ex));
            buf_free(&ex);
        }
        if (k->def && !k->example)
            buf_printf(out, "%s%s: %s\n", indent, name, k->def);
    }
    buf_free(&b);
}

static void put_cell(struct buf *out, const char *s)
{
    for (; *s; s++) {
        if (*s == '|')
            buf_putc(out, '\\');
        buf_putc(out, *s == '\n' ? ' ' : *s);
    }
}

static const char page_head[] =
    "# Configuration\n"
    "\n"
    "<!-- Printed by `comfymux config --markdown`; a test keeps it in step with the table in "
    "src/cli/config.c. -->\n"
    "\n"
    "`comfymux serve` needs no configuration: flags and defaults are enough. What goes beyond them stands in "
    "a\n"
    "YAML file:\n"
    "\n"
    "```sh\n"
    "comfymux config > comfymux.yaml          # every key with its default and help, to start from\n"
    "comfymux config --check comfymux.yaml    # every fault as FILE:LINE: KEY: MESSAGE\n"
    "comfymux serve -c comfymux.yaml\n"
    "```\n"
    "\n"
    "```yaml\n"
    "listen: 127.0.0.1:8280\n"
    "servers:\n"
    "  - {name: gpu0, url: \"http://10.0.0.5:8188\"}\n"
    "  - {name: gpu1, url: \"http://10.0.0.6:8188\", depth: 2, tags: [big]}\n"
    "timeout: {lost: 2m}\n"
    "keep:    {outputs: 7d, size: 200GiB}\n"
    "```\n"
    "\n"
    "- Command line flags (`--listen`, `--data`, `--frontend`, `--server`) win over the file.\n"
    "- Durations are an integer and `ms`, `s`, `m`, `h` or `d`; sizes an integer and `B`, `KiB`, `MiB` or "
    "`GiB`.\n"
    "- Relative paths start at the folder of the file.\n"
    "- Unknown keys, wrong types and impossible values are errors, all of them reported at once. Anchors,\n"
    "  aliases, merge keys, tags and a second document are not taken.\n"
    "- `SIGHUP` reads the file again. A faulty file leaves a running gateway on its old settings; keys "
    "marked\n"
    "  *restart* keep their old value until then.\n"
    "\n"
    "## Keys\n"
    "\n"
    "| key | type | default | what |\n"
    "|---|---|---|---|\n";

void config_put_markdown(struct buf *out)
{
    struct buf b = BUF_INIT;

    buf_puts(out, page_head);
    for (size_t i = 0; i < config_n_keys; i++) {
        const struct config_key *k = &config_keys[i];

        buf_printf(out, "| `%s` | %s%s | ", k->key, config_type_name(k->type),
                   k->words ? bounds_of(k, &b) : "");
        if (k->def)
            buf_printf(out, "`%s`", k->def);
        buf_puts(out, " | ");
        put_cell(out, k->help);
        buf_puts(out, k->reload ? " |\n" : " *(restart)* |\n");
    }
    buf_free(&b);
}

static int check(const char *path)
{
    struct config_faults faults = {0};
    struct buf text = BUF_INIT;
    int status = CLI_OK;
    struct config c;
    struct err e;

    config_init(&c);
    if (config_load(&c, path, &faults, &e) == 0) {
        printf("%s: ok\n", path);
    } else if (faults.n == 0) {
        cli_error("config", "%s", e.msg);
        status = CLI_USAGE;
    } else {
        config_faults_put(&faults, path, &text);
        fputs(buf_str(&text), stderr);
        status = CLI_FAILED;
    }
    buf_free(&text);
    config_faults_fini(&faults);
    config_fini(&c);
    return status;
}

static const char usage[] =
    "usage: comfymux config [--check FILE]\n"
    "\n"
    "Prints every key of the configuration with its type, default and help, as a YAML file to start from.\n"
    "\n"
    "      --check FILE  say what is wrong with FILE instead, as FILE:LINE: KEY: MESSAGE\n"
    "      --markdown    print the page of documentation instead\n"
    "  -h, --help        show this\n";

int config_main(int argc, char **argv)
{
    static const struct opt table[] = {{"check", 0, true}, {"markdown", 0, false}, {NULL}};
    struct opts o = {"config", usage, table};
    const char *file = NULL;
    struct buf out = BUF_INIT;
    bool markdown = false;
    int status = CLI_OK, i;

    opts_start(&o, argc, argv);
    while ((i = opts_next(&o, &status)) >= 0) {
        if (i == 0)
            file = o.value;
        else
            markdown = true;
    }
    if (i == OPTS_DONE && opts_n_operands(&o) > 0)
        status = opts_fault(&o, "there is nothing to do with \"%s\"", opts_operands(&o)[0]);
    else if (i == OPTS_DONE && file)
        status = check(file);
    else if (i == OPTS_DONE) {
        if (markdown)
            config_put_markdown(&out);
        else
            config_put_yaml(&out);
        fputs(buf_str(&out), stdout);
    }
    opts_end(&o);
    buf_free(&out);
    return cli_finish("config", status);
}
