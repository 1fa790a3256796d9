/* Hot and cold blocks of one size, each kind from an allocation site of its own, in turn.
 *
 *     two_sites SECONDS [PERCENT LIMIT]
 *
 * Uses them for so long; and on, up to LIMIT seconds, until PERCENT of the hot blocks' pages lie in DRAM (node 0). Prints how long
 * that took, and how many do once all are written and at the end. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { HOT = 40000, COLD = 6 * HOT, SIZE = 240, PAGE = 4096 };

static char *hot[HOT], *cold[COLD];

/* What follows a call keeps it from being a jump, which would return to the caller's caller. */
__attribute__((noinline)) static char *hot_block(void)
{
    char *block = malloc(SIZE);
    memset(block, 1, SIZE);
    return block;
}

__attribute__((noinline)) static char *cold_block(void)
{
    char *block = malloc(SIZE);
    memset(block, 2, SIZE);
    return block;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int hot_in_dram(void)
{
    static void *pages[HOT];
    static int status[HOT];
    for (int i = 0; i < HOT; i++)
        pages[i] = (void *)((uintptr_t)hot[i] & ~(uintptr_t)(PAGE - 1));
    if (syscall(SYS_move_pages, 0, (unsigned long)HOT, pages, NULL, status, 0))
        return -1;
    int in = 0;
    for (int i = 0; i < HOT; i++)
        in += status[i] == 0;
    return in * 100 / HOT;
}

int main(int argc, char **argv)
{
    double seconds = argc > 1 ? atof(argv[1]) : 10;
    int percent = argc > 3 ? atoi(argv[2]) : 0;
    double limit = argc > 3 ? atof(argv[3]) : seconds;
    int h = 0, c = 0;
    for (int i = 0; i < HOT + COLD; i++) {
        if (i % 7 == 0)
            hot[h++] = hot_block();
        else
            cold[c++] = cold_block();
        if (i % 10000 == 0) /* slow enough for the control thread to see it grow */
            nanosleep(&(struct timespec){0, 60000000}, NULL);
    }
    double begin = now();
    int early = hot_in_dram();
    uint32_t random = 1;
    for (double ask = begin + seconds;;) {
        double t = now();
        if (t >= ask) {
            if (t >= begin + limit || hot_in_dram() >= percent)
                break;
            ask = t + 1;
        }
        for (int i = 0; i < HOT; i++) {
            random = random * 1664525 + 1013904223;
            hot[(random >> 8) % HOT][i % SIZE]++;
        }
        random = random * 1664525 + 1013904223;
        cold[(random >> 8) % COLD][0]++;
    }
    printf("used for %.0f s\nearly %d end %d\n", now() - begin, early, hot_in_dram());
    return 0;
}
