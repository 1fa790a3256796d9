/* A long server simulation: what the resident set is against live bytes, in the end and after most of it was freed.
 *
 * Live bytes are held at a target while blocks of changing sizes come and go: the sizes of each era are drawn from a
 * log-normal distribution around another median, so that room freed in one era does not fit the next. A tenth of the
 * blocks is allocated first and stays, as a server's configuration and caches do; of the rest, a random member is
 * replaced each time, so that every era leaves survivors. Then nine tenths are freed and the program falls quiet for ten
 * seconds, but for a request of a few blocks every ten milliseconds.
 *
 * `fragmentation` frees what came after the first tenth: what remains lies where it was put. `fragmentation-scattered`
 * frees at random, so that nearly every page keeps something; no malloc can move that, hence the figure `floor`:
 * the bytes of the pages that hold a live block, below which no resident set can be. */
#define _GNU_SOURCE
#include "memory.h"
#include "workload.h"
#include <math.h>
#include <sys/mman.h>
#include <time.h>

#define MEAN 266 /* bytes a block, of a log-normal distribution with median 100 and sigma 1.4 */
#define SIZES 8192
#define QUIET_MS 10000
#define PAGE 4096

struct item {
    void *block;
    uint32_t size, tag;
};

/* What does not count as the heap's: the table of blocks, which is mapped and touched before anything is allocated, and
 * what else the process holds by then. Nor do pages of files, at any time: those of libm and libc that are first run, and
 * so first read in, after that would be charged to every heap alike (half a MiB, of the ten that are live in the end). */
static struct item *items;
static size_t places;
static uint64_t others_kib;
static uint64_t live;

static void table_open(size_t n)
{
    size_t bytes = (n * sizeof *items + PAGE - 1) / PAGE * PAGE;
    items = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (items == MAP_FAILED) {
        perror("workload: mmap");
        exit(3);
    }
    places = n;
    others_kib = anonymous_kib();
}

static uint64_t item_free(struct item *item)
{
    uint64_t seen = stamp_check(item->block, item->size, item->tag);
    live -= item->size;
    free(item->block);
    item->block = NULL;
    return seen;
}

static void item_new(struct item *item, uint32_t size, uint32_t tag)
{
    *item = (struct item){stamp_new(size, tag), size, tag};
    /* The stamp is at both ends; a block is written to all over. */
    for (size_t at = PAGE / 2; at + 1 < size; at += PAGE / 2)
        ((unsigned char *)item->block)[at] = (unsigned char)tag;
    live += size;
}

static void draw_sizes(uint32_t *sizes, double median, uint64_t *rng)
{
    for (size_t i = 0; i < SIZES; i++) {
        double u = (double)((rng_next(rng) >> 11) + 1) / 9007199254740994.0;
        double v = (double)(rng_next(rng) >> 11) / 9007199254740992.0;
        double size = median * exp(1.4 * sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v));
        sizes[i] = size < STAMP_MIN ? STAMP_MIN : size > 131072 ? 131072 : (uint32_t)size;
    }
}

static uint64_t own_kib(void)
{
    return anonymous_kib() - others_kib;
}

/* Bytes of the pages that live blocks lie on. */
static uint64_t floor_kib(void)
{
    uintptr_t low = UINTPTR_MAX, high = 0;
    for (size_t i = 0; i < places; i++) {
        if (!items[i].block)
            continue;
        uintptr_t at = (uintptr_t)items[i].block;
        low = at < low ? at : low;
        high = at + items[i].size > high ? at + items[i].size : high;
    }
    if (high == 0)
        return 0;
    /* A bit a page of the whole span; untouched parts of it cost nothing. */
    size_t bytes = ((high / PAGE - low / PAGE) / 8 + 1 + PAGE) / PAGE * PAGE;
    unsigned char *seen =
        mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (seen == MAP_FAILED) {
        perror("workload: mmap");
        exit(3);
    }
    uint64_t pages = 0;
    for (size_t i = 0; i < places; i++) {
        if (!items[i].block)
            continue;
        uintptr_t at = (uintptr_t)items[i].block;
        for (uintptr_t p = at / PAGE; p <= (at + items[i].size - 1) / PAGE; p++) {
            size_t bit = p - low / PAGE;
            pages += !(seen[bit / 8] >> (bit % 8) & 1);
            seen[bit / 8] |= (unsigned char)(1 << (bit % 8));
        }
    }
    munmap(seen, bytes);
    return pages * (PAGE / 1024);
}

