#include "crime.h"

/* Freed by another thread, then by its owner, who has taken that in meanwhile. */
static void *other(void *p) {
    free(p);
    return NULL;
}

int main(void) {
    char *p = block(SMALL);
    pthread_t thread;
    if (pthread_create(&thread, NULL, other, p) != 0)
        return 1;
    pthread_join(thread, NULL);
    for (int i = 0; i < 10000; i++)
        block(SMALL * 5); /* another size: p stays free */
    free(p);
    return 0;
}
