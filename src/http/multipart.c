#include "http/multipart.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "http/http.h"
#include "http/http_char.h"

enum {
    BOUNDARY_MAX = 70, /* RFC 2046 §5.1.1 */
    HEAD_MAX = 16384,  /* all fields of one part */
    DELIM_MAX = BOUNDARY_MAX + 4
};

/* PREAMBLE and DATA look for "\r\n--boundary"; what follows it is TAIL.
 *
 *   PREAMBLE -> TAIL -+-> TAIL_LF -> HEAD -> DATA -> TAIL ...
 *                     +-> PAD (blanks) -> TAIL_LF
 *                     `-> DASH -> EPILOGUE
 */
enum state {
    MULTI_PREAMBLE,
    MULTI_TAIL,
    MULTI_PAD,
    MULTI_TAIL_LF,
    MULTI_DASH,
    MULTI_HEAD,
    MULTI_DATA,
    MULTI_EPILOGUE,
    MULTI_FAILED
};

struct multipart {
    struct multipart_handlers h;
    void *arg;
    enum state state;
    char delim[DELIM_MAX]; /* "\r\n--boundary". Only its first byte is a CR, so a match never restarts inside
                            */
    size_t delim_n, matched;
    size_t unreal; /* of matched: the line break that stands before the first line and is no data */
    struct buf head;
    size_t line; /* bytes of the line of the head that has begun */
    struct buf name, filename, type;
};

/* --- parameters: ; key=token or key="quoted" --- */

static const char *skip_blanks(const char *s)
{
    return s + strspn(s, " \t");
}

struct param {
    const char *key;
    size_t key_n;
    struct buf value; /* unquoted */
};

/* 1: one was read, *at moved; 0: the end; -1: not well formed. */
static int param_next(const char **at, struct param *p)
{
    const char *s = skip_blanks(*at);

    buf_clear(&p->value);
    if (*s == '\0')
        return 0;
    if (*s++ != ';')
        return -1;
    s = skip_blanks(s);
    if (*s == '\0') {
        *at = s;
        return 0; /* a trailing ';' */
    }
    p->key = s;
    while (http_is_tchar((unsigned char)*s))
        s++;
    p->key_n = (size_t)(s - p->key);
    s = skip_blanks(s);
    if (p->key_n == 0 || *s != '=')
        return -1;
    s = skip_blanks(s + 1);
    if (*s == '"') {
        for (s++; *s != '"'; s++) {
            if (*s == '\\' && s[1] > ' ')
                s++;
            if (*s == '\0')
                return -1;
            buf_putc(&p->value, *s);
        }
        s++;
    } else {
        size_t n = strcspn(s, "; \t\"");

        if (n == 0)
            return -1;
        buf_put(&p->value, s, n);
        s += n;
    }
    *at = s;
    return 1;
}

static bool param_is(const struct param *p, const char *key)
{
    return p->key_n == strlen(key) && strncasecmp(p->key, key, p->key_n) == 0;
}

/* RFC 8187: charset'language'percent-encoded. Out is UTF-8. */
static int ext_value(const char *s, struct buf *out)
{
    const char *lang = strchr(s, '\''), *text = lang ? strchr(lang + 1, '\'') : NULL;
    size_t n;

    if (text == NULL)
        return -1;
    text++;
    n = strlen(text);
    if (strncasecmp(s, "utf-8'", 6) == 0)
        return http_unescape(text, n, false, out);
    if (strncasecmp(s, "iso-8859-1'", 11) != 0)
        return -1;
    for (size_t i = 0; i < n; i++) {
        unsigned c = (unsigned char)text[i];

        if (c == '%') {
            int hi = i + 2 < n ? http_hex_value((unsigned char)text[i + 1]) : -1;
            int lo = i + 2 < n ? http_hex_value((unsigned char)text[i + 2]) : -1;

            if (hi < 0 || lo < 0 || (hi | lo) == 0)
                return -1;
            c = (unsigned)(hi << 4 | lo);
            i += 2;
        }
        if (c >= 0x80)
            buf_putc(out, (char)(0xc0 | c >> 6));
        buf_putc(out, (char)(c >= 0x80 ? 0x80 | (c & 0x3f) : c));
    }
    return 0;
}

/* --- making one --- */

static int boundary_find(const char *content_type, struct buf *out, struct err *e)
{
    static const char want[] = "multipart/form-data";
    const char *s = content_type ? skip_blanks(content_type) : "";
    struct param p = {0};
    int rc, n = 0;

    if (strncasecmp(s, want, sizeof(want) - 1) != 0)
        return err_set(e, EINVAL, "Content-Type is not multipart/form-data");
    s += sizeof(want) - 1;
    while ((rc = param_next(&s, &p)) > 0) {
        if (!param_is(&p, "boundary"))
            continue;
        buf_clear(out);
        buf_put(out, buf_str(&p.value), p.value.len);
        n++;
    }
    buf_free(&p.value);
    if (rc < 0)
        return err_set(e, EINVAL, "Content-Type is not well formed");
    if (n != 1 || out->len == 0 || out->len > BOUNDARY_MAX || out->data[out->len - 1] == ' ')
        return err_set(e, EINVAL, "multipart/form-data without one boundary of 1 to %d characters",
                       BOUNDARY_MAX);
    for (size_t i = 0; i < out->len; i++)
        if ((unsigned char)out->data[i] < ' ' || (unsigned char)out->data[i] >= 0x7f)
            return err_set(e, EINVAL, "the boundary holds a byte that has no place there");
    return 0;
}

