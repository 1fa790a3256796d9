#include "crime.h"
#include <unistd.h>

/* Freed by its owner, then by another thread, which has nothing else to do. */
static void *other(void *p) {
    free(p);
    pause();
    return NULL;
}

int main(void) {
    char *p = block(SMALL);
    free(p);
    pthread_t thread;
    if (pthread_create(&thread, NULL, other, p) != 0)
        return 1;
    sleep(10);
    return 0;
}
