#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "cli/config.h"

/* ---- files with faults: what must be said, word for word ---- */

static const struct {
    const char *text, *faults;
} faulty[] = {
    /* not YAML */
    {"listen: [", "f:1: syntax: did not find expected node content\n"},
    {"a: 'x", "f:1: syntax: found unexpected end of stream\n"},
    {"timeout:\n\tlost: 3s\n", "f:2: syntax: a tab cannot indent; use spaces\n"},
    {"timeout:\n  lost: 3s\n stall: 3s\n", "f:3: syntax: did not find expected key (while parsing a block "
                                           "mapping that began on line 1)\n"},
    {"listen: a:1: 2\n", "f:1: syntax: mapping values are not allowed in this context\n"},
    {"listen: \xff\n", "f:1: syntax: invalid leading UTF-8 octet\n"},
    {"# ok\nlisten: \xc3\n", "f:2: syntax: invalid trailing UTF-8 octet\n"},
    {"a: 1\nb: \x01\n", "f:2: syntax: control characters are not allowed\n"},
    {"%YAML 3.0\n---\na: 1\n", "f:1: syntax: found incompatible YAML document\n"},
    {"listen: x:1\n---\nlisten: y:2\n",
     "f:2: syntax: a second document begins here; a configuration is one\n"},
    {"a: [[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]\n", "f:1: syntax: nested deeper than 16 levels\n"},
    {"- listen\n", "f:1: top level: must be a mapping of keys, not a list\n"},
    {"listen\n", "f:1: top level: must be a mapping of keys, not a plain value\n"},
    {"'listen'\n", "f:1: top level: must be a mapping of keys, not quoted text\n"},
    /* what YAML can and we do not */
    {"listen: &a x:1\ndata_dir: *a\n", "f:1: &a: anchors and aliases are not supported\n"
                                       "f:2: *a: anchors and aliases are not supported\n"},
    {"timeout: &t\n  lost: *t\n", "f:1: &t: anchors and aliases are not supported\n"
                                  "f:2: *t: anchors and aliases are not supported\n"},
    {"servers: &s [*s, *s]\n", "f:1: &s: anchors and aliases are not supported\n"
                               "f:1: *s: anchors and aliases are not supported\n"
                               "f:1: *s: anchors and aliases are not supported\n"},
    {"--- &r\ntimeout: *r\n", "f:1: &r: anchors and aliases are not supported\n"
                              "f:2: *r: anchors and aliases are not supported\n"},
    {"listen: *none\n", "f:1: *none: anchors and aliases are not supported\n"
                        "f:1: syntax: found undefined alias\n"},
    {"timeout:\n  <<: {lost: 1s}\n", "f:2: timeout.<<: merge keys are not supported\n"},
    {"retry: {max_attempts: !!int 3}\n", "f:1: tag:yaml.org,2002:int: tags are not supported\n"},
    {"listen: !secret x:1\n", "f:1: !secret: tags are not supported\n"},
    {"cors: !!seq []\n", "f:1: tag:yaml.org,2002:seq: tags are not supported\n"},
    {"? [a]\n: 1\n", "f:1: top level: a key must be a word, not a list\n"},
    {"timeout:\n  {a: b}: 1\n", "f:2: timeout: a key must be a word, not a mapping\n"},
    {"\"listen\\0\": 1\n", "f:1: top level: a key must be a word, not text with a NUL\n"},
    /* keys */
    {"servrs: []\n", "f:1: servrs: unknown key; did you mean servers?\n"},
    {"colour: blue\n", "f:1: colour: unknown key\n"},
    {"\n\ntimeout:\n  stal: 3m\n", "f:4: timeout.stal: unknown key; did you mean timeout.stall?\n"},
    {"max_attempts: 3\n", "f:1: max_attempts: unknown key; did you mean retry.max_attempts?\n"},
    {"limits: {size: 1GiB}\n", "f:1: limits.size: unknown key; did you mean keep.size?\n"},
    {"timeout.lost: 3s\n", "f:1: timeout.lost: write it as timeout: {lost: ...}\n"},
    {"timeout: {lost: {lost: 1s}}\n", "f:1: timeout.lost: must be a duration, not a mapping\n"},
    {"listen: a:1\nlisten: b:1\n", "f:2: listen: given twice, first on line 1\n"},
    {"keep:\n  size: 1B\n  size: 2B\n  size: 3B\n", "f:3: keep.size: given twice, first on line 2\n"
                                                    "f:4: keep.size: given twice, first on line 2\n"},
    {"colour: 1\ncolour: 2\n", "f:1: colour: unknown key\nf:2: colour: given twice, first on line 1\n"},
    {"timeout: 3s\n", "f:1: timeout: must be a mapping, not a plain value\n"},
    {"timeout: [lost]\n", "f:1: timeout: must be a mapping, not a list\n"},
    /* addresses, paths, origins */
    {"listen: 8280\n", "f:1: listen: must be HOST:PORT, \"8280\" has no port\n"},
    {"listen: localhost:http\n", "f:1: listen: the port must be a number from 0 to 65535, not \"http\"\n"},
    {"listen: localhost:65536\n", "f:1: listen: the port must be a number from 0 to 65535, not \"65536\"\n"},
    {"listen: \"a:\"\n", "f:1: listen: the port must be a number from 0 to 65535, not \"\"\n"},
    {"listen: ::1:80\n", "f:1: listen: an IPv6 address must stand in brackets: [::1]:8280\n"},
    {"listen: \"[::g]:80\"\n", "f:1: listen: \"[::g]:80\" is not of the form [IPv6]:PORT\n"},
    {"listen: http://a:80\n", "f:1: listen: an IPv6 address must stand in brackets: [::1]:8280\n"},
    {"listen: a/b:80\n", "f:1: listen: must be HOST:PORT, not \"a/b:80\"\n"},
    {"listen: \"unix:\"\n", "f:1: listen: a path must follow unix:\n"},
    {"listen: [a:1]\n", "f:1: listen: must be text, not a list\n"},
    {"listen:\n", "f:1: listen: has no value; leave the key out for the default\n"},
    {"listen: \"a:1\\0b\"\n", "f:1: listen: must not hold a NUL\n"},
    {"data_dir: ''\n", "f:1: data_dir: must not be empty\n"},
    {"frontend: {a: b}\n", "f:1: frontend: must be text, not a mapping\n"},
    {"cors: https://a\n", "f:1: cors: must be a list of strings, not a plain value\n"},
    {"cors:\n- https://a\n- studio\n- https://a/b\n- [x]\n- https://a/\n- https://u:p@a\n-\n",
     "f:3: cors[1]: must be an origin such as https://studio.example.org, or \"*\": a URL begins "
     "with "
     "http:// or https://\n"
     "f:4: cors[2]: an origin is scheme://host[:port], nothing behind it\n"
     "f:5: cors[3]: must be text, not a list\n"
     "f:6: cors[4]: an origin is scheme://host[:port], nothing behind it\n"
     "f:7: cors[5]: an origin is scheme://host[:port], nothing behind it\n"
     "f:8: cors[6]: must be text, not nothing\n"},
    /* numbers */
    {"retry: {max_attempts: 0}\n", "f:1: retry.max_attempts: must be at least 1, not 0\n"},
    {"retry: {max_attempts: -1}\n", "f:1: retry.max_attempts: must be at least 1, not -1\n"},
    {"retry: {max_attempts: 101}\n", "f:1: retry.max_attempts: must be at most 100, not 101\n"},
    {"retry: {max_attempts: 3.0}\n", "f:1: retry.max_attempts: must be an integer, not \"3.0\"\n"},
    {"retry: {max_attempts: 0x3}\n", "f:1: retry.max_attempts: must be an integer, not \"0x3\"\n"},
    {"retry: {max_attempts: 03}\n", "f:1: retry.max_attempts: must be an integer, not \"03\"\n"},
    {"retry: {max_attempts: +3}\n", "f:1: retry.max_attempts: must be an integer, not \"+3\"\n"},
    {"retry: {max_attempts: many}\n", "f:1: retry.max_attempts: must be an integer, not \"many\"\n"},
    {"retry: {max_attempts: \"3\"}\n", "f:1: retry.max_attempts: must be an integer, not quoted text\n"},
    {"retry: {max_attempts: true}\n", "f:1: retry.max_attempts: must be an integer, not \"true\"\n"},
    {"retry: {max_attempts: [3]}\n", "f:1: retry.max_attempts: must be an integer, not a list\n"},
    {"retry: {max_attempts: 99999999999999999999}\n",
     "f:1: retry.max_attempts: must be at most 100, not 99999999999999999999\n"},
    {"retry: {max_attempts: -99999999999999999999}\n",
     "f:1: retry.max_attempts: must be at least 1, not -99999999999999999999\n"},
    {"timeout: {lost: 60}\n",
     "f:1: timeout.lost: must be an integer and one of ms s m h d, such as 30s, not \"60\"\n"},
    {"timeout: {lost: 1.5s}\n",
     "f:1: timeout.lost: must be an integer and one of ms s m h d, such as 30s, not \"1.5s\"\n"},
    {"timeout: {lost: 1 s}\n",
     "f:1: timeout.lost: must be an integer and one of ms s m h d, such as 30s, not \"1 s\"\n"},
    {"timeout: {lost: 1h30m}\n",
     "f:1: timeout.lost: must be an integer and one of ms s m h d, such as 30s, not \"1h30m\"\n"},
    {"timeout: {lost: s}\n",
     "f:1: timeout.lost: must be an integer and one of ms s m h d, such as 30s, not \"s\"\n"},
    {"timeout: {lost: 0s}\n", "f:1: timeout.lost: must be at least 1ms, not 0s\n"},
    {"timeout: {connect: 1h}\n", "f:1: timeout.connect: must be at most 10m, not 1h\n"},
    {"timeout: {queue: 9223372036854775807d}\n",
     "f:1: timeout.queue: must be at most 3650d, not 9223372036854775807d\n"},
    {"keep: {size: 1GB}\n",
     "f:1: keep.size: must be an integer and one of B KiB MiB GiB, such as 64MiB, not \"1GB\"\n"},
    {"limits: {json: 10B}\n", "f:1: limits.json: must be at least 1KiB, not 10B\n"},
    {"limits: {json: 2GiB}\n", "f:1: limits.json: must be at most 1GiB, not 2GiB\n"},
    {"limits: {queued: 0}\n", "f:1: limits.queued: must be at least 1, not 0\n"},
    {"log: {level: loud}\n", "f:1: log.level: must be one of debug, info, warn, error, not \"loud\"\n"},
    {"log: {format: [json]}\n", "f:1: log.format: must be a choice, not a list\n"},
    /* servers */
    {"servers: http://a\n", "f:1: servers: must be a list of servers, not a plain value\n"},
    {"servers: {a: http://a}\n", "f:1: servers: must be a list of servers, not a mapping\n"},
    {"servers:\n- http://a\n", "f:2: servers[0]: must be a mapping such as {name: gpu0, url: "
                               "\"http://host:8188\"}, not a plain value\n"},
    {"servers:\n- {name: a}\n- {}\n", "f:2: servers[0]: has no url\nf:3: servers[1]: has no url\n"},
    {"servers:\n- url: a:80\n", "f:2: servers[0].url: a URL begins with http:// or https://\n"},
    {"servers:\n- url: http://a:0\n", "f:2: servers[0].url: bad URL: the port is not between 1 and 65535\n"},
    {"servers:\n- url: http://a/?q\n",
     "f:2: servers[0].url: bad URL: a query or fragment has no place here\n"},
    {"servers:\n- url: [http://a]\n", "f:2: servers[0].url: must be text, not a list\n"},
    {"servers:\n- {url: http://a, name: a/b}\n",
     "f:2: servers[0].name: a server's name is made of letters, digits and . _ : [ ] -\n"},
    {"servers:\n- {url: http://a, name: ''}\n",
     "f:2: servers[0].name: a server's name has 1 to 64 characters\n"},
    {"servers:\n- {url: http://a, name: ..}\n", "f:2: servers[0].name: \"..\" cannot be a server's name\n"},
    {"servers:\n- {url: http://a, depth: 0}\n", "f:2: servers[0].depth: must be from 1 to 64, not 0\n"},
    {"servers:\n- {url: http://a, depth: two}\n",
     "f:2: servers[0].depth: must be an integer, not a plain value\n"},
    {"servers:\n- {url: http://a, depth: '2'}\n",
     "f:2: servers[0].depth: must be an integer, not quoted text\n"},
    {"servers:\n- {url: http://a, tags: big}\n",
     "f:2: servers[0].tags: must be a list of strings, not a plain value\n"},
    {"servers:\n- {url: http://a, tags: [big, 'a b']}\n",
     "f:2: servers[0].tags[1]: a tag holds no space, comma or control character\n"},
    {"servers:\n- {url: http://a, weight: 2}\n",
     "f:2: servers[0].weight: unknown key; a server has name, url, depth and tags\n"},
    {"servers:\n- {url: http://a, url: http://b}\n", "f:2: servers[0].url: given twice, first on line 2\n"},
    {"servers:\n- {url: http://a, name: x}\n- {url: http://b, name: x}\n",
     "f:3: servers[1].name: \"x\" is the name of servers[0] too\n"},
    {"servers:\n- {url: http://a, name: x}\n- {url: http://a, name: y}\n",
     "f:3: servers[1].url: http://a is servers[0] too; to give it more jobs at a time use depth\n"},
    {"servers:\n- url: http://a\n- url: http://b\n  name: a:80\n",
     "f:3: servers[1].name: \"a:80\" is the name of servers[0] too\n"},
    /* all of them, in order of lines */
    {"log: {level: x}\ntimeout:\n  lost: 1\n  stal: 1s\nlisten: 1\nretry: 3\n",
     "f:1: log.level: must be one of debug, info, warn, error, not \"x\"\n"
     "f:3: timeout.lost: must be an integer and one of ms s m h d, such as 30s, not \"1\"\n"
     "f:4: timeout.stal: unknown key; did you mean timeout.stall?\n"
     "f:5: listen: must be HOST:PORT, \"1\" has no port\n"
     "f:6: retry: must be a mapping, not a plain value\n"},
    /* nothing of the file reaches a terminal's controls */
    {"\"a\\e[2J\": 1\nlisten: \"x\\e:1 \"\n", "f:1: a?[2J: unknown key\n"
                                              "f:2: listen: must be HOST:PORT, not \"x?:1 \"\n"},
};

