/* Many blocks live at once, freed in one order or another. */
#include "workload.h"
#include <math.h>

#define BATCH 4096

enum order { LIFO, FIFO, RANDOM };

/* Fills `index` with 0 … n-1 in random order. */
static void shuffled(uint32_t *index, size_t n, uint64_t *rng)
{
    for (size_t i = 0; i < n; i++)
        index[i] = (uint32_t)i;
    for (size_t i = n - 1; i > 0; i--) {
        size_t j = rng_below(rng, i + 1);
        uint32_t swap = index[i];
        index[i] = index[j];
        index[j] = swap;
    }
}

/* Batches of one size at a time: 16 … 4096 bytes, the larger the fewer, so that each size costs about the same memory
 * traffic; sizes are visited in turn, so every batch starts from what the last one left behind. */
static uint64_t batches(uint64_t percent, enum order order)
{
    static void *blocks[BATCH];
    static uint32_t whole[BATCH], quarter[BATCH / 4];
    uint64_t rng = 0x9E3779B97F4A7C15ULL, sum = 0;
    uint64_t rounds = scaled(300, percent);

    shuffled(whole, BATCH, &rng);
    shuffled(quarter, BATCH / 4, &rng);
    for (uint64_t r = 0; r < rounds; r++) {
        for (size_t size = STAMP_MIN; size <= 4096; size *= 2) {
            size_t n = size <= 512 ? BATCH : BATCH / 4;
            for (size_t i = 0; i < n; i++)
                blocks[i] = stamp_new(size, i & 0xFF);
            for (size_t k = 0; k < n; k++) {
                size_t i = order == LIFO ? n - 1 - k : order == FIFO ? k : n == BATCH ? whole[k] : quarter[k];
                sum += stamp_check(blocks[i], size, i & 0xFF);
                free(blocks[i]);
            }
        }
    }
    return sum;
}

uint64_t run_batch_lifo(uint64_t percent) { return batches(percent, LIFO); }
uint64_t run_batch_fifo(uint64_t percent) { return batches(percent, FIFO); }
uint64_t run_batch_random(uint64_t percent) { return batches(percent, RANDOM); }

/* Sizes drawn from a log-normal distribution (median 100 bytes, sigma 1.4, at most 128 KiB): nine in ten blocks die after
 * at most 256 further allocations, one in ten replaces a random member of a long-lived set. */
#define SIZES 8192
#define YOUNG 256
#define OLD 20000

struct slot {
    void *block;
    uint32_t size;
    uint32_t tag;
};

static uint64_t replace(struct slot *slot, uint32_t size, uint32_t tag)
{
    uint64_t seen = 0;
    if (slot->block) {
        seen = stamp_check(slot->block, slot->size, slot->tag);
        free(slot->block);
    }
    slot->block = stamp_new(size, tag);
    slot->size = size;
    slot->tag = tag;
    return seen;
}

uint64_t run_mixed_sizes(uint64_t percent)
{
    static struct slot young[YOUNG], old[OLD];
    static uint32_t sizes[SIZES];
    uint64_t rng = 0xD1B54A32D192ED03ULL, sum = 0;

    for (size_t i = 0; i < SIZES; i++) {
        double u = (double)((rng_next(&rng) >> 11) + 1) / 9007199254740994.0;
        double v = (double)(rng_next(&rng) >> 11) / 9007199254740992.0;
        double normal = sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v);
        double size = 100.0 * exp(1.4 * normal);
        sizes[i] = size < STAMP_MIN ? STAMP_MIN : size > 131072 ? 131072 : (uint32_t)size;
    }
    uint64_t rounds = scaled(12000000, percent);
    for (uint64_t r = 0; r < rounds; r++) {
        uint64_t draw = rng_next(&rng);
        uint32_t size = sizes[draw % SIZES];
        uint32_t tag = (uint32_t)(draw >> 56);
        if ((draw >> 32) % 10 == 0)
            sum += replace(&old[rng_below(&rng, OLD)], size, tag);
        else
            sum += replace(&young[rng_below(&rng, YOUNG)], size, tag);
    }
    return sum;
}

/* Builds up about 110 MiB of small blocks, frees them all in random order, and does it again: what a request, a
 * compilation or a garbage collection looks like from below. */
#define BURST 400000

uint64_t run_burst(uint64_t percent)
{
    uint64_t rng = 0xA0761D6478BD642FULL, sum = 0;
    uint64_t rounds = scaled(10, percent);
    size_t n = BURST;
    struct slot *slots = must(calloc(n, sizeof *slots), "calloc");
    uint32_t *index = must(malloc(n * sizeof *index), "malloc");

    shuffled(index, n, &rng);
    for (uint64_t r = 0; r < rounds; r++) {
        for (size_t i = 0; i < n; i++) {
            uint64_t draw = rng_next(&rng);
            replace(&slots[i], (uint32_t)(STAMP_MIN + (draw & 0x1FF)), (uint32_t)(draw >> 56));
        }
        for (size_t k = 0; k < n; k++) {
            struct slot *slot = &slots[index[k]];
            sum += stamp_check(slot->block, slot->size, slot->tag);
            free(slot->block);
            slot->block = NULL;
        }
    }
    free(index);
    free(slots);
    return sum;
}
