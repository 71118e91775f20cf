/* What the other files of this room need from the loop; not for other rooms. */
#ifndef NET_LOOP_IMPL_H
#define NET_LOOP_IMPL_H

#include "net/loop.h"

/* Something that lives on without an owner (a stream that lingers): loop_free() calls destroy. */
struct orphan {
    struct list link;
    void (*destroy)(struct orphan *o);
};
void loop_adopt(struct loop *l, struct orphan *o);

/* Block until a message is there and deliver what is queued, at once and outside of a turn's order. */
void loop_wait_messages(struct loop *l);

#endif
