/* Secrets that come with a prompt are kept sealed: AES-256-GCM under a key that stands in a file of its own, beside the
 * database and not in it, so that a copy of the database tells nobody anything. What is sealed is bound to its job: moved
 * into another row it cannot be opened.
 *
 * A key file that is lost or exchanged makes what was sealed before unreadable, nothing else: those jobs fail
 * (dispatch_failed), and a new key is made.
 *
 * Any thread; nothing blocks but vault_open(). */
#ifndef STORE_VAULT_H
#define STORE_VAULT_H

#include "base/err.h"
#include "base/mem.h"

struct vault;

/* Reads dir/secrets.key, or makes it (mode 0600, fsynced). NULL: it cannot be read, has not 32 bytes, or is open to
 * others than its owner. */
struct vault *vault_open(const char *dir, struct err *e);
void vault_close(struct vault **v);

/* For the row of job id. The caller's reference. */
struct bytes *vault_seal(const struct vault *v, const char *id, const struct bytes *plain);
/* NULL: sealed by another key, for another job, or altered. The answer is wiped when it is freed. */
struct bytes *vault_unseal(const struct vault *v, const char *id, const struct bytes *sealed);

#endif
