/* UUIDs as ComfyUI wants prompt ids: canonical, lowercase, hyphenated (RFC 9562). */
#ifndef BASE_UUID_H
#define BASE_UUID_H

#include <stdbool.h>

#include "base/clock.h"

#define UUID_LEN 36
#define UUID_SIZE (UUID_LEN + 1)

/* Version 7: sorts by time of making (wall_ms of the clock). Job ids. */
void uuid_v7(struct clock *c, char out[UUID_SIZE]);
/* Version 4: random. Attempt ids and client ids. */
void uuid_v4(struct clock *c, char out[UUID_SIZE]);
/* Exactly 36 characters, hyphens in place, lowercase hex. Any version: clients bring their own. */
bool uuid_is_canonical(const char *s, size_t len);

#endif
