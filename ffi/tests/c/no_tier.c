/* Grows far past the size at which tiering starts, waits, and looks for what must not be there. */
#define _GNU_SOURCE
#include "check.h"
#include <dirent.h>
#include <string.h>
#include <time.h>

static int entries(const char *path) {
    DIR *directory = opendir(path);
    CHECK(directory != NULL);
    int count = 0;
    while (readdir(directory) != NULL)
        count++;
    closedir(directory);
    return count - 2;
}

int main(void) {
    int files = entries("/proc/self/fd");
    static void *block[300];
    for (int i = 0; i < 300; i++) {
        block[i] = malloc(1 << 20);
        CHECK(block[i] != NULL);
        memset(block[i], 1, 1 << 20);
    }
    struct timespec pause = {.tv_nsec = 500000000};
    nanosleep(&pause, NULL);
    CHECK(entries("/proc/self/task") == 1);
    CHECK(entries("/proc/self/fd") == files);
    char page[64];
    snprintf(page, sizeof page, "/dev/shm/terrace-%d.stats", (int)getpid());
    CHECK(access(page, F_OK) != 0);
    for (int i = 0; i < 300; i++)
        free(block[i]);
    puts("no tier: 1 thread, no file");
    return 0;
}
