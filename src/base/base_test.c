/* The small things of base/: err, buf, list, mem, hash, uuid, clock, log. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/list.h"
#include "base/log.h"
#include "base/rank.h"
#include "base/strset.h"
#include "base/utf8.h"
#include "base/uuid.h"

static void test_err(void **state)
{
    struct err e = {0};
    char big[2 * ERR_MSG_MAX];

    (void)state;
    assert_int_equal(err_set(&e, 5, "no %s", "way"), -1);
    assert_int_equal(e.code, 5);
    assert_string_equal(e.msg, "no way");
    assert_int_equal(err_wrap(&e, "reading %d", 7), -1);
    assert_string_equal(e.msg, "reading 7: no way");
    assert_int_equal(e.code, 5);
    assert_int_equal(err_errno(&e, ENOENT, "open %s", "x"), -1);
    assert_string_equal(e.msg, "open x: No such file or directory");
    memset(big, 'a', sizeof(big));
    big[sizeof(big) - 1] = '\0';
    err_set(&e, 0, "%s", big);
    assert_int_equal(strlen(e.msg), ERR_MSG_MAX - 1);
    assert_string_equal(e.msg + ERR_MSG_MAX - 5, "a...");
    err_wrap(&e, "%s", "front");
    assert_int_equal(strlen(e.msg), ERR_MSG_MAX - 1);
    assert_memory_equal(e.msg, "front: aaa", 10);
    assert_string_equal(e.msg + ERR_MSG_MAX - 4, "...");
    err_wrap(&e, "%s", big);
    assert_string_equal(e.msg + ERR_MSG_MAX - 4, "...");
    err_errno(&e, ENOENT, "%s", big);
    assert_string_equal(e.msg + ERR_MSG_MAX - 4, "...");
    assert_int_equal(err_set(NULL, 1, "x"), -1);
    assert_int_equal(err_errno(NULL, 1, "x"), -1);
    assert_int_equal(err_wrap(NULL, "x"), -1);
}

static void test_buf(void **state)
{
    struct buf b = BUF_INIT;
    struct bytes *s;
    char *p;

    (void)state;
    assert_string_equal(buf_str(&b), "");
    buf_consume(&b, 0);
    buf_put(&b, NULL, 0);
    for (int i = 0; i < 1000; i++)
        buf_printf(&b, "%d,", i);
    assert_int_equal(b.len, 3890);
    assert_int_equal(strlen(buf_str(&b)), b.len);
    buf_consume(&b, 3886);
    assert_string_equal(buf_str(&b), "999,");
    buf_putc(&b, 'x');
    buf_put_u32be(&b, 0x01020384);
    assert_int_equal(b.len, 9);
    assert_memory_equal(b.data + 5, "\x01\x02\x03\x84", 5);
    s = buf_to_bytes(&b);
    assert_int_equal(s->len, 9);
    assert_int_equal(s->data[9], 0);
    assert_null(b.data);
    bytes_ref(s);
    bytes_unref(s);
    bytes_unref(s);
    bytes_unref(NULL);
    p = buf_take(&b);
    assert_string_equal(p, "");
    free(p);
    buf_puts(&b, "abc");
    buf_clear(&b);
    assert_string_equal(buf_str(&b), "");
    p = buf_take(&b);
    assert_string_equal(p, "");
    free(p);
    /* a text longer than what was reserved */
    buf_printf(&b, "%0300d", 7);
    assert_int_equal(b.len, 300);
    assert_int_equal(b.data[299], '7');
    buf_free(&b);
}

struct item {
    int n;
    struct list link;
    UT_hash_handle hh;
    char key[16];
};

static void test_list(void **state)
{
    struct list l;
    struct item it[4] = {{.n = 0}, {.n = 1}, {.n = 2}, {.n = 3}};
    int seen = 0;

    (void)state;
    list_init(&l);
    assert_true(list_empty(&l));
    assert_null(list_first(&l, struct item, link));
    for (int i = 0; i < 3; i++)
        list_push_back(&l, &it[i].link);
    list_push_front(&l, &it[3].link);
    assert_int_equal(list_len(&l), 4);
    assert_int_equal(list_first(&l, struct item, link)->n, 3);
    assert_int_equal(list_last(&l, struct item, link)->n, 2);
    list_for_each_safe(e, &l) {
        struct item *i = list_entry(e, struct item, link);

        seen = seen * 10 + i->n;
        if (i->n != 1)
            list_remove(e);
    }
    assert_int_equal(seen, 3012);
    list_for_each(e, &l)
        assert_int_equal(list_entry(e, struct item, link)->n, 1);
    list_remove(&it[1].link);
    list_remove(&it[1].link); /* harmless twice */
    assert_true(list_empty(&l));
}

/* --- rank --- */

struct ranked {
    struct rank_node node;
    int key;
    bool in;
};

static bool ranked_before(const struct rank_node *a, const struct rank_node *b)
{
    return container_of(a, struct ranked, node)->key < container_of(b, struct ranked, node)->key;
}

