/* What the two halves of `comfymux doctor` share: doctor.c looks at this machine and prints, doctor_servers.c asks the
 * ComfyUI servers and compares them. */
#ifndef CLI_DOCTOR_PRIV_H
#define CLI_DOCTOR_PRIV_H

#include "base/json.h"
#include "cli/config.h"
#include "cli/opts.h"
#include "comfy/object_info.h"

/* One sentence of what was found, and what to do about it. */
enum finding_level { FINDING_OK, FINDING_WARN, FINDING_BAD };
struct finding {
    enum finding_level level;
    const char *area;
    char *text, *advice; /* advice NULL: there is nothing to do */
};

struct doctor_server {
    char *name, *url; /* url may hold a password */
    char *shown;      /* without */
    const char *from; /* "configuration", "data folder" */
    bool reachable;
    char *why;       /* not reachable, or not usable: in words */
    int64_t took_ms; /* to answer GET /system_stats */
    bool socket;     /* its WebSocket opens */
    int64_t skew_s;  /* its clock is ahead by this much */
    char *version, *python, *device;
    int64_t vram_total, vram_free; /* bytes of the first device, 0 not told */
    unsigned devices;
    struct object_info *info; /* NULL: not read */
    size_t models;
};

/* A thing that not every reachable server has. */
struct difference {
    const char *kind; /* "node" "model" "choice" */
    char *name;
    char *where; /* Class.input; NULL for nodes */
    struct server_set missing;
};

struct doctor {
    struct finding *findings;
    size_t n_findings;
    struct doctor_server *servers;
    size_t n_servers;
    struct difference *differences;
    size_t n_differences;
};

void doctor_find(struct doctor *d, enum finding_level level, const char *area, char *advice, const char *fmt,
                 ...) PRINTF_LIKE(5, 6); /* advice is taken over */

/* doctor_servers.c */
/* name or url that is there already: ignored. */
void doctor_add_server(struct doctor *d, const char *name, const char *url, const char *from);
void doctor_ask(struct doctor *d, int64_t connect_ms); /* all at the same time */
void doctor_compare(struct doctor *d);
void doctor_servers_fini(struct doctor *d);

#endif
