#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/plant.h"
#include "blob/blob_priv.h"

static void blob_path(const uint8_t hash[BLAKE3_LEN], char out[BLOB_NAME_MAX])
{
    char hex[BLAKE3_HEX];

    blake3_hex(hash, hex);
    snprintf(out, BLOB_NAME_MAX, "%.2s/%s", hex, hex);
}

static int open_dir(int at, const char *path, struct err *e)
{
    int fd;

    if (mkdirat(at, path, 0700) < 0 && errno != EEXIST)
        return err_errno(e, errno, "cannot create %s", path);
    fd = openat(at, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? err_errno(e, errno, "cannot open %s", path) : fd;
}

/* All folders are made at once, so that a placement has one directory to sync and not sometimes two. */
static int make_folders(struct blob_fs *fs, struct err *e)
{
    char name[4];
    bool made = false;

    for (unsigned i = 0; i < 256; i++) {
        snprintf(name, sizeof(name), "%02x", i);
        if (mkdirat(fs->dir, name, 0700) == 0)
            made = true;
        else if (errno != EEXIST)
            return err_errno(e, errno, "cannot create blobs/%s", name);
    }
    if (made && fsync(fs->dir) < 0)
        return err_errno(e, errno, "cannot sync blobs");
    return 0;
}

static int try_tmp(struct blob_fs *fs, struct err *e)
{
    char name[BLOB_NAME_MAX];
    int fd;

    snprintf(name, sizeof(name), "%s-probe", fs->prefix);
    fd = blob_fs_create(fs, name, e);
    if (fd < 0)
        return -1;
    close(fd);
    blob_fs_drop(fs, name);
    return 0;
}

int blob_fs_open(struct blob_fs *fs, const char *dir, struct err *e)
{
    struct clock *c = clock_system();
    int parent = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    uint64_t r;

    *fs = (struct blob_fs){-1, -1, ""};
    if (parent < 0)
        return err_errno(e, errno, "cannot open %s", dir);
    c->random(c, &r, sizeof(r));
    snprintf(fs->prefix, sizeof(fs->prefix), "%016llx", (unsigned long long)r);
    fs->dir = open_dir(parent, "blobs", e);
    if (fs->dir >= 0)
        fs->tmp = open_dir(fs->dir, "tmp", e);
    if (fs->tmp < 0 || make_folders(fs, e) < 0 || fsync(parent) < 0 || try_tmp(fs, e) < 0) {
        err_wrap(e, "%s", dir);
        close(parent);
        blob_fs_close(fs);
        return -1;
    }
    close(parent);
    return 0;
}

void blob_fs_close(struct blob_fs *fs)
{
    if (fs->tmp >= 0)
        close(fs->tmp);
    if (fs->dir >= 0)
        close(fs->dir);
    fs->tmp = fs->dir = -1;
}

int blob_fs_create(struct blob_fs *fs, const char *name, struct err *e)
{
    int fd = openat(fs->tmp, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    return fd < 0 ? err_errno(e, errno, "cannot create a temporary file in blobs/tmp") : fd;
}

int blob_fs_write(int fd, const void *data, size_t n, struct err *e)
{
    const char *p = data;

    while (n > 0) {
        ssize_t k = write(fd, p, n);

        if (k < 0 && errno == EINTR)
            continue;
        if (k < 0)
            return err_errno(e, errno, "cannot write to blobs/tmp");
        p += k;
        n -= (size_t)k;
    }
    return 0;
}

static int sync_folder(struct blob_fs *fs, const char *path, struct err *e)
{
    char folder[3] = {path[0], path[1], '\0'};
    int fd = openat(fs->dir, folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC), rc;

    if (fd < 0)
        return err_errno(e, errno, "cannot open blobs/%s", folder);
    rc = PLANTED(FOLDER_NOT_SYNCED) ? 0 : fsync(fd);
    if (rc < 0)
        err_errno(e, errno, "cannot sync blobs/%s", folder);
    close(fd);
    return rc;
}

static int rename_into(struct blob_fs *fs, const char *name, const char *path, struct err *e)
{
    char folder[3] = {path[0], path[1], '\0'};

    if (renameat(fs->tmp, name, fs->dir, path) == 0)
        return 0;
    /* Somebody removed an empty folder behind our back. */
    if (errno == ENOENT && mkdirat(fs->dir, folder, 0700) == 0 && fsync(fs->dir) == 0 &&
        renameat(fs->tmp, name, fs->dir, path) == 0)
        return 0;
    return err_errno(e, errno, "cannot place blobs/%s", path);
}

int blob_fs_place(struct blob_fs *fs, const char *name, const uint8_t hash[BLAKE3_LEN], struct err *e)
{
    char path[BLOB_NAME_MAX];

    blob_path(hash, path);
    if (rename_into(fs, name, path, e) < 0) {
        blob_fs_drop(fs, name);
        return -1;
    }
    return sync_folder(fs, path, e);
}

void blob_fs_drop(struct blob_fs *fs, const char *name)
{
    if (unlinkat(fs->tmp, name, 0) < 0 && errno != ENOENT)
        log_warn(LOG_S("blob_tmp", name), LOG_S("reason", strerror(errno)));
}

int blob_fs_unlink(struct blob_fs *fs, const uint8_t hash[BLAKE3_LEN], struct err *e)
{
    char path[BLOB_NAME_MAX];

    blob_path(hash, path);
    if (unlinkat(fs->dir, path, 0) < 0 && errno != ENOENT)
        return err_errno(e, errno, "cannot remove blobs/%s", path);
    return 0;
}

int blob_fs_read_open(struct blob_fs *fs, const uint8_t hash[BLAKE3_LEN], int64_t *size, struct err *e)
{
    char path[BLOB_NAME_MAX];
    struct stat st;
    int fd;

    blob_path(hash, path);
    fd = openat(fs->dir, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return err_errno(e, errno, "blobs/%s", path);
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        err_set(e, EIO, "blobs/%s is not a file", path);
        close(fd);
        return -1;
    }
    *size = st.st_size;
    return fd;
}

static bool read_all(int fd, char *p, size_t n, struct err *e)
{
    while (n > 0) {
        ssize_t k = read(fd, p, n);

        if (k < 0 && errno == EINTR)
            continue;
        if (k <= 0) {
            err_set(e, k < 0 ? errno : EIO, "cannot read a blob: %s",
                    k < 0 ? strerror(errno) : "it is cut short");
            return false;
        }
        p += k;
        n -= (size_t)k;
    }
    return true;
}

struct bytes *blob_fs_read(struct blob_fs *fs, const uint8_t hash[BLAKE3_LEN], int64_t max, struct err *e)
{
    uint8_t found[BLAKE3_LEN];
    struct bytes *data = NULL;
    blake3_hasher hasher;
    int64_t size;
    int fd = blob_fs_read_open(fs, hash, &size, e);

    if (fd < 0)
        return NULL;
    if (size > max) {
        err_set(e, EFBIG, "the blob has %lld bytes, more than %lld", (long long)size, (long long)max);
    } else {
        data = bytes_alloc((size_t)size);
        blake3_hasher_init(&hasher);
        if (read_all(fd, data->data, (size_t)size, e)) {
            blake3_hasher_update(&hasher, data->data, (size_t)size);
            blake3_hasher_finalize(&hasher, found, BLAKE3_LEN);
        }
        if (e->msg[0] == '\0' && memcmp(found, hash, BLAKE3_LEN) != 0)
            err_set(e, EIO, "the blob's bytes are not what was stored");
        if (e->msg[0] != '\0') {
            bytes_unref(data);
            data = NULL;
        }
    }
    close(fd);
    return data;
}

static DIR *list_dir(struct blob_fs *fs, const char *name)
{
    int fd = openat(fs->dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);

    if (d == NULL && fd >= 0)
        close(fd);
    return d;
}

void blob_fs_list(struct blob_fs *fs, unsigned folder, struct buf *hashes)
{
    uint8_t hash[BLAKE3_LEN];
    struct dirent *ent;
    char name[4];
    DIR *d;

    snprintf(name, sizeof(name), "%02x", folder);
    d = list_dir(fs, name);
    while (d && (ent = readdir(d)) != NULL)
        if (blake3_unhex(ent->d_name, hash) && hash[0] == folder)
            buf_put(hashes, hash, BLAKE3_LEN);
    if (d)
        closedir(d);
}

unsigned blob_fs_clean(struct blob_fs *fs)
{
    DIR *d = list_dir(fs, "tmp");
    struct dirent *ent;
    unsigned removed = 0;

    while (d && (ent = readdir(d)) != NULL)
        if (ent->d_name[0] != '.' && strncmp(ent->d_name, fs->prefix, strlen(fs->prefix)) != 0 &&
            unlinkat(fs->tmp, ent->d_name, 0) == 0)
            removed++;
    if (d)
        closedir(d);
    return removed;
}
