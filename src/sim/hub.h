/* The sockets of one server, with ComfyUI's registry: one socket per client id. A newcomer takes the id over
 * without a word to the old socket, and whichever socket of that id closes first removes the id, the
 * newcomer's too (recording b3). Loop thread only. */
#ifndef SIM_HUB_H
#define SIM_HUB_H

#include "base/clock.h"
#include "http/websocket.h"

struct hub;
struct hub_conf {
    void *arg;
    /* The first frames: status with this id, then what else a (re)connecting client is told. */
    void (*greet)(void *arg, const char *sid, struct ws *w);
    /* The data of the answer to feature_flags: JSON text, appended. */
    void (*features)(void *arg, struct buf *b);
};
struct hub *sim_hub_new(const struct hub_conf *c);
void sim_hub_free(struct hub **h); /* cuts every socket */

/* Takes the request over; answers 400 with aiohttp's texts if it is no proper handshake. sid "" or NULL: a
 * new id. */
void sim_hub_accept(struct hub *h, struct http_req *r, const char *sid, struct clock *clock);
/* sid NULL: all registered sockets. */
void hub_text(struct hub *h, const char *sid, const char *s, size_t n);
void hub_binary(struct hub *h, const char *sid, const void *p, size_t n);
/* 1 takes previews with metadata, 0 not, -1 its flags are null. */
int hub_metadata(const struct hub *h, const char *sid);
bool hub_has(const struct hub *h, const char *sid);
void hub_silence(struct hub *h, bool on); /* an injected fault: sockets stay open and say nothing */
void hub_cut(struct hub *h);              /* every socket is gone, no close frame */
size_t hub_count(const struct hub *h);

#endif
