#include "crime.h"
#include <semaphore.h>

/* Freed by its owner, then by another thread, which was gathering its neighbours' frees before. */
static char *blocks[2];
static sem_t begun, freed;

static void *other(void *unused) {
    free(blocks[0]);
    sem_post(&begun);
    sem_wait(&freed);
    free(blocks[1]);
    return unused;
}

int main(void) {
    block(SMALL);
    for (int i = 0; i < 2; i++)
        blocks[i] = malloc(SMALL);
    sem_init(&begun, 0, 0);
    sem_init(&freed, 0, 0);
    pthread_t thread;
    if (pthread_create(&thread, NULL, other, NULL) != 0)
        return 1;
    sem_wait(&begun);
    free(blocks[1]);
    sem_post(&freed);
    pthread_join(thread, NULL);
    return 0;
}