static char *faults_of(const char *text, size_t len)
{
    struct config_faults f = {0};
    struct buf b = BUF_INIT;
    struct config c;
    int got;

    config_init(&c);
    got = config_parse(&c, text, len, NULL, &f);
    assert_int_equal(got, f.n ? -1 : 0);
    config_faults_put(&f, "f", &b);
    config_faults_fini(&f);
    config_fini(&c);
    return buf_take(&b);
}

static void every_fault_is_named_with_its_line(void **state)
{
    int wrong = 0;

    (void)state;
    assert_true(sizeof(faulty) / sizeof(faulty[0]) >= 60);
    for (size_t i = 0; i < sizeof(faulty) / sizeof(faulty[0]); i++) {
        char *got = faults_of(faulty[i].text, strlen(faulty[i].text));

        if (strcmp(got, faulty[i].faults) != 0) {
            print_message("file:\n%s\nsays:\n%sand not:\n%s", faulty[i].text, got, faulty[i].faults);
            wrong++;
        }
        free(got);
    }
    assert_int_equal(wrong, 0);
}

/* A file cut anywhere, or with any byte changed, gives faults or none, and nothing else happens. */
static void damaged_files_are_harmless(void **state)
{
    struct buf b = BUF_INIT;

    (void)state;
    config_put_yaml(&b);
    for (size_t i = 0; i < b.len; i += 23) {
        free(faults_of(b.data, i));
        for (const char *bad = "\t&*!:[{\"-\n\xff"; *bad; bad++) {
            char was = b.data[i];

            b.data[i] = *bad;
            free(faults_of(b.data, b.len));
            b.data[i] = was;
        }
    }
    buf_free(&b);
    for (size_t i = 0; i < sizeof(faulty) / sizeof(faulty[0]); i++)
        for (size_t n = 0; n < strlen(faulty[i].text); n++)
            free(faults_of(faulty[i].text, n));
}

