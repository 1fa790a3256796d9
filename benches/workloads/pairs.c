/* malloc immediately followed by free: the shortest path there is. */
#include "workload.h"

/* Touches the block so that the pair cannot be folded away, at the cost of one store and one load. */
static inline uint64_t pair(size_t size, uint64_t i)
{
    volatile unsigned char *p = must(malloc(size), "malloc");
    p[0] = (unsigned char)i;
    uint64_t seen = p[0];
    free((void *)p);
    return seen;
}

/* The same loop without the allocator: what the instruction counts subtract. */
__attribute__((noinline)) static void *pass(void *p)
{
    __asm__ volatile("" : "+r"(p));
    return p;
}

uint64_t run_empty_loop(uint64_t percent)
{
    static unsigned char cell[16];
    uint64_t sum = 0;
    for (uint64_t i = 0; i < percent * 1000; i++) {
        volatile unsigned char *p = must(pass(cell), "pass");
        p[0] = (unsigned char)i;
        sum += p[0];
        pass((void *)p);
    }
    return mix(sum);
}

/* 16, 32, 64 … 1024 bytes in turn, a long run of each: fixed sizes, as most programs have. */
uint64_t run_pairs_small(uint64_t percent)
{
    uint64_t sum = 0;
    uint64_t runs = scaled(7000, percent);
    for (uint64_t r = 0; r < runs; r++)
        for (size_t size = 16; size <= 1024; size *= 2)
            for (uint64_t i = 0; i < 1000; i++)
                sum += pair(size, i + r);
    return mix(sum);
}

/* 2 KiB … 256 KiB: where thread caches end and, in some allocators, the system calls begin. */
uint64_t run_pairs_medium(uint64_t percent)
{
    uint64_t sum = 0;
    uint64_t runs = scaled(14000, percent);
    for (uint64_t r = 0; r < runs; r++)
        for (size_t size = 2 << 10; size <= 256 << 10; size *= 2)
            for (uint64_t i = 0; i < 100; i++)
                sum += pair(size, i + r);
    return mix(sum);
}
