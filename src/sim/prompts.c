#include "sim/prompts.h"

#include <stdlib.h>
#include <string.h>

struct history {
    char *id;
    struct bytes *entry;
    UT_hash_handle hh;
};

static void history_drop(struct prompts *q, struct history *h)
{
    HASH_DEL(q->history, h);
    bytes_unref(h->entry);
    free(h->id);
    free(h);
}

void prompt_free(struct prompt *p)
{
    if (!p)
        return;
    free(p->id);
    val_free(p->graph);
    val_free(p->extra);
    val_free(p->outputs);
    free(p);
}

void prompt_put_number(struct buf *b, const struct prompt *p)
{
    if (p->whole)
        buf_put_int(b, (int64_t)p->number);
    else
        json_put_double(b, p->number);
}

void prompts_init(struct prompts *q, void (*changed)(void *arg), void *arg)
{
    *q = (struct prompts){.changed = changed, .arg = arg};
}

void prompts_fini(struct prompts *q)
{
    for (size_t i = 0; i < q->n; i++)
        prompt_free(q->heap[i]);
    free(q->heap);
    prompt_free(q->running);
    history_clear(q);
    *q = (struct prompts){0};
}

size_t prompts_remaining(const struct prompts *q)
{
    return q->n + (q->running != NULL);
}

/* Python's tuple order: the first differing member decides; NaN differs from everything and is less than
 * nothing. */
static bool before(const struct prompt *a, const struct prompt *b)
{
    if (a->number != b->number)
        return a->number < b->number;
    return strcmp(a->id, b->id) < 0;
}

/* heapq's two moves, so that GET /queue shows the same array. */
static void sift_down(struct prompts *q, size_t start, size_t pos)
{
    struct prompt *item = q->heap[pos];

    while (pos > start) {
        size_t parent = (pos - 1) >> 1;

        if (!before(item, q->heap[parent]))
            break;
        q->heap[pos] = q->heap[parent];
        pos = parent;
    }
    q->heap[pos] = item;
}

static void sift_up(struct prompts *q, size_t pos)
{
    struct prompt *item = q->heap[pos];
    size_t start = pos, child = 2 * pos + 1;

    while (child < q->n) {
        size_t right = child + 1;

        if (right < q->n && !before(q->heap[child], q->heap[right]))
            child = right;
        q->heap[pos] = q->heap[child];
        pos = child;
        child = 2 * pos + 1;
    }
    q->heap[pos] = item;
    sift_down(q, start, pos);
}

void prompts_push(struct prompts *q, struct prompt *p)
{
    if (q->n == q->cap) {
        q->cap = q->cap ? q->cap * 2 : 16;
        q->heap = xrealloc(q->heap, q->cap * sizeof(struct prompt *));
    }
    q->heap[q->n++] = p;
    sift_down(q, 0, q->n - 1);
    q->changed(q->arg);
}

struct prompt *prompts_start(struct prompts *q)
{
    struct prompt *last;

    if (q->running || q->n == 0)
        return NULL;
    last = q->heap[--q->n];
    q->running = last;
    if (q->n > 0) {
        q->running = q->heap[0];
        q->heap[0] = last;
        sift_up(q, 0);
    }
    q->changed(q->arg);
    return q->running;
}

static void put_item(struct buf *b, const struct prompt *p)
{
    buf_putc(b, '[');
    prompt_put_number(b, p);
    buf_puts(b, ", ");
    json_put_str(b, p->id);
    buf_puts(b, ", ");
    val_put(b, p->graph);
    buf_puts(b, ", ");
    val_put(b, p->extra);
    buf_puts(b, ", ");
    val_put(b, p->outputs);
    buf_putc(b, ']');
}

