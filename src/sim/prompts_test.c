#include "sim/prompts.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static int changes;

static void changed(void *arg)
{
    (void)arg;
    changes++;
}

static struct prompts *fresh(struct prompts *q)
{
    changes = 0;
    prompts_init(q, changed, NULL);
    return q;
}

static void push(struct prompts *q, double number, const char *id)
{
    struct prompt *p = xcalloc(1, sizeof(*p));

    p->number = number;
    p->whole = number == floor(number);
    p->id = xstrdup(id);
    p->graph = val_obj();
    p->extra = val_obj();
    p->outputs = val_arr();
    prompts_push(q, p);
}

static void expect_order(struct prompts *q, const char *want)
{
    struct buf got = BUF_INIT;
    struct prompt *p;

    while ((p = prompts_start(q))) {
        buf_printf(&got, "%s ", p->id);
        prompts_done(q, "\"outputs\": {}", 13);
    }
    assert_string_equal(buf_str(&got), want);
    buf_free(&got);
}

/* d4: lower numbers first, equal ones by id, fronts last in first out */
static void order(void **state)
{
    struct prompts q;

    (void)state;
    fresh(&q);
    push(&q, 120, "plain1");
    push(&q, 121, "plain2");
    push(&q, -122, "front1");
    push(&q, -123, "front2");
    push(&q, -1, "minus");
    push(&q, 2.5, "half");
    push(&q, 7, "b");
    push(&q, 7, "a");
    expect_order(&q, "front2 front1 minus half a b plain1 plain2 ");
    prompts_fini(&q);
}

/* What GET /queue lists is heapq's array, here as Python 3.11 has it after these pushes and one pop. */
static void heap_array(void **state)
{
    static const double numbers[] = {5, 3, 8, 1, 9, 2, 7, 4, 6, 0};
    struct prompts q;
    struct buf b = BUF_INIT;
    struct val *v;

    (void)state;
    fresh(&q);
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        char id[2] = {(char)('a' + i), 0};

        push(&q, numbers[i], id);
    }
    assert_non_null(prompts_start(&q));
    prompts_put_queue(&q, &b);
    v = val_parse(b.data, b.len, NULL);
    buf_clear(&b);
    for (size_t i = 0; i < val_get(v, "queue_pending")->len; i++) {
        buf_putc(&b, ' ');
        val_put(&b, val_get(v, "queue_pending")->item[i]->item[0]);
    }
    assert_string_equal(b.data, " 1 3 2 4 9 8 7 5 6");
    assert_int_equal(val_get(v, "queue_running")->len, 1);
    val_free(v);
    buf_free(&b);
    prompts_fini(&q);
}

/* Deleting the last pending one says so twice; an unknown one says nothing; running ones cannot be deleted.
 */
static void deleting(void **state)
{
    struct prompts q;

    (void)state;
    fresh(&q);
    push(&q, 1, "a");
    push(&q, 2, "b");
    push(&q, 3, "c");
    assert_non_null(prompts_start(&q));
    changes = 0;
    assert_false(prompts_delete(&q, "a"));
    assert_false(prompts_delete(&q, "nope"));
    assert_int_equal(changes, 0);
    assert_true(prompts_delete(&q, "b"));
    assert_int_equal(changes, 1);
    assert_true(prompts_delete(&q, "c"));
    assert_int_equal(changes, 3);
    assert_int_equal(prompts_remaining(&q), 1);
    prompts_fini(&q);
}

static void slice(struct prompts *q, const long *max, long offset, const char *want)
{
    struct buf b = BUF_INIT, got = BUF_INIT;
    struct val *v;

    history_put(q, &b, max, offset);
    v = val_parse(b.data, b.len, NULL);
    val_each(m, v) buf_puts(&got, m->key);
    assert_string_equal(buf_str(&got), want);
    val_free(v);
    buf_free(&b);
    buf_free(&got);
}

/* i1: the newest max_items, oldest first; with an offset from the oldest; 0 and negative ones as ComfyUI
 * slices */
static void history_slices(void **state)
{
    const long two = 2, none = 0, minus = -1;
    struct prompts q;

    (void)state;
    fresh(&q);
    for (int i = 0; i < 5; i++) {
        push(&q, i, (const char *[]){"a", "b", "c", "d", "e"}[i]);
        prompts_start(&q);
        prompts_done(&q, "\"outputs\": {}", 13);
    }
    slice(&q, NULL, -1, "abcde");
    slice(&q, &two, -1, "de");
    slice(&q, &two, 1, "bc");
    slice(&q, NULL, 3, "de");
    slice(&q, &none, -1, "");
    slice(&q, &minus, -1, "");
    push(&q, 9, "b"); /* a repeated id keeps the place of the first */
    prompts_start(&q);
    prompts_done(&q, "\"outputs\": {\"again\": 1}", 23);
    slice(&q, NULL, -1, "abcde");
    history_delete(&q, "c");
    history_delete(&q, "nope");
    slice(&q, NULL, -1, "abde");
    history_clear(&q);
    slice(&q, NULL, -1, "");
    prompts_fini(&q);
}

static void history_is_bounded(void **state)
{
    struct prompts q;

    (void)state;
    fresh(&q);
    for (int i = 0; i < HISTORY_MAX + 50; i++) {
        char *id = xasprintf("%d", i);

        push(&q, i, id);
        prompts_start(&q);
        prompts_done(&q, "\"outputs\": {}", 13);
        free(id);
    }
    assert_int_equal(history_count(&q), HISTORY_MAX + 1); /* ComfyUI looks before it adds */
    prompts_fini(&q);
}

/* NaN breaks the order, nothing else. */
static void not_a_number(void **state)
{
    struct prompts q;
    int n = 0;

    (void)state;
    fresh(&q);
    for (int i = 0; i < 20; i++)
        push(&q, i % 3 ? i : NAN, "x");
    while (prompts_start(&q)) {
        prompts_forget_running(&q);
        n++;
    }
    assert_int_equal(n, 20);
    prompts_fini(&q);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(order),
        cmocka_unit_test(heap_array),
        cmocka_unit_test(deleting),
        cmocka_unit_test(history_slices),
        cmocka_unit_test(history_is_bounded),
        cmocka_unit_test(not_a_number),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
