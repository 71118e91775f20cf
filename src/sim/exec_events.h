/* The messages of one prompt: how they are written, who gets them, which of them history keeps; and the
 * progress of every node that has begun. Used by exec.c only. */
#ifndef SIM_EXEC_EVENTS_H
#define SIM_EXEC_EVENTS_H

#include "sim/exec.h"
#include "sim/exec_graph.h"

struct progress;

struct xevents {
    const struct exec_sink *sink;
    struct clock *clock;
    char *prompt_id;
    char *sid;                 /* the prompt's client, or NULL if it has none */
    struct buf messages;       /* history's status.messages, without brackets */
    struct progress *progress; /* in order of beginning */
};
/* extra: the prompt's extra_data, which names the client. */
void xevents_begin(struct xevents *v, const char *prompt_id, const struct val *extra);
void xevents_end(struct xevents *v);

/* data: taken over. To the client; dropped if there is none. */
void xevents_send(struct xevents *v, const char *type, struct val *data);
/* To the client, or to all if there is none. */
void xevents_send_wide(struct xevents *v, const char *type, struct val *data);
/* To every socket. */
void xevents_send_all(struct xevents *v, const char *type, const struct val *data);
/* As xevents_send (wide: as _wide), with a timestamp, and kept for history. */
void xevents_message(struct xevents *v, const char *type, struct val *data, bool wide);
void xevents_executing(struct xevents *v, const struct xnode *n);                          /* NULL: the end */
void xevents_executed(struct xevents *v, const struct xnode *n, const struct val *output); /* NULL: null */

void xevents_node_starts(struct xevents *v, const struct xnode *n);
void xevents_node_ends(struct xevents *v, const struct xnode *n);
/* A tick with an optional preview. False: the client's flags are null and a preview was to be sent. */
bool xevents_tick(struct xevents *v, const struct xnode *n, int64_t value, int64_t max, const char *mime,
                  const struct buf *preview);
void xevents_node_text(struct xevents *v, const struct xnode *n, const char *text);

#endif
