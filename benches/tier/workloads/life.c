/* How long objects live, and beside what. */
#include "tier.h"

/* Hot and cold objects of the same sizes, allocated in turn at random by two functions: each page holds both kinds, unless the
 * malloc tells them apart by who asks. */
enum { COLD_TO_ONE_HOT = 7, SMALL_MEAN = 320 };

static uint32_t hot, cold;
static uint32_t *hot_objects, *cold_objects;

__attribute__((noinline)) static void new_hot(size_t bytes) { hot_objects[hot++] = enter_filled(malloc(bytes), bytes); }
__attribute__((noinline)) static void new_cold(size_t bytes) { cold_objects[cold++] = enter_filled(malloc(bytes), bytes); }

static void fill_interleaved(size_t mib)
{
    size_t factor = stretch(mib, SMALL_MEAN), bytes;
    hot_objects = own(MOST_OBJECTS * sizeof *hot_objects);
    cold_objects = own(MOST_OBJECTS * sizeof *cold_objects);
    for (size_t filled = 0; filled < mib << 20; filled += bytes) {
        bytes = (128 + 8 * below(49)) * factor;
        if (below(COLD_TO_ONE_HOT + 1) == 0)
            new_hot(bytes);
        else
            new_cold(bytes);
    }
}

static void go_interleaved(uint64_t accesses)
{
    while (accesses-- > 0) {
        uint64_t random = draw();
        int is_hot = (random >> 12) % 1024 < 922;
        const uint32_t *list = is_hot ? hot_objects : cold_objects;
        touch(list[(uint32_t)(((unsigned __int128)random * (is_hot ? hot : cold)) >> 64)], random);
    }
}

/* Three quarters of the heap are old and have 5 % of the accesses. The rest is young objects in a ring: the oldest dies and
 * another is born in its place, unless it has the luck to stay for another round. A newborn is filled, and read a few times
 * while others are born. */
enum { YOUNG_MEAN = 544, ONE_IN_STAYS = 4, READS = 8, SOON = 1024 };

static uint32_t old, young; /* objects; the young come after the old */
static uint32_t newborn[SOON];
static uint32_t births, hand;

static size_t young_bytes(void) { return 64 + 8 * below(121); }

static void fill_generation(size_t mib)
{
    old = fill_with_objects(mib * 3 / 4);
    for (size_t filled = 0, bytes; filled < mib << 18; filled += bytes, young++) {
        bytes = young_bytes();
        newborn[young % SOON] = enter_filled(malloc(bytes), bytes);
    }
}

static void go_generation(uint64_t accesses)
{
    for (uint64_t end = made + accesses; made < end;) {
        uint64_t random = draw();
        hand = hand + 1 < young ? hand + 1 : 0;
        if ((random >> 12) % ONE_IN_STAYS == 0)
            continue;
        uint32_t object = old + hand;
        size_t bytes = young_bytes();
        free(words_of(object));
        replace(object, malloc(bytes), bytes);
        fill_pattern(object);
        count(object);
        newborn[births++ % SOON] = object;
        for (int i = 0; i < READS; i++, random = draw()) {
            uint32_t child = newborn[(random >> 12) % SOON];
            uint64_t word = ((random & 1023) * (bytes_of(child) / 8)) >> 10;
            if (words_of(child)[word] != pattern(child) + word) /* nobody would know, once it is dead */
                give_up("a young object has changed");
            count(child);
        }
        if ((random >> 12) % 1024 < 1024 * (READS + 1) / 19) /* 5 in 95 */
            touch((uint32_t)below(old), random);
    }
}

const struct workload interleaved = {"interleaved", "small objects, one in eight hot, from two call sites", fill_interleaved,
                                     go_interleaved, NULL};
const struct workload generation = {"generation", "old objects that are cold, young ones that come and go", fill_generation,
                                    go_generation, NULL};
