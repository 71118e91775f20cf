/* Put in front of the rooms that touch files (the build does: -include): their calls go to the simulated disk (vfs.h).
 * The system's headers come first, so that they mean what they always do. */
#ifndef SCENARIO_VFS_NAMES_H
#define SCENARIO_VFS_NAMES_H

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vfs.h"

#define open vfs_open
#define openat vfs_openat
#define mkdirat vfs_mkdirat
#define renameat vfs_renameat
#define unlinkat vfs_unlinkat
#define fsync vfs_fsync
#define write vfs_write
#define read vfs_read
#define pread vfs_pread
#define fstat vfs_fstat
#define fstatat vfs_fstatat
#define close vfs_close
#define fdopendir vfs_fdopendir
#define readdir vfs_readdir
#define closedir vfs_closedir
#define clock_system vt_clock

#endif
