/* /mux/: the web page and its modules. They are part of the program and need nothing else. */
#include <string.h>

#include "api/mux.h"
#include "api/page.h"

/* Scripts, styles, pictures, data: all from here, nothing written in the page itself, nobody may frame it. */
#define POLICY                                                                                               \
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; media-src 'self'; "      \
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

static const struct page_file *page_find(const char *name)
{
    for (const struct page_file *f = page_files; f->name; f++)
        if (strcmp(f->name, name) == 0)
            return f;
    return NULL;
}

void mux_get_page(struct api *a, struct http_req *req, const struct api_params *p)
{
    const struct page_file *f = page_find(p->v[0] && p->v[0][0] ? p->v[0] : "index.html");
    struct bytes *body;
    bool gz;

    (void)a;
    if (f == NULL && page_files[0].name == NULL) {
        api_error(req, 404, "not_found", "this comfymux was built without its page", NULL);
        return;
    }
    if (f == NULL) {
        api_error(req, 404, "not_found", "there is no such file of the page", NULL);
        return;
    }
    http_set(req, "ETag", f->etag);
    http_set(req, "Vary", "Accept-Encoding");
    http_set(req, "Cache-Control", "no-cache");
    http_set(req, "Content-Security-Policy", POLICY);
    http_set(req, "X-Content-Type-Options", "nosniff");
    http_set(req, "Referrer-Policy", "no-referrer");
    if (http_not_modified(req, f->etag, 0)) {
        http_reply_empty(req, 304);
        return;
    }
    gz = api_takes_gzip(req) && f->gz_size < f->size;
    if (gz)
        http_set(req, "Content-Encoding", "gzip");
    body = bytes_new(gz ? f->gz : f->data, gz ? f->gz_size : f->size);
    http_reply_bytes(req, 200, f->type, body);
    bytes_unref(body);
}

void mux_get_page_root(struct api *a, struct http_req *req, const struct api_params *p)
{
    (void)a;
    (void)p;
    http_set(req, "Location", "/mux/");
    http_reply_empty(req, 308);
}
