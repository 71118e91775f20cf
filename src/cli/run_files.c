#include "cli/run_files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/utf8.h"

#define NAME_MOST 240 /* of the 255 bytes a folder takes, room for " (12345)" */
#define EXT_MOST 16

/* ---- names ---- */

/* Where the ending begins: ".png", at most 16 bytes, not the whole name. n if there is none. */
static size_t ending(const char *s, size_t n)
{
    const char *dot = memrchr(s, '.', n);

    return dot && dot != s && (size_t)(s + n - dot) <= EXT_MOST ? (size_t)(dot - s) : n;
}

/* Cut to at most `most` bytes, not inside a character. */
static size_t cut_utf8(const char *s, size_t n, size_t most)
{
    if (n <= most)
        return n;
    while (most > 0 && ((unsigned char)s[most] & 0xc0) == 0x80)
        most--;
    return most;
}

void run_name_clean(const char *name, size_t n, struct buf *out)
{
    struct buf b = BUF_INIT;
    size_t stem, ext;

    for (size_t i = n; i-- > 0;) {
        if (name[i] == '/' || name[i] == '\\') {
            name += i + 1;
            n -= i + 1;
            break;
        }
    }
    for (size_t i = 0, k; i < n; i += k) {
        uint32_t cp;

        k = utf8_decode(name + i, n - i, &cp);
        if (k == 0 || cp < ' ' || (cp >= 0x7f && cp < 0xa0) || (i == 0 && cp == '.')) {
            buf_putc(&b, '_');
            k = k ? k : utf8_bad_length(name + i, n - i);
        } else {
            buf_put(&b, name + i, k);
        }
    }
    if (b.len == 0 || strcmp(buf_str(&b), "_") == 0) {
        buf_puts(out, "output");
    } else {
        stem = ending(b.data, b.len);
        ext = b.len - stem;
        buf_put(out, b.data, cut_utf8(b.data, stem, NAME_MOST - ext));
        buf_put(out, b.data + stem, ext);
    }
    buf_free(&b);
}

void run_name_nth(const char *name, unsigned k, struct buf *out)
{
    size_t n = strlen(name), stem = ending(name, n);

    buf_put(out, name, stem);
    if (k)
        buf_printf(out, " (%u)", k);
    buf_puts(out, name + stem);
}

void run_name_made(const char *kind, const char *node, unsigned k, const char *ext, struct buf *out)
{
    struct buf b = BUF_INIT;

    buf_printf(&b, "%s_%s_%u.%s", kind, node, k, ext);
    for (size_t i = 0; i < b.len; i++)
        if (b.data[i] == '/' || b.data[i] == '\\' || b.data[i] == ':')
            b.data[i] = '_';
    run_name_clean(b.data, b.len, out);
    buf_free(&b);
}

/* ---- outputs ---- */

int run_dir_make(const char *dir, struct err *e)
{
    char *path = xstrdup(dir);
    int fault = 0;

    for (char *p = path + 1;; p++) {
        if (*p == '/' || *p == '\0') {
            char was = *p;

            *p = '\0';
            if (mkdir(path, 0777) < 0 && errno != EEXIST) {
                fault = err_errno(e, errno, "cannot make the folder %s", path);
                break;
            }
            *p = was;
            if (was == '\0')
                break;
        }
    }
    free(path);
    return fault;
}

int run_file_open(struct run_file *f, const char *dir, struct err *e)
{
    mode_t mask = umask(0);

    umask(mask);
    *f = (struct run_file){.part = xasprintf("%s/.comfymux-XXXXXX.part", dir)};
    f->fd = mkostemps(f->part, 5, O_CLOEXEC);
    if (f->fd < 0) {
        err_errno(e, errno, "cannot write in %s", dir);
        free(f->part);
        f->part = NULL;
        return -1;
    }
    (void)!fchmod(f->fd,
                  0666 & ~mask); /* mkstemp's 0600 is not what an output wants; some disks know no modes */
    return 0;
}

int run_file_write(struct run_file *f, const void *data, size_t n, struct err *e)
{
    const char *p = data;

    while (n > 0) {
        ssize_t k = write(f->fd, p, n);

        if (k < 0 && errno == EINTR)
            continue;
        if (k < 0)
            return err_errno(e, errno, "cannot write %s", f->part);
        p += k;
        n -= (size_t)k;
        f->size += k;
    }
    return 0;
}

/* The first free name of the row is taken by an empty file, and then replaced by the whole one: no other
 * process can come between, on any file system. */
static int reserve_name(const char *dir, const char *name, char **path, struct err *e)
{
    for (unsigned k = 0; k < 100000; k++) {
        struct buf b = BUF_INIT;
        int fd;

        buf_printf(&b, "%s/", dir);
        run_name_nth(name, k, &b);
        *path = buf_take(&b);
        fd = open(*path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (fd >= 0) {
            close(fd);
            return 0;
        }
        if (errno != EEXIST) {
            err_errno(e, errno, "cannot write %s", *path);
            free(*path);
            *path = NULL;
            return -1;
        }
        free(*path);
        *path = NULL;
    }
    return err_set(e, EEXIST, "no free name for %s in %s", name, dir);
}

int run_file_commit(struct run_file *f, const char *dir, const char *name, char **path, struct err *e)
{
    int fault;

    *path = NULL;
    fault = close(f->fd) < 0 ? err_errno(e, errno, "cannot write %s", f->part) : 0;
    f->fd = -1;
    if (fault == 0)
        fault = reserve_name(dir, name, path, e);
    if (fault == 0 && rename(f->part, *path) < 0) {
        fault = err_errno(e, errno, "cannot write %s", *path);
        unlink(*path);
        free(*path);
        *path = NULL;
    }
    if (fault == 0) {
        free(f->part);
        f->part = NULL;
    }
    return fault;
}

void run_file_abort(struct run_file *f)
{
    if (!f->part)
        return;
    if (f->fd >= 0)
        close(f->fd);
    unlink(f->part);
    free(f->part);
    f->part = NULL;
    f->fd = -1;
}

/* ---- inputs ---- */

static bool is_regular(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

char *run_input_find(const char *workflow_dir, const char *value, size_t n)
{
    char *path = NULL;

    if (n == 0)
        return NULL;
    if (workflow_dir && value[0] != '/') {
        path = xasprintf("%s/%.*s", workflow_dir, (int)n, value);
        if (is_regular(path))
            return path;
        free(path);
    }
    path = xstrndup(value, n);
    if (is_regular(path))
        return path;
    free(path);
    return NULL;
}

const char *run_base_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}
