/* What each tenant has waiting and under way: counts by state, and the places in its queue. Kept with every change, so
 * that asking costs the same with one job and with 100,000. */
#include <stdlib.h>
#include <string.h>

#include "job/runner_priv.h"

static bool waits_before(const struct rank_node *a, const struct rank_node *b)
{
    return sched_job_before(&container_of(a, struct runner_job, place)->sched,
                            &container_of(b, struct runner_job, place)->sched);
}

static struct tally *tally_of(const struct runner *r, const char *tenant)
{
    struct tally *t;

    HASH_FIND_STR(r->tallies, tenant, t);
    return t;
}

static void count(struct tally *t, enum job_state state, int delta)
{
    t->state[state] += (size_t)delta;
    t->r->all[state] += (size_t)delta;
}

void tally_add(struct runner_job *j)
{
    struct runner *r = j->r;
    struct tally *t = tally_of(r, j->s.tenant);

    if (t == NULL) {
        t = xcalloc(1, sizeof(*t));
        t->r = r;
        t->tenant = xstrdup(j->s.tenant);
        rank_init(&t->waiting, waits_before);
        HASH_ADD_KEYPTR(hh, r->tallies, t->tenant, strlen(t->tenant), t);
    }
    t->jobs++;
    j->tally = t;
    j->tallied = j->s.state;
    count(t, j->tallied, 1);
    if (j->tallied == JOB_QUEUED)
        rank_add(&t->waiting, &j->place);
}

void tally_move(struct runner_job *j)
{
    count(j->tally, j->tallied, -1);
    j->tallied = j->s.state;
    count(j->tally, j->tallied, 1);
    if (j->tallied != JOB_QUEUED)
        rank_remove(&j->tally->waiting, &j->place);
    else if (j->place.size == 0)
        rank_add(&j->tally->waiting, &j->place);
}

void tally_drop(struct runner_job *j)
{
    struct tally *t = j->tally;

    count(t, j->tallied, -1);
    rank_remove(&t->waiting, &j->place);
    if (--t->jobs)
        return;
    HASH_DEL(t->r->tallies, t);
    free(t->tenant);
    free(t);
}

int runner_queue_position(struct runner *r, const char *id)
{
    const struct runner_job *j = runner_get(r, id);

    return j && j->s.state == JOB_QUEUED ? (int)rank_of(&j->place) : -1;
}

void runner_counts(const struct runner *r, const char *tenant, struct runner_counts *out)
{
    const struct tally *t = tenant ? tally_of(r, tenant) : NULL;

    *out = (struct runner_counts){.strays = list_len(&r->strays)};
    if (t)
        memcpy(out->state, t->state, sizeof(out->state));
    else if (tenant == NULL)
        memcpy(out->state, r->all, sizeof(out->state));
    for (int i = 0; i < JOB_STATES; i++)
        out->live += out->state[i];
}
