/* The server's log as its clients see it: the last lines, and new ones to the sockets that asked for them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "sim/server_impl.h"

static void put_entry(struct buf *b, const struct log_line *line)
{
    struct jsonw w;

    jsonw_init(&w, b);
    jsonw_obj(&w);
    jsonw_kstr(&w, "t", line->t);
    jsonw_kstr(&w, "m", line->m);
    jsonw_obj_end(&w);
}

static size_t subscriber(const struct sim_server *s, const char *id)
{
    size_t i = 0;

    while (i < s->n_subscribers && strcmp(s->subscribers[i], id) != 0)
        i++;
    return i;
}

static void unsubscribe(struct sim_server *s, size_t i)
{
    free(s->subscribers[i]);
    s->subscribers[i] = s->subscribers[--s->n_subscribers];
}

static void tell(struct sim_server *s, const struct log_line *line)
{
    struct buf b = BUF_INIT;

    buf_puts(&b, "{\"type\": \"logs\", \"data\": {\"entries\": [");
    put_entry(&b, line);
    buf_puts(&b, "], \"size\": null}}");
    for (size_t i = s->n_subscribers; i-- > 0;)
        if (hub_has(s->hub, s->subscribers[i]))
            hub_text(s->hub, s->subscribers[i], b.data, b.len);
        else
            unsubscribe(s, i);
    buf_free(&b);
}

void server_log(struct sim_server *s, const char *fmt, ...)
{
    struct log_line *line = &s->log[s->logged++ % ARRAY_LEN(s->log)];
    int64_t ms = s->clock.wall_ms(&s->clock);
    time_t now = (time_t)(ms / 1000);
    struct tm tm;
    va_list ap;
    size_t n;

    localtime_r(&now, &tm);
    n = strftime(line->t, sizeof(line->t), "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(line->t + n, sizeof(line->t) - n, ".%03d000", (int)(ms % 1000));
    free(line->m);
    va_start(ap, fmt);
    if (vasprintf(&line->m, fmt, ap) < 0)
        line->m = xstrdup("");
    va_end(ap);
    tell(s, line);
}

void server_log_free(struct sim_server *s)
{
    for (size_t i = 0; i < ARRAY_LEN(s->log); i++)
        free(s->log[i].m);
    while (s->n_subscribers > 0)
        unsubscribe(s, 0);
    free(s->subscribers);
}

static size_t first_line(const struct sim_server *s)
{
    return s->logged > ARRAY_LEN(s->log) ? s->logged - ARRAY_LEN(s->log) : 0;
}

void get_internal_logs(struct sim_server *s, struct http_req *r, const char *rest)
{
    struct buf b = BUF_INIT, text = BUF_INIT;

    (void)rest;
    for (size_t i = first_line(s); i < s->logged; i++)
        buf_printf(&text, "%s - %s", s->log[i % ARRAY_LEN(s->log)].t, s->log[i % ARRAY_LEN(s->log)].m);
    json_put_str(&b, buf_str(&text));
    buf_free(&text);
    reply_json(r, 200, &b);
}

void get_internal_logs_raw(struct sim_server *s, struct http_req *r, const char *rest)
{
    struct buf b = BUF_INIT;

    (void)rest;
    buf_puts(&b, "{\"entries\": [");
    for (size_t i = first_line(s); i < s->logged; i++) {
        if (i > first_line(s))
            buf_puts(&b, ", ");
        put_entry(&b, &s->log[i % ARRAY_LEN(s->log)]);
    }
    buf_puts(&b, "], \"size\": {\"cols\": 80, \"rows\": 24}}");
    reply_json(r, 200, &b);
}

static void subscribe(struct sim_server *s, struct http_req *r, struct json body)
{
    struct json enabled = json_get(body, "enabled");
    char *id = json_strdup(json_get(body, "clientId"));
    size_t i = id ? subscriber(s, id) : 0;

    if (!json_get(body, "clientId").p || !enabled.p) {
        free(id);
        reply_500(r);
        return;
    }
    if (id && json_truthy(enabled) && i == s->n_subscribers && hub_has(s->hub, id)) {
        s->subscribers = xrealloc(s->subscribers, (i + 1) * sizeof(char *));
        s->subscribers[s->n_subscribers++] = id;
        id = NULL;
    } else if (id && !json_truthy(enabled) && i < s->n_subscribers) {
        unsubscribe(s, i);
    }
    free(id);
    reply_empty(r, 200);
}

void patch_logs(struct sim_server *s, struct http_req *r, const char *rest)
{
    (void)rest;
    read_json(s, r, subscribe, false);
}
