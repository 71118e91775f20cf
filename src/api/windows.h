/* The windows seen: which client ids each has used and which jobs it has submitted. In memory, bounded; jobs are taken
 * from the store when the process starts. */
#ifndef API_WINDOWS_H
#define API_WINDOWS_H

#include "base/clock.h"
#include "base/json.h"
#include "job/runner.h"

struct windows;

struct windows *windows_new(struct clock *c);
void windows_free(struct windows **w);
void windows_start(struct windows *w, struct runner *r);
void windows_on_change(struct windows *w, const struct job_summary *job);
/* {"windows":[…]} of one tenant; jobs without a window stand under null. */
void windows_put(struct windows *w, const char *tenant, struct jsonw *out);

#endif
