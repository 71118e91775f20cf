/* What clients have been told, held against what is. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "clients_priv.h"
#include "vfs.h"

static struct mem_store *mem(void)
{
    return container_of(out.store, struct mem_store, base.store);
}

static int attempt_number(const struct job_record *rec, const char *upstream_id)
{
    for (size_t i = 0; i < rec->n_attempts; i++)
        if (strcmp(rec->attempts[i].upstream_id, upstream_id) == 0)
            return rec->attempts[i].n;
    return 0;
}

/* --- over the socket --- */

static void heard_end(struct told *t, const char *type)
{
    struct job_record *rec = committed_record(t->id);

    t->ever_heard_end = true;
    if (t->heard_ends++)
        vt_broke(t->id, "its client heard a second end: %s", type);
    if (rec == NULL) {
        if (!t->may_go)
            vt_broke(t->id, "its client heard its end, and there is no record of it");
    } else if (JOB_STATE_LIVE(rec->s.state)) {
        vt_broke(t->id, "its client heard %s before that was committed", type);
    } else if ((rec->s.state == JOB_SUCCEEDED) != (strcmp(type, "execution_success") == 0)) {
        vt_broke(t->id, "its client heard %s, and it has %s", type, job_state_name(rec->s.state));
    }
}

/* A client that is away is remembered for two minutes, and ends of ten minutes before the start are told after it. */
#define AWAY_MS 100000
#define BEFORE_MS 500000
#define TOLD_WITHIN_MS 30000

struct visit {
    struct vclient *c;
    unsigned serial, life;
    int64_t at;
};

/* Was its client there, or back in time, so that it must have been told the end? */
static bool is_due(const struct told *t, const struct job_record *rec, const struct visit *v)
{
    int64_t wall_age = vt_clock()->wall_ms(vt_clock()) - rec->s.finished_at;

    if (!t->accepted || t->ended_at == 0 || t->ended_at > v->at || rec->s.state == JOB_CANCELED ||
        (rec->s.flags & JOB_F_NO_HISTORY))
        return false; /* one that was canceled before its client heard of it ends without a word */
    if (t->ended_at >= out.ready_at)
        return v->at - t->ended_at < AWAY_MS;
    return v->at - out.ready_at < AWAY_MS && out.ready_at - t->ended_at < BEFORE_MS && wall_age >= 0 &&
           wall_age < BEFORE_MS;
}

/* One of its jobs has begun and not ended: the others may have to wait for their turn. */
static bool is_busy(const struct vclient *c)
{
    struct told *t, *tmp;

    HASH_ITER(hh, out.told, t, tmp) {
        struct job_record *rec = t->client == c ? committed_record(t->id) : NULL;

        if (rec && JOB_STATE_LIVE(rec->s.state) && rec->s.attempt)
            return true;
    }
    return false;
}

static void ends_due(void *arg)
{
    struct visit *v = arg;
    bool stayed =
        v->c->ws && v->serial == v->c->serial && v->life == out.g->life && out.g->ready && !is_busy(v->c);
    struct told *t, *tmp;

    HASH_ITER(hh, out.told, t, tmp) {
        struct job_record *rec = t->client == v->c && !t->ever_heard_end ? committed_record(t->id) : NULL;

        if (stayed && rec && !JOB_STATE_LIVE(rec->s.state) && is_due(t, rec, v))
            vt_broke(t->id, "its client came back and was not told its end");
    }
    free(v);
}

void client_came(struct vclient *c)
{
    struct visit *v = xcalloc(1, sizeof(*v));

    *v = (struct visit){c, c->serial, out.g->life, vt_now()};
    vt_later(TOLD_WITHIN_MS, ends_due, v);
}

/* After the end the last word follows at once. */
static void last_word_due(void *arg)
{
    struct told *t = told_of(arg);

    if (t->heard_ends && !t->heard_last && t->client->ws && t->serial == t->client->serial &&
        t->heard_life == out.g->life)
        vt_broke(t->id, "its client heard its end, and no last word after it");
    free(arg);
}

/* Attempts follow each other: of one that is over nothing more is heard. */
static void heard_of(struct told *t, struct json made_by)
{
    struct job_record *rec = committed_record(t->id);
    char *id = json_strdup(made_by);
    int n = rec && id ? attempt_number(rec, id) : 0;

    free(id);
    if (rec == NULL || json_is_null(made_by))
        return;
    if (n == 0)
        vt_broke(t->id, "its client heard of an attempt that is not its own, or not committed");
    else if (n < t->heard_attempt)
        vt_broke(t->id, "its client heard of attempt %d after %d", n, t->heard_attempt);
    t->heard_attempt = n;
}

