/* What the helper process takes away from itself before it looks at the first byte that a stranger wrote: files, network,
 * other programs, memory and time without end. */
#ifndef IMAGE_IMAGE_GUARD_H
#define IMAGE_IMAGE_GUARD_H

#include <stdbool.h>

/* First thing: descriptors beyond keep are closed, it dies with its parent, and can gain no rights. */
void guard_begin(int keep);
/* After libraries are loaded: limits, and from now on only harmless system calls; all others fail with EPERM. False: they
 * cannot be limited here (another processor, an old kernel, a build with sanitizers); the rest holds. */
bool guard_confine(void);
/* Before each picture: so many seconds of processor time from now, then SIGXCPU ends the process. */
void guard_time(unsigned seconds);

#endif
