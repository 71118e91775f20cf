/* The gateway's configuration. ONE table in config.c gives for every key its type, default, bounds, help and
 * whether a running gateway takes a new value over; the YAML reader, the command line flags, `comfymux
 * config` and docs/configuration.md all work from it.
 *
 * A fault names file, line and key, and every fault of a file is reported, not the first alone. */
#ifndef CLI_CONFIG_H
#define CLI_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/buf.h"
#include "base/err.h"

struct config_strings {
    char **v;
    size_t n;
};

struct config_server {
    char *name;
    char *url;
    int64_t depth; /* jobs given to it at one time, the running one included */
    struct config_strings tags;
};

struct config_servers {
    struct config_server *v;
    size_t n;
};

enum config_manager { CONFIG_MANAGER_OFF, CONFIG_MANAGER_PRIMARY };

/* Durations are milliseconds, sizes bytes. Strings are owned; only `frontend` may be NULL. */
struct config {
    char *listen;
    char *data_dir;
    struct config_servers servers;
    char *frontend;
    struct {
        int64_t max_attempts;
    } retry;
    struct {
        int64_t connect, lost, stall, history, output, drain;
        int64_t queue; /* 0: a job may wait for ever */
    } timeout;
    struct {
        int64_t finished, outputs, events;
        int64_t count;
        int64_t size; /* 0: no limit */
    } keep;
    struct {
        int64_t json, upload;
        int64_t queued, nodes, clients;
    } limits;
    struct config_strings cors;
    int manager; /* enum config_manager */
    struct {
        int level;  /* enum log_level */
        int format; /* enum log_format */
    } log;
};

/* All defaults; data_dir depends on who runs us (config_default_data_dir). */
void config_init(struct config *c);
void config_fini(struct config *c);
/* root or a service that says where its state is: $STATE_DIRECTORY, else /var/lib/comfymux; a user:
 * $XDG_DATA_HOME/comfymux, else ~/.local/share/comfymux. Caller frees. */
char *config_default_data_dir(void);

/* ---- the table ---- */

enum config_type {
    CONFIG_STRING,
    CONFIG_PATH, /* in a file: relative to the folder of that file */
    CONFIG_INTEGER,
    CONFIG_DURATION, /* an integer and ms, s, m, h or d */
    CONFIG_SIZE,     /* an integer and B, KiB, MiB or GiB */
    CONFIG_CHOICE,
    CONFIG_STRINGS, /* a list */
    CONFIG_SERVERS  /* a list of {name, url, depth, tags} */
};

struct config_key {
    const char *key; /* dotted */
    enum config_type type;
    size_t at;                                     /* offset in struct config */
    const char *def;                               /* as in a file; NULL: not set, or found at start */
    const char *example;                           /* shown, commented out, where there is no default */
    int64_t min, max;                              /* numbers, in ms or bytes where it has a unit */
    const char *const *words;                      /* CHOICE: NULL-terminated; the value is the index */
    int (*check)(const char *text, struct err *e); /* STRING, STRINGS: more to ask of each */
    bool reload;                                   /* taken over by a running gateway (SIGHUP) */
    const char *help;                              /* lines of at most 100 columns */
};
extern const struct config_key config_keys[];
extern const size_t config_n_keys;
/* NULL if there is no such key. */
const struct config_key *config_key_find(const char *key);
/* Is this the name of a group of keys ("timeout")? */
bool config_is_section(const char *name);
/* "integer", "list of strings" ... */
const char *config_type_name(enum config_type t);

/* ---- values ---- */

/* Set one key that is no list from its text, as it would stand in a file: for command line flags, which win
 * over the file. A path is taken as it is. On -1 the configuration is unchanged. */
int config_set(struct config *c, const char *key, const char *text, struct err *e) MUST_CHECK;
/* A server as the command line gives it: [NAME=]URL. It takes the place of one with the same name. */
int config_add_server(struct config *c, const char *arg, struct err *e) MUST_CHECK;
/* The pieces of [NAME=]URL, checked; the name defaults to host:port. out is filled with depth 1, no tags. */
int config_server_parse(const char *arg, struct config_server *out, struct err *e) MUST_CHECK;
void config_server_fini(struct config_server *s);
/* What may be a server's name: 1 to 64 letters, digits and . _ : [ ] -  */
int config_check_name(const char *name, struct err *e) MUST_CHECK;
/* http or https, nothing behind the path; *name (caller frees, may be NULL) is host:port. */
int config_check_url(const char *url, char **name, struct err *e) MUST_CHECK;

/* Calls fn for every key whose value differs and that a running gateway cannot take over. */
void config_fixed_changes(const struct config *running, const struct config *now,
                          void (*fn)(const struct config_key *k, void *arg), void *arg);
/* Those keys of now get the value they have in running. */
void config_keep_fixed(const struct config *running, struct config *now);
/* Do the two differ in this key? */
bool config_differs(const struct config_key *k, const struct config *a, const struct config *b);

/* ---- files (config_yaml.c) ---- */

struct config_fault {
    unsigned line, column; /* from 1; 0: the file as a whole */
    char *key;             /* dotted, with [n] for elements of lists; "syntax" where the text is no YAML */
    char *msg;
};
struct config_faults {
    struct config_fault *v; /* by line */
    size_t n, cap;
};
void config_faults_fini(struct config_faults *f);
/* "name:line: key: message", a line each. */
void config_faults_put(const struct config_faults *f, const char *name, struct buf *out);

#define CONFIG_FILE_MAX (1u << 20)
/* c must be initialised; keys that the text does not name are left alone. dir: the folder that relative paths
 * start from, NULL for none. -1 if there was any fault: c is then good for config_fini() only. */
int config_parse(struct config *c, const char *text, size_t len, const char *dir,
                 struct config_faults *f) MUST_CHECK;
/* Reads a file. -1 with faults, or with none and *e if it cannot be read. */
int config_load(struct config *c, const char *path, struct config_faults *f, struct err *e) MUST_CHECK;

/* ---- printing (config_print.c) ---- */

/* A YAML file with every key, its default and help. Reading it gives the defaults. */
void config_put_yaml(struct buf *out);
/* The same as a page of documentation. */
void config_put_markdown(struct buf *out);

#endif
