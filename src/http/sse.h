/* Server-sent events over an http_req: text/event-stream, comment every 15 s, bounded for slow readers. */
#ifndef HTTP_SSE_H
#define HTTP_SSE_H

#include "http/server.h"

struct sse;
/* Starts the answer (200) on req, which is handed over. on_gone when the reader left, or was dropped because
 * more than max_queued bytes were waiting; the sse is gone when it returns. */
struct sse *sse_new(struct http_req *req, size_t max_queued, void (*on_gone)(struct sse *s, void *arg),
                    void *arg);
/* id, event NULL: left out. data is one line of JSON. */
void sse_send(struct sse *s, const char *id, const char *event, const char *data, size_t n);
void sse_end(struct sse **s);

#endif
