#include "image/images.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/hash.h"
#include "base/list.h"
#include "base/log.h"
#include "image/image_cache.h"
#include "image/image_helper.h"

#define HELPERS_MAX 16
#define AGE_EVERY_MS (600 * 1000)
#define AGE_MAX_MS INT64_C(86400000) /* what nobody has looked at for a day goes */

const struct images_config images_config_default = {
    .cache_max = INT64_C(256) << 20,
    .helpers = 2,
    .queue_max = 512,
    .start_ms = 30000,
    .timeout_ms = 60000,
    .idle_ms = 60000,
    .retry_ms = 60000,
    .forgive_ms = 600000,
};

static_assert(sizeof(struct image_want) == 8 && sizeof(struct image_key) == 40, "keys have no padding");

/* Who asked. */
struct waiter {
    struct list link;
    image_cb *cb;
    void *arg;
    struct image_result r; /* those whose answer is known already */
    char *why;
};

/* One conversion that somebody waits for: in the queue, or with a helper. */
struct conversion {
    struct image_key key;
    struct list link; /* in the queue */
    struct list waiters;
    int in, mask, out; /* mask -1: none */
    char *name;        /* of the file that is being made */
    UT_hash_handle hh;
};

struct seat {
    struct images *im;
    struct image_helper *helper;
    struct conversion *at;
};

struct images {
    struct loop *loop;
    struct images_config cfg;
    struct image_cache *cache;
    struct seat seats[HELPERS_MAX];
    struct conversion *all; /* by key */
    struct list queue;
    unsigned queued;
    struct list known; /* waiters whose answer is known */
    struct task tell, pump;
    struct timer age;
    int64_t down_until; /* no helper starts: monotonic ms */
    bool told;          /* the log says that there is no helper */
    struct images_counts n;
};

const char *image_mime(enum image_op op)
{
    return op == IMAGE_JPEG                        ? "image/jpeg"
           : op == IMAGE_WEBP || op == IMAGE_THUMB ? "image/webp"
                                                   : "image/png";
}

const char *image_status_str(enum image_status st)
{
    static const char *const names[] = {"ok",      "refused", "broken", "too_large",  "no_space",
                                        "timeout", "crashed", "busy",   "unavailable"};

    static_assert(sizeof(names) / sizeof(names[0]) == IMAGE_STATUSES, "a name for each");
    return names[st];
}

char *images_helper_path(void)
{
    char self[4096];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    char *slash;

    if (n <= 0)
        return xstrdup("/usr/bin/comfymux-image");
    self[n] = '\0';
    slash = strrchr(self, '/');
    return xasprintf("%.*s/comfymux-image", (int)(slash ? slash - self : 0), self);
}

/* --- telling --- */

static void tell_known(void *arg)
{
    struct images *im = arg;
    struct list now;

    list_init(&now);
    while (!list_empty(&im->known)) {
        struct list *e = im->known.next;

        list_remove(e);
        list_push_back(&now, e);
    }
    while (!list_empty(&now)) {
        struct waiter *w = list_first(&now, struct waiter, link);

        list_remove(&w->link);
        w->r.why = w->why;
        w->cb(&w->r, w->arg);
        free(w->why);
        free(w);
    }
}

static struct waiter *waiter_new(image_cb *cb, void *arg)
{
    struct waiter *w = xcalloc(1, sizeof(*w));

    w->cb = cb;
    w->arg = arg;
    w->r.fd = -1;
    list_init(&w->link);
    return w;
}

/* The answer to this one is known: told at the end of the turn. */
static void know(struct images *im, struct waiter *w, enum image_status st, const char *why)
{
    w->r.status = st;
    w->why = xstrdup_null(why);
    list_push_back(&im->known, &w->link);
    loop_defer(im->loop, &im->tell);
}

/* --- the end of a conversion --- */

static void remember(struct images *im, const struct conversion *c, enum image_status st, const char *why)
{
    int64_t now = loop_now(im->loop);

    if (st == IMAGE_REFUSED || st == IMAGE_BROKEN || st == IMAGE_TOO_LARGE)
        image_cache_put_failure(im->cache, &c->key, st, why, now, INT64_MAX);
    else if (st == IMAGE_TIMEOUT || st == IMAGE_CRASHED)
        image_cache_put_failure(im->cache, &c->key, st, why, now, now + im->cfg.forgive_ms);
}

