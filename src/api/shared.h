/* One answer for all who ask the same thing while it is being worked out: a fleet's hundred open pages ask in the same
 * moment. Loop thread only. */
#ifndef API_SHARED_H
#define API_SHARED_H

#include "api/api_priv.h"

struct shared; /* a set of them is a hash, NULL when empty */

/* The request joins those that wait for this key in the set, and is answered with them. What is returned is to be worked out
 * and given to shared_answer(), once; NULL: somebody is at it already. */
struct shared *shared_join(struct shared **set, struct api *a, struct http_req *req, const char *key);
/* Is anybody still waiting? */
bool shared_wanted(const struct shared *s);
/* etag (with quotes) may be NULL: then none is sent. body: JSON. Frees s. */
void shared_answer(struct shared *s, int status, struct bytes *body, const char *etag);

/* One request of it: 200 with an ETag, or 304. */
void shared_reply(struct http_req *req, int status, struct bytes *body, const char *etag);

#endif
