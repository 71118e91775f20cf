/* Reading a configuration file. libyaml gives a tree in which every node knows where it began, so every fault
 * has its line; two passes:
 *
 *   events    syntax, and what we do not take: aliases, anchors, tags, deep nesting. Only here can an alias
 * be told from the node it stands for. document  walked along the table of keys.
 */
#include "cli/config.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <yaml.h>

#include "base/mem.h"
#include "cli/opts.h"

#define MAX_DEPTH 16

struct reader {
    struct config *c;
    const char *dir;
    struct config_faults *f;
    yaml_document_t doc;
    bool *seen; /* by node: reached before, so this is an alias, which the first pass reported */
};

/* ---- faults ---- */

void config_faults_fini(struct config_faults *f)
{
    for (size_t i = 0; i < f->n; i++) {
        free(f->v[i].key);
        free(f->v[i].msg);
    }
    free(f->v);
    *f = (struct config_faults){0};
}

/* A copy that leaves a terminal's controls alone. */
static char *printable(const char *s)
{
    char *copy = xstrdup(s);

    for (char *p = copy; *p; p++)
        if ((unsigned char)*p < ' ' || *p == 0x7f)
            *p = '?';
    return copy;
}

static void fault(struct config_faults *f, yaml_mark_t at, const char *key, const char *fmt, ...)
    PRINTF_LIKE(4, 5);

static void fault(struct config_faults *f, yaml_mark_t at, const char *key, const char *fmt, ...)
{
    struct err e;
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(e.msg, sizeof(e.msg), fmt, ap);
    va_end(ap);
    if (f->n == f->cap) {
        f->cap = f->cap ? 2 * f->cap : 8;
        f->v = xrealloc(f->v, f->cap * sizeof(f->v[0]));
    }
    f->v[f->n++] = (struct config_fault){(unsigned)at.line + 1, (unsigned)at.column + 1, printable(key),
                                         printable(e.msg)};
}

static int by_place(const void *a, const void *b)
{
    const struct config_fault *x = a, *y = b;

    if (x->line != y->line)
        return x->line < y->line ? -1 : 1;
    return x->column < y->column ? -1 : x->column > y->column;
}

void config_faults_put(const struct config_faults *f, const char *name, struct buf *out)
{
    for (size_t i = 0; i < f->n; i++)
        buf_printf(out, "%s:%u: %s: %s\n", name, f->v[i].line, f->v[i].key, f->v[i].msg);
}

/* ---- first pass ---- */

/* libyaml says where bytes went wrong as an offset only. */
static yaml_mark_t mark_of(const char *text, size_t len, size_t offset)
{
    yaml_mark_t m = {0};

    for (size_t i = 0; i < len && i < offset; i++) {
        m.column++;
        if (text[i] == '\n') {
            m.line++;
            m.column = 0;
        }
    }
    return m;
}

/* At the end of a file libyaml counts one line more than there is. */
static void clamp_to_text(yaml_mark_t *m, const char *text, size_t len)
{
    size_t last = 0;

    for (size_t i = 0; i + 1 < len; i++)
        last += text[i] == '\n';
    if (m->line > last) {
        m->line = last;
        m->column = 0;
    }
}

static void syntax_fault(const yaml_parser_t *p, const char *text, size_t len, struct config_faults *f)
{
    const char *problem = p->problem ? p->problem : "cannot be read";
    yaml_mark_t at = p->problem_mark;
    bool tab;

    if (p->error == YAML_READER_ERROR) {
        fault(f, mark_of(text, len, p->problem_offset), "syntax", "%s", problem);
        return;
    }
    clamp_to_text(&at, text, len);
    tab = strstr(problem, "cannot start any token") && at.index < len && text[at.index] == '\t';
    if (tab)
        fault(f, at, "syntax", "a tab cannot indent; use spaces");
    else if (p->context && p->context_mark.line < at.line)
        fault(f, at, "syntax", "%s (%s that began on line %u)", problem, p->context,
              (unsigned)p->context_mark.line + 1);
    else
        fault(f, at, "syntax", "%s", problem);
}

static void refuse_alias(struct config_faults *f, yaml_mark_t at, char sign, const yaml_char_t *name)
{
    char key[64];

    snprintf(key, sizeof(key), "%c%s", sign, (const char *)name);
    fault(f, at, key, "anchors and aliases are not supported");
}

