#include "api/static.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "comfy/names.h"

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

bool static_serve(struct http_req *req, const char *dir)
{
    const char *path = http_req_path(req);
    struct buf name = BUF_INIT;
    struct http_file f = {0};
    char etag[64];
    struct stat st;
    int root;

    if (strcmp(path, "/") == 0 || strcmp(path, "/api/") == 0)
        buf_puts(&name, "index.html");
    else if (http_unescape(path + 1, strlen(path + 1), false, &name) < 0 ||
             !name_path_is_safe(name.data, name.len))
        buf_clear(&name);
    root = name.len ? open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
    f.fd = root >= 0 ? openat(root, name.data, O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC) : -1;
    if (root >= 0)
        close(root);
    if (f.fd < 0 || fstat(f.fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        if (f.fd >= 0)
            close(f.fd);
        buf_free(&name);
        return false;
    }
    snprintf(etag, sizeof(etag), "\"%llx-%llx\"", (unsigned long long)st.st_mtime,
             (unsigned long long)st.st_size);
    f.size = st.st_size;
    f.mtime = st.st_mtime;
    f.etag = etag;
    f.type = web_type(name.data);
    http_set(req, "Cache-Control",
             strncmp(name.data, "assets/", 7) == 0 ? "public, max-age=86400" : "no-cache");
    http_reply_file(req, 200, &f);
    buf_free(&name);
    return true;
}
