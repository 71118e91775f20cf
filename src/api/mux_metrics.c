/* GET /metrics: Prometheus text, version 0.0.4. Everything is a counter that is kept anyway or the length of a list:
 * nothing here is worked out but when it is asked for. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "api/mux.h"

/* --- writing --- */

static void head(struct buf *b, const char *name, const char *type, const char *help)
{
    buf_printf(b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void gauge(struct buf *b, const char *name, int64_t v, const char *help)
{
    head(b, name, "gauge", help);
    buf_printf(b, "%s %lld\n", name, (long long)v);
}

static void counter(struct buf *b, const char *name, uint64_t v, const char *help)
{
    head(b, name, "counter", help);
    buf_printf(b, "%s %llu\n", name, (unsigned long long)v);
}

/* --- jobs --- */

void mux_count_change(struct mux_counts *c, const struct job_summary *s, enum job_state from)
{
    if (!JOB_STATE_LIVE(s->state)) {
        if (JOB_STATE_LIVE(from))
            c->ended[s->state][s->code]++;
        return;
    }
    if (s->state == JOB_QUEUED && from == JOB_QUEUED && s->version == 1)
        c->accepted++;
    if (s->state == JOB_DISPATCHING && from != JOB_DISPATCHING)
        c->dispatched++;
    if (s->state == JOB_QUEUED && from != JOB_QUEUED)
        c->requeued++;
}

static void put_ended(struct buf *b, enum job_state state, enum job_code code, uint64_t v)
{
    buf_printf(b, "comfymux_jobs_ended_total{state=\"%s\",code=\"%s\"} %llu\n", job_state_name(state),
               job_code_name(code), (unsigned long long)v);
}

static void put_jobs(struct api *a, struct buf *b)
{
    const struct mux_counts *c = &a->counts;
    struct runner_counts n = {0};

    if (a->runner)
        runner_counts(a->runner, NULL, &n);
    head(b, "comfymux_jobs", "gauge", "Jobs that have not ended, by state.");
    for (enum job_state s = JOB_QUEUED; JOB_STATE_LIVE(s); s++)
        buf_printf(b, "comfymux_jobs{state=\"%s\"} %zu\n", job_state_name(s), n.state[s]);
    gauge(b, "comfymux_strays", (int64_t)n.strays,
          "Prompts left behind on servers by cancelled or abandoned attempts, being chased.");
    counter(b, "comfymux_jobs_accepted_total", c->accepted, "Jobs accepted since the start.");
    counter(b, "comfymux_job_attempts_total", c->dispatched, "Attempts begun: a job was given to a server.");
    counter(b, "comfymux_job_requeues_total", c->requeued, "Attempts after which the job was queued again.");
    head(b, "comfymux_jobs_ended_total", "counter", "Jobs ended since the start, by end and error code.");
    for (enum job_state s = JOB_SUCCEEDED; s < JOB_STATES; s++)
        for (enum job_code k = JOB_OK; k < JOB_CODES; k++) {
            enum job_state usual = k == JOB_OK              ? JOB_SUCCEEDED
                                   : k == JOB_CODE_EXPIRED  ? JOB_EXPIRED
                                   : k == JOB_CODE_CANCELED ? JOB_CANCELED
                                                            : JOB_FAILED;

            if (s == usual || c->ended[s][k]) /* all that can be are there from the start, with 0 */
                put_ended(b, s, k, c->ended[s][k]);
        }
}

/* --- servers, clients --- */

static void put_servers(struct api *a, struct buf *b)
{
    static const enum fleet_state states[] = {FLEET_UP, FLEET_SUSPECT, FLEET_DOWN, FLEET_FENCED,
                                              FLEET_DRAINING};
    struct fleet_server v[MUX_SERVERS];
    size_t n = fleet_servers(registry_fleet(a->d.registry), v, MUX_SERVERS);
    size_t count[ARRAY_LEN(states)] = {0};

    for (size_t i = 0; i < n && i < MUX_SERVERS; i++)
        for (size_t k = 0; k < ARRAY_LEN(states); k++)
            count[k] += v[i].state == states[k];
    head(b, "comfymux_servers", "gauge", "Configured ComfyUI servers, by state.");
    for (size_t k = 0; k < ARRAY_LEN(states); k++)
        buf_printf(b, "comfymux_servers{state=\"%s\"} %zu\n", fleet_state_name(states[k]), count[k]);
}

/* --- store --- */

static void put_store(struct api *a, struct buf *b)
{
    struct store_stats s = {0};

    store_stats(a->d.store, &s);
    counter(b, "comfymux_store_commits_total", s.commits, "Transactions committed by the store.");
    counter(b, "comfymux_store_writes_total", s.writes, "Changes made by the store, many to a transaction.");
    counter(b, "comfymux_store_reads_total", s.reads, "Reads answered by the store.");
    counter(b, "comfymux_store_failures_total", s.failures, "Calls that the store could not carry out.");
    gauge(b, "comfymux_store_full", s.full, "1 while writes fail for want of space.");
    gauge(b, "comfymux_store_jobs_finished", s.finished, "Ended jobs that are kept.");
    gauge(b, "comfymux_blob_bytes", s.blob_bytes, "Bytes of outputs and uploads that are kept.");
}

/* --- pictures --- */

static void put_pictures(struct api *a, struct buf *b)
{
    struct images_counts n = {0};

    if (a->d.images)
        images_counts(a->d.images, &n);
    head(b, "comfymux_pictures_total", "counter", "Previews and thumbnails asked for, by what came of it.");
    buf_printf(b, "comfymux_pictures_total{result=\"made\"} %llu\n", (unsigned long long)n.made);
    buf_printf(b, "comfymux_pictures_total{result=\"failed\"} %llu\n", (unsigned long long)n.failed);
    buf_printf(b, "comfymux_pictures_total{result=\"known\"} %llu\n", (unsigned long long)n.from_cache);
    counter(b, "comfymux_image_helpers_died_total", n.died,
            "Helper processes that a file has killed, or time.");
    gauge(b, "comfymux_pictures_waiting", n.waiting, "Pictures that are being made or wait for it.");
    gauge(b, "comfymux_picture_bytes", n.bytes, "Bytes of previews and thumbnails that are kept.");
}

/* --- the process --- */

/* The words of a /proc file that is one line of numbers; 0 where there is none. */
static size_t proc_words(const char *path, const char *skip, int64_t *v, size_t max)
{
    char line[1024], *p, *end;
    FILE *f = fopen(path, "re");
    size_t n = 0;

    if (f == NULL)
        return 0;
    p = fgets(line, sizeof(line), f);
    fclose(f);
    if (p && skip) /* the name of the process may hold anything: what counts stands behind its last bracket */
        p = strrchr(line, skip[0]) ? strrchr(line, skip[0]) + 3 : NULL;
    for (; p && n < max; p = end) {
        v[n] = strtoll(p, &end, 10);
        if (end == p)
            break;
        n++;
    }
    return n;
}

static void put_process(struct buf *b)
{
    int64_t mem[2] = {0}, stat[20] = {0};
    struct timespec cpu = {0};
    long page = sysconf(_SC_PAGESIZE);

    if (clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu) == 0) {
        head(b, "process_cpu_seconds_total", "counter", "Processor time used, in seconds.");
        buf_printf(b, "process_cpu_seconds_total %lld.%02ld\n", (long long)cpu.tv_sec,
                   cpu.tv_nsec / 10000000);
    }
    if (proc_words("/proc/self/statm", NULL, mem, 2) == 2) {
        gauge(b, "process_virtual_memory_bytes", mem[0] * page, "Virtual memory size in bytes.");
        gauge(b, "process_resident_memory_bytes", mem[1] * page, "Resident memory size in bytes.");
    }
    if (proc_words("/proc/self/stat", ")", stat, 20) > 16)
        gauge(b, "process_threads", stat[16], "Threads of the process.");
}

void mux_get_metrics(struct api *a, struct http_req *req, const struct api_params *p)
{
    struct buf b = BUF_INIT;

    (void)p;
    head(&b, "comfymux_build_info", "gauge", "1, with the version as a label.");
    buf_puts(&b, "comfymux_build_info{version=\"" COMFYMUX_VERSION "\"} 1\n");
    gauge(&b, "comfymux_ready", api_not_ready(a) == NULL, "1 while jobs can be taken and run, as /readyz.");
    put_jobs(a, &b);
    put_servers(a, &b);
    gauge(&b, "comfymux_websockets", hub_sockets(a->hub), "WebSockets of clients that are open.");
    put_store(a, &b);
    put_pictures(a, &b);
    put_process(&b);
    http_reply(req, 200, "text/plain; version=0.0.4; charset=utf-8", buf_str(&b), b.len);
    buf_free(&b);
}
