/* A verb of the store that was given and not yet answered, for every implementation: the arguments in one
 * allocation, the result, and how it reaches the callback. An implementation only executes requests; it
 * never sees a caller.
 *
 * A request is built on the loop thread, executed on whichever thread the implementation uses, and delivered
 * and freed on the loop thread. Private to store/. */
#ifndef STORE_REQUEST_H
#define STORE_REQUEST_H

#include "base/buf.h"
#include "base/list.h"
#include "store/store.h"

enum req_kind {
    REQ_SUBMIT, /* the writes, to REQ_TRIM */
    REQ_STEP,
    REQ_HIDE,
    REQ_STRAY_DONE,
    REQ_INPUT_PUT,
    REQ_USER_PUT,
    REQ_USER_MOVE,
    REQ_USER_REMOVE,
    REQ_BLOB_PIN,
    REQ_BLOB_UNPIN,
    REQ_BLOB_COLLECT,
    REQ_SERVER_PUT,
    REQ_SERVER_REMOVE,
    REQ_DOC_PUT,
    REQ_TRIM,
    REQ_GET, /* the reads */
    REQ_LIST,
    REQ_UNFINISHED,
    REQ_STRAYS,
    REQ_OUTPUT_FIND,
    REQ_INPUT_FIND,
    REQ_INPUT_LIST,
    REQ_ALIAS_FIND,
    REQ_USER_FIND,
    REQ_USER_LIST,
    REQ_BLOB_KNOWN,
    REQ_SERVERS,
    REQ_EVENTS,
    REQ_DOC_GET
};
#define REQ_KINDS (REQ_DOC_GET + 1)
#define REQ_IS_WRITE(kind) ((kind) <= REQ_TRIM)
const char *req_kind_name(enum req_kind kind);

typedef void req_unlink_cb(const uint8_t hash[BLAKE3_LEN], void *arg);

struct req {
    struct list link;
    enum req_kind kind;
    enum store_status status;
    union {
        store_submitted_cb *submitted;
        store_done_cb *done;
        store_record_cb *record;
        store_list_cb *list;
        store_summaries_cb *summaries;
        store_strays_cb *strays;
        store_file_cb *file;
        store_files_cb *files;
        store_pin_cb *pin;
        store_collected_cb *collected;
        store_servers_cb *servers;
        store_events_cb *events;
        store_doc_cb *doc;
        store_trimmed_cb *trimmed;
    } cb;
    void *arg;
    union {
        struct store_submit submit;
        struct store_step step;
        struct {
            const char *tenant, *id;
        } hide;
        struct {
            const char *server, *upstream_id;
        } stray_done;
        struct store_input input_put;
        struct store_user_put user_put;
        struct { /* user_find, user_list, user_move, user_remove */
            const char *tenant, *area, *path, *to;
            bool overwrite;
        } user;
        struct {
            const char *tenant, *hex;
        } alias;
        struct { /* pin, known */
            uint8_t hash[BLAKE3_LEN];
            int64_t size;
        } blob;
        int64_t unpin;
        struct {
            int64_t now, grace_ms;
            int max;
            req_unlink_cb *unlink;
            void *unlink_arg;
        } collect;
        struct {
            struct store_server server;
            bool replace;
        } server_put;
        const char *name; /* server_remove */
        struct {
            const char *kind, *key;
            struct bytes *doc;
        } doc;
        struct store_keep trim;
        struct {
            const char *id;
            uint32_t parts;
            uint64_t asked; /* record_cache_now() */
            bool hit;
        } get;
        struct store_filter list;
        struct store_output_key output;
        struct { /* input_find, input_list */
            const char *tenant, *type, *subfolder, *name;
        } input;
        struct {
            int64_t after;
            const char *job;
            int limit;
        } events;
    } in;
    /* Written by the executor. Strings in it are on the heap and go with the request. */
    union {
        struct store_submitted submit;
        struct job_record *record;
        struct store_list list;
        struct {
            struct job_summary *v;
            size_t n;
        } summaries;
        struct {
            struct store_stray *v;
            size_t n;
        } strays;
        struct { /* lists; else one, when status is OK */
            struct store_file *v;
            size_t n;
        } files;
        struct store_pin pin;
        struct {
            struct store_collected r;
            uint8_t (*unlink)[BLAKE3_LEN]; /* to be unlinked once the commit is through */
            size_t n_unlink;
        } collect;
        struct {
            struct store_server *v;
            size_t n;
        } servers;
        struct {
            struct store_logged *v;
            size_t n;
            int64_t oldest, newest;
        } events;
        struct bytes *doc;
        struct store_trimmed trim;
    } out;
    max_align_t data[]; /* the arguments' strings and arrays */
};

/* What the verbs are given to. */
struct store_backend {
    struct store store; /* ops: STORE_REQUEST_OPS plus close and stats */
    void (*give)(struct store_backend *b, struct req *r);
};

/* Call the callback. The request is still to be freed. */
void req_deliver(struct req *r);
void req_drop(struct req *r);
/* Drop what was written to out, so that the request can be executed again. */
void req_reset(struct req *r);
/* After the commit of a collection: call unlink for what it removed. */
void req_unlink(struct req *r);

