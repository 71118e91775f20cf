/* What belongs to the one user of single-user mode: settings and files, all below user/default. */
#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/uuid.h"
#include "sim/server_impl.h"

/* --- settings: comfy.settings.json, read anew at each request --- */

/* json.dumps(v, indent=4) */
static void put_indented(struct buf *b, const struct val *v, unsigned depth)
{
    int in = 4 * (int)(depth + 1);
    const char *sep = "";

    if (val_count(v) == 0) {
        val_put(b, v);
        return;
    }
    buf_putc(b, v->type == VAL_ARR ? '[' : '{');
    for (size_t i = 0; v->type == VAL_ARR && i < v->len; i++, sep = ",") {
        buf_printf(b, "%s\n%*s", sep, in, "");
        put_indented(b, v->item[i], depth + 1);
    }
    val_each(m, v)
    {
        buf_printf(b, "%s\n%*s", sep, in, "");
        json_put_strn(b, m->key, m->keylen);
        buf_puts(b, ": ");
        put_indented(b, m->value, depth + 1);
        sep = ",";
    }
    buf_printf(b, "\n%*s%c", in - 4, "", v->type == VAL_ARR ? ']' : '}');
}

static void settings_path(const struct sim_server *s, struct buf *path)
{
    (void)files_path(&s->files, FILES_USER, NULL, "comfy.settings.json", path);
}

static struct val *settings_read(const struct sim_server *s)
{
    struct buf path = BUF_INIT, text = BUF_INIT;
    struct val *v = NULL;

    settings_path(s, &path);
    if (files_read(path.data, &text, NULL) == 0)
        v = val_parse(buf_str(&text), text.len, NULL);
    buf_free(&path);
    buf_free(&text);
    return v ? v : val_obj();
}

/* Writes them and answers; takes v over. */
static void settings_write(const struct sim_server *s, struct http_req *r, struct val *v)
{
    struct buf path = BUF_INIT, text = BUF_INIT;

    settings_path(s, &path);
    put_indented(&text, v, 0);
    if (files_write(path.data, text.data, text.len, NULL) < 0)
        reply_500(r);
    else
        reply_empty(r, 200);
    val_free(v);
    buf_free(&path);
    buf_free(&text);
}

void get_settings(struct sim_server *s, struct http_req *r, const char *rest)
{
    struct val *v = settings_read(s);
    struct buf b = BUF_INIT;

    (void)rest;
    val_put(&b, v);
    val_free(v);
    reply_json(r, 200, &b);
}

void get_setting(struct sim_server *s, struct http_req *r, const char *rest)
{
    struct val *v = settings_read(s);
    const struct val *one = NULL;
    struct buf b = BUF_INIT, id = BUF_INIT;

    if (http_unescape(rest, strlen(rest), false, &id) == 0)
        one = val_getn(v, buf_str(&id), id.len);
    if (one)
        val_put(&b, one);
    else
        buf_puts(&b, "null");
    buf_free(&id);
    val_free(v);
    reply_json(r, 200, &b);
}

static void merge_settings(struct sim_server *s, struct http_req *r, struct json body)
{
    struct val *v = settings_read(s), *more = val_read(body);

    if (more->type == VAL_OBJ) {
        val_each(m, more) val_setn(v, m->key, m->keylen, val_copy(m->value));
        settings_write(s, r, v);
    } else {
        val_free(v);
        reply_500(r);
    }
    val_free(more);
}

void post_settings(struct sim_server *s, struct http_req *r, const char *rest)
{
    (void)rest;
    read_json(s, r, merge_settings, false);
}

static const char *last_segment(const struct http_req *r)
{
    return strrchr(http_req_path(r), '/') + 1;
}

static void set_setting(struct sim_server *s, struct http_req *r, struct json body)
{
    const char *last = last_segment(r);
    struct val *v = settings_read(s);
    struct buf id = BUF_INIT;

    if (http_unescape(last, strlen(last), false, &id) < 0) {
        val_free(v);
        reply_500(r);
    } else {
        val_setn(v, buf_str(&id), id.len, val_read(body));
        settings_write(s, r, v);
    }
    buf_free(&id);
}

void post_setting(struct sim_server *s, struct http_req *r, const char *rest)
{
    (void)rest;
    read_json(s, r, set_setting, false);
}

