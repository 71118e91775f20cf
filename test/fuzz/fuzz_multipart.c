/* A form pushed whole and in pieces must give the same parts. The first line of the input is its
 * Content-Type. */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "http/multipart.h"

struct trace {
    struct buf out;
    bool in_part;
};

static int on_part(const struct multipart_part *p, void *arg, struct err *e)
{
    struct trace *t = arg;

    (void)e;
    FUZZ_CHECK(!t->in_part && p->name);
    t->in_part = true;
    buf_printf(&t->out, "(%s|%s|%s)", p->name, p->filename ? p->filename : "-", p->type ? p->type : "-");
    return 0;
}

static int on_data(const void *data, size_t n, void *arg, struct err *e)
{
    struct trace *t = arg;

    (void)e;
    FUZZ_CHECK(t->in_part && n > 0);
    buf_put(&t->out, data, n);
    return 0;
}

static int on_part_end(void *arg, struct err *e)
{
    struct trace *t = arg;

    (void)e;
    FUZZ_CHECK(t->in_part);
    t->in_part = false;
    buf_puts(&t->out, "()");
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct multipart_handlers handlers = {on_part, on_data, on_part_end};
    const uint8_t *nl = size ? memchr(data, '\n', size) : NULL;
    struct trace t[3] = {0};
    char *type;
    size_t n, steps[3];

    if (nl == NULL)
        return 0;
    type = strndup((const char *)data, (size_t)(nl - data));
    n = size - (size_t)(nl + 1 - data);
    steps[0] = n;
    steps[1] = 1;
    steps[2] = 5;
    for (int i = 0; i < 3; i++) {
        struct err e = {0};
        struct multipart *m = multipart_new(type, &handlers, &t[i], &e);
        int rc = m ? 0 : -1;

        for (size_t at = 0; rc == 0 && at < n; at += steps[i])
            rc = multipart_push(m, nl + 1 + at, n - at < steps[i] ? n - at : steps[i], &e);
        if (rc == 0)
            rc = multipart_finish(m, &e);
        FUZZ_CHECK(rc == 0 || e.msg[0]);
        FUZZ_CHECK(rc < 0 || !t[i].in_part);
        buf_puts(&t[i].out, rc < 0 ? e.msg : "ok");
        multipart_free(&m);
        FUZZ_CHECK(t[i].out.len == t[0].out.len && memcmp(t[i].out.data, t[0].out.data, t[0].out.len) == 0);
    }
    for (int i = 0; i < 3; i++)
        buf_free(&t[i].out);
    free(type);
    return 0;
}