/* ---- good files ---- */

static void parse(struct config *c, const char *text, const char *dir)
{
    struct config_faults f = {0};
    struct buf b = BUF_INIT;

    config_init(c);
    if (config_parse(c, text, strlen(text), dir, &f) < 0) {
        config_faults_put(&f, "f", &b);
        fail_msg("%s", buf_str(&b));
    }
}

static void assert_defaults(const struct config *c)
{
    struct config d;

    config_init(&d);
    for (size_t i = 0; i < config_n_keys; i++)
        if (config_differs(&config_keys[i], &d, c))
            fail_msg("%s differs from its default", config_keys[i].key);
    config_fini(&d);
}

static void what_the_manual_shows_is_read(void **state)
{
    static const char text[] =
        "listen: 127.0.0.1:8280\ndata_dir: /var/lib/comfymux\nservers:\n"
        "  - {name: gpu0, url: \"http://10.0.0.5:8188\"}\n"
        "  - {name: gpu1, url: \"http://10.0.0.6:8188\", depth: 2, tags: [big]}\n"
        "frontend: /usr/share/comfyui-frontend\nretry:   {max_attempts: 3}\n"
        "timeout: {connect: 3s, lost: 60s, stall: 30m, history: 60s, output: 60s, drain: 30s, queue: 0s}\n"
        "keep:    {finished: 30d, outputs: 30d, events: 1d, count: 1000000, size: 0B}\n"
        "limits:  {json: 64MiB, upload: 100MiB, queued: 100000, nodes: 20000, clients: 19000}\n"
        "cors:    []\nlog:     {level: info, format: text}\n";
    struct config c;

    (void)state;
    parse(&c, text, "/etc");
    assert_string_equal(c.listen, "127.0.0.1:8280");
    assert_string_equal(c.data_dir, "/var/lib/comfymux");
    assert_int_equal(c.servers.n, 2);
    assert_string_equal(c.servers.v[0].name, "gpu0");
    assert_int_equal(c.servers.v[0].depth, 1);
    assert_string_equal(c.servers.v[1].url, "http://10.0.0.6:8188");
    assert_int_equal(c.servers.v[1].depth, 2);
    assert_int_equal(c.servers.v[1].tags.n, 1);
    assert_string_equal(c.servers.v[1].tags.v[0], "big");
    assert_string_equal(c.frontend, "/usr/share/comfyui-frontend");
    assert_int_equal(c.retry.max_attempts, 3);
    assert_int_equal(c.timeout.connect, 3000);
    assert_int_equal(c.timeout.stall, 1800000);
    assert_int_equal(c.timeout.queue, 0);
    assert_int_equal(c.keep.finished, 30LL * 86400000);
    assert_int_equal(c.keep.size, 0);
    assert_int_equal(c.limits.json, 64 << 20);
    assert_int_equal(c.limits.clients, 19000);
    assert_int_equal(c.log.level, LOG_INFO);
    config_fini(&c);
}

