/* Says what a program sees of the machine's memory, one "key value" a line, for the lab's own tests:
 * who it is, which nodes there are, and whether its pages go to, and can be moved between, all of them. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAGES 64
#define PAGE 4096L
#define MPOL_BIND 2
#define MPOL_MF_MOVE 2

/* First line of a file of a node, or "none". */
static const char *node_file(int node, const char *name, char line[64])
{
    char path[128];
    snprintf(path, sizeof path, "/sys/devices/system/node/node%d/%s", node, name);
    strcpy(line, "none");
    FILE *file = fopen(path, "r");
    if (file && fgets(line, 64, file))
        line[strcspn(line, "\n")] = '\0';
    if (file)
        fclose(file);
    return line;
}

static long mib_of_node(int node)
{
    char path[64], line[128];
    long kib = 0;
    snprintf(path, sizeof path, "/sys/devices/system/node/node%d/meminfo", node);
    FILE *file = fopen(path, "r");
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "Node %*d MemTotal: %ld", &kib) == 1)
            break;
    if (file)
        fclose(file);
    return kib / 1024;
}

/* How many of the pages are on the node; -1 when the kernel does not say. */
static int pages_on(char *at, int node, const int *target)
{
    void *page[PAGES];
    int status[PAGES], nodes[PAGES], there = 0;
    for (int i = 0; i < PAGES; i++) {
        page[i] = at + i * PAGE;
        nodes[i] = target ? *target : 0;
    }
    if (syscall(SYS_move_pages, 0, (long)PAGES, page, target ? nodes : NULL, status, MPOL_MF_MOVE))
        return -1;
    for (int i = 0; i < PAGES; i++)
        there += status[i] == node;
    return there;
}

/* Binds fresh pages to the node, moves them to node 0 and back; prints how many were right after each step. */
static void check_node(int node)
{
    char *at = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    unsigned long mask = 1UL << node;
    if (at == MAP_FAILED || syscall(SYS_mbind, at, PAGES * PAGE, MPOL_BIND, &mask, 64UL, 0UL)) {
        printf("bind%d errno %d\n", node, errno);
        return;
    }
    for (int i = 0; i < PAGES; i++)
        at[i * PAGE] = (char)i;
    int zero = 0;
    int bound = pages_on(at, node, NULL), moved = pages_on(at, 0, &zero), back = pages_on(at, node, &node), intact = 0;
    for (int i = 0; i < PAGES; i++)
        intact += at[i * PAGE] == (char)i;
    printf("pages%d %d %d %d %d\n", node, bound, moved, back, intact);
    munmap(at, PAGES * PAGE);
}

int main(void)
{
    struct stat self;
    char line[64];
    if (stat("/proc/self/mem", &self))
        return 1;
    printf("uid %d\nowner %d\ncpus %ld\n", (int)getuid(), (int)self.st_uid, sysconf(_SC_NPROCESSORS_ONLN));
    for (int node = 0; node < 8; node++) {
        long mib = mib_of_node(node);
        if (!mib)
            continue;
        printf("mib%d %ld\n", node, mib);
        printf("cpulist%d %s\n", node, node_file(node, "cpulist", line));
        printf("distance%d %s\n", node, node_file(node, "distance", line));
        printf("latency%d %s\n", node, node_file(node, "access0/initiators/read_latency", line));
        printf("bandwidth%d %s\n", node, node_file(node, "access0/initiators/read_bandwidth", line));
        check_node(node);
    }
    return 0;
}
