#include "cli/opts.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <langinfo.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"

#define LONG_BASE 256 /* getopt's value for the nth long option, so that it is no letter */

void opts_start(struct opts *o, int argc, char **argv)
{
    size_t n = 0, k = 0;

    while (o->table[n].name)
        n++;
    o->argc = argc;
    o->argv = argv;
    o->letters = xcalloc(2 * n + 3, 1);
    o->longs = xcalloc(n + 2, sizeof(*o->longs));
    o->letters[k++] = 'h';
    for (size_t i = 0; i < n; i++) {
        if (o->table[i].letter)
            o->letters[k++] = o->table[i].letter;
        if (o->table[i].letter && o->table[i].arg)
            o->letters[k++] = ':';
        o->longs[i].name = o->table[i].name;
        o->longs[i].has_arg = o->table[i].arg ? required_argument : no_argument;
        o->longs[i].val = LONG_BASE + (int)i;
    }
    o->longs[n].name = "help";
    o->longs[n].val = 'h';
    optind = 0; /* glibc: begin anew */
    opterr = 1;
}

void opts_end(struct opts *o)
{
    free(o->letters);
    free(o->longs);
    o->letters = NULL;
    o->longs = NULL;
}

static void print_usage_line(const struct opts *o)
{
    fprintf(stderr, "%.*s\nTry 'comfymux %s --help'.\n", (int)strcspn(o->usage, "\n"), o->usage, o->command);
}

int opts_next(struct opts *o, int *status)
{
    char *program = o->argv[0], *shown = xasprintf("comfymux %s", o->command);
    int c;

    o->argv[0] = shown; /* getopt begins its messages with it */
    c = getopt_long(o->argc, o->argv, o->letters, o->longs, NULL);
    o->argv[0] = program;
    free(shown);
    o->value = optarg;
    if (c == -1)
        return OPTS_DONE;
    if (c == 'h') {
        fputs(o->usage, stdout);
        *status = cli_finish(o->command, CLI_OK);
        return OPTS_EXIT;
    }
    if (c == '?') {
        print_usage_line(o);
        *status = CLI_USAGE;
        return OPTS_EXIT;
    }
    if (c >= LONG_BASE)
        return c - LONG_BASE;
    for (int i = 0;; i++)
        if (o->table[i].letter == c)
            return i;
}

int opts_n_operands(const struct opts *o)
{
    return o->argc - optind;
}

char **opts_operands(const struct opts *o)
{
    return o->argv + optind;
}

void cli_say(const char *command, const char *text)
{
    struct buf b = BUF_INIT;

    if (command)
        buf_printf(&b, "comfymux%s%s: ", *command ? " " : "", command);
    buf_puts(&b, text);
    for (size_t i = 0; i < b.len; i++) /* what a peer said must not reach the terminal's controls */
        if (((unsigned char)b.data[i] < ' ' && b.data[i] != '\n') || b.data[i] == 0x7f)
            b.data[i] = '?';
    buf_putc(&b, '\n');
    fwrite(b.data, 1, b.len, stderr);
    buf_free(&b);
}

static void say(const char *command, const char *fmt, va_list ap)
{
    char *text = NULL;

    if (vasprintf(&text, fmt, ap) < 0)
        abort();
    cli_say(command ? command : "", text);
    free(text);
}

int opts_fault(const struct opts *o, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    say(o->command, fmt, ap);
    va_end(ap);
    print_usage_line(o);
    return CLI_USAGE;
}

int opts_number(const char *text, long min, long max, long *out, struct err *e)
{
    char *end;
    long v;

    errno = 0;
    v = strtol(text, &end, 10);
    if (end == text || *end || isspace((unsigned char)text[0]))
        return err_set(e, EINVAL, "\"%.40s\" is not a whole number", text);
    if (errno || v < min || v > max)
        return err_set(e, ERANGE, "%.40s is not between %ld and %ld", text, min, max);
    *out = v;
    return 0;
}

const char *cli_url(const char *given)
{
    const char *env = getenv("COMFYMUX_URL");

    return given ? given : env && *env ? env : "http://127.0.0.1:8280";
}

void cli_error(const char *command, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    say(command, fmt, ap);
    va_end(ap);
}

int cli_finish(const char *command, int status)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return status;
    cli_error(command, "cannot write to standard output: %s", strerror(errno));
    return status == CLI_OK ? CLI_FAILED : status;
}

int cli_read_all(const char *path, size_t max, struct buf *out, struct err *e)
{
    bool in = strcmp(path, "-") == 0;
    int fd = in ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n;

    if (fd < 0)
        return err_errno(e, errno, "cannot read %s", path);
    do {
        buf_reserve(out, 65536);
        n = read(fd, out->data + out->len, 65536);
        if (n > 0) {
            out->len += (size_t)n;
            out->data[out->len] = '\0';
        }
    } while ((n > 0 && out->len <= max) || (n < 0 && errno == EINTR));
    if (n < 0)
        err_errno(e, errno, "cannot read %s", path);
    else if (n > 0)
        err_set(e, EFBIG, "cannot read %s: larger than %zu MiB", path, max >> 20);
    if (!in)
        close(fd);
    return n == 0 ? 0 : -1;
}

static int from_env(const char *name)
{
    const char *s = getenv(name);
    int v = s ? atoi(s) : 0;

    return v > 0 && v < 10000 ? v : 0;
}

void cli_term(int fd, struct cli_term *t)
{
    const char *term = getenv("TERM"), *no_colour = getenv("NO_COLOR");
    bool dumb = !term || !*term || strcmp(term, "dumb") == 0;
    struct winsize w = {0};

    t->tty = isatty(fd) && !dumb;
    t->colour = t->tty && !(no_colour && *no_colour);
    t->utf8 = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
    if (ioctl(fd, TIOCGWINSZ, &w) < 0 || w.ws_col == 0) {
        w.ws_col = (unsigned short)from_env("COLUMNS");
        w.ws_row = (unsigned short)from_env("LINES");
    }
    t->width = w.ws_col ? w.ws_col : 80;
    t->height = w.ws_row ? w.ws_row : 24;
}

unsigned cli_distance(const char *a, const char *b)
{
    unsigned row[64];
    size_t m = strlen(a), n = strlen(b);

    if (m > 60 || n > 60)
        return 99;
    for (size_t j = 0; j <= n; j++)
        row[j] = (unsigned)j;
    for (size_t i = 1; i <= m; i++) {
        unsigned diagonal = row[0];

        row[0] = (unsigned)i;
        for (size_t j = 1; j <= n; j++) {
            unsigned best = diagonal + (a[i - 1] != b[j - 1]);

            diagonal = row[j];
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    return row[n];
}
