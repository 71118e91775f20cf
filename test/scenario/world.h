/* A fleet of scripted ComfyUI servers on virtual time, behind fleet/fleet.h. Everything that goes wrong here
 * is drawn from the seed. It keeps its own account of what each server really did, for the checker. */
#ifndef SCENARIO_WORLD_H
#define SCENARIO_WORLD_H

#include "base/clock.h"
#include "base/heap.h"
#include "base/list.h"
#include "fleet/fleet.h"
#include "store/store.h"

#define WORLD_SERVERS 4

struct world_faults { /* per mille of the times it could happen */
    int die, link_drop, post_lost, post_refused, reject, history_lag, history_bad, fetch_bad, exec_error, oom,
        interrupted, late_event, repeat_event, hang, disk_full, slow;
};

/* One execution, as the server knows it. */
struct world_prompt {
    struct list link; /* server.queue or server.history */
    char upstream_id[UUID_SIZE];
    int64_t done_at;    /* virtual ms when it will end; 0: waiting */
    int64_t in_history; /* virtual ms from which history shows it */
    enum { WORLD_OK, WORLD_ERROR, WORLD_OOM, WORLD_INTERRUPTED } verdict;
    bool hang;
};
struct world_server {
    char name[8];
    bool up, link;
    unsigned life; /* grows with every restart */
    struct list queue, history;
    int64_t back_at;
    unsigned executed;
};

struct world {
    struct fleet fleet;
    struct clock clock;
    uint64_t rng;
    int64_t mono, wall_offset;
    unsigned epoch; /* of the gateway: answers to an earlier one are dropped */
    struct store *store;
    struct heap events;
    struct list pinning; /* calls that wait for the store */
    struct world_server servers[WORLD_SERVERS];
    const struct fleet_listener *listener;
    void *listener_arg;
    struct world_faults faults;
    struct world_run *runs; /* by upstream id: every time a server began to run something */
    int broken;             /* broken rules that the world itself saw */
    char why[200];
};

/* What a server did with one upstream id. */
struct world_run {
    char upstream_id[UUID_SIZE];
    char server[8];
    unsigned life;
    int began;     /* how often it began to run */
    int64_t ended; /* virtual ms, 0: not */
    void *hh[8];   /* room for the table's handle */
};

void world_init(struct world *w, uint64_t seed, struct store *store);
void world_fini(struct world *w);
uint32_t world_rnd(struct world *w, uint32_t n);
bool world_chance(struct world *w, int per_mille);
/* At virtual time mono + ms. Dropped if the gateway has crashed since, when tied to it. */
typedef void world_cb(struct world *w, void *arg);
void world_at(struct world *w, int64_t ms, bool tied, world_cb *cb, void *arg);
/* Run the next event, moving time on. False: none left. */
bool world_next(struct world *w);
bool world_has_next(const struct world *w, int64_t *at);
/* The gateway died: its calls are never answered. */
void world_crash(struct world *w);
/* No more faults; dead servers come back. */
void world_heal(struct world *w);
/* Began to run, over all servers and lives. */
int world_began(const struct world *w, const char *upstream_id);
const struct world_run *world_run_of(const struct world *w, const char *upstream_id);
/* The content of a file that this attempt made on this server. */
void world_hash(const char *server, const char *upstream_id, const char *filename, uint8_t out[BLAKE3_LEN]);

#endif
