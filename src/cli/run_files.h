/* The files that `comfymux run` reads and writes: inputs found beside the workflow, outputs under their own
 * names, which a server chose and which are not to be trusted. */
#ifndef CLI_RUN_FILES_H
#define CLI_RUN_FILES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

/* ---- names (pure) ---- */

/* A name that can stand in a folder: the last component; no control characters, no byte that is not UTF-8, no
 * leading dot, no more than 240 bytes with the ending kept. "output" when nothing is left. Appended. */
void run_name_clean(const char *name, size_t n, struct buf *out);
/* "cat.png", 2 -> "cat (2).png"; 0 is the name itself. Appended. */
void run_name_nth(const char *name, unsigned k, struct buf *out);
/* A name for an output that has none: "text_9_0.txt". Appended. */
void run_name_made(const char *kind, const char *node, unsigned k, const char *ext, struct buf *out);

/* ---- outputs ---- */

/* A file being written in dir: under a passing name until run_file_commit. */
struct run_file {
    int fd;
    char *part; /* its path while it is not whole */
    int64_t size;
};
int run_file_open(struct run_file *f, const char *dir, struct err *e) MUST_CHECK;
int run_file_write(struct run_file *f, const void *data, size_t n, struct err *e) MUST_CHECK;
/* Gives it its name, or the first free of "name (1).ext", "name (2).ext"...; what exists is never written
 * over. *path (caller frees) is where it is. */
int run_file_commit(struct run_file *f, const char *dir, const char *name, char **path,
                    struct err *e) MUST_CHECK;
/* Drop what was written, if it was not committed. */
void run_file_abort(struct run_file *f);
/* Make dir, and the folders above it. */
int run_dir_make(const char *dir, struct err *e) MUST_CHECK;

/* ---- inputs ---- */

/* The path of an input file that a workflow names: relative to the working directory or to the workflow's
 * folder (that first), or NULL if there is no such regular file. Caller frees. */
char *run_input_find(const char *workflow_dir, const char *value, size_t n);
const char *run_base_name(const char *path);

#endif
