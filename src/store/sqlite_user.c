/* What users keep, by path; and bytes by the beginning of their hash. */
#include <stdlib.h>
#include <string.h>

#include "store/sqlite_priv.h"

#define USER_COLS                                                                                            \
    "SELECT b.hash, b.size, u.path, u.created, u.modified FROM user_files u JOIN blobs b ON b.id = u.blob"

/* Whose files, and where: what every query here is bound to. */
struct place {
    struct db *db;
    const char *tenant, *area;
};

static void user_take(struct store_file *f, sqlite3_stmt *st)
{
    *f = (struct store_file){.status = STORE_OK};
    col_hash(st, 0, f->blake3);
    f->size = sqlite3_column_int64(st, 1);
    f->name = col_str(st, 2);
    f->created = sqlite3_column_int64(st, 3);
    f->at = sqlite3_column_int64(st, 4);
}

/* The blob of a file; 0: there is no such file. */
static int64_t file_at(const struct place *p, const char *path)
{
    return db_int(p->db, 0, "SELECT blob FROM user_files WHERE tenant = ? AND area = ? AND path = ?", "sss",
                  p->tenant, p->area, path);
}

/* What is below "a" lies between "a/" and "a0": '0' comes next to '/'. */
#define BELOW "path > ?3 || '/' AND path < ?3 || '0'"

static bool is_folder(const struct place *p, const char *path)
{
    if (path[0] == '\0')
        return db_int(p->db, 0, "SELECT EXISTS (SELECT 1 FROM user_files WHERE tenant = ? AND area = ?)",
                      "ss", p->tenant, p->area) != 0;
    return db_int(p->db, 0,
                  "SELECT EXISTS (SELECT 1 FROM user_files WHERE tenant = ? AND area = ? AND " BELOW ")",
                  "sss", p->tenant, p->area, path) != 0;
}

/* Is one of the folders that the path names a file? */
static bool leads_through_file(const struct place *p, const char *path)
{
    bool found = false;

    for (const char *s = strchr(path, '/'); s && !found; s = strchr(s + 1, '/')) {
        char *folder = xstrndup(path, (size_t)(s - path));

        found = file_at(p, folder) != 0;
        free(folder);
    }
    return found;
}

static enum store_status user_load(const struct place *p, struct req *r, const char *path)
{
    sqlite3_stmt *st = db_query(p->db, USER_COLS " WHERE u.tenant = ? AND u.area = ? AND u.path = ?", "sss",
                                p->tenant, p->area, path);

    if (!db_next(p->db, st))
        return STORE_NOT_FOUND;
    r->out.files.v = xcalloc(1, sizeof(struct store_file));
    r->out.files.n = 1;
    user_take(r->out.files.v, st);
    db_end(st);
    return STORE_OK;
}

static enum store_status put_allowed(const struct place *p, const struct store_user_put *in, int64_t there)
{
    if (in->when == STORE_USER_NEW && (there || is_folder(p, in->path)))
        return STORE_EXISTS;
    if (in->when == STORE_USER_SAME &&
        (in->was == NULL ? there != 0 : there == 0 || there != sql_blob_id(p->db, in->was)))
        return STORE_LOST;
    if (there)
        return STORE_OK;
    if (is_folder(p, in->path) || leads_through_file(p, in->path))
        return STORE_CONFLICT;
    if (in->files_max > 0 && db_int(p->db, 0, "SELECT count(*) FROM user_files WHERE tenant = ? AND area = ?",
                                    "ss", in->tenant, in->area) >= in->files_max)
        return STORE_LIMIT;
    return STORE_OK;
}

enum store_status sql_user_put(struct db *db, struct req *r)
{
    const struct store_user_put *in = &r->in.user_put;
    struct place p = {db, in->tenant, in->area};
    int64_t blob = sql_blob_id(db, in->blake3), there;
    enum store_status st;

    if (blob == 0)
        return STORE_NOT_FOUND;
    there = file_at(&p, in->path);
    st = put_allowed(&p, in, there);
    if (st != STORE_OK)
        return st;
    if (there)
        db_exec(db, "UPDATE user_files SET blob = ?, modified = ? WHERE tenant = ? AND area = ? AND path = ?",
                "iisss", blob, in->at, in->tenant, in->area, in->path);
    else
        db_exec(db,
                "INSERT INTO user_files (tenant, area, path, created, modified, blob)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                "sssiii", in->tenant, in->area, in->path, in->at, in->at, blob);
    sql_blob_revive(db, blob);
    return user_load(&p, r, in->path);
}

enum store_status sql_user_find(struct db *db, struct req *r)
{
    struct place p = {db, r->in.user.tenant, r->in.user.area};
    enum store_status st = user_load(&p, r, r->in.user.path);

    return st == STORE_NOT_FOUND && is_folder(&p, r->in.user.path) ? STORE_CONFLICT : st;
}

enum store_status sql_user_list(struct db *db, struct req *r)
{
    const char *path = r->in.user.path;
    struct place p = {db, r->in.user.tenant, r->in.user.area};
    sqlite3_stmt *st;
    size_t cap = 0;

