#include "base/err.h"

#include <stdio.h>
#include <string.h>

static void err_truncated(struct err *e, int n)
{
    if (n >= ERR_MSG_MAX)
        memcpy(e->msg + ERR_MSG_MAX - 4, "...", 4);
}

int err_set(struct err *e, int code, const char *fmt, ...)
{
    va_list ap;

    if (e == NULL)
        return -1;
    e->code = code;
    va_start(ap, fmt);
    err_truncated(e, vsnprintf(e->msg, sizeof(e->msg), fmt, ap));
    va_end(ap);
    return -1;
}

int err_errno(struct err *e, int code, const char *fmt, ...)
{
    va_list ap;
    char text[128];
    size_t used;

    if (e == NULL)
        return -1;
    e->code = code;
    va_start(ap, fmt);
    err_truncated(e, vsnprintf(e->msg, sizeof(e->msg), fmt, ap));
    va_end(ap);
    used = strlen(e->msg);
    err_truncated(e, (int)used + snprintf(e->msg + used, sizeof(e->msg) - used, ": %s",
                                          strerror_r(code, text, sizeof(text))));
    return -1;
}

int err_wrap(struct err *e, const char *fmt, ...)
{
    va_list ap;
    char old[ERR_MSG_MAX];
    int n;

    if (e == NULL)
        return -1;
    memcpy(old, e->msg, sizeof(old));
    va_start(ap, fmt);
    n = vsnprintf(e->msg, sizeof(e->msg), fmt, ap);
    va_end(ap);
    if (n < ERR_MSG_MAX)
        n += snprintf(e->msg + n, sizeof(e->msg) - (size_t)n, ": %s", old);
    err_truncated(e, n);
    return -1;
}
