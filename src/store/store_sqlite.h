/* The store on SQLite 3: WAL, synchronous=FULL, one writer thread with group commit, one reader thread. */
#ifndef STORE_STORE_SQLITE_H
#define STORE_STORE_SQLITE_H

#include "net/loop.h"
#include "store/store.h"

/* Opens or creates dir/comfymux.db (dir must exist), takes a lock so that a second process is refused with a
 * clear message, runs numbered migrations, refuses a schema newer than this program by name and number.
 * Blocking: before the loop runs. */
struct store *store_sqlite_open(struct loop *l, const char *dir, struct err *e);

#endif
