/* multipart/form-data (RFC 7578), pushed in pieces of any size: memory is one part's head plus one boundary.
 * Pure. */
#ifndef HTTP_MULTIPART_H
#define HTTP_MULTIPART_H

#include "base/buf.h"
#include "base/err.h"

struct multipart;

struct multipart_part {
    const char *name;     /* decoded; "" if missing */
    const char *filename; /* NULL: a plain field. "" is possible. Backslash escapes and filename*= decoded */
    const char *type;     /* Content-Type, or NULL */
};
struct multipart_handlers {
    int (*on_part)(const struct multipart_part *p, void *arg, struct err *e); /* -1 stops the parse with e */
    int (*on_data)(const void *data, size_t n, void *arg, struct err *e);
    int (*on_part_end)(void *arg, struct err *e);
};
/* content_type: the request's field; -1 with err if it is not multipart/form-data with a boundary. */
struct multipart *multipart_new(const char *content_type, const struct multipart_handlers *h, void *arg,
                                struct err *e);
int multipart_push(struct multipart *m, const void *data, size_t n, struct err *e) MUST_CHECK;
/* At the end of the body: -1 unless the closing boundary was seen. */
int multipart_finish(struct multipart *m, struct err *e) MUST_CHECK;
void multipart_free(struct multipart **m);

#endif
