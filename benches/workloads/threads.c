/* Blocks that threads exchange, and threads that come and go. */
#define _GNU_SOURCE
#include "threads.h"
#include "workload.h"
#include <sched.h>

unsigned thread_count(void)
{
    cpu_set_t set;
    int n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 2;
    return n < 2 ? 2 : n > 16 ? 16 : (unsigned)n;
}

void start(pthread_t *thread, void *(*body)(void *), void *arg)
{
    if (pthread_create(thread, NULL, body, arg) != 0) {
        fprintf(stderr, "workload: no thread\n");
        exit(3);
    }
}

/* After Larson and Krishnan's server simulation (1998): each thread replaces random members of its set of blocks, then
 * dies and hands the set to a new thread, which frees what its predecessor allocated. */
enum { LARSON_SET = 1000, LARSON_OPS = 20000 };

struct larson_set {
    void *blocks[LARSON_SET];
    uint32_t sizes[LARSON_SET];
    uint64_t rng, sum;
};

static void *larson_body(void *arg)
{
    struct larson_set *set = arg;
    for (int op = 0; op < LARSON_OPS; op++) {
        size_t i = rng_below(&set->rng, LARSON_SET);
        if (set->blocks[i]) {
            set->sum += stamp_check(set->blocks[i], set->sizes[i], i & 0xFF);
            free(set->blocks[i]);
        }
        set->sizes[i] = (uint32_t)(STAMP_MIN + rng_below(&set->rng, 1000));
        set->blocks[i] = stamp_new(set->sizes[i], i & 0xFF);
    }
    return NULL;
}

uint64_t run_larson(uint64_t percent)
{
    static struct larson_set sets[MAX_THREADS];
    pthread_t threads[MAX_THREADS];
    unsigned n = thread_count();
    uint64_t generations = scaled(240, percent), sum = 0;
    for (unsigned t = 0; t < n; t++)
        sets[t].rng = mix(t + 1) | 1;
    for (uint64_t g = 0; g < generations; g++) {
        for (unsigned t = 0; t < n; t++)
            start(&threads[t], larson_body, &sets[(t + g) % n]);
        for (unsigned t = 0; t < n; t++)
            pthread_join(threads[t], NULL);
    }
    for (unsigned t = 0; t < n; t++) {
        sum += sets[t].sum;
        for (size_t i = 0; i < LARSON_SET; i++)
            free(sets[t].blocks[i]);
    }
    return sum;
}

/* All threads swap blocks through one shared array, so that nearly every block is freed by a stranger. */
enum { SHARED = 4096 };

static void *_Atomic shared[SHARED];

struct swapper {
    uint64_t ops, rng, put, got;
};

static uint64_t shared_take(void *block)
{
    uint64_t size = *(uint64_t *)block & 0xFFFF;
    uint64_t seen = stamp_check(block, size, *(uint64_t *)block >> 40);
    free(block);
    return seen;
}

static void *swap_body(void *arg)
{
    struct swapper *s = arg;
    for (uint64_t op = 0; op < s->ops; op++) {
        uint64_t draw = rng_next(&s->rng);
        size_t size = STAMP_MIN + (draw & 0xFF);
        void *block = stamp_new(size, (draw >> 16) & 0xFF);
        s->put += mix(((uint64_t)size ^ (((draw >> 16) & 0xFF) << 40)) + ((draw >> 16) & 0xFF));
        block = __atomic_exchange_n(&shared[(draw >> 32) % SHARED], block, __ATOMIC_ACQ_REL);
        if (block)
            s->got += shared_take(block);
    }
    return NULL;
}

uint64_t run_shared_slots(uint64_t percent)
{
    static struct swapper swappers[MAX_THREADS];
    pthread_t threads[MAX_THREADS];
    unsigned n = thread_count();
    uint64_t put = 0, got = 0;
    for (unsigned t = 0; t < n; t++) {
        swappers[t].ops = scaled(4000000, percent);
        swappers[t].rng = mix(t + 77) | 1;
        start(&threads[t], swap_body, &swappers[t]);
    }
    for (unsigned t = 0; t < n; t++) {
        pthread_join(threads[t], NULL);
        put += swappers[t].put;
        got += swappers[t].got;
    }
    for (size_t i = 0; i < SHARED; i++)
        if (shared[i])
            got += shared_take(shared[i]);
    if (put != got) {
        fprintf(stderr, "workload: blocks were lost between threads\n");
        exit(4);
    }
    return put;
}

/* Short threads: each makes 200 blocks of mixed sizes, frees most of them and leaves the rest to its creator. What a
 * thread heap costs to set up, tear down and inherit. */
enum { CHURN_BLOCKS = 200, CHURN_LEFT = 20 };

struct churn {
    uint64_t rng, sum;
    void *left[CHURN_LEFT];
    uint32_t sizes[CHURN_LEFT];
};

static void *churn_body(void *arg)
{
    struct churn *c = arg;
    void *blocks[CHURN_BLOCKS];
    uint32_t sizes[CHURN_BLOCKS];
    for (int i = 0; i < CHURN_BLOCKS; i++) {
        sizes[i] = (uint32_t)(STAMP_MIN + rng_below(&c->rng, i % 10 == 0 ? 8000 : 500));
        blocks[i] = stamp_new(sizes[i], i);
    }
    for (int i = 0; i < CHURN_BLOCKS; i++) {
        if (i < CHURN_LEFT) {
            c->left[i] = blocks[i];
            c->sizes[i] = sizes[i];
        } else {
            c->sum += stamp_check(blocks[i], sizes[i], i);
            free(blocks[i]);
        }
    }
    return NULL;
}

uint64_t run_thread_churn(uint64_t percent)
{
    static struct churn all[MAX_THREADS];
    pthread_t threads[MAX_THREADS];
    unsigned n = thread_count();
    uint64_t generations = scaled(4000, percent), sum = 0;
    for (unsigned t = 0; t < n; t++)
        all[t].rng = mix(t + 1234) | 1;
    for (uint64_t g = 0; g < generations; g++) {
        for (unsigned t = 0; t < n; t++)
            start(&threads[t], churn_body, &all[t]);
        for (unsigned t = 0; t < n; t++) {
            pthread_join(threads[t], NULL);
            for (int i = 0; i < CHURN_LEFT; i++) {
                sum += stamp_check(all[t].left[i], all[t].sizes[i], i);
                free(all[t].left[i]);
            }
        }
    }
    for (unsigned t = 0; t < n; t++)
        sum += all[t].sum;
    return sum;
}
