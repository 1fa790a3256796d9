#include "crime.h"

/* Other blocks come and go between the two frees. */
int main(void) {
    char *p = block(SMALL), *q[100];
    for (int i = 0; i < 100; i++)
        q[i] = malloc(SMALL);
    free(p);
    for (int i = 0; i < 50; i++)
        free(q[i]);
    free(p);
    return 0;
}
