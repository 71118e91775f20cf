#include "api/shared.h"

#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/list.h"

struct waiter {
    struct list link;
    struct api_wait *w;
};

struct shared {
    struct shared **set;
    UT_hash_handle hh;
    char *key;
    struct list waiters;
};

struct shared *shared_join(struct shared **set, struct api *a, struct http_req *req, const char *key)
{
    struct shared *there, *s;
    struct waiter *x = xcalloc(1, sizeof(*x));

    HASH_FIND_STR(*set, key, there);
    s = there;
    if (s == NULL) {
        s = xcalloc(1, sizeof(*s));
        s->set = set;
        s->key = xstrdup(key);
        list_init(&s->waiters);
        HASH_ADD_KEYPTR(hh, *set, s->key, strlen(s->key), s);
    }
    x->w = api_wait_new(a, req);
    list_push_back(&s->waiters, &x->link);
    return there ? NULL : s;
}

bool shared_wanted(const struct shared *s)
{
    list_for_each(it, &s->waiters)
        if (list_entry(it, struct waiter, link)->w->req)
            return true;
    return false;
}

void shared_reply(struct http_req *req, int status, struct bytes *body, const char *etag)
{
    if (etag)
        http_set(req, "ETag", etag);
    if (etag && status == 200 && http_not_modified(req, etag, 0))
        http_reply_empty(req, 304);
    else if (body)
        http_reply_bytes(req, status, "application/json; charset=utf-8", body);
    else
        http_reply_empty(req, status);
}

void shared_answer(struct shared *s, int status, struct bytes *body, const char *etag)
{
    HASH_DEL(*s->set, s); /* who asks from now on asks anew */
    while (!list_empty(&s->waiters)) {
        struct waiter *x = list_first(&s->waiters, struct waiter, link);
        struct http_req *req = api_wait_end(x->w);

        list_remove(&x->link);
        free(x);
        if (req)
            shared_reply(req, status, body, etag);
    }
    free(s->key);
    free(s);
}
