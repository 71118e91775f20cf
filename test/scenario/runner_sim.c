/* Whole lives of jobs: the gateway's own rooms (gateway.h) over scripted ComfyUI servers, a simulated network and disk, a
 * store whose every commit and answer is a separate moment, and virtual time. A seed fixes everything: arrivals, cancels,
 * deaths of servers, lost answers, late and repeated and reordered events, clocks that jump, and the gateway's own death
 * between any two moments, with or without the machine. What clients hear, what servers see and what is kept is held against
 * each other (clients_check.c).
 *
 *   runner_sim SEED [SEEDS [JOBS]]       one seed tells its story
 *   runner_sim --plant NAME SEED ...     with that bug, in a build with -Dplanted=true
 *   runner_sim --plants SEED SEEDS JOBS  every planted bug in turn: by how many seeds is it caught? */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/log.h"
#include "base/plant.h"
#include "clients.h"
#include "comfy.h"
#include "vfs.h"
#include "vloop.h"

#define JOBS 300
#define ALL_SERVERS ((1u << COMFY_SERVERS) - 1)
#define HEALED_MOST_MS (3 * 3600 * 1000LL) /* what hangs counts as stalled after half an hour */
#define CALM_MS (40 * 60 * 1000LL)         /* the longest fence, and a trial */

struct sum {
    struct clients_sum clients;
    int seeds, bad, died, crashes;
};

static struct {
    struct gateway g;
    struct store *store;
    struct gateway_config cfg;
    struct vt_event mischief;
    int crashes;
    bool healed;
    int64_t stalled_until; /* the store's disk is busy */
} sim;

/* --- the gateway's life --- */

static void on_late(void *arg)
{
    (void)arg;
    clients_before_commit(true);
    if (store_mem_commit_late(sim.store)) {
        vt_tell("the dead gateway commits");
        clients_after_commit();
    }
}

static void gateway_again(bool killed, bool power)
{
    sim.crashes++;
    vt_tell("the gateway is %s%s", killed ? "killed" : "stopped", power ? ", the machine too" : "");
    if (killed && !power) {
        store_mem_keep_late(sim.store);
        for (int i = 0; i < 8; i++)
            vt_later(vt_rnd(6000), on_late, NULL);
    }
    clients_gateway_down();
    gateway_end(&sim.g, killed);
    vfs_set_full(0);
    if (power)
        vfs_power_cut();
    clients_machine_died(power);
    gateway_start(&sim.g, sim.store, &sim.cfg, &clients_watch);
    vfs_set_full(sim.healed ? 0 : (int)vt_rnd(8));
}

/* The wall clock is set: by a little, or by up to half a day. */
static void jump(void)
{
    int64_t most = vt_rnd(2) ? 5000 : 12 * 3600 * 1000;

    most = (int64_t)vt_rnd((uint32_t)(2 * most)) - most;
    vt_tell("the wall clock jumps by %lld ms", (long long)most);
    vt_jump_wall(most);
}

/* A server is taken out of the configuration; some time later it comes back. */
static void reload(void)
{
    unsigned without = vt_rnd(COMFY_SERVERS);

    vt_tell("%s is taken out of the configuration", comfy_name((int)without));
    gateway_configure(&sim.g, ALL_SERVERS & ~(1u << without));
}

static void on_mischief(void *arg)
{
    (void)arg;
    if (vt_rnd(400) == 0)
        gateway_again(vt_rnd(4) != 0, vt_rnd(2) == 0);
    else if (vt_rnd(300) == 0)
        store_mem_fail(sim.store, vt_rnd(2) ? STORE_FULL : STORE_FAILED, 1 + vt_rnd(3));
    else if (vt_rnd(500) == 0)
        jump();
    else if (vt_rnd(400) == 0)
        reload();
    else if (vt_rnd(50) == 0)
        gateway_configure(&sim.g, ALL_SERVERS);
    vt_set(&sim.mischief, 500, on_mischief, NULL);
}

