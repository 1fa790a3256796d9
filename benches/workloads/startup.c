/* What a preload costs a program that does nothing: shells and build systems start thousands of them. */
#include "workload.h"
#include <spawn.h>
#include <sys/wait.h>

extern char **environ;

uint64_t run_start_up(uint64_t percent)
{
    uint64_t spawns = scaled(400, percent);
    char *const argv[] = {"true", NULL};
    for (uint64_t i = 0; i < spawns; i++) {
        pid_t pid;
        int status;
        if (posix_spawn(&pid, "/bin/true", NULL, NULL, argv, environ) != 0 || waitpid(pid, &status, 0) != pid ||
            status != 0) {
            fprintf(stderr, "workload: /bin/true failed\n");
            exit(3);
        }
    }
    return spawns;
}
