/* What the gateway and its helper process `comfymux-image` say to each other, over a SOCK_SEQPACKET pair: one packet is
 * one message. Both are built together; the hello tells when they are not.
 *
 *     helper    image_hello                      once, when it is ready
 *     gateway   image_ask + two descriptors      the picture for reading, an empty file for what is made of it;
 *                       or three: picture, file, and a mask for reading (IMAGE_MASK)
 *     helper    image_answer                     one for each ask, in order
 *
 * The gateway ends a helper by closing its end. */
#ifndef IMAGE_IMAGE_WIRE_H
#define IMAGE_IMAGE_WIRE_H

#include <stdint.h>

#define IMAGE_WIRE_FD 3              /* the helper's end */
#define IMAGE_WIRE_MAGIC 0x636d7802u /* the last byte counts versions */

/* What is to be made of a picture. As ComfyUI's /view does it, but for the thumbnail. Also a part of cache keys: no
 * padding, and what means nothing for an op is 0. */
enum image_op {
    IMAGE_FILE,  /* nothing: the file itself. Never asked */
    IMAGE_WEBP,  /* the first frame; quality 0 to 100, beyond it IMAGE_REFUSED, as Pillow does */
    IMAGE_JPEG,  /* without transparency; quality beyond 100 counts as 100 */
    IMAGE_RGB,   /* PNG without transparency */
    IMAGE_ALPHA, /* PNG: black, with the transparency of a picture that has four channels, else opaque */
    IMAGE_THUMB, /* WebP that fits into size x size, turned upright, never larger than the picture */
    IMAGE_MASK, /* PNG: the picture with the transparency of a mask of the same size. What a PNG says of itself stays */
    IMAGE_OPS
};
struct image_want {
    uint8_t op;
    uint8_t rgb; /* IMAGE_WEBP: without transparency */
    uint16_t quality;
    uint32_t size; /* IMAGE_THUMB: pixels */
};

enum image_status {
    IMAGE_OK,
    IMAGE_REFUSED,     /* not one of the formats that are decoded, or an impossible wish */
    IMAGE_BROKEN,      /* cut short, or its bytes make no sense */
    IMAGE_TOO_LARGE,   /* more pixels, bytes or memory than allowed */
    IMAGE_NO_SPACE,    /* what was made could not be written */
    IMAGE_TIMEOUT,     /* it took too long, and was ended (what follows is never the helper's word) */
    IMAGE_CRASHED,     /* the helper died of it, or answered rubbish */
    IMAGE_BUSY,        /* too many wait */
    IMAGE_UNAVAILABLE, /* there is no helper, or it does not start, or the gateway is about to stop */
    IMAGE_STATUSES
};

struct image_hello {
    uint32_t magic;
    uint32_t confined; /* the system calls it may make are limited */
    char version[24];
};
struct image_ask {
    uint32_t magic, seq;
    struct image_want want;
};
struct image_answer {
    uint32_t magic, seq;
    uint32_t status; /* enum image_status up to IMAGE_NO_SPACE */
    uint32_t zero;
    int64_t size; /* bytes written */
    char why[160];
};

/* Limits. A picture of so many pixels fits into the memory, whatever its format. */
#define IMAGE_PIXELS_MAX INT64_C(100000000)
#define IMAGE_SIDE_MAX 65500
#define IMAGE_INPUT_MAX (INT64_C(256) << 20)  /* bytes of the file */
#define IMAGE_OUTPUT_MAX (INT64_C(256) << 20) /* bytes made of it */
#define IMAGE_MEMORY_MAX (INT64_C(2) << 30)   /* address space of the helper, libraries included */
#define IMAGE_CPU_S 30                        /* processor seconds for one picture */

#endif
