/* usage: tier TABLEFILE WORKLOAD MIB   fill a heap, access it until the observer says to end, and check it
 *        tier --list                   each workload's name, what it does, and "shift" if it has one; a line each, by tabs
 *
 * Exits with 1 if an object was found wrong, with 2 if the arguments are, with 3 if it cannot go on. Whatever the program
 * keeps for itself is static or mapped, so the heap holds the objects and nothing else. */
#include "tier.h"
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { ACCESSES_A_LOOK = 10000, HUGE_PAGE = 2 << 20 };

struct table *table;
uint64_t random_state = 0x7e55ace0, made, *sum;
struct alias *alias;

static const struct workload *const workloads[] = {
    &uniform, &zipf_08, &zipf_099, &zipf_12, &zipf_scattered, &hot_shift, &hot_drift,   &scan,       &gups,
    &kv,      &btree,   &bfs,      &pagerank, &xsbench,       &window,    &interleaved, &generation,
};
enum { WORKLOADS = sizeof workloads / sizeof *workloads };

void give_up(const char *why)
{
    dprintf(2, "tier: %s\n", why);
    _exit(3);
}

double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static void *map(size_t bytes, int more_flags)
{
    void *block = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | more_flags, -1, 0);
    return block == MAP_FAILED ? NULL : block;
}