/* One moment. False: nothing can happen any more. */
static bool moment(void)
{
    size_t given = store_mem_given(sim.store), pending = store_mem_pending(sim.store);
    uint32_t pick = vt_rnd(100);

    if (!sim.healed && vt_rnd(given ? 2500 : 8000) == 0) {
        bool power = vt_rnd(3) == 0;

        gateway_again(power || vt_rnd(8) != 0, power);
    } else if (given && !sim.healed && vt_now() >= sim.stalled_until && vt_rnd(120) == 0) {
        sim.stalled_until = vt_now() + vt_rnd(3000);
    } else if (given && pick < 45 && vt_now() >= sim.stalled_until) {
        clients_before_commit(false);
        store_mem_commit(sim.store);
        clients_after_commit();
    } else if (pending && pick < 90) {
        store_mem_deliver(sim.store, pick % 7 ? 0 : vt_rnd((uint32_t)pending));
    } else if (!vt_step() && given == 0 && pending == 0) {
        return false;
    }
    vloop_turn(sim.g.loop);
    return true;
}

/* --- a seed --- */

static void draw_faults(void)
{
    struct comfy_faults f = {.die = (int)vt_rnd(16),
                             .wipe_input = (int)vt_rnd(1000),
                             .link_drop = (int)vt_rnd(20),
                             .reject = (int)vt_rnd(30),
                             .history_lag = (int)vt_rnd(500),
                             .view_gone = (int)vt_rnd(100),
                             .exec_error = (int)vt_rnd(50),
                             .oom = (int)vt_rnd(60),
                             .interrupted = (int)vt_rnd(10),
                             .late_event = (int)vt_rnd(200),
                             .repeat_event = (int)vt_rnd(200),
                             .hang = (int)vt_rnd(4),
                             .long_run = (int)vt_rnd(100),
                             .http_error = (int)vt_rnd(60),
                             .sick = vt_rnd(2) ? 0 : (int)vt_rnd(80),
                             .foreign = (int)vt_rnd(20)};
    struct vhttp_faults net = {.refused = (int)vt_rnd(12),
                               .lost_before = (int)vt_rnd(20),
                               .lost_after = (int)vt_rnd(40),
                               .overtaken = (int)vt_rnd(40),
                               .timeout = (int)vt_rnd(6),
                               .slow = (int)vt_rnd(100)};

    comfy_set_faults(&f);
    vhttp_set_faults(&net);
    vfs_set_full((int)vt_rnd(8));
    sim.cfg = (struct gateway_config){.collect_ms = 500 + vt_rnd(10000),
                                      .grace_ms = vt_rnd(3) * 1500,
                                      .settle_ms = vt_rnd(2) * 100,
                                      .keep = {.count = 20 + vt_rnd(300),
                                               .finished_ms = vt_rnd(3) ? 0 : 60000 + vt_rnd(600000),
                                               .outputs_ms = vt_rnd(3) ? 0 : 60000 + vt_rnd(600000),
                                               .events_ms = vt_rnd(4) ? 20000 + vt_rnd(100000) : 0,
                                               .size = vt_rnd(4) ? 0 : 5000 + vt_rnd(50000)}};
}

static void heal(void)
{
    static const struct vhttp_faults none;

    vt_tell("no more faults");
    sim.healed = true;
    vt_clear(&sim.mischief);
    gateway_configure(&sim.g, ALL_SERVERS);
    clients_heal();
    comfy_heal();
    vhttp_set_faults(&none);
    vfs_set_full(0);
}

static bool all_ended(void)
{
    struct runner_counts n;

    runner_counts(sim.g.runner, NULL, &n);
    return sim.g.ready && n.live == 0 && n.strays == 0;
}

static void live(void)
{
    int64_t healed_at = 0, calm_until = 0;

    while (moment()) {
        if (!sim.healed && clients_done() && vt_rnd(4000) == 0) {
            heal();
            healed_at = vt_now();
        }
        if (!sim.healed)
            continue;
        if (calm_until == 0 && all_ended())
            calm_until = vt_now() + CALM_MS;
        if ((calm_until && vt_now() >= calm_until) || vt_now() - healed_at > HEALED_MOST_MS)
            break;
    }
}

