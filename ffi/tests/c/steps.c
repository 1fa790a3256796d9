/* How many instructions the calling thread takes for an operation on the heap, a malloc and a free, while other threads of the
 * process do what they like: the thread is single-stepped by a parent (ptrace(2)), so nothing else is counted.
 *
 *     steps THREADS OPERATIONS ROUNDS
 *
 * The heap holds 32 MiB of small blocks. The operations begin when the process has THREADS threads and all of them have had two
 * seconds more. They are the same OPERATIONS in each of ROUNDS rounds; prints "steps: N" for each. */
#include "check.h"
#include <dirent.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { BLOCKS = 200000, SET = 500 };

static void *blocks[BLOCKS];

static void pause_ms(long ms)
{
    struct timespec t = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&t, NULL);
}

static int threads(void)
{
    int n = -2;
    DIR *dir = opendir("/proc/self/task");
    CHECK(dir);
    while (readdir(dir))
        n++;
    closedir(dir);
    return n;
}

static uint32_t draw(uint32_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 17;
    return *state ^= *state << 5;
}

static void operate(int operations)
{
    uint32_t state = 1;
    for (int i = 0; i < operations; i++) {
        size_t at = draw(&state) % SET;
        free(blocks[at]);
        blocks[at] = malloc(16 + draw(&state) % 300);
    }
}

static void run(int wanted, int operations, int rounds)
{
    uint32_t state = 1;
    for (size_t i = 0; i < BLOCKS; i++) {
        size_t size = 16 + draw(&state) % 300;
        CHECK(blocks[i] = malloc(size));
        memset(blocks[i], 1, size);
    }
    for (int i = 0; threads() != wanted; i++) {
        CHECK(i < 300);
        pause_ms(100);
    }
    pause_ms(2000);
    /* Once for each block to have the size that every later round gives it, and once more for good measure. */
    operate(operations);
    operate(operations);
    raise(SIGUSR1);
    for (int i = 0; i < rounds; i++) {
        operate(operations);
        raise(SIGUSR1);
    }
}

/* Lets the child run to its next SIGUSR1. */
static void run_to_mark(pid_t child)
{
    int status;
    do {
        CHECK(ptrace(PTRACE_CONT, child, NULL, NULL) == 0);
        CHECK(waitpid(child, &status, 0) == child && WIFSTOPPED(status));
    } while (WSTOPSIG(status) != SIGUSR1);
}

/* Steps the child to its next SIGUSR1; how many steps that took. */
static long step_to_mark(pid_t child)
{
    int status;
    long steps = -1;
    do {
        steps++;
        CHECK(ptrace(PTRACE_SINGLESTEP, child, NULL, NULL) == 0);
        CHECK(waitpid(child, &status, 0) == child && WIFSTOPPED(status));
    } while (WSTOPSIG(status) == SIGTRAP);
    CHECK(WSTOPSIG(status) == SIGUSR1);
    return steps;
}

int main(int argc, char **argv)
{
    CHECK(argc == 4);
    int rounds = atoi(argv[3]);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        CHECK(ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0);
        raise(SIGSTOP);
        run(atoi(argv[1]), atoi(argv[2]), rounds);
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFSTOPPED(status));
    run_to_mark(child);
    for (int i = 0; i < rounds; i++)
        printf("steps: %ld\n", step_to_mark(child));
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
    return 0;
}
