/* How threads add up: the same work on one and on two of them, more of them than CPUs, and very many that do nearly
 * nothing. */
#include "threads.h"
#include "memory.h"
#include "workload.h"
#include <sys/wait.h>
#include <unistd.h>

/* Local work: a thread replaces random members of a set of its own. No two threads' sets share a cache line, nor a pair
 * of them, which processors fetch together: that alone would cost as much as a tenth of the work. */
enum { SET = 500, LINES = 4096 };

struct local {
    uint64_t ops, exchanges, rng, sum, put, got;
    void *blocks[SET];
    uint32_t sizes[SET];
} __attribute__((aligned(LINES)));

static void local_step(struct local *l)
{
    size_t i = rng_below(&l->rng, SET);
    if (l->blocks[i]) {
        l->sum += stamp_check(l->blocks[i], l->sizes[i], i & 0xFF);
        free(l->blocks[i]);
    }
    l->sizes[i] = (uint32_t)(STAMP_MIN + rng_below(&l->rng, 500));
    l->blocks[i] = stamp_new(l->sizes[i], i & 0xFF);
}

static void local_end(struct local *l)
{
    for (size_t i = 0; i < SET; i++)
        free(l->blocks[i]);
}

static void *local_body(void *arg)
{
    struct local *l = arg;
    for (uint64_t op = 0; op < l->ops; op++)
        local_step(l);
    local_end(l);
    return NULL;
}

/* One in this many operations of a crowd hands a block to whoever comes next. */
enum { HANDS_OVER = 16, SLOTS = 512 };

static void *_Atomic slots[SLOTS];

static uint64_t slot_free(void *block)
{
    uint64_t head = *(uint64_t *)block, seen = stamp_check(block, head & 0xFFFF, head >> 40);
    free(block);
    return seen;
}

static void *crowd_body(void *arg)
{
    struct local *l = arg;
    for (uint64_t op = 0; op < l->ops; op++) {
        if (op % HANDS_OVER != 0) {
            local_step(l);
            continue;
        }
        uint64_t draw = rng_next(&l->rng), tag = (draw >> 16) & 0xFF, size = STAMP_MIN + (draw & 0xFF);
        void *block = stamp_new(size, tag);
        l->put += stamp_check(block, size, tag);
        block = __atomic_exchange_n(&slots[(draw >> 32) % SLOTS], block, __ATOMIC_ACQ_REL);
        if (block)
            l->got += slot_free(block);
    }
    local_end(l);
    return NULL;
}

/* `ops` operations in all, on `n` threads. */
static uint64_t crowd(unsigned n, uint64_t ops, void *(*body)(void *))
{
    static struct local all[MAX_THREADS];
    pthread_t threads[MAX_THREADS];
    uint64_t sum = 0, put = 0, got = 0;
    for (unsigned t = 0; t < n; t++) {
        all[t].ops = ops / n;
        all[t].rng = mix(t + 1) | 1;
        start(&threads[t], body, &all[t]);
    }
    for (unsigned t = 0; t < n; t++) {
        pthread_join(threads[t], NULL);
        sum += all[t].sum;
        put += all[t].put;
        got += all[t].got;
    }
    for (size_t i = 0; i < SLOTS; i++)
        if (slots[i])
            got += slot_free(slots[i]);
    if (put != got) {
        fprintf(stderr, "workload: blocks were lost between threads\n");
        exit(4);
    }
    return sum + put;
}

/* Twice the work on twice the threads: as long, if they do not disturb each other. */
uint64_t run_local_1(uint64_t percent) { return crowd(1, scaled(20000000, percent), local_body); }
uint64_t run_local_2(uint64_t percent) { return crowd(2, scaled(40000000, percent), local_body); }

/* The same work in two processes, which share nothing at all: what two threads could do at best on this machine, just then. */
uint64_t run_local_apart(uint64_t percent)
{
    uint64_t ops = scaled(20000000, percent), sum = 0;
    int ends[2], status = -1;
    pid_t other = -1;
    if (pipe(ends) != 0 || (other = fork()) < 0) {
        perror("workload: a second process");
        exit(5);
    }
    if (other == 0) {
        sum = crowd(1, ops, local_body);
        _exit(write(ends[1], &sum, sizeof sum) == sizeof sum ? 0 : 5);
    }
    uint64_t own = crowd(1, ops, local_body);
    if (waitpid(other, &status, 0) != other || status != 0 || read(ends[0], &sum, sizeof sum) != sizeof sum) {
        fprintf(stderr, "workload: the second process failed\n");
        exit(5);
    }
    close(ends[0]);
    close(ends[1]);
    return mix(own) + mix(sum);
}

uint64_t run_oversubscribed_8(uint64_t percent) { return crowd(8, scaled(24000000, percent), crowd_body); }
uint64_t run_oversubscribed_32(uint64_t percent) { return crowd(32, scaled(24000000, percent), crowd_body); }

/* Threads that are created, allocate once and exit, one after the other; the block is freed by their creator. What a
 * thread costs an allocator, and what stays of it: the resident set and the mappings are looked at after the first
 * hundredth of the threads (256 at least) and again at the end. */
static void *once(void *arg)
{
    uint64_t *size = arg;
    return stamp_new((size_t)*size, *size & 0xFF);
}

uint64_t run_thread_once(uint64_t percent)
{
    uint64_t n = scaled(100000, percent), warm = n / 100 > 256 ? n / 100 : 256, rng = mix(9) | 1, sum = 0;
    uint64_t resident = 0, mappings = 0;
    for (uint64_t i = 0; i < n + warm; i++) {
        pthread_t thread;
        uint64_t size = STAMP_MIN + rng_below(&rng, 240);
        void *block;
        if (i == warm) {
            resident = resident_kib();
            mappings = mapping_count();
        }
        start(&thread, once, &size);
        pthread_join(thread, &block);
        sum += stamp_check(block, (size_t)size, size & 0xFF);
        free(block);
    }
    metric("threads", (double)n);
    metric("resident_growth_kib", (double)resident_kib() - (double)resident);
    metric("mapping_growth", (double)mapping_count() - (double)mappings);
    return sum;
}
