/* What each server did lately: how long its jobs took, and which models they loaded. Since the start, in memory; of a fixed
 * size for each of at most RECENT_SERVERS servers, of which the one that was idle longest is forgotten. Loop thread only. */
#ifndef API_MUX_RECENT_H
#define API_MUX_RECENT_H

#include "store/record.h"

#define RECENT_SERVERS 256
#define RECENT_JOBS 32
#define RECENT_MODELS 16

struct recents;

struct recents *recents_new(void);
void recents_free(struct recents **r);
/* A committed change of a job, as runner_listener has it. */
void recents_on_change(struct recents *r, const struct job_summary *s, enum job_state from);
/* Another server may have this name from now on. */
void recents_forget(struct recents *r, const char *server);

struct recent {
    unsigned jobs;              /* the latest attempts that succeeded there, at most RECENT_JOBS */
    int64_t median_ms, mean_ms; /* from when they were given to it to when all was stored; 0 without jobs */
    const char *models
        [RECENT_MODELS]; /* files that its latest jobs loaded, newest first; valid until the next change */
    size_t n_models;
};
void recents_of(const struct recents *r, const char *server, struct recent *out);

/* Is it a file of weights, by its name? "sd/a.safetensors" */
bool recent_is_model(const char *name);

#endif
