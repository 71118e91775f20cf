/* What the jobs API keeps between requests. Loop thread only. */
#ifndef API_NATIVE_JOBS_H
#define API_NATIVE_JOBS_H

#include "api/api_priv.h"

struct native_jobs;

struct native_jobs *native_jobs_new(void);
void native_jobs_free(struct native_jobs **j);
/* A job has changed, or stands in no listing any more: what was worked out before is no longer true. */
void native_jobs_changed(struct native_jobs *j);
/* It has ended with this history entry: what lists show of it, so that it need not be read again. */
void native_jobs_ended(struct native_jobs *j, const char *id, struct bytes *history);

#endif
