#include "cli/config.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "http/http.h"

#define SECOND INT64_C(1000)
#define DAY (24 * 3600 * SECOND)
#define YEARS (3650 * DAY)
#define KIB INT64_C(1024)
#define GIB (KIB * KIB * KIB)

static int check_listen(const char *s, struct err *e);
static int check_origin(const char *s, struct err *e);

static const char *const log_levels[] = {"debug", "info", "warn", "error", NULL};
static const char *const managers[] = {"off", "primary", NULL};
static const char *const log_formats[] = {"text", "json", NULL};

#define AT(f) offsetof(struct config, f)
/* clang-format off */
const struct config_key config_keys[] = {
    {"listen", CONFIG_STRING, AT(listen), "127.0.0.1:8280", .check = check_listen, .reload = false, .help =
     "Where the gateway listens: HOST:PORT, [IPv6]:PORT, :PORT for all addresses, or unix:/path."},
    {"data_dir", CONFIG_PATH, AT(data_dir), NULL, "/var/lib/comfymux", .reload = false, .help =
     "Where everything is kept: jobs, uploads, outputs, settings. By default /var/lib/comfymux for root and for\n"
     "services (or what $STATE_DIRECTORY says), else $XDG_DATA_HOME/comfymux, ~/.local/share/comfymux."},
    {"servers", CONFIG_SERVERS, AT(servers), "[]",
     "\n  - {name: gpu0, url: \"http://10.0.0.5:8188\"}"
     "\n  - {name: gpu1, url: \"http://10.0.0.6:8188\", depth: 2, tags: [big]}", .reload = true, .help =
     "The ComfyUI servers. url is needed; name defaults to host:port; depth is how many jobs it is given at one\n"
     "time, the running one included (default 1); tags are words of your own. Servers added through the API or\n"
     "`comfymux servers add` are kept in the data folder and stay; of two with one name this file's wins."},
    {"frontend", CONFIG_PATH, AT(frontend), NULL, "/usr/share/comfyui-frontend", .reload = true, .help =
     "Folder with the static files of comfyui-frontend-package. Without it those of the first server that is\n"
     "up are shown."},

    {"retry.max_attempts", CONFIG_INTEGER, AT(retry.max_attempts), "3", .min = 1, .max = 100, .reload = true,
     .help = "How often a job is tried in all, on other servers where there are any, when a server fails it."},

    {"timeout.connect", CONFIG_DURATION, AT(timeout.connect), "3s", .min = 1, .max = 600 * SECOND, .reload = true,
     .help = "To open a connection to a server."},
    {"timeout.lost", CONFIG_DURATION, AT(timeout.lost), "60s", .min = 1, .max = YEARS, .reload = true, .help =
     "How long a server may be silent before the job it runs is taken away from it."},
    {"timeout.stall", CONFIG_DURATION, AT(timeout.stall), "30m", .min = 1, .max = YEARS, .reload = true, .help =
     "How long a job may make no progress while its server answers."},
    {"timeout.history", CONFIG_DURATION, AT(timeout.history), "60s", .min = 1, .max = YEARS, .reload = true, .help =
     "From the first sign that a job ended to its entry in the server's history."},
    {"timeout.output", CONFIG_DURATION, AT(timeout.output), "60s", .min = 1, .max = YEARS, .reload = true, .help =
     "To fetch one output, all tries together."},
    {"timeout.drain", CONFIG_DURATION, AT(timeout.drain), "30s", .min = 0, .max = YEARS, .reload = true, .help =
     "How long a stopping gateway goes on collecting what servers have finished."},
    {"timeout.queue", CONFIG_DURATION, AT(timeout.queue), "0s", .min = 0, .max = YEARS, .reload = true, .help =
     "How long a job may wait for a server; 0s: for ever."},

    {"keep.finished", CONFIG_DURATION, AT(keep.finished), "30d", .min = 1, .max = YEARS, .reload = true, .help =
     "How long finished jobs stay in the lists and in history."},
    {"keep.outputs", CONFIG_DURATION, AT(keep.outputs), "30d", .min = 1, .max = YEARS, .reload = true, .help =
     "How long the bytes of outputs are kept."},
    {"keep.events", CONFIG_DURATION, AT(keep.events), "1d", .min = 1, .max = YEARS, .reload = true, .help =
     "How far back a reader of the event stream may resume."},
    {"keep.count", CONFIG_INTEGER, AT(keep.count), "1000000", .min = 1, .max = 1000000000, .reload = true, .help =
     "At most so many finished jobs; the oldest go first."},
    {"keep.size", CONFIG_SIZE, AT(keep.size), "0B", .min = 0, .max = INT64_MAX, .reload = true, .help =
     "At most so many bytes of outputs; the oldest go first; 0B: no limit."},

    {"limits.json", CONFIG_SIZE, AT(limits.json), "64MiB", .min = KIB, .max = GIB, .reload = true, .help =
     "The largest JSON body taken, a prompt's for example."},
    {"limits.upload", CONFIG_SIZE, AT(limits.upload), "100MiB", .min = KIB, .max = 1024 * GIB, .reload = true,
     .help = "The largest upload taken; clients see it as max_upload_size."},
    {"limits.queued", CONFIG_INTEGER, AT(limits.queued), "100000", .min = 1, .max = 10000000, .reload = true,
     .help = "At most so many jobs that have not ended; more are refused."},
    {"limits.nodes", CONFIG_INTEGER, AT(limits.nodes), "20000", .min = 1, .max = 10000000, .reload = true, .help =
     "At most so many nodes in one prompt."},
    {"limits.clients", CONFIG_INTEGER, AT(limits.clients), "19000", .min = 1, .max = 10000000, .reload = true,
     .help = "At most so many connections of clients at one time."},

    {"cors", CONFIG_STRINGS, AT(cors), "[]", .check = check_origin, .reload = true, .help =
     "Origins whose pages may call from elsewhere, such as https://studio.example.org; \"*\": any."},

    {"manager", CONFIG_CHOICE, AT(manager), "off", .words = managers, .reload = true, .help =
     "Routes of ComfyUI-Manager, which installs nodes and restarts servers: refused, or passed on to the primary\n"
     "server, which then differs from the others."},

    {"log.level", CONFIG_CHOICE, AT(log.level), "info", .words = log_levels, .reload = true, .help =
     "The least important lines that are written."},
    {"log.format", CONFIG_CHOICE, AT(log.format), "text", .words = log_formats, .reload = true, .help =
     "key=value lines, or one JSON object per line."},
};
/* clang-format on */
const size_t config_n_keys = ARRAY_LEN(config_keys);

