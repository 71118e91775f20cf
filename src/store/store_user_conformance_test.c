/* The contract of store.h over every implementation: what users keep, and bytes by the beginning of their hash. */
#include "store/store_test_util.h"

static bool use_sqlite;

static int setup(void **state)
{
    struct fx *f = malloc(sizeof(*f));

    fx_open(f, use_sqlite);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    fx_close(*state);
    free(*state);
    return 0;
}

static enum store_status put_with(struct fx *f, const char *content, struct store_user_put in)
{
    in.tenant = in.tenant ? in.tenant : "t";
    in.area = in.area ? in.area : "data";
    in.at = in.at ? in.at : 5;
    CALL(f, blob_unpin, fx_pin(f, content, (int64_t)strlen(content)), on_done);
    hash_of(in.blake3, content);
    return CALL(f, user_put, &in, on_file);
}
#define PUT(p, content, ...) put_with(f, content, (struct store_user_put){.path = (p), __VA_ARGS__})
#define FIND(path) CALL(f, user_find, "t", "data", path, on_file)
#define MOVE(from, to, overwrite) CALL(f, user_move, "t", "data", from, to, overwrite, on_file)
#define REMOVE(path) CALL(f, user_remove, "t", "data", path, on_done)

static const char *listed(struct fx *f, const char *path)
{
    CALL(f, user_list, "t", "data", path, on_user_files);
    return buf_str(&f->text);
}

static void files_by_path(void **state)
{
    struct fx *f = *state;
    uint8_t h[BLAKE3_LEN];

    assert_int_equal(FIND("w/a.json"), STORE_NOT_FOUND);
    assert_int_equal(PUT("w/a.json", "one"), STORE_OK);
    assert_string_equal(f->file_name, "w/a.json");
    assert_int_equal(f->file.created, 5);
    assert_int_equal(f->file.at, 5);
    assert_int_equal(f->file.size, 3);
    assert_int_equal(PUT("w/a.json", "two!", .at = 9), STORE_OK);
    assert_int_equal(f->file.created, 5);
    assert_int_equal(f->file.at, 9);
    assert_int_equal(PUT("w/a.json", "three", .at = 10, .when = STORE_USER_NEW), STORE_EXISTS);
    fx_reopen(f);
    assert_int_equal(FIND("w/a.json"), STORE_OK);
    hash_of(h, "two!");
    assert_memory_equal(f->file.blake3, h, BLAKE3_LEN);
    assert_int_equal(f->file.size, 4);
    assert_int_equal(REMOVE("w/a.json"), STORE_OK);
    assert_int_equal(REMOVE("w/a.json"), STORE_NOT_FOUND);
    assert_int_equal(FIND("w/a.json"), STORE_NOT_FOUND);
    assert_int_equal(FIND("w"), STORE_NOT_FOUND); /* nothing is below it any more */
    assert_int_equal(PUT("n", "new", .when = STORE_USER_NEW), STORE_OK);
}

static void a_path_is_a_file_or_a_folder(void **state)
{
    struct fx *f = *state;

    assert_int_equal(PUT("a/b/c", "x"), STORE_OK);
    assert_int_equal(FIND("a"), STORE_CONFLICT);
    assert_int_equal(FIND("a/b"), STORE_CONFLICT);
    assert_int_equal(REMOVE("a/b"), STORE_CONFLICT);
    assert_int_equal(PUT("a/b", "x"), STORE_CONFLICT);
    assert_int_equal(PUT("a/b", "x", .when = STORE_USER_NEW), STORE_EXISTS);
    assert_int_equal(PUT("a/b/c/d", "x"), STORE_CONFLICT);
    assert_int_equal(PUT("a/b/c/d/e", "x"), STORE_CONFLICT);
    assert_int_equal(PUT("a/b/cc", "x"), STORE_OK);
    assert_int_equal(PUT("a/bb", "x"), STORE_OK);
    assert_int_equal(PUT("a0", "x"), STORE_OK); /* next to what is below a */
    assert_int_equal(PUT("a.x", "x"), STORE_OK);
    assert_string_equal(listed(f, "a"), "a/b/c a/b/cc a/bb ");
}

