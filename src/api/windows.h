/* The windows seen: which client ids each has used and which jobs it has submitted. In memory, bounded (what was heard
 * of longest ago is forgotten first); jobs are taken from the runner and the store when the process starts. */
#ifndef API_WINDOWS_H
#define API_WINDOWS_H

#include "base/clock.h"
#include "base/json.h"
#include "job/runner.h"

struct windows;

#define WINDOWS_MAX 10000
#define WINDOWS_JOBS 5000   /* of all windows together */
#define WINDOWS_CLIENTS 64  /* of one window */
#define WINDOWS_ID_MAX 1024 /* bytes of an id; a window of a longer one is not listed */

struct windows *windows_new(struct clock *c);
void windows_free(struct windows **w); /* before or after the store is closed */
/* Live jobs at once; then, as the store answers, the newest that have ended. */
void windows_start(struct windows *w, struct runner *r, struct store *s);
void windows_on_change(struct windows *w, const struct job_summary *job);
/* A request named this window. Only one that has submitted something is remembered. */
void windows_heard(struct windows *w, const char *tenant, const char *window_id);
/* {"windows":[…]} of one tenant, last heard of first; jobs without a window stand under null. */
void windows_put(struct windows *w, const char *tenant, struct jsonw *out);

#endif
