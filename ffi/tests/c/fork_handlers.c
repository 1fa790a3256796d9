/* Fork handlers of others that allocate: one registered before libterrace.so's constructor has run (by a library it
 * cannot know), one after. Threads churn meanwhile, so that the allocator's locks are busy. */
#define _GNU_SOURCE
#include "churn.h"
#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>

void early_handlers_expect(int forks); /* early_handlers.c, a library */

static atomic_int stop;
static int calls;

static void allocate(void) {
    void *p = malloc(1000 + (size_t)calls % 5000), *q = malloc(400000);
    CHECK(p != NULL && q != NULL);
    free(p), free(q);
    calls++;
}

static void *work(void *seed) {
    struct churn c = {.random = (uintptr_t)seed + 77};
    while (!stop)
        churn_step(&c);
    churn_end(&c);
    return NULL;
}

int main(void) {
    enum { FORKS = 200 };
    CHECK(pthread_atfork(allocate, allocate, allocate) == 0);
    pthread_t thread[3];
    for (uintptr_t i = 0; i < 3; i++)
        CHECK(pthread_create(&thread[i], NULL, work, (void *)i) == 0);
    for (int i = 0; i < FORKS; i++) {
        pid_t pid = fork();
        CHECK(pid >= 0);
        if (pid == 0) {
            allocate();
            _exit(0);
        }
        int status = -1;
        CHECK(waitpid(pid, &status, 0) == pid && status == 0);
    }
    stop = 1;
    for (int i = 0; i < 3; i++)
        CHECK(pthread_join(thread[i], NULL) == 0);
    CHECK(calls == 2 * FORKS);
    early_handlers_expect(FORKS);
    puts("fork handlers: ok");
    return 0;
}