static void refuse_extras(const yaml_event_t *ev, struct config_faults *f)
{
    const yaml_char_t *anchor = NULL, *tag = NULL;

    switch (ev->type) {
    case YAML_ALIAS_EVENT: refuse_alias(f, ev->start_mark, '*', ev->data.alias.anchor); return;
    case YAML_SCALAR_EVENT:
        anchor = ev->data.scalar.anchor;
        tag = ev->data.scalar.tag;
        break;
    case YAML_SEQUENCE_START_EVENT:
        anchor = ev->data.sequence_start.anchor;
        tag = ev->data.sequence_start.tag;
        break;
    case YAML_MAPPING_START_EVENT:
        anchor = ev->data.mapping_start.anchor;
        tag = ev->data.mapping_start.tag;
        break;
    default: return;
    }
    if (anchor)
        refuse_alias(f, ev->start_mark, '&', anchor);
    if (tag)
        fault(f, ev->start_mark, (const char *)tag, "tags are not supported");
}

/* -1: not even a tree can be made of it. */
static int scan(const char *text, size_t len, struct config_faults *f)
{
    yaml_parser_t p;
    yaml_event_t ev;
    int depth = 0, documents = 0, end = 0;

    if (!yaml_parser_initialize(&p))
        abort(); /* out of memory */
    yaml_parser_set_input_string(&p, (const unsigned char *)text, len);
    while (!end) {
        if (!yaml_parser_parse(&p, &ev)) {
            syntax_fault(&p, text, len, f);
            end = -1;
            break;
        }
        refuse_extras(&ev, f);
        if (ev.type == YAML_DOCUMENT_START_EVENT && ++documents == 2) {
            fault(f, ev.start_mark, "syntax", "a second document begins here; a configuration is one");
            end = -1;
        } else if (ev.type == YAML_SEQUENCE_START_EVENT || ev.type == YAML_MAPPING_START_EVENT) {
            if (++depth > MAX_DEPTH) {
                fault(f, ev.start_mark, "syntax", "nested deeper than %d levels", MAX_DEPTH);
                end = -1;
            }
        } else if (ev.type == YAML_SEQUENCE_END_EVENT || ev.type == YAML_MAPPING_END_EVENT) {
            depth--;
        } else if (ev.type == YAML_STREAM_END_EVENT) {
            end = 1;
        }
        yaml_event_delete(&ev);
    }
    yaml_parser_delete(&p);
    return end < 0 ? -1 : 0;
}

/* ---- nodes ---- */

static yaml_node_t *node_at(struct reader *r, int i)
{
    return yaml_document_get_node(&r->doc, i);
}

/* The text of a scalar; NULL when it is none. */
static const char *text_of(const yaml_node_t *n)
{
    return n->type == YAML_SCALAR_NODE ? (const char *)n->data.scalar.value : NULL;
}

static bool is_plain(const yaml_node_t *n)
{
    return n->type == YAML_SCALAR_NODE && n->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
}

static bool is_null(const yaml_node_t *n)
{
    const char *s = text_of(n);

    return is_plain(n) &&
           (!s[0] || !strcmp(s, "~") || !strcmp(s, "null") || !strcmp(s, "Null") || !strcmp(s, "NULL"));
}

static const char *shape_of(const yaml_node_t *n)
{
    if (n->type == YAML_MAPPING_NODE)
        return "a mapping";
    if (n->type == YAML_SEQUENCE_NODE)
        return "a list";
    return is_null(n) ? "nothing" : is_plain(n) ? "a plain value" : "quoted text";
}

static bool first_visit(struct reader *r, int i)
{
    bool first = !r->seen[i];

    r->seen[i] = true;
    return first;
}

/* Text without NUL inside (which would hide its end from the checks). */
static const char *want_text(struct reader *r, const yaml_node_t *n, const char *key)
{
    if (n->type != YAML_SCALAR_NODE || is_null(n)) {
        fault(r->f, n->start_mark, key, "must be text, not %s", shape_of(n));
        return NULL;
    }
    if (strlen(text_of(n)) != n->data.scalar.length) {
        fault(r->f, n->start_mark, key, "must not hold a NUL");
        return NULL;
    }
    return text_of(n);
}

/* ---- keys of a mapping ---- */

/* The key's text when it can be one and stands here for the first time, else NULL after a fault. prefix is
 * "", "timeout." or "servers[0].". */
