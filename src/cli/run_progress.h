/* What `comfymux run` shows while jobs are under way: a few lines drawn over and over on a terminal, a line
 * per change elsewhere. Pure: what is to be shown in, text out. */
#ifndef CLI_RUN_PROGRESS_H
#define CLI_RUN_PROGRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "cli/opts.h"

enum run_phase {
    RUN_WAITING, /* not sent yet */
    RUN_UNSURE,  /* sent to a bare server, no answer: it may have it */
    RUN_QUEUED,
    RUN_RUNNING,
    RUN_COLLECTING, /* the gateway stores its outputs */
    RUN_FETCHING,   /* we fetch them */
    RUN_DONE,
    RUN_FAILED,
    RUN_CANCELED
};
#define RUN_LIVE(p) ((p) <= RUN_COLLECTING) /* the server side is not done with it */
#define RUN_ENDED(p) ((p) >= RUN_DONE)

struct run_view {
    unsigned number; /* 1 is the first; 0: there is but one */
    const char *id;
    enum run_phase phase;
    int64_t place;      /* in the queue, 1 is next; 0 unknown */
    const char *server; /* NULL unknown */
    const char *node;   /* title of what runs now, or of what is fetched; NULL */
    int64_t value, max; /* steps of that node; max 0: none */
    size_t nodes_done, nodes;
    int64_t left_ms; /* of that node; -1 unknown */
    int64_t spent_ms;
};

/* Milliseconds since a value was first seen and how far it came since: what is left, or -1. */
int64_t run_time_left(int64_t since_ms, int64_t from, int64_t value, int64_t max);

/* One job in one line of at most width - 1 columns, without a newline. */
void run_progress_line(const struct run_view *v, const struct cli_term *t, struct buf *out);
/* All jobs in at most ten lines (fewer on a low terminal): those under way, then the count. Gives the number
 * of lines; they are separated by newlines, the last one ends without. */
unsigned run_progress_all(const struct run_view *v, size_t n, const struct cli_term *t, struct buf *out);
/* The bytes that put `text` (of `lines` lines) in the place of the `before` lines drawn last; empty text
 * leaves nothing on the screen. */
void run_progress_redraw(unsigned before, const char *text, unsigned lines, struct buf *out);

/* For what is no terminal: what was said last about a job. Zero-initialised is nothing yet. */
struct run_said {
    bool any;
    enum run_phase phase;
    int64_t place;
    uint64_t where; /* hash of server and node */
    int64_t tenth;
};
/* Is there something new worth a line? Then it is appended, with a newline. */
bool run_progress_plain(const struct run_view *v, struct run_said *said, struct buf *out);

#endif
