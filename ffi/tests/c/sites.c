/* Blocks of one size from two allocation sites, in turn at random: once the heap is larger than DRAM, they are to lie on pages of their own.
 *
 *     sites malloc|new
 *
 * Prints how many pages hold blocks of one site, and of both, among the last half of all blocks. */
#include "check.h"
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { BLOCKS = 400000, SIZE = 240, PAGE = 4096 };

void *_Znwm(size_t size); /* operator new */

static uintptr_t blocks[BLOCKS];
static unsigned char kind[BLOCKS];
static int by_new;

/* What follows a call keeps it from being a jump, which would return to the caller's caller. */
__attribute__((noinline)) static char *one_site(void)
{
    char *block = by_new ? _Znwm(SIZE) : malloc(SIZE);
    CHECK(block);
    memset(block, 1, SIZE);
    return block;
}

__attribute__((noinline)) static char *other_site(void)
{
    char *block = by_new ? _Znwm(SIZE) : malloc(SIZE);
    CHECK(block);
    memset(block, 2, SIZE);
    return block;
}

static int by_address(const void *a, const void *b)
{
    uintptr_t x = *(const uintptr_t *)a, y = *(const uintptr_t *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    by_new = !strcmp(argv[1], "new");
    uint32_t state = 1;
    for (int i = 0; i < BLOCKS; i++) {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        kind[i] = state % 3 == 0;
        blocks[i] = (uintptr_t)(kind[i] ? one_site() : other_site());
        if (i % 10000 == 0) {
            struct timespec pause = {0, 20000000};
            nanosleep(&pause, NULL);
        }
    }
    uintptr_t *sorted = blocks + BLOCKS / 2;
    size_t n = BLOCKS - BLOCKS / 2, pure = 0, mixed = 0;
    for (size_t i = 0; i < n; i++)
        sorted[i] |= kind[BLOCKS / 2 + i]; /* blocks are even */
    qsort(sorted, n, sizeof *sorted, by_address);
    for (size_t i = 0; i < n;) {
        uintptr_t page = sorted[i] / PAGE;
        int seen = 0;
        for (; i < n && sorted[i] / PAGE == page; i++)
            seen |= 1 << (sorted[i] & 1);
        *(seen == 3 ? &mixed : &pure) += 1;
    }
    printf("pages of one site: %zu, of both: %zu\n", pure, mixed);
    return 0;
}
