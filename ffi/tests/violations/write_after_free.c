#include "crime.h"

/* Written after its free: found when the block is used again. */
int main(void) {
    char *volatile p = block(SMALL);
    free(p);
    p[10] = 'x';
    for (int i = 0; i < 100000; i++)
        free(malloc(SMALL));
    return 0;
}
