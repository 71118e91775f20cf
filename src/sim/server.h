/* One simulated ComfyUI server: its folders, queue, executor, sockets and routes. Loop thread only. */
#ifndef SIM_SERVER_H
#define SIM_SERVER_H

#include "net/worker.h"
#include "sim/fault.h"

struct sim_server;

struct sim_server_conf {
    const char *name;   /* drawn into pictures, told by system_stats */
    const char *listen; /* HOST:PORT; port 0 picks one */
    const char *state;  /* its folder */
    const char *checkpoints;
    unsigned vram_models, custom_nodes;
    double speed;
    uint64_t seed;
    int64_t history_lag_ms;
    const char *const *faults;
    size_t n_faults;
};
/* conf is copied. Listens before it returns (a start delay only holds back answers). */
struct sim_server *sim_server_new(struct loop *l, struct workers *w, const struct sim_server_conf *c,
                                  struct err *e);
void sim_server_free(struct sim_server **s);
const char *sim_server_addr(const struct sim_server *s); /* "127.0.0.1:8188" */

#endif
