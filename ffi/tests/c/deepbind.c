/* Frees, measures and resizes blocks of libc's heap with the preloaded functions. */
#define _GNU_SOURCE
#include "check.h"
#include <dlfcn.h>
#include <malloc.h>
#include <pthread.h>
#include <string.h>

static void *(*theirs)(size_t);
static void *(*theirs_aligned)(size_t, size_t);

static void *work(void *unused) {
    (void)unused;
    for (size_t size = 1; size < (size_t)4 << 20; size = size * 3 / 2 + 1) {
        char *p = theirs(size), *q = theirs(size), *r = theirs_aligned(256, size);
        CHECK(p && q && r);
        memset(p, 1, size), memset(q, 2, size), memset(r, 3, size);
        CHECK(malloc_usable_size(p) >= size);
        q = realloc(q, size * 2);
        CHECK(q != NULL && q[0] == 2 && q[size - 1] == 2);
        memset(q, 4, size * 2);
        free(p), free(q), free(r);
    }
    return NULL;
}

int main(int argc, char **argv) {
    CHECK(argc == 2);
    void *library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND);
    CHECK(library != NULL);
    theirs = (void *(*)(size_t))dlsym(library, "library_malloc");
    theirs_aligned = (void *(*)(size_t, size_t))dlsym(library, "library_memalign");
    CHECK(theirs != NULL && theirs_aligned != NULL);
    work(NULL);
    pthread_t thread; /* libc's heap for further threads is another one */
    CHECK(pthread_create(&thread, NULL, work, NULL) == 0 && pthread_join(thread, NULL) == 0);
    puts("deepbind: ok");
    return 0;
}
