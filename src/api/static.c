#include "api/static.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "api/api_priv.h"
#include "comfy/names.h"

#define HASH_LETTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"

static const struct {
    const char *ending, *type;
} web_types[] = {
    {".html", "text/html; charset=utf-8"},
    {".js", "text/javascript; charset=utf-8"},
    {".mjs", "text/javascript; charset=utf-8"},
    {".css", "text/css; charset=utf-8"},
    {".svg", "image/svg+xml"},
    {".json", "application/json; charset=utf-8"},
    {".map", "application/json; charset=utf-8"},
    {".woff2", "font/woff2"},
    {".woff", "font/woff"},
    {".ttf", "font/ttf"},
    {".ico", "image/x-icon"},
};

/* These files are the operator's own: they are shown as what they are. */
static const char *web_type(const char *path)
{
    size_t n = strlen(path);

    for (size_t i = 0; i < ARRAY_LEN(web_types); i++) {
        size_t m = strlen(web_types[i].ending);

        if (n > m && strcmp(path + n - m, web_types[i].ending) == 0)
            return web_types[i].type;
    }
    return name_mime(path, n);
}

static int open_below(const char *dir, const char *name, struct stat *st)
{
    int root = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    int fd = root >= 0 ? openat(root, name, O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC) : -1;

    if (root >= 0)
        close(root);
    if (fd >= 0 && (fstat(fd, st) < 0 || !S_ISREG(st->st_mode))) {
        close(fd);
        fd = -1;
    }
    return fd;
}

/* Names that a build makes up: "assets/index-BgU9Jz3_.js". Another content has another name. */
static bool is_hashed(const char *name)
{
    const char *file = name + 7, *dash = NULL;

    if (strncmp(name, "assets/", 7) != 0 || strchr(file, '/'))
        return false;
    for (const char *p = file; *p; p++)
        if (*p == '-' && p[1] && strcspn(p + 1, ".") == 8)
            dash = p;
    return dash && dash != file && strspn(dash + 1, HASH_LETTERS) == 8 && dash[9] == '.';
}

static const char *caching(const char *name)
{
    size_t n = strlen(name);

    if (n >= 10 && strcmp(name + n - 10, "index.html") == 0)
        return "no-store"; /* it names the files of its build */
    return is_hashed(name) ? "public, max-age=31536000, immutable" : "no-cache";
}

/* The path's file, "" if it is none that may be asked for. */
static void name_of(struct buf *name, const char *path)
{
    if (strcmp(path, "/") == 0 || strcmp(path, "/api/") == 0)
        buf_puts(name, "index.html");
    else if (http_unescape(path + 1, strlen(path + 1), false, name) < 0 ||
             !name_path_is_safe(name->data, name->len))
        buf_clear(name);
}

/* Beside a file there may be one that is compressed: -1 if there is none, or the client does not take it. */
static int open_packed(struct http_req *req, const char *dir, const char *name, struct stat *st)
{
    char *packed = xasprintf("%s.gz", name);
    struct stat there;
    int fd = open_below(dir, packed, &there);

    free(packed);
    if (fd < 0)
        return -1;
    http_set(req, "Vary", "Accept-Encoding");
    if (!api_takes_gzip(req)) {
        close(fd);
        return -1;
    }
    http_set(req, "Content-Encoding", "gzip");
    *st = there;
    return fd;
}

bool static_serve(struct http_req *req, const char *dir)
{
    struct buf name = BUF_INIT;
    struct http_file f = {.fd = -1};
    char etag[64];
    struct stat st;
    int packed;

    name_of(&name, http_req_path(req));
    if (name.len)
        f.fd = open_below(dir, name.data, &st);
    if (f.fd < 0) {
        buf_free(&name);
        return false;
    }
    packed = open_packed(req, dir, name.data, &st);
    if (packed >= 0) {
        close(f.fd);
        f.fd = packed;
    }
    snprintf(etag, sizeof(etag), "\"%llx-%llx%s\"", (unsigned long long)st.st_mtime,
             (unsigned long long)st.st_size, packed >= 0 ? "-gz" : "");
    f.size = st.st_size;
    f.mtime = st.st_mtime;
    f.etag = etag;
    f.type = web_type(name.data);
    http_set(req, "Cache-Control", caching(name.data));
    http_reply_file(req, 200, &f);
    buf_free(&name);
    return true;
}
