/* JSON objects among the user files that are changed member by member: settings, the list of users. A change is made of
 * what is stored and never of what somebody thinks is stored, so two windows that save at one time both succeed. Changes
 * that come while one is under way are made together. */
#ifndef API_USER_DOCS_H
#define API_USER_DOCS_H

#include "api/api_priv.h"

#define USER_DATA "data"       /* the area of /userdata */
#define USER_DOC_MAX (4 << 20) /* bytes of one */
/* Most files of a tenant in one area. */
#define USER_FILES_MAX 100000

enum user_doc_end {
    USER_DOC_OK,
    USER_DOC_REFUSED, /* by its check; why is the check's answer */
    USER_DOC_TOO_LARGE,
    USER_DOC_FULL, /* no space */
    USER_DOC_FAILED
};
/* text: NULL if there is none (and unless OK); valid for the call. */
typedef void user_doc_read_cb(enum user_doc_end end, struct bytes *text, const char *why, void *arg);
void user_doc_read(struct api *a, const char *tenant, const char *area, const char *path,
                   user_doc_read_cb *cb, void *arg);

/* NULL: the change may be made of this document (no value: there is none). May be asked more than once. */
typedef const char *user_doc_check(struct json doc, void *arg);
typedef void user_doc_cb(enum user_doc_end end, const char *why, void *arg);
/* The members of patch, the text of a JSON object, are set. A document that is no JSON is begun anew, as a stock server
 * does; one that is JSON but no object fails. cb once, never inside the call. check may be NULL. */
void user_doc_change(struct api *a, const char *tenant, const char *area, const char *path,
                     struct bytes *patch, user_doc_check *check, user_doc_cb *cb, void *arg);
/* Once all calls into the store and to the blobs have been answered. */
void user_docs_free(struct api *a);

#endif
