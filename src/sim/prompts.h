/* The prompt queue and the history of one server, as ComfyUI keeps them: a heap by (number, id) whose array
 * order is what GET /queue shows, one running prompt, and a ring of 10,000 finished ones in order of
 * completion.
 *
 * Loop thread only; no I/O. Whoever changes the queue calls the changed callback, which broadcasts `status`.
 */
#ifndef SIM_PROMPTS_H
#define SIM_PROMPTS_H

#include "sim/value.h"

#define HISTORY_MAX 10000

struct prompt {
    bool whole; /* number counts as an int: given by the server */
    double number;
    char *id;
    struct val *graph;   /* as checked; never changed afterwards */
    struct val *extra;   /* extra_data without secrets */
    struct val *outputs; /* ids to execute */
    unsigned nth;        /* the how-manyth prompt of this server, from 1: for fault selectors */
};
void prompt_free(struct prompt *p); /* NULL is fine */
/* number as it is shown: 3 or 3.0. Appended. */
void prompt_put_number(struct buf *b, const struct prompt *p);

struct history;
struct prompts {
    struct prompt **heap;
    size_t n, cap;
    struct prompt *running;
    struct history *history; /* oldest first */
    void (*changed)(void *arg);
    void *arg;
};
void prompts_init(struct prompts *q, void (*changed)(void *arg), void *arg);
void prompts_fini(struct prompts *q);
size_t prompts_remaining(const struct prompts *q); /* pending and running */

/* Takes over p. */
void prompts_push(struct prompts *q, struct prompt *p);
/* The next one becomes `running`, or NULL. */
struct prompt *prompts_start(struct prompts *q);
/* The running one has ended: tail is what follows "prompt" in its history entry, `"outputs": {...}, ...`. */
void prompts_done(struct prompts *q, const char *tail, size_t n);
/* As if it had never been there, without a word to anyone: for injected faults. */
void prompts_forget_running(struct prompts *q);
bool prompts_delete(struct prompts *q, const char *id); /* a pending one */
void prompts_clear(struct prompts *q);                  /* all pending */
bool prompts_is_pending_twin(const struct prompts *q, const struct prompt *p);

/* The answer of GET /queue. Appended. */
void prompts_put_queue(const struct prompts *q, struct buf *b);

/* The answer of GET /history. max NULL: no limit; offset < 0: the newest. Odd numbers give what ComfyUI
 * gives. */
void history_put(const struct prompts *q, struct buf *b, const long *max, long offset);
void history_put_one(const struct prompts *q, struct buf *b, const char *id); /* {} if unknown */
void history_delete(struct prompts *q, const char *id);
void history_clear(struct prompts *q);
size_t history_count(const struct prompts *q);

#endif
