/* An ordinary program's use of the heap, checked throughout: threads that come and go, blocks that outlive them, large
 * blocks, and freeing what others allocated.
 *
 * usage: workload [THREADS [STEPS]]
 */
#define _GNU_SOURCE
#include "churn.h"
#include <pthread.h>

static long steps = 40000;

static void *work(void *seed) {
    struct churn c = {.random = 0x9e3779b97f4a7c15u * ((uintptr_t)seed + 1)};
    for (long i = 0; i < steps; i++)
        churn_step(&c);
    churn_end(&c);
    /* Left for whoever joins this thread. */
    char *legacy = malloc(5000);
    CHECK(legacy != NULL);
    memset(legacy, 0x33, 5000);
    return legacy;
}

int main(int argc, char **argv) {
    long threads = argc > 1 ? atol(argv[1]) : 2;
    if (argc > 2)
        steps = atol(argv[2]);
    CHECK(threads > 0 && threads <= 64);
    for (int round = 0; round < 3; round++) {
        pthread_t thread[64];
        for (long i = 0; i < threads; i++)
            CHECK(pthread_create(&thread[i], NULL, work, (void *)(uintptr_t)(i + round * 100)) == 0);
        for (long i = 0; i < threads; i++) {
            void *legacy;
            CHECK(pthread_join(thread[i], &legacy) == 0);
            CHECK(((char *)legacy)[0] == 0x33 && ((char *)legacy)[4999] == 0x33);
            free(legacy);
        }
    }
    puts("workload: ok");
    return 0;
}
