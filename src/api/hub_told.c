/* What has been told of ended jobs, kept so that a gateway that was killed tells the rest.
 *
 * The store's log has the end of every job, in the order of commits. A small document says up to which entry of the log
 * ends have been looked at, and which of them are owed to a client still. It is written soon after something was told,
 * not before: who waits for an end that never comes waits for ever, and who is told one twice knows it by its id. So an
 * end that was told within the last moments before a kill is told again, and none is left out.
 *
 *   LOADING ──the document, then the log behind it, then the jobs, one by one──> READY ──something was told──> marked */
#include <stdlib.h>
#include <string.h>

#include "api/hub_priv.h"
#include "base/json.h"
#include "base/log.h"
#include "base/plant.h"

#define DOC_KIND "told"
#define MARK_MS 100
#define READ_ROWS 500
#define OWED_KEPT 500      /* ends that the document names; of more, those that came last */
#define LOAD_MAX 1000      /* jobs that are looked at after a start */
#define LOAD_AGE_MS 600000 /* and not those that ended longer ago */

struct owed {
    char job[UUID_SIZE];
    bool logged;   /* its entry of the log has been looked at: the document names it */
    bool told;     /* on a socket, or there is nobody to tell: to be forgotten by the mark after the next */
    unsigned mark; /* the number of marks when it was */
    UT_hash_handle hh;
};

static struct owed *owed_find(struct hub *h, const char *job)
{
    struct owed *o;

    HASH_FIND_STR(h->told.owed, job, o);
    return o;
}

static struct owed *owed_get(struct hub *h, const char *job)
{
    struct owed *o = owed_find(h, job);

    if (o)
        return o;
    o = xcalloc(1, sizeof(*o));
    memcpy(o->job, job, UUID_SIZE);
    HASH_ADD_STR(h->told.owed, job, o);
    return o;
}

static void owed_drop(struct hub *h, struct owed *o)
{
    HASH_DEL(h->told.owed, o);
    free(o);
}

static void mark_later(struct hub *h)
{
    if (h->told.ready && !timer_is_set(&h->told.mark))
        timer_set(&h->told.mark, MARK_MS);
}

void told_owe(struct hub *h, const char *job)
{
    if (h->told.store == NULL)
        return;
    owed_get(h, job);
    mark_later(h);
}

void told_done(struct hub *h, const char *job)
{
    struct owed *o;

    if (h->told.store == NULL)
        return;
    o = h->told.ready ? owed_find(h, job) : owed_get(h, job);
    if (o && !o->told) {
        o->told = true;
        o->mark = h->told.marks;
    }
    mark_later(h);
}

void told_undone(struct hub *h, const char *job)
{
    struct owed *o;

    if (h->told.store == NULL)
        return;
    o = owed_get(h, job);
    o->told = false;
    o->logged = true; /* its entry may have been looked at already */
    h->told.changed = true;
    mark_later(h);
}

/* --- marking --- */

static void on_mark(void *arg);

static void mark_end(struct hub *h, bool ok)
{
    bool again = h->told.again;

    h->told.busy = h->told.again = false;
    if (h->told.stop == STOP_ASKED && again && ok) {
        on_mark(h);
        return;
    }
    if (h->told.stop == STOP_ASKED)
        h->told.stop = STOP_DONE;
    if (again)
        mark_later(h);
}

static void on_written(enum store_status st, void *arg)
{
    struct hub *h = arg;

    if (st != STORE_OK) { /* the store tells of its trouble itself */
        h->told.changed = true;
        h->told.again = true;
    }
    mark_end(h, st == STORE_OK);
}

static void write_mark(struct hub *h)
{
    size_t n = 0, skip;
    struct buf b = BUF_INIT;
    struct owed *o, *tmp;
    struct bytes *doc;
    struct jsonw w;

    HASH_ITER(hh, h->told.owed, o, tmp)
        n += o->logged;
    skip = n > OWED_KEPT ? n - OWED_KEPT : 0;
    jsonw_init(&w, &b);
    jsonw_obj(&w);
    jsonw_kint(&w, "after", h->told.after);
    jsonw_key(&w, "owed");
    jsonw_arr(&w);
    HASH_ITER(hh, h->told.owed, o, tmp) {
        if (!o->logged || (skip && skip--))
            continue;
        jsonw_str(&w, o->job);
    }
    jsonw_arr_end(&w);
    jsonw_obj_end(&w);
    doc = buf_to_bytes(&b);
    h->told.changed = false;
    store_doc_put(h->told.store, DOC_KIND, "", doc, on_written, h);
    bytes_unref(doc);
}

static void on_marked(enum store_status st, const struct store_logged *e, size_t n, int64_t oldest,
                      int64_t newest, void *arg)
{
    struct hub *h = arg;

    (void)oldest;
    (void)newest;
    if (st != STORE_OK) {
        h->told.again = true;
        mark_end(h, false);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        struct owed *o = owed_find(h, e[i].job);

        h->told.after = e[i].id;
        h->told.changed = true;
        if (strcmp(e[i].kind, "end") != 0)
            continue;
        if (o || stream_is_open(h, e[i].job)) /* the news of its end may be on its way */
            owed_get(h, e[i].job)->logged = true;
    }
    if (n == READ_ROWS)
        store_events(h->told.store, h->told.after, NULL, READ_ROWS, on_marked, h);
    else if (h->told.changed)
        write_mark(h);
    else
        mark_end(h, true);
}

/* What was told is in its socket's hands only; the loop must have had the time to pass it on before it counts as told. So
 * it is owed for one mark more. */
