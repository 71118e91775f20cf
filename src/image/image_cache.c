#include "image/image_cache.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/mem.h"

#define ENTRIES_MAX 16384

struct entry {
    struct image_key key;
    enum image_status st;
    char *why;
    int64_t size, used, until;
    uint64_t file;
    UT_hash_handle hh;
};

struct image_cache {
    char *dir;
    int64_t bytes_max, bytes;
    uint64_t files;        /* names are numbers: nothing of a request is in a path */
    struct entry *entries; /* the table keeps the order in which they came: the most recently used last */
};

static char *path_of(const struct image_cache *c, uint64_t file)
{
    return xasprintf("%s/%llu", c->dir, (unsigned long long)file);
}

static int empty_folder(const char *dir, struct err *e)
{
    DIR *d;
    struct dirent *f;

    if (mkdir(dir, 0700) < 0 && errno != EEXIST)
        return err_errno(e, errno, "cannot make the folder %s", dir);
    d = opendir(dir);
    if (d == NULL)
        return err_errno(e, errno, "cannot read the folder %s", dir);
    while ((f = readdir(d)) != NULL)
        if (f->d_name[0] != '.' && unlinkat(dirfd(d), f->d_name, 0) < 0) {
            err_errno(e, errno, "cannot remove %s/%s", dir, f->d_name);
            closedir(d);
            return -1;
        }
    closedir(d);
    return 0;
}

struct image_cache *image_cache_new(const char *dir, int64_t bytes_max, struct err *e)
{
    struct image_cache *c;

    if (empty_folder(dir, e) < 0)
        return NULL;
    c = xcalloc(1, sizeof(*c));
    c->dir = xstrdup(dir);
    c->bytes_max = bytes_max;
    return c;
}

static void drop(struct image_cache *c, struct entry *en)
{
    if (en->st == IMAGE_OK) {
        char *path = path_of(c, en->file);

        unlink(path);
        free(path);
        c->bytes -= en->size;
    }
    HASH_DEL(c->entries, en); /* NOLINT(clang-analyzer-*): it loses its way in the table's macros */
    free(en->why);
    free(en);
}

void image_cache_free(struct image_cache **cp)
{
    struct image_cache *c = *cp;
    struct entry *en, *next;

    if (c == NULL)
        return;
    *cp = NULL;
    HASH_ITER(hh, c->entries, en, next)
        drop(c, en);
    free(c->dir);
    free(c);
}

static struct entry *find(struct image_cache *c, const struct image_key *k)
{
    struct entry *en;

    HASH_FIND(hh, c->entries, k, sizeof(*k), en);
    return en;
}

enum image_hit image_cache_find(struct image_cache *c, const struct image_key *k, int64_t now, int *fd,
                                int64_t *size, enum image_status *st, const char **why)
{
    struct entry *en = find(c, k);
    struct stat s;
    char *path;

    if (en == NULL)
        return IMAGE_MISS;
    if (en->st != IMAGE_OK && now < en->until) {
        *st = en->st;
        *why = en->why;
    } else if (en->st == IMAGE_OK) {
        path = path_of(c, en->file);
        *fd = open(path, O_RDONLY | O_CLOEXEC);
        free(path);
        if (*fd < 0 || fstat(*fd, &s) < 0 || s.st_size != en->size) { /* somebody has tidied up */
            if (*fd >= 0)
                close(*fd);
            drop(c, en);
            return IMAGE_MISS;
        }
        *size = en->size;
    } else {
        drop(c, en);
        return IMAGE_MISS;
    }
    en->used = now;
    HASH_DEL(c->entries, en);
    HASH_ADD(hh, c->entries, key, sizeof(en->key), en);
    return en->st == IMAGE_OK ? IMAGE_HIT : IMAGE_HIT_FAILED;
}

int image_cache_begin(struct image_cache *c, char **name, struct err *e)
{
    int fd;

    *name = path_of(c, ++c->files);
    fd = open(*name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) {
        err_errno(e, errno, "cannot make a file in %s", c->dir);
        free(*name);
        *name = NULL;
    }
    return fd;
}

void image_cache_abort(struct image_cache *c, const char *name)
{
    (void)c;
    unlink(name);
}

static struct entry *add(struct image_cache *c, const struct image_key *k, int64_t now)
{
    struct entry *en = find(c, k);

    if (en)
        drop(c, en);
    en = xcalloc(1, sizeof(*en));
    en->key = *k;
    en->used = now;
    HASH_ADD(hh, c->entries, key, sizeof(en->key), en);
    return en;
}

static void make_room(struct image_cache *c, const struct entry *keep)
{
    struct entry *en, *next;

    HASH_ITER(hh, c->entries, en, next) {
        if (en == keep || (c->bytes <= c->bytes_max && HASH_COUNT(c->entries) <= ENTRIES_MAX))
            break;
        drop(c, en);
    }
}

int image_cache_put(struct image_cache *c, const struct image_key *k, const char *name, int64_t size,
                    int64_t now)
{
    const char *slash = strrchr(name, '/');
    struct entry *en;
    struct stat s;

    if (stat(name, &s) < 0 || s.st_size != size || size <= 0)
        return -1;
    en = add(c, k, now);
    en->file = strtoull(slash + 1, NULL, 10);
    en->size = size;
    c->bytes += size;
    make_room(c, en);
    return 0;
}

void image_cache_put_failure(struct image_cache *c, const struct image_key *k, enum image_status st,
                             const char *why, int64_t now, int64_t until)
{
    struct entry *en = add(c, k, now);

    en->st = st;
    en->why = xstrdup(why);
    en->until = until;
    make_room(c, en);
}

void image_cache_drop_before(struct image_cache *c, int64_t mono_ms)
{
    struct entry *en, *next;

    HASH_ITER(hh, c->entries, en, next)
        if (en->used < mono_ms)
            drop(c, en);
}

void image_cache_counts(const struct image_cache *c, unsigned *entries, int64_t *bytes)
{
    *entries = HASH_COUNT(c->entries);
    *bytes = c->bytes;
}
