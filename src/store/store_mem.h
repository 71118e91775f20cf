/* The store in memory, for simulations and tests: the same contract, no threads, no clock, no disk, and every
 * step is the caller's choice. A write is
 *
 *     given ──store_mem_commit()──> committed ──store_mem_deliver()──> delivered
 *
 * and a crash may come between any two. A read sees what is committed when it is given, and is then pending
 * until it is delivered. Nothing happens by itself. One thread. */
#ifndef STORE_STORE_MEM_H
#define STORE_STORE_MEM_H

#include "store/store.h"

struct store *store_mem_new(void); /* store_close() commits and delivers what is open, then frees */

/* Writes given and not committed. */
size_t store_mem_given(struct store *s);
/* Commit the oldest of them. False: there is none. */
bool store_mem_commit(struct store *s);

/* Answers that can be delivered. */
size_t store_mem_pending(struct store *s);
/* Deliver one, 0 being the oldest: its callback runs inside this call. Any order is allowed; oldest first is
 * what the store on SQLite does among writes, and among reads. */
void store_mem_deliver(struct store *s, size_t which);

/* Commit and deliver, oldest first, until nothing is left, with what the callbacks give too. */
void store_mem_settle(struct store *s);

/* As SIGKILL and a new start: writes that were given only never happened, undelivered callbacks never run,
 * all pins are gone, what was committed stays. */
void store_mem_crash(struct store *s);

/* SIGKILL of a process that still has to give its memory back: what was given, and all that is given until
 * store_mem_crash(), never happens and is answered with STORE_FAILED; what was committed and not delivered is answered so
 * too. */
void store_mem_kill(struct store *s);
/* Before that: of the steps that are given and leave their job alive, copies are kept, which store_mem_commit_late()
 * commits one by one, with nobody told: what a process does that is believed dead. False: there is none. */
void store_mem_keep_late(struct store *s);
bool store_mem_commit_late(struct store *s);

/* The next n commits are refused with st (STORE_FULL or STORE_FAILED) and change nothing. */
void store_mem_fail(struct store *s, enum store_status st, unsigned n);

#endif
