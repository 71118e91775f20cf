/* Bodies of requests, whole and as aiohttp gives them to a handler: unpacked, decoded by their charset. */
#include <iconv.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <zlib.h>

#include "sim/server_impl.h"

struct reading {
    struct sim_server *s;
    body_cb *raw;
    json_cb *json;
    bool lenient;
    struct buf body;
};

static void reading_free(struct reading *rd)
{
    buf_free(&rd->body);
    free(rd);
}

static void read_gone(struct http_req *r, void *arg)
{
    (void)r;
    reading_free(arg);
}

/* Content-Encoding gzip or deflate: in its own place. False: broken, or too long. */
static bool unpack(const struct http_req *r, struct buf *body)
{
    const char *coding = http_req_header(r, "Content-Encoding");
    z_stream z = {.next_in = (Bytef *)body->data, .avail_in = (uInt)body->len};
    struct buf out = BUF_INIT;
    int rc;

    if (!coding || (strcasecmp(coding, "gzip") != 0 && strcasecmp(coding, "deflate") != 0))
        return true;
    if (inflateInit2(&z, 15 + 32) != Z_OK) /* gzip and zlib alike */
        return false;
    do {
        buf_reserve(&out, 65536);
        z.next_out = (Bytef *)out.data + out.len;
        z.avail_out = 65536;
        rc = inflate(&z, Z_NO_FLUSH);
        out.len += 65536 - z.avail_out;
    } while (rc == Z_OK && out.len <= MAX_UPLOAD);
    inflateEnd(&z);
    buf_free(body);
    *body = out;
    return rc == Z_STREAM_END;
}

/* Another charset than UTF-8, if the Content-Type names one (aiohttp decodes by it). */
static char *charset_of(const struct http_req *r)
{
    const char *type = http_req_header(r, "Content-Type"), *at = type ? strcasestr(type, "charset=") : NULL;
    size_t n;

    if (!at)
        return NULL;
    at += strlen("charset=") + (at[strlen("charset=")] == '"');
    n = strcspn(at, "\"; ");
    if (n == 0 || n > 20 || strncasecmp(at, "utf-8", n) == 0 || strncasecmp(at, "utf8", n) == 0)
        return NULL;
    /* Python's name, which iconv does not know */
    return n == 7 && strncasecmp(at, "latin-1", n) == 0 ? xstrdup("ISO-8859-1") : xstrndup(at, n);
}

/* To UTF-8, in its own place. */
static bool decode(const struct http_req *r, struct buf *body)
{
    char *charset = charset_of(r), *in = body->data, *out;
    iconv_t cd = charset ? iconv_open("UTF-8", charset) : NULL;
    size_t left = body->len, room = body->len * 3 + 16, space = room;
    struct buf text = BUF_INIT;
    bool ok;

    free(charset);
    if (!cd)
        return true;
    if (cd == (iconv_t)-1)
        return false;
    buf_reserve(&text, room);
    out = text.data;
    ok = iconv(cd, &in, &left, &out, &space) != (size_t)-1 && left == 0;
    text.len = room - space;
    iconv_close(cd);
    buf_free(body);
    *body = text;
    return ok;
}

static void read_done(struct http_req *r, struct reading *rd)
{
    static const struct json_limits limits = {JSON_MAX_DEPTH, 1u << 20};
    struct json v;

    bool ok = unpack(r, &rd->body);

    if (ok && rd->raw) {
        rd->raw(rd->s, r, &rd->body);
        return;
    }
    ok = ok && decode(r, &rd->body) && json_check(buf_str(&rd->body), rd->body.len, &limits, &v, NULL) == 0;
    if (!ok && rd->lenient)
        v = (struct json){"{}", 2};
    if (ok || rd->lenient)
        rd->json(rd->s, r, v);
    else
        reply_500(r);
}

/* The limit is kept here and not by the HTTP server, because aiohttp's 413 has a text of its own. */
static void read_more(struct http_req *r, const void *data, size_t n, bool fin, void *arg)
{
    struct reading *rd = arg;

    if (rd->body.len + n > MAX_UPLOAD) {
        http_on_abort(r, NULL, NULL);
        reading_free(rd);
        reply_413(r);
        return;
    }
    buf_put(&rd->body, data, n);
    if (!fin)
        return;
    http_on_abort(r, NULL, NULL);
    read_done(r, rd);
    reading_free(rd);
}

static void begin(struct http_req *r, struct reading is)
{
    struct reading *rd = xcalloc(1, sizeof(*rd));

    *rd = is;
    http_on_abort(r, read_gone, rd);
    http_body_limit(r, INT64_MAX);
    http_body_read(r, read_more, rd);
}

void read_json(struct sim_server *s, struct http_req *r, json_cb *cb, bool lenient)
{
    begin(r, (struct reading){.s = s, .json = cb, .lenient = lenient});
}

void read_body(struct sim_server *s, struct http_req *r, body_cb *cb)
{
    begin(r, (struct reading){.s = s, .raw = cb});
}
