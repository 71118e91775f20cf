/* The network between the gateway and its servers, and between it and its clients, on virtual time: in the simulation this
 * stands where http/client.h and http/websocket.h are, for what fleet/ and api/hub use of them. Requests and messages
 * arrive some time after they were sent, or do not. */
#ifndef SCENARIO_VHTTP_H
#define SCENARIO_VHTTP_H

#include "http/client.h"
#include "http/websocket.h"
#include "vt.h"

/* A request on its way, owned by the network. The call may be gone: the process that asked has died, or lost interest. */
struct vrequest {
    struct list link;
    struct http_call *call; /* or NULL */
    const char *method;     /* literals */
    char *target;
    struct bytes *body;
    int server; /* its index in the fleet */
    unsigned life;
    bool arrived;
    struct vt_event ev;
    /* the answer */
    enum http_call_end end;
    int status;
    const char *why;
    struct buf answer;
};

/* Faults of the network, per mille of requests. */
struct vhttp_faults {
    int refused, lost_before, lost_after, overtaken, timeout, slow;
};
void vhttp_init(void);
void vhttp_fini(void);
void vhttp_set_faults(const struct vhttp_faults *f);
/* The process died: of what it was about to send some has left and some has not; nobody waits for answers. */
void vhttp_process_died(void);

/* --- towards servers --- */
/* The servers' side: what they answer is put into q (status, answer). False: no answer ever comes. */
bool comfy_answer(struct vrequest *q);
bool comfy_is_up(int server);
unsigned comfy_life(int server);
/* A socket was opened with this client id; what the server says goes out with vws_say(). */
void comfy_socket_opened(int server, struct ws *w, const char *client_id);
void comfy_socket_closed(int server, struct ws *w);
/* ms: later than what is usual; reordered if it is more than nothing. */
void vws_say(struct ws *w, const char *text, int64_t ms);
/* The connection broke. */
void vws_break(struct ws *w, const char *why);

/* --- towards clients --- */
/* A client's socket is given to hub_accept() as its request, and gets what is sent. */
struct vclient;
void client_hears(struct vclient *c, enum ws_type type, const char *data, size_t n);
void client_cut_off(struct vclient *c); /* the gateway has closed it, or died */
void vws_client_says(struct ws *w, const char *text);
void vws_client_gone(struct ws *w);
struct ws *vclient_socket(struct vclient *c);
void vclient_set_socket(struct vclient *c, struct ws *w);

#endif
