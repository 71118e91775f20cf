#include "image/images.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/log.h"

/* The helper is image_fake_helper.c: it does what the picture says. */

static struct buf logged;

struct fx {
    struct loop *l;
    struct images *im;
    struct images_config cfg;
    char dir[64], helper[160], cache[80];
    struct image_want want;
};

struct got {
    int n;
    enum image_status st;
    char text[256], why[256];
};

static void sink(void *arg, enum log_level level, const char *line, size_t len)
{
    (void)arg, (void)level;
    buf_put(&logged, line, len);
}

static int rm(const char *path, const struct stat *st, int flag, struct FTW *w)
{
    (void)st, (void)flag, (void)w;
    return remove(path);
}

static void open_images(struct fx *f)
{
    struct err e;

    f->im = images_new(f->l, &f->cfg, &e);
    assert_non_null(f->im);
}

static void use_helper(struct fx *f, const char *name)
{
    snprintf(f->helper, sizeof(f->helper), "%s/%s", f->dir, name);
    assert_int_equal(symlink(getenv("COMFYMUX_FAKE_HELPER"), f->helper), 0);
}

static int setup(void **state)
{
    struct fx *f = calloc(1, sizeof(*f));
    struct err e;

    strcpy(f->dir, "/tmp/images-test-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->cache, sizeof(f->cache), "%s/cache", f->dir);
    use_helper(f, "helper");
    f->l = loop_new(&e);
    f->cfg = images_config_default;
    f->cfg.helper = f->helper;
    f->cfg.dir = f->cache;
    f->want = (struct image_want){.op = IMAGE_WEBP, .quality = 90};
    buf_clear(&logged);
    log_set_sink(sink, NULL);
    *state = f;
    return 0;
}

/* No process of ours is left, not even a dead one. */
static bool childless(void)
{
    siginfo_t si;

    return waitid(P_ALL, 0, &si, WEXITED | WNOHANG | WNOWAIT) < 0 && errno == ECHILD;
}

static int teardown(void **state)
{
    struct fx *f = *state;

    images_free(&f->im);
    assert_true(childless());
    loop_free(&f->l);
    log_set_sink(NULL, NULL);
    buf_free(&logged);
    nftw(f->dir, rm, 16, FTW_DEPTH | FTW_PHYS);
    free(f);
    return 0;
}

static void on_picture(const struct image_result *r, void *arg)
{
    struct got *g = arg;

    g->n++;
    g->st = r->status;
    snprintf(g->why, sizeof(g->why), "%s", r->why ? r->why : "");
    assert_int_equal(r->fd >= 0, r->status == IMAGE_OK);
    if (r->fd >= 0) {
        ssize_t n = pread(r->fd, g->text, sizeof(g->text) - 1, 0);

        assert_int_equal(n, r->size);
        g->text[n] = '\0';
        close(r->fd);
    }
}

/* A file with this text; its "hash" is the text's first bytes. */
static void ask(struct fx *f, const char *text, struct got *g)
{
    uint8_t hash[IMAGE_HASH_LEN] = {0};
    char path[] = "/tmp/images-test-in-XXXXXX";
    int fd = mkostemp(path, O_CLOEXEC), before = g->n;

    assert_true(fd >= 0);
    unlink(path);
    assert_int_equal(write(fd, text, strlen(text)), (int)strlen(text));
    memcpy(hash, text, strlen(text) < sizeof(hash) ? strlen(text) : sizeof(hash));
    images_convert(f->im, hash, fd, &f->want, on_picture, g);
    assert_int_equal(g->n, before); /* never inside */
}

static void ask_mask(struct fx *f, const char *text, const char *mask, struct got *g)
{
    uint8_t hash[IMAGE_HASH_LEN] = {0};
    int fd[2];

    for (int i = 0; i < 2; i++) {
        char path[] = "/tmp/images-test-in-XXXXXX";
        const char *t = i ? mask : text;

        fd[i] = mkostemp(path, O_CLOEXEC);
        assert_true(fd[i] >= 0);
        unlink(path);
        assert_int_equal(write(fd[i], t, strlen(t)), (int)strlen(t));
    }
    snprintf((char *)hash, sizeof(hash), "%s|%s", text, mask);
    images_compose(f->im, hash, fd[0], fd[1], on_picture, g);
}

/* The deadline is a safety net only. */
#define UNTIL(f, cond)                                                                                       \
    do {                                                                                                     \
        struct clock *c_ = clock_system();                                                                   \
        int64_t end_ = c_->mono_ms(c_) + 60000;                                                              \
        while (!(cond) && c_->mono_ms(c_) < end_)                                                            \
            loop_turn((f)->l, 5);                                                                            \
        assert_true(cond);                                                                                   \
    } while (0)

static struct got ask_and_wait(struct fx *f, const char *text)
{
    struct got g = {0};

    ask(f, text, &g);
    UNTIL(f, g.n == 1);
    return g;
}

static struct images_counts counts(const struct fx *f)
{
    struct images_counts n;

    images_counts(f->im, &n);
    return n;
}

static unsigned files_in(const char *dir)
{
    DIR *d = opendir(dir);
    struct dirent *e;
    unsigned n = 0;

    assert_non_null(d);
    while ((e = readdir(d)) != NULL)
        n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

static void assert_works(struct fx *f, const char *text)
{
    struct got g = ask_and_wait(f, text);

    assert_string_equal(g.why, "");
    assert_int_equal(g.st, IMAGE_OK);
    assert_string_equal(g.text, text + 3);
}

/* --- what goes well --- */

static void test_made_once_then_kept(void **state)
{
    struct fx *f = *state;

    setenv("COMFYMUX_TEST_SECRET", "1", 1);
    open_images(f);
    assert_works(f, "ok one");
    assert_works(f, "ok one");
    assert_int_equal(counts(f).made, 1);
    assert_int_equal(counts(f).from_cache, 1);
    f->want.quality = 50; /* another wish, another picture */
    assert_works(f, "ok one");
    assert_int_equal(counts(f).made, 2);
    assert_int_equal(counts(f).bytes, 6);
    unsetenv("COMFYMUX_TEST_SECRET");
}

static void test_a_mask_goes_along(void **state)
{
    struct fx *f = *state;
    struct got g = {0}, dead = {0};

    open_images(f);
    ask_mask(f, "ok pic", "+mask", &g);
    UNTIL(f, g.n == 1);
    assert_string_equal(g.text, "pic+mask");
    ask_mask(f, "die", "+mask", &dead);
    UNTIL(f, dead.n == 1);
    assert_int_equal(dead.st, IMAGE_CRASHED);
    ask_mask(f, "ok pic", "+other", &g);
    UNTIL(f, g.n == 2);
    assert_string_equal(g.text, "pic+other");
}

static void test_who_asks_for_the_same_waits_for_one(void **state)
{
    struct fx *f = *state;
    struct got g[3] = {{0}};

    open_images(f);
    for (int i = 0; i < 3; i++)
        ask(f, "ok same", &g[i]);
    UNTIL(f, g[0].n == 1 && g[1].n == 1 && g[2].n == 1);
    for (int i = 0; i < 3; i++)
        assert_string_equal(g[i].text, "same");
    assert_int_equal(counts(f).made, 1);
    assert_int_equal(counts(f).waiting, 0);
}

static void test_an_idle_helper_is_ended(void **state)
{
    struct fx *f = *state;

    f->cfg.idle_ms = 1;
    open_images(f);
    assert_works(f, "ok one");
    UNTIL(f, childless());
    assert_int_equal(counts(f).died, 0);
    assert_works(f, "ok two");
}

static void test_the_cache_is_bounded(void **state)
{
    struct fx *f = *state;

    f->cfg.cache_max = 10;
    open_images(f);
    assert_works(f, "ok 1111");
    assert_works(f, "ok 2222");
    assert_works(f, "ok 1111"); /* used again: the other one is the oldest */
    assert_works(f, "ok 3333");
    assert_int_equal(counts(f).bytes, 8);
    assert_int_equal(files_in(f->cache), 2);
    assert_works(f, "ok 1111");
    assert_int_equal(counts(f).made, 3);
    assert_works(f, "ok 2222");
    assert_int_equal(counts(f).made, 4);
    assert_works(f, "ok larger than all that is allowed"); /* told, and gone with the next */
    assert_works(f, "ok 3333");
    assert_int_equal(counts(f).bytes, 4);
    assert_int_equal(files_in(f->cache), 1);
}

static void test_a_start_forgets_what_was_made(void **state)
{
    struct fx *f = *state;
    char path[128];
    int fd;

    open_images(f);
    assert_works(f, "ok one");
    images_free(&f->im);
    assert_int_equal(files_in(f->cache), 0);
    snprintf(path, sizeof(path), "%s/17", f->cache); /* as after a crash */
    fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    close(fd);
    open_images(f);
    assert_int_equal(files_in(f->cache), 0);
}

static void test_a_cached_file_that_somebody_removed(void **state)
{
    struct fx *f = *state;

    open_images(f);
    assert_works(f, "ok one");
    nftw(f->cache, rm, 16, FTW_DEPTH | FTW_PHYS);
    assert_int_equal(ask_and_wait(f, "ok one").st, IMAGE_NO_SPACE);
    assert_int_equal(mkdir(f->cache, 0700), 0);
    assert_works(f, "ok one");
}

/* --- what does not --- */

static void test_a_helper_that_dies_costs_its_picture(void **state)
{
    static const char *const deaths[] = {"die", "exit", "magic", "seq", "short", "status", "huge", "minus"};
    struct fx *f = *state;

    f->cfg.helpers = 1;
    open_images(f);
    for (size_t i = 0; i < ARRAY_LEN(deaths); i++) {
        struct got bad = {0}, good = {0};
        char text[32];

        snprintf(text, sizeof(text), "ok after %s", deaths[i]);
        ask(f, deaths[i], &bad);
        ask(f, text, &good); /* waits behind it */
        UNTIL(f, bad.n && good.n);
        assert_int_equal(bad.st, IMAGE_CRASHED);
        assert_true(bad.why[0] != '\0');
        assert_int_equal(good.st, IMAGE_OK);
        assert_int_equal(counts(f).died, i + 1);
        assert_int_equal(ask_and_wait(f, deaths[i]).st, IMAGE_CRASHED); /* remembered */
        assert_int_equal(counts(f).died, i + 1);
    }
    assert_int_equal(files_in(f->cache), ARRAY_LEN(deaths)); /* nothing of the bad ones */
}

static void test_a_liar(void **state)
{
    struct fx *f = *state;

    open_images(f);
    assert_int_equal(ask_and_wait(f, "liar").st, IMAGE_CRASHED);
    assert_int_equal(files_in(f->cache), 0);
    assert_works(f, "ok twice"); /* and speaks without being asked */
    UNTIL(f, counts(f).died == 1);
    assert_works(f, "ok then");
}

static void test_a_helper_that_hangs_is_killed(void **state)
{
    struct fx *f = *state;

    f->cfg.helpers = 1;
    f->cfg.timeout_ms = 300;
    f->cfg.forgive_ms = 0;
    open_images(f);
    assert_int_equal(ask_and_wait(f, "hang").st, IMAGE_TIMEOUT);
    assert_int_equal(counts(f).died, 1);
    assert_int_equal(ask_and_wait(f, "hang").st, IMAGE_TIMEOUT); /* forgiven, tried again */
    assert_int_equal(counts(f).died, 2);
    assert_int_equal(ask_and_wait(f, "burn").st, IMAGE_TIMEOUT); /* so much that the system ended it */
    f->cfg.timeout_ms = 60000;
    images_free(&f->im);
    open_images(f);
    assert_works(f, "ok then");
}

static void test_what_cannot_be_made_is_remembered(void **state)
{
    struct fx *f = *state;
    struct got g;

    open_images(f);
    g = ask_and_wait(f, "broken");
    assert_int_equal(g.st, IMAGE_BROKEN);
    assert_int_equal(strlen(g.why), 159); /* cut, and fit for a line of the log */
    assert_int_equal(g.why[0], '?');
    assert_int_equal(ask_and_wait(f, "refuse").st, IMAGE_REFUSED);
    assert_int_equal(ask_and_wait(f, "refuse").st, IMAGE_REFUSED);
    assert_int_equal(ask_and_wait(f, "broken").st, IMAGE_BROKEN);
    assert_int_equal(counts(f).failed, 2);
    assert_int_equal(counts(f).from_cache, 2);
    assert_int_equal(counts(f).died, 0);
}

static void test_the_queue_is_bounded(void **state)
{
    struct fx *f = *state;
    struct got g[4] = {{0}};
    char text[16];

    f->cfg.queue_max = 2;
    open_images(f);
    for (int i = 0; i < 4; i++) {
        snprintf(text, sizeof(text), "ok %d", i);
        ask(f, text, &g[i]);
    }
    UNTIL(f, g[0].n && g[1].n && g[2].n && g[3].n);
    assert_int_equal(g[0].st, IMAGE_OK);
    assert_int_equal(g[1].st, IMAGE_OK);
    assert_int_equal(g[2].st, IMAGE_BUSY);
    assert_int_equal(g[3].st, IMAGE_BUSY);
    assert_works(f, "ok 2");
}

/* --- no helper --- */

static unsigned times(const char *what)
{
    unsigned n = 0;

    for (const char *s = buf_str(&logged); (s = strstr(s, what)) != NULL; s++)
        n++;
    return n;
}

static void test_no_helper_is_installed(void **state)
{
    struct fx *f = *state;

    unlink(f->helper);
    open_images(f);
    assert_false(images_usable(f->im));
    assert_int_equal(ask_and_wait(f, "ok one").st, IMAGE_UNAVAILABLE);
    assert_false(images_usable(f->im));
    assert_int_equal(times("image_helper_missing"), 1);
    use_helper(f, "helper"); /* installed meanwhile */
    assert_true(images_usable(f->im));
    assert_works(f, "ok one");
}

static void no_start(struct fx *f, const char *name)
{
    struct got g[2] = {{0}};

    use_helper(f, name);
    f->cfg.helpers = 1;
    f->cfg.start_ms = strcmp(name, "mute") == 0 ? 300 : 60000;
    open_images(f);
    ask(f, "ok one", &g[0]);
    ask(f, "ok two", &g[1]);
    UNTIL(f, g[0].n && g[1].n);
    assert_int_equal(g[0].st, IMAGE_UNAVAILABLE);
    assert_int_equal(g[1].st, IMAGE_UNAVAILABLE);
    assert_false(images_usable(f->im)); /* for retry_ms */
    assert_int_equal(ask_and_wait(f, "ok one").st, IMAGE_UNAVAILABLE);
    assert_int_equal(counts(f).died, 1);
    assert_int_equal(times("image_helper_unavailable"), 1);
    assert_int_equal(counts(f).kept, 0); /* it says nothing about the picture */
}

static void test_a_helper_that_ends_at_once(void **state)
{
    no_start(*state, "stillborn");
}

static void test_a_helper_that_says_nothing(void **state)
{
    no_start(*state, "mute");
}

static void test_a_helper_of_another_version(void **state)
{
    no_start(*state, "old");
}

static void test_it_is_tried_again(void **state)
{
    struct fx *f = *state;

    use_helper(f, "stillborn");
    f->cfg.retry_ms = 1;
    open_images(f);
    assert_int_equal(ask_and_wait(f, "ok one").st, IMAGE_UNAVAILABLE);
    unlink(f->helper);
    assert_int_equal(symlink(getenv("COMFYMUX_FAKE_HELPER"), f->helper), 0); /* still that name */
    UNTIL(f, images_usable(f->im));
    assert_int_equal(ask_and_wait(f, "ok one").st, IMAGE_UNAVAILABLE);
    assert_int_equal(counts(f).died, 2);
    assert_int_equal(times("image_helper_unavailable"), 1); /* said once */
}

static void test_a_stop_answers_everybody(void **state)
{
    struct fx *f = *state;
    struct got g[4] = {{0}};

    f->cfg.helpers = 2;
    open_images(f);
    assert_works(f, "ok known");
    ask(f, "hang 1", &g[0]);
    ask(f, "hang 2", &g[1]);
    ask(f, "ok behind them", &g[2]);
    for (int i = 0; i < 20; i++)
        loop_turn(f->l, 5);
    ask(f, "ok known", &g[3]);
    images_free(&f->im);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(g[i].n, 1);
        assert_int_equal(g[i].st, IMAGE_UNAVAILABLE);
    }
    assert_int_equal(g[3].n, 1);
    assert_true(childless());
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_made_once_then_kept),
        T(test_a_mask_goes_along),
        T(test_who_asks_for_the_same_waits_for_one),
        T(test_an_idle_helper_is_ended),
        T(test_the_cache_is_bounded),
        T(test_a_start_forgets_what_was_made),
        T(test_a_cached_file_that_somebody_removed),
        T(test_a_helper_that_dies_costs_its_picture),
        T(test_a_liar),
        T(test_a_helper_that_hangs_is_killed),
        T(test_what_cannot_be_made_is_remembered),
        T(test_the_queue_is_bounded),
        T(test_no_helper_is_installed),
        T(test_a_helper_that_ends_at_once),
        T(test_a_helper_that_says_nothing),
        T(test_a_helper_of_another_version),
        T(test_it_is_tried_again),
        T(test_a_stop_answers_everybody),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
