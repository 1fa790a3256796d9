#include "crime.h"

/* Freed by another thread and by its owner, neither of whom has seen the other's free. */
static void *other(void *p) {
    free(p);
    return NULL;
}

int main(void) {
    char *p = block(SMALL);
    for (int i = 0; i < 1000; i++)
        block(SMALL);
    pthread_t thread;
    if (pthread_create(&thread, NULL, other, p) != 0)
        return 1;
    pthread_join(thread, NULL);
    free(p);
    for (int i = 0; i < 10000; i++)
        block(SMALL);
    return 0;
}
