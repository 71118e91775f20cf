#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/plant.h"
#include "store/mem_priv.h"

struct mem_job *mem_job_find(struct mem_store *m, const char *id)
{
    struct mem_job *j;

    HASH_FIND(hh, m->jobs, id, strlen(id), j);
    return j;
}

static void log_events(struct mem_store *m, struct mem_job *j, int64_t at, const struct store_event *e,
                       size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct mem_event to = {.id = ++m->last_event,
                               .at = at,
                               .tenant = xstrdup(j->rec->s.tenant),
                               .kind = xstrdup(e[i].kind),
                               .data = xstrdup(e[i].data)};

        memcpy(to.job, j->rec->s.id, UUID_SIZE);
        mem_push(&m->events, to);
    }
}

static void add_note(struct job_record *r, int64_t at, enum job_state state, const char *note)
{
    r->timeline = xrealloc(r->timeline, (r->n_timeline + 1) * sizeof(*r->timeline));
    r->timeline[r->n_timeline++] = (struct job_note){at, state, xstrdup_null(note)};
}

static bool submit_exists(struct mem_store *m, struct req *r, const char *key)
{
    const struct store_submit *in = &r->in.submit;
    struct mem_job *j = mem_job_find(m, in->id);

    if (j == NULL && key) {
        HASH_FIND(hh_key, m->keys, key, strlen(key), j);
        r->out.submit.by_key = j != NULL;
    }
    if (j == NULL)
        return false;
    memcpy(r->out.submit.id, j->rec->s.id, UUID_SIZE);
    r->out.submit.seq = j->rec->s.seq;
    r->out.submit.number = j->rec->s.number;
    r->out.submit.answer = bytes_ref(j->rec->answer);
    r->out.submit.same_body = memcmp(j->body_hash, in->body_hash, BLAKE3_LEN) == 0;
    r->out.submit.tenant = xstrdup(j->rec->s.tenant);
    return true;
}

static struct job_record *submit_record(struct mem_store *m, const struct store_submit *in)
{
    struct job_record *rec = xcalloc(1, sizeof(*rec));

    memcpy(rec->s.id, in->id, strlen(in->id) + 1);
    rec->s.version = 1;
    rec->s.flags = in->flags;
    rec->s.tenant = xstrdup(in->tenant);
    rec->s.client_id = xstrdup_null(in->client_id);
    rec->s.window_id = xstrdup_null(in->window_id);
    rec->s.need = xstrdup_null(in->need);
    rec->s.workflow_id = xstrdup_null(in->workflow_id);
    rec->s.seq = ++m->last_seq;
    rec->s.number = in->has_number ? in->number : (double)(in->front ? -rec->s.seq : rec->s.seq);
    rec->s.priority = in->priority;
    rec->s.created_at = rec->s.state_at = in->created_at;
    rec->s.deadline = in->deadline;
    rec->graph = bytes_ref(in->graph);
    rec->extra_data = bytes_ref(in->extra_data);
    rec->targets = bytes_ref(in->targets);
    rec->rest = bytes_ref(in->rest);
    rec->secrets = bytes_ref(in->secrets);
    rec->answer = in->has_number ? bytes_ref(in->answer)
                                 : req_fill_answer(in->answer, in->front ? -rec->s.seq : rec->s.seq);
    rec->retry_of = xstrdup_null(in->retry_of);
    rec->inputs = xcalloc(in->n_inputs, sizeof(*rec->inputs));
    for (size_t i = 0; i < in->n_inputs; i++) {
        rec->inputs[i] = in->inputs[i];
        rec->inputs[i].name = xstrdup(in->inputs[i].name);
        mem_blob_ref(m, in->inputs[i].blake3);
    }
    rec->n_inputs = in->n_inputs;
    add_note(rec, in->created_at, JOB_QUEUED, in->note);
    return rec;
}

enum store_status mem_submit(struct mem_store *m, struct req *r)
{
    const struct store_submit *in = &r->in.submit;
    char *key = in->key ? xasprintf("%s\n%s", in->tenant, in->key) : NULL;
    struct mem_job *j;

