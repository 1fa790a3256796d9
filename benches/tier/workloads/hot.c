/* A hot tenth of the heap, which stays, is exchanged at once, or moves. */
#include "tier.h"

/* Neighbours that are hot or cold together: about 256 KiB of objects of 2.5 KiB. */
enum { BLOCK = 102 };

static uint32_t objects, hot;
/* The objects in blocks, the `hot` ones first. */
static uint32_t *order;

/* Lays the blocks out in the order that `block` lists them; what does not fill a block comes last. */
static void lay_out(const uint32_t *block)
{
    uint32_t blocks = objects / BLOCK, n = 0;
    for (uint32_t b = 0; b < blocks; b++)
        for (uint32_t i = 0; i < BLOCK; i++)
            order[n++] = block[b] * BLOCK + i;
    for (; n < objects; n++)
        order[n] = n;
}

static uint32_t block_order[MOST_OBJECTS / BLOCK];

static void fill(size_t mib)
{
    order = own(MOST_OBJECTS * sizeof *order);
    objects = fill_with_objects(mib);
    uint32_t blocks = objects / BLOCK;
    hot = (blocks + 5) / 10 * BLOCK;
    for (uint32_t b = 0; b < blocks; b++)
        block_order[b] = b;
    shuffle(block_order, blocks);
    lay_out(block_order);
}

/* 90 % of the accesses go to the hot objects, the others to the cold ones. */
static void go(uint64_t accesses)
{
    while (accesses-- > 0) {
        uint64_t random = draw();
        int is_hot = (random >> 12) % 1024 < 922;
        uint32_t first = is_hot ? 0 : hot, n = is_hot ? hot : objects - hot;
        touch(order[first + (uint32_t)(((unsigned __int128)random * n) >> 64)], random);
    }
}

/* Blocks that were cold take the place of all hot ones. */
static void shift(void)
{
    uint32_t hot_blocks = hot / BLOCK;
    shuffle(block_order + hot_blocks, objects / BLOCK - hot_blocks);
    for (uint32_t b = 0; b < hot_blocks; b++) {
        uint32_t kept = block_order[b];
        block_order[b] = block_order[hot_blocks + b];
        block_order[hot_blocks + b] = kept;
    }
    lay_out(block_order);
}

/* The hot object that has been hot for longest changes places with the cold one that has been cold for longest, so often that
 * a hundredth of the hot set goes each second. Blocks stay together, as they come and go object by object. */
static void go_drift(uint64_t accesses)
{
    static double began;
    static uint64_t moved;
    if (began == 0)
        began = seconds();
    for (uint64_t due = (uint64_t)((seconds() - began) * hot / 100); moved < due; moved++) {
        uint32_t *leaves = &order[moved % hot], *comes = &order[hot + moved % (objects - hot)], kept = *leaves;
        *leaves = *comes;
        *comes = kept;
    }
    go(accesses);
}

/* All objects by address: a radix sort, as qsort may take from the heap. */
static uint32_t *by_address;

static void sort_by_address(void)
{
    uint32_t *other = scratch(objects * sizeof *other), *from = by_address, *to = other;
    for (uint32_t i = 0; i < objects; i++)
        from[i] = i;
    for (int bit = 0; bit < 48; bit += 12) { /* an even number of passes: the last is into `by_address` */
        uint32_t place[4097] = {0};
        for (uint32_t i = 0; i < objects; i++)
            place[((uintptr_t)words_of(i) >> bit & 4095) + 1]++;
        for (int digit = 0; digit < 4096; digit++)
            place[digit + 1] += place[digit];
        for (uint32_t i = 0; i < objects; i++)
            to[place[(uintptr_t)words_of(from[i]) >> bit & 4095]++] = from[i];
        uint32_t *kept = from;
        from = to;
        to = kept;
    }
    scratch_end(other, objects * sizeof *other);
}

static void fill_scan(size_t mib)
{
    by_address = own(MOST_OBJECTS * sizeof *by_address);
    fill(mib);
    sort_by_address();
}

enum { VISITS = 4 };

static void go_scan(uint64_t accesses)
{
    static uint64_t visits;
    while (accesses-- > 0) {
        uint64_t random = draw();
        if ((random >> 12) % 1024 < 819)
            touch(order[(uint32_t)(((unsigned __int128)random * hot) >> 64)], random);
        else
            touch(by_address[visits++ / VISITS % objects], random);
    }
}

enum { ROUND_SECONDS = 60 };

static void fill_window(size_t mib) { objects = fill_with_objects(mib); }

static void go_window(uint64_t accesses)
{
    static double began;
    if (began == 0)
        began = seconds();
    double rounds = (seconds() - began) / ROUND_SECONDS;
    uint32_t first = (uint32_t)((rounds - (double)(uint64_t)rounds) * objects);
    while (accesses-- > 0) {
        uint64_t random = draw();
        uint32_t i = first + (uint32_t)(((unsigned __int128)random * (objects / 10)) >> 64);
        touch(i < objects ? i : i - objects, random);
    }
}

/* Random updates of one array; 90 % of them to a tenth of it that lies together. */
static uint32_t hot_page;

static void fill_gups(size_t mib)
{
    objects = new_array(mib << 20).pages;
    hot = objects / 10;
    hot_page = (uint32_t)below(objects - hot);
}

static void go_gups(uint64_t accesses)
{
    while (accesses-- > 0) {
        uint64_t random = draw();
        int is_hot = (random >> 12) % 1024 < 922;
        uint32_t n = is_hot ? hot : objects - hot, page = (uint32_t)(((unsigned __int128)random * n) >> 64);
        if (is_hot)
            page += hot_page;
        else if (page >= hot_page)
            page += hot;
        uint64_t *word = words_of(page) + random % (PAGE / 8);
        put(page, word, *(volatile uint64_t *)word + 1);
        count(page);
    }
}

static void shift_gups(void)
{
    uint32_t last = hot_page;
    while (hot_page + hot > last && last + hot > hot_page)
        hot_page = (uint32_t)below(objects - hot);
}

const struct workload hot_shift = {"hot-shift", "a tenth has 90 %, in blocks of 256 KiB; another after a shift", fill, go, shift};
const struct workload hot_drift = {"hot-drift", "a tenth has 90 %, a hundredth of it replaced each second", fill, go_drift, NULL};
const struct workload scan = {"scan", "a tenth has 80 %, the rest walks through the heap", fill_scan, go_scan, NULL};
const struct workload window = {"window", "a tenth that slides through the heap in 60 s", fill_window, go_window, NULL};
const struct workload gups = {"gups", "updates, 90 % of a tenth; another after a shift", fill_gups, go_gups, shift_gups};
