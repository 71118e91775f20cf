#include "cli/remote.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "http/client.h"

#define ANSWER_MAX (256u << 20)
#define TOTAL_MS 60000

/* ---- the request ---- */

struct waiting {
    struct loop *loop;
    struct remote_answer *a;
    enum http_call_end end;
    char *why;
};

void remote_fini(struct remote_answer *a)
{
    bytes_unref(a->body);
    *a = (struct remote_answer){0};
}

static void on_answer(const struct http_answer *a, void *arg)
{
    struct waiting *w = arg;

    w->end = a->end;
    w->why = xstrdup(a->why ? a->why : "");
    if (a->end == HTTP_CALL_OK) {
        w->a->status = a->status;
        w->a->body = bytes_ref(a->body);
        if (json_check(a->body->data, a->body->len, NULL, &w->a->root, NULL) < 0)
            w->a->root = (struct json){0};
    }
    loop_stop(w->loop);
}

static int exchange(struct loop *l, const char *url, const char *method, const char *target,
                    const struct buf *body, struct waiting *w, struct err *e)
{
    struct http_client_config cfg = {.connect_ms = 10000};
    struct http_client *c;
    struct bytes *b = body ? bytes_new(buf_str(body), body->len) : NULL;

    if (strncasecmp(url, "https:", 6) == 0)
        cfg.tls = tls_client_new(NULL, true, e);
    c = http_client_new(l, url, &cfg, e);
    if (c) {
        http_fetch(c, method, target, body ? "application/json" : NULL, b, ANSWER_MAX, TOTAL_MS, on_answer,
                   w);
        loop_run(l);
        http_client_free(&c);
        loop_turn(l, 0);
    }
    bytes_unref(b);
    tls_client_free(&cfg.tls);
    return w->why ? 0 : -1;
}

static int tell_refusal(const char *command, const char *url, const struct remote_answer *a)
{
    struct json error = json_get(a->root, "error");
    char *code = json_strdup(json_get(error, "code")), *message = json_strdup(json_get(error, "message"));

    if (code)
        cli_error(command, "%s: %s", code, message ? message : "no reason was given");
    else if (a->status == 404 || a->status == 405 || a->status / 100 == 2)
        cli_error(command, "%s answers, but it is no comfymux gateway", url);
    else
        cli_error(command, "%s answers %d %s", url, a->status, http_status_text(a->status));
    free(code);
    free(message);
    return CLI_FAILED;
}

int remote_call(const char *command, const char *url, const char *method, const char *target,
                const struct buf *body, struct remote_answer *a)
{
    struct waiting w = {.a = a};
    int status = CLI_OK;
    struct err e;

    log_setup(LOG_ERROR, LOG_TEXT);
    *a = (struct remote_answer){0};
    w.loop = loop_new(&e);
    if (!w.loop || exchange(w.loop, url, method, target, body, &w, &e) < 0) {
        cli_error(command, "%s: %s", url, e.msg);
        status = CLI_USAGE;
    } else if (w.end != HTTP_CALL_OK) {
        cli_error(command, "cannot reach %s: %s", url, w.why);
        status = CLI_UNREACHABLE;
    } else if (a->status / 100 != 2 || (a->body->len > 0 && json_type(a->root) != JSON_OBJECT)) {
        status = tell_refusal(command, url, a);
    }
    free(w.why);
    if (w.loop)
        loop_free(&w.loop);
    return status;
}

/* ---- tables ---- */

static struct buf *new_cell(struct table *t)
{
    if (t->n == t->cap) {
        t->cap = t->cap ? 2 * t->cap : 64;
        t->cells = xrealloc(t->cells, t->cap * sizeof(t->cells[0]));
    }
    t->cells[t->n] = (struct buf){0};
    return &t->cells[t->n++];
}

void table_init(struct table *t, unsigned columns, const char *const *heads)
{
    *t = (struct table){.columns = columns};
    for (unsigned i = 0; i < columns; i++)
        buf_puts(new_cell(t), heads[i]);
}

void table_fini(struct table *t)
{
    for (size_t i = 0; i < t->n; i++)
        buf_free(&t->cells[i]);
    free(t->cells);
    *t = (struct table){0};
}

