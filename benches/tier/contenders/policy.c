/* policy weighted-interleave NODES -- CMD...: runs CMD with that memory policy, which the numactl of Debian 12 does not know
 * yet. Linked statically; NODES are numbers below 64 with commas. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MPOL_WEIGHTED_INTERLEAVE 6

int main(int argc, char **argv)
{
    if (argc < 5 || strcmp(argv[1], "weighted-interleave") || strcmp(argv[3], "--")) {
        fprintf(stderr, "usage: policy weighted-interleave NODES -- CMD...\n");
        return 2;
    }
    unsigned long nodes = 0;
    for (char *at = argv[2]; *at; at += *at == ',') {
        char *number = at;
        unsigned long node = strtoul(number, &at, 10);
        if (at == number || (*at && *at != ',') || node > 63) {
            fprintf(stderr, "policy: '%s' is no list of nodes\n", argv[2]);
            return 2;
        }
        nodes |= 1UL << node;
    }
    /* The kernel takes one bit less than it is told of. */
    if (syscall(SYS_set_mempolicy, MPOL_WEIGHTED_INTERLEAVE, &nodes, 65UL)) {
        fprintf(stderr, "policy: set_mempolicy: %s\n", strerror(errno));
        return 1;
    }
    execvp(argv[4], argv + 4);
    fprintf(stderr, "policy: %s: %s\n", argv[4], strerror(errno));
    return 127;
}
