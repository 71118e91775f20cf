/* The loop and the workers of net/, on virtual time: in the simulation these stand where the real ones do (net/loop.h,
 * net/worker.h), and the rooms above do not know. A piece of work runs at one moment and is told of at another. */
#ifndef SCENARIO_VLOOP_H
#define SCENARIO_VLOOP_H

#include "net/loop.h"
#include "net/worker.h"

/* The end of a turn: what was deferred. To be called after every moment. */
void vloop_turn(struct loop *l);
/* Run and tell of one piece of work now. False: there is none. */
bool vworkers_step(struct workers *w);

#endif
