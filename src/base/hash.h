/* Hash tables are uthash's, with a keyed hash function: keys such as client ids come from strangers, who must
 * not be able to choose colliding ones. Include this header, never <uthash.h>. */
#ifndef BASE_HASH_H
#define BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

/* SipHash-1-3 under a key drawn once per process. */
uint64_t hash_bytes(const void *data, size_t len);
/* For tests that must repeat: fix the key before the first table is filled. */
void hash_seed(uint64_t k0, uint64_t k1);

#define HASH_FUNCTION(keyptr, keylen, hashv) ((hashv) = (unsigned)hash_bytes((keyptr), (keylen)))
#define HASH_NONFATAL_OOM 0
#include <uthash.h>

#endif