struct multipart *multipart_new(const char *content_type, const struct multipart_handlers *h, void *arg,
                                struct err *e)
{
    struct buf boundary = BUF_INIT;
    struct multipart *m = NULL;

    if (boundary_find(content_type, &boundary, e) == 0) {
        m = xcalloc(1, sizeof(*m));
        m->h = *h;
        m->arg = arg;
        memcpy(m->delim, "\r\n--", 4);
        memcpy(m->delim + 4, boundary.data, boundary.len);
        m->delim_n = 4 + boundary.len;
        m->matched = m->unreal = 2;
    }
    buf_free(&boundary);
    return m;
}

void multipart_free(struct multipart **m)
{
    if (*m == NULL)
        return;
    buf_free(&(*m)->head);
    buf_free(&(*m)->name);
    buf_free(&(*m)->filename);
    buf_free(&(*m)->type);
    free(*m);
    *m = NULL;
}

/* --- the head of a part --- */

static int disposition(struct multipart *m, const char *s, struct multipart_part *part, struct err *e)
{
    bool have_name = false, have_plain = false, have_ext = false;
    struct param p = {0};
    int rc;

    while (http_is_tchar((unsigned char)*s))
        s++;
    while ((rc = param_next(&s, &p)) > 0) {
        bool *seen = param_is(&p, "name")        ? &have_name
                     : param_is(&p, "filename")  ? &have_plain
                     : param_is(&p, "filename*") ? &have_ext
                                                 : NULL;
        struct buf *to = seen == &have_name ? &m->name : &m->filename;

        if (seen == NULL)
            continue;
        if (*seen) {
            rc = -1;
            break;
        }
        *seen = true;
        if (seen == &have_plain && have_ext)
            continue; /* filename* counts (RFC 6266 §4.3), in whatever order they come */
        buf_clear(to);
        if (seen == &have_ext && ext_value(buf_str(&p.value), to) < 0) {
            rc = -1;
            break;
        }
        if (seen != &have_ext)
            buf_put(to, buf_str(&p.value), p.value.len);
    }
    buf_free(&p.value);
    if (rc < 0)
        return err_set(e, EINVAL, "Content-Disposition of a part is not well formed");
    if (!http_is_utf8(buf_str(&m->name), m->name.len) ||
        !http_is_utf8(buf_str(&m->filename), m->filename.len))
        return err_set(e, EINVAL, "a name in Content-Disposition is not UTF-8");
    part->name = buf_str(&m->name);
    part->filename = have_plain || have_ext ? buf_str(&m->filename) : NULL;
    return 0;
}

/* line is NUL-terminated and holds no CR, LF or NUL. */
static int head_field(struct multipart *m, char *line, struct multipart_part *part, struct err *e)
{
    char *colon = strchr(line, ':'), *value, *end = line + strlen(line);

    if (*line == ' ' || *line == '\t' || colon == NULL || !http_is_token(line, (size_t)(colon - line)))
        return err_set(e, EINVAL, "a part has a line that is no field");
    *colon = '\0';
    value = colon + 1 + strspn(colon + 1, " \t");
    while (end > value && (end[-1] == ' ' || end[-1] == '\t'))
        *--end = '\0';
    if (strcasecmp(line, "Content-Disposition") == 0) {
        if (part->name)
            return err_set(e, EINVAL, "a part has more than one Content-Disposition");
        return disposition(m, value, part, e);
    }
    if (strcasecmp(line, "Content-Type") == 0) {
        buf_clear(&m->type);
        buf_puts(&m->type, value);
        part->type = buf_str(&m->type);
    } else if (strcasecmp(line, "Content-Transfer-Encoding") == 0 ||
               strcasecmp(line, "Content-Encoding") == 0) {
        /* RFC 7578 §4.7 does away with them. Passing coded bytes off as the file would be worse than an
         * error. */
        static const char *const same[] = {"binary", "8bit", "7bit", "identity"};

        for (size_t i = 0; i < ARRAY_LEN(same); i++)
            if (strcasecmp(value, same[i]) == 0)
                return 0;
        return err_set(e, ENOTSUP, "a part is encoded as %.32s, which is not supported", value);
    }
    return 0;
}

