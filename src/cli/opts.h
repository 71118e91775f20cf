/* What the subcommands share: options, exit statuses, messages, and what the terminal can do. */
#ifndef CLI_OPTS_H
#define CLI_OPTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "base/buf.h"
#include "base/err.h"

enum cli_status {
    CLI_OK = 0,
    CLI_FAILED = 1,
    CLI_USAGE = 2,       /* also an unreadable or non-JSON workflow */
    CLI_UNREACHABLE = 3, /* the gateway cannot be reached */
    CLI_INTERRUPTED = 130
};

/* ---- options ---- */

struct opt {
    const char *name; /* without "--"; NULL ends the table */
    char letter;      /* 0: none */
    bool arg;         /* takes a value */
};

/* A subcommand's options. -h and --help are everybody's and need no entry. */
struct opts {
    const char *command; /* "run" */
    const char *usage;   /* printed by --help as it stands; its first line also after a fault */
    const struct opt *table;
    /* set by opts_start and opts_next */
    int argc;
    char **argv;
    char *letters;
    struct option *longs;
    const char *value; /* of the option just given */
};
void opts_start(struct opts *o, int argc, char **argv);
void opts_end(struct opts *o);

enum { OPTS_DONE = -1, OPTS_EXIT = -2 };
/* The index in the table of the next option, OPTS_DONE when there is none left (the operands follow), or
 * OPTS_EXIT: help was printed or a fault was told, and the command ends with *status. Options and operands
 * may stand in any order; "--" ends the options. */
int opts_next(struct opts *o, int *status);
/* What is left after OPTS_DONE. */
int opts_n_operands(const struct opts *o);
char **opts_operands(const struct opts *o);
/* A wrong use: "comfymux run: <message>" and the usage line on standard error. Gives CLI_USAGE. */
int opts_fault(const struct opts *o, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* A whole number from min to max. */
int opts_number(const char *text, long min, long max, long *out, struct err *e) MUST_CHECK;

/* --url, else $COMFYMUX_URL, else http://127.0.0.1:8280. */
const char *cli_url(const char *given);

/* ---- messages, on standard error ---- */

/* "comfymux run: <message>" */
void cli_error(const char *command, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* "comfymux <command>: <text>", or the text alone if command is NULL; control characters are taken out. */
void cli_say(const char *command, const char *text);
/* Flush standard output; a full disk or closed pipe turns CLI_OK into CLI_FAILED and is told. */
int cli_finish(const char *command, int status);

/* Read all of a file, "-" standard input. At most max bytes. */
int cli_read_all(const char *path, size_t max, struct buf *out, struct err *e) MUST_CHECK;
/* How many letters are to be changed, added or dropped to make b of a: for "did you mean". */
unsigned cli_distance(const char *a, const char *b);

/* ---- terminal ---- */

struct cli_term {
    bool tty;    /* lines may be drawn over */
    bool colour; /* a terminal, no NO_COLOR, TERM not "dumb" */
    bool utf8;
    int width, height;
};
/* fd 1 or 2. Asks for the size anew each time. */
void cli_term(int fd, struct cli_term *t);

#endif