/* Against counting: keys come and go at random, in order and against it. */
static void test_rank(void **state)
{
    static struct ranked v[300];
    struct rank r;
    unsigned rnd = 1;

    (void)state;
    rank_init(&r, ranked_before);
    for (int i = 0; i < 300; i++)
        v[i] = (struct ranked){.key = i % 3 == 0 ? i : 1000 - i};
    for (int round = 0; round < 4000; round++) {
        struct ranked *e = &v[round < 300 ? round : (int)((rnd = rnd * 1664525 + 1013904223) >> 8) % 300];
        size_t before = 0, all = 0;

        e->in ? rank_remove(&r, &e->node) : rank_add(&r, &e->node);
        e->in = !e->in;
        rank_remove(&r, &(struct rank_node){0}); /* in no set */
        e = &v[(rnd >> 4) % 300];
        for (int i = 0; i < 300; i++) {
            all += v[i].in;
            before += v[i].in && v[i].key < e->key;
        }
        assert_int_equal(rank_size(&r), all);
        if (e->in)
            assert_int_equal(rank_of(&e->node), before);
    }
}

static void test_hash(void **state)
{
    struct item *table = NULL, *found;
    static struct item items[2000];
    uint64_t before = hash_bytes("abc", 3);
    /* SipHash-1-3 under key 00..0f of the bytes 00, 01, ...: the values of the reference implementation. */
    static const struct {
        size_t n;
        uint64_t h;
    } vectors[] = {{0, 0xabac0158050fc4dcu},
                   {1, 0xc9f49bf37d57ca93u},
                   {7, 0xd3927d989bb11140u},
                   {8, 0x369095118d299a8eu},
                   {15, 0xd320d86d2a519956u}};
    unsigned char in[16];

    (void)state;
    for (int i = 0; i < 2000; i++) {
        snprintf(items[i].key, sizeof(items[i].key), "k%d", i);
        HASH_ADD_STR(table, key, &items[i]);
    }
    for (int i = 0; i < 2000; i++) {
        char key[16];

        snprintf(key, sizeof(key), "k%d", i);
        HASH_FIND_STR(table, key, found);
        assert_ptr_equal(found, &items[i]);
    }
    HASH_FIND_STR(table, "nobody", found);
    assert_null(found);
    HASH_CLEAR(hh, table);

    assert_true(hash_bytes("abc", 3) == before);
    assert_true(hash_bytes("abd", 3) != before);
    assert_true(hash_bytes("abc\0", 4) != before);
    hash_seed(0x0706050403020100u, 0x0f0e0d0c0b0a0908u);
    assert_true(hash_bytes("abc", 3) != before);
    for (size_t i = 0; i < sizeof(in); i++)
        in[i] = (unsigned char)i;
    for (size_t i = 0; i < ARRAY_LEN(vectors); i++)
        assert_true(hash_bytes(in, vectors[i].n) == vectors[i].h);
}

struct fake_clock {
    struct clock c;
    int64_t wall;
    unsigned char byte;
};

static int64_t fake_wall(struct clock *c)
{
    return ((struct fake_clock *)c)->wall;
}

static void fake_random(struct clock *c, void *out, size_t n)
{
    memset(out, ((struct fake_clock *)c)->byte, n);
}

static void test_uuid(void **state)
{
    struct fake_clock f = {{NULL, fake_wall, fake_random}, 0x0193456789ab, 0xff};
    char a[UUID_SIZE], b[UUID_SIZE];

    (void)state;
    uuid_v7(&f.c, a);
    assert_string_equal(a, "01934567-89ab-7fff-bfff-ffffffffffff");
    f.wall++;
    f.byte = 0;
    uuid_v7(&f.c, b);
    assert_string_equal(b, "01934567-89ac-7000-8000-000000000000");
    assert_true(strcmp(a, b) < 0);
    uuid_v4(&f.c, a);
    assert_string_equal(a, "00000000-0000-4000-8000-000000000000");
    uuid_v4(clock_system(), a);
    uuid_v4(clock_system(), b);
    assert_string_not_equal(a, b);
    assert_true(uuid_is_canonical(a, UUID_LEN));
    assert_false(uuid_is_canonical(a, UUID_LEN - 1));
    for (size_t i = 0; i < UUID_LEN; i++) {
        char was = b[i];

        b[i] = 'g';
        assert_false(uuid_is_canonical(b, UUID_LEN));
        b[i] = 'A';
        assert_false(uuid_is_canonical(b, UUID_LEN));
        b[i] = was == '-' ? '0' : '-';
        assert_false(uuid_is_canonical(b, UUID_LEN));
        b[i] = was;
    }
}

static void test_clock(void **state)
{
    struct clock *c = clock_system();
    int64_t a = c->mono_ms(c), b = c->mono_ms(c);
    unsigned char r[32] = {0}, zero[32] = {0};

    (void)state;
    assert_true(b >= a);
    assert_true(c->wall_ms(c) > 1600000000000);
    c->random(c, r, sizeof(r));
    assert_memory_not_equal(r, zero, sizeof(r));
}