/* --- users: may be added, and then nobody asks for them --- */

void get_users(struct sim_server *s, struct http_req *r, const char *rest)
{
    (void)s;
    (void)rest;
    http_reply_str(r, 200, "application/json; charset=utf-8",
                   "{\"storage\": \"server\", \"migrated\": true}");
}

/* Letters, digits, - and _ stay, what stands between becomes one -; and a UUID. */
static void put_user_id(const struct sim_server *s, struct buf *id, const char *name)
{
    char uuid[UUID_SIZE];

    for (; *name; name++)
        if (isalnum((unsigned char)*name) || *name == '-' || *name == '_')
            buf_putc(id, *name);
        else if (id->len == 0 || id->data[id->len - 1] != '-')
            buf_putc(id, '-');
    uuid_v4((struct clock *)&s->clock, uuid);
    buf_printf(id, "_%s", uuid);
}

static void add_user(struct sim_server *s, struct http_req *r, struct json body)
{
    char *name = json_strdup(json_get(body, "username"));
    struct buf id = BUF_INIT, b = BUF_INIT;
    bool taken = false;

    val_each(m, s->users) taken = taken || (name && val_is_str(m->value, name));
    if (!name || !name[strspn(name, " \t\n")]) {
        reply_500(r);
    } else if (taken) {
        http_reply_str(r, 400, "application/json; charset=utf-8", "{\"error\": \"Duplicate username.\"}");
    } else {
        put_user_id(s, &id, name);
        val_set(s->users, id.data, val_str(name));
        json_put_str(&b, id.data);
        reply_json(r, 200, &b);
    }
    buf_free(&id);
    free(name);
}

void post_users(struct sim_server *s, struct http_req *r, const char *rest)
{
    (void)rest;
    read_json(s, r, add_user, false);
}

/* --- listings of files --- */

static bool query_is(const struct http_req *r, const char *key, const char *value)
{
    struct buf b = BUF_INIT;
    bool is = http_query_get(http_req_query(r), key, &b) && strcasecmp(buf_str(&b), value) == 0;

    buf_free(&b);
    return is;
}

struct entry {
    char *rel; /* from where the walk began */
    struct stat st;
    size_t order;
};
struct entries {
    struct entry *v;
    size_t n;
};

static void entries_free(struct entries *e)
{
    for (size_t i = 0; i < e->n; i++)
        free(e->v[i].rel);
    free(e->v);
}

/* What lies below path, as os.walk() goes: a folder's own folders, its files, then into the folders. Links are
 * not followed. */
static void walk(const char *path, const char *rel, bool deep, bool hidden, struct entries *out)
{
    struct dirent **names;
    int n = scandir(path, &names, NULL, alphasort);
    size_t first = out->n, last;

    for (int pass = 0; pass < 2 && n >= 0; pass++)
        for (int i = 0; i < n; i++) {
            const char *name = names[i]->d_name;
            char *full = xasprintf("%s/%s", path, name);
            struct entry e = {.order = out->n};

            if (strcmp(name, ".") != 0 && strcmp(name, "..") != 0 && (hidden || *name != '.') &&
                lstat(full, &e.st) == 0 && (pass == 0 ? S_ISDIR(e.st.st_mode) : S_ISREG(e.st.st_mode))) {
                e.rel = xasprintf("%s%s%s", rel, *rel ? "/" : "", name);
                out->v = xrealloc(out->v, (out->n + 1) * sizeof(*out->v));
                out->v[out->n++] = e;
            }
            free(full);
        }
    for (int i = 0; i < n; i++)
        free(names[i]);
    if (n >= 0)
        free(names);
    last = out->n;
    for (size_t i = first; deep && i < last && S_ISDIR(out->v[i].st.st_mode); i++) {
        const char *base = out->v[i].rel + (*rel ? strlen(rel) + 1 : 0);
        char *full = xasprintf("%s/%s", path, base), *below = xstrdup(out->v[i].rel);

        walk(full, below, true, hidden, out);
        free(below);
        free(full);
    }
}

