/* Content-addressed files: the bytes of outputs and uploads, named by BLAKE3.
 *
 * A blob is written under a temporary name while it is hashed (on a worker), fsynced, pinned in the store,
 * renamed to blobs/ab/abcdef... (64 hex), its directory fsynced. Only then is its hash told. What keeps it
 * afterwards are references in the store (a job's outputs and inputs, the input namespace); the pin bridges
 * the time until one is committed. A crash leaves only files without a row and temporary ones: both are swept
 * at start.
 *
 * Loop thread only; the work is on the workers. */
#ifndef BLOB_BLOB_H
#define BLOB_BLOB_H

#include "base/err.h"
#include "net/worker.h"
#include "store/store.h"

struct blobs;
struct blob_writer;

struct blob_info {
    uint8_t blake3[BLAKE3_LEN];
    int64_t size;
    int64_t pin; /* released with blobs_unpin() after a reference was committed, or when it is not wanted */
};

struct blobs *blobs_open(struct loop *l, struct workers *w, struct store *s, const char *dir, struct err *e);
/* Open writers are aborted; callbacks of puts, reads and a sweep that are under way still come (BLOB_FAILED).
 * The order at the end is blobs_close(), store_close(), workers_free(). */
void blobs_close(struct blobs **b);
/* Remove temporary files of earlier runs and files without a row, in small steps; cb (may be NULL) when done.
 * Puts may go on meanwhile. */
void blobs_sweep(struct blobs *b, void (*cb)(unsigned removed, void *arg), void *arg);

enum blob_status {
    BLOB_OK,
    BLOB_FULL,   /* no space */
    BLOB_FAILED, /* I/O error; why says */
    BLOB_TOO_BIG
};
typedef void blob_put_cb(enum blob_status st, const struct blob_info *info, const char *why, void *arg);

/* A new blob, in pieces. max: BLOB_TOO_BIG beyond; 0 none. */
struct blob_writer *blob_writer_new(struct blobs *b, int64_t max);
void blob_writer_put(struct blob_writer *w, const void *data, size_t n); /* copied */
/* Bytes not yet written: the caller keeps it bounded (back-pressure), on_drain when it falls to low or below.
 */
size_t blob_writer_queued(const struct blob_writer *w);
void blob_writer_on_drain(struct blob_writer *w, size_t low, void (*cb)(void *arg), void *arg);
/* Ends it; cb once. The writer is gone for the caller. */
void blob_writer_finish(struct blob_writer **w, blob_put_cb *cb, void *arg);
void blob_writer_abort(struct blob_writer **w);
/* In one go. */
void blob_put(struct blobs *b, struct bytes *data, blob_put_cb *cb, void *arg);
void blobs_unpin(struct blobs *b, int64_t pin);

/* Is the file still what was stored? A descriptor for reading, the caller's; its bytes are checked before anybody sees one:
 * the size always, the hash of those up to 256 MiB, on a worker. Blobs are immutable: what was opened stays readable after
 * it was collected. */
enum blob_found {
    BLOB_SOUND,
    BLOB_GONE,      /* there is no such file */
    BLOB_DAMAGED,   /* it has other bytes: a put of the right ones mends it */
    BLOB_UNREADABLE /* it could not be looked at */
};
/* size -1: not known. fd is -1 and why says more unless found is SOUND. */
typedef void blob_checked_cb(enum blob_found found, int fd, const char *why, void *arg);
void blob_check(struct blobs *b, const uint8_t hash[BLAKE3_LEN], int64_t size, blob_checked_cb *cb,
                void *arg);
/* The same at once if it was checked since the start and the file has not been touched since; -1: ask blob_check(). */
int blob_open_checked(struct blobs *b, const uint8_t hash[BLAKE3_LEN], int64_t size);
/* Unchecked. -1: not there (or not readable: e says). */
int blob_open(struct blobs *b, const uint8_t hash[BLAKE3_LEN], int64_t *size, struct err *e);
/* Small ones whole, on a worker, the hash checked. data: bytes_ref to keep, NULL on failure. */
void blob_read(struct blobs *b, const uint8_t hash[BLAKE3_LEN], int64_t max,
               void (*cb)(struct bytes *data, const char *why, void *arg), void *arg);
/* One step of collection (store_blob_collect with our unlink). */
void blobs_collect(struct blobs *b, int64_t now, int64_t grace_ms, int max, store_collected_cb *cb,
                   void *arg);

#endif
