/* GET /metrics: Prometheus text, version 0.0.4. Everything is a counter that is kept anyway or the length of a list:
 * nothing here is worked out but when it is asked for. */
#include <dirent.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
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

void mux_count_time(struct mux_counts *c, const struct job_summary *s, enum job_state from, int64_t from_at)
{
    if (s->state == from || !JOB_STATE_LIVE(from))
        return;
    if (from_at)
        histogram_add(&c->in_state[from], (s->state_at - from_at) * 1000);
    if (!JOB_STATE_LIVE(s->state))
        histogram_add(&c->whole[s->state], (s->finished_at - s->created_at) * 1000);
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
    int64_t oldest;

    if (a->runner)
        runner_counts(a->runner, NULL, &n);
    head(b, "comfymux_jobs", "gauge", "Jobs that have not ended, by state.");
    for (enum job_state s = JOB_QUEUED; JOB_STATE_LIVE(s); s++)
        buf_printf(b, "comfymux_jobs{state=\"%s\"} %zu\n", job_state_name(s), n.state[s]);
    oldest = a->runner ? runner_oldest_waiting(a->runner) : 0;
    gauge(b, "comfymux_job_oldest_waiting_seconds",
          oldest ? (a->d.clock->wall_ms(a->d.clock) - oldest) / 1000 : 0,
          "How long ago the oldest waiting job was accepted; 0 if none waits.");
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

static void put_times(struct api *a, struct buf *b)
{
    static const struct histogram none;
    const struct mux_counts *c = &a->counts;
    char label[40];

    head(b, "comfymux_job_state_duration_seconds", "histogram",
         "How long jobs were in a state: queued is the wait, running the work on the server.");
    for (enum job_state s = JOB_QUEUED; JOB_STATE_LIVE(s); s++) {
        snprintf(label, sizeof(label), "state=\"%s\"", job_state_name(s));
        histogram_put(b, "comfymux_job_state_duration_seconds", label, &c->in_state[s]);
    }
    head(b, "comfymux_job_duration_seconds", "histogram", "From a job's acceptance to its end, by end.");
    for (enum job_state s = JOB_SUCCEEDED; s < JOB_STATES; s++) {
        snprintf(label, sizeof(label), "state=\"%s\"", job_state_name(s));
        histogram_put(b, "comfymux_job_duration_seconds", label, &c->whole[s]);
    }
    head(b, "comfymux_submit_commit_duration_seconds", "histogram",
         "From a submit to its commit in the store, before which it is not answered.");
    histogram_put(b, "comfymux_submit_commit_duration_seconds", "",
                  a->runner ? runner_submit_times(a->runner) : &none);
}

/* --- servers --- */

/* A label's value: only these three need it. */
static void put_escaped(struct buf *b, const char *s)
{
    for (; *s; s++) {
        if (*s == '"' || *s == '\\')
            buf_putc(b, '\\');
        if (*s == '\n')
            buf_puts(b, "\\n");
        else
            buf_putc(b, *s);
    }
}

static const enum fleet_state server_states[] = {FLEET_UP, FLEET_SUSPECT, FLEET_DOWN, FLEET_FENCED,
                                                 FLEET_DRAINING};

/* One number of each server. */
struct server_number {
    const char *name, *type, *help;
    int64_t (*of)(struct api *a, const struct fleet_server *s);
};

static int64_t of_up(struct api *a, const struct fleet_server *s)
{
    (void)a;
    return s->state == FLEET_UP;
}

static int64_t of_link(struct api *a, const struct fleet_server *s)
{
    (void)a;
    return s->link;
}

static int64_t of_bound(struct api *a, const struct fleet_server *s)
{
    return a->runner ? runner_bound(a->runner, s->name) : 0;
}

static int64_t of_depth(struct api *a, const struct fleet_server *s)
{
    (void)a;
    return s->depth;
}

static int64_t of_queue(struct api *a, const struct fleet_server *s)
{
    (void)a;
    return s->queue;
}

static int64_t of_nodes(struct api *a, const struct fleet_server *s)
{
    (void)a;
    return s->nodes;
}

static int64_t of_seen(struct api *a, const struct fleet_server *s)
{
    return s->heard_ago < 0 ? 0 : (a->d.clock->wall_ms(a->d.clock) - s->heard_ago) / 1000;
}

static int64_t of_good(struct api *a, const struct fleet_server *s)
{
    (void)a;
    return (int64_t)s->good;
}

static int64_t of_bad(struct api *a, const struct fleet_server *s)
{
    (void)a;
    return (int64_t)s->bad;
}

static int64_t of_fences(struct api *a, const struct fleet_server *s)
{
    (void)a;
    return (int64_t)s->fences;
}

static int64_t of_restarts(struct api *a, const struct fleet_server *s)
{
    (void)a;
    return (int64_t)s->restarts;
}

static int64_t of_asked(struct api *a, const struct fleet_server *s)
{
    (void)a;
    return (int64_t)s->asked;
}

static const struct server_number server_numbers[] = {
    {"comfymux_server_up", "gauge", "1 while the server is given jobs.", of_up},
    {"comfymux_server_link_open", "gauge", "1 while the socket to the server is open.", of_link},
    {"comfymux_server_prompts", "gauge", "Prompts of ours that the server has or may have.", of_bound},
    {"comfymux_server_depth", "gauge", "Jobs given to the server at one time.", of_depth},
    {"comfymux_server_queue", "gauge",
     "Prompts in the server's queue as it last said, ours and others'; -1 if not known.", of_queue},
    {"comfymux_server_nodes", "gauge", "Node classes of the server; 0 if not known.", of_nodes},
    {"comfymux_server_last_seen_timestamp_seconds", "gauge",
     "When the server last said anything, in seconds since the epoch; 0 for never.", of_seen},
    {"comfymux_server_successes_total", "counter", "Attempts that succeeded.", of_good},
    {"comfymux_server_failures_total", "counter", "Attempts that ended by a fault that may be the server's.",
     of_bad},
    {"comfymux_server_fences_total", "counter", "How often the server was fenced.", of_fences},
    {"comfymux_server_restarts_total", "counter", "Restarts of the server that were noticed.", of_restarts},
    {"comfymux_server_questions_total", "counter", "Questions about its health that the server was asked.",
     of_asked},
};

static void put_server(struct buf *b, const char *name, const char *server)
{
    buf_printf(b, "%s{server=\"", name);
    put_escaped(b, server);
    buf_putc(b, '"');
}

static void put_servers(struct api *a, struct buf *b)
{
    static struct fleet_server v[MUX_SERVERS]; /* loop thread only */
    size_t n = fleet_servers(registry_fleet(a->d.registry), v, MUX_SERVERS), links = 0;
    size_t count[ARRAY_LEN(server_states)] = {0};

    n = n < MUX_SERVERS ? n : MUX_SERVERS;
    for (size_t i = 0; i < n; i++) {
        links += v[i].link;
        for (size_t k = 0; k < ARRAY_LEN(server_states); k++)
            count[k] += v[i].state == server_states[k];
    }
    head(b, "comfymux_servers", "gauge", "Configured ComfyUI servers, by state.");
    for (size_t k = 0; k < ARRAY_LEN(server_states); k++)
        buf_printf(b, "comfymux_servers{state=\"%s\"} %zu\n", fleet_state_name(server_states[k]), count[k]);
    gauge(b, "comfymux_server_links", (int64_t)links, "Sockets to servers that are open.");
    head(b, "comfymux_server_state", "gauge", "1 for the state that the server is in.");
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < ARRAY_LEN(server_states); k++) {
            put_server(b, "comfymux_server_state", v[i].name);
            buf_printf(b, ",state=\"%s\"} %d\n", fleet_state_name(server_states[k]),
                       v[i].state == server_states[k]);
        }
    for (size_t m = 0; m < ARRAY_LEN(server_numbers); m++) {
        const struct server_number *x = &server_numbers[m];

        head(b, x->name, x->type, x->help);
        for (size_t i = 0; i < n; i++) {
            put_server(b, x->name, v[i].name);
            buf_printf(b, "} %lld\n", (long long)x->of(a, &v[i]));
        }
    }
}

