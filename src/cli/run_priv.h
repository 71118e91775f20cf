/* `comfymux run`, inside. The files in reading order:
 *
 *   run_workflow run_files run_progress    pure: the workflow's text, names, what is drawn
 *   run.c          options, what is said, the end
 *   run_send.c     is it a gateway, uploads, the WebSocket, POST /prompt
 *   run_follow.c   events and polls: how far each job is
 *   run_fetch.c    outputs
 *   run_cancel.c   Ctrl-C
 *   run_record.c   job records for --json
 *
 * Everything happens on one loop. Callbacks store what they got and call run_step(), which looks at the stage
 * and the jobs and does the next missing thing:
 *
 *   DETECT -> UPLOAD -> CONNECT -> JOBS -> OVER
 *                                   '-- Ctrl-C, from everywhere --> CANCEL -> OVER
 */
#ifndef CLI_RUN_PRIV_H
#define CLI_RUN_PRIV_H

#include "base/json.h"
#include "base/uuid.h"
#include "cli/opts.h"
#include "cli/run_files.h"
#include "cli/run_progress.h"
#include "cli/run_workflow.h"
#include "comfy/history.h"
#include "http/client.h"
#include "http/websocket.h"

#define RUN_ANSWER_MAX (256u << 20) /* histories can be large */

enum run_stage {
    RUN_STAGE_DETECT,
    RUN_STAGE_UPLOAD,
    RUN_STAGE_CONNECT,
    RUN_STAGE_JOBS,
    RUN_STAGE_CANCEL,
    RUN_STAGE_OVER
};

struct run_input {
    char *path;
    char *stored;  /* the name the server gave it; NULL until it is up */
    bool explicit; /* --input, as opposed to found beside the workflow */
};

struct run_output {
    unsigned n; /* in the record */
    char *node, *kind, *filename, *subfolder, *type;
    char *target; /* to GET; NULL: text holds it */
    char *text;
    size_t text_n;
    int64_t size; /* -1 unknown */
};

struct run_job {
    struct run *run;
    unsigned index;
    char id[UUID_SIZE];
    enum run_phase phase;

    struct http_call *call; /* one request about this job at a time */
    bool poll_now;          /* something happened: ask at once */
    int64_t sent_at, polled_at, missed_at;
    unsigned posts, misses;
    int64_t trouble_since; /* its own polls fail since then; 0: they do not */
    bool said_end;         /* an event said that it ended */
    bool absent;           /* bare: it was not in the queue when we last looked */

    int64_t place, value, max;
    char *server, *node; /* node: id */
    int64_t since, since_value, started_at;
    size_t nodes_done;
    struct run_said said;

    struct bytes *body; /* gateway: the record; bare: the history entry's answer */
    struct json record; /* in body, gateway only */
    struct history history;
    bool has_history;
    char *code, *message; /* of a failure */
    struct bytes *detail; /* JSON */

    struct run_output *pictures; /* bare: those that exist on the socket alone */
    size_t n_pictures;
    struct run_output *outputs;
    size_t n_outputs, next_output;
    char **files; /* written */
    size_t n_files;
};

struct run_fetch {
    struct run_job *job; /* NULL: nothing under way */
    struct http_call *call;
    struct run_file file;
    struct timer again;
    int status;
    unsigned tries;
    struct err fault; /* of writing */
    bool failed;
};

struct run {
    /* options */
    const char *url, *dir, *workflow_path;
    bool json, quiet;
    unsigned long count;
    struct run_input *inputs;
    size_t n_inputs;
    struct workflow *workflow;
    char *workflow_dir;

    struct loop *loop;
    struct tls_client *tls;
    struct http_client *http;
    enum run_stage stage;
    int status;
    bool gateway;
    char client_id[UUID_SIZE];

    size_t uploading;       /* index of the input that goes up */
    struct http_call *call; /* detection, upload, bare /queue: one at a time */
    struct buf answer;
    int answer_status;
    char *boundary;

    struct ws *ws;
    struct timer ws_timer; /* handshake too slow, or time to connect again */
    int64_t ws_delay;

    struct run_job *jobs;
    size_t n_jobs, next_post;
    struct timer post_timer, poll_timer, draw_timer, cancel_timer;
    int64_t post_since; /* first failure of the POST under way */
    int64_t heard_at;   /* last sign of life from the other side */
    bool silent_told;
    int64_t queue_asked_at;
    struct run_fetch fetch;
    size_t cancels; /* requests under way */

    struct cli_term term;
    unsigned drawn; /* lines on the screen */
};

/* run.c */
void run_step(struct run *r);
/* Above what is drawn; nothing with --quiet. */
void run_note(struct run *r, const char *fmt, ...) PRINTF_LIKE(2, 3);
void run_error(struct run *r, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Say it and end with this status. */
void run_stop(struct run *r, int status, const char *fmt, ...) PRINTF_LIKE(3, 4);
void run_over(struct run *r);
/* Tell what changed, for those without a terminal; redraw for those with. */
void run_show(struct run *r, struct run_job *j);
void run_print_path(struct run *r, const char *path);
void run_job_name(const struct run *r, const struct run_job *j, struct buf *out);
/* A job's failure: remembered for the record, told once. */
void run_job_fail(struct run_job *j, const char *code, const char *fmt, ...) PRINTF_LIKE(3, 4);
static inline int64_t run_now(struct run *r)
{
    return loop_now(r->loop);
}

/* run_send.c */
void run_detect(struct run *r);
void run_upload_next(struct run *r);
void run_connect(struct run *r);
void run_ws_timer(void *run);
void run_post_next(struct run *r);
/* The "name: cause" of an answer that is no 200, or of none. Appended. */
void run_put_refusal(const struct http_answer *a, struct buf *out);

/* run_follow.c */
extern const struct ws_handlers run_ws_handlers;
void run_poll_tick(void *run);
void run_poll(struct run_job *j);
void run_follow_record(struct run_job *j, struct bytes *body, struct json record);

/* run_fetch.c */
#define RUN_SOCKET_CLASS "SaveImageWebsocket"
/* A PNG that this node sent over the socket; kept until the job has succeeded. */
void run_picture_add(struct run_job *j, const char *node, const void *data, size_t n);
void run_outputs_find(struct run_job *j);
void run_outputs_free(struct run_job *j);
void run_fetch_next(struct run *r);
void run_fetch_again(void *run);
void run_fetch_drop(struct run *r);

/* run_cancel.c */
void run_cancel(struct run *r);
void run_cancel_job(struct run_job *j);

/* run_record.c */
void run_put_document(const struct run *r, struct buf *out);

#endif