static const char *want_key(struct reader *r, const yaml_node_t *map, const yaml_node_pair_t *pair,
                            const char *prefix)
{
    const yaml_node_t *k = node_at(r, pair->key);
    const char *s = text_of(k);
    char *path;

    if (!s || strlen(s) != k->data.scalar.length) {
        char *where = prefix[0] ? xstrndup(prefix, strlen(prefix) - 1) : xstrdup("top level");

        fault(r->f, k->start_mark, where, "a key must be a word, not %s",
              s ? "text with a NUL" : shape_of(k));
        free(where);
        return NULL;
    }
    path = xasprintf("%s%s", prefix, s);
    if (strcmp(s, "<<") == 0 && is_plain(k)) {
        fault(r->f, k->start_mark, path, "merge keys are not supported");
        s = NULL;
    }
    for (const yaml_node_pair_t *q = map->data.mapping.pairs.start; s && q < pair; q++) {
        const yaml_node_t *other = node_at(r, q->key);

        if (text_of(other) && strcmp(text_of(other), s) == 0) {
            fault(r->f, k->start_mark, path, "given twice, first on line %u",
                  (unsigned)other->start_mark.line + 1);
            s = NULL;
        }
    }
    free(path);
    return s;
}

static const char *last_part(const char *key)
{
    const char *dot = strrchr(key, '.');

    return dot ? dot + 1 : key;
}

/* The key that was probably meant: a few letters off, or the right word in the wrong place. */
static const char *nearest_key(const char *path)
{
    const char *best = NULL;
    unsigned least = strlen(path) < 5 ? 2 : 3;

    for (size_t i = 0; i < config_n_keys; i++) {
        const char *key = config_keys[i].key;
        unsigned d = cli_distance(path, key);

        if (d < least) {
            least = d;
            best = key;
        }
    }
    for (size_t i = 0; i < config_n_keys && !best; i++)
        if (strcmp(last_part(config_keys[i].key), last_part(path)) == 0)
            best = config_keys[i].key;
    return best;
}

static void unknown_key(struct reader *r, const yaml_node_t *k, const char *path)
{
    const struct config_key *dotted = config_key_find(path);
    const char *meant = nearest_key(path);

    if (dotted)
        fault(r->f, k->start_mark, path, "write it as %.*s: {%s: ...}", (int)(last_part(path) - 1 - path),
              path, last_part(path));
    else if (meant)
        fault(r->f, k->start_mark, path, "unknown key; did you mean %s?", meant);
    else
        fault(r->f, k->start_mark, path, "unknown key");
}

/* ---- values ---- */

static void read_scalar(struct reader *r, const struct config_key *k, const yaml_node_t *n)
{
    bool text = k->type == CONFIG_STRING || k->type == CONFIG_PATH;
    const char *s = text_of(n);
    char *path = NULL;
    struct err e;

    if (is_null(n)) {
        fault(r->f, n->start_mark, k->key, "has no value; leave the key out for the default");
        return;
    }
    if (!s) {
        fault(r->f, n->start_mark, k->key, "must be %s%s, not %s",
              text                        ? ""
              : k->type == CONFIG_INTEGER ? "an "
                                          : "a ",
              text ? "text" : config_type_name(k->type), shape_of(n));
        return;
    }
    if (k->type == CONFIG_INTEGER && !is_plain(n)) {
        fault(r->f, n->start_mark, k->key, "must be an integer, not quoted text");
        return;
    }
    s = want_text(r, n, k->key);
    if (s && k->type == CONFIG_PATH && s[0] && s[0] != '/' && r->dir)
        s = path = xasprintf("%s/%s", r->dir, s);
    if (s && config_set(r->c, k->key, s, &e) < 0)
        fault(r->f, n->start_mark, k->key, "%s", e.msg);
    free(path);
}

/* Every element that is well; faults name the element. */
static void read_strings(struct reader *r, struct config_strings *out, const yaml_node_t *n, const char *key,
                         int (*check)(const char *s, struct err *e))
{
    if (is_null(n))
        return;
    if (n->type != YAML_SEQUENCE_NODE) {
        fault(r->f, n->start_mark, key, "must be a list of strings, not %s", shape_of(n));
        return;
    }
    for (const yaml_node_item_t *it = n->data.sequence.items.start; it < n->data.sequence.items.top; it++) {
        const yaml_node_t *v = node_at(r, *it);
        char *path = xasprintf("%s[%u]", key, (unsigned)(it - n->data.sequence.items.start));
        const char *s = first_visit(r, *it) ? want_text(r, v, path) : NULL;
        struct err e;

        if (s && check && check(s, &e) < 0) {
            fault(r->f, v->start_mark, path, "%s", e.msg);
            s = NULL;
        }
        free(path);
        if (!s)
            continue;
        out->v = xrealloc(out->v, (out->n + 1) * sizeof(char *));
        out->v[out->n++] = xstrdup(s);
    }
}

