#include "crime.h"

/* Past the new end of a block that was shrunk where it is. */
int main(void) {
    char *volatile p = realloc(block(SMALL), SMALL - 10);
    p[SMALL - 10] = 'x';
    free(p);
    return 0;
}
