/* The entries of the event log, as the mux dialect tells them (SSE): one line of JSON each, committed together with the
 * change that it tells of. Pure. */
#ifndef JOB_JOB_EVENT_H
#define JOB_JOB_EVENT_H

#include "base/json.h"
#include "store/record.h"

#define JOB_OUTPUT_URL_MAX (UUID_SIZE + 48)
/* "/mux/v1/jobs/<id>/outputs/<n>" */
void job_output_url(const char *id, int n, char out[JOB_OUTPUT_URL_MAX]);
/* Its members into an object that is open: n, node_id, kind, filename, subfolder, type, size, mime, blake3, url. */
void job_put_output(struct jsonw *w, const char *id, const struct job_output *o);

/* "state", and "end" for a terminal one: {"job","at","state","server","attempt"} and, after a failure, "error". server NULL:
 * none. */
struct job_event_state {
    const char *id, *server, *message;
    int64_t at;
    enum job_state state;
    enum job_code code;
    int attempt;
};
const char *job_event_state_kind(enum job_state s);
void job_event_put_state(struct buf *b, const struct job_event_state *e);
/* "output": {"job","at", and the output's members}. */
void job_event_put_output(struct buf *b, const char *id, int64_t at, const struct job_output *o);
/* "progress", which is not kept: {"job","at","value","max","node"}. */
void job_event_put_progress(struct buf *b, const char *id, int64_t at, int64_t value, int64_t max,
                            const char *node);

#endif