static int check_tag(const char *s, struct err *e)
{
    size_t n = strlen(s);

    if (n == 0 || n > 64)
        return err_set(e, EINVAL, "a tag has 1 to 64 characters");
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)s[i] <= ' ' || s[i] == ',' || s[i] == 0x7f)
            return err_set(e, EINVAL, "a tag holds no space, comma or control character");
    return 0;
}

static const struct config_key depth_key = {.key = "depth", .type = CONFIG_INTEGER, .min = 1, .max = 64};

static void read_server_depth(struct reader *r, struct config_server *s, const yaml_node_t *n,
                              const char *path)
{
    long long v;
    char *end;

    errno = 0;
    v = is_plain(n) ? strtoll(text_of(n), &end, 10) : 0;
    if (!is_plain(n) || is_null(n) || *end || strspn(text_of(n), "-0123456789") != strlen(text_of(n)))
        fault(r->f, n->start_mark, path, "must be an integer, not %s", shape_of(n));
    else if (errno || v < depth_key.min || v > depth_key.max)
        fault(r->f, n->start_mark, path, "must be from %lld to %lld, not %.60s", (long long)depth_key.min,
              (long long)depth_key.max, text_of(n));
    else
        s->depth = v;
}

static void read_server_key(struct reader *r, struct config_server *s, const char *key, const yaml_node_t *k,
                            const yaml_node_t *v, const char *path)
{
    const char *text;
    struct err e;

    if (strcmp(key, "name") == 0) {
        text = want_text(r, v, path);
        if (text && config_check_name(text, &e) < 0)
            fault(r->f, v->start_mark, path, "%s", e.msg);
        else if (text)
            s->name = xstrdup(text);
    } else if (strcmp(key, "url") == 0) {
        text = want_text(r, v, path);
        if (text && config_check_url(text, NULL, &e) < 0)
            fault(r->f, v->start_mark, path, "%s", e.msg);
        s->url = text ? xstrdup(text) : NULL;
    } else if (strcmp(key, "depth") == 0) {
        read_server_depth(r, s, v, path);
    } else if (strcmp(key, "tags") == 0) {
        read_strings(r, &s->tags, v, path, check_tag);
    } else {
        fault(r->f, k->start_mark, path, "unknown key; a server has name, url, depth and tags");
    }
}

/* What two entries may not share, and where the first one stands. */
static void server_against_others(struct reader *r, const struct config_server *s, const yaml_node_t *n,
                                  const char *prefix)
{
    for (size_t i = 0; i < r->c->servers.n; i++) {
        const struct config_server *o = &r->c->servers.v[i];
        char *path;

        if (o->name && s->name && strcmp(o->name, s->name) == 0) {
            path = xasprintf("%sname", prefix);
            fault(r->f, n->start_mark, path, "\"%s\" is the name of servers[%zu] too", s->name, i);
            free(path);
        } else if (o->url && s->url && strcmp(o->url, s->url) == 0) {
            path = xasprintf("%surl", prefix);
            fault(r->f, n->start_mark, path,
                  "%s is servers[%zu] too; to give it more jobs at a time use depth", s->url, i);
            free(path);
        }
    }
}

static void read_server(struct reader *r, const yaml_node_t *n, size_t index)
{
    struct config_server s = {.depth = 1};
    char *prefix = xasprintf("servers[%zu].", index), *path = xasprintf("servers[%zu]", index);
    bool url = false;

    if (n->type != YAML_MAPPING_NODE) {
        fault(r->f, n->start_mark, path,
              "must be a mapping such as {name: gpu0, url: \"http://host:8188\"}, not %s", shape_of(n));
    } else {
        for (const yaml_node_pair_t *p = n->data.mapping.pairs.start; p < n->data.mapping.pairs.top; p++) {
            const char *key = want_key(r, n, p, prefix);
            char *where = xasprintf("%s%s", prefix, key ? key : "");

            url |= key && strcmp(key, "url") == 0;
            if (key && first_visit(r, p->value))
                read_server_key(r, &s, key, node_at(r, p->key), node_at(r, p->value), where);
            free(where);
        }
        if (!url)
            fault(r->f, n->start_mark, path, "has no url");
    }
    if (s.url && !s.name) {
        struct err e;

        if (config_check_url(s.url, &s.name, &e) == 0 && config_check_name(s.name, &e) < 0)
            fault(r->f, n->start_mark, path, "needs a name: its host and port cannot be one");
    }
    server_against_others(r, &s, n, prefix);
    /* Kept even if faulty, so that servers[n] in a later message is the nth of the file. */
    r->c->servers.v = xrealloc(r->c->servers.v, (r->c->servers.n + 1) * sizeof(s));
    r->c->servers.v[r->c->servers.n++] = s;
    free(prefix);
    free(path);
}

