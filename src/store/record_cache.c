#include "store/record_cache.h"

#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/list.h"
#include "base/mem.h"

#define VIEWS 4 /* a job's records with different parts */
#define LARGE(max) ((max) / 16)

/* One job. */
struct entry {
    char *id;
    struct view {
        uint32_t parts;
        size_t bytes;
        struct job_record *rec;
    } v[VIEWS];
    size_t n;
    struct list lru; /* the first was asked for longest ago */
    UT_hash_handle hh;
};

struct record_cache {
    struct entry *entries;
    struct list lru;
    size_t bytes, max;
    uint64_t changes;
};

struct record_cache *record_cache_new(size_t bytes)
{
    struct record_cache *c = xcalloc(1, sizeof(*c));

    list_init(&c->lru);
    c->max = bytes;
    return c;
}

static void drop_view(struct record_cache *c, struct entry *e, size_t i)
{
    c->bytes -= e->v[i].bytes;
    job_record_free(&e->v[i].rec);
    e->n--;
    memmove(&e->v[i], &e->v[i + 1], (e->n - i) * sizeof(e->v[0]));
}

static void drop(struct record_cache *c, struct entry *e)
{
    while (e->n)
        drop_view(c, e, e->n - 1);
    HASH_DEL(c->entries, e);
    list_remove(&e->lru);
    free(e->id);
    free(e);
}

static void drop_all(struct record_cache *c)
{
    while (!list_empty(&c->lru))
        drop(c, list_first(&c->lru, struct entry, lru));
}

void record_cache_free(struct record_cache **cp)
{
    if (*cp)
        drop_all(*cp);
    free(*cp);
    *cp = NULL;
}

size_t record_cache_bytes(const struct record_cache *c)
{
    return c->bytes;
}

static struct entry *find(struct record_cache *c, const char *id)
{
    struct entry *e;

    HASH_FIND_STR(c->entries, id, e);
    return e;
}

struct job_record *record_cache_get(struct record_cache *c, const char *id, uint32_t parts)
{
    struct entry *e = find(c, id);

    for (size_t i = 0; e && i < e->n; i++) {
        if (e->v[i].parts != parts)
            continue;
        list_remove(&e->lru);
        list_push_back(&c->lru, &e->lru);
        return job_record_ref(e->v[i].rec);
    }
    return NULL;
}

uint64_t record_cache_now(const struct record_cache *c)
{
    return c->changes;
}

void record_cache_put(struct record_cache *c, const char *id, uint32_t parts, struct job_record *rec,
                      uint64_t asked)
{
    size_t bytes = sizeof(struct entry) + job_record_bytes(rec);
    struct entry *e = find(c, id);

    if (asked != c->changes || (parts & JOB_PART_SECRETS) || bytes > LARGE(c->max))
        return;
    for (size_t i = 0; e && i < e->n; i++)
        if (e->v[i].parts == parts)
            return; /* two asked at once */
    if (e == NULL) {
        e = xcalloc(1, sizeof(*e));
        e->id = xstrdup(id);
        list_push_back(&c->lru, &e->lru);
        HASH_ADD_KEYPTR(hh, c->entries, e->id, strlen(e->id), e);
    }
    if (e->n == VIEWS)
        drop_view(c, e, 0);
    e->v[e->n++] = (struct view){parts, bytes, job_record_ref(rec)};
    c->bytes += bytes;
    while (c->bytes > c->max)
        drop(c, list_first(&c->lru, struct entry, lru));
}

void record_cache_changed(struct record_cache *c, const char *id)
{
    struct entry *e = id ? find(c, id) : NULL;

    c->changes++;
    if (id == NULL)
        drop_all(c);
    else if (e)
        drop(c, e);
}
