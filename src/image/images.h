/* Pictures made of stored files: previews, channels, thumbnails. They are decoded in helper processes (comfymux-image),
 * never here: a hostile file costs its own picture, and at worst the helper that looked at it.
 *
 * Helpers are started when there is work and ended when there is none for a while. Each looks at one file at a time; one
 * that takes too long is killed, one that dies is replaced. What was made is kept in files, by the hash of the original
 * and the wish, up to a limit; what cannot be made is remembered too, so that it costs nothing the second time. Two that
 * ask for the same wait for one conversion.
 *
 * Loop thread only. */
#ifndef IMAGE_IMAGES_H
#define IMAGE_IMAGES_H

#include <stdbool.h>

#include "image/image_wire.h"
#include "net/loop.h"

#define IMAGE_HASH_LEN 32

struct images;

struct images_config {
    const char *helper; /* path of comfymux-image */
    const char *dir;    /* for what was made; made if need be, and EMPTIED at the start */
    int64_t cache_max;  /* bytes kept there */
    unsigned helpers;   /* processes at one time */
    unsigned queue_max; /* conversions that wait; beyond it IMAGE_BUSY */
    int64_t start_ms;   /* for a helper to say hello */
    int64_t timeout_ms; /* for one picture */
    int64_t idle_ms;    /* a helper without work is ended */
    int64_t retry_ms;   /* after one did not start nobody tries for so long */
    int64_t forgive_ms; /* a timeout or crash is remembered for so long */
};
/* The values for a gateway: helper is looked for beside this program. Free the path. */
char *images_helper_path(void);
extern const struct images_config images_config_default;

/* NULL: the folder cannot be used. */
struct images *images_new(struct loop *l, const struct images_config *cfg, struct err *e);
/* Who waits is told IMAGE_UNAVAILABLE. Helpers are killed. */
void images_free(struct images **im);
/* May a picture be asked for? False while there is no helper, or it does not start: said in the log, once. */
bool images_usable(struct images *im);

struct image_result {
    enum image_status status;
    int fd; /* IMAGE_OK: the picture, for reading, the callback's to close; else -1 */
    int64_t size;
    const char *why; /* one line, unless IMAGE_OK; for the call */
};
typedef void image_cb(const struct image_result *r, void *arg);
/* fd: the file whose bytes have this hash, taken over. cb once, never inside this call. */
void images_convert(struct images *im, const uint8_t hash[IMAGE_HASH_LEN], int fd,
                    const struct image_want *want, image_cb *cb, void *arg);

/* The picture with the mask's transparency (IMAGE_MASK). Both descriptors are taken over; hash is of the two together. */
void images_compose(struct images *im, const uint8_t hash[IMAGE_HASH_LEN], int fd, int mask, image_cb *cb,
                    void *arg);

const char *image_mime(enum image_op op);
/* "refused" "broken" "too_large" ...: for the log. */
const char *image_status_str(enum image_status st);

struct images_counts {
    uint64_t made, failed, from_cache,
        died;               /* died: helpers that ended on their own or were killed for silence */
    unsigned waiting, kept; /* now: conversions that wait or run, files and failures remembered */
    int64_t bytes;          /* of those files */
};
void images_counts(const struct images *im, struct images_counts *out);

#endif
