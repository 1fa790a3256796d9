/* Objects of 1 to 4 KiB that are accessed all alike, or by Zipf's law: the one of rank r is accessed in proportion to
 * 1 / r^exponent. Ranks are shuffled in blocks of neighbours, so that what is hot lies together but nowhere in particular;
 * `zipf-scattered` shuffles them page by page, and no neighbour tells anything. */
#include "tier.h"
#include <math.h>

enum { SMALLEST = 1024, STEP = 512, SIZES = 7, MEAN = SMALLEST + STEP * (SIZES - 1) / 2 };

/* Neighbours whose ranks stay together: about 1 MiB. */
enum { BLOCK = (1 << 20) / MEAN };

static uint32_t objects;

uint32_t fill_with_objects(size_t mib)
{
    size_t factor = stretch(mib, MEAN), rest = mib << 20;
    uint32_t n = 0;
    while (rest >= SMALLEST * factor + STEP * factor * (SIZES - 1)) {
        size_t bytes = (SMALLEST + STEP * below(SIZES)) * factor;
        enter_filled(malloc(bytes), bytes);
        rest -= bytes;
        n++;
    }
    return n;
}

/* By their bytes, so that no page is hotter than another. */
static void fill_uniform(size_t mib)
{
    objects = fill_with_objects(mib);
    double *weight = scratch(objects * sizeof *weight);
    for (uint32_t i = 0; i < objects; i++)
        weight[i] = bytes_of(i);
    weigh(weight, objects);
    scratch_end(weight, objects * sizeof *weight);
}

static void go(uint64_t accesses)
{
    while (accesses-- > 0) {
        uint64_t random = draw();
        touch(pick(random, objects), random);
    }
}

/* Ranks in shuffled blocks; the last block is what remains, and keeps its place as one of the others. */
static void zipf(double exponent, uint32_t block)
{
    uint32_t blocks = (objects + block - 1) / block, rank = 0;
    uint32_t *order = scratch(blocks * sizeof *order);
    double *weight = scratch(objects * sizeof *weight);
    for (uint32_t b = 0; b < blocks; b++)
        order[b] = b;
    shuffle(order, blocks);
    for (uint32_t b = 0; b < blocks; b++)
        for (uint32_t i = order[b] * block; i < objects && i < (order[b] + 1) * block; i++)
            weight[i] = pow(++rank, -exponent);
    weigh(weight, objects);
    scratch_end(order, blocks * sizeof *order);
    scratch_end(weight, objects * sizeof *weight);
}

static void fill_zipf(size_t mib, double exponent)
{
    objects = fill_with_objects(mib);
    zipf(exponent, BLOCK);
}

static void fill_zipf_08(size_t mib) { fill_zipf(mib, 0.8); }
static void fill_zipf_099(size_t mib) { fill_zipf(mib, 0.99); }
static void fill_zipf_12(size_t mib) { fill_zipf(mib, 1.2); }

static void fill_scattered(size_t mib)
{
    for (objects = 0; objects < (mib << 20) / PAGE; objects++)
        enter_filled(malloc(PAGE), PAGE);
    zipf(0.99, 1);
}

const struct workload uniform = {"uniform", "every byte accessed alike", fill_uniform, go, NULL};
const struct workload zipf_08 = {"zipf-0.8", "Zipf 0.8, hot blocks of 1 MiB", fill_zipf_08, go, NULL};
const struct workload zipf_099 = {"zipf-0.99", "Zipf 0.99, hot blocks of 1 MiB", fill_zipf_099, go, NULL};
const struct workload zipf_12 = {"zipf-1.2", "Zipf 1.2, hot blocks of 1 MiB", fill_zipf_12, go, NULL};
const struct workload zipf_scattered = {"zipf-scattered", "Zipf 0.99, hot pages scattered", fill_scattered, go, NULL};
