/* Every server asked the same thing. Loop thread only. */
#ifndef API_NATIVE_ASK_H
#define API_NATIVE_ASK_H

#include "api/api_priv.h"

struct native_answer {
    char *server;       /* its name */
    int status;         /* 0: none came, why says it */
    struct bytes *body; /* whole, or NULL */
    char *why;
};
/* The primary's first, then by the servers' places. Valid during the call; n is 0 if no server can be reached. */
typedef void native_asked_cb(struct api *a, const struct native_answer *v, size_t n, void *arg);

struct native_question {
    const char *method, *target;
    const char *type;   /* of the body, or NULL */
    struct bytes *body; /* or NULL */
    size_t max;         /* bytes of one answer; a longer one counts as none */
    int64_t total_ms;   /* a server that has not answered by then counts as one that does not */
};
/* cb runs once, not before the next turn. Everything but body is copied. */
void native_ask(struct api *a, const struct native_question *q, native_asked_cb *cb, void *arg);

/* Is it JSON of this type, with status 200? Then *out is the whole of it. */
bool native_answer_json(const struct native_answer *x, enum json_type type, struct json *out);

#endif