static void heard_new_socket(struct told *t)
{
    struct vclient *c = t->client;

    if (t->serial == c->serial && t->heard_life == out.g->life)
        return;
    t->serial = c->serial;
    t->owed = false;
    t->heard_life = out.g->life;
    t->heard_attempt = t->heard_starts = t->heard_ends = 0;
    t->heard_last = false;
}

static void heard(struct told *t, const char *type, struct json data)
{
    bool null = strcmp(type, "executing") == 0 && json_is_null(json_get(data, "node"));

    vt_tell("%s %s hears %s%s", t->id, t->client->id, type, null ? " null" : "");
    heard_new_socket(t);
    out.sum.heard++;
    if (!t->accepted && t->life == out.g->life)
        vt_broke(t->id, "its client heard %s before its submit was answered", type);
    if (t->heard_last)
        vt_broke(t->id, "its client heard %s after the last word", type);
    heard_of(t, json_get(data, "made_by"));
    if (strcmp(type, "execution_start") == 0 && t->heard_starts++)
        vt_broke(t->id, "its client heard a second execution_start");
    if (strcmp(type, "execution_success") == 0 || strcmp(type, "execution_error") == 0 ||
        strcmp(type, "execution_interrupted") == 0) {
        heard_end(t, type);
        vt_later(1000, last_word_due, xstrdup(t->id));
    }
    if (strcmp(type, "executed") == 0 && vt_chance(40)) /* about now it is collected */
        client_cancels(t, vt_rnd(200));
    if (null) {
        t->heard_last = true;
        t->owed = false;
    }
}

void client_hears(struct vclient *c, enum ws_type type, const char *data, size_t n)
{
    struct json whole, body;
    char *kind, *id;
    struct told *t;

    if (type != WS_TEXT)
        return;
    if (json_check(data, n, NULL, &whole, NULL) < 0) {
        vt_broke("", "client %s heard what is no JSON", c->id);
        return;
    }
    kind = json_strdup(json_get(whole, "type"));
    body = json_get(whole, "data");
    id = json_strdup(json_get(body, "prompt_id"));
    t = id ? told_of(id) : NULL;
    if (t && t->client == c)
        heard(t, kind, body);
    else if (id)
        vt_broke(id, "client %s heard %s of what it has not submitted", c->id, kind);
    free(kind);
    free(id);
}

/* --- at the servers --- */

static bool claimed(const char *id)
{
    struct bound *b = bound_of(id);
    struct job_record *rec = b ? committed_record(b->t->id) : NULL;

    if (rec && JOB_STATE_LIVE(rec->s.state) && strcmp(rec->s.upstream_id, id) == 0)
        return true;
    for (size_t i = 0; i < mem()->strays.n; i++)
        if (strcmp(mem()->strays.v[i].upstream_id, id) == 0)
            return true;
    return false;
}

static void on_posted(const char *id, int server, int has)
{
    struct bound *b = bound_of(id);

    if (b == NULL)
        vt_broke(id, "was posted to %s before that was committed", comfy_name(server));
    else if (strcmp(b->server, comfy_name(server)) != 0)
        vt_broke(b->t->id, "was posted to %s and is bound to %s", comfy_name(server), b->server);
    if (has >= comfy_depth(server))
        vt_broke(b ? b->t->id : id, "was given to %s, which still has %d of ours", comfy_name(server), has);
}

static void on_began(const char *id, int server, const char *image)
{
    struct bound *b = bound_of(id);
    const char *want = b && b->t->image ? b->t->image : "";

    if (comfy_run_of(id)->began > 1)
        vt_broke(id, "began to run a second time");
    if (!claimed(id))
        vt_broke(b ? b->t->id : id, "runs on %s, and nobody looks after it", comfy_name(server));
    if (b && image == NULL)
        vt_broke(b->t->id, "runs on %s without its input", comfy_name(server));
    else if (b && strcmp(image, want) != 0)
        vt_broke(b->t->id, "runs on %s with another input than its own", comfy_name(server));
}

const struct comfy_watch clients_comfy_watch = {on_posted, on_began};

/* --- what the gateway announces --- */

/* P2, P4, P5: what stands in the end is whole, of one attempt, and of the server that ran it. */
static void check_outputs(const struct job_summary *s, const struct runner_end *end)
{
    for (size_t i = 0; i < end->n_outputs; i++) {
        const struct job_output *o = &end->outputs[i];
        uint8_t want[BLAKE3_LEN];
        char text[160];

        comfy_content(s->server ? s->server[1] - '0' : 0, s->upstream_id, o->filename, text, sizeof(text));
        blake3_of(text, want);
        if (memcmp(want, o->blake3, BLAKE3_LEN) != 0)
            vt_broke(s->id, "%s is not what its server made", o->filename);
        if (o->attempt != s->attempt)
            vt_broke(s->id, "an output is of another attempt");
    }
    if (s->state == JOB_SUCCEEDED && end->n_outputs != COMFY_FILES)
        vt_broke(s->id, "succeeded with %zu of %d outputs", end->n_outputs, COMFY_FILES);
    if (s->state != JOB_SUCCEEDED && end->error->code == JOB_OK)
        vt_broke(s->id, "ended badly without a name for it");
}