static void pause_ms(long ms)
{
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&time, NULL);
}

static uint64_t now_ms(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000 + (uint64_t)time.tv_nsec / 1000000;
}

/* How many of them there are in ten seconds depends on the machine; so the checksum leaves them out. */
static void request(const uint32_t *sizes, uint64_t at)
{
    enum { BLOCKS = 16 };
    void *blocks[BLOCKS];
    for (size_t i = 0; i < BLOCKS; i++)
        blocks[i] = stamp_new(sizes[(at + i) % SIZES], i);
    for (size_t i = 0; i < BLOCKS; i++) {
        stamp_check(blocks[i], sizes[(at + i) % SIZES], i);
        free(blocks[i]);
    }
}

static uint64_t simulate(uint64_t percent, int scattered)
{
    static const double medians[] = {100, 200, 50, 150, 75, 100};
    static uint32_t sizes[SIZES];
    const uint64_t target = 96 << 20;
    uint64_t rng = 0x9E3779B97F4A7C15ULL, sum = 0, first = 0;

    table_open(4 * target / MEAN);
    draw_sizes(sizes, medians[0], &rng);
    /* The tenth that stays. */
    for (; live < target / 10; first++)
        item_new(&items[first], sizes[rng_next(&rng) % SIZES], first & 0xFF);
    size_t movable = places - first;
    for (size_t era = 0; era < sizeof medians / sizeof medians[0]; era++) {
        draw_sizes(sizes, medians[era], &rng);
        for (uint64_t op = 0; op < scaled(2000000, percent); op++) {
            uint64_t draw = rng_next(&rng);
            struct item *item = &items[first + rng_below(&rng, movable)];
            if (item->block)
                sum += item_free(item);
            if (live < target)
                item_new(item, sizes[draw % SIZES], draw >> 56);
        }
    }
    /* Up to the target, if the last era left it below. */
    for (size_t i = first; i < places && live < target; i++)
        if (!items[i].block)
            item_new(&items[i], sizes[rng_next(&rng) % SIZES], i & 0xFF);
    metric("live_kib", (double)live / 1024);
    metric("resident_kib", (double)own_kib());
    metric("floor_kib", (double)floor_kib());

    for (size_t i = 0; i < places; i++) {
        int goes = scattered ? rng_below(&rng, 10) != 0 : i >= first;
        if (goes && items[i].block)
            sum += item_free(&items[i]);
    }
    metric("left_live_kib", (double)live / 1024);
    metric("left_at_once_kib", (double)own_kib());
    metric("left_floor_kib", (double)floor_kib());
    uint64_t reached = 0, began = now_ms();
    for (uint64_t ms = 0; ms < QUIET_MS; ms = now_ms() - began) {
        request(sizes, ms);
        pause_ms(10);
        if (!reached && own_kib() * 1024 * 10 < live * 11)
            reached = ms ? ms : 1;
    }
    metric("left_resident_kib", (double)own_kib());
    metric("reached_ms", (double)reached);
    for (size_t i = 0; i < places; i++)
        if (items[i].block)
            sum += item_free(&items[i]);
    return sum;
}

uint64_t run_fragmentation(uint64_t percent) { return simulate(percent, 0); }
uint64_t run_fragmentation_scattered(uint64_t percent) { return simulate(percent, 1); }
