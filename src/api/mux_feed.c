/*   BEGINNING ──where it stands in the log is known──> READING ──nothing more──> LIVE
 *                                                       │   ^
 *                                   its client lags     v   │ feed_go_on()
 *                                                      WAITING <── and a live one whose client lags
 *
 * The tail is one read for all LIVE streams. A stream becomes LIVE only when it has read as far as the tail; what the tail
 * brings that it has had already is left out by its id. */
#include "api/mux_feed.h"

#include <stdlib.h>
#include <string.h>

#define READ_ROWS 200

struct feed_read {
    struct feed_stream *s; /* NULL: it was closed meanwhile */
};
struct feed {
    struct store *store;
    struct list streams;
    size_t n_streams;
    size_t n_live;       /* those that the tail is read for */
    size_t n_failed;     /* those whose read failed: they read again when something is committed */
    int64_t last;        /* the tail has brought everything up to here */
    bool reading, again; /* the tail is; something was committed since */
};

struct feed *feed_new(struct store *s)
{
    struct feed *f = xcalloc(1, sizeof(*f));

    f->store = s;
    list_init(&f->streams);
    return f;
}

void feed_free(struct feed **f)
{
    free(*f);
    *f = NULL;
}

size_t feed_streams(const struct feed *f)
{
    return f->n_streams;
}

static void set_state(struct feed_stream *s, enum feed_state state)
{
    s->feed->n_live += (state == FEED_LIVE) - (s->state == FEED_LIVE);
    s->state = state;
}

static void set_failed(struct feed_stream *s, bool failed)
{
    s->feed->n_failed += failed - s->failed;
    s->failed = failed;
}

static bool wants(const struct feed_stream *s, const struct store_logged *e)
{
    return e->id > s->after && strcmp(s->tenant, e->tenant) == 0 &&
           (s->job[0] == '\0' || strcmp(s->job, e->job) == 0);
}

/* --- one stream, reading for itself --- */

static void on_read(enum store_status st, const struct store_logged *e, size_t n, int64_t oldest,
                    int64_t newest, void *arg);

static void read_on(struct feed_stream *s)
{
    struct feed_read *r = xcalloc(1, sizeof(*r));

    r->s = s;
    s->read = r;
    store_events(s->feed->store, s->after > 0 ? s->after : 0, s->job[0] ? s->job : NULL,
                 s->state == FEED_BEGINNING ? 1 : READ_ROWS, on_read, r);
}

static void wait_or_read(struct feed_stream *s)
{
    set_state(s, s->reader->has_room(s) ? FEED_READING : FEED_WAITING);
    if (s->state == FEED_READING)
        read_on(s);
}

/* Where does it begin? oldest and newest are of the whole log. */
static void find_place(struct feed_stream *s, int64_t oldest, int64_t newest)
{
    bool whole = s->after == 0 || (s->after >= oldest - 1 && s->after <= newest);

    set_state(s, FEED_READING);
    if (s->after == FEED_NOW) {
        s->after = newest;
    } else if (!whole) {
        s->after = newest;
        s->reader->on_reset(s);
    }
    wait_or_read(s);
}

/* Nothing follows as far as it has read; newest: the end of the log just before. */
static void caught_up(struct feed_stream *s, int64_t newest)
{
    struct feed *f = s->feed;
    int64_t seen = s->after > newest ? s->after : newest;

    if (f->n_live == 0 && !f->reading && seen > f->last)
        f->last = seen; /* nobody was there for whom the tail would have read */
    if (f->last > seen) {
        read_on(s);
        return;
    }
    set_state(s, FEED_LIVE);
    if (s->reader->on_caught_up(s))
        feed_poke(f);
}

static void on_read(enum store_status st, const struct store_logged *e, size_t n, int64_t oldest,
                    int64_t newest, void *arg)
{
    struct feed_read *r = arg;
    struct feed_stream *s = r->s;

    free(r);
    if (s == NULL)
        return;
    s->read = NULL;
    if (st != STORE_OK) { /* read again when something is committed */
        if (s->state == FEED_READING)
            set_state(s, FEED_WAITING);
        set_failed(s, true);
        return;
    }
    if (s->state == FEED_BEGINNING) {
        find_place(s, oldest, newest);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        if (wants(s, &e[i]) && !s->reader->on_entry(s, &e[i]))
            return;
        s->after = e[i].id;
    }
    if (n < READ_ROWS)
        caught_up(s, newest);
    else
        wait_or_read(s);
}

void feed_open(struct feed *f, struct feed_stream *s, int64_t after)
{
    s->feed = f;
    s->after = after;
    s->state = FEED_BEGINNING;
    s->failed = false;
    list_push_back(&f->streams, &s->link);
    f->n_streams++;
    read_on(s);
}

void feed_go_on(struct feed_stream *s)
{
    if (s->read)
        return;
    set_failed(s, false);
    if (s->state == FEED_WAITING)
        set_state(s, FEED_READING);
    if (s->state != FEED_LIVE)
        read_on(s);
}

void feed_close(struct feed_stream *s)
{
    if (s->read)
        s->read->s = NULL;
    s->read = NULL;
    set_failed(s, false);
    set_state(s, FEED_WAITING);
    list_remove(&s->link);
    s->feed->n_streams--;
}

/* --- the tail --- */

/* Streams may close themselves while they are told, never each other. */
static void tell(struct feed *f, const struct store_logged *e)
{
    list_for_each_safe(it, &f->streams) {
        struct feed_stream *s = list_entry(it, struct feed_stream, link);

        if (s->state != FEED_LIVE || !wants(s, e))
            continue;
        if (!s->reader->has_room(s)) {
            set_state(s, FEED_WAITING); /* it reads for itself once its client has taken what there is */
            continue;
        }
        if (s->reader->on_entry(s, e))
            s->after = e->id;
    }
}

static void on_tail(enum store_status st, const struct store_logged *e, size_t n, int64_t oldest,
                    int64_t newest, void *arg)
{
    struct feed *f = arg;

    (void)oldest;
    (void)newest;
    f->reading = false;
    for (size_t i = 0; i < n; i++) {
        f->last = e[i].id;
        tell(f, &e[i]);
    }
    if (f->again || n == READ_ROWS || st != STORE_OK) {
        f->again = false;
        if (st == STORE_OK)
            feed_poke(f);
    }
}

static void read_failed_again(struct feed *f)
{
    list_for_each(it, &f->streams) {
        struct feed_stream *s = list_entry(it, struct feed_stream, link);

        if (s->failed && s->reader->has_room(s))
            feed_go_on(s);
    }
}

void feed_poke(struct feed *f)
{
    if (f->n_failed)
        read_failed_again(f);
    if (f->reading) {
        f->again = true;
    } else if (f->n_live) {
        f->reading = true;
        store_events(f->store, f->last, NULL, READ_ROWS, on_tail, f);
    }
}

void feed_progress(struct feed *f, const struct runner_job_view *job)
{
    list_for_each_safe(it, &f->streams) {
        struct feed_stream *s = list_entry(it, struct feed_stream, link);

        if (s->state == FEED_LIVE && strcmp(s->tenant, job->s->tenant) == 0 &&
            (s->job[0] == '\0' || strcmp(s->job, job->s->id) == 0) && s->reader->has_room(s))
            s->reader->on_progress(s, job);
    }
}
