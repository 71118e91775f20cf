#include "cli/run_progress.h"

#include <string.h>
#include <wchar.h>

#include "base/hash.h"
#include "base/utf8.h"

#define TITLE_COLUMNS 24
#define NARROW 70 /* a terminal below this spares words */
#define SERVER_COLUMNS 20
#define LINES_MOST 10

/* ---- columns ---- */

/* Append at most `columns` columns of s; what a terminal would not print shows as '?'. Gives the columns. */
static int put_columns(struct buf *out, const char *s, size_t n, int columns, bool utf8)
{
    int used = 0;

    for (size_t i = 0, k; i < n; i += k) {
        uint32_t cp = 0;
        int width;

        k = utf8_decode(s + i, n - i, &cp);
        width = k ? wcwidth((wchar_t)cp) : 1;
        if (!k || width < 0 || (cp >= 0x80 && !utf8)) {
            k = k ? k : 1;
            width = 1;
            cp = 0;
        }
        if (used + width > columns)
            break;
        used += width;
        if (cp)
            buf_put(out, s + i, k);
        else
            buf_putc(out, '?');
    }
    return used;
}

static void put_text(struct buf *out, const char *s, int columns, bool utf8)
{
    put_columns(out, s, strlen(s), columns, utf8);
}

/* ---- one job ---- */

static void put_span(struct buf *out, int64_t ms)
{
    int64_t s = (ms + 500) / 1000;

    if (s >= 3600)
        buf_printf(out, "%lld:%02lld:%02lld", (long long)(s / 3600), (long long)(s / 60 % 60),
                   (long long)(s % 60));
    else
        buf_printf(out, "%lld:%02lld", (long long)(s / 60), (long long)(s % 60));
}

int64_t run_time_left(int64_t since_ms, int64_t from, int64_t value, int64_t max)
{
    if (value <= from || max <= value || since_ms <= 0)
        return -1;
    return (int64_t)((double)since_ms * (double)(max - value) / (double)(value - from));
}

static void put_bar(struct buf *out, int64_t value, int64_t max, int columns, bool utf8)
{
    int full = (int)((double)columns * (double)value / (double)max);

    full = full < 0 ? 0 : full > columns ? columns : full;
    if (!utf8)
        buf_putc(out, '[');
    for (int i = 0; i < columns; i++)
        buf_puts(out, i < full ? (utf8 ? "━" : "#") : utf8 ? "┄" : ".");
    if (!utf8)
        buf_putc(out, ']');
}

static const char *phase_words(enum run_phase p)
{
    static const char *const words[] = {"sending",
                                        "sent, no answer yet",
                                        "queued",
                                        "running",
                                        "storing outputs",
                                        "fetching",
                                        "done",
                                        "failed",
                                        "canceled"};

    return words[p];
}

/* "gpu0  node 3/7 KSampler  ####....  5/20  0:12 left" */
static void put_running(const struct run_view *v, const struct cli_term *t, struct buf *out)
{
    int title = t->width / 4 < TITLE_COLUMNS ? t->width / 4 : TITLE_COLUMNS;

    if (!v->node || (!v->server && t->width >= NARROW))
        buf_puts(out, v->node || v->nodes_done ? "running " : "running");
    if (v->nodes_done && v->nodes_done <= v->nodes)
        buf_printf(out, "node %zu/%zu ", v->nodes_done, v->nodes);
    if (v->node)
        put_text(out, v->node, title, t->utf8);
    if (v->max > 1) {
        buf_puts(out, "  ");
        if (t->tty) {
            put_bar(out, v->value, v->max, t->width >= 100 ? 30 : t->width >= NARROW ? 16 : 8, t->utf8);
            buf_puts(out, "  ");
        }
        buf_printf(out, "%lld/%lld", (long long)v->value, (long long)v->max);
    }
    if (v->left_ms >= 0) {
        buf_puts(out, "  ");
        put_span(out, v->left_ms);
        buf_puts(out, " left");
    }
}

static void put_state(const struct run_view *v, const struct cli_term *t, struct buf *out)
{
    if (v->server && v->phase >= RUN_RUNNING && !RUN_ENDED(v->phase)) {
        put_text(out, v->server, SERVER_COLUMNS, t->utf8);
        buf_puts(out, "  ");
    }
    if (v->phase == RUN_RUNNING) {
        put_running(v, t, out);
    } else if (v->phase == RUN_QUEUED && v->place > 0) {
        buf_printf(out, "queued, place %lld", (long long)v->place);
    } else if (v->phase == RUN_FETCHING && v->node) {
        buf_puts(out, "fetching ");
        put_text(out, v->node, 60, t->utf8);
    } else {
        buf_puts(out, phase_words(v->phase));
    }
}

