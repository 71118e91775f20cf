/* comfymux-image: looks at pictures for the gateway, one after the other, so that the gateway need not. */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image/image_convert.h"
#include "image/image_guard.h"

/* 1: an ask with its descriptors, fd[2] -1 unless there is a mask; 0: the gateway has closed; -1: anything else. */
static int receive(struct image_ask *ask, int fd[3])
{
    union {
        char bytes[CMSG_SPACE(3 * sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec piece = {.iov_base = ask, .iov_len = sizeof(*ask)};
    struct msghdr m = {
        .msg_iov = &piece, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
    struct cmsghdr *c;
    size_t fds;
    ssize_t n;

    do
        n = recvmsg(IMAGE_WIRE_FD, &m, MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    if (n <= 0)
        return n < 0 ? -1 : 0;
    c = CMSG_FIRSTHDR(&m);
    if (n != sizeof(*ask) || ask->magic != IMAGE_WIRE_MAGIC || c == NULL || c->cmsg_type != SCM_RIGHTS)
        return -1;
    fds = ask->want.op == IMAGE_MASK ? 3 : 2;
    if (c->cmsg_len != CMSG_LEN(fds * sizeof(int)))
        return -1;
    fd[2] = -1;
    memcpy(fd, CMSG_DATA(c), fds * sizeof(int));
    return 1;
}

/* sendmsg() and no other call, because it is one of those that stay allowed. */
static int tell(const void *data, size_t n)
{
    struct iovec piece = {.iov_base = (void *)(uintptr_t)data, .iov_len = n};
    struct msghdr m = {.msg_iov = &piece, .msg_iovlen = 1};
    ssize_t r;

    do
        r = sendmsg(IMAGE_WIRE_FD, &m, MSG_NOSIGNAL);
    while (r < 0 && errno == EINTR);
    return r == (ssize_t)n ? 0 : -1;
}

static void serve(const struct image_ask *ask, const int fd[3], struct image_answer *a)
{
    struct stat st;

    *a = (struct image_answer){.magic = IMAGE_WIRE_MAGIC, .seq = ask->seq};
    guard_time(IMAGE_CPU_S);
    a->status = convert(fd[0], fd[2], fd[1], &ask->want, a->why, sizeof(a->why));
    if (a->status == IMAGE_OK && fstat(fd[1], &st) == 0)
        a->size = st.st_size;
    close(fd[0]);
    close(fd[1]);
    if (fd[2] >= 0)
        close(fd[2]);
}

int main(void)
{
    struct image_hello hello = {.magic = IMAGE_WIRE_MAGIC, .version = COMFYMUX_VERSION};
    struct stat st;
    struct image_ask ask;
    struct image_answer answer;
    int fd[3], r;

    if (fstat(IMAGE_WIRE_FD, &st) < 0 || !S_ISSOCK(st.st_mode)) {
        fputs("comfymux-image decodes pictures for `comfymux serve`, which starts it when there are any.\n",
              stderr);
        return 2;
    }
    guard_begin(IMAGE_WIRE_FD);
    if (convert_init() < 0)
        return 1;
    hello.confined = guard_confine();
    if (tell(&hello, sizeof(hello)) < 0)
        return 1;
    while ((r = receive(&ask, fd)) > 0) {
        serve(&ask, fd, &answer);
        if (tell(&answer, sizeof(answer)) < 0)
            break;
    }
    _exit(r < 0); /* without the libraries' farewells */
}
