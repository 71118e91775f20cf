/* The log: one line per event, key=value, the id first.
 *
 *     log_info(LOG_S("job", id), LOG_S("state", "running"), LOG_S("server", name), LOG_I("attempt", 1));
 *     2026-11-22T04:20:11.123Z info job=0193... state=running server=gpu1 attempt=1
 *
 * In JSON format the same fields are one object per line with "time" and "level" in front. A NULL string
 * field is left out. Values with spaces, quotes, '=' or control bytes are quoted and escaped, so a line stays
 * a line whatever a peer sent. Any thread may log; lines do not mix. */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };
enum log_format { LOG_TEXT, LOG_JSON };

struct log_field {
    const char *key;
    char kind; /* 's' text, 'i' integer, 'n' text of length num, 'm' words that stand alone ("msg" in JSON) */
    const char *text;
    int64_t num;
};

#define LOG_S(k, v) ((struct log_field){(k), 's', (v), 0})
#define LOG_M(v) ((struct log_field){"msg", 'm', (v), 0})
#define LOG_N(k, v, len) ((struct log_field){(k), 'n', (v), (int64_t)(len)})
#define LOG_I(k, v) ((struct log_field){(k), 'i', NULL, (int64_t)(v)})

/* Where finished lines go (with the newline). NULL: standard error. For tests. */
typedef void log_sink_cb(void *arg, enum log_level level, const char *line, size_t len);

void log_setup(enum log_level least, enum log_format format);
void log_set_sink(log_sink_cb *cb, void *arg);
bool log_wants(enum log_level level);
/* What was said about jobs lately: lines of which the first field is a job (LOG_S("job", id)) are kept in memory too, the latest
 * of all jobs together in at most `bytes`; 0, as at the start: none, and what was kept goes. */
void log_keep(size_t bytes);
struct log_kept {
    int64_t at; /* wall ms */
    enum log_level level;
    const char
        *text; /* without time, level and job: "state=running server=gpu1"; whatever bytes a peer sent */
    size_t n;
};
/* Must not log. */
typedef void log_kept_cb(void *arg, const struct log_kept *line);
/* The lines about this job, oldest first. Returns the wall ms from which on nothing that was logged about any job is missing;
 * INT64_MAX while none are kept. */
int64_t log_kept(const char *job, log_kept_cb *cb, void *arg);
const char *log_level_name(enum log_level level);
/* "debug" "info" "warn" "error"; -1 for anything else. */
int log_level_parse(const char *s);
void log_write(enum log_level level, const struct log_field *f, size_t n);

#define LOG_AT(level, ...)                                                                                   \
    do {                                                                                                     \
        if (log_wants(level)) {                                                                              \
            const struct log_field log_f_[] = {__VA_ARGS__};                                                 \
            log_write((level), log_f_, sizeof(log_f_) / sizeof(log_f_[0]));                                  \
        }                                                                                                    \
    } while (0)
#define log_debug(...) LOG_AT(LOG_DEBUG, __VA_ARGS__)
#define log_info(...) LOG_AT(LOG_INFO, __VA_ARGS__)
#define log_warn(...) LOG_AT(LOG_WARN, __VA_ARGS__)
#define log_error(...) LOG_AT(LOG_ERROR, __VA_ARGS__)

#endif
