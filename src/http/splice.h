/* Two streams tied together: what comes in on one goes out on the other, as bytes, with back-pressure and
 * half close. Private to this room. */
#ifndef HTTP_SPLICE_H
#define HTTP_SPLICE_H

#include "http/client_priv.h"

/* Takes over both; input that is buffered already goes first. Lives until either side fails or both have
 * ended, at most as long as the client. */
void splice_start(struct http_client *c, struct stream *a, struct stream *b);

#endif
