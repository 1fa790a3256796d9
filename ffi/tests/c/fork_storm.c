/* Threads churn and fork. Each child checks the heap it inherited, uses it, and runs /bin/true.
 *
 * usage: fork_storm FORKS
 */
#define _GNU_SOURCE
#include "churn.h"
#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>

enum { THREADS = 8 };

static atomic_long forks_left;
static atomic_long children_ok;
/* Blocks that threads pass to each other, so that a fork also meets remote frees under way. */
static _Atomic(char *) mailbox[64];

static void exchange(struct churn *c) {
    char *mine = malloc(64 + churn_random(c) % 1000);
    CHECK(mine != NULL);
    memset(mine, 0x5a, 64);
    char *theirs = atomic_exchange(&mailbox[churn_random(c) % 64], mine);
    if (theirs != NULL) {
        for (int at = 0; at < 64; at++)
            CHECK(theirs[at] == 0x5a);
        free(theirs);
    }
}

static void child(struct churn *inherited) {
    /* The forking thread's blocks are intact and can be resized and freed. */
    for (int i = 0; i < 200; i++)
        churn_step(inherited);
    /* Blocks of threads that do not exist here can be freed. */
    for (int i = 0; i < 64; i++)
        free(atomic_exchange(&mailbox[i], NULL));
    churn_end(inherited);
    void *large = calloc(1, 3 << 20);
    CHECK(large != NULL);
    free(large);
    execl("/bin/true", "true", (char *)NULL);
    _exit(99);
}

static void *work(void *seed) {
    struct churn c = {.random = 0x9e3779b97f4a7c15u * ((uintptr_t)seed + 1)};
    while (atomic_fetch_sub(&forks_left, 1) > 0) {
        for (int i = 0; i < 30; i++)
            churn_step(&c), exchange(&c);
        pid_t pid = fork();
        CHECK(pid >= 0);
        if (pid == 0)
            child(&c);
        for (int i = 0; i < 30; i++)
            churn_step(&c), exchange(&c);
        int status = -1;
        CHECK(waitpid(pid, &status, 0) == pid);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        atomic_fetch_add(&children_ok, 1);
    }
    churn_end(&c);
    return NULL;
}

int main(int argc, char **argv) {
    CHECK(argc == 2);
    long forks = atol(argv[1]);
    forks_left = forks;
    pthread_t thread[THREADS];
    for (uintptr_t i = 0; i < THREADS; i++)
        CHECK(pthread_create(&thread[i], NULL, work, (void *)i) == 0);
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_join(thread[i], NULL) == 0);
    CHECK(children_ok == forks);
    printf("fork storm: %ld children\n", children_ok);
    return 0;
}