static struct buf logged;

static void keep(void *arg, enum log_level level, const char *line, size_t len)
{
    (void)arg;
    (void)level;
    buf_put(&logged, line, len);
}

static void test_log_text(void **state)
{
    (void)state;
    log_set_sink(keep, NULL);
    log_setup(LOG_INFO, LOG_TEXT);
    log_debug(LOG_S("never", "seen"));
    assert_int_equal(logged.len, 0);
    log_info(LOG_S("job", "a1"), LOG_S("none", NULL), LOG_S("why", "two words"), LOG_S("e", ""),
             LOG_I("n", -3), LOG_N("part", "abcdef", 3), LOG_S("q", "a\"b\\c=\n\r\x01"));
    assert_non_null(logged.data);
    assert_int_equal(logged.data[10], 'T');
    assert_string_equal(
        logged.data + 23,
        "Z info job=a1 why=\"two words\" e=\"\" n=-3 part=abc q=\"a\\\"b\\\\c=\\n\\u000d\\u0001\"\n");
    buf_free(&logged);
    assert_int_equal(log_level_parse("warn"), LOG_WARN);
    assert_int_equal(log_level_parse("loud"), -1);
    log_set_sink(NULL, NULL);
}

/* A line is JSON in UTF-8 whatever bytes a peer sent. */
static void test_log_json(void **state)
{
    char all[256];
    struct json v;
    struct err e;
    struct buf s = BUF_INIT;

    (void)state;
    log_set_sink(keep, NULL);
    log_setup(LOG_INFO, LOG_JSON);
    for (int i = 0; i < 256; i++)
        all[i] = (char)(255 - i);
    log_warn(LOG_S("id", "x"), LOG_N("bytes", all, sizeof(all)), LOG_S("cut", "ok\xe2\x82"), LOG_I("n", 5),
             LOG_S("none", NULL));
    assert_int_equal(logged.data[logged.len - 1], '\n');
    assert_ptr_equal(strchr(logged.data, '\n'), logged.data + logged.len - 1);
    assert_true(utf8_is_valid(logged.data, logged.len));
    if (json_check(logged.data, logged.len, NULL, &v, &e) < 0)
        fail_msg("%s: %s", e.msg, logged.data);
    assert_true(json_str_eq(json_get(v, "level"), "warn"));
    assert_true(json_str_eq(json_get(v, "id"), "x"));
    assert_true(json_str_eq(json_get(v, "cut"), "ok\xef\xbf\xbd"));
    assert_true(json_is_int_literal(json_get(v, "n")));
    assert_int_equal(json_type(json_get(v, "none")), JSON_NONE);
    assert_int_equal(json_str(json_get(v, "bytes"), &s), 0);
    assert_int_equal(s.data[s.len - 1], 0);
    assert_int_equal(json_count(v), 6);
    buf_free(&s);
    buf_free(&logged);
    log_setup(LOG_INFO, LOG_TEXT);
    log_set_sink(NULL, NULL);
}

/* A server may name as many nodes as it likes. */
static void test_strset(void **state)
{
    const struct strset_item *i;
    struct strset s = {0};
    char name[16], *big = xcalloc(1, 5000);
    size_t n = 0;

    (void)state;
    assert_false(strset_has(&s, "a"));
    assert_null(strset_next(&s, NULL));
    assert_true(strset_add(&s, "b", 4096));
    assert_true(strset_add(&s, "a", 4096));
    assert_true(strset_add(&s, "b", 4096));
    assert_int_equal(s.n, 2);
    i = strset_next(&s, NULL);
    assert_string_equal(strset_name(i), "b");
    i = strset_next(&s, i);
    assert_string_equal(strset_name(i), "a");
    assert_null(strset_next(&s, i));

    memset(big, 'x', 4999);
    assert_false(strset_add(&s, big, 4096));
    for (int k = 0; k < 100000; k++) {
        snprintf(name, sizeof(name), "%d", k);
        n += strset_add(&s, name, 4096);
    }
    assert_in_range(n, 10, 100);
    assert_int_equal(s.n, n + 2);
    assert_in_range(s.bytes, 3900, 4096);
    assert_true(strset_add(&s, "7", 4096)); /* there already */
    assert_true(strset_has(&s, "7"));
    assert_false(strset_has(&s, "99999"));
    strset_clear(&s);
    assert_false(strset_has(&s, "7"));
    free(big);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_err),      cmocka_unit_test(test_buf),    cmocka_unit_test(test_list),
        cmocka_unit_test(test_rank),     cmocka_unit_test(test_strset), cmocka_unit_test(test_hash),
        cmocka_unit_test(test_uuid),     cmocka_unit_test(test_clock),  cmocka_unit_test(test_log_text),
        cmocka_unit_test(test_log_json),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
