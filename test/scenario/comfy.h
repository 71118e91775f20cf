/* Scripted ComfyUI servers, as they show themselves over HTTP and their sockets (vhttp.h). What goes wrong with them is drawn
 * from the seed. They keep their own account of what each really did. */
#ifndef SCENARIO_COMFY_H
#define SCENARIO_COMFY_H

#include "base/list.h"
#include "base/uuid.h"
#include "vhttp.h"

#define COMFY_SERVERS 4
#define COMFY_FILES 2 /* that a prompt makes */

struct comfy_faults { /* per mille of the times it could happen */
    int die, wipe_input, link_drop, reject, exec_error, oom, interrupted, late_event, repeat_event, hang,
        long_run, http_error, history_lag, view_gone, sick, foreign;
};

struct comfy_prompt {
    struct list link; /* server.queue or server.history */
    char id[UUID_SIZE], client_id[64];
    bool foreign;    /* not ours */
    int64_t done_at; /* virtual ms when it will end; 0: it waits */
    enum { COMFY_OK, COMFY_ERROR, COMFY_OOM, COMFY_INTERRUPTED } verdict;
    bool hang, told;
    char image[128]; /* the input that it reads, "" none */
    unsigned made;   /* number of its first file */
};

/* What a server did with one id of ours. */
struct comfy_run {
    char id[UUID_SIZE];
    int server;
    int posted, began;
};

/* What the servers see is looked at while it happens. */
struct comfy_watch {
    /* POST /prompt has arrived, before anything is done with it. has: how much unfinished work of ours is there. */
    void (*on_posted)(const char *id, int server, int has);
    /* It begins to run. image: the content of its input file, NULL if that is not there; "" if it reads none. */
    void (*on_began)(const char *id, int server, const char *image);
};

void comfy_init(const struct comfy_watch *w);
void comfy_fini(void);
void comfy_set_faults(const struct comfy_faults *f);
/* No more faults; servers that are down or sick come back. */
void comfy_heal(void);
const struct comfy_run *comfy_run_of(const char *id);
/* Is work with this id waiting, running, or in history? */
bool comfy_has(int server, const char *id, bool *in_history);
/* Calls cb for every prompt of ours that waits or runs. */
void comfy_each(void (*cb)(int server, const struct comfy_prompt *p));
/* The bytes of a file that a prompt made. */
void comfy_content(int server, const char *id, const char *filename, char *out, size_t size);
const char *comfy_name(int server);
int comfy_depth(int server); /* how much is to be given to it at one time */

#endif
