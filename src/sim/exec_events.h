/* Who gets the messages of one prompt, which of them history keeps, and the progress of every node that has
 * begun; how they are written is comfy/events.h's. Used by exec.c only. */
#ifndef SIM_EXEC_EVENTS_H
#define SIM_EXEC_EVENTS_H

#include "comfy/events.h"
#include "sim/exec.h"
#include "sim/exec_graph.h"

struct xevents {
    const struct exec_sink *sink;
    char *prompt_id;
    char *sid;                      /* the prompt's client, or NULL if it has none */
    struct buf messages;            /* the inside of history's status.messages */
    struct event_node_state *nodes; /* in order of beginning; ids are the graph's */
    size_t n;
};
/* extra: the prompt's extra_data, which names the client. */
void xevents_begin(struct xevents *v, const char *prompt_id, const struct val *extra);
void xevents_end(struct xevents *v);

/* The event's text is sent and freed: to the client (dropped if there is none; wide: to all then). */
void xevents_send(struct xevents *v, struct buf *event, bool wide);
/* The same, and kept for history. */
void xevents_message(struct xevents *v, struct buf *event, bool wide);
/* {"type": type, "data": data} to every socket. */
void xevents_send_all(struct xevents *v, const char *type, const struct val *data);
void xevents_executing(struct xevents *v, const struct xnode *n);                          /* NULL: the end */
void xevents_executed(struct xevents *v, const struct xnode *n, const struct val *output); /* NULL: null */

void xevents_node_starts(struct xevents *v, const struct xnode *n);
void xevents_node_ends(struct xevents *v, const struct xnode *n);
/* A tick with an optional preview. False: the client's flags are null and a preview was to be sent. */
bool xevents_tick(struct xevents *v, const struct xnode *n, int64_t value, int64_t max, const char *mime,
                  const struct buf *preview);
void xevents_node_text(struct xevents *v, const struct xnode *n, const char *text);

#endif
