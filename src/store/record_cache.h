/* Records that were read lately, so that those who poll a job do not wait for the reader. Bounded in bytes; who was asked
 * for longest ago goes first. Loop thread only. Private to store/.
 *
 * A record here is never older than the last write whose answer was delivered: the owner says of each write what it may
 * have changed, and what was read meanwhile is not taken. */
#ifndef STORE_RECORD_CACHE_H
#define STORE_RECORD_CACHE_H

#include "store/record.h"

struct record_cache;

struct record_cache *record_cache_new(size_t bytes);
void record_cache_free(struct record_cache **c);

size_t record_cache_bytes(const struct record_cache *c); /* that it holds, about */
/* With exactly these JOB_PART_*. A reference for the caller, or NULL. */
struct job_record *record_cache_get(struct record_cache *c, const char *id, uint32_t parts);
/* To be asked when a read is given. */
uint64_t record_cache_now(const struct record_cache *c);
/* What that read has told. Not taken if a write was delivered since, if it holds secrets, or if it is large. */
void record_cache_put(struct record_cache *c, const char *id, uint32_t parts, struct job_record *rec,
                      uint64_t asked);
/* A write is delivered that may have changed this job; NULL: any. */
void record_cache_changed(struct record_cache *c, const char *id);

#endif
