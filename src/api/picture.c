#include "api/picture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* --- what is asked for --- */

/* "webp;90" -> 90. The last piece counts if it is digits only; 90 otherwise. What is too large stays too large. */
static uint16_t quality_of(const char *preview)
{
    const char *last = strrchr(preview, ';');
    unsigned q = 0;

    last = last ? last + 1 : preview;
    if (*last == '\0' || strspn(last, "0123456789") != strlen(last))
        return 90;
    for (; *last && q < 1000; last++)
        q = q * 10 + (unsigned)(*last - '0');
    return (uint16_t)(q < 1000 ? q : 1000);
}

struct image_want picture_wanted(const char *preview, const char *channel)
{
    struct image_want w = {.op = IMAGE_FILE};

    if (channel == NULL)
        channel = "";
    if (preview == NULL) {
        w.op = strcmp(channel, "rgb") == 0 ? IMAGE_RGB : strcmp(channel, "a") == 0 ? IMAGE_ALPHA : IMAGE_FILE;
        return w;
    }
    w.quality = quality_of(preview);
    w.op = IMAGE_WEBP;
    w.rgb = strcmp(channel, "rgb") == 0;
    if (strncmp(preview, "jpeg", 4) == 0 && (preview[4] == '\0' || preview[4] == ';') &&
        !strchr(channel, 'a')) {
        w.op = IMAGE_JPEG;
        w.rgb = 0; /* it always is */
    }
    return w;
}

bool picture_possible(struct api *a, const struct api_blob *b)
{
    return b->want.op != IMAGE_FILE && a->d.images && images_usable(a->d.images);
}

void picture_etag(const struct api_blob *b, char out[PICTURE_ETAG])
{
    char hex[BLAKE3_HEX];

    blake3_hex(b->hash, hex);
    snprintf(out, PICTURE_ETAG, "\"%s-%u\"", hex, (unsigned)b->want.size);
}

/* --- the answer --- */

static void refuse_picture(struct http_req *req, const struct api_blob *b, const struct image_result *r)
{
    bool passing = r->status == IMAGE_BUSY || r->status == IMAGE_NO_SPACE;
    char text[256];

    snprintf(text, sizeof(text), "no picture can be made of this file: %s", r->why);
    if (passing)
        http_set(req, "Retry-After", "1");
    if (!b->mux)
        http_reply_str(req, passing ? 503 : 500, "text/plain; charset=utf-8", text);
    else if (passing)
        api_error(req, 503, r->status == IMAGE_BUSY ? "not_ready" : "storage_failed", text, NULL);
    else
        api_error(req, 415, "no_image_output", text, NULL);
}

static void send_picture(struct http_req *req, const struct api_blob *b, const struct image_result *r)
{
    enum image_op op = (enum image_op)b->want.op;
    struct http_file f = {.fd = r->fd, .size = r->size, .type = image_mime(op), .whole = op != IMAGE_THUMB};
    char etag[PICTURE_ETAG];

    if (op == IMAGE_THUMB) {
        picture_etag(b, etag);
        f.etag = etag;
    }
    api_put_file_fields(req, b->name, false);
    http_reply_file(req, 200, &f);
}

static void on_picture(const struct image_result *r, void *arg)
{
    struct api_wait *w = arg;
    struct api_blob_kept x;
    struct api *a = w->a;
    struct http_req *req;

    api_blob_take(&x, w);
    req = api_wait_end(w);
    if (r->status == IMAGE_OK && req) {
        send_picture(req, &x.b, r);
    } else if (r->status == IMAGE_OK) {
        close(r->fd);
    } else if (req && r->status == IMAGE_UNAVAILABLE) {
        api_reply_blob(a, req, &x.b); /* nobody is there to make it: picture_possible() says no now */
    } else if (req) {
        refuse_picture(req, &x.b, r);
    }
    api_blob_let_go(&x);
}

void picture_reply(struct api *a, struct http_req *req, const struct api_blob *b, int fd)
{
    struct api_wait *w = api_wait_new(a, req);
    struct api_blob_kept *x = api_blob_keep(b);

    w->extra = x;
    images_convert(a->d.images, x->hash, fd, &x->b.want, on_picture, w);
}
