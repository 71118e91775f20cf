#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "job/scheduler.h"

#define JOBS 300
#define SERVERS 70 /* more than one word of a set */

static uint64_t rng;

static uint32_t rnd(uint32_t n)
{
    rng = rng * 6364136223846793005ULL + 1442695040888963407ULL;
    return (uint32_t)((rng >> 33) % n);
}

struct model_job {
    struct sched_job j;
    struct sched_set can;
    bool waits;
};

/* What the header promises, said by looking at everything. */
static bool model_next(struct model_job *jobs, const struct sched_server *srv, size_t n, size_t *job,
                       unsigned *server)
{
    bool found = false;
    int64_t since = 0;

    for (size_t k = 0; k < n; k++) {
        size_t best = JOBS;

        if (srv[k].free <= 0 || (found && since <= srv[k].idle_since))
            continue;
        for (size_t i = 0; i < JOBS; i++)
            if (jobs[i].waits && sched_set_has(&jobs[i].can, srv[k].index) &&
                (best == JOBS || sched_job_before(&jobs[i].j, &jobs[best].j)))
                best = i;
        if (best == JOBS)
            continue;
        found = true;
        since = srv[k].idle_since;
        *job = best;
        *server = srv[k].index;
    }
    return found;
}

static void add_random(struct sched *s, struct model_job *m, int64_t seq)
{
    sched_job_init(&m->j);
    memset(&m->can, 0, sizeof(m->can));
    for (int k = 0, n = (int)rnd(3); k < n; k++)
        sched_set_add(&m->can, rnd(4) * 23);
    m->j.seq = seq;
    m->j.number = rnd(4) ? (double)seq : -(double)seq;
    m->j.priority = (int)rnd(3) - 1;
    m->waits = true;
    sched_job_add(s, &m->j, &m->can);
}

static void test_against_model(void **state)
{
    static struct model_job jobs[JOBS];
    struct sched *s = sched_new();
    int64_t seq = 0;

    (void)state;
    rng = 7;
    memset(jobs, 0, sizeof(jobs));
    for (int round = 0; round < 20000; round++) {
        size_t i = rnd(JOBS), job;
        struct sched_server srv[SERVERS];
        struct sched_pick pick;
        unsigned server;

        if (!jobs[i].waits && rnd(3)) {
            add_random(s, &jobs[i], ++seq);
        } else if (jobs[i].waits && rnd(8) == 0) {
            sched_job_remove(s, &jobs[i].j);
            jobs[i].waits = false;
        }
        if (rnd(2))
            continue;
        for (unsigned k = 0; k < SERVERS; k++)
            srv[k] = (struct sched_server){k, rnd(3) == 0, rnd(50)};
        assert_int_equal(sched_next(s, srv, SERVERS, &pick), model_next(jobs, srv, SERVERS, &job, &server));
        if (model_next(jobs, srv, SERVERS, &job, &server)) {
            assert_ptr_equal(pick.job, &jobs[job].j);
            assert_int_equal(pick.server, server);
            assert_non_null(pick.why);
            jobs[job].waits = false;
        }
    }
    for (size_t i = 0; i < JOBS; i++)
        sched_job_remove(s, &jobs[i].j);
    assert_int_equal(sched_waiting(s), 0);
    sched_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_against_model)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
