/* What happens to a job: one pure function. No I/O, no clock, no allocation.
 *
 *   queued ──> dispatching ──> running ──> collecting ──> succeeded
 *     │            │  │           │  │         │  │
 *     │            │  └──> queued │  └> queued │  └> queued      a fault that another server may not have
 *     │            │              │            │
 *     └────────────┴──────────────┴────────────┴───> canceled    from every live state
 *     └──> expired         └──────┴────────────┴───> failed      queued too: no server can ever run it
 *
 *   state        event                          next          committed with it        effects after the
 * commit queued       PLACED                         dispatching   a new attempt            SUBMIT
 *                UNPLACEABLE                    failed        no_capable_server        FINISH
 *                TICK past the deadline         expired       expired                  FINISH
 *                RECOVER                        -                                      ENQUEUE
 *   dispatching  ACCEPTED, a sign of life       running       started_at               -
 *                REFUSED (never reached it)     queued        attempt ends, not spent  ENQUEUE
 *                REJECTED                       queued/failed server_rejected, or      ENQUEUE / FINISH
 *                                                             validation_failed if we had not checked it
 *                POST_LOST, RECOVER             -             (finding begins)         FIND
 *   running      ENDED, FOUND in history        collecting    -                        HISTORY
 *                TICK while events are silent   -                                      FIND
 *   dispatching, FOUND queued or running        running / -                            -
 *   running      ABSENT, twice, >= 2 s apart    queued/failed see job_absent_code()    ENQUEUE / FINISH
 *                silent for timeout.lost        queued/failed server_lost, stray       ENQUEUE / FINISH
 *   running      no progress for timeout.stall, queued/failed stalled, stray           ENQUEUE / FINISH
 *                or found where the worker is dead
 *   dispatching, REMOVED                        queued        server_lost, stray, not  ENQUEUE
 *   running, collecting                                       spent; paid: failed
 *   collecting   HISTORY success                -             (verdict kept)           COLLECT
 *                HISTORY error                  queued/failed its code                 ENQUEUE / COLLECT
 *                HISTORY not there, no answer   -             (asked again)            HISTORY
 *                ... for timeout.history        queued/failed history_missing, history_unavailable;
 *                                                             server_restarted if the link had dropped since
 *                COLLECTED                      succeeded     history, outputs         FINISH
 *                COLLECT_FAILED                 queued/failed its code                 ENQUEUE / FINISH
 *                NO_ROOM                        -             (collected again)        COLLECT
 *   any live     CANCEL                         canceled      stray if it was sent     FINISH
 *   any ended    anything                       -                                      -
 *
 * Whether a failed attempt leads to queued or failed is one table: job_retry_rule().
 *
 * Two kinds of knowledge: `hard` is what the store has (it changes only by a committed update), `soft` is
 * what this process has noticed since; it is lost in a crash and built again by finding. An update says what
 * to commit, the soft knowledge afterwards, the effects to run once the commit has happened (at once if there
 * is none), and when to ask again with TICK. */
#ifndef JOB_JOB_FSM_H
#define JOB_JOB_FSM_H

#include <stdbool.h>
#include <stdint.h>

#include "store/record.h"

struct job_hard {
    enum job_state state;
    int attempt; /* number of the latest attempt; never falls */
    int spent; /* attempts that count against max_attempts: a dispatch that provably did not start does not */
    uint32_t flags;     /* JOB_F_* */
    int64_t deadline;   /* wall ms, 0 none: queued longer than this is expired */
    int64_t not_before; /* wall ms */
};

struct job_soft {
    int64_t since;      /* mono ms: in this state, as far as this process knows */
    int64_t heard;      /* mono ms: last answer or event from the server about this attempt */
    int64_t progressed; /* mono ms: last sign that it advances */
    int64_t absent_at;  /* mono ms of the first lookup that did not find it; 0: none */
    int64_t ended_at;   /* mono ms of the first sign that it ended; 0: none */
    int64_t refused_at; /* mono ms of the first of refused connections in a row; 0: none */
    int64_t next_at;    /* mono ms: not before this the next FIND, HISTORY or COLLECT */
    int tries;          /* HISTORY or COLLECT: how often it was asked for */
    bool asking;        /* one of these is under way; its answer is certain to come */
    bool posting;       /* the POST's connection has not ended yet */
    bool started;       /* the server began to run it */
    bool link_dropped;  /* the server's socket dropped since the dispatch; collecting: since the end */
    bool answered;      /* collecting: history was readable, but without the prompt, when it was last asked */
    bool judged;        /* collecting: history was read; verdict is valid */
    enum job_code verdict;
};