void *own(size_t bytes)
{
    void *block = map((bytes + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE, MAP_HUGETLB);
    return block ? block : scratch(bytes);
}

void *scratch(size_t bytes)
{
    void *block = map(bytes, 0);
    if (!block)
        give_up("no memory");
    return block;
}

void scratch_end(void *block, size_t bytes) { munmap(block, bytes); }

void shuffle(uint32_t *list, uint32_t n)
{
    for (uint32_t i = n; i > 1; i--) {
        uint32_t other = (uint32_t)below(i), kept = list[i - 1];
        list[i - 1] = list[other];
        list[other] = kept;
    }
}

/* Vose's method: a number that has less than its share is filled up by one that has more, which thereby has less. `todo`
 * holds the former from its beginning, the latter from its end. */
void weigh(double *weight, uint32_t n)
{
    uint32_t *todo = scratch(n * sizeof *todo), small = 0, large = n;
    double all = 0;
    for (uint32_t i = 0; i < n; i++)
        all += weight[i];
    for (uint32_t i = 0; i < n; i++) {
        weight[i] *= n / all;
        todo[weight[i] < 1 ? small++ : --large] = i;
        alias[i] = (struct alias){UINT32_MAX, i};
    }
    while (small > 0 && large < n) {
        uint32_t little = todo[--small], much = todo[large];
        alias[little] = (struct alias){(uint32_t)(weight[little] * UINT32_MAX), much};
        weight[much] -= 1 - weight[little];
        if (weight[much] < 1) {
            large++;
            todo[small++] = much;
        }
    }
    scratch_end(todo, n * sizeof *todo);
}

static uint64_t contents(uint32_t object)
{
    const uint64_t *word = words_of(object);
    uint64_t all = 0;
    for (uint32_t words = bytes_of(object) / 8; words > 0; words--)
        all += *word++;
    return all;
}

void remember(uint32_t object) { sum[object] = contents(object); }
int is_intact(uint32_t object) { return contents(object) == sum[object]; }

static void publish(_Atomic uint64_t *at, uint64_t value) { atomic_store_explicit(at, value, memory_order_release); }

static void depart(uint32_t object, const struct object *from)
{
    uint64_t departed = atomic_load_explicit(&table->departed, memory_order_relaxed);
    struct departure *d = &table->departure[departed % MOST_DEPARTURES];
    if (departed - atomic_load(&table->heard) == MOST_DEPARTURES)
        return;
    publish(&d->object, object);
    publish(&d->address, from->address);
    publish(&d->bytes, from->bytes);
    publish(&d->accesses, from->accesses);
    publish(&table->departed, departed + 1);
}

/* The observer may look in between: it then sees an object of no bytes. */
void replace(uint32_t object, void *block, size_t bytes)
{
    struct object *o = &table->object[object];
    if (!block)
        give_up("no memory");
    if (o->address != 0)
        depart(object, o);
    publish(&o->bytes, 0);
    publish(&o->address, (uintptr_t)block);
    publish(&o->bytes, bytes);
}

uint32_t enter(void *block, size_t bytes)
{
    uint64_t object = atomic_load(&table->objects);
    if (object == MOST_OBJECTS)
        give_up("too many objects");
    replace((uint32_t)object, block, bytes);
    publish(&table->objects, object + 1);
    return (uint32_t)object;
}

void fill_pattern(uint32_t object)
{
    uint64_t *word = words_of(object), value = pattern(object), all = 0;
    for (uint32_t words = bytes_of(object) / 8; words > 0; words--)
        all += *word++ = value++;
    sum[object] = all;
}

uint32_t enter_filled(void *block, size_t bytes)
{
    uint32_t object = enter(block, bytes);
    fill_pattern(object);
    return object;
}

size_t stretch(size_t mib, size_t mean) { return (mib << 20) / mean / (MOST_OBJECTS - MOST_OBJECTS / 32) + 1; }

struct array new_array(size_t bytes)
{
    uint32_t pages = (uint32_t)((bytes + PAGE - 1) / PAGE);
    struct array array = {aligned_alloc(PAGE, (size_t)pages * PAGE), (uint32_t)atomic_load(&table->objects), pages};
    if (!array.base)
        give_up("no memory");
    for (uint32_t i = 0; i < pages; i++)
        enter_filled(array.base + (size_t)i * PAGE, PAGE);
    return array;
}

void remember_array(const struct array *array)
{
    for (uint32_t i = 0; i < array->pages; i++)
        remember(array->first + i);
}

static int verify(void)
{
    uint64_t objects = atomic_load(&table->objects), right = 0;
    for (uint32_t object = 0; object < objects; object++)
        right += is_intact(object);
    publish(&table->right, right);
    publish(&table->wrong, objects - right);
    dprintf(1, "verified %" PRIu64 " %" PRIu64 "\n", right, objects - right);
    return right != objects;
}

static int run(const struct workload *workload, size_t mib)
{
    sum = own(MOST_OBJECTS * sizeof *sum);
    alias = own(MOST_OBJECTS * sizeof *alias);
    workload->fill(mib);
    publish(&table->magic, TIER_MAGIC);
    while (!atomic_load(&table->end)) {
        uint64_t phase = atomic_load(&table->phase);
        if (phase < atomic_load(&table->wanted_phase)) {
            if (workload->shift)
                workload->shift();
            publish(&table->phase, phase + 1);
        }
        workload->go(ACCESSES_A_LOOK);
        publish(&table->accesses, table->accesses + made);
        made = 0;
    }
    return verify();
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--list") == 0) {
        for (int i = 0; i < WORKLOADS; i++)
            dprintf(1, "%s\t%s\t%s\n", workloads[i]->name, workloads[i]->what, workloads[i]->shift ? "shift" : "-");
        return 0;
    }
    for (int i = 0; argc == 4 && i < WORKLOADS; i++) {
        if (strcmp(workloads[i]->name, argv[2]) != 0)
            continue;
        long mib = strtol(argv[3], NULL, 10);
        int file = open(argv[1], O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
        if (mib < 8 || mib > 1 << 14)
            break;
        /* Whole huge pages, in case that is what the file system consists of. */
        if (file < 0 || ftruncate(file, (sizeof *table + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE) < 0)
            give_up("cannot make the table");
        table = mmap(NULL, sizeof *table, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        if (table == MAP_FAILED)
            give_up("cannot map the table");
        close(file);
        return run(workloads[i], (size_t)mib);
    }
    dprintf(2, "usage: tier TABLEFILE WORKLOAD MIB | tier --list\n");
    return 2;
}
