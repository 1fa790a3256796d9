/* Large blocks, zeroed blocks, aligned blocks and blocks that grow: the paths where allocators meet the system. */
#include "workload.h"

#define PAGE 4096

static uint64_t touch(unsigned char *p, size_t size, uint64_t tag)
{
    uint64_t sum = 0;
    for (size_t at = 0; at < size; at += PAGE) {
        p[at] = (unsigned char)(tag + at / PAGE);
        sum += p[at];
    }
    p[size - 1] = (unsigned char)tag;
    return sum + p[size - 1];
}

/* Vectors that grow by half each time until they hold about 16 KiB, 64 of them side by side, so that none can always grow in
 * place; contents are checked at the end. */
uint64_t run_realloc_vectors(uint64_t percent)
{
    enum { VECTORS = 64 };
    static struct {
        uint32_t *data;
        size_t len, cap;
    } v[VECTORS];
    uint64_t rng = 0x8EBC6AF09C88C6E3ULL, sum = 0;
    uint64_t rounds = scaled(120, percent);

    for (uint64_t r = 0; r < rounds; r++) {
        for (size_t push = 0; push < VECTORS * 4000; push++) {
            size_t i = rng_below(&rng, VECTORS);
            if (v[i].len == v[i].cap) {
                v[i].cap = v[i].cap ? v[i].cap + v[i].cap / 2 : 4;
                v[i].data = must(realloc(v[i].data, v[i].cap * sizeof *v[i].data), "realloc");
            }
            v[i].data[v[i].len] = (uint32_t)(v[i].len ^ i);
            v[i].len++;
        }
        for (size_t i = 0; i < VECTORS; i++) {
            for (size_t k = 0; k < v[i].len; k++) {
                if (v[i].data[k] != (uint32_t)(k ^ i))
                    exit(4);
            }
            sum += mix(v[i].len);
            free(v[i].data);
            v[i].data = NULL;
            v[i].len = v[i].cap = 0;
        }
    }
    return sum;
}

/* One buffer from 64 KiB to 64 MiB in steps of a tenth, its new part touched after every step, then freed. */
uint64_t run_realloc_huge(uint64_t percent)
{
    uint64_t sum = 0;
    uint64_t rounds = scaled(12, percent);
    for (uint64_t r = 0; r < rounds; r++) {
        size_t size = 64 << 10;
        unsigned char *p = must(malloc(size), "malloc");
        touch(p, size, r);
        while (size < (64u << 20)) {
            size_t grown = size + size / 10;
            p = must(realloc(p, grown), "realloc");
            if (p[size - 1] != (unsigned char)r)
                exit(4);
            sum += touch(p + size, grown - size, r);
            size = grown;
        }
        sum += p[0];
        free(p);
    }
    return mix(sum);
}

/* 64 KiB … 64 MiB, each allocated, touched once a page and freed, 8 MiB of pages touched for each size in turn: the
 * buffers of image, network and numeric code. A few blocks of every size stay live, as they do there. */
uint64_t run_large_touched(uint64_t percent)
{
    enum { KEPT = 4 };
    unsigned char *kept[KEPT] = {0};
    uint64_t rng = 0xE7037ED1A0B428DBULL, sum = 0;
    uint64_t rounds = scaled(60, percent);
    for (uint64_t r = 0; r < rounds; r++) {
        for (size_t size = 64 << 10; size <= (64u << 20); size *= 4) {
            uint64_t times = (8u << 20) / size;
            for (uint64_t i = 0; i < (times ? times : 1); i++) {
                size_t odd = size + rng_below(&rng, size / 4);
                unsigned char *p = must(malloc(odd), "malloc");
                sum += touch(p, odd < (16u << 20) ? odd : (16u << 20), i);
                if (odd < (2u << 20) && i % 16 == 0) {
                    unsigned char *evicted = kept[(i / 16) % KEPT];
                    kept[(i / 16) % KEPT] = p;
                    p = evicted;
                }
                free(p);
            }
        }
    }
    for (int i = 0; i < KEPT; i++)
        free(kept[i]);
    return mix(sum);
}

/* Zeroed blocks of 4 KiB … 16 MiB, a sixteenth of their pages written, every written page found zero first; the sizes
 * repeat, so an allocator that recycles must clear, and one that does not must fault. */
uint64_t run_calloc_large(uint64_t percent)
{
    uint64_t rng = 0x589965CC75374CC3ULL, sum = 0;
    uint64_t rounds = scaled(120, percent);
    for (uint64_t r = 0; r < rounds; r++) {
        for (size_t size = 4 << 10; size <= (16u << 20); size *= 4) {
            uint64_t times = (8u << 20) / size;
            times = times > 64 ? 64 : times ? times : 1;
            for (uint64_t i = 0; i < times; i++) {
                unsigned char *p = must(calloc(size / 16, 16), "calloc");
                size_t pages = size / PAGE, writes = pages / 16 + 1;
                for (size_t w = 0; w < writes; w++) {
                    /* At most 257 writes, each at its own offset in its page, so no byte is written twice: any byte that
                     * is not zero here was left by the block's last owner. */
                    unsigned char *byte = p + rng_below(&rng, pages) * PAGE + w;
                    if (*byte != 0) {
                        fprintf(stderr, "workload: calloc returned a byte that is not zero\n");
                        exit(4);
                    }
                    *byte = 0xA5;
                }
                sum += p[size - 1] == 0 ? size : 0;
                free(p);
            }
        }
    }
    return mix(sum);
}

/* aligned_alloc and posix_memalign, alignments of 32 bytes to 64 KiB, 512 blocks live at a time. */
uint64_t run_aligned(uint64_t percent)
{
    enum { LIVE = 512 };
    static unsigned char *blocks[LIVE];
    static size_t sizes[LIVE];
    uint64_t rng = 0x1D8E4E27C47D124FULL, sum = 0;
    uint64_t rounds = scaled(3000000, percent);
    for (uint64_t r = 0; r < rounds; r++) {
        size_t i = rng_below(&rng, LIVE);
        if (blocks[i]) {
            sum += stamp_check(blocks[i], sizes[i], i & 0xFF);
            free(blocks[i]);
        }
        /* Small alignments are common, page ones less so, 64 KiB rare. */
        uint64_t draw = rng_below(&rng, 100);
        size_t align = draw < 60 ? 32u << rng_below(&rng, 3) : draw < 95 ? 256u << rng_below(&rng, 5) : 64u << 10;
        size_t size = align * (1 + rng_below(&rng, 3));
        if (r & 1) {
            blocks[i] = must(aligned_alloc(align, size), "aligned_alloc");
        } else {
            void *p = NULL;
            if (posix_memalign(&p, align, size) != 0)
                must(NULL, "posix_memalign");
            blocks[i] = p;
        }
        if ((uintptr_t)blocks[i] % align != 0) {
            fprintf(stderr, "workload: %p is not aligned to %zu\n", (void *)blocks[i], align);
            exit(4);
        }
        *(uint64_t *)(void *)blocks[i] = (uint64_t)size ^ ((uint64_t)(i & 0xFF) << 40);
        blocks[i][size - 1] = (unsigned char)(i & 0xFF);
        sizes[i] = size;
    }
    return sum;
}
