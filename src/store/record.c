#include "store/record.h"

#include <stdlib.h>
#include <string.h>

static const char *const state_names[JOB_STATES] = {
    [JOB_QUEUED] = "queued",         [JOB_DISPATCHING] = "dispatching", [JOB_RUNNING] = "running",
    [JOB_COLLECTING] = "collecting", [JOB_SUCCEEDED] = "succeeded",     [JOB_FAILED] = "failed",
    [JOB_CANCELED] = "canceled",     [JOB_EXPIRED] = "expired",
};

static const char *const code_names[JOB_CODES] = {
    [JOB_OK] = "ok",
    [JOB_NO_CAPABLE_SERVER] = "no_capable_server",
    [JOB_VALIDATION_FAILED] = "validation_failed",
    [JOB_SERVER_REJECTED] = "server_rejected",
    [JOB_EXECUTION_ERROR] = "execution_error",
    [JOB_OUT_OF_MEMORY] = "out_of_memory",
    [JOB_INTERRUPTED] = "interrupted",
    [JOB_SERVER_LOST] = "server_lost",
    [JOB_SERVER_RESTARTED] = "server_restarted",
    [JOB_STALLED] = "stalled",
    [JOB_DISPATCH_FAILED] = "dispatch_failed",
    [JOB_HISTORY_UNAVAILABLE] = "history_unavailable",
    [JOB_HISTORY_MISSING] = "history_missing",
    [JOB_OUTPUT_UNAVAILABLE] = "output_unavailable",
    [JOB_OUTPUT_UNRECOGNISED] = "output_unrecognised",
    [JOB_STORAGE_FAILED] = "storage_failed",
    [JOB_CODE_EXPIRED] = "expired",
    [JOB_CODE_CANCELED] = "canceled",
};

static const char *const code_sentences[JOB_CODES] = {
    [JOB_OK] = "The job is done",
    [JOB_NO_CAPABLE_SERVER] = "No server has all that this workflow needs",
    [JOB_VALIDATION_FAILED] = "The workflow is not valid",
    [JOB_SERVER_REJECTED] = "The server did not take the workflow",
    [JOB_EXECUTION_ERROR] = "A node of the workflow failed",
    [JOB_OUT_OF_MEMORY] = "The server ran out of memory",
    [JOB_INTERRUPTED] = "Someone stopped the job on its server",
    [JOB_SERVER_LOST] = "The server stopped answering",
    [JOB_SERVER_RESTARTED] = "The server was restarted while the job was on it",
    [JOB_STALLED] = "The job made no progress",
    [JOB_DISPATCH_FAILED] = "The job could not be sent to a server",
    [JOB_HISTORY_UNAVAILABLE] = "The server's history could not be read",
    [JOB_HISTORY_MISSING] = "The server's history does not hold the job",
    [JOB_OUTPUT_UNAVAILABLE] = "An output could not be fetched from the server",
    [JOB_OUTPUT_UNRECOGNISED] = "The outputs are of no kind that can be stored",
    [JOB_STORAGE_FAILED] = "The outputs could not be stored",
    [JOB_CODE_EXPIRED] = "The job waited longer than it was allowed to",
    [JOB_CODE_CANCELED] = "The job was canceled",
};

static int name_find(const char *const *names, int n, const char *s)
{
    for (int i = 0; i < n; i++)
        if (strcmp(names[i], s) == 0)
            return i;
    return -1;
}

const char *job_state_name(enum job_state s)
{
    return (unsigned)s < JOB_STATES ? state_names[s] : "unknown";
}

int job_state_parse(const char *s)
{
    return name_find(state_names, JOB_STATES, s);
}

const char *job_code_name(enum job_code c)
{
    return (unsigned)c < JOB_CODES ? code_names[c] : "unknown";
}

const char *job_code_sentence(enum job_code c)
{
    return (unsigned)c < JOB_CODES ? code_sentences[c] : "The job failed";
}

int job_code_parse(const char *s)
{
    return name_find(code_names, JOB_CODES, s);
}

void blake3_hex(const uint8_t hash[BLAKE3_LEN], char out[BLAKE3_HEX])
{
    static const char digits[] = "0123456789abcdef";

    for (int i = 0; i < BLAKE3_LEN; i++) {
        out[2 * i] = digits[hash[i] >> 4];
        out[2 * i + 1] = digits[hash[i] & 15];
    }
    out[2 * BLAKE3_LEN] = '\0';
}

static int unhex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return -1;
}

bool blake3_unhex(const char *s, uint8_t out[BLAKE3_LEN])
{
    for (int i = 0; i < BLAKE3_LEN; i++) {
        int hi = unhex_digit(s[2 * i]), lo;

        if (hi < 0)
            return false;
        lo = unhex_digit(s[2 * i + 1]);
        if (lo < 0)
            return false;
        out[i] = (uint8_t)(hi << 4 | lo);
    }
    return s[2 * BLAKE3_LEN] == '\0';
}

