/* The files a prompt reads: every string in its graph that names one of the tenant's uploads, or an output of one of
 * its jobs, with the hash of the bytes it means now. The bytes are kept for as long as the job is, and staged to
 * whichever server runs it. */
#ifndef API_INPUTS_H
#define API_INPUTS_H

#include "api/api.h"
#include "comfy/graph.h"

struct inputs;
/* cb once, never inside the call: ok false if the store could not be read. g must outlive the call only. */
struct inputs *inputs_find(struct api *a, const char *tenant, const struct graph *g,
                           void (*cb)(bool ok, void *arg), void *arg);
const struct job_input *inputs_list(const struct inputs *in);
size_t inputs_count(const struct inputs *in);
/* Not before cb has run. */
void inputs_free(struct inputs **in);

#endif
