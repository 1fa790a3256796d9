/* posix_spawn, vfork and _Fork run no fork handlers: the parent's heap must not notice. */
#define _GNU_SOURCE
#include "churn.h"
#include <pthread.h>
#include <spawn.h>
#include <stdatomic.h>
#include <sys/wait.h>

extern char **environ;
static atomic_int stop;

static void *work(void *seed) {
    struct churn c = {.random = (uintptr_t)seed + 5};
    while (!stop)
        churn_step(&c);
    churn_end(&c);
    return NULL;
}

int main(void) {
    pthread_t thread[2];
    for (uintptr_t i = 0; i < 2; i++)
        CHECK(pthread_create(&thread[i], NULL, work, (void *)i) == 0);
    struct churn c = {.random = 1234567};
    for (int i = 0; i < 150; i++) {
        for (int step = 0; step < 50; step++)
            churn_step(&c);
        pid_t pid = 0;
        int status = -1;
        if (i % 3 == 0) {
            char *argv[] = {"true", NULL};
            CHECK(posix_spawn(&pid, "/bin/true", NULL, NULL, argv, environ) == 0);
        } else if (i % 3 == 1) {
            pid = vfork();
            if (pid == 0) {
                execl("/bin/true", "true", (char *)NULL);
                _exit(99);
            }
        } else {
            pid = _Fork();
            if (pid == 0) {
                execl("/bin/true", "true", (char *)NULL);
                _exit(99);
            }
        }
        CHECK(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0);
    }
    stop = 1;
    for (int i = 0; i < 2; i++)
        CHECK(pthread_join(thread[i], NULL) == 0);
    churn_end(&c);
    puts("spawn: ok");
    return 0;
}