static int head_done(struct multipart *m, struct err *e)
{
    struct multipart_part part = {0};
    char *line = m->head.data;
    int rc = 0;

    buf_clear(&m->name);
    buf_clear(&m->filename);
    while (rc == 0 && strcmp(line, "\r\n") != 0) {
        char *next = strchr(line, '\r') + 2;

        next[-2] = '\0';
        rc = head_field(m, line, &part, e);
        line = next;
    }
    if (part.name == NULL)
        part.name = "";
    if (rc == 0)
        rc = m->h.on_part ? m->h.on_part(&part, m->arg, e) : 0;
    buf_free(&m->head);
    m->state = MULTI_DATA;
    m->matched = m->unreal = 2; /* an empty part may share the line break with its boundary */
    return rc;
}

/* Bytes of a head, up to its end. */
static int push_head(struct multipart *m, const char *s, size_t n, size_t *used, struct err *e)
{
    size_t i = 0;
    bool whole = false;

    while (i < n && !whole) {
        unsigned char c = (unsigned char)s[i++];
        char before = i > 1 ? s[i - 2] : m->head.len ? m->head.data[m->head.len - 1] : '\0';

        if ((c == '\n') != (before == '\r') || (!http_is_vchar(c) && c != '\r' && c != '\n'))
            return err_set(e, EINVAL, "the head of a part holds a byte that has no place there");
        if (m->head.len + i > HEAD_MAX)
            return err_set(e, EMSGSIZE, "the head of a part is larger than %d bytes", HEAD_MAX);
        if (c == '\n') {
            whole = m->line == 1;
            m->line = 0;
        } else {
            m->line++;
        }
    }
    buf_put(&m->head, s, i);
    *used += i;
    return whole ? head_done(m, e) : 0;
}

/* --- preamble and data --- */

static int emit(struct multipart *m, const char *s, size_t n, struct err *e)
{
    return m->state == MULTI_DATA && n > 0 && m->h.on_data ? m->h.on_data(s, n, m->arg, e) : 0;
}

/* Bytes up to the next delimiter. What was matched of one in an earlier piece and came to nothing is given
 * from our own copy. */
static int push_data(struct multipart *m, const char *s, size_t n, size_t *used, struct err *e)
{
    size_t i = 0, early = m->matched; /* of matched, how many bytes are not in s */

    while (i < n && m->matched < m->delim_n) {
        if (s[i] == m->delim[m->matched]) {
            m->matched++;
            i++;
            continue;
        }
        if (early && emit(m, m->delim + m->unreal, early - m->unreal, e) < 0)
            return -1;
        early = m->unreal = 0;
        if (m->matched > 0) {
            m->matched = 0; /* look at s[i] again */
        } else {
            const char *cr = memchr(s + i, '\r', n - i);

            i = cr ? (size_t)(cr - s) : n;
        }
    }
    *used += i;
    if (emit(m, s, i - (m->matched - early), e) < 0)
        return -1;
    if (m->matched < m->delim_n)
        return 0;
    if (m->state == MULTI_DATA && m->h.on_part_end && m->h.on_part_end(m->arg, e) < 0)
        return -1;
    m->state = MULTI_TAIL;
    m->unreal = 0;
    return 0;
}

/* One byte after a delimiter. */
static int push_tail(struct multipart *m, char c, struct err *e)
{
    switch (m->state) {
    case MULTI_TAIL:
        if (c == '-') {
            m->state = MULTI_DASH;
            return 0;
        }
        __attribute__((fallthrough));
    case MULTI_PAD:
        if (c != '\r' && c != ' ' && c != '\t')
            break;
        m->state = c == '\r' ? MULTI_TAIL_LF : MULTI_PAD;
        return 0;
    case MULTI_TAIL_LF:
        if (c != '\n')
            break;
        m->state = MULTI_HEAD;
        m->line = 0;
        return 0;
    default: /* MULTI_DASH */
        if (c != '-')
            break;
        m->state = MULTI_EPILOGUE;
        return 0;
    }
    return err_set(e, EINVAL, "a boundary is followed by something else than the end of the line");
}

int multipart_push(struct multipart *m, const void *data, size_t n, struct err *e)
{
    const char *s = data;
    size_t used = 0;
    int rc = 0;

    if (m->state == MULTI_FAILED)
        return err_set(e, EINVAL, "the form was refused before");
    while (rc == 0 && used < n && m->state != MULTI_EPILOGUE) {
        switch (m->state) {
        case MULTI_PREAMBLE:
        case MULTI_DATA: rc = push_data(m, s + used, n - used, &used, e); break;
        case MULTI_HEAD: rc = push_head(m, s + used, n - used, &used, e); break;
        default: rc = push_tail(m, s[used++], e); break;
        }
    }
    if (rc < 0)
        m->state = MULTI_FAILED;
    return rc;
}

int multipart_finish(struct multipart *m, struct err *e)
{
    switch (m->state) {
    case MULTI_EPILOGUE: return 0;
    case MULTI_FAILED: return err_set(e, EINVAL, "the form was refused before");
    case MULTI_PREAMBLE: return err_set(e, EINVAL, "the form does not begin with its boundary");
    default: return err_set(e, EINVAL, "the form ends before its closing boundary");
    }
}
