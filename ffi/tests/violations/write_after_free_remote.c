#include "crime.h"

/* Freed by another thread, written by its owner. */
static void *other(void *p) {
    free(p);
    return NULL;
}

int main(void) {
    char *volatile p = block(SMALL);
    pthread_t thread;
    if (pthread_create(&thread, NULL, other, p) != 0)
        return 1;
    pthread_join(thread, NULL);
    p[0] = 'x';
    for (int i = 0; i < 100000; i++)
        free(malloc(SMALL));
    return 0;
}
