/* What every benchmark program shares: a random source, a checksum, stamped blocks.
 *
 * Each workload calls malloc and its family through the C library's names and links no allocator, so whatever the
 * loader resolves `malloc` to is what is measured. Each returns a checksum of the *contents* it read back; the
 * checksum depends on neither addresses nor thread timing, so it must be equal under every allocator. */
#ifndef TERRACE_WORKLOAD_H
#define TERRACE_WORKLOAD_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Amount of work: the runner's scale factor in percent of the workload's nominal size. */
typedef uint64_t (*workload_fn)(uint64_t percent);

/* xorshift64*: 1 ns a number, the same sequence everywhere. */
static inline uint64_t rng_next(uint64_t *state)
{
    uint64_t x = *state;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    *state = x;
    return x * 0x2545F4914F6CDD1DULL;
}

/* A number in [0, bound), without division. */
static inline uint64_t rng_below(uint64_t *state, uint64_t bound)
{
    return ((rng_next(state) >> 32) * bound) >> 32;
}

/* Order-independent when combined by addition, so that threads may add in any order. */
static inline uint64_t mix(uint64_t x)
{
    x ^= x >> 33;
    x *= 0xFF51AFD7ED558CCDULL;
    x ^= x >> 33;
    return x;
}

static inline void *must(void *p, const char *what)
{
    if (!p) {
        fprintf(stderr, "workload: %s returned NULL\n", what);
        exit(3);
    }
    return p;
}

/* A stamped block carries its size in its first eight bytes and a tag in its last byte. If two live blocks overlap, or a
 * block is moved without its contents, `stamp_check` ends the program. */
#define STAMP_MIN 16

static inline void *stamp_new(size_t size, uint64_t tag)
{
    unsigned char *p = (unsigned char *)must(malloc(size), "malloc");
    *(uint64_t *)(void *)p = (uint64_t)size ^ (tag << 40);
    p[size - 1] = (unsigned char)tag;
    return p;
}

static inline uint64_t stamp_check(const void *block, size_t size, uint64_t tag)
{
    const unsigned char *p = (const unsigned char *)block;
    uint64_t head = *(const uint64_t *)block;
    if (head != ((uint64_t)size ^ (tag << 40)) || p[size - 1] != (unsigned char)tag) {
        fprintf(stderr, "workload: block %p of %zu bytes lost its contents\n", block, size);
        exit(4);
    }
    return mix(head + p[size - 1]);
}

static inline uint64_t scaled(uint64_t nominal, uint64_t percent)
{
    uint64_t n = nominal * percent / 100;
    return n ? n : 1;
}

/* pairs.c */
uint64_t run_empty_loop(uint64_t percent);
uint64_t run_pairs_small(uint64_t percent);
uint64_t run_pairs_medium(uint64_t percent);
/* batches.c */
uint64_t run_batch_lifo(uint64_t percent);
uint64_t run_batch_fifo(uint64_t percent);
uint64_t run_batch_random(uint64_t percent);
uint64_t run_mixed_sizes(uint64_t percent);
uint64_t run_burst(uint64_t percent);
/* remote.c */
uint64_t run_producer_consumer(uint64_t percent);
uint64_t run_producers_consumer(uint64_t percent);
uint64_t run_producer_consumers(uint64_t percent);
uint64_t run_asymmetric(uint64_t percent);
/* threads.c */
uint64_t run_larson(uint64_t percent);
uint64_t run_shared_slots(uint64_t percent);
uint64_t run_thread_churn(uint64_t percent);
/* crowds.c */
uint64_t run_thread_once(uint64_t percent);
uint64_t run_local_1(uint64_t percent);
uint64_t run_local_2(uint64_t percent);
uint64_t run_local_apart(uint64_t percent);
uint64_t run_oversubscribed_8(uint64_t percent);
uint64_t run_oversubscribed_32(uint64_t percent);
/* fragmentation.c */
uint64_t run_fragmentation(uint64_t percent);
uint64_t run_fragmentation_scattered(uint64_t percent);
/* large.c */
uint64_t run_realloc_vectors(uint64_t percent);
uint64_t run_realloc_huge(uint64_t percent);
uint64_t run_large_touched(uint64_t percent);
uint64_t run_calloc_large(uint64_t percent);
uint64_t run_aligned(uint64_t percent);
/* startup.c */
uint64_t run_start_up(uint64_t percent);
/* sized.cpp */
uint64_t run_sized_deletes(uint64_t percent);
/* stl.cpp */
uint64_t run_stl(uint64_t percent);
uint64_t run_stl_threads(uint64_t percent);

#ifdef __cplusplus
}
#endif
#endif