/* --- clients --- */

static const struct {
    enum api_class class;
    const char *method, *path; /* NULL any; the beginning of a route's */
} class_paths[] = {
    {API_SUBMIT, "POST", "/prompt"},
    {API_UPLOAD, NULL, "/upload"},
    {API_FILE, NULL, "/view"},
    {API_FILE, NULL, "/result"},
    {API_FILE, NULL, "/mux/v1/jobs/{id}/outputs"},
    {API_OBJECT_INFO, NULL, "/object_info"},
    {API_HISTORY, NULL, "/history"},
    {API_QUEUE, NULL, "/queue"},
    {API_QUEUE, NULL, "/prompt"},
    {API_STATUS, NULL, "/status"},
    {API_HEALTH, NULL, "/healthz"},
    {API_HEALTH, NULL, "/readyz"},
    {API_HEALTH, NULL, "/metrics"},
    {API_MUX, NULL, "/mux/"},
};

enum api_class mux_class_of(const struct api_route *r)
{
    if (r == NULL || r->who == API_PRIMARY)
        return API_OTHER;
    for (size_t i = 0; i < ARRAY_LEN(class_paths); i++)
        if (strncmp(r->path, class_paths[i].path, strlen(class_paths[i].path)) == 0 &&
            (class_paths[i].method == NULL || strcmp(r->method, class_paths[i].method) == 0))
            return class_paths[i].class;
    return API_NATIVE;
}