/* Once: those who ask again are answered from memory. */
static void tell_failure(const struct conversion *c, enum image_status st, const char *why)
{
    enum log_level level =
        st == IMAGE_REFUSED || st == IMAGE_BROKEN || st == IMAGE_TOO_LARGE ? LOG_INFO : LOG_WARN;
    struct buf hex = BUF_INIT;

    for (size_t i = 0; i < sizeof(c->key.hash); i++)
        buf_printf(&hex, "%02x", c->key.hash[i]);
    LOG_AT(level, LOG_S("blake3", buf_str(&hex)), LOG_S("event", "picture_failed"),
           LOG_S("result", image_status_str(st)), LOG_S("reason", why));
    buf_free(&hex);
}

/* Everybody who waits is answered; c is gone. */
static void conversion_end(struct images *im, struct conversion *c, enum image_status st, int64_t size,
                           const char *why)
{
    int64_t now = loop_now(im->loop);

    HASH_DEL(im->all, c);
    if (!list_empty(&c->link)) {
        list_remove(&c->link);
        im->queued--;
    }
    if (st == IMAGE_OK && image_cache_put(im->cache, &c->key, c->name, size, now) < 0) {
        st = IMAGE_CRASHED;
        why = "the helper said another size than it wrote";
    }
    if (st != IMAGE_OK && c->name)
        image_cache_abort(im->cache, c->name);
    remember(im, c, st, why);
    if (st != IMAGE_OK && st != IMAGE_UNAVAILABLE)
        tell_failure(c, st, why);
    *(st == IMAGE_OK ? &im->n.made : &im->n.failed) += 1;
    while (!list_empty(&c->waiters)) {
        struct waiter *w = list_first(&c->waiters, struct waiter, link);
        enum image_status ignored;
        const char *text;

        list_remove(&w->link);
        w->r.status = st;
        w->r.why = why;
        if (st == IMAGE_OK &&
            image_cache_find(im->cache, &c->key, now, &w->r.fd, &w->r.size, &ignored, &text) != IMAGE_HIT) {
            w->r.status = IMAGE_NO_SPACE;
            w->r.why = "what was made cannot be opened";
        }
        w->cb(&w->r, w->arg);
        free(w);
    }
    if (c->in >= 0)
        close(c->in);
    if (c->mask >= 0)
        close(c->mask);
    if (c->out >= 0)
        close(c->out);
    free(c->name);
    free(c);
}

static void all_end(struct images *im, enum image_status st, const char *why)
{
    while (!list_empty(&im->queue))
        conversion_end(im, list_first(&im->queue, struct conversion, link), st, 0, why);
}

static void helper_down(struct images *im, const char *why)
{
    im->down_until = loop_now(im->loop) + im->cfg.retry_ms;
    if (!im->told)
        log_error(LOG_S("event", "image_helper_unavailable"), LOG_S("reason", why),
                  LOG_M("pictures are sent as they are, without previews and thumbnails"));
    im->told = true;
    all_end(im, IMAGE_UNAVAILABLE, why);
}

static void on_done(enum image_status st, int64_t size, const char *why, void *arg)
{
    struct seat *s = arg;
    struct images *im = s->im;
    struct conversion *c = s->at;

    s->at = NULL;
    if (st == IMAGE_UNAVAILABLE)
        helper_down(im, why);
    else
        im->told = false;
    conversion_end(im, c, st, size, why);
}

static void on_free(void *arg)
{
    struct images *im = ((struct seat *)arg)->im;

    loop_defer(im->loop, &im->pump);
}

/* --- work for the helpers --- */

static void give(struct images *im, struct seat *s, struct conversion *c)
{
    struct err e;

    c->out = image_cache_begin(im->cache, &c->name, &e);
    if (c->out < 0) {
        conversion_end(im, c, IMAGE_NO_SPACE, 0, e.msg);
        return;
    }
    list_remove(&c->link);
    im->queued--;
    s->at = c;
    image_helper_give(s->helper, c->in, c->mask, c->out, &c->key.want);
    close(c->in);
    close(c->out);
    if (c->mask >= 0)
        close(c->mask);
    c->in = c->out = c->mask = -1;
}

static void pump(void *arg)
{
    struct images *im = arg;

    for (unsigned i = 0; i < im->cfg.helpers && !list_empty(&im->queue); i++)
        while (image_helper_can_take(im->seats[i].helper) && !list_empty(&im->queue))
            give(im, &im->seats[i], list_first(&im->queue, struct conversion, link));
}

/* --- asking --- */

static void key_of(struct image_key *k, const uint8_t hash[IMAGE_HASH_LEN], const struct image_want *want)
{
    memset(k, 0, sizeof(*k));
    memcpy(k->hash, hash, IMAGE_HASH_LEN);
    k->want = *want;
}

