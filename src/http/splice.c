#include "http/splice.h"

#include <event2/buffer.h>
#include <stdlib.h>

#include "base/log.h"

enum {
    HIGH = 256 * 1024,    /* queued for one side: the other is not read any more */
    STUCK_MS = 60 * 1000, /* queued output without progress */
    HALF_MS = 300 * 1000, /* one side has ended and the other is silent */
    LINGER_MS = 2000
};

struct side {
    struct splice *sp;
    struct stream *s;
    bool ended; /* has sent its last byte */
};

struct splice {
    struct client_child child;
    struct loop *loop;
    struct side side[2];
    struct task task; /* look at what came before; in the end: free */
};

static void on_splice_free(void *arg)
{
    free(arg);
}

/* flush: what is queued may still go out. */
static void splice_end(struct splice *sp, bool flush, const char *reason)
{
    log_debug(LOG_S("splice", stream_peer(sp->side[0].s)), LOG_S("to", stream_peer(sp->side[1].s)),
              LOG_S("reason", reason));
    for (int i = 0; i < 2; i++) {
        if (flush)
            stream_close_gracefully(&sp->side[i].s, LINGER_MS);
        else
            stream_close(&sp->side[i].s);
    }
    client_detach(&sp->child);
    task_cancel(&sp->task);
    task_init(&sp->task, on_splice_free, sp);
    loop_defer(sp->loop, &sp->task);
}

static void on_client_end(struct client_child *child)
{
    splice_end(container_of(child, struct splice, child), false, "the client was closed");
}

static struct side *opposite(struct side *side)
{
    return &side->sp->side[side == &side->sp->side[0]];
}

static void side_move(struct side *from)
{
    struct side *to = opposite(from);
    struct evbuffer *in = stream_input(from->s);

    if (evbuffer_get_length(in) > 0)
        stream_write_buffer(to->s, in);
    if (stream_queued(to->s) > HIGH)
        stream_pause(from->s);
}

static void side_ended(struct side *from)
{
    struct side *to = opposite(from);

    if (from->ended)
        return;
    from->ended = true;
    side_move(from);
    stream_shutdown_write(to->s);
    if (to->ended) {
        splice_end(from->sp, true, "both sides have ended");
        return;
    }
    stream_set_timeouts(to->s, HALF_MS, STUCK_MS);
}

static void on_side(struct stream *s, enum stream_event ev, void *arg)
{
    struct side *side = arg;

    switch (ev) {
    case STREAM_OPEN: break;
    case STREAM_DATA: side_move(side); break;
    case STREAM_LOWAT: stream_resume(opposite(side)->s); break;
    case STREAM_EOF: side_ended(side); break;
    case STREAM_ERROR: splice_end(side->sp, true, stream_error(s)); break;
    case STREAM_TIMEOUT: splice_end(side->sp, false, "no progress"); break;
    }
}

/* An end that came before the two were tied: no event will tell. */
static void on_splice_begin(void *arg)
{
    struct splice *sp = arg;

    for (int i = 0; i < 2; i++) {
        if (stream_saw_eof(sp->side[i].s)) {
            bool last = sp->side[!i].ended;

            side_ended(&sp->side[i]);
            if (last)
                return;
        }
    }
}

void splice_start(struct http_client *c, struct stream *a, struct stream *b)
{
    struct splice *sp = xcalloc(1, sizeof(*sp));

    sp->loop = c->loop;
    sp->child.end = on_client_end;
    client_attach(c, &sp->child);
    sp->side[0] = (struct side){sp, a, false};
    sp->side[1] = (struct side){sp, b, false};
    for (int i = 0; i < 2; i++) {
        stream_set_cb(sp->side[i].s, on_side, &sp->side[i]);
        stream_set_timeouts(sp->side[i].s, 0, STUCK_MS);
        stream_resume(sp->side[i].s);
    }
    task_init(&sp->task, on_splice_begin, sp);
    loop_defer(sp->loop, &sp->task);
}
