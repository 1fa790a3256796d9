/* Four threads churn while the control thread moves pages, and the main thread forks. First, while the control thread is starting, children
 * that load a library. Then children that grow until they have a control thread of their own, go on until that has ticked a few times,
 * find their data as it was, and leave nothing behind.
 *
 * usage: fork_control LIBRARY CHILDREN
 */
#define _GNU_SOURCE
#include "churn.h"
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/wait.h>

enum { THREADS = 4, TICKS = 2, DATA = 8 << 20, GROWTH = 100 << 20 };
/* Of a statistics page (alloc/src/control/stats.rs), in words. */
enum { SEQUENCE = 2, PID = 3, TICK = 7, WORDS = 8 };

static const char *library;
static atomic_bool stop;
static uint64_t *data;

static void page_path(char path[64], pid_t pid) {
    snprintf(path, 64, "/dev/shm/terrace-%d.stats", pid);
}

/* How often the control thread of process `pid` has ticked; 0 = it publishes nothing yet. */
static uint64_t ticks(pid_t pid) {
    char path[64];
    page_path(path, pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    uint64_t words[WORDS] = {0};
    ssize_t got = read(fd, words, sizeof words);
    close(fd);
    CHECK(got <= 0 || got == sizeof words);
    CHECK(words[PID] == 0 || words[PID] == (uint64_t)pid);
    return words[TICK];
}

static void check_data(void) {
    for (size_t at = 0; at < DATA / 8; at++)
        CHECK(data[at] == at * 0x9e3779b97f4a7c15u);
}

static void *work(void *seed) {
    struct churn c = {.random = 0x9e3779b97f4a7c15u * ((uintptr_t)seed + 1)};
    while (!stop) {
        for (int i = 0; i < 20; i++)
            churn_step(&c);
        /* The control threads want a processor, too. */
        usleep(5000);
    }
    churn_end(&c);
    return NULL;
}

static void load(void) {
    if (dlopen(library, RTLD_NOW) == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        _exit(1);
    }
}

static void child(struct churn *inherited) {
    load();
    int (*advise)(const void *, size_t, unsigned);
    *(void **)&advise = dlsym(RTLD_DEFAULT, "terrace_advise");
    CHECK(advise != NULL);
    char *growth = malloc(GROWTH);
    CHECK(growth != NULL);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, work, (void *)99) == 0);
    /* An hour of the clock means that the thread died or hangs; the test's time limit comes first. */
    for (int round = 0; ticks(getpid()) < TICKS; round++) {
        churn_step(inherited);
        char *at = &growth[churn_random(inherited) % GROWTH];
        *at = 1;
        /* Which wakes the control thread. */
        CHECK(round % 8 != 0 || advise(at, 1, 0) == 0);
        usleep(2000);
    }
    stop = true;
    CHECK(pthread_join(thread, NULL) == 0);
    check_data();
    churn_end(inherited);
    free(growth);
    /* exit, not _exit: the page goes with the process. */
    exit(7);
}

static void wait_for(pid_t pid) {
    int status = -1;
    CHECK(waitpid(pid, &status, 0) == pid);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 7)
        fprintf(stderr, "child %d: status %#x\n", pid, status);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7);
}

int main(int argc, char **argv) {
    CHECK(argc == 3);
    library = argv[1];
    struct churn c = {.random = 4711};
    pthread_t thread[THREADS];
    for (uintptr_t i = 0; i < THREADS; i++)
        CHECK(pthread_create(&thread[i], NULL, work, (void *)i) == 0);
    while (ticks(getpid()) == 0) {
        churn_step(&c);
        pid_t pid = fork();
        CHECK(pid >= 0);
        if (pid == 0)
            load(), exit(7);
        wait_for(pid);
    }
    CHECK((data = malloc(DATA)) != NULL);
    for (size_t at = 0; at < DATA / 8; at++)
        data[at] = at * 0x9e3779b97f4a7c15u;
    int children = atoi(argv[2]), ticked = 0;
    for (int i = 0; i < children; i++) {
        pid_t pid = fork();
        CHECK(pid >= 0);
        if (pid == 0)
            child(&c);
        for (int step = 0; step < 500; step++)
            churn_step(&c);
        wait_for(pid);
        char path[64];
        page_path(path, pid);
        CHECK(access(path, F_OK) != 0 && errno == ENOENT);
        ticked++;
    }
    check_data();
    stop = true;
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_join(thread[i], NULL) == 0);
    churn_end(&c);
    printf("fork control: %d children ticked\n", ticked);
    return 0;
}
