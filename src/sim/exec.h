/* Runs one prompt at a time, as ComfyUI's PromptExecutor: which node comes next, what is taken from the
 * cache, and every event in the order the recordings show (0.3.75).
 *
 *   IDLE ── exec_start ──> PICK ──> RUN ──> PICK ... ──> LAG ──> IDLE
 *                            ^       │ a node waits (timer) or works (worker thread)
 *                            └───────┘
 *
 * Pure but for node files: no clock but the given one, no timers, no threads. Whoever drives it calls
 * exec_step() and does what the answer says. Loop thread only, but for exec_work(). */
#ifndef SIM_EXEC_H
#define SIM_EXEC_H

#include "sim/nodes.h"
#include "sim/prompts.h"

struct exec;

/* Where events go. sid NULL: to every socket; else to the socket of that id, if there is one. */
struct exec_sink {
    void *arg;
    void (*text)(void *arg, const char *sid, const char *json, size_t n);
    void (*binary)(void *arg, const char *sid, const void *data, size_t n);
    /* Does that client take previews with metadata? 1 yes, 0 no, -1: its flags are null, which fails the
     * node. */
    int (*metadata)(void *arg, const char *sid);
};

enum exec_fault { EXEC_FINE, EXEC_OOM, EXEC_CUDA, EXEC_NODE_ERROR, EXEC_HANG };
enum exec_mark { EXEC_STARTED, EXEC_ENDED }; /* execution_start is out; the terminal event is out */

struct exec_conf {
    struct exec_sink sink;
    struct prompts *prompts;
    struct files *files;
    struct models *models;
    struct clock *clock;
    const char *server; /* name drawn into pictures */
    int64_t history_lag_ms;
    /* May be NULL. What goes wrong with this prompt; how long it waits before its first node, and between its
     * last event and history (preset to history_lag_ms). */
    enum exec_fault (*fault)(void *arg, const struct prompt *p, int64_t *slow_ms, int64_t *lag_ms);
    void (*mark)(void *arg, enum exec_mark m, const struct prompt *p);
    void *arg;
};

struct exec *exec_new(const struct exec_conf *c);
/* Not while exec_step() said EXEC_WORK and the work is not done. */
void exec_free(struct exec **x);

/* Begins with prompts->running, which must be set. */
void exec_start(struct exec *x);
enum exec_next {
    EXEC_IDLE, /* the prompt is in history (or nothing runs) */
    EXEC_WAIT, /* again after *ms (0: next turn; < 0: never, it hangs) */
    EXEC_WORK, /* call exec_work() on any thread, then exec_step() on the loop thread */
};
/* ms: before --speed; *real: lags are not divided by --speed. */
enum exec_next exec_step(struct exec *x, int64_t *ms, bool *real);
void exec_work(struct exec *x);
/* How much the work weighs, in samples: small work may be done where one stands. */
size_t exec_work_size(const struct exec *x);

bool exec_busy(const struct exec *x);
void exec_interrupt(struct exec *x); /* seen at the next tick or node; forgotten when a prompt starts */
/* The node that a reconnecting owner is told about: true if that client owns the running prompt and a node is
 * current. */
bool exec_current(const struct exec *x, const char *sid, const char **display_node);
void exec_drop_cache(struct exec *x); /* POST /free with free_memory; only between prompts */
/* The server is killed: what runs is gone without a word. Not while work is under way. */
void exec_abandon(struct exec *x);

#endif
