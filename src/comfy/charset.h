/* The text of a body that says in its Content-Type how it is encoded. aiohttp, on which ComfyUI stands, decodes by the
 * charset parameter; without one it is UTF-8. Pure, any thread. */
#ifndef COMFY_CHARSET_H
#define COMFY_CHARSET_H

#include "base/buf.h"
#include "base/err.h"

/* The value of Content-Type's charset parameter when it is another one than UTF-8, as a new string; else NULL. */
char *charset_of(const char *content_type);
/* Append text, which is in charset, as UTF-8. Fails (EINVAL) when the charset is not known or the text is not in it. */
int charset_to_utf8(const char *charset, const char *text, size_t n, struct buf *out,
                    struct err *e) MUST_CHECK;

#endif
