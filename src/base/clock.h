/* The two outside facts that decisions need: what time it is, and random bytes. Everything that decides takes
 * them from a struct clock it was given, so that tests run on virtual time and repeat from a seed. */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stddef.h>
#include <stdint.h>

struct clock {
    /* Monotonic milliseconds, for waits. Never goes back, counts from an arbitrary start. */
    int64_t (*mono_ms)(struct clock *c);
    /* Wall clock, integer milliseconds since the epoch, for records and ids. May jump. */
    int64_t (*wall_ms)(struct clock *c);
    void (*random)(struct clock *c, void *out, size_t n);
};

/* The system's clocks and getrandom(2). One shared object; usable from every thread. */
struct clock *clock_system(void);

#endif
