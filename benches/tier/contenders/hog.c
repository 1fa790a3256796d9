/* hog NODE LEAVE_MIB [KERNEL_KIB]: takes memory of NODE until only LEAVE_MIB are left there for programs, says so in one line,
 * and sleeps until it is killed; then all of it is free again. Run it as root, before the program.
 *
 * What is left is counted above the low watermark, where the kernel begins to look for memory elsewhere. KERNEL_KIB (default
 * below) more are left for what the kernel and the program use besides the heap.
 *
 * The memory must stay where it is. Locked memory does not: DAMON's migration moves it, like any page on the kernel's lists.
 * What a pipe holds is the kernel's own memory, on no list: no reclaim, no balancing, no DAMON and no compaction touches it.
 *
 * What else of the machine is set right on the way, for all contenders alike:
 * - The files. The root file system is in memory, on NODE, and is used no more once programs run: demotion would move it away
 *   and give its contender that much more room than the others have. So it goes to another node first.
 * - The watermarks. With transparent huge pages the kernel keeps 66 MiB free on any machine, which is nothing on a real one
 *   and half of this node. They are set to what the same kernel computes for this much memory without huge pages, so that what
 *   demotion keeps free is small beside the budgets.
 * - The free pages each CPU keeps for itself: up to an eighth of the node, many a budget. They are kept to the least.
 * - The boosting of watermarks after fragmentation, which the taking and giving back causes: reclaim then looks for files only,
 *   finds none on this machine, and after the 16th time in vain the kernel gives up reclaim *and promotion* on the node.
 * - The order. The kernel fills the node's largest zone first and its lowest 16 MiB last, and takes the node for balanced as
 *   long as *either* has room: with those 16 MiB free, demotion would not begin. So everything is taken, and what is to be
 *   left is given back in the order it was taken: it comes from the large zone only. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { PAGE = 4096, MIB = 1 << 20, PIPE = 16 * MIB, MOST_PIPES = 4096, KERNEL_KIB = 1024 };
#define MPOL_PREFERRED 1
#define MPOL_MF_MOVE_ALL 4

static struct { int in, out; } pipes[MOST_PIPES];
static char block[MIB];

static void fail(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fprintf(stderr, "hog: ");
    vfprintf(stderr, format, args);
    fprintf(stderr, "\n");
    exit(1);
}

static void set(const char *path, const char *format, ...)
{
    FILE *file = fopen(path, "w");
    va_list args;
    va_start(args, format);
    if (!file || vfprintf(file, format, args) < 0 || fclose(file))
        fail("%s: %s", path, strerror(errno));
}

/* Pages that programs can take of the node before the kernel looks elsewhere. */
static long room(int wanted)
{
    /* The counters of each CPU are added up now. */
    set("/proc/sys/vm/stat_refresh", "1");
    FILE *file = fopen("/proc/zoneinfo", "r");
    if (!file)
        fail("/proc/zoneinfo: %s", strerror(errno));
    char line[512], zone[32];
    long sum = 0, free = 0, low = 0, reserve = 0, managed = 0, number;
    int node = -1, inside = 0;
    for (int more = 1; more;) {
        more = fgets(line, sizeof line, file) != NULL;
        int next = -1;
        if (!more || sscanf(line, "Node %d, zone %31s", &next, zone) == 2) {
            if (inside && node == wanted && managed && free > low + reserve)
                sum += free - low - reserve;
            if (more && next >= 0)
                node = next;
            free = low = reserve = managed = 0;
            inside = 1;
        } else if (sscanf(line, " pages free %ld", &number) == 1) {
            free += number;
        } else if (sscanf(line, " low %ld", &number) == 1) {
            low = number;
        } else if (sscanf(line, " managed %ld", &number) == 1) {
            managed = number;
        } else if (sscanf(line, " count: %ld", &number) == 1) {
            free += number; /* free, but in a CPU's own list */
        } else if (strstr(line, "protection: (")) {
            for (char *at = strchr(line, '(') + 1; *at && *at != ')'; at += *at == ',') {
                number = strtol(at, &at, 10);
                reserve = number > reserve ? number : reserve;
                while (*at == ' ')
                    at++;
            }
        }
    }
    fclose(file);
    return sum;
}

