/* One entry for both uses of a target: under libFuzzer (built with -Dfuzz=true), or with a main() of its own
 * (fuzz_main.c) that runs every file of the folders it is given, as an ordinary test. */
#ifndef TEST_FUZZ_H
#define TEST_FUZZ_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A property that must hold for any input. */
#define FUZZ_CHECK(cond)                                                                                     \
    do {                                                                                                     \
        if (!(cond))                                                                                         \
            __builtin_trap();                                                                                \
    } while (0)

#endif