static void make(struct images *im, const uint8_t hash[IMAGE_HASH_LEN], int fd, int mask,
                 const struct image_want *want, image_cb *cb, void *arg)
{
    struct waiter *w = waiter_new(cb, arg);
    enum image_status st = IMAGE_OK;
    struct conversion *c;
    struct image_key k;
    const char *why = NULL;
    enum image_hit hit;

    key_of(&k, hash, want);
    hit = image_cache_find(im->cache, &k, loop_now(im->loop), &w->r.fd, &w->r.size, &st, &why);
    HASH_FIND(hh, im->all, &k, sizeof(k), c);
    if (hit != IMAGE_MISS) {
        im->n.from_cache++;
        know(im, w, st, why);
    } else if (c) {
        list_push_back(&c->waiters, &w->link);
    } else if (!images_usable(im)) {
        know(im, w, IMAGE_UNAVAILABLE, "there is no helper");
    } else if (im->queued >= im->cfg.queue_max) {
        know(im, w, IMAGE_BUSY, "too many pictures wait to be converted");
    } else {
        c = xcalloc(1, sizeof(*c));
        c->key = k;
        c->in = fd;
        c->mask = mask;
        c->out = -1;
        list_init(&c->waiters);
        list_push_back(&c->waiters, &w->link);
        list_push_back(&im->queue, &c->link);
        im->queued++;
        HASH_ADD(hh, im->all, key, sizeof(c->key), c);
        loop_defer(im->loop, &im->pump);
        return;
    }
    close(fd);
    if (mask >= 0)
        close(mask);
}

void images_convert(struct images *im, const uint8_t hash[IMAGE_HASH_LEN], int fd,
                    const struct image_want *want, image_cb *cb, void *arg)
{
    make(im, hash, fd, -1, want, cb, arg);
}

void images_compose(struct images *im, const uint8_t hash[IMAGE_HASH_LEN], int fd, int mask, image_cb *cb,
                    void *arg)
{
    static const struct image_want want = {.op = IMAGE_MASK};

    make(im, hash, fd, mask, &want, cb, arg);
}

bool images_usable(struct images *im)
{
    if (access(im->cfg.helper, X_OK) == 0)
        return loop_now(im->loop) >= im->down_until;
    if (!im->told)
        log_warn(LOG_S("event", "image_helper_missing"), LOG_S("path", im->cfg.helper),
                 LOG_M("pictures are sent as they are, without previews and thumbnails"));
    im->told = true;
    return false;
}

/* --- beginning and end --- */

static void on_age(void *arg)
{
    struct images *im = arg;

    image_cache_drop_before(im->cache, loop_now(im->loop) - AGE_MAX_MS);
    timer_set(&im->age, AGE_EVERY_MS);
}

struct images *images_new(struct loop *l, const struct images_config *cfg, struct err *e)
{
    struct image_cache *cache = image_cache_new(cfg->dir, cfg->cache_max, e);
    struct images *im;

    if (cache == NULL)
        return NULL;
    assert(cfg->helpers > 0 && cfg->helpers <= HELPERS_MAX);
    im = xcalloc(1, sizeof(*im));
    im->loop = l;
    im->cfg = *cfg;
    im->cfg.helper = xstrdup(cfg->helper);
    im->cfg.dir = NULL;
    im->cache = cache;
    list_init(&im->queue);
    list_init(&im->known);
    task_init(&im->tell, tell_known, im);
    task_init(&im->pump, pump, im);
    timer_init(&im->age, l, on_age, im);
    timer_set(&im->age, AGE_EVERY_MS);
    for (unsigned i = 0; i < cfg->helpers; i++) {
        im->seats[i].im = im;
        im->seats[i].helper = image_helper_new(l, &im->cfg, on_done, on_free, &im->seats[i]);
    }
    return im;
}

void images_free(struct images **imp)
{
    static const char why[] = "the gateway stops";
    struct images *im = *imp;

    if (im == NULL)
        return;
    *imp = NULL;
    for (unsigned i = 0; i < im->cfg.helpers; i++) {
        image_helper_free(&im->seats[i].helper);
        if (im->seats[i].at)
            conversion_end(im, im->seats[i].at, IMAGE_UNAVAILABLE, 0, why);
    }
    all_end(im, IMAGE_UNAVAILABLE, why);
    tell_known(im);
    task_cancel(&im->tell);
    task_cancel(&im->pump);
    timer_fini(&im->age);
    image_cache_free(&im->cache);
    free((char *)(uintptr_t)im->cfg.helper);
    free(im);
}

void images_counts(const struct images *im, struct images_counts *out)
{
    *out = im->n;
    out->died = 0;
    out->waiting = HASH_COUNT(im->all);
    for (unsigned i = 0; i < im->cfg.helpers; i++)
        out->died += image_helper_died(im->seats[i].helper);
    image_cache_counts(im->cache, &out->kept, &out->bytes);
}
