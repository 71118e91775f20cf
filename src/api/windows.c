#include "api/windows.h"

#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/list.h"

#define SEED_JOBS 1000

struct window_client {
    struct list link;
    char id[];
};

struct window {
    struct list link;    /* windows.order */
    char *key;           /* tenant, newline, id; without the newline for jobs that have none */
    const char *id;      /* within key; NULL: jobs without a window */
    size_t tenant_n;     /* length of the tenant in key */
    struct list clients; /* newest first */
    unsigned n_clients;
    struct list jobs; /* newest first */
    int64_t last_seen;
    UT_hash_handle hh;
};

struct window_job {
    struct list in_window, in_order;
    struct window *w;
    char id[UUID_SIZE];
    enum job_state state;
    int64_t seq, registered_at;
    char *server, *client_id;
    UT_hash_handle hh;
};

struct windows {
    struct clock *clock;
    struct window *by_key;
    struct window_job *by_id;
    struct list order; /* windows, heard of last first */
    struct list jobs;  /* changed last first */
    size_t n_windows, n_jobs;
    struct seeding *seeding; /* the store is being asked */
};

/* Outlives the windows if the store answers after them. */
struct seeding {
    struct windows *w;
};

/* --- forgetting --- */

static void job_forget(struct windows *w, struct window_job *j)
{
    list_remove(&j->in_window);
    list_remove(&j->in_order);
    HASH_DEL(w->by_id, j);
    w->n_jobs--;
    free(j->server);
    free(j->client_id);
    free(j);
}

static void client_forget(struct window *win, struct window_client *c)
{
    list_remove(&c->link);
    win->n_clients--;
    free(c);
}

static void window_forget(struct windows *w, struct window *win)
{
    list_for_each_safe(it, &win->jobs)
        job_forget(w, list_entry(it, struct window_job, in_window));
    list_for_each_safe(it, &win->clients)
        client_forget(win, list_entry(it, struct window_client, link));
    list_remove(&win->link);
    HASH_DEL(w->by_key, win);
    w->n_windows--;
    free(win->key);
    free(win);
}

/* --- windows --- */

static char *key_of(const char *tenant, const char *id)
{
    return id ? xasprintf("%s\n%s", tenant, id) : xstrdup(tenant);
}

static struct window *window_find(struct windows *w, const char *key)
{
    struct window *win;

    HASH_FIND_STR(w->by_key, key, win);
    return win;
}

static struct window *window_get(struct windows *w, const char *tenant, const char *id)
{
    char *key = key_of(tenant, id);
    struct window *win = window_find(w, key);

    if (win) {
        free(key);
        return win;
    }
    if (w->n_windows == WINDOWS_MAX)
        window_forget(w, list_last(&w->order, struct window, link));
    win = xcalloc(1, sizeof(*win));
    win->key = key;
    win->tenant_n = strlen(tenant);
    win->id = id ? key + win->tenant_n + 1 : NULL;
    list_init(&win->clients);
    list_init(&win->jobs);
    list_push_back(&w->order, &win->link);
    HASH_ADD_KEYPTR(hh, w->by_key, win->key, strlen(win->key), win);
    w->n_windows++;
    return win;
}

/* Keeps the order: windows heard of last stand first. */
static void window_seen(struct windows *w, struct window *win, int64_t at)
{
    struct list *before = &w->order;

    if (at < win->last_seen)
        return;
    win->last_seen = at;
    list_remove(&win->link);
    while (before->next != &w->order && list_entry(before->next, struct window, link)->last_seen > at)
        before = before->next;
    list_insert_after(before, &win->link);
}

static void window_client(struct window *win, const char *id)
{
    struct window_client *c = NULL;
    size_t n = strlen(id) + 1;

    list_for_each(it, &win->clients) {
        if (strcmp(list_entry(it, struct window_client, link)->id, id) != 0)
            continue;
        c = list_entry(it, struct window_client, link);
        list_remove(&c->link);
        list_push_front(&win->clients, &c->link);
        return;
    }
    if (win->n_clients == WINDOWS_CLIENTS)
        client_forget(win, list_last(&win->clients, struct window_client, link));
    c = xmalloc(sizeof(*c) + n);
    memcpy(c->id, id, n);
    list_push_front(&win->clients, &c->link);
    win->n_clients++;
}

/* --- jobs --- */

static struct window_job *job_find(struct windows *w, const char *id)
{
    struct window_job *j;

    HASH_FIND_STR(w->by_id, id, j);
    return j;
}

/* Newest first within the window. What has just been accepted is looked for from the front, what the store tells of
 * from the back. */
static void job_into_window(struct window_job *j, bool old)
{
    struct list *head = &j->w->jobs, *at = old ? head->prev : head;

    if (old)
        while (at != head && list_entry(at, struct window_job, in_window)->seq < j->seq)
            at = at->prev;
    else
        while (at->next != head && list_entry(at->next, struct window_job, in_window)->seq > j->seq)
            at = at->next;
    list_insert_after(at, &j->in_window);
}

static struct window_job *job_new(struct windows *w, const struct job_summary *s, bool old)
{
    struct window_job *j;

