/* Pictures made of stored files, as answers: previews and channels of /view, thumbnails. */
#ifndef API_PICTURE_H
#define API_PICTURE_H

#include "api/api_priv.h"

/* What `preview` and `channel` of /view ask for, as ComfyUI 0.3.75 reads them; NULL: not given. op is IMAGE_FILE for the
 * file itself. Pure. */
struct image_want picture_wanted(const char *preview, const char *channel);

/* Can b->want be fulfilled here? If not, the file itself is what is sent. */
bool picture_possible(struct api *a, const struct api_blob *b);
/* fd holds the sound bytes of b, and is taken over. What cannot be made: 500 without our shape, as ComfyUI; in our shape
 * 415, or 503 if it is not the file's fault. */
void picture_reply(struct api *a, struct http_req *req, const struct api_blob *b, int fd);
/* The thumbnail's ETag, with quotes. */
#define PICTURE_ETAG (BLAKE3_HEX + 16)
void picture_etag(const struct api_blob *b, char out[PICTURE_ETAG]);

#endif
