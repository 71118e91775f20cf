#include "comfy/job_card.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "comfy/splice.h"

#define TEXT_MAX 1024         /* characters of a text that is shown */
#define ERROR_MAX (16u << 10) /* bytes of an error beyond which a list shows it without the node's inputs */

/* --- outputs --- */

static bool ends_in(struct json v, const char *const *endings)
{
    struct buf b = BUF_INIT;
    bool yes = false;

    if (json_str(v, &b) < 0)
        return false;
    for (; *endings && !yes; endings++) {
        size_t n = strlen(*endings);

        yes = b.len >= n && strncasecmp(b.data + b.len - n, *endings, n) == 0;
    }
    buf_free(&b);
    return yes;
}

static bool is_3d(struct json name)
{
    static const char *const endings[] = {".obj", ".fbx", ".gltf", ".glb", ".usdz", NULL};

    return ends_in(name, endings);
}

static bool is_text_file(struct json name)
{
    static const char *const endings[] = {".txt", ".md", ".json", NULL};

    return ends_in(name, endings);
}

static bool begins(struct json v, const char *prefix)
{
    size_t n = strlen(prefix);

    return json_type(v) == JSON_STRING && v.n > n + 1 && memcmp(v.p + 1, prefix, n) == 0;
}

static bool is_previewable(struct json key, struct json item)
{
    static const char *const keys[] = {"images", "video", "audio", "3d", "text"};
    struct json format = json_get(item, "format"), name = json_get(item, "filename");

    for (size_t i = 0; i < ARRAY_LEN(keys); i++)
        if (json_str_eq(key, keys[i]))
            return true;
    if (json_type(item) == JSON_STRING)
        return true; /* the name of a 3D file */
    return begins(format, "video/") || begins(format, "audio/") || is_3d(name) || is_text_file(name);
}

/* What may stand for the whole job, best first. */
enum rank { RANK_SAVED, RANK_OTHER, RANK_TEXT_FILE, RANK_TEXT, RANKS };

struct preview {
    struct json node, key, item; /* no item: none */
};

struct summary {
    unsigned count, previewable;
    struct preview best[RANKS];
};

static void offer(struct summary *s, enum rank r, struct json node, struct json key, struct json item)
{
    if (s->best[r].item.p == NULL)
        s->best[r] = (struct preview){node, key, item};
}

static void look_at_item(struct summary *s, struct json node, struct json key, struct json item)
{
    bool object = json_type(item) == JSON_OBJECT, named_3d = json_type(item) == JSON_STRING && is_3d(item);

    if (!object && !named_3d) {
        if (json_str_eq(key, "text") && !json_is_null(item))
            offer(s, RANK_TEXT, node, key, item);
        return;
    }
    s->count++;
    if (!is_previewable(key, item))
        return;
    s->previewable++;
    if (json_str_eq(key, "text") || (object && is_text_file(json_get(item, "filename"))))
        offer(s, RANK_TEXT_FILE, node, key, item);
    else if (named_3d || json_str_eq(json_get(item, "type"), "output"))
        offer(s, RANK_SAVED, node, key, item);
    else
        offer(s, RANK_OTHER, node, key, item);
}

static void summarise(struct summary *s, struct json outputs)
{
    struct json_iter nodes = json_iter(outputs);
    struct json node, keys, key, items, none, item;

    while (json_next(&nodes, &node, &keys)) {
        struct json_iter it = json_iter(keys);

        while (json_type(keys) == JSON_OBJECT && json_next(&it, &key, &items)) {
            struct json_iter each = json_iter(items);

            if (json_type(items) != JSON_ARRAY || json_str_eq(key, "animated"))
                continue;
            while (json_next(&each, &none, &item))
                look_at_item(s, node, key, item);
        }
    }
}

/* --- the preview --- */

static void put_3d(struct buf *b, struct json name, const char *end)
{
    buf_puts(b, "{\"filename\": ");
    json_put(b, name);
    buf_printf(b, ", \"type\": \"output\", \"subfolder\": \"\", \"mediaType\": \"3d\"%s", end);
}

/* Cut after so many characters, not in one. */
static size_t text_cut(const char *s, size_t n)
{
    size_t chars = 0, i = 0;

    for (; i < n; i++)
        if (((unsigned char)s[i] & 0xc0) != 0x80 && chars++ == TEXT_MAX)
            break;
    return i;
}

static void put_text(struct buf *b, struct json item)
{
    struct buf text = BUF_INIT;
    size_t n;

    if (json_str(item, &text) < 0)
        buf_put(&text, item.p, item.n);
    n = text_cut(buf_str(&text), text.len);
    buf_puts(b, "{\"content\": ");
    json_put_strn(b, buf_str(&text), n);
    if (n < text.len)
        buf_puts(b, ", \"truncated\": true");
    buf_free(&text);
}

/* The entry's own members, but for those that are put behind them. */
static bool put_members(struct buf *b, struct json item)
{
    struct json_iter it = json_iter(item);
    struct json k, v;
    bool typed = false, any = false;

    buf_putc(b, '{');
    while (json_next(&it, &k, &v)) {
        bool media = json_str_eq(k, "mediaType");

        if (json_str_eq(k, "nodeId") || (media && json_type(v) != JSON_STRING))
            continue;
        typed = typed || media;
        buf_puts(b, any ? ", " : "");
        json_put(b, k);
        buf_puts(b, ": ");
        json_put(b, v);
        any = true;
    }
    buf_puts(b, any ? ", " : "");
    return typed;
}

