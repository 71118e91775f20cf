/* For tests: a helper that does what the "picture" says. "ok TEXT": TEXT is what is made of it. */
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "image/image_wire.h"

static bool receive(struct image_ask *ask, int fd[3])
{
    union {
        char bytes[CMSG_SPACE(3 * sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec piece = {.iov_base = ask, .iov_len = sizeof(*ask)};
    struct msghdr m = {
        .msg_iov = &piece, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};

    if (recvmsg(IMAGE_WIRE_FD, &m, 0) != (ssize_t)sizeof(*ask))
        return false;
    fd[2] = -1;
    memcpy(fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), (ask->want.op == IMAGE_MASK ? 3 : 2) * sizeof(int));
    return true;
}

static void tell(const void *data, size_t n)
{
    if (send(IMAGE_WIRE_FD, data, n, MSG_NOSIGNAL) < 0)
        _exit(3);
}

static bool is(const char *text, const char *word)
{
    return strncmp(text, word, strlen(word)) == 0;
}

static size_t make(int out, const char *text, size_t n)
{
    const char *seen = getenv("COMFYMUX_TEST_SECRET") ? "it sees our environment" : text;

    n = seen == text ? n : strlen(seen);
    return write(out, seen, n) == (ssize_t)n ? n : 0;
}

static void act(const struct image_ask *ask, const int fd[3])
{
    struct image_answer a = {.magic = IMAGE_WIRE_MAGIC, .seq = ask->seq};
    char text[4096];
    ssize_t n = pread(fd[0], text, sizeof(text) - 1, 0);

    if (fd[2] >= 0 && n >= 0) { /* the mask's text behind the picture's */
        ssize_t more = pread(fd[2], text + n, sizeof(text) - 1 - (size_t)n, 0);

        n += more < 0 ? 0 : more;
    }
    text[n < 0 ? 0 : n] = '\0';
    if (is(text, "die"))
        abort();
    if (is(text, "burn"))
        raise(SIGXCPU);
    if (is(text, "exit"))
        _exit(7);
    if (is(text, "hang"))
        for (;;)
            pause();
    if (is(text, "ok ") && n > 3)
        a.size = (int64_t)make(fd[1], text + 3, (size_t)n - 3);
    if (is(text, "magic") || is(text, "seq") || is(text, "short")) /* right but for one thing */
        a.size = (int64_t)make(fd[1], text, (size_t)n);
    if (is(text, "liar"))
        a.size = (int64_t)make(fd[1], text, (size_t)n) + 1;
    if (is(text, "refuse") || is(text, "broken")) {
        a.status = is(text, "broken") ? IMAGE_BROKEN : IMAGE_REFUSED;
        memset(a.why, 'x', sizeof(a.why)); /* without an end */
        a.why[0] = '\n';
    }
    if (is(text, "magic"))
        a.magic++;
    if (is(text, "seq"))
        a.seq++;
    if (is(text, "status"))
        a.status = IMAGE_TIMEOUT;
    if (is(text, "huge"))
        a.size = IMAGE_OUTPUT_MAX + 1;
    if (is(text, "minus"))
        a.size = -1;
    tell(&a, is(text, "short") ? sizeof(a) - 1 : sizeof(a));
    if (is(text, "ok twice"))
        tell(&a, sizeof(a));
    for (int i = 0; i < 3; i++)
        if (fd[i] >= 0)
            close(fd[i]);
}

int main(int argc, char **argv)
{
    struct image_hello hello = {.magic = IMAGE_WIRE_MAGIC, .version = COMFYMUX_VERSION};
    const char *name = strrchr(argv[0], '/');
    struct image_ask ask;
    int fd[3];

    (void)argc;
    name = name ? name + 1 : argv[0];
    if (is(name, "stillborn"))
        return 5;
    if (is(name, "mute"))
        for (;;)
            pause();
    if (is(name, "old"))
        strcpy(hello.version, "0.0.1");
    tell(&hello, sizeof(hello));
    while (receive(&ask, fd))
        act(&ask, fd);
    _exit(0);
}
