#include "image/image_guard.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "image/image_wire.h"

#ifndef __has_feature
#define __has_feature(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || __has_feature(address_sanitizer) ||     \
    __has_feature(thread_sanitizer)
#define SANITIZED 1 /* takes terabytes of addresses, and opens files to tell what it found */
#else
#define SANITIZED 0
#endif

void guard_begin(int keep)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    prctl(PR_SET_DUMPABLE, 0);
    close_range((unsigned)keep + 1, ~0u, 0);
    if (chdir("/") < 0)
        _exit(1);
}

static void limit(int what, int64_t max)
{
    struct rlimit r = {.rlim_cur = (rlim_t)max, .rlim_max = (rlim_t)max};

    setrlimit(what, &r);
}

void guard_time(unsigned seconds)
{
    struct rlimit r = {.rlim_max = RLIM_INFINITY};
    struct rusage u;

    if (getrusage(RUSAGE_SELF, &u) < 0 || getrlimit(RLIMIT_CPU, &r) < 0)
        return;
    r.rlim_cur = (rlim_t)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + 2 + seconds;
    if (r.rlim_cur < r.rlim_max)
        setrlimit(RLIMIT_CPU, &r);
}

/* --- system calls --- */

#if defined(__x86_64__)
#define ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCH AUDIT_ARCH_AARCH64
#endif

#if defined(ARCH) && !SANITIZED

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define RETURN(v) BPF_STMT(BPF_RET | BPF_K, (v))
#define REFUSE(e) RETURN(SECCOMP_RET_ERRNO | (e))
#define ALLOW(nr) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_##nr, 0, 1), RETURN(SECCOMP_RET_ALLOW)
/* The low halves of arguments are enough for flags; little endian, as both processors run. */
#define ARG(i) offsetof(struct seccomp_data, args[i])
/* Allowed if argument i has all (none) of these bits; the number is loaded again for what follows. */
#define ALLOW_WITH(nr, i, bits)                                                                              \
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_##nr, 0, 4), BPF_STMT(BPF_LD | BPF_W | BPF_ABS, ARG(i)),        \
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, (bits), 0, 1), RETURN(SECCOMP_RET_ALLOW), REFUSE(EPERM)
#define ALLOW_WITHOUT(nr, i, bits)                                                                           \
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_##nr, 0, 4), BPF_STMT(BPF_LD | BPF_W | BPF_ABS, ARG(i)),        \
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, (bits), 1, 0), RETURN(SECCOMP_RET_ALLOW), REFUSE(EPERM)

/* Reading and writing what is open, memory, threads, time. No opening of files, no sockets, no programs, no signals to
 * others, no memory that is executed. */
static const struct sock_filter calls[] = {
    LOAD(arch),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCH, 1, 0),
    RETURN(SECCOMP_RET_KILL_PROCESS),
    LOAD(nr),
    ALLOW(read),
    ALLOW(pread64),
    ALLOW(readv),
    ALLOW(write),
    ALLOW(pwrite64),
    ALLOW(writev),
    ALLOW(lseek),
    ALLOW(fstat),
    ALLOW(newfstatat),
    ALLOW(close),
    ALLOW(dup),
    ALLOW(fcntl),
    ALLOW(recvmsg),
    ALLOW(sendmsg),
    ALLOW(munmap),
    ALLOW(mremap),
    ALLOW(madvise),
    ALLOW(brk),
    ALLOW(futex),
    ALLOW(set_robust_list),
    ALLOW(exit),
    ALLOW(exit_group),
    ALLOW(rt_sigaction),
    ALLOW(rt_sigprocmask),
    ALLOW(rt_sigreturn),
    ALLOW(sigaltstack),
    ALLOW(sched_yield),
    ALLOW(sched_getaffinity),
    ALLOW(getpid),
    ALLOW(gettid),
    ALLOW(clock_gettime),
    ALLOW(clock_nanosleep),
    ALLOW(nanosleep),
    ALLOW(gettimeofday),
    ALLOW(getrandom),
    ALLOW(getrusage),
    ALLOW(restart_syscall),
#ifdef __NR_rseq
    ALLOW(rseq),
#endif
    ALLOW_WITHOUT(mmap, 2, PROT_EXEC),
    ALLOW_WITHOUT(mprotect, 2, PROT_EXEC),
    ALLOW_WITHOUT(prlimit64, 0, ~0u), /* its own limits only */
    ALLOW_WITH(clone, 0, CLONE_THREAD),
#ifdef __NR_clone3
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_clone3, 0, 1),
    REFUSE(ENOSYS), /* its flags are in memory; clone is tried then */
#endif
    REFUSE(EPERM),
};

static bool confine_calls(void)
{
    struct sock_fprog prog = {.len = sizeof(calls) / sizeof(calls[0]), .filter = (struct sock_filter *)calls};

    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) == 0;
}
#else
static bool confine_calls(void)
{
    return false;
}
#endif

bool guard_confine(void)
{
    signal(SIGXFSZ, SIG_IGN); /* the write fails with EFBIG instead */
    limit(RLIMIT_CORE, 0);
    limit(RLIMIT_FSIZE, IMAGE_OUTPUT_MAX);
    limit(RLIMIT_NOFILE, 32);
    if (!SANITIZED)
        limit(RLIMIT_AS, IMAGE_MEMORY_MAX);
    return confine_calls();
}
