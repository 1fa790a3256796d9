#include "crime.h"

/* Between the block's end and the guard page: alignment leaves room there. */
int main(void) {
    char *volatile p = block(SMALL);
    p[SMALL] = 'x';
    free(p);
    return 0;
}
