#include "crime.h"

/* Within the size class, past what was asked for. */
int main(void) {
    char *volatile p = block(SMALL);
    memset(p + SMALL, 'x', 4);
    free(p);
    return 0;
}
