/* How a server is: evidence in, state out. Pure: no I/O, no clock, no allocation; watch.c carries out what is
 * asked for. Times are monotonic ms of the caller's clock, above 0.
 *
 * Evidence is passive first: the socket, the answers to calls that are made anyway, the results of jobs, what
 * /queue shows when a silent job is looked up. A cheap question (GET /prompt) comes only when those are in
 * doubt. A server that is busy may be slow to answer, so silence makes it suspect for ten seconds before it
 * counts as down; a refused connection does so at once.
 *
 *              socket open and it answers
 *   DOWN ──────────────────────────────────> UP <────────────┐
 *     ^ ^                                     │ socket lost,  │ socket open and it answers
 *     │ └───────────── refused ───────────────┤ a call failed │
 *     │                                       v               │
 *     └── refused, or no answer for 10 s ── SUSPECT ──────────┘
 *
 * Over that lie the operator's word (DRAINING), and the fence for a server that is up:
 *
 *   OFF ── five results in a row that are its fault ──> ON ── its time is over ──> TRIAL ── a success ──> OFF
 *    │                                                  ^ │                         │
 *    │                                                  │ └─ it restarted ────────> │
 *    └── its worker is dead ────────────────────────────┴───── a fault ────────────┘
 *
 * What is its fault: lost, stalled, no history, no output, not dispatched, a fault of the device. What may
 * be its fault (an exception in a node, out of memory, a refusal) counts when another server has had a success
 * since the row began, and is taken back when the same job comes to the same end elsewhere. The fence stands
 * for 30 s, twice as long each time, at most 10 minutes; on trial one job at a time is given to it.
 *
 * Its worker is dead, or stuck for good, while HTTP answers (ComfyUI 0.3.64 after some requests): prompts wait
 * and none runs, or what runs is the same and silent for timeout.stall. Such a fence goes on trial only after
 * something has moved, after a restart, or when its time is over and its queue is empty. */
#ifndef FLEET_HEALTH_H
#define FLEET_HEALTH_H

#include "fleet/fleet.h"

#define HEALTH_SUSPECT_MS 10000
#define HEALTH_ASK_SUSPECT_MS 1000 /* a question each second while suspect */
#define HEALTH_ASK_DOWN_MS 5000    /* while down, with an open socket */
#define HEALTH_LOOK_MS 10000       /* GET /queue while its worker is held for dead */
#define HEALTH_FENCE_AFTER 5
#define HEALTH_FENCE_LEAST_MS 30000
#define HEALTH_FENCE_MOST_MS 600000
#define HEALTH_IDLE_MS 60000 /* prompts wait and none runs: between two prompts it may free memory first */
#define HEALTH_IDLE_TRIAL_MS 10000 /* the same on trial */
#define HEALTH_LATE_MS 3000 /* an event that comes this long after the lookup that knew already is late */

enum health_fence { FENCE_OFF, FENCE_ON, FENCE_TRIAL };
enum health_cause { FENCE_FOR_JOBS, FENCE_FOR_WORKER };

/* What a body of GET /queue says. */
struct health_queue {
    int running, pending;
    uint64_t running_sig; /* of the ids that run; only the worker changes it */
    uint64_t head_sig;    /* of the id that is next */
};

struct health {
    enum fleet_state seen; /* UP, SUSPECT or DOWN, by evidence */
    char why[160];
    bool link, drained;
    int64_t suspect_at;
    int64_t ask_at; /* when it is asked next; 0: not */
    int64_t heard_at;

    enum health_fence fence;
    enum health_cause cause; /* of the latest fence */
    char fence_why[160];
    int64_t fence_ms, fence_until; /* how long the latest is; ON: when it is over */
    unsigned faults, errors;       /* results in a row that are its fault; that may be */
    int64_t streak_at, ok_at;
    bool proven; /* its last result was a success */

    struct health_queue queue;
    bool queue_known;
    int64_t still_at;   /* nothing has moved since */
    int64_t waiting_at; /* since then prompts wait and none runs; 0: that is not so */
    int64_t look_at;
    int64_t stall_ms; /* timeout.stall; set by the caller, 0: 30 minutes */

    int64_t unheard_at; /* a lookup knew of an end that no event has told; 0: none */
    bool late;          /* its events are late */

    uint64_t good, bad, fences, restarts; /* for /metrics */
};

void health_init(struct health *h);

/* --- evidence --- */
/* known: whether it has restarted will be told. */
void health_link_open(struct health *h, int64_t now, bool known);
void health_link_lost(struct health *h, const char *why, int64_t now);
void health_link_failed(struct health *h, const char *why, int64_t now); /* it could not be opened */
/* Its socket has been silent although a ping was sent: a question tells more. */
void health_link_quiet(struct health *h, int64_t now);
void health_answered(struct health *h, int64_t now);
void health_trouble(struct health *h, const char *why, int64_t now); /* no or no good answer */
void health_refused(struct health *h, const char *why, int64_t now);
/* A job's result. others_ok_at: of the latest success of another server, 0: none. */
void health_result(struct health *h, enum job_code code, enum fleet_blame blame, int64_t others_ok_at,
                   int64_t now);
void health_queue_seen(struct health *h, const struct health_queue *q, int64_t now);
void health_event(struct health *h, int64_t now); /* its socket told of the execution of a prompt */
/* A lookup found a prompt ended of which the open socket has not told. */
void health_unheard(struct health *h, int64_t now);
void health_restarted(struct health *h, int64_t now);
void health_drain(struct health *h, bool drained);

/* --- what follows --- */
/* Time has come: returns what is to be done now. */
#define HEALTH_ASK 1u  /* GET /prompt */
#define HEALTH_LOOK 2u /* GET /queue */
unsigned health_tick(struct health *h, int64_t now);
int64_t health_next(const struct health *h); /* when health_tick() is due; 0: never */
/* why: valid until the next change. */
enum fleet_state health_state(const struct health *h, const char **why);
bool health_on_trial(const struct health *h);
/* Nothing that waits or runs there will come to an end. */
bool health_worker_dead(const struct health *h);

#endif
