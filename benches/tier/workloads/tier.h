/* What a program of the tiering benchmark shares with the observer: one file, mapped by both, that holds how often each
 * object was accessed. The observer (`src/observe.rs`) asks the kernel where the objects' pages are, and so knows which share
 * of the accesses DRAM serves, and which share it could have served at best, without disturbing the program.
 *
 * The table is file memory outside the heap; counting an access costs the program one increment there, under every contender.
 * One thread makes all accesses. */
#ifndef TIER_H
#define TIER_H
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>

/* An object: its accesses so far, spread evenly over its bytes. An array whose parts differ is many objects, of a page each. */
struct object {
    _Atomic uint64_t address, bytes, accesses;
};

/* A block that an object left for another: what it counted in it belongs to the pages there. */
struct departure {
    _Atomic uint64_t object, address, bytes, accesses; /* accesses: the object's, when it left */
};

enum { MOST_OBJECTS = 1 << 20, MOST_DEPARTURES = 1 << 17, TIER_MAGIC = 0x72656974 };

struct table {
    /* Written by the program: TIER_MAGIC once the heap is filled; objects in use; all accesses so far; the phase it is in. */
    _Atomic uint64_t magic, objects, accesses, phase;
    /* Written by the observer: the phase asked for (0 at first, one more for each shift); not 0 to make the program end. */
    _Atomic uint64_t wanted_phase, end;
    /* Written by the program when it ends: objects whose contents were found right, and wrong. */
    _Atomic uint64_t right, wrong;
    /* Departures so far, written by the program, and those that the observer has heard of; a ring. While it is full no more are
     * entered, and the accesses count where the object is next. */
    _Atomic uint64_t departed, heard;
    struct object object[MOST_OBJECTS];
    struct departure departure[MOST_DEPARTURES];
};

extern struct table *table;

/* A workload: `fill` makes a heap of about `mib` MiB; `go` makes about `accesses` accesses; `shift` begins another phase,
 * and is null where there is but one. */
struct workload {
    const char *name, *what;
    void (*fill)(size_t mib);
    void (*go)(uint64_t accesses);
    void (*shift)(void);
};

/* Ends the program. */
_Noreturn void give_up(const char *why);

/* Seconds of CLOCK_MONOTONIC. */
double seconds(void);

/* Zeroed memory for the program's own tables, for good: of huge pages where the system has some set aside. The lab has them on
 * the device: there they take no DRAM from the heap, and nobody moves them. */
void *own(size_t bytes);
/* The same outside the heap, for what the program needs only while it fills. */
void *scratch(size_t bytes);
void scratch_end(void *block, size_t bytes);

/* Random numbers: SplitMix64, the same sequence in every run. */
extern uint64_t random_state;
static inline uint64_t draw_from(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}
static inline uint64_t draw(void) { return draw_from(&random_state); }
static inline uint64_t below(uint64_t n) { return (uint64_t)(((unsigned __int128)draw() * n) >> 64); }
void shuffle(uint32_t *list, uint32_t n);

/* An alias table: picks one of `n` numbers, each with a probability in proportion to its weight, at the price of one look
 * into a small table. */
struct alias {
    uint32_t share, other;
};
extern struct alias *alias;
/* Of `n` weights, by number; they are used up. */
void weigh(double *weight, uint32_t n);
/* Leaves the low 12 bits of `random` all but independent of what was picked. */
static inline uint32_t pick(uint64_t random, uint32_t n)
{
    unsigned __int128 product = (unsigned __int128)random * n;
    uint32_t i = (uint32_t)(product >> 64);
    return (uint32_t)((uint64_t)product >> 32) < alias[i].share ? i : alias[i].other;
}

/* What each object's 8-byte words add up to. Every write of the program keeps it right, so that a page which was lost, torn
 * or brought back old is found at the end. */
extern uint64_t *sum;
static inline void put(uint32_t object, uint64_t *word, uint64_t value)
{
    sum[object] += value - *word;
    *word = value;
}
static inline void put_half(uint32_t object, uint32_t *half, uint32_t value)
{
    sum[object] += ((uint64_t)value - *half) << ((uintptr_t)half & 4) * 8;
    *half = value;
}
/* Takes an object's contents as they are. */
void remember(uint32_t object);
/* Whether they still are what they should be. */
int is_intact(uint32_t object);

/* Enters `block`, of whole words, into the table; its number. Ends the program when the table or memory is full (`block`
 * null). */
uint32_t enter(void *block, size_t bytes);
/* Enters it, fills it with a pattern and remembers that. */
uint32_t enter_filled(void *block, size_t bytes);
void fill_pattern(uint32_t object);
/* The first word of the pattern; each one after is larger by one. */
static inline uint64_t pattern(uint32_t object) { return (object + 1) * 0x9e3779b97f4a7c15; }
/* The object's block was freed and another of `bytes` is in its place. */
void replace(uint32_t object, void *block, size_t bytes);
/* How many times larger than planned objects of `mean` bytes must be, so that the table has room for `mib` MiB of them. */
size_t stretch(size_t mib, size_t mean);

/* Accesses since the table's were last brought up to date, which is after each `go`. */
extern uint64_t made;
static inline void count_many(uint32_t object, uint64_t accesses)
{
    struct object *o = &table->object[object];
    atomic_store_explicit(&o->accesses, atomic_load_explicit(&o->accesses, memory_order_relaxed) + accesses,
                          memory_order_relaxed);
    made += accesses;
}
static inline void count(uint32_t object) { count_many(object, 1); }

static inline uint64_t *words_of(uint32_t object)
{
    return (uint64_t *)atomic_load_explicit(&table->object[object].address, memory_order_relaxed);
}
static inline uint32_t bytes_of(uint32_t object)
{
    return (uint32_t)atomic_load_explicit(&table->object[object].bytes, memory_order_relaxed);
}

/* Accesses an object as the synthetic workloads do: one word anywhere in it, read, or one time in four incremented. Uses the
 * low 12 bits of `random`; the object has at most 512 words. */
static inline void touch(uint32_t object, uint64_t random)
{
    uint64_t *word = words_of(object) + (((random & 1023) * (bytes_of(object) / 8)) >> 10);
    if (random & 3 << 10)
        (void)*(volatile uint64_t *)word;
    else
        put(object, word, *(volatile uint64_t *)word + 1);
    count(object);
}

/* An array, which is an object a page. */
enum { PAGE = 4096 };
struct array {
    char *base;
    uint32_t first, pages;
};
struct array new_array(size_t bytes);
void remember_array(const struct array *array);
static inline uint32_t piece(const struct array *array, const void *at)
{
    return array->first + (uint32_t)(((size_t)((const char *)at - array->base)) / PAGE);
}

extern const struct workload uniform, zipf_08, zipf_099, zipf_12, zipf_scattered;   /* synthetic.c */
extern const struct workload hot_shift, hot_drift, scan, window, gups;              /* hot.c */
extern const struct workload interleaved, generation;                               /* life.c */
extern const struct workload kv, btree;                                             /* store.c */
extern const struct workload bfs, pagerank;                                         /* graph.c */
extern const struct workload xsbench;                                               /* lookup.c */

/* Objects of 1 to 4 KiB, filled; how many. (synthetic.c) */
uint32_t fill_with_objects(size_t mib);
#endif
