#include "vfs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/list.h"

#define FD_FIRST (1 << 20) /* no number that the system gives */
#define FD_MAX 512
#define PATH_SIZE 128

struct inode {
    unsigned refs;
    struct buf now, safe;
    bool synced;
};

struct folder {
    char path[PATH_SIZE];
    struct list names;
    UT_hash_handle hh;
};

/* A name that a folder has, had, or would have after a power cut. */
struct name {
    char path[PATH_SIZE]; /* whole */
    struct list link;     /* folder.names */
    struct inode *now, *safe;
    UT_hash_handle hh;
};

struct open_file {
    bool used;
    struct folder *folder; /* or */
    struct inode *file;
    size_t at;
};

/* A folder being read: what it held when that began. */
struct listing {
    struct dirent ent;
    char **v;
    size_t n, at;
};

static struct {
    struct folder *folders;
    struct name *names;
    struct open_file fds[FD_MAX];
    bool dead;
    int full;
} fs;

static int fail(int code)
{
    errno = code;
    return -1;
}

/* --- inodes and names --- */

static struct inode *inode_ref(struct inode *i)
{
    if (i)
        i->refs++;
    return i;
}

static void inode_unref(struct inode *i)
{
    if (i == NULL || --i->refs)
        return;
    buf_free(&i->now);
    buf_free(&i->safe);
    free(i);
}

static void set(struct inode **at, struct inode *to)
{
    struct inode *old = *at;

    *at = inode_ref(to);
    inode_unref(old);
}

static struct folder *folder_find(const char *path)
{
    struct folder *d;

    HASH_FIND_STR(fs.folders, path, d);
    return d;
}

static struct name *name_find(const char *path)
{
    struct name *n;

    HASH_FIND_STR(fs.names, path, n);
    return n;
}

static struct folder *folder_of(const char *path)
{
    char parent[PATH_SIZE];
    char *slash;

    snprintf(parent, sizeof(parent), "%s", path);
    slash = strrchr(parent, '/');
    if (slash == NULL || slash == parent)
        return NULL;
    *slash = '\0';
    return folder_find(parent);
}

/* Made if the folder is there. */
static struct name *name_get(const char *path)
{
    struct name *n = name_find(path);
    struct folder *d;

    if (n || (d = folder_of(path)) == NULL)
        return n;
    n = xcalloc(1, sizeof(*n));
    snprintf(n->path, sizeof(n->path), "%s", path);
    HASH_ADD_STR(fs.names, path, n);
    list_push_back(&d->names, &n->link);
    return n;
}

static void name_tidy(struct name *n)
{
    if (n->now || n->safe)
        return;
    list_remove(&n->link);
    HASH_DEL(fs.names, n);
    free(n);
}

static void name_set(struct name *n, struct inode *to)
{
    set(&n->now, to);
    name_tidy(n);
}

/* --- descriptors --- */

static struct open_file *file_of(int fd)
{
    if (fd < FD_FIRST || fd >= FD_FIRST + FD_MAX || !fs.fds[fd - FD_FIRST].used)
        return NULL;
    return &fs.fds[fd - FD_FIRST];
}

static int fd_new(struct folder *d, struct inode *i)
{
    for (int k = 0; k < FD_MAX; k++) {
        if (fs.fds[k].used)
            continue;
        fs.fds[k] = (struct open_file){.used = true, .folder = d, .file = inode_ref(i)};
        return FD_FIRST + k;
    }
    return fail(EMFILE);
}

static bool path_at(int at, const char *path, char out[PATH_SIZE])
{
    struct open_file *f = file_of(at);

    if (f == NULL || f->folder == NULL) {
        errno = EBADF;
        return false;
    }
    if (snprintf(out, PATH_SIZE, "%s/%s", f->folder->path, path) < PATH_SIZE)
        return true;
    errno = ENAMETOOLONG;
    return false;
}

static int open_path(const char *path, int flags)
{
    struct folder *d = folder_find(path);
    struct name *n;
    struct inode *i;

    if (d)
        return fd_new(d, NULL);
    n = name_find(path);
    if (!(flags & O_CREAT))
        return n && n->now ? fd_new(NULL, n->now) : fail(ENOENT);
    if (n && n->now)
        return fail(EEXIST);
    if (fs.dead)
        return fail(EIO);
    if (vt_chance(fs.full))
        return fail(ENOSPC);
    if ((n = name_get(path)) == NULL)
        return fail(ENOENT);
    i = xcalloc(1, sizeof(*i));
    name_set(n, i);
    return fd_new(NULL, i);
}

