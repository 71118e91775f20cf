/* The web page and its modules, /mux/: made from web/ when the program is built, and part of it. */
#ifndef API_PAGE_H
#define API_PAGE_H

#include <stddef.h>

struct page_file {
    const char *name; /* below /mux/ */
    const char *type, *etag;
    const unsigned char *data;
    size_t size;
    const unsigned char *gz; /* the same, compressed */
    size_t gz_size;
};
/* Ended by a NULL name; empty in a build without the page. */
extern const struct page_file page_files[];

#endif
