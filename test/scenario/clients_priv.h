/* What the files of the clients share. */
#ifndef SCENARIO_CLIENTS_PRIV_H
#define SCENARIO_CLIENTS_PRIV_H

#include "base/hash.h"
#include "clients.h"
#include "comfy.h"
#include "store/mem_priv.h"

#define CLIENTS 4
#define INPUT_NAMES 3

struct vclient {
    char id[16];
    struct ws *ws;   /* or NULL */
    unsigned serial; /* of its socket */
    bool flags;
};

/* What the outside has seen of one job. */
struct told {
    char id[UUID_SIZE];
    struct vclient *client; /* NULL: submitted without a client id */
    bool paid;
    char *image;   /* content of the input that it reads, or NULL */
    unsigned life; /* of the gateway, in which it was submitted */
    bool accepted; /* the submit was answered with OK */
    bool may_go;   /* it has ended and retention may have taken it */
    bool cancel_confirmed;
    bool ended; /* its end was announced */
    enum job_state state;
    unsigned end_life; /* of the gateway, in which it was */
    /* over its client's socket */
    bool owed; /* its end was announced while the socket was open: the last word is to come */
    unsigned serial;
    unsigned heard_life;
    int logged_ends;
    int heard_attempt, heard_starts, heard_ends;
    bool heard_last;
    bool ever_heard_end; /* on whichever socket */
    int64_t ended_at;    /* vt_now() when its end was committed; 0: not yet */
    UT_hash_handle hh;
};

/* An id under which a job was given to a server. */
struct bound {
    char id[UUID_SIZE];
    struct told *t;
    char server[8];
    UT_hash_handle hh;
};

struct upload {
    struct list link;
    uint8_t blake3[BLAKE3_LEN];
    char *content;
};

/* One line of the event log, as it was read. */
struct logged {
    int64_t id;
    uint64_t hash;
    UT_hash_handle hh;
};

struct outside {
    struct gateway *g;
    struct store *store;
    int jobs;
    struct clients_sum sum;
    struct told *told;
    struct bound *bound;
    struct logged *logged;
    struct list uploads;
    int uploaded;
    bool healed, read_all;
    struct vclient clients[CLIENTS];
    int64_t cursor;   /* of the reader of the event log */
    int64_t ready_at; /* when this life of the gateway was */
    struct vt_event arrival, visit, look;
    enum req_kind next; /* the commit that is about to be made */
    struct told *next_told;
    uint32_t next_version, had_version;
};
extern struct outside out;

struct told *told_of(const char *id);
/* What is committed of it, or NULL. Valid until the next commit. */
struct job_record *committed_record(const char *id);
struct bound *bound_of(const char *upstream_id);
void blake3_of(const char *text, uint8_t hash[BLAKE3_LEN]);

/* clients.c: in so many ms. */
void client_cancels(struct told *t, int64_t ms);
/* clients_check.c */
void on_gateway_change(const struct runner_job_view *job, enum job_state from, const struct runner_end *end);
void read_job(struct told *t);
void client_came(struct vclient *c);

#endif