static void put_clean(struct buf *out, const char *s, size_t n)
{
    for (size_t i = 0, k; i < n; i += k) {
        uint32_t cp = 0;

        k = utf8_decode(s + i, n - i, &cp);
        if (k && cp >= ' ' && (cp < 0x7f || cp >= 0xa0))
            buf_put(out, s + i, k);
        else
            buf_putc(out, cp == '\n' ? ' ' : '?');
        k = k ? k : 1;
    }
}

void table_add(struct table *t, const char *text)
{
    struct buf *b = new_cell(t);

    if (text && *text)
        put_clean(b, text, strlen(text));
    else
        buf_putc(b, '-');
}

void table_addf(struct table *t, const char *fmt, ...)
{
    char *text = NULL;
    va_list ap;

    va_start(ap, fmt);
    if (vasprintf(&text, fmt, ap) < 0)
        abort();
    va_end(ap);
    table_add(t, text);
    free(text);
}

/* Columns that s takes; *fit: how many bytes of it fit into `most`. */
static int width_of(const struct buf *s, int most, size_t *fit)
{
    int used = 0;

    *fit = s->len;
    for (size_t i = 0, k; i < s->len; i += k) {
        uint32_t cp = 0;
        int w;

        k = utf8_decode(s->data + i, s->len - i, &cp);
        w = wcwidth((wchar_t)cp);
        k = k ? k : 1;
        w = w < 0 ? 1 : w;
        if (used + w > most) {
            *fit = i;
            break;
        }
        used += w;
    }
    return used;
}

static const char *colour_of(const char *state)
{
    static const char *const colours[][2] = {{"succeeded", "32"},  {"up", "32"},          {"running", "36"},
                                             {"collecting", "36"}, {"dispatching", "36"}, {"failed", "31"},
                                             {"down", "31"},       {"expired", "31"},     {"fenced", "31"},
                                             {"canceled", "33"},   {"suspect", "33"},     {"draining", "33"}};

    for (size_t i = 0; i < ARRAY_LEN(colours); i++)
        if (strcmp(colours[i][0], state) == 0)
            return colours[i][1];
    return NULL;
}

void table_put(const struct table *t, const struct cli_term *term, int state_column, struct buf *out)
{
    int widths[16] = {0};
    size_t fit;

    for (size_t i = 0; i < t->n; i++) {
        int w = width_of(&t->cells[i], 1 << 20, &fit);

        if (w > widths[i % t->columns])
            widths[i % t->columns] = w;
    }
    for (size_t row = 0; row < t->n / t->columns; row++) {
        int column = 0;

        for (unsigned i = 0; i < t->columns; i++) {
            const struct buf *cell = &t->cells[row * t->columns + i];
            bool last = i + 1 == t->columns;
            int most = last && term->tty ? (term->width > column + 8 ? term->width - column : 8) : 1 << 20;
            int w = width_of(cell, most, &fit);
            const char *colour = !term->colour            ? NULL
                                 : row == 0               ? "1"
                                 : (int)i == state_column ? colour_of(buf_str(cell))
                                                          : NULL;

            if (colour)
                buf_printf(out, "\x1b[%sm", colour);
            buf_put(out, cell->data, fit);
            if (colour)
                buf_puts(out, "\x1b[0m");
            for (int k = w; !last && k < widths[i] + 2; k++)
                buf_putc(out, ' ');
            column += widths[i] + 2;
        }
        buf_putc(out, '\n');
    }
}

/* ---- values ---- */

void remote_put_age(struct buf *out, int64_t ms)
{
    int64_t s = ms / 1000;

    if (ms < 0)
        return;
    if (s < 120)
        buf_printf(out, "%llds", (long long)s);
    else if (s < 2 * 3600)
        buf_printf(out, "%lldm", (long long)(s / 60));
    else if (s < 48 * 3600)
        buf_printf(out, "%lldh", (long long)(s / 3600));
    else
        buf_printf(out, "%lldd", (long long)(s / 86400));
}

char *remote_text(struct json obj, const char *key)
{
    struct buf raw = BUF_INIT, clean = BUF_INIT;

    json_str(json_get(obj, key), &raw);
    put_clean(&clean, buf_str(&raw), raw.len);
    buf_free(&raw);
    return buf_take(&clean);
}
