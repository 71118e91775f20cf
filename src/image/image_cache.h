/* What was made of pictures, in files, and what could not be made: the least recently used goes first. Everything is
 * forgotten at the start: the files are not synced, so after a power loss nobody could vouch for them. Loop thread only. */
#ifndef IMAGE_IMAGE_CACHE_H
#define IMAGE_IMAGE_CACHE_H

#include "base/err.h"
#include "image/images.h"

struct image_key {
    uint8_t hash[IMAGE_HASH_LEN];
    struct image_want want;
};
struct image_cache;

/* Empties the folder. NULL: it cannot be used. */
struct image_cache *image_cache_new(const char *dir, int64_t bytes_max, struct err *e);
void image_cache_free(struct image_cache **c);

enum image_hit { IMAGE_MISS, IMAGE_HIT, IMAGE_HIT_FAILED };
/* HIT: *fd and *size. FAILED: *st and *why (until the next call). */
enum image_hit image_cache_find(struct image_cache *c, const struct image_key *k, int64_t now, int *fd,
                                int64_t *size, enum image_status *st, const char **why);
/* An empty file to be filled; *name is its path, the caller's to free. -1 with *e. */
int image_cache_begin(struct image_cache *c, char **name, struct err *e);
void image_cache_abort(struct image_cache *c, const char *name);
/* It is filled with size bytes. Older ones go while there are too many, this one last. -1: it could not be kept. */
int image_cache_put(struct image_cache *c, const struct image_key *k, const char *name, int64_t size,
                    int64_t now);
/* until: monotonic ms; INT64_MAX for ever. */
void image_cache_put_failure(struct image_cache *c, const struct image_key *k, enum image_status st,
                             const char *why, int64_t now, int64_t until);
/* What nobody has asked for since then goes. */
void image_cache_drop_before(struct image_cache *c, int64_t mono_ms);
void image_cache_counts(const struct image_cache *c, unsigned *entries, int64_t *bytes);

#endif
