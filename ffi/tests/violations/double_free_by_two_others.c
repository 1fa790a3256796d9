#include "crime.h"

/* Freed twice by threads that do not own it. */
static void *other(void *p) {
    free(p);
    return NULL;
}

int main(void) {
    char *p = block(SMALL);
    for (int i = 0; i < 2; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, other, p) != 0)
            return 1;
        pthread_join(thread, NULL);
    }
    return 0;
}