enum job_event_kind {
    JOB_EV_RECOVER, /* the process has just started; soft is empty */
    JOB_EV_TICK,    /* the time asked for with wake has come */
    JOB_EV_CANCEL,
    JOB_EV_PLACED,          /* the scheduler chose a server */
    JOB_EV_UNPLACEABLE,     /* every configured server is known and none can run it */
    JOB_EV_ACCEPTED,        /* POST /prompt: 200 */
    JOB_EV_REJECTED,        /* POST /prompt: 400; or another refusal that says it was not taken */
    JOB_EV_REFUSED,         /* provably nothing of the POST reached the server */
    JOB_EV_UNSENDABLE,      /* it cannot be sent to any server: an input or a secret is gone. code, message */
    JOB_EV_STAGE_FAILED,    /* its inputs could not be put onto this server; the POST was not sent */
    JOB_EV_POST_LOST,       /* the POST's connection ended without an answer */
    JOB_EV_STARTED,         /* the server says that it runs now */
    JOB_EV_PROGRESS,        /* any event of this attempt */
    JOB_EV_ENDED,           /* a terminal event of this attempt, or executing{node:null} */
    JOB_EV_FOUND,           /* lookup: in the server's queue. running says which list */
    JOB_EV_FOUND_ENDED,     /* lookup: in the server's history */
    JOB_EV_ABSENT,          /* lookup: /queue, then /history: in neither */
    JOB_EV_UNREACHABLE,     /* lookup: no answer */
    JOB_EV_LINK_DROPPED,    /* the server's socket is gone */
    JOB_EV_REMOVED,         /* the server is no longer configured: nothing will be heard of it again */
    JOB_EV_HISTORY,         /* history holds it. code: JOB_OK or why it failed */
    JOB_EV_HISTORY_NOT_YET, /* 200, without it */
    JOB_EV_HISTORY_FAILED,  /* no answer, not 200, or not understood */
    JOB_EV_COLLECTED,       /* every output is stored */
    JOB_EV_COLLECT_FAILED,  /* code, message */
    JOB_EV_NO_ROOM,         /* the store had no room to write down that an output did not fit */
};
#define JOB_EVENTS (JOB_EV_NO_ROOM + 1)
const char *job_event_name(enum job_event_kind k);

struct job_event {
    enum job_event_kind kind;
    bool running;      /* FOUND */
    bool dead;         /* FOUND: the server's worker is dead, it will not come to an end there */
    bool refused;      /* UNREACHABLE, HISTORY_FAILED: the connection was refused or reset */
    bool answered;     /* HISTORY_FAILED: the server answered, but not usably */
    bool elsewhere;    /* another capable server is configured that has not failed this job */
    bool device_fault; /* HISTORY with execution_error: CUDA, HIP, cuDNN */
    bool doubtful;     /* HISTORY, execution_error: the server's latest result was none, others succeed */
    enum job_code
        code; /* HISTORY, COLLECT_FAILED, UNSENDABLE; REJECTED: VALIDATION_FAILED if it judged the graph */
    const char *message; /* for the record; valid during the call; NULL: a text of ours */
};

struct job_policy {
    int max_attempts;
    int64_t lost_ms, stall_ms, history_ms, queue_ms; /* queue_ms 0: for ever */
};
extern const struct job_policy job_policy_default;

/* What to do after the commit (or at once). */
#define JOB_FX_ENQUEUE 1u  /* give it to the scheduler */
#define JOB_FX_SUBMIT 2u   /* stage its inputs and POST it */
#define JOB_FX_FIND 4u     /* GET /queue, then GET /history/{id} */
#define JOB_FX_HISTORY 8u  /* GET /history/{id} */
#define JOB_FX_COLLECT 16u /* fetch and store what history lists */
#define JOB_FX_FINISH 32u  /* tell everyone; forget it */

struct job_update {
    bool commit; /* the fields below are to be committed; otherwise only soft, effects, wake count */
    enum job_state state;
    uint32_t flags;
    int spent;
    int64_t not_before;  /* wall ms, at most JOB_WAIT_MOST_MS from now */
    bool begin;          /* a new attempt, number hard.attempt + 1 */
    bool end;            /* the present attempt ends with code */
    enum job_code code;  /* of the attempt, and of the job if the state is terminal */
    const char *message; /* NULL: none */
    bool stray;          /* work may be left on the server */
    bool started;
    struct job_soft soft;
    unsigned effects;
    int64_t wake; /* mono ms for TICK, replacing what was set before; 0: none */
};

/* A job that was queued again waits no longer than this. A time further away was written before the wall clock was set
 * back: it says nothing. */
#define JOB_WAIT_MOST_MS 1000

/* Every effect that waits on a server (SUBMIT, FIND, HISTORY, COLLECT) is certain to be answered with an
 * event: its own timeouts see to that. So a live job always has a wake, an answer to come, or a place in the
 * scheduler.
 *
 * mono and wall: the two clocks, ms. *up is filled completely. Ended jobs give an update that does nothing.
 */
void job_step(const struct job_hard *hard, const struct job_soft *soft, const struct job_event *ev,
              int64_t mono, int64_t wall, const struct job_policy *pol, struct job_update *up);

/* May it be run again after a failure with this code? The table and its reasons. */
enum job_retry { JOB_RETRY_NEVER, JOB_RETRY_ELSEWHERE, JOB_RETRY_ANYWHERE };
struct job_retry_rule {
    enum job_code code;
    enum job_retry retry;
    const char *reason;
};
const struct job_retry_rule *job_retry_rule(enum job_code code);

#endif
