/* Bugs put in on purpose, one at a time, to see that the simulation (test/scenario) catches them: a line of the code that
 * asks PLANTED(NAME) does the wrong thing when that bug was chosen. Only a build with -Dplanted=true has them; in every
 * other build PLANTED() is the constant false and the compiler removes what it guards. */
#ifndef BASE_PLANT_H
#define BASE_PLANT_H

#include <stdbool.h>

/* In the order of the table that the simulation prints. */
#define PLANTS(X)                                                                                            \
    X(EFFECT_BEFORE_COMMIT, "effect before commit")                                                          \
    X(COMMIT_UNCHECKED, "commit without version check")                                                      \
    X(HISTORY_BEFORE_QUEUE, "history read before queue")                                                     \
    X(BLOB_NOT_SYNCED, "terminal state before blob fsync")                                                   \
    X(FOLDER_NOT_SYNCED, "directory not fsynced")                                                            \
    X(STRAY_NOT_CHASED, "stray not chased")                                                                  \
    X(PAID_RETRIED, "retry of a paid graph")                                                                 \
    X(LATE_EVENT_APPLIED, "late event of attempt 1 applied")                                                 \
    X(TWO_EVENTS_ONE_STEP, "two inbox events in one step")                                                   \
    X(BLOB_UNPINNED, "blob collected between put and reference")                                             \
    X(STAGED_KEPT, "staged cache kept over a server restart")                                                \
    X(INTERRUPT_ASTRAY, "interrupt sent to a wrong server")                                                  \
    X(LAST_WORD_LOST, "executing{null} lost on failure")                                                     \
    X(EVENT_ID_REUSED, "event id reused after restart")                                                      \
    X(CANCELED_SHOWS_OUTPUT, "cancel during collect shows output")                                           \
    X(SLOT_FREED_EARLY, "slot freed while the server still runs our work")                                   \
    X(ABSENT_BELIEVED_ONCE, "lookup \"not there\" believed once")                                            \
    X(FENCE_NEVER_LIFTED, "fence never lifted")                                                              \
    X(UNSURE_LOST, "end on its way to a client that vanished lost")                                          \
    X(OWED_FORGOTTEN, "end that a killed gateway did not tell lost")

enum plant {
    PLANT_NONE,
#define PLANT_NUMBER(name, what) PLANT_##name,
    PLANTS(PLANT_NUMBER)
#undef PLANT_NUMBER
        PLANT_COUNT
};

#ifdef COMFYMUX_PLANTED
extern enum plant plant_chosen; /* set before anything runs; not changed while threads do */
#define PLANTED(name) (plant_chosen == PLANT_##name)
#else
#define PLANTED(name) false
#endif

#endif