static void numbers_come_out_in_base_units(void **state)
{
    struct config c;

    (void)state;
    parse(&c,
          "timeout: {connect: 250ms, lost: 2s, stall: 3m, history: 4h, output: 5d}\n"
          "keep: {size: 3GiB}\nlimits: {json: 1048576B, upload: 5MiB, queued: 7}\n"
          "log: {level: debug, format: json}\ncors: ['*', \"https://a.b:8443\", 'http://[::1]:3000']\n"
          "listen: \"[::1]:0\"\nservers:\n - url: http://Host.Example\n - url: https://[::1]/comfy\n",
          NULL);
    assert_int_equal(c.timeout.connect, 250);
    assert_int_equal(c.timeout.lost, 2000);
    assert_int_equal(c.timeout.stall, 180000);
    assert_int_equal(c.timeout.history, 4 * 3600000);
    assert_int_equal(c.timeout.output, 5LL * 86400000);
    assert_int_equal(c.keep.size, 3LL << 30);
    assert_int_equal(c.limits.json, 1 << 20);
    assert_int_equal(c.limits.upload, 5 << 20);
    assert_int_equal(c.limits.queued, 7);
    assert_int_equal(c.log.level, LOG_DEBUG);
    assert_int_equal(c.log.format, LOG_JSON);
    assert_int_equal(c.cors.n, 3);
    assert_string_equal(c.servers.v[0].name, "Host.Example:80");
    assert_string_equal(c.servers.v[1].name, "[::1]:443");
    config_fini(&c);
}

