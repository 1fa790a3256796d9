/* Runs a program in a seccomp sandbox that refuses the system calls named on the command line with EPERM.
 *
 * usage: sandbox CALL,CALL,... PROGRAM [ARGUMENT...]
 */
#define _GNU_SOURCE
#include "check.h"
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

static const struct {
    const char *name;
    unsigned number;
} calls[] = {
    {"mbind", SYS_mbind},
    {"move_pages", SYS_move_pages},
    {"get_mempolicy", SYS_get_mempolicy},
    {"set_mempolicy", SYS_set_mempolicy},
    {"userfaultfd", SYS_userfaultfd},
    {"madvise", SYS_madvise},
    {"mremap", SYS_mremap},
    {"getrandom", SYS_getrandom},
    {"rt_sigaction", SYS_rt_sigaction},
    {"prctl", SYS_prctl},
    {"membarrier", SYS_membarrier},
};

static unsigned number_of(const char *name) {
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++)
        if (strcmp(calls[i].name, name) == 0)
            return calls[i].number;
    fprintf(stderr, "sandbox: unknown call %s\n", name);
    _exit(2);
}

int main(int argc, char **argv) {
    CHECK(argc >= 3);
    struct sock_filter program[2 + 2 * 16] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
    };
    unsigned short length = 1;
    for (char *name = strtok(argv[1], ","); name != NULL; name = strtok(NULL, ",")) {
        CHECK(length < 2 * 16);
        program[length++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number_of(name), 0, 1);
        program[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
    }
    program[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog filter = {.len = length, .filter = program};
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0);
    execvp(argv[2], argv + 2);
    perror(argv[2]);
    return 127;
}