void prompts_done(struct prompts *q, const char *tail, size_t n)
{
    struct prompt *p = q->running;
    struct buf b = BUF_INIT;
    struct history *h;

    if (HASH_COUNT(q->history) > HISTORY_MAX)
        history_drop(q, q->history);
    buf_puts(&b, "{\"prompt\": ");
    put_item(&b, p);
    buf_puts(&b, ", ");
    buf_put(&b, tail, n);
    buf_putc(&b, '}');
    HASH_FIND_STR(q->history, p->id, h);
    if (h) { /* a repeated id takes the place of the first */
        bytes_unref(h->entry);
    } else {
        h = xcalloc(1, sizeof(*h));
        h->id = xstrdup(p->id);
        HASH_ADD_KEYPTR(hh, q->history, h->id, strlen(h->id), h);
    }
    h->entry = buf_to_bytes(&b);
    buf_free(&b);
    q->running = NULL;
    prompt_free(p);
    q->changed(q->arg);
}

void prompts_forget_running(struct prompts *q)
{
    prompt_free(q->running);
    q->running = NULL;
}

bool prompts_delete(struct prompts *q, const char *id)
{
    for (size_t i = 0; i < q->n; i++) {
        if (strcmp(q->heap[i]->id, id) != 0)
            continue;
        prompt_free(q->heap[i]);
        memmove(&q->heap[i], &q->heap[i + 1], (q->n - i - 1) * sizeof(struct prompt *));
        q->n--;
        if (q->n == 0)
            q->changed(q->arg); /* ComfyUI wipes the queue for the last one, and says so twice */
        for (size_t k = q->n / 2; k-- > 0;)
            sift_up(q, k);
        q->changed(q->arg);
        return true;
    }
    return false;
}

void prompts_clear(struct prompts *q)
{
    for (size_t i = 0; i < q->n; i++)
        prompt_free(q->heap[i]);
    q->n = 0;
    q->changed(q->arg);
}

bool prompts_is_pending_twin(const struct prompts *q, const struct prompt *p)
{
    for (size_t i = 0; i < q->n; i++)
        if (q->heap[i]->number == p->number && strcmp(q->heap[i]->id, p->id) == 0)
            return true;
    return false;
}

void prompts_put_queue(const struct prompts *q, struct buf *b)
{
    buf_puts(b, "{\"queue_running\": [");
    if (q->running)
        put_item(b, q->running);
    buf_puts(b, "], \"queue_pending\": [");
    for (size_t i = 0; i < q->n; i++) {
        if (i > 0)
            buf_puts(b, ", ");
        put_item(b, q->heap[i]);
    }
    buf_puts(b, "]}");
}

static void put_entry(struct buf *b, const struct history *h)
{
    json_put_str(b, h->id);
    buf_puts(b, ": ");
    buf_put(b, h->entry->data, h->entry->len);
}

void history_put(const struct prompts *q, struct buf *b, const long *max, long offset)
{
    long i = 0, n = HASH_COUNT(q->history), shown = 0;

    if (offset < 0 && max)
        offset = n - *max;
    buf_putc(b, '{');
    for (struct history *h = q->history; h; h = h->hh.next, i++) {
        if (i < offset)
            continue;
        if (shown++ > 0)
            buf_puts(b, ", ");
        put_entry(b, h);
        if (max && shown >= *max)
            break;
    }
    buf_putc(b, '}');
}

void history_put_one(const struct prompts *q, struct buf *b, const char *id)
{
    struct history *h;

    HASH_FIND_STR(q->history, id, h);
    buf_putc(b, '{');
    if (h)
        put_entry(b, h);
    buf_putc(b, '}');
}

void history_delete(struct prompts *q, const char *id)
{
    struct history *h;

    HASH_FIND_STR(q->history, id, h);
    if (h)
        history_drop(q, h);
}

void history_clear(struct prompts *q)
{
    struct history *h, *next;

    HASH_ITER(hh, q->history, h, next)
        history_drop(q, h);
}

size_t history_count(const struct prompts *q)
{
    return HASH_COUNT(q->history);
}
