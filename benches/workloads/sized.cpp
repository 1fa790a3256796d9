// Sized deletes (C++14): the allocator is told the size that it handed out, and may use it instead of looking it up.
#include "workload.h"
#include <new>

namespace {

const size_t BATCH = 2048;

void *fresh(size_t size, uint64_t tag)
{
    unsigned char *p = static_cast<unsigned char *>(::operator new(size));
    *reinterpret_cast<uint64_t *>(p) = static_cast<uint64_t>(size) ^ (tag << 40);
    p[size - 1] = static_cast<unsigned char>(tag);
    return p;
}

} // namespace

// Batches of mixed sizes up to 1 KiB, and now and then 16 KiB, freed in an order other than that of allocation.
uint64_t run_sized_deletes(uint64_t percent)
{
    static void *blocks[BATCH];
    static uint32_t sizes[BATCH];
    uint64_t rng = 0xA0761D6478BD642FULL, sum = 0;
    uint64_t rounds = scaled(4000, percent);
    for (uint64_t r = 0; r < rounds; r++) {
        for (size_t i = 0; i < BATCH; i++) {
            uint64_t draw = rng_next(&rng);
            sizes[i] = static_cast<uint32_t>(STAMP_MIN + (draw & (draw >> 58 ? 0x3FF : 0x3FFF)));
            blocks[i] = fresh(sizes[i], i & 0xFF);
        }
        // 5 and 2048 have no common divisor: every block once.
        for (size_t k = 0, i = r % BATCH; k < BATCH; k++, i = (i + 5) % BATCH) {
            sum += stamp_check(blocks[i], sizes[i], i & 0xFF);
            ::operator delete(blocks[i], static_cast<size_t>(sizes[i]));
        }
    }
    return sum;
}
