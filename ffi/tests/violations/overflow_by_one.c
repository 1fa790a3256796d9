#include "crime.h"

/* The terminator of a string that just does not fit. */
int main(void) {
    char *volatile p = block(64);
    p[64] = '\0';
    free(p);
    return 0;
}
