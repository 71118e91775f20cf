#include "api/user_docs.h"

#include <stdlib.h>
#include <string.h>

#include "base/list.h"
#include "base/log.h"
#include "comfy/pyjson.h"

#define TRIES 16 /* somebody else may write the same document each time */

/* --- reading --- */

struct reading {
    struct api *a;
    uint8_t hash[BLAKE3_LEN];
    void (*cb)(enum user_doc_end end, struct bytes *text, const uint8_t *hash, const char *why, void *arg);
    void *arg;
};

static void read_end(struct reading *r, enum user_doc_end end, struct bytes *text, const char *why)
{
    r->cb(end, text, end == USER_DOC_OK && text ? r->hash : NULL, why, r->arg);
    free(r);
}

static void on_text(struct bytes *data, const char *why, void *arg)
{
    read_end(arg, data ? USER_DOC_OK : USER_DOC_FAILED, data, data ? NULL : why);
}

static void on_found(const struct store_file *f, void *arg)
{
    struct reading *r = arg;

    if (f->status == STORE_NOT_FOUND) {
        read_end(r, USER_DOC_OK, NULL, NULL);
    } else if (f->status == STORE_CONFLICT) {
        read_end(r, USER_DOC_FAILED, NULL, "a folder has the document's name");
    } else if (f->status != STORE_OK || r->a->stopped) {
        read_end(r, USER_DOC_FAILED, NULL, "the store could not be read");
    } else if (f->size > USER_DOC_MAX) {
        read_end(r, USER_DOC_TOO_LARGE, NULL, "the document is too large");
    } else {
        memcpy(r->hash, f->blake3, BLAKE3_LEN);
        blob_read(r->a->d.blobs, r->hash, USER_DOC_MAX, on_text, r);
    }
}

struct plain_read {
    user_doc_read_cb *cb;
    void *arg;
};

static void on_plain(enum user_doc_end end, struct bytes *text, const uint8_t *hash, const char *why,
                     void *arg)
{
    struct plain_read p = *(struct plain_read *)arg;

    (void)hash;
    free(arg);
    p.cb(end, text, why, p.arg);
}

void user_doc_read(struct api *a, const char *tenant, const char *area, const char *path,
                   user_doc_read_cb *cb, void *arg)
{
    struct reading *r = xcalloc(1, sizeof(*r));
    struct plain_read *p = xcalloc(1, sizeof(*p));

    *p = (struct plain_read){cb, arg};
    r->a = a;
    r->cb = on_plain;
    r->arg = p;
    store_user_find(a->d.store, tenant, area, path, on_found, r);
}

/* --- changing ---
 *   idle ──a change──> reading ──> writing the bytes ──> committing ──> idle, or reading for those that came meanwhile
 *                         ^───────── somebody else was faster ─┘ */

struct change {
    struct list link;
    struct bytes *patch;
    user_doc_check *check;
    user_doc_cb *cb;
    void *arg;
    const char *refused;
};

struct user_doc {
    struct user_doc *next; /* in struct api */
    struct api *a;
    char *tenant, *area, *path;
    struct list waiting, taken; /* taken: those that are being made */
    bool busy;
    bool existed;
    uint8_t was[BLAKE3_LEN]; /* what was read */
    int64_t pin;
    int tries;
};

static void doc_read(struct user_doc *d);

static void change_free(struct change *c)
{
    bytes_unref(c->patch);
    free(c);
}

/* Those that were taken have come to their end; on with those that came meanwhile. */
static void tell(struct list *changes, enum user_doc_end end, const char *why)
{
    while (!list_empty(changes)) {
        struct change *c = list_first(changes, struct change, link);

        list_remove(&c->link);
        c->cb(c->refused ? USER_DOC_REFUSED : end, c->refused ? c->refused : why, c->arg);
        change_free(c);
    }
}

static void doc_end(struct user_doc *d, enum user_doc_end end, const char *why)
{
    if ((end == USER_DOC_FAILED || end == USER_DOC_FULL) && !d->a->stopped)
        log_warn(LOG_S("event", "user_document_not_changed"), LOG_S("path", d->path), LOG_S("reason", why));
    tell(&d->taken, end, why);
    d->tries = 0;
    d->busy = false;
    if (d->a->stopped) /* there is nobody left who could write */
        tell(&d->waiting, USER_DOC_FAILED, "the gateway stops");
    else if (!list_empty(&d->waiting))
        doc_read(d);
}

static void on_committed(const struct store_file *f, void *arg)
{
    struct user_doc *d = arg;

    if (!d->a->stopped)
        blobs_unpin(d->a->d.blobs, d->pin);
    switch (f->status) {
    case STORE_OK: doc_end(d, USER_DOC_OK, NULL); break;
    case STORE_LOST:
        if (++d->tries < TRIES && !d->a->stopped)
            doc_read(d);
        else
            doc_end(d, USER_DOC_FAILED, "somebody else writes it all the time");
        break;
    case STORE_FULL: doc_end(d, USER_DOC_FULL, "no space left on the device"); break;
    case STORE_CONFLICT: doc_end(d, USER_DOC_FAILED, "a folder has the document's name"); break;
    case STORE_LIMIT: doc_end(d, USER_DOC_FULL, "there are too many files"); break;
    default: doc_end(d, USER_DOC_FAILED, "the store could not write");
    }
}

