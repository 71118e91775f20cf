#include "sim/files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <openssl/evp.h>

#define READ_MAX (256u << 20)

static const char *const dir_names[] = {"input", "output", "temp", "user/default"};

int files_dir_parse(const char *s)
{
    enum name_type t = name_type_parse(s, strlen(s));

    return t == NAME_TYPE_UNKNOWN ? -1 : (int)t;
}

const char *files_dir_name(enum files_dir d)
{
    return dir_names[d];
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *at)
{
    (void)st;
    (void)flag;
    (void)at;
    return remove(path);
}

void files_remove_tree(const char *path)
{
    nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static int make_dirs(const char *path, struct err *e)
{
    char *p = xstrdup(path);
    int rc = 0;

    for (char *s = p + 1; rc == 0; s++) {
        if (*s == '/' || *s == '\0') {
            char keep = *s;

            *s = '\0';
            if (mkdir(p, 0777) < 0 && errno != EEXIST)
                rc = err_errno(e, errno, "making %s", p);
            *s = keep;
            if (keep == '\0')
                break;
        }
    }
    free(p);
    return rc;
}

int files_wipe_temp(struct files *f)
{
    struct buf path = BUF_INIT;
    int rc;

    buf_printf(&path, "%s/temp", f->base);
    files_remove_tree(buf_str(&path));
    rc = make_dirs(buf_str(&path), NULL);
    buf_free(&path);
    return rc;
}

int files_init(struct files *f, const char *base, struct clock *c, struct err *e)
{
    char real[4096];

    *f = (struct files){.clock = c};
    if (make_dirs(base, e) < 0)
        return -1;
    if (!realpath(base, real))
        return err_errno(e, errno, "%s", base);
    f->base = xstrdup(real);
    for (unsigned i = 0; i < ARRAY_LEN(dir_names); i++) {
        struct buf path = BUF_INIT;
        int rc;

        buf_printf(&path, "%s/%s", f->base, dir_names[i]);
        if (i == FILES_TEMP)
            files_remove_tree(buf_str(&path));
        rc = make_dirs(buf_str(&path), e);
        buf_free(&path);
        if (rc < 0) {
            files_fini(f);
            return -1;
        }
    }
    return 0;
}

void files_fini(struct files *f)
{
    free(f->base);
    f->base = NULL;
}

/* os.path.normpath for a relative path: "." and "" go, ".." takes one away. False: it leaves its start. */
static bool normal(const char *path, struct buf *out)
{
    size_t start = out->len;

    if (*path == '/')
        return false;
    while (*path) {
        size_t n = strcspn(path, "/");

        if (n == 2 && memcmp(path, "..", 2) == 0) {
            if (out->len == start)
                return false;
            while (out->len > start && out->data[out->len - 1] != '/')
                out->len--;
            if (out->len > start)
                out->len--;
            out->data[out->len] = '\0';
        } else if (n > 0 && !(n == 1 && *path == '.')) {
            if (out->len > start)
                buf_putc(out, '/');
            buf_put(out, path, n);
        }
        path += n + (path[n] == '/');
    }
    return true;
}

bool files_path(const struct files *f, enum files_dir d, const char *sub, const char *name, struct buf *out)
{
    struct buf rel = BUF_INIT, clean = BUF_INIT;
    bool ok;

    if (sub && *sub)
        buf_printf(&rel, "%s/", sub);
    buf_puts(&rel, name);
    ok = name[0] != '/' && normal(buf_str(&rel), &clean);
    if (ok)
        buf_printf(out, "%s/%s%s%s", f->base, dir_names[d], clean.len ? "/" : "", buf_str(&clean));
    buf_free(&rel);
    buf_free(&clean);
    return ok;
}

enum files_dir files_annotated(const char *s, struct buf *name)
{
    size_t n;
    enum name_type t = name_annotation(s, strlen(s), NAME_INPUT, &n);

    buf_put(name, s, n);
    return (enum files_dir)t;
}

bool files_exists(const struct files *f, const char *annotated)
{
    struct buf name = BUF_INIT, path = BUF_INIT;
    enum files_dir d = files_annotated(annotated, &name);
    bool ok = files_path(f, d, NULL, buf_str(&name), &path) && access(buf_str(&path), F_OK) == 0;

    buf_free(&name);
    buf_free(&path);
    return ok;
}

int files_read(const char *path, struct buf *out, struct err *e)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = 0;

    if (fd < 0)
        return err_errno(e, errno, "%s", path);
    do {
        buf_reserve(out, 65536);
        n = read(fd, out->data + out->len, 65536);
        if (n > 0) {
            out->len += (size_t)n;
            out->data[out->len] = '\0';
        }
    } while ((n > 0 && out->len < READ_MAX) || (n < 0 && errno == EINTR));
    if (n != 0)
        err_errno(e, n < 0 ? errno : EFBIG, "%s", path);
    close(fd);
    return n == 0 ? 0 : -1;
}

