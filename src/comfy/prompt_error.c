#include "comfy/prompt_error.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void prompt_error_fini(struct prompt_error *e)
{
    free(e->message);
    free(e->details);
    free(e->extra_info);
    *e = (struct prompt_error){0};
}

int prompt_error_set(struct prompt_error *e, const char *type, const char *message, const char *details)
{
    prompt_error_fini(e);
    snprintf(e->type, sizeof(e->type), "%s", type);
    e->message = xstrdup(message);
    e->message_n = strlen(message);
    e->details = xstrdup(details);
    e->details_n = strlen(details);
    return -1;
}

static char *copy_of(const struct buf *b)
{
    char *s = xmalloc(b->len + 1);

    memcpy(s, buf_str(b), b->len);
    s[b->len] = '\0';
    return s;
}

int prompt_error_set_bufs(struct prompt_error *e, const char *type, const struct buf *message,
                          const struct buf *details)
{
    prompt_error_fini(e);
    snprintf(e->type, sizeof(e->type), "%s", type);
    e->message = copy_of(message);
    e->message_n = message->len;
    e->details = copy_of(details);
    e->details_n = details->len;
    return -1;
}

void prompt_error_put(struct buf *out, const struct prompt_error *e)
{
    struct jsonw w;

    jsonw_init(&w, out);
    jsonw_obj(&w);
    jsonw_kstr(&w, "type", e->type);
    jsonw_key(&w, "message");
    jsonw_strn(&w, e->message ? e->message : "", e->message_n);
    jsonw_key(&w, "details");
    jsonw_strn(&w, e->details ? e->details : "", e->details_n);
    jsonw_key(&w, "extra_info");
    buf_puts(out, e->extra_info ? e->extra_info : "{}");
    buf_putc(out, '}');
}

void prompt_error_put_body(struct buf *out, const struct prompt_error *e, const char *node_errors)
{
    buf_puts(out, "{\"error\": ");
    prompt_error_put(out, e);
    buf_puts(out, ", \"node_errors\": ");
    buf_puts(out, node_errors ? node_errors : "{}");
    buf_putc(out, '}');
}

void prompt_error_put_simple(struct buf *out, const char *type, const char *message, const char *details)
{
    struct prompt_error e = {0};

    prompt_error_set(&e, type, message, details);
    prompt_error_put_body(out, &e, NULL);
    prompt_error_fini(&e);
}
