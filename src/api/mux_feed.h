/* The event log, followed: what GET /mux/v1/events and /mux/v1/jobs/{id}/events stand on.
 *
 * What is kept (state, output, end) has the id that it was given inside its commit, and is always read from the store:
 * first by each stream for itself, up to the end of the log; from then on once for all streams together, whenever
 * something was committed. So a stream never misses, repeats or reorders an entry, before and after a restart alike.
 * Progress is told as it comes, to whoever keeps up.
 *
 * Loop thread only. */
#ifndef API_MUX_FEED_H
#define API_MUX_FEED_H

#include "base/list.h"
#include "job/runner.h"
#include "store/store.h"

#define FEED_NOW (-1)

struct feed;
struct feed_read;
struct feed_stream;

struct feed_reader {
    /* The next entry. False: the stream wants no more and has called feed_close(). */
    bool (*on_entry)(struct feed_stream *s, const struct store_logged *e);
    /* The job has made progress; only once it has caught up. */
    void (*on_progress)(struct feed_stream *s, const struct runner_job_view *job);
    /* What follows the entry that it had last is no longer whole, or the log never had that entry: it tells where
     * things stand now. Entries after s->after, the end of the log, follow. */
    void (*on_reset)(struct feed_stream *s);
    /* It has had everything there is so far. False: as for on_entry. */
    bool (*on_caught_up)(struct feed_stream *s);
    /* May more be given to it? False: it calls feed_go_on() when it may. */
    bool (*has_room)(struct feed_stream *s);
};
struct feed_stream {
    struct list link;
    struct feed *feed;
    const struct feed_reader *reader;
    const char *tenant;
    char job[UUID_SIZE]; /* "": all */
    int64_t after;       /* id of the last entry that it has had */
    enum feed_state { FEED_BEGINNING, FEED_READING, FEED_WAITING, FEED_LIVE } state;
    struct feed_read *read; /* under way */
    bool failed;            /* the last one; it is read again when something is committed */
};

struct feed *feed_new(struct store *s);
/* After the store has answered everything; no stream is open. */
void feed_free(struct feed **f);
/* s stands in something of the caller's; reader, tenant (which outlives it) and job are set. after: of the last entry
 * that the client has had; 0: from the beginning of what is kept; FEED_NOW: what comes from now on. No hook runs inside
 * this call. */
void feed_open(struct feed *f, struct feed_stream *s, int64_t after);
void feed_go_on(struct feed_stream *s);
void feed_close(struct feed_stream *s); /* no hook runs any more */
/* Something was committed. */
void feed_poke(struct feed *f);
void feed_progress(struct feed *f, const struct runner_job_view *job);
size_t feed_streams(const struct feed *f);

#endif
