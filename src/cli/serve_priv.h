/* Inside of `comfymux serve`: what its files share. serve.c puts the rooms together and takes them apart, serve_config.c
 * knows what the configuration means to each of them, serve_keep.c is retention. Loop thread only. */
#ifndef CLI_SERVE_PRIV_H
#define CLI_SERVE_PRIV_H

#include "api/api.h"
#include "cli/config.h"
#include "fleet/registry.h"
#include "http/server.h"
#include "job/runner.h"
#include "net/worker.h"
#include "store/vault.h"

struct serve_flags {
    const char *file, *listen, *data, *frontend;
    const char **servers;
    size_t n_servers;
};

struct serve {
    const struct serve_flags *flags;
    struct config cfg;
    struct loop *loop;
    struct workers *workers;
    struct store *store;
    struct vault *vault;
    struct blobs *blobs;
    struct images *images;
    struct registry *registry;
    struct runner *runner;
    struct api *api;
    struct http_server *http;
    struct timer wake, drained, stop_at, keep;
    bool keeping; /* a step of retention is under way */
    bool stopping;
    int status;
};

/* --- serve_config.c --- */
/* File, then flags. -1: to is empty, and why has every fault on a line of its own. */
int serve_read_config(struct config *to, const struct serve_flags *f, struct buf *why) MUST_CHECK;
struct registry_config serve_registry_config(const struct config *c);
struct runner_config serve_runner_config(const struct config *c);
struct http_limits serve_http_limits(const struct config *c);
/* cfg lives as long as the list that is returned: free() that. */
const char **serve_api_config(const struct config *c, struct api_config *cfg);
int serve_configure_servers(struct registry *r, const struct config *c, struct err *e) MUST_CHECK;
/* SIGHUP: the file is read again; a faulty one changes nothing. */
void serve_reload(struct serve *s);

/* --- serve_keep.c --- */
void serve_keep_init(struct serve *s);
void serve_keep_start(struct serve *s);
/* The configuration has changed. */
void serve_keep_again(struct serve *s);

#endif
