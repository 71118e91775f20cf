/* What the files of the jobs API share. */
#ifndef API_NATIVE_JOBS_PRIV_H
#define API_NATIVE_JOBS_PRIV_H

#include "api/native.h"
#include "api/native_jobs.h"
#include "api/shared.h"

/* native_jobs_kept.c: what is kept. */

/* What a list shows of an ended job (comfy/job_card.h), or NULL: read it and put it. Valid until the next put. */
const char *jobs_card(struct native_jobs *j, const char *id);
const char *jobs_card_put(struct native_jobs *j, const char *id, struct bytes *history);

/* A whole answer that is still true, or NULL. finished: how many ended jobs the store has; retention takes some away without
 * a word. The body is the keeper's. */
struct bytes *jobs_body(struct native_jobs *j, const char *key, int64_t finished, const char **etag);
uint64_t jobs_generation(const struct native_jobs *j);
/* An answer worked out since this generation; kept if that is the present one. etag is filled in any case. */
#define JOBS_ETAG 40
void jobs_body_put(struct native_jobs *j, const char *key, int64_t finished, uint64_t generation,
                   struct bytes *body, char etag[JOBS_ETAG]);

struct shared **jobs_asked(struct native_jobs *j);

/* native_jobs_list.c */
/* {"error": text} */
void native_jobs_error(struct http_req *req, int status, const char *text);
/* A job as a list shows it, without the closing brace; card NULL while it lives. */
void native_put_job(struct buf *b, const struct job_summary *s, const char *status, const char *card);

#endif
