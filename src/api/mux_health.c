/* Is it alive, can it work, and which windows has it seen. */
#include "api/mux.h"
#include "api/windows.h"

void mux_get_healthz(struct api *a, struct http_req *req, const struct api_params *p)
{
    (void)a;
    (void)p;
    http_reply_str(req, 200, "text/plain; charset=utf-8", "ok");
}

void mux_get_readyz(struct api *a, struct http_req *req, const struct api_params *p)
{
    const char *why = api_not_ready(a);
    struct buf b = BUF_INIT;
    struct jsonw w;

    (void)p;
    jsonw_init(&w, &b);
    jsonw_obj(&w);
    jsonw_kbool(&w, "ready", why == NULL);
    jsonw_kstr(&w, "reason", why);
    jsonw_obj_end(&w);
    http_set(req, "Cache-Control", "no-store");
    api_reply_json(req, why ? 503 : 200, &b);
}

void mux_get_windows(struct api *a, struct http_req *req, const struct api_params *p)
{
    struct buf b = BUF_INIT;
    struct jsonw w;

    (void)p;
    jsonw_init(&w, &b);
    windows_put(a->windows, api_tenant(a, req), &w);
    api_reply_json(req, 200, &b);
}
