/* The body of a request as stored bytes, however large it is: written as it comes, with back-pressure. */
#ifndef API_BODY_BLOB_H
#define API_BODY_BLOB_H

#include "api/api_priv.h"

/* cb once, never inside the call. req is NULL if the client has left; it is the callback's otherwise. With BLOB_OK the
 * bytes are pinned: blobs_unpin() is the callback's, too. Beyond max the request has got its 413 (and has left). */
typedef void body_blob_cb(struct http_req *req, enum blob_status st, const struct blob_info *info,
                          const char *why, void *arg);
void body_blob(struct api *a, struct http_req *req, int64_t max, body_blob_cb *cb, void *arg);

#endif