    if (strlen(in->id) > UUID_LEN || submit_exists(m, r, key)) {
        free(key);
        return strlen(in->id) > UUID_LEN ? STORE_FAILED : STORE_EXISTS;
    }
    for (size_t i = 0; i < in->n_inputs; i++) {
        if (mem_blob_find(m, in->inputs[i].blake3) == NULL) {
            free(key);
            return STORE_NOT_FOUND;
        }
    }
    j = xcalloc(1, sizeof(*j));
    j->rec = submit_record(m, in);
    j->key = key;
    memcpy(j->body_hash, in->body_hash, BLAKE3_LEN);
    HASH_ADD_KEYPTR(hh, m->jobs, j->rec->s.id, strlen(j->rec->s.id), j);
    if (key)
        HASH_ADD_KEYPTR(hh_key, m->keys, key, strlen(key), j);
    mem_push(&m->order, j);
    log_events(m, j, in->created_at, in->events, in->n_events);
    memcpy(r->out.submit.id, j->rec->s.id, UUID_SIZE);
    r->out.submit.seq = j->rec->s.seq;
    r->out.submit.number = j->rec->s.number;
    r->out.submit.answer = bytes_ref(j->rec->answer);
    return STORE_OK;
}

static bool step_has_attempt(const struct job_record *rec, int n)
{
    for (size_t i = 0; i < rec->n_attempts; i++)
        if (rec->attempts[i].n == n)
            return true;
    return false;
}

static bool step_is_sound(struct mem_store *m, const struct job_record *rec, const struct store_step *in)
{
    if (in->begin && step_has_attempt(rec, in->begin->n))
        return false;
    if (in->end && !step_has_attempt(rec, in->end->n) && !(in->begin && in->begin->n == in->end->n))
        return false;
    for (size_t i = 0; i < in->n_outputs; i++)
        if (mem_blob_find(m, in->outputs[i].blake3) == NULL)
            return false;
    for (size_t i = 0; i < in->n_outputs; i++) {
        for (size_t k = 0; k < rec->n_outputs; k++)
            if (rec->outputs[k].attempt == in->outputs[i].attempt && rec->outputs[k].n == in->outputs[i].n)
                return false;
        for (size_t k = 0; k < i; k++)
            if (in->outputs[k].attempt == in->outputs[i].attempt && in->outputs[k].n == in->outputs[i].n)
                return false;
    }
    return true;
}

static void step_attempts(struct job_record *rec, const struct store_step *in)
{
    if (in->begin) {
        rec->attempts = xrealloc(rec->attempts, (rec->n_attempts + 1) * sizeof(*rec->attempts));
        job_attempt_copy(&rec->attempts[rec->n_attempts++], in->begin);
        rec->s.attempt = in->begin->n;
        memcpy(rec->s.upstream_id, in->begin->upstream_id, UUID_SIZE);
        free(rec->s.server);
        rec->s.server = xstrdup_null(in->begin->server);
    }
    if (in->end) {
        for (size_t i = 0; i < rec->n_attempts; i++) {
            struct job_attempt *a = &rec->attempts[i];

            if (a->n != in->end->n)
                continue;
            a->ended_at = in->end->ended_at;
            a->code = in->end->code;
            free(a->message);
            a->message = xstrdup_null(in->end->message);
        }
    }
}

static int output_order(const void *va, const void *vb)
{
    const struct job_output *a = va, *b = vb;

    return a->attempt != b->attempt ? (a->attempt < b->attempt ? -1 : 1) : (a->n > b->n) - (a->n < b->n);
}

static void step_outputs(struct mem_store *m, struct mem_job *j, const struct store_step *in)
{
    struct job_record *rec = j->rec;

    if (in->n_outputs == 0)
        return;
    rec->outputs = xrealloc(rec->outputs, (rec->n_outputs + in->n_outputs) * sizeof(*rec->outputs));
    for (size_t i = 0; i < in->n_outputs; i++) {
        job_output_copy(&rec->outputs[rec->n_outputs++], &in->outputs[i]);
        mem_blob_ref(m, in->outputs[i].blake3);
    }
    qsort(rec->outputs, rec->n_outputs, sizeof(*rec->outputs), output_order);
    j->stored = true;
    j->outputs_at = in->at;
}

static void step_finish(struct mem_store *m, struct mem_job *j, int64_t at)
{
    j->rec->s.finished_at = at;
    bytes_unref(j->rec->secrets);
    j->rec->secrets = NULL;
    j->fin = ++m->last_fin;
    mem_push(&m->finished, j);
}

static void step_stray(struct mem_store *m, const struct store_stray *in)
{
    struct store_stray to = *in;

    for (size_t i = 0; i < m->strays.n; i++)
        if (strcmp(m->strays.v[i].server, in->server) == 0 &&
            strcmp(m->strays.v[i].upstream_id, in->upstream_id) == 0)
            return;
    to.server = xstrdup(in->server);
    mem_push(&m->strays, to);
}

