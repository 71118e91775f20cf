/* What the request and the response target share: the same bytes, whole and in pieces, must give the same
 * events; what passes must be clean. */
#ifndef TEST_FUZZ_MESSAGE_H
#define TEST_FUZZ_MESSAGE_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "http/http_parse.h"

static inline void fuzz_head(struct buf *out, const struct http_head *h, enum http_parse_kind kind)
{
    FUZZ_CHECK(h->minor == 0 || h->minor == 1);
    FUZZ_CHECK(h->length >= -1 && (h->length == -1) == (h->chunked || h->until_eof));
    FUZZ_CHECK(!(h->chunked && h->until_eof));
    if (kind == HTTP_PARSE_REQUEST) {
        FUZZ_CHECK(!h->until_eof && strlen(h->target) <= 8190);
        FUZZ_CHECK(h->target[0] == '/' || (h->method == HTTP_OPTIONS && strcmp(h->target, "*") == 0));
        FUZZ_CHECK(strncmp(h->path, h->target, strlen(h->path)) == 0);
        for (const char *s = h->target; *s; s++)
            FUZZ_CHECK(*s > ' ' && *s < 0x7f && *s != '#');
        FUZZ_CHECK(h->minor == 0 || http_headers_get(&h->headers, "Host"));
        buf_printf(out, "%s %s %s?%s", h->method_name, h->target, h->path, h->query);
    } else {
        FUZZ_CHECK(h->status >= 100 && h->status <= 599);
        buf_printf(out, "%d %s", h->status, h->reason);
    }
    buf_printf(out, " %d %lld %d%d", h->minor, (long long)h->length, h->chunked, h->keep_alive);
    for (size_t i = 0; i < h->headers.n; i++) {
        const struct http_header *f = &h->headers.v[i];

        FUZZ_CHECK(f->name[0] && strlen(f->value) == f->value_len);
        for (const char *s = f->name; *s; s++)
            FUZZ_CHECK(*s > ' ' && *s < 0x7f && *s != ':');
        for (const char *s = f->value; *s; s++)
            FUZZ_CHECK(*s == '\t' || ((unsigned char)*s >= ' ' && *s != 0x7f));
        buf_printf(out, " [%s=%s]", f->name, f->value);
    }
}

/* False after an error. */
static inline bool fuzz_offer(struct http_parser *p, enum http_parse_kind kind, const char *s, size_t n,
                              struct buf *out)
{
    for (;;) {
        const char *data;
        size_t used, len;
        enum http_parse_event ev = http_parser_step(p, s, n, &used, &data, &len);

        FUZZ_CHECK(used <= n);
        s += used;
        n -= used;
        switch (ev) {
        case HTTP_PARSE_MORE: FUZZ_CHECK(n == 0); return true;
        case HTTP_PARSE_HEAD: fuzz_head(out, http_parser_head(p), kind); break;
        case HTTP_PARSE_BODY:
            FUZZ_CHECK(len > 0 && len <= used);
            buf_put(out, data, len);
            break;
        case HTTP_PARSE_END:
            buf_puts(out, "\n");
            http_parser_next(p);
            break;
        case HTTP_PARSE_ERROR:
            FUZZ_CHECK(http_parser_status(p) >= 400 && http_parser_reason(p)[0]);
            buf_printf(out, "!%d%s", http_parser_status(p), http_parser_reason(p));
            return false;
        }
    }
}

static inline void fuzz_message(enum http_parse_kind kind, bool no_body, const uint8_t *in, size_t size)
{
    static const struct http_parse_limits lim = {.target = 8190, .head = 16384, .headers = 64};
    const char *s = (const char *)in;
    struct buf out[3] = {BUF_INIT, BUF_INIT, BUF_INIT};
    size_t steps[3] = {size, 1, 7};

    for (int i = 0; i < 3; i++) {
        struct http_parser *p = http_parser_new(kind, &lim);
        bool ok = true;

        http_parser_no_body(p, no_body);
        for (size_t at = 0; ok && at < size; at += steps[i])
            ok = fuzz_offer(p, kind, s + at, size - at < steps[i] ? size - at : steps[i], &out[i]);
        if (ok)
            buf_printf(&out[i], "eof%d", (int)http_parser_eof(p));
        http_parser_free(&p);
        FUZZ_CHECK(out[i].len == out[0].len && strcmp(buf_str(&out[i]), buf_str(&out[0])) == 0);
    }
    for (int i = 0; i < 3; i++)
        buf_free(&out[i]);
}

#endif