void run_progress_line(const struct run_view *v, const struct cli_term *t, struct buf *out)
{
    struct buf b = BUF_INIT;

    if (v->number)
        buf_printf(&b, "#%u  ", v->number);
    put_state(v, t, &b);
    if (!RUN_ENDED(v->phase) && v->spent_ms >= 1000 && (v->phase != RUN_RUNNING || v->left_ms < 0)) {
        buf_puts(&b, "  ");
        put_span(&b, v->spent_ms);
    }
    put_columns(out, buf_str(&b), b.len, t->width - 1, t->utf8);
    buf_free(&b);
}

/* ---- all of them ---- */

static unsigned put_count(const struct run_view *v, size_t n, const struct cli_term *t, struct buf *out)
{
    size_t done = 0, failed = 0, running = 0, queued = 0;
    struct buf b = BUF_INIT;

    for (size_t i = 0; i < n; i++) {
        done += v[i].phase == RUN_DONE;
        failed += v[i].phase == RUN_FAILED || v[i].phase == RUN_CANCELED;
        running += v[i].phase >= RUN_RUNNING && !RUN_ENDED(v[i].phase);
        queued += v[i].phase < RUN_RUNNING;
    }
    buf_printf(&b, "%zu of %zu done", done, n);
    if (failed)
        buf_printf(&b, ", %zu failed", failed);
    if (running)
        buf_printf(&b, ", %zu running", running);
    if (queued)
        buf_printf(&b, ", %zu waiting", queued);
    put_columns(out, buf_str(&b), b.len, t->width - 1, t->utf8);
    buf_free(&b);
    return 1;
}

/* Lines for the jobs that run; the queued are told by the first of them and by the count. */
static bool deserves_line(const struct run_view *v, bool *queued_shown)
{
    bool first;

    if (RUN_ENDED(v->phase))
        return false;
    if (v->phase >= RUN_RUNNING)
        return true;
    first = !*queued_shown;
    *queued_shown = true;
    return first;
}

unsigned run_progress_all(const struct run_view *v, size_t n, const struct cli_term *t, struct buf *out)
{
    unsigned most = t->height > 2 && t->height - 2 < LINES_MOST ? (unsigned)t->height - 2 : LINES_MOST,
             lines = 0;
    bool queued_shown = false;

    if (n == 1) {
        run_progress_line(v, t, out);
        return 1;
    }
    for (size_t i = 0; i < n && lines + 1 < most; i++) {
        if (!deserves_line(&v[i], &queued_shown))
            continue;
        run_progress_line(&v[i], t, out);
        buf_putc(out, '\n');
        lines++;
    }
    return lines + put_count(v, n, t, out);
}

void run_progress_redraw(unsigned before, const char *text, unsigned lines, struct buf *out)
{
    if (before == 0 && lines == 0)
        return;
    buf_putc(out, '\r');
    if (before > 1)
        buf_printf(out, "\x1b[%uA", before - 1);
    for (unsigned i = 0; i < lines; i++) {
        size_t n = strcspn(text, "\n");

        buf_put(out, text, n);
        buf_puts(out, i + 1 < lines ? "\x1b[K\n" : "\x1b[K");
        text += n + (text[n] == '\n');
    }
    if (before > lines)
        buf_puts(out, lines ? "\x1b[1B\r\x1b[J\x1b[1A" : "\x1b[J");
}

/* ---- plain lines ---- */

bool run_progress_plain(const struct run_view *v, struct run_said *said, struct buf *out)
{
    static const struct cli_term wide = {.utf8 = true, .width = 200};
    struct run_said now = {true, v->phase, v->phase == RUN_QUEUED ? v->place : 0, 0, 0};
    struct buf where = BUF_INIT, line = BUF_INIT;
    struct run_view shown = *v;

    if (v->phase == RUN_RUNNING || v->phase == RUN_FETCHING) {
        buf_printf(&where, "%s/%s", v->server ? v->server : "", v->node ? v->node : "");
        now.where = hash_bytes(where.data, where.len);
        now.tenth = v->max > 1 ? v->value * 10 / v->max : 0;
    }
    buf_free(&where);
    if (said->any && said->phase == now.phase && said->place == now.place && said->where == now.where &&
        said->tenth >= now.tenth)
        return false;
    *said = now;
    shown.spent_ms = 0;
    shown.number = 0;
    run_progress_line(&shown, &wide, &line);
    buf_printf(out, "job %s: %s\n", v->id, buf_str(&line));
    buf_free(&line);
    return true;
}
