/* What the simulator paints: pictures that differ for every job and say where they come from. */
#ifndef SIM_PICTURE_H
#define SIM_PICTURE_H

#include "sim/image.h"

/* Text in a 5x7 font (6x8 cells, lower case as upper case), white on a black bar, cut at the border. */
void picture_text(struct image *im, unsigned n, unsigned x, unsigned y, unsigned zoom, const char *text);

struct picture {
    const char *server;   /* drawn in the first line */
    const char *seed;     /* its digits, drawn in the second line; also chooses colours and pattern */
    const char *prompt;   /* drawn below, broken into lines; also chooses colours and pattern */
    unsigned step, steps; /* step < steps: noise is mixed in, as an unfinished sampling looks */
};
/* Deterministic in everything given. RGB. */
struct image *picture_paint(const struct picture *p, unsigned n, unsigned w, unsigned h, struct err *e);

#endif
