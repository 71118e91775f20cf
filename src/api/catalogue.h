/* object_info as clients see it: what the fleet can do (fleet/registry.h), with file choosers that offer the names of the
 * gateway's own input namespace, since that is what a job may read wherever it runs. Made anew, on a worker, when what the
 * fleet can do or what was uploaded has changed. */
#ifndef API_CATALOGUE_H
#define API_CATALOGUE_H

#include "api/api_priv.h"

struct choices;

/* text NULL: no server has ever been known, or the store cannot be read. text and etag (with quotes) are valid for the call. */
typedef void catalogue_text_cb(struct api *a, struct http_req *req, struct bytes *text, const char *etag);
/* req is answered by cb, at once if nothing has changed; cb does not run if the client has left. What was uploaded before
 * the call is in the text. */
void catalogue_text(struct api *a, struct http_req *req, catalogue_text_cb *cb);

/* What choosers offer, for one class. NULL: the store cannot be read. Valid for the call: choices_ref() to keep. arg is freed
 * by cb, or when the client has left. */
typedef void catalogue_choices_cb(struct api *a, struct http_req *req, struct choices *c, void *arg);
void catalogue_choices(struct api *a, struct http_req *req, catalogue_choices_cb *cb, void *arg);

void catalogue_free(struct api *a);

#endif