static void tenants_and_areas_do_not_meet(void **state)
{
    struct fx *f = *state;

    assert_int_equal(PUT("x", "one"), STORE_OK);
    assert_int_equal(PUT("x/y", "two", .tenant = "u"), STORE_OK);
    assert_int_equal(PUT("x/z", "three", .area = "users"), STORE_OK);
    assert_string_equal(listed(f, ""), "x ");
    assert_int_equal(CALL(f, user_find, "u", "data", "x", on_file), STORE_CONFLICT);
    assert_int_equal(CALL(f, user_find, "u", "users", "x/z", on_file), STORE_NOT_FOUND);
    assert_int_equal(CALL(f, user_remove, "u", "data", "x", on_done), STORE_CONFLICT);
    assert_int_equal(CALL(f, user_move, "u", "data", "x", "v", true, on_file), STORE_OK);
    assert_int_equal(FIND("x"), STORE_OK);
}

static void lists(void **state)
{
    struct fx *f = *state;

    assert_string_equal(listed(f, ""), "");
    assert_int_equal(f->st, STORE_OK);
    assert_int_equal(FIND(""), STORE_NOT_FOUND);
    listed(f, "w");
    assert_int_equal(f->st, STORE_NOT_FOUND);
    PUT("w/b", "x");
    PUT("w/a", "x");
    PUT("w/s/c", "x");
    PUT("v", "x");
    PUT("w%", "x");
    PUT("w_", "x");
    assert_string_equal(listed(f, ""), "v w% w/a w/b w/s/c w_ ");
    assert_string_equal(listed(f, "w"), "w/a w/b w/s/c ");
    assert_string_equal(listed(f, "w/s"), "w/s/c ");
    assert_int_equal(FIND(""), STORE_CONFLICT);
    listed(f, "v");
    assert_int_equal(f->st, STORE_CONFLICT);
}

static void only_what_was_read_is_replaced(void **state)
{
    struct fx *f = *state;
    uint8_t one[BLAKE3_LEN], two[BLAKE3_LEN];

    hash_of(one, "one");
    hash_of(two, "two");
    assert_int_equal(PUT("s", "one", .when = STORE_USER_SAME, .was = two), STORE_LOST);
    assert_int_equal(PUT("s", "one", .when = STORE_USER_SAME), STORE_OK);
    assert_int_equal(PUT("s", "two", .when = STORE_USER_SAME), STORE_LOST);
    assert_int_equal(PUT("s", "two", .when = STORE_USER_SAME, .was = two), STORE_LOST);
    assert_int_equal(PUT("s", "two", .when = STORE_USER_SAME, .was = one), STORE_OK);
    assert_int_equal(PUT("s", "one", .when = STORE_USER_SAME, .was = one), STORE_LOST);
    assert_int_equal(FIND("s"), STORE_OK);
    assert_memory_equal(f->file.blake3, two, BLAKE3_LEN);
}

static void there_is_a_limit(void **state)
{
    struct fx *f = *state;

    assert_int_equal(PUT("a", "x", .files_max = 2), STORE_OK);
    assert_int_equal(PUT("b", "x", .files_max = 2), STORE_OK);
    assert_int_equal(PUT("c", "x", .files_max = 2), STORE_LIMIT);
    assert_int_equal(PUT("b", "y", .files_max = 2), STORE_OK);
    assert_int_equal(PUT("c", "x", .files_max = 2, .area = "users"), STORE_OK);
    assert_int_equal(PUT("c", "x", .files_max = 2, .tenant = "u"), STORE_OK);
}

static void files_move(void **state)
{
    struct fx *f = *state;

    PUT("a", "one", .at = 1);
    PUT("b", "two", .at = 2);
    assert_int_equal(MOVE("nope", "c", true), STORE_NOT_FOUND);
    assert_int_equal(MOVE("a", "b", false), STORE_EXISTS);
    assert_int_equal(MOVE("a", "a", false), STORE_EXISTS);
    assert_int_equal(MOVE("a", "a", true), STORE_OK);
    assert_int_equal(MOVE("a", "a/b", true), STORE_CONFLICT); /* through itself */
    assert_int_equal(MOVE("a", "b/c", true), STORE_CONFLICT); /* through a file */
    assert_int_equal(MOVE("a", "s/c", false), STORE_OK);
    assert_string_equal(f->file_name, "s/c");
    assert_int_equal(f->file.at, 1);
    assert_int_equal(MOVE("s/c", "b", true), STORE_OK);
    assert_int_equal(f->file.size, 3);
    assert_string_equal(listed(f, ""), "b ");
    fx_reopen(f);
    assert_int_equal(FIND("b"), STORE_OK);
    assert_int_equal(f->file.at, 1);
    PUT("d/x", "x");
    assert_int_equal(MOVE("b", "d", false), STORE_EXISTS);
    assert_int_equal(MOVE("b", "d", true), STORE_OK); /* into the folder */
    assert_string_equal(f->file_name, "d/b");
    PUT("b", "y");
    assert_int_equal(MOVE("b", "d", true), STORE_CONFLICT); /* where there is one already */
    assert_int_equal(MOVE("d/b", "d", true), STORE_CONFLICT);
}