static_assert(LOG_DEBUG == 0 && LOG_INFO == 1 && LOG_WARN == 2 && LOG_ERROR == 3, "log_levels is the index");
static_assert(CONFIG_MANAGER_OFF == 0 && CONFIG_MANAGER_PRIMARY == 1, "managers is the index");
static_assert(LOG_TEXT == 0 && LOG_JSON == 1, "log_formats is the index");

const struct config_key *config_key_find(const char *key)
{
    for (size_t i = 0; i < config_n_keys; i++)
        if (strcmp(config_keys[i].key, key) == 0)
            return &config_keys[i];
    return NULL;
}

bool config_is_section(const char *name)
{
    size_t n = strlen(name);

    for (size_t i = 0; i < config_n_keys; i++)
        if (strncmp(config_keys[i].key, name, n) == 0 && config_keys[i].key[n] == '.')
            return true;
    return false;
}

const char *config_type_name(enum config_type t)
{
    static const char *const names[] = {"string", "path",   "integer",         "duration",
                                        "size",   "choice", "list of strings", "list of servers"};

    return names[t];
}

/* ---- checks of single values ---- */

static int check_port(const char *s, struct err *e)
{
    size_t n = strlen(s);

    if (n == 0 || n > 5 || strspn(s, "0123456789") != n || atoi(s) > 65535)
        return err_set(e, EINVAL, "the port must be a number from 0 to 65535, not \"%.32s\"", s);
    return 0;
}