/* Did it keep every promise? */
static bool run_seed(uint64_t seed, int jobs, bool verbose, struct sum *sum)
{
    struct clients_sum c;
    bool good;

    memset(&sim, 0, sizeof(sim));
    vt_init(seed, verbose);
    vfs_init();
    vhttp_init();
    comfy_init(&clients_comfy_watch);
    draw_faults();
    sim.store = store_mem_new();
    clients_init(&sim.g, sim.store, jobs);
    vfs_set_full(0);
    gateway_start(&sim.g, sim.store, &sim.cfg, &clients_watch);
    vt_set(&sim.mischief, 500, on_mischief, NULL);
    live();
    if (!all_ended())
        vt_broke("", "live jobs or strays are left");
    clients_check_end(&c);
    good = vt_broken() == 0;
    clients_gateway_down();
    gateway_end(&sim.g, true);
    store_close(&sim.store);
    clients_fini();
    comfy_fini();
    vt_clear(&sim.mischief);
    vhttp_fini();
    vfs_fini();
    vt_fini();
    sum->seeds++;
    sum->bad += !good;
    sum->crashes += sim.crashes;
    sum->clients.submitted += c.submitted;
    sum->clients.retried += c.retried;
    sum->clients.heard += c.heard;
    sum->clients.trimmed += c.trimmed;
    for (int i = 0; i < JOB_STATES; i++)
        sum->clients.ended[i] += c.ended[i];
    return good;
}

/* --- many seeds, one process per core --- */

struct shared { /* between the processes */
    struct sum sum;
    uint64_t at; /* the seed under way */
    bool running;
};

static void print_sum(const struct sum *s)
{
    const struct clients_sum *c = &s->clients;

    printf("%d seeds: jobs %d (succeeded %d, failed %d, canceled %d, expired %d), retries %d, ends of the "
           "gateway %d, "
           "messages heard %d; seeds with a broken promise: %d\n",
           s->seeds, c->submitted, c->ended[JOB_SUCCEEDED], c->ended[JOB_FAILED], c->ended[JOB_CANCELED],
           c->ended[JOB_EXPIRED], c->retried, s->crashes, c->heard, s->bad);
}

static void add(struct sum *to, const struct sum *s)
{
    to->seeds += s->seeds;
    to->bad += s->bad;
    to->died += s->died;
    to->crashes += s->crashes;
    to->clients.submitted += s->clients.submitted;
    to->clients.retried += s->clients.retried;
    to->clients.heard += s->clients.heard;
    to->clients.trimmed += s->clients.trimmed;
    for (int i = 0; i < JOB_STATES; i++)
        to->clients.ended[i] += s->clients.ended[i];
}

/* Every step-th seed from here on. quiet: nothing is printed. */
static void run_some(struct shared *sh, uint64_t first, uint64_t last, unsigned step, int jobs, bool quiet)
{
    if (quiet && freopen("/dev/null", "w", stdout) == NULL)
        _exit(2);
    if (quiet && freopen("/dev/null", "w", stderr) == NULL)
        _exit(2);
    for (uint64_t seed = first; seed <= last; seed += step) {
        sh->at = seed;
        sh->running = true;
        run_seed(seed, jobs, false, &sh->sum);
        sh->running = false;
        fflush(stdout);
    }
    exit(0); /* not _exit: what leaked is to be found */
}

/* A process that dies took its seed with it: that is a catch too, and another goes on behind it. */
static struct sum run_many(uint64_t first, int seeds, int jobs, bool quiet)
{
    unsigned procs = (unsigned)sysconf(_SC_NPROCESSORS_ONLN);
    uint64_t last = first + (uint64_t)seeds - 1;
    struct shared *sh;
    struct sum total = {0};
    pid_t pids[64];

