#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

static int64_t read_ms(clockid_t id)
{
    struct timespec ts;

    clock_gettime(id, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static int64_t system_mono_ms(struct clock *c)
{
    (void)c;
    return read_ms(CLOCK_MONOTONIC);
}

static int64_t system_wall_ms(struct clock *c)
{
    (void)c;
    return read_ms(CLOCK_REALTIME);
}

static void system_random(struct clock *c, void *out, size_t n)
{
    char *p = out;

    (void)c;
    while (n > 0) {
        ssize_t got = getrandom(p, n, 0);

        if (got < 0) {
            perror("comfymux: getrandom");
            abort();
        }
        p += got;
        n -= (size_t)got;
    }
}

struct clock *clock_system(void)
{
    static struct clock c = {system_mono_ms, system_wall_ms, system_random};

    return &c;
}
