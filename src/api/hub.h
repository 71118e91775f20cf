/* The hub: what happens to jobs, told to the WebSockets of the clients that submitted them.
 *
 * A client is (tenant, client id); all its live sockets get its events. Each job of a client has a stream: the messages of
 * its server, the job's id and virtual file names put in, in order. The rules, each of which some real client needs:
 *
 *   1. Nothing of a job is sent before the answer to its POST has been flushed (hub_release).
 *   2. The first moments of a job are held back: one that ends within them is committed first and then told whole, so
 *      that every read in between is complete.
 *   3. execution_start and execution_cached are sent once per job, whatever the number of attempts; the former also
 *      for a job that ends without having begun.
 *   4. The terminal event is made here, after the commit; then status, then executing{node:null}: always, always last.
 *      A job that is taken away while it waits has no events: status alone tells of it.
 *   5. Streams of a client that has not negotiated feature flags follow each other: the next is told when the one
 *      before has ended. Until then its job stands as pending in native listings (hub_shows_pending).
 *   6. For a client without a socket the product pictures and the end are kept, at least 60 s and bounded, and told
 *      once when it connects.
 *      The same after a start, for ends that a gateway which is gone has not told: at least once, and twice only
 *      for those that it told within its last moments. And the same for ends that were sent on a socket in its last
 *      minute when that breaks off without a close frame: they may never have arrived.
 *   7. Progress and JPEG previews are dropped for a socket that does not keep up; nothing else is, until the socket's
 *      bound is reached: then it is closed and told when it comes back.
 *
 * Loop thread only. */
#ifndef API_HUB_H
#define API_HUB_H

#include "http/websocket.h"
#include "job/runner.h"

struct hub;

struct hub_config {
    unsigned sockets_max;
    size_t socket_bytes; /* queued for one socket before it is closed: 64 MiB */
    size_t kept_bytes;   /* kept for one client that is away: 64 MiB */
    size_t kept_all;     /* and for all of them: 512 MiB */
    int64_t settle_ms;   /* how long a job's first events are held: 100 */
    int64_t kept_ms;     /* how long a client that is away is remembered: 120 s */
};
extern const struct hub_config hub_config_default;

/* features: the JSON object of GET /features, which is the answer to a feature_flags message; text is copied.
 */
struct hub *hub_new(struct loop *l, struct clock *c, const struct hub_config *cfg, const char *features);
/* sockets_max counts for sockets that come afterwards (nobody is thrown out), features for the next one that asks. */
void hub_set_limits(struct hub *h, unsigned sockets_max, const char *features);
/* The process is about to end: what has been told is written down once more. To be called again until it is true; that
 * it is not written, because the store cannot, does not hold the end up. */
bool hub_stop(struct hub *h);
void hub_free(struct hub **h); /* sockets are closed with 1001 */
/* The runner has loaded what is unfinished: from now on its jobs are known here. What ended shortly before and was not
 * told is read from the store, which outlives the hub's last call (NULL: it is not), and told to whom it concerns. */
void hub_start(struct hub *h, struct runner *r, struct store *store);

/* An upgrade request on /ws; client_id NULL or "": one is made up. Answers it in every case. */
void hub_accept(struct hub *h, struct http_req *req, const char *tenant, const char *client_id);
/* A submit of this job is under way: its events are to be held until hub_release(). */
void hub_expect(struct hub *h, const char *job);
/* The answer to its POST has been flushed, or its connection is gone, or it was not accepted. */
void hub_release(struct hub *h, const char *job);

/* The runner's news. */
void hub_on_change(struct hub *h, const struct runner_job_view *job, enum job_state from,
                   const struct runner_end *end);
void hub_on_event(struct hub *h, const struct runner_job_view *job, const char *text, size_t n);
void hub_on_frame(struct hub *h, const struct runner_job_view *job, const void *data, size_t n);

/* Must the native dialect show this job as pending, because its client has not been told the end of another?
 */
bool hub_shows_pending(struct hub *h, const char *job);
/* Ended jobs of the tenant that still stand as pending, in order of acceptance. */
void hub_each_ended(struct hub *h, const char *tenant,
                    void (*cb)(const char *job, const char *client_id, void *arg), void *arg);
/* queue_remaining as this client sees it (NULL: the tenant). */
size_t hub_remaining(struct hub *h, const char *tenant, const char *client_id);
/* Client ids with a live socket from this address, for /interrupt without an id. */
void hub_each_peer(struct hub *h, const char *tenant, const char *peer_ip,
                   void (*cb)(const char *client_id, void *arg), void *arg);
unsigned hub_sockets(const struct hub *h);
/* The servers' log lines, to clients that want them and have a socket; who has none any more wants none. */
void hub_want_logs(struct hub *h, const char *tenant, const char *client_id, bool want);
bool hub_logs_wanted(struct hub *h);
void hub_tell_logs(struct hub *h, struct buf *message); /* empties it */
/* Has this client a live socket? */
bool hub_has_socket(struct hub *h, const char *tenant, const char *client_id);

#endif