int vfs_open(const char *path, int flags, ...)
{
    return open_path(path, flags);
}

int vfs_openat(int at, const char *path, int flags, ...)
{
    char whole[PATH_SIZE];

    return path_at(at, path, whole) ? open_path(whole, flags) : -1;
}

int vfs_close(int fd)
{
    struct open_file *f = file_of(fd);

    if (f == NULL)
        return fail(EBADF);
    inode_unref(f->file);
    *f = (struct open_file){0};
    return 0;
}

void vfs_close_all(void)
{
    for (int k = 0; k < FD_MAX; k++)
        if (fs.fds[k].used)
            vfs_close(FD_FIRST + k);
}

int vfs_count(const char *under)
{
    struct name *n, *tmp;
    int count = 0;

    HASH_ITER(hh, fs.names, n, tmp)
        count += n->now && strncmp(n->path, under, strlen(under)) == 0;
    return count;
}

int vfs_open_count(void)
{
    int n = 0;

    for (int k = 0; k < FD_MAX; k++)
        n += fs.fds[k].used && fs.fds[k].folder == NULL;
    return n;
}

/* --- what changes --- */

static void folder_make(const char *path)
{
    struct folder *d = xcalloc(1, sizeof(*d));

    snprintf(d->path, sizeof(d->path), "%s", path);
    list_init(&d->names);
    HASH_ADD_STR(fs.folders, path, d);
}

int vfs_mkdirat(int at, const char *path, mode_t mode)
{
    char whole[PATH_SIZE];

    (void)mode;
    if (!path_at(at, path, whole))
        return -1;
    if (folder_find(whole))
        return fail(EEXIST);
    if (fs.dead)
        return fail(EIO);
    folder_make(whole);
    return 0;
}

int vfs_renameat(int from_at, const char *from, int to_at, const char *to)
{
    char old[PATH_SIZE], new[PATH_SIZE];
    struct name *a, *b;
    struct inode *i;

    if (!path_at(from_at, from, old) || !path_at(to_at, to, new))
        return -1;
    if (fs.dead)
        return fail(EIO);
    a = name_find(old);
    b = a && a->now ? name_get(new) : NULL;
    if (b == NULL)
        return fail(ENOENT);
    i = inode_ref(a->now);
    name_set(a, NULL);
    name_set(b, i);
    inode_unref(i);
    return 0;
}

int vfs_unlinkat(int at, const char *path, int flags)
{
    char whole[PATH_SIZE];
    struct name *n;

    (void)flags;
    if (!path_at(at, path, whole))
        return -1;
    if (fs.dead)
        return fail(EIO);
    n = name_find(whole);
    if (n == NULL || n->now == NULL)
        return fail(ENOENT);
    name_set(n, NULL);
    return 0;
}

int vfs_fsync(int fd)
{
    struct open_file *f = file_of(fd);

    if (f == NULL)
        return fail(EBADF);
    if (fs.dead)
        return fail(EIO);
    if (f->file) {
        buf_clear(&f->file->safe);
        buf_put(&f->file->safe, buf_str(&f->file->now), f->file->now.len);
        f->file->synced = true;
        return 0;
    }
    list_for_each_safe(it, &f->folder->names) {
        struct name *n = list_entry(it, struct name, link);

        set(&n->safe, n->now);
        name_tidy(n);
    }
    return 0;
}

ssize_t vfs_write(int fd, const void *data, size_t n)
{
    struct open_file *f = file_of(fd);

    if (f == NULL || f->file == NULL)
        return fail(EBADF);
    if (fs.dead)
        return fail(EIO);
    if (vt_chance(fs.full))
        return fail(ENOSPC);
    if (n > 1 && vt_rnd(8) == 0)
        n = 1 + vt_rnd((uint32_t)n - 1); /* a short write */
    buf_put(&f->file->now, data, n);
    f->file->synced = false;
    return (ssize_t)n;
}

/* --- what looks --- */

