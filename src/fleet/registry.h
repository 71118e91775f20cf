/* The fleet for real: the set of configured ComfyUI servers, one link to each.
 *
 * A server (server.c) has one WebSocket with a fresh client id per connection, opened before the first
 * prompt, feature flags negotiated; an HTTP client; what it can do (object_info, models, version) as last
 * learnt, kept in the store so that a restart of the gateway is warm; and a state by evidence (health.h):
 *
 *   down ──link open, GET /prompt answers─> up ──a call fails, link lost──> suspect ──asked again, well──> up
 *     ^                                                                        │
 *     └──────────────────── refused, or silent for 10 s ───────────────────────┘
 *   fenced: it fails job after job while others do not; a trial job later. draining: the operator's word.
 *
 * Loop thread only. */
#ifndef FLEET_REGISTRY_H
#define FLEET_REGISTRY_H

#include "base/json.h"
#include "blob/blob.h"
#include "fleet/fleet.h"
#include "http/client.h"
#include "net/worker.h"
#include "store/store.h"

struct registry;
struct object_view;
struct object_info;

struct registry_config {
    int64_t connect_ms;  /* timeout.connect */
    int64_t output_ms;   /* timeout.output: silence while a file is read */
    int64_t output_max;  /* bytes of one file; 0 no limit */
    int64_t stall_ms;    /* timeout.stall: so long may what runs on a server be silent; 0: 30 minutes */
    const char *ca_file; /* for https, NULL the system's */
};

struct registry *registry_new(struct loop *l, struct workers *w, struct clock *c, struct store *s,
                              struct blobs *b, const struct registry_config *cfg);
/* connect_ms counts for connections opened afterwards, output_* for the next file, ca_file for servers that are added
 * afterwards. */
void registry_set_config(struct registry *r, const struct registry_config *cfg);
/* Servers of the store are added, links are opened, documents of the last run are read: ready once. */
void registry_start(struct registry *r, void (*ready)(void *arg), void *arg);
/* Calls under way are answered (as unreachable, lost, ...), then everything is closed. */
void registry_free(struct registry **r);
struct fleet *registry_fleet(struct registry *r);

/* Servers of the configuration file: the list as a whole; of two with one name the file's wins. Ones that are
 * no longer in it are removed (their jobs are queued again by the runner when they cannot be found). */
struct registry_entry {
    const char *name, *url; /* name NULL: host:port of the url */
    int depth;
    const char *tags; /* JSON array or NULL */
};
int registry_configure(struct registry *r, const struct registry_entry *v, size_t n,
                       struct err *e) MUST_CHECK;

/* By API and CLI: kept in the store. Answers after the commit. */
enum registry_end {
    REGISTRY_OK,
    REGISTRY_EXISTS,
    REGISTRY_NO_SERVER,
    REGISTRY_BUSY,
    REGISTRY_BAD,
    REGISTRY_FAILED
};
typedef void registry_cb(enum registry_end end, const char *why, void *arg);
void registry_add(struct registry *r, const struct registry_entry *in, registry_cb *cb, void *arg);
/* BUSY: it runs jobs of ours, unless force. */
void registry_remove(struct registry *r, const char *name, bool force, registry_cb *cb, void *arg);
void registry_drain(struct registry *r, const char *name, bool drain, registry_cb *cb, void *arg);

/* --- what the fleet can do, merged --- */
/* The merged object_info as it is served by GET /object_info: union of classes and of file lists. NULL until
 * any server has ever been known. etag: with quotes, changes with the text. The reference is the caller's. */
struct bytes *registry_object_info(struct registry *r, const char **etag);
/* The same as an index (comfy/object_info.h), for validation and need: server i of the view is the fleet_server with
 * index i; one that is not known, or not configured, has nothing there. Valid until the next loop turn; NULL as above. */
struct object_view *registry_view(struct registry *r);
/* What one server can do, or NULL if it is not known. */
struct object_info *registry_server_info(struct registry *r, unsigned index);
/* Changes with everything that is told here, and with the names and the knowledge of fleet_servers(): what was made of
 * them is good for as long as this stays. Never 0. */
uint64_t registry_version(const struct registry *r);
/* Let go of a view of which a reference was taken. The last one may free tens of MB in small pieces: a worker does it.
 * Also when the registry is gone. */
void registry_drop_view(struct workers *w, struct object_view *v);

/* Somebody wants to know what the servers can do now (GET /object_info, which is what the frontend's Refresh asks for): each
 * is asked again, but at most every 10 s, and the rarer the slower it answers. False: what is known is as new as it may
 * be. True: cb is called once, when what is being asked has been learnt or has taken 5 s. w is the caller's memory. */
typedef void refresh_cb(void *arg);
struct refresh {
    struct list link;
    struct timer timer;
    refresh_cb *cb;
    void *arg;
};
bool registry_refresh(struct registry *r, struct refresh *w, refresh_cb *cb, void *arg);
void registry_refresh_cancel(struct refresh *w);

/* --- for the native routes --- */
/* A client to this server for what our clients ask of it, or NULL while it is down. Its connections are apart from those
 * over which jobs are looked after. */
struct http_client *registry_client(struct registry *r, const char *name);
/* Under which client id this server knows us, or NULL: what it would send to a client of ours it must send there. Valid
 * until the next loop turn. */
const char *registry_client_id(struct registry *r, const char *name);
/* The servers' log lines, as their sockets bring them while they are wanted. data: of the "logs" message, a span of the text
 * that came; valid during the call. */
typedef void registry_logs_cb(const char *server, struct json data, void *arg);
void registry_on_logs(struct registry *r, registry_logs_cb *cb, void *arg);
void registry_want_logs(struct registry *r, bool want);
/* The sticky primary for what is not merged (extensions, i18n, templates ...): the same server for as long as
 * it is up; NULL if none is. */
const char *registry_primary(struct registry *r);
/* Last GET /system_stats of the server, JSON, or NULL; refreshed when the link opens and at most every 10 s
 * on asking. Valid until the next loop turn: bytes_ref() to keep. */
struct bytes *registry_system_stats(struct registry *r, const char *name);
/* The same as it was fetched last, and the server is asked for nothing. *ago: ms since it said so; -1: in an earlier run. */
struct bytes *registry_last_stats(struct registry *r, const char *name, int64_t *ago);

#endif
