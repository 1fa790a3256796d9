#include "crime.h"

int main(void) {
    char *volatile p = block(MEDIUM);
    p[MEDIUM] = 'x';
    p = realloc(p, 2 * MEDIUM);
    free(p);
    return 0;
}
