/* workloads NAME PERCENT: run one benchmark and print its checksum.
 * workloads whose-malloc:  print the object file that `malloc` was resolved to, so that the runner can prove that a
 *                          preload took effect. */
#define _GNU_SOURCE
#include "workload.h"
#include <dlfcn.h>
#include <inttypes.h>

static const struct {
    const char *name;
    workload_fn run;
} TABLE[] = {
    {"empty-loop", run_empty_loop},
    {"pairs-small", run_pairs_small},
    {"pairs-medium", run_pairs_medium},
    {"batch-lifo", run_batch_lifo},
    {"batch-fifo", run_batch_fifo},
    {"batch-random", run_batch_random},
    {"mixed-sizes", run_mixed_sizes},
    {"burst", run_burst},
    {"producer-consumer", run_producer_consumer},
    {"producers-consumer", run_producers_consumer},
    {"producer-consumers", run_producer_consumers},
    {"asymmetric", run_asymmetric},
    {"larson", run_larson},
    {"shared-slots", run_shared_slots},
    {"thread-churn", run_thread_churn},
    {"thread-once", run_thread_once},
    {"local-1", run_local_1},
    {"local-2", run_local_2},
    {"local-apart", run_local_apart},
    {"oversubscribed-8", run_oversubscribed_8},
    {"oversubscribed-32", run_oversubscribed_32},
    {"sized-deletes", run_sized_deletes},
    {"fragmentation", run_fragmentation},
    {"fragmentation-scattered", run_fragmentation_scattered},
    {"realloc-vectors", run_realloc_vectors},
    {"realloc-huge", run_realloc_huge},
    {"large-touched", run_large_touched},
    {"calloc-large", run_calloc_large},
    {"aligned", run_aligned},
    {"start-up", run_start_up},
    {"stl", run_stl},
    {"stl-threads", run_stl_threads},
};

static int whose_malloc(void)
{
    Dl_info info;
    void *symbol = dlsym(RTLD_DEFAULT, "malloc");
    if (!symbol || !dladdr(symbol, &info) || !info.dli_fname)
        return 1;
    puts(info.dli_fname);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "whose-malloc") == 0)
        return whose_malloc();
    if (argc == 3) {
        char *end;
        unsigned long percent = strtoul(argv[2], &end, 10);
        for (size_t i = 0; *end == '\0' && percent > 0 && i < sizeof TABLE / sizeof TABLE[0]; i++) {
            if (strcmp(TABLE[i].name, argv[1]) == 0) {
                printf("%s %016" PRIx64 "\n", argv[1], TABLE[i].run(percent));
                return 0;
            }
        }
    }
    fprintf(stderr, "usage: workloads NAME PERCENT | workloads whose-malloc\n");
    return 2;
}
