/* A server's folders: input, output, temp and user under one directory, with ComfyUI's rules for names.
 *
 * Names come from strangers: nothing outside the folders is ever touched, whatever a name says. Plain
 * blocking file calls; any thread. */
#ifndef SIM_FILES_H
#define SIM_FILES_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "comfy/names.h"

enum files_dir { FILES_INPUT = NAME_INPUT, FILES_OUTPUT = NAME_OUTPUT, FILES_TEMP = NAME_TEMP, FILES_USER };

struct files {
    char *base; /* absolute */
    struct clock *clock;
};
/* Makes the folders; temp is emptied, as at the start of a server. */
int files_init(struct files *f, const char *base, struct clock *c, struct err *e) MUST_CHECK;
void files_fini(struct files *f);
int files_wipe_temp(struct files *f);
/* base and all in it, gone. */
void files_remove_tree(const char *path);

int files_dir_parse(const char *s); /* "input" "output" "temp"; -1 */
const char *files_dir_name(enum files_dir d);
/* Where a file of that subfolder and name is; false if it would lie outside. Appended to out. */
bool files_path(const struct files *f, enum files_dir d, const char *sub, const char *name, struct buf *out);
/* "x.png [output]" as LoadImage takes it: cuts the note off. Appended to name. */
enum files_dir files_annotated(const char *s, struct buf *name);
bool files_exists(const struct files *f, const char *annotated);
int files_read(const char *path, struct buf *out, struct err *e) MUST_CHECK;
int files_make_folder_of(const char *path, struct err *e) MUST_CHECK;                    /* path: absolute */
int files_write(const char *path, const void *data, size_t n, struct err *e) MUST_CHECK; /* makes folders */
/* Hex digest of a file, for IS_CHANGED. */
int files_sha256(const char *path, char out[65], struct err *e) MUST_CHECK;

struct files_list {
    char **name;
    int64_t *mtime; /* nanoseconds */
    size_t n;
};
/* The plain files of a folder, sorted by name; top level only. */
void files_list(const struct files *f, enum files_dir d, struct files_list *out);
void files_list_free(struct files_list *l);

/* get_save_image_path: prefix with %variables% -> subfolder, file stem and the next free number. */
struct files_save {
    char *folder; /* absolute, made */
    char *sub, *stem;
    long counter;
};
int files_save_begin(const struct files *f, enum files_dir d, const char *prefix, unsigned w, unsigned h,
                     struct files_save *s, struct err *e) MUST_CHECK;
void files_save_end(struct files_save *s);

/* "image/png" for "a.PNG"; "application/octet-stream" for what is unknown. */
const char *files_mime(const char *name);

#endif