static int elsewhere;

/* Moves the pages of one file to the node `elsewhere`. What does not move costs accuracy, no more. */
static int move_file(const char *path, const struct stat *about, int kind, struct FTW *where)
{
    (void)where;
    long count = (about->st_size + PAGE - 1) / PAGE;
    int file = kind == FTW_F && S_ISREG(about->st_mode) && count ? open(path, O_RDONLY) : -1;
    if (file < 0)
        return 0;
    char *at = mmap(NULL, count * PAGE, PROT_READ, MAP_SHARED | MAP_POPULATE, file, 0);
    close(file);
    void **pages = malloc(count * sizeof *pages);
    int *nodes = malloc(count * sizeof *nodes), *status = malloc(count * sizeof *status);
    if (at != MAP_FAILED && pages && nodes && status) {
        for (long n = 0; n < count; n++) {
            pages[n] = at + n * PAGE;
            nodes[n] = elsewhere;
        }
        syscall(SYS_move_pages, 0, count, pages, nodes, status, MPOL_MF_MOVE_ALL);
    }
    free(pages);
    free(nodes);
    free(status);
    if (at != MAP_FAILED)
        munmap(at, count * PAGE);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "usage: hog NODE LEAVE_MIB [KERNEL_KIB]\n");
        return 2;
    }
    int node = atoi(argv[1]);
    long leave = (atol(argv[2]) * MIB + (argc > 3 ? atol(argv[3]) : KERNEL_KIB) * 1024L) / PAGE;

    long all = sysconf(_SC_PHYS_PAGES) * (PAGE / 1024);
    set("/proc/sys/vm/min_free_kbytes", "%ld", (long)sqrt(16.0 * (double)all));
    set("/proc/sys/vm/percpu_pagelist_high_fraction", "10000");
    set("/proc/sys/vm/watermark_boost_factor", "0");
    sync();
    set("/proc/sys/vm/drop_caches", "3");

    elsewhere = !node;
    nftw("/", move_file, 64, FTW_PHYS | FTW_MOUNT);

    struct rlimit files = {2 * MOST_PIPES + 16, 2 * MOST_PIPES + 16};
    setrlimit(RLIMIT_NOFILE, &files);
    /* Preferred, not bound: when the last pages are gone to others in between, one comes from elsewhere and nobody is killed. */
    unsigned long mask = 1UL << node;
    if (syscall(SYS_set_mempolicy, MPOL_PREFERRED, &mask, 65UL))
        fail("set_mempolicy: %s", strerror(errno));
    memset(block, 1, sizeof block);

    /* Until almost nothing is left: a request that finds nothing at all would make the kernel reclaim. */
    const long margin = 64;
    long taken = 0, in_last = 0, left, before = -1;
    int used = 0, in_vain = 0;
    while ((left = room(node)) > margin + 16 && in_vain < 16) {
        in_vain = left == before ? in_vain + 1 : 0;
        before = left;
        long most = left - margin > 1024 ? 256 : (left - margin) / 4 + 1;
        if (!used || in_last + most > PIPE / PAGE) {
            int ends[2];
            if (used == MOST_PIPES || pipe2(ends, O_NONBLOCK) || fcntl(ends[1], F_SETPIPE_SZ, PIPE) < 0)
                fail("pipe %d: %s", used, strerror(errno));
            pipes[used].in = ends[1];
            pipes[used++].out = ends[0];
            in_last = 0;
        }
        long got = write(pipes[used - 1].in, block, most * PAGE);
        if (got <= 0)
            fail("write: %s", strerror(errno));
        taken += got / PAGE;
        in_last += got / PAGE;
    }
    for (int at = 0; at < used && (left = room(node)) < leave;) {
        long most = leave - left > 256 ? 256 : leave - left;
        long got = read(pipes[at].out, block, most * PAGE);
        if (got > 0)
            taken -= got / PAGE;
        else
            at++;
    }
    left = room(node);
    printf("hog: took %.1f MiB of node %d; %.1f MiB are left above its low watermark\n", taken / 256.0, node, left / 256.0);
    fflush(stdout);
    if (left < leave)
        fail("the node never had %s MiB free", argv[2]);
    for (;;)
        pause();
}