static void read_servers(struct reader *r, const yaml_node_t *n)
{
    size_t i = 0;

    if (is_null(n))
        return;
    if (n->type != YAML_SEQUENCE_NODE) {
        fault(r->f, n->start_mark, "servers", "must be a list of servers, not %s", shape_of(n));
        return;
    }
    for (const yaml_node_item_t *it = n->data.sequence.items.start; it < n->data.sequence.items.top;
         it++, i++)
        if (first_visit(r, *it))
            read_server(r, node_at(r, *it), i);
}

static void read_value(struct reader *r, const struct config_key *k, const yaml_node_t *n)
{
    if (k->type == CONFIG_SERVERS)
        read_servers(r, n);
    else if (k->type == CONFIG_STRINGS)
        read_strings(r, (struct config_strings *)(void *)((char *)r->c + k->at), n, k->key, k->check);
    else
        read_scalar(r, k, n);
}

/* prefix: "" or "timeout.". */
static void read_mapping(struct reader *r, const yaml_node_t *map, const char *prefix)
{
    for (const yaml_node_pair_t *p = map->data.mapping.pairs.start; p < map->data.mapping.pairs.top; p++) {
        const char *name = want_key(r, map, p, prefix);
        const yaml_node_t *v = node_at(r, p->value);
        char *path;
        const struct config_key *k;

        if (!name || !first_visit(r, p->value))
            continue;
        path = xasprintf("%s%s", prefix, name);
        k = strchr(name, '.') ? NULL : config_key_find(path);
        if (k) {
            read_value(r, k, v);
        } else if (!prefix[0] && config_is_section(name)) {
            char *inner = xasprintf("%s.", name);

            if (v->type == YAML_MAPPING_NODE)
                read_mapping(r, v, inner);
            else if (!is_null(v))
                fault(r->f, v->start_mark, name, "must be a mapping, not %s", shape_of(v));
            free(inner);
        } else {
            unknown_key(r, node_at(r, p->key), path);
        }
        free(path);
    }
}

static void read_document(struct reader *r, const char *text, size_t len)
{
    yaml_parser_t p;
    yaml_node_t *root;

    if (!yaml_parser_initialize(&p))
        abort();
    yaml_parser_set_input_string(&p, (const unsigned char *)text, len);
    if (!yaml_parser_load(&p, &r->doc)) {
        syntax_fault(&p, text, len, r->f); /* an alias of nothing, say, which the first pass let by */
        yaml_parser_delete(&p);
        return;
    }
    root = yaml_document_get_root_node(&r->doc);
    r->seen = xcalloc((size_t)(r->doc.nodes.top - r->doc.nodes.start) + 2, sizeof(bool));
    if (root && root->type == YAML_MAPPING_NODE) {
        r->seen[1] = true; /* the root is node 1 */
        read_mapping(r, root, "");
    } else if (root && !is_null(root)) {
        fault(r->f, root->start_mark, "top level", "must be a mapping of keys, not %s", shape_of(root));
    }
    free(r->seen);
    yaml_document_delete(&r->doc);
    yaml_parser_delete(&p);
}

int config_parse(struct config *c, const char *text, size_t len, const char *dir, struct config_faults *f)
{
    struct reader r = {.c = c, .dir = dir, .f = f};
    size_t before = f->n;

    if (scan(text, len, f) == 0)
        read_document(&r, text, len);
    if (f->n)
        qsort(f->v, f->n, sizeof(f->v[0]), by_place);
    return f->n > before ? -1 : 0;
}

int config_load(struct config *c, const char *path, struct config_faults *f, struct err *e)
{
    struct buf text = BUF_INIT;
    char *copy, *dir;
    int fault_found = -1;

    if (cli_read_all(path, CONFIG_FILE_MAX, &text, e) == 0) {
        copy = xstrdup(path);
        dir = realpath(dirname(copy), NULL);
        fault_found = config_parse(c, buf_str(&text), text.len, dir, f);
        err_set(e, 0, "%zu fault%s in %s", f->n, f->n == 1 ? "" : "s", path);
        free(dir);
        free(copy);
    }
    buf_free(&text);
    return fault_found;
}