/* What is announced stands in the store. (Another gateway's late commit may have come after it.) */
static void check_announced(const struct job_summary *s)
{
    const struct job_record *rec = committed_record(s->id);

    if (rec == NULL && told_of(s->id) && told_of(s->id)->may_go)
        return; /* it has ended, and retention was quicker */
    if (rec == NULL || rec->s.version < s->version)
        vt_broke(s->id, "version %u was announced and is not committed", s->version);
    else if (rec->s.version == s->version && (rec->s.state != s->state || rec->s.attempt != s->attempt))
        vt_broke(s->id, "was announced as %s and is %s", job_state_name(s->state),
                 job_state_name(rec->s.state));
}

void on_gateway_change(const struct runner_job_view *job, enum job_state from, const struct runner_end *end)
{
    struct told *t = told_of(job->s->id);

    vt_tell("%s -> %s attempt %d%s%s", job->s->id, job_state_name(job->s->state), job->s->attempt,
            end && end->error->code ? ": " : "",
            end && end->error->code ? job_code_name(end->error->code) : "");
    if (t == NULL) {
        vt_broke(job->s->id, "nobody has submitted it");
        return;
    }
    check_announced(job->s);
    if (t->ended && t->end_life == out.g->life)
        vt_broke(t->id, "changed after its end");
    if (t->ended && t->state != job->s->state)
        vt_broke(t->id, "left its end");
    if (from == JOB_QUEUED && job->s->attempt > 1 && job->s->state == JOB_DISPATCHING)
        out.sum.retried++;
    if (end == NULL)
        return;
    check_outputs(job->s, end);
    if (t->cancel_confirmed && job->s->state != JOB_CANCELED)
        vt_broke(t->id, "a confirmed cancel came to another end");
    t->ended = true;
    t->state = job->s->state;
    t->end_life = out.g->life;
    /* One that was canceled before its client heard of it ends without a word. */
    if (t->client && t->client->ws && job->s->state != JOB_CANCELED) {
        heard_new_socket(t);
        t->owed = true;
    }
}

/* --- the store --- */

void clients_before_commit(bool late)
{
    struct req *r = list_first(late ? &mem()->late : &mem()->given, struct req, link);
    struct job_record *rec;

    out.next = r ? r->kind : REQ_GET;
    out.next_told = NULL;
    if (out.next == REQ_STEP) {
        out.next_told = told_of(r->in.step.id);
        rec = committed_record(r->in.step.id);
        out.next_version = r->in.step.version;
        out.had_version = rec ? rec->s.version : 0;
    } else if (out.next == REQ_TRIM) {
        for (size_t i = mem()->finished.n; i > 0; i--) { /* newest first, to those that are marked */
            struct told *t = told_of(mem()->finished.v[i - 1]->rec->s.id);

            if (t->may_go)
                break;
            t->may_go = true;
        }
    }
}

static void bind_attempt(struct told *t, const struct job_record *rec)
{
    struct bound *b;

    if (rec->s.server == NULL || bound_of(rec->s.upstream_id))
        return;
    b = xcalloc(1, sizeof(*b));
    memcpy(b->id, rec->s.upstream_id, UUID_SIZE);
    snprintf(b->server, sizeof(b->server), "%s", rec->s.server);
    b->t = t;
    HASH_ADD_STR(out.bound, id, b);
}

void clients_after_commit(void)
{
    struct told *t = out.next_told;
    struct job_record *rec = t ? committed_record(t->id) : NULL;

    if (rec == NULL)
        return;
    if (rec->s.version != out.had_version && out.next_version != out.had_version)
        vt_broke(t->id, "version %u was changed by a decision about version %u", out.had_version,
                 out.next_version);
    if (!JOB_STATE_LIVE(rec->s.state) && t->ended_at == 0)
        t->ended_at = vt_now();
    bind_attempt(t, rec);
}

/* --- reading --- */

