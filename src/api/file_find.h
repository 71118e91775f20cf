/* Which bytes a client means by (type, subfolder, filename): an output of a job under its virtual name, an upload, the name
 * under which an input was staged, a plain name that only one content has, or a file that only one server has and that is
 * older than our knowledge of it. Never a guess: of two it is none. */
#ifndef API_FILE_FIND_H
#define API_FILE_FIND_H

#include "api/api_priv.h"
#include "comfy/names.h"

enum file_where {
    FILE_STORED,
    FILE_ON_SERVER, /* not ours (yet): that server has it */
    FILE_EXPIRED,   /* a job has made it, and its bytes are kept no longer */
    FILE_NOWHERE,
    FILE_TROUBLE, /* nobody knows: the store cannot be read */
    FILE_BUSY     /* too many look for files on servers */
};
/* Valid for the call. */
struct file_found {
    enum file_where where;
    uint8_t blake3[BLAKE3_LEN]; /* STORED, and what follows */
    int64_t size, at;
    const char *mime;      /* as stored with an output; NULL: by the name */
    const char *job;       /* or NULL */
    const char *server;    /* ON_SERVER */
    const char *subfolder; /* ON_SERVER: there */
    bool probed;           /* ON_SERVER: a file that is no job's, and stays there */
};
typedef void file_find_cb(const struct file_found *f, void *arg);
/* subfolder is a safe path or empty, filename one component. ours: only what is stored. cb once, never inside the call. */
void file_find_name(struct api *a, const char *tenant, enum name_type type, const char *subfolder,
                    const char *filename, bool ours, file_find_cb *cb, void *arg);

#endif
