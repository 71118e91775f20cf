/* How the native dialect shows a job: the five-element item of /queue, which is also history's "prompt". */
#include "api/native.h"

#include <math.h>
#include <string.h>

#include "comfy/graph.h"

static struct json span_of(const struct bytes *b, const char *otherwise)
{
    return b ? (struct json){b->data, b->len} : (struct json){otherwise, strlen(otherwise)};
}

/* The server's counter is an int, a client's own number a float. */
void native_put_number(struct buf *b, const struct job_summary *s)
{
    if (fabs(s->number) == (double)s->seq)
        buf_put_int(b, (int64_t)s->number);
    else
        json_put_double(b, s->number);
}

/* extra_data as it was sent, with the client's own id and, as ComfyUI 0.3.75 has it, the time in it. */
void native_put_extra_data(struct buf *b, const struct job_record *rec)
{
    struct json extra = span_of(rec->extra_data, "{}"), k, v;
    struct json_iter it = json_iter(extra);
    const char *sep = "";
    bool timed = false;

    buf_putc(b, '{');
    while (json_next(&it, &k, &v)) {
        bool time = json_str_eq(k, "create_time"); /* a client's own is replaced where it stands */

        if (time && timed)
            continue;
        timed |= time;
        buf_puts(b, sep);
        buf_put(b, k.p, k.n);
        buf_puts(b, ": ");
        if (time)
            buf_put_int(b, rec->s.created_at);
        else
            json_put(b, v);
        sep = ", ";
    }
    if (rec->s.client_id) {
        buf_printf(b, "%s\"client_id\": ", sep);
        json_put_str(b, rec->s.client_id);
        sep = ", ";
    }
    if (!timed)
        buf_printf(b, "%s\"create_time\": %lld", sep, (long long)rec->s.created_at);
    buf_putc(b, '}');
}

void native_put_item(struct buf *b, const struct job_record *rec)
{
    buf_putc(b, '[');
    native_put_number(b, &rec->s);
    buf_puts(b, ", ");
    json_put_str(b, rec->s.id);
    buf_puts(b, ", ");
    json_put(b, span_of(rec->graph, "{}"));
    buf_puts(b, ", ");
    native_put_extra_data(b, rec);
    buf_puts(b, ", ");
    json_put(b, span_of(rec->targets, "[]"));
    buf_putc(b, ']');
}

void native_put_entry(struct buf *b, const struct job_record *rec)
{
    static const char *const parts[] = {"outputs", "status", "meta"};
    struct json whole = span_of(rec->history, "{}");

    json_put_str(b, rec->s.id);
    buf_puts(b, ": {\"prompt\": ");
    native_put_item(b, rec);
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        buf_printf(b, ", \"%s\": ", parts[i]);
        json_put(b, json_get(whole, parts[i]));
    }
    buf_putc(b, '}');
}
