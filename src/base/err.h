/* An error with its cause, written once where the cause is known; callers add context in front.
 *
 * Functions that can fail for reasons outside this program return 0 or -1 and fill a caller-owned struct err.
 * A NULL err is allowed everywhere: the message is dropped. Programming errors are assert()s, never errs. */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#include <stdarg.h>

#define ERR_MSG_MAX 512

struct err {
    int code;              /* an errno value, or 0 when none fits */
    char msg[ERR_MSG_MAX]; /* one line, no trailing newline, NUL-terminated, truncated with "..." */
};

#define MUST_CHECK __attribute__((warn_unused_result))
#define PRINTF_LIKE(f, a) __attribute__((format(printf, f, a)))

/* Fill e and return -1, so that `return err_set(e, ...)` reads well. */
int err_set(struct err *e, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* As err_set with ": <strerror(code)>" appended. */
int err_errno(struct err *e, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* Put "<context>: " in front of the message that is there. Returns -1. */
int err_wrap(struct err *e, const char *fmt, ...) PRINTF_LIKE(2, 3);

#endif
