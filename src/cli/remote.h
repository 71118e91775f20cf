/* One request to the gateway and its answer, for subcommands that do nothing else; and tables of what it
 * said. */
#ifndef CLI_REMOTE_H
#define CLI_REMOTE_H

#include "base/json.h"
#include "cli/opts.h"

struct remote_answer {
    int status;
    struct bytes *body; /* owned; NULL before remote_call */
    struct json root;   /* in body; none if it is not JSON */
};
void remote_fini(struct remote_answer *a);

/* Waits for the answer. body NULL: none, else JSON. Gives CLI_OK when the answer is a 2xx, a JSON object or empty; anything
 * else is told on standard error with code and cause. */
int remote_call(const char *command, const char *url, const char *method, const char *target,
                const struct buf *body, struct remote_answer *a);

/* ---- tables ---- */

struct table {
    unsigned columns;
    struct buf *cells; /* row after row; the first row is the head */
    size_t n, cap;
};
void table_init(struct table *t, unsigned columns, const char *const *heads);
void table_fini(struct table *t);
/* The next cell, to be filled; NULL and "" show as "-". */
void table_add(struct table *t, const char *text);
void table_addf(struct table *t, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Aligned; the last column is cut to a terminal's width. state_column: its words get a colour. */
void table_put(const struct table *t, const struct cli_term *term, int state_column, struct buf *out);

/* "12s", "3m", "2h", "5d": how long, in one unit. ms < 0: "". */
void remote_put_age(struct buf *out, int64_t ms);
/* A string member for a person: control characters taken out; "" when there is none. Caller frees. */
char *remote_text(struct json obj, const char *key);

#endif
