/* Inside of blob/: the file operations, which run on workers, and the state shared by writers and sweep. */
#ifndef BLOB_BLOB_PRIV_H
#define BLOB_BLOB_PRIV_H

#include <blake3.h>

#include "base/buf.h"
#include "base/hash.h"
#include "blob/blob.h"

/* --- blob_fs.c. Any thread; e->code is an errno. --- */
#define BLOB_NAME_MAX 80
struct blob_fs {
    int dir, tmp;    /* DIR/blobs and DIR/blobs/tmp */
    char prefix[17]; /* of temporary names of this process */
};
int blob_fs_open(struct blob_fs *fs, const char *dir, struct err *e);
void blob_fs_close(struct blob_fs *fs);
int blob_fs_create(struct blob_fs *fs, const char *name, struct err *e);
int blob_fs_write(int fd, const void *data, size_t n, struct err *e);
/* The temporary file becomes the blob, durably, in place of one that is there: these bytes were hashed a moment ago, and
 * who knows about those. */
int blob_fs_place(struct blob_fs *fs, const char *name, const uint8_t hash[BLAKE3_LEN], struct err *e);
void blob_fs_drop(struct blob_fs *fs, const char *name); /* a temporary file */
int blob_fs_unlink(struct blob_fs *fs, const uint8_t hash[BLAKE3_LEN], struct err *e);
int blob_fs_read_open(struct blob_fs *fs, const uint8_t hash[BLAKE3_LEN], int64_t *size, struct err *e);
struct bytes *blob_fs_read(struct blob_fs *fs, const uint8_t hash[BLAKE3_LEN], int64_t max, struct err *e);
/* The blobs of one of the 256 folders, appended to hashes (BLAKE3_LEN bytes each). */
void blob_fs_list(struct blob_fs *fs, unsigned folder, struct buf *hashes);
/* Remove temporary files of other processes (of earlier runs). */
unsigned blob_fs_clean(struct blob_fs *fs);

/* --- blob.c --- */
struct blobs {
    struct loop *loop;
    struct workers *workers;
    struct store *store;
    struct blob_fs fs;
    struct list writers;
    struct hold *holds;
    struct checked *checked; /* blob_check.c */
    struct buf unpins;       /* int64_t each: pins that could not be given back */
    uint64_t names;
    unsigned refs; /* the owner, and every operation under way */
    bool closed;
};
void blobs_ref(struct blobs *b);
void blob_checked_free(struct blobs *b);
void blob_unpin_again(struct blobs *b);
void blobs_unref(struct blobs *b);

/* A hash that is being put, or looked at by the sweep, but never both: while a put is between pin and
 * placement the sweep leaves its file alone, and a put waits while the sweep decides. */
struct hold {
    uint8_t hash[BLAKE3_LEN];
    unsigned puts;
    bool swept;
    struct list waiting; /* struct blob_writer.wait */
    UT_hash_handle hh;
};
struct hold *blob_hold_get(struct blobs *b, const uint8_t hash[BLAKE3_LEN]);
/* Frees it when nobody needs it. */
void blob_hold_put(struct blobs *b, struct hold *h);
/* The sweep is through with it: start those who wait. */
void blob_hold_released(struct blobs *b, struct hold *h);

#endif