int files_make_folder_of(const char *path, struct err *e)
{
    const char *slash = strrchr(path, '/');
    char *dir = xstrndup(path, (size_t)(slash - path));
    int rc = make_dirs(dir, e);

    free(dir);
    return rc;
}

int files_write(const char *path, const void *data, size_t n, struct err *e)
{
    const char *p = data;
    int fd, rc = 0;

    if (files_make_folder_of(path, e) < 0)
        return -1;
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0)
        return err_errno(e, errno, "%s", path);
    while (n > 0 && rc == 0) {
        ssize_t k = write(fd, p, n);

        if (k < 0 && errno != EINTR)
            rc = err_errno(e, errno, "writing %s", path);
        if (k > 0)
            p += k, n -= (size_t)k;
    }
    if (close(fd) < 0 && rc == 0)
        rc = err_errno(e, errno, "writing %s", path);
    return rc;
}

int files_sha256(const char *path, char out[65], struct err *e)
{
    struct buf all = BUF_INIT;
    unsigned char md[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    int rc = files_read(path, &all, e);

    if (rc == 0 && !EVP_Digest(buf_str(&all), all.len, md, &n, EVP_sha256(), NULL))
        rc = err_set(e, 0, "SHA-256 of %s failed", path);
    for (unsigned i = 0; rc == 0 && i < 32; i++)
        snprintf(out + 2 * (size_t)i, 3, "%02x", md[i]);
    buf_free(&all);
    return rc;
}

struct entry {
    char *name;
    int64_t mtime;
};

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct entry *)a)->name, ((const struct entry *)b)->name);
}

