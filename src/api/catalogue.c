#include "api/catalogue.h"

#include <blake3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/choices.h"
#include "base/list.h"
#include "comfy/object_info.h"

struct waiting {
    struct list link;
    struct api_wait *w;
    uint64_t uploads;           /* as many as there were when it came: what it is told knows them */
    catalogue_text_cb *text_cb; /* or: */
    catalogue_choices_cb *choices_cb;
    void *arg;
};

/* Uploads are listed when somebody asks and there are new ones, the text is made when somebody asks for it and what it is
 * made of has changed. pump() looks what those who wait lack, and begins it. */
struct catalogue {
    struct choices *choices; /* NULL: not known */
    uint64_t uploads;        /* as many as there were when they were listed */
    struct bytes *text;
    uint64_t text_uploads;               /* as many as it knows */
    char base[80], etag[BLAKE3_HEX + 2]; /* base: of the fleet's own text */
    struct list waiting;
    bool listing;
    struct making *making; /* with the worker */
};

struct making {
    struct work work;
    struct api *a; /* NULL: the gateway ends */
    struct object_view *view;
    struct choices *choices;
    uint64_t uploads;
    char base[80];
    struct bytes *text;
    uint8_t hash[BLAKE3_LEN];
};

struct listing {
    struct api *a;
    uint64_t uploads;
};

static void pump(struct api *a);

static struct catalogue *catalogue_of(struct api *a)
{
    if (a->catalogue == NULL) {
        a->catalogue = xcalloc(1, sizeof(*a->catalogue));
        list_init(&a->catalogue->waiting);
    }
    return a->catalogue;
}

/* x is answered, and gone. */
static void serve(struct api *a, struct waiting *x, bool known)
{
    struct catalogue *c = a->catalogue;
    struct http_req *req = api_wait_end(x->w);

    list_remove(&x->link);
    if (req == NULL)
        free(x->arg);
    else if (x->text_cb)
        x->text_cb(a, req, known ? c->text : NULL, c->etag);
    else
        x->choices_cb(a, req, known ? c->choices : NULL, x->arg);
    free(x);
}

static void fail_all(struct api *a)
{
    struct catalogue *c = a->catalogue;

    while (!list_empty(&c->waiting))
        serve(a, list_first(&c->waiting, struct waiting, link), false);
}

/* --- listing --- */

static void on_uploads(enum store_status st, const struct store_file *f, size_t n, void *arg)
{
    struct listing l = *(struct listing *)arg;
    struct catalogue *c = l.a->catalogue;

    free(arg);
    c->listing = false;
    if (st != STORE_OK) {
        fail_all(l.a);
        return;
    }
    choices_unref(c->choices);
    c->choices = choices_new(f, n);
    c->uploads = l.uploads;
    pump(l.a);
}

static void list_uploads(struct api *a)
{
    struct listing *l = xcalloc(1, sizeof(*l));

    *l = (struct listing){a, a->uploads};
    a->catalogue->listing = true;
    store_input_list(a->d.store, api_tenant(a, NULL), "input", on_uploads, l);
}

/* --- making the text --- */

static void make_run(struct work *w)
{
    struct making *m = container_of(w, struct making, work);
    struct buf b = BUF_INIT;
    blake3_hasher h;

    object_view_put(&b, m->view, choices_put, m->choices);
    object_view_unref(m->view); /* here: the last one may have much to free */
    m->text = buf_to_bytes(&b);
    blake3_hasher_init(&h);
    blake3_hasher_update(&h, m->text->data, m->text->len);
    blake3_hasher_finalize(&h, m->hash, BLAKE3_LEN);
}

static void make_done(struct work *w)
{
    struct making *m = container_of(w, struct making, work);
    struct api *a = m->a;
    char hex[BLAKE3_HEX];

    if (a) {
        struct catalogue *c = a->catalogue;

        c->making = NULL;
        bytes_unref(c->text);
        c->text = bytes_ref(m->text);
        c->text_uploads = m->uploads;
        snprintf(c->base, sizeof(c->base), "%s", m->base);
        blake3_hex(m->hash, hex);
        snprintf(c->etag, sizeof(c->etag), "\"%s\"", hex);
    }
    bytes_unref(m->text);
    choices_unref(m->choices);
    free(m);
    if (a)
        pump(a);
}

static void make_text(struct api *a, const char *base)
{
    struct catalogue *c = a->catalogue;
    struct making *m = xcalloc(1, sizeof(*m));

    m->a = a;
    m->view = object_view_ref(registry_view(a->d.registry));
    m->choices = choices_ref(c->choices);
    m->uploads = c->uploads;
    snprintf(m->base, sizeof(m->base), "%s", base);
    m->work.run = make_run;
    m->work.done = make_done;
    c->making = m;
    workers_submit(a->d.workers, &m->work);
}

/* --- what is lacking --- */

/* Serves those who lack nothing. What do the others lack? base: NULL if no server is known. */
static void look(struct api *a, const char *base, bool *list, bool *make)
{
    struct catalogue *c = a->catalogue;

    *list = *make = false;
    list_for_each_safe(it, &c->waiting) {
        struct waiting *x = list_entry(it, struct waiting, link);

        if (x->text_cb && base == NULL)
            serve(a, x, false);
        else if (c->choices == NULL || c->uploads < x->uploads)
            *list = true;
        else if (x->text_cb &&
                 (c->text == NULL || c->text_uploads < x->uploads || strcmp(c->base, base) != 0))
            *make = true;
        else
            serve(a, x, true);
    }
}

static void pump(struct api *a)
{
    struct catalogue *c = a->catalogue;
    struct bytes *known;
    const char *etag;
    char base[80];
    bool list, make;

    if (a->stopped) {
        fail_all(a);
        return;
    }
    known = registry_object_info(a->d.registry, &etag);
    snprintf(base, sizeof(base), "%s", known ? etag : "");
    look(a, known ? base : NULL, &list, &make);
    if (list && !c->listing)
        list_uploads(a);
    if (make && c->making == NULL)
        make_text(a, base);
    bytes_unref(known);
}

static void ask(struct api *a, struct http_req *req, struct waiting *x)
{
    struct catalogue *c = catalogue_of(a);

    x->w = api_wait_new(a, req);
    x->uploads = a->uploads;
    list_push_back(&c->waiting, &x->link);
    pump(a);
}

void catalogue_text(struct api *a, struct http_req *req, catalogue_text_cb *cb)
{
    struct waiting *x = xcalloc(1, sizeof(*x));

    x->text_cb = cb;
    ask(a, req, x);
}

void catalogue_choices(struct api *a, struct http_req *req, catalogue_choices_cb *cb, void *arg)
{
    struct waiting *x = xcalloc(1, sizeof(*x));

    x->choices_cb = cb;
    x->arg = arg;
    ask(a, req, x);
}

void catalogue_free(struct api *a)
{
    struct catalogue *c = a->catalogue;

    if (c == NULL)
        return;
    if (c->making)
        c->making->a = NULL;
    while (!list_empty(&c->waiting)) { /* their requests have been aborted */
        struct waiting *x = list_first(&c->waiting, struct waiting, link);

        list_remove(&x->link);
        api_wait_end(x->w);
        free(x->arg);
        free(x);
    }
    bytes_unref(c->text);
    choices_unref(c->choices);
    free(c);
    a->catalogue = NULL;
}
