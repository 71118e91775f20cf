#include "api/catalogue.h"

#include <blake3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/choices.h"
#include "base/list.h"

struct waiting {
    struct list link;
    struct api_wait *w;
    catalogue_text_cb *text_cb; /* or: */
    catalogue_class_cb *class_cb;
    char *name;
    uint64_t uploads; /* as many as there were when it came: what it is told knows them */
};

/*   fresh ──something has changed, and somebody asks──> listing uploads ──> making the text ──> fresh
 * Who comes meanwhile waits for it, and once more if something was uploaded meanwhile. */
struct catalogue {
    struct choices *choices; /* NULL: not known */
    uint64_t uploads;        /* as many as there were when they were listed */
    struct bytes *text;
    char base[80], etag[BLAKE3_HEX + 2]; /* base: of the fleet's own text */
    struct list waiting;
    bool busy;
    struct making *making; /* with the worker */
};

struct making {
    struct work work;
    struct api *a; /* NULL: the gateway ends */
    struct workers *workers;
    struct object_view *view;
    struct choices *choices;
    uint64_t uploads;
    char base[80];
    struct bytes *text;
    uint8_t hash[BLAKE3_LEN];
};

static bool make(struct api *a);

static struct catalogue *catalogue_of(struct api *a)
{
    if (a->catalogue == NULL) {
        a->catalogue = xcalloc(1, sizeof(*a->catalogue));
        list_init(&a->catalogue->waiting);
    }
    return a->catalogue;
}

static bool is_fresh(const struct api *a, const struct catalogue *c, const char *base)
{
    return c->text && c->choices && c->uploads == a->uploads && strcmp(c->base, base) == 0;
}

/* --- one class: looked for in the whole text, which is long --- */

struct finding {
    struct work work;
    struct api *a;
    struct http_req *req; /* NULL: the client has left */
    catalogue_class_cb *cb;
    struct bytes *text;
    char *name;
    struct buf found;
};

static void find_run(struct work *w)
{
    struct finding *x = container_of(w, struct finding, work);
    struct json one = json_get((struct json){x->text->data, x->text->len}, x->name);
    struct jsonw out;

    jsonw_init(&out, &x->found);
    jsonw_obj(&out);
    if (one.p)
        jsonw_kspan(&out, x->name, one);
    jsonw_obj_end(&out);
}

static void find_done(struct work *w)
{
    struct finding *x = container_of(w, struct finding, work);

    if (x->req) {
        http_on_abort(x->req, NULL, NULL);
        x->cb(x->a, x->req, &x->found);
    }
    bytes_unref(x->text);
    buf_free(&x->found);
    free(x->name);
    free(x);
}

static void find_gone(struct http_req *req, void *arg)
{
    (void)req;
    ((struct finding *)arg)->req = NULL;
}

static void find_class(struct api *a, struct http_req *req, const struct waiting *asked)
{
    struct finding *x = xcalloc(1, sizeof(*x));

    x->a = a;
    x->req = req;
    x->cb = asked->class_cb;
    x->text = bytes_ref(a->catalogue->text);
    x->name = xstrdup(asked->name);
    x->work = (struct work){.run = find_run, .done = find_done};
    http_on_abort(req, find_gone, x);
    workers_submit(a->d.workers, &x->work);
}

static void serve(struct api *a, struct waiting *x, bool known)
{
    struct catalogue *c = catalogue_of(a);
    struct http_req *req = api_wait_end(x->w);

    if (req && x->text_cb)
        x->text_cb(a, req, known ? c->text : NULL, c->etag);
    else if (req && !known)
        x->class_cb(a, req, NULL);
    else if (req)
        find_class(a, req, x);
    free(x->name);
    free(x);
}

static void serve_all(struct api *a, bool known)
{
    struct catalogue *c = catalogue_of(a);
    struct list now;

    list_init(&now);
    list_for_each_safe(it, &c->waiting) {
        if (known && list_entry(it, struct waiting, link)->uploads > c->uploads)
            continue;
        list_remove(it);
        list_push_back(&now, it);
    }
    while (!list_empty(&now)) {
        struct waiting *x = list_first(&now, struct waiting, link);

        list_remove(&x->link);
        serve(a, x, known);
    }
    if (!list_empty(&c->waiting) && !c->busy && !make(a))
        serve_all(a, false);
}