    if (path[0])
        st = db_query(db,
                      USER_COLS " WHERE u.tenant = ?1 AND u.area = ?2 AND u.path > ?3 || '/'"
                                " AND u.path < ?3 || '0' ORDER BY u.path",
                      "sss", p.tenant, p.area, path);
    else
        st = db_query(db, USER_COLS " WHERE u.tenant = ?1 AND u.area = ?2 ORDER BY u.path", "ss", p.tenant,
                      p.area);
    while (db_next(db, st)) {
        if (r->out.files.n == cap) {
            cap = cap ? cap * 2 : 64;
            r->out.files.v = xrealloc(r->out.files.v, cap * sizeof(struct store_file));
        }
        user_take(&r->out.files.v[r->out.files.n++], st);
    }
    if (r->out.files.n || path[0] == '\0')
        return STORE_OK;
    return file_at(&p, path) ? STORE_CONFLICT : STORE_NOT_FOUND;
}

/* Everything below `from` to below `to`. */
static void move_folder(const struct place *p, const char *from, const char *to)
{
    db_exec(p->db,
            "UPDATE user_files SET path = ?4 || substr(path, length(?3) + 1)"
            " WHERE tenant = ?1 AND area = ?2 AND " BELOW,
            "ssss", p->tenant, p->area, from, to);
}

static void move_file(const struct place *p, const char *from, const char *to)
{
    db_exec(p->db, "DELETE FROM user_files WHERE tenant = ? AND area = ? AND path = ?", "sss", p->tenant,
            p->area, to);
    db_exec(p->db, "UPDATE user_files SET path = ?4 WHERE tenant = ?1 AND area = ?2 AND path = ?3", "ssss",
            p->tenant, p->area, from, to);
}

static bool fits(const struct place *p, const char *from, const char *to, bool folder)
{
    int64_t longest = (int64_t)strlen(from);

    if (folder)
        longest = db_int(p->db, 0,
                         "SELECT max(length(CAST(path AS BLOB))) FROM user_files"
                         " WHERE tenant = ? AND area = ? AND " BELOW,
                         "sss", p->tenant, p->area, from);
    return longest - (int64_t)strlen(from) + (int64_t)strlen(to) <= STORE_USER_PATH_MAX;
}

enum store_status sql_user_move(struct db *db, struct req *r)
{
    const char *from = r->in.user.path, *to = r->in.user.to;
    struct place p = {db, r->in.user.tenant, r->in.user.area};
    bool file = file_at(&p, from) != 0, folder = !file && is_folder(&p, from);
    bool to_file = file_at(&p, to) != 0, to_folder = !to_file && is_folder(&p, to);
    enum store_status st = STORE_OK;
    char *dest;

    if (!file && !folder)
        return STORE_NOT_FOUND;
    if ((to_file || to_folder) && !r->in.user.overwrite)
        return STORE_EXISTS;
    dest = store_user_move_to(from, to, to_folder);
    if (strcmp(from, dest) == 0 && file && !to_folder)
        st = STORE_OK; /* where it is */
    else if ((to_folder && (file_at(&p, dest) || is_folder(&p, dest))) || (folder && to_file) ||
             store_user_is_below(dest, from) || leads_through_file(&p, dest) || !fits(&p, from, dest, folder))
        st = STORE_CONFLICT;
    else if (folder)
        move_folder(&p, from, dest);
    else
        move_file(&p, from, dest);
    if (st == STORE_OK && file)
        st = user_load(&p, r, dest);
    else if (st == STORE_OK)
        req_only_name(r, dest);
    free(dest);
    return st;
}

enum store_status sql_user_remove(struct db *db, struct req *r)
{
    struct place p = {db, r->in.user.tenant, r->in.user.area};

    if (file_at(&p, r->in.user.path) == 0)
        return is_folder(&p, r->in.user.path) ? STORE_CONFLICT : STORE_NOT_FOUND;
    db_exec(db, "DELETE FROM user_files WHERE tenant = ? AND area = ? AND path = ?", "sss", p.tenant, p.area,
            r->in.user.path);
    return STORE_OK;
}

/* --- bytes by the beginning of their hash --- */

enum store_status sql_alias_find(struct db *db, struct req *r)
{
    uint8_t low[BLAKE3_LEN], high[BLAKE3_LEN];
    sqlite3_stmt *st;
    size_t n = 0;

    if (!req_hash_range(r->in.alias.hex, low, high))
        return STORE_NOT_FOUND;
    st = db_query(db,
                  "SELECT b.hash, b.size FROM blobs b WHERE b.hash >= ?1 AND b.hash <= ?2 AND ("
                  "EXISTS (SELECT 1 FROM files WHERE blob = b.id AND tenant = ?3) OR "
                  "EXISTS (SELECT 1 FROM job_inputs WHERE blob = b.id AND tenant = ?3) OR "
                  "EXISTS (SELECT 1 FROM outputs WHERE blob = b.id AND tenant = ?3)) LIMIT 2",
                  "hhs", low, high, r->in.alias.tenant);
    while (db_next(db, st)) {
        if (n++ > 0)
            continue;
        r->out.files.v = xcalloc(1, sizeof(struct store_file));
        r->out.files.n = 1;
        col_hash(st, 0, r->out.files.v->blake3);
        r->out.files.v->size = sqlite3_column_int64(st, 1);
    }
    return n == 1 ? STORE_OK : STORE_NOT_FOUND;
}