enum store_status mem_step(struct mem_store *m, struct req *r)
{
    const struct store_step *in = &r->in.step;
    struct mem_job *j = mem_job_find(m, in->id);
    struct job_summary *s;

    if (j == NULL || (j->rec->s.version != in->version && !PLANTED(COMMIT_UNCHECKED)))
        return STORE_LOST;
    s = &j->rec->s;
    if (!JOB_STATE_LIVE(s->state) && s->state != in->state) {
        log_error(LOG_S("job", in->id), LOG_S("reason", "a step out of a terminal state was refused"));
        return STORE_LOST;
    }
    if (!step_is_sound(m, j->rec, in)) {
        log_error(LOG_S("job", in->id), LOG_S("reason", "unsound step"));
        return STORE_FAILED;
    }
    step_attempts(j->rec, in);
    step_outputs(m, j, in);
    if (s->state != in->state)
        s->state_at = in->at;
    s->state = in->state;
    s->version++;
    s->flags = in->flags | (s->flags & JOB_F_NO_HISTORY);
    s->spent = in->spent;
    s->not_before = in->not_before;
    if (in->started && s->started_at == 0)
        s->started_at = in->at;
    if (in->state == JOB_QUEUED) {
        free(s->server);
        s->server = NULL;
        s->upstream_id[0] = '\0';
    }
    if (in->error) {
        job_error_fini(&j->rec->error);
        job_error_copy(&j->rec->error, in->error);
        s->code = in->error->code;
    }
    if (in->history) {
        bytes_unref(j->rec->history);
        j->rec->history = bytes_ref(in->history);
    }
    add_note(j->rec, in->at, in->state, in->note);
    if (!JOB_STATE_LIVE(in->state) && j->fin == 0)
        step_finish(m, j, in->at);
    if (in->stray)
        step_stray(m, in->stray);
    log_events(m, j, in->at, in->events, in->n_events);
    return STORE_OK;
}

enum store_status mem_hide(struct mem_store *m, struct req *r)
{
    const char *tenant = r->in.hide.tenant, *id = r->in.hide.id;
    bool found = id == NULL;

    for (size_t i = 0; i < m->finished.n; i++) {
        struct job_summary *s = &m->finished.v[i]->rec->s;

        if ((tenant && strcmp(s->tenant, tenant) != 0) || (id && strcmp(s->id, id) != 0))
            continue;
        if (s->flags & JOB_F_NO_HISTORY)
            continue;
        s->flags |= JOB_F_NO_HISTORY;
        found = true;
    }
    return found ? STORE_OK : STORE_NOT_FOUND;
}

enum store_status mem_get(struct mem_store *m, struct req *r)
{
    struct mem_job *j = mem_job_find(m, r->in.get.id);

    if (j == NULL)
        return STORE_NOT_FOUND;
    r->out.record = job_record_copy(j->rec, r->in.get.parts);
    return STORE_OK;
}

static bool same(const char *want, const char *have)
{
    return want == NULL || (have && strcmp(want, have) == 0);
}

static bool names_match(const struct store_filter *f, const struct job_summary *s)
{
    return same(f->tenant, s->tenant) && same(f->client_id, s->client_id) &&
           same(f->window_id, s->window_id) && same(f->server, s->server);
}

/* What an index would find: the rest is looked at job by job. */
static bool list_matches(const struct store_filter *f, const struct mem_job *j)
{
    const struct job_summary *s = &j->rec->s;
    struct store_filter searched = *f;

    if (!(f->states & JOB_STATE_BIT(s->state)) || (f->in_history && (s->flags & JOB_F_NO_HISTORY)))
        return false;
    if (f->shown &&
        (JOB_STATE_LIVE(s->state) || (s->flags & JOB_F_NO_HISTORY) || !same(f->workflow_id, s->workflow_id)))
        return false;
    if (!f->in_history)
        store_list_narrow(f, &searched);
    return names_match(&searched, s);
}

static bool list_has_kind(const struct store_filter *f, const struct job_record *rec)
{
    for (size_t i = 0; i < rec->n_outputs; i++)
        if (rec->outputs[i].attempt == rec->s.attempt && rec->outputs[i].kind &&
            strcmp(rec->outputs[i].kind, f->kind) == 0)
            return true;
    return false;
}

static int64_t took(const struct job_summary *s)
{
    return s->started_at > 0 ? s->finished_at - s->started_at : 0;
}

