/* The guest's helper, one static program with three uses:
 *   guest as UID GID CMD...  becomes that user for good, then runs CMD (so /proc/self belongs to the user)
 *   guest kick MS            leaves one pinned process per CPU that wakes every MS milliseconds
 *   guest finish             ends the virtual machine
 */
#define _GNU_SOURCE
#include <grp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <sys/reboot.h>
#include <time.h>
#include <unistd.h>

static int as_user(char **arg)
{
    gid_t gid = (gid_t)atol(arg[1]);
    uid_t uid = (uid_t)atol(arg[0]);
    if (setgroups(0, NULL) || setresgid(gid, gid, gid) || setresuid(uid, uid, uid)) {
        perror("lab: cannot become the user");
        return 126;
    }
    execvp(arg[2], arg + 2);
    perror(arg[2]);
    return 127;
}

/* The emulator's software TLB starts with 256 entries and may grow only when it is flushed; a process that runs alone never
 * flushes it, so random accesses run six times slower. Accessed bits are set at TLB refills only, so page-age tracking needs
 * the flushes too. Switching to another address space flushes: that is all these processes are for. */
static int kick(long ms)
{
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    for (long cpu = 0; cpu < cpus; cpu++) {
        if (fork() != 0)
            continue;
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET(cpu, &set);
        sched_setaffinity(0, sizeof set, &set);
        struct timespec pause = { ms / 1000, ms % 1000 * 1000000 };
        for (;;)
            nanosleep(&pause, NULL);
    }
    return 0;
}

/* Powers off by the chipset's own register (ACPI's PM1a control: sleep type 5), which is a second sooner than through the kernel. The
 * emulator then stops in order: a port that ends it at once (isa-debug-exit) loses what it has yet to read from the virtio ports, and
 * that is often the last line. */
static int finish(void)
{
    enum { PM1A_CONTROL = 0x604, SLEEP_ENABLE = 1 << 13 };
    if (ioperm(PM1A_CONTROL, 2, 1) == 0) {
        outw(SLEEP_ENABLE, PM1A_CONTROL);
        sleep(2);
    }
    reboot(RB_POWER_OFF);
    return 1;
}

int main(int argc, char **argv)
{
    if (argc > 4 && !strcmp(argv[1], "as"))
        return as_user(argv + 2);
    if (argc == 3 && !strcmp(argv[1], "kick"))
        return kick(atol(argv[2]));
    if (argc == 2 && !strcmp(argv[1], "finish"))
        return finish();
    fputs("usage: guest as UID GID CMD... | kick MS | finish\n", stderr);
    return 2;
}