    procs = procs > 64 ? 64 : procs ? procs : 1;
    sh = mmap(NULL, procs * sizeof(*sh), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    fflush(stdout);
    for (unsigned i = 0; i < procs; i++)
        if ((pids[i] = fork()) == 0)
            run_some(&sh[i], first + i, last, procs, jobs, quiet);
    for (unsigned i = 0; i < procs; i++) {
        int status;

        waitpid(pids[i], &status, 0);
        while (sh[i].running) {
            sh[i].running = false;
            sh[i].sum.seeds++;
            sh[i].sum.bad++;
            sh[i].sum.died++;
            if (!quiet)
                printf("seed %" PRIu64 ": BROKEN the program died\n", sh[i].at);
            fflush(stdout);
            if ((pids[i] = fork()) == 0)
                run_some(&sh[i], sh[i].at + procs, last, procs, jobs, quiet);
            waitpid(pids[i], &status, 0);
        }
        add(&total, &sh[i].sum);
    }
    munmap(sh, procs * sizeof(*sh));
    return total;
}

/* --- planted bugs --- */

#ifdef COMFYMUX_PLANTED
static const struct {
    const char *name, *what;
} plants[] = {{"NONE", "none"},
#define PLANT_ROW(name, what) {#name, what},
              PLANTS(PLANT_ROW)
#undef PLANT_ROW
};

static bool plant_choose(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(plants); i++)
        if (strcmp(plants[i].name, name) == 0) {
            plant_chosen = (enum plant)i;
            return true;
        }
    return false;
}

/* Some seeds at a time, until a few have caught it. */
#define PLANT_SEEDS 8
#define PLANT_CAUGHT 4

static int run_plants(uint64_t first, int seeds, int jobs)
{
    int missed = 0;

    for (int i = 1; i < PLANT_COUNT; i++) {
        struct sum s = {0};

        plant_chosen = (enum plant)i;
        while (s.seeds < seeds && s.bad < PLANT_CAUGHT) {
            int left = seeds - s.seeds;
            struct sum more =
                run_many(first + (uint64_t)s.seeds, left < PLANT_SEEDS ? left : PLANT_SEEDS, jobs, true);

            add(&s, &more);
        }
        printf("%2d  %-48s caught by %4d of %d seeds%s\n", i, plants[i].what, s.bad, s.seeds,
               s.bad == 0   ? "  MISSED"
               : s.died > 0 ? ", by some because the program died"
                            : "");
        fflush(stdout);
        missed += s.bad == 0;
    }
    plant_chosen = PLANT_NONE;
    printf("planted bugs: %d of %d caught\n", PLANT_COUNT - 1 - missed, PLANT_COUNT - 1);
    return missed != 0;
}
#else
static bool plant_choose(const char *name)
{
    (void)name;
    fputs("this build has no planted bugs: meson setup -Dplanted=true\n", stderr);
    return false;
}

static int run_plants(uint64_t first, int seeds, int jobs)
{
    (void)first, (void)seeds, (void)jobs;
    return !plant_choose("");
}
#endif

/* What the gateway logs is part of the story; its own time of day is not. */
static void on_log(void *arg, enum log_level level, const char *line, size_t len)
{
    const char *rest = strchr(line, ' ');

    (void)arg, (void)level;
    if (rest && len)
        vt_tell("    log%.*s", (int)(len - (size_t)(rest - line)) - 1, rest);
}

int main(int argc, char **argv)
{
    bool all_plants = argc > 1 && strcmp(argv[1], "--plants") == 0;
    struct sum sum = {0};
    uint64_t first;
    int seeds, jobs;

    if (all_plants) {
        argc--, argv++;
    } else if (argc > 2 && strcmp(argv[1], "--plant") == 0) {
        if (!plant_choose(argv[2]))
            return 2;
        argc -= 2, argv += 2;
    }
    first = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
    seeds = argc > 2 ? (int)strtol(argv[2], NULL, 10) : argc > 1 ? 1 : 200;
    jobs = argc > 3 ? (int)strtol(argv[3], NULL, 10) : JOBS;
    hash_seed(1, 2);
    log_setup(seeds == 1 ? LOG_INFO : LOG_ERROR + 1, LOG_TEXT);
    log_set_sink(on_log, NULL);
    if (all_plants)
        return run_plants(first, seeds, jobs);
    if (seeds == 1)
        run_seed(first, jobs, true, &sum);
    else
        sum = run_many(first, seeds, jobs, false);
    print_sum(&sum);
    if (sum.clients.ended[JOB_SUCCEEDED] * 2 < sum.clients.submitted) {
        puts("BROKEN: less than half of the jobs succeeded; for faults like these that is too few");
        sum.bad++;
    }
    if (sum.bad && seeds > 1)
        printf("to see the story of one: runner_sim SEED 1 %d\n", jobs);
    return sum.bad != 0;
}