static void read_output(struct told *t, const struct job_record *rec, const struct job_output *o)
{
    struct buf got = BUF_INIT;
    struct err e = {0};
    char want[160];
    int64_t size;
    int fd = blob_open(out.g->blobs, o->blake3, &size, &e);

    want[0] = '\0';
    for (size_t i = 0; i < rec->n_attempts; i++)
        if (rec->attempts[i].n == o->attempt)
            comfy_content(rec->attempts[i].server[1] - '0', rec->attempts[i].upstream_id, o->filename, want,
                          sizeof(want));
    if (fd < 0 || !vfs_slurp(fd, &got))
        vt_broke(t->id, "%s is listed and cannot be read", o->filename);
    else if (strcmp(buf_str(&got), want) != 0 || got.len != strlen(want))
        vt_broke(t->id, "%s does not hold what its server made", o->filename);
    if (fd >= 0)
        vfs_close(fd);
    buf_free(&got);
}

void read_job(struct told *t)
{
    struct mem_job *j = mem_job_find(mem(), t->id);

    if (j == NULL) {
        if (t->accepted && !t->may_go)
            vt_broke(t->id, "accepted, and gone");
        return;
    }
    for (size_t i = 0; j->stored && i < j->rec->n_outputs; i++)
        read_output(t, j->rec, &j->rec->outputs[i]);
}

void clients_read_everything(void)
{
    struct told *t, *tmp;

    HASH_ITER(hh, out.told, t, tmp) {
        read_job(t);
    }
}

/* --- the end --- */

static void check_record(struct told *t, const struct job_record *rec)
{
    int began = 0;

    if (JOB_STATE_LIVE(rec->s.state))
        vt_broke(t->id, "never came to an end");
    if (t->ended && t->state != rec->s.state)
        vt_broke(t->id, "was told one end and keeps another");
    if (t->cancel_confirmed && rec->s.state != JOB_CANCELED)
        vt_broke(t->id, "canceled, and not");
    if (rec->s.state == JOB_SUCCEEDED && rec->n_outputs != COMFY_FILES)
        vt_broke(t->id, "its record lacks outputs");
    if (rec->s.state == JOB_CANCELED && rec->n_outputs != 0)
        vt_broke(t->id, "canceled, and shows outputs");
    for (size_t i = 0; i < rec->n_attempts; i++) {
        const struct comfy_run *run = comfy_run_of(rec->attempts[i].upstream_id);

        began += run ? run->began : 0;
        if (rec->attempts[i].code == JOB_OK && rec->s.state != JOB_SUCCEEDED)
            vt_broke(t->id, "an attempt has no end");
    }
    if (t->paid && began > 1)
        vt_broke(t->id, "a paid job began to run %d times", began);
}

/* Nothing is kept that nobody holds. */
static void check_leftovers(void)
{
    struct mem_blob *b, *tmp;
    int rows = 0;

    for (size_t i = 0; i < mem()->pins.n; i++) {
        struct err e = {0};
        struct buf text = BUF_INIT;
        int64_t size;
        int fd = blob_open(out.g->blobs, mem()->pins.v[i].blob->hash, &size, &e);

        vfs_slurp(fd, &text);
        vt_broke("", "a pin is left of: %s", buf_str(&text));
        vfs_close(fd);
        buf_free(&text);
    }
    HASH_ITER(hh, mem()->blobs, b, tmp) {
        rows++;
        /* One that was doomed before the clock was set back stays until that time comes again. */
        if (b->refs == 0 && b->doomed_at && b->doomed_at < vt_clock()->wall_ms(vt_clock()) - 60000)
            vt_broke("", "a blob that nobody refers to is not collected");
    }
    if (vfs_count("/data/blobs/") != rows)
        vt_broke("", "there are %d files for %d blobs", vfs_count("/data/blobs/"), rows);
    if (vfs_open_count())
        vt_broke("", "%d files are still open", vfs_open_count());
}

static void still_there(int server, const struct comfy_prompt *p)
{
    vt_broke(p->id, "is still on %s", comfy_name(server));
}

void clients_check_end(struct clients_sum *sum)
{
    static struct fleet_server servers[COMFY_SERVERS];
    struct told *t, *tmp;
    size_t n = fleet_servers(&out.g->fleet, servers, COMFY_SERVERS);

    for (size_t i = 0; i < n && i < COMFY_SERVERS; i++)
        if (servers[i].state != FLEET_UP)
            vt_broke("", "%s is well for long and counts as %s", servers[i].name,
                     fleet_state_name(servers[i].state));
    HASH_ITER(hh, out.told, t, tmp) {
        struct job_record *rec = committed_record(t->id);

        read_job(t);
        if (rec)
            check_record(t, rec);
        if (t->owed && t->client->ws && t->client->serial == t->serial)
            vt_broke(t->id, "its client never heard its last word");
        if (t->ended)
            out.sum.ended[t->state]++;
        else
            out.sum.trimmed += rec == NULL;
    }
    comfy_each(still_there);
    check_leftovers();
    *sum = out.sum;
}
