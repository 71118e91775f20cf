/* Files that servers have made before the gateway knew them: one is served if exactly one server has it, and every server
 * has said whether it does. That is remembered until the server restarts. */
#ifndef API_FILE_PROBE_H
#define API_FILE_PROBE_H

#include "api/api_priv.h"

enum probe_end {
    PROBE_ONE,
    PROBE_NONE, /* none has it, several do, or a server could not be asked */
    PROBE_BUSY  /* too many are being asked already */
};
/* server: NULL unless ONE; valid for the call. */
typedef void probe_cb(enum probe_end end, const char *server, void *arg);
/* cb once, never inside the call. */
void probe_servers(struct api *a, const char *type, const char *subfolder, const char *filename, probe_cb *cb,
                   void *arg);
void probes_free(struct api *a);

#endif