static void folders_move(void **state)
{
    struct fx *f = *state;
    char deep[STORE_USER_PATH_MAX + 1];

    PUT("w/a", "1");
    PUT("w/s/b", "2");
    PUT("v/c", "3");
    PUT("x", "4");
    assert_int_equal(MOVE("w", "x", true), STORE_CONFLICT);
    assert_int_equal(MOVE("w", "w/in", true), STORE_CONFLICT);
    assert_int_equal(MOVE("w", "w", true), STORE_CONFLICT);
    assert_int_equal(MOVE("w", "x/y", true), STORE_CONFLICT);
    assert_int_equal(MOVE("w", "new/w2", false), STORE_OK);
    assert_string_equal(f->file_name, "new/w2");
    assert_string_equal(listed(f, ""), "new/w2/a new/w2/s/b v/c x ");
    assert_int_equal(MOVE("new/w2", "v", true), STORE_OK);
    assert_string_equal(listed(f, ""), "v/c v/w2/a v/w2/s/b x ");
    memset(deep, 'd', sizeof(deep) - 1);
    deep[sizeof(deep) - 1] = '\0';
    assert_int_equal(MOVE("v", deep, true), STORE_CONFLICT); /* what is in it would not fit */
    assert_int_equal(MOVE("x", deep, true), STORE_OK);
}

static void on_unlink(const uint8_t h[BLAKE3_LEN], void *arg)
{
    buf_printf(arg, "%s ", (const char *)h);
}

static void user_files_hold_their_bytes(void **state)
{
    struct fx *f = *state;
    struct buf gone = BUF_INIT;

    PUT("a", "one");
    PUT("b", "two");
    PUT("c", "three");
    fx_reopen(f);
    CALL(f, blob_collect, 100, 0, 10, on_unlink, &gone, on_collected);
    assert_string_equal(buf_str(&gone), "");
    PUT("a", "four");
    REMOVE("b");
    MOVE("c", "d", false);
    fx_reopen(f);
    for (int i = 0; i < 2; i++)
        CALL(f, blob_collect, 100, 0, 10, on_unlink, &gone, on_collected);
    assert_true(strcmp(buf_str(&gone), "one two ") == 0 || strcmp(buf_str(&gone), "two one ") == 0);
    MOVE("d", "a", true); /* what was there goes */
    buf_clear(&gone);
    for (int i = 0; i < 2; i++)
        CALL(f, blob_collect, 100, 0, 10, on_unlink, &gone, on_collected);
    assert_string_equal(buf_str(&gone), "four ");
    buf_free(&gone);
}

static void a_blob_must_be_known(void **state)
{
    struct fx *f = *state;
    struct store_user_put in = {.tenant = "t", .area = "data", .path = "p"};

    hash_of(in.blake3, "never pinned");
    assert_int_equal(CALL(f, user_put, &in, on_file), STORE_NOT_FOUND);
    assert_int_equal(FIND("p"), STORE_NOT_FOUND);
}

/* --- bytes by the beginning of their hash --- */

static void hold_as_upload(struct fx *f, const char *tenant, const char *name, const char *content)
{
    struct store_input in = {
        .tenant = tenant, .type = "input", .subfolder = "", .name = name, .overwrite = true};

    CALL(f, blob_unpin, fx_pin(f, content, 9), on_done);
    hash_of(in.blake3, content);
    assert_int_equal(CALL(f, input_put, &in, on_file), STORE_OK);
}

