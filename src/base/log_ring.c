#include "base/log_ring.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "base/uuid.h"

/* One after the other, each at a multiple of its alignment; one that does not fit before the end begins at 0, and what is left
 * there is bytes that nobody reads (end). */
struct entry {
    int64_t at;
    uint32_t size; /* of the whole entry */
    uint16_t n;    /* bytes of text */
    uint8_t level;
    char job[UUID_SIZE];
    char text[];
};

struct log_ring {
    size_t cap;
    size_t first, used; /* the oldest entry, and bytes from there, past the end and on from 0 */
    size_t end;         /* where entries end before the ring goes on at 0; cap: not known yet */
    int64_t since;
    _Alignas(struct entry) char data[];
};

static size_t entry_size(size_t n)
{
    size_t a = _Alignof(struct entry);

    return (offsetof(struct entry, text) + n + a - 1) / a * a;
}

struct log_ring *log_ring_new(size_t bytes, int64_t since)
{
    size_t least = 2 * entry_size(LOG_RING_LINE);
    struct log_ring *r;

    bytes = bytes / _Alignof(struct entry) * _Alignof(struct entry);
    if (bytes < least)
        bytes = least;
    r = xmalloc(sizeof(*r) + bytes);
    *r = (struct log_ring){.cap = bytes, .end = bytes, .since = since};
    return r;
}

void log_ring_free(struct log_ring **r)
{
    free(*r);
    *r = NULL;
}

static const struct entry *entry_at(const struct log_ring *r, size_t at)
{
    return (const struct entry *)(const void *)(r->data + at);
}

/* The oldest goes. From its time on the ring has gaps: a line of the same moment may have been there too. */
static void drop(struct log_ring *r)
{
    const struct entry *e = entry_at(r, r->first);

    if (e->at + 1 > r->since)
        r->since = e->at + 1;
    r->first += e->size;
    r->used -= e->size;
    if (r->first == r->end) {
        r->used -= r->cap - r->end;
        r->end = r->cap;
        r->first = 0;
    }
}

/* Where the next entry of this size goes, after the oldest have made room for it. */
static size_t make_room(struct log_ring *r, size_t size)
{
    size_t at = (r->first + r->used) % r->cap, gap = at + size > r->cap ? r->cap - at : 0;

    while (r->used && r->cap - r->used < gap + size)
        drop(r);
    if (r->used == 0) {
        r->first = 0;
        return 0;
    }
    if (gap) {
        r->end = at;
        r->used += gap;
        at = 0;
    }
    return at;
}

/* At most max bytes, and no half character. */
static size_t cut(const char *s, size_t n, size_t max)
{
    uint32_t cp;
    size_t at = max;

    if (n <= max)
        return n;
    while (at > max - 4 && ((unsigned char)s[at] & 0xc0) == 0x80)
        at--;
    return utf8_decode(s + at, n - at, &cp) ? at : max;
}

void log_ring_put(struct log_ring *r, const char *job, const struct log_kept *line)
{
    size_t n = cut(line->text, line->n, LOG_RING_LINE), size = entry_size(n), at;
    struct entry *e;

    if (strlen(job) >= UUID_SIZE)
        return;
    at = make_room(r, size);
    e = (struct entry *)(void *)(r->data + at);
    *e = (struct entry){
        .at = line->at, .size = (uint32_t)size, .n = (uint16_t)n, .level = (uint8_t)line->level};
    memcpy(e->job, job, strlen(job) + 1);
    memcpy(e->text, line->text, n);
    r->used += size;
}

int64_t log_ring_each(const struct log_ring *r, const char *job, log_kept_cb *cb, void *arg)
{
    size_t at = r->first;

    for (size_t left = r->used; left;) {
        const struct entry *e = entry_at(r, at);
        struct log_kept line = {e->at, (enum log_level)e->level, e->text, e->n};

        if (strcmp(e->job, job) == 0)
            cb(arg, &line);
        at += e->size;
        left -= e->size;
        if (at == r->end && left) {
            left -= r->cap - r->end;
            at = 0;
        }
    }
    return r->since;
}
