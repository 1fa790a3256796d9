/* Makes known numbers of loads and stores to known nodes, between marks, for the test of the access counter.
 *   countcheck NODES
 * Mark 1: all before. Mark 10+N: 1,000,000 updates of memory on node 0, half as many on node 1, a quarter on node 2.
 * Mark 20: two threads make 250,000 plain updates each, one on the first node and one on the last.
 * Mark 21: 1,000 stores to pages that were moved from the last node to node 0 just before.
 * Mark 22: 10,000 atomic updates of memory on node 0. */
#define _GNU_SOURCE
#include "marks.h"
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define BYTES (8UL << 20)
#define WORDS (BYTES / sizeof(uint64_t))
#define MPOL_BIND 2
#define MPOL_MF_MOVE 2

static uint64_t *memory[8];

static uint64_t *map_on(int node)
{
    void *want = (void *)(0x200000000000 + node * (4 * BYTES));
    char *at = mmap(want, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    unsigned long mask = 1UL << node;
    if (at != want || syscall(SYS_mbind, at, BYTES, MPOL_BIND, &mask, 64UL, 0UL)) {
        perror("countcheck: memory");
        exit(1);
    }
    memset(at, 1, BYTES);
    return (uint64_t *)at;
}

/* Updates words in an order no cache or prefetcher likes: one load and one store each. */
__attribute__((noinline)) static void update(volatile uint64_t *words, long times, uint64_t seed)
{
    for (long i = 0; i < times; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        words[seed >> 33 & (WORDS - 1)] += seed;
    }
}

static void *thread(void *words)
{
    update(words, 250000, 7);
    return NULL;
}

int main(int argc, char **argv)
{
    int nodes = argc > 1 ? atoi(argv[1]) : 1;
    for (int node = 0; node < nodes; node++)
        memory[node] = map_on(node);
    LAB_MARK(1);
    update(memory[0], 1000000, 1);
    LAB_MARK(10);
    if (nodes > 1)
        update(memory[1], 500000, 2);
    LAB_MARK(11);
    if (nodes > 2)
        update(memory[2], 250000, 3);
    LAB_MARK(12);

    pthread_t threads[2];
    pthread_create(&threads[0], NULL, thread, memory[0]);
    pthread_create(&threads[1], NULL, thread, memory[nodes - 1]);
    pthread_join(threads[0], NULL);
    pthread_join(threads[1], NULL);
    LAB_MARK(20);

    enum { PAGES = 1000 };
    static void *page[PAGES];
    static int zero[PAGES], status[PAGES];
    for (int i = 0; i < PAGES; i++)
        page[i] = (char *)memory[nodes - 1] + i * 4096L;
    if (syscall(SYS_move_pages, 0, (long)PAGES, page, zero, status, MPOL_MF_MOVE)) {
        perror("countcheck: move_pages");
        return 1;
    }
    for (int i = 0; i < PAGES; i++)
        *(volatile uint64_t *)page[i] = 1;
    LAB_MARK(21);

    for (int i = 0; i < 10000; i++)
        __atomic_fetch_add(&memory[0][i], 1, __ATOMIC_RELAXED);
    LAB_MARK(22);
    return 0;
}
