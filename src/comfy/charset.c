#include "comfy/charset.h"

#include <errno.h>
#include <iconv.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"

#define NAME_MAX_LEN 40

/* The parameter's value in "text/plain; x=1; charset=\"utf-16\"", or NULL. */
static const char *find_value(const char *type)
{
    for (const char *p = type; (p = strchr(p, ';')) != NULL;) {
        p += 1 + strspn(p + 1, " \t");
        if (strncasecmp(p, "charset=", 8) == 0)
            return p + 8 + (p[8] == '"');
    }
    return NULL;
}

char *charset_of(const char *content_type)
{
    const char *value = content_type ? find_value(content_type) : NULL;
    size_t n = value ? strcspn(value, "\"; \t") : 0;
    char *name;

    if (n == 0 || n > NAME_MAX_LEN)
        return NULL;
    name = xstrndup(value, n);
    if (strcasecmp(name, "utf-8") == 0 || strcasecmp(name, "utf8") == 0) {
        free(name);
        return NULL;
    }
    return name;
}

/* Python's usual names that iconv does not know. */
static const char *iconv_name(const char *name)
{
    static const char *const names[][2] = {{"latin-1", "ISO-8859-1"}, {"latin_1", "ISO-8859-1"},
                                           {"ascii", "US-ASCII"},     {"utf16", "UTF-16"},
                                           {"utf_16", "UTF-16"},      {"utf32", "UTF-32"}};

    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (strcasecmp(name, names[i][0]) == 0)
            return names[i][1];
    return name;
}

int charset_to_utf8(const char *charset, const char *text, size_t n, struct buf *out, struct err *e)
{
    char *in = (char *)text, chunk[4096];
    iconv_t cd = NULL;
    bool ok = !strpbrk(charset, "/,"); /* behind them iconv has options */

    if (ok)
        cd = iconv_open("UTF-8", iconv_name(charset));
    if (!ok || (intptr_t)cd == -1)
        return err_set(e, EINVAL, "the charset %s is not known", charset);
    while (ok && n > 0) {
        char *to = chunk;
        size_t room = sizeof(chunk);

        ok = iconv(cd, &in, &n, &to, &room) != (size_t)-1 || errno == E2BIG;
        buf_put(out, chunk, sizeof(chunk) - room);
    }
    iconv_close(cd);
    return ok ? 0 : err_set(e, EINVAL, "the text is not in %s", charset);
}
