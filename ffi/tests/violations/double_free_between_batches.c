#include "crime.h"
#include <unistd.h>

/* Freed by another thread, which gives it back with its neighbours, and again by the same, which then has nothing else to do. */
enum { BATCH = 64 };
static char *blocks[BATCH];

static void *other(void *unused) {
    for (int i = 0; i < BATCH; i++)
        free(blocks[i]);
    free(blocks[0]);
    pause();
    return unused;
}

int main(void) {
    for (int i = 0; i < BATCH; i++)
        blocks[i] = block(SMALL);
    pthread_t thread;
    if (pthread_create(&thread, NULL, other, NULL) != 0)
        return 1;
    sleep(10);
    return 0;
}
