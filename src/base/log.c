#include "base/log.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/log_ring.h"

static atomic_int log_least = LOG_INFO;
static atomic_int log_fmt = LOG_TEXT;
static log_sink_cb *sink;
static void *sink_arg;
static pthread_mutex_t ring_lock = PTHREAD_MUTEX_INITIALIZER;
static struct log_ring *ring; /* NULL: nothing is kept */
static atomic_bool keeps;     /* there is one: to be looked at without the lock */

static const char *const level_names[] = {"debug", "info", "warn", "error"};

void log_setup(enum log_level least, enum log_format format)
{
    atomic_store(&log_least, least);
    atomic_store(&log_fmt, format);
}

void log_set_sink(log_sink_cb *cb, void *arg)
{
    sink = cb;
    sink_arg = arg;
}

bool log_wants(enum log_level level)
{
    return (int)level >= atomic_load_explicit(&log_least, memory_order_relaxed);
}

int log_level_parse(const char *s)
{
    for (int i = 0; i < (int)ARRAY_LEN(level_names); i++)
        if (strcmp(s, level_names[i]) == 0)
            return i;
    return -1;
}

const char *log_level_name(enum log_level level)
{
    return level_names[level];
}

static void put_quoted(struct buf *b, const char *s, size_t n)
{
    buf_putc(b, '"');
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];

        if (c == '"' || c == '\\')
            buf_printf(b, "\\%c", c);
        else if (c == '\n')
            buf_puts(b, "\\n");
        else if (c < 0x20 || c == 0x7f)
            buf_printf(b, "\\u%04x", c);
        else
            buf_putc(b, (char)c);
    }
    buf_putc(b, '"');
}

static bool is_plain(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];

        if (c <= ' ' || c == '"' || c == '=' || c == '\\' || c == 0x7f)
            return false;
    }
    return n > 0;
}

static void put_field(struct buf *b, const struct log_field *f, bool json)
{
    size_t n = f->kind == 'n' ? (size_t)f->num : 0;

    if (f->kind != 'i' && f->text == NULL)
        return;
    if (f->kind == 's' || f->kind == 'm')
        n = strlen(f->text);
    if (json) {
        buf_puts(b, ",\"");
        buf_puts(b, f->key);
        buf_puts(b, "\":");
    } else if (f->kind == 'm') {
        buf_putc(b, ' ');
        buf_put(b, f->text, n);
        return;
    } else {
        buf_putc(b, ' ');
        buf_puts(b, f->key);
        buf_putc(b, '=');
    }
    if (f->kind == 'i')
        buf_put_int(b, f->num);
    else if (json)
        json_put_strn(b, f->text, n); /* whatever the bytes are, the line is JSON */
    else if (!is_plain(f->text, n))
        put_quoted(b, f->text, n);
    else
        buf_put(b, f->text, n);
}

void log_keep(size_t bytes)
{
    struct clock *clk = clock_system();

    pthread_mutex_lock(&ring_lock);
    log_ring_free(&ring);
    if (bytes)
        ring = log_ring_new(bytes, clk->wall_ms(clk));
    atomic_store(&keeps, ring != NULL);
    pthread_mutex_unlock(&ring_lock);
}

int64_t log_kept(const char *job, log_kept_cb *cb, void *arg)
{
    int64_t since = INT64_MAX;

    pthread_mutex_lock(&ring_lock);
    if (ring)
        since = log_ring_each(ring, job, cb, arg);
    pthread_mutex_unlock(&ring_lock);
    return since;
}

static bool is_about_job(const struct log_field *f, size_t n)
{
    return n > 0 && f[0].kind == 's' && f[0].text && strcmp(f[0].key, "job") == 0;
}

static void keep(int64_t ms, enum log_level level, const struct log_field *f, size_t n)
{
    struct log_kept line = {.at = ms, .level = level};
    struct buf b = BUF_INIT;

    for (size_t i = 1; i < n; i++)
        put_field(&b, &f[i], false); /* each with a blank in front */
    line.text = buf_str(&b) + (b.len > 0);
    line.n = b.len - (b.len > 0);
    pthread_mutex_lock(&ring_lock);
    if (ring)
        log_ring_put(ring, f[0].text, &line);
    pthread_mutex_unlock(&ring_lock);
    buf_free(&b);
}

void log_write(enum log_level level, const struct log_field *f, size_t n)
{
    struct clock *clk = clock_system();
    int64_t ms = clk->wall_ms(clk);
    time_t sec = (time_t)(ms / 1000);
    bool json = atomic_load(&log_fmt) == LOG_JSON;
    struct buf b = BUF_INIT;
    char stamp[32];
    struct tm tm;

    gmtime_r(&sec, &tm);
    strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%S", &tm);
    buf_printf(&b, json ? "{\"time\":\"%s.%03dZ\",\"level\":\"%s\"" : "%s.%03dZ %s", stamp, (int)(ms % 1000),
               level_names[level]);
    for (size_t i = 0; i < n; i++)
        put_field(&b, &f[i], json);
    buf_puts(&b, json ? "}\n" : "\n");
    if (atomic_load_explicit(&keeps, memory_order_relaxed) && is_about_job(f, n))
        keep(ms, level, f, n);
    if (sink)
        sink(sink_arg, level, b.data, b.len);
    else
        while (write(STDERR_FILENO, b.data, b.len) < 0 && errno == EINTR)
            ;
    buf_free(&b);
}
