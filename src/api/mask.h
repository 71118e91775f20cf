/* What /upload/mask makes: the original's colours with the mask's transparency, and what the original's PNG says about
 * itself. The original is whatever /view would show under that name. */
#ifndef API_MASK_H
#define API_MASK_H

#include "api/api_priv.h"

struct mask_result {
    int status; /* 0: well; else what to answer, and why */
    const char *why;
    struct blob_info
        made; /* pinned, the callback's to let go; pin 0: the original is nowhere, so nothing was made */
};
typedef void mask_cb(const struct mask_result *r, void *arg);
/* ref: {"filename", "subfolder", "type"} as JSON text. mask is pinned by the caller until cb has run, once, never inside
 * the call. */
void mask_compose(struct api *a, const char *tenant, const struct buf *ref, const struct blob_info *mask,
                  mask_cb *cb, void *arg);

#endif