static void forget_told(struct hub *h)
{
    struct owed *o, *tmp;

    HASH_ITER(hh, h->told.owed, o, tmp) {
        if (!o->told)
            continue;
        if (o->mark == h->told.marks && h->told.stop == STOP_NOT) {
            h->told.again = true;
            continue;
        }
        h->told.changed |= o->logged;
        owed_drop(h, o);
    }
    h->told.marks++;
}

static void on_mark(void *arg)
{
    struct hub *h = arg;

    timer_clear(&h->told.mark);
    if (h->told.busy) {
        h->told.again = true;
        return;
    }
    h->told.busy = true;
    forget_told(h);
    store_events(h->told.store, h->told.after, NULL, READ_ROWS, on_marked, h);
}

bool hub_stop(struct hub *h)
{
    if (!h->told.ready)
        return true;
    if (h->told.stop == STOP_NOT) {
        h->told.stop = STOP_ASKED;
        on_mark(h);
    }
    return h->told.stop == STOP_DONE;
}

/* --- loading --- */

struct load {
    struct hub *h;
    char (*ids)[UUID_SIZE]; /* LOAD_MAX, used as a ring */
    size_t first, n;
    unsigned told;
};

static void load_add(struct load *l, const char *id)
{
    memcpy(l->ids[(l->first + l->n) % LOAD_MAX], id, UUID_LEN);
    if (l->n < LOAD_MAX)
        l->n++;
    else
        l->first = (l->first + 1) % LOAD_MAX;
}

static void load_end(struct load *l)
{
    struct hub *h = l->h;

    if (l->told)
        log_info(LOG_S("event", "ends_to_be_told"), LOG_I("jobs", l->told));
    free(l->ids);
    free(l);
    h->told.ready = true;
    h->told.changed = true;
    mark_later(h);
}

static void load_next(struct load *l);

static void on_ended_job(enum store_status st, struct job_record *rec, void *arg)
{
    struct load *l = arg;
    struct hub *h = l->h;
    int64_t age = rec ? h->clock->wall_ms(h->clock) - rec->s.finished_at : 0;

    if (st == STORE_OK && !JOB_STATE_LIVE(rec->s.state) && rec->s.client_id && rec->s.client_id[0] &&
        !(rec->s.flags & JOB_F_NO_HISTORY) && age <= LOAD_AGE_MS && owed_find(h, rec->s.id) == NULL &&
        !stream_is_open(h, rec->s.id) && !PLANTED(OWED_FORGOTTEN)) {
        owed_get(h, rec->s.id)->logged = true;
        l->told++;
        stream_tell_ended(h, rec);
    }
    job_record_free(&rec);
    load_next(l);
}

static void load_next(struct load *l)
{
    const char *id;

    if (l->n == 0) {
        load_end(l);
        return;
    }
    id = l->ids[l->first];
    l->first = (l->first + 1) % LOAD_MAX;
    l->n--;
    store_get(l->h->told.store, id, JOB_PART_HISTORY | JOB_PART_ATTEMPTS, on_ended_job, l);
}

static void on_log(enum store_status st, const struct store_logged *e, size_t n, int64_t oldest,
                   int64_t newest, void *arg)
{
    struct load *l = arg;
    struct hub *h = l->h;

    (void)oldest;
    if (h->told.after == INT64_MAX) { /* there was no document: nothing is known to have been told */
        h->told.after = newest > READ_ROWS ? newest - READ_ROWS : 0;
        if (st == STORE_OK) {
            store_events(h->told.store, h->told.after, NULL, READ_ROWS, on_log, l);
            return;
        }
    }
    for (size_t i = 0; i < n; i++) {
        h->told.after = e[i].id;
        if (strcmp(e[i].kind, "end") == 0)
            load_add(l, e[i].job);
    }
    if (st == STORE_OK && n == READ_ROWS)
        store_events(h->told.store, h->told.after, NULL, READ_ROWS, on_log, l);
    else
        load_next(l);
}

static void take_doc(struct load *l, struct bytes *doc)
{
    struct hub *h = l->h;
    struct json whole, id;
    struct json_iter it;

    h->told.after = INT64_MAX;
    if (doc == NULL || json_check(doc->data, doc->len, NULL, &whole, NULL) < 0)
        return;
    json_int(json_get(whole, "after"), &h->told.after);
    it = json_iter(json_get(whole, "owed"));
    while (json_next(&it, NULL, &id)) {
        char *s = json_strdup(id);

        if (s && uuid_is_canonical(s, strlen(s)))
            load_add(l, s);
        free(s);
    }
}

static void on_doc(enum store_status st, struct bytes *doc, void *arg)
{
    struct load *l = arg;

    take_doc(l, st == STORE_OK ? doc : NULL);
    store_events(l->h->told.store, l->h->told.after, NULL, READ_ROWS, on_log, l);
}

void told_start(struct hub *h, struct store *store)
{
    struct load *l = xcalloc(1, sizeof(*l));

    l->h = h;
    l->ids = xcalloc(LOAD_MAX, UUID_SIZE);
    h->told.store = store;
    store_doc_get(store, DOC_KIND, "", on_doc, l);
}

void told_init(struct hub *h)
{
    timer_init(&h->told.mark, h->loop, on_mark, h);
}

void told_fini(struct hub *h)
{
    struct owed *o, *tmp;

    h->told.store = NULL;
    timer_fini(&h->told.mark);
    HASH_ITER(hh, h->told.owed, o, tmp)
        owed_drop(h, o);
}