static double seconds(struct timespec t)
{
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void put_info(struct jsonw *w, const char *rel, const struct stat *st)
{
    jsonw_obj(w);
    jsonw_kstr(w, "path", rel);
    jsonw_kint(w, "size", st->st_size);
    jsonw_key(w, "modified");
    jsonw_double(w, seconds(st->st_mtim));
    jsonw_key(w, "created");
    jsonw_double(w, seconds(st->st_ctim));
    jsonw_obj_end(w);
}

/* [path, part, part ...] */
static void put_split(struct jsonw *w, const char *rel)
{
    jsonw_arr(w);
    jsonw_str(w, rel);
    while (*rel) {
        size_t n = strcspn(rel, "/");

        jsonw_strn(w, rel, n);
        rel += n + (rel[n] == '/');
    }
    jsonw_arr_end(w);
}

static void reply_text(struct http_req *r, int status, const char *text)
{
    http_reply_str(r, status, "text/plain; charset=utf-8", text);
}

static void list_folder(struct http_req *r, const char *path)
{
    bool info = query_is(r, "full_info", "true"), split = query_is(r, "split", "true");
    struct entries e = {0};
    struct buf b = BUF_INIT;
    struct jsonw w;

    walk(path, "", query_is(r, "recurse", "true"), false, &e);
    jsonw_init(&w, &b);
    jsonw_arr(&w);
    for (size_t i = 0; i < e.n; i++) {
        if (!S_ISREG(e.v[i].st.st_mode))
            continue;
        if (info)
            put_info(&w, e.v[i].rel, &e.v[i].st);
        else if (split)
            put_split(&w, e.v[i].rel);
        else
            jsonw_str(&w, e.v[i].rel);
    }
    jsonw_arr_end(&w);
    entries_free(&e);
    reply_json(r, 200, &b);
}

void get_userdata_list(struct sim_server *s, struct http_req *r, const char *rest)
{
    struct buf dir = BUF_INIT, path = BUF_INIT;

    (void)rest;
    if (!http_query_get(http_req_query(r), "dir", &dir) || dir.len == 0)
        reply_text(r, 400, "Directory not provided");
    else if (!files_path(&s->files, FILES_USER, NULL, buf_str(&dir), &path))
        reply_text(r, 403, "Invalid directory");
    else if (access(path.data, F_OK) != 0)
        reply_text(r, 404, "Directory not found");
    else
        list_folder(r, path.data);
    buf_free(&dir);
    buf_free(&path);
}

static const char *name_of(const struct entry *e)
{
    const char *slash = strrchr(e->rel, '/');

    return slash ? slash + 1 : e->rel;
}

/* Folders before files, then by name without case; as walked otherwise. */
static int by_kind_and_name(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    int c = S_ISREG(x->st.st_mode) - S_ISREG(y->st.st_mode);

    if (c == 0)
        c = strcasecmp(name_of(x), name_of(y));
    return c ? c : x->order < y->order ? -1 : 1;
}

/* The listing of version 2: all below `path`, named from the user's folder. */
static void list_tree(struct http_req *r, const char *path, const char *from)
{
    struct entries e = {0};
    struct buf b = BUF_INIT;
    struct jsonw w;

    walk(path, from, true, true, &e);
    if (e.n > 1)
        qsort(e.v, e.n, sizeof(*e.v), by_kind_and_name);
    jsonw_init(&w, &b);
    jsonw_arr(&w);
    for (size_t i = 0; i < e.n; i++) {
        bool file = S_ISREG(e.v[i].st.st_mode);

        jsonw_obj(&w);
        jsonw_kstr(&w, "name", name_of(&e.v[i]));
        jsonw_kstr(&w, "path", e.v[i].rel);
        jsonw_kstr(&w, "type", file ? "file" : "directory");
        if (file) {
            jsonw_kint(&w, "size", e.v[i].st.st_size);
            jsonw_key(&w, "modified");
            jsonw_double(&w, seconds(e.v[i].st.st_mtim));
        }
        jsonw_obj_end(&w);
    }
    jsonw_arr_end(&w);
    entries_free(&e);
    reply_json(r, 200, &b);
}

/* The part of a path below the user's folder. */
static const char *below_user(const struct sim_server *s, const char *path)
{
    struct buf root = BUF_INIT;
    size_t n;

    (void)files_path(&s->files, FILES_USER, NULL, "", &root);
    n = root.len;
    buf_free(&root);
    return path[n] == '/' ? path + n + 1 : path + n;
}

void get_userdata_tree(struct sim_server *s, struct http_req *r, const char *rest)
{
    struct buf rel = BUF_INIT, path = BUF_INIT;
    struct stat st;

    (void)rest;
    (void)http_query_get(http_req_query(r), "path", &rel);
    if (!files_path(&s->files, FILES_USER, NULL, buf_str(&rel), &path))
        reply_text(r, 400, "Invalid path requested");
    else if (stat(path.data, &st) < 0)
        reply_text(r, 404, "Requested path not found");
    else if (!S_ISDIR(st.st_mode))
        reply_text(r, 400, "Requested path is not a directory");
    else
        list_tree(r, path.data, below_user(s, path.data));
    buf_free(&rel);
    buf_free(&path);
}

/* --- one file --- */

/* A segment of the path: unescaped, and once more if there is a % left, as ComfyUI does. */
static bool user_path(const struct sim_server *s, const char *segment, size_t n, struct buf *path)
{
    struct buf name = BUF_INIT, again = BUF_INIT;
    bool ok = http_unescape(segment, n, false, &name) == 0 && name.len > 0;

    if (ok && strchr(name.data, '%') && http_unescape(name.data, name.len, false, &again) == 0) {
        buf_free(&name);
        name = again;
    }
    ok = ok && files_path(&s->files, FILES_USER, NULL, name.data, path);
    buf_free(&name);
    return ok;
}

/* What is said of a file that has been stored. */
static void reply_stored(const struct sim_server *s, struct http_req *r, const char *path)
{
    const char *rel = below_user(s, path);
    struct buf b = BUF_INIT;
    struct stat st;
    struct jsonw w;

    jsonw_init(&w, &b);
    if (query_is(r, "full_info", "true") && stat(path, &st) == 0)
        put_info(&w, rel, &st);
    else
        jsonw_str(&w, rel);
    reply_json(r, 200, &b);
}

void get_userdata(struct sim_server *s, struct http_req *r, const char *rest)
{
    struct buf path = BUF_INIT;

    if (!user_path(s, rest, strlen(rest), &path))
        reply_empty(r, 403);
    else
        reply_file(r, path.data, files_mime(path.data));
    buf_free(&path);
}

static void store_userdata(struct sim_server *s, struct http_req *r, const struct buf *body)
{
    const char *last = last_segment(r);
    struct buf path = BUF_INIT;

    if (!user_path(s, last, strlen(last), &path))
        reply_empty(r, 403);
    else if (query_is(r, "overwrite", "false") && access(path.data, F_OK) == 0)
        reply_text(r, 409, "File already exists");
    else if (files_write(path.data, buf_str(body), body->len, NULL) < 0)
        reply_empty(r, 400);
    else
        reply_stored(s, r, path.data);
    buf_free(&path);
}

void post_userdata(struct sim_server *s, struct http_req *r, const char *rest)
{
    (void)rest;
    read_body(s, r, store_userdata);
}

void delete_userdata(struct sim_server *s, struct http_req *r, const char *rest)
{
    struct buf path = BUF_INIT;

    if (!user_path(s, rest, strlen(rest), &path))
        reply_empty(r, 403);
    else if (access(path.data, F_OK) != 0)
        reply_empty(r, 404);
    else if (unlink(path.data) < 0)
        reply_500(r);
    else
        reply_empty(r, 204);
    buf_free(&path);
}

void move_userdata(struct sim_server *s, struct http_req *r, const char *rest)
{
    struct buf from = BUF_INIT, to = BUF_INIT;
    const char *last = last_segment(r);
    bool known = user_path(s, rest, strcspn(rest, "/"), &from);

    if (known && access(from.data, F_OK) != 0)
        reply_empty(r, 404);
    else if (!known || !user_path(s, last, strlen(last), &to))
        reply_empty(r, 403);
    else if (query_is(r, "overwrite", "false") && access(to.data, F_OK) == 0)
        reply_text(r, 409, "File already exists");
    else if (files_make_folder_of(to.data, NULL) < 0 || rename(from.data, to.data) < 0)
        reply_500(r);
    else
        reply_stored(s, r, to.data);
    buf_free(&from);
    buf_free(&to);
}