void job_summary_fini(struct job_summary *s)
{
    free(s->server);
    free(s->tenant);
    free(s->client_id);
    free(s->window_id);
    free(s->workflow_id);
    free(s->need);
    *s = (struct job_summary){0};
}

void job_summary_copy(struct job_summary *to, const struct job_summary *from)
{
    *to = *from;
    to->server = xstrdup_null(from->server);
    to->tenant = xstrdup_null(from->tenant);
    to->client_id = xstrdup_null(from->client_id);
    to->window_id = xstrdup_null(from->window_id);
    to->workflow_id = xstrdup_null(from->workflow_id);
    to->need = xstrdup_null(from->need);
}

void job_output_fini(struct job_output *o)
{
    free(o->node_id);
    free(o->kind);
    free(o->key);
    free(o->filename);
    free(o->subfolder);
    free(o->type);
    free(o->mime);
    *o = (struct job_output){0};
}

void job_output_copy(struct job_output *to, const struct job_output *from)
{
    *to = *from;
    to->node_id = xstrdup_null(from->node_id);
    to->kind = xstrdup_null(from->kind);
    to->key = xstrdup_null(from->key);
    to->filename = xstrdup_null(from->filename);
    to->subfolder = xstrdup_null(from->subfolder);
    to->type = xstrdup_null(from->type);
    to->mime = xstrdup_null(from->mime);
}

char *job_error_text(const struct job_error *e)
{
    const char *message = e->message && e->message[0] ? e->message : job_code_sentence(e->code);

    if (e->server && e->server[0])
        return xasprintf("%s (server %s, attempt %d)", message, e->server, e->attempt);
    return xstrdup(message);
}

void job_error_fini(struct job_error *e)
{
    free(e->server);
    free(e->message);
    free(e->detail);
    *e = (struct job_error){0};
}

void job_error_copy(struct job_error *to, const struct job_error *from)
{
    *to = *from;
    to->server = xstrdup_null(from->server);
    to->message = xstrdup_null(from->message);
    to->detail = xstrdup_null(from->detail);
}

void job_attempt_fini(struct job_attempt *a)
{
    free(a->server);
    free(a->message);
    *a = (struct job_attempt){0};
}

void job_attempt_copy(struct job_attempt *to, const struct job_attempt *from)
{
    *to = *from;
    to->server = xstrdup_null(from->server);
    to->message = xstrdup_null(from->message);
}

void job_input_copy(struct job_input *to, const struct job_input *from)
{
    *to = *from;
    to->name = xstrdup_null(from->name);
}

void job_record_free(struct job_record **rp)
{
    struct job_record *r = *rp;

    *rp = NULL;
    if (r == NULL)
        return;
    if (r->shared) {
        r->shared--;
        return;
    }
    job_summary_fini(&r->s);
    bytes_unref(r->graph);
    bytes_unref(r->extra_data);
    bytes_unref(r->targets);
    bytes_unref(r->rest);
    bytes_unref(r->answer);
    bytes_unref(r->history);
    bytes_unref(r->secrets);
    free(r->retry_of);
    job_error_fini(&r->error);
    for (size_t i = 0; i < r->n_attempts; i++)
        job_attempt_fini(&r->attempts[i]);
    for (size_t i = 0; i < r->n_outputs; i++)
        job_output_fini(&r->outputs[i]);
    for (size_t i = 0; i < r->n_timeline; i++)
        free(r->timeline[i].note);
    for (size_t i = 0; i < r->n_inputs; i++)
        free(r->inputs[i].name);
    free(r->attempts);
    free(r->outputs);
    free(r->timeline);
    free(r->inputs);
    free(r);
}

struct job_record *job_record_ref(struct job_record *r)
{
    r->shared++;
    return r;
}

/* As malloc() lays it out. */
static size_t chunk(size_t n)
{
    return n < 24 ? 32 : (n + 8 + 15) & ~(size_t)15;
}

static size_t str_bytes(const char *s)
{
    return s ? chunk(strlen(s) + 1) : 0;
}

static size_t bytes_bytes(const struct bytes *b)
{
    return b ? chunk(b->len + sizeof(*b)) : 0;
}

