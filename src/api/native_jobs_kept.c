/* What the jobs API keeps: the pieces of ended jobs, which never change, and whole answers, until a job changes. Both are
 * bounded; what is not there is read again. */
#include <blake3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/native_jobs_priv.h"
#include "base/hash.h"
#include "base/list.h"
#include "comfy/job_card.h"

#define CARDS_BYTES (8u << 20)
#define UNSEEN_MAX 200 /* jobs that end while nobody looks at a list, of which a piece is made all the same */
#define BODIES 8
#define BODY_MAX (4u << 20)

struct card {
    UT_hash_handle hh;
    struct list used; /* the one looked at last comes last */
    size_t size;
    char id[UUID_SIZE];
    char text[];
};

struct body {
    char *key;
    struct bytes *text;
    char etag[JOBS_ETAG];
    uint64_t generation;
    int64_t finished;
};

struct native_jobs {
    uint64_t generation;
    struct card *cards;
    struct list used;
    size_t bytes;
    unsigned unseen; /* ends since a list was looked at; UNSEEN_MAX: nobody looks */
    struct body bodies[BODIES];
    unsigned next;
    struct shared *asked;
};

struct native_jobs *native_jobs_new(void)
{
    struct native_jobs *j = xcalloc(1, sizeof(*j));

    list_init(&j->used);
    j->unseen = UNSEEN_MAX;
    return j;
}

static void card_drop(struct native_jobs *j, struct card *c)
{
    HASH_DEL(j->cards, c);
    list_remove(&c->used);
    j->bytes -= c->size;
    free(c);
}

static void body_drop(struct body *b)
{
    free(b->key);
    bytes_unref(b->text);
    *b = (struct body){0};
}

void native_jobs_free(struct native_jobs **jp)
{
    struct native_jobs *j = *jp;

    if (j == NULL)
        return;
    while (!list_empty(&j->used))
        card_drop(j, list_first(&j->used, struct card, used));
    for (size_t i = 0; i < BODIES; i++)
        body_drop(&j->bodies[i]);
    free(j);
    *jp = NULL;
}

void native_jobs_changed(struct native_jobs *j)
{
    j->generation++;
}

uint64_t jobs_generation(const struct native_jobs *j)
{
    return j->generation;
}

struct shared **jobs_asked(struct native_jobs *j)
{
    return &j->asked;
}

/* --- cards --- */

static struct card *card_find(struct native_jobs *j, const char *id)
{
    struct card *c;

    HASH_FIND_STR(j->cards, id, c);
    return c;
}

const char *jobs_card(struct native_jobs *j, const char *id)
{
    struct card *c = card_find(j, id);

    j->unseen = 0;
    if (c == NULL)
        return NULL;
    list_remove(&c->used);
    list_push_back(&j->used, &c->used);
    return c->text;
}

const char *jobs_card_put(struct native_jobs *j, const char *id, struct bytes *history)
{
    struct card *c = card_find(j, id);
    struct buf b = BUF_INIT;
    struct json whole = {0};

    if (c)
        card_drop(j, c);
    if (history == NULL || json_check(history->data, history->len, NULL, &whole, NULL) < 0)
        whole = (struct json){0};
    job_card_put(&b, json_get(whole, "outputs"), json_get(whole, "status"));
    c = xcalloc(1, sizeof(*c) + b.len + 1);
    memcpy(c->text, buf_str(&b), b.len);
    memcpy(c->id, id, strlen(id) + 1);
    c->size = sizeof(*c) + b.len + 1;
    HASH_ADD_STR(j->cards, id, c);
    list_push_back(&j->used, &c->used);
    j->bytes += c->size;
    while (j->bytes > CARDS_BYTES && list_first(&j->used, struct card, used) != c)
        card_drop(j, list_first(&j->used, struct card, used));
    buf_free(&b);
    return c->text;
}

void native_jobs_ended(struct native_jobs *j, const char *id, struct bytes *history)
{
    if (j->unseen == UNSEEN_MAX)
        return; /* read from the store should somebody ask */
    j->unseen++;
    jobs_card_put(j, id, history);
}

/* --- whole answers --- */

static bool is_true(const struct native_jobs *j, const struct body *b, int64_t finished)
{
    return b->key && b->generation == j->generation && b->finished == finished;
}

struct bytes *jobs_body(struct native_jobs *j, const char *key, int64_t finished, const char **etag)
{
    for (size_t i = 0; i < BODIES; i++) {
        struct body *b = &j->bodies[i];

        if (is_true(j, b, finished) && strcmp(b->key, key) == 0) {
            *etag = b->etag;
            return b->text;
        }
    }
    return NULL;
}

void jobs_body_put(struct native_jobs *j, const char *key, int64_t finished, uint64_t generation,
                   struct bytes *body, char etag[JOBS_ETAG])
{
    uint8_t hash[BLAKE3_LEN];
    char hex[BLAKE3_HEX];
    blake3_hasher h;
    struct body *to;

    blake3_hasher_init(&h);
    blake3_hasher_update(&h, body->data, body->len);
    blake3_hasher_finalize(&h, hash, BLAKE3_LEN);
    blake3_hex(hash, hex);
    snprintf(etag, JOBS_ETAG, "\"%.32s\"", hex);
    if (generation != j->generation || body->len > BODY_MAX)
        return;
    for (size_t i = 0; i < BODIES; i++)
        if (!is_true(j, &j->bodies[i], finished))
            body_drop(&j->bodies[i]);
    to = &j->bodies[j->next++ % BODIES];
    body_drop(to);
    *to = (struct body){
        .key = xstrdup(key), .text = bytes_ref(body), .generation = generation, .finished = finished};
    memcpy(to->etag, etag, JOBS_ETAG);
}