static int check_listen(const char *s, struct err *e)
{
    const char *colon = strrchr(s, ':');
    size_t host;

    if (strncmp(s, "unix:", 5) == 0)
        return s[5] ? 0 : err_set(e, EINVAL, "a path must follow unix:");
    if (!colon)
        return err_set(e, EINVAL, "must be HOST:PORT, \"%.100s\" has no port", s);
    host = (size_t)(colon - s);
    if (s[0] == '[') {
        if (host < 3 || s[host - 1] != ']' || strspn(s + 1, "0123456789abcdefABCDEF:.%") < host - 2)
            return err_set(e, EINVAL, "\"%.100s\" is not of the form [IPv6]:PORT", s);
    } else if (memchr(s, ':', host)) {
        return err_set(e, EINVAL, "an IPv6 address must stand in brackets: [::1]:8280");
    }
    for (size_t i = 0; i < host; i++)
        if ((unsigned char)s[i] <= ' ' || strchr("/@?#,", s[i]))
            return err_set(e, EINVAL, "must be HOST:PORT, not \"%.100s\"", s);
    return check_port(colon + 1, e);
}

static int check_origin(const char *s, struct err *e)
{
    struct http_url u;
    int fault = 0;

    if (strcmp(s, "*") == 0)
        return 0;
    if (http_url_parse(s, &u, e) < 0)
        return err_wrap(e, "must be an origin such as https://studio.example.org, or \"*\"");
    if (u.userinfo || s[strlen(s) - 1] == '/' || u.base[0])
        fault = err_set(e, EINVAL, "an origin is scheme://host[:port], nothing behind it");
    http_url_fini(&u);
    return fault;
}

int config_check_name(const char *name, struct err *e)
{
    size_t n = strlen(name);

    if (n == 0 || n > 64)
        return err_set(e, EINVAL, "a server's name has 1 to 64 characters");
    for (size_t i = 0; i < n; i++)
        if (!isalnum((unsigned char)name[i]) && !strchr("._:[]-", name[i]))
            return err_set(e, EINVAL, "a server's name is made of letters, digits and . _ : [ ] -");
    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return err_set(e, EINVAL, "\"%s\" cannot be a server's name", name);
    return 0;
}

int config_check_url(const char *url, char **name, struct err *e)
{
    struct http_url u;

    if (name)
        *name = NULL;
    if (http_url_parse(url, &u, e) < 0)
        return -1;
    if (name)
        *name = xasprintf(strchr(u.host, ':') ? "[%s]:%u" : "%s:%u", u.host, (unsigned)u.port);
    http_url_fini(&u);
    return 0;
}

/* ---- numbers ---- */

struct unit {
    const char *name;
    int64_t factor;
};
static const struct unit no_units[] = {{"", 1}, {NULL, 0}};
static const struct unit time_units[] = {{"ms", 1},  {"s", SECOND}, {"m", 60 * SECOND}, {"h", 3600 * SECOND},
                                         {"d", DAY}, {NULL, 0}};
static const struct unit size_units[] = {{"B", 1}, {"KiB", KIB}, {"MiB", KIB *KIB}, {"GiB", GIB}, {NULL, 0}};

static const struct unit *units_of(enum config_type t)
{
    return t == CONFIG_DURATION ? time_units : t == CONFIG_SIZE ? size_units : no_units;
}

static const char *what_of(enum config_type t)
{
    return t == CONFIG_DURATION ? "an integer and one of ms s m h d, such as 30s"
           : t == CONFIG_SIZE   ? "an integer and one of B KiB MiB GiB, such as 64MiB"
                                : "an integer";
}

/* The value in the largest unit that divides it. */
static void put_number(enum config_type t, int64_t v, char out[32])
{
    const struct unit *best = units_of(t);

    for (const struct unit *u = best; u->name; u++)
        if (v && v % u->factor == 0)
            best = u;
    snprintf(out, 32, "%lld%s", (long long)(v / best->factor), best->name);
}

