/* Decoding and encoding, in the helper process only: libvips behind a list of allowed formats and limits. */
#ifndef IMAGE_IMAGE_CONVERT_H
#define IMAGE_IMAGE_CONVERT_H

#include <stddef.h>

#include "image/image_wire.h"

/* Once. -1: the library does not start. */
int convert_init(void);
/* in: the picture, a file, read from its start. mask: likewise for IMAGE_MASK, else -1. out: an empty file. All stay the
 * caller's. why says in one line what
 * is wrong; it is set unless the status is IMAGE_OK. */
enum image_status convert(int in, int mask, int out, const struct image_want *want, char *why,
                          size_t why_size);

#endif
