/* The outside: clients that submit, cancel, listen, upload and read, what they have been told, and whether it was true. */
#ifndef SCENARIO_CLIENTS_H
#define SCENARIO_CLIENTS_H

#include "gateway.h"

struct clients_sum {
    int submitted, ended[JOB_STATES], retried, heard, trimmed;
};

/* jobs: how many will be submitted. */
void clients_init(struct gateway *g, struct store *s, int jobs);
void clients_fini(void);
extern const struct gateway_watch clients_watch;
extern const struct comfy_watch clients_comfy_watch;
bool clients_done(void); /* everything has been submitted */
void clients_heal(void); /* sockets stay from now on */
/* The gateway is gone: sockets are cut, a new one begins without. */
void clients_gateway_down(void);
void clients_machine_died(bool died); /* or only the gateway: what to look at when the next one is ready */
/* Around each commit of the store; late: of what a dead process had given (store_mem.h). */
void clients_before_commit(bool late);
void clients_after_commit(void);
/* What stands in records is whole and can be read. */
void clients_read_everything(void);
/* All has come to its end: what was promised is held against what is. */
void clients_check_end(struct clients_sum *sum);

#endif
