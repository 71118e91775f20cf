/* For tests: a scripted ComfyUI on our own server, on the loop of whoever asks it, and a fleet to ask it with.
 *
 * Without orders a fake takes every prompt, has an empty queue and history, stores uploads under their names,
 * serves them by /view, and greets sockets with a status. fake_next() changes how it answers one request. */
#ifndef FLEET_FAKE_COMFY_H
#define FLEET_FAKE_COMFY_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "comfy/object_info.h"
#include "fleet/registry.h"
#include "http/server.h"
#include "http/websocket.h"
#include "store/store_mem.h"

enum fake_act {
    FAKE_ANSWER, /* status and body */
    FAKE_CLOSE,  /* the connection ends without an answer */
    FAKE_CUT,    /* it ends after the head and a part of the body */
    FAKE_HOLD,   /* head and body go out, the end waits for fake_finish() */
    FAKE_HANG    /* until fake_release() */
};
struct fake_order {
    char method[8], path[96];
    enum fake_act act;
    int status;
    const char *type;
    char *body;
    size_t n;
    int times; /* -1 for ever */
};
struct fake_file {
    char *name;
    char *data;
    size_t n;
};
#define FAKE_MOST 64

struct fake {
    struct loop *loop;
    struct http_server *server;
    char url[64];
    unsigned short port;
    struct buf log; /* "POST /prompt\n" ... */
    struct fake_order orders[FAKE_MOST];
    size_t n_orders;
    struct http_req *hanging[FAKE_MOST];
    size_t n_hanging;
    char *queue, *history, *object_info;
    struct buf last_prompt; /* its body */
    struct buf frames;      /* what came over sockets, a line each */
    struct fake_file files[FAKE_MOST];
    size_t n_files;
    bool mute; /* does not greet */
    struct fake_socket {
        struct fake *f;
        struct ws *ws;
        char sid[64];
    } sockets[FAKE_MOST];
    size_t n_sockets; /* ever made */
};

struct fake *fake_new(struct loop *l);
/* Stops listening and closes everything, as a process that ends. */
void fake_die(struct fake *f);
void fake_revive(struct fake *f); /* at the same port */
void fake_free(struct fake **f);
void fake_next(struct fake *f, const char *method, const char *path, enum fake_act act, int status,
               const char *body, int times);
void fake_as_usual(struct fake *f); /* forget what fake_next() ordered */
void fake_lose_files(struct fake *f);
void fake_release(struct fake *f);               /* cut what hangs */
void fake_finish(struct fake *f);                /* end what is held */
void fake_say(struct fake *f, const char *text); /* to the latest socket */
void fake_say_binary(struct fake *f, const void *data, size_t n);
void fake_drop_socket(struct fake *f);
const char *fake_sid(const struct fake *f);                  /* of the latest socket */
unsigned fake_asked(const struct fake *f, const char *line); /* how often "POST /prompt" came */
const struct fake_file *fake_file(const struct fake *f, const char *name);
void fake_put(struct fake *f, const char *name, const void *data, size_t n);
void fake_set(char **what, const char *text);

/* --- a fleet and what it told --- */

struct rig {
    struct loop *loop;
    struct workers *workers;
    struct store *store;
    struct blobs *blobs;
    struct registry *reg;
    struct fleet *fleet;
    char dir[64];
    struct registry_config cfg;
    struct fake *fake[4];
    struct buf told; /* "link a up\n" "event a <id> <text>\n" "frame a <id> <n>\n" */
    unsigned changes;
    bool ready;
};
struct rig *rig_new(void);
void rig_free(struct rig **g);
/* Close the fleet and open one anew over the same store. */
void rig_close(struct rig *g);
void rig_open(struct rig *g);
void rig_start(struct rig *g);
void rig_turn(struct rig *g);
/* A fake of this number, configured as "a", "b", ...; waits until all n are up. */
void rig_servers(struct rig *g, size_t n);
struct fleet_server rig_server(struct rig *g, const char *name);
bool rig_has(struct rig *g, const char *name);
void rig_blob(struct rig *g, const char *text, uint8_t hash[BLAKE3_LEN]); /* stored and pinned */
void rig_read(struct rig *g, const uint8_t hash[BLAKE3_LEN], struct buf *out);

#define RIG_PATIENCE_MS 20000
#define RIG_UNTIL(g, cond)                                                                                   \
    do {                                                                                                     \
        int64_t limit_ = loop_now((g)->loop) + RIG_PATIENCE_MS;                                              \
        while (!(cond)) {                                                                                    \
            rig_turn(g);                                                                                     \
            if (loop_now((g)->loop) > limit_)                                                                \
                fail_msg("%s:%d: waited in vain for: %s", __FILE__, __LINE__, #cond);                        \
        }                                                                                                    \
    } while (0)

/* Prompt ids for tests. */
#define ID1 "0193aaaa-0000-7000-8000-000000000001"
#define ID2 "0193aaaa-0000-7000-8000-000000000002"

/* The answers of calls, kept. */
struct got {
    int n;
    enum fleet_submit_end submit;
    int status;
    char *body, *why;
    enum fleet_found found;
    bool refused, removed, answered, dead;
    enum fleet_fetch_end fetch;
    uint8_t blake3[BLAKE3_LEN];
    int64_t size, pin;
    char *mime;
    enum fleet_stopped stopped;
};
void got_fini(struct got *g);
/* Not waited for. */
void rig_submit(struct rig *g, const char *server, const char *id, const char *graph,
                const struct job_input *in, size_t n, struct got *into);
fleet_submitted_cb got_submitted;
fleet_lookup_cb got_lookup;
fleet_history_cb got_history;
fleet_fetched_cb got_fetched;
fleet_stopped_cb got_stopped;

#endif