static void nothing_said_means_the_defaults(void **state)
{
    static const char *const empty[] = {"",
                                        "# only this\n",
                                        "---\n",
                                        "--- ~\n",
                                        "{}\n",
                                        "\xef\xbb\xbf# BOM\n",
                                        "timeout:\nkeep: {}\nlog: ~\nservers:\ncors: null\n"};
    struct config c;
    struct buf b = BUF_INIT;

    (void)state;
    for (size_t i = 0; i < sizeof(empty) / sizeof(empty[0]); i++) {
        parse(&c, empty[i], NULL);
        assert_defaults(&c);
        config_fini(&c);
    }
    config_put_yaml(&b);
    parse(&c, buf_str(&b), NULL);
    assert_defaults(&c);
    config_fini(&c);
    buf_free(&b);
}

/* The printed file with its examples switched on is a good file too, and names every key. */
static void the_printed_file_works_uncommented(void **state)
{
    struct buf b = BUF_INIT, on = BUF_INIT;
    struct config c;

    (void)state;
    config_put_yaml(&b);
    for (size_t i = 0; i < config_n_keys; i++) {
        const char *dot = strrchr(config_keys[i].key, '.');

        buf_clear(&on);
        buf_printf(&on, "%s:", dot ? dot + 1 : config_keys[i].key);
        assert_non_null(strstr(buf_str(&b), buf_str(&on)));
    }
    buf_clear(&on);
    for (char *line = strtok(b.data, "\n"); line; line = strtok(NULL, "\n")) {
        bool example = strstr(line, "# data_dir:") || strstr(line, "# servers:") || strstr(line, "#   - {") ||
                       strstr(line, "# frontend:");

        buf_printf(&on, "%s\n", example ? strstr(line, "# ") + 2 : line);
    }
    parse(&c, buf_str(&on), NULL);
    assert_int_equal(c.servers.n, 2);
    assert_non_null(c.frontend);
    config_fini(&c);
    buf_free(&b);
    buf_free(&on);
}