static void put_preview(struct buf *b, enum rank r, const struct preview *p)
{
    bool typed = false;

    if (r == RANK_TEXT) {
        put_text(b, p->item);
        buf_puts(b, ", ");
    } else if (json_type(p->item) == JSON_STRING) {
        put_3d(b, p->item, ", ");
        typed = true;
    } else {
        typed = put_members(b, p->item);
    }
    buf_puts(b, "\"nodeId\": ");
    json_put(b, p->node);
    if (!typed) {
        buf_puts(b, ", \"mediaType\": ");
        json_put(b, p->key);
    }
    buf_putc(b, '}');
}

/* --- the error --- */

static const struct {
    const char *key, *otherwise;
    enum json_type type;
} needed[] = {
    {"node_id", "\"\"", JSON_STRING},
    {"node_type", "\"\"", JSON_STRING},
    {"exception_message", "\"\"", JSON_STRING},
    {"exception_type", "\"Error\"", JSON_STRING},
    {"traceback", "[]", JSON_ARRAY},
};

/* A number where a name is to stand: its digits. */
static void put_as(struct buf *b, struct json v, size_t i)
{
    if (needed[i].type == JSON_STRING && json_type(v) == JSON_NUMBER)
        json_put_strn(b, v.p, v.n);
    else
        buf_puts(b, needed[i].otherwise);
}

static void put_error(struct buf *b, struct json data)
{
    bool large = data.n > ERROR_MAX;
    struct json_iter it = json_iter(data);
    struct json k, v;
    unsigned have = 0;

    buf_putc(b, '{');
    while (json_next(&it, &k, &v)) {
        size_t i = 0;

        while (i < ARRAY_LEN(needed) && !json_str_eq(k, needed[i].key))
            i++;
        if ((large && json_str_eq(k, "current_inputs")) || (i < ARRAY_LEN(needed) && have & 1u << i))
            continue;
        json_put(b, k);
        buf_puts(b, ": ");
        if (i == ARRAY_LEN(needed) || json_type(v) == needed[i].type)
            json_put(b, v);
        else
            put_as(b, v, i);
        buf_puts(b, ", ");
        if (i < ARRAY_LEN(needed))
            have |= 1u << i;
    }
    for (size_t i = 0; i < ARRAY_LEN(needed); i++)
        if (!(have & 1u << i))
            buf_printf(b, "\"%s\": %s, ", needed[i].key, needed[i].otherwise);
    b->len -= 2;
    buf_putc(b, '}');
}

/* --- the whole --- */

struct times {
    struct json start, end, error;
};

static struct times read_messages(struct json status)
{
    struct json_iter it = json_iter(json_get(status, "messages"));
    struct json none, m;
    struct times t = {{0}, {0}, {0}};

    while (json_next(&it, &none, &m)) {
        struct json type = json_at(m, 0), data = json_at(m, 1), at = json_get(data, "timestamp");
        bool error = json_str_eq(type, "execution_error");

        if (json_type(m) != JSON_ARRAY || json_type(data) != JSON_OBJECT)
            continue;
        if (json_str_eq(type, "execution_start"))
            t.start = at;
        else if (error || json_str_eq(type, "execution_success") ||
                 json_str_eq(type, "execution_interrupted"))
            t.end = at;
        if (error)
            t.error = data;
    }
    return t;
}

static void put_time(struct buf *b, const char *key, struct json at)
{
    if (json_type(at) != JSON_NUMBER)
        return;
    buf_printf(b, "\"%s\": ", key);
    json_put(b, at);
    buf_puts(b, ", ");
}

void job_card_put(struct buf *b, struct json outputs, struct json status)
{
    struct times t = read_messages(status);
    struct summary s = {0};

    summarise(&s, outputs);
    put_time(b, "execution_start_time", t.start);
    put_time(b, "execution_end_time", t.end);
    if (t.error.p) {
        buf_puts(b, "\"execution_error\": ");
        put_error(b, t.error);
        buf_puts(b, ", ");
    }
    buf_printf(b, "\"outputs_count\": %u, \"previewable_outputs_count\": %u", s.count, s.previewable);
    for (enum rank r = RANK_SAVED; r < RANKS; r++)
        if (s.best[r].item.p) {
            buf_puts(b, ", \"preview_output\": ");
            put_preview(b, r, &s.best[r]);
            break;
        }
}

/* --- details --- */

static void edit_items(struct edits *e, struct json items)
{
    struct json_iter it = json_iter(items);
    struct json none, item;
    struct buf b = BUF_INIT;
    bool any = false, changed = false;

    buf_putc(&b, '[');
    while (json_next(&it, &none, &item)) {
        bool named_3d = json_type(item) == JSON_STRING && is_3d(item);

        changed = changed || named_3d || json_is_null(item);
        if (json_is_null(item))
            continue;
        buf_puts(&b, any ? ", " : "");
        any = true;
        if (named_3d)
            put_3d(&b, item, "}");
        else
            json_put(&b, item);
    }
    buf_putc(&b, ']');
    if (changed)
        edits_replace(e, items, buf_str(&b), b.len);
    buf_free(&b);
}

void job_card_put_outputs(struct buf *b, struct json outputs)
{
    struct json_iter nodes = json_iter(outputs);
    struct json node, keys, key, items;
    struct edits e = EDITS_INIT;

    if (json_type(outputs) != JSON_OBJECT) {
        buf_puts(b, "{}");
        return;
    }
    while (json_next(&nodes, &node, &keys)) {
        struct json_iter it = json_iter(keys);

        while (json_type(keys) == JSON_OBJECT && json_next(&it, &key, &items))
            if (json_type(items) == JSON_ARRAY && !json_str_eq(key, "animated"))
                edit_items(&e, items);
    }
    edits_put(&e, b, outputs);
    edits_fini(&e);
}