static int parse_number(const struct config_key *k, const char *s, int64_t *out, struct err *e)
{
    const struct unit *u = units_of(k->type);
    bool negative = s[0] == '-';
    const char *digits = s + negative;
    size_t n = strspn(digits, "0123456789");
    int64_t v = 0;
    bool over = false;
    char lo[32], hi[32];

    while (u->name && strcmp(u->name, digits + n) != 0)
        u++;
    if (n == 0 || !u->name || (n > 1 && digits[0] == '0'))
        return err_set(e, EINVAL, "must be %s, not \"%.60s\"", what_of(k->type), s);
    for (size_t i = 0; i < n; i++)
        over = over || __builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, digits[i] - '0', &v);
    over = over || __builtin_mul_overflow(v, u->factor, &v);
    put_number(k->type, k->min, lo);
    put_number(k->type, k->max, hi);
    if ((negative && (over || v > 0)) || (!over && v < k->min))
        return err_set(e, ERANGE, "must be at least %s, not %.60s", lo, s);
    if (over || v > k->max)
        return err_set(e, ERANGE, "must be at most %s, not %.60s", hi, s);
    *out = v;
    return 0;
}

static int parse_choice(const struct config_key *k, const char *s, int *out, struct err *e)
{
    struct buf all = BUF_INIT;

    for (int i = 0; k->words[i]; i++) {
        if (strcmp(k->words[i], s) == 0) {
            buf_free(&all);
            *out = i;
            return 0;
        }
        buf_printf(&all, "%s%s", i ? ", " : "", k->words[i]);
    }
    err_set(e, EINVAL, "must be one of %s, not \"%.60s\"", buf_str(&all), s);
    buf_free(&all);
    return -1;
}

/* ---- setting ---- */

static void *at(const struct config *c, const struct config_key *k)
{
    return (char *)(uintptr_t)c + k->at;
}

static void replace(char **old, const char *s)
{
    char *copy = xstrdup(s);

    free(*old);
    *old = copy;
}

static int set(struct config *c, const struct config_key *k, const char *text, struct err *e)
{
    switch (k->type) {
    case CONFIG_STRING:
    case CONFIG_PATH:
        if (!text[0])
            return err_set(e, EINVAL, "must not be empty");
        if (k->check && k->check(text, e) < 0)
            return -1;
        replace(at(c, k), text);
        return 0;
    case CONFIG_INTEGER:
    case CONFIG_DURATION:
    case CONFIG_SIZE: return parse_number(k, text, at(c, k), e);
    case CONFIG_CHOICE: return parse_choice(k, text, at(c, k), e);
    case CONFIG_STRINGS:
    case CONFIG_SERVERS: break;
    }
    return err_set(e, EINVAL, "must be a list");
}

int config_set(struct config *c, const char *key, const char *text, struct err *e)
{
    const struct config_key *k = config_key_find(key);

    if (!k)
        return err_set(e, EINVAL, "there is no key %s", key);
    return set(c, k, text, e);
}

static void strings_fini(struct config_strings *s)
{
    for (size_t i = 0; i < s->n; i++)
        free(s->v[i]);
    free(s->v);
    *s = (struct config_strings){0};
}

void config_server_fini(struct config_server *s)
{
    free(s->name);
    free(s->url);
    strings_fini(&s->tags);
    *s = (struct config_server){0};
}

int config_server_parse(const char *arg, struct config_server *out, struct err *e)
{
    const char *eq = strchr(arg, '='), *scheme = strstr(arg, "://");
    const char *url = eq && (!scheme || eq < scheme) ? eq + 1 : arg;
    char *given = url == arg ? NULL : xstrndup(arg, (size_t)(eq - arg)), *name = NULL;

    *out = (struct config_server){0};
    if (config_check_url(url, &name, e) < 0 || config_check_name(given ? given : name, e) < 0) {
        free(given);
        free(name);
        return err_wrap(e, "server \"%.200s\"", arg);
    }
    out->name = given ? given : name;
    if (given)
        free(name);
    out->url = xstrdup(url);
    out->depth = 1;
    return 0;
}

