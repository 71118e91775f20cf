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
