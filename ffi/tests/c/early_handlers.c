/* A library whose constructor registers fork handlers that allocate. The loader runs it before that of a preloaded
 * library, since nothing says that one needs the other. */
#include "check.h"
#include <pthread.h>

static int calls;

static void allocate(void) {
    void *p = malloc(3000), *q = calloc(1, 500000);
    CHECK(p != NULL && q != NULL);
    free(p), free(q);
    calls++;
}

__attribute__((constructor)) static void early(void) { CHECK(pthread_atfork(allocate, allocate, allocate) == 0); }

void early_handlers_expect(int forks) { CHECK(calls == 2 * forks); }