/* --- making --- */

static void make_run(struct work *w)
{
    struct making *m = container_of(w, struct making, work);
    struct buf b = BUF_INIT;
    blake3_hasher h;

    object_view_put(&b, m->view, choices_put, m->choices);
    m->text = buf_to_bytes(&b);
    blake3_hasher_init(&h);
    blake3_hasher_update(&h, m->text->data, m->text->len);
    blake3_hasher_finalize(&h, m->hash, BLAKE3_LEN);
}

static void make_done(struct work *w)
{
    struct making *m = container_of(w, struct making, work);
    struct catalogue *c = m->a ? m->a->catalogue : NULL;
    char hex[BLAKE3_HEX];

    if (c) {
        bytes_unref(c->text);
        c->text = m->text;
        choices_free(&c->choices);
        c->choices = m->choices;
        c->uploads = m->uploads;
        snprintf(c->base, sizeof(c->base), "%s", m->base);
        blake3_hex(m->hash, hex);
        snprintf(c->etag, sizeof(c->etag), "\"%s\"", hex);
        c->busy = false;
        c->making = NULL;
        serve_all(m->a, true);
    } else {
        bytes_unref(m->text);
        choices_free(&m->choices);
    }
    registry_drop_view(m->workers, m->view);
    free(m);
}

static void on_uploads(enum store_status st, const struct store_file *f, size_t n, void *arg)
{
    struct making *m = arg;
    struct api *a = m->a;
    struct object_view *view = a->stopped ? NULL : registry_view(a->d.registry);

    if (st != STORE_OK || view == NULL) {
        free(m);
        if (a->catalogue) {
            a->catalogue->busy = false;
            serve_all(a, false);
        }
        return;
    }
    m->view = object_view_ref(view);
    m->choices = choices_new(f, n);
    a->catalogue->making = m;
    m->work.run = make_run;
    m->work.done = make_done;
    workers_submit(a->d.workers, &m->work);
}

/* False: nothing is known of any server. */
static bool make(struct api *a)
{
    const char *base;
    struct bytes *text = registry_object_info(a->d.registry, &base);
    struct making *m;

    if (text == NULL)
        return false;
    bytes_unref(text);
    m = xcalloc(1, sizeof(*m));
    m->a = a;
    m->workers = a->d.workers;
    m->uploads = a->uploads;
    snprintf(m->base, sizeof(m->base), "%s", base);
    catalogue_of(a)->busy = true;
    store_input_list(a->d.store, api_tenant(a, NULL), "input", on_uploads, m);
    return true;
}

static void ask(struct api *a, struct http_req *req, struct waiting *x)
{
    struct catalogue *c = catalogue_of(a);
    const char *base = "";
    struct bytes *text = registry_object_info(a->d.registry, &base);
    bool fresh = text && is_fresh(a, c, base);

    bytes_unref(text);
    x->w = api_wait_new(a, req);
    x->uploads = a->uploads;
    list_init(&x->link);
    if (text == NULL || fresh) {
        serve(a, x, fresh);
        return;
    }
    list_push_back(&c->waiting, &x->link);
    if (!c->busy && !make(a))
        serve_all(a, false);
}

void catalogue_text(struct api *a, struct http_req *req, catalogue_text_cb *cb)
{
    struct waiting *x = xcalloc(1, sizeof(*x));

    x->text_cb = cb;
    ask(a, req, x);
}

void catalogue_class(struct api *a, struct http_req *req, const char *name, catalogue_class_cb *cb)
{
    struct waiting *x = xcalloc(1, sizeof(*x));

    x->class_cb = cb;
    x->name = xstrdup(name);
    ask(a, req, x);
}

void catalogue_free(struct api *a)
{
    struct catalogue *c = a->catalogue;

    if (c == NULL)
        return;
    a->catalogue = NULL;
    if (c->making)
        c->making->a = NULL;
    while (!list_empty(&c->waiting)) { /* their requests have been aborted */
        struct waiting *x = list_first(&c->waiting, struct waiting, link);

        list_remove(&x->link);
        api_wait_end(x->w);
        free(x->name);
        free(x);
    }
    bytes_unref(c->text);
    choices_free(&c->choices);
    free(c);
}