static int by_duration(const void *x, const void *y)
{
    const struct job_summary *a = &(*(struct mem_job *const *)x)->rec->s,
                             *b = &(*(struct mem_job *const *)y)->rec->s;

    if (took(a) != took(b))
        return took(a) < took(b) ? -1 : 1;
    return a->seq < b->seq ? -1 : a->seq > b->seq;
}

static struct mem_job **sorted_copy(const struct mem_store *m)
{
    struct mem_job **v = xcalloc(m->order.n + 1, sizeof(*v));

    if (m->order.n) {
        memcpy(v, m->order.v, m->order.n * sizeof(*v));
        qsort(v, m->order.n, sizeof(*v), by_duration);
    }
    return v;
}

enum store_status mem_list(struct mem_store *m, struct req *r)
{
    const struct store_filter *f = &r->in.list;
    struct mem_job **sorted = f->by_duration ? sorted_copy(m) : NULL;
    struct mem_job **v = sorted ? sorted : f->in_history ? m->finished.v : m->order.v;
    size_t n = f->in_history ? m->finished.n : m->order.n;
    int64_t skip = f->look ? 0 : f->offset, last = 0, seen = 0;
    int look = f->look > f->limit ? f->look : f->limit;

    for (size_t i = 0; f->count && i < n; i++)
        r->out.list.total += list_matches(f, v[i]);
    r->out.list.rows = xcalloc((size_t)f->limit, sizeof(struct job_record *));
    for (size_t i = 0; i < n; i++) {
        struct mem_job *j = v[f->oldest_first ? i : n - 1 - i];
        int64_t at = f->in_history ? j->fin : j->rec->s.seq;

        if (f->after && (f->oldest_first ? at <= f->after : at >= f->after))
            continue;
        if (!list_matches(f, j) || skip-- > 0)
            continue;
        if (look == 0) {
            r->out.list.next = seen;
            break;
        }
        look--;
        seen = at;
        if (!names_match(f, &j->rec->s) || (f->kind && !list_has_kind(f, j->rec)))
            continue;
        if (r->out.list.n == (size_t)f->limit) {
            r->out.list.next = last;
            break;
        }
        r->out.list.rows[r->out.list.n++] = job_record_copy(j->rec, f->parts);
        last = at;
    }
    free(sorted);
    return STORE_OK;
}

enum store_status mem_unfinished(struct mem_store *m, struct req *r)
{
    r->out.summaries.v = xcalloc(m->order.n - m->finished.n, sizeof(struct job_summary));
    for (size_t i = 0; i < m->order.n; i++)
        if (JOB_STATE_LIVE(m->order.v[i]->rec->s.state))
            job_summary_copy(&r->out.summaries.v[r->out.summaries.n++], &m->order.v[i]->rec->s);
    return STORE_OK;
}

void mem_event_free(struct mem_event *e)
{
    free(e->tenant);
    free(e->kind);
    free(e->data);
}

void mem_outputs_release(struct mem_store *m, struct mem_job *j)
{
    for (size_t i = 0; j->stored && i < j->rec->n_outputs; i++)
        mem_blob_unref(m, j->rec->outputs[i].blake3);
    for (size_t i = 0; i < j->rec->n_outputs; i++)
        j->rec->outputs[i].gone = true;
    j->stored = false;
}

void mem_job_remove(struct mem_store *m, struct mem_job *j)
{
    size_t kept = 0;

    mem_outputs_release(m, j);
    for (size_t i = 0; i < j->rec->n_inputs; i++)
        mem_blob_unref(m, j->rec->inputs[i].blake3);
    for (size_t i = 0; i < m->events.n; i++) {
        if (strcmp(m->events.v[i].job, j->rec->s.id) == 0)
            mem_event_free(&m->events.v[i]);
        else
            m->events.v[kept++] = m->events.v[i];
    }
    m->events.n = kept;
    for (size_t i = 0; i < m->order.n; i++) {
        if (m->order.v[i] == j) {
            mem_drop(&m->order, i);
            break;
        }
    }
    for (size_t i = 0; i < m->finished.n; i++) {
        if (m->finished.v[i] == j) {
            mem_drop(&m->finished, i);
            break;
        }
    }
    HASH_DELETE(hh, m->jobs, j);
    if (j->key)
        HASH_DELETE(hh_key, m->keys, j);
    mem_job_free(j);
}

void mem_job_free(struct mem_job *j)
{
    job_record_free(&j->rec);
    free(j->key);
    free(j);
}