static void aliases(void **state)
{
    struct fx *f = *state;
    struct job_input input = {.name = "cat.png"};
    struct bytes *g = text("{}");
    struct store_submit in = {.id = "a", .tenant = "t", .graph = g, .inputs = &input, .n_inputs = 1};

    /* "cats" is 63617473 */
    assert_int_equal(CALL(f, alias_find, "t", "63617473", on_file), STORE_NOT_FOUND);
    hold_as_upload(f, "t", "cat.png", "catsup");
    assert_int_equal(CALL(f, alias_find, "t", "63617473", on_file), STORE_OK);
    assert_string_equal((const char *)f->file.blake3, "catsup");
    assert_int_equal(f->file.size, 9);
    assert_int_equal(CALL(f, alias_find, "t", "636174737570", on_file), STORE_OK);
    assert_int_equal(CALL(f, alias_find, "t", "636174737571", on_file), STORE_NOT_FOUND);
    assert_int_equal(CALL(f, alias_find, "t", "6361747375zz", on_file), STORE_NOT_FOUND);
    assert_int_equal(CALL(f, alias_find, "u", "63617473", on_file), STORE_NOT_FOUND); /* another's */
    hash_of(input.blake3, "catsup");
    assert_int_equal(CALL(f, submit, &in, on_submitted), STORE_OK);
    bytes_unref(g);
    hold_as_upload(f, "t", "cat.png", "dog"); /* the name moves on; the job holds what it read */
    assert_int_equal(CALL(f, alias_find, "t", "63617473", on_file), STORE_OK);
    hold_as_upload(f, "u", "x.png", "catsuit"); /* not the caller's: does not disturb */
    assert_int_equal(CALL(f, alias_find, "t", "63617473", on_file), STORE_OK);
    hold_as_upload(f, "t", "x.png", "catsuit");
    assert_int_equal(CALL(f, alias_find, "t", "63617473", on_file), STORE_NOT_FOUND); /* which? */
    assert_int_equal(CALL(f, alias_find, "t", "636174737570", on_file), STORE_OK);
}

/* --- uploads whose name is chosen by other bytes than those that are stored --- */

static void uploads_that_count_as_others(void **state)
{
    struct fx *f = *state;
    uint8_t mask[BLAKE3_LEN], made[BLAKE3_LEN];
    struct store_input in = {.tenant = "t", .type = "input", .subfolder = "", .name = "m.png", .alike = mask};

    hash_of(mask, "mask");
    hash_of(made, "made");
    fx_pin(f, "made", 4);
    memcpy(in.blake3, made, BLAKE3_LEN);
    assert_int_equal(CALL(f, input_put, &in, on_file), STORE_OK);
    assert_string_equal(f->file_name, "m.png");
    assert_memory_equal(f->file.blake3, made, BLAKE3_LEN);
    assert_int_equal(CALL(f, input_put, &in, on_file), STORE_OK);
    assert_string_equal(f->file_name, "m (1).png"); /* the mask again, and none of that name is it */
    fx_pin(f, "mask", 4);
    in.alike = NULL;
    in.name = "n.png";
    memcpy(in.blake3, mask, BLAKE3_LEN);
    assert_int_equal(CALL(f, input_put, &in, on_file), STORE_OK);
    in.alike = mask;
    memcpy(in.blake3, made, BLAKE3_LEN);
    assert_int_equal(CALL(f, input_put, &in, on_file), STORE_OK);
    assert_string_equal(f->file_name, "n.png"); /* there is the mask itself: it stays */
    assert_memory_equal(f->file.blake3, mask, BLAKE3_LEN);
    in.only_name = true;
    memset(in.blake3, 0, BLAKE3_LEN);
    in.name = "m.png";
    assert_int_equal(CALL(f, input_put, &in, on_file), STORE_OK);
    assert_string_equal(f->file_name, "m (2).png");
    assert_int_equal(CALL(f, input_find, "t", "input", "", "m (2).png", on_file), STORE_NOT_FOUND);
    in.overwrite = true;
    assert_int_equal(CALL(f, input_put, &in, on_file), STORE_OK);
    assert_string_equal(f->file_name, "m.png");
    assert_int_equal(CALL(f, input_find, "t", "input", "", "m.png", on_file), STORE_OK);
    assert_memory_equal(f->file.blake3, made, BLAKE3_LEN);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(files_by_path),
        T(a_path_is_a_file_or_a_folder),
        T(tenants_and_areas_do_not_meet),
        T(lists),
        T(only_what_was_read_is_replaced),
        T(there_is_a_limit),
        T(files_move),
        T(folders_move),
        T(user_files_hold_their_bytes),
        T(a_blob_must_be_known),
        T(aliases),
        T(uploads_that_count_as_others),
    };
    int bad;

    log_set_sink(fx_no_log, NULL);
    bad = cmocka_run_group_tests_name("user files in memory", tests, NULL, NULL);
    use_sqlite = true;
    return bad + cmocka_run_group_tests_name("user files on SQLite", tests, NULL, NULL);
}
