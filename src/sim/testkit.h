/* For the tests of this room: a server without sockets, threads or real time. */
#ifndef SIM_TESTKIT_H
#define SIM_TESTKIT_H

#include "sim/exec.h"

struct kit {
    struct clock clock;
    int64_t now_ms;
    uint64_t random;
    char dir[64];
    struct files files;
    struct models models;
    struct prompts prompts;
    struct exec *exec;
    struct buf trace;     /* what was sent, one short line each: "w1 executing 5" */
    struct buf last_json; /* the last text frame */
    struct buf last_binary;
    int metadata;
    enum exec_fault fault;
    int64_t slow_ms;
    int64_t waited_ms;     /* played time so far */
    int steps, stop_after; /* kit_run() stops after so many steps; 0: at the end */
    unsigned works;
    int64_t number;
};
void kit_init(struct kit *k);
void kit_fini(struct kit *k);
/* Checks and queues it; fails the test if it is not accepted. client NULL: none. Returns its id, valid while
 * it is there. */
const char *kit_submit(struct kit *k, const char *graph, const char *client);
/* Until nothing is left to run (or stop_after). */
void kit_run(struct kit *k);
/* The trace since the last call must be these lines (NULL ends). "status N" lines are left out. */
void kit_expect(struct kit *k, const char *const *lines);
/* history[id].<member>, parsed; the caller frees it. */
struct val *kit_history(struct kit *k, const char *id);
/* A 2x2 RGBA picture under that name in the input folder. */
void kit_upload(struct kit *k, const char *name, float level);

#endif
