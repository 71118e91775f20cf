#include "base/testdata.h"

#include <assert.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

const char *testdata_root(void)
{
    const char *root = getenv("COMFYMUX_SHARED");

    if (!root || !*root) {
        printf("skipped: COMFYMUX_SHARED does not name a folder with recordings/\n");
        return NULL;
    }
    return root;
}

static struct bytes *read_path(const char *path)
{
    gzFile f = gzopen(path, "rb"); /* reads plain files as they are */
    struct buf b = BUF_INIT;
    char part[65536];
    int n;

    if (!f) {
        fprintf(stderr, "cannot open %s\n", path);
        abort();
    }
    while ((n = gzread(f, part, sizeof(part))) > 0)
        buf_put(&b, part, (size_t)n);
    gzclose(f);
    return buf_to_bytes(&b);
}

struct bytes *testdata_read(const char *path)
{
    char *full = xasprintf("%s/recordings/%s", testdata_root(), path);
    struct bytes *b = read_path(full);

    free(full);
    return b;
}

struct json testdata_parse(const char *text, size_t len)
{
    struct json v;
    struct err e;

    if (json_check(text, len, NULL, &v, &e) < 0) {
        fprintf(stderr, "test data is not JSON: %s\n%.*s\n", e.msg, len > 200 ? 200 : (int)len, text);
        abort();
    }
    return v;
}

static void lines(struct bytes *text, void (*fn)(void *, struct json), void *arg)
{
    const char *p = text->data, *end = text->data + text->len;

    while (p < end) {
        const char *nl = memchr(p, '\n', (size_t)(end - p));

        if (!nl)
            nl = end;
        if (nl > p)
            fn(arg, testdata_parse(p, (size_t)(nl - p)));
        p = nl + 1;
    }
}

void testdata_session(const char *name, void (*fn)(void *arg, struct json line), void *arg)
{
    char *path = xasprintf("%s.jsonl", name);
    struct bytes *text = testdata_read(path);

    lines(text, fn, arg);
    bytes_unref(text);
    free(path);
}

struct all {
    void (*fn)(void *arg, const char *file, struct json line);
    void *arg;
    const char *file;
};

static void all_line(void *arg, struct json line)
{
    struct all *a = arg;

    a->fn(a->arg, a->file, line);
}

void testdata_all(void (*fn)(void *arg, const char *file, struct json line), void *arg)
{
    static const char *const dirs[] = {"sessions", "sessions-0.3.75", "hostile"};

    for (size_t d = 0; d < ARRAY_LEN(dirs); d++) {
        char *pattern = xasprintf("%s/recordings/%s/*.jsonl", testdata_root(), dirs[d]);
        glob_t g;

        if (glob(pattern, 0, NULL, &g) == 0) {
            for (size_t i = 0; i < g.gl_pathc; i++) {
                struct all a = {fn, arg, strstr(g.gl_pathv[i], "recordings/") + 11};
                struct bytes *text = read_path(g.gl_pathv[i]);

                lines(text, all_line, &a);
                bytes_unref(text);
            }
            globfree(&g);
        }
        free(pattern);
    }
}

struct json testdata_at(struct json v, const char *path)
{
    while (*path) {
        size_t n = strcspn(path, ".");

        v = json_getn(v, path, n);
        path += n;
        if (*path == '.')
            path++;
    }
    return v;
}

char *testdata_str(struct json v, size_t *len)
{
    struct buf b = BUF_INIT;

    if (json_str(v, &b) < 0)
        assert(json_is_null(v));
    if (len)
        *len = b.len;
    return buf_take(&b);
}
