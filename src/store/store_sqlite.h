/* The store on SQLite 3: WAL, synchronous=FULL, one writer thread with group commit, one reader thread. */
#ifndef STORE_STORE_SQLITE_H
#define STORE_STORE_SQLITE_H

#include "net/loop.h"
#include "store/store.h"

/* Opens or creates dir/comfymux.db (dir must exist), takes a lock so that a second process is refused with a
 * clear message, runs numbered migrations, refuses a schema newer than this program by name and number.
 * Blocking: before the loop runs. */
struct store *store_sqlite_open(struct loop *l, const char *dir, struct err *e);

/* What is in a data folder, seen from outside: nothing is changed, and a gateway that has it open is not disturbed. */
struct store_look {
    int64_t holder; /* the process that has it open; 0 none, -1 one that does not say */
    bool exists;    /* there is a database */
    int64_t schema, known, jobs, live;
    struct {
        char *name, *url;
    } * servers; /* added by API or command line */
    size_t n_servers;
    char fault[200]; /* what is wrong with the database; "": nothing */
};
/* Blocking; reads the whole database once. -1: it cannot be read at all. Either way store_look_fini(). */
int store_sqlite_look(const char *dir, struct store_look *out, struct err *e) MUST_CHECK;
void store_look_fini(struct store_look *l);

#endif
