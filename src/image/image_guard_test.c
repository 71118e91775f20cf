#include "image/image_guard.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "image/image_wire.h"

/* Built without sanitizers, whatever the build: with them nothing is confined. Each attempt is made in a process of its
 * own, which ends with the errno that it got, 0 if it went well. */

#define NOT_HERE 200 /* this processor or kernel cannot do it */

static int file_fd;

static int got(long r)
{
    return r < 0 ? errno : 0;
}

static int open_a_file(void)
{
    return got(open("/etc/passwd", O_RDONLY | O_CLOEXEC));
}

static int make_a_file(void)
{
    return got(open("/tmp/image-guard-test", O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
}

static int remove_a_file(void)
{
    return got(unlink("/tmp/image-guard-test"));
}

static int make_a_socket(void)
{
    return got(socket(AF_INET, SOCK_STREAM, 0));
}

static int connect_what_it_has(void)
{
    struct sockaddr a = {.sa_family = AF_UNSPEC};

    return got(connect(file_fd, &a, sizeof(a)));
}

static int make_a_process(void)
{
    pid_t pid = fork();

    if (pid == 0)
        _exit(0);
    return got(pid);
}

static int run_a_program(void)
{
    char name[] = "true", *argv[] = {name, NULL}, *env[] = {NULL};

    return got(execve("/bin/true", argv, env));
}

static int signal_its_parent(void)
{
    return got(kill(getppid(), 0));
}

static int run_its_own_code(void)
{
    void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    return p == MAP_FAILED ? errno : 0;
}

static int turn_data_into_code(void)
{
    void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    return p == MAP_FAILED ? 1 : got(mprotect(p, 4096, PROT_READ | PROT_EXEC));
}

static int limit_its_parent(void)
{
    struct rlimit r;

    return got(prlimit(getppid(), RLIMIT_CPU, NULL, &r));
}

static int take_too_much_memory(void)
{
    void *p = mmap(NULL, IMAGE_MEMORY_MAX, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    return p == MAP_FAILED ? errno : 0;
}

static int write_too_much(void)
{
    return got(pwrite(file_fd, "x", 1, IMAGE_OUTPUT_MAX));
}

static void *nothing(void *arg)
{
    return arg;
}

static int have_threads(void)
{
    pthread_t t;
    int r = pthread_create(&t, NULL, nothing, NULL);

    return r ? r : pthread_join(t, NULL);
}

static int read_and_write(void)
{
    char c;

    return pwrite(file_fd, "x", 1, 0) == 1 && pread(file_fd, &c, 1, 0) == 1 && c == 'x' ? 0 : errno;
}

static int attempt(int (*what)(void))
{
    int status;
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        guard_begin(file_fd);
        if (!guard_confine())
            _exit(NOT_HERE);
        _exit(what());
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void test_what_is_refused(void **state)
{
    static const struct {
        int (*what)(void);
        int want;
    } cases[] = {
        {open_a_file, EPERM},         {make_a_file, EPERM},
        {remove_a_file, EPERM},       {make_a_socket, EPERM},
        {connect_what_it_has, EPERM}, {make_a_process, EPERM},
        {run_a_program, EPERM},       {signal_its_parent, EPERM},
        {run_its_own_code, EPERM},    {turn_data_into_code, EPERM},
        {limit_its_parent, EPERM},    {take_too_much_memory, ENOMEM},
        {write_too_much, EFBIG},      {have_threads, 0},
        {read_and_write, 0},
    };

    (void)state;
    if (attempt(read_and_write) == NOT_HERE)
        skip();
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        if (attempt(cases[i].what) != cases[i].want)
            fail_msg("case %zu: %d", i, attempt(cases[i].what));
}

/* Each picture has its time, however long the process has lived. */
static void test_time(void **state)
{
    int status;
    pid_t pid = fork();

    (void)state;
    if (pid == 0) {
        guard_begin(file_fd);
        guard_confine();
        guard_time(0);
        guard_time(IMAGE_CPU_S); /* the next picture: more is allowed again */
        guard_time(0);
        for (;;)
            ;
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGXCPU);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_refused),
        cmocka_unit_test(test_time),
    };
    char path[] = "/tmp/image-guard-test-XXXXXX";

    file_fd = mkostemp(path, O_CLOEXEC);
    if (file_fd < 0)
        return 1;
    unlink(path);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
