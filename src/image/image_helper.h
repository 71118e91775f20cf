/* One helper process: started when there is a picture to look at, watched, killed when it takes too long. Loop thread only.
 *
 *   ABSENT ──give──> STARTING ──hello──> BUSY ──answer──> IDLE ──give──> BUSY
 *      │                 │                 │                │ nothing to do, enough done, a broken file seen
 *      │ cannot spawn    └──── silent, dead, rubbish ───────┤
 *      └───────────────────────────────────────────> ENDING ┘
 *                                                       └──reaped──> ABSENT
 */
#ifndef IMAGE_IMAGE_HELPER_H
#define IMAGE_IMAGE_HELPER_H

#include "image/images.h"

struct image_helper;

/* How the picture that was given ended; IMAGE_UNAVAILABLE: no process could be started. why: for the call. Never inside
 * image_helper_give(). */
typedef void image_helper_done_cb(enum image_status st, int64_t size, const char *why, void *arg);
/* It can be given one again; after done. */
typedef void image_helper_free_cb(void *arg);

/* cfg lives as long as the helper. */
struct image_helper *image_helper_new(struct loop *l, const struct images_config *cfg,
                                      image_helper_done_cb *done, image_helper_free_cb *free_again,
                                      void *arg);
/* Kills and reaps; no callback comes any more. */
void image_helper_free(struct image_helper **h);
bool image_helper_can_take(const struct image_helper *h);
/* Descriptors stay the caller's; mask -1: none. */
void image_helper_give(struct image_helper *h, int in, int mask, int out, const struct image_want *want);
/* Processes that ended without having been asked to. */
uint64_t image_helper_died(const struct image_helper *h);

#endif