/* The body with "%NUMBER%" replaced by number. */
struct bytes *req_fill_answer(struct bytes *answer, int64_t number);
/* The i-th name ComfyUI tries for an upload: "cat.png", "cat (1).png", ... */
void req_input_name(struct buf *out, const char *name, unsigned i);
/* The answer is a file of which only the name is told. */
void req_only_name(struct req *r, const char *name);
/* The first and the last hash that begin with these digits; false: they are none, or an odd number of them. */
bool req_hash_range(const char *hex, uint8_t low[BLAKE3_LEN], uint8_t high[BLAKE3_LEN]);

/* Paths of user files. Where a move leads: to `to`, or into it if that is a folder; to be freed. */
char *store_user_move_to(const char *from, const char *to, bool to_folder);
bool store_user_is_below(const char *path, const char *folder);

/* The index of jobs in which a list by seq is searched. *searched: what of f decides by that, less than f where only a look at
 * each row tells. */
const char *store_list_narrow(const struct store_filter *f, struct store_filter *searched);

void req_give_submit(struct store *s, const struct store_submit *in, store_submitted_cb *cb, void *arg);
void req_give_step(struct store *s, const struct store_step *in, store_done_cb *cb, void *arg);
void req_give_get(struct store *s, const char *id, uint32_t parts, store_record_cb *cb, void *arg);
void req_give_list(struct store *s, const struct store_filter *f, store_list_cb *cb, void *arg);
void req_give_unfinished(struct store *s, store_summaries_cb *cb, void *arg);
void req_give_hide(struct store *s, const char *tenant, const char *id, store_done_cb *cb, void *arg);
void req_give_strays(struct store *s, store_strays_cb *cb, void *arg);
void req_give_stray_done(struct store *s, const char *server, const char *upstream_id, store_done_cb *cb,
                         void *arg);
void req_give_output_find(struct store *s, const struct store_output_key *k, store_file_cb *cb, void *arg);
void req_give_input_put(struct store *s, const struct store_input *in, store_file_cb *cb, void *arg);
void req_give_input_find(struct store *s, const char *tenant, const char *type, const char *subfolder,
                         const char *name, store_file_cb *cb, void *arg);
void req_give_input_list(struct store *s, const char *tenant, const char *type, store_files_cb *cb,
                         void *arg);
void req_give_alias_find(struct store *s, const char *tenant, const char *hex, store_file_cb *cb, void *arg);
void req_give_user_put(struct store *s, const struct store_user_put *in, store_file_cb *cb, void *arg);
void req_give_user_find(struct store *s, const char *tenant, const char *area, const char *path,
                        store_file_cb *cb, void *arg);
void req_give_user_list(struct store *s, const char *tenant, const char *area, const char *path,
                        store_files_cb *cb, void *arg);
void req_give_user_move(struct store *s, const char *tenant, const char *area, const char *from,
                        const char *to, bool overwrite, store_file_cb *cb, void *arg);
void req_give_user_remove(struct store *s, const char *tenant, const char *area, const char *path,
                          store_done_cb *cb, void *arg);
void req_give_blob_pin(struct store *s, const uint8_t hash[BLAKE3_LEN], int64_t size, store_pin_cb *cb,
                       void *arg);
void req_give_blob_unpin(struct store *s, int64_t pin, store_done_cb *cb, void *arg);
void req_give_blob_collect(struct store *s, int64_t now, int64_t grace_ms, int max, req_unlink_cb *unlink_cb,
                           void *unlink_arg, store_collected_cb *cb, void *arg);
void req_give_blob_known(struct store *s, const uint8_t hash[BLAKE3_LEN], store_done_cb *cb, void *arg);
void req_give_server_put(struct store *s, const struct store_server *in, bool replace, store_done_cb *cb,
                         void *arg);
void req_give_server_remove(struct store *s, const char *name, store_done_cb *cb, void *arg);
void req_give_servers(struct store *s, store_servers_cb *cb, void *arg);
void req_give_events(struct store *s, int64_t after, const char *job, int limit, store_events_cb *cb,
                     void *arg);
void req_give_doc_put(struct store *s, const char *kind, const char *key, struct bytes *doc,
                      store_done_cb *cb, void *arg);
void req_give_doc_get(struct store *s, const char *kind, const char *key, store_doc_cb *cb, void *arg);
void req_give_trim(struct store *s, const struct store_keep *k, store_trimmed_cb *cb, void *arg);

#define STORE_REQUEST_OPS                                                                                    \
    .submit = req_give_submit, .step = req_give_step, .get = req_give_get, .list = req_give_list,            \
    .unfinished = req_give_unfinished, .hide = req_give_hide, .strays = req_give_strays,                     \
    .stray_done = req_give_stray_done, .output_find = req_give_output_find, .input_put = req_give_input_put, \
    .input_find = req_give_input_find, .input_list = req_give_input_list, .alias_find = req_give_alias_find, \
    .user_put = req_give_user_put, .user_find = req_give_user_find, .user_list = req_give_user_list,         \
    .user_move = req_give_user_move, .user_remove = req_give_user_remove, .blob_pin = req_give_blob_pin,     \
    .blob_unpin = req_give_blob_unpin, .blob_collect = req_give_blob_collect,                                \
    .blob_known = req_give_blob_known, .server_put = req_give_server_put,                                    \
    .server_remove = req_give_server_remove, .servers = req_give_servers, .events = req_give_events,         \
    .doc_put = req_give_doc_put, .doc_get = req_give_doc_get, .trim = req_give_trim

#endif
