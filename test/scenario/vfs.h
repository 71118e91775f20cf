/* A disk: files and folders as programs see them, and as they would stand after the machine has lost its power. Bytes are
 * safe after fsync() of the file, names after fsync() of their folder; of what is not, each thing may be there or not.
 * Only what blob/ does is there. Folders are safe when they are made. */
#ifndef SCENARIO_VFS_H
#define SCENARIO_VFS_H

#include <dirent.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "base/buf.h"
#include "vt.h"

void vfs_init(void);
void vfs_fini(void);
/* The process is dead: whatever it still seems to do has no effect. */
void vfs_set_dead(bool dead);
/* Per mille of writes that find no space. */
void vfs_set_full(int per_mille);
/* The machine lost its power. */
void vfs_power_cut(void);
/* Descriptors that are open: a dead process has none. */
void vfs_close_all(void);
int vfs_open_count(void);         /* without folders */
int vfs_count(const char *under); /* files whose path begins so */
/* The whole of an open file. False: it cannot be read. */
bool vfs_slurp(int fd, struct buf *out);

int vfs_open(const char *path, int flags, ...);
int vfs_openat(int at, const char *path, int flags, ...);
int vfs_mkdirat(int at, const char *path, mode_t mode);
int vfs_renameat(int from_at, const char *from, int to_at, const char *to);
int vfs_unlinkat(int at, const char *path, int flags);
int vfs_fsync(int fd);
ssize_t vfs_write(int fd, const void *data, size_t n);
ssize_t vfs_read(int fd, void *data, size_t n);
ssize_t vfs_pread(int fd, void *data, size_t n, off_t at);
int vfs_fstat(int fd, struct stat *st);
int vfs_fstatat(int at, const char *path, struct stat *st, int flags);
int vfs_close(int fd);
DIR *vfs_fdopendir(int fd);
struct dirent *vfs_readdir(DIR *d);
int vfs_closedir(DIR *d);

#endif