    if (w->n_jobs == WINDOWS_JOBS)
        job_forget(w, list_last(&w->jobs, struct window_job, in_order));
    j = xcalloc(1, sizeof(*j));
    memcpy(j->id, s->id, UUID_SIZE);
    j->seq = s->seq;
    j->registered_at = s->created_at;
    j->client_id = xstrdup_null(s->client_id);
    list_init(&j->in_order);
    HASH_ADD_STR(w->by_id, id, j);
    w->n_jobs++;
    j->w = window_get(w, s->tenant, s->window_id);
    job_into_window(j, old);
    if (j->client_id)
        window_client(j->w, j->client_id);
    return j;
}

static bool too_long(const char *id)
{
    return id && strlen(id) > WINDOWS_ID_MAX;
}

/* old: the store tells of it, newest first. */
static void job_note(struct windows *w, const struct job_summary *s, bool old)
{
    struct window_job *j;

    if (too_long(s->window_id) || too_long(s->client_id))
        return;
    j = job_find(w, s->id);
    if (j == NULL)
        j = job_new(w, s, old);
    window_seen(w, j->w, s->state_at);
    j->state = s->state;
    free(j->server);
    j->server = xstrdup_null(s->state == JOB_QUEUED ? NULL : s->server); /* that of the attempt before */
    list_remove(&j->in_order);
    if (old)
        list_push_back(&w->jobs, &j->in_order);
    else
        list_push_front(&w->jobs, &j->in_order);
}

void windows_on_change(struct windows *w, const struct job_summary *job)
{
    job_note(w, job, false);
}

void windows_heard(struct windows *w, const char *tenant, const char *window_id)
{
    char *key = key_of(tenant, window_id);
    struct window *win = window_find(w, key);

    free(key);
    if (win)
        window_seen(w, win, w->clock->wall_ms(w->clock));
}

/* --- start --- */

static bool seed_live(const struct runner_job_view *job, void *arg)
{
    job_note(arg, job->s, false);
    return true;
}

/* What is known already is newer. Nothing is forgotten in favour of what is old. */
static void on_newest(struct store_list *l, void *arg)
{
    struct seeding *s = arg;

    for (size_t i = 0; s->w && i < l->n && s->w->n_jobs < WINDOWS_JOBS && s->w->n_windows < WINDOWS_MAX; i++)
        if (job_find(s->w, l->rows[i]->s.id) == NULL)
            job_note(s->w, &l->rows[i]->s, true);
    if (s->w)
        s->w->seeding = NULL;
    free(s);
    store_list_free(l);
}

void windows_start(struct windows *w, struct runner *r, struct store *s)
{
    struct store_filter f = {.limit = SEED_JOBS};

    runner_each(r, seed_live, w);
    if (w->seeding)
        w->seeding->w = NULL;
    w->seeding = xcalloc(1, sizeof(*w->seeding));
    w->seeding->w = w;
    store_list(s, &f, on_newest, w->seeding);
}

/* --- showing --- */

static void put_window(const struct window *win, struct jsonw *out)
{
    jsonw_obj(out);
    jsonw_kstr(out, "window_id", win->id);
    jsonw_key(out, "client_ids");
    jsonw_arr(out);
    list_for_each(it, &win->clients)
        jsonw_str(out, list_entry(it, struct window_client, link)->id);
    jsonw_arr_end(out);
    jsonw_kint(out, "last_seen", win->last_seen);
    jsonw_key(out, "jobs");
    jsonw_arr(out);
    list_for_each(it, &win->jobs) {
        const struct window_job *j = list_entry(it, struct window_job, in_window);

        jsonw_obj(out);
        jsonw_kstr(out, "id", j->id);
        jsonw_kstr(out, "state", job_state_name(j->state));
        jsonw_kstr(out, "server", j->server);
        jsonw_kstr(out, "client_id", j->client_id);
        jsonw_kint(out, "registered_at", j->registered_at);
        jsonw_obj_end(out);
    }
    jsonw_arr_end(out);
    jsonw_obj_end(out);
}

void windows_put(struct windows *w, const char *tenant, struct jsonw *out)
{
    size_t n = strlen(tenant);

    jsonw_obj(out);
    jsonw_key(out, "windows");
    jsonw_arr(out);
    list_for_each(it, &w->order) {
        const struct window *win = list_entry(it, struct window, link);

        if (win->tenant_n == n && memcmp(win->key, tenant, n) == 0)
            put_window(win, out);
    }
    jsonw_arr_end(out);
    jsonw_obj_end(out);
}

/* --- life --- */

struct windows *windows_new(struct clock *c)
{
    struct windows *w = xcalloc(1, sizeof(*w));

    w->clock = c;
    list_init(&w->order);
    list_init(&w->jobs);
    return w;
}

void windows_free(struct windows **wp)
{
    struct windows *w = *wp;

    if (w == NULL)
        return;
    if (w->seeding)
        w->seeding->w = NULL;
    list_for_each_safe(it, &w->order)
        window_forget(w, list_entry(it, struct window, link));
    free(w);
    *wp = NULL;
}
