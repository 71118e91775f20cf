/* The gateway as the simulation runs it: the real rooms (fleet, blob, job, and the hub of api) put together as cli/serve.c
 * does, over the loop, the network and the disk of the simulation and the store in memory, which outlives it. */
#ifndef SCENARIO_GATEWAY_H
#define SCENARIO_GATEWAY_H

#include "api/hub.h"
#include "blob/blob.h"
#include "fleet/registry.h"
#include "job/runner.h"
#include "store/store_mem.h"

struct gateway_config {
    int64_t collect_ms, grace_ms; /* pause between collections, grace of a blob without reference */
    struct store_keep keep;       /* now is filled in */
    int64_t settle_ms;
};

/* What happens in it is looked at from here. */
struct gateway_watch {
    void (*on_ready)(void);
    void (*on_change)(const struct runner_job_view *job, enum job_state from, const struct runner_end *end);
};

struct gateway {
    struct loop *loop;
    struct workers *workers;
    struct blobs *blobs;
    struct registry *registry;
    struct runner *runner;
    struct hub *hub;
    struct fleet fleet; /* the registry's, watched */
    struct timer wake, collect;
    bool ready;
    unsigned life; /* grows with every start */
};

void gateway_start(struct gateway *g, struct store *s, const struct gateway_config *cfg,
                   const struct gateway_watch *w);
/* The configuration is read again: these servers (a bit each) stand in it. */
void gateway_configure(struct gateway *g, unsigned servers);
/* killed: SIGKILL, now; else SIGTERM: what was given to the store is still committed. */
void gateway_end(struct gateway *g, bool killed);

#endif