void files_list(const struct files *f, enum files_dir d, struct files_list *out)
{
    struct buf path = BUF_INIT;
    struct entry *v = NULL;
    struct dirent *de;
    size_t n = 0;
    DIR *dir;

    *out = (struct files_list){0};
    buf_printf(&path, "%s/%s", f->base, dir_names[d]);
    dir = opendir(buf_str(&path));
    buf_free(&path);
    while (dir && (de = readdir(dir))) {
        struct stat st;

        if (fstatat(dirfd(dir), de->d_name, &st, 0) < 0 || !S_ISREG(st.st_mode))
            continue;
        v = xrealloc(v, (n + 1) * sizeof(*v));
        v[n++] =
            (struct entry){xstrdup(de->d_name), (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec};
    }
    if (dir)
        closedir(dir);
    if (n > 0)
        qsort(v, n, sizeof(*v), by_name);
    out->name = xmalloc((n + 1) * sizeof(char *));
    out->mtime = xmalloc((n + 1) * sizeof(int64_t));
    for (size_t i = 0; i < n; i++) {
        out->name[i] = v[i].name;
        out->mtime[i] = v[i].mtime;
    }
    out->n = n;
    free(v);
}

void files_list_free(struct files_list *l)
{
    for (size_t i = 0; i < l->n; i++)
        free(l->name[i]);
    free(l->name);
    free(l->mtime);
}

static void replace_all(struct buf *b, const char *what, const char *with)
{
    struct buf out = BUF_INIT;
    const char *s = buf_str(b), *hit;

    while ((hit = strstr(s, what))) {
        buf_put(&out, s, (size_t)(hit - s));
        buf_puts(&out, with);
        s = hit + strlen(what);
    }
    buf_puts(&out, s);
    buf_free(b);
    *b = out;
}

static void put_vars(const struct files *f, struct buf *b, unsigned w, unsigned h)
{
    time_t now = f->clock->wall_ms(f->clock) / 1000;
    struct tm tm;
    const struct {
        const char *what;
        int value, digits;
    } vars[] = {
        {"%width%", (int)w, 1}, {"%height%", (int)h, 1}, {"%year%", 0, 1},   {"%month%", 0, 2},
        {"%day%", 0, 2},        {"%hour%", 0, 2},        {"%minute%", 0, 2}, {"%second%", 0, 2},
    };

    localtime_r(&now, &tm);
    for (size_t i = 0; i < ARRAY_LEN(vars); i++) {
        const int fields[] = {tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec};
        char s[16];

        snprintf(s, sizeof(s), "%0*d", vars[i].digits, i < 2 ? vars[i].value : fields[i - 2]);
        replace_all(b, vars[i].what, s);
    }
}

/* The largest number in "<stem>_<number>_..." of a folder, and 0. */
static long last_counter(const char *folder, const char *stem)
{
    size_t n = strlen(stem);
    DIR *dir = opendir(folder);
    struct dirent *de;
    long last = 0;

    while (dir && (de = readdir(dir))) {
        char *end;
        long v;

        if (strncmp(de->d_name, stem, n) != 0 || de->d_name[n] != '_')
            continue;
        v = strtol(de->d_name + n + 1, &end, 10);
        if (end > de->d_name + n + 1 && (*end == '_' || *end == '\0') && v > last)
            last = v;
    }
    if (dir)
        closedir(dir);
    return last;
}

int files_save_begin(const struct files *f, enum files_dir d, const char *prefix, unsigned w, unsigned h,
                     struct files_save *s, struct err *e)
{
    struct buf name = BUF_INIT, clean = BUF_INIT, folder = BUF_INIT;
    char *slash;
    int rc = 0;

    *s = (struct files_save){0};
    buf_puts(&name, prefix);
    if (strchr(prefix, '%'))
        put_vars(f, &name, w, h);
    if (!normal(buf_str(&name), &clean)) {
        rc = err_set(e, 0,
                     "**** ERROR: Saving image outside the output folder is not allowed.\n"
                     " full_output_folder: %s/%s/%s\n         output_dir: %s/%s",
                     f->base, dir_names[d], buf_str(&name), f->base, dir_names[d]);
    } else {
        buf_puts(&clean, "");
        slash = clean.len ? strrchr(clean.data, '/') : NULL;
        s->sub = slash ? xstrndup(clean.data, (size_t)(slash - clean.data)) : xstrdup("");
        s->stem = xstrdup(slash ? slash + 1 : buf_str(&clean));
        buf_printf(&folder, "%s/%s%s%s", f->base, dir_names[d], *s->sub ? "/" : "", s->sub);
        rc = make_dirs(buf_str(&folder), e);
        s->counter = last_counter(buf_str(&folder), s->stem) + 1;
        s->folder = buf_take(&folder);
    }
    buf_free(&name);
    buf_free(&clean);
    buf_free(&folder);
    if (rc < 0)
        files_save_end(s);
    return rc;
}

void files_save_end(struct files_save *s)
{
    free(s->folder);
    free(s->sub);
    free(s->stem);
    *s = (struct files_save){0};
}

/* Python's mimetypes has some of its own. */
const char *files_mime(const char *name)
{
    const char *dot = strrchr(name, '.');

    if (dot && strcasecmp(dot, ".wav") == 0)
        return "audio/x-wav";
    if (dot && strcasecmp(dot, ".js") == 0)
        return "application/javascript; charset=utf-8";
    return name_mime(name, strlen(name));
}