static void relative_paths_start_at_the_file(void **state)
{
    struct config c;
    struct err e;

    (void)state;
    parse(&c, "data_dir: here\nfrontend: /abs\n", "/etc/comfymux");
    assert_string_equal(c.data_dir, "/etc/comfymux/here");
    assert_string_equal(c.frontend, "/abs");
    assert_int_equal(config_set(&c, "data_dir", "there", &e), 0);
    assert_string_equal(c.data_dir, "there");
    config_fini(&c);
}

/* ---- flags, reload ---- */

static void flags_win_over_the_file(void **state)
{
    struct config c;
    struct err e;

    (void)state;
    parse(&c,
          "listen: a:1\nservers: [{name: gpu0, url: http://old, depth: 4}, {name: gpu1, url: http://b}]\n",
          NULL);
    assert_int_equal(config_set(&c, "listen", ":9000", &e), 0);
    assert_string_equal(c.listen, ":9000");
    assert_int_equal(config_set(&c, "listen", "nonsense", &e), -1);
    assert_string_equal(e.msg, "must be HOST:PORT, \"nonsense\" has no port");
    assert_string_equal(c.listen, ":9000");
    assert_int_equal(config_set(&c, "lisen", "a:1", &e), -1);
    assert_int_equal(config_set(&c, "servers", "a", &e), -1);
    assert_int_equal(config_add_server(&c, "gpu0=http://new", &e), 0);
    assert_int_equal(config_add_server(&c, "http://c:8188", &e), 0);
    assert_int_equal(c.servers.n, 3);
    assert_string_equal(c.servers.v[0].url, "http://new");
    assert_int_equal(c.servers.v[0].depth, 1);
    assert_string_equal(c.servers.v[2].name, "c:8188");
    config_fini(&c);
}

