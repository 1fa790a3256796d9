#include "crime.h"

int main(void) {
    char *volatile p = block(MEDIUM);
    free(p);
    p[MEDIUM - 1] = 'x';
    for (int i = 0; i < 10000; i++)
        free(malloc(MEDIUM));
    return 0;
}