static void on_put(enum blob_status st, const struct blob_info *info, const char *why, void *arg)
{
    struct user_doc *d = arg;
    struct store_user_put in = {.tenant = d->tenant,
                                .area = d->area,
                                .path = d->path,
                                .at = d->a->d.clock->wall_ms(d->a->d.clock),
                                .when = STORE_USER_SAME,
                                .was = d->existed ? d->was : NULL,
                                .files_max = USER_FILES_MAX};

    if (st != BLOB_OK || d->a->stopped) {
        doc_end(d, st == BLOB_FULL ? USER_DOC_FULL : USER_DOC_FAILED, why);
        return;
    }
    d->pin = info->pin;
    memcpy(in.blake3, info->blake3, BLAKE3_LEN);
    store_user_put(d->a->d.store, &in, on_committed, d);
}

/* One change after the other. False: there is nothing to write. */
static bool apply_all(struct user_doc *d, struct json doc, struct buf *text)
{
    struct json was = doc;
    bool any = false;

    list_for_each(it, &d->taken) {
        struct change *c = list_entry(it, struct change, link);
        struct buf next = BUF_INIT;
        struct json patch;

        c->refused = c->check ? c->check(doc, c->arg) : NULL;
        if (!c->refused && json_check(c->patch->data, c->patch->len, NULL, &patch, NULL) < 0)
            c->refused = "it is nested too deep";
        if (c->refused)
            continue;
        py_put_merged(&next, doc, patch, 4);
        if (json_check(buf_str(&next), next.len, NULL, &doc, NULL) < 0) {
            c->refused = "the document would hold too many values";
            buf_free(&next);
            if (json_check(buf_str(text), text->len, NULL, &doc, NULL) < 0)
                doc = was;
            continue;
        }
        buf_free(text);
        *text = next;
        any = true;
    }
    return any;
}

static void on_read(enum user_doc_end end, struct bytes *old, const uint8_t *hash, const char *why, void *arg)
{
    struct user_doc *d = arg;
    struct buf text = BUF_INIT;
    struct json doc = {0};
    struct bytes *made;

    if (end != USER_DOC_OK || d->a->stopped) {
        doc_end(d, end == USER_DOC_OK ? USER_DOC_FAILED : end, why ? why : "the gateway stops");
        return;
    }
    d->existed = old != NULL;
    if (old)
        memcpy(d->was, hash, BLAKE3_LEN);
    if (old && json_check(old->data, old->len, NULL, &doc, NULL) < 0) {
        log_warn(LOG_S("event", "user_document_begun_anew"), LOG_S("path", d->path),
                 LOG_S("reason", "what was there is no JSON"));
        doc = (struct json){0};
    }
    if (doc.p && json_type(doc) != JSON_OBJECT) {
        doc_end(d, USER_DOC_FAILED, "what is stored under this name is no JSON object");
    } else if (!apply_all(d, doc, &text)) {
        doc_end(d, USER_DOC_OK, NULL); /* all were refused */
    } else if (text.len > USER_DOC_MAX) {
        doc_end(d, USER_DOC_TOO_LARGE, "the document would be too large");
    } else {
        made = buf_to_bytes(&text);
        blob_put(d->a->d.blobs, made, on_put, d);
        bytes_unref(made);
    }
    buf_free(&text);
}

static void doc_read(struct user_doc *d)
{
    struct reading *r = xcalloc(1, sizeof(*r));

    while (!list_empty(&d->waiting)) {
        struct list *e = d->waiting.next;

        list_remove(e);
        list_push_back(&d->taken, e);
    }
    d->busy = true;
    r->a = d->a;
    r->cb = on_read;
    r->arg = d;
    store_user_find(d->a->d.store, d->tenant, d->area, d->path, on_found, r);
}

static struct user_doc *doc_of(struct api *a, const char *tenant, const char *area, const char *path)
{
    struct user_doc *d;

    for (d = a->user_docs; d; d = d->next)
        if (strcmp(d->tenant, tenant) == 0 && strcmp(d->area, area) == 0 && strcmp(d->path, path) == 0)
            return d;
    d = xcalloc(1, sizeof(*d));
    d->a = a;
    d->tenant = xstrdup(tenant);
    d->area = xstrdup(area);
    d->path = xstrdup(path);
    list_init(&d->waiting);
    list_init(&d->taken);
    d->next = a->user_docs;
    a->user_docs = d;
    return d;
}

void user_doc_change(struct api *a, const char *tenant, const char *area, const char *path,
                     struct bytes *patch, user_doc_check *check, user_doc_cb *cb, void *arg)
{
    struct user_doc *d = doc_of(a, tenant, area, path);
    struct change *c = xcalloc(1, sizeof(*c));

    *c = (struct change){.patch = bytes_ref(patch), .check = check, .cb = cb, .arg = arg};
    list_push_back(&d->waiting, &c->link);
    if (!d->busy)
        doc_read(d);
}

void user_docs_free(struct api *a)
{
    while (a->user_docs) {
        struct user_doc *d = a->user_docs;

        a->user_docs = d->next;
        free(d->tenant);
        free(d->area);
        free(d->path);
        free(d);
    }
}
