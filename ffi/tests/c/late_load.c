/* Loads libterrace.so by dlopen, uses it by dlsym from several threads, closes it and goes on. */
#define _GNU_SOURCE
#include "check.h"
#include <dlfcn.h>
#include <pthread.h>
#include <string.h>

static void *(*late_malloc)(size_t);
static void (*late_free)(void *);

static void *work(void *unused) {
    (void)unused;
    for (int round = 0; round < 1000; round++) {
        char *p = late_malloc((size_t)round * 50), *q = malloc(100);
        CHECK(p != NULL && q != NULL);
        memset(p, 1, (size_t)round * 50);
        late_free(p), free(q);
    }
    return NULL;
}

int main(int argc, char **argv) {
    CHECK(argc == 2);
    void *library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    if (library == NULL)
        fprintf(stderr, "%s\n", dlerror());
    CHECK(library != NULL);
    late_malloc = (void *(*)(size_t))dlsym(library, "malloc");
    late_free = (void (*)(void *))dlsym(library, "free");
    CHECK(late_malloc != NULL && late_free != NULL && late_malloc != malloc);
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        CHECK(pthread_create(&threads[i], NULL, work, NULL) == 0);
    dlclose(library); /* -z nodelete: its code stays for the threads that still have to end */
    for (int i = 0; i < 4; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    return 0;
}
