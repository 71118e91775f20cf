#include "base/log.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/json.h"

static atomic_int log_least = LOG_INFO;
static atomic_int log_fmt = LOG_TEXT;
static log_sink_cb *sink;
static void *sink_arg;

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
        buf_printf(b, "%lld", (long long)f->num);
    else if (json)
        json_put_strn(b, f->text, n); /* whatever the bytes are, the line is JSON */
    else if (!is_plain(f->text, n))
        put_quoted(b, f->text, n);
    else
        buf_put(b, f->text, n);
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
    if (sink)
        sink(sink_arg, level, b.data, b.len);
    else
        while (write(STDERR_FILENO, b.data, b.len) < 0 && errno == EINTR)
            ;
    buf_free(&b);
}
