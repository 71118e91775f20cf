/* Files of the web frontend from a folder (`frontend:`), as ComfyUI serves them at "/". */
#ifndef API_STATIC_H
#define API_STATIC_H

#include "api/api.h"

/* Answers a GET or HEAD for a file below dir; false if there is none, and nothing was done. Never outside of dir; "/" is
 * index.html. Names with a hash in them may be kept by browsers for ever, the page itself not at all, the rest is asked after.
 * Of a file that lies there as name.gz too, clients that take gzip get that. */
bool static_serve(struct http_req *req, const char *dir);

#endif