size_t job_record_bytes(const struct job_record *r)
{
    size_t n = chunk(sizeof(*r)) + 4 * chunk(0) + bytes_bytes(r->graph) + bytes_bytes(r->extra_data) +
               bytes_bytes(r->targets) + bytes_bytes(r->rest) + bytes_bytes(r->answer) +
               bytes_bytes(r->history) + bytes_bytes(r->secrets);

    n += str_bytes(r->s.server) + str_bytes(r->s.tenant) + str_bytes(r->s.client_id) +
         str_bytes(r->s.window_id) + str_bytes(r->s.workflow_id) + str_bytes(r->s.need) +
         str_bytes(r->retry_of);
    n += str_bytes(r->error.server) + str_bytes(r->error.message) + str_bytes(r->error.detail);
    for (size_t i = 0; i < r->n_attempts; i++)
        n += sizeof(r->attempts[i]) + str_bytes(r->attempts[i].server) + str_bytes(r->attempts[i].message);
    for (size_t i = 0; i < r->n_outputs; i++) {
        const struct job_output *o = &r->outputs[i];

        n += sizeof(*o) + str_bytes(o->node_id) + str_bytes(o->kind) + str_bytes(o->key) +
             str_bytes(o->filename) + str_bytes(o->subfolder) + str_bytes(o->type) + str_bytes(o->mime);
    }
    for (size_t i = 0; i < r->n_timeline; i++)
        n += sizeof(r->timeline[i]) + str_bytes(r->timeline[i].note);
    for (size_t i = 0; i < r->n_inputs; i++)
        n += sizeof(r->inputs[i]) + str_bytes(r->inputs[i].name);
    return n;
}

static bool is_image(const char *kind)
{
    return kind && strcmp(kind, "image") == 0;
}

static size_t few_images(const struct job_record *r)
{
    size_t n = 0;

    while (n < r->n_outputs && is_image(r->outputs[n].kind))
        n++;
    return n;
}

bool job_few_takes(const struct job_record *r, const char *kind)
{
    return r->n_outputs < JOB_FEW || (is_image(kind) && few_images(r) < JOB_FEW);
}

void job_few_put(struct job_record *r, struct job_output *o)
{
    size_t at = is_image(o->kind) ? few_images(r) : r->n_outputs;

    if (r->outputs == NULL)
        r->outputs = xcalloc(JOB_FEW, sizeof(*r->outputs));
    if (r->n_outputs == JOB_FEW)
        job_output_fini(&r->outputs[--r->n_outputs]);
    memmove(&r->outputs[at + 1], &r->outputs[at], (r->n_outputs - at) * sizeof(*r->outputs));
    r->outputs[at] = *o;
    r->n_outputs++;
}

static void copy_few(struct job_record *to, const struct job_record *from)
{
    for (size_t i = 0; i < from->n_outputs; i++) {
        struct job_output o;

        if (from->outputs[i].attempt != from->s.attempt)
            continue;
        to->outputs_count++;
        if (!job_few_takes(to, from->outputs[i].kind))
            continue;
        job_output_copy(&o, &from->outputs[i]);
        job_few_put(to, &o);
    }
}

static void copy_lists(struct job_record *to, const struct job_record *from, uint32_t parts)
{
    if (parts & (JOB_PART_ATTEMPTS | JOB_PART_ERROR))
        job_error_copy(&to->error, &from->error);
    if (parts & JOB_PART_ATTEMPTS) {
        to->attempts = xcalloc(from->n_attempts, sizeof(*to->attempts));
        for (size_t i = 0; i < from->n_attempts; i++)
            job_attempt_copy(&to->attempts[to->n_attempts++], &from->attempts[i]);
    }
    if (parts & JOB_PART_OUTPUTS) {
        to->outputs = xcalloc(from->n_outputs, sizeof(*to->outputs));
        for (size_t i = 0; i < from->n_outputs; i++)
            job_output_copy(&to->outputs[to->n_outputs++], &from->outputs[i]);
    } else if (parts & JOB_PART_FEW) {
        copy_few(to, from);
    }
    if (parts & JOB_PART_TIMELINE) {
        to->timeline = xcalloc(from->n_timeline, sizeof(*to->timeline));
        for (size_t i = 0; i < from->n_timeline; i++) {
            to->timeline[i] = from->timeline[i];
            to->timeline[i].note = xstrdup_null(from->timeline[i].note);
        }
        to->n_timeline = from->n_timeline;
    }
    if (parts & JOB_PART_INPUTS) {
        to->inputs = xcalloc(from->n_inputs, sizeof(*to->inputs));
        for (size_t i = 0; i < from->n_inputs; i++)
            job_input_copy(&to->inputs[to->n_inputs++], &from->inputs[i]);
    }
}

struct job_record *job_record_copy(const struct job_record *from, uint32_t parts)
{
    struct job_record *to = xcalloc(1, sizeof(*to));

    job_summary_copy(&to->s, &from->s);
    to->retry_of = xstrdup_null(from->retry_of);
    if (parts & JOB_PART_GRAPH) {
        to->graph = bytes_ref(from->graph);
        to->extra_data = bytes_ref(from->extra_data);
        to->targets = bytes_ref(from->targets);
        to->rest = bytes_ref(from->rest);
    }
    if (parts & JOB_PART_ANSWER)
        to->answer = bytes_ref(from->answer);
    if (parts & JOB_PART_HISTORY)
        to->history = bytes_ref(from->history);
    if (parts & JOB_PART_SECRETS)
        to->secrets = bytes_ref(from->secrets);
    copy_lists(to, from, parts);
    return to;
}
