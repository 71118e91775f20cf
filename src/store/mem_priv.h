/* Inside of store_mem: what is committed, and the executors of requests. */
#ifndef STORE_MEM_PRIV_H
#define STORE_MEM_PRIV_H

#include "base/hash.h"
#include "store/request.h"
#include "store/store_mem.h"

struct mem_blob {
    uint8_t hash[BLAKE3_LEN];
    int64_t size, doomed_at; /* 0: not doomed */
    unsigned refs, pins;
    UT_hash_handle hh;
};

struct mem_pin {
    int64_t id;
    struct mem_blob *blob;
};

struct mem_job {
    struct job_record *rec; /* all parts */
    char *key;              /* tenant, newline, idempotency key; NULL */
    uint8_t body_hash[BLAKE3_LEN];
    int64_t fin;        /* order of finishing, 0 before */
    bool stored;        /* its outputs have their blobs */
    int64_t outputs_at; /* when they were committed */
    UT_hash_handle hh, hh_key;
};

struct mem_event {
    int64_t id, at;
    char job[UUID_SIZE];
    char *tenant, *kind, *data;
};

struct mem_file {
    char *tenant, *type, *subfolder, *name, *mime;
    int64_t at;
    struct mem_blob *blob;
};

struct mem_user_file {
    char *tenant, *area, *path;
    int64_t created, modified;
    struct mem_blob *blob;
};

struct mem_doc {
    char *kind, *key;
    struct bytes *doc;
};

/* A growable array. */
#define MEM_VEC(type)                                                                                        \
    struct {                                                                                                 \
        type *v;                                                                                             \
        size_t n, cap;                                                                                       \
    }
#define mem_push(vec, ...)                                                                                   \
    do {                                                                                                     \
        if ((vec)->n == (vec)->cap) {                                                                        \
            (vec)->cap = (vec)->cap ? (vec)->cap * 2 : 16;                                                   \
            (vec)->v = xrealloc((vec)->v, (vec)->cap * sizeof(*(vec)->v));                                   \
        }                                                                                                    \
        (vec)->v[(vec)->n++] = (__VA_ARGS__);                                                                \
    } while (0)
#define mem_drop(vec, i)                                                                                     \
    do {                                                                                                     \
        memmove(&(vec)->v[i], &(vec)->v[(i) + 1], ((vec)->n - (i)-1) * sizeof(*(vec)->v));                   \
        (vec)->n--;                                                                                          \
    } while (0)

struct mem_store {
    struct store_backend base;
    struct list given, done;
    size_t n_given, n_done;
    bool killed;
    struct store_backend late_base; /* gives to late */
    struct list late;
    enum store_status fail;
    unsigned fail_n;
    struct store_stats stats;

    /* committed */
    struct mem_job *jobs, *keys;
    MEM_VEC(struct mem_job *) order;    /* by seq */
    MEM_VEC(struct mem_job *) finished; /* by fin */
    struct mem_blob *blobs;
    MEM_VEC(struct mem_pin) pins;
    MEM_VEC(struct mem_event) events;
    MEM_VEC(struct mem_file) files;
    MEM_VEC(struct mem_user_file) user;
    MEM_VEC(struct mem_doc) docs;
    MEM_VEC(struct store_stray) strays;
    MEM_VEC(struct store_server) servers;
    int64_t last_seq, last_fin, last_pin, last_event;
};

enum store_status mem_execute(struct mem_store *m, struct req *r);

/* mem_jobs.c */
struct mem_job *mem_job_find(struct mem_store *m, const char *id);
enum store_status mem_submit(struct mem_store *m, struct req *r);
enum store_status mem_step(struct mem_store *m, struct req *r);
enum store_status mem_hide(struct mem_store *m, struct req *r);
enum store_status mem_get(struct mem_store *m, struct req *r);
enum store_status mem_list(struct mem_store *m, struct req *r);
enum store_status mem_unfinished(struct mem_store *m, struct req *r);
void mem_event_free(struct mem_event *e);
void mem_job_remove(struct mem_store *m, struct mem_job *j);
void mem_job_free(struct mem_job *j);
void mem_outputs_release(struct mem_store *m, struct mem_job *j);

/* mem_files.c */
struct mem_blob *mem_blob_find(struct mem_store *m, const uint8_t hash[BLAKE3_LEN]);
void mem_blob_ref(struct mem_store *m, const uint8_t hash[BLAKE3_LEN]);
void mem_blob_unref(struct mem_store *m, const uint8_t hash[BLAKE3_LEN]);
enum store_status mem_output_find(struct mem_store *m, struct req *r);
enum store_status mem_input_put(struct mem_store *m, struct req *r);
enum store_status mem_input_find(struct mem_store *m, struct req *r);
enum store_status mem_input_list(struct mem_store *m, struct req *r);
enum store_status mem_blob_pin(struct mem_store *m, struct req *r);
enum store_status mem_blob_unpin(struct mem_store *m, struct req *r);
enum store_status mem_blob_collect(struct mem_store *m, struct req *r);
enum store_status mem_trim(struct mem_store *m, struct req *r);
void mem_file_free(struct mem_file *f);

/* mem_user.c */
enum store_status mem_alias_find(struct mem_store *m, struct req *r);
enum store_status mem_user_put(struct mem_store *m, struct req *r);
enum store_status mem_user_find(struct mem_store *m, struct req *r);
enum store_status mem_user_list(struct mem_store *m, struct req *r);
enum store_status mem_user_move(struct mem_store *m, struct req *r);
enum store_status mem_user_remove(struct mem_store *m, struct req *r);
void mem_user_free(struct mem_user_file *f);

#endif
