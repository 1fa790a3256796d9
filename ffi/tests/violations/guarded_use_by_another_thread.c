#include "crime.h"

/* Three threads: one allocates, one frees, one writes. */
static void *drop(void *p) {
    free(p);
    return NULL;
}

static void *use(void *p) {
    memset(p, 3, SMALL);
    return NULL;
}

int main(void) {
    char *p = block(SMALL);
    void *(*deeds[])(void *) = {drop, use};
    for (int i = 0; i < 2; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, deeds[i], p) != 0)
            return 1;
        pthread_join(thread, NULL);
    }
    return 0;
}