int config_add_server(struct config *c, const char *arg, struct err *e)
{
    struct config_server s;

    if (config_server_parse(arg, &s, e) < 0)
        return -1;
    for (size_t i = 0; i < c->servers.n; i++) {
        if (strcmp(c->servers.v[i].name, s.name) == 0) {
            config_server_fini(&c->servers.v[i]);
            c->servers.v[i] = s;
            return 0;
        }
    }
    c->servers.v = xrealloc(c->servers.v, (c->servers.n + 1) * sizeof(s));
    c->servers.v[c->servers.n++] = s;
    return 0;
}

char *config_default_data_dir(void)
{
    const char *state = getenv("STATE_DIRECTORY"), *xdg = getenv("XDG_DATA_HOME"), *home = getenv("HOME");

    if (state && state[0] == '/')
        return xstrndup(state, strcspn(state, ":"));
    if (geteuid() != 0 && xdg && xdg[0] == '/')
        return xasprintf("%s/comfymux", xdg);
    if (geteuid() != 0 && home && home[0] == '/')
        return xasprintf("%s/.local/share/comfymux", home);
    return xstrdup("/var/lib/comfymux");
}

void config_init(struct config *c)
{
    *c = (struct config){0};
    for (size_t i = 0; i < config_n_keys; i++) {
        const struct config_key *k = &config_keys[i];
        struct err e;

        if (k->def && k->type != CONFIG_STRINGS && k->type != CONFIG_SERVERS && set(c, k, k->def, &e) < 0)
            assert(!"a default in the table is not valid");
    }
    c->data_dir = config_default_data_dir();
}

void config_fini(struct config *c)
{
    for (size_t i = 0; i < c->servers.n; i++)
        config_server_fini(&c->servers.v[i]);
    free(c->servers.v);
    strings_fini(&c->cors);
    free(c->listen);
    free(c->data_dir);
    free(c->frontend);
    *c = (struct config){0};
}

/* ---- comparing ---- */

static bool same_text(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

static bool same_strings(const struct config_strings *a, const struct config_strings *b)
{
    if (a->n != b->n)
        return false;
    for (size_t i = 0; i < a->n; i++)
        if (strcmp(a->v[i], b->v[i]) != 0)
            return false;
    return true;
}

static bool same_servers(const struct config_servers *a, const struct config_servers *b)
{
    if (a->n != b->n)
        return false;
    for (size_t i = 0; i < a->n; i++) {
        const struct config_server *x = &a->v[i], *y = &b->v[i];

        if (strcmp(x->name, y->name) != 0 || strcmp(x->url, y->url) != 0 || x->depth != y->depth ||
            !same_strings(&x->tags, &y->tags))
            return false;
    }
    return true;
}

bool config_differs(const struct config_key *k, const struct config *a, const struct config *b)
{
    const void *x = at(a, k), *y = at(b, k);

    switch (k->type) {
    case CONFIG_STRING:
    case CONFIG_PATH: return !same_text(*(char *const *)x, *(char *const *)y);
    case CONFIG_INTEGER:
    case CONFIG_DURATION:
    case CONFIG_SIZE: return *(const int64_t *)x != *(const int64_t *)y;
    case CONFIG_CHOICE: return *(const int *)x != *(const int *)y;
    case CONFIG_STRINGS: return !same_strings(x, y);
    case CONFIG_SERVERS: return !same_servers(x, y);
    }
    return true;
}

void config_fixed_changes(const struct config *running, const struct config *now,
                          void (*fn)(const struct config_key *k, void *arg), void *arg)
{
    for (size_t i = 0; i < config_n_keys; i++)
        if (!config_keys[i].reload && config_differs(&config_keys[i], running, now))
            fn(&config_keys[i], arg);
}

void config_keep_fixed(const struct config *running, struct config *now)
{
    for (size_t i = 0; i < config_n_keys; i++) {
        const struct config_key *k = &config_keys[i];
        char **to = at(now, k);

        if (k->reload)
            continue;
        assert(k->type == CONFIG_STRING || k->type == CONFIG_PATH); /* no other kind is fixed so far */
        free(*to);
        *to = xstrdup_null(*(char *const *)at(running, k));
    }
}
