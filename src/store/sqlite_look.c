/* A look at a data folder from outside, for `comfymux doctor`: nothing in it is changed, and a gateway that has it open is
 * not disturbed. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <sqlite3.h>

#include "base/mem.h"
#include "store/sqlite_priv.h"
#include "store/store_sqlite.h"

#define BUSY_MS 5000

/* Who holds the lock: 0 nobody, -1 somebody who does not say. */
static int64_t holder_of(const char *dir)
{
    char *path = xasprintf("%s/comfymux.lock", dir), owner[32] = "";
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    int64_t pid = 0;

    free(path);
    if (fd < 0)
        return 0;
    if (flock(fd, LOCK_SH | LOCK_NB) < 0 && errno == EWOULDBLOCK) {
        ssize_t n = pread(fd, owner, sizeof(owner) - 1, 0);

        pid = n > 0 ? strtoll(owner, NULL, 10) : 0;
        pid = pid > 0 ? pid : -1;
    }
    close(fd);
    return pid;
}

static int64_t number(sqlite3 *c, const char *sql)
{
    sqlite3_stmt *st = NULL;
    int64_t v = -1;

    if (sqlite3_prepare_v2(c, sql, -1, &st, NULL) == SQLITE_OK && sqlite3_step(st) == SQLITE_ROW)
        v = sqlite3_column_int64(st, 0);
    sqlite3_finalize(st);
    return v;
}

static void take_servers(sqlite3 *c, struct store_look *out)
{
    sqlite3_stmt *st = NULL;

    if (sqlite3_prepare_v2(c, "SELECT name, url FROM servers ORDER BY name", -1, &st, NULL) != SQLITE_OK)
        return;
    while (sqlite3_step(st) == SQLITE_ROW) {
        const char *name = (const char *)sqlite3_column_text(st, 0);
        const char *url = (const char *)sqlite3_column_text(st, 1);

        if (name == NULL || url == NULL)
            continue;
        out->servers = xrealloc(out->servers, (out->n_servers + 1) * sizeof(*out->servers));
        out->servers[out->n_servers].name = xstrdup(name);
        out->servers[out->n_servers++].url = xstrdup(url);
    }
    sqlite3_finalize(st);
}

static void fault(struct store_look *out, const char *what)
{
    snprintf(out->fault, sizeof(out->fault), "%s", what);
}

/* PRAGMA quick_check: the first thing that it finds. */
static void check(sqlite3 *c, struct store_look *out)
{
    sqlite3_stmt *st = NULL;
    int rc = sqlite3_prepare_v2(c, "PRAGMA quick_check(1)", -1, &st, NULL);

    if (rc == SQLITE_OK)
        rc = sqlite3_step(st);
    if (rc != SQLITE_ROW)
        fault(out, sqlite3_errmsg(c));
    else if (strcmp((const char *)sqlite3_column_text(st, 0), "ok") != 0)
        fault(out, (const char *)sqlite3_column_text(st, 0));
    sqlite3_finalize(st);
}

static void look(sqlite3 *c, struct store_look *out)
{
    int64_t app;

    sqlite3_busy_timeout(c, BUSY_MS);
    app = number(c, "PRAGMA application_id");
    out->schema = number(c, "PRAGMA user_version");
    out->known = sqlite_schema;
    if (app < 0 || out->schema < 0) {
        fault(out, sqlite3_errmsg(c));
    } else if (app != SQLITE_APP_ID &&
               (app != 0 || out->schema != 0 || number(c, "SELECT count(*) FROM sqlite_schema") != 0)) {
        fault(out, "it is a database of another program");
    } else if (out->schema > out->known) {
        fault(out, "it was made by a newer version of this program");
    } else {
        check(c, out);
        if (out->fault[0] == '\0' && out->schema > 0) {
            out->jobs = number(c, "SELECT count(*) FROM jobs");
            out->live = out->jobs - number(c, "SELECT count(*) FROM jobs WHERE fin IS NOT NULL");
            take_servers(c, out);
        }
    }
}

int store_sqlite_look(const char *dir, struct store_look *out, struct err *e)
{
    char *path = xasprintf("%s/comfymux.db", dir), *wal = xasprintf("%s-wal", path), *uri;
    struct stat st;
    sqlite3 *c = NULL;
    /* With nobody there and nothing in the log, not even SQLite's own helper files are made. */
    bool still;
    int r = 0;

    *out = (struct store_look){.holder = holder_of(dir)};
    still = out->holder == 0 && (stat(wal, &st) < 0 || st.st_size == 0);
    if (stat(path, &st) < 0) {
        if (errno != ENOENT)
            r = err_errno(e, errno, "%s", path);
    } else {
        struct buf escaped = BUF_INIT;

        out->exists = true;
        for (const char *p = path; *p; p++)
            if (strchr("%?#", *p))
                buf_printf(&escaped, "%%%02x", (unsigned char)*p);
            else
                buf_putc(&escaped, *p);
        uri = xasprintf("file:%s?mode=ro%s", buf_str(&escaped), still ? "&immutable=1" : "");
        if (sqlite3_open_v2(uri, &c, SQLITE_OPEN_READONLY | SQLITE_OPEN_URI, NULL) != SQLITE_OK)
            r = err_set(e, EIO, "%s: %s", path, c ? sqlite3_errmsg(c) : "no memory");
        else
            look(c, out);
        sqlite3_close(c);
        free(uri);
        buf_free(&escaped);
    }
    free(path);
    free(wal);
    return r;
}

void store_look_fini(struct store_look *l)
{
    for (size_t i = 0; i < l->n_servers; i++) {
        free(l->servers[i].name);
        free(l->servers[i].url);
    }
    free(l->servers);
    *l = (struct store_look){0};
}