ssize_t vfs_pread(int fd, void *data, size_t n, off_t at)
{
    struct open_file *f = file_of(fd);
    size_t from = (size_t)at;

    if (f == NULL || f->file == NULL)
        return fail(EBADF);
    if (from > f->file->now.len)
        return 0;
    if (n > f->file->now.len - from)
        n = f->file->now.len - from;
    if (n)
        memcpy(data, f->file->now.data + from, n);
    return (ssize_t)n;
}

ssize_t vfs_read(int fd, void *data, size_t n)
{
    struct open_file *f = file_of(fd);
    ssize_t got = f ? vfs_pread(fd, data, n, (off_t)f->at) : fail(EBADF);

    if (got > 0)
        f->at += (size_t)got;
    return got;
}

bool vfs_slurp(int fd, struct buf *out)
{
    struct open_file *f = file_of(fd);

    if (f == NULL || f->file == NULL)
        return false;
    buf_put(out, buf_str(&f->file->now), f->file->now.len);
    return true;
}

static int fill_stat(const struct folder *d, const struct inode *i, struct stat *st)
{
    *st = (struct stat){.st_mode = d ? S_IFDIR : S_IFREG, .st_size = i ? (off_t)i->now.len : 0};
    return 0;
}

int vfs_fstat(int fd, struct stat *st)
{
    struct open_file *f = file_of(fd);

    return f ? fill_stat(f->folder, f->file, st) : fail(EBADF);
}

int vfs_fstatat(int at, const char *path, struct stat *st, int flags)
{
    char whole[PATH_SIZE];
    struct name *n;

    (void)flags;
    if (!path_at(at, path, whole))
        return -1;
    n = name_find(whole);
    return n && n->now ? fill_stat(NULL, n->now, st) : fail(ENOENT);
}

DIR *vfs_fdopendir(int fd)
{
    struct open_file *f = file_of(fd);
    struct listing *l;

    if (f == NULL || f->folder == NULL) {
        errno = EBADF;
        return NULL;
    }
    l = xcalloc(1, sizeof(*l));
    l->v = xcalloc(list_len(&f->folder->names) + 1, sizeof(char *));
    list_for_each(it, &f->folder->names) {
        struct name *n = list_entry(it, struct name, link);

        if (n->now)
            l->v[l->n++] = xstrdup(strrchr(n->path, '/') + 1);
    }
    vfs_close(fd);
    return (DIR *)(void *)l;
}

struct dirent *vfs_readdir(DIR *d)
{
    struct listing *l = (struct listing *)(void *)d;

    if (l->at == l->n)
        return NULL;
    snprintf(l->ent.d_name, sizeof(l->ent.d_name), "%s", l->v[l->at++]);
    return &l->ent;
}

int vfs_closedir(DIR *d)
{
    struct listing *l = (struct listing *)(void *)d;

    for (size_t i = 0; i < l->n; i++)
        free(l->v[i]);
    free(l->v);
    free(l);
    return 0;
}

/* --- life --- */

/* What was not synced: cut somewhere, or zeros where the bytes should be, or there after all. */
static void lose_bytes(struct inode *i)
{
    uint32_t how = vt_rnd(3);

    if (i->synced || i->now.len == 0)
        return;
    if (how == 0)
        i->now.len = vt_rnd((uint32_t)i->now.len);
    else if (how == 1)
        memset(i->now.data, 0, i->now.len);
    i->synced = true;
}

void vfs_power_cut(void)
{
    struct name *n, *tmp;

    vfs_close_all();
    HASH_ITER(hh, fs.names, n, tmp) {
        if (n->now != n->safe && vt_rnd(2))
            set(&n->now, n->safe);
        if (n->now)
            lose_bytes(n->now);
        set(&n->safe, n->now);
        name_tidy(n);
    }
}

void vfs_set_dead(bool dead)
{
    fs.dead = dead;
}

void vfs_set_full(int per_mille)
{
    fs.full = per_mille;
}

void vfs_init(void)
{
    memset(&fs, 0, sizeof(fs));
    folder_make("/data");
}

void vfs_fini(void)
{
    struct folder *d, *tmp_d;
    struct name *n, *tmp_n;

    vfs_close_all();
    HASH_ITER(hh, fs.names, n, tmp_n) {
        set(&n->now, NULL);
        set(&n->safe, NULL);
        name_tidy(n);
    }
    HASH_ITER(hh, fs.folders, d, tmp_d) {
        HASH_DEL(fs.folders, d);
        free(d);
    }
}