static void put_requests(struct api *a, struct buf *b, const struct http_req *req)
{
    static const char *const names[API_CLASSES] = {"submit",  "upload", "file",   "object_info",
                                                   "history", "queue",  "status", "health",
                                                   "mux",     "native", "other"};
    char label[40];

    gauge(b, "comfymux_http_connections", http_server_conns(http_req_server(req)),
          "Connections of clients that are open and no WebSockets.");
    gauge(b, "comfymux_websockets", hub_sockets(a->hub), "WebSockets of clients that are open.");
    head(b, "comfymux_http_request_duration_seconds", "histogram",
         "From the head of a request to the end of its answer, by what it is about.");
    for (int i = 0; i < API_CLASSES; i++) {
        snprintf(label, sizeof(label), "class=\"%s\"", names[i]);
        histogram_put(b, "comfymux_http_request_duration_seconds", label, &a->requests[i]);
    }
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
    gauge(b, "comfymux_store_memory_bytes", s.memory, "Memory that the database holds, mostly its cache.");
    gauge(b, "comfymux_blobs", s.blobs, "Outputs and uploads that are kept, each once.");
    gauge(b, "comfymux_blob_bytes", s.blob_bytes, "Bytes of outputs and uploads that are kept.");
    head(b, "comfymux_store_commit_duration_seconds", "histogram",
         "Transactions of the store, with their fsync.");
    histogram_put(b, "comfymux_store_commit_duration_seconds", "", &s.commit);
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

/* Seconds since the epoch. */
static int64_t boot_time(void)
{
    struct timespec wall, boot;

    clock_gettime(CLOCK_REALTIME, &wall);
    clock_gettime(CLOCK_BOOTTIME, &boot);
    return wall.tv_sec - boot.tv_sec;
}

static int64_t open_fds(void)
{
    DIR *d = opendir("/proc/self/fd");
    int64_t n = -3; /* itself, "." and ".." */

    if (d == NULL)
        return -1;
    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

static void put_process(struct buf *b)
{
    int64_t mem[2] = {0}, stat[20] = {0}, fds;
    struct rlimit lim;
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
#ifdef __GLIBC__
    struct mallinfo2 heap = mallinfo2();

    gauge(b, "comfymux_heap_bytes", (int64_t)(heap.uordblks + heap.hblkhd),
          "Memory that is allocated and not freed, the database's included.");
#endif
    if (proc_words("/proc/self/stat", ")", stat, 20) > 18) {
        gauge(b, "process_threads", stat[16], "Threads of the process.");
        gauge(b, "process_start_time_seconds", boot_time() + stat[18] / sysconf(_SC_CLK_TCK),
              "When the process was started, in seconds since the epoch.");
    }
    if (getrlimit(RLIMIT_NOFILE, &lim) == 0 && lim.rlim_cur != RLIM_INFINITY)
        gauge(b, "process_max_fds", (int64_t)lim.rlim_cur, "Descriptors that the process may have open.");
    fds = open_fds();
    if (fds >= 0)
        gauge(b, "process_open_fds", fds, "Descriptors that are open.");
}

void mux_get_metrics(struct api *a, struct http_req *req, const struct api_params *p)
{
    struct buf b = BUF_INIT;

    (void)p;
    head(&b, "comfymux_build_info", "gauge", "1, with the version as a label.");
    buf_puts(&b, "comfymux_build_info{version=\"" COMFYMUX_VERSION "\"} 1\n");
    gauge(&b, "comfymux_ready", api_not_ready(a) == NULL, "1 while jobs can be taken and run, as /readyz.");
    put_jobs(a, &b);
    put_times(a, &b);
    put_servers(a, &b);
    put_requests(a, &b, req);
    put_store(a, &b);
    put_pictures(a, &b);
    put_process(&b);
    http_reply(req, 200, "text/plain; version=0.0.4; charset=utf-8", buf_str(&b), b.len);
    buf_free(&b);
}