static void server_arguments(void **state)
{
    static const struct {
        const char *arg, *name, *url, *fault;
    } t[] = {
        {"http://a:8188", "a:8188", "http://a:8188", NULL},
        {"gpu=https://a", "gpu", "https://a", NULL},
        {"http://a/x=y", "a:80", "http://a/x=y", NULL},
        {"g=http://a/x=y", "g", "http://a/x=y", NULL},
        {"=http://a", NULL, NULL, "server \"=http://a\": a server's name has 1 to 64 characters"},
        {"a b=http://a", NULL, NULL,
         "server \"a b=http://a\": a server's name is made of letters, digits and . _ : [ ] -"},
        {"a:8188", NULL, NULL, "server \"a:8188\": a URL begins with http:// or https://"},
        {"g=", NULL, NULL, "server \"g=\": a URL begins with http:// or https://"},
        {"", NULL, NULL, "server \"\": a URL begins with http:// or https://"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
        struct config_server s;
        struct err e;

        if (t[i].fault) {
            assert_int_equal(config_server_parse(t[i].arg, &s, &e), -1);
            assert_string_equal(e.msg, t[i].fault);
        } else {
            assert_int_equal(config_server_parse(t[i].arg, &s, &e), 0);
            assert_string_equal(s.name, t[i].name);
            assert_string_equal(s.url, t[i].url);
            config_server_fini(&s);
        }
    }
}

static void note_key(const struct config_key *k, void *arg)
{
    buf_printf(arg, "%s ", k->key);
}

static void a_reload_tells_what_it_cannot_change(void **state)
{
    struct config a, b;
    struct buf names = BUF_INIT;

    (void)state;
    parse(&a, "listen: a:1\n", NULL);
    parse(&b,
          "listen: b:1\ndata_dir: /x\ncors: ['*']\nlog: {level: warn}\nservers: [{url: http://a}]\n"
          "timeout: {lost: 1s}\n",
          NULL);
    config_fixed_changes(&a, &b, note_key, &names);
    assert_string_equal(buf_str(&names), "listen data_dir ");
    assert_true(config_differs(config_key_find("cors"), &a, &b));
    assert_true(config_differs(config_key_find("servers"), &a, &b));
    assert_true(config_differs(config_key_find("log.level"), &a, &b));
    assert_true(config_differs(config_key_find("timeout.lost"), &a, &b));
    assert_false(config_differs(config_key_find("frontend"), &a, &b));
    assert_false(config_differs(config_key_find("servers"), &b, &b));
    config_keep_fixed(&a, &b);
    assert_string_equal(b.listen, "a:1");
    assert_string_equal(b.data_dir, a.data_dir);
    assert_int_equal(b.timeout.lost, 1000);
    buf_free(&names);
    config_fini(&a);
    config_fini(&b);
}

static void data_goes_where_the_system_says(void **state)
{
    char *dir;

    (void)state;
    setenv("STATE_DIRECTORY", "/var/lib/mine:/other", 1);
    dir = config_default_data_dir();
    assert_string_equal(dir, "/var/lib/mine");
    free(dir);
    unsetenv("STATE_DIRECTORY");
    setenv("XDG_DATA_HOME", "/home/u/data", 1);
    dir = config_default_data_dir();
    assert_string_equal(dir, geteuid() == 0 ? "/var/lib/comfymux" : "/home/u/data/comfymux");
    free(dir);
    setenv("XDG_DATA_HOME", "relative", 1);
    setenv("HOME", "/home/u", 1);
    dir = config_default_data_dir();
    assert_string_equal(dir, geteuid() == 0 ? "/var/lib/comfymux" : "/home/u/.local/share/comfymux");
    free(dir);
}

static void a_file_that_cannot_be_read_is_no_fault_of_its_text(void **state)
{
    struct config_faults f = {0};
    struct config c;
    struct err e;

    (void)state;
    config_init(&c);
    assert_int_equal(config_load(&c, "/does/not/exist.yaml", &f, &e), -1);
    assert_int_equal(f.n, 0);
    assert_string_equal(e.msg, "cannot read /does/not/exist.yaml: No such file or directory");
    assert_int_equal(config_load(&c, "/", &f, &e), -1);
    assert_string_equal(e.msg, "cannot read /: Is a directory");
    assert_int_equal(config_load(&c, "/dev/zero", &f, &e), -1);
    assert_string_equal(e.msg, "cannot read /dev/zero: larger than 1 MiB");
    config_fini(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_fault_is_named_with_its_line),
        cmocka_unit_test(damaged_files_are_harmless),
        cmocka_unit_test(what_the_manual_shows_is_read),
        cmocka_unit_test(numbers_come_out_in_base_units),
        cmocka_unit_test(nothing_said_means_the_defaults),
        cmocka_unit_test(the_printed_file_works_uncommented),
        cmocka_unit_test(relative_paths_start_at_the_file),
        cmocka_unit_test(flags_win_over_the_file),
        cmocka_unit_test(server_arguments),
        cmocka_unit_test(a_reload_tells_what_it_cannot_change),
        cmocka_unit_test(data_goes_where_the_system_says),
        cmocka_unit_test(a_file_that_cannot_be_read_is_no_fault_of_its_text),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
